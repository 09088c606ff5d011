"""One run, from a configuration to a result: learn, look, save, and in the end measure.

The agent only learns. Everything else that all agents need alike is here: the learning curve,
logs, checkpoints, interruption, failure, the evaluation protocol and the record.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Literal, TextIO

import numpy as np
from threadpoolctl import threadpool_limits

from morl import storage
from morl.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from morl.compositional import objective_evaluations
from morl.envs import make_task
from morl.evaluation import Evaluation, evaluate, evaluation_seeds, rollout
from morl.experiments import measures
from morl.experiments.config import RunConfig
from morl.experiments.fingerprint import (
    changes,
    code_version,
    distribution_of,
    fingerprint,
    peak_rss_mb,
)
from morl.experiments.interrupts import Interrupts, RunInterrupted
from morl.experiments.objects import Objects, built
from morl.experiments.progress import Progress
from morl.pareto import unique
from morl.preferences import SOBOL_COUNT, SOBOL_SHA256
from morl.registry import AGENTS, require_support
from morl.result import (
    AlgoRecord,
    BudgetRecord,
    EnvRecord,
    FrontRecord,
    Metric,
    ProtocolRecord,
    ResultArrays,
    RunResult,
    collect_provenance,
    distribution_version,
    stacked_preferences,
)
from morl.storage import StorageError
from morl.tracking import (
    CompositeTracker,
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    WandbTracker,
)
from morl.types import Agent, Metrics, MorlError, Solution, State, Task

if sys.platform != "win32":
    import fcntl

CONFIG, CODE, CHANGES, METRICS, TIMINGS, CHECKPOINTS, RESULT, FAILURE = (
    "config.yaml",
    "code.json",
    "code-changes.jsonl",
    "metrics.jsonl",
    "timings.jsonl",
    "checkpoint",
    "result.json",
    "failure.txt",
)
"""Names in a run's folder."""

COMPLETED = "completed"

Say = Callable[[str], None]

Watch = Callable[[int, Metrics], None]
"""Called with the steps and the indicators of each point of the learning curve, once it is saved.

After a resume the points before come first. What it raises ends the run and leaves its folder as
it is, if it is no `Exception`.
"""


class RunFailedError(MorlError):
    """A run that ended in an error; its folder says so and its checkpoints stay."""


class CodeChangedError(MorlError):
    """An unfinished run was begun by other code than this."""


class RunBusyError(MorlError):
    """Another process is working in the run's folder."""


def run(
    config: RunConfig,
    *,
    folder: Path | None = None,
    say: Say | None = None,
    watch: Watch | None = None,
    stream: TextIO | None = None,
) -> RunResult:
    """Make a run, finish it, or find that it is done.

    Args:
        config: all that decides the run.
        folder: of the run; by default `run_folder`, which no other run shares.
        say: takes lines for the user; by default they go where the progress goes.
        watch: looks at the learning curve while it grows; a run that is done shows it nothing.
        stream: where progress is shown; standard error by default.

    Returns:
        The result, as it lies in the run's folder.

    Raises:
        UnknownNameError: there is no such environment.
        EnvArgumentError: the environment's settings do not fit it.
        RunFailedError: learning or evaluation failed; names environment, agent, seed and step.
        CodeChangedError: the folder's unfinished run was begun by other code.
        RunBusyError: another process has the folder.
        CheckpointError: none of the run's checkpoints can be used.
        StorageError: the folder cannot be written.
        RunInterrupted: a signal asked to stop; the message says how to go on.
    """
    say = say or partial(_say_to, stream or sys.stderr)
    task = task_of(config)
    folder = folder or run_folder(config)
    storage.make_folder(folder.parent)
    with _locked(folder), Interrupts() as interrupts:
        if config.resume == "never":
            _move_aside(folder, say)
        done = finished_result(folder)
        if done is not None:
            say(f"{folder}: this run is done already")
            return done
        agent = _fresh_agent(config, task)
        storage.make_folder(folder)
        session = _Session(
            config, task, folder, interrupts=interrupts, say=say, watch=watch, stream=stream
        )
        try:
            return session.go(agent)
        except RunInterrupted as request:
            request.message = _how_to_resume(config, folder)
            raise
        except (StorageError, CheckpointError, CodeChangedError):
            raise  # the folder is as good as it was: nothing failed but the attempt
        except Exception as error:
            raise session.failed(error) from error


