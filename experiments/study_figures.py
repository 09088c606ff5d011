"""Figures of a study by plotly: what was tried, what matters, what it cost, what it brought.

Every function returns None where there is nothing to draw.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from morl.experiments.figures import COLOURS, INK, KNOWN, styled
from morl.hpo.types import DEFAULTS, StudySummary, TrialRecord

_TUNED, _DEFAULTS, _PRUNED = COLOURS[0], COLOURS[1], "#b4bbc5"
_COLUMNS = 3


def history(summary: StudySummary) -> go.Figure | None:
    """The first objective by trial, and the best so far."""
    done = complete(summary)
    if not done:
        return None
    objective = summary.config.objectives[0]
    values = [trial.values[0] for trial in done]
    running = np.maximum.accumulate if objective.sign > 0 else np.minimum.accumulate
    figure = go.Figure()
    figure.add_scatter(
        x=[trial.number for trial in done], y=values, mode="markers", name="complete",
        marker={"color": _TUNED, "size": 7}, hovertemplate="trial %{x}: %{y:.6g}",
    )  # fmt: skip
    cut = [(trial.number, level) for trial in summary.trials if (level := _last(trial)) is not None]
    if cut:
        figure.add_scatter(
            x=[number for number, _ in cut], y=[level for _, level in cut], mode="markers",
            name="pruned, where it stood", marker={"color": _PRUNED, "symbol": "x", "size": 6},
        )  # fmt: skip
    figure.add_scatter(
        x=[trial.number for trial in done], y=running(values).tolist(), mode="lines",
        name="best so far", line={"color": INK, "shape": "hv"},
    )  # fmt: skip
    _mark_defaults(figure, done)
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title=html.escape(objective.label))
    return styled(figure)


def slices(summary: StudySummary) -> go.Figure | None:
    """The first objective against each searched setting; on logarithmic axes where it was so."""
    done, names = complete(summary), _searched(summary)
    if not done or not names:
        return None
    rows = math.ceil(len(names) / _COLUMNS)
    figure = make_subplots(
        rows=rows, cols=_COLUMNS, shared_yaxes=True, vertical_spacing=min(0.12, 0.7 / rows)
    )
    for place, name in enumerate(names):
        row, column = place // _COLUMNS + 1, place % _COLUMNS + 1
        found = [trial for trial in done if _matters(trial, name)]
        figure.add_scatter(
            x=[_shown(trial.sampled[name]) for trial in found],
            y=[trial.values[0] for trial in found],
            mode="markers", showlegend=False, row=row, col=column,
            marker={"color": [trial.number for trial in found], "colorscale": "Blues", "size": 7,
                    "cmin": -max(1, len(done) // 3), "line": {"color": INK, "width": 0.5}},
            customdata=[trial.number for trial in found],
            hovertemplate="trial %{customdata}: %{x} gives %{y:.6g}<extra></extra>",
        )  # fmt: skip
        kind = "log" if summary.space[name].get("log") else None
        figure.update_xaxes(title=html.escape(name), type=kind, row=row, col=column)
    return styled(figure, height=120 + 230 * rows)


def parallel(summary: StudySummary) -> go.Figure | None:
    """Every complete trial as a line across its settings, coloured by the first objective."""
    done, names = complete(summary), _searched(summary)
    if not done or not names:
        return None
    axes = [_axis(summary, name, done) for name in names]
    values = [trial.values[0] for trial in done]
    label = html.escape(summary.config.objectives[0].label)
    axes.append({"label": label, "values": values})
    better = "Viridis" if summary.config.objectives[0].sign > 0 else "Viridis_r"
    figure = go.Figure(
        go.Parcoords(
            line={"color": values, "colorscale": better, "showscale": True},
            dimensions=axes,
            labelangle=-20,
            labelfont={"size": 11},
        )
    )
    return styled(figure, top=90).update_layout(margin={"l": 90, "r": 60, "b": 40})


def importances(summary: StudySummary) -> go.Figure | None:
    """Shares of the settings in the variance of the first objective."""
    ordered = sorted(summary.importances.items(), key=lambda item: item[1])
    if not ordered:
        return None
    figure = go.Figure()
    figure.add_bar(
        x=[share for _, share in ordered], y=[html.escape(name) for name, _ in ordered],
        orientation="h", marker_color=_TUNED, hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="importance (PED-ANOVA)", tickformat=".0%", rangemode="tozero")
    return styled(figure, height=140 + 26 * len(ordered)).update_layout(margin={"l": 190})


def against_cost(summary: StudySummary) -> go.Figure | None:
    """The best first objective so far against environment steps; all trials' steps count."""
    begun = sorted(
        (trial for trial in summary.trials if trial.ended is not None), key=lambda t: t.ended or 0.0
    )
    if not any(trial.values for trial in begun):
        return None
    sign = summary.config.objectives[0].sign
    steps, best, total, highest = [0.0], [math.nan], 0.0, -math.inf
    for trial in begun:
        total += sum(run.cost.get("env_steps", 0.0) for run in trial.runs)
        if trial.values:
            highest = max(highest, sign * trial.values[0])
        if math.isfinite(highest):
            steps.append(total)
            best.append(sign * highest)
    figure = go.Figure()
    figure.add_scatter(
        x=steps[1:], y=best[1:], mode="lines+markers", name="best so far",
        line={"color": _TUNED, "shape": "hv"}, marker={"size": 5},
    )  # fmt: skip
    _mark_defaults(figure, complete(summary))
    figure.update_xaxes(title="environment steps of the search", rangemode="tozero")
    figure.update_yaxes(title=html.escape(summary.config.objectives[0].label))
    return styled(figure)


