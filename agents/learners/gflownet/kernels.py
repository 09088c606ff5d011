"""Compiled loops of the samplers of objects; matrix products are left to NumPy.

All arrays are contiguous; the first axis is the transition, the trajectory or the parameter.
`fastmath` lets the compiler vectorise; results are reproducible on one machine, not across
processors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = np.float32
Array = NDArray[Any]

SLOPE = F(0.01)
"""Slope of the leaky rectifier below zero, that of the papers' networks."""


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def add_rows_leaky_(x: Array, offsets: Array, rows: Array) -> None:
    """Replace `x` by ``leaky(x + offsets[rows])``, in place.

    Args:
        x: (transition, unit) float32.
        offsets: (trajectory, unit) float32.
        rows: (transition,) int64, the trajectory of each transition.
    """
    for n in range(x.shape[0]):
        offset = offsets[rows[n]]
        for j in range(x.shape[1]):
            value = x[n, j] + offset[j]
            x[n, j] = max(value, SLOPE * value)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def add_bias_leaky_(x: Array, bias: Array) -> None:
    """Replace `x` (batch, unit) by ``leaky(x + bias)``, in place."""
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            value = x[n, j] + bias[j]
            x[n, j] = max(value, SLOPE * value)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def leaky_backward_(delta: Array, activation: Array, bias_gradient: Array) -> None:
    """Pull a gradient back through the rectifier, in place, and sum it into the bias gradient.

    Args:
        delta: (batch, unit), gradient by the activation; becomes that by the input.
        activation: (batch, unit), whose sign tells the side of the kink.
        bias_gradient: (unit,), overwritten by the sum over the batch.
    """
    bias_gradient[:] = F(0)
    for n in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            d = delta[n, j] * (F(1) if activation[n, j] > F(0) else SLOPE)
            delta[n, j] = d
            bias_gradient[j] += d


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def sum_rows(delta: Array, rows: Array, sums: Array) -> None:
    """Sum the rows of `delta` that belong to each trajectory.

    Args:
        delta: (transition, unit).
        rows: (transition,) int64.
        sums: (trajectory, unit), overwritten.
    """
    sums[:] = F(0)
    for n in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            sums[rows[n], j] += delta[n, j]


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def masked_softmax(outputs: Array, mask: Array, probabilities: Array) -> None:
    """Probabilities of legal actions; those of others are zero.

    Args:
        outputs: (transition, output) float32; columns behind the actions are left alone.
        mask: (transition, action) bool, at least one true a row.
        probabilities: (transition, action) float32, overwritten.
    """
    for n in range(mask.shape[0]):
        _softmax_row(outputs[n], mask[n], probabilities[n])


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _softmax_row(outputs, mask, probabilities):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    top = F(-3.0e38)
    for j in range(mask.size):
        if mask[j]:
            top = max(top, outputs[j])
    total = F(0)
    for j in range(mask.size):
        value = np.exp(outputs[j] - top) if mask[j] else F(0)
        probabilities[j] = value
        total += value
    for j in range(mask.size):
        probabilities[j] /= total


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def sample_actions(
    outputs: Array,
    mask: Array,
    uniform: Array,
    exploration: float,
    probabilities: Array,
    actions: Array,
) -> None:
    """Draw legal actions from the policy mixed with the uniform one.

    Args:
        outputs: (transition, output) float32, logits first.
        mask: (transition, action) bool, at least one true a row.
        uniform: (transition,) in [0, 1).
        exploration: weight of the uniform policy, in [0, 1].
        probabilities: (transition, action) float32, overwritten by the unmixed policy.
        actions: (transition,) int64, overwritten.
    """
    for n in range(mask.shape[0]):
        _softmax_row(outputs[n], mask[n], probabilities[n])
        legal = 0
        for j in range(mask.shape[1]):
            legal += mask[n, j]
        cumulative, chosen = 0.0, -1
        for j in range(mask.shape[1]):
            if mask[n, j]:
                chosen = j
                cumulative += (1.0 - exploration) * probabilities[n, j] + exploration / legal
                if uniform[n] < cumulative:
                    break
        actions[n] = chosen


