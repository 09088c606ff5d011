"""LinUCB: its regressions, its bounds, and what it makes of offloading."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.learners.core.errors import NoLegalActionError, UnsupportedTaskError
from morl.agents.linucb import Arms, Config, LinearBandit, LinUCB, Regressions, predicted
from morl.envs import make_task
from morl.evaluation import rollout
from morl.preferences import PreferenceError
from morl.testing import check_agent

ROWS = Arms(count=3, size=6, rows=True)
WHOLE = Arms(count=3, size=2, rows=False)
NAME = "mec-offloading-v0"


def test_arms_are_described_by_their_rows_or_by_the_whole_observation():
    observations = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(
        ROWS.describe(observations)[1], [[1, 6, 7], [1, 8, 9], [1, 10, 11]]
    )
    assert (ROWS.models, ROWS.features) == (1, 3)
    np.testing.assert_array_equal(WHOLE.describe(np.array([[4.0, 5.0]])), [[[1, 4, 5]]])
    assert (WHOLE.models, WHOLE.features) == (3, 3)


@pytest.mark.parametrize("arms", [ROWS, WHOLE])
def test_regressions_are_ridge_regressions_of_what_was_taken(arms):
    rng = np.random.default_rng(0)
    model = Regressions(arms, 2, ridge=0.5)
    taken = {index: [] for index in range(arms.models)}
    for _ in range(4):
        features = arms.describe(rng.normal(size=(5, arms.size)))
        actions = rng.integers(3, size=5)
        rewards = rng.normal(size=(5, 2))
        model.learn(features, actions, rewards)
        for row, action, reward in zip(features, actions, rewards, strict=True):
            x = row[action] if arms.rows else row[0]
            taken[0 if arms.rows else int(action)].append((x, reward))
    for index, pairs in taken.items():
        x, y = (np.array(part) for part in zip(*pairs, strict=True))
        gram = x.T @ x + 0.5 * np.eye(arms.features)
        np.testing.assert_allclose(model.parameters[index], np.linalg.solve(gram, x.T @ y))
    features = arms.describe(rng.normal(size=(1, arms.size)))
    for action in range(3):
        x = features[0, action] if arms.rows else features[0, 0]
        gram = model.gram[0 if arms.rows else action]
        error = np.sqrt(x @ np.linalg.inv(gram) @ x)
        assert model.spread(features)[0, action] == pytest.approx(error)
        expected = x @ model.parameters[0 if arms.rows else action]
        np.testing.assert_allclose(predicted(arms, model.parameters, features)[0, action], expected)


def test_a_preference_weighs_the_predictions_and_closed_arms_are_left_out():
    parameters = np.zeros((1, 3, 2))
    parameters[0, 1] = [1.0, -1.0]  # the first feature is good for one objective alone
    parameters[0, 2] = [0.0, 0.5]
    observations = np.array([[0.2, 0.0, 0.1, 0.9, -1.0, -1.0]])
    rng = np.random.default_rng(0)
    chosen = [
        int(LinearBandit(ROWS, parameters, np.array(w)).act(observations, rng=rng)[0])
        for w in ([1.0, 0.0], [0.0, 1.0])
    ]
    assert chosen == [0, 1]
    with pytest.raises(NoLegalActionError, match="no action is available"):
        LinearBandit(ROWS, parameters, np.ones(2)).act(np.full((1, 6), -1.0), rng=rng)


def test_stacked_bandits_act_as_each_alone():
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=(3, 3, 2))
    policies = [LinearBandit(WHOLE, parameters, w) for w in rng.normal(size=(4, 2))]
    observations = rng.normal(size=(4, 7, 2))
    together = LinearBandit.stack(policies).act(observations, rng=rng)
    for policy, seen, actions in zip(policies, observations, together, strict=True):
        np.testing.assert_array_equal(policy.act(seen, rng=rng), actions)


@pytest.mark.parametrize("name", [NAME, "fruit-tree-v0", "minecart-v0"])
def test_it_keeps_the_contract_of_agents(name):
    config = Config(num_envs=4, divisions=2)
    check_agent(LinUCB, config, make_task(name, horizon=30), total_steps=700).raise_for_failures()


def test_it_learns_that_costs_are_what_it_is_shown():
    # With marginal costs among the features, rewards are linear in them: errors vanish.
    task = make_task(NAME, kwargs={"edges": 3, "observation": "marginal"})
    config = Config(num_envs=21, divisions=20, reward_scales=(0.01, 5.0))
    learned = LinUCB(task, config, total_steps=42_000, seed=0)
    first = learned.learn(2_100)["train/prediction_error"]
    while not learned.finished:
        metrics = learned.learn(21_000)
    assert metrics["train/prediction_error"] < 1e-3 < first
    preferences = np.array([[1.0, 0.0], [0.0, 1.0]])
    fast, thrifty = rollout(task, learned.solutions(preferences), seeds=range(40)).points
    assert fast[0] > -15 * 60  # 11.3 minutes of the shortest queue, noise
    assert thrifty[1] > -2.2  # 1.9 J of edge servers alone


def test_solutions_answer_the_lattice_or_what_they_are_asked():
    learned = LinUCB(make_task(NAME), Config(num_envs=2), total_steps=400, seed=0)
    learned.learn(400)
    assert len(learned.solutions()) == 101
    with pytest.raises(PreferenceError, match="row 0"):
        learned.solutions(np.array([[0.7, 0.7]]))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UnsupportedTaskError, match=r"building-3d-v0.*discrete actions"):
        LinUCB(make_task("building-3d-v0"), Config(), total_steps=1, seed=0)
    for settings, message in (
        ({"width": -1.0}, "width must not be negative"),
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**settings)
    with pytest.raises(ValueError, match="reward_scales must be 2 positive numbers"):
        LinUCB(make_task(NAME), Config(reward_scales=(1.0,)), total_steps=1, seed=0)
