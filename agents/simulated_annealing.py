"""Simulated annealing of fixed plans: which server each of a hundred tasks is sent to, blindly.

One plan for every preference, improved by changes at random (Kirkpatrick, Gelatt and Vecchi,
"Optimization by Simulated Annealing", Science 1983). A plan sees nothing but the step it is in; it
shows what can be had without looking at the servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.preference_scales import checked_factors, rescaled
from morl.agents.offloading_heuristic import ServerModel, model_of
from morl.capabilities import Capabilities
from morl.preferences import check_preferences, lattice
from morl.registry import register_agent
from morl.search_space import COUNT, POSITIVE, Bounds, Settings, bounded, searchable
from morl.seeding import derive_seed, generator
from morl.types import Front, Metrics, Solution, State, Task

Table = NDArray[np.float64]
Plans = NDArray[np.int64]
"""Actions, ``(plan, step)``."""


@dataclass
class Config(Settings):
    """Settings of simulated annealing.

    Attributes:
        policies: number of preferences and plans.
        changes: actions that a proposal draws anew.
        episodes: played with a plan and with its proposal to compare them, the same for both.
        hottest: temperature in the beginning: a loss of as much scaled return is accepted with a
            probability of 1/e.
        coldest: temperature in the end.
        reward_scales: factors of seconds and joules that preferences weigh.
    """

    policies: int = bounded(101, Bounds(low=2))
    changes: int = searchable(1, bounds=COUNT, low=1, high=8, log=True)
    episodes: int = bounded(1, COUNT)
    hottest: float = searchable(1.0, bounds=POSITIVE, low=0.1, high=10.0, log=True)
    coldest: float = searchable(0.01, bounds=POSITIVE, low=0.001, high=0.1, log=True)
    reward_scales: tuple[float, float] = (0.01, 5.0)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the setting.
        """
        super().__post_init__()
        if self.coldest > self.hottest:
            raise ValueError(
                "temperatures must be positive and fall, got hottest "
                f"{self.hottest} and coldest {self.coldest}"
            )
        checked_factors(self.reward_scales, num_objectives=2, name="reward_scales")


class PlanPolicy:
    """Does what the plan says for the step.

    Args:
        model: reads the step from observations.
        plan: actions, ``(step,)``.
    """

    deterministic = True

    def __init__(self, model: ServerModel, plan: NDArray[np.int64]) -> None:
        self.plan = plan
        self._model = model

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """The planned action for every environment; see `morl.types.Policy`."""
        steps = self._model.steps_taken(observations)
        return np.asarray(self.plan[np.minimum(steps, len(self.plan) - 1)])


