"""Names of environments and agents, and what plug-ins may and may not do."""

from __future__ import annotations

import importlib
import pickle
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import levers
import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from morl import registry as registry_module
from morl.registry import (
    AgentEntry,
    EnvEntry,
    RegistrationError,
    Registry,
    UnknownNameError,
    register_agent,
    register_env,
)
from morl.types import EnvSpec, MorlError, Objective

PLUGIN = Path(__file__).parents[1] / "packaging" / "plugin_example"


@dataclass
class Config:
    """Settings."""

    rate: float = 0.1


class Arms(gymnasium.Env[Any, Any]):
    """An environment."""


class VectorArms(VectorEnv[Any, Any, Any]):
    """A batch of environments."""


def spec(name: str = "arms-v0", **changes: Any) -> EnvSpec:
    return EnvSpec(
        id=name,
        objectives=(Objective("speed"), Objective("thrift")),
        reference_point=(0.0, 0.0),
        **changes,
    )


class Sandbox:
    """A package to scan and distributions with entry points, in a temporary folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.points: list[metadata.EntryPoint] = []
        (folder / "sandbox").mkdir()
        self.module("sandbox.__init__", "")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(
            metadata,
            "entry_points",
            lambda *, group: [point for point in self.points if point.group == group],
        )

    def module(self, name: str, code: str) -> None:
        path = self.folder.joinpath(*name.split(".")).with_suffix(".py")
        path.write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    def plug_in(self, value: str, code: str | None, *, distribution: str = "plug-demo") -> None:
        """Offer a module under the group of the sandbox."""
        if code is not None:
            self.module(value, code)
        point = metadata.EntryPoint(name=value, value=value, group="sandbox")
        info = self.folder / f"{distribution}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        vars(point)["dist"] = metadata.PathDistribution(info)
        self.points.append(point)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    before = set(sys.modules)
    yield Sandbox(tmp_path, monkeypatch)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "sandbox" or name.startswith(("plug_", "morl_plugin_")):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh registries; what a test registers is forgotten, by Gymnasium too."""
    monkeypatch.setattr(registry_module, "ENVS", Registry("sandbox", noun="environment"))
    monkeypatch.setattr(registry_module, "AGENTS", Registry("sandbox", noun="agent"))
    known = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(known)


def envs() -> Registry[EnvEntry]:
    return registry_module.ENVS


def agents() -> Registry[AgentEntry]:
    return registry_module.AGENTS


ENV_MODULE = """
    import gymnasium
    from morl.registry import register_env
    from morl.types import EnvSpec, Objective

    SPEC = EnvSpec(id={name!r}, objectives=(Objective("a"),), reference_point=(0.0,))

    @register_env({name!r}, spec=SPEC)
    class Arms(gymnasium.Env):
        pass
"""


# Scanning ------------------------------------------------------------------------------------


def test_nothing_is_imported_before_the_first_question(sandbox: Sandbox) -> None:
    sandbox.module("sandbox.arms", ENV_MODULE.format(name="arms-v0"))
    register_env("other-v0", spec=spec("other-v0"), entry_point="nowhere:Env")
    assert repr(envs()) == "Registry('sandbox', 1 so far)"
    assert "sandbox.arms" not in sys.modules
    assert list(envs()) == ["arms-v0", "other-v0"]
    assert "sandbox.arms" in sys.modules


def test_every_module_is_scanned_but_those_with_an_underscore(sandbox: Sandbox) -> None:
    sandbox.module("sandbox.b", ENV_MODULE.format(name="b-v0"))
    sandbox.module("sandbox.a", ENV_MODULE.format(name="a-v0"))
    sandbox.module("sandbox._private", "raise RuntimeError")
    sandbox.module("sandbox.helper", "")
    assert list(envs()) == ["a-v0", "b-v0"]
    assert len(envs()) == 2
    assert "a-v0" in envs()
    assert "c-v0" not in envs()
    assert dict(envs().broken) == {}


