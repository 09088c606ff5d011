"""The objects behind a front, where episodes build objects: strings, cells, molecules.

The runner writes them beside a result, as text with objective values; reports show them. No number
of the result comes from them: the front is measured by episodes, as for all environments.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from morl.compositional import (
    Actions,
    CompositionalCore,
    NotCompositionalError,
    States,
    core_of,
    first_legal,
    follow,
)
from morl.pareto import nondominated
from morl.result import ResultError, RunResult
from morl.seeding import generator
from morl.storage import read_json, write_json
from morl.types import Front, MorlError, Policy, Solution, Task, is_stateful

OBJECTS_FILE = "objects.json"
"""Name in a run's folder."""

SCHEMA = "morl-objects/1"

SAMPLES = 8
"""Objects that a stochastic policy is asked for."""

LONGEST_TEXT = 1000
"""Characters of an object; a longer text is refused."""

_AGREEMENT = 1e-9  # between an object's values and the returns of the policy that builds it


@dataclass(frozen=True, eq=False)
class Objects:
    """What the solutions of a front build.

    Attributes:
        notation: how to read the texts, see `CompositionalCore.notation`.
        objectives: names of the objectives, in order.
        texts: one an object, each object once.
        values: undiscounted objective values, (object, objective).
        solutions: which solution of the front built it first, (object,).
    """

    notation: str
    objectives: tuple[str, ...]
    texts: tuple[str, ...]
    values: Front
    solutions: NDArray[np.int64]

    def save(self, folder: Path) -> Path:
        """Write them beside a result; equal objects give equal bytes.

        Raises:
            StorageError: the file cannot be written.
        """
        listed = [
            {"text": text, "values": values, "solution": solution}
            for text, values, solution in zip(
                self.texts, self.values.tolist(), self.solutions.tolist(), strict=True
            )
        ]
        path = folder / OBJECTS_FILE
        record = {
            "schema": SCHEMA,
            "notation": self.notation,
            "objectives": list(self.objectives),
            "objects": listed,
        }
        write_json(path, record)
        return path


def built(task: Task, solutions: Sequence[Solution], *, seed: int) -> Objects | None:
    """What solutions build: one object each, or `SAMPLES` of a stochastic policy.

    They are built on a core of their own: no environment step is taken, and their values do not
    count as objective evaluations.

    Args:
        task: that they were trained for.
        solutions: those of a front, in its order.
        seed: of the run; root of the random numbers of stochastic policies.

    Returns:
        The objects, or None where the episodes of the task build none.
    """
    try:
        core = core_of(task)
    except NotCompositionalError:
        return None
    limit = core.horizon if task.spec.horizon is None else task.spec.horizon
    states, builders = _states(core, solutions, limit=limit, seed=seed)
    firsts: dict[Hashable, int] = {}
    for index, key in enumerate(core.keys(states)):
        firsts.setdefault(key, index)
    kept = np.array(list(firsts.values()), np.int64)
    return Objects(
        notation=core.notation,
        objectives=core.objective_names,
        texts=tuple(core.describe(states[kept])),
        values=core.values(states[kept]),
        solutions=builders[kept],
    )