def trade_offs(summary: StudySummary) -> go.Figure | None:
    """Two objectives against each other, with the front of the search."""
    done, objectives = complete(summary), summary.config.objectives
    if len(objectives) < 2 or not done:
        return None
    figure = go.Figure()
    for name, numbers, colour in (
        ("dominated", {trial.number for trial in done} - set(summary.front), _PRUNED),
        ("front", set(summary.front), _TUNED),
    ):
        found = [trial for trial in done if trial.number in numbers]
        figure.add_scatter(
            x=[trial.values[1] for trial in found], y=[trial.values[0] for trial in found],
            mode="markers", name=name, marker={"color": colour, "size": 8},
            customdata=[trial.number for trial in found],
            hovertemplate="trial %{customdata}: %{y:.6g}, %{x:.6g}",
        )  # fmt: skip
    figure.update_xaxes(title=html.escape(objectives[1].label))
    figure.update_yaxes(title=html.escape(objectives[0].label))
    return styled(figure)


def test(summary: StudySummary) -> go.Figure | None:
    """Tuned against default on the fresh seeds, and the tuning score that promised more."""
    found = summary.validation
    if found is None:
        return None
    figure = go.Figure()
    sides = (
        ("defaults", found.defaults, found.defaults_interval, _DEFAULTS),
        ("tuned", found.tuned, found.tuned_interval, _TUNED),
    )
    for name, values, interval, colour in sides:
        figure.add_scatter(
            x=list(values), y=[name] * len(values), mode="markers", name=f"{name}, each seed",
            marker={"color": colour, "size": 8, "opacity": 0.5}, customdata=list(found.seeds),
            hovertemplate="seed %{customdata}: %{x:.6g}",
        )  # fmt: skip
        figure.add_scatter(
            x=[interval.estimate], y=[name], mode="markers", name=f"{name}, mean and 95 %",
            marker={"color": colour, "size": 13, "symbol": "diamond"},
            error_x={"type": "data", "symmetric": False, "thickness": 2.5,
                     "array": [interval.high - interval.estimate],
                     "arrayminus": [interval.estimate - interval.low]},
        )  # fmt: skip
    figure.add_scatter(
        x=[found.tuning_score], y=["tuned"], mode="markers", name="what tuning promised",
        marker={"color": KNOWN, "size": 11, "symbol": "line-ns-open"},
    )  # fmt: skip
    figure.update_xaxes(title=html.escape(found.metric))
    return styled(figure, height=330)


def complete(summary: StudySummary) -> list[TrialRecord]:
    """Trials of the search that ended well."""
    return [trial for trial in summary.trials if trial.state == "complete" and trial.values]


def _mark_defaults(figure: go.Figure, done: Sequence[TrialRecord]) -> None:
    level = next((trial.values[0] for trial in done if trial.number == DEFAULTS), None)
    if level is not None:
        figure.add_hline(
            y=level, line={"color": _DEFAULTS, "dash": "dash"}, annotation_text="defaults"
        )


def _last(trial: TrialRecord) -> float | None:
    """Where a pruned trial stood, as far as finished seeds tell."""
    if trial.state != "pruned" or not trial.runs or not trial.runs[-1].curve:
        return None
    return trial.runs[-1].curve[-1][1]


def _searched(summary: StudySummary) -> list[str]:
    """Searched settings; those that follow from others have no axis."""
    return [name for name, place in summary.space.items() if "tie" not in place]


def _matters(trial: TrialRecord, name: str) -> bool:
    """Whether a trial's sampled value was used; the defaults use all of theirs."""
    return name in trial.sampled and (name in trial.settings or trial.number == DEFAULTS)


def _shown(value: Any) -> Any:  # noqa: ANN401 - a number or a name
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _axis(summary: StudySummary, name: str, done: Sequence[TrialRecord]) -> Mapping[str, Any]:
    place, label = summary.space[name], html.escape(name)
    values = [trial.sampled.get(name) for trial in done]
    if place["type"] == "categorical":
        labels = list(place["choices"])
        return {
            "label": label,
            "values": [labels.index(str(value)) for value in values],
            "tickvals": list(range(len(labels))),
            "ticktext": [html.escape(each) for each in labels],
        }
    numbers = [float(value) for value in values]  # type: ignore[arg-type]  # complete trials
    if not place.get("log"):
        return {"label": label, "values": numbers}
    ticks = np.geomspace(place["low"], place["high"], 4)
    return {
        "label": label,
        "values": np.log10(numbers).tolist(),
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": [f"{tick:.2g}" for tick in ticks],
    }
