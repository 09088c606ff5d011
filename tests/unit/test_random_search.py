from __future__ import annotations

from dataclasses import replace
from typing import Any

import levers
import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.learners.core.action_map import action_map
from morl.agents.random_search import Config, LinearPolicy, RandomSearch
from morl.evaluation import rollout
from morl.testing import check_agent
from morl.types import MorlError, NonFiniteError, Task

SMALL = Config(policies=6, episodes=3, capacity=10)
RNG = np.random.default_rng(0)


def agent(*, task: Task | None = None, total_steps: int = 10_000, seed: int = 0) -> RandomSearch:
    return RandomSearch(task or levers.task(), SMALL, total_steps=total_steps, seed=seed)


def test_it_keeps_the_contract_of_agents() -> None:
    check_agent(RandomSearch, SMALL, levers.task(), total_steps=2000).raise_for_failures()


@pytest.mark.parametrize("total_steps", [1, 50, 777, 3000])
def test_the_budget_is_spent_and_never_exceeded(total_steps: int) -> None:
    searching = agent(total_steps=total_steps)
    while not searching.finished:
        searching.learn(100)
        assert searching.steps <= total_steps
    assert searching.steps == total_steps


def test_learning_takes_at_least_the_steps_it_is_given() -> None:
    searching = agent()
    searching.learn(700)
    assert 700 <= searching.steps <= 700 + 6 * 3 * levers.HORIZON


def test_steps_are_those_of_the_environments() -> None:
    searching = agent(task=levers.task(stop=0.0))
    searching.learn(1)
    assert searching.steps == 6 * 3 * levers.HORIZON


def test_the_archive_holds_true_returns() -> None:
    """Without noise and chance, playing a member again gives its archived point."""
    task = levers.task(stop=0.0)
    searching = agent(task=task)
    searching.learn(2000)
    points = searching.state_dict()["points"]
    episodes = rollout(task, searching.solutions(), seeds=[5])
    np.testing.assert_allclose(episodes.points, points, rtol=1e-12)


def test_a_twin_goes_on_from_a_state_bit_for_bit() -> None:
    first, twin = agent(seed=3), agent(seed=3)
    first.learn(1500)
    twin.load_state_dict(first.state_dict())
    assert first.learn(1500) == twin.learn(1500)
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], value)


def test_how_learning_is_cut_does_not_matter() -> None:
    whole, cut = agent(), agent()
    whole.learn(3000)
    while cut.steps < whole.steps:
        cut.learn(1)
    np.testing.assert_array_equal(whole.state_dict()["weights"], cut.state_dict()["weights"])


def test_a_preference_gets_the_best_member() -> None:
    searching = agent(task=levers.task(stop=0.0))
    searching.learn(5000)
    preferences = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    chosen = searching.solutions(preferences)
    points = searching.state_dict()["points"]
    found = rollout(levers.task(stop=0.0), chosen, seeds=[1]).points
    np.testing.assert_allclose(
        (found * preferences).sum(axis=1), (preferences @ points.T).max(axis=1), rtol=1e-12
    )
    np.testing.assert_array_equal([solution.preference for solution in chosen], preferences)


def test_before_the_first_round_a_preference_still_gets_a_policy() -> None:
    searching = agent()
    assert searching.solutions() == []
    (solution,) = searching.solutions(np.array([[0.5, 0.5]]))
    observation = np.zeros((4, 2), np.float32)
    assert solution.policy.act(observation, rng=RNG).tolist() == [0, 0, 0, 0]


def test_long_episodes_leave_room_for_ten_rounds() -> None:
    task = levers.task(spec=replace(levers.SPEC, horizon=100))
    assert agent(task=task, total_steps=6000)._shape[0] == 2
    assert agent(task=task, total_steps=10)._shape[0] == 1
    assert agent(task=task, total_steps=10**6)._shape[0] == 6
    endless = levers.task(spec=replace(levers.SPEC, horizon=None), horizon=20)
    assert agent(task=endless, total_steps=10)._shape[0] == 6


def test_actions_in_a_box_stay_in_it() -> None:
    low, high = np.array([-1.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32)
    outputs, actions = action_map(spaces.Box(low, high), env_id="x-v0", agent="random_search")
    assert outputs == 2
    policy = LinearPolicy(RNG.normal(size=(4, 2)) * 50, actions)
    chosen = policy.act(RNG.normal(size=(100, 3)) * 1e6, rng=RNG)
    assert chosen.dtype == np.float32
    assert ((low <= chosen) & (chosen <= high)).all()
    assert np.ptp(chosen[:, 1]) > 4.0


def test_a_stack_acts_as_its_members() -> None:
    _, actions = action_map(spaces.Discrete(3), env_id="x-v0", agent="random_search")
    policies = [LinearPolicy(RNG.normal(size=(5, 3)), actions) for _ in range(4)]
    observations = RNG.normal(size=(4, 7, 2, 2))
    together = LinearPolicy.stack(policies).act(observations, rng=RNG)
    alone = [policy.act(obs, rng=RNG) for policy, obs in zip(policies, observations, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_actions_that_it_does_not_know_are_named() -> None:
    with pytest.raises(MorlError, match=r"x-v0: random_search knows discrete and box.*MultiBin"):
        action_map(spaces.MultiBinary(3), env_id="x-v0", agent="random_search")


def test_a_nan_reward_is_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"levers-v0: a reward is not finite \(seed 4"):
        agent(task=levers.task(nan_step=2), seed=4).learn(100)


@pytest.mark.parametrize("name", ["policies", "episodes", "capacity"])
def test_a_setting_that_is_not_positive_is_named(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Config(**settings)
