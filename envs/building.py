"""Building: heat and cool the 23 zones of a large office for twenty days of January.

The zones exchange heat with each other, the ground and the weather; one step is one hour of the
linear model ``x' = A x + B u``. Parts of the reward are comfort, what heating and cooling cost, and
how smoothly they run: three objectives for the whole building (`building-3d-v0`), or each of three
for the zones at the bottom, in the middle and at the top (`building-9d-v0`).

Task of Liu et al., "Efficient Discovery of Pareto Front for Multi-Objective Reinforcement Learning"
(ICLR 2025), on the building of SustainGym (Yeh et al. 2023); written from the formulas, data
distilled in ``data/building_*.csv``. Returns are on the scale of the published ones; these traps of
the released code are gone:

- its first observation is a single number, here it is as long as all others;
- the hour in the year and the noise of prices come from a generator that no seed reaches, here from
  each environment's own;
- temperatures are clipped to 0..40 degrees in the dynamics, here in observations alone;
- actions beyond -1..1 heat and cool without limit, here they are clipped;
- ramping is paid an hour late, for the actions before the present one; here it is paid at once, and
  as there not at all in the first two hours;
- an episode's end is said to be a time limit as well, here it is an end.

Kept, because scores depend on it: the ground's twelve monthly temperatures follow each other by
the hour, every layer loses heat through a roof, people give off no heat, some prices are negative,
and observations show the weather of the hour that is over (at the start, of the first to come).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError, NotResetError
from morl.registry import register_env
from morl.types import EnvSpec, Objective

Table = NDArray[np.float64]

HOURS = 480
"""Length of an episode."""

LAST_START = 200
"""Episodes begin in one of the hours 1 to this of the year."""

TARGET = 20.0
"""Temperature wanted in every zone, degrees Celsius, and that of the start."""

GROUPS: Mapping[str, tuple[int, ...]] = {
    "building-3d-v0": (0, 23),
    "building-9d-v0": (0, 9, 16, 23),
}
"""Where groups of zones begin, and where the last one ends, by id."""

# U-values, W / (m2 K), of SustainGym's "OfficeLarge".
INNER_WALL, OUTER_WALL, ROOF, GROUND, WINDOW = 6.299, 0.984, 0.228, 3.839, 2.615
FLOOR_AND_CEILING = 3.839 * 4.488 / (3.839 + 4.488)
GROUND_WEIGHT = 0.5
HEAT_CAPACITY = 1000 * 1.225  # J / (m3 K), of air
POWER = 8000.0  # W, of a zone's heating and cooling at full power
STRONGEST_SUN = 1030.0  # Wh / m2, highest of the year
SOLAR_GAIN = 0.252 * 0.01 * STRONGEST_SUN / (8 / 60)  # W / m2 of window under the strongest sun
SECONDS = 3600.0

# Monthly temperatures of El Paso, degrees Celsius; the benchmark reads them as hours.
GROUND_TEMPERATURES = (18.3, 11.2, 6.8, 8.1, 10.3, 12.5, 19.2, 23.8, 27.9, 27.5, 26.3, 23.4)
# By hour of the day: price of electricity in $/kWh, and its carbon in kg/kWh.
PRICES = (
    0.035, 0.033, 0.032, 0.029, 0.031, 0.034, 0.037, 0.039, 0.041, 0.036, 0.033, 0.032,
    0.030, 0.029, 0.029, 0.027, 0.028, 0.031, 0.030, 0.032, 0.032, 0.033, 0.035, 0.035,
)  # fmt: skip
CARBON = (
    0.423, 0.438, 0.445, 0.443, 0.441, 0.439, 0.453, 0.467, 0.482, 0.463, 0.447, 0.434,
    0.426, 0.449, 0.459, 0.468, 0.481, 0.498, 0.498, 0.497, 0.430, 0.391, 0.396, 0.409,
)  # fmt: skip
NOISE = 0.02  # standard deviation of both
HIGHEST_PRICE = max(PRICES)

OBSERVED_DEGREES = 40.0
"""Zones are observed from 0 to this, weather from minus to plus this, both as shares."""

METABOLISM = 120.0  # W a person
# People's heat is observed in kW on a range of -1 to 1; coefficients of EnergyPlus.
_PEOPLE = (
    6.461927 + 0.946892 * METABOLISM + 2.55737e-5 * METABOLISM**2,
    -0.0627909 * METABOLISM + 5.89172e-5 * METABOLISM**2,
    -0.19855 + 9.40018e-4 * METABOLISM - 1.49532e-6 * METABOLISM**2,
)


@dataclass(frozen=True)
class Zones:
    """Where the zones lie and what they are made of; arrays over zones.

    Attributes:
        layer: counts distinct heights from the ground up.
        low: lower corners (x, y, z) in metres, ``(zone, 3)``.
        high: upper corners.
        floor: area in square metres.
        wall: exterior area without windows.
        window: area of windows.
    """

    layer: NDArray[np.int64]
    low: Table
    high: Table
    floor: Table
    wall: Table
    window: Table

    @classmethod
    def load(cls) -> Zones:
        """Read the package's table."""
        table = _columns("building_zones.csv")
        return cls(
            layer=table["layer"].astype(np.int64),
            low=np.column_stack([table["x0"], table["y0"], table["z0"]]),
            high=np.column_stack([table["x1"], table["y1"], table["z1"]]),
            floor=table["floor_area"],
            wall=table["wall_area"],
            window=table["window_area"],
        )

    def __len__(self) -> int:
        """Count the zones."""
        return len(self.layer)

    @property
    def base(self) -> Table:
        """Area of the boxes around the zones."""
        area: Table = np.prod((self.high - self.low)[:, :2], axis=1)
        return area

    @property
    def volume(self) -> Table:
        """Volume of those boxes."""
        return self.base * (self.high - self.low)[:, 2]

    @property
    def is_last(self) -> NDArray[np.bool_]:
        """Which zones come last of their layer."""
        return np.append(self.layer[1:] != self.layer[:-1], True)

    def overlap(self, i: int, j: int) -> Table:
        """Extent (x, y) of what two zones share in the plan."""
        shared: Table = np.minimum(self.high[i], self.high[j]) - np.maximum(
            self.low[i], self.low[j]
        )
        return shared[:2]

    def touch(self, i: int, j: int) -> bool:
        """Whether a corner of one of two zones of a layer lies in the other, edges included."""
        return any(
            bool(((corner >= self.low[b, :2]) & (corner <= self.high[b, :2])).all())
            for a, b in ((i, j), (j, i))
            for corner in (self.low[a, :2], self.high[a, :2])
        )

    def lie_above(self, i: int, j: int) -> bool:
        """Whether zones of neighbouring layers share a floor, by corners without far edges."""
        for a, b in ((i, j), (j, i)):
            low, high = self.low[b, :2], self.high[b, :2]
            if ((self.low[a, :2] >= low) & (self.low[a, :2] < high)).all():
                return True
            if ((self.high[a, :2] > low) & (self.high[a, :2] <= high)).all():
                return True
        return False


