"""The core of agents on the population PPO: what it does for an agent of a few lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from morl.agents.learners.core.errors import BudgetError
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.ppo.agent import PopulationAgent, PopulationConfig, fitted
from morl.agents.learners.ppo.learner import Experience
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.registry import AGENTS
from morl.testing import check_agent
from morl.types import State, Task

SMALL: dict[str, Any] = {
    "num_envs": 2, "rollout_steps": 12, "epochs": 2, "minibatch": 16, "hidden": (8,),
}  # fmt: skip


@dataclass
class WorstFirstConfig(PopulationConfig):
    """Settings of the toy agent; those of the population."""


class WorstFirst(PopulationAgent):
    """Four policies; each maximises the objective in which it is worst at present."""

    def __init__(self, task: Task, config: PopulationConfig, *, total_steps: int, seed: int):
        super().__init__(
            task, config, total_steps=total_steps, seed=seed, name="worst_first", num_policies=4
        )

    def improve(self, experience: Experience) -> dict[str, float]:
        worst = np.nan_to_num(experience.returns).argmin(axis=1)
        advantage = np.take_along_axis(experience.advantages, worst[:, None, None], axis=2)[..., 0]
        rate = self._population_config.learning_rate
        return self._learner.improve(experience, advantage, learning_rate=rate, rng=self._rng)


def test_an_agent_of_a_few_lines_keeps_the_whole_contract() -> None:
    task = make_task("deep-sea-treasure-v0", horizon=20)
    config = WorstFirstConfig(**SMALL)
    check_agent(WorstFirst, config, task, total_steps=2000).raise_for_failures()


def population(task: Task, steps: int, **settings: Any) -> WorstFirst:
    return WorstFirst(task, WorstFirstConfig(**{**SMALL, **settings}), total_steps=steps, seed=0)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_evaluations_keep_to_their_share(share: float) -> None:
    agent = population(make_task("fruit-tree-v0"), 20_000, selection_share=share)
    readings = agent.learn(20_000)
    # The last one, which hands over what was trained, is allowed beyond it.
    assert 0.5 * share < readings["steps/selection"] / agent.steps < share + 0.02


def test_one_episode_is_enough_where_chance_plays_no_part() -> None:
    certain = population(make_task("fruit-tree-v0"), 4000)
    certain.learn(4000)
    assert certain.state_dict()["counters"]["selection_episodes"] == 1
    chancy = population(make_task("random-momdp-v0", kwargs={"seed": 2}), 4000)
    chancy.learn(4000)
    assert chancy.state_dict()["counters"]["selection_episodes"] == 5
    asked = population(make_task("fruit-tree-v0"), 4000, adaptive_selection=False)
    asked.learn(4000)
    assert asked.state_dict()["counters"]["selection_episodes"] == 5


def test_rollouts_are_short_enough_for_the_budget() -> None:
    config = PopulationConfig(num_envs=8, rollout_steps=256, minibatch=256, min_updates=100)
    long = fitted(config, total_steps=10_000_000, num_policies=6)
    assert long == config
    middle = fitted(config, total_steps=480_000, num_policies=6)
    assert (middle.rollout_steps, middle.minibatch) == (100, 200)
    short = fitted(config, total_steps=10_000, num_policies=6)
    assert (short.rollout_steps, short.minibatch) == (32, 64)
    assert fitted(replace(config, min_updates=1), total_steps=13_000, num_policies=6) == replace(
        config, min_updates=1
    )


def test_a_budget_below_one_update_is_refused() -> None:
    with pytest.raises(BudgetError, match="update of 4 policies"):
        population(make_task("fruit-tree-v0"), 90)


@pytest.mark.parametrize("encoding", ["raw", "one_hot", "both"])
def test_policies_see_what_the_learner_saw(encoding: str) -> None:
    task = make_task("random-momdp-v0", kwargs={"seed": 1})
    agent = population(task, 3000, encoding=encoding)
    agent.learn(3000)
    solutions = agent.solutions()
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, solutions, seeds=seeds).discounted[:, 0]
    np.testing.assert_allclose(returns, agent.archive.points)
    rows, columns = task.make_vec(1).single_observation_space.high + 2
    assert rows == columns  # the bounds of the grid begin at -1
    sizes = {"raw": 2, "one_hot": 2 * rows, "both": 2 + 2 * rows}
    assert solutions[0].policy.spec.observation_size == sizes[encoding]


def test_codes_are_not_standardised() -> None:
    agent = population(make_task("random-momdp-v0", kwargs={"seed": 1}), 3000, encoding="both")
    agent.learn(3000)
    moments = agent.learner.observation_moments
    assert (moments.mean[:, 2:] == 0.0).all()
    assert (moments.variance[:, 2:] == 1.0).all()
    assert (moments.variance[:, :2] != 1.0).all()


def test_moments_of_a_part_are_those_of_the_part_alone() -> None:
    samples = np.random.default_rng(0).normal(size=(2, 50, 3))
    part, whole = RunningMoments(2, 3), RunningMoments(2, 2)
    for chunk in (samples[:, :20], samples[:, 20:]):
        part.update(chunk, features=2)
        whole.update(chunk[:, :, :2])
    np.testing.assert_array_equal(part.mean[:, :2], whole.mean)
    np.testing.assert_array_equal(part.variance[:, :2], whole.variance)
    np.testing.assert_array_equal(part.count, whole.count)


def test_fixed_weights_reach_the_ends_of_a_front() -> None:
    task = make_task("deep-sea-treasure-v0")
    entry = AGENTS["mo_ppo"]
    agent = entry.make(task, entry.config(preferences=3), total_steps=40_000, seed=1)
    agent.learn(40_000)
    hasty, _ = agent.solutions(np.array([[0.0, 1.0], [1.0, 0.0]]))
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, [hasty], seeds=seeds).discounted[0, 0]
    assert returns[1] == pytest.approx(-1.0)


def test_weights_are_a_lattice() -> None:
    task = make_task("fruit-tree-v0")
    entry = AGENTS["mo_ppo"]
    agent = entry.make(task, entry.config(preferences=6), total_steps=40_000, seed=1)
    np.testing.assert_array_equal(agent._preferences, np.eye(6)[::-1])


def test_state_of_the_core_holds_the_extra_state() -> None:
    class Counting(WorstFirst):
        seen = 0

        def after_update(self) -> None:
            self.seen += 1

        def extra_state(self) -> State:
            return {"seen": self.seen}

        def load_extra_state(self, state: State) -> None:
            self.seen = state["seen"]

    task = make_task("fruit-tree-v0")
    first, second = (
        Counting(task, WorstFirstConfig(**SMALL), total_steps=2000, seed=0) for _ in range(2)
    )
    first.learn(1000)
    second.load_state_dict(first.state_dict())
    assert second.seen == first.seen > 0


def test_what_was_trained_is_handed_over_where_episodes_are_long() -> None:
    """The longest episodes of four policies take nearly the whole budget."""
    task = make_task("deep-sea-treasure-v0", horizon=400)
    agent = population(task, 2000)
    agent.learn(2000)
    assert agent.steps <= 2000
    assert len(agent.archive) > 0


def test_policies_that_were_never_evaluated_are_handed_over_as_they_are() -> None:
    task = make_task("deep-sea-treasure-v0", horizon=1000)
    agent = population(task, 2000)
    agent.learn(2000)
    assert len(agent.archive) == 0
    assert len(agent.solutions()) == 4
    assert len(agent.solutions(np.array([[0.5, 0.5], [1.0, 0.0]]))) == 2
