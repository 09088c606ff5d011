"""Does a result say what its episodes say? Recompute it; or play the episodes again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from morl.checkpoint import load_checkpoint
from morl.envs import make_task
from morl.evaluation import choose
from morl.experiments import measures
from morl.experiments.config import RunConfig
from morl.experiments.measures import Returns
from morl.experiments.run import CHECKPOINTS, agent_of, final_evaluation, task_of
from morl.pareto import unique
from morl.result import Metric, RunResult
from morl.types import EnvSpec, MorlError, Objective, Solution, Task

TOLERANCE = 1e-9
"""Relative difference up to which a recomputed number is the stored one."""

QUANTILE_99 = 2.576
"""Two-sided 99 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        subject: what was compared.
        agrees: None where it could not be compared.
        message: what was found.
    """

    subject: str
    agrees: bool | None
    message: str


@dataclass(frozen=True)
class Verdict:
    """What became of a result when it was looked at again.

    Attributes:
        folder: of the run.
        findings: in the order of the result.
    """

    folder: Path
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing disagrees."""
        return all(finding.agrees is not False for finding in self.findings)

    def __str__(self) -> str:
        """One line a comparison, the verdict last."""
        marks = {True: "ok  ", False: "DIFF", None: "skip"}
        width = max(len(finding.subject) for finding in self.findings)
        lines = [
            f"{marks[finding.agrees]}  {finding.subject:<{width}}  {finding.message}".rstrip()
            for finding in self.findings
        ]
        wrong = sum(finding.agrees is False for finding in self.findings)
        verdict = "as stored" if not wrong else f"{wrong} of {len(self.findings)} differ"
        return "\n".join([*lines, f"{self.folder}: {verdict}"])


def verify(path: Path, *, rerun: bool = False) -> Verdict:
    """Recompute every number of a result from its stored episode returns.

    Args:
        path: folder of a run, or its ``result.json``.
        rerun: also load the final checkpoint and play all evaluation episodes again.

    Raises:
        ResultError: a file was altered or damaged.
        StorageError: there is no result.
        MorlError: a re-run was asked for and cannot be made.
    """
    result = RunResult.load(path)
    folder = path if path.is_dir() else path.parent
    if result.status != "completed":
        return Verdict(folder, (Finding("status", False, result.status),))
    findings = [*_fronts(result), *_metrics(result)]
    if rerun:
        findings.append(play_again(result, folder))
    return Verdict(folder, tuple(findings))


def spec_of(result: RunResult) -> EnvSpec:
    """The spec that a result was measured by.

    What the record holds comes from the record; the known front and the anchors come from the
    environment, if it is installed here.
    """
    protocol, env = result.protocol, result.env
    box = None
    if protocol.box_low is not None and protocol.box_high is not None:
        box = (protocol.box_low, protocol.box_high)
    recorded = EnvSpec(
        id=env.id,
        objectives=tuple(Objective(name) for name in protocol.objectives),
        reference_point=protocol.reference_point,
        discount=protocol.discount,
        horizon=env.max_steps,
        box=box,
        package=env.package,
        protocol=protocol.id,
    )
    try:
        installed = make_task(
            env.id,
            kwargs=env.kwargs,
            discount=protocol.discount,
            horizon=env.max_steps,
            reference_point=protocol.reference_point,
        ).spec
    except MorlError:
        return recorded
    if installed.objective_names != protocol.objectives:
        return recorded
    return replace(installed, box=box, protocol=protocol.id)


def _fronts(result: RunResult) -> list[Finding]:
    """Is the front what the selection episodes choose, and counted right?"""
    selection = result.arrays.selection_discounted
    chosen = choose(selection.mean(axis=1)) if len(selection) else np.zeros(0, np.intp)
    points, spec = result.arrays.returns, spec_of(result)
    counts = {
        "candidates": (result.front.num_candidates, len(selection)),
        "distinct points": (result.front.num_unique, len(unique(points))),
        "points outside": (result.front.num_outside, measures.outside(points, spec)),
    }
    same = np.array_equal(chosen, result.arrays.chosen)
    return [
        Finding("front", same, "" if same else "not what the selection episodes choose"),
        *(
            Finding(name, stored == found, _difference(stored, found))
            for name, (stored, found) in counts.items()
        ),
    ]


def _metrics(result: RunResult) -> list[Finding]:
    found = measures.measure(result.arrays.report_discounted, spec_of(result))
    return [
        _compare(name, result.metrics, found)
        for name in [*result.metrics, *(found.keys() - result.metrics.keys())]
    ]


