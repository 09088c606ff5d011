"""Speed of the samplers of objects: against torchgfn on its own grids, and on strings.

Trajectory balance on hypergrids of torchgfn's moves (the far edge only blocks the way), with the
same network, batch and policy on both sides: the policy is frozen, so that both draw trajectories
of the same lengths, while all the work of an update is done. torchgfn pins NumPy below 2 and needs
an environment of its own; its interpreter is handed over by ``--torchgfn``. The same trajectories
and parameters are put to both, to compare what they say of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from morl.agents.learners.gflownet.learner import FlowLearner, balance
from morl.agents.learners.gflownet.networks import LogPartition, PerceptronPolicy
from morl.agents.mogfn_pc import MOGFNPC, Config
from morl.compositional import core_of
from morl.envs import make_task
from morl.experiments.bench.end_to_end import Worker
from morl.experiments.bench.measurement import (
    RESULTS,
    Pairs,
    interleave,
    single_thread,
    table,
    write_report,
)
from morl.seeding import generator

INCUMBENT_SCRIPT = Path(__file__).with_name("incumbent_torchgfn.py")
HEIGHT = 32
BATCH = 128
STOP_BIAS = -2.5
"""Logit of the stop of the frozen policy; all others are zero."""

MODES = ("kept", "vectorised")
"""torchgfn's log-probabilities: those of sampling, or computed again in one pass."""

TARGET = 5.0
STRINGS_TARGET = 0.48
"""CPU seconds of an update on strings."""


def grid_learner(dimensions: int, *, height: int = HEIGHT) -> FlowLearner:
    """Ours on a grid with torchgfn's moves, at a learning rate that changes nothing."""
    task = make_task(
        "hypergrid-v0", kwargs={"dimensions": dimensions, "height": height, "edge": "stay"}
    )
    core = core_of(task)
    rng = generator(0, "bench/gflownet")
    network = PerceptronPolicy(
        encode=core.encode,
        encoding_width=core.encoding_width,
        code_width=0,
        num_outputs=core.num_actions,
        hidden=(64, 64, 64),
        rng=rng,
    )
    return FlowLearner(
        core,
        network,
        LogPartition(code_width=0, hidden=(), rng=rng),
        learning_rate=1e-30,
        partition_learning_rate=1e-30,
        weight_decay=0.0,
        max_gradient_norm=None,
    )


def freeze(learner: FlowLearner) -> None:
    """The same odds in every state: a stop is rare."""
    learner.network.blocks[-2][:] = 0.0
    learner.network.blocks[-1][:] = 0.0
    learner.network.blocks[-1][-1] = STOP_BIAS


def our_cost(learner: FlowLearner, *, updates: int) -> Callable[[], float]:
    """CPU seconds of a trajectory: sampled, evaluated, learned from."""
    codes = np.zeros((BATCH, 0), np.float32)
    rng = generator(0, "bench/trajectories")

    def update() -> None:
        found = learner.sample(codes, rng=rng, exploration=0.0)
        rewards = learner.core.evaluate(found.objects).mean(axis=1)
        learner.improve(found, codes, balance("tb", np.log(rewards + 1e-8), decay=1.0))

    def cost() -> float:
        start = time.process_time()
        for _ in range(updates):
            update()
        return (time.process_time() - start) / (updates * BATCH)

    return cost


