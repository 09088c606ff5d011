"""Fishwood: at the river or in the woods, each step may bring one fish or one piece of wood.

Dynamics of MO-Gymnasium 1.3.2 (Roijers et al. 2018), bit for bit, random numbers included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, RandomBlocks

FISH, WOOD = range(2)
"""Places, actions (where to go) and objectives alike."""

LAST_STEP = 200
"""The environment ends an episode itself, as terminated and truncated at once."""


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    chances: NDArray[np.float64],
    elapsed: NDArray[np.int64],
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.int32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
) -> None:
    for i in range(actions.shape[0]):
        place = observations[i, 0]
        rewards[i] = 0.0
        if uniforms[i, cursors[i]] < chances[place]:
            rewards[i, place] = 1.0
        cursors[i] += 1
        observations[i, 0] = actions[i]
        terminated[i] = elapsed[i] + 1 == LAST_STEP
        truncated[i] = terminated[i]


class FishwoodVectorEnv(BatchedEnv):
    """N workers in one compiled loop.

    Observation: 0 at the river, 1 in the woods, int32 ``(1,)``. Actions: go there next. Reward:
    fish and wood, gained where the worker is before it goes. Every episode lasts 200 steps.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "fishwood-v0",
        fishproba: float = 0.1,
        woodproba: float = 0.9,
        max_episode_steps: int | None = LAST_STEP,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            fishproba: probability of a fish at the river.
            woodproba: probability of wood in the woods.
            max_episode_steps: steps after which an episode is truncated, if before 200.
            copy: whether returned arrays belong to the caller.
        """
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0, 1, (1,), np.int32),
            action_space=spaces.Discrete(2),
            reward_space=spaces.Box(0, 1, (2,), np.float32),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._chances = np.array([fishproba, woodproba], np.float64)
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, count: rng.random(count), per_step=1
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        self._random.fill()
        _advance(
            actions,
            self._chances,
            self._elapsed,
            self._random.values,
            self._random.cursor,
            self._observations,
            self._rewards,
            self._terminated,
            self._truncated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._observations[indices] = WOOD
