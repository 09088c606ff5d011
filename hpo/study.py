"""A study: what is searched and how, kept where every worker finds it, and never mixed up."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from morl.hpo.identity import Owner
from morl.hpo.ledger import ABANDONED, ERROR, FRESH, OWNER, Ledger, is_crash, runs_of
from morl.hpo.progress import progress
from morl.hpo.samplers import make_pruner, resolve_methods
from morl.hpo.space import SearchSpace
from morl.hpo.standings import candidates, search_standings
from morl.hpo.storage import open_storage, resolve, shown
from morl.hpo.types import (
    DEFAULTS,
    STAGES,
    Aggregate,
    Direction,
    Objective,
    Progress,
    PrunerName,
    RunRecord,
    SamplerName,
    Settings,
    Stage,
    StudyConfig,
    StudyError,
    StudyMismatchError,
    TrialRecord,
    TrialState,
)
from morl.storage import json_bytes, make_folder, parse_json

FORMAT = 1
"""Of what a study says about itself in its storage."""

_RECORD = "study"
_METHODS = "methods"
_FOLDERS: Mapping[Stage, str] = {"search": "trials", "race": "race", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one worker does in one go: a configuration on some seeds.

    Attributes:
        key: of the task in its stage.
        stage: where it belongs.
        number: of the configuration.
        seeds: of its runs, in order.
    """

    key: str
    stage: Stage
    number: int
    seeds: tuple[int, ...]


