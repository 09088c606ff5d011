"""check_env finds what breaks the contract, and says so in words."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from morl.envs import make_task
from morl.envs.vector import BatchedEnv
from morl.testing import Check, ContractError, Report, check_env, sample_actions
from morl.types import EnvSpec, KnownFront, MorlError, Objective, Task

SPEC = EnvSpec(
    id="walk-v0",
    objectives=(Objective("left"), Objective("right")),
    reference_point=(-1.0, -1.0),
    horizon=6,
)


class Walk(BatchedEnv):
    """A random walk: each step one of the two objectives is paid; ends 3 steps from the start."""

    def __init__(self, num_envs, max_episode_steps=6, copy=True):
        super().__init__(
            num_envs,
            env_id="walk-v0",
            observation_space=spaces.Box(-3, 3, (1,), np.float64),
            action_space=spaces.Discrete(2),
            reward_space=spaces.Box(0, 1, (2,), np.float64),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self.generators = [np.random.default_rng(0)] * num_envs

    def _reseed(self, indices, seeds):
        for i, seed in zip(indices, seeds, strict=True):
            self.generators[i] = np.random.default_rng(seed)

    def draw(self, i):
        return self.generators[i].random()

    def _advance(self, actions):
        for i, action in enumerate(actions):
            right = (self.draw(i) < 0.7) == action
            self._observations[i] += 1 if right else -1
            self._rewards[i] = [not right, right]
            self._terminated[i] = abs(self._observations[i, 0]) == 3

    def _restart(self, indices):
        self._observations[indices] = 0


def report_of(factory, spec=SPEC, **settings):
    return check_env(Task(spec=spec, factory=factory), steps=60, **settings)


def failures(factory, spec=SPEC):
    return {check.name: check.message for check in report_of(factory, spec).failures}


def test_a_sound_environment_passes_every_check():
    report = report_of(Walk)
    report.raise_for_failures()
    assert report.passed
    found = {check.name: check for check in report.checks}
    assert found["seeds"].message == "make a difference"
    assert found["episodes are cut at the horizon"].passed
    assert found["known front"].passed is None
    assert report.steps_per_second > 0


def test_the_report_reads_as_a_verdict():
    text = str(report_of(Walk))
    assert "ok    spaces" in text
    assert "skip  known front" in text
    assert text.splitlines()[-1].startswith("walk-v0: keeps its contract; ")


def test_failures_are_raised_with_the_subject_and_every_reason():
    report = Report("e-v0", (Check("a", True), Check("b", False, "x"), Check("c", False, "y")), 1.0)
    with pytest.raises(ContractError, match=r"e-v0 breaks its contract:\n  b: x\n  c: y"):
        report.raise_for_failures()
    assert "FAIL  b  x" in str(report)
    assert str(report).endswith("e-v0: 2 checks failed; 1 steps/s")


def test_seeds_of_deterministic_dynamics_make_no_difference():
    report = check_env("deep-sea-treasure-v0", steps=30)
    found = {check.name: check for check in report.checks}
    assert found["seeds"].message.startswith("make no difference")
    assert found["known front"].message == "10 points, exact"


class ScalarRewards(Walk):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards.sum(axis=1), *rest


class SinglePrecision(Walk):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards.astype(np.float32), *rest


class Unpredictable(Walk):
    chance = np.random.default_rng()

    def draw(self, i):
        return self.chance.random()


class OneStreamForAll(Walk):
    def draw(self, i):
        return self.generators[0].random()


class DrawsFromPython(Walk):
    def _restart(self, indices):
        random.random()
        super()._restart(indices)


class DrawsFromNumPy(Walk):
    def _restart(self, indices):
        np.random.random()  # noqa: NPY002
        super()._restart(indices)


class ForgetsFinals(Walk):
    def step(self, actions):
        *rest, _ = super().step(actions)
        return *rest, {}


class NextStep(Walk):
    def __init__(self, num_envs):
        super().__init__(num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}


class NeverCuts(Walk):
    def __init__(self, num_envs):
        super().__init__(num_envs, max_episode_steps=None)

    def _advance(self, actions):
        super()._advance(actions)
        self._terminated[:] = False
        self._observations %= 2


class CutsEarly(Walk):
    def __init__(self, num_envs):
        super().__init__(num_envs, max_episode_steps=4)


class LendsBuffers(Walk):
    def __init__(self, num_envs):
        super().__init__(num_envs, copy=False)


class Overpays(Walk):
    def _advance(self, actions):
        super()._advance(actions)
        self._rewards *= 3


class LeavesItsSpace(Walk):
    def _advance(self, actions):
        super()._advance(actions)
        self._observations += 10


class TakesAnything(Walk):
    def _checked_actions(self, actions):
        return np.resize(np.asarray(actions).astype(int) % 2, self.num_envs)


class NeedsNoReset(Walk):
    def __init__(self, num_envs):
        super().__init__(num_envs)
        self._is_reset = True


class Anonymous(Walk):
    def _checked_actions(self, actions):
        try:
            return super()._checked_actions(actions)
        except MorlError:
            raise ValueError("no") from None


@pytest.mark.parametrize(
    ("factory", "check", "words"),
    [
        (ScalarRewards, "rewards are float64 vectors in their space", "(step, env, objective)"),
        (SinglePrecision, "rewards are float64 vectors in their space", "float32"),
        (Overpays, "rewards are float64 vectors in their space", "outside [0.0, 1.0]"),
        (LeavesItsSpace, "observations in their space", "out of bounds"),
        (Unpredictable, "the same seed gives the same run", "differ in"),
        (OneStreamForAll, "an environment does not depend on its batch", "of 4 and one alone"),
        (DrawsFromPython, "global random generators stay untouched", "Python's"),
        (DrawsFromNumPy, "global random generators stay untouched", "NumPy's"),
        (ForgetsFinals, "same-step autoreset with final_obs", "final_obs"),
        (NextStep, "spaces", "SAME_STEP"),
        (NeverCuts, "episodes are cut at the horizon", "outlives 6 steps"),
        (CutsEarly, "episodes are cut at the horizon", "instead of 6"),
        (LendsBuffers, "returned arrays belong to the caller", "overwrite"),
        (TakesAnything, "actions of a wrong shape are refused", "accepted"),
        (TakesAnything, "actions out of range are refused", "accepted"),
        (Anonymous, "actions out of range are refused", "does not name walk-v0"),
        (NeedsNoReset, "step before reset is refused", "before the first reset"),
        (lambda count: Walk(max(count, 1)), "num_envs = 0 is refused", "0 environments"),
    ],
)
def test_a_broken_environment_is_found_out(factory, check, words):
    found = failures(factory)
    assert words in found[check], found


def test_a_known_front_with_dominated_points_is_found_out():
    front = KnownFront(lambda _: np.array([[0.0, 1.0], [1.0, 1.0]]), "exact", "nowhere")
    assert "dominate" in failures(Walk, replace(SPEC, known_front=front))["known front"]
    front = KnownFront(lambda _: np.zeros((2, 3)), "exact", "nowhere")
    assert "(2, 3)" in failures(Walk, replace(SPEC, known_front=front))["known front"]


def test_a_spec_with_another_number_of_objectives_is_found_out():
    spec = replace(SPEC, objectives=(Objective("only"),), reference_point=(0.0,))
    assert "rewards are float64 vectors in their space" in failures(Walk, spec)


def test_a_batch_of_one_cannot_be_checked():
    with pytest.raises(ValueError, match="at least 2"):
        report_of(Walk, num_envs=1)


def test_sampled_actions_respect_bounds_and_types():
    box = spaces.Box(np.array([-1, 0], np.float32), np.array([2, np.inf], np.float32))
    actions = sample_actions(box, 500, 3, seed=0)
    assert actions.shape == (500, 3, 2)
    assert actions.dtype == np.float32
    assert actions[..., 0].min() >= -1
    assert actions[..., 0].max() <= 2
    assert actions[..., 1].min() == 0
    assert actions[..., 1].max() > 10
    discrete = sample_actions(spaces.Discrete(3), 200, 2, seed=0)
    assert set(discrete.ravel().tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(discrete, sample_actions(spaces.Discrete(3), 200, 2, seed=0))


def test_continuous_tasks_are_checked_too():
    task = make_task("mo-mountaincarcontinuous-v0", horizon=20)
    report = check_env(task, steps=50, num_envs=2)
    report.raise_for_failures()
    found = {check.name: check for check in report.checks}
    assert found["episodes are cut at the horizon"].message == "4 episodes of 20 steps"
