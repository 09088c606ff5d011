"""Which states must be looked at again after the model changed, and those that depend on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.tabular.agent import Transitions
from morl.agents.learners.tabular.model import END, ModelTables

NEWS_SHARE = 16
"""A pair with several successors is news each time that its visits grew by one in so many."""


class Propagation:
    """Pending states in the order of their news, and who leads to whom."""

    def __init__(self) -> None:
        # Ordered, without repetition: states whose values may have to change.
        self._pending: dict[int, None] = {}
        self._predecessors: dict[int, set[int]] = {}

    def note(self, transitions: Transitions, model: ModelTables) -> None:
        """Remember which states' pairs changed in the model, which has recorded the transitions."""
        states, actions = transitions.states, transitions.actions
        visits = model.visits[states, actions]
        several = model.outcomes[states, actions] > 1
        same = model.successors[states, actions] == transitions.successors[:, None]
        # Several environments may see a successor for the first time in one step.
        first = (same & (model.counts[states, actions] <= len(states))).any(axis=1)
        news = first | (several & (visits % (1 + visits // NEWS_SHARE) == 0))
        for index in np.flatnonzero(news).tolist():
            state, successor = int(states[index]), int(transitions.successors[index])
            self._pending.pop(state, None)
            self._pending[state] = None
            if successor != END:
                self._predecessors.setdefault(successor, set()).add(state)

    def run(
        self, back_up: Callable[[NDArray[np.int64]], NDArray[np.bool_]], *, backups: int
    ) -> None:
        """Back up pending states, the latest first, and whatever depends on those that change.

        Args:
            back_up: computes states (index,) again, in order, and says which changed.
            backups: most states that are computed; the rest stays pending.
        """
        while self._pending and backups > 0:
            queue = list(reversed(self._pending))[:backups]
            for state in queue:
                del self._pending[state]
            changed = back_up(np.array(queue, np.int64))
            backups -= len(queue)
            for state in np.array(queue)[changed].tolist():
                for predecessor in sorted(self._predecessors.get(state, ())):
                    self._pending.pop(predecessor, None)
                    self._pending[predecessor] = None

    @property
    def pending(self) -> NDArray[np.int64]:
        """States that wait, for a checkpoint."""
        return np.array(list(self._pending), np.int64)

    def restore(self, pending: NDArray[np.int64], model: ModelTables) -> None:
        """Go on from `pending`; predecessors follow from the model."""
        self._pending = dict.fromkeys(np.asarray(pending).tolist())
        self._predecessors = {}
        for state, action, outcome in np.argwhere(model.counts > 0).tolist():
            successor = int(model.successors[state, action, outcome])
            if successor != END:
                self._predecessors.setdefault(successor, set()).add(state)
