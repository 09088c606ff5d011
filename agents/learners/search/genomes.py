"""Policies as rows of numbers: a small network per row, all of them acting in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.agents.learners.core.action_map import ActionMap
from morl.agents.learners.core.encoders import ObservationEncoder
from morl.masks import ActionMasks

Genomes = NDArray[np.float64]
"""Parameters of networks, (policy, gene)."""


@dataclass(frozen=True, eq=False)
class GenomeShape:
    """What a genome means.

    A genome holds, one after the other, the weights of the first layer (input, hidden), its
    biases, the weights of the second layer (hidden, output) and its biases. Without a hidden layer
    it holds the weights (input, output) and biases of a linear policy.

    Attributes:
        encoder: makes inputs of observations.
        hidden: units of the hidden layer, 0 for none.
        outputs: of the network.
        actions: what outputs mean.
        squash: whether numbers without bounds are brought to (-1, 1) by ``x / (1 + |x|)``.
    """

    encoder: ObservationEncoder
    hidden: int
    outputs: int
    actions: ActionMap
    squash: bool = True

    @property
    def size(self) -> int:
        """Genes of a genome."""
        inputs = self.encoder.num_inputs
        if self.hidden == 0:
            return (inputs + 1) * self.outputs
        return (inputs + 1) * self.hidden + (self.hidden + 1) * self.outputs

    def scales(self) -> NDArray[np.float64]:
        """Standard deviation of each gene of a fresh genome, (gene,).

        One over the root of the inputs that can be other than zero at once.
        """
        active = self.encoder.num_numbers + len(self.encoder.widths) + 1
        first = np.full(self.encoder.num_inputs + 1, active**-0.5)
        if self.hidden == 0:
            return np.repeat(first, self.outputs)
        second = np.full(self.hidden + 1, (self.hidden + 1) ** -0.5)
        return np.concatenate([np.repeat(first, self.hidden), np.repeat(second, self.outputs)])

    def outputs_of(self, genomes: Genomes, observations: NDArray[Any]) -> NDArray[np.float64]:
        """Outputs (policy, env, output) for observations (policy, env, *observation)."""
        policies, envs = observations.shape[:2]
        flat = observations.reshape(policies * envs, *self.encoder.shape)
        numbers = self.encoder.numbers(flat)
        if self.squash and self.encoder.encoding == "raw":
            numbers /= 1.0 + np.abs(numbers)
        outputs = np.empty((policies * envs, self.outputs))
        _forward(genomes, numbers, self.encoder.codes(flat), envs, self.hidden,
                 self.encoder.num_inputs, outputs)  # fmt: skip
        return outputs.reshape(policies, envs, self.outputs)

    def act(
        self, genomes: Genomes, observations: NDArray[Any], masks: ActionMasks | None = None
    ) -> NDArray[Any]:
        """Actions (policy, env, *action) for observations (policy, env, *observation)."""
        return self.actions(self.outputs_of(genomes, observations), masks)


@njit(cache=True)
def _first_layer(
    genome: NDArray[np.float64],
    numbers: NDArray[np.float64],
    codes: NDArray[np.int64],
    bias_start: int,
    units: NDArray[np.float64],
) -> None:
    width = len(units)
    for unit in range(width):
        units[unit] = genome[bias_start + unit]
    for feature in range(len(numbers)):
        for unit in range(width):
            units[unit] += numbers[feature] * genome[feature * width + unit]
    for index in range(len(codes)):
        start = (len(numbers) + codes[index]) * width
        for unit in range(width):
            units[unit] += genome[start + unit]


@njit(cache=True)
def _second_layer(
    weights: NDArray[np.float64], units: NDArray[np.float64], outputs: NDArray[np.float64]
) -> None:
    hidden, width = len(units), len(outputs)
    for output in range(width):
        outputs[output] = weights[hidden * width + output]
    for unit in range(hidden):
        value = np.tanh(units[unit])
        for output in range(width):
            outputs[output] += value * weights[unit * width + output]


@njit(cache=True)
def _forward(
    genomes: Genomes,
    numbers: NDArray[np.float64],
    codes: NDArray[np.int64],
    envs: int,
    hidden: int,
    inputs: int,
    outputs: NDArray[np.float64],
) -> None:
    """Outputs of every row under its policy's genome; `envs` rows per policy."""
    units = np.empty(hidden)
    for row in range(numbers.shape[0]):
        genome = genomes[row // envs]
        if hidden == 0:
            bias_start = inputs * outputs.shape[1]
            _first_layer(genome, numbers[row], codes[row], bias_start, outputs[row])
        else:
            _first_layer(genome, numbers[row], codes[row], inputs * hidden, units)
            _second_layer(genome[(inputs + 1) * hidden :], units, outputs[row])


@dataclass(frozen=True, eq=False)
class GenomePolicy:
    """Acts as its genome says.

    Attributes:
        shape: what the genome means.
        genome: (gene,).
    """

    shape: GenomeShape
    genome: NDArray[np.float64]
    deterministic = True

    def act(
        self,
        observations: NDArray[Any],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
        action_masks: ActionMasks | None = None,
    ) -> NDArray[Any]:
        """Choose actions; see `morl.types.Policy`."""
        masks = None if action_masks is None else action_masks[None]
        actions: NDArray[Any] = self.shape.act(self.genome[None], observations[None], masks)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[GenomePolicy]) -> GenomePolicies:
        """All of them, acting in one call."""
        return GenomePolicies(policies[0].shape, np.stack([each.genome for each in policies]))


@dataclass(frozen=True, eq=False)
class GenomePolicies:
    """Policies of one shape, acting together.

    Attributes:
        shape: what genomes mean.
        genomes: (policy, gene).
    """

    shape: GenomeShape
    genomes: Genomes

    def act(
        self,
        observations: NDArray[Any],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
        action_masks: ActionMasks | None = None,
    ) -> NDArray[Any]:
        """Choose actions; see `morl.types.StackedPolicy`."""
        return self.shape.act(self.genomes, observations, action_masks)
