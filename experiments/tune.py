"""A study from the command line: what is tuned, how a trial is run, who does the work.

Trials are ordinary runs in the study's folder. Workers are processes of this machine, jobs of one
of Hydra's launchers, or the same command on other machines; all pull trials from one storage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from morl import storage
from morl.checkpoint import CheckpointError
from morl.experiments.compose import (
    TUNE,
    JobFailedError,
    LauncherError,
    compose_and_run,
    compose_only,
    launcher_of,
    sorted_words,
)
from morl.experiments.config import ConfigError, RunConfig, plain
from morl.experiments.fingerprint import code_version
from morl.experiments.interrupts import SIGNALS, Interrupts, RunInterrupted
from morl.experiments.progress import StudyProgress
from morl.experiments.run import CodeChangedError, RunBusyError, RunFailedError, run, task_of
from morl.experiments.tune_config import TuneConfig, curve_of, objectives_of
from morl.hpo.space import SearchSpace
from morl.hpo.types import (
    Report,
    StopRequested,
    StudyConfig,
    StudyError,
    TrialOutcome,
    TrialPruned,
    TrialRequest,
)
from morl.types import Metrics, NonFiniteError

if TYPE_CHECKING:
    from morl.hpo.study import Study
    from morl.hpo.types import StudySummary
    from morl.result import RunResult

SETTINGS = "study.yaml"
"""The settings of a study, in its folder."""

RUN = "run"
LOG = "log.txt"
"""Folder of the ordinary run, and what it says, in the folder of a trial's seed."""

POLL_S = 1.0
DYING_S = 60.0
"""How long a killed worker's last threads may keep the lock of its run."""

GRACE_S = 20.0
"""How long a launcher may take to notice that all its jobs are done."""


@dataclass(frozen=True)
class Plan:
    """A study as the engine takes it.

    Attributes:
        config: its settings.
        space: what is searched.
        folder: of the study.
        trial: does one run.
    """

    config: StudyConfig
    space: SearchSpace
    folder: Path
    trial: TrialRunner


def plan_of(config: TuneConfig) -> Plan:
    """What the engine needs to know about a study.

    Raises:
        ConfigError: an objective that the environment does not allow.
        SpaceError: a search space that does not fit the agent.
        UnknownNameError: there is no such environment.
        EnvArgumentError: the environment's settings do not fit it.
    """
    hpo = config.hpo
    first = config.run_config({}, seed=0, steps=config.steps)
    spec = task_of(first).spec
    objectives = objectives_of(hpo, spec)
    shared = {
        field.name: getattr(hpo, field.name)
        for field in dataclasses.fields(StudyConfig)
        if field.name in {one.name for one in dataclasses.fields(hpo)} - {"objectives"}
    }
    if curve_of(objectives[0]) is None:
        if hpo.pruner not in ("auto", "none"):
            raise ConfigError(
                f"hpo.pruner={hpo.pruner} compares learning curves, and there is none of "
                f"{objectives[0].label}; choose hpo.pruner=none or another first objective"
            )
        shared["pruner"] = "none"
    context = {
        key: value
        for key, value in first.deciding().items()
        if key not in ("seed", "steps", "eval_every")
    }
    context |= {"reference_point": list(spec.reference_point), "code": code_version()}
    return Plan(
        config=StudyConfig(
            **shared,
            name=config.name,
            objectives=objectives,
            budget=config.steps,
            workers=config.workers,
            context=context,
        ),
        space=SearchSpace.of(config.agent_config, hpo.space, only=hpo.only),
        folder=config.folder,
        trial=TrialRunner(config.record()),
    )


# One run


@dataclass(frozen=True)
class TrialRunner:
    """Does one run of a study in the ordinary way; other processes can be handed it.

    Attributes:
        record: of the study's settings.
    """

    record: Mapping[str, Any]

    def __call__(self, request: TrialRequest, report: Report) -> TrialOutcome:
        """Train, measure, and report the learning curve on the way.

        Raises:
            TrialPruned: the trial is not worth going on with.
            StopRequested: the worker was asked to stop; the run goes on from its checkpoint.
            NonFiniteError: training diverged.
            RunFailedError: the run failed in another way.
        """
        config = TuneConfig.from_record(self.record)
        settings = config.run_config(request.params, seed=request.seed, steps=request.budget)
        objectives = objectives_of(config.hpo, task_of(settings).spec)
        column = curve_of(objectives[0])

        def watch(steps: int, readings: Metrics) -> None:
            if column is not None and report(steps, readings[f"eval/{column}"]):
                raise _NotWorthIt

        storage.make_folder(request.folder)
        with (request.folder / LOG).open("a", encoding="utf-8") as log:
            try:
                result = _run(settings, request.folder / RUN, watch, log)
            except _NotWorthIt:
                raise TrialPruned from None
            except RunInterrupted as interruption:
                # The run took the signal from the worker; it is the worker's to act on.
                signal.raise_signal(interruption.signum)
                raise StopRequested(str(interruption)) from None
            except RunFailedError as error:
                if isinstance(error.__cause__, NonFiniteError):
                    raise NonFiniteError(str(error)) from error
                raise
        return outcome_of(result, column=column, metrics=[one.metric for one in objectives])


