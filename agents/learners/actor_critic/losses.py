"""The mathematics of conditioned actor-critics: pure functions, gradients by hand."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Twins: TypeAlias = Literal["whole", "elementwise", "mean"]
"""How the vectors of several critics become one: that of the critic which is worth least to the
preference, the least of each objective, or their mean."""

LOG_SCALE = (-5.0, 2.0)
"""Range of the logarithm of a policy's standard deviation."""

_MIDDLE, _HALF = (LOG_SCALE[0] + LOG_SCALE[1]) / 2, (LOG_SCALE[1] - LOG_SCALE[0]) / 2


class SampledActions(NamedTuple):
    """Actions of a squashed Gaussian, and what the way back needs.

    Attributes:
        actions: (batch, action), in (-1, 1).
        log_probabilities: (batch, 1).
        bounded: (batch, action), hyperbolic tangent of the raw log-scale.
        scale: (batch, action), standard deviation before squashing.
        noise: (batch, action), standard normal.
    """

    actions: Tensor
    log_probabilities: Tensor
    bounded: Tensor
    scale: Tensor
    noise: Tensor


def sample_actions(outputs: Tensor, noise: Tensor) -> SampledActions:
    """Squash ``centre + scale * noise`` by the hyperbolic tangent.

    Haarnoja et al., "Soft Actor-Critic" (2018), appendix C, for the log-probability.

    Args:
        outputs: (batch, 2 * action), centres and raw log-scales.
        noise: (batch, action), standard normal.
    """
    centre, raw = outputs.chunk(2, -1)
    bounded = torch.tanh(raw)
    log_scale = _HALF * bounded + _MIDDLE
    scale = log_scale.exp()
    before = torch.addcmul(centre, scale, noise)
    density = -0.5 * noise.square() - log_scale - 0.5 * math.log(2.0 * math.pi)
    # log(1 - tanh(u)^2), without cancellation.
    density -= 2.0 * (math.log(2.0) - before - torch.nn.functional.softplus(-2.0 * before))
    log_probabilities = density.sum(-1, keepdim=True)
    return SampledActions(torch.tanh(before), log_probabilities, bounded, scale, noise)


def actions_backward(
    sampled: SampledActions, by_action: Tensor, by_log_probability: float
) -> Tensor:
    """Gradient by the outputs (batch, 2 * action), the noise being fixed.

    Args:
        sampled: by `sample_actions`.
        by_action: (batch, action), gradient of the loss by the actions.
        by_log_probability: gradient by each log-probability.
    """
    actions, _, bounded, scale, noise = sampled
    # d log pi / d before = 2 tanh(before), d log pi / d log-scale = -1 in addition.
    before = by_action * (1.0 - actions.square()) + actions * (2.0 * by_log_probability)
    raw = (before * scale * noise - by_log_probability) * (_HALF * (1.0 - bounded.square()))
    return torch.cat([before, raw], -1)


def twin_shares(values: Tensor, preferences: Tensor, twins: Twins) -> Tensor:
    """Share of each critic in the vector that is believed, summing to one over critics.

    Args:
        values: (critic, batch, objective).
        preferences: (batch, objective).
        twins: see `Twins`.

    Returns:
        (critic, batch, objective), or with one column for all objectives.
    """
    if twins == "mean":
        return torch.full_like(values[..., :1], 1.0 / len(values))
    judged = values if twins == "elementwise" else (values * preferences).sum(-1, keepdim=True)
    return torch.zeros_like(judged).scatter_(0, judged.argmin(0, keepdim=True), 1.0)


def believed(values: Tensor, preferences: Tensor, twins: Twins) -> Tensor:
    """The vector that is believed, (batch, objective); see `twin_shares`."""
    return (twin_shares(values, preferences, twins) * values).sum(0)


def soft_targets(
    rewards: Tensor,
    terminated: Tensor,
    following: Tensor,
    log_probabilities: Tensor,
    *,
    discount: float,
    temperature: float,
) -> Tensor:
    """Targets of the critics, (batch, objective).

    The entropy is paid to every objective, so that any preference, which sums to one, gets it once.

    Args:
        rewards: (batch, objective).
        terminated: (batch, 1), 1 where nothing follows.
        following: (batch, objective), values of the next observation and action.
        log_probabilities: (batch, 1), of that action.
        discount: of values.
        temperature: weight of the entropy.
    """
    soft = following - temperature * log_probabilities
    return rewards + discount * (1.0 - terminated) * soft
