"""MO-Gymnasium's MuJoCo environments in batches: physics at the speed of bare ``mj_step``.

One compiled loop steps many `mjData` of one model; `morl.envs.mujoco_recipes` says what to
compute from them. Observations, rewards and ends of episodes equal MO-Gymnasium 1.3.2 to the last
bit under the same MuJoCo version, seeds and actions.
"""

from __future__ import annotations

import ctypes
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import mo_gymnasium  # noqa: F401 - registers its ids with Gymnasium
import numpy as np
from numpy.typing import NDArray

from morl.envs import mujoco_kernels as kernels
from morl.envs.mujoco_recipes import RECIPES, ContactCost, Recipe, Run
from morl.envs.vector import BatchedEnv, EnvArgumentError, checked_num_envs

if TYPE_CHECKING:
    import mujoco

WORTH_THREADS = 0.5e-3
"""Seconds below which a vector step is not split among threads: waking them costs too much."""

SHARES_PER_THREAD = 4
"""Parts of a vector step for each thread: cores of a busy machine are not equally fast."""

_MEASURED_STEPS = 4
_BLOCK = 8


@cache
def _library() -> ctypes.CDLL:
    """The copy of libmujoco that the mujoco package has loaded."""
    import mujoco  # here, because the registry imports this module where MuJoCo is missing, too

    folder = Path(mujoco.__file__).parent
    for pattern in ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll"):
        for path in sorted(folder.glob(pattern)):
            return ctypes.CDLL(str(path))
    raise EnvArgumentError(
        f"no libmujoco in {folder}: reinstall with `pip install 'morl-suite[mujoco]'`"
    )


def _address(function: str) -> int:
    """Address of a function of libmujoco."""
    return ctypes.cast(getattr(_library(), function), ctypes.c_void_p).value or 0


def _offset_of_pointer(structure: int, target: int) -> int:
    """Offset in bytes, within a C structure that holds it, of the pointer to `target`."""
    chunk = 64
    offset = 0
    while True:
        words = np.ctypeslib.as_array((ctypes.c_uint64 * chunk).from_address(structure + offset))
        hits = np.flatnonzero(words == target)
        if hits.size:
            return offset + 8 * int(hits[0])
        offset += 8 * chunk


def _delete(addresses: Sequence[int]) -> None:
    delete = _library().mj_deleteData
    delete.argtypes = [ctypes.c_void_p]
    delete.restype = None
    for address in addresses:
        delete(address)


class DataPool:
    """`count` `mjData` of one model, made by libmujoco itself.

    The Python class `mujoco.MjData` takes five times as long to make and more than twice the
    memory, which matters for evaluations with thousands of environments.

    Attributes:
        model: the model of all data.
        addresses: of the `mjData`, int64 ``(env,)``.
    """

    def __init__(self, model: mujoco.MjModel, count: int) -> None:
        """Allocate."""
        import mujoco

        make = _library().mj_makeData
        make.argtypes = [ctypes.c_void_p]
        make.restype = ctypes.c_void_p
        self.model = model
        made: list[int] = []
        self._finalizer = weakref.finalize(self, _delete, made)
        made.extend(make(model._address) for _ in range(count))
        self.addresses = np.array(made, np.int64)
        # All data of a model are laid out alike, so one Python view tells where fields are.
        self._view = mujoco.MjData(model)
        self._anchor = self._view.qpos.ctypes.data
        offset = _offset_of_pointer(self._view._address, self._anchor)
        self._positions = np.array(
            [ctypes.c_int64.from_address(address + offset).value for address in made], np.int64
        )

    def size(self, field: str) -> int:
        """How many numbers a field has."""
        return int(getattr(self._view, field).size)

    def field(self, field: str, start: int = 0) -> NDArray[np.int64]:
        """Addresses of one number of a field of doubles, int64 ``(env,)``."""
        distance = getattr(self._view, field).ctypes.data - self._anchor
        return np.asarray(self._positions + (distance + 8 * start), np.int64)

    def close(self) -> None:
        """Free the data now."""
        self._finalizer()


