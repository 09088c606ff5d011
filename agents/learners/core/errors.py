"""Errors that agents of every family raise."""

from __future__ import annotations

from morl.types import MorlError, NoLegalActionError, UnsupportedTaskError

__all__ = ["BudgetError", "MissingExtraError", "NoLegalActionError", "UnsupportedTaskError"]


class BudgetError(MorlError, ValueError):
    """A budget that does not allow a single update."""


class MissingExtraError(MorlError, ImportError):
    """An agent needs a package that is not installed."""
