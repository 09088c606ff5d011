"""Pareto Q-learning: sets of vectors instead of values, and policies that follow one of them.

Van Moffaert and Nowé, "Multi-Objective Reinforcement Learning using Sets of Pareto Dominating
Policies" (JMLR 15, 2014). The reward of a pair and what its successors can earn are kept apart, as
in the paper; what differs is said in docs/agents/pql.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.tabular.agent import TabularAgent, TabularConfig, Transitions
from morl.agents.learners.tabular.policies import VectorController, VectorPolicy
from morl.agents.learners.tabular.set_learner import SetLearner
from morl.agents.learners.tabular.sets import follow, spread
from morl.capabilities import Capabilities
from morl.preferences import check_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, SHARE, bounded, searchable
from morl.types import Front, Metrics, Solution, State, Task


@dataclass
class Config(TabularConfig):
    """Settings of Pareto Q-learning.

    Attributes:
        exploit: share of the episodes that follow a vector of the start state for a while before
            they explore; the others explore from the start.
        set_limit: most vectors of a state's set; beyond it, evenly spread ones are kept.
        policies: most policies of the answer.
    """

    exploit: float = searchable(0.5, bounds=SHARE, low=0.0, high=0.9)
    set_limit: int = bounded(256, COUNT)
    policies: int = bounded(256, COUNT)


@register_agent(
    "pql",
    config=Config,
    acts=Capabilities(
        actions=("discrete",), countable_observations=True, stateful=True, smoke={"num_envs": 4}
    ),
)
class ParetoQLearning(TabularAgent):
    """Learns a model, the sets of its states by backward induction, and follows their vectors.

    Args:
        task: with discrete actions and observations of integers.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(task, config, total_steps=total_steps, seed=seed, name="pql")
        self._config = config
        self._learner = SetLearner(
            task.spec.num_objectives, discount=task.spec.discount, limit=config.set_limit
        )
        self._following = np.zeros(config.num_envs, np.int64)
        self._targets = np.zeros((config.num_envs, task.spec.num_objectives))

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """A policy per vector of the start state, or the best of them for each preference."""
        controller, targets = self._answers()
        if preferences is None:
            return [Solution(VectorPolicy(controller, target)) for target in targets]
        wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
        best = (wanted @ targets.T).argmax(axis=1)
        return [
            Solution(VectorPolicy(controller, targets[index]), preference)
            for index, preference in zip(best.tolist(), wanted, strict=True)
        ]

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {**super().state_dict(), "sets": self._learner.state_dict(len(self._numbers))}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._learner.load_state_dict(state["sets"], self._model)

    def _answers(self) -> tuple[VectorController, Front]:
        """The controller of all policies, and what each wants from the usual start."""
        sets, scale = self._learner.solved(self._model, len(self._numbers))
        controller = VectorController(
            self._numbers, self._model, sets, self._task.spec.discount, scale
        )
        start = max(self._starts, key=self._starts.__getitem__, default=None)
        if start is None or sets.sizes[start] == 0:
            return controller, np.zeros((1, self._task.spec.num_objectives))
        return controller, spread(sets.of(start).copy(), self._config.policies)

    def _begin_round(self, states: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._begin_episodes(np.arange(len(states)), states, rng)

    def _begin_episodes(
        self, environments: NDArray[np.int64], states: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Choose what new episodes follow, and for how many steps."""
        length = max(1.0, self._budget.steps / max(1, sum(self._starts.values())))
        for environment, state in zip(environments.tolist(), states.tolist(), strict=True):
            vectors = self._learner.of(state)
            exploit = len(vectors) > 0 and rng.random() < self._config.exploit
            self._following[environment] = int(rng.random() * length) if exploit else 0
            if exploit:
                self._targets[environment] = vectors[rng.integers(len(vectors))]

    def _act(self, states: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        actions = np.zeros(len(states), np.int64)
        for environment in np.flatnonzero(self._following > 0).tolist():
            actions[environment] = self._follow(environment, int(states[environment]))
        self._explore(states, self._following == 0, actions, rng)
        return actions

    def _follow(self, environment: int, state: int) -> int:
        tables = self._learner.tables
        choices = np.full(self._model.successors.shape[2], -1, np.int64)
        target, scale = self._targets[environment], self._learner.scale
        if not self._model.visits[state].any():
            self._following[environment] = 0
            return 0
        return int(
            follow(self._model, tables, state, target, scale, self._task.spec.discount, choices)
        )

    def _learn_from(self, transitions: Transitions, rng: np.random.Generator) -> None:
        self._learner.note(transitions, self._model)
        self._targets -= transitions.rewards
        self._targets /= self._task.spec.discount
        self._following = np.maximum(self._following - 1, 0)
        ended = np.flatnonzero(transitions.ended)
        if len(ended):
            self._begin_episodes(ended, transitions.following[ended], rng)

    def _end_round(self, steps: int) -> None:
        self._learner.update(self._model, len(self._numbers), backups=steps)

    def _metrics(self) -> Metrics:
        return {"train/vectors": float(self._learner.tables.sizes.sum())}
