"""GMORL: one discrete soft actor-critic for every preference and context.

Yang, Wen, Zhang and Tang, "Generalizable Pareto-Optimal Offloading with Reinforcement Learning in
Mobile Edge Computing" (IEEE TSC 2025, arXiv:2509.10474). Actor and critics see the preference.
The replay keeps raw reward vectors, so a transition can teach any preference; see
`docs/agents/gmorl.md` for what differs from the paper and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.conditioned.policies import ConditionedPolicy
from morl.agents.learners.sac.agent import AgentConfig, DiscreteSACAgent
from morl.capabilities import Capabilities
from morl.preferences import dirichlet
from morl.registry import register_agent
from morl.search_space import SHARE, bounded
from morl.types import Task


@dataclass
class Config(AgentConfig):
    """Settings of GMORL, beside those of discrete SAC.

    Attributes:
        relabelled: share of sampled transitions that teach a fresh preference and not the one
            that they were collected for.
    """

    relabelled: float = bounded(0.5, SHARE)


@register_agent(
    "gmorl",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        smoke={
            "num_envs": 4,
            "updates": 2,
            "batch": 16,
            "replay_capacity": 500,
            "hidden": (8,),
        },
    ),
)
class GMORL(DiscreteSACAgent):
    """A single learner that is given a fresh preference for each episode.

    Args:
        task: what to learn; its actions are discrete.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(
            task, config, total_steps=total_steps, seed=seed, num_policies=1, name="gmorl"
        )
        self._relabelled = config.relabelled

    def _behaviour_preferences(self, ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        return self._fresh(int(np.count_nonzero(ended)))

    def _learning_preferences(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        fresh = self._fresh(stored[..., 0].size).reshape(stored.shape)
        chosen = self._rng.random(stored.shape[:-1]) < self._relabelled
        return np.where(chosen[..., None], fresh, stored)

    def _fresh(self, count: int) -> NDArray[np.float32]:
        """Uniform preferences, (count, objective)."""
        objectives = self._task.spec.num_objectives
        return dirichlet(objectives, count, rng=self._rng).astype(np.float32)

    def _policies(self, weights: NDArray[np.float32]) -> list[ConditionedPolicy]:
        actor = self._actor(0)
        return [
            ConditionedPolicy(actor, row, deterministic=self._config.deterministic)
            for row in weights
        ]
