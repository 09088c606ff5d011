"""Looks at what environments return, alike for all agents that play episodes themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.types import NonFiniteError


def require_finite_rewards(rewards: NDArray[Any], *, env_id: str, seed: int, step: int) -> None:
    """Refuse rewards that are not finite.

    Args:
        rewards: of any shape.
        env_id: for the message.
        seed: of the agent.
        step: environment steps of the agent so far.

    Raises:
        NonFiniteError: names the environment, the seed and about which step it was.
    """
    if not np.isfinite(rewards).all():
        raise NonFiniteError(f"{env_id}: a reward is not finite (seed {seed}, near step {step})")


def by_chance(returns: NDArray[np.float64]) -> bool:
    """Whether episodes of one policy differ.

    Args:
        returns: (policy, episode, objective).
    """
    return bool((returns != returns[:, :1]).any())
