"""The offloading benchmark: hypervolumes, resampling, tables, and what is played twice."""

from __future__ import annotations

import numpy as np
import pytest

from morl.agents.linucb import Config as BanditConfig
from morl.envs import make_task
from morl.experiments.bench import offloading, offloading_report
from morl.experiments.bench.offloading import (
    MAIN,
    SCHEMES,
    SYSTEMS,
    Figures,
    OffloadingBenchError,
    Resampled,
    Resampler,
    areas,
    compared,
    load_totals,
    play,
    preferences,
    solutions_of_run,
    solutions_of_scheme,
    task_in,
    totals,
    training,
)
from morl.experiments.bench.offloading_report import (
    BEGIN,
    END,
    PAGE,
    RECORD,
    edges_figure,
    front,
    fronts,
    fronts_figure,
    generalisation,
    record,
    tables,
    with_results,
)
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import run, run_folder
from morl.indicators import hypervolume
from morl.storage import read_json
from morl.types import Solution

SMALL = Resampler(resamples=60)


def made_up(shift: float = 0.0, *, episodes: int = 40, seed: int = 0) -> np.ndarray:
    """Totals of 101 preferences: a front from (14, 5.5) to (30, 3), noise common to all."""
    rng = np.random.default_rng(seed)
    delay = np.linspace(30.0, 14.0, 101) + shift
    energy = 3.0 + 2.5 * np.linspace(0, 1, 101) ** 2
    noise = rng.normal(0, 2.0, (1, episodes, 1)) * [1.0, 0.1]
    return np.stack([delay, energy], axis=-1)[:, None] + noise


def test_the_area_of_a_front_by_hand():
    points = np.array([[[3.0, 1.0], [1.0, 3.0], [2.0, 2.5], [9.0, 0.0]]])
    # Below (4, 4): 3 x 1 and 2 x 0.5 more and 1 x 1.5 more; the last point lies outside.
    assert areas(points, (4.0, 4.0)) == pytest.approx([3.0 + 1.0 + 1.5])


def test_areas_are_the_hypervolumes_of_the_suite():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 5, (20, 30, 2))
    expected = [hypervolume(-front, (-4.0, -4.5)).value for front in points]
    np.testing.assert_allclose(areas(points, (4.0, 4.5)), expected)


def test_preferences_go_from_energy_alone_to_delay_alone():
    asked = preferences()
    assert asked.shape == (101, 2)
    np.testing.assert_allclose(asked[[0, 50, 100]], [[0, 1], [0.5, 0.5], [1, 0]])


def test_every_system_can_be_made_and_has_a_reference_point_of_its_own():
    for system in SYSTEMS.values():
        task = task_in(system, {"observation": "paper", "edges": 3, "contexts": "train"})
        batch = task.make_vec(4)
        infos = batch.reset(seed=0)[1]
        batch.close()
        if "edges" in system.kwargs:
            assert (infos["edges"] == system.kwargs["edges"]).all()
        for part, column in (("cloud_frequency", 0), ("edge_frequency", 1)):
            if part in system.kwargs:
                assert (infos["frequency"][:, column] == system.kwargs[part]).all()
    assert len({system.reference for system in SYSTEMS.values()}) == len(SYSTEMS)


def test_totals_are_minutes_and_joules_and_few_episodes_are_the_first_of_many(monkeypatch):
    monkeypatch.setattr(offloading, "BLOCK", 4)
    scheme = SCHEMES["shortest-queue"]
    solutions = solutions_of_scheme(scheme)
    task = task_in(SYSTEMS[MAIN], {"observation": scheme.observation})
    few, many = (totals(task, solutions, episodes=count) for count in (4, 10))
    assert many.shape == (1, 10, 2)
    np.testing.assert_array_equal(few, many[:, :4])
    assert 10 < many[..., 0].mean() < 22
    assert 4 < many[..., 1].mean() < 7


def test_observations_do_not_change_the_episodes():
    greedy = solutions_of_scheme(SCHEMES["shortest-queue"])
    rows = []
    for observation in ("paper", "marginal"):
        task = task_in(SYSTEMS["edges-3"], {"observation": observation})
        solution = greedy[0]
        if observation == "paper":
            [solution] = solutions_of_scheme(offloading.Scheme(
                "x", settings={"rule": "shortest_queue"}, observation="paper"))  # fmt: skip
        rows.append(totals(task, [solution], episodes=6))
    np.testing.assert_array_equal(rows[0], rows[1])


