"""A simple evolution strategy on linear policies: a floor that every agent must beat.

One search per preference, all of them side by side. Each samples policies around a mean, in
mirrored pairs, and moves the mean towards the better half by weighted recombination; the
step size follows the length of the path (Hansen and Ostermeier 2001, without covariances).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.archives import archive_solutions, empty_archive, restore_archive
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.search.genomes import GenomePolicy, Genomes
from morl.agents.learners.search.neuro import (
    LEAST_GENERATIONS,
    GenomeConfig,
    first_few,
    genome_shape,
)
from morl.agents.learners.search.trials import Played, Trials
from morl.archive import ParetoArchive
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, Bounds, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task


@dataclass
class Config(GenomeConfig):
    """Settings of the evolution strategy.

    Attributes:
        preferences: searches side by side, each for a preference of a lattice; fewer where twenty
            generations would not fit into the budget.
        population: policies that a search samples in a generation; even.
        step_size: of the first generation, in standard deviations of fresh genes.
    """

    hidden: int = searchable(0, bounds=NOT_NEGATIVE, low=0, high=32)
    preferences: int = searchable(11, bounds=COUNT, low=3, high=50, log=True)
    population: int = searchable(10, bounds=Bounds(low=4), low=4, high=40, log=True)
    step_size: float = searchable(0.5, bounds=POSITIVE, low=0.05, high=2.0, log=True)


def recombination_weights(population: int) -> NDArray[np.float64]:
    """Weights of the better half by rank, falling with the logarithm; they sum to 1."""
    half = population // 2
    weights = np.log(half + 0.5) - np.log(np.arange(1, half + 1))
    return np.asarray(weights / weights.sum())


def moved(
    means: Genomes, paths: Genomes, sigmas: NDArray[np.float64], noise: NDArray[np.float64],
    fitness: NDArray[np.float64],
) -> tuple[Genomes, Genomes, NDArray[np.float64]]:  # fmt: skip
    """Means, paths and step sizes after a generation, in units of fresh genes.

    Args:
        means: (search, gene).
        paths: sums of past moves, fading, (search, gene).
        sigmas: step sizes, (search,).
        noise: standard normal samples, (search, policy, gene).
        fitness: large is good, (search, policy).
    """
    weights = recombination_weights(noise.shape[1])
    genes, mass = means.shape[1], 1.0 / np.square(weights).sum()
    best = np.argsort(-fitness, axis=1, kind="stable")[:, : len(weights)]
    step = np.einsum("r,srg->sg", weights, np.take_along_axis(noise, best[:, :, None], axis=1))
    fading = (mass + 2.0) / (genes + mass + 5.0)
    paths = (1.0 - fading) * paths + np.sqrt(fading * (2.0 - fading) * mass) * step
    # Expected length of a standard normal vector.
    usual = np.sqrt(genes) * (1.0 - 1.0 / (4.0 * genes) + 1.0 / (21.0 * genes**2))
    damping = 1.0 + fading + 2.0 * max(0.0, np.sqrt((mass - 1.0) / (genes + 1.0)) - 1.0)
    growth = fading / damping * (np.linalg.norm(paths, axis=1) / usual - 1.0)
    means = means + sigmas[:, None] * step
    return means, paths, np.clip(sigmas * np.exp(growth), 1e-3, 10.0)


@register_agent(
    "evolution_strategy",
    config=Config,
    acts=Capabilities(masks=True, smoke={"preferences": 3, "population": 4}),
)
class EvolutionStrategy:
    """Searches for each preference with an evolution strategy, and keeps the undominated.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._seed = seed
        self._budget = Budget(total_steps)
        self._trials = Trials(task, self._budget)
        self._shape = genome_shape(task, config, agent="evolution_strategy")
        self._arrange(0)
        self._lowest = np.full(task.spec.num_objectives, np.inf)
        self._highest = np.full(task.spec.num_objectives, -np.inf)
        self._generations = 0
        self._episodes = config.episodes
        self._archive: ParetoArchive[NDArray[np.float64]] = empty_archive(
            task.spec.num_objectives, config.capacity
        )

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._budget.remaining == 0

    def learn(self, steps: int) -> Metrics:
        """Play generations until `steps` more environment steps are taken."""
        goal = self._budget.goal(steps)
        while self._budget.steps < goal:
            self._play_generation()
            self._generations += 1
        return {
            "archive/size": float(len(self._archive)),
            "train/generations": float(self._generations),
            "train/step_size": float(np.median(self._sigmas)) if len(self._sigmas) else 0.0,
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All policies of the archive, or the best of them for each preference.

        Before the first generation there are none, and a preference gets the policy of zeros.
        """
        return archive_solutions(
            self._archive,
            lambda genome: GenomePolicy(self._shape, genome),
            preferences,
            fallback=lambda: np.zeros(self._shape.size),
        )

    def state_dict(self) -> State:
        """Counters, searches and archive; random streams follow from the counters."""
        return {
            "steps": self._budget.steps,
            "generations": self._generations,
            "episodes": self._episodes,
            "means": self._means.copy(),
            "paths": self._paths.copy(),
            "sigmas": self._sigmas.copy(),
            "lowest": self._lowest.copy(),
            "highest": self._highest.copy(),
            "points": self._archive.points,
            "genomes": np.stack([*self._archive.items, np.zeros(self._shape.size)])[:-1],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._budget.steps = int(state["steps"])
        self._generations = int(state["generations"])
        self._episodes = int(state["episodes"])
        self._arrange(len(state["means"]))
        self._means, self._paths = np.array(state["means"]), np.array(state["paths"])
        self._sigmas = np.array(state["sigmas"])
        self._lowest, self._highest = np.array(state["lowest"]), np.array(state["highest"])
        restore_archive(self._archive, state, lambda kept, index: kept["genomes"][index])

    def _arrange(self, searches: int) -> None:
        """Begin so many searches, each for a preference."""
        self._preferences = np.zeros((0, self._task.spec.num_objectives))
        if searches:
            self._preferences = spread_preferences(self._task.spec.num_objectives, searches)
        self._means = np.zeros((searches, self._shape.size))
        self._paths = np.zeros_like(self._means)
        self._sigmas = np.full(searches, self._config.step_size)

    def _begin(self) -> None:
        """Try a few policies, to see how long episodes are and whether chance plays a part.

        If twenty generations of episodes as long as theirs do not fit into the budget, there are
        fewer searches than asked for.
        """
        config = self._config
        rng = generator(self._seed, "evolution_strategy/first")
        few = first_few(self._task, self._budget, config.episodes)
        genomes = rng.normal(size=(few, self._shape.size)) * self._shape.scales()
        seeds = stream(self._seed, "evolution_strategy/first_episodes", config.episodes)
        played = self._try(genomes, seeds)
        if not played.whole.all():
            return
        length = self._budget.steps / (few * config.episodes)
        if (played.returns == played.returns[:, :1]).all():
            self._episodes = 1
        cost = LEAST_GENERATIONS * config.population * self._episodes * length
        self._arrange(int(np.clip(self._budget.total_steps / cost, 2, config.preferences)))

    def _try(self, genomes: Genomes, seeds: list[int]) -> Played:
        """Play with policies and offer those to the archive whose episodes all ended."""
        played = self._trials.play(self._shape, genomes, seeds=seeds)
        for index in np.flatnonzero(played.whole).tolist():
            self._archive.add(played.means[index], genomes[index].copy())
        return played

    def _play_generation(self) -> None:
        config = self._config
        if not len(self._means):
            self._begin()
            return
        rng = generator(self._seed, "evolution_strategy/noise", self._generations)
        half = rng.normal(size=(len(self._means), config.population // 2, self._shape.size))
        noise = np.concatenate([half, -half], axis=1)
        genomes = self._means[:, None] + self._sigmas[:, None, None] * noise
        flat = (genomes * self._shape.scales()).reshape(-1, self._shape.size)
        seeds = stream(self._seed, "evolution_strategy/episodes", self._episodes,
                       start=self._generations * config.episodes)  # fmt: skip
        played = self._try(flat, seeds)
        if not played.whole.all():
            return
        self._means, self._paths, self._sigmas = moved(
            self._means, self._paths, self._sigmas, noise, self._fitness(played.means)
        )

    def _fitness(self, returns: Front) -> NDArray[np.float64]:
        """Weighted sums of returns as shares of the range seen so far, (search, policy)."""
        self._lowest = np.minimum(self._lowest, returns.min(axis=0))
        self._highest = np.maximum(self._highest, returns.max(axis=0))
        width = np.maximum(self._highest - self._lowest, 1e-12)
        shares = ((returns - self._lowest) / width).reshape(len(self._means), -1, len(width))
        return np.asarray(np.einsum("spo,so->sp", shares, self._preferences))
