"""What each MO-Gymnasium MuJoCo environment observes, rewards and calls healthy, as data.

A recipe is read off an instance of MO-Gymnasium's environment, keyword arguments included, so the
constants live there alone. Nothing is simulated here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morl.envs.mujoco_kernels import (
    ACTION,
    CONTACT,
    CONTROL,
    COST,
    DISTANCE,
    HEIGHT,
    VELOCITY,
)

# x + -0.0 is x for every x, -0.0 included.
NOTHING = -0.0


class Run(NamedTuple):
    """Consecutive numbers of an `mjData` field.

    Attributes:
        field: name of the field ("qpos").
        start: index of the first number in the flattened field.
        stop: index behind the last number; None for the end of the field.
        low: lower clip.
        high: upper clip.
    """

    field: str
    start: int = 0
    stop: int | None = None
    low: float = -inf
    high: float = inf


class Term(NamedTuple):
    """One component of the reward; fields as in `morl.envs.mujoco_kernels.Reward`."""

    kind: int
    axis: int = 0
    gain: float = 1.0


class Bound(NamedTuple):
    """Open interval of an entry of ``qpos`` followed by ``qvel``."""

    entry: int
    low: float
    high: float


class ControlCost(NamedTuple):
    """gain * -(weight * sum of squares) / divisor, of `source`."""

    source: int = ACTION
    weight: float = 1.0
    gain: float = 1.0
    divisor: float = 1.0


class ContactCost(NamedTuple):
    """Clipped weight * sum of squares of clipped contact forces."""

    weight: float
    force_low: float = -inf
    force_high: float = inf
    low: float = -inf
    high: float = inf
    is_shared: bool = True


_ORIGIN = Run("qpos")
_SQUARES = ControlCost()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to compute what an environment returns.

    Attributes:
        observation: runs of numbers, in order.
        terms: components of the reward.
        draw: takes a generator and a count and draws that many start states in Gymnasium's
            order, ``(count, position + velocity)``.
        mover: where the (x, y) stands whose change is a velocity.
        uses_mass_centre: whether (x, y) is the centre of mass instead.
        cost: control cost.
        cost_is_shared: whether the cost is added to all components instead of being one.
        healthy_bonus: added to all components of a healthy state.
        unhealthy_bonus: added to all components of an unhealthy state.
        contact: contact cost, if any.
        bounds: what a healthy state keeps to.
        terminates: whether an unhealthy state ends the episode.
        controls: row of controls that each discrete action stands for, ``(action, control)``.
        finish: last touches to observations ``(row, feature)``, in place.
    """

    observation: tuple[Run, ...]
    terms: tuple[Term, ...]
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]]
    mover: Run = _ORIGIN
    uses_mass_centre: bool = False
    cost: ControlCost = _SQUARES
    cost_is_shared: bool = False
    healthy_bonus: float = NOTHING
    unhealthy_bonus: float = NOTHING
    contact: ContactCost | None = None
    bounds: tuple[Bound, ...] = ()
    terminates: bool = False
    controls: NDArray[np.float32] | None = None
    finish: Callable[[NDArray[np.float64]], None] | None = None

    @property
    def reads_contacts(self) -> bool:
        """Whether contact forces (``cfrc_ext``) are needed, which cost an extra computation."""
        observed = any(run.field == "cfrc_ext" for run in self.observation)
        return observed or self.contact is not None


def _single(value: float) -> float:
    # A Python float that NumPy adds to a single precision array is rounded first (NEP 50).
    return float(np.float32(value))


def _uniform_start(env: Any) -> Callable[[np.random.Generator, int], NDArray[np.float64]]:  # noqa: ANN401
    """Uniform noise on positions and velocities."""
    scale = env._reset_noise_scale
    start = np.concatenate((env.init_qpos, env.init_qvel))

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return start + rng.uniform(-scale, scale, (count, start.size))

    return draw


def _normal_start(env: Any) -> Callable[[np.random.Generator, int], NDArray[np.float64]]:  # noqa: ANN401
    """Uniform noise on positions, Gaussian noise on velocities."""
    scale = env._reset_noise_scale
    positions, velocities = env.init_qpos, env.init_qvel

    def draw_one(rng: np.random.Generator) -> NDArray[np.float64]:
        first = positions + rng.uniform(-scale, scale, positions.size)
        second = velocities + scale * rng.standard_normal(velocities.size)
        return np.concatenate((first, second))

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.stack([draw_one(rng) for _ in range(count)])

    return draw


