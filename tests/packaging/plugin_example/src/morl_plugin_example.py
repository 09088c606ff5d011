"""A bandit with three arms: the smallest environment that a stranger could publish."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.registry import register_env
from morl.types import EnvSpec, Objective

ARMS = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])

SPEC = EnvSpec(
    id="plugin-arms-v0",
    objectives=(Objective("speed"), Objective("thrift")),
    reference_point=(-0.1, -0.1),
    horizon=1,
    package="morl-plugin-example",
    description="One pull of one of three arms.",
)


@register_env("plugin-arms-v0", spec=SPEC)
class Arms(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Each arm pays a fixed vector; an episode is one pull."""

    observation_space = spaces.Box(0.0, 1.0, (1,), dtype=np.float32)
    action_space = spaces.Discrete(len(ARMS))
    reward_space = spaces.Box(0.0, 1.0, (2,), dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], Any, bool, bool, dict[str, Any]]:
        """Pull an arm."""
        return np.zeros(1, dtype=np.float32), ARMS[action].copy(), True, False, {}
