"""The shared core of continuous actor-critics: losses by hand, gradients against autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from morl.agents.learners.actor_critic.learner import ActorCritic, Batch, LearnerSettings
from morl.agents.learners.actor_critic.losses import (
    believed,
    sample_actions,
    soft_targets,
    twin_shares,
)
from morl.agents.learners.actor_critic.perceptrons import Perceptrons, orthogonal
from morl.agents.learners.actor_critic.store import StoreError, TransitionStore

TWINS = ("whole", "elementwise", "mean")


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_the_believed_vector_by_hand() -> None:
    values = torch.stack([tensor([4.0, 0.0], [1.0, 1.0]), tensor([1.0, 2.0], [3.0, 0.0])])
    wanted = tensor([0.5, 0.5], [0.0, 1.0])
    # Worth 2 and 1.5, then 1 and 0: the second critic's vector in both rows.
    assert believed(values, wanted, "whole").tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert believed(values, wanted, "elementwise").tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert believed(values, wanted, "mean").tolist() == [[2.5, 1.0], [2.0, 0.5]]


@pytest.mark.parametrize("twins", TWINS)
def test_shares_of_critics_sum_to_one(twins: str) -> None:
    values = torch.zeros(3, 4, 2)  # equal critics: one of them, not all
    shares = twin_shares(values, torch.full((4, 2), 0.5), twins)  # type: ignore[arg-type]
    assert shares.sum(0).flatten().tolist() == pytest.approx([1.0] * shares[0].numel())


def test_targets_by_hand() -> None:
    target = soft_targets(
        tensor([1.0, 2.0], [1.0, 2.0]), tensor([0.0], [1.0]), tensor([10.0, 20.0], [10.0, 20.0]),
        tensor([-2.0], [-2.0]), discount=0.5, temperature=0.25,
    )  # fmt: skip
    # 1 + 0.5 (10 + 0.5) and 2 + 0.5 (20 + 0.5); nothing follows a terminated step.
    assert target.tolist() == [[6.25, 12.25], [1.0, 2.0]]


def test_a_sampled_action_by_hand() -> None:
    # The raw log-scale atanh(3/7) gives the log-scale 3.5 * 3/7 - 1.5 = 0.
    outputs = tensor([0.5, math.atanh(3.0 / 7.0)])
    sampled = sample_actions(outputs, tensor([0.25]))
    assert float(sampled.actions) == pytest.approx(math.tanh(0.75))
    normal = -0.5 * 0.25**2 - 0.5 * math.log(2.0 * math.pi)
    wanted = normal - math.log(1.0 - math.tanh(0.75) ** 2)
    assert float(sampled.log_probabilities) == pytest.approx(wanted)


def plain(stack: Perceptrons, blocks: list[Tensor], inputs: Tensor) -> Tensor:
    """The stack's outputs, written for autograd."""
    layers = len(blocks) // 2
    hidden = inputs.expand(len(blocks[0]), -1, -1)
    for index in range(layers):
        hidden = hidden @ blocks[index] + blocks[layers + index]
        if index < layers - 1:
            hidden = torch.relu(hidden)
    assert hidden.shape[-1] == stack.sizes[-1]
    return hidden


def leaves(stack: Perceptrons) -> list[Tensor]:
    return [block.clone().requires_grad_() for block in stack.weights + stack.biases]


def flat_gradient(loss: Tensor, blocks: list[Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, blocks)])


def batch_of(rng: np.random.Generator, rows: int, observation: int, action: int) -> Batch:
    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape))

    preferences = torch.from_numpy(rng.dirichlet(np.ones(3), rows))
    over = torch.from_numpy((rng.random((rows, 1)) < 0.3).astype(float))
    return Batch(
        normal(rows, observation), torch.tanh(normal(rows, action)), normal(rows, 3), over,
        normal(rows, observation), preferences,
    )  # fmt: skip


@pytest.fixture(params=TWINS)
def learner(request: pytest.FixtureRequest) -> ActorCritic:
    settings = LearnerSettings(hidden=(16, 12), twins=request.param)
    made = ActorCritic(5, 2, 3, settings, rng=np.random.default_rng(0), dtype=torch.float64)
    rng = np.random.default_rng(1)  # zero biases and an actor near zero would hide errors
    for flat in (made.actor.flat, made.critics.flat, made.targets.flat):
        flat += torch.from_numpy(0.3 * rng.standard_normal(len(flat)))
    return made


def worth(values: Tensor, preferences: Tensor, twins: str) -> Tensor:
    """w . Q of the believed vector, by minima instead of shares."""
    if twins == "mean":
        return (values.mean(0) * preferences).sum(-1)
    if twins == "elementwise":
        return (values.min(0).values * preferences).sum(-1)
    return (values * preferences).sum(-1).min(0).values


