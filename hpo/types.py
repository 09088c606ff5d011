"""What a study is made of: its settings, what a trial is asked and answers, what comes out.

Plain dataclasses. A *trial* of the search is one configuration on every tuning seed; a *run* is
one configuration on one seed. The caller says how to do a run; nothing here knows environments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from morl.stats import Interval
from morl.types import MorlError

Settings: TypeAlias = dict[str, Any]
"""Values by field of the agent's configuration, plain data."""

SamplerName = Literal["auto", "gp", "tpe", "random", "sobol", "cmaes", "nsga2"]
PrunerName = Literal["auto", "none", "median", "hyperband"]
Direction = Literal["maximize", "minimize"]
Aggregate = Literal["mean", "iqm", "std"]
Stage = Literal["search", "race", "test"]

STAGES: tuple[Stage, ...] = get_args(Stage)
DEFAULTS = 0
"""Number of the trial that runs the defaults, always the first."""


class StudyError(MorlError):
    """A study that cannot be begun or gone on with; the message says what to change."""


class SpaceError(StudyError, ValueError):
    """A search space that does not fit the configuration that it searches."""


class StudyMismatchError(StudyError):
    """A study that was begun with other settings; the message names each difference.

    Attributes:
        differences: one line each, "budget: 1000 when it was begun, 2000 now".
    """

    def __init__(self, message: str, *, differences: Sequence[str]) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class StudyStorageError(StudyError):
    """A storage that cannot be reached, or whose content is damaged."""


class TrialsCrashError(StudyError):
    """So many trials end in an error that going on makes no sense."""


class TrialPruned(Exception):  # noqa: N818 - not an error, the word that Optuna's users know
    """Raised by a run that ends early because `Report` said so; returning early does as well."""


class StopRequested(BaseException):
    """Raised out of `Report` where the worker was asked to stop: save what is needed, and leave.

    The run is done again, with the same parameters, by whoever goes on with the study.
    """


@dataclass
class Objective:
    """What is optimised, from the values that runs return.

    Attributes:
        metric: key of `TrialOutcome.values` ("hypervolume").
        direction: "maximize" or "minimize".
        aggregate: over the seeds of a configuration: "mean", "iqm" or "std" (the standard
            deviation itself, for a study of performance against stability).
        variance_penalty: standard deviations over seeds that are taken off (added, where the
            objective is minimised); at least 0.
        diverged: the value of a run that diverged or returned no finite number: the worst
            sensible one (hypervolume 0).
    """

    metric: str = "hypervolume"
    direction: Direction = "maximize"
    aggregate: Aggregate = "mean"
    variance_penalty: float = 0.0
    diverged: float = 0.0

    @property
    def sign(self) -> float:
        """1 if more is better, else -1."""
        return 1.0 if self.direction == "maximize" else -1.0

    @property
    def label(self) -> str:
        """Name in tables: the metric, with the aggregate where it is not the mean."""
        return self.metric if self.aggregate == "mean" else f"{self.metric}.{self.aggregate}"


@dataclass
class RaceConfig:
    """Second stage: the best configurations on more tuning seeds.

    Attributes:
        top_k: how many go on; 0 leaves the race out.
        seeds: tuning seeds of the race, none of them among the others.
    """

    top_k: int = 6
    seeds: tuple[int, ...] = (200, 201, 202, 203, 204)


