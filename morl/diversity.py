"""What samplers of objects are judged by besides a front: spread, variety and obedience.

Indicators of fronts see the best samples alone. These look at all of them: how evenly they lie
along the front, how good and how different the best are, and whether a sampler gives what it was
asked for. Pure functions of arrays; everything is maximised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.pareto import as_points
from morl.types import Front, MorlError

Table = NDArray[np.float64]

_ROWS_AT_ONCE = 2_000_000
"""Most numbers of a table of distances."""


class DiversityError(MorlError, ValueError):
    """Samples of which a measure cannot be taken."""


def pc_entropy(points: ArrayLike, references: ArrayLike) -> float:
    """Entropy of the reference points to which samples are nearest (PC-ent), in nats.

    ``-sum_k p_k ln p_k`` with p_k the share of samples whose nearest reference point is k (Roy et
    al., arXiv:2306.04620). Higher is better: samples are spread; the most is the logarithm of the
    number of reference points. It does not say whether samples are good.

    Args:
        points: values of samples, (sample, objective).
        references: points to be covered: the exact front, or `cube_faces`.

    Raises:
        DiversityError: wrong shapes, no samples or no reference points.
    """
    table = _samples(points)
    centres = as_points(references, name="references", error=DiversityError)
    if table.shape[1] != centres.shape[1] or not len(centres):
        raise DiversityError(
            f"references: expected (point, {table.shape[1]}) with at least one point, got "
            f"{centres.shape}"
        )
    rows = max(1, _ROWS_AT_ONCE // centres.size)
    nearest = [
        np.square(table[start : start + rows, None] - centres).sum(axis=2).argmin(axis=1)
        for start in range(0, len(table), rows)
    ]
    counts = np.bincount(np.concatenate(nearest))
    shares = counts[counts > 0] / len(table)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def cube_faces(num_objectives: int, per_axis: int = 10) -> Front:
    """Grid points of the unit cube with a coordinate of one: references where no front is known.

    Args:
        num_objectives: dimensions of the cube.
        per_axis: grid points along each, at least 2.

    Returns:
        Shape (point, objective); ``n^d - (n - 1)^d`` points, 19, 271 and 3,439 of 2, 3 and 4
        objectives.

    Raises:
        DiversityError: a number out of range.
    """
    if num_objectives < 1 or per_axis < 2:
        raise DiversityError(
            f"cube_faces: needs an objective and two points an axis, got {num_objectives} and "
            f"{per_axis}"
        )
    steps = np.indices((per_axis,) * num_objectives).reshape(num_objectives, -1).T
    faces = steps[(steps == per_axis - 1).any(axis=1)]
    return np.asarray(faces / (per_axis - 1))


def top_k_reward(rewards: ArrayLike, k: int = 10) -> float:
    """Mean of the best rewards of each preference, averaged over preferences.

    Rewards are scalarised objectives without an exponent (Jain et al., arXiv:2210.12765: k = 10 of
    128 samples a preference).

    Args:
        rewards: (preference, sample).
        k: how many of each preference.

    Raises:
        DiversityError: wrong shape, not finite, or fewer than k samples.
    """
    table = _rewards(rewards, k)
    return float(np.partition(table, -k, axis=1)[:, -k:].mean())


def top_k_diversity(rewards: ArrayLike, distances: ArrayLike, k: int = 10) -> float:
    """Mean distance between the samples of the best rewards of each preference.

    Of equal rewards the earlier sample counts as better. Equal samples are 0 apart, so that
    repeating the best one is no variety.

    Args:
        rewards: (preference, sample).
        distances: between the samples of a preference, (preference, sample, sample).
        k: how many of each preference, at least 2.

    Raises:
        DiversityError: wrong shapes, not finite, or fewer than k samples.
    """
    table = _rewards(rewards, k)
    apart = np.asarray(distances, np.float64)
    if k < 2:
        raise DiversityError(f"k must be at least 2: one sample has no distance, got {k}")
    if apart.shape != (*table.shape, table.shape[1]):
        raise DiversityError(
            f"distances: expected (preference, sample, sample) = {(*table.shape, table.shape[1])}, "
            f"got {apart.shape}"
        )
    best = np.argsort(-table, axis=1, kind="stable")[:, :k]
    means = [
        mean_pairwise_distance(one[np.ix_(chosen, chosen)])
        for one, chosen in zip(apart, best, strict=True)
    ]
    return float(np.mean(means))


def mean_pairwise_distance(distances: ArrayLike) -> float:
    """Mean over all pairs of different samples.

    Args:
        distances: symmetric, (sample, sample).

    Raises:
        DiversityError: not square, fewer than two samples, or not finite.
    """
    table = np.asarray(distances, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise DiversityError(
            f"distances: expected (sample, sample) of at least two samples, got {table.shape}"
        )
    if not np.isfinite(table).all():
        raise DiversityError("distances: not all are finite")
    upper = np.triu_indices(len(table), 1)
    return float(table[upper].mean())


def diverse_top_k_reward(
    rewards: ArrayLike, distances: ArrayLike, *, threshold: float, k: int = 10
) -> float:
    """Mean of the best rewards of samples that are all far enough from each other.

    From the best down, a sample is taken if it is at least `threshold` from all that were taken
    before. If there are fewer than k such samples, the missing ones count as zero.

    Args:
        rewards: not negative, (sample,).
        distances: (sample, sample).
        threshold: least distance.
        k: how many.

    Raises:
        DiversityError: wrong shapes or not finite.
    """
    table = _rewards(np.asarray(rewards, np.float64)[None], 1)[0]
    apart = np.asarray(distances, np.float64)
    if apart.shape != (len(table), len(table)):
        raise DiversityError(
            f"distances: expected (sample, sample) = {(len(table),) * 2}, got {apart.shape}"
        )
    taken: list[int] = []
    for index in np.argsort(-table, kind="stable").tolist():
        if len(taken) < k and (apart[index, taken] >= threshold).all():
            taken.append(index)
    return float(table[taken].sum() / k)


def condition_correlation(conditions: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean over objectives of the correlation of what was asked for with what came (Avg-PCC).

    Pearson's coefficient of preference (or goal) and value of each objective (Roy et al.,
    arXiv:2306.04620); 1 is perfect obedience. An objective that never varies, in the conditions or
    in the outcomes, counts as 0.

    Args:
        conditions: preferences or goal directions, (sample, objective).
        outcomes: values of the samples, (sample, objective).

    Raises:
        DiversityError: wrong shapes, not finite, or fewer than two samples.
    """
    asked = as_points(conditions, name="conditions", error=DiversityError)
    came = _samples(outcomes)
    if asked.shape != came.shape or len(came) < 2:
        raise DiversityError(
            f"expected two or more conditions and outcomes of one shape, got {asked.shape} and "
            f"{came.shape}"
        )
    asked, came = asked - asked.mean(axis=0), came - came.mean(axis=0)
    scale = np.sqrt(np.square(asked).sum(axis=0) * np.square(came).sum(axis=0))
    together = (asked * came).sum(axis=0)
    defined = scale > 1e-12
    return float(np.where(defined, together / np.where(defined, scale, 1.0), 0.0).mean())


def _samples(points: ArrayLike) -> Front:
    table = as_points(points, error=DiversityError)
    if not len(table):
        raise DiversityError("points: there are no samples")
    return table


def _rewards(rewards: ArrayLike, k: int) -> Table:
    table = as_points(rewards, name="rewards", error=DiversityError)
    if not 1 <= k <= table.shape[1] or not len(table):
        raise DiversityError(
            f"rewards: expected (preference, sample) with at least k = {k} samples, k positive, "
            f"got {table.shape}"
        )
    return table
