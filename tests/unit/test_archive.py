import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl.archive import ArchiveError, ParetoArchive, crowding_distance
from morl.pareto import nondominated


def filled(points, **limits):
    archive = ParetoArchive[int](len(points[0]), **limits)
    for index, point in enumerate(points):
        archive.add(point, index)
    return archive


def sphere(count, num_objectives, seed=0):
    points = np.abs(np.random.default_rng(seed).normal(size=(count, num_objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_a_new_archive_is_empty():
    archive = ParetoArchive[str](3)

    assert len(archive) == 0
    assert archive.points.shape == (0, 3)
    assert archive.items == ()
    assert archive.crowding_distance().shape == (0,)


def test_a_dominated_item_is_turned_away_and_a_better_one_takes_its_place():
    archive = ParetoArchive[str](2)

    assert archive.add([1.0, 1.0], "first")
    assert not archive.add([1.0, 0.5], "worse")
    assert archive.add([0.0, 2.0], "elsewhere")
    assert archive.add([2.0, 1.0], "better")
    assert archive.items == ("elsewhere", "better")
    assert archive.points.tolist() == [[0.0, 2.0], [2.0, 1.0]]


def test_one_point_can_replace_several():
    archive = filled([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])

    assert archive.add([3.0, 3.0], 9)
    assert list(archive) == [9]


def test_of_equal_points_the_first_stays():
    archive = ParetoArchive[str](2)

    assert archive.add([1.0, 2.0], "first")
    assert not archive.add([1.0, 2.0], "second")
    assert list(archive) == ["first"]


def test_within_the_tolerance_the_first_stays_even_if_the_second_is_better():
    archive = ParetoArchive[str](2, tolerance=1e-9)
    archive.add([1.0, 1000.0], "first")

    assert not archive.add([1.0 + 1e-10, 1000.0 + 1e-7], "nearly the same")
    assert archive.add([1.0 + 1e-8, 1000.0], "better")
    assert list(archive) == ["better"]


@given(
    st.integers(1, 4).flatmap(
        lambda objectives: hnp.arrays(
            np.float64,
            st.tuples(st.integers(1, 20), st.just(objectives)),
            elements=st.integers(-3, 3).map(float),
        )
    )
)
def test_the_archive_agrees_with_the_mask(points):
    archive = filled(points)
    mask = nondominated(points)

    assert list(archive) == np.flatnonzero(mask).tolist()
    np.testing.assert_array_equal(archive.points, points[mask])


def test_the_archive_agrees_with_the_mask_on_many_random_points():
    points = np.random.default_rng(3).random((3000, 3))

    assert list(filled(points)) == np.flatnonzero(nondominated(points)).tolist()


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(0, 4))
def test_a_full_archive_keeps_its_capacity_its_extremes_and_no_dominated_point(
    seed, num_objectives, room
):
    points = np.random.default_rng(seed).integers(0, 12, (60, num_objectives)).astype(float)
    archive = filled(points, capacity=num_objectives + room)

    assert len(archive) <= num_objectives + room
    assert nondominated(archive.points).all()
    np.testing.assert_array_equal(archive.points.max(axis=0), points.max(axis=0))
    np.testing.assert_array_equal(archive.points, points[list(archive)])


def test_an_archive_that_overflows_drops_its_most_crowded_member():
    archive = filled([[0.0, 10.0], [5.0, 5.0], [5.2, 4.8], [10.0, 0.0]], capacity=4)

    # Gaps on both sides of each, in tenths of the range and twice over the objectives:
    # (5, 5): 5.2; (5.2, 4.8): 3.0; (8, 2): 4.8.
    assert archive.add([8.0, 2.0], 4)
    assert list(archive) == [0, 1, 3, 4]


def test_an_item_that_only_adds_to_the_crowd_is_turned_away():
    archive = filled([[0.0, 10.0], [4.0, 6.0], [7.0, 3.0], [10.0, 0.0]], capacity=4)

    assert not archive.add([5.5, 4.5], 4)
    assert list(archive) == [0, 1, 2, 3]


def test_pruning_spreads_the_members():
    points = sphere(2000, 2)
    angles = np.sort(np.arctan2(*filled(points, capacity=30).points.T))

    assert angles[0] < 0.01
    assert angles[-1] > np.pi / 2 - 0.01
    assert np.diff(angles).max() < 3 * np.pi / 2 / 29  # even steps, give or take


def test_the_worst_of_an_objective_can_be_dropped_by_capacity():
    """In nine objectives the original's boundaries would be nearly everybody."""
    archive = filled(sphere(300, 9), capacity=12)

    assert len(archive) == 12
    assert np.isinf(archive.crowding_distance()).sum() > 9


def test_crowding_distances_are_those_of_nsga_ii():
    points = [[0.0, 10.0], [1.0, 6.0], [4.0, 2.0], [10.0, 0.0]]

    # (1, 6): 4 of 10 and 8 of 10; (4, 2): 9 of 10 and 6 of 10.
    np.testing.assert_allclose(crowding_distance(points), [np.inf, 1.2, 1.5, np.inf])
    np.testing.assert_allclose(filled(points).crowding_distance(), [np.inf, 1.2, 1.5, np.inf])


def test_the_worst_of_an_objective_is_a_boundary_of_the_original_only():
    # The middle in two objectives and the worst of the third.
    points = [[0.0, 4.0, 1.0], [4.0, 0.0, 2.0], [2.0, 2.0, 0.0], [1.0, 1.0, 4.0]]

    assert np.isinf(crowding_distance(points)[2])
    # 1st: neighbours 1 and 4; 2nd: 1 and 4; 3rd: gap of 1 to the only neighbour, twice.
    assert crowding_distance(points, worst_is_boundary=False)[2] == pytest.approx(
        3 / 4 + 3 / 4 + 2 * 1 / 4
    )


def test_an_objective_in_which_all_agree_adds_nothing():
    flat = [[0.0, 10.0, 7.0], [1.0, 6.0, 7.0], [4.0, 2.0, 7.0], [10.0, 0.0, 7.0]]

    np.testing.assert_allclose(crowding_distance(flat), [np.inf, 1.2, 1.5, np.inf])
    np.testing.assert_array_equal(crowding_distance(np.ones((4, 2))), np.zeros(4))


def test_of_several_best_points_the_first_is_the_boundary_and_of_several_worst_the_last():
    points = [[1.0, 1.0], [3.0, 2.0], [3.0, 3.0], [1.0, 4.0], [2.0, 6.0]]
    best_only = crowding_distance(points, worst_is_boundary=False)

    assert np.isinf(crowding_distance(points)).tolist() == [True, True, False, True, True]
    assert np.isinf(best_only).tolist() == [False, True, False, False, True]


def test_up_to_two_points_are_infinitely_far():
    assert crowding_distance([[1.0, 2.0]]).tolist() == [np.inf]
    assert crowding_distance([[1.0, 2.0], [2.0, 1.0]]).tolist() == [np.inf, np.inf]
    assert crowding_distance(np.empty((0, 2))).shape == (0,)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 12), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6),
    )
)
def test_crowding_distance_is_never_nan_and_never_negative(points):
    for worst_is_boundary in (True, False):
        distance = crowding_distance(points, worst_is_boundary=worst_is_boundary)
        assert (distance >= 0.0).all()


