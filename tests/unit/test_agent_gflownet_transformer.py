"""The policy of strings: caches, whole passes and single prefixes agree; gradients are torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morl.agents import mogfn_pc, op_gfn
from morl.agents.learners.gflownet.sampler import Sampler
from morl.agents.learners.gflownet.transformer import TransformerPolicy, sinusoids
from morl.compositional import core_of
from morl.envs import make_task
from morl.evaluation import rollout
from morl.testing import check_agent
from morl.types import MorlError

TASK = make_task("n-grams-v0", kwargs={"ngrams": ["AV", "VC"], "min_length": 3, "max_length": 6})
CORE = core_of(TASK)


@pytest.fixture
def codes():
    return np.random.default_rng(1).random((40, 3), np.float32)


def transformer(layers=2):
    assert CORE.vocabulary is not None
    return TransformerPolicy(
        vocabulary=CORE.vocabulary,
        horizon=CORE.horizon,
        code_width=3,
        num_outputs=CORE.num_actions + 1,
        width=8,
        layers=layers,
        heads=2,
        hidden=(12, 12),
        rng=np.random.default_rng(0),
    )


def sampled(network, codes):
    return Sampler(CORE, network).sample(codes, rng=np.random.default_rng(2), exploration=1.0)


def test_cached_steps_and_one_pass_over_whole_strings_agree(codes):
    network = transformer()
    found = sampled(network, codes)
    lengths = np.bincount(found.rows)
    assert len(set(lengths.tolist())) > 1, "some strings are finished before others"
    stepwise = found.outputs
    whole = Sampler(CORE, network).replay(codes, found).outputs
    np.testing.assert_allclose(stepwise, whole, rtol=1e-4, atol=1e-5)


def test_prefixes_of_any_length_get_the_same_outputs_one_by_one(codes):
    network = transformer()
    found = sampled(network, codes)
    alone = network.outputs(codes[found.rows], found.states)
    np.testing.assert_allclose(alone, found.outputs, rtol=1e-4, atol=1e-5)


def test_letters_behind_a_prefix_do_not_matter(codes):
    network = transformer()
    first, second = np.full((2, CORE.state_width), -1), np.full((2, CORE.state_width), -1)
    first[:, :4], second[:, :4] = [[1, 2, 3, 4]], [[1, 2, 9, 9]]
    rows, times = np.array([0, 1]), np.array([2, 2])
    network.begin(codes[:2], 2)
    one = network.recall(first, first, rows, times).copy()
    network.begin(codes[:2], 2)
    np.testing.assert_allclose(network.recall(second, second, rows, times), one, rtol=1e-5)


def test_gradients_are_those_of_differences(codes):
    network = transformer(layers=1)
    found = sampled(network, codes[:3])
    weights = np.random.default_rng(3).standard_normal(found.outputs.shape).astype(np.float32)
    sampler = Sampler(CORE, network)
    sampler.replay(codes[:3], found)
    network.backward(weights, weights.sum(axis=0))
    first = network.gradients.copy()
    rng = np.random.default_rng(4)
    direction = rng.standard_normal(len(first)).astype(np.float32)
    start, values = network.parameters.copy(), []
    for change in (1e-3, -1e-3):
        network.parameters[:] = start + change * direction
        outputs = sampler.replay(codes[:3], found).outputs
        values.append(float((weights.astype(np.float64) * outputs).sum()))
    slope = (values[0] - values[1]) / 2e-3
    assert float(first @ direction) == pytest.approx(slope, rel=2e-2)
    network.parameters[:] = start
    sampler.replay(codes[:3], found)
    network.backward(weights, weights.sum(axis=0))
    np.testing.assert_allclose(network.gradients, first, rtol=1e-4, atol=1e-5)


def test_positions_turn_at_the_published_rates():
    table = sinusoids(3, 4)
    assert table[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    expected = [np.sin(2.0), np.cos(2.0), np.sin(0.02), np.cos(0.02)]
    torch.testing.assert_close(table[2], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("answer", ["archive", "samplers"])
def test_a_sampler_of_strings_keeps_its_contract(answer):
    config = mogfn_pc.Config(
        batch=8, hidden=(8,), width=8, heads=2, layers=1, archive_capacity=10, answer=answer,
        loss="subtb",
    )  # fmt: skip
    check_agent(mogfn_pc.MOGFNPC, config, TASK, total_steps=300).raise_for_failures()


def test_a_sampler_of_strings_can_do_without_a_transformer():
    config = op_gfn.Config(batch=8, hidden=(8,), network="perceptron")
    agent = op_gfn.OPGFN(TASK, config, total_steps=200, seed=0)
    agent.learn(1)
    np.testing.assert_allclose(
        rollout(TASK, agent.solutions(), seeds=[0]).points, agent.archive.points
    )


def test_a_transformer_for_what_is_no_string_is_refused():
    config = op_gfn.Config(network="transformer")
    with pytest.raises(MorlError, match="hypergrid-v0: its objects are no strings"):
        op_gfn.OPGFN(make_task("hypergrid-v0"), config, total_steps=10**6, seed=0)
