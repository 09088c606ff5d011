"""Minecart: collect two ores from five mines and waste little fuel.

Dynamics of MO-Gymnasium 1.3.2 (Abels et al. 2019, arXiv:1809.07803), bit for bit, with two
repairs. MO-Gymnasium draws ore from NumPy's global generator, so its seed decides nothing; here
every environment draws from its own seeded stream. And a cart that rounding has overfilled does not
turn to NaN when a mine yields nothing.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from morl.envs.vector import BatchedEnv, EnvArgumentError, RandomBlocks

MINE, LEFT, RIGHT, ACCELERATE, BRAKE, NONE = range(6)
"""Actions."""

# Constants of MO-Gymnasium 1.3.2, `minecart.py`; lengths in map widths, angles in degrees.
LEAST_SPEED = 0.001
MAX_SPEED = 1.0
ROTATION = 10.0
ACCELERATION = 0.0075
DECELERATION = 1.0
MINE_RADIUS = 0.14
BASE_RADIUS = 0.15
FUEL_IDLE = -0.005
FUEL_ACCELERATE = -0.025
FUEL_MINE = -0.05
START_ANGLE = 45.0


class Mines(NamedTuple):
    """Where the ore is.

    Attributes:
        positions: ``(mine, 2)``.
        means: mean of the normal yield per mining step before truncation at 0, ``(mine, ore)``.
        deviations: its standard deviation, ``(mine, ore)``.
        capacity: of the cart, in units of ore.
    """

    positions: NDArray[np.float64]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    capacity: float


def default_config(*, deterministic: bool = False) -> Path:
    """Path of the mine layout that ships with MO-Gymnasium."""
    name = "mine_config_det.json" if deterministic else "mine_config.json"
    return Path(str(resources.files("mo_gymnasium.envs.minecart") / name))


def load_mines(config: str | Path) -> Mines:
    """Read a layout in MO-Gymnasium's JSON format; every mine states its distributions.

    Args:
        config: path of the file.

    Raises:
        EnvArgumentError: when the file is missing or lacks something.
    """
    try:
        data = json.loads(Path(config).read_text())
        yields = np.array([mine["distributions"] for mine in data["mines"]], np.float64)
        positions = np.array([[mine["x"], mine["y"]] for mine in data["mines"]], np.float64)
        capacity = float(data["capacity"])
        # A table of other than (mine, ore, 2) numbers fails here rather than in the kernel.
        means, deviations = (np.ascontiguousarray(yields[:, :, k]) for k in range(2))
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise EnvArgumentError(f"minecart: unusable mine layout {config}: {error!r}") from error
    return Mines(positions, means, deviations, capacity)


def _emit_fused(_context: Any, x: Any, y: Any, z: Any) -> Any:  # noqa: ANN401 - Numba's types
    """Compile ``x * y + z``, rounded once."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.fma(*arguments)

    return types.float64(x, y, z), generate


# Its Python signature lacks the typing context, which no type checker can know.
_fused: Any = intrinsic(_emit_fused)


@njit(cache=True)
def _length(x: float, y: float) -> float:
    """Length of a vector.

    MO-Gymnasium takes it from ``np.dot``, where BLAS fuses the second product and the sum.
    """
    return math.sqrt(_fused(y, y, x * x))


@njit(cache=True, inline="always")
def _clip(value: float, low: float, high: float) -> float:
    if value <= low:
        return low
    if value >= high:
        return high
    return value


@njit(cache=True)
def _move(cart: NDArray[np.float64]) -> None:
    """Move one cart ``(x, y, speed, angle)``; at a wall it turns and slides along."""
    speed = cart[2]
    if speed < LEAST_SPEED:
        return
    x, y, angle = cart[0], cart[1], cart[3]
    vx = speed * math.cos(angle * math.pi / 180)
    vy = speed * math.sin(angle * math.pi / 180)
    if y != 0 and y != 1 and (vy > LEAST_SPEED or vy < -LEAST_SPEED):
        if x == 1 and vx > 0:
            angle += math.copysign(ROTATION, vy)
        if x == 0 and vx < 0:
            angle -= math.copysign(ROTATION, vy)
    if x != 0 and x != 1 and (vx > LEAST_SPEED or vx < -LEAST_SPEED):
        if y == 1 and vy > 0:
            angle -= math.copysign(ROTATION, vx)
        if y == 0 and vy < 0:
            angle += math.copysign(ROTATION, vx)
    cart[0] = _clip(x + vx, 0.0, 1.0)
    cart[1] = _clip(y + vy, 0.0, 1.0)
    cart[2] = _length(x - cart[0], y - cart[1])
    cart[3] = angle


