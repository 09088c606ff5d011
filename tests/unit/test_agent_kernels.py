"""Compiled loops against hand-computed numbers and against torch's automatic differentiation."""

import numpy as np
import pytest
import torch

from morl.agents.learners.core.rollouts import ActionAdapter
from morl.agents.learners.ppo import kernels, losses
from morl.agents.learners.ppo.learner import PopulationPPO, PPOConfig, standardise
from morl.agents.learners.ppo.networks import NetworkSpec, PopulationNetwork, initial_rows


def grid(values):
    """One policy, one environment, one objective: (policy, time, env, objective)."""
    return np.array(values, np.float64).reshape(1, -1, 1, 1)


def flags(values):
    return np.array(values, np.bool_).reshape(1, -1, 1)


def test_tanh_agrees_with_the_exact_one_to_float_precision():
    x = np.linspace(-12, 12, 4001, dtype=np.float32).reshape(1, -1, 1)
    exact = np.tanh(x + np.float32(0.25))
    kernels.add_bias_tanh_(x, np.full((1, 1), 0.25, np.float32))
    assert np.abs(x - exact).max() < 4e-7


def test_advantages_of_a_hand_made_episode():
    # deltas: 1 + .5*2 - 1 = 1, 1 + .5*4 - 2 = 1, 1 + 0 - 4 = -3; lambda * discount = .25
    advantages = np.empty((1, 3, 1, 1))
    kernels.generalised_advantages(
        grid([1, 1, 1]), grid([1, 2, 4]), grid([2, 4, 0]), flags([0, 0, 1]), 0.5, 0.5, advantages
    )
    assert advantages.ravel().tolist() == [1 + 0.25 * (1 - 0.75), 1 - 0.75, -3]


def test_advantages_do_not_cross_the_end_of_an_episode():
    advantages = np.empty((1, 2, 1, 1))
    kernels.generalised_advantages(
        grid([1, 100]), grid([0, 0]), grid([0, 0]), flags([1, 0]), 0.9, 0.9, advantages
    )
    assert advantages.ravel().tolist() == [1, 100]


def test_discounted_sums_restart_after_an_episode():
    sums, running = np.empty((1, 3, 1, 1)), np.zeros((1, 1, 1))
    kernels.discounted_sums(grid([1, 2, 4]), flags([0, 1, 0]), 0.5, running, sums)
    assert sums.ravel().tolist() == [1, 2.5, 4]
    assert running.item() == 4


@pytest.mark.parametrize(
    ("ended", "started", "mean", "count"),
    [
        ([0, 1, 0], True, ((1 + 0.5 * 2) + (4 + 0.5 * 8)) / 2, 2),  # the second one is bootstrapped
        ([0, 1, 0], False, 4 + 0.5 * 8, 1),  # the episode before the rollout does not count
        ([0, 0, 0], False, 0.0, 0),
        ([0, 0, 1], True, 1 + 0.5 * 2 + 0.25 * 4, 1),
        ([1, 1, 1], True, (1 + 2 + 4) / 3, 3),
    ],
)
def test_returns_of_the_episodes_that_start_in_a_rollout(ended, started, mean, count):
    totals, counts = np.empty((1, 1)), np.empty(1, np.int64)
    kernels.started_returns(
        grid([1, 2, 4]), grid([0, 0, 8]), flags(ended), np.array([[started]]), 0.5, totals, counts
    )
    assert totals.item() == pytest.approx(mean)
    assert counts.item() == count


def test_categorical_samples_follow_the_softmax():
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32)).reshape(1, 1, 3).repeat(20000, axis=1)
    actions, log_probs = np.empty((1, 20000), np.int64), np.empty((1, 20000), np.float32)
    uniform = np.random.default_rng(0).random((1, 20000))
    kernels.sample_categorical(logits + 7, uniform, actions, log_probs)
    assert np.bincount(actions[0]) / 20000 == pytest.approx([0.2, 0.5, 0.3], abs=0.012)
    assert np.exp(log_probs[0]) == pytest.approx(np.array([0.2, 0.5, 0.3])[actions[0]], rel=1e-5)


