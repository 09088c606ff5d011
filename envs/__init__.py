"""Environments: every id of the registry as a batch, or as a task with all that decides a score.

Batches come compiled where there is a kernel, else as Gymnasium environments in a row.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import VectorEnv

# MO-Gymnasium imports pygame, which prints a greeting on standard output.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# On a machine without a sound card, making its image environments fills the terminal.
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

from morl.envs.vector import (
    ActionError,
    BatchedEnv,
    EnvArgumentError,
    NotResetError,
    SerialEnv,
    checked_num_envs,
)
from morl.registry import ENVS, EnvEntry
from morl.types import EnvSpec, Task

__all__ = [
    "ActionError",
    "BatchedEnv",
    "EnvArgumentError",
    "NotResetError",
    "SerialEnv",
    "make_serial",
    "make_task",
    "make_vec",
]


def make_task(
    id: str,  # noqa: A002 - Gymnasium's word
    *,
    kwargs: Mapping[str, Any] | None = None,
    discount: float | None = None,
    horizon: int | None = None,
    reference_point: Sequence[float] | None = None,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Task:
    """An environment with everything fixed that decides a score.

    Args:
        id: name in the registry ("minecart-v0").
        kwargs: constructor arguments of the environment.
        discount: instead of the spec's, in (0, 1].
        horizon: step limit instead of the spec's.
        reference_point: instead of the spec's, one coordinate an objective.
        box: lower and upper corner by which returns are normalised, instead of the spec's.

    Returns:
        A task; its anchors are those known to hold under the overrides.

    Raises:
        UnknownNameError: for an id that no environment has.
        EnvArgumentError: for arguments that do not fit, or a package that is not installed.
    """
    entry = ENVS[id]
    settings = dict(kwargs or {})
    registered = _spec(entry, settings)
    changes: dict[str, Any] = {}
    if discount is not None:
        changes["discount"] = float(discount)
    if horizon is not None:
        changes["horizon"] = int(horizon)
    if reference_point is not None:
        changes["reference_point"] = tuple(float(coordinate) for coordinate in reference_point)
    try:
        spec = replace(registered, **changes)
        if spec != registered:
            spec = replace(spec, anchors=_anchors(registered, spec))
        if box is not None:  # changes no hypervolume: the anchors still hold
            low, high = (tuple(float(coordinate) for coordinate in corner) for corner in box)
            spec = replace(spec, box=(low, high))
    except ValueError as error:
        raise EnvArgumentError(str(error)) from None
    _check_available(entry)
    return Task(spec=spec, factory=partial(_make_batch, entry, spec, settings), kwargs=settings)


def make_vec(
    id: str,  # noqa: A002 - Gymnasium's word
    num_envs: int,
    *,
    horizon: int | None = None,
    **kwargs: Any,  # noqa: ANN401 - arguments of any environment
) -> VectorEnv[Any, Any, Any]:
    """A batch of environments that keeps the contract of `morl.types.Task.make_vec`.

    Args:
        id: name in the registry.
        num_envs: size of the batch, at least 1.
        horizon: step limit instead of the spec's.
        **kwargs: constructor arguments of the environment.

    Raises:
        UnknownNameError: for an id that no environment has.
        EnvArgumentError: for arguments that do not fit, or a package that is not installed.
    """
    return make_task(id, kwargs=kwargs, horizon=horizon).make_vec(num_envs)


def make_serial(
    id: str,  # noqa: A002 - Gymnasium's word
    num_envs: int,
    *,
    horizon: int | None = None,
    **kwargs: Any,  # noqa: ANN401 - arguments of any environment
) -> SerialEnv:
    """A batch of the ordinary Gymnasium environments, even where there is a compiled kernel.

    Args:
        id: name in Gymnasium's registry.
        num_envs: size of the batch, at least 1.
        horizon: step limit; None for the registered one.
        **kwargs: constructor arguments of the environment.

    Raises:
        EnvArgumentError: when an environment cannot be made.
    """
    registered = gymnasium.spec(id)
    limit = horizon if horizon is not None else registered.max_episode_steps
    make = partial(
        gymnasium.make,
        registered,  # by name, Gymnasium would advise against v4
        max_episode_steps=-1,  # the batch counts steps
        disable_env_checker=True,  # it knows scalar rewards only
        **kwargs,
    )
    return SerialEnv(num_envs, make, env_id=id, max_episode_steps=limit)


def _make_batch(
    entry: EnvEntry, spec: EnvSpec, settings: Mapping[str, Any], num_envs: int
) -> VectorEnv[Any, Any, Any]:
    checked_num_envs(num_envs, env_id=spec.id)
    arguments = dict(settings)
    if spec.horizon is not None:
        arguments["max_episode_steps"] = spec.horizon
    batch: VectorEnv[Any, Any, Any]
    try:
        if entry.make_vec is not None:
            batch = entry.make_vec(num_envs, **arguments)
        elif (registered := gymnasium.spec(spec.id)).vector_entry_point is not None:
            batch = gymnasium.make_vec(
                registered, num_envs, vectorization_mode="vector_entry_point", **arguments
            )
        else:
            batch = make_serial(spec.id, num_envs, horizon=spec.horizon, **settings)
    except TypeError as error:
        raise EnvArgumentError(
            f"{spec.id}: cannot be made of {dict(settings)}: {error}{_known_arguments(spec.id)}"
        ) from error
    _check_objectives(batch, spec)
    return batch


def _known_arguments(name: str) -> str:
    """What a compiled batch can be made of, as the end of a message."""
    entry_point = gymnasium.spec(name).vector_entry_point if name in gymnasium.registry else None
    if not isinstance(entry_point, str):
        return ""
    parameters = inspect.signature(load_env_creator(entry_point)).parameters
    known = sorted(set(parameters) - {"num_envs", "env_id", "max_episode_steps"})
    return f"; it takes {', '.join(known)}"


def _check_objectives(batch: VectorEnv[Any, Any, Any], spec: EnvSpec) -> None:
    shape = getattr(getattr(batch, "reward_space", None), "shape", None)
    if shape != (spec.num_objectives,):
        batch.close()
        raise EnvArgumentError(
            f"{spec.id}: its spec has {spec.num_objectives} objectives "
            f"({', '.join(spec.objective_names)}), its reward_space the shape {shape}"
        )


def _check_available(entry: EnvEntry) -> None:
    missing = entry.available()
    if missing is not None:
        raise EnvArgumentError(missing)


def _spec(entry: EnvEntry, settings: Mapping[str, Any]) -> EnvSpec:
    try:
        return entry.spec_for(**settings)
    except TypeError as error:
        raise EnvArgumentError(
            f"{entry.id}: cannot be made of {dict(settings)}: {error}"
        ) from error


def _anchors(registered: EnvSpec, spec: EnvSpec) -> Mapping[str, float]:
    """Anchors that hold under changed settings: those known for another horizon, else none."""
    from morl.envs.mo_gymnasium import capped_anchors

    only_horizon_differs = replace(registered, horizon=spec.horizon) == spec
    return capped_anchors(registered, spec.horizon) if only_horizon_differs else {}


# Once these are imported, Gymnasium knows the ids and which of them have kernels. They are last
# because they import this package.
from morl.envs import building as _building  # noqa: E402, F401
from morl.envs import mec_offloading as _mec_offloading  # noqa: E402, F401
from morl.envs import mo_gymnasium as _mo_gymnasium  # noqa: E402, F401
from morl.envs import mujoco as _mujoco  # noqa: E402, F401
