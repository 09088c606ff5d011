"""What tabular agents for weighted preferences share: exploration, greedy episodes and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.tabular.agent import TabularAgent, TabularConfig, Transitions
from morl.agents.learners.tabular.weighted import GreedyPolicy, WeightedValues
from morl.preferences import check_preferences
from morl.search_space import SHARE, searchable
from morl.types import Front, Metrics, Solution, State, Task


@dataclass
class WeightedConfig(TabularConfig):
    """Settings of tabular agents for weighted preferences.

    Attributes:
        exploit: share of the episodes that act greedily for a random preference for a while
            before they explore; the others explore from the start.
    """

    exploit: float = searchable(0.5, bounds=SHARE, low=0.0, high=0.9)


class WeightedAgent(TabularAgent):
    """Values for many preferences on one model; subclasses choose the preferences.

    Args:
        task: with discrete actions and observations of integers.
        config: settings.
        weights: preferences to begin with, (preference, objective).
        chebyshev: see `WeightedValues`.
        total_steps: environment steps it may take.
        seed: root of its random streams.
        name: of the agent.
    """

    def __init__(
        self, task: Task, config: WeightedConfig, *, weights: Front, chebyshev: bool,
        total_steps: int, seed: int, name: str,
    ) -> None:  # fmt: skip
        super().__init__(task, config, total_steps=total_steps, seed=seed, name=name)
        self._exploit = config.exploit
        self._values = WeightedValues(weights, discount=task.spec.discount, chebyshev=chebyshev)
        self._greedy_steps = np.zeros(config.num_envs, np.int64)
        self._chosen = np.zeros(config.num_envs, np.int64)

    @property
    def start(self) -> int | None:
        """The usual start state; None before the first episode."""
        return max(self._starts, key=self._starts.__getitem__, default=None)

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """A greedy policy per preference of its own, or the best of them for each asked for."""
        values = self._settled()
        actions = values.frozen(self._model, len(self._numbers))
        policies = [GreedyPolicy(self._numbers, column) for column in actions.T]
        if preferences is None:
            return [
                Solution(policy, row) for policy, row in zip(policies, values.weights, strict=True)
            ]
        wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
        earned = values.values[self.start or 0]
        best = (wanted @ earned.T).argmax(axis=1)
        return [
            Solution(policies[index], row) for index, row in zip(best.tolist(), wanted, strict=True)
        ]

    def _settled(self) -> WeightedValues:
        """Values that agree with the model everywhere; learning goes on from its own."""
        values = self._values.copy()
        values.settle(self._model, len(self._numbers))
        return values

    def _begin_round(self, states: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._begin_episodes(np.arange(len(states)), rng)

    def _begin_episodes(self, environments: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Choose for which preference new episodes act greedily, and for how many steps."""
        count = len(environments)
        length = max(1.0, self._budget.steps / max(1, sum(self._starts.values())))
        steps = (rng.random(count) * length).astype(np.int64)
        greedy = rng.random(count) < self._exploit
        self._greedy_steps[environments] = np.where(greedy, steps, 0)
        self._chosen[environments] = rng.integers(len(self._values.weights), size=count)

    def _act(self, states: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        actions = np.zeros(len(states), np.int64)
        for environment in np.flatnonzero(self._greedy_steps > 0).tolist():
            state = int(states[environment])
            if state < len(self._values.values) and self._model.visits[state].any():
                chosen = int(self._chosen[environment])
                actions[environment] = self._values.act(self._model, state, chosen)
            else:
                self._greedy_steps[environment] = 0
        self._explore(states, self._greedy_steps == 0, actions, rng)
        return actions

    def _learn_from(self, transitions: Transitions, rng: np.random.Generator) -> None:
        self._values.note(transitions, self._model)
        self._greedy_steps = np.maximum(self._greedy_steps - 1, 0)
        ended = np.flatnonzero(transitions.ended)
        if len(ended):
            self._begin_episodes(ended, rng)

    def _end_round(self, steps: int) -> None:
        self._values.update(self._model, backups=steps)
        if self.start is not None:
            self._values.raise_utopia(self.start)

    def _metrics(self) -> Metrics:
        return {"train/preferences": float(len(self._values.weights))}

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {**super().state_dict(), "values": self._values.state_dict(len(self._numbers))}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._values.load_state_dict(state["values"], self._model)
