"""The offloading benchmark: every scheme in every system, on the same episodes.

``python -m morl.experiments.bench.offloading greedy linucb --systems edges-6`` plays episodes, and
`morl.experiments.bench.offloading_report` makes tables and pictures of all that was played. Trained
policies come as folders of runs: ``--run gmorl runs/A runs/B`` plays those of two seeds as one
scheme.

A *system* fixes number and speed of servers, a *scheme* answers each of 101 preferences with a
policy. Totals are in minutes and joules, the units of Yang et al. (arXiv:2509.10474).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl import storage
from morl.agents.learners.core.preference_scales import rescaled
from morl.checkpoint import load_checkpoint
from morl.envs import make_task
from morl.envs.mec_offloading import REFERENCES
from morl.evaluation import evaluation_seeds, rollout
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import CHECKPOINTS, agent_of, run, run_folder, task_of
from morl.preferences import lattice
from morl.registry import AGENTS
from morl.result import RunResult
from morl.types import MorlError, Solution, Task

ID = "mec-offloading-v0"
PLAYED = Path("runs/offloading")
"""Where episodes and trainings lie, relative to the working directory."""

REWARD_SCALES = (0.01, 5.0)
"""What a second and a joule count in the paper's code."""

DIVISIONS = 100
UNITS = np.array([-60.0, -1.0])
"""Returns of a minute and of a joule."""

EPISODES = 1024
BLOCK = 256
"""Episodes that are played at a time: a batch fits into caches, and results do not depend on it."""

CONTEXT = ("contexts", "edges", "cloud_frequency", "edge_frequency")
"""Arguments of the environment that a system decides."""

Totals = NDArray[np.float64]
"""Minutes and joules, (preference, episode, 2); one row for a scheme of a single policy."""


class OffloadingBenchError(MorlError):
    """Something that cannot be played or reported; the message says what there is."""


# ---------------------------------------------------------------------------------------------
# Systems


@dataclass(frozen=True)
class System:
    """What is played.

    Attributes:
        name: on the command line.
        label: in tables.
        kwargs: arguments of the environment.
        reference: minutes and joules that every sensible policy beats.
    """

    name: str
    label: str
    kwargs: Mapping[str, Any]
    reference: tuple[float, float]


FREQUENCY_REFERENCES: Mapping[str, tuple[float, float]] = {
    "cloud-3": (49.0, 4.0),
    "cloud-3.5": (52.0, 4.9),
    "cloud-4.5": (58.3, 7.8),
    "cloud-5": (61.4, 9.9),
    "edge-1.5": (63.6, 4.9),
    "edge-1.75": (58.7, 5.4),
    "edge-2.25": (52.3, 7.2),
    "edge-2.5": (50.1, 8.4),
    "frequencies": (57.4, 6.7),
}
"""Made as those by number of edge servers: a tenth more than the delay of random edge servers, and
than the energy of greedy where delay alone counts (2,048 episodes)."""


def _by_edges(edges: int) -> System:
    label = "1 edge server" if edges == 1 else f"{edges} edge servers"
    return System(f"edges-{edges}", label, {"edges": edges}, REFERENCES[edges])


def _by_frequency(part: str, ghz: float) -> System:
    name = f"{part}-{ghz:g}"
    return System(
        name,
        f"{part} of {ghz:g} GHz",
        {"edges": 6, f"{part}_frequency": ghz},
        FREQUENCY_REFERENCES[name],
    )


MAIN = "edges-6"
"""The system of the paper's figures."""

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        *(_by_edges(edges) for edges in range(1, 11)),
        *(_by_frequency("cloud", ghz) for ghz in (3.0, 3.5, 4.5, 5.0)),
        *(_by_frequency("edge", ghz) for ghz in (1.5, 1.75, 2.25, 2.5)),
        System(
            "frequencies",
            "frequencies of the test range",
            {"edges": 6, "contexts": "test"},
            FREQUENCY_REFERENCES["frequencies"],
        ),
    )
}
"""All systems; those that vary in frequency have six edge servers."""


# ---------------------------------------------------------------------------------------------
# Schemes


