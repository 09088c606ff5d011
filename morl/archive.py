"""The best things found so far, one a point of the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.pareto import as_points
from morl.types import Front, MorlError, Vector

T = TypeVar("T")


class ArchiveError(MorlError, ValueError):
    """A point that does not fit the archive, or an archive that cannot be."""


class ParetoArchive(Generic[T]):
    """Keeps each item whose point no other item's point dominates.

    Everything is maximised. Of equal points the first stays. Members keep the order in which they
    came. An archive with a capacity drops its most crowded member when it overflows, but never
    the best point of an objective (the first of them, if several are best).

    Args:
        num_objectives: length of the points.
        capacity: largest number of members, at least `num_objectives`, or None for no limit.
        tolerance: a new point is equal to a member if they differ in no objective by more than
            this share of the objective's largest magnitude among the members and itself. At 0
            points are equal if their values are.

    Raises:
        ArchiveError: an argument out of range.

    Example:
        >>> archive = ParetoArchive[str](2)
        >>> archive.add([1.0, 0.0], "fast")
        True
        >>> archive.add([0.5, 0.0], "slow")
        False
        >>> list(archive)
        ['fast']
    """

    def __init__(
        self, num_objectives: int, *, capacity: int | None = None, tolerance: float = 0.0
    ) -> None:
        if num_objectives < 1:
            raise ArchiveError(f"archive: needs at least one objective, got {num_objectives}")
        if capacity is not None and capacity < num_objectives:
            raise ArchiveError(
                f"archive: a capacity of {capacity} cannot hold the best point of each of"
                f" {num_objectives} objectives"
            )
        if not 0.0 <= tolerance < np.inf:
            raise ArchiveError(f"archive: tolerance must be finite and at least 0, got {tolerance}")
        self.num_objectives = num_objectives
        self.capacity = capacity
        self.tolerance = tolerance
        self._points: Front = np.empty((0, num_objectives))
        self._items: list[T] = []

    @property
    def points(self) -> Front:
        """Points of the members, in the order of iteration; a copy, shape (point, objective)."""
        return self._points.copy()

    @property
    def items(self) -> tuple[T, ...]:
        """Items of the members, in the order of iteration."""
        return tuple(self._items)

    def add(self, point: ArrayLike, item: T) -> bool:
        """Offer an item.

        Args:
            point: shape (objective,), finite.
            item: whatever reached the point; only kept, never looked at.

        Returns:
            Whether the item is a member now: False if its point is dominated by a member's, equal
            to one, or the most crowded of an archive that is full.

        Raises:
            ArchiveError: wrong length or not finite.
        """
        vector = self._check(point)
        if (self._points >= vector).all(axis=1).any() or self._equals_member(vector):
            return False
        stays = np.flatnonzero((self._points > vector).any(axis=1))
        self._points = np.vstack([self._points[stays], vector])
        self._items = [self._items[index] for index in stays]
        self._items.append(item)
        if self.capacity is None or len(self) <= self.capacity:
            return True
        return self._drop_most_crowded() != len(self)

    def restore(self, points: ArrayLike, items: Sequence[T]) -> None:
        """Replace all members by those that `points` and `items` of an archive gave.

        Takes the members as they are, in one step, where `add` compares each with all others.

        Args:
            points: shape (point, objective), none of which dominates another.
            items: what reached them, in the same order.

        Raises:
            ArchiveError: wrong shape, not finite, more than the capacity, or not as many items as
                points. The members that dominate one another are not looked for.
        """
        table = np.array(points, dtype=np.float64)
        if table.shape != (len(items), self.num_objectives):
            raise ArchiveError(
                f"archive: {len(items)} items need points of shape"
                f" {(len(items), self.num_objectives)}, got {table.shape}"
            )
        if not np.isfinite(table).all():
            raise ArchiveError("archive: a point to restore is not finite")
        if self.capacity is not None and len(items) > self.capacity:
            raise ArchiveError(
                f"archive: {len(items)} members exceed the capacity of {self.capacity}"
            )
        self._points = table
        self._items = list(items)

    def best_for(self, preferences: ArrayLike) -> NDArray[np.int64]:
        """Index of the member of the largest weighted sum for each preference; the first of ties.

        Args:
            preferences: shape (preference, objective).

        Returns:
            Shape (preference,).

        Raises:
            ArchiveError: the archive is empty.
        """
        if not self._items:
            raise ArchiveError("archive: it is empty, so no member suits a preference")
        found: NDArray[np.int64] = (np.asarray(preferences) @ self._points.T).argmax(axis=1)
        return found

    def crowding_distance(self) -> Vector:
        """Crowding distance of the members, see `crowding_distance`; shape (point,)."""
        return crowding_distance(self._points)

    def __len__(self) -> int:
        """Count the members."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items."""
        return iter(self._items)

    def __repr__(self) -> str:
        """Name the size and the limits."""
        return (
            f"{type(self).__name__}({len(self)} members, num_objectives={self.num_objectives},"
            f" capacity={self.capacity}, tolerance={self.tolerance})"
        )

    def _check(self, point: ArrayLike) -> Vector:
        if np.shape(point) != (self.num_objectives,):
            raise ArchiveError(
                f"archive: expected a point of {self.num_objectives} objectives,"
                f" got shape {np.shape(point)}"
            )
        vector: Vector = np.asarray(point, dtype=np.float64)
        if not np.isfinite(vector).all():
            raise ArchiveError(f"archive: not a finite point: {vector.tolist()}")
        return vector

    def _equals_member(self, vector: Vector) -> bool:
        if not (self.tolerance and len(self)):
            return False
        largest = np.maximum(np.abs(self._points).max(axis=0), np.abs(vector))
        apart = np.abs(self._points - vector) > self.tolerance * largest
        return bool((~apart.any(axis=1)).any())

    def _drop_most_crowded(self) -> int:
        """Drop a member; of equally crowded ones the youngest. Returns its former index.

        The best of each objective are infinitely far from the others, so they stay.
        """
        crowding = crowding_distance(self._points, worst_is_boundary=False)
        index = len(crowding) - 1 - int(np.argmin(crowding[::-1]))
        self._points = np.delete(self._points, index, axis=0)
        del self._items[index]
        return index


