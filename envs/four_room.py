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
from morl.exact import END, FiniteModel

KINDS = ("1", "2", "3")
"""Shapes: blue squares, green triangles, red circles."""

WALL, FREE, GOAL = -1, -2, -3
"""Cells that hold no shape; a shape's cell holds its number."""

MOVES = np.array([(0, -1), (-1, 0), (0, 1), (1, 0)], np.int64)
"""Row and column steps of the actions left, up, right, down."""


def model(maze: NDArray[np.str_] | None = None) -> FiniteModel:
    """A maze as tables: where to go next, to a shape or to the goal, by a shortest way.

    A state is what is collected and the place of the last shape; the 400,000 states of the usual
    maze itself need not be told apart. No undominated plan is lost: nothing but arrivals pays, and
    an earlier arrival never pays less.

    Args:
        maze: as for `FourRoomVectorEnv`, with one start, one goal, and nothing out of reach.
    """
    maze = np.asarray(MAZE if maze is None else maze)
    shapes = [
        tuple(place[::-1]) for place in np.argwhere(maze.T != " ") if maze.T[tuple(place)].isdigit()
    ]
    start, goal = (tuple(np.argwhere(maze == letter)[0]) for letter in "_G")
    places = [*shapes, start]
    ways = [_shortest_ways(maze, place) for place in places]
    count = len(shapes)
    subsets, lasts = np.indices((2**count, len(places))).reshape(2, -1)
    successors = np.full((len(subsets), count + 1, 1), END, np.int64)
    probabilities = np.ones(successors.shape)
    rewards = np.ones((*successors.shape[:2], len(KINDS)))
    durations = np.empty(successors.shape[:2], np.int64)
    for action, target in enumerate([*shapes, goal]):
        durations[:, action] = np.array([max(1, len(way[target])) for way in ways])[lasts]
        if target != goal:
            probabilities[:, action, 0] = subsets >> action & 1 == 0
            successors[:, action, 0] = (subsets | 1 << action) * len(places) + action
            rewards[:, action] = np.eye(len(KINDS))[KINDS.index(maze[target])]

    def moves(state: int, action: int) -> tuple[int, ...]:
        return ways[state % len(places)][[*shapes, goal][action]]

    return FiniteModel(
        successors=successors,
        probabilities=probabilities,
        rewards=rewards,
        start=count,
        durations=durations,
        moves=moves,
    )


def _shortest_ways(
    maze: NDArray[np.str_], start: tuple[int, ...]
) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Shortest sequences of actions from one cell to all others, none through the goal."""
    ways: dict[tuple[int, ...], tuple[int, ...]] = {start: ()}
    queue = [start]
    for cell in queue:  # grows on the way
        for action, move in enumerate(MOVES):
            after = tuple((cell + move).tolist())
            inside = all(0 <= at < size for at, size in zip(after, maze.shape, strict=True))
            if inside and after not in ways and maze[after] != "X":
                ways[after] = (*ways[cell], action)
                if maze[after] != "G":
                    queue.append(after)
    return ways


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
