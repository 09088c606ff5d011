"""Named streams of seeds."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morl.seeding import derive_seed, generator, generator_state, restore_generator, stream


def test_seeds_and_generators_come_from_the_two_halves_of_one_sha256() -> None:
    # printf '[7,"train/env",3]' | sha256sum
    # f06a41e18e08489819e242cdd1c8ac8a6a08cdbe7b63b49a544da7cde6ae5b35
    assert derive_seed(7, "train/env", 3) == 0xF06A41E1 - 0x80000000
    expected = np.random.Generator(np.random.PCG64(0x6A08CDBE7B63B49A544DA7CDE6AE5B35))
    assert generator(7, "train/env", 3).random() == expected.random()


@given(st.integers(), st.text(max_size=20), st.integers(0, 2**70))
def test_seeds_fit_into_31_bits(root: int, name: str, index: int) -> None:
    assert 0 <= derive_seed(root, name, index) < 2**31


def test_a_stream_is_the_same_asked_for_at_once_in_parts_or_backwards() -> None:
    whole = stream(5, "episodes", 10)
    assert stream(5, "episodes", 4) + stream(5, "episodes", 6, start=4) == whole
    assert [derive_seed(5, "episodes", index) for index in range(9, -1, -1)] == whole[::-1]


def test_streams_of_other_names_and_roots_have_no_seed_in_common() -> None:
    streams = [stream(root, name, 500) for root in (0, 1) for name in ("selection", "report")]
    assert len({seed for seeds in streams for seed in seeds}) == 2000


def test_digits_cannot_wander_from_the_name_to_the_index() -> None:
    assert derive_seed(1, "a1", 1) != derive_seed(1, "a", 11)
    assert derive_seed(11, "a", 0) != derive_seed(1, "1a", 0)


@pytest.mark.parametrize("call", [lambda: stream(0, "a", -1), lambda: derive_seed(0, "a", -1)])
def test_a_negative_count_or_index_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"stream 'a'.*-1"):
        call()


def test_seeds_and_generators_do_not_depend_on_the_hash_seed_of_python() -> None:
    code = (
        "from morl.seeding import *; "
        "print(stream(3, 'ä/env', 5), generator(3, 'ä/env', 1).random(3).tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    expected = f"{stream(3, 'ä/env', 5)} {generator(3, 'ä/env', 1).random(3).tolist()}\n"
    assert printed == {expected}


def test_generators_of_one_name_agree_and_of_two_names_do_not() -> None:
    first = generator(0, "agent").random(1000)
    assert np.array_equal(first, generator(0, "agent").random(1000))
    for other in (generator(0, "env"), generator(1, "agent"), generator(0, "agent", 1)):
        # Independent uniforms: |correlation| exceeds 0.15 with a probability below 1e-5.
        assert abs(np.corrcoef(first, other.random(1000))[0, 1]) < 0.15


def test_the_global_generators_are_left_alone() -> None:
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - it is the point
    generator(0, "agent").random(10)
    stream(0, "agent", 10)
    after = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert before == after


@settings(max_examples=30)
@given(st.integers(0, 9), st.integers(0, 3))
def test_a_restored_generator_goes_on_bit_for_bit(floats: int, halves: int) -> None:
    rng = generator(0, "agent")
    rng.random(floats)
    for _ in range(halves):  # an odd number leaves half a word in the generator's pocket
        rng.integers(2**32, dtype=np.uint32)
    state = json.loads(json.dumps(generator_state(rng)))
    twin = generator(99, "somebody else")
    restore_generator(twin, state)
    assert rng.integers(2**32, size=5, dtype=np.uint32).tolist() == (
        twin.integers(2**32, size=5, dtype=np.uint32).tolist()
    )
    assert rng.standard_normal(5).tolist() == twin.standard_normal(5).tolist()


def test_only_pcg64_generators_are_saved() -> None:
    with pytest.raises(TypeError, match=r"MT19937.*morl\.seeding\.generator"):
        generator_state(np.random.Generator(np.random.MT19937(0)))


@pytest.mark.parametrize("key", ["bit_generator", "state", "increment", "has_uint32"])
def test_a_damaged_state_is_refused_and_changes_nothing(key: str) -> None:
    rng = generator(0, "agent")
    before = generator_state(rng)
    for state in ({**before, key: "nonsense"}, {k: v for k, v in before.items() if k != key}):
        with pytest.raises(ValueError, match="not a saved PCG64 generator"):
            restore_generator(rng, state)
    assert generator_state(rng) == before