def _columns(name: str) -> dict[str, Table]:
    """Numeric columns of a table of the package; lines that begin with # are remarks."""
    text = (resources.files("morl.envs") / "data" / name).read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    numeric = [column for column in rows[0] if column != "zone"]
    return {column: np.array([float(row[column]) for row in rows]) for column in numeric}


def _conductances(zones: Zones) -> Table:
    """Conductance between zones in W/K, ``(zone, zone)``, symmetric."""
    between = np.zeros((len(zones), len(zones)))
    for i in range(len(zones)):
        for j in range(i + 1, len(zones)):
            overlap = zones.overlap(i, j)
            if zones.layer[i] == zones.layer[j] and zones.touch(i, j):
                height = zones.high[i, 2] - zones.low[i, 2]
                between[i, j] = height * INNER_WALL * np.hypot(*overlap)
            elif zones.layer[j] - zones.layer[i] == 1 and zones.lie_above(i, j):
                between[i, j] = overlap.prod() * FLOOR_AND_CEILING
    return between + between.T


@dataclass(frozen=True)
class BuildingModel:
    """The building's dynamics over an hour: ``x' = transition x + actuation a + exposure w``.

    Attributes:
        transition: ``(zone, zone)``.
        actuation: degrees an hour of full power, ``(zone, zone)``.
        exposure: ``(zone, 3)``, of temperatures of ground and air and the sun's share of its
            highest.
        weather: those three by hour of the year, ``(hour, 3)``.
        target: temperature wanted everywhere, degrees Celsius.
    """

    transition: Table
    actuation: Table
    exposure: Table
    weather: Table
    target: float = TARGET

    def zone_temperatures(self, observations: NDArray[Any]) -> Table:
        """Temperatures ``(env, zone)`` in degrees that observations ``(env, 29)`` show."""
        shares = np.asarray(observations[:, : len(self.transition)], np.float64)
        return shares * OBSERVED_DEGREES

    def hours_alike(self, observations: NDArray[Any]) -> NDArray[np.bool_]:
        """Which hours of the year have the weather that observations ``(env, 29)`` show.

        Returns:
            ``(env, hour)``, true at the nearest hours, so at one or more in every row.
        """
        zones = len(self.transition)
        known = _observed_weather(self.weather)
        seen = np.asarray(observations[:, zones : zones + known.shape[1]], np.float64)
        distance = np.zeros((len(seen), len(known)))
        for column in range(known.shape[1]):
            distance += np.abs(seen[:, column, None] - known[:, column])
        # Observations are in single precision; a tenth of a degree is a thousand times more.
        return np.asarray(distance <= distance.min(axis=1, keepdims=True) + 1e-6)