@dataclass(frozen=True)
class Scheme:
    """How tasks are sent.

    Attributes:
        label: in tables.
        agent: registered name.
        settings: of the agent.
        observation: that it needs; "marginal" where it does not matter, as it is exact.
        train: context and steps of its training; None where it does not learn.
        seeds: trainings that belong to it.
    """

    label: str
    agent: str = "offloading_heuristic"
    settings: Mapping[str, Any] = field(default_factory=dict)
    observation: str = "marginal"
    train: tuple[Mapping[str, Any], int] | None = None
    seeds: int = 1


GREEDY = "greedy"
"""What all others are compared with."""

SCHEMES: Mapping[str, Scheme] = {
    "random": Scheme("random, swept", settings={"rule": "random"}),
    "cloud": Scheme("all to the cloud", settings={"rule": "cloud"}),
    "shortest-queue": Scheme("shortest queue", settings={"rule": "shortest_queue"}),
    "shortest-edge-queue": Scheme("shortest edge queue", settings={"rule": "shortest_edge_queue"}),
    "least-energy": Scheme("least energy", settings={"rule": "least_energy"}),
    GREEDY: Scheme("greedy", settings={"rule": "greedy"}),
    "greedy-paper": Scheme(
        "greedy, paper's observation", settings={"rule": "greedy"}, observation="paper"
    ),
    "greedy-4": Scheme(
        "greedy, waiting counted twice", settings={"rule": "greedy", "waiting_weight": 4.0}
    ),
    "rollout": Scheme(
        "rollout of greedy", settings={"rule": "rollout", "waiting_weight": 4.0}
    ),
    "linucb": Scheme(
        "LinUCB",
        agent="linucb",
        settings={"reward_scales": REWARD_SCALES},
        observation="paper",
        train=({"contexts": "train"}, 1_000_000),
        seeds=5,
    ),
    "annealing": Scheme(
        "simulated annealing",
        agent="simulated_annealing",
        train=({"edges": 6}, 2 * 5_000 * 101 * 100),
        seeds=5,
    ),
}  # fmt: skip
"""Schemes that need no folder; those that learn are trained by ``train``."""


def preferences() -> NDArray[np.float64]:
    """The 101 test preferences of scaled rewards, delay from nothing to all, ``(101, 2)``."""
    return lattice(2, DIVISIONS)


def solutions_of_scheme(scheme: Scheme) -> Sequence[Solution]:
    """Policies of a scheme that does not learn: one a preference, or its only one."""
    task = make_task(ID, kwargs={"observation": scheme.observation})
    entry = AGENTS[scheme.agent]
    agent = entry.make(task, entry.config(**scheme.settings), total_steps=1, seed=0)
    own = agent.solutions()
    return own if len(own) == 1 else agent.solutions(rescaled(preferences(), REWARD_SCALES))


def solutions_of_run(folder: Path) -> tuple[RunConfig, Sequence[Solution]]:
    """Policies of a finished run, one a preference, and what the run was.

    Raises:
        OffloadingBenchError: if it is a run of something else, or not finished.
    """
    result = RunResult.load(folder)
    if result.env.id != ID or result.status != "completed":
        raise OffloadingBenchError(
            f"{folder}: a finished run of {ID} is needed, this is one of {result.env.id}, "
            f"{result.status}"
        )
    config = RunConfig.from_record(result.config)
    agent = agent_of(config, task_of(config))
    checkpoint = load_checkpoint(folder / CHECKPOINTS, config_hash=None)
    agent.load_state_dict(checkpoint.state["agent"])
    return config, agent.solutions(rescaled(preferences(), REWARD_SCALES))


# ---------------------------------------------------------------------------------------------
# Playing


def task_in(system: System, arguments: Mapping[str, Any]) -> Task:
    """The environment of a system, otherwise as `arguments` say."""
    kept = {name: value for name, value in arguments.items() if name not in CONTEXT}
    return make_task(ID, kwargs=kept | dict(system.kwargs))


def totals(task: Task, solutions: Sequence[Solution], *, episodes: int) -> Totals:
    """Play the report episodes; the first of many are the same as few."""
    seeds = evaluation_seeds(task.spec, "report", episodes)
    parts = [
        rollout(task, solutions, seeds=seeds[start : start + BLOCK], rng_seed=start).undiscounted
        for start in range(0, episodes, BLOCK)
    ]
    return np.asarray(np.concatenate(parts, axis=1) / UNITS)


