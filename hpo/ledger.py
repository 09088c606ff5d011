"""Who does what: tasks of a stage, each done exactly once, by workers that may die at any moment.

Every attempt at a task is an Optuna trial, made in one write together with its owner. What a task's
state is follows from its attempts alone, so there is nothing to keep in step:

* complete or pruned, if one attempt is; crashed, if one ended in an error;
* lost, if more attempts than allowed took their worker down;
* running, if an attempt is: the one with the lowest number, should there be two;
* waiting, if there is none or all were in vain. The next attempt gets the parameters and the
  finished runs of the last.

Two workers that begin the same task at once see each other's attempt afterwards; the one with the
higher number withdraws. New tasks of the search are not even contended: the n-th new attempt *is*
task n. So the total is exact, and nothing has to be put back into a queue when a worker is found
dead: failing its attempt is all, and one write.

An attempt whose worker is suspected wrongly goes on until its next write, which Optuna refuses;
its result is then dropped (`TakenOverError`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from morl.hpo.identity import Owner
from morl.hpo.storage import patiently, sync
from morl.hpo.types import StudyError, TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study as OptunaStudy

FRESH = "fresh"
TASK = "task"
OWNER = "owner"
BEAT = "beat"
END = "end"
ERROR = "error"
RUN = "run:"
ABANDONED = "abandoned"

CRASHED = "crashed"
WITHDRAWN = "withdrawn"
RELEASED = "released"

CLOSED: frozenset[TrialState] = frozenset({"complete", "pruned", "crashed", "lost"})


class TakenOverError(BaseException):
    """The attempt was given to another worker; what this one found is dropped.

    Like a request to stop, it goes through code of a run that catches all exceptions.
    """


class Attempt:
    """One worker at one task.

    Attributes:
        task: key of the task.
        params: sampled values so far, by name.
        runs: records of finished runs, earlier attempts' included, by seed.
        number: of the Optuna trial.
        error: why it was pruned or crashed.
    """

    def __init__(self, ledger: Ledger, trial: FrozenTrial, task: str) -> None:
        self.task = task
        self.params: dict[str, Any] = dict(trial.params)
        self.runs = runs_of([trial])
        self.number = trial.number
        self.trial_id: int = trial._trial_id
        self._ledger = ledger
        self._storage = ledger.storage

    def set_params(
        self, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> None:
        """Write sampled values.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        for name, value in params.items():
            kind = distributions[name]
            self._write("set_trial_param", name, kind.to_internal_repr(value), kind)
        self.params = dict(params)

    def settle(self) -> None:
        """Make sure that the parameters survive whatever comes: from now on they are used."""
        sync(self._storage)

    def report(self, step: int, value: float) -> None:
        """Write an intermediate value.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_intermediate_value", step, value)

    def should_prune(self) -> bool:
        """Ask the study's pruner about the last intermediate value."""
        study = self._ledger.optuna_study
        return patiently(lambda: study.pruner.prune(study, self._storage.get_trial(self.trial_id)))

    def keep_run(self, seed: int, record: Mapping[str, Any]) -> None:
        """Write what a finished run found; it is not done again, whatever becomes of the attempt.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_user_attr", f"{RUN}{seed}", dict(record))
        self.runs[seed] = dict(record)

    def keep_cost(self, cost: Mapping[str, float]) -> None:
        """Write what a run cost that was given up.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_user_attr", ABANDONED, dict(cost))

    def beat(self, count: int) -> None:
        """A sign of life.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_user_attr", BEAT, count)

    def complete(self, values: Sequence[float]) -> None:
        """The end, with a value for each objective.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._tell(OptunaState.COMPLETE, list(values))

    def prune(self, reason: str) -> None:
        """Given up early.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_user_attr", ERROR, reason)
        self._tell(OptunaState.PRUNED, None)

    def crash(self, error: str) -> None:
        """Ended in an error.

        Raises:
            TakenOverError: the attempt is somebody else's now.
        """
        self._write("set_trial_user_attr", ERROR, error)
        self._fail(CRASHED)

    def release(self) -> None:
        """Leave the task to whoever comes next.

        Raises:
            TakenOverError: it is somebody else's already.
        """
        self._fail(RELEASED)

    def withdraw(self) -> None:
        """Leave the task to the worker that was first."""
        self._fail(WITHDRAWN)

    def _fail(self, end: str) -> None:
        self._write("set_trial_user_attr", END, end)  # first: a failure without it means a death
        self._tell(OptunaState.FAIL, None)

    def _tell(self, state: OptunaState, values: list[float] | None) -> None:
        study = self._ledger.optuna_study

        def tell() -> None:
            if self._storage.get_trial(self.trial_id).state != OptunaState.RUNNING:
                raise TakenOverError(self.task)
            study.tell(self.number, values, state)

        try:
            patiently(tell)
        except UpdateFinishedTrialError as error:
            raise TakenOverError(self.task) from error

    def _write(self, method: str, *arguments: object) -> None:
        write = getattr(self._storage, method)
        try:
            patiently(lambda: write(self.trial_id, *arguments))
        except UpdateFinishedTrialError as error:
            raise TakenOverError(self.task) from error


class Ledger:
    """The tasks of one stage and their attempts.

    Args:
        optuna_study: where attempts are kept.
        storage: of that study.
        tasks: keys, in the order in which they are begun.
        fresh: whether task n is the n-th new attempt, so that nobody contends for it; keys then
            are "0", "1", ...
        num_params: parameters of a task; the next attempt gets them if all were drawn.
        max_retries: attempts beyond the first that may take their worker down.
        stale_after: seconds without a sign of life after which a worker on another machine, of
            which nothing else is known, counts as dead. By this process's clock alone.
    """

    def __init__(
        self,
        optuna_study: OptunaStudy,
        storage: BaseStorage,
        tasks: Sequence[str],
        *,
        fresh: bool,
        num_params: int,
        max_retries: int,
        stale_after: float,
    ) -> None:
        self.optuna_study = optuna_study
        self.storage = storage
        self.tasks = tuple(tasks)
        self._fresh = fresh
        self._num_params = num_params
        self._max_retries = max_retries
        self._stale_after = stale_after
        self._trials: list[FrozenTrial] = []
        self._task_of: list[str | None] = []
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._unfinished: set[int] = set()
        self._fresh_count = 0
        self._states: dict[str, TrialState] = {}
        self._first_open = 0
        self._seen: dict[int, tuple[object, float]] = {}
        self._study_id = storage.get_study_id_from_name(optuna_study.study_name)

    # Reading

    def refresh(self) -> None:
        """Take notice of what was written since."""
        self._trials = patiently(
            lambda: self.storage.get_all_trials(self._study_id, deepcopy=False)
        )
        changed = {n for n in self._unfinished if self._trials[n].state.is_finished()}
        self._unfinished -= changed
        for number in range(len(self._task_of), len(self._trials)):
            task = self._place(self._trials[number])
            self._task_of.append(task)
            if task is None:
                continue
            self._numbers[task].append(number)
            changed.add(number)
            if not self._trials[number].state.is_finished():
                self._unfinished.add(number)
        for number in changed:
            task = self._task_of[number]
            if task is not None:
                self._states[task] = self._state(task)

    def _place(self, trial: FrozenTrial) -> str | None:
        """The task of an attempt; None for a trial that is none of ours."""
        attributes = trial.user_attrs
        if attributes.get(FRESH):
            self._fresh_count += 1
            return str(self._fresh_count - 1)
        task = attributes.get(TASK)
        return str(task) if task is not None else None

    def state(self, task: str) -> TrialState:
        """How a task stood at the last `refresh`."""
        return self._states.get(task, "waiting")

    def attempts(self, task: str) -> list[FrozenTrial]:
        """Attempts at a task as of the last `refresh`, oldest first; not to be changed."""
        return [self._trials[number] for number in self._numbers.get(task, ())]

    def finished(self) -> bool:
        """Whether all tasks were closed at the last `refresh`."""
        while self._first_open < len(self.tasks):
            if self.state(self.tasks[self._first_open]) not in CLOSED:
                return False
            self._first_open += 1
        return True

    def _state(self, task: str) -> TrialState:
        return state_of(self.attempts(task), max_retries=self._max_retries)

    # Writing

    def claim(self, owner: Owner) -> Attempt | None:
        """Begin the next task that waits.

        Args:
            owner: who begins it.

        Returns:
            The attempt, alone on its task; None if all tasks are closed or in work.
        """
        while True:
            self.refresh()
            self.reap()
            task = self._next_waiting(owner.worker)
            if task is None and not (self._fresh and self._fresh_count < len(self.tasks)):
                return None
            attempt = self._begin(task, owner)
            if attempt is not None:
                return attempt

    def _next_waiting(self, worker: int) -> str | None:
        """A task that was begun in vain or, where tasks are contended, not begun.

        Workers of different numbers begin at different tasks where they can.
        """
        self.finished()  # moves over what is closed
        waiting = [
            task
            for task in self.tasks[self._first_open : self._fresh_count if self._fresh else None]
            if self.state(task) == "waiting"
        ]
        return waiting[worker % len(waiting)] if waiting else None

    def _begin(self, task: str | None, owner: Owner) -> Attempt | None:
        before = [] if task is None else self.attempts(task)
        trial_id = self._create(task, owner, before)
        self.refresh()
        trial = next(trial for trial in reversed(self._trials) if trial._trial_id == trial_id)
        place = self._task_of[trial.number]
        if place is None:  # pragma: no cover - written just now
            raise StudyError(f"the storage lost what was written to trial {trial.number}")
        attempt = Attempt(self, trial, place)
        wanted = int(place) < len(self.tasks) if self._fresh else place in self.tasks
        if not wanted or not self._is_first(trial.number, place):
            attempt.withdraw()
            return None
        return attempt

    def _create(self, task: str | None, owner: Owner, before: Sequence[FrozenTrial]) -> int:
        """Make an attempt in one write: owner, task, and what earlier attempts leave to it."""
        attributes: dict[str, Any] = {FRESH: True} if task is None else {TASK: task}
        attributes[OWNER] = owner.record()
        attributes |= {f"{RUN}{seed}": record for seed, record in runs_of(before).items()}
        drawn = [trial for trial in before if len(trial.params) >= self._num_params]
        source = drawn[-1] if drawn else None
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=OptunaState.RUNNING,
            value=None,
            values=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=source.params if source else {},
            distributions=source.distributions if source else {},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values=_intermediate_values(before),
        )
        return patiently(lambda: self.storage.create_new_trial(self._study_id, template))

    def _is_first(self, number: int, task: str) -> bool:
        """Whether nobody closed the task, or began it before."""
        others = [trial for trial in self.attempts(task) if trial.number != number]
        if state_of(others, max_retries=self._max_retries) in CLOSED:
            return False
        return all(trial.number > number for trial in others if trial.state == OptunaState.RUNNING)

    def reap(self) -> int:
        """Fail the attempts of dead workers.

        Returns:
            How many.
        """
        dead = [n for n in sorted(self._unfinished) if self._is_dead(self._trials[n])]
        for number in dead:
            self._fail(self._trials[number]._trial_id)
        if dead:
            self.refresh()
        return len(dead)

    def _fail(self, trial_id: int) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):  # another reaper, or alive after all
            patiently(lambda: self.storage.set_trial_state_values(trial_id, OptunaState.FAIL))

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = Owner.read(trial.user_attrs.get(OWNER, {}))
        if owner is not None and owner.known_dead():
            return True
        sign = trial.user_attrs.get(BEAT)
        now = time.monotonic()
        last, since = self._seen.get(trial.number, (None, now))
        if trial.number not in self._seen or last != sign:
            self._seen[trial.number] = (sign, now)
            return False
        return now - since > self._stale_after


class Heart(threading.Thread):
    """Beats for a worker's attempt while the worker is busy.

    Args:
        interval: seconds between beats.
    """

    def __init__(self, interval: float) -> None:
        super().__init__(name="morl-hpo-heart", daemon=True)
        self._interval = interval
        self._attempt: Attempt | None = None
        self._over = threading.Event()
        self._taken = threading.Event()

    def begin(self, attempt: Attempt) -> None:
        """Beat for an attempt from now on."""
        self._taken.clear()
        self._attempt = attempt

    def end(self) -> None:
        """Stop beating for it."""
        self._attempt = None

    @property
    def taken_over(self) -> bool:
        """Whether the attempt was found to be somebody else's."""
        return self._taken.is_set()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Beat until told to stop."""
        count = 0
        while not self._over.wait(self._interval):
            attempt = self._attempt
            if attempt is None:
                continue
            count += 1
            try:
                attempt.beat(count)
            except TakenOverError:
                if attempt is self._attempt:
                    self._taken.set()
            except Exception:  # noqa: BLE001 - the worker's own writes report what is wrong
                continue


def state_of(attempts: Sequence[FrozenTrial], *, max_retries: int) -> TrialState:
    """How a task stands, from its attempts alone."""
    states = {trial.state for trial in attempts}
    if OptunaState.COMPLETE in states:
        return "complete"
    if OptunaState.PRUNED in states:
        return "pruned"
    if any(map(is_crash, attempts)):
        return "crashed"
    deaths = [trial for trial in attempts if trial.state == OptunaState.FAIL]
    if sum(END not in trial.user_attrs for trial in deaths) > max_retries:
        return "lost"
    return "running" if OptunaState.RUNNING in states else "waiting"


def is_crash(trial: FrozenTrial) -> bool:
    """Whether an attempt ended in an error of the run."""
    return trial.state == OptunaState.FAIL and trial.user_attrs.get(END) == CRASHED


def runs_of(attempts: Sequence[FrozenTrial]) -> dict[int, dict[str, Any]]:
    """Records of finished runs of all attempts at a task, by seed."""
    return {
        int(key.removeprefix(RUN)): dict(value)
        for trial in attempts
        for key, value in trial.user_attrs.items()
        if key.startswith(RUN)
    }


def _intermediate_values(attempts: Sequence[FrozenTrial]) -> dict[int, float]:
    return {step: v for trial in attempts for step, v in trial.intermediate_values.items()}
