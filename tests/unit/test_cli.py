from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import levers
import pytest
from omegaconf import OmegaConf

from morl.agents.random_search import RandomSearch
from morl.experiments import cli, compose
from morl.experiments.config import ConfigError, RunConfig, make_settings
from morl.registry import AGENTS, ENVS
from morl.result import RunResult

Morl = Callable[..., tuple[int, str, str]]

SHORT = (
    "env=levers-v0", "agent=random_search", "steps=600", "agent.policies=4", "agent.episodes=2",
    "selection_episodes=2", "report_episodes=2", "sync_every=300",
)  # fmt: skip


@pytest.fixture
def morl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Morl:
    """The command line in an empty folder: words -> exit code, output, messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(words)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


def results(folder: Path) -> list[RunResult]:
    return [RunResult.load(path) for path in sorted(folder.rglob("result.json"))]


def test_a_run_prints_its_result_and_where_it_lies(morl: Morl, tmp_path: Path) -> None:
    code, out, err = morl("run", *SHORT)
    assert code == 0
    assert "levers-v0, random_search, seed 0" in out
    assert "hypervolume" in out
    (path,) = tmp_path.rglob("result.json")
    assert out.splitlines()[-1].strip() == str(path.relative_to(tmp_path))
    assert "600/600 steps" in err


def test_hydra_leaves_nothing_beside_the_runs(morl: Morl, tmp_path: Path) -> None:
    morl("run", *SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["levers-v0"]


def test_the_same_command_again_is_done_already(morl: Morl) -> None:
    _, first, _ = morl("run", *SHORT)
    code, second, err = morl("run", *SHORT)
    assert code == 0
    assert second == first
    assert "this run is done already" in err
    assert "steps/s" not in err


def test_a_multirun_makes_every_run_and_skips_those_that_are_done(
    morl: Morl, tmp_path: Path
) -> None:
    morl("run", *SHORT, "seed=1")
    code, out, err = morl("run", "-m", *SHORT, "seed=0,1,2")
    assert code == 0
    assert err.count("this run is done already") == 1
    assert {result.seed for result in results(tmp_path)} == {0, 1, 2}
    assert out.count("random_search, seed") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["levers-v0"]


def test_a_multirun_goes_on_after_a_failure_and_reports_it(morl: Morl, tmp_path: Path) -> None:
    code, _, err = morl("run", "-m", *SHORT, "env.kwargs.nan_step=2,null", "env.kwargs.stop=0.0")
    assert code == 1
    assert "NonFiniteError" in err
    assert sorted(result.status[:6] for result in results(tmp_path)) == ["comple", "failed"]


def test_an_interrupted_multirun_stops_and_says_how_to_go_on(
    morl: Morl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RandomSearch, "learn", learn)
    code, _, err = morl("run", "-m", *SHORT, "seed=0,1")
    assert code == 143
    assert "nothing was to be saved yet" in err
    assert "seed=0" in err.splitlines()[-1]
    assert results(tmp_path) == []


def test_numbers_of_steps_may_be_written_as_powers_of_ten() -> None:
    assert compose.prepare(["steps=1e5,2.5e6,300", "seed=3"]) == [
        "steps=100000,2500000,300",
        "seed=3",
    ]
    assert compose.prepare(["agent.learning_rate=1e5"]) == ["agent.learning_rate=1e5"]


def test_an_environment_that_cannot_be_made_is_named(
    morl: Morl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(levers.Levers, "__init__", fail)
    code, _, err = morl("run", *SHORT)
    assert code == 1
    assert "levers-v0, agent random_search: cannot be made: RuntimeError: no display" in err


def test_overrides_reach_the_run(morl: Morl, tmp_path: Path) -> None:
    code, *_ = morl(
        "run", *SHORT, "env.horizon=7", "env.discount=0.5", "env.reference_point=[-1,-2.5]",
        "env.kwargs.stop=0.0", "agent.capacity=3", "steps=5e2",
    )  # fmt: skip
    assert code == 0
    (result,) = results(tmp_path)
    assert result.protocol.discount == 0.5
    assert result.protocol.reference_point == (-1.0, -2.5)
    assert result.env.max_steps == 7
    assert (result.arrays.report_lengths == 7).all()
    assert result.config["agent"]["capacity"] == 3
    assert result.config["steps"] == 500


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["env=leverz-v0"], ["unknown environment 'leverz-v0', did you mean 'levers-v0'"]),
        (["env=zzz"], ["unknown environment 'zzz'. Available: ", "levers-v0"]),
        (["agent=random_serch"], ["unknown agent 'random_serch', did you mean 'random_search'?"]),
        (["experiment=dmo"], ["unknown experiment 'dmo', did you mean 'demo'?", "minecart-c_morl"]),
        (["agent.polices=3"], ["unknown key 'agent.polices', did you mean 'agent.policies'?"]),
        (["polcies=3"], ["unknown key 'polcies', did you mean 'agent.policies'?"]),
        (["agent.xyz=3"], ["unknown key 'agent.xyz'; there are: agent.capacity"]),
        (["stepz=3"], ["unknown key 'stepz', did you mean 'steps'?"]),
        (["env.discont=0.5"], ["unknown key 'env.discont', did you mean 'env.discount'?"]),
        (["agent.policies=abc"], ["agent.policies: 'abc' is not a whole number"]),
        (["steps=1.5"], ["steps: '1.5' is not a whole number"]),
        (["env.discount=big"], ["env.discount: 'big' is not a number"]),
        (["tensorboard=maybe"], ["tensorboard: 'maybe' is not true or false"]),
        (["env.reference_point=[a,b]"], ["env.reference_point", "'a' is not a number"]),
        (["agent.policies=0"], ["agent.policies must be at least 1, got 0"]),
        (["env.discount=0"], ["env.discount must be in (0, 1], got 0.0"]),
        (["steps=-5"], ["steps must be at least 1, got -5"]),
        (["resume=nver"], ["resume must be one of auto, any, never", "did you mean 'never'?"]),
        (["env.reference_point=[1,2,3]"], ["levers-v0: 2 objectives (speed, thrift)", "3 coord"]),
        (["env.kwargs.nois=1"], ["levers-v0: cannot be made of {'nois': 1}"]),
        (["levers-v0"], ["cannot read 'levers-v0': settings are written key=value"]),
        (["out=[a"], ["cannot read 'out=[a'"]),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_says_what_would_be_right(
    words: list[str], fragments: list[str], morl: Morl, tmp_path: Path
) -> None:
    code, out, err = morl("run", *SHORT[:3], *words)
    assert code == 1
    assert out == ""
    assert err.startswith("morl: ")
    for fragment in fragments:
        assert fragment in err
    assert list(tmp_path.rglob("*.json")) == []


def test_a_run_that_beats_nothing_is_done_and_says_so(morl: Morl) -> None:
    code, out, err = morl("run", *SHORT, "env.reference_point=[99,99]")
    assert code == 0
    assert "hypervolume            0 ± 0" in out
    assert "morl: levers-v0: the reference point (99, 99) is better" in err


def test_a_traceback_can_be_asked_for(
    morl: Morl, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert cli.main(["run", *SHORT, "agent.policies=0"]) == 1
    assert "Traceback" in capfd.readouterr().err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_composed_settings_can_be_shown_without_running(morl: Morl, tmp_path: Path) -> None:
    code, out, _ = morl("run", *SHORT, "--cfg", "job")
    assert code == 0
    assert "policies: 4" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", compose.experiments())
def test_every_experiment_composes(name: str, morl: Morl, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunConfig] = []
    monkeypatch.setattr(cli, "_job", lambda record: seen.append(RunConfig.from_record(record)) or 0)
    assert morl("run", f"experiment={name}")[0] == 0
    assert seen[0].env.id in ENVS
    assert seen[0].agent in AGENTS
    assert seen[0].command() != RunConfig(agent=seen[0].agent).command()


def test_the_command_of_a_record_makes_the_same_run(
    morl: Morl, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    seen: list[RunConfig] = []
    monkeypatch.setattr(cli, "_job", lambda record: seen.append(RunConfig.from_record(record)) or 0)
    words = [
        "env.kwargs.name='a, b'",
        "env.reference_point=[-1,0.5]",
        "out='x y/z'",
        "wandb=offline",
    ]
    morl("run", *SHORT, *words)
    morl(*shlex.split(seen[0].command())[1:])
    assert seen[1] == seen[0]
    assert seen[0].env.kwargs == {"name": "a, b"}


@dataclass
class Inner:
    """Nested settings.

    Attributes:
        rate: how fast.
    """

    rate: float = 0.5


@dataclass
class Rich:
    """Settings of every kind that an agent may have.

    Attributes:
        variant: one of two.
        hidden: a tuple.
        limit: optional,
            over two lines.
    """

    variant: Literal["ipo", "cpo"] = "ipo"
    mode: Literal["a", "b"] | None = None
    hidden: tuple[int, ...] = (64, 64)
    limit: float | None = None
    either: int | str = 3
    inner: Inner = field(default_factory=lambda: Inner(rate=0.25))


def test_hydra_sees_types_that_it_knows() -> None:
    node = OmegaConf.structured(compose.typed_node(Rich))
    node.hidden = [32]
    node.inner.rate = 1
    node.variant = "cpo"
    plain = OmegaConf.to_container(node)
    assert isinstance(plain, dict)
    made = make_settings(Rich, {str(key): value for key, value in plain.items()}, where="agent")
    assert made == Rich(variant="cpo", hidden=(32,), inner=Inner(rate=1.0))
    assert OmegaConf.structured(compose.typed_node(Rich)).inner.rate == 0.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "ipoo"}, r"agent\.variant must be one of ipo, cpo; .*did you mean 'ipo'"),
        ({"mode": "c"}, r"agent\.mode must be one of a, b, None"),
        ({"inner": {"rat": 1}}, r"unknown key 'agent\.inner\.rat', did you mean"),
        ({"hiden": 1}, r"unknown key 'agent\.hiden', did you mean 'agent\.hidden'"),
    ],
)
def test_settings_that_do_not_fit_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_settings(Rich, values, where="agent")


def test_help_explains_every_setting(morl: Morl) -> None:
    code, out, _ = morl("run", "agent=random_search", "--help")
    assert code == 0
    assert "agent.policies=32" in out
    assert "drawn in each round" in out
    for setting in ("seed=0", "steps=100000", "sync_every=null", "wandb=off"):
        assert setting in out
    lines = "\n".join(cli._settings(Rich(), prefix="agent."))
    assert "optional, over two lines." in lines
    assert "agent.inner.rate=0.25" in lines
    assert "how fast." in lines


def test_environments_and_agents_are_listed_with_their_origin(morl: Morl) -> None:
    code, out, _ = morl("list", "envs")
    assert code == 0
    assert out.split()[:6] == ["id", "objectives", "horizon", "discount", "from", "available"]
    (line,) = [line for line in out.splitlines() if line.startswith("levers-v0")]
    assert cli._maker("their.module:Env (their-envs)", "morl-suite") == "their-envs"
    assert cli._maker("morl.envs.minecart (morl-suite)", "mo-gymnasium") == "mo-gymnasium"
    assert line.split() == ["levers-v0", "2:", "speed,", "thrift", "20", "0.9", "morl-suite", "yes"]
    code, out, _ = morl("list", "agents")
    assert code == 0
    assert "morl.agents.random_search:RandomSearch (morl-suite)" in out
    assert "demo" in morl("list", "experiments")[1].split()


def test_a_broken_plug_in_is_named_and_stops_nothing(
    morl: Morl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVS._broken, "bad_plugin", "ImportError: no")
    code, out, err = morl("list", "envs")
    assert code == 0
    assert "levers-v0" in out
    assert "morl: skipped as broken: bad_plugin: ImportError: no" in err
    code, out, _ = morl("doctor")
    assert code == 1
    assert "broken: bad_plugin: ImportError: no" in out


def test_a_healthy_installation_has_nothing_broken(morl: Morl) -> None:
    code, out, _ = morl("doctor")
    assert code == 0
    assert "all plug-ins load" in out


def test_listing_environments_loads_no_torch() -> None:
    script = (
        "import sys; from morl.experiments.cli import main; main(['list', 'envs']);"
        "loaded = {'torch', 'hydra', 'wandb', 'plotly'} & set(sys.modules);"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["rum"], "did you mean 'run'?"),
        (["list", "env"], "did you mean 'envs'?"),
        ([], "COMMAND"),
        (["report"], "runs"),
    ],
)
def test_a_misspelt_command_ends_with_usage(words: list[str], fragment: str, morl: Morl) -> None:
    code, _, err = morl(*words)
    assert code == 2
    assert "usage: morl" in err
    assert fragment in err


def test_version_and_help(morl: Morl) -> None:
    assert morl("--version")[1].startswith("morl-suite ")
    code, out, _ = morl("--help")
    assert code == 0
    for command in ("run", "list", "report", "evaluate", "check-env", "doctor", "examples:"):
        assert command in out


def test_an_environment_is_checked(morl: Morl, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = morl("check-env", "leverz-v0")
    assert code == 1
    assert "did you mean 'levers-v0'" in err
    _, out, _ = morl("check-env", "levers-v0", "--steps", "30")
    assert out.splitlines()[-1].startswith("levers-v0: ")


def test_a_result_is_verified_from_its_episodes(morl: Morl, tmp_path: Path) -> None:
    morl("run", *SHORT)
    (path,) = tmp_path.rglob("result.json")
    code, out, _ = morl("evaluate", str(path.parent), "--rerun")
    assert code == 0
    assert out.splitlines()[-1] == f"{path.parent}: as stored"
    assert "returns, bit for bit" in out


def test_an_altered_indicator_is_found(morl: Morl, tmp_path: Path) -> None:
    morl("run", *SHORT)
    (path,) = tmp_path.rglob("result.json")
    record = json.loads(path.read_text())
    record["metrics"]["hypervolume"]["value"] *= 1.0 + 1e-7
    path.write_text(json.dumps(record))
    code, out, _ = morl("evaluate", str(path.parent))
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("DIFF")]
    assert "hypervolume" in line
    assert "stored" in line
    assert "recomputed" in line


def test_all_results_of_a_folder_are_verified_whatever_the_first_says(
    morl: Morl, tmp_path: Path
) -> None:
    morl("run", "-m", *SHORT, "seed=0,1")
    first, second = sorted(tmp_path.rglob("result.json"))
    (first.parent / "front.npz").write_bytes(b"junk")
    code, out, err = morl("evaluate", "runs")
    assert code == 1
    assert "front.npz" in err
    assert out.splitlines()[-1] == f"{second.parent.relative_to(tmp_path)}: as stored"


def test_altered_episodes_are_found(morl: Morl, tmp_path: Path) -> None:
    morl("run", *SHORT)
    (path,) = tmp_path.rglob("episodes.npz")
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    code, _, err = morl("evaluate", str(path.parent))
    assert code == 1
    assert "episodes.npz" in err


def test_a_folder_without_a_result_is_named(morl: Morl, tmp_path: Path) -> None:
    code, _, err = morl("evaluate", str(tmp_path / "nothing"))
    assert code == 1
    assert "nothing" in err


def test_the_script_of_the_tests_is_the_command_line() -> None:
    assert levers.SPEC.id in ENVS


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("agent.lr=0.1", "agent.learning_rate"),
        ("agent.n_envs=3", "agent.num_envs"),
        ("total_timesteps=5", "steps"),
        ("env.gamma=0.9", "env.discount"),
        ("environment=x", "env"),
    ],
)
def test_names_from_elsewhere_are_understood(word: str, meant: str, morl: Morl) -> None:
    code, _, err = morl("run", "agent=c_morl", word)
    assert code == 1
    assert f"did you mean '{meant}'?" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"env": ("minecart-v0",), "agent": ("c_morl",)}),
        (["agent=pql", "seed=1"], {"env": ("minecart-v0",), "agent": ("c_morl", "pql")}),
        (["env=a-v0,b-v0"], {"env": ("minecart-v0", "a-v0", "b-v0"), "agent": ("c_morl",)}),
        (["+tuned=c_morl/minecart-v0"], None),
        (["experiment=demo"], None),
        (["--config-dir=x"], None),
        (["agent=glob(*)"], None),
    ],
)
def test_only_what_is_named_is_offered_unless_a_file_may_name_more(words, expected) -> None:
    from morl.experiments.compose import _named_choices

    assert _named_choices(words) == expected