def play(
    name: str,
    solutions: Sequence[Solution],
    arguments: Mapping[str, Any],
    *,
    systems: Iterable[System],
    episodes: int,
    output: Path,
) -> None:
    """Play a scheme in systems and write its totals, unless as many episodes lie there already.

    Args:
        name: of the files.
        solutions: of the scheme.
        arguments: of the environment, but for the context.
        systems: where to play.
        episodes: a preference.
        output: folder of all that is played.
    """
    for system in systems:
        path = output / "totals" / system.name / f"{name}.npz"
        if path.exists() and storage.read_arrays(path)["totals"].shape[1] >= episodes:
            continue
        found = totals(task_in(system, arguments), solutions, episodes=episodes)
        storage.make_folder(path.parent)
        storage.write_arrays(path, {"totals": found.astype(np.float32)})
        means = found.mean(axis=1)
        sys.stdout.write(
            f"{system.name} {name}: {means[0].round(2).tolist()} to {means[-1].round(2).tolist()}\n"
        )
        sys.stdout.flush()


def load_totals(output: Path) -> dict[str, dict[str, list[Totals]]]:
    """All that was played: system, scheme, and one array a seed; files are ``scheme.seed.npz``."""
    found: dict[str, dict[str, list[Totals]]] = {}
    for path in sorted((output / "totals").glob("*/*.npz")):
        scheme = path.stem.rpartition(".")[0] or path.stem
        array = storage.read_arrays(path)["totals"].astype(np.float64)
        found.setdefault(path.parent.name, {}).setdefault(scheme, []).append(array)
    return found


# ---------------------------------------------------------------------------------------------
# Figures


def areas(points: NDArray[np.float64], reference: Sequence[float]) -> NDArray[np.float64]:
    """Hypervolumes of many fronts of two costs at a time.

    Args:
        points: costs ``(front, point, 2)``.
        reference: two costs.

    Returns:
        Minutes times joules, ``(front,)``.
    """
    gains = np.clip(np.asarray(reference) - points, 0.0, None)
    gains = np.where((gains > 0.0).all(axis=-1, keepdims=True), gains, 0.0)
    order = np.argsort(-gains[..., 0], axis=-1)
    width = np.take_along_axis(gains[..., 0], order, axis=-1)
    height = np.maximum.accumulate(np.take_along_axis(gains[..., 1], order, axis=-1), axis=-1)
    steps = width - np.concatenate([width[..., 1:], np.zeros_like(width[..., :1])], axis=-1)
    return np.asarray((steps * height).sum(axis=-1))


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From mean totals of many resamples, (resample, preference, 2), to one number each."""


@dataclass(frozen=True)
class Resampled:
    """A figure and its bootstrap replicates.

    Attributes:
        value: of the episodes themselves.
        replicates: of resampled ones.
    """

    value: float
    replicates: NDArray[np.float64]

    def record(self, digits: int) -> list[float]:
        """Value and the ends of its 95 % interval."""
        low, high = np.quantile(self.replicates, [0.025, 0.975])
        return [round(float(number), digits) for number in (self.value, low, high)]

    def __truediv__(self, other: Resampled) -> Resampled:
        """Ratio, resampled in pairs."""
        return Resampled(self.value / other.value, self.replicates / other.replicates)

    def __mul__(self, other: Resampled) -> Resampled:
        """Product."""
        return Resampled(self.value * other.value, self.replicates * other.replicates)


@dataclass(frozen=True)
class Resampler:
    """Draws episodes with replacement, the same for all schemes.

    Attributes:
        resamples: number of replicates.
        seed: of the draws.
    """

    resamples: int = 1000
    seed: int = 0

    def counts(self, episodes: int) -> NDArray[np.float64]:
        """How often each episode is drawn, ``(resample, episode)``."""
        rng = np.random.default_rng([self.seed, episodes])
        return rng.multinomial(episodes, np.full(episodes, 1 / episodes), self.resamples).astype(
            np.float64
        )

    def seeds(self, count: int) -> NDArray[np.int64]:
        """Which seeds are drawn, ``(resample, seed)``."""
        return np.random.default_rng([self.seed, count, 1]).integers(
            count, size=(self.resamples, count)
        )

    def statistic(
        self,
        runs: Sequence[Totals],
        statistic: Statistic,
        *,
        episodes: int,
    ) -> Resampled:
        """A statistic of mean totals, averaged over seeds.

        Args:
            runs: one array a seed.
            statistic: of the means.
            episodes: how many to use, the first ones.
        """
        counts = self.counts(episodes) / episodes
        values, replicates = [], []
        for run_totals in runs:
            used = run_totals[:, :episodes]
            values.append(float(statistic(used.mean(axis=1)[None])[0]))
            flat = used.transpose(1, 0, 2).reshape(episodes, -1)
            replicates.append(statistic((counts @ flat).reshape(len(counts), -1, 2)))
        drawn = self.seeds(len(runs))
        table = np.stack(replicates)  # (seed, resample)
        mean = np.take_along_axis(table.T, drawn, axis=1).mean(axis=1)
        return Resampled(float(np.mean(values)), mean)


def _delay_alone(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return means[:, -1, 0]


def _energy_alone(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return means[:, 0, 1]


def _scaled_return(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over preferences of the return that each weighs, on the paper's scales."""
    weights = preferences() * REWARD_SCALES * UNITS
    return np.asarray((np.broadcast_to(means, (len(means), 101, 2)) * weights).sum(-1).mean(-1))


