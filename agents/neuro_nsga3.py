"""Neuroevolution with the survival of NSGA-III: rank, then reference directions with few members.

Deb and Jain, "An Evolutionary Many-Objective Optimization Algorithm Using
Reference-Point-Based Nondominated Sorting Approach" (2014), on the weights of small networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.search.neuro import NeuroConfig, NeuroEvolution
from morl.agents.learners.search.survival import Indices, by_directions
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.types import Front


@dataclass
class Config(NeuroConfig):
    """Settings of neuroevolution by NSGA-III; those of `NeuroConfig`.

    There are about as many reference directions as networks.
    """


@register_agent(
    "neuro_nsga3", config=Config, acts=Capabilities(masks=True, smoke={"population": 8})
)
class NeuroNSGA3(NeuroEvolution):
    """Evolves networks; every direction of the front keeps some.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    name = "neuro_nsga3"

    def _arrange(self, size: int) -> None:
        self._directions = spread_preferences(self._task.spec.num_objectives, size)

    def _survivors(self, returns: Front, count: int) -> Indices:
        return by_directions(returns, count, self._directions)
