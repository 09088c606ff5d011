"""Add runs to a board: each is recomputed first, copied whole, and then becomes a line."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from morl import storage
from morl.checkpoint import list_checkpoints
from morl.experiments.comparison import result_files
from morl.experiments.config import ConfigError
from morl.experiments.figures import means_and_errors
from morl.experiments.leaderboard import archives
from morl.experiments.leaderboard.checks import FILES, checked
from morl.experiments.leaderboard.ledger import Board, LeaderboardError, Refusal
from morl.experiments.run import CHECKPOINTS, TIMINGS
from morl.experiments.suites import load_suite, suite_cells
from morl.result import RESULT_FILE, RunResult
from morl.types import MorlError

Say = Callable[[str], None]

DIGITS = 9
"""Significant digits of the front that the ledger shows; the exact one is in the files."""


@dataclass
class Intake:
    """What became of the runs that were to be added.

    Attributes:
        added: run ids.
        known: run ids that were there already, with the same content.
        refused: what was not added, and why.
    """

    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """What the ledger already has of one run id."""

    result_sha256: str
    failed: bool


class _Index:
    """What is on the board, as far as an addition must know it."""

    def __init__(self, board: Board) -> None:
        self.runs: dict[str, _Known] = {}
        self.variants: dict[tuple[str, str], str] = {}
        self.seeds: dict[tuple[str, str, int], str] = {}
        for line in board.read().lines:
            if line.content.get("kind") == "run":
                with contextlib.suppress(KeyError, TypeError):  # the build names such lines
                    self.note(line.content)

    def note(self, content: Mapping[str, Any]) -> None:
        run_id, task, entry = content["run_id"], content["task"], content["entry"]
        record = content["record"]
        self.runs[run_id] = _Known(
            content["files"][RESULT_FILE]["sha256"], record["status"] != "completed"
        )
        self.variants.setdefault((task, entry), content["variant"])
        self.seeds.setdefault((task, entry, record["seed"]), run_id)


def add(
    board: Board,
    paths: Iterable[Path],
    *,
    entry: str | None = None,
    policies: bool = False,
    say: Say = print,
) -> Intake:
    """Add runs; what does not belong is refused with the reason, the others are added.

    Args:
        board: where to.
        paths: folders of runs, folders of those, or archives of them.
        entry: name of the row; by default that of the suite's agent with these settings, or the
            agent's own.
        policies: whether to keep the policies too (the last checkpoint), so that others can play
            the episodes again.
        say: takes a line for every run.

    Returns:
        What became of each.

    Raises:
        StorageError: a path does not exist, or the board cannot be written.
    """
    found = Intake()
    index = _Index(board)
    rows = _Rows(board, entry)
    for path in paths:
        with _run_folders(path, found, say) as folders:
            for folder in folders:
                _add_one(board, folder, index, rows, found, policies=policies, say=say)
    return found


def variant_of(config: Mapping[str, Any]) -> str:
    """Hash of a configuration without its seed: runs of one row differ in nothing else."""
    decided = {name: value for name, value in config.items() if name != "seed"}
    return hashlib.sha256(storage.json_bytes(decided)).hexdigest()


def front_for_display(result: RunResult) -> dict[str, Any]:
    """Mean returns of each policy with standard errors, to `DIGITS` digits, as plain data."""
    arrays = result.arrays
    points, errors = means_and_errors(arrays.report_discounted)
    undiscounted, _ = means_and_errors(arrays.report_undiscounted)
    return {
        "points": _rounded(points),
        "errors": _rounded(errors),
        "undiscounted": _rounded(undiscounted),
    }


def _rounded(table: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float]]:
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in table.tolist()]


class _Rows:
    """Names the row that a run belongs to."""

    def __init__(self, board: Board, entry: str | None) -> None:
        self._entry = entry
        self._board = board
        self._of_suite: dict[str, str] | None = None

    def name(self, result: RunResult) -> str:
        if self._entry is not None:
            return self._entry
        if self._of_suite is None:
            self._of_suite = _suite_variants(self._board.suite["name"])
        return self._of_suite.get(variant_of(result.config), result.algo.name)


def _suite_variants(name: str) -> dict[str, str]:
    """Row by configuration, as far as the suite is at hand."""
    try:
        cells = suite_cells(load_suite(name), seeds=[0])
    except ConfigError:  # a suite from a file of its own, or of another version
        return {}
    return {variant_of(cell.config.deciding()): cell.entry for cell in cells}


@contextlib.contextmanager
def _run_folders(path: Path, found: Intake, say: Say) -> Iterator[Sequence[Path]]:
    """The folders of runs in a path; those of an archive are gone afterwards."""
    with contextlib.ExitStack() as stack:
        try:
            if archives.is_archive(path):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                archives.unpack(path, folder)
            else:
                folder = path
            folders = [file.parent for file in result_files([folder])]
        except LeaderboardError as error:
            _refuse(str(path), error, found, say)
            folders = []
        yield folders


def _add_one(
    board: Board,
    folder: Path,
    index: _Index,
    rows: _Rows,
    found: Intake,
    *,
    policies: bool,
    say: Say,
) -> None:
    try:
        result, task = checked(folder, board.tasks)
        content = _content(result, folder, task, rows.name(result))
        if _is_known(content, index):
            found.known.append(result.run_id)
            say(f"there already: {_describe(content)}")
            return
        content["files"] |= _copy(board, folder, content, policies=policies)
        board.append("run", content)
    except MorlError as error:
        _refuse(str(folder), error, found, say)
        return
    index.note(content)
    found.added.append(result.run_id)
    say(f"added: {_describe(content)}")


def _refuse(what: str, error: Exception, found: Intake, say: Say) -> None:
    reason = str(error).removeprefix(f"{what}: ")
    found.refused.append(Refusal(what, reason))
    say(f"refused: {what}: {reason}")


def _describe(content: Mapping[str, Any]) -> str:
    record = content["record"]
    return f"{content['task']}, {content['entry']}, seed {record['seed']}, run {content['run_id']}"


def _content(result: RunResult, folder: Path, task: str, entry: str) -> dict[str, Any]:
    return {
        "run_id": result.run_id,
        "task": task,
        "entry": entry,
        "variant": variant_of(result.config),
        "record": storage.read_json(folder / RESULT_FILE),
        "front": front_for_display(result),
        "clock": _clock(result, folder),
        "files": {name: _fingerprint(folder / name) for name in FILES},
    }


def _fingerprint(file: Path) -> dict[str, Any]:
    return {"sha256": storage.sha256_file(file), "bytes": file.stat().st_size}


def _clock(result: RunResult, folder: Path) -> list[float] | None:
    """Seconds on the wall at each point of the learning curve, if the run has kept them."""
    file = folder / TIMINGS
    if not file.is_file() or file.is_symlink():
        return None
    lines, _ = storage.read_json_lines(file)
    seconds = {
        line["step"]: line["time/wall_s"]
        for line in lines
        if isinstance(line.get("step"), int) and isinstance(line.get("time/wall_s"), float)
    }
    clock = [seconds.get(int(step)) for step in result.curve.get("steps", ())]
    known = [second for second in clock if second is not None]
    return known if known and len(known) == len(clock) else None


def _is_known(content: Mapping[str, Any], index: _Index) -> bool:
    """Whether the very same is on the board.

    Raises:
        LeaderboardError: something else is in its place.
    """
    run_id, task, entry = content["run_id"], content["task"], content["entry"]
    seed = content["record"]["seed"]
    there = index.runs.get(run_id)
    if there is not None and there.result_sha256 == content["files"][RESULT_FILE]["sha256"]:
        return True
    if there is not None and not there.failed:
        raise LeaderboardError(f"run {run_id} is on the board already, with another result")
    if index.variants.get((task, entry), content["variant"]) != content["variant"]:
        raise LeaderboardError(
            f"{entry} has other settings on {task}: give this row a name of its own (--entry NAME)"
        )
    other = index.seeds.get((task, entry, seed), run_id)
    if other != run_id:
        raise LeaderboardError(
            f"seed {seed} of {entry} on {task} is on the board already: run {other}"
        )
    return False


def _copy(
    board: Board, folder: Path, content: Mapping[str, Any], *, policies: bool
) -> dict[str, Any]:
    """Put a run's files on the board, all of them or none.

    Returns:
        The further files beside those that every run has.
    """
    files = content["files"]
    target = board.run_folder(content["run_id"], files[RESULT_FILE]["sha256"])
    building = storage.temporary_name(storage.make_folder(target.parent))
    try:
        storage.make_folder(building)
        for name in FILES:
            data = storage.read_bytes(folder / name)
            if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
                raise LeaderboardError(f"{folder / name} changed while it was read")
            storage.atomic_write(building / name, data)
        further = _copy_policies(folder, building) if policies else {}
        _publish(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return further


def _copy_policies(folder: Path, building: Path) -> dict[str, Any]:
    """Copy the newest checkpoint."""
    found = list_checkpoints(folder / CHECKPOINTS)
    if not found:
        raise LeaderboardError(f"{folder}: there is no checkpoint whose policies could be kept")
    newest = found[0]
    copied = storage.make_folder(building / CHECKPOINTS / newest.name)
    further = {}
    for file in sorted(newest.iterdir()):
        if not file.is_file() or file.is_symlink():
            raise LeaderboardError(f"{file} is not a plain file")
        storage.atomic_write(copied / file.name, storage.read_bytes(file))
        further[f"{CHECKPOINTS}/{newest.name}/{file.name}"] = _fingerprint(copied / file.name)
    return further


def _publish(building: Path, target: Path) -> None:
    """Rename a folder into its place; where a copy is there already, add what it lacks."""
    with storage.typed_errors(target):
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            for file in (path for path in building.rglob("*") if path.is_file()):
                place = target / file.relative_to(building)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)  # equal content: the name of the folder says so
    storage.sync_folder(target.parent)
