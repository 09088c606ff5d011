"""Hydra at work: what the command line can say, and its errors in words that help.

The rest of the suite never sees Hydra: `compose_and_run` hands plain nested data on.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import os
import re
import socket
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union, get_args, get_origin, get_type_hints

import hydra
import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from morl.experiments.config import (
    ConfigError,
    EnvConfig,
    RunSettings,
    literal_choices,
    nearest,
    unknown_key,
)
from morl.experiments.interrupts import RunInterrupted
from morl.experiments.tune_config import TuneSettings
from morl.registry import AGENTS, ENVS
from morl.storage import json_bytes
from morl.types import MorlError

if TYPE_CHECKING:
    from importlib.abc import Traversable

CONF = "morl.conf"
RUN, TUNE = "config", "tune"
"""Primary configurations: of `morl run` and of `morl tune`."""

GROUPS = ("env", "agent", "experiment", "tuned", "hpo", "hpo/space", "hydra/launcher")
TUNED_FILE = "best.yaml"
"""Name of a tuned configuration in the folder of its study."""

LAUNCHERS = {
    "slurm": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "ray_cluster": ("hydra_ray_launcher", "ray"),
    "ray": ("hydra_ray_launcher", "ray"),
}
"""Launchers that are not Hydra's own: their package in ``hydra_plugins``, and our extra."""

DEFAULT_CHOICES = {"env": "minecart-v0", "agent": "c_morl"}
"""Those of ``conf/config.yaml`` and ``conf/tune.yaml``."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FULL_ERROR = "HYDRA_FULL_ERROR"
_FREE_KEYS = ("env.kwargs.", "hpo.space.", "hpo.diverged.")
_WHOLE_NUMBERS = frozenset({"seed", "steps", "sync_every", "eval_every"})
_POWER_OF_TEN = re.compile(r"\b\d+(\.\d)?[eE]\+?\d+\b")
_PRIMITIVES = (int, float, bool, str, bytes, Any)


class JobFailedError(MorlError):
    """A job that a launcher ran elsewhere failed; it has said itself why."""


class LauncherError(MorlError):
    """A launcher that ended in an error of its own."""


def experiments() -> list[str]:
    """Names that ``experiment=`` takes."""
    return choices_of("experiment")


def choices_of(group: str) -> list[str]:
    """Names of the files in a folder of ``conf/`` and in its folders, sorted."""
    folder = resources.files(CONF).joinpath(*group.split("/"))
    return sorted(_names_in(folder)) if folder.is_dir() else []


def _names_in(folder: Traversable) -> Iterator[str]:
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            yield file.name.removesuffix(".yaml")
        elif file.is_dir() and not file.name.startswith("__"):
            yield from (f"{file.name}/{name}" for name in _names_in(file))


def publish(words: Sequence[str] | None = None) -> None:
    """Offer environments and agents as typed choices, and the settings' types.

    Args:
        words: of a command line; if they name their environment and agent outright, these and the
            defaults are offered alone, so that the others need not be loaded. None offers all.
    """
    named = None if words is None else _named_choices(words)
    env_ids = tuple(ENVS) if named is None else named["env"]
    agents = tuple(AGENTS) if named is None else named["agent"]
    store = ConfigStore.instance()
    choices = [("env", EnvConfig, field(default_factory=EnvConfig)), ("agent", Any, MISSING)]
    for name, settings in (("run_settings", RunSettings), ("tune_settings", TuneSettings)):
        node = make_dataclass("Settings", choices, bases=(typed_node(settings),))
        store.store(name=name, node=node)
    for env_id in env_ids:
        store.store(group="env", name=env_id, node=EnvConfig(id=env_id))
    for name in agents:
        bases = (typed_node(AGENTS[name].config),)
        node = make_dataclass("Agent", [("name", str, name)], bases=bases)
        store.store(group="agent", name=name, node=node)


def _named_choices(words: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Environments and agents that words name, with the defaults; None if files may name others."""
    named: dict[str, list[str]] = {group: [name] for group, name in DEFAULT_CHOICES.items()}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key in ("experiment", "tuned") or word.startswith("-"):
            return None
        if key in named:
            names = value.split(",")
            if not all(_PLAIN_NAME.fullmatch(name) for name in names):
                return None
            named[key] += names
    return {group: tuple(dict.fromkeys(names)) for group, names in named.items()}


