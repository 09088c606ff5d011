"""Small pinned runs: what the agent computes may change only on purpose.

Tolerances cover other processors, whose compiled sums round differently; anything else that moves
a figure belongs into the changelog under "Results changed". Run as a script, this file writes the
figures anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from morl.agents.c_morl import CMORL, Config
from morl.envs import make_task

FIGURES = Path(__file__).with_name("c_morl.json")

RUNS = {
    "minecart-v0 ipo": ("minecart-v0", "ipo"),
    "deep-sea-treasure-v0 cpo": ("deep-sea-treasure-v0", "cpo"),
    "water-reservoir-v0 ipo": ("water-reservoir-v0", "ipo"),
}


def figures(env_id: str, variant: str) -> dict[str, float]:
    config = Config(
        variant=variant, hidden=(8,), num_envs=4, rollout_steps=16, epochs=2, minibatch=32,
        initial_fraction=0.4, snapshot_interval=3, selection_episodes=2, extension_updates=2,
        num_parents=2, learning_rate=3e-4, extension_learning_rate=3e-4, entropy_coefficient=0.0,
        encoding="raw", selection_share=1.0, adaptive_selection=False, min_updates=1,
    )  # fmt: skip
    agent = CMORL(make_task(env_id, horizon=20), config, total_steps=6000, seed=7)
    metrics = agent.learn(6000)
    parameters = agent.learner.network.rows()
    return {
        **metrics,
        "steps": float(agent.steps),
        "archive/best": float(agent.archive.points.max(axis=0).sum()),
        "parameters/mean": float(parameters.mean()),
        "parameters/scale": float(np.sqrt(np.square(parameters).mean())),
    }


@pytest.mark.parametrize("name", RUNS)
def test_pinned_run(name: str) -> None:
    pinned = json.loads(FIGURES.read_text())[name]
    assert figures(*RUNS[name]) == pytest.approx(pinned, rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    content = {name: figures(*arguments) for name, arguments in RUNS.items()}
    FIGURES.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
