"""The building: its physics, what an hour pays, and the figures that are known of it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from morl.envs import ActionError, EnvArgumentError, NotResetError, make_task, make_vec
from morl.envs.building import (
    CARBON,
    GROUND_TEMPERATURES,
    GROUPS,
    HOURS,
    NOISE,
    PRICES,
    BuildingVectorEnv,
    Zones,
    _conductances,
    building_model,
)
from morl.registry import ENVS

NAMES = tuple(GROUPS)
LATEST_START = 200
IDLE = np.zeros((1, 23), np.float32)


def rollout(batch, actions):
    """Rewards (time, env, objective) of one action row for every hour."""
    return np.array([batch.step(row)[1] for row in actions])


def test_the_model_has_the_known_decay_of_every_zone():
    decay = np.diag(building_model().transition)
    known = [0.0516, 0.0138, 0.1005, 0.0101, 0.0068, 0.0101, 0.0066, 0.0013, 0.0544, 0.1168]
    np.testing.assert_allclose(decay[:10], known, atol=1e-4)
    assert np.abs(np.linalg.eigvals(building_model().transition)).max() == pytest.approx(
        0.544, abs=5e-4
    )


def test_the_model_has_the_known_degrees_an_hour_of_full_power():
    degrees = np.diag(building_model().actuation)
    known = [0.843, 2.141, 0.981, 2.964, 4.218, 2.964, 4.906, 6.531, 0.893, 1.029]
    np.testing.assert_allclose(degrees[:10], known, atol=6e-4)
    assert degrees[-1] == pytest.approx(1.486, abs=6e-4)


def test_a_building_as_warm_as_its_surroundings_stays_as_it_is():
    model = building_model()
    warm = np.full(23, 17.0)
    after = model.transition @ warm + model.exposure @ np.array([17.0, 17.0, 0.0])
    np.testing.assert_allclose(after, warm, rtol=1e-12)


def test_more_heat_never_makes_a_zone_colder():
    model = building_model()
    for matrix in (model.transition, model.actuation, model.exposure):
        assert matrix.min() >= -1e-15


def test_an_hour_of_the_model_is_an_hour_of_its_differential_equation():
    # Small Euler steps of C T' = H (T_j - T_i) + ... for the basement's larger zone, heated.
    zones = Zones.load()
    between = _conductances(zones)
    to_air = zones.wall * 0.984 + zones.window * 2.615
    to_air += np.where(zones.is_last, zones.base * 0.228, 0.0)
    to_ground = np.where(zones.layer == 0, zones.floor * 3.839 / 2, 0.0)
    capacity = 1225.0 * zones.volume
    action = np.linspace(-1, 1, 23)
    inside = np.linspace(10.0, 30.0, 23)
    ground, air, sun = 11.0, 5.0, 0.4
    sources = to_ground * ground + to_air * air + 8000 * action + zones.window * 19.467 * sun
    losses = between.sum(axis=1) + to_air + to_ground
    euler = inside.copy()
    for _ in range(7200):
        euler += 0.5 * (between @ euler - losses * euler + sources) / capacity
    model = building_model()
    exact = model.transition @ inside + model.actuation @ action
    exact += model.exposure @ np.array([ground, air, sun])
    np.testing.assert_allclose(exact, euler, atol=2e-3)


def test_walls_conduct_by_hand():
    between = _conductances(Zones.load())
    # Two basement zones share a wall of 48.74 m, 2.44 m high.
    assert between[0, 1] == pytest.approx(2.44 * 6.299 * 48.74)
    # The smaller of them lies under the ground floor's data centre, 0.92 m by 39.60 m.
    assert between[1, 7] == pytest.approx(0.92 * 39.60 * 3.839 * 4.488 / (3.839 + 4.488))
    # No heat passes from the bottom to the middle: a plenum and five storeys lie between.
    assert between[2, 9] == 0.0


def test_the_weather_is_that_of_680_hours():
    weather = building_model().weather
    assert weather.shape == (LATEST_START + HOURS, 3)
    np.testing.assert_allclose(weather[:, 1].mean(), 13.243, atol=5e-4)
    np.testing.assert_allclose(weather[[0, 679], 1], [8.0, 8.0])
    np.testing.assert_allclose(weather[[7, 8, 679], 2] * 1030, [70, 252, 73])
    # The benchmark's months last an hour each.
    np.testing.assert_allclose(weather[24:36, 0], GROUND_TEMPERATURES)


def test_the_shared_model_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        building_model().transition[0, 0] = 1.0


def test_the_first_observation_shows_the_start():
    batch = make_vec("building-3d-v0", 1)
    observation = batch.reset(seed=3)[0][0]
    start = batch._starts[0]
    ground, air, sun = batch.model.weather[start]
    assert observation.shape == (29,)
    np.testing.assert_array_equal(observation[:23], np.float32(0.5))
    # Heat of a person at rest in 20 degrees: -56.2 W by the formula of the benchmark, in kW.
    expected = [(air + 40) / 80, sun, (ground + 40) / 80, (1 - 0.0562) / 2]
    np.testing.assert_allclose(observation[23:27], expected, atol=1e-4)
    prices = np.clip([batch._carbons[0, 0], batch._prices[0, 0]], 0, 1)
    np.testing.assert_allclose(observation[27:], prices, atol=1e-6)


def test_later_observations_show_the_zones_and_the_hour_that_is_over():
    batch = make_vec("building-3d-v0", 1)
    batch.reset(seed=3)
    start, model = batch._starts[0], batch.model
    inside = np.full(23, 20.0)
    for hour in range(3):
        observation = batch.step(IDLE + 0.5)[0][0]
        weather = model.weather[start + hour]
        inside = model.transition @ inside + model.actuation.sum(axis=1) * 0.5
        inside += model.exposure @ weather
        np.testing.assert_allclose(observation[:23] * 40, inside, atol=5e-6)
        assert observation[23] * 80 - 40 == pytest.approx(weather[1], abs=1e-5)
        assert observation[24] == pytest.approx(weather[2], abs=1e-6)
    shown = batch.model.zone_temperatures(observation[None])[0]
    np.testing.assert_allclose(shown, inside, atol=5e-6)


def test_three_hours_pay_what_a_pencil_says():
    batch = make_vec("building-3d-v0", 1)
    batch.reset(seed=5)
    actions = np.zeros((4, 1, 23), np.float32)
    actions[0, 0, :4] = [1.0, -0.5, 0.25, 0.25]  # 2 units of power
    actions[1, 0, 22] = -1.0
    actions[2, 0, 0] = 0.25
    rewards = rollout(batch, actions)[:, 0]
    prices = batch._prices[0, :4]
    np.testing.assert_allclose(rewards[:, 1], 23 - prices / 0.041 * [2.0, 1.0, 0.25, 0.0])
    # Nothing in the first two hours, then the change of power: 1 to 0.25, 0.25 to 0.
    np.testing.assert_allclose(rewards[:, 2], [0.0, 0.0, 23 - 0.75, 23 - 0.25], rtol=1e-6)
    inside = np.full(23, 20.0)
    model, start = batch.model, batch._starts[0]
    for hour in range(4):
        inside = model.transition @ inside + model.actuation @ actions[hour, 0]
        inside += model.exposure @ model.weather[start + hour]
        assert rewards[hour, 0] == pytest.approx((460 - np.abs(inside - 20).sum()) / 20)


def test_nine_objectives_are_three_for_each_of_three_groups():
    batch = make_vec("building-9d-v0", 1)
    batch.reset(seed=5)
    actions = np.zeros((3, 1, 23), np.float32)
    actions[1:, 0, 8], actions[1:, 0, 9], actions[1:, 0, 22] = 0.5, -0.25, 1.0
    actions[2, 0, :8] = 0.5
    rewards = rollout(batch, actions)[:, 0]
    np.testing.assert_allclose(rewards[0, 3:], [9, 7, 7, 0, 0, 0])
    np.testing.assert_allclose(rewards[1, 3:6], [9 - 0.025, 7 - 0.0125, 7 - 0.05])
    np.testing.assert_allclose(rewards[2, 3:6], [9 - 0.225, 7 - 0.0125, 7 - 0.05])
    np.testing.assert_allclose(rewards[2, 6:], [9 - 4, 7, 7])


def test_nine_comforts_add_up_to_the_one_of_three_objectives():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (50, 2, 23)).astype(np.float32)
    three, nine = (make_vec(name, 2) for name in NAMES)
    three.reset(seed=1)
    nine.reset(seed=1)
    whole, parts = rollout(three, actions), rollout(nine, actions)
    np.testing.assert_allclose(parts[..., :3].sum(axis=-1), whole[..., 0])


def test_actions_are_clipped():
    beyond, within = make_vec("building-3d-v0", 1), make_vec("building-3d-v0", 1)
    beyond.reset(seed=0)
    within.reset(seed=0)
    for _ in range(3):
        loud, full = beyond.step(IDLE - 7.0), within.step(IDLE - 1.0)
        np.testing.assert_array_equal(loud[0], full[0])
        np.testing.assert_array_equal(loud[1], full[1])


def test_temperatures_are_clipped_in_observations_alone():
    batch = make_vec("building-3d-v0", 1)
    batch.reset(seed=0)
    batch._inputs[0, :23] = 80.0
    observation, rewards, *_ = batch.step(IDLE)
    model = batch.model
    inside = model.transition.sum(axis=1) * 80 + model.exposure @ model.weather[batch._starts[0]]
    assert inside.max() > 40.0
    assert observation.max() == 1.0
    assert rewards[0, 0] == pytest.approx((460 - np.abs(inside - 20).sum()) / 20)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_ends_and_is_not_cut_after_480_hours(name):
    batch = make_vec(name, 2)
    batch.reset(seed=0)
    for hour in range(HOURS):
        _, _, terminated, truncated, infos = batch.step(np.zeros((2, 23), np.float32))
        assert terminated.all() == (hour == HOURS - 1)
        assert not truncated.any()
    assert infos["_final_obs"].all()
    assert (infos["final_obs"][:, :23] != 0.5).all()


def test_a_shorter_horizon_cuts_and_does_not_end():
    batch = make_vec("building-3d-v0", 1, horizon=24)
    batch.reset(seed=0)
    flags = [batch.step(IDLE)[2:4] for _ in range(24)]
    assert [bool(cut[0]) for _, cut in flags] == [False] * 23 + [True]
    assert not any(end[0] for end, _ in flags)


def test_episodes_begin_in_all_of_200_hours_and_prices_vary_around_the_hour_of_the_day():
    batch = make_vec("building-3d-v0", 2500)
    batch.reset(seed=0)
    assert set(batch._starts.tolist()) == set(range(1, LATEST_START + 1))
    hours = (batch._starts[:, None] + np.arange(HOURS)) % 24
    for drawn, table in ((batch._prices, PRICES), (batch._carbons, CARBON)):
        noise = drawn - np.array(table)[hours]
        assert abs(noise.mean()) < 5 * NOISE / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(NOISE, rel=0.01)
    share = (batch._prices < 0).mean()
    assert 0.05 < share < 0.065


def test_the_seed_decides_everything_and_the_next_episode_differs():
    batch = make_vec("building-3d-v0", 3)
    first = batch.reset(seed=11)[0]
    second = batch.reset()[0]
    np.testing.assert_array_equal(batch.reset(seed=11)[0], first)
    np.testing.assert_array_equal(batch.reset()[0], second)
    assert not np.array_equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) == 3


def test_a_partial_reset_leaves_the_other_buildings_alone():
    whole, part = make_vec("building-9d-v0", 2), make_vec("building-9d-v0", 2)
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 2, 23)).astype(np.float32)
    for batch in (whole, part):
        batch.reset(seed=0)
        rollout(batch, actions[:6])
    part.reset(options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(
        rollout(whole, actions[6:])[:, 0], rollout(part, actions[6:])[:, 0]
    )
    assert part._hours.tolist() == [12, 6]


@pytest.mark.parametrize("name", NAMES)
def test_one_building_behaves_as_a_batch_of_one(name):
    single, batch = gymnasium.make(name), make_vec(name, 1)
    assert single.unwrapped.reward_space == batch.reward_space
    rng = np.random.default_rng(1)
    first, _ = single.reset(seed=4)
    np.testing.assert_array_equal(first, batch.reset(seed=4)[0][0])
    for _ in range(2):
        for _ in range(HOURS):
            action = rng.uniform(-1, 1, 23).astype(np.float32)
            mine = single.step(action)
            theirs = batch.step(action[None])
            np.testing.assert_array_equal(mine[1], theirs[1][0])
            assert mine[2:4] == (theirs[2][0], theirs[3][0])
        np.testing.assert_array_equal(mine[0], theirs[4]["final_obs"][0])
        with pytest.raises(NotResetError, match=name):
            single.unwrapped.step(action)
        np.testing.assert_array_equal(single.reset()[0], theirs[0][0])
    single.close()


def test_what_cannot_be_made_says_so():
    with pytest.raises(EnvArgumentError, match="building-3d-v0 and building-9d-v0"):
        BuildingVectorEnv(1, env_id="building-4d-v0")
    with pytest.raises(EnvArgumentError, match=r"building-3d-v0.*num_envs"):
        make_vec("building-3d-v0", 0)
    with pytest.raises(EnvArgumentError, match=r"building-9d-v0.*zones"):
        make_vec("building-9d-v0", 1, zones=4)
    batch = make_vec("building-3d-v0", 1)
    batch.reset(seed=0)
    with pytest.raises(ActionError, match=r"building-3d-v0.*\(1, 23\)"):
        batch.step(np.zeros((1, 22), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_specs_tell_what_is_measured(name):
    spec = ENVS[name].spec_for()
    assert (spec.discount, spec.horizon) == (1.0, 480)
    assert spec.reference_point == (0.0,) * spec.num_objectives
    assert all(objective.unit and objective.description for objective in spec.objectives)


def january(name: str) -> BuildingVectorEnv:
    """One building for every hour in which an episode can begin, at mean prices."""
    batch = make_task(name).make_vec(LATEST_START)
    batch.reset(seed=0)
    batch._starts[:] = np.arange(1, LATEST_START + 1)
    for i, start in enumerate(batch._starts):
        batch._prices[i] = np.take(PRICES, np.arange(start, start + HOURS), mode="wrap")
    return batch


@pytest.mark.parametrize(
    ("name", "published", "hypervolume"),
    [
        ("building-3d-v0", (8056, 11040, 10994), 9.78e11),
        ("building-9d-v0", (3279, 2426, 2351, 4320, 3360, 3360, 4302, 3346, 3346), 4.39e31),
    ],
)
def test_doing_nothing_returns_what_is_known(name, published, hypervolume):
    # Known from ten episodes; of all that there are, the mean is a bit higher.
    idle = np.zeros((HOURS, LATEST_START, 23), np.float32)
    returns: NDArray[np.float64] = rollout(january(name), idle).sum(axis=0).mean(axis=0)
    np.testing.assert_allclose(returns, published, rtol=5e-3)
    anchor = ENVS[name].spec_for().anchors["do-nothing"]
    assert returns.prod() == pytest.approx(anchor, rel=2e-4)
    assert anchor == pytest.approx(hypervolume, rel=0.013)


def test_hours_are_recognised_by_their_weather():
    batch = january("building-3d-v0")
    for hour in range(3):
        observations = batch.step(np.zeros((LATEST_START, 23), np.float32))[0]
        alike = batch.model.hours_alike(observations)
        assert alike[np.arange(LATEST_START), batch._starts + hour].all()
        assert alike.sum(axis=1).mean() < 3
    observations[:, 23:26] = np.nan_to_num(observations[:, 23:26]) + 0.001
    assert batch.model.hours_alike(observations).any(axis=1).all()


def test_no_hour_is_beyond_the_reward_space():
    batch = january("building-9d-v0")
    space = batch.reward_space
    for power in (-1.0, 1.0):
        batch.reset(seed=0)
        actions = np.full((HOURS - 1, LATEST_START, 23), power, np.float32)
        rewards = rollout(batch, actions)
        assert (rewards >= space.low - 1e-9).all()
        assert (rewards <= space.high + 1e-9).all()
