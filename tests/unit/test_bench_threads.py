"""The benchmark of threads takes the clock on both sides; how fast they are, is not tested here."""

from __future__ import annotations

import time

import pytest

from morl import storage
from morl.experiments.bench import __main__ as command
from morl.experiments.bench import threads
from morl.experiments.bench.measurement import cpu_cost, wall_cost

pytest.importorskip("mujoco", reason="the extra mujoco is not installed")


def test_sleeping_costs_time_on_the_clock_and_none_of_the_processor():
    def sleep() -> None:
        time.sleep(0.02)

    assert 0.01 <= wall_cost(sleep, units=2)() < 0.5
    assert cpu_cost(sleep, units=2)() < 0.005


def test_a_row_counts_environment_steps_of_both_sides(monkeypatch):
    monkeypatch.setattr(threads, "STEPS", {"mo-reacher-v5": 4})
    (row,) = threads.measure(["mo-reacher-v5"], num_threads=2, pairs=2)["rows"]
    assert (row["env"], row["num_envs"], row["num_threads"], row["pairs"]) == (
        "mo-reacher-v5", 64, 2, 2,
    )  # fmt: skip
    for side in ("ours_per_second", "theirs_per_second"):
        assert 100 < row[side] < 1e7
    assert row["ratio_lowest"] <= row["ratio"] <= row["ratio_highest"]


def test_the_command_writes_the_record_with_the_load_it_ran_under(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "measure", lambda **_: {"unit": "", "theirs": "", "rows": [{}]})
    monkeypatch.setattr(threads, "table", lambda _: "")
    assert command.main(["--only", "threads", "--output", str(tmp_path)]) == 0
    record = storage.read_json(tmp_path / "threads.json")
    assert record["command"] == "python -m morl.experiments.bench --only threads"
    assert len(record["machine"]["load_average"]) == 3
