"""A discrete soft actor-critic for each preference: the upper bound that GMORL is compared with.

Yang et al. (arXiv:2509.10474) train one policy for each of 101 preferences. Here they are one
stacked population and share nothing but statistics of observations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.conditioned.policies import ConditionedPolicy
from morl.agents.learners.replay.agent import preference_lattice
from morl.agents.learners.sac.agent import AgentConfig, DiscreteSACAgent
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Front, Task


@dataclass
class Config(AgentConfig):
    """Settings of the population; those of discrete SAC, with few environments a policy."""

    num_envs: int = 4
    batch: int = 128
    replay_capacity: int = 400_000


@register_agent(
    "multi_policy_sac",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        smoke={
            "num_envs": 2,
            "updates": 2,
            "batch": 16,
            "replay_capacity": 1000,
            "divisions": 4,
            "hidden": (8,),
        },
    ),
)
class MultiPolicySAC(DiscreteSACAgent):
    """One learner for each preference of a lattice.

    Args:
        task: what to learn; its actions are discrete.
        config: settings; `divisions` decides how many policies there are.
        total_steps: budget in true environment steps, of all policies together.
        seed: root of every random stream.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._lattice = preference_lattice(task.spec.num_objectives, config.divisions)
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            num_policies=len(self._lattice),
            name="multi_policy_sac",
        )

    def _behaviour_preferences(self, ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        policies, _ = np.nonzero(ended)
        return self._lattice[policies].astype(np.float32)

    def _learning_preferences(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        return stored

    def _own_preferences(self) -> Front:
        return self._lattice

    def _policies(self, weights: NDArray[np.float32]) -> list[ConditionedPolicy]:
        """For each preference the learner whose own is nearest, acting for its own."""
        distance = np.abs(weights[:, None] - self._lattice[None]).sum(axis=-1)
        return [
            ConditionedPolicy(
                self._actor(index),
                self._lattice[index].astype(np.float32),
                deterministic=self._config.deterministic,
            )
            for index in distance.argmin(axis=1).tolist()
        ]
