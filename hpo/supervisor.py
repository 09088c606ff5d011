"""Local worker processes under a supervisor that replaces those that die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from morl.hpo.space import SearchSpace
from morl.hpo.study import Study, open_study
from morl.hpo.types import Progress, RunTrial, StudyConfig, StudyError, TrialsCrashError
from morl.hpo.worker import never, work
from morl.storage import make_folder
from morl.types import MorlError

POLL_S = 0.2
"""How often the supervisor looks at its workers."""

GRACE_S = 60.0
"""How long a worker that was told to stop may take to its next report."""

LOGS = "workers"
_STOPPED = 75  # exit code of a worker that was told to stop
_REFUSED = 76  # of one that met an error which its successor would meet as well
_DEATHS_IN_VAIN = 3  # a worker, before the study is given up

OnProgress = Callable[[Progress], object]


def supervise(
    config: StudyConfig,
    space: SearchSpace,
    run_trial: RunTrial,
    *,
    folder: Path,
    on_progress: OnProgress | None = None,
    progress_every: float = 1.0,
    stop: Callable[[], bool] = never,
) -> bool:
    """Work on a study in ``config.workers`` processes until it is finished.

    What workers print goes to ``workers/worker_0.log`` in the study's folder. A worker that dies is
    replaced, and its trial begun again with the same parameters. If this process dies, so do the
    workers. The storage is made before the first one starts.

    Args:
        config: settings.
        space: what is searched.
        run_trial: does one run; of a module, so that another process finds it.
        folder: of the study's files.
        on_progress: told where the study stands, when that changed.
        progress_every: seconds between two looks.
        stop: asked often; when it says so, workers leave their runs at the next report.

    Returns:
        Whether the study is finished; else it was stopped.

    Raises:
        StudyError: see `open_study` and `work`; also if workers die again and again.
        KeyboardInterrupt: after the workers have stopped.
    """
    study = open_study(config, space, folder=folder)
    _check_picklable("run_trial", run_trial)
    _check_picklable("the space", space)
    crew = _Crew(config, space, run_trial, folder)
    try:
        crew.start()
        return _watch(study, crew, on_progress, progress_every, stop)
    finally:
        crew.end()


def _check_picklable(name: str, thing: object) -> None:
    try:
        pickle.dumps(thing)
    except Exception as error:
        raise StudyError(
            f"{name} cannot be sent to worker processes ({error}); define it at the top of a "
            "module, or set workers to 1"
        ) from error


def _watch(
    study: Study,
    crew: _Crew,
    on_progress: OnProgress | None,
    progress_every: float,
    stop: Callable[[], bool],
) -> bool:
    last: Progress | None = None
    next_look = 0.0
    while not crew.all_done():
        if stop():
            return False
        if time.monotonic() >= next_look:
            now = study.progress()
            if now != last and on_progress is not None:
                on_progress(now)
            if last is None or now.runs_done > last.runs_done or now.stage != last.stage:
                crew.something_was_done()
            last = now
            next_look = time.monotonic() + progress_every
        crew.replace_dead()
        time.sleep(POLL_S)
    finished = study.progress()
    if finished != last and on_progress is not None:
        on_progress(finished)
    return finished.stage == "done"


@dataclass
class _Worker:
    """A process and what it said before it ended."""

    process: SpawnProcess
    messages: Any  # multiprocessing.connection.Connection, which differs between systems


class _Crew:
    """The worker processes."""

    def __init__(
        self, config: StudyConfig, space: SearchSpace, run_trial: RunTrial, folder: Path
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._arguments = (replace(config, context=dict(config.context)), space, run_trial, folder)
        self._folder = make_folder(folder / LOGS)
        self._workers: list[_Worker] = []
        self._count = config.workers
        self._in_vain = 0
        self.restarts = 0

    def start(self) -> None:
        for number in range(self._count):
            self._workers.append(self._begin(number))

    def _begin(self, number: int) -> _Worker:
        here, there = self._context.Pipe(duplex=False)
        log = self._folder / f"worker_{number}.log"
        process = self._context.Process(
            target=_main,
            args=(*self._arguments, number, os.getpid(), there, log),
            name=f"morl-tune-{number}",
        )
        with _one_thread():
            process.start()
        there.close()
        return _Worker(process, here)

    def all_done(self) -> bool:
        return all(worker.process.exitcode == 0 for worker in self._workers)

    def something_was_done(self) -> None:
        self._in_vain = 0

    def replace_dead(self) -> None:
        """Begin a new worker for each that died.

        Raises:
            StudyError: what a worker met, or that they die without getting anything done.
        """
        for number, worker in enumerate(self._workers):
            code = worker.process.exitcode
            if code is None or code == 0:
                continue
            if code == _REFUSED:
                _reraise(worker)
            self._in_vain += 1
            if self._in_vain > _DEATHS_IN_VAIN * self._count:
                raise TrialsCrashError(
                    f"worker processes die again and again, the last one with exit code {code} "
                    f"({_meaning(code)}); see {self._folder}"
                )
            self.restarts += 1
            worker.process.join()
            self._workers[number] = self._begin(number)

    def end(self) -> None:
        """Ask all workers to stop, wait for them, end those that do not.

        By signals, not by anything shared: a worker that was killed while it held the lock of a
        shared object would make all others wait for ever.
        """
        for worker in self._workers:
            if worker.process.exitcode is None:
                worker.process.terminate()
        until = time.monotonic() + GRACE_S
        try:
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:  # also where somebody interrupts a second time
            for worker in self._workers:
                if worker.process.exitcode is None:
                    worker.process.kill()
                    worker.process.join()
                worker.messages.close()


def _reraise(worker: _Worker) -> None:
    kind, text = worker.messages.recv() if worker.messages.poll(1.0) else ("", "a worker failed")
    raise TrialsCrashError(text) if kind == TrialsCrashError.__name__ else StudyError(text)


def _meaning(code: int) -> str:
    if code >= 0:
        return "an error"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return "a signal"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Workers share the cores: each gets one thread, unless the user says otherwise."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    missing = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


# In the worker process


def _main(
    config: StudyConfig,
    space: SearchSpace,
    run_trial: RunTrial,
    folder: Path,
    number: int,
    parent: int,
    messages: Any,  # noqa: ANN401 - a connection, whose class differs between systems
    log: Path,
) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the supervisor, which asks us to stop
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    _print_to(log)
    orphaned = _watch_parent(parent)

    def stopped() -> bool:
        return terminated.is_set() or orphaned.is_set()

    try:
        study = open_study(config, space, folder=folder)
        finished = work(study, run_trial, worker=number, stop=stopped)
    except MorlError as error:
        messages.send((type(error).__name__, str(error)))
        sys.exit(_REFUSED)
    sys.exit(0 if finished else _STOPPED)


def _print_to(log: Path) -> None:
    """Send all that is printed, by libraries in C as well, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _watch_parent(parent: int) -> threading.Event:
    """Notice when the supervisor is gone; a run that does not report in time is ended."""
    orphaned = threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        orphaned.set()
        time.sleep(GRACE_S)
        os._exit(_STOPPED)

    threading.Thread(target=watch, name="morl-hpo-parent", daemon=True).start()
    return orphaned
