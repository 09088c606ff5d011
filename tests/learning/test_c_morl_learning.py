"""C-MORL learns: fronts on the report stream, measured against exact ones.

Thresholds keep a margin below the worst of many seeds, as other processors round differently and
then learn differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from morl import indicators
from morl.agents.c_morl import CMORL, Config
from morl.envs import make_task
from morl.evaluation import evaluate, evaluation_seeds
from morl.experiments.bench.learning import composed
from morl.experiments.run import run

TREASURE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "entropy_coefficient": 0.03,
    "minibatch": 128,
    "rollout_steps": 64,
    "initial_fraction": 0.3,
    "snapshot_interval": 1,
    "selection_episodes": 1,
}
FRUIT: dict[str, Any] = {
    "preference_divisions": 2,
    "learning_rate": 1e-3,
    "extension_learning_rate": 2e-3,
    "entropy_coefficient": 0.02,
    "minibatch": 128,
    "rollout_steps": 36,
    "initial_fraction": 0.1,
    "num_parents": 10,
    "snapshot_interval": 1,
    "selection_episodes": 1,
}


def share_of_exact(
    env_id: str, config: Config, *, steps: int, seed: int, kwargs: dict[str, Any] | None = None
) -> float:
    """Hypervolume on the report stream over that of the exact front."""
    task = make_task(env_id, kwargs=kwargs)
    agent = CMORL(task, config, total_steps=steps, seed=seed)
    while not agent.finished:
        agent.learn(steps)
    assert agent.steps <= steps
    spec = task.spec
    found = evaluate(
        task,
        agent.solutions(),
        selection_seeds=evaluation_seeds(spec, "selection", 2),
        report_seeds=evaluation_seeds(spec, "report", 2),
    )
    assert spec.known_front is not None
    exact = spec.known_front.points(spec.discount)
    return indicators.hypervolume_ratio(found.report.points, exact, spec.reference_point)


@pytest.mark.parametrize("seed", range(3))
def test_nine_tenths_of_deep_sea_treasure(seed: int) -> None:
    # The largest treasure alone is worth 76 %; ten other seeds reached 97 to 100 %.
    share = share_of_exact("deep-sea-treasure-v0", Config(**TREASURE), steps=200_000, seed=seed)
    assert share >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_three_fifths_of_a_small_fruit_tree(seed: int) -> None:
    # A tenth of the steps reaches 28 %; six seeds reached 70 to 82 %.
    share = share_of_exact(
        "fruit-tree-v0", Config(**FRUIT), steps=100_000, seed=seed, kwargs={"depth": 5}
    )
    assert share >= 0.6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_fifth_of_the_budget_reaches_the_published_fruit_tree_fronts(
    seed: int, tmp_path: Path
) -> None:
    # The authors' own runs with 3.9 M steps: 30,022 and 31,153. Six seeds reached 33,700 to
    # 40,300 with this budget.
    config = composed("fruit-tree-c_morl", seed=seed, runs=tmp_path, overrides=["steps=800000"])
    result = run(config, say=lambda _: None)
    assert result.budget.env_steps <= 800_000
    assert result.metrics["hypervolume"].value >= 29_500.0
