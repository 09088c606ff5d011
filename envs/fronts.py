"""Known fronts with a witness for every point: exact ones, or the best that was found so far.

A witness is a plan, the actions that earn the point in the environment. ``data/fronts`` holds one
file for each environment; ``python -m morl.experiments.fronts`` computes the exact ones anew and
`update_best_known` improves the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.exact import ExactFront, FiniteModel, enumerate_states, pareto_front, supported
from morl.pareto import nondominated, unique
from morl.storage import make_folder, read_json, write_json
from morl.types import Certificate, Front, KnownFront, MorlError, Task

FORMAT = "morl-front/1"
FOLDER = Path(__file__).parent / "data" / "fronts"

DISCOUNTS = (1.0, 0.99, 0.98)
"""Discounts of the literature, for which exact fronts are stored."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""How plans are written: one letter an action."""

BATCH = 4096

Plan = tuple[int, ...]


class FrontError(MorlError):
    """A file of a front that cannot be trusted, or plans that earn no front."""


@dataclass(frozen=True, kw_only=True)
class StoredFront:
    """A front at one discount.

    Attributes:
        discount: in (0, 1].
        points: mean discounted returns, ``(point, objective)``.
        plans: actions that earn them, one sequence a point.
        supported: which points are best for some weighted sum, ``(point,)``.
    """

    discount: float
    points: Front
    plans: tuple[Plan, ...]
    supported: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class FrontFile:
    """What is known of an environment's front.

    Attributes:
        env: id in the registry.
        kwargs: constructor arguments for which it holds.
        certificate: how far to trust it.
        method: how it was found.
        package: distribution and version whose dynamics it holds for.
        revision: counts up whenever the points change.
        seeds: a point is the mean over episodes of the seeds below this number.
        fronts: one for each stored discount.
    """

    env: str
    certificate: Certificate
    method: str
    package: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    seeds: int = 1
    fronts: tuple[StoredFront, ...] = ()

    def at(self, discount: float) -> StoredFront | None:
        """The front stored for a discount, if any."""
        return next((front for front in self.fronts if front.discount == discount), None)


# ---------------------------------------------------------------------------------------------
# Exact fronts


def _model_of_gathering() -> FiniteModel:
    from morl.envs.resource_gathering import model

    return model()


def _model_of_rooms() -> FiniteModel:
    from morl.envs.four_room import model

    return model()


MODELS: dict[str, Callable[[], FiniteModel] | None] = {
    "deep-sea-treasure-v0": None,
    "deep-sea-treasure-concave-v0": None,
    "deep-sea-treasure-mirrored-v0": None,
    "four-room-v0": _model_of_rooms,
    "fruit-tree-v0": None,
    "resource-gathering-v0": _model_of_gathering,
}
"""Environments that are solved exactly, and their tables where search does not find them."""


def solve(env: str, *, discount: float, **kwargs: Any) -> ExactFront:  # noqa: ANN401
    """Compute the exact front of an environment.

    Args:
        env: key of `MODELS`.
        discount: in (0, 1].
        **kwargs: constructor arguments of the environment.
    """
    task = _task(env, kwargs)
    return pareto_front(_model(env, task), discount=discount, horizon=task.spec.horizon)


def exact_front(env: str, source: str, **kwargs: Any) -> KnownFront:  # noqa: ANN401
    """A known front for a spec; computed where no file stores the discount."""
    return KnownFront(partial(_exact_points, env, tuple(kwargs.items())), "exact", source)


def best_known_front(env: str, source: str) -> KnownFront:
    """A known front for a spec; other discounts than the stored ones weigh the stored plans."""
    return KnownFront(partial(_best_known_points, env), "best-known", source)


def _task(env: str, kwargs: Mapping[str, Any]) -> Task:
    from morl.envs import make_task  # which imports the specs, and they this module

    return make_task(env, kwargs=kwargs)


def _model(env: str, task: Task) -> FiniteModel:
    tables = MODELS[env]
    return enumerate_states(task) if tables is None else tables()


@cache
def _solved_points(env: str, settings: tuple[tuple[str, Any], ...], discount: float) -> Front:
    stored = load(env, **dict(settings)).at(discount)
    if stored is not None:
        return stored.points
    return solve(env, discount=discount, **dict(settings)).points


def _exact_points(env: str, settings: tuple[tuple[str, Any], ...], discount: float) -> Front:
    return _solved_points(env, settings, discount).copy()


