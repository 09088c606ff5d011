"""Searches for objects that learn no policy: shared by uniform sampling and evolution.

A search proposes objects, has them evaluated and keeps the nondominated. Its environment steps are
the actions that build what it proposes, so that budgets in steps mean the same for all agents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morl.agents.learners.core.archives import archive_solutions, empty_archive, restore_archive
from morl.agents.learners.core.errors import BudgetError
from morl.agents.learners.gflownet.policies import BuildingPolicy
from morl.archive import ParetoArchive
from morl.compositional import CompositionalCore, States, core_of, random_walks, walks_to
from morl.pareto import nondominated
from morl.search_space import COUNT, Settings, bounded
from morl.seeding import generator
from morl.types import Front, Metrics, Solution, State, Task


@dataclass
class SearchConfig(Settings):
    """Settings that all searches share.

    Attributes:
        batch: objects of a round.
        max_evaluations: most objective evaluations, or None; the budget in steps holds as well.
        archive_capacity: most objects that are kept; the most crowded are dropped.
    """

    batch: int = bounded(128, COUNT)
    max_evaluations: int | None = bounded(None, COUNT)
    archive_capacity: int = bounded(1000, COUNT)


class ObjectSearch(ABC):
    """Base class of the searches; subclasses say what a round is.

    Args:
        task: builds objects.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.

    Raises:
        NotCompositionalError: the task builds no objects.
        BudgetError: the budget does not allow a single round.
    """

    name: str

    def __init__(self, task: Task, config: SearchConfig, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._settings = config
        self._total_steps = total_steps
        self._seed = seed
        self._core = core_of(task)
        self._steps = 0
        self._rounds = 0
        self._evaluations = 0
        self._archive: ParetoArchive[States] = empty_archive(
            self._core.num_objectives, config.archive_capacity
        )
        if self.finished:
            raise BudgetError(
                f"{task.spec.id}: a budget of {total_steps} steps is less than one round of "
                f"{config.batch} objects of up to {self._core.horizon} steps; raise steps or lower "
                "agent.batch"
            )

    @abstractmethod
    def _propose(self, rng: np.random.Generator) -> States:
        """Objects of the next round, as many as `SearchConfig.batch`."""

    def _receive(self, values: Front, rng: np.random.Generator) -> None:
        """Learn from the values of what was proposed; by default there is nothing to learn.

        Args:
            values: objective values in the order of the proposal, (object, objective).
            rng: source of randomness, as used for the proposal.
        """
        del values, rng

    @property
    def steps(self) -> int:
        """Actions that build all objects so far."""
        return self._steps

    @property
    def evaluations(self) -> int:
        """Objects that were evaluated so far, repeated ones included."""
        return self._evaluations

    @property
    def finished(self) -> bool:
        """Whether another round might exceed the budget."""
        batch, limit = self._settings.batch, self._settings.max_evaluations
        if limit is not None and self._evaluations + batch > limit:
            return True
        return self._steps + batch * self._core.horizon > self._total_steps

    @property
    def archive(self) -> ParetoArchive[States]:
        """Nondominated objects by their objective values."""
        return self._archive

    @property
    def core(self) -> CompositionalCore:
        """What the objects are made of."""
        return self._core

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more actions are taken."""
        goal = min(self._steps + steps, self._total_steps)
        while self._steps < goal and not self.finished:
            rng = generator(self._seed, f"{self.name}/round", self._rounds)
            objects = self._propose(rng)
            values = self._core.evaluate(objects)
            self._evaluations += len(objects)
            self._steps += int(walks_to(self._core, objects).lengths.sum())
            self._offer(values, objects)
            self._receive(values, rng)
            self._rounds += 1
        return {
            "train/evaluations": float(self._evaluations),
            "train/rounds": float(self._rounds),
            "archive/size": float(len(self._archive)),
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """Policies that build the objects of the archive, or the best of them for preferences.

        Before the first round there are none, and a preference gets an object built at random.
        """
        return archive_solutions(
            self._archive,
            lambda built: BuildingPolicy(self._core, built),
            preferences,
            fallback=self._random_object,
        )

    def _random_object(self) -> States:
        rng = generator(self._seed, f"{self.name}/unknown")
        found: States = random_walks(self._core, 1, rng).objects[0]
        return found

    def state_dict(self) -> State:
        """Counters and archive; random streams follow from the counters."""
        objects = [*self._archive.items, np.zeros(self._core.state_width, np.int64)]
        return {
            "steps": self._steps,
            "rounds": self._rounds,
            "evaluations": self._evaluations,
            "points": self._archive.points,
            "objects": np.stack(objects)[:-1],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._steps = int(state["steps"])
        self._rounds = int(state["rounds"])
        self._evaluations = int(state["evaluations"])
        restore_archive(self._archive, state, lambda saved, index: saved["objects"][index])

    def _offer(self, values: Front, objects: States) -> None:
        for index in np.flatnonzero(nondominated(values)).tolist():
            self._archive.add(values[index], objects[index].copy())
