import itertools
import math
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import moocore
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from morl import indicators, wfg
from morl.indicators import (
    IndicatorError,
    cardinality,
    conditioned_utility,
    epsilon_additive,
    epsilon_multiplicative,
    expected_utility,
    expected_utility_exact_2d,
    expected_utility_loss,
    gd,
    gd_plus,
    hausdorff_plus,
    hypervolume,
    hypervolume_ratio,
    igd,
    igd_plus,
    jackknife_hypervolume,
    maximum_utility_loss,
    normalise,
    normalised_hypervolume,
    r2,
    sparsity,
    sparsity_deduplicated,
    worst_preference,
)
from morl.pareto import nondominated
from morl.preferences import PreferenceError, lattice, sobol_simplex
from morl.types import MorlError
from morl.wfg import exact_hypervolume

# Fronts small enough for a head; every expected number below was derived by hand.
A = np.array([[1.0, 3], [2, 2], [3, 1]])
REFERENCE_A = np.array([[1.0, 4], [3, 3], [4, 1]])
B = np.array([[1.0, 3], [1, 3], [2, 2], [2, 1], [3, 1], [-1, 5]])  # duplicate, dominated, outside
C = np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 2]])
REFERENCE_C = np.array([[2.0, 2, 1], [2, 1, 2], [1, 2, 2]])
EMPTY = np.empty((0, 2))


def volume(points, reference=0.0, **limits):
    points = np.asarray(points, dtype=np.float64)
    corner = np.broadcast_to(np.asarray(reference, dtype=np.float64), points.shape[1:])
    return hypervolume(points, corner, **limits).value