def test_gaussian_samples_and_their_density():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(2, 5, 3)).astype(np.float32)
    log_std = rng.normal(size=(2, 3)).astype(np.float32)
    normal = rng.standard_normal((2, 5, 3), dtype=np.float32)
    actions, log_probs = np.empty_like(mean), np.empty((2, 5), np.float32)
    kernels.sample_gaussian(mean, log_std, normal, actions, log_probs)
    assert actions == pytest.approx(mean + np.exp(log_std)[:, None] * normal, abs=1e-6)
    expected = losses.gaussian_log_probability(*map(torch.from_numpy, (actions, mean, log_std)))
    assert log_probs == pytest.approx(expected.numpy(), abs=1e-5)


def test_adam_clips_each_policy_by_its_own_norm():
    # Two policies, one block of two parameters each; the first gradient is far over the bound.
    parameters, moments = np.zeros(4, np.float32), np.zeros((2, 4), np.float32)
    gradients = np.array([300, 400, 0.03, 0.04], np.float32)
    counts = np.zeros(2, np.int64)
    kernels.clipped_adam_(
        parameters, gradients, *moments, np.array([0, 4]), np.array([0.1, 0.1]), counts, 0.5
    )
    assert moments[0] == pytest.approx([0.03, 0.04, 0.003, 0.004], rel=1e-4)
    # The first step of Adam is the learning rate, whatever the gradient's size.
    assert parameters == pytest.approx([-0.1] * 4, rel=5e-3)
    assert counts.tolist() == [1, 1]


def test_adam_agrees_with_torch():
    rng = np.random.default_rng(0)
    start = rng.normal(size=6).astype(np.float32)
    parameters, moments, counts = start.copy(), np.zeros((2, 6), np.float32), np.zeros(1, np.int64)
    leaf = torch.from_numpy(start.copy()).requires_grad_()
    optimiser = torch.optim.Adam([leaf], lr=0.01, eps=1e-5)
    for _ in range(20):
        gradient = rng.normal(size=6).astype(np.float32)
        leaf.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_([leaf], 0.5)
        optimiser.step()
        kernels.clipped_adam_(
            parameters, gradient, *moments, np.array([0, 6]), np.array([0.01]), counts, 0.5
        )
    assert parameters == pytest.approx(leaf.detach().numpy(), abs=1e-6)


def population(discrete, *, policies=5, actions=3, objectives=2, entropy=0.01):
    spec = NetworkSpec(7, actions, objectives, (16, 16), discrete)
    rows = initial_rows(spec, [np.random.default_rng(i) for i in range(policies)])
    rows += np.random.default_rng(9).normal(0, 0.1, rows.shape).astype(np.float32)
    bounds = None if discrete else np.ones(actions, np.float32)
    adapter = ActionAdapter(discrete, actions, None if discrete else -bounds, bounds)
    config = PPOConfig(hidden=(16, 16), entropy_coefficient=entropy)
    return PopulationPPO(spec, rows, config, actions=adapter, discount=0.9)


def minibatch(discrete, *, policies=5, batch=64, actions=3, objectives=2):
    rng = np.random.default_rng(1)
    taken = rng.integers(0, actions, (policies, batch, 1)) if discrete else None
    taken = rng.normal(size=(policies, batch, actions)) if taken is None else taken
    log_probs = rng.normal(-1.2 if discrete else -4.5, 0.3, (policies, batch, 1))
    rest = rng.normal(size=(policies, batch, 1 + objectives))
    packed = np.concatenate([taken, log_probs, rest], axis=-1).astype(np.float32)
    return rng.normal(size=(policies, batch, 7)).astype(np.float32), packed


