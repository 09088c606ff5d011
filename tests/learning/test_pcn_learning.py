"""Pareto conditioned networks follow their commands, and not with a flipped update."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.learners.returns import network
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.indicators import hypervolume
from morl.registry import AGENTS


def hypervolume_on_treasure(steps: int, seed: int = 101) -> float:
    task, entry = make_task("deep-sea-treasure-concave-v0"), AGENTS["pcn"]
    learner = entry.make(task, entry.config(), total_steps=steps, seed=seed)
    learner.learn(steps)
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, learner.solutions(), seeds=seeds).discounted.mean(axis=1)
    return float(hypervolume(returns, task.spec.reference_point).value)


def test_it_learns_to_follow_commands() -> None:
    assert hypervolume_on_treasure(20_000) > THRESHOLD


def test_it_does_not_with_the_update_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    right = network.Adam.step

    def flipped(self: network.Adam, gradients: network.Parameters) -> None:
        right(self, {key: np.negative(value) for key, value in gradients.items()})

    monkeypatch.setattr(network.Adam, "step", flipped)
    assert hypervolume_on_treasure(20_000) < THRESHOLD


THRESHOLD = 2500.0
