"""Four rooms: collect shapes of three kinds on the way to the goal.

Dynamics of MO-Gymnasium 1.3.2 (after Barreto et al. 2017), bit for bit, its quirk included that
reaching the goal pays 1 in every objective. Where a maze has several starts, each environment
draws from its own stream; MO-Gymnasium draws from Python's global generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from mo_gymnasium.envs.four_room.four_room import MAZE
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError, RandomBlocks

KINDS = ("1", "2", "3")
"""Shapes: blue squares, green triangles, red circles."""

WALL, FREE, GOAL = -1, -2, -3
"""Cells that hold no shape; a shape's cell holds its number."""

MOVES = np.array([(0, -1), (-1, 0), (0, 1), (1, 0)], np.int64)
"""Row and column steps of the actions left, up, right, down."""


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    cells: NDArray[np.int64],
    kinds: NDArray[np.int64],
    moves: NDArray[np.int64],
    observations: NDArray[np.int32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    rows, columns = cells.shape
    for i in range(actions.shape[0]):
        rewards[i] = 0.0
        terminated[i] = False
        row = observations[i, 0] + moves[actions[i], 0]
        column = observations[i, 1] + moves[actions[i], 1]
        if row < 0 or row >= rows or column < 0 or column >= columns:
            continue
        cell = cells[row, column]
        if cell == WALL:
            continue
        observations[i, 0] = row
        observations[i, 1] = column
        if cell == GOAL:
            rewards[i] = 1.0
            terminated[i] = True
        elif cell >= 0 and observations[i, 2 + cell] == 0:
            observations[i, 2 + cell] = 1
            rewards[i, kinds[cell]] = 1.0


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64],
    starts: NDArray[np.int64],
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.int32],
) -> None:
    for i in indices:
        chosen = 0
        if starts.shape[0] > 1:
            chosen = int(uniforms[i, cursors[i]] * starts.shape[0])
            cursors[i] += 1
        observations[i] = 0
        observations[i, 0] = starts[chosen, 0]
        observations[i, 1] = starts[chosen, 1]


class FourRoomVectorEnv(BatchedEnv):
    """N walkers in one compiled loop.

    Observation: row, column and which shapes are collected (numbered down the columns, from left
    to right), int32 ``(14,)``. Actions: left, up, right, down. Reward: 1 in its kind for each new
    shape, 1 in all kinds for the goal, which ends the episode.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "four-room-v0",
        maze: NDArray[np.str_] | None = None,
        max_episode_steps: int | None = 200,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            maze: letters ``(row, column)``: "X" walls, "_" starts, "G" the goal, "1" to "3"
                shapes; None for MO-Gymnasium's.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for a maze without start or goal, or with other digits.
        """
        maze = np.asarray(MAZE if maze is None else maze)
        self._starts = np.argwhere(maze == "_")
        shapes = [place for place in np.argwhere(maze.T != " ") if maze.T[tuple(place)].isdigit()]
        letters = [str(maze.T[tuple(place)]) for place in shapes]
        unknown = sorted(set(letters) - set(KINDS))
        if unknown or not len(self._starts) or not (maze == "G").any():
            raise EnvArgumentError(
                f"{env_id}: a maze needs a start '_', a goal 'G' and no shapes but {KINDS}"
            )
        self._cells = np.full(maze.shape, FREE, np.int64)
        self._cells[maze == "X"] = WALL
        # Where there are several goals, MO-Gymnasium keeps the last one down the columns.
        self._cells.T[tuple(np.argwhere(maze.T == "G")[-1])] = GOAL
        for number, place in enumerate(shapes):
            self._cells.T[tuple(place)] = number
        self._kinds = np.array([KINDS.index(letter) for letter in letters], np.int64)
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0, len(maze), (2 + len(shapes),), np.int32),
            action_space=spaces.Discrete(len(MOVES)),
            reward_space=spaces.Box(0, 1, (len(KINDS),), np.float32),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, count: rng.random(count), per_step=1, block=8
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self._cells,
            self._kinds,
            MOVES,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        if len(self._starts) > 1:
            self._random.fill()
        _restart(
            indices,
            self._starts,
            self._random.values,
            self._random.cursor,
            self._observations,
        )
