"""Heuristics for `mec-offloading-v0`: what thinking is worth before learning is.

None of them learns. They take no step, and the runner measures them as it measures all others. The
paper of the environment leaves them out; a learned policy should beat the best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.fixed_agent import FixedAgent
from morl.agents.learners.core.preference_scales import checked_factors, rescaled
from morl.capabilities import Capabilities
from morl.preferences import check_preferences, lattice
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, Bounds, Settings, bounded
from morl.types import Front, Policy, Solution, Task

Table = NDArray[np.float64]

Cost = Callable[[NDArray[Any], Table], Table]
"""Costs ``(..., server)`` of observations ``(..., feature)`` and weights ``(..., 2)``."""

Rule = Literal[
    "random",
    "cloud",
    "shortest_queue",
    "shortest_edge_queue",
    "least_energy",
    "greedy",
    "rollout",
]

RULES: tuple[Rule, ...] = get_args(Rule)

SWEEPS = ("random", "greedy", "rollout")
"""Rules that answer each preference with a policy of its own."""

CLOUD = 0


class NoServerError(UnsupportedTaskError):
    """An observation of a system without a server."""


class ServerModel(Protocol):
    """What a batch of offloading systems tells of itself as ``model``.

    Servers that do not exist have infinitely many tasks and infinite costs.
    """

    @property
    def exact(self) -> bool:
        """Whether observations tell exact costs and the step."""
        ...

    def available(self, observations: NDArray[Any]) -> NDArray[np.bool_]:
        """Which servers exist, ``(..., server)``."""
        ...

    def frequency(self, observations: NDArray[Any]) -> Table:
        """Speeds ``(..., server)``."""
        ...

    def tasks(self, observations: NDArray[Any]) -> Table:
        """Tasks in execution, ``(..., server)``."""
        ...

    def steps_taken(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """Steps of the episode so far, ``(...)``."""
        ...

    def weighted(
        self, observations: NDArray[Any], weights: Table, *, waiting_weight: float
    ) -> Table:
        """Weighted costs of sending the present task to each server, ``(..., server)``."""
        ...

    def lookahead(
        self,
        observations: NDArray[Any],
        weights: Table,
        *,
        samples: int,
        steps: int,
        candidates: int,
        waiting_weight: float,
    ) -> Table:
        """As `weighted`, with the costs of coming tasks, sent greedily."""
        ...


@dataclass
class Config(Settings):
    """Settings of the heuristics.

    Attributes:
        rule: what decides; see the page of the agent.
        policies: number of preferences that a sweep is made of, evenly spaced.
        reward_scales: factors of seconds and joules that the preferences of a sweep weigh.
        waiting_weight: of "greedy", and within the futures of "rollout": what each second of
            shared time counts; 2 is the exact cost of the present task.
        samples: futures that "rollout" plays.
        lookahead: steps of each.
        candidates: most servers that "rollout" tries.
    """

    rule: Rule = bounded("greedy", choices=RULES)  # noqa: RUF009 - makes a field
    policies: int = bounded(101, Bounds(low=2))
    reward_scales: tuple[float, float] = (0.01, 5.0)
    waiting_weight: float = bounded(2.0, NOT_NEGATIVE)
    samples: int = bounded(20, COUNT)
    lookahead: int = bounded(40, COUNT)
    candidates: int = bounded(4, COUNT)

    def __post_init__(self) -> None:
        """Refuse what no heuristic could use.

        Raises:
            ValueError: names the setting.
        """
        super().__post_init__()
        checked_factors(self.reward_scales, num_objectives=2, name="reward_scales")


def least(costs: Table) -> NDArray[np.int64]:
    """The server of the least cost, ``(...)``.

    Args:
        costs: ``(..., server)``, infinite where there is no server.

    Raises:
        NoServerError: for a row without any server.
    """
    if not np.isfinite(costs.min(axis=-1)).all():
        raise NoServerError(
            "an observation says that no server exists, not even the cloud: every first feature "
            "of its rows is negative"
        )
    return np.asarray(costs.argmin(axis=-1), np.int64)


class CostPolicy:
    """Sends a task where it costs least by some weights.

    Args:
        cost: of sending the present task to each server.
        weights: costs of a second and of a joule, ``(2,)``.
    """

    deterministic = True

    def __init__(self, cost: Cost, weights: Table) -> None:
        self.cost = cost
        self.weights = weights

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Choose servers; see `morl.types.Policy`."""
        return least(self.cost(observations, self.weights))

    @classmethod
    def stack(cls, policies: Sequence[CostPolicy]) -> CostPolicies:
        """All of them, acting in one call."""
        return CostPolicies(policies[0].cost, np.stack([policy.weights for policy in policies]))


