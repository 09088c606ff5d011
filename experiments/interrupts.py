"""Ctrl-C and SIGTERM: stop at once while nothing is being written, after the write otherwise."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunInterrupted(BaseException):
    """Somebody asked the run to stop.

    Not an `Exception`, so that no environment or agent swallows it.

    Attributes:
        signum: the signal that asked.
        message: what to tell the user.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.message = f"interrupted by {signal.Signals(signum).name}"
        super().__init__(self.message)

    @property
    def exit_code(self) -> int:
        """What a process that a signal ended returns: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


class Interrupts:
    """Turns the first signal into `RunInterrupted` in the main thread; the second one kills.

    What was done since the last synchronisation point is given up, so the exception may come
    anywhere; inside `deferred` it waits for the end of the block. In another thread than the main
    one signals stay as they are, and one that the process ignores is ignored further.
    """

    def __init__(self) -> None:
        self._pending: int | None = None
        self._deferred = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is signal.SIG_IGN:
                    continue  # whoever started the process deals with it
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)
        self._previous.clear()

    def check(self) -> None:
        """Raise what could not be raised when the signal came.

        An exception in a destructor or a callback of C code is printed and lost; the request is
        not.

        Raises:
            RunInterrupted: if a signal has come.
        """
        if self._pending is not None:
            raise RunInterrupted(self._pending)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a block come to its end before the exception is raised."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        self.check()

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's way
        if self._pending is not None:
            os._exit(128 + signum)
        self._pending = signum
        if not self._deferred:
            raise RunInterrupted(signum)
