"""Collecting, storing and learning: what agents with a replay and preferences have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.conditioned.networks import Shape
from morl.agents.learners.conditioned.policies import ConditionedPolicy
from morl.agents.learners.core.encoders import ENCODINGS, ObservationEncoder
from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.preference_scales import rescaled
from morl.agents.learners.core.rollouts import Collector, Rollout
from morl.agents.learners.core.schedules import linear_decay
from morl.agents.learners.replay.buffer import Replay, Transitions
from morl.agents.learners.sac.discrete import View
from morl.preferences import check_preferences, lattice
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, Settings, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task

LATTICE_SIZE = 130
"""Most preferences of a lattice that is chosen by itself: 101 for two objectives, 126 for six."""


ANSWERS = 600
"""Most preferences that a conditioned agent answers of its own choice for more than three
objectives."""


@dataclass
class CollectionConfig(Settings):
    """Settings of the collection, beside those of the learner.

    Attributes:
        num_envs: environments of each policy.
        collect_steps: steps in each of them between two rounds of updates.
        updates: updates in a round.
        replay_capacity: transitions that are kept, over all policies.
        warmup_steps: steps before the first update.
        reward_scales: factors of the objectives' rewards, which preferences of training weigh;
            None divides each by the largest discounted return seen.
        divisions: steps of the lattice of preferences from 0 to 1; by default 100 for two
            objectives, and what gives at most 130 preferences for three and 600 for more (130 for
            agents that train a policy for each).
        encoding: of integers in observations: "raw" numbers, "one_hot" codes or "both"; the
            agent falls back to "raw" where observations are not bounded integers, have a row per
            action, or describe objects.
        max_codes: most one-hot inputs, else "raw".
    """

    num_envs: int = bounded(64, COUNT)
    collect_steps: int = bounded(8, COUNT)
    updates: int = bounded(8, COUNT)
    replay_capacity: int = bounded(100_000, COUNT)
    warmup_steps: int = bounded(5_000, NOT_NEGATIVE)
    reward_scales: tuple[float, ...] | None = bounded(None, POSITIVE)
    divisions: int | None = bounded(None, COUNT)
    encoding: str = searchable("both", choices=ENCODINGS)
    max_codes: int = bounded(512, NOT_NEGATIVE)


def preference_lattice(
    num_objectives: int, divisions: int | None, *, most: int = LATTICE_SIZE
) -> Front:
    """The lattice asked for, or the finest one of at most `most` preferences and 100 divisions."""
    if divisions is not None:
        return lattice(num_objectives, divisions)
    chosen = lattice(num_objectives, 1)
    for count in range(2, 101):
        if _lattice_size(num_objectives, count) > most:
            break
        chosen = lattice(num_objectives, count)
    return chosen


def _lattice_size(num_objectives: int, divisions: int) -> int:
    size = 1
    for index in range(1, num_objectives):
        size = size * (divisions + index) // index
    return size


class ReturnRange:
    """Largest discounted return of each objective so far, as scales for rewards.

    Args:
        slots: environments whose episodes are followed.
        num_objectives: length of a reward.
        discount: of the returns.
    """

    def __init__(self, slots: int, num_objectives: int, discount: float) -> None:
        self._discount = discount
        self._returns = np.zeros((slots, num_objectives))
        self._factors = np.ones(slots)
        self.largest = np.zeros(num_objectives)

    def restart(self) -> None:
        """All episodes begin anew."""
        self._returns[...] = 0.0
        self._factors[...] = 1.0

    def follow(self, rollout: Rollout) -> None:
        """Add up the rewards of a rollout."""
        slots = len(self._factors)
        for time in range(rollout.rewards.shape[1]):
            self._returns += self._factors[:, None] * rollout.rewards[:, time].reshape(slots, -1)
            np.maximum(self.largest, np.abs(self._returns).max(axis=0), out=self.largest)
            self._factors *= self._discount
            ended = rollout.ended[:, time].reshape(slots)
            self._returns[ended] = 0.0
            self._factors[ended] = 1.0

    @property
    def scales(self) -> NDArray[np.float64]:
        """(objective,); 1 for an objective that has paid nothing yet."""
        return 1.0 / np.where(self.largest > 0.0, self.largest, 1.0)


class ReplaySettings(Protocol):
    """Settings that a `ReplayAgent` reads: those of `CollectionConfig` and a few of the learner."""

    num_envs: int
    collect_steps: int
    updates: int
    replay_capacity: int
    warmup_steps: int
    reward_scales: tuple[float, ...] | None
    divisions: int | None
    training_discount: float | None
    learning_rate: float
    final_learning_rate: float
    batch: int
    encoding: str
    max_codes: int


class Learner(Protocol):
    """What an agent with a replay improves; axes begin with the policy."""

    def view(self, reward_scales: NDArray[np.float64]) -> View:
        """How observations are seen at present."""
        ...

    def see(self, observations: NDArray[np.float32], *, features: int | None = None) -> None:
        """Take observations (batch, feature) into the statistics.

        Args:
            observations: encoded.
            features: how many, from the first, are numbers; the codes after them are not
                standardised. None for all.
        """
        ...

    def act(
        self,
        observations: NDArray[np.float32],
        preferences: NDArray[np.float32],
        view: View,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Actions of the behaviour (policy, env) for observations (policy, env, feature)."""
        ...

    def update(
        self,
        transitions: Transitions,
        preferences: NDArray[np.float32],
        view: View,
        *,
        reward_scales: NDArray[np.float64],
        learning_rate: float,
    ) -> dict[str, float]:
        """Improve by one batch; returns readings."""
        ...

    def state_dict(self) -> State:
        """Everything that the next update depends on."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        ...


LearnerT = TypeVar("LearnerT", bound=Learner)


class ReplayAgent(ABC, Generic[LearnerT]):
    """Steps environments, keeps transitions and improves a population of learners.

    Preferences inside weigh *scaled* rewards; the ones that users hand over or get weigh rewards
    in the environment's units. For scales a, the preference w of raw rewards is that of scaled
    ones proportional to w / a.

    Args:
        task: what to learn; its actions are discrete.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
        num_policies: learners of the population.
        name: of the agent, for streams and messages.

    Raises:
        UnsupportedTaskError: if actions are not discrete, or settings do not fit the environment.
        ValueError: if the budget does not allow a single round.
    """

    def __init__(
        self,
        task: Task,
        config: ReplaySettings,
        *,
        total_steps: int,
        seed: int,
        num_policies: int,
        name: str,
    ) -> None:
        self._task = task
        self._config = config
        self._total_steps = total_steps
        self._seed = seed
        self._name = name
        self._steps = self._updates = self._syncs = 0
        self._encoder = _encoder(task, config)
        self._collector = Collector(
            task, num_policies=num_policies, num_envs=config.num_envs, encoder=self._encoder
        )
        self._shape = self._checked_shape()
        slots = num_policies * config.num_envs
        objectives = task.spec.num_objectives
        self._round_steps = slots * config.collect_steps
        if total_steps < self._round_steps:
            raise ValueError(
                f"{task.spec.id}: a budget of {total_steps} steps is less than one round of "
                f"{slots} environments ({self._round_steps} steps); raise steps or lower "
                "agent.num_envs or agent.collect_steps"
            )
        self._num_policies = num_policies
        self._learner = self._make_learner()
        self._replay = Replay(
            num_policies=num_policies,
            num_envs=config.num_envs,
            capacity=config.replay_capacity,
            num_features=self._collector.observation_size,
            num_objectives=objectives,
            env_id=task.spec.id,
        )
        self._range = ReturnRange(slots, objectives, self._discount)
        self._wanted = np.zeros((num_policies, config.num_envs, objectives), np.float32)
        self._rng = generator(seed, f"{name}/training")

    @abstractmethod
    def _make_learner(self) -> LearnerT:
        """The learner before its first update."""

    def _initial_rngs(self) -> list[np.random.Generator]:
        """One generator a policy, for initial weights."""
        name = f"{self._name}/initialisation"
        return [generator(self._seed, name, i) for i in range(self._num_policies)]

    def _checked_shape(self) -> Shape:
        """What the learner must know of the environment.

        Raises:
            UnsupportedTaskError: see the class.
        """
        spec, actions = self._task.spec, self._collector.actions
        if not actions.discrete:
            raise UnsupportedTaskError(
                f"{spec.id}: {self._name} chooses among discrete actions; choose another agent, "
                "such as c_morl"
            )
        self._check_one_an_objective("reward_scales", self._config.reward_scales)
        size = self._collector.observation_size
        features = spec.features_per_action
        if features is None:
            return Shape(actions.size, size, spec.num_objectives, by_action=False)
        if features * actions.size != size:
            raise UnsupportedTaskError(
                f"{spec.id}: observations of {size} numbers are no {actions.size} rows of "
                f"{features} features"
            )
        return Shape(actions.size, features, spec.num_objectives, by_action=True)

    def _check_one_an_objective(self, field: str, values: Sequence[float] | None) -> None:
        spec = self._task.spec
        if values and len(values) != spec.num_objectives:
            raise UnsupportedTaskError(
                f"{spec.id}: agent.{field} has {len(values)} entries for "
                f"{spec.num_objectives} objectives ({', '.join(spec.objective_names)})"
            )

    @property
    def _discount(self) -> float:
        chosen = self._config.training_discount
        return self._task.spec.discount if chosen is None else chosen

    @property
    def steps(self) -> int:
        """True environment steps so far."""
        return self._steps

    @property
    def finished(self) -> bool:
        """Whether another round would exceed the budget."""
        return self._steps + self._round_steps > self._total_steps

    @property
    def learner(self) -> LearnerT:
        """What is improved."""
        return self._learner

    @property
    def replay(self) -> Replay:
        """The latest transitions."""
        return self._replay

    @property
    def reward_scales(self) -> NDArray[np.float64]:
        """Factors by which rewards are scaled at present, (objective,)."""
        fixed = self._config.reward_scales
        return self._range.scales if fixed is None else np.asarray(fixed, np.float64)

    # Training

    def learn(self, steps: int) -> Metrics:
        """Collect and learn for at least `steps` more steps, to the end of the round."""
        if self.finished:
            return self._progress()
        goal = min(self._steps + steps, self._total_steps)
        self._synchronise()
        readings: list[dict[str, float]] = []
        while self._steps < goal and not self.finished:
            readings += self._round()
        return {**_means(readings), **self._progress()}

    def _synchronise(self) -> None:
        """Begin all episodes anew from seeds that depend on the number of this call alone."""
        self._syncs += 1
        self._rng = generator(self._seed, f"{self._name}/training", self._syncs)
        root = int(self._rng.integers(2**31))
        slots = self._wanted.shape[0] * self._wanted.shape[1]
        self._replay.cut()
        self._range.restart()
        self._collector.reset(stream(root, f"{self._name}/episodes", slots))
        self._redraw(np.ones(self._wanted.shape[:2], np.bool_))

    def _redraw(self, ended: NDArray[np.bool_]) -> None:
        """Preferences for environments (policy, env) whose episode has begun anew."""
        self._wanted[ended] = self._behaviour_preferences(ended)

    @abstractmethod
    def _behaviour_preferences(self, ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Preferences of scaled rewards to act for, (true, objective) for the true of `ended`."""

    @abstractmethod
    def _learning_preferences(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """Preferences to learn for, (policy, batch, objective), given those acted for."""

    def _round(self) -> list[dict[str, float]]:
        self._collect()
        if self._steps < min(self._config.warmup_steps, self._total_steps // 2):
            return []
        view, scales = self._learner.view(self.reward_scales), self.reward_scales
        readings = []
        for _ in range(self._config.updates):
            transitions = self._replay.sample(self._config.batch, rng=self._rng)
            readings.append(
                self._learner.update(
                    transitions,
                    self._learning_preferences(transitions.preferences),
                    view,
                    reward_scales=scales,
                    learning_rate=self._learning_rate,
                )
            )
            self._updates += 1
        return readings

    def _collect(self) -> None:
        view = self._learner.view(self.reward_scales)

        def act(observations: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
            actions = self._learner.act(observations, self._wanted, view, rng=self._rng)
            return actions, np.zeros(actions.shape, np.float32)

        rollout = self._collector.collect(act, steps=self._config.collect_steps)
        self._steps += rollout.num_steps
        rows = rollout.observations.reshape(rollout.num_steps, -1)
        self._learner.see(rows, features=self._encoder.num_numbers)
        self._range.follow(rollout)
        self._replay.add(rollout, self._wanted)
        self._redraw(np.asarray(rollout.ended.any(axis=1)))

    @property
    def _learning_rate(self) -> float:
        progress = self._steps / self._total_steps
        left = linear_decay(progress, final=self._config.final_learning_rate)
        return self._config.learning_rate * left

    def _progress(self) -> dict[str, float]:
        return {
            "train/updates": float(self._updates),
            "replay/transitions": float(len(self._replay)),
        }

    # Solutions

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """A solution for each preference of raw rewards; None stands for a lattice of scaled ones.

        Raises:
            PreferenceError: for rows that are not on the simplex.
        """
        scales = self.reward_scales
        if preferences is None:
            weights = self._own_preferences()
            wanted = rescaled(weights, scales)
        else:
            wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
            weights = rescaled(wanted, 1.0 / scales)
        policies = self._policies(weights.astype(np.float32))
        return [Solution(policy, row) for policy, row in zip(policies, wanted, strict=True)]

    def _own_preferences(self) -> Front:
        objectives = self._task.spec.num_objectives
        # Fronts of many objectives have points that a coarse lattice never asks for.
        most = LATTICE_SIZE if objectives <= 3 else ANSWERS
        return preference_lattice(objectives, self._config.divisions, most=most)

    @abstractmethod
    def _policies(self, weights: NDArray[np.float32]) -> list[ConditionedPolicy]:
        """One policy for each preference of scaled rewards."""

    # State

    def state_dict(self) -> State:
        """Counters, learner and replay."""
        return {
            "counters": {"steps": self._steps, "updates": self._updates, "syncs": self._syncs},
            "learner": self._learner.state_dict(),
            "replay": self._replay.state_dict(),
            "largest_returns": self._range.largest.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where the saved agent stood."""
        counters = state["counters"]
        self._steps = int(counters["steps"])
        self._updates = int(counters["updates"])
        self._syncs = int(counters["syncs"])
        self._learner.load_state_dict(state["learner"])
        self._replay.load_state_dict(state["replay"])
        self._range.largest = np.array(state["largest_returns"], np.float64)


def _encoder(task: Task, config: ReplaySettings) -> ObservationEncoder:
    """The encoder of a task; rows of actions and objects are left as they are."""
    batch = task.make_vec(1)
    try:
        plain = task.spec.features_per_action is None and getattr(batch, "core", None) is None
        return ObservationEncoder.of(
            batch.single_observation_space,  # type: ignore[arg-type] # batches observe one Box
            config.encoding if plain else "raw",
            max_inputs=config.max_codes,
            env_id=task.spec.id,
        )
    finally:
        batch.close()


def _means(readings: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each reading, under the names of logs."""
    if not readings:
        return {}
    return {
        f"train/{name}": float(np.mean([reading[name] for reading in readings]))
        for name in readings[0]
    }
