"""Suites: which tasks a table is about, and which agents fill it.

A suite fixes the *task*: environment and version, discount, horizon, reference point, box,
episodes and budget. Every cell (task, agent, seed) is an ordinary run, so that ``morl run`` makes
it as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from morl.envs import make_task
from morl.experiments.config import ConfigError, EnvConfig, RunConfig, make_settings, nearest
from morl.experiments.run import RESULT, run_folder, task_of
from morl.indicators import hypervolume
from morl.registry import AGENTS, require_support
from morl.result import RunResult, distribution_version
from morl.storage import json_bytes
from morl.types import EnvSpec, MorlError

CellState = Literal["done", "failed", "unfinished", "missing"]

_CONF = "morl.conf"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(kw_only=True)
class SuiteTask:
    """One task of a suite: everything that decides a score but the agent.

    Attributes:
        id: registered environment.
        name: what tables call it; the id by default.
        kwargs: constructor arguments of the environment.
        package_version: version of the package that implements its dynamics, or None where the
            environment's own version says enough.
        discount: of the returns that count, in (0, 1].
        horizon: step limit of an episode, or None where the environment ends by itself.
        reference_point: of the hypervolume, one coordinate an objective.
        box_low: nadir, the lower corner of the box by which returns are normalised, or None.
        box_high: ideal, the upper corner, or None.
        box_source: where the box comes from, one phrase.
        steps: budget in environment steps.
        selection_episodes: episodes a candidate by which the front is chosen.
        report_episodes: episodes a solution by which the front is judged.
        curve_episodes: episodes a solution for a point of the learning curve.
    """

    id: str = ""
    name: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    package_version: str | None = None
    discount: float = 0.99
    horizon: int | None = None
    reference_point: list[float] = field(default_factory=list)
    box_low: list[float] | None = None
    box_high: list[float] | None = None
    box_source: str = ""
    steps: int = 100_000
    selection_episodes: int = 32
    report_episodes: int = 32
    curve_episodes: int = 8


@dataclass(kw_only=True)
class SuiteAgent:
    """An agent of a suite: a row of its tables.

    Attributes:
        agent: registered name; the row's name by default.
        settings: of the agent, on every task.
        presets: experiment, or tuned configuration (``tuned/AGENT/NAME``), whose agent settings are
            taken, by task name; below `settings`.
        task_settings: of the agent on some tasks, by task name; above `settings`.
        tasks: names of the tasks that it takes part in; all by default.
    """

    agent: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, str] = field(default_factory=dict)
    task_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class SuiteConfig:
    """A suite as its file says it.

    Attributes:
        name: of the file.
        version: raised whenever a task changes; results of two versions share no table.
        title: one line.
        description: what it is for.
        seeds: number of seeds, 0 to seeds - 1.
        tasks: what is to be solved.
        agents: who tries, by row name.
    """

    name: str = ""
    version: int = 1
    title: str = ""
    description: str = ""
    seeds: int = 10
    tasks: list[SuiteTask] = field(default_factory=list)
    agents: dict[str, SuiteAgent] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run of a suite.

    Attributes:
        task: name of the task.
        entry: name of the row.
        config: the run.
    """

    task: str
    entry: str
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where the run lives under this version of the code."""
        return run_folder(self.config)

    def state(self) -> CellState:
        """How far the run is, from its folder alone."""
        if (self.folder / RESULT).exists():
            status = RunResult.load(self.folder).status
            return "failed" if status.startswith("failed") else "done"
        return "unfinished" if self.folder.exists() else "missing"


def suite_names() -> list[str]:
    """Names of the suites that come with the package."""
    folder = resources.files(_CONF) / "suite"
    return sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )


def load_suite(name: str) -> SuiteConfig:
    """Read a suite by its name, or from a file of one's own.

    Args:
        name: of a suite in ``conf/suite``, or the path of a YAML file.

    Raises:
        ConfigError: there is no such suite, or its file makes no sense; names the key.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"there is no suite file {name}")
        return parse_suite(path.stem, path.read_text("utf-8"))
    names = suite_names()
    if name not in names:
        raise ConfigError(
            f"unknown suite {name!r}{nearest(name, names)} Available: {', '.join(names)}, or the "
            "path of a YAML file."
        )
    file = resources.files(_CONF) / "suite" / f"{name}.yaml"
    return parse_suite(name, file.read_text("utf-8"))


