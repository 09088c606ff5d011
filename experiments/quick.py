"""One call from names to a trained run, for scripts and notebooks."""

from __future__ import annotations

import dataclasses
import difflib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from morl.experiments.config import ALIASES, ConfigError, EnvConfig, RunConfig
from morl.experiments.run import run as make_run
from morl.experiments.run import run_folder
from morl.experiments.trained import TrainedRun, load
from morl.registry import AGENTS, ENVS


def run(
    env: str,
    agent: str = "c_morl",
    *,
    steps: float = 100_000,
    seed: int | Sequence[int] = 0,
    out: str | Path = "runs",
    env_kwargs: dict[str, Any] | None = None,
    env_settings: dict[str, Any] | None = None,
    run_settings: dict[str, Any] | None = None,
    workers: int | None = None,
    **settings: Any,  # noqa: ANN401 - the agent's own
) -> Any:  # noqa: ANN401 - a run for one seed, a list of runs for several
    """Train an agent, measure its front and load the result.

    ``morl.run("minecart-v0", "c_morl", steps=1e6, seed=0, learning_rate=1e-3)`` is what
    ``morl run env=minecart-v0 agent=c_morl steps=1e6 seed=0 agent.learning_rate=1e-3`` does. A run
    that is done already is loaded.

    Args:
        env: id of an environment.
        agent: name of an agent.
        steps: budget in environment steps; a whole number, also as a float such as 1e6.
        seed: one seed, or several, which run in parallel.
        out: folder for all runs.
        env_kwargs: constructor arguments of the environment.
        env_settings: changes of its protocol: discount, horizon, reference_point.
        run_settings: further settings of the run, such as report_episodes.
        workers: most processes for several seeds; by default one per core.
        settings: of the agent.

    Returns:
        A `TrainedRun` for one seed; for a sequence of seeds a list of them, in order.

    Raises:
        UnknownNameError: there is no such environment or agent.
        ConfigError: a setting does not exist or has a value that it cannot have.
        RunFailedError: learning failed.
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    config = _config(
        env, agent, steps=steps, out=out, env_kwargs=env_kwargs, env_settings=env_settings,
        run_settings=run_settings, settings=settings,
    )  # fmt: skip
    configs = [dataclasses.replace(config, seed=_whole("seed", each)) for each in seeds]
    if isinstance(seed, int):
        return _train(configs[0])
    if not configs:
        raise ConfigError("seed must be an integer or a sequence of at least one")
    count = min(len(configs), workers or os.cpu_count() or 1)
    if count == 1:
        return [_train(each) for each in configs]
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        folders = list(pool.map(_train_apart, configs))
    return [load(folder) for folder in folders]


def _train(config: RunConfig) -> TrainedRun:
    return load(_train_apart(config))


def _train_apart(config: RunConfig) -> Path:
    make_run(config)
    return run_folder(config)


def _config(
    env: str, agent: str, *, steps: float, out: str | Path, env_kwargs: dict[str, Any] | None,
    env_settings: dict[str, Any] | None, run_settings: dict[str, Any] | None,
    settings: dict[str, Any],
) -> RunConfig:  # fmt: skip
    if not isinstance(env, str):
        raise ConfigError(
            f"env must be the id of an environment, got {type(env).__name__}; register your own "
            "with morl.register_env, see docs/add-an-environment.md"
        )
    _ = ENVS[env]  # names the nearest id if there is none such
    entry = AGENTS[agent]
    known = {setting.name for setting in dataclasses.fields(entry.config)}
    for name in settings:
        if name not in known:
            raise ConfigError(_unknown(name, agent, known))
    try:
        agent_config = dataclasses.replace(entry.config(), **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{agent}: {error}") from error
    try:
        return RunConfig(
            env=EnvConfig(id=env, kwargs=dict(env_kwargs or {}), **(env_settings or {})),
            agent=agent,
            agent_config=agent_config,
            steps=_whole("steps", steps),
            out=str(Path(out).expanduser()),
            **(run_settings or {}),
        )
    except TypeError as error:
        raise ConfigError(f"env_settings or run_settings: {error}") from error


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def _unknown(name: str, agent: str, known: set[str]) -> str:
    meant = [each for each in ALIASES.get(name, ()) if each in known or "." in each]
    near = meant[:1] or difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{agent} has no setting {name!r}{hint} It has {', '.join(sorted(known))}"
