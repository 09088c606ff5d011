"""One short run of every registered agent, pinned bit for bit.

A structural change must leave every hash as it is. The bits of a run depend on the processor and
on the versions of the numerical packages, so each agent has one file with a recording per machine;
on a machine without a recording the test is skipped and says so. Run as a script, this file prints
the bits of the agents named as arguments (all by default); with ``--write`` it records them for
this machine, and ``--only`` drops the recordings of other machines, whose bits a change on purpose
made stale.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.registry import AGENTS

BITS = Path(__file__).with_name("agent_bits")

GRID = ("hypergrid-v0", {"height": 6, "objectives": ["branin", "shubert"]})
CHAIN = ("random-momdp-v0", {"seed": 2})
TREASURE = ("deep-sea-treasure-v0", {})
SYSTEM = ("mec-offloading-v0", {})
QUADRATIC = ("linear-quadratic-v0", {"num_objectives": 3})
MARGINAL = ("mec-offloading-v0", {"observation": "marginal"})

OLD_C_MORL = {
    "encoding": "raw", "learning_rate": 3e-4, "extension_learning_rate": 3e-4,
    "entropy_coefficient": 0.0, "min_updates": 1, "selection_share": 1.0,
    "adaptive_selection": False,
}  # fmt: skip
"""Defaults with which the bits were recorded first."""

RUNS: dict[str, tuple[tuple[str, dict[str, Any]], int, dict[str, Any]]] = {
    "building_controller": (("building-3d-v0", {}), 100, {}),
    "c_morl": (TREASURE, 2000, {
        **OLD_C_MORL,
        "num_envs": 2, "rollout_steps": 12, "epochs": 2, "minibatch": 16, "num_parents": 2,
        "selection_episodes": 1, "snapshot_interval": 2, "extension_updates": 3, "hidden": (8,)}),
    "capql": (QUADRATIC, 1000, {
        "num_envs": 4, "batch": 8, "hidden": (8, 8), "warmup_steps": 200, "divisions": 4}),
    "conditioned_sac": (QUADRATIC, 1000, {
        "num_envs": 4, "batch": 8, "hidden": (8, 8), "warmup_steps": 200, "divisions": 4}),
    "do_nothing": (TREASURE, 100, {"idle_action": 0}),
    "envelope_q": (TREASURE, 4000, {
        "encoding": "raw", "collect_steps": 8,
        "num_envs": 4, "updates": 2, "batch": 8, "replay_capacity": 500, "hidden": (8,),
        "warmup_steps": 500}),
    "evolution_strategy": (TREASURE, 4000, {"preferences": 3, "population": 4}),
    "gmorl": (SYSTEM, 3000, {
        "num_envs": 4, "updates": 2, "batch": 16, "replay_capacity": 500, "hidden": (8, 8),
        "warmup_steps": 500}),
    "goal_conditioned_gflownet": (GRID, 900, {
        "batch": 8, "hidden": (8, 8), "archive_capacity": 10, "replay_capacity": 30,
        "replay_warmup": 16}),
    "linucb": (SYSTEM, 1500, {"num_envs": 5, "divisions": 4}),
    "mogfn_al": (GRID, 900, {"max_evaluations": 40, "network": "perceptron"}),
    "mogfn_pc": (GRID, 900, {"batch": 8, "hidden": (8, 8), "archive_capacity": 10}),
    "mo_ppo": (CHAIN, 4000, {"preferences": 3, "num_envs": 4, "hidden": (8,)}),
    "mo_q_learning": (CHAIN, 2000, {"num_envs": 4, "preferences": 5}),
    "mp_mo_q": (CHAIN, 2000, {"num_envs": 4, "preferences": 5}),
    "moreinforce": (GRID, 900, {"batch": 10, "hidden": (8,)}),
    "multi_policy_sac": (TREASURE, 3000, {
        "encoding": "raw",
        "num_envs": 2, "updates": 2, "batch": 16, "replay_capacity": 1000, "divisions": 4,
        "hidden": (8,), "warmup_steps": 500}),
    "neuro_hype": (CHAIN, 2000, {"population": 8}),
    "neuro_moead": (CHAIN, 2000, {"population": 8}),
    "neuro_nsga2": (TREASURE, 4000, {"population": 8}),
    "neuro_nsga3": (CHAIN, 2000, {"population": 8}),
    "nsga2": (GRID, 900, {"batch": 10}),
    "nsga3": (GRID, 900, {"batch": 10}),
    "offloading_heuristic": (SYSTEM, 10, {}),
    "op_gfn": (GRID, 900, {"batch": 8, "hidden": (8, 8), "archive_capacity": 10}),
    "pcn": (TREASURE, 2000, {
        "num_envs": 4, "random_episodes": 8, "updates": 3, "batch": 16, "hidden": 8,
        "explore": 0.5}),
    "pql": (CHAIN, 2000, {"num_envs": 4}),
    "random_search": (TREASURE, 2000, {}),
    "sb3": (TREASURE, 1500, {
        "num_envs": 2, "rollout_steps": 12, "minibatch": 16, "epochs": 2, "hidden": (8,),
        "selection_episodes": 1}),
    "simulated_annealing": (MARGINAL, 3000, {"policies": 3}),
    "uniform_sampling": (GRID, 900, {"batch": 10}),
}  # fmt: skip
"""Per agent: the environment with its arguments, the budget, and settings that differ."""


def machine() -> dict[str, str]:
    """What the bits of a run depend on beside the code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    # Two processors of one name can differ in what they compile to and so in how sums round.
    flags = hashlib.sha256(" ".join(sorted(facts.get("flags", "").split())).encode()).hexdigest()
    names = [facts.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    packages = ("numpy", "torch", "numba", "scipy", "stable-baselines3")
    return {
        "processor": " ".join(names) if facts else platform.processor(),
        "flags": flags[:12],
        **{name: metadata.version(name) for name in packages},
    }


def bits(name: str) -> dict[str, Any]:
    """Steps, and hashes of readings, state, and returns of a short run of an agent."""
    (env_id, kwargs), steps, settings = RUNS[name]
    task = make_task(env_id, kwargs=kwargs)
    entry = AGENTS[name]
    agent = entry.make(task, replace(entry.config(), **settings), total_steps=steps, seed=3)
    readings = {}
    while not agent.finished:
        readings = dict(agent.learn(max(1, steps // 2)))
    solutions = list(agent.solutions())[:8]
    seeds = evaluation_seeds(task.spec, "report", 2)
    episodes = rollout(task, solutions, seeds=seeds)
    return {
        "steps": agent.steps,
        "readings": _hash(readings),
        "state": _hash(agent.state_dict()),
        "returns": _hash(episodes.discounted),
        "mean_return": episodes.discounted.mean(axis=(0, 1)).tolist(),
    }


def _hash(tree: Any) -> str:
    digest = hashlib.sha256()
    _feed(tree, digest)
    return digest.hexdigest()[:24]


def _feed(tree: Any, digest: Any) -> None:
    """Hash a state by content: keys in sorted order, arrays by type, shape and bytes."""
    if isinstance(tree, dict):
        for key in sorted(tree):
            digest.update(f"{key}:".encode())
            _feed(tree[key], digest)
    elif isinstance(tree, list | tuple):
        digest.update(f"[{len(tree)}".encode())
        for item in tree:
            _feed(item, digest)
    elif isinstance(tree, np.ndarray):
        digest.update(f"{tree.dtype}{tree.shape}".encode())
        digest.update(np.ascontiguousarray(tree).tobytes())
    elif isinstance(tree, float | np.floating):
        digest.update(float(tree).hex().encode())
    else:
        digest.update(repr(tree).encode())


NEEDS = {"nsga2": "pymoo", "nsga3": "pymoo", "mogfn_al": "botorch"}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_short_run_keeps_its_bits(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    recorded = recordings(name).get(machine_key())
    if recorded is None:
        pytest.skip(f"no recording of {name} on this machine: {machine()}")
    assert bits(name) == recorded["bits"]


def test_every_recording_has_a_run() -> None:
    assert {file.stem for file in BITS.glob("*.json")} == set(RUNS)


def machine_key() -> str:
    """A short name of this machine."""
    return _hash(machine())[:12]


def recordings(name: str) -> dict[str, dict[str, Any]]:
    """The recordings of an agent by machine."""
    file = BITS / f"{name}.json"
    content: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    return content


def record(name: str, *, keep_others: bool) -> None:
    """Write the bits of an agent on this machine."""
    others = recordings(name) if keep_others else {}
    content = {**others, machine_key(): {"machine": machine(), "bits": bits(name)}}
    BITS.mkdir(exist_ok=True)
    (BITS / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main(arguments: list[str]) -> None:
    """Print or record the bits of the agents named."""
    for name in [each for each in arguments if not each.startswith("--")] or sorted(RUNS):
        if "--write" in arguments:
            record(name, keep_others="--only" not in arguments)
        sys.stdout.write(json.dumps({name: bits(name)}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
