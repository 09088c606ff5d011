"""Compiled loops that call libmujoco's own C functions on many `mjData`; no environment is named.

What differs between environments stands in tables (`Tables`): which numbers make up an
observation, which terms a reward, which bounds end an episode. Addresses of C functions and of
`mjData` fields arrive as plain integers, so that the machine code is cached on disk and serves
every process. Arithmetic follows NumPy's, its precision and order of summation included, because
results are meant to equal those of MO-Gymnasium to the last bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic
from numpy.typing import NDArray

# Kinds of reward terms.
VELOCITY = 0
HEIGHT = 1
COST = 2
DISTANCE = 3

# What a control cost sums up.
ACTION = 0
CONTROL = 1
CONTACT = 2


# Columns of `Tables.addresses`.
DATA = 0
POSITIONS = 1
VELOCITIES = 2
CONTROLS = 3
MOVER = 4
FORCES = 5
RUNS = 6


class Physics(NamedTuple):
    """Addresses of C functions, and sizes.

    Attributes:
        step: address of ``mj_step``.
        forward: address of ``mj_forward``.
        reset: address of ``mj_resetData``.
        post_constraint: address of ``mj_rnePostConstraint``, 0 where nobody reads its results.
        model: address of the one `mjModel`.
        frame_skip: physics steps in one environment step.
        num_positions: length of ``qpos``.
        num_velocities: length of ``qvel``.
        num_controls: length of ``ctrl``.
    """

    step: int
    forward: int
    reset: int
    post_constraint: int
    model: int
    frame_skip: int
    num_positions: int
    num_velocities: int
    num_controls: int


class Movement(NamedTuple):
    """How the velocity of what moves (`MOVER`) is measured.

    Attributes:
        masses: of all bodies, ``(body,)``, when the centre of mass moves and `MOVER` is
            ``xipos``; empty where `MOVER` is x, with y behind it.
        total_mass: their sum in kg.
        duration: seconds of one environment step.
    """

    masses: NDArray[np.float64]
    total_mass: float
    duration: float


class Observation(NamedTuple):
    """Runs of `mjData` numbers that make up an observation, in the order of the columns.

    Attributes:
        lengths: int64 ``(run,)``.
        limits: lower and upper clip, ``(run, 2)``.
    """

    lengths: NDArray[np.int64]
    limits: NDArray[np.float64]


class Reward(NamedTuple):
    """Terms of the reward vector: one a component, then shared ones added to all components.

    Attributes:
        kinds: `VELOCITY`, `HEIGHT`, `COST` or `DISTANCE`, int64 ``(objective,)``.
        axes: coordinate of a velocity (0 or 1), index into ``qpos`` of a height, offset of the
            target from the moving point in numbers for a distance, int64 ``(objective,)``.
        gains: factor of a velocity, height or distance, ``(objective,)``.
        initial_positions: ``qpos`` of the model, ``(position,)``.
        cost_source: `ACTION` (squared in single precision), `CONTROL` or `CONTACT`.
        cost_weight: factor applied first.
        cost_gain: factor applied second.
        cost_divisor: divisor applied last.
        cost_is_shared: whether the cost is added to all components.
        unhealthy_bonus: added to all components of an unhealthy state.
        healthy_bonus: added to all components of a healthy state.
        num_forces: how many contact forces there are; 0 for no contact cost.
        force_low: lower clip of a force.
        force_high: upper clip of a force.
        contact_weight: factor of the sum of squared forces.
        contact_low: lower clip of the contact cost.
        contact_high: upper clip of the contact cost.
        contact_is_shared: whether the contact cost is subtracted from all components.
    """

    kinds: NDArray[np.int64]
    axes: NDArray[np.int64]
    gains: NDArray[np.float64]
    initial_positions: NDArray[np.float64]
    cost_source: int
    cost_weight: float
    cost_gain: float
    cost_divisor: float
    cost_is_shared: bool
    unhealthy_bonus: float
    healthy_bonus: float
    num_forces: int
    force_low: float
    force_high: float
    contact_weight: float
    contact_low: float
    contact_high: float
    contact_is_shared: bool


class Health(NamedTuple):
    """Open intervals that a healthy state keeps to.

    Attributes:
        entries: indices into ``qpos`` followed by ``qvel``, int64 ``(bound,)``.
        limits: the entry lies strictly between them, ``(bound, 2)``.
        terminates: whether an unhealthy state ends the episode.
    """

    entries: NDArray[np.int64]
    limits: NDArray[np.float64]
    terminates: bool


class Tables(NamedTuple):
    """All that the kernels know of an environment.

    Attributes:
        addresses: of every environment's data and fields, int64 ``(env, column)``: `DATA`,
            ``qpos``, ``qvel``, ``ctrl``, `MOVER`, ``cfrc_ext``, then the runs of the observation.
        physics: C functions and sizes.
        movement: how velocity is measured.
        observation: what is observed.
        reward: what is rewarded.
        health: what is healthy.
    """

    addresses: NDArray[np.int64]
    physics: Physics
    movement: Movement
    observation: Observation
    reward: Reward
    health: Health


def _emit_pointer(typing_context: Any, address: Any) -> Any:  # noqa: ANN401, ARG001
    """An integer as a pointer."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401, ARG001
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


