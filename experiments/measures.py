"""From the stored episode returns to every indicator of a result, in one function.

The runner calls it once; `morl evaluate` calls it again on what is stored and compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from morl import indicators
from morl.result import Metric, RunResult
from morl.types import EnvSpec, Front

Returns = NDArray[np.float64]
"""Discounted returns of every episode, (solution, episode, objective)."""

NOISE_LIMIT = 0.02
"""Share of the hypervolume above which the jackknife's correction is worth a warning."""


def measure(returns: Returns, spec: EnvSpec) -> dict[str, Metric]:
    """Every indicator that the returns allow.

    Args:
        returns: report episodes of the chosen solutions, at least two each.
        spec: reference point, box and known front of the task they were played on.

    Returns:
        By name; an indicator without a value (expected utility of an empty front) is left out.
    """
    points = returns.mean(axis=1)
    found = _always(returns, points, spec)
    if spec.box is not None:
        volume = indicators.normalised_hypervolume(points, spec.box)
        found["hypervolume_normalised"] = Metric(
            value=volume.value, method=f"{volume.method}, box of {spec.id}"
        )
    if spec.known_front is not None:
        found |= _against_known(points, spec.known_front.points(spec.discount), spec)
    return {name: metric for name, metric in found.items() if math.isfinite(metric.value)}


def light(points: Front, spec: EnvSpec) -> dict[str, float]:
    """The two indicators of the learning curve, and the size of the front.

    An agent without a solution has the utility of the reference point.

    Args:
        points: mean returns, shape (solution, objective).
        spec: gives the reference point.
    """
    reference = np.array([spec.reference_point])
    return {
        "eval/hypervolume": indicators.hypervolume(points, spec.reference_point).value,
        "eval/expected_utility": indicators.expected_utility(points if len(points) else reference),
        "eval/front_size": float(indicators.cardinality(points)),
    }


def outside(points: Front, spec: EnvSpec) -> int:
    """Solutions that are not better than the reference point in every objective."""
    return int((~(points > np.asarray(spec.reference_point)).all(axis=1)).sum())


def notes(result: RunResult) -> list[str]:
    """What a reader must know before he believes the numbers of a result."""
    points, env_id = result.arrays.returns, result.env.id
    reference = ", ".join(f"{value:g}" for value in result.protocol.reference_point)
    outside = result.front.num_outside
    found = []
    if not len(points):
        found.append(f"{env_id}: the agent has no solution")
    elif outside == len(points):
        best = ", ".join(f"{value:.6g}" for value in points.max(axis=0))
        found.append(
            f"{env_id}: the reference point ({reference}) is better in some objective than each "
            f"of the {len(points)} solutions (the best returns are {best}), so the hypervolume "
            "is 0; train longer or set env.reference_point lower"
        )
    elif outside:
        found.append(
            f"{outside} of {len(points)} solutions are not better than the reference point "
            f"({reference}) and add nothing to the hypervolume"
        )
    return found + _noise(result.metrics)


def _noise(metrics: Mapping[str, Metric]) -> list[str]:
    if not {"hypervolume", "hypervolume_jackknife"} <= metrics.keys():
        return []
    plain = metrics["hypervolume"].value
    shift = metrics["hypervolume_jackknife"].value - plain
    if plain <= 0.0 or abs(shift) <= NOISE_LIMIT * plain:
        return []
    return [
        f"noise of evaluation: the jackknife moves the hypervolume by {shift / plain:+.1%}; "
        "raise report_episodes"
    ]


def _always(returns: Returns, points: Front, spec: EnvSpec) -> dict[str, Metric]:
    plain = indicators.hypervolume(points, spec.reference_point)
    corrected = indicators.jackknife_hypervolume(returns, spec.reference_point)
    return {
        "hypervolume": Metric(
            value=plain.value, standard_error=corrected.standard_error, method=plain.method
        ),
        "hypervolume_jackknife": Metric(
            value=corrected.value,
            standard_error=corrected.standard_error,
            method=corrected.method,
        ),
        "expected_utility": Metric(
            value=indicators.expected_utility(points),
            standard_error=_jackknife_error(returns, indicators.expected_utility),
            method="uniform preferences, best point known",
        ),
        "cardinality": Metric(value=float(indicators.cardinality(points)), method="tolerance 1e-9"),
        "sparsity": Metric(
            value=indicators.sparsity(points), method="as in the papers; no ranking metric"
        ),
        "sparsity_deduplicated": Metric(
            value=indicators.sparsity_deduplicated(points), method="no ranking metric"
        ),
    }


def _against_known(points: Front, known: Front, spec: EnvSpec) -> dict[str, Metric]:
    assert spec.known_front is not None
    source = f"{spec.known_front.certificate} front, {spec.known_front.source}"
    scaled, scaled_known, unit = points, known, "units of the returns"
    if spec.box is not None:
        scaled = indicators.normalise(points, spec.box)
        scaled_known = indicators.normalise(known, spec.box)
        unit = "units of the box"
    found = {
        "igd_plus": Metric(
            value=indicators.igd_plus(scaled, scaled_known), method=f"{unit}, {source}"
        ),
        "epsilon_additive": Metric(
            value=indicators.epsilon_additive(scaled, scaled_known), method=f"{unit}, {source}"
        ),
        "maximum_utility_loss": Metric(
            value=indicators.maximum_utility_loss(points, known), method=source
        ),
    }
    if outside(known, spec) < len(known):
        ratio = indicators.hypervolume_ratio(points, known, spec.reference_point)
        found["hypervolume_ratio"] = Metric(value=ratio, method=source)
    return found


def _jackknife_error(returns: Returns, indicator: Callable[[Front], float]) -> float | None:
    """Standard error of an indicator of mean returns, by leaving one episode out at a time."""
    solutions, episodes, _ = returns.shape
    if not solutions:
        return None
    total = returns.sum(axis=1)
    values = np.array(
        [indicator((total - returns[:, index]) / (episodes - 1)) for index in range(episodes)]
    )
    return float(np.sqrt((episodes - 1) * values.var()))
