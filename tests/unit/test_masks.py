"""Masks of illegal actions: who says them, who gets them, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.learners.core.fixed_agent import ConstantPolicy
from morl.capabilities import Capabilities
from morl.envs.vector import EnvArgumentError, SerialEnv
from morl.evaluation import PolicyError, rollout
from morl.masks import MaskError, action_masks, masked, nearest_legal, takes_masks
from morl.registry import AGENTS, agents_for, require_support
from morl.testing import check_agent, check_env
from morl.types import NoLegalActionError, Solution, Task, UnsupportedTaskError
from tests.support.masked import SPEC, Stairs, stairs

ALL = np.ones(2, np.bool_)


class FirstLegal:
    """Takes the first legal action, and keeps the masks that it was shown."""

    deterministic = True

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def act(self, observations, *, rng, action_masks=None):
        self.seen.append(action_masks)
        return action_masks.argmax(axis=-1)


class LastLegal(FirstLegal):
    """Takes the last legal action."""

    def act(self, observations, *, rng, action_masks=None):
        super().act(observations, rng=rng, action_masks=action_masks)
        return action_masks.shape[-1] - 1 - action_masks[..., ::-1].argmax(axis=-1)


class Blind:
    """Knows nothing of masks."""

    deterministic = True

    def act(self, observations, *, rng):
        return np.zeros(len(observations), np.int64)


class Remembers(LastLegal):
    """The last legal action, with a memory that counts the steps."""

    def begin(self, num_envs):
        return {"age": np.zeros(num_envs, np.int64)}

    def act(self, observations, state, *, rng, action_masks=None):
        actions = LastLegal.act(self, observations, rng=rng, action_masks=action_masks)
        return actions, {"age": state["age"] + 1}

    def observe(self, state, rewards, ended):
        return {"age": np.where(ended, 0, state["age"])}


def test_masks_come_with_reset_and_step() -> None:
    batch = Stairs(2)
    _, infos = batch.reset(seed=0)
    assert infos["action_mask"].tolist() == [[True, True, False, False]] * 2
    infos = batch.step(np.array([0, 1]))[4]
    assert infos["action_mask"].tolist() == [[True, False, True, False], [True] * 4]


def test_after_an_episode_the_mask_is_of_the_new_one() -> None:
    batch = Stairs(1)
    batch.reset(seed=0)
    batch.step(np.array([1]))
    _, _, terminated, _, infos = batch.step(np.array([3]))
    assert terminated.all()
    assert infos["action_mask"].tolist() == [[True, True, False, False]]


def test_an_environment_without_masks_is_not_asked_for_them() -> None:
    spec = replace(SPEC, masks_actions=False)
    assert action_masks(spec, {"action_mask": "anything"}, running=ALL) is None


@pytest.mark.parametrize(
    ("infos", "words"),
    [
        ({}, "stairs-v0: its spec says masks_actions, but infos have no 'action_mask'"),
        ({"action_mask": np.ones((3, 4), bool)}, r"of 2 environments, got bool of shape \(3, 4\)"),
        ({"action_mask": np.ones((2, 4))}, "got float64"),
        ({"action_mask": np.ones(2, bool)}, r"shape \(2,\)"),
    ],
)
def test_wrong_masks_are_refused(infos: dict[str, Any], words: str) -> None:
    with pytest.raises(MaskError, match=words):
        action_masks(SPEC, infos, running=ALL)


def test_a_mask_that_forbids_everything_is_refused_with_its_place() -> None:
    infos = {"action_mask": np.array([[True, False], [False, False]])}
    with pytest.raises(NoLegalActionError, match=r"all 2 actions of environment 1; .* end the"):
        action_masks(SPEC, infos, running=ALL)


def test_an_episode_that_is_over_may_forbid_everything() -> None:
    given = np.array([[True, False], [False, False]])
    found = action_masks(SPEC, {"action_mask": given}, running=np.array([True, False]))
    assert found is not None
    assert found.tolist() == [[True, False], [True, True]]
    assert given.tolist() == [[True, False], [False, False]]


def test_scores_and_actions_under_masks() -> None:
    masks = np.array([[False, True, True], [True, False, False]])
    scores = np.array([[5.0, 1.0, 2.0], [0.0, 9.0, 9.0]])
    assert masked(scores, masks).argmax(axis=1).tolist() == [2, 0]
    assert masked(scores, None) is scores
    assert nearest_legal(masks, np.array([0, 2])).tolist() == [1, 0]
    assert nearest_legal(masks, np.array([2, 0])).tolist() == [2, 0]


def test_a_policy_says_by_its_signature_that_it_takes_masks() -> None:
    assert takes_masks(FirstLegal())
    assert takes_masks(Remembers())
    assert not takes_masks(Blind())
    assert not takes_masks(object())


@pytest.mark.parametrize("kind", [LastLegal, Remembers])
def test_the_evaluation_passes_masks(kind: Any) -> None:
    """Two up, then the gold: on place 2 the last legal action is to take it."""
    episodes = rollout(stairs(), [Solution(kind()), Solution(kind())], seeds=[1, 2, 3])
    np.testing.assert_array_equal(episodes.undiscounted, np.broadcast_to([2.0, -2.0], (2, 3, 2)))


def test_masks_of_the_evaluation_have_one_row_for_each_episode() -> None:
    policy = LastLegal()
    rollout(stairs(), [Solution(policy)], seeds=[1, 2, 3])
    assert [mask.shape for mask in policy.seen] == [(3, 4), (3, 4)]


def test_a_policy_that_knows_no_masks_is_refused_by_the_evaluation() -> None:
    with pytest.raises(PolicyError, match=r"stairs-v0: .* a Blind has no keyword action_masks"):
        rollout(stairs(), [Solution(Blind())], seeds=[1])


def test_the_environment_keeps_the_contract() -> None:
    report = check_env(stairs(), steps=60)
    report.raise_for_failures()
    check = next(one for one in report.checks if one.name == "masks of illegal actions")
    assert check.passed


def test_an_environment_that_promises_masks_and_gives_none_breaks_the_contract() -> None:
    class Silent(Stairs):
        def _action_masks(self) -> Any:
            return None

    failures = check_env(Task(spec=SPEC, factory=Silent), steps=20).failures
    assert any("infos have no 'action_mask'" in check.message for check in failures)


def test_an_agent_that_does_not_respect_masks_is_refused_by_name() -> None:
    assert "masks" in (Capabilities().refusal(stairs()) or "")
    assert Capabilities(masks=True).refusal(stairs()) is None
    with pytest.raises(UnsupportedTaskError, match=r"stairs-v0: agent c_morl .* random_search"):
        require_support("c_morl", stairs())


MASKING = [
    name
    for name, entry in AGENTS.items()
    if entry.capabilities is not None and entry.capabilities.masks
]


def test_some_agents_respect_masks() -> None:
    assert set(agents_for(stairs())) == set(MASKING)
    assert "random_search" in MASKING


@pytest.mark.parametrize("name", MASKING)
def test_agents_that_respect_masks_take_legal_actions_alone(name: str) -> None:
    """The environment refuses an illegal action, in training and in the evaluation."""
    entry = AGENTS[name]
    assert entry.capabilities is not None
    config = replace(entry.config(), **entry.capabilities.smoke)
    check_agent(entry.make, config, stairs(), total_steps=2000).raise_for_failures()
    agent = entry.make(stairs(), config, total_steps=2000, seed=3)
    agent.learn(2000)
    assert rollout(stairs(), agent.solutions(), seeds=[1, 2]).lengths.max() <= 20


class Single(gymnasium.Env[Any, int]):
    """An ordinary environment; its info says which of two actions is legal."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    reward_space = spaces.Box(0.0, 1.0, (2,))
    length = 2

    def __init__(self) -> None:
        self.age = 0

    def legal(self) -> Any:
        return np.arange(self.length) == self.age % 2

    def reset(self, **_: Any) -> Any:
        self.age = 0
        return np.zeros(1, np.float32), {"action_mask": self.legal()}

    def step(self, action: int) -> Any:
        self.age += 1
        reward = np.array([float(action), 0.0])
        return np.zeros(1, np.float32), reward, self.age == 3, False, {"action_mask": self.legal()}


