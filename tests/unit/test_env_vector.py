"""The base class of batches, by an environment that can be computed by hand."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from morl.envs.vector import (
    ActionError,
    BatchedEnv,
    EnvArgumentError,
    NotResetError,
    RandomBlocks,
    SerialEnv,
)
from morl.types import MorlError, NonFiniteError


class Countdown(BatchedEnv):
    """Counts down from 3 by the action (0, 1 or 2); ends at 0 or below; pays (action, -1)."""

    def __init__(self, num_envs, **settings):
        super().__init__(
            num_envs,
            env_id="countdown-v0",
            observation_space=spaces.Box(-2, 3, (1,), np.int32),
            action_space=spaces.Discrete(3),
            reward_space=spaces.Box(-1, 2, (2,), np.float32),
            **settings,
        )

    def _advance(self, actions):
        self._observations[:, 0] -= actions
        self._rewards[:, 0] = actions
        self._rewards[:, 1] = -1.0
        self._terminated[:] = self._observations[:, 0] <= 0

    def _restart(self, indices):
        self._observations[indices] = 3


class Pusher(BatchedEnv):
    """Continuous actions, paid as they are."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            env_id="pusher-v0",
            observation_space=spaces.Box(0, 1, (1,), np.float32),
            action_space=spaces.Box(-1, 1, (2,), np.float32),
            reward_space=spaces.Box(-np.inf, np.inf, (2,), np.float32),
        )

    def _advance(self, actions):
        assert actions.dtype == np.float32
        self._rewards[:] = actions
        self._rewards[self._elapsed == 4] = np.nan

    def _restart(self, indices):
        self._observations[indices] = 0


def test_a_batch_steps_all_environments_and_pays_float64_vectors():
    batch = Countdown(2)
    observations, infos = batch.reset(seed=0)
    assert observations.tolist() == [[3], [3]]
    assert infos == {}
    observations, rewards, terminated, truncated, infos = batch.step(np.array([1, 2]))
    assert observations.tolist() == [[2], [1]]
    assert rewards.dtype == np.float64
    assert rewards.tolist() == [[1, -1], [2, -1]]
    assert terminated.tolist() == truncated.tolist() == [False, False]
    assert infos == {}
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_an_episode_that_ends_starts_anew_in_the_same_step():
    batch = Countdown(2)
    batch.reset(seed=0)
    batch.step(np.array([1, 2]))
    observations, _, terminated, truncated, infos = batch.step(np.array([1, 2]))
    assert observations.tolist() == [[1], [3]]
    assert terminated.tolist() == [False, True]
    assert truncated.tolist() == [False, False]
    assert infos["final_obs"][1].tolist() == [-1]
    assert infos["_final_obs"].tolist() == [False, True]
    assert batch.step(np.array([0, 1]))[0].tolist() == [[1], [2]]


def test_episodes_are_truncated_at_the_horizon_and_counted_from_their_own_start():
    batch = Countdown(2, max_episode_steps=3)
    batch.reset(seed=0)
    history = [batch.step(np.array([0, action]))[2:4] for action in (2, 2, 0, 0, 0)]
    assert [row[0].tolist() for row in history] == [
        [False, False],
        [False, True],
        [False, False],
        [False, False],
        [False, False],
    ]
    assert [row[1].tolist() for row in history] == [
        [False, False],
        [False, False],
        [True, False],
        [False, False],
        [False, True],
    ]


def test_an_episode_that_ends_at_the_horizon_is_both_terminated_and_truncated():
    batch = Countdown(1, max_episode_steps=2)
    batch.reset()
    batch.step([2])
    _, _, terminated, truncated, _ = batch.step([2])
    assert terminated.tolist() == truncated.tolist() == [True]


def test_returned_arrays_belong_to_the_caller_unless_asked_otherwise():
    batch = Countdown(1)
    first, _ = batch.reset(seed=0)
    batch.step([1])
    assert first.tolist() == [[3]]
    lent = Countdown(1, copy=False)
    first, _ = lent.reset(seed=0)
    lent.step([1])
    assert first.tolist() == [[2]]


def test_a_reset_mask_resets_a_part():
    batch = Countdown(3)
    batch.reset(seed=0)
    batch.step([1, 1, 1])
    observations, _ = batch.reset(options={"reset_mask": np.array([False, True, False])})
    assert observations.tolist() == [[2], [3], [2]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reset_mask": np.array([True])}, "2 booleans"),
        ({"reset_mask": np.array([0, 1])}, "2 booleans"),
        ({"reset_mask": np.array([False, False])}, "at least one"),
        ({"level": 3}, "level"),
    ],
)
def test_reset_options_that_do_not_fit_are_refused(options, words):
    batch = Countdown(2)
    batch.reset(seed=0)
    with pytest.raises(EnvArgumentError, match=words):
        batch.reset(options=options)


@pytest.mark.parametrize("seed", [[1], [1, 2, 3], [1, -2], -1])
def test_seeds_that_do_not_fit_are_refused(seed):
    with pytest.raises(EnvArgumentError, match="countdown-v0"):
        Countdown(2).reset(seed=seed)


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(NotResetError, match=r"countdown-v0.*reset\(\)"):
        Countdown(1).step([0])
    with pytest.raises(NotResetError, match="whole batch"):
        Countdown(2).reset(options={"reset_mask": np.array([True, False])})


