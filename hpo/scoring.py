"""From the values of runs to the value of a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from morl.hpo.types import Objective, StudyError, TrialOutcome
from morl.stats import Aggregate, Scores, Statistic, iqm, mean


def score(values: ArrayLike, objective: Objective) -> float:
    """Value of a configuration.

    Args:
        values: the objective's metric of each run, shape (run,).
        objective: says how runs are put together.
    """
    return float(statistic(objective)(np.asarray(values, np.float64)[:, None]))


def statistic(objective: Objective) -> Statistic:
    """The same for arrays (..., run, task), as the bootstrap needs it."""

    def compute(scores: Scores) -> Aggregate:
        spread = _deviation(scores)
        if objective.aggregate == "std":
            return spread
        middle = iqm(scores) if objective.aggregate == "iqm" else mean(scores)
        return middle - objective.sign * objective.variance_penalty * spread

    return compute


def _deviation(scores: Scores) -> Scores:
    """Standard deviation over runs (n - 1), mean over tasks; 0 of a single run."""
    if scores.shape[-2] < 2:
        return np.zeros(scores.shape[:-2])
    return np.asarray(scores.std(axis=-2, ddof=1).mean(axis=-1))


def run_record(
    outcome: TrialOutcome, objectives: Sequence[Objective], *, seconds: float, steps: int
) -> dict[str, Any]:
    """What is kept of a run; of one that diverged, with the objectives' worst values.

    Args:
        outcome: of the run.
        objectives: of the study.
        seconds: it took.
        steps: its budget, for an outcome that does not say what it used.

    Raises:
        StudyError: if a metric is missing.
    """
    missing = [one.metric for one in objectives if one.metric not in outcome.values]
    if missing and not outcome.diverged:
        raise StudyError(
            f"the run returned no {', '.join(missing)}; it has: "
            f"{', '.join(sorted(outcome.values)) or 'nothing'}"
        )
    values = {name: float(value) for name, value in outcome.values.items()}
    diverged = outcome.diverged or not all(math.isfinite(values[o.metric]) for o in objectives)
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    if diverged:
        values |= {one.metric: one.diverged for one in objectives}
    return {
        "values": values,
        "curve": [[int(x), float(y)] for x, y in outcome.curve if math.isfinite(y)],
        "cost": {"env_steps": steps, **_finite(outcome.cost), "seconds": seconds},
        "diverged": diverged,
        "details": dict(outcome.details),
    }


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
