"""How a field of a settings dataclass says which values it takes and which are worth searching.

Only metadata: agents declare `Bounds` and `SearchRange`s here; `check_ranges` enforces the first,
`morl.hpo` reads the second, and neither knows the other. Bounds are what makes sense at all; a
search range, which lies within them, is where good values are expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, TypeVar

SEARCH = "search"
"""Key of a field's metadata: its `SearchRange`."""

BOUNDS = "bounds"
"""Key of a field's metadata: its `Bounds`."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SearchRange:
    """Where to search a field.

    Attributes:
        low: least value of a number.
        high: greatest value, included.
        log: whether numbers are drawn evenly in their logarithm.
        choices: values to choose from instead of a range; by name where they are not plain
            (``{"small": (64, 64)}``).
        when: other fields and the values of theirs under which this one matters
            (``{"variant": ("cpo",)}``); otherwise it keeps its default.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Sequence[Any] | Mapping[str, Any] | None = None
    when: Mapping[str, Sequence[Any]] | None = None


class BoundsError(ValueError):
    """A setting out of its bounds; the message names the setting, the rule and the value."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The values that a setting may take. None is always allowed: it means "not set".

    Of a sequence, every element must keep the bounds. NaN never does.

    Attributes:
        low: least value.
        high: greatest value.
        open_low: whether `low` itself is refused.
        open_high: whether `high` itself is refused.
        choices: the only values, instead of a range.
        min_length: least number of elements of a sequence.
        infinite: whether an infinite value is allowed.
    """

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    choices: tuple[Any, ...] | None = None
    min_length: int = 0
    infinite: bool = False

    @property
    def rule(self) -> str:
        """The rule as the end of a sentence: "must be at least 1"."""
        if self.choices is not None:
            return f"must be one of {', '.join(map(str, self.choices))}"
        if self.low is not None and self.high is not None:
            return f"must be in {self.interval}"
        if self.low is not None:
            return self._lower_rule(self.low)
        if self.high is not None:
            return f"must be {'below' if self.open_high else 'at most'} {self.high:g}"
        return "must be finite"

    @property
    def interval(self) -> str:
        """The range in the notation of intervals, "(0, 1]"; of choices, their list."""
        if self.choices is not None:
            return " | ".join(map(str, self.choices))
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        begins = "(" if self.open_low or self.low is None else "["
        ends = ")" if self.open_high or (self.high is None and not self.infinite) else "]"
        return f"{begins}{low}, {high}{ends}"

    def check(self, name: str, value: object) -> None:
        """Refuse a value out of bounds.

        Args:
            name: of the setting, for the message.
            value: a number, a word, a sequence of them, or None.

        Raises:
            BoundsError: states the setting, the rule and the value.
        """
        if value is None:
            return
        values = list(value) if isinstance(value, tuple | list) else [value]
        if len(values) < self.min_length:
            noun = "value" if self.min_length == 1 else "values"
            raise BoundsError(f"{name} needs at least {self.min_length} {noun}, got {value!r}")
        if not all(self._allows(one) for one in values):
            raise BoundsError(f"{name} {self.rule}, got {value!r}")

    def _lower_rule(self, low: float) -> str:
        if self.open_low:
            return "must be positive" if low == 0 else f"must be above {low:g}"
        return "must not be negative" if low == 0 else f"must be at least {low:g}"

    def _allows(self, value: object) -> bool:
        if self.choices is not None:
            return value in self.choices
        if not isinstance(value, Real):
            return False
        number = float(value)
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            return False
        if self.low is not None and (number < self.low or (self.open_low and number == self.low)):
            return False
        above = self.high is not None and number > self.high
        return not (above or (self.open_high and number == self.high))


COUNT = Bounds(low=1)
"""A number of things, at least one."""

POSITIVE = Bounds(low=0, open_low=True)
"""A finite number above zero."""

NOT_NEGATIVE = Bounds(low=0)
"""A finite number from zero up."""

SHARE = Bounds(low=0, high=1)
"""A share or probability, in [0, 1]."""


def bounded(
    default: T,
    bounds: Bounds | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    choices: Sequence[Any] | None = None,
) -> T:
    """A dataclass field with a default and bounds that `check_ranges` enforces.

    Args:
        default: of the field; not a list, dict or set.
        bounds: instead of the others, for example `COUNT` or `SHARE`.
        low: see `Bounds`, as the others.
        high: with `low` or alone.
        open_low: refuses `low` itself.
        open_high: refuses `high` itself.
        choices: instead of a range.

    Returns:
        What ``dataclasses.field`` returns, typed as the default as it is there.
    """
    if bounds is None:
        bounds = Bounds(
            low=low,
            high=high,
            open_low=open_low,
            open_high=open_high,
            choices=None if choices is None else tuple(choices),
        )
    made: T = field(default=default, metadata={BOUNDS: bounds})
    return made


def bounds_of(config: type[Any] | object) -> dict[str, Bounds]:
    """Bounds of the fields of a dataclass or one of its instances, by name.

    A field that a subclass declares again without bounds, to change its default, keeps those
    of the class it inherits from.
    """
    kind = config if isinstance(config, type) else type(config)
    found: dict[str, Bounds] = {}
    for parent in reversed(kind.__mro__):
        declared = parent.__dict__.get("__dataclass_fields__", {})
        for name, setting in declared.items():
            if BOUNDS in setting.metadata:
                found[name] = setting.metadata[BOUNDS]
    return found


def check_ranges(config: Any) -> None:  # noqa: ANN401 - any dataclass
    """Refuse a configuration with a setting out of its bounds, in the order of its fields.

    Raises:
        BoundsError: names the first such setting, the rule and the value.
    """
    bounds = bounds_of(config)
    for setting in fields(config):
        if setting.name in bounds:
            bounds[setting.name].check(setting.name, getattr(config, setting.name))


class Settings:
    """Base class of the configurations of agents: every one checks its bounds when it is made.

    A subclass with rules that relate several settings defines ``__post_init__``, calls
    ``super().__post_init__()`` and adds them.
    """

    def __post_init__(self) -> None:
        """Refuse values out of bounds.

        Raises:
            BoundsError: names the setting, the rule and the value.
        """
        check_ranges(self)


def searchable(
    default: T,
    *,
    bounds: Bounds | None = None,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    choices: Sequence[Any] | Mapping[str, Any] | None = None,
    when: Mapping[str, Sequence[Any]] | None = None,
) -> T:
    """A dataclass field with a default and a search range.

    Args:
        default: of the field; not a list, dict or set.
        bounds: what values make sense at all, searched or not.
        low: see `SearchRange`, as the others.
        high: with `low`, for numbers.
        log: for positive numbers.
        choices: instead of `low` and `high`.
        when: conditions on other fields.

    Returns:
        What ``dataclasses.field`` returns, typed as the default as it is there.
    """
    metadata: dict[str, Any] = {
        SEARCH: SearchRange(low=low, high=high, log=log, choices=choices, when=when)
    }
    if bounds is not None:
        metadata[BOUNDS] = bounds
    made: T = field(default=default, metadata=metadata)
    return made
