"""The compact network's passes, forward and backward, on available rows alone.

Matrix products are NumPy's, everything between them is one compiled loop; torch sees the whole
network as a single operation. With a graph of some forty small operations a network, an update
would take several times as long. Tests compare values and gradients with plain torch.

Rows of a batch are packed: those of sample b stand at ``starts[b]`` to ``starts[b + 1]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class PackedRows:
    """The available rows of every policy's batch.

    Attributes:
        tables: (row, feature) for each policy, float32.
        starts: (batch + 1,) for each policy, where the rows of a sample begin.
        places: (row,) for each policy, ``sample * num_actions + action`` of each row.
        batch: samples of each policy.
        num_actions: rows of a sample, available or not.
    """

    tables: list[Array]
    starts: list[Array]
    places: list[Array]
    batch: int
    num_actions: int

    def columns(self, chosen: list[int]) -> PackedRows:
        """The same rows with some of their features."""
        tables = [np.ascontiguousarray(table[:, chosen]) for table in self.tables]
        return PackedRows(tables, self.starts, self.places, self.batch, self.num_actions)


@dataclass
class _Trace:
    """What the backward pass of one network needs."""

    table: Array
    starts: Array
    places: Array
    wanted: Array
    encoded: Array
    pooled: Array
    largest: Array
    hidden: Array


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _encode(rows: Array, shift: Array, starts: Array, pooled: Array, largest: Array) -> None:
    """Add each sample's shift, rectify in place, and pool.

    Args:
        rows: (row, unit); overwritten.
        shift: (sample, unit).
        starts: (sample + 1,).
        pooled: (sample, 2 unit); overwritten by mean and maximum.
        largest: (sample, unit), row of each maximum; overwritten.
    """
    units = rows.shape[1]
    for b in range(shift.shape[0]):
        first, last = starts[b], starts[b + 1]
        share = np.float32(1.0) / np.float32(last - first)
        for j in range(units):
            pooled[b, j] = np.float32(0)
            pooled[b, units + j] = np.float32(-1)
        for i in range(first, last):
            for j in range(units):
                value = max(rows[i, j] + shift[b, j], np.float32(0))
                rows[i, j] = value
                pooled[b, j] += value * share
                if value > pooled[b, units + j]:
                    pooled[b, units + j] = value
                    largest[b, j] = i


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _rectify(rows: Array, shift: Array, starts: Array) -> None:
    """Add each sample's shift to its rows and rectify, in place."""
    for b in range(shift.shape[0]):
        for i in range(starts[b], starts[b + 1]):
            for j in range(rows.shape[1]):
                rows[i, j] = max(rows[i, j] + shift[b, j], np.float32(0))


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _touched(gradient: Array, starts: Array, rows: Array, samples: Array) -> int:
    """Find the rows with a gradient.

    Args:
        gradient: (row, component).
        starts: (sample + 1,).
        rows: (row,); its head is overwritten by their indices.
        samples: (row,); likewise by their samples.

    Returns:
        How many there are.
    """
    count = 0
    for b in range(starts.shape[0] - 1):
        for i in range(starts[b], starts[b + 1]):
            for k in range(gradient.shape[1]):
                if gradient[i, k] != np.float32(0):
                    rows[count] = i
                    samples[count] = b
                    count += 1
                    break
    return count


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _through_head(delta: Array, hidden: Array, samples: Array, shift_gradient: Array) -> None:
    """Through the rectifier, in place, and summed over each sample's rows.

    Args:
        delta: (touched, unit).
        hidden: (touched, unit), outputs of the rectifier.
        samples: (touched,).
        shift_gradient: (sample, unit), zeros; added to.
    """
    for i in range(delta.shape[0]):
        b = samples[i]
        for j in range(delta.shape[1]):
            if hidden[i, j] > np.float32(0):
                shift_gradient[b, j] += delta[i, j]
            else:
                delta[i, j] = np.float32(0)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _from_context(starts: Array, largest: Array, pooled_gradient: Array, delta: Array) -> None:
    """Gradients by the encoder's outputs that come by way of the pooled context.

    Args:
        starts: (sample + 1,).
        largest: (sample, unit).
        pooled_gradient: (sample, 2 unit).
        delta: (row, unit); overwritten.
    """
    units = delta.shape[1]
    for b in range(largest.shape[0]):
        share = np.float32(1.0) / np.float32(starts[b + 1] - starts[b])
        for i in range(starts[b], starts[b + 1]):
            for j in range(units):
                delta[i, j] = pooled_gradient[b, j] * share
        for j in range(units):
            delta[largest[b, j], j] += pooled_gradient[b, units + j]


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _through_encoder(
    encoded: Array,
    starts: Array,
    touched: Array,
    touched_delta: Array,
    delta: Array,
    shift_gradient: Array,
) -> None:
    """Add the gradients of the touched rows, then go through the rectifier, in place.

    Args:
        encoded: (row, unit), outputs of the rectifier.
        starts: (sample + 1,).
        touched: (touched,), rows with a gradient of their own.
        touched_delta: (touched, unit).
        delta: (row, unit), gradients by way of the context.
        shift_gradient: (sample, unit), zeros; added to.
    """
    units = encoded.shape[1]
    for k in range(touched.shape[0]):
        for j in range(units):
            delta[touched[k], j] += touched_delta[k, j]
    for b in range(shift_gradient.shape[0]):
        for i in range(starts[b], starts[b + 1]):
            for j in range(units):
                if encoded[i, j] > np.float32(0):
                    shift_gradient[b, j] += delta[i, j]
                else:
                    delta[i, j] = np.float32(0)