def typed_node(config: type[Any]) -> type[Any]:
    """A dataclass like `config` of such types only as OmegaConf knows.

    Choices become strings and tuples lists; `morl.experiments.config.make_settings` turns them
    back and checks them.
    """
    return type(_typed_instance(config()))


def _typed_instance(settings: Any) -> Any:  # noqa: ANN401 - any dataclass
    hints = get_type_hints(type(settings))
    fields: list[tuple[str, Any, Any]] = []
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if dataclasses.is_dataclass(value):
            value = _typed_instance(value)
            hint: Any = type(value)
        else:
            hint = _omegaconf_type(hints[setting.name])
            value = list(value) if isinstance(value, tuple) else value
        default = field(default_factory=partial(copy.deepcopy, value))
        fields.append((setting.name, hint, default))
    return make_dataclass(type(settings).__name__, fields, kw_only=True)()


def _omegaconf_type(hint: Any) -> Any:  # noqa: ANN401 - any type
    choices = literal_choices(hint)
    if choices:
        if not all(isinstance(choice, str | None) for choice in choices):
            return Any
        return Optional[str] if None in choices else str  # noqa: UP045 - built at run time
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _omegaconf_union(get_args(hint))
    if hint in _PRIMITIVES:
        return hint
    if origin in (list, tuple, Sequence):
        items = {_omegaconf_type(item) for item in get_args(hint) if item is not ...}
        return list[items.pop()] if len(items) == 1 else list[Any]  # type: ignore[misc]
    if origin in (dict, Mapping) or hint is dict:
        return dict[str, Any]
    return Any


def _omegaconf_union(parts: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any type
    known = [_omegaconf_type(part) for part in parts if part is not type(None)]
    if len(known) == 1:
        return Optional[known[0]] if type(None) in parts else known[0]  # noqa: UP045
    return Any


def compose_and_run(
    arguments: Sequence[str], job: Callable[[dict[str, Any]], int], *, primary: str = RUN
) -> int:
    """Compose what the arguments say, once or for each job of a multirun, and run it.

    Args:
        arguments: Hydra's command line, without the program.
        job: runs one composed configuration and returns an exit code; prints its own errors. A
            function of a module where a launcher is to run it elsewhere.
        primary: `RUN` or `TUNE`.

    Returns:
        The largest exit code.

    Raises:
        ConfigError: the arguments do not make a configuration; says which one and why.
        JobFailedError: a job that a launcher ran elsewhere failed.
        LauncherError: a launcher ended in an error of its own.
    """
    flags, overrides = sorted_words(arguments)
    overrides = prepare(overrides)
    publish([*flags, *overrides])
    codes: list[int] = [0]
    wish = os.environ.get(_FULL_ERROR)
    folder = Path.cwd()

    def task(composed: DictConfig) -> None:
        if not _in_this_process():
            run_elsewhere(job, _plain(composed), folder=folder)
            return
        with _environment(_FULL_ERROR, wish):
            codes.append(job(_plain(composed)))

    app = hydra.main(version_base="1.3", config_path=f"pkg://{CONF}", config_name=primary)(task)
    launcher = launcher_of(overrides)
    with _sweep_folder(flags, overrides) as words:
        try:
            # Hydra hands its errors on, instead of printing them, where tracebacks are wanted.
            with _environment(_FULL_ERROR, "1"), _program_arguments([*flags, *words]):
                app()
        except (HydraException, OmegaConfBaseException) as error:
            if full_errors():
                raise
            raise ConfigError(_explain(error, overrides, primary)) from error
        except Exception as error:
            if full_errors() or launcher is None or isinstance(error, MorlError):
                raise
            raise LauncherError(
                f"the launcher {launcher} ended with {type(error).__name__}: {_first_line(error)}\n"
                "  what is finished stays; the same command does the rest"
            ) from error
        finally:
            GlobalHydra.instance().clear()
    return max(codes)


def run_elsewhere(
    job: Callable[[dict[str, Any]], int], record: dict[str, Any], *, folder: Path
) -> None:
    """A job in another process, where a launcher put it.

    All that goes wrong becomes an exception that Hydra carries home: some launchers wait forever
    for a process that ends in any other way.

    Args:
        job: see `compose_and_run`.
        record: its configuration.
        folder: in which the command was given; relative paths start there.

    Raises:
        JobFailedError: says where it failed.
    """
    host = socket.gethostname()
    try:
        os.chdir(folder)
    except OSError:
        raise JobFailedError(
            f"{folder} is not there on {host}: launchers need a folder that all machines share"
        ) from None
    try:
        code = job(record)
    except RunInterrupted as request:
        raise JobFailedError(f"on {host}: {request.message}") from None
    if code:
        raise JobFailedError(f"a job on {host} failed with exit code {code}; its log says why")


def compose_only(arguments: Sequence[str], *, primary: str = RUN) -> dict[str, Any]:
    """The configuration that overrides make, as plain data; nothing is run.

    Raises:
        ConfigError: the arguments do not make a configuration; says which one and why.
    """
    publish()
    overrides = prepare(arguments)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONF, version_base="1.3"):
            return _plain(compose(primary, overrides=overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, primary)) from error


