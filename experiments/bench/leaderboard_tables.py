"""``python -m morl.experiments.bench.leaderboard_tables``: tables and picture of the boards we ran.

Reads what `morl leaderboard build` wrote for each suite (``leaderboard.json``, kept as
``experiments/results/leaderboards/SUITE.json``), writes the tables of ``docs/results.md``, the
table of the README, and a picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from morl import storage
from morl.experiments.bench.measurement import RESULTS
from morl.experiments.datasheets import save_small
from morl.experiments.figures import COLOURS
from morl.experiments.front_pages import section_replaced, table
from morl.types import MorlError

ROOT = Path(__file__).resolve().parents[2]
BOARDS = RESULTS / "leaderboards"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "leaderboard.png"

MAIN = "discrete"
"""The suite of the README and of the picture."""

FRONTS = ("exact", "best-known", "declared front")
"""Anchors that are known fronts; the others are policies."""

BEGIN, END = "<!-- tables: written by leaderboard_tables -->", "<!-- end of tables -->"

Board = Mapping[str, Any]
"""The content of a ``leaderboard.json``."""


class BoardTablesError(MorlError):
    """A page without marks, or a board that cannot be shown; the message says what to do."""


def load_boards(folder: Path = BOARDS) -> dict[str, Board]:
    """Boards by name of their suite, the main one first.

    Raises:
        BoardTablesError: there is none.
    """
    found = {path.stem: storage.read_json(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise BoardTablesError(
            f"no boards in {folder}: put leaderboard.json of `morl leaderboard build` there"
        )
    return dict(sorted(found.items(), key=lambda item: item[0] != MAIN))


def task_table(board: Board, task: str) -> str:
    """Rows of one task, best first, then its anchors.

    Args:
        board: of a suite.
        task: name of one of its tasks.
    """
    entries = sorted(board["tasks"][task]["entries"], key=_hypervolume, reverse=True)
    lines = [
        [
            _rank(entry),
            f"`{entry['entry']}`",
            _estimate(entry, "hypervolume"),
            _estimate(entry, "hypervolume_ratio", digits=3),
            _estimate(entry, "expected_utility"),
            str(entry["seeds"]),
            _letters(board["tasks"][task]["groups"], entry["entry"]),
        ]
        for entry in entries
    ]
    lines += [
        ["", f"*{name}*", _short(value), "", "", "", ""]
        for name, value in sorted(
            board["tasks"][task]["anchors"].items(), key=lambda item: -item[1]
        )
    ]
    head = [
        "rank",
        "row",
        "hypervolume",
        "of the known front",
        "expected utility",
        "seeds",
        "group",
    ]
    return table(head, lines)


def overall_table(board: Board) -> str:
    """Rows over all tasks."""
    lines = [
        [
            _rank(row),
            f"`{row['entry']}`",
            f"{row['mean_rank']:.2f}",
            "-" if row["score"] is None else _between(*row["score"], digits=3),
            str(row["seeds"]),
        ]
        for row in board["overall"]
    ]
    return table(["rank", "row", "mean rank", "score", "seeds"], lines)


def summary_table(board: Board) -> str:
    """One line a task, one column a row: interquartile means of hypervolume, rank 1 in bold."""
    rows = _rows(board)
    lines = []
    for name, task in board["tasks"].items():
        cells = {entry["entry"]: entry for entry in task["entries"]}
        anchors = [task["anchors"][front] for front in FRONTS if front in task["anchors"]]
        lines.append(
            [
                f"`{name}`",
                *(_cell(cells.get(row)) for row in rows),
                _short(anchors[0]) if anchors else "-",
            ]
        )
    return table(["task", *(f"`{row}`" for row in rows), "known front"], lines)


def page_text(boards: Mapping[str, Board]) -> str:
    """Sections of all boards."""
    parts = []
    for board in boards.values():
        suite = board["suite"]
        parts += [f"## {suite['title']}", suite["description"]]
        parts.append(f"Suite `{suite['name']}/{suite['version']}`, {board['runs']} runs.")
        if board["overall"]:
            parts += ["### Over all tasks", overall_table(board)]
        for task in board["tasks"]:
            if board["tasks"][task]["entries"]:
                parts += [f"### {suite['name']}: {task}", task_table(board, task)]
    return "\n\n".join(parts)


def picture(board: Board) -> Figure:
    """Share of the known front's hypervolume: interquartile mean and interval of every row."""
    tasks = {
        name: task
        for name, task in board["tasks"].items()
        if any("hypervolume_ratio" in entry["indicators"] for entry in task["entries"])
    }
    rows = _rows(board)
    figure = Figure(figsize=(9.0, 0.9 + 0.62 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    for place, task in enumerate(tasks.values()):
        cells = {entry["entry"]: entry["indicators"] for entry in task["entries"]}
        for index, row in enumerate(rows):
            found = cells.get(row, {}).get("hypervolume_ratio")
            if found is None:
                continue
            y = place + 0.62 * ((index + 0.5) / len(rows) - 0.5)
            low, high = found["interval"] or (found["iqm"], found["iqm"])
            colour = COLOURS[index % len(COLOURS)]
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, alpha=0.6)
            axes.plot([found["iqm"]], [y], "o", color=colour, markersize=6)
    for index, row in enumerate(rows):
        axes.plot([], [], "o-", color=COLOURS[index % len(COLOURS)], label=row)
    axes.axvline(1.0, color="#1c2430", linewidth=0.8)
    axes.set_yticks(range(len(tasks)), list(tasks))
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    axes.set_xlabel(
        "hypervolume, share of the known front's; mean of the middle half of seeds, 95 %"
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _rows(board: Board) -> list[str]:
    """Names of rows, those in most tasks first, then by mean rank."""
    count: dict[str, int] = {}
    for task in board["tasks"].values():
        for entry in task["entries"]:
            count[entry["entry"]] = count.get(entry["entry"], 0) + 1
    rank = {row["entry"]: row["mean_rank"] for row in board["overall"]}
    return sorted(count, key=lambda row: (rank.get(row, float("inf")), -count[row], row))


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    text = _short(_hypervolume(entry))
    return f"**{text}**" if entry["rank"] == 1 else text


def _hypervolume(entry: Mapping[str, Any]) -> float:
    return float(entry["indicators"].get("hypervolume", {"iqm": 0.0})["iqm"])


def _rank(row: Mapping[str, Any]) -> str:
    if row["rank"] is None:
        return "-"
    return f"{row['rank']}?" if row["standing"] == "provisional" else str(row["rank"])


def _estimate(entry: Mapping[str, Any], name: str, *, digits: int = 4) -> str:
    found = entry["indicators"].get(name)
    if found is None:
        return "-"
    if not found["interval"]:
        return _short(found["iqm"], digits=digits)
    return _between(found["iqm"], *found["interval"], digits=digits)


def _letters(groups: Mapping[str, Sequence[str]], row: str) -> str:
    return "".join(sorted(letter for letter, rows in groups.items() if row in rows)) or "-"


def _between(middle: float, low: float, high: float, *, digits: int) -> str:
    shown = [_short(value, digits=digits) for value in (middle, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _short(value: float, *, digits: int = 4) -> str:
    """To some significant digits, with separators where that is readable."""
    if value == 0.0:
        return "0"
    if 1e3 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def replaced(text: str, content: str, *, where: Path) -> str:
    """A page with other content between its marks.

    Raises:
        BoardTablesError: it has no marks.
    """
    found = section_replaced(text, content, begin=BEGIN, end=END)
    if found is None:
        raise BoardTablesError(f"{where} lacks the marks {BEGIN} and {END}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        0; errors are raised.
    """
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.leaderboard_tables", description=__doc__
    )
    parser.add_argument("--boards", type=Path, default=BOARDS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    boards = load_boards(options.boards)
    if MAIN not in boards:
        raise BoardTablesError(f"{options.boards} has no {MAIN}.json, which the README shows")
    for path, content in (
        (options.page, page_text(boards)),
        (options.readme, summary_table(boards[MAIN])),
    ):
        storage.atomic_write(
            path, replaced(path.read_text("utf-8"), content, where=path).encode("utf-8")
        )
    save_small(picture(boards[MAIN]), options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