def test_what_was_played_is_not_played_again(tmp_path, monkeypatch):
    solutions = solutions_of_scheme(SCHEMES["cloud"])
    arguments = {"observation": "marginal"}
    systems = [SYSTEMS["edges-1"]]
    play("cloud", solutions, arguments, systems=systems, episodes=3, output=tmp_path)
    play("trained.7", solutions, arguments, systems=systems, episodes=3, output=tmp_path)

    def refuse(*_args, **_kwargs):
        raise AssertionError("played again")

    with monkeypatch.context() as patch:
        patch.setattr(offloading, "totals", refuse)
        play("cloud", solutions, arguments, systems=systems, episodes=2, output=tmp_path)
    play("cloud", solutions, arguments, systems=systems, episodes=4, output=tmp_path)
    found = load_totals(tmp_path)["edges-1"]
    assert {name: [run.shape for run in runs] for name, runs in found.items()} == {
        "cloud": [(1, 4, 2)],
        "trained": [(1, 3, 2)],
    }


def test_an_interval_of_a_mean_is_that_of_its_standard_error():
    runs = [made_up(episodes=400)]
    found = Resampler(2000).statistic(runs, lambda means: means[:, 0, 0], episodes=400)
    value, low, high = found.record(6)
    error = runs[0][0, :, 0].std() / 20
    assert value == pytest.approx(runs[0][0, :, 0].mean(), abs=1e-6)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_seeds_widen_the_interval():
    same = [made_up(), made_up()]
    apart = [made_up(-3.0), made_up(3.0)]
    widths = []
    for runs in (same, apart):
        _, low, high = SMALL.statistic(runs, lambda means: means[:, 0, 0], episodes=40).record(6)
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_pairs_have_narrower_intervals_than_each_alone():
    system = SYSTEMS[MAIN]
    worse, better = [made_up()], [made_up(-1.0)]
    value, low, high = compared(system, better, worse, SMALL)
    assert 1.0 < low < value < high
    [first, second] = Figures(system, {"greedy": worse, "other": better}, SMALL).rows()
    assert first["of_greedy"] == [1.0, 1.0, 1.0]
    assert second["of_greedy"] == pytest.approx([value, low, high])
    alone = second["hypervolume"]
    assert (alone[2] - alone[1]) / alone[0] > 5 * (high - low)
    ratio = Resampled(2.0, np.array([1.0, 3.0])) / Resampled(4.0, np.array([2.0, 2.0]))
    assert ratio.value == 0.5
    np.testing.assert_array_equal(ratio.replicates, [0.5, 1.5])


def test_fewer_episodes_are_carried_over_by_their_ratio():
    system = SYSTEMS[MAIN]
    whole = [made_up(episodes=200)]
    part = [whole[0][:, :20]]
    found = Figures(system, {"greedy": whole, "same": part}, SMALL).rows()
    rows = {row["scheme"]: row for row in found}
    for name in ("hypervolume", "delay_minutes", "energy_joules", "scaled_return"):
        assert rows["same"][name][0] == pytest.approx(rows["greedy"][name][0])
    assert rows["same"]["episodes"] == 20
    with pytest.raises(OffloadingBenchError, match="play it first"):
        Figures(system, {"same": part}, SMALL)


def test_scaled_returns_are_means_over_preferences_by_hand():
    # 10 minutes and 2 J whatever is asked: half of (0.01 * 600 + 5 * 2), negated.
    single = np.broadcast_to([10.0, 2.0], (1, 5, 2))
    rows = Figures(SYSTEMS[MAIN], {"greedy": [single]}, SMALL).rows()
    assert rows[0]["scaled_return"] == pytest.approx([-8.0] * 3)
    assert rows[0]["delay_minutes"][0] == 10.0
    assert rows[0]["energy_joules"][0] == 2.0


def test_a_front_keeps_what_is_not_beaten():
    points = np.array([[20.0, 4.0], [15.0, 5.0], [25.0, 4.5], [15.0, 6.0]])
    assert front(points[:, None]) == [[15.0, 5.0], [20.0, 4.0]]


def test_pictures_show_fronts_of_common_episodes():
    many, few = made_up(episodes=30), made_up(episodes=10)
    found = fronts({"greedy": [many], "random": [few], "greedy-4": [few[:, :2]]})
    assert found == {"greedy": front(many[:, :10]), "random": front(few)}


