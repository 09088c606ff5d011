"""``python -m morl.experiments.datasheets docs/environments``: a page for every environment.

Everything that can be read from the registry is; `morl.experiments.environment_families` adds what
cannot. Pictures show the known front, or what random policies earn.
"""

from __future__ import annotations

import argparse
import inspect
import io
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from morl.envs import SerialEnv, make_task
from morl.experiments import front_pages
from morl.experiments.bench.measurement import RESULTS
from morl.experiments.environment_families import FAMILIES, Family
from morl.experiments.front_pages import table
from morl.registry import ENVS
from morl.storage import read_json
from morl.testing import sample_actions
from morl.types import EnvSpec, Task

Pages = Mapping[str, str]
"""Text of Markdown pages by file name."""

WRITTEN = (
    "<!-- Written by `python -m morl.experiments.datasheets`; change the registry instead. -->"
)

RARE = frozenset({"highway", "dna", "mol"})
"""Extras that the extra "all" leaves out; snippets that need them are not run with the others."""

SLOW = ("mo-highway-v0", "mo-highway-fast-v0", "minecart-rgb-v0")
EPISODES = 64
"""Random episodes in a picture; a few for environments of a few steps a second."""

COLOURS = 24
"""Colours of a stored picture, shades included."""

_END = re.compile(r" (The episode ends|Every episode lasts) [^.]*\.")
_LABELLED = re.compile(
    r"(Observation|Actions?|Reward): (.*?)(?= (?:Observation|Actions?|Reward): |$)"
)

BLUE, GREY = "#0072B2", "#9aa1ab"

INTRODUCTION = """\
# Environments

`morl list envs` shows every environment, `morl check-env ID` tries one out, and
[add an environment](../add-an-environment.md) says how to bring your own. Each page below holds
what the registry knows: what is observed, what is earned and in which unit, how it is scored, and
the best that is known.
"""

SPEED = """\
## Speed

![Steps a CPU-second, here and in MO-Gymnasium](../images/environment_speed.png)

Environment steps a CPU-second on one core, random actions, resets and vector rewards included;
medians of interleaved measurements, `morl bench envs`. MO-Gymnasium steps one environment after the
other. For MuJoCo the last column is the share of the rate at which bare `mj_step` would run.
"""

THREADS = """\
With `num_threads`, MuJoCo batches use more cores. Steps a second on the clock of an idle machine,
`python -m morl.experiments.bench --only threads`; the last column is the ratio that bare `mj_step`
on the same cores would reach.
"""


def pages() -> Pages:
    """All pages that are generated, except for environments that cannot be made here."""
    texts = {"index.md": index_page(), "exact-fronts.md": front_pages.page()}
    for family in FAMILIES:
        if family.written and _describable(family):
            texts[f"{family.page}.md"] = family_page(family)
    return texts


def _describable(family: Family) -> bool:
    """Whether the page does not depend on something that is not installed."""
    return family.page == "super-mario" or not _missing(family)


def _missing(family: Family) -> bool:
    return any(ENVS[name].available() is not None for name in family.ids)


# ---------------------------------------------------------------------------------------------
# A page


def family_page(family: Family) -> str:
    """The datasheet of a family, in Markdown."""
    specs = [ENVS[name].spec_for() for name in family.ids]
    parts = [f"# {family.title}", WRITTEN]
    if not _missing(family):
        title = picture_title(ENVS[family.pictured or family.ids[0]].spec_for())
        parts.append(f"![{title}](images/{family.page}.png)")
    parts += [*_facts(family, specs), "## Objectives", _objectives(specs)]
    parts += ["## What is seen and done", _interface(family)]
    if family.notes:
        parts += ["## Remarks", family.notes.strip()]
    if not _missing(family):
        parts += ["## Use", _snippet(specs[0])]
    return "\n\n".join(parts) + "\n"


