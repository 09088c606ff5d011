"""Forward policies of samplers of objects: one interface, a perceptron for encoded states.

A network answers for a batch of trajectories: `begin` with their conditions, then one call of
`step` a rollout step. What it computed stays on its tape, so that an on-policy update needs no
second forward pass. Outputs are logits of all actions and, behind them, the logarithm of the flow
through the state where the loss asks for one. Parameters are one flat vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet import kernels
from morl.compositional import States

Array: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]


def linear_blocks(sizes: list[int], rng: np.random.Generator) -> list[Array]:
    """Weights (in, out) and biases of a perceptron, uniform within one over root of the inputs."""
    blocks: list[Array] = []
    for rows, columns in pairwise(sizes):
        bound = 1.0 / np.sqrt(max(rows, 1))
        blocks.append(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32))
        blocks.append(rng.uniform(-bound, bound, columns).astype(np.float32))
    return blocks


class FlatParameters:
    """Arrays that live in one flat vector, with a gradient and Adam's moments beside it.

    Args:
        blocks: initial values; copied.

    Attributes:
        parameters: all of them, flat.
        gradients: likewise.
        blocks: views of `parameters`.
        block_gradients: views of `gradients`.
    """

    def __init__(self, blocks: list[Array]) -> None:
        self.parameters = np.concatenate([block.ravel() for block in blocks])
        self.gradients = np.zeros_like(self.parameters)
        self._first = np.zeros_like(self.parameters)
        self._second = np.zeros_like(self.parameters)
        self._count = 0
        ends = np.cumsum([block.size for block in blocks])
        places = list(zip([0, *ends[:-1].tolist()], ends.tolist(), blocks, strict=True))
        self.blocks = [self.parameters[a:b].reshape(block.shape) for a, b, block in places]
        self.block_gradients = [self.gradients[a:b].reshape(block.shape) for a, b, block in places]

    def improve(
        self, *, learning_rate: float, weight_decay: float, max_gradient_norm: float | None
    ) -> float:
        """One Adam step along `gradients`.

        Returns:
            The norm of the gradient before it was clipped.
        """
        norm = float(np.sqrt(kernels.squared_norm(self.gradients)))
        clipped = max_gradient_norm is not None and norm > max_gradient_norm
        self._count += 1
        kernels.adam_(
            self.parameters,
            self.gradients,
            self._first,
            self._second,
            self._count,
            learning_rate,
            weight_decay,
            max_gradient_norm / norm if clipped and max_gradient_norm else 1.0,
        )
        return norm

    def state_dict(self) -> dict[str, object]:
        """Parameters and moments."""
        return {
            "parameters": self.parameters.copy(),
            "first": self._first.copy(),
            "second": self._second.copy(),
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from `state_dict`; views stay valid."""
        self.parameters[:] = state["parameters"]
        self._first[:] = state["first"]
        self._second[:] = state["second"]
        self._count = int(state["count"])  # type: ignore[call-overload]


class PolicyNetwork(FlatParameters, ABC):
    """What the sampler and the learner need of a network.

    Attributes:
        num_outputs: logits, and a log-flow where there is one.
        remembers: whether a rollout leaves on the tape all that `backward` needs.
    """

    num_outputs: int
    remembers: bool

    @abstractmethod
    def begin(self, codes: Array, transitions: int) -> None:
        """Begin a batch of trajectories with an empty tape.

        Args:
            codes: encoded conditions, (trajectory, code); any number of columns, also none.
            transitions: most that the tape will have to hold.
        """

    @abstractmethod
    def step(self, states: States, rows: Indices) -> Array:
        """Outputs for the next states of some trajectories.

        Args:
            states: (transition, feature).
            rows: the trajectory of each, ascending.

        Returns:
            Shape (transition, output); a view, valid until the next `begin`.
        """

    @abstractmethod
    def outputs(self, codes: Array, states: States) -> Array:
        """Outputs for states one by one, without a tape.

        Args:
            codes: encoded condition of each, (state, code).
            states: unfinished, (state, feature).

        Returns:
            Shape (state, output).
        """

    @abstractmethod
    def tape(self) -> Array:
        """Outputs of all steps since `begin`, (transition, output); a view."""

    @abstractmethod
    def recall(self, objects: States, states: States, rows: Indices, times: Indices) -> Array:
        """Outputs for all states of whole trajectories, with a tape for `backward`.

        Follows a `begin` and no `step`.

        Args:
            objects: what each trajectory built, (trajectory, feature).
            states: (transition, feature).
            rows: the trajectory of each.
            times: number of actions before each.

        Returns:
            Shape (transition, output).
        """

    @abstractmethod
    def backward(self, d_outputs: Array, bias_gradient: Array) -> None:
        """Overwrite `gradients`.

        Args:
            d_outputs: gradient by the outputs on the tape, (transition, output).
            bias_gradient: its sum over transitions, (output,).
        """