def test_plug_ins_are_loaded_and_their_origin_is_told(sandbox: Sandbox) -> None:
    sandbox.plug_in("plug_arms", ENV_MODULE.format(name="arms-v0"))
    sandbox.module("sandbox.own", ENV_MODULE.format(name="own-v0"))
    assert envs()["arms-v0"].origin == "plug_arms:Arms (plug-demo)"
    assert envs()["own-v0"].origin == "sandbox.own:Arms"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_package_that_nobody_has", "ModuleNotFoundError: No module named 'a_package"),
        ("this is no python", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (None, "ModuleNotFoundError: No module named 'plug_broken'"),
        (ENV_MODULE.format(name="own-v0"), "RegistrationError: .*'own-v0' is registered by"),
        (ENV_MODULE.format(name="Own v0"), "RegistrationError: 'Own v0'"),
        (ENV_MODULE.replace("pass", "1 / 0").format(name="x-v0"), "ZeroDivisionError: "),
    ],
)
def test_a_broken_plug_in_is_named_once_and_the_others_work(
    sandbox: Sandbox, code: str | None, reason: str
) -> None:
    sandbox.module("sandbox.own", ENV_MODULE.format(name="own-v0"))
    sandbox.plug_in("plug_broken", code)
    sandbox.plug_in("plug_good", ENV_MODULE.format(name="good-v0"))
    with pytest.warns(UserWarning, match=f"plug_broken is skipped: {reason}") as caught:
        assert list(envs()) == ["good-v0", "own-v0"]
    assert len(caught) == 1
    assert list(envs().broken) == ["plug_broken"]
    assert envs().broken["plug_broken"].endswith("(from plug-demo)")
    with pytest.raises(UnknownNameError, match=r"Skipped as broken: plug_broken\."):
        envs()["broken-v0"]


def test_a_broken_module_of_our_own_is_named_and_the_others_work(sandbox: Sandbox) -> None:
    sandbox.module("sandbox.bad", "import a_package_that_nobody_has")
    sandbox.module("sandbox.good", ENV_MODULE.format(name="good-v0"))
    with pytest.warns(UserWarning, match=r"sandbox: sandbox\.bad is skipped: ModuleNotFound"):
        assert "good-v0" in envs()


def test_where_warnings_are_errors_the_registry_is_complete_all_the_same(sandbox: Sandbox) -> None:
    sandbox.plug_in("plug_broken", "1 / 0")
    sandbox.plug_in("plug_good", ENV_MODULE.format(name="good-v0"))
    with pytest.raises(UserWarning, match="plug_broken"):
        list(envs())
    assert list(envs()) == ["good-v0"]


def test_a_module_may_ask_the_registry_while_it_is_scanned(sandbox: Sandbox) -> None:
    sandbox.module("sandbox.asks", "from morl import registry\nassert 'x' not in registry.ENVS\n")
    assert list(envs()) == []
    assert dict(envs().broken) == {}


