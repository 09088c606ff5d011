"""The MuJoCo batches against MO-Gymnasium, bit for bit, and what they add to it."""

import subprocess
import sys
from math import inf, nan, nextafter

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("mujoco")

from morl.envs import ActionError, EnvArgumentError, make_task, make_vec, mujoco
from morl.envs import mujoco_kernels as kernels
from morl.envs.mujoco import MujocoVectorEnv, StartStates
from morl.envs.mujoco_recipes import RECIPES
from morl.types import NonFiniteError

# Gymnasium advises against v4 ids, which published figures use.
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date.*:DeprecationWarning")

PUBLISHED = ("mo-hopper-2d-v4", "mo-ant-v4")
"""Ids that published figures were taken on: compared for longer."""


def bits(array):
    """Bit patterns, under which 0.0 and -0.0 differ and equal NaNs agree."""
    return np.ascontiguousarray(array, np.float64).view(np.int64)


def assert_same_bits(ours, theirs, what):
    differing = np.argwhere(bits(ours) != bits(theirs))
    assert differing.size == 0, f"{what} differ at {differing[:5].tolist()}"


def random_actions(space, num_envs, rng, scale=1.0):
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(0, space.n, num_envs)
    actions = scale * rng.uniform(space.low, space.high, (num_envs, *space.shape))
    actions[rng.random(num_envs) < 0.2] = 0.0  # whose cost is -0.0
    return actions.astype(np.float32)


def step_theirs(env, action):
    """One step of the incumbent with same-step autoreset; its reward is single precision."""
    final, reward, terminated, truncated, _ = env.step(action)
    assert reward.dtype == np.float32
    observation = env.reset()[0] if terminated or truncated else final
    return observation, reward, terminated, truncated, final


def compare(env_id, *, steps, num_envs=3, horizon=None, scale=1.0, **kwargs):
    """Step both under the same actions; returns the number of episodes that ended."""
    batch = MujocoVectorEnv(num_envs, env_id=env_id, max_episode_steps=horizon, **kwargs)
    envs = [
        gymnasium.make(env_id, disable_env_checker=True, max_episode_steps=horizon, **kwargs)
        for _ in range(num_envs)
    ]
    theirs = np.stack([env.reset(seed=17 + i)[0] for i, env in enumerate(envs)])
    assert_same_bits(batch.reset(seed=17)[0], theirs, "first observations")
    rng = np.random.default_rng(5)
    ended = 0
    for step in range(steps):
        actions = random_actions(batch.single_action_space, num_envs, rng, scale)
        observations, rewards, terminated, truncated, infos = batch.step(actions)
        rows = [step_theirs(env, action) for env, action in zip(envs, actions, strict=True)]
        expected = [np.stack(column) for column in zip(*rows, strict=True)]
        assert_same_bits(observations, expected[0], f"observations of step {step}")
        assert_same_bits(rewards, expected[1], f"rewards of step {step}")
        assert terminated.tolist() == expected[2].tolist()
        assert truncated.tolist() == expected[3].tolist()
        done = terminated | truncated
        if done.any():
            assert infos["_final_obs"].tolist() == done.tolist()
            assert_same_bits(infos["final_obs"][done], expected[4][done], f"ends of step {step}")
        ended += int(done.sum())
    batch.close()
    return ended


@pytest.mark.parametrize("env_id", sorted(RECIPES))
def test_a_batch_equals_mo_gymnasium_bit_for_bit(env_id):
    # More than eight episodes an environment: start states are drawn ahead in eights.
    ended = compare(env_id, steps=1000 if env_id in PUBLISHED else 250, horizon=25, scale=1.2)
    assert ended >= 3 * 10


