"""Our environments for users of Stable-Baselines3: one reward, the weighted sum of the objectives.

`scalarised_vec_env` makes a batch, fast; `scalarised_env` an ordinary environment, for whatever
wants one. Stable-Baselines3 is loaded by the first alone, and not before it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.envs import make_task
from morl.preferences import checked_weights
from morl.types import Task

if TYPE_CHECKING:
    from morl.scalarised import ScalarisedVecEnv

__all__ = ["ScalarisedEnv", "scalarised_env", "scalarised_vec_env"]


def scalarised_vec_env(
    id: str,  # noqa: A002 - Gymnasium's word
    weights: ArrayLike | None = None,
    *,
    num_envs: int = 16,
    horizon: int | None = None,
    **kwargs: Any,  # noqa: ANN401 - arguments of any environment
) -> ScalarisedVecEnv:
    """A batch of environments as Stable-Baselines3's algorithms take it.

    The reward is the weighted sum of the objectives; ``infos[i]["vector_reward"]`` keeps the
    vector. ``set_attr("weights", ...)`` changes the weights for all.

    Args:
        id: name in the registry ("minecart-v0").
        weights: of the objectives, (objective,); equal by default. They need not sum to one.
        num_envs: size of the batch.
        horizon: step limit instead of the spec's.
        **kwargs: constructor arguments of the environment.

    Raises:
        UnknownNameError: for an id that no environment has.
        EnvArgumentError: for arguments that do not fit, or a package that is not installed.
        WeightError: for weights of the wrong length, or not finite.

    Example:
        >>> from morl.envs.sb3 import scalarised_vec_env
        >>> env = scalarised_vec_env("deep-sea-treasure-v0", [0.7, 0.3], num_envs=4)
        >>> env.reset().shape
        (4, 2)
    """
    from morl.scalarised import ScalarisedVecEnv

    task = make_task(id, kwargs=kwargs, horizon=horizon)
    return ScalarisedVecEnv(task, num_envs, weights=weights)


def scalarised_env(
    id: str,  # noqa: A002 - Gymnasium's word
    weights: ArrayLike | None = None,
    *,
    horizon: int | None = None,
    **kwargs: Any,  # noqa: ANN401 - arguments of any environment
) -> ScalarisedEnv:
    """One environment with one reward, for Gymnasium's ordinary interface.

    Args:
        id: name in the registry.
        weights: of the objectives, (objective,); equal by default.
        horizon: step limit instead of the spec's.
        **kwargs: constructor arguments of the environment.

    Raises:
        MorlError: as `scalarised_vec_env`.
    """
    return ScalarisedEnv(make_task(id, kwargs=kwargs, horizon=horizon), weights)


class ScalarisedEnv(gymnasium.Env[NDArray[Any], Any]):
    """A batch of one, seen as an environment with a scalar reward.

    ``info["vector_reward"]`` is the reward before the sum, shape (objective,); other entries are
    those that the environment gives.
    """

    def __init__(self, task: Task, weights: ArrayLike | None = None) -> None:
        """Make the environment.

        Args:
            task: what to play.
            weights: of the objectives, (objective,); equal by default.

        Raises:
            WeightError: for weights of the wrong length, or not finite.
        """
        self.weights = checked_weights(weights, spec=task.spec)
        self._batch = task.make_vec(1)
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        observations, infos = self._batch.reset(seed=seed, options=options)
        return observations[0], _of_one(infos)

    def step(
        self,
        action: Any,  # noqa: ANN401 - an index or a vector
    ) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take an action; after the end of an episode, `reset` comes first."""
        observations, rewards, terminated, truncated, infos = self._batch.step(
            np.asarray(action)[None]
        )
        ended = bool(terminated[0] or truncated[0])
        # The batch has begun another episode; here its caller does.
        observation = infos["final_obs"][0] if ended else observations[0]
        info = {**_of_one(infos), "vector_reward": rewards[0]}
        reward = float(rewards[0] @ self.weights)
        return observation, reward, bool(terminated[0]), bool(truncated[0]), info

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()


def _of_one(infos: dict[str, Any]) -> dict[str, Any]:
    """A batch's infos as those of its only environment; what belongs to the batch is left out."""
    return {
        name: value[0]
        for name, value in infos.items()
        if isinstance(value, np.ndarray) and not name.startswith(("_", "final_"))
    }
