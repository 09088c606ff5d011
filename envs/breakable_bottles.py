"""Breakable bottles: carry two bottles along a corridor; who carries both may drop one.

Dynamics of MO-Gymnasium 1.3.2 (Vamplew et al. 2021), bit for bit, random numbers included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError, RandomBlocks

LEFT, RIGHT, PICK_UP = range(3)
"""Actions."""

MOST = 2
"""Bottles that can be carried, and that must be delivered."""

# Columns of the state.
PLACE, CARRIED, DELIVERED, DROPPED = range(4)


@njit(cache=True)
def _observe(i: int, state: NDArray[np.int64], observations: NDArray[np.int64]) -> None:
    """Write one-hot carried, delivered, then the dropped bottles, then the one-hot place."""
    inner = state.shape[1] - DROPPED
    observations[i] = 0
    observations[i, state[i, CARRIED]] = 1
    observations[i, 3 + state[i, DELIVERED]] = 1
    observations[i, 6 : 6 + inner] = state[i, DROPPED:]
    observations[i, 6 + inner + state[i, PLACE]] = 1


@njit(cache=True)
def _drops(
    i: int,
    state: NDArray[np.int64],
    probability: float,
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
) -> None:
    """Maybe drop one of two bottles on leaving an inner place."""
    place = state[i, PLACE]
    if place < 1 or place > state.shape[1] - DROPPED or state[i, CARRIED] < MOST:
        return
    chance = uniforms[i, cursors[i]]
    cursors[i] += 1
    if chance < probability:
        state[i, CARRIED] -= 1
        state[i, DROPPED + place - 1] += 1


@njit(cache=True)
def _deliver(i: int, state: NDArray[np.int64]) -> int:
    """Hand over what is carried at the right end; returns how many bottles count."""
    before = state[i, DELIVERED]
    state[i, DELIVERED] = min(before + state[i, CARRIED], MOST)
    state[i, CARRIED] = 0
    return int(state[i, DELIVERED] - before)


@njit(cache=True)
def _pick_up(i: int, state: NDArray[np.int64], unbreakable: bool) -> None:
    place = state[i, PLACE]
    if state[i, CARRIED] >= MOST:
        return
    if place == 0:
        state[i, CARRIED] += 1
    elif unbreakable and place <= state.shape[1] - DROPPED and state[i, DROPPED + place - 1] > 0:
        state[i, DROPPED + place - 1] -= 1
        state[i, CARRIED] += 1


@njit(cache=True)
def _potential(i: int, state: NDArray[np.int64]) -> float:
    """-1 while any dropped bottle lies about."""
    return -1.0 if state[i, DROPPED:].sum() > 0 else 0.0


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    state: NDArray[np.int64],
    probability: float,
    time_penalty: float,
    bottle_reward: float,
    unbreakable: bool,
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.int64],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    last = state.shape[1] - DROPPED + 1
    for i in range(actions.shape[0]):
        before = _potential(i, state)
        delivered = 0
        if actions[i] == LEFT and state[i, PLACE] > 0:
            _drops(i, state, probability, uniforms, cursors)
            state[i, PLACE] -= 1
        elif actions[i] == RIGHT and state[i, PLACE] < last:
            _drops(i, state, probability, uniforms, cursors)
            state[i, PLACE] += 1
            if state[i, PLACE] == last:
                delivered = _deliver(i, state)
        elif actions[i] == PICK_UP:
            _pick_up(i, state, unbreakable)
        rewards[i, 0] = time_penalty
        rewards[i, 1] = bottle_reward * delivered
        rewards[i, 2] = _potential(i, state) - before
        terminated[i] = delivered > 0 and state[i, DELIVERED] == MOST
        _observe(i, state, observations)


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64], state: NDArray[np.int64], observations: NDArray[np.int64]
) -> None:
    for i in indices:
        state[i] = 0
        state[i, PLACE] = state.shape[1] - DROPPED + 1
        _observe(i, state, observations)


class BreakableBottlesVectorEnv(BatchedEnv):
    """N carriers in one compiled loop.

    Observation: what Gymnasium's ``flatten`` makes of MO-Gymnasium's dict: one-hot number of
    bottles carried and delivered, bottles dropped at each inner place, one-hot place; int64. (A
    place may hold more than one dropped bottle, which MO-Gymnasium's space denies.) Actions:
    left, right, pick up. Reward: time, bottles delivered, and the change of -1 while any dropped
    bottle lies about. The episode ends with the second delivery.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "breakable-bottles-v0",
        size: int = 5,
        prob_drop: float = 0.1,
        time_penalty: float = -1,
        bottle_reward: float = 25,
        unbreakable_bottles: bool = False,
        max_episode_steps: int | None = 100,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            size: places of the corridor, at least 3.
            prob_drop: probability to drop one of two bottles on leaving an inner place.
            time_penalty: reward of the first objective for each step.
            bottle_reward: reward of the second objective for each bottle.
            unbreakable_bottles: whether dropped bottles can be picked up again.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        if size < 3:
            raise EnvArgumentError(f"{env_id}: size must be at least 3, got {size}")
        high = np.ones(6 + (size - 2) + size, np.int64)
        high[6 : 6 + size - 2] = np.iinfo(np.int8).max
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(np.zeros_like(high), high, dtype=np.int64),
            action_space=spaces.Discrete(3),
            reward_space=spaces.Box(
                np.array([-np.inf, 0, -1], np.float32),
                np.array([0, 2 * bottle_reward, float(unbreakable_bottles)], np.float32),
            ),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._settings = (
            float(prob_drop),
            float(time_penalty),
            float(bottle_reward),
            bool(unbreakable_bottles),
        )
        self._state = np.zeros((self.num_envs, DROPPED + size - 2), np.int64)
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, count: rng.random(count), per_step=1, block=64
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        self._random.fill()
        _advance(
            actions,
            self._state,
            *self._settings,
            self._random.values,
            self._random.cursor,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        _restart(indices, self._state, self._observations)
