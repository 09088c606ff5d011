"""Where the CPU time of a training goes: shares of its parts, the largest named.

The speed is measured without a profiler; then one more stretch of the same training runs under
it, for the shares.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morl.agents.c_morl import CMORL, Config
from morl.envs import make_task
from morl.experiments.bench.measurement import single_thread, table, write_report

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "minecart-v0": {"learning_rate": 1e-3, "entropy_coefficient": 0.03, "selection_episodes": 10},
    "fruit-tree-v0": {
        "preference_divisions": 2,
        "learning_rate": 1e-3,
        "entropy_coefficient": 0.02,
        "rollout_steps": 36,
        "initial_fraction": 0.1,
        "num_parents": 10,
        "snapshot_interval": 1,
        "selection_episodes": 1,
    },
}
"""Those of the presets."""

PARTS = {
    "forward and backward passes of updates": (
        "agents/learners/ppo/learner.py",
        "accumulate_gradients",
    ),
    "Adam": ("agents/learners/ppo/kernels.py", "clipped_adam_"),
    "acting": ("agents/learners/ppo/learner.py", "act"),
    "values and advantages": ("agents/learners/ppo/learner.py", "digest"),
    "evaluations for the archive": ("morl/evaluation.py", "rollout"),
    "updates, all": ("agents/learners/ppo/learner.py", "improve"),
    "rollouts, all": ("agents/learners/core/rollouts.py", "collect"),
}
"""Functions whose time, callees included, is a part; the last two hold others."""

Timings = Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]]


def measure(*, steps: int = 400_000) -> dict[str, Any]:
    """Train on every environment, once on the clock and once under the profiler.

    Args:
        steps: environment steps of each stretch.
    """
    with single_thread():
        rows = [_row(name, settings, steps=steps) for name, settings in SETTINGS.items()]
    return {"unit": "share of CPU time, one thread", "steps": steps, "rows": rows}


def _row(name: str, settings: Mapping[str, Any], *, steps: int) -> dict[str, Any]:
    # A tenth to warm up, two stretches, and room that none of them ends the budget.
    agent = CMORL(make_task(name), Config(**settings), total_steps=3 * steps, seed=0)
    agent.learn(steps // 10)
    rate = _rate(agent, steps)
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(agent.learn, steps)
    stats: Timings = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    shares = parts(stats)
    return {
        "env": name,
        "steps_per_cpu_second": round(rate),
        "shares": shares,
        "next_bottleneck": bottleneck(shares),
    }


def _rate(agent: CMORL, steps: int) -> float:
    before, start = agent.steps, time.process_time()
    agent.learn(steps)
    return (agent.steps - before) / (time.process_time() - start)


def parts(stats: Timings) -> dict[str, float]:
    """Shares of the parts of a profile, by name; what none of them holds is "the rest".

    Args:
        stats: as `pstats.Stats.stats`; everything ran below one call.
    """
    total = sum(own for _, _, own, _, _ in stats.values())
    seconds = {part: _seconds(stats, *place) for part, place in PARTS.items()}
    updates, rollouts = seconds.pop("updates, all"), seconds.pop("rollouts, all")
    passes, adam, acting = (
        seconds[name] for name in ("forward and backward passes of updates", "Adam", "acting")
    )
    seconds["minibatches and advantages' weights"] = updates - passes - adam
    seconds["environments"] = rollouts - acting
    seconds["the rest"] = total - sum(seconds.values())
    return {name: round(spent / total, 3) for name, spent in seconds.items()}


def _seconds(stats: Timings, file: str, function: str) -> float:
    return sum(
        cumulative
        for (path, _, name), (_, _, _, cumulative, _) in stats.items()
        if name == function and Path(path).as_posix().endswith(file)
    )


def bottleneck(shares: Mapping[str, float]) -> str:
    """The part that takes most."""
    return max(shares, key=lambda name: shares[name])


def main(*, steps: int = 400_000, output: Path | None = None) -> dict[str, Any]:
    """Measure, print, and write ``profile.json``."""
    report = write_report(
        "profile",
        measure(steps=steps),
        command="python -m morl.experiments.bench --only profile",
        output=output,
    )
    for row in report["rows"]:
        print(f"{row['env']}: {row['steps_per_cpu_second']:,} steps a CPU-second")
        ordered = sorted(row["shares"].items(), key=lambda item: -item[1])
        print(table([{"part": name, "share": share} for name, share in ordered]))
    return report
