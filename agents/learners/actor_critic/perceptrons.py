"""Stacked perceptrons on one flat vector, with a backward pass written by hand.

One batched product for each layer serves all networks of a stack, and the optimiser and the moving
averages are one call on one vector. Tests compare the gradients with automatic differentiation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.types import State

_rectifier_backward = cast(Any, torch.ops.aten.threshold_backward.grad_input)
_fused_adam = cast(Any, torch)._fused_adam_
"""What ``torch.optim.Adam(fused=True)`` calls."""


class Perceptrons:
    """`count` perceptrons of one shape with rectified hidden layers.

    Args:
        count: networks of the stack.
        sizes: of the layers, inputs first and outputs last.
        rng: source of the initial weights; None leaves zeros.
        gain: of the last layer's orthogonal weights.
        dtype: of all numbers; float64 is for comparisons.
    """

    def __init__(
        self,
        count: int,
        sizes: Sequence[int],
        *,
        rng: np.random.Generator | None = None,
        gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.sizes = tuple(sizes)
        shapes = [(count, a, b) for a, b in pairwise(sizes)] + [(count, 1, b) for b in sizes[1:]]
        length = sum(math.prod(shape) for shape in shapes)
        self.flat, self.gradient, self._first, self._second = (
            torch.zeros(length, dtype=dtype) for _ in range(4)
        )
        self._updates = torch.zeros((), dtype=torch.float32)
        self._layers = len(sizes) - 1
        self.weights, self.biases = self._views(self.flat, shapes)
        self._weight_gradients, self._bias_gradients = self._views(self.gradient, shapes)
        self._kept: list[Tensor] = []
        if rng is not None:
            self._initialise(rng, gain)

    def _views(
        self, flat: Tensor, shapes: Sequence[tuple[int, ...]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        parts = flat.split([math.prod(shape) for shape in shapes])
        views = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return views[: self._layers], views[self._layers :]

    def _initialise(self, rng: np.random.Generator, gain: float) -> None:
        for index, weight in enumerate(self.weights):
            scale = gain if index == self._layers - 1 else math.sqrt(2.0)
            for network in weight:
                network.copy_(torch.from_numpy(scale * orthogonal(tuple(network.shape), rng)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (batch, input) to outputs (network, batch, output), kept for `backward`."""
        hidden = inputs.expand(len(self.weights[0]), -1, -1)
        self._kept = [hidden]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight).clamp_min_(0.0)
            self._kept.append(hidden)
        return torch.baddbmm(self.biases[-1], hidden, self.weights[-1])

    def backward(self, delta: Tensor) -> None:
        """Fill `gradient`, given that of the last outputs, (network, batch, output)."""
        for index in reversed(range(self._layers)):
            torch.bmm(self._kept[index].mT, delta, out=self._weight_gradients[index])
            torch.sum(delta, 1, keepdim=True, out=self._bias_gradients[index])
            if index:
                delta = self._through(delta, index)

    def input_gradient(self, delta: Tensor, columns: slice) -> Tensor:
        """Gradient by some of the inputs, (batch, column), summed over the stack."""
        for index in reversed(range(1, self._layers)):
            delta = self._through(delta, index)
        return torch.bmm(delta, self.weights[0][:, columns].mT).sum(0)

    def _through(self, delta: Tensor, index: int) -> Tensor:
        """From the outputs of layer `index` to those of the layer before its rectifier."""
        before = torch.bmm(delta, self.weights[index].mT)
        _rectifier_backward(before, self._kept[index], 0, grad_input=before)
        return before

    def step(self, learning_rate: float) -> None:
        """One step of Adam along `gradient`."""
        self._updates += 1
        _fused_adam(
            [self.flat], [self.gradient], [self._first], [self._second], [], [self._updates],
            lr=learning_rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def rescale_outputs(self, factors: Tensor) -> None:
        """Multiply the outputs (output,) by factors, exactly, by way of the last layer."""
        self.weights[-1] *= factors
        self.biases[-1] *= factors

    def state_dict(self) -> State:
        """Parameters and the optimiser's moments."""
        return {
            "flat": self.flat.numpy().copy(),
            "first": self._first.numpy().copy(),
            "second": self._second.numpy().copy(),
            "updates": int(self._updates),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict` of a stack of the same shape."""
        self.flat.copy_(torch.from_numpy(np.array(state["flat"])))
        self._first.copy_(torch.from_numpy(np.array(state["first"])))
        self._second.copy_(torch.from_numpy(np.array(state["second"])))
        self._updates.fill_(state["updates"])


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """A random matrix with orthonormal rows or columns, whichever are fewer."""
    rows, columns = shape
    normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
    basis, triangle = np.linalg.qr(normal)
    basis = basis * np.sign(np.diag(triangle))
    return np.ascontiguousarray(basis if rows >= columns else basis.T)
