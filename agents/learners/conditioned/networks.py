"""Networks of preference-conditioned actors and critics, for a whole population at once.

A network is a list of weights and biases, each with the policy axis in front, and a pure function
of them. `CompactNetwork` treats the rows of an observation alike and knows no number of actions;
`FlatNetwork` is a multilayer perceptron for all other observations; `PaperNetwork` is the
architecture of Yang et al. (arXiv:2509.10474), kept for fidelity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.conditioned.kernels import CompactPass, PackedRows
from morl.agents.learners.ppo.networks import Block, initial_block
from morl.types import MorlError

Parameters: TypeAlias = Sequence[Tensor]
"""Blocks of a network, each (policy, *shape)."""


class UnfitNetworkError(MorlError):
    """A network that does not fit the observations of an environment."""


@dataclass(frozen=True)
class Inputs:
    """What a network sees.

    Attributes:
        features: (policy, batch, action, feature) where observations have a row for each action,
            else (policy, batch, feature); normalised. None where `rows` stands in.
        rows: the available rows, packed, for networks that treat rows alike.
        preferences: (policy, batch, objective), on the simplex.
        available: (policy, batch, action), or None where every action always is.
        known: (policy, batch, action, objective), scaled rewards that the observation itself
            shows, or None; networks do not see them, see `morl.agents.learners.sac.discrete`.
        greedy: (policy, batch, action), known rewards weighed by the preferences, or None.
    """

    features: Tensor | None
    rows: PackedRows | None
    preferences: Tensor
    available: Tensor | None
    known: Tensor | None = None
    greedy: Tensor | None = None

    def dense(self, networks: int) -> tuple[Tensor, Tensor]:
        """Features and preferences for a multiple of the policies' number of networks."""
        assert self.features is not None
        times = networks // len(self.features)
        return repeated(self.features, times), repeated(self.preferences, times)


def repeated(x: Tensor, times: int) -> Tensor:
    """`x` (policy, ...) behind itself, (times policy, ...); a view where there is one policy."""
    return x.expand(times, *x.shape).reshape(times * x.shape[0], *x.shape[1:])


@dataclass(frozen=True)
class Shape:
    """What a network must know of an environment.

    Attributes:
        num_actions: of the Discrete space.
        num_features: of a row, or of the whole observation.
        num_objectives: length of a preference.
        by_action: whether observations have a row for each action.
    """

    num_actions: int
    num_features: int
    num_objectives: int
    by_action: bool


class Network(Protocol):
    """A function from inputs to one vector an action.

    Parameters may hold several networks for each policy, as twin critics are; those of one number
    stand together, so that network q is one of policy ``q % num_policies``.
    """

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Its weights and biases for one policy, in storage order."""
        ...

    def __call__(self, parameters: Parameters, inputs: Inputs) -> Tensor:
        """Outputs (network, batch, action, component); unavailable actions' mean nothing."""
        ...


def dense(name: str, inputs: int, outputs: int, *, gain: float = 2.0**0.5) -> tuple[Block, Block]:
    """Weight and bias of a layer."""
    return Block(f"{name}/weight", (inputs, outputs), gain), Block(f"{name}/bias", (outputs,), 0.0)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias`` for x (policy, ..., input), with the batch axes taken together."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return torch.baddbmm(bias.unsqueeze(1), flat, weight).view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class CompactNetwork:
    """One encoder for all rows, a pooled context, one head for all rows.

    A row's output depends on the row, on the mean and maximum over available rows, and on the
    preference; so permuting the rows permutes the outputs, and the number of rows is free.

    Attributes:
        shape: of the environment.
        hidden: units of the encoder and of the head's hidden layer.
        components: outputs a row.
        output_gain: scale of the initial outputs.
    """

    shape: Shape
    hidden: tuple[int, int]
    components: int
    output_gain: float = 0.01

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Weights and biases in storage order."""
        encoder, head = self.hidden
        objectives = self.shape.num_objectives
        return (
            *dense("encoder", self.shape.num_features, encoder),
            Block("encoder/preference", (objectives, encoder), 1.0),
            *dense("head/0", encoder, head),
            Block("head/0/context", (2 * encoder, head), 1.0),
            Block("head/0/preference", (objectives, head), 1.0),
            *dense("head/1", head, self.components, gain=self.output_gain),
        )

    def __call__(self, parameters: Parameters, inputs: Inputs) -> Tensor:
        """See `Network`."""
        assert inputs.rows is not None
        outputs: Tensor = CompactPass.apply(inputs.rows, inputs.preferences.numpy(), *parameters)
        return outputs


@dataclass(frozen=True)
class FlatNetwork:
    """A multilayer perceptron over observation and preference.

    Attributes:
        shape: of the environment.
        hidden: units of each layer.
        components: outputs an action.
        output_gain: scale of the initial outputs.
    """

    shape: Shape
    hidden: tuple[int, ...]
    components: int
    output_gain: float = 0.01

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Weights and biases in storage order."""
        sizes = (self.shape.num_features + self.shape.num_objectives, *self.hidden)
        layers = [
            block
            for layer, (inputs, outputs) in enumerate(pairwise(sizes))
            for block in dense(f"{layer}", inputs, outputs)
        ]
        outputs = self.shape.num_actions * self.components
        return (*layers, *dense("output", sizes[-1], outputs, gain=self.output_gain))

    def __call__(self, parameters: Parameters, inputs: Inputs) -> Tensor:
        """See `Network`."""
        x = torch.cat(inputs.dense(len(parameters[0])), -1)
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = _affine(x, weight, bias).relu_()
        outputs = _affine(x, parameters[-2], parameters[-1])
        return outputs.view(*outputs.shape[:2], self.shape.num_actions, self.components)


