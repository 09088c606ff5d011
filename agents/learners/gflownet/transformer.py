"""Forward policy of strings: a causal transformer that remembers keys and values.

While strings are sampled, each step reads one letter and looks back at cached keys and values, and
nothing is kept for a gradient; the update then reads whole strings in one causal pass. The cost of
a string of n letters is n steps, not the n * n / 2 of reading every prefix anew.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.networks import Array, Indices, PolicyNetwork, linear_blocks
from morl.compositional import States

_LAYER = 12
"""Blocks of a layer: four linear maps and two normalisations, each weight and bias."""


class TransformerPolicy(PolicyNetwork):
    """Causal transformer over letters, then a perceptron that sees the condition as well.

    Layers are those of Vaswani et al. (2017): attention, then a perceptron of the same width, each
    added to its input and normalised after. The condition enters the perceptron behind the layers.

    Args:
        vocabulary: number of letters.
        horizon: most letters of a string.
        code_width: features of an encoded condition.
        num_outputs: logits, and a log-flow where there is one.
        width: features of a letter.
        layers: number of layers.
        heads: of attention; divides `width`.
        hidden: units of the hidden layers behind.
        rng: draws the initial weights.
    """

    remembers = False

    def __init__(
        self,
        *,
        vocabulary: int,
        horizon: int,
        code_width: int,
        num_outputs: int,
        width: int,
        layers: int,
        heads: int,
        hidden: tuple[int, ...],
        rng: np.random.Generator,
    ) -> None:
        blocks = [rng.standard_normal((vocabulary + 1, width)).astype(np.float32)]
        for _ in range(layers):
            for sizes in ([width, 3 * width], [width, width], [width, width], [width, width]):
                blocks += linear_blocks(sizes, rng)
            blocks += [np.ones(width, np.float32), np.zeros(width, np.float32)] * 2
        first, *rest = linear_blocks([width + code_width, *hidden, num_outputs], rng)
        super().__init__([*blocks, first[:width], first[width:], *rest])
        self.num_outputs = num_outputs
        self._begin_letter = vocabulary
        self._heads = heads
        self._positions = sinusoids(horizon + 1, width)
        self._tensors = [torch.from_numpy(block).requires_grad_() for block in self.blocks]
        for tensor, gradient in zip(self._tensors, self.block_gradients, strict=True):
            tensor.grad = torch.from_numpy(gradient)
        self._layers = [
            self._tensors[start : start + _LAYER] for start in range(1, 1 + layers * _LAYER, _LAYER)
        ]
        self._head = self._tensors[1 + layers * _LAYER :]
        self._codes = torch.zeros((0, code_width))
        self._offsets = torch.zeros((0, hidden[0]))
        self._active = np.zeros(0, np.int64)
        self._caches: list[tuple[Array, Array]] = []
        self._outputs: list[Array] = []
        self._graph = torch.zeros((0, num_outputs))

    def begin(self, codes: Array, transitions: int) -> None:  # noqa: ARG002 - grows as needed
        """See `PolicyNetwork.begin`."""
        self._codes = torch.from_numpy(codes)
        with torch.no_grad():
            self._offsets = self._offset(self._codes)
        self._active = np.arange(len(codes))
        self._caches = []
        self._outputs = []

    @torch.no_grad()
    def step(self, states: States, rows: Indices) -> Array:
        """See `PolicyNetwork.step`; all states have the same number of letters."""
        time = len(self._outputs)
        self._leave_finished(rows)
        letters = states[:, time - 1] if time else np.full(len(rows), self._begin_letter)
        current = self._read(letters[:, None], first=time)
        if not self._caches:
            width = current.shape[2]
            shape = (len(rows), self._heads, width // self._heads, len(self._positions))
            self._caches = [
                (np.empty(shape, np.float32), np.empty(shape, np.float32)) for _ in self._layers
            ]
        for layer, (keys, values) in zip(self._layers, self._caches, strict=True):
            mixed = current[:, 0] @ layer[0] + layer[1]
            found = torch.empty(len(rows), current.shape[2])
            kernels.cached_attention(mixed.numpy(), keys, values, time, found.numpy())
            current = self._rest_of_layer(layer, current, found[:, None])
        offsets = self._offsets if len(rows) == len(self._offsets) else self._offsets[rows]
        outputs: Array = self._answer(current[:, 0], offsets).numpy()
        self._outputs.append(outputs)
        return outputs

    def tape(self) -> Array:
        """See `PolicyNetwork.tape`."""
        return np.concatenate(self._outputs)

    def recall(
        self,
        objects: States,
        states: States,  # noqa: ARG002 - objects hold all their prefixes
        rows: Indices,
        times: Indices,
    ) -> Array:
        """See `PolicyNetwork.recall`."""
        places = (torch.from_numpy(rows), torch.from_numpy(times))
        features = self._prefixes(objects, int(times.max()))[places]
        self._graph = self._answer(features, self._offset(self._codes)[places[0]])
        outputs: Array = self._graph.detach().numpy()
        return outputs

    @torch.no_grad()
    def outputs(self, codes: Array, states: States) -> Array:
        """See `PolicyNetwork.outputs`."""
        lengths = (states >= 0).sum(axis=1)
        features = self._prefixes(states, int(lengths.max()))
        last = features[torch.arange(len(states)), torch.from_numpy(lengths)]
        found: Array = self._answer(last, self._offset(torch.from_numpy(codes))).numpy()
        return found

    def backward(self, d_outputs: Array, bias_gradient: Array) -> None:  # noqa: ARG002
        """See `PolicyNetwork.backward`."""
        self.gradients[:] = 0.0  # torch adds to what stands there
        self._graph.backward(torch.from_numpy(d_outputs))
        self._graph = self._graph.detach()

    def _leave_finished(self, rows: Indices) -> None:
        """Drop the caches of strings that are finished."""
        if len(rows) < len(self._active):
            kept = np.searchsorted(self._active, rows)
            self._caches = [(keys[kept], values[kept]) for keys, values in self._caches]
            self._active = rows

    def _prefixes(self, strings: States, longest: int) -> Tensor:
        """What the layers say after each prefix, (string, letters of the prefix, feature)."""
        begin = np.full((len(strings), 1), self._begin_letter)
        # Behind the end any letter will do: nobody looks there.
        letters = np.concatenate([begin, np.maximum(strings[:, :longest], 0)], axis=1)
        current = self._read(letters, first=0)
        for layer in self._layers:
            query, key, value = self._projected(layer, current)
            found = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            joined = found.transpose(1, 2).reshape(current.shape)
            current = self._rest_of_layer(layer, current, joined)
        return current

    def _read(self, letters: States, *, first: int) -> Tensor:
        """Features of letters (string, position) that begin at a position."""
        places = self._positions[first : first + letters.shape[1]]
        return functional.embedding(torch.from_numpy(letters), self._tensors[0]) + places

    def _projected(self, layer: list[Tensor], current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (string, head, position, feature)."""
        strings, positions, width = current.shape
        mixed = current @ layer[0] + layer[1]
        split = mixed.view(strings, positions, 3, self._heads, width // self._heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def _rest_of_layer(self, layer: list[Tensor], current: Tensor, found: Tensor) -> Tensor:
        """Everything behind the attention, whose result is shaped like `current`."""
        joined = found @ layer[2] + layer[3]
        width = (current.shape[2],)
        current = functional.layer_norm(current + joined, width, layer[8], layer[9])
        inner = functional.relu(current @ layer[4] + layer[5]) @ layer[6] + layer[7]
        return functional.layer_norm(current + inner, width, layer[10], layer[11])

    def _offset(self, codes: Tensor) -> Tensor:
        """What the condition adds in the first layer behind the transformer."""
        return codes @ self._head[1] + self._head[2]

    def _answer(self, features: Tensor, offsets: Tensor) -> Tensor:
        current = functional.leaky_relu(features @ self._head[0] + offsets)
        for layer in range(3, len(self._head) - 2, 2):
            current = functional.leaky_relu(current @ self._head[layer] + self._head[layer + 1])
        return current @ self._head[-2] + self._head[-1]


def sinusoids(positions: int, width: int) -> Tensor:
    """Sines and cosines of positions (Vaswani et al., section 3.5), (position, feature)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
    angles = torch.arange(positions)[:, None] * rates
    table = torch.zeros(positions, width)
    table[:, 0::2] = torch.sin(angles)
    table[:, 1::2] = torch.cos(angles)[:, : width // 2]
    return table
