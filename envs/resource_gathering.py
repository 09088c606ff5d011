"""Resource gathering: fetch gold and a gem from a 5 x 5 grid where two enemies may kill.

Dynamics of MO-Gymnasium 1.3.2 (Barrett and Narayanan 2008), bit for bit, random numbers included.
Its declared front is wrong; `model` gives the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, RandomBlocks
from morl.exact import END, FiniteModel

GROUND, GOLD, GEM, ENEMY, HOME = range(5)

SIZE = 5
MAP = np.full((SIZE, SIZE), GROUND, np.int8)
MAP[0, 2], MAP[0, 3], MAP[1, 2], MAP[1, 4], MAP[4, 2] = GOLD, ENEMY, ENEMY, GEM, HOME
START = (4, 2)
DEATH = 0.1
"""Probability that an enemy kills whoever steps on its cell."""

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)], np.int64)
"""Row and column steps of the actions up, down, left, right."""

HORIZON = 100
"""Registered step limit; far more than any undominated plan takes."""


STATES = np.array(list(np.ndindex(SIZE, SIZE, 2, 2)), np.int32)
"""Row, column, whether gold and gem are carried; states are counted in this order."""


def _step(
    state: Sequence[int] | NDArray[np.int32], move: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Where a move leads from a state, if nobody kills."""
    row = int(np.clip(state[0] + move[0], 0, SIZE - 1))
    column = int(np.clip(state[1] + move[1], 0, SIZE - 1))
    cell = MAP[row, column]
    return row, column, int(state[2] or cell == GOLD), int(state[3] or cell == GEM)


def _table() -> NDArray[np.int64]:
    """Number of the next state for each state and action."""
    numbers = {tuple(state): number for number, state in enumerate(STATES.tolist())}
    return np.array([[numbers[_step(state, move)] for move in MOVES] for state in STATES])


def model() -> FiniteModel:
    """The whole problem as tables; the second outcome of an action is death."""
    successors = np.full((len(STATES), len(MOVES), 2), END, np.int64)
    probabilities = np.zeros(successors.shape)
    rewards = np.zeros((*successors.shape[:2], 3))
    table = _table()
    for state, action in np.ndindex(table.shape):
        after = table[state, action]
        row, column, gold, gem = STATES[after]
        cell = MAP[row, column]
        risk = DEATH if cell == ENEMY else 0.0
        probabilities[state, action] = 1.0 - risk, risk
        rewards[state, action] = (0, gold, gem) if cell == HOME else (-risk, 0, 0)
        if cell != HOME:
            successors[state, action, 0] = after
    return FiniteModel(
        successors=successors,
        probabilities=probabilities,
        rewards=rewards,
        start=STATES.tolist().index([*START, 0, 0]),
    )


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    states: NDArray[np.int64],
    table: NDArray[np.int64],
    features: NDArray[np.int32],
    cells: NDArray[np.int8],
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.int32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    for i in range(actions.shape[0]):
        state = table[states[i], actions[i]]
        states[i] = state
        cell = cells[state]
        killed = False
        if cell == ENEMY:
            killed = uniforms[i, cursors[i]] < DEATH
            cursors[i] += 1
        for k in range(4):
            observations[i, k] = features[state, k]
        home = cell == HOME
        rewards[i, 0] = 0.0 - killed
        rewards[i, 1] = features[state, 2] * home
        rewards[i, 2] = features[state, 3] * home
        terminated[i] = home | killed


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64],
    start: int,
    states: NDArray[np.int64],
    features: NDArray[np.int32],
    observations: NDArray[np.int32],
) -> None:
    for i in indices:
        states[i] = start
        for k in range(4):
            observations[i, k] = features[start, k]


class ResourceGatheringVectorEnv(BatchedEnv):
    """N gatherers in one compiled loop.

    Observation: row, column, whether gold and gem are carried; int32 ``(4,)``. Actions: up, down,
    left, right. Reward: -1 for death, 1 for gold and 1 for the gem brought home. The episode ends
    with death or at home.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "resource-gathering-v0",
        max_episode_steps: int | None = HORIZON,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.
        """
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0, 5, (4,), np.int32),
            action_space=spaces.Discrete(len(MOVES)),
            reward_space=spaces.Box(
                np.array([-1, 0, 0], np.float32), np.array([0, 1, 1], np.float32)
            ),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._table = _table()
        self._cells = MAP[STATES[:, 0], STATES[:, 1]]
        self._start = STATES.tolist().index([*START, 0, 0])
        self._states = np.zeros(self.num_envs, np.int64)
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, count: rng.random(count), per_step=1, block=64
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        self._random.fill()
        _advance(
            actions,
            self._states,
            self._table,
            STATES,
            self._cells,
            self._random.values,
            self._random.cursor,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        _restart(indices, self._start, self._states, STATES, self._observations)
