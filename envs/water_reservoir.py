"""Water reservoir: how much water to let out of a dam, day by day.

Dynamics of MO-Gymnasium 1.3.2 (Castelletti et al. 2012), bit for bit under NumPy 2, random
numbers included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError

# Constants of MO-Gymnasium 1.3.2, `dam_env.py`.
LEAST_CAPACITY = 100.0
FLOOD_UPSTREAM = 50.0
FLOOD_DOWNSTREAM = 30.0
DEMAND = 50.0
POWER_DEMAND = 4.36
POWER_SCALE = 9.81 * 1000.0
JOULES = 3.6e6
INFLOW_MEAN, INFLOW_DEVIATION = 40.0, 10.0

START_LEVELS = np.array(
    [
        96.855361,
        58.046026,
        116.15767,
        20.164311,
        79.191000,
        140.13098,
        131.01816,
        44.351321,
        13.185943,
        73.508622,
    ],
    np.float32,
)


@njit(cache=True)
def _advance(
    actions: NDArray[np.float32],
    normalized: bool,
    penalize: bool,
    inflows: NDArray[np.float64],
    elapsed: NDArray[np.int64],
    observations: NDArray[np.float32],
    rewards: NDArray[np.float64],
) -> None:
    zero = np.float32(0)
    for i in range(actions.shape[0]):
        level = observations[i, 0]
        least = max(np.float32(level - np.float32(LEAST_CAPACITY)), zero)
        asked = actions[i, 0]
        penalty = zero
        if normalized:
            released = np.float32(np.float32(asked * np.float32(level - least)) + least)
        else:
            released = min(max(asked, least), level)
            if penalize:
                penalty = np.float32(-abs(np.float32(released - asked)))
        after = float(level) + inflows[i, elapsed[i]] - float(released)
        new_level = np.float32(max(after, 0.0))
        observations[i, 0] = new_level
        excess = max(np.float32(new_level - np.float32(FLOOD_UPSTREAM)), zero)
        deficit = max(np.float32(np.float32(DEMAND) - released), zero)
        used = max(released, zero)
        power = np.float32(np.float32(POWER_SCALE) * new_level)
        power = np.float32(np.float32(power * used) / np.float32(JOULES))
        shortage = max(np.float32(np.float32(POWER_DEMAND) - power), zero)
        downstream = max(np.float32(released - np.float32(FLOOD_DOWNSTREAM)), zero)
        costs = (excess, deficit, shortage, downstream)
        for j in range(rewards.shape[1]):
            rewards[i, j] = np.float32(penalty - costs[j])


class WaterReservoirVectorEnv(BatchedEnv):
    """N dams in one compiled loop.

    Observation: level, float32 ``(1,)``. Action: water to release, or its share of what may be
    released; clipped to what the dam can do. Reward: flooding upstream, unmet demand, unmet power
    demand, flooding downstream, all negative; the first `nO` of them. An episode is truncated
    after `time_limit` steps.

    The inflows of an episode are drawn at its start: a `reset` in its midst moves the stream on
    to its end.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "water-reservoir-v0",
        time_limit: int = 100,
        nO: int = 2,  # noqa: N803 - MO-Gymnasium's name
        penalize: bool = False,
        normalized_action: bool = False,
        initial_state: Sequence[float] | NDArray[Any] | None = None,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            time_limit: steps of an episode, at least 1.
            nO: number of objectives, 2 to 4.
            penalize: whether asking for more or less than the dam can do costs.
            normalized_action: whether actions are shares in [0, 1].
            initial_state: level at the start, one number; None draws it.
            max_episode_steps: steps after which an episode is truncated, if before `time_limit`.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        if nO not in (2, 3, 4):
            raise EnvArgumentError(f"{env_id}: nO must be 2, 3 or 4, got {nO}")
        limit = time_limit if max_episode_steps is None else min(time_limit, max_episode_steps)
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0.0, np.inf, (1,), np.float32),
            action_space=spaces.Box(0.0, 1.0 if normalized_action else np.inf, (1,), np.float32),
            reward_space=spaces.Box(-np.inf, 0.0, (nO,), np.float32),
            max_episode_steps=limit,
            copy=copy,
        )
        self._normalized = bool(normalized_action)
        self._penalize = bool(penalize)
        self._start = None if initial_state is None else np.float32(np.ravel(initial_state)[0])
        self._inflows = np.zeros((self.num_envs, limit))
        self._generators = [np.random.default_rng(0)] * self.num_envs

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._generators[i] = np.random.default_rng(seed)

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self._normalized,
            self._penalize and not self._normalized,
            self._inflows,
            self._elapsed,
            self._observations,
            self._rewards,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        # Levels and inflows come from one stream in turn, and choices cannot be drawn ahead.
        length = self._inflows.shape[1]
        for i in indices.tolist():
            rng = self._generators[i]
            self._observations[i, 0] = self._draw_level(rng)
            self._inflows[i] = rng.normal(INFLOW_MEAN, INFLOW_DEVIATION, length)

    def _draw_level(self, rng: np.random.Generator) -> np.float32:
        if self._start is not None:
            return self._start
        if self._penalize:
            return np.float32(rng.integers(0, 160))
        return np.float32(rng.choice(START_LEVELS))