def _emit_call(typing_context: Any, function: Any, model: Any, data: Any) -> Any:  # noqa: ANN401, ARG001
    """Call the C function ``void f(const mjModel*, mjData*)`` that lives at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401, ARG001
        pointer = ir.IntType(8).as_pointer()
        prototype = ir.FunctionType(ir.VoidType(), (pointer, pointer))
        target = builder.inttoptr(arguments[0], prototype.as_pointer())
        builder.call(target, [builder.inttoptr(argument, pointer) for argument in arguments[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


# Their Python signatures lack the typing context, which no type checker can know.
_pointer: Any = intrinsic(_emit_pointer)
_call: Any = intrinsic(_emit_call)


@njit(cache=True)
def _numbers(address: int, count: int) -> NDArray[np.float64]:
    """View of `count` doubles that live at an address."""
    view: NDArray[np.float64] = carray(_pointer(address), count, np.float64)
    return view


@njit(cache=True)
def _clipped(value: float, low: float, high: float) -> float:
    """`value` within [low, high]; NaN stays NaN, as in `numpy.clip`."""
    if value < low:
        return low
    if value > high:
        return high
    return value


@njit(cache=True)
def _sum_of_squares(values: NDArray[Any], low: Any, high: Any) -> Any:  # noqa: ANN401
    """Sum of squares of clipped values, in NumPy's order, for at most 128 values.

    NumPy adds fewer than eight values one by one and more in eight lanes (pairwise summation,
    ``numpy/_core/src/umath/loops_utils.h.src``).
    """
    count = values.shape[0]
    squares = np.empty_like(values)
    for k in range(count):
        value = _clipped(values[k], low, high)
        squares[k] = value * value
    if count < 8:
        total = squares[0]
        for k in range(1, count):
            total += squares[k]
        return total
    last = count - count % 8
    for k in range(8, last):
        squares[k % 8] += squares[k]
    total = ((squares[0] + squares[1]) + (squares[2] + squares[3])) + (
        (squares[4] + squares[5]) + (squares[6] + squares[7])
    )
    for k in range(last, count):
        total += squares[k]
    return total


@njit(cache=True)
def _point(movement: Movement, mover: int) -> tuple[float, float]:
    """Present (x, y) of what moves."""
    bodies = movement.masses.shape[0]
    if bodies == 0:
        place = _numbers(mover, 2)
        return place[0], place[1]
    centres = _numbers(mover, 3 * bodies)
    x = 0.0
    y = 0.0
    for body in range(bodies):
        x += movement.masses[body] * centres[3 * body]
        y += movement.masses[body] * centres[3 * body + 1]
    return x / movement.total_mass, y / movement.total_mass


@njit(cache=True)
def _observe(
    observation: Observation, addresses: NDArray[np.int64], features: NDArray[np.float64]
) -> None:
    """Write an observation."""
    column = 0
    for run in range(observation.lengths.shape[0]):
        numbers = _numbers(addresses[RUNS + run], observation.lengths[run])
        low = observation.limits[run, 0]
        high = observation.limits[run, 1]
        for k in range(observation.lengths[run]):
            features[column] = _clipped(numbers[k], low, high)
            column += 1


@njit(cache=True)
def _is_healthy(health: Health, physics: Physics, addresses: NDArray[np.int64]) -> bool:
    """Whether all bounds hold; NaN breaks them."""
    positions = _numbers(addresses[POSITIONS], physics.num_positions)
    velocities = _numbers(addresses[VELOCITIES], physics.num_velocities)
    for k in range(health.entries.shape[0]):
        entry = health.entries[k]
        if entry < physics.num_positions:
            value = positions[entry]
        else:
            value = velocities[entry - physics.num_positions]
        if not health.limits[k, 0] < value < health.limits[k, 1]:
            return False
    return True


@njit(cache=True)
def _contact_cost(reward: Reward, addresses: NDArray[np.int64]) -> float:
    """Weighted sum of squared contact forces."""
    forces = _numbers(addresses[FORCES], reward.num_forces)
    squares = _sum_of_squares(forces, reward.force_low, reward.force_high)
    cost: float = reward.contact_weight * squares
    return _clipped(cost, reward.contact_low, reward.contact_high)


@njit(cache=True, error_model="numpy")
def _control_cost(
    reward: Reward,
    controls: NDArray[np.float64],
    action: NDArray[np.float32],
    contact: float,
) -> float:
    """The negative control cost, in the precision in which MO-Gymnasium computes it."""
    if reward.cost_source == ACTION:
        squares = _sum_of_squares(action, np.float32(-np.inf), np.float32(np.inf))
        weighted = -(np.float32(reward.cost_weight) * squares)
        scaled = np.float32(reward.cost_gain) * weighted
        return np.float64(scaled / np.float32(reward.cost_divisor))
    cost: float = contact
    if reward.cost_source == CONTROL:
        cost = reward.cost_weight * _sum_of_squares(controls, -np.inf, np.inf)
    return reward.cost_gain * -cost / reward.cost_divisor


@njit(cache=True)
def _distance(point: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Distance in the plane."""
    x = point[0] - target[0]
    y = point[1] - target[1]
    return math.sqrt(x * x + y * y)


