"""Policies that Stable-Baselines3 trained, as plain arrays that act without it or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.normalisation import normalise_observations

Activation = Literal["tanh", "relu"]
"""Between the layers."""

Head = Literal["best", "clipped", "squashed"]
"""What outputs mean: values of actions, actions, or actions behind a tanh."""


@dataclass(frozen=True, eq=False)
class PolicyShape:
    """What all policies of one agent have in common.

    Attributes:
        sizes: of the layers, (observation, *hidden, output).
        activation: of the hidden layers.
        head: from outputs to actions.
        low: lower bounds of a continuous action, else None.
        high: upper bounds.
        features_per_action: see `morl.types.EnvSpec`; where it is given, the best *available*
            action is taken.
    """

    sizes: tuple[int, ...]
    activation: Activation
    head: Head
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None
    features_per_action: int | None = None

    @property
    def num_parameters(self) -> int:
        """Parameters of one policy."""
        return sum((rows + 1) * columns for rows, columns in pairwise(self.sizes))

    def actions(self, outputs: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[Any]:
        """Actions for outputs (..., output), given raw observations (..., feature)."""
        if self.low is None or self.high is None:
            if self.features_per_action is not None:
                rows = features.reshape(*outputs.shape, self.features_per_action)
                available = rows[..., 0] >= 0.0
                outputs = np.where(available, outputs, -np.inf)
            return np.asarray(outputs.argmax(axis=-1))
        if self.head == "squashed":
            # Bounds come last, as rounding may step over them.
            outputs = self.low + 0.5 * (np.tanh(outputs) + 1.0) * (self.high - self.low)
        return np.clip(outputs, self.low, self.high)


@dataclass(frozen=True, eq=False)
class ArrayPolicy:
    """The deterministic action of one network, under its own frozen normaliser.

    Attributes:
        shape: of the network.
        parameters: (parameter,), a weight (input, output) and a bias for each layer.
        mean: (feature,), subtracted from observations.
        scale: (feature,), divides them.
        normalised: whether observations are normalised at all.
    """

    shape: PolicyShape
    parameters: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    normalised: bool
    deterministic: bool = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Actions (env, *action) for observations (env, *observation)."""
        actions: NDArray[Any] = self.stack([self]).act(observations[None], rng=rng)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[ArrayPolicy]) -> StackedArrayPolicy:
        """Let policies of one shape act together."""
        return StackedArrayPolicy(policies)


class StackedArrayPolicy:
    """Acts for several `ArrayPolicy` of one shape in one forward pass."""

    def __init__(self, policies: Sequence[ArrayPolicy]) -> None:
        first = policies[0]
        assert all(policy.shape.sizes == first.shape.sizes for policy in policies)
        self._shape = first.shape
        self._normalised = first.normalised
        self._mean = np.stack([policy.mean for policy in policies])
        self._scale = np.stack([policy.scale for policy in policies])
        rows = np.stack([policy.parameters for policy in policies])
        self._layers = list(_layers(rows, first.shape.sizes))

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Actions (policy, env, *action) for observations (policy, env, *observation)."""
        policies, envs = observations.shape[:2]
        features = np.asarray(observations, np.float32).reshape(policies, envs, -1)
        hidden = features
        if self._normalised:
            hidden = normalise_observations(features, self._mean, self._scale)
        for index, (weight, bias) in enumerate(self._layers):
            hidden = np.matmul(hidden, weight) + bias
            if index < len(self._layers) - 1:
                hidden = (
                    np.tanh(hidden) if self._shape.activation == "tanh" else np.maximum(hidden, 0.0)
                )
        return self._shape.actions(hidden, features)


def _layers(
    rows: NDArray[np.float32], sizes: Sequence[int]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights (policy, input, output) and biases (policy, 1, output) of each layer."""
    layers, start, count = [], 0, len(rows)
    for inputs, outputs in pairwise(sizes):
        middle, end = start + inputs * outputs, start + (inputs + 1) * outputs
        weight = rows[:, start:middle].reshape(count, inputs, outputs)
        layers.append((weight, rows[:, middle:end].reshape(count, 1, outputs)))
        start = end
    return layers