def _facts(family: Family, specs: Sequence[EnvSpec]) -> list[str]:
    """What the variants differ in, then what they share."""
    rows: list[tuple[str, list[str]]] = [
        ("what", [spec.description for spec in specs]),
        ("objectives", [", ".join(spec.objective_names) for spec in specs]),
        ("observation", [_made(spec, "single_observation_space") for spec in specs]),
        ("action", [_made(spec, "single_action_space") for spec in specs]),
        ("reference point", [_vector(spec.reference_point) for spec in specs]),
        ("discount", [f"{spec.discount:g}" for spec in specs]),
        ("step limit", [_or_none(spec.horizon) for spec in specs]),
        ("known front", [_known(spec) for spec in specs]),
        ("anchors (hypervolume)", [_anchors(spec) for spec in specs]),
        ("dynamics", [spec.package for spec in specs]),
        ("stepped by", [_stepper(spec) for spec in specs]),
        ("registered by", [f"`{ENVS[spec.id].origin}`" for spec in specs]),
        ("needs", [f"`morl-suite[{spec.extra}]`" if spec.extra else "-" for spec in specs]),
    ]
    shared = [[name, cells[0]] for name, cells in rows if len(set(cells)) == 1]
    differing = [[name, *cells] for name, cells in rows if len(set(cells)) > 1]
    head = ["", *(f"`{name}`" for name in family.ids)]
    if not differing:
        return [table(head, shared)]
    return [table(head, differing), "All of them:", table(["", "value"], shared)]


def _vector(point: Sequence[float]) -> str:
    if len(set(point)) == 1 and len(point) > 3:
        return f"{point[0]:g} in each"
    return f"({', '.join(f'{number:g}' for number in point)})"


def _or_none(value: object) -> str:
    return "-" if value is None else str(value)


def _known(spec: EnvSpec) -> str:
    known = spec.known_front
    if known is None:
        return "-"
    count = len(known.points(spec.discount))
    return f"{count} points, {known.certificate}: {known.source}"


def _anchors(spec: EnvSpec) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in spec.anchors.items()) or "-"


def _made(spec: EnvSpec, space: str) -> str:
    if ENVS[spec.id].available() is not None:
        return "-"
    batch = make_task(spec.id).make_vec(1)
    text = space_text(getattr(batch, space))
    batch.close()
    return text


def space_text(space: gymnasium.Space[Any]) -> str:
    """A space in a few words."""
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    box = cast(spaces.Box, space)
    shape = " x ".join(map(str, box.shape))
    low, high = box.low.min(), box.high.max()
    uniform = (box.low == low).all() and (box.high == high).all()
    bounds = f", {low:g} to {high:g}" if uniform and np.isfinite([low, high]).all() else ""
    return f"{shape} x {box.dtype}{bounds}"


def _stepper(spec: EnvSpec) -> str:
    if ENVS[spec.id].available() is not None:
        return "-"
    batch = make_task(spec.id).make_vec(1)
    batch.close()
    if isinstance(batch, SerialEnv):
        return "Gymnasium, one environment after the other"
    return f"compiled batch, `{type(batch).__module__}`"


def _objectives(specs: Sequence[EnvSpec]) -> str:
    """One table for all variants where they agree, else one for each."""
    parts = []
    groups: dict[tuple[Any, ...], list[str]] = {}
    for spec in specs:
        groups.setdefault(spec.objectives, []).append(spec.id)
    for objectives, names in groups.items():
        if len(groups) > 1:
            parts.append(", ".join(f"`{name}`" for name in names) + ":")
        rows = [[one.name, one.unit or "1", one.description] for one in objectives]
        parts.append(table(["objective", "unit of the return", "what it measures"], rows))
    return "\n\n".join([*parts, "Everything is maximised."])


def _interface(family: Family) -> str:
    lines = []
    if family.observation:
        lines.append(f"- **Observation**: {family.observation}")
    if family.action:
        lines.append(f"- **Action**: {family.action}")
    lines += dict.fromkeys(line for name in family.ids for line in _class_lines(name))
    lines.append(f"- **End**: {family.ends} At the step limit the episode is truncated.")
    return "\n".join(lines)