def sphere(count, num_objectives, seed=0):
    points = np.abs(np.random.default_rng(seed).normal(size=(count, num_objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def inclusion_exclusion(points, reference):
    """Hypervolume by its definition: a sum over all subsets of boxes."""
    points = np.maximum(points - reference, 0.0)
    members = np.array(list(itertools.product([False, True], repeat=len(points)))[1:])
    corners = np.where(members[:, :, None], points[None], np.inf).min(axis=1)
    signs = np.where(members.sum(axis=1) % 2, 1.0, -1.0)
    return float(signs @ corners.prod(axis=1))


def fronts(min_objectives=2, max_objectives=7, max_points=8):
    """Integer fronts with ties, duplicates and points outside the origin."""
    return st.integers(min_objectives, max_objectives).flatmap(
        lambda objectives: hnp.arrays(
            np.float64,
            st.tuples(st.integers(1, max_points), st.just(objectives)),
            elements=st.integers(-1, 4).map(float),
        )
    )


# Hypervolume


def test_hypervolume_of_hand_made_fronts():
    assert volume(A) == 6.0  # 3 + 2 + 1
    assert volume(REFERENCE_A) == 11.0
    assert volume(C) == 4.0  # 3 * 2 - 3 * 1 + 1
    assert volume(REFERENCE_C) == 7.0  # 3 * 4 - 3 * 2 + 1


def test_an_exact_hypervolume_says_so():
    found = hypervolume(A, [0.0, 0.0])

    assert (found.value, found.standard_error, found.method) == (6.0, 0.0, "exact, moocore")
    assert (found.num_outside, found.num_unique) == (0, 3)
    assert hypervolume(np.eye(6) + 1, np.zeros(6)).method == "exact, WFG"


def test_duplicates_and_points_outside_are_counted_and_add_nothing():
    found = hypervolume(B, [0.0, 0.0])

    assert (found.value, found.num_outside, found.num_unique) == (6.0, 1, 5)


def test_a_point_level_with_the_reference_point_is_outside():
    found = hypervolume([[0.0, 5.0], [1.0, 1.0]], [0.0, 0.0])

    assert (found.value, found.num_outside) == (1.0, 1)


def test_one_box_in_many_objectives_is_a_product():
    for num_objectives in range(1, 11):
        sides = np.arange(1.0, num_objectives + 1)
        assert volume([sides]) == pytest.approx(math.factorial(num_objectives))


def test_unit_cubes_stretched_along_each_axis_overlap_in_the_unit_cube():
    for num_objectives in range(2, 11):
        # Each of m boxes has volume 2, any two share 1.
        assert volume(np.ones(num_objectives) + np.eye(num_objectives)) == num_objectives + 1


@pytest.mark.parametrize("num_objectives", range(1, 8))
def test_an_empty_front_has_no_volume(num_objectives):
    found = hypervolume(np.empty((0, num_objectives)), np.zeros(num_objectives))

    assert (found.value, found.num_outside, found.num_unique) == (0.0, 0, 0)


@pytest.mark.parametrize("num_objectives", [2, 4, 7])
def test_a_front_that_beats_the_reference_point_nowhere_has_no_volume(num_objectives):
    found = hypervolume(-np.eye(num_objectives), np.zeros(num_objectives))

    assert (found.value, found.num_outside) == (0.0, num_objectives)


@pytest.mark.parametrize("num_objectives", range(2, 9))
def test_hypervolume_agrees_with_inclusion_and_exclusion_on_random_fronts(num_objectives):
    """Seven times 143 fronts: a thousand and one, half of them on a coarse grid."""
    rng = np.random.default_rng(num_objectives)
    for repeat in range(143):
        count = int(rng.integers(1, 9))
        points = rng.normal(size=(count, num_objectives))
        if repeat % 2:
            points = rng.integers(0, 4, (count, num_objectives)).astype(float)
        reference = rng.integers(-2, 1, num_objectives).astype(float)

        expected = inclusion_exclusion(points, reference)

        assert hypervolume(points, reference).value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("num_objectives", range(3, 10))
def test_the_recursion_agrees_with_moocore_on_larger_fronts(num_objectives):
    rng = np.random.default_rng(num_objectives)
    for repeat in range(12):
        points = rng.integers(1, 6, (40, num_objectives)).astype(float)
        if repeat % 3:
            points = sphere(25, num_objectives, seed=repeat) + 0.1
        expected = moocore.hypervolume(points, ref=np.zeros(num_objectives), maximise=True)

        assert exact_hypervolume(points, budget=10**9) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num_objectives", "count"), [(6, 300), (8, 120), (9, 60), (10, 50)])
def test_the_recursion_agrees_with_pygmo_on_whole_fronts(num_objectives, count):
    pygmo = pytest.importorskip("pygmo")
    points = sphere(count, num_objectives)

    found = hypervolume(points, np.zeros(num_objectives))

    expected = pygmo.hypervolume(-points).compute(np.zeros(num_objectives))
    assert found.method == "exact, WFG"
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_the_recursion_gives_up_at_its_budget():
    points = sphere(60, 7)

    assert exact_hypervolume(points, budget=1000) is None
    assert exact_hypervolume(points, budget=10**9) == pytest.approx(volume(points), rel=1e-14)
    assert exact_hypervolume(points[:0], budget=0) == 0.0


def test_the_recursion_compiles_where_no_folder_can_be_written_to(monkeypatch):
    options = []

    def njit(**given_options):
        options.append(given_options)
        if given_options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(wfg.numba, "njit", njit)

    assert wfg._compiled(abs) is abs
    assert options == [{"cache": True, "nogil": True}, {"nogil": True}]


@pytest.mark.parametrize("num_objectives", [6, 9])
def test_above_the_budget_an_approximation_states_an_error_that_holds(num_objectives):
    # Very different units, as in an environment that counts joules and kilometres.
    points = sphere(80, num_objectives) * np.logspace(-3, 4, num_objectives)
    exact = volume(points)

    found = hypervolume(points, np.zeros(num_objectives), max_steps=0)

    assert found.method == "approximate, moocore DZ2019-MC, 262144 samples"
    assert 0.0 < found.standard_error < 0.01 * exact
    assert abs(found.value - exact) < 4.0 * found.standard_error


def test_an_approximation_repeats_bit_for_bit_in_any_order():
    points = sphere(30, 6)

    first = hypervolume(points, np.zeros(6), max_steps=0)

    assert first == hypervolume(points[::-1], np.zeros(6), max_steps=0)


def test_two_hundred_points_in_nine_objectives_are_exact():
    """Whether a front is exact depends on a count of steps, so this holds on any machine."""
    assert hypervolume(sphere(200, 9), np.zeros(9)).method == "exact, WFG"


@given(fronts(), st.randoms(use_true_random=False))
def test_order_duplicates_and_dominated_points_change_no_bit_of_the_hypervolume(points, random):
    order = list(range(len(points))) * 2
    random.shuffle(order)
    dominated = points - np.arange(1, points.shape[1] + 1)

    assert volume(np.vstack([points[order], dominated])) == volume(points)


@pytest.mark.parametrize("num_objectives", [2, 4, 6, 8])
def test_rounding_does_not_depend_on_the_order_of_points(num_objectives):
    # Thirds round, and a coarse grid has ties that a sort by one objective leaves as they were.
    points = np.random.default_rng(0).integers(1, 6, (60, num_objectives)) / 3.0

    assert {volume(np.roll(points, shift, axis=0)) for shift in range(8)} == {volume(points)}


@given(fronts(), st.lists(st.integers(-5, 5), min_size=7, max_size=7))
def test_hypervolume_moves_along_with_its_reference_point(points, shift):
    shift = np.array(shift[: points.shape[1]], dtype=np.float64)

    assert volume(points + shift, shift) == pytest.approx(volume(points), rel=1e-12)


@given(fronts(), st.lists(st.sampled_from([0.25, 0.5, 3.0, 100.0]), min_size=7, max_size=7))
def test_hypervolume_scales_with_each_objective(points, factors):
    factors = np.array(factors[: points.shape[1]])

    assert volume(points * factors) == pytest.approx(volume(points) * factors.prod(), rel=1e-12)


@given(fronts())
def test_hypervolume_does_not_depend_on_the_order_of_objectives(points):
    assert volume(points[:, ::-1]) == pytest.approx(volume(points), rel=1e-12)


@given(fronts(), st.integers(0, 7))
def test_a_point_more_is_never_worse(points, index):
    without = np.delete(points, index % len(points), axis=0)

    assert volume(without) <= volume(points) * (1 + 1e-12)
    utility = expected_utility(without) if len(without) else -math.inf
    assert utility <= expected_utility(points) + 1e-12


@given(fronts(max_points=6))
def test_a_point_that_dominates_and_lies_inside_adds_volume(points):
    better = points[0] + 1.0
    assume((better > 0).all())
    assume(not (points >= better).all(axis=1).any())

    assert volume(np.vstack([points, better])) > volume(points)


def test_a_far_reference_point_prefers_extremes_and_a_near_one_the_middle():
    extremes, middle = [[1.0, 10], [10, 1]], [[6.0, 6]]

    assert (volume(extremes), volume(middle)) == (19.0, 36.0)
    assert (volume(extremes, -5.0), volume(middle, -5.0)) == (144.0, 121.0)


def test_normalised_hypervolume_is_in_box_units_above_minus_one_tenth():
    box = ([0.0, 100.0], [10.0, 300.0])

    assert normalised_hypervolume([[10.0, 300.0]], box).value == pytest.approx(1.21)
    # (0.5, 1) and (1, 0): 0.6 * 1.1 + 0.5 * 0.1.
    found = normalised_hypervolume([[5.0, 300.0], [10.0, 100.0], [-2.0, 300.0]], box)
    assert found.value == pytest.approx(0.71)
    assert found.num_outside == 1


def test_normalise_maps_the_box_to_the_unit_cube():
    box = ([-1.0, 100.0], [1.0, 300.0])

    assert normalise([[-1.0, 300.0], [0.0, 100.0], [3.0, 0.0]], box).tolist() == [
        [0.0, 1.0],
        [0.5, 0.0],
        [2.0, -0.5],
    ]


def test_hypervolume_ratio_is_a_share_of_the_reference_fronts():
    assert hypervolume_ratio(A, REFERENCE_A, [0.0, 0.0]) == pytest.approx(6 / 11)
    assert hypervolume_ratio(REFERENCE_A, A, [0.0, 0.0]) == pytest.approx(11 / 6)
    assert hypervolume_ratio(EMPTY, A, [0.0, 0.0]) == 0.0
    with pytest.raises(IndicatorError, match="no point of it is better"):
        hypervolume_ratio(A, A, [5.0, 5.0])


# Jackknife


def test_the_jackknife_of_two_episodes_by_hand():
    # One solution, returns (1, 1) and (3, 3): the mean has 4, leaving one out 9 or 1.
    found = jackknife_hypervolume([[[1.0, 1.0], [3.0, 3.0]]], [0.0, 0.0])

    assert found.value == 2 * 4 - 1 * 5  # the unbiased product of two independent means: 1 * 3
    assert found.standard_error == pytest.approx(4.0)  # sqrt(1 / 2 * (4**2 + 4**2))
    assert found.method == "jackknife of 2 episodes, exact, moocore"


def test_without_noise_the_jackknife_changes_nothing():
    found = jackknife_hypervolume(np.repeat(B[:, None], 5, axis=1), [0.0, 0.0])

    assert found.value == pytest.approx(6.0)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)
    assert (found.num_outside, found.num_unique) == (1, 5)


def test_the_jackknife_removes_most_of_the_bias_of_noise_and_knows_its_error():
    rng = np.random.default_rng(7)
    truth = sphere(40, 3, seed=2)
    exact = volume(truth)
    plug_in, corrected, errors = [], [], []
    for _ in range(60):
        returns = truth[:, None] + rng.normal(0.0, 0.1, (40, 5, 3))
        found = jackknife_hypervolume(returns, np.zeros(3))
        plug_in.append(volume(returns.mean(axis=1)) / exact - 1)
        corrected.append(found.value / exact - 1)
        errors.append(found.standard_error / exact)

    assert np.mean(plug_in) > 0.03
    assert abs(np.mean(corrected)) < np.mean(plug_in) / 3
    assert np.mean(errors) == pytest.approx(np.std(corrected), rel=0.5)


def test_the_jackknife_uses_one_method_for_all_its_volumes():
    truth = sphere(12, 6) + 0.5
    returns = truth[:, None] + np.random.default_rng(0).normal(0.0, 0.05, (12, 4, 6))

    exact = jackknife_hypervolume(returns, np.zeros(6))
    sampled = jackknife_hypervolume(returns, np.zeros(6), max_steps=0)

    assert exact.method == "jackknife of 4 episodes, exact, WFG"
    assert sampled.method.startswith("jackknife of 4 episodes, approximate")
    assert sampled.value == pytest.approx(exact.value, rel=0.01)
    assert sampled.standard_error == pytest.approx(exact.standard_error, rel=0.1)


def test_no_solutions_have_no_volume_in_the_jackknife_either():
    assert jackknife_hypervolume(np.empty((0, 5, 2)), [0.0, 0.0]).value == 0.0


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (np.zeros((3, 2)), r"\(solution, episode, objective\), got \(3, 2\)"),
        (np.zeros((3, 1, 2)), "at least 2 episodes, got 1"),
        ([[[1.0, 2.0], [1.0, np.nan]]], "nan in solution 0, episode 1, objective 1"),
        ([[["x"]]], "not a table of numbers"),
    ],
)
def test_episode_returns_that_make_no_sense_are_refused(returns, message):
    with pytest.raises(IndicatorError, match=message):
        jackknife_hypervolume(returns, [0.0, 0.0])


