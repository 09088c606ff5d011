"""Preferences among rewards of one unit, said in another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morl.preferences import check_preferences
from morl.types import Front


def rescaled(preferences: Front, factors: Sequence[float] | np.ndarray) -> Front:
    """The preferences that weigh rewards as these weigh rewards times `factors`.

    With factors (0.01, 5), half for each objective of scaled rewards is (0.002, 0.998) of raw ones.
    The way back is the same with inverse factors.

    Args:
        preferences: ``(preference, objective)``, rows on the simplex.
        factors: positive, one an objective.

    Raises:
        PreferenceError: for rows that are not on the simplex.
    """
    scale = np.asarray(factors, np.float64)
    products = check_preferences(preferences, num_objectives=len(scale)) * scale
    return np.asarray(products / products.sum(axis=1, keepdims=True), np.float64)


def checked_factors(factors: Sequence[float], *, num_objectives: int, name: str) -> Sequence[float]:
    """The factors themselves.

    Raises:
        ValueError: unless there is a positive one for each objective; names the setting.
    """
    if len(factors) != num_objectives or not all(0.0 < one < np.inf for one in factors):
        raise ValueError(
            f"{name} must be {num_objectives} positive numbers, one an objective, got "
            f"{list(factors)}"
        )
    return factors
