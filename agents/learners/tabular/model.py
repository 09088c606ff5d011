"""What transitions taught: counts, mean rewards and successors, as arrays that grow."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

END = -1
"""Successor that stands for the end of an episode."""

FIRST_STATES, FIRST_OUTCOMES = 64, 2


class ModelTables(NamedTuple):
    """Statistics of transitions; rows beyond the states that were met are zero.

    Attributes:
        visits: transitions taken, int64 ``(state, action)``.
        rewards: their mean rewards, float64 ``(state, action, objective)``.
        outcomes: number of different successors seen, int64 ``(state, action)``.
        successors: these successors, `END` included, int64 ``(state, action, outcome)``.
        counts: how often each was seen, int64 ``(state, action, outcome)``.
    """

    visits: NDArray[np.int64]
    rewards: NDArray[np.float64]
    outcomes: NDArray[np.int64]
    successors: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, num_actions: int, num_objectives: int) -> ModelTables:
        """Tables of no experience."""
        pairs = (FIRST_STATES, num_actions)
        return cls(
            visits=np.zeros(pairs, np.int64),
            rewards=np.zeros((*pairs, num_objectives)),
            outcomes=np.zeros(pairs, np.int64),
            successors=np.zeros((*pairs, FIRST_OUTCOMES), np.int64),
            counts=np.zeros((*pairs, FIRST_OUTCOMES), np.int64),
        )

    def with_states(self, num_states: int) -> ModelTables:
        """These tables with room for so many states: the same ones, or copies twice as long."""
        if num_states <= len(self.visits):
            return self
        rows = max(num_states, 2 * len(self.visits))
        return ModelTables(*(grown(table, rows) for table in self))

    def with_more_outcomes(self) -> ModelTables:
        """Copies with room for twice as many successors of a pair."""
        pad = ((0, 0), (0, 0), (0, self.successors.shape[2]))
        return self._replace(
            successors=np.pad(self.successors, pad), counts=np.pad(self.counts, pad)
        )


def grown(table: NDArray[Any], rows: int) -> NDArray[Any]:
    """A copy with more rows, zero where they are new."""
    longer = np.zeros((rows, *table.shape[1:]), table.dtype)
    longer[: len(table)] = table
    return longer


@njit(cache=True)
def record(
    model: ModelTables,
    states: NDArray[np.int64],
    actions: NDArray[np.int64],
    rewards: NDArray[np.float64],
    successors: NDArray[np.int64],
    first: int,
) -> int:
    """Count transitions, the rows from `first` on.

    Args:
        model: changed in place.
        states: (transition,).
        actions: (transition,).
        rewards: (transition, objective).
        successors: (transition,), `END` where the episode terminated.
        first: row to begin with.

    Returns:
        The number of rows, or the row for whose successor there was no room; it and those after
        it are not counted.
    """
    for i in range(first, states.shape[0]):
        state, action = states[i], actions[i]
        outcome, known = 0, model.outcomes[state, action]
        while outcome < known and model.successors[state, action, outcome] != successors[i]:
            outcome += 1
        if outcome == model.successors.shape[2]:
            return i
        if outcome == known:
            model.outcomes[state, action] += 1
            model.successors[state, action, outcome] = successors[i]
        model.counts[state, action, outcome] += 1
        model.visits[state, action] += 1
        share = 1.0 / model.visits[state, action]
        for k in range(rewards.shape[1]):
            # A mean of equal numbers is that number, without rounding.
            difference = rewards[i, k] - model.rewards[state, action, k]
            model.rewards[state, action, k] += share * difference
    return len(states)