class _NotWorthIt(BaseException):
    """Ends a run whose trial is pruned; no `Exception`, which would mark the run as failed."""


def _run(
    settings: RunConfig,
    folder: Path,
    watch: Callable[[int, Metrics], None],
    log: TextIO,
) -> RunResult:
    until = time.monotonic() + DYING_S
    while True:
        try:
            return run(settings, folder=folder, watch=watch, stream=log)
        except RunBusyError:  # noqa: PERF203 - the loop tries again
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
        except (CodeChangedError, CheckpointError) as error:
            # What an earlier attempt left is of no use: the trial is worth more than its beginning.
            print(f"{error}\nbegun afresh", file=log, flush=True)
            settings = dataclasses.replace(settings, resume="never")


def outcome_of(
    result: RunResult, *, column: str | None, metrics: Sequence[str] = ()
) -> TrialOutcome:
    """What a study learns from a run.

    Args:
        result: of the run.
        column: of its learning curve.
        metrics: that are asked for; one that the run lacks is not a number.
    """
    budget = result.budget
    cost = {
        "env_steps": float(budget.env_steps),
        "eval_env_steps": float(budget.eval_env_steps),
        "wall_s": budget.wall_s,
        "cpu_s": budget.cpu_s,
    }
    values = {name: metric.value for name, metric in result.metrics.items()}
    values |= {"wall_s": budget.wall_s, "cpu_s": budget.cpu_s}
    values |= {name: math.nan for name in metrics if name not in values}
    steps = result.curve.get("steps", ())
    points = result.curve.get(column, ()) if column else ()
    return TrialOutcome(
        values=values,
        curve=[(int(step), value) for step, value in zip(steps, points, strict=False)],
        cost=cost,
        details={"run_id": result.run_id, "front_size": result.front.num_unique},
    )


# Who does the work


def tune(config: TuneConfig, *, stream: TextIO | None = None) -> StudySummary:
    """Begin a study or go on with it, in processes of this machine.

    Args:
        config: all that decides it.
        stream: where progress is shown; standard error by default.

    Returns:
        What came out; the study's folder holds the same.

    Raises:
        ConfigError: see `plan_of`.
        StudyError: the study cannot be begun or gone on with.
        RunInterrupted: a signal asked to stop; the message says how to go on.
    """
    from morl.hpo.supervisor import supervise

    plan = plan_of(config)
    study = begin(config, plan)
    with (
        _said_how_to_go_on(config),
        Interrupts(),
        StudyProgress(label=_label(config), workers=config.workers, stream=stream) as progress,
    ):
        progress.show(study.progress())
        if study.progress().stage != "done":
            supervise(
                plan.config, plan.space, plan.trial, folder=plan.folder, on_progress=progress.show
            )
    return finish(config, study)


def begin(config: TuneConfig, plan: Plan) -> Study:
    """Make a study or join it, and write its settings into its folder.

    Raises:
        StudyError: it cannot be begun, or was begun with other settings.
    """
    from morl.hpo.study import open_study

    study = open_study(plan.config, plan.space, folder=plan.folder)
    storage.make_folder(plan.folder)
    storage.atomic_write(plan.folder / SETTINGS, settings_text(config).encode())
    return study


def settings_text(config: TuneConfig) -> str:
    """The settings of a study as YAML, below the command that makes it."""
    from omegaconf import OmegaConf

    return f"# {config.command()}\n{OmegaConf.to_yaml(OmegaConf.create(config.record()))}"


