"""Collecting experience for a population: slot ``policy * num_envs + env`` of one batch.

The collector steps environments and records; it knows neither losses nor normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from morl.agents.learners.core.encoders import ObservationEncoder
from morl.types import NonFiniteError, Task

Act: TypeAlias = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[np.float32]]]
"""Maps observations (policy, env, feature) to actions (policy, env, *action) and log-probs."""


@dataclass(frozen=True)
class ActionAdapter:
    """What a learner must know of an action space.

    Attributes:
        discrete: whether actions are indices.
        size: number of actions, or length of the action vector.
        low: lower bounds of a continuous action, else None.
        high: upper bounds.
    """

    discrete: bool
    size: int
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, space: spaces.Space[Any], *, env_id: str) -> ActionAdapter:
        """Describe a space.

        Raises:
            TypeError: for a space that is neither Discrete nor a one-dimensional Box.
        """
        if isinstance(space, spaces.Discrete):
            return cls(discrete=True, size=int(space.n))
        if isinstance(space, spaces.Box) and len(space.shape) == 1:
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
            return cls(discrete=False, size=space.shape[0], low=low, high=high)
        raise TypeError(
            f"{env_id}: this agent acts in Discrete and one-dimensional Box spaces, not in {space}"
        )

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions (policy, env, *action) as the batch wants them, (slot, *action), in bounds."""
        flat = actions.reshape(-1, *actions.shape[2:])
        return flat if self.discrete else np.clip(flat, self.low, self.high)


@dataclass(frozen=True)
class Truncation:
    """Last observations of the episodes that a time limit cut off at one step.

    Attributes:
        time: index of the step.
        policies: (cut,), policy of each.
        envs: (cut,), environment of each.
        observations: (cut, feature), raw.
    """

    time: int
    policies: NDArray[np.intp]
    envs: NDArray[np.intp]
    observations: NDArray[np.float32]


@dataclass(frozen=True)
class Rollout:
    """Experience of a population over some steps.

    Attributes:
        observations: (policy, time, env, feature), raw.
        actions: (policy, time, env, action) float32; an index is one number.
        log_probabilities: (policy, time, env), of the actions when they were taken.
        rewards: (policy, time, env, objective), in the environment's units.
        terminated: (policy, time, env).
        truncated: (policy, time, env).
        last_observations: (policy, env, feature), after the last step.
        started: (policy, env), whether the first step begins an episode.
        truncations: last observations of episodes cut off by the time limit.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    last_observations: NDArray[np.float32]
    started: NDArray[np.bool_]
    truncations: tuple[Truncation, ...]

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Whether an episode ended with the step, for whatever reason."""
        return self.terminated | self.truncated

    @property
    def num_steps(self) -> int:
        """Environment steps taken."""
        return self.terminated.size


class Collector:
    """Steps ``num_policies * num_envs`` environments and keeps where they stand.

    Args:
        task: what to train on.
        num_policies: length of the policy axis.
        num_envs: environments of each policy.
        encoder: makes features of observations; None for the numbers as they are.
    """

    def __init__(
        self,
        task: Task,
        *,
        num_policies: int,
        num_envs: int,
        encoder: ObservationEncoder | None = None,
    ) -> None:
        self._task = task
        self._shape = (num_policies, num_envs)
        self._env: VectorEnv[Any, Any, Any] = task.make_vec(num_policies * num_envs)
        self.actions = ActionAdapter.of(self._env.single_action_space, env_id=task.spec.id)
        space = self._env.single_observation_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"{task.spec.id}: observations must be one Box, got {space}")
        self._encoder = None if encoder is None or encoder.encoding == "raw" else encoder
        self.observation_size = (
            int(np.prod(space.shape)) if self._encoder is None else self._encoder.num_inputs
        )
        self._observations = np.zeros((*self._shape, self.observation_size), np.float32)
        self._started = np.ones(self._shape, np.bool_)

    @property
    def num_policies(self) -> int:
        """Length of the policy axis."""
        return self._shape[0]

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin all episodes anew, one seed a slot."""
        observations, _ = self._env.reset(seed=list(seeds))  # type: ignore[arg-type] # Gymnasium's batches take lists
        self._observations = self._grid(observations)
        self._started = np.ones(self._shape, np.bool_)

    def close(self) -> None:
        """Free the environments."""
        self._env.close()

    def _grid(self, slots: NDArray[Any]) -> NDArray[np.float32]:
        """(slot, *observation) as float32 (policy, env, feature)."""
        if self._encoder is not None:
            slots = self._encoder(slots)
        return np.asarray(slots, np.float32).reshape(*self._shape, -1)

    def collect(self, act: Act, *, steps: int) -> Rollout:
        """Take `steps` steps in every environment.

        Raises:
            NonFiniteError: if a reward is not finite; names environment, slot and step.
        """
        grid = (self._shape[0], steps, self._shape[1])
        features, objectives = self._observations.shape[-1], self._task.spec.num_objectives
        observations = np.empty((*grid, features), np.float32)
        actions = np.empty((*grid, 1 if self.actions.discrete else self.actions.size), np.float32)
        log_probabilities = np.empty(grid, np.float32)
        rewards = np.empty((*grid, objectives), np.float64)
        terminated, truncated = np.empty(grid, np.bool_), np.empty(grid, np.bool_)
        truncations: list[Truncation] = []
        first_started = self._started
        for t in range(steps):
            observations[:, t] = self._observations
            chosen, log_probabilities[:, t] = act(self._observations)
            actions[:, t] = chosen.reshape(*self._shape, -1)
            after, reward, over, cut, infos = self._env.step(self.actions.to_env(chosen))
            rewards[:, t] = reward.reshape(*self._shape, objectives)
            terminated[:, t] = over.reshape(self._shape)
            truncated[:, t] = cut.reshape(self._shape)
            if cut.any():
                truncations.append(self._truncation(t, terminated, truncated, infos))
            self._observations = self._grid(after)
            self._started = (over | cut).reshape(self._shape)
        self._check_finite(rewards)
        return Rollout(
            observations=observations,
            actions=actions,
            log_probabilities=log_probabilities,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            last_observations=self._observations,
            started=first_started,
            truncations=tuple(truncations),
        )

    def _truncation(
        self,
        time: int,
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        infos: dict[str, Any],
    ) -> Truncation:
        cut = truncated[:, time] & ~terminated[:, time]
        policies, envs = np.nonzero(cut)
        last = self._grid(infos["final_obs"])[policies, envs]
        return Truncation(time=time, policies=policies, envs=envs, observations=last)

    def _check_finite(self, rewards: NDArray[np.float64]) -> None:
        if np.isfinite(rewards).all():
            return
        policy, time, env, objective = np.argwhere(~np.isfinite(rewards))[0]
        name = self._task.spec.objective_names[objective]
        value = rewards[policy, time, env, objective]
        raise NonFiniteError(
            f"{self._task.spec.id}: reward {name!r} is {value} at step {time} of the rollout, "
            f"policy {policy}, environment {env}"
        )