class CostPolicies:
    """Policies of one cost function, acting together.

    Args:
        cost: as in `CostPolicy`.
        weights: ``(policy, 2)``.
    """

    def __init__(self, cost: Cost, weights: Table) -> None:
        self._cost = cost
        self._weights = weights

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Choose servers; see `morl.types.StackedPolicy`."""
        return least(self._cost(observations, self._weights[:, None]))


class RandomServers:
    """Sends a task to the cloud with some probability, else to any edge server.

    Args:
        model: reads observations.
        level: from 0 to 1; 1 gives the cloud the share that it has of all speed. Beyond that, less
            to the cloud would be better in both objectives.
    """

    deterministic = False

    def __init__(self, model: ServerModel, level: float) -> None:
        self.level = level
        self._model = model

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose servers; see `morl.types.Policy`."""
        speed = self._model.frequency(observations)
        edges = (speed[:, 1:] > 0.0).sum(axis=1)
        share = self.level * speed[:, CLOUD] / speed.sum(axis=1)
        to_cloud = (rng.random(len(share)) < share) | (edges == 0)
        return np.where(to_cloud, CLOUD, rng.integers(1, np.maximum(edges, 1) + 1))


def _queue(
    model: ServerModel,
    observations: NDArray[Any],
    weights: Table,  # noqa: ARG001 - as every cost
    *,
    cloud: bool,
) -> Table:
    """Number of tasks on each server; the cloud may be left out."""
    tasks = model.tasks(observations)
    if not cloud:
        tasks[..., CLOUD] = np.inf
    return tasks


def _everything_to_the_cloud(
    model: ServerModel,
    observations: NDArray[Any],
    weights: Table,  # noqa: ARG001 - as every cost
) -> Table:
    """Costs that make the cloud the cheapest server."""
    costs = np.where(model.available(observations), 1.0, np.inf)
    costs[..., CLOUD] -= 1.0
    return costs


@register_agent(
    "offloading_heuristic",
    config=Config,
    acts=Capabilities(actions=("discrete",), environments=("mec-offloading-*",), learns=False),
)
class OffloadingHeuristic(FixedAgent):
    """One of the rules, or its sweep over preferences.

    Args:
        task: offloading.
        config: settings.
        total_steps: of no importance, as is `seed`.
        seed: see there.

    Raises:
        UnsupportedTaskError: if the environment offers no model of servers.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:  # noqa: ARG002 - as every agent
        self._config = config
        self._model = model_of(task, agent="offloading_heuristic")
        self._cost = self._cost_of_rule()
        self._preferences = rescaled(lattice(2, config.policies - 1), config.reward_scales)
        super().__init__([self.choose(self._preferences[0])])

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """One policy for each preference of raw rewards.

        Without preferences those of the sweep, evenly spaced for scaled rewards, or the only one.

        Raises:
            PreferenceError: for rows that are not on the simplex.
        """
        if preferences is None:
            sweeps = self._config.rule in SWEEPS
            return super().solutions(self._preferences if sweeps else None)
        return super().solutions(check_preferences(preferences, num_objectives=2))

    def choose(self, preference: Table) -> Policy:
        """The policy for a preference of raw rewards."""
        if self._config.rule == "random":
            inverse = 1.0 / np.asarray(self._config.reward_scales)
            return RandomServers(self._model, float(rescaled(preference[None], inverse)[0, 0]))
        weights = np.array([0.0, 1.0]) if self._config.rule == "least_energy" else preference
        return CostPolicy(self._cost, weights)

    def _cost_of_rule(self) -> Cost:
        config, model = self._config, self._model
        if config.rule == "cloud":
            return partial(_everything_to_the_cloud, model)
        if config.rule in ("shortest_queue", "shortest_edge_queue"):
            return partial(_queue, model, cloud=config.rule == "shortest_queue")
        if config.rule == "rollout":
            return partial(
                model.lookahead,
                samples=config.samples,
                steps=config.lookahead,
                candidates=config.candidates,
                waiting_weight=config.waiting_weight,
            )
        return partial(model.weighted, waiting_weight=config.waiting_weight)


def model_of(task: Task, *, agent: str) -> ServerModel:
    """The model that batches of a task offer.

    Raises:
        UnsupportedTaskError: if they offer none, or that of something else.
    """
    batch = task.make_vec(1)
    model = getattr(batch, "model", None)
    batch.close()
    if not all(hasattr(model, name) for name in ("weighted", "lookahead", "steps_taken")):
        raise UnsupportedTaskError(
            f"{task.spec.id}: {agent} needs an environment that offers the model of servers, such "
            "as mec-offloading-v0"
        )
    return cast(ServerModel, model)