def crowding_distance(points: ArrayLike, *, worst_is_boundary: bool = True) -> Vector:
    """How far each point is from its neighbours (Deb et al., NSGA-II, 2002).

    The sum over objectives of the gap between the two neighbours of a point in the order of that
    objective, divided by the objective's range. Boundary points get infinity. In the original, and
    in C-MORL, the worst point of each objective is a boundary as well as the best: an artefact of
    sorting one objective at a time, for the worst in one objective need not be the end of
    anything. At many objectives nearly every point is then infinitely far from the others.

    An objective in which all points agree has no order: it adds nothing. Where points tie in an
    objective, their order of appearance decides who is the boundary.

    Args:
        points: shape (point, objective).
        worst_is_boundary: as in the original; if False, the worst point of an objective gets twice
            the gap to its only neighbour.

    Returns:
        Shape (point,), non-negative, never NaN. Up to two points are both infinitely far.

    Raises:
        PointsError: wrong shape or not finite.
    """
    table = as_points(points)
    count = len(table)
    if count <= 2:
        return np.full(count, np.inf)
    distance = np.zeros(count)
    for values in table.T:
        # The first of several best points comes last, which makes it the boundary.
        order = np.argsort(values[::-1], kind="stable")
        order = count - 1 - order
        gaps = np.diff(values[order])
        extent = values[order[-1]] - values[order[0]]
        if extent <= 0.0:
            continue
        gaps = gaps / extent
        distance[order[1:-1]] += gaps[:-1] + gaps[1:]
        distance[order[-1]] = np.inf
        distance[order[0]] += np.inf if worst_is_boundary else 2.0 * gaps[0]
    return distance
