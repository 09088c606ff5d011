"""What decides a run: typed settings, their checks, their record and its hash.

Configuration dataclasses are plain, not frozen: Hydra makes frozen ones read-only, and then
nothing could be overridden on the command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import re
import shlex
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from morl.registry import AGENTS
from morl.storage import json_bytes
from morl.types import MorlError

HASH_LENGTH = 12
"""Hexadecimal digits of a run's folder name."""

UNDECIDING = frozenset({"out", "resume", "tensorboard", "wandb"})
"""Settings that do not change what a run finds out; they are left out of its hash."""


class ConfigError(MorlError, ValueError):
    """A setting that cannot be; the message names it."""


@dataclass
class EnvConfig:
    """Which environment, and what of its protocol is changed.

    Attributes:
        id: registered id.
        kwargs: constructor arguments.
        discount: replaces the spec's discount, in (0, 1].
        horizon: replaces the spec's step limit.
        reference_point: replaces the spec's, one coordinate an objective.
        box_low: lower corner of the box by which returns are normalised, or None for the spec's.
        box_high: upper corner; both or none.
    """

    id: str = "minecart-v0"
    kwargs: dict[str, Any] = field(default_factory=dict)
    discount: float | None = None
    horizon: int | None = None
    reference_point: list[float] | None = None
    box_low: list[float] | None = None
    box_high: list[float] | None = None

    @property
    def box(self) -> tuple[list[float], list[float]] | None:
        """Lower and upper corner, or None."""
        if self.box_low is None or self.box_high is None:
            return None
        return self.box_low, self.box_high


@dataclass(kw_only=True)
class ProtocolSettings:
    """How long an agent learns, and how what it learnt is measured.

    Attributes:
        steps: budget in environment steps, the agent's own evaluations included.
        sync_every: steps between synchronisation points, where the run is saved and can be
            resumed; default a hundredth of the budget.
        curve_episodes: episodes a solution for the learning curve, of the selection stream.
        curve_solutions: most solutions that a point of the learning curve looks at.
        selection_episodes: episodes a candidate by which the front is chosen.
        report_episodes: episodes a solution by which the front is judged.
        max_batch: most environments that an evaluation steps at once.
        threads: of torch; part of the record, as their number changes the last bits.
    """

    steps: int = 100_000
    sync_every: int | None = None
    curve_episodes: int = 8
    curve_solutions: int = 64
    selection_episodes: int = 32
    report_episodes: int = 32
    max_batch: int = 1024
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what no run could use.

        Raises:
            ConfigError: names the setting.
        """
        check_choices(self)
        for name in (
            "steps", "sync_every", "curve_episodes", "curve_solutions", "selection_episodes",
            "max_batch", "threads",
        ):  # fmt: skip
            require(name, getattr(self, name), at_least=1)
        # One episode has no leave-one-out.
        require("report_episodes", self.report_episodes, at_least=2)


@dataclass(kw_only=True)
class RunSettings(ProtocolSettings):
    """Everything about a run except its environment and its agent.

    Attributes:
        seed: root of all random streams.
        eval_every: steps between the points of the learning curve; default a tenth.
        out: folder for all runs.
        resume: what to do if the folder has an unfinished run: "auto" goes on if the code is
            the same, "any" whatever the code, "never" moves it aside and starts afresh, a
            finished one too.
        tensorboard: also write TensorBoard event files.
        wandb: also log to Weights & Biases: "off", "offline" or "online".
    """

    seed: int = 0
    eval_every: int | None = None
    out: str = "runs"
    resume: Literal["auto", "any", "never"] = "auto"
    tensorboard: bool = False
    wandb: Literal["off", "offline", "online"] = "off"

    def __post_init__(self) -> None:
        """Refuse what no run could use.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        require("eval_every", self.eval_every, at_least=1)
        require("seed", self.seed, at_least=0)


