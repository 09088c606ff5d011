"""Evolution of objects on pymoo's operators: what NSGA-II and NSGA-III have in common.

Deb et al. 2002 and Deb and Jain 2014. Selection, crossover and survival are those of pymoo 0.6
(extra "evolution"); a genome is what the core of the objects says it is, and mutation draws genes
anew. Random numbers come from a stream for each generation, so that a run can be taken up again.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.errors import MissingExtraError
from morl.agents.learners.search.objects import ObjectSearch, SearchConfig
from morl.compositional import States
from morl.preferences import lattice
from morl.search_space import searchable
from morl.types import Front, State, Task

Genomes = NDArray[np.int64]
"""Shape (object, gene)."""

CROSSOVERS = ("two_point", "uniform")

ATTEMPTS = 20
"""Rounds of mating in search of offspring that the population does not have yet."""


@dataclass
class EvolutionConfig(SearchConfig):
    """Settings of NSGA-II and NSGA-III.

    Attributes:
        batch: size of the population and offspring of a generation.
        crossover: "two_point" or "uniform".
        crossover_share: share of the offspring that have two parents.
        mutations: genes of an offspring that are drawn anew, on average.
    """

    batch: int = searchable(100, low=16, high=400, log=True)
    crossover: str = searchable("two_point", choices=CROSSOVERS)
    crossover_share: float = searchable(0.9, low=0.5, high=1.0)
    mutations: float = searchable(1.0, low=0.25, high=8.0, log=True)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, got {self.batch}")
        if self.crossover not in CROSSOVERS:
            raise ValueError(
                f"crossover must be one of {', '.join(CROSSOVERS)}, got {self.crossover!r}"
            )
        if not 0.0 <= self.crossover_share <= 1.0:
            raise ValueError(f"crossover_share must be in [0, 1], got {self.crossover_share}")
        if not self.mutations >= 0.0:
            raise ValueError(f"mutations must not be negative, got {self.mutations}")


class Evolution(ObjectSearch):
    """A population of genomes, mated and selected; base class of both algorithms.

    Args:
        task: builds objects.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.

    Raises:
        MissingExtraError: pymoo is not installed.
    """

    def __init__(self, task: Task, config: EvolutionConfig, *, total_steps: int, seed: int) -> None:
        self._operators = Operators(self.name)
        super().__init__(task, config, total_steps=total_steps, seed=seed)
        self._config = config
        self._sizes = self._core.genome_sizes()
        self._genomes: Genomes = np.empty((0, len(self._sizes)), np.int64)
        self._population = self._operators.population(
            self._genomes, np.empty((0, self._core.num_objectives))
        )
        self._survival = self._make_survival()
        pymoo = self._operators
        self._problem = pymoo.problem(
            n_var=len(self._sizes), n_obj=self._core.num_objectives, xl=0, xu=self._sizes - 1
        )
        cross = pymoo.two_point if config.crossover == "two_point" else pymoo.uniform
        self._crossover = cross(prob=1.0)

    # What the algorithms differ by

    def _make_survival(self) -> Any:  # noqa: ANN401 - pymoo's
        raise NotImplementedError

    def _compare(self) -> Any:  # noqa: ANN401 - pymoo's
        """Which of two parents is selected."""
        raise NotImplementedError

    # A generation

    def _propose(self, rng: np.random.Generator) -> States:
        if not len(self._population):
            self._genomes = rng.integers(self._sizes, size=(self._config.batch, len(self._sizes)))
        else:
            self._genomes = self._offspring(rng)
        return self._core.from_genomes(self._genomes)

    def _receive(self, values: Front, rng: np.random.Generator) -> None:
        pymoo = self._operators
        children = pymoo.population(self._genomes, values)
        merged = pymoo.merge(self._population, children)
        self._population = self._survival.do(
            self._problem, merged, n_survive=self._config.batch, random_state=rng
        )

    def _offspring(self, rng: np.random.Generator) -> Genomes:
        """Genomes that the population does not have yet, as long as mating finds any."""
        found: list[Genomes] = []
        known = {row.tobytes() for row in self._population.get("X")}
        for attempt in range(ATTEMPTS):
            missing = self._config.batch - len(found)
            if not missing:
                break
            for genome in self._mated(rng, missing):
                last = attempt == ATTEMPTS - 1
                if len(found) < self._config.batch and (last or genome.tobytes() not in known):
                    known.add(genome.tobytes())
                    found.append(genome)
        return np.stack(found)

    def _mated(self, rng: np.random.Generator, count: int) -> Genomes:
        """At least `count` offspring."""
        selection = self._operators.tournament(func_comp=self._compare())
        # Not all of pymoo's comparisons take the generator as an argument.
        algorithm = SimpleNamespace(tournament_type="comp_by_dom_and_crowding", random_state=rng)
        pairs = selection.do(
            self._problem,
            self._population,
            (count + 1) // 2,
            n_parents=2,
            random_state=rng,
            algorithm=algorithm,
            to_pop=False,
        )
        crossed = self._crossover.do(self._problem, self._population, pairs, random_state=rng)
        children = np.array(crossed.get("X"), np.int64)
        # pymoo lists the first child of each pair, then the second.
        parents = self._population.get("X")[np.asarray(pairs).T.reshape(-1)]
        alone = rng.random(len(children)) >= self._config.crossover_share
        children[alone] = parents[alone]
        redrawn = rng.random(children.shape) < self._config.mutations / len(self._sizes)
        return np.where(redrawn, rng.integers(self._sizes, size=children.shape), children)

    def state_dict(self) -> State:
        """As the base class, and the population with what selection goes by."""
        return {
            **super().state_dict(),
            "population": {
                "genomes": np.array(self._population.get("X"), np.int64).reshape(
                    len(self._population), len(self._sizes)
                ),
                "costs": np.array(self._population.get("F"), np.float64).reshape(
                    len(self._population), self._core.num_objectives
                ),
                "rank": np.array(self._population.get("rank"), np.float64),
                "crowding": np.array(self._population.get("crowding"), np.float64),
            },
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        saved = state["population"]
        self._population = self._operators.population(saved["genomes"], -saved["costs"])
        self._population.set("rank", saved["rank"])
        self._population.set("crowding", saved["crowding"])


def reference_directions(num_objectives: int, most: int) -> Front:
    """The finest lattice on the simplex of at most some directions (Das and Dennis 1998)."""
    divisions = 1
    while divisions < most and len(lattice(num_objectives, divisions + 1)) <= most:
        divisions += 1
    return lattice(num_objectives, divisions)


class Operators:
    """The parts of pymoo that are used.

    Args:
        agent: who asks, for the message.

    Raises:
        MissingExtraError: pymoo is not installed.
    """

    def __init__(self, agent: str) -> None:
        try:
            part = importlib.import_module
            nsga2: Any = part("pymoo.algorithms.moo.nsga2")
            nsga3: Any = part("pymoo.algorithms.moo.nsga3")
            points: Any = part("pymoo.operators.crossover.pntx")
            uniform: Any = part("pymoo.operators.crossover.ux")
            self._population: Any = part("pymoo.core.population").Population
            self.problem: Any = part("pymoo.core.problem").Problem
            self.tournament: Any = part("pymoo.operators.selection.tournament").TournamentSelection
        except ImportError as error:
            raise MissingExtraError(
                f"agent {agent} needs pymoo: pip install 'morl-suite[evolution]'"
            ) from error
        self.two_point: Any = points.TwoPointCrossover
        self.uniform: Any = uniform.UniformCrossover
        self.by_crowding: Any = nsga2.binary_tournament
        self.by_chance: Any = nsga3.comp_by_cv_then_random
        self.rank_and_crowding: Any = nsga2.RankAndCrowding
        self.directions: Any = nsga3.ReferenceDirectionSurvival

    def population(self, genomes: Genomes, values: Front) -> Any:  # noqa: ANN401 - pymoo's
        """A population; pymoo minimises, so its costs are minus the values."""
        return self._population.new("X", genomes, "F", -values)

    def merge(self, first: Any, second: Any) -> Any:  # noqa: ANN401 - pymoo's
        """Both populations in one."""
        return self._population.merge(first, second)
