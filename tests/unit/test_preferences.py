import hashlib
from importlib import resources
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import morl.preferences
from morl.preferences import (
    PAPER_LATTICES,
    SOBOL_COUNT,
    SOBOL_SHA256,
    PreferenceError,
    check_preferences,
    dirichlet,
    lattice,
    paper_lattice,
    sobol_simplex,
)


def harmonic(n):
    return sum(1 / k for k in range(1, n + 1))


def test_a_lattice_of_two_objectives_runs_from_one_corner_to_the_other():
    assert lattice(2, 4).tolist() == [[0, 1], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1, 0]]


def test_a_lattice_of_half_steps_has_corners_and_middles_of_edges():
    assert lattice(3, 2).tolist() == [
        [0, 0, 1],
        [0, 0.5, 0.5],
        [0, 1, 0],
        [0.5, 0, 0.5],
        [0.5, 0.5, 0],
        [1, 0, 0],
    ]


@pytest.mark.parametrize(
    ("num_objectives", "divisions", "count", "found_by_comparing_floats"),
    [(3, 10, 66, 62), (3, 20, 231, 217), (3, 100, 5151, 5027), (4, 10, 286, 258)],
)
def test_no_preference_is_lost_to_rounding(
    num_objectives, divisions, count, found_by_comparing_floats
):
    preferences = lattice(num_objectives, divisions)
    # What the released codes of PD-MORL and C-MORL do instead.
    axes = np.meshgrid(*[np.linspace(0, 1, divisions + 1)] * num_objectives, indexing="ij")
    grid = np.stack(axes, axis=-1).reshape(-1, num_objectives)

    assert len(preferences) == count
    assert np.count_nonzero(grid.sum(axis=1) == 1) == found_by_comparing_floats
    assert len(np.unique(np.rint(preferences * divisions), axis=0)) == count


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_lattice_is_complete_and_on_the_simplex(num_objectives, divisions):
    preferences = lattice(num_objectives, divisions)
    parts = np.rint(preferences * divisions)

    assert len({tuple(row) for row in parts}) == comb(divisions + num_objectives - 1, divisions)
    assert (parts.sum(axis=1) == divisions).all()
    np.testing.assert_allclose(preferences, check_preferences(parts / divisions), atol=1e-15)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("c-morl/mujoco-2", 101),
        ("c-morl/mujoco-3", 66),
        ("c-morl/building-3", 66),
        ("c-morl/minecart", 6),
        ("c-morl/lunar-lander", 10),
        ("c-morl/fruit-tree", 21),
        ("c-morl/building-9", 45),
        ("pgmorl/tasks-2", 6),
        ("pgmorl/tasks-3", 15),
    ],
)
def test_the_papers_lattices_have_the_papers_sizes(name, count):
    preferences = paper_lattice(name)

    assert preferences.shape == (count, PAPER_LATTICES[name].num_objectives)


def test_an_unknown_lattice_is_refused_with_the_known_ones():
    with pytest.raises(PreferenceError, match=r"'c-morl/hopper'.*c-morl/mujoco-2, c-morl"):
        paper_lattice("c-morl/hopper")


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0), (9, 100)])
def test_a_lattice_that_cannot_be_made_is_refused(arguments):
    with pytest.raises(PreferenceError, match="lattice"):
        lattice(*arguments)


def test_the_stored_set_is_the_one_the_hash_names():
    content = resources.files("morl").joinpath("data/sobol.npy").read_bytes()

    assert hashlib.sha256(content).hexdigest() == SOBOL_SHA256
    assert SOBOL_SHA256 == "3289e78a1f5630863cdc894bb30a0feb3ef165fcdecd15b52e25994182fcf8ec"


def test_a_stored_set_that_was_changed_is_refused(monkeypatch):
    monkeypatch.setattr(morl.preferences, "SOBOL_SHA256", "0" * 64)
    morl.preferences._stored_sobol.cache_clear()
    morl.preferences._spacings.cache_clear()
    try:
        with pytest.raises(PreferenceError, match=r"sobol.npy: SHA-256 is 3289.*not 0000"):
            sobol_simplex(3)
    finally:
        morl.preferences._stored_sobol.cache_clear()