@njit(cache=True)
def _mine(
    cart: NDArray[np.float64],
    content: NDArray[np.float64],
    mined: NDArray[np.float64],
    positions: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    capacity: float,
    normals: NDArray[np.float64],
    cursor: int,
    stochastic: bool,
) -> int:
    """Load ore where a standing cart is near a mine; returns the new cursor into `normals`."""
    if cart[2] >= LEAST_SPEED:
        return cursor
    nearest = 0
    least = np.inf
    for k in range(positions.shape[0]):
        distance = _length(cart[0] - positions[k, 0], cart[1] - positions[k, 1])
        if distance < least:
            least = distance
            nearest = k
    if least > MINE_RADIUS:
        return cursor
    total = 0.0
    loaded = 0.0
    for j in range(content.shape[0]):
        amount = means[nearest, j]
        if stochastic:
            amount = normals[cursor] * deviations[nearest, j] + means[nearest, j]
            cursor += 1
        mined[j] = max(0.0, amount)
        total += mined[j]
        loaded += content[j]
    free = capacity - loaded
    # A full cart may be overfull by a rounding error: MO-Gymnasium then divides an empty yield by
    # zero, and all that follows is NaN.
    scale = free / total if total > free and total > 0.0 else 1.0
    for j in range(content.shape[0]):
        content[j] += mined[j] * scale
    return cursor


@njit(cache=True)
def _observe(
    i: int,
    carts: NDArray[np.float64],
    contents: NDArray[np.float64],
    capacity: float,
    observations: NDArray[np.float32],
) -> None:
    radians = carts[i, 3] * (math.pi / 180.0)
    observations[i, 0] = carts[i, 0]
    observations[i, 1] = carts[i, 1]
    observations[i, 2] = carts[i, 2]
    observations[i, 3] = math.sin(radians)
    observations[i, 4] = math.cos(radians)
    for j in range(contents.shape[1]):
        observations[i, 5 + j] = contents[i, j] / capacity


@njit(cache=True)
def _steer(cart: NDArray[np.float64], action: int) -> None:
    if action == LEFT:
        cart[3] = (cart[3] - ROTATION) % 360.0
    elif action == RIGHT:
        cart[3] = (cart[3] + ROTATION) % 360.0
    elif action == ACCELERATE:
        cart[2] = _clip(cart[2] + ACCELERATION, 0.0, MAX_SPEED)
    elif action == BRAKE:
        cart[2] = _clip(cart[2] - DECELERATION, 0.0, MAX_SPEED)


@njit(cache=True)
def _fuel(action: int, frame_skip: int) -> np.float32:
    # MO-Gymnasium adds up fuel in single precision.
    fuel = np.float32(FUEL_IDLE * frame_skip)
    if action == ACCELERATE:
        fuel += np.float32(FUEL_ACCELERATE * frame_skip)
    elif action == MINE:
        fuel += np.float32(FUEL_MINE * frame_skip)
    return fuel


@njit(cache=True)
def _comes_home(cart: NDArray[np.float64], departed: NDArray[np.bool_], i: int) -> bool:
    """Whether cart i is back at the base after having left it; notes when it leaves."""
    if _length(cart[0], cart[1]) < BASE_RADIUS:
        return bool(departed[i])
    departed[i] = True
    return False


