"""Replay of transitions in packed arrays, one ring for each slot of a batch of environments.

A slot's observations are stored once, in the order in which they came: the successor of a row is
the row after it. Where an episode is cut off, its last observation takes a row of its own that no
transition starts from. Rewards are raw vectors, so that they can be scaled and weighed anew
whenever they are sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.rollouts import Rollout
from morl.types import MorlError, State

LARGEST_BYTES = 16 * 2**30
"""Most memory that a replay may ask for."""


class ReplayError(MorlError):
    """A replay that cannot be made or sampled from."""


@dataclass(frozen=True)
class Transitions:
    """A sample; axes (policy, batch).

    Attributes:
        observations: (policy, batch, feature), raw float32.
        actions: (policy, batch), int64.
        rewards: (policy, batch, objective), float32 in the environment's units.
        terminated: (policy, batch), whether nothing comes after it.
        next_observations: like `observations`; where an episode terminated they mean nothing.
        preferences: (policy, batch, objective), those that the actions were taken for.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    next_observations: NDArray[np.float32]
    preferences: NDArray[np.float32]


class Replay:
    """The latest transitions of a population; slot ``policy * num_envs + env``.

    Args:
        num_policies: each samples from its own slots alone.
        num_envs: slots of each policy.
        capacity: rows of all slots together, rounded down to full rings.
        num_features: length of an observation.
        num_objectives: length of a reward.
        env_id: for messages.

    Raises:
        ReplayError: if the rings are too short to hold a transition, or too large for memory.
    """

    def __init__(
        self,
        *,
        num_policies: int,
        num_envs: int,
        capacity: int,
        num_features: int,
        num_objectives: int,
        env_id: str,
    ) -> None:
        self._num_policies = num_policies
        self._num_envs = num_envs
        self._env_id = env_id
        slots = num_policies * num_envs
        self._rows = capacity // slots
        if self._rows < 3:
            raise ReplayError(
                f"{env_id}: a replay of {capacity} transitions leaves {self._rows} for each of "
                f"{slots} environments and it takes 3; raise agent.replay_capacity"
            )
        needed = 4 * slots * self._rows * (num_features + 2 * num_objectives + 1)
        if needed > LARGEST_BYTES:
            raise ReplayError(
                f"{env_id}: a replay of {capacity} observations of {num_features} numbers takes "
                f"{needed / 2**30:.0f} GiB; lower agent.replay_capacity"
            )
        grid = (slots, self._rows)
        self._observations = np.zeros((*grid, num_features), np.float32)
        self._actions = np.zeros(grid, np.int32)
        self._rewards = np.zeros((*grid, num_objectives), np.float32)
        self._terminated = np.zeros(grid, np.bool_)
        self._preferences = np.zeros((*grid, num_objectives), np.float32)
        self._complete = np.zeros(grid, np.bool_)
        self._cursor = np.zeros(slots, np.int64)
        self._written = 0

    @property
    def capacity(self) -> int:
        """Rows of all rings."""
        return self._complete.size

    def __len__(self) -> int:
        """Transitions that can be sampled, over all policies."""
        return int(np.count_nonzero(self._complete))

    def add(self, rollout: Rollout, preferences: NDArray[np.floating[Any]]) -> None:
        """Store a rollout that begins where the last one ended, or after `cut`.

        Args:
            rollout: of discrete actions, any number of steps.
            preferences: (policy, env, objective), those that its actions were taken for.
        """
        slots = len(self._cursor)
        by_time = {truncation.time: truncation for truncation in rollout.truncations}
        wanted = preferences.reshape(slots, -1)
        for time in range(rollout.rewards.shape[1]):
            self._write(rollout.observations[:, time].reshape(slots, -1))
            index = (np.arange(slots), self._cursor)
            self._actions[index] = rollout.actions[:, time, :, 0].reshape(slots)
            self._rewards[index] = rollout.rewards[:, time].reshape(slots, -1)
            self._terminated[index] = rollout.terminated[:, time].reshape(slots)
            self._preferences[index] = wanted
            self._complete[index] = True
            self._advance(np.arange(slots))
            cut = by_time.get(time)
            if cut is not None:
                ended = cut.policies * self._num_envs + cut.envs
                self._write(cut.observations, ended)
                self._advance(ended)
        self._write(rollout.last_observations.reshape(slots, -1))

    def cut(self) -> None:
        """Say that all episodes are left where they stand, as environments are reset."""
        if self._written:
            self._advance(np.arange(len(self._cursor)))

    def _write(
        self, observations: NDArray[np.float32], slots: NDArray[np.intp] | None = None
    ) -> None:
        """Put observations where the cursors stand; the old transitions there are gone."""
        chosen = np.arange(len(self._cursor)) if slots is None else slots
        rows = self._cursor[chosen]
        self._observations[chosen, rows] = observations
        self._complete[chosen, rows] = False
        if len(rows):
            self._written = max(self._written, int(rows.max()) + 1)

    def _advance(self, slots: NDArray[np.intp]) -> None:
        self._cursor[slots] = (self._cursor[slots] + 1) % self._rows

    def sample(self, batch: int, *, rng: np.random.Generator) -> Transitions:
        """Draw transitions of every policy, uniformly and with replacement.

        Raises:
            ReplayError: if there is none yet.
        """
        index = self._draw(batch, rng)
        slots, rows = np.divmod(index, self._rows)
        following = slots * self._rows + (rows + 1) % self._rows
        flat = self._observations.reshape(self.capacity, -1)
        return Transitions(
            observations=flat.take(index, axis=0),
            actions=self._actions.reshape(-1).take(index).astype(np.int64),
            rewards=self._rewards.reshape(self.capacity, -1).take(index, axis=0),
            terminated=self._terminated.reshape(-1).take(index),
            next_observations=flat.take(following, axis=0),
            preferences=self._preferences.reshape(self.capacity, -1).take(index, axis=0),
        )

    def _draw(self, batch: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Places of complete transitions, (policy, batch); incomplete ones are drawn again."""
        grouped = self._complete.reshape(self._num_policies, -1)
        if not grouped.any(axis=1).all():
            raise ReplayError(f"{self._env_id}: nothing can be sampled from an empty replay")
        first = np.arange(self._num_policies)[:, None] * self._num_envs
        index = np.zeros((self._num_policies, batch), np.intp)
        missing = np.ones(index.shape, np.bool_)
        complete = self._complete.reshape(-1)
        while missing.any():
            slots = first + rng.integers(self._num_envs, size=index.shape)
            drawn = slots * self._rows + rng.integers(self._written, size=index.shape)
            index = np.where(missing, drawn, index)
            missing = ~complete[index]
        return index

    def state_dict(self) -> State:
        """The rows that were written, and where each ring goes on."""
        return {
            "observations": self._observations[:, : self._written].copy(),
            "actions": self._actions[:, : self._written].copy(),
            "rewards": self._rewards[:, : self._written].copy(),
            "terminated": self._terminated[:, : self._written].copy(),
            "preferences": self._preferences[:, : self._written].copy(),
            "complete": self._complete[:, : self._written].copy(),
            "cursor": self._cursor.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a replay of the same shape.

        Raises:
            ReplayError: if it has other rings.
        """
        slots, written = np.shape(state["actions"])
        if slots != len(self._cursor) or written > self._rows:
            raise ReplayError(
                f"{self._env_id}: a replay of {slots} environments and {written} rows does not fit "
                f"one of {len(self._cursor)} and {self._rows}"
            )
        self._written = written
        for name in ("observations", "actions", "rewards", "terminated", "preferences", "complete"):
            own: NDArray[Any] = getattr(self, f"_{name}")
            own[:, :written] = state[name]
            own[:, written:] = 0
        self._cursor = np.array(state["cursor"], np.int64)
