"""Specs, tasks, known fronts and anchors of the environments."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from morl.envs import EnvArgumentError, SerialEnv, make_task, make_vec
from morl.envs.minecart import MinecartVectorEnv
from morl.envs.mo_gymnasium import DO_NOTHING, KERNELS, declared_front
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import ENVS, UnknownNameError
from morl.types import Task

IDLE = {"minecart-v0": 5, "minecart-deterministic-v0": 5}
"""Idle actions that are not 0."""


def idle_returns(task: Task, num_envs: int) -> NDArray[np.float64]:
    """Mean discounted return of doing nothing, over the seeds from 0 on."""
    batch = task.make_vec(num_envs)
    space = batch.single_action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        actions = np.full(num_envs, IDLE.get(task.spec.id, 0))
    else:
        actions = np.zeros((num_envs, *space.shape), space.dtype)
    batch.reset(seed=0)
    returns = np.zeros((num_envs, task.spec.num_objectives))
    running = np.ones(num_envs, bool)
    weight = 1.0
    while running.any():
        _, rewards, terminated, truncated, _ = batch.step(actions)
        returns += weight * rewards * running[:, None]
        running &= ~(terminated | truncated)
        weight *= task.spec.discount
    batch.close()
    return returns.mean(axis=0)


def test_every_id_of_mo_gymnasium_is_listed():
    registered = {
        name
        for name, spec in gymnasium.registry.items()
        if "mo_gymnasium." in str(spec.entry_point)
    }
    assert registered <= set(ENVS)
    assert len(registered) == 40


@pytest.mark.parametrize("name", sorted(DO_NOTHING.keys() | KERNELS.keys()))
def test_specs_describe_themselves(name):
    spec = ENVS[name].spec_for()
    assert spec.description
    assert spec.package == "mo-gymnasium"
    assert spec.horizon == gymnasium.spec(name).max_episode_steps or name in (
        "fishwood-v0",
        "water-reservoir-v0",
    )


def test_mujoco_specs_warn_that_versions_cannot_be_compared():
    for name in ENVS:
        spec = ENVS[name].spec_for()
        if spec.extra == "mujoco":
            assert "v4 and v5 differ" in spec.description, name


@pytest.mark.parametrize(
    ("name", "discount", "reference_point", "expected"),
    [
        ("deep-sea-treasure-v0", 0.99, (0.0, -25.0), 360.401),
        ("deep-sea-treasure-v0", 0.99, (0.0, -50.0), 854.850),
        ("deep-sea-treasure-v0", 1.0, (0.0, -25.0), 401.8),
        ("deep-sea-treasure-concave-v0", 0.99, (0.0, -50.0), 3688.377),
        ("deep-sea-treasure-mirrored-v0", 1.0, (0.0, -25.0), 1155.0),
        ("fruit-tree-v0", 0.99, (0.0,) * 6, 9302.378),
        ("fruit-tree-v0", 0.99, (-1.0,) * 6, 46034.80),
        ("fruit-tree-v0", 1.0, (0.0,) * 6, 12575.873),
        ("minecart-v0", 0.98, (-1.0, -1.0, -200.0), 668.1833),
        ("minecart-v0", 0.98, (0.0, 0.0, -200.0), 100.322),
    ],
)
def test_known_fronts_have_the_published_hypervolumes(name, discount, reference_point, expected):
    known = ENVS[name].spec_for().known_front
    value = hypervolume(known.points(discount), reference_point)
    assert getattr(value, "value", value) == pytest.approx(expected, rel=3e-6)


def test_anchors_are_hypervolumes_of_known_and_declared_fronts():
    checked = set()
    for name in ENVS:
        spec = ENVS[name].spec_for()
        for anchor in {"exact", "best-known", "declared front"} & spec.anchors.keys():
            if anchor == "declared front":
                points = declared_front(spec.discount, name=name)
            else:
                assert spec.known_front.certificate == anchor
                points = spec.known_front.points(spec.discount)
            value = hypervolume(points, spec.reference_point).value
            assert value == pytest.approx(spec.anchors[anchor], rel=2e-5), (name, anchor)
            checked.add((name, anchor))
    assert len(checked) == 11


@pytest.mark.parametrize(
    ("name", "discount", "count"),
    [
        ("deep-sea-treasure-v0", 1.0, 10),
        ("deep-sea-treasure-v0", 0.99, 10),
        ("deep-sea-treasure-v0", 0.9, 3),
        ("deep-sea-treasure-concave-v0", 0.99, 10),
        ("deep-sea-treasure-concave-v0", 0.9, 9),
        ("deep-sea-treasure-mirrored-v0", 0.99, 10),
    ],
)
def test_deep_sea_fronts_are_the_undominated_shortest_dives(name, discount, count):
    points = make_task(name).spec.known_front.points(discount)
    np.testing.assert_allclose(sorted(points.tolist()), shortest_dives(name, discount), rtol=1e-12)
    assert len(points) == count


def shortest_dives(name: str, discount: float) -> list[list[float]]:
    """Undominated returns of a breadth-first search through the kernel's own tables."""
    batch = make_vec(name, 1)
    reached = {batch._start: 0}
    queue = [batch._start]
    points = []
    for cell in queue:
        steps, treasure = reached[cell], batch._treasures[cell]
        if treasure:
            time = sum(discount**step for step in range(steps))
            points.append([treasure * discount ** (steps - 1), -time])
            continue
        for after in set(batch._table[cell].tolist()) - reached.keys():
            reached[after] = steps + 1
            queue.append(after)
    kept = nondominated(np.array(points))
    return sorted(point for point, keep in zip(points, kept, strict=True) if keep)


