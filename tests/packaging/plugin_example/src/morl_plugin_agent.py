"""An agent that tries every action in turn: the smallest that a stranger could publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.registry import register_agent
from morl.seeding import derive_seed
from morl.types import Front, Metrics, Solution, State, Task


@dataclass
class Config:
    """Settings.

    Attributes:
        pulls: steps in a row with one action.
    """

    pulls: int = 1


@dataclass(frozen=True)
class Always:
    """Takes one action whatever it sees."""

    action: int
    deterministic: bool = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose actions."""
        return np.full(len(observations), self.action)


@register_agent("plugin_each", config=Config)
class Each:
    """Plays each action in turn and remembers what it paid on average."""

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._env = task.make_vec(1)
        self._pulls, self._total_steps, self._seed = config.pulls, total_steps, seed
        self._steps = 0
        actions = int(self._env.single_action_space.n)
        self._paid = np.zeros((actions, task.spec.num_objectives))
        self._count = np.zeros(actions)

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._steps >= self._total_steps

    def learn(self, steps: int) -> Metrics:
        """Play; every call begins new episodes, so that no environment has to be saved."""
        self._env.reset(seed=derive_seed(self._seed, "env", self._steps))
        for _ in range(min(steps, self._total_steps - self._steps)):
            action = self._steps // self._pulls % len(self._count)
            rewards = self._env.step(np.array([action]))[1]
            self._paid[action] += rewards[0]
            self._count[action] += 1
            self._steps += 1
        return {"train/tried": float((self._count > 0).sum())}

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """Every action, or the one that pays best by each preference."""
        if preferences is None:
            return [Solution(Always(action)) for action in range(len(self._count))]
        mean = self._paid / np.maximum(self._count, 1)[:, None]
        best = (preferences @ mean.T).argmax(axis=1)
        return [Solution(Always(int(a)), w) for a, w in zip(best, preferences, strict=True)]

    def state_dict(self) -> State:
        """What the next call depends on."""
        return {"steps": self._steps, "paid": self._paid.copy(), "count": self._count.copy()}

    def load_state_dict(self, state: State) -> None:
        """Go on from there."""
        self._steps = state["steps"]
        self._paid, self._count = state["paid"].copy(), state["count"].copy()
