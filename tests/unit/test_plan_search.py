"""The search for plans of minecart, and the command that computes exact fronts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from morl.envs import fronts, make_task
from morl.envs.fronts import load, replay
from morl.envs.minecart import ACCELERATE, BRAKE, LEFT, MINE, NONE
from morl.experiments import fronts as solve_command
from morl.experiments import plan_search
from morl.experiments.plan_search import (
    BATCH,
    ENV,
    LONGEST,
    PlanSearch,
    padded,
    search,
    straight_trips,
)

TRIP = tuple(map(int, "312551114103133"))
"""Fetches one load of the second ore in 15 steps."""


@pytest.fixture(scope="module")
def task():
    return make_task(ENV)


def test_straight_trips_are_out_and_back():
    trips = set(itertools.islice(straight_trips(), 20_000))
    assert len(trips) > 10_000
    assert all(trip.count(BRAKE) == 1 for trip in trips)
    assert {trip.count(MINE) for trip in trips} == {0, 1, 2}
    for trip in itertools.islice(trips, 50):
        turn = trip.index(BRAKE) + 1 + trip.count(MINE)
        assert trip[turn : turn + 4] == (LEFT,) * 4
        assert trip[-1] in (ACCELERATE, NONE)


def test_plans_become_rows_of_equal_length():
    rows = padded([(1, 2), (3,)])
    assert rows.shape == (2, LONGEST)
    assert rows[0, :3].tolist() == [1, 2, NONE]
    assert (rows[1, 1:] == NONE).all()


def test_a_plan_is_kept_with_what_it_brings(task):
    seeker = PlanSearch(task, seed=0)
    seeker.try_plans(padded([TRIP, (NONE,) * 5]))
    assert list(seeker.found) == [(0.0, 0.8)]  # the other one stays at home
    ((steps, fuel, plan),) = seeker.found[(0.0, 0.8)]
    assert (steps, plan) == (15, TRIP)
    returns, ended = replay(task, [plan], discount=task.spec.discount)
    assert ended.all()
    np.testing.assert_allclose(returns[0, 0], [0, 0.8 * 0.98**14, fuel], rtol=1e-6)


def test_slower_plans_that_burn_more_are_dropped_faster_ones_kept(task):
    seeker = PlanSearch(task, seed=0)
    seeker.try_plans(padded([(NONE, *TRIP)]))
    seeker.try_plans(padded([TRIP]))
    assert [plan for _, _, plan in seeker.found[(0.0, 0.8)]] == [TRIP]
    thrifty = tuple(map(int, "31255111410311251"))
    seeker.try_plans(padded([thrifty]))
    kept = seeker.found[(0.0, 0.8)]
    assert [(steps, plan) for steps, _, plan in kept] == [(15, TRIP), (17, thrifty)]
    assert kept[1][1] > kept[0][1]


def test_variations_stay_plans(task):
    seeker = PlanSearch(task, seed=1)
    rows = padded([TRIP] * BATCH)
    varied = seeker._varied(rows, padded([(ACCELERATE,) * 20] * BATCH))
    assert varied.shape == rows.shape
    assert varied.min() >= 0
    assert varied.max() <= NONE
    lengths = {len(row) for row in (np.trim_zeros(plan - NONE, "b") for plan in varied)}
    assert {len(TRIP) - 1, len(TRIP), len(TRIP) + 1} <= lengths  # taken out, changed, put in
    assert (varied[:, -1] == NONE).all()


def test_a_search_finds_and_improves(task, monkeypatch, capsys):
    monkeypatch.setattr(plan_search, "known_plans", lambda: [TRIP])
    monkeypatch.setattr(plan_search, "straight_trips", lambda: iter([]))
    monkeypatch.setattr(plan_search, "ROUNDS", 5)
    plans = search(seconds=0.01, seed=3)
    assert len(plans) > 5
    _, ended = replay(task, plans, discount=0.98)
    assert ended.all()
    assert "hypervolume" in capsys.readouterr().err


def test_a_search_starts_from_what_is_stored():
    stored = load(ENV).at(0.98)
    assert set(plan_search.known_plans()) == set(stored.plans)


def test_exact_fronts_can_be_computed_anew(tmp_path, capsys):
    words = ["deep-sea-treasure-v0", "--output", str(tmp_path)]
    assert solve_command.main(words) == 0
    path = tmp_path / "deep-sea-treasure-v0.json"
    assert path.read_bytes() == (fronts.FOLDER / path.name).read_bytes()
    assert "10 points at 0.99" in capsys.readouterr().out
