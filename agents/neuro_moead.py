"""Neuroevolution by decomposition: one network per weight, bred among neighbours.

Zhang and Li, "MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition" (2007), with
Chebyshev distances to the best seen, on the weights of small networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.search.neuro import NeuroConfig, NeuroEvolution
from morl.agents.learners.search.survival import Indices, by_decomposition
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.search_space import Bounds, searchable
from morl.types import Front, Task


@dataclass
class Config(NeuroConfig):
    """Settings of neuroevolution by decomposition; those of `NeuroConfig`, and one more.

    Attributes:
        neighbours: weights from whose networks offspring are bred and to whom they are offered.
    """

    neighbours: int = searchable(15, bounds=Bounds(low=2), low=5, high=40, log=True)


@register_agent(
    "neuro_moead", config=Config, acts=Capabilities(masks=True, smoke={"population": 8})
)
class NeuroMOEAD(NeuroEvolution):
    """Evolves a network per weight.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    name = "neuro_moead"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(task, config, total_steps=total_steps, seed=seed)
        self._neighbours = config.neighbours

    def _arrange(self, size: int) -> None:
        self._weights = spread_preferences(self._task.spec.num_objectives, size)
        self._nearest = nearest_rows(self._weights, self._neighbours)
        self._are_neighbours = np.zeros((size, size), np.bool_)
        np.put_along_axis(self._are_neighbours, self._nearest, values=True, axis=1)

    def _mates(self, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
        chosen = rng.integers(self._nearest.shape[1], size=(size, 2))
        return np.take_along_axis(self._nearest, chosen, axis=1)

    def _survivors(self, returns: Front, count: int) -> Indices:
        assert count == len(self._weights)
        return by_decomposition(returns, self._weights, self._are_neighbours)


def nearest_rows(weights: Front, count: int) -> NDArray[np.intp]:
    """Indices of the nearest weights of each, itself first, (weight, neighbour)."""
    distances = np.linalg.norm(weights[:, None] - weights[None], axis=2)
    return np.argsort(distances, axis=1, kind="stable")[:, : min(count, len(weights))]