@dataclass
class StudyConfig:
    """Everything about a study but the space, the run and where it is kept.

    Attributes:
        name: of the study in its storage.
        n_trials: configurations to search, the defaults (trial 0) included.
        budget: environment steps of a run.
        evaluations: points of a run's learning curve at which trials are compared.
        objectives: one, or several for a front of trade-offs (then without pruning and race).
        tuning_seeds: seeds of every trial of the search.
        race: the second stage.
        test_seeds: fresh seeds for the winner and the defaults; empty leaves the test out.
        sampler: "auto" is chosen by `n_trials` and pruner, see `morl.hpo.samplers`.
        pruner: "auto" is "none" where the sampler is a Gaussian process, else "median".
        seed: root of the sampler's random numbers.
        storage: "journal://" (a file in the study's folder; or with a path), "sqlite://" alike,
            or a PostgreSQL address.
        workers: processes of `supervise`.
        stale_after: seconds without a sign of life after which a worker elsewhere counts as dead.
        max_retries: how often a trial is begun again whose worker died.
        max_crashes: trials that end in an error before any ends well, after which the study stops.
        context: what else decides a result (environment, agent, base configuration, reference
            point): plain data, compared on resume.
    """

    name: str = "study"
    n_trials: int = 40
    budget: int = 100_000
    evaluations: int = 10
    objectives: tuple[Objective, ...] = (Objective(),)
    tuning_seeds: tuple[int, ...] = (100,)
    race: RaceConfig = field(default_factory=RaceConfig)
    test_seeds: tuple[int, ...] = (1000, 1001, 1002, 1003, 1004)
    sampler: SamplerName = "auto"
    pruner: PrunerName = "auto"
    seed: int = 0
    storage: str = "journal://"
    workers: int = 1
    stale_after: float = 120.0
    max_retries: int = 2
    max_crashes: int = 5
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def multi_objective(self) -> bool:
        """Whether a front is searched rather than a winner."""
        return len(self.objectives) > 1

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that there are, in order."""
        race = self.race.top_k > 0 and bool(self.race.seeds) and not self.multi_objective
        present = {"search": True, "race": race, "test": bool(self.test_seeds)}
        return tuple(stage for stage in STAGES if present[stage])


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """One run that a worker is to do.

    Attributes:
        params: fields of the agent's configuration that differ from the base configuration:
            sampled, chosen by name and tied values, all resolved. Empty for the defaults.
        seed: root seed of the run.
        budget: environment steps.
        evaluations: at how many evenly spaced points of the budget to report.
        stage: "search", "race" or "test".
        trial: number of the configuration; 0 is the defaults.
        folder: of this run alone; the same again if the run is begun anew, so that it can go on
            from its last checkpoint. Exists.
    """

    params: Settings
    seed: int
    budget: int
    evaluations: int
    stage: Stage
    trial: int
    folder: Path


Report: TypeAlias = Callable[[int, float], bool]
"""``report(step, value)``: tell the first objective at a number of environment steps.

Returns whether to stop because the trial is pruned. Raises `StopRequested` where the worker is to
stop. Cheap; steps are rounded to the nearest of the evenly spaced points, where the trials are
compared.
"""


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What a run found.

    Attributes:
        values: final value of each metric, those of the objectives among them. A value that is
            not finite counts as diverged.
        curve: (environment steps, value) of the first objective's learning curve.
        cost: what the run cost ("env_steps", "cpu_s", "wall_s", ...), summed in reports.
        diverged: whether training diverged: every objective then has its `Objective.diverged`.
        details: anything else worth keeping with the trial (the run's folder, its id); JSON.
    """

    values: Mapping[str, float]
    curve: Sequence[tuple[int, float]] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    diverged: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


RunTrial: TypeAlias = Callable[[TrialRequest, Report], TrialOutcome]
"""Does a run. For `supervise` it must be picklable: a function of a module, or an instance of a
class of one. A `morl.types.NonFiniteError` counts as diverged, any other exception as a crash."""

