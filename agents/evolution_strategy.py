"""A simple evolution strategy on linear policies: a floor that every agent must beat.

One search per preference, all of them side by side. Each samples policies around a mean, in
mirrored pairs, and moves the mean towards the better half by weighted recombination; the
step size follows the length of the path (Hansen and Ostermeier 2001, without covariances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.checks import by_chance
from morl.agents.learners.search.genomes import Genomes
from morl.agents.learners.search.neuro import LEAST_GENERATIONS, GenomeConfig, GenomeSearch
from morl.agents.learners.search.trials import Played
from morl.capabilities import Capabilities
from morl.preferences import spread_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, Bounds, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, State, Task


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
class EvolutionStrategy(GenomeSearch):
    """Searches for each preference with an evolution strategy, and keeps the undominated.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(
            task, config, total_steps=total_steps, seed=seed, name="evolution_strategy"
        )
        self._config = config
        self._arrange(0)
        self._lowest = np.full(task.spec.num_objectives, np.inf)
        self._highest = np.full(task.spec.num_objectives, -np.inf)

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {
            **super().state_dict(),
            "means": self._means.copy(),
            "paths": self._paths.copy(),
            "sigmas": self._sigmas.copy(),
            "lowest": self._lowest.copy(),
            "highest": self._highest.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._arrange(len(state["means"]))
        self._means, self._paths = np.array(state["means"]), np.array(state["paths"])
        self._sigmas = np.array(state["sigmas"])
        self._lowest, self._highest = np.array(state["lowest"]), np.array(state["highest"])

    def _metrics(self) -> Metrics:
        return {
            "train/generations": float(self._generations),
            "train/step_size": float(np.median(self._sigmas)) if len(self._sigmas) else 0.0,
        }

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
        few = self._first_few()
        genomes = rng.normal(size=(few, self._shape.size)) * self._shape.scales()
        seeds = stream(self._seed, "evolution_strategy/first_episodes", config.episodes)
        played = self._try(genomes, seeds)
        if not played.whole.all():
            return
        length = self._budget.steps / (few * config.episodes)
        if not by_chance(played.returns):
            self._episodes = 1
        cost = LEAST_GENERATIONS * config.population * self._episodes * length
        self._arrange(int(np.clip(self._budget.total_steps / cost, 2, config.preferences)))

    def _try(self, genomes: Genomes, seeds: list[int]) -> Played:
        """Play with policies and offer those to the archive whose episodes all ended."""
        played = self._play(genomes, seeds)
        self._offer(played, genomes)
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
