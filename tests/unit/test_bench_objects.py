from __future__ import annotations

import pytest

from morl import storage
from morl.envs import make_task
from morl.experiments.bench import objects
from morl.experiments.bench.objects import TRIALS, Trial
from morl.indicators import hypervolume
from morl.registry import ENVS

TINY = Trial("hypergrid-v0", 600, {"height": 8})


def test_costs_are_those_of_single_units():
    found = objects.speed(TINY)
    assert found["objectives"] == 2
    assert 0.0 < found["transition_us"] < 1000.0
    assert 0.0 < found["evaluation_us"] < 1000.0
    assert 0.0 < found["view_step_us"] < 10_000.0


def test_a_search_is_judged_by_its_archive():
    found = objects.search(TINY, "uniform_sampling", seed=0)
    assert found["evaluations"] == 512  # whole rounds of 128
    exact = hypervolume(TINY.task.spec.known_front.points(1.0), (0.0, 0.0)).value
    assert found["ratio"] == pytest.approx(found["hypervolume"] / exact, abs=1e-4)
    assert found["ratio"] > 0.95
    assert 0.0 < found["diversity"] <= 1.0
    assert found["archive"] >= 2


def test_the_report_holds_every_search_of_every_task(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "SEARCHES", ("uniform_sampling",))
    said: list[str] = []
    arguments = ["--seeds", "2", "--output", str(tmp_path)]
    assert objects.main(arguments, trials=[TINY], say=said.append) == 0
    report = storage.read_json(tmp_path / "objects.json")
    assert [row["seed"] for row in report["rows"]] == [0, 1]
    assert report["command"] == objects.COMMAND
    assert report["left_out"] == []
    assert "uniform_sampling" in said[-1]


def test_tasks_that_cannot_be_made_here_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("morl.registry._importable", lambda name: False)
    monkeypatch.setattr(objects, "SEARCHES", ("uniform_sampling",))
    said: list[str] = []
    trials = [TINY, Trial("fragments-v0", 128)]
    objects.main(["--seeds", "1", "--output", str(tmp_path)], trials=trials, say=said.append)
    assert "morl-suite[mol]" in said[0]
    report = storage.read_json(tmp_path / "objects.json")
    assert [row["env"] for row in report["rows"]] == ["hypergrid-v0"]


def test_all_tasks_exist():
    for trial in TRIALS:
        assert trial.env in ENVS
        if ENVS[trial.env].available() is None:
            assert make_task(trial.env, kwargs=trial.kwargs).spec.num_objectives >= 2