@njit(cache=True)
def _reward_distances(reward: Reward, mover: int, rewards: NDArray[np.float64]) -> None:
    """Write the components that depend on the state before the step: nearness to targets."""
    for k in range(reward.kinds.shape[0]):
        if reward.kinds[k] == DISTANCE:
            place = _numbers(mover, 2)
            target = _numbers(mover + 8 * reward.axes[k], 2)
            rewards[k] = np.float32(1.0 - reward.gains[k] * _distance(place, target))


@njit(cache=True)
def _reward_step(
    reward: Reward,
    positions: NDArray[np.float64],
    velocity: tuple[float, float],
    cost: float,
    rewards: NDArray[np.float64],
) -> None:
    """Write the components that depend on the state after the step."""
    for k in range(reward.kinds.shape[0]):
        kind = reward.kinds[k]
        axis = reward.axes[k]
        if kind == VELOCITY:
            value = velocity[0] if axis == 0 else velocity[1]
            rewards[k] = np.float32(reward.gains[k] * value)
        elif kind == HEIGHT:
            height = positions[axis] - reward.initial_positions[axis]
            rewards[k] = np.float32(reward.gains[k] * height)
        elif kind == COST:
            rewards[k] = np.float32(cost)


@njit(cache=True)
def _add(rewards: NDArray[np.float64], term: float) -> None:
    """Add a term to all components, which MO-Gymnasium keeps in single precision."""
    for k in range(rewards.shape[0]):
        rewards[k] = np.float32(rewards[k] + term)


@njit(cache=True, error_model="numpy")
def _move(
    tables: Tables,
    addresses: NDArray[np.int64],
    controls: NDArray[np.float64],
    action: NDArray[np.float32],
) -> tuple[float, float]:
    """Apply an action for the duration of a step; returns the velocity of what moves."""
    physics = tables.physics
    for k in range(physics.num_controls):
        controls[k] = action[k]
    x, y = _point(tables.movement, addresses[MOVER])
    for _ in range(physics.frame_skip):
        _call(physics.step, physics.model, addresses[DATA])
    if physics.post_constraint != 0:
        _call(physics.post_constraint, physics.model, addresses[DATA])
    next_x, next_y = _point(tables.movement, addresses[MOVER])
    duration = tables.movement.duration
    return (next_x - x) / duration, (next_y - y) / duration


