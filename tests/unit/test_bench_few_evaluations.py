"""The comparison with few evaluations: equal counts, one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from morl import storage
from morl.experiments.bench import few_evaluations
from morl.experiments.bench.few_evaluations import Contest


def test_searches_spend_the_same_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"uniform_sampling": few_evaluations.SEARCHES["uniform_sampling"]}
    monkeypatch.setattr(few_evaluations, "SEARCHES", chosen)
    contest = Contest("small", "hypergrid-v0", 70, {"height": 6})
    said: list[str] = []
    arguments = ["--seeds", "2", "--output", str(tmp_path)]
    assert few_evaluations.main(arguments, contests=[contest], say=said.append) == 0
    rows = storage.read_json(tmp_path / "few_evaluations.json")["rows"]
    assert [(row["seed"], row["evaluations"]) for row in rows] == [(0, 64), (1, 64)]
    assert all(0.5 < row["ratio"] <= 1.0 for row in rows)
