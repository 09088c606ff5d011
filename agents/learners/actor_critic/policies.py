"""Policies of conditioned actors with continuous actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from morl.agents.learners.actor_critic.perceptrons import Perceptrons
from morl.agents.learners.core.normalisation import normalise_observations


@dataclass(frozen=True)
class ActionRange:
    """The box that actions in [-1, 1] are stretched to.

    Attributes:
        low: (action,), finite.
        high: (action,), finite.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def to_env(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        """From [-1, 1] to the environment's units."""
        middle, half = (self.low + self.high) / 2.0, (self.high - self.low) / 2.0
        stretched = np.clip(middle + half * actions, self.low, self.high)
        return np.asarray(stretched, np.float32)


@dataclass(frozen=True, eq=False)
class FrozenActor:
    """What the policies of one actor share.

    Attributes:
        network: the actor; its outputs are centres and raw log-scales.
        mean: (1, feature), subtracted from observations.
        scale: (1, feature), divides them.
        actions: the action space.
    """

    network: Perceptrons
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    actions: ActionRange

    @torch.no_grad()
    def middle_actions(
        self, observations: NDArray[Any], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Actions (row, action) for observations (row, feature) and as many preferences."""
        seen = normalise_observations(observations[None], self.mean, self.scale)[0]
        inputs = torch.from_numpy(np.concatenate([seen, weights], axis=1))
        centre, _ = self.network.forward(inputs)[0].chunk(2, -1)
        return self.actions.to_env(np.tanh(centre.numpy()))


@dataclass(frozen=True)
class ContinuousPolicy:
    """The middle action of a conditioned actor for one preference.

    Attributes:
        actor: may serve many policies.
        weights: preference as the network knows it, of scaled rewards; (objective,).
    """

    actor: FrozenActor
    weights: NDArray[np.float32]
    deterministic: bool = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Actions (env, action) for observations (env, *observation)."""
        actions: NDArray[Any] = self.stack([self]).act(observations[None], rng=rng)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[ContinuousPolicy]) -> StackedContinuousPolicy:
        """Let policies act together: one product for each actor."""
        return StackedContinuousPolicy(policies)


class StackedContinuousPolicy:
    """Acts for several `ContinuousPolicy` at once."""

    def __init__(self, policies: Sequence[ContinuousPolicy]) -> None:
        self._weights = np.stack([policy.weights for policy in policies])
        actors = {id(policy.actor): policy.actor for policy in policies}
        self._groups = [
            (actor, np.flatnonzero([policy.actor is actor for policy in policies]))
            for actor in actors.values()
        ]

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Actions (policy, env, action) for observations (policy, env, *observation)."""
        policies, envs = observations.shape[:2]
        flat = np.asarray(observations, np.float32).reshape(policies, envs, -1)
        size = len(self._groups[0][0].actions.low)
        actions = np.empty((policies, envs, size), np.float32)
        for actor, members in self._groups:
            rows = flat[members].reshape(len(members) * envs, -1)
            weights = np.repeat(self._weights[members], envs, axis=0)
            actions[members] = actor.middle_actions(rows, weights).reshape(-1, envs, size)
        return actions
