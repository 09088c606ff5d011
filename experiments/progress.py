"""What a person sees while a run is going: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm


class Progress:
    """Steps, steps per second, time left and the current hypervolume, on standard error.

    Args:
        total: steps of the whole run.
        done: steps taken before, by an earlier part of the same run.
        label: what is running.
        stream: where to write; standard error by default.
    """

    def __init__(
        self, total: int, *, done: int = 0, label: str = "", stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._first = self._done = done
        self._label = label
        self._start = time.perf_counter()
        self._bar = (
            tqdm(
                total=total,
                initial=done,
                desc=label,
                unit="step",
                unit_scale=True,
                file=self._stream,
                dynamic_ncols=True,
            )
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> Progress:
        """Nothing to do: the bar is there already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: int) -> None:
        """Show how far the run is.

        Args:
            steps: taken so far.
        """
        if self._bar is not None:
            self._bar.update(steps - self._done)
        self._done = steps

    def found(self, hypervolume: float, num_solutions: int) -> None:
        """Show a point of the learning curve.

        Args:
            hypervolume: of the solutions on the selection stream.
            num_solutions: how many make up the front.
        """
        if self._bar is not None:
            self._bar.set_postfix_str(f"hypervolume {hypervolume:.6g}, front {num_solutions}")
            return
        self.say(
            f"{self._label}: {self._done:,}/{self._total:,} steps, {self._speed()}, "
            f"hypervolume {hypervolume:.6g}, front {num_solutions}"
        )

    def phase(self, text: str) -> None:
        """Say what goes on while the steps stand still."""
        if self._bar is not None:
            self._bar.set_description_str(f"{self._label} {text}")

    def say(self, line: str) -> None:
        """Print a line beside the bar."""
        if self._bar is not None:
            tqdm.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def _speed(self) -> str:
        taken = self._done - self._first
        if taken <= 0:
            return "just begun"
        elapsed = time.perf_counter() - self._start
        left = elapsed * (self._total - self._done) / taken
        return f"{taken / elapsed:,.0f} steps/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
