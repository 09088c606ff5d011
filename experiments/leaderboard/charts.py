"""Charts of a board: intervals, learning curves, attainment, profiles, critical differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl import stats
from morl.experiments.leaderboard.standings import (
    PRIMARY,
    EntryOnTask,
    EntryOverall,
    Overall,
    TaskTable,
)
from morl.experiments.leaderboard.svg import (
    HEIGHT,
    WIDTH,
    Drawing,
    Scale,
    nice_ticks,
    padded,
    shown,
)
from morl.seeding import generator

MOST_LINES = 8
"""Rows that one chart with lines shows: as many as there are colours."""

GRID = 21
RIGHT = WIDTH - 30
"""Where axes end: half of the last tick's number stands beyond."""

CURVE_RESAMPLES = 2_000

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Places and values of one run, equally long."""


@dataclass(frozen=True)
class Band:
    """A line with an interval around it.

    Attributes:
        across: places.
        centre: interquartile mean over seeds.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    across: list[float]
    centre: list[float]
    low: list[float]
    high: list[float]


def drawn(table: TaskTable) -> tuple[EntryOnTask, ...]:
    """The rows that charts with lines show: the first ones that have a completed run."""
    return tuple(entry for entry in table.entries if entry.completed)[:MOST_LINES]


# Intervals


def interval_chart(
    table: TaskTable, anchors: Mapping[str, float], colours: Mapping[str, str]
) -> str:
    """Hypervolume of every row with its interval, anchors as lines."""
    entries = [entry for entry in table.entries if PRIMARY in entry.summaries]
    left, row_height, top = 150.0, 24.0, 14.0
    levels = list(anchors.values())
    for entry in entries:
        summary = entry.summaries[PRIMARY]
        levels += [summary.centre, *entry.values]
        if summary.interval is not None:
            levels += [summary.interval.low, summary.interval.high]
    bottom = top + row_height * (len(entries) + len(anchors))
    drawing = Drawing(f"Hypervolume of every row on {table.name}", height=bottom + 46)
    across = Scale(*padded(levels), left, RIGHT)
    for tick in _few_ticks(across):
        drawing.line(across(tick), top, across(tick), bottom, "grid")
        drawing.text(across(tick), bottom + 16, shown(tick, 4), "tick", "middle")
    drawing.line(left, bottom, RIGHT, bottom, "axis")
    drawing.text((left + WIDTH) / 2, bottom + 36, "hypervolume", "title", "middle")
    y = top + row_height / 2
    for name, level in anchors.items():
        drawing.text(left - 8, y + 4, _short(name), "anchor", "end")
        drawing.line(across(level), top, across(level), bottom, "anchor-line")
        drawing.dot(across(level), y, "anchor-dot", title=f"{name}: {shown(level)}")
        y += row_height
    for entry in entries:
        _interval_row(drawing, entry, across, y, left, colours[entry.name])
        y += row_height
    return drawing.markup()


def _interval_row(
    drawing: Drawing, entry: EntryOnTask, across: Scale, y: float, left: float, colour: str
) -> None:
    summary = entry.summaries[PRIMARY]
    drawing.text(left - 8, y + 4, _short(entry.name), "label", "end")
    for run, value in zip(entry.runs, entry.values, strict=True):
        title = f"seed {run.seed}: {shown(value) if run.completed else run.status}"
        drawing.dot(across(value), y + 6, f"{colour} faint", radius=2, title=title)
    if summary.interval is not None:
        low, high = across(summary.interval.low), across(summary.interval.high)
        drawing.line(low, y, high, y, f"{colour} bar-line")
    drawing.dot(across(summary.centre), y, colour, radius=4.5, title=shown(summary.centre))


def _few_ticks(scale: Scale) -> list[float]:
    return nice_ticks(scale.low, scale.high, 4)


# Learning curves


def curve_chart(
    table: TaskTable, column: str, colours: Mapping[str, str], *, clock: bool, title: str
) -> str | None:
    """An indicator while learning, against steps or seconds on the wall; None without data."""
    bands = {}
    for entry in drawn(table):
        curves = _curves(entry, column, clock=clock)
        where = f"{table.name}/{entry.name}/{column}/{clock}"
        bands[entry.name] = band(where, curves, hold=clock)
    found = {name: each for name, each in bands.items() if each is not None}
    if not found:
        return None
    unit = "seconds on the wall" if clock else "environment steps"
    drawing = Drawing(f"{title} against {unit}, {table.name}")
    furthest = max(each.across[-1] for each in found.values())
    values = [value for each in found.values() for value in (*each.low, *each.high)]
    across = Scale(0.0, furthest, 70, RIGHT)
    up = Scale(*padded(values), HEIGHT - 46, 30)
    drawing.axes(across, up, across_title=unit, up_title=title)
    for name, each in found.items():
        x = [across(place) for place in each.across]
        edge = [*zip(x, map(up, each.high), strict=True)]
        edge += reversed([*zip(x, map(up, each.low), strict=True)])
        drawing.polygon(edge, f"{colours[name]} band")
    for name, each in found.items():
        points = [(across(a), up(c)) for a, c in zip(each.across, each.centre, strict=True)]
        drawing.polyline(points, f"{colours[name]} curve")
        drawing.dot(*points[-1], colours[name], title=f"{name}: {shown(each.centre[-1])}")
    return drawing.markup()


