"""The latest transitions with continuous actions, in flat float32 arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morl.types import MorlError, State

Rows = NDArray[np.float32]


class StoreError(MorlError):
    """A store that cannot give or take what it is asked to."""


class StoredRows(NamedTuple):
    """Transitions, first axis row; rewards in the environment's units."""

    observations: Rows
    actions: Rows
    rewards: Rows
    terminated: Rows
    next_observations: Rows
    preferences: Rows


class TransitionStore:
    """A ring of transitions.

    Args:
        capacity: rows that are kept.
        observation_size: numbers of an observation.
        action_size: numbers of an action.
        num_objectives: length of a reward and a preference.
    """

    def __init__(
        self, capacity: int, observation_size: int, action_size: int, num_objectives: int
    ) -> None:
        sizes = [observation_size, action_size, num_objectives, 1, observation_size, num_objectives]
        self._edges = np.cumsum(sizes)[:-1]
        self._rows = np.zeros((capacity, sum(sizes)), np.float32)
        self._cursor = self._size = 0

    def __len__(self) -> int:
        """Rows that can be sampled."""
        return self._size

    def add(self, *blocks: NDArray[Any]) -> None:
        """Store rows: the fields of `StoredRows` in their order, each (row, number)."""
        rows = np.concatenate([np.asarray(block, np.float32) for block in blocks], axis=1)
        places = (self._cursor + np.arange(len(rows))) % len(self._rows)
        self._rows[places] = rows
        self._cursor = int(places[-1] + 1) % len(self._rows)
        self._size = min(self._size + len(rows), len(self._rows))

    def sample(self, count: int, *, rng: np.random.Generator) -> StoredRows:
        """Draw rows uniformly, with replacement.

        Raises:
            StoreError: if there is none yet.
        """
        if not self._size:
            raise StoreError("nothing can be sampled from an empty store; collect first")
        rows = self._rows.take(rng.integers(self._size, size=count), axis=0)
        return StoredRows(*np.split(rows, self._edges, axis=1))

    def state_dict(self) -> State:
        """The rows that were written, and where the ring goes on."""
        return {"rows": self._rows[: self._size].copy(), "cursor": self._cursor}

    def load_state_dict(self, state: State) -> None:
        """Go on from the state of a store of the same shape.

        Raises:
            StoreError: if it has more or other rows.
        """
        rows = np.asarray(state["rows"], np.float32)
        if len(rows) > len(self._rows) or rows.shape[1] != self._rows.shape[1]:
            raise StoreError(
                f"stored rows of shape {rows.shape} do not fit a store of {self._rows.shape}; "
                "resume with the settings of the saved run"
            )
        self._size, self._cursor = len(rows), int(state["cursor"])
        self._rows[: self._size] = rows
