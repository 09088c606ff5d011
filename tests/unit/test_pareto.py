import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl.pareto import PointsError, as_points, nondominated, unique
from morl.types import MorlError


def small_integer_points(max_points=12):
    """Integer points, so that ties and duplicates are frequent."""
    return st.integers(1, 4).flatmap(
        lambda objectives: hnp.arrays(
            np.float64,
            st.tuples(st.integers(0, max_points), st.just(objectives)),
            elements=st.integers(-2, 2).map(float),
        )
    )


def definition_of_dominance(points):
    """The textbook's double loop."""
    mask = []
    for i, point in enumerate(points):
        dominated = any((q >= point).all() and (q > point).any() for q in points)
        seen = any((q == point).all() for q in points[:i])
        mask.append(not dominated and not seen)
    return mask


def test_a_duplicate_and_dominated_points_are_masked_and_the_first_of_equals_stays():
    points = [[1, 3], [1, 3], [2, 2], [2, 1], [3, 1], [-1, 5]]

    assert nondominated(points).tolist() == [True, False, True, False, True, True]


def test_with_one_objective_the_first_best_point_stays():
    assert nondominated([[1.0], [2.0], [2.0], [0.0]]).tolist() == [False, True, False, False]


@given(small_integer_points())
def test_the_mask_is_the_definition(points):
    assert nondominated(points).tolist() == definition_of_dominance(points)


@given(small_integer_points(), st.randoms(use_true_random=False))
def test_order_does_not_change_the_set(points, random):
    order = list(range(len(points)))
    random.shuffle(order)

    before = {tuple(point) for point in points[nondominated(points)]}
    after = {tuple(point) for point in points[order][nondominated(points[order])]}

    assert before == after


def test_a_hundred_thousand_points_are_no_problem():
    points = np.random.default_rng(0).random((100_000, 3))

    front = points[nondominated(points)]

    assert 50 < len(front) < 150  # expectation ln(n)**2 / 2 = 66 plus lower terms
    assert nondominated(front).all()


def test_no_points_give_an_empty_mask():
    assert nondominated(np.empty((0, 3))).shape == (0,)


def test_with_a_tolerance_the_first_of_nearly_equal_points_stays_even_if_slightly_worse():
    points = np.array([[1.0, 2.0], [1.0 + 1e-12, 2.0], [2.0, 1.0]])

    assert nondominated(points).tolist() == [False, True, True]
    assert nondominated(points, tolerance=1e-9).tolist() == [True, False, True]


def test_the_tolerance_is_relative_to_each_objectives_largest_magnitude():
    points = np.array([[1e6, 1e-6], [1e6 + 1e-4, 1e-6], [1e6, 1e-6 + 1e-14]])

    assert unique(points, tolerance=1e-9).tolist() == [0, 2]  # 1e-4 < 1e-3, but 1e-14 > 1e-15


def test_a_chain_of_close_points_is_thinned_from_its_first_on():
    chain = np.array([[0.0, 100.0], [0.6, 100.0], [1.2, 100.0], [1.8, 100.0]])

    # The width is 1.8 * 0.5 = 0.9: 0.6 goes with 0.0, then 1.8 goes with 1.2.
    assert unique(chain, tolerance=0.5).tolist() == [0, 2]


def test_a_cluster_is_represented_by_its_first_point_whatever_its_value():
    points = np.array([[5.0], [1.0], [5.0 - 1e-12], [5.0 + 1e-12]])

    assert unique(points).tolist() == [0, 1]


@given(small_integer_points())
def test_without_tolerance_unique_keeps_the_first_of_each_value(points):
    first = sorted({tuple(point): i for i, point in reversed(list(enumerate(points)))}.values())

    assert unique(points, tolerance=0.0).tolist() == first


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 15), st.integers(1, 3)),
        elements=st.floats(-10, 10, width=16),
    ),
    st.sampled_from([0.0, 0.01, 0.1, 0.5]),
)
def test_points_kept_are_apart_and_points_dropped_are_near_an_earlier_one(points, tolerance):
    width = tolerance * np.abs(points).max(axis=0)
    kept = unique(points, tolerance=tolerance)

    for i, point in enumerate(points):
        near_earlier = [k for k in kept if k < i and (abs(points[k] - point) <= width).all()]
        assert (i in kept) == (not near_earlier)


def test_negative_zero_is_zero():
    assert unique([[0.0, 1.0], [-0.0, 1.0]], tolerance=0.0).tolist() == [0]
    assert nondominated([[0.0, 1.0], [-0.0, 1.0]]).tolist() == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_finite_is_refused_by_place(value):
    with pytest.raises(PointsError, match=r"points: (nan|inf|-inf) in row 1, objective 0"):
        nondominated([[1.0, 2.0], [value, 0.0]])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1.0, 2.0], r"shape \(point, objective\), got \(2,\)"),
        ([], r"no points are np.empty\(\(0, num_objectives\)\)"),
        ([[1.0, 2.0], [1.0]], "not a table of numbers"),
        ([["a", "b"]], "not a table of numbers"),
        (np.empty((3, 0)), r"got \(3, 0\)"),
        (np.zeros((1, 2, 3)), r"got \(1, 2, 3\)"),
    ],
)
def test_what_is_no_table_is_refused(points, message):
    with pytest.raises(PointsError, match=message):
        as_points(points)


@pytest.mark.parametrize("tolerance", [-1e-9, np.nan, np.inf])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(PointsError, match="tolerance"):
        unique([[1.0]], tolerance=tolerance)


def test_the_error_is_one_that_the_command_line_prints_and_a_value_error():
    assert issubclass(PointsError, MorlError)
    assert issubclass(PointsError, ValueError)