def _class_lines(name: str) -> list[str]:
    """What the docstring of a compiled class says of observation, actions and reward."""
    registered = gymnasium.registry.get(name)
    entry_point = None if registered is None else registered.vector_entry_point
    if not isinstance(entry_point, str):
        return []
    docstring = inspect.getdoc(load_env_creator(entry_point)) or ""
    paragraphs = [" ".join(part.split()) for part in docstring.split("\n\n")]
    text = next((part for part in paragraphs if part.startswith("Observation: ")), "")
    kept = _END.sub("", text.replace("``", "`"))  # the page says it on a line of its own
    found = _LABELLED.findall(kept)
    return [f"- **{label}**: {words[0].upper()}{words[1:]}" for label, words in found]


def _snippet(spec: EnvSpec) -> str:
    count = 2 if spec.id in SLOW else 64
    mark = f"<!-- not run: needs the extra {spec.extra} -->\n" if spec.extra in RARE else ""
    return f"""{mark}```python
from morl.envs import make_vec

batch = make_vec("{spec.id}", {count})
observations, _ = batch.reset(seed=0)
actions = batch.action_space.sample()
observations, rewards, terminated, truncated, infos = batch.step(actions)
assert rewards.shape == ({count}, {spec.num_objectives})  # {", ".join(spec.objective_names)}
batch.close()
```"""


# ---------------------------------------------------------------------------------------------
# The index


def index_page() -> str:
    """The list of all pages, and how fast the environments are."""
    rows = []
    for family in FAMILIES:
        specs = [ENVS[name].spec_for() for name in family.ids]
        counts = sorted({spec.num_objectives for spec in specs})
        certificates = {spec.known_front.certificate for spec in specs if spec.known_front}
        rows.append(
            [
                f"[{family.title}]({family.page}.md)",
                ", ".join(f"`{name}`" for name in family.ids),
                " or ".join(map(str, counts)),
                ", ".join(sorted(certificates)) or "-",
                specs[0].extra or "-",
            ]
        )
    listing = table(["page", "ids", "objectives", "known front", "extra"], rows)
    members = "\n".join(["exact-fronts", *(family.page for family in FAMILIES)])
    tree = f"```{{toctree}}\n:hidden:\n\n{members}\n```"
    fronts = (
        "[Exact fronts](exact-fronts.md) lists the fronts that are known, with the plans that earn "
        "them,\nand where MO-Gymnasium's own are wrong."
    )
    return (
        "\n\n".join([INTRODUCTION.strip(), WRITTEN, listing, fronts, *_speed(), *_threads(), tree])
        + "\n"
    )


def _speed() -> list[str]:
    path = RESULTS / "bench" / "environments.json"
    if not path.exists():
        return []
    rows = [
        [
            f"`{row['env']}`",
            str(row["num_envs"]),
            f"{row['ours_per_cpu_second']:,.0f}",
            _number(row["theirs_per_cpu_second"], ",.0f"),
            _number(row["ratio"], ",.3g"),
            _number(row["of_bare_physics"], ".0%"),
        ]
        for row in read_json(path)["rows"]
    ]
    head = ["environment", "batch", "ours", "MO-Gymnasium", "ratio", "of bare physics"]
    return [SPEED.strip(), table(head, rows)]


def _threads() -> list[str]:
    path = RESULTS / "bench" / "threads.json"
    if not path.exists():
        return []
    rows = [
        [
            f"`{row['env']}`",
            str(row["num_envs"]),
            str(row["num_threads"]),
            f"{row['ours_per_second']:,.0f}",
            f"{row['theirs_per_second']:,.0f}",
            f"{row['ratio']} ({row['ratio_lowest']} to {row['ratio_highest']})",
            str(row["ratio_of_physics"]),
        ]
        for row in read_json(path)["rows"]
    ]
    head = ["environment", "batch", "threads", "ours", "MO-Gymnasium", "ratio", "of physics alone"]
    return [THREADS.strip(), table(head, rows)]


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


# ---------------------------------------------------------------------------------------------
# Pictures


def picture_title(spec: EnvSpec) -> str:
    """What the picture of an environment shows."""
    if spec.known_front is None:
        return f"Returns of random actions in {spec.id}"
    return f"Known front of {spec.id} ({spec.known_front.certificate}), and random actions"


