"""Baselines on objects: uniform sampling, NSGA-II and NSGA-III, MOREINFORCE."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from morl.agents import moreinforce, nsga2, nsga3, uniform_sampling
from morl.agents.learners.core.errors import BudgetError, MissingExtraError
from morl.agents.learners.gflownet.learner import Terms
from morl.agents.learners.search.evolution import reference_directions
from morl.compositional import NotCompositionalError
from morl.envs import make_task
from morl.evaluation import rollout
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import run
from morl.indicators import hypervolume_ratio
from morl.testing import check_agent
from morl.types import MorlError

GRID = make_task("hypergrid-v0", kwargs={"height": 8})
WHOLE = make_task("hypergrid-v0")
HAVE_PYMOO = importlib.util.find_spec("pymoo") is not None
needs_pymoo = pytest.mark.skipif(not HAVE_PYMOO, reason="needs the extra evolution")

MAKERS: dict[str, tuple[Callable[..., Any], Any]] = {
    "uniform_sampling": (uniform_sampling.UniformSampling, uniform_sampling.Config),
    "nsga2": (nsga2.NSGA2, nsga2.Config),
    "nsga3": (nsga3.NSGA3, nsga3.Config),
}
SEARCHES = [
    pytest.param("uniform_sampling"),
    pytest.param("nsga2", marks=needs_pymoo),
    pytest.param("nsga3", marks=needs_pymoo),
]


def agent(name: str, *, task=GRID, total_steps: int = 10**6, seed: int = 0, **settings):
    make, config = MAKERS[name]
    return make(task, config(**settings), total_steps=total_steps, seed=seed)


def trained(name: str, **settings):
    made = agent(name, **settings)
    while not made.finished:
        made.learn(10_000)
    return made


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_keep_the_contract_of_agents(name):
    make, config = MAKERS[name]
    check_agent(make, config(batch=10), GRID, total_steps=2000).raise_for_failures()


@pytest.mark.parametrize("name", SEARCHES)
def test_evaluations_are_a_budget_of_their_own(name):
    made = trained(name, batch=30, max_evaluations=100)
    assert made.evaluations == made.core.evaluations == 90
    assert made.learn(1000)["train/evaluations"] == 90.0


@pytest.mark.parametrize("name", SEARCHES)
def test_steps_are_the_actions_that_build_the_objects(name):
    task = make_task("n-grams-v0", kwargs={"ngrams": ["A"], "min_length": 5, "max_length": 5})
    made = trained(name, task=task, batch=10, max_evaluations=100)
    assert made.steps == 500
    limited = trained(name, task=task, batch=10, total_steps=499)
    assert limited.steps == 450


@pytest.mark.parametrize("name", SEARCHES)
def test_solutions_build_what_the_archive_holds(name):
    made = trained(name, batch=20, max_evaluations=200)
    solutions = made.solutions()
    played = rollout(GRID, solutions, seeds=[0, 1])
    np.testing.assert_allclose(played.points, made.archive.points)
    assert all(solution.policy.deterministic for solution in solutions)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_preference_gets_the_best_object(name):
    made = trained(name, batch=20, max_evaluations=200)
    preferences = np.array([[1.0, 0.0], [0.3, 0.7]])
    played = rollout(GRID, made.solutions(preferences), seeds=[0]).points
    np.testing.assert_allclose(
        (played * preferences).sum(axis=1), (preferences @ made.archive.points.T).max(axis=1)
    )


def test_before_the_first_round_a_preference_gets_some_object():
    made = agent("uniform_sampling")
    assert made.solutions() == []
    (solution,) = made.solutions(np.array([[0.5, 0.5]]))
    assert rollout(GRID, [solution], seeds=[0]).points.shape == (1, 2)


def test_a_budget_without_a_round_is_refused():
    message = "hypergrid-v0: a budget of 100 steps is less than one round of 128 objects"
    with pytest.raises(BudgetError, match=message):
        agent("uniform_sampling", total_steps=100)


def test_an_environment_without_objects_is_refused():
    with pytest.raises(NotCompositionalError, match="fruit-tree-v0"):
        agent("uniform_sampling", task=make_task("fruit-tree-v0"))


# Evolution


@needs_pymoo
@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_evolution_finds_the_whole_front_of_the_grid(name):
    made = trained(name, task=WHOLE, max_evaluations=8000)
    front = WHOLE.spec.known_front.points(1.0)
    found = {tuple(point) for point in made.archive.points.round(9).tolist()}
    assert len(found & {tuple(point) for point in front.round(9).tolist()}) >= 34


def test_even_lengths_reach_what_even_choices_do_not():
    task = make_task("hypergrid-v0", kwargs={"height": 32})
    rng = np.random.default_rng(0)
    near, far = (
        agent("uniform_sampling", task=task, even=even).walks(500, rng).lengths.mean()
        for even in ("choices", "lengths")
    )
    assert near < 4 < 25 < far
    with pytest.raises(ValueError, match="even must be one of choices, lengths, got 'odd'"):
        agent("uniform_sampling", even="odd")


@needs_pymoo
@pytest.mark.parametrize("crossover", ["two_point", "uniform"])
def test_evolution_beats_uniform_sampling_on_strings(crossover):
    task = make_task("n-grams-v0", kwargs={"ngrams": ["AV", "VC"]})
    front = task.spec.known_front.points(1.0)
    ratios = [
        hypervolume_ratio(made.archive.points, front, task.spec.reference_point)
        for made in (
            trained("nsga2", task=task, max_evaluations=3000, crossover=crossover),
            trained("uniform_sampling", task=task, max_evaluations=3000),
        )
    ]
    assert ratios[0] > 5 * ratios[1]


@needs_pymoo
def test_offspring_are_new_while_there_are_new_ones():
    made = agent("nsga2", batch=10)
    made.learn(1)
    before = {row.tobytes() for row in made.state_dict()["population"]["genomes"]}
    children = made._offspring(np.random.default_rng(0))
    assert len(children) == 10
    assert not before & {row.tobytes() for row in children}
    assert len({row.tobytes() for row in children}) == 10


@needs_pymoo
def test_without_mutation_genes_come_from_the_population():
    task = make_task("n-grams-v0")
    made = agent("nsga2", task=task, batch=20, mutations=0.0)
    made.learn(1)
    genomes = made.state_dict()["population"]["genomes"]
    children = made._mated(np.random.default_rng(0), 20)
    assert all((genomes == row).any(axis=0).all() for row in children)


@needs_pymoo
def test_without_crossover_and_mutation_children_are_their_parents():
    made = agent("nsga2", batch=20, mutations=0.0, crossover_share=0.0)
    made.learn(1)
    genomes = {row.tobytes() for row in made.state_dict()["population"]["genomes"]}
    children = made._mated(np.random.default_rng(0), 20)
    assert {row.tobytes() for row in children} <= genomes


@needs_pymoo
def test_a_task_smaller_than_the_population_still_breeds():
    tiny = make_task("hypergrid-v0", kwargs={"height": 2})
    made = trained("nsga2", task=tiny, batch=20, max_evaluations=100)
    assert made.evaluations == 100


@pytest.mark.parametrize(("objectives", "most", "count"), [(2, 100, 100), (3, 100, 91), (4, 3, 4)])
def test_reference_directions_are_as_many_as_fit(objectives, most, count):
    assert len(reference_directions(objectives, most)) == count


def test_without_pymoo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(MissingExtraError, match=r"nsga2 needs pymoo: .*morl-suite\[evolution\]"):
        agent("nsga2")
    assert issubclass(MissingExtraError, MorlError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 1}, "batch must be at least 2"),
        ({"crossover": "sbx"}, "crossover must be one of two_point, uniform"),
        ({"crossover_share": 1.5}, "crossover_share must be in"),
        ({"mutations": -1.0}, "mutations must not be negative"),
        ({"max_evaluations": 0}, "max_evaluations must be at least 1"),
    ],
)
def test_settings_without_meaning_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        nsga2.Config(**settings)


# MOREINFORCE


def reinforcing(**settings) -> moreinforce.MOReinforce:
    config = moreinforce.Config(**settings)
    return moreinforce.MOReinforce(GRID, config, total_steps=10**6, seed=0)


def test_moreinforce_keeps_the_contract_of_agents():
    config = moreinforce.Config(batch=10, hidden=(8,))
    check_agent(moreinforce.MOReinforce, config, GRID, total_steps=2000).raise_for_failures()


def test_the_policy_gradient_by_hand():
    # Rewards 1 and 3, mean 2: the gradient of each log-probability is minus (r - 2) / 2.
    forward = torch.zeros(3, requires_grad=True)
    terms = Terms(
        log_z=torch.zeros(2), log_forward=forward, log_reference=torch.ones(3), log_flows=None,
        rows=torch.tensor([0, 1, 1]), times=torch.tensor([0, 0, 1]),
    )  # fmt: skip
    moreinforce.policy_gradient(np.log([1.0, 3.0]))(terms).backward()
    np.testing.assert_allclose(forward.grad, [0.5, -0.5, -0.5])


def test_moreinforce_learns_to_earn():
    made = reinforcing(batch=64, hidden=(32,), learning_rate=1e-2)
    first = made.learn(1)["train/reward"]
    made.learn(20_000)
    assert made.learn(1)["train/reward"] > first + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": 0.0}, "agent.exponent"),
        ({"scalarisation": "min"}, "scalarisation must be one of"),
        ({"preference_bins": 1}, "preference_bins must be at least 2"),
    ],
)
def test_settings_of_moreinforce_without_meaning_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        moreinforce.Config(**settings)


# The record of a run


def test_a_result_counts_objective_evaluations(tmp_path):
    config = RunConfig(
        env=EnvConfig("hypergrid-v0", kwargs={"height": 8}),
        agent="uniform_sampling",
        agent_config=uniform_sampling.Config(batch=16, max_evaluations=200),
        steps=100_000,
        sync_every=200,
        eval_every=200,
        out=str(tmp_path),
        report_episodes=2,
        selection_episodes=1,
    )
    result = run(config, say=lambda line: None)
    assert result.budget.objective_evaluations == 192
    assert 192 <= result.budget.env_steps < 192 * 13
    evaluations = result.curve["objective_evaluations"]
    assert evaluations[-1] == 192.0
    assert list(evaluations) == sorted(evaluations)
    assert result.metrics["hypervolume_ratio"].value > 0.9


def test_environments_without_objects_have_no_such_count(tmp_path):
    config = RunConfig(
        env=EnvConfig("fruit-tree-v0"), agent="random_search", steps=500, out=str(tmp_path),
        report_episodes=2, selection_episodes=1,
    )  # fmt: skip
    assert run(config, say=lambda line: None).budget.objective_evaluations is None
