from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import levers
import numpy as np
import pytest
import suite_workers

from morl.experiments import cli, suite_runner, suites
from morl.experiments.config import ConfigError
from morl.experiments.run import record_failure, run
from morl.experiments.suites import frozen_tasks, load_suite, parse_suite, suite_cells
from morl.registry import AGENTS, ENVS
from morl.result import RunResult

NAMES = suites.suite_names()


def cells(out: Path, text: str = suite_workers.SUITE) -> list[suites.Cell]:
    return suite_cells(parse_suite("levers", text), out=str(out))


def possible(name: str) -> suites.SuiteConfig:
    """A suite, where the packages of its environments are here."""
    suite = load_suite(name)
    for task in suite.tasks:
        missing = ENVS[task.id].available()
        if missing is not None:
            pytest.skip(missing)
    return suite


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_of_the_package_fixes_every_task(name: str) -> None:
    suite = possible(name)
    tasks = frozen_tasks(suite)
    assert suite.title
    assert suite.description
    for task in tasks.values():
        count = len(task["objectives"])
        assert len(task["reference_point"]) == count
        assert task["discount"] <= 1.0
        assert task["steps"] >= 100_000
        assert task["selection_episodes"] >= 1
        if task["box_low"] is not None:
            assert np.all(np.less(task["box_low"], task["box_high"]))
            assert task["box_source"]
    assert suites.tasks_digest(tasks) == suites.tasks_digest(frozen_tasks(load_suite(name)))


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_a_suite_is_an_ordinary_run(name: str) -> None:
    suite = possible(name)
    made = suite_cells(suite, seeds=[0])
    assert {cell.entry for cell in made} == set(suite.agents)
    for cell in made:
        assert cell.config.agent in AGENTS
        assert type(cell.config).from_record(cell.config.record()) == cell.config


def test_the_page_names_every_suite_and_its_example_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "leaderboard.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in text] == []
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    suite = parse_suite("mine", example)
    assert [cell.entry for cell in suite_cells(suite, seeds=[0])] == [
        "random_search", "few_at_a_time",
    ]  # fmt: skip
    assert frozen_tasks(suite)["fruit-tree-v0"]["known_front"]["certificate"] == "exact"


def test_boxes_of_discrete_tasks_span_their_exact_fronts() -> None:
    for name, task in frozen_tasks(load_suite("discrete")).items():
        known = task["known_front"]
        points = np.asarray(known["points"])
        assert np.all(points >= np.asarray(task["box_low"]) - 1e-6), name
        assert np.all(points <= np.asarray(task["box_high"]) + 1e-6), name
        if known["certificate"] == "exact" and "exact" in task["box_source"]:
            np.testing.assert_allclose(points.max(axis=0), task["box_high"], atol=1e-6)


def test_settings_of_a_task_win_over_those_of_the_agent_and_these_over_a_preset() -> None:
    text = suite_workers.SUITE.replace(
        "settings: {policies: 8, episodes: 1}",
        "settings: {policies: 8, episodes: 1}\n    task_settings: {levers-v0: {episodes: 3}}",
    )
    assert suites.preset_settings("minecart-c_morl")["selection_episodes"] == 10
    assert suites.preset_settings("tuned/c_morl/minecart-v0")["initial_fraction"] == 0.8
    (config,) = {cell.config.agent_config.episodes for cell in cells(Path(), text)[1:2]}
    assert config == 3


@pytest.mark.parametrize("name", ["nothing", "tuned/c_morl/nothing", "tuned"])
def test_a_preset_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*morl list"):
        suites.preset_settings(name)


def test_seeds_are_outermost_so_that_an_interruption_leaves_rows_equally_long() -> None:
    order = [(cell.config.seed, cell.entry) for cell in cells(Path("runs"))]
    assert order == [(0, "random_search"), (0, "broken"), (1, "random_search"), (1, "broken")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 1200", "stepz: 1200", "stepz"),
        ("steps: 1200", "steps: many", "suite levers: steps: .*many"),
        ("seeds: 2", "seeds: 0", "seeds and version must be at least 1"),
        ("episodes: 1}", "episode: 1}", r"broken on levers-v0: .*did you mean 'agent\.episodes'"),
        ("agent: random_search", "agent: random_serch", "did you mean 'random_search'"),
        ("  broken:", "  'a b':", "row name 'a b' may hold"),
        ("    settings: {policies: 8, episodes: 2}", "    tasks: [lever-v0]", "mean 'levers-v0'"),
        ("reference_point: [-0.5, -0.5]", "reference_point: [0]", r"2 objectives .* 1 coord"),
        ("box_high: [8, 8]", "# none", "a box needs both corners"),
        ("title: Levers", "title: [", "not readable as YAML"),
        ("id: levers-v0", "name: levers-v0", "needs an id"),
    ],
)
def test_a_suite_that_makes_no_sense_names_the_key(old: str, new: str, message: str) -> None:
    assert old in suite_workers.SUITE
    with pytest.raises(ConfigError, match=message):
        cells(Path(), suite_workers.SUITE.replace(old, new))


