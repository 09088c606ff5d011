"""Names to environments and agents: one call registers, one scan finds built-ins and plug-ins.

A registry fills itself on first use. It imports every module of its package whose name does not
begin with an underscore, then the modules that other distributions offer under the entry-point
group of the same name (``morl.envs``, ``morl.agents``). Being imported is all that a module has
to do: its decorators register. A module that fails is named in one warning, kept in
`Registry.broken`, and stops nothing.

How an environment is built stays in Gymnasium's registry; here stands what a benchmark must know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import gymnasium
from gymnasium.vector import VectorEnv

from morl.capabilities import Capabilities
from morl.types import Agent, EnvSpec, MorlError, Task, UnsupportedTaskError

DISTRIBUTION = "morl-suite"

SpecSource: TypeAlias = EnvSpec | Callable[..., EnvSpec]
"""A spec, or a function that makes it from the environment's keyword arguments."""

MakeVec: TypeAlias = Callable[..., VectorEnv[Any, Any, Any]]
"""``make_vec(num_envs, **kwargs)``: a batch of environments."""

EntryPoint: TypeAlias = str | Callable[..., Any]
"""What Gymnasium takes: ``"module:Name"``, a class or a function."""

_AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RegistrationError(MorlError):
    """A name that cannot be registered."""


class UnknownNameError(MorlError, KeyError):
    """A name that no environment or agent has."""

    def __str__(self) -> str:
        """The message itself; a plain KeyError would show its repr."""
        return str(self.args[0])


class Entry(Protocol):
    """What the registries hold."""

    @property
    def origin(self) -> str:
        """Module, object and distribution it comes from."""
        ...


EntryT = TypeVar("EntryT", bound=Entry)
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class EnvEntry:
    """An environment as the registry knows it.

    Attributes:
        id: its name, here and in Gymnasium's registry.
        spec: its spec, or a function of its keyword arguments; see `spec_for`.
        origin: "module:Name (distribution)".
        make_vec: builds a batch where Gymnasium's registry does not, or None.
        requires: modules that must be importable; where empty, the distributions behind
            ``spec.extra`` must be installed.
    """

    id: str
    spec: SpecSource
    origin: str
    make_vec: MakeVec | None = None
    requires: tuple[str, ...] = ()

    def spec_for(self, **kwargs: Any) -> EnvSpec:  # noqa: ANN401 - the environment's arguments
        """The spec of the environment built with these keyword arguments.

        Raises:
            RegistrationError: if the registered function returns the spec of another id.
        """
        if isinstance(self.spec, EnvSpec):
            return self.spec
        spec = self.spec(**kwargs)
        if spec.id != self.id:
            raise RegistrationError(f"{self.id}: its spec is that of {spec.id!r} ({self.origin})")
        return spec

    def available(self) -> str | None:
        """None if it can be built here, else the sentence that says what to install."""
        extra = self.spec_for().extra
        missing = [name for name in self.requires if not _importable(name)]
        if not self.requires and extra is not None:
            missing = _missing_distributions(extra)
        if not missing:
            return None
        names = ", ".join(missing)
        wanted = f"{DISTRIBUTION}[{extra}]" if extra is not None else " ".join(missing)
        return f"{self.id} needs {names}: pip install '{wanted}'"


@dataclass(frozen=True, kw_only=True)
class AgentEntry:
    """An agent as the registry knows it.

    Attributes:
        name: its name on the command line.
        make: ``make(task, config, *, total_steps, seed)``.
        config: dataclass of its settings, the only place of their defaults.
        origin: "module:Name (distribution)".
        capabilities: what it can act in, or None for an agent that does not declare it.
    """

    name: str
    make: Callable[..., Agent]
    config: type[Any]
    origin: str
    capabilities: Capabilities | None = None

    def supports(self, task: Task) -> str | None:
        """None if nothing speaks against the agent in this task, else the reason.

        An agent that declares nothing may be tried anywhere. The constructor of an agent may still
        refuse a task that its declaration allows, for example because of a setting.
        """
        return None if self.capabilities is None else self.capabilities.refusal(task)


