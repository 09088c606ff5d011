"""Fills a suite's table: makes what is missing, some runs at a time, each in a process of its own.

A worker process makes run after run and writes what they say to a log. One that dies (killed for
its memory, a crash in compiled code) takes no other with it: its run is begun again once, from its
last checkpoint, and is a failure if that kills it again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from morl import storage
from morl.experiments.config import RunConfig
from morl.experiments.interrupts import Interrupts, RunInterrupted
from morl.experiments.run import RunBusyError, RunFailedError, record_failure, run, run_folder
from morl.experiments.suites import Cell
from morl.result import RunResult
from morl.types import MorlError

ATTEMPTS = 2
"""Times that a run may kill its worker before it is taken for a failure."""

LOGS = ".suite"
"""Folder of the workers' logs, beside the runs."""

Say = Callable[[str], None]
WorkerMain = Callable[[connection.Connection, str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one cell.

    Attributes:
        cell: the cell.
        state: "done", "failed", "busy" (another process has it) or "error" (nothing to record:
            a full disk, settings that fit nothing).
        message: one line.
    """

    cell: Cell
    state: str
    message: str


@dataclass
class _Worker:
    """A process that makes runs, and what it is at."""

    process: multiprocessing.process.BaseProcess
    pipe: connection.Connection
    cell: Cell | None = None


@dataclass
class _Work:
    """What is to be done, and what was."""

    waiting: deque[Cell]
    worker: WorkerMain
    deaths: Counter[Path] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)


def missing(cells: Sequence[Cell], *, retry_failed: bool = False) -> list[Cell]:
    """The cells that have no result yet.

    Args:
        cells: of a suite.
        retry_failed: also those whose result is a failure; they stay failures otherwise.
    """
    wanted = ("missing", "unfinished", "failed") if retry_failed else ("missing", "unfinished")
    return [cell for cell in cells if cell.state() in wanted]


def run_cells(
    cells: Sequence[Cell], *, workers: int = 1, say: Say = print, worker: WorkerMain | None = None
) -> list[Outcome]:
    """Make runs, a number of them at a time.

    Args:
        cells: what to run; see `missing`.
        workers: processes, at least 1.
        say: takes a line for every run that ends.
        worker: what a process does, a function of a module; `worker_main` by default. One of
            your own may import what registers further environments.

    Returns:
        What became of each, in the order in which they ended.

    Raises:
        RunInterrupted: a signal asked to stop; every run was told and has saved what it had.
    """
    work = _Work(deque(cells), worker or worker_main)
    total = len(cells)

    def note(outcome: Outcome) -> None:
        work.outcomes.append(outcome)
        say(f"[{len(work.outcomes)}/{total}] {describe(outcome.cell)}: {outcome.message}")

    team: list[_Worker] = []
    try:
        with Interrupts():
            team += [_hire(cell, work.worker) for cell in list(cells)[:workers]]
            while work.waiting or any(worker.cell for worker in team):
                _hand_out(team, work)
                _collect(team, work, note)
    finally:
        _dismiss(team)
    return work.outcomes


def describe(cell: Cell) -> str:
    """A cell in words."""
    return f"{cell.task}, {cell.entry}, seed {cell.config.seed}"


def _hand_out(team: Sequence[_Worker], work: _Work) -> None:
    for worker in team:
        if worker.cell is None and work.waiting:
            worker.cell = work.waiting.popleft()
            with contextlib.suppress(OSError):  # it died meanwhile: `_collect` finds out
                worker.pipe.send(worker.cell.config.record())


def _collect(team: list[_Worker], work: _Work, note: Callable[[Outcome], None]) -> None:
    """Wait until a worker has an answer or is dead."""
    busy = {worker.pipe: worker for worker in team if worker.cell is not None}
    for ready in connection.wait(list(busy)):
        assert isinstance(ready, connection.Connection)
        worker = busy[ready]
        assert worker.cell is not None
        try:
            state, message = worker.pipe.recv()
        except (EOFError, OSError):
            cell = worker.cell
            worker.process.join()
            team[team.index(worker)] = _hire(cell, work.worker)
            _mourn(cell, worker.process.exitcode, work, note)
            continue
        note(Outcome(worker.cell, state, message))
        worker.cell = None


def _mourn(cell: Cell, exit_code: int | None, work: _Work, note: Callable[[Outcome], None]) -> None:
    """Begin a run again whose worker died; the second time it is a failure."""
    work.deaths[cell.folder] += 1
    reason = f"its process died ({_death(exit_code)})"
    if work.deaths[cell.folder] < ATTEMPTS:
        work.waiting.append(cell)
        return
    try:
        note(Outcome(cell, "failed", str(record_failure(cell.config, reason))))
    except MorlError as error:
        note(Outcome(cell, "error", f"{reason}; {error}"))


def _death(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-exit_code).name
    return f"signal {-exit_code}"


def _hire(cell: Cell, worker: WorkerMain) -> _Worker:
    spawn = multiprocessing.get_context("spawn")  # forked threads of BLAS and torch hang
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=worker, args=(theirs, cell.config.out))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _dismiss(team: Sequence[_Worker]) -> None:
    """Let idle workers go; ask busy ones to save what they have, and wait."""
    for worker in team:
        if worker.cell is not None and worker.process.is_alive():
            worker.process.terminate()
        worker.pipe.close()
    for worker in team:
        worker.process.join()


def worker_main(pipe: connection.Connection, out: str) -> None:
    """Make the runs that come through the pipe, until it closes."""
    if hasattr(os, "setsid"):  # Ctrl-C is for the parent, which then asks us
        os.setsid()
    with _quiet(Path(out) / LOGS / f"worker-{os.getpid()}.log"):
        while True:
            try:
                record = pipe.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                return
            try:
                answer = _attempt(record)
            except RunInterrupted as request:
                sys.exit(request.exit_code)
            with contextlib.suppress(OSError):
                pipe.send(answer)


def _attempt(record: dict[str, Any]) -> tuple[str, str]:
    config = RunConfig.from_record(record)
    try:
        result = run(config)
    except RunBusyError as error:
        return "busy", str(error)
    except RunFailedError as error:
        return "failed", str(error).splitlines()[0]
    except Exception as error:  # noqa: BLE001 - the other runs go on
        return "error", f"{type(error).__name__}: {error}"
    return "done", _summary(result, run_folder(config))


def _summary(result: RunResult, folder: Path) -> str:
    volume = result.metrics["hypervolume"].value
    return (
        f"hypervolume {volume:.6g}, {result.front.num_unique} policies, "
        f"{result.budget.cpu_s:.0f} s of CPU; {folder}"
    )


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what runs say to a log: several progress bars on one terminal are none."""
    storage.make_folder(log.parent)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
        yield
