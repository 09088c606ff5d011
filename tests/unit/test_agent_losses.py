"""Losses as pure functions, against numbers worked out by hand."""

import math

import pytest
import torch

from morl.agents.learners.ppo import losses


def test_clipped_surrogate_is_pessimistic():
    log_ratio = torch.log(torch.tensor([[2.0, 2.0, 0.5, 0.5]]))
    advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    expected = (1.2 - 2.0 + 0.5 - 0.8) / 4  # the lower of clipped and unclipped, four times
    assert losses.clipped_surrogate(log_ratio, advantage, clip=0.2).item() == pytest.approx(
        expected
    )


def test_scalarise_sums_over_objectives_and_not_over_samples():
    advantages = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])
    result = losses.scalarise(advantages, torch.tensor([[1.0, 0.5]]))
    assert result.tolist() == [[6.0, 12.0, 18.0]]


def test_scalarise_refuses_weights_of_another_axis():
    with pytest.raises(AssertionError):
        losses.scalarise(torch.zeros(1, 3, 2), torch.zeros(1, 3))


def test_value_loss_sums_objectives_and_averages_samples():
    values, targets = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    assert losses.value_loss(values, targets).item() == pytest.approx(0.5 * (5 + 9) / 2)


def test_gaussian_density_and_entropy_of_the_standard_normal():
    zero = torch.zeros(1, 1, 1)
    density = losses.gaussian_log_probability(zero, zero, torch.zeros(1, 1))
    assert density.item() == pytest.approx(-0.5 * math.log(2 * math.pi))
    entropy = losses.gaussian_entropy(torch.zeros(1, 1))
    assert entropy.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e))


def test_categorical_probability_and_entropy_of_equal_logits():
    logits = torch.full((1, 2, 4), 3.0)
    chosen = losses.categorical_log_probability(torch.tensor([[0.0, 3.0]]), logits)
    assert chosen.tolist()[0] == pytest.approx([-math.log(4)] * 2)
    assert losses.categorical_entropy(logits).item() == pytest.approx(math.log(4))
