"""A small environment in which some actions are illegal, and illegal ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.envs.vector import ActionError, BatchedEnv
from morl.types import EnvSpec, Objective, Task

LENGTH = 6

SPEC = EnvSpec(
    id="stairs-v0",
    objectives=(Objective("gold"), Objective("time")),
    reference_point=(-1.0, -25.0),
    discount=1.0,
    horizon=20,
    masks_actions=True,
)


class Stairs(BatchedEnv):
    """Climb by one (0) or two (1), step down (2) or take the gold of the place and end (3).

    Two steps up are legal on even places alone, down on all but the first, the gold from the
    second on. Nothing is random. The observation does not show what is legal.
    """

    def __init__(self, num_envs: int) -> None:
        super().__init__(
            num_envs,
            env_id=SPEC.id,
            observation_space=spaces.Box(0.0, 1.0, (1,), np.float32),
            action_space=spaces.Discrete(4),
            reward_space=spaces.Box(
                np.array([0.0, -1.0]), np.array([LENGTH, -1.0]), dtype=np.float64
            ),
            max_episode_steps=SPEC.horizon,
        )
        self._places = np.zeros(num_envs, np.int64)

    def _action_masks(self) -> NDArray[np.bool_]:
        here = self._places
        up = here < LENGTH - 1
        return np.stack([up, (here % 2 == 0) & (here < LENGTH - 2), here > 0, here > 1], axis=1)

    def _advance(self, actions: NDArray[Any]) -> None:
        masks = self._action_masks()
        if not masks[np.arange(self.num_envs), actions].all():
            raise ActionError(f"{SPEC.id}: an illegal action among {actions.tolist()}")
        self._terminated[:] = actions == 3
        self._rewards[:, 0] = np.where(self._terminated, self._places, 0)
        self._rewards[:, 1] = -1.0
        self._places += np.array([1, 2, -1, 0])[actions]
        self._observations[:, 0] = self._places / (LENGTH - 1)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._places[indices] = 0
        self._observations[indices] = 0.0


def stairs() -> Task:
    """The task of climbing."""
    return Task(spec=SPEC, factory=Stairs)
