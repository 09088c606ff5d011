"""NSGA-II on objects (Deb et al. 2002): nondominated sorting and crowding, on pymoo's operators."""

from __future__ import annotations

from typing import Any

from morl.agents.learners.search.evolution import Evolution
from morl.agents.learners.search.evolution import EvolutionConfig as Config
from morl.capabilities import Capabilities
from morl.registry import register_agent


@register_agent(
    "nsga2",
    config=Config,
    acts=Capabilities(actions=("discrete",), objects=True, smoke={"batch": 8}),
)
class NSGA2(Evolution):
    """NSGA-II: survival by nondominated sorting and crowding."""

    name = "nsga2"

    def _make_survival(self) -> Any:  # noqa: ANN401 - pymoo's
        return self._operators.rank_and_crowding()

    def _compare(self) -> Any:  # noqa: ANN401 - pymoo's
        return self._operators.by_crowding