@dataclass(frozen=True)
class Figures:
    """Statistics of all schemes of one system, as far as possible of the same episodes.

    A scheme may have been played for fewer episodes than greedy. Its figure is then greedy's on all
    of greedy's episodes times the ratio of the two on those that both have.

    Attributes:
        system: where they were played.
        played: totals of each seed, by scheme; greedy is among them.
        resampler: for intervals.
    """

    system: System
    played: Mapping[str, Sequence[Totals]]
    resampler: Resampler

    def __post_init__(self) -> None:
        """Refuse what nothing can be compared with.

        Raises:
            OffloadingBenchError: if greedy was not played.
        """
        if GREEDY not in self.played:
            raise OffloadingBenchError(
                f"{self.system.name}: {GREEDY} is what others are compared with; play it first"
            )

    def episodes(self, *schemes: str) -> int:
        """Episodes that all seeds of all these schemes have."""
        return min(len(run[0]) for scheme in schemes for run in self.played[scheme])

    def of_greedy(self, scheme: str, statistic: Statistic) -> Resampled:
        """Ratio to greedy's, on common episodes."""
        episodes = self.episodes(scheme, GREEDY)
        return self._own(scheme, statistic, episodes) / self._own(GREEDY, statistic, episodes)

    def whole(self, scheme: str, statistic: Statistic) -> Resampled:
        """The figure, on all of greedy's episodes or carried over to them."""
        most = self.episodes(GREEDY)
        if self.episodes(scheme) >= most:
            return self._own(scheme, statistic, most)
        return self._own(GREEDY, statistic, most) * self.of_greedy(scheme, statistic)

    def volume(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Hypervolumes above the system's reference point."""
        return areas(means, self.system.reference)

    def _own(self, scheme: str, statistic: Statistic, episodes: int) -> Resampled:
        return self.resampler.statistic(self.played[scheme], statistic, episodes=episodes)

    def rows(self) -> list[dict[str, Any]]:
        """One row a scheme."""
        return [
            {
                "system": self.system.name,
                "scheme": scheme,
                "seeds": len(self.played[scheme]),
                "episodes": self.episodes(scheme, GREEDY),
                "hypervolume": self.whole(scheme, self.volume).record(3),
                "of_greedy": self.of_greedy(scheme, self.volume).record(4),
                "delay_minutes": self.whole(scheme, _delay_alone).record(3),
                "energy_joules": self.whole(scheme, _energy_alone).record(3),
                "scaled_return": self.whole(scheme, _scaled_return).record(3),
            }
            for scheme in self.played
        ]


def compared(
    system: System,
    ours: Sequence[Totals],
    theirs: Sequence[Totals],
    resampler: Resampler,
    *,
    reference: Sequence[float] | None = None,
) -> list[float]:
    """Ratio of two schemes' hypervolumes on common episodes, with its interval.

    Args:
        system: gives the reference point.
        ours: one array a seed.
        theirs: likewise.
        resampler: draws episodes.
        reference: another reference point.
    """
    episodes = min(run.shape[1] for run in (*ours, *theirs))
    point = system.reference if reference is None else reference
    mine, other = (
        resampler.statistic(runs, lambda means: areas(means, point), episodes=episodes)
        for runs in (ours, theirs)
    )
    return (mine / other).record(4)


# ---------------------------------------------------------------------------------------------
# Training of the baselines


def training(name: str, seed: int, *, edges: int | None = None, output: Path = PLAYED) -> RunConfig:
    """The run behind a scheme that learns.

    Args:
        name: of the scheme.
        seed: of the run.
        edges: number of edge servers instead of the scheme's context.
        output: folder of all that is played.
    """
    scheme = SCHEMES[name]
    if scheme.train is None:
        raise OffloadingBenchError(f"{name} does not learn")
    context, steps = scheme.train
    context = {"edges": edges} if edges is not None else dict(context)
    return RunConfig(
        env=EnvConfig(ID, kwargs={"observation": scheme.observation, **context}),
        agent=scheme.agent,
        agent_config=AGENTS[scheme.agent].config(**scheme.settings),
        seed=seed,
        steps=steps,
        eval_every=steps,
        selection_episodes=2,
        report_episodes=2,
        out=str(output / "trained"),
    )


def train_and_play(
    name: str, seeds: Sequence[int], *, systems: Sequence[System], episodes: int, output: Path
) -> None:
    """Train a scheme's seeds where they are not, and play them.

    Simulated annealing plans for one system: it is trained in each of `systems` by itself.
    """
    alone = SCHEMES[name].agent == "simulated_annealing"
    for seed in seeds:
        for system in systems if alone else (None,):
            edges = None if system is None else int(system.kwargs["edges"])
            config = training(name, seed, edges=edges, output=output)
            run(config)
            trained, solutions = solutions_of_run(run_folder(config))
            play(
                f"{name}.{seed}",
                solutions,
                trained.env.kwargs,
                systems=systems if system is None else (system,),
                episodes=episodes,
                output=output,
            )


# ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        _play_all(options)
    except MorlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.offloading",
        description="Play schemes of offloading; morl.experiments.bench.offloading_report reports.",
    )
    parser.add_argument(
        "schemes",
        nargs="*",
        metavar="SCHEME",
        help=f"{', '.join(SCHEMES)}; by default all, unless there is a --run",
    )
    parser.add_argument(
        "--run",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="a scheme of trained policies: its name and a folder of a run for each seed",
    )
    parser.add_argument("--systems", nargs="+", metavar="SYSTEM", help=", ".join(SYSTEMS))
    parser.add_argument("--episodes", type=int, default=EPISODES, help="for each preference")
    parser.add_argument("--seeds", nargs="+", type=int, help="of schemes that are trained here")
    parser.add_argument("--output", type=Path, default=PLAYED, help="folder of what is played")
    return parser


