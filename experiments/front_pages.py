"""The page about exact fronts: what is known, how, and where MO-Gymnasium's fronts differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from morl.envs.fronts import DIGITS, FOLDER, FrontFile, StoredFront, read
from morl.envs.mo_gymnasium import declared_front
from morl.indicators import hypervolume
from morl.registry import ENVS
from morl.types import Front

SHORT = 20
"""Points that a page lists; more are in the file alone."""

SAME = 1e-6
"""Relative difference that single precision makes."""

INTRODUCTION = """\
# Exact fronts

A front that is known turns a hypervolume into a distance from the optimum. The fronts on this page
are stored with the package, and **every point has a witness**: a plan, the actions that earn it.
Our tests play every plan, in our batches and in MO-Gymnasium, and compare the returns.

- **exact**: backward induction on sets of return vectors. What can be earned from a state is the
  undominated part of what its actions earn, now and afterwards; chance is weighed exactly, so
  points are expected returns. The policies are deterministic and may depend on time and history:
  where no chance remains, they are sequences of actions. Returns that differ by less than 1e-12 of
  the largest count as one.
- **best-known**: the best that has been found, a lower bound. Agents may beat it, and
  `morl.envs.fronts.update_best_known` takes better plans in.

Reports measure runs against these fronts, at the discount of the run; a discount that is not stored
is solved when it is asked for.
"""

SUMMARY = """\
## Summary

Hypervolumes at the reference point of the registry. *Convex coverage set* counts the points that
are best for some weighted sum of the objectives: all that linear scalarisation can find.
"""

GOLDEN: tuple[tuple[str, float, tuple[float, ...]], ...] = (
    ("deep-sea-treasure-v0", 0.99, (0, -25)),
    ("deep-sea-treasure-v0", 0.99, (0, -50)),
    ("deep-sea-treasure-v0", 1.0, (0, -25)),
    ("deep-sea-treasure-concave-v0", 0.99, (0, -50)),
    ("deep-sea-treasure-concave-v0", 1.0, (0, -25)),
    ("fruit-tree-v0.depth-5", 0.99, (0,) * 6),
    ("fruit-tree-v0.depth-6", 0.99, (0,) * 6),
    ("fruit-tree-v0.depth-6", 0.99, (-1,) * 6),
    ("fruit-tree-v0.depth-6", 1.0, (0,) * 6),
    ("resource-gathering-v0", 0.99, (-1,) * 3),
    ("minecart-deterministic-v0", 0.98, (-1, -1, -200)),
    ("minecart-deterministic-v0", 0.98, (0, 0, -200)),
)
"""Files, discounts and reference points of the literature."""

OWN = """\
## Solve your own

Any environment with discrete actions that is deterministic and shows all of its state:

```python
from morl import make_task
from morl.exact import enumerate_states, pareto_front

task = make_task("deep-sea-treasure-v0")
model = enumerate_states(task)
front = pareto_front(model, discount=0.95, horizon=task.spec.horizon)
for point, plan in zip(front.points, front.plans):
    print(point, plan.actions)
```

Where chance plays a part, give the tables as a `morl.exact.FiniteModel`; `convex_coverage_set`
stays small where the Pareto front explodes. Give the result as `known_front` of the spec.
"""

REMARKS = {
    "resource-gathering-v0": """\
MO-Gymnasium's front is **wrong**. Between the enemies there is a safe path of 18 steps that brings
gold and gem home with certainty; without discount it earns (0, 1, 1), which dominates all three
points that MO-Gymnasium declares. With discount that point is missing, and gold and gem alone are
declared one step late. An agent that beats the declared front has made no mistake.""",
    "fruit-tree-v0.depth-6": """\
MO-Gymnasium's front is right: no fruit dominates another, and all are equally far away.""",
    "deep-sea-treasure-v0": """\
MO-Gymnasium's fronts of all three maps are right, up to single precision of the rewards.""",
    "four-room-v0": """\
MO-Gymnasium declares no front. Without discount one plan collects everything. With discount, haste
decides: the maze has 400,000 states, but only arrivals at shapes pay, so tours from shape to shape
along shortest ways are all that matters, and a smaller maze shows that nothing is lost.""",
    "minecart-deterministic-v0": """\
Positions are continuous, so no exact front is known. MO-Gymnasium declares plans that drive
straight to one mine and straight back with the same pattern of acceleration. It adds up on paper
what they cost and bring, without playing them: the one behind (0, 0, -0.249) is not home yet when
it ends. So its front is no bound, neither from below nor from above. Turning on the way, mining at
two mines and coming home differently earn more: the stored plans come from a search
(`python -m morl.experiments.plan_search`), are played, and are a lower bound.

For the stochastic `minecart-v0` MO-Gymnasium declares other points, at the mean of yields that are
cut off below 0: hypervolume 668.183 under (-1, -1, -200) and 100.322 under (0, 0, -200). Reports
compare with them as *approximate*.""",
}