# Utility


def test_expected_utility_of_hand_made_fronts():
    assert expected_utility(A) == pytest.approx(5 / 2)  # twice the integral of 3 - 2t to one half
    assert expected_utility(REFERENCE_A) == pytest.approx(10 / 3)
    assert expected_utility(C) == pytest.approx(29 / 18, rel=1e-3)  # 1 + mean largest weight
    assert expected_utility(REFERENCE_C) == pytest.approx(17 / 9, rel=1e-3)


def test_grids_overrate_because_they_overweigh_the_boundary():
    assert expected_utility(A, lattice(2, 10)) == pytest.approx(28 / 11)
    assert expected_utility(C, lattice(3, 10)) == pytest.approx(1.65)


def test_in_two_objectives_the_stored_set_comes_close_to_the_exact_value():
    assert expected_utility(A, sobol_simplex(2)) == pytest.approx(5 / 2, rel=1e-4)
    assert expected_utility(B) == pytest.approx(3.0)
    assert expected_utility(B, sobol_simplex(2)) == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("num_objectives", range(3, 10))
def test_expected_utility_of_unit_vectors_is_within_four_per_mille(num_objectives):
    exact = sum(1 / k for k in range(1, num_objectives + 1)) / num_objectives

    assert expected_utility(np.eye(num_objectives)) == pytest.approx(exact, rel=4e-3)