@dataclass(kw_only=True)
class RunConfig(RunSettings):
    """All that decides a run.

    Attributes:
        env: the environment.
        agent: registered name of the agent.
        agent_config: the agent's own settings, or None for its defaults.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    agent: str = "c_morl"
    agent_config: Any = None

    def __post_init__(self) -> None:
        """Fill the agent's defaults in and check every field.

        Raises:
            ConfigError: names the setting.
            UnknownNameError: there is no such agent.
        """
        super().__post_init__()
        check_env_config(self.env)
        expected = AGENTS[self.agent].config
        if self.agent_config is None:
            self.agent_config = expected()
        if not isinstance(self.agent_config, expected):
            raise ConfigError(
                f"agent_config: {self.agent} takes a {expected.__module__}.{expected.__qualname__},"
                f" got {type(self.agent_config).__name__}"
            )

    @property
    def steps_to_sync(self) -> int:
        """Steps between synchronisation points."""
        return self.sync_every or max(1, self.steps // 100)

    @property
    def steps_to_eval(self) -> int:
        """Steps between points of the learning curve."""
        return self.eval_every or max(1, self.steps // 10)

    def record(self) -> dict[str, Any]:
        """Plain nested data that `from_record` reads, in the order of the command line."""
        agent = {"name": self.agent, **dataclasses.asdict(self.agent_config)}
        settings = {
            setting.name: getattr(self, setting.name) for setting in dataclasses.fields(RunSettings)
        }
        content: dict[str, Any] = plain(
            {"env": dataclasses.asdict(self.env), "agent": agent, **settings}
        )
        return content

    def deciding(self) -> dict[str, Any]:
        """The part of `record` that can change what the run finds out."""
        return {key: value for key, value in self.record().items() if key not in UNDECIDING}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunConfig:
        """Read what `record` wrote, or what Hydra composed.

        Raises:
            ConfigError: names the setting.
        """
        settings = dict(record)
        env = make_settings(EnvConfig, settings.pop("env"), where="env")
        agent = dict(settings.pop("agent"))
        name = str(agent.pop("name"))
        agent_config = make_settings(AGENTS[name].config, agent, where="agent")
        known = {setting.name for setting in dataclasses.fields(RunSettings)}
        for key in settings.keys() - known:
            raise ConfigError(unknown_key(key, known))
        return cls(env=env, agent=name, agent_config=agent_config, **settings)

    def digest(self, code_version: str) -> str:
        """Hexadecimal SHA-256 of everything that decides the outcome.

        Args:
            code_version: version of the code that will run.
        """
        content = json_bytes({"code": code_version, "config": self.deciding()})
        return hashlib.sha256(content).hexdigest()

    def folder(self, code_version: str) -> Path:
        """Where the run lives: ``out/<env>/<agent>/<hash>``."""
        name = self.digest(code_version)[:HASH_LENGTH]
        return Path(self.out) / self.env.id.replace("/", "-") / self.agent / name

    def command(self) -> str:
        """The command line that makes this run, defaults left out."""
        default = RunConfig(agent=self.agent, env=EnvConfig(id=self.env.id)).record()
        return command_of(self.record(), default)


def command_of(record: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """The command line behind a record.

    Args:
        record: result of `RunConfig.record`.
        default: likewise; settings that are the same here are left out.
    """
    return shlex.join(["morl", "run", *command_words(record, default, always=("seed",))])


def command_words(
    record: Mapping[str, Any], default: Mapping[str, Any], *, always: Sequence[str] = ()
) -> list[str]:
    """Overrides that make a record: environment and agent, then what is not the default.

    Args:
        record: settings with an "env" and an "agent".
        default: likewise.
        always: keys that are named even if they have their default.
    """
    words = [f"env={record['env']['id']}", f"agent={record['agent']['name']}"]
    words += [f"{key}={_word(record[key])}" for key in always]
    usual = dict(flat(default))
    ordered = {"env": record["env"], "agent": record["agent"], **record}
    for key, value in flat(ordered):
        if key in ("env.id", "agent.name", *always) or usual.get(key, _ABSENT) == value:
            continue
        words.append(f"{key}={_word(value)}")
    return words


_ABSENT = object()


def make_settings(config: type[Any], values: Mapping[str, Any], *, where: str) -> Any:  # noqa: ANN401 - any dataclass
    """Make a settings dataclass from plain values.

    Lists become tuples where the field says so; nested dataclasses are made likewise.

    Args:
        config: the dataclass.
        values: by field name; what is missing keeps its default.
        where: path of keys that leads here, for messages ("agent").

    Raises:
        ConfigError: names the key.
    """
    hints = get_type_hints(config)
    fields = {setting.name for setting in dataclasses.fields(config) if setting.init}
    for key in values:
        if key not in fields:
            raise ConfigError(unknown_key(f"{where}.{key}", (f"{where}.{name}" for name in fields)))
    made = {key: _typed(value, hints[key], where=f"{where}.{key}") for key, value in values.items()}
    try:
        settings = config(**made)
    except (MorlError, TypeError, ValueError) as error:
        about_field = str(error).split(" ")[0] in fields
        raise ConfigError(f"{where}{'.' if about_field else ': '}{error}") from error
    check_choices(settings, where=where)
    return settings


def check_choices(settings: Any, *, where: str = "") -> None:  # noqa: ANN401 - any dataclass
    """Refuse a value that is not among those of its `Literal` type.

    Raises:
        ConfigError: names the field, lists the choices and suggests the nearest.
    """
    hints = get_type_hints(type(settings))
    for setting in dataclasses.fields(settings):
        choices = literal_choices(hints[setting.name])
        value = getattr(settings, setting.name)
        if choices and value not in choices:
            name = f"{where}.{setting.name}" if where else setting.name
            listed = ", ".join(str(choice) for choice in choices)
            raise ConfigError(
                f"{name} must be one of {listed}; got {value!r}{nearest(str(value), choices)}"
            )


def literal_choices(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any type
    """Values of a `Literal`, None included where it is optional; empty for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        parts = [literal_choices(part) for part in get_args(hint) if part is not type(None)]
        if parts and all(parts):
            return (*(choice for part in parts for choice in part), None)
    return ()


