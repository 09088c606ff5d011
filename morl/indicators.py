"""How good is a set of returns? Everything is maximised; functions of points, never of policies.

Hypervolume and expected utility are what the suite ranks by. The indicators that need a reference
front are for environments whose front is known. Sparsity is here to reproduce papers.

Indicators that sum or compare distances over objectives depend on the units: scale the points by
the environment's box first (`normalise`). An empty front is ``np.empty((0, num_objectives))``; each
function states its value for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.pareto import RELATIVE_TOLERANCE, as_points, nondominated, unique
from morl.preferences import check_preferences, sobol_simplex
from morl.types import Front, MorlError, Vector

EXACT_STEPS = 100_000_000
"""Steps of the exact recursion before an approximation takes over: about two seconds."""

NORMALISED_REFERENCE = -0.1
"""Reference coordinate of `normalised_hypervolume`, in box units."""

_RECURSIVE_OBJECTIVES = 6
_REPLICATES = 32
_SAMPLES_PER_REPLICATE = 8_192
_PAIRS_AT_ONCE = 4_000_000


class IndicatorError(MorlError, ValueError):
    """Points, a reference or preferences that no indicator can be computed from."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A hypervolume and how it was found.

    Attributes:
        value: product of the objectives' units.
        standard_error: of the value, same unit; 0 if it is exact.
        method: how the volume was computed, with its sample size if it is an approximation.
        num_outside: points that are not better than the reference point in every objective and
            therefore add nothing.
        num_unique: different points among all, at a relative tolerance of 1e-9.
    """

    value: float
    standard_error: float
    method: str
    num_outside: int
    num_unique: int


# Hypervolume


def hypervolume(
    points: ArrayLike, reference_point: ArrayLike, *, max_steps: int = EXACT_STEPS
) -> Estimate:
    """Volume of the space that the points dominate, above the reference point.

    Exact up to five objectives by moocore; from six by the WFG recursion of `morl.wfg` until it
    has used `max_steps`. Then it is a mean of 32 seeded Monte-Carlo estimates by
    ``moocore.hv_approx`` with 262,144 samples in all, and `standard_error` is theirs. The value
    does not depend on the order of the points, bit for bit.

    Args:
        points: shape (point, objective).
        reference_point: shape (objective,).
        max_steps: see `EXACT_STEPS`; 0 asks for the approximation at six objectives or more.

    Returns:
        The volume; 0 for an empty front and where no point beats the reference point.

    Raises:
        IndicatorError: wrong shape or not finite.
    """
    table = _points(points)
    reference = _corner(reference_point, table.shape[1], "reference_point")
    (replicates,), method = _volumes([table], reference, max_steps=max_steps)
    return _estimate(table, reference, replicates.mean(), _standard_error(replicates), method)


def jackknife_hypervolume(
    episode_returns: ArrayLike, reference_point: ArrayLike, *, max_steps: int = EXACT_STEPS
) -> Estimate:
    """Hypervolume of mean returns, corrected for the noise of evaluation.

    Noise inflates the hypervolume of sample means, as it inflates any maximum. Leaving out one
    episode at a time shows how much; extrapolation to infinitely many episodes removes the term
    of order 1/E (Quenouille, 1956): ``E * hv - (E - 1) * mean(hv without episode e)``. It does
    not repair the bias of having *chosen* the solutions by the same episodes.

    Args:
        episode_returns: shape (solution, episode, objective), at least two episodes; episode e of
            all solutions is left out together.
        reference_point: shape (objective,).
        max_steps: as in `hypervolume`, for all E + 1 volumes together.

    Returns:
        The corrected volume, which can be slightly negative near 0, with the jackknife's standard
        error (plus that of an approximation); `num_outside` and `num_unique` speak of the means.
        0 for no solutions.

    Raises:
        IndicatorError: wrong shape, fewer than two episodes, or not finite.
    """
    returns = _episode_returns(episode_returns)
    reference = _corner(reference_point, returns.shape[2], "reference_point")
    episodes = returns.shape[1]
    means = returns.mean(axis=1)
    leave_one_out = [
        np.delete(returns, episode, axis=1).mean(axis=1) for episode in range(episodes)
    ]
    volumes, method = _volumes([means, *leave_one_out], reference, max_steps=max_steps)
    corrected = episodes * volumes[0] - (episodes - 1) * volumes[1:].mean(axis=0)
    spread = (episodes - 1) * volumes[1:].mean(axis=1).var()
    error = math.hypot(math.sqrt(spread), _standard_error(corrected))
    method = f"jackknife of {episodes} episodes, {method}"
    return _estimate(means, reference, corrected.mean(), error, method)


def normalised_hypervolume(
    points: ArrayLike, box: tuple[ArrayLike, ArrayLike], *, max_steps: int = EXACT_STEPS
) -> Estimate:
    """Hypervolume in units of a box, above -0.1 in every objective.

    Comparable between objectives of different size, not between environments. The upper corner
    alone has ``1.1 ** num_objectives``.

    Args:
        points: shape (point, objective).
        box: lower and upper corner, each of shape (objective,); fixed with the environment, never
            taken from the results to be compared.
        max_steps: as in `hypervolume`.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty box.
    """
    table = normalise(points, box)
    reference = np.full(table.shape[1], NORMALISED_REFERENCE)
    return hypervolume(table, reference, max_steps=max_steps)


def hypervolume_ratio(
    points: ArrayLike, reference_front: ArrayLike, reference_point: ArrayLike
) -> float:
    """Hypervolume as a share of that of a reference front.

    Returns:
        0 for an empty front; above 1 if the points beat the reference front.

    Raises:
        IndicatorError: wrong shape, not finite, or a reference front without volume.
    """
    whole = hypervolume(reference_front, reference_point).value
    if whole <= 0.0:
        raise IndicatorError("reference_front: no point of it is better than the reference point")
    return hypervolume(points, reference_point).value / whole


def normalise(points: ArrayLike, box: tuple[ArrayLike, ArrayLike]) -> Front:
    """Express points in units of a box: its lower corner becomes 0, its upper corner 1.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty box.
    """
    table = _points(points)
    lower = _corner(box[0], table.shape[1], "box, lower corner")
    upper = _corner(box[1], table.shape[1], "box, upper corner")
    if not (lower < upper).all():
        raise IndicatorError(f"box: is empty: {lower.tolist()} to {upper.tolist()}")
    return (table - lower) / (upper - lower)


# Utility


def expected_utility(points: ArrayLike, preferences: ArrayLike | None = None) -> float:
    """Mean utility of a user who picks the best point for a linear preference.

    The best point is picked knowing its return; an agent that must pick by itself is measured by
    `conditioned_utility`. Points off the convex hull add nothing.

    Args:
        points: shape (point, objective).
        preferences: shape (preference, objective); by default the uniform distribution over the
            simplex: exactly in two objectives, by the stored set of 4,096 preferences
            (`morl.preferences.sobol_simplex`) in up to ten.

    Returns:
        -inf for an empty front.

    Raises:
        IndicatorError: wrong shape or not finite.
        PreferenceError: not on the simplex, or no stored set of that many objectives.
    """
    table = _points(points)
    if preferences is None and table.shape[1] == 2:
        return expected_utility_exact_2d(table)
    return float(_best_utilities(table, _preferences(preferences, table.shape[1])).mean())


def expected_utility_exact_2d(points: ArrayLike) -> float:
    """Expected utility in two objectives under uniform preferences, without sampling.

    Integrates the upper envelope of the lines that give each point's utility against the weight
    of the first objective.

    Args:
        points: shape (point, 2).

    Returns:
        -inf for an empty front.

    Raises:
        IndicatorError: wrong shape or not finite.
    """
    table = _points(points)
    if table.shape[1] != 2:
        raise IndicatorError(f"points: expected two objectives, got {table.shape[1]}")
    if not len(table):
        return -math.inf
    hull = _upper_envelope(table[nondominated(table)])
    slope, height = hull[:, 0] - hull[:, 1], hull[:, 1]
    crossings = -np.diff(height) / np.diff(slope)
    edges = np.concatenate(([0.0], crossings, [1.0]))
    widths, middles = np.diff(edges), (edges[:-1] + edges[1:]) / 2.0
    return float(np.sum(widths * (height + slope * middles)))


def conditioned_utility(points: ArrayLike, preferences: ArrayLike) -> float:
    """Mean utility of an agent that chose a point for each preference by itself.

    `expected_utility` of the same points less this is the regret of the agent's choice.

    Args:
        points: shape (preference, objective): the return reached for each preference.
        preferences: shape (preference, objective).

    Raises:
        IndicatorError: wrong shape or not finite, or not one point a preference.
        PreferenceError: not on the simplex.
    """
    table = _points(points)
    weights = check_preferences(preferences, num_objectives=table.shape[1])
    if len(weights) != len(table):
        raise IndicatorError(f"points: {len(table)} for {len(weights)} preferences")
    return float(np.einsum("po,po->p", table, weights).mean())


def maximum_utility_loss(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Largest loss of linear utility, over all preferences, from having `points` only.

    Exact, by linear programming; see `worst_preference`.

    Returns:
        Negative if the points are better for every preference; inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    return worst_preference(points, reference_front)[0]


def worst_preference(points: ArrayLike, reference_front: ArrayLike) -> tuple[float, Vector]:
    """The largest loss of linear utility and the preference that suffers it.

    For a point r of the reference front the loss is the largest t such that some preference w has
    ``w @ (r - f) >= t`` for every point f: a linear program. One point f bounds t by
    ``max(r - f)``; reference points whose bound is below the loss found already are skipped.

    Args:
        points: shape (point, objective).
        reference_front: shape (reference, objective), at least one.

    Returns:
        Loss in the objectives' unit and preference of shape (objective,). An empty front loses
        inf, at equal weights.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    num_objectives = table.shape[1]
    worst, preference = -math.inf, np.full(num_objectives, 1.0 / num_objectives)
    if not len(table):
        return math.inf, preference
    table = table[nondominated(table)]
    bounds = _over_pairs(front, table, lambda excess: excess.max(axis=-1)).min(axis=1)
    for index in np.argsort(-bounds, kind="stable"):
        if bounds[index] <= worst:
            break
        loss, weights = _largest_loss(front[index], table)
        if loss > worst:
            worst, preference = loss, weights
    return worst, preference