def _observed_weather(weather: Table) -> Table:
    """Weather ``(..., 3)`` as observations give it: air, sun, ground, from 0 to 1."""
    ground, air, sun = np.moveaxis(weather, -1, 0)
    scale = 2 * OBSERVED_DEGREES
    return np.stack([air / scale + 0.5, sun, ground / scale + 0.5], axis=-1)


@functools.cache
def building_model() -> BuildingModel:
    """The one building; its arrays are read-only."""
    from scipy.linalg import expm  # only who makes a building waits for it

    zones = Zones.load()
    between = _conductances(zones)
    to_air = zones.wall * OUTER_WALL + zones.window * WINDOW
    to_air = to_air + np.where(zones.is_last, zones.base * ROOF, 0.0)
    to_ground = np.where(zones.layer == 0, zones.floor * GROUND * GROUND_WEIGHT, 0.0)
    flows = between - np.diag(between.sum(axis=1) + to_air + to_ground)
    sources = np.column_stack(
        [np.eye(len(zones)) * POWER, to_ground, to_air, zones.window * SOLAR_GAIN]
    )
    capacity = (HEAT_CAPACITY * zones.volume)[:, None]
    flows, sources = flows / capacity, sources / capacity
    transition = expm(SECONDS * flows)
    response = np.linalg.solve(flows, (transition - np.eye(len(zones))) @ sources)
    arrays = (transition, response[:, :-3], response[:, -3:], _weather())
    for array in arrays:
        array.flags.writeable = False
    return BuildingModel(*arrays)


def _weather() -> Table:
    table = _columns("building_weather.csv")
    hours = len(table["hour"])
    return np.column_stack(
        [
            np.resize(GROUND_TEMPERATURES, hours),
            table["outdoor_celsius"],
            table["irradiation_wh_per_m2"] / STRONGEST_SUN,
        ]
    )


