from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from morl.compositional import (
    CompositionError,
    NotCompositionalError,
    ObjectiveError,
    core_of,
    drawn,
    enumerate_graph,
    even_length_walks,
    first_legal,
    follow,
    object_probabilities,
    objective_evaluations,
    pareto_mass,
    pareto_objects,
    random_walks,
    walks_to,
)
from morl.envs import make_task
from morl.envs.hypergrid import Grid, HypergridCore
from morl.envs.n_grams import NGramsCore, Pieces
from morl.envs.strings import StringCore

RNG = np.random.default_rng(0)


class Lengths(StringCore):
    """Strings worth their length and what the test says."""

    def __init__(self, *, second: float = 1.0, cache: int = 0) -> None:
        super().__init__(
            name="lengths-v0", objective_names=("length", "other"), alphabet="ab",
            min_length=1, max_length=3, cache=cache,
        )  # fmt: skip
        self.second = second
        self.seen: list[str] = []

    def _objectives(self, states):
        self.seen += self.describe(states)
        lengths = self.lengths(states)
        return np.stack([lengths / 3, np.full(len(states), self.second)], axis=1)


def grid(height: int = 4, **settings) -> HypergridCore:
    return HypergridCore(Grid.checked(height=height, **settings))


# Walks


def test_an_illegal_action_becomes_the_next_legal_one():
    mask = np.array([[True, False, False, True], [False, True, False, False], [True] * 4])
    assert first_legal(mask, np.array([1, 2, 2])).tolist() == [3, 1, 2]
    assert first_legal(mask, np.array([3, 1, 0])).tolist() == [3, 1, 0]


def test_draws_are_even_among_legal_actions():
    mask = np.repeat([[True, False, True, True]], 30_000, axis=0)
    counts = np.bincount(drawn(mask, np.random.default_rng(1)), minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] / 30_000 - 1 / 3).max() < 0.01


def test_following_stops_with_each_object():
    core = Lengths()
    # a, stop; b, b, stop; a, b, a, which ends by itself.
    plans = np.array([[0, 2, -1], [1, 1, 2], [0, 1, 0]])
    walks = follow(core, 3, lambda _, rows, time: plans[rows, time])
    assert core.describe(walks.objects) == ["a", "bb", "aba"]
    assert walks.lengths.tolist() == [2, 3, 3]
    np.testing.assert_array_equal(walks.actions, plans)


def test_the_way_to_a_string_is_its_letters():
    core = Lengths()
    walks = walks_to(core, core.parse(["ba", "bab"]))
    assert walks.actions.tolist() == [[1, 0, 2], [1, 0, 1]]
    assert walks.lengths.tolist() == [3, 3]


def test_ways_through_a_grid_are_drawn_evenly_from_the_back():
    core = grid()
    corner = np.repeat([[1, 1]], 4000, axis=0)
    ways = walks_to(core, corner, np.random.default_rng(0)).actions[:, :2]
    assert abs((ways[:, 0] == 0).mean() - 0.5) < 0.03
    assert (ways.sum(axis=1) == 1).all()
    fixed = walks_to(core, corner[:1]).actions.tolist()[0]
    assert fixed == [1, 0, 2, -1, -1]


# The whole graph


def test_the_graph_of_a_small_grid_by_hand():
    # Cells with a coordinate of 2 end walks: 4 inner states, and 4 + 4 objects without the corner.
    graph = enumerate_graph(grid(3))
    assert graph.states.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert graph.levels.tolist() == [0, 1, 3, 4]
    assert len(graph.objects) == 8
    assert graph.children[0, :2].tolist() == [2, 1]
    assert graph.objects[graph.children[3] - 4].tolist() == [[2, 1], [1, 2], [1, 1]]


def test_probabilities_of_objects_by_hand():
    graph = enumerate_graph(grid(3))
    even = np.full((4, 3), 1 / 3)
    found = {
        tuple(cell): p
        for cell, p in zip(graph.objects.tolist(), object_probabilities(graph, even), strict=True)
    }
    assert found[0, 0] == pytest.approx(1 / 3)
    assert found[1, 0] == pytest.approx(1 / 9)
    assert found[2, 0] == pytest.approx(1 / 9)
    assert found[1, 1] == pytest.approx(2 / 27)  # by two ways
    assert found[2, 1] == pytest.approx(2 / 27)
    assert sum(found.values()) == pytest.approx(1.0)


def test_probabilities_of_many_policies_are_those_of_each():
    core = grid(4)
    graph = enumerate_graph(core)
    policies = RNG.dirichlet(np.ones(3), size=(5, len(graph.states)))
    together = object_probabilities(graph, policies)
    alone = [object_probabilities(graph, policy) for policy in policies]
    np.testing.assert_allclose(together, alone)
    np.testing.assert_allclose(together.sum(axis=1), 1.0)
    mass = pareto_mass(together, pareto_objects(core, graph))
    assert mass.shape == (5,)