def page() -> str:
    """The page in Markdown."""
    files = {path.stem: read(path) for path in sorted(FOLDER.glob("*.json"))}
    comment = "<!-- Written by `python -m morl.experiments.datasheets`. -->"
    parts = [INTRODUCTION.strip(), comment, SUMMARY.strip(), _summary(list(files.values()))]
    parts += ["Under reference points of the literature:", _golden(files)]
    parts += [_section(name, file) for name, file in files.items()]
    return "\n\n".join([*parts, OWN.strip()]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def section_replaced(page: str, content: str, *, begin: str, end: str) -> str | None:
    """A page with other content between two marks, or None where it lacks one of them."""
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        return None
    return f"{before}{first}\n\n{content}\n\n{last}{after}"


def title(file: FrontFile) -> str:
    """Heading of a front: the id and its arguments."""
    return ", ".join([file.env, *(f"{name} {value}" for name, value in file.kwargs.items())])


def _declared(file: FrontFile, discount: float) -> Front | None:
    if file.env == "four-room-v0":  # declares none
        return None
    return declared_front(discount, name=file.env, **file.kwargs)


def _summary(files: Sequence[FrontFile]) -> str:
    rows = []
    for file in files:
        reference_point = ENVS[file.env].spec_for(**file.kwargs).reference_point
        for front in file.fronts:
            declared = _declared(file, front.discount)
            rows.append(
                [
                    title(file),
                    f"{front.discount:g}",
                    file.certificate,
                    str(len(front.points)),
                    str(int(front.supported.sum())),
                    _value(front.points, reference_point),
                    "-" if declared is None else _value(declared, reference_point),
                    _verdict(file, front, declared),
                ]
            )
    head = ["environment", "discount", "certificate", "points", "convex coverage set"]
    return table([*head, "hypervolume", "MO-Gymnasium's", "MO-Gymnasium's front is"], rows)


def _verdict(file: FrontFile, front: StoredFront, declared: Front | None) -> str:
    if declared is None:
        return "not declared"
    if len(declared) == len(front.points) and np.allclose(
        sorted(declared.tolist()), sorted(front.points.tolist()), rtol=SAME, atol=SAME
    ):
        return "right"
    return "**wrong**" if file.certificate == "exact" else "**beaten**"


def _golden(files: dict[str, FrontFile]) -> str:
    rows = []
    for name, discount, reference_point in GOLDEN:
        file = files[name]
        stored = file.at(discount)
        declared = _declared(file, discount)
        assert stored is not None
        assert declared is not None
        rows.append(
            [
                title(file),
                f"{discount:g}",
                f"({', '.join(f'{number:g}' for number in reference_point)})",
                _value(stored.points, reference_point),
                _value(declared, reference_point),
            ]
        )
    head = ["environment", "discount", "reference point", "hypervolume", "MO-Gymnasium's"]
    return table(head, rows)


def _value(points: Front, reference_point: Sequence[float]) -> str:
    return f"{hypervolume(points, reference_point).value:.7g}"


def _section(name: str, file: FrontFile) -> str:
    discount = ENVS[file.env].spec_for(**file.kwargs).discount
    front = file.at(discount)
    assert front is not None
    parts = [f"## {title(file)}", *([REMARKS[name]] if name in REMARKS else [])]
    parts.append(
        f"{file.certificate.capitalize()}, revision {file.revision}, for {file.package}; "
        f"{file.method}. File: `envs/data/fronts/{name}.json`."
    )
    if len(front.points) > SHORT:
        lengths = sorted({len(plan) for plan in front.plans})
        steps = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else f"{lengths[0]}"
        parts.append(
            f"{len(front.points)} points at the discount {discount:g}, with plans of {steps} "
            "steps, are in the file."
        )
        return "\n\n".join(parts)
    for one in file.fronts if file.env == "resource-gathering-v0" else [front]:
        parts += [f"At the discount {one.discount:g}:", _points(file, one)]
        declared = _declared(file, one.discount)
        if _verdict(file, one, declared) == "**wrong**" and declared is not None:
            points = ", ".join(f"({_numbers(point)})" for point in declared.tolist())
            parts.append(f"MO-Gymnasium declares {points}.")
    return "\n\n".join(parts)


def _points(file: FrontFile, front: StoredFront) -> str:
    names = ENVS[file.env].spec_for(**file.kwargs).objective_names
    rows = [
        [*(f"{number:.6g}" for number in point), f"`{''.join(DIGITS[action] for action in plan)}`"]
        for point, plan in zip(front.points, front.plans, strict=True)
    ]
    return table([*names, "plan, one digit an action"], rows)


def _numbers(point: Sequence[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in point)
