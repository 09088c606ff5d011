"""Searches that play episodes with many policies and keep the undominated: what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.archives import archive_solutions, empty_archive, restore_archive
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.search.trials import Played, Trials
from morl.archive import ParetoArchive
from morl.types import Front, Metrics, Policy, Solution, State, Task


class ArchivedSearch(ABC):
    """Plays rounds until the budget is spent; the answer is an archive of policies as arrays.

    Random streams follow from counters, so it does not matter how often a run is saved.

    Args:
        task: what to play.
        capacity: most policies of the archive.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    members: ClassVar[str] = "genomes"
    """What checkpoints call the policies of the archive."""

    def __init__(self, task: Task, *, capacity: int, total_steps: int, seed: int) -> None:
        self._task = task
        self._seed = seed
        self._capacity = capacity
        self._budget = Budget(total_steps)
        self._trials = Trials(task, self._budget, seed=seed)
        self._archive: ParetoArchive[NDArray[np.float64]] = self._empty()

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._budget.remaining == 0

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more environment steps are taken."""
        goal = self._budget.goal(steps)
        while self._budget.steps < goal:
            self._play_round()
        return {"archive/size": float(len(self._archive)), **self._metrics()}

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All policies of the archive, or the best of them for each preference.

        Before the first round there are none, and a preference gets the policy of zeros.
        """
        return archive_solutions(
            self._archive, self._policy, preferences, fallback=self._zeros
        )  # fmt: skip

    def state_dict(self) -> State:
        """Steps and archive; see `morl.types.Agent`."""
        return {
            "steps": self._budget.steps,
            "points": self._archive.points,
            self.members: np.stack([*self._archive.items, self._zeros()])[:-1],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._budget.steps = int(state["steps"])
        restore_archive(self._archive, state, lambda saved, index: saved[self.members][index])

    @abstractmethod
    def _play_round(self) -> None:
        """Play with some policies and offer them to the archive."""

    @abstractmethod
    def _metrics(self) -> Metrics:
        """Readings beside the size of the archive."""

    @abstractmethod
    def _policy(self, member: NDArray[np.float64]) -> Policy:
        """What acts as a member of the archive says."""

    @abstractmethod
    def _zeros(self) -> NDArray[np.float64]:
        """The member that is all zeros."""

    def _empty(self) -> ParetoArchive[NDArray[np.float64]]:
        return empty_archive(self._task.spec.num_objectives, self._capacity)

    def _offer(self, played: Played, members: NDArray[np.float64]) -> None:
        """Offer those to the archive whose episodes all ended, (policy, ...)."""
        for index in np.flatnonzero(played.whole).tolist():
            self._archive.add(played.means[index], members[index].copy())
