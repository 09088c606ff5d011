"""Neuroevolution with the survival of HypE: rank, then the hypervolume that would be lost.

Bader and Zitzler, "HypE: An Algorithm for Fast Hypervolume-Based Many-Objective Optimization"
(2011), with exact contributions, on the weights of small networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.search.neuro import NeuroConfig, NeuroEvolution
from morl.agents.learners.search.survival import Indices, by_hypervolume
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Front


@dataclass
class Config(NeuroConfig):
    """Settings of neuroevolution by HypE; those of `NeuroConfig`."""


@register_agent("neuro_hype", config=Config, acts=Capabilities(masks=True, smoke={"population": 8}))
class NeuroHypE(NeuroEvolution):
    """Evolves networks; those that add least hypervolume go first.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    name = "neuro_hype"

    def _survivors(self, returns: Front, count: int) -> Indices:
        return by_hypervolume(returns, count)
