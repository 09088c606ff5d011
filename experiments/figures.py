"""Figures of a comparison: for the page by plotly, for papers by matplotlib.

Every function returns the figure and the numbers in it as tidy rows, so that what is drawn can be
tested. Names come from results of others: plotly reads markup in texts, they are escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray

from morl.experiments.comparison import Comparison, Entry, Loaded, interval_of
from morl.indicators import hypervolume
from morl.result import RunResult
from morl.types import EnvSpec

Row = Mapping[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#8C564B")
"""Okabe and Ito's colours, told apart by everybody, and two more."""

KNOWN = "#767676"
INK = "#1c2430"
GRID_POINTS = 101
CAMERA = {"eye": {"x": 1.45, "y": 1.45, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.12}}
CHOSEN = "chosen by the slider"
"""Name of the trace that the page moves."""


def colour_of(comparison: Comparison, label: str) -> str:
    """Colour of an entry, the same in all figures."""
    labels = [entry.label for entry in comparison.entries]
    return COLOURS[labels.index(label) % len(COLOURS)]


# Fronts


def front_rows(comparison: Comparison) -> list[Row]:
    """One row a policy: where it comes from, its mean return and the standard error of that."""
    rows: list[Row] = []
    for label, run in comparison.runs:
        means, errors = means_and_errors(run.result.arrays.report_discounted)
        for policy, (point, error) in enumerate(zip(means, errors, strict=True)):
            rows.append(
                {
                    "label": label,
                    "seed": run.result.seed,
                    "policy": policy,
                    "mean": tuple(point.tolist()),
                    "standard_error": tuple(error.tolist()),
                }
            )
    return rows


def front_figure(comparison: Comparison) -> tuple[go.Figure, list[Row]]:
    """Fronts on the report episodes, by number of objectives: plane, space or parallel axes.

    In the plane every run is shown; in space and on parallel axes the typical run of each entry,
    the others in space after a click on the legend.
    """
    draw = {1: _front_line, 2: _front_plane, 3: _front_space}
    figure = draw.get(comparison.spec.num_objectives, _front_parallel)(comparison)
    return figure, front_rows(comparison)


def front_paper(comparison: Comparison) -> tuple[Figure, list[Row]]:
    """Fronts for print: planes of every two of up to three objectives, parallel axes beyond."""
    count = comparison.spec.num_objectives
    if count > 3 or count == 1:
        return _paper_parallel(comparison), front_rows(comparison)
    pairs = list(combinations(range(count), 2))
    figure = Figure(figsize=(4.2 * len(pairs), 3.4), layout="constrained")
    names = [_paper_text(title) for title in axis_titles(comparison.spec)]
    known = known_front(comparison.spec)
    for place, (across, up) in enumerate(pairs):
        axes = figure.add_subplot(1, len(pairs), place + 1)
        if known is not None:
            axes.scatter(
                known[:, across], known[:, up], s=70, facecolors="none", edgecolors=KNOWN,
                linewidths=0.6, label=_known_label(comparison.spec),
            )  # fmt: skip
        # The first drawn are the largest: equal points of several agents stay visible.
        sizes = np.linspace(28.0, 8.0, len(comparison.entries))
        for entry, size in zip(comparison.entries, sizes, strict=True):
            points = entry.typical.result.arrays.returns if entry.runs else np.empty((0, count))
            colour = colour_of(comparison, entry.label)
            axes.scatter(
                points[:, across], points[:, up], s=size, color=colour,
                label=_paper_text(entry.label),
            )  # fmt: skip
        axes.set_xlabel(names[across])
        axes.set_ylabel(names[up])
        axes.grid(visible=True, alpha=0.3)
    _paper_legend(figure)
    return figure, front_rows(comparison)


def _front_line(comparison: Comparison) -> go.Figure:
    figure = go.Figure()
    for label, run in comparison.runs:
        points = run.result.arrays.returns
        figure.add_bar(
            name=_run_name(comparison, label, run),
            y=points[:, 0].tolist(),
            marker_color=colour_of(comparison, label),
        )
    figure.update_yaxes(title=_escaped_titles(comparison.spec)[0])
    figure.update_xaxes(title="policy")
    return styled(figure)


