"""Every environment of MO-Gymnasium 1.3.2: what its numbers mean and how they are scored.

The dynamics stay in MO-Gymnasium, or in a compiled kernel of this package that repeats them bit
for bit. Reference points and discounts are those of the literature where there is one, named
beside the entry.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import mo_gymnasium  # noqa: F401 - registers its ids with Gymnasium
import numpy as np

from morl.envs.fronts import best_known_front, exact_front
from morl.registry import register_env
from morl.types import EnvSpec, Front, KnownFront, Objective

PACKAGE = "mo-gymnasium"

KERNELS: dict[str, str] = {
    "breakable-bottles-v0": "morl.envs.breakable_bottles:BreakableBottlesVectorEnv",
    "deep-sea-treasure-v0": "morl.envs.deep_sea_treasure:DeepSeaTreasureVectorEnv",
    "deep-sea-treasure-concave-v0": "morl.envs.deep_sea_treasure:DeepSeaTreasureVectorEnv",
    "deep-sea-treasure-mirrored-v0": "morl.envs.deep_sea_treasure:DeepSeaTreasureVectorEnv",
    "fishwood-v0": "morl.envs.fishwood:FishwoodVectorEnv",
    "four-room-v0": "morl.envs.four_room:FourRoomVectorEnv",
    "fruit-tree-v0": "morl.envs.fruit_tree:FruitTreeVectorEnv",
    "minecart-v0": "morl.envs.minecart:MinecartVectorEnv",
    "minecart-deterministic-v0": "morl.envs.minecart:MinecartVectorEnv",
    "mo-mountaincar-v0": "morl.envs.mountain_car:MountainCarVectorEnv",
    "mo-mountaincar-3d-v0": "morl.envs.mountain_car:MountainCarVectorEnv",
    "mo-mountaincar-timemove-v0": "morl.envs.mountain_car:MountainCarVectorEnv",
    "mo-mountaincar-timespeed-v0": "morl.envs.mountain_car:MountainCarVectorEnv",
    "mo-mountaincarcontinuous-v0": "morl.envs.mountain_car:ContinuousMountainCarVectorEnv",
    "resource-gathering-v0": "morl.envs.resource_gathering:ResourceGatheringVectorEnv",
    "water-reservoir-v0": "morl.envs.water_reservoir:WaterReservoirVectorEnv",
}
"""Compiled batches, by id; `morl.envs.mujoco` registers those of MuJoCo itself."""

SCALES_DIFFER = "Scales of v4 and v5 differ: their hypervolumes cannot be compared."

TIME = Objective("time", "-steps", "-1 a step.")


def _objectives(*columns: tuple[str, str, str]) -> tuple[Objective, ...]:
    return tuple(Objective(*column) for column in columns)


DO_NOTHING: dict[str, tuple[float, float]] = {
    "minecart-v0": (199.0, 199.0),
    "minecart-deterministic-v0": (199.0, 199.0),
    "mo-lunar-lander-v3": (5.649e8, 5.649e8),
    "mo-lunar-lander-continuous-v3": (5.649e8, 5.649e8),
    "mo-ant-2d-v4": (4.010e4, 3.984e4),
    "mo-ant-2obj-v5": (3.987e4, 3.961e4),
    "mo-ant-v4": (8.020e6, 7.942e6),
    "mo-ant-v5": (7.951e6, 7.874e6),
    "mo-halfcheetah-v4": (9.989e3, 9.989e3),
    "mo-halfcheetah-v5": (5.993e4, 5.993e4),
    "mo-hopper-2d-v4": (2.566e4, 2.566e4),
    "mo-hopper-2obj-v5": (2.558e4, 2.558e4),
    "mo-hopper-v4": (4.541e6, 4.541e6),
    "mo-hopper-v5": (4.522e6, 4.522e6),
    "mo-humanoid-v4": (7.188e4, 7.188e4),
    "mo-humanoid-v5": (6.809e4, 6.809e4),
    "mo-swimmer-v4": (2.028e4, 2.028e4),
    "mo-swimmer-v5": (2.028e4, 2.028e4),
    "mo-walker2d-v4": (2.658e4, 2.658e4),
    "mo-walker2d-v5": (2.690e4, 2.690e4),
}
"""Hypervolume of the zero action (idling where actions are discrete), mean of the seeds 0 to 9.

