"""Search spaces say what is searched, and refuse what the configuration could not hold."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from cheap_studies import Knobs, space
from hypothesis import given
from hypothesis import strategies as st

from morl.agents.c_morl import Config
from morl.hpo.expressions import Expression
from morl.hpo.space import SearchSpace
from morl.hpo.types import SpaceError
from morl.search_space import SEARCH, searchable


def test_fields_declare_their_ranges() -> None:
    found = space()
    assert found.names == ("x", "rate", "n", "kind", "width")
    assert found.defaults == {"x": 0.5, "rate": 0.01, "n": 4, "kind": "a", "width": 0.5}
    assert found.record()["rate"] == {
        "type": "float", "default": 0.01, "low": 1e-4, "high": 1.0, "log": True,
    }  # fmt: skip
    assert found.record()["kind"] == {
        "type": "categorical", "default": "a", "choices": {"a": "a", "b": "b"},
    }  # fmt: skip


def test_a_searchable_field_is_an_ordinary_field_with_a_default() -> None:
    assert Knobs().n == 4
    assert Knobs.__dataclass_fields__["n"].metadata[SEARCH].high == 16


def test_the_mapping_changes_adds_and_leaves_out() -> None:
    found = space(rate={"high": 0.1}, x=None, batch={"low": 64, "high": 1024, "log": True})
    assert found.names == ("rate", "n", "kind", "width", "batch")
    assert found.record()["rate"]["low"] == 1e-4
    assert found.record()["rate"]["high"] == 0.1
    assert found.record()["batch"]["type"] == "int"


def test_a_mapping_of_choices_replaces_a_range_and_a_range_choices() -> None:
    found = space(x={"choices": [0.25, 0.5]}, n={"choices": {"few": 4, "many": 16}})
    assert found.settings({**found.defaults, "x": 0.25, "n": "many"})["n"] == 16
    assert found.defaults["n"] == "few"


def test_lists_are_chosen_by_name() -> None:
    found = space(layers={"choices": [[64, 64], [256, 256]]})
    assert found.defaults["layers"] == "64x64"
    settings = found.settings({**found.defaults, "layers": "256x256"})
    assert settings["layers"] == [256, 256]
    assert found.build(settings).layers == (256, 256)


def test_only_limits_the_search() -> None:
    assert SearchSpace.of(Knobs(), only=["n", "x"]).names == ("x", "n")


def test_a_setting_is_left_out_unless_its_condition_holds() -> None:
    found = space()
    assert "width" not in found.settings(found.defaults)
    assert found.settings({**found.defaults, "kind": "b"})["width"] == 0.5
    assert found.active(found.defaults) == ("x", "rate", "n", "kind")


def test_a_condition_on_what_is_not_searched_is_decided_at_once() -> None:
    assert "width" not in space(kind=None).names
    assert "width" in SearchSpace.of(Knobs(kind="b"), {"kind": None}).names


def test_ties_follow_other_values_searched_or_not() -> None:
    found = space(batch={"tie": "n * 32"}, limit={"tie": "x / (n + 1)"})
    settings = found.settings({**found.defaults, "x": 0.25, "n": 9})
    assert settings["batch"] == 288
    assert settings["limit"] == 0.025


def test_a_tie_uses_the_default_of_an_inactive_setting() -> None:
    found = space(limit={"tie": "width * 2"})
    assert found.settings({**found.defaults, "width": 0.9})["limit"] == 1.0
    assert found.settings({**found.defaults, "width": 0.9, "kind": "b"})["limit"] == 1.8


def test_a_declared_range_is_widened_to_the_base_but_a_given_one_is_not() -> None:
    found = SearchSpace.of(Knobs(rate=3.0))
    assert found.record()["rate"]["high"] == 3.0
    with pytest.raises(SpaceError, match=r"rate: the default 3.0 lies outside 0.1 to 1.0"):
        SearchSpace.of(Knobs(rate=3.0), {"rate": {"low": 0.1, "high": 1.0}})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rato": {"low": 0, "high": 1}}, "'rato' is searched, but .*Knobs has no such setting, "
         "did you mean 'rate'"),
        ({"n": {"low": 1.5, "high": 8}}, "n is a whole number, but its low is 1.5"),
        ({"n": {"type": "float"}}, "n is a whole number, but its type says float"),
        ({"x": {"low": 0.9, "high": 0.1}}, "x: low 0.9 must be less than high 0.1"),
        ({"x": {"low": 0.0, "high": 1.0, "log": True}}, "x: with log, low must be positive"),
        ({"x": {"low": 0.0, "high": 2.0}}, r"x = 2.0: .*refuses: x must be in \[0, 1\], got 2.0"),
        ({"x": {"low": "a", "high": 1.0}}, "x: low must be a number, got 'a'"),
        ({"x": {"lo": 0.1}}, "x: unknown key 'lo', did you mean"),
        ({"x": 0.5}, "x: expected a mapping"),
        ({"batch": {"low": 1}}, "batch: high is missing"),
        ({"layers": {"low": 1, "high": 2}}, "layers is .*: give choices, not a range"),
        ({"layers": {"choices": {"a": [64, 64], "b": 3}}}, "layers: the choice 3 is not"),
        ({"kind": {"choices": ["b", "c"]}}, "kind: the default 'a' is not among the choices"),
        ({"kind": {"choices": ["a"]}}, "kind: at least two choices"),
        ({"fixed": {"low": 0, "high": 1}}, "fixed is true or false: give choices"),
        ({"limit": {"low": 0.1, "high": 1.0}}, "limit: its default is None"),
        ({"batch": {"tie": "n * widht"}}, "batch: .* names 'widht', did you mean 'width'"),
        ({"batch": {"tie": "n / 3"}}, "batch is a whole number, but 'n / 3' gives"),
        ({"batch": {"tie": "__import__('os')"}}, "batch: the formula .* may hold numbers"),
        ({"batch": {"tie": "n *"}}, "batch: cannot read the formula"),
        ({"batch": {"tie": "n", "low": 1}}, "batch: a tied value takes no low"),
        ({"batch": {"tie": "n // (n - n)"}}, "cannot be computed"),
        ({"batch": {"tie": "batch + 1"}}, "batch needs batch: conditions or ties in a ring"),
        ({"width": {"when": {"knid": "b"}}}, "width: its condition names 'knid', did you mean"),
    ],
)  # fmt: skip
def test_what_disagrees_with_the_configuration_is_refused(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        space(**overrides)


def test_a_wish_for_what_has_no_range_is_refused() -> None:
    with pytest.raises(SpaceError, match="batch: no search range"):
        SearchSpace.of(Knobs(), only=["x", "batch"])


def test_a_configuration_without_ranges_needs_a_mapping() -> None:
    @dataclass
    class Bare:
        a: int = 1

    with pytest.raises(SpaceError, match="nothing to search: no field of Bare"):
        SearchSpace.of(Bare())
    assert SearchSpace.of(Bare(), {"a": {"low": 1, "high": 3}}).names == ("a",)


def test_types_of_choices_are_checked_against_literals_and_options() -> None:
    @dataclass
    class Typed:
        mode: Literal["fast", "slow"] = "fast"
        size: int | None = None
        names: list[str] = field(default_factory=list)
        on: bool = True

    found = SearchSpace.of(
        Typed(), {"size": {"choices": [None, 3]}, "on": {"choices": [True, False]}}
    )
    assert found.defaults == {"size": None, "on": True}
    assert found.settings({"size": 3, "on": False}) == {"size": 3, "on": False}
    with pytest.raises(SpaceError, match="mode: the choice 'medium' is not"):
        SearchSpace.of(Typed(), {"mode": {"choices": ["fast", "medium"]}})


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=5, max_size=5))
def test_every_point_of_the_unit_cube_is_inside_and_builds(point: list[float]) -> None:
    found = space()
    sampled = found.from_unit(point)
    for name, kind in found.distributions().items():
        assert kind._contains(kind.to_internal_repr(sampled[name]))  # type: ignore[arg-type]
    assert isinstance(found.build(found.settings(sampled)), Knobs)


def test_places_in_the_unit_cube_are_spread_as_declared() -> None:
    found = space()
    low = found.from_unit([0.0] * 5)
    assert low == {"x": 0.0, "rate": pytest.approx(1e-4), "n": 1, "kind": "a", "width": 0.1}
    middle = found.from_unit([0.5] * 5)
    assert middle["x"] == 0.5
    assert middle["rate"] == pytest.approx(1e-2)
    assert middle["kind"] == "b"
    # Whole numbers own half a step on both sides: 0.5 to 16.5, in the middle sqrt(8.25) = 2.87.
    assert middle["n"] == 3


@given(st.integers(1, 9), st.integers(1, 9))
def test_formulas_compute_what_python_would(a: int, b: int) -> None:
    formula = Expression("max(a, 2) ** 2 // b + -a % b + round(sqrt(b)) - abs(-1) / int(2.5)")
    expected = max(a, 2) ** 2 // b + -a % b + round(math.sqrt(b)) - abs(-1) / int(2.5)
    assert formula({"a": a, "b": b}.__getitem__) == expected
    assert formula.names == {"a", "b"}


@pytest.mark.parametrize(
    "text", ["a.b", "a[0]", "f(a)", "'a'", "a if b else c", "lambda: 1", "a<b"]
)
def test_formulas_are_arithmetic_and_nothing_else(text: str) -> None:
    with pytest.raises(SpaceError, match="may hold numbers"):
        Expression(text)


def test_a_space_goes_to_other_processes() -> None:
    found = space(batch={"tie": "n * 32"})
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_space_of_c_morl_fits_its_configuration() -> None:
    found = SearchSpace.of(Config())
    assert {"learning_rate", "hidden", "beta", "barrier_sharpness"} <= set(found.names)
    assert "max_kl" not in found.names
    assert "max_kl" in SearchSpace.of(Config(variant="cpo")).names


def test_searchable_keeps_its_conditions() -> None:
    @dataclass
    class Chained:
        a: str = searchable("on", choices=("on", "off"))
        b: int = searchable(1, low=1, high=5, when={"a": ("on",)})
        c: int = searchable(1, low=1, high=5, when={"b": (5,)})

    found = SearchSpace.of(Chained())
    assert found.active({"a": "on", "b": 5, "c": 2}) == ("a", "b", "c")
    # b is not in force where a is off: it then has its default, which c's condition does not allow.
    assert found.active({"a": "off", "b": 5, "c": 2}) == ("a",)
