"""Kernels agree bit for bit with MO-Gymnasium under the same actions and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from mo_gymnasium.envs.deep_sea_treasure.deep_sea_treasure import CONCAVE_MAP, MIRRORED_MAP
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from morl.envs import EnvArgumentError, SerialEnv, make_serial, make_vec
from morl.envs.minecart import (
    ACCELERATE,
    BRAKE,
    LEFT,
    MINE,
    NONE,
    RIGHT,
    MinecartVectorEnv,
    _mine,
)
from morl.testing import sample_actions

Actions = Callable[[int, int], NDArray[Any]]

KERNELS: list[tuple[str, dict[str, Any]]] = [
    ("deep-sea-treasure-v0", {}),
    ("deep-sea-treasure-v0", {"float_state": True}),
    ("deep-sea-treasure-v0", {"dst_map": CONCAVE_MAP}),
    ("deep-sea-treasure-v0", {"dst_map": MIRRORED_MAP, "float_state": True}),
    ("deep-sea-treasure-concave-v0", {}),
    ("deep-sea-treasure-mirrored-v0", {}),
    ("fruit-tree-v0", {"depth": 5}),
    ("fruit-tree-v0", {}),
    ("fruit-tree-v0", {"depth": 7}),
    ("minecart-deterministic-v0", {}),
    ("minecart-deterministic-v0", {"frame_skip": 2}),
    ("resource-gathering-v0", {}),
    ("breakable-bottles-v0", {}),
    ("breakable-bottles-v0", {"size": 7, "prob_drop": 0.5, "unbreakable_bottles": True}),
    ("breakable-bottles-v0", {"size": 3, "time_penalty": -2, "bottle_reward": 7}),
    ("four-room-v0", {}),
    ("fishwood-v0", {}),
    ("fishwood-v0", {"fishproba": 0.7, "woodproba": 0.2}),
    ("mo-mountaincar-v0", {}),
    ("mo-mountaincar-v0", {"goal_velocity": 0.02}),
    ("mo-mountaincar-3d-v0", {}),
    ("mo-mountaincar-timemove-v0", {}),
    ("mo-mountaincar-timespeed-v0", {}),
    ("mo-mountaincarcontinuous-v0", {}),
    ("water-reservoir-v0", {}),
    ("water-reservoir-v0", {"nO": 4, "penalize": True}),
    ("water-reservoir-v0", {"nO": 3, "normalized_action": True}),
    ("water-reservoir-v0", {"time_limit": 7, "initial_state": np.array([80.0])}),
]


def sticky_actions(space: Any, steps: int, num_envs: int, *, seed: int) -> NDArray[Any]:
    """Random actions of which each is repeated with probability 0.6: they lead further."""
    actions = sample_actions(space, steps, num_envs, seed=seed)
    again = np.random.default_rng(seed).random((steps, num_envs)) < 0.6
    for step in range(1, steps):
        actions[step, again[step]] = actions[step - 1, again[step]]
    return actions


def mining_actions(steps: int, num_envs: int, *, seed: int) -> NDArray[np.int64]:
    """Drive to a mine, load, turn and drive home, with random distances; then anything."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(6, size=(steps, num_envs))
    for i in range(num_envs):
        program: list[int] = []
        while len(program) < steps:
            program += [[], [LEFT], [RIGHT]][rng.integers(3)]
            program += [ACCELERATE] * 2 + [NONE] * rng.integers(2, 5) + [BRAKE]
            program += [MINE] * rng.integers(1, 6)
            program += [LEFT] * rng.integers(4, 6) + [ACCELERATE] * 2 + [NONE] * 8
        actions[:, i] = np.where(rng.random(steps) < 0.97, program[:steps], actions[:, i])
    return actions


def compare(batch: Any, serial: SerialEnv, actions: NDArray[Any], *, seed: int = 3) -> int:
    """Assert that two batches agree in every bit; returns how many episodes ended."""
    ours, _ = batch.reset(seed=seed)
    theirs, _ = serial.reset(seed=seed)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype
    ended = 0
    for step, row in enumerate(actions):
        ours, theirs = batch.step(row), serial.step(row)
        for mine, reference in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, reference, err_msg=f"step {step}")
            assert mine.dtype == reference.dtype
        assert sorted(ours[4]) == sorted(theirs[4])
        if ours[4]:
            over = ours[4]["_final_obs"]
            np.testing.assert_array_equal(over, ours[2] | ours[3])
            np.testing.assert_array_equal(ours[4]["final_obs"][over], theirs[4]["final_obs"][over])
            ended += int(over.sum())
    return ended


