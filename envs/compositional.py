"""Compositional cores as environments: an episode builds one object, its last step pays for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.compositional import CompositionalCore, Mask, States, first_legal
from morl.envs.vector import ActionError, BatchedEnv, EnvArgumentError, NotResetError

ILLEGAL = ("remap", "error")
"""What can become of an action that the state of the object does not allow."""


class IllegalActionError(ActionError):
    """An action that the state does not allow, where that is an error."""


class CompositionalVectorEnv(BatchedEnv):
    """A batch of objects under construction; the Gymnasium view of a core.

    The reward is zero until an object is finished, and then its objective values. Infos hold
    ``"action_mask"``, bool ``(env, action)``, of the next actions. An action that is not legal is
    replaced by the next legal one in cyclic order, or refused. Nothing is random.

    Attributes:
        core: what the objects are.
    """

    def __init__(
        self,
        core: CompositionalCore,
        num_envs: int,
        *,
        env_id: str,
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            core: what the objects are.
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            illegal: "remap" or "error", for actions that are not legal.
            max_episode_steps: steps after which an episode is truncated, where that is before
                every object is finished.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        self._strict = checked_illegal(illegal, env_id=env_id) == "error"
        limit = max_episode_steps
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0.0, 1.0, (core.encoding_width,), np.float32),
            action_space=spaces.Discrete(core.num_actions),
            # Values are zero until an object is finished.
            reward_space=spaces.Box(
                np.minimum(core.nadir, 0.0), np.maximum(core.utopia, 0.0), dtype=np.float64
            ),
            # Where the limit is the core's own horizon, the end is no truncation.
            max_episode_steps=None if limit is None or limit >= core.horizon else limit,
            copy=copy,
        )
        self.core = core
        self._states: States = core.initial(self.num_envs)
        self._mask: Mask = core.mask(self._states)

    @property
    def states(self) -> States:
        """States of the objects under construction, (env, feature); a copy."""
        return self._states.copy()

    def _action_masks(self) -> Mask:
        return self._mask

    def _advance(self, actions: NDArray[Any]) -> None:
        legal = first_legal(self._mask, actions)
        if self._strict and not np.array_equal(legal, actions):
            self._refuse(actions, int(np.flatnonzero(legal != actions)[0]))
        self._states, finished = self.core.step(self._states, legal)
        self._rewards.fill(0.0)
        done = np.flatnonzero(finished)
        if done.size:
            self._rewards[done] = self.core.evaluate(self._states[done])
        self._terminated[:] = finished
        self._observations[:] = self.core.encode(self._states)
        going = np.flatnonzero(~finished)
        if going.size:
            self._mask[going] = self.core.mask(self._states[going])

    def _restart(self, indices: NDArray[np.int64]) -> None:
        fresh = self.core.initial(len(indices))
        self._states[indices] = fresh
        self._observations[indices] = self.core.encode(fresh)
        self._mask[indices] = self.core.mask(fresh)

    def _refuse(self, actions: NDArray[Any], index: int) -> None:
        object_ = self.core.describe(self._states[[index]])[0]
        legal = np.flatnonzero(self._mask[index]).tolist()
        raise IllegalActionError(
            f"{self.env_id}: action {actions[index]} for environment {index} is not legal in the "
            f"state {object_!r}; legal are {legal}, see infos['action_mask']"
        )


class CompositionalEnv(gymnasium.Env[NDArray[Any], int]):
    """One object under construction, for Gymnasium's ordinary interface.

    Attributes:
        core: what the objects are.
        reward_space: space of the reward vector.
    """

    def __init__(self, batch: CompositionalVectorEnv) -> None:
        """View a batch of one.

        Args:
            batch: of one environment.
        """
        self._batch = batch
        self.core = batch.core
        self.observation_space = batch.single_observation_space
        self.action_space = batch.single_action_space
        self.reward_space = batch.reward_space
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an object."""
        super().reset(seed=seed)
        observations, infos = self._batch.reset(options=options)
        self._running = True
        return observations[0], {"action_mask": infos["action_mask"][0]}

    def step(
        self, action: int
    ) -> tuple[NDArray[Any], NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Go on by one action.

        Raises:
            NotResetError: when no object is under construction.
        """
        if not self._running:
            raise NotResetError(f"{self._batch.env_id}: call reset() before step()")
        observations, rewards, terminated, truncated, infos = self._batch.step(
            np.asarray(action)[None]
        )
        observation = infos["final_obs"][0] if "final_obs" in infos else observations[0]
        ended = bool(terminated[0] or truncated[0])
        self._running = not ended
        mask = np.zeros_like(infos["action_mask"][0]) if ended else infos["action_mask"][0]
        return (
            observation,
            rewards[0],
            bool(terminated[0]),
            bool(truncated[0]),
            {"action_mask": mask},
        )

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()


def settings_among(arguments: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """Those arguments of an environment that are fields of its settings, a dataclass."""
    names = {one.name for one in fields(settings)}
    return {name: value for name, value in arguments.items() if name in names}


def checked_illegal(illegal: object, *, env_id: str) -> str:
    """`illegal`, if it is one of `ILLEGAL`.

    Raises:
        EnvArgumentError: if not.
    """
    if illegal not in ILLEGAL:
        raise EnvArgumentError(
            f"{env_id}: illegal must be one of {', '.join(ILLEGAL)}, got {illegal!r}"
        )
    return str(illegal)