class Study:
    """A study as one process sees it. Make it by `open_study`.

    Attributes:
        config: settings.
        space: what is searched.
        folder: of its files.
        address: of its storage.
        sampler: name of the sampler, "auto" resolved when the study was begun.
        pruner: likewise.
    """

    def __init__(
        self, config: StudyConfig, space: SearchSpace, *, folder: Path, storage: BaseStorage
    ) -> None:
        self.config = config
        self.space = space
        self.folder = folder
        self.address = resolve(config.storage, folder)
        self.storage = storage
        self.sampler: SamplerName = config.sampler
        self.pruner: PrunerName = config.pruner
        self._studies: dict[Stage, optuna.Study] = {}
        self._ledgers: dict[Stage, Ledger] = {}
        self._tasks: dict[Stage, tuple[Task, ...]] = {}

    # Set-up

    def set_up(self) -> None:
        """Make the study in its storage or join it there.

        Raises:
            StudyMismatchError: it was begun with other settings.
        """
        for stage in STAGES:
            directions: list[Direction] = [one.direction for one in self.config.objectives]
            if stage != "search":
                directions = directions[:1]
            self._studies[stage] = self._join(stage, directions)
        self._agree()
        self._studies["search"].pruner = make_pruner(
            self.pruner,
            evaluations=self.config.evaluations,
            seeds=len(self.config.tuning_seeds),
        )

    def _join(self, stage: Stage, directions: Sequence[Direction]) -> optuna.Study:
        name = self.config.name if stage == "search" else f"{self.config.name}.{stage}"
        pruner = optuna.pruners.NopPruner()
        sampler = optuna.samplers.RandomSampler(seed=self.config.seed)
        try:
            return optuna.create_study(
                storage=self.storage,
                sampler=sampler,
                pruner=pruner,
                study_name=name,
                directions=list(directions),
            )
        except DuplicatedStudyError:
            return optuna.load_study(
                study_name=name, storage=self.storage, sampler=sampler, pruner=pruner
            )

    def _agree(self) -> None:
        """Write what decides the study, or compare it with what is written."""
        search = self._studies["search"]
        mine = self.deciding()
        if _RECORD not in search.user_attrs:
            # Workers that begin together write the same; if not, the last is what all compare with.
            sampler, pruner = resolve_methods(self.config)
            search.set_user_attr(_METHODS, {"sampler": sampler, "pruner": pruner})
            search.set_user_attr(_RECORD, mine)
        attributes = search.user_attrs
        self.sampler = attributes[_METHODS]["sampler"]
        self.pruner = attributes[_METHODS]["pruner"]
        found = differences(attributes[_RECORD], mine)
        begun = self._begun()
        if begun > self.config.n_trials:
            found.append(f"n_trials: {begun} are begun, {self.config.n_trials} asked for now")
        if found:
            raise StudyMismatchError(
                f"study {self.config.name!r} in {shown(self.address)} was begun with other "
                f"settings: {'; '.join(found)}. Repeat the command that began it, or choose "
                "another name",
                differences=found,
            )

    def _begun(self) -> int:
        """One more than the highest number of a trial that has parameters."""
        fresh = [
            trial
            for trial in self._studies["search"].get_trials(deepcopy=False)
            if trial.user_attrs.get(FRESH)
        ]
        return max((place + 1 for place, trial in enumerate(fresh) if trial.params), default=0)

    def deciding(self) -> dict[str, Any]:
        """What must not change between two sessions, as plain data."""
        config = self.config
        record = {
            "format": FORMAT,
            "space": self.space.record(),
            "objectives": [asdict(one) for one in config.objectives],
            "budget": config.budget,
            "evaluations": config.evaluations,
            "tuning_seeds": list(config.tuning_seeds),
            "sampler": config.sampler,
            "pruner": config.pruner,
            "seed": config.seed,
            "context": config.context,
        }
        plain: dict[str, Any] = parse_json(json_bytes(record))
        return plain

    # What there is to do

    def tasks(self, stage: Stage) -> tuple[Task, ...]:
        """All tasks of a stage, in order.

        Raises:
            StudyError: if an earlier stage, on which they depend, is not finished.
        """
        if stage not in self._tasks:
            for earlier in self._before(stage):
                if not self.finished(earlier):
                    raise StudyError(f"the {stage} begins when the {earlier} is finished")
            self._tasks[stage] = self._plan(stage)
        return self._tasks[stage]

    def _plan(self, stage: Stage) -> tuple[Task, ...]:
        config = self.config
        if stage == "search":
            return tuple(
                Task(key=str(number), stage=stage, number=number, seeds=config.tuning_seeds)
                for number in range(config.n_trials)
            )
        if stage == "race":
            best = [one.number for one in search_standings(self)[: config.race.top_k]]
            return self._runs(stage, best, config.race.seeds)
        return self._runs(stage, candidates(self), config.test_seeds)

    def _runs(self, stage: Stage, numbers: Sequence[int], seeds: Sequence[int]) -> tuple[Task, ...]:
        return tuple(
            Task(key=f"{number}:{seed}", stage=stage, number=number, seeds=(seed,))
            for seed in seeds
            for number in numbers
        )

    def ledger(self, stage: Stage) -> Ledger:
        """Tasks of a stage and their attempts; see `tasks`."""
        if stage not in self._ledgers:
            self._ledgers[stage] = Ledger(
                self._studies[stage],
                self.storage,
                [task.key for task in self.tasks(stage)],
                fresh=stage == "search",
                num_params=len(self.space.names) if stage == "search" else 0,
                max_retries=self.config.max_retries,
                stale_after=self.config.stale_after,
            )
        return self._ledgers[stage]

    def finished(self, stage: Stage) -> bool:
        """Whether a stage has nothing left to do."""
        if not self.reached(stage):
            return False
        ledger = self.ledger(stage)
        if not ledger.finished():
            ledger.refresh()
        return ledger.finished()

    def reached(self, stage: Stage) -> bool:
        """Whether all earlier stages are finished; those of a study without the stage are not."""
        return stage in self.config.stages and all(map(self.finished, self._before(stage)))

    def _before(self, stage: Stage) -> tuple[Stage, ...]:
        return self.config.stages[: self.config.stages.index(stage)]

    def run_folder(self, stage: Stage, number: int, seed: int) -> Path:
        """Where a run may leave its files."""
        return self.trial_folder(stage, number) / f"seed_{seed}"

    def trial_folder(self, stage: Stage, number: int) -> Path:
        """Folder of a configuration's runs in a stage."""
        return self.folder / _FOLDERS[stage] / f"{number:05d}"

    # What there is

    def trials(self, stage: Stage = "search") -> list[TrialRecord]:
        """Records of a stage's tasks, in order."""
        if not self.reached(stage):
            return []
        ledger = self.ledger(stage)
        ledger.refresh()
        return [self.record(task) for task in self.tasks(stage)]

    def record(self, task: Task) -> TrialRecord:
        """What is known of a task as of its ledger's last `refresh`."""
        ledger = self.ledger(task.stage)
        attempts = ledger.attempts(task.key)
        state = ledger.state(task.key)
        sampled = self._sampled(task, attempts)
        runs = runs_of(attempts)
        deciding = _deciding_attempt(attempts, state)
        begun = [trial for trial in attempts if trial.params or trial.state.is_finished()]
        return TrialRecord(
            stage=task.stage,
            number=task.number,
            state=state,
            sampled=sampled,
            settings=self.settings(task.number, sampled) if sampled else {},
            values=tuple(deciding.values or ()) if deciding and state == "complete" else (),
            runs=tuple(read_run(seed, runs[seed]) for seed in task.seeds if seed in runs),
            attempts=len(begun),
            error=str(deciding.user_attrs.get(ERROR, "")) if deciding else "",
            started=_timestamp(deciding.datetime_start) if deciding else None,
            ended=_timestamp(deciding.datetime_complete) if deciding else None,
            worker=_worker(deciding) if deciding else "",
            abandoned=deciding.user_attrs.get(ABANDONED, {}) if deciding else {},
        )

    def _sampled(self, task: Task, attempts: Sequence[FrozenTrial]) -> Mapping[str, Any]:
        """Sampled values of a task, in the order of the space; empty if not drawn yet."""
        source: Sequence[FrozenTrial] = attempts
        if task.stage != "search":
            source = self.ledger("search").attempts(str(task.number))
        found = max((trial.params for trial in source), key=len, default={})
        complete = all(name in found for name in self.space.names)
        return {name: found[name] for name in self.space.names} if complete else {}

    def settings(self, number: int, sampled: Mapping[str, Any]) -> Settings:
        """Settings of a trial; the defaults are the base configuration, ties and all."""
        return {} if number == DEFAULTS else self.space.settings(sampled)

    def optuna_study(self, stage: Stage) -> optuna.Study:
        """What Optuna knows of a stage; for its own tools, and to sample."""
        return self._studies[stage]

    def progress(self) -> Progress:
        """Where the study stands now."""
        return progress(self)

    @property
    def objective(self) -> Objective:
        """The first one."""
        return self.config.objectives[0]


