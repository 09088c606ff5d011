"""After training: loading, acting, tables, videos, going on, and what is refused."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import mo_gymnasium
import numpy as np
import pytest

import morl
from morl.experiments.cli import main
from morl.experiments.trained import LoadError, TrainedRun, load, table_of
from morl.preferences import PreferenceError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def treasure(runs: Path) -> TrainedRun:
    return morl.run("deep-sea-treasure-v0", "pql", steps=3000, seed=1, out=runs)


@pytest.fixture(scope="module")
def cart(runs: Path) -> TrainedRun:
    return morl.run("minecart-deterministic-v0", "random_search", steps=2e4, out=runs, policies=4)


def test_a_run_is_loaded_from_its_folder_or_its_result(treasure: TrainedRun) -> None:
    again = load(treasure.folder / "result.json")
    np.testing.assert_array_equal(again.front, treasure.front)
    assert again.folder == treasure.folder
    assert treasure.objectives == ("treasure", "time")
    assert len(treasure.units) == 2
    assert treasure.episodes.shape == (len(treasure), 32, 2)
    assert treasure.metrics["hypervolume"] == pytest.approx(854.85, abs=0.01)


def test_policies_are_named_by_number_weights_or_knee(treasure: TrainedRun) -> None:
    greedy = int(treasure.front[:, 0].argmax())
    assert treasure.index([1.0, 0.0]) == greedy
    assert treasure.index(np.array([0.0, 1.0])) == int(treasure.front[:, 1].argmax())
    assert treasure.index(-1) == len(treasure) - 1
    span = np.ptp(treasure.front, axis=0)
    shortfall = (treasure.front.max(axis=0) - treasure.front) / span
    assert treasure.index("knee") == int(np.square(shortfall).sum(axis=1).argmin())


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (99, LoadError, "numbers 0 to 9, got 99"),
        ("best", LoadError, "only policy with a name is 'knee', got 'best'"),
        ([0.5, 0.3, 0.2], PreferenceError, "3 coordinates for 2 objectives"),
        ([0.5, 0.9], PreferenceError, "sums to 1"),
        ([-0.5, 1.5], PreferenceError, "no negative coordinate"),
    ],
)
def test_requests_that_do_not_fit_are_refused(
    treasure: TrainedRun, which: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        treasure.policy(which)


def test_a_policy_acts_in_mo_gymnasiums_own_environment(cart: TrainedRun) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env = mo_gymnasium.make("minecart-deterministic-v0")
    policy = cart.policy([0.2, 0.2, 0.6])
    observation, _ = env.reset(seed=0)
    action, state = policy.predict(observation)
    assert state is None
    assert env.action_space.contains(np.int64(action))
    np.testing.assert_allclose(policy.rollout(env), policy.expected_return, rtol=1e-5)
    env.close()


def test_a_policy_with_a_memory_earns_what_it_promises(treasure: TrainedRun) -> None:
    for index in range(len(treasure)):
        policy = treasure.policy(index)
        np.testing.assert_allclose(policy.rollout(), treasure.front[index])


def test_memory_is_handed_back_and_begins_again(treasure: TrainedRun) -> None:
    policy = treasure.policy([1.0, 0.0])
    start = np.zeros(2, np.int32)
    first, state = policy.predict(start)
    _, moved = policy.predict(np.array([1, 0], np.int32), state)
    again, _ = policy.predict(start, moved, episode_start=[True])
    assert state is not None
    assert again == first


def test_one_observation_or_a_batch(cart: TrainedRun) -> None:
    policy = cart.policy(0)
    one = np.zeros(7, np.float32)
    single, _ = policy.predict(one)
    batch, _ = policy.predict(np.stack([one, one, one]))
    assert np.ndim(single) == 0
    assert batch.tolist() == [single] * 3
    assert cart.predict(one, 0)[0] == single


@pytest.mark.parametrize("observation", [np.zeros(3), np.zeros((2, 3, 7)), "left", None])
def test_observations_of_another_shape_are_refused(cart: TrainedRun, observation: Any) -> None:
    with pytest.raises(LoadError, match="minecart-deterministic-v0"):
        cart.policy(0).predict(observation)


def test_a_deterministic_policy_cannot_be_asked_for_chance(cart: TrainedRun) -> None:
    with pytest.raises(LoadError, match="deterministic=False"):
        cart.policy(0).predict(np.zeros(7), deterministic=False)


def test_a_description_fits_a_screen(treasure: TrainedRun, cart: TrainedRun) -> None:
    text = repr(treasure)
    assert len(text.splitlines()) <= 25
    assert max(len(line) for line in text.splitlines()) <= 100 + len(str(treasure.folder))
    assert "10 policies" in text
    assert str(treasure.folder) in text
    html = treasure._repr_html_()
    assert html.count("<tr>") == 11
    assert "treasure" in html
    assert "1 policy" in repr(cart) or "policies" in repr(cart)


def test_rows_and_tables_hold_the_front(treasure: TrainedRun) -> None:
    rows = list(csv.DictReader(io.StringIO(treasure.table("csv"))))
    np.testing.assert_allclose([float(row["treasure"]) for row in rows], treasure.front[:, 0])
    assert max(float(row["time_error"]) for row in rows) < 1e-12
    assert treasure.table("markdown").splitlines()[1].startswith("| --- |")
    with pytest.raises(LoadError, match="text, csv, markdown, latex, got 'html'"):
        treasure.table("html")


def test_tables_escape_what_their_language_reserves() -> None:
    rows = [{"a_b": "50 % & {x}", "c": 1.0}]
    assert r"a\_b & c \\" in table_of(rows, form="latex")
    assert r"50 \% \& \{x\} & 1 \\" in table_of(rows, form="latex")
    assert table_of([{"a|b": "x"}], form="markdown").startswith(r"| a\|b |")
    with pytest.raises(LoadError, match="nothing to tabulate"):
        table_of([], form="csv")


def test_a_front_is_drawn(treasure: TrainedRun, tmp_path: Path) -> None:
    treasure.plot().savefig(tmp_path / "front.pdf")
    assert (tmp_path / "front.pdf").stat().st_size > 1000


def test_pandas_is_asked_for_by_name(treasure: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(LoadError, match="pip install pandas"):
        treasure.to_pandas()


def test_training_goes_on_in_a_folder_of_its_own(runs: Path) -> None:
    first = morl.run("fruit-tree-v0", "random_search", steps=3000, out=runs, policies=8)
    before = (first.folder / "result.json").read_bytes()
    more = first.continue_training(3000)
    assert more.folder != first.folder
    assert first.result.budget.env_steps < 3001 < more.result.budget.env_steps
    assert more.metrics["hypervolume"] >= first.metrics["hypervolume"]
    assert (first.folder / "result.json").read_bytes() == before
    assert (more.folder / "continued_from.json").exists()
    with pytest.raises(LoadError, match="holds a run already"):
        first.continue_training(3000)
    with pytest.raises(LoadError, match="positive integer, got 0"):
        first.continue_training(0)


def test_what_was_learned_is_kept_when_training_goes_on(treasure: TrainedRun) -> None:
    more = treasure.continue_training(800)
    assert more.metrics["hypervolume"] == pytest.approx(854.85, abs=0.01)


def test_a_video_shows_an_episode(cart: TrainedRun, tmp_path: Path) -> None:
    file = cart.policy(0).render(tmp_path / "films" / "cart.gif")
    assert file.read_bytes()[:4] == b"GIF8"
    with pytest.raises(LoadError, match=r"ends in .gif, .webp or .mp4"):
        cart.policy(0).render(tmp_path / "cart.avi")


def test_an_environment_that_draws_nothing_is_named(runs: Path, tmp_path: Path) -> None:
    run = morl.run("random-momdp-v0", "pql", steps=500, out=runs, env_kwargs={"seed": 3})
    with pytest.raises(LoadError, match="random-momdp-v0"):
        run.policy(0).render(tmp_path / "tree.gif")


def test_a_failed_run_is_refused_with_its_status(treasure: TrainedRun, tmp_path: Path) -> None:
    import json
    import shutil

    folder = tmp_path / "failed"
    shutil.copytree(treasure.folder, folder)
    record = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**record, "status": "failed: no memory"}))
    with pytest.raises(morl.MorlError, match="failed"):
        load(folder)
    with pytest.raises(morl.StorageError):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1000.5}, r"steps must be a whole number, got 1000.5"),
        ({"steps": "1e3"}, r"steps must be a whole number, got '1e3'"),
        ({"seed": 1.5}, r"'float'|whole number|sequence"),
        ({"lr": 0.1}, r"c_morl has no setting 'lr'; did you mean learning_rate\?"),
        ({"learning_rat": 0.1}, r"did you mean learning_rate\?"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"env_settings": {"gamma": 0.9}}, "env_settings"),
        ({"seed": []}, "at least one"),
    ],
)
def test_one_call_checks_its_arguments_before_training(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((morl.MorlError, TypeError), match=message):
        morl.run("fruit-tree-v0", "c_morl", out=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_environment_is_named_not_handed_over(tmp_path: Path) -> None:
    with pytest.raises(morl.MorlError, match="id of an environment, got"):
        morl.run(gymnasium.Env(), out=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(morl.UnknownNameError, match="fruit-tree-v0"):
        morl.run("fruit-tre-v0", out=tmp_path)


def test_several_seeds_give_several_runs(tmp_path: Path) -> None:
    several = morl.run(
        "fruit-tree-v0", "random_search", steps=2000, seed=[3, 4], out=tmp_path, workers=2
    )
    assert [each.result.seed for each in several] == [3, 4]
    alone = morl.run("fruit-tree-v0", "random_search", steps=2000, seed=4, out=tmp_path)
    np.testing.assert_array_equal(several[1].front, alone.front)


def test_the_commands_play_tabulate_and_go_on(
    cart: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(cart.folder)
    words = ["--preference", "0.2", "0.2", "0.6", "--episodes", "2"]
    assert main(["play", folder, *words, "--video", str(tmp_path / "cart.webp")]) == 0
    said = capsys.readouterr().out
    assert said.count("seed ") == 2
    assert "fuel" in said
    assert (tmp_path / "cart.webp").exists()
    assert main(["table", folder, "--front", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("policy,ore-1")
    assert main(["table", str(cart.folder.parents[1]), "--latex"]) == 0
    assert "random\\_search" in capsys.readouterr().out
    assert main(["continue", folder, "--steps", "1e3", "--folder", str(tmp_path / "more")]) == 0
    assert "random_search on minecart-deterministic-v0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["play", "RUN", "--policy", "77"], "got 77"),
        (["play", "RUN", "--preference", "0.5"], "1 coordinates for 3 objectives"),
        (["table", "RUN", "RUN", "--front"], "single run, got 2"),
        (["continue", "RUN", "--steps", "1.5"], "whole number, got 1.5"),
        (["table", "NOWHERE"], "NOWHERE"),
    ],
)
def test_commands_say_what_is_wrong(
    words: list[str], message: str, cart: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(cart.folder) if word == "RUN" else word for word in words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
