"""A study runs to its exact total, goes on where it was, and refuses to be mixed up."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from cheap_studies import Knobs, Runs, Started, quality, space

from morl.hpo import files
from morl.hpo.identity import Owner
from morl.hpo.racing import race, validate, validation
from morl.hpo.standings import candidates, front, search_standings
from morl.hpo.study import differences, open_study
from morl.hpo.summary import importances, read_summary, summarise
from morl.hpo.types import (
    Objective,
    RaceConfig,
    Report,
    StudyError,
    StudyMismatchError,
    TrialOutcome,
    TrialPruned,
    TrialRequest,
    TrialsCrashError,
)
from morl.hpo.worker import work
from morl.pareto import nondominated
from morl.types import MorlError


@pytest.fixture
def started(tmp_path: Path) -> Started:
    return Started(tmp_path / "study")


def begun(log: Path) -> list[str]:
    """Names of runs that were begun, without their moment, sorted."""
    return sorted(file.name.rpartition("-")[0] for file in log.iterdir())


def test_a_study_searches_races_and_tests(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    study = open_study(started.config(), space(), folder=started.folder)
    assert work(study, Runs(log=log))
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert {trial.state for trial in trials} == {"complete"}
    for trial in trials:
        assert trial.values == (quality(trial.settings, 100),)
    best = sorted(trials, key=lambda trial: (-trial.values[0], trial.number))
    raced = {(run.number, run.runs[0].seed) for run in study.trials("race")}
    assert raced == {(one.number, seed) for one in best[:2] for seed in (10, 11)}
    summary = summarise(study)
    assert summary.winner is not None
    assert summary.winner.number == best[0].number
    # Seeds 100, 10, 11 bring luck of 2, 3, 4.
    quality_of_best = quality(best[0].settings, 0)
    assert summary.winner.score == pytest.approx(quality_of_best + 3.0)
    assert summary.winner.seeds == (100, 10, 11)
    found = summary.validation
    assert found is not None
    # Seeds 20, 21, 22 bring 6, 0, 1.
    assert found.tuned == pytest.approx([quality_of_best + luck for luck in (6, 0, 1)])
    assert found.defaults == pytest.approx([quality({}, seed) for seed in (20, 21, 22)])
    assert found.difference.estimate == pytest.approx(quality_of_best - quality({}, 0))
    assert found.optimism == pytest.approx(3.0 - 7 / 3)
    assert summary.finished
    assert summary.cost["env_steps"] == 300 * (12 + 4 + 6)
    expected = [f"search-{n}-100" for n in range(12)]
    expected += [f"race-{one.number}-{seed}" for one in best[:2] for seed in (10, 11)]
    expected += [f"test-{n}-{seed}" for n in (0, best[0].number) for seed in (20, 21, 22)]
    assert begun(log) == sorted(expected)


def test_the_first_trial_runs_the_defaults_untouched(started: Started) -> None:
    study = open_study(
        started.config(n_trials=2), space(batch={"tie": "n * 32"}), folder=started.folder
    )
    seen = []

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        seen.append(request)
        return Runs()(request, report)

    work(study, run, stages=["search"])
    assert seen[0].params == {}
    assert study.trials()[0].sampled == space().defaults
    assert seen[1].params["batch"] == 32 * seen[1].params["n"]


def test_a_request_says_all_that_a_run_needs(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    seen: list[TrialRequest] = []

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        assert request.folder.is_dir()
        seen.append(request)
        return Runs()(request, report)

    work(study, run)
    first, last = seen[3], seen[-1]
    assert (first.stage, first.trial, first.seed, first.budget) == ("search", 3, 100, 300)
    assert first.folder == started.folder / "trials" / "00003" / "seed_100"
    assert (last.stage, last.seed) == ("test", 22)
    winner = study.trials()[last.trial]
    assert last.params == winner.settings


def test_every_result_is_a_file_too(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    work(study, Runs())
    summary = summarise(study)
    run = json.loads((started.folder / "trials/00004/seed_100" / files.RUN).read_text())
    assert run["values"]["hypervolume"] == summary.trials[4].values[0]
    assert run["curve"][-1] == [300, run["values"]["hypervolume"]]
    trial = json.loads((started.folder / "trials/00004" / files.TRIAL).read_text())
    assert trial["settings"] == summary.trials[4].settings
    assert trial["state"] == "complete"
    assert (started.folder / "test/00000/seed_20" / files.RUN).exists()
    record = read_summary(started.folder)
    assert record["standings"][0]["number"] == summary.standings[0].number
    assert record["validation"]["difference"]["estimate"] == pytest.approx(
        summary.validation.difference.estimate  # type: ignore[union-attr]
    )


def test_files_that_a_killed_worker_left_out_are_made_up_for(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    work(study, Runs())
    before = (started.folder / "trials/00004/seed_100" / files.RUN).read_bytes()
    shutil.rmtree(started.folder / "trials" / "00004")
    torn = started.folder / "trials/00005" / files.TRIAL
    whole = torn.read_bytes()
    torn.write_bytes(b"")
    summarise(study)
    assert (started.folder / "trials/00004/seed_100" / files.RUN).read_bytes() == before
    assert (started.folder / "trials/00004" / files.TRIAL).exists()
    assert torn.read_bytes() == whole


def test_the_same_command_again_does_nothing_more(started: Started, tmp_path: Path) -> None:
    for _ in range(2):
        study = open_study(started.config(), space(), folder=started.folder)
        assert work(study, Runs())
    log = tmp_path / "log"
    log.mkdir()
    work(open_study(started.config(), space(), folder=started.folder), Runs(log=log))
    assert begun(log) == []
    assert len(study.optuna_study("search").trials) == 12


def test_more_trials_may_be_asked_for_and_what_was_raced_is_kept(
    started: Started, tmp_path: Path
) -> None:
    first = open_study(started.config(), space(), folder=started.folder)
    work(first, Runs())
    log = tmp_path / "log"
    log.mkdir()
    more = open_study(started.config(n_trials=30), space(), folder=started.folder)
    assert work(more, Runs(log=log))
    assert [trial.state for trial in more.trials()] == ["complete"] * 30
    names = begun(log)
    assert [name for name in names if name.startswith("search")] == sorted(
        f"search-{n}-100" for n in range(12, 30)
    )
    kept = {standing.number for standing in search_standings(more)[:2]} & {
        standing.number for standing in search_standings(first)[:2]
    }
    assert not any(name.startswith(f"race-{number}-") for number in kept for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 600}, "budget: 300 when it was begun, 600 now"),
        ({"tuning_seeds": (1, 2)}, r"tuning_seeds: \[100\] when it was begun, \[1,2\] now"),
        ({"objectives": (Objective(direction="minimize"),)}, 'objectives.0.direction: "maximize" '),
        ({"objectives": (Objective("speed"),)}, 'metric: "hypervolume" when .*"speed" now'),
        ({"sampler": "sobol"}, 'sampler: "random" when it was begun, "sobol" now'),
        ({"context": {"env": "other"}}, 'context.env: not there when it was begun, "other" now'),
        ({"n_trials": 3}, "n_trials: 12 are begun, 3 asked for now"),
    ],
)  # fmt: skip
def test_a_study_of_other_settings_is_refused_with_the_difference(
    started: Started, change: dict[str, Any], message: str
) -> None:
    work(open_study(started.config(), space(), folder=started.folder), Runs())
    with pytest.raises(StudyMismatchError, match=message) as caught:
        open_study(started.config(**change), space(), folder=started.folder)
    assert len(caught.value.differences) == 1
    assert open_study(started.config(), space(), folder=started.folder)


def test_a_study_of_another_space_is_refused_with_the_difference(started: Started) -> None:
    open_study(started.config(), space(), folder=started.folder)
    with pytest.raises(StudyMismatchError, match=r"rate.high: 1.0 when it was begun, 0.1"):
        open_study(started.config(), space(rate={"high": 0.1}), folder=started.folder)
    with pytest.raises(StudyMismatchError, match=r"space.n.high: 16 when it was begun, not there"):
        open_study(started.config(), space(n=None), folder=started.folder)


def test_what_does_not_decide_may_change(started: Started) -> None:
    open_study(started.config(), space(), folder=started.folder)
    open_study(
        started.config(workers=3, stale_after=5.0, test_seeds=(50, 51)),
        space(),
        folder=started.folder,
    )


def test_the_method_is_resolved_once(started: Started) -> None:
    config = started.config(sampler="auto", pruner="auto", n_trials=100)
    assert open_study(config, space(), folder=started.folder).sampler == "gp"
    more = open_study(replace(config, n_trials=400), space(), folder=started.folder)
    assert (more.sampler, more.pruner) == ("gp", "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuning_seeds": (12, 13), "test_seeds": (12, 20)},
         r"tuning_seeds and test_seeds share \[12\]: test seeds must be fresh"),
        ({"race": RaceConfig(seeds=(20,))}, r"race.seeds and test_seeds share \[20\]"),
        ({"race": RaceConfig(seeds=(100,))}, r"tuning_seeds and race.seeds share \[100\]"),
        ({"tuning_seeds": ()}, "tuning_seeds: at least one"),
        ({"tuning_seeds": (1, 1)}, "tuning_seeds: a seed stands there twice"),
        ({"test_seeds": (1,)}, "test_seeds: one seed has no interval"),
        ({"n_trials": 0}, "n_trials must be at least 1, got 0"),
        ({"stale_after": 0.0}, "stale_after must be positive"),
        ({"sampler": "gpp"}, "sampler must be one of auto, .*; got 'gpp', did you mean 'gp'"),
        ({"pruner": "medain"}, "did you mean 'median'"),
        ({"objectives": ()}, "objectives: at least one"),
        ({"objectives": (Objective(), Objective())}, "objectives: one stands there twice"),
        ({"objectives": (Objective(direction="up"),)}, "direction of hypervolume must be one of"),
        ({"objectives": (Objective(variance_penalty=1.0),)}, "there is one tuning seed"),
        ({"objectives": (Objective(aggregate="std", direction="minimize"),)}, "one tuning seed"),
        ({"objectives": (Objective(diverged=float("nan")),)}, "diverged must be finite"),
        ({"objectives": (Objective(), Objective("speed")), "pruner": "median"},
         "several objectives has no order to prune by"),
        ({"objectives": (Objective(), Objective("speed")), "sampler": "cmaes"}, "one objective"),
        ({"storage": "mongodb://x"}, "expected journal://"),
        ({"max_retries": -1}, "must not be negative"),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused_before_any_trial(
    started: Started, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        open_study(started.config(**change), space(), folder=started.folder)
    assert not (started.folder / "study.journal").exists()


def test_pruned_trials_stop_early_and_count(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    config = started.config(
        n_trials=30, pruner="median", tuning_seeds=(100, 101), evaluations=6, budget=600
    )
    study = open_study(config, space(), folder=started.folder)
    work(study, Runs(log=log), stages=["search"])
    trials = study.trials()
    pruned = [trial for trial in trials if trial.state == "pruned"]
    complete = [trial for trial in trials if trial.state == "complete"]
    assert len(pruned) + len(complete) == 30
    assert len(pruned) >= 10
    worst = min(trial.values[0] for trial in complete[5:])
    # Values rise in proportion here, so that who is pruned is worse than the median for certain.
    assert all(quality(trial.settings, 100) <= np.median(
        [quality(one.settings, 100) for one in trials[: trial.number]]
    ) for trial in pruned)  # fmt: skip
    assert worst > min(quality(trial.settings, 100) for trial in pruned)
    assert all(trial.abandoned["env_steps"] < 600 for trial in pruned if not trial.runs)
    assert all(trial.error.startswith("pruned at step") for trial in pruned)
    assert len(begun(log)) == sum(len(trial.runs) + bool(trial.abandoned) for trial in trials)
    # The first comparison is at a third of the first run.
    first = study.optuna_study("search").trials
    assert min(trial.last_step for trial in first if trial.state.name == "PRUNED") == 2


def test_a_run_may_leave_by_an_exception_when_it_is_pruned(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        if report(100, quality(request.params, request.seed)):
            raise TrialPruned
        return Runs()(request, report)

    config = started.config(n_trials=20, pruner="median")
    study = open_study(config, space(), folder=started.folder)
    work(study, run, stages=["search"])
    assert {trial.state for trial in study.trials()} == {"pruned", "complete"}


def test_a_run_that_gives_up_by_itself_is_a_crash(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        if request.trial == 1:
            raise TrialPruned
        return Runs()(request, report)

    study = open_study(started.config(n_trials=2), space(), folder=started.folder)
    work(study, run, stages=["search"])
    assert study.trials()[1].state == "crashed"
    assert "nothing had told it to" in study.trials()[1].error


def test_diverged_runs_have_the_worst_value(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        outcome = Runs(diverge=frozenset({1}))(request, report)
        if request.trial == 2:
            return replace(outcome, values={"hypervolume": float("nan")})
        if request.trial == 3:
            return replace(outcome, diverged=True)
        return outcome

    study = open_study(started.config(n_trials=5), space(), folder=started.folder)
    work(study, run, stages=["search"])
    trials = study.trials()
    assert [trial.state for trial in trials] == ["complete"] * 5
    assert [trial.values[0] for trial in trials[1:4]] == [0.0, 0.0, 0.0]
    assert [trial.runs[0].diverged for trial in trials] == [False, True, True, True, False]
    assert trials[1].runs[0].details == {"error": "loss is nan"}


def test_values_that_are_not_finite_on_the_way_count_as_the_worst(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        report(100, float("inf"))
        report(200, float("nan"))
        return TrialOutcome(values={"hypervolume": 5.0})

    study = open_study(started.config(n_trials=1, pruner="median"), space(), folder=started.folder)
    work(study, run, stages=["search"])
    trial = study.optuna_study("search").trials[0]
    assert trial.intermediate_values == {1: 0.0, 2: 0.0, 3: 5.0}


def test_steps_are_rounded_to_the_paired_points(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        for step, value in ((3, 9.0), (96, 1.0), (110, 2.0), (205, 3.0), (300, 4.0)):
            report(step, value)
        return TrialOutcome(values={"hypervolume": 6.0})

    config = started.config(n_trials=1, tuning_seeds=(1, 2))
    study = open_study(config, space(), folder=started.folder)
    work(study, run, stages=["search"])
    trial = study.optuna_study("search").trials[0]
    # The first seed as told; the second as the mean with the first one's final 6.
    assert trial.intermediate_values == {1: 1.0, 2: 3.0, 3: 4.0, 4: 3.5, 5: 4.5, 6: 5.0}


def test_crashes_are_recorded_once_and_the_rest_goes_on(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    study = open_study(started.config(), space(), folder=started.folder)
    assert work(study, Runs(crash=frozenset({2, 5}), log=log))
    states = [trial.state for trial in study.trials()]
    assert [n for n, state in enumerate(states) if state == "crashed"] == [2, 5]
    assert study.trials()[5].error == "RuntimeError: no luck with trial 5"
    text = (started.folder / "trials/00005" / files.ERROR).read_text()
    assert "Traceback" in text
    assert "no luck with trial 5" in text
    assert begun(log).count("search-2-100") == 1


def test_a_study_in_which_nothing_works_stops(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    study = open_study(started.config(max_crashes=3), space(), folder=started.folder)
    with pytest.raises(TrialsCrashError, match=r"3 trials ended in an error.*no luck"):
        work(study, Runs(crash=frozenset(range(12)), log=log))
    assert len(begun(log)) == 3
    # Mended, the same command goes on.
    assert work(study, Runs())
    assert [trial.state for trial in study.trials()].count("complete") == 9


def test_a_run_without_the_objective_is_a_crash_that_says_so(started: Started) -> None:
    study = open_study(started.config(max_crashes=1), space(), folder=started.folder)
    with pytest.raises(TrialsCrashError, match="returned no hypervolume; it has: speed"):
        work(study, lambda *_: TrialOutcome(values={"speed": 1.0}))


def test_a_stopped_worker_leaves_its_trial_to_the_next(started: Started, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    study = open_study(started.config(), space(), folder=started.folder)
    told: list[int] = []

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        def reporting(step: int, value: float) -> bool:
            if request.trial == 3 and step == 200:
                told.append(step)
            return report(step, value)

        return Runs(log=log)(request, reporting)

    assert not work(study, run, stop=lambda: bool(told))
    assert len(told) == 1
    assert study.trials()[3].state == "waiting"
    before = study.trials()[3].sampled
    again = open_study(started.config(), space(), folder=started.folder)
    assert work(again, Runs(log=log))
    assert again.trials()[3].sampled == before
    assert begun(log).count("search-3-100") == 2
    assert begun(log).count("search-2-100") == 1


def test_an_interrupt_leaves_the_trial_to_the_next_and_is_passed_on(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        raise KeyboardInterrupt

    study = open_study(started.config(), space(), folder=started.folder)
    with pytest.raises(KeyboardInterrupt):
        work(study, run)
    assert work(study, Runs())
    assert study.trials()[0].attempts == 2


def test_finished_seeds_of_an_interrupted_trial_are_not_run_again(
    started: Started, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.mkdir()

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        if request.seed == 102:
            raise KeyboardInterrupt
        return Runs(log=log)(request, report)

    config = started.config(n_trials=1, tuning_seeds=(101, 102, 103), test_seeds=())
    study = open_study(config, space(), folder=started.folder)
    with pytest.raises(KeyboardInterrupt):
        work(study, run)
    work(study, Runs(log=log), stages=["search"])
    assert begun(log) == ["search-0-101", "search-0-102", "search-0-103"]
    [trial] = study.trials()
    assert [run.seed for run in trial.runs] == [101, 102, 103]
    assert trial.values[0] == pytest.approx(np.mean([quality({}, s) for s in (101, 102, 103)]))


def test_a_study_does_not_depend_on_interruptions(started: Started, tmp_path: Path) -> None:
    config = started.config(sampler="tpe", pruner="median", n_trials=25, tuning_seeds=(100, 101))
    whole = open_study(config, space(), folder=tmp_path / "whole")
    work(whole, Runs(), stages=["search"])
    moments = iter([3, 11, 12, 30, 47])

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return Runs()(request, report)

    while True:
        left = next(moments, 1000)
        study = open_study(config, space(), folder=started.folder)
        try:
            if work(study, run, stages=["search"]):
                break
        except KeyboardInterrupt:
            continue
    assert [t.sampled for t in study.trials()] == [t.sampled for t in whole.trials()]
    assert [t.values for t in study.trials()] == [t.values for t in whole.trials()]


def test_race_and_test_can_be_asked_for_by_themselves(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    with pytest.raises(StudyError, match="the race begins when the search is finished"):
        race(study, Runs())
    work(study, Runs(), stages=["search"])
    assert validation(study) is None
    standings = race(study, Runs())
    assert len(standings) == 2
    found = validate(study, Runs())
    assert found is not None
    assert found.number == standings[0].number


def test_the_race_can_turn_the_order_round(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        value = quality(request.params, 0)
        if request.stage == "search" and request.trial == 7:
            value += 1000.0  # a lucky seed
        return TrialOutcome(values={"hypervolume": value - 2000.0 * (
            request.stage == "race" and request.trial == 7)})  # fmt: skip

    study = open_study(started.config(), space(), folder=started.folder)
    work(study, run)
    summary = summarise(study)
    assert search_standings(study)[0].number == 7
    assert [standing.number for standing in summary.standings][1] == 7
    assert summary.validation is not None
    assert summary.validation.number == summary.standings[0].number != 7


def test_a_configuration_that_crashes_in_the_race_is_out(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        if request.stage == "race" and request.seed == 11 and request.trial == best:
            raise RuntimeError("too large")
        return Runs()(request, report)

    study = open_study(started.config(), space(), folder=started.folder)
    work(study, Runs(), stages=["search"])
    best = search_standings(study)[0].number
    work(study, run)
    assert [standing.number for standing in summarise(study).standings] == [
        search_standings(study)[1].number
    ]


def test_defaults_that_win_are_no_gain(started: Started) -> None:
    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        value = 1000.0 if not request.params else quality(request.params, 0)
        return TrialOutcome(values={"hypervolume": value + request.seed % 3})

    study = open_study(started.config(), space(), folder=started.folder)
    work(study, run)
    found = summarise(study).validation
    assert found is not None
    assert (found.number, found.difference.low, found.gain) == (0, 0.0, False)


def test_minimised_objectives_are_minimised_throughout(started: Started) -> None:
    config = started.config(objectives=(Objective("speed", direction="minimize", diverged=9e9),))
    study = open_study(config, space(), folder=started.folder)
    work(study, Runs())
    summary = summarise(study)
    values = [trial.values[0] for trial in summary.trials]
    assert summary.winner is not None
    assert summary.winner.tuning_score == min(values)
    assert summary.validation is not None
    assert summary.validation.difference.estimate > 0.0
    assert study.progress().best == min(values)


def test_several_objectives_give_a_front_and_no_winner(started: Started) -> None:
    config = started.config(
        sampler="auto", pruner="auto", n_trials=15,
        objectives=(Objective(), Objective("speed", direction="minimize")),
    )  # fmt: skip

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        report(100, 1.0)
        x = request.params.get("x", 0.5)
        return TrialOutcome(values={"hypervolume": x + request.seed % 3, "speed": x * x})

    study = open_study(config, space(), folder=started.folder)
    assert study.config.stages == ("search", "test")
    assert (study.sampler, study.pruner) == ("tpe", "none")
    work(study, run)
    summary = summarise(study)
    points = np.array([trial.values for trial in summary.trials]) * [1, -1]
    kept = np.flatnonzero(nondominated(points)).tolist()
    assert list(summary.front) == kept == front(study)
    assert summary.standings == ()
    assert summary.validation is None
    assert len(candidates(study)) == 1 + len(set(kept) - {0}) if len(kept) <= 2 else 3
    assert set(summary.front_test) == set(candidates(study))
    assert all(len(runs) == 3 for runs in summary.front_test.values())
    optuna_study = study.optuna_study("search")
    assert {t.number for t in optuna_study.best_trials} <= set(kept)


def test_the_spread_can_be_an_objective(started: Started) -> None:
    config = started.config(
        tuning_seeds=(100, 101, 102), n_trials=3,
        objectives=(Objective(), Objective(aggregate="std", direction="minimize")),
    )  # fmt: skip
    study = open_study(config, space(), folder=started.folder)
    work(study, Runs(), stages=["search"])
    for trial in study.trials():
        values = [quality(trial.settings, seed) for seed in (100, 101, 102)]
        assert trial.values == pytest.approx([np.mean(values), np.std(values, ddof=1)])


def test_a_study_without_race_and_test_ends_with_the_search(started: Started) -> None:
    config = started.config(race=RaceConfig(top_k=0), test_seeds=())
    study = open_study(config, space(), folder=started.folder)
    assert work(study, Runs())
    assert study.config.stages == ("search",)
    summary = summarise(study)
    assert summary.finished
    assert summary.winner is not None
    assert summary.winner.number == search_standings(study)[0].number
    assert summary.validation is None


def test_progress_counts(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    assert study.progress().runs_total == 12 + 4 + 6
    seen = []

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        seen.append(study.progress())
        return Runs(crash=frozenset({2}))(request, report)

    work(study, run)
    assert [p.done for p in seen[:12]] == list(range(12))
    assert all(p.running == 1 for p in seen[:12])
    assert [p.failed for p in seen[2:4]] == [0, 1]
    assert [p.stage for p in seen[11:13]] == ["search", "race"]
    last = study.progress()
    assert (last.stage, last.runs_done, last.runs_total) == ("done", 21, 21)
    assert last.seconds_left(2) == 0.0
    best = max(trial.values[0] for trial in study.trials() if trial.values)
    assert last.best == best
    assert study.trials()[last.best_number or 0].values == (best,)


def test_time_left_is_shared_by_workers(started: Started) -> None:
    study = open_study(started.config(), space(), folder=started.folder)
    found = replace(study.progress(), runs_done=2, runs_total=12, seconds_a_run=3.0)
    assert found.seconds_left(1) == 30.0
    assert found.seconds_left(4) == 9.0
    assert replace(found, seconds_a_run=None).seconds_left(4) is None


def test_importances_find_what_matters(started: Started) -> None:
    config = started.config(n_trials=60, race=RaceConfig(top_k=0), test_seeds=())
    study = open_study(config, space(), folder=started.folder)
    assert importances(study) == {}
    work(study, Runs())
    found = importances(study)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["x"] > found["rate"]
    assert found["n"] > found["rate"]


def test_the_same_study_on_sqlite(started: Started) -> None:
    journal = open_study(started.config(), space(), folder=started.folder)
    work(journal, Runs(), stages=["search"])
    config = started.config(storage="sqlite://", n_trials=6)
    database = open_study(config, space(), folder=started.folder)
    work(database, Runs(), stages=["search"])
    assert [t.sampled for t in database.trials()] == [t.sampled for t in journal.trials()[:6]]
    assert (started.folder / "study.db").exists()


def test_two_studies_share_a_storage(started: Started, tmp_path: Path) -> None:
    storage = f"journal://{tmp_path / 'common'}"
    for name, budget in (("one", 300), ("two", 600)):
        config = started.config(name=name, budget=budget, storage=storage, n_trials=3)
        study = open_study(config, space(), folder=tmp_path / name)
        work(study, Runs())
        assert len(study.trials()) == 3
    names = optuna.get_all_study_names(study.storage)
    assert {"one", "two", "one.race", "two.test"} <= set(names)


def test_differences_of_nested_records_are_named_by_their_path() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 1}]}
    now = {"a": {"b": 1.5, "c": [1, 2]}, "d": [{"e": 1}, {"e": 2}]}
    assert differences(before, now) == [
        "a.b: 1 when it was begun, 1.5 now",
        "d.1.e: not there when it was begun, 2 now",
    ]
    assert differences(before, before) == []


def test_a_worker_that_was_replaced_drops_what_it_found(started: Started) -> None:
    study = open_study(started.config(n_trials=2), space(), folder=started.folder)
    other = open_study(started.config(n_trials=2), space(), folder=started.folder)

    def run(request: TrialRequest, report: Report) -> TrialOutcome:
        if request.trial == 0 and not seen:
            seen.append(request)
            running = study.optuna_study("search").trials[0]
            study.storage.set_trial_state_values(running._trial_id, optuna.trial.TrialState.FAIL)
            attempt = other.ledger("search").claim(Owner.here(1))
            assert attempt is not None
            assert attempt.task == "0"
            attempt.complete([77.0])
        return Runs()(request, report)

    seen: list[TrialRequest] = []
    assert work(study, run, stages=["search"])
    assert study.trials()[0].values == (77.0,)
    assert study.trials()[1].state == "complete"


def test_knobs_refuse_what_the_space_must_not_reach() -> None:
    with pytest.raises(ValueError, match="x must be in"):
        Knobs(x=2.0)


def test_a_storage_in_a_file_is_refused(started: Started, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = started.config(storage=f"journal://{tmp_path / 'file' / 'j'}")
    with pytest.raises(MorlError, match="file"):
        open_study(config, space(), folder=started.folder)
