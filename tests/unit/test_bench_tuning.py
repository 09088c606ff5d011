"""The benchmark of tuning measures what it says, on small cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from morl import storage
from morl.envs import make_vec
from morl.experiments.bench import tuning, tuning_faults, tuning_replays
from morl.experiments.bench.tuning_faults import LoggedRuns, Point, batch_utilisation, problems
from morl.experiments.bench.tuning_problem import (
    EVALUATIONS,
    EXACT,
    TabularConfig,
    _greedy_hypervolume,
    _sea,
    learning_curve,
    run_tabular,
)
from morl.experiments.bench.tuning_replays import STRATEGIES, Replay, Strategy
from morl.hpo.space import SearchSpace
from morl.hpo.study import Study, open_study
from morl.hpo.types import TrialRequest
from morl.hpo.worker import work


def test_the_learner_s_hypervolume_of_the_best_policies_is_exact() -> None:
    table, treasures = _sea()
    # From each cell on, go to the treasure below the column that a weight stands for.
    columns = int(np.sqrt(len(treasures)).item())
    width = 11
    assert columns >= 10
    goals = [int(cell) for cell in np.flatnonzero(treasures)]
    values = np.zeros((len(goals), len(treasures), 4))
    for weight, goal in enumerate(goals):
        for cell in range(len(treasures)):
            values[weight, cell, 1 if cell % width == goal % width else 3] = 1.0
    assert _greedy_hypervolume(values, table, treasures) == pytest.approx(EXACT, abs=0.06)


def test_the_learner_is_deterministic_noisy_and_better_when_tuned() -> None:
    tuned = TabularConfig(learning_rate=0.5, epsilon=0.6, final_epsilon=0.3, discount=1.0)
    curves = [learning_curve(tuned, seed=seed) for seed in range(6)]
    assert np.array_equal(curves[0], learning_curve(tuned, seed=0))
    assert curves[0].shape == (EVALUATIONS,)
    assert len({curve[-1] for curve in curves}) > 1
    default = [learning_curve(TabularConfig(), seed=seed)[-1] for seed in range(6)]
    assert np.mean([curve[-1] for curve in curves]) > np.mean(default) + 50.0
    assert max(curve.max() for curve in curves) <= EXACT


def test_the_map_is_that_of_the_environment() -> None:
    env = make_vec("deep-sea-treasure-v0", 1)
    env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(np.array([1]))
    table, treasures = _sea()
    assert reward[0, 0] == pytest.approx(treasures[table[0, 1]])
    assert terminated[0]
    env.close()


def test_a_run_of_the_learner_reports_and_may_be_given_up(tmp_path: Path) -> None:
    request = TrialRequest(
        params={"num_weights": 4}, seed=3, budget=9000, evaluations=9, stage="search", trial=1,
        folder=tmp_path,
    )  # fmt: skip
    steps: list[int] = []

    def report(step: int, value: float) -> bool:
        steps.append(step)
        return step >= 3000

    outcome = run_tabular(request, report)
    assert steps == [1000, 2000, 3000]
    assert outcome.cost == {"env_steps": 3000}


def test_strategies_that_are_compared_cost_the_same() -> None:
    assert {strategy.runs for strategy in STRATEGIES} == {120}


def test_a_replay_chooses_by_the_mean_and_races_the_best() -> None:
    replay = Replay(0)
    values = {(0, 0): 5.0, (1, 0): 9.0, (2, 0): 8.0, (3, 0): 1.0, (1, 1): 1.0, (2, 1): 8.0}
    values |= {(1, 2): 1.0, (2, 2): 5.0}
    replay._found = values
    assert replay.choose(Strategy("", 4, 1)) == (1, 9.0)
    assert replay.choose(Strategy("", 4, 1, 2, 2)) == (2, 7.0)
    assert replay.choose(Strategy("", 4, 1, 2, 2, all_seeds=False)) == (2, 6.5)


def test_a_study_by_the_engine_chooses_what_the_replay_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Strategy(tuning_replays.RACE, 6, 1, 2, 2)
    monkeypatch.setattr(tuning_replays, "STRATEGIES", (small,))
    assert tuning_replays._engine_agrees(2) == "2 of 2 studies"


def test_utilisation_in_batches_by_hand() -> None:
    # Two workers: batches (3, 1), (1, 1), (3): 9 of 2 * (3 + 1 + 3).
    assert batch_utilisation([3.0, 1.0, 1.0, 1.0, 3.0], 2) == 9 / 14


def test_journals_are_cut_where_the_disk_may_not_have_followed() -> None:
    lines = [
        {"op_code": 0, "study_name": "s"}, {"op_code": 4}, {"op_code": 5, "trial_id": 0,
        "param_name": "x"}, {"op_code": 5, "trial_id": 0, "param_name": "y"}, {"op_code": 7},
        {"op_code": 6}, {"op_code": 4}, {"op_code": 5, "trial_id": 1, "param_name": "x"},
    ]  # fmt: skip
    data = [json.dumps(line).encode() + b"\n" for line in lines]
    sizes = np.cumsum([len(line) for line in data])
    assert tuning_faults.on_disk(b"".join(data)) == sizes[5]
    assert tuning_faults.on_disk(b"".join(data[:5])) == sizes[3]
    assert tuning_faults.on_disk(b"".join(data[:3])) == sizes[0]


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[tuple[Study, Path]]:
    log = tmp_path / "log"
    log.touch()
    study = open_study(
        tuning_faults.settings(n_trials=6), SearchSpace.of(Point()), folder=tmp_path / "s"
    )
    work(study, LoggedRuns(log, 0.0))
    return study, log


def test_a_whole_study_has_no_problems_and_others_do(finished: tuple[Study, Path]) -> None:
    study, log = finished
    assert problems(study, log) == []
    lines, _ = storage.read_json_lines(log)
    lost = next(line for line in lines if line["event"] == "done" and line["trial"] == 1)
    storage.append_json_line(log, {**lost, "value": 77.0})
    begun = {"event": "begun", "trial": 1, "seed": 2, "params": {"x": 0.0, "y": 0.0}}
    storage.append_json_line(log, begun)
    found = problems(study, log)
    assert len(found) == 2
    assert "trial 1 ran with" in found[0]
    assert "in the log 77.0" in found[1]


def test_an_unfinished_study_is_a_problem(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    config = tuning_faults.settings(n_trials=3)
    study = open_study(config, SearchSpace.of(Point()), folder=tmp_path)
    assert problems(study, log) == ["0 trials ended of 3: {'waiting': 3}", SAME]


SAME = "a parameter set was given to two trials"


def test_the_overhead_of_a_few_trials_is_measured() -> None:
    record = tuning.overhead_test(trials=10, pairs=1)
    assert [row["sampler"] for row in record["rows"]] == ["random", "tpe"]
    assert all(row["cpu_ms_a_trial"] > 0.0 for row in record["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", tuning_faults.KINDS)
def test_disturbed_studies_finish_exactly(tmp_path: Path, kind: str) -> None:
    attempt = tuning_faults.disturb(tmp_path, kind, address="journal://", seconds=0.2, seed=5)
    assert attempt.problems == []
    assert attempt.kills > 0


@pytest.mark.slow
@pytest.mark.parametrize("address", ["journal://", "sqlite://"])
def test_four_workers_begin_a_new_study_together(address: str) -> None:
    found = tuning_faults.new_study_test(address, repetitions=2)
    assert (found["opened"], found["of"], found["problems"]) == (8, 8, [])


@pytest.mark.slow
def test_nothing_is_lost_among_eight_workers() -> None:
    found = tuning_faults.crowd_test("journal://", workers=8, trials=120)
    assert found["lost_or_wrong"] == []


@pytest.mark.slow
def test_workers_are_busy_although_trials_differ_in_length() -> None:
    found = tuning_faults.utilisation_test(workers=3, trials=18, seconds=1.5)
    assert found["pruned"] >= 4
    assert found["utilisation"] > found["the_same_trials_in_batches"]
