"""NSGA-III on objects (Deb and Jain 2014): niches around reference directions, on pymoo."""

from __future__ import annotations

from typing import Any

from morl.agents.learners.search.evolution import Evolution, reference_directions
from morl.agents.learners.search.evolution import EvolutionConfig as Config
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import State


@register_agent(
    "nsga3",
    config=Config,
    acts=Capabilities(actions=("discrete",), objects=True, smoke={"batch": 8}),
)
class NSGA3(Evolution):
    """NSGA-III: survival by nondominated sorting and niches around reference directions."""

    name = "nsga3"

    def _make_survival(self) -> Any:  # noqa: ANN401 - pymoo's
        directions = reference_directions(self._core.num_objectives, self._settings.batch)
        return self._operators.directions(directions)

    def _compare(self) -> Any:  # noqa: ANN401 - pymoo's
        return self._operators.by_chance

    def state_dict(self) -> State:
        """As the base class, and the estimated extent of the front."""
        norm = self._survival.norm
        known = norm.nadir_point is not None
        return {
            **super().state_dict(),
            "extent": {
                "ideal": norm.ideal_point,
                "worst": norm.worst_point,
                "nadir": norm.nadir_point if known else None,
                "extremes": norm.extreme_points if known else None,
            },
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        norm, saved = self._survival.norm, state["extent"]
        norm.ideal_point, norm.worst_point = saved["ideal"], saved["worst"]
        norm.nadir_point, norm.extreme_points = saved["nadir"], saved["extremes"]
