"""From lines to rows: what is shown, and what is not and why.

A build must survive whatever stands in a ledger. Every value that the pages use is checked here;
a line that does not hold what it should is refused, and the others are shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from morl.experiments.leaderboard import fields
from morl.experiments.leaderboard.checks import FILES
from morl.experiments.leaderboard.ledger import Board, LeaderboardError, Ledger, Line, Refusal
from morl.experiments.leaderboard.tasks import differences
from morl.experiments.leaderboard.verification import TIERS
from morl.experiments.leaderboard.videos import VIDEOS, Video, check_videos, videos_of
from morl.result import RESULT_FILE

_COLUMNS = ("steps", "hypervolume", "expected_utility")

Points = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Row:
    """One run as the pages show it.

    Attributes:
        run_id: of the run.
        task: name of its task.
        entry: name of its row.
        seed: of the run.
        status: as recorded.
        metrics: value and standard error by name.
        curve: columns of the learning curve.
        clock: seconds on the wall at its points, or None.
        points: mean discounted returns, by policy and objective.
        errors: standard errors of those.
        undiscounted: mean undiscounted returns.
        record: the whole record.
        tier: highest tier at which it was verified, or None.
        checked_by: what the verifications found, by tier.
        result_sha256: of its result file.
        videos: of some of its policies.
    """

    run_id: str
    task: str
    entry: str
    seed: int
    status: str
    metrics: Mapping[str, tuple[float, float | None]]
    curve: Mapping[str, Sequence[float]]
    clock: Sequence[float] | None
    points: Points
    errors: Points
    undiscounted: Points
    record: Mapping[str, Any]
    tier: str | None = None
    checked_by: Mapping[str, str] | None = None
    result_sha256: str = ""
    videos: tuple[Video, ...] = ()

    @property
    def completed(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "completed"


@dataclass(frozen=True)
class Rows:
    """The content of a board.

    Attributes:
        shown: one row a run, by task, entry and seed.
        refused: what is not shown.
        torn: lines that a crash left unfinished.
        refused_videos: those of `refused` that are about videos; their runs are shown without.
    """

    shown: tuple[Row, ...]
    refused: tuple[Refusal, ...]
    torn: int
    refused_videos: tuple[Refusal, ...] = ()


def read_rows(board: Board) -> Rows:
    """Sort a board's lines into rows and refusals.

    Raises:
        StorageError: the ledger is unreadable.
    """
    ledger = board.read()
    sorter = _Sorter(board, _verifications(ledger))
    for line in ledger.lines:
        if line.content.get("kind") == "run":
            sorter.take(line)
        elif line.content.get("kind") not in ("verification", VIDEOS):
            sorter.refuse(line, f"unknown kind {line.content.get('kind')!r}")
    refused = (*ledger.refused, *sorter.refused)
    sorter.refused.clear()
    for line in _latest_videos(ledger):
        sorter.take_videos(line)
    videos = tuple(sorter.refused)
    shown = sorted(sorter.rows.values(), key=lambda row: (row.task, row.entry, row.seed))
    return Rows(tuple(shown), (*refused, *videos), ledger.torn, videos)


_Checks = dict[tuple[str, str], dict[str, tuple[bool, str]]]


def _verifications(ledger: Ledger) -> _Checks:
    """The latest verification of each tier, by run id and hash of the result."""
    found: _Checks = {}
    for line in ledger.lines:
        content = line.content
        if content.get("kind") != "verification" or content.get("tier") not in TIERS:
            continue
        key = (str(content.get("run_id")), str(content.get("result_sha256")))
        passed = content.get("passed") is True
        found.setdefault(key, {})[str(content["tier"])] = (passed, str(content.get("message", "")))
    return found


def _latest_videos(ledger: Ledger) -> list[Line]:
    """The lines of videos, of each run the last."""
    found: dict[tuple[str, str], Line] = {}
    for line in ledger.lines:
        if line.content.get("kind") == VIDEOS:
            key = (str(line.content.get("run_id")), str(line.content.get("result_sha256")))
            found[key] = line
    return list(found.values())


class _Sorter:
    """Takes lines in order; the first of two that claim one place has it."""

    def __init__(self, board: Board, checks: _Checks) -> None:
        self.rows: dict[str, Row] = {}
        self.refused: list[Refusal] = []
        self._board = board
        self._checks = checks
        self._variants: dict[tuple[str, str], str] = {}
        self._seeds: dict[tuple[str, str, int], str] = {}

    def refuse(self, line: Line, reason: str) -> None:
        self.refused.append(Refusal(_name(line), reason))

    def take(self, line: Line) -> None:
        try:
            row = _row(line.content, self._board, self._checks)
            self._claim(row, fields.text(line.content, "variant"))
        except LeaderboardError as error:
            self.refuse(line, str(error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            self.refuse(line, f"not a whole record: {detail}")
        else:
            self.rows[row.run_id] = row

    def take_videos(self, line: Line) -> None:
        """Give a run its videos; videos that are not what they were are refused, the run is not."""
        row = self.rows.get(str(line.content.get("run_id")))
        if row is None or row.result_sha256 != line.content.get("result_sha256"):
            return  # why there is no such run was said already
        try:
            videos = videos_of(line.content, points=row.points)
            check_videos(self._board.run_folder(row.run_id, row.result_sha256), videos)
        except LeaderboardError as error:
            self.refuse(line, f"videos: {error}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.refuse(line, f"videos: not a whole record: {error!r}")
        else:
            self.rows[row.run_id] = replace(row, videos=videos)

    def _claim(self, row: Row, variant: str) -> None:
        there = self.rows.get(row.run_id)
        if there is not None and (there.completed or not row.completed):
            raise LeaderboardError(f"duplicate run id {row.run_id}: the first of the two counts")
        first = self._variants.setdefault((row.task, row.entry), variant)
        if first != variant:
            raise LeaderboardError(f"other settings than the first run of {row.entry}")
        holder = self._seeds.setdefault((row.task, row.entry, row.seed), row.run_id)
        if holder != row.run_id:
            raise LeaderboardError(f"duplicate seed {row.seed} of {row.entry}: run {holder} has it")


def _name(line: Line) -> str:
    content = line.content
    run_id = content.get("run_id")
    where = f"line {line.number}"
    return f"{where}, run {run_id[:16]}" if isinstance(run_id, str) else where


def _row(content: Mapping[str, Any], board: Board, checks: _Checks) -> Row:
    record, front = content["record"], content["front"]
    task, entry = fields.text(content, "task"), fields.text(content, "entry")
    if task not in board.tasks:
        raise LeaderboardError(f"{task!r} is no task of this board")
    differing = differences(record, board.tasks[task])
    if differing:
        raise LeaderboardError(f"another protocol than that of {task}: {'; '.join(differing)}")
    run_id = fields.text(content, "run_id")
    sha256 = fields.text(content["files"][RESULT_FILE], "sha256")
    _check_files(board.run_folder(run_id, sha256), content["files"])
    found = checks.get((run_id, sha256), {})
    for tier, (passed, message) in found.items():
        if not passed:
            raise LeaderboardError(f"verification failed ({tier}): {message}")
    count = len(board.tasks[task]["objectives"])
    points = fields.points(front["points"], count)
    curve = {name: fields.numbers(record["curve"].get(name, [])) for name in _COLUMNS}
    if len({len(column) for column in curve.values()}) > 1:
        raise LeaderboardError("columns of the learning curve of different lengths")
    clock = None if content["clock"] is None else fields.numbers(content["clock"])
    _check_shapes(front, points, curve, clock)
    _check_scalars(record, board.tasks[task])
    return Row(
        run_id=run_id,
        task=task,
        entry=entry,
        seed=fields.whole(record["seed"]),
        status=fields.text(record, "status", longest=2000),
        metrics={
            str(name): (fields.number(metric["value"]), fields.optional(metric["standard_error"]))
            for name, metric in record["metrics"].items()
        },
        curve=curve,
        clock=clock,
        points=points,
        errors=fields.points(front["errors"], count),
        undiscounted=fields.points(front["undiscounted"], count),
        record=record,
        tier=next((tier for tier in reversed(TIERS) if tier in found), None),
        checked_by={tier: message for tier, (_, message) in found.items()},
        result_sha256=sha256,
    )


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Are the files there, and what they were when they were added?"""
    for name in FILES:
        try:
            data = (folder / name).read_bytes()
        except OSError:
            raise LeaderboardError(f"{name} is missing in {folder.name}") from None
        if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
            raise LeaderboardError(f"{name} in {folder.name} was altered: its SHA-256 differs")


def _check_shapes(
    front: Mapping[str, Any],
    points: Points,
    curve: Mapping[str, Sequence[float]],
    clock: Sequence[float] | None,
) -> None:
    for name in ("errors", "undiscounted"):
        if len(front[name]) != len(points):
            raise LeaderboardError(f"front.{name} has another number of policies than front.points")
    if clock is not None and len(clock) != len(curve["steps"]):
        raise LeaderboardError("the clock has another number of points than the learning curve")


def _check_scalars(record: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """What pages show of a record beside what becomes a field of the row."""
    for name in ("env_steps", "eval_env_steps"):
        fields.whole(record["budget"][name])
    for name in ("wall_s", "cpu_s"):
        fields.number(record["budget"][name])
    for group in ("algo", "env", "protocol", "provenance", "config"):
        if not isinstance(record[group], dict):
            raise LeaderboardError(f"record.{group} is not an object")
    needed = ["hypervolume"] + (["hypervolume_normalised"] if task["box_low"] else [])
    for name in needed:
        if record["status"] == "completed" and name not in record["metrics"]:
            raise LeaderboardError(f"a completed run without {name}")