class StartStates:
    """Start states drawn ahead from every environment's own generator.

    Attributes:
        states: coming start states, ``(env, row, state)``.
        cursors: the next row of each environment, int64 ``(env,)``.
    """

    def __init__(
        self,
        num_envs: int,
        draw: Callable[[np.random.Generator, int], NDArray[np.float64]],
        width: int,
    ) -> None:
        """Nothing is drawn before it is needed."""
        self._draw = draw
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs
        self.states = np.zeros((num_envs, _BLOCK, width), np.float64)
        self.cursors = np.full(num_envs, _BLOCK, np.int64)

    def reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        """Start the streams of some environments anew; None is fresh entropy."""
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._seeds[i] = seed
            self._generators[i] = None
        self.cursors[indices] = _BLOCK

    def fill(self, indices: NDArray[np.int64]) -> None:
        """Make sure that each of some environments has a start state left."""
        for i in indices[self.cursors[indices] == _BLOCK].tolist():
            generator = self._generators[i]
            if generator is None:
                generator = self._generators[i] = np.random.default_rng(self._seeds[i])
            self.states[i] = self._draw(generator, _BLOCK)
            self.cursors[i] = 0


def _reference(env_id: str, kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    """MO-Gymnasium's own environment, from which the recipe is read."""
    with warnings.catch_warnings():
        # The registry lists v4 ids on purpose; Gymnasium advises against them.
        warnings.filterwarnings("ignore", message=".*out of date.*")
        warnings.filterwarnings("ignore", message=".*settotalmass.*")
        try:
            return gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
        except (TypeError, ValueError, OSError, gymnasium.error.Error) as error:
            raise EnvArgumentError(f"{env_id}: cannot be made: {error}") from error


def _addresses(pool: DataPool, recipe: Recipe) -> NDArray[np.int64]:
    """Columns as `morl.envs.mujoco_kernels` numbers them."""
    fixed = (pool.field("qpos"), pool.field("qvel"), pool.field("ctrl"))
    mover = pool.field(recipe.mover.field, recipe.mover.start)
    runs = [pool.field(run.field, run.start) for run in recipe.observation]
    columns = (pool.addresses, *fixed, mover, pool.field("cfrc_ext"), *runs)
    return np.stack(columns, axis=1)


def _physics(pool: DataPool, recipe: Recipe, frame_skip: int) -> kernels.Physics:
    model = pool.model
    return kernels.Physics(
        step=_address("mj_step"),
        forward=_address("mj_forward"),
        reset=_address("mj_resetData"),
        post_constraint=_address("mj_rnePostConstraint") if recipe.reads_contacts else 0,
        model=model._address,
        frame_skip=frame_skip,
        num_positions=model.nq,
        num_velocities=model.nv,
        num_controls=model.nu,
    )


def _movement(pool: DataPool, recipe: Recipe, duration: float) -> kernels.Movement:
    masses = pool.model.body_mass if recipe.uses_mass_centre else np.zeros(0)
    return kernels.Movement(
        masses=np.array(masses, np.float64), total_mass=float(masses.sum()), duration=duration
    )


def _observation(pool: DataPool, runs: Sequence[Run]) -> kernels.Observation:
    stops = [pool.size(run.field) if run.stop is None else run.stop for run in runs]
    lengths = [stop - run.start for run, stop in zip(runs, stops, strict=True)]
    limits = [(run.low, run.high) for run in runs]
    return kernels.Observation(np.array(lengths, np.int64), np.array(limits, np.float64))


def _reward(pool: DataPool, recipe: Recipe, initial: NDArray[np.float64]) -> kernels.Reward:
    contact = recipe.contact or ContactCost(0.0, is_shared=False)
    return kernels.Reward(
        kinds=np.array([term.kind for term in recipe.terms], np.int64),
        axes=np.array([term.axis for term in recipe.terms], np.int64),
        gains=np.array([term.gain for term in recipe.terms], np.float64),
        initial_positions=initial,
        cost_source=recipe.cost.source,
        cost_weight=float(recipe.cost.weight),
        cost_gain=float(recipe.cost.gain),
        cost_divisor=float(recipe.cost.divisor),
        cost_is_shared=recipe.cost_is_shared,
        unhealthy_bonus=float(recipe.unhealthy_bonus),
        healthy_bonus=float(recipe.healthy_bonus),
        num_forces=pool.size("cfrc_ext") if recipe.contact else 0,
        force_low=float(contact.force_low),
        force_high=float(contact.force_high),
        contact_weight=float(contact.weight),
        contact_low=float(contact.low),
        contact_high=float(contact.high),
        contact_is_shared=contact.is_shared,
    )


def _health(recipe: Recipe) -> kernels.Health:
    limits = [(bound.low, bound.high) for bound in recipe.bounds]
    return kernels.Health(
        entries=np.array([bound.entry for bound in recipe.bounds], np.int64),
        limits=np.array(limits, np.float64).reshape(-1, 2),
        terminates=bool(recipe.terminates),
    )


def _tables(pool: DataPool, recipe: Recipe, reference: Any) -> kernels.Tables:  # noqa: ANN401
    return kernels.Tables(
        addresses=_addresses(pool, recipe),
        physics=_physics(pool, recipe, reference.frame_skip),
        movement=_movement(pool, recipe, float(reference.dt)),
        observation=_observation(pool, recipe.observation),
        reward=_reward(pool, recipe, reference.init_qpos),
        health=_health(recipe),
    )


class MujocoVectorEnv(BatchedEnv):
    """A batch of one of MO-Gymnasium's MuJoCo environments.

    Actions are not clipped: MuJoCo clamps what reaches the motors, and the control cost counts
    the action as given, both as in MO-Gymnasium. A simulation that diverges is handled by MuJoCo,
    which warns, resets that environment's state and goes on; the reward of that step shows it.
    """

    _pool: DataPool | None = None
    _threads: ThreadPoolExecutor | None = None

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str,
        max_episode_steps: int | None = None,
        num_threads: int = 1,
        copy: bool = True,
        **kwargs: Any,  # noqa: ANN401 - those of MO-Gymnasium's environment
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: id of MO-Gymnasium, a key of `RECIPES`.
            max_episode_steps: steps after which an episode is truncated, None for the registered
                number.
            num_threads: threads that share a vector step worth more than `WORTH_THREADS`; the
                results do not depend on it.
            copy: whether returned arrays belong to the caller.
            **kwargs: constructor arguments of MO-Gymnasium's environment.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        count = checked_num_envs(num_envs, env_id=env_id)
        if env_id not in RECIPES:
            raise EnvArgumentError(f"no batch of {env_id!r}; there is one of {sorted(RECIPES)}")
        if num_threads < 1:
            raise EnvArgumentError(f"{env_id}: num_threads must be positive, got {num_threads}")
        reference = _reference(env_id, kwargs)
        registered = gymnasium.spec(env_id).max_episode_steps
        super().__init__(
            count,
            env_id=env_id,
            observation_space=reference.observation_space,
            action_space=reference.action_space,
            reward_space=reference.reward_space,
            max_episode_steps=registered if max_episode_steps is None else max_episode_steps,
            copy=copy,
        )
        self._recipe = RECIPES[env_id](reference)
        self._pool = DataPool(reference.model, count)
        self._tables = _tables(self._pool, self._recipe, reference)
        width = reference.model.nq + reference.model.nv
        self._starts = StartStates(count, self._recipe.draw, width)
        self._active = np.ones(count, np.bool_)
        self._all_active = True
        self._num_threads = min(num_threads, count)
        self._durations: list[float] = []

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Choose the environments that later steps advance.

        The others stand still and cost nothing: they return zeros, and no episode of theirs
        ends. Active again, they go on where they stood. A reset makes an environment active.

        Args:
            active: bool ``(env,)``.

        Raises:
            EnvArgumentError: for a mask of another shape or type.
        """
        mask = np.asarray(active)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise EnvArgumentError(
                f"{self.env_id}: the active mask must be {self.num_envs} booleans, got "
                f"{mask.dtype} of shape {mask.shape}"
            )
        self._active[:] = mask
        self._all_active = bool(mask.all())

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        self._starts.reseed(indices, seeds)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        starts = self._starts
        starts.fill(indices)
        kernels.restart(self._tables, indices, starts.states, starts.cursors, self._observations)
        self._active[indices] = True
        self._all_active = self._all_active or bool(self._active.all())
        self._finish(indices)

    def _finish(self, indices: NDArray[np.int64]) -> None:
        if self._recipe.finish is not None:
            rows = self._observations[indices]
            self._recipe.finish(rows)
            self._observations[indices] = rows

    def _controls(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        """What reaches ``ctrl``: the actions, or the rows that discrete actions stand for."""
        return actions if self._recipe.controls is None else self._recipe.controls[actions]

    def _advance(self, actions: NDArray[Any]) -> None:
        controls = self._controls(actions)
        if self._uses_threads():
            self._advance_in_threads(controls)
        else:
            self._advance_serially(controls)
        if self._recipe.finish is not None:
            self._finish(np.flatnonzero(self._active))
        if not self._all_active:
            # The base class counts a step for every environment.
            self._elapsed[~self._active] -= 1

    def _advance_range(self, controls: NDArray[np.float32], first: int, last: int) -> None:
        kernels.step(
            self._tables,
            first,
            last,
            self._active,
            controls,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _advance_serially(self, controls: NDArray[np.float32]) -> None:
        start = time.perf_counter()
        self._advance_range(controls, 0, self.num_envs)
        if len(self._durations) < _MEASURED_STEPS:
            share = max(int(self._active.sum()), 1) / self.num_envs
            self._durations.append((time.perf_counter() - start) / share)

    def _uses_threads(self) -> bool:
        """Whether the present step is worth sharing, judged by the fastest of the first few."""
        if self._num_threads == 1 or len(self._durations) < _MEASURED_STEPS:
            return False
        share = 1.0 if self._all_active else float(self._active.mean())
        return min(self._durations) * share > WORTH_THREADS

    def _advance_in_threads(self, controls: NDArray[np.float32]) -> None:
        """Share the step: the kernel lets go of the interpreter lock."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._num_threads - 1, f"{self.env_id}-step")
        # Many small shares, taken by whoever is free: equal ones would wait for the slower thread.
        active = np.flatnonzero(self._active)
        shares = np.array_split(active, min(self._num_threads * SHARES_PER_THREAD, len(active)))
        edges = [0, *(int(share[0]) for share in shares[1:]), self.num_envs]
        ranges: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for first, last in pairwise(edges):
            ranges.put((first, last))
        tasks = [
            self._threads.submit(self._advance_ranges, controls, ranges)
            for _ in range(self._num_threads - 1)
        ]
        self._advance_ranges(controls, ranges)
        wait(tasks)
        for task in tasks:
            task.result()

    def _advance_ranges(
        self, controls: NDArray[np.float32], ranges: SimpleQueue[tuple[int, int]]
    ) -> None:
        """Advance ranges of environments until none is left."""
        while True:
            try:
                first, last = ranges.get_nowait()
            except Empty:
                return
            self._advance_range(controls, first, last)

    def close_extras(self, **_: Any) -> None:  # noqa: ANN401 - signature of Gymnasium
        """Stop the threads and free the physics."""
        # Also called on a batch whose constructor raised.
        if self._threads is not None:
            self._threads.shutdown()
        if self._pool is not None:
            self._pool.close()


class PhysicsRate(NamedTuple):
    """Environment steps per CPU second.

    Attributes:
        bare: of ``mj_step`` alone, in a compiled loop.
        batch: of the batch, with observations, rewards and resets.
    """

    bare: float
    batch: float


def bare_mj_step_rate(
    env_id: str, *, num_envs: int = 16, steps: int = 200, seed: int = 0
) -> PhysicsRate:
    """Measure how near a batch comes to the physics below it.

    Two equal batches take turns on the same states and random actions, so that neither the
    machine's mood nor the difficulty of a state favours one.

    Args:
        env_id: key of `RECIPES`.
        num_envs: size of the batch, at least 1.
        steps: vector steps of each, at least 1.
        seed: of start states and actions.
    """
    batch, twin = (MujocoVectorEnv(num_envs, env_id=env_id) for _ in range(2))
    batch.action_space.seed(seed)
    batch.reset(seed=seed)
    twin.reset(seed=seed)
    # Load the compiled functions before the clock runs.
    actions = batch.action_space.sample()
    kernels.step_physics(twin._tables, twin._controls(actions)[:0])
    spent = {"bare": 0.0, "batch": 0.0}
    for step in range(steps):
        actions = batch.action_space.sample()
        order = ("bare", "batch") if step % 2 else ("batch", "bare")
        for which in order:
            start = time.process_time()
            if which == "bare":
                kernels.step_physics(twin._tables, twin._controls(actions))
            else:
                _, _, terminated, truncated, _ = batch.step(actions)
            spent[which] += time.process_time() - start
        finished = np.flatnonzero(terminated | truncated)
        twin._restart(finished)
    total = num_envs * steps
    return PhysicsRate(total / spent["bare"], total / spent["batch"])


def _register() -> None:
    """Let Gymnasium's registry make these batches; the specs are in `morl.envs.mo_gymnasium`."""
    for env_id in RECIPES:
        known = gymnasium.registry.get(env_id)
        if known is not None:
            known.vector_entry_point = partial(MujocoVectorEnv, env_id=env_id)


_register()
