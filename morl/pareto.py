"""The one dominance function, and what counts as the same point. Everything is maximised."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.types import Front, MorlError, Vector

RELATIVE_TOLERANCE = 1e-9
"""Two returns closer than this share of the objective's largest magnitude are the same return."""


class PointsError(MorlError, ValueError):
    """Points that are no finite table of shape (point, objective)."""


def as_points(
    points: ArrayLike, *, name: str = "points", error: type[MorlError] = PointsError
) -> Front:
    """Take points in, or say what is wrong with them.

    Args:
        points: anything NumPy reads as a table of shape (point, objective); no points are fine
            as long as the number of objectives is there: ``np.empty((0, 3))``.
        name: what the caller calls them, for the message.
        error: class to raise.

    Returns:
        The points as contiguous float64; the input itself where it is that already.

    Raises:
        error: not numbers, not a table, without objectives, or not finite.
    """
    try:
        table = np.ascontiguousarray(points, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise error(f"{name}: not a table of numbers: {cause}") from cause
    if np.ndim(points) != 2 or table.shape[1] < 1:
        raise error(
            f"{name}: expected shape (point, objective), got {np.shape(points)}"
            f"{'; no points are np.empty((0, num_objectives))' if table.size == 0 else ''}"
        )
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise error(
            f"{name}: {table[row, column]} in row {row}, objective {column}"
            f" ({np.count_nonzero(~finite.all(axis=1))} of {len(table)} rows are not finite)"
        )
    return table


def nondominated(points: ArrayLike, *, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """Mask the points that no other point dominates; of equal points the first stays.

    A point dominates another if it is at least as good in every objective and better in one.

    Args:
        points: shape (point, objective), every objective maximised.
        tolerance: points that `unique` calls equal at this tolerance count as one, the first.

    Returns:
        Boolean mask of shape (point,).

    Raises:
        PointsError: wrong shape or not finite.
    """
    table = as_points(points)
    mask = np.zeros(len(table), dtype=np.bool_)
    if not mask.size:
        return mask
    chosen = unique(table, tolerance=tolerance) if tolerance > 0.0 else np.arange(len(table))
    mask[chosen] = moocore.is_nondominated(table[chosen], maximise=True)
    return mask


def unique(points: ArrayLike, *, tolerance: float = RELATIVE_TOLERANCE) -> NDArray[np.intp]:
    """Find one point of each cluster of equal points: the first.

    In order of appearance, a point is dropped if it is equal to one that was kept. Two points are
    equal if they differ in no objective by more than `tolerance` times the objective's largest
    magnitude among all points.

    Args:
        points: shape (point, objective).
        tolerance: relative, at least 0; 0 asks for bitwise equality of values.

    Returns:
        Indices of the points kept, ascending, shape (kept,).

    Raises:
        PointsError: wrong shape, not finite, or a negative tolerance.
    """
    table = as_points(points)
    if not 0.0 <= tolerance < np.inf:
        raise PointsError(f"tolerance: must be finite and at least 0, got {tolerance}")
    if not len(table):
        return np.empty(0, dtype=np.intp)
    widths = tolerance * np.abs(table).max(axis=0)
    labels = _chains(table, widths)
    order = np.argsort(labels, kind="stable")
    keep = np.ones(len(table), dtype=np.bool_)
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        chain = order[start : start + size]
        keep[chain] = _first_of_equals(table[chain], widths)
    return np.flatnonzero(keep)


def _chains(points: Front, widths: Vector) -> NDArray[np.intp]:
    """Label the points so that equal ones share a label, and hardly any others do.

    Each objective cuts the groups of the objectives before it wherever two neighbours are further
    apart than its width.
    """
    labels = np.zeros(len(points), dtype=np.intp)
    for values, width in zip(points.T, widths, strict=True):
        order = np.lexsort((values, labels))
        cuts = (np.diff(labels[order]) != 0) | (np.diff(values[order]) > width)
        labels[order] = np.concatenate(([0], np.cumsum(cuts)))
    return labels


def _first_of_equals(points: Front, widths: Vector) -> NDArray[np.bool_]:
    """Mask the points that are equal to no point kept before them."""
    keep = np.zeros(len(points), dtype=np.bool_)
    open_points = np.arange(len(points))
    while open_points.size:
        first = open_points[0]
        keep[first] = True
        apart = (np.abs(points[open_points] - points[first]) > widths).any(axis=1)
        open_points = open_points[apart]
    return keep
