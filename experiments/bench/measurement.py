"""How a speed is measured: ratios of CPU times from interleaved pairs, never seconds alone.

A busy machine makes everything slower, both sides of a pair alike; so pairs are made of neighbours
in time, whose order alternates, and the median of their ratios is what counts.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from morl import storage
from morl.result import PACKAGES, collect_provenance, distribution_version

RESULTS = Path(__file__).parents[1] / "results"
"""Where the committed figures lie, in a checkout."""


@dataclass(frozen=True)
class Pairs:
    """Costs of the same work, measured in turn.

    Attributes:
        ours: seconds a unit of work, one a pair: of CPU time where nothing else is said.
        theirs: likewise.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times cheaper ours was, for every pair."""
        return tuple(b / a for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """Median of `ratios`."""
        return statistics.median(self.ratios)

    def record(self, *, per_second: bool = False) -> dict[str, Any]:
        """Medians and spread for a report.

        Args:
            per_second: give units a CPU-second instead of microseconds a unit.
        """
        name, scale = ("per_cpu_second", _inverse) if per_second else ("cpu_us", _micro)
        return {
            f"ours_{name}": scale(statistics.median(self.ours)),
            f"theirs_{name}": scale(statistics.median(self.theirs)),
            "ratio": _short(self.ratio),
            "ratio_lowest": _short(min(self.ratios)),
            "ratio_highest": _short(max(self.ratios)),
            "pairs": len(self.ratios),
        }


def interleave(ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int) -> Pairs:
    """Measure both in turn; who goes first alternates.

    Args:
        ours: does its work once and returns what a unit of it cost.
        theirs: likewise.
        pairs: number of measurements of each, after one of each that does not count.
    """
    ours()
    theirs()
    costs: tuple[list[float], list[float]] = ([], [])
    for index in range(pairs):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            costs[side].append((ours, theirs)[side]())
    return Pairs(tuple(costs[0]), tuple(costs[1]))


def cpu_cost(work: Callable[[], object], *, units: int = 1) -> Callable[[], float]:
    """Turn some work into one that returns the CPU seconds of a unit of it."""

    def measured() -> float:
        start = time.process_time()
        work()
        return (time.process_time() - start) / units

    return measured


def wall_cost(work: Callable[[], object], *, units: int = 1) -> Callable[[], float]:
    """Turn some work into one that returns the seconds on the clock of a unit of it."""

    def measured() -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / units

    return measured


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP and torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    here = collect_provenance({})
    return {
        "cpu": here.cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": here.python,
        "blas": here.blas,
        "packages": {name: v for name in PACKAGES if (v := distribution_version(name))},
        "git_sha": here.git_sha,
        "git_dirty": here.git_dirty,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def write_report(
    name: str, record: Mapping[str, Any], *, command: str, output: Path | None
) -> dict[str, Any]:
    """Complete a benchmark's record and, where a folder is given, write ``name.json`` there.

    Returns:
        The record with the command and the machine.
    """
    report = {"benchmark": name, "command": command, "machine": machine(), **record}
    if output is not None:
        storage.make_folder(output)
        storage.write_json(output / f"{name}.json", report)
        print(f"written: {output / name}.json")
    return report


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns of equal keys, numbers to the right."""
    heads = list(rows[0])
    cells = [heads, *[[_cell(row[head]) for head in heads] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and value < 1e3
        else f"{value:,.0f}"
        if (isinstance(value, float))
        else str(value)
    )


def _short(value: float) -> float:
    """Four digits: the rest is noise."""
    return float(f"{value:.4g}")


def _micro(seconds: float) -> float:
    return _short(seconds * 1e6)


def _inverse(seconds: float) -> float:
    return _short(1.0 / seconds)
