"""Survival of populations: small cases by hand, and what each way promises."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.learners.search.survival import (
    by_crowding,
    by_decomposition,
    by_directions,
    by_hypervolume,
    chebyshev,
    fronts_by_rank,
    nearest_direction,
)
from morl.indicators import hypervolume
from morl.preferences import lattice, sobol_simplex, spread_preferences

POINTS = np.array([[3.0, 0.0], [0.0, 3.0], [2.0, 2.0], [1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])


def test_fronts_by_hand_with_copies_last() -> None:
    fronts = [front.tolist() for front in fronts_by_rank(POINTS)]
    assert fronts == [[0, 1, 2], [3], [5], [4]]


@pytest.mark.parametrize("choose", [by_crowding, by_hypervolume,
    lambda returns, count: by_directions(returns, count, lattice(2, 4))])  # fmt: skip
def test_the_first_front_survives_whole_before_others_and_copies(choose) -> None:
    assert sorted(choose(POINTS, 3).tolist()) == [0, 1, 2]
    assert sorted(choose(POINTS, 4).tolist()) == [0, 1, 2, 3]
    assert sorted(choose(POINTS, 6).tolist()) == [0, 1, 2, 3, 4, 5]


def test_the_crowded_go_first() -> None:
    line = np.array([[0.0, 10.0], [1.0, 9.0], [1.1, 8.9], [6.0, 4.0], [10.0, 0.0]])
    assert sorted(by_crowding(line, 4).tolist()) in ([0, 1, 3, 4], [0, 2, 3, 4])


def test_what_adds_least_hypervolume_goes_first() -> None:
    line = np.array([[0.0, 10.0], [4.0, 8.0], [5.0, 5.0], [5.1, 4.9], [10.0, 0.0]])
    kept = by_hypervolume(line, 4)
    best = max(
        hypervolume(np.delete(line, index, axis=0), (-1.0, -1.0)).value for index in range(5)
    )
    assert hypervolume(line[kept], (-1.0, -1.0)).value == pytest.approx(best)


def test_many_objectives_lose_all_the_least_at_once() -> None:
    points = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    assert len(np.unique(by_hypervolume(points, 10))) == 10


def test_the_nearest_direction_is_that_of_the_smallest_angle() -> None:
    nearest, distances = nearest_direction(
        np.array([[1.0, 0.1], [2.0, 2.0]]), np.array([[1.0, 0.0], [0.5, 0.5]])
    )
    assert nearest.tolist() == [0, 1]
    np.testing.assert_allclose(distances, [0.1, 0.0], atol=1e-6)


def test_directions_without_members_are_served_first() -> None:
    crowd = np.array([[0.02 * i, 10.0 - 0.02 * i] for i in range(10)])
    points = np.vstack([crowd, [[9.0, 1.0]], [[5.0, 5.0]]])
    kept = by_directions(points, 3, lattice(2, 2))
    assert {10, 11} <= set(kept.tolist())


def test_chebyshev_by_hand() -> None:
    distances = chebyshev(
        np.array([[1.0, 3.0]]), np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([3.0, 4.0]),
        np.array([2.0, 2.0]),
    )  # fmt: skip
    # Shortfalls of 1 and 1/2 of the range.
    np.testing.assert_allclose(distances[:, 0], [0.5 + 0.01 * 0.75, 1.0 + 0.01])


def test_decomposition_keeps_the_best_of_own_and_neighbours() -> None:
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    parents = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    offspring = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    near = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], np.bool_)
    kept = by_decomposition(np.vstack([parents, offspring]), weights, near)
    assert kept[0] == 3
    assert kept[2] == 5
    alone = by_decomposition(np.vstack([parents, offspring]), weights, np.zeros((3, 3), np.bool_))
    assert alone.tolist() == [0, 1, 2]


def test_spread_preferences_are_a_lattice_and_then_the_sobol_set() -> None:
    np.testing.assert_array_equal(spread_preferences(2, 5), lattice(2, 4))
    rows = spread_preferences(3, 8)
    np.testing.assert_array_equal(rows[:6], lattice(3, 2))
    np.testing.assert_array_equal(rows[6:], sobol_simplex(3, 2))
    assert spread_preferences(6, 3).shape == (3, 6)
    assert spread_preferences(1, 4).tolist() == [[1.0]] * 4