def record_failure(config: RunConfig, reason: str) -> RunFailedError:
    """Mark a run as failed that could not do so itself, as its process is no more.

    Args:
        config: of the run.
        reason: for the record.

    Returns:
        The error that the run would have ended in.

    Raises:
        RunBusyError: somebody is working in the folder.
        StorageError: the folder cannot be written.
    """
    folder = run_folder(config)
    task = task_of(config)
    storage.make_folder(folder.parent)
    with _locked(folder), Interrupts() as interrupts:
        storage.make_folder(folder)
        session = _Session(
            config, task, folder, interrupts=interrupts, say=_unheard, watch=None, stream=None
        )
        session.recall()
        return session.failed(RunFailedError(reason))


def run_folder(config: RunConfig) -> Path:
    """Where the run of a configuration lives under this version of the code."""
    return config.folder(code_version())


def result_error(result: RunResult) -> str | None:
    """Why a result is worth nothing, if it is: no policy beats the reference point."""
    if result.front.num_outside < len(result.arrays.returns):
        return None
    return "; ".join(measures.notes(result))


def task_of(config: RunConfig) -> Task:
    """The task that a configuration describes."""
    env = config.env
    return make_task(
        env.id,
        kwargs=env.kwargs,
        discount=env.discount,
        horizon=env.horizon,
        reference_point=env.reference_point,
        box=env.box,
    )


def agent_of(config: RunConfig, task: Task) -> Agent:
    """A fresh agent, as the configuration describes it.

    Raises:
        UnsupportedTaskError: the agent declares that it cannot act in the task.
    """
    require_support(config.agent, task)
    agent = AGENTS[config.agent].make(
        task, config.agent_config, total_steps=config.steps, seed=config.seed
    )
    _limit_threads(config.threads)
    return agent


def _limit_threads(threads: int) -> None:
    """Bound the threads of BLAS, OpenMP and torch, as far as they are loaded.

    Their products are small: a second thread costs more than it brings, and cores are better
    spent on seeds.
    """
    threadpool_limits(limits=threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _fresh_agent(config: RunConfig, task: Task) -> Agent:
    """`agent_of`, whatever goes wrong in an environment or an agent of others."""
    try:
        return agent_of(config, task)
    except MorlError:
        raise
    except Exception as error:
        raise RunFailedError(
            f"{task.spec.id}, agent {config.agent}: cannot be made: {type(error).__name__}: {error}"
        ) from error


def final_evaluation(config: RunConfig, task: Task, solutions: Sequence[Solution]) -> Evaluation:
    """The protocol that every result is made by."""
    return evaluate(
        task,
        solutions,
        selection_seeds=evaluation_seeds(task.spec, "selection", config.selection_episodes),
        report_seeds=evaluation_seeds(task.spec, "report", config.report_episodes),
        max_batch=config.max_batch,
    )


def finished_result(folder: Path) -> RunResult | None:
    """The result of a folder, unless there is none or it is that of a failure."""
    if not (folder / RESULT).exists():
        return None
    result = RunResult.load(folder)
    return None if result.status.startswith("failed") else result


@dataclass
class _Account:
    """What the runner itself carries from one part of a run to the next."""

    curve: list[dict[str, float]] = field(default_factory=list)
    eval_env_steps: int = 0
    updates: int | None = None
    objective_evaluations: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def state_dict(self) -> State:
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: State) -> _Account:
        return cls(**state)


