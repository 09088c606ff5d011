"""Exact hypervolume of many objectives, compiled; `morl.indicators` decides when to use it.

The recursion is that of WFG (While, Bradstreet and Barone, 2012) with slicing: the points are
visited from the best to the worst in the last objective. Each adds its exclusive hypervolume in
the other objectives, times its coordinate in the last; and that is its own box less the
hypervolume of the earlier points, cut down to that box: a problem with one objective less and,
after dropping what is dominated, with few points.

Cutting down keeps the order of every coordinate. The points seen so far are therefore kept in the
order of the next objective, and no recursion has to sort. In three objectives a staircase is swept
instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from morl.types import Front

P = ParamSpec("P")
R = TypeVar("R")


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    """`numba.njit` with a type; compiled at the first call, then kept on disk."""
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # Numba finds no folder that it may write to
        compiled = numba.njit(nogil=True)(function)
    return compiled


def exact_hypervolume(points: Front, *, budget: int) -> float | None:
    """Hypervolume above the origin.

    Args:
        points: shape (point, objective), at least 3 objectives, every coordinate positive.
        budget: steps of the innermost loops before it gives up.

    Returns:
        The volume, or None if the budget was used up. The steps depend on the points alone, never
        on the machine.
    """
    count, num_objectives = points.shape
    if not count:
        return 0.0
    order = np.argsort(-points[:, -1], kind="stable")
    shape = (num_objectives + 1, count, num_objectives)
    steps_left = np.array([budget], dtype=np.int64)
    volume = _volume(
        points[order],
        count,
        num_objectives,
        np.empty(shape),
        np.empty(shape),
        np.empty((2, count + 2)),
        steps_left,
    )
    return None if steps_left[0] < 0 else float(volume)


@_compiled
def _volume(
    points: Front,
    count: int,
    width: int,
    seen_by_width: NDArray[np.float64],
    cut_by_width: NDArray[np.float64],
    stairs: NDArray[np.float64],
    steps_left: NDArray[np.int64],
) -> float:
    """Volume of the first `count` rows and `width` columns, best last coordinate first."""
    if count <= 2:
        return _small_volume(points, count, width)
    if width == 3:
        steps_left[0] -= 4 * count
        return _sweep(points, count, stairs)
    last = width - 1
    seen = seen_by_width[last]
    cut = cut_by_width[last]
    num_seen = 0
    volume = 0.0
    for i in range(count):
        point = points[i]
        if steps_left[0] < 0:
            break
        num_cut = _cut_down(seen, num_seen, point, last, cut, steps_left)
        if num_cut < 0:
            continue
        box = 1.0
        for k in range(last):
            box *= point[k]
        overlap = _volume(cut, num_cut, last, seen_by_width, cut_by_width, stairs, steps_left)
        volume += point[last] * (box - overlap)
        num_seen = _insert(seen, num_seen, point, last)
    return volume


@_compiled
def _small_volume(points: Front, count: int, width: int) -> float:
    """Volume of up to two boxes."""
    if count == 0:
        return 0.0
    first = 1.0
    for k in range(width):
        first *= points[0, k]
    if count == 1:
        return first
    second = 1.0
    overlap = 1.0
    for k in range(width):
        second *= points[1, k]
        overlap *= min(points[0, k], points[1, k])
    return first + second - overlap


@_compiled
def _cut_down(
    seen: Front,
    num_seen: int,
    point: NDArray[np.float64],
    width: int,
    cut: Front,
    steps_left: NDArray[np.int64],
) -> int:
    """Cut the points seen down to the box of `point` and drop what is dominated.

    Writes the rows to `cut`, best last coordinate first, and returns their number; -1 if the box
    is covered by one of them.
    """
    steps_left[0] -= num_seen
    kept = 0
    for j in range(num_seen):
        covered = True
        for k in range(width):
            if seen[j, k] < point[k]:
                cut[kept, k] = seen[j, k]
                covered = False
            else:
                cut[kept, k] = point[k]
        if covered:
            return -1
        if width == 3:  # the sweep drops dominated points by itself
            kept += 1
        else:
            kept = _settle(cut, kept, width, steps_left)
    return kept


@_compiled
def _settle(cut: Front, kept: int, width: int, steps_left: NDArray[np.int64]) -> int:
    """Let row `kept` in if no row before dominates it, and drop those that it dominates.

    Returns the new number of rows.
    """
    q = 0
    while q < kept:
        winner = _compare(cut, q, kept, width - 1)
        if winner > 0:
            break
        if winner < 0:
            # Rows q .. kept tie in the last coordinate: any order among them is sorted.
            for k in range(width):
                cut[q, k] = cut[kept - 1, k]
                cut[kept - 1, k] = cut[kept, k]
            kept -= 1
        else:
            q += 1
    steps_left[0] -= q + 1
    return kept + 1 if q == kept else kept


@_compiled
def _compare(rows: Front, earlier: int, newer: int, last: int) -> int:
    """1 if row `earlier` is nowhere worse, -1 if row `newer` dominates it, else 0.

    `earlier` is known to be at least as good in column `last`.
    """
    earlier_wins = True
    newer_wins = rows[earlier, last] == rows[newer, last]
    for k in range(last):
        if rows[earlier, k] < rows[newer, k]:
            earlier_wins = False
            if not newer_wins:
                return 0
        elif rows[earlier, k] > rows[newer, k]:
            newer_wins = False
            if not earlier_wins:
                return 0
    return 1 if earlier_wins else -1


@_compiled
def _insert(seen: Front, num_seen: int, point: NDArray[np.float64], width: int) -> int:
    """Add a point to those seen, sorted by the last coordinate, without those it dominates."""
    last = width - 1
    kept = 0
    for j in range(num_seen):
        dominated = True
        for k in range(width):
            if seen[j, k] > point[k]:
                dominated = False
                break
        if not dominated:
            if kept < j:
                for k in range(width):
                    seen[kept, k] = seen[j, k]
            kept += 1
    place = kept
    while place > 0 and seen[place - 1, last] < point[last]:
        for k in range(width):
            seen[place, k] = seen[place - 1, k]
        place -= 1
    for k in range(width):
        seen[place, k] = point[k]
    return kept + 1


@_compiled
def _sweep(points: Front, count: int, stairs: NDArray[np.float64]) -> float:
    """Volume in three objectives, best third coordinate first.

    The area covered in the first two objectives is a staircase: steps with growing x and falling
    y, between a wall (0, infinity) and a floor (infinity, 0).
    """
    x_of, y_of = stairs
    x_of[0] = 0.0
    y_of[0] = np.inf
    x_of[1] = np.inf
    y_of[1] = 0.0
    size = 2
    area = 0.0
    volume = 0.0
    for i in range(count):
        x = points[i, 0]
        y = points[i, 1]
        low = 0
        high = size - 1
        while low < high:
            middle = (low + high) // 2
            if x_of[middle] < x:
                low = middle + 1
            else:
                high = middle
        if y_of[low] < y:
            right = low + 1 if x_of[low] == x else low
            left = right
            gain = (x - x_of[right - 1]) * (y - y_of[right])
            while y_of[left - 1] <= y:
                left -= 1
                gain += (x_of[left] - x_of[left - 1]) * (y - y_of[left])
            area += gain
            shift = left + 1 - right
            if shift > 0:
                for q in range(size - 1, right - 1, -1):
                    x_of[q + 1] = x_of[q]
                    y_of[q + 1] = y_of[q]
            elif shift < 0:
                for q in range(right, size):
                    x_of[q + shift] = x_of[q]
                    y_of[q + shift] = y_of[q]
            size += shift
            x_of[left] = x
            y_of[left] = y
        below = points[i + 1, 2] if i + 1 < count else 0.0
        volume += area * (points[i, 2] - below)
    return volume