@pytest.mark.slow
@pytest.mark.parametrize("env_id", sorted(RECIPES))
def test_long_episodes_equal_mo_gymnasium_bit_for_bit(env_id):
    compare(env_id, steps=2500, num_envs=4)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("mo-hopper-v4", {"healthy_reward": 0.1, "terminate_when_unhealthy": False}),
        ("mo-hopper-2obj-v5", {"healthy_reward": 0.1, "ctrl_cost_weight": 0.3, "frame_skip": 2}),
        ("mo-hopper-2d-v4", {"exclude_current_positions_from_observation": False}),
        ("mo-halfcheetah-v4", {"forward_reward_weight": 0.7, "ctrl_cost_weight": 0.3}),
        ("mo-walker2d-v5", {"healthy_reward": 0.1, "ctrl_cost_weight": 0.3}),
        ("mo-swimmer-v5", {"ctrl_cost_weight": 0.3}),
        ("mo-ant-v4", {"use_contact_forces": True}),
        ("mo-ant-2d-v4", {"use_contact_forces": True, "healthy_reward": 0.1}),
        ("mo-ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.1}),
        ("mo-ant-v5", {"main_body": "torso", "cost_objective": False, "healthy_reward": 0.1}),
        ("mo-humanoid-v5", {"include_cvel_in_observation": False, "contact_cost_weight": 0.1}),
    ],
)
def test_arguments_of_mo_gymnasium_mean_the_same(env_id, kwargs):
    compare(env_id, steps=100, horizon=40, **kwargs)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("mo-hopper-v4", {"reset_noise_scale": 1e11}),  # beyond what MuJoCo takes as a position
        ("mo-halfcheetah-v5", {"reset_noise_scale": 5e4}),  # infinite accelerations
    ],
)
def test_a_simulation_that_diverges_does_so_as_in_mo_gymnasium(
    env_id, kwargs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the working folder
    compare(env_id, steps=60, horizon=20, **kwargs)
    assert "simulation is unstable" in (tmp_path / "MUJOCO_LOG.TXT").read_text()


def test_make_task_builds_the_compiled_batch_with_its_horizon():
    batch = make_task("mo-hopper-2d-v4", horizon=7).make_vec(2)
    assert isinstance(batch, MujocoVectorEnv)
    batch.reset(seed=0)
    lengths = []
    for step in range(1, 15):
        *_, truncated, infos = batch.step(np.zeros((2, 3), np.float32))
        assert ("final_obs" in infos) == bool(truncated.any())
        if truncated.all():
            lengths.append(step)
    assert lengths == [7, 14]


def test_a_vector_entry_point_serves_gymnasium_itself():
    make_task("mo-swimmer-v5")
    batch = gymnasium.make_vec("mo-swimmer-v5", 2, vectorization_mode="vector_entry_point")
    assert isinstance(batch.unwrapped, MujocoVectorEnv)
    assert batch.reset(seed=1)[0].shape == (2, 8)


def test_what_an_environment_does_depends_on_its_seed_alone():
    wide, narrow = (MujocoVectorEnv(count, env_id="mo-walker2d-v5") for count in (5, 1))
    wide.reset(seed=[9, 8, 7, 6, 5])
    narrow.reset(seed=7)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(120):
        actions = random_actions(wide.single_action_space, 5, rng)
        ours = wide.step(actions)
        alone = narrow.step(actions[2:3])
        for ours_part, alone_part in zip(ours[:4], alone[:4], strict=True):
            assert ours_part[2].tolist() == alone_part[0].tolist()
        ended += int(ours[2][2])
    assert ended > 1


def test_a_reset_without_a_seed_goes_on_with_the_stream():
    batch = MujocoVectorEnv(2, env_id="mo-halfcheetah-v5")
    env = gymnasium.make("mo-halfcheetah-v5", disable_env_checker=True)
    batch.reset(seed=4)
    env.reset(seed=4)
    for _ in range(20):
        assert_same_bits(batch.reset()[0][0], env.reset()[0], "observations")


def test_a_partial_reset_leaves_the_others_alone():
    batch = MujocoVectorEnv(3, env_id="mo-swimmer-v4")
    batch.reset(seed=0)
    before = batch.step(np.ones((3, 2), np.float32))[0]
    after, _ = batch.reset(options={"reset_mask": np.array([False, True, False])})
    assert_same_bits(after[[0, 2]], before[[0, 2]], "rows that were not reset")
    assert (after[1] != before[1]).all()


def test_start_states_are_what_the_generator_gives_one_by_one():
    def draw(rng, count):
        return rng.uniform(-1.0, 1.0, (count, 3))

    starts = StartStates(2, draw, 3)
    indices = np.array([0, 1])
    starts.reseed(indices, [11, 12])
    rng = np.random.default_rng(12)
    for _ in range(30):
        starts.fill(indices)
        assert starts.states[1, starts.cursors[1]].tolist() == rng.uniform(-1, 1, 3).tolist()
        starts.cursors[1] += 1
    assert starts.cursors[0] == 0


def test_inactive_environments_stand_still_and_return_zeros():
    masked, plain = (
        MujocoVectorEnv(4, env_id="mo-hopper-v5", max_episode_steps=30) for _ in range(2)
    )
    masked.reset(seed=3)
    plain.reset(seed=3)
    active = np.array([True, False, True, False])
    masked.set_active(active)
    rng = np.random.default_rng(1)
    for _ in range(70):
        actions = random_actions(plain.single_action_space, 4, rng)
        ours = masked.step(actions)
        theirs = plain.step(actions)
        for ours_part, plain_part in zip(ours[:4], theirs[:4], strict=True):
            assert ours_part[active].tolist() == plain_part[active].tolist()
            assert not ours_part[~active].any()


def test_an_environment_that_paused_goes_on_where_it_stood():
    paused, plain = (
        MujocoVectorEnv(1, env_id="mo-halfcheetah-v4", max_episode_steps=5) for _ in range(2)
    )
    paused.reset(seed=0)
    plain.reset(seed=0)
    actions = np.full((1, 6), 0.3, np.float32)
    for step in range(1, 6):
        if step == 3:
            paused.set_active(np.array([False]))
            for _ in range(8):
                assert not paused.step(actions)[3].any()
            paused.set_active(np.array([True]))
        ours, theirs = paused.step(actions), plain.step(actions)
        assert_same_bits(ours[0], theirs[0], "observations")
        assert ours[3].tolist() == theirs[3].tolist() == [step == 5]


def test_a_reset_makes_environments_active_again():
    batch = MujocoVectorEnv(3, env_id="mo-swimmer-v5")
    batch.reset(seed=0)
    batch.set_active(np.array([False, False, True]))
    batch.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    observations = batch.step(np.ones((3, 2), np.float32))[0]
    assert observations.any(axis=1).tolist() == [True, False, True]
    batch.reset(seed=0)
    assert batch.step(np.ones((3, 2), np.float32))[0].any(axis=1).all()


@pytest.mark.parametrize("mask", [np.ones(2, np.bool_), np.ones(3), np.ones((3, 1), np.bool_)])
def test_an_unfit_mask_is_refused(mask):
    batch = MujocoVectorEnv(3, env_id="mo-swimmer-v5")
    with pytest.raises(EnvArgumentError, match=r"mo-swimmer-v5.*3 booleans"):
        batch.set_active(mask)


def test_threads_change_nothing_but_time(monkeypatch):
    monkeypatch.setattr(mujoco, "WORTH_THREADS", 0.0)
    shared, serial = (
        MujocoVectorEnv(7, env_id="mo-ant-v5", num_threads=threads) for threads in (3, 1)
    )
    shared.reset(seed=2)
    serial.reset(seed=2)
    rng = np.random.default_rng(2)
    for step in range(60):
        if step == 40:
            active = np.array([True, False, True, False, False, False, False])
            shared.set_active(active)
            serial.set_active(active)
        actions = random_actions(serial.single_action_space, 7, rng)
        for ours, theirs in zip(shared.step(actions)[:4], serial.step(actions)[:4], strict=True):
            assert ours.tobytes() == theirs.tobytes()
    assert shared._threads is not None
    shared.close()


def test_a_cheap_step_is_not_shared_among_threads(monkeypatch):
    monkeypatch.setattr(mujoco, "WORTH_THREADS", inf)
    batch = MujocoVectorEnv(4, env_id="mo-swimmer-v5", num_threads=2)
    batch.reset(seed=0)
    for _ in range(10):
        batch.step(np.zeros((4, 2), np.float32))
    assert batch._threads is None


def test_returned_arrays_belong_to_the_caller():
    batch = MujocoVectorEnv(2, env_id="mo-hopper-2d-v4", max_episode_steps=2)
    reset, _ = batch.reset(seed=0)
    actions = np.full((2, 3), 0.5, np.float32)
    batch.step(actions)
    *arrays_, infos = batch.step(actions)
    kept = [reset, *arrays_, infos["final_obs"]]
    copies = [array.copy() for array in kept]
    for _ in range(4):
        batch.step(-actions)
    batch.close()
    for array, copy in zip(kept, copies, strict=True):
        assert array.tolist() == copy.tolist()


def test_spaces_are_those_of_mo_gymnasium_and_rewards_are_double_precision():
    batch = MujocoVectorEnv(2, env_id="mo-hopper-2d-v4")
    env = gymnasium.make("mo-hopper-2d-v4", disable_env_checker=True)
    batch.reset(seed=0)
    rewards = batch.step(batch.action_space.sample())[1]
    assert batch.single_observation_space == env.observation_space
    assert batch.single_action_space == env.action_space
    assert batch.reward_space == env.unwrapped.reward_space
    assert rewards.dtype == np.float64
    assert rewards.shape == (2, 2)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_an_action_that_is_not_finite_is_named(bad):
    batch = MujocoVectorEnv(3, env_id="mo-hopper-2d-v4")
    batch.reset(seed=0)
    batch.step(np.zeros((3, 3), np.float32))
    actions = np.zeros((3, 3), np.float32)
    actions[2, 1] = bad
    with pytest.raises(NonFiniteError, match=r"mo-hopper-2d-v4.*environment 2 at step 2"):
        batch.step(actions)


def test_actions_of_the_wrong_kind_are_refused():
    hopper = MujocoVectorEnv(2, env_id="mo-hopper-2d-v4")
    hopper.reset(seed=0)
    with pytest.raises(ActionError, match=r"\(2, 3\)"):
        hopper.step(np.zeros((2, 4), np.float32))
    with pytest.raises(ActionError, match="float"):
        hopper.step(np.zeros((2, 3), np.complex64))
    reacher = MujocoVectorEnv(2, env_id="mo-reacher-v5")
    reacher.reset(seed=0)
    with pytest.raises(ActionError, match="environment 1"):
        reacher.step(np.array([8, 9]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0, "env_id": "mo-hopper-v5"}, "num_envs"),
        ({"num_envs": 1, "env_id": "mo-pusher-v5"}, "no batch of 'mo-pusher-v5'"),
        ({"num_envs": 1, "env_id": "mo-hopper-v5", "num_threads": 0}, "num_threads"),
        ({"num_envs": 1, "env_id": "mo-hopper-v5", "wings": 2}, "wings"),
        ({"num_envs": 1, "env_id": "mo-hopper-v5", "xml_file": "/none.xml"}, "none.xml"),
    ],
)
def test_unusable_arguments_are_named(arguments, message):
    with pytest.raises(EnvArgumentError, match=message):
        MujocoVectorEnv(**arguments)


