"""Conditioned SAC: one soft actor-critic with vector critics for every preference.

Every sampled transition teaches a fresh preference (hindsight), the less valuable of two critics is
believed with its whole vector, and solutions act by averaged weights; see
`docs/agents/conditioned_sac.md` for sources and measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.actor_critic.agent import ActorCriticAgent, ActorCriticConfig
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Task

SMOKE = {
    "num_envs": 4,
    "batch": 8,
    "replay_capacity": 500,
    "hidden": (8,),
    "warmup_steps": 100,
    "divisions": 4,
}
"""Settings of a test that runs for seconds."""


@dataclass
class Config(ActorCriticConfig):
    """Settings of conditioned SAC: those of the core, as they stand there."""


@register_agent("conditioned_sac", config=Config, acts=Capabilities(actions=("box",), smoke=SMOKE))
class ConditionedSAC(ActorCriticAgent):
    """One actor and twin vector critics that see the preference.

    Args:
        task: what to learn; its actions are a one-dimensional box.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(task, config, total_steps=total_steps, seed=seed, name="conditioned_sac")