def test_gold_and_gem_come_home_safely_in_eighteen_steps():
    up, down, left, right = range(4)
    plan = [right] * 2 + [up] * 3 + [down] + [left] * 3 + [up] * 2 + [right]
    plan += [left] + [down] * 4 + [right]
    batch = make_vec("resource-gathering-v0", 50)
    batch.reset(seed=0)
    history = [batch.step(np.full(50, action)) for action in plan]
    assert len(history) == 18
    assert not any(step[2].any() for step in history[:-1])
    assert history[-1][2].all()
    assert history[-1][1].tolist() == [[0.0, 1.0, 1.0]] * 50


@pytest.mark.parametrize(
    ("discount", "expected"),
    [
        (1.0, [[0, 1, 1]]),
        # Gold after 12 steps, both after 18, the gem after 10.
        (0.99, [[0, 0.99**11, 0], [0, 0.99**17, 0.99**17], [0, 0, 0.99**9]]),
    ],
)
def test_the_front_of_resource_gathering(discount, expected):
    front = ENVS["resource-gathering-v0"].spec_for().known_front.points(discount)
    np.testing.assert_allclose(sorted(front.tolist()), sorted(expected), atol=1e-12)


def test_impatience_makes_enemies_worth_their_risk():
    front = ENVS["resource-gathering-v0"].spec_for().known_front.points(0.5)
    assert (front[:, 0] < 0).any()
    assert nondominated(front).all()
    # Straight to the gold and back through the enemy below it: 8 steps, 0.9 squared.
    through = [-0.1 * 0.5**2 - 0.09 * 0.5**4, 0.81 * 0.5**7, 0.0]
    assert np.isclose(front, through).all(axis=1).any()


@pytest.mark.parametrize(
    "name", ["minecart-v0", "minecart-deterministic-v0", "mo-hopper-2d-v4", "mo-humanoid-v5"]
)
def test_doing_nothing_scores_what_the_anchor_says(name):
    if ENVS[name].available() is not None:
        pytest.skip(str(ENVS[name].available()))
    task = make_task(name)
    gained = idle_returns(task, 10) - task.spec.reference_point
    assert np.prod(gained) == pytest.approx(task.spec.anchors["do-nothing"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DO_NOTHING))
@pytest.mark.parametrize("horizon", [None, 500])
def test_doing_nothing_scores_what_every_anchor_says(name, horizon):
    if ENVS[name].available() is not None:
        pytest.skip(str(ENVS[name].available()))
    task = make_task(name, horizon=horizon)
    gained = idle_returns(task, 10) - task.spec.reference_point
    assert np.prod(gained) == pytest.approx(task.spec.anchors["do-nothing"], rel=1e-3)


def test_always_left_in_the_fruit_tree():
    task = make_task("fruit-tree-v0")
    gained = idle_returns(task, 1) - task.spec.reference_point
    assert np.prod(gained) == pytest.approx(task.spec.anchors["always left"], rel=1e-4)


def test_a_task_takes_overrides():
    task = make_task(
        "minecart-v0",
        discount=0.9,
        horizon=7,
        reference_point=[-2, -2, -5],
        kwargs={"frame_skip": 1},
    )
    assert task.spec.discount == 0.9
    assert task.spec.horizon == 7
    assert task.spec.reference_point == (-2.0, -2.0, -5.0)
    assert task.kwargs == {"frame_skip": 1}
    batch = task.make_vec(2)
    assert isinstance(batch, MinecartVectorEnv)
    assert batch.frame_skip == 1
    batch.reset(seed=0)
    cut = [batch.step(np.array([5, 5]))[3].all() for _ in range(7)]
    assert cut == [False] * 6 + [True]


