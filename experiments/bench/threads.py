"""Physics on all cores: seconds on the clock of MuJoCo batches against MO-Gymnasium's wrapper.

Everything else here is measured in CPU time, which threads cannot save. So this benchmark means
something on an idle machine only; its record holds the load it ran under.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import mo_gymnasium
from gymnasium import spaces

from morl.envs import make_vec
from morl.envs.mujoco import bare_mj_step_rate
from morl.experiments.bench.environments import (
    RING,
    THEIR_BATCH,
    Batch,
    play,
    quiet,
    their_batch,
)
from morl.experiments.bench.measurement import interleave, table, wall_cost, write_report
from morl.testing import sample_actions

NAMES = ("mo-hopper-v5", "mo-halfcheetah-v5", "mo-ant-v5")
NUM_ENVS = 64
STEPS = {"mo-hopper-v5": 60, "mo-halfcheetah-v5": 120, "mo-ant-v5": 30}
"""Vector steps of one measurement of ours: about a third of a second."""


def measure(
    names: Sequence[str] = NAMES, *, num_threads: int | None = None, pairs: int = 9
) -> dict[str, Any]:
    """Measure environments, one after the other.

    Args:
        names: ids of MuJoCo environments.
        num_threads: of ours; by default one for each core. Theirs has one.
        pairs: interleaved measurements a row.

    Returns:
        A record with a row for each environment. Its `ratio_of_physics` is what bare ``mj_step`` on
        all threads would reach: no batch that keeps the physics as it is can do better.
    """
    threads = num_threads or os.cpu_count() or 1
    rows = [_row(name, num_threads=threads, pairs=pairs) for name in names]
    return {
        "unit": "environment steps a second on the clock",
        "theirs": f"MO-Gymnasium {mo_gymnasium.__version__}, MOSyncVectorEnv of {THEIR_BATCH}",
        "rows": rows,
    }


def _row(name: str, *, num_threads: int, pairs: int) -> dict[str, Any]:
    with quiet():
        ours = make_vec(name, NUM_ENVS, num_threads=num_threads)
        theirs = their_batch(name)
    assert theirs is not None
    try:
        steps = STEPS.get(name, 30)
        costs = interleave(_timed(ours, steps), _timed(theirs, steps), pairs=pairs)
        physics = bare_mj_step_rate(name, num_envs=NUM_ENVS, steps=4 * steps).bare
    finally:
        ours.close()
        theirs.close()
    return {
        "env": name,
        "num_envs": NUM_ENVS,
        "num_threads": num_threads,
        "ours_per_second": round(1.0 / statistics.median(costs.ours)),
        "theirs_per_second": round(1.0 / statistics.median(costs.theirs)),
        "ratio": round(costs.ratio, 2),
        "ratio_lowest": round(min(costs.ratios), 2),
        "ratio_highest": round(max(costs.ratios), 2),
        "ratio_of_physics": round(num_threads * physics * statistics.median(costs.theirs), 2),
        "pairs": pairs,
    }


def _timed(batch: Batch, steps: int) -> Callable[[], float]:
    space = cast("spaces.Discrete | spaces.Box", batch.single_action_space)
    actions = sample_actions(space, RING, batch.num_envs, seed=0)
    batch.reset(seed=0)
    measured = wall_cost(partial(play, batch, actions, steps), units=steps * batch.num_envs)

    def quietly() -> float:
        with quiet():
            return measured()

    return quietly


def main(*, pairs: int = 9, output: Path | None = None) -> dict[str, Any]:
    """Measure, print, and write ``threads.json``."""
    report = write_report(
        "threads",
        measure(pairs=pairs),
        command="python -m morl.experiments.bench --only threads",
        output=output,
    )
    print(f"{report['unit']}; theirs: {report['theirs']}")
    print(table(report["rows"]))
    return report
