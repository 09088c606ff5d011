"""Observation encoders: numbers, codes, both, and when they fall back."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.core.errors import UnsupportedTaskError

GRID = spaces.Box(np.array([-1, 0]), np.array([1, 3]), dtype=np.int32)


def encoder(encoding: str, space: spaces.Box = GRID, max_inputs: int = 100) -> ObservationEncoder:
    return ObservationEncoder.of(space, encoding, max_inputs=max_inputs, env_id="grid-v0")


def test_both_puts_numbers_before_codes() -> None:
    both = encoder("both")
    assert (both.num_numbers, both.num_codes, both.num_inputs) == (2, 7, 9)
    inputs = both(np.array([[-1, 0], [0, 3]]))
    assert inputs.tolist() == [
        [-1.0, -1.0, 1, 0, 0, 1, 0, 0, 0],
        [0.0, 1.0, 0, 1, 0, 0, 0, 0, 1],
    ]


def test_one_hot_has_codes_alone() -> None:
    codes = encoder("one_hot")
    assert codes.num_inputs == 7
    assert codes(np.array([[1, 2]])).tolist() == [[0, 0, 1, 0, 0, 1, 0]]
    assert codes.codes(np.array([[1, 2]])).tolist() == [[2, 5]]


def test_raw_leaves_numbers_as_they_are() -> None:
    raw = encoder("raw")
    assert raw(np.array([[-1, 3]])).tolist() == [[-1.0, 3.0]]
    assert raw.num_inputs == 2
    assert raw.codes(np.array([[-1, 3]])).shape == (1, 0)


def test_integers_beyond_the_bounds_count_as_the_nearest_bound() -> None:
    assert encoder("one_hot")(np.array([[7, -2]])).tolist() == [[0, 0, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("space", "max_inputs"),
    [
        (spaces.Box(-1.0, 1.0, (2,), np.float32), 100),
        (GRID, 6),
        (spaces.Box(np.iinfo(np.int32).min, np.iinfo(np.int32).max, (2,), np.int32), 100),
    ],
)
def test_what_cannot_be_coded_stays_raw_and_says_so(space: spaces.Box, max_inputs: int) -> None:
    fallen = encoder("both", space, max_inputs)
    assert fallen.encoding == "raw"
    assert fallen(np.array([[1, 0]])).tolist() == [[1.0, 0.0]]


def test_flags_of_one_value_have_a_number_within_range() -> None:
    space = spaces.Box(np.array([0, 0]), np.array([0, 1]), dtype=np.int8)
    assert encoder("both", space)(np.array([[0, 1]])).tolist() == [[-1.0, 1.0, 1, 0, 1]]


def test_images_and_unknown_encodings_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="grid-v0: observations are images"):
        encoder("raw", spaces.Box(0, 255, (8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="encoding must be one of raw, one_hot, both, got 'hot'"):
        encoder("hot")
