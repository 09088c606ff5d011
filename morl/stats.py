"""How sure is a comparison? Aggregates over runs and tasks, and intervals around them.

Scores are arrays of shape (run, task), higher better; (run,) is one task. Runs of one task are
taken as independent draws, tasks as fixed: every bootstrap resamples runs within each task.
Randomness comes from the caller's generator alone.

With few runs no bootstrap interval keeps its promise: at a nominal 95 % and one task, a percentile
interval around the interquartile mean of normal scores covers 75 % of the time with 3 runs, 91 %
with 5 and 93 % with 10. The expanded percentile interval makes up for most of it from 5 runs on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.types import MorlError, Vector

Scores: TypeAlias = NDArray[np.float64]
"""Shape (run, task), or with more axes in front."""

Aggregate: TypeAlias = Scores | np.float64
"""A number, or an array of the axes that stood in front."""

Statistic: TypeAlias = Callable[[Scores], Aggregate]
"""Reduces the last two axes, (run, task), of an array."""

IntervalMethod = Literal["percentile", "bca", "expanded"]

_NUMBERS_AT_ONCE = 2_000_000


class StatisticsError(MorlError, ValueError):
    """Scores that no statistic can be computed from."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and a confidence interval.

    Attributes:
        estimate: of the scores themselves.
        low: lower end.
        high: upper end.
        confidence: nominal coverage, in (0, 1).
        method: how the interval was made.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True, kw_only=True)
class ProfileBand:
    """A performance profile with a band that holds the whole curve at once.

    Attributes:
        thresholds: shape (threshold,).
        profile: share of scores above each threshold, shape (threshold,).
        low: lower edge, at least 0.
        high: upper edge, at most 1.
        confidence: nominal coverage of the whole curve.
    """

    thresholds: Vector
    profile: Vector
    low: Vector
    high: Vector
    confidence: float


# Aggregates: each reduces the last two axes, (run, task), and refuses what is not finite.


def mean(scores: ArrayLike) -> Aggregate:
    """Mean of all scores."""
    return _reduced(_pooled(scores).mean(axis=-1))


def median(scores: ArrayLike) -> Aggregate:
    """Median of all scores."""
    return _reduced(np.median(_pooled(scores), axis=-1))


def median_of_task_means(scores: ArrayLike) -> Aggregate:
    """Median over tasks of the mean over runs (what rliable calls the median)."""
    return _reduced(np.median(_table(scores).mean(axis=-2), axis=-1))


def iqm(scores: ArrayLike) -> Aggregate:
    """Interquartile mean: the middle half of all scores, those at its edges by their share.

    Of {0, 1, 100} the middle half is the 1 and a quarter of each neighbour: 26 / 1.5 = 17.33.
    """
    ordered = np.sort(_pooled(scores), axis=-1)
    return _reduced(ordered @ _iqm_weights(ordered.shape[-1]))