def test_threads_that_ask_at_once_all_see_everything(sandbox: Sandbox) -> None:
    sandbox.module("sandbox.slow", "import time; time.sleep(0.2)" + textwrap.dedent(
        ENV_MODULE.format(name="slow-v0")
    ))  # fmt: skip
    seen: list[list[str]] = []
    threads = [threading.Thread(target=lambda: seen.append(list(envs()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [["slow-v0"]] * 3


def test_the_example_plug_in_keeps_its_promise(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN / "src"))
    for value in ("morl_plugin_example", "morl_plugin_broken"):
        sandbox.plug_in(value, None, distribution="morl-plugin-example")
    with pytest.warns(UserWarning, match="morl_plugin_broken is skipped: ModuleNotFound"):
        assert list(envs()) == ["plugin-arms-v0"]
    entry = envs()["plugin-arms-v0"]
    assert entry.origin == "morl_plugin_example:Arms (morl-plugin-example)"
    assert entry.available() is None
    assert gymnasium.make("plugin-arms-v0").unwrapped.reset(seed=0)[0].shape == (1,)


def test_the_agent_of_the_example_plug_in_learns(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN / "src"))
    sandbox.plug_in("morl_plugin_agent", None, distribution="morl-plugin-example")
    assert list(agents()) == ["plugin_each"]
    entry = agents()["plugin_each"]
    assert entry.origin == "morl_plugin_agent:Each (morl-plugin-example)"
    agent = entry.make(levers.task(), entry.config(), total_steps=10, seed=0)
    assert agent.learn(100) == {"train/tried": 4.0}
    assert (agent.steps, agent.finished) == (10, True)
    [best] = agent.solutions(np.array([[0.0, 1.0]]))  # the second lever pays thrift alone
    assert best.policy.act(np.zeros((3, 2)), rng=np.random.default_rng(0)).tolist() == [1, 1, 1]


# Looking up ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
def test_an_unknown_name_is_answered_with_the_nearest_and_with_all() -> None:
    for name in ("handcart-v0", "apple-tree-v0"):
        register_env(name, spec=spec(name), entry_point="nowhere:Env")
    with pytest.raises(UnknownNameError) as caught:
        envs()["handcrat-v0"]
    assert str(caught.value) == (
        "unknown environment 'handcrat-v0', did you mean 'handcart-v0'? "
        "Available: apple-tree-v0, handcart-v0."
    )
    assert isinstance(caught.value, MorlError)
    assert isinstance(caught.value, KeyError)
    assert envs().get("handcrat-v0") is None
    with pytest.raises(UnknownNameError, match=r"^unknown agent 'zz'\. Available: none\.$"):
        agents()["zz"]


# Environments --------------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
def test_a_decorated_class_is_known_here_and_to_gymnasium() -> None:
    decorated = register_env("arms-v0", spec=spec(), max_episode_steps=5, kwargs={})(Arms)
    assert decorated is Arms
    entry = envs()["arms-v0"]
    assert entry.spec_for() == spec()
    assert entry.origin == f"{__name__}:Arms"
    known = gymnasium.registry["arms-v0"]
    assert (known.entry_point, known.vector_entry_point) == (Arms, None)
    assert (known.max_episode_steps, known.disable_env_checker) == (5, True)


@pytest.mark.usefixtures("sandbox")
def test_a_decorated_vector_environment_is_gymnasiums_vector_entry_point() -> None:
    register_env("arms-v0", spec=spec())(VectorArms)
    known = gymnasium.registry["arms-v0"]
    assert (known.entry_point, known.vector_entry_point) == (None, VectorArms)


@pytest.mark.usefixtures("sandbox")
def test_a_call_with_an_entry_point_imports_nothing() -> None:
    register_env(
        "arms-v0", spec=spec(), entry_point="nowhere:Arms", vector_entry_point="nowhere:Batch"
    )
    known = gymnasium.registry["arms-v0"]
    assert (known.entry_point, known.vector_entry_point) == ("nowhere:Arms", "nowhere:Batch")
    assert envs()["arms-v0"].origin == __name__


@pytest.mark.usefixtures("sandbox")
def test_an_id_that_gymnasium_has_gets_a_spec_and_a_batched_kernel() -> None:
    gymnasium.register("arms-v0", entry_point="theirs:Arms", max_episode_steps=7)
    register_env("arms-v0", spec=spec(), vector_entry_point="ours:Batch")
    known = gymnasium.registry["arms-v0"]
    assert (known.entry_point, known.vector_entry_point) == ("theirs:Arms", "ours:Batch")
    assert known.max_episode_steps == 7
    gymnasium.register("legs-v0", entry_point="theirs:Legs")
    register_env("legs-v0", spec=spec("legs-v0"))
    assert list(envs()) == ["arms-v0", "legs-v0"]


@pytest.mark.usefixtures("sandbox")
def test_an_environment_may_be_built_without_gymnasiums_registry() -> None:
    def make_vec(num_envs: int, **kwargs: Any) -> Any:
        return num_envs, kwargs

    register_env("arms-v0", spec=spec(), make_vec=make_vec)
    assert envs()["arms-v0"].make_vec is make_vec
    assert "arms-v0" not in gymnasium.registry


@pytest.mark.usefixtures("sandbox")
def test_a_spec_may_depend_on_the_arguments_of_the_environment() -> None:
    register_env(
        "arms-v0",
        spec=lambda depth=5, name="arms-v0": spec(name, horizon=depth),
        entry_point="nowhere:Arms",
    )
    entry = envs()["arms-v0"]
    assert (entry.spec_for().horizon, entry.spec_for(depth=7).horizon) == (5, 7)
    with pytest.raises(RegistrationError, match=r"arms-v0: its spec is that of 'legs-v0'"):
        entry.spec_for(name="legs-v0")


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("nowhere:A", "nowhere:B", "test_registry and again by .*test_registry; rename one"),
        ("nowhere:A", "nowhere:A", "is registered by"),
        (Arms, "nowhere:B", "test_registry:Arms and again by"),
        ("nowhere:A", VectorArms, "test_registry and again by .*test_registry; rename one"),
    ],
)
def test_an_id_that_is_taken_is_refused_naming_both_origins(
    first: Any, second: Any, message: str
) -> None:
    def register(what: Any) -> None:
        if isinstance(what, str):
            register_env("arms-v0", spec=spec(), entry_point=what)
        else:
            register_env("arms-v0", spec=spec())(what)

    register(first)
    with pytest.raises(RegistrationError, match=message):
        register(second)
    known = gymnasium.registry["arms-v0"]
    assert (known.entry_point, known.vector_entry_point) == (first, None)


@pytest.mark.usefixtures("sandbox")
def test_an_id_that_somebody_gave_gymnasium_for_something_else_is_refused() -> None:
    gymnasium.register("arms-v0", entry_point="theirs:Arms")
    with pytest.raises(RegistrationError, match="registered with Gymnasium by theirs:Arms and ag"):
        register_env("arms-v0", spec=spec(), entry_point="ours:Arms")
    assert list(envs()) == []


@pytest.mark.usefixtures("sandbox")
def test_a_class_that_is_defined_again_replaces_itself() -> None:
    def cell(reward: float) -> type:
        class Arms(gymnasium.Env[Any, Any]):
            worth = reward

        Arms.__module__, Arms.__qualname__ = __name__, "NotebookArms"
        return register_env("arms-v0", spec=spec())(Arms)

    cell(1.0)
    second = cell(2.0)
    assert gymnasium.registry["arms-v0"].entry_point is second
    assert len(envs()) == 1