@dataclass(frozen=True)
class PaperNetwork:
    """The network of Yang et al.: 29,697,547 parameters for 11 rows of 67 features.

    An encoder for each row (one dense layer, three residual blocks, one dense layer of 512 units),
    all rows flattened into a dense tower of 1,024 units, a tower for the preference, their sum,
    and a third tower to one output an action. Slope 0.1 of the leaky rectifiers.

    Attributes:
        shape: of the environment, with rows.
        components: outputs an action; the paper has one.
        row_units: units of the encoder.
        units: units of the towers.
    """

    shape: Shape
    components: int = 1
    row_units: int = 512
    units: int = 1024

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Weights and biases in storage order."""
        rows, units = self.row_units, self.units
        actions = self.shape.num_actions
        return (
            *dense("rows/in", self.shape.num_features, rows),
            *_residual_blocks("rows", rows),
            *dense("rows/out", rows, rows),
            *dense("state/in", actions * rows, units),
            *_residual_blocks("state", units),
            *dense("state/out/0", units, units),
            *dense("state/out/1", units, units),
            *dense("preference/in", self.shape.num_objectives, units),
            *_residual_blocks("preference", units),
            *_residual_blocks("joint", units),
            *dense("joint/out/0", units, units),
            *dense("joint/out/1", units, actions * self.components, gain=0.01),
        )

    def __call__(self, parameters: Parameters, inputs: Inputs) -> Tensor:
        """See `Network`."""
        layers = _Layers(parameters)
        features, preferences = inputs.dense(len(parameters[0]))
        rows = layers.residual(layers.dense(features))
        rows = layers.affine(rows).relu()
        state = layers.residual(layers.dense(rows.flatten(2)))
        state = layers.affine(layers.dense(state))
        wanted = layers.residual(layers.dense(preferences))
        joint = layers.residual(state + wanted)
        outputs = layers.affine(layers.dense(joint))
        return outputs.view(*outputs.shape[:2], self.shape.num_actions, self.components)


def _residual_blocks(name: str, units: int) -> tuple[Block, ...]:
    return tuple(
        block
        for index in range(3)
        for half in range(2)
        for block in dense(f"{name}/residual/{index}/{half}", units, units, gain=1.0)
    )


class _Layers:
    """Hands out the layers of `PaperNetwork` in storage order."""

    def __init__(self, parameters: Parameters) -> None:
        self._left = iter(parameters)

    def affine(self, x: Tensor) -> Tensor:
        return _affine(x, next(self._left), next(self._left))

    def dense(self, x: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(self.affine(x), 0.1)

    def residual(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.nn.functional.leaky_relu(x + self.affine(self.dense(x)), 0.1)
        return x


def initial_parameters(
    network: Network, rngs: Sequence[np.random.Generator]
) -> list[NDArray[np.float32]]:
    """Orthogonal weights and zero biases, one generator a policy; blocks (policy, *shape)."""
    drawn = [[initial_block(block, rng) for block in network.blocks] for rng in rngs]
    return [np.asarray(blocks, np.float32) for blocks in zip(*drawn, strict=True)]


def num_parameters(network: Network) -> int:
    """Parameters of one policy."""
    return sum(block.size for block in network.blocks)


class ParameterStore:
    """Parameters of a population in one flat tensor, their gradients in another, and Adam.

    The flat layout lets a step of the optimiser take a handful of operations, whatever the number
    of blocks.

    Args:
        blocks: initial values, each (policy, *shape).

    Attributes:
        blocks: views of `flat`, leaves of the graph of gradients.
        flat: all parameters.
    """

    def __init__(self, blocks: Sequence[NDArray[np.float32]]) -> None:
        self.flat = torch.cat([torch.from_numpy(block).reshape(-1) for block in blocks])
        self._gradient = torch.zeros_like(self.flat)
        self._first = torch.zeros_like(self.flat)
        self._second = torch.zeros_like(self.flat)
        self._count = 0
        shapes = [block.shape for block in blocks]
        self.blocks = [view.requires_grad_() for view in _views(self.flat, shapes)]
        for block, view in zip(self.blocks, _views(self._gradient, shapes), strict=True):
            block.grad = view

    def minimise(self, loss: Tensor, *, learning_rate: float) -> None:
        """One step of Adam (Kingma and Ba 2015) on a scalar loss."""
        self._gradient.zero_()
        loss.backward()
        self._count += 1
        with torch.no_grad():
            self._first.lerp_(self._gradient, 0.1)
            self._second.mul_(0.999).addcmul_(self._gradient, self._gradient, value=0.001)
            scale = (self._second / (1.0 - 0.999**self._count)).sqrt_().add_(1e-8)
            self.flat.addcdiv_(self._first, scale, value=-learning_rate / (1 - 0.9**self._count))

    def copy_blocks(self) -> list[Tensor]:
        """Copies of the blocks, without gradients."""
        return [block.detach().clone() for block in self.blocks]

    def state_dict(self) -> dict[str, object]:
        """Parameters and moments as arrays."""
        return {
            "parameters": self.flat.numpy().copy(),
            "first": self._first.numpy().copy(),
            "second": self._second.numpy().copy(),
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            for name, own in (
                ("parameters", self.flat),
                ("first", self._first),
                ("second", self._second),
            ):
                own.copy_(torch.from_numpy(np.array(state[name], np.float32)))
        self._count = int(np.asarray(state["count"]))


def _views(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