def _posture(env: Any, skipped: int, *, clip: float = inf) -> tuple[Run, Run]:  # noqa: ANN401
    """Positions, without the first `skipped` unless they are asked for, and velocities."""
    hidden = skipped if env._exclude_current_positions_from_observation else 0
    return Run("qpos", hidden), Run("qvel", low=-clip, high=clip)


def _with_bonus_v4(recipe: Recipe, env: Any) -> Recipe:  # noqa: ANN401
    """v4 pays the healthy reward on the terminal step, too."""
    healthy = _single(env._healthy_reward)
    unhealthy = healthy if env._terminate_when_unhealthy else 0.0
    return replace(recipe, healthy_bonus=healthy, unhealthy_bonus=unhealthy)


def _with_bonus_v5(recipe: Recipe, healthy: float) -> Recipe:
    """v5 pays the healthy reward to healthy states alone."""
    return replace(recipe, healthy_bonus=healthy, unhealthy_bonus=0.0)


def _reverted(weight: float) -> ControlCost:
    """The weighted cost divided by its weight again, as MO-Gymnasium does it."""
    return ControlCost(weight=weight, divisor=weight)


def _hopper_bounds(env: Any) -> tuple[Bound, ...]:  # noqa: ANN401
    last = env.model.nq + env.model.nv
    state = (Bound(entry, *env._healthy_state_range) for entry in range(2, last))
    return Bound(1, *env._healthy_z_range), Bound(2, *env._healthy_angle_range), *state


def _hopper(env: Any) -> Recipe:  # noqa: ANN401
    """What both versions share."""
    movement = (Term(VELOCITY), Term(HEIGHT, axis=1, gain=10.0))
    return Recipe(
        observation=_posture(env, 1, clip=10.0),
        terms=(*movement, Term(COST)) if env._cost_objective else movement,
        draw=_uniform_start(env),
        cost_is_shared=not env._cost_objective,
        bounds=_hopper_bounds(env),
        terminates=env._terminate_when_unhealthy,
    )


def hopper_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity, height and, if separate, control cost."""
    cost = ControlCost() if env._cost_objective else ControlCost(weight=env._ctrl_cost_weight)
    return _with_bonus_v4(replace(_hopper(env), cost=cost), env)


def hopper_v5(env: Any) -> Recipe:  # noqa: ANN401
    """As v4, without the healthy reward when unhealthy."""
    weight = env._ctrl_cost_weight
    cost = _reverted(weight) if env._cost_objective else ControlCost(weight=weight)
    return _with_bonus_v5(replace(_hopper(env), cost=cost), _single(env._healthy_reward))


def _half_cheetah(env: Any) -> Recipe:  # noqa: ANN401
    return Recipe(
        observation=_posture(env, 1), terms=(Term(VELOCITY), Term(COST)), draw=_normal_start(env)
    )


def half_cheetah_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Weighted forward velocity and weighted control cost."""
    terms = (Term(VELOCITY, gain=env._forward_reward_weight), Term(COST))
    cost = ControlCost(weight=env._ctrl_cost_weight)
    return replace(_half_cheetah(env), terms=terms, cost=cost)