def open_study(config: StudyConfig, space: SearchSpace, *, folder: Path) -> Study:
    """Begin a study, or join or go on with the one of that name; nothing is run.

    Args:
        config: settings.
        space: what is searched.
        folder: for the study's files; made if missing.

    Raises:
        StudyError: settings that contradict each other; names them.
        StudyStorageError: the storage cannot be reached.
        StudyMismatchError: the study was begun with other settings; names each difference.
    """
    check_config(config)
    resolve_methods(config)
    make_folder(folder)
    storage = open_storage(resolve(config.storage, folder))
    study = Study(config, space, folder=folder, storage=storage)
    study.set_up()
    return study


def check_config(config: StudyConfig) -> None:
    """Refuse settings that no study could keep to.

    Raises:
        StudyError: names the setting.
    """
    for name in ("n_trials", "budget", "evaluations", "workers", "max_crashes"):
        if getattr(config, name) < 1:
            raise StudyError(f"{name} must be at least 1, got {getattr(config, name)}")
    if config.max_retries < 0 or config.race.top_k < 0:
        raise StudyError("max_retries and race.top_k must not be negative")
    if not config.stale_after > 0.0:
        raise StudyError(f"stale_after must be positive, got {config.stale_after}")
    if not config.name:
        raise StudyError("name: a study needs one")
    _check_choice("sampler", config.sampler, get_args(SamplerName))
    _check_choice("pruner", config.pruner, get_args(PrunerName))
    _check_seeds(config)
    _check_objectives(config)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise StudyError(f"{name} must be one of {', '.join(choices)}; got {value!r}{hint}")


