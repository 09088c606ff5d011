"""Constrained improvement of one objective: thresholds and the interior-point weights.

Pure functions of arrays whose axes are (policy, objective); no network and no environment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morl.types import Vector

Table = NDArray[np.float64]
"""Shape (policy, objective)."""


def objective_scale(parent_returns: Table, reference_point: Vector) -> Table:
    """Distance of the parents' returns from the reference point; the unit of slack.

    Args:
        parent_returns: (policy, objective), in the environment's units.
        reference_point: (objective,).

    Returns:
        (policy, objective), positive.
    """
    distance = np.abs(parent_returns - reference_point)
    return np.maximum(distance, 1e-6)


def thresholds(parent_returns: Table, reference_point: Vector, *, beta: float) -> Table:
    """What an offspring must keep of its parent's returns.

    The share `beta` is taken of the distance to the reference point and not of the return, which
    may be negative: ``d = z + beta (G - z)`` lies below G whatever the signs, as long as G is
    better than z. A parent worse than z in an objective is only asked not to get worse.

    Args:
        parent_returns: (policy, objective).
        reference_point: (objective,), z.
        beta: in (0, 1).

    Returns:
        (policy, objective).
    """
    kept = reference_point + beta * (parent_returns - reference_point)
    return np.minimum(kept, parent_returns)


def interior_point_weights(
    slack: Table, target: NDArray[np.int64], *, sharpness: float, max_weight: float
) -> Table:
    """Scalarisation that follows the gradient of the interior-point objective.

    The objective is ``J_l + (1 / sharpness) sum_{j != l} log(slack_j)`` (IPO, Liu et al. 2020; the
    constrained step of C-MORL, Liu et al. 2025), whose gradient is ``grad J_l + sum_{j != l} grad
    J_j / (sharpness slack_j)``. A policy outside the interior has no such gradient: it follows
    its violated constraints alone until it is back.

    Args:
        slack: (policy, objective), return minus threshold in units of the objective's scale; the
            target's own entry is ignored.
        target: (policy,), index of the objective to be maximised.
        sharpness: the barrier's t; larger is closer to the hard constraint.
        max_weight: bound on a constraint's weight.

    Returns:
        (policy, objective), not negative; the objective weighs 1 inside.
    """
    policies, objectives = slack.shape
    assert target.shape == (policies,)
    is_target = np.arange(objectives) == target[:, None]
    violated = (slack < 0.0) & ~is_target
    barrier = np.minimum(1.0 / (sharpness * np.maximum(slack, 1e-8)), max_weight)
    interior = np.where(is_target, 1.0, barrier)
    outside = violated.any(axis=1, keepdims=True)
    return np.where(outside, violated.astype(np.float64), interior)