def load_objects(folder: Path, result: RunResult) -> Objects | None:
    """The objects beside a result.

    Args:
        folder: of the run.
        result: that lies there; the values of deterministic policies' objects are checked
            against its returns.

    Returns:
        None where there is no such file.

    Raises:
        ResultError: the file does not fit the result, or is none of ours.
        StorageError: the file cannot be read.
    """
    path = folder / OBJECTS_FILE
    if not path.exists():
        return None
    record = read_json(path)
    try:
        found = _decoded(record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ResultError(f"{path}: {reason}") from error
    _check(found, result, path)
    return found


def spread_over_front(values: Front, count: int) -> list[int]:
    """A few nondominated points, as far from each other as possible; of equal ones the first.

    The best of every objective are among them, as far as `count` allows; then always the one
    whose nearest chosen point is the farthest, each objective scaled to its range.

    Args:
        values: maximised, (point, objective).
        count: most points that are chosen.

    Returns:
        Indices, the best in the first objective first.
    """
    front = np.flatnonzero(nondominated(values)) if len(values) else np.zeros(0, np.intp)
    points = values[front]
    if len(front) > count:
        span = np.ptp(points, axis=0)
        scaled = (points - points.min(axis=0)) / np.where(span > 0.0, span, 1.0)
        chosen = list(dict.fromkeys(points.argmax(axis=0).tolist()))[:count]
        nearest = np.min([((scaled - scaled[i]) ** 2).sum(axis=1) for i in chosen], axis=0)
        while len(chosen) < count:
            chosen.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
        front, points = front[chosen], points[chosen]
    # The first objective decides, the second between equals, and so on.
    order = np.lexsort(-points.T[::-1]) if len(front) else front
    return [int(index) for index in front[order]]


def _states(
    core: CompositionalCore, solutions: Sequence[Solution], *, limit: int, seed: int
) -> tuple[States, NDArray[np.int64]]:
    """Objects finished within `limit` actions, and the index of the solution of each."""
    states = [core.initial(0)]
    builders = [np.zeros(0, np.int64)]
    for index, solution in enumerate(solutions):
        if is_stateful(solution.policy):
            raise MorlError(
                f"solution {index} is a {type(solution.policy).__name__}, which has a memory; "
                "objects are read from policies without one"
            )
        memoryless = cast(Policy, solution.policy)
        count = 1 if memoryless.deterministic else SAMPLES
        rng = generator(seed, "objects", index)

        def choose(
            rows: States,
            _: NDArray[np.intp],
            __: int,
            policy: Policy = memoryless,
            rng: np.random.Generator = rng,
        ) -> Actions:
            actions = np.asarray(policy.act(core.encode(rows), rng=rng), np.int64)
            return first_legal(core.mask(rows), actions)

        walks = follow(core, count, choose)
        done = walks.objects[walks.lengths <= limit]
        states.append(done)
        builders.append(np.full(len(done), index, np.int64))
    return np.concatenate(states), np.concatenate(builders)


def _decoded(record: Any) -> Objects:  # noqa: ANN401 - JSON
    """A file's content, every type checked: it may be somebody else's."""
    if not isinstance(record, Mapping) or record["schema"] != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    names, objects, notation = record["objectives"], record["objects"], record["notation"]
    if not isinstance(notation, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("notation and objectives must be texts")
    for one in objects:
        text, values = one["text"], one["values"]
        if not isinstance(text, str) or len(text) > LONGEST_TEXT:
            raise TypeError(f"an object must be a text of at most {LONGEST_TEXT} characters")
        if len(values) != len(names) or not all(_is_number(value) for value in values):
            raise TypeError(f"{text[:40]!r} must have {len(names)} numbers, has {values!r}")
        if type(one["solution"]) is not int:
            raise TypeError(f"the solution of {text[:40]!r} must be an index")
    return Objects(
        notation=notation,
        objectives=tuple(names),
        texts=tuple(one["text"] for one in objects),
        values=np.array([one["values"] for one in objects], np.float64).reshape(-1, len(names)),
        solutions=np.array([one["solution"] for one in objects], np.int64),
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _check(found: Objects, result: RunResult, path: Path) -> None:
    """Refuse objects of another result.

    Raises:
        ResultError: says what does not fit.
    """
    if found.objectives != result.protocol.objectives:
        raise ResultError(f"{path}: its objectives are not those of the result")
    returns = result.arrays.report_undiscounted
    known = (found.solutions >= 0) & (found.solutions < len(returns))
    if not known.all():
        raise ResultError(f"{path}: it names solutions that the front does not have")
    if result.protocol.policy_mode != "deterministic" or not len(found.texts):
        return
    means = returns.mean(axis=1)[found.solutions]
    wrong = ~np.isclose(means, found.values, rtol=_AGREEMENT, atol=_AGREEMENT).all(axis=1)
    if wrong.any():
        text = found.texts[int(wrong.argmax())]
        raise ResultError(f"{path}: the values of {text!r} are not the returns of its policy")
