"""The comparison of envelope Q-learning: equal budgets, every agent, one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from morl import storage
from morl.experiments.bench import envelope
from morl.experiments.bench.envelope import Comparison


@pytest.mark.slow
def test_the_report_holds_every_agent_at_the_same_budget(tmp_path: Path) -> None:
    comparison = Comparison("fruit-tree-v0", 12_000, "fruit-tree-c_morl")
    said: list[str] = []
    arguments = ["--seeds", "1", "--output", str(tmp_path)]
    assert envelope.main(arguments, comparisons=[comparison], say=said.append) == 0
    rows = storage.read_json(tmp_path / "envelope.json")["rows"]
    assert [row["agent"] for row in rows] == ["envelope_q", "c_morl", "random_search"]
    assert all(0 < row["steps"] <= 12_000 and row["hypervolume"] > 0 for row in rows)
    assert "envelope_q" in said[-1]
