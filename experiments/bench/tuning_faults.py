"""Studies that are killed, copied and crowded, and what is left of them.

Runs cost next to nothing but time. Each leaves a line in a log of its own making, which does not
go through the study's storage: what the log and the storage disagree about was lost or done twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from morl import storage
from morl.hpo.journal import UNSYNCED
from morl.hpo.space import SearchSpace
from morl.hpo.study import Study, open_study
from morl.hpo.supervisor import supervise
from morl.hpo.types import RaceConfig, Report, StudyConfig, TrialOutcome, TrialRequest
from morl.hpo.worker import work
from morl.search_space import searchable
from morl.types import MorlError

TRIALS = 16
SEEDS = (1, 2)
EVALUATIONS = 3
PATIENCE_S = 300.0
KINDS = ("worker", "host", "power cut")


class FaultTestError(MorlError):
    """A study that did not finish although nobody killed it any more."""


@dataclass
class Point:
    """Two settings, for runs that learn nothing."""

    x: float = searchable(0.5, low=0.0, high=1.0)
    y: float = searchable(0.5, low=0.0, high=1.0)


@dataclass(frozen=True)
class LoggedRuns:
    """Sleeps, and writes down what it was asked and what it answered.

    Attributes:
        log: file of JSON lines.
        seconds: of a run.
    """

    log: Path
    seconds: float

    def __call__(self, request: TrialRequest, report: Report) -> TrialOutcome:
        """Do a run."""
        settings = {"x": 0.5, "y": 0.5, **request.params}
        entry = {"trial": request.trial, "seed": request.seed, "params": settings}
        storage.append_json_line(self.log, {"event": "begun", **entry})
        value = 1.0 - (settings["x"] - 0.3) ** 2 - (settings["y"] - 0.6) ** 2
        value += 1e-3 * request.seed
        for index in range(1, request.evaluations + 1):
            time.sleep(self.seconds / request.evaluations)
            if report(request.budget * index // request.evaluations, value):
                return TrialOutcome(values={"hypervolume": value})
        storage.append_json_line(self.log, {"event": "done", **entry, "value": value})
        return TrialOutcome(values={"hypervolume": value})


def settings(**changes: Any) -> StudyConfig:  # noqa: ANN401 - fields of the dataclass
    """Settings of a study without race and test."""
    usual: dict[str, Any] = {
        "n_trials": TRIALS,
        "budget": 300,
        "evaluations": EVALUATIONS,
        "tuning_seeds": SEEDS,
        "race": RaceConfig(top_k=0),
        "test_seeds": (),
        "sampler": "tpe",
        "pruner": "median",
        "workers": 2,
        "stale_after": 20.0,
        "max_retries": 20,
    }
    return StudyConfig(**{**usual, **changes})


# Kills


@dataclass
class Attempt:
    """A study that was disturbed and then finished.

    Attributes:
        kind: how it was disturbed.
        kills: how often.
        problems: what is wrong with the finished study; nothing should be.
        begun_again: runs that were begun again because their worker was killed.
    """

    kind: str
    kills: int = 0
    problems: list[str] = field(default_factory=list)
    begun_again: int = 0

    @property
    def exact(self) -> bool:
        """Whether it was disturbed at all and ended as if it had not been."""
        return self.kills > 0 and not self.problems

    def record(self) -> dict[str, Any]:
        """For the report."""
        return {**vars(self), "exact": self.exact}


def kill_test(
    attempts: int, *, address: str = "journal://", seconds: float = 0.3
) -> dict[str, Any]:
    """Studies killed in turn by each kind of fault.

    Args:
        attempts: number of studies.
        address: of their storage.
        seconds: that a run takes.
    """
    found = []
    for index in range(attempts):
        kind = KINDS[index % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            found.append(disturb(Path(folder), kind, address=address, seconds=seconds, seed=index))
        state = "exact" if found[-1].exact else f"NOT exact: {found[-1].problems}"
        print(f"attempt {index}: {kind}, {found[-1].kills} kills, {state}", flush=True)
    exact = sum(one.exact for one in found)
    print(f"{exact} of {len(found)} disturbed studies finished exactly")
    return {
        "what": "studies with 2 worker processes, disturbed at random moments, then the same call "
        "again: number of trials, parameters and results against a log outside the storage",
        "kinds": {
            "worker": "one worker process killed with SIGKILL, some times; its supervisor goes on",
            "host": "supervisor and workers killed with SIGKILL together, some times",
            "power cut": "the folder copied while workers write, the journal cut off at any byte "
            "of what was not yet waited for; the copy goes on",
        },
        "storage": address,
        "trials": TRIALS,
        "seeds_a_trial": len(SEEDS),
        "exact": exact,
        "of": len(found),
        "attempts": [one.record() for one in found],
    }


def disturb(root: Path, kind: str, *, address: str, seconds: float, seed: int) -> Attempt:
    """Begin a study, disturb it, let it finish, and look at it."""
    moments = random.Random(seed)
    attempt = Attempt(kind)
    folder, log = root / "study", root / "runs.jsonl"
    log.touch()
    if kind == "worker":
        process = _start(folder, log, address, seconds)
        attempt.kills = _kill_workers(process, log, moments)
        _wait(process)
    else:
        for _ in range(moments.randint(1, 3)):
            process = _start(folder, log, address, seconds)
            _await_runs(process, log, more=moments.randint(1, 8))
            time.sleep(moments.uniform(0.0, seconds))
            over = process.poll() is not None
            if kind == "power cut" and not over:
                folder, log = _power_cut(root, folder, log, moments, number=attempt.kills)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if over:
                break
            attempt.kills += 1
        _wait(_start(folder, log, address, seconds))
    study = open_study(settings(storage=address), SearchSpace.of(Point()), folder=folder)
    attempt.problems = list(problems(study, log))
    attempt.begun_again = _begun_again(log)
    return attempt


def _start(folder: Path, log: Path, address: str, seconds: float) -> subprocess.Popen[bytes]:
    """The same command every time, in a process group of its own."""
    words = ["--study", str(folder), "--log", str(log), "--storage", address]
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *words, "--seconds", str(seconds)],
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _wait(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=PATIENCE_S)
    if process.returncode:
        raise FaultTestError(f"ended with {process.returncode}:\n{said.decode()[-2000:]}")


def _lines(log: Path) -> list[dict[str, Any]]:
    return storage.read_json_lines(log)[0]


def _await_runs(process: subprocess.Popen[bytes], log: Path, *, more: int) -> None:
    """Wait until some more runs have begun, or all is over."""
    wanted = len(_lines(log)) + more
    until = time.monotonic() + PATIENCE_S
    while len(_lines(log)) < wanted and process.poll() is None:
        if time.monotonic() > until:
            raise FaultTestError("no run begins")
        time.sleep(0.02)


def _kill_workers(process: subprocess.Popen[bytes], log: Path, moments: random.Random) -> int:
    """Kill a worker process some times.

    Returns:
        How often.
    """
    kills = 0
    for _ in range(moments.randint(1, 3)):
        _await_runs(process, log, more=moments.randint(1, 6))
        time.sleep(moments.uniform(0.0, 0.3))
        workers = _children(process.pid)
        if process.poll() is not None or not workers:
            break
        os.kill(moments.choice(workers), signal.SIGKILL)
        kills += 1
    return kills


def _children(pid: int) -> list[int]:
    """Worker processes of a supervisor, not its resource tracker."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] not in "ZX" and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return sorted(found)


