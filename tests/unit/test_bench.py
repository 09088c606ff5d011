"""The benchmarks compute what they say; how fast anything is, is not tested here."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import short_runs

from morl import storage
from morl.agents.learners.ppo.networks import initial_rows
from morl.envs import make_task
from morl.experiments.bench import __main__ as command
from morl.experiments.bench import end_to_end, learning, measurement, population, resume
from morl.experiments.run import run, run_folder
from morl.preferences import paper_lattice
from morl.result import RunResult
from morl.seeding import generator

# Measuring


def test_pairs_alternate_and_the_first_of_each_does_not_count() -> None:
    order = []

    def side(name: str) -> Any:
        def work() -> float:
            order.append(name)
            return float(len(order))

        return work

    pairs = measurement.interleave(side("a"), side("b"), pairs=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert pairs.ours == (3.0, 6.0, 7.0)
    assert pairs.theirs == (4.0, 5.0, 8.0)


def test_the_ratio_is_the_median_of_the_pairs_own_ratios() -> None:
    # Medians of the sides would give 3 / 2.
    pairs = measurement.Pairs(ours=(1.0, 2.0, 10.0), theirs=(3.0, 2.0, 40.0))
    assert pairs.ratios == (3.0, 1.0, 4.0)
    assert pairs.ratio == 3.0
    record = pairs.record()
    assert (record["ratio_lowest"], record["ratio_highest"], record["pairs"]) == (1.0, 4.0, 3)
    assert record["ours_cpu_us"] == 2e6
    assert pairs.record(per_second=True)["theirs_per_cpu_second"] == pytest.approx(1 / 3, rel=1e-3)


def test_a_report_names_its_command_and_where_it_was_made(tmp_path: Path) -> None:
    report = measurement.write_report("x", {"y": 1.5}, command="make x", output=tmp_path)
    assert storage.read_json(tmp_path / "x.json") == report
    assert report["y"] == 1.5
    assert report["command"] == "make x"
    assert {"cpu", "cores", "python", "packages", "git_sha"} <= report["machine"].keys()


def test_a_table_has_columns_of_one_width() -> None:
    lines = measurement.table([{"a": "xyz", "b": 12345.6}, {"a": "x", "b": None}]).splitlines()
    assert lines == ["a         b", "xyz  12,346", "x         -"]


# One tensor against a loop over modules


@pytest.mark.parametrize(("policies", "minibatch"), [(1, 16), (3, 32)])
def test_stacked_gradients_are_those_of_separate_modules(policies: int, minibatch: int) -> None:
    contest = population.Contest.make(policies=policies, minibatch=minibatch)
    assert contest.gradient_difference() < 1e-6


def test_a_module_with_another_parameter_has_another_gradient() -> None:
    contest = population.Contest.make(policies=2, minibatch=16)
    row = initial_rows(population._spec(), [generator(9, "other")])[0]
    contest.loop.modules[1].assign(row, population._spec())
    assert contest.gradient_difference() > 1e-3


def test_both_sides_of_an_update_learn_from_clipped_samples() -> None:
    contest = population.Contest.make(policies=2, minibatch=32)
    readings = contest.population.improve(
        contest.experience, contest.advantages, learning_rate=3e-4, rng=generator(0, "a")
    )
    clipped = contest.loop.improve(contest.samples, rng=generator(0, "b"))
    assert len(clipped) == 2 * contest.gradient_steps
    # Ours counts only those whose gradient is cut off, about half of those out of range.
    assert 0.0 < readings["clip_fraction"] < np.mean(clipped)


def test_the_population_report_has_a_row_for_every_shape() -> None:
    record = population.measure(pairs=1, shapes=((2, 8), (6, 256)))
    assert [row["shape"] for row in record["update"]] == ["P=2, B=8", "P=6, B=256"]
    assert [row["target"] for row in record["update"]] == [None, 4.0]
    assert [row["shape"] for row in record["acting"]] == [
        "1 x 4 environments",
        "6 x 4 environments",
    ]
    assert all(row["ratio"] > 0 for row in (*record["update"], *record["acting"]))
    storage.json_bytes(record)


# End to end

TINY = end_to_end.Settings(
    "minecart-v0", objectives=3, num_envs=1, rollout_steps=8, minibatch=8, epochs=1, rounds=2
)


def test_our_worker_counts_the_steps_of_its_updates_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\ngo\n"))
    end_to_end.train_on_request(TINY)
    ready, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"ready": "minecart-v0"}
    assert [answer["steps"] for answer in answers] == [2 * 6 * 8] * 2
    assert all(answer["cpu_s"] > 0 for answer in answers)


def worker(tmp_path: Path, name: str, *, cost: float) -> Path:
    """A script that answers like a worker whose steps cost the same always."""
    script = tmp_path / f"{name}.py"
    script.write_text(
        "import json, sys\n"
        "print(json.dumps({'packages': {'incumbent': '1'}}), flush=True)\n"
        "for _ in sys.stdin:\n"
        f"    print(json.dumps({{'steps': 10, 'cpu_s': {10 * cost}}}), flush=True)\n"
    )
    return script


@pytest.fixture
def fake_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = worker(tmp_path, "ours", cost=0.001)
    monkeypatch.setattr(
        end_to_end,
        "our_worker",
        lambda _: end_to_end.Worker([sys.executable, str(ours)]),
    )
    monkeypatch.setattr(end_to_end, "INCUMBENT_SCRIPT", worker(tmp_path, "theirs", cost=0.005))


@pytest.mark.usefixtures("fake_workers")
def test_steps_a_second_are_compared_in_pairs() -> None:
    row = end_to_end.measure(TINY, incumbent=Path(sys.executable), pairs=2, target=4.0)
    assert row["ratio"] == pytest.approx(5.0)
    assert row["ours_per_cpu_second"] == pytest.approx(1000.0)
    assert row["met"] is True
    assert row["incumbent_packages"] == {"incumbent": "1"}


@pytest.mark.usefixtures("fake_workers")
def test_without_an_incumbent_the_report_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "end_to_end", "--pairs", "1", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "make bench-incumbent" in said
    assert "continuous actions only" in said
    rows = storage.read_json(tmp_path / "end_to_end.json")["environments"]
    assert rows["mo-hopper-2obj-v5"]["ratio"] is None
    assert rows["mo-hopper-2obj-v5"]["ours_per_cpu_second"] == pytest.approx(1000.0)


def test_a_worker_that_dies_is_reported_with_what_it_said(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such module')")
    with pytest.raises(end_to_end.WorkerError, match=r"exit code 1:\nno such module"):
        end_to_end.Worker([sys.executable, str(script)])


def test_the_incumbents_script_imports_nothing_of_the_suite() -> None:
    tree = ast.parse(end_to_end.INCUMBENT_SCRIPT.read_text())
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for name in node.names}  # fmt: skip
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in found if name.split(".")[0] in ("morl", "experiments")}
    assert "torch" in found


# Published runs


@pytest.mark.parametrize("name", learning.EXPERIMENTS)
def test_every_published_experiment_composes_within_its_budget(name: str, tmp_path: Path) -> None:
    experiment = learning.EXPERIMENTS[name]
    config = learning.composed(experiment.preset, seed=3, runs=tmp_path)
    agent = experiment.preset.rpartition("-")[2]
    assert (config.seed, config.out, config.agent) == (3, str(tmp_path), agent)
    assert config.steps <= experiment.max_steps
    task = make_task(config.env.id, horizon=config.env.horizon)
    assert paper_lattice(experiment.lattice).shape[1] == task.spec.num_objectives


def test_overrides_reach_the_composition(tmp_path: Path) -> None:
    config = learning.composed(
        "minecart-c_morl", seed=0, runs=tmp_path, overrides=["sync_every=500"]
    )
    assert config.sync_every == 500


LEVERS = learning.Experiment(
    preset="levers",
    num_seeds=2,
    max_steps=2000,
    lattice="c-morl/mujoco-2",
    targets=(learning.Target("hypervolume", 1.0), learning.Target("expected_utility", 1e6)),
    references=(learning.Reference("nobody", "nowhere", (1.0,)),),
)


@pytest.fixture(scope="module")
def lever_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunResult]]:
    out = tmp_path_factory.mktemp("levers")
    configs = [short_runs.config(out, steps=1000, seed=seed) for seed in (0, 1)]
    return out, [run(config, say=lambda _: None) for config in configs]


def finished(lever_runs: tuple[Path, list[RunResult]]) -> list[learning.Finished]:
    out, _ = lever_runs
    configs = [short_runs.config(out, steps=1000, seed=seed) for seed in (0, 1)]
    return [learning.Finished.load(run_folder(config)) for config in configs]


def test_finished_runs_are_found_and_others_named(
    lever_runs: tuple[Path, list[RunResult]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = lever_runs
    wanted = [short_runs.config(Path("elsewhere"), steps=1000, seed=seed) for seed in (0, 1, 2)]
    found = learning.find(out, wanted)
    assert sorted(done.result.run_id for done in found) == sorted(one.run_id for one in results)
    assert capsys.readouterr().out == ""
    other = [dataclasses.replace(config, curve_episodes=3) for config in wanted]
    assert learning.find(out, other) == []
    assert "curve_episodes is 2, not 3" in capsys.readouterr().out


def test_a_summary_holds_every_seed_and_judges_the_mean(
    lever_runs: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    _, results = lever_runs
    learning.write_summary(LEVERS, finished(lever_runs)[::-1], tmp_path, overrides=["x=1"])
    summary = storage.read_json(tmp_path / "levers.json")
    volumes = [result.metrics["hypervolume"].value for result in results]
    assert [seed["hypervolume"] for seed in summary["seeds"]] == volumes
    assert summary["summary"]["hypervolume"]["mean"] == pytest.approx(np.mean(volumes))
    assert summary["summary"]["hypervolume"]["sd"] == pytest.approx(np.std(volumes, ddof=1))
    assert [target["met"] for target in summary["targets"]] == [True, False]
    assert summary["command"] == "morl run -m experiment=levers seed=0,1 x=1"
    assert summary["within_budget"]
    lines = (tmp_path / "levers-curve.csv").read_text().splitlines()
    assert lines[0] == "seed,steps,hypervolume,expected_utility,front_size"
    assert len(lines) == 1 + sum(len(result.curve["steps"]) for result in results)


def test_a_target_is_not_met_before_all_seeds_are_done(
    lever_runs: tuple[Path, list[RunResult]],
) -> None:
    summary = learning.summarise(LEVERS, finished(lever_runs)[:1])
    assert not summary["all_seeds_done"]
    assert [target["met"] for target in summary["targets"]] == [False, False]
    assert summary["summary"]["hypervolume"]["interval_95"] is None


def test_runs_by_other_code_are_told_apart(lever_runs: tuple[Path, list[RunResult]]) -> None:
    one, two = finished(lever_runs)
    summary = learning.summarise(LEVERS, [one, two])
    assert summary["code"] == {"differs_between_seeds": [], "differs_from_this_code": []}
    older = dataclasses.replace(two, code={**two.code, "agents/learners/ppo/learner.py": "0" * 16})
    summary = learning.summarise(LEVERS, [one, older])
    assert summary["code"] == {
        "differs_between_seeds": ["agents/learners/ppo/learner.py"],
        "differs_from_this_code": ["agents/learners/ppo/learner.py"],
    }
    assert summary["seeds"][0]["code_sha256"] != summary["seeds"][1]["code_sha256"]


def test_spread_of_known_figures() -> None:
    record = learning.spread([1.0, 3.0])
    assert (record["mean"], record["min"], record["sd"]) == (2.0, 1.0, pytest.approx(2**0.5))
    low, high = record["interval_95"]
    assert 1.0 <= low <= 2.0 <= high <= 3.0


def test_finished_runs_are_not_made_again(lever_runs: tuple[Path, list[RunResult]]) -> None:
    out, _ = lever_runs
    config = short_runs.config(out, steps=1000, seed=0)
    before = (run_folder(config) / "result.json").stat().st_mtime_ns
    assert learning.train([config], workers=1) == []
    assert (run_folder(config) / "result.json").stat().st_mtime_ns == before


def test_a_failed_run_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    broken = short_runs.config(tmp_path, steps=1000, env_fail_step=2)
    good = short_runs.config(tmp_path, steps=1000, seed=1)
    problems = learning.train([broken, good], workers=1)
    assert len(problems) == 1
    assert "the lever broke off" in problems[0]
    assert (run_folder(good) / "result.json").exists()


def test_nothing_to_summarise_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only", "minecart", "--from", str(tmp_path), "--output", str(tmp_path / "out")]
    assert learning.main(words) == 1
    assert "no finished run below" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# The kill test


def test_differences_are_found_to_the_bit() -> None:
    array = np.array([1.0, np.nan, -0.0])
    state = {"a": {"x": array, "n": 1}, "b": [1, 2.0]}
    same = {"a": {"x": array.copy(), "n": 1}, "b": [1, 2.0]}
    assert list(resume.differences(state, same)) == []
    signed = {"a": {"x": np.abs(array), "n": 1}, "b": [1, 2.0]}
    assert list(resume.differences(state, signed)) == ["a/x"]
    narrow = {"a": {"x": array.astype(np.float32), "n": True}, "b": [1, 2.5], "c": None}
    assert list(resume.differences(state, narrow)) == [
        "a/n", "a/x", "b", "c is missing on one side",
    ]  # fmt: skip


def test_traces_tell_runs_apart(lever_runs: tuple[Path, list[RunResult]], tmp_path: Path) -> None:
    _, results = lever_runs
    for seed in (0, 1):
        again = short_runs.config(tmp_path / str(seed), steps=1000, seed=seed)
        run(again, say=lambda _: None)
    one, two = (resume.traces(tmp_path / str(seed)) for seed in (0, 1))
    assert one["run_id"] == results[0].run_id
    assert list(resume.differences(one, one)) == []
    assert {"files/metrics.jsonl", "run_id"} <= set(resume.differences(one, two))


def test_an_attempt_that_nobody_killed_proves_nothing() -> None:
    assert not resume.Attempt().equal
    assert resume.Attempt(killed_at=[5]).equal
    assert not resume.Attempt(killed_at=[5], differences=["files/front.npz"]).equal


@pytest.mark.slow
def test_c_morl_killed_and_resumed_ends_in_the_same_bits(tmp_path: Path) -> None:
    resume.finish(tmp_path / "whole")
    attempt = resume.attempt(
        tmp_path / "killed", resume.traces(tmp_path / "whole"), kills=2, seed=1
    )
    assert attempt.killed_at
    assert attempt.differences == []
