"""Uniform sampling: objects built by actions drawn evenly, the floor of samplers of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morl.agents.object_search import ObjectSearch, SearchConfig
from morl.compositional import States, random_walks
from morl.registry import register_agent


@dataclass
class Config(SearchConfig):
    """Settings of uniform sampling: those of all searches."""


@register_agent("uniform_sampling", config=Config)
class UniformSampling(ObjectSearch):
    """Builds objects at random and keeps the nondominated."""

    name = "uniform_sampling"

    def _propose(self, rng: np.random.Generator) -> States:
        return random_walks(self._core, self._settings.batch, rng).objects