@njit(cache=True, error_model="numpy", nogil=True)
def chosen_logarithms(probabilities: Array, actions: Array, logarithms: Array) -> None:
    """Logarithms of the actions' probabilities, with a floor at the least normal number.

    Args:
        probabilities: (transition, action) float32.
        actions: (transition,) int64.
        logarithms: (transition,) float32, overwritten.
    """
    for n in range(actions.size):
        logarithms[n] = np.log(max(probabilities[n, actions[n]], F(1.2e-38)))


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def head_gradient(
    probabilities: Array,
    actions: Array,
    d_log_probabilities: Array,
    d_outputs: Array,
    bias_gradient: Array,
) -> None:
    """Gradient by the logits, from that by the log-probabilities of the chosen actions.

    Args:
        probabilities: (transition, action).
        actions: (transition,) int64.
        d_log_probabilities: (transition,) float32.
        d_outputs: (transition, output); the columns of actions are overwritten, those behind
            them are read alone.
        bias_gradient: (output,), overwritten by the sum over transitions.
    """
    bias_gradient[:] = F(0)
    size = probabilities.shape[1]
    for n in range(actions.size):
        k = d_log_probabilities[n]
        for j in range(size):
            d_outputs[n, j] = -k * probabilities[n, j]
        d_outputs[n, actions[n]] += k
        for j in range(d_outputs.shape[1]):
            bias_gradient[j] += d_outputs[n, j]


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def adam_(
    parameters: Array,
    gradients: Array,
    first: Array,
    second: Array,
    step: int,
    learning_rate: float,
    weight_decay: float,
    scale: float,
) -> None:
    """One Adam step (Kingma and Ba 2015, epsilon 1e-8) with the penalty in the gradient.

    Args:
        parameters: flat float32, changed in place.
        gradients: like `parameters`.
        first: first moments, like `parameters`.
        second: second moments, like `parameters`.
        step: number of this step, from 1.
        learning_rate: positive.
        weight_decay: factor of the parameters that is added to their gradient.
        scale: factor of the gradients, of clipping.
    """
    rate = F(learning_rate * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step))
    epsilon = F(1e-8 * np.sqrt(1.0 - 0.999**step))
    decay, factor = F(weight_decay), F(scale)
    for i in range(parameters.size):
        g = gradients[i] * factor + decay * parameters[i]
        m = F(0.9) * first[i] + F(0.1) * g
        v = F(0.999) * second[i] + F(0.001) * (g * g)
        first[i] = m
        second[i] = v
        parameters[i] -= rate * m / (np.sqrt(v) + epsilon)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def squared_norm(values: Array) -> float:
    """Sum of squares of a flat float32 array."""
    total = 0.0
    for i in range(values.size):
        total += values[i] * values[i]
    return total


@njit(cache=True, error_model="numpy", nogil=True)
def covered(points: Array, by: Array, found: Array) -> None:
    """Whether some other point is at least as good in every objective.

    Args:
        points: (point, objective) float64.
        by: (other, objective) float64.
        found: (point,) bool, overwritten.
    """
    for i in range(points.shape[0]):
        found[i] = False
        for k in range(by.shape[0]):
            below = True
            for j in range(points.shape[1]):
                if points[i, j] > by[k, j]:
                    below = False
                    break
            if below:
                found[i] = True
                break


@njit(cache=True, error_model="numpy", nogil=True)
def dominated(points: Array, by: Array, found: Array) -> None:
    """Whether some other point is at least as good in every objective and better in one.

    Args:
        points: (point, objective) float64.
        by: (other, objective) float64.
        found: (point,) bool, overwritten.
    """
    for i in range(points.shape[0]):
        found[i] = False
        for k in range(by.shape[0]):
            below, better = True, False
            for j in range(points.shape[1]):
                if points[i, j] > by[k, j]:
                    below = False
                    break
                better = better or points[i, j] < by[k, j]
            if below and better:
                found[i] = True
                break


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def cached_attention(mixed: Array, keys: Array, values: Array, time: int, found: Array) -> None:
    """Attention of the newest position to itself and all before; its key and value are stored.

    Args:
        mixed: query, key and value of the newest position, (string, 3 x head x feature).
        keys: (string, head, feature, position); the newest one is written.
        values: likewise.
        time: number of the newest position, from 0.
        found: (string, head x feature), overwritten.
    """
    strings, heads, size, _ = keys.shape
    width = heads * size
    scale = F(1.0 / np.sqrt(size))
    scores = np.empty(time + 1, np.float32)
    for n in range(strings):
        for h in range(heads):
            for d in range(size):
                keys[n, h, d, time] = mixed[n, width + h * size + d]
                values[n, h, d, time] = mixed[n, 2 * width + h * size + d]
            scores[:] = F(0)
            for d in range(size):
                q = mixed[n, h * size + d] * scale
                row = keys[n, h, d]
                for t in range(time + 1):
                    scores[t] += q * row[t]
            top = scores[0]
            for t in range(1, time + 1):
                top = max(top, scores[t])
            total = F(0)
            for t in range(time + 1):
                scores[t] = np.exp(scores[t] - top)
                total += scores[t]
            for d in range(size):
                sum_ = F(0)
                row = values[n, h, d]
                for t in range(time + 1):
                    sum_ += scores[t] * row[t]
                found[n, h * size + d] = sum_ / total
