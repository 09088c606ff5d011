"""Read values of lines that may hold anything; what does not fit is refused in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from morl.experiments.leaderboard.ledger import LeaderboardError

LONGEST_NAME = 100


def text(content: Mapping[str, Any], name: str, *, longest: int = LONGEST_NAME) -> str:
    """A text that is not empty.

    Raises:
        LeaderboardError: it is none, or too long.
    """
    value = content[name]
    if not isinstance(value, str) or not value or len(value) > longest:
        raise LeaderboardError(f"{name} is not a text of 1 to {longest} characters")
    return value


def number(value: object) -> float:
    """A finite number.

    Raises:
        LeaderboardError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LeaderboardError(f"{value!r} is not a finite number")
    return float(value)


def optional(value: object) -> float | None:
    """A finite number or None."""
    return None if value is None else number(value)


def whole(value: object) -> int:
    """A whole number from 0.

    Raises:
        LeaderboardError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise LeaderboardError(f"{value!r} is not a whole number from 0")
    return value


def numbers(values: object) -> list[float]:
    """A list of finite numbers.

    Raises:
        LeaderboardError: it is none.
    """
    if not isinstance(values, list):
        raise LeaderboardError(f"{values!r:.60} is not a list of numbers")
    return [number(value) for value in values]


def points(table: object, count: int) -> list[list[float]]:
    """Points of that many coordinates.

    Raises:
        LeaderboardError: they are none.
    """
    if not isinstance(table, list):
        raise LeaderboardError("the front is not a list of points")
    found = [numbers(point) for point in table]
    if any(len(point) != count for point in found):
        raise LeaderboardError(f"a point of the front has not {count} coordinates")
    return found
