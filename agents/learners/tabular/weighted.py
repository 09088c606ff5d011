"""Values for many preferences at once: one vector per state and preference, on a learned model.

The vector of a state is what the best action for the preference pays, plus the discounted vectors
of its successors for the same preference. All preferences learn from all experience.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.agents.learners.tabular.agent import Transitions
from morl.agents.learners.tabular.model import END, ModelTables, grown
from morl.agents.learners.tabular.propagation import Propagation
from morl.agents.learners.tabular.states import UNKNOWN, StateNumbers
from morl.types import Front, State, Vector

TOLERANCE = 1e-9
"""Share of the largest reward, or of 1, that counts as rounding."""

MAX_SWEEPS = 50
"""Most passes over all states before an answer; returns of endless tasks settle slowly."""


@njit(cache=True)
def scalarised(
    vector: NDArray[np.float64], weights: NDArray[np.float64], utopia: NDArray[np.float64],
    chebyshev: bool,
) -> float:  # fmt: skip
    """What a vector is worth: its weighted sum, or minus its largest weighted shortfall.

    Args:
        vector: (objective,).
        weights: (objective,).
        utopia: from which shortfalls count, (objective,).
        chebyshev: which of the two.
    """
    if not chebyshev:
        total = 0.0
        for k in range(len(vector)):
            total += weights[k] * vector[k]
        return total
    worst = 0.0
    for k in range(len(vector)):
        worst = max(worst, weights[k] * (utopia[k] - vector[k]))
    return -worst


@njit(cache=True)
def best_action(
    model: ModelTables,
    values: NDArray[np.float64],
    state: int,
    index: int,
    weights: NDArray[np.float64],
    utopia: NDArray[np.float64],
    chebyshev: bool,
    discount: float,
    vector: NDArray[np.float64],
) -> int:
    """The action that is worth most to a preference, of those that were tried.

    Args:
        model: what is known of transitions.
        values: (state, preference, objective).
        state: where to act.
        index: of the preference in `values`.
        weights: the preference, (objective,).
        utopia: see `scalarised`.
        chebyshev: see `scalarised`.
        discount: in (0, 1].
        vector: what it earns, (objective,); written here.

    Returns:
        The action; the first, with zeros, where none was ever tried.
    """
    objectives = len(weights)
    trial = np.empty(objectives)
    best, chosen = -np.inf, 0
    vector[:] = 0.0
    for action in range(model.visits.shape[1]):
        visits = model.visits[state, action]
        if visits == 0:
            continue
        for k in range(objectives):
            trial[k] = model.rewards[state, action, k]
        for outcome in range(model.outcomes[state, action]):
            successor = model.successors[state, action, outcome]
            if successor != END:
                share = discount * model.counts[state, action, outcome] / visits
                for k in range(objectives):
                    trial[k] += share * values[successor, index, k]
        worth = scalarised(trial, weights, utopia, chebyshev)
        if worth > best:
            best, chosen = worth, action
            vector[:] = trial
    return chosen


@njit(cache=True)
def back_up(
    model: ModelTables,
    values: NDArray[np.float64],
    queue: NDArray[np.int64],
    weights: NDArray[np.float64],
    utopia: NDArray[np.float64],
    chebyshev: bool,
    discount: float,
    tolerance: float,
    changed: NDArray[np.bool_],
) -> None:
    """Compute the vectors of the states in the queue again, for all preferences.

    Args:
        model: what is known of transitions.
        values: (state, preference, objective); changed in place.
        queue: states, (index,).
        weights: (preference, objective).
        utopia: see `scalarised`.
        chebyshev: see `scalarised`.
        discount: in (0, 1].
        tolerance: changes up to it are rounding.
        changed: whether a vector of the state changed, (index,); written here.
    """
    vector = np.empty(weights.shape[1])
    for place in range(len(queue)):
        state = queue[place]
        changed[place] = False
        for index in range(len(weights)):
            best_action(
                model, values, state, index, weights[index], utopia, chebyshev, discount, vector
            )
            for k in range(len(vector)):
                if abs(values[state, index, k] - vector[k]) > tolerance:
                    changed[place] = True
                values[state, index, k] = vector[k]


class WeightedValues:
    """Vectors of all states for all preferences, kept up to date while the model changes.

    Args:
        weights: preferences, (preference, objective).
        discount: in (0, 1].
        chebyshev: whether actions are compared by the largest weighted shortfall from the best
            seen, and not by the weighted sum.
    """

    def __init__(self, weights: Front, *, discount: float, chebyshev: bool = False) -> None:
        self.weights = weights
        self.values = np.zeros((64, *weights.shape))
        self.utopia = np.zeros(weights.shape[1])
        self._chebyshev = chebyshev
        self._discount = discount
        self._largest = 1.0
        self._propagation = Propagation()

    def note(self, transitions: Transitions, model: ModelTables) -> None:
        """Remember what a step of all environments changed in the model."""
        self._largest = max(self._largest, float(np.abs(transitions.rewards).max()))
        self._propagation.note(transitions, model)

    def update(self, model: ModelTables, *, backups: int) -> None:
        """Back up what changed, and what depends on it; at most so many states."""
        if len(model.visits) > len(self.values):
            self.values = grown(self.values, len(model.visits))
        self._propagation.run(lambda queue: self._back_up(model, queue), backups=backups)

    def raise_utopia(self, start: int) -> None:
        """Take the best of each objective that the start state is known to earn."""
        self.utopia = np.maximum(self.utopia, self.values[start].max(axis=0))

    def extend(self, weights: Vector) -> None:
        """Add a preference; it begins with the vectors of the nearest one."""
        nearest = int(np.abs(self.weights - weights).sum(axis=1).argmin())
        self.weights = np.vstack([self.weights, weights])
        self.values = np.concatenate([self.values, self.values[:, nearest : nearest + 1]], axis=1)

    def settle(self, model: ModelTables, num_states: int, *, sweeps: int = MAX_SWEEPS) -> None:
        """Back up all states until nothing changes, or so many times."""
        if len(model.visits) > len(self.values):
            self.values = grown(self.values, len(model.visits))
        order = np.arange(num_states - 1, -1, -1)
        for _ in range(sweeps):
            if not self._back_up(model, order).any():
                return

    def act(self, model: ModelTables, state: int, index: int) -> int:
        """The greedy action of a preference."""
        vector = np.empty(self.weights.shape[1])
        return int(
            best_action(
                model, self.values, state, index, self.weights[index], self.utopia,
                self._chebyshev, self._discount, vector,
            )
        )  # fmt: skip

    def frozen(self, model: ModelTables, num_states: int) -> NDArray[np.int64]:
        """Greedy actions of all states and preferences as they are now, (state, preference)."""
        actions = np.zeros((num_states, len(self.weights)), np.int64)
        for state in range(num_states):
            for index in range(len(self.weights)):
                actions[state, index] = self.act(model, state, index)
        return actions

    def _back_up(self, model: ModelTables, queue: NDArray[np.int64]) -> NDArray[np.bool_]:
        changed = np.zeros(len(queue), np.bool_)
        back_up(
            model, self.values, queue, self.weights, self.utopia, self._chebyshev, self._discount,
            TOLERANCE * self._largest, changed,
        )  # fmt: skip
        return changed

    def copy(self) -> WeightedValues:
        """Values that share no memory with these; what is pending is left out."""
        twin = WeightedValues(self.weights.copy(), discount=self._discount,
                              chebyshev=self._chebyshev)  # fmt: skip
        twin.values, twin.utopia = self.values.copy(), self.utopia.copy()
        twin._largest = self._largest
        return twin

    def state_dict(self, num_states: int) -> State:
        """Vectors of the states numbered so far, preferences and what is pending."""
        rows = max(num_states, len(self.values))
        return {
            "weights": self.weights.copy(),
            "values": grown(self.values, rows)[:num_states].copy(),
            "utopia": self.utopia.copy(),
            "largest": self._largest,
            "pending": self._propagation.pending,
        }

    def load_state_dict(self, state: State, model: ModelTables) -> None:
        """Go on from `state_dict`."""
        self.weights, self.values = np.array(state["weights"]), np.array(state["values"])
        self.utopia, self._largest = np.array(state["utopia"]), float(state["largest"])
        self._propagation.restore(np.asarray(state["pending"]), model)


@dataclass(frozen=True, eq=False)
class GreedyPolicy:
    """Takes the stored action of each state; in a state that was never met, the first.

    Attributes:
        numbers: of states.
        actions: (state,).
    """

    numbers: StateNumbers
    actions: NDArray[np.int64]
    deterministic = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Choose actions; see `morl.types.Policy`."""
        states = self.numbers.find(observations)
        known = (states != UNKNOWN) & (states < len(self.actions))
        return np.where(known, self.actions[np.where(known, states, 0)], 0)

    @classmethod
    def stack(cls, policies: Sequence[GreedyPolicy]) -> GreedyPolicies:
        """All of them, acting in one call."""
        return GreedyPolicies(policies)


class GreedyPolicies:
    """Greedy policies acting together."""

    def __init__(self, policies: Sequence[GreedyPolicy]) -> None:
        self._policies = policies

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose actions; see `morl.types.StackedPolicy`."""
        rows = zip(self._policies, observations, strict=True)
        return np.stack([policy.act(seen, rng=rng) for policy, seen in rows])
