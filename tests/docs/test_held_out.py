"""The table of held-out problems is what its records say."""

from __future__ import annotations

import json
from pathlib import Path

from morl.experiments.bench.curves import table

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_shows_the_table_of_its_records() -> None:
    records = (ROOT / "experiments" / "results" / "random-momdp.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in records]
    assert {row["env"] for row in rows} == {"random-momdp-v0"}
    assert {row["kwargs"]["seed"] for row in rows} <= set(range(100, 120))
    assert table(rows) in (ROOT / "docs" / "held-out.md").read_text()
