"""Our environments in the hands of Stable-Baselines3's users."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_checker import check_env

from morl.envs import make_task, make_vec
from morl.envs.sb3 import scalarised_env, scalarised_vec_env
from morl.preferences import WeightError
from morl.registry import UnknownNameError

DST = "deep-sea-treasure-v0"
BOX = "mo-mountaincarcontinuous-v0"


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [(DST, {}), ("fruit-tree-v0", {}), ("minecart-v0", {}), (BOX, {}), ("hypergrid-v0", {})],
)
def test_the_environment_checker_finds_nothing_to_complain_about(
    env: str, kwargs: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(scalarised_env(env, horizon=30, **kwargs), skip_render_check=True)


@pytest.mark.parametrize(
    ("algorithm", "env", "settings"),
    [
        (PPO, DST, {"n_steps": 16, "batch_size": 32}),
        (DQN, DST, {"learning_starts": 20}),
        (SAC, BOX, {"learning_starts": 20}),
    ],
)
def test_algorithms_learn_on_a_batch(algorithm: Any, env: str, settings: dict[str, Any]) -> None:
    batch = scalarised_vec_env(env, num_envs=4, horizon=20)
    model = algorithm("MlpPolicy", batch, device="cpu", seed=1, **settings)
    before = [tensor.clone() for tensor in model.policy.parameters()]
    model.learn(200)
    after = list(model.policy.parameters())
    assert any((old != new).any() for old, new in zip(before, after, strict=True))
    batch.close()


def test_rewards_are_weighted_sums_and_infos_keep_the_vectors() -> None:
    batch = scalarised_vec_env(DST, [0.5, 2.0], num_envs=2)
    batch.seed(0)
    batch.reset()
    _, rewards, _, infos = batch.step(np.array([1, 0]))  # down to the nearest treasure; up
    assert infos[0]["vector_reward"].tolist() == pytest.approx([0.7, -1.0])
    assert infos[1]["vector_reward"].tolist() == [0.0, -1.0]
    assert rewards.tolist() == pytest.approx([0.5 * 0.7 - 2.0, -2.0])
    assert rewards.dtype == np.float32
    batch.set_attr("weights", [1.0, 0.0])
    _, rewards, _, _ = batch.step(np.array([1, 0]))
    assert rewards.tolist() == pytest.approx([0.7, 0.0])


def test_ends_carry_the_last_observation_and_say_what_cut_them_off() -> None:
    batch = scalarised_vec_env(DST, num_envs=2, horizon=3)
    batch.reset()
    for time in range(3):
        observations, _, dones, infos = batch.step(np.array([1, 0]))
        assert dones.tolist() == [True, time == 2]
        # The first dives to the treasure at (1, 0) in every step and begins anew at (0, 0).
        assert infos[0]["terminal_observation"].tolist() == [1, 0]
        assert infos[0]["TimeLimit.truncated"] is False
        assert observations[0].tolist() == [0, 0]
    assert infos[1]["TimeLimit.truncated"] is True
    assert infos[1]["terminal_observation"].tolist() == [0, 0]
    assert batch.longest_episode == 3


def test_seeds_begin_the_same_episodes_as_those_of_the_batch_itself() -> None:
    batch = scalarised_vec_env("minecart-v0", num_envs=3)
    batch.seed(11)
    first = batch.reset()
    own, _ = make_vec("minecart-v0", 3).reset(seed=11)
    np.testing.assert_array_equal(first, own)
    batch.seed_each([13, 12, 11])
    np.testing.assert_array_equal(batch.reset()[2], own[0])


def test_flat_observations_are_unbounded_float32_vectors() -> None:
    from morl.scalarised import ScalarisedVecEnv

    batch = ScalarisedVecEnv(make_task(DST), 2, flatten=True)
    assert batch.observation_space.shape == (2,)
    assert batch.reset().dtype == np.float32
    assert not batch.observation_space.is_bounded()


def test_legal_actions_are_told_as_sb3_contrib_asks_for_them() -> None:
    batch = scalarised_vec_env("hypergrid-v0", num_envs=2)
    batch.reset()
    masks = batch.env_method("action_masks")
    _, infos = make_vec("hypergrid-v0", 2).reset()
    np.testing.assert_array_equal(np.stack(masks), infos["action_mask"])
    assert batch.has_attr("action_masks")
    plain = scalarised_vec_env(DST, num_envs=2)
    plain.reset()
    assert not plain.has_attr("action_masks")
    assert plain.get_attr("num_envs") == [2, 2]
    assert plain.env_is_wrapped(type(plain)) == [False, False]


def test_what_a_batch_cannot_do_is_said() -> None:
    batch = scalarised_vec_env(DST, num_envs=2)
    with pytest.raises(AttributeError, match="no method 'fly'"):
        batch.env_method("fly")
    with pytest.raises(AttributeError, match="only the weights can be set"):
        batch.set_attr("horizon", 3)
    with pytest.raises(AttributeError, match="for all environments"):
        batch.set_attr("weights", [1, 0], indices=0)


@pytest.mark.parametrize("make", [scalarised_env, scalarised_vec_env])
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], r"deep-sea-treasure-v0: weights of shape \(1,\) for 2 objectives \(treasure"),
        ([1.0, np.nan], "must be finite"),
        (["a", "b"], "are no numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(make: Any, weights: Any, words: str) -> None:
    with pytest.raises(WeightError, match=words):
        make(DST, weights)
    with pytest.raises(UnknownNameError, match="did you mean"):
        make("deep-sea-treasure", [1, 0])


def test_one_environment_ends_episodes_itself_and_keeps_the_vector() -> None:
    env = scalarised_env(DST, [1.0, 1.0])
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(1)
    assert observation.tolist() == [1, 0]
    assert (reward, terminated, truncated) == (pytest.approx(-0.3), True, False)
    assert info["vector_reward"].tolist() == pytest.approx([0.7, -1.0])
    env.close()


def test_stable_baselines3_is_not_loaded_before_it_is_used() -> None:
    code = (
        "import sys, morl; list(morl.ENVS), list(morl.AGENTS)\n"
        "from morl.envs.sb3 import scalarised_env\n"
        "scalarised_env('deep-sea-treasure-v0')\n"
        "print('stable_baselines3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
