"""What every batch of environments has in common; no dynamics here.

`BatchedEnv` is the base class of the compiled kernels, `SerialEnv` steps ordinary Gymnasium
environments one after the other behind the same contract.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numba import njit
from numpy.typing import NDArray

from morl.types import MorlError, NonFiniteError

Step = tuple[
    NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]
"""Observations, rewards, terminated, truncated, infos."""


_KNOWN_WARNINGS = (
    ".*precision lowered by casting.*",  # MO-Gymnasium gives float64 bounds to float32 boxes
    ".*settotalmass.*",  # in MuJoCo's half-cheetah
    ".*pkg_resources.*",  # pygame
    # Box2D's SWIG; as an error it crashes the interpreter.
    ".*builtin type .* has no __module__ attribute",
)
"""What third parties say while an environment is made and no caller can act upon."""


class EnvArgumentError(MorlError, ValueError):
    """An environment was asked for in a way that it cannot be made or reset."""


class ActionError(MorlError, ValueError):
    """Actions of the wrong shape, type or range."""


class NotResetError(MorlError, ResetNeeded):
    """A batch was stepped before its first reset."""


@njit(cache=True)
def _outside(actions: NDArray[np.int64], count: int) -> int:
    """Index of the first action outside [0, count), or -1."""
    outside = False
    for i in range(actions.shape[0]):  # without a way out, it becomes vector instructions
        outside |= (actions[i] < 0) | (actions[i] >= count)
    if outside:
        for i in range(actions.shape[0]):
            if actions[i] < 0 or actions[i] >= count:
                return i
    return -1


@njit(cache=True)
def _not_finite(rewards: NDArray[np.float64]) -> int:
    """First row with a number that is not finite, or -1."""
    numbers = rewards.reshape(-1)
    bad = 0
    for k in range(numbers.shape[0]):  # a sum of integers becomes vector instructions
        bad += (numbers[k] - numbers[k]) != 0.0
    if bad:
        for i in range(rewards.shape[0]):
            if not np.isfinite(rewards[i]).all():
                return i
    return -1


@njit(cache=True)
def _close_step(
    elapsed: NDArray[np.int64],
    horizon: int,
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    finished: NDArray[np.int64],
) -> tuple[int, int]:
    """Count steps, truncate at the horizon and list the episodes that ended.

    Returns:
        How many ended (their indices open `finished`), and the first environment whose reward is
        not finite, or -1.
    """
    for i in range(elapsed.shape[0]):
        elapsed[i] += 1
        truncated[i] |= elapsed[i] >= horizon
    count = 0
    for i in range(elapsed.shape[0]):
        # Written in any case: a branch that nobody can predict would cost more.
        finished[count] = i
        count += terminated[i] | truncated[i]
    return count, _not_finite(rewards)


@njit(cache=True)
def _any_above(numbers: NDArray[np.int64], limit: int) -> bool:
    above = 0
    for i in range(numbers.shape[0]):
        above += numbers[i] > limit
    return above > 0


@njit(cache=True)
def _rewind(elapsed: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
    for i in indices:  # faster than NumPy's indexing
        elapsed[i] = 0


class BatchedEnv(VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """N environments of one kind that advance together; base class of the compiled kernels.

    The base keeps the contract: action checks, step limits, same-step autoreset,
    ``infos["final_obs"]``, seeds, finite rewards, arrays that belong to the caller. A kernel
    supplies the dynamics in two methods and writes into the buffers of the base:

    - `_advance(actions)`: one step of all environments. Writes ``self._observations``,
      ``self._rewards`` and ``self._terminated``, and ``self._truncated`` where the dynamics
      themselves truncate (all False on entry). It never resets.
    - `_restart(indices)`: new episodes in the environments `indices`. Writes their state and
      their rows of ``self._observations``; the other rows stay.
    - `_action_masks()`, only where some actions are illegal at times: booleans ``(env, action)`` of
      the next actions, which the base returns as ``infos["action_mask"]``.
    - `_reseed(indices, seeds)`, only where there is randomness: new random streams. A kernel that
      keeps a `RandomBlocks` in ``self._random`` need not override it.

    Random streams: environment i of ``reset(seed=s)`` starts from seed ``s + i``, its draws
    depend on that seed and its own past alone, never on the size of the batch or on other
    environments. An autoreset goes on with the stream, as Gymnasium's single environments do.

    Gymnasium's vocabulary is kept: ``reset(options={"reset_mask": mask})`` resets a part,
    ``infos["_final_obs"]`` masks the rows of ``infos["final_obs"]`` that mean something.

    Attributes:
        env_id: name in the registry, for messages.
        reward_space: space of one reward vector.
    """

    # Gymnasium declares plain spaces; a batch promises boxes of observations and rewards.
    single_observation_space: spaces.Box
    observation_space: spaces.Box
    reward_space: spaces.Box

    def __init__(
        self,
        num_envs: int,
        *,
        env_id: str,
        observation_space: spaces.Box,
        action_space: spaces.Discrete | spaces.Box,
        reward_space: spaces.Box,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Allocate the buffers.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name of the environment, for messages.
            observation_space: space of one observation.
            action_space: space of one action; a `Discrete` starts at 0.
            reward_space: space of one reward vector.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller; False hands out the buffers,
                which the next step overwrites.

        Raises:
            EnvArgumentError: for a batch without environments or a step limit below 1.
        """
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._env_id = env_id
        self.num_envs = checked_num_envs(num_envs, env_id=env_id)
        if max_episode_steps is not None and max_episode_steps < 1:
            raise EnvArgumentError(
                f"{env_id}: step limit must be positive, got {max_episode_steps}"
            )
        self.max_episode_steps = max_episode_steps
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = cast(spaces.Box, batch_space(observation_space, self.num_envs))
        self.action_space = batch_space(action_space, self.num_envs)
        self.reward_space = reward_space
        self.copy = copy

        count = self.num_envs
        self._observations: NDArray[Any] = np.zeros(
            (count, *observation_space.shape), observation_space.dtype
        )
        self._rewards = np.zeros((count, *reward_space.shape), np.float64)
        self._terminated = np.zeros(count, np.bool_)
        self._truncated = np.zeros(count, np.bool_)
        self._elapsed = np.zeros(count, np.int64)
        self._finished = np.zeros(count, np.int64)
        self._random: RandomBlocks | None = None
        self._is_reset = False
        self._may_mask = type(self)._action_masks is not BatchedEnv._action_masks
        self._steps = 0

    @property
    def env_id(self) -> str:
        """Name in the registry; Gymnasium sets `spec` where it made the batch."""
        return self._env_id if self.spec is None else self.spec.id

    def _advance(self, actions: NDArray[Any]) -> None:
        """Step all environments; see the class docstring.

        Args:
            actions: int64 ``(env,)`` for discrete actions, else of the action space's dtype,
                ``(env, *action)``; checked, finite, not clipped.
        """
        raise NotImplementedError

    def _restart(self, indices: NDArray[np.int64]) -> None:
        """Start new episodes in the environments `indices`; see the class docstring."""
        raise NotImplementedError

    def _action_masks(self) -> NDArray[np.bool_] | None:
        """Legal next actions, ``(env, action)``, or None where all always are."""
        return None

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        """Give the environments `indices` new random streams; None is fresh entropy."""
        if self._random is not None:
            self._random.reseed(indices, seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start new episodes everywhere, or where ``options["reset_mask"]`` says so.

        Args:
            seed: environment i starts from ``seed + i``; a sequence gives one each; None goes on
                with the present streams (fresh entropy before the first reset).
            options: ``"reset_mask"``, bool ``(env,)``; nothing else is known.

        Returns:
            Observations ``(env, *observation)`` and infos, which are empty but for
            ``"action_mask"`` where actions are masked.

        Raises:
            EnvArgumentError: for seeds or options that do not fit.
        """
        self._check_open()
        indices = self._indices_to_reset(options)
        seeds = self._seeds(seed)
        if seed is not None or not self._is_reset:
            chosen = [seeds[i] for i in indices]
            self._reseed(indices, chosen)
        self._restart(indices)
        self._elapsed[indices] = 0
        self._is_reset = True
        return self._give(self._observations), self._with_masks({})

    def step(self, actions: NDArray[Any]) -> Step:
        """Advance every environment by one step; those that end start anew at once.

        Args:
            actions: ``(env,)`` integers for discrete actions, else ``(env, *action)`` floats.
                Continuous actions are not clipped: the caller clips.

        Returns:
            Observations (of the new episode where one ended), rewards ``(env, objective)``,
            terminated, truncated, and infos: ``"final_obs"`` and the mask ``"_final_obs"`` when
            at least one episode ended.

        Raises:
            ActionError: for actions of the wrong shape, type or range.
            NonFiniteError: for an action or a reward that is not finite.
            NotResetError: before the first reset.
        """
        self._check_open()
        if not self._is_reset:
            raise NotResetError(f"{self.env_id}: call reset() before the first step()")
        checked = self._checked_actions(actions)
        self._truncated.fill(False)
        self._advance(checked)
        self._steps += 1
        horizon = self.max_episode_steps or np.iinfo(np.int64).max
        count, bad = _close_step(
            self._elapsed, horizon, self._rewards, self._terminated, self._truncated, self._finished
        )
        if bad >= 0:
            raise NonFiniteError(
                f"{self.env_id}: reward {self._rewards[bad].tolist()} of environment {bad} at "
                f"step {self._steps} of the batch (step {self._elapsed[bad]} of its episode)"
            )
        infos: dict[str, Any] = {}
        if count:
            infos["final_obs"] = self._observations.copy()
            infos["_final_obs"] = self._terminated | self._truncated
            finished = self._finished[:count]
            self._restart(finished)
            _rewind(self._elapsed, finished)
        return (
            self._give(self._observations),
            self._give(self._rewards),
            self._give(self._terminated),
            self._give(self._truncated),
            self._with_masks(infos),
        )

    def _with_masks(self, infos: dict[str, Any]) -> dict[str, Any]:
        if not self._may_mask:
            return infos
        masks = self._action_masks()
        if masks is not None:
            infos["action_mask"] = masks.copy()
        return infos

    def _give(self, buffer: NDArray[Any]) -> NDArray[Any]:
        return buffer.copy() if self.copy else buffer

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self.env_id}: this batch was closed")

    def _indices_to_reset(self, options: dict[str, Any] | None) -> NDArray[np.int64]:
        mask = (options or {}).get("reset_mask")
        unknown = sorted(set(options or {}) - {"reset_mask"})
        if unknown:
            raise EnvArgumentError(f"{self.env_id}: unknown reset options {unknown}")
        if mask is None:
            return np.arange(self.num_envs, dtype=np.int64)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise EnvArgumentError(
                f"{self.env_id}: reset_mask must be {self.num_envs} booleans, at least one true"
            )
        if not self._is_reset and not mask.all():
            raise NotResetError(f"{self.env_id}: the first reset must be of the whole batch")
        return np.flatnonzero(mask).astype(np.int64)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            if seed < 0:
                raise EnvArgumentError(f"{self.env_id}: seeds are not negative, got {seed}")
            return range(int(seed), int(seed) + self.num_envs)
        seeds = [None if one is None else int(one) for one in seed]
        if len(seeds) != self.num_envs:
            raise EnvArgumentError(
                f"{self.env_id}: {len(seeds)} seeds for {self.num_envs} environments"
            )
        if any(one is not None and one < 0 for one in seeds):
            raise EnvArgumentError(f"{self.env_id}: seeds are not negative, got {min(seeds)}")  # type: ignore[type-var]
        return seeds

    def _checked_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        array = np.asarray(actions)
        if array.shape != self.action_space.shape:
            raise ActionError(
                f"{self.env_id}: expected actions of shape {self.action_space.shape}, one a row of "
                f"{self.num_envs} environments, got shape {array.shape}"
            )
        if isinstance(self.single_action_space, spaces.Discrete):
            return self._checked_discrete(array)
        if array.dtype.kind not in "fiu":
            raise ActionError(f"{self.env_id}: expected float actions, got {array.dtype}")
        array = array.astype(self.single_action_space.dtype, copy=False)
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array.reshape(self.num_envs, -1)).all(axis=1))[0])
            raise NonFiniteError(
                f"{self.env_id}: action {array[bad].tolist()} for environment {bad} at step "
                f"{self._steps + 1} of the batch"
            )
        return np.ascontiguousarray(array)

    def _checked_discrete(self, array: NDArray[Any]) -> NDArray[np.int64]:
        assert isinstance(self.single_action_space, spaces.Discrete)
        if array.dtype.kind not in "iu":
            raise ActionError(f"{self.env_id}: expected integer actions, got {array.dtype}")
        actions = np.ascontiguousarray(array, dtype=np.int64)
        bad = _outside(actions, int(self.single_action_space.n))
        if bad >= 0:
            raise ActionError(
                f"{self.env_id}: action {array[bad]} for environment {bad} is not in "
                f"0..{int(self.single_action_space.n) - 1}"
            )
        return actions


class RandomBlocks:
    """Random numbers for compiled kernels: one private stream an environment, drawn ahead.

    Row i of `values` holds coming draws of environment i's own generator, and ``cursor[i]`` says
    how many are used up. The sequence that an environment reads is exactly what its generator
    gives one draw at a time, so a kernel can follow Gymnasium's ``np_random`` bit for bit, and
    nothing depends on the size of the block or of the batch.

    Attributes:
        values: float64 ``(env, draw)``.
        cursor: int64 ``(env,)``, the next draw to read.
    """

    def __init__(
        self,
        num_envs: int,
        draw: Callable[[np.random.Generator, int], NDArray[np.float64]],
        *,
        per_step: int,
        block: int = 256,
    ) -> None:
        """Keep streams that nobody has read from yet.

        Args:
            num_envs: size of the batch.
            draw: takes `count` draws from a generator, as one at a time would give them
                (``lambda rng, count: rng.standard_normal(count)``).
            per_step: most draws that one environment uses between two calls of `fill`.
            block: draws kept at once for each environment.
        """
        self._draw = draw
        self._per_step = per_step
        self._block = max(block, 2 * per_step)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs
        self.values = np.zeros((num_envs, self._block), np.float64)
        self.cursor = np.full(num_envs, self._block, np.int64)

    def reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        """Start the streams of the environments `indices` anew; None is fresh entropy."""
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._seeds[i] = seed
            self._generators[i] = None
        self.cursor[indices] = self._block

    def fill(self) -> None:
        """Make sure that every environment can read `per_step` draws more."""
        limit = self._block - self._per_step
        if not _any_above(self.cursor, limit):
            return
        for i in np.flatnonzero(self.cursor > limit).tolist():
            used = int(self.cursor[i])
            self.values[i, : self._block - used] = self.values[i, used:]
            self.values[i, self._block - used :] = self._draw(self._generator(i), used)
            self.cursor[i] = 0

    def _generator(self, index: int) -> np.random.Generator:
        # Made on first use: most deterministic episodes never need one.
        generator = self._generators[index]
        if generator is None:
            generator = np.random.default_rng(self._seeds[index])
            self._generators[index] = generator
        return generator


class SerialEnv(BatchedEnv):
    """Ordinary Gymnasium environments with vector rewards, stepped one after the other.

    Replaces MO-Gymnasium's ``MOSyncVectorEnv``, which stores rewards in single precision and
    knows next-step autoreset alone. Observations that are no `Box` are flattened into one.
    """

    def __init__(
        self,
        num_envs: int,
        make: Callable[[], gymnasium.Env[Any, Any]],
        *,
        env_id: str,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make `num_envs` environments.

        Args:
            num_envs: size of the batch, at least 1.
            make: makes one environment, without a time limit; its ``unwrapped.reward_space`` is
                the space of its reward vector.
            env_id: name of the environment, for messages.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: when an environment cannot be made, or its rewards are no vectors.
        """
        checked_num_envs(num_envs, env_id=env_id)
        self.envs = [self._made(make, env_id) for _ in range(num_envs)]
        first = self.envs[0]
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=_flat_space(first.observation_space, env_id=env_id),
            action_space=_supported_action_space(first.action_space, env_id=env_id),
            reward_space=_vector_reward_space(first, env_id=env_id),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._flatten = not isinstance(first.observation_space, spaces.Box)
        self._masks: NDArray[np.bool_] | None = None
        self._next_seeds: list[int | None] = [None] * num_envs

    @staticmethod
    def _made(make: Callable[[], gymnasium.Env[Any, Any]], env_id: str) -> gymnasium.Env[Any, Any]:
        with warnings.catch_warnings():
            for message in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            try:
                return make()
            except Exception as error:  # third-party constructors raise anything
                raise EnvArgumentError(f"{env_id}: cannot be made: {error}") from error

    def _observation(self, index: int, observation: Any) -> NDArray[Any]:  # noqa: ANN401
        if self._flatten:
            space = self.envs[index].observation_space
            return np.asarray(spaces.flatten(space, observation))
        return np.asarray(observation)

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._next_seeds[i] = seed

    def _restart(self, indices: NDArray[np.int64]) -> None:
        for i in indices.tolist():
            observation, info = self.envs[i].reset(seed=self._next_seeds[i])
            self._next_seeds[i] = None
            self._observations[i] = self._observation(i, observation)
            self._note_mask(i, info)

    def _advance(self, actions: NDArray[Any]) -> None:
        rows = actions.tolist() if actions.ndim == 1 else actions
        for i, action in enumerate(rows):
            observation, reward, terminated, truncated, info = self.envs[i].step(action)
            if np.asarray(reward).shape != self._rewards.shape[1:]:
                raise EnvArgumentError(
                    f"{self.env_id}: expected a reward of {self._rewards.shape[1]} objectives, "
                    f"got {reward!r}"
                )
            self._observations[i] = self._observation(i, observation)
            self._rewards[i] = reward
            self._terminated[i] = terminated
            self._truncated[i] = truncated
            self._note_mask(i, info)

    def _action_masks(self) -> NDArray[np.bool_] | None:
        return self._masks

    def _note_mask(self, index: int, info: dict[str, Any]) -> None:
        """Keep the mask of an environment that says in one of two ways what is legal."""
        mask = mask_of(self.envs[index], info)
        if mask is None:
            return
        space = self.single_action_space
        if not isinstance(space, spaces.Discrete) or mask.shape != (int(space.n),):
            raise EnvArgumentError(
                f"{self.env_id}: an action mask must have one boolean per discrete action; the "
                f"actions are {space} and the mask has shape {mask.shape}"
            )
        if self._masks is None:
            self._masks = np.ones((self.num_envs, int(space.n)), np.bool_)
        self._masks[index] = mask

    def close_extras(self, **_: Any) -> None:  # noqa: ANN401 - signature of Gymnasium
        """Close the environments."""
        for env in self.envs:
            env.close()


def mask_of(env: gymnasium.Env[Any, Any], info: dict[str, Any]) -> NDArray[np.bool_] | None:
    """What a single environment says of its next actions, (action,), or None.

    It may put ``"action_mask"`` into its info, as Gymnasium's environments do, or define
    ``action_masks()``, as sb3-contrib asks for it; the info goes first.
    """
    found = info.get("action_mask")
    if found is None:
        # A wrapper may define it, as sb3-contrib's ActionMasker does.
        told = env.has_wrapper_attr("action_masks")
        found = env.get_wrapper_attr("action_masks")() if told else None
    return None if found is None else np.asarray(found, np.bool_)


def checked_num_envs(num_envs: int, *, env_id: str) -> int:
    """`num_envs` as an int.

    Raises:
        EnvArgumentError: when it is below 1 or no integer.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise EnvArgumentError(
            f"{env_id}: num_envs must be an integer of at least 1, got {num_envs!r}"
        )
    return int(num_envs)


def _flat_space(space: gymnasium.Space[Any], *, env_id: str) -> spaces.Box:
    flat = space if isinstance(space, spaces.Box) else spaces.flatten_space(space)
    if not isinstance(flat, spaces.Box):
        raise EnvArgumentError(f"{env_id}: observations cannot become one array: {space}")
    return flat


def _supported_action_space(
    space: gymnasium.Space[Any], *, env_id: str
) -> spaces.Discrete | spaces.Box:
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return space
    if isinstance(space, spaces.Box):
        return space
    raise EnvArgumentError(f"{env_id}: actions must be Discrete from 0 or Box, got {space}")


def _vector_reward_space(env: gymnasium.Env[Any, Any], *, env_id: str) -> spaces.Box:
    space = getattr(env.unwrapped, "reward_space", None)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise EnvArgumentError(
            f"{env_id}: its unwrapped environment needs a reward_space, a Box of shape "
            f"(objective,); it has {space}"
        )
    return space
