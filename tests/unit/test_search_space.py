"""Bounds of settings: every rule, its words, and where it is declared."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from morl.registry import AGENTS
from morl.search_space import (
    BOUNDS,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEARCH,
    SHARE,
    Bounds,
    BoundsError,
    Settings,
    bounded,
    bounds_of,
    check_ranges,
    searchable,
)


@dataclass
class Example(Settings):
    num_envs: int = searchable(8, bounds=COUNT, low=4, high=32, log=True)
    rate: float = bounded(0.1, low=0, open_low=True)
    share: float | None = bounded(None, SHARE)
    scales: tuple[float, ...] | None = bounded(None, Bounds(low=0, open_low=True, min_length=1))
    variant: str = bounded("ipo", choices=("ipo", "cpo"))
    free: float = -1.0


@dataclass
class Child(Example):
    num_envs: int = 2  # another default, the same bounds


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"rate": float("nan")}, "rate must be positive, got nan"),
        ({"rate": float("inf")}, "rate must be positive, got inf"),
        ({"share": 1.5}, "share must be in [0, 1], got 1.5"),
        ({"scales": (1.0, 0.0)}, "scales must be positive, got (1.0, 0.0)"),
        ({"scales": ()}, "scales needs at least 1 value, got ()"),
        ({"variant": "ppo"}, "variant must be one of ipo, cpo, got 'ppo'"),
        ({"num_envs": "many"}, "num_envs must be at least 1, got 'many'"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name_rule_and_value(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(BoundsError) as refusal:
        Example(**settings)  # type: ignore[arg-type]
    assert str(refusal.value) == words
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "rule"),
    [
        (Bounds(low=0, high=1, open_low=True), (1e-9, 1), (0, 1.1), "must be in (0, 1]"),
        (Bounds(low=0, high=1, open_high=True), (0, 0.99), (1, -0.1), "must be in [0, 1)"),
        (Bounds(high=3), (3, -100), (3.1,), "must be at most 3"),
        (Bounds(high=3, open_high=True), (2.9,), (3,), "must be below 3"),
        (Bounds(low=2, open_low=True), (2.1,), (2,), "must be above 2"),
        (NOT_NEGATIVE, (0, 5.5), (-1e-9, float("inf")), "must not be negative"),
        (POSITIVE, (1e-9,), (0, -1), "must be positive"),
        (Bounds(low=0, infinite=True), (float("inf"),), (float("nan"), -1), "must not be negative"),
        (Bounds(), (0, -7.5), (float("inf"), float("nan")), "must be finite"),
    ],
)
def test_bounds_hold_at_their_edges(
    bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...], rule: str
) -> None:
    for value in inside:
        bounds.check("x", value)
    for value in outside:
        with pytest.raises(BoundsError) as refusal:
            bounds.check("x", value)
        assert str(refusal.value) == f"x {rule}, got {value!r}"


@pytest.mark.parametrize(
    ("bounds", "interval"),
    [
        (COUNT, "[1, inf)"),
        (SHARE, "[0, 1]"),
        (POSITIVE, "(0, inf)"),
        (Bounds(high=3, open_high=True), "(-inf, 3)"),
        (Bounds(low=0, infinite=True), "[0, inf]"),
        (Bounds(choices=("a", "b")), "a | b"),
    ],
)
def test_intervals_read_as_in_mathematics(bounds: Bounds, interval: str) -> None:
    assert bounds.interval == interval


def test_none_means_not_set_and_fields_without_bounds_are_free() -> None:
    Example(share=None, scales=None, free=float("nan"))


def test_a_field_may_have_a_search_range_and_bounds() -> None:
    metadata = Example.__dataclass_fields__["num_envs"].metadata
    assert metadata[SEARCH].low == 4
    assert metadata[BOUNDS] == COUNT
    assert BOUNDS not in Example.__dataclass_fields__["free"].metadata


def test_a_subclass_that_changes_a_default_keeps_the_bounds() -> None:
    assert bounds_of(Child) == bounds_of(Example)
    with pytest.raises(BoundsError, match="num_envs must be at least 1, got 0"):
        Child(num_envs=0)


def test_a_plain_dataclass_can_be_checked_too() -> None:
    @dataclass
    class Plain:
        count: int = field(default=0, metadata={BOUNDS: COUNT})

    with pytest.raises(BoundsError, match="count must be at least 1, got 0"):
        check_ranges(Plain())


@pytest.mark.parametrize(
    ("agent", "setting", "value", "words"),
    [
        ("sb3", "epochs", 0, "epochs must be at least 1, got 0"),
        ("sb3", "gae_lambda", 1.5, r"gae_lambda must be in \[0, 1\], got 1.5"),
        ("sb3", "algorithm", "trpo", "algorithm must be one of ppo"),
        ("sb3", "learning_rate", float("nan"), "learning_rate must be positive, got nan"),
        ("gmorl", "batch", 0, "batch must be at least 1, got 0"),
        ("gmorl", "relabelled", -0.1, r"relabelled must be in \[0, 1\], got -0.1"),
        ("envelope_q", "homotopy_power", 0.0, "homotopy_power must be positive, got 0.0"),
        ("mogfn_pc", "exploration", 2.0, r"exploration must be in \[0, 1\], got 2.0"),
        ("mogfn_al", "varied", 1.0, r"varied must be in \[0, 1\), got 1.0"),
        ("simulated_annealing", "policies", 1, "policies must be at least 2, got 1"),
        ("offloading_heuristic", "samples", 0, "samples must be at least 1, got 0"),
    ],
)
def test_agents_state_the_rule_and_the_value_of_a_setting(
    agent: str, setting: str, value: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        AGENTS[agent].config(**{setting: value})
