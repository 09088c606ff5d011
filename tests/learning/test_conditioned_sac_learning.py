"""Conditioned SAC learns linear-quadratic fronts, and does not when the actor goes downhill."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from morl.agents.learners.actor_critic.perceptrons import Perceptrons
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.indicators import hypervolume_ratio
from morl.registry import AGENTS

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"hidden": (64, 64), "batch": 64}
"""A small network, so that the test takes seconds."""


def ratio(name: str, seed: int, *, steps: int, **settings: Any) -> float:
    """Hypervolume of the agent's own solutions, as a share of the exact one."""
    task, entry = make_task("linear-quadratic-v0"), AGENTS[name]
    config = replace(entry.config(), **SETTINGS, **settings)
    agent = entry.make(task, config, total_steps=steps, seed=seed)
    agent.learn(steps)
    seeds = evaluation_seeds(task.spec, "report", 4)
    returns = rollout(task, agent.solutions(), seeds=seeds).discounted.mean(axis=1)
    assert task.spec.known_front is not None
    front = task.spec.known_front.points(task.spec.discount)
    return float(np.asarray(hypervolume_ratio(returns, front, task.spec.reference_point)))


@pytest.mark.parametrize("seed", [101, 102])
def test_it_reaches_the_exact_front(seed: int) -> None:
    assert ratio("conditioned_sac", seed, steps=8_000) >= 0.9


def test_it_does_not_with_the_actors_sign_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Perceptrons.backward

    def flipped(self: Perceptrons, delta: Any) -> None:
        honest(self, -delta if len(self.weights[0]) == 1 else delta)

    monkeypatch.setattr(Perceptrons, "backward", flipped)
    assert ratio("conditioned_sac", 101, steps=4_000) < 0.8
