"""Neuroevolution with the survival of NSGA-II: rank, then crowding distance.

Deb, Pratap, Agarwal and Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"
(2002), on the weights of small networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.search.neuro import NeuroConfig, NeuroEvolution
from morl.agents.learners.search.survival import Indices, by_crowding
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Front


@dataclass
class Config(NeuroConfig):
    """Settings of neuroevolution by NSGA-II; those of `NeuroConfig`."""


@register_agent(
    "neuro_nsga2", config=Config, acts=Capabilities(masks=True, smoke={"population": 8})
)
class NeuroNSGA2(NeuroEvolution):
    """Evolves networks; the crowded go first.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    name = "neuro_nsga2"

    def _survivors(self, returns: Front, count: int) -> Indices:
        return by_crowding(returns, count)
