"""``python -m morl.experiments.plan_search``: look for better plans of deterministic minecart.

Straight trips to every mine first, then mutation and crossover of what was found. Plans compete
within the ore that they bring home, so that no kind of trip is lost on the way. What is found goes
to `morl.envs.fronts.update_best_known`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from morl.envs import make_task
from morl.envs.fronts import FOLDER, Plan, front_of_plans, load, update_best_known
from morl.envs.minecart import ACCELERATE, BRAKE, LEFT, MINE, NONE, RIGHT
from morl.indicators import hypervolume
from morl.seeding import generator
from morl.types import Task

ENV = "minecart-deterministic-v0"
LONGEST = 60
BATCH = 4096
LEG = 8
"""Longest pattern of accelerating and rolling tried for one way."""

ROUNDS = 200
"""Batches of variations between two reports."""

METHOD = "straight trips, then mutation and crossover among plans that bring the same ore"

Plans = NDArray[np.int64]
"""Rows of actions, filled up with NONE, ``(plan, step)``."""


class PlanSearch:
    """Plans that are fast or thrifty for the ore they bring.

    Attributes:
        found: for each load of ore, plans as (steps, fuel, plan), none better than another in both.
    """

    def __init__(self, task: Task, *, seed: int) -> None:
        """Start without plans."""
        self.task = task
        self.found: dict[tuple[float, ...], list[tuple[int, float, Plan]]] = {}
        self._rng = generator(seed, "plan search")
        self._batch = task.make_vec(BATCH)

    @property
    def plans(self) -> list[Plan]:
        """All plans kept."""
        return [plan for trips in self.found.values() for _, _, plan in trips]

    def try_plans(self, plans: Plans) -> None:
        """Play up to `BATCH` plans and keep what is worth it."""
        rows = np.full((BATCH, LONGEST), NONE)
        rows[: len(plans)] = plans[:, :LONGEST]
        ores, fuel, steps = self._play(rows)
        for row in np.flatnonzero(steps[: len(plans)] > 0).tolist():
            self._keep(tuple(ores[row].round(6).tolist()), int(steps[row]), fuel[row], rows[row])

    def improve(self) -> None:
        """Try one batch of variations."""
        loads = list(self.found)
        chosen = [self.found[loads[k]] for k in self._rng.integers(len(loads), size=2 * BATCH)]
        picks = self._rng.random(2 * BATCH)
        parents = [trips[int(u * len(trips))][2] for trips, u in zip(chosen, picks, strict=True)]
        rows = padded(parents)
        plans, mates = rows[:BATCH], rows[BATCH:]
        for round_ in range(4):
            varies = self._rng.random(BATCH) < 0.5**round_
            plans = np.where(varies[:, None], self._varied(plans, mates), plans)
        self.try_plans(plans)

    def _play(self, rows: Plans) -> tuple[NDArray[np.float64], NDArray[np.float64], Plans]:
        """Ore brought home, discounted fuel, and steps to the end or 0."""
        self._batch.reset(seed=0)
        returns = np.zeros((BATCH, self.task.spec.num_objectives))
        steps = np.zeros(BATCH, np.int64)
        weights = np.ones(returns.shape[1])
        for step in range(LONGEST):
            _, rewards, terminated, _, _ = self._batch.step(rows[:, step])
            running = steps == 0
            returns += rewards * weights * running[:, None]
            steps[running & terminated] = step + 1
            weights[-1] *= self.task.spec.discount
        return returns[:, :-1], returns[:, -1], steps

    def _keep(self, load: tuple[float, ...], steps: int, fuel: float, row: Plans) -> None:
        trips = self.found.setdefault(load, [])
        if any(other <= steps and burnt >= fuel for other, burnt, _ in trips):
            return
        trips[:] = [trip for trip in trips if trip[0] < steps or trip[1] > fuel]
        trips.append((steps, float(fuel), tuple(row[:steps].tolist())))

    def _varied(self, plans: Plans, mates: Plans) -> Plans:
        """Each plan with one action changed, put in, taken out, moved, or with another's end."""
        count, length = plans.shape
        places = np.arange(length)
        sizes = (plans != NONE).cumsum(axis=1).argmax(axis=1) + 1
        at = (self._rng.random(count) * sizes).astype(np.int64)
        other = (self._rng.random(count) * sizes).astype(np.int64)
        fresh = self._rng.integers(6, size=count)
        every = np.arange(count)
        changed = plans.copy()
        changed[every, at] = fresh
        put_in = np.take_along_axis(plans, places - (places > at[:, None]), axis=1)
        put_in[every, at] = fresh
        later = np.minimum(places + (places >= at[:, None]), length - 1)
        taken_out = np.take_along_axis(plans, later, axis=1)
        swapped = plans.copy()
        swapped[every, at], swapped[every, other] = plans[every, other], plans[every, at]
        shifted = np.clip(places + (other - at)[:, None], 0, length - 1)
        crossed = np.where(places < at[:, None], plans, np.take_along_axis(mates, shifted, axis=1))
        kinds = np.stack([changed, put_in, taken_out, swapped, crossed])
        return np.asarray(kinds[self._rng.integers(len(kinds), size=count), every])


def padded(plans: Sequence[Plan]) -> Plans:
    """Plans as rows of equal length."""
    rows = np.full((len(plans), LONGEST), NONE)
    for row, plan in zip(rows, plans, strict=True):
        row[: len(plan)] = plan[:LONGEST]
    return rows


def straight_trips() -> Iterator[Plan]:
    """Turn, drive, brake, mine, turn round, drive home: a sample of all combinations."""
    legs = [
        (ACCELERATE, *rest)
        for size in range(LEG)
        for rest in itertools.product((ACCELERATE, NONE), repeat=size)
    ]
    for turns, out, mined in itertools.product(range(-2, 5), legs, (0, 1, 2)):
        side = LEFT if turns < 0 else RIGHT
        start = (*[side] * abs(turns), *out, BRAKE, *[MINE] * mined)
        for back, half_turn in itertools.product(legs[:: max(1, len(legs) // 24)], (4, 5)):
            yield (*start, *[LEFT] * half_turn, *back)


def known_plans() -> list[Plan]:
    """Plans that are stored already."""
    if not (FOLDER / f"{ENV}.json").exists():
        return []
    return [plan for front in load(ENV).fronts for plan in front.plans]


def search(*, seconds: float, seed: int) -> list[Plan]:
    """Look for plans.

    Args:
        seconds: of CPU time for variations, after the straight trips.
        seed: of the variations.
    """
    seeker = PlanSearch(make_task(ENV), seed=seed)
    trips = itertools.chain(known_plans(), straight_trips())
    while block := list(itertools.islice(trips, BATCH)):
        seeker.try_plans(padded(block))
    _report(seeker, 0.0)
    start = time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for _ in range(ROUNDS):
            seeker.improve()
        _report(seeker, spent)
    return seeker.plans


def _report(seeker: PlanSearch, spent: float) -> None:
    spec = seeker.task.spec
    front = front_of_plans(seeker.task, seeker.plans, discount=spec.discount).points
    value = hypervolume(front, spec.reference_point).value
    sys.stderr.write(
        f"{spent:6.0f} s: {len(seeker.found)} loads, {len(front)} points, hypervolume {value:.4f}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.plan_search", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="of CPU time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    plans = search(seconds=options.seconds, seed=options.seed)
    discount = make_task(ENV).spec.discount
    file = update_best_known(ENV, plans, discount=discount, method=METHOD)
    sys.stdout.write(f"{ENV}: revision {file.revision}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
