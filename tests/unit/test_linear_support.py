"""Corners, bounds and choices of optimistic linear support, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from morl.agents.learners.core.linear_support import corner_weights, improvement, next_preference

ENDS = np.eye(2)


def test_two_extremes_have_a_corner_where_they_are_worth_the_same() -> None:
    # 4 w = 1 - w at w = 1/5.
    corners = corner_weights(np.array([[4.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(corners, [[0, 1], [0.2, 0.8], [1, 0]], atol=1e-9)


def test_a_third_value_above_the_line_splits_the_corner() -> None:
    # (3, 0.8) meets (0, 1) at 3 w + 0.8 (1 - w) = 1 - w, w = 1/16; (4, 0) at w = 0.8 / 1.8.
    corners = corner_weights(np.array([[4.0, 0.0], [0.0, 1.0], [3.0, 0.8]]))
    np.testing.assert_allclose(corners[:, 0], [0, 1 / 16, 4 / 9, 1], atol=1e-8)


def test_values_below_the_line_make_no_corner() -> None:
    corners = corner_weights(np.array([[4.0, 0.0], [0.0, 1.0], [1.0, 0.3]]))
    np.testing.assert_allclose(corners[:, 0], [0, 0.2, 1], atol=1e-9)


def test_three_unit_values_meet_in_the_middle_and_on_the_edges() -> None:
    corners = corner_weights(np.eye(3))
    middle, edges = np.full(3, 1 / 3), 0.5 * (1.0 - np.eye(3))
    for wanted in [middle, *edges, *np.eye(3)]:
        assert (np.abs(corners - wanted).max(axis=1) < 1e-8).any()
    assert len(corners) == 7


def test_a_single_value_has_the_ends_of_the_simplex() -> None:
    np.testing.assert_allclose(corner_weights(np.array([[2.0, 2.0, 2.0]])), np.eye(3)[::-1])
    assert corner_weights(np.array([[2.0], [3.0]])).tolist() == [[1.0]]


def test_room_at_a_corner_is_that_of_the_ideal_point() -> None:
    values = np.array([[4.0, 0.0], [0.0, 1.0]])
    # A policy may still reach (4, 1): 0.2 * 4 + 0.8 * 1 = 1.6 against 0.8.
    assert improvement(np.array([0.2, 0.8]), ENDS, values) == pytest.approx(0.8)
    assert improvement(np.array([1.0, 0.0]), ENDS, values) == pytest.approx(0.0)


def test_room_is_unlimited_where_nothing_was_sought() -> None:
    assert improvement(np.array([0.5, 0.5]), ENDS[:1], np.array([[4.0, 0.0]])) == np.inf


def test_the_order_is_ends_then_the_corner_with_most_room() -> None:
    values = np.array([[4.0, 0.0], [0.0, 1.0]])
    assert next_preference(np.empty((0, 2)), np.empty((0, 2))).tolist() == [1.0, 0.0]
    assert next_preference(ENDS[:1], values[:1]).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(next_preference(ENDS, values), [0.2, 0.8], atol=1e-8)


def test_without_room_the_preference_furthest_from_all_visited_comes_next() -> None:
    ideal = np.array([[4.0, 1.0]])
    chosen = next_preference(ENDS, ideal)
    assert chosen[0] == pytest.approx(0.5, abs=0.01)
    again = next_preference(np.vstack([ENDS, chosen]), ideal)
    assert min(abs(again[0] - 0.25), abs(again[0] - 0.75)) < 0.01
    assert next_preference(np.eye(12), np.empty((0, 12))).sum() == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(
    values=st.integers(2, 4).flatmap(
        lambda size: arrays(np.float64, (5, size), elements=st.integers(-20, 20).map(float))
    )
)
def test_no_preference_of_a_grid_is_worth_more_than_corners_allow(values: np.ndarray) -> None:
    """The best known value is convex: between corners it is never above their chord's maximum."""
    corners = corner_weights(values)
    assert (corners >= 0.0).all()
    np.testing.assert_allclose(corners.sum(axis=1), 1.0)
    best = (corners @ values.T).max(axis=1)
    # At a vertex inside the simplex at least as many values or edges meet as there are objectives.
    tight = np.isclose(corners @ np.unique(values, axis=0).T, best[:, None], atol=1e-6).sum(axis=1)
    edges = (corners < 1e-7).sum(axis=1)
    assert (tight + edges >= values.shape[1]).all()