def test_a_closed_batch_is_refused():
    batch = Countdown(1)
    batch.close()
    with pytest.raises(ClosedEnvironmentError, match="countdown-v0"):
        batch.reset()


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([1], "shape"),
        ([[1], [1]], "shape"),
        ([1.0, 1.0], "integer"),
        ([True, False], "integer"),
        ([0, 3], "action 3 for environment 1 is not in 0..2"),
        ([-1, 0], "action -1 for environment 0"),
    ],
)
def test_wrong_discrete_actions_are_refused_and_change_nothing(actions, words):
    batch = Countdown(2)
    batch.reset(seed=0)
    with pytest.raises(ActionError, match=words) as caught:
        batch.step(np.array(actions))
    assert "countdown-v0" in str(caught.value)
    assert batch.step([0, 0])[0].tolist() == [[3], [3]]


def test_wrong_continuous_actions_are_refused():
    batch = Pusher(2)
    batch.reset(seed=0)
    with pytest.raises(ActionError, match="shape"):
        batch.step(np.zeros(2))
    with pytest.raises(ActionError, match="float"):
        batch.step(np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(NonFiniteError, match=r"pusher-v0.*environment 1 at step 1"):
        batch.step(np.array([[0, 0], [0, np.inf]]))


def test_continuous_actions_are_not_clipped():
    batch = Pusher(1)
    batch.reset(seed=0)
    assert batch.step(np.array([[5.0, -7.0]]))[1].tolist() == [[5.0, -7.0]]


def test_a_reward_that_is_not_finite_names_environment_and_step():
    batch = Pusher(3)
    batch.reset(seed=0)
    for _ in range(2):
        batch.step(np.zeros((3, 2)))
    batch.reset(options={"reset_mask": np.array([True, False, True])})
    for _ in range(2):
        batch.step(np.zeros((3, 2)))
    with pytest.raises(NonFiniteError, match=r"pusher-v0.*environment 1 at step 5"):
        batch.step(np.zeros((3, 2)))


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "4"])
def test_a_batch_has_at_least_one_environment(count):
    with pytest.raises(EnvArgumentError, match=r"countdown-v0.*at least 1"):
        Countdown(count)


def test_a_horizon_is_positive():
    with pytest.raises(EnvArgumentError, match=r"countdown-v0.*positive"):
        Countdown(1, max_episode_steps=0)


@settings(max_examples=30, deadline=None)
@given(
    block=st.integers(1, 9),
    takes=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), max_size=30),
)
def test_blocks_give_each_environment_exactly_its_generators_sequence(block, takes):
    blocks = RandomBlocks(3, lambda rng, n: rng.standard_normal(n), per_step=2, block=block)
    blocks.reseed(np.arange(3), [5, 6, 7])
    read = [[], [], []]
    for counts in takes:
        blocks.fill()
        for i, count in enumerate(counts):
            read[i].extend(blocks.values[i, blocks.cursor[i] : blocks.cursor[i] + count])
            blocks.cursor[i] += count
    for i, values in enumerate(read):
        rng = np.random.default_rng(5 + i)
        assert values == [rng.standard_normal() for _ in values]


def test_reseeding_one_environment_leaves_the_others_alone():
    blocks = RandomBlocks(2, lambda rng, n: rng.random(n), per_step=1, block=4)
    blocks.reseed(np.arange(2), [0, 1])
    blocks.fill()
    before = blocks.values[1].copy()
    blocks.reseed(np.array([0]), [9])
    blocks.fill()
    assert blocks.values[1].tolist() == before.tolist()
    assert blocks.values[0, 0] == np.random.default_rng(9).random()


class Coins(gymnasium.Env):
    """Dict observation; flips a coin a step, ends with heads."""

    def __init__(self, reward_space=None, rewards=2):
        self.observation_space = spaces.Dict({"side": spaces.Discrete(2), "n": spaces.Discrete(3)})
        self.action_space = spaces.Discrete(2)
        if reward_space is not False:
            self.reward_space = spaces.Box(0, 1, (2,))
        self.rewards = rewards

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"side": 0, "n": 0}, {}

    def step(self, action):
        side = int(self.np_random.random() < 0.5)
        return {"side": side, "n": action}, np.ones(self.rewards), bool(side), False, {}


def test_dict_observations_become_one_flat_box():
    batch = SerialEnv(2, Coins, env_id="coins-v0", max_episode_steps=50)
    observations, _ = batch.reset(seed=0)
    assert observations.tolist() == [[1, 0, 0, 1, 0], [1, 0, 0, 1, 0]]
    assert batch.single_observation_space.shape == (5,)
    assert batch.step([1, 1])[1].tolist() == [[1, 1], [1, 1]]


def test_serial_environments_go_on_with_their_own_streams():
    many, one = (SerialEnv(n, Coins, env_id="coins-v0") for n in (3, 1))
    many.reset(seed=4)
    one.reset(seed=6)
    ends = [(many.step([0, 0, 0])[2][2], one.step([0])[2][0]) for _ in range(40)]
    assert [a for a, _ in ends] == [b for _, b in ends]
    assert 0 < sum(a for a, _ in ends) < 40


def test_an_environment_without_vector_rewards_is_refused_by_name():
    with pytest.raises(EnvArgumentError, match=r"coins-v0.*reward_space"):
        SerialEnv(1, lambda: Coins(reward_space=False), env_id="coins-v0")
    batch = SerialEnv(1, lambda: Coins(rewards=3), env_id="coins-v0")
    batch.reset(seed=0)
    with pytest.raises(EnvArgumentError, match=r"coins-v0.*2 objectives"):
        batch.step([0])


def test_a_constructor_that_fails_is_named():
    def broken():
        raise RuntimeError("no display")

    with pytest.raises(EnvArgumentError, match="coins-v0: cannot be made: no display"):
        SerialEnv(2, broken, env_id="coins-v0")


def test_errors_are_errors_of_the_suite():
    for error in (ActionError, EnvArgumentError, NotResetError):
        assert issubclass(error, MorlError)
