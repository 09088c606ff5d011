"""Losses of discrete SAC against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from morl.agents.learners.sac import losses


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_unavailable_actions_have_probability_zero_and_the_others_share_the_rest() -> None:
    logits = tensor([[0.0, math.log(3.0), 50.0]])
    available = torch.tensor([[[True, True, False]]])
    chances, logs = losses.masked_log_softmax(logits, available)
    torch.testing.assert_close(chances, tensor([[0.25, 0.75, 0.0]]))
    torch.testing.assert_close(logs, tensor([[math.log(0.25), math.log(0.75), 0.0]]))


def test_the_gradient_of_masked_logits_is_finite_and_zero_where_unavailable() -> None:
    logits = tensor([[1.0, 2.0, 3.0]]).requires_grad_()
    chances, logs = losses.masked_log_softmax(logits, torch.tensor([[[True, True, False]]]))
    (chances * logs).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0, 2] == 0.0


def test_a_vector_critic_is_weighed_and_a_scalar_one_is_taken_as_it_is() -> None:
    preferences = tensor([[0.25, 0.75]])
    vectors = tensor([[[4.0, 8.0], [0.0, 4.0]]])
    torch.testing.assert_close(losses.scalarise(vectors, preferences), tensor([[7.0, 3.0]]))
    scalars = tensor([[[5.0], [6.0]]])
    torch.testing.assert_close(losses.scalarise(scalars, preferences), tensor([[5.0, 6.0]]))


def test_the_pessimistic_vector_is_the_one_worth_less_to_the_preference() -> None:
    first, second = tensor([[[4.0, 0.0], [1.0, 1.0]]]), tensor([[[0.0, 3.0], [2.0, 2.0]]])
    # Worth 2 and 1 against 1.5 and 2 at equal weights.
    lower = losses.pessimistic(first, second, tensor([[0.5, 0.5]]))
    torch.testing.assert_close(lower, tensor([[[0.0, 3.0], [1.0, 1.0]]]))


def test_soft_values_are_expectation_plus_entropy_in_every_component() -> None:
    chances = tensor([[0.5, 0.5]])
    values = tensor([[[1.0, 10.0], [3.0, 20.0]]])
    found = losses.soft_values(values, chances, chances.log(), temperature=torch.tensor([0.1]))
    bonus = 0.1 * math.log(2.0)
    torch.testing.assert_close(found, tensor([[2.0 + bonus, 15.0 + bonus]]))


def test_weighing_the_components_gives_the_soft_value_of_the_weighted_sum() -> None:
    chances, wanted = tensor([[0.2, 0.8]]), tensor([[0.3, 0.7]])
    values = tensor([[[1.0, 10.0], [3.0, 20.0]]])
    temperature = torch.tensor([0.5])
    vector = losses.soft_values(values, chances, chances.log(), temperature=temperature)
    scalar = losses.soft_values(
        losses.scalarise(values, wanted).unsqueeze(-1), chances, chances.log(),
        temperature=temperature,
    )  # fmt: skip
    torch.testing.assert_close((vector * wanted).sum(-1), scalar.squeeze(-1))


def test_only_terminated_episodes_are_worth_nothing_afterwards() -> None:
    targets = losses.critic_targets(
        tensor([[1.0], [1.0]]), torch.tensor([[False, True]]), tensor([[10.0], [10.0]]),
        discount=0.5,
    )  # fmt: skip
    torch.testing.assert_close(targets, tensor([[6.0], [1.0]]))


def test_the_critic_is_judged_by_the_taken_action_and_all_components() -> None:
    values = tensor([[[1.0, 2.0], [0.0, 0.0]], [[9.0, 9.0], [3.0, 4.0]]])
    targets = tensor([[0.0, 0.0], [3.0, 2.0]])
    # Squared errors 1 + 4 and 0 + 4, mean 4.5.
    loss = losses.critic_loss(values, torch.tensor([[0, 1]]), targets)
    torch.testing.assert_close(loss, torch.tensor([4.5], dtype=torch.float64))


def test_the_reverse_actor_loss_by_hand() -> None:
    chances = tensor([[0.25, 0.75]])
    loss = losses.reverse_actor_loss(
        chances, chances.log(), tensor([[1.0, 2.0]]), temperature=torch.tensor([0.1])
    )
    expected = 0.25 * (0.1 * math.log(0.25) - 1.0) + 0.75 * (0.1 * math.log(0.75) - 2.0)
    torch.testing.assert_close(loss, torch.tensor([expected], dtype=torch.float64))


def test_the_forward_actor_loss_by_hand() -> None:
    # Values 0 and 0.1 ln 3 at temperature 0.1 want probabilities 1/4 and 3/4.
    values = tensor([[0.0, 0.1 * math.log(3.0), 99.0]])
    available = torch.tensor([[[True, True, False]]])
    logs = tensor([[math.log(0.5), math.log(0.5), 0.0]])
    loss = losses.forward_actor_loss(
        logs, values, available, temperature=torch.tensor([0.1], dtype=torch.float64)
    )
    torch.testing.assert_close(loss, torch.tensor([math.log(2.0)], dtype=torch.float64))


@pytest.mark.parametrize("name", ["reverse", "forward"])
def test_both_actor_losses_are_least_at_the_boltzmann_distribution(name: str) -> None:
    values, temperature = tensor([[0.3, -0.2, 0.1]]), torch.tensor([0.2], dtype=torch.float64)
    logits = (values / 0.2).clone().requires_grad_()
    chances, logs = losses.masked_log_softmax(logits, None)
    if name == "reverse":
        loss = losses.reverse_actor_loss(chances, logs, values, temperature=temperature)
    else:
        loss = losses.forward_actor_loss(logs, values, None, temperature=temperature)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0.0)


def test_the_temperature_rises_where_entropy_is_too_low() -> None:
    log_temperature = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    entropies, target = tensor([0.2, 0.4], [0.9, 0.7]), tensor([0.5, 0.5], [0.5, 0.5])
    losses.temperature_loss(log_temperature, entropies, target).sum().backward()  # type: ignore[no-untyped-call]
    assert log_temperature.grad is not None
    # Minimising moves against the gradient: up for the first policy, down for the second.
    torch.testing.assert_close(log_temperature.grad, torch.tensor([-0.2, 0.3], dtype=torch.float64))


def test_the_mean_over_actions_leaves_out_unavailable_ones() -> None:
    outputs = tensor([[[2.0], [4.0], [90.0]]])
    available = torch.tensor([[[True, True, False]]])
    torch.testing.assert_close(losses.mean_over_actions(outputs, available), tensor([[3.0]]))
    torch.testing.assert_close(losses.mean_over_actions(outputs, None), tensor([[32.0]]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.scalarise(torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 3)),
        lambda: losses.critic_loss(
            torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, 3)
        ),
        lambda: losses.critic_targets(
            torch.zeros(1, 2, 1), torch.zeros(2, 1, dtype=torch.bool), torch.zeros(1, 2, 1),
            discount=1.0,
        ),
        lambda: losses.masked_log_softmax(torch.zeros(1, 2, 3), torch.ones(1, 2, 2).bool()),
    ],
)  # fmt: skip
def test_wrong_shapes_are_refused(call: object) -> None:
    with pytest.raises(AssertionError):
        call()  # type: ignore[operator]
