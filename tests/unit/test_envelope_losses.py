"""Targets and losses of envelope Q-learning against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from morl.agents.learners.vector_q import losses

EAST, WEST = [4.0, 0.0], [1.0, 2.0]
BOTH = [[1.0, 0.0], [0.25, 0.75]]


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_each_preference_takes_the_vector_worth_most_to_it_under_any_preference() -> None:
    # Two states, two preferences, two actions. In the first state the second preference is worth
    # 1 and 1.75 to itself by its own vectors, but 3.25 by what the first one would do.
    values = tensor(
        [[EAST, [1.0, 4.0]], [EAST, WEST]],
        [[[0.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [3.0, 0.0]]],
    )
    found = losses.envelope_values(values, values, torch.tensor(BOTH).double(), None)
    expected = tensor([EAST, [1.0, 4.0]], [[3.0, 0.0], [2.0, 1.0]])
    torch.testing.assert_close(found, expected)


def test_unavailable_actions_are_no_part_of_the_envelope() -> None:
    values = tensor([[EAST, WEST], [EAST, WEST]])
    only_west = torch.tensor([[False, True]])
    found = losses.envelope_values(values, values, torch.tensor(BOTH).double(), only_west)
    torch.testing.assert_close(found, tensor([WEST, WEST]))


def test_with_two_networks_one_chooses_and_the_other_values() -> None:
    choosing = tensor([[EAST, WEST], [EAST, WEST]])
    valuing = tensor([[[7.0, 7.0], [0.0, 1.0]], [[9.0, 9.0], [5.0, 5.0]]])
    found = losses.envelope_values(choosing, valuing, torch.tensor(BOTH).double(), None)
    # The second preference chooses WEST, worth 1.75 to it; of equal ones the first.
    torch.testing.assert_close(found, tensor([[7.0, 7.0], [0.0, 1.0]]))


def test_targets_add_the_discounted_envelope_except_at_the_end() -> None:
    rewards, next_values = tensor([1.0, -1.0], [2.0, 0.0]), tensor([EAST, WEST], [EAST, WEST])
    terminated = torch.tensor([False, True])
    found = losses.envelope_targets(rewards, terminated, next_values, discount=0.5)
    expected = tensor([[3.0, -1.0], [1.5, 0.0]], [[2.0, 0.0], [2.0, 0.0]])
    torch.testing.assert_close(found, expected)


def test_vectors_are_those_of_the_actions_taken() -> None:
    values = tensor([[EAST, WEST], [WEST, EAST]], [[EAST, WEST], [WEST, EAST]])
    found = losses.taken_values(values, torch.tensor([1, 0]))
    torch.testing.assert_close(found, tensor([WEST, EAST], [EAST, WEST]))


@pytest.mark.parametrize(("homotopy", "expected"), [(0.0, 12.5), (1.0, 2.0), (0.25, 9.875)])
def test_the_loss_leads_from_vectors_to_what_they_are_worth(
    homotopy: float, expected: float
) -> None:
    # Errors (3, 0) and (0, -4): squared 9 and 16, worth 3 to (1, 0) and 1 to (0.75, 0.25).
    values, targets = tensor([[3.0, 1.0], [0.0, 0.0]]), tensor([[0.0, 1.0], [0.0, 4.0]])
    preferences = torch.tensor([[1.0, 0.0], [0.75, 0.25]]).double()
    found = losses.homotopy_loss(values, targets, preferences, homotopy=homotopy)
    assert found.item() == pytest.approx(expected)


@given(st.lists(st.floats(-5.0, 5.0), min_size=24, max_size=24), st.integers(0, 3))
def test_the_envelope_is_never_worth_less_than_ones_own_best(
    numbers: list[float], hidden: int
) -> None:
    values = torch.tensor(numbers, dtype=torch.float64).view(2, 3, 2, 2)
    preferences = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.9, 0.1]]).double()
    available = torch.ones(2, 2, dtype=torch.bool)
    available.view(-1)[hidden] = False
    found = losses.envelope_values(values, values, preferences, available)
    worth = (found * preferences).sum(-1)
    own = (values * preferences[None, :, None]).sum(-1)
    own = own.masked_fill(~available[:, None], -torch.inf).amax(2)
    assert (worth >= own - 1e-12).all()
