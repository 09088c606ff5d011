"""Results side by side: what belongs into one table, and what its cells say.

Results are compared if environment, its settings and the protocol are the same; runs of one agent
with one configuration and different seeds make up an entry. Seeds are never pooled into one front.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from morl.experiments.config import flat
from morl.experiments.evaluate import spec_of
from morl.result import RESULT_FILE, RunResult
from morl.storage import StorageError, json_bytes
from morl.types import EnvSpec, MorlError

CONFIDENCE = 0.95
"""Nominal coverage of the intervals."""

_ASIDE = re.compile(r".*\.old-\d+")
_UNCOMPARED = frozenset({"policy_mode", "selection_episodes", "report_episodes"})


@dataclass(frozen=True)
class Loaded:
    """A result and where it lies."""

    path: Path
    result: RunResult


@dataclass(frozen=True)
class Interval:
    """A number and how sure it is.

    Attributes:
        value: mean over seeds, or the one value.
        margin: half the width of the 95 % interval, or None where nothing is known about it.
        basis: what the interval is over: "seeds" or "episodes".
        count: runs that have a value.
    """

    value: float
    margin: float | None
    basis: str
    count: int = 1


@dataclass(frozen=True)
class Entry:
    """Runs of one configuration that differ in their seed alone.

    Attributes:
        label: tells it from the other entries.
        runs: completed ones, by seed.
        failed: those that ended otherwise, by seed.
    """

    label: str
    runs: tuple[Loaded, ...]
    failed: tuple[Loaded, ...]

    def interval(self, indicator: str) -> Interval | None:
        """An indicator over the seeds; of a single run, over its evaluation episodes."""
        metrics = [
            run.result.metrics[indicator] for run in self.runs if indicator in run.result.metrics
        ]
        if not metrics:
            return None
        if len(metrics) > 1:
            return interval_of([metric.value for metric in metrics])
        error = metrics[0].standard_error
        margin = None if error is None else 1.959964 * error
        return Interval(metrics[0].value, margin, "episodes")

    @property
    def typical(self) -> Loaded:
        """The run with the median hypervolume; the lower one of two in the middle.

        Runs without a policy are passed over where there are others.
        """
        found = [run for run in self.runs if len(run.result.arrays.returns)] or self.runs
        ordered = sorted(found, key=lambda run: run.result.metrics["hypervolume"].value)
        return ordered[(len(ordered) - 1) // 2]


@dataclass(frozen=True)
class Comparison:
    """Entries on one task, measured alike.

    Attributes:
        spec: the task.
        kwargs: constructor arguments of the environment.
        entries: by label.
    """

    spec: EnvSpec
    kwargs: Mapping[str, Any]
    entries: tuple[Entry, ...]

    @property
    def runs(self) -> tuple[tuple[str, Loaded], ...]:
        """Every completed run with the label of its entry."""
        return tuple((entry.label, run) for entry in self.entries for run in entry.runs)


def find_results(paths: Iterable[Path]) -> tuple[list[Loaded], list[tuple[Path, str]]]:
    """Read every result in some folders, see `result_files`.

    Returns:
        The results, by path, and what could not be read with the reason.

    Raises:
        StorageError: a path that does not exist, or no result in all of them.
    """
    files = result_files(paths)
    read = {file: _read(file) for file in files}
    loaded = [found for found in read.values() if isinstance(found, Loaded)]
    unreadable = [(file, found) for file, found in read.items() if isinstance(found, str)]
    return loaded, unreadable


def result_files(paths: Iterable[Path]) -> list[Path]:
    """Every ``result.json`` in some folders, each once.

    Runs that were moved aside are left out, unless they are named.

    Raises:
        StorageError: a path that does not exist, or no result in all of them.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise StorageError(f"{path}: there is no such file or folder", path=path)
        files |= dict.fromkeys([path] if path.is_file() else _files_in(path))
    if not files:
        raise StorageError(
            f"no results in {', '.join(map(str, paths))}; make one: morl run experiment=demo",
            path=Path(),
        )
    return list(files)


def compare(loaded: Sequence[Loaded]) -> list[Comparison]:
    """Sort results into comparisons, by environment."""
    tasks: dict[bytes, list[Loaded]] = defaultdict(list)
    for run in loaded:
        tasks[_task_key(run.result)].append(run)
    comparisons = [
        Comparison(
            spec=spec_of(runs[0].result),
            kwargs=runs[0].result.env.kwargs,
            entries=_entries(runs),
        )
        for _, runs in sorted(tasks.items())
    ]
    return sorted(comparisons, key=lambda comparison: comparison.spec.id)


def interval_of(values: Sequence[float]) -> Interval:
    """Mean over seeds with Student's interval, which holds its coverage for few of them."""
    count = len(values)
    quantile = float(stdtrit(count - 1, (1.0 + CONFIDENCE) / 2.0))
    margin = quantile * float(np.std(values, ddof=1)) / np.sqrt(count)
    return Interval(float(np.mean(values)), float(margin), "seeds", count)


def _read(file: Path) -> Loaded | str:
    """A result, or why it cannot be read."""
    try:
        return Loaded(file.parent, RunResult.load(file))
    except MorlError as error:
        return str(error)


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob(RESULT_FILE)
        if not any(_ASIDE.fullmatch(part) for part in file.relative_to(folder).parts)
    )


def _task_key(result: RunResult) -> bytes:
    protocol = dataclasses.asdict(result.protocol)
    compared = {name: value for name, value in protocol.items() if name not in _UNCOMPARED}
    env = {
        "id": result.env.id, "kwargs": result.env.kwargs, "max_steps": result.env.max_steps,
    }  # fmt: skip
    return json_bytes([env, compared])


def _entries(runs: Sequence[Loaded]) -> tuple[Entry, ...]:
    groups: dict[bytes, list[Loaded]] = defaultdict(list)
    for run in runs:
        config = {name: item for name, item in run.result.config.items() if name != "seed"}
        groups[json_bytes([run.result.algo.name, config])].append(run)
    firsts = {key: group[0].result for key, group in groups.items()}
    labels = _labels(firsts)
    entries = []
    for key, group in groups.items():
        ordered = sorted(group, key=lambda run: (run.result.seed, str(run.path)))
        entries.append(
            Entry(
                label=labels[key],
                runs=tuple(run for run in ordered if run.result.status == "completed"),
                failed=tuple(run for run in ordered if run.result.status != "completed"),
            )
        )
    return tuple(sorted(entries, key=lambda entry: entry.label))


def _labels(firsts: Mapping[bytes, RunResult]) -> dict[bytes, str]:
    """The agent's name, and where it occurs more than once the settings that differ."""
    settings = {key: dict(flat(result.config)) for key, result in firsts.items()}
    labels = {}
    for key, result in firsts.items():
        name = result.algo.name
        others = [settings[other] for other in firsts if firsts[other].algo.name == name]
        differing = [
            f"{setting.removeprefix('agent.')}={value}"
            for setting, value in settings[key].items()
            if setting != "seed" and any(other.get(setting) != value for other in others)
        ]
        labels[key] = " ".join([name, *differing])
    return labels
