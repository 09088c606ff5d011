"""What a result says of itself, compared with what its episodes and settings say.

Everything here is computed again from stored files: nothing is played, nothing is trained. What
these checks cannot see (returns that no policy earned, a learning curve that never was) takes
playing or training again, see `morl.experiments.leaderboard.verification`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from morl.experiments.evaluate import Finding, spec_of, verify
from morl.experiments.leaderboard.ledger import LeaderboardError
from morl.experiments.leaderboard.tasks import task_of_record
from morl.pareto import unique
from morl.registry import ENVS
from morl.result import EPISODES_FILE, FRONT_FILE, RESULT_FILE, RunResult
from morl.storage import json_bytes, read_json

FILES = (RESULT_FILE, FRONT_FILE, EPISODES_FILE)
"""What a run must have."""

MOST_SOLUTIONS = 200
"""Policies that a front may be made of: any number would turn every indicator into one of size."""

_NEEDS_KNOWN_FRONT = frozenset(
    {"igd_plus", "epsilon_additive", "maximum_utility_loss", "hypervolume_ratio"}
)


def require_plain_files(folder: Path) -> None:
    """Refuse a run whose files are missing, or point elsewhere.

    Raises:
        LeaderboardError: names the file.
    """
    for name in FILES:
        file = folder / name
        if file.is_symlink():
            raise LeaderboardError(f"{file} is a link")
        if not file.is_file():
            raise LeaderboardError(f"{folder}: {name} is missing")


def checked(folder: Path, tasks: Mapping[str, Mapping[str, Any]]) -> tuple[RunResult, str]:
    """Read a run and recompute all it says.

    Args:
        folder: holds `FILES`.
        tasks: of the board, by name.

    Returns:
        The result and the name of its task.

    Raises:
        LeaderboardError: it does not belong on the board; says why.
        ResultError: a file was altered or is damaged.
        StorageError: a file cannot be read.
    """
    require_plain_files(folder)
    result = RunResult.load(folder)
    task = task_of_record(read_json(folder / RESULT_FILE), tasks)
    problems = list(contradictions(result, folder))
    if problems:
        raise LeaderboardError(f"{folder}: {'; '.join(problems)}")
    return result, task


def contradictions(result: RunResult, folder: Path) -> Iterator[str]:
    """Everything in a result that something else in it contradicts, in words."""
    yield from _claims(result)
    yield from _settings(result)
    yield from _budget(result)
    if result.status == "completed":
        yield from _episodes(result)
        yield from _front(result)
        yield from _indicators(result, folder)
    else:
        yield from _failure(result)


def _claims(result: RunResult) -> Iterator[str]:
    if result.verification != "self-reported":
        yield (
            f"it calls itself {result.verification}: a submission is self-reported, "
            "who verifies it says so"
        )
    if result.provenance.config_sha256 != hashlib.sha256(json_bytes(result.config)).hexdigest():
        yield "provenance.config_sha256 is not that of config"


def _settings(result: RunResult) -> Iterator[str]:
    """Does the configuration describe the run that the record is about?"""
    config, protocol, env = result.config, result.protocol, result.env
    said: dict[str, tuple[Any, Any]] = {
        "seed": (config.get("seed"), result.seed),
        "agent.name": (_get(config, "agent", "name"), result.algo.name),
        "env.id": (_get(config, "env", "id"), env.id),
        "env.kwargs": (_get(config, "env", "kwargs"), dict(env.kwargs)),
        "selection_episodes": (config.get("selection_episodes"), protocol.selection_episodes),
        "report_episodes": (config.get("report_episodes"), protocol.report_episodes),
    }
    overrides = {
        "discount": protocol.discount,
        "horizon": env.max_steps,
        "reference_point": list(protocol.reference_point),
        "box_low": None if protocol.box_low is None else list(protocol.box_low),
        "box_high": None if protocol.box_high is None else list(protocol.box_high),
    }
    for name, recorded in overrides.items():
        setting = _get(config, "env", name)
        if setting is not None:  # None leaves it to the environment
            said[f"env.{name}"] = (setting, recorded)
    for name, (setting, recorded) in said.items():
        if setting != recorded:
            yield f"config.{name} is {setting!r}, the record says {recorded!r}"


def _get(config: Mapping[str, Any], group: str, name: str) -> Any:  # noqa: ANN401 - JSON
    inner = config.get(group)
    return inner.get(name) if isinstance(inner, Mapping) else None


def _budget(result: RunResult) -> Iterator[str]:
    budget, steps = result.budget, result.config.get("steps")
    for name, value in vars(budget).items():
        if value is not None and value < 0:
            yield f"budget.{name} is negative"
    if isinstance(steps, int) and budget.env_steps > steps:
        yield f"budget.env_steps is {budget.env_steps:,}, more than the {steps:,} of config.steps"
    curve = result.curve.get("steps", ())
    if list(curve) != sorted(curve):
        yield "curve.steps goes backwards"
    if curve and curve[-1] > budget.env_steps:
        yield "the learning curve is longer than budget.env_steps"
    if result.status == "completed" and curve and curve[-1] != budget.env_steps:
        yield "the learning curve does not end at budget.env_steps"
    played = int(result.arrays.selection_lengths.sum() + result.arrays.report_lengths.sum())
    if budget.eval_env_steps < played:
        yield f"budget.eval_env_steps is {budget.eval_env_steps:,}, the episodes took {played:,}"


def _episodes(result: RunResult) -> Iterator[str]:
    arrays, protocol = result.arrays, result.protocol
    for name, wanted in (
        ("selection", protocol.selection_episodes),
        ("report", protocol.report_episodes),
    ):
        solutions, found, _ = getattr(arrays, f"{name}_discounted").shape
        if solutions and found != wanted:
            yield f"{found} {name} episodes, the protocol says {wanted}"
        lengths = getattr(arrays, f"{name}_lengths")
        if lengths.size and lengths.min() < 1:
            yield f"a {name} episode took no step"
        if lengths.size and result.env.max_steps and lengths.max() > result.env.max_steps:
            yield f"a {name} episode is longer than the step limit of {result.env.max_steps}"


def _front(result: RunResult) -> Iterator[str]:
    if len(result.arrays.chosen) > MOST_SOLUTIONS:
        yield f"{len(result.arrays.chosen)} policies on the front, at most {MOST_SOLUTIONS} count"
    if len(np.unique(result.arrays.chosen)) < len(result.arrays.chosen):
        yield "a candidate was chosen more than once"
    preferences = result.arrays.preferences[result.arrays.has_preference]
    if (preferences < 0).any() or not np.allclose(preferences.sum(axis=1), 1.0, atol=1e-6):
        yield "a preference is not on the simplex"


def _indicators(result: RunResult, folder: Path) -> Iterator[str]:
    for finding in verify(folder).findings:
        if finding.agrees is False:
            yield f"{finding.subject}: {finding.message}"
        elif finding.agrees is None and not _may_be_unknown(finding, result):
            yield f"{finding.subject} is no indicator of this environment"


def _may_be_unknown(finding: Finding, result: RunResult) -> bool:
    """Whether an indicator needs a known front that is not to be had here."""
    if finding.subject not in _NEEDS_KNOWN_FRONT:
        return False
    absent = result.env.id not in ENVS or ENVS[result.env.id].available() is not None
    return absent and spec_of(result).known_front is None


def _failure(result: RunResult) -> Iterator[str]:
    if result.metrics or len(unique(result.arrays.returns)):
        yield f"a run that ended otherwise ({result.status!r}) has a front"
