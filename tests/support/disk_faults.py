"""A disk that fails at one chosen system call, for tests of what writes files."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class FailingFile:
    """A file whose writes may fail half-way, as on a full disk."""

    def __init__(self, file: Any, check: Callable[[], None]) -> None:
        self._file, self._check = file, check

    def write(self, data: bytes) -> int:
        try:
            self._check()
        except OSError:
            self._file.write(bytes(data)[: len(data) // 2])
            self._file.flush()
            raise
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class FaultyDisk:
    """Counts the calls that can meet a full disk and fails one of them.

    Args:
        fail_at: index of the call that fails, from 0, or None for a disk without faults.
        code: the error.
    """

    def __init__(self, fail_at: int | None, code: int = errno.ENOSPC) -> None:
        self.fail_at, self.code = fail_at, code
        self.calls = 0

    def check(self) -> None:
        index = self.calls
        self.calls += 1
        if index == self.fail_at:
            raise OSError(self.code, os.strerror(self.code))


@contextmanager
def faulty_disk(fail_at: int | None, code: int = errno.ENOSPC) -> Iterator[FaultyDisk]:
    """Patch what `morl.storage` and `morl.checkpoint` write with."""
    disk = FaultyDisk(fail_at, code)
    fdopen, fsync = os.fdopen, os.fsync

    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            disk.check()
            return original(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdopen", lambda *args: FailingFile(fdopen(*args), disk.check))
        patch.setattr(os, "fsync", checked(fsync))
        patch.setattr(pathlib.Path, "mkdir", checked(pathlib.Path.mkdir))
        patch.setattr(pathlib.Path, "rename", checked(pathlib.Path.rename))
        patch.setattr(pathlib.Path, "replace", checked(pathlib.Path.replace))
        yield disk