ALIASES: Mapping[str, tuple[str, ...]] = {
    "algo": ("agent",),
    "batch_size": ("minibatch", "batch"),
    "ent_coef": ("entropy_coefficient",),
    "env_id": ("env",),
    "environment": ("env",),
    "gamma": ("env.discount",),
    "lr": ("learning_rate",),
    "n_envs": ("num_envs",),
    "n_epochs": ("epochs",),
    "n_steps": ("rollout_steps",),
    "net_arch": ("hidden",),
    "num_timesteps": ("steps",),
    "total_timesteps": ("steps",),
}
"""What settings are called elsewhere, and what here; the first that there is was meant."""


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that there is no such key, and which one comes nearest.

    Last words are compared, those beside the key first: a forgotten "agent." is found as well.
    """
    names = sorted(known)
    parent, _, leaf = key.rpartition(".")
    for meant in ALIASES.get(leaf, ()):
        for name in names:
            if name == meant or name == f"{parent}.{meant}":
                return f"unknown key {key!r}, did you mean {name!r}?"
    beside = [name for name in names if name.rpartition(".")[0] == parent]
    for group in (beside, names):
        leaves = {name.rpartition(".")[2]: name for name in group}
        near = difflib.get_close_matches(leaf, leaves, n=1)
        if near:
            return f"unknown key {key!r}, did you mean {leaves[near[0]]!r}?"
    return f"unknown key {key!r}; there are: {', '.join(beside or names)}"


def nearest(word: str, known: Iterable[Any]) -> str:
    """The phrase ", did you mean 'x'?", or nothing if nothing is near."""
    found = difflib.get_close_matches(word, [str(name) for name in known], n=1, cutoff=0.6)
    return f", did you mean {found[0]!r}?" if found else ""


def check_env_config(env: EnvConfig) -> None:
    """Refuse settings that fit no environment.

    Raises:
        ConfigError: names the setting.
    """
    require("env.horizon", env.horizon, at_least=1)
    if env.discount is not None and not 0.0 < env.discount <= 1.0:
        raise ConfigError(f"env.discount must be in (0, 1], got {env.discount}")
    if env.reference_point is not None and not all(map(math.isfinite, env.reference_point)):
        raise ConfigError(f"env.reference_point must be finite, got {env.reference_point}")
    if (env.box_low is None) != (env.box_high is None):
        raise ConfigError("env.box_low and env.box_high: a box needs both corners")


def require(name: str, value: int | None, *, at_least: int) -> None:
    """Refuse a number that is too small; None passes.

    Raises:
        ConfigError: names the setting.
    """
    if value is not None and value < at_least:
        raise ConfigError(f"{name} must be at least {at_least}, got {value}")


def _typed(value: Any, hint: Any, *, where: str) -> Any:  # noqa: ANN401 - plain data
    """Turn plain data into what a type hint asks for, as far as plain data cannot say it."""
    if value is None:
        return None
    if isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        return make_settings(hint, value, where=where)  # type: ignore[arg-type]  # a class here
    if isinstance(value, list) and _accepts(hint, tuple):
        return tuple(value)
    if type(value) is int and _accepts(hint, float) and not _accepts(hint, int):
        return float(value)
    return value


def _accepts(hint: Any, kind: type) -> bool:  # noqa: ANN401 - any type
    if get_origin(hint) in (Union, types.UnionType):
        return any(_accepts(part, kind) for part in get_args(hint))
    return (get_origin(hint) or hint) is kind


def plain(value: Any) -> Any:  # noqa: ANN401 - plain data
    """Tuples become lists, as they do in JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with their path of keys ("agent.learning_rate")."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _word(value: Any) -> str:  # noqa: ANN401 - plain data
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(_word(item) for item in value) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[\w./:@%+-]+", value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
