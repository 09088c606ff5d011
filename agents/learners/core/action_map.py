"""From the outputs of a network to actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from morl.masks import ActionMasks, masked
from morl.types import MorlError


@dataclass(frozen=True)
class ActionMap:
    """From outputs to actions: the best of them, or a squashed vector.

    Attributes:
        low: lower corner of a box of actions, or None where actions are discrete.
        high: its upper corner.
        dtype: of the actions.
    """

    low: NDArray[Any] | None
    high: NDArray[Any] | None
    dtype: np.dtype[Any]

    def __call__(
        self, outputs: NDArray[np.float64], masks: ActionMasks | None = None
    ) -> NDArray[Any]:
        """Map outputs (..., output) to actions; of discrete ones the best that `masks` allow."""
        if self.low is None or self.high is None:
            return np.asarray(masked(outputs, masks).argmax(axis=-1), dtype=self.dtype)
        share = (np.tanh(outputs) + 1.0) / 2.0
        return np.asarray(self.low + share * (self.high - self.low), dtype=self.dtype)


def action_map(space: Space[Any], *, env_id: str, agent: str) -> tuple[int, ActionMap]:
    """Number of outputs, and what they mean.

    Args:
        space: of one action.
        env_id: for the message.
        agent: for the message.

    Raises:
        MorlError: actions are neither discrete nor a vector.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n), ActionMap(None, None, np.dtype(np.int64))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.shape[0], ActionMap(space.low, space.high, np.dtype(space.dtype))
    raise MorlError(f"{env_id}: {agent} knows discrete and box actions, not {space}")
