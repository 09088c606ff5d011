"""The benchmark of samplers: equal counts, and readings of samplers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morl import storage
from morl.agents.uniform_sampling import Config, UniformSampling
from morl.envs import make_task
from morl.experiments.bench import samplers
from morl.experiments.bench.samplers import FAMILIES, Trial
from morl.experiments.compose import compose_only

GRID = ("env=hypergrid-v0", "env.kwargs.height=6")

SMALL = Trial(
    "small",
    {
        "mogfn_pc": (*GRID, "agent=mogfn_pc", "agent.batch=32", "agent.hidden=[16]"),
        "uniform_sampling": (*GRID, "agent=uniform_sampling", "agent.batch=32"),
    },
    (32, 96),
    apart=0.2,
    pools=(64, 256),
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    output: Path = tmp_path_factory.mktemp("figures")
    arguments = ["--only", "small", "--seeds", "2", "--output", str(output)]
    assert samplers.main(arguments, families={"small": (SMALL,)}, say=lambda line: None) == 0
    report = storage.read_json(output / "samplers-small.json")
    assert len(report["means"]) == 4
    return list(report["rows"])


def test_every_agent_is_read_at_every_count(rows: list[dict[str, object]]) -> None:
    read = [(row["agent"], row["seed"], row["evaluations"]) for row in rows]
    assert read == [
        (agent, seed, count)
        for agent in ("mogfn_pc", "uniform_sampling")
        for seed in (0, 1)
        for count in (32, 96)
    ]
    for row in rows:
        assert 0.0 < row["archive_ratio"] <= 1.0  # type: ignore[operator]


def test_samplers_are_read_at_the_end(rows: list[dict[str, object]]) -> None:
    for row in rows:
        assert ("sampled_hypervolume" in row) == (row["evaluations"] == 96)
        assert ("pareto_mass" in row) == (row["evaluations"] == 96 and row["agent"] == "mogfn_pc")
    last = rows[-1]
    assert 0.0 < last["diverse_top_10_reward"] <= last["top_10_reward"]  # type: ignore[operator]


def test_searches_without_a_sampler_are_judged_by_their_archive_alone() -> None:
    pytest.importorskip("pymoo")
    words = (*GRID, "agent=nsga2", "agent.batch=16")
    trial = Trial("small", {"nsga2": words}, (64,))
    found = samplers.train(trial, "nsga2", seed=0, say=lambda line: None)
    assert "archive_hypervolume" in found[0]
    assert not any(key.startswith(("sampled", "top")) for key in found[0])


def test_more_tries_have_better_rewards() -> None:
    task = make_task("hypergrid-v0", kwargs={"height": 6})
    agent = UniformSampling(task, Config(), total_steps=10_000, seed=0)
    found = samplers.pool_readings(agent, (64, 4096), np.random.default_rng(0))
    assert found["best_of_4096_reward"] > found["best_of_64_reward"]
    # With so many tries the best ten are one object again and again.
    assert found["best_of_4096_diversity"] == 0.0
    assert samplers.pool_readings(agent, (), np.random.default_rng(0)) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_trials_are_runs(family: str) -> None:
    for trial in FAMILIES[family]:
        assert list(trial.counts) == sorted(trial.counts)
        for words in trial.agents.values():
            compose_only([*words, "seed=0"])
