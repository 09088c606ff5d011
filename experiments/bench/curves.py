"""How fast do agents learn fronts? Hypervolume against steps, seed by seed.

``python -m morl.experiments.bench.curves --env mo-hopper-2obj-v5 --steps 100000`` trains each
agent with its defaults and judges all of its solutions on report episodes as it goes. A line of
JSON is appended for each evaluation, so that a run which is interrupted leaves what it found.
``--env random-momdp-v0 --problems 100 119`` does so for a range of problems of a family.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.experiments.bench.measurement import RESULTS, single_thread
from morl.indicators import hypervolume
from morl.registry import AGENTS
from morl.types import Task

COMMAND = "python -m morl.experiments.bench.curves"


def evaluations(
    task: Task, name: str, settings: dict[str, Any], *, steps: int, every: int, seed: int,
    episodes: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Train one agent; one row for each evaluation.

    Args:
        task: what to learn.
        name: of the agent.
        settings: that differ from its defaults.
        steps: budget.
        every: steps between evaluations.
        seed: of the agent.
        episodes: report episodes of each solution.
    """
    entry = AGENTS[name]
    agent = entry.make(task, replace(entry.config(), **settings), total_steps=steps, seed=seed)
    exact = exact_hypervolume(task)
    seeds, learning = evaluation_seeds(task.spec, "report", episodes), 0.0
    while not agent.finished:
        begun = time.process_time()
        agent.learn(every)
        learning += time.process_time() - begun
        returns = rollout(task, agent.solutions(), seeds=seeds).discounted.mean(axis=1)
        value = hypervolume(returns, task.spec.reference_point).value
        yield {
            "env": task.spec.id,
            "kwargs": dict(task.kwargs),
            "agent": name,
            "settings": settings,
            "seed": seed,
            "steps": agent.steps,
            "hypervolume": round(value, 4),
            "share": None if exact is None else round(value / exact, 4),
            "solutions": len(returns),
            "learning_cpu_s": round(learning, 2),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "commit": commit(),
        }


def exact_hypervolume(task: Task) -> float | None:
    """Hypervolume of the known front, or None where there is none."""
    known = task.spec.known_front
    if known is None:
        return None
    return hypervolume(known.points(task.spec.discount), task.spec.reference_point).value


@cache
def commit() -> str:
    """Hash of the commit of this checkout, with "+" where files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(RESULTS), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", ":!*.jsonl")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changes else "")


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """The task asked for, or one per problem of the family."""
    if options.problems is None:
        yield make_task(options.env, kwargs=options.kwargs)
        return
    first, last = options.problems
    for problem in range(first, last + 1):
        yield make_task(options.env, kwargs={**options.kwargs, "seed": problem})


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean share of the exact hypervolume by agent, in Markdown, the best agent first.

    Args:
        rows: of one family of problems at one budget; the last row of each run counts.
    """
    last = {(row["agent"], str(row["kwargs"]), row["seed"]): row for row in rows}
    shares: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for row in last.values():
        shares.setdefault(row["agent"], []).append(row["share"])
        seconds.setdefault(row["agent"], []).append(row["learning_cpu_s"])
    lines = [
        "| agent | mean share | standard error | least | runs | CPU-seconds a run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(shares, key=lambda name: (-fmean(shares[name]), name)):
        values = shares[name]
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        lines.append(
            f"| `{name}` | {fmean(values):.3f} | {error:.3f} | {min(values):.3f} | {len(values)} | "
            f"{fmean(seconds[name]):.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, *, say: Callable[[str], None] = print) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
        say: takes each row.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--table", type=Path, help="print the table of a file and do nothing else")
    parser.add_argument("--env", default="random-momdp-v0")
    parser.add_argument("--kwargs", type=json.loads, default={}, help="of the environment, JSON")
    parser.add_argument(
        "--problems", type=int, nargs=2, metavar=("FIRST", "LAST"), help="values of kwargs.seed"
    )
    parser.add_argument("--agents", nargs="+", default=["conditioned_sac"])
    parser.add_argument("--settings", type=json.loads, default={}, help="of the agents, JSON")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, help="steps between evaluations; once if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "continuous.jsonl")
    options = parser.parse_args(arguments)
    if options.table is not None:
        say(table([json.loads(line) for line in options.table.read_text().splitlines()]))
        return 0
    with single_thread():
        for task, seed, name in product(tasks(options), options.seeds, options.agents):
            for row in evaluations(
                task, name, options.settings, steps=options.steps,
                every=options.every or options.steps, seed=seed, episodes=options.episodes,
            ):  # fmt: skip
                say(json.dumps(row))
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
