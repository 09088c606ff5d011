"""The benchmark of continuous control appends a row for each evaluation."""

from __future__ import annotations

import json
from pathlib import Path

from morl.experiments.bench.continuous import main


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