def test_the_first_preferences_of_the_stored_set_stay_what_they_are():
    np.testing.assert_allclose(
        sobol_simplex(3)[:2],
        [[0.48255865, 0.29888175, 0.2185596], [0.00126979, 0.72129049, 0.27743972]],
        atol=1e-8,
    )


@pytest.mark.parametrize("num_objectives", range(2, 11))
def test_the_stored_set_finds_the_utility_of_the_unit_vectors_within_four_per_mille(num_objectives):
    preferences = check_preferences(sobol_simplex(num_objectives), num_objectives=num_objectives)
    exact = harmonic(num_objectives) / num_objectives  # expected largest coordinate

    assert preferences.shape == (SOBOL_COUNT, num_objectives)
    assert preferences.max(axis=1).mean() == pytest.approx(exact, rel=4e-3)
    np.testing.assert_allclose(preferences.mean(axis=0), 1 / num_objectives, rtol=4e-3)
    assert (preferences > 0.0).all()


def test_half_steps_would_overrate_the_unit_vectors_by_half():
    """What the stored set is for: at six objectives a paper's grid says 0.643, not 0.408."""
    exact = harmonic(6) / 6

    assert lattice(6, 2).max(axis=1).mean() / exact == pytest.approx(1.574, abs=0.001)


def test_shorter_sets_are_the_first_rows_and_fewer_objectives_the_first_dimensions():
    np.testing.assert_array_equal(sobol_simplex(4, 128), sobol_simplex(4)[:128])

    # Ratios of exponential spacings do not depend on how many there are.
    three, five = sobol_simplex(3, 64), sobol_simplex(5, 64)
    np.testing.assert_allclose(five[:, 0] / five[:, 2], three[:, 0] / three[:, 2])


def test_one_objective_has_one_preference():
    assert (sobol_simplex(1, 8) == 1.0).all()


def test_the_stored_set_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        sobol_simplex(2)[0, 0] = 1.0


@pytest.mark.parametrize("arguments", [(0,), (11,), (3, 0), (3, 4097)])
def test_a_stored_set_out_of_range_is_refused(arguments):
    with pytest.raises(PreferenceError, match="sobol_simplex"):
        sobol_simplex(*arguments)


def test_random_preferences_are_uniform_and_repeat_with_the_generator():
    preferences = dirichlet(3, 20_000, rng=np.random.default_rng(1))

    check_preferences(preferences, num_objectives=3)
    # Standard error of the mean of the largest coordinate: about 0.16 / sqrt(20,000) = 0.0011.
    assert preferences.max(axis=1).mean() == pytest.approx(11 / 18, abs=0.005)
    np.testing.assert_array_equal(preferences, dirichlet(3, 20_000, rng=np.random.default_rng(1)))


def test_a_small_concentration_favours_the_corners_and_a_large_one_the_middle():
    corners = dirichlet(3, 1000, rng=np.random.default_rng(1), concentration=0.1)
    middle = dirichlet(3, 1000, rng=np.random.default_rng(1), concentration=50.0)

    assert corners.max(axis=1).mean() > 0.8
    assert middle.max(axis=1).mean() < 0.45


@pytest.mark.parametrize("concentration", [0.0, -1.0, np.nan, np.inf])
def test_a_concentration_out_of_range_is_refused(concentration):
    with pytest.raises(PreferenceError, match="concentration"):
        dirichlet(3, 5, rng=np.random.default_rng(0), concentration=concentration)


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([[0.5, 0.5], [0.7, 0.7]], r"row 1 is \[0.7, 0.7\] \(sum 1.4\)"),
        ([[1.5, -0.5]], "no negative coordinate"),
        ([[np.nan, 1.0]], "row 0"),
        ([0.5, 0.5], r"shape \(preference, objective\)"),
        (np.empty((0, 2)), "at least one row"),
        ([["x", "y"]], "not a table of numbers"),
        ([[0.2, 0.3, 0.5]], "3 coordinates for 2 objectives"),
    ],
)
def test_what_is_not_on_the_simplex_is_refused(preferences, message):
    with pytest.raises(PreferenceError, match=message):
        check_preferences(preferences, num_objectives=2)
