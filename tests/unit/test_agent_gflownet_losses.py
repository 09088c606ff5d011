"""Losses of generative flow networks, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from morl.agents.learners.gflownet import losses

LENGTHS = torch.tensor([2, 1])
LOG_FLOWS = torch.tensor([[3.0, 1.0], [2.0, 99.0]])  # 99: padding
LOG_RATIOS = torch.tensor([[-1.0, -0.5], [-2.0, 0.0]])
LOG_REWARDS = torch.tensor([0.5, 1.0])


def test_the_implied_log_reward_sums_a_trajectory_in_whatever_order_its_steps_come():
    implied = losses.implied_log_rewards(
        torch.tensor([10.0, 20.0]), torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([0, 1, 0])
    )
    assert implied.tolist() == [6.0, 18.0]


def test_trajectory_balance_is_a_mean_square():
    loss = losses.trajectory_balance(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
    assert loss.item() == pytest.approx((1.0 + 9.0) / 2)


def test_order_preservation_is_least_where_the_labelled_share_all_mass():
    labels = torch.tensor([True, True, False])
    best = losses.order_preserving(torch.tensor([0.0, 0.0, -50.0]), labels)
    assert best.item() == pytest.approx(math.log(2.0))
    even = losses.order_preserving(torch.zeros(3), labels)
    assert even.item() == pytest.approx(math.log(3.0))


def test_order_preservation_ignores_the_partition_function():
    implied, labels = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([True, False, False])
    shifted = losses.order_preserving(implied + 7.0, labels)
    assert shifted.item() == pytest.approx(losses.order_preserving(implied, labels).item())


def test_potentials_subtract_what_was_gained_on_the_way():
    found = losses.potentials(LOG_FLOWS, LOG_RATIOS, LOG_REWARDS, LENGTHS)
    assert found[0].tolist() == [3.0, 1.0 + 1.0, 0.5 + 1.5]
    assert found[1, :2].tolist() == [2.0, 1.0 + 2.0]


def test_detailed_balance_averages_over_transitions():
    found = losses.potentials(LOG_FLOWS, LOG_RATIOS, LOG_REWARDS, LENGTHS)
    # Differences -1 and 0 of the first trajectory, 1 of the second.
    assert losses.detailed_balance(found, LENGTHS).item() == pytest.approx(2.0 / 3.0)


def test_sub_trajectory_balance_weighs_pairs_by_their_distance():
    found = losses.potentials(LOG_FLOWS, LOG_RATIOS, LOG_REWARDS, LENGTHS)
    # First: pairs (0,1), (1,2) of weight 2 and (0,2) of weight 4; squares 1, 0, 1.
    expected = ((2.0 * 1.0 + 4.0 * 1.0) / 8.0 + 1.0) / 2.0
    loss = losses.sub_trajectory_balance(found, LENGTHS, decay=2.0)
    assert loss.item() == pytest.approx(expected)


def test_sub_trajectory_balance_of_a_large_decay_is_trajectory_balance():
    found = losses.potentials(LOG_FLOWS, LOG_RATIOS, LOG_REWARDS, LENGTHS)
    implied = LOG_FLOWS[:, 0] + LOG_RATIOS.sum(1)
    balance = losses.trajectory_balance(implied, LOG_REWARDS)
    loss = losses.sub_trajectory_balance(found, LENGTHS, decay=1e6)
    assert loss.item() == pytest.approx(balance.item(), rel=1e-4)


def test_padding_gets_no_gradient():
    flows = LOG_FLOWS.clone().requires_grad_()
    found = losses.potentials(flows, LOG_RATIOS, LOG_REWARDS, LENGTHS)
    loss = losses.sub_trajectory_balance(found, LENGTHS, decay=0.9)
    (gradient,) = torch.autograd.grad(loss + losses.detailed_balance(found, LENGTHS), flows)
    assert gradient[1, 1].item() == 0.0
    assert torch.isfinite(gradient).all()


def test_an_exact_flow_has_no_loss_of_any_kind():
    # Root with two objects of rewards 1 and 3; the second is reached by way of a middle state.
    flows = torch.tensor([[math.log(4.0), 0.0], [math.log(4.0), math.log(3.0)]])
    ratios = torch.tensor([[math.log(0.25), 0.0], [math.log(0.75), 0.0]])
    rewards, lengths = torch.tensor([0.0, math.log(3.0)]), torch.tensor([1, 2])
    found = losses.potentials(flows, ratios, rewards, lengths)
    assert losses.detailed_balance(found, lengths).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.sub_trajectory_balance(found, lengths, decay=0.9).item() == pytest.approx(
        0.0, abs=1e-12
    )
    implied = flows[:, 0] + ratios.sum(1)
    assert losses.trajectory_balance(implied, rewards).item() == pytest.approx(0.0, abs=1e-12)


def test_reinforce_pushes_towards_what_is_better_than_the_mean():
    chosen = torch.zeros(2, requires_grad=True)
    loss = losses.reinforce(chosen, torch.tensor([1.0, 3.0]))
    loss.backward()
    assert chosen.grad is not None
    assert chosen.grad.tolist() == [0.5, -0.5]
