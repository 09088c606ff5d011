"""Replayed studies of a cheap learner: is racing worth it, and which sampler?

Every replay is a study of its own, with configurations and seeds of its own. What counts is the
mean of the chosen configuration on fresh seeds, never the score that it was chosen by.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from morl.experiments.bench.measurement import table
from morl.experiments.bench.tuning_problem import (
    BUDGET,
    EVALUATIONS,
    EXACT,
    TabularConfig,
    learning_curve,
    run_tabular,
)
from morl.hpo.samplers import independent_sample
from morl.hpo.scoring import score
from morl.hpo.space import SearchSpace
from morl.hpo.standings import standings
from morl.hpo.study import open_study
from morl.hpo.types import Objective, PrunerName, RaceConfig, SamplerName, StudyConfig
from morl.hpo.worker import work
from morl.seeding import derive_seed, generator
from morl.stats import mean, paired_difference

FRESH_SEEDS = 10
SPACE = SearchSpace.of(TabularConfig())
PROBLEM = (
    "tabular Q-learning for several weights on the convex deep-sea treasure, 8 settings, "
    f"{BUDGET:,} steps a run; hypervolume against (0, -50), {EXACT} is exact"
)


@dataclass(frozen=True)
class Strategy:
    """How a number of runs is spent.

    Attributes:
        name: for the table.
        configs: of the search.
        seeds: of each of them.
        top: how many of them race; 0 for none.
        more: seeds of the race.
        all_seeds: whether the race's seeds and the others count, or its own alone.
    """

    name: str
    configs: int
    seeds: int
    top: int = 0
    more: int = 0
    all_seeds: bool = True

    @property
    def runs(self) -> int:
        """Runs that it costs."""
        return self.configs * self.seeds + self.top * self.more


STRATEGIES = (
    Strategy("1 seed x 120", 120, 1),
    Strategy("2 seeds x 60", 60, 2),
    Strategy("3 seeds x 40", 40, 3),
    Strategy("5 seeds x 24", 24, 5),
    Strategy("race: 90 x 1, best 6 x 5 more", 90, 1, 6, 5),
    Strategy("race: 80 x 1, best 4 x 10 more", 80, 1, 4, 10),
    Strategy("race: 30 x 3, best 6 x 5 more", 30, 3, 6, 5),
)
FIXED = "3 seeds x 40"
RACE = "race: 90 x 1, best 6 x 5 more"


class Replay:
    """One replay: runs are done when they are asked for, and once.

    Args:
        index: number of the replay; decides configurations and seeds.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._found: dict[tuple[int, int], float] = {}

    def value(self, config: int, seed: int) -> float:
        """Hypervolume of a configuration's run."""
        if (config, seed) not in self._found:
            sampled = independent_sample("random", SPACE, seed=self.index, number=config)
            settings = SPACE.build(SPACE.settings(sampled or {}))
            self._found[config, seed] = float(learning_curve(settings, seed=self.seed(seed))[-1])
        return self._found[config, seed]

    def seed(self, number: int) -> int:
        """A seed of this replay's own."""
        return derive_seed(self.index, "bench/replay", number)

    def choose(self, strategy: Strategy) -> tuple[int, float]:
        """The configuration that a strategy chooses, and the score that it was chosen by."""
        seeds = range(strategy.seeds)
        found = {c: self._score(c, seeds) for c in range(strategy.configs)}
        ranked = sorted(found, key=lambda config: (-found[config], config))
        if strategy.top:
            first = 0 if strategy.all_seeds else strategy.seeds
            seeds = range(first, strategy.seeds + strategy.more)
            found = {c: self._score(c, seeds) for c in ranked[: strategy.top]}
            ranked = sorted(found, key=lambda config: (-found[config], config))
        return ranked[0], found[ranked[0]]

    def fresh(self, config: int) -> float:
        """Mean of a configuration on fresh seeds."""
        return float(np.mean([self.value(config, 1000 + n) for n in range(FRESH_SEEDS)]))

    def _score(self, config: int, seeds: Sequence[int]) -> float:
        return score([self.value(config, seed) for seed in seeds], Objective())


def race_replays(replays: int) -> dict[str, Any]:
    """Strategies of equal cost, on the same replays."""
    chosen: dict[str, list[tuple[float, float]]] = {one.name: [] for one in STRATEGIES}
    for index in range(replays):
        replay = Replay(index)
        for strategy in STRATEGIES:
            config, told = replay.choose(strategy)
            chosen[strategy.name].append((told, replay.fresh(config)))
    rows = []
    fresh = {}
    for strategy in STRATEGIES:
        told, found = np.array(chosen[strategy.name]).T
        fresh[strategy.name] = found
        rows.append(
            {
                "strategy": strategy.name,
                "runs": strategy.runs,
                "told": _short(told.mean()),
                "fresh": _short(found.mean()),
                "fresh_se": _short(found.std(ddof=1) / math.sqrt(replays)),
                "fresh_sd": _short(found.std(ddof=1)),
                "optimism": _short((told - found).mean()),
            }
        )
    print(table(rows))
    gain = paired_difference(
        fresh[RACE], fresh[FIXED], mean, rng=generator(0, "bench/replays"), num_resamples=10_000
    )
    interval = [_short(gain.low), _short(gain.high)]
    print(f"{RACE} - {FIXED}: {gain.estimate:.1f}, 95 % interval {interval}")
    return {
        "what": "strategies of 120 runs each (random search); chosen configuration on "
        f"{FRESH_SEEDS} fresh seeds",
        "problem": PROBLEM,
        "replays": replays,
        "rows": rows,
        "race_minus_fixed": {"mean": _short(gain.estimate), "interval_95": interval},
        "engine_agrees": _engine_agrees(3),
    }


