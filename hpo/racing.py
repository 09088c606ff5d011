"""The stages after the search: racing the best on more seeds, and the test on fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from morl.hpo.scoring import score, statistic
from morl.hpo.standings import standings
from morl.hpo.study import Study
from morl.hpo.types import DEFAULTS, RunTrial, Stage, Standing, Validation
from morl.hpo.worker import never, work
from morl.seeding import generator
from morl.stats import Interval, bootstrap, difference

_RESAMPLES = 20_000
_RACE: Stage = "race"
_TEST: Stage = "test"


def race(
    study: Study, run_trial: RunTrial, *, worker: int = 0, stop: Callable[[], bool] = never
) -> list[Standing]:
    """Run the best configurations of a finished search on more tuning seeds.

    Returns:
        The standings, best first; those of the search where the race is not finished.

    Raises:
        StudyError: the search is not finished, or see `work`.
    """
    work(study, run_trial, worker=worker, stages=[_RACE], stop=stop)
    return standings(study)


def validate(
    study: Study, run_trial: RunTrial, *, worker: int = 0, stop: Callable[[], bool] = never
) -> Validation | None:
    """Run the winner and the defaults on the test seeds.

    Returns:
        What came out, see `validation`.

    Raises:
        StudyError: search or race are not finished, or see `work`.
    """
    work(study, run_trial, worker=worker, stages=[_TEST], stop=stop)
    return validation(study)


def validation(study: Study) -> Validation | None:
    """The winner against the defaults on fresh seeds.

    Seeds count on which both runs ended well.

    Returns:
        None where there is no test, it is not finished, several objectives were searched, no
        trial is complete, or fewer than two seeds count.
    """
    ranked = standings(study)
    config = study.config
    if config.multi_objective or "test" not in config.stages or not ranked:
        return None
    if not study.finished("test"):
        return None
    winner = ranked[0]
    by_number = _test_values(study)
    tuned, defaults = by_number.get(winner.number, {}), by_number.get(DEFAULTS, {})
    seeds = tuple(seed for seed in config.test_seeds if seed in tuned and seed in defaults)
    if len(seeds) < 2:
        return None
    return _compared(study, winner, seeds, [tuned[s] for s in seeds], [defaults[s] for s in seeds])


def _test_values(study: Study) -> dict[int, dict[int, float]]:
    """First metric by configuration and test seed."""
    metric = study.objective.metric
    found: dict[int, dict[int, float]] = {}
    for record in study.trials("test"):
        for run in record.runs:
            found.setdefault(record.number, {})[run.seed] = run.values[metric]
    return found


def _compared(
    study: Study,
    winner: Standing,
    seeds: tuple[int, ...],
    tuned: Sequence[float],
    defaults: Sequence[float],
) -> Validation:
    objective = study.objective
    sign = objective.sign
    rng = generator(study.config.seed, "hpo/bootstrap")
    compute = statistic(objective)
    mine, theirs = np.asarray(tuned), np.asarray(defaults)
    best, worst = (mine, theirs) if sign > 0 else (theirs, mine)
    gain = (
        Interval(estimate=0.0, low=0.0, high=0.0, confidence=0.95, method="the same runs")
        if winner.number == DEFAULTS
        else difference(best, worst, compute, rng=rng, num_resamples=_RESAMPLES)
    )
    return Validation(
        number=winner.number,
        metric=objective.label,
        seeds=seeds,
        tuned=tuple(tuned),
        defaults=tuple(defaults),
        tuned_interval=bootstrap(mine, compute, rng=rng, num_resamples=_RESAMPLES),
        defaults_interval=bootstrap(theirs, compute, rng=rng, num_resamples=_RESAMPLES),
        difference=gain,
        tuning_score=winner.score,
        optimism=sign * (winner.score - score(tuned, objective)),
    )