def compare_kernel(name: str, kwargs: dict[str, Any], steps: int) -> None:
    num_envs = 64
    horizon = 100 if name == "mo-mountaincarcontinuous-v0" else None
    batch = make_vec(name, num_envs, horizon=horizon, **kwargs)
    serial = make_serial(name, num_envs, horizon=batch.max_episode_steps, **kwargs)
    assert batch.single_action_space == serial.single_action_space
    actions = sticky_actions(batch.single_action_space, steps, num_envs, seed=1)
    if name == "minecart-deterministic-v0":
        actions[:, ::2] = mining_actions(steps, num_envs // 2, seed=2)
    assert compare(batch, serial, actions) > 0


@pytest.mark.parametrize(("name", "kwargs"), KERNELS)
def test_kernel_equals_mo_gymnasium(name, kwargs):
    compare_kernel(name, kwargs, 220)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), KERNELS)
def test_kernel_equals_mo_gymnasium_over_a_hundred_thousand_steps(name, kwargs):
    compare_kernel(name, kwargs, 1600)


def share_normals(serial: SerialEnv, seed: int) -> None:
    """Let MO-Gymnasium's mines draw from one seeded generator an environment."""
    for i, env in enumerate(serial.envs):
        generator = np.random.default_rng(seed + i)
        for mine in env.unwrapped.mines:
            for distribution in mine.distributions:
                distribution.random_state = generator


def fused_length(vector: NDArray[np.float64]) -> np.float64:
    """Length of a vector of two numbers, the second product and the sum rounded once.

    MO-Gymnasium takes it from ``np.dot``, whose rounding depends on the processor: BLAS fuses the
    two operations with AVX-512 kernels and not with those for AVX2.
    """
    x, y = map(float, vector)
    return np.sqrt(np.float64(float(Fraction(y) * Fraction(y) + Fraction(x * x))))


