"""Networks of discrete SAC: symmetry, masks, gradients and the paper's number of parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from morl.agents.learners.conditioned.networks import (
    CompactNetwork,
    FlatNetwork,
    Inputs,
    Network,
    PaperNetwork,
    ParameterStore,
    Shape,
    UnfitNetworkError,
    initial_parameters,
    num_parameters,
)
from morl.agents.learners.core.errors import NoLegalActionError
from morl.agents.learners.sac.discrete import SACConfig, View, hinges, make_network

SHAPE = Shape(num_actions=5, num_features=4, num_objectives=2, by_action=True)


def rng(index: int = 0) -> np.random.Generator:
    return np.random.default_rng(index)


def view(shape: Shape = SHAPE, *, packs: bool = True) -> View:
    size = shape.num_features
    return View(
        shape, "rows-v0", np.zeros(size, np.float32), np.ones(size, np.float32), packs=packs
    )


def observations(batch: int, shape: Shape = SHAPE) -> np.ndarray:
    """Rows in random number and place, the first feature 1 where they are available, else -1."""
    rows = rng(1).normal(size=(1, batch, shape.num_actions, shape.num_features))
    there = rng(2).random(rows.shape[:3]) < 0.6
    there[..., 0] = True
    rows[..., 0] = 1.0
    rows[~there] = -1.0
    return rows.astype(np.float32)


def preferences(batch: int, policies: int = 1) -> np.ndarray:
    return rng(3).dirichlet(np.ones(2), size=(policies, batch)).astype(np.float32)


def drawn(network: Network, networks: int = 1) -> list[Tensor]:
    blocks = initial_parameters(network, [rng(10 + index) for index in range(networks)])
    noise = [0.1 * rng(5).normal(size=block.shape).astype(np.float32) for block in blocks]
    return [torch.from_numpy(block + extra) for block, extra in zip(blocks, noise, strict=True)]


def in_plain_torch(parameters: list[Tensor], inputs: Inputs, network: int = 0) -> Tensor:
    """The compact network of one policy, written out; (batch, action, component)."""
    w1, b1, p1, w2, b2, c2, p2, w3, b3 = (block[network] for block in parameters)
    assert inputs.features is not None
    assert inputs.available is not None
    rows, wanted, there = inputs.features[0], inputs.preferences[0], inputs.available[0]
    encoded = torch.relu(rows @ w1 + b1 + (wanted @ p1)[:, None])
    weights = there.unsqueeze(-1).to(rows.dtype)
    mean = (encoded * weights).sum(1) / weights.sum(1)
    largest = (encoded * weights).amax(1)
    context = torch.cat([mean, largest], -1) @ c2 + wanted @ p2 + b2
    hidden = torch.relu(encoded @ w2 + context[:, None])
    return (hidden @ w3 + b3) * weights


def test_the_papers_network_has_the_papers_number_of_parameters() -> None:
    shape = Shape(num_actions=11, num_features=67, num_objectives=2, by_action=True)
    assert num_parameters(PaperNetwork(shape)) == 29_697_547


def test_the_papers_network_runs_and_masks_nothing_by_itself() -> None:
    network = PaperNetwork(SHAPE, components=2, row_units=8, units=16)
    seen = view(packs=False).inputs(observations(3), preferences(3))
    outputs = network(drawn(network, 2), seen)
    assert outputs.shape == (2, 3, 5, 2)
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("components", [1, 3])
def test_one_operation_computes_what_plain_torch_does_with_its_gradients(components: int) -> None:
    network = CompactNetwork(SHAPE, (6, 7), components)
    mine = [block.requires_grad_() for block in drawn(network, 2)]
    theirs = [block.detach().clone().requires_grad_() for block in mine]
    table, wanted = observations(9), preferences(9)
    packed, full = (view(packs=packs).inputs(table, wanted) for packs in (True, False))
    outputs = network(mine, packed)
    plain = torch.stack([in_plain_torch(theirs, full, which) for which in range(2)])
    torch.testing.assert_close(outputs, plain, atol=1e-5, rtol=1e-4)
    # Most outputs get no gradient, as in a critic's loss, but those that do are of all kinds.
    pull = torch.from_numpy(rng(6).normal(size=outputs.shape).astype(np.float32))
    pull = pull * (torch.from_numpy(rng(7).random(outputs.shape[:3])) < 0.4).unsqueeze(-1)
    (outputs * pull).sum().backward()  # type: ignore[no-untyped-call]
    (plain * pull).sum().backward()  # type: ignore[no-untyped-call]
    for one, other in zip(mine, theirs, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_permuting_rows_permutes_the_outputs() -> None:
    network = CompactNetwork(SHAPE, (8, 8), 2)
    parameters, table, wanted = drawn(network), observations(6), preferences(6)
    order = rng(4).permutation(5)
    straight = network(parameters, view().inputs(table, wanted))
    shuffled = network(parameters, view().inputs(table[:, :, order], wanted))
    torch.testing.assert_close(shuffled, straight[:, :, order], atol=1e-6, rtol=1e-5)


def test_the_number_of_rows_is_free() -> None:
    network = CompactNetwork(SHAPE, (8, 8), 1)
    parameters, table, wanted = drawn(network), observations(6), preferences(6)
    longer = np.concatenate([table, np.full((1, 6, 3, 4), -1.0, np.float32)], axis=2)
    more = view(replace(SHAPE, num_actions=8)).inputs(longer, wanted)
    outputs = network(parameters, more)
    torch.testing.assert_close(outputs[:, :, :5], network(parameters, view().inputs(table, wanted)))


def test_unavailable_rows_do_not_matter() -> None:
    network = CompactNetwork(SHAPE, (8, 8), 1)
    parameters, table, wanted = drawn(network), observations(6), preferences(6)
    other = table.copy()
    other[table[..., 0] < 0, 1:] = 77.0
    torch.testing.assert_close(
        network(parameters, view().inputs(other, wanted)),
        network(parameters, view().inputs(table, wanted)),
        atol=0.0,
        rtol=0.0,
    )


def test_an_observation_without_an_available_action_is_refused() -> None:
    table = observations(3)
    table[0, 1, :, 0] = -1.0
    with pytest.raises(NoLegalActionError, match="rows-v0: observation 1 of policy 0"):
        view().inputs(table, preferences(3))


def test_twins_and_policies_read_the_rows_of_their_policy() -> None:
    shape = Shape(num_actions=3, num_features=2, num_objectives=2, by_action=False)
    network = FlatNetwork(shape, (4,), 1)
    parameters = drawn(network, 4)
    features = torch.from_numpy(rng().normal(size=(2, 5, 2)).astype(np.float32))
    wanted = torch.from_numpy(preferences(5, 2))
    everyone = network(parameters, Inputs(features, None, wanted, None))
    alone = network(
        [block[3:] for block in parameters], Inputs(features[1:], None, wanted[1:], None)
    )
    torch.testing.assert_close(everyone[3:], alone)


def test_hinges_sum_sizes_up_to_a_cap() -> None:
    # Two things of size 0.5, one of 4.5, in six bins of one: caps 1, 2, 4 and 6.
    histogram = np.array([2, 0, 0, 0, 1, 0], np.float32)
    np.testing.assert_allclose(histogram @ hinges(6), [2.0, 3.0, 5.0, 5.5])


def test_networks_see_sums_in_place_of_a_histogram() -> None:
    size = hinges(6).shape[1]
    shape = Shape(num_actions=1, num_features=8, num_objectives=2, by_action=True)
    empty = np.zeros(0, np.float32)
    seen = View(shape, "rows-v0", empty, empty, histogram=(1, 7))
    rows = np.array([[7, 2, 0, 0, 0, 1, 0, 9]], np.float32)
    np.testing.assert_allclose(seen.seen(rows), [[7.0, 2.0, 3.0, 5.0, 5.5, 9.0]])
    assert seen.place(0) == 0
    assert seen.place(7) == 1 + size


def test_known_rewards_are_scaled_and_weighed() -> None:
    known = replace(view(), reward_columns=(1, 3), reward_factors=(-2.0, 0.5))
    table = np.array([[[[1.0, 3.0, 0.0, 4.0]] * 5]], np.float32)
    seen = known.inputs(table, np.array([[[0.25, 0.75]]], np.float32))
    assert seen.known is not None
    assert seen.greedy is not None
    np.testing.assert_allclose(seen.known[0, 0, 0], [-6.0, 2.0])
    np.testing.assert_allclose(seen.greedy[0, 0, 0], 0.25 * -6.0 + 0.75 * 2.0)


def test_the_papers_network_needs_rows_and_the_compact_one_two_layers_for_them() -> None:
    flat = Shape(num_actions=3, num_features=2, num_objectives=2, by_action=False)
    with pytest.raises(UnfitNetworkError, match=r"tree-v0: .*agent.network=compact"):
        make_network(SACConfig(network="paper"), flat, components=1, env_id="tree-v0")
    with pytest.raises(UnfitNetworkError, match="takes two numbers"):
        make_network(SACConfig(hidden=(8,)), SHAPE, components=1, env_id="rows-v0")


def test_adam_takes_steps_of_the_learning_rate_first_and_resumes_exactly() -> None:
    store = ParameterStore([np.array([[1.0, -2.0]], np.float32)])
    store.minimise((store.blocks[0] * torch.tensor([3.0, -0.1])).sum(), learning_rate=0.5)
    # Adam's first step is the learning rate against the sign of the gradient.
    np.testing.assert_allclose(store.flat.numpy(), [0.5, -1.5], rtol=1e-5)
    twin = ParameterStore([np.zeros((1, 2), np.float32)])
    twin.load_state_dict(store.state_dict())
    for one in (store, twin):
        one.minimise(one.blocks[0].square().sum(), learning_rate=0.1)
    np.testing.assert_array_equal(store.flat.numpy(), twin.flat.numpy())
