"""Where to look next: pairs of state and action that were seldom tried, and the way to them.

The worth of a pair is the larger of its own novelty, ``1 / (1 + visits)``, and what can be reached
through it, discounted by the distance. Following the largest worth walks to the nearest pair
that was never tried, and later evens out the visits.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.agents.learners.tabular.model import END, ModelTables

DISTANCE_DISCOUNT = 0.95
"""Worth that is left per step of distance."""


@njit(cache=True)
def _refresh(
    model: ModelTables, worth: NDArray[np.float64], planned: NDArray[np.int64], state: int
) -> float:
    """Compute the worth of a state's pairs again; returns the largest."""
    best = 0.0
    for action in range(worth.shape[1]):
        visits = model.visits[state, action]
        reach = 0.0
        for outcome in range(model.outcomes[state, action]):
            successor = model.successors[state, action, outcome]
            if successor != END:
                share = model.counts[state, action, outcome] / visits
                reach += share * worth[successor].max()
        novelty = 1.0 / (1.0 + visits + planned[state, action])
        worth[state, action] = max(novelty, DISTANCE_DISCOUNT * reach)
        best = max(best, worth[state, action])
    return best


@njit(cache=True)
def explore(
    model: ModelTables,
    worth: NDArray[np.float64],
    planned: NDArray[np.int64],
    states: NDArray[np.int64],
    exploring: NDArray[np.bool_],
    uniforms: NDArray[np.float64],
    actions: NDArray[np.int64],
) -> None:
    """Choose the actions of largest worth, one environment after the other.

    What one environment is about to try counts as tried for the next. Ties are broken at random.

    Args:
        model: what is known of transitions.
        worth: (state, action); the rows of `states` are computed again.
        planned: choices that are not recorded yet, (state, action); changed in place.
        states: (env,).
        exploring: whose action is chosen here, (env,).
        uniforms: draws from [0, 1), (env,).
        actions: (env,); written where `exploring`.
    """
    for i in range(len(states)):
        if not exploring[i]:
            continue
        state = states[i]
        best = _refresh(model, worth, planned, state)
        ties = 0
        for action in range(worth.shape[1]):
            if worth[state, action] == best:
                ties += 1
        wanted = int(uniforms[i] * ties)
        for action in range(worth.shape[1]):
            if worth[state, action] == best:
                if wanted == 0:
                    actions[i] = action
                    planned[state, action] += 1
                    break
                wanted -= 1


@njit(cache=True)
def sweep(
    model: ModelTables,
    worth: NDArray[np.float64],
    planned: NDArray[np.int64],
    num_states: int,
    first: int,
    count: int,
) -> int:
    """Compute the worth of `count` states again, from `first` downwards and round again.

    Returns:
        Where to go on.
    """
    state = first
    for _ in range(count):
        state = state - 1 if state > 0 else num_states - 1
        _refresh(model, worth, planned, state)
    return state
