"""Losses and objectives as pure functions of tensors; everything is to be maximised by a policy.

Axes are written ``(policy, batch, objective)``; a population of one has a policy axis of length
one. The compiled kernels of `morl.agents.learners.ppo.kernels` compute the gradients of these
functions faster and are tested against them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_log_probability(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian.

    Args:
        actions: (policy, batch, action).
        mean: (policy, batch, action).
        log_std: (policy, action).

    Returns:
        (policy, batch).
    """
    assert actions.shape == mean.shape
    assert log_std.shape == (mean.shape[0], mean.shape[2])
    z = (actions - mean) * torch.exp(-log_std).unsqueeze(1)
    per_dimension = -0.5 * z.square() - log_std.unsqueeze(1) - 0.5 * math.log(2 * math.pi)
    return per_dimension.sum(-1)


def categorical_log_probability(actions: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of the actions, (policy, batch), under logits (policy, batch, action)."""
    assert actions.shape == logits.shape[:2]
    return torch.log_softmax(logits, -1).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy, (policy,), of log standard deviations (policy, action)."""
    return (log_std + 0.5 + 0.5 * math.log(2 * math.pi)).sum(-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Mean entropy over the batch, (policy,), of logits (policy, batch, action)."""
    log_probabilities = torch.log_softmax(logits, -1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1).mean(-1)


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """PPO's pessimistic surrogate objective (Schulman et al. 2017, equation 7).

    Args:
        log_ratio: (policy, batch), log of new over old probability.
        advantage: (policy, batch), scalarised.
        clip: epsilon, in (0, 1).

    Returns:
        (policy,), mean over the batch, to be maximised.
    """
    assert log_ratio.shape == advantage.shape
    assert log_ratio.ndim == 2
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.minimum(ratio * advantage, clipped * advantage).mean(-1)


def value_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of a vector critic, summed over objectives; (policy,).

    Args:
        values: (policy, batch, objective).
        targets: like `values`.
    """
    assert values.shape == targets.shape
    assert values.ndim == 3
    return 0.5 * (values - targets).square().sum(-1).mean(-1)


def scalarise(advantages: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over the objective axis.

    Args:
        advantages: (policy, batch, objective).
        weights: (policy, objective).

    Returns:
        (policy, batch).
    """
    assert advantages.ndim == 3
    assert weights.shape == (advantages.shape[0], advantages.shape[2])
    return torch.einsum("pbj,pj->pb", advantages, weights)
