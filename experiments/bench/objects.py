"""How fast are the cores of objects, and how far do baselines get that learn no sampler?

``python -m morl.experiments.bench.objects`` measures CPU time of transitions, evaluations and
steps of the Gymnasium view, then runs uniform sampling, NSGA-II and NSGA-III, on grids MOREINFORCE
as well, with equal numbers of objective evaluations. Hypervolumes are those of the archive, from
the reference point of the task; ratios are to the exact front where there is one. Diversity is the
mean distance between the objects of the archive, as the core measures it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from morl.agents.learners.gflownet.agent import ObjectSampler
from morl.agents.learners.search.objects import ObjectSearch
from morl.compositional import CompositionalCore, States, core_of, random_walks
from morl.diversity import mean_pairwise_distance
from morl.envs import make_task
from morl.experiments.bench.measurement import RESULTS, single_thread, table, write_report
from morl.indicators import hypervolume
from morl.registry import AGENTS, ENVS
from morl.testing import sample_actions
from morl.types import Task

COMMAND = "python -m morl.experiments.bench.objects"

SEARCHES = ("uniform_sampling", "nsga2", "nsga3")

FOUR = ["branin", "currin", "shubert", "beale"]

COMPARED = 100
"""Most objects of an archive between which distances are taken."""


@dataclass(frozen=True)
class Trial:
    """A task and how long the searches may look.

    Attributes:
        env: id of the environment.
        evaluations: objective evaluations of each search.
        kwargs: of the environment.
        learners: agents that are run besides the searches.
    """

    env: str
    evaluations: int
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    learners: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """The task itself."""
        return make_task(self.env, kwargs=self.kwargs)


TRIALS = (
    Trial("hypergrid-v0", 12_800, {"objectives": ["currin", "shubert"]}, ("moreinforce",)),
    Trial("hypergrid-v0", 12_800, {"objectives": FOUR}, ("moreinforce",)),
    Trial("n-grams-v0", 51_200),
    Trial("dna-aptamers-v0", 6_400),
    Trial("fragments-v0", 3_200),
)


def speed(trial: Trial) -> dict[str, Any]:
    """CPU microseconds of a transition, an evaluation, and a step of the Gymnasium view."""
    core = core_of(trial.task)
    rng = np.random.default_rng(0)
    core.evaluate(random_walks(core, 16, rng).objects)  # compiles, loads tables
    start = time.process_time()
    walks = random_walks(core, 2048, rng)
    built = time.process_time() - start
    start = time.process_time()
    few = walks.objects[:256]
    core.values(few)
    valued = time.process_time() - start
    return {
        "env": trial.env,
        "objectives": core.num_objectives,
        "transition_us": _micro(built, int(walks.lengths.sum())),
        "evaluation_us": _micro(valued, len(few)),
        "view_step_us": _micro(*_view_cost(trial.task)),
    }


def _view_cost(task: Task, *, num_envs: int = 64, steps: int = 200) -> tuple[float, int]:
    """CPU seconds of random steps of a batch, and how many they were."""
    batch = task.make_vec(num_envs)
    space = cast(spaces.Discrete, batch.single_action_space)
    actions = sample_actions(space, steps, num_envs, seed=0)
    batch.reset(seed=0)
    batch.step(actions[0])
    start = time.process_time()
    for row in actions:
        batch.step(row)
    batch.close()
    return time.process_time() - start, steps * num_envs


def search(trial: Trial, name: str, *, seed: int) -> dict[str, Any]:
    """One search to the end of its evaluations."""
    task, entry = trial.task, AGENTS[name]
    config = replace(entry.config(), max_evaluations=trial.evaluations)
    agent = entry.make(task, config, total_steps=10**9, seed=seed)
    assert isinstance(agent, ObjectSearch | ObjectSampler)
    start = time.process_time()
    while not agent.finished:
        agent.learn(100_000)
    cost = time.process_time() - start
    volume = hypervolume(agent.archive.points, task.spec.reference_point).value
    exact = task.spec.anchors.get("exact")
    return {
        "env": trial.env,
        "objectives": task.spec.num_objectives,
        "agent": name,
        "seed": seed,
        "evaluations": agent.evaluations,
        "env_steps": agent.steps,
        "cpu_s": round(cost, 2),
        "hypervolume": round(volume, 6),
        "ratio": None if exact is None else round(volume / exact, 4),
        "archive": len(agent.archive),
        "diversity": _diversity(agent.core, agent.archive.items),
    }


def _diversity(core: CompositionalCore, objects: Sequence[States]) -> float | None:
    members = np.array(objects)[:COMPARED]
    if len(members) < 2:
        return None
    return round(mean_pairwise_distance(core.distance(members, members)), 4)


def _micro(seconds: float, count: int) -> float:
    return float(f"{1e6 * seconds / count:.3g}")


def main(
    arguments: Sequence[str] | None = None,
    *,
    trials: Sequence[Trial] = TRIALS,
    say: Callable[[str], None] = print,
) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
        trials: tasks; those whose extra is not installed are left out and named.
        say: takes the tables.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    missing = [text for trial in trials if (text := ENVS[trial.env].available()) is not None]
    for text in missing:
        say(f"left out: {text}")
    usable = [trial for trial in trials if ENVS[trial.env].available() is None]
    with single_thread():
        speeds = [speed(trial) for trial in usable]
        say(table(speeds))
        rows = [
            search(trial, name, seed=seed)
            for trial in usable
            for name in (*SEARCHES, *trial.learners)
            for seed in range(options.seeds)
        ]
    say(table(rows))
    record = {
        "seeds": options.seeds,
        "tasks": [{"env": one.env, "kwargs": dict(one.kwargs)} for one in usable],
        "speed": speeds,
        "rows": rows,
        "left_out": missing,
    }
    write_report("objects", record, command=COMMAND, output=options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
