"""Losses of discrete soft actor-critic as pure functions of tensors, each to be minimised.

Axes are ``(policy, batch, action, component)``; the component of a vector critic is the objective,
a scalar critic has one. Sources: Haarnoja et al. 2018 (arXiv:1812.05905) and Christodoulou 2019
(arXiv:1910.07207) for the losses; the components of a vector critic share the entropy bonus, which
their weighted sum then holds exactly once, as preferences sum to one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_log_softmax(logits: Tensor, available: Tensor | None) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms over available actions.

    Args:
        logits: (policy, batch, action).
        available: like `logits`, boolean, at least one true a row; None where all are.

    Returns:
        Probabilities and log-probabilities; both 0 where an action is not available, so that
        their product is right there too.
    """
    assert logits.ndim == 3
    if available is None:
        log_probabilities = torch.log_softmax(logits, -1)
        return log_probabilities.exp(), log_probabilities
    assert available.shape == logits.shape
    masked = torch.log_softmax(logits.masked_fill(~available, -math.inf), -1)
    return masked.exp(), masked.masked_fill(~available, 0.0)


def scalarise(values: Tensor, preferences: Tensor) -> Tensor:
    """Weighted sum of a vector critic's components, or the one component of a scalar critic.

    Args:
        values: (policy, batch, action, component).
        preferences: (policy, batch, objective).

    Returns:
        (policy, batch, action).
    """
    assert values.ndim == 4
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    assert preferences.shape == (*values.shape[:2], values.shape[-1])
    return (values * preferences.unsqueeze(2)).sum(-1)


def pessimistic(first: Tensor, second: Tensor, preferences: Tensor) -> Tensor:
    """Of two critics' vectors, for every action the one that is worth less to the preference.

    Args:
        first: (policy, batch, action, component).
        second: like `first`.
        preferences: (policy, batch, objective).

    Returns:
        Like `first`.
    """
    assert first.shape == second.shape
    lower = scalarise(first, preferences) <= scalarise(second, preferences)
    return torch.where(lower.unsqueeze(-1), first, second)


def entropy(probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    """Entropy of every state's distribution, (policy, batch), in nats."""
    assert probabilities.shape == log_probabilities.shape
    return -(probabilities * log_probabilities).sum(-1)


def soft_values(
    values: Tensor, probabilities: Tensor, log_probabilities: Tensor, *, temperature: Tensor
) -> Tensor:
    """Expected value of a state plus the entropy bonus (Christodoulou 2019, equation 10).

    Args:
        values: (policy, batch, action, component).
        probabilities: (policy, batch, action).
        log_probabilities: like `probabilities`.
        temperature: (policy,).

    Returns:
        (policy, batch, component).
    """
    assert values.shape[:3] == probabilities.shape
    assert temperature.shape == values.shape[:1]
    expected = (values * probabilities.unsqueeze(-1)).sum(2)
    bonus = temperature.unsqueeze(-1) * entropy(probabilities, log_probabilities)
    return expected + bonus.unsqueeze(-1)


def mean_over_actions(outputs: Tensor, available: Tensor | None) -> Tensor:
    """Mean over available actions.

    Args:
        outputs: (policy, batch, action, component).
        available: (policy, batch, action) or None.

    Returns:
        (policy, batch, component).
    """
    if available is None:
        return outputs.mean(2)
    assert available.shape == outputs.shape[:3]
    there = available.to(outputs.dtype)
    total = (outputs * there.unsqueeze(-1)).sum(2)
    return total / there.sum(-1, keepdim=True)


def critic_targets(
    rewards: Tensor, terminated: Tensor, next_values: Tensor, *, discount: float
) -> Tensor:
    """One-step targets, (policy, batch, component).

    Args:
        rewards: (policy, batch, component), scaled.
        terminated: (policy, batch), whether the episode ended by itself; an episode that was cut
            off goes on as far as values are concerned.
        next_values: (policy, batch, component).
        discount: of the training.
    """
    assert rewards.shape == next_values.shape
    assert terminated.shape == rewards.shape[:2]
    going_on = (~terminated).to(rewards.dtype).unsqueeze(-1)
    return rewards + discount * going_on * next_values


def critic_loss(values: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    """Squared error of the taken actions' values, summed over components; (policy,).

    Args:
        values: (policy, batch, action, component).
        actions: (policy, batch), int64.
        targets: (policy, batch, component).
    """
    assert actions.shape == values.shape[:2]
    assert targets.shape == (*values.shape[:2], values.shape[-1])
    index = actions[:, :, None, None].expand(-1, -1, 1, values.shape[-1])
    taken = values.gather(2, index).squeeze(2)
    return (taken - targets).square().sum(-1).mean(-1)


def reverse_actor_loss(
    probabilities: Tensor, log_probabilities: Tensor, values: Tensor, *, temperature: Tensor
) -> Tensor:
    """The actor's loss of discrete SAC, the divergence of the actor from ``softmax(Q / alpha)``.

    Christodoulou 2019, equation 12: ``sum_a pi(a) (alpha log pi(a) - Q(a))``.

    Args:
        probabilities: (policy, batch, action).
        log_probabilities: like `probabilities`.
        values: like `probabilities`, scalarised, without gradient.
        temperature: (policy,).

    Returns:
        (policy,).
    """
    assert probabilities.shape == log_probabilities.shape == values.shape
    cost = temperature[:, None, None] * log_probabilities - values
    return (probabilities * cost).sum(-1).mean(-1)


def forward_actor_loss(
    log_probabilities: Tensor, values: Tensor, available: Tensor | None, *, temperature: Tensor
) -> Tensor:
    """Cross-entropy of the actor against ``softmax(Q / alpha)``.

    It has the same optimum as `reverse_actor_loss`; its gradient does not vanish where the actor
    is sure of a wrong action.

    Args:
        log_probabilities: (policy, batch, action).
        values: like `log_probabilities`, scalarised, without gradient.
        available: as in `masked_log_softmax`.
        temperature: (policy,), positive.

    Returns:
        (policy,).
    """
    assert log_probabilities.shape == values.shape
    wanted, _ = masked_log_softmax(values / temperature[:, None, None], available)
    return -(wanted * log_probabilities).sum(-1).mean(-1)


def temperature_loss(log_temperature: Tensor, entropies: Tensor, target: Tensor) -> Tensor:
    """Raises the temperature where entropy lies below its target; (policy,).

    Args:
        log_temperature: (policy,).
        entropies: (policy, batch), without gradient.
        target: like `entropies`; it may depend on how many actions are available.
    """
    assert entropies.shape == target.shape
    assert log_temperature.shape == entropies.shape[:1]
    return log_temperature * (entropies - target).mean(-1)
