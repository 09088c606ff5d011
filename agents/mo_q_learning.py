"""Tabular multi-objective Q-learning: a greedy policy per preference, all from one table.

Van Moffaert, Drugan and Nowé, "Scalarized Multi-Objective Reinforcement Learning: Novel Design
Techniques" (ADPRL 2013): vectors of values, and a scalarisation that compares actions. What differs
is said in docs/agents/mo_q_learning.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.tabular.weighted_agent import WeightedAgent, WeightedConfig
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, bounded, searchable
from morl.types import Task

SCALARISATIONS = ("linear", "chebyshev")


@dataclass
class Config(WeightedConfig):
    """Settings of multi-objective Q-learning.

    Attributes:
        preferences: a lattice of so many, each with a policy of its own.
        scalarisation: "linear" (weighted sums) or "chebyshev" (largest weighted shortfall from
            the best seen of each objective).
    """

    preferences: int = searchable(66, bounds=COUNT, low=6, high=200, log=True)
    scalarisation: str = bounded("linear", choices=SCALARISATIONS)


@register_agent(
    "mo_q_learning",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        countable_observations=True,
        smoke={"num_envs": 4, "preferences": 5},
    ),
)
class MOQLearning(WeightedAgent):
    """Learns for a fixed lattice of preferences.

    Args:
        task: with discrete actions and observations of integers.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(
            task,
            config,
            weights=spread_preferences(task.spec.num_objectives, config.preferences),
            chebyshev=config.scalarisation == "chebyshev",
            total_steps=total_steps,
            seed=seed,
            name="mo_q_learning",
        )
