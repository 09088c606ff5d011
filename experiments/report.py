"""One self-contained HTML page about any number of runs, and PNG files for papers.

The page reads nothing but results (and the known front and anchors of environments that are
installed), asks the network for nothing, and has the same bytes whenever it is made of the same
results. Everything that comes from a result is escaped: it may be somebody else's.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from morl.experiments import figures, measures
from morl.experiments.comparison import Comparison, Entry, Interval, Loaded, compare, find_results
from morl.experiments.config import RunSettings, command_of, flat
from morl.experiments.object_pages import objects_section
from morl.experiments.page import figure, page, text
from morl.result import RunResult
from morl.storage import atomic_write, make_folder

NAME = "report.html"


class Indicator(NamedTuple):
    """A row of the table of indicators."""

    name: str
    title: str
    meaning: str


INDICATORS = (
    Indicator("hypervolume", "hypervolume ↑", "volume dominated above the reference point"),
    Indicator(
        "hypervolume_jackknife", "hypervolume, corrected ↑", "without the bias of noisy episodes"
    ),
    Indicator("hypervolume_normalised", "hypervolume in the box ↑", "in units of the fixed box"),
    Indicator("hypervolume_ratio", "share of the known front ↑", "of its hypervolume"),
    Indicator("expected_utility", "expected utility ↑", "mean over all linear preferences"),
    Indicator("maximum_utility_loss", "maximum utility loss ↓", "at the worst preference"),
    Indicator("igd_plus", "IGD+ ↓", "mean shortfall from the known front"),
    Indicator("epsilon_additive", "additive epsilon ↓", "worst shortfall from the known front"),
    Indicator("cardinality", "policies on the front", "not for ranking"),
    Indicator("sparsity_deduplicated", "sparsity", "not for ranking"),
)
"""What the table shows, in order; an arrow says what is better."""

CURVES = (("hypervolume", "hypervolume"), ("expected_utility", "expected utility"))


def write_report(
    paths: Sequence[Path], *, output: Path | None = None, png: bool = False
) -> list[Path]:
    """Write the page about all results in some folders.

    Args:
        paths: folders of runs, folders of those, or result files.
        output: the page; by default ``report.html`` in the folder that holds all of them.
        png: also write figures for papers beside the page.

    Returns:
        The files written, the page first.

    Raises:
        StorageError: there is no result, or a file cannot be written.
    """
    loaded, unreadable = find_results(paths)
    comparisons = compare(loaded)
    target = output or _common_folder(paths) / NAME
    make_folder(target.parent)
    atomic_write(target, render(comparisons, unreadable=unreadable).encode())
    written = [target]
    if png:
        for name, figure in paper_figures(comparisons):
            path = target.with_name(f"{target.stem}-{name}.png")
            atomic_write(path, _png(figure))
            written.append(path)
    return written


def render(
    comparisons: Sequence[Comparison], *, unreadable: Sequence[tuple[Path, str]] = ()
) -> str:
    """The page as text."""
    drawn: dict[str, Any] = {}
    explorers: dict[str, Any] = {}
    sections = []
    for number, comparison in enumerate(comparisons):
        sections.append(_section(number, comparison, drawn))
        if _completed(comparison):
            explorers[str(number)] = {
                "figure": f"figure-{number}-front",
                "runs": explorer_runs(comparison),
            }
    data = {"figures": drawn, "explorers": explorers, "chosen": figures.CHOSEN}
    return page(
        "report.html",
        data=data,
        title="morl-suite report",
        subtitle=_subtitle(comparisons, unreadable),
        contents=_contents(comparisons),
        body="\n".join([*sections, _unreadable(unreadable)]),
    )


def explorer_runs(comparison: Comparison) -> list[dict[str, Any]]:
    """What the preference sliders choose from: one item a completed run.

    Each has its name and, by policy and objective, the mean discounted returns ("points") with
    their standard errors and the mean undiscounted returns.
    """
    found = []
    for label, run in comparison.runs:
        arrays = run.result.arrays
        points, errors = figures.means_and_errors(arrays.report_discounted)
        found.append(
            {
                "name": f"{label} seed {run.result.seed}",
                "points": points.tolist(),
                "errors": errors.tolist(),
                "undiscounted": figures.means_and_errors(arrays.report_undiscounted)[0].tolist(),
            }
        )
    return found


def paper_figures(comparisons: Sequence[Comparison]) -> Iterable[tuple[str, Figure]]:
    """Name and figure of everything that goes into a paper."""
    for number, comparison in enumerate(comparisons):
        if not _completed(comparison):
            continue
        env = re.sub(r"[^\w.-]+", "-", comparison.spec.id)
        same = sum(other.spec.id == comparison.spec.id for other in comparisons) > 1
        name = f"{env}-{number}" if same else env
        yield f"{name}-front", figures.front_paper(comparison)[0]
        for column, title in CURVES:
            curve = figures.curve_paper(comparison, column, title)[0]
            yield f"{name}-{column.replace('_', '-')}", curve


# Parts of the page


def _section(number: int, comparison: Comparison, drawn: dict[str, Any]) -> str:
    """One task; its figures are added to `drawn`."""
    parts = [
        f'<section class="card" id="task-{number}">',
        f"<h2>{text(comparison.spec.id)}</h2>",
        f"<p>{text(comparison.spec.description)}</p>" if comparison.spec.description else "",
        f'<p class="protocol">{_protocol(comparison)}</p>',
        *(f'<p class="note">{text(note)}</p>' for note in _notes(comparison)),
        _indicator_table(comparison),
        _comparison_line(comparison),
    ]
    if _completed(comparison):
        parts += [
            "<h3>Front</h3>",
            figure(f"figure-{number}-front", figures.front_figure(comparison)[0], drawn, "Front"),
            f'<p class="hint">{_front_hint(comparison)}</p>',
            "<h3>Which policy for which preference?</h3>",
            _explorer(number, comparison),
            "<h3>Learning</h3>",
            '<div class="pair">',
            *(
                figure(
                    f"figure-{number}-{column}",
                    figures.curve_figure(comparison, column, title)[0],
                    drawn,
                    f"{title.capitalize()} against environment steps",
                )
                for column, title in CURVES
            ),
            "</div>",
            '<p class="hint">Lines are few selection episodes, diamonds the final report '
            "episodes; steps are true environment steps.</p>",
            objects_section(comparison),
        ]
    parts += ["<h3>Runs</h3>", *(_run_details(*each) for each in _all_runs(comparison))]
    return "\n".join([*(part for part in parts if part), "</section>"])


def _protocol(comparison: Comparison) -> str:
    spec = comparison.spec
    episodes = sorted({run.result.protocol.report_episodes for _, run in comparison.runs})
    facts = [
        f"protocol {spec.protocol}",
        f"discount {spec.discount:g}",
        f"reference point ({', '.join(f'{value:g}' for value in spec.reference_point)})",
        "no step limit" if spec.horizon is None else f"at most {spec.horizon} steps an episode",
        *(f"{count} report episodes a policy" for count in episodes),
        *(f"{key} = {value}" for key, value in comparison.kwargs.items()),
    ]
    return " · ".join(map(text, facts))


def _notes(comparison: Comparison) -> list[str]:
    found = [
        f"{label}, seed {run.result.seed}: {note}"
        for label, run in comparison.runs
        for note in measures.notes(run.result)
    ]
    found += [
        f"{entry.label}, seed {run.result.seed}: {run.result.status}"
        for entry in comparison.entries
        for run in entry.failed
    ]
    for entry in comparison.entries:
        volume = entry.interval("hypervolume")
        found += [
            f"{entry.label} loses to {name!r} ({volume.value:.6g} against {level:.6g})"
            for name, level in comparison.spec.anchors.items()
            if volume is not None and volume.value < level and not _is_best(name)
        ]
    return found


def _is_best(anchor: str) -> bool:
    """Whether an anchor is what an agent should come near, not what it must beat."""
    return any(word in anchor for word in ("exact", "front", "best"))


def _indicator_table(comparison: Comparison) -> str:
    entries = comparison.entries
    head = "".join(
        f'<th scope="col" class="number">{_swatch(comparison, entry)}{text(entry.label)}</th>'
        for entry in entries
    )
    rows = [("seeds", "", [_seeds(entry) for entry in entries])]
    for indicator in INDICATORS:
        intervals = [entry.interval(indicator.name) for entry in entries]
        if any(intervals):
            cells = [
                _interval(interval, runs=len(entry.runs))
                for interval, entry in zip(intervals, entries, strict=True)
            ]
            rows.append((indicator.title, indicator.meaning, cells))
    rows.append(("environment steps", "training", [_total(e, "env_steps") for e in entries]))
    rows.append(
        ("evaluation steps", "by the runner", [_total(e, "eval_env_steps") for e in entries])
    )
    rows.append(("CPU time", "mean of a run", [_cpu(entry) for entry in entries]))
    body = "".join(
        f'<tr><th scope="row">{text(title)}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + f'<td class="meaning">{text(meaning)}</td></tr>'
        for title, meaning, cells in rows
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">indicator</th>'
        f"{head}<th></th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _comparison_line(comparison: Comparison) -> str:
    levels = figures.reference_levels(comparison.spec, "hypervolume")
    if not levels:
        return ""
    listed = ", ".join(f"{text(name)} <b>{level:.6g}</b>" for name, level in levels.items())
    known = comparison.spec.known_front
    source = f" The known front is from: {text(known.source)}." if known else ""
    return f'<p class="hint">For comparison, hypervolumes: {listed}.{source}</p>'


def _front_hint(comparison: Comparison) -> str:
    several = any(len(entry.runs) > 1 for entry in comparison.entries)
    count = comparison.spec.num_objectives
    if count == 2:
        return "Mean discounted returns on the report episodes; bars are standard errors."
    typical = " of the run with the median hypervolume" if several else ""
    if count == 3:
        return (
            f"Mean discounted returns{typical}. Drag to turn; a click on the legend shows or "
            "hides a run."
        )
    return (
        f"Mean discounted returns{typical}, one line a policy. Drag along an axis to pick "
        "policies, drag its name to move it."
    )


def _explorer(number: int, comparison: Comparison) -> str:
    spec = comparison.spec
    runs = comparison.runs
    typical = [figures.is_typical(comparison, run.result) for _, run in runs].index(True)
    options = "".join(
        f'<option value="{index}"{" selected" if index == typical else ""}>'
        f"{text(f'{label} seed {run.result.seed}')}</option>"
        for index, (label, run) in enumerate(runs)
    )
    rows = "".join(
        f'<tr><th scope="row">{text(title)}</th><td class="number"></td>'
        '<td class="number"></td><td class="number"></td>'
        '<td><div class="bar"><span></span></div></td></tr>'
        for title in figures.axis_titles(spec)
    )
    return (
        f'<div class="explorer" data-key="{number}">'
        f"<label>Run <select>{options}</select></label>"
        f"{_sliders(number, list(spec.objective_names))}"
        '<p class="choice" aria-live="polite"></p>'
        '<div class="scroll"><table><thead><tr><th scope="col">objective</th>'
        '<th scope="col" class="number">weight</th>'
        '<th scope="col" class="number">discounted return</th>'
        '<th scope="col" class="number">undiscounted</th>'
        f'<th scope="col">worst to best of the run</th></tr></thead><tbody>{rows}</tbody></table>'
        "</div></div>"
    )


def _sliders(number: int, names: Sequence[str]) -> str:
    """One slider from the first objective to the second, or one for each of several."""
    if len(names) <= 2:
        left, right = text(names[0]), text(names[-1])
        return (
            f'<div class="sliders single"><div><label for="slider-{number}-0"><span>{left}</span>'
            f'<span>{right}</span></label><input type="range" id="slider-{number}-0" min="0" '
            f'max="100" value="50" aria-label="preference from {left} to {right}"></div></div>'
        )
    sliders = "".join(
        f'<div><label for="slider-{number}-{axis}">{text(name)}</label>'
        f'<input type="range" id="slider-{number}-{axis}" min="0" max="100" value="50"></div>'
        for axis, name in enumerate(names)
    )
    return f'<div class="sliders">{sliders}</div>'


def _grouped(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _run_details(label: str, run: Loaded) -> str:
    result = run.result
    facts = {
        "status": f"{result.status}, {result.verification}",
        "policies": f"{result.front.num_unique} distinct on the front, "
        f"{result.front.num_candidates} candidates, {result.protocol.policy_mode}",
        "steps": f"{result.budget.env_steps:,} of training, "
        f"{result.budget.eval_env_steps:,} of evaluation",
        "objective evaluations": _grouped(result.budget.objective_evaluations),
        "updates": result.budget.updates,
        "time": f"{_duration(result.budget.wall_s)} on the wall, "
        f"{_duration(result.budget.cpu_s)} of CPU",
        "memory": None
        if result.budget.peak_rss_mb is None
        else f"{result.budget.peak_rss_mb:,.0f} MB",
        "agent": f"{result.algo.entry_point}, version {result.algo.version}",
        "environment": f"{result.env.package} {result.env.version}",
        "code": _code(result),
        "python": result.provenance.python,
        "packages": ", ".join(
            f"{name} {version}" for name, version in sorted(result.provenance.packages.items())
        ),
        "machine": f"{result.provenance.cpu}, {result.provenance.os}",
        "threads": ", ".join(f"{k} {v}" for k, v in sorted(result.provenance.threads.items())),
        "run": result.run_id,
        "folder": run.path,
    }
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(fact)}</td></tr>'
        for name, fact in facts.items()
        if fact not in (None, "")
    )
    settings = "\n".join(f"{key} = {value}" for key, value in flat(result.config))
    return (
        f"<details><summary>{text(label)}, seed {result.seed} "
        f"<small>{text(result.run_id[:12])}</small></summary>"
        f"<pre>{text(_command(result))}</pre><div class='scroll'><table><tbody>{rows}</tbody>"
        f"</table></div><details><summary>all settings</summary><pre>{text(settings)}</pre>"
        "</details></details>"
    )


def _code(result: RunResult) -> str:
    sha, dirty = result.provenance.git_sha, result.provenance.git_dirty
    if sha is None:
        return "an installed package"
    return f"commit {sha}{', with changes' if dirty else ''}"


def _command(result: RunResult) -> str:
    """The command that makes the run; the agent's settings in full, its defaults may change."""
    usual = {name: getattr(RunSettings(), name) for name in vars(RunSettings())}
    try:
        unset = ("discount", "horizon", "reference_point", "box_low", "box_high")
        env = dict.fromkeys(unset)
        return command_of(result.config, {**usual, "env": env})
    except (KeyError, TypeError):  # a record of another runner
        return ""


