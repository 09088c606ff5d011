"""Pareto Q-learning: exact where it can be, the same whenever it is saved, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from morl.agents.learners.core.errors import BudgetError, UnsupportedTaskError
from morl.agents.learners.tabular.states import StateSpaceError
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.registry import AGENTS
from morl.types import Task


def pql(task: Task, *, steps: int, seed: int = 0, **settings: Any) -> Any:
    entry = AGENTS["pql"]
    config = replace(entry.config(), **settings)
    return entry.make(task, config, total_steps=steps, seed=seed)


def returns(task: Task, agent: Any, episodes: int = 2) -> np.ndarray:
    seeds = evaluation_seeds(task.spec, "report", episodes)
    return rollout(task, agent.solutions(), seeds=seeds).discounted.mean(axis=1)


def trained(task: Task, steps: int, **settings: Any) -> Any:
    agent = pql(task, steps=steps, **settings)
    agent.learn(steps)
    return agent


def test_every_policy_earns_the_vector_that_it_promises() -> None:
    task = make_task("deep-sea-treasure-concave-v0")
    agent = trained(task, 5000)
    promised = np.stack([solution.policy.target for solution in agent.solutions()])
    np.testing.assert_allclose(returns(task, agent), promised, rtol=1e-9)


def test_preferences_get_the_best_policy_for_them() -> None:
    task = make_task("deep-sea-treasure-v0")
    agent = trained(task, 5000)
    hasty, greedy = agent.solutions(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert hasty.policy.target[1] == pytest.approx(-1.0)
    assert greedy.policy.target[0] > 15.0


def test_it_does_not_matter_how_often_learning_is_interrupted() -> None:
    task = make_task("random-momdp-v0", kwargs={"seed": 2})
    once, often = pql(task, steps=4000), pql(task, steps=4000)
    once.learn(4000)
    while not often.finished:
        often.learn(50)
        often.solutions()
    assert once.steps == often.steps
    np.testing.assert_array_equal(once.state_dict()["model"]["visits"],
                                  often.state_dict()["model"]["visits"])  # fmt: skip
    np.testing.assert_array_equal(returns(task, once), returns(task, often))


def test_an_agent_that_was_restored_goes_on_as_if_nothing_had_happened() -> None:
    task = make_task("random-momdp-v0", kwargs={"seed": 6})
    whole, half = pql(task, steps=4000), pql(task, steps=4000)
    whole.learn(2000)
    half.load_state_dict(whole.state_dict())
    whole.learn(2000)
    half.learn(2000)
    first, second = whole.state_dict(), half.state_dict()
    for name in ("visits", "rewards", "successors", "counts"):
        np.testing.assert_array_equal(first["model"][name], second["model"][name])
    np.testing.assert_array_equal(first["sets"]["arena"], second["sets"]["arena"])


def test_endless_episodes_are_cut_and_learned_from() -> None:
    """Fishwood never terminates, and it pays at random."""
    task = make_task("fishwood-v0", horizon=20)
    agent = trained(task, 8000)
    assert agent.steps == 8000
    best = returns(task, agent, episodes=32).max(axis=0)
    # Fish come with probability 0.1 per step at the river, wood with 0.9 in the woods.
    assert best[1] > 10.0
    assert best[0] > 0.8


def test_observations_that_do_not_repeat_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"minecart-v0: pql keeps a table of states"):
        pql(make_task("minecart-v0"), steps=1000)
    reason = AGENTS["pql"].supports(make_task("minecart-v0"))
    assert reason is not None
    assert "observations of integers" in reason
    assert AGENTS["pql"].supports(make_task("four-room-v0")) is None


def test_too_many_states_are_refused_with_the_number_met() -> None:
    agent = pql(make_task("four-room-v0"), steps=5000, max_states=40)
    with pytest.raises(StateSpaceError, match="max_states=40"):
        agent.learn(5000)
    assert len(agent.state_dict()["states"]) == 40


def test_a_budget_below_one_step_of_all_environments_is_refused() -> None:
    with pytest.raises(BudgetError, match="num_envs"):
        pql(make_task("fruit-tree-v0"), steps=5)


def test_the_answer_is_no_longer_than_asked_for() -> None:
    task = make_task("fruit-tree-v0")
    assert len(trained(task, 3000, policies=7).solutions()) == 7
