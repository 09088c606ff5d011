"""Networks as rows of numbers, their trials, and the agents that evolve them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import levers
import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.evolution_strategy import moved, recombination_weights
from morl.agents.learners.core.action_map import ActionMap
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.search.genomes import GenomePolicy, GenomeShape
from morl.agents.learners.search.trials import Played, Trials
from morl.agents.neuro_moead import nearest_rows
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.registry import AGENTS
from morl.types import NonFiniteError, Solution, Task

NEURO = ("neuro_hype", "neuro_moead", "neuro_nsga2", "neuro_nsga3")
ALL = (*NEURO, "evolution_strategy")
DISCRETE = ActionMap(None, None, np.dtype(np.int64))


def shape(hidden: int, encoding: str = "both") -> GenomeShape:
    space = spaces.Box(0, 2, (2,), np.int32)
    encoder = ObservationEncoder.of(space, encoding, max_inputs=50, env_id="grid-v0")
    return GenomeShape(encoder=encoder, hidden=hidden, outputs=3, actions=DISCRETE)


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("encoding", ["raw", "one_hot", "both"])
def test_outputs_are_those_of_the_network(hidden: int, encoding: str) -> None:
    form = shape(hidden, encoding)
    rng = np.random.default_rng(0)
    genomes = rng.normal(size=(3, form.size))
    observations = rng.integers(0, 3, (3, 5, 2))
    outputs = form.outputs_of(genomes, observations)
    for policy, genome in enumerate(genomes):
        inputs = form.encoder(observations[policy])
        if encoding == "raw":
            inputs = inputs / (1.0 + np.abs(inputs))
        width = hidden or 3
        split = (form.encoder.num_inputs + 1) * width
        first = genome[:split].reshape(-1, width)
        units = inputs @ first[:-1] + first[-1]
        if hidden:
            second = genome[split:].reshape(-1, 3)
            units = np.tanh(units) @ second[:-1] + second[-1]
        np.testing.assert_allclose(outputs[policy], units)


def test_fresh_genomes_have_outputs_of_about_one() -> None:
    form = shape(16)
    genomes = np.random.default_rng(1).normal(size=(2000, form.size)) * form.scales()
    outputs = form.outputs_of(genomes, np.ones((2000, 1, 2), np.int32))
    assert 0.3 < outputs.std() < 1.5


def test_stacked_policies_act_as_each_alone() -> None:
    form = shape(4)
    rng = np.random.default_rng(2)
    policies = [GenomePolicy(form, rng.normal(size=form.size)) for _ in range(3)]
    observations = rng.integers(0, 3, (3, 7, 2))
    together = GenomePolicy.stack(policies).act(observations, rng=rng)
    alone = [each.act(rows, rng=rng) for each, rows in zip(policies, observations, strict=True)]
    np.testing.assert_array_equal(together, np.stack(alone))


def linear(task: Task) -> GenomeShape:
    space = task.make_vec(1).single_observation_space
    encoder = ObservationEncoder.of(space, "raw", max_inputs=50, env_id=task.spec.id)
    return GenomeShape(encoder=encoder, hidden=0, outputs=4, actions=DISCRETE)


def played_by(
    form: GenomeShape, genomes: np.ndarray, task: Task, budget: Budget, *, seeds: list[int]
) -> Played:
    return Trials(task, budget, seed=0).play(
        lambda observations, masks: form.act(genomes, observations, masks),
        policies=len(genomes),
        seeds=seeds * len(genomes),
    )


def test_trials_return_what_the_evaluation_measures() -> None:
    task = make_task("deep-sea-treasure-v0", horizon=30)
    form = linear(task)
    genomes = np.random.default_rng(3).normal(size=(6, form.size))
    budget = Budget(10_000)
    played = played_by(form, genomes, task, budget, seeds=[1, 2])
    assert played.whole.all()
    solutions = [Solution(GenomePolicy(form, genome)) for genome in genomes]
    episodes = rollout(task, solutions, seeds=[1, 2])
    np.testing.assert_allclose(played.returns, episodes.discounted)
    assert budget.steps == int(episodes.lengths.sum())


def test_trials_end_with_the_budget_and_do_not_exceed_it() -> None:
    task = make_task("deep-sea-treasure-v0", horizon=30)
    form = linear(task)
    budget = Budget(7)
    played = played_by(form, np.zeros((4, form.size)), task, budget, seeds=[0])
    assert not played.whole.any()
    assert budget.steps == 7


def test_rewards_that_are_not_finite_are_named() -> None:
    task = levers.task(nan_step=3)
    entry = AGENTS["neuro_nsga2"]
    agent = entry.make(task, replace(entry.config(), population=4), total_steps=5000, seed=0)
    with pytest.raises(NonFiniteError, match="not finite"):
        agent.learn(5000)


def trained(name: str, task: Task, steps: int, **settings: Any) -> Any:
    entry = AGENTS[name]
    agent = entry.make(task, replace(entry.config(), **settings), total_steps=steps, seed=1)
    agent.learn(steps)
    return agent


@pytest.mark.parametrize("name", ALL)
def test_chance_is_seen_and_answered_by_several_episodes(name: str) -> None:
    certain = trained(name, make_task("deep-sea-treasure-v0", horizon=30), 3000)
    chancy = trained(name, make_task("random-momdp-v0", kwargs={"seed": 106}), 3000)
    assert certain.state_dict()["episodes"] == 1
    assert chancy.state_dict()["episodes"] == 4


@pytest.mark.parametrize("name", NEURO)
def test_the_population_fits_the_budget(name: str) -> None:
    task = make_task("deep-sea-treasure-v0", horizon=100)
    small = trained(name, task, 4000).state_dict()
    large = trained(name, make_task("fruit-tree-v0"), 40_000).state_dict()
    assert len(small["population"]["genomes"]) == 4
    assert len(large["population"]["genomes"]) == 100
    assert large["generations"] >= 20


@pytest.mark.parametrize("name", ALL)
def test_members_of_the_archive_earn_their_points_again(name: str) -> None:
    task = make_task("deep-sea-treasure-concave-v0")
    agent = trained(name, task, 10_000)
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, agent.solutions(), seeds=seeds).discounted[:, 0]
    np.testing.assert_allclose(returns, agent.state_dict()["points"])


@pytest.mark.parametrize("name", ALL)
def test_it_does_not_matter_how_often_learning_is_interrupted(name: str) -> None:
    task = make_task("fruit-tree-v0")
    entry = AGENTS[name]
    once, often = (entry.make(task, entry.config(), total_steps=6000, seed=2) for _ in range(2))
    once.learn(6000)
    while not often.finished:
        often.learn(50)
    np.testing.assert_array_equal(once.state_dict()["points"], often.state_dict()["points"])


@pytest.mark.parametrize("name", ALL)
def test_continuous_actions_stay_within_their_box(name: str) -> None:
    task = make_task("linear-quadratic-v0")
    agent = trained(name, task, 6000)
    solution = agent.solutions()[0]
    actions = solution.policy.act(np.full((5, 2), 9.0, np.float32), rng=np.random.default_rng(0))
    assert actions.shape == (5, 2)
    assert np.abs(actions).max() <= 1.0


def test_recombination_weights_fall_and_sum_to_one() -> None:
    weights = recombination_weights(10)
    assert len(weights) == 5
    assert weights.sum() == pytest.approx(1.0)
    assert (np.diff(weights) < 0).all()


def test_means_move_towards_the_better_half() -> None:
    noise = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    fitness = np.array([[4.0, 1.0, 3.0, 0.0]])
    zeros = np.zeros((1, 2))
    means, paths, sigmas = moved(zeros, zeros, np.array([0.5]), noise, fitness)
    first, second = recombination_weights(4)
    np.testing.assert_allclose(means, [[0.5 * first, 0.5 * second]])
    assert (paths > 0).all()
    assert sigmas.shape == (1,)


def test_a_strategy_climbs_a_slope() -> None:
    rng = np.random.default_rng(0)
    means, paths, sigmas = np.zeros((1, 5)), np.zeros((1, 5)), np.array([0.5])
    for _ in range(200):
        half = rng.normal(size=(1, 5, 5))
        noise = np.concatenate([half, -half], axis=1)
        points = means[:, None] + sigmas[:, None, None] * noise
        means, paths, sigmas = moved(
            means, paths, sigmas, noise, -np.square(points - 3.0).sum(axis=2)
        )
    np.testing.assert_allclose(means, 3.0, atol=0.01)
    assert sigmas[0] < 0.1


def test_the_nearest_rows_begin_with_the_row_itself() -> None:
    weights = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
    nearest = nearest_rows(weights, 2)
    assert nearest[:, 0].tolist() == [0, 1, 2, 3]
    assert nearest[2].tolist() == [2, 3]
    assert nearest_rows(weights, 9).shape == (4, 4)
