"""A worker: takes the next task of a study, does its runs, and so on until nothing is left."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass

from optuna.trial import Trial

from morl.hpo import files
from morl.hpo.identity import Owner
from morl.hpo.ledger import Attempt, Heart, Ledger, TakenOverError
from morl.hpo.samplers import independent_sample, make_sampler
from morl.hpo.scoring import run_record, score
from morl.hpo.study import Study, Task, read_run
from morl.hpo.types import (
    STAGES,
    RunTrial,
    Settings,
    Stage,
    StopRequested,
    StudyError,
    StudyStorageError,
    TrialOutcome,
    TrialPruned,
    TrialRequest,
    TrialsCrashError,
)
from morl.storage import json_bytes, make_folder, parse_json
from morl.types import NonFiniteError

_BEATS_UNTIL_STALE = 6.0
_SHORTEST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0


def never() -> bool:
    """Nobody asks to stop."""
    return False


def work(
    study: Study,
    run_trial: RunTrial,
    *,
    worker: int = 0,
    stages: Collection[Stage] = STAGES,
    stop: Callable[[], bool] = never,
) -> bool:
    """Do tasks until the stages are finished, by this worker or others.

    Args:
        study: result of `open_study`.
        run_trial: does one run.
        worker: number among the workers, in messages and to begin at different tasks.
        stages: which to work at; those that the study does not have are left out.
        stop: asked often; when it says so, the current run is left at its next report.

    Returns:
        Whether the stages are finished; else it was stopped.

    Raises:
        TrialsCrashError: one run after the other ends in an error.
        StudyStorageError: the storage stays away.
    """
    owner = Owner.here(worker)
    heart = Heart(study.config.stale_after / _BEATS_UNTIL_STALE)
    heart.start()
    try:
        for stage in study.config.stages:
            if stage not in stages:
                continue
            if not _Stage(study, stage, run_trial, owner, heart, stop).work():
                return False
        return True
    finally:
        heart.stop()
        owner.leave()


@dataclass
class _Stage:
    """A worker in one stage."""

    study: Study
    stage: Stage
    run_trial: RunTrial
    owner: Owner
    heart: Heart
    stop: Callable[[], bool]
    worked: bool = False

    def work(self) -> bool:
        ledger = self.study.ledger(self.stage)
        ledger.refresh()
        before = self._crashes(ledger)
        tasks = {task.key: task for task in self.study.tasks(self.stage)}
        wait = _SHORTEST_WAIT_S
        while not self.stop():
            attempt = ledger.claim(self.owner)
            if attempt is not None:
                self._attempt(attempt, tasks[attempt.task])
                self._check_crashes(ledger, before)
                wait = _SHORTEST_WAIT_S
            elif ledger.finished():
                return True
            else:  # others are at the last tasks; one of them may die
                time.sleep(wait)
                wait = min(2.0 * wait, _LONGEST_WAIT_S)
        return False

    def _attempt(self, attempt: Attempt, task: Task) -> None:
        self.heart.begin(attempt)
        try:
            _Runs(self, attempt, task).do()
        except TakenOverError:
            return
        except StopRequested:
            self._release(attempt)
        except StudyStorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a run may fail in any way; it is recorded
            self._crash(attempt, task, error)
        except BaseException:
            self._release(attempt)
            raise
        finally:
            self.heart.end()
        ledger = self.study.ledger(self.stage)
        ledger.refresh()
        files.write_trial(self.study, self.study.record(task))

    def _release(self, attempt: Attempt) -> None:
        try:
            attempt.release()
        except TakenOverError:
            return

    def _crash(self, attempt: Attempt, task: Task, error: Exception) -> None:
        folder = make_folder(self.study.trial_folder(self.stage, task.number))
        files.write_error(folder, "".join(traceback.format_exception(error)))
        try:
            attempt.crash(f"{type(error).__name__}: {error}")
        except TakenOverError:
            return

    def _crashes(self, ledger: Ledger) -> int:
        return sum(ledger.state(task) == "crashed" for task in ledger.tasks)

    def _check_crashes(self, ledger: Ledger, before: int) -> None:
        """Stop where nothing ever works.

        Raises:
            TrialsCrashError: with the last error.
        """
        if self.worked:
            return
        states = [ledger.state(task) for task in ledger.tasks]
        self.worked = not {"complete", "pruned"}.isdisjoint(states)
        crashed = states.count("crashed")
        if self.worked or crashed - before < self.study.config.max_crashes:
            return
        failed = [one for one in self.study.trials(self.stage) if one.state == "crashed"]
        record = failed[-1]
        raise TrialsCrashError(
            f"{crashed} trials ended in an error and none well, the last one in {record.error}; "
            f"see {self.study.trial_folder(self.stage, record.number) / files.ERROR}"
        )


class _Runs:
    """The runs of one attempt."""

    def __init__(self, place: _Stage, attempt: Attempt, task: Task) -> None:
        self._place = place
        self._study = place.study
        self._attempt = attempt
        self._task = task
        self._config = place.study.config
        self._metric = place.study.objective.metric
        self._compared = task.stage == "search" and not self._config.multi_objective
        self._prunable = self._compared and place.study.pruner != "none"
        self.pruned_at = 0

    def do(self) -> None:
        self._draw()
        self._attempt.settle()
        for index, seed in enumerate(self._task.seeds):
            if seed not in self._attempt.runs:
                self._run(index, seed)
            if self.pruned_at:
                self._attempt.prune(f"pruned at step {self.pruned_at} of {self._steps}")
                return
        self._attempt.complete(self._values())

    @property
    def _steps(self) -> int:
        return self._config.evaluations * len(self._task.seeds)

    def _draw(self) -> None:
        """Choose the parameters, unless an earlier attempt or stage did."""
        if self._task.stage != "search":
            return
        space, attempt = self._study.space, self._attempt
        if all(name in attempt.params for name in space.names):
            return
        config, name = self._config, self._study.sampler
        found = independent_sample(name, space, seed=config.seed, number=self._task.number)
        if found is not None:
            attempt.set_params(found, space.distributions())
            return
        optuna_study = self._study.optuna_study("search")
        optuna_study.sampler = make_sampler(name, seed=config.seed, number=self._task.number)
        trial = Trial(optuna_study, attempt.trial_id)
        for dimension in space.dimensions:
            attempt.params[dimension.name] = dimension.suggest(trial)

    def _run(self, index: int, seed: int) -> None:
        study = self._study
        folder = make_folder(study.run_folder(self._task.stage, self._task.number, seed))
        request = TrialRequest(
            params=self._settings(),
            seed=seed,
            budget=self._config.budget,
            evaluations=self._config.evaluations,
            stage=self._task.stage,
            trial=self._task.number,
            folder=folder,
        )
        report = _Reporter(self, index)
        start = time.monotonic()
        outcome = self._outcome(request, report)
        seconds = time.monotonic() - start
        if self.pruned_at:
            evaluation = self.pruned_at - index * self._config.evaluations
            steps = self._config.budget * evaluation // self._config.evaluations
            self._attempt.keep_cost({"env_steps": steps, **outcome.cost, "seconds": seconds})
            return
        record = run_record(
            outcome, self._config.objectives, seconds=seconds, steps=self._config.budget
        )
        record = parse_json(json_bytes(record))
        files.write_run(folder, read_run(seed, record))
        self._attempt.keep_run(seed, record)
        report.final(record["values"][self._metric])

    def _settings(self) -> Settings:
        if self._task.stage == "search":
            return self._study.settings(self._task.number, self._attempt.params)
        return self._study.record(self._task).settings

    def _outcome(self, request: TrialRequest, report: _Reporter) -> TrialOutcome:
        try:
            return self._place.run_trial(request, report)
        except NonFiniteError as error:
            return TrialOutcome(values={}, diverged=True, details={"error": str(error)})
        except TrialPruned:
            if not self.pruned_at:
                raise StudyError("the run gave up although nothing had told it to") from None
            return TrialOutcome(values={})

    def report(self, seed_index: int, evaluation: int, value: float) -> None:
        """Compare the trial with others: by the mean of finished seeds and this one so far."""
        if self._place.stop():
            raise StopRequested
        if self._place.heart.taken_over:
            raise TakenOverError(self._task.key)
        if not self._compared or self.pruned_at:
            return
        done = [
            self._attempt.runs[s]["values"][self._metric] for s in self._task.seeds[:seed_index]
        ]
        step = seed_index * self._config.evaluations + evaluation
        self._attempt.report(step, (sum(done) + value) / (len(done) + 1))
        if self._prunable and step < self._steps and self._attempt.should_prune():
            self.pruned_at = step

    def _values(self) -> list[float]:
        """The objectives over all seeds; of race and test, the first one of the run."""
        search = self._task.stage == "search"
        objectives = self._config.objectives if search else self._config.objectives[:1]
        runs = [self._attempt.runs[seed]["values"] for seed in self._task.seeds]
        if not search:
            return [runs[0][self._metric]]
        return [score([run[one.metric] for run in runs], one) for one in objectives]


class _Reporter:
    """What a run calls at its evaluations."""

    def __init__(self, runs: _Runs, seed_index: int) -> None:
        self._runs = runs
        self._seed_index = seed_index
        self._last = 0
        self._config = runs._config

    def __call__(self, step: int, value: float) -> bool:
        """Tell a value; see `morl.hpo.types.Report`."""
        evaluations = self._config.evaluations
        nearest = round(step * evaluations / self._config.budget)
        self._tell(min(max(nearest, 0), evaluations), value)
        return bool(self._runs.pruned_at)

    def final(self, value: float) -> None:
        """Tell the value of a finished run, unless the run did."""
        self._tell(self._config.evaluations, value)

    def _tell(self, evaluation: int, value: float) -> None:
        if not math.isfinite(value):
            value = self._config.objectives[0].diverged
        if evaluation > self._last:
            self._last = evaluation
            self._runs.report(self._seed_index, evaluation, value)
