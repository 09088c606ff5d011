from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import levers  # noqa: F401 - registers levers-v0
import pytest
from omegaconf import OmegaConf

from morl.agents.random_search import RandomSearch
from morl.experiments import cli, compose, study_report, tune
from morl.experiments.bench import tuned
from morl.experiments.config import ConfigError, RunConfig
from morl.experiments.interrupts import Interrupts, RunInterrupted
from morl.experiments.progress import StudyProgress
from morl.experiments.run import CodeChangedError, RunBusyError
from morl.experiments.tune_config import (
    SearchSettings,
    TuneConfig,
    curve_of,
    objectives_of,
    read_objective,
)
from morl.hpo import supervisor
from morl.hpo.space import SearchSpace
from morl.hpo.study import open_study
from morl.hpo.summary import summarise
from morl.hpo.types import (
    Progress,
    StopRequested,
    StudyError,
    StudySummary,
    TrialPruned,
    TrialRequest,
)
from morl.hpo.worker import work
from morl.registry import AGENTS, ENVS
from morl.result import RunResult
from morl.types import NonFiniteError

Morl = Callable[..., tuple[int, str, str]]

STUDY = (
    "env=levers-v0", "agent=random_search", "steps=600", "agent.episodes=2",
    "selection_episodes=2", "report_episodes=2", "sync_every=300", "agent.policies=4",
    "hpo=smoke", "hpo.space={policies:{low:2,high:8},episodes:{low:1,high:4}}",
)  # fmt: skip
NOTHING_TO_TUNE = {"building_controller", "do_nothing", "offloading_heuristic", "uniform_sampling"}
"""Built-in agents whose settings say what they do, not how well."""

RUNS = 6 + 2 + 4  # trials, race and test of hpo=smoke


def in_this_process(
    config: Any, space: Any, run_trial: Any, *, folder: Path, on_progress: Any
) -> bool:
    """`supervise`, without processes."""
    study = open_study(config, space, folder=folder)
    finished = work(study, run_trial)
    on_progress(study.progress())
    return finished


