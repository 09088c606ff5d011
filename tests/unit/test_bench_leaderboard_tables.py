"""Tables of boards show what the boards say, in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from morl.experiments.bench import leaderboard_tables as tables


def entry(
    name: str, hypervolume: float, *, rank: int | None, standing: str = "ranked", seeds: int = 10
) -> dict[str, Any]:
    interval = [hypervolume - 1.0, hypervolume + 1.0]
    return {
        "entry": name,
        "rank": rank,
        "standing": standing,
        "seeds": seeds,
        "failed": 0,
        "indicators": {
            "hypervolume": {"iqm": hypervolume, "interval": interval},
            "hypervolume_ratio": {"iqm": hypervolume / 200.0, "interval": [0.1, 0.9]},
            "expected_utility": {"iqm": 0.0, "interval": None},
        },
    }


def board() -> dict[str, Any]:
    return {
        "suite": {"name": "discrete", "version": 1, "title": "Discrete", "description": "Small."},
        "runs": 27,
        "overall": [
            {"entry": "good", "rank": 1, "standing": "ranked", "mean_rank": 1.0, "seeds": 10,
             "score": [0.5, 0.25, 0.75]},
            {"entry": "poor", "rank": None, "standing": "unranked", "mean_rank": 1.5, "seeds": 3,
             "score": None},
        ],
        "tasks": {
            "here-v0": {
                "entries": [
                    entry("poor", 50.0, rank=None, standing="unranked", seeds=3),
                    entry("good", 100.0, rank=1),
                ],
                "anchors": {"do-nothing": 10.0, "exact": 200.0},
                "groups": {"a": ["good"], "b": ["good", "poor"]},
            },
            "there-v0": {
                "entries": [entry("good", 123456.0, rank=1, standing="provisional", seeds=5)],
                "anchors": {},
                "groups": {},
            },
            "empty-v0": {"entries": [], "anchors": {}, "groups": {}},
        },
    }  # fmt: skip


def test_a_task_has_its_rows_best_first_and_then_its_anchors():
    lines = tables.task_table(board(), "here-v0").splitlines()[2:]
    assert lines == [
        "| 1 | `good` | 100 (99 to 101) | 0.5 (0.1 to 0.9) | 0 | 10 | ab |",
        "| - | `poor` | 50 (49 to 51) | 0.25 (0.1 to 0.9) | 0 | 3 | b |",
        "|  | *exact* | 200 |  |  |  |  |",
        "|  | *do-nothing* | 10 |  |  |  |  |",
    ]


def test_a_provisional_rank_is_marked():
    assert (
        tables.task_table(board(), "there-v0").splitlines()[2].startswith("| 1? | `good` | 123,456")
    )


def test_the_overall_table_shows_scores_only_where_there_are_some():
    assert tables.overall_table(board()).splitlines()[2:] == [
        "| 1 | `good` | 1.00 | 0.5 (0.25 to 0.75) | 10 |",
        "| - | `poor` | 1.50 | - | 3 |",
    ]


def test_the_summary_has_a_column_for_each_row_and_the_first_ranks_in_bold():
    assert tables.summary_table(board()).splitlines() == [
        "| task | `good` | `poor` | known front |",
        "| --- | --- | --- | --- |",
        "| `here-v0` | **100** | 50 | 200 |",
        "| `there-v0` | **123,456** | - | - |",
        "| `empty-v0` | - | - | - |",
    ]


def test_pages_are_written_between_their_marks_and_nothing_else_changes(tmp_path: Path):
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "discrete.json").write_text(json.dumps(board()))
    pages = {name: tmp_path / name for name in ("results.md", "README.md")}
    for path in pages.values():
        path.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    words = ["--boards", str(boards), "--page", str(pages["results.md"]), "--readme",
             str(pages["README.md"]), "--picture", str(tmp_path / "picture.png")]  # fmt: skip
    assert tables.main(words) == 0
    for path in pages.values():
        text = path.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        assert "`good`" in text
    assert "empty-v0" not in pages["results.md"].read_text()
    assert (tmp_path / "picture.png").stat().st_size > 1000
    again = {path: path.read_bytes() for path in pages.values()}
    assert tables.main(words) == 0
    assert {path: path.read_bytes() for path in pages.values()} == again


def test_a_page_without_marks_and_a_folder_without_boards_are_refused(tmp_path: Path):
    with pytest.raises(tables.BoardTablesError, match=r"page\.md lacks the marks"):
        tables.replaced("nothing", "x", where=Path("page.md"))
    with pytest.raises(tables.BoardTablesError, match=r"no boards in .*leaderboard\.json"):
        tables.load_boards(tmp_path)
    (tmp_path / "smoke.json").write_text(json.dumps(board()))
    with pytest.raises(tables.BoardTablesError, match=r"no discrete\.json"):
        tables.main(["--boards", str(tmp_path)])