def test_a_closed_batch_refuses_to_step():
    batch = make_vec("mo-swimmer-v5", 2)
    batch.reset(seed=0)
    batch.close()
    with pytest.raises(ClosedEnvironmentError):
        batch.step(np.zeros((2, 2), np.float32))
    batch.close()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: arrays(
            dtype,
            st.integers(1, 128),
            elements=st.floats(-100, 100, width=32),
        )
    )
)
def test_squares_are_summed_in_the_order_of_numpy(values):
    ours = kernels._sum_of_squares(values, values.dtype.type(-50), values.dtype.type(20))
    assert ours == np.sum(np.square(np.clip(values, -50, 20)))


def test_healthy_bounds_are_open_and_nan_breaks_them():
    positions = np.array([0.0, 0.5])
    velocities = np.array([0.0])
    addresses = np.zeros(kernels.RUNS, np.int64)
    addresses[kernels.POSITIONS] = positions.ctypes.data
    addresses[kernels.VELOCITIES] = velocities.ctypes.data
    physics = kernels.Physics(0, 0, 0, 0, 0, 1, num_positions=2, num_velocities=1, num_controls=0)
    health = kernels.Health(np.array([1, 2]), np.array([[0.2, 1.0], [-inf, inf]]), True)

    def healthy(height, speed):
        positions[1] = height
        velocities[0] = speed
        return kernels._is_healthy(health, physics, addresses)

    assert healthy(nextafter(0.2, 1.0), 0.0)
    assert not healthy(0.2, 0.0)
    assert not healthy(1.0, 0.0)
    assert not healthy(0.5, inf)
    assert not healthy(nan, 0.0)
    assert not healthy(0.5, nan)