def separate_loss(views, observations, packed, *, discrete, entropy):
    """PPO's loss of a separate torch module for each policy, its blocks given."""
    *towers, log_std = views if not discrete else (*views, None)

    def tower(blocks):
        x = observations
        for layer in range(0, 6, 2):
            x = x @ blocks[layer] + blocks[layer + 1]
            x = torch.tanh(x) if layer < 4 else x
        return x

    outputs, values = tower(towers[:6]), tower(towers[6:12])
    if discrete:
        column, bonus = 1, losses.categorical_entropy(outputs[None])
        log_prob = losses.categorical_log_probability(packed[None, :, 0], outputs[None])
    else:
        column, bonus = 3, losses.gaussian_entropy(log_std[None])
        log_prob = losses.gaussian_log_probability(
            packed[None, :, :3], outputs[None], log_std[None]
        )
    surrogate = losses.clipped_surrogate(
        log_prob - packed[None, :, column], packed[None, :, column + 1], clip=0.2
    )
    critic = losses.value_loss(values[None], packed[None, :, column + 2 :])
    return (-surrogate - entropy * bonus + 0.5 * critic).sum()


@pytest.mark.parametrize("discrete", [True, False])
def test_stacked_gradients_equal_those_of_separate_modules(discrete):
    ppo = population(discrete)
    observations, packed = minibatch(discrete)
    ppo.accumulate_gradients(observations, packed, np.zeros((5, 4), np.float32))
    stacked = ppo.network.rows(ppo.network.gradients)
    for policy in range(5):
        views = [
            torch.from_numpy(view[policy].copy()).requires_grad_()
            for view in ppo.network.views(ppo.network.parameters)
        ]
        loss = separate_loss(
            views,
            torch.from_numpy(observations[policy]),
            torch.from_numpy(packed[policy]),
            discrete=discrete,
            entropy=0.01,
        )
        separate = torch.cat([g.flatten() for g in torch.autograd.grad(loss, views)]).numpy()
        assert np.abs(separate).max() > 1e-2
        assert stacked[policy] == pytest.approx(separate, abs=1e-6)


def test_statistics_are_those_of_the_batch():
    ppo = population(discrete=True)
    observations, packed = minibatch(discrete=True)
    statistics = np.zeros((5, 4), np.float32)
    ppo.accumulate_gradients(observations, packed, statistics)
    logits = torch.from_numpy(ppo.network.policy_outputs(observations))
    log_prob = losses.categorical_log_probability(torch.from_numpy(packed[..., 0]), logits)
    log_ratio = log_prob - torch.from_numpy(packed[..., 1])
    kl = (log_ratio.exp() - 1 - log_ratio).sum(1)
    assert statistics[:, 0] == pytest.approx(kl.numpy(), rel=1e-4)
    assert statistics[:, 2] / 64 == pytest.approx(losses.categorical_entropy(logits).numpy(), 1e-4)
    assert (statistics[:, 1] > 0).all()


def test_network_rows_survive_the_storage_order():
    spec = NetworkSpec(4, 2, 3, (5, 6), discrete=False)
    rows = np.arange(3 * spec.num_parameters, dtype=np.float32).reshape(3, -1)
    network = PopulationNetwork(spec, rows)
    assert np.array_equal(network.rows(), rows)
    assert network.log_std.shape == (3, 2)
    assert np.array_equal(network.log_std, rows[:, -2:])


def test_initial_weights_are_orthogonal_with_the_stated_gain():
    spec = NetworkSpec(8, 3, 2, (16,), discrete=True)
    network = PopulationNetwork(spec, initial_rows(spec, [np.random.default_rng(0)]))
    first = network.actor.weights[0][0]
    assert first @ first.T == pytest.approx(2.0 * np.eye(8), abs=1e-5)
    assert np.abs(network.actor.weights[1]).max() <= 0.01
    assert not network.actor.biases[0].any()


def test_a_network_without_units_is_refused():
    with pytest.raises(ValueError, match="at least one unit"):
        NetworkSpec(8, 3, 2, (), discrete=True)


def test_standardised_advantages():
    result = standardise(np.array([[1.0, 3.0], [5.0, 5.0]]))
    assert result == pytest.approx(np.array([[-1, 1], [0, 0]]), abs=1e-7)
