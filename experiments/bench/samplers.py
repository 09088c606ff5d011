"""How well do samplers of objects learn: fronts, exact masses, diversity, against baselines.

``python -m morl.experiments.bench.samplers --only hypergrid`` trains the presets of
``conf/experiment`` and baselines with the same number of objective evaluations, and writes one JSON
file a family. Two readings are kept apart: the archive of all evaluated objects, and what the
trained sampler gives in a fixed number of samples. Hypervolumes are from the reference point of the
task, ratios to the exact front where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from morl import storage
from morl.agents.learners.gflownet.agent import ObjectSampler
from morl.agents.uniform_sampling import UniformSampling
from morl.archive import ParetoArchive
from morl.compositional import (
    CompositionalCore,
    States,
    Walks,
    enumerate_graph,
    follow,
    object_probabilities,
    pareto_mass,
    pareto_objects,
)
from morl.diversity import (
    condition_correlation,
    diverse_top_k_reward,
    mean_pairwise_distance,
    pc_entropy,
    top_k_diversity,
    top_k_reward,
)
from morl.experiments.bench.measurement import RESULTS, single_thread, table, write_report
from morl.experiments.compose import compose_only
from morl.experiments.config import RunConfig
from morl.experiments.run import agent_of, task_of
from morl.indicators import hypervolume, igd_plus, r2
from morl.pareto import nondominated
from morl.preferences import dirichlet, sobol_simplex
from morl.seeding import generator
from morl.types import EnvSpec, Front, Metrics

COMMAND = "python -m morl.experiments.bench.samplers"

Row: TypeAlias = dict[str, Any]

SAMPLES = 1280
"""Objects that a trained sampler is judged by, each for a preference of its own."""

TESTED = 15
"""Preferences at which the best of some samples are looked at."""

TRIES = 128
"""Samples for each of them."""

ROUNDS = 4
"""How often; readings are means."""

BEST = 10
"""How many of the samples for a preference are looked at."""


class Search(Protocol):
    """What all agents that build objects share."""

    @property
    def core(self) -> CompositionalCore:
        """What the objects are made of."""

    @property
    def archive(self) -> ParetoArchive[States]:
        """Nondominated objects of all that were evaluated."""

    @property
    def evaluations(self) -> int:
        """Objects that were evaluated."""

    @property
    def steps(self) -> int:
        """Actions that built them."""

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""

    def learn(self, steps: int) -> Metrics:
        """Go on."""


@dataclass(frozen=True)
class Trial:
    """Some agents on one task.

    Attributes:
        name: for the tables.
        agents: the words of the command line that describe each.
        counts: objective evaluations at which archives are looked at, ascending.
        apart: distance from which two objects count as different, or None.
        pools: numbers of even choices whose best are looked at as well, beside `TRIES`: how
            variety falls as rewards rise where nothing is learned.
    """

    name: str
    agents: Mapping[str, tuple[str, ...]]
    counts: tuple[int, ...]
    apart: float | None = None
    pools: tuple[int, ...] = ()


def _grid(objectives: Sequence[str], variant: str) -> tuple[str, ...]:
    return (f"env.kwargs.objectives=[{','.join(objectives)}]", f"env.kwargs.variant={variant}")


def _grid_trial(name: str, objectives: Sequence[str], variant: str) -> Trial:
    words = _grid(objectives, variant)
    return Trial(
        name,
        {
            agent: (f"experiment=hypergrid-{agent}", *words)
            for agent in ("op_gfn", "mogfn_pc", "goal_conditioned_gflownet")
        },
        (12_800, 51_200, 128_000),
    )


NESTED = ("branin", "currin", "shubert", "sphere", "beale")
FRAGMENTS = ("env=fragments-v0", "env.kwargs.objectives=[qed,sa,mw]")
REINFORCE = (
    *FRAGMENTS,
    "agent=moreinforce",
    "agent.batch=64",
    "agent.hidden=[256,256]",
    "agent.max_gradient_norm=10",
)

FAMILIES: Mapping[str, tuple[Trial, ...]] = {
    "hypergrid": (
        _grid_trial("3 objectives, mogfn", NESTED[:3], "mogfn"),
        _grid_trial("4 objectives, mogfn", NESTED[:4], "mogfn"),
        _grid_trial("5 objectives, mogfn", NESTED, "mogfn"),
        _grid_trial("currin+shubert, op-gfn", ("currin", "shubert"), "op-gfn"),
        _grid_trial("4 objectives, op-gfn", ("branin", "currin", "shubert", "beale"), "op-gfn"),
    ),
    "n-grams": (
        Trial(
            "AV, VC, CA",
            {
                "mogfn_pc": ("experiment=n-grams-mogfn_pc",),
                "nsga2": ("env=n-grams-v0", "agent=nsga2"),
                "uniform_sampling": ("env=n-grams-v0", "agent=uniform_sampling"),
            },
            (12_800, 25_600, 38_400, 51_200),
        ),
    ),
    "n-grams-long": (
        Trial(
            "AV, VC, CA",
            {
                "nsga2": ("env=n-grams-v0", "agent=nsga2"),
                "mogfn_pc": ("experiment=n-grams-mogfn_pc",),
            },
            (51_200, 102_400, 256_000, 640_000, 1_280_000),
        ),
    ),
    "fragments": (
        Trial(
            "QED, SA, MW",
            {
                "mogfn_pc": ("experiment=fragments-mogfn_pc",),
                "mogfn_pc_sharp": ("experiment=fragments-mogfn_pc", "agent.exponent=8"),
                "mogfn_pc_choices": (
                    "experiment=fragments-mogfn_pc", "agent.measure=choices", "agent.exponent=8",
                ),
                # As published but for its size: every object counts alike.
                "mogfn_pc_objects": (
                    "experiment=fragments-mogfn_pc", "agent.measure=objects", "agent.exponent=64",
                ),
                "moreinforce": (*REINFORCE, "agent.learning_rate=5e-4"),
                # It comes down to few molecules later, but within the budget.
                "moreinforce_slow": (*REINFORCE, "agent.learning_rate=3e-5"),
                "uniform_sampling": (*FRAGMENTS, "agent=uniform_sampling", "agent.batch=64"),
                "uniform_lengths": (
                    *FRAGMENTS, "agent=uniform_sampling", "agent.batch=64", "agent.even=lengths",
                ),
                "nsga2": (*FRAGMENTS, "agent=nsga2"),
            },
            (12_800, 25_600, 51_200, 102_400),
            apart=0.3,  # as the authors' `compute_diverse_top_k`: similarity below 0.7
            pools=(512, 2_048, 8_192, 32_768),
        ),
    ),
}  # fmt: skip


@dataclass
class Account:
    """A run in the making.

    Attributes:
        rows: readings so far.
        cpu_s: CPU seconds of learning alone.
    """

    rows: list[Row] = field(default_factory=list)
    cpu_s: float = 0.0


def configured(words: Sequence[str], *, evaluations: int, seed: int) -> RunConfig:
    """The run that words of the command line describe, to a number of evaluations."""
    plain = compose_only([*words, f"seed={seed}", "steps=1000000000"])
    config = RunConfig.from_record(plain)
    config.agent_config = replace(config.agent_config, max_evaluations=evaluations)
    return config


def train(trial: Trial, name: str, *, seed: int, say: Callable[[str], None]) -> list[Row]:
    """One run, read at all counts and, at the end, by what its sampler gives."""
    config = configured(trial.agents[name], evaluations=trial.counts[-1], seed=seed)
    task = task_of(config)
    agent = cast(Search, agent_of(config, task))
    account = Account()
    for count in trial.counts:
        start = time.process_time()
        while agent.evaluations < count and not agent.finished:
            agent.learn(1)
        account.cpu_s += time.process_time() - start
        row = {
            "task": trial.name,
            "agent": name,
            "seed": seed,
            "evaluations": agent.evaluations,
            "env_steps": agent.steps,
            "cpu_s": round(account.cpu_s, 2),
            **archive_readings(agent, task.spec),
        }
        account.rows.append(row)
        say(str(row))
    if isinstance(agent, ObjectSampler | UniformSampling):
        account.rows[-1].update(sampler_readings(agent, task.spec, seed=seed, trial=trial))
        say(str(account.rows[-1]))
    return account.rows


def archive_readings(agent: Search, spec: EnvSpec) -> Row:
    """How far the archive of all evaluated objects reaches."""
    points = agent.archive.points
    readings = {f"archive_{key}": value for key, value in front_readings(points, spec).items()}
    members = np.array(agent.archive.items)[:100]
    if len(members) > 1:
        distances = agent.core.distance(members, members)
        readings["archive_diversity"] = round(mean_pairwise_distance(distances), 4)
    return {**readings, "archive_size": len(points)}


def front_readings(points: Front, spec: EnvSpec) -> Row:
    """Hypervolume and R2, and against the exact front its ratio and IGD+."""
    best = points[nondominated(points)]
    volume = hypervolume(best, spec.reference_point).value
    readings: Row = {"hypervolume": round(volume, 6)}
    weights = sobol_simplex(spec.num_objectives, 1024)
    readings["r2"] = round(r2(best, np.ones(spec.num_objectives), weights), 5)
    if spec.known_front is not None:
        exact = spec.known_front.points(1.0)
        readings["ratio"] = round(volume / hypervolume(exact, spec.reference_point).value, 5)
        readings["igd_plus"] = round(float(igd_plus(best, exact)), 6)
    return readings


def sampler_readings(
    agent: ObjectSampler | UniformSampling, spec: EnvSpec, *, seed: int, trial: Trial
) -> Row:
    """What fixed numbers of fresh objects say of the sampler."""
    core = agent.core
    rng = generator(seed, "bench/samplers")
    preferences = dirichlet(spec.num_objectives, SAMPLES, rng=rng)
    values = core.values(_built(agent, preferences, rng).objects)
    readings = {f"sampled_{key}": value for key, value in front_readings(values, spec).items()}
    if spec.known_front is not None:
        exact = spec.known_front.points(1.0)
        readings["sampled_pc_entropy"] = round(pc_entropy(values, exact), 4)
        readings["pc_entropy_at_most"] = round(float(np.log(len(exact))), 4)
    if isinstance(agent, ObjectSampler):
        readings["obedience"] = round(condition_correlation(preferences, values), 4)
        readings |= mass_readings(agent)
    readings |= best_readings(agent, rng, apart=trial.apart)
    if isinstance(agent, UniformSampling):
        readings |= pool_readings(agent, trial.pools, rng)
    return readings


def mass_readings(agent: ObjectSampler) -> Row:
    """Exact probability of the Pareto set, averaged over preferences; of small graphs alone."""
    core = agent.core
    if core.vocabulary is not None or core.state_width > 2:
        return {}
    graph = enumerate_graph(core)
    pareto = pareto_objects(core, graph)
    masses = []
    for preference in sobol_simplex(core.num_objectives, 64):
        found = agent.sampling_policy(preference).probabilities(graph.states).astype(np.float64)
        masses.append(pareto_mass(object_probabilities(graph, found), pareto))
    return {"pareto_mass": round(float(np.mean(masses)), 4)}


def best_readings(
    agent: ObjectSampler | UniformSampling, rng: np.random.Generator, *, apart: float | None
) -> Row:
    """Reward and diversity of the best of some samples, over fixed preferences."""
    core = agent.core
    groups = np.repeat(_tested(core), ROUNDS, axis=0)
    preferences = np.repeat(groups, TRIES, axis=0)
    objects = _built(agent, preferences, rng).objects
    rewards = (core.values(objects) * preferences).sum(axis=1).reshape(len(groups), TRIES)
    grouped = objects.reshape(len(groups), TRIES, -1)
    distances = np.stack([core.distance(group, group) for group in grouped])
    readings: Row = {
        f"top_{BEST}_reward": round(top_k_reward(rewards, BEST), 4),
        f"top_{BEST}_diversity": round(top_k_diversity(rewards, distances, BEST), 4),
    }
    if apart is not None:
        pairs = zip(rewards, distances, strict=True)
        found = [diverse_top_k_reward(*pair, threshold=apart, k=BEST) for pair in pairs]
        readings[f"diverse_top_{BEST}_reward"] = round(float(np.mean(found)), 4)
    return readings


def pool_readings(agent: UniformSampling, pools: Sequence[int], rng: np.random.Generator) -> Row:
    """Reward and diversity of the best of ever more objects that were built by even choices."""
    if not pools:
        return {}
    core = agent.core
    objects = agent.walks(max(pools), rng).objects
    rewards = _tested(core) @ core.values(objects).T
    readings: Row = {}
    for size in pools:
        best = np.argsort(-rewards[:, :size], axis=1, kind="stable")[:, :BEST]
        apart = [mean_pairwise_distance(core.distance(objects[b], objects[b])) for b in best]
        readings[f"best_of_{size}_reward"] = round(top_k_reward(rewards[:, :size], BEST), 4)
        readings[f"best_of_{size}_diversity"] = round(float(np.mean(apart)), 4)
    return readings


def _tested(core: CompositionalCore) -> Front:
    return sobol_simplex(core.num_objectives, TESTED + 1)[:TESTED]


def _built(
    agent: ObjectSampler | UniformSampling, preferences: Front, rng: np.random.Generator
) -> Walks:
    """Fresh objects, one a preference."""
    if not isinstance(agent, ObjectSampler):
        return agent.walks(len(preferences), rng)
    codes = agent.codes(preferences)
    found = agent.learner.sampler.sample(codes, rng=rng)
    actions = found.padded(agent.core.horizon)
    return follow(agent.core, len(codes), lambda _, rows, time: actions[rows, time])


def main(
    arguments: Sequence[str] | None = None,
    *,
    families: Mapping[str, Sequence[Trial]] = FAMILIES,
    say: Callable[[str], None] = print,
) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
        families: what can be chosen.
        say: takes lines as they come.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(families), default=list(families))
    parser.add_argument("--agents", nargs="+", help="default: all of the family")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    for family in options.only:
        rows: list[Row] = []
        with single_thread():
            for trial in families[family]:
                for name in options.agents or trial.agents:
                    for seed in range(options.seeds):
                        rows += train(trial, name, seed=seed, say=say)
                        _note(rows, options.output, family)
        record = {"seeds": options.seeds, "rows": rows, "means": means(rows)}
        say(table(record["means"]))
        write_report(
            f"samplers-{family}",
            record,
            command=f"{COMMAND} --only {family} --seeds {options.seeds}",
            output=options.output,
        )
    return 0


def _note(rows: Sequence[Row], output: Path, family: str) -> None:
    """What is there so far, should the rest never come."""
    storage.make_folder(output)
    storage.write_json(output / f"samplers-{family}.partial.json", {"rows": list(rows)})


def means(rows: Sequence[Row]) -> list[Row]:
    """Means over seeds of every reading, for each task, agent and count."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["agent"], row["evaluations"]), []).append(row)
    found = []
    for (task, agent, count), members in groups.items():
        keys = [key for key in members[0] if key not in ("task", "agent", "seed", "evaluations")]
        found.append(
            {
                "task": task,
                "agent": agent,
                "evaluations": count,
                "seeds": len(members),
                **{key: float(f"{np.mean([m[key] for m in members]):.6g}") for key in keys},
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
