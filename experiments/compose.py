"""Hydra at work: what the command line can say, and its errors in words that help.

The rest of the suite never sees Hydra: `compose_and_run` hands plain nested data on.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from functools import partial
from importlib import resources
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

import hydra
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
from morl.registry import AGENTS, ENVS

CONF = "morl.conf"
GROUPS = ("env", "agent", "experiment")
_FULL_ERROR = "HYDRA_FULL_ERROR"
_FREE_KEYS = "env.kwargs."
_WHOLE_NUMBERS = frozenset({"seed", "steps", "sync_every", "eval_every"})
_POWER_OF_TEN = re.compile(r"\b\d+(\.\d)?[eE]\+?\d+\b")
_PRIMITIVES = (int, float, bool, str, bytes, Any)


def experiments() -> list[str]:
    """Names that ``experiment=`` takes."""
    folder = resources.files(CONF) / "experiment"
    return sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )


def publish() -> None:
    """Offer every registered environment and agent as a typed choice."""
    store = ConfigStore.instance()
    root = make_dataclass(
        "Run",
        [("env", EnvConfig, field(default_factory=EnvConfig)), ("agent", Any, MISSING)],
        bases=(typed_node(RunSettings),),
    )
    store.store(name="run_settings", node=root)
    for env_id in ENVS:
        store.store(group="env", name=env_id, node=EnvConfig(id=env_id))
    for name, entry in AGENTS.items():
        node = make_dataclass("Agent", [("name", str, name)], bases=(typed_node(entry.config),))
        store.store(group="agent", name=name, node=node)


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


def compose_and_run(arguments: Sequence[str], job: Callable[[dict[str, Any]], int]) -> int:
    """Compose what the arguments say, once or for each job of a multirun, and run it.

    Args:
        arguments: Hydra's command line, without the program.
        job: runs one composed configuration and returns an exit code; prints its own errors.

    Returns:
        The largest exit code.

    Raises:
        ConfigError: the arguments do not make a configuration; says which one and why.
    """
    publish()
    flags, overrides = _sorted_words(arguments)
    overrides = prepare(overrides)
    codes: list[int] = [0]
    wish = os.environ.get(_FULL_ERROR)

    def task(composed: DictConfig) -> None:
        with _environment(_FULL_ERROR, wish):
            codes.append(job(_plain(composed)))
        if codes[-1] and not _in_this_process():
            raise SystemExit(codes[-1])

    app = hydra.main(version_base="1.3", config_path=f"pkg://{CONF}", config_name="config")(task)
    try:
        # Hydra hands its errors on, instead of printing them, where tracebacks are wanted.
        with _environment(_FULL_ERROR, "1"), _program_arguments([*flags, *overrides]):
            app()
    except (HydraException, OmegaConfBaseException) as error:
        if full_errors():
            raise
        raise ConfigError(_explain(error, overrides)) from error
    finally:
        GlobalHydra.instance().clear()
    return max(codes)


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


def _sorted_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
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

    Keys of ``env.kwargs`` need no "+", and numbers of steps may be written as 1e6.

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
    if key in GROUPS:
        _check_choice(key, override)
    if key.startswith(_FREE_KEYS) and not word.startswith(("+", "~")):
        return f"++{word}"
    if key in _WHOLE_NUMBERS:
        name, equals, values = word.partition("=")
        return name + equals + _POWER_OF_TEN.sub(lambda found: str(int(float(found[0]))), values)
    return word


def _check_choice(group: str, override: Override) -> None:
    if override.is_sweep_override():
        chosen = [str(value) for value in override.sweep_string_iterator()]
    else:
        chosen = [str(override.value())]
    for name in chosen:
        if group == "env":
            _ = ENVS[name]
        elif group == "agent":
            _ = AGENTS[name]
        elif name not in (*experiments(), "None"):
            known = experiments()
            raise ConfigError(
                f"unknown experiment {name!r}{nearest(name, known)} Available: {', '.join(known)}."
            )


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


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Say what is wrong in the words of the command line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = str(getattr(cause, "full_key", None) or "")
    text = _first_line(cause)
    missing = re.search(r"Key '([^']+)' (?:is )?not in", text)
    if missing:
        return unknown_key(key or missing[1], _known_keys(overrides))
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


def _known_keys(overrides: Sequence[str]) -> list[str]:
    """Keys that would be right, under the choices that the overrides make."""
    chosen = [word for word in overrides if word.split("=")[0] in GROUPS and "," not in word]
    GlobalHydra.instance().clear()
    with initialize_config_module(CONF, version_base="1.3"):
        return list(_flat_keys(_plain(compose("config", overrides=chosen))))


def _flat_keys(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
