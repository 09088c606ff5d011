"""Samplers, pruners and scores do what their names say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from cheap_studies import Runs, Started, space
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from morl.hpo.samplers import (
    GP_TRIALS,
    PairedMedianPruner,
    independent_sample,
    make_pruner,
    make_sampler,
    resolve_methods,
)
from morl.hpo.scoring import run_record, score, statistic
from morl.hpo.study import open_study
from morl.hpo.types import Objective, RaceConfig, StudyConfig, StudyError, TrialOutcome
from morl.hpo.worker import work


@pytest.mark.parametrize(
    ("settings", "methods"),
    [
        ({"n_trials": GP_TRIALS}, ("gp", "none")),
        ({"n_trials": GP_TRIALS + 1}, ("tpe", "median")),
        ({"n_trials": 40, "pruner": "median"}, ("tpe", "median")),
        ({"n_trials": 40, "pruner": "hyperband"}, ("tpe", "hyperband")),
        ({"n_trials": 400, "pruner": "none"}, ("tpe", "none")),
        ({"sampler": "random"}, ("random", "median")),
        ({"sampler": "gp"}, ("gp", "none")),
        ({"sampler": "gp", "pruner": "median"}, ("gp", "median")),
        ({"objectives": (Objective(), Objective("s"))}, ("tpe", "none")),
        ({"objectives": (Objective(), Objective("s")), "sampler": "nsga2"}, ("nsga2", "none")),
        ({"objectives": (Objective(aggregate="std"),), "n_trials": 400}, ("tpe", "none")),
    ],
)
def test_auto_is_resolved_by_the_size_and_kind_of_the_study(
    settings: dict[str, Any], methods: tuple[str, str]
) -> None:
    assert resolve_methods(StudyConfig(**settings)) == methods


def test_a_spread_cannot_be_pruned_by() -> None:
    config = StudyConfig(objectives=(Objective(aggregate="std"),), pruner="median")
    with pytest.raises(StudyError, match="known at the end only"):
        resolve_methods(config)


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_independent_samplers_depend_on_the_number_alone(sampler: Any) -> None:
    found = [independent_sample(sampler, space(), seed=1, number=n) for n in range(9)]
    again = [independent_sample(sampler, space(), seed=1, number=n) for n in reversed(range(9))]
    assert found == again[::-1]
    assert found[0] == space().defaults
    assert len({str(one) for one in found}) == 9
    assert found[1:] != [
        independent_sample(sampler, space(), seed=2, number=n) for n in range(1, 9)
    ]


def test_sobol_points_fill_the_space_evenly() -> None:
    points = [independent_sample("sobol", space(), seed=0, number=n) for n in range(1, 65)]
    x = sorted(float(point["x"]) for point in points if point is not None)  # type: ignore[arg-type]
    # A scrambled Sobol sequence has one point in each of 64 equal strips.
    assert [math.floor(64 * value) for value in x] == list(range(64))


def test_learning_samplers_are_not_independent() -> None:
    assert independent_sample("tpe", space(), seed=0, number=3) is None
    assert independent_sample("gp", space(), seed=0, number=0) == space().defaults


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "cmaes", "nsga2", "gp"])
def test_every_sampler_runs_a_study_and_the_learning_ones_learn(
    sampler: Any, tmp_path: Path
) -> None:
    config = Started(tmp_path).config(
        sampler=sampler, n_trials=14 if sampler == "gp" else 25, race=RaceConfig(top_k=0),
        test_seeds=(),
    )  # fmt: skip
    study = open_study(config, space(), folder=tmp_path)
    work(study, Runs())
    trials = study.trials()
    assert [trial.state for trial in trials] == ["complete"] * config.n_trials
    assert len({str(trial.sampled) for trial in trials}) == config.n_trials
    expected = {
        "gp": optuna.samplers.GPSampler,
        "tpe": optuna.samplers.TPESampler,
        "cmaes": optuna.samplers.CmaEsSampler,
        "nsga2": optuna.samplers.NSGAIISampler,
    }
    if sampler in expected:
        assert isinstance(study.optuna_study("search").sampler, expected[sampler])
        assert isinstance(make_sampler(sampler, seed=0, number=1), expected[sampler])
    if sampler == "gp":
        assert np.mean([trial.values[0] for trial in trials[11:]]) > np.mean(
            [trial.values[0] for trial in trials[:11]]
        )


def test_pruners_are_made_for_all_seeds_of_a_trial() -> None:
    median = make_pruner("median", evaluations=9, seeds=3)
    assert isinstance(median, PairedMedianPruner)
    assert median._warmup == 3
    hyperband = make_pruner("hyperband", evaluations=9, seeds=3)
    assert isinstance(hyperband, optuna.pruners.HyperbandPruner)
    assert (hyperband._min_resource, hyperband._max_resource) == (3, 27)
    assert isinstance(make_pruner("none", evaluations=9, seeds=3), optuna.pruners.NopPruner)
    assert make_pruner("median", evaluations=1, seeds=1)._warmup == 1  # type: ignore[attr-defined]


def trial(state: TrialState, *values: float) -> FrozenTrial:
    """A trial that told these values at steps 1, 2, ..."""
    return create_trial(
        state=state, value=1.0 if state == TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(values, start=1)),
    )  # fmt: skip


def asked(others: list[FrozenTrial], *values: float, direction: str = "maximize") -> bool:
    """Whether a trial with these values is given up among the others."""
    study = optuna.create_study(direction=direction)
    study.add_trials([*others, trial(TrialState.RUNNING, *values)])
    return PairedMedianPruner(warmup=2, startup=3).prune(study, study.trials[-1])


def test_the_worse_half_is_given_up_after_the_warm_up() -> None:
    others = [trial(TrialState.COMPLETE, v, v, v) for v in (1.0, 2.0, 3.0)]
    assert not asked(others, 0.0)
    assert asked(others, 9.0, 1.9)
    assert not asked(others, 0.0, 2.0)
    assert not asked(others[:2], 0.0, 0.0)
    assert asked(others, 0.0, 2.1, direction="minimize")
    assert not asked(others, 0.0, 2.0, direction="minimize")


def test_a_good_value_of_the_past_does_not_save_a_trial() -> None:
    others = [trial(TrialState.COMPLETE, v, v, v) for v in (1.0, 2.0, 3.0)]
    assert asked(others, 0.0, 9.0, 1.0)


def test_those_given_up_before_count_as_worse() -> None:
    complete = [trial(TrialState.COMPLETE, v, v, v) for v in (2.0, 3.0)]
    pruned = [trial(TrialState.PRUNED, 1.0, 1.0) for _ in range(3)]
    assert not asked([*complete, *pruned], 1.0, 1.5, 1.5)
    assert asked(complete + pruned[:1], 1.0, 1.5, 1.5)


def test_failed_trials_and_those_not_so_far_do_not_count() -> None:
    failed = [trial(TrialState.FAIL, 9.0, 9.0) for _ in range(5)]
    running = [trial(TrialState.RUNNING, 9.0) for _ in range(5)]
    assert not asked(failed + running, 0.0, 0.0)


def test_scores_by_hand() -> None:
    values = [1.0, 2.0, 6.0]  # mean 3, deviation sqrt((4 + 1 + 9) / 2) = sqrt(7)
    assert score(values, Objective()) == 3.0
    assert score(values, Objective(variance_penalty=2.0)) == pytest.approx(3 - 2 * 7**0.5)
    assert score(
        values, Objective(variance_penalty=2.0, direction="minimize")
    ) == pytest.approx(3 + 2 * 7**0.5)  # fmt: skip
    assert score(values, Objective(aggregate="std")) == pytest.approx(7**0.5)
    # The middle half of three: the 2 and a quarter of each neighbour.
    assert score(values, Objective(aggregate="iqm")) == pytest.approx((2 + 7 / 4) / 1.5)
    assert score([4.0], Objective(variance_penalty=2.0)) == 4.0
    assert Objective(aggregate="iqm").label == "hypervolume.iqm"


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(0.0, 3.0))
def test_the_statistic_of_the_bootstrap_is_the_score(values: list[float], penalty: float) -> None:
    objective = Objective(variance_penalty=penalty)
    stacked = np.array([values, values[::-1]])[:, :, None]
    expected = score(values, objective)
    assert np.allclose(statistic(objective)(stacked), [expected, expected], atol=1e-6)


def test_what_a_run_found_is_kept_as_plain_data() -> None:
    outcome = TrialOutcome(
        values={"hypervolume": np.float64(3.0), "igd": float("inf")},  # type: ignore[dict-item]
        curve=[(10, 1.0), (20, float("nan"))],
        cost={"cpu_s": 2.0, "bad": float("nan")},
    )
    record = run_record(outcome, [Objective()], seconds=1.5, steps=20)
    assert record == {
        "values": {"hypervolume": 3.0}, "curve": [[10, 1.0]], "diverged": False, "details": {},
        "cost": {"env_steps": 20, "cpu_s": 2.0, "seconds": 1.5},
    }  # fmt: skip
    lost = TrialOutcome(values={}, diverged=True)
    objectives = [Objective(), Objective("igd", direction="minimize", diverged=99.0)]
    record = run_record(lost, objectives, seconds=1.0, steps=20)
    assert record["values"] == {"hypervolume": 0.0, "igd": 99.0}