class Method(Single):
    """Says it by sb3-contrib's method instead."""

    def action_masks(self) -> Any:
        return self.legal()

    def reset(self, **_: Any) -> Any:
        return super().reset()[0], {}

    def step(self, action: int) -> Any:
        return (*super().step(action)[:4], {})


class Outside(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that knows what is legal, as sb3-contrib's ActionMasker."""

    def action_masks(self) -> Any:
        return np.array([True, False])


@pytest.mark.parametrize("kind", [Single, Method])
def test_single_environments_say_what_is_legal_in_either_way(kind: Any) -> None:
    batch = SerialEnv(2, kind, env_id="single-v0")
    assert batch.reset(seed=0)[1]["action_mask"].tolist() == [[True, False]] * 2
    masks = [batch.step(np.array([0, 0]))[4]["action_mask"][0].tolist() for _ in range(3)]
    assert masks == [[False, True], [True, False], [True, False]]  # the last is of a new episode


def test_a_wrapper_may_say_what_is_legal() -> None:
    class Plain(Method):
        action_masks = None

    batch = SerialEnv(1, lambda: Outside(Plain()), env_id="single-v0")
    assert batch.reset(seed=0)[1]["action_mask"].tolist() == [[True, False]]


def test_a_mask_of_the_wrong_length_is_refused() -> None:
    class Longer(Single):
        length = 3

    with pytest.raises(EnvArgumentError, match=r"single-v0: an action mask must .* shape \(3,\)"):
        SerialEnv(1, Longer, env_id="single-v0").reset(seed=0)


def test_doing_nothing_does_the_next_best_thing_where_it_is_illegal() -> None:
    policy = ConstantPolicy(np.array(3))
    masks = np.array([[True, True, False, True], [False, True, True, False]])
    rng = np.random.default_rng(0)
    assert policy.act(np.zeros((2, 1)), rng=rng, action_masks=masks).tolist() == [3, 1]
    assert policy.act(np.zeros((2, 1)), rng=rng).tolist() == [3, 3]
