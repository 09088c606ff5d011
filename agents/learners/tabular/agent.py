"""What tabular agents share: rounds of episodes, numbered states, a learned model, exploration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.checks import require_finite_rewards
from morl.agents.learners.tabular.exploration import explore, sweep
from morl.agents.learners.tabular.model import END, ModelTables, grown, record
from morl.agents.learners.tabular.states import StateNumbers, require_countable
from morl.search_space import COUNT, Settings, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task

WORTH_SWEEPS = 4
"""States whose worth to exploration is computed again per environment step."""

ENDLESS_ROUND = 1000
"""Steps per environment after which a round ends although an episode did not."""


@dataclass
class TabularConfig(Settings):
    """Settings of every tabular agent.

    Attributes:
        num_envs: episodes that are played at a time; their experience goes into one table.
        max_states: most states that may be met.
    """

    num_envs: int = searchable(8, bounds=COUNT, low=1, high=32, log=True)
    max_states: int = bounded(1_000_000, COUNT)


@dataclass(frozen=True)
class Transitions:
    """One step of all environments.

    Attributes:
        states: (env,).
        actions: (env,).
        rewards: (env, objective).
        successors: (env,), `END` where the episode terminated.
        ended: (env,), whether it was terminated or truncated.
        following: states to act in next, (env,); a start state where the episode ended.
    """

    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    successors: NDArray[np.int64]
    ended: NDArray[np.bool_]
    following: NDArray[np.int64]


class TabularAgent(ABC):
    """Plays rounds; a round ends once every environment has finished an episode in it.

    Subclasses say how they learn and what they answer. Everything that a round depends on follows
    from counters and tables, so it does not matter how often a run is saved.

    Args:
        task: with discrete actions and observations of integers.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
        name: of the agent, for messages and streams.

    Raises:
        UnsupportedTaskError: observations are not integers.
        BudgetError: the budget is less than one step of all environments.
    """

    def __init__(
        self, task: Task, config: TabularConfig, *, total_steps: int, seed: int, name: str
    ) -> None:
        self._task = task
        self._name = name
        self._seed = seed
        self._budget = Budget(total_steps)
        self._rounds = 0
        self._batch = task.make_vec(config.num_envs)
        require_countable(self._batch.single_observation_space, env_id=task.spec.id, agent=name)
        assert isinstance(self._batch.single_action_space, spaces.Discrete)
        self._budget.require(
            config.num_envs, env_id=task.spec.id, round_name="step of all environments",
            settings=("num_envs",),
        )  # fmt: skip
        space = self._batch.single_observation_space
        self._numbers = StateNumbers(
            space.shape or (), np.dtype(space.dtype), max_states=config.max_states,
            env_id=task.spec.id,
        )  # fmt: skip
        num_actions = int(self._batch.single_action_space.n)
        self._model = ModelTables.empty(num_actions, task.spec.num_objectives)
        self._worth = np.ones((len(self._model.visits), num_actions))
        self._planned = np.zeros((len(self._model.visits), num_actions), np.int64)
        self._starts: dict[int, int] = {}
        self._cursor = 0

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether the rest of the budget is less than one step of all environments."""
        return not self._budget.fits(self._batch.num_envs)

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more environment steps are taken.

        Raises:
            StateSpaceError: more states were met than the tables may hold.
            NonFiniteError: a reward is not finite.
        """
        goal = self._budget.goal(steps)
        while self._budget.steps < goal and not self.finished:
            self._play_round()
        return {
            "train/states": float(len(self._numbers)),
            "train/rounds": float(self._rounds),
            **self._metrics(),
        }

    @abstractmethod
    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """See `morl.types.Agent`."""

    @abstractmethod
    def _begin_round(self, states: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Look at the first states, (env,), before a round."""

    @abstractmethod
    def _act(self, states: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Actions for states (env,)."""

    @abstractmethod
    def _learn_from(self, transitions: Transitions, rng: np.random.Generator) -> None:
        """Learn from one step of all environments, which the model has recorded."""

    @abstractmethod
    def _end_round(self, steps: int) -> None:
        """Learn from a round of so many steps."""

    def _metrics(self) -> Metrics:
        return {}

    def state_dict(self) -> State:
        """Counters, states and tables; random streams follow from the counters."""
        count = len(self._numbers)
        return {
            "steps": self._budget.steps,
            "rounds": self._rounds,
            "states": self._numbers.table(),
            "model": {key: table[:count].copy() for key, table in self._model._asdict().items()},
            "worth": self._worth[:count].copy(),
            "starts": np.array(list(self._starts.items()), np.int64).reshape(-1, 2),
            "cursor": self._cursor,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._budget.steps = int(state["steps"])
        self._rounds = int(state["rounds"])
        self._numbers.restore(np.asarray(state["states"]))
        self._model = ModelTables(**{key: np.array(table) for key, table in state["model"].items()})
        self._worth = np.array(state["worth"])
        self._planned = np.zeros(self._worth.shape, np.int64)
        self._starts = {int(key): int(count) for key, count in state["starts"]}
        self._cursor = int(state["cursor"])
        self._make_room()

    def _make_room(self) -> None:
        """Lengthen the tables so that every numbered state has a row."""
        self._model = self._model.with_states(len(self._numbers))
        rows = len(self._model.visits)
        if rows > len(self._worth):
            fresh = np.ones((rows - len(self._worth), self._worth.shape[1]))
            self._worth = np.concatenate([self._worth, fresh])
            self._planned = grown(self._planned, rows)

    def _number(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        numbers = self._numbers.learn(observations)
        self._make_room()
        return numbers

    def _play_round(self) -> None:
        num_envs = self._batch.num_envs
        rng = generator(self._seed, f"{self._name}/round", self._rounds)
        seeds = stream(
            self._seed, f"{self._name}/episodes", num_envs, start=self._rounds * num_envs
        )
        observations, _ = self._batch.reset(seed=seeds)  # type: ignore[arg-type]
        states = self._number(observations)
        self._count_starts(states)
        self._begin_round(states, rng)
        running, steps = np.ones(num_envs, np.bool_), 0
        while running.any() and steps < ENDLESS_ROUND * num_envs and not self.finished:
            transitions = self._step(states, self._act(states, rng))
            self._record(transitions)
            self._learn_from(transitions, rng)
            running &= ~transitions.ended
            states = transitions.following
            steps += num_envs
        self._rounds += 1
        if self._budget.remaining < num_envs:
            self._budget.steps = self._budget.total_steps
        self._cursor = sweep(
            self._model, self._worth, self._planned, len(self._numbers), self._cursor,
            min(WORTH_SWEEPS * steps, 4 * len(self._numbers)),
        )  # fmt: skip
        self._end_round(steps)

    def _step(self, states: NDArray[np.int64], actions: NDArray[np.int64]) -> Transitions:
        observations, rewards, terminated, truncated, infos = self._batch.step(actions)
        self._budget.spend(len(states))
        require_finite_rewards(
            rewards, env_id=self._task.spec.id, seed=self._seed, step=self._budget.steps
        )
        following = self._number(observations)
        successors = following.copy()
        ended = terminated | truncated
        if ended.any():
            successors[ended] = self._number(infos["final_obs"][ended])
            self._count_starts(following[ended])
        successors[terminated] = END
        return Transitions(states, actions, rewards, successors, ended, following)

    def _count_starts(self, states: NDArray[np.int64]) -> None:
        for state in states.tolist():
            self._starts[state] = self._starts.get(state, 0) + 1

    def _record(self, transitions: Transitions) -> None:
        first = 0
        while first < len(transitions.states):
            first = record(
                self._model, transitions.states, transitions.actions, transitions.rewards,
                transitions.successors, first,
            )  # fmt: skip
            if first < len(transitions.states):
                self._model = self._model.with_more_outcomes()

    def _explore(
        self,
        states: NDArray[np.int64],
        exploring: NDArray[np.bool_],
        actions: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        """Write the actions that promise most novelty where `exploring`, all (env,)."""
        explore(
            self._model, self._worth, self._planned, states, exploring,
            rng.random(len(states)), actions,
        )  # fmt: skip
        # What is planned now is recorded before the next choice.
        self._planned_pairs = (states[exploring], actions[exploring])
        self._planned[self._planned_pairs] = 0
