"""Heuristics of offloading decide as they say, by what they see alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.preference_scales import checked_factors, rescaled
from morl.agents.offloading_heuristic import (
    Config,
    CostPolicy,
    NoServerError,
    OffloadingHeuristic,
    RandomServers,
    least,
    model_of,
)
from morl.envs import EnvArgumentError, make_task, make_vec
from morl.evaluation import rollout
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import run
from morl.preferences import PreferenceError
from morl.testing import check_agent
from morl.types import Task

NAME = "mec-offloading-v0"
RULES = (
    "random", "cloud", "shortest_queue", "shortest_edge_queue", "least_energy", "greedy", "rollout",
)  # fmt: skip


def agent(rule: str, task: Task | None = None, **settings: object) -> OffloadingHeuristic:
    config = Config(rule=rule, **settings)  # type: ignore[arg-type]
    made = task or make_task(NAME, kwargs={"observation": "marginal"})
    return OffloadingHeuristic(made, config, total_steps=1, seed=0)


def seen(batch, rng, steps: int = 25) -> NDArray[np.float32]:
    """Observations of busy servers."""
    batch.reset(seed=3)
    for _ in range(steps):
        observations = batch.step(rng.integers(0, 4, batch.num_envs))[0]
    return observations


def test_the_model_tells_exact_costs_or_nearly_so_from_the_histogram():
    rng = np.random.default_rng(0)
    exact, near = (make_vec(NAME, 200, edges=4, observation=o) for o in ("marginal", "paper"))
    observed = seen(exact, np.random.default_rng(1))
    costs = exact.model.costs(observed)
    guessed = near.model.costs(seen(near, np.random.default_rng(1)))
    assert np.isinf(costs[:, 5:]).all()
    paid = -exact.step(rng.integers(2, 3, 200))[1]
    np.testing.assert_allclose(costs[:, 2], paid, rtol=1e-5, atol=1e-6)
    there = costs[:, :5, 0]
    error = guessed[:, :5, 0] - there
    # Work is known to half a Mbit: with 3 tasks of a server of 2 Mbit/s that is about a second.
    assert np.abs(error).mean() < 0.02 * there.mean() + 0.5
    assert abs(error.mean()) < 0.01 * there.mean()
    np.testing.assert_allclose(guessed[:, :5, 1], costs[:, :5, 1], rtol=1e-4, atol=1e-7)


def test_more_weight_of_waiting_makes_only_busy_servers_dearer():
    batch = make_vec(NAME, 100, edges=4, observation="marginal")
    observed = seen(batch, np.random.default_rng(0))
    once, twice = (batch.model.costs(observed, waiting_weight=w)[:, :5, 0] for w in (2.0, 4.0))
    alone = batch.model.costs(observed, waiting_weight=0.0)[:, :5, 0]
    busy = batch.model.tasks(observed)[:, :5] > 0
    np.testing.assert_allclose(twice - once, once - alone, atol=1e-9)
    np.testing.assert_allclose(twice[~busy], alone[~busy], atol=1e-5)
    live = batch.model.rows(observed)[:, :5, 3] > 0
    assert (twice > once + 1e-3)[busy & live].mean() > 0.9


def test_an_observation_of_something_else_is_refused():
    model = make_vec(NAME, 1).model
    with pytest.raises(EnvArgumentError, match=r"737 features.*\(3, 70\)"):
        model.costs(np.zeros((3, 70)))
    with pytest.raises(EnvArgumentError, match="observation='marginal'"):
        model.steps_taken(np.zeros((1, 737)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("observation", ["paper", "backlog", "marginal"])
def test_every_rule_keeps_the_contract_of_agents(rule, observation):
    task = make_task(NAME, kwargs={"observation": observation, "contexts": "test"})
    config = Config(rule=rule, policies=3, samples=2, lookahead=3)
    check_agent(OffloadingHeuristic, config, task, total_steps=10).raise_for_failures()


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_sends_to_a_server_that_does_not_exist(rule):
    kwargs = {"contexts": "test", "unavailable": "error"}
    task = make_task(NAME, kwargs=kwargs)
    settings = {"policies": 3, "samples": 2, "lookahead": 3}
    solutions = agent(rule, task, **settings).solutions()
    assert rollout(task, solutions, seeds=range(12)).discounted.max() <= 0


def test_random_servers_take_the_share_of_their_preference():
    task = make_task(NAME)
    observations = np.repeat(task.make_vec(20).reset(seed=0)[0], 1000, axis=0)
    rng = np.random.default_rng(0)
    for level, share in ((0.0, 0.0), (0.5, 0.125), (1.0, 0.25)):  # 4 of 16 GHz
        actions = RandomServers(model_of(task, agent="test"), level).act(observations, rng=rng)
        assert (actions == 0).mean() == pytest.approx(share, abs=0.012)
        others = np.bincount(actions[actions > 0], minlength=7)[1:] / (actions > 0).sum()
        np.testing.assert_allclose(others, 1 / 6, atol=0.015)


def test_queues_are_joined_where_they_are_shortest():
    batch = make_vec(NAME, 300, edges=3)
    observations = seen(batch, np.random.default_rng(0))
    tasks = batch._episodes.tasks
    rng = np.random.default_rng(0)
    for rule, first in (("shortest_queue", 0), ("shortest_edge_queue", 1)):
        policy = agent(rule, make_task(NAME, kwargs={"edges": 3})).solutions()[0].policy
        actions = policy.act(observations, rng=rng)
        np.testing.assert_array_equal(actions, first + tasks[:, first:4].argmin(axis=1))


def test_the_cloud_and_the_least_energy_are_chosen_by_name():
    batch = make_vec(NAME, 100, contexts="test", observation="marginal")
    observations = seen(batch, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    cloud = agent("cloud").solutions()[0].policy
    assert (cloud.act(observations, rng=rng) == 0).all()
    thrifty = agent("least_energy").solutions()[0].policy
    costs = batch.model.costs(observations)[..., 1]
    np.testing.assert_array_equal(thrifty.act(observations, rng=rng), costs.argmin(axis=1))


def test_greedy_takes_the_least_weighted_cost():
    batch = make_vec(NAME, 100, edges=4, observation="marginal")
    observations = seen(batch, np.random.default_rng(0))
    # Half of scaled rewards: a second is worth 0.01, a joule 5.
    policy = agent("greedy", policies=3).solutions()[1].policy
    rows = batch.model.rows(observations)
    costs = rows[:, :5, 67] * 100 * 0.01 + rows[:, :5, 68] * 0.2 * 5
    actions = policy.act(observations, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(actions, costs.argmin(axis=1))


def test_stacked_policies_act_as_each_alone():
    batch = make_vec(NAME, 30, edges=4, observation="marginal")
    observations = seen(batch, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for rule in ("greedy", "rollout", "shortest_queue"):
        made = agent(rule, policies=4, samples=3, lookahead=5)
        policies = [solution.policy for solution in made.solutions()]
        together = CostPolicy.stack(policies).act(
            np.repeat(observations[None], len(policies), axis=0), rng=rng
        )
        for policy, actions in zip(policies, together, strict=True):
            np.testing.assert_array_equal(policy.act(observations, rng=rng), actions)


def test_looking_ahead_at_the_last_task_is_being_greedy():
    batch = make_vec(NAME, 40, edges=4, observation="marginal")
    observations = seen(batch, np.random.default_rng(0), steps=99)
    weights = np.array([0.01, 5.0])
    exact = batch.model.weighted(observations, weights)
    found = batch.model.lookahead(
        observations, weights, samples=2, steps=9, candidates=11, waiting_weight=4.0
    )
    np.testing.assert_allclose(found[:, :5], exact[:, :5], rtol=1e-6, atol=1e-9)


def test_looking_ahead_depends_on_the_observation_alone():
    batch = make_vec(NAME, 12, contexts="test")
    observations = seen(batch, np.random.default_rng(0))
    settings = {"samples": 3, "steps": 6, "candidates": 3, "waiting_weight": 4.0}
    weights = np.array([0.01, 5.0])
    whole = batch.model.lookahead(observations, weights, **settings)
    parts = [batch.model.lookahead(row[None], weights, **settings)[0] for row in observations]
    np.testing.assert_array_equal(whole, np.array(parts))
    tried = np.isfinite(whole).sum(axis=1)
    live = batch.model.rows(observations)[:, 0, 3] > 0
    np.testing.assert_array_equal(tried[live], np.minimum(3, batch._episodes.edges + 1)[live])


def test_thinking_ahead_beats_thinking_of_the_present_task():
    task = make_task(NAME, kwargs={"observation": "marginal", "edges": 3})
    scales = np.array([0.01, 5.0])
    wanted = rescaled(np.array([[0.6, 0.4]]), scales)
    returns = {}
    for rule, settings in (
        ("greedy", {}),
        ("rollout", {"samples": 6, "lookahead": 30, "candidates": 3, "waiting_weight": 4.0}),
    ):
        [solution] = agent(rule, task, **settings).solutions(wanted)
        episodes = rollout(task, [solution], seeds=range(40))
        returns[rule] = episodes.discounted[0] @ (scales * [0.6, 0.4])
    gain = returns["rollout"] - returns["greedy"]
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_preferences_weigh_raw_rewards():
    # A second against a joule: half of each scaled is 0.002 and 0.998 raw.
    np.testing.assert_allclose(
        rescaled(np.array([[0.5, 0.5]]), (0.01, 5.0)), [[0.01 / 5.01, 5 / 5.01]]
    )
    made = agent("greedy", policies=3)
    own = made.solutions()
    assert [solution.preference[0] for solution in own] == pytest.approx([0, 0.01 / 5.01, 1])
    asked = made.solutions(np.array([solution.preference for solution in own]))
    for mine, theirs in zip(own, asked, strict=True):
        np.testing.assert_allclose(mine.policy.weights, theirs.policy.weights)
    levels = [solution.policy.level for solution in agent("random", policies=5).solutions()]
    assert levels == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    with pytest.raises(PreferenceError, match="row 0"):
        made.solutions(np.array([[0.7, 0.7]]))


def test_sweeps_offer_a_policy_a_preference_and_single_rules_one():
    for rule in RULES:
        count = len(agent(rule, policies=7).solutions())
        assert count == (7 if rule in ("random", "greedy", "rollout") else 1)


def test_other_environments_and_settings_are_refused():
    with pytest.raises(UnsupportedTaskError, match=r"minecart-v0.*mec-offloading-v0"):
        agent("greedy", make_task("minecart-v0"))
    with pytest.raises(UnsupportedTaskError, match=r"building-3d-v0.*mec-offloading-v0"):
        agent("greedy", make_task("building-3d-v0"))
    for settings, message in (
        ({"rule": "best"}, "rule must be one of random, cloud"),
        ({"policies": 1}, "policies must be at least 2"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"waiting_weight": -1.0}, "waiting_weight must not be negative"),
        ({"reward_scales": (0.01, 0.0)}, "reward_scales must be 2 positive numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**settings)
    with pytest.raises(ValueError, match="scales must be 3 positive numbers"):
        checked_factors((1.0, 2.0), num_objectives=3, name="scales")


def test_an_observation_without_a_server_is_refused():
    task = make_task(NAME)
    nothing = np.full((2, 737), -1.0, np.float32)
    for rule in ("cloud", "greedy", "shortest_queue", "rollout"):
        policy = agent(rule, task, policies=2).solutions()[0].policy
        with pytest.raises(NoServerError, match="no server exists"):
            policy.act(nothing, rng=np.random.default_rng(0))
    assert least(np.array([[np.inf, 2.0, 1.0]])).tolist() == [2]


def test_a_run_of_a_heuristic_is_measured_as_any_other(tmp_path):
    config = RunConfig(
        env=EnvConfig(NAME, kwargs={"edges": 2}),
        agent="offloading_heuristic",
        agent_config=Config(rule="greedy", policies=5),
        selection_episodes=4,
        report_episodes=4,
        out=str(tmp_path),
    )
    result = run(config, say=lambda line: None)
    assert result.budget.env_steps == 0
    assert 2 <= len(result.arrays.returns) <= 5
    assert result.metrics["hypervolume"].value > 0