def _front_plane(comparison: Comparison) -> go.Figure:
    figure = go.Figure()
    known = known_front(comparison.spec)
    if known is not None:
        figure.add_scatter(
            **_coordinates(known),
            mode="markers",
            name=html.escape(_known_label(comparison.spec)),
            marker={"color": KNOWN, "symbol": "circle-open", "size": 8},
        )
    for label, run in comparison.runs:
        means, errors = means_and_errors(run.result.arrays.report_discounted)
        figure.add_scatter(
            **_coordinates(means),
            error_x=_error_bars(errors[:, 0]),
            error_y=_error_bars(errors[:, 1]),
            mode="markers",
            name=_run_name(comparison, label, run),
            marker={"color": colour_of(comparison, label), "size": 7, "symbol": _symbol(run)},
            customdata=list(range(len(means))),
            hovertemplate="policy %{customdata}: (%{x:.6g}, %{y:.6g})",
        )
    figure.add_scatter(
        x=[], y=[], mode="markers", name=CHOSEN, hoverinfo="skip",
        marker={"color": "rgba(0,0,0,0)", "size": 17, "line": {"color": INK, "width": 2.5}},
    )  # fmt: skip
    across, up = _escaped_titles(comparison.spec)
    figure.update_xaxes(title=across)
    figure.update_yaxes(title=up)
    return styled(figure)


def _front_space(comparison: Comparison) -> go.Figure:
    figure = go.Figure()
    known = known_front(comparison.spec)
    if known is not None:
        figure.add_scatter3d(
            **_coordinates(known),
            mode="markers",
            name=html.escape(_known_label(comparison.spec)),
            marker={"color": KNOWN, "size": 2.5, "opacity": 0.55},
        )
    typical = [entry.typical for entry in comparison.entries if entry.runs]
    for label, run in comparison.runs:
        points = run.result.arrays.returns
        figure.add_scatter3d(
            **_coordinates(points),
            mode="markers",
            name=_run_name(comparison, label, run),
            visible=True if run in typical else "legendonly",
            marker={"color": colour_of(comparison, label), "size": 4},
            customdata=list(range(len(points))),
            hovertemplate="policy %{customdata}: (%{x:.6g}, %{y:.6g}, %{z:.6g})",
        )
    figure.add_scatter3d(
        x=[], y=[], z=[], mode="markers", name=CHOSEN, hoverinfo="skip",
        marker={"color": INK, "size": 9, "symbol": "circle-open", "line": {"width": 3}},
    )  # fmt: skip
    titles = _escaped_titles(comparison.spec)
    axes = {
        f"{axis}axis": {"title": {"text": title}, "backgroundcolor": "#f6f7f9", "gridcolor": "#ddd"}
        for axis, title in zip("xyz", titles, strict=True)
    }
    figure.update_layout(scene={**axes, "camera": CAMERA})
    styled(figure, height=580)
    return figure.update_layout(margin={"l": 0, "r": 0, "b": 70})


def _front_parallel(comparison: Comparison) -> go.Figure:
    groups = _parallel_groups(comparison)
    values = np.concatenate([points for _, _, points in groups])
    shades = np.concatenate([np.full(len(group[2]), i) for i, group in enumerate(groups)])
    last = max(len(groups) - 1, 1)
    scale = [[place / last, colour] for place, (_, colour, _) in enumerate(groups)]
    if len(scale) == 1:
        scale = [[0.0, scale[0][1]], [1.0, scale[0][1]]]
    figure = go.Figure(
        go.Parcoords(
            line={
                "color": shades.tolist(), "colorscale": scale, "cmin": 0, "cmax": last,
            },
            dimensions=[
                {"label": title, "values": values[:, axis].tolist()}
                for axis, title in enumerate(_escaped_titles(comparison.spec))
            ],
        )
    )  # fmt: skip
    for name, colour, _ in groups:  # parallel axes have no legend of their own
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=html.escape(name), line={"color": colour}
        )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return styled(figure, top=80)


def _parallel_groups(comparison: Comparison) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Name, colour and points of what parallel axes show."""
    known = known_front(comparison.spec)
    groups = [] if known is None else [(_known_label(comparison.spec), "#c4c8cf", known)]
    groups += [
        (entry.label, colour_of(comparison, entry.label), entry.typical.result.arrays.returns)
        for entry in comparison.entries
        if entry.runs
    ]
    return groups


def _paper_parallel(comparison: Comparison) -> Figure:
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    groups = _parallel_groups(comparison)
    everything = np.concatenate([points for _, _, points in groups])
    low, high = (everything.min(axis=0), everything.max(axis=0)) if len(everything) else (0.0, 1.0)
    extent = np.where(np.asarray(high) > low, np.asarray(high) - low, 1.0)
    places = range(comparison.spec.num_objectives)
    for name, colour, points in groups:
        for number, point in enumerate((points - low) / extent):
            label = _paper_text(name) if number == 0 else None
            axes.plot(places, point, color=colour, alpha=0.5, linewidth=0.8, label=label)
    titles = [_paper_text(title) for title in axis_titles(comparison.spec)]
    axes.set_xticks(list(places), titles, fontsize=8)
    axes.set_yticks([0.0, 1.0], ["worst shown", "best shown"], fontsize=8)
    _paper_legend(figure)
    return figure


# Learning curves


def curve_rows(comparison: Comparison, column: str) -> list[Row]:
    """One row a point of each run's learning curve."""
    return [
        {"label": label, "seed": run.result.seed, "steps": steps, "value": value}
        for label, run in comparison.runs
        for steps, value in zip(
            run.result.curve.get("steps", ()), run.result.curve.get(column, ()), strict=False
        )
    ]


