"""Deterministic policies taken from a population: what an archive keeps and a user deploys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.core.normalisation import normalise_observations
from morl.agents.learners.core.rollouts import ActionAdapter
from morl.agents.learners.ppo.networks import NetworkSpec, PopulationNetwork


@dataclass(frozen=True)
class NetworkPolicy:
    """The mean or most probable action of one actor, under its own frozen normaliser.

    Attributes:
        spec: shape of the network.
        row: its parameters, (parameter,).
        mean: (feature,), subtracted from observations.
        scale: (feature,), divides them.
        actions: the action space.
        encoder: makes features of observations; None for the numbers as they are.
    """

    spec: NetworkSpec
    row: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    actions: ActionAdapter
    encoder: ObservationEncoder | None = None
    deterministic: bool = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Actions (env, *action) for observations (env, *observation)."""
        actions: NDArray[Any] = self.stack([self]).act(observations[None], rng=rng)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[NetworkPolicy]) -> StackedNetworkPolicy:
        """Let policies of one network shape act together."""
        return StackedNetworkPolicy(policies)


class StackedNetworkPolicy:
    """Acts for several `NetworkPolicy` of one shape in one forward pass."""

    def __init__(self, policies: Sequence[NetworkPolicy]) -> None:
        first = policies[0]
        assert all(policy.spec == first.spec for policy in policies)
        self._network = PopulationNetwork(first.spec, np.stack([p.row for p in policies]))
        self._mean = np.stack([policy.mean for policy in policies])
        self._scale = np.stack([policy.scale for policy in policies])
        self._actions = first.actions
        self._encoder = first.encoder

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Actions (policy, env, *action) for observations (policy, env, *observation)."""
        policies, envs = observations.shape[:2]
        rows = observations.reshape(policies * envs, *observations.shape[2:])
        encoded = rows if self._encoder is None else self._encoder(rows)
        features = np.asarray(encoded, np.float32).reshape(policies, envs, -1)
        outputs = self._network.policy_outputs(
            normalise_observations(features, self._mean, self._scale)
        )
        if self._actions.discrete:
            return np.asarray(outputs.argmax(axis=-1))
        return np.clip(outputs, self._actions.low, self._actions.high)