def test_the_ant_is_healthy_at_both_ends_of_its_interval():
    reference = gymnasium.make("mo-ant-v5", disable_env_checker=True).unwrapped
    bound = RECIPES["mo-ant-v5"](reference).bounds[0]
    assert bound.low < 0.2 < bound.high
    assert bound.low < 1.0 < bound.high
    assert not bound.low < nextafter(0.2, 0.0) < bound.high
    assert not bound.low < nextafter(1.0, 2.0) < bound.high


def test_a_second_process_compiles_nothing():
    script = (
        "import numpy as np\n"
        "from morl.envs.mujoco import MujocoVectorEnv\n"
        "from morl.envs import mujoco_kernels as kernels\n"
        "batch = MujocoVectorEnv(1, env_id='mo-swimmer-v5')\n"
        "batch.reset(seed=0)\n"
        "batch.step(np.zeros((1, 2), np.float32))\n"
        "print([sum(k.stats.cache_misses.values()) for k in (kernels.step, kernels.restart)])\n"
    )
    MujocoVectorEnv(1, env_id="mo-swimmer-v5").reset(seed=0)
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 0]"


def test_bare_physics_is_measured_on_the_states_of_a_batch(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(mujoco.time, "process_time", lambda: float(next(clock)))
    rate = mujoco.bare_mj_step_rate("mo-reacher-v5", num_envs=3, steps=10)
    assert rate == (3.0, 3.0)  # a tick a vector step of three environments