class _Session:
    """One process's work on a run."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        folder: Path,
        *,
        interrupts: Interrupts,
        say: Say,
        watch: Watch | None,
        stream: TextIO | None,
    ) -> None:
        self._config = config
        self._task = task
        self._folder = folder
        self._interrupts = interrupts
        self._say = say
        self._watch = watch
        self._stream = stream
        self._digest = config.digest(code_version())
        self._account = _Account()
        self._metrics = JsonlTracker(folder / METRICS)
        self._timings = JsonlTracker(folder / TIMINGS)
        self._step = 0
        self._clock = (time.perf_counter(), time.process_time())
        self._curve_seeds = evaluation_seeds(task.spec, "selection", config.curve_episodes)

    def go(self, agent: Agent) -> RunResult:
        """Train from where the run stands, then measure.

        Args:
            agent: a fresh one.
        """
        with self._interrupts.deferred():
            self._take_up(agent)
        self._show(self._account.curve)
        with (
            contextlib.closing(self._tracker()) as tracker,
            Progress(
                self._config.steps, done=agent.steps, label=self._label, stream=self._stream
            ) as progress,
        ):
            self._train(agent, tracker, progress)
            progress.phase("(final evaluation)")
            self._step = agent.steps
            solutions = agent.solutions()
            found = final_evaluation(self._config, self._task, solutions)
            objects = self._objects([solutions[index] for index in found.chosen])
        with self._interrupts.deferred():
            if objects is not None:
                objects.save(self._folder)
            return self._finish(found, solutions)

    def recall(self) -> None:
        """Take up the account of the last checkpoint, but not the agent."""
        with contextlib.suppress(CheckpointError):
            checkpoint = load_checkpoint(self._folder / CHECKPOINTS, config_hash=self._digest)
            self._account = _Account.from_state(checkpoint.state["runner"])
            self._step = checkpoint.step

    def failed(self, error: Exception) -> RunFailedError:
        """Mark the run as failed, keep its checkpoints, and say what happened."""
        where = (
            f"{self._task.spec.id}, agent {self._config.agent}, seed {self._config.seed}, "
            f"after step {self._step:,}"
        )
        reason = f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        with self._interrupts.deferred():
            storage.atomic_write(self._folder / FAILURE, trace.encode())
            self._result(f"failed: {where}: {reason}").save(self._folder)
        saved = list_checkpoints(self._folder / CHECKPOINTS)
        kept = f"the last checkpoint is {saved[0]}" if saved else "there was no checkpoint yet"
        return RunFailedError(
            f"{where}: {reason}\n  the run is marked as failed in {self._folder}; {kept}; "
            f"the traceback is in {self._folder / FAILURE}"
        )

    @property
    def _label(self) -> str:
        return f"{self._task.spec.id} {self._config.agent} seed {self._config.seed}"

    def _take_up(self, agent: Agent) -> None:
        """Go on from the newest good checkpoint, or begin."""
        storage.remove_leftovers(self._folder)
        if not list_checkpoints(self._folder / CHECKPOINTS):
            self._begin()
            return
        checkpoint = load_checkpoint(self._folder / CHECKPOINTS, config_hash=self._digest)
        self._account = _Account.from_state(checkpoint.state["runner"])
        self._step = checkpoint.step
        self._check_code()
        agent.load_state_dict(checkpoint.state["agent"])
        for tracker in (self._metrics, self._timings):
            tracker.truncate_after(checkpoint.step)
        self._say(_resumed(self._folder, checkpoint))

    def _begin(self) -> None:
        from omegaconf import OmegaConf

        text = f"# {self._config.command()}\n" + OmegaConf.to_yaml(
            OmegaConf.create(self._config.record())
        )
        for tracker in (self._metrics, self._timings):
            tracker.truncate_after(-1)
        storage.atomic_write(self._folder / CONFIG, text.encode())
        storage.write_json(self._folder / CODE, fingerprint())

    def _check_code(self) -> None:
        before: dict[str, str] = storage.read_json(self._folder / CODE)
        changed = changes(before, fingerprint())
        if not changed:
            return
        listed = ", ".join(changed[:5]) + (" ..." if len(changed) > 5 else "")
        if self._config.resume != "any":
            raise CodeChangedError(
                f"{self._folder}: this unfinished run was begun by other code (changed: {listed}); "
                "go on all the same with resume=any, or start afresh with resume=never"
            )
        self._say(f"{self._folder}: resumed by other code (changed: {listed})")
        storage.append_json_line(
            self._folder / CHANGES, {"step": self._step, "changed": changed}, sync=True
        )

    def _tracker(self) -> Tracker:
        sinks: dict[str, Callable[[], Tracker]] = {}
        if self._config.tensorboard:
            sinks["TensorBoard"] = partial(
                TensorBoardTracker, self._folder / "tensorboard", resumed_at=self._step or None
            )
        if self._config.wandb != "off":
            sinks["wandb"] = partial(
                WandbTracker,
                self._folder,
                project="morl-suite",
                name=self._label,
                config=self._config.record(),
                run_id=self._digest[:16],
                mode=self._config.wandb,
            )
        return CompositeTracker(self._metrics, sinks=sinks)

    def _train(self, agent: Agent, tracker: Tracker, progress: Progress) -> None:
        while not agent.finished:
            before, start = agent.steps, time.perf_counter()
            evaluated = objective_evaluations()
            metrics = dict(agent.learn(self._config.steps_to_sync))
            learned = time.perf_counter()
            metrics |= self._evaluated(objective_evaluations() - evaluated)
            if agent.steps <= before and not agent.finished:
                raise MorlError(f"agent {self._config.agent} took no step and is not finished")
            progress.advance(agent.steps)
            seen = len(self._account.curve)
            interval = self._config.steps_to_eval
            if agent.finished or agent.steps // interval > before // interval:
                metrics |= self._look(agent, progress)
            looked = time.perf_counter()
            with self._interrupts.deferred():
                tracker.log(metrics, step=agent.steps)
                self._save(agent, metrics)
                self._timings.log(
                    {
                        "time/wall_s": self._account.wall_s,
                        "time/learn_s": learned - start,
                        "time/evaluate_s": looked - learned,
                        "time/save_s": time.perf_counter() - looked,
                        "time/steps_per_s": (agent.steps - before) / (learned - start),
                        "memory/peak_rss_mb": peak_rss_mb() or 0.0,
                    },
                    step=agent.steps,
                )
            self._show(self._account.curve[seen:])

    def _show(self, points: Sequence[Mapping[str, float]]) -> None:
        """Let the caller see points of the learning curve."""
        if self._watch is None:
            return
        for point in points:
            readings = {name: value for name, value in point.items() if name != "steps"}
            self._watch(int(point["steps"]), readings)

    def _evaluated(self, count: int) -> Metrics:
        """Add objective evaluations to the account; a reading where there are any."""
        self._account.objective_evaluations += count
        total = self._account.objective_evaluations
        return {"train/objective_evaluations": float(total)} if total else {}

    def _look(self, agent: Agent, progress: Progress) -> Metrics:
        """A point of the learning curve, from few episodes of not too many solutions."""
        solutions = agent.solutions()
        few = np.linspace(0, len(solutions) - 1, min(len(solutions), self._config.curve_solutions))
        episodes = rollout(
            self._task,
            [solutions[index] for index in few.round().astype(int).tolist()],
            seeds=self._curve_seeds,
            max_batch=self._config.max_batch,
        )
        self._account.eval_env_steps += episodes.steps
        readings = measures.light(episodes.points, self._task.spec)
        point = {"steps": float(agent.steps), **readings}
        if self._account.objective_evaluations:
            point["objective_evaluations"] = float(self._account.objective_evaluations)
        self._account.curve.append(point)
        progress.found(readings["eval/hypervolume"], int(readings["eval/front_size"]))
        return readings

    def _save(self, agent: Agent, metrics: Metrics) -> None:
        """The synchronisation point: what was logged is on the disk before what was learned."""
        if "train/updates" in metrics:
            self._account.updates = int(metrics["train/updates"])
        self._tick()
        self._metrics.sync()
        save_checkpoint(
            self._folder / CHECKPOINTS,
            {"agent": agent.state_dict(), "runner": self._account.state_dict()},
            step=agent.steps,
            config_hash=self._digest,
        )
        self._step = agent.steps

    def _tick(self) -> None:
        """Add the time since the last tick to the account."""
        now = (time.perf_counter(), time.process_time())
        self._account.wall_s += now[0] - self._clock[0]
        self._account.cpu_s += now[1] - self._clock[1]
        self._clock = now

    def _objects(self, front: Sequence[Solution]) -> Objects | None:
        """What a front builds, where training had objects evaluated."""
        if not self._account.objective_evaluations:
            return None
        return built(self._task, front, seed=self._config.seed)

    def _finish(self, found: Evaluation, solutions: Sequence[Solution]) -> RunResult:
        self._account.eval_env_steps += found.env_steps
        self._tick()
        chosen = [solutions[index] for index in found.chosen]
        preferences, has_preference = stacked_preferences(
            [solution.preference for solution in chosen], self._task.spec.num_objectives
        )
        arrays = ResultArrays(
            chosen=found.chosen,
            selection_discounted=found.selection.discounted,
            selection_undiscounted=found.selection.undiscounted,
            selection_lengths=found.selection.lengths,
            report_discounted=found.report.discounted,
            report_undiscounted=found.report.undiscounted,
            report_lengths=found.report.lengths,
            preferences=preferences,
            has_preference=has_preference,
        )
        metrics = measures.measure(arrays.report_discounted, self._task.spec)
        self._result(COMPLETED, arrays=arrays, metrics=metrics, solutions=chosen).save(self._folder)
        (self._folder / FAILURE).unlink(missing_ok=True)
        return RunResult.load(self._folder)

    def _result(
        self,
        status: str,
        *,
        arrays: ResultArrays | None = None,
        metrics: Mapping[str, Metric] | None = None,
        solutions: Sequence[Solution] = (),
    ) -> RunResult:
        """The record of what there is, be it nothing but a learning curve."""
        spec, config = self._task.spec, self._config
        arrays = arrays or ResultArrays.empty(spec.num_objectives)
        deciding = config.deciding()
        entry = AGENTS[config.agent]
        return RunResult(
            algo=AlgoRecord(
                name=config.agent, version=_version(entry.origin), entry_point=entry.origin
            ),
            env=EnvRecord(
                id=spec.id,
                package=spec.package,
                version=distribution_version(spec.package) or "unknown",
                kwargs=deciding["env"]["kwargs"],
                max_steps=spec.horizon,
            ),
            protocol=self._protocol(solutions),
            seed=config.seed,
            config=deciding,
            budget=BudgetRecord(
                env_steps=self._step,
                eval_env_steps=self._account.eval_env_steps,
                updates=self._account.updates,
                wall_s=self._account.wall_s,
                cpu_s=self._account.cpu_s,
                peak_rss_mb=peak_rss_mb(),
                objective_evaluations=self._account.objective_evaluations or None,
            ),
            front=FrontRecord(
                num_candidates=len(arrays.selection_discounted),
                num_unique=len(unique(arrays.returns)),
                num_outside=measures.outside(arrays.returns, spec),
            ),
            metrics=metrics or {},
            curve=_columns(self._account.curve),
            provenance=collect_provenance(deciding),
            arrays=arrays,
            status=status,
        )

    def _protocol(self, solutions: Sequence[Solution]) -> ProtocolRecord:
        spec = self._task.spec
        sampled = spec.num_objectives > 2  # two objectives are integrated exactly
        return ProtocolRecord(
            id=spec.protocol,
            discount=spec.discount,
            reference_point=spec.reference_point,
            objectives=spec.objective_names,
            box_low=spec.box[0] if spec.box else None,
            box_high=spec.box[1] if spec.box else None,
            preferences_sha256=SOBOL_SHA256 if sampled else None,
            num_preferences=SOBOL_COUNT if sampled else 0,
            selection_episodes=self._config.selection_episodes,
            report_episodes=self._config.report_episodes,
            policy_mode=_policy_mode(solutions),
        )


def _policy_mode(
    solutions: Sequence[Solution],
) -> Literal["deterministic", "stochastic", "mixed"]:
    kinds = {solution.policy.deterministic for solution in solutions}
    if len(kinds) > 1:
        return "mixed"
    return "stochastic" if kinds == {False} else "deterministic"


def _columns(curve: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Points of the learning curve as columns, their names without the prefix of logs."""
    names = curve[0] if curve else ()
    return {name.removeprefix("eval/"): tuple(point[name] for point in curve) for name in names}


