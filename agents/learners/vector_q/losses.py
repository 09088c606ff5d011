"""Targets and losses of envelope Q-learning as pure functions of tensors.

Yang, Sun and Narasimhan, "A Generalized Algorithm for Multi-Objective Reinforcement Learning and
Policy Adaptation" (NeurIPS 2019, arXiv:1908.08342). A batch of transitions is crossed with a set of
preferences: axes are ``(batch, preference, action, objective)``.
"""

from __future__ import annotations

import math

from torch import Tensor


def envelope_values(
    choosing: Tensor, valuing: Tensor, preferences: Tensor, available: Tensor | None
) -> Tensor:
    """What each preference makes of a state, were it to act as any of the preferences would.

    The filter of the optimality operator (Yang et al., equation 4): of the vectors of all actions
    under all preferences, the one that is worth most to the preference at hand.

    Args:
        choosing: (batch, preference, action, objective), by which the vector is chosen.
        valuing: like `choosing`, whose vector is taken; the same tensor unless the choice is that
            of another network (double Q-learning).
        preferences: (preference, objective), on the simplex.
        available: (batch, action), at least one true a row; None where all actions are.

    Returns:
        (batch, preference, objective).
    """
    assert choosing.shape == valuing.shape
    assert choosing.shape[1::2] == preferences.shape
    batch, _, actions, objectives = choosing.shape
    flat = choosing.flatten(1, 2)
    worth = flat @ preferences.T
    if available is not None:
        assert available.shape == (batch, actions)
        there = available.repeat(1, choosing.shape[1]).unsqueeze(-1)
        worth = worth.masked_fill(~there, -math.inf)
    best = worth.argmax(1).unsqueeze(-1).expand(-1, -1, objectives)
    return valuing.flatten(1, 2).gather(1, best)


def taken_values(values: Tensor, actions: Tensor) -> Tensor:
    """Vectors of the actions that were taken, (batch, preference, objective).

    Args:
        values: (batch, preference, action, objective).
        actions: (batch,), int64.
    """
    assert actions.shape == values.shape[:1]
    index = actions[:, None, None, None].expand(-1, values.shape[1], 1, values.shape[-1])
    return values.gather(2, index).squeeze(2)


def envelope_targets(
    rewards: Tensor, terminated: Tensor, next_values: Tensor, *, discount: float
) -> Tensor:
    """One-step targets, (batch, preference, objective).

    Args:
        rewards: (batch, objective), scaled.
        terminated: (batch,), whether the episode ended by itself; one that a time limit cut off
            goes on as far as values are concerned.
        next_values: (batch, preference, objective).
        discount: of the training.
    """
    assert rewards.shape == next_values.shape[::2]
    assert terminated.shape == rewards.shape[:1]
    going_on = (~terminated).to(rewards.dtype)[:, None, None]
    return rewards.unsqueeze(1) + discount * going_on * next_values


def homotopy_loss(
    values: Tensor, targets: Tensor, preferences: Tensor, *, homotopy: float
) -> Tensor:
    """``(1 - homotopy) |y - q|^2 + homotopy |w (y - q)|``, mean over pairs.

    The first term (Yang et al., equation 6) has the whole vector for its target, the second
    (equation 7) only what it is worth to the preference. The way leads from one to the other.

    Args:
        values: (batch, preference, objective).
        targets: like `values`, without gradient.
        preferences: (preference, objective).
        homotopy: from 0 to 1.
    """
    assert values.shape == targets.shape
    assert values.shape[1:] == preferences.shape
    error = values - targets
    squared = error.square().sum(-1).mean()
    worth = (error * preferences).sum(-1).abs().mean()
    return (1.0 - homotopy) * squared + homotopy * worth
