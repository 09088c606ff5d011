"""Samplers of objects: conditions, trajectories, replay, goals, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl.agents import goal_conditioned_gflownet as goals
from morl.agents import mogfn_pc, op_gfn
from morl.agents.learners.core.errors import BudgetError
from morl.agents.learners.gflownet.agent import SamplerConfig, own_preferences
from morl.agents.learners.gflownet.conditions import (
    SCALARISATIONS,
    ExponentError,
    draw_exponents,
    goal_log_rewards,
    thermometer,
)
from morl.agents.learners.gflownet.learner import FlowLearner, balance
from morl.agents.learners.gflownet.networks import LogPartition, PerceptronPolicy
from morl.agents.learners.gflownet.policies import BuildingPolicy
from morl.agents.learners.gflownet.replay import TrajectoryReplay
from morl.agents.learners.gflownet.sampler import Sampler
from morl.compositional import NotCompositionalError, ObjectiveError, core_of, enumerate_graph
from morl.envs import make_task
from morl.evaluation import rollout
from morl.preferences import PreferenceError
from morl.types import NonFiniteError

VALUES = np.array([[0.5, 0.25], [0.0, 1.0]])
PREFERENCES = np.array([[0.5, 0.5], [0.75, 0.25]])
TASK = make_task("hypergrid-v0", kwargs={"height": 5})
CORE = core_of(TASK)


def network(code_width=0, flows=0):
    return PerceptronPolicy(
        encode=CORE.encode,
        encoding_width=CORE.encoding_width,
        code_width=code_width,
        num_outputs=CORE.num_actions + flows,
        hidden=(16, 16),
        rng=np.random.default_rng(0),
    )


# Conditions


def test_a_thermometer_fills_its_bins_one_after_the_other():
    assert thermometer(np.array([0.0]), bins=3)[0].tolist() == [0.0, 0.0, 0.0]
    assert thermometer(np.array([0.75]), bins=3)[0].tolist() == [1.0, 0.5, 0.0]
    assert thermometer(np.array([6.0]), bins=4, low=0.0, high=6.0)[0].tolist() == [1, 1, 1, 0]


@given(st.floats(0.0, 1.0), st.integers(2, 60))
def test_a_thermometer_can_be_read(value, bins):
    code = thermometer(np.array([value]), bins=bins)[0]
    assert code.sum() / (bins - 1) == pytest.approx(value, abs=1e-5)
    assert (np.diff(code) <= 0.0).all()


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("weighted_sum", [0.375, 0.25]),
        ("weighted_log_sum", [math.sqrt(0.125), 1e-8**0.75]),
        # One minus the largest of (0.25, 0.375), and of (0.75, 0).
        ("tchebycheff", [0.625, 0.25]),
    ],
)
def test_scalarisations_by_hand(name, rewards):
    found = SCALARISATIONS[name](VALUES, PREFERENCES, 1e-8)
    assert np.exp(found).tolist() == pytest.approx(rewards)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 0.99))
def test_no_scalarisation_rewards_what_is_worse(first, second, loss, weight):
    better, worse = np.array([[first, second]]), np.array([[first * loss, second]])
    preference = np.array([[weight, 1.0 - weight]])
    for scalarise in SCALARISATIONS.values():
        assert scalarise(better, preference, 1e-8) >= scalarise(worse, preference, 1e-8) - 1e-12


def test_exponents_come_from_the_distribution_that_was_named():
    rng = np.random.default_rng(0)
    assert draw_exponents("constant", 3.0, 2, rng).tolist() == [3.0, 3.0]
    uniform = draw_exponents("uniform", 8.0, 4000, rng)
    assert uniform.min() > 0.0
    assert uniform.max() <= 8.0
    assert uniform.mean() == pytest.approx(4.0, abs=0.15)
    gamma = draw_exponents("gamma", 16.0, 4000, rng)
    assert (gamma.mean(), gamma.var()) == (pytest.approx(16.0, abs=0.3), pytest.approx(16.0, abs=2))


def test_goals_reward_the_axis_fully_and_the_rim_by_its_factor():
    axis = np.array([1.0, 0.0])
    angle = math.acos(0.98)
    values = np.array([[0.7, 0.0], [math.cos(angle), math.sin(angle)], [0.6, 0.6]])
    values[1] *= 1.0 - 1e-9  # rounding shall not push it out
    found = goal_log_rewards(values, np.tile(axis, (3, 1)), cosine=0.98 - 1e-9, rim=0.2, floor=1e-8)
    assert math.exp(found[0]) == pytest.approx(0.7)
    assert math.exp(found[1]) == pytest.approx(0.2 * values[1].sum(), rel=1e-4)
    assert found[2] == -math.inf


# Trajectories


def test_a_batch_ends_in_objects_that_its_actions_build():
    policy = network(code_width=2)
    codes = np.random.default_rng(1).random((6, 2), np.float32)
    found = Sampler(CORE, policy).sample(codes, rng=np.random.default_rng(2), exploration=0.5)
    actions = found.padded(CORE.horizon)
    for row in range(6):
        state, finished = CORE.initial(1), np.array([False])
        for action in actions[row][actions[row] >= 0]:
            assert not finished[0]
            state, finished = CORE.step(state, np.array([action]))
        assert finished[0]
        assert state[0].tolist() == found.objects[row].tolist()


@pytest.mark.parametrize("again", ["replay", "retrace"])
def test_trajectories_taken_up_again_have_the_same_probabilities(again):
    policy = network(code_width=2)
    sampler = Sampler(CORE, policy)
    codes = np.random.default_rng(1).random((6, 2), np.float32)
    first = sampler.sample(codes, rng=np.random.default_rng(2), exploration=0.5)
    forward, backward = first.log_forward.copy(), first.log_backward.copy()
    if again == "replay":
        second = sampler.replay(codes, first)
    else:
        second = sampler.retrace(codes, first.padded(CORE.horizon))
    assert second.objects.tolist() == first.objects.tolist()
    np.testing.assert_allclose(second.log_forward, forward, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(second.log_backward, backward)


def test_importance_weights_of_trajectories_count_the_objects():
    found = Sampler(CORE, network()).sample(
        np.zeros((4000, 0), np.float32), rng=np.random.default_rng(0)
    )
    weights = np.zeros(4000)
    np.add.at(weights, found.rows, found.log_backward - found.log_forward)
    assert np.exp(weights).mean() == pytest.approx(len(enumerate_graph(CORE).objects), rel=0.05)


@pytest.mark.parametrize("kind", ["tb", "db", "subtb"])
def test_an_update_on_the_same_trajectories_lowers_their_loss(kind):
    rng = np.random.default_rng(0)
    learner = FlowLearner(
        CORE,
        network(flows=kind != "tb"),
        LogPartition(code_width=0, hidden=(), rng=rng),
        learning_rate=1e-2,
        partition_learning_rate=1e-1,
        weight_decay=0.0,
        max_gradient_norm=1.0,
    )
    codes = np.zeros((16, 0), np.float32)
    found = learner.sample(codes, rng=rng, exploration=0.0)
    loss = balance(kind, np.log(CORE.evaluate(found.objects)[:, 0] + 0.1), decay=0.9)
    readings = []
    for _ in range(30):
        readings.append(learner.improve(found, codes, loss)["train/loss"])
        found = learner.sampler.replay(codes, found)
    assert readings[-1] < 0.3 * readings[0]


def test_a_loss_that_is_not_finite_is_named():
    learner = op_gfn.OPGFN(TASK, op_gfn.Config(batch=4), total_steps=1000, seed=0).learner
    codes = np.zeros((4, 0), np.float32)
    found = learner.sample(codes, rng=np.random.default_rng(0), exploration=0.0)
    loss = balance("tb", np.full(4, np.inf), decay=0.9)
    with pytest.raises(NonFiniteError, match="hypergrid-v0: the loss is inf; lower agent"):
        learner.improve(found, codes, loss)


# Replay


def test_a_full_replay_forgets_the_oldest_and_keeps_who_is_on_the_front():
    replay = TrajectoryReplay(3, horizon=2, num_objectives=2)
    front = np.array([[1.0, 0.0], [0.0, 1.0]])
    replay.add(np.array([[0, -1], [1, -1]]), front, front=front)
    better = np.array([[1.0, 0.5]])
    now = np.array([[0.0, 1.0], [1.0, 0.5]])
    replay.add(np.array([[2, -1], [3, -1]]), np.concatenate([better, better]), front=now)
    assert len(replay) == 3
    assert replay.actions[:, 0].tolist() == [3, 1, 2]
    drawn = replay.draw_front(60, rng=np.random.default_rng(0))
    assert set(drawn.tolist()) == {0, 1, 2}
    replay.add(np.array([[4, -1]]), np.array([[0.5, 2.0]]), front=np.array([[1.0, 0.5], [0.5, 2]]))
    assert set(replay.draw_front(60, rng=np.random.default_rng(0)).tolist()) == {0, 1, 2}
    worst = np.array([[9.0, 9.0]])
    replay.add(np.array([[5, -1]]), worst, front=worst)
    assert set(replay.draw_front(9, rng=np.random.default_rng(0)).tolist()) == {2}


def test_equal_objects_share_the_label_of_a_batch():
    values = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.4, 0.5]])
    assert op_gfn.pareto_labels(values).tolist() == [True, True, True, False]


# Goals


def test_the_table_of_goals_holds_the_upper_faces_of_the_cube():
    found = goals.face_directions(3, 10)
    assert len(found) == 10**3 - 9**3
    assert len(np.unique(found.round(9), axis=0)) == len(found)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    assert goals.face_directions(2, 2).round(3).tolist() == [[1, 0], [0.707, 0.707], [0, 1]]


def test_the_finest_table_is_the_published_one_unless_that_is_too_large():
    assert goals.fitting_resolution(2) == goals.fitting_resolution(3) == 30
    assert goals.fitting_resolution(5) ** 5 - (goals.fitting_resolution(5) - 1) ** 5 <= 10_000


def test_goals_that_are_asked_for_in_vain_become_rare():
    table = goals.GoalTable(np.eye(3), missed_weight=0.1)
    table.note(np.array([0, 1, 1]), np.array([False, False, True]))
    assert table.weights.tolist() == [0.1, 1.0, 1.0]
    drawn = table.draw(6000, np.random.default_rng(0), weighted=True)
    assert np.mean(drawn == 0) == pytest.approx(0.1 / 2.1, abs=0.02)
    even = table.draw(6000, np.random.default_rng(0), weighted=False)
    assert np.mean(even == 0) == pytest.approx(1 / 3, abs=0.03)


# Answers


def test_a_building_policy_builds_its_object_in_the_environment():
    found = Sampler(CORE, network()).sample(
        np.zeros((3, 0), np.float32), rng=np.random.default_rng(3)
    )
    agent = op_gfn.OPGFN(TASK, op_gfn.Config(batch=32), total_steps=2000, seed=0)
    agent.learn(1)
    episodes = rollout(TASK, agent.solutions(), seeds=[1, 2])
    np.testing.assert_allclose(episodes.points, agent.archive.points)
    policy = BuildingPolicy(CORE, found.objects[0])
    start = CORE.encode(CORE.initial(2))
    assert policy.act(start, rng=np.random.default_rng(0)).shape == (2,)


def test_a_sampling_policy_draws_legal_actions_with_the_right_odds():
    agent = mogfn_pc.MOGFNPC(TASK, mogfn_pc.Config(batch=4), total_steps=10**6, seed=0)
    policy = agent.sampling_policy(np.array([0.5, 0.5]))
    states = np.repeat(np.array([[3, 0]]), 4000, axis=0)
    expected = policy.probabilities(states[:1])[0]
    drawn = policy.act(CORE.encode(states), rng=np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, expected, atol=0.03)


def test_policies_do_not_change_when_learning_goes_on():
    agent = mogfn_pc.MOGFNPC(TASK, mogfn_pc.Config(batch=8), total_steps=10**6, seed=0)
    policy = agent.sampling_policy(np.array([0.5, 0.5]))
    before = policy.probabilities(CORE.initial(1))
    agent.learn(100)
    assert policy.probabilities(CORE.initial(1)).tolist() == before.tolist()


def test_an_agent_answers_for_at_most_a_hundred_preferences_of_its_own():
    assert len(own_preferences(2)) == 100
    assert [len(own_preferences(count)) for count in (3, 4, 5)] == [91, 84, 70]


def test_the_budget_counts_evaluations_where_it_is_told_to():
    config = op_gfn.Config(batch=16, max_evaluations=50)
    agent = op_gfn.OPGFN(TASK, config, total_steps=10**6, seed=0)
    agent.learn(10**6)
    assert agent.finished
    assert agent.evaluations == 48


# Bad input


def test_an_environment_without_objects_is_refused():
    with pytest.raises(NotCompositionalError, match="deep-sea-treasure-v0: its episodes build no"):
        op_gfn.OPGFN(make_task("deep-sea-treasure-v0"), op_gfn.Config(), total_steps=100, seed=0)


def test_a_budget_below_one_update_is_refused():
    with pytest.raises(BudgetError, match=r"less than one update of 128 objects of up to 7 steps"):
        op_gfn.OPGFN(TASK, op_gfn.Config(), total_steps=100, seed=0)


@pytest.mark.parametrize("exponent", [0.0, -1.0, math.nan, math.inf])
def test_an_exponent_that_is_not_positive_is_refused(exponent):
    with pytest.raises(ExponentError, match="the exponent of a reward must be a positive number"):
        mogfn_pc.Config(exponent=exponent)
    with pytest.raises(ExponentError):
        goals.Config(exponent=exponent)


@pytest.mark.parametrize("preference", [[0.7, 0.7], [1.5, -0.5], [math.nan, 1.0]])
def test_a_preference_off_the_simplex_is_refused(preference):
    agent = op_gfn.OPGFN(TASK, op_gfn.Config(batch=4), total_steps=10**4, seed=0)
    with pytest.raises(PreferenceError, match="row 0"):
        agent.solutions(np.array([preference]))


@pytest.mark.parametrize("value", [math.nan, -0.1])
def test_an_objective_without_meaning_is_named(value, monkeypatch):
    agent = op_gfn.OPGFN(TASK, op_gfn.Config(batch=4), total_steps=10**4, seed=0)
    monkeypatch.setattr(agent.core, "_objectives", lambda states: np.full((len(states), 2), value))
    with pytest.raises(ObjectiveError, match=r"hypergrid-v0: branin of .* is .* correct the"):
        agent.learn(1)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (SamplerConfig, {"network": "cnn"}, "network must be one of auto"),
        (SamplerConfig, {"answer": "all"}, "answer must be one of archive"),
        (SamplerConfig, {"batch": 0}, "batch must be at least 1"),
        (SamplerConfig, {"width": 9}, "width must be a multiple of heads"),
        (SamplerConfig, {"hidden": ()}, "hidden must name at least one layer"),
        (SamplerConfig, {"learning_rate": 0.0}, "learning_rate must be positive"),
        (SamplerConfig, {"max_gradient_norm": -1.0}, "max_gradient_norm must be positive"),
        (SamplerConfig, {"weight_decay": -1.0}, "weight_decay must not be negative"),
        (SamplerConfig, {"exploration": 1.5}, "exploration must be in"),
        (mogfn_pc.Config, {"loss": "mse"}, "loss must be one of tb, subtb, db"),
        (mogfn_pc.Config, {"scalarisation": "sum"}, "scalarisation must be one of weighted_sum"),
        (mogfn_pc.Config, {"preference_bins": 1}, "preference_bins must be at least 2"),
        (mogfn_pc.Config, {"concentration": 0.0}, "concentration must be positive"),
        (op_gfn.Config, {"replay_capacity": 5}, "replay_capacity must be 0 or at least the batch"),
        (op_gfn.Config, {"replay_capacity": -1}, "must not be negative"),
        (op_gfn.Config, {"front_share": 2.0}, "front_share must be in"),
        (goals.Config, {"goals": "all"}, "goals must be one of tabular"),
        (goals.Config, {"cosine": 1.0}, "cosine must be below 1"),
        (goals.Config, {"rim": 0.0}, "rim must be in"),
        (goals.Config, {"hindsight": -0.1}, "hindsight must be in"),
        (goals.Config, {"resolution": 1}, "bins and resolution must be at least 2"),
        (goals.Config, {"outside": -math.inf}, "outside must be finite"),
        (goals.Config, {"replay_capacity": 5}, "replay_capacity must be 0 or at least"),
    ],
)
def test_settings_without_meaning_are_refused(config: Any, settings: Any, message: str):
    with pytest.raises(ValueError, match=message):
        config(**settings)