def iqm_truncated(scores: ArrayLike) -> Aggregate:
    """Mean without the lowest and highest quarter, rounded down to whole scores.

    What ``scipy.stats.trim_mean(scores, 0.25)`` and rliable compute; of up to three scores it is
    the mean.
    """
    ordered = np.sort(_pooled(scores), axis=-1)
    count = ordered.shape[-1]
    return _reduced(ordered[..., count // 4 : count - count // 4].mean(axis=-1))


def optimality_gap(scores: ArrayLike, *, target: float = 1.0) -> Aggregate:
    """Mean shortfall from a target; a score above it counts as the target. Lower is better."""
    return _reduced(np.maximum(target - _pooled(scores), 0.0).mean(axis=-1))


# Intervals


def bootstrap(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
    method: IntervalMethod = "percentile",
) -> Interval:
    """Stratified bootstrap interval of a statistic: runs are resampled within each task.

    Args:
        scores: shape (run, task) or (run,), at least two runs.
        statistic: reduces the last two axes; called with many resamples at once.
        rng: source of randomness.
        confidence: nominal coverage, in (0, 1).
        num_resamples: number of resamples, at least 1.
        method: "percentile", or "bca": corrected for bias and skewness (Efron, 1987; the
            stratified acceleration of Davison and Hinkley, 1997), or "expanded": percentiles
            further out, as far as Student's interval is wider than the normal one, or a
            sample's deviation larger than its bootstrap's, whichever is more (after Hesterberg,
            2015, section 3.5, who multiplies the two; around the interquartile mean that
            covers too often). BCa asks that the statistic does not change when all scores are
            repeated equally often; `iqm_truncated` can.

    Raises:
        StatisticsError: fewer than two runs, not finite, or an argument out of range.
    """
    table = _runs_by_task(scores, "scores")

    def compute(rows: NDArray[np.intp]) -> Vector:
        return np.asarray(statistic(np.take_along_axis(table[None], rows, axis=1)))

    return _bootstrap_interval(
        compute,
        table.shape,
        rng=rng,
        confidence=confidence,
        num_resamples=num_resamples,
        method=method,
    )


def iqm_intervals(
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 20_000,
) -> list[Interval]:
    """Expanded bootstrap intervals around the interquartile means of many rows at once.

    Every row is resampled by the same draws. A resample of sorted scores is sorted like its
    draws, so its interquartile mean is one row of weights times the sorted scores.

    Args:
        scores: shape (row, run), at least two runs.
        rng: source of randomness.
        confidence: nominal coverage, in (0, 1).
        num_resamples: number of resamples, at least 1.

    Returns:
        One interval a row, as ``bootstrap(row, iqm, method="expanded")`` would give it.

    Raises:
        StatisticsError: as `bootstrap`.
    """
    table = _runs_by_task(np.transpose(_table(scores)), "scores").T
    _check_arguments(confidence, num_resamples)
    rows, runs = table.shape
    ordered = np.sort(table, axis=1)
    draws = np.sort(rng.integers(0, runs, size=(num_resamples, runs)), axis=1)
    weights = np.zeros((num_resamples, runs))
    for place, share in enumerate(_iqm_weights(runs)):
        weights[np.arange(num_resamples), draws[:, place]] += share
    levels = _expanded_levels(runs, 1, confidence)
    block = max(1, _NUMBERS_AT_ONCE // num_resamples)
    ends = np.concatenate(
        [
            np.quantile(weights @ ordered[start : start + block].T, levels, axis=0)
            for start in range(0, rows, block)
        ],
        axis=1,
    )
    return [
        Interval(
            estimate=float(estimate),
            low=float(low),
            high=float(high),
            confidence=confidence,
            method="expanded",
        )
        for estimate, low, high in zip(ordered @ _iqm_weights(runs), *ends, strict=True)
    ]


def paired_difference(
    scores: ArrayLike,
    other: ArrayLike,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
    method: IntervalMethod = "percentile",
) -> Interval:
    """Bootstrap interval of ``statistic(scores) - statistic(other)`` for runs that form pairs.

    Run i of both is resampled together, so what a pair shares (a seed, a context) cancels. For
    independent runs use `difference`.

    Args:
        scores: shape (run, task) or (run,), at least two runs.
        other: same shape; run i belongs with run i.
        statistic: as in `bootstrap`.
        rng: source of randomness.
        confidence: nominal coverage, in (0, 1).
        num_resamples: number of resamples, at least 1.
        method: as in `bootstrap`.

    Raises:
        StatisticsError: as `bootstrap`, and for different shapes.
    """
    one, two = _runs_by_task(scores, "scores"), _runs_by_task(other, "other")
    if one.shape != two.shape:
        raise StatisticsError(
            f"other: pairs need the shape of the scores, {one.shape}, got {two.shape}"
        )

    def compute(rows: NDArray[np.intp]) -> Vector:
        return np.asarray(
            statistic(np.take_along_axis(one[None], rows, axis=1))
            - statistic(np.take_along_axis(two[None], rows, axis=1))
        )

    return _bootstrap_interval(
        compute,
        one.shape,
        rng=rng,
        confidence=confidence,
        num_resamples=num_resamples,
        method=method,
    )


def difference(
    scores: ArrayLike,
    other: ArrayLike,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
) -> Interval:
    """Percentile bootstrap interval of ``statistic(scores) - statistic(other)``, runs independent.

    Args:
        scores: shape (run, task) or (run,), at least two runs.
        other: same tasks, any number of runs from two.
        statistic: as in `bootstrap`.
        rng: source of randomness.
        confidence: nominal coverage, in (0, 1).
        num_resamples: number of resamples, at least 1.

    Raises:
        StatisticsError: as `bootstrap`, and for different tasks.
    """
    one, two = _same_tasks(scores, other)
    _check_arguments(confidence, num_resamples)
    replicates = [
        np.concatenate(
            [
                np.asarray(statistic(np.take_along_axis(table[None], rows, axis=1)))
                for rows in _resampled_rows(table.shape, num_resamples, rng)
            ]
        )
        for table in (one, two)
    ]
    return _percentile_interval(
        float(statistic(one) - statistic(two)), replicates[0] - replicates[1], confidence
    )


def probability_of_improvement(scores: ArrayLike, other: ArrayLike) -> float:
    """Chance that a run of `scores` beats a run of `other` on a task, ties counting half.

    The mean over tasks of the share of pairs of runs: the Mann-Whitney statistic by task.

    Args:
        scores: shape (run, task) or (run,).
        other: same tasks, any number of runs.

    Raises:
        StatisticsError: not finite, or different tasks.
    """
    return float(_wins(*_same_tasks(scores, other, least_runs=1)).mean())


def improvement_interval(
    scores: ArrayLike,
    other: ArrayLike,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 50_000,
) -> Interval:
    """Percentile bootstrap interval of `probability_of_improvement`, runs independent.

    Args:
        scores: shape (run, task) or (run,), at least two runs.
        other: same tasks, any number of runs from two.
        rng: source of randomness.
        confidence: nominal coverage, in (0, 1).
        num_resamples: number of resamples, at least 1.

    Raises:
        StatisticsError: as `bootstrap`, and for different tasks.
    """
    one, two = _same_tasks(scores, other)
    _check_arguments(confidence, num_resamples)
    wins = _wins(one, two)
    replicates = np.zeros(num_resamples)
    for task_wins in wins:
        of_one = _resampled_counts(len(one), num_resamples, rng)
        of_two = _resampled_counts(len(two), num_resamples, rng)
        replicates += np.einsum("ri,ri->r", of_one @ task_wins, of_two)
    replicates /= wins.size
    return _percentile_interval(float(wins.mean()), replicates, confidence)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Vector:
    """Share of all scores above each threshold (Agarwal et al., 2021).

    Args:
        scores: shape (run, task) or (run,).
        thresholds: shape (threshold,).

    Returns:
        Shape (threshold,), in [0, 1].

    Raises:
        StatisticsError: not finite, or thresholds of another shape.
    """
    table = _runs_by_task(scores, "scores", least_runs=1)
    profile: Vector = _exceeds(table, thresholds).mean(axis=(0, 1))
    return profile


def performance_profile_band(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
) -> ProfileBand:
    """Performance profile with a simultaneous bootstrap band of constant width.

    The half-width is the quantile, over resamples, of the largest distance between the resampled
    profile and the profile itself.

    Args:
        scores: shape (run, task) or (run,), at least two runs.
        thresholds: shape (threshold,).
        rng: source of randomness.
        confidence: nominal coverage of the whole curve, in (0, 1).
        num_resamples: number of resamples, at least 1.

    Raises:
        StatisticsError: as `bootstrap`, and for thresholds of another shape.
    """
    table = _runs_by_task(scores, "scores")
    _check_arguments(confidence, num_resamples)
    exceeds = _exceeds(table, thresholds)
    profile = exceeds.mean(axis=(0, 1))
    replicates = np.zeros((num_resamples, len(profile)))
    for task in range(table.shape[1]):
        replicates += _resampled_counts(len(table), num_resamples, rng) @ exceeds[:, task]
    replicates /= table.size
    half_width = np.quantile(np.abs(replicates - profile).max(axis=1, initial=0.0), confidence)
    return ProfileBand(
        thresholds=np.asarray(thresholds, dtype=np.float64),
        profile=profile,
        low=np.maximum(profile - half_width, 0.0),
        high=np.minimum(profile + half_width, 1.0),
        confidence=confidence,
    )


def stratified_rank_test(scores: Sequence[ArrayLike], others: Sequence[ArrayLike]) -> float:
    """Chance of rank sums at least as far apart, were both agents equally good on every task.

    Van Elteren's test (1960): Wilcoxon's rank sums within each task, weighted by 1 / (runs + 1)
    and added up; two-sided, by the normal approximation with ties. One task makes it the test of
    Mann and Whitney.

    Args:
        scores: one list of runs a task.
        others: likewise, of the same tasks in the same order; numbers of runs may differ.

    Returns:
        The p-value; 1 where all scores are equal.

    Raises:
        StatisticsError: not finite, no runs, or different numbers of tasks.
    """
    if len(scores) != len(others) or not len(scores):
        raise StatisticsError(f"others: {len(others)} tasks, but the scores have {len(scores)}")
    excess = variance = 0.0
    for one, two in zip(scores, others, strict=True):
        first, second = _pooled(one), _pooled(two)
        total = len(first) + len(second)
        pairs = len(first) * len(second)
        wins = float(_wins(first[:, None], second[:, None]).sum())
        _, ties = np.unique(np.concatenate([first, second]), return_counts=True)
        tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * max(total - 1, 1))
        weight = 1.0 / (total + 1)
        excess += weight * (wins - pairs / 2.0)
        variance += weight**2 * pairs / 12.0 * (total + 1 - tied)
    if variance <= 0.0:
        return 1.0
    return min(1.0, 2.0 * NormalDist().cdf(-abs(excess) / math.sqrt(variance)))


def pairwise_rank_tests(scores: Sequence[Sequence[ArrayLike]]) -> NDArray[np.float64]:
    """`stratified_rank_test` for every pair of many agents, in one go.

    Args:
        scores: for each agent, one list of runs a task; equally many tasks each.

    Returns:
        P-values, shape (agent, agent), symmetric, 1 on the diagonal.

    Raises:
        StatisticsError: not finite, no runs, or different numbers of tasks.
    """
    counts = {len(agent) for agent in scores}
    if len(counts) != 1 or 0 in counts:
        raise StatisticsError(f"scores: every agent needs the same tasks, got {sorted(counts)}")
    excess = np.zeros((len(scores), len(scores)))
    variance = np.zeros_like(excess)
    for task in range(counts.pop()):
        runs = [_pooled(agent[task]) for agent in scores]
        table = np.full((len(runs), max(map(len, runs))), np.nan)  # NaN equals nothing
        for row, values in zip(table, runs, strict=True):
            row[: len(values)] = values
        equal_within = (table[:, :, None] == table[:, None, :]).sum(axis=2)
        sizes = np.array([len(values) for values in runs])
        for agent, values in enumerate(runs):
            equal = values[:, None, None] == table[None]
            above = (values[:, None, None] > table[None]).sum(axis=(0, 2))
            wins = above + 0.5 * equal.sum(axis=(0, 2))
            total, pairs = len(values) + sizes, len(values) * sizes
            own = equal_within[agent, : len(values), None] + equal.sum(axis=2)
            others = np.where(np.isfinite(table), equal_within + equal.sum(axis=0), 1)
            ties = (own**2 - 1).sum(axis=0) + (others**2 - 1).sum(axis=1)  # sum of t³ - t
            weight = 1.0 / (total + 1)
            excess[agent] += weight * (wins - pairs / 2.0)
            variance[agent] += (
                weight**2 * pairs / 12.0 * (total + 1 - ties / (total * np.maximum(total - 1, 1)))
            )
    return _two_sided(excess, variance)


def _two_sided(excess: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values of normal statistics; 1 where nothing varies, and on the diagonal."""
    from scipy.special import ndtr

    deviation = np.sqrt(np.where(variance > 0.0, variance, 1.0))
    values = np.where(variance > 0.0, np.minimum(1.0, 2.0 * ndtr(-np.abs(excess) / deviation)), 1.0)
    np.fill_diagonal(values, 1.0)
    found: NDArray[np.float64] = values
    return found


def holm(p_values: ArrayLike) -> Vector:
    """Adjust p-values for the number of tests (Holm, 1979).

    A test is significant at level a, with any error among all tests at most a, if its adjusted
    p-value is at most a.

    Args:
        p_values: shape (test,), in [0, 1].

    Returns:
        Adjusted p-values in the same order, in [0, 1].

    Raises:
        StatisticsError: not a list of numbers in [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise StatisticsError(f"p_values: expected a list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


# Below: how it is done


def _table(scores: ArrayLike, name: str = "scores") -> Scores:
    try:
        table = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise StatisticsError(f"{name}: not a table of numbers: {cause}") from cause
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim < 2 or not table.shape[-2] or not table.shape[-1]:
        raise StatisticsError(
            f"{name}: expected shape (run, task) or (run,), none of them empty,"
            f" got {np.shape(scores)}"
        )
    if not np.isfinite(table).all():
        raise StatisticsError(
            f"{name}: {np.count_nonzero(~np.isfinite(table))} of {table.size} are not finite;"
            " a run that failed must be scored or left out by a rule, not by NaN"
        )
    return table


def _reduced(aggregate: Aggregate) -> Aggregate:
    """The same; NumPy's reductions are typed as anything."""
    return aggregate


def _pooled(scores: ArrayLike) -> Scores:
    """The last two axes as one."""
    table = _table(scores)
    return table.reshape(*table.shape[:-2], -1)


def _runs_by_task(scores: ArrayLike, name: str, *, least_runs: int = 2) -> Scores:
    table = _table(scores, name)
    if table.ndim != 2:
        raise StatisticsError(f"{name}: expected shape (run, task) or (run,), got {table.shape}")
    if len(table) < least_runs:
        raise StatisticsError(f"{name}: a bootstrap needs at least {least_runs} runs")
    return table


def _same_tasks(
    scores: ArrayLike, other: ArrayLike, *, least_runs: int = 2
) -> tuple[Scores, Scores]:
    one = _runs_by_task(scores, "scores", least_runs=least_runs)
    two = _runs_by_task(other, "other", least_runs=least_runs)
    if one.shape[1] != two.shape[1]:
        raise StatisticsError(f"other: {two.shape[1]} tasks, but the scores have {one.shape[1]}")
    return one, two


def _check_arguments(confidence: float, num_resamples: int) -> None:
    if not 0.0 < confidence < 1.0:
        raise StatisticsError(f"confidence: must be between 0 and 1, got {confidence}")
    if num_resamples < 1:
        raise StatisticsError(f"num_resamples: must be at least 1, got {num_resamples}")


def _wins(one: Scores, two: Scores) -> NDArray[np.float64]:
    """1 where a run of `one` beats a run of `two`, 1/2 for a tie; shape (task, run, other run)."""
    margin = one.T[:, :, None] - two.T[:, None, :]
    return (np.sign(margin) + 1.0) / 2.0


def _exceeds(table: Scores, thresholds: ArrayLike) -> NDArray[np.float64]:
    """1 where a score is above a threshold; shape (run, task, threshold)."""
    levels = np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or not np.isfinite(levels).all():
        raise StatisticsError(f"thresholds: expected a list of finite numbers, got {thresholds!r}")
    return (table[:, :, None] > levels).astype(np.float64)


def _resampled_rows(
    shape: tuple[int, ...], num_resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Rows drawn with replacement within each task; blocks of shape (resample, run, task)."""
    runs, tasks = shape
    block = max(1, _NUMBERS_AT_ONCE // (runs * tasks))
    for start in range(0, num_resamples, block):
        count = min(block, num_resamples - start)
        yield rng.integers(0, runs, size=(count, runs, tasks), dtype=np.intp)


def _resampled_counts(
    runs: int, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each run of one task was drawn; shape (resample, run)."""
    return rng.multinomial(runs, np.full(runs, 1.0 / runs), size=num_resamples).astype(np.float64)


def _bootstrap_interval(
    compute: Callable[[NDArray[np.intp]], Vector],
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator,
    confidence: float,
    num_resamples: int,
    method: IntervalMethod,
) -> Interval:
    """Interval of a statistic of chosen rows.

    Args:
        compute: value for each choice of rows, shape (choice, row, task).
        shape: (run, task).
        rng: source of randomness.
        confidence: nominal coverage.
        num_resamples: number of choices to draw.
        method: see `bootstrap`.
    """
    _check_arguments(confidence, num_resamples)
    runs, tasks = shape
    everything = np.broadcast_to(np.arange(runs)[None, :, None], (1, runs, tasks))
    estimate = float(compute(everything)[0])
    replicates = np.concatenate(
        [compute(rows) for rows in _resampled_rows(shape, num_resamples, rng)]
    )
    if method == "percentile":
        return _percentile_interval(estimate, replicates, confidence)
    if method == "expanded":
        low, high = np.quantile(replicates, _expanded_levels(runs, tasks, confidence))
        return Interval(
            estimate=estimate,
            low=float(low),
            high=float(high),
            confidence=confidence,
            method=method,
        )
    if method != "bca":
        raise StatisticsError(f"method: must be 'percentile', 'bca' or 'expanded', got {method!r}")
    levels = _bca_levels(
        replicates, estimate, acceleration=_acceleration(compute, shape), confidence=confidence
    )
    low, high = np.quantile(replicates, levels)
    return Interval(
        estimate=estimate, low=float(low), high=float(high), confidence=confidence, method="bca"
    )


def _percentile_interval(estimate: float, replicates: Vector, confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Interval(
        estimate=estimate,
        low=float(low),
        high=float(high),
        confidence=confidence,
        method="percentile",
    )


def _iqm_weights(count: int) -> Vector:
    """Weight of each of `count` sorted scores in their interquartile mean."""
    edges = np.arange(count + 1)
    share = np.minimum(edges[1:], 0.75 * count) - np.maximum(edges[:-1], 0.25 * count)
    weights = np.clip(share, 0.0, None)
    normalised: Vector = weights / weights.sum()
    return normalised


def _expanded_levels(runs: int, tasks: int, confidence: float) -> tuple[float, float]:
    """Quantile levels of the expanded percentile interval, see `bootstrap`."""
    from scipy.special import stdtrit  # SciPy takes long to load, few callers need it

    normal, upper = NormalDist(), (1.0 + confidence) / 2.0
    student = float(stdtrit(tasks * (runs - 1), upper))
    deviation = math.sqrt(runs / (runs - 1)) * normal.inv_cdf(upper)
    tail = normal.cdf(-max(student, deviation))
    return tail, 1.0 - tail


def _bca_levels(
    replicates: Vector, estimate: float, *, acceleration: float, confidence: float
) -> tuple[float, float]:
    """Quantile levels corrected for median bias and for how the error grows with the value."""
    normal = NormalDist()
    count = len(replicates)
    # A resample can equal the estimate up to rounding; ties count half.
    ties = np.isclose(replicates, estimate, rtol=1e-12, atol=0.0)
    below = np.count_nonzero((replicates < estimate) & ~ties) + 0.5 * np.count_nonzero(ties)
    bias = normal.inv_cdf(min(max(below / count, 0.5 / count), 1.0 - 0.5 / count))
    levels = []
    for tail in ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0):
        shifted = bias + normal.inv_cdf(tail)
        levels.append(normal.cdf(bias + shifted / (1.0 - acceleration * shifted)))
    return levels[0], levels[1]


def _acceleration(compute: Callable[[NDArray[np.intp]], Vector], shape: tuple[int, ...]) -> float:
    """Skewness of the statistic's influence, leaving out one run of one task at a time.

    So that the task with a run less keeps its weight, its other runs are repeated `runs` times
    and all runs of the other tasks `runs - 1` times.
    """
    runs, tasks = shape
    full = np.repeat(np.arange(runs), runs - 1)
    without = np.array([np.repeat(np.delete(np.arange(runs), run), runs) for run in range(runs)])
    cubes = squares = 0.0
    for task in range(tasks):
        rows = np.broadcast_to(full[None, :, None], (runs, len(full), tasks)).copy()
        rows[:, :, task] = without
        left_out = compute(rows)
        influence = left_out.mean() - left_out
        cubes += float(np.sum(influence**3))
        squares += float(np.sum(influence**2))
    return cubes / (6.0 * math.pow(squares, 1.5)) if squares > 0.0 else 0.0
