"""``python -m morl.experiments.bench.tuning``: what tuning survives, costs and brings.

========== ====================================================================================
kills      workers, host and power die; the same command finishes with the exact number of trials
crowds     four workers on a new study, sixteen on a crowded one, each storage
idle       share of four workers' time that is spent in runs
overhead   CPU time a trial beyond Optuna's own, and a thousand trials of no length
race       racing against fixed numbers of seeds, at equal cost
samplers   samplers and pruners against random search
========== ====================================================================================
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from morl.experiments.bench.measurement import RESULTS, interleave, write_report
from morl.experiments.bench.tuning_faults import (
    EVALUATIONS,
    Point,
    crowd_test,
    kill_test,
    new_study_test,
    settings,
    utilisation_test,
)
from morl.experiments.bench.tuning_replays import race_replays, sampler_replays
from morl.hpo.space import SearchSpace
from morl.hpo.study import open_study
from morl.hpo.types import Report, SamplerName, TrialOutcome, TrialRequest
from morl.hpo.worker import work

BENCHMARKS = ("kills", "crowds", "idle", "overhead", "race", "samplers")


def overhead_test(*, trials: int = 1000, pairs: int = 5) -> dict[str, Any]:
    """Trials of no length: their time, and their CPU time against a plain Optuna study's."""
    rows = []
    samplers: tuple[SamplerName, ...] = ("random", "tpe")
    for sampler in samplers:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            _our_study(Path(folder), trials, sampler)
            wall = time.monotonic() - start
        costs = interleave(
            _cpu_ms(_our_study, trials // 5, sampler),
            _cpu_ms(_plain_study, trials // 5, sampler),
            pairs=pairs,
        )
        extra = sorted(a - b for a, b in zip(costs.ours, costs.theirs, strict=True))
        rows.append(
            {
                "sampler": sampler,
                "trials": trials,
                "wall_s": round(wall, 1),
                "cpu_ms_a_trial": _middle(costs.ours),
                "optuna_cpu_ms_a_trial": _middle(costs.theirs),
                "overhead_cpu_ms_a_trial": _middle(extra),
                "overhead_highest": round(extra[-1], 2),
            }
        )
        print(rows[-1], flush=True)
    return {
        "what": f"{trials} trials of no length on the journal, one worker, {EVALUATIONS} reports "
        "each, files written: wall time; and CPU time beyond a plain Optuna study that asks, "
        "suggests, reports and tells the same on Optuna's own journal (pairs of a fifth as many)",
        "rows": rows,
    }


def _middle(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) // 2], 2)


def _cpu_ms(
    study: Callable[[Path, int, SamplerName], None], trials: int, sampler: SamplerName
) -> Callable[[], float]:
    """CPU milliseconds a trial, without making the folder."""

    def measured() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            study(Path(folder), trials, sampler)
            return 1e3 * (time.process_time() - start) / trials

    return measured


def _no_length(request: TrialRequest, report: Report) -> TrialOutcome:
    x = request.params.get("x", 0.5)
    for index in range(1, request.evaluations + 1):
        report(request.budget * index // request.evaluations, x)
    return TrialOutcome(values={"hypervolume": x})


def _our_study(folder: Path, trials: int, sampler: SamplerName) -> None:
    config = settings(n_trials=trials, tuning_seeds=(1,), sampler=sampler, pruner="none")
    work(open_study(config, SearchSpace.of(Point()), folder=folder), _no_length)


def _plain_study(folder: Path, trials: int, sampler: SamplerName) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "plain.journal")))
    chosen = (
        optuna.samplers.TPESampler(seed=0)
        if sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=0)
    )
    study = optuna.create_study(storage=storage, sampler=chosen, direction="maximize")
    for _ in range(trials):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.0, 1.0)
        for step in range(1, EVALUATIONS + 1):
            trial.report(x, step)
        study.tell(trial, x)


def crowds(postgresql: str | None) -> dict[str, Any]:
    """New and crowded studies on every storage that there is.

    Args:
        postgresql: address of any database of a server where databases may be made, or None.
    """
    servers = [postgresql] if postgresql else []
    return {
        "new_studies": [new_study_test(one) for one in ("journal://", "sqlite://", *servers)],
        "crowded": [
            crowd_test(one, workers=16, trials=2000 if one == "journal://" else 200)
            for one in ("journal://", *servers)
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        0 if nothing was lost.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    tests: dict[str, Callable[[], dict[str, Any]]] = {
        "kills": lambda: kill_test(options.kills),
        "crowds": lambda: crowds(options.postgresql),
        "idle": utilisation_test,
        "overhead": overhead_test,
        "race": lambda: race_replays(options.replays),
        "samplers": lambda: sampler_replays(max(2, options.replays // 20)),
    }
    command = " ".join(["python -m morl.experiments.bench.tuning", *words])
    lost = False
    for name in options.only or BENCHMARKS:
        record = tests[name]()
        lost = lost or record.get("exact", 0) != record.get("of", 0)
        write_report(f"tuning_{name}", record, command=command, output=options.output)
    return int(lost)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="default: all")
    parser.add_argument("--kills", type=int, default=20, help="studies to disturb")
    parser.add_argument("--replays", type=int, default=250, help="of the race; samplers a 20th")
    parser.add_argument("--postgresql", metavar="ADDRESS", help="of a server, for the crowds")
    parser.add_argument(
        "--output", type=Path, default=RESULTS / "bench", help="folder of the JSON files"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
