"""From finished studies to what is committed: a configuration, and the figures behind it.

``python -m morl.experiments.bench.tuned studies/minecart-v0-c_morl --preset minecart-c_morl``
writes ``conf/tuned/c_morl/minecart-v0.yaml`` and ``experiments/results/tuning/``. A preset is a
second opinion: settings chosen by hand, trained on the same test seeds with the same budget.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from morl import stats, storage
from morl.experiments import study_report
from morl.experiments.bench.learning import composed
from morl.experiments.compose import TUNED_FILE
from morl.experiments.config import RunConfig
from morl.experiments.run import run
from morl.experiments.tune import read_settings, report
from morl.experiments.tune_config import TuneConfig
from morl.hpo.types import StudyError, StudySummary, Validation
from morl.seeding import generator

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results" / "tuning"
TUNED = ROOT / "conf" / "tuned"


def publish(folder: Path, *, preset: str | None, results: Path, tuned: Path) -> list[Path]:
    """Write what is committed about a study.

    Args:
        folder: of a finished study.
        preset: experiment whose settings are tried on the test seeds as well.
        results: folder of the figures.
        tuned: folder of the configurations; one is written only where the test shows a gain.

    Returns:
        The files written.

    Raises:
        StudyError: the study is not finished, or was not tested.
    """
    config, summary = read_settings(folder), report(folder)
    if not summary.finished or summary.validation is None:
        raise StudyError(f"{folder}: a study that is finished and tested is needed")
    record = dict(study_report.result_record(summary, config))
    record["machine"] = machine(folder)
    if preset is not None:
        values = preset_values(config, summary.validation, preset, folder / "preset")
        record["preset"] = against_preset(summary.validation, preset, values)
    name = f"{config.agent}-{config.env.id}.json"
    storage.make_folder(results)
    storage.write_json(results / name, record)
    written = [results / name]
    if summary.validation.gain:
        written.append(_publish_best(folder, config, summary, tuned))
    return written


def machine(folder: Path) -> dict[str, Any]:
    """Where the runs of a study were made, from one of its results."""
    paths = sorted((folder / "test").rglob("run/result.json"))
    found = storage.read_json(paths[0])["provenance"] if paths else {}
    names = ("cpu", "python", "packages", "git_sha")
    return {name: found[name] for name in names if name in found}


def _publish_best(folder: Path, config: TuneConfig, summary: StudySummary, tuned: Path) -> Path:
    target = tuned / config.agent / f"{config.env.id}.yaml"
    storage.make_folder(target.parent)
    best = study_report.tuned_text(summary, config)
    if best is None:
        raise StudyError(f"{folder / TUNED_FILE}: the study has no winner")
    storage.atomic_write(target, best.encode())
    return target


def preset_values(
    config: TuneConfig, test: Validation, preset: str, out: Path
) -> tuple[float, ...]:
    """The test's metric of a preset's settings, one value a test seed."""
    return tuple(
        run(_preset_run(config, preset, seed, out)).metrics[test.metric].value
        for seed in test.seeds
    )


def _preset_run(config: TuneConfig, preset: str, seed: int, out: Path) -> RunConfig:
    wanted = composed(preset, seed=seed, runs=out)
    protocol = config.run_config({}, seed=seed, steps=config.steps)
    return replace(protocol, agent_config=wanted.agent_config, out=str(out))


def against_preset(test: Validation, preset: str, values: Sequence[float]) -> dict[str, Any]:
    """The winner against settings chosen by hand, both on the test seeds."""
    rng = generator(0, "tuned/preset")
    mean = stats.bootstrap(values, stats.mean, rng=rng)
    gain = stats.difference(test.tuned, values, stats.mean, rng=rng)
    return {
        "experiment": preset,
        "values": list(values),
        "mean": {"mean": mean.estimate, "interval_95": [mean.low, mean.high]},
        "tuned_minus_preset": {"mean": gain.estimate, "interval_95": [gain.low, gain.high]},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        0; errors are raised.
    """
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.tuned", description=__doc__
    )
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--preset", metavar="EXPERIMENT", help="try it on the test seeds as well")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tuned", type=Path, default=TUNED)
    options = parser.parse_args(arguments)
    for path in publish(
        options.study, preset=options.preset, results=options.results, tuned=options.tuned
    ):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