def test_probabilities_agree_with_sampling():
    core = grid(4)
    graph = enumerate_graph(core)
    exact = object_probabilities(graph, graph.mask / graph.mask.sum(axis=1, keepdims=True))
    walks = random_walks(core, 40_000, np.random.default_rng(0))
    seen = {key: index for index, key in enumerate(core.keys(graph.objects))}
    counts = np.bincount([seen[key] for key in core.keys(walks.objects)], minlength=len(exact))
    assert np.abs(counts / 40_000 - exact).sum() / 2 < 0.01


def test_even_lengths_are_even_and_so_are_the_letters():
    task = Pieces.checked(ngrams=["A", "C"], alphabet="ABC", min_length=2, max_length=4)
    core = NGramsCore(task)
    words = core.describe(even_length_walks(core, 9000, np.random.default_rng(0)).objects)
    counts = np.bincount([len(word) for word in words], minlength=5)
    assert np.abs(counts - [0, 0, 3000, 3000, 3000]).max() < 200  # four standard deviations
    letters = "".join(words)
    assert abs(letters.count("A") / len(letters) - 1 / 3) < 0.02


def test_mass_on_the_pareto_set_is_that_of_all_its_objects():
    task = Pieces.checked(ngrams=["A", "C"], alphabet="ABC", min_length=2, max_length=2)
    core = NGramsCore(task)
    graph = enumerate_graph(core)
    pareto = pareto_objects(core, graph)
    # AA, AC, CA and CC: equal values count all.
    assert sorted(core.describe(graph.objects[pareto])) == ["AA", "AC", "CA", "CC"]
    even = graph.mask / graph.mask.sum(axis=1, keepdims=True)
    assert pareto_mass(object_probabilities(graph, even), pareto) == pytest.approx(4 / 9)


def test_a_graph_that_is_too_large_is_refused():
    with pytest.raises(CompositionError, match="n-grams-v0: more than 1,000 states"):
        enumerate_graph(core_of(make_task("n-grams-v0")), limit=1000)


# Values


def test_evaluations_are_counted_and_calls_saved():
    core = Lengths(cache=10)
    before = objective_evaluations()
    first = core.evaluate(core.parse(["a", "ab", "a"]))
    assert core.seen == ["a", "ab"]
    second = core.evaluate(core.parse(["ab", "b"]))
    assert core.seen == ["a", "ab", "b"]
    assert (core.evaluations, core.objective_calls) == (5, 3)
    assert objective_evaluations() - before == 5
    np.testing.assert_allclose(first, [[1 / 3, 1], [2 / 3, 1], [1 / 3, 1]])
    np.testing.assert_allclose(second, [[2 / 3, 1], [1 / 3, 1]])
    core.restore_counts(evaluations=50, objective_calls=30)
    assert (core.evaluations, core.objective_calls) == (50, 30)


def test_two_threads_book_their_own_evaluations():
    barrier = threading.Barrier(2, timeout=10)

    def spend(words):
        core, before = Lengths(), objective_evaluations()
        barrier.wait()  # both have read the counter before either evaluates
        core.evaluate(core.parse(words))
        barrier.wait()  # both have evaluated before either reads it again
        return objective_evaluations() - before

    with ThreadPoolExecutor(2) as pool:
        booked = list(pool.map(spend, (["a"], ["a", "b", "ab"])))
    assert booked == [1, 3]


def test_looking_is_not_counted():
    core, before = Lengths(cache=10), objective_evaluations()
    core.values(core.parse(["a"]))
    grid().reference_front()
    assert core.evaluations == objective_evaluations() - before == 0


def test_a_full_cache_forgets_the_oldest():
    core = Lengths(cache=2)
    core.evaluate(core.parse(["a", "b", "ab"]))  # more at once than there is room for
    core.evaluate(core.parse(["b", "ab"]))
    assert core.objective_calls == 3
    core.evaluate(core.parse(["a"]))
    assert core.objective_calls == 4


def test_without_a_cache_every_evaluation_is_a_call():
    core = Lengths()
    core.evaluate(core.parse(["a", "a"]))
    assert core.objective_calls == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.25])
@pytest.mark.parametrize("cache", [0, 10])
def test_a_value_that_is_no_reward_names_object_objective_and_remedy(value, cache):
    core = Lengths(second=value, cache=cache)
    message = rf"lengths-v0: other of ab is {value}.*correct the objective, or leave it out"
    with pytest.raises(ObjectiveError, match=message):
        core.evaluate(core.parse(["ab", "b"]))


def test_values_of_a_wrong_shape_are_refused():
    core = Lengths()
    core._objectives = lambda states: np.ones((len(states), 3))
    with pytest.raises(CompositionError, match=r"shape \(1, 2\), got \(1, 3\)"):
        core.values(core.parse(["a"]))


# Tasks


def test_an_environment_without_objects_is_named():
    with pytest.raises(NotCompositionalError, match="fruit-tree-v0: its episodes build no objects"):
        core_of(make_task("fruit-tree-v0"))


def test_a_task_gives_a_core_of_its_own_each_time():
    task = make_task("hypergrid-v0", kwargs={"height": 8})
    first, second = core_of(task), core_of(task)
    first.evaluate(first.initial(3))
    assert (first.evaluations, second.evaluations) == (3, 0)
    assert first.grid.height == 8
