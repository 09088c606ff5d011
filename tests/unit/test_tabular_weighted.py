"""Values for many preferences on a learned model, and the agents that use them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.tabular.model import END, ModelTables, record
from morl.agents.learners.tabular.states import StateNumbers
from morl.agents.learners.tabular.weighted import (
    GreedyPolicy,
    WeightedValues,
    best_action,
    scalarised,
)
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.exact import supported
from morl.indicators import hypervolume
from morl.registry import AGENTS
from morl.types import Task

WEIGHTED = ("mo_q_learning", "mp_mo_q")


def model_of(rows: list[tuple[int, int, list[float], int]]) -> ModelTables:
    model = ModelTables.empty(2, 2)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    record(model, columns[0], columns[1], columns[2].astype(float), columns[3], 0)
    return model


BY_HAND = model_of(
    [
        (0, 0, [0.0, 1.0], 1),
        (0, 1, [1.0, 0.0], 1),
        (0, 1, [1.0, 0.0], END),
        (1, 0, [4.0, 0.0], END),
        (1, 1, [0.0, 4.0], END),
    ]
)


def test_worth_by_hand() -> None:
    vector, weights, utopia = np.array([1.0, 3.0]), np.array([0.5, 0.5]), np.array([4.0, 4.0])
    assert scalarised(vector, weights, utopia, False) == 2.0
    assert scalarised(vector, weights, utopia, True) == -1.5


def test_vectors_by_hand() -> None:
    values = WeightedValues(np.eye(2), discount=0.5)
    values.settle(BY_HAND, 2)
    assert values.values[1].tolist() == [[4.0, 0.0], [0.0, 4.0]]
    # For the first objective action 0 earns 2 later, action 1 earns 1 now and half of that later.
    assert values.values[0].tolist() == [[2.0, 1.0], [0.0, 3.0]]
    assert values.frozen(BY_HAND, 2).tolist() == [[0, 0], [0, 1]]


def test_an_action_that_was_never_tried_is_not_taken() -> None:
    vector = np.empty(2)
    model = model_of([(0, 1, [-5.0, -5.0], END)])
    chosen = best_action(
        model, np.zeros((64, 1, 2)), 0, 0, np.array([1.0, 0.0]), np.zeros(2), False, 1.0, vector
    )
    assert chosen == 1
    assert vector.tolist() == [-5.0, -5.0]


def test_a_new_preference_begins_with_its_neighbours_values() -> None:
    values = WeightedValues(np.eye(2), discount=0.5)
    values.settle(BY_HAND, 2)
    values.extend(np.array([0.9, 0.1]))
    assert values.values[0, 2].tolist() == values.values[0, 0].tolist()
    assert values.weights.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]


def test_copies_share_nothing() -> None:
    values = WeightedValues(np.eye(2), discount=0.5)
    twin = values.copy()
    twin.settle(BY_HAND, 2)
    assert (values.values == 0.0).all()
    assert (twin.values[:2] != 0.0).any()


def test_a_greedy_policy_takes_the_first_action_where_it_knows_nothing() -> None:
    numbers = StateNumbers((1,), np.dtype(np.int32), max_states=9, env_id="grid-v0")
    numbers.learn(np.array([[5], [6]]))
    first, second = (GreedyPolicy(numbers, np.array(actions)) for actions in ([1, 2], [3, 0]))
    rng = np.random.default_rng(0)
    assert first.act(np.array([[6], [5], [9]]), rng=rng).tolist() == [2, 1, 0]
    together = GreedyPolicy.stack([first, second]).act(np.full((2, 1, 1), 5), rng=rng)
    assert together.tolist() == [[1], [3]]


def trained(name: str, task: Task, steps: int, **settings: Any) -> Any:
    entry = AGENTS[name]
    agent = entry.make(task, replace(entry.config(), **settings), total_steps=steps, seed=1)
    agent.learn(steps)
    return agent


def share(agent: Any, exact: np.ndarray) -> float:
    task = agent._task
    seeds = evaluation_seeds(task.spec, "report", 16)
    returns = rollout(task, agent.solutions(), seeds=seeds).discounted.mean(axis=1)
    corner = task.spec.reference_point
    return hypervolume(returns, corner).value / hypervolume(exact, corner).value


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("seed", [1, 4, 106])
def test_the_convex_part_of_a_front_is_found(name: str, seed: int) -> None:
    task = make_task("random-momdp-v0", kwargs={"seed": seed})
    front = task.spec.known_front.points(task.spec.discount)
    agent = trained(name, task, 20_000)
    # A lattice of preferences misses corners that linear support finds.
    assert share(agent, front[supported(front)]) > (0.85 if name == "mo_q_learning" else 0.95)


def test_linear_support_finds_all_treasures_and_says_that_no_room_is_left() -> None:
    task = make_task("deep-sea-treasure-v0")
    agent = trained("mp_mo_q", task, 30_000)
    assert share(agent, task.spec.known_front.points(task.spec.discount)) == pytest.approx(1.0)
    room = agent.learn(0)["train/room"] if not agent.finished else agent._room
    assert room < 0.01


def test_shortfalls_choose_the_compromise_that_sums_never_do() -> None:
    model = ModelTables.empty(3, 2)
    rewards = np.array([[4.0, 0.0], [0.0, 4.0], [1.5, 1.5]])
    record(model, np.zeros(3, int), np.arange(3), rewards, np.full(3, END), 0)
    chosen = {}
    for chebyshev in (False, True):
        values = WeightedValues(np.array([[0.5, 0.5]]), discount=1.0, chebyshev=chebyshev)
        values.utopia = np.array([4.0, 4.0])
        chosen[chebyshev] = values.act(model, 0, 0)
    assert chosen[False] in (0, 1)
    assert chosen[True] == 2


@pytest.mark.parametrize("name", WEIGHTED)
def test_preferences_get_the_best_policy_for_them(name: str) -> None:
    task = make_task("deep-sea-treasure-v0")
    hasty, greedy = trained(name, task, 10_000).solutions(np.array([[0.0, 1.0], [1.0, 0.0]]))
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, [hasty, greedy], seeds=seeds).discounted[:, 0]
    assert returns[0, 1] == pytest.approx(-1.0)
    assert returns[1, 0] > 15.0


@pytest.mark.parametrize("name", WEIGHTED)
def test_it_does_not_matter_how_often_learning_is_interrupted(name: str) -> None:
    task = make_task("random-momdp-v0", kwargs={"seed": 2})
    entry = AGENTS[name]
    once, often = (entry.make(task, entry.config(), total_steps=3000, seed=2) for _ in range(2))
    once.learn(3000)
    while not often.finished:
        often.learn(50)
        often.solutions()
    first, second = once.state_dict(), often.state_dict()
    np.testing.assert_array_equal(first["values"]["values"], second["values"]["values"])
    np.testing.assert_array_equal(first["values"]["weights"], second["values"]["weights"])


@pytest.mark.parametrize("name", WEIGHTED)
def test_observations_that_do_not_repeat_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedTaskError, match=f"minecart-v0: {name} keeps a table"):
        trained(name, make_task("minecart-v0"), 1000)


def test_nothing_is_learned_from_flipped_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    from morl.agents.learners.tabular import agent as core

    def flipped(model, states, actions, rewards, successors, first):
        return record(model, states, actions, -np.asarray(rewards), successors, first)

    monkeypatch.setattr(core, "record", flipped)
    task = make_task("deep-sea-treasure-v0")
    agent = trained("mp_mo_q", task, 10_000)
    assert share(agent, task.spec.known_front.points(task.spec.discount)) < 0.5
