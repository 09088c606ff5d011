"""Simulated annealing: plans, proposals, and what a blind plan is worth."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.preference_scales import rescaled
from morl.agents.offloading_heuristic import model_of
from morl.agents.simulated_annealing import Config, PlanPolicy, SimulatedAnnealing
from morl.envs import make_task
from morl.evaluation import rollout
from morl.preferences import PreferenceError
from morl.testing import check_agent

TASK = make_task("mec-offloading-v0", kwargs={"edges": 3, "observation": "marginal"})
SCALES = np.array([0.01, 5.0])


def test_it_keeps_the_contract_of_agents():
    config = Config(policies=3)
    check_agent(SimulatedAnnealing, config, TASK, total_steps=3_000).raise_for_failures()


def test_a_plan_is_followed_step_by_step():
    plan = np.arange(100) % 4
    policy = PlanPolicy(model_of(TASK, agent="test"), plan)
    batch = TASK.make_vec(3)
    observations, _ = batch.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(100):
        actions = policy.act(observations, rng=rng)
        np.testing.assert_array_equal(actions, plan[step])
        observations, _, _, _, infos = batch.step(actions)
    # The last observation belongs to no step.
    np.testing.assert_array_equal(policy.act(infos["final_obs"], rng=rng), plan[-1])


def test_plans_get_better_and_follow_their_preference():
    config = Config(policies=3, hottest=0.2, coldest=0.001, episodes=2)
    total = 250 * 2 * 3 * 2 * 100
    made = SimulatedAnnealing(TASK, config, total_steps=total, seed=0)
    weights = SCALES * np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    seeds = range(60)
    before = rollout(TASK, made.solutions(), seeds=seeds).points
    while not made.finished:
        metrics = made.learn(total // 4)
    after = rollout(TASK, made.solutions(), seeds=seeds).points
    assert ((after - before) * weights).sum(axis=1).min() > 0.5
    assert after[2, 0] > after[0, 0]
    assert after[0, 1] > after[2, 1]
    assert metrics["train/proposals"] == 250
    assert metrics["train/temperature"] == pytest.approx(0.001)
    assert 0 < metrics["train/accepted"] < 1


def test_a_colder_system_accepts_fewer_losses():
    accepted = []
    for temperature in (100.0, 1e-6):
        config = Config(policies=40, hottest=temperature, coldest=temperature)
        made = SimulatedAnnealing(TASK, config, total_steps=10**9, seed=0)
        accepted.append(made.learn(5 * 2 * 40 * 100)["train/accepted"])
    assert accepted[0] > 0.95
    assert accepted[1] < 0.8


def test_answers_are_those_of_the_nearest_preference():
    made = SimulatedAnnealing(TASK, Config(policies=5), total_steps=1, seed=0)
    own = made.solutions()
    assert len(own) == 5
    asked = made.solutions(rescaled(np.array([[0.3, 0.7], [0.9, 0.1]]), SCALES))
    np.testing.assert_array_equal(asked[0].policy.plan, own[1].policy.plan)
    np.testing.assert_array_equal(asked[1].policy.plan, own[4].policy.plan)
    with pytest.raises(PreferenceError, match="row 0"):
        made.solutions(np.array([[0.7, 0.7]]))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UnsupportedTaskError, match="observation='marginal'"):
        SimulatedAnnealing(make_task("mec-offloading-v0"), Config(), total_steps=1, seed=0)
    with pytest.raises(UnsupportedTaskError, match=r"minecart-v0.*mec-offloading-v0"):
        SimulatedAnnealing(make_task("minecart-v0"), Config(), total_steps=1, seed=0)
    for settings, message in (
        ({"policies": 1}, "policies must be at least 2"),
        ({"changes": 0}, "changes must be at least 1"),
        ({"hottest": 0.001}, "temperatures must be positive and fall"),
        ({"reward_scales": (1.0,)}, "reward_scales must be 2 positive"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**settings)
