"""The benchmark of environments measures what it says; how fast they are, is not tested here."""

from __future__ import annotations

from pathlib import Path

import pytest
from gymnasium import spaces

from morl import storage
from morl.experiments import cli
from morl.experiments.bench import __main__ as command
from morl.experiments.bench import environments
from morl.experiments.bench.environments import SLOW, measure, sizes, speed_figure

pytest.importorskip("mujoco", reason="the extra mujoco is not installed")

COLUMNS = {
    "env", "num_envs", "ours_per_cpu_second", "theirs_per_cpu_second", "ratio", "ratio_lowest",
    "ratio_highest", "pairs", "of_bare_physics",
}  # fmt: skip


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    return measure(["deep-sea-treasure-v0", "mo-reacher-v5"], pairs=1, portion=1e-4)


def test_every_size_of_a_batch_is_a_row(record):
    rows = record["rows"]
    assert [(row["env"], row["num_envs"]) for row in rows] == [
        ("deep-sea-treasure-v0", 16),
        ("deep-sea-treasure-v0", 64),
        ("deep-sea-treasure-v0", 1024),
        ("mo-reacher-v5", 16),
        ("mo-reacher-v5", 64),
    ]
    assert all(set(row) == COLUMNS for row in rows)
    assert "MOSyncVectorEnv of 16" in record["theirs"]


def test_both_sides_count_environment_steps(record):
    for row in record["rows"]:
        # A thousand to a billion; a vector step counted as one would break the ratio of a batch.
        assert 1e3 < row["theirs_per_cpu_second"] < 1e7
        assert row["ratio"] == pytest.approx(
            row["ours_per_cpu_second"] / row["theirs_per_cpu_second"], rel=1e-2
        )


def test_physics_is_compared_with_bare_steps(record):
    shares = [row["of_bare_physics"] for row in record["rows"]]
    assert shares[:3] == [None] * 3
    assert all(0.3 < share < 1.3 for share in shares[3:])


def test_a_measurement_takes_about_the_time_it_is_given():
    class Clock:
        num_envs = 4
        single_action_space = spaces.Discrete(2)

        def __init__(self):
            self.steps = 0

        def reset(self, *, seed):
            self.steps = 0

        def step(self, actions):
            assert actions.shape == (4,)
            self.steps += 1
            sum(range(20_000))  # some tenths of a millisecond

    clock = Clock()
    measured = environments._timed(clock, 0.02)
    before = clock.steps
    cost = measured()
    spent = (clock.steps - before) * 4 * cost
    assert 0.2 * 0.02 < spent < 5 * 0.02


def test_what_mo_gymnasium_lacks_has_no_ratio():
    row = measure(["building-3d-v0"], pairs=1, portion=1e-4)["rows"][0]
    assert row["ours_per_cpu_second"] > 0
    assert row["theirs_per_cpu_second"] is None
    assert row["ratio"] is None


def test_sizes_follow_the_kind_of_environment():
    assert sizes("four-room-v0") == (16, 64, 1024)
    assert sizes("mo-ant-v4") == (16, 64)
    assert all(sizes(name) == (1,) for name in SLOW)


def test_environments_stepped_one_by_one_are_measured_once():
    pytest.importorskip("Box2D", reason="the extra box2d is not installed")
    assert sizes("mo-lunar-lander-v3") == (16,)


def test_the_picture_shows_the_best_batch_of_each(record):
    figure = speed_figure(record["rows"])
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["mo-reacher-v5", "deep-sea-treasure-v0"]  # from below
    shown = {text.get_text() for text in axes.texts}
    fastest = max(record["rows"][:3], key=lambda row: row["ours_per_cpu_second"])
    assert f"{fastest['ratio']:,.3g} x" in shown


def fake_measure(*_: object, **__: object) -> dict[str, object]:
    row = dict.fromkeys(COLUMNS, 1.0) | {"env": "fruit-tree-v0", "of_bare_physics": None}
    return {"unit": "steps", "theirs": "them", "rows": [row]}


def test_the_command_line_writes_figures_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environments, "measure", fake_measure)
    assert cli.main(["bench", "envs", "--output", str(tmp_path)]) == 0
    assert storage.read_json(tmp_path / "environments.json")["rows"][0]["ratio"] == 1.0
    assert (tmp_path / "environments.png").stat().st_size > 1000
    assert "fruit-tree-v0" in capsys.readouterr().out


def test_an_unknown_environment_is_named_before_anything_runs(tmp_path, capsys):
    code = cli.main(["bench", "envs", "--only", "fruit-tree-v1", "--output", str(tmp_path)])
    assert code == 1
    assert "did you mean 'fruit-tree-v0'" in capsys.readouterr().err


def test_all_benchmarks_include_the_environments(tmp_path, monkeypatch):
    asked: dict[str, object] = {}
    monkeypatch.setattr(command.environments, "main", lambda **arguments: asked.update(arguments))
    words = ["--only", "environments", "--pairs", "2", "--output", str(tmp_path)]
    assert command.main(words) == 0
    assert asked == {"pairs": 2, "output": tmp_path, "plot": tmp_path / "environments.png"}


def test_the_committed_picture_lies_in_the_documentation():
    assert command.SPEED_PLOT.parent.parent == Path(__file__).resolve().parents[2] / "docs"
