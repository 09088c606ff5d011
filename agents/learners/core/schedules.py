"""How settings change with the share of the budget that is spent."""

from __future__ import annotations


def linear(progress: float, *, start: float, end: float, until: float = 1.0) -> float:
    """A value that moves in a straight line from `start` to `end` and stays there.

    Args:
        progress: share of the budget that is spent, from 0.
        start: value at a progress of 0.
        end: value from a progress of `until` on.
        until: share of the budget at which `end` is reached; at 0, it is reached at once.
    """
    share = min(1.0, progress / until) if until > 0.0 else 1.0
    return start + (end - start) * share


def linear_decay(progress: float, *, final: float) -> float:
    """Factor of a learning rate: 1 at the beginning, `final` at a progress of 1 and after it.

    Args:
        progress: share of the budget that is spent, from 0.
        final: share of the learning rate that is left at the end.
    """
    return 1.0 - (1.0 - final) * min(1.0, progress)