@given(fronts(2, 2, 12))
def test_the_exact_utility_in_two_objectives_is_the_limit_of_fine_grids(points):
    step = np.arange(0.5, 2000) / 2000  # midpoint rule: error below 12 / 2000**2 * kinks
    grid = np.column_stack([step, 1 - step])

    assert expected_utility_exact_2d(points) == pytest.approx(
        expected_utility(points, grid), abs=1e-4
    )


def test_linear_utility_does_not_see_points_off_the_convex_hull():
    extremes = np.array([[0.0, 10.0], [10.0, 0.0]])
    with_middle = np.vstack([extremes, [4.0, 4.0]])

    assert expected_utility(with_middle) == expected_utility(extremes) == 7.5
    assert (volume(extremes, -1.0), volume(with_middle, -1.0)) == (21.0, 37.0)


def test_collinear_points_leave_the_exact_utility_alone():
    line = np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0], [3.0, 0.0]])

    assert expected_utility(line) == pytest.approx(expected_utility(line[[0, 3]]))
    assert expected_utility(line) == pytest.approx(9 / 4)


def test_an_empty_front_has_no_utility():
    assert expected_utility(EMPTY) == -math.inf
    assert expected_utility(np.empty((0, 3))) == -math.inf
    assert expected_utility_exact_2d(EMPTY) == -math.inf


