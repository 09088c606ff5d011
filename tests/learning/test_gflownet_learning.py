"""Samplers of objects learn what they should: compared with exact distributions, not with runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morl.agents import goal_conditioned_gflownet as goals
from morl.agents import mogfn_pc, op_gfn
from morl.agents.learners.gflownet.conditions import SCALARISATIONS, cosines
from morl.compositional import (
    enumerate_graph,
    object_probabilities,
    pareto_mass,
    pareto_objects,
    random_walks,
)
from morl.envs import make_task


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def grid(*objectives, height=8):
    return make_task("hypergrid-v0", kwargs={"height": height, "objectives": list(objectives)})


def trained(updates, task, batch=64, **settings):
    """MOGFN-PC with reward exponent 1, after some updates whose rate falls towards zero."""
    config = mogfn_pc.Config(
        **{
            "batch": batch, "max_evaluations": updates * batch, "exponent": 1.0,
            "exploration": 0.05, "learning_rate": 1e-2, "partition_learning_rate": 3e-2,
            "final_learning_rate": 0.02, **settings,
        }
    )  # fmt: skip
    agent = mogfn_pc.MOGFNPC(task, config, total_steps=10**9, seed=0)
    agent.learn(10**9)
    return agent


def even(measure, core, states):
    """Probabilities of the actions that build objects evenly, (state, action), of a grid."""
    mask = core.mask(states)
    if measure == "choices":
        return mask / mask.sum(axis=1, keepdims=True)
    found = np.zeros(mask.shape)
    for row, legal in enumerate(mask):
        left = core.horizon - states[row].sum() + 1  # lengths, that of stopping now included
        for action in np.flatnonzero(legal):
            ways_on = legal.sum() - 1
            stops = action == core.stop_action
            found[row, action] = 1 / left if stops else (1 - 1 / left) / ways_on
            if not ways_on:
                found[row, action] = 1.0
    return found


def errors(agent, preference, scalarisation="weighted_sum", measure="objects"):
    """Total variation from the exact distribution, and the error of log Z."""
    graph = enumerate_graph(agent.core)
    values = agent.core.values(graph.objects)
    wanted = np.tile(preference, (len(values), 1))
    rewards = np.exp(SCALARISATIONS[scalarisation](values, wanted, 1e-8))
    if measure != "objects":
        rewards *= object_probabilities(graph, even(measure, agent.core, graph.states))
    policy = agent.sampling_policy(preference)
    found = object_probabilities(graph, policy.probabilities(graph.states).astype(np.float64))
    variation = 0.5 * np.abs(found - rewards / rewards.sum()).sum()
    log_z = agent.learner.partition(agent.codes(preference[None]))[0]
    return float(variation), float(abs(log_z - np.log(rewards.sum())))


def test_one_reward_is_sampled_in_proportion_after_600_updates():
    variation, log_z = errors(trained(600, grid("branin")), np.ones(1))
    assert variation < 0.02
    assert log_z < 0.01


@pytest.mark.parametrize("measure", ["choices", "lengths"])
def test_rewards_can_be_relative_to_even_choices(measure):
    agent = trained(1000, grid("branin"), measure=measure)
    variation, log_z = errors(agent, np.ones(1), measure=measure)
    assert variation < 0.02
    assert log_z < 0.01
    # Objects near the corner are many times as likely to be built by even choices.
    assert errors(agent, np.ones(1))[0] > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["db", "subtb"])
def test_the_other_balances_learn_the_same_distribution(loss):
    variation, log_z = errors(trained(2000, grid("branin"), loss=loss), np.ones(1))
    assert variation < 0.02
    assert log_z < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("scalarisation", ["weighted_sum", "weighted_log_sum", "tchebycheff"])
def test_one_sampler_is_exact_for_every_preference(scalarisation):
    agent = trained(2000, grid("branin", "currin"), batch=128, scalarisation=scalarisation)
    for first in (0.0, 0.25, 0.5, 0.75, 1.0):
        variation, log_z = errors(agent, np.array([first, 1.0 - first]), scalarisation)
        assert variation < 0.03
        assert log_z < 0.05


def op_mass(updates, **settings):
    """Probability of the Pareto set of branin and currin on the grid of 32 x 32."""
    config = op_gfn.Config(
        learning_rate=1e-2, weight_decay=1e-4, max_evaluations=128 * updates, **settings
    )
    agent = op_gfn.OPGFN(grid("branin", "currin", height=32), config, total_steps=10**9, seed=0)
    agent.learn(10**9)
    graph = enumerate_graph(agent.core)
    policy = agent.sampling_policy(np.array([0.5, 0.5]))
    found = object_probabilities(graph, policy.probabilities(graph.states).astype(np.float64))
    return float(pareto_mass(found, pareto_objects(agent.core, graph)))


def test_order_preservation_finds_the_pareto_set_in_50_updates():
    assert op_mass(50) > 0.6


@pytest.mark.slow
def test_order_preservation_samples_little_else_after_1000_updates():
    assert op_mass(1000, final_learning_rate=0.1) > 0.85


@pytest.mark.slow
def test_order_preservation_learns_from_a_replay():
    assert op_mass(500, replay_capacity=20_000, final_learning_rate=0.1) > 0.85


@pytest.mark.slow
def test_goals_are_hit_far_more_often_than_by_chance():
    config = goals.Config(
        learning_rate=5e-3, exponent=8.0, max_evaluations=600 * 128, final_learning_rate=0.1,
        outside=-20.0, partition_learning_rate=5e-2,
    )  # fmt: skip
    task = grid("currin", "shubert", height=32)
    agent = goals.GoalConditionedGFlowNet(task, config, total_steps=10**9, seed=0)
    readings = agent.learn(500 * 128 * 20)
    rng = np.random.default_rng(0)
    values = agent.core.values(random_walks(agent.core, 4000, rng).objects)
    directions = goals.face_directions(2, 30)[rng.integers(59, size=4000)]
    by_chance = float((cosines(values, directions) >= 0.98).mean())
    readings = agent.learn(1)
    assert readings["train/goal_accuracy"] > 2.0 * by_chance
    assert readings["train/goal_accuracy"] > 0.5