def test_the_error_of_generalisation_is_the_shortfall_against_training_there():
    system = SYSTEMS["edges-9"]
    ours, general, special = [made_up(1.0)], [made_up()], [made_up(-1.0)]
    played = {"edges-9": {"greedy": ours, "gmorl": ours, "wide": general}}
    [row] = generalisation([system], played, SMALL, {"gmorl": "wide"})
    assert row["error"][0] == pytest.approx(1 - compared(system, ours, general, SMALL)[0])
    assert row["error"][1] <= row["error"][0] <= row["error"][2]
    played["edges-9"]["wide@edges-9"] = special
    [other] = generalisation([system], played, SMALL, {"gmorl": "wide"})
    assert other["trained_there"] == "wide@edges-9"
    assert other["error"][0] > row["error"][0] > 0
    assert generalisation([system], played, SMALL, {"gmorl": "nobody"}) == []


def test_a_record_becomes_tables_and_pictures():
    played = {
        name: {
            "greedy": [made_up()],
            "random": [made_up(12.0)],
            "gmorl": [made_up(-0.5, episodes=20), made_up(-0.3, episodes=20)],
            "linucb": [made_up(4.0)],
        }
        for name in ("edges-3", MAIN, "edges-9", "cloud-5")
    }
    found = record(played, SMALL, trained_there={"gmorl": "greedy"})
    text = tables(found)
    for words in ("### Six edge servers", "### The paper's table", "| GMORL | 2 | 20 |", "64.1",
                  "### By frequencies", "cloud of 5 GHz", "### Generalisation"):  # fmt: skip
        assert words in text
    order = [line.split(" | ")[0] for line in text.splitlines()[4:8]]
    assert order == ["| GMORL", "| greedy", "| LinUCB", "| random, swept"]
    assert len(fronts_figure(found).axes) == 3
    assert len(edges_figure(found).axes) == 1
    page = with_results(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new")
    assert page == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(OffloadingBenchError, match="lacks the marks"):
        with_results("nothing", "new")
    with pytest.raises(OffloadingBenchError, match="nothing was played"):
        record({}, SMALL)


def test_policies_of_a_run_are_played_in_other_systems(tmp_path):
    config = RunConfig(
        env=EnvConfig(offloading.ID, kwargs={"contexts": "train"}),
        agent="linucb",
        agent_config=BanditConfig(num_envs=4, divisions=4, reward_scales=(0.01, 5.0)),
        steps=800,
        selection_episodes=2,
        report_episodes=2,
        out=str(tmp_path / "runs"),
    )
    run(config, say=lambda line: None)
    folder = run_folder(config)
    read, solutions = solutions_of_run(folder)
    assert read.deciding() == config.deciding()
    assert len(solutions) == 101
    assert all(isinstance(solution, Solution) for solution in solutions)
    code = offloading.main(
        ["--run", "bandit", str(folder), "--systems", "edges-2", "--episodes", "2",
         "--output", str(tmp_path)]
    )  # fmt: skip
    assert code == 0
    assert load_totals(tmp_path)["edges-2"]["bandit"][0].shape == (101, 2, 2)


def test_baselines_are_trained_as_published():
    bandit = training("linucb", 3)
    assert bandit.env.kwargs == {"observation": "paper", "contexts": "train"}
    assert (bandit.seed, bandit.steps) == (3, 1_000_000)
    annealed = training("annealing", 0, edges=2)
    assert annealed.env.kwargs == {"observation": "marginal", "edges": 2}
    # 10,000 episodes of 100 steps for each of 101 preferences.
    assert annealed.steps == 10_000 * 100 * 101
    with pytest.raises(OffloadingBenchError, match="does not learn"):
        training("greedy", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fastest"], "no scheme 'fastest'; there are random"),
        (["greedy", "--systems", "edges-11"], "no system 'edges-11'"),
        (["--run", "greedy", "folder"], "needs a name of its own"),
        (["--run", "mine"], "a folder for each seed"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(arguments, message, capsys, tmp_path):
    assert offloading.main([*arguments, "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_page_shows_the_committed_record():
    assert tables(read_json(RECORD)) in PAGE.read_text()


def test_the_report_says_that_nothing_was_played(tmp_path, capsys):
    assert offloading_report.main(["--played", str(tmp_path)]) == 1
    assert "nothing was played" in capsys.readouterr().err


def test_anchors_of_the_environment_are_those_of_the_record():
    rows = {row["scheme"]: row for row in read_json(RECORD)["rows"] if row["system"] == MAIN}
    anchors = make_task(offloading.ID).spec.anchors
    for name, anchor in (
        ("greedy", "greedy heuristic"),
        ("shortest-edge-queue", "shortest edge queue"),
        ("shortest-queue", "shortest queue"),
    ):
        assert anchors[anchor] == pytest.approx(60 * rows[name]["hypervolume"][0], rel=0.01)
    assert make_task(offloading.ID, kwargs={"edges": 5}).spec.anchors == {}
