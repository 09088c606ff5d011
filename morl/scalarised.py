"""Batches of environments as Stable-Baselines3 sees them: one reward, a weighted sum of objectives.

The only module of the kernel that needs Stable-Baselines3; nothing imports it unless it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Env, Wrapper, spaces
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from morl.preferences import checked_weights
from morl.types import Task

MASKS = "action_masks"
"""Name under which sb3-contrib asks for the actions that are legal."""


class ScalarisedVecEnv(VecEnv):
    """A batch of environments whose reward is a weighted sum of their objectives.

    Keeps Stable-Baselines3's conventions: an episode that ends is reset at once, its last
    observation stands in ``infos[i]["terminal_observation"]`` and ``"TimeLimit.truncated"`` says
    whether a limit cut it off. ``infos[i]["vector_reward"]`` is the reward before the sum, shape
    (objective,). Where the environment knows which actions are legal, ``env_method`` answers
    ``"action_masks"``, as sb3-contrib asks for them.

    Attributes:
        weights: of the objectives, (objective,); may be changed between two steps.
        longest_episode: steps of the longest episode so far, ended or not.
    """

    def __init__(
        self, task: Task, num_envs: int, *, weights: ArrayLike | None = None, flatten: bool = False
    ) -> None:
        """Make the batch.

        Args:
            task: what to play.
            num_envs: size of the batch, at least 1.
            weights: of the objectives, (objective,); equal by default.
            flatten: whether observations become unbounded float32 vectors.

        Raises:
            WeightError: weights of the wrong length, or not finite.
        """
        self.weights = checked_weights(weights, spec=task.spec)
        self._task = task
        self._batch: VectorEnv[Any, Any, Any] = task.make_vec(num_envs)
        self._flatten = flatten
        self._actions: NDArray[Any] = np.zeros(0)
        self._masks: NDArray[Any] | None = None
        self._ages = np.zeros(num_envs, np.int64)
        self.longest_episode = 0
        super().__init__(num_envs, self._observation_space(), self._batch.single_action_space)

    def _observation_space(self) -> spaces.Space[Any]:
        space = self._batch.single_observation_space
        if not self._flatten:
            return space
        size = int(np.prod(space.shape or ()))
        return spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _observed(self, observations: NDArray[Any]) -> NDArray[Any]:
        if not self._flatten:
            return observations
        return observations.reshape(len(observations), -1).astype(np.float32, copy=False)

    def reset(self) -> NDArray[Any]:
        """Begin all episodes anew, from the seeds of `seed` or `reset_from` if there are any."""
        seeds = None if None in self._seeds else list(self._seeds)
        # Gymnasium's type leaves out what its environments accept: one seed for each of them.
        observations, infos = self._batch.reset(seed=seeds)  # type: ignore[arg-type]
        self._reset_seeds()
        self._reset_options()
        self._masks = infos.get("action_mask")
        self._ages[:] = 0
        return self._observed(observations)

    def seed_each(self, seeds: Sequence[int]) -> None:
        """Fix the seed of each environment for the next reset."""
        self._seeds = list(seeds)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take actions, (env, *action)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step with the actions taken; see the class docstring."""
        observations, rewards, terminated, truncated, found = self._batch.step(self._actions)
        dones: NDArray[np.bool_] = terminated | truncated
        infos: list[dict[str, Any]] = [{"vector_reward": reward} for reward in rewards]
        self._ages += 1
        if dones.any():
            final = self._observed(found["final_obs"])
            for index in np.flatnonzero(dones).tolist():
                infos[index]["terminal_observation"] = final[index]
                infos[index]["TimeLimit.truncated"] = bool(
                    truncated[index] and not terminated[index]
                )
            self.longest_episode = max(self.longest_episode, int(self._ages[dones].max()))
            self._ages[dones] = 0
        self._masks = found.get("action_mask")
        # Stable-Baselines3 counts in single precision and adds to rewards in place.
        scalar = (rewards @ self.weights).astype(np.float32)
        return self._observed(observations), scalar, dones, infos

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the batch, once for each of `indices`.

        Raises:
            AttributeError: if the batch has none of that name.
        """
        count = len(list(self._get_indices(indices)))
        if attr_name == MASKS:
            if self._masks is None:
                raise AttributeError(f"{self._task.spec.id} does not say which actions are legal")
            return [self._legal] * count
        if attr_name == "render_mode":
            return [None] * count
        return [getattr(self._batch, attr_name)] * count

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ANN401
        """Set `weights`, the only thing that may be set, for the whole batch.

        Raises:
            AttributeError: for another name, or a part of the batch.
        """
        if attr_name != "weights" or indices is not None:
            raise AttributeError(
                f"{self._task.spec.id}: of a batch only the weights can be set, and for all "
                f"environments, not {attr_name!r}"
            )
        self.weights = checked_weights(value, spec=self._task.spec)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ANN401 - Stable-Baselines3's signature
        indices: VecEnvIndices = None,
        **method_kwargs: Any,  # noqa: ANN401
    ) -> list[Any]:
        """Which actions are legal (``"action_masks"``), one array for each environment.

        Raises:
            AttributeError: for another method: a compiled batch has no single environments.
        """
        if method_name != MASKS or method_args or method_kwargs:
            raise AttributeError(
                f"{self._task.spec.id}: environments of a batch have no method {method_name!r}"
            )
        masks = self.get_attr(MASKS)[0]()
        return [masks[index] for index in self._get_indices(indices)]

    def _legal(self) -> NDArray[Any]:
        assert self._masks is not None
        return self._masks

    def env_is_wrapped(
        self,
        wrapper_class: type[Wrapper[Any, Any, Any, Any]] | type[Env[Any, Any]],  # noqa: ARG002
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """No environment of a batch has a wrapper."""
        return [False for _ in self._get_indices(indices)]