def mean_curve(entry: Entry, column: str) -> list[Row]:
    """Mean over seeds with its interval, on a grid of steps that all seeds cover.

    Between the points of a run its curve is a straight line. Nothing for fewer than two seeds.
    """
    curves = [
        (np.asarray(run.result.curve["steps"]), np.asarray(run.result.curve[column]))
        for run in entry.runs
        if run.result.curve.get(column)
    ]
    if len(curves) < 2:
        return []
    start, stop = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if start > stop:
        return []
    grid = np.linspace(start, stop, GRID_POINTS)
    values = np.stack([np.interp(grid, steps, readings) for steps, readings in curves])
    rows: list[Row] = []
    for steps, column_values in zip(grid.tolist(), values.T, strict=True):
        interval = interval_of(column_values.tolist())
        margin = interval.margin or 0.0
        floor = 0.0 if column == "hypervolume" else -np.inf  # there is no negative volume
        rows.append(
            {
                "label": entry.label,
                "steps": steps,
                "mean": interval.value,
                "low": max(interval.value - margin, floor),
                "high": interval.value + margin,
            }
        )
    return rows


def curve_figure(comparison: Comparison, column: str, title: str) -> tuple[go.Figure, list[Row]]:
    """An indicator against true environment steps: every seed, and their mean with its interval.

    The curve is of the selection episodes; diamonds are the final values on the report episodes.
    """
    figure = go.Figure()
    for entry in comparison.entries:
        colour = colour_of(comparison, entry.label)
        mean = mean_curve(entry, column)
        _add_band(figure, mean, colour, html.escape(entry.label))
        for run in entry.runs:
            _add_run(figure, run, column, colour, faint=bool(mean), label=entry.label)
    for name, level in reference_levels(comparison.spec, column).items():
        figure.add_hline(
            y=level,
            line={"color": KNOWN, "dash": "dot", "width": 1.2},
            annotation={"text": html.escape(name), "font": {"size": 11, "color": KNOWN}},
            annotation_position="top left",
        )
    figure.update_xaxes(title="environment steps", rangemode="tozero")
    figure.update_yaxes(title=html.escape(title))
    return styled(figure), curve_rows(comparison, column)


