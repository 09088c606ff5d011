"""``python -m morl.experiments.bench.offloading_report``: what the offloading benchmark found.

Reads what `morl.experiments.bench.offloading` played, writes a record (JSON), the tables of
``docs/offloading.md`` and its pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from morl import storage
from morl.experiments.bench.measurement import RESULTS, machine
from morl.experiments.bench.offloading import (
    DIVISIONS,
    GREEDY,
    MAIN,
    PLAYED,
    SCHEMES,
    SYSTEMS,
    Figures,
    OffloadingBenchError,
    Resampler,
    System,
    Totals,
    areas,
    compared,
    load_totals,
)
from morl.experiments.datasheets import save_small
from morl.experiments.front_pages import section_replaced, table
from morl.types import MorlError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "offloading.md"
"""The page, in a checkout."""

RECORD = RESULTS / "offloading.json"

BEGIN, END = "<!-- results: written by offloading_report -->", "<!-- end of results -->"

PAPER_REFERENCE = (52.0, 5.3)
"""Minutes and joules. The paper takes the largest delay and energy of the fronts that it compares
and does not say them; near this point the random front has the hypervolume that it reports."""

PAPER: Mapping[str, float] = {
    "gmorl": 64.1,
    "linucb": 57.9,
    "multi-policy": 64.3,
    "annealing": 30.2,
    "random": 29.0,
}
"""Hypervolumes with six edge servers, figure 2 of arXiv:2509.10474."""

LABELS: Mapping[str, str] = {
    "gmorl": "GMORL",
    "gmorl-paper": "GMORL, the paper's setting",
    "gmorl-observation": "GMORL, paper's observation",
    "multi-policy": "one discrete SAC a preference",
}
"""Of schemes that come as runs."""

PLOTTED = ("edges-3", MAIN, "edges-9")

STYLES: Mapping[str, tuple[str, str]] = {
    "gmorl": ("#0072B2", "o"),
    "gmorl-paper": ("#56B4E9", "o"),
    "multi-policy": ("#6B4C9A", "^"),
    "rollout": ("#D55E00", "v"),
    GREEDY: ("#1c2430", "s"),
    "linucb": ("#009E73", "D"),
    "annealing": ("#8C564B", "P"),
    "random": ("#CC79A7", "x"),
    "shortest-queue": ("#E69F00", "*"),
    "shortest-edge-queue": ("#767676", "*"),
}
"""Colour and mark of the schemes in pictures; others are in the tables alone."""

SHADES = 128
"""Colours of a stored picture."""


def label(scheme: str) -> str:
    """Name of a scheme in tables."""
    return SCHEMES[scheme].label if scheme in SCHEMES else LABELS.get(scheme, scheme)


# ---------------------------------------------------------------------------------------------
# The record


def record(
    played: Mapping[str, Mapping[str, Sequence[Totals]]],
    resampler: Resampler,
    *,
    trained_there: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All figures.

    Args:
        played: system, scheme, totals of each seed.
        resampler: for intervals.
        trained_there: scheme and the one that stands for training in the system itself; of the
            latter, a scheme named ``NAME@SYSTEM`` is preferred where there is one.

    Raises:
        OffloadingBenchError: if nothing was played.
    """
    if not played:
        raise OffloadingBenchError("nothing was played; run morl.experiments.bench.offloading")
    systems = [SYSTEMS[name] for name in SYSTEMS if name in played]
    rows = [
        row for system in systems for row in Figures(system, played[system.name], resampler).rows()
    ]
    return {
        "benchmark": "offloading",
        "command": "python -m morl.experiments.bench.offloading_report",
        "protocol": {
            "preferences": DIVISIONS + 1,
            "reward_scales": [0.01, 5.0],
            "units": "minutes x joules",
            "interval": f"95 %, percentile bootstrap, {resampler.resamples} resamples of episodes "
            "and seeds; [value, low, high]",
            "references": {system.name: list(system.reference) for system in systems},
            "paper_reference": list(PAPER_REFERENCE),
        },
        "machine": machine(),
        "rows": rows,
        "paper_protocol": paper_rows(played.get(MAIN, {}), resampler),
        "generalisation": generalisation(systems, played, resampler, trained_there or {}),
        "fronts": {
            system.name: fronts(played[system.name]) for system in systems if system.name in PLOTTED
        },
    }


def fronts(played: Mapping[str, Sequence[Totals]]) -> dict[str, list[list[float]]]:
    """Fronts of the schemes that pictures show, all on the episodes that all of them have."""
    shown = {name: runs for name, runs in played.items() if name in STYLES}
    episodes = min(len(run[0]) for runs in shown.values() for run in runs)
    return {name: front(runs[0][:, :episodes]) for name, runs in shown.items()}