def band(name: str, curves: Sequence[Curve], *, hold: bool = False) -> Band | None:
    """Interquartile mean of some curves, on a grid from where all of them have begun.

    Between its points a curve is a straight line. With one curve the interval has no width.

    Args:
        name: of what is drawn, for the random draws.
        curves: one a run.
        hold: whether a curve that has ended keeps its last value, up to the longest one's end;
            otherwise the grid ends with the shortest.
    """
    if not curves:
        return None
    start = max(float(places[0]) for places, _ in curves)
    ends = [float(places[-1]) for places, _ in curves]
    stop = max(ends) if hold else min(ends)
    if start > stop:
        return None
    grid = np.linspace(start, stop, GRID)
    values = np.array([np.interp(grid, places, readings) for places, readings in curves])
    if len(curves) == 1:
        line = values[0].tolist()
        return Band(grid.tolist(), line, line, line)
    intervals = stats.iqm_intervals(
        values.T, rng=generator(0, f"leaderboard/curve/{name}"), num_resamples=CURVE_RESAMPLES
    )
    return Band(
        grid.tolist(),
        [each.estimate for each in intervals],
        [each.low for each in intervals],
        [each.high for each in intervals],
    )


def _curves(entry: EntryOnTask, column: str, *, clock: bool) -> list[Curve]:
    found = []
    for run in entry.completed:
        places = run.clock if clock else run.curve["steps"]
        if places and run.curve[column]:
            found.append((np.asarray(places), np.asarray(run.curve[column])))
    return found


# Attainment


def attainment(fronts: Sequence[NDArray[np.float64]], level: int) -> NDArray[np.float64]:
    """The corners of what at least `level` of some fronts attain, for two objectives.

    Args:
        fronts: one a run, shape (point, 2).
        level: from 1 (attained by any) to the number of fronts (attained by all).

    Returns:
        Nondominated corners by rising first objective, shape (corner, 2); empty where no region
        is attained so often.
    """
    places = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    heights = np.full((len(fronts), len(places)), -np.inf)
    for index, front in enumerate(fronts):
        reaches = front[:, 0][:, None] >= places
        tall = np.where(reaches, front[:, 1][:, None], -np.inf)
        heights[index] = tall.max(axis=0, initial=-np.inf)
    attained = np.sort(heights, axis=0)[len(fronts) - level]
    last = np.append(attained[1:], -np.inf)
    corners = np.isfinite(attained) & (attained > last)
    return np.stack([places[corners], attained[corners]], axis=1)