def _engine_agrees(replays: int) -> str:
    """Whether whole studies choose what the replays say."""
    strategy = next(one for one in STRATEGIES if one.name == RACE)
    agreeing = 0
    for index in range(replays):
        replay = Replay(index)
        config = StudyConfig(
            n_trials=strategy.configs,
            budget=BUDGET,
            evaluations=EVALUATIONS,
            tuning_seeds=(replay.seed(0),),
            race=RaceConfig(strategy.top, tuple(replay.seed(1 + n) for n in range(strategy.more))),
            test_seeds=(),
            sampler="random",
            pruner="none",
            seed=index,
        )
        with tempfile.TemporaryDirectory() as folder:
            study = open_study(config, SPACE, folder=Path(folder))
            work(study, run_tabular)
            best = standings(study)[0]
        told = replay.choose(strategy)
        agreeing += (best.number, best.score) == told
    return f"{agreeing} of {replays} studies"


@dataclass(frozen=True)
class Method:
    """A sampler with a pruner, and how many trials it gets.

    Attributes:
        sampler: name of the sampler.
        pruner: name of the pruner.
        trials: of the search, on one seed each; the best 6 race on 5 more.
        replays: how often.
    """

    sampler: SamplerName
    pruner: PrunerName
    trials: int
    replays: int


def methods(replays: int, *, large: bool) -> list[Method]:
    """What is compared: 40 trials, with pruning also 60, and 150 trials where `large`."""
    plain: list[SamplerName] = ["random", "sobol", "tpe", "gp", "cmaes", "nsga2"]
    found = [Method(name, "none", 40, replays) for name in plain]
    pruned: list[tuple[SamplerName, PrunerName]] = [
        ("random", "median"), ("tpe", "median"), ("tpe", "hyperband"),
    ]  # fmt: skip
    for sampler, pruner in pruned:
        found += [Method(sampler, pruner, trials, replays) for trials in (40, 60)]
    if large:
        fewer = max(2, replays // 2)
        some: list[SamplerName] = ["random", "tpe", "gp"]
        found += [Method(name, "none", 150, fewer) for name in some]
        found += [Method("tpe", "median", trials, fewer) for trials in (150, 230)]
    return found


def sampler_replays(replays: int, *, large: bool = True) -> dict[str, Any]:
    """Samplers and pruners, each in studies by the engine itself."""
    rows = []
    for method in methods(replays, large=large):
        found = [_study(method, index) for index in range(method.replays)]
        rows.append(_row(method, found))
        print(table(rows[-1:]), flush=True)
    return {
        "what": "search on one seed, race of the best 6 on 5 more seeds; winner on "
        f"{FRESH_SEEDS} fresh seeds. Budgets are those of the search, in full runs",
        "problem": PROBLEM,
        "rows": rows,
    }


def _row(method: Method, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sampler": method.sampler,
        "pruner": method.pruner,
        "trials": method.trials,
        "replays": method.replays,
    }
    fresh = np.array([one["fresh"] for one in found])
    row["fresh"] = _short(fresh.mean())
    row["fresh_se"] = _short(fresh.std(ddof=1) / math.sqrt(len(fresh)))
    row["searched"] = _short(statistics.mean(one["searched"] for one in found))
    row["full_runs"] = _short(statistics.mean(one["full_runs"] for one in found))
    row["cpu_ms_a_trial"] = _short(statistics.mean(one["cpu_ms"] for one in found))
    return row


def _study(method: Method, index: int) -> dict[str, float]:
    """One study: means on fresh seeds of its winner, and of the best of its search."""
    replay = Replay(index)
    config = StudyConfig(
        n_trials=method.trials,
        budget=BUDGET,
        evaluations=EVALUATIONS,
        tuning_seeds=(replay.seed(0),),
        race=RaceConfig(6, tuple(replay.seed(1 + n) for n in range(5))),
        test_seeds=(),
        sampler=method.sampler,
        pruner=method.pruner,
        seed=index,
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(config, SPACE, folder=Path(folder))
        work(study, run_tabular)
        cpu = time.process_time() - start
        best = standings(study)
        first = max(best, key=lambda one: one.tuning_score)
        steps = sum(trial.cost["env_steps"] for trial in study.trials())
    return {
        "fresh": _fresh(best[0].settings, replay),
        "searched": _fresh(first.settings, replay),
        "full_runs": steps / BUDGET,
        "cpu_ms": 1e3 * cpu / method.trials,
    }


def _fresh(settings: Mapping[str, Any], replay: Replay) -> float:
    config = SPACE.build(dict(settings))
    seeds = [replay.seed(1000 + n) for n in range(FRESH_SEEDS)]
    return float(np.mean([learning_curve(config, seed=seed)[-1] for seed in seeds]))


def _short(value: float) -> float:
    return float(f"{float(value):.4g}")