def expected_utility_loss(
    points: ArrayLike, reference_front: ArrayLike, preferences: ArrayLike | None = None
) -> float:
    """Mean loss of linear utility from having `points` only; preferences as `expected_utility`.

    Returns:
        Negative if the points are better on average; inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
        PreferenceError: as `expected_utility`.
    """
    table, front = _against(points, reference_front)
    return expected_utility(front, preferences) - expected_utility(table, preferences)


def r2(points: ArrayLike, utopian_point: ArrayLike, preferences: ArrayLike | None = None) -> float:
    """Mean weighted Chebyshev distance from a utopian point, of the best point each.

    The mean over preferences w of ``min over points f of max over j of w_j (u_j - f_j)`` (Hansen
    and Jaszkiewicz, 1998). Lower is better; it sees points off the convex hull.

    Args:
        points: shape (point, objective).
        utopian_point: shape (objective,), at least as good as anything to be compared.
        preferences: shape (preference, objective); by default the stored set of 4,096.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape or not finite.
        PreferenceError: as `expected_utility`.
    """
    table = _points(points)
    distance = _corner(utopian_point, table.shape[1], "utopian_point") - table
    weights = _preferences(preferences, table.shape[1])
    if not len(table):
        return math.inf
    rows = max(1, _PAIRS_AT_ONCE // distance.size)
    nearest = [
        (weights[start : start + rows, None, :] * distance).max(axis=2).min(axis=1)
        for start in range(0, len(weights), rows)
    ]
    return float(np.concatenate(nearest).mean())


# Distance from a reference front


def igd(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Mean distance from a reference point to the nearest point (inverted generational distance).

    Lower is better. Not Pareto-compliant: a dominated front can have the lower value; `igd_plus`
    is the one to use.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    return _mean_nearest(_over_pairs(front, table, _length))


def igd_plus(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Mean shortfall from a reference point to the point that falls short least.

    As `igd`, but only objectives in which the point is worse count (Ishibuchi et al., 2015).
    Lower is better; weakly Pareto-compliant.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    return _mean_nearest(_over_pairs(front, table, _positive_length))


def gd(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Mean distance from a point to the nearest reference point (generational distance).

    Lower is better. Blind to coverage, and a point beyond the front counts against the set.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    return _mean_nearest(_over_pairs(table, front, _length))


def gd_plus(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Mean shortfall of a point from the reference point that it falls short of least.

    As `gd`, but only objectives in which the point is worse count. Lower is better; blind to
    coverage.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    return _mean_nearest(_over_pairs(table, front, lambda excess: _positive_length(-excess)))


def hausdorff_plus(points: ArrayLike, reference_front: ArrayLike) -> float:
    """The larger of `gd_plus` and `igd_plus`: averaged Hausdorff distance of shortfalls.

    The d_H of OP-GFlowNets (Chen and Mauch, 2023). Lower is better.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    return max(gd_plus(points, reference_front), igd_plus(points, reference_front))


def epsilon_additive(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Smallest number that, added to every point, makes the set cover the reference front.

    Lower is better; weakly Pareto-compliant (Zitzler et al., 2003).

    Returns:
        Negative if the set covers the front with room to spare; inf for an empty front.

    Raises:
        IndicatorError: wrong shape, not finite, or an empty reference front.
    """
    table, front = _against(points, reference_front)
    shortfall = _over_pairs(front, table, lambda excess: excess.max(axis=-1))
    return float(shortfall.min(axis=1, initial=math.inf).max())


def epsilon_multiplicative(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Smallest factor by which every point must be multiplied to cover the reference front.

    Lower is better, 1 if the front is just covered.

    Returns:
        inf for an empty front.

    Raises:
        IndicatorError: as `epsilon_additive`, and for coordinates that are not positive.
    """
    table, front = _against(points, reference_front)
    for name, values in (("points", table), ("reference_front", front)):
        if (values <= 0.0).any():
            raise IndicatorError(f"{name}: a factor needs positive coordinates, use the additive")
    return math.exp(epsilon_additive(np.log(table), np.log(front)))


# Shape of the front


def cardinality(points: ArrayLike, *, tolerance: float = RELATIVE_TOLERANCE) -> int:
    """Number of different nondominated points; no ranking metric, for noise moves it.

    Args:
        points: shape (point, objective).
        tolerance: see `morl.pareto.unique`.

    Returns:
        0 for an empty front.

    Raises:
        IndicatorError: wrong shape or not finite.
    """
    return int(nondominated(_points(points), tolerance=tolerance).sum())


def sparsity(points: ArrayLike) -> float:
    """Mean squared gap between neighbours, as PGMORL and C-MORL print it. Not a ranking metric.

    The squared gaps between consecutive values of each objective, summed over objectives, by the
    number of points less one (Xu et al., 2020). Of all points as given: duplicates and dominated
    points lower it, as does any clustering. Low is called good, yet a front that is dominated has
    the lower sparsity more often than not.

    Args:
        points: shape (point, objective).

    Returns:
        In the objectives' squared units; 0 for fewer than two points, as in the papers.

    Raises:
        IndicatorError: wrong shape or not finite.
    """
    table = _points(points)
    if len(table) < 2:
        return 0.0
    return float(np.square(np.diff(np.sort(table, axis=0), axis=0)).sum() / (len(table) - 1))


def sparsity_deduplicated(points: ArrayLike, *, tolerance: float = RELATIVE_TOLERANCE) -> float:
    """`sparsity` of the different nondominated points. Not a ranking metric either.

    Args:
        points: shape (point, objective).
        tolerance: see `morl.pareto.unique`.

    Returns:
        0 for fewer than two such points.

    Raises:
        IndicatorError: wrong shape or not finite.
    """
    table = _points(points)
    return sparsity(table[nondominated(table, tolerance=tolerance)])


# Below: how it is done


def _points(points: ArrayLike, name: str = "points") -> Front:
    return as_points(points, name=name, error=IndicatorError)


def _corner(corner: ArrayLike, num_objectives: int, name: str) -> Vector:
    vector = np.asarray(corner, dtype=np.float64)
    if vector.shape != (num_objectives,):
        raise IndicatorError(
            f"{name}: expected {num_objectives} coordinates, got shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise IndicatorError(f"{name}: not finite: {vector.tolist()}")
    return vector


def _against(points: ArrayLike, reference_front: ArrayLike) -> tuple[Front, Front]:
    table, front = _points(points), _points(reference_front, "reference_front")
    if not len(front):
        raise IndicatorError("reference_front: is empty, there is nothing to compare with")
    if front.shape[1] != table.shape[1]:
        raise IndicatorError(
            f"reference_front: {front.shape[1]} objectives, but the points have {table.shape[1]}"
        )
    return table, front


def _episode_returns(episode_returns: ArrayLike) -> NDArray[np.float64]:
    try:
        returns = np.asarray(episode_returns, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise IndicatorError(f"episode_returns: not a table of numbers: {cause}") from cause
    if returns.ndim != 3 or returns.shape[2] < 1:
        raise IndicatorError(
            f"episode_returns: expected shape (solution, episode, objective), got {returns.shape}"
        )
    if returns.shape[1] < 2:
        raise IndicatorError(
            f"episode_returns: the jackknife needs at least 2 episodes, got {returns.shape[1]}"
        )
    finite = np.isfinite(returns)
    if not finite.all():
        solution, episode, objective = np.argwhere(~finite)[0]
        raise IndicatorError(
            f"episode_returns: {returns[solution, episode, objective]} in solution {solution},"
            f" episode {episode}, objective {objective}"
        )
    return returns


def _estimate(
    table: Front, reference: Vector, value: float, standard_error: float, method: str
) -> Estimate:
    inside = (table > reference).all(axis=1)
    return Estimate(
        value=float(value),
        standard_error=float(standard_error),
        method=method,
        num_outside=int(np.count_nonzero(~inside)),
        num_unique=len(unique(table)),
    )


def _volumes(
    fronts: list[Front], reference: Vector, *, max_steps: int
) -> tuple[NDArray[np.float64], str]:
    """Hypervolumes of shape (front, replicate), and the method; exact ones have one replicate.

    All by the same method: a jackknife would multiply the difference between two.
    """
    shifted = [_above(front, reference) for front in fronts]
    if len(reference) < _RECURSIVE_OBJECTIVES:
        zero = np.zeros(len(reference))
        exact = [
            moocore.hypervolume(front, ref=zero, maximise=True) if len(front) else 0.0
            for front in shifted
        ]
        return np.array(exact)[:, None], "exact, moocore"
    volumes = _recursive_volumes(shifted, max_steps)
    if volumes is not None:
        return volumes[:, None], "exact, WFG"
    samples = _REPLICATES * _SAMPLES_PER_REPLICATE
    return (
        np.array([_sampled_volumes(front) for front in shifted]),
        f"approximate, moocore DZ2019-MC, {samples} samples",
    )


def _standard_error(replicates: Vector) -> float:
    if len(replicates) < 2:
        return 0.0
    return float(replicates.std(ddof=1)) / math.sqrt(len(replicates))


def _above(front: Front, reference: Vector) -> Front:
    """Nondominated points above the reference point, which becomes the origin, in a fixed order."""
    inside = front[(front > reference).all(axis=1)] - reference
    inside = inside[nondominated(inside)]
    return inside[np.lexsort(inside.T)]


def _recursive_volumes(fronts: list[Front], max_steps: int) -> Vector | None:
    from morl.wfg import exact_hypervolume  # loads Numba, which takes longer than most fronts

    share = max_steps // len(fronts)
    volumes = np.zeros(len(fronts))
    for index, front in enumerate(fronts):
        volume = exact_hypervolume(front, budget=share)
        if volume is None:
            return None
        volumes[index] = volume
    return volumes


def _sampled_volumes(front: Front) -> Vector:
    """Independent estimates of one volume; the same seeds for every front."""
    if not len(front):
        return np.zeros(_REPLICATES)
    # Rays in all directions hit a front of very unequal objectives at its long end only.
    scale = front.max(axis=0)
    estimates = [
        moocore.hv_approx(
            front / scale,
            ref=np.zeros(len(scale)),
            maximise=True,
            nsamples=_SAMPLES_PER_REPLICATE,
            seed=seed,
            method="DZ2019-MC",
        )
        for seed in range(_REPLICATES)
    ]
    volumes: Vector = np.array(estimates) * scale.prod()
    return volumes


def _preferences(preferences: ArrayLike | None, num_objectives: int) -> Front:
    if preferences is None:
        return sobol_simplex(num_objectives)
    return check_preferences(preferences, num_objectives=num_objectives)


def _best_utilities(table: Front, weights: Front) -> Vector:
    """Utility of the best point for each preference; -inf without points."""
    best = np.full(len(weights), -math.inf)
    rows = max(1, _PAIRS_AT_ONCE // len(weights))
    for start in range(0, len(table), rows):
        utilities = weights @ table[start : start + rows].T
        np.maximum(best, utilities.max(axis=1), out=best)
    return best


def _upper_envelope(front: Front) -> Front:
    """Nondominated points that are best for some preference, ascending in the first objective."""
    hull: list[Vector] = []
    for point in front[np.argsort(front[:, 0])]:
        while len(hull) >= 2 and _turns_left(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array(hull)


def _turns_left(first: Vector, second: Vector, third: Vector) -> bool:
    """Whether `second` is on or below the line from `first` to `third`."""
    run, rise = second - first
    total_run, total_rise = third - first
    return bool(rise * total_run <= total_rise * run)


def _largest_loss(target: Vector, table: Front) -> tuple[float, Vector]:
    """Largest t with ``w @ (target - f) >= t`` for all f and some preference w, and that w."""
    from scipy.optimize import linprog  # a third of a second, for one indicator

    excess = target - table
    scale = float(np.abs(excess).max())
    if scale == 0.0:
        return 0.0, np.full(len(target), 1.0 / len(target))
    num_objectives = len(target)
    solution = linprog(
        np.append(np.zeros(num_objectives), -1.0),
        A_ub=np.column_stack([-excess / scale, np.ones(len(table))]),
        b_ub=np.zeros(len(table)),
        A_eq=np.append(np.ones(num_objectives), 0.0)[None, :],
        b_eq=[1.0],
        bounds=[(0.0, 1.0)] * num_objectives + [(None, None)],
        method="highs",
    )
    if solution.status != 0:
        raise IndicatorError(f"maximum utility loss: no solution found: {solution.message}")
    weights = np.clip(solution.x[:num_objectives], 0.0, None)
    weights /= weights.sum()
    # The loss of that preference, not the solver's objective: a true lower bound to the last bit.
    return float((excess @ weights).min()), weights


def _over_pairs(
    rows: Front, columns: Front, measure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Measure ``row - column`` for all pairs; shape (row, column), computed in blocks.

    Args:
        rows: shape (row, objective).
        columns: shape (column, objective).
        measure: reduces the last axis of an array of shape (row, column, objective).
    """
    measured = np.empty((len(rows), len(columns)))
    block = max(1, _PAIRS_AT_ONCE // max(1, columns.size))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        measured[part] = measure(rows[part, None, :] - columns[None, :, :])
    return measured


def _length(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.linalg.norm(excess, axis=-1)
    return length


def _positive_length(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    return _length(np.maximum(excess, 0.0))


def _mean_nearest(distances: NDArray[np.float64]) -> float:
    """Mean over rows of the smallest entry; inf without rows or columns."""
    if not distances.size:
        return math.inf
    return float(distances.min(axis=1).mean())
