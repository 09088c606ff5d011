"""Losses of generative flow networks as pure functions of tensors, each to be minimised.

A trajectory from the root to a finished object has an *implied log-reward*

    u = log Z + sum_t log P_F(a_t | s_t) - sum_t log P_B(s_t | s_{t+1}),

the log-reward of the object if the flow were exact. Trajectory balance compares it with the real
one; order preservation only asks how it ranks the objects of a batch. Detailed balance and
sub-trajectory balance compare flows inside the trajectory as well. Sources: Malkin et al. 2022
(arXiv:2201.13259, trajectory balance), Bengio et al. 2023 (arXiv:2111.09266, detailed balance),
Madan et al. 2023 (arXiv:2209.12782, sub-trajectory balance), Chen and Mauch 2024
(arXiv:2310.00386, order preservation).
"""

from __future__ import annotations

import torch
from torch import Tensor


def implied_log_rewards(log_z: Tensor, log_ratios: Tensor, trajectories: Tensor) -> Tensor:
    """Sum what the transitions of each trajectory say.

    Args:
        log_z: (trajectory,), logarithm of the conditional partition function.
        log_ratios: (transition,), log P_F of the action minus log P_B of its undoing.
        trajectories: (transition,) int64, the trajectory of each transition.

    Returns:
        (trajectory,).
    """
    assert log_z.ndim == 1
    assert log_ratios.shape == trajectories.shape
    return log_z.index_add(0, trajectories, log_ratios)


def trajectory_balance(implied: Tensor, log_rewards: Tensor) -> Tensor:
    """Mean squared difference of implied and real log-rewards (Malkin et al., equation 14).

    Args:
        implied: (trajectory,).
        log_rewards: (trajectory,).
    """
    assert implied.shape == log_rewards.shape
    return (implied - log_rewards).square().mean()


def order_preserving(implied: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the normalised implied rewards with the uniform one on the labelled.

    Adding a constant to all implied log-rewards changes nothing, so log Z is not identified
    (Chen and Mauch, the loss of the multi-objective case).

    Args:
        implied: (trajectory,).
        labels: (trajectory,) boolean, at least one true: the batch's Pareto set.
    """
    assert implied.shape == labels.shape
    targets = labels.to(implied.dtype)
    return -(torch.log_softmax(implied, 0) * targets).sum() / targets.sum()


def potentials(
    log_flows: Tensor, log_ratios: Tensor, log_rewards: Tensor, lengths: Tensor
) -> Tensor:
    """Log-flows minus what was gained on the way to them: constant where the flow is exact.

    Every balance condition between two states of a trajectory says that their potentials are
    equal.

    Args:
        log_flows: (trajectory, time), of the states in which actions were taken; padded.
        log_ratios: (trajectory, time), as in `implied_log_rewards`; padded with zeros.
        log_rewards: (trajectory,), the flow of the finished object.
        lengths: (trajectory,) int64, number of actions.

    Returns:
        (trajectory, time + 1); entries behind the end of a trajectory mean nothing.
    """
    assert log_flows.shape == log_ratios.shape
    before = torch.nn.functional.pad(log_ratios.cumsum(1), (1, 0))
    flows = torch.nn.functional.pad(log_flows, (0, 1))
    place = lengths[:, None]
    return flows.scatter(1, place, log_rewards[:, None]) - before


def detailed_balance(potential: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared difference of neighbouring potentials, over all transitions.

    Args:
        potential: (trajectory, time + 1), of `potentials`.
        lengths: (trajectory,) int64.
    """
    inside = torch.arange(potential.shape[1] - 1) < lengths[:, None]
    squared = (potential[:, 1:] - potential[:, :-1]).square()
    return torch.where(inside, squared, 0.0).sum() / lengths.sum()


def sub_trajectory_balance(potential: Tensor, lengths: Tensor, *, decay: float) -> Tensor:
    """Squared differences of all pairs of potentials, weighted by decay to the distance.

    The weights of a trajectory's pairs sum to one and trajectories count alike (Madan et al.,
    equation 9). A decay near 0 leaves neighbours alone, a large one the two ends.

    Args:
        potential: (trajectory, time + 1), of `potentials`.
        lengths: (trajectory,) int64.
        decay: lambda, positive.
    """
    times = torch.arange(potential.shape[1])
    distance = times[None, :] - times[:, None]
    inside = (distance > 0) & (times[None, None, :] <= lengths[:, None, None])
    # Logarithms keep a large decay to a long distance finite.
    logits = torch.where(inside, distance * torch.tensor(decay).log(), -torch.inf)
    weights = torch.softmax(logits.flatten(1), 1).view_as(logits)
    squared = (potential[:, None, :] - potential[:, :, None]).square()
    return (weights * torch.where(inside, squared, 0.0)).sum((1, 2)).mean()


def reinforce(log_probabilities: Tensor, rewards: Tensor) -> Tensor:
    """Policy gradient with the batch's mean as baseline (Williams 1992).

    Args:
        log_probabilities: (trajectory,), sums of log P_F.
        rewards: (trajectory,).
    """
    assert log_probabilities.shape == rewards.shape
    return -(log_probabilities * (rewards - rewards.mean())).mean()
