import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl.agents.learners.core.normalisation import RunningMoments, normalise_observations


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_moments_of_pieces_are_those_of_the_whole(seed, pieces):
    rng = np.random.default_rng(seed)
    samples = rng.normal(3.0, 2.0, (2, 5 * pieces, 3))
    moments = RunningMoments(2, 3)
    for piece in np.split(samples, pieces, axis=1):
        moments.update(piece)
    assert moments.mean == pytest.approx(samples.mean(axis=1))
    assert moments.variance == pytest.approx(samples.var(axis=1))
    assert moments.count.tolist() == [5 * pieces] * 2


def test_before_any_sample_observations_pass_unchanged():
    moments = RunningMoments(1, 2)
    observations = np.array([[[1.0, -2.0]]])
    result = normalise_observations(observations, moments.mean, moments.scale)
    assert result == pytest.approx(observations, abs=1e-6)


def test_policies_are_normalised_by_their_own_statistics():
    mean, scale = np.array([[1.0], [2.0]]), np.array([[1.0], [10.0]])
    observations = np.full((2, 3, 4, 1), 12.0)
    result = normalise_observations(observations, mean, scale)
    assert result[0].max() == 10.0  # clipped from 11
    assert result[1] == pytest.approx(np.ones((3, 4, 1)))


def test_selected_moments_are_copies():
    moments = RunningMoments(2, 1)
    moments.update(np.array([[[1.0]], [[5.0]]]))
    chosen = moments.select(np.array([1, 1, 0]))
    assert chosen.mean.ravel().tolist() == [5, 5, 1]
    chosen.update(np.full((3, 10, 1), 99.0))
    assert moments.mean.ravel().tolist() == [1, 5]
