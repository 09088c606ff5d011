"""Learning curves: a row is appended for each evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from morl.envs import make_task
from morl.experiments.bench.curves import exact_hypervolume, main, table


def test_rows_are_appended_for_each_evaluation(tmp_path: Path) -> None:
    output, said = tmp_path / "curve.jsonl", []
    settings = {"hidden": [8], "batch": 8, "divisions": 2, "num_envs": 4, "corners": 0}
    words = [
        "--env", "linear-quadratic-v0", "--kwargs", '{"num_objectives": 3}', "--steps", "80",
        "--every", "40", "--seeds", "5", "6", "--settings", json.dumps(settings),
        "--output", str(output),
    ]  # fmt: skip
    assert main(words, say=said.append) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["seed"], row["steps"]) for row in rows] == [(5, 40), (5, 80), (6, 40), (6, 80)]
    assert [json.loads(line) for line in said] == rows
    assert {row["solutions"] for row in rows} == {6}
    assert all(row["hypervolume"] >= 0.0 and row["learning_cpu_s"] >= 0.0 for row in rows)
    main(words, say=said.append)
    assert len(output.read_text().splitlines()) == 8


def test_problems_of_a_family_run_one_after_the_other(tmp_path: Path) -> None:
    output = tmp_path / "family.jsonl"
    words = [
        "--env", "random-momdp-v0", "--problems", "3", "4", "--agents", "pql", "random_search",
        "--steps", "2000", "--episodes", "4", "--output", str(output),
    ]  # fmt: skip
    assert main(words, say=lambda row: None) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["kwargs"]["seed"], row["agent"]) for row in rows] == [
        (3, "pql"), (3, "random_search"), (4, "pql"), (4, "random_search")
    ]  # fmt: skip
    for row in rows:
        task = make_task("random-momdp-v0", kwargs=row["kwargs"])
        exact = exact_hypervolume(task)
        assert exact is not None
        assert row["share"] == pytest.approx(row["hypervolume"] / exact, abs=1e-3)
        assert len(row["commit"].rstrip("+")) in (0, 12)  # none outside a checkout
    assert rows[0]["share"] == pytest.approx(1.0)


def test_a_task_without_a_known_front_has_no_share() -> None:
    assert exact_hypervolume(make_task("fishwood-v0")) is None


def test_a_table_has_the_best_agent_first_and_the_last_row_of_each_run() -> None:
    def row(agent: str, problem: int, share: float) -> dict[str, object]:
        kwargs = {"seed": problem}
        return {
            "agent": agent, "kwargs": kwargs, "seed": 0, "share": share, "learning_cpu_s": 2.0
        }  # fmt: skip

    rows = [row("a", 1, 0.1), row("a", 1, 0.4), row("a", 2, 0.6), row("b", 1, 0.9)]
    lines = table(rows).splitlines()
    assert lines[2] == "| `b` | 0.900 | nan | 0.900 | 1 | 2.0 |"
    assert lines[3] == "| `a` | 0.500 | 0.100 | 0.400 | 2 | 2.0 |"
