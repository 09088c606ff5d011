"""How does envelope Q-learning compare with C-MORL and random search at equal budgets?

``python -m morl.experiments.bench.envelope`` trains all three on deep-sea treasure and on the fruit
tree, C-MORL with its presets, the others with their defaults, through the command line's
composition. Hypervolumes are those of the report episodes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morl.experiments.bench.measurement import RESULTS, single_thread, table, write_report
from morl.experiments.compose import compose_only
from morl.experiments.config import RunConfig
from morl.experiments.run import run

COMMAND = "python -m morl.experiments.bench.envelope"


@dataclass(frozen=True)
class Comparison:
    """A task, and how long all agents may learn.

    Attributes:
        env: id of the environment.
        steps: budget in environment steps.
        preset: of C-MORL, under ``conf/experiment``.
    """

    env: str
    steps: int
    preset: str

    def overrides(self) -> dict[str, list[str]]:
        """What makes each agent's run, by the name of the agent."""
        return {
            "envelope_q": [f"env={self.env}", "agent=envelope_q"],
            "c_morl": [f"experiment={self.preset}"],
            "random_search": [f"env={self.env}", "agent=random_search"],
        }


COMPARISONS = (
    Comparison("deep-sea-treasure-v0", 200_000, "deep-sea-treasure-c_morl"),
    Comparison("fruit-tree-v0", 400_000, "fruit-tree-c_morl"),
)


def trained(comparison: Comparison, agent: str, *, seed: int, runs: Path) -> dict[str, Any]:
    """One run to the end of its budget.

    Args:
        comparison: task and budget.
        agent: one of `Comparison.overrides`.
        seed: of the run.
        runs: folder for its files.
    """
    # These environments are deterministic: two episodes say what thirty-two would.
    words = [
        f"steps={comparison.steps}", f"seed={seed}", f"eval_every={comparison.steps}",
        "selection_episodes=2", "report_episodes=2", "curve_episodes=1", f"out={runs}",
    ]  # fmt: skip
    config = RunConfig.from_record(compose_only([*comparison.overrides()[agent], *words]))
    result = run(config, say=lambda _: None)
    return {
        "env": comparison.env,
        "agent": agent,
        "seed": seed,
        "steps": result.budget.env_steps,
        "cpu_s": round(result.budget.cpu_s, 1),
        "hypervolume": round(result.metrics["hypervolume"].value, 2),
        "front": result.front.num_unique,
    }


def main(
    arguments: Sequence[str] | None = None,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    say: Callable[[str], None] = print,
) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
        comparisons: tasks and budgets.
        say: takes the table.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    with single_thread(), tempfile.TemporaryDirectory() as folder:
        rows = [
            trained(comparison, agent, seed=seed, runs=Path(folder))
            for comparison in comparisons
            for agent in comparison.overrides()
            for seed in range(options.seeds)
        ]
    say(table(rows))
    command = f"{COMMAND} --seeds {options.seeds}"
    write_report("envelope", {"rows": rows}, command=command, output=options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