def attainment_chart(
    table: TaskTable, titles: Sequence[str], colours: Mapping[str, str]
) -> str | None:
    """Median attainment of each row, between what all and what any of its seeds attain.

    None for other than two objectives.
    """
    if len(titles) != 2:
        return None
    fronts = {
        entry.name: [np.asarray(run.points) for run in entry.completed if run.points]
        for entry in drawn(table)
    }
    fronts = {name: each for name, each in fronts.items() if each}
    known = table.task["known_front"]
    everything = [point for each in fronts.values() for front in each for point in front.tolist()]
    everything += known["points"] if known else []
    if not fronts:
        return None
    drawing = Drawing(f"Attainment surfaces on {table.name}")
    across = Scale(*padded([point[0] for point in everything]), 70, RIGHT)
    up = Scale(*padded([point[1] for point in everything]), HEIGHT - 46, 30)
    drawing.axes(across, up, across_title=titles[0], up_title=titles[1])
    for name, each in fronts.items():
        _attainment_band(drawing, each, across, up, colours[name])
    for name, each in fronts.items():
        median = attainment(each, (len(each) + 1) // 2)
        drawing.polyline(_stairs(median, across, up), f"{colours[name]} curve")
    for point in known["points"] if known else ():
        drawing.dot(across(point[0]), up(point[1]), "known", title="known front")
    return drawing.markup()


def _attainment_band(
    drawing: Drawing,
    fronts: Sequence[NDArray[np.float64]],
    across: Scale,
    up: Scale,
    colour: str,
) -> None:
    best = _stairs(attainment(fronts, 1), across, up)
    worst = _stairs(attainment(fronts, len(fronts)), across, up)
    drawing.polygon([*best, *reversed(worst)], f"{colour} band")


def _stairs(corners: NDArray[np.float64], across: Scale, up: Scale) -> list[tuple[float, float]]:
    """The edge of the region below some corners, from the left border to the bottom."""
    if not len(corners):
        return [(across.start, up.start)]
    points = [(across.start, up(corners[0, 1]))]
    for index, (x, y) in enumerate(corners.tolist()):
        following = corners[index + 1, 1] if index + 1 < len(corners) else up.low
        points += [(across(x), up(y)), (across(x), up(float(following)))]
    return points


# All tasks


def profile_chart(overall: Overall, colours: Mapping[str, str]) -> str | None:
    """Share of runs above each score, with bands; None without scores."""
    chosen = dict(list(overall.profiles.items())[:MOST_LINES])
    if not chosen:
        return None
    drawing = Drawing("Performance profiles: share of runs above a score")
    top = float(next(iter(chosen.values())).thresholds[-1])
    across, up = Scale(0.0, top, 50, RIGHT), Scale(0.0, 1.0, HEIGHT - 46, 30)
    drawing.axes(across, up, across_title="score", up_title="share of runs above")
    for name, profile in chosen.items():
        x = [across(place) for place in profile.thresholds.tolist()]
        high, low = map(up, profile.high.tolist()), map(up, profile.low.tolist())
        edge = [*zip(x, high, strict=True)]
        edge += reversed([*zip(x, low, strict=True)])
        drawing.polygon(edge, f"{colours[name]} band")
    for name, profile in chosen.items():
        x = [across(place) for place in profile.thresholds.tolist()]
        line = [*zip(x, map(up, profile.profile.tolist()), strict=True)]
        drawing.polyline(line, f"{colours[name]} curve")
    return drawing.markup()


def difference_chart(overall: Overall, colours: Mapping[str, str]) -> str | None:
    """Mean ranks on a line; bars join rows that do not differ. None for fewer than two."""
    entries = [entry for entry in overall.entries if entry.rank is not None][:MOST_LINES]
    if len(entries) < 2:
        return None
    names = {entry.name for entry in entries}
    groups = [
        shared
        for group in overall.groups.values()
        if len(shared := [name for name in group if name in names]) > 1
    ]
    axis, step = 52.0, 20.0
    below = axis + 16 + 10 * len(groups)
    drawing = Drawing(
        "Mean ranks; bars join rows that do not differ significantly",
        height=below + step * ((len(entries) + 1) // 2) + 12,
    )
    low = min(entry.mean_rank for entry in entries)
    high = max(entry.mean_rank for entry in entries)
    across = Scale(min(low, 1.0), max(high, low + 1.0), 130, WIDTH - 130)
    drawing.line(across.start, axis, across.stop, axis, "axis")
    for tick in range(int(np.ceil(across.low)), int(np.floor(across.high)) + 1):
        drawing.line(across(tick), axis - 5, across(tick), axis, "axis")
        drawing.text(across(tick), axis - 9, tick, "tick", "middle")
    drawing.text(4, 14, "mean rank (1 is best)", "title")
    places = {entry.name: across(entry.mean_rank) for entry in entries}
    for number, group in enumerate(groups):
        y = axis + 10 + 10 * number
        ends = [places[name] for name in group]
        drawing.line(min(ends) - 4, y, max(ends) + 4, y, "group-line")
    _rank_labels(drawing, entries, places, colours, axis=axis, below=below, step=step)
    return drawing.markup()


def _rank_labels(
    drawing: Drawing,
    entries: Sequence[EntryOverall],
    places: Mapping[str, float],
    colours: Mapping[str, str],
    *,
    axis: float,
    below: float,
    step: float,
) -> None:
    """Names to the left for the better half, to the right for the others."""
    half = (len(entries) + 1) // 2
    for place, entry in enumerate(sorted(entries, key=lambda entry: places[entry.name])):
        on_left = place < half
        y = below + step * (place if on_left else len(entries) - 1 - place) + 8
        x, colour = places[entry.name], colours[entry.name]
        side = 126.0 if on_left else WIDTH - 126.0
        drawing.polyline([(x, axis), (x, y), (side, y)], f"{colour} thin")
        drawing.text(side + (-4 if on_left else 4), y + 4, _short(entry.name), "label",
                     "end" if on_left else "")  # fmt: skip
        drawing.dot(x, axis, colour, title=f"{entry.name}: {entry.mean_rank:.2f}")


def _short(name: str, longest: int = 20) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
