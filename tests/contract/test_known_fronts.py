"""Every point of a stored front is earned by its plan, here and in MO-Gymnasium."""

from __future__ import annotations

import json
import warnings

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from morl.envs import fronts, make_task, mo_gymnasium
from morl.envs.four_room import model as rooms
from morl.envs.fronts import (
    DISCOUNTS,
    FOLDER,
    FrontError,
    FrontFile,
    StoredFront,
    load,
    replay,
    solve,
    solve_file,
    update_best_known,
)
from morl.envs.minecart import ACCELERATE, BRAKE, LEFT, NONE
from morl.exact import enumerate_states, pareto_front, supported
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import ENVS

FILES = {path.stem: fronts.read(path) for path in sorted(FOLDER.glob("*.json"))}
EXACT = {name: file for name, file in FILES.items() if file.certificate == "exact"}
STORED = [
    pytest.param(file, front, id=f"{name} at {front.discount}")
    for name, file in FILES.items()
    for front in file.fronts
]


def ordinary(file: FrontFile) -> gymnasium.Env:
    """One environment of MO-Gymnasium."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
        return gymnasium.make(file.env, disable_env_checker=True, **file.kwargs)


def declared_front(file: FrontFile, discount: float) -> NDArray[np.float64]:
    """What MO-Gymnasium says."""
    return mo_gymnasium.declared_front(discount, name=file.env, **file.kwargs)


def play_one(env: gymnasium.Env, plan: tuple[int, ...], discount: float) -> NDArray[np.float64]:
    """Return of a plan in one ordinary environment."""
    env.reset(seed=0)
    total = np.zeros(env.unwrapped.reward_space.shape)
    for step, action in enumerate(plan):
        _, reward, terminated, truncated, _ = env.step(action)
        total += discount**step * np.asarray(reward, np.float64)
        assert (terminated or truncated) == (step == len(plan) - 1)
    return total


def value(points: NDArray[np.float64], reference_point: tuple[float, ...]) -> float:
    return hypervolume(points, reference_point).value


@pytest.mark.parametrize(("file", "front"), STORED)
def test_plans_earn_their_points_in_the_batch(file: FrontFile, front: StoredFront):
    task = make_task(file.env, kwargs=file.kwargs)
    returns, ended = replay(task, front.plans, discount=front.discount, seeds=file.seeds)
    assert ended.all()
    np.testing.assert_allclose(returns.mean(axis=1), front.points, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("file", "front"), STORED)
def test_plans_earn_their_points_in_mo_gymnasium(file: FrontFile, front: StoredFront):
    if file.seeds > 1:
        pytest.skip("MO-Gymnasium draws from a generator that no seed reaches")
    env = ordinary(file)
    returns = [play_one(env, plan, front.discount) for plan in front.plans]
    np.testing.assert_allclose(returns, front.points, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("file", "front"), STORED)
def test_stored_fronts_are_sound(file: FrontFile, front: StoredFront):
    assert nondominated(front.points).all()
    assert len(front.points) == len(front.plans) == len(set(front.plans))
    assert np.flatnonzero(front.supported).tolist() == supported(front.points).tolist()
    assert front.points.shape[1] == ENVS[file.env].spec_for(**file.kwargs).num_objectives


@pytest.mark.parametrize("name", [name for name in EXACT if name != "four-room-v0"])
def test_stored_exact_fronts_are_what_the_solver_finds(name):
    file = EXACT[name]
    assert file.env in fronts.MODELS
    again = solve_file(file.env, method=file.method, **file.kwargs)
    assert [front.discount for front in again.fronts] == list(DISCOUNTS)
    for mine, stored in zip(again.fronts, file.fronts, strict=True):
        np.testing.assert_allclose(mine.points, stored.points, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_stored_front_of_four_rooms_is_what_the_solver_finds():
    stored = load("four-room-v0").at(0.99)
    np.testing.assert_allclose(solve("four-room-v0", discount=0.99).points, stored.points)


def test_every_solvable_environment_has_a_file():
    assert {file.env for file in EXACT.values()} == set(fronts.MODELS)


def test_whole_tours_of_four_rooms_equal_single_steps():
    maze = np.array([list(row) for row in ("1 X G", "  X 3", " 2   ", "_X1 2")])
    task = make_task("four-room-v0", kwargs={"maze": maze})
    stepwise = pareto_front(enumerate_states(task), discount=0.9, horizon=200)
    tours = pareto_front(rooms(maze), discount=0.9, horizon=200)
    assert len(tours.points) > 3
    np.testing.assert_allclose(tours.points, stepwise.points, rtol=1e-12)
    returns, ended = replay(task, [plan.actions for plan in tours.plans], discount=0.9)
    assert ended.all()
    np.testing.assert_allclose(returns[:, 0], tours.points, rtol=1e-12)


# What MO-Gymnasium declares


@pytest.mark.parametrize("name", [name for name in EXACT if name.startswith(("deep", "fruit"))])
@pytest.mark.parametrize("discount", DISCOUNTS)
def test_declared_fronts_of_deep_sea_treasure_and_fruit_tree_are_right(name, discount):
    file = EXACT[name]
    declared = declared_front(file, discount)
    # It computes in double precision what its environment gives out in single precision.
    np.testing.assert_allclose(
        sorted(declared.tolist()), sorted(file.at(discount).points.tolist()), rtol=1e-6
    )


def test_the_declared_front_of_resource_gathering_is_wrong_without_discount():
    file = EXACT["resource-gathering-v0"]
    declared, exact = declared_front(file, 1.0), file.at(1.0).points
    assert sorted(declared.tolist()) == [[-0.1, 0.9, 0.9], [0, 0, 1], [0, 1, 0]]
    assert exact.tolist() == [[0, 1, 1]]  # dominates them all
    assert (exact >= declared).all()


def test_the_declared_front_of_resource_gathering_is_wrong_at_any_discount():
    file = EXACT["resource-gathering-v0"]
    declared, exact = declared_front(file, 0.99), file.at(0.99).points
    reference_point = (-1.0, -1.0, -1.0)
    assert value(exact, reference_point) == pytest.approx(3.519409, abs=1e-6)
    assert value(declared, reference_point) == pytest.approx(3.34511, abs=1e-5)
    # Both together are missing, and single treasures come a step late.
    together = [0, 0.99**17, 0.99**17]
    assert np.isclose(exact, together).all(axis=1).any()
    assert not np.isclose(declared, together).all(axis=1).any()
    assert (np.isclose(declared, [0, 0.99**12, 0])).all(axis=1).any()
    assert (np.isclose(exact, [0, 0.99**11, 0])).all(axis=1).any()


@pytest.mark.parametrize(
    ("name", "discount", "reference_point", "expected"),
    [
        ("deep-sea-treasure-v0", 0.99, (0, -25), 360.401),
        ("deep-sea-treasure-v0", 0.99, (0, -50), 854.850),
        ("deep-sea-treasure-v0", 1.0, (0, -25), 401.8),
        ("deep-sea-treasure-concave-v0", 0.99, (0, -50), 3688.377),
        ("deep-sea-treasure-concave-v0", 1.0, (0, -25), 1155.0),
        ("fruit-tree-v0.depth-6", 0.99, (0,) * 6, 9302.378),
        ("fruit-tree-v0.depth-6", 0.99, (-1,) * 6, 46034.80),
        ("fruit-tree-v0.depth-6", 1.0, (0,) * 6, 12575.873),
        ("fruit-tree-v0.depth-5", 0.99, (0,) * 6, 6920.58204),
        ("resource-gathering-v0", 1.0, (-1, -1, -1), 4.0),
    ],
)
def test_stored_fronts_have_the_published_hypervolumes(name, discount, reference_point, expected):
    points = FILES[name].at(discount).points
    assert value(points, reference_point) == pytest.approx(expected, rel=2e-6)


def test_the_best_known_front_of_minecart_beats_the_declared_one():
    file = FILES["minecart-deterministic-v0"]
    declared, best = declared_front(file, 0.98), file.at(0.98).points
    reference_point = (-1.0, -1.0, -200.0)
    assert value(declared, reference_point) == pytest.approx(723.0482, abs=1e-4)
    assert value(best, reference_point) > 749
    # MO-Gymnasium adds up fuel in double precision, its environment in single precision.
    covered = (best[:, None] >= declared - 1e-6).all(axis=2).any(axis=0)
    assert covered.sum() >= 17


def test_the_declared_front_of_minecart_is_not_what_its_plans_earn():
    task = make_task("minecart-deterministic-v0")
    # MO-Gymnasium's cheapest trip: out, round, and the same way back.
    plan = (ACCELERATE, NONE, *[LEFT] * 4, NONE, NONE)
    returns, ended = replay(task, [plan], discount=0.98)
    declared = declared_front(FILES["minecart-deterministic-v0"], 0.98)
    assert np.isclose(declared, returns[0, 0], atol=1e-6).all(axis=1).any()
    assert not ended.any()  # it is not home yet


def test_the_best_known_front_weighs_its_plans_by_any_discount():
    points = ENVS["minecart-deterministic-v0"].spec_for().known_front.points(1.0)
    assert nondominated(points).all()
    assert points[:, :2].sum(axis=1).max() == pytest.approx(1.5)  # a full cart


# Files


def test_other_discounts_are_solved_on_demand():
    known = ENVS["deep-sea-treasure-v0"].spec_for().known_front
    points = known.points(0.5)
    # One step down to the first treasure, or three to the second: 8.2 / 4 for 1.75 time.
    assert [np.float32(0.7), -1.0] in points.tolist()
    assert [np.float64(np.float32(8.2)) / 4, -1.75] in points.tolist()
    points[:] = 0  # the caller's own
    assert known.points(0.5).any()


def test_a_front_that_was_edited_is_refused(tmp_path):
    path = fronts.save(EXACT["resource-gathering-v0"], folder=tmp_path)
    record = json.loads(path.read_text())
    record["fronts"][1]["points"][0][2] = 0.99
    path.write_text(json.dumps(record))
    with pytest.raises(FrontError, match=r"resource-gathering-v0.*0\.99.*changed"):
        fronts.read(path)
    path.write_text(json.dumps({**record, "format": "other/1"}))
    with pytest.raises(FrontError, match="other/1"):
        fronts.read(path)


def test_files_read_as_they_were_written(tmp_path):
    file = EXACT["fruit-tree-v0.depth-5"]
    again = fronts.read(fronts.save(file, folder=tmp_path))
    assert again.kwargs == {"depth": 5}
    for mine, stored in zip(again.fronts, file.fronts, strict=True):
        assert mine.points.tolist() == stored.points.tolist()
        assert mine.plans == stored.plans


OUT_AND_BACK = (ACCELERATE, *[NONE] * 3, BRAKE, *[LEFT] * 4, *[ACCELERATE] * 3, *[NONE] * 8)
"""Leaves the base of minecart, turns round and comes home empty."""


def test_the_best_known_only_ever_improves(tmp_path):
    name = "minecart-deterministic-v0"
    first = update_best_known(name, [OUT_AND_BACK], discount=0.98, method="a", folder=tmp_path)
    assert first.revision == 1
    assert first.certificate == "best-known"
    waste = (NONE, *OUT_AND_BACK)
    same = update_best_known(name, [waste], discount=0.98, method="b", folder=tmp_path)
    assert same.revision == 1
    assert same.method == "a"
    faster = tuple(action for action in OUT_AND_BACK if action != BRAKE)
    both = update_best_known(name, [faster], discount=0.98, method="c", folder=tmp_path)
    assert (both.revision > 1) == (both.at(0.98).plans != first.at(0.98).plans)
    assert value(both.at(0.98).points, (-1, -1, -200)) >= value(
        first.at(0.98).points, (-1, -1, -200)
    )
    assert fronts.read(tmp_path / f"{name}.json").revision == both.revision


def test_plans_that_stop_on_the_way_are_refused(tmp_path):
    with pytest.raises(FrontError, match="plan 0 of 1 actions stops before the episode ends"):
        update_best_known(
            "minecart-deterministic-v0", [(NONE,)], discount=0.98, method="", folder=tmp_path
        )


def test_an_exact_front_is_not_improved(tmp_path):
    fronts.save(EXACT["deep-sea-treasure-v0"], folder=tmp_path)
    with pytest.raises(FrontError, match="exact"):
        update_best_known("deep-sea-treasure-v0", [(1,)], discount=0.99, method="", folder=tmp_path)
