"""Fruit tree: walk down a binary tree to one of 2^depth fruits of six nutrients.

Dynamics and fruits of MO-Gymnasium 1.3.2 (Yang et al. 2019, arXiv:1908.08342), bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from mo_gymnasium.envs.fruit_tree.fruit_tree import FRUITS
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError
from morl.types import Front

DEPTHS = (5, 6, 7)
"""Depths for which the paper's code gives fruits."""


def fruits(depth: int) -> Front:
    """The fruits from left to right, shape (2 ** depth, 6).

    Raises:
        EnvArgumentError: for a depth without fruits.
    """
    if depth not in DEPTHS:
        raise EnvArgumentError(f"fruit-tree-v0: depth must be one of {DEPTHS}, got {depth!r}")
    return np.array(FRUITS[str(depth)], np.float64)


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    depth: int,
    leaves: NDArray[np.float64],
    observations: NDArray[np.int32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    for i in range(actions.shape[0]):
        row = observations[i, 0] + 1
        column = 2 * observations[i, 1] + actions[i]
        observations[i, 0] = row
        observations[i, 1] = column
        terminated[i] = row == depth
        for j in range(leaves.shape[1]):
            rewards[i, j] = leaves[column, j] if row == depth else 0.0


@njit(cache=True)
def _restart(indices: NDArray[np.int64], observations: NDArray[np.int32]) -> None:
    for i in indices:
        observations[i, 0] = 0
        observations[i, 1] = 0


class FruitTreeVectorEnv(BatchedEnv):
    """N walks in one compiled loop.

    Observation: row and place in the row, int32 ``(2,)``. Actions: left, right. Reward: the six
    nutrients of the fruit at the last step, zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "fruit-tree-v0",
        depth: int = 6,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            depth: of the tree, 5, 6 or 7.
            max_episode_steps: steps after which an episode is truncated; it ends by itself after
                `depth`.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        self._leaves = fruits(depth).astype(np.float32).astype(np.float64)
        self.depth = depth
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0, 2**depth - 1, (2,), np.int32),
            action_space=spaces.Discrete(2),
            reward_space=spaces.Box(0.0, 10.0, (6,), np.float32),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self.depth,
            self._leaves,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        _restart(indices, self._observations)
