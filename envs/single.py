"""One environment of a batch for Gymnasium's ordinary interface."""

from __future__ import annotations

from typing import Any

import gymnasium
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv


class SingleEnv(gymnasium.Env[Any, Any]):
    """A batch of size one, as an ordinary environment with vector rewards."""

    def __init__(self, batch: BatchedEnv) -> None:
        """Wrap a batch.

        Args:
            batch: of size 1; it belongs to this environment from now on.
        """
        self._batch = batch
        self.observation_space = batch.single_observation_space
        self.action_space = batch.single_action_space
        self.reward_space = batch.reward_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        observations, infos = self._batch.reset(seed=seed, options=options)
        return observations[0], infos

    def step(
        self,
        action: Any,  # noqa: ANN401 - an index or an array
    ) -> tuple[NDArray[Any], NDArray[Any], bool, bool, dict[str, Any]]:
        """Take one action.

        Args:
            action: an element of the action space.

        Returns:
            Observation (the last one of an episode that ends), reward vector ``(objective,)``,
            and whether the episode is terminated or truncated.
        """
        after, rewards, terminated, truncated, infos = self._batch.step([action])  # type: ignore[arg-type]
        observation = infos["final_obs"][0] if infos else after[0]
        return observation, rewards[0], bool(terminated[0]), bool(truncated[0]), {}
