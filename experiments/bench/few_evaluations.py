"""Which search for objects gets furthest with few objective evaluations?

``python -m morl.experiments.bench.few_evaluations`` gives MOGFN-AL, uniform sampling and NSGA-II
the same number of evaluations on two grids and on strings. Hypervolumes are those of the archive,
from the reference point of the task; ratios are to the exact front. NSGA-II has a population of 16
as well as its default of 100: a small budget wants generations.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from morl.agents.learners.search.objects import ObjectSearch
from morl.envs import make_task
from morl.experiments.bench.measurement import RESULTS, single_thread, table, write_report
from morl.indicators import hypervolume
from morl.registry import AGENTS
from morl.types import Task

COMMAND = "python -m morl.experiments.bench.few_evaluations"


@dataclass(frozen=True)
class Contest:
    """A task, and how many objects may be evaluated.

    Attributes:
        name: for the table.
        env: id of the environment.
        evaluations: of each search.
        kwargs: of the environment.
        settings: of MOGFN-AL, where they are not the defaults.
    """

    name: str
    env: str
    evaluations: int
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task itself."""
        return make_task(self.env, kwargs=self.kwargs)


CONTESTS = (
    Contest("grid, concave", "hypergrid-v0", 128, {"objectives": ["currin", "shubert"]}),
    Contest("grid, convex", "hypergrid-v0", 128, {"objectives": ["branin", "currin"]}),
    Contest(
        "strings",
        "n-grams-v0",
        128,
        {"ngrams": ["A", "C"]},
        {"network": "perceptron"},
    ),
)

SEARCHES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mogfn_al": ("mogfn_al", {}),
    "uniform_sampling": ("uniform_sampling", {"batch": 16}),
    "nsga2, 16": ("nsga2", {"batch": 16}),
    "nsga2, 100": ("nsga2", {"batch": 100}),
}
"""Agent and settings by the name for the table."""


def search(contest: Contest, name: str, *, seed: int) -> dict[str, Any]:
    """One search to the end of its evaluations.

    Args:
        contest: task and budget.
        name: one of `SEARCHES`.
        seed: root of its random streams.
    """
    agent, settings = SEARCHES[name]
    own = contest.settings if agent == "mogfn_al" else {}
    config = replace(AGENTS[agent].config(), max_evaluations=contest.evaluations, **settings, **own)
    made = AGENTS[agent].make(contest.task, config, total_steps=10**9, seed=seed)
    assert isinstance(made, ObjectSearch)
    start = time.process_time()
    while not made.finished:
        made.learn(10**6)
    cost = time.process_time() - start
    reference_point = contest.task.spec.reference_point
    volume = hypervolume(made.archive.points, reference_point).value
    return {
        "task": contest.name,
        "search": name,
        "seed": seed,
        "evaluations": made.evaluations,
        "cpu_s": round(cost, 1),
        "hypervolume": round(volume, 4),
        "ratio": round(volume / contest.task.spec.anchors["exact"], 4),
        "archive": len(made.archive),
    }


def main(
    arguments: Sequence[str] | None = None,
    *,
    contests: Sequence[Contest] = CONTESTS,
    say: Callable[[str], None] = print,
) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
        contests: tasks and budgets.
        say: takes the table.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    with single_thread():
        rows = [
            search(contest, name, seed=seed)
            for contest in contests
            for name in SEARCHES
            for seed in range(options.seeds)
        ]
    say(table(rows))
    tasks = [{"task": one.name, "env": one.env, "kwargs": dict(one.kwargs)} for one in contests]
    command = f"{COMMAND} --seeds {options.seeds}"
    record = {"tasks": tasks, "rows": rows}
    write_report("few_evaluations", record, command=command, output=options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
