"""Controllers that know the physics and the weather of a building, and do not learn.

No agent is told either, so they are anchors rather than competitors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.fixed_agent import FixedAgent
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.search_space import Settings, bounded
from morl.types import Policy, Task

Table = NDArray[np.float64]


class ThermalModel(Protocol):
    """What a batch of buildings tells of itself as ``model``: ``x' = A x + B a + E w``.

    Attributes:
        transition: A, ``(zone, zone)``.
        actuation: B, ``(zone, zone)``.
        exposure: E, ``(zone, source)``.
        weather: w by hour of the year, ``(hour, source)``.
        target: temperature wanted in every zone.
    """

    transition: Table
    actuation: Table
    exposure: Table
    weather: Table
    target: float

    def zone_temperatures(self, observations: NDArray[Any]) -> Table:
        """Temperatures ``(env, zone)`` that observations show."""
        ...

    def hours_alike(self, observations: NDArray[Any]) -> NDArray[np.bool_]:
        """Hours ``(env, hour)`` with the weather that observations show, one or more a row."""
        ...


@dataclass
class Config(Settings):
    """Settings of the building controller.

    Attributes:
        strengths: number of policies; their strengths are evenly spaced from 0 to 1.
    """

    strengths: int = bounded(11, low=2)


@register_agent(
    "building_controller",
    config=Config,
    acts=Capabilities(actions=("box",), environments=("building-*",), learns=False),
)
class BuildingController(FixedAgent):
    """Controllers of a building that undo the model, from not at all to fully.

    Args:
        task: a building.
        config: settings.
        total_steps: of no importance, as is `seed`.
        seed: see there.

    Raises:
        UnsupportedTaskError: if the environment offers no model of a building.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        *,
        total_steps: int,  # noqa: ARG002 - as every agent
        seed: int,  # noqa: ARG002
    ) -> None:
        batch = task.make_vec(1)
        model = getattr(batch, "model", None)
        batch.close()
        if not all(hasattr(model, name) for name in ("actuation", "weather", "hours_alike")):
            raise UnsupportedTaskError(
                f"{task.spec.id}: building_controller needs an environment that offers the model "
                "of a building, such as building-3d-v0"
            )
        self._strengths = np.linspace(0.0, 1.0, config.strengths)
        self._comfort = np.array(
            [name.startswith("comfort") for name in task.spec.objective_names], np.float64
        )
        known = cast(ThermalModel, model)
        super().__init__([InversePolicy(known, strength) for strength in self._strengths.tolist()])

    def choose(self, preference: NDArray[np.float64]) -> Policy:
        """The policy as strong as comfort weighs."""
        wanted = float(self._comfort @ preference)
        return self._policies[int(np.abs(self._strengths - wanted).argmin())]


class InversePolicy:
    """Computes what would bring every zone to its target in an hour, and does a share of it.

    Where full power is not enough, a zone takes what there is, and the others take that into
    account. The weather is no forecast but the true one: the policy knows that of the year and
    recognises the hour in what it sees. As hours look alike, it remembers which they may be; a
    start, where all zones are at their target, it recognises too.

    Args:
        model: of the building.
        strength: the share, from 0 to 1.
    """

    deterministic = True

    def __init__(self, model: ThermalModel, strength: float) -> None:
        self.strength = strength
        self._model = model
        self._coming = np.zeros((0, len(model.weather)), np.bool_)

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Choose actions; see `morl.types.Policy`."""
        model = self._model
        zones = model.zone_temperatures(observations)
        weather = self._weather(observations, started=(zones == model.target).all(axis=1))
        idle = zones @ model.transition.T + weather @ model.exposure.T
        powers = _bounded_inverse(model.target - idle, np.ascontiguousarray(model.actuation))
        return (self.strength * powers).astype(np.float32)

    def _weather(self, observations: NDArray[Any], *, started: NDArray[np.bool_]) -> Table:
        """Weather ``(env, source)`` of the coming hour, the mean over hours that it may be."""
        alike = self._model.hours_alike(observations)
        if len(self._coming) != len(alike):
            self._coming = np.zeros_like(alike)
        # An observation shows the hour that is over, which was to come before ...
        over = self._coming & alike
        lost = ~over.any(axis=1)
        over[lost] = alike[lost]
        coming = np.roll(over, 1, axis=1)
        coming[:, 0] = False  # nothing follows the last hour
        # ... except at the start, where it shows the first hour to come.
        first = lost & started
        coming[first] = over[first]
        unknown = ~coming.any(axis=1)
        coming[unknown] = over[unknown]
        self._coming = coming
        mean: Table = coming @ self._model.weather / coming.sum(axis=1, keepdims=True)
        return mean


@njit(cache=True)
def _bounded_inverse(wanted: Table, response: Table) -> Table:
    """Powers in [-1, 1] that change zones as wanted, or as nearly as bounds allow.

    Zones are solved for one after the other and again until nothing changes (Gauss-Seidel with
    clipping), which takes some twenty rounds.

    Args:
        wanted: degrees, ``(env, zone)``.
        response: degrees by unit of power, ``(zone, zone)``.
    """
    powers = np.zeros_like(wanted)
    for i in range(wanted.shape[0]):
        for _ in range(100):
            change = 0.0
            for k in range(wanted.shape[1]):
                missing = wanted[i, k]
                for j in range(wanted.shape[1]):
                    missing -= response[k, j] * powers[i, j]
                power = min(max(powers[i, k] + missing / response[k, k], -1.0), 1.0)
                change = max(change, abs(power - powers[i, k]))
                powers[i, k] = power
            if change < 1e-9:
                break
    return powers
