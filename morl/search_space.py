"""How a field of a settings dataclass says in which range it is worth searching.

Only metadata: agents declare ranges here, `morl.hpo` reads them, and neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

SEARCH = "search"
"""Key of a field's metadata."""

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


def searchable(
    default: T,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    choices: Sequence[Any] | Mapping[str, Any] | None = None,
    when: Mapping[str, Sequence[Any]] | None = None,
) -> T:
    """A dataclass field with a default and a search range.

    Args:
        default: of the field; not a list, dict or set.
        low: see `SearchRange`, as the others.
        high: with `low`, for numbers.
        log: for positive numbers.
        choices: instead of `low` and `high`.
        when: conditions on other fields.

    Returns:
        What ``dataclasses.field`` returns, typed as the default as it is there.
    """
    found = SearchRange(low=low, high=high, log=log, choices=choices, when=when)
    made: T = field(default=default, metadata={SEARCH: found})
    return made