def parse_suite(name: str, text: str) -> SuiteConfig:
    """Read a suite from the text of its file.

    Raises:
        ConfigError: names the key and what is wrong with it.
    """
    try:
        composed = OmegaConf.merge(OmegaConf.structured(SuiteConfig), OmegaConf.create(text))
        suite: Any = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise ConfigError(f"suite {name}: {f'{key}: ' if key else ''}{reason}") from error
    except Exception as error:  # YAML's own errors are of many types
        raise ConfigError(f"suite {name}: not readable as YAML: {error}") from error
    if not isinstance(suite, SuiteConfig):
        raise ConfigError(f"suite {name}: its file holds no mapping")
    suite.name = name
    for task in suite.tasks:
        task.name = task.name or task.id
    for row, agent in suite.agents.items():
        agent.agent = agent.agent or row
    _check(suite)
    return suite


def suite_cells(
    suite: SuiteConfig, *, out: str = "runs", seeds: Sequence[int] | None = None
) -> list[Cell]:
    """Every run of a suite, seeds outermost: whatever is interrupted, all rows are equally long.

    Args:
        suite: the suite.
        out: folder for all runs.
        seeds: instead of the suite's own.

    Raises:
        ConfigError: settings that do not fit an agent; names the row and the task.
    """
    firsts = [
        Cell(task.name, row, _config(suite, task, row, out=out))
        for task in suite.tasks
        for row in _rows(suite, task)
    ]
    return [
        dataclasses.replace(cell, config=dataclasses.replace(cell.config, seed=seed))
        for seed in (range(suite.seeds) if seeds is None else seeds)
        for cell in firsts
    ]


def check_packages(suite: SuiteConfig) -> None:
    """Refuse to fill a table with other dynamics than it is about.

    Raises:
        ConfigError: names the package, the version that is installed and the remedy.
    """
    for task in suite.tasks:
        package = _spec(suite, task).package
        installed = distribution_version(package)
        if task.package_version not in (None, installed):
            raise ConfigError(
                f"suite {suite.name}: {task.name} is about {package} {task.package_version}, "
                f"installed is {installed}: pip install {package}=={task.package_version}"
            )


def frozen_tasks(suite: SuiteConfig) -> dict[str, dict[str, Any]]:
    """The tasks of a suite with all that a table must know of them, as plain data by name.

    A leaderboard keeps this copy: it needs neither the suite's file nor the environments later.

    Raises:
        MorlError: an environment that is not installed, or settings that do not fit it.
    """
    return {task.name: _frozen(suite, task) for task in suite.tasks}


def tasks_digest(tasks: Mapping[str, Any]) -> str:
    """SHA-256 of frozen tasks."""
    return hashlib.sha256(json_bytes(tasks)).hexdigest()


def _frozen(suite: SuiteConfig, task: SuiteTask) -> dict[str, Any]:
    spec = _spec(suite, task)
    record: dict[str, Any] = {
        setting.name: getattr(task, setting.name)
        for setting in dataclasses.fields(task)
        if setting.name not in ("curve_episodes", "name")
    }
    record |= {
        "package": spec.package,
        "protocol": spec.protocol,
        "objectives": [[each.name, each.unit] for each in spec.objectives],
        "description": spec.description,
        "anchors": {name: float(level) for name, level in spec.anchors.items()},
        "known_front": None,
    }
    if spec.known_front is not None:
        points = spec.known_front.points(spec.discount)
        record["known_front"] = {
            "certificate": spec.known_front.certificate,
            "source": spec.known_front.source,
            "points": points.tolist(),
            "hypervolume": hypervolume(points, spec.reference_point).value,
        }
    return record