def read_settings(folder: Path) -> TuneConfig:
    """The settings of the study in a folder.

    Raises:
        StudyError: there is none, or it cannot be read.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = folder / SETTINGS
    if not path.is_file():
        raise StudyError(f"{folder}: there is no study in this folder (no {SETTINGS})")
    try:
        record = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise StudyError(f"{path} cannot be read: it holds no settings")
    return TuneConfig.from_record({str(key): value for key, value in record.items()})


def finish(config: TuneConfig, study: Study) -> StudySummary:
    """Write what came out of a study, and all about it, into its folder."""
    from morl.experiments.study_report import write_study
    from morl.hpo.summary import summarise

    summary = summarise(study)
    write_study(summary, config, folder=study.folder)
    return summary


def report(folder: Path) -> StudySummary:
    """Write the files about a study anew, finished or not.

    Raises:
        StudyError: there is no study in the folder, or its storage cannot be read.
    """
    from morl.hpo.study import open_study

    config = read_settings(folder)
    plan = plan_of(config)
    return finish(config, open_study(plan.config, plan.space, folder=folder))


def work_on(record: Mapping[str, Any]) -> int:
    """One job of a launcher: a worker that pulls trials until there are none left.

    Args:
        record: of the study's settings; "worker" is the number of this one.

    Returns:
        0: what fails, fails by an exception.

    Raises:
        StudyError: it was asked to stop, or see `morl.hpo.worker.work`.
    """
    from morl.hpo.study import open_study
    from morl.hpo.worker import work

    config = TuneConfig.from_record(record)
    plan = plan_of(config)
    study = open_study(plan.config, plan.space, folder=plan.folder)
    with _asked_to_stop() as stop:
        finished = work(study, plan.trial, worker=config.worker, stop=stop)
    if not finished:
        raise StudyError(f"{plan.folder}: the worker was asked to stop; the study goes on")
    return 0


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether a signal asked this process to stop, as schedulers do before they kill."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {signum: signal.signal(signum, lambda *_: asked.set()) for signum in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def launch(words: Sequence[str], job: Callable[[dict[str, Any]], int]) -> tuple[StudySummary, Path]:
    """Tune with workers that one of Hydra's launchers starts, one a job.

    Args:
        words: Hydra's command line with ``hydra/launcher=``.
        job: `work_on`, with errors made into exit codes; a function of a module.

    Returns:
        What came out, and the study's folder.

    Raises:
        ConfigError: the words make no study, or more than one.
        StudyError: the study cannot be begun, or is not finished when all jobs are.
        LauncherError: the launcher failed and the study is not finished.
        JobFailedError: a job failed and the study is not finished.
    """
    flags, overrides = sorted_words(words)
    own = [word for word in overrides if not word.startswith(("hydra/", "hydra.", "worker="))]
    _refuse_sweeps(own)
    config = TuneConfig.from_record(compose_only(own, primary=TUNE))
    plan = plan_of(config)
    study = begin(config, plan)
    workers = ",".join(map(str, range(config.workers)))
    hydras = [word for word in overrides if word.startswith(("hydra/", "hydra."))]
    multirun = [flag for flag in flags if flag not in ("-m", "--multirun")]
    with (
        StudyProgress(label=_label(config), workers=config.workers) as progress,
        _Watching(study, progress) as watching,
        _said_how_to_go_on(config, shlex.join(words)),
    ):
        try:
            compose_and_run(
                ["-m", *multirun, *own, *hydras, f"worker={workers}"], job, primary=TUNE
            )
        except (LauncherError, JobFailedError) as error:
            if study.progress().stage != "done":
                raise
            progress.say(f"the study is finished, although a worker was lost: {error}")
        except KeyboardInterrupt:
            if not watching.done:
                raise
    if study.progress().stage != "done":
        raise StudyError(
            f"{plan.folder}: the launcher {launcher_of(overrides)} came back before the study was "
            "finished; the same command goes on"
        )
    return finish(config, study), plan.folder


def _refuse_sweeps(overrides: Sequence[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for word in overrides:
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            raise ConfigError(
                f"{word}: with a launcher a command is one study, whose workers are the jobs "
                "(workers=8); give one command for each value"
            )


class _Watching:
    """Shows a study's progress while a launcher has the main thread, and ends the wait.

    A launcher whose job was killed may wait for it forever: a while after the study is finished,
    the wait is interrupted, by a signal that nobody ignores as background jobs do Ctrl-C's.
    """

    def __init__(self, study: Study, progress: StudyProgress) -> None:
        self._study = study
        self._progress = progress
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.done = False

    def __enter__(self) -> _Watching:
        self._before = signal.signal(signal.SIGUSR1, _interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # one that comes now comes too late
        self._leave.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _watch(self) -> None:
        until = math.inf
        while not self._leave.wait(POLL_S):
            now = self._study.progress()
            self._progress.show(now)
            if now.stage == "done":
                until = min(until, time.monotonic() + GRACE_S)
            if time.monotonic() > until:
                self.done = True
                os.kill(os.getpid(), signal.SIGUSR1)
                return


def _interrupt(signum: int, frame: object) -> None:  # noqa: ARG001 - signal's way
    raise KeyboardInterrupt


@contextlib.contextmanager
def _said_how_to_go_on(config: TuneConfig, command: str | None = None) -> Iterator[None]:
    """An interruption says how the study goes on.

    Args:
        config: of the study.
        command: by which jobs were launched; those go on by themselves.
    """
    how = (
        f"interrupted; the same command goes on with the study:\n  {config.command()}"
        if command is None
        else "interrupted; jobs that were launched go on until the study is finished or they are "
        f"cancelled, and the same command joins them:\n  morl tune {command}"
    )
    try:
        yield
    except RunInterrupted as request:
        request.message = how
        raise
    except (KeyboardInterrupt, StopRequested):
        interruption = RunInterrupted(signal.SIGINT)
        interruption.message = how
        raise interruption from None


def _label(config: TuneConfig) -> str:
    return f"{config.env.id} {config.agent}"


def describe(settings: Mapping[str, Any]) -> str:
    """Settings in one line: "learning_rate=0.001 minibatch=128"."""
    return " ".join(f"{key}={_short(value)}" for key, value in plain(settings).items())


def _short(value: Any) -> str:  # noqa: ANN401 - plain data
    return f"{value:.4g}" if isinstance(value, float) else str(value)
