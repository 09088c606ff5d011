"""Runs of a second, for tests. As a script: makes one run, which other processes may kill.

``python short_runs.py OUT STEPS SLEEP`` runs random search on the levers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import levers
import numpy as np

import morl.agents.random_search
from morl.checkpoint import load_checkpoint
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import CHECKPOINTS, METRICS, run, run_folder
from morl.result import RunResult

AGENT = morl.agents.random_search.Config(policies=8, episodes=2)


def config(out: Path, *, steps: int = 4000, **changes: Any) -> RunConfig:
    """A short run; keyword arguments of the environment begin with ``env_``."""
    kwargs = {
        name.removeprefix("env_"): changes.pop(name)
        for name in list(changes)
        if name.startswith("env_")
    }
    env = EnvConfig(levers.SPEC.id, kwargs={"noise": 0.1, **kwargs})
    settings: dict[str, Any] = {
        "agent": "random_search",
        "agent_config": AGENT,
        "selection_episodes": 4,
        "report_episodes": 4,
        "curve_episodes": 2,
        "sync_every": steps // 12,
        **changes,
    }
    return RunConfig(env=env, steps=steps, out=str(out), **settings)


def traces(config: RunConfig) -> dict[str, Any]:
    """Everything of a finished run that must not depend on how it came about."""
    folder = run_folder(config)
    result = RunResult.load(folder)
    checkpoint = load_checkpoint(folder / CHECKPOINTS, config_hash=None)
    agent = checkpoint.state["agent"]
    return {
        "metrics": (folder / METRICS).read_bytes(),
        "front": (folder / "front.npz").read_bytes(),
        "episodes": (folder / "episodes.npz").read_bytes(),
        "curve": dict(result.curve),
        "indicators": dict(result.metrics),
        "eval_env_steps": result.budget.eval_env_steps,
        "step": checkpoint.step,
        "agent": {
            name: value.tobytes() if isinstance(value, np.ndarray) else value
            for name, value in agent.items()
        },
    }


if __name__ == "__main__":
    run(config(Path(sys.argv[1]), steps=int(sys.argv[2]), env_sleep_s=float(sys.argv[3])))