def picture(task: Task) -> Figure:
    """The known front of an environment and returns of random actions.

    Planes of every two of up to three objectives, parallel axes beyond.
    """
    spec = task.spec
    random = random_returns(task, episodes=4 if spec.id in SLOW else EPISODES)
    front = None if spec.known_front is None else spec.known_front.points(spec.discount)
    pairs = list(combinations(range(spec.num_objectives), 2))
    planes = spec.num_objectives <= 3
    count = len(pairs) if planes else 1
    figure = Figure(figsize=(max(4.2, 2.9 * count), 2.7), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    if planes:
        for place, (x, y) in zip(axes, pairs, strict=True):
            _plane(place, spec, random, front, x, y)
    else:
        _parallel(axes[0], spec, random, front)
    handles, labels = axes[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=2, fontsize=7)
    return figure


def random_returns(task: Task, *, episodes: int) -> NDArray[np.float64]:
    """Discounted returns of random actions, ``(episode, objective)``."""
    batch = task.make_vec(episodes)
    space = cast("spaces.Discrete | spaces.Box", batch.single_action_space)
    batch.reset(seed=0)
    returns = np.zeros((episodes, task.spec.num_objectives))
    running = np.ones(episodes, np.bool_)
    weight, step = 1.0, 0
    while running.any():
        actions = sample_actions(space, 1, episodes, seed=step)[0]
        _, rewards, terminated, truncated, _ = batch.step(actions)
        returns += weight * rewards * running[:, None]
        running &= ~(terminated | truncated)
        weight *= task.spec.discount
        step += 1
    batch.close()
    return returns


def _plane(
    axes: Axes,
    spec: EnvSpec,
    random: NDArray[np.float64],
    front: NDArray[np.float64] | None,
    x: int,
    y: int,
) -> None:
    axes.scatter(random[:, x], random[:, y], s=9, color=GREY, label="random actions")
    if front is not None:
        label = f"known front, {len(front)} points"
        axes.scatter(front[:, x], front[:, y], s=12, color=BLUE, label=label)
    axes.set_xlabel(_axis(spec, x), fontsize=8)
    axes.set_ylabel(_axis(spec, y), fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def _axis(spec: EnvSpec, index: int) -> str:
    objective = spec.objectives[index]
    return f"{objective.name} ({objective.unit})" if objective.unit else objective.name


def _parallel(
    axes: Axes,
    spec: EnvSpec,
    random: NDArray[np.float64],
    front: NDArray[np.float64] | None,
) -> None:
    everything = random if front is None else np.vstack([random, front])
    low, high = everything.min(axis=0), everything.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    places = np.arange(spec.num_objectives)
    for points, colour, label in ((random, GREY, "random actions"), (front, BLUE, "known front")):
        for row in () if points is None else (points - low) / width:
            axes.plot(places, row, color=colour, alpha=0.5, linewidth=0.8, label=label)
    axes.set_xticks(places, spec.objective_names, fontsize=7, rotation=20)
    axes.set_yticks([0, 1], ["least", "most"], fontsize=7)
    axes.grid(axis="x", alpha=0.3)


# ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.datasheets",
        description="Write a page for every environment.",
    )
    parser.add_argument("folder", type=Path, help="where the pages go (docs/environments)")
    parser.add_argument("--text-only", action="store_true", help="leave the pictures as they are")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (options.folder / name).write_text(text)
        sys.stdout.write(f"{options.folder / name}\n")
    if not options.text_only:
        _write_pictures(options.folder / "images")
    return 0


def _write_pictures(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for family in FAMILIES:
        if not _missing(family):
            path = folder / f"{family.page}.png"
            save_small(picture(make_task(family.pictured or family.ids[0])), path)
            sys.stdout.write(f"{path}\n")


def save_small(figure: Figure, path: Path, *, colours: int = COLOURS) -> None:
    """Write a picture of few colours, a fraction of the usual size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    Image.open(buffer).convert("RGB").quantize(colours).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