def curve_paper(comparison: Comparison, column: str, title: str) -> tuple[Figure, list[Row]]:
    """The learning curve for print."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for entry in comparison.entries:
        colour = colour_of(comparison, entry.label)
        mean = mean_curve(entry, column)
        for number, run in enumerate(entry.runs):
            curve = run.result.curve
            label = _paper_text(entry.label) if number == 0 and not mean else None
            axes.plot(
                curve["steps"], curve[column], color=colour, linewidth=0.8 if mean else 1.6,
                alpha=0.35 if mean else 1.0, label=label,
            )  # fmt: skip
        if mean:
            steps = [row["steps"] for row in mean]
            axes.plot(
                steps, [row["mean"] for row in mean], color=colour, label=_paper_text(entry.label)
            )
            low, high = ([row[edge] for row in mean] for edge in ("low", "high"))
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    for name, level in reference_levels(comparison.spec, column).items():
        axes.axhline(level, color=KNOWN, linestyle=":", linewidth=1.0)
        where = axes.get_yaxis_transform()
        axes.text(
            0.01, level, _paper_text(name), fontsize=7, color=KNOWN, transform=where, va="bottom"
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel(title)
    axes.grid(visible=True, alpha=0.3)
    _paper_legend(figure)
    return figure, curve_rows(comparison, column)


def reference_levels(spec: EnvSpec, column: str) -> dict[str, float]:
    """Anchors and the known front, as far as they have a value of the indicator."""
    if column != "hypervolume":
        return {}
    levels = dict(spec.anchors)
    known = known_front(spec)
    if known is not None:
        value = hypervolume(known, spec.reference_point).value
        if not any(np.isclose(value, level, rtol=1e-3) for level in levels.values()):
            levels[_known_label(spec)] = value
    return levels


def _add_band(figure: go.Figure, mean: Sequence[Row], colour: str, name: str) -> None:
    if not mean:
        return
    steps = [row["steps"] for row in mean]
    figure.add_scatter(
        x=[*steps, *reversed(steps)],
        y=[*(row["high"] for row in mean), *(row["low"] for row in reversed(mean))],
        fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0}, hoverinfo="skip",
        showlegend=False, legendgroup=name,
    )  # fmt: skip
    figure.add_scatter(
        x=steps, y=[row["mean"] for row in mean], mode="lines", name=f"{name}, mean",
        legendgroup=name, line={"color": colour, "width": 3},
    )  # fmt: skip


def _add_run(
    figure: go.Figure, run: Loaded, column: str, colour: str, *, faint: bool, label: str
) -> None:
    curve = run.result.curve
    name = f"{html.escape(label)} seed {run.result.seed}"
    figure.add_scatter(
        x=list(curve.get("steps", ())), y=list(curve.get(column, ())),
        mode="lines" if faint else "lines+markers", name=name, legendgroup=html.escape(label),
        showlegend=not faint, opacity=0.4 if faint else 1.0,
        line={"color": colour, "width": 1.2 if faint else 2.2}, marker={"size": 5},
    )  # fmt: skip
    if column in run.result.metrics:
        figure.add_scatter(
            x=[run.result.budget.env_steps], y=[run.result.metrics[column].value],
            mode="markers", name=f"{name}, report", legendgroup=html.escape(label),
            showlegend=False, marker={"color": colour, "symbol": "diamond-open", "size": 9},
        )  # fmt: skip


# What all of them need


def means_and_errors(
    returns: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean return and standard error of each policy, shape (policy, objective).

    Args:
        returns: shape (policy, episode, objective), at least two episodes.
    """
    episodes = max(returns.shape[1], 2)
    means = returns.sum(axis=1) / max(returns.shape[1], 1)
    spread = ((returns - means[:, None]) ** 2).sum(axis=1) / (episodes - 1)
    # A mean of equal numbers is not quite that number: no spread shall be none.
    constant = (returns == returns[:, :1]).all(axis=1)
    return means, np.where(constant, 0.0, np.sqrt(spread / episodes))


def known_front(spec: EnvSpec) -> NDArray[np.float64] | None:
    """The known front at the discount of the task, or None."""
    return None if spec.known_front is None else spec.known_front.points(spec.discount)


def axis_titles(spec: EnvSpec) -> list[str]:
    """Names of the objectives, with their units."""
    return [
        f"{objective.name} ({objective.unit})" if objective.unit else objective.name
        for objective in spec.objectives
    ]


def is_typical(comparison: Comparison, result: RunResult) -> bool:
    """Whether a run is the one by which its entry is shown."""
    return any(entry.runs and entry.typical.result is result for entry in comparison.entries)


def _escaped_titles(spec: EnvSpec) -> list[str]:
    return [html.escape(title) for title in axis_titles(spec)]


def _paper_legend(figure: Figure) -> None:
    """A legend above the axes, where it hides nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = max(1, int(figure.get_figwidth() / 2.3))
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, fontsize=8, frameon=False
    )


def _paper_text(text: str) -> str:
    """Text that matplotlib takes for neither mathematics nor a name to hide."""
    return text.replace("$", "\\$").lstrip("_")


def _known_label(spec: EnvSpec) -> str:
    return f"known front ({spec.known_front.certificate})" if spec.known_front else ""


def _run_name(comparison: Comparison, label: str, run: Loaded) -> str:
    several = sum(entry_label == label for entry_label, _ in comparison.runs) > 1
    return html.escape(f"{label} seed {run.result.seed}" if several else label)


def _symbol(run: Loaded) -> str:
    symbols = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
    return symbols[run.result.seed % len(symbols)]


def _coordinates(points: NDArray[np.float64]) -> dict[str, list[float]]:
    return {axis: points[:, index].tolist() for index, axis in enumerate("xyz"[: points.shape[1]])}


def _error_bars(errors: NDArray[np.float64]) -> dict[str, Any]:
    return {"type": "data", "array": errors.tolist(), "thickness": 0.8, "width": 0}


def styled(figure: go.Figure, *, height: int = 460, top: int = 30) -> go.Figure:
    """The look that all figures of pages have."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": top, "b": 110},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={
            "orientation": "h", "yanchor": "bottom", "yref": "container", "y": 0.0, "x": 0.0,
            "itemsizing": "constant",
        },
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#b4bbc5", "activecolor": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
    return figure
