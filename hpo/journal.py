"""The journal file: Optuna's, made to survive killed writers and power cuts.

Optuna's own backend guards the file by a lock file, which a killed process leaves behind (the
others then wait for half a minute), and what a killed process wrote of a line spoils the next one
for good. Here the lock is the system's, gone with its owner, and a torn line is cut off by whoever
writes next. Only what others depend on is waited for until it is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend

from morl.hpo.types import StudyStorageError
from morl.storage import make_folder

if sys.platform != "win32":
    import fcntl

UNSYNCED = frozenset({4, 5, 7, 8, 9})
"""Operations that may be lost with the power: new trials and their parameters (until `sync`, before
the first run), intermediate values and attributes. The next synced operation puts all that was
written before on the disk as well."""

_BLOCK = 1 << 16


class SturdyJournal(JournalFileBackend):
    """A journal file for several processes of which any may die at any moment.

    Args:
        path: the file; made with its folder if missing.

    Raises:
        StudyStorageError: if it cannot be written, or is damaged in its middle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        try:
            path.touch(exist_ok=True)
            with path.open("rb+") as file, locked(file):
                _repair(file, path)
        except OSError as error:
            raise StudyStorageError(
                f"the journal {path} cannot be written: {error.strerror}; choose another storage"
            ) from error
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, after cutting off what a killed writer left unfinished."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self.path.open("rb+") as file, locked(file):
            file.seek(_end_of_lines(file))
            file.truncate()
            file.write(lines)
            file.flush()
            if any(log["op_code"] not in UNSYNCED for log in logs):
                os.fsync(file.fileno())

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def locked(file: BinaryIO) -> Iterator[None]:
    """Hold the system's lock on an open file; it goes with the process, however that ends."""
    if sys.platform != "win32":
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    try:
        yield
    finally:
        if sys.platform != "win32":
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _end_of_lines(file: BinaryIO) -> int:
    """Position after the last whole line."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return 0
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return end
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _repair(file: BinaryIO, path: Path) -> None:
    """Cut off a tail that no record can be read from; refuse damage that has records after it.

    A power cut may leave blocks of zeros at the end, of what was not yet waited for.
    """
    good = 0
    broken_at = None
    for number, line in enumerate(file, start=1):
        if _is_record(line):
            if broken_at is not None:
                raise StudyStorageError(
                    f"the journal {path} is damaged in line {broken_at}, before records that are "
                    "whole: restore the file from a copy, or delete that line if what it said of "
                    "one trial may be lost"
                )
            good += len(line)
        else:
            broken_at = broken_at or number
    if broken_at is not None:
        file.truncate(good)
        file.flush()
        os.fsync(file.fileno())


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