def test_many_points_and_preferences_are_done_in_blocks(monkeypatch):
    points, preferences = sphere(100, 3), sobol_simplex(3, 64)
    whole = expected_utility(points, preferences), r2(points, np.ones(3), preferences)
    whole += (igd(points, C),)

    monkeypatch.setattr(indicators, "_PAIRS_AT_ONCE", 700)

    assert expected_utility(points, preferences) == pytest.approx(whole[0], rel=1e-14)
    assert r2(points, np.ones(3), preferences) == pytest.approx(whole[1], rel=1e-14)
    assert igd(points, C) == pytest.approx(whole[2], rel=1e-14)


def test_above_ten_objectives_preferences_must_be_given():
    with pytest.raises(PreferenceError, match="1 to 10 objectives, not 11"):
        expected_utility(np.eye(11))
    assert expected_utility(np.eye(11), lattice(11, 1)) == 1.0


def test_preferences_of_another_length_are_refused():
    with pytest.raises(PreferenceError, match="3 coordinates for 2 objectives"):
        expected_utility(A, lattice(3, 2))


def test_a_conditioned_agent_gets_the_utility_of_what_it_picked():
    preferences = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])

    assert conditioned_utility(A, preferences) == pytest.approx((3 + 2 + 3) / 3)
    assert conditioned_utility(A[::-1], preferences) == pytest.approx((1 + 2 + 1) / 3)
    with pytest.raises(IndicatorError, match="3 for 2 preferences"):
        conditioned_utility(A, preferences[:2])


def test_maximum_utility_loss_of_hand_made_fronts():
    assert maximum_utility_loss(A, REFERENCE_A) == pytest.approx(1.0)
    assert maximum_utility_loss(C, REFERENCE_C) == pytest.approx(0.5)
    # Between (1, 3) and (3, 1) the mean is best off at equal weights: 2.4 - 2.
    assert maximum_utility_loss(A[[0, 2]], [[1.0, 3], [2.4, 2.4], [3, 1]]) == pytest.approx(0.4)


def test_the_worst_preference_suffers_the_loss():
    loss, preference = worst_preference(C, REFERENCE_C)

    assert sorted(preference) == pytest.approx([0.0, 0.5, 0.5], abs=1e-6)
    assert (REFERENCE_C @ preference).max() - (C @ preference).max() == pytest.approx(loss)