@pytest.mark.usefixtures("sandbox")
def test_the_spec_of_another_id_is_refused() -> None:
    with pytest.raises(RegistrationError, match="'arms-v0' is registered with the spec of 'x-v0'"):
        register_env("arms-v0", spec=spec("x-v0"), entry_point="nowhere:Arms")


def test_a_call_that_decorates_nothing_is_reported(sandbox: Sandbox) -> None:
    sandbox.module(
        "sandbox.forgot",
        """
        from morl.registry import register_env
        from morl.types import EnvSpec, Objective
        register_env("arms-v0", spec=EnvSpec(
            id="arms-v0", objectives=(Objective("a"),), reference_point=(0.0,)))
        """,
    )
    message = r"arms-v0 is skipped: sandbox\.forgot registers it without an entry point or a class"
    with pytest.warns(UserWarning, match=message):
        assert list(envs()) == []
    with pytest.raises(UnknownNameError, match=r"sandbox\.forgot registers it without an entry po"):
        envs()["arms-v0"]


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("changes", "requires", "expected"),
    [
        ({}, (), None),
        ({}, ("json",), None),
        ({}, ("json", "nobody_has.this"), "arms-v0 needs nobody_has.this: pip install 'nobody"),
        (
            {"extra": "box2d"},
            ("nobody_has_this",),
            "arms-v0 needs nobody_has_this: pip install 'morl-suite[box2d]'",
        ),
        ({"extra": "box2d"}, ("json",), None),
        (
            {"extra": "mujoco"},
            (),
            "arms-v0 needs mujoco, imageio: pip install 'morl-suite[mujoco]'",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    requires: tuple[str, ...],
    expected: str | None,
) -> None:
    lines = ["numpy>=1", 'mujoco==3.14.0; extra == "mujoco"', "imageio>=2 ; extra == 'mujoco'"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    monkeypatch.setattr(registry_module, "_installed", lambda name: name == "numpy")
    register_env("arms-v0", spec=spec(**changes), entry_point="n:A", requires=requires)
    found = envs()["arms-v0"].available()
    assert found == expected or (expected and found and found.startswith(expected))


def test_the_suites_own_extras_are_known() -> None:
    entry = EnvEntry(id="a-v0", spec=spec("a-v0", extra="no-such-extra"), origin="here")
    assert entry.available() is None
    extras = metadata.metadata("morl-suite").get_all("Provides-Extra") or []
    assert {"mujoco", "box2d"} <= set(extras)


# Agents --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sandbox")
def test_a_class_and_a_function_register_as_agents() -> None:
    @register_agent("sampler", config=Config)
    class Sampler:
        pass

    @register_agent("made-by.function_2", config=Config)
    def make(task: Any, config: Config, *, total_steps: int, seed: int) -> Any:
        return task, config, total_steps, seed

    assert list(agents()) == ["made-by.function_2", "sampler"]
    assert agents()["sampler"].make is Sampler
    assert agents()["sampler"].config is Config
    assert agents()["sampler"].origin.startswith(f"{__name__}:test_a_class_and")
    entry = agents()["made-by.function_2"]
    made: Any = entry.make("task", Config(), total_steps=3, seed=1)
    assert made == ("task", Config(), 3, 1)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "-a", ".a", "ä"])
def test_an_agent_name_that_could_not_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="only letters, digits"):
        register_agent(name, config=Config)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("config", [dict, Config(), None])
def test_settings_that_are_no_dataclass_are_refused(config: Any) -> None:
    with pytest.raises(RegistrationError, match="agent 'a': config must be a dataclass"):
        register_agent("a", config=config)


@pytest.mark.usefixtures("sandbox")
def test_an_agent_name_that_is_taken_is_refused_naming_both_origins() -> None:
    def register(factory: Callable[..., Any]) -> None:
        register_agent("sampler", config=Config)(factory)

    register(Arms)
    with pytest.raises(RegistrationError, match=r"test_registry:Arms and again by .*:VectorArms"):
        register(VectorArms)


# The suite itself ----------------------------------------------------------------------------


def test_errors_survive_the_way_between_processes() -> None:
    error = UnknownNameError("unknown agent 'a'")
    assert str(pickle.loads(pickle.dumps(error))) == "unknown agent 'a'"


@pytest.mark.parametrize("name", ["envs", "agents", "experiments"])
def test_a_second_name_of_a_module_does_not_register_twice(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert importlib.import_module(f"morl.{name}").__name__ == f"morl.{name}"
    assert name not in sys.modules