def _power_cut(
    root: Path, folder: Path, log: Path, moments: random.Random, *, number: int
) -> tuple[Path, Path]:
    """Copy a study while it is written to, and tear from the copy what may not be on the disk.

    Copying takes time: of the log, runs count that had begun before and those that ended until
    after, so that it says no less of the copy than is in there.
    """
    copy, copied_log = root / f"copy-{number}", root / f"runs-{number}.jsonl"
    before = _lines(log)
    shutil.copytree(folder, copy, copy_function=_copy_if_there)
    for line in before:
        storage.append_json_line(copied_log, line)
    for line in _lines(log)[len(before) :]:
        if line["event"] == "done":
            storage.append_json_line(copied_log, {**line, "event": "done later"})
    journal = copy / "study.journal"
    size = journal.stat().st_size
    os.truncate(journal, moments.randint(on_disk(journal.read_bytes()), size))
    return copy, copied_log


def on_disk(journal: bytes) -> int:
    """How much of a journal was waited for until it was on the disk.

    That is all up to the last synced operation, or the last parameter of a trial.
    """
    end, safe = 0, 0
    params: Counter[int] = Counter()
    for line in journal.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        end += len(line)
        operation = json.loads(line)
        if operation["op_code"] not in UNSYNCED:
            safe = end
        elif "param_name" in operation:
            params[operation["trial_id"]] += 1
            if params[operation["trial_id"]] == len(fields(Point)):
                safe = end
    return safe