@cache
def _replayed_points(env: str, discount: float) -> Front:
    file = load(env)
    stored = file.at(discount)
    if stored is not None:
        return stored.points
    plans = sorted({plan for front in file.fronts for plan in front.plans})
    return front_of_plans(
        _task(env, file.kwargs), plans, discount=discount, seeds=file.seeds
    ).points


def _best_known_points(env: str, discount: float) -> Front:
    return _replayed_points(env, discount).copy()


# ---------------------------------------------------------------------------------------------
# Plans


def replay(
    task: Task, plans: Sequence[Plan], *, discount: float, seeds: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Play plans in the environment.

    Args:
        task: environment with discrete actions.
        plans: sequences of actions; what is left over at the end of an episode is ignored.
        discount: in (0, 1].
        seeds: episodes of each plan, from the seeds 0, 1, ...

    Returns:
        Discounted returns ``(plan, seed, objective)``, and whether the episode ended within the
        plan ``(plan, seed)``.
    """
    returns = np.zeros((len(plans) * seeds, task.spec.num_objectives))
    ended = np.zeros(len(returns), np.bool_)
    for start in range(0, len(returns), BATCH):
        rows = np.arange(start, min(start + BATCH, len(returns)))
        chosen = [plans[row // seeds] for row in rows.tolist()]
        returns[rows], ended[rows] = _play(task, chosen, (rows % seeds).tolist(), discount)
    shape = (len(plans), seeds)
    return returns.reshape(*shape, -1), ended.reshape(shape)


def _play(
    task: Task, plans: Sequence[Plan], seeds: Sequence[int], discount: float
) -> tuple[Front, NDArray[np.bool_]]:
    lengths = np.array([len(plan) for plan in plans])
    actions = np.zeros((len(plans), int(lengths.max(initial=0))), np.int64)
    for row, plan in zip(actions, plans, strict=True):
        row[: len(plan)] = plan
    returns = np.zeros((len(plans), task.spec.num_objectives))
    running = np.ones(len(plans), np.bool_)
    batch = task.make_vec(len(plans))
    try:
        # Seeds one an environment are part of the contract, Gymnasium's types know fewer.
        batch.reset(seed=list(seeds))  # type: ignore[arg-type]
        for step in range(actions.shape[1]):
            _, rewards, terminated, truncated, _ = batch.step(actions[:, step])
            counts = running & (step < lengths)
            returns[counts] += discount**step * rewards[counts]
            running &= ~(counts & (terminated | truncated))
            if not running.any():
                break
    finally:
        batch.close()
    return returns, ~running


def front_of_plans(
    task: Task, plans: Sequence[Plan], *, discount: float, seeds: int = 1
) -> StoredFront:
    """The undominated among the mean returns of plans.

    Args:
        task: environment with discrete actions.
        plans: sequences of actions.
        discount: in (0, 1].
        seeds: episodes of each plan.

    Raises:
        FrontError: when a plan stops before the episode does.
    """
    returns, ended = replay(task, plans, discount=discount, seeds=seeds)
    if not ended.all():
        plan = int(np.flatnonzero(~ended.all(axis=1))[0])
        raise FrontError(
            f"{task.spec.id}: plan {plan} of {len(plans[plan])} actions stops before the episode "
            "ends; append what to do until then"
        )
    means = returns.mean(axis=1)
    kept = unique(means)
    kept = kept[nondominated(means[kept])]
    order = kept[np.lexsort(means[kept].T[::-1])]
    return _completed(means[order], [tuple(plans[index]) for index in order], discount)


def _completed(points: Front, plans: Sequence[Plan], discount: float) -> StoredFront:
    """A front with what follows from its points."""
    flags = np.zeros(len(points), np.bool_)
    flags[supported(points)] = True
    return StoredFront(discount=discount, points=points, plans=tuple(plans), supported=flags)


def update_best_known(
    env: str,
    plans: Sequence[Plan],
    *,
    discount: float,
    method: str,
    seeds: int = 1,
    folder: Path = FOLDER,
) -> FrontFile:
    """Merge plans into the best-known front of an environment and store it.

    Every plan, old and new, is played; what is dominated is dropped.

    Args:
        env: id in the registry.
        plans: sequences of actions, each to the end of its episode.
        discount: in (0, 1].
        method: how the plans were found.
        seeds: episodes of each plan; the file's number where there is a file.
        folder: where the files lie.

    Returns:
        What was stored; its revision counts up if the points changed.

    Raises:
        FrontError: for an environment whose front is exact, or a plan that stops early.
    """
    task = _task(env, {})
    path = folder / f"{file_name(env, {})}.json"
    file = (
        read(path)
        if path.exists()
        else FrontFile(
            env=env,
            certificate="best-known",
            method=method,
            package=_package(task),
            revision=0,
            seeds=seeds,
        )
    )
    if file.certificate == "exact":
        raise FrontError(f"{env}: its front is exact and cannot be improved")
    before = file.at(discount)
    candidates = [*(before.plans if before else ()), *map(tuple, plans)]
    after = front_of_plans(task, candidates, discount=discount, seeds=file.seeds)
    if before is not None and np.array_equal(before.points, after.points):
        return file
    others = [front for front in file.fronts if front.discount != discount]
    fronts = tuple(sorted([*others, after], key=lambda front: -front.discount))
    improved = replace(file, fronts=fronts, method=method, revision=file.revision + 1)
    save(improved, folder=folder)
    return improved


# ---------------------------------------------------------------------------------------------
# Files


def file_name(env: str, kwargs: Mapping[str, Any]) -> str:
    """Name of a file without its ending: the id and the arguments."""
    return ".".join([env, *(f"{name}-{value}" for name, value in sorted(kwargs.items()))])


@cache
def _loaded(name: str) -> FrontFile:
    return read(FOLDER / f"{name}.json")


def load(env: str, **kwargs: Any) -> FrontFile:  # noqa: ANN401 - the environment's arguments
    """Read the stored front of an environment.

    Raises:
        FrontError: for a file that was changed by hand.
    """
    return _loaded(file_name(env, kwargs))


def save(file: FrontFile, *, folder: Path = FOLDER) -> Path:
    """Write a front where `load` finds it."""
    make_folder(folder)
    path = folder / f"{file_name(file.env, file.kwargs)}.json"
    record = {
        "format": FORMAT,
        "env": file.env,
        "kwargs": dict(file.kwargs),
        "certificate": file.certificate,
        "method": file.method,
        "package": file.package,
        "revision": file.revision,
        "seeds": file.seeds,
        "fronts": [_front_record(front) for front in file.fronts],
    }
    write_json(path, record, indent=None)
    return path


def _front_record(front: StoredFront) -> dict[str, Any]:
    record = {
        "discount": front.discount,
        "points": front.points.tolist(),
        "plans": ["".join(DIGITS[action] for action in plan) for plan in front.plans],
        "supported": front.supported.tolist(),
    }
    return {**record, "sha256": _digest(record)}


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> FrontFile:
    """Read a file that `save` wrote.

    Raises:
        FrontError: for another format, or a front that was changed by hand.
    """
    record = read_json(path)
    if record.get("format") != FORMAT:
        raise FrontError(f"{path}: expected the format {FORMAT}, found {record.get('format')!r}")
    return FrontFile(
        env=record["env"],
        kwargs=record["kwargs"],
        certificate=record["certificate"],
        method=record["method"],
        package=record["package"],
        revision=record["revision"],
        seeds=record["seeds"],
        fronts=tuple(_front(dict(front), path) for front in record["fronts"]),
    )


def _front(record: dict[str, Any], path: Path) -> StoredFront:
    if record.pop("sha256", None) != _digest(record):
        raise FrontError(
            f"{path}: the front for the discount {record.get('discount')} was changed after it was "
            "computed; restore the file or compute it anew"
        )
    return StoredFront(
        discount=record["discount"],
        points=np.array(record["points"], np.float64),
        plans=tuple(tuple(map(DIGITS.index, plan)) for plan in record["plans"]),
        supported=np.array(record["supported"], np.bool_),
    )


def solve_file(env: str, *, method: str, **kwargs: Any) -> FrontFile:  # noqa: ANN401
    """Compute what is stored of an environment that can be solved exactly.

    Args:
        env: key of `MODELS`.
        method: how the tables were made, for the record.
        **kwargs: constructor arguments of the environment.
    """
    task = _task(env, kwargs)
    model = _model(env, task)
    fronts = []
    for discount in DISCOUNTS:
        found = pareto_front(model, discount=discount, horizon=task.spec.horizon)
        fronts.append(_completed(found.points, [plan.actions for plan in found.plans], discount))
    return FrontFile(
        env=env,
        kwargs=kwargs,
        certificate="exact",
        method=method,
        package=_package(task),
        fronts=tuple(fronts),
    )


def _package(task: Task) -> str:
    return f"{task.spec.package} {metadata.version(task.spec.package)}"
