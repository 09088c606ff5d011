"""The contracts, as checks that built-ins and plug-ins alike must pass.

`check_env` tries out a batch of environments and reports on every promise of
`morl.types.Task.make_vec`; `check_agent` does so for an agent and `morl.types.Agent`.
"""

from __future__ import annotations

import importlib
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from morl.checkpoint import load_checkpoint, save_checkpoint
from morl.masks import ActionMasks, action_masks, nearest_legal, takes_masks
from morl.pareto import nondominated
from morl.types import Agent, EnvSpec, MorlError, Policy, StatefulPolicy, Task, is_stateful

Batch = VectorEnv[Any, Any, Any]


class ContractError(MorlError):
    """Something breaks its contract; the message lists every failed check."""


class _Skipped(Exception):  # noqa: N818 - no error: the reason why a check says nothing
    pass


@dataclass(frozen=True)
class Check:
    """One promise and what became of it.

    Attributes:
        name: what was checked, a few words.
        passed: None where the check does not apply.
        message: what was found.
    """

    name: str
    passed: bool | None
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What a contract check found out.

    Attributes:
        subject: id of what was checked.
        checks: in the order they ran.
        steps_per_second: environment steps a second of wall time, random actions.
    """

    subject: str
    checks: tuple[Check, ...]
    steps_per_second: float

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def raise_for_failures(self) -> None:
        """Raise if a check failed.

        Raises:
            ContractError: names the subject and every failed check.
        """
        if self.failures:
            lines = "".join(f"\n  {check.name}: {check.message}" for check in self.failures)
            raise ContractError(f"{self.subject} breaks its contract:{lines}")

    def __str__(self) -> str:
        """Readable verdict, one line a check."""
        marks = {True: "ok  ", False: "FAIL", None: "skip"}
        width = max(len(check.name) for check in self.checks)
        lines = [
            f"{marks[check.passed]}  {check.name:<{width}}  {check.message}".rstrip()
            for check in self.checks
        ]
        verdict = "keeps its contract" if self.passed else f"{len(self.failures)} checks failed"
        speed = f"{self.steps_per_second:,.0f} steps/s"
        return "\n".join([*lines, f"{self.subject}: {verdict}; {speed}"])


@dataclass
class Trajectory:
    """Everything a batch gave out, one array an item; time is the first axis.

    Attributes:
        observations: ``(time + 1, env, *observation)``.
        rewards: ``(time, env, objective)``.
        terminated: ``(time, env)``.
        truncated: ``(time, env)``.
        finals: ``final_obs`` of each step, None where no episode ended.
        masks: legal actions before each step, ``(time, env, action)``; empty where all are.
    """

    observations: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    finals: list[NDArray[Any] | None] = field(default_factory=list)
    masks: list[ActionMasks] = field(default_factory=list)

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Where episodes ended, ``(time, env)``."""
        return self.terminated | self.truncated

    def difference(self, other: Trajectory) -> str | None:
        """The first thing that differs in any bit, or None."""
        for name in ("observations", "rewards", "terminated", "truncated"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.shape != theirs.shape:
                return f"{name} of shapes {mine.shape} and {theirs.shape}"
            unequal = np.argwhere(mine != theirs)
            if len(unequal):
                return f"{name} from step {unequal[0][0]} on, environment {unequal[0][1]}"
        return None


def sample_actions(
    space: spaces.Discrete | spaces.Box, steps: int, num_envs: int, *, seed: int
) -> NDArray[Any]:
    """Random actions ``(step, env, *action)`` within the bounds, normal where there are none."""
    rng = np.random.default_rng(seed)
    if isinstance(space, spaces.Discrete):
        return rng.integers(int(space.n), size=(steps, num_envs))
    shape = (steps, num_envs, *space.shape)
    bounded = np.isfinite(space.low) & np.isfinite(space.high)
    low, high = np.where(bounded, space.low, -1.0), np.where(bounded, space.high, 1.0)
    actions = np.where(bounded, rng.uniform(low, high, shape), rng.standard_normal(shape) * 10)
    return np.clip(actions, space.low, space.high).astype(space.dtype)


def play(
    batch: Batch, actions: NDArray[Any], *, seed: int | list[int], spec: EnvSpec | None = None
) -> Trajectory:
    """Reset a batch and feed it actions ``(step, env, *action)``.

    Where `spec` says that the environment masks, an illegal action becomes the next legal one.
    """
    observation, infos = batch.reset(seed=cast(Any, seed))
    observations = [observation]
    rewards, terminated, truncated, finals = [], [], [], []
    masks: list[ActionMasks] = []
    for row in actions:
        allowed = _masks_of(spec, infos, len(row))
        if allowed is not None:
            masks.append(allowed)
            row = nearest_legal(allowed, row)
        observation, reward, terminal, cut, infos = batch.step(row)
        observations.append(observation)
        rewards.append(reward)
        terminated.append(terminal)
        truncated.append(cut)
        finals.append(infos.get("final_obs"))
    return Trajectory(
        np.array(observations),
        np.array(rewards),
        np.array(terminated),
        np.array(truncated),
        finals,
        masks,
    )


def _masks_of(spec: EnvSpec | None, infos: Mapping[str, Any], num_envs: int) -> ActionMasks | None:
    """The masks that all environments of a batch give, if they mask."""
    if spec is None:
        return None
    return action_masks(spec, infos, running=np.ones(num_envs, np.bool_))


def check_env(env: str | Task, *, steps: int = 200, num_envs: int = 4, seed: int = 0) -> Report:
    """Try out every promise of `morl.types.Task.make_vec` with random actions.

    Args:
        env: id in the registry, or a task.
        steps: steps of the batch in each of the trials.
        num_envs: size of the batch, at least 2.
        seed: seed of environments and actions.

    Returns:
        A report; call its `raise_for_failures`, or print it.

    Raises:
        MorlError: when no environment of the name can be made at all.
    """
    if num_envs < 2:
        raise ValueError(f"check_env needs a batch of at least 2, got {num_envs}")
    task = env if isinstance(env, Task) else _task(env)
    trial = _EnvTrial(task, steps=steps, num_envs=num_envs, seed=seed)
    checks = [_run(name, check) for name, check in trial.checks()]
    trial.close()
    return Report(task.spec.id, tuple(checks), trial.steps_per_second)


def _task(name: str) -> Task:
    # Environments are a layer above this module: the name is looked up when it is needed.
    make_task = importlib.import_module("morl.envs").make_task
    return cast(Task, make_task(name))


def _run(name: str, check: Callable[[], str | None]) -> Check:
    try:
        message = check()
    except _Skipped as reason:
        return Check(name, None, str(reason))
    except ContractError as failure:
        return Check(name, False, str(failure))
    except Exception as error:  # noqa: BLE001 - whatever a plug-in raises is a finding
        return Check(name, False, f"{type(error).__name__}: {error}")
    return Check(name, True, message or "")


def _numpy_state() -> str:
    # Only read: an environment that draws from the global generator is not reproducible.
    return repr(np.random.get_state(legacy=False))  # noqa: NPY002


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ContractError(message)


class _EnvTrial:
    """The checks of one environment, and the batches and trajectories they share."""

    def __init__(self, task: Task, *, steps: int, num_envs: int, seed: int) -> None:
        self.task = task
        self.spec = task.spec
        self.num_envs = num_envs
        self.seed = seed
        self.steps = steps
        self.batch = task.make_vec(num_envs)
        self.action_space = cast("spaces.Discrete | spaces.Box", self.batch.single_action_space)
        self.observation_space = self.batch.single_observation_space
        self.steps_per_second = float("nan")
        self._trajectory: Trajectory | None = None
        registered = gymnasium.registry.get(self.spec.id)
        self.reproducible = registered is None or not registered.nondeterministic

    def checks(self) -> list[tuple[str, Callable[[], str | None]]]:
        return [
            ("step before reset is refused", self.step_before_reset),
            ("spaces", self.spaces),
            ("observations in their space", self.observations),
            ("rewards are float64 vectors in their space", self.rewards),
            ("ends of episodes are booleans", self.ends),
            ("masks of illegal actions", self.masks),
            ("same-step autoreset with final_obs", self.autoreset),
            ("episodes are cut at the horizon", self.horizon),
            ("the same seed gives the same run", self.determinism),
            ("seeds", self.seeds),
            ("an environment does not depend on its batch", self.batch_size),
            ("returned arrays belong to the caller", self.ownership),
            ("global random generators stay untouched", self.global_random),
            ("actions of a wrong shape are refused", self.wrong_shape),
            ("actions out of range are refused", self.wrong_range),
            ("num_envs = 0 is refused", self.no_environments),
            ("known front", self.known_front),
            ("throughput", self.throughput),
        ]

    def close(self) -> None:
        self.batch.close()

    def actions(self, num_envs: int | None = None) -> NDArray[Any]:
        count = num_envs or self.num_envs
        return sample_actions(self.action_space, self.steps, count, seed=self.seed)

    def allowed(self, row: NDArray[Any], infos: Mapping[str, Any]) -> NDArray[Any]:
        masks = _masks_of(self.spec, infos, len(row))
        return row if masks is None else nearest_legal(masks, row)

    def masks(self) -> str | None:
        if not self.spec.masks_actions:
            raise _Skipped("all actions are legal at all times")
        space = self.action_space
        _require(isinstance(space, spaces.Discrete), f"only discrete actions are masked: {space}")
        masks = np.array(self.trajectory.masks)
        shape = (self.steps, self.num_envs, int(cast(spaces.Discrete, space).n))
        _require(masks.shape == shape, f"expected masks {shape}, got {masks.shape}")
        held = self.batch.reset(seed=self.seed)[1]["action_mask"]
        held[:] = ~held
        fresh = self.batch.reset(seed=self.seed)[1]["action_mask"]
        _require(np.array_equal(fresh, masks[0]), "masks do not belong to the caller")
        return f"{masks.mean():.0%} of the actions are legal"

    @property
    def trajectory(self) -> Trajectory:
        if self._trajectory is None:
            play(
                self.batch, self.actions()[:1], seed=self.seed, spec=self.spec
            )  # compiles, fills caches
            start = time.perf_counter()
            self._trajectory = play(self.batch, self.actions(), seed=self.seed, spec=self.spec)
            elapsed = time.perf_counter() - start
            self.steps_per_second = self.steps * self.num_envs / elapsed
        return self._trajectory

    def need_reproducible(self) -> None:
        if not self.reproducible:
            raise _Skipped("Gymnasium lists it as nondeterministic")

    def step_before_reset(self) -> str | None:
        fresh = self.task.make_vec(1)
        try:
            fresh.step(self.actions(1)[0])
        except Exception as error:  # noqa: BLE001 - any refusal will do
            return type(error).__name__
        finally:
            fresh.close()
        raise ContractError("step() works before the first reset()")

    def spaces(self) -> str | None:
        _require(
            isinstance(self.observation_space, spaces.Box),
            f"observations must form one Box, got {self.observation_space}",
        )
        _require(
            isinstance(self.action_space, spaces.Discrete | spaces.Box),
            f"actions must be Discrete or Box, got {self.action_space}",
        )
        _require(
            self.batch.num_envs == self.num_envs,
            f"asked for {self.num_envs} environments, got {self.batch.num_envs}",
        )
        mode = self.batch.metadata.get("autoreset_mode")
        _require(mode is AutoresetMode.SAME_STEP, f"autoreset_mode is {mode}, not SAME_STEP")
        return f"{self.observation_space}, {self.action_space}"

    def observations(self) -> str | None:
        observations = self.trajectory.observations
        space = cast(spaces.Box, self.observation_space)
        shape = (self.steps + 1, self.num_envs, *space.shape)
        _require(observations.shape == shape, f"expected shape {shape}, got {observations.shape}")
        _require(observations.dtype == space.dtype, f"{observations.dtype}, not {space.dtype}")
        _require(np.isfinite(observations).all(), "not all are finite")
        outside = (observations < space.low) | (observations > space.high)
        if outside.any():
            place = np.argwhere(outside)[0]
            raise ContractError(
                f"{observations[tuple(place)]} at {place.tolist()} is out of bounds"
            )
        return None

    def rewards(self) -> str | None:
        rewards = self.trajectory.rewards
        shape = (self.steps, self.num_envs, self.spec.num_objectives)
        _require(
            rewards.shape == shape,
            f"expected shape (step, env, objective) = {shape}, got {rewards.shape}",
        )
        _require(rewards.dtype == np.float64, f"rewards are {rewards.dtype}, not float64")
        _require(np.isfinite(rewards).all(), "not all are finite")
        space = getattr(self.batch, "reward_space", None)
        _require(isinstance(space, spaces.Box), f"reward_space must be a Box, got {space}")
        assert isinstance(space, spaces.Box)
        _require(space.shape == shape[2:], f"reward_space has shape {space.shape}")
        slack = 1e-6 * (1 + np.abs(rewards))
        outside = (rewards < space.low - slack) | (rewards > space.high + slack)
        if outside.any():
            step, i, objective = np.argwhere(outside)[0]
            raise ContractError(
                f"{self.spec.objective_names[objective]} = {rewards[step, i, objective]} at step "
                f"{step} lies outside [{space.low[objective]}, {space.high[objective]}]"
            )
        return ", ".join(self.spec.objective_names)

    def ends(self) -> str | None:
        shape = (self.steps, self.num_envs)
        for name in ("terminated", "truncated"):
            flags = getattr(self.trajectory, name)
            _require(flags.shape == shape, f"{name}: expected shape {shape}, got {flags.shape}")
            _require(flags.dtype == np.bool_, f"{name} is {flags.dtype}, not bool")
        return f"{int(self.trajectory.ended.sum())} episodes ended"

    def autoreset(self) -> str | None:
        trajectory = self.trajectory
        space = cast(spaces.Box, self.observation_space)
        for step, (ended, final) in enumerate(
            zip(trajectory.ended, trajectory.finals, strict=True)
        ):
            if not ended.any():
                continue
            _require(final is not None, f"no infos['final_obs'] at step {step}")
            assert final is not None
            shape = (self.num_envs, *space.shape)
            _require(
                final.shape == shape and final.dtype == space.dtype,
                f"final_obs must be {space.dtype} of shape {shape}, got {final.dtype} of "
                f"{final.shape}",
            )
            rows = final[ended]
            _require(
                ((rows >= space.low) & (rows <= space.high)).all(),
                f"final_obs at step {step} is outside the observation space",
            )
        if not trajectory.ended.any():
            raise _Skipped(f"no episode ended within {self.steps} steps")
        return None

    def horizon(self) -> str | None:
        limit = self.spec.horizon
        if limit is None:
            raise _Skipped("the environment ends by itself")
        ages = np.zeros(self.num_envs, int)
        reached = 0
        for ended, truncated in zip(self.trajectory.ended, self.trajectory.truncated, strict=True):
            ages += 1
            _require(ended[ages == limit].all(), f"an episode outlives {limit} steps")
            early = truncated & (ages < limit)
            _require(not early.any(), f"truncated after {ages[early][:1]} steps instead of {limit}")
            reached += int((ages == limit).sum())
            ages[ended] = 0
        if not reached:
            raise _Skipped(f"no episode lasted {limit} steps")
        return f"{reached} episodes of {limit} steps"

    def determinism(self) -> str | None:
        self.need_reproducible()
        again = play(self.batch, self.actions(), seed=self.seed, spec=self.spec)
        difference = self.trajectory.difference(again)
        _require(difference is None, f"two runs of seed {self.seed} differ in {difference}")
        fresh = self.task.make_vec(self.num_envs)
        listed = play(
            fresh,
            self.actions(),
            seed=[self.seed + i for i in range(self.num_envs)],
            spec=self.spec,
        )
        fresh.close()
        difference = self.trajectory.difference(listed)
        _require(
            difference is None, f"a new batch with the same seeds in a list differs in {difference}"
        )
        return None

    def seeds(self) -> str | None:
        self.need_reproducible()
        other = play(self.batch, self.actions(), seed=self.seed + 1000, spec=self.spec)
        if self.trajectory.difference(other) is None:
            return "make no difference: the dynamics are deterministic"
        return "make a difference"

    def batch_size(self) -> str | None:
        self.need_reproducible()
        whole = self.trajectory
        alone = self.task.make_vec(1)
        for i in {0, self.num_envs - 1}:
            single = play(alone, self.actions()[:, i : i + 1], seed=self.seed + i, spec=self.spec)
            part = Trajectory(
                whole.observations[:, i : i + 1],
                whole.rewards[:, i : i + 1],
                whole.terminated[:, i : i + 1],
                whole.truncated[:, i : i + 1],
            )
            difference = part.difference(single)
            _require(
                difference is None,
                f"environment {i} of {self.num_envs} and one alone with its seed differ in "
                f"{difference}",
            )
        alone.close()
        return None

    def ownership(self) -> str | None:
        actions = self.actions()
        first, infos = self.batch.reset(seed=self.seed)
        *given, infos = self.batch.step(self.allowed(actions[0], infos))
        held = [first, *given]
        before = [array.copy() for array in held]
        for row in actions[1:10]:
            infos = self.batch.step(self.allowed(row, infos))[4]
        names = ("first observations", "observations", "rewards", "terminated", "truncated")
        for name, array, copy in zip(names, held, before, strict=True):
            _require(np.array_equal(array, copy), f"later steps overwrite {name}")
        return None

    def global_random(self) -> str | None:
        self.need_reproducible()
        numpy_before = _numpy_state()
        python_before = random.getstate()
        play(self.batch, self.actions()[:20], seed=self.seed, spec=self.spec)
        _require(numpy_before == _numpy_state(), "it draws from NumPy's global generator")
        _require(python_before == random.getstate(), "it draws from Python's global generator")
        return None

    def wrong_shape(self) -> str | None:
        row = self.actions()[0]
        for wrong in (row[:-1], np.stack([row, row]), np.concatenate([row, row[:1]])):
            self._refuses(wrong, f"of shape {wrong.shape}")
        return None

    def wrong_range(self) -> str | None:
        row = self.actions()[0]
        if isinstance(self.action_space, spaces.Discrete):
            for value in (-1, int(self.action_space.n)):
                wrong = row.copy()
                wrong[-1] = value
                self._refuses(wrong, str(value))
            self._refuses(row + 0.5, "that are no integers")
        else:
            for number in (np.nan, np.inf):
                wrong = row.copy()
                wrong.reshape(-1)[-1] = number
                self._refuses(wrong, str(number))
        return None

    def _refuses(self, actions: NDArray[Any], words: str) -> None:
        self.batch.reset(seed=self.seed)
        try:
            self.batch.step(actions)
        except Exception as error:  # noqa: BLE001 - its text is what is checked
            _require(
                self.spec.id in str(error),
                f"the error about actions {words} does not name {self.spec.id}: {error}",
            )
            return
        raise ContractError(f"actions {words} are accepted")

    def no_environments(self) -> str | None:
        try:
            self.task.make_vec(0)
        except Exception as error:  # noqa: BLE001 - its text is what is checked
            _require(self.spec.id in str(error), f"the error does not name it: {error}")
            return None
        raise ContractError("a batch of 0 environments can be made")

    def known_front(self) -> str | None:
        front = self.spec.known_front
        if front is None:
            raise _Skipped("none is known")
        points = front.points(self.spec.discount)
        _require(
            points.ndim == 2 and points.shape[1] == self.spec.num_objectives,
            f"expected (point, {self.spec.num_objectives}), got shape {points.shape}",
        )
        _require(np.isfinite(points).all(), "it has points that are not finite")
        _require(nondominated(points).all(), "some points dominate others")
        return f"{len(points)} points, {front.certificate}"

    def throughput(self) -> str | None:
        assert self.trajectory is not None
        return f"{self.steps_per_second:,.0f} steps/s in a batch of {self.num_envs}"


def check_agent(
    make: Callable[..., Agent],
    config: Any,  # noqa: ANN401 - each agent's own dataclass
    task: Task,
    *,
    total_steps: int,
    chunk: int | None = None,
    seed: int = 0,
) -> Report:
    """Try out an agent's every promise on a small task.

    Args:
        make: ``make(task, config, *, total_steps, seed)``, as registered.
        config: its settings; small ones, the agent is trained four times.
        task: something to learn.
        total_steps: budget of each training.
        chunk: steps of each call of ``learn``, by default a quarter of the budget.
        seed: root seed.

    Returns:
        A report; see `Report.raise_for_failures`.
    """
    trial = _AgentTrial(
        lambda: make(task, config, total_steps=total_steps, seed=seed),
        task,
        total_steps=total_steps,
        chunk=chunk or max(1, total_steps // 4),
    )
    started = time.perf_counter()
    checks = tuple(_run(name, check) for name, check in trial.checks())
    elapsed = time.perf_counter() - started
    return Report(getattr(make, "__name__", str(make)), checks, trial.total_taken / elapsed)


@dataclass
class _Training:
    """What one training left behind."""

    agent: Agent
    metrics: list[dict[str, float]]
    steps: list[int]


class _AgentTrial:
    """The checks of `check_agent`; one training serves several of them."""

    def __init__(
        self, make: Callable[[], Agent], task: Task, *, total_steps: int, chunk: int
    ) -> None:
        self._make = make
        self._task = task
        self._total_steps = total_steps
        self._chunk = chunk
        self._whole: _Training | None = None
        self.total_taken = 0

    def checks(self) -> list[tuple[str, Callable[[], str | None]]]:
        """Names and checks in the order to run them."""
        return [
            ("budget", self._budget),
            ("metrics", self._metrics),
            ("end", self._end),
            ("same seed", self._same_seed),
            ("restored twin", self._restored_twin),
            ("global generators", self._global_generators),
            ("solutions", self._solutions),
            ("memory", self._memory),
            ("preferences", self._preferences),
        ]

    @property
    def _reference(self) -> _Training:
        if self._whole is None:
            self._whole = self._train(self._make())
        return self._whole

    def _train(self, agent: Agent) -> _Training:
        training = _Training(agent, [], [])
        while not agent.finished:
            training.metrics.append(dict(agent.learn(self._chunk)))
            training.steps.append(agent.steps)
            _require(
                len(training.steps) < 2 or training.steps[-1] > training.steps[-2],
                f"learn({self._chunk}) took no step at {agent.steps} although not finished",
            )
        self.total_taken += agent.steps
        return training

    def _budget(self) -> str:
        fresh = self._make()
        _require(fresh.steps == 0, f"a fresh agent has taken {fresh.steps} steps")
        steps = self._reference.steps
        if not steps:
            return "finished from the start: it does not learn"
        _require(
            steps[-1] <= self._total_steps, f"{steps[-1]} steps of a budget of {self._total_steps}"
        )
        gains = np.diff([0, *steps])[:-1]
        _require(
            (gains >= self._chunk).all(),
            f"learn({self._chunk}) took {gains.min() if len(gains) else 0} steps before the end",
        )
        return f"{steps[-1]} of {self._total_steps} steps in {len(steps)} calls"

    def _metrics(self) -> str:
        if not self._reference.metrics:
            raise _Skipped("it does not learn")
        for reading in self._reference.metrics:
            for name, value in reading.items():
                _require(isinstance(name, str), f"metric name {name!r} is not a string")
                _require(np.isfinite(value), f"metric {name!r} is {value}")
        return ", ".join(sorted(self._reference.metrics[-1]))

    def _end(self) -> str:
        agent = self._reference.agent
        before = agent.steps
        agent.learn(self._chunk)
        _require(agent.steps == before, "a finished agent went on taking steps")
        return "a finished agent stays where it is"

    def _same_seed(self) -> str:
        again = self._train(self._make())
        _require_equal(again.metrics, self._reference.metrics, "metrics of two equal trainings")
        _require_equal(
            again.agent.state_dict(),
            self._reference.agent.state_dict(),
            "states of two equal trainings",
        )
        return "two trainings are equal bit for bit"

    def _restored_twin(self) -> str:
        original = self._make()
        original.learn(self._chunk)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            save_checkpoint(path, original.state_dict(), step=original.steps, config_hash="check")
            state = load_checkpoint(path, config_hash="check").state
        twin = self._make()
        twin.load_state_dict(state)
        _require(twin.steps == original.steps, "a restored agent has another step count")
        rest = self._train(twin)
        skipped = len(self._reference.metrics) - len(rest.metrics)
        _require_equal(
            rest.metrics, self._reference.metrics[skipped:], "metrics after a restored checkpoint"
        )
        _require_equal(
            rest.agent.state_dict(),
            self._reference.agent.state_dict(),
            "states after a restored checkpoint",
        )
        return "goes on bit for bit from a saved checkpoint"

    def _global_generators(self) -> str:
        before = (random.getstate(), _numpy_state())
        self._make().learn(1)
        _require((random.getstate(), _numpy_state()) == before, "drew from a global generator")
        return "left alone"

    def _solutions(self) -> str:
        solutions = self._reference.agent.solutions()
        _require(solutions, "a finished agent offers no solution")
        batch = self._task.make_vec(3)
        try:
            observations, infos = batch.reset(seed=0)
            masks = _masks_of(self._task.spec, infos, batch.num_envs)
            for solution in solutions:
                actions = _first_actions(solution.policy, observations, masks)
                _require(
                    masks is None or np.array_equal(nearest_legal(masks, actions), actions),
                    f"actions {actions.tolist()} are not all legal",
                )
                _require(
                    all(action in batch.single_action_space for action in actions),
                    f"action {actions[0]} is not in {batch.single_action_space}",
                )
        finally:
            batch.close()
        return f"{len(solutions)} solutions act"

    def _memory(self) -> str:
        policies = [solution.policy for solution in self._reference.agent.solutions()]
        remembering = [policy for policy in policies if is_stateful(policy)]
        if not remembering:
            raise _Skipped("its policies have no memory")
        batch = self._task.make_vec(4)
        try:
            for policy in remembering[:8]:
                self._check_memory(policy, batch)
        finally:
            batch.close()
        return f"{len(remembering)} policies remember what they should"

    def _check_memory(self, policy: StatefulPolicy, batch: Batch) -> None:
        """Four environments at once and two halves of them act the same way."""
        rng = np.random.default_rng(0)
        observations, infos = batch.reset(seed=0)
        states = [policy.begin(4), policy.begin(2), policy.begin(2)]
        _require_equal(states[1], states[2], "two memories that `begin` returned")
        halves = (slice(0, 2), slice(2, 4))
        for step in range(8):
            masks = _masks_of(self._task.spec, infos, batch.num_envs)
            every: dict[str, Any] = {} if masks is None else {"action_masks": masks}
            actions, states[0] = policy.act(observations, states[0], rng=rng, **every)
            for index, half in enumerate(halves, start=1):
                own = {name: values[half] for name, values in every.items()}
                part, states[index] = policy.act(observations[half], states[index], rng=rng, **own)
                _require(
                    not policy.deterministic or np.array_equal(part, actions[half]),
                    f"half of a batch acts differently from the whole at step {step}",
                )
            observations, rewards, terminated, truncated, infos = batch.step(actions)
            ended = terminated | truncated
            states[0] = policy.observe(states[0], rewards, ended)
            for index, half in enumerate(halves, start=1):
                states[index] = policy.observe(states[index], rewards[half], ended[half])
        _require_equal(policy.begin(2), policy.begin(2), "memories at the beginning")

    def _preferences(self) -> str:
        wanted = np.eye(self._task.spec.num_objectives)
        answers = self._reference.agent.solutions(wanted)
        _require(len(answers) == len(wanted), f"{len(answers)} answers to {len(wanted)}")
        for preference, answer in zip(wanted, answers, strict=True):
            _require(
                answer.preference is not None and np.array_equal(answer.preference, preference),
                f"asked for {preference}, answered for {answer.preference}",
            )
        return f"one solution for each of {len(wanted)} preferences"


def _first_actions(
    policy: Policy | StatefulPolicy, observations: NDArray[Any], masks: ActionMasks | None
) -> NDArray[Any]:
    """Actions at the first step of episodes."""
    rng = np.random.default_rng(0)
    _require(
        masks is None or takes_masks(policy),
        f"act of a {type(policy).__name__} has no keyword action_masks",
    )
    keywords: dict[str, Any] = {} if masks is None else {"action_masks": masks}
    if is_stateful(policy):
        return policy.act(observations, policy.begin(len(observations)), rng=rng, **keywords)[0]
    return cast(Policy, policy).act(observations, rng=rng, **keywords)


def _require_equal(mine: Any, theirs: Any, what: str) -> None:  # noqa: ANN401 - nested states
    place = _first_difference(mine, theirs, "")
    _require(place is None, f"{what} differ at {place}")


def _first_difference(mine: Any, theirs: Any, place: str) -> str | None:  # noqa: ANN401
    """Where two nested states differ first, in any bit; None if nowhere."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        if mine.keys() != theirs.keys():
            return f"{place} (keys {sorted(mine.keys() ^ theirs.keys())})"
        places = (_first_difference(mine[key], theirs[key], f"{place}/{key}") for key in mine)
        return next((found for found in places if found is not None), None)
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        if len(mine) != len(theirs):
            return f"{place} (lengths {len(mine)} and {len(theirs)})"
        pairs = enumerate(zip(mine, theirs, strict=True))
        places = (_first_difference(a, b, f"{place}/{index}") for index, (a, b) in pairs)
        return next((found for found in places if found is not None), None)
    left, right = np.asarray(mine), np.asarray(theirs)
    same = (left.shape, left.dtype, left.tobytes()) == (right.shape, right.dtype, right.tobytes())
    return None if same else (place or "the top")
