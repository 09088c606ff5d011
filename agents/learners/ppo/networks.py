"""Small multilayer perceptrons for a whole population, stored as one tensor a layer.

No loss and no environment here. Every array starts with the policy axis; one batched matrix product
serves all policies, which costs little more than serving one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.ppo import kernels

Array: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.float32]
"""Parameters of policies as flat vectors, shape (policy, parameter)."""


@dataclass(frozen=True)
class Block:
    """One weight or bias of the network.

    Attributes:
        name: for example ``"actor/0/weight"``.
        shape: shape for one policy.
        gain: gain of its orthogonal initialisation; 0 for zeros.
    """

    name: str
    shape: tuple[int, ...]
    gain: float

    @property
    def size(self) -> int:
        """Number of parameters of one policy."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of an actor and a vector critic, two separate towers with tanh units.

    Attributes:
        observation_size: length of the flattened observation.
        action_size: number of actions (discrete) or length of the action (continuous).
        num_objectives: outputs of the critic.
        hidden: units of the hidden layers of each tower.
        discrete: categorical policy if true, else a Gaussian whose scale ignores the state.
    """

    observation_size: int
    action_size: int
    num_objectives: int
    hidden: tuple[int, ...]
    discrete: bool

    def __post_init__(self) -> None:
        """Refuse an empty tower.

        Raises:
            ValueError: if a size is not positive.
        """
        sizes = (self.observation_size, self.action_size, self.num_objectives, *self.hidden)
        if not self.hidden or min(sizes) < 1:
            raise ValueError(f"every layer needs at least one unit, got {self}")

    def blocks(self) -> tuple[Block, ...]:
        """Weights and biases in storage order: actor, critic, then the log standard deviation."""
        actor = self._tower("actor", self.action_size, output_gain=0.01)
        critic = self._tower("critic", self.num_objectives, output_gain=1.0)
        scale = () if self.discrete else (Block("actor/log_std", (self.action_size,), 0.0),)
        return (*actor, *critic, *scale)

    def _tower(self, name: str, outputs: int, *, output_gain: float) -> tuple[Block, ...]:
        sizes = (self.observation_size, *self.hidden, outputs)
        blocks: list[Block] = []
        for layer, (rows, columns) in enumerate(pairwise(sizes)):
            gain = output_gain if layer == len(self.hidden) else float(np.sqrt(2.0))
            blocks.append(Block(f"{name}/{layer}/weight", (rows, columns), gain))
            blocks.append(Block(f"{name}/{layer}/bias", (columns,), 0.0))
        return tuple(blocks)

    @property
    def num_parameters(self) -> int:
        """Parameters of one policy."""
        return sum(block.size for block in self.blocks())


def initial_rows(spec: NetworkSpec, rngs: Sequence[np.random.Generator]) -> Rows:
    """Draw orthogonal weights and zero biases, one generator a policy.

    Returns:
        Shape (policy, parameter).
    """
    rows = [
        np.concatenate([initial_block(block, rng).ravel() for block in spec.blocks()])
        for rng in rngs
    ]
    return np.asarray(rows, dtype=np.float32)


def initial_block(block: Block, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw one weight, orthogonal up to its gain, or zeros where that is 0."""
    if block.gain == 0.0:
        return np.zeros(block.shape)
    rows, columns = block.shape
    normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q = q * np.sign(np.diag(r))  # makes the decomposition unique, hence uniform
    return block.gain * (q if rows >= columns else q.T)


class Tower:
    """Views of one tower's parameters and gradients.

    Products are NumPy's: at these sizes its loop over BLAS calls beats torch's batched product,
    above all where a layer has few outputs.
    """

    def __init__(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        self.weights = list(parameters[0::2])
        self.biases = list(parameters[1::2])
        self.weight_gradients = list(gradients[0::2])
        self.bias_gradients = list(gradients[1::2])

    def forward(self, observations: Array) -> list[Array]:
        """Activations of every layer, the linear output last; each (policy, batch, unit)."""
        activations: list[Array] = []
        current = observations
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            current = np.matmul(current, weight)
            if layer < last:
                kernels.add_bias_tanh_(current, bias)
            else:
                current += bias[:, None]
            activations.append(current)
        return activations

    def backward(self, observations: Array, activations: list[Array], delta: Array) -> None:
        """Overwrite the weight gradients, and the bias gradients of the hidden layers.

        Args:
            observations: (policy, batch, observation), input of `forward`.
            activations: result of `forward`.
            delta: (policy, batch, output), gradient of the loss by the output.
        """
        for layer in range(len(self.weights) - 1, -1, -1):
            below = activations[layer - 1] if layer else observations
            np.matmul(below.transpose(0, 2, 1), delta, out=self.weight_gradients[layer])
            if layer:
                delta = np.matmul(delta, self.weights[layer].transpose(0, 2, 1))
                kernels.tanh_backward_(delta, below, self.bias_gradients[layer - 1])


class PopulationNetwork:
    """Actors and vector critics of a population, with hand-written gradients.

    Args:
        spec: shape of one policy's network.
        rows: parameters of the policies, shape (policy, parameter); copied.

    Attributes:
        parameters: all of them, flat; block k holds (policy, size_k) at ``offsets[k]``.
        gradients: likewise.
    """

    def __init__(self, spec: NetworkSpec, rows: Rows) -> None:
        if rows.ndim != 2 or rows.shape[1] != spec.num_parameters:
            raise ValueError(f"expected (policy, {spec.num_parameters}) rows, got {rows.shape}")
        self.spec = spec
        self.num_policies = len(rows)
        self._blocks = spec.blocks()
        self._ends = np.cumsum([block.size for block in self._blocks])
        self.offsets = np.concatenate([[0], self._ends * len(rows)]).astype(np.int64)
        self.parameters = self.flatten(rows)
        self.gradients = np.zeros_like(self.parameters)
        views, gradients = self.views(self.parameters), self.views(self.gradients)
        split = 2 * (len(spec.hidden) + 1)
        self.actor = Tower(views[:split], gradients[:split])
        self.critic = Tower(views[split : 2 * split], gradients[split : 2 * split])
        self.log_std = views[-1]  # the critic's last bias where the policy is categorical
        self.log_std_gradient = gradients[-1]

    def views(self, flat: Array) -> list[Array]:
        """Blocks of an array laid out like `parameters`, each (policy, *shape)."""
        return [
            flat[start:stop].reshape(self.num_policies, *block.shape)
            for block, start, stop in zip(
                self._blocks, self.offsets, self.offsets[1:], strict=False
            )
        ]

    def rows(self, flat: Array | None = None) -> Rows:
        """Parameters (or another array of their layout) as (policy, parameter); a copy."""
        views = self.views(self.parameters if flat is None else flat)
        return np.concatenate([view.reshape(self.num_policies, -1) for view in views], axis=1)

    def flatten(self, rows: Rows) -> Array:
        """Array (policy, parameter) in the layout of `parameters`; a copy."""
        parts = np.split(np.asarray(rows, np.float32), self._ends[:-1], axis=1)
        return np.concatenate([part.ravel() for part in parts])

    def policy_outputs(self, observations: Array) -> Array:
        """Logits or means, (policy, batch, action), for (policy, batch, observation)."""
        return self.actor.forward(observations)[-1]

    def values(self, observations: Array) -> Array:
        """Critic outputs, (policy, batch, objective)."""
        return self.critic.forward(observations)[-1]
