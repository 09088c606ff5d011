from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import levers
import numpy as np
import pytest
from short_runs import AGENT, config, traces

from morl import storage
from morl.agents.random_search import RandomSearch
from morl.checkpoint import CheckpointError, list_checkpoints, save_checkpoint
from morl.experiments import run as run_module
from morl.experiments.config import ConfigError, EnvConfig, RunConfig
from morl.experiments.interrupts import RunInterrupted
from morl.experiments.measures import measure
from morl.experiments.run import (
    CHECKPOINTS,
    CODE,
    CONFIG,
    FAILURE,
    METRICS,
    TIMINGS,
    CodeChangedError,
    RunBusyError,
    RunFailedError,
    agent_of,
    result_error,
    run,
    run_folder,
    task_of,
)
from morl.result import RunResult
from morl.storage import StorageError
from morl.types import Metrics, MorlError, NonFiniteError

Lines = list[str]


@pytest.fixture
def said() -> Lines:
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nobody disturbed."""
    undisturbed = config(tmp_path_factory.mktemp("whole"))
    run(undisturbed, say=lambda _: None)
    return traces(undisturbed)


def at_round(number: int, action: Callable[[], object]) -> Callable[[RandomSearch], None]:
    """A round of random search that does something in the middle, once."""
    play = RandomSearch._play_round
    pending = [action]

    def round_(self: RandomSearch) -> None:
        play(self)
        if self._rounds == number and pending:
            pending.pop()()

    return round_


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_its_record_its_logs_and_a_checkpoint(tmp_path: Path) -> None:
    short = config(tmp_path)
    result = run(short)
    folder = run_folder(short)
    assert folder.parent == tmp_path / "levers-v0" / "random_search"
    assert {path.name for path in folder.iterdir()} == {
        CONFIG, CODE, METRICS, TIMINGS, CHECKPOINTS, "result.json", "front.npz", "episodes.npz",
    }  # fmt: skip
    assert result.status == "completed"
    assert result.budget.env_steps == 4000
    assert result == RunResult.load(folder)
    assert result.arrays.report_discounted.shape[1:] == (4, 2)
    assert list(tmp_path.glob("**/.*")) == []


def test_the_learning_curve_has_a_point_every_tenth_of_the_budget(tmp_path: Path) -> None:
    result = run(config(tmp_path, sync_every=100))
    steps = np.array(result.curve["steps"])
    assert len(steps) == 10
    assert steps[-1] == 4000
    assert (steps // 400).tolist() == list(range(1, 11))
    assert {"hypervolume", "expected_utility", "front_size"} < set(result.curve)


def test_indicators_are_those_of_the_stored_report_episodes(tmp_path: Path) -> None:
    short = config(tmp_path)
    result = run(short)
    assert dict(result.metrics) == measure(result.arrays.report_discounted, task_of(short).spec)
    points = result.arrays.report_discounted.mean(axis=1) + 0.5
    best = points[np.argsort(-points[:, 0])]
    area, height = 0.0, 0.0
    for width, top in best:  # a staircase, from the right
        area += width * max(0.0, top - height)
        height = max(height, top)
    assert result.metrics["hypervolume"].value == pytest.approx(area)


def test_evaluation_steps_are_counted_apart(tmp_path: Path) -> None:
    result = run(config(tmp_path, eval_every=4000))
    arrays = result.arrays
    final = int(arrays.selection_lengths.sum() + arrays.report_lengths.sum())
    candidates = len(arrays.selection_lengths)
    assert final < result.budget.eval_env_steps <= final + candidates * 2 * levers.HORIZON


def test_the_same_command_again_finds_that_the_run_is_done(
    tmp_path: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(config(tmp_path))
    monkeypatch.setattr(RandomSearch, "learn", lambda *_: pytest.fail("trained again"))
    assert run(config(tmp_path), say=said.append) == first
    assert said == [f"{run_folder(config(tmp_path))}: this run is done already"]


def test_a_run_can_be_put_into_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "trial" / "seed_7"
    result = run(config(tmp_path / "runs"), folder=folder, say=lambda _: None)
    assert RunResult.load(folder) == result
    assert not (tmp_path / "runs").exists()


def test_progress_can_go_to_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = StringIO()
    run(config(tmp_path), stream=log)
    run(config(tmp_path), stream=log)
    assert "4,000/4,000 steps" in log.getvalue()
    assert "this run is done already" in log.getvalue()
    assert capfd.readouterr() == ("", "")


def test_a_watcher_sees_every_point_of_the_curve_after_it_is_saved(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    short = config(tmp_path)

    def watch(steps: int, readings: Metrics) -> None:
        newest = list_checkpoints(run_folder(short) / CHECKPOINTS)[0]
        assert newest.name.endswith(f"{steps:012}")
        seen.append((steps, readings["eval/hypervolume"]))

    curve = run(short, watch=watch, say=lambda _: None).curve
    assert seen == list(zip(curve["steps"], curve["hypervolume"], strict=True))


def test_what_a_watcher_raises_ends_the_run_which_goes_on_later_and_shows_the_curve_again(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    class Enough(BaseException):
        pass

    def stop(steps: int, readings: Metrics) -> None:
        if steps >= 1600:
            raise Enough

    short = config(tmp_path)
    with pytest.raises(Enough):
        run(short, watch=stop, say=lambda _: None)
    assert not (run_folder(short) / FAILURE).exists()
    assert not (run_folder(short) / "result.json").exists()
    seen: list[int] = []
    curve = run(short, watch=lambda steps, _: seen.append(steps), say=lambda _: None).curve
    assert tuple(map(float, seen)) == curve["steps"]
    assert traces(short) == whole


def test_logs_do_not_depend_on_the_clock(tmp_path: Path, whole: dict[str, Any]) -> None:
    short = config(tmp_path)
    run(short)
    assert traces(short) == whole
    assert not any(
        name.startswith(("time/", "memory/"))
        for record in lines_of(run_folder(short) / METRICS)
        for name in record
    )
    assert lines_of(run_folder(short) / TIMINGS)[-1]["time/wall_s"] > 0.0


@pytest.mark.parametrize("number", [1, 5, 12])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    number: int,
    tmp_path: Path,
    said: Lines,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = config(tmp_path)
    monkeypatch.setattr(RandomSearch, "_play_round", at_round(number, interrupt))
    with pytest.raises(RunInterrupted) as request:
        run(short)
    assert request.value.exit_code == 143
    assert "the same command goes on from there:\n  morl run env=levers-v0" in request.value.message
    run(short, say=said.append)
    assert traces(short) == whole
    if number > 1:
        assert "goes on from step" in said[0]


def test_a_signal_during_a_save_waits_for_its_end(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = config(tmp_path)
    write = storage.write_arrays

    def interrupted(path: Path, arrays: Any) -> None:
        interrupt()
        write(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_arrays", interrupted)
        with pytest.raises(RunInterrupted):
            run(short)
    saved = list_checkpoints(run_folder(short) / CHECKPOINTS)
    assert len(saved) == 1
    assert (saved[0] / "manifest.json").exists()
    run(short)
    assert traces(short) == whole


def test_a_signal_that_a_destructor_swallowed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallowed() -> None:
        with pytest.raises(RunInterrupted):
            interrupt()

    monkeypatch.setattr(RandomSearch, "_play_round", at_round(3, swallowed))
    with pytest.raises(RunInterrupted):
        run(config(tmp_path))


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(config(tmp_path, steps=500))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_nan_ends_the_run_as_failed_and_keeps_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nan() -> None:
        raise NonFiniteError("levers-v0: reward nan (seed 5, step 3)")

    short = config(tmp_path)
    folder = run_folder(short)
    with monkeypatch.context() as patch:
        patch.setattr(RandomSearch, "_play_round", at_round(5, nan))
        with pytest.raises(RunFailedError) as failure:
            run(short)
    message = str(failure.value)
    assert "levers-v0, agent random_search, seed 0, after step" in message
    assert "NonFiniteError: levers-v0: reward nan (seed 5, step 3)" in message
    result = RunResult.load(folder)
    assert result.status.startswith("failed: levers-v0")
    assert result.arrays.returns.shape == (0, 2)
    assert result.budget.env_steps == int(list_checkpoints(folder / CHECKPOINTS)[0].name[5:])
    assert "Traceback" in (folder / FAILURE).read_text()


def test_a_failed_run_can_be_tried_again(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("cosmic ray")

    short = config(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(RandomSearch, "_play_round", at_round(5, fail))
        with pytest.raises(RunFailedError, match="RuntimeError: cosmic ray"):
            run(short)
    assert run(short).status == "completed"
    assert traces(short) == whole
    assert not (run_folder(short) / FAILURE).exists()


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"env_nan_step": 2}, r"NonFiniteError: levers-v0: a reward is not finite \(seed 0"),
        ({"env_fail_step": 2}, "RuntimeError: the lever broke off"),
    ],
)
def test_what_the_environment_does_wrong_is_named(
    kwargs: dict[str, int], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(RunFailedError, match=f"levers-v0, agent random_search, seed 0.*{reason}"):
        run(config(tmp_path, **kwargs))


def test_an_agent_that_stands_still_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomSearch, "learn", lambda *_: {})
    with pytest.raises(RunFailedError, match="took no step and is not finished"):
        run(config(tmp_path))


def test_an_agent_without_solutions_is_worth_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomSearch, "solutions", lambda *_: [])
    result = run(config(tmp_path))
    assert result.metrics["hypervolume"].value == 0.0
    assert "expected_utility" not in result.metrics
    assert result_error(result) == "levers-v0: the agent has no solution"


def test_a_reference_point_of_another_length_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    wrong = config(tmp_path)
    wrong.env.reference_point = [0.0, 0.0, 0.0]
    with pytest.raises(MorlError, match=r"levers-v0: 2 objectives \(speed, thrift\).*3 coord"):
        run(wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_box_of_the_settings_is_in_the_record_and_scales_the_indicators(tmp_path: Path) -> None:
    boxed = config(tmp_path)
    boxed.env.box_low, boxed.env.box_high = [0.0, 0.0], [4.0, 4.0]
    result = run(boxed)
    assert (result.protocol.box_low, result.protocol.box_high) == ((0.0, 0.0), (4.0, 4.0))
    usual = run(config(tmp_path))  # its box is twice as long
    scaled = [each.metrics["hypervolume_normalised"].value for each in (result, usual)]
    assert scaled[0] > 2 * scaled[1] > 0
    assert result.metrics["hypervolume"].value == usual.metrics["hypervolume"].value


def test_a_reference_point_that_nothing_beats_is_said(tmp_path: Path) -> None:
    high = config(tmp_path)
    high.env.reference_point = [100.0, 0.0]
    result = run(high)
    assert result.metrics["hypervolume"].value == 0.0
    assert result.front.num_outside == len(result.arrays.returns) > 0
    assert "levers-v0: the reference point (100, 0)" in str(result_error(result))
    good = run(config(tmp_path))
    assert result_error(good) is None


def test_arguments_that_the_environment_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MorlError, match=r"levers-v0: cannot be made of.*'colour'"):
        run(config(tmp_path, env_colour="red"))
    assert list(tmp_path.glob("*/*/*")) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/levers-v0.*choose another folder"):
        run(config(tmp_path / "file"))


def test_a_full_disk_loses_nothing(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = config(tmp_path)
    folder = run_folder(short)
    count = [0]

    def full(target: Path, *arguments: Any, **settings: Any) -> Path:
        count[0] += 1
        if count[0] > 4:
            raise StorageError("the disk is full (9 bytes needed)", path=target, needed=9)
        return save_checkpoint(target, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", full)
        with pytest.raises(StorageError, match="the disk is full"):
            run(short)
    assert not (folder / "result.json").exists()
    assert len(list_checkpoints(folder / CHECKPOINTS)) == 2
    run(short)
    assert traces(short) == whole


def interrupted_run(short: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(RandomSearch, "_play_round", at_round(10, interrupt))
        with pytest.raises(RunInterrupted):
            run(short)
    return run_folder(short)


def test_a_corrupt_checkpoint_is_named_and_the_older_one_used(
    tmp_path: Path, said: Lines, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = config(tmp_path)
    newest, older = list_checkpoints(interrupted_run(short, monkeypatch) / CHECKPOINTS)
    arrays = newest / "arrays.npz"
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 1
    arrays.write_bytes(data)
    run(short, say=said.append)
    assert f"goes on from step {int(older.name[5:]):,}" in said[0]
    assert f"not used: {newest}" in said[0]
    assert traces(short) == whole


def test_a_foreign_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = interrupted_run(config(tmp_path, seed=1), monkeypatch)
    mine = run_folder(config(tmp_path))
    other.rename(mine)
    with pytest.raises(CheckpointError, match=str(mine)):
        run(config(tmp_path))
    assert not (mine / "result.json").exists()


def test_an_unfinished_run_of_other_code_is_not_mixed(
    tmp_path: Path, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = config(tmp_path)
    folder = interrupted_run(short, monkeypatch)
    code = storage.read_json(folder / CODE)
    storage.write_json(folder / CODE, {**code, "pareto.py": "0" * 16})
    with pytest.raises(CodeChangedError, match=r"changed: pareto\.py.*resume=any.*resume=never"):
        run(short)
    assert run(config(tmp_path, resume="any"), say=said.append).status == "completed"
    assert "resumed by other code (changed: pareto.py)" in said[0]
    assert lines_of(folder / "code-changes.jsonl")[0]["changed"] == ["pareto.py"]


def test_starting_afresh_moves_the_old_run_aside(tmp_path: Path, said: Lines) -> None:
    first = run(config(tmp_path))
    second = run(config(tmp_path, resume="never"), say=said.append)
    folder = run_folder(config(tmp_path))
    assert said == [f"{folder}: the earlier run is now in {folder}.old-1"]
    assert RunResult.load(Path(f"{folder}.old-1")) == first
    np.testing.assert_array_equal(second.arrays.report_discounted, first.arrays.report_discounted)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    short = config(tmp_path)
    run_folder(short).parent.mkdir(parents=True)
    with (
        run_module._locked(run_folder(short)),
        pytest.raises(RunBusyError, match="another process is working on this run"),
    ):
        run(short)
    assert run(short).status == "completed"


def test_a_sink_that_fails_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no TensorBoard today")

    monkeypatch.setattr(run_module, "TensorBoardTracker", broken)
    with pytest.warns(UserWarning, match="no TensorBoard today"):
        assert run(config(tmp_path, tensorboard=True)).status == "completed"


def test_wandb_gets_the_mode_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    logged: list[int] = []

    def fake(folder: Path, **settings: Any) -> Any:
        seen.update(settings, folder=folder)
        return SimpleNamespace(log=lambda _, step: logged.append(step), close=lambda: None)

    monkeypatch.setattr(run_module, "WandbTracker", fake)
    short = config(tmp_path, wandb="offline")
    run(short)
    assert seen["mode"] == "offline"
    assert seen["folder"] == run_folder(short)
    assert logged[-1] == 4000


def test_sinks_and_folders_do_not_make_another_run(tmp_path: Path) -> None:
    plain = config(tmp_path)
    assert config(tmp_path / "x", wandb="offline", resume="any").digest("1") == plain.digest("1")
    assert config(tmp_path, seed=1).digest("1") != plain.digest("1")
    assert plain.digest("2") != plain.digest("1")


def test_torch_gets_the_threads_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=threads.append))
    short = config(tmp_path, threads=3)
    agent_of(short, task_of(short))
    assert threads == [3]


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    short = config(tmp_path, env_stop=0.2, sync_every=50)
    again = RunConfig.from_record(json.loads(json.dumps(short.record())))
    assert again == short


def test_a_command_names_what_differs_from_the_defaults() -> None:
    changed = RunConfig(
        env=EnvConfig("levers-v0", kwargs={"noise": 0.5}, reference_point=[-1.0, 0.0]),
        agent="random_search",
        agent_config=AGENT,
        out="my runs/a",
    )
    assert changed.command() == (
        "morl run env=levers-v0 agent=random_search seed=0 env.kwargs.noise=0.5 "
        "'env.reference_point=[-1.0,0.0]' agent.policies=8 agent.episodes=2 "
        "'out='\"'\"'my runs/a'\"'\"''"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"report_episodes": 1}, "report_episodes must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"resume": "nevr"}, "resume must be one of auto, any, never.*did you mean 'never'"),
        ({"wandb": "on"}, "wandb must be one of off, offline, online"),
        ({"env": EnvConfig("levers-v0", discount=1.5)}, r"env\.discount must be in \(0, 1\]"),
        ({"env": EnvConfig("levers-v0", horizon=0)}, r"env\.horizon must be at least 1"),
        (
            {"env": EnvConfig("levers-v0", reference_point=[float("nan"), 0.0])},
            r"env\.reference_point must be finite",
        ),
        ({"env": EnvConfig("levers-v0", box_low=[0.0, 0.0])}, r"a box needs both corners"),
        ({"agent_config": 3}, r"random_search takes a morl\.agents\.random_search\.Config"),
    ],
)
def test_a_setting_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(agent="random_search", **changes)
