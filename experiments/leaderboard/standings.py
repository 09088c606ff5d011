"""Who is better, and how sure is that? Aggregates, intervals, tests and ranks of a board.

Rules that do not depend on who takes part:

- A run that failed counts with a hypervolume of 0; its row shows how many there were.
- Ten seeds make a rank, five a provisional one, fewer none.
- Two rows differ if the rank test says so at 5 %, after Holm's correction for all pairs of the
  table. A rank is one more than the number of rows that are significantly better; a provisional
  row costs only provisional ones a place.
- Tasks are averaged as scores: normalised hypervolume, in units of the known front's, or of the
  whole box where no front is known. Both are fixed with the task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morl import stats
from morl.experiments.leaderboard.ledger import Board
from morl.experiments.leaderboard.rows import Row
from morl.indicators import NORMALISED_REFERENCE, normalised_hypervolume
from morl.seeding import generator
from morl.stats import Interval

Standing = Literal["ranked", "provisional", "unranked"]

RANKED_FROM, PROVISIONAL_FROM = 10, 5
"""Seeds that make a rank, and a provisional one."""

LEVEL = 0.05
"""Chance of any wrong difference in a table."""

INDICATORS = (
    "hypervolume", "hypervolume_jackknife", "expected_utility", "igd_plus", "hypervolume_ratio",
    "hypervolume_normalised", "cardinality", "sparsity_deduplicated",
)  # fmt: skip
"""What intervals are made of; the first decides ranks."""

PRIMARY = INDICATORS[0]
RESAMPLES = 20_000
SCORE_RESAMPLES = 10_000
PROFILE_RESAMPLES = 2_000
MOST_COMPARED = 12
"""Rows that figures across tasks show, the best by mean rank."""

_ROOT = 0  # draws belong to the board: the same records give the same bytes


@dataclass(frozen=True)
class Summary:
    """An indicator of one row over its seeds.

    Attributes:
        count: seeds that have a value.
        mean: of them.
        median: of them.
        interval: around the interquartile mean; None with one seed.
        centre: the interquartile mean.
        episode_error: with one seed, the standard error over its episodes, if known.
    """

    count: int
    mean: float
    median: float
    centre: float
    interval: Interval | None
    episode_error: float | None = None


@dataclass(frozen=True)
class EntryOnTask:
    """A row of a task's table.

    Attributes:
        name: of the row.
        runs: all of them, by seed.
        summaries: by indicator.
        standing: whether its number of seeds makes a rank.
        rank: 1 is best; None for unranked rows.
        group: letters of the groups of rows that it does not differ from.
    """

    name: str
    runs: tuple[Row, ...]
    summaries: Mapping[str, Summary]
    standing: Standing
    rank: int | None = None
    group: str = ""

    @property
    def completed(self) -> tuple[Row, ...]:
        """The runs that came to their end."""
        return tuple(run for run in self.runs if run.completed)

    @property
    def failed(self) -> tuple[Row, ...]:
        """The others."""
        return tuple(run for run in self.runs if not run.completed)

    @property
    def values(self) -> tuple[float, ...]:
        """Hypervolume of every seed, failures included."""
        return tuple(primary_value(run) for run in self.runs)

    @property
    def typical(self) -> Row | None:
        """The completed run with the median hypervolume, the lower of two in the middle."""
        ordered = sorted(self.completed, key=primary_value)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


@dataclass(frozen=True)
class TaskTable:
    """The table of one task.

    Attributes:
        name: of the task.
        task: as frozen on the board.
        entries: ranked and provisional ones by rank, then the unranked, each by hypervolume.
        groups: names of rows that do not differ, largest first; by letter.
        p_values: of pairs of rows with enough seeds, Holm-corrected.
    """

    name: str
    task: Mapping[str, Any]
    entries: tuple[EntryOnTask, ...]
    groups: Mapping[str, tuple[str, ...]]
    p_values: Mapping[tuple[str, str], float]

    def score_unit(self) -> float | None:
        """Normalised hypervolume that counts as a score of 1; None without a box."""
        return _score_unit(self.task)


@dataclass(frozen=True)
class EntryOverall:
    """A row of the table over all tasks.

    Attributes:
        name: of the row.
        mean_rank: of its hypervolumes, 1 is best, ties in the middle; over all tasks.
        seeds: smallest number of seeds on a task.
        standing: by that number.
        score: interval around the interquartile mean score over runs and tasks, or None where
            some task has no box or there are fewer than two seeds.
        rank: 1 is best; None for unranked rows.
        group: letters of the groups of rows that it does not differ from.
    """

    name: str
    mean_rank: float
    seeds: int
    standing: Standing
    score: Interval | None
    rank: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Overall:
    """The table over all tasks.

    Attributes:
        entries: rows with runs on every task, by rank and mean rank.
        incomplete: rows that lack a task, with the tasks they have.
        groups: names of rows that do not differ, by letter.
        improvement: chance that a run of the first beats one of the second, by pair of rows.
        profiles: performance profile of each of the first rows, or empty without scores.
    """

    entries: tuple[EntryOverall, ...]
    incomplete: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]
    improvement: Mapping[tuple[str, str], Interval]
    profiles: Mapping[str, stats.ProfileBand]


class Standings:
    """Everything that the pages say of a board's rows.

    Args:
        board: the board.
        rows: those that are shown, by task, entry and seed.
    """

    def __init__(self, board: Board, rows: Sequence[Row]) -> None:
        self._board = board
        self._runs: dict[str, dict[str, list[Row]]] = {name: {} for name in board.tasks}
        for row in rows:
            self._runs[row.task].setdefault(row.entry, []).append(row)

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """Names of all rows."""
        return tuple(sorted({entry for task in self._runs.values() for entry in task}))

    @cached_property
    def tables(self) -> Mapping[str, TaskTable]:
        """One table a task, in the order of the suite."""
        return {
            name: task_table(name, task, self._runs[name])
            for name, task in self._board.tasks.items()
        }

    @cached_property
    def overall(self) -> Overall:
        """The table over all tasks that have a row."""
        return overall([table for table in self.tables.values() if table.entries])


def primary_value(run: Row) -> float:
    """Hypervolume of a run; 0, that of nothing, for one that failed."""
    return run.metrics[PRIMARY][0] if run.completed else 0.0


def standing_of(seeds: int) -> Standing:
    """What a number of seeds makes."""
    if seeds >= RANKED_FROM:
        return "ranked"
    return "provisional" if seeds >= PROVISIONAL_FROM else "unranked"


# One task


def task_table(name: str, task: Mapping[str, Any], runs: Mapping[str, Sequence[Row]]) -> TaskTable:
    """The table of one task.

    Args:
        name: of the task.
        task: as frozen on the board.
        runs: by entry.
    """
    summaries = _summaries(name, runs)
    values = {entry: [primary_value(run) for run in each] for entry, each in runs.items()}
    centres = {entry: float(stats.iqm(each)) for entry, each in values.items()}
    compared = sorted(
        (entry for entry in runs if len(runs[entry]) >= PROVISIONAL_FROM),
        key=lambda entry: (-centres[entry], entry),
    )
    p_values = corrected_p_values({entry: [values[entry]] for entry in compared})
    ranks, letters, groups = _ranks_and_groups(compared, values, p_values)
    entries = [
        EntryOnTask(
            name=entry,
            runs=tuple(each),
            summaries=summaries[entry],
            standing=standing_of(len(each)),
            rank=ranks.get(entry),
            group=letters.get(entry, ""),
        )
        for entry, each in runs.items()
    ]
    entries.sort(key=lambda entry: (_order(entry.rank), -centres[entry.name], entry.name))
    return TaskTable(name, task, tuple(entries), groups, p_values)


def corrected_p_values(
    values: Mapping[str, Sequence[Sequence[float]]],
) -> dict[tuple[str, str], float]:
    """Holm-corrected p-values of the rank test for all pairs of rows.

    Args:
        values: for each row, one list of runs a task.
    """
    pairs = list(combinations(values, 2))
    if not pairs:
        return {}
    raw = stats.pairwise_rank_tests(list(values.values()))
    corrected = stats.holm(raw[np.triu_indices(len(values), k=1)])
    return dict(zip(pairs, corrected.tolist(), strict=True))


def groups_of(
    ordered: Sequence[str], p_values: Mapping[tuple[str, str], float]
) -> list[tuple[str, ...]]:
    """Longest stretches of neighbours in which no two rows differ.

    Args:
        ordered: rows, the best first.
        p_values: corrected, of pairs in this order.
    """
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(ordered)):
        stop = start + 1
        while stop < len(ordered) and all(
            p_values[(ordered[index], ordered[stop])] > LEVEL for index in range(start, stop)
        ):
            stop += 1
        if stop > reached:
            groups.append(tuple(ordered[start:stop]))
            reached = stop
    return groups


def _ranks_and_groups(
    ordered: Sequence[str],
    values: Mapping[str, Sequence[float]],
    p_values: Mapping[tuple[str, str], float],
) -> tuple[dict[str, int], dict[str, str], dict[str, tuple[str, ...]]]:
    """Rank and letters of each row that is compared, and the groups by letter."""
    ranks = {
        entry: 1
        + sum(
            _may_push(len(values[better]), len(values[entry]))
            and p_values[(better, entry)] <= LEVEL
            for better in ordered[:place]
        )
        for place, entry in enumerate(ordered)
    }
    return ranks, *lettered(groups_of(ordered, p_values))


def _may_push(better: int, worse: int) -> bool:
    """Whether a row of so many seeds may cost another a place: provisional ones only their like."""
    return better >= RANKED_FROM or worse < RANKED_FROM


def lettered(
    groups: Sequence[tuple[str, ...]],
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Letters of each member, and the groups by letter: a, b, ... z, aa, ab, ..."""
    letters: dict[str, str] = defaultdict(str)
    named = {}
    for number, group in enumerate(groups):
        letter = (chr(96 + number // 26) if number >= 26 else "") + chr(97 + number % 26)
        named[letter] = group
        for member in group:
            letters[member] += (" " if letters[member] else "") + letter
    return dict(letters), named


def _summaries(name: str, runs: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Summary]]:
    """Every indicator of every row, those of equally many seeds in one go."""
    found: dict[str, dict[str, Summary]] = {entry: {} for entry in runs}
    for indicator in INDICATORS:
        by_count: dict[int, dict[str, list[float]]] = defaultdict(dict)
        for entry, each in runs.items():
            values = _values(each, indicator)
            if values:
                by_count[len(values)][entry] = values
        for count, group in by_count.items():
            intervals = _intervals(f"{name}/{indicator}/{count}", list(group.values()))
            for (entry, values), interval in zip(group.items(), intervals, strict=True):
                error = _episode_error(runs[entry], indicator) if count == 1 else None
                found[entry][indicator] = _summary(values, interval, error)
    return found


def _values(runs: Sequence[Row], indicator: str) -> list[float]:
    """Of the primary indicator that of every run, of the others what completed runs have."""
    if indicator == PRIMARY:
        return [primary_value(run) for run in runs]
    return [run.metrics[indicator][0] for run in runs if run.completed and indicator in run.metrics]


def _episode_error(runs: Sequence[Row], indicator: str) -> float | None:
    errors = [run.metrics[indicator][1] for run in runs if indicator in run.metrics]
    return errors[0] if errors else None


def _intervals(name: str, table: Sequence[Sequence[float]]) -> Sequence[Interval | None]:
    if len(table[0]) < 2:
        return [None] * len(table)
    rng = generator(_ROOT, f"leaderboard/{name}")
    return stats.iqm_intervals(table, rng=rng, num_resamples=RESAMPLES)


def _summary(values: Sequence[float], interval: Interval | None, error: float | None) -> Summary:
    return Summary(
        count=len(values),
        mean=float(np.mean(values)),
        median=float(np.median(values)),
        centre=float(stats.iqm(values)),
        interval=interval,
        episode_error=error,
    )


# All tasks


def overall(tables: Sequence[TaskTable]) -> Overall:
    """The table over all tasks."""
    tasks_of: dict[str, list[str]] = defaultdict(list)
    by_task = {table.name: {each.name: each for each in table.entries} for table in tables}
    for name, entries in by_task.items():
        for entry in entries:
            tasks_of[entry].append(name)
    complete = sorted(entry for entry, names in tasks_of.items() if len(names) == len(tables))
    incomplete = {
        entry: tuple(names) for entry, names in sorted(tasks_of.items()) if entry not in complete
    }
    values = {
        entry: [list(by_task[table.name][entry].values) for table in tables] for entry in complete
    }
    mean_ranks = _mean_ranks(values, len(tables))
    seeds = {entry: min(map(len, each)) for entry, each in values.items()}
    compared = sorted(
        (entry for entry in complete if seeds[entry] >= PROVISIONAL_FROM),
        key=lambda entry: (mean_ranks[entry], entry),
    )
    p_values = corrected_p_values({entry: values[entry] for entry in compared})
    shown = {entry: [0.0] * seeds[entry] for entry in compared}
    ranks, letters, groups = _ranks_and_groups(compared, shown, p_values)
    scores = _scores(tables, complete, seeds)
    rows = [
        EntryOverall(
            name=entry,
            mean_rank=mean_ranks[entry],
            seeds=seeds[entry],
            standing=standing_of(seeds[entry]),
            score=_score_interval(entry, scores.get(entry)),
            rank=ranks.get(entry),
            group=letters.get(entry, ""),
        )
        for entry in complete
    ]
    rows.sort(key=lambda row: (_order(row.rank), row.mean_rank, row.name))
    first = [row.name for row in rows if row.seeds >= 2][:MOST_COMPARED]
    return Overall(
        entries=tuple(rows),
        incomplete=incomplete,
        groups=groups,
        improvement=_improvement(first, values, seeds),
        profiles=_profiles(first, scores),
    )


def _mean_ranks(values: Mapping[str, Sequence[Sequence[float]]], tasks: int) -> dict[str, float]:
    """Mean over tasks of the rank of the interquartile mean; ties share the middle."""
    if not values:
        return {}
    centres = np.array([[float(stats.iqm(each)) for each in runs] for runs in values.values()])
    ranks = np.zeros_like(centres)
    for task in range(tasks):
        column = centres[:, task]
        better = (column[None, :] > column[:, None]).sum(axis=1)
        equal = (column[None, :] == column[:, None]).sum(axis=1)
        ranks[:, task] = better + (equal + 1) / 2.0
    return dict(zip(values, ranks.mean(axis=1).tolist(), strict=True))


def _score_unit(task: Mapping[str, Any]) -> float | None:
    if task["box_low"] is None:
        return None
    known, box = task["known_front"], (task["box_low"], task["box_high"])
    if known is None:
        return float((1.0 - NORMALISED_REFERENCE) ** len(task["box_low"]))
    return float(normalised_hypervolume(known["points"], box).value)


def _scores(
    tables: Sequence[TaskTable], entries: Sequence[str], seeds: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """Scores of each row, shape (run, task): of its first seeds, as many as it has everywhere."""
    units = [table.score_unit() for table in tables]
    if None in units:
        return {}
    found = {}
    for entry in entries:
        columns = []
        for table, unit in zip(tables, units, strict=True):
            assert unit is not None
            (on_task,) = (each for each in table.entries if each.name == entry)
            columns.append([_normalised(run) / unit for run in on_task.runs[: seeds[entry]]])
        found[entry] = np.array(columns).T
    return found


def _normalised(run: Row) -> float:
    return run.metrics["hypervolume_normalised"][0] if run.completed else 0.0


def _score_interval(entry: str, scores: NDArray[np.float64] | None) -> Interval | None:
    if scores is None or len(scores) < 2:
        return None
    rng = generator(_ROOT, f"leaderboard/overall/{len(scores)}/{entry}")
    return stats.bootstrap(scores, rng=rng, num_resamples=SCORE_RESAMPLES, method="expanded")


def _improvement(
    entries: Sequence[str],
    values: Mapping[str, Sequence[Sequence[float]]],
    seeds: Mapping[str, int],
) -> dict[tuple[str, str], Interval]:
    tables = {
        entry: np.array([task[: seeds[entry]] for task in values[entry]]).T for entry in entries
    }
    return {
        (one, two): stats.improvement_interval(
            tables[one],
            tables[two],
            rng=generator(_ROOT, f"leaderboard/improvement/{one}/{two}"),
            num_resamples=PROFILE_RESAMPLES,
        )
        for one, two in combinations(entries, 2)
    }


def _profiles(
    entries: Sequence[str], scores: Mapping[str, NDArray[np.float64]]
) -> dict[str, stats.ProfileBand]:
    chosen = [entry for entry in entries if entry in scores]
    if not chosen:
        return {}
    top = max(1.0, max(float(scores[entry].max()) for entry in chosen))
    thresholds = np.linspace(0.0, top, 101)
    return {
        entry: stats.performance_profile_band(
            scores[entry],
            thresholds,
            rng=generator(_ROOT, f"leaderboard/profile/{entry}"),
            num_resamples=PROFILE_RESAMPLES,
        )
        for entry in chosen
    }


def _order(rank: int | None) -> tuple[bool, int]:
    """Ranked rows first."""
    return rank is None, rank or 0