def _spec(suite: SuiteConfig, task: SuiteTask) -> EnvSpec:
    env = _env(task)
    try:
        return make_task(
            env.id,
            kwargs=env.kwargs,
            discount=env.discount,
            horizon=env.horizon,
            reference_point=env.reference_point,
            box=env.box,
        ).spec
    except MorlError as error:
        raise ConfigError(f"suite {suite.name}: {task.name}: {error}") from error


def _rows(suite: SuiteConfig, task: SuiteTask) -> Iterator[str]:
    for row, agent in suite.agents.items():
        if not agent.tasks or task.name in agent.tasks:
            yield row


def _config(suite: SuiteConfig, task: SuiteTask, row: str, *, out: str) -> RunConfig:
    agent = suite.agents[row]
    preset = agent.presets.get(task.name)
    settings = {
        **(preset_settings(preset) if preset else {}),
        **agent.settings,
        **agent.task_settings.get(task.name, {}),
    }
    where = f"suite {suite.name}: {row} on {task.name}"
    try:
        config = RunConfig(
            env=_env(task),
            agent=agent.agent,
            agent_config=make_settings(AGENTS[agent.agent].config, settings, where="agent"),
            steps=task.steps,
            selection_episodes=task.selection_episodes,
            report_episodes=task.report_episodes,
            curve_episodes=task.curve_episodes,
            out=out,
        )
        require_support(config.agent, task_of(config))
    except MorlError as error:
        raise ConfigError(f"{where}: {error}") from error
    return config


def _env(task: SuiteTask) -> EnvConfig:
    return EnvConfig(
        id=task.id,
        kwargs=dict(task.kwargs),
        discount=task.discount,
        horizon=task.horizon,
        reference_point=list(task.reference_point),
        box_low=task.box_low,
        box_high=task.box_high,
    )


def preset_settings(name: str) -> dict[str, Any]:
    """The agent's settings of a named experiment, or of ``tuned/AGENT/NAME``.

    Raises:
        ConfigError: there is no such file.
    """
    group, _, rest = name.partition("/")
    tuned = group == "tuned" and rest != ""
    path = name if tuned else f"experiment/{name}"
    file = resources.files(_CONF).joinpath(*f"{path}.yaml".split("/"))
    if not file.is_file():
        what = "tuned configuration" if tuned else "experiment"
        known = f"`morl list {'tuned' if tuned else 'experiments'}` shows what there is"
        raise ConfigError(f"there is no {what} {name!r}: {known}")
    loaded: Any = OmegaConf.to_container(OmegaConf.create(file.read_text("utf-8")))
    settings = dict(loaded.get("agent") or {})
    settings.pop("name", None)
    return settings


def _check(suite: SuiteConfig) -> None:
    where = f"suite {suite.name}"
    if not suite.tasks or not suite.agents:
        raise ConfigError(f"{where}: needs tasks and agents")
    if suite.seeds < 1 or suite.version < 1:
        raise ConfigError(f"{where}: seeds and version must be at least 1")
    names = [task.name for task in suite.tasks]
    for task in suite.tasks:
        if names.count(task.name) > 1:
            raise ConfigError(f"{where}: the task name {task.name!r} occurs twice")
        if not task.id or not task.reference_point:
            raise ConfigError(f"{where}: {task.name or 'a task'} needs an id and a reference_point")
    for row, agent in suite.agents.items():
        if _NAME.fullmatch(row) is None:
            raise ConfigError(f"{where}: the row name {row!r} may hold a-z, 0-9, '.', '_' and '-'")
        for name in (*agent.presets, *agent.task_settings, *agent.tasks):
            _check_task_name(name, names, where=f"{where}: {row}")


def _check_task_name(name: str, names: Sequence[str], *, where: str) -> None:
    if name not in names:
        raise ConfigError(
            f"{where} names the task {name!r}{nearest(name, names)}; there are: {', '.join(names)}"
        )
