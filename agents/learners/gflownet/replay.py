"""A ring of finished trajectories: the actions of each, what it is worth, what it was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.networks import Indices
from morl.types import Front, State


class TrajectoryReplay:
    """The latest trajectories.

    Args:
        capacity: most of them, at least 1.
        horizon: most actions of one.
        num_objectives: length of an objective vector.

    Attributes:
        actions: (trajectory, time), -1 after the end.
        values: (trajectory, objective).
        conditions: (trajectory, objective), what each was asked for, or zeros.
    """

    def __init__(self, capacity: int, *, horizon: int, num_objectives: int) -> None:
        self.actions = np.full((capacity, horizon), -1, np.int16)
        self.values = np.zeros((capacity, num_objectives))
        self.conditions = np.zeros((capacity, num_objectives))
        self._on_front = np.zeros(capacity, np.bool_)
        self._size = 0
        self._cursor = 0

    def __len__(self) -> int:
        """Count the trajectories."""
        return self._size

    def add(
        self,
        actions: NDArray[np.integer[Any]],
        values: Front,
        *,
        front: Front,
        conditions: Front | None = None,
    ) -> None:
        """Store trajectories, the oldest make room.

        Args:
            actions: (trajectory, time), at most `capacity` of them.
            values: (trajectory, objective).
            front: nondominated values of all trajectories ever, these included.
            conditions: (trajectory, objective).
        """
        capacity = len(self.actions)
        places = (self._cursor + np.arange(len(actions))) % capacity
        self.actions[places] = actions
        self.values[places] = values
        if conditions is not None:
            self.conditions[places] = conditions
        self._cursor = int((self._cursor + len(actions)) % capacity)
        self._size = min(self._size + len(actions), capacity)
        self._on_front[places] = True
        self._leave_dominated(front)

    def draw(self, count: int, *, rng: np.random.Generator) -> Indices:
        """Places of trajectories, uniform and with replacement."""
        return rng.integers(self._size, size=count)

    def draw_front(self, count: int, *, rng: np.random.Generator) -> Indices:
        """Places of trajectories that nothing dominates, uniform and with replacement.

        Where the ring has none any more, of all of them.
        """
        places = np.flatnonzero(self._on_front)
        if not len(places):
            return self.draw(count, rng=rng)
        return np.asarray(rng.choice(places, size=count))

    def state_dict(self) -> State:
        """What was written, and where the ring goes on."""
        size = self._size
        return {
            "actions": self.actions[:size].copy(),
            "values": self.values[:size].copy(),
            "conditions": self.conditions[:size].copy(),
            "on_front": self._on_front[:size].copy(),
            "cursor": self._cursor,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a ring of the same shape."""
        size = self._size = len(state["actions"])
        self.actions[:size] = state["actions"]
        self.values[:size] = state["values"]
        self.conditions[:size] = state["conditions"]
        self._on_front[:] = False
        self._on_front[:size] = state["on_front"]
        self._cursor = int(state["cursor"])

    def _leave_dominated(self, front: Front) -> None:
        """Forget who is dominated by now: a front of all time only ever moves away."""
        places = np.flatnonzero(self._on_front)
        dominated = np.empty(len(places), np.bool_)
        kernels.dominated(self.values[places], np.ascontiguousarray(front), dominated)
        self._on_front[places[dominated]] = False