def _compare(name: str, stored: Mapping[str, Metric], found: Mapping[str, Metric]) -> Finding:
    if name not in found:
        return Finding(name, None, "the environment is not installed here, or has changed")
    if name not in stored:
        return Finding(name, False, f"is missing, would be {found[name].value!r}")
    before, now = stored[name], found[name]
    if not _close(before.value, now.value):
        return Finding(name, False, _difference(before.value, now.value))
    if not _close(before.standard_error, now.standard_error):
        message = _difference(before.standard_error, now.standard_error)
        return Finding(name, False, f"standard error {message}")
    return Finding(name, True, f"{before.value:.9g}")


def _close(stored: float | None, found: float | None) -> bool:
    if stored is None or found is None:
        return stored is found
    return math.isclose(stored, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _difference(stored: object, found: object) -> str:
    return str(stored) if stored == found else f"stored {stored!r}, recomputed {found!r}"


def play_again(result: RunResult, folder: Path) -> Finding:
    """Play the protocol again with the agent of the final checkpoint.

    Args:
        result: as it lies in the folder.
        folder: of the run, with its checkpoint.

    Returns:
        Whether the episodes are the same, or the hypervolume lies within its 99 % interval.

    Raises:
        MorlError: there is no checkpoint of the end of the run, or it cannot be loaded.
    """
    task, solutions = final_solutions(result, folder)
    again = final_evaluation(RunConfig.from_record(result.config), task, solutions)
    stored = result.arrays.report_discounted
    if np.array_equal(again.report.discounted, stored):
        return Finding("episodes again", True, f"{stored[..., 0].size:,} returns, bit for bit")
    # Another machine rounds otherwise, and an episode can then take another course.
    before = result.metrics["hypervolume"]
    now = measures.measure(again.report.discounted, task.spec)["hypervolume"].value
    margin = QUANTILE_99 * (before.standard_error or 0.0)
    near = abs(now - before.value) <= margin + TOLERANCE * abs(before.value)
    said = f"other bits; hypervolume {now:.9g}, stored {before.value:.9g} ± {margin:.3g} (99 %)"
    both, ours, theirs = np.intersect1d(again.chosen, result.arrays.chosen, return_indices=True)
    shifted = shifted_returns(stored[theirs], again.report.discounted[ours])
    if shifted is None:
        return Finding("episodes again", near, said)
    policy, objective = shifted
    name = task.spec.objective_names[objective]
    return Finding(
        "episodes again",
        False,
        f"{said}; other returns than stored: policy {both[policy]}, {name}",
    )


def final_solutions(result: RunResult, folder: Path) -> tuple[Task, Sequence[Solution]]:
    """The candidates that a result was made from, as its final checkpoint has them.

    Args:
        result: as it lies in the folder.
        folder: of the run, with its checkpoint.

    Returns:
        The task and the solutions; ``result.arrays.chosen`` counts in these.

    Raises:
        MorlError: there is no checkpoint of the end of the run, or it cannot be loaded.
    """
    config = RunConfig.from_record(result.config)
    task = task_of(config)
    agent = agent_of(config, task)
    checkpoint = load_checkpoint(folder / CHECKPOINTS, config_hash=None)
    if checkpoint.step != result.budget.env_steps:
        raise MorlError(
            f"{folder}: the newest checkpoint is of step {checkpoint.step:,}, the result of step "
            f"{result.budget.env_steps:,}: the episodes cannot be played again"
        )
    agent.load_state_dict(checkpoint.state["agent"])
    return task, agent.solutions()


def shifted_returns(stored: Returns, again: Returns) -> tuple[int, int] | None:
    """The policy and objective whose returns differ most, if chance does not explain it.

    Episodes of one seed form a pair. Rounding sends some of them another way, up or down; it does
    not shift the mean of their differences. Student's test at 1 %, divided by the number of means.

    Args:
        stored: returns of some policies, shape (policy, episode, objective).
        again: those of the same policies and seeds.

    Returns:
        Indices, or None if no mean is shifted.
    """
    policies, episodes, objectives = stored.shape
    if not policies:
        return None
    difference = again - stored
    mean = np.abs(difference.mean(axis=1))
    error = difference.std(axis=1, ddof=1) / np.sqrt(episodes)
    quantile = stdtrit(episodes - 1, 1.0 - 0.005 / (policies * objectives))
    excess = mean - quantile * error - TOLERANCE * (1.0 + np.abs(stored).max(axis=1))
    worst = int(np.argmax(excess))
    if excess.flat[worst] <= 0.0:
        return None
    return worst // objectives, worst % objectives
