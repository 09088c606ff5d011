"""Mountain cars: an underpowered car swings up a valley, with discrete or continuous force.

Dynamics of MO-Gymnasium 1.3.2 on Gymnasium's mountain cars, bit for bit under NumPy 2, random
numbers included.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, RandomBlocks

REVERSE, COAST, FORWARD = range(3)
"""Actions of the discrete car."""

# Constants of Gymnasium's `mountain_car.py` and `continuous_mountain_car.py`.
LEFT_END, RIGHT_END = -1.2, 0.6
MAX_SPEED = 0.07
GRAVITY = 0.0025
FORCE = 0.001
POWER = 0.0015
GOAL, CONTINUOUS_GOAL = 0.5, 0.45
LOWEST_START, HIGHEST_START = -0.6, -0.4
SPEED_SCALE = 15


def _draw_starts(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.uniform(LOWEST_START, HIGHEST_START, count)


def _observation_space() -> spaces.Box:
    low = np.array([LEFT_END, -MAX_SPEED], np.float32)
    return spaces.Box(low, np.array([RIGHT_END, MAX_SPEED], np.float32), dtype=np.float32)


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64],
    starts: NDArray[np.float64],
    cursors: NDArray[np.int64],
    cars: NDArray[np.float64],
    fresh: NDArray[np.bool_],
    observations: NDArray[np.float32],
) -> None:
    for i in indices:
        cars[i, 0] = starts[i, cursors[i]]
        cars[i, 1] = 0.0
        cursors[i] += 1
        fresh[i] = True
        observations[i, 0] = cars[i, 0]
        observations[i, 1] = 0.0


class _MountainCarVectorEnv(BatchedEnv):
    """State and starts of both cars."""

    def __init__(self, num_envs: int, **settings: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(num_envs, observation_space=_observation_space(), **settings)
        self._cars = np.zeros((self.num_envs, 2))
        self._fresh = np.ones(self.num_envs, np.bool_)
        self._random: RandomBlocks = RandomBlocks(self.num_envs, _draw_starts, per_step=1, block=16)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._random.fill()
        _restart(
            indices,
            self._random.values,
            self._random.cursor,
            self._cars,
            self._fresh,
            self._observations,
        )


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    cars: NDArray[np.float64],
    goal_velocity: float,
    reverse: int,
    forward: int,
    speed: int,
    observations: NDArray[np.float32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    """Step discrete cars; `reverse`, `forward`, `speed` are columns of the reward, -1 for none."""
    for i in range(actions.shape[0]):
        position, velocity = cars[i, 0], cars[i, 1]
        velocity += (actions[i] - 1) * FORCE + math.cos(3 * position) * (-GRAVITY)
        velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
        position = min(max(position + velocity, LEFT_END), RIGHT_END)
        if position == LEFT_END and velocity < 0:
            velocity = 0.0
        cars[i, 0] = position
        cars[i, 1] = velocity
        terminated[i] = position >= GOAL and velocity >= goal_velocity
        rewards[i] = 0.0
        rewards[i, 0] = 0.0 if terminated[i] else -1.0
        if reverse >= 0 and actions[i] == REVERSE:
            rewards[i, reverse] = -1.0
        if forward >= 0 and actions[i] == FORWARD:
            rewards[i, forward] = -1.0
        if speed >= 0:
            rewards[i, speed] = np.float32(SPEED_SCALE * abs(velocity))
        observations[i, 0] = position
        observations[i, 1] = velocity


class MountainCarVectorEnv(_MountainCarVectorEnv):
    """N cars with three throttle positions in one compiled loop.

    Observation: position and velocity, float32 ``(2,)``. Actions: reverse, coast, forward.
    Reward: time, then reverse and forward penalties (or one for both, or none), then speed if
    asked for. The episode ends at the top of the hill.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "mo-mountaincar-v0",
        add_speed_objective: bool = False,
        remove_move_penalty: bool = False,
        merge_move_penalty: bool = False,
        goal_velocity: float = 0,
        max_episode_steps: int | None = 200,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            add_speed_objective: whether speed is the last objective.
            remove_move_penalty: whether throttle is free.
            merge_move_penalty: whether reverse and forward are one objective.
            goal_velocity: least velocity at the goal.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.
        """
        moves = 0 if remove_move_penalty else 1 if merge_move_penalty else 2
        count = 1 + moves + add_speed_objective
        low, high = np.full(count, -1, np.float32), np.zeros(count, np.float32)
        high[0] = -1
        if add_speed_objective:
            low[-1], high[-1] = 0.0, 1.1
        super().__init__(
            num_envs,
            env_id=env_id,
            action_space=spaces.Discrete(3),
            # MO-Gymnasium states -1 as the only reward for time, but arriving costs nothing.
            reward_space=spaces.Box(
                low, np.where(np.arange(count) == 0, 0, high), dtype=np.float32
            ),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._settings = (
            float(goal_velocity),
            1 if moves else -1,
            moves or -1,
            count - 1 if add_speed_objective else -1,
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self._cars,
            *self._settings,
            self._observations,
            self._rewards,
            self._terminated,
        )


@njit(cache=True)
def _push(action: np.float32, phase: float) -> float:
    """Change of velocity; like NumPy 2, in single precision unless the force was clipped."""
    slope = GRAVITY * math.cos(phase)
    if action > 1.0:
        return POWER - slope
    if action < -1.0:
        return -POWER - slope
    return np.float64(np.float32(action * np.float32(POWER)) - np.float32(slope))


@njit(cache=True)
def _first_step(car: NDArray[np.float64], action: np.float32, goal_velocity: float) -> bool:
    """First step of an episode: Gymnasium still holds the start in double precision."""
    velocity = car[1] + _push(action, 3 * car[0])
    velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
    position = min(max(car[0] + velocity, LEFT_END), RIGHT_END)
    if position == LEFT_END and velocity < 0:
        velocity = 0.0
    car[0] = np.float32(position)
    car[1] = np.float32(velocity)
    return bool(position >= CONTINUOUS_GOAL and velocity >= goal_velocity)


@njit(cache=True)
def _later_step(car: NDArray[np.float64], action: np.float32, goal_velocity: float) -> bool:
    """Every other step: state and arithmetic in single precision."""
    position, velocity = np.float32(car[0]), np.float32(car[1])
    velocity += np.float32(_push(action, np.float64(np.float32(3) * position)))
    velocity = min(max(velocity, np.float32(-MAX_SPEED)), np.float32(MAX_SPEED))
    position = np.float32(position + velocity)
    position = min(max(position, np.float32(LEFT_END)), np.float32(RIGHT_END))
    if position == np.float32(LEFT_END) and velocity < 0:
        velocity = np.float32(0)
    car[0] = position
    car[1] = velocity
    arrived = position >= np.float32(CONTINUOUS_GOAL)
    return bool(arrived and velocity >= np.float32(goal_velocity))


@njit(cache=True)
def _advance_continuous(
    actions: NDArray[np.float32],
    cars: NDArray[np.float64],
    fresh: NDArray[np.bool_],
    goal_velocity: float,
    observations: NDArray[np.float32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    for i in range(actions.shape[0]):
        action = actions[i, 0]
        if fresh[i]:
            terminated[i] = _first_step(cars[i], action, goal_velocity)
            fresh[i] = False
        else:
            terminated[i] = _later_step(cars[i], action, goal_velocity)
        rewards[i, 0] = 0.0 if terminated[i] else -1.0
        rewards[i, 1] = np.float32(-(action * action))
        observations[i, 0] = cars[i, 0]
        observations[i, 1] = cars[i, 1]


class ContinuousMountainCarVectorEnv(_MountainCarVectorEnv):
    """N cars with a continuous throttle in one compiled loop.

    Observation: position and velocity, float32 ``(2,)``. Action: force in [-1, 1]; the car clips
    it, but pays for what was asked. Reward: time, and the square of the action, both negative.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "mo-mountaincarcontinuous-v0",
        goal_velocity: float = 0,
        max_episode_steps: int | None = 999,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            goal_velocity: least velocity at the goal.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.
        """
        super().__init__(
            num_envs,
            env_id=env_id,
            action_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
            reward_space=spaces.Box(-1.0, 0.0, (2,), np.float32),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._goal_velocity = float(goal_velocity)

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance_continuous(
            actions,
            self._cars,
            self._fresh,
            self._goal_velocity,
            self._observations,
            self._rewards,
            self._terminated,
        )
