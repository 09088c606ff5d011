"""Compiled elementwise loops of the population learner; matrix products are left to torch.

Every kernel works on contiguous arrays whose first axis is the policy. `fastmath` lets the compiler
vectorise the sums; results are reproducible on one machine, not across processors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = np.float32
Array = NDArray[Any]

LOG_SQRT_TWO_PI = F(0.9189385332046727)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True, inline="always")
def _tanh(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - inlined by Numba
    """Rational approximation of tanh in float32, error below 3e-7 (coefficients of Eigen)."""
    v = min(max(x, F(-7.90531110763549805)), F(7.90531110763549805))
    q = v * v
    p = F(-2.76076847742355e-16) * q + F(2.00018790482477e-13)
    p = p * q + F(-8.60467152213735e-11)
    p = p * q + F(5.12229709037114e-08)
    p = p * q + F(1.48572235717979e-05)
    p = p * q + F(6.37261928875436e-04)
    p = v * (p * q + F(4.89352455891786e-03))
    d = F(1.19825839466702e-06) * q + F(1.18534705686654e-04)
    d = d * q + F(2.26843463243900e-03)
    return p / (d * q + F(4.89352518554385e-03))


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def add_bias_tanh_(x: Array, bias: Array) -> None:
    """Replace `x` by ``tanh(x + bias)``, in place.

    A library's exact tanh costs more than the matrix products beside it at these sizes.

    Args:
        x: (policy, batch, unit) float32.
        bias: (policy, unit) float32.
    """
    policies, batch, units = x.shape
    for p in range(policies):
        for b in range(batch):
            for j in range(units):
                x[p, b, j] = _tanh(x[p, b, j] + bias[p, j])


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def tanh_backward_(delta: Array, activation: Array, bias_gradient: Array) -> None:
    """Pull a gradient back through tanh, in place, and sum it into the bias gradient.

    Args:
        delta: (policy, batch, unit), gradient by the activation; becomes that by the input.
        activation: (policy, batch, unit), values of tanh.
        bias_gradient: (policy, unit), overwritten by the sum over the batch.
    """
    policies, batch, units = delta.shape
    for p in range(policies):
        for j in range(units):
            bias_gradient[p, j] = F(0)
        for b in range(batch):
            for j in range(units):
                a = activation[p, b, j]
                d = delta[p, b, j] * (F(1) - a * a)
                delta[p, b, j] = d
                bias_gradient[p, j] += d


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _value_gradient(p, b, column, values, packed, coefficient, d_values, bias_gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Gradient of the mean squared value error of one sample; returns its squared error."""
    batch, objectives = values.shape[1], values.shape[2]
    squared = F(0)
    for j in range(objectives):
        error = values[p, b, j] - packed[p, b, column + j]
        g = coefficient * error / F(batch)
        d_values[p, b, j] = g
        bias_gradient[p, j] += g
        squared += error * error
    return squared


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def gaussian_head(
    mean: Array,
    log_std: Array,
    values: Array,
    packed: Array,
    clip: float,
    entropy_coefficient: float,
    value_coefficient: float,
    d_mean: Array,
    d_values: Array,
    g_mean_bias: Array,
    g_value_bias: Array,
    g_log_std: Array,
    statistics: Array,
) -> None:
    """Gradients of the PPO loss at the outputs of a Gaussian policy and a vector critic.

    The loss of one policy is ``-surrogate - entropy_coefficient * entropy +
    value_coefficient / 2 * sum_j (V_j - R_j)^2``, averaged over the batch; see
    `morl.agents.learners.ppo.losses` for the same in torch.

    Args:
        mean: (policy, batch, action).
        log_std: (policy, action), independent of the state.
        values: (policy, batch, objective).
        packed: (policy, batch, action + 2 + objective): action taken, its log-probability when
            taken, advantage, value targets.
        clip: PPO's epsilon.
        entropy_coefficient: weight of the entropy bonus.
        value_coefficient: weight of the value loss.
        d_mean: overwritten, like `mean`.
        d_values: overwritten, like `values`.
        g_mean_bias: (policy, action), overwritten.
        g_value_bias: (policy, objective), overwritten.
        g_log_std: (policy, action), overwritten.
        statistics: (policy, 4), added to: KL estimate, clipped share, entropy, squared error.
    """
    policies, batch, size = mean.shape
    epsilon = F(clip)
    value_weight = F(value_coefficient)
    inverse = np.empty(size, np.float32)
    z = np.empty(size, np.float32)
    for p in range(policies):
        entropy = F(0)
        normaliser = F(0)
        for j in range(size):
            g_mean_bias[p, j] = F(0)
            g_log_std[p, j] = -F(entropy_coefficient)
            inverse[j] = np.exp(-log_std[p, j])
            entropy += log_std[p, j] + F(0.5) + LOG_SQRT_TWO_PI
            normaliser += log_std[p, j] + LOG_SQRT_TWO_PI
        for j in range(values.shape[2]):
            g_value_bias[p, j] = F(0)
        for b in range(batch):
            log_probability = -normaliser
            for j in range(size):
                z[j] = (packed[p, b, j] - mean[p, b, j]) * inverse[j]
                log_probability -= F(0.5) * z[j] * z[j]
            log_ratio = log_probability - packed[p, b, size]
            ratio = np.exp(log_ratio)
            advantage = packed[p, b, size + 1]
            clipped = ratio > F(1) + epsilon if advantage >= F(0) else ratio < F(1) - epsilon
            k = F(0) if clipped else -(advantage * ratio) / F(batch)
            for j in range(size):
                g = k * z[j] * inverse[j]
                d_mean[p, b, j] = g
                g_mean_bias[p, j] += g
                g_log_std[p, j] += k * (z[j] * z[j] - F(1))
            squared = _value_gradient(
                p, b, size + 2, values, packed, value_weight, d_values, g_value_bias
            )
            statistics[p, 0] += (ratio - F(1)) - log_ratio
            statistics[p, 1] += F(1) if clipped else F(0)
            statistics[p, 2] += entropy
            statistics[p, 3] += squared


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def categorical_head(
    logits: Array,
    values: Array,
    packed: Array,
    clip: float,
    entropy_coefficient: float,
    value_coefficient: float,
    d_logits: Array,
    d_values: Array,
    g_logit_bias: Array,
    g_value_bias: Array,
    statistics: Array,
) -> None:
    """Gradients of the PPO loss at the outputs of a categorical policy and a vector critic.

    As `gaussian_head`, with ``packed`` of shape (policy, batch, 1 + 2 + objective): action index,
    log-probability when taken, advantage, value targets.
    """
    policies, batch, size = logits.shape
    epsilon = F(clip)
    entropy_weight = F(entropy_coefficient)
    value_weight = F(value_coefficient)
    log_probabilities = np.empty(size, np.float32)
    for p in range(policies):
        for j in range(size):
            g_logit_bias[p, j] = F(0)
        for j in range(values.shape[2]):
            g_value_bias[p, j] = F(0)
        for b in range(batch):
            entropy = _log_softmax(logits[p, b], log_probabilities)
            action = int(packed[p, b, 0])
            log_ratio = log_probabilities[action] - packed[p, b, 1]
            ratio = np.exp(log_ratio)
            advantage = packed[p, b, 2]
            clipped = ratio > F(1) + epsilon if advantage >= F(0) else ratio < F(1) - epsilon
            k = F(0) if clipped else -(advantage * ratio) / F(batch)
            for j in range(size):
                probability = np.exp(log_probabilities[j])
                g = -k * probability
                if j == action:
                    g += k
                # d entropy / d logit_j = -p_j (log p_j + entropy), subtracted as a bonus.
                g += entropy_weight * probability * (log_probabilities[j] + entropy) / F(batch)
                d_logits[p, b, j] = g
                g_logit_bias[p, j] += g
            squared = _value_gradient(p, b, 3, values, packed, value_weight, d_values, g_value_bias)
            statistics[p, 0] += (ratio - F(1)) - log_ratio
            statistics[p, 1] += F(1) if clipped else F(0)
            statistics[p, 2] += entropy
            statistics[p, 3] += squared


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _log_softmax(logits, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Write log-probabilities to `out`; return the entropy."""
    top = logits[0]
    for j in range(1, logits.size):
        top = max(top, logits[j])
    total = F(0)
    for j in range(logits.size):
        total += np.exp(logits[j] - top)
    normaliser = np.log(total) + top
    entropy = F(0)
    for j in range(logits.size):
        out[j] = logits[j] - normaliser
        entropy -= np.exp(out[j]) * out[j]
    return entropy


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def sample_categorical(logits: Array, uniform: Array, actions: Array, log_probs: Array) -> None:
    """Draw one action a row by inverting the cumulative distribution.

    Args:
        logits: (policy, env, action).
        uniform: (policy, env), in [0, 1).
        actions: (policy, env) int64, overwritten.
        log_probs: (policy, env) float32, overwritten.
    """
    size = logits.shape[2]
    log_probabilities = np.empty(size, np.float32)
    for p in range(logits.shape[0]):
        for n in range(logits.shape[1]):
            _log_softmax(logits[p, n], log_probabilities)
            cumulative = 0.0
            action = size - 1
            for j in range(size):
                cumulative += np.exp(log_probabilities[j])
                if uniform[p, n] < cumulative:
                    action = j
                    break
            actions[p, n] = action
            log_probs[p, n] = log_probabilities[action]


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def sample_gaussian(
    mean: Array, log_std: Array, normal: Array, actions: Array, log_probs: Array
) -> None:
    """Shift and scale standard normals.

    Args:
        mean: (policy, env, action).
        log_std: (policy, action).
        normal: (policy, env, action), standard normal.
        actions: like `mean`, overwritten.
        log_probs: (policy, env), overwritten.
    """
    for p in range(mean.shape[0]):
        for n in range(mean.shape[1]):
            log_probability = F(0)
            for j in range(mean.shape[2]):
                z = normal[p, n, j]
                actions[p, n, j] = mean[p, n, j] + np.exp(log_std[p, j]) * z
                log_probability -= F(0.5) * z * z + log_std[p, j] + LOG_SQRT_TWO_PI
            log_probs[p, n] = log_probability


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def _adam_block(parameters, gradients, first, second, scale, rate, epsilon):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Adam on one contiguous piece; the bias corrections stand in `rate` and `epsilon`."""
    for i in range(parameters.size):
        g = gradients[i] * scale
        m = F(0.9) * first[i] + F(0.1) * g
        v = F(0.999) * second[i] + F(0.001) * (g * g)
        first[i] = m
        second[i] = v
        parameters[i] -= rate * m / (np.sqrt(v) + epsilon)


@njit(cache=True, fastmath=True, error_model="numpy", nogil=True)
def clipped_adam_(
    parameters: Array,
    gradients: Array,
    first: Array,
    second: Array,
    offsets: Array,
    learning_rate: Array,
    counts: Array,
    max_gradient_norm: float,
) -> None:
    """One Adam step for every policy, its gradient clipped by its own norm first.

    Args:
        parameters: flat; block k holds (policy, size_k) at ``offsets[k] : offsets[k + 1]``.
        gradients: like `parameters`.
        first: first moments, like `parameters`.
        second: second moments, like `parameters`.
        offsets: (block + 1,) int64.
        learning_rate: (policy,).
        counts: (policy,) int64, steps taken before this one; incremented.
        max_gradient_norm: bound on each policy's Euclidean gradient norm.

    Adam's epsilon is 1e-5, the value that PPO implementations share.
    """
    policies = learning_rate.size
    for p in range(policies):
        squared = F(0)
        for k in range(offsets.size - 1):
            size = (offsets[k + 1] - offsets[k]) // policies
            start = offsets[k] + p * size
            for i in range(start, start + size):
                squared += gradients[i] * gradients[i]
        scale = min(F(1), F(max_gradient_norm) / (np.sqrt(squared) + F(1e-6)))
        counts[p] += 1
        correction1 = F(1.0 - 0.9 ** counts[p])
        correction2 = F(np.sqrt(1.0 - 0.999 ** counts[p]))
        rate = F(learning_rate[p]) / correction1
        for k in range(offsets.size - 1):
            size = (offsets[k + 1] - offsets[k]) // policies
            start = offsets[k] + p * size
            _adam_block(
                parameters[start : start + size],
                gradients[start : start + size],
                first[start : start + size],
                second[start : start + size],
                scale,
                rate * correction2,
                F(1e-5) * correction2,
            )


@njit(cache=True, error_model="numpy", nogil=True)
def generalised_advantages(
    rewards: Array,
    values: Array,
    next_values: Array,
    ended: Array,
    discount: float,
    gae_lambda: float,
    advantages: Array,
) -> None:
    """Generalised advantage estimation for every objective (Schulman et al. 2016, equation 16).

    Args:
        rewards: (policy, time, env, objective).
        values: like `rewards`, critic at the observation of each step.
        next_values: like `rewards`, critic at what follows each step: zero after termination,
            the value of the last observation after truncation.
        ended: (policy, time, env) bool, whether an episode ended with the step.
        discount: discount factor.
        gae_lambda: trace decay.
        advantages: like `rewards`, overwritten.
    """
    policies, times, envs, objectives = rewards.shape
    for p in range(policies):
        for n in range(envs):
            for j in range(objectives):
                trace = 0.0
                for t in range(times - 1, -1, -1):
                    delta = rewards[p, t, n, j] + discount * next_values[p, t, n, j]
                    delta -= values[p, t, n, j]
                    if ended[p, t, n]:
                        trace = 0.0
                    trace = delta + discount * gae_lambda * trace
                    advantages[p, t, n, j] = trace


@njit(cache=True, error_model="numpy", nogil=True)
def discounted_sums(
    rewards: Array, ended: Array, discount: float, running: Array, sums: Array
) -> None:
    """Exponentially discounted sum of past rewards, restarted when an episode ends.

    Args:
        rewards: (policy, time, env, objective).
        ended: (policy, time, env) bool.
        discount: discount factor.
        running: (policy, env, objective), carried between calls.
        sums: like `rewards`, overwritten.
    """
    policies, times, envs, objectives = rewards.shape
    for p in range(policies):
        for t in range(times):
            for n in range(envs):
                for j in range(objectives):
                    running[p, n, j] = discount * running[p, n, j] + rewards[p, t, n, j]
                    sums[p, t, n, j] = running[p, n, j]
                    if ended[p, t, n]:
                        running[p, n, j] = 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def started_returns(
    rewards: Array,
    next_values: Array,
    ended: Array,
    started: Array,
    discount: float,
    totals: Array,
    counts: Array,
) -> None:
    """Mean discounted return of the episodes that start within a rollout, and their number.

    An episode still running at the end of the rollout is completed by the critic.

    Args:
        rewards: (policy, time, env, objective), in the environment's units.
        next_values: like `rewards`, critic at what follows, same units.
        ended: (policy, time, env) bool.
        started: (policy, env) bool, whether an episode starts with the first step.
        discount: discount factor.
        totals: (policy, objective), overwritten by the mean (zero where nothing started).
        counts: (policy,) int64, overwritten by the number of episodes.
    """
    policies, envs, objectives = rewards.shape[0], rewards.shape[2], rewards.shape[3]
    for p in range(policies):
        counts[p] = 0
        for j in range(objectives):
            totals[p, j] = 0.0
        for n in range(envs):
            counts[p] += _add_episodes(
                rewards[p, :, n],
                next_values[p, :, n],
                ended[p, :, n],
                started[p, n],
                discount,
                totals[p],
            )
        for j in range(objectives):
            if counts[p] > 0:
                totals[p, j] /= counts[p]


@njit(cache=True, error_model="numpy", nogil=True)
def _add_episodes(rewards, next_values, ended, started, discount, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add the returns of one environment's episodes to `total`; return their number."""
    times, objectives = rewards.shape
    count, factor, inside = 0, 1.0, started
    for t in range(times):
        if inside:
            for j in range(objectives):
                total[j] += factor * rewards[t, j]
            factor *= discount
            if ended[t] or t == times - 1:
                count += 1
            if not ended[t] and t == times - 1:
                for j in range(objectives):
                    total[j] += factor * next_values[t, j]
        if ended[t]:
            inside, factor = True, 1.0
    return count