@pytest.mark.parametrize("num_objectives", [2, 3, 6, 9])
def test_the_exact_loss_is_above_any_sampled_one_and_attained(num_objectives):
    rng = np.random.default_rng(num_objectives)
    points, reference = rng.random((60, num_objectives)), rng.random((60, num_objectives)) + 0.1
    sampled_at = sobol_simplex(num_objectives)
    sampled = ((sampled_at @ reference.T).max(axis=1) - (sampled_at @ points.T).max(axis=1)).max()

    loss, at = worst_preference(points, reference)

    assert loss >= sampled - 1e-9
    assert (reference @ at).max() - (points @ at).max() == pytest.approx(loss, abs=1e-9)
    assert loss < sampled * 1.5


def test_the_loss_is_zero_against_itself_and_negative_against_less():
    assert maximum_utility_loss(A, A) == pytest.approx(0.0, abs=1e-9)
    assert maximum_utility_loss(A + 1.0, A) == pytest.approx(-1.0)
    assert maximum_utility_loss([[1.0, 1.0]], [[1.0, 1.0]]) == 0.0


def test_the_loss_follows_the_unit():
    assert maximum_utility_loss(A * 1e6, REFERENCE_A * 1e6) == pytest.approx(1e6)
    assert maximum_utility_loss(A * 1e-6, REFERENCE_A * 1e-6) == pytest.approx(1e-6)


def test_an_empty_front_loses_everything():
    loss, preference = worst_preference(EMPTY, REFERENCE_A)

    assert loss == math.inf
    assert preference.tolist() == [0.5, 0.5]
    assert expected_utility_loss(EMPTY, REFERENCE_A) == math.inf


def test_expected_utility_loss_is_a_difference_of_expected_utilities():
    assert expected_utility_loss(A, REFERENCE_A) == pytest.approx(5 / 6)
    assert expected_utility_loss(C, REFERENCE_C) == pytest.approx(5 / 18, rel=2e-3)


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        (lattice(2, 10), 0.963636),
        (lattice(2, 100), 0.950495),
        (lattice(2, 10_000), 0.950005),
        (None, 0.95),  # the integral
    ],
)
def test_r2_of_a_hand_made_front(preferences, expected):
    assert r2(A, [4.0, 4.0], preferences) == pytest.approx(expected, abs=5e-5)


def test_r2_sees_points_off_the_convex_hull():
    extremes = np.array([[0.0, 10.0], [10.0, 0.0]])

    assert r2(np.vstack([extremes, [4.0, 4.0]]), [10.0, 10.0]) < r2(extremes, [10.0, 10.0])
    assert r2(EMPTY, [1.0, 1.0]) == math.inf


# Distances


@pytest.mark.parametrize("indicator", [igd, igd_plus, gd, gd_plus, hausdorff_plus])
def test_distances_of_symmetric_hand_made_fronts(indicator):
    assert indicator(A, REFERENCE_A) == pytest.approx((2 + math.sqrt(2)) / 3)
    assert indicator(C, REFERENCE_C) == pytest.approx(1.0)


def test_distances_of_one_point_against_a_front():
    middle = [[3.0, 3.0]]

    assert igd(middle, REFERENCE_A) == pytest.approx(2 * math.sqrt(5) / 3)  # 1.49071
    assert igd_plus(middle, REFERENCE_A) == pytest.approx(2 / 3)
    assert gd(middle, REFERENCE_A) == gd_plus(middle, REFERENCE_A) == 0.0  # blind to coverage
    assert hausdorff_plus(middle, REFERENCE_A) == pytest.approx(2 / 3)


def test_distances_of_a_front_with_duplicates():
    front = B[nondominated(B)]
    inside = front[(front > 0).all(axis=1)]

    assert [gd_plus(points, REFERENCE_A) for points in (B, front, inside)] == pytest.approx(
        [1.4024, 1.3536, 1.1381], abs=5e-5
    )
    assert igd_plus(B, REFERENCE_A) == igd_plus(inside, REFERENCE_A)