@njit(cache=True)
def _advance(
    actions: NDArray[np.int64],
    carts: NDArray[np.float64],
    contents: NDArray[np.float64],
    departed: NDArray[np.bool_],
    mined: NDArray[np.float64],
    positions: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    capacity: float,
    frame_skip: int,
    normals: NDArray[np.float64],
    cursors: NDArray[np.int64],
    stochastic: bool,
    observations: NDArray[np.float32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    ores = contents.shape[1]
    for i in range(actions.shape[0]):
        action = actions[i]
        cart = carts[i]
        rewards[i, :ores] = 0.0
        rewards[i, ores] = _fuel(action, frame_skip)
        terminated[i] = False
        for _ in range(frame_skip):
            _steer(cart, action)
            if action == MINE:
                cursors[i] = _mine(
                    cart,
                    contents[i],
                    mined,
                    positions,
                    means,
                    deviations,
                    capacity,
                    normals[i],
                    cursors[i],
                    stochastic,
                )
            if terminated[i]:
                # Seen in the last observation: the action is applied once more after coming home.
                break
            _move(cart)
            if _comes_home(cart, departed, i):
                terminated[i] = True
                for j in range(ores):
                    rewards[i, j] = np.float32(contents[i, j])
                    contents[i, j] = 0.0
        _observe(i, carts, contents, capacity, observations)


@njit(cache=True)
def _restart(
    indices: NDArray[np.int64],
    carts: NDArray[np.float64],
    contents: NDArray[np.float64],
    departed: NDArray[np.bool_],
    capacity: float,
    observations: NDArray[np.float32],
) -> None:
    for i in indices:
        carts[i, :3] = 0.0
        carts[i, 3] = START_ANGLE
        contents[i] = 0.0
        departed[i] = False
        _observe(i, carts, contents, capacity, observations)


class MinecartVectorEnv(BatchedEnv):
    """N carts in one compiled loop.

    Observation: position (x, y), speed, sine and cosine of the heading, content of each ore as a
    share of the capacity; float32 ``(7,)``. Actions: mine, left, right, accelerate, brake, none.
    Reward: each ore sold at the base, and fuel. The episode ends when the cart is back at the base.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = "minecart-v0",
        config: str | Path | None = None,
        frame_skip: int = 4,
        max_episode_steps: int | None = 1000,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            config: mine layout in MO-Gymnasium's JSON format; None for its stochastic default.
            frame_skip: inner steps an action is repeated for, at least 1.
            max_episode_steps: steps after which an episode is truncated, None for no limit.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        if frame_skip < 1:
            raise EnvArgumentError(f"{env_id}: frame_skip must be at least 1, got {frame_skip}")
        self.mines = load_mines(default_config() if config is None else config)
        ores = self.mines.means.shape[1]
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(-1.0, 1.0, (5 + ores,), np.float32),
            action_space=spaces.Discrete(6),
            reward_space=_reward_space(ores, self.mines.capacity, frame_skip),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self.frame_skip = frame_skip
        self._carts = np.zeros((self.num_envs, 4))
        self._contents = np.zeros((self.num_envs, ores))
        self._departed = np.zeros(self.num_envs, np.bool_)
        self._mined = np.zeros(ores)
        self._stochastic = bool(self.mines.deviations.any())
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs,
            lambda rng, count: rng.standard_normal(count),
            per_step=ores * frame_skip,
            block=256 if self._stochastic else 1,
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        if self._stochastic:
            self._random.fill()
        _advance(
            actions,
            self._carts,
            self._contents,
            self._departed,
            self._mined,
            *self.mines,
            self.frame_skip,
            self._random.values,
            self._random.cursor,
            self._stochastic,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        _restart(
            indices,
            self._carts,
            self._contents,
            self._departed,
            self.mines.capacity,
            self._observations,
        )


def _reward_space(ores: int, capacity: float, frame_skip: int) -> spaces.Box:
    low = np.zeros(ores + 1, np.float32)
    low[-1] = -1.0 if frame_skip <= 16 else frame_skip * (FUEL_IDLE + FUEL_MINE)
    high = np.full(ores + 1, capacity, np.float32)
    high[-1] = 0.0
    return spaces.Box(low, high, dtype=np.float32)
