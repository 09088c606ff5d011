"""Neuroevolution: a population of small networks, an archive, and no gradient.

A generation is one batch of environments: every offspring plays the same episodes. Mutation adds
Gaussian noise whose scale is a gene of its own (Schwefel's self-adaptation); crossover takes
weights from two parents at random.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.action_map import action_map
from morl.agents.learners.core.checks import by_chance
from morl.agents.learners.core.encoders import ENCODINGS, ObservationEncoder
from morl.agents.learners.search.archived import ArchivedSearch
from morl.agents.learners.search.genomes import GenomePolicy, Genomes, GenomeShape
from morl.agents.learners.search.survival import Indices
from morl.agents.learners.search.trials import Played
from morl.search_space import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Bounds,
    Settings,
    bounded,
    searchable,
)
from morl.seeding import generator, stream
from morl.types import Front, Metrics, State, Task

LEAST_GENERATIONS = 20
"""Generations that the budget must have room for; the population is small enough for them."""

LEAST_POPULATION = 16

SCALE_RANGE = (1e-3, 2.0)
"""Of mutations, in standard deviations of fresh genes."""


@dataclass
class GenomeConfig(Settings):
    """Settings of agents that search in the space of small networks.

    Attributes:
        episodes: that every policy plays; one where the first population shows that chance plays
            no part.
        hidden: units of the hidden layer; 0 for linear policies.
        encoding: of integers in observations: "raw" numbers, "one_hot" codes or "both"; the
            agent falls back to "raw" where observations are not bounded integers.
        max_codes: most one-hot inputs, else "raw".
        capacity: most policies of the archive.
    """

    episodes: int = searchable(4, bounds=COUNT, low=1, high=16, log=True)
    hidden: int = searchable(16, bounds=NOT_NEGATIVE, low=4, high=64, log=True)
    encoding: str = searchable("both", choices=ENCODINGS)
    max_codes: int = bounded(512, NOT_NEGATIVE)
    capacity: int = bounded(200, COUNT)


@dataclass
class NeuroConfig(GenomeConfig):
    """Settings of neuroevolution.

    Attributes:
        population: networks, and offspring of a generation; fewer where twenty generations would
            not fit into the budget.
        mutation_scale: of the first generation, in standard deviations of fresh genes.
        mutation_share: share of the genes that a mutation changes.
        crossover_share: share of the offspring that have two parents.
    """

    population: int = searchable(100, bounds=Bounds(low=4), low=20, high=400, log=True)
    mutation_scale: float = searchable(0.3, bounds=POSITIVE, low=0.03, high=1.0, log=True)
    mutation_share: float = searchable(0.3, bounds=SHARE, low=0.05, high=1.0, log=True)
    crossover_share: float = searchable(0.5, bounds=SHARE, low=0.0, high=1.0)


@dataclass(frozen=True, eq=False)
class Population:
    """Networks and what they earned.

    Attributes:
        genomes: (policy, gene).
        scales: of their mutations, (policy,).
        returns: means over the episodes that each played so far, (policy, objective).
        trials: rounds of episodes that each played, (policy,).
    """

    genomes: Genomes
    scales: NDArray[np.float64]
    returns: Front
    trials: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.genomes)

    def select(self, index: Indices) -> Population:
        """The named networks, in that order; repeats allowed."""
        return Population(
            self.genomes[index], self.scales[index], self.returns[index], self.trials[index]
        )

    def joined(self, other: Population) -> Population:
        """These networks, then the others."""
        return Population(
            np.concatenate([self.genomes, other.genomes]),
            np.concatenate([self.scales, other.scales]),
            np.concatenate([self.returns, other.returns]),
            np.concatenate([self.trials, other.trials]),
        )

    def tried_again(self, returns: Front) -> Population:
        """With one more round of episodes in the means, `returns` (policy, objective)."""
        trials = self.trials + 1.0
        means = self.returns + (returns - self.returns) / trials[:, None]
        return Population(self.genomes, self.scales, means, trials)


def genome_shape(task: Task, config: GenomeConfig, *, agent: str) -> GenomeShape:
    """What the genomes of an agent mean in a task.

    Raises:
        UnsupportedTaskError: observations are images.
        MorlError: actions are neither discrete nor a vector.
    """
    with closing(task.make_vec(1)) as batch:
        outputs, actions = action_map(batch.single_action_space, env_id=task.spec.id, agent=agent)
        encoder = ObservationEncoder.of(
            batch.single_observation_space,  # type: ignore[arg-type] # batches observe one Box
            config.encoding,
            max_inputs=config.max_codes,
            env_id=task.spec.id,
        )
    return GenomeShape(encoder=encoder, hidden=config.hidden, outputs=outputs, actions=actions)


class GenomeSearch(ArchivedSearch):
    """A search in the space of small networks.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
        name: of the agent, for messages and streams.
    """

    def __init__(
        self, task: Task, config: GenomeConfig, *, total_steps: int, seed: int, name: str
    ) -> None:
        super().__init__(task, capacity=config.capacity, total_steps=total_steps, seed=seed)
        self._name = name
        self._shape = genome_shape(task, config, agent=name)
        self._generations = 0
        self._episodes = config.episodes

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {
            **super().state_dict(),
            "generations": self._generations,
            "episodes": self._episodes,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._generations = int(state["generations"])
        self._episodes = int(state["episodes"])

    def _play_round(self) -> None:
        self._play_generation()
        self._generations += 1

    @abstractmethod
    def _play_generation(self) -> None:
        """Play one generation and offer it to the archive."""

    def _policy(self, member: NDArray[np.float64]) -> GenomePolicy:
        return GenomePolicy(self._shape, member)

    def _zeros(self) -> NDArray[np.float64]:
        return np.zeros(self._shape.size)

    def _play(self, genomes: Genomes, seeds: list[int]) -> Played:
        """Play the same episodes with every genome, (policy, gene)."""
        return self._trials.play(
            lambda observations, masks: self._shape.act(genomes, observations, masks),
            policies=len(genomes),
            seeds=seeds * len(genomes),
        )

    def _first_few(self) -> int:
        """Policies that go first: few enough for the budget where episodes are long."""
        longest = self._task.spec.horizon or 1
        fitting = self._budget.total_steps // (4 * self._episodes * longest)
        return min(LEAST_POPULATION, max(4, fitting))


class NeuroEvolution(GenomeSearch):
    """Evolves networks; subclasses say who survives.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    name: ClassVar[str]
    """Of the agent, for messages and streams."""

    def __init__(self, task: Task, config: NeuroConfig, *, total_steps: int, seed: int) -> None:
        super().__init__(task, config, total_steps=total_steps, seed=seed, name=self.name)
        self._config = config
        self._population: Population | None = None

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        population = self._population or _nobody(self._shape.size, self._task.spec.num_objectives)
        arrays = {key: array.copy() for key, array in vars(population).items()}
        return {**super().state_dict(), "population": arrays}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        saved = {key: np.array(table) for key, table in state["population"].items()}
        if len(saved["genomes"]):
            self._settle(Population(**saved))

    def _metrics(self) -> Metrics:
        metrics = {"train/generations": float(self._generations)}
        if self._population is not None:
            metrics["train/mutation_scale"] = float(np.median(self._population.scales))
        return metrics

    def _play_generation(self) -> None:
        if self._population is None:
            self._begin()
        else:
            self._breed(self._population)

    @abstractmethod
    def _survivors(self, returns: Front, count: int) -> Indices:
        """Which `count` of parents and offspring, (2 x policy, objective), come next."""

    def _mates(self, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Two parents of each offspring, (offspring, 2)."""
        return rng.integers(size, size=(size, 2))

    def _begin(self) -> None:
        """Draw the first population, and see how long episodes are and whether chance plays a part.

        A few networks go first. If twenty generations of episodes as long as theirs do not fit
        into the budget, the population is smaller than asked for.
        """
        config, shape = self._config, self._shape
        rng = generator(self._seed, f"{self._name}/first")
        genomes = rng.normal(size=(config.population, shape.size)) * shape.scales()
        few = min(config.population, self._first_few())
        probe = self._try(genomes[:few], self._seeds(self._episodes))
        if probe is None:
            return
        if not by_chance(probe.returns):
            self._episodes = 1
        size = self._fitting(self._budget.steps / (few * config.episodes), at_least=few)
        rest = self._try(genomes[few:size], self._seeds(self._episodes))
        means = probe.means if rest is None else np.concatenate([probe.means, rest.means])
        count = len(means)
        scales = np.full(count, config.mutation_scale)
        self._settle(Population(genomes[:count], scales, means, np.ones(count)))

    def _fitting(self, length: float, *, at_least: int) -> int:
        """Networks of a generation that the budget has room for, with episodes of a length."""
        rounds = 1 if self._episodes == 1 else 2 * self._episodes
        fitting = int(self._budget.total_steps / (LEAST_GENERATIONS * rounds * length))
        return min(self._config.population, max(at_least, fitting))

    def _try(self, genomes: Genomes, seeds: list[int]) -> Played | None:
        """Play with policies and offer them to the archive; None if the budget ended first."""
        if len(genomes) == 0:
            return None
        played = self._play(genomes, seeds)
        if self._generations == 0 or self._episodes == 1:
            self._offer(played, genomes)
        return played if played.whole.all() else None

    def _settle(self, population: Population) -> None:
        """Take the population as it is, and its size as that of all generations."""
        self._population = population
        self._arrange(len(population))

    def _arrange(self, size: int) -> None:
        """Get ready for generations of `size` networks."""

    def _breed(self, parents: Population) -> None:
        """One generation: offspring, trials, survival."""
        offspring = self._offspring(parents)
        seeds = self._seeds(self._episodes)
        tried = self._try(offspring.genomes, seeds)
        if tried is None:
            return
        offspring = offspring.tried_again(tried.means)
        if self._episodes > 1:  # the lucky do not stay for ever
            again = self._try(parents.genomes, seeds)
            if again is None:
                return
            parents = parents.tried_again(again.means)
            self._renew_archive(parents)
        everyone = parents.joined(offspring)
        self._population = everyone.select(self._survivors(everyone.returns, len(parents)))

    def _renew_archive(self, parents: Population) -> None:
        """Fill the archive again with those that were tried at least twice."""
        self._archive = self._empty()
        for point, genome in zip(parents.returns, parents.genomes, strict=True):
            self._archive.add(point, genome.copy())

    def _offspring(self, parents: Population) -> Population:
        config = self._config
        rng = generator(self._seed, f"{self._name}/offspring", self._generations)
        first, second = self._mates(len(parents), rng).T
        genes = (len(first), self._shape.size)
        two = rng.random((len(first), 1)) < config.crossover_share
        swapped = two & (rng.random(genes) < 0.5)
        genomes = np.where(swapped, parents.genomes[second], parents.genomes[first])
        scales = parents.scales[first] * np.exp(rng.normal(size=len(first)) / np.sqrt(2.0))
        scales = np.clip(scales, *SCALE_RANGE)
        noise = rng.normal(size=genes) * self._shape.scales() * scales[:, None]
        genomes += np.where(rng.random(genes) < config.mutation_share, noise, 0.0)
        nothing = np.zeros((len(first), parents.returns.shape[1]))
        return Population(genomes, scales, nothing, np.zeros(len(first)))

    def _seeds(self, episodes: int) -> list[int]:
        return stream(
            self._seed, f"{self._name}/episodes", episodes,
            start=self._generations * self._config.episodes,
        )  # fmt: skip


def _nobody(genes: int, num_objectives: int) -> Population:
    return Population(np.zeros((0, genes)), np.zeros(0), np.zeros((0, num_objectives)), np.zeros(0))
