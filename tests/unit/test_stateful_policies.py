"""Policies with a memory: what the evaluation keeps for them, shows them and refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import levers
import numpy as np
import pytest

from morl.evaluation import PolicyError, rollout
from morl.testing import check_agent
from morl.types import PolicyState, Solution, is_stateful

TASK = levers.task()
LEVERS = int(TASK.make_vec(1).single_action_space.n)


@dataclass
class Rotating:
    """Pulls the levers in order, one further at each step of an episode, from `first`."""

    first: int = 0
    deterministic: bool = True

    def begin(self, num_envs: int) -> PolicyState:
        return {"step": np.zeros(num_envs, np.int64), "gained": np.zeros((num_envs, 2))}

    def act(
        self, observations: Any, state: PolicyState, *, rng: np.random.Generator
    ) -> tuple[Any, PolicyState]:
        assert len(observations) == len(state["step"])
        return (state["step"] + self.first) % LEVERS, state

    def observe(self, state: PolicyState, rewards: Any, ended: Any) -> PolicyState:
        step = np.where(ended, 0, state["step"] + 1)
        return {"step": step, "gained": np.where(ended[:, None], 0.0, state["gained"] + rewards)}


@dataclass
class Scripted:
    """What `Rotating` does, without a memory: the step is counted by the object."""

    first: int = 0
    deterministic: bool = True
    step: int = 0

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        self.step += 1
        return np.full(len(observations), (self.first + self.step - 1) % LEVERS)


class StackedRotating(Rotating):
    """Many of them in one call."""

    calls = 0

    @classmethod
    def stack(cls, policies: Sequence[StackedRotating]) -> Any:
        first = np.array([policy.first for policy in policies])

        class Stack:
            def begin(self, num_envs: int) -> PolicyState:
                return {"step": np.zeros((len(first), num_envs), np.int64)}

            def act(self, observations: Any, state: PolicyState, *, rng: Any) -> Any:
                StackedRotating.calls += 1
                return (state["step"] + first[:, None]) % LEVERS, state

            def observe(self, state: PolicyState, rewards: Any, ended: Any) -> PolicyState:
                assert rewards.shape == (*ended.shape, TASK.spec.num_objectives)
                return {"step": np.where(ended, 0, state["step"] + 1)}

        return Stack()


def test_a_memory_is_told_by_begin() -> None:
    assert is_stateful(Rotating())
    assert not is_stateful(Scripted())


def test_the_memory_follows_the_steps_of_an_episode() -> None:
    remembered = rollout(TASK, [Solution(Rotating(first)) for first in (0, 1)], seeds=[2, 4])
    for index, first in enumerate((0, 1)):
        scripted = rollout(TASK, [Solution(Scripted(first))], seeds=[2, 4])
        np.testing.assert_array_equal(remembered.discounted[index], scripted.discounted[0])


def test_policies_with_and_without_a_memory_share_a_batch() -> None:
    mixed = rollout(TASK, [Solution(Rotating(1)), Solution(Scripted(1))], seeds=[6, 8])
    np.testing.assert_array_equal(mixed.discounted[0], mixed.discounted[1])


def test_a_stack_acts_as_its_policies_do() -> None:
    StackedRotating.calls = 0
    stacked = rollout(TASK, [Solution(StackedRotating(i)) for i in (0, 1, 1)], seeds=[2, 4])
    assert StackedRotating.calls == stacked.lengths.max()
    alone = rollout(TASK, [Solution(Rotating(i)) for i in (0, 1, 1)], seeds=[2, 4])
    np.testing.assert_array_equal(stacked.discounted, alone.discounted)


def test_results_do_not_depend_on_the_batch() -> None:
    solutions = [Solution(Rotating(first)) for first in (0, 1, 0)]
    whole = rollout(TASK, solutions, seeds=[2, 4])
    parts = rollout(TASK, solutions, seeds=[2, 4], max_batch=2)
    np.testing.assert_array_equal(whole.discounted, parts.discounted)


class ListMemory(Rotating):
    def begin(self, num_envs: int) -> Any:
        return [0] * num_envs


class ShortMemory(Rotating):
    def observe(self, state: PolicyState, rewards: Any, ended: Any) -> PolicyState:
        return {"step": state["step"][:1]}


class ShortActions(Rotating):
    def act(self, observations: Any, state: PolicyState, *, rng: Any) -> Any:
        return np.zeros(1, np.int64), state


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (ListMemory(), r"memory of a ListMemory must be a dict of arrays, got list"),
        (ShortMemory(), r"memory 'step' of a ShortMemory must have one row per environment \(2\)"),
        (ShortActions(), r"actions of a ShortActions must have one row per environment \(2\)"),
    ],
)
def test_a_memory_or_actions_of_the_wrong_form_are_refused(policy: Any, words: str) -> None:
    with pytest.raises(PolicyError, match=words) as refusal:
        rollout(TASK, [Solution(policy)], seeds=[2, 4])
    assert TASK.spec.id in str(refusal.value)


class Leaky(Rotating):
    """Breaks the contract: acts by how large the batch is."""

    def act(self, observations: Any, state: PolicyState, *, rng: Any) -> Any:
        return np.full(len(observations), len(observations) % LEVERS), state


@dataclass
class Offering:
    """An agent that has its policy from the start."""

    policy: Any
    steps: int = 0
    finished: bool = True

    def learn(self, steps: int) -> dict[str, float]:
        return {}

    def solutions(self, preferences: Any = None) -> list[Solution]:
        if preferences is None:
            return [Solution(self.policy)]
        return [Solution(self.policy, preference) for preference in preferences]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": 0}

    def load_state_dict(self, state: Any) -> None:
        pass


def report(policy: Any) -> Any:
    def make(task: Any, config: Any, *, total_steps: int, seed: int) -> Offering:
        return Offering(policy)

    return check_agent(make, None, TASK, total_steps=10)


def test_the_contract_check_tries_out_memories() -> None:
    kept = report(Rotating())
    kept.raise_for_failures()
    assert "1 policies remember what they should" in str(kept)
    assert "half of a batch acts differently" in str(report(Leaky()))
