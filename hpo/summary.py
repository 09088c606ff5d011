"""What came out of a study, in one object and one file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morl.hpo import files
from morl.hpo.racing import validation
from morl.hpo.standings import front, standings
from morl.hpo.study import Study
from morl.hpo.types import StudySummary, TrialRecord
from morl.storage import write_json

SUMMARY = "study.json"

LEAST_TRIALS = 10
"""Complete trials that importances need."""


def summarise(study: Study, *, write: bool = True) -> StudySummary:
    """Read a study, finished or not.

    Args:
        study: result of `morl.hpo.study.open_study`.
        write: whether to write ``study.json``, and files of trials that are missing.
    """
    trials = {stage: tuple(study.trials(stage)) for stage in ("search", "race", "test")}
    records = [record for stage in trials.values() for record in stage]
    multi = study.config.multi_objective
    summary = StudySummary(
        config=study.config,
        space=study.space.record(),
        sampler=study.sampler,
        pruner=study.pruner,
        trials=trials["search"],
        standings=() if multi else tuple(standings(study)),
        race_runs=trials["race"],
        test_runs=trials["test"],
        front=tuple(front(study)) if multi else (),
        validation=validation(study),
        front_test=_front_test(trials["test"]) if multi else {},
        importances=importances(study),
        cost=_cost(records),
        wall_seconds=_wall_seconds(records),
        finished=all(study.finished(stage) for stage in study.config.stages),
    )
    if write:
        files.write_missing(study)
        write_json(study.folder / SUMMARY, summary_record(summary))
    return summary


def summary_record(summary: StudySummary) -> dict[str, Any]:
    """A summary as plain data."""
    record = asdict(summary)
    record["front_test"] = {str(number): runs for number, runs in summary.front_test.items()}
    record["config"]["context"] = dict(summary.config.context)
    return record


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``study.json`` of a study's folder says."""
    found: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return found


def importances(study: Study) -> dict[str, float]:
    """Share of each searched value in the variation of the first objective, by PED-ANOVA.

    Empty with fewer than `LEAST_TRIALS` complete trials or equal values: nothing can be said then.
    Watanabe, Bansal and Hutter, "PED-ANOVA" (IJCAI 2023).
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    values = [record.values[0] for record in study.trials("search") if record.state == "complete"]
    if len(values) < LEAST_TRIALS or len(set(values)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pruned trials, and on the method being young
        found = get_param_importances(
            study.optuna_study("search"),
            evaluator=PedAnovaImportanceEvaluator(),
            target=(lambda trial: float(trial.values[0])) if study.config.multi_objective else None,
        )
    return {name: float(share) for name, share in found.items()}


def _front_test(runs: Sequence[TrialRecord]) -> Mapping[int, Sequence[Mapping[str, float]]]:
    found: dict[int, list[Mapping[str, float]]] = {}
    for record in runs:
        found.setdefault(record.number, []).extend(run.values for run in record.runs)
    return found


def _cost(records: Sequence[TrialRecord]) -> dict[str, float]:
    costs = [record.cost for record in records]
    names = sorted({name for cost in costs for name in cost})
    return {name: sum(cost.get(name, 0.0) for cost in costs) for name in names}


def _wall_seconds(records: Sequence[TrialRecord]) -> float:
    started = [record.started for record in records if record.started is not None]
    ended = [record.ended for record in records if record.ended is not None]
    return max(ended) - min(started) if started and ended else 0.0
