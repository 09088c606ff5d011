"""Episodes of many policies at a time: mean returns, and how many steps they took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.checks import require_finite_rewards
from morl.masks import ActionMasks, action_masks
from morl.types import Front, Task

Act: TypeAlias = Callable[[NDArray[Any], ActionMasks | None], NDArray[Any]]
"""Maps observations (policy, env, *observation) and masks to actions (policy, env, *action)."""


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
        seed: of the agent, for messages.
    """

    def __init__(self, task: Task, budget: Budget, *, seed: int) -> None:
        self._task = task
        self._budget = budget
        self._seed = seed
        self._batches: dict[int, Any] = {}

    def play(self, act: Act, *, policies: int, seeds: Sequence[int]) -> Played:
        """Play episodes until they end, or the budget does; it is then spent.

        Args:
            act: chooses the actions of all policies.
            policies: their number.
            seeds: one per episode, those of the first policy first; as many for each.

        Raises:
            NonFiniteError: a reward is not finite.
        """
        spec, slots, episodes = self._task.spec, len(seeds), len(seeds) // policies
        batch = self._batch(slots)
        observations, infos = batch.reset(seed=list(seeds))
        returns = np.zeros((slots, spec.num_objectives))
        running = np.ones(slots, np.bool_)
        factor = 1.0
        while running.any() and self._budget.fits(int(running.sum())):
            grouped = observations.reshape(policies, episodes, *observations.shape[1:])
            masks = action_masks(spec, infos, running=running)
            if masks is not None:
                masks = masks.reshape(policies, episodes, -1)
            actions = act(grouped, masks)
            observations, rewards, terminated, truncated, infos = batch.step(
                actions.reshape(slots, *actions.shape[2:])
            )
            require_finite_rewards(
                rewards[running], env_id=spec.id, seed=self._seed, step=self._budget.steps
            )
            self._budget.spend(int(running.sum()))
            returns[running] += factor * rewards[running]
            factor *= spec.discount
            running &= ~(terminated | truncated)
        if running.any():  # a rest too small for one more step of all
            self._budget.steps = self._budget.total_steps
        whole: NDArray[np.bool_] = (~running).reshape(policies, episodes).min(axis=1)
        return Played(returns.reshape(policies, episodes, -1), whole)

    def _batch(self, num_envs: int) -> Any:  # noqa: ANN401 - a batch of environments
        if num_envs not in self._batches:
            self._batches[num_envs] = self._task.make_vec(num_envs)
        return self._batches[num_envs]