def launcher_of(overrides: Iterable[str]) -> str | None:
    """The launcher that overrides choose, if it is not Hydra's own."""
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("hydra/launcher=")]
    return chosen[-1] if chosen and chosen[-1] != "basic" else None


@contextmanager
def _sweep_folder(flags: Sequence[str], overrides: Sequence[str]) -> Iterator[list[str]]:
    """Overrides by which a multirun in this process leaves nothing of Hydra's behind.

    Other launchers need a folder that other machines see.
    """
    multirun = bool({"-m", "--multirun"} & set(flags))
    chosen = any(word.startswith("hydra.sweep.dir=") for word in overrides)
    if not multirun or chosen or launcher_of(overrides) is not None:
        yield list(overrides)
        return
    with tempfile.TemporaryDirectory(prefix="morl-sweep-") as folder:
        yield [*overrides, f"hydra.sweep.dir='{folder}'"]


_FLAGS_WITH_VALUES = frozenset(
    {
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-dir",
        "-cd",
        "--config-name",
        "-cn",
        "--info",
        "-i",
    }
)


def sorted_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in _FLAGS_WITH_VALUES:
            flags += [word, *[value for value in [next(words, None)] if value is not None]]
        elif word.startswith("-"):
            flags.append(word)
        else:
            overrides.append(word)
    return flags, overrides


def full_errors() -> bool:
    """Whether the user asked for tracebacks, in Hydra's way."""
    return os.environ.get(_FULL_ERROR) == "1"


def prepare(overrides: Iterable[str]) -> list[str]:
    """Check the choices that overrides make, and allow what Hydra's grammar would refuse.

    Keys of ``env.kwargs`` need no "+", numbers of steps may be written as 1e6, and a tuned
    configuration may be named by its file.

    Raises:
        ConfigError: names the override, or what there is to choose from.
    """
    return [_prepare(word) for word in overrides]


def _prepare(word: str) -> str:
    try:
        override = OverridesParser.create().parse_override(word)
    except (OverrideParseException, HydraException) as error:
        raise ConfigError(
            f"cannot read {word!r}: settings are written key=value, "
            f"and values with special characters in quotes ({_first_line(error)})"
        ) from error
    key = override.key_or_group
    if key == "tuned" and not word.startswith("~"):
        return f"+tuned={','.join(_tuned_name(name) for name in _chosen(override))}"
    if key in GROUPS:
        _check_choice(key, override)
    if f"{key}.".startswith(_FREE_KEYS) and not word.startswith(("+", "~")):
        return f"++{word}"
    if key in _WHOLE_NUMBERS:
        name, equals, values = word.partition("=")
        return name + equals + _POWER_OF_TEN.sub(lambda found: str(int(float(found[0]))), values)
    return word