def front(totals: Totals) -> list[list[float]]:
    """Mean totals that no other preference beats, by delay."""
    means = totals.mean(axis=1)
    ordered = means[np.lexsort((means[:, 1], means[:, 0]))]
    best = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:, 1])[:-1]])
    kept: NDArray[np.float64] = ordered[ordered[:, 1] < best]
    return [[round(delay, 3), round(energy, 4)] for delay, energy in kept.tolist()]


def paper_rows(
    played: Mapping[str, Sequence[Totals]], resampler: Resampler
) -> list[dict[str, Any]]:
    """Hypervolumes with the paper's reference point, beside the paper's."""
    if "random" not in played:
        return []
    found = Figures(SYSTEMS[MAIN], played, resampler)
    random = found.of_greedy("random", _paper_volume)
    return [
        {
            "scheme": scheme,
            "hypervolume": found.whole(scheme, _paper_volume).record(2),
            "of_random": (found.of_greedy(scheme, _paper_volume) / random).record(3),
            "paper": PAPER.get(scheme),
        }
        for scheme in played
    ]


def _paper_volume(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return areas(means, PAPER_REFERENCE)


def generalisation(
    systems: Sequence[System],
    played: Mapping[str, Mapping[str, Sequence[Totals]]],
    resampler: Resampler,
    trained_there: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Errors of generalisation: by how much the hypervolume falls short of one trained there."""
    rows = []
    for scheme, other in trained_there.items():
        for system in systems:
            known = played[system.name]
            there = f"{other}@{system.name}" if f"{other}@{system.name}" in known else other
            if scheme == there or scheme not in known or there not in known:
                continue
            ratio = compared(system, known[scheme], known[there], resampler)
            value, low, high = (round(1.0 - number, 4) for number in ratio)
            rows.append(
                {
                    "system": system.name,
                    "scheme": scheme,
                    "trained_there": there,
                    "error": [value, high, low],
                }
            )
    return rows


# ---------------------------------------------------------------------------------------------
# Tables


def tables(found: Mapping[str, Any]) -> str:
    """The results of a record, in Markdown."""
    parts = [_main_table(found), _paper_table(found)]
    for title, prefix in (
        ("### By number of edge servers", "edges-"),
        ("### By frequencies, six edge servers", ("cloud-", "edge-", "frequencies")),
    ):
        parts += [title, _ratio_table(found, prefix)]
    if found["generalisation"]:
        parts += ["### Generalisation", _generalisation_table(found)]
    return "\n\n".join(part for part in parts if part)


def _interval(numbers: Sequence[float], style: str) -> str:
    value, low, high = (format(number, style) for number in numbers)
    return f"{value} ({low} to {high})"


def _main_table(found: Mapping[str, Any]) -> str:
    rows = [row for row in found["rows"] if row["system"] == MAIN]
    rows.sort(key=lambda row: -row["hypervolume"][0])
    cells = [
        [
            label(row["scheme"]),
            str(row["seeds"]),
            f"{row['episodes']:,}",
            _interval(row["hypervolume"], ".1f"),
            _interval(row["of_greedy"], ".3f"),
            f"{row['delay_minutes'][0]:.1f}",
            f"{row['energy_joules'][0]:.2f}",
            f"{row['scaled_return'][0]:.2f}",
        ]
        for row in rows
    ]
    head = [
        "scheme", "seeds", "episodes", "hypervolume", "of greedy's", "delay alone, min",
        "energy alone, J", "scaled return",
    ]  # fmt: skip
    return "### Six edge servers\n\n" + table(head, cells)


def _paper_table(found: Mapping[str, Any]) -> str:
    if not found["paper_protocol"]:
        return ""
    rows = sorted(found["paper_protocol"], key=lambda row: -row["hypervolume"][0])
    cells = [
        [
            label(row["scheme"]),
            _interval(row["hypervolume"], ".1f"),
            _interval(row["of_random"], ".2f"),
            "-" if row["paper"] is None else f"{row['paper']:.1f}",
            "-" if row["paper"] is None else f"{row['paper'] / PAPER['random']:.2f}",
        ]
        for row in rows
    ]
    head = ["scheme", "hypervolume", "of random's", "paper", "paper, of random's"]
    minutes, joules = found["protocol"]["paper_reference"]
    return (
        "### The paper's table\n\nSix edge servers, reference point "
        f"({minutes:g} min, {joules:g} J).\n\n{table(head, cells)}"
    )


def _ratio_table(found: Mapping[str, Any], prefix: str | tuple[str, ...]) -> str:
    """Hypervolume of greedy, and the others' as a share of it, by system."""
    rows = [row for row in found["rows"] if row["system"].startswith(prefix)]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    if not systems:
        return ""
    by_place = {(row["scheme"], row["system"]): row for row in rows}
    schemes = [
        name
        for name in dict.fromkeys(row["scheme"] for row in rows)
        if name != GREEDY and any(row["of_greedy"][0] > 0 for row in rows if row["scheme"] == name)
    ]
    greedy = [_interval(by_place[GREEDY, system]["hypervolume"], ".0f") for system in systems]
    lines = [["greedy's hypervolume", *greedy]]
    for scheme in schemes:
        cells = [by_place.get((scheme, system)) for system in systems]
        lines.append(
            [label(scheme), *("-" if cell is None else _share(cell["of_greedy"]) for cell in cells)]
        )
    return table(["share of it", *(SYSTEMS[system].label for system in systems)], lines)


def _share(numbers: Sequence[float]) -> str:
    value, low, high = numbers
    return f"{value:.3f} ± {(high - low) / 2:.3f}"


def _generalisation_table(found: Mapping[str, Any]) -> str:
    cells = [
        [
            SYSTEMS[row["system"]].label,
            label(row["scheme"]),
            label(row["trained_there"]),
            " ".join(
                [f"{row['error'][0]:+.1%}", f"({row['error'][1]:+.1%} to {row['error'][2]:+.1%})"]
            ),
        ]
        for row in found["generalisation"]
    ]
    return table(["system", "scheme", "against", "error"], cells)


def with_results(page: str, results: str) -> str:
    """A page with other results between its marks.

    Raises:
        OffloadingBenchError: if the page has no marks.
    """
    found = section_replaced(page, results, begin=BEGIN, end=END)
    if found is None:
        raise OffloadingBenchError(f"the page lacks the marks {BEGIN} and {END}")
    return found


# ---------------------------------------------------------------------------------------------
# Pictures


def fronts_figure(found: Mapping[str, Any]) -> Figure:
    """Fronts in the systems that are kept, in the paper's units."""
    names = [name for name in PLOTTED if name in found["fronts"]]
    figure = Figure(figsize=(3.4 * len(names) + 0.4, 3.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for place, name in zip(axes, names, strict=True):
        reference = found["protocol"]["references"][name]
        for scheme, points in sorted(found["fronts"][name].items(), key=_place):
            inside = np.array(points)[(np.array(points) < reference).all(axis=1)]
            colour, mark = STYLES[scheme]
            if len(inside):
                place.plot(
                    *inside.T, marker=mark, markersize=3, linewidth=0.8, color=colour,
                    label=label(scheme),
                )  # fmt: skip
        place.set_title(SYSTEMS[name].label, fontsize=9)
        place.set_xlabel("delay, minutes", fontsize=8)
        place.set_ylabel("energy, J", fontsize=8)
        place.tick_params(labelsize=7)
        place.grid(alpha=0.3)
    known: dict[str, Any] = {}
    for place in axes:
        handles, labels = place.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=5, fontsize=7)
    return figure


def edges_figure(found: Mapping[str, Any]) -> Figure:
    """Hypervolumes as shares of greedy's by number of edge servers."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for scheme, (colour, mark) in STYLES.items():
        own = [
            row
            for row in found["rows"]
            if row["scheme"] == scheme and row["system"].startswith("edges-")
        ]
        if scheme == GREEDY or not own:
            continue
        edges = np.array([int(row["system"].removeprefix("edges-")) for row in own])
        values = np.array([row["of_greedy"] for row in own])
        axes.errorbar(
            edges, values[:, 0], yerr=np.abs(values[:, 1:] - values[:, :1]).T, marker=mark,
            markersize=4, linewidth=1, capsize=2, color=colour, label=label(scheme),
        )  # fmt: skip
    axes.axhline(1.0, color=STYLES[GREEDY][0], linewidth=0.9, label=label(GREEDY))
    axes.axvspan(8.5, 10.4, color="#767676", alpha=0.12)
    axes.set_xlim(0.6, 10.4)
    axes.set_xlabel("edge servers; more than 8 do not occur in training", fontsize=8)
    axes.set_ylabel("hypervolume, share of greedy's", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize=7)
    return figure


def _place(item: tuple[str, Any]) -> int:
    """Where a scheme stands in legends."""
    return list(STYLES).index(item[0])


# ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        found = record(
            load_totals(options.played),
            Resampler(options.resamples),
            trained_there=dict(pair.split("=") for pair in options.trained_there),
        )
        storage.write_json(options.record, found)
        _write_page(found, options.page)
    except MorlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.offloading_report",
        description="Report what was played.",
    )
    parser.add_argument("--played", type=Path, default=PLAYED)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument(
        "--trained-there",
        nargs="+",
        default=[],
        metavar="SCHEME=OTHER",
        help="errors of generalisation of a scheme against one trained in the systems",
    )
    return parser


def _write_page(found: Mapping[str, Any], page: Path) -> None:
    images = page.parent / "images"
    storage.make_folder(images)
    save_small(fronts_figure(found), images / "offloading_fronts.png", colours=SHADES)
    save_small(edges_figure(found), images / "offloading_edges.png", colours=SHADES)
    text = with_results(storage.read_bytes(page).decode(), tables(found))
    storage.atomic_write(page, text.encode())


if __name__ == "__main__":
    sys.exit(main())
