"""The runs behind the published figures: trains the presets, summarises them in small files.

For every experiment there is a preset under ``conf/experiment``, a number of seeds and a figure to
be reached on the report stream. Training goes through `morl.experiments.run.run` with the
composition of the command line, so ``morl run experiment=minecart-c_morl seed=0`` makes the same
run, and a run that is done is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from morl import indicators, stats, storage
from morl.experiments.bench.measurement import RESULTS
from morl.experiments.compose import compose_and_run
from morl.experiments.config import RunConfig, flat
from morl.experiments.fingerprint import changes, fingerprint
from morl.experiments.interrupts import RunInterrupted
from morl.experiments.run import CHANGES, CODE, RESULT, finished_result, run, run_folder
from morl.preferences import paper_lattice
from morl.result import RunResult
from morl.seeding import generator
from morl.types import MorlError

RUNS = Path("runs/learning")
"""Where the trainings lie, relative to the working directory."""

CURVE = ("seed", "steps", "hypervolume", "expected_utility", "front_size")
"""Columns of the learning curves."""


@dataclass(frozen=True)
class Target:
    """A figure that the mean over seeds has to reach.

    Attributes:
        metric: key of a seed's figures.
        at_least: the figure.
    """

    metric: str
    at_least: float


@dataclass(frozen=True)
class Reference:
    """What others have reported under the same protocol, or what needs no learning.

    Attributes:
        what: whose it is.
        source: where it comes from.
        hypervolume: one figure a run, or one figure.
        expected_utility: likewise, over the preferences of the paper.
    """

    what: str
    source: str
    hypervolume: tuple[float, ...]
    expected_utility: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "what": self.what,
            "source": self.source,
            "hypervolume": list(self.hypervolume),
            "expected_utility_paper_lattice": list(self.expected_utility),
        }


@dataclass(frozen=True)
class Experiment:
    """A preset, and what its runs are to show.

    Attributes:
        preset: name under ``conf/experiment``; the summary is named after it.
        num_seeds: seeds 0, 1, ... that belong to the published figure.
        max_steps: most environment steps of a run, the agent's own evaluations included.
        lattice: name of the paper's preferences, see `morl.preferences.PAPER_LATTICES`.
        targets: figures to be reached.
        references: figures to compare with.
    """

    preset: str
    num_seeds: int
    max_steps: int
    lattice: str
    targets: tuple[Target, ...]
    references: tuple[Reference, ...]


_AUTHORS = "logs and fronts in the history of github.com/RuohLiuq/C-MORL, commit 443c70f"
_FORK = "logs in github.com/TanmayAmbadkar/C-MORL, commit ad04cde"

EXPERIMENTS: Mapping[str, Experiment] = {
    "minecart": Experiment(
        preset="minecart-c_morl",
        num_seeds=5,
        max_steps=4_000_000,
        lattice="c-morl/minecart",
        targets=(Target("hypervolume", 600.0),),
        references=(
            Reference(
                "released C-MORL code, re-run by others, seeds 0 to 3",
                _FORK,
                (597.5, 600.7, 499.1, 498.8),
                (0.291, 0.287, 0.187, 0.187),
            ),
            Reference(
                "declared front; heuristic plans at mean ore yields, agents may beat it",
                "MO-Gymnasium 1.3.2, discount 0.98",
                (668.2,),
                (0.368,),
            ),
        ),
    ),
    "fruit-tree": Experiment(
        preset="fruit-tree-c_morl",
        num_seeds=5,
        max_steps=3_900_000,
        lattice="c-morl/fruit-tree",
        targets=(Target("hypervolume", 40_000.0),),
        references=(
            Reference("C-MORL-IPO, authors' runs", _AUTHORS, (31_153.0, 30_022.0), (6.390, 6.462)),
            Reference("exact front", "MO-Gymnasium 1.3.2, discount 0.99", (46_034.8,), (6.756,)),
        ),
    ),
    "hopper": Experiment(
        preset="hopper-2d-c_morl",
        num_seeds=3,
        max_steps=12_000_000,
        lattice="c-morl/mujoco-2",
        targets=(
            Target("hypervolume", 1.40e5),
            Target("expected_utility_paper_lattice", 256.0),
        ),
        references=(
            Reference(
                "C-MORL-IPO, authors' runs",
                _AUTHORS,
                (140_116.0, 145_036.0, 146_137.0, 140_099.0, 141_842.0),
                (256.6, 265.5, 262.2, 255.9, 257.1),
            ),
            Reference("released C-MORL code, re-run by others", _FORK, (134_723.0,), (252.9,)),
            Reference("zero torque", "500 steps, discount 0.99", (25_500.0,), (60.6,)),
        ),
    ),
    "ant": Experiment(
        preset="ant-c_morl",
        num_seeds=1,
        max_steps=16_000_000,
        lattice="c-morl/mujoco-3",
        targets=(Target("hypervolume", 4.1e7),),
        references=(
            Reference(
                "C-MORL-IPO, authors' runs",
                _AUTHORS,
                (4.176e7, 3.553e7, 4.180e7, 4.603e7, 3.978e7),
                (287.7, 247.5, 277.6, 295.4, 270.6),
            ),
            Reference("released C-MORL code, re-run by others", _FORK, (2.481e7,), (197.7,)),
            Reference("zero torque", "500 steps, discount 0.99", (7.91e6,), (99.2,)),
        ),
    ),
    "building-3d": Experiment(
        preset="building-3d-c_morl",
        num_seeds=3,
        max_steps=16_000_000,
        lattice="c-morl/building-3",
        targets=(Target("hypervolume", 9.813e11),),
        references=(
            Reference("no heating or cooling", "do_nothing", (9.813e11,)),
            Reference("eleven strengths, weather known", "building_controller", (1.2567e12,)),
        ),
    ),
    "building-9d": Experiment(
        preset="building-9d-c_morl",
        num_seeds=3,
        max_steps=20_000_000,
        lattice="c-morl/building-9",
        targets=(Target("hypervolume", 8.26e31),),
        references=(
            Reference(
                "released C-MORL code, re-run by others: between 7.66e31 and 8.26e31",
                _FORK,
                (8.26e31,),
            ),
            Reference("no heating or cooling", "do_nothing", (4.442e31,)),
            Reference("eleven strengths, weather known", "building_controller", (1.0157e32,)),
        ),
    ),
    "offloading": Experiment(
        preset="offloading-gmorl",
        num_seeds=5,
        max_steps=400_000,
        lattice="c-morl/mujoco-2",  # 101 preferences of two objectives
        targets=(Target("hypervolume", 9190.8),),
        references=(
            Reference(
                "exact-marginal greedy, a sweep of 101 preferences",
                "agent=offloading_heuristic, the same episodes",
                (9190.8,),
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Finished:
    """A run that is done.

    Attributes:
        result: what it found out.
        code: hashes of the code it was begun by, see `morl.experiments.fingerprint`. The commit in
            the result is the one of its end.
        code_changed: whether other code has gone on with it.
    """

    result: RunResult
    code: Mapping[str, str]
    code_changed: bool

    @classmethod
    def load(cls, folder: Path) -> Finished:
        """Read the folder of a run."""
        return cls(
            result=RunResult.load(folder),
            code=storage.read_json(folder / CODE),
            code_changed=(folder / CHANGES).exists(),
        )


def composed(preset: str, *, seed: int, runs: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration that ``morl run experiment=PRESET seed=SEED OVERRIDES`` makes."""
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> int:
        records.append(record)
        return 0

    compose_and_run([f"experiment={preset}", f"seed={seed}", f"out={runs}", *overrides], keep)
    return RunConfig.from_record(records[0])


