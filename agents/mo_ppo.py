"""Multi-objective PPO: one policy per preference, each maximising its weighted sum.

The simplest agent on the population PPO and the yardstick for the others: what fixed weights reach
when every policy gets an equal share of the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morl.agents.learners.core.schedules import linear_decay
from morl.agents.learners.ppo.agent import PopulationAgent, PopulationConfig
from morl.agents.learners.ppo.learner import Experience
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, SHARE, bounded, searchable
from morl.types import Task


@dataclass
class Config(PopulationConfig):
    """Settings of multi-objective PPO, beside those of the population.

    Attributes:
        preferences: policies, each with a preference of its own: a lattice over the simplex.
        final_learning_rate: share of the learning rate that is left at the end.
    """

    preferences: int = bounded(6, COUNT)
    final_learning_rate: float = searchable(0.1, bounds=SHARE, low=0.01, high=1.0, log=True)


@register_agent(
    "mo_ppo",
    config=Config,
    acts=Capabilities(
        smoke={
            "num_envs": 2,
            "rollout_steps": 12,
            "epochs": 2,
            "minibatch": 16,
            "selection_episodes": 1,
            "snapshot_interval": 2,
            "hidden": (8,),
            "preferences": 3,
        }
    ),
)
class MOPPO(PopulationAgent):
    """A policy per preference.

    Args:
        task: what to learn.
        config: settings.
        total_steps: budget in true environment steps; the agent's own evaluations count.
        seed: root of every random stream.

    Raises:
        BudgetError: if the budget does not allow a single update.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._config = config
        self._preferences = spread_preferences(task.spec.num_objectives, config.preferences)
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            name="mo_ppo",
            num_policies=config.preferences,
        )

    def improve(self, experience: Experience) -> dict[str, float]:
        """Every policy maximises its own weighted sum of objectives."""
        advantage = np.einsum("pbj,pj->pb", experience.advantages, self._preferences)
        left = linear_decay(self._budget.progress, final=self._config.final_learning_rate)
        rate = self._config.learning_rate * left
        return self._learner.improve(experience, advantage, learning_rate=rate, rng=self._rng)