def test_points_are_a_copy():
    archive = filled([[1.0, 2.0]])
    archive.points[0, 0] = 5.0

    assert archive.points.tolist() == [[1.0, 2.0]]


def test_the_callers_array_can_be_reused():
    archive = ParetoArchive[int](2)
    point = np.array([1.0, 2.0])
    archive.add(point, 0)
    point[:] = 9.0

    assert archive.points.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ([1.0], "point of 2 objectives"),
        ([[1.0, 2.0]], "point of 2 objectives"),
        ([1.0, np.nan], "not a finite point"),
        ([np.inf, 1.0], "not a finite point"),
    ],
)
def test_a_point_that_does_not_fit_is_refused_and_changes_nothing(point, message):
    archive = filled([[1.0, 2.0]])

    with pytest.raises(ArchiveError, match=message):
        archive.add(point, 1)
    assert list(archive) == [0]


@pytest.mark.parametrize(
    ("num_objectives", "limits", "message"),
    [
        (0, {}, "at least one objective"),
        (3, {"capacity": 2}, "capacity of 2 cannot hold"),
        (2, {"tolerance": -1.0}, "tolerance"),
        (2, {"tolerance": np.nan}, "tolerance"),
    ],
)
def test_an_archive_that_cannot_be_is_refused(num_objectives, limits, message):
    with pytest.raises(ArchiveError, match=message):
        ParetoArchive[int](num_objectives, **limits)


def test_its_repr_names_size_and_limits():
    archive = filled([[1.0, 2.0]], capacity=5)

    assert repr(archive) == (
        "ParetoArchive(1 members, num_objectives=2, capacity=5, tolerance=0.0)"
    )