def test_anchors_survive_only_where_they_hold():
    assert make_task("mo-ant-v4").spec.anchors == {"do-nothing": 8.020e6}
    assert make_task("mo-ant-v4", horizon=500).spec.anchors == {"do-nothing": 7.942e6}
    assert make_task("mo-ant-v4", horizon=400).spec.anchors == {}
    assert make_task("mo-ant-v4", discount=0.9, horizon=500).spec.anchors == {}
    assert make_task("minecart-v0", reference_point=(0, 0, -200)).spec.anchors == {}
    assert make_task("minecart-v0", horizon=500).spec.anchors["declared front"] == 668.1833


def test_constructor_arguments_that_change_returns_drop_front_and_anchors():
    spec = make_task("minecart-v0", kwargs={"frame_skip": 1}).spec
    assert spec.known_front is None
    assert spec.anchors == {}
    kept = make_task("deep-sea-treasure-v0", kwargs={"float_state": True}).spec
    assert kept.known_front is not None
    shallow = make_task("fruit-tree-v0", kwargs={"depth": 5}).spec
    assert shallow.known_front.points(1.0).shape == (32, 6)
    assert shallow.anchors == {}


def test_specs_follow_arguments_that_change_the_objectives():
    car = make_task("mo-mountaincar-v0", kwargs={"add_speed_objective": True})
    assert car.spec.objective_names == ("time", "reverse", "forward", "speed")
    assert car.make_vec(1).reward_space.shape == (4,)
    dam = make_task("water-reservoir-v0", kwargs={"nO": 3, "time_limit": 20})
    assert dam.spec.num_objectives == 3
    assert dam.spec.horizon == 20
    hopper = ENVS["mo-hopper-v4"].spec_for(cost_objective=False)
    assert hopper.objective_names == ("forward", "height")


def test_a_reference_point_of_the_wrong_length_names_the_objectives():
    with pytest.raises(EnvArgumentError, match=r"minecart-v0.*ore-1, ore-2, fuel"):
        make_task("minecart-v0", reference_point=(0, 0))


@pytest.mark.parametrize(("discount", "horizon"), [(0.0, None), (1.5, None), (None, 0)])
def test_discount_and_horizon_are_checked(discount, horizon):
    with pytest.raises(EnvArgumentError, match="minecart-v0"):
        make_task("minecart-v0", discount=discount, horizon=horizon)


def test_an_unknown_id_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'minecart-v0'"):
        make_task("minecart-v1")


def test_an_unknown_argument_is_named_with_those_that_exist():
    with pytest.raises(EnvArgumentError, match=r"minecart-v0.*colour.*frame_skip"):
        make_vec("minecart-v0", 2, colour="red")


def test_what_is_not_installed_cannot_become_a_task():
    with pytest.raises(EnvArgumentError, match="pip install"):
        make_task("mo-supermario-v0")


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_gymnasium_makes_the_kernels(name):
    batch = gymnasium.make_vec(
        gymnasium.spec(name), num_envs=3, vectorization_mode="vector_entry_point"
    )
    observations, _ = batch.reset(seed=0)
    assert len(observations) == 3
    assert type(batch) is type(make_vec(name, 1))
    assert batch.env_id == name
    assert not isinstance(batch, SerialEnv)


def test_gymnasium_makes_a_kernel_by_name_with_its_registered_horizon():
    batch = gymnasium.make_vec("minecart-v0", num_envs=8, vectorization_mode="vector_entry_point")
    assert isinstance(batch, MinecartVectorEnv)
    assert batch.max_episode_steps == 1000


def test_a_task_takes_a_box_and_keeps_its_anchors() -> None:
    spec = make_task("minecart-v0", box=((0, 0, -2), (1.5, 1.5, 0))).spec
    assert spec.box == ((0.0, 0.0, -2.0), (1.5, 1.5, 0.0))
    assert spec.anchors == make_task("minecart-v0").spec.anchors != {}


def test_a_box_that_is_empty_names_the_environment() -> None:
    with pytest.raises(EnvArgumentError, match=r"minecart-v0: box is empty"):
        make_task("minecart-v0", box=((0, 0, 0), (1, 1, 0)))
