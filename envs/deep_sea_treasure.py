"""Deep sea treasure: a submarine in a grid, the deeper the treasure the longer the dive.

Dynamics and maps of MO-Gymnasium 1.3.2, bit for bit: convex (Yang et al. 2019,
arXiv:1908.08342), concave (Vamplew et al. 2011) and mirrored (Felten et al. 2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from mo_gymnasium.envs.deep_sea_treasure.deep_sea_treasure import (
    CONCAVE_MAP,
    DEFAULT_MAP,
    MIRRORED_MAP,
)
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError

ROCK = -10.0
"""Value of an impassable cell; 0 is water, anything else a treasure."""

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column steps of the actions up, down, left, right."""

FLOAT_SCALE = np.float32(0.1)


def transitions(sea_map: NDArray[np.float64]) -> NDArray[np.int64]:
    """Next cell for each cell and action; cells count along the rows, shape (cell, action).

    A move off the map or into rock leaves the submarine where it is.
    """
    rows, columns = sea_map.shape
    table = np.empty((rows * columns, len(MOVES)), np.int64)
    for row, column in np.ndindex(rows, columns):
        here = row * columns + column
        for action, (down, right) in enumerate(MOVES):
            below, beside = row + down, column + right
            open_water = 0 <= below < rows and 0 <= beside < columns
            open_water = open_water and sea_map[below, beside] != ROCK
            table[here, action] = below * columns + beside if open_water else here
    return table


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    cells: NDArray[np.int64],
    table: NDArray[np.int64],
    treasures: NDArray[np.float64],
    places: NDArray[Any],
    observations: NDArray[Any],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    for i in range(actions.shape[0]):
        cell = table[cells[i], actions[i]]
        cells[i] = cell
        observations[i, 0] = places[cell, 0]
        observations[i, 1] = places[cell, 1]
        rewards[i, 0] = treasures[cell]
        rewards[i, 1] = -1.0
        terminated[i] = treasures[cell] != 0.0


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64],
    start: int,
    cells: NDArray[np.int64],
    places: NDArray[Any],
    observations: NDArray[Any],
) -> None:
    for i in indices:
        cells[i] = start
        observations[i, 0] = places[start, 0]
        observations[i, 1] = places[start, 1]


class DeepSeaTreasureVectorEnv(BatchedEnv):
    """N submarines in one compiled loop.

    Observation: row and column, int32 ``(2,)``, or a tenth of them in float32. Actions: up, down,
    left, right. Reward: value of the treasure that ends the episode, and -1 a step.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "deep-sea-treasure-v0",
        dst_map: NDArray[np.float64] | None = None,
        float_state: bool = False,
        max_episode_steps: int | None = 100,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            dst_map: one of MO-Gymnasium's three maps; None for the convex one.
            float_state: whether observations are a tenth of row and column, in float32.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for a map that is none of the three.
        """
        sea_map = np.asarray(DEFAULT_MAP if dst_map is None else dst_map)
        if not any(
            np.array_equal(sea_map, one) for one in (DEFAULT_MAP, CONCAVE_MAP, MIRRORED_MAP)
        ):
            raise EnvArgumentError(
                f"{env_id}: dst_map must be DEFAULT_MAP, CONCAVE_MAP or MIRRORED_MAP of "
                "mo_gymnasium.envs.deep_sea_treasure.deep_sea_treasure"
            )
        columns = sea_map.shape[1]
        dtype = np.float32 if float_state else np.int32
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0, 1.0 if float_state else columns, (2,), dtype),
            action_space=spaces.Discrete(len(MOVES)),
            reward_space=spaces.Box(
                np.array([0, -1], np.float32), np.array([sea_map.max(), -1], np.float32)
            ),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        # Rewards are given out in single precision.
        values = np.where(sea_map == ROCK, 0.0, sea_map).astype(np.float32)
        self._treasures = values.astype(np.float64).ravel()
        self._table = transitions(sea_map)
        places = np.argwhere(np.ones(sea_map.shape, bool)).astype(np.int32)
        self._places = places.astype(np.float32) * FLOAT_SCALE if float_state else places
        self._start = 10 if np.array_equal(sea_map, MIRRORED_MAP) else 0
        self._cells = np.zeros(self.num_envs, np.int64)

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self._cells,
            self._table,
            self._treasures,
            self._places,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        _restart(indices, self._start, self._cells, self._places, self._observations)