def test_the_critics_gradient_is_autograds(learner: ActorCritic) -> None:
    rng = np.random.default_rng(2)
    batch = batch_of(rng, 32, 5, 2)
    noise = torch.from_numpy(rng.standard_normal((32, 2)))
    with torch.no_grad():
        errors = learner.critics_gradient(batch, noise)
        inputs = torch.cat([batch.observations, batch.preferences, batch.actions], -1)
        target = learner.critics.forward(inputs) - errors
    blocks = leaves(learner.critics)
    loss = (plain(learner.critics, blocks, inputs) - target).square().sum(-1).mean(1).sum()
    wanted = flat_gradient(loss, blocks)
    torch.testing.assert_close(learner.critics.gradient, wanted, rtol=1e-6, atol=1e-9)


def test_the_actors_gradient_is_autograds(learner: ActorCritic) -> None:
    rng = np.random.default_rng(3)
    batch = batch_of(rng, 32, 5, 2)
    noise = torch.from_numpy(rng.standard_normal((32, 2)))
    with torch.no_grad():
        learner.actor_gradient(batch, noise)
    blocks = leaves(learner.actor)
    state = torch.cat([batch.observations, batch.preferences], -1)
    centre, raw = plain(learner.actor, blocks, state)[0].chunk(2, -1)
    policy = torch.distributions.Normal(centre, (3.5 * torch.tanh(raw) - 1.5).exp())
    before = centre + policy.stddev * noise
    log_probability = (policy.log_prob(before) - torch.log1p(-torch.tanh(before).square())).sum(-1)
    critics = learner.critics.weights + learner.critics.biases
    values = plain(learner.critics, critics, torch.cat([state, torch.tanh(before)], -1))
    value = worth(values, batch.preferences, learner.settings.twins)
    loss = (learner.temperature * log_probability - value).mean()
    wanted = flat_gradient(loss, blocks)
    torch.testing.assert_close(learner.actor.gradient, wanted, rtol=1e-6, atol=1e-9)


def test_a_step_is_adams() -> None:
    stack = Perceptrons(1, (2, 3, 1), rng=np.random.default_rng(0), dtype=torch.float64)
    other = stack.flat.clone().requires_grad_()
    adam = torch.optim.Adam([other], lr=0.01)
    for seed in range(3):
        stack.gradient.copy_(torch.from_numpy(np.random.default_rng(seed).standard_normal(13)))
        stack.step(0.01)
        other.grad = stack.gradient.clone()
        adam.step()
    torch.testing.assert_close(stack.flat, other.detach(), rtol=1e-9, atol=1e-12)


def test_a_higher_entropy_than_wanted_lowers_the_temperature() -> None:
    settings = LearnerSettings(hidden=(4,))
    learner = ActorCritic(2, 1, 2, settings, rng=np.random.default_rng(0))
    learner._temper(0.5, 0.01)  # entropy -0.5, wanted -1
    assert learner.temperature == pytest.approx(0.1 * math.exp(-0.01))
    learner._temper(5.0, 1.0)  # entropy -5
    assert learner.temperature > 0.1 * math.exp(-0.01)


def test_rescaled_critics_give_rescaled_values(learner: ActorCritic) -> None:
    inputs = torch.from_numpy(np.random.default_rng(4).standard_normal((6, 10)))
    before = learner.critics.forward(inputs), learner.targets.forward(inputs)
    learner.rescale(np.array([2.0, 0.5, 8.0]))
    after = learner.critics.forward(inputs), learner.targets.forward(inputs)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old * tensor(2.0, 0.5, 8.0))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_initial_weights_are_orthonormal(shape: tuple[int, int]) -> None:
    matrix = orthogonal(shape, np.random.default_rng(0))
    small = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-12)


def test_a_store_keeps_the_latest_rows_and_their_fields() -> None:
    store = TransitionStore(4, 2, 1, 2)
    with pytest.raises(StoreError, match="collect first"):
        store.sample(1, rng=np.random.default_rng(0))
    for step in range(3):
        column = np.array([[2.0 * step], [2.0 * step + 1.0]])
        store.add(
            np.repeat(column, 2, 1), column + 10, np.repeat(column + 20, 2, 1), column * 0,
            np.repeat(column + 30, 2, 1), np.repeat(column + 40, 2, 1),
        )  # fmt: skip
    assert len(store) == 4
    rows = store.sample(200, rng=np.random.default_rng(0))
    assert set(rows.observations[:, 0].tolist()) == {2.0, 3.0, 4.0, 5.0}
    np.testing.assert_array_equal(rows.actions, rows.observations[:, :1] + 10)
    np.testing.assert_array_equal(rows.rewards, rows.observations + 20)
    np.testing.assert_array_equal(rows.next_observations, rows.observations + 30)
    np.testing.assert_array_equal(rows.preferences, rows.observations + 40)
    with pytest.raises(StoreError, match="do not fit"):
        TransitionStore(3, 2, 1, 2).load_state_dict(store.state_dict())
