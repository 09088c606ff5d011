"""Which of a population survive: four ways to choose, as pure functions.

By rank and crowding, reference directions, decomposition, or hypervolume. Everything is maximised.
Copies of a return (other genomes that earn the same) come last in all of them but decomposition:
a population of copies finds nothing new.
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

from morl.archive import crowding_distance
from morl.types import Front

Indices = NDArray[np.intp]


def fronts_by_rank(returns: Front) -> list[Indices]:
    """Indices of the undominated, of those undominated without them, and so on; copies last.

    Args:
        returns: (policy, objective).

    Returns:
        Disjoint indices that cover all policies. All but the first of equal returns form a
        front of their own at the end, if there are any.
    """
    _, first = np.unique(returns, axis=0, return_index=True)
    unique = np.sort(first)
    ranks = np.asarray(moocore.pareto_rank(-returns[unique]))
    fronts = [unique[ranks == rank] for rank in np.unique(ranks)]
    copies = np.setdiff1d(np.arange(len(returns)), unique)
    return [*fronts, copies] if len(copies) else fronts


def split(returns: Front, count: int) -> tuple[Indices, Indices, int]:
    """The fronts that survive whole, the front that must be thinned, and how many of it survive."""
    whole: list[Indices] = []
    taken = 0
    for front in fronts_by_rank(returns):
        if taken + len(front) > count:
            return _joined(whole), front, count - taken
        whole.append(front)
        taken += len(front)
    return _joined(whole), np.zeros(0, np.intp), 0


def _joined(parts: list[Indices]) -> Indices:
    return np.concatenate(parts) if parts else np.zeros(0, np.intp)


def by_crowding(returns: Front, count: int) -> Indices:
    """Survivors by rank, then by crowding distance (Deb et al., NSGA-II, 2002).

    Args:
        returns: (policy, objective).
        count: survivors, at most the number of policies.
    """
    whole, last, missing = split(returns, count)
    if missing == 0:
        return whole
    distances = crowding_distance(returns[last])
    kept = np.argsort(-distances, kind="stable")[:missing]
    return np.concatenate([whole, last[kept]])


def by_directions(returns: Front, count: int, directions: Front) -> Indices:
    """Survivors by rank, then by reference directions with few (Deb and Jain, NSGA-III, 2014).

    Returns are normalised by the ideal point and the worst of the first front. Each policy belongs
    to the direction to which it is nearest; members are taken from the directions that have the
    fewest survivors, the nearest member first.

    Args:
        returns: (policy, objective).
        count: survivors, at most the number of policies.
        directions: rows on the simplex, (direction, objective).
    """
    whole, last, missing = split(returns, count)
    if missing == 0:
        return whole
    first = returns[fronts_by_rank(returns)[0]]
    ideal = first.max(axis=0)
    width = np.maximum(ideal - first.min(axis=0), 1e-12)
    candidates = np.concatenate([whole, last])
    shortfall = (ideal - returns[candidates]) / width
    nearest, distances = nearest_direction(shortfall, directions)
    members = np.bincount(nearest[: len(whole)], minlength=len(directions))
    chosen: list[int] = []
    open_ = np.ones(len(candidates), np.bool_)
    open_[: len(whole)] = False
    for _ in range(missing):
        crowd = members[nearest].astype(np.float64)
        key = np.lexsort((distances, np.where(open_, crowd, np.inf)))
        index = int(key[0])
        chosen.append(index)
        open_[index] = False
        members[nearest[index]] += 1
    return np.concatenate([whole, candidates[chosen]])


def nearest_direction(shortfall: Front, directions: Front) -> tuple[Indices, NDArray[np.float64]]:
    """Index of the direction nearest to each point, and the distance to its line.

    Args:
        shortfall: points, not negative where the ideal is the origin, (policy, objective).
        directions: (direction, objective).
    """
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = shortfall @ units.T
    squares = np.square(shortfall).sum(axis=1, keepdims=True) - np.square(along)
    distances = np.sqrt(np.maximum(squares, 0.0))
    nearest = distances.argmin(axis=1)
    return nearest, distances[np.arange(len(nearest)), nearest]


def chebyshev(returns: Front, weights: Front, ideal: NDArray[np.float64],
              width: NDArray[np.float64]) -> NDArray[np.float64]:  # fmt: skip
    """Weighted distances to the ideal, (weight, policy); small is good.

    The largest weighted shortfall, plus a hundredth of their sum so that dominated policies never
    win.

    Args:
        returns: (policy, objective).
        weights: (weight, objective).
        ideal: (objective,).
        width: range of each objective, positive, (objective,).
    """
    shortfall = (ideal - returns) / width
    weighted = weights[:, None] * shortfall[None]
    return np.asarray(weighted.max(axis=2) + 0.01 * weighted.sum(axis=2))


def by_decomposition(returns: Front, weights: Front, neighbours: NDArray[np.bool_]) -> Indices:
    """The best for each weight, of its own policy and the offspring of its neighbours.

    Zhang and Li, MOEA/D (2007), all subproblems at once.

    Args:
        returns: of the policies of the weights and then of their offspring, one each,
            (2 x weight, objective).
        weights: (weight, objective).
        neighbours: whether weights are neighbours, themselves included, (weight, weight).

    Returns:
        One index per weight.
    """
    count = len(weights)
    ideal, worst = returns.max(axis=0), returns.min(axis=0)
    floor = np.maximum(weights, 1e-3)  # a weight of zero would not tell policies apart
    distances = chebyshev(returns, floor, ideal, np.maximum(ideal - worst, 1e-12))
    allowed = np.concatenate([np.eye(count, dtype=np.bool_), neighbours], axis=1)
    best: Indices = np.where(allowed, distances, np.inf).argmin(axis=1)
    return best


def by_hypervolume(returns: Front, count: int) -> Indices:
    """Survivors by rank, then by how much hypervolume is lost without them.

    Bader and Zitzler, HypE (2011), with exact contributions; the least contributor goes first.
    Contributions are computed again after each for up to three objectives; for more, where they
    are costly, all that must go leave at once.

    Args:
        returns: (policy, objective).
        count: survivors, at most the number of policies.
    """
    whole, last, missing = split(returns, count)
    if missing == 0:
        return whole
    corner = returns.min(axis=0)
    width = np.maximum(returns.max(axis=0) - corner, 1e-12)
    points = (returns[last] - corner) / width
    kept = np.arange(len(last))
    while len(kept) > missing:
        contributions = np.asarray(moocore.hv_contributions(1.0 - points[kept], ref=1.1))
        leaving = 1 if returns.shape[1] <= 3 else len(kept) - missing
        kept = np.delete(kept, np.argsort(contributions, kind="stable")[:leaving])
    return np.concatenate([whole, last[kept]])