TrialState = Literal["waiting", "running", "complete", "pruned", "crashed", "lost"]
"""Of a trial: "crashed" ended in an error, "lost" took down its worker once too often."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run.

    Attributes:
        seed: its seed.
        values: of each metric; diverged ones replaced.
        curve: see `TrialOutcome`.
        cost: likewise, with "seconds" of the worker's clock.
        diverged: whether values were replaced.
        details: see `TrialOutcome`.
    """

    seed: int
    values: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    cost: Mapping[str, float]
    diverged: bool
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial of the search, or one run of the race or test.

    Attributes:
        stage: where it belongs.
        number: of the configuration, 0 the defaults.
        state: how it stands.
        sampled: values that were searched, by name; those of choices are names.
        settings: what they mean, see `TrialRequest.params`.
        values: one an objective, over the seeds; empty unless complete.
        runs: finished runs, in order of seeds.
        attempts: how often it was begun.
        error: why it crashed or was pruned or lost, or "".
        started: when it was begun last, seconds since 1970, or None.
        ended: when it ended, or None.
        worker: who did it, or "".
        abandoned: cost of a run that was given up early; empty unless pruned.
    """

    stage: Stage
    number: int
    state: TrialState
    sampled: Mapping[str, Any]
    settings: Settings
    values: tuple[float, ...]
    runs: tuple[RunRecord, ...]
    attempts: int
    error: str
    started: float | None
    ended: float | None
    worker: str
    abandoned: Mapping[str, float]

    @property
    def cost(self) -> dict[str, float]:
        """Sum over its runs, one that was given up included."""
        costs = [*(run.cost for run in self.runs), self.abandoned]
        names = sorted({name for cost in costs for name in cost})
        return {name: sum(cost.get(name, 0.0) for cost in costs) for name in names}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A configuration after the race.

    Attributes:
        number: of its trial in the search.
        settings: of the agent.
        tuning_score: the objective over the tuning seeds, by which it was chosen to race.
        score: the objective over tuning and race seeds together.
        seeds: all of these.
        values: the metric of each.
    """

    number: int
    settings: Settings
    tuning_score: float
    score: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The winner and the defaults on fresh seeds.

    Attributes:
        number: of the winner's trial; 0 if the defaults themselves won.
        metric: what is compared.
        seeds: test seeds, the same for both.
        tuned: the metric of the winner, one a seed.
        defaults: the metric of the defaults, one a seed.
        tuned_interval: mean of the winner with its bootstrap interval.
        defaults_interval: likewise.
        difference: mean improvement over the defaults, positive is better whatever the
            direction, with its bootstrap interval over independent runs.
        tuning_score: what search and race said of the winner.
        optimism: how much better that is than the test, in the objective's unit.
    """

    number: int
    metric: str
    seeds: tuple[int, ...]
    tuned: tuple[float, ...]
    defaults: tuple[float, ...]
    tuned_interval: Interval
    defaults_interval: Interval
    difference: Interval
    tuning_score: float
    optimism: float

    @property
    def gain(self) -> bool:
        """Whether the whole interval of the difference lies above zero."""
        return self.difference.low > 0.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a study stands, for a line of progress.

    Attributes:
        stage: the stage in work, or "done".
        done: finished trials (runs, in race and test) of that stage.
        total: of that stage.
        running: begun and alive.
        pruned: of the finished ones.
        failed: crashed and lost ones.
        best: best value of the first objective in the search, or None.
        best_number: whose it is, or None.
        runs_done: finished runs of all stages.
        runs_total: planned runs of all stages; pruned trials make them fewer.
        seconds_a_run: mean time of a finished run, or None.
    """

    stage: Literal["search", "race", "test", "done"]
    done: int
    total: int
    running: int
    pruned: int
    failed: int
    best: float | None
    best_number: int | None
    runs_done: int
    runs_total: int
    seconds_a_run: float | None

    def seconds_left(self, workers: int) -> float | None:
        """Estimate of the time that is left with so many workers, or None."""
        if self.seconds_a_run is None:
            return None
        return math.ceil((self.runs_total - self.runs_done) / max(1, workers)) * self.seconds_a_run


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """All that a report needs; ``record()`` is what ``study.json`` holds.

    Attributes:
        config: the study's settings.
        space: the search space as plain data.
        sampler: the sampler that was used, "auto" resolved.
        pruner: likewise.
        trials: of the search, by number.
        standings: of the race, best first; without a race, of the search. Empty if several
            objectives are searched or no trial is complete.
        race_runs: runs of the race.
        test_runs: runs of the test.
        front: numbers of the trials that no other dominates, where several objectives are.
        validation: of the winner, or None where there is no test or it is not finished.
        front_test: by trial number, the metrics on each test seed, where a front was searched.
        importances: share of each searched value in the variance, or empty.
        cost: sum over all runs.
        wall_seconds: first start to last end.
        finished: whether all stages are done.
    """

    config: StudyConfig
    space: Mapping[str, Any]
    sampler: str
    pruner: str
    trials: tuple[TrialRecord, ...]
    standings: tuple[Standing, ...]
    race_runs: tuple[TrialRecord, ...]
    test_runs: tuple[TrialRecord, ...]
    front: tuple[int, ...]
    validation: Validation | None
    front_test: Mapping[int, Sequence[Mapping[str, float]]]
    importances: Mapping[str, float]
    cost: Mapping[str, float]
    wall_seconds: float
    finished: bool

    @property
    def winner(self) -> Standing | None:
        """The best configuration, or None."""
        return self.standings[0] if self.standings else None