class Registry(Mapping[str, EntryT], Generic[EntryT]):
    """Read-only mapping of sorted names that fills itself on first use.

    Args:
        group: the built-in package that is scanned and the entry-point group of plug-ins.
        noun: what an entry is, for messages ("environment").
    """

    def __init__(self, group: str, *, noun: str) -> None:
        self.group = group
        self.noun = noun
        self._entries: dict[str, EntryT] = {}
        self._broken: dict[str, str] = {}
        self._pending: dict[str, str] = {}
        self._loading: str | None = None
        self._scanned = False
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> EntryT:
        """Look an entry up.

        Raises:
            UnknownNameError: lists the right names, the nearest first.
        """
        if name not in self._entries:  # one that is loaded already does not wait for the others
            self._load_own(name)
        if name not in self._entries:
            self._scan()
        if name not in self._entries:
            raise UnknownNameError(self._unknown(name))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        """Whether the name is registered."""
        self._scan()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in sorted order."""
        self._scan()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        """Count the names."""
        self._scan()
        return len(self._entries)

    def __repr__(self) -> str:
        """Group and number of entries; does not scan."""
        return f"Registry({self.group!r}, {len(self._entries)} so far)"

    @property
    def broken(self) -> Mapping[str, str]:
        """Modules and plug-ins that could not be loaded, and why."""
        self._scan()
        return MappingProxyType(self._broken)

    def add(self, name: str, entry: EntryT) -> None:
        """File an entry; `register_env` and `register_agent` call this.

        A class that is defined again (a notebook cell, a reloaded module) replaces itself.

        Raises:
            RegistrationError: if something else has the name; says where both come from.
        """
        with self._lock:
            self.refuse_taken(name, entry.origin)
            self._pending.pop(name, None)
            self._entries[name] = entry

    def refuse_taken(self, name: str, origin: str) -> None:
        """Refuse a name that something else has.

        Raises:
            RegistrationError: says where both come from.
        """
        earlier = self._entries.get(name)
        if earlier is not None and not _redefines(earlier.origin, origin):
            raise RegistrationError(
                f"{self.group}: {name!r} is registered by {earlier.origin} and again by {origin}; "
                "rename one of them"
            )

    def defines(self, name: str, module: str) -> bool:
        """Whether a class of this module has the name."""
        return name in self._entries and self._entries[name].origin.startswith(f"{module}:")

    def origin(self, module: str, qualname: str | None = None) -> str:
        """Describe where an entry comes from: "module:Name (distribution)".

        The distribution is told while the scan loads it, and for the suite's own modules.
        """
        place = module if qualname is None else f"{module}:{qualname}"
        own = module.partition(".")[0] == __name__.partition(".")[0]
        distribution = DISTRIBUTION if own else self._loading
        return place if distribution is None else f"{place} ({distribution})"

    def expect_decorated(self, name: str, origin: str) -> None:
        """Remember a registration that waits for the class it decorates."""
        self._pending[name] = origin

    def _unknown(self, name: str) -> str:
        known = sorted(self._entries)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        message = f"unknown {self.noun} {name!r}"
        message += f", did you mean {' or '.join(map(repr, near))}?" if near else "."
        message += f" Available: {', '.join(known) or 'none'}."
        if name in self._pending:
            message += f" {self._pending[name]} registers it without an entry point or a class."
        if self._broken:
            message += f" Skipped as broken: {', '.join(sorted(self._broken))}."
        return message

    def _load_own(self, name: str) -> None:
        """Import the built-in module that is named as an entry, without all the others.

        What goes wrong here goes wrong in the scan again, which reports it.
        """
        module = f"{self.group}.{name}"
        if self._scanned or not str(name).isidentifier() or not _importable(module):
            return
        with self._lock, contextlib.suppress(Exception, SystemExit):
            importlib.import_module(module)

    def _scan(self) -> None:
        with self._lock:
            if self._scanned:
                return
            self._scanned = True  # first: a module may ask the registry while it is imported
            for name in _modules(self.group):
                self._load(name, partial(importlib.import_module, name))
            plug_ins = metadata.entry_points(group=self.group)
            for entry_point in sorted(plug_ins, key=lambda plug_in: plug_in.value):
                self._loading = _distribution_of(entry_point)
                self._load(entry_point.value, entry_point.load)
                self._loading = None
            for name, origin in self._pending.items():
                self._broken[name] = f"{origin} registers it without an entry point or a class"
            # Last: where warnings are errors, the registry is complete all the same.
            for name, reason in self._broken.items():
                warnings.warn(f"{self.group}: {name} is skipped: {reason}", stacklevel=4)

    def _load(self, name: str, load: Callable[[], object]) -> None:
        pending = dict(self._pending)
        try:
            load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one must not stop the rest
            self._pending = pending  # no class came because the module failed: one report will do
            source = "" if self._loading is None else f" (from {self._loading})"
            self._broken[name] = f"{type(error).__name__}: {error}{source}"


ENVS: Registry[EnvEntry] = Registry("morl.envs", noun="environment")
"""Every environment, by its id."""

AGENTS: Registry[AgentEntry] = Registry("morl.agents", noun="agent")
"""Every agent, by its name."""


def register_env(
    id: str,  # noqa: A002 - Gymnasium's word
    *,
    spec: SpecSource,
    entry_point: EntryPoint | None = None,
    vector_entry_point: EntryPoint | None = None,
    make_vec: MakeVec | None = None,
    max_episode_steps: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
    requires: Sequence[str] = (),
) -> Callable[[Decorated], Decorated]:
    """Register an environment, here and with Gymnasium.

    Three uses:

    * above a class (``gymnasium.Env`` or ``VectorEnv``): ``@register_env("arms-v0", spec=...)``;
    * as a call with an `entry_point`, which Gymnasium imports when the environment is made;
    * as a call for an id that Gymnasium has already: files the spec, and gives Gymnasium the
      `vector_entry_point` if there is one.

    Args:
        id: Gymnasium's id, versioned ("minecart-v0").
        spec: the spec, or a function of the environment's keyword arguments that works without
            any; its id is this one.
        entry_point: makes one environment, as in ``gymnasium.register``.
        vector_entry_point: makes a batch of them, as in ``gymnasium.register``.
        make_vec: builds a batch without Gymnasium's registry: ``make_vec(num_envs, **kwargs)``.
        max_episode_steps: step limit that Gymnasium applies.
        kwargs: constructor arguments that Gymnasium applies.
        requires: modules that must be importable; default: what ``spec.extra`` installs.

    Returns:
        A decorator that returns its class; leave it unused after a call.

    Raises:
        RegistrationError: if the id is taken, or not that of the spec.
    """
    if isinstance(spec, EnvSpec) and spec.id != id:
        raise RegistrationError(f"{id!r} is registered with the spec of {spec.id!r}")
    registration = _EnvRegistration(
        id=id,
        spec=spec,
        entry_point=entry_point,
        vector_entry_point=vector_entry_point,
        make_vec=make_vec,
        max_episode_steps=max_episode_steps,
        kwargs=dict(kwargs or {}),
        requires=tuple(requires),
    )
    registration.begin(sys._getframe(1).f_globals.get("__name__", "__main__"))
    return registration.decorate


@dataclass(frozen=True, kw_only=True)
class _EnvRegistration:
    """The arguments of one call of `register_env`."""

    id: str
    spec: SpecSource
    entry_point: EntryPoint | None
    vector_entry_point: EntryPoint | None
    make_vec: MakeVec | None
    max_episode_steps: int | None
    kwargs: dict[str, Any]
    requires: tuple[str, ...]

    def begin(self, module: str) -> None:
        """Register at once what can be, else wait for the class."""
        complete = self.entry_point is not None or self.make_vec is not None
        known = self.id in gymnasium.registry and not ENVS.defines(self.id, module)
        origin = ENVS.origin(module)
        if complete or known:
            self._register(origin, self.entry_point, self.vector_entry_point)
        else:
            ENVS.expect_decorated(self.id, origin)

    def decorate(self, decorated: Decorated) -> Decorated:
        """Register a class as the entry point it is fit for."""
        origin = ENVS.origin(decorated.__module__, decorated.__qualname__)
        if isinstance(decorated, type) and issubclass(decorated, VectorEnv):
            self._register(origin, self.entry_point, decorated)
        else:
            self._register(origin, decorated, self.vector_entry_point)
        return decorated

    def _register(
        self, origin: str, entry_point: EntryPoint | None, vector_entry_point: EntryPoint | None
    ) -> None:
        ENVS.refuse_taken(self.id, origin)
        if entry_point is not None or vector_entry_point is not None:
            self._register_with_gymnasium(origin, entry_point, vector_entry_point)
        entry = EnvEntry(
            id=self.id,
            spec=self.spec,
            origin=origin,
            make_vec=self.make_vec,
            requires=self.requires,
        )
        ENVS.add(self.id, entry)

    def _register_with_gymnasium(
        self, origin: str, entry_point: EntryPoint | None, vector_entry_point: EntryPoint | None
    ) -> None:
        known = gymnasium.registry.get(self.id)
        if known is None:
            try:
                gymnasium.register(
                    self.id,
                    entry_point=entry_point,
                    vector_entry_point=vector_entry_point,
                    max_episode_steps=self.max_episode_steps,
                    # Gymnasium's checker knows scalar rewards only.
                    disable_env_checker=True,
                    kwargs=self.kwargs,
                )
            except gymnasium.error.Error as error:
                raise RegistrationError(f"{self.id!r} ({origin}): {error}") from error
            return
        if entry_point is not None:
            theirs, ours = _place(known.entry_point), _place(entry_point)
            if theirs is not None and theirs != ours:
                raise RegistrationError(
                    f"{self.id!r} is registered with Gymnasium by {theirs} and again by {origin}; "
                    "rename one of them"
                )
            known.entry_point = entry_point
        if vector_entry_point is not None:
            known.vector_entry_point = vector_entry_point


def agents_for(task: Task) -> list[str]:
    """Names of the agents that declare what they can act in and fit a task, sorted."""
    return [
        name
        for name, entry in AGENTS.items()
        if entry.capabilities is not None and entry.supports(task) is None
    ]


def require_support(name: str, task: Task) -> None:
    """Refuse an agent that cannot act in a task.

    Raises:
        UnknownNameError: no agent has the name.
        UnsupportedTaskError: names the environment, the agent, the reason and agents that fit.
    """
    reason = AGENTS[name].supports(task)
    if reason is None:
        return
    fitting = ", ".join(agents_for(task)) or "none"
    raise UnsupportedTaskError(
        f"{task.spec.id}: agent {name} cannot act here: {reason}. Agents that can: {fitting}"
    )


def register_agent(
    name: str, *, config: type[Any], acts: Capabilities | None = None
) -> Callable[[Decorated], Decorated]:
    """Make a decorator that registers an agent.

    It goes above a class or a function that is called as
    ``make(task, config, *, total_steps, seed)`` and returns a `morl.types.Agent`.

    Args:
        name: its name on the command line: letters, digits, ".", "_" and "-".
        config: dataclass of its settings, every one with a default.
        acts: what it can act in; without, it is tried wherever somebody asks for it.

    Raises:
        RegistrationError: if the name is taken or malformed, or `config` is no dataclass.
    """
    if _AGENT_NAME.fullmatch(name) is None:
        raise RegistrationError(
            f"agent name {name!r}: only letters, digits, '.', '_' and '-', a letter or digit first"
        )
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise RegistrationError(f"agent {name!r}: config must be a dataclass, got {config!r}")

    def decorate(decorated: Decorated) -> Decorated:
        origin = AGENTS.origin(decorated.__module__, decorated.__qualname__)
        entry = AgentEntry(
            name=name, make=decorated, config=config, origin=origin, capabilities=acts
        )
        AGENTS.add(name, entry)
        return decorated

    return decorate


def _modules(package_name: str) -> list[str]:
    package = importlib.import_module(package_name)
    return sorted(
        f"{package_name}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    )


def _distribution_of(entry_point: metadata.EntryPoint) -> str | None:
    return None if entry_point.dist is None else entry_point.dist.name


def _redefines(earlier: str, later: str) -> bool:
    """Whether a class (or a script's call) replaces its own earlier self or its bare call."""
    if earlier == later:
        return ":" in later or later == "__main__"
    return ":" not in earlier and later.startswith(f"{earlier.partition(' ')[0]}:")


def _place(entry_point: object) -> str | None:
    """An entry point as "module:Name", however it is given."""
    if entry_point is None or isinstance(entry_point, str):
        return entry_point
    module = getattr(entry_point, "__module__", "")
    return f"{module}:{getattr(entry_point, '__qualname__', repr(entry_point))}"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a missing parent; a module without a spec
        return False


def _missing_distributions(extra: str) -> list[str]:
    """Distributions of one of our extras that are not installed."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    marker = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    names = [
        re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        for line in requirements
        if marker.search(line)
    ]
    return [name for name in names if not _installed(name)]


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
