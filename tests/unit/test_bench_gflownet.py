"""The benchmarks of samplers compute what they say; how fast anything is, is not tested here."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from morl.experiments.bench import gflownet, samplers
from morl.types import EnvSpec, KnownFront, Objective

FRONT = np.array([[1.0, 0.5], [0.5, 1.0]])
SPEC = EnvSpec(
    id="pieces-v0",
    objectives=(Objective("a"), Objective("b")),
    reference_point=(0.0, 0.0),
    discount=1.0,
    known_front=KnownFront(lambda _: FRONT, "exact", "by hand"),
)


def test_the_frozen_policy_stops_with_the_odds_of_its_bias() -> None:
    learner = gflownet.grid_learner(2, height=4)
    gflownet.freeze(learner)
    outputs = learner.network.outputs(np.zeros((1, 0), np.float32), learner.core.initial(1))
    assert outputs[0].tolist() == [0.0, 0.0, gflownet.STOP_BIAS]


def test_residuals_of_given_parameters_are_those_worked_out_by_hand() -> None:
    learner = gflownet.grid_learner(2, height=4)
    sizes = [8, 64, 64, 64, 3]
    said = {
        "weights": [np.zeros(shape).tolist() for shape in pairwise(sizes)],
        "biases": [*[[0.0] * 64] * 3, [0.0, 0.0, float(np.log(2.0))]],
        "log_z": 0.5,
        # Stop at once; one to the right, one up, stop: the cell (1, 1) has two parents.
        "actions": [[2], [0, 1, 2]],
    }
    expected = [0.5 + np.log(0.5), 0.5 + 2 * np.log(0.25) + np.log(0.5) - np.log(0.5)]
    assert gflownet.our_residuals(learner, said).tolist() == pytest.approx(expected, abs=1e-6)


def test_readings_of_a_front_compare_it_with_the_exact_one() -> None:
    whole = samplers.front_readings(np.array([[1.0, 0.5], [0.5, 1.0], [0.2, 0.2]]), SPEC)
    assert (whole["hypervolume"], whole["ratio"], whole["igd_plus"]) == (0.75, 1.0, 0.0)
    half = samplers.front_readings(FRONT[:1], SPEC)
    assert half["ratio"] == pytest.approx(0.5 / 0.75, abs=1e-5)
    assert half["igd_plus"] == pytest.approx(0.25)  # nothing, and half a unit short


def test_means_are_over_seeds_alone() -> None:
    row = {"task": "t", "agent": "a", "evaluations": 10}
    rows = [{**row, "seed": 0, "x": 1.0}, {**row, "seed": 1, "x": 3.0}]
    rows.append({**row, "seed": 0, "evaluations": 20, "x": 7.0})
    found = samplers.means(rows)
    assert [(one["evaluations"], one["seeds"], one["x"]) for one in found] == [
        (10, 2, 2.0),
        (20, 1, 7.0),
    ]


def test_a_family_is_trained_read_and_written(tmp_path: Path) -> None:
    words = ("env=hypergrid-v0", "env.kwargs.height=5")
    trial = samplers.Trial(
        "small",
        {
            "op_gfn": (*words, "agent=op_gfn", "agent.batch=8", "agent.hidden=[8]"),
            "uniform_sampling": (*words, "agent=uniform_sampling", "agent.batch=8"),
        },
        (16, 32),
    )
    lines: list[str] = []
    samplers.main(
        ["--only", "small", "--seeds", "1", "--output", str(tmp_path)],
        families={"small": (trial,)},
        say=lines.append,
    )
    report = json.loads((tmp_path / "samplers-small.json").read_text())
    counts = [(row["agent"], row["evaluations"]) for row in report["rows"]]
    assert counts == [
        ("op_gfn", 16), ("op_gfn", 32), ("uniform_sampling", 16), ("uniform_sampling", 32),
    ]  # fmt: skip
    last = report["rows"][1]
    assert 0.0 < last["pareto_mass"] <= 1.0
    assert 0.0 < last["sampled_ratio"] <= 1.0
    assert "pareto_mass" not in report["rows"][3], "even choices are no sampler"
    assert report["command"].endswith("--only small --seeds 1")
    assert lines