At the registered horizon, and under the cap of 500 steps that C-MORL's protocol sets; measured
with MuJoCo 3.14.0.
"""

CAP = 500


def _do_nothing(name: str) -> dict[str, float]:
    return {"do-nothing": DO_NOTHING[name][0]} if name in DO_NOTHING else {}


def capped_anchors(registered: EnvSpec, horizon: int | None) -> Mapping[str, float]:
    """Anchors of an environment under C-MORL's cap; empty under any other step limit.

    Args:
        registered: the spec whose horizon is replaced.
        horizon: the step limit.
    """
    if horizon != CAP or not registered.anchors:
        return {}
    # No plan of a known front takes as many steps.
    capped = dict(registered.anchors)
    if registered.id in DO_NOTHING:
        capped["do-nothing"] = DO_NOTHING[registered.id][1]
    return capped


# ---------------------------------------------------------------------------------------------
# Known fronts


def declared_front(discount: float, *, name: str, **kwargs: Any) -> Front:  # noqa: ANN401
    """The front that MO-Gymnasium declares for one of its environments; see `morl.envs.fronts`.

    Args:
        discount: in (0, 1].
        name: id of an environment that declares a front.
        **kwargs: constructor arguments.
    """
    # Minecart shuffles mines by NumPy's global generator before it reads their places.
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
            env: Any = gymnasium.make(name, disable_env_checker=True, **kwargs).unwrapped
        return np.array(env.pareto_front(discount), np.float64)
    finally:
        np.random.set_state(state)  # noqa: NPY002


# ---------------------------------------------------------------------------------------------
# Grid worlds and other small environments


INDUCTION = "backward induction on sets of returns, with a plan for every point"


def _treasure_spec(name: str, anchors: Mapping[str, float], text: str) -> EnvSpec:
    return EnvSpec(
        id=name,
        objectives=(
            Objective("treasure", "treasure", "Value of the treasure that ends the dive."),
            TIME,
        ),
        reference_point=(0.0, -50.0),
        horizon=100,
        known_front=exact_front(name, INDUCTION),
        anchors=anchors,
        package=PACKAGE,
        description=text,
    )


def _fruit_tree(*, depth: int = 6, **_: object) -> EnvSpec:
    nutrients = ("protein", "carbs", "fats", "vitamins", "minerals", "water")
    return EnvSpec(
        id="fruit-tree-v0",
        objectives=tuple(Objective(n, "", f"Amount of {n} in the fruit.") for n in nutrients),
        reference_point=(-1.0,) * 6,
        known_front=exact_front("fruit-tree-v0", INDUCTION, depth=depth),
        anchors={"exact": 46034.80, "always left": 1305.5} if depth == 6 else {},
        package=PACKAGE,
        description=f"Binary tree of depth {depth}; one fruit of six nutrients an episode.",
    )


MINECART_OBJECTIVES = _objectives(
    ("ore-1", "ore", "First ore sold at the base."),
    ("ore-2", "ore", "Second ore sold at the base."),
    ("fuel", "-fuel", "Fuel burnt, as a negative number."),
)


def _minecart(name: str, text: str) -> EnvSpec:
    return EnvSpec(
        id=name,
        objectives=MINECART_OBJECTIVES,
        reference_point=(-1.0, -1.0, -200.0),
        discount=0.98,
        horizon=1000,
        idle_action=5,
        known_front=KnownFront(
            partial(declared_front, name="minecart-v0"),
            "approximate",
            "MO-Gymnasium's heuristic plans at mean ore yields; agents may beat it",
        ),
        anchors={"declared front": 668.1833, **_do_nothing(name)},
        package=PACKAGE,
        description=text,
    )


SMALL = (
    _treasure_spec(
        "deep-sea-treasure-v0",
        {"exact": 854.850},
        "Submarine in a grid, ten treasures, the deeper the richer; convex front (Yang 2019).",
    ),
    _treasure_spec(
        "deep-sea-treasure-concave-v0",
        {"exact": 3688.377},
        "Deep sea treasure with a concave front (Vamplew 2011): linear scalarisation finds its "
        "ends only.",
    ),
    _treasure_spec(
        "deep-sea-treasure-mirrored-v0",
        {"exact": 3688.377},
        "Concave deep sea treasure with a barren left half, hard to explore (Felten 2022).",
    ),
    _minecart(
        "minecart-v0",
        "Cart that fetches two ores from five mines and saves fuel; ore yields are random "
        "(Abels 2019).",
    ),
    replace(
        _minecart("minecart-deterministic-v0", "Minecart with fixed ore yields."),
        known_front=best_known_front(
            "minecart-deterministic-v0", "search over plans, each of which can be replayed"
        ),
        anchors={
            "best-known": 749.7069,
            "declared front": 723.0482,
            **_do_nothing("minecart-deterministic-v0"),
        },
    ),
    replace(
        _minecart(
            "minecart-rgb-v0",
            "Minecart seen as 480 x 480 pixels; slow, and not reproducible: MO-Gymnasium draws "
            "sprites and ore from NumPy's global generator.",
        ),
        anchors={},
    ),
    EnvSpec(
        id="resource-gathering-v0",
        objectives=_objectives(
            ("enemy", "-deaths", "-1 when an enemy kills."),
            ("gold", "gold", "1 when gold comes home."),
            ("gem", "gem", "1 when the gem comes home."),
        ),
        reference_point=(-1.0, -1.0, -1.0),
        horizon=100,
        known_front=exact_front("resource-gathering-v0", INDUCTION),
        anchors={"exact": 3.5194},
        package=PACKAGE,
        description="Fetch gold and a gem past two enemies (Barrett 2008). MO-Gymnasium's front "
        "is wrong: a safe path of 18 steps brings both.",
    ),
    EnvSpec(
        id="breakable-bottles-v0",
        objectives=(
            TIME,
            Objective("bottles", "points", "25 for each bottle delivered."),
            Objective("impact", "", "-1 while a dropped bottle lies about, as a potential."),
        ),
        reference_point=(-101.0, -1.0, -1.1),
        horizon=100,
        package=PACKAGE,
        description="Carry two bottles along a corridor; two at once may break (Vamplew 2021).",
    ),
    EnvSpec(
        id="four-room-v0",
        objectives=_objectives(
            ("blue", "squares", "Blue squares collected."),
            ("green", "triangles", "Green triangles collected."),
            ("red", "circles", "Red circles collected."),
        ),
        reference_point=(-1.0, -1.0, -1.0),
        horizon=200,
        known_front=exact_front("four-room-v0", INDUCTION),
        anchors={"exact": 109.3685},
        package=PACKAGE,
        description="Collect three kinds of shapes in four rooms, then reach the goal "
        "(Barreto 2017).",
    ),
    EnvSpec(
        id="fishwood-v0",
        objectives=_objectives(
            ("fish", "fish", "Fish caught."), ("wood", "wood", "Wood collected.")
        ),
        reference_point=(-1.0, -1.0),
        horizon=200,
        package=PACKAGE,
        description="Fish or collect wood for 200 steps, with luck in both (Roijers 2018).",
    ),
)

WATER_OBJECTIVES = _objectives(
    ("flooding", "-level", "Level above the flooding threshold upstream, negative."),
    ("demand", "-water", "Unmet water demand, negative."),
    ("power", "-power", "Unmet demand for hydroelectric power, negative."),
    ("flooding-downstream", "-water", "Water released beyond what the valley bears, negative."),
)


def _water_reservoir(*, nO: int = 2, time_limit: int = 100, **_: object) -> EnvSpec:  # noqa: N803
    return EnvSpec(
        id="water-reservoir-v0",
        objectives=WATER_OBJECTIVES[:nO],
        # Beyond what a dam that never opens, or never closes, collects in 100 steps.
        reference_point=(-6000.0, -4000.0, -500.0, -10000.0)[:nO],
        horizon=time_limit,
        package=PACKAGE,
        description="Release water from a dam: neither flood the valley nor let it run dry "
        "(Castelletti 2012).",
    )


# ---------------------------------------------------------------------------------------------
# Mountain cars

REVERSE = Objective("reverse", "-steps", "-1 for each step in reverse.")
FORWARD = Objective("forward", "-steps", "-1 for each step forward.")
MOVE = Objective("move", "-steps", "-1 for each step with the engine on.")
SPEED = Objective("speed", "15 |v|", "Speed of the car, times 15.")


def _mountain_car(
    name: str,
    *,
    add_speed_objective: bool = False,
    remove_move_penalty: bool = False,
    merge_move_penalty: bool = False,
    **_: object,
) -> EnvSpec:
    moves = (MOVE,) if merge_move_penalty else (REVERSE, FORWARD)
    objectives = (
        TIME,
        *(() if remove_move_penalty else moves),
        *((SPEED,) if add_speed_objective else ()),
    )
    return EnvSpec(
        id=name,
        objectives=objectives,
        # MORL-Baselines takes -200 for penalties; speed is never negative.
        reference_point=tuple(-1.0 if one is SPEED else -200.0 for one in objectives),
        horizon=200,
        idle_action=1,
        package=PACKAGE,
        description=f"Underpowered car in a valley ({', '.join(o.name for o in objectives)}).",
    )


MOUNTAIN_CARS: dict[str, dict[str, bool]] = {
    "mo-mountaincar-v0": {},
    "mo-mountaincar-3d-v0": {"add_speed_objective": True, "merge_move_penalty": True},
    "mo-mountaincar-timemove-v0": {"merge_move_penalty": True},
    "mo-mountaincar-timespeed-v0": {"add_speed_objective": True, "remove_move_penalty": True},
}

MOUNTAIN_CAR_CONTINUOUS = EnvSpec(
    id="mo-mountaincarcontinuous-v0",
    objectives=(TIME, Objective("fuel", "-force^2", "Square of the force, negative.")),
    reference_point=(-110.0, -110.0),  # MORL-Baselines
    horizon=999,
    package=PACKAGE,
    description="Underpowered car in a valley, continuous force.",
)

# ---------------------------------------------------------------------------------------------
# Box2D, highway, Super Mario

LANDER_OBJECTIVES = _objectives(
    ("landing", "", "100 for a landing, -100 for a crash."),
    ("shaping", "", "Progress towards a slow, upright touch-down."),
    ("main-engine", "-fuel", "Fuel of the main engine, negative."),
    ("side-engine", "-fuel", "Fuel of the side engines, negative."),
)

OTHERS = (
    *(
        EnvSpec(
            id=name,
            objectives=LANDER_OBJECTIVES,
            reference_point=(-101.0, -1001.0, -101.0, -101.0),
            horizon=1000,
            idle_action=None if "continuous" in name else 0,
            anchors=_do_nothing(name),
            extra="box2d",
            package=PACKAGE,
            description=text,
        )
        for name, text in (
            ("mo-lunar-lander-v3", "Land between the flags on little fuel; four engine commands."),
            ("mo-lunar-lander-continuous-v3", "Lunar lander with continuous throttles."),
        )
    ),
    *(
        EnvSpec(
            id=name,
            objectives=_objectives(
                ("speed", "", "Share of full speed."),
                ("right-lane", "", "How far to the right."),
                ("collision", "-collisions", "-1 for a collision."),
            ),
            reference_point=(-1.0, -1.0, -2.0),
            extra="highway",
            package=PACKAGE,
            description=text,
        )
        for name, text in (
            ("mo-highway-v0", "Drive on a busy highway; 1 to 2 steps a second."),
            ("mo-highway-fast-v0", "Highway with fewer cars; 15 steps a second."),
        )
    ),
)

SUPER_MARIO = EnvSpec(
    id="mo-supermario-v0",
    objectives=_objectives(
        ("x-position", "px", "Progress to the right."),
        ("time", "-s", "Time, negative."),
        ("death", "-deaths", "-25 for a death."),
        ("coin", "coins", "Coins collected, times 100."),
        ("enemy", "enemies", "Enemies defeated."),
    ),
    reference_point=(-1000.0,) * 5,
    package=PACKAGE,
    description="Super Mario Bros. Not available: gym-super-mario-bros needs NumPy below 2.",
)

# ---------------------------------------------------------------------------------------------
# MuJoCo


def _mujoco(
    name: str,
    objectives: Sequence[Objective],
    text: str,
    *,
    reference_point: tuple[float, ...] | None = None,
    horizon: int = 1000,
) -> EnvSpec:
    return EnvSpec(
        id=name,
        objectives=tuple(objectives),
        reference_point=reference_point or (-100.0,) * len(objectives),
        horizon=horizon,
        anchors=_do_nothing(name),
        extra="mujoco",
        package=PACKAGE,
        description=text,
    )


def _motion(name: str, direction: str, also: str = "") -> Objective:
    return Objective(name, "m/s", f"Velocity {direction}{also}.")


def _control(weight: str, also: str = "") -> Objective:
    return Objective("control", "-force^2", f"{weight} sum of squared actions, negative{also}.")


def _hopper(
    name: str, *, cost_objective: bool = True, healthy: str = "plus 1 while healthy", **_: object
) -> EnvSpec:
    also = f", {healthy}" + ("" if cost_objective else ", less 0.001 of the control cost")
    objectives = [
        _motion("forward", "along x", also),
        Objective("height", "10 m", f"Ten times the height above the start{also}."),
    ]
    if cost_objective:
        objectives.append(_control("Unweighted", f", {healthy}"))
    return _mujoco(name, objectives, f"One-legged hopper that runs and jumps. {SCALES_DIFFER}")


def _ant(name: str, *, cost_objective: bool = True, contact: str = "", **_: object) -> EnvSpec:
    also = ", plus 1 while healthy" + contact
    cost = "" if cost_objective else ", less half of the control cost"
    objectives = [
        _motion("velocity-x", "along x", also + cost),
        _motion("velocity-y", "along y", also + cost),
    ]
    if cost_objective:
        objectives.append(_control("Unweighted", also))
    return _mujoco(name, objectives, f"Four-legged ant that runs along x or y. {SCALES_DIFFER}")


CONTACT = ", less contact forces"

MUJOCO_BY_ARGUMENTS: dict[str, tuple[Callable[..., EnvSpec], dict[str, Any]]] = {
    "mo-hopper-v4": (_hopper, {}),
    "mo-hopper-2d-v4": (_hopper, {"cost_objective": False}),
    "mo-hopper-v5": (_hopper, {"healthy": "plus 1 while healthy and upright"}),
    "mo-hopper-2obj-v5": (
        _hopper,
        {"cost_objective": False, "healthy": "plus 1 while healthy and upright"},
    ),
    "mo-ant-v4": (_ant, {}),
    "mo-ant-2d-v4": (_ant, {"cost_objective": False}),
    "mo-ant-v5": (_ant, {"contact": CONTACT}),
    "mo-ant-2obj-v5": (_ant, {"cost_objective": False, "contact": CONTACT}),
}

MUJOCO = (
    _mujoco(
        "mo-halfcheetah-v4",
        [_motion("forward", "along x"), _control("A tenth of the")],
        f"Two-legged cheetah that runs fast on little power. {SCALES_DIFFER}",
    ),
    _mujoco(
        "mo-halfcheetah-v5",
        [_motion("forward", "along x"), _control("Unweighted")],
        f"Two-legged cheetah; its control cost counts ten times that of v4. {SCALES_DIFFER}",
        # Full power costs 6 a step: -100 would leave out even a random policy.
        reference_point=(-100.0, -600.0),
    ),
    *(
        _mujoco(
            f"mo-walker2d-{version}",
            [
                _motion("forward", "along x", ", plus 1 while healthy"),
                _control("Unweighted", ", plus 1 while healthy"),
            ],
            f"Two-legged walker. {SCALES_DIFFER}",
        )
        for version in ("v4", "v5")
    ),
    *(
        _mujoco(
            f"mo-swimmer-{version}",
            [_motion("forward", "along x"), _control("Unweighted")],
            f"Three-link swimmer. {SCALES_DIFFER}",
            # Full power costs 2 a step.
            reference_point=(-100.0, -200.0),
        )
        for version in ("v4", "v5")
    ),
    _mujoco(
        "mo-humanoid-v4",
        [
            _motion("forward", "along x", ", plus 5 while healthy"),
            _control("Unweighted", ", plus 5 while healthy"),
        ],
        f"Humanoid that runs on little power. {SCALES_DIFFER}",
    ),
    _mujoco(
        "mo-humanoid-v5",
        [
            _motion("forward", "along x", ", plus 5 while healthy" + CONTACT),
            _control("Unweighted", ", plus 5 while healthy" + CONTACT),
        ],
        f"Humanoid, contact forces included. {SCALES_DIFFER}",
    ),
    *(
        _mujoco(
            f"mo-reacher-{version}",
            [
                Objective(f"target-{k}", "", f"1 less four times the distance to target {k}.")
                for k in range(1, 5)
            ],
            f"Two-link arm between four targets, nine torque commands. {SCALES_DIFFER}",
            reference_point=(-50.0,) * 4,
            horizon=50,
        )
        for version in ("v4", "v5")
    ),
)

# ---------------------------------------------------------------------------------------------
# Registration

HARMLESS = frozenset({"copy", "float_state", "num_threads", "render_mode"})
"""Constructor arguments that leave returns as they are."""


def _adapted(make: Callable[..., EnvSpec], **settings: object) -> EnvSpec:
    """A spec for constructor arguments: what other arguments were measured with does not hold."""
    spec = make(**settings)
    if HARMLESS.issuperset(settings):
        return spec
    return replace(spec, known_front=None, anchors={})


def _fixed(spec: EnvSpec, **_: object) -> EnvSpec:
    return spec


def _families() -> dict[str, Callable[..., EnvSpec]]:
    """Specs as functions of constructor arguments, by id."""
    fixed = (*SMALL, MOUNTAIN_CAR_CONTINUOUS, *OTHERS, *MUJOCO)
    families: dict[str, Callable[..., EnvSpec]] = {spec.id: partial(_fixed, spec) for spec in fixed}
    families["water-reservoir-v0"] = _water_reservoir
    for name, flags in MOUNTAIN_CARS.items():
        families[name] = partial(_mountain_car, name, **flags)
    for name, (family, settings) in MUJOCO_BY_ARGUMENTS.items():
        families[name] = partial(family, name, **settings)
    return {name: partial(_adapted, make) for name, make in families.items()}


def _register() -> None:
    for name, family in {**_families(), "fruit-tree-v0": _fruit_tree}.items():
        register_env(name, spec=family, vector_entry_point=KERNELS.get(name))
    register_env(SUPER_MARIO.id, spec=SUPER_MARIO, requires=("gym_super_mario_bros", "nes_py"))


_register()
