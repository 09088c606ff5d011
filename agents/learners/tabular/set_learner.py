"""Keeps the sets of all states up to date while the model changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.tabular.agent import Transitions
from morl.agents.learners.tabular.model import ModelTables
from morl.agents.learners.tabular.propagation import Propagation
from morl.agents.learners.tabular.sets import SetTables, back_up
from morl.types import Front, State, Vector

TOLERANCE = 1e-9
"""Share of the largest reward, or of 1, that counts as rounding."""

MAX_SWEEPS = 200
"""Most passes over all states before an answer; returns of endless tasks settle slowly."""


class SetLearner:
    """Backward induction on sets, where and when the model changed.

    Args:
        num_objectives: of rewards.
        discount: in (0, 1].
        limit: most vectors of a set.
    """

    def __init__(self, num_objectives: int, *, discount: float, limit: int) -> None:
        self.tables = SetTables.empty(64, num_objectives)
        self._discount = discount
        self._limit = limit
        self._lowest = np.zeros(num_objectives)
        self._highest = np.zeros(num_objectives)
        self._propagation = Propagation()

    @property
    def scale(self) -> Vector:
        """One over the range of rewards, per objective; zero where rewards do not differ."""
        width = self._highest - self._lowest
        return np.divide(1.0, width, out=np.zeros_like(width), where=width > 0.0)

    @property
    def _tolerance(self) -> float:
        return TOLERANCE * max(1.0, float(np.abs([self._lowest, self._highest]).max()))

    def of(self, state: int) -> Front:
        """Vectors that can be earned from a state, (vector, objective)."""
        return self.tables.of(state) if state < len(self.tables.sizes) else self.tables.arena[:0]

    def note(self, transitions: Transitions, model: ModelTables) -> None:
        """Remember which states' pairs changed in the model, which has recorded the transitions."""
        np.minimum(self._lowest, transitions.rewards.min(axis=0), out=self._lowest)
        np.maximum(self._highest, transitions.rewards.max(axis=0), out=self._highest)
        self._propagation.note(transitions, model)

    def update(self, model: ModelTables, num_states: int, *, backups: int) -> None:
        """Back up pending states, the latest first, and whatever depends on those that change.

        Args:
            model: what is known of transitions.
            num_states: numbered so far.
            backups: most states whose sets are computed; the rest stays pending.
        """
        self.tables = self.tables.with_states(max(num_states, len(model.visits)))
        self._propagation.run(lambda queue: self._back_up(model, queue), backups=backups)

    def solved(self, model: ModelTables, num_states: int) -> tuple[SetTables, Vector]:
        """Sets that agree with the model everywhere, as far as that can be had, and the scale.

        Learning goes on from its own sets, so that answers change nothing.
        """
        kept = self.tables
        self.tables = kept.with_states(num_states).copy()
        order = np.arange(num_states - 1, -1, -1)
        for _ in range(MAX_SWEEPS):
            if not self._back_up(model, order).any():
                break
        solved, self.tables = self.tables, kept
        return solved, self.scale

    def _back_up(self, model: ModelTables, queue: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Compute sets again, (index,); returns which changed."""
        changed = np.zeros(len(queue), np.bool_)
        tolerance, done = self._tolerance, 0
        while done < len(queue):
            done += back_up(
                model, self.tables, queue[done:], self._discount, tolerance, self._limit,
                changed[done:],
            )  # fmt: skip
            if done < len(queue):
                self.tables = self.tables.compact(4 * self._limit + 1024)
        return changed

    def state_dict(self, num_states: int) -> State:
        """Sets of the states numbered so far, what is pending and the range of rewards."""
        tables = self.tables.compact(0)
        return {
            "arena": tables.arena[: int(tables.used[0])].copy(),
            "sizes": tables.with_states(num_states).sizes[:num_states].copy(),
            "pending": self._propagation.pending,
            "lowest": self._lowest.copy(),
            "highest": self._highest.copy(),
        }

    def load_state_dict(self, state: State, model: ModelTables) -> None:
        """Go on from `state_dict`; predecessors follow from the model."""
        sizes = np.array(state["sizes"], np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        arena = np.array(state["arena"], np.float64)
        self.tables = SetTables(arena, starts, sizes, np.array([len(arena)]))
        self._lowest, self._highest = np.array(state["lowest"]), np.array(state["highest"])
        self._propagation.restore(np.asarray(state["pending"]), model)
