"""Which process a worker is, and whether that process still lives."""

from __future__ import annotations

import functools
import os
import platform
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")

_present: set[str] = set()
"""Tokens of the workers of this very process."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A worker, described so that others can find out whether it lives. One write, or none.

    Attributes:
        machine: where process numbers mean the same: this start of the system, and this
            container, whose host name may be that of others.
        host: name, for people.
        pid: number of the process.
        started: when the process began, in the system's ticks: numbers are used again.
        token: of one worker in the process.
        worker: number among the workers, for people.
    """

    machine: str
    host: str
    pid: int
    started: int
    token: str
    worker: int

    @classmethod
    def here(cls, worker: int) -> Owner:
        """This process, as a new worker; `leave` when its work ends."""
        owner = cls(
            machine=_machine(),
            host=platform.node(),
            pid=os.getpid(),
            started=_start_of(os.getpid()) or 0,
            token=secrets.token_hex(8),
            worker=worker,
        )
        _present.add(owner.token)
        return owner

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Owner | None:
        """What `record` wrote, or None if it is something else."""
        try:
            return cls(**record)
        except TypeError:
            return None

    def leave(self) -> None:
        """The worker ends, its process may go on."""
        _present.discard(self.token)

    def record(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def known_dead(self) -> bool:
        """Whether the worker is gone for certain; of other machines nothing is known."""
        if self.machine != _machine():
            return False
        if self.pid == os.getpid() and self.started == (_start_of(self.pid) or 0):
            return self.token not in _present
        return not _runs(self.pid, self.started)


@functools.cache
def _machine() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {_NAMESPACE.readlink()}"
    except OSError:  # not Linux: the hardware's address, and no containers to tell apart
        return f"{platform.node()} {uuid.getnode():x}"


def _runs(pid: int, started: int) -> bool:
    """Whether that process, not another of its number, runs."""
    if not _BOOT.exists():
        return _answers(pid)
    return _start_of(pid) == started


def _start_of(pid: int) -> int | None:
    """When a process began; None if it ended, waited for or not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def _answers(pid: int) -> bool:
    if platform.system() == "Windows":  # there a signal would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
