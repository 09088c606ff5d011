from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boards
import pytest

from morl.experiments.bench import leaderboard
from morl.experiments.bench.measurement import RESULTS

DOCS = Path(__file__).parents[2] / "docs" / "leaderboard.md"


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "bench" / "leaderboard.json").read_text())
    return found


def test_killed_writers_lose_nothing_that_they_had_acknowledged() -> None:
    found = leaderboard.killed_writers(writers=3, lines=30, killed=1)
    assert found["acknowledged_and_lost"] == 0
    assert found["refused"] == 0
    assert 60 <= found["acknowledged"] <= found["in_the_ledger"] <= 90


def test_a_made_up_board_shows_all_but_what_was_corrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard, "CORRUPT_SHARE", 0.1)
    found = leaderboard.large_board(40)
    assert (found["records"], found["corrupt"], found["shown"]) == (40, 4, 36)
    assert (found["refused_with_reason"], found["torn"]) == (3, 1)


def test_coverage_of_a_wide_interval_is_wide() -> None:
    rows = leaderboard.coverage(studies=60)
    by_runs = {(row["scores"], row["runs"], row["tasks"]): row["coverage"] for row in rows}
    assert by_runs["normal", 20, 1] > by_runs["normal", 3, 1]
    assert by_runs["normal", 10, 8] > 0.85


def test_a_real_board_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard.shutil, "which", lambda _: None)
    found = leaderboard.real_board(boards.board(tmp_path, *boards.seeds(2)).folder)
    assert found["runs"] == 2
    assert 0.0 < found["site_mb"] < 0.5
    assert "interactive_s" not in found


def test_the_committed_figures_keep_what_the_page_promises(committed: dict[str, Any]) -> None:
    writers, large = committed["killed_writers"], committed["large_board"]
    assert (writers["writers"], writers["lines_each"], writers["killed"]) == (16, 1000, 4)
    assert writers["acknowledged_and_lost"] == 0
    assert large["records"] == 10_000
    assert large["shown"] + large["refused_with_reason"] + large["torn"] == 10_000
    assert large["wall_s"] < 30
    assert committed["bootstrap"]["wall_s"] < 2
    for row in committed["coverage_of_95_percent"]:
        if row["runs"] == 10 and row["tasks"] == 8:
            assert 0.93 <= row["coverage"] <= 0.97
    assert committed["real_board"]["site_mb"] < 6
    assert committed["real_board"]["interactive_s"] < 2


def test_the_page_quotes_the_committed_figures(committed: dict[str, Any]) -> None:
    text = DOCS.read_text("utf-8")
    large = committed["large_board"]
    quoted = [
        f"{committed['killed_writers']['acknowledged']:,} lines acknowledged",
        f"{large['wall_s']} s, {large['cpu_s']} s of CPU; {large['refused_with_reason']} listed",
        f"{committed['bootstrap']['wall_s']:.2f} s",
        f"{committed['real_board']['site_mb']:.1f} MB",
        f"after {committed['real_board']['interactive_s']:.2f} s",
    ]
    assert [quote for quote in quoted if quote not in text] == []