def their_settings(dimensions: int, mode: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - plain data
    """What `incumbent_torchgfn.py` is told."""
    settings = {
        "dimensions": dimensions,
        "height": HEIGHT,
        "batch": BATCH,
        "mode": mode,
        "stop_bias": STOP_BIAS,
        "log_z": 0.0,
        "seed": 0,
        "residuals": False,
        "updates": 5,
    }
    return {**settings, **changes}


def their_worker(python: Path, settings: dict[str, Any]) -> Worker:
    """Torchgfn under another interpreter."""
    return Worker([str(python), str(INCUMBENT_SCRIPT), json.dumps(settings)])


def grid_row(dimensions: int, *, torchgfn: Path | None, pairs: int) -> dict[str, Any]:
    """Trajectories a CPU-second of both sides on one grid; of theirs the best mode counts."""
    learner = grid_learner(dimensions)
    freeze(learner)
    ours = our_cost(learner, updates=10)
    name = f"{dimensions}-D, H={HEIGHT}, batch {BATCH}"
    if torchgfn is None:
        alone = interleave(ours, lambda: 1.0, pairs=pairs).record(per_second=True)
        return {"grid": name, "ours_per_cpu_second": alone["ours_per_cpu_second"], "pairs": pairs}
    found: dict[str, Pairs] = {}
    with ExitStack() as stack:
        for mode in MODES:
            theirs = stack.enter_context(their_worker(torchgfn, their_settings(dimensions, mode)))
            found[mode] = interleave(ours, theirs.cost, pairs=pairs)
    best = min(found, key=lambda mode: found[mode].ratio)
    return {
        "grid": name,
        **found[best].record(per_second=True),
        "target": TARGET,
        "met": found[best].ratio >= TARGET,
        "best_mode": best,
        **{f"ratio_to_{mode}": found[mode].record()["ratio"] for mode in MODES},
    }


def residual_comparison(torchgfn: Path) -> dict[str, Any]:
    """What both say of the same trajectories under the same parameters."""
    settings = their_settings(
        2, "vectorised", height=8, batch=64, stop_bias=None, log_z=1.25, residuals=True
    )
    with their_worker(torchgfn, settings) as worker:
        said = worker.about
    learner = grid_learner(2, height=8)
    implied = our_residuals(learner, said)
    return {
        "trajectories": len(implied),
        "longest": max(map(len, said["actions"])),
        "largest_difference": float(np.abs(implied - np.array(said["implied"])).max()),
        "largest_magnitude": float(np.abs(said["implied"]).max()),
        "packages": said["packages"],
    }


def our_residuals(learner: FlowLearner, said: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Implied log-rewards of given trajectories under given parameters, (trajectory,)."""
    blocks = iter(learner.network.blocks)
    for weights, biases in zip(said["weights"], said["biases"], strict=True):
        next(blocks)[:] = weights
        if weights is said["weights"][0]:
            next(blocks)  # the condition's share of the first layer is empty
        next(blocks)[:] = biases
    learner.partition.parameters[:] = said["log_z"]
    actions = np.full((len(said["actions"]), learner.core.horizon), -1)
    for row, taken in zip(actions, said["actions"], strict=True):
        row[: len(taken)] = taken
    codes = np.zeros((len(actions), 0), np.float32)
    found = learner.sampler.retrace(codes, actions)
    implied: np.ndarray[Any, Any] = learner.terms(found, codes).implied.detach().numpy()
    return implied


def strings_row(*, updates: int) -> dict[str, Any]:
    """CPU seconds of an update on three bigrams: 3 x 64 transformer, batch 128, 36 letters."""
    config = Config(
        batch=BATCH,
        hidden=(256, 256),
        width=64,
        layers=3,
        heads=8,
        partition_hidden=(),
        exponent=96.0,
        learning_rate=1e-4,
        max_gradient_norm=10.0,
    )
    agent = MOGFNPC(make_task("n-grams-v0"), config, total_steps=10**12, seed=0)
    agent.learn(1)
    costs, letters = [], []
    for _ in range(updates):
        start = time.process_time()
        letters.append(agent.learn(1)["train/length"])
        costs.append(time.process_time() - start)
    median = float(np.median(costs))
    return {
        "task": "n-grams-v0, AV VC CA",
        "parameters": int(agent.learner.network.parameters.size),
        "updates": updates,
        "mean_actions": float(np.mean(letters)),
        "cpu_s": float(f"{median:.4g}"),
        "cpu_s_lowest": float(f"{min(costs):.4g}"),
        "cpu_s_highest": float(f"{max(costs):.4g}"),
        "target": STRINGS_TARGET,
        "met": median <= STRINGS_TARGET,
    }


def main(
    *,
    torchgfn: Path | None = None,
    pairs: int = 5,
    output: Path | None = None,
) -> dict[str, Any]:
    """Measure, print, and write ``gflownet.json``.

    Args:
        torchgfn: interpreter with torchgfn, or None.
        pairs: interleaved measurements of each grid.
        output: folder of the record, or None.
    """
    with single_thread():
        rows = [grid_row(dimensions, torchgfn=torchgfn, pairs=pairs) for dimensions in (2, 4)]
        strings = strings_row(updates=2 * pairs)
    record: dict[str, Any] = {
        "what": "trajectories a CPU-second of trajectory balance (sampling, rewards, loss, "
        "gradient, Adam) under a frozen policy, and CPU seconds of an update on strings; one "
        "thread",
        "network": "k-hot input, 3 hidden layers of 64 leaky rectifiers; uniform P_B",
        "incumbent": "torchgfn, the better of its two ways to get log-probabilities",
        "seed": 0,
        "grids": rows,
        "strings": strings,
    }
    if torchgfn is not None:
        record["same_trajectories"] = residual_comparison(torchgfn)
    report = write_report(
        "gflownet",
        record,
        command="python -m morl.experiments.bench.gflownet --torchgfn PYTHON",
        output=output,
    )
    print("\nTrajectory balance on grids, trajectories a CPU-second")
    print(table(rows))
    print("\nStrings")
    print(table([strings]))
    if torchgfn is not None:
        print("\nThe same trajectories")
        print(json.dumps(record["same_trajectories"]))
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.gflownet", description=__doc__
    )
    parser.add_argument(
        "--torchgfn", type=Path, metavar="PYTHON", help="interpreter that has torchgfn 2.4.1"
    )
    parser.add_argument("--pairs", type=int, default=5, help="interleaved measurements a row")
    parser.add_argument(
        "--output", type=Path, default=RESULTS / "bench", help="folder of the JSON file"
    )
    return parser


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    main(torchgfn=options.torchgfn, pairs=options.pairs, output=options.output)
    return 0


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
