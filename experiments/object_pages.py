"""The objects behind fronts as parts of a page: texts with their values, molecules drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from morl.experiments.comparison import Comparison, Loaded
from morl.experiments.molecules import MoleculeArtist
from morl.experiments.objects import Objects, load_objects, spread_over_front
from morl.experiments.page import text
from morl.types import MorlError

SHOWN = 24
"""Most objects of a run."""

Draw = Callable[[str], str | None]
"""From the text of an object to an element that shows it, or None."""


def objects_section(comparison: Comparison) -> str:
    """What the fronts of all completed runs build; empty where episodes build no objects."""
    parts: list[str] = []
    missing: list[str] = []
    molecules = False
    draw = _artist()
    for entry in comparison.entries:
        for run in entry.runs:
            title = f"{entry.label}, seed {run.result.seed}"
            try:
                found = load_objects(run.path, run.result)
            except MorlError as error:
                parts.append(f'<p class="note">{text(title)}: {text(error)}</p>')
                continue
            if found is None:
                missing += [title] if _builds_objects(run) else []
            elif found.texts:
                molecules |= found.notation == "smiles"
                parts.append(_run(title, found, draw, opened=not parts))
    if missing:
        parts.append(_hint(f"{_listed(missing)}: no objects were stored; resume=never runs again."))
    if molecules and draw is None:
        parts.append(_hint("To see the molecules drawn: pip install 'morl-suite[mol]'"))
    return "\n".join(["<h3>Objects</h3>", *parts]) if parts else ""


def _builds_objects(run: Loaded) -> bool:
    return run.result.budget.objective_evaluations is not None


def _artist() -> Draw | None:
    """What draws molecules, where RDKit is installed."""
    try:
        return MoleculeArtist().svg
    except ImportError:
        return None


def _run(title: str, found: Objects, draw: Draw | None, *, opened: bool) -> str:
    """Objects of one run, spread over its front."""
    chosen = spread_over_front(found.values, SHOWN)
    total = len(spread_over_front(found.values, len(found.values)))
    count = f"{len(chosen)} of {total}" if len(chosen) < total else str(total)
    show = _cards if found.notation == "smiles" and draw is not None else _table
    return (
        f"<details{' open' if opened else ''}><summary>{text(title)} "
        f"<small>{count} nondominated</small></summary>{show(found, chosen, draw)}</details>"
    )


def _table(found: Objects, chosen: Sequence[int], _: Draw | None) -> str:
    """A row for each object."""
    head = "".join(f'<th scope="col" class="number">{text(name)}</th>' for name in found.objectives)
    rows = "".join(
        f'<tr><th scope="row"><code>{text(found.texts[index])}</code></th>'
        + "".join(f'<td class="number">{value:.6g}</td>' for value in found.values[index].tolist())
        + "</tr>"
        for index in chosen
    )
    return (
        f'<div class="scroll"><table class="objects"><thead><tr><th scope="col">object</th>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cards(found: Objects, chosen: Sequence[int], draw: Draw | None) -> str:
    """A drawing for each object, its text and its values below."""
    assert draw is not None
    cards = []
    for index in chosen:
        name = found.texts[index]
        values = ", ".join(
            f"{text(objective)} <b>{value:.4g}</b>"
            for objective, value in zip(found.objectives, found.values[index].tolist(), strict=True)
        )
        cards.append(
            f"<figure>{draw(name) or ''}<figcaption>{values}<br><code>{text(name)}</code>"
            "</figcaption></figure>"
        )
    return f'<div class="molecules">{"".join(cards)}</div>'


def _hint(line: str) -> str:
    return f'<p class="hint">{text(line)}</p>'


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