@njit(cache=True, inline="always")
def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two bounds, as a share; beyond them 0 or 1."""
    return (min(max(value, low), high) - low) / (high - low)


@njit(cache=True)
def _observe(
    zones: NDArray[np.float64],
    mean_before: float,
    weather: NDArray[np.float64],
    carbon: float,
    price: float,
    people: tuple[float, float, float],
    observation: NDArray[np.float32],
) -> None:
    count = zones.shape[0]
    for k in range(count):
        observation[k] = _share(zones[k], 0.0, OBSERVED_DEGREES)
    heat = people[0] + people[1] * mean_before + people[2] * mean_before * mean_before
    observation[count] = _share(weather[1], -OBSERVED_DEGREES, OBSERVED_DEGREES)
    observation[count + 1] = _share(weather[2], 0.0, 1.0)
    observation[count + 2] = _share(weather[0], -OBSERVED_DEGREES, OBSERVED_DEGREES)
    observation[count + 3] = _share(heat / 1000.0, -1.0, 1.0)
    observation[count + 4] = _share(carbon, 0.0, 1.0)
    observation[count + 5] = _share(price, 0.0, 1.0)


@njit(cache=True)
def _respond(
    inputs: NDArray[np.float64], response: NDArray[np.float64], following: NDArray[np.float64]
) -> None:
    """``following = inputs @ response``, always added up in the same order.

    A product of BLAS for the whole batch would depend on the size of the batch in its last bits.
    """
    for k in range(response.shape[1]):
        following[k] = 0.0
    for j in range(response.shape[0]):
        value = inputs[j]
        for k in range(response.shape[1]):
            following[k] += response[j, k] * value


@njit(cache=True)
def _reward(
    hour: int,
    price: float,
    groups: NDArray[np.int64],
    inputs: NDArray[np.float64],
    zones: NDArray[np.float64],
    efforts: NDArray[np.float64],
    reward: NDArray[np.float64],
) -> None:
    """Comfort, cost and ramping of each group; `efforts` holds those of the hour before."""
    count = groups.shape[0] - 1
    for g in range(count):
        size = groups[g + 1] - groups[g]
        error = 0.0
        effort = 0.0
        for k in range(groups[g], groups[g + 1]):
            error += abs(zones[k] - TARGET)
            effort += abs(inputs[zones.shape[0] + k])
        reward[g] = size - error / TARGET
        weight = price / HIGHEST_PRICE if count == 1 else 1.0 / 20.0
        reward[count + g] = size - weight * effort
        reward[2 * count + g] = size - abs(effort - efforts[g]) if hour >= 2 else 0.0
        efforts[g] = effort


@njit(cache=True)
def _advance(
    actions: NDArray[np.float32],
    response: NDArray[np.float64],
    weather: NDArray[np.float64],
    starts: NDArray[np.int64],
    hours: NDArray[np.int64],
    prices: NDArray[np.float64],
    carbons: NDArray[np.float64],
    people: tuple[float, float, float],
    groups: NDArray[np.int64],
    inputs: NDArray[np.float64],
    following: NDArray[np.float64],
    efforts: NDArray[np.float64],
    observations: NDArray[np.float32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    zones = actions.shape[1]
    for i in range(actions.shape[0]):
        hour = hours[i]
        present = weather[starts[i] + hour]
        mean = 0.0
        for k in range(zones):
            mean += inputs[i, k]
            inputs[i, zones + k] = min(max(np.float64(actions[i, k]), -1.0), 1.0)
        for k in range(3):
            inputs[i, 2 * zones + k] = present[k]
        _respond(inputs[i], response, following)
        after = following[:zones]
        _reward(hour, prices[i, hour], groups, inputs[i], after, efforts[i], rewards[i])
        _observe(
            after,
            mean / zones,
            present,
            carbons[i, hour],
            prices[i, hour],
            people,
            observations[i],
        )
        inputs[i, :zones] = after
        hours[i] = hour + 1
        terminated[i] = hours[i] == HOURS


class BuildingVectorEnv(BatchedEnv):
    """N buildings in one compiled loop, each in its own part of January.

    Observation: float32 ``(29,)`` from 0 to 1: temperatures of the zones (0..40 degrees), air
    (-40..40), sun, ground (-40..40), heat of people (-1..1 kW, of no effect), carbon and price of
    electricity. Action: power of each zone, from cooling (-1) to heating (1), clipped. Reward:
    comfort, cost and ramping of each group of zones, in that order; a zone at its target, idle and
    as idle as before, earns 1 in each every hour. The episode ends after 480 hours: the horizon
    belongs to the task, so the end is `terminated`; a shorter limit truncates.

    Attributes:
        model: the dynamics and the weather of the year.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "building-3d-v0",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: a key of `GROUPS`; decides the objectives.
            max_episode_steps: steps after which an episode is truncated, where that is before
                its end.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        if env_id not in GROUPS:
            raise EnvArgumentError(f"{env_id}: there is {' and '.join(GROUPS)}")
        self.model = building_model()
        zones = len(self.model.transition)
        cut_short = max_episode_steps is not None and max_episode_steps < HOURS
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(0.0, 1.0, (zones + 6,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (zones,), np.float32),
            reward_space=_reward_space(GROUPS[env_id], self.model),
            max_episode_steps=max_episode_steps if cut_short else None,
            copy=copy,
        )
        self._groups = np.array(GROUPS[env_id], np.int64)
        self._response = _padded_response(self.model)
        self._inputs = np.zeros((self.num_envs, 2 * zones + 3))
        self._following = np.zeros(self._response.shape[1])
        self._efforts = np.zeros((self.num_envs, len(self._groups) - 1))
        self._starts = np.zeros(self.num_envs, np.int64)
        self._hours = np.zeros(self.num_envs, np.int64)
        self._prices = np.zeros((self.num_envs, HOURS))
        self._carbons = np.zeros((self.num_envs, HOURS))
        self._generators = [np.random.default_rng(0)] * self.num_envs

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._generators[i] = np.random.default_rng(seed)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        for i in indices.tolist():
            rng = self._generators[i]
            self._starts[i] = start = int(rng.integers(1, LAST_START + 1))
            hours = np.arange(start, start + HOURS)
            self._prices[i] = np.take(PRICES, hours, mode="wrap") + rng.normal(0.0, NOISE, HOURS)
            self._carbons[i] = np.take(CARBON, hours, mode="wrap") + rng.normal(0.0, NOISE, HOURS)
            self._begin(i)

    def _begin(self, i: int) -> None:
        zones = len(self.model.transition)
        self._hours[i] = 0
        self._efforts[i] = 0.0
        self._inputs[i, :zones] = TARGET
        _observe(
            self._inputs[i, :zones],
            TARGET,
            self.model.weather[self._starts[i]],
            self._carbons[i, 0],
            self._prices[i, 0],
            _PEOPLE,
            self._observations[i],
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        _advance(
            actions,
            self._response,
            self.model.weather,
            self._starts,
            self._hours,
            self._prices,
            self._carbons,
            _PEOPLE,
            self._groups,
            self._inputs,
            self._following,
            self._efforts,
            self._observations,
            self._rewards,
            self._terminated,
        )


def _padded_response(model: BuildingModel) -> Table:
    """Zone by zone response to temperatures, actions and weather, ``(input, zone)``.

    One column of zeros makes whole vector registers of a row.
    """
    rows = np.hstack([model.transition, model.actuation, model.exposure]).T
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))))