def _contents(comparisons: Sequence[Comparison]) -> str:
    if len(comparisons) < 2:
        return ""
    items = "".join(
        f'<li><a href="#task-{number}">{text(comparison.spec.id)}</a></li>'
        for number, comparison in enumerate(comparisons)
    )
    return f'<nav aria-label="Tasks"><ul>{items}</ul></nav>'


def _subtitle(comparisons: Sequence[Comparison], unreadable: Sequence[tuple[Path, str]]) -> str:
    runs = sum(len(comparison.runs) for comparison in comparisons)
    failed = sum(len(entry.failed) for c in comparisons for entry in c.entries)
    parts = [f"{_count(runs, 'run')} on {_count(len(comparisons), 'task')}"]
    if failed:
        parts.append(f"{failed} failed")
    if unreadable:
        parts.append(f"{len(unreadable)} unreadable")
    return text(", ".join(parts))


def _unreadable(unreadable: Sequence[tuple[Path, str]]) -> str:
    if not unreadable:
        return ""
    items = "".join(f'<p class="note">{text(reason)}</p>' for _, reason in unreadable)
    return f'<section class="card"><h2>Could not be read</h2>{items}</section>'


# Small things


def _completed(comparison: Comparison) -> bool:
    return any(len(run.result.arrays.returns) for _, run in comparison.runs)


