"""Three tiers of trust in a record: recomputed, re-evaluated, re-run.

*Recomputed*: every indicator follows from the stored episode returns, to a relative 1e-9.
*Re-evaluated*: the stored policies play the report episodes again; the hypervolume lies within
the stored 99 % interval. *Re-run*: the run is trained again from its record; it ends in the same
bits, or within the 99 % prediction interval of the row's other seeds.
"""

from __future__ import annotations

import math
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import stdtrit

from morl.experiments.config import RunConfig
from morl.experiments.evaluate import play_again
from morl.experiments.fingerprint import code_version
from morl.experiments.leaderboard.checks import FILES, checked
from morl.experiments.leaderboard.intake import Say, front_for_display, variant_of
from morl.experiments.leaderboard.ledger import Board, LeaderboardError, Line
from morl.experiments.run import CHECKPOINTS, run
from morl.result import RESULT_FILE, RunResult
from morl.storage import read_json, sha256_file
from morl.types import MorlError

Tier = Literal["recomputed", "re-evaluated", "re-run"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""From the least to the most that was done."""

INDICATOR = "hypervolume"
CONFIDENCE = 0.99
_POLICY_FILE = re.compile(rf"{CHECKPOINTS}/step-\d+/[\w-]+\.(json|npz)")
LEAST_OTHER_SEEDS = 3
"""Other seeds of a row from which a prediction interval can be made."""


@dataclass(frozen=True)
class Check:
    """What a verification came to.

    Attributes:
        run_id: of the run.
        tier: what was done.
        passed: None where it could not be done.
        message: what was found.
    """

    run_id: str
    tier: Tier
    passed: bool | None
    message: str


def verify_board(
    board: Board, *, tier: Tier = "recomputed", runs: Sequence[str] = (), say: Say = print
) -> list[Check]:
    """Verify the runs of a board, and write down what was found.

    Args:
        board: the board.
        tier: what to do.
        runs: beginnings of the run ids to verify; all by default.
        say: takes a line for every run.

    Returns:
        One check a run.

    Raises:
        LeaderboardError: no run has such an id.
    """
    lines = [line for line in board.read().lines if line.content.get("kind") == "run"]
    chosen = [line for line in lines if not runs or _named(line, runs)]
    if runs and not chosen:
        raise LeaderboardError(f"{board.folder}: no run begins with {', '.join(runs)}")
    checks = []
    for line in chosen:
        check = _check(board, line, lines, tier)
        if check.passed is not None:
            board.append("verification", _record(check, line))
        say(f"{_MARKS[check.passed]}  {_describe(line)}: {check.message}")
        checks.append(check)
    return checks


def verify_folders(
    folders: Iterable[Path], tasks: Mapping[str, Mapping[str, Any]], *, say: Say = print
) -> list[bool]:
    """Recompute runs that are on no board yet.

    Args:
        folders: of runs.
        tasks: that they may be about, by name.
        say: takes a line for every run.

    Returns:
        Whether each passed.
    """
    return [_passes(folder, tasks, say) for folder in folders]


def _passes(folder: Path, tasks: Mapping[str, Mapping[str, Any]], say: Say) -> bool:
    try:
        _, task = checked(folder, tasks)
    except MorlError as error:
        say(f"FAIL  {error}")
        return False
    say(f"ok    {folder}: {task}, all indicators as stored")
    return True


_MARKS = {True: "ok  ", False: "FAIL", None: "skip"}


def _named(line: Line, runs: Sequence[str]) -> bool:
    return any(str(line.content.get("run_id", "")).startswith(run) for run in runs)


def _describe(line: Line) -> str:
    content = line.content
    try:
        seed = content["record"]["seed"]
        return f"{content['task']}, {content['entry']}, seed {seed}, run {content['run_id'][:16]}"
    except (KeyError, TypeError):
        return f"line {line.number}"


def _record(check: Check, line: Line) -> dict[str, Any]:
    return {
        "run_id": check.run_id,
        "result_sha256": line.content["files"][RESULT_FILE]["sha256"],
        "tier": check.tier,
        "passed": check.passed,
        "message": check.message,
        "by": f"morl-suite {code_version()}, {platform.system()} {platform.machine()}",
    }


def _check(board: Board, line: Line, lines: Sequence[Line], tier: Tier) -> Check:
    try:
        run_id = str(line.content["run_id"])
        folder = board.run_folder(run_id, line.content["files"][RESULT_FILE]["sha256"])
    except (KeyError, TypeError, LeaderboardError) as error:
        return Check("", tier, None, f"line {line.number} names no run: {error}")
    try:
        passed, message = _TIERS[tier](board, folder, line, lines)
    except MorlError as error:
        passed, message = False, str(error).removeprefix(f"{folder}: ")
    return Check(run_id, tier, passed, message)


Verdict = tuple[bool | None, str]


def _recompute(board: Board, folder: Path, line: Line, lines: Sequence[Line]) -> Verdict:  # noqa: ARG001 - one signature
    result, task = checked(folder, board.tasks)
    wrong = _line_differences(line, folder, result, task)
    if wrong:
        return False, wrong
    return True, f"{len(result.metrics)} indicators as stored"


def _line_differences(line: Line, folder: Path, result: RunResult, task: str) -> str:
    """What of a line is not what its files say."""
    content = line.content
    said = {
        "record": (content.get("record"), read_json(folder / RESULT_FILE)),
        "run_id": (content.get("run_id"), result.run_id),
        "task": (content.get("task"), task),
        "variant": (content.get("variant"), variant_of(result.config)),
        "front": (content.get("front"), front_for_display(result)),
    }
    differing = [name for name, (stored, found) in said.items() if stored != found]
    altered = [
        name
        for name, file in dict(content["files"]).items()
        if not _is_as_added(folder, name, file["sha256"])
    ]
    parts = [f"{name} in the ledger is not what the files say" for name in differing]
    return "; ".join([*parts, *(f"{name} is missing or was altered" for name in altered)])


def _is_as_added(folder: Path, name: str, sha256: str) -> bool:
    if name not in FILES and _POLICY_FILE.fullmatch(name) is None:
        raise LeaderboardError(f"{name!r} is no file of a run")
    file = folder / name
    return file.is_file() and not file.is_symlink() and sha256_file(file) == sha256


def _re_evaluate(board: Board, folder: Path, line: Line, lines: Sequence[Line]) -> Verdict:
    passed, message = _recompute(board, folder, line, lines)
    if not passed:
        return passed, message
    result = RunResult.load(folder)
    if result.status != "completed":
        return None, f"there is nothing to play: {result.status}"
    if not (folder / CHECKPOINTS).is_dir():
        return None, "its policies are not on the board (add --policies)"
    finding = play_again(result, folder)
    return finding.agrees, f"{finding.subject}: {finding.message}"


def _re_run(board: Board, folder: Path, line: Line, lines: Sequence[Line]) -> Verdict:
    passed, message = _recompute(board, folder, line, lines)
    if not passed:
        return passed, message
    result = RunResult.load(folder)
    if result.status != "completed":
        return None, f"a run that ended otherwise is not trained again: {result.status}"
    with tempfile.TemporaryDirectory() as out:
        config = replace(RunConfig.from_record(result.config), out=out)
        again = run(config, say=lambda _: None)
    if again.arrays == result.arrays:
        return True, "trained again, the same bits"
    return _within_seeds(result, again, _other_values(line, lines))


def _other_values(line: Line, lines: Sequence[Line]) -> list[float]:
    """The indicator of the row's other seeds."""
    own = line.content
    values: dict[int, float] = {}
    for other in lines:
        content = other.content
        same = all(content.get(key) == own.get(key) for key in ("task", "entry", "variant"))
        if same and content.get("run_id") != own["run_id"]:
            metrics = content["record"]["metrics"]
            if INDICATOR in metrics:
                values[content["record"]["seed"]] = float(metrics[INDICATOR]["value"])
    return list(values.values())


def _within_seeds(result: RunResult, again: RunResult, others: Sequence[float]) -> Verdict:
    now = again.metrics[INDICATOR].value
    said = f"trained again, other bits; {INDICATOR} {now:.6g}, stored "
    said += f"{result.metrics[INDICATOR].value:.6g}"
    if len(others) < LEAST_OTHER_SEEDS:
        return None, f"{said}; too few other seeds ({len(others)}) to judge by"
    centre, margin = prediction_interval(others)
    inside = abs(now - centre) <= margin
    stored_inside = abs(result.metrics[INDICATOR].value - centre) <= margin
    said += f", other seeds {centre:.6g} ± {margin:.3g} ({CONFIDENCE:.0%} of further seeds)"
    return inside and stored_inside, said


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where one more value of a normal sample lies with probability `CONFIDENCE`.

    Returns:
        Its middle and half its width.
    """
    count = len(values)
    quantile = float(stdtrit(count - 1, (1.0 + CONFIDENCE) / 2.0))
    spread = float(np.std(values, ddof=1)) * math.sqrt(1.0 + 1.0 / count)
    return float(np.mean(values)), quantile * spread


_TIERS: dict[Tier, Callable[[Board, Path, Line, Sequence[Line]], Verdict]] = {
    "recomputed": _recompute,
    "re-evaluated": _re_evaluate,
    "re-run": _re_run,
}