@functools.cache
def _largest_errors() -> Table:
    """The furthest that each zone can get from its target, in degrees.

    All entries of the model are positive: nothing is hotter than what always heats in the hottest
    weather, nothing colder than what always cools in the coldest.
    """
    model = building_model()
    errors = np.zeros(len(model.transition))
    for power, extreme in ((-1.0, model.weather.min(axis=0)), (1.0, model.weather.max(axis=0))):
        zones = np.full(len(errors), TARGET)
        constant = model.actuation.sum(axis=1) * power + model.exposure @ extreme
        for _ in range(HOURS):
            zones = model.transition @ zones + constant
            errors = np.maximum(errors, np.abs(zones - TARGET))
    return errors


def _reward_space(groups: Sequence[int], model: BuildingModel) -> spaces.Box:
    assert len(model.transition) == groups[-1]
    sizes = np.diff(groups).astype(np.float64)
    comfort = sizes - np.add.reduceat(_largest_errors(), groups[:-1]) / TARGET
    if len(sizes) == 1:
        cost_low, cost_high = np.array([-np.inf]), np.array([np.inf])  # prices are normal draws
    else:
        cost_low, cost_high = sizes * 0.95, sizes
    low = np.concatenate([comfort, cost_low, np.zeros(len(sizes))])
    return spaces.Box(low, np.concatenate([sizes, cost_high, sizes]), dtype=np.float64)