class PerceptronPolicy(PolicyNetwork):
    """Leaky perceptron of the encoded state, shifted by the condition in the first layer.

    The first layer of the joint input (state, condition) is the sum of two products; that of the
    condition is made once a trajectory.

    Args:
        encode: turns states into numbers, (transition, encoding).
        encoding_width: features of an encoded state.
        code_width: features of an encoded condition.
        num_outputs: logits, and a log-flow where there is one.
        hidden: units of the hidden layers.
        rng: draws the initial weights.
    """

    remembers = True

    def __init__(
        self,
        *,
        encode: Callable[[States], Array],
        encoding_width: int,
        code_width: int,
        num_outputs: int,
        hidden: tuple[int, ...],
        rng: np.random.Generator,
    ) -> None:
        first, *rest = linear_blocks([encoding_width + code_width, *hidden, num_outputs], rng)
        super().__init__([first[:encoding_width], first[encoding_width:], *rest])
        self.num_outputs = num_outputs
        self._encode = encode
        self._units = hidden
        self._codes = np.zeros((0, code_width), np.float32)
        self._offsets = np.zeros((0, hidden[0]), np.float32)
        self._rows = np.zeros(0, np.int64)
        self._inputs = np.zeros((0, encoding_width), np.float32)
        self._hidden = [np.zeros((0, units), np.float32) for units in hidden]
        self._outputs = np.zeros((0, num_outputs), np.float32)
        self._filled = 0

    def begin(self, codes: Array, transitions: int) -> None:
        """See `PolicyNetwork.begin`."""
        self._codes = codes
        self._offsets = codes @ self.blocks[1] + self.blocks[2]
        self._filled = 0
        if transitions > len(self._rows):
            self._rows = np.empty(transitions, np.int64)
            self._inputs = np.empty((transitions, self._inputs.shape[1]), np.float32)
            self._hidden = [np.empty((transitions, units), np.float32) for units in self._units]
            self._outputs = np.empty((transitions, self.num_outputs), np.float32)

    def step(self, states: States, rows: Indices) -> Array:
        """See `PolicyNetwork.step`."""
        place = slice(self._filled, self._filled + len(rows))
        self._filled = place.stop
        self._rows[place] = rows
        self._inputs[place] = self._encode(states)
        current = self._hidden[0][place]
        np.dot(self._inputs[place], self.blocks[0], out=current)
        kernels.add_rows_leaky_(current, self._offsets, rows)
        for layer, hidden in enumerate(self._hidden[1:], start=1):
            following = hidden[place]
            np.dot(current, self.blocks[2 * layer + 1], out=following)
            kernels.add_bias_leaky_(following, self.blocks[2 * layer + 2])
            current = following
        outputs = self._outputs[place]
        np.dot(current, self.blocks[-2], out=outputs)
        outputs += self.blocks[-1]
        return outputs

    def outputs(self, codes: Array, states: States) -> Array:
        """See `PolicyNetwork.outputs`."""
        current = self._encode(states) @ self.blocks[0]
        current += codes @ self.blocks[1]
        kernels.add_bias_leaky_(current, self.blocks[2])
        for layer in range(3, len(self.blocks) - 2, 2):
            current = current @ self.blocks[layer]
            kernels.add_bias_leaky_(current, self.blocks[layer + 1])
        return np.asarray(current @ self.blocks[-2] + self.blocks[-1])

    def tape(self) -> Array:
        """See `PolicyNetwork.tape`."""
        return self._outputs[: self._filled]

    def recall(
        self,
        objects: States,  # noqa: ARG002 - states say it all
        states: States,
        rows: Indices,
        times: Indices,  # noqa: ARG002
    ) -> Array:
        """See `PolicyNetwork.recall`."""
        return self.step(states, rows)

    def backward(self, d_outputs: Array, bias_gradient: Array) -> None:
        """See `PolicyNetwork.backward`."""
        place = slice(self._filled)
        assert d_outputs.shape == (self._filled, self.num_outputs)
        gradients = self.block_gradients
        delta = d_outputs
        np.dot(self._hidden[-1][place].T, delta, out=gradients[-2])
        gradients[-1][:] = bias_gradient
        for layer in range(len(self._hidden) - 1, -1, -1):
            delta = delta @ self.blocks[2 * layer + 3].T
            kernels.leaky_backward_(delta, self._hidden[layer][place], gradients[2 * layer + 2])
            if layer:
                below = self._hidden[layer - 1][place]
                np.dot(below.T, delta, out=gradients[2 * layer + 1])
        np.dot(self._inputs[place].T, delta, out=gradients[0])
        sums = np.empty_like(self._offsets)
        kernels.sum_rows(delta, self._rows[place], sums)
        np.dot(self._codes.T, sums, out=gradients[1])


class LogPartition(FlatParameters):
    """Logarithm of the partition function, a perceptron of the encoded condition.

    Args:
        code_width: features of an encoded condition; 0 for a single number.
        hidden: units of the hidden layers; () for a linear map. Ignored without a condition.
        rng: draws the initial weights.
    """

    def __init__(
        self, *, code_width: int, hidden: tuple[int, ...], rng: np.random.Generator
    ) -> None:
        units = hidden if code_width else ()
        blocks = linear_blocks([code_width, *units, 1], rng)
        if not code_width:
            blocks[-1][:] = 0.0
        super().__init__(blocks)
        self._activations: list[Array] = []

    def __call__(self, codes: Array) -> Array:
        """Values for codes (trajectory, code), shape (trajectory,)."""
        current = codes
        self._activations = [codes]
        for layer in range(0, len(self.blocks) - 2, 2):
            current = current @ self.blocks[layer]
            kernels.add_bias_leaky_(current, self.blocks[layer + 1])
            self._activations.append(current)
        values: Array = (current @ self.blocks[-2])[:, 0] + self.blocks[-1]
        return values

    def backward(self, d_values: Array) -> None:
        """Overwrite `gradients` by those of the last call's values (trajectory,)."""
        delta = np.ascontiguousarray(d_values[:, None], np.float32)
        self.block_gradients[-1][:] = delta.sum(axis=0)
        for layer in range(len(self._activations) - 1, -1, -1):
            below = self._activations[layer]
            np.dot(below.T, delta, out=self.block_gradients[2 * layer])
            if layer:
                delta = delta @ self.blocks[2 * layer].T
                kernels.leaky_backward_(delta, below, self.block_gradients[2 * layer - 1])
