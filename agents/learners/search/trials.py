"""Episodes of many policies at a time: mean returns, and how many steps they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.budget import Budget
from morl.agents.learners.search.genomes import Genomes, GenomeShape
from morl.masks import action_masks
from morl.types import Front, NonFiniteError, Task


@dataclass(frozen=True, eq=False)
class Played:
    """Episodes of policies.

    Attributes:
        returns: discounted, (policy, episode, objective).
        whole: whether all episodes of a policy came to an end before the budget did, (policy,).
    """

    returns: NDArray[np.float64]
    whole: NDArray[np.bool_]

    @property
    def means(self) -> Front:
        """Mean returns, (policy, objective)."""
        means: Front = self.returns.mean(axis=1)
        return means


class Trials:
    """Plays episodes with every policy of a population; a batch of environments is kept.

    Args:
        task: what to play.
        budget: steps are counted here; those of episodes that are over are not taken.
    """

    def __init__(self, task: Task, budget: Budget) -> None:
        self._task = task
        self._budget = budget
        self._batches: dict[int, Any] = {}

    def play(self, shape: GenomeShape, genomes: Genomes, *, seeds: Sequence[int]) -> Played:
        """Play episodes until they end, or the budget does; it is then spent.

        Args:
            shape: what genomes mean.
            genomes: (policy, gene).
            seeds: of the episodes; every policy plays all of them.

        Raises:
            NonFiniteError: a reward is not finite.
        """
        policies, episodes = len(genomes), len(seeds)
        batch = self._batch(policies * episodes)
        observations, infos = batch.reset(seed=list(seeds) * policies)
        returns = np.zeros((policies * episodes, self._task.spec.num_objectives))
        running = np.ones(len(returns), np.bool_)
        factor = 1.0
        while running.any():
            if not self._budget.fits(int(running.sum())):
                self._budget.steps = self._budget.total_steps
                break
            grouped = observations.reshape(policies, episodes, *observations.shape[1:])
            masks = action_masks(self._task.spec, infos, running=running)
            if masks is not None:
                masks = masks.reshape(policies, episodes, -1)
            actions = shape.act(genomes, grouped, masks)
            observations, rewards, terminated, truncated, infos = batch.step(
                actions.reshape(len(returns), *actions.shape[2:])
            )
            self._budget.spend(int(running.sum()))
            self._require_finite(rewards[running])
            returns[running] += factor * rewards[running]
            factor *= self._task.spec.discount
            running &= ~(terminated | truncated)
        whole: NDArray[np.bool_] = (~running).reshape(policies, episodes).min(axis=1)
        return Played(returns.reshape(policies, episodes, -1), whole)

    def _batch(self, num_envs: int) -> Any:  # noqa: ANN401 - a batch of environments
        if num_envs not in self._batches:
            self._batches[num_envs] = self._task.make_vec(num_envs)
        return self._batches[num_envs]

    def _require_finite(self, rewards: Front) -> None:
        if not np.isfinite(rewards).all():
            raise NonFiniteError(
                f"{self._task.spec.id}: a reward is not finite near step {self._budget.steps}"
            )