@njit(cache=True)
def _step_one(
    tables: Tables,
    addresses: NDArray[np.int64],
    action: NDArray[np.float32],
    features: NDArray[np.float64],
    rewards: NDArray[np.float64],
) -> bool:
    """Advance one environment; returns whether an unhealthy state ended its episode."""
    physics = tables.physics
    reward = tables.reward
    controls = _numbers(addresses[CONTROLS], physics.num_controls)
    positions = _numbers(addresses[POSITIONS], physics.num_positions)
    _reward_distances(reward, addresses[MOVER], rewards)
    velocity = _move(tables, addresses, controls, action)
    healthy = _is_healthy(tables.health, physics, addresses)
    contact = _contact_cost(reward, addresses) if reward.num_forces > 0 else 0.0
    cost = _control_cost(reward, controls, action, contact)
    _reward_step(reward, positions, velocity, cost, rewards)
    if reward.cost_is_shared:
        _add(rewards, cost)
    _add(rewards, reward.healthy_bonus if healthy else reward.unhealthy_bonus)
    if reward.contact_is_shared:
        _add(rewards, -contact)
    _observe(tables.observation, addresses, features)
    return not healthy and tables.health.terminates


@njit(cache=True, nogil=True)
def step(
    tables: Tables,
    first: int,
    last: int,
    active: NDArray[np.bool_],
    actions: NDArray[np.float32],
    observations: NDArray[np.float64],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    """Advance the environments first..last-1; inactive ones are skipped and give zeros.

    Args:
        tables: the environment.
        first: first environment.
        last: the one behind the last environment.
        active: which environments to advance, ``(env,)``.
        actions: ``(env, control)``, finite.
        observations: written, ``(env, feature)``.
        rewards: written, ``(env, objective)``.
        terminated: written, ``(env,)``.
    """
    for i in range(first, last):
        if active[i]:
            terminated[i] = _step_one(
                tables, tables.addresses[i], actions[i], observations[i], rewards[i]
            )
        else:
            terminated[i] = False
            observations[i] = 0.0
            rewards[i] = 0.0


@njit(cache=True, nogil=True)
def restart(
    tables: Tables,
    indices: NDArray[np.int64],
    states: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.float64],
) -> None:
    """Start new episodes from prepared states.

    Args:
        tables: the environment.
        indices: which environments, ``(n,)``.
        states: coming start states, ``qpos`` then ``qvel``, ``(env, row, state)``.
        cursors: the next row of each environment, moved on by one, ``(env,)``.
        observations: the rows `indices` are written, ``(env, feature)``.
    """
    physics = tables.physics
    for i in indices:
        addresses = tables.addresses[i]
        _call(physics.reset, physics.model, addresses[DATA])
        positions = _numbers(addresses[POSITIONS], physics.num_positions)
        velocities = _numbers(addresses[VELOCITIES], physics.num_velocities)
        state = states[i, cursors[i]]
        for k in range(physics.num_positions):
            positions[k] = state[k]
        for k in range(physics.num_velocities):
            velocities[k] = state[physics.num_positions + k]
        cursors[i] += 1
        _call(physics.forward, physics.model, addresses[DATA])
        _observe(tables.observation, addresses, observations[i])


@njit(cache=True, nogil=True)
def step_physics(tables: Tables, actions: NDArray[np.float32]) -> None:
    """Nothing but ``mj_step``: what a step would cost without observations, rewards and resets.

    Args:
        tables: the environment.
        actions: ``(env, control)``, finite.
    """
    physics = tables.physics
    for i in range(actions.shape[0]):
        addresses = tables.addresses[i]
        controls = _numbers(addresses[CONTROLS], physics.num_controls)
        for k in range(physics.num_controls):
            controls[k] = actions[i, k]
        for _ in range(physics.frame_skip):
            _call(physics.step, physics.model, addresses[DATA])