def _copy_if_there(source: str, target: str) -> None:
    """Copy a file that may be renamed at this moment."""
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        return


def problems(study: Study, log: Path) -> list[str]:
    """What is wrong with a finished study, by a log that it knows nothing of."""
    found = []
    trials = study.trials()
    states = Counter(trial.state for trial in trials)
    ended = states["complete"] + states["pruned"]
    if ended != study.config.n_trials or len(trials) != study.config.n_trials:
        found.append(f"{ended} trials ended of {study.config.n_trials}: {dict(states)}")
    drawn = [tuple(trial.sampled.values()) for trial in trials]
    if len(set(drawn)) < len(drawn):
        found.append("a parameter set was given to two trials")
    lines = _lines(log)
    for line in lines:
        if line["event"] == "done later":
            continue
        mine = {"x": 0.5, "y": 0.5, **trials[line["trial"]].settings}
        if line["params"] != mine:
            found.append(f"trial {line['trial']} ran with {line['params']}, but is {mine}")
    done = {(line["trial"], line["seed"]): line["value"] for line in lines if "value" in line}
    for trial in trials:
        found += _wrong_runs(
            trial.number, {r.seed: r.values["hypervolume"] for r in trial.runs}, done
        )
        if trial.state == "complete" and len(trial.runs) != len(study.config.tuning_seeds):
            found.append(f"trial {trial.number} is complete with {len(trial.runs)} runs")
    closing = Counter(
        number
        for number in range(len(trials))
        for one in study.ledger("search").attempts(str(number))
        if one.state.name in ("COMPLETE", "PRUNED")
    )
    found += [f"trial {n} ended {count} times" for n, count in closing.items() if count > 1]
    return found


def _wrong_runs(
    number: int, runs: Mapping[int, float], done: Mapping[tuple[int, int], float]
) -> list[str]:
    return [
        f"trial {number}, seed {seed}: stored {value}, in the log {done.get((number, seed))}"
        for seed, value in runs.items()
        if done.get((number, seed)) != value
    ]


def _begun_again(log: Path) -> int:
    begun = Counter((n["trial"], n["seed"]) for n in _lines(log) if n["event"] == "begun")
    return sum(count - 1 for count in begun.values())


# Crowds


def new_study_test(address: str, *, repetitions: int = 8, workers: int = 4) -> dict[str, Any]:
    """Workers that all begin a new study at the same moment.

    Args:
        address: of the storage; of PostgreSQL, any database of the server: each repetition gets
            one of its own.
        repetitions: how often.
        workers: how many at once.
    """
    opened, problems_found = 0, []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder, new_database(address) as fresh:
            done, wrong = _crowd(Path(folder), fresh, workers=workers, trials=2 * workers)
        opened += done
        problems_found += wrong
    scheme = address.partition("://")[0]
    print(f"{scheme}: {opened} of {repetitions * workers} workers opened a new study", flush=True)
    return {
        "storage": scheme,
        "workers_at_once": workers,
        "opened": opened,
        "of": repetitions * workers,
        "problems": problems_found,
    }


def crowd_test(address: str, *, workers: int, trials: int) -> dict[str, Any]:
    """Many workers, trials of no length: every result has to be there, once."""
    with tempfile.TemporaryDirectory() as folder, new_database(address) as fresh:
        start = time.monotonic()
        opened, wrong = _crowd(Path(folder), fresh, workers=workers, trials=trials)
        wall = time.monotonic() - start
    scheme = address.partition("://")[0]
    print(f"{scheme}: {workers} workers, {trials} trials, {wall:.0f} s, {len(wrong)} problems")
    return {
        "what": "trials of no length: each result of a log outside the storage against the storage",
        "storage": scheme,
        "workers": workers,
        "workers_opened": opened,
        "trials": trials,
        "wall_s": round(wall, 1),
        "trials_a_second": round(trials / wall, 1),
        "lost_or_wrong": wrong,
    }