def train(configs: Sequence[RunConfig], *, workers: int) -> list[str]:
    """Make all runs that are not done yet.

    Args:
        configs: of the runs.
        workers: processes at once; one works in this process.

    Returns:
        What went wrong, one line a run.
    """
    left = [config for config in configs if finished_result(run_folder(config)) is None]
    if workers == 1 or len(left) < 2:
        said = [_train(config) for config in left]
    else:
        # A forked child could inherit locks of libraries that are in the middle of something.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            said = list(pool.map(_train, left))
    return [line for line in said if line]


def _train(config: RunConfig) -> str:
    """Make one run; an error becomes a line, so that the other runs go on."""
    try:
        run(config)
    except RunInterrupted as request:
        return request.message
    except MorlError as error:
        return str(error)
    return ""


def find(folder: Path, configs: Iterable[RunConfig]) -> list[Finished]:
    """Finished runs of the given configurations, anywhere below a folder.

    Of several runs of one configuration the newest counts; near misses are said.
    """
    wanted = {config.seed: dict(flat(config.deciding())) for config in configs}
    found: dict[int, Finished] = {}
    paths = sorted(folder.rglob(RESULT), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        done = Finished.load(path.parent)
        result = done.result
        settings = wanted.get(result.seed, {})
        if (settings.get("env.id"), settings.get("agent.name")) != (
            result.env.id,
            result.algo.name,
        ):
            continue
        # Through the dataclasses, so that settings added since get their defaults.
        own = dict(flat(RunConfig.from_record(result.config).deciding()))
        reason = "" if result.status == "completed" else result.status
        reason = reason or _difference(own, settings)
        if reason:
            print(f"left out: {path.parent}: {reason}")
        else:
            found.setdefault(result.seed, done)
    return list(found.values())


def _difference(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Settings of a run that are not as wanted, in words; empty if there are none."""
    keys = sorted({*own, *wanted})
    return ", ".join(
        f"{key} is {own.get(key)}, not {wanted.get(key)}"
        for key in keys
        if own.get(key) != wanted.get(key)
    )


def seed_figures(done: Finished, experiment: Experiment) -> dict[str, Any]:
    """All that a summary says about one run."""
    result = done.result
    budget, metrics = result.budget, result.metrics
    plain, corrected = metrics["hypervolume"], metrics["hypervolume_jackknife"]
    lattice = paper_lattice(experiment.lattice)
    return {
        "seed": result.seed,
        "hypervolume": plain.value,
        "hypervolume_jackknife": corrected.value,
        "hypervolume_standard_error": corrected.standard_error,
        "expected_utility": metrics["expected_utility"].value,
        "expected_utility_paper_lattice": indicators.expected_utility(result.returns, lattice),
        "front_size": result.front.num_unique,
        "env_steps": budget.env_steps,
        "eval_env_steps": budget.eval_env_steps,
        "cpu_s": round(budget.cpu_s, 1),
        "env_steps_per_cpu_s": round(budget.env_steps / budget.cpu_s, 1),
        "run_id": result.run_id,
        "git_sha_at_end": result.provenance.git_sha,
        "code_sha256": hashlib.sha256(storage.json_bytes(done.code)).hexdigest()[:16],
        "code_changed_underway": done.code_changed,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, deviation, minimum and interval of one figure over seeds."""
    scores = np.asarray(values, np.float64)
    record: dict[str, Any] = {"mean": float(scores.mean()), "min": float(scores.min())}
    if len(scores) < 2:
        return record | {"sd": None, "interval_95": None}
    interval = stats.bootstrap(scores, stats.mean, rng=generator(0, "bench/interval"))
    return record | {
        "sd": float(scores.std(ddof=1)),
        "interval_95": [interval.low, interval.high],
        "interval_method": f"{interval.method} bootstrap of the mean over seeds",
    }


def summarise(
    experiment: Experiment, runs: Sequence[Finished], *, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The committed record of an experiment.

    Args:
        experiment: what was to be shown.
        runs: those that are done, at least one.
        overrides: words by which the runs' settings differ from the preset's.
    """
    ordered = sorted(runs, key=lambda done: done.result.seed)
    seeds = [seed_figures(done, experiment) for done in ordered]
    first = ordered[0].result
    figures = ("hypervolume", "hypervolume_jackknife", "expected_utility",
               "expected_utility_paper_lattice", "front_size", "env_steps_per_cpu_s")  # fmt: skip
    summary = {name: spread([seed[name] for seed in seeds]) for name in figures}
    complete = {seed["seed"] for seed in seeds} >= set(range(experiment.num_seeds))
    return {
        "experiment": experiment.preset,
        "command": " ".join(
            [
                f"morl run -m experiment={experiment.preset}",
                f"seed={','.join(str(seed['seed']) for seed in seeds)}",
                *overrides,
            ]
        ),
        "summarised_by": "python -m morl.experiments.bench.learning",
        "protocol": {
            "env": first.env.id,
            "max_episode_steps": first.env.max_steps,
            "discount": first.protocol.discount,
            "reference_point": list(first.protocol.reference_point),
            "selection_episodes": first.protocol.selection_episodes,
            "report_episodes": first.protocol.report_episodes,
            "stream": first.protocol.report_stream,
            "paper_lattice": experiment.lattice,
        },
        "config": dict(first.config) | {"seed": "see seeds"},
        "packages": dict(first.provenance.packages),
        "cpu": first.provenance.cpu,
        "code": _code(ordered),
        "seeds": seeds,
        "summary": summary,
        "targets": [_verdict(target, summary, complete=complete) for target in experiment.targets],
        "within_budget": all(seed["env_steps"] <= experiment.max_steps for seed in seeds),
        "max_env_steps": experiment.max_steps,
        "all_seeds_done": complete,
        "references": [reference.record() for reference in experiment.references],
    }


def _code(runs: Sequence[Finished]) -> dict[str, list[str]]:
    """Files and packages whose version is not the same for all runs, or not that of today."""
    now = fingerprint()
    return {
        "differs_between_seeds": sorted(
            {name for done in runs for name in changes(dict(runs[0].code), dict(done.code))}
        ),
        "differs_from_this_code": sorted(
            {name for done in runs for name in changes(dict(done.code), now)}
        ),
    }


def _verdict(target: Target, summary: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    mean = summary[target.metric]["mean"]
    return {
        "metric": target.metric,
        "at_least": target.at_least,
        "mean": mean,
        "met": complete and mean >= target.at_least,
    }


def curves(runs: Sequence[Finished]) -> bytes:
    """Learning curves as CSV; they come from few episodes of the selection stream."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE)
    for result in sorted((done.result for done in runs), key=lambda result: result.seed):
        columns = [result.curve[name] for name in CURVE[1:]]
        for point in zip(*columns, strict=True):
            writer.writerow([result.seed, *(f"{value:.6g}" for value in point)])
    return text.getvalue().encode()


def write_summary(
    experiment: Experiment,
    runs: Sequence[Finished],
    output: Path,
    *,
    overrides: Sequence[str] = (),
) -> None:
    """Write ``<preset>.json`` and ``<preset>-curve.csv`` and say what came out."""
    storage.make_folder(output)
    record = summarise(experiment, runs, overrides=overrides)
    storage.write_json(output / f"{experiment.preset}.json", record)
    storage.atomic_write(output / f"{experiment.preset}-curve.csv", curves(runs))
    print(f"{experiment.preset}: {len(runs)} of {experiment.num_seeds} seeds")
    for verdict in record["targets"]:
        word = "met" if verdict["met"] else "NOT met"
        if not record["all_seeds_done"]:
            word = "open, seeds are missing"
        print(
            f"  {verdict['metric']}: mean {verdict['mean']:,.6g}, "
            f"target {verdict['at_least']:,.6g}: {word}"
        )
    for name, files in record["code"].items():
        if files:
            print(f"  code {name.replace('_', ' ')}: {', '.join(files)}")
    print(f"  written: {output / experiment.preset}.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: train what is not done yet, then write the summaries.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        0 if every experiment has a summary and no run failed.
    """
    options = _parser().parse_args(arguments)
    code = 0
    for name in options.only or EXPERIMENTS:
        experiment = EXPERIMENTS[name]
        seeds = options.seeds or range(experiment.num_seeds)
        runs = options.source or options.runs
        configs = [
            composed(experiment.preset, seed=seed, runs=runs, overrides=options.set)
            for seed in seeds
        ]
        problems = [] if options.source else train(configs, workers=options.workers)
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
        results = find(runs, configs)
        if results:
            write_summary(experiment, results, options.output, overrides=options.set)
        else:
            sys.stderr.write(f"{experiment.preset}: no finished run below {runs}\n")
        code = max(code, int(bool(problems) or not results))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.learning", description=__doc__
    )
    parser.add_argument("--only", nargs="+", choices=tuple(EXPERIMENTS), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: those of the figure")
    parser.add_argument(
        "--set", nargs="+", default=(), metavar="KEY=VALUE", help="settings that differ"
    )
    parser.add_argument("--workers", type=int, default=1, help="runs at once")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trainings")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="RUNS",
        help="train nothing: summarise the finished runs below this folder",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the summaries")
    return parser


if __name__ == "__main__":
    sys.exit(main())
