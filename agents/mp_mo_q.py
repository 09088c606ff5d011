"""Multi-policy Q-learning with an outer loop that chooses the preferences: linear support.

Roijers, Whiteson and Oliehoek, "Computing Convex Coverage Sets for Faster Multi-Objective
Coordination" (JAIR 2015), with the tabular learner of `mo_q_learning` inside: preferences are added
where the known values leave most room, until none is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morl.agents.learners.core.linear_support import corner_weights, improvement
from morl.agents.learners.tabular.weighted_agent import WeightedAgent, WeightedConfig
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.search_space import COUNT, searchable
from morl.types import Metrics, State, Task

LEAST_ROOM = 1e-6
"""Room below which a corner is not worth a preference, as a share of the values' range."""

LOOKS = 4
"""Looks at the corners per preference that may be added."""

SWEEPS = 3
"""Passes over all states when a preference is added; it begins with those of its neighbour."""

MOST_CORNERS = 64
"""Corners whose room is computed at a time; each takes a linear programme."""


@dataclass
class Config(WeightedConfig):
    """Settings of multi-policy Q-learning.

    Attributes:
        preferences: most preferences. The corners are looked at four times as often, evenly over
            the budget.
    """

    preferences: int = searchable(64, bounds=COUNT, low=6, high=200, log=True)


@register_agent(
    "mp_mo_q",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        countable_observations=True,
        smoke={"num_envs": 4, "preferences": 5},
    ),
)
class MPMOQ(WeightedAgent):
    """Learns for preferences that optimistic linear support chooses.

    Args:
        task: with discrete actions and observations of integers.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(
            task,
            config,
            weights=np.eye(task.spec.num_objectives),
            chebyshev=False,
            total_steps=total_steps,
            seed=seed,
            name="mp_mo_q",
        )
        self._config = config
        self._room = float("inf")
        self._looks = 0

    def _end_round(self, steps: int) -> None:
        super()._end_round(steps)
        due = int(self._budget.progress * LOOKS * self._config.preferences)
        if due > self._looks:
            self._looks = due
            self._look_for_room()

    def _look_for_room(self) -> None:
        """Add the corner where the known values leave most room, if it is worth it."""
        if self.start is None:
            return
        visited, values = self._values.weights, self._values.values[self.start]
        corners = corner_weights(values)
        distance = np.abs(corners[:, None] - visited[None]).max(axis=2).min(axis=1)
        far = np.argsort(-distance, kind="stable")[:MOST_CORNERS]
        corners = corners[far[distance[far] > LEAST_ROOM]]
        room = np.array([improvement(corner, visited, values) for corner in corners])
        self._room = float(room.max(initial=0.0))
        worth = LEAST_ROOM * max(float(np.ptp(values)), LEAST_ROOM)
        if self._room > worth and len(visited) < self._config.preferences:
            self._values.extend(corners[int(room.argmax())])
            self._values.settle(self._model, len(self._numbers), sweeps=SWEEPS)

    def _metrics(self) -> Metrics:
        known = {"train/room": self._room} if np.isfinite(self._room) else {}
        return {**super()._metrics(), **known}

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {**super().state_dict(), "room": self._room, "looks": self._looks}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._room = float(state["room"])
        self._looks = int(state["looks"])