def test_a_name_that_no_suite_has_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown suite 'smok', did you mean 'smoke'\?.*YAML"):
        load_suite("smok")
    with pytest.raises(ConfigError, match=r"no suite file nowhere\.yaml"):
        load_suite("nowhere.yaml")


def test_a_suite_about_another_version_of_a_package_says_what_to_install() -> None:
    suite = load_suite("smoke")
    suites.check_packages(suite)
    suite.tasks[0].package_version = "0.9"
    with pytest.raises(ConfigError, match=r"installed is .*pip install mo-gymnasium==0\.9"):
        suites.check_packages(suite)


def test_a_frozen_task_holds_front_anchors_and_box() -> None:
    task = frozen_tasks(parse_suite("levers", suite_workers.SUITE))["levers-v0"]
    assert task["known_front"]["points"] == levers.known_points(0.9).tolist()
    assert task["known_front"]["hypervolume"] > 0
    assert task["box_high"] == [8.0, 8.0]
    assert task["anchors"] == {"do-nothing": 0.25}
    assert task["objectives"] == [["speed", "m"], ["thrift", "J"]]
    assert "curve_episodes" not in task


def test_states_of_cells_follow_their_folders(tmp_path: Path) -> None:
    first, second, third, fourth = cells(tmp_path)
    run(first.config)
    record_failure(second.config, "its process died (SIGKILL)")
    third.folder.mkdir()
    assert [cell.state() for cell in (first, second, third, fourth)] == [
        "done", "failed", "unfinished", "missing",
    ]  # fmt: skip
    left = suite_runner.missing([first, second, third, fourth])
    assert left == [third, fourth]
    assert suite_runner.missing([first, second], retry_failed=True) == [second]


def test_a_recorded_failure_keeps_the_curve_up_to_the_last_checkpoint(tmp_path: Path) -> None:
    (cell, *_) = cells(tmp_path)
    done = run(cell.config)
    error = record_failure(cell.config, "its process died (SIGKILL)")
    result = RunResult.load(cell.folder)
    assert "its process died (SIGKILL)" in result.status
    assert "seed 0" in str(error)
    assert result.curve == done.curve
    assert result.budget.env_steps == done.budget.env_steps
    assert len(result.arrays.returns) == 0


@pytest.mark.slow
def test_workers_make_what_is_missing_and_the_same_bits_as_one_run(tmp_path: Path) -> None:
    wanted = cells(tmp_path / "suite")[:3]
    said: list[str] = []
    outcomes = suite_runner.run_cells(wanted, workers=2, say=said.append, worker=suite_workers.well)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert {outcome.cell.folder for outcome in outcomes} == {cell.folder for cell in wanted}
    assert [line[:5] for line in said] == ["[1/3]", "[2/3]", "[3/3]"]
    alone = run(dataclasses.replace(wanted[0].config, out=str(tmp_path / "alone")))
    assert RunResult.load(wanted[0].folder).arrays == alone.arrays
    logs = list((tmp_path / "suite" / suite_runner.LOGS).iterdir())
    assert len(logs) == 2
    assert "levers-v0 random_search" in "".join(log.read_text() for log in logs)


def test_a_run_that_kills_its_worker_twice_is_a_failure_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    wanted = cells(tmp_path)[::2]  # seeds 0 and 1 of the first row
    outcomes = suite_runner.run_cells(
        wanted, workers=1, say=lambda _: None, worker=suite_workers.mortal
    )
    states = {outcome.cell.config.seed: outcome for outcome in outcomes}
    assert states[0].state == "done"
    assert states[1].state == "failed"
    assert "its process died (SIGKILL)" in RunResult.load(wanted[1].folder).status
    assert (tmp_path / "deaths").read_text() == "x" * suite_runner.ATTEMPTS


def test_the_command_line_lists_and_shows_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "levers.yaml"
    file.write_text(suite_workers.SUITE)
    assert cli.main(["suite", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name}/" in listed for name in NAMES)
    words = ["suite", "run", "--dry-run", str(file), "only=broken", f"out={tmp_path}", "seeds=4,7"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert shown[0].startswith("missing     morl run env=levers-v0 agent=random_search seed=4")
    assert shown[-1] == "2 missing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smoke", "only=c_morll"], "no task or row 'c_morll', did you mean 'c_morl'?"),
        (["smoke", "worker=2"], "unknown key 'worker', did you mean 'workers'?"),
        (["smoke", "fast"], "cannot read 'fast': settings are written key=value"),
        (["smoke", "seeds=none"], "seeds: must be a whole number of at least 1, got 'none'"),
    ],
)
def test_words_that_make_no_sense_are_explained(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["suite", "run", *words]) == 1
    assert message in capsys.readouterr().err