def _version(origin: str) -> str:
    """Version of the distribution that an origin names in brackets."""
    name = distribution_of(origin)
    return (None if name is None else distribution_version(name)) or "unknown"


def _resumed(folder: Path, checkpoint: Checkpoint) -> str:
    lines = [f"{folder}: goes on from step {checkpoint.step:,}"]
    lines += [f"  not used: {reason}" for reason in checkpoint.skipped]
    return "\n".join(lines)


def _how_to_resume(config: RunConfig, folder: Path) -> str:
    saved = list_checkpoints(folder / CHECKPOINTS)
    state = f"saved in {saved[0]}" if saved else "nothing was to be saved yet"
    return f"interrupted, {state}; the same command goes on from there:\n  {config.command()}"


def _move_aside(folder: Path, say: Say) -> None:
    if not folder.exists():
        return
    numbers = range(1, 1_000_000)
    old = next(
        path
        for path in (folder.with_name(f"{folder.name}.old-{number}") for number in numbers)
        if not path.exists()
    )
    folder.rename(old)
    say(f"{folder}: the earlier run is now in {old}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; the system frees the lock, however we end."""
    path = folder.with_name(f".{folder.name}.lock")
    file = _lock(path, folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # still ours: who waits for nothing cannot get it meanwhile
        file.close()


def _lock(path: Path, folder: Path) -> IO[str]:
    while True:
        try:
            file = path.open("w")
        except OSError as error:
            raise StorageError(
                storage.describe_os_error(error, path, needed=0, action="written"), path=path
            ) from error
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RunBusyError(f"{folder}: another process is working on this run") from None
        except OSError as error:  # a file system without locks
            warnings.warn(f"{folder} cannot be locked: {error}", stacklevel=4)
        if _is_open(file, path):
            return file
        file.close()  # the one before us deleted it in between


def _is_open(file: IO[str], path: Path) -> bool:
    """Whether a name still stands for an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _say_to(stream: TextIO, line: str) -> None:
    print(line, file=stream, flush=True)


def _unheard(line: str) -> None:
    """Takes lines for nobody."""