class BuildingEnv(gymnasium.Env[NDArray[Any], NDArray[Any]]):
    """One building, for Gymnasium's ordinary interface: a batch of one behind it.

    Attributes:
        reward_space: space of the reward vector.
        model: the dynamics and the weather of the year.
    """

    def __init__(self, *, env_id: str = "building-3d-v0") -> None:
        """Make a building.

        Args:
            env_id: a key of `GROUPS`; decides the objectives.
        """
        self._batch = BuildingVectorEnv(1, env_id=env_id)
        self.model = self._batch.model
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self.reward_space = self._batch.reward_space
        self._next_first: NDArray[Any] | None = None
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; without a seed the one that follows from the seed before."""
        super().reset(seed=seed)
        # A batch begins the next episode by itself when one has ended.
        if seed is None and self._next_first is not None:
            first = self._next_first
        else:
            first = self._batch.reset(seed=None if seed is None else [seed], options=options)[0][0]
        self._next_first = None
        self._running = True
        return first, {}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Let an hour pass.

        Raises:
            NotResetError: when no episode is running.
        """
        if not self._running:
            raise NotResetError(f"{self._batch.env_id}: call reset() before step()")
        observations, rewards, terminated, truncated, infos = self._batch.step(
            np.asarray(action)[None]
        )
        observation = observations[0]
        if terminated[0] or truncated[0]:
            self._next_first, observation = observation, infos["final_obs"][0]
            self._running = False
        return observation, rewards[0], bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()


_DESCRIPTION = "Heat and cool 23 zones of an office for 480 hours of January; "

_COMFORT = "Hours that {} spend at 20 degrees; each degree off takes a twentieth of an hour."
_RAMPING = "Hours of {} less the change of their summed power, from the third hour on."

SPEC_3D = EnvSpec(
    id="building-3d-v0",
    objectives=(
        Objective("comfort", "zone h", _COMFORT.format("zones")),
        Objective(
            "price", "zone h", "Hours of zones less those of full power, weighted by the price."
        ),
        Objective("ramping", "zone h", _RAMPING.format("zones")),
    ),
    reference_point=(0.0,) * 3,
    discount=1.0,
    horizon=HOURS,
    # Means over all hours in which an episode can begin.
    anchors={"do-nothing": 9.813e11, "building controller": 1.2567e12},
    description=_DESCRIPTION + "comfort, cost at noisy prices and smooth power.",
)

_PARTS = ("bottom", "middle", "top")

SPEC_9D = EnvSpec(
    id="building-9d-v0",
    objectives=(
        *(Objective(f"comfort-{p}", "zone h", _COMFORT.format(f"{p} zones")) for p in _PARTS),
        *(
            Objective(
                f"energy-{p}", "zone h", f"Hours of {p} zones less a twentieth of their power."
            )
            for p in _PARTS
        ),
        *(Objective(f"ramping-{p}", "zone h", _RAMPING.format(f"{p} zones")) for p in _PARTS),
    ),
    reference_point=(0.0,) * 9,
    discount=1.0,
    horizon=HOURS,
    anchors={"do-nothing": 4.442e31, "building controller": 1.0157e32},
    description=_DESCRIPTION + "comfort, energy and smooth power at the bottom, middle and top.",
)

for _spec in (SPEC_3D, SPEC_9D):
    register_env(
        _spec.id,
        spec=_spec,
        entry_point="morl.envs.building:BuildingEnv",
        vector_entry_point="morl.envs.building:BuildingVectorEnv",
        kwargs={"env_id": _spec.id},
    )
