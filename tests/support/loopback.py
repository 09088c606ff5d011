"""Servers and workers on this machine: find, start, watch and end them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MORL = [sys.executable, "-c", "import sys; from morl.experiments.cli import main; sys.exit(main())"]
QUICK = (
    "env=fruit-tree-v0", "agent=random_search", "selection_episodes=2", "report_episodes=2",
    "curve_episodes=2", "hpo=smoke", "hpo.space.policies={low:2,high:64,log:true}",
)  # fmt: skip


@dataclass
class Server:
    """What a test needs to use a server.

    Attributes:
        environment: variables to set.
        address: of a database.
        facts: versions and the like, for the results.
    """

    environment: dict[str, str] = field(default_factory=dict)
    address: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def needs(*programs: str, package: str) -> None:
    """Skip the test unless the programs are there."""
    missing = [program for program in programs if which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found; on Debian: apt-get install {package}")


def which(program: str) -> str | None:
    places = [*os.environ["PATH"].split(os.pathsep), "/usr/sbin", "/sbin"]
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(program, path=os.pathsep.join(places))


def needs_module(name: str, extra: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip(f"{name} is not installed; pip install 'morl-suite[{extra}]'")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 below those that connections take for themselves."""
    found: list[int] = []
    for port in range(7200 + os.getpid() % 1000, 9900):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def wait_until(
    condition: Callable[[], Any], *, seconds: float, what: str, every: float = 0.1
) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds} s")


def end(process: subprocess.Popen[Any], *, seconds: float = 30.0) -> None:
    """End a process group that we started, also what its leader left behind."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def said(folder: Path) -> str:
    """What the command in a folder printed, for messages."""
    texts = [path.read_text() for path in (folder / "out.txt", folder / "err.txt")]
    return "\n".join(texts)[-4000:]


def worker_at_work(study: Path) -> int | None:
    """A process that trains a trial after the first one, by the log that it has open."""
    logs = str(study.resolve() / "trials") + os.sep
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                path = str(link.readlink())
                if path.startswith(logs) and path.endswith("log.txt") and "/00000/" not in path:
                    return int(process.name)
    return None


def kill_a_worker(command: subprocess.Popen[bytes], study: Path, *, seconds: float = 900.0) -> int:
    """Kill -9 a worker in the middle of a trial."""

    def at_work() -> int | None:
        assert command.poll() is None, said(study.parents[1])
        return worker_at_work(study)

    found: int = wait_until(at_work, seconds=seconds, what="a worker at work", every=0.02)
    os.kill(found, signal.SIGKILL)
    return found
