"""States by number: observations are hashed as they appear, so that no dense table is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.types import MorlError

UNKNOWN = -1
"""Number of a state that was never met."""


class StateSpaceError(MorlError, RuntimeError):
    """More states were met than a table may hold."""


def require_countable(space: Space[Any], *, env_id: str, agent: str) -> None:
    """Refuse observations that do not repeat.

    Args:
        space: of one observation, a `Box`.
        env_id: for the message.
        agent: for the message.

    Raises:
        UnsupportedTaskError: observations are not integers.
    """
    dtype = np.dtype(getattr(space, "dtype", None) or np.float64)
    if dtype.kind not in "iub":
        raise UnsupportedTaskError(
            f"{env_id}: {agent} keeps a table of states and needs observations of integers, got "
            f"{space}; agents with a network can act here: morl list agents env={env_id}"
        )


class StateNumbers:
    """Numbers observations in the order in which they are met.

    Args:
        shape: of one observation.
        dtype: of observations.
        max_states: most states that may be met.
        env_id: for messages.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], *, max_states: int, env_id: str
    ) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._max_states = max_states
        self._env_id = env_id
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        """States met so far."""
        return len(self._numbers)

    def learn(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers of observations (env, *observation); new ones get the next number.

        Raises:
            StateSpaceError: more than `max_states` states were met; nothing is lost, the states
                met before keep their numbers.
        """
        numbers = self._numbers
        found = [numbers.setdefault(key, len(numbers)) for key in self._keys(observations)]
        if len(numbers) > self._max_states:
            for key in list(numbers)[self._max_states :]:
                del numbers[key]
            raise StateSpaceError(
                f"{self._env_id}: more than agent.max_states={self._max_states} states were met; "
                "raise it if memory allows, or take an agent with a network"
            )
        return np.array(found, np.int64)

    def find(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers of observations (row, *observation), `UNKNOWN` for those never met."""
        get = self._numbers.get
        return np.array([get(key, UNKNOWN) for key in self._keys(observations)], np.int64)

    def _keys(self, observations: NDArray[Any]) -> list[bytes]:
        rows = np.ascontiguousarray(observations, self._dtype).reshape(len(observations), -1)
        width = rows.shape[1] * rows.itemsize
        data = rows.tobytes()
        return [data[start : start + width] for start in range(0, len(data), width)]

    def table(self) -> NDArray[Any]:
        """Observations by number, (state, *observation)."""
        data = np.frombuffer(b"".join(self._numbers), self._dtype)
        return data.reshape(len(self._numbers), *self._shape).copy()

    def restore(self, table: NDArray[Any]) -> None:
        """Replace all numbers by those of a `table`."""
        self._numbers = {key: number for number, key in enumerate(self._keys(table))}