@register_agent(
    "simulated_annealing",
    config=Config,
    acts=Capabilities(actions=("discrete",), environments=("mec-offloading-*",)),
)
class SimulatedAnnealing:
    """Improves one plan a preference; all plans at a time.

    Args:
        task: offloading, with observations that tell the step.
        config: settings.
        total_steps: environment steps it may take; the temperature falls over all of them.
        seed: root of its random streams.

    Raises:
        UnsupportedTaskError: if the environment is another, or observations do not tell the step.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._total_steps = total_steps
        self._seed = seed
        self._steps = 0
        self._rounds = 0
        self._model = model_of(task, agent="simulated_annealing")
        if not self._model.exact or task.spec.horizon is None:
            raise UnsupportedTaskError(
                f"{task.spec.id}: simulated_annealing plans by the step, which observations must "
                "tell; make the environment with observation='marginal'"
            )
        self._length = task.spec.horizon
        self._batch = task.make_vec(2 * config.policies * config.episodes)
        first, _ = self._batch.reset(seed=derive_seed(seed, "simulated_annealing/servers"))
        self._servers = int(self._model.available(first).sum(axis=1).max())
        self._preferences = lattice(2, config.policies - 1)
        self._weights = self._preferences * np.asarray(config.reward_scales)
        rng = generator(seed, "simulated_annealing/plans")
        self._plans = rng.integers(self._servers, size=(config.policies, self._length))

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._steps >= self._total_steps

    def learn(self, steps: int) -> Metrics:
        """Propose changes until `steps` more environment steps are taken."""
        goal = min(self._steps + steps, self._total_steps)
        found: list[tuple[float, float]] = []
        while self._steps < goal:
            found += self._propose()
        metrics = {
            "train/temperature": self._temperature(),
            "train/proposals": float(self._rounds),
        }
        if found:
            accepted, returns = np.mean(found, axis=0).tolist()
            metrics |= {"train/accepted": accepted, "train/scaled_return": returns}
        return metrics

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """The plan of the nearest preference for each preference of raw rewards; None for all.

        Raises:
            PreferenceError: for rows that are not on the simplex.
        """
        scales = np.asarray(self._config.reward_scales)
        if preferences is None:
            wanted = rescaled(self._preferences, scales)
            places = np.arange(len(wanted))
        else:
            wanted = check_preferences(preferences, num_objectives=2)
            shares = rescaled(wanted, 1.0 / scales)[:, :1]
            places = np.abs(shares - self._preferences[:, 0]).argmin(axis=1)
        return [
            Solution(PlanPolicy(self._model, self._plans[place]), row)
            for place, row in zip(places.tolist(), wanted, strict=True)
        ]

    def state_dict(self) -> State:
        """Counters and plans; the random streams follow from the counters."""
        return {"steps": self._steps, "rounds": self._rounds, "plans": self._plans.copy()}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._steps = int(state["steps"])
        self._rounds = int(state["rounds"])
        self._plans = np.array(state["plans"], np.int64)

    def _temperature(self) -> float:
        """Falls geometrically with the share of the budget that is spent."""
        config = self._config
        share = self._steps / self._total_steps
        return float(config.hottest * (config.coldest / config.hottest) ** share)

    def _propose(self) -> list[tuple[float, float]]:
        """Change every plan at random and keep what is better, or not too much worse.

        Returns:
            Share of proposals that were accepted, and mean scaled return of the plans before;
            nothing where the budget ends before the episodes do.
        """
        rng = generator(self._seed, "simulated_annealing/proposals", self._rounds)
        temperature = self._temperature()
        proposals = self._plans.copy()
        for _ in range(self._config.changes):
            places = rng.integers(self._length, size=len(proposals))
            actions = rng.integers(self._servers, size=len(proposals))
            proposals[np.arange(len(proposals)), places] = actions
        returns = self._returns(np.stack([self._plans, proposals]))
        self._rounds += 1
        if returns is None:
            return []
        gains = returns[1] - returns[0]
        kept = np.log(1.0 - rng.random(len(gains))) * temperature < gains
        self._plans[kept] = proposals[kept]
        return [(float(kept.mean()), float(returns[0].mean()))]

    def _returns(self, plans: NDArray[np.int64]) -> Table | None:
        """Mean scaled returns of plans ``(kind, plan, step)``; None where the budget ends.

        Every plan and its proposal play the same episodes.
        """
        kinds, count, _ = plans.shape
        episodes = self._config.episodes
        seed = derive_seed(self._seed, "simulated_annealing/episodes", self._rounds)
        seeds = np.tile(seed + np.arange(count * episodes), kinds).tolist()
        self._batch.reset(seed=seeds)
        sums = np.zeros((kinds, count, episodes, 2))
        for step in range(self._length):
            if self._steps + self._batch.num_envs > self._total_steps:
                self._steps = self._total_steps
                return None
            actions = np.repeat(plans[:, :, step].reshape(-1), episodes)
            rewards = self._batch.step(actions)[1]
            sums += rewards.reshape(sums.shape)
            self._steps += self._batch.num_envs
        scaled: Table = (sums.mean(axis=2) * self._weights).sum(axis=-1)
        return scaled