def _forward(
    parameters: Sequence[Array], rows: PackedRows, policy: int, wanted: Array
) -> tuple[Array, _Trace]:
    """One network on one policy's rows; outputs (row, component)."""
    w1, b1, p1, w2, b2, c2, p2, w3, b3 = parameters
    table, starts = rows.tables[policy], rows.starts[policy]
    encoded = table @ w1
    pooled = np.empty((rows.batch, 2 * w1.shape[1]), np.float32)
    largest = np.zeros((rows.batch, w1.shape[1]), np.int64)
    _encode(encoded, wanted @ p1 + b1, starts, pooled, largest)
    hidden = encoded @ w2
    _rectify(hidden, pooled @ c2 + wanted @ p2 + b2, starts)
    trace = _Trace(table, starts, rows.places[policy], wanted, encoded, pooled, largest, hidden)
    return hidden @ w3 + b3, trace


def _backward(parameters: Sequence[Array], trace: _Trace, gradient: Array) -> list[Array]:
    """Gradients by the parameters, in their order, given those by the outputs (row, component)."""
    w1, _, _, w2, _, c2, _, w3, _ = parameters
    batch = len(trace.starts) - 1
    touched = np.empty(len(gradient), np.int64)
    samples = np.empty(len(gradient), np.int64)
    count = _touched(gradient, trace.starts, touched, samples)
    touched, samples = touched[:count], samples[:count]
    own, hidden = gradient[touched], trace.hidden[touched]
    delta = own @ w3.T
    by_context = np.zeros((batch, w2.shape[1]), np.float32)
    _through_head(delta, hidden, samples, by_context)
    encoder_delta = np.empty_like(trace.encoded)
    by_shift = np.zeros((batch, w1.shape[1]), np.float32)
    _from_context(trace.starts, trace.largest, by_context @ c2.T, encoder_delta)
    _through_encoder(trace.encoded, trace.starts, touched, delta @ w2.T, encoder_delta, by_shift)
    return [
        trace.table.T @ encoder_delta,
        by_shift.sum(axis=0),
        trace.wanted.T @ by_shift,
        trace.encoded[touched].T @ delta,
        by_context.sum(axis=0),
        trace.pooled.T @ by_context,
        trace.wanted.T @ by_context,
        hidden.T @ own,
        own.sum(axis=0),
    ]


class CompactPass(torch.autograd.Function):
    """All networks of a population: ``apply(rows, preferences, *parameters)``.

    Network q reads the rows of policy ``q % num_policies``; outputs are
    ``(network, sample, action, component)``, zero for unavailable actions.
    """

    @staticmethod
    def forward(ctx: Any, rows: PackedRows, preferences: Array, *parameters: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        """See the class."""
        blocks = [block.detach().numpy() for block in parameters]
        networks, components = blocks[-1].shape
        outputs = np.zeros((networks, rows.batch * rows.num_actions, components), np.float32)
        traces = []
        for network in range(networks):
            policy = network % len(rows.tables)
            own = [block[network] for block in blocks]
            values, trace = _forward(own, rows, policy, preferences[policy])
            outputs[network, trace.places] = values
            traces.append(trace)
        ctx.traces, ctx.blocks = traces, blocks
        return torch.from_numpy(outputs.reshape(networks, rows.batch, rows.num_actions, components))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ANN401 - torch's own
        """Gradients by the parameters alone."""
        (by_outputs,) = gradients
        flat = np.ascontiguousarray(by_outputs.numpy()).reshape(
            len(ctx.traces), -1, by_outputs.shape[-1]
        )
        found = [
            _backward([block[q] for block in ctx.blocks], trace, flat[q, trace.places])
            for q, trace in enumerate(ctx.traces)
        ]
        stacked = [torch.from_numpy(np.stack(blocks)) for blocks in zip(*found, strict=True)]
        return None, None, *stacked