def half_cheetah_v5(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity and control cost."""
    return replace(_half_cheetah(env), cost=_reverted(env._ctrl_cost_weight))


def _walker2d(env: Any) -> Recipe:  # noqa: ANN401
    return Recipe(
        observation=_posture(env, 1, clip=10.0),
        terms=(Term(VELOCITY), Term(COST)),
        draw=_uniform_start(env),
        bounds=(Bound(1, *env._healthy_z_range), Bound(2, *env._healthy_angle_range)),
        terminates=env._terminate_when_unhealthy,
    )


def walker2d_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity and control cost."""
    return _with_bonus_v4(_walker2d(env), env)


def walker2d_v5(env: Any) -> Recipe:  # noqa: ANN401
    """As v4, without the healthy reward when unhealthy."""
    cost = _reverted(env._ctrl_cost_weight)
    # Here and below NumPy's boolean makes the product double precision, which it keeps.
    return _with_bonus_v5(replace(_walker2d(env), cost=cost), float(env._healthy_reward))


def swimmer_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity and control cost."""
    return Recipe(
        observation=_posture(env, 2), terms=(Term(VELOCITY), Term(COST)), draw=_uniform_start(env)
    )


def swimmer_v5(env: Any) -> Recipe:  # noqa: ANN401
    """As v4; the control cost is weighted and divided by the weight again."""
    return replace(swimmer_v4(env), cost=_reverted(env._ctrl_cost_weight))


def _ant_bounds(env: Any) -> tuple[Bound, ...]:  # noqa: ANN401
    """A finite state, and a height in a closed interval."""
    low, high = env._healthy_z_range
    finite = (Bound(entry, -inf, inf) for entry in range(env.model.nq + env.model.nv))
    return Bound(2, nextafter(low, -inf), nextafter(high, inf)), *finite


def _ant_contact(env: Any, *, is_shared: bool) -> ContactCost:  # noqa: ANN401
    low, high = env._contact_force_range
    weight = env._contact_cost_weight
    return ContactCost(weight, force_low=low, force_high=high, is_shared=is_shared)


def _ant(env: Any, torso: int) -> Recipe:  # noqa: ANN401
    """What both versions share; `torso` is the body that moves."""
    weight = env._ctrl_cost_weight
    movement = (Term(VELOCITY, axis=0), Term(VELOCITY, axis=1))
    return Recipe(
        observation=_posture(env, 2),
        terms=(*movement, Term(COST)) if env._cost_objective else movement,
        draw=_normal_start(env),
        mover=Run("xpos", 3 * torso),
        cost=_reverted(weight) if env._cost_objective else ControlCost(weight=weight),
        cost_is_shared=not env._cost_objective,
        bounds=_ant_bounds(env),
        terminates=env._terminate_when_unhealthy,
    )


def ant_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Velocities along x and y and, if separate, control cost.

    With ``use_contact_forces`` the contact cost takes the place of the control cost, as in
    MO-Gymnasium, which reads it from an overwritten info.
    """
    recipe = _with_bonus_v4(_ant(env, env.model.body("torso").id), env)
    if not env._use_contact_forces:
        return recipe
    contact = _ant_contact(env, is_shared=False)
    forces = Run("cfrc_ext", low=contact.force_low, high=contact.force_high)
    return replace(
        recipe,
        observation=(*recipe.observation, forces),
        contact=contact,
        cost=ControlCost(source=CONTACT, divisor=recipe.cost.divisor),
    )


def ant_v5(env: Any) -> Recipe:  # noqa: ANN401
    """As v4, with contact forces observed and penalised in all components."""
    contact = _ant_contact(env, is_shared=True)
    recipe = _ant(env, env.model.body(env._main_body).id)
    observation = recipe.observation
    if env._include_cfrc_ext_in_observation:
        forces = Run("cfrc_ext", 6, low=contact.force_low, high=contact.force_high)
        observation = (*observation, forces)
    recipe = replace(recipe, observation=observation, contact=contact)
    return _with_bonus_v5(recipe, float(env._healthy_reward))


def _humanoid(env: Any) -> Recipe:  # noqa: ANN401
    return Recipe(
        observation=_posture(env, 2),
        terms=(Term(VELOCITY), Term(COST)),
        draw=_uniform_start(env),
        mover=Run("xipos"),
        uses_mass_centre=True,
        bounds=(Bound(2, *env._healthy_z_range),),
        terminates=env._terminate_when_unhealthy,
    )


def humanoid_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity of the centre of mass and ten times the weighted control cost."""
    recipe = _with_bonus_v4(_humanoid(env), env)
    bodies = tuple(Run(field) for field in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext"))
    return replace(
        recipe,
        observation=(*recipe.observation, *bodies),
        cost=ControlCost(source=CONTROL, weight=env._ctrl_cost_weight, gain=10.0),
    )


def humanoid_v5(env: Any) -> Recipe:  # noqa: ANN401
    """Forward velocity and control cost, contact cost in both; the world is not observed."""
    recipe = _with_bonus_v5(_humanoid(env), float(env._healthy_reward))
    optional = (
        (env._include_cinert_in_observation, Run("cinert", 10)),
        (env._include_cvel_in_observation, Run("cvel", 6)),
        (env._include_qfrc_actuator_in_observation, Run("qfrc_actuator", 6)),
        (env._include_cfrc_ext_in_observation, Run("cfrc_ext", 6)),
    )
    low, high = env._contact_cost_range
    weight = env._ctrl_cost_weight
    return replace(
        recipe,
        observation=(*recipe.observation, *(run for wanted, run in optional if wanted is True)),
        cost=ControlCost(source=CONTROL, weight=weight, divisor=weight),
        contact=ContactCost(env._contact_cost_weight, low=low, high=high),
    )


def _reacher_start(
    env: Any,  # noqa: ANN401
    still: int,
) -> Callable[[np.random.Generator, int], NDArray[np.float64]]:
    """Fixed arm and targets, noisy arm velocities; the last `still` velocities are zero."""
    num_positions = env.model.nq
    num_velocities = env.model.nv
    reach = np.repeat((0.1, 0.005), (num_positions, num_velocities))
    start = np.concatenate((env.init_qpos, env.init_qvel))

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        states: NDArray[np.float64] = rng.uniform(-reach, reach, (count, reach.size)) + start
        states[:, :2] = 0.0, 3.1415 / 2
        states[:, num_positions - env.goal.size : num_positions] = env.goal
        states[:, num_positions + num_velocities - still :] = 0.0
        return states

    return draw


def _finish_reacher(observations: NDArray[np.float64]) -> None:
    """Angles twice and velocities become cosines, sines and scaled velocities."""
    # NumPy's own functions: their last bit depends on the build, and so does MO-Gymnasium's.
    observations[:, 2:4] = np.sin(observations[:, :2])
    observations[:, :2] = np.cos(observations[:, :2])
    observations[:, 4:6] *= 0.1


def _reacher(env: Any, still: int) -> Recipe:  # noqa: ANN401
    """Nearness of the fingertip to four targets, before the step."""
    finger = env.model.body("fingertip").id
    targets = [env.model.body(f"target{number}").id for number in (1, 2, 3, 4)]
    angles = Run("qpos", 0, 2)
    return Recipe(
        observation=(angles, angles, Run("qvel", 0, 2)),
        terms=tuple(Term(DISTANCE, axis=3 * (one - finger), gain=4.0) for one in targets),
        draw=_reacher_start(env, still),
        mover=Run("xpos", 3 * finger),
        controls=np.array([env.action_dict[key] for key in range(9)], np.float32),
        finish=_finish_reacher,
    )


def reacher_v4(env: Any) -> Recipe:  # noqa: ANN401
    """Nearness to four targets."""
    return _reacher(env, still=2)


def reacher_v5(env: Any) -> Recipe:  # noqa: ANN401
    """As v4, with all targets at rest."""
    return _reacher(env, still=env.goal.size)


RECIPES: dict[str, Callable[[Any], Recipe]] = {
    "mo-hopper-v4": hopper_v4,
    "mo-hopper-2d-v4": hopper_v4,
    "mo-hopper-v5": hopper_v5,
    "mo-hopper-2obj-v5": hopper_v5,
    "mo-halfcheetah-v4": half_cheetah_v4,
    "mo-halfcheetah-v5": half_cheetah_v5,
    "mo-walker2d-v4": walker2d_v4,
    "mo-walker2d-v5": walker2d_v5,
    "mo-swimmer-v4": swimmer_v4,
    "mo-swimmer-v5": swimmer_v5,
    "mo-ant-v4": ant_v4,
    "mo-ant-2d-v4": ant_v4,
    "mo-ant-v5": ant_v5,
    "mo-ant-2obj-v5": ant_v5,
    "mo-humanoid-v4": humanoid_v4,
    "mo-humanoid-v5": humanoid_v5,
    "mo-reacher-v4": reacher_v4,
    "mo-reacher-v5": reacher_v5,
}
"""Maps an id of MO-Gymnasium to the function that reads its recipe off an instance."""
