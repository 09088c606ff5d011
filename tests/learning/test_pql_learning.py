"""Pareto Q-learning finds exact fronts in a few thousand steps, and not with flipped rewards."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.learners.tabular import agent as core
from morl.agents.learners.tabular.model import record
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.indicators import hypervolume
from morl.registry import AGENTS


def share(name: str, steps: int, seed: int = 101, **kwargs: object) -> float:
    """Hypervolume of the agent's answer, as a share of the exact one."""
    task, entry = make_task(name, kwargs=kwargs), AGENTS["pql"]
    learner = entry.make(task, entry.config(), total_steps=steps, seed=seed)
    learner.learn(steps)
    seeds = evaluation_seeds(task.spec, "report", 8)
    returns = rollout(task, learner.solutions(), seeds=seeds).discounted.mean(axis=1)
    assert task.spec.known_front is not None
    exact = task.spec.known_front.points(task.spec.discount)
    corner = task.spec.reference_point
    return float(hypervolume(returns, corner).value / hypervolume(exact, corner).value)


@pytest.mark.parametrize("seed", [101, 102, 103])
@pytest.mark.parametrize(
    ("name", "steps"),
    [("deep-sea-treasure-v0", 5000), ("deep-sea-treasure-concave-v0", 5000),
     ("fruit-tree-v0", 5000)],
)  # fmt: skip
def test_it_finds_the_exact_front(name: str, steps: int, seed: int) -> None:
    assert share(name, steps, seed) == pytest.approx(1.0, abs=1e-9)


def test_it_finds_the_front_of_a_stochastic_task() -> None:
    assert share("random-momdp-v0", 20_000, seed=101, num_objectives=2) > 0.95  # seed 0: layered
    assert share("resource-gathering-v0", 50_000) > 0.99


def test_it_does_not_with_the_sign_of_rewards_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def flipped(model, states, actions, rewards, successors, first):
        return record(model, states, actions, -np.asarray(rewards), successors, first)

    monkeypatch.setattr(core, "record", flipped)
    assert share("deep-sea-treasure-concave-v0", 5000) < 0.5
    assert share("random-momdp-v0", 5000, seed=1) < 0.9
