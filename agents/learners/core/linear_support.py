"""Optimistic linear support: which preference to train for next.

Policies that are known bound what any preference can hope for. Where those bounds leave most room,
at a corner of the upper envelope of the known values, the next policy is sought (Roijers, Whiteson
and Oliehoek, "Computing Convex Coverage Sets for Faster Multi-Objective Coordination", JAIR 2015,
section 5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morl.preferences import SOBOL_OBJECTIVES, lattice, sobol_simplex
from morl.types import Front, Vector

SAME = 1e-6
"""Largest difference of coordinates of two preferences that count as one."""

LEAST_IMPROVEMENT = 1e-6
"""Room below which a corner is not worth a run, as a share of the values' range."""


def next_preference(visited: Front, values: Front) -> Vector:
    """The preference to train for next.

    The unit vectors come first, then corners by the room that is left there, and where none is
    left the preference of a fixed set that lies furthest from all visited ones.

    Args:
        visited: preferences that were trained for, (run, objective), any number.
        values: known returns, (point, objective), any number.

    Returns:
        Shape (objective,), on the simplex.
    """
    num_objectives = visited.shape[1]
    for unit in np.eye(num_objectives):
        if not _is_among(unit, visited):
            return unit
    if len(values):
        corners = corner_weights(values)
        new = np.array([not _is_among(corner, visited) for corner in corners], np.bool_)
        corners = corners[new]
        room = np.array([improvement(corner, visited, values) for corner in corners])
        if len(room) and room.max() > LEAST_IMPROVEMENT * max(float(np.ptp(values)), SAME):
            return np.asarray(corners[int(room.argmax())])
    return _furthest(visited)


def corner_weights(values: Front) -> Front:
    """Preferences at which the best of the known values changes, the ends of the simplex included.

    They are the vertices of the region above ``max over points of w . value``, seen from above;
    equation 2 of the paper.

    Args:
        values: (point, objective), at least one point.

    Returns:
        Shape (corner, objective), in lexicographic order.
    """
    # Loaded where it is needed: the registry imports this module for every agent.
    from scipy.spatial import HalfspaceIntersection, QhullError

    num_objectives = values.shape[1]
    if num_objectives == 1:
        return np.ones((1, 1))
    # A common shift and scale move no corner.
    scaled = np.unique((values - values.min()) / max(float(np.ptp(values)), SAME), axis=0)
    ceiling = 3.0
    free = num_objectives - 1
    last = scaled[:, -1:]
    # Rows (a, b) with a . (w_1 .. w_free, v) + b <= 0; the last coordinate is 1 minus the others.
    above = np.hstack([scaled[:, :-1] - last, -np.ones_like(last), last])
    positive = np.hstack([-np.eye(free), np.zeros((free, 2))])
    rest = np.append(np.ones(free), [0.0, -1.0])
    capped = np.append(np.zeros(free), [1.0, -ceiling])
    inside = np.append(np.full(free, 1.0 / num_objectives), 2.0)
    halfspaces = np.vstack([above, positive, rest, capped])
    try:
        vertices = HalfspaceIntersection(halfspaces, inside).intersections
    except QhullError:  # many planes through one point: moved apart by rounding errors
        vertices = HalfspaceIntersection(halfspaces, inside, qhull_options="QJ").intersections
    below = vertices[vertices[:, -1] < ceiling - 0.5, :-1]
    corners = np.clip(np.hstack([below, 1.0 - below.sum(axis=1, keepdims=True)]), 0.0, None)
    corners /= corners.sum(axis=1, keepdims=True)
    return np.unique(corners.round(9), axis=0)


def improvement(corner: Vector, visited: Front, values: Front) -> float:
    """Most by which a policy yet unknown can beat the known ones at a preference.

    It supposes that the known values are optimal where they were sought: a linear programme,
    section 5.2 of the paper.

    Returns:
        At least 0; infinite where nothing bounds it.
    """
    from scipy.optimize import linprog

    reached = (visited @ values.T).max(axis=1)
    solved = linprog(-corner, A_ub=visited, b_ub=reached, bounds=(None, None), method="highs")
    if solved.x is None:
        return float("inf")
    return max(0.0, float(-solved.fun - (values @ corner).max()))


def _is_among(preference: Vector, visited: Front) -> bool:
    return bool((np.abs(visited - preference) <= SAME).all(axis=1).any())


def _furthest(visited: Front) -> Vector:
    num_objectives = visited.shape[1]
    if num_objectives <= SOBOL_OBJECTIVES:
        candidates = sobol_simplex(num_objectives, 1024)
    else:
        candidates = lattice(num_objectives, 2)
    if not len(visited):
        return np.asarray(candidates[0])
    gaps: NDArray[np.float64] = np.min(
        [np.abs(candidates - preference).sum(axis=1) for preference in visited], axis=0
    )
    return np.asarray(candidates[int(gaps.argmax())])