def test_igd_can_prefer_a_dominated_front_and_igd_plus_does_not():
    """Example 4 of Ishibuchi et al. (2015), turned to maximisation."""
    reference = -np.array([[0.0, 10], [1, 6], [2, 2], [6, 1], [10, 0]])
    better = -np.array([[2.0, 4], [3, 3], [4, 2]])
    worse = -np.array([[2.0, 8], [4, 4], [8, 2]])

    assert igd(better, reference) == pytest.approx(3.7071, abs=5e-5)
    assert igd(worse, reference) == pytest.approx(2.5915, abs=5e-5)
    assert igd_plus(better, reference) == pytest.approx(1.4828, abs=5e-5)
    assert igd_plus(worse, reference) == pytest.approx(2.2601, abs=5e-5)


def test_additive_and_multiplicative_epsilon_of_hand_made_fronts():
    assert epsilon_additive(A, REFERENCE_A) == 1.0
    assert epsilon_additive(C, REFERENCE_C) == 1.0
    assert epsilon_multiplicative(A, REFERENCE_A) == pytest.approx(1.5)
    assert epsilon_multiplicative(C, REFERENCE_C) == pytest.approx(2.0)
    assert epsilon_additive(A + 3.0, A) == -3.0


@given(fronts(2, 4), fronts(2, 4))
def test_distances_agree_with_moocore(points, reference):
    width = min(points.shape[1], reference.shape[1])
    points, reference = points[:, :width] + 2.0, reference[:, :width] + 2.0
    against = {"ref": reference, "maximise": True}

    assert igd(points, reference) == pytest.approx(moocore.igd(points, **against))
    assert igd_plus(points, reference) == pytest.approx(moocore.igd_plus(points, **against))
    assert epsilon_additive(points, reference) == pytest.approx(
        moocore.epsilon_additive(points, **against)
    )
    assert epsilon_multiplicative(points, reference) == pytest.approx(
        moocore.epsilon_mult(points, **against)
    )
    assert gd_plus(points, reference) == pytest.approx(
        moocore.igd_plus(reference, ref=points, maximise=False)
    )
    assert hausdorff_plus(points, reference) >= igd_plus(points, reference)


def test_a_factor_needs_positive_coordinates():
    with pytest.raises(IndicatorError, match="points: a factor needs positive"):
        epsilon_multiplicative(A - 1.0, REFERENCE_A)
    with pytest.raises(IndicatorError, match="reference_front: a factor needs positive"):
        epsilon_multiplicative(A, REFERENCE_A - 4.0)


AGAINST_A_FRONT = [
    igd,
    igd_plus,
    gd,
    gd_plus,
    hausdorff_plus,
    epsilon_additive,
    epsilon_multiplicative,
    maximum_utility_loss,
    expected_utility_loss,
]


@pytest.mark.parametrize("indicator", AGAINST_A_FRONT)
def test_an_empty_front_is_infinitely_far_and_an_empty_reference_is_refused(indicator):
    assert indicator(EMPTY, REFERENCE_A) == math.inf
    with pytest.raises(IndicatorError, match="reference_front: is empty"):
        indicator(A, EMPTY)


@pytest.mark.parametrize("indicator", AGAINST_A_FRONT)
def test_a_reference_front_of_other_objectives_is_refused(indicator):
    with pytest.raises(IndicatorError, match=r"reference_front: 3 objectives, .* have 2"):
        indicator(A, REFERENCE_C)
    with pytest.raises(IndicatorError, match="reference_front: nan in row 0"):
        indicator(A, [[np.nan, 1.0]])


# Shape


def test_sparsity_of_hand_made_fronts():
    assert sparsity(A) == 2.0  # (2 + 2) / 2
    assert sparsity(C) == 1.5
    front = B[nondominated(B)]
    assert sparsity(B) == pytest.approx(2.4)
    assert sparsity(front) == pytest.approx(4.0)
    assert sparsity(front[(front > 0).all(axis=1)]) == 2.0
    assert sparsity_deduplicated(B) == pytest.approx(4.0)


def test_duplicates_flatter_sparsity_but_not_the_deduplicated_one():
    copies = np.repeat(A, 10, axis=0) * (1 + 1e-12 * np.arange(30)[:, None])

    assert sparsity(copies) < 0.2
    assert sparsity_deduplicated(copies) == pytest.approx(2.0)


