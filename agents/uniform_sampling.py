"""Uniform sampling: objects built by actions drawn evenly, the floor of samplers of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morl.agents.learners.search.objects import ObjectSearch, SearchConfig
from morl.capabilities import Capabilities
from morl.compositional import EVEN, States, Walks, even_length_walks, random_walks
from morl.registry import register_agent


@dataclass
class Config(SearchConfig):
    """Settings of uniform sampling, beside those of all searches.

    Attributes:
        even: "choices" or "lengths", see `compositional.EVEN`.
    """

    even: str = "choices"

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field.
        """
        super().__post_init__()
        if self.even not in EVEN:
            raise ValueError(f"even must be one of {', '.join(EVEN)}, got {self.even!r}")


@register_agent(
    "uniform_sampling",
    config=Config,
    acts=Capabilities(actions=("discrete",), objects=True, learns=False, smoke={"batch": 8}),
)
class UniformSampling(ObjectSearch):
    """Builds objects at random and keeps the nondominated."""

    name = "uniform_sampling"
    _settings: Config

    def walks(self, count: int, rng: np.random.Generator) -> Walks:
        """Fresh objects, neither evaluated nor counted."""
        build = random_walks if self._settings.even == "choices" else even_length_walks
        return build(self._core, count, rng)

    def _propose(self, rng: np.random.Generator) -> States:
        return self.walks(self._settings.batch, rng).objects
