"""Who is best: after the search, after the race, and on a front."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from morl.archive import crowding_distance
from morl.hpo.scoring import score
from morl.hpo.types import DEFAULTS, Standing
from morl.pareto import nondominated

if TYPE_CHECKING:
    from morl.hpo.study import Study


def search_standings(study: Study) -> list[Standing]:
    """Complete trials of the search, best first; of equals, the earlier."""
    metric = study.objective.metric
    found = [
        Standing(
            number=trial.number,
            settings=trial.settings,
            tuning_score=trial.values[0],
            score=trial.values[0],
            seeds=tuple(run.seed for run in trial.runs),
            values=tuple(run.values[metric] for run in trial.runs),
        )
        for trial in study.trials("search")
        if trial.state == "complete"
    ]
    return _ranked(study, found)


def standings(study: Study) -> list[Standing]:
    """The configurations that raced, best first by all their tuning seeds together.

    Without a race, or before it is finished, the standings of the search. A configuration of
    which a run of the race crashed is left out, unless all did.
    """
    tuned = search_standings(study)
    if "race" not in study.config.stages or not study.finished("race"):
        return tuned
    raced = [
        _with_race(study, standing, values)
        for standing in tuned
        if (values := _race_values(study, standing.number)) is not None
    ]
    return _ranked(study, raced) or tuned


def _race_values(study: Study, number: int) -> dict[int, float] | None:
    """Values of a configuration's race by seed; None unless all its runs are complete."""
    runs = [run for run in study.trials("race") if run.number == number]
    if not runs or any(run.state != "complete" for run in runs):
        return None
    metric = study.objective.metric
    return {run.runs[0].seed: run.runs[0].values[metric] for run in runs}


def _with_race(study: Study, standing: Standing, more: dict[int, float]) -> Standing:
    values = (*standing.values, *more.values())
    return replace(
        standing,
        score=score(values, study.objective),
        seeds=(*standing.seeds, *more),
        values=values,
    )


def _ranked(study: Study, found: list[Standing]) -> list[Standing]:
    return sorted(found, key=lambda one: (-study.objective.sign * one.score, one.number))


def front(study: Study) -> list[int]:
    """Numbers of the complete trials that no other dominates, in the objectives' directions."""
    complete = [trial for trial in study.trials("search") if trial.state == "complete"]
    if not complete:
        return []
    signs = np.array([one.sign for one in study.config.objectives])
    kept = nondominated(np.array([trial.values for trial in complete]) * signs)
    return [trial.number for trial, keep in zip(complete, kept, strict=True) if keep]


def candidates(study: Study) -> list[int]:
    """Who is tested: the defaults and the winner, or the least crowded members of the front.

    Without a single complete trial there is nobody but the defaults.
    """
    if study.config.multi_objective:
        best = _spread_front(study, max(1, study.config.race.top_k))
    else:
        best = [standing.number for standing in standings(study)[:1]]
    return list(dict.fromkeys([DEFAULTS, *best]))


def _spread_front(study: Study, count: int) -> list[int]:
    members = front(study)
    if len(members) <= count:
        return members
    values = {trial.number: trial.values for trial in study.trials("search")}
    distances = crowding_distance(np.array([values[number] for number in members]))
    widest = np.argsort(-distances, kind="stable")[:count]
    return sorted(members[int(index)] for index in widest)
