"""Resource gathering: fetch gold and a gem from a 5 x 5 grid where two enemies may kill.

Dynamics of MO-Gymnasium 1.3.2 (Barrett and Narayanan 2008), bit for bit, random numbers included.
Its declared front is wrong; `front` is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, RandomBlocks
from morl.pareto import nondominated, unique
from morl.types import Front

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


def front(discount: float) -> Front:
    """The exact Pareto front of expected discounted returns of deterministic plans.

    Backward induction over sets of undominated returns. From each state an action leads to one
    state, or to death, so a plan is a path and its return a weighted sum along it.

    Args:
        discount: in (0, 1].

    Returns:
        Shape (point, 3): enemy, gold, gem.
    """
    return _front(discount).copy()


@cache
def _front(discount: float) -> Front:
    states = list(np.ndindex(SIZE, SIZE, 2, 2))
    values = {state: np.zeros((1, 3)) for state in states}
    for _ in range(HORIZON):
        longer = {state: _backed_up(state, values, discount) for state in states}
        if all(np.array_equal(longer[state], values[state]) for state in states):
            break
        values = longer
    return values[(*START, 0, 0)]


def _backed_up(
    state: tuple[int, ...], values: dict[tuple[int, ...], Front], discount: float
) -> Front:
    """Undominated returns of one step and then the plans in `values`."""
    candidates = []
    for move in MOVES:
        after = _step(state, move)
        cell = MAP[after[:2]]
        if cell == HOME:
            candidates.append(np.array([[0.0, after[2], after[3]]]))
        elif cell == ENEMY:
            candidates.append((1 - DEATH) * discount * values[after] + [-DEATH, 0, 0])
        else:
            candidates.append(discount * values[after])
    points = np.concatenate(candidates)
    points = points[nondominated(points, tolerance=1e-12)]
    return points[unique(points, tolerance=1e-12)]


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