def _play_all(options: argparse.Namespace) -> None:
    names = options.systems or list(SYSTEMS)
    systems = [_known(SYSTEMS, name, "system") for name in names]
    for name in options.schemes or ([] if options.run else SCHEMES):
        scheme = _known(SCHEMES, name, "scheme")
        if scheme.train is not None:
            train_and_play(
                name,
                options.seeds or range(scheme.seeds),
                systems=systems,
                episodes=options.episodes,
                output=options.output,
            )
            continue
        play(
            name,
            solutions_of_scheme(scheme),
            {"observation": scheme.observation},
            systems=systems,
            episodes=options.episodes,
            output=options.output,
        )
    for name, *folders in options.run:
        _play_runs(name, [Path(folder) for folder in folders], systems, options)


def _play_runs(
    name: str, folders: Sequence[Path], systems: Sequence[System], options: argparse.Namespace
) -> None:
    if not folders or name in SCHEMES or "." in name:
        raise OffloadingBenchError(
            f"--run {name}: needs a name of its own without a dot, and a folder for each seed"
        )
    for folder in folders:
        config, solutions = solutions_of_run(folder)
        play(
            f"{name}.{config.seed}",
            solutions,
            config.env.kwargs,
            systems=systems,
            episodes=options.episodes,
            output=options.output,
        )


def _known(table: Mapping[str, Any], name: str, what: str) -> Any:  # noqa: ANN401 - of the table
    if name not in table:
        raise OffloadingBenchError(f"no {what} {name!r}; there are {', '.join(table)}")
    return table[name]


if __name__ == "__main__":
    sys.exit(main())
