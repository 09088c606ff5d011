"""One root seed, any number of named streams; nothing here touches a global generator.

A seed is a hash of what it is for (root seed, name, index), so it does not depend on the order
in which streams are asked for, on how many workers ask, or on ``PYTHONHASHSEED``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from morl.types import State

_SEED_MASK = 0x7FFF_FFFF


def derive_seed(root: int, name: str, index: int = 0) -> int:
    """Seed number `index` of a named stream.

    Args:
        root: the run's seed; any integer.
        name: what the seed is for ("train/env").
        index: which one of the stream, at least 0.

    Returns:
        An integer in [0, 2^31), as environments and libraries take it.
    """
    return int.from_bytes(_digest(root, name, index)[:4], "big") & _SEED_MASK


def stream(root: int, name: str, count: int, start: int = 0) -> list[int]:
    """Seeds ``start`` to ``start + count - 1`` of a named stream.

    Args:
        root: the run's seed; any integer.
        name: what the seeds are for.
        count: how many, at least 0.
        start: index of the first one, at least 0.

    Returns:
        31-bit integers; item i equals ``derive_seed(root, name, start + i)``.

    Raises:
        ValueError: if `count` or `start` is negative.
    """
    if count < 0:
        raise ValueError(f"stream {name!r}: count must not be negative, got {count}")
    return [derive_seed(root, name, index) for index in range(start, start + count)]


def generator(root: int, name: str, index: int = 0) -> np.random.Generator:
    """A fresh generator (PCG64) for one purpose.

    It is seeded by 128 bits of the hash, none of them shared with `derive_seed`, so that a
    stream of seeds and a generator of one name are not related.

    Args:
        root: the run's seed; any integer.
        name: what the numbers are for ("agent/minibatches").
        index: tells equal purposes apart (a worker, an update), at least 0.
    """
    entropy = int.from_bytes(_digest(root, name, index)[16:], "big")
    return np.random.Generator(np.random.PCG64(entropy))


def generator_state(rng: np.random.Generator) -> State:
    """Where a PCG64 generator stands, as strings and small integers that JSON keeps exactly.

    Raises:
        TypeError: if the generator is not a PCG64.
    """
    state = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise TypeError(
            f"only PCG64 generators can be saved, got {state['bit_generator']}; "
            "make them by morl.seeding.generator"
        )
    return {
        "bit_generator": "PCG64",
        "state": hex(state["state"]["state"]),
        "increment": hex(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def restore_generator(rng: np.random.Generator, state: State) -> None:
    """Put a generator where `generator_state` found another one.

    Args:
        rng: a PCG64 generator; changed in place.
        state: what `generator_state` returned.

    Raises:
        ValueError: if the state is not one of `generator_state`.
    """
    try:
        rng.bit_generator.state = _numpy_state(state)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a saved PCG64 generator: {state!r}") from error


def _numpy_state(state: State) -> dict[str, Any]:
    return {
        "bit_generator": state["bit_generator"],
        "state": {"state": int(state["state"], 16), "inc": int(state["increment"], 16)},
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def _digest(root: int, name: str, index: int) -> bytes:
    if index < 0:
        raise ValueError(f"stream {name!r}: index must not be negative, got {index}")
    # JSON keeps the three apart: no other triple has the same text.
    text = json.dumps([int(root), name, int(index)], separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).digest()