def _chosen(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.value())]


def _check_choice(group: str, override: Override) -> None:
    for name in _chosen(override):
        if group == "env":
            _ = ENVS[name]
        elif group == "agent":
            _ = AGENTS[name]
        elif group == "hydra/launcher":
            _check_launcher(name)
        elif name not in (*choices_of(group), "None"):
            known = choices_of(group)
            raise ConfigError(
                f"unknown {group} {name!r}{nearest(name, known)} Available: {', '.join(known)}."
            )


def _check_launcher(name: str) -> None:
    if name not in LAUNCHERS:
        return  # Hydra knows those of other plug-ins
    package, extra = LAUNCHERS[name]
    if importlib.util.find_spec("hydra_plugins") is None or (
        importlib.util.find_spec(f"hydra_plugins.{package}") is None
    ):
        raise ConfigError(
            f"hydra/launcher={name} needs packages that are not installed: "
            f"pip install 'morl-suite[{extra}]'"
        )


def _tuned_name(wanted: str) -> str:
    """Name of a tuned configuration in Hydra's group; a file is put there.

    Args:
        wanted: AGENT/ENVIRONMENT of those that the suite has, a file, or the folder of a study.

    Raises:
        ConfigError: there is no such configuration.
    """
    known = choices_of("tuned")
    if wanted in known:
        return wanted
    path = Path(wanted) / TUNED_FILE if Path(wanted).is_dir() else Path(wanted)
    if not path.is_file():
        raise ConfigError(
            f"tuned: {wanted!r} is neither a file, nor the folder of a finished study, nor one of "
            f"{', '.join(known)}{nearest(wanted, known)}"
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(content, dict) or "agent" not in content:
        raise ConfigError(f"{path} is not a tuned configuration: it has no settings of an agent")
    name = f"file-{hashlib.sha256(json_bytes(content)).hexdigest()[:12]}"
    ConfigStore.instance().store(group="tuned", name=name, node=content, package="_global_")
    return name


def _plain(composed: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=True)
    if not isinstance(plain, dict):  # pragma: no cover - a root is a mapping
        raise TypeError(f"expected a mapping, got {type(plain)}")
    record = {str(key): value for key, value in plain.items()}
    record.pop("experiment", None)
    return record


def _in_this_process() -> bool:
    return str(HydraConfig.get().launcher._target_).endswith("BasicLauncher")


@contextmanager
def _program_arguments(words: Sequence[str]) -> Iterator[None]:
    """Let Hydra see a command line of ours."""
    argv = sys.argv
    sys.argv = ["morl run", *words]
    try:
        yield
    finally:
        sys.argv = argv


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable of the process's environment, or unset it, for a while."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _explain(error: Exception, overrides: Sequence[str], primary: str) -> str:
    """Say what is wrong in the words of the command line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = str(getattr(cause, "full_key", None) or "")
    text = _first_line(cause)
    missing = re.search(r"Key '([^']+)' (?:is )?not in", text)
    if missing:
        return unknown_key(
            key or missing[1], [*_known_keys(overrides, primary), "env", "agent", "experiment"]
        )
    wrong = re.match(
        r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", text
    )
    if wrong:
        return f"{key}: {wrong[1]!r} is not {_KINDS.get(wrong[2], wrong[2])}"
    return f"{key}: {text}" if key and key not in text else text


_KINDS = {
    "Integer": "a whole number",
    "Float": "a number",
    "bool": "true or false",
}


def _known_keys(overrides: Sequence[str], primary: str) -> list[str]:
    """Keys that would be right, under the choices that the overrides make."""
    chosen = [
        word
        for word in overrides
        if word.split("=")[0].lstrip("+") in GROUPS[:-1] and "," not in word
    ]
    GlobalHydra.instance().clear()
    with initialize_config_module(CONF, version_base="1.3"):
        return list(_flat_keys(_plain(compose(primary, overrides=chosen))))


def _flat_keys(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
