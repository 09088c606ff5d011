from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl.diversity import (
    DiversityError,
    condition_correlation,
    cube_faces,
    diverse_top_k_reward,
    mean_pairwise_distance,
    pc_entropy,
    top_k_diversity,
    top_k_reward,
)

FRONT = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])


def test_a_set_that_is_its_own_reference_has_the_largest_entropy():
    assert pc_entropy(FRONT, FRONT) == pytest.approx(math.log(3))
    assert pc_entropy(np.repeat(FRONT, 7, axis=0), FRONT) == pytest.approx(math.log(3))


def test_samples_in_one_place_have_none():
    assert pc_entropy([[0.9, 0.1]] * 5, FRONT) == 0.0


def test_shares_of_a_quarter_and_three_quarters():
    # Three samples near (1, 0), one near (0, 1): 0.75 ln(4/3) + 0.25 ln 4.
    points = [[0.9, 0.0], [1.0, 0.1], [0.8, 0.1], [0.1, 0.9]]
    assert pc_entropy(points, FRONT) == pytest.approx(0.5623351446)


def test_many_samples_are_assigned_as_few_are():
    rng = np.random.default_rng(0)
    points, references = rng.random((3000, 3)), rng.random((271, 3))
    nearest = ((points[:, None] - references) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.unique(nearest, return_counts=True)[1] / 3000
    assert pc_entropy(points, references) == pytest.approx(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize(("objectives", "count"), [(2, 19), (3, 271), (4, 3439)])
def test_faces_of_the_cube_have_as_many_points_as_published(objectives, count):
    faces = cube_faces(objectives)
    assert faces.shape == (count, objectives)
    assert (faces.max(axis=1) == 1.0).all()
    assert faces.min() == 0.0
    assert len(np.unique(faces, axis=0)) == count


def test_the_best_two_of_each_preference_by_hand():
    rewards = [[0.1, 0.9, 0.5, 0.7], [0.2, 0.0, 0.4, 0.3]]
    assert top_k_reward(rewards, k=2) == pytest.approx((0.8 + 0.35) / 2)
    assert top_k_reward(rewards, k=4) == pytest.approx(np.mean(rewards))


def test_diversity_is_that_of_the_best_alone():
    line = np.abs(np.subtract.outer([0.0, 1.0, 3.0, 7.0], [0.0, 1.0, 3.0, 7.0]))
    rewards = [[0.9, 0.1, 0.8, 0.7], [0.0, 0.5, 0.5, 0.5]]
    # 0, 3 and 7 lie 3, 7 and 4 apart; 1, 3 and 7 lie 2, 6 and 4 apart.
    found = top_k_diversity(rewards, [line, line], k=3)
    assert found == pytest.approx((14 / 3 + 12 / 3) / 2)


def test_repeating_the_best_object_is_no_variety():
    assert top_k_diversity([[1.0, 1.0, 0.0]], [np.zeros((3, 3))], k=2) == 0.0


def test_the_mean_distance_leaves_the_diagonal_out():
    assert mean_pairwise_distance([[0.0, 4.0], [4.0, 0.0]]) == 4.0


def test_diverse_top_k_skips_what_is_too_near():
    line = np.abs(np.subtract.outer([0.0, 0.1, 1.0, 2.0], [0.0, 0.1, 1.0, 2.0]))
    rewards = [0.9, 0.8, 0.5, 0.1]
    # The second is too near to the first.
    assert diverse_top_k_reward(rewards, line, threshold=0.3, k=2) == pytest.approx(0.7)
    # There are only three that far apart.
    assert diverse_top_k_reward(rewards, line, threshold=0.3, k=5) == pytest.approx(1.5 / 5)


def test_correlation_of_obedient_and_of_contrary_samples():
    asked = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    assert condition_correlation(asked, 3 * asked + 1) == pytest.approx(1.0)
    assert condition_correlation(asked, -asked) == pytest.approx(-1.0)
    # Obedient in the first objective, deaf in the second.
    assert condition_correlation(asked, asked * [1.0, 0.0]) == pytest.approx(0.5)


@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_correlation_agrees_with_numpy(samples, objectives, seed):
    rng = np.random.default_rng(seed)
    asked, came = rng.normal(size=(2, samples, objectives))
    expected = np.mean([np.corrcoef(a, c)[0, 1] for a, c in zip(asked.T, came.T, strict=True)])
    assert condition_correlation(asked, came) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 50), st.integers(1, 8), st.integers(0, 10**6))
def test_entropy_lies_between_nothing_and_the_logarithm(samples, references, seed):
    rng = np.random.default_rng(seed)
    found = pc_entropy(rng.random((samples, 2)), rng.random((references, 2)))
    assert 0.0 <= found <= math.log(min(samples, references)) + 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pc_entropy(np.empty((0, 2)), FRONT), "no samples"),
        (lambda: pc_entropy(FRONT, np.ones((2, 3))), "references"),
        (lambda: pc_entropy([[np.nan, 0.0]], FRONT), "nan in row 0"),
        (lambda: top_k_reward([[1.0, 2.0]], k=3), "k = 3"),
        (lambda: top_k_diversity([[1.0, 2.0]], np.zeros((1, 2, 2)), k=1), "at least 2"),
        (lambda: top_k_diversity([[1.0, 2.0]], np.zeros((2, 2)), k=2), "distances"),
        (lambda: mean_pairwise_distance(np.zeros((1, 1))), "two samples"),
        (lambda: mean_pairwise_distance([[0.0, np.inf], [np.inf, 0.0]]), "not all are finite"),
        (lambda: diverse_top_k_reward([1.0], np.zeros((2, 2)), threshold=0.1), "distances"),
        (lambda: condition_correlation([[1.0]], [[1.0]]), "two or more"),
        (lambda: cube_faces(2, per_axis=1), "two points an axis"),
    ],
)
def test_what_has_no_measure_is_refused(call, message):
    with pytest.raises(DiversityError, match=message):
        call()