@pytest.mark.parametrize(("count", "expected"), [(2, 2.0), (3, 0.5), (5, 0.125), (11, 0.02)])
def test_sparsity_of_evenly_spaced_points_falls_with_their_number(count, expected):
    x = np.linspace(0, 1, count)

    assert sparsity(np.column_stack([x, 1 - x])) == pytest.approx(expected)


def test_fewer_than_two_points_have_no_sparsity():
    assert sparsity(EMPTY) == sparsity(A[:1]) == sparsity_deduplicated(A[[0, 0]]) == 0.0


def test_cardinality_counts_different_nondominated_points():
    assert cardinality(A) == 3
    assert cardinality(B) == 4
    assert cardinality(np.repeat(A, 10, axis=0) * (1 + 1e-12 * np.arange(30)[:, None])) == 3
    assert cardinality([[1.0, 2.0], [1.1, 1.9]], tolerance=0.1) == 1
    assert cardinality(EMPTY) == 0


# Bad input

OF_POINTS = [
    lambda points: hypervolume(points, [0.0, 0.0]),
    expected_utility,
    expected_utility_exact_2d,
    lambda points: conditioned_utility(points, lattice(2, 1)),
    lambda points: normalise(points, ([0.0, 0.0], [1.0, 1.0])),
    lambda points: normalised_hypervolume(points, ([0.0, 0.0], [1.0, 1.0])),
    lambda points: hypervolume_ratio(points, A, [0.0, 0.0]),
    lambda points: r2(points, [9.0, 9.0]),
    *[lambda points, of=indicator: of(points, REFERENCE_A) for indicator in AGAINST_A_FRONT],
    cardinality,
    sparsity,
    sparsity_deduplicated,
]


@pytest.mark.parametrize("indicator", OF_POINTS)
@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[1.0, 2.0], [np.nan, 1.0]], "points: nan in row 1, objective 0"),
        ([[1.0, np.inf]], "points: inf in row 0, objective 1"),
        ([1.0, 2.0], r"points: expected shape \(point, objective\)"),
        ([["one", "two"]], "points: not a table of numbers"),
    ],
)
def test_every_indicator_refuses_what_is_no_table_of_finite_numbers(indicator, points, message):
    with pytest.raises(IndicatorError, match=message):
        indicator(points)


@pytest.mark.parametrize("corner", [[0.0], [0.0, 0.0, 0.0], 0.0, [[0.0, 0.0]]])
def test_a_reference_point_of_the_wrong_length_is_refused(corner):
    with pytest.raises(IndicatorError, match="reference_point: expected 2 coordinates"):
        hypervolume(A, corner)
    with pytest.raises(IndicatorError, match="reference_point: expected 2 coordinates"):
        jackknife_hypervolume(np.zeros((1, 2, 2)), corner)
    with pytest.raises(IndicatorError, match="utopian_point: expected 2 coordinates"):
        r2(A, corner)


def test_a_reference_point_that_is_not_finite_is_refused():
    with pytest.raises(IndicatorError, match="reference_point: not finite"):
        hypervolume(A, [0.0, np.nan])


def test_an_empty_box_is_refused():
    with pytest.raises(IndicatorError, match="box: is empty"):
        normalised_hypervolume(A, ([0.0, 1.0], [1.0, 1.0]))
    with pytest.raises(IndicatorError, match="box, upper corner: expected 2"):
        normalise(A, ([0.0, 1.0], [1.0]))


def test_the_exact_utility_needs_two_objectives():
    with pytest.raises(IndicatorError, match="expected two objectives, got 3"):
        expected_utility_exact_2d(C)


def test_the_error_is_one_that_the_command_line_prints_and_a_value_error():
    assert issubclass(IndicatorError, MorlError)
    assert issubclass(IndicatorError, ValueError)


def test_loading_the_kernel_loads_nothing_heavy():
    code = (
        "import sys, morl, morl.preferences, morl.pareto, morl.indicators, morl.archive\n"
        "import morl.stats\n"
        "print(sorted({'torch', 'hydra', 'wandb', 'numba', 'scipy', 'pandas'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