@pytest.mark.parametrize("frame_skip", [1, 4])
def test_stochastic_minecart_equals_mo_gymnasium_fed_with_the_same_normals(frame_skip, monkeypatch):
    monkeypatch.setattr("mo_gymnasium.envs.minecart.minecart.mag", fused_length)
    batch = make_vec("minecart-v0", 16, frame_skip=frame_skip)
    serial = make_serial("minecart-v0", 16, frame_skip=frame_skip)
    share_normals(serial, 3)
    steps = 300 * 4 // frame_skip
    actions = np.repeat(mining_actions(300, 16, seed=0), 4 // frame_skip, axis=0)[:steps]
    assert compare(batch, serial, actions) > 10


def test_carts_in_these_tests_do_sell_both_ores():
    batch = make_vec("minecart-v0", 64)
    batch.reset(seed=0)
    sold = sum(batch.step(row)[1] for row in mining_actions(220, 64, seed=2))
    assert (sold[:, 0] > 0).sum() > 10
    assert (sold[:, 1] > 0).sum() > 10


def test_ore_has_mo_gymnasiums_distribution():
    plan = [ACCELERATE] + [NONE] * 9 + [BRAKE] + [MINE]
    batch = make_vec("minecart-v0", 400)
    serial = make_serial("minecart-v0", 100)
    share_normals(serial, 12_345)
    contents = []
    for envs in (batch, serial):
        envs.reset(seed=0)
        for action in plan:
            observations = envs.step(np.full(envs.num_envs, action))[0]
        contents.append(observations[:, 5:].sum(axis=1))
    assert contents[0].min() > 0
    assert ks_2samp(*contents).pvalue > 0.01


def test_a_seed_decides_the_ore_and_nothing_else_does():
    actions = mining_actions(150, 8, seed=4)

    def run(num_envs: int, seed: list[int]) -> NDArray[Any]:
        batch = MinecartVectorEnv(num_envs)
        batch.reset(seed=seed)
        return np.array([batch.step(row[:num_envs])[0] for row in actions])

    whole = run(8, list(range(8)))
    np.testing.assert_array_equal(run(3, [0, 1, 2]), whole[:, :3])
    assert not np.array_equal(run(8, list(range(8, 16))), whole)


def test_streams_go_on_after_an_episode_and_start_anew_with_a_seed():
    batch = make_vec("mo-mountaincar-v0", 2, horizon=5)
    starts = [batch.reset(seed=7)[0]]
    for _ in range(3):
        for _ in range(5):
            observations = batch.step(np.array([1, 1]))[0]
        starts.append(observations)
    assert len({float(start[0, 0]) for start in starts}) == 4
    np.testing.assert_array_equal(batch.reset(seed=7)[0], starts[0])
    assert starts[0][1, 0] == batch.reset(seed=8)[0][0, 0]


@pytest.mark.parametrize("name", ["mo-mountaincar-v0", "mo-mountaincarcontinuous-v0"])
def test_cars_that_swing_reach_the_goal_as_in_mo_gymnasium(name):
    batch, serial = make_vec(name, 8), make_serial(name, 8)
    (ours, _), (theirs, _) = batch.reset(seed=1), serial.reset(seed=1)
    arrived = 0
    for step in range(400):
        push = np.where(ours[:, 1] < 0, -1.0, 1.0) * (0.4 + 0.1 * (step % 9))
        actions = np.sign(push).astype(int) + 1 if name.endswith("car-v0") else push[:, None]
        ours, rewards, terminated, *_ = batch.step(actions)
        theirs, expected, *_ = serial.step(actions)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(rewards, expected)
        assert (rewards[terminated, 0] == 0).all()
        arrived += int(terminated.sum())
    assert arrived > 8


def test_the_continuous_car_pays_for_what_was_asked_and_gets_what_is_possible():
    batch, serial = (
        make("mo-mountaincarcontinuous-v0", 4, horizon=40) for make in (make_vec, make_serial)
    )
    rng = np.random.default_rng(0)
    actions = rng.normal(0, 2, (200, 4, 1)).astype(np.float32)
    assert compare(batch, serial, actions) > 0
    batch.reset(seed=0)
    rewards = batch.step(np.full((4, 1), 3.0))[1]
    assert rewards.tolist() == [[-1.0, -9.0]] * 4


def test_the_reservoir_takes_any_request():
    kwargs = {"nO": 4, "penalize": True}
    batch = make_vec("water-reservoir-v0", 8, **kwargs)
    serial = make_serial("water-reservoir-v0", 8, horizon=100, **kwargs)
    actions = np.random.default_rng(0).uniform(0, 200, (250, 8, 1)).astype(np.float32)
    assert compare(batch, serial, actions) == 16


def test_a_maze_with_several_starts_draws_them_from_the_environments_stream():
    maze = np.array([["_", " ", "_"], ["1", "X", "2"], ["_", "G", "3"]])
    batch = make_vec("four-room-v0", 60, maze=maze)
    starts, _ = batch.reset(seed=0)
    assert {tuple(row) for row in starts[:, :2].tolist()} == {(0, 0), (0, 2), (2, 0)}
    np.testing.assert_array_equal(batch.reset(seed=0)[0], starts)
    assert batch.reward_space.shape == (3,)


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("minecart-v0", {"frame_skip": 0}, "frame_skip"),
        ("minecart-v0", {"config": "/nowhere.json"}, "nowhere"),
        ("deep-sea-treasure-v0", {"dst_map": np.zeros((2, 2))}, "dst_map"),
        ("fruit-tree-v0", {"depth": 4}, "depth"),
        ("breakable-bottles-v0", {"size": 2}, "size"),
        ("four-room-v0", {"maze": np.array([["_", "1"]])}, "goal"),
        ("four-room-v0", {"maze": np.array([["_", "4", "G"]])}, "shapes"),
        ("water-reservoir-v0", {"nO": 5}, "nO"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name, kwargs, words):
    with pytest.raises(EnvArgumentError, match=words):
        make_vec(name, 2, **kwargs)


def test_a_mine_layout_that_lacks_something_is_refused(tmp_path):
    path = tmp_path / "mines.json"
    path.write_text('{"capacity": 1, "mines": [{"x": 0.5, "y": 0.5}]}')
    with pytest.raises(EnvArgumentError, match="distributions"):
        MinecartVectorEnv(1, config=path)


def test_four_thousand_minecarts_take_little_memory():
    batch = MinecartVectorEnv(4096)
    batch.reset(seed=0)
    for row in mining_actions(30, 16, seed=0):
        batch.step(np.tile(row, 256))
    arrays = [value for value in vars(batch).values() if isinstance(value, np.ndarray)]
    size = sum(array.nbytes for array in arrays) + batch._random.values.nbytes
    assert size < 20e6


def test_an_overfull_minecart_survives_a_mine_that_yields_nothing():
    position = np.array([[0.5, 0.5]])
    # More than the capacity of 1.5 by a rounding error.
    content = np.array([0.75, np.nextafter(1.5, 2.0) - 0.75])
    before = content.copy()
    _mine(
        np.array([0.5, 0.5, 0.0, 45.0]), content, np.zeros(2), position, np.array([[0.3, 0.3]]),
        np.array([[0.05, 0.05]]), 1.5, np.array([-99.0, -99.0]), 0, True,
    )  # fmt: skip
    assert before.sum() > 1.5
    assert np.array_equal(content, before)