def _all_runs(comparison: Comparison) -> list[tuple[str, Loaded]]:
    return [
        (entry.label, run) for entry in comparison.entries for run in (*entry.runs, *entry.failed)
    ]


def _swatch(comparison: Comparison, entry: Entry) -> str:
    colour = figures.colour_of(comparison, entry.label)
    return f'<span class="swatch" style="background:{colour}"></span>'


def _seeds(entry: Entry) -> str:
    failed = f" <small>+ {len(entry.failed)} failed</small>" if entry.failed else ""
    return f"{len(entry.runs)}{failed}"


def _interval(interval: Interval | None, *, runs: int) -> str:
    if interval is None:
        return "-"
    partly = "" if interval.count == runs else f" <small>({interval.count} of {runs})</small>"
    if interval.margin is None:
        return f"{interval.value:.6g}{partly}"
    value, margin = rounded(interval.value, interval.margin)
    return f"{value} <small>± {margin}</small>{partly}"


def rounded(value: float, margin: float) -> tuple[str, str]:
    """A number and its margin, both to the margin's second digit ("28,704", "880")."""
    if margin <= 1e-9 * abs(value):
        return f"{value:,.6g}", "0"
    digits = 1 - math.floor(math.log10(margin))
    shown = max(0, min(digits, 9))
    return f"{value:,.{shown}f}", f"{round(margin, digits):,.{shown}f}"


def _total(entry: Entry, name: str) -> str:
    counts = {getattr(run.result.budget, name) for run in entry.runs}
    if not counts:
        return "-"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _cpu(entry: Entry) -> str:
    if not entry.runs:
        return "-"
    return _duration(sum(run.result.budget.cpu_s for run in entry.runs) / len(entry.runs))


def _duration(seconds: float) -> str:
    if seconds < 100.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _common_folder(paths: Sequence[Path]) -> Path:
    folders = [path if path.is_dir() else path.parent for path in paths]
    return (
        Path(os.path.commonpath([folder.resolve() for folder in folders]))
        if len(folders) > 1
        else folders[0]
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib the bytes depend on the figure alone.
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()