def _check_seeds(config: StudyConfig) -> None:
    named = {
        "tuning_seeds": config.tuning_seeds,
        "race.seeds": config.race.seeds,
        "test_seeds": config.test_seeds,
    }
    if not config.tuning_seeds:
        raise StudyError("tuning_seeds: at least one is needed")
    if len(config.test_seeds) == 1:
        raise StudyError("test_seeds: one seed has no interval; give at least 2, better 5 or more")
    for name, seeds in named.items():
        if len(set(seeds)) < len(seeds):
            raise StudyError(f"{name}: a seed stands there twice: {list(seeds)}")
    for (one, seeds), (other, others) in itertools.combinations(named.items(), 2):
        shared = sorted(set(seeds) & set(others))
        if shared:
            fresh = "test seeds must be fresh" if other == "test_seeds" else "each counts once"
            raise StudyError(f"{one} and {other} share {shared}: {fresh}")


def _check_objectives(config: StudyConfig) -> None:
    if not config.objectives:
        raise StudyError("objectives: at least one is needed")
    labels = [one.label for one in config.objectives]
    if len(set(labels)) < len(labels):
        raise StudyError(f"objectives: one stands there twice: {labels}")
    for one in config.objectives:
        _check_choice(f"direction of {one.metric}", one.direction, get_args(Direction))
        _check_choice(f"aggregate of {one.metric}", one.aggregate, get_args(Aggregate))
        if not math.isfinite(one.diverged):
            raise StudyError(f"{one.metric}: diverged must be finite, got {one.diverged}")
        if one.variance_penalty < 0.0:
            raise StudyError(
                f"{one.metric}: variance_penalty must not be negative, got {one.variance_penalty}"
            )
        spread = one.variance_penalty > 0.0 or one.aggregate == "std"
        if spread and len(config.tuning_seeds) < 2:
            raise StudyError(
                f"{one.metric}: its spread over seeds is wanted, but there is one tuning seed; "
                "give at least 2"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two nested records do not agree on, one line each."""
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key}: {_worded(old, key)} when it was begun, {_worded(new, key)} now"
        for key in sorted(old.keys() | new.keys())
        if _worded(old, key) != _worded(new, key)
    ]


def _worded(record: Mapping[str, Any], key: str) -> str:
    return json_bytes(record[key]).decode() if key in record else "not there"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_run(seed: int, record: Mapping[str, Any]) -> RunRecord:
    """A run from what its worker wrote."""
    return RunRecord(
        seed=seed,
        values=record["values"],
        curve=tuple((int(step), float(value)) for step, value in record["curve"]),
        cost=record["cost"],
        diverged=record["diverged"],
        details=record["details"],
    )


def _deciding_attempt(attempts: Sequence[FrozenTrial], state: TrialState) -> FrozenTrial | None:
    """The attempt that closed a task, or the last one."""
    ends = {"complete": OptunaState.COMPLETE, "pruned": OptunaState.PRUNED}
    for trial in attempts:
        if trial.state == ends.get(state) or (state == "crashed" and is_crash(trial)):
            return trial
    return attempts[-1] if attempts else None


def _timestamp(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _worker(trial: FrozenTrial) -> str:
    owner = Owner.read(trial.user_attrs.get(OWNER, {}))
    return f"{owner.host}/{owner.worker}" if owner else ""
