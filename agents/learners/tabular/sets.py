"""Sets of vectors: what can be earned from each state, by backward induction on a learned model.

The set of a pair is what it pays now plus the discounted sets of its successors; the set of a
state is the undominated part of the union over its actions (White 1982; Van Moffaert and Nowé,
"Multi-Objective Reinforcement Learning using Sets of Pareto Dominating Policies", JMLR 2014). Where
an action has several successors, one vector is chosen for each, and the chosen ones are averaged
by their probability. Sets lie one after the other in an arena; a set that changes is rewritten
at its end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.agents.learners.tabular.model import END, ModelTables, grown

CROSS_LIMIT = 48
"""Vectors kept of each operand where the sets of several successors are combined."""


class SetTables(NamedTuple):
    """Sets of vectors by state.

    Attributes:
        arena: float64 ``(place, objective)``.
        starts: first place of each state's set, int64 ``(state,)``.
        sizes: vectors in it, int64 ``(state,)``.
        used: places of the arena that are written, int64 ``(1,)``.
    """

    arena: NDArray[np.float64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    used: NDArray[np.int64]

    @classmethod
    def empty(cls, num_states: int, num_objectives: int) -> SetTables:
        """An empty set per state."""
        return cls(
            arena=np.zeros((1024, num_objectives)),
            starts=np.zeros(num_states, np.int64),
            sizes=np.zeros(num_states, np.int64),
            used=np.zeros(1, np.int64),
        )

    def with_states(self, num_states: int) -> SetTables:
        """These tables with room for so many states."""
        if num_states <= len(self.sizes):
            return self
        return self._replace(
            starts=grown(self.starts, num_states), sizes=grown(self.sizes, num_states)
        )

    def of(self, state: int) -> NDArray[np.float64]:
        """The set of a state, (vector, objective)."""
        start = int(self.starts[state])
        return self.arena[start : start + int(self.sizes[state])]

    def copy(self) -> SetTables:
        """Tables that share no memory with these."""
        return SetTables(self.arena.copy(), self.starts.copy(), self.sizes.copy(), self.used.copy())

    def compact(self, room: int) -> SetTables:
        """The same sets without gaps, with at least `room` places that are free."""
        total = int(self.sizes.sum())
        arena = np.zeros((2 * total + room, self.arena.shape[1]))
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        for state in np.flatnonzero(self.sizes).tolist():
            arena[starts[state] : starts[state] + self.sizes[state]] = self.of(state)
        return SetTables(arena, starts, self.sizes.copy(), np.array([total]))


@njit(cache=True)
def undominated_rows(points: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """The undominated points, one of those that differ by less than a tolerance.

    Args:
        points: (point, objective).
        tolerance: differences up to it are rounding.

    Returns:
        (kept, objective), by falling sum.
    """
    count, objectives = points.shape
    sums = np.zeros(count)
    for i in range(count):
        for k in range(objectives):
            sums[i] += points[i, k]
    order = np.argsort(-sums, kind="mergesort")
    kept = np.empty((count, objectives))
    size = 0
    for index in order:
        covered = False
        for other in range(size):
            covered = True
            for k in range(objectives):
                if kept[other, k] < points[index, k] - tolerance:
                    covered = False
                    break
            if covered:
                break
        if not covered:
            kept[size] = points[index]
            size += 1
    return kept[:size].copy()


@njit(cache=True)
def spread(points: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """At most `limit` of the points: the best per objective, then always the farthest.

    Distances are the largest of the objectives' differences, each as a share of its range.
    """
    count, objectives = points.shape
    if count <= limit:
        return points
    scale = np.empty(objectives)
    chosen = np.empty(limit, np.int64)
    size = 0
    for k in range(objectives):
        width = points[:, k].max() - points[:, k].min()
        scale[k] = 1.0 / width if width > 0.0 else 0.0
    distances = np.full(count, np.inf)
    following = int(points[:, 0].argmax())
    while size < limit:
        chosen[size] = following
        size += 1
        farthest = 0.0
        nearest_index = following
        following = -1
        for i in range(count):
            distance = 0.0
            for k in range(objectives):
                distance = max(distance, abs(points[i, k] - points[nearest_index, k]) * scale[k])
            distances[i] = min(distances[i], distance)
            if distances[i] > farthest:
                farthest = distances[i]
                following = i
        if size < objectives:
            best = int(points[:, size].argmax())
            if distances[best] > 0.0:
                following = best
        if following < 0:
            break
    kept: NDArray[np.float64] = points[chosen[:size]]
    return kept


@njit(cache=True)
def _plus(
    sums: NDArray[np.float64], points: NDArray[np.float64], factor: float, tolerance: float
) -> NDArray[np.float64]:
    """Undominated sums of one row of each, the second times a factor."""
    if len(sums) > 1 and len(points) > 1:
        sums, points = spread(sums, CROSS_LIMIT), spread(points, CROSS_LIMIT)
    total = np.empty((len(sums) * len(points), sums.shape[1]))
    for i in range(len(sums)):
        for j in range(len(points)):
            total[i * len(points) + j] = sums[i] + factor * points[j]
    if len(sums) == 1 or len(points) == 1:
        return total
    return undominated_rows(total, tolerance)


@njit(cache=True)
def pair_set(
    model: ModelTables,
    sets: SetTables,
    state: int,
    action: int,
    discount: float,
    tolerance: float,
) -> NDArray[np.float64]:
    """What an action earns from a state, now and later, (vector, objective)."""
    sums = model.rewards[state, action].copy().reshape(1, -1)
    for outcome in range(model.outcomes[state, action]):
        successor = model.successors[state, action, outcome]
        if successor == END or sets.sizes[successor] == 0:
            continue
        share = model.counts[state, action, outcome] / model.visits[state, action]
        start = sets.starts[successor]
        later = sets.arena[start : start + sets.sizes[successor]]
        sums = _plus(sums, later, discount * share, tolerance)
    earned: NDArray[np.float64] = sums
    return earned


@njit(cache=True)
def _state_set(
    model: ModelTables,
    sets: SetTables,
    state: int,
    discount: float,
    tolerance: float,
    limit: int,
) -> NDArray[np.float64]:
    total = np.empty((0, model.rewards.shape[2]))
    for action in range(model.visits.shape[1]):
        if model.visits[state, action] > 0:
            earned = pair_set(model, sets, state, action, discount, tolerance)
            total = np.concatenate((total, earned))
    return spread(undominated_rows(total, tolerance), limit)


@njit(cache=True)
def _differs(sets: SetTables, state: int, points: NDArray[np.float64], tolerance: float) -> bool:
    if sets.sizes[state] != len(points):
        return True
    start = sets.starts[state]
    for i in range(len(points)):
        for k in range(points.shape[1]):
            if abs(sets.arena[start + i, k] - points[i, k]) > tolerance:
                return True
    return False


@njit(cache=True)
def back_up(
    model: ModelTables,
    sets: SetTables,
    queue: NDArray[np.int64],
    discount: float,
    tolerance: float,
    limit: int,
    changed: NDArray[np.bool_],
) -> int:
    """Compute the sets of the states in the queue again, in order.

    Args:
        model: what is known of transitions.
        sets: changed in place.
        queue: states, (index,).
        discount: in (0, 1].
        tolerance: differences up to it are rounding.
        limit: most vectors of a set.
        changed: whether the set of a state is another than before, (index,); written here.

    Returns:
        Length of the queue, or the index at which the arena was full; go on from there.
    """
    for index in range(len(queue)):
        state = queue[index]
        if sets.used[0] + limit > len(sets.arena):
            return index
        points = _state_set(model, sets, state, discount, tolerance, limit)
        changed[index] = _differs(sets, state, points, tolerance)
        if changed[index]:
            start = sets.used[0]
            if len(points) <= sets.sizes[state]:
                start = sets.starts[state]
            else:
                sets.used[0] += len(points)
            sets.arena[start : start + len(points)] = points
            sets.starts[state] = start
            sets.sizes[state] = len(points)
    return len(queue)


@njit(cache=True)
def follow(
    model: ModelTables,
    sets: SetTables,
    state: int,
    target: NDArray[np.float64],
    scale: NDArray[np.float64],
    discount: float,
    choices: NDArray[np.int64],
) -> int:
    """The action, and a vector for each successor, that together come nearest to a target.

    Two successors are tried in all combinations; more of them one after the other, each with the
    best for the others as they are.

    Args:
        model: what is known of transitions.
        sets: of all states.
        state: where to act.
        target: what is to be earned from here, (objective,).
        scale: by which differences are multiplied, (objective,).
        discount: in (0, 1].
        choices: index of the vector chosen for each outcome of the action, -1 where a successor
            has none, (outcome,); written here.

    Returns:
        The action; the first where none was ever tried.
    """
    nearest, best_action = np.inf, 0
    trial = np.full(len(choices), -1, np.int64)
    for action in range(model.visits.shape[1]):
        if model.visits[state, action] == 0:
            continue
        trial[:] = -1
        distance = _fit(model, sets, state, action, target, scale, discount, trial)
        if distance < nearest:
            nearest, best_action = distance, action
            choices[:] = trial
    return best_action


@njit(cache=True)
def _fit(
    model: ModelTables,
    sets: SetTables,
    state: int,
    action: int,
    target: NDArray[np.float64],
    scale: NDArray[np.float64],
    discount: float,
    choices: NDArray[np.int64],
) -> float:
    """Choose a vector per successor; returns the distance to the target."""
    count = model.outcomes[state, action]
    missing = target - model.rewards[state, action]
    active = np.empty(count, np.int64)
    size = 0
    for outcome in range(count):
        successor = model.successors[state, action, outcome]
        if successor != END and sets.sizes[successor] > 0:
            choices[outcome] = 0
            active[size] = outcome
            size += 1
    if size == 0:
        return _length(missing, scale)
    if size == 1:
        return _best_for_one(
            model, sets, state, action, active[0], missing, scale, discount, choices
        )
    if size == 2:
        return _best_for_two(model, sets, state, action, active, missing, scale, discount, choices)
    for index in range(size):
        missing -= _share(model, sets, state, action, active[index], 0, discount)
    distance = _length(missing, scale)
    for _ in range(3):
        for index in range(size):
            outcome = active[index]
            missing += _share(model, sets, state, action, outcome, choices[outcome], discount)
            distance = _best_for_one(
                model, sets, state, action, outcome, missing, scale, discount, choices
            )
            missing -= _share(model, sets, state, action, outcome, choices[outcome], discount)
    return distance


@njit(cache=True)
def _share(
    model: ModelTables,
    sets: SetTables,
    state: int,
    action: int,
    outcome: int,
    index: int,
    discount: float,
) -> NDArray[np.float64]:
    """What a vector of a successor adds to the return, (objective,)."""
    successor = model.successors[state, action, outcome]
    share = discount * model.counts[state, action, outcome] / model.visits[state, action]
    added: NDArray[np.float64] = share * sets.arena[sets.starts[successor] + index]
    return added


@njit(cache=True)
def _length(difference: NDArray[np.float64], scale: NDArray[np.float64]) -> float:
    longest = 0.0
    for k in range(len(difference)):
        longest = max(longest, abs(difference[k]) * scale[k])
    return longest


@njit(cache=True)
def _best_for_one(
    model: ModelTables,
    sets: SetTables,
    state: int,
    action: int,
    outcome: int,
    missing: NDArray[np.float64],
    scale: NDArray[np.float64],
    discount: float,
    choices: NDArray[np.int64],
) -> float:
    nearest = np.inf
    for index in range(sets.sizes[model.successors[state, action, outcome]]):
        distance = _length(
            missing - _share(model, sets, state, action, outcome, index, discount), scale
        )
        if distance < nearest:
            nearest = distance
            choices[outcome] = index
    return nearest


@njit(cache=True)
def _best_for_two(
    model: ModelTables,
    sets: SetTables,
    state: int,
    action: int,
    active: NDArray[np.int64],
    missing: NDArray[np.float64],
    scale: NDArray[np.float64],
    discount: float,
    choices: NDArray[np.int64],
) -> float:
    first, second = active[0], active[1]
    nearest, best_first, best_second = np.inf, 0, 0
    for index in range(sets.sizes[model.successors[state, action, first]]):
        rest = missing - _share(model, sets, state, action, first, index, discount)
        distance = _best_for_one(model, sets, state, action, second, rest, scale, discount, choices)
        if distance < nearest:
            nearest, best_first, best_second = distance, index, choices[second]
    choices[first], choices[second] = best_first, best_second
    return nearest