@contextlib.contextmanager
def new_database(address: str) -> Iterator[str]:
    """Address of a database without tables, on the same server; files are new anyway."""
    if not address.startswith("postgresql"):
        yield address
        return
    import sqlalchemy

    server = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    name = f"morl_{secrets.token_hex(6)}"
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    try:
        url = sqlalchemy.make_url(address).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def _crowd(root: Path, address: str, *, workers: int, trials: int) -> tuple[int, list[str]]:
    """Workers of one study that begin together, without a supervisor.

    Returns:
        How many ended well, and what is wrong with the study.
    """
    folder, log, gate = root / "study", root / "runs.jsonl", root / "gate"
    log.touch()
    words = ["--study", str(folder), "--log", str(log), "--storage", address, "--seconds", "0"]
    words += ["--trials", str(trials), "--gate", str(gate)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, *words, "--worker", str(number)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for number in range(workers)
    ]
    until = time.monotonic() + PATIENCE_S
    while len(list(root.glob("gate.*"))) < workers and time.monotonic() < until:
        time.sleep(0.02)
    gate.touch()
    wrong = []
    for process in processes:
        _, said = process.communicate(timeout=2 * PATIENCE_S)
        if process.returncode:
            wrong.append(said.decode().strip().splitlines()[-1])
    config = _crowd_settings(address, trials)
    study = open_study(config, SearchSpace.of(Point()), folder=folder)
    return workers - len(wrong), wrong + problems(study, log)


def _crowd_settings(address: str, trials: int) -> StudyConfig:
    return settings(
        storage=address, n_trials=trials, tuning_seeds=(1,), sampler="random", pruner="none"
    )


# Utilisation


def utilisation_test(*, workers: int = 4, trials: int = 80, seconds: float = 6.0) -> dict[str, Any]:
    """Share of the workers' time that is spent in runs, half of which are given up at a third."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "study", Path(name) / "runs.jsonl"
        log.touch()
        config = settings(
            workers=workers, n_trials=trials, tuning_seeds=(1,), sampler="random", pruner="median"
        )
        space = SearchSpace.of(Point())
        supervise(config, space, LoggedRuns(log, seconds), folder=folder)
        trials_done = open_study(config, space, folder=folder).trials()
    busy = [trial.cost["seconds"] for trial in trials_done]
    first: dict[str, float] = {}
    for trial in trials_done:
        first[trial.worker] = min(first.get(trial.worker, math.inf), trial.started or math.inf)
    end = max(trial.ended for trial in trials_done if trial.ended is not None)
    share = sum(busy) / sum(end - start for start in first.values())
    batches = batch_utilisation(busy, workers)
    pruned = sum(trial.state == "pruned" for trial in trials_done)
    print(f"utilisation {share:.1%}, in batches {batches:.1%}; {pruned} of {trials} pruned")
    return {
        "what": "trials that sleep; time in runs over each worker's time from its first trial to "
        "the end of the last trial of all",
        "workers": workers,
        "trials": trials,
        "pruned": pruned,
        "seconds_of_a_whole_run": seconds,
        "utilisation": round(share, 3),
        "the_same_trials_in_batches": round(batches, 3),
    }


def batch_utilisation(seconds: Sequence[float], workers: int) -> float:
    """Utilisation if workers waited for each other after every trial."""
    batches = [seconds[at : at + workers] for at in range(0, len(seconds), workers)]
    return sum(seconds) / (workers * sum(max(batch) for batch in batches))


# What the processes of these tests do


def main(arguments: Sequence[str] | None = None) -> int:
    """A supervisor with its workers, or one worker of a crowd."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--storage", default="journal://")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--gate", type=Path)
    options = parser.parse_args(arguments)
    run = LoggedRuns(options.log, options.seconds)
    space = SearchSpace.of(Point())
    if options.worker is None:
        config = settings(storage=options.storage)
        return 0 if supervise(config, space, run, folder=options.study) else 1
    options.gate.with_suffix(f".{options.worker}").touch()
    while not options.gate.exists():
        time.sleep(0.001)
    config = _crowd_settings(options.storage, options.trials)
    study = open_study(config, space, folder=options.study)
    return 0 if work(study, run, worker=options.worker) else 1


if __name__ == "__main__":
    sys.exit(main())