@pytest.fixture
def morl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Morl:
    """The command line in an empty folder, its workers in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(supervisor, "supervise", in_this_process)

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(words)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneConfig, StudySummary, Path]:
    """A study that is done, with enough trials for importances."""
    out = tmp_path_factory.mktemp("studies")
    config = TuneConfig.from_record(
        compose.compose_only([*STUDY, f"out={out}", "hpo.n_trials=12"], primary=compose.TUNE)
    )
    plan = tune.plan_of(config)
    study = tune.begin(config, plan)
    work(study, plan.trial)
    return config, tune.finish(config, study), plan.folder


def request_in(folder: Path, **changes: Any) -> TrialRequest:
    wanted = {"params": {"policies": 3}, "seed": 100, "budget": 600, "evaluations": 4,
              "stage": "search", "trial": 1, "folder": folder}  # fmt: skip
    return TrialRequest(**(wanted | changes))


def runner(*words: str) -> tune.TrialRunner:
    return tune.TrialRunner(compose.compose_only([*STUDY, *words], primary=compose.TUNE))


def go_on(step: int, value: float) -> bool:
    return False


# The command


def test_a_study_leaves_all_that_belongs_to_it_and_is_done_when_it_is_asked_for_again(
    morl: Morl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = morl("tune", *STUDY)
    folder = tmp_path / "studies" / "levers-v0-random_search"
    assert code == 0
    assert "6 trials: 6 complete" in out
    assert "On 2 test seeds hypervolume_jackknife" in out or "The defaults won" in out
    assert f"morl run +tuned={folder.relative_to(tmp_path)}/best.yaml" in out
    assert "levers-v0 random_search: done, 12 runs" in err
    files = {path.name for path in folder.iterdir()}
    assert files >= {"study.yaml", "study.json", "study.journal", "trials", "race", "test"}
    assert files >= {"trials.csv", "runs.csv", "study.html", "checklist.md", "best.yaml"}
    results = [RunResult.load(path) for path in folder.rglob("run/result.json")]
    assert len(results) == RUNS
    assert {result.seed for result in results} == {100, 200, 1000, 1001}
    assert [path.name for path in tmp_path.iterdir()] == ["studies"]

    monkeypatch.setattr(RandomSearch, "learn", lambda *_: pytest.fail("trained again"))
    code, again, err = morl("tune", *STUDY)
    assert (code, again) == (0, out)
    assert "done, 12 runs" in err


@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_interrupted_study_says_how_to_go_on_and_ends_with_the_exact_total(
    signum: signal.Signals, morl: Morl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []
    learn = RandomSearch.learn

    def stop_in_the_third_run(agent: RandomSearch, steps: int) -> Any:
        calls.append(agent)
        if len(calls) == 6:
            os.kill(os.getpid(), signum)
        return learn(agent, steps)

    monkeypatch.setattr(RandomSearch, "learn", stop_in_the_third_run)
    code, _, err = morl("tune", *STUDY)
    assert code == 128 + signum
    assert "interrupted; the same command goes on with the study:" in err
    assert err.splitlines()[-1].strip().startswith("morl tune env=levers-v0 agent=random_search")
    code, out, _ = morl("tune", *STUDY)
    assert code == 0
    assert "6 trials: 6 complete" in out
    assert len(list(tmp_path.rglob("run/result.json"))) == RUNS
    (table,) = tmp_path.rglob("trials.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["trial"] for row in rows] == list("012345")


def test_real_worker_processes_do_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "env=fruit-tree-v0", "agent=random_search", "steps=600", "selection_episodes=2",
        "report_episodes=2", "hpo=smoke", "hpo.n_trials=3", "hpo.race.top_k=0",
        "hpo.test_seeds=[]", "curve_episodes=1",
    ]  # fmt: skip
    assert cli.main(["tune", *words]) == 0
    out, err = capfd.readouterr()
    assert "3 trials: 3 complete" in out
    assert "No test seeds: the best score is what tuning says of itself" in out
    assert "done, 3 runs" in err
    assert len(list(tmp_path.rglob("run/result.json"))) == 3


@pytest.mark.slow
def test_several_studies_are_made_one_after_the_other(morl: Morl, tmp_path: Path) -> None:
    code, out, _ = morl(
        "tune", "-m", *STUDY, "hpo.n_trials=2", "hpo.race.top_k=0", "hpo.test_seeds=[]",
        "steps=300,400", "study='s${steps}'",
    )  # fmt: skip
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "studies").iterdir()) == ["s300", "s400"]
    assert out.count("2 trials: 2 complete") == 2


def test_several_objectives_make_a_front(morl: Morl, tmp_path: Path) -> None:
    code, out, _ = morl("tune", *STUDY, "hpo.objectives=[hypervolume,wall_s:min]", "hpo.n_trials=3")
    assert code == 0
    assert "front: trials" in out
    (page,) = tmp_path.rglob("study.html")
    assert "Trade-offs" in page.read_text()
    assert list(tmp_path.rglob("best.yaml")) == []


def test_the_best_settings_can_be_used_by_folder_by_file_and_changed(
    morl: Morl, tmp_path: Path
) -> None:
    morl("tune", *STUDY, "env.discount=0.9")
    (best,) = tmp_path.rglob("best.yaml")
    found = OmegaConf.load(best)
    protocol = ["selection_episodes=2", "report_episodes=2"]
    for name in (best.parent, best):
        assert morl("run", f"+tuned={name}", *protocol, "seed=7")[0] == 0
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = RunResult.load(path)
    assert (result.env.id, result.algo.name, result.seed) == ("levers-v0", "random_search", 7)
    assert result.protocol.discount == 0.9
    assert result.config["steps"] == 600
    for name, value in found.agent.items():
        assert result.config["agent"][name] == value
    assert morl("run", f"tuned={best}", *protocol, "agent.policies=7", "steps=400")[0] == 0
    changed = [RunResult.load(path).config for path in (tmp_path / "runs").rglob("result.json")]
    assert sorted(one["agent"]["policies"] for one in changed if one["steps"] == 400) == [7]


def test_a_report_is_written_anew_also_where_the_folder_was_moved(
    morl: Morl, tmp_path: Path
) -> None:
    _, first, _ = morl("tune", *STUDY)
    folder = (tmp_path / "studies" / "levers-v0-random_search").rename(tmp_path / "moved")
    (folder / "study.html").unlink()
    code, out, _ = morl("study", "moved")
    assert code == 0
    assert out.splitlines()[:3] == first.splitlines()[:3]
    assert (folder / "study.html").exists()


# What cannot be


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["hpo.only=[polcies]"], ["'polcies'", "policies"]),
        (["hpo.space.polcies.low=1"], ["polcies", "policies"]),
        (["hpo.space.policies.hi=9"], ["policies", "'hi'"]),
        (["hpo.space.policies.low=20"], ["policies"]),
        (["hpo.space.policies.low=a"], ["policies"]),
        (["hpo.tuning_seeds=[100,1001]"], ["1001"]),
        (["hpo.race.seeds=[100]"], ["100"]),
        (["hpo.n_trials=0"], ["n_trials"]),
        (["hpo.objectives=[hypervolum]"], ["unknown metric 'hypervolum'", "'hypervolume'?"]),
        (["hpo.objectives=[]"], ["hpo.objectives must name at least one metric"]),
        (["hpo.objectives=[hypervolume.max]"], ["aggregate must be one of mean, iqm, std"]),
        (["hpo.objectives=['hypervolume:up']"], ["direction must be min or max"]),
        (["hpo.objectives=['a b']"], ["cannot read 'a b'"]),
        (["hpo.objectives=[igd_plus]"], ["igd_plus has no worst value", "hpo.diverged.igd_plus"]),
        (["hpo.diverged={hypervolme:1}"], ["unknown metric 'hypervolme', did you mean"]),
        (["hpo.objectives=[wall_s]", "hpo.pruner=median"], ["learning curves", "pruner=none"]),
        (["hpo.sampler=tpee"], ["hpo.sampler must be one of", "did you mean 'tpe'?"]),
        (["hpo.n_trial=3"], ["unknown key 'hpo.n_trial', did you mean 'hpo.n_trials'?"]),
        (["hpo=smok"], ["unknown hpo 'smok', did you mean 'smoke'?"]),
        (["hpo.n_trials=many"], ["hpo.n_trials: 'many' is not a whole number"]),
        (["seed=3"], ["unknown key 'seed'", "hpo.seed"]),
        (["study=a/b"], ["study: 'a/b' is to be a name"]),
        (["workers=0"], ["workers must be at least 1, got 0"]),
        (["agent.polices=3"], ["unknown key 'agent.polices', did you mean 'agent.policies'?"]),
        (["hpo.storage=mysql://x"], ["storage 'mysql://x'", "postgresql://"]),
        (["hpo.storage=postgresql://nobody@127.0.0.1:1/none"], ["storage postgresql://nobody"]),
        (["hpo.storage=journal:///proc/none/x"], ["/proc/none"]),
        (["env=leverz-v0"], ["did you mean 'levers-v0'"]),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_refused_before_any_trial(
    words: list[str], fragments: list[str], morl: Morl, tmp_path: Path
) -> None:
    code, out, err = morl("tune", *STUDY, *words)
    assert code == 1
    assert out == ""
    assert err.startswith("morl: ")
    assert "unexpected" not in err
    for fragment in fragments:
        assert fragment in err
    assert list(tmp_path.rglob("log.txt")) == []


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["hpo.space.policies.high=9"], ["policies", "8", "9"]),
        (["steps=900"], ["budget", "600", "900"]),
        (["hpo.objectives=[hypervolume]"], ["objectives"]),
        (["hpo.tuning_seeds=[101]"], ["tuning_seeds", "100", "101"]),
        (["env.discount=0.5"], ["discount", "0.5"]),
        (["agent.capacity=7"], ["capacity", "7"]),
        (["hpo.n_trials=3"], ["n_trials", "6", "3"]),
    ],
)
def test_a_study_does_not_go_on_with_other_settings(
    words: list[str], fragments: list[str], morl: Morl, tmp_path: Path
) -> None:
    config = TuneConfig.from_record(compose.compose_only(STUDY, primary=compose.TUNE))
    study = tune.begin(config, tune.plan_of(config))
    if words == ["hpo.n_trials=3"]:
        assert work(study, tune.plan_of(config).trial, stages=["search"])
    before = (tmp_path / "studies" / "levers-v0-random_search" / "study.yaml").read_bytes()
    code, out, err = morl("tune", *STUDY, *words)
    assert code == 1
    assert out == ""
    assert "was begun with other settings" in err
    for fragment in fragments:
        assert fragment in err
    after = (tmp_path / "studies" / "levers-v0-random_search" / "study.yaml").read_bytes()
    assert after == before


def test_a_tuned_configuration_that_is_not_there_is_named(morl: Morl, tmp_path: Path) -> None:
    code, _, err = morl("run", "+tuned=nothing/here")
    assert code == 1
    assert "tuned: 'nothing/here' is neither a file" in err
    (tmp_path / "best.yaml").write_text("agent: [")
    assert "best.yaml cannot be read" in morl("run", "+tuned=.")[2]
    (tmp_path / "best.yaml").write_text("steps: 3")
    assert "has no settings of an agent" in morl("run", "+tuned=.")[2]


def test_a_folder_without_a_study_is_named(morl: Morl, tmp_path: Path) -> None:
    code, _, err = morl("study", ".")
    assert code == 1
    assert "there is no study in this folder" in err
    (tmp_path / "study.yaml").write_text("a: [")
    assert "cannot be read" in morl("study", ".")[2]


def test_a_launcher_that_is_not_installed_says_what_to_install(
    morl: Morl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose.importlib.util, "find_spec", lambda _: None)
    for launcher, extra in (("slurm", "slurm"), ("ray_cluster", "ray")):
        for command in ("tune", "run"):
            code, _, err = morl(command, "-m", *STUDY[:3], f"hydra/launcher={launcher}")
            assert code == 1
            assert f"pip install 'morl-suite[{extra}]'" in err


def test_with_a_launcher_a_command_is_one_study() -> None:
    with pytest.raises(ConfigError, match="steps=1,2: with a launcher a command is one study"):
        tune.launch([*STUDY, "steps=1,2", "hydra/launcher=slurm"], lambda _: 0)


def test_help_lists_the_settings_of_the_search(morl: Morl) -> None:
    code, out, _ = morl("tune", "agent=random_search", "--help")
    assert code == 0
    for part in ("hpo.n_trials=40", "hpo.race.top_k=6", "workers=1", "agent.policies="):
        assert part in out
    assert "morl tune" in morl("--help")[1]


# A run of a trial


def test_a_trial_reports_its_curve_and_returns_indicators_and_costs(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    outcome = runner()(request_in(tmp_path), lambda *point: bool(seen.append(point)))
    assert seen == list(outcome.curve)
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)
    assert {"hypervolume_jackknife", "expected_utility", "wall_s", "cpu_s"} <= set(outcome.values)
    result = RunResult.load(tmp_path / "run")
    assert result.config["agent"]["policies"] == 3
    assert outcome.cost["env_steps"] == result.budget.env_steps
    assert outcome.details["run_id"] == result.run_id
    assert "600/600 steps" in (tmp_path / "log.txt").read_text()


def test_a_pruned_trial_leaves_a_run_that_did_not_fail(tmp_path: Path) -> None:
    with pytest.raises(TrialPruned):
        runner()(request_in(tmp_path), lambda *_: True)
    assert not (tmp_path / "run" / "failure.txt").exists()
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_trial_that_is_begun_again_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def interrupt(step: int, value: float) -> bool:
        raise StopRequested

    with pytest.raises(StopRequested):
        runner()(request_in(tmp_path), interrupt)
    outcome = runner()(request_in(tmp_path), go_on)
    assert "goes on from step" in (tmp_path / "log.txt").read_text()
    undisturbed = runner()(request_in(tmp_path / "other"), go_on)
    assert outcome.values["hypervolume"] == undisturbed.values["hypervolume"]
    assert outcome.curve == undisturbed.curve


def test_a_trial_whose_beginning_is_by_other_code_begins_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def run(config: RunConfig, **_: Any) -> Any:
        seen.append(config.resume)
        if len(seen) == 1:
            raise CodeChangedError("begun by other code")
        raise StopRequested

    monkeypatch.setattr(tune, "run", run)
    with pytest.raises(StopRequested):
        runner()(request_in(tmp_path), go_on)
    assert seen == ["auto", "never"]
    assert "begun afresh" in (tmp_path / "log.txt").read_text()


def test_a_trial_waits_for_the_last_threads_of_a_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def run(*_: Any, **__: Any) -> Any:
        attempts.append(1)
        raise StopRequested if len(attempts) == 3 else RunBusyError("busy")

    monkeypatch.setattr(tune, "run", run)
    monkeypatch.setattr(tune, "POLL_S", 0.0)
    with pytest.raises(StopRequested):
        runner()(request_in(tmp_path), go_on)
    monkeypatch.setattr(tune, "DYING_S", -1.0)
    attempts.clear()
    with pytest.raises(RunBusyError):
        runner()(request_in(tmp_path), go_on)


def test_a_run_that_diverges_is_told_from_one_that_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any) -> None:
        raise NonFiniteError("the loss is not a number")

    monkeypatch.setattr(RandomSearch, "learn", diverge)
    with pytest.raises(NonFiniteError, match="the loss is not a number"):
        runner()(request_in(tmp_path / "diverged"), go_on)
    monkeypatch.setattr(RandomSearch, "learn", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        runner()(request_in(tmp_path / "crashed"), go_on)


def test_a_signal_during_a_run_is_left_to_the_worker_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: heard.append(signum))
    monkeypatch.setattr(
        RandomSearch, "learn", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)
    )
    try:
        with pytest.raises(StopRequested):
            runner()(request_in(tmp_path), go_on)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_signal_that_the_process_ignores_is_ignored_during_a_run() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# Settings


@pytest.mark.parametrize(
    ("text", "metric", "aggregate", "direction"),
    [
        ("hypervolume", "hypervolume", "mean", "maximize"),
        ("hypervolume_jackknife.iqm", "hypervolume_jackknife", "iqm", "maximize"),
        ("expected_utility:max", "expected_utility", "mean", "maximize"),
        ("wall_s", "wall_s", "mean", "minimize"),
        ("hypervolume.std", "hypervolume", "std", "minimize"),
        ("epsilon_additive.iqm:max", "epsilon_additive", "iqm", "maximize"),
    ],
)
def test_objectives_are_read(text: str, metric: str, aggregate: str, direction: str) -> None:
    found = read_objective(text)
    assert (found.metric, found.aggregate, found.direction) == (metric, aggregate, direction)


def test_a_run_that_diverges_has_the_worst_sensible_value() -> None:
    spec = ENVS["levers-v0"].spec_for()
    settings = SearchSettings(
        objectives=("expected_utility", "hypervolume", "wall_s"), variance_penalty=0.5
    )
    utility, volume, seconds = objectives_of(settings, spec)
    assert utility.diverged == pytest.approx(sum(spec.reference_point) / 2)
    assert (volume.diverged, seconds.diverged) == (0.0, 86_400.0)
    assert (utility.variance_penalty, volume.variance_penalty) == (0.5, 0.0)
    (chosen,) = objectives_of(
        SearchSettings(objectives=("hypervolume",), diverged={"hypervolume": -1.0}), spec
    )
    assert chosen.diverged == -1.0


def test_a_learning_curve_foretells_what_it_shows() -> None:
    assert curve_of(read_objective("hypervolume_jackknife")) == "hypervolume"
    assert curve_of(read_objective("expected_utility.iqm")) == "expected_utility"
    assert curve_of(read_objective("wall_s")) is None
    assert curve_of(read_objective("hypervolume.std")) is None


def test_the_command_of_a_study_makes_the_same_study(morl: Morl) -> None:
    import shlex

    words = [*STUDY, "hpo.only=[policies]", "hpo.objectives=[hypervolume.iqm]", "workers=3",
             "hpo.diverged.hypervolume=-1", "study=x", "env.reference_point=[-2,-1]"]  # fmt: skip
    config = TuneConfig.from_record(compose.compose_only(words, primary=compose.TUNE))
    again = shlex.split(config.command())
    assert again[:2] == ["morl", "tune"]
    record = compose.compose_only(again[2:], primary=compose.TUNE)
    assert TuneConfig.from_record(record) == config


def test_settings_survive_the_folder(finished: tuple[TuneConfig, StudySummary, Path]) -> None:
    config, _, folder = finished
    assert tune.read_settings(folder) == config


@pytest.mark.parametrize("name", compose.choices_of("hpo"))
def test_every_named_search_composes(name: str) -> None:
    if "/" in name:
        agent = name.removeprefix("space/")
        found = compose.compose_only([f"agent={agent}"], primary=compose.TUNE)
        assert found["hpo"]["space"]
    else:
        found = compose.compose_only([f"hpo={name}"], primary=compose.TUNE)
    tune.plan_of(TuneConfig.from_record(found))


@pytest.mark.parametrize("name", compose.choices_of("tuned"))
def test_every_tuned_configuration_composes(name: str) -> None:
    config = RunConfig.from_record(compose.compose_only([f"+tuned={name}"]))
    assert f"{config.agent}/{config.env.id}" == name
    assert config.command() != RunConfig(agent=config.agent, env=config.env).command()


# Files


def test_the_tables_have_a_row_for_every_trial_and_every_run(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    _, summary, folder = finished
    trials = list(csv.DictReader(io.StringIO((folder / "trials.csv").read_text())))
    assert [int(row["trial"]) for row in trials] == list(range(12))
    assert [float(row["hypervolume_jackknife"]) for row in trials] == [
        trial.values[0] for trial in summary.trials
    ]
    assert trials[0]["agent.policies"] == "4"
    assert trials[5]["agent.policies"] == str(summary.trials[5].settings["policies"])
    runs = list(csv.DictReader(io.StringIO((folder / "runs.csv").read_text())))
    assert len(runs) == 12 + 2 + 2 * len(summary.config.test_seeds)
    assert {row["stage"] for row in runs} == {"search", "race", "test"}
    assert all(float(row["cpu_s"]) > 0 for row in runs)


def test_parquet_holds_the_same_as_csv(finished: tuple[TuneConfig, StudySummary, Path]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    _, summary, _ = finished
    rows = study_report.trial_rows(summary)
    mixed = [{**row, "mixed": "a" if row["trial"] else 1} for row in rows]
    table = parquet.read_table(io.BytesIO(study_report.parquet_bytes(mixed)))
    assert table.column("trial").to_pylist() == list(range(12))
    assert table.column("hypervolume_jackknife").to_pylist() == [
        row["hypervolume_jackknife"] for row in rows
    ]
    assert table.column("mixed").to_pylist()[:2] == ["1", "a"]


def test_the_page_draws_everything_and_asks_nobody(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    _, summary, folder = finished
    page = (folder / "study.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert set(data["figures"]) == {
        "test", "history", "cost", "importances", "slices", "parallel"
    }  # fmt: skip
    for name in data["figures"]:
        assert f'<div id="{name}" role="img"' in page
    assert "default-src 'none'" in page
    (points,) = [one for one in data["figures"]["history"]["data"] if one["name"] == "complete"]
    assert points["y"] == [trial.values[0] for trial in summary.trials]
    (best,) = [one for one in data["figures"]["history"]["data"] if one["name"] == "best so far"]
    assert best["y"][-1] == max(points["y"])
    spent = data["figures"]["cost"]["data"][0]["x"]
    assert spent[-1] == sum(run.cost["env_steps"] for t in summary.trials for run in t.runs)


def test_the_checklist_answers_the_questions(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    config, summary, folder = finished
    text = (folder / "checklist.md").read_text()
    assert "- `policies`: log([2, 8]), default 4" in text
    assert "- 1 tuning seeds: 100" in text
    assert "- 2 test seeds: 1000, 1001" in text
    assert config.command() in text
    assert "- [x] final results are reported on the test seeds" in text
    assert "- [ ] all methods that are compared got this budget" in text
    unfinished = study_report.checklist(replace(summary, validation=None, finished=False), config)
    assert "- [ ] final results are reported on the test seeds" in unfinished
    assert "- [ ] the study is finished" in unfinished


def test_an_unfinished_study_has_a_page_and_no_best_settings(tmp_path: Path) -> None:
    config = TuneConfig.from_record(
        compose.compose_only([*STUDY, f"out={tmp_path}"], primary=compose.TUNE)
    )
    plan = tune.plan_of(config)
    summary = tune.finish(config, tune.begin(config, plan))
    assert "The study is not finished" in (plan.folder / "study.html").read_text()
    assert not (plan.folder / "best.yaml").exists()
    assert {trial.state for trial in summary.trials} == {"waiting"}
    drawn = [row["agent.policies"] for row in study_report.trial_rows(summary)]
    assert drawn == [4, None, None, None, None, None]


def test_the_record_of_a_study_holds_the_test_and_the_optimism(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    config, summary, _ = finished
    record = study_report.result_record(summary, config)
    assert record["trials"] == {"complete": 12}
    assert len(record["test"]["tuned"]) == len(record["test"]["seeds"]) == 2
    assert record["test"]["optimism"] == summary.validation.optimism  # type: ignore[union-attr]
    low, high = record["test"]["difference"]["interval_95"]
    assert low <= record["test"]["difference"]["mean"] <= high


def test_a_gain_is_only_called_one_if_the_interval_excludes_zero(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    found = finished[1].validation
    assert found is not None
    won = replace(found, number=3, difference=replace(found.difference, low=0.1, high=2.0))
    assert ": gain, difference" in study_report.verdict(won)
    open_ = replace(won, difference=replace(found.difference, low=-0.1, high=2.0))
    assert "no gain that the test could tell from chance" in study_report.verdict(open_)
    assert "The defaults won" in study_report.verdict(replace(found, number=0))


# What is committed


def test_a_study_with_a_gain_is_published_with_its_figures_and_its_settings(
    finished: tuple[TuneConfig, StudySummary, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, summary, folder = finished
    found = summary.validation
    assert found is not None

    def with_gain(low: float) -> StudySummary:
        gain = replace(found.difference, low=low)
        return replace(summary, validation=replace(found, difference=gain))

    monkeypatch.setattr(tuned, "report", lambda _: with_gain(0.5))
    wanted = RunConfig.from_record(compose.compose_only(STUDY[:3]))
    monkeypatch.setattr(tuned, "composed", lambda *_, **__: wanted)
    words = [str(folder), "--preset", "x", "--results", str(tmp_path), "--tuned",
             str(tmp_path / "conf")]  # fmt: skip
    assert tuned.main(words) == 0
    record = json.loads((tmp_path / "random_search-levers-v0.json").read_text())
    assert record["command"] == config.command()
    assert len(record["preset"]["values"]) == len(record["test"]["seeds"])
    assert record["machine"]["python"]
    best = tmp_path / "conf" / "random_search" / "levers-v0.yaml"
    assert OmegaConf.load(best) == OmegaConf.load(folder / "best.yaml")
    assert ": gain, difference" in best.read_text() or "The defaults won" in best.read_text()
    best.unlink()
    monkeypatch.setattr(tuned, "report", lambda _: with_gain(-0.5))
    assert tuned.main([*words[:1], *words[3:]]) == 0
    assert not best.exists()
    monkeypatch.setattr(tuned, "report", lambda _: replace(summary, validation=None))
    with pytest.raises(StudyError, match="finished and tested"):
        tuned.main(words)


def test_a_preset_is_compared_by_means_over_the_same_seeds(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    found = finished[1].validation
    assert found is not None
    test = replace(found, tuned=(4.0, 6.0, 5.0))
    record = tuned.against_preset(test, "by-hand", [1.0, 2.0, 3.0])
    assert record["mean"]["mean"] == 2.0
    assert record["tuned_minus_preset"]["mean"] == 3.0
    low, high = record["tuned_minus_preset"]["interval_95"]
    assert 0 < low < 3 < high


# Launchers


def test_a_job_elsewhere_fails_by_an_exception_that_travels(tmp_path: Path) -> None:
    def interrupted(_: dict[str, Any]) -> int:
        raise RunInterrupted(signal.SIGTERM)

    with pytest.raises(compose.JobFailedError, match="exit code 3"):
        compose.run_elsewhere(lambda _: 3, {}, folder=Path.cwd())
    with pytest.raises(compose.JobFailedError, match="interrupted by SIGTERM"):
        compose.run_elsewhere(interrupted, {}, folder=Path.cwd())
    with pytest.raises(compose.JobFailedError, match="a folder that all machines share"):
        compose.run_elsewhere(lambda _: 0, {}, folder=tmp_path / "absent")


def test_a_worker_of_a_launcher_pulls_trials_until_none_are_left(
    finished: tuple[TuneConfig, StudySummary, Path],
) -> None:
    config, _, _ = finished
    assert cli._worker_job({**config.record(), "worker": 3}) == 0


def test_a_worker_that_is_asked_to_stop_fails_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = compose.compose_only([*STUDY, f"out={tmp_path}"], primary=compose.TUNE)
    monkeypatch.setattr(
        RandomSearch, "learn", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)
    )
    with pytest.raises(StudyError, match="asked to stop; the study goes on"):
        tune.work_on(record)


def standing(stage: Any, **changes: Any) -> Progress:
    facts = {"done": 3, "total": 6, "running": 1, "pruned": 1, "failed": 0, "best": 12.3456789,
             "best_number": 2, "runs_done": 3, "runs_total": 12, "seconds_a_run": 10.0}  # fmt: skip
    return Progress(stage=stage, **(facts | changes))


class _Study:
    def __init__(self) -> None:
        self.looks = 0

    def progress(self) -> Progress:
        self.looks += 1
        return standing("done")


def test_waiting_for_a_launcher_ends_when_the_study_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tune, "POLL_S", 0.01)
    monkeypatch.setattr(tune, "GRACE_S", 0.05)
    study: Any = _Study()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as with nohup
    with (
        StudyProgress(label="x", workers=1, stream=io.StringIO()) as progress,
        tune._Watching(study, progress) as watching,
    ):
        try:
            time.sleep(10.0)
            pytest.fail("not interrupted")
        except KeyboardInterrupt:
            assert watching.done
    signal.signal(signal.SIGINT, before)
    assert study.looks >= 2


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_for_every_change() -> None:
    stream = io.StringIO()
    with StudyProgress(label="levers-v0 x", workers=2, stream=stream) as progress:
        progress.show(standing("search"))
        progress.show(standing("search"))
        progress.show(standing("race", done=1, failed=2, best=None))
        progress.show(standing("done", runs_done=12))
    assert stream.getvalue().splitlines() == [
        "levers-v0 x: search 3/6 trials, 1 pruned, best 12.3457 in trial 2, 0:50 left",
        "levers-v0 x: race 1/6 runs, 1 pruned, 2 failed, 0:50 left",
        "levers-v0 x: done, 12 runs, 1 pruned, best 12.3457 in trial 2",
    ]


def test_on_a_terminal_there_is_a_bar_of_runs() -> None:
    stream = Terminal()
    with StudyProgress(label="levers-v0 x", workers=2, stream=stream) as progress:
        progress.show(standing("search"))
        progress.show(standing("race", runs_done=6))
        progress.say("a line beside it")
    shown = stream.getvalue()
    assert "6/12" in shown
    assert "race 3/6 runs, 1 pruned, best 12.3457 in trial 2" in shown


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """No test leaves a handler of a signal behind."""
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_importing_the_command_line_does_not_load_optuna() -> None:
    import subprocess
    import sys

    code = "import sys, morl.experiments.cli; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_summary_can_be_read_again(finished: tuple[TuneConfig, StudySummary, Path]) -> None:
    config, summary, folder = finished
    plan = tune.plan_of(config)
    again = summarise(open_study(plan.config, plan.space, folder=folder), write=False)
    assert again.trials == summary.trials
    assert again.winner == summary.winner


@pytest.mark.parametrize(
    "name",
    [
        name for name, entry in AGENTS.items()
        if entry.origin.startswith("morl.") and name not in NOTHING_TO_TUNE
    ],
)  # fmt: skip
def test_agents_that_learn_have_a_search_space_that_fits_them(name: str) -> None:
    words = ["env=deep-sea-treasure-v0", f"agent={name}", "steps=1000"]
    config = TuneConfig.from_record(compose.compose_only(words, primary=compose.TUNE))
    space = SearchSpace.of(config.agent_config, config.hpo.space)
    assert len(space.names) >= 2
    assert space.build(space.settings(space.defaults)) == config.agent_config


def test_what_has_nothing_to_tune_says_so(morl: Morl) -> None:
    code, _, said = morl("tune", "env=levers-v0", "agent=uniform_sampling", "steps=100")
    assert code == 1
    assert "nothing to search" in said
