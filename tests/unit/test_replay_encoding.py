"""Agents with a replay see encoded observations, and so do their policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.registry import AGENTS

SMALL: dict[str, Any] = {
    "num_envs": 4, "updates": 2, "batch": 8, "replay_capacity": 500, "hidden": (8, 8),
    "warmup_steps": 100, "divisions": 2,
}  # fmt: skip


def trained(name: str, env: str, **settings: Any) -> Any:
    entry = AGENTS[name]
    config = replace(entry.config(), **{**SMALL, **settings})
    kwargs = {"seed": 1} if env == "random-momdp-v0" else {}
    agent = entry.make(make_task(env, kwargs=kwargs), config, total_steps=1500, seed=0)
    agent.learn(1500)
    return agent


@pytest.mark.parametrize("name", ["envelope_q", "multi_policy_sac", "gmorl"])
def test_numbers_are_standardised_and_codes_are_not(name: str) -> None:
    agent = trained(name, "random-momdp-v0")
    moments = agent.learner.state_dict()
    tree = str(moments.keys())
    found = agent.learner._moments if name == "envelope_q" else agent.learner.moments
    assert found.mean.shape[1] > 6, tree
    assert (found.mean[:, 2:] == 0.0).all()
    assert (found.variance[:, 2:] == 1.0).all()
    assert (found.variance[:, :2] != 1.0).all()


@pytest.mark.parametrize("encoding", ["raw", "one_hot", "both"])
def test_a_policy_acts_on_raw_observations_as_the_learner_on_encoded_ones(encoding: str) -> None:
    agent = trained("envelope_q", "random-momdp-v0", encoding=encoding)
    task = agent._task
    observations, _ = task.make_vec(5).reset(seed=0)
    weights = np.array([[0.5, 0.25, 0.25]])[:, : task.spec.num_objectives]
    weights = weights / weights.sum()
    policy = agent.solutions(weights)[0].policy
    actions = policy.act(observations, rng=np.random.default_rng(0))
    agent.learner.exploration = 0.0
    encoded = agent._encoder(observations).astype(np.float32)[None]
    preferences = np.tile(policy.weights, (1, 5, 1))
    view = agent.learner.view(agent.reward_scales)
    expected = agent.learner.act(encoded, preferences, view, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(actions, expected[0])


def test_rows_of_actions_and_objects_stay_as_they_are() -> None:
    system = trained("envelope_q", "mec-offloading-v0", replay_capacity=2000)
    grid = trained("envelope_q", "hypergrid-v0")
    assert system._encoder.encoding == grid._encoder.encoding == "raw"


def test_more_than_three_objectives_get_more_answers() -> None:
    entry = AGENTS["envelope_q"]
    task = make_task("fruit-tree-v0")
    agent = entry.make(task, entry.config(hidden=(8,)), total_steps=400, seed=0)
    assert len(agent.solutions()) == 462
    three = make_task("resource-gathering-v0")
    assert (
        len(entry.make(three, entry.config(hidden=(8,)), total_steps=400, seed=0).solutions())
        <= 130
    )


def test_encoded_learners_play_whole_evaluations() -> None:
    agent = trained("multi_policy_sac", "fruit-tree-v0", divisions=1)
    seeds = evaluation_seeds(agent._task.spec, "report", 2)
    returns = rollout(agent._task, agent.solutions(), seeds=seeds).discounted
    assert returns.shape == (6, 2, 6)
