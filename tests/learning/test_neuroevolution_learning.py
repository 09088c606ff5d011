"""Neuroevolution and the evolution strategy find exact fronts, and not where the worst survive."""

from __future__ import annotations

import pytest

from morl.agents import evolution_strategy, neuro_nsga2
from morl.agents.evolution_strategy import moved
from morl.envs import make_task
from morl.evaluation import evaluation_seeds, rollout
from morl.indicators import hypervolume
from morl.registry import AGENTS


def share(agent: str, name: str, steps: int, seed: int = 101) -> float:
    """Hypervolume of the agent's answer, as a share of the exact one."""
    task, entry = make_task(name), AGENTS[agent]
    learner = entry.make(task, entry.config(), total_steps=steps, seed=seed)
    learner.learn(steps)
    seeds = evaluation_seeds(task.spec, "report", 1)
    returns = rollout(task, learner.solutions(), seeds=seeds).discounted.mean(axis=1)
    assert task.spec.known_front is not None
    exact = task.spec.known_front.points(task.spec.discount)
    corner = task.spec.reference_point
    return float(hypervolume(returns, corner).value / hypervolume(exact, corner).value)


@pytest.mark.parametrize("agent", ["neuro_nsga2", "neuro_nsga3", "neuro_hype", "neuro_moead"])
def test_networks_find_the_treasures(agent: str) -> None:
    assert share(agent, "deep-sea-treasure-v0", 100_000) > 0.99
    assert share(agent, "deep-sea-treasure-concave-v0", 100_000) > 0.95


def test_the_strategy_finds_the_fruit() -> None:
    assert share("evolution_strategy", "fruit-tree-v0", 100_000) > 0.95


@pytest.mark.parametrize("agent", ["neuro_nsga2", "evolution_strategy"])
def test_they_learn_continuous_control(agent: str) -> None:
    assert share(agent, "linear-quadratic-v0", 100_000) > 0.9


def test_networks_do_not_where_the_worst_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = neuro_nsga2.by_crowding
    monkeypatch.setattr(neuro_nsga2, "by_crowding", lambda returns, count: honest(-returns, count))
    assert share("neuro_nsga2", "linear-quadratic-v0", 100_000) < 0.5


def test_the_strategy_does_not_where_it_walks_downhill(monkeypatch: pytest.MonkeyPatch) -> None:
    def downhill(means, paths, sigmas, noise, fitness):
        return moved(means, paths, sigmas, noise, -fitness)

    monkeypatch.setattr(evolution_strategy, "moved", downhill)
    assert share("evolution_strategy", "linear-quadratic-v0", 100_000) < 0.7
