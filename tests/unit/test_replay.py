"""Replay: what comes out is what went in, rings wrap, cut episodes keep their last observation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morl.agents.learners.core.rollouts import Rollout, Truncation
from morl.agents.learners.replay.buffer import Replay, ReplayError, Transitions


def make(*, envs: int = 2, capacity: int = 20, policies: int = 1) -> Replay:
    return Replay(
        num_policies=policies, num_envs=envs, capacity=capacity, num_features=1, num_objectives=2,
        env_id="counter-v0",
    )  # fmt: skip


class Counter:
    """Environments that count their steps: slot s shows ``1000 s + 100 episode + step``."""

    def __init__(self, slots: int, *, length: int, truncates: bool) -> None:
        self.slots, self.length, self.truncates = slots, length, truncates
        self.step = np.zeros(slots, int)
        self.episode = np.zeros(slots, int)

    def show(self) -> np.ndarray:
        shown = 1000 * np.arange(self.slots) + 100 * self.episode + self.step
        return shown.astype(np.float32)[None, :, None]

    def rollout(self, steps: int) -> Rollout:
        grid = (1, steps, self.slots)
        observations = np.zeros((*grid, 1), np.float32)
        ends = np.zeros(grid, bool)
        cuts = []
        for time in range(steps):
            observations[:, time] = self.show()
            self.step += 1
            over = self.step == self.length
            ends[0, time] = over
            if over.any() and self.truncates:
                cuts.append(
                    Truncation(
                        time=time,
                        policies=np.zeros(over.sum(), np.intp),
                        envs=np.flatnonzero(over),
                        observations=self.show()[0, over],
                    )
                )
            self.episode[over] += 1
            self.step[over] = 0
        return Rollout(
            observations=observations,
            actions=observations.copy(),
            log_probabilities=np.zeros(grid, np.float32),
            rewards=np.concatenate([observations, -observations], -1).astype(np.float64),
            terminated=ends & (not self.truncates),
            truncated=ends & self.truncates,
            last_observations=self.show(),
            started=np.ones((1, self.slots), bool),
            truncations=tuple(cuts),
        )


def check(sample: Transitions) -> None:
    """Whatever was sampled fits together, and leads one step on in its own episode."""
    now, after = sample.observations[..., 0], sample.next_observations[..., 0]
    np.testing.assert_array_equal(sample.actions, now)
    np.testing.assert_array_equal(sample.rewards, np.stack([now, -now], -1))
    going = ~sample.terminated
    np.testing.assert_array_equal(after[going], now[going] + 1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 7), st.booleans(),
    st.integers(3, 12), st.booleans(),
)  # fmt: skip
def test_successors_are_right_however_episodes_end_and_rings_wrap(
    chunks: list[int], length: int, truncates: bool, rows: int, cut: bool
) -> None:
    counter, replay = (
        Counter(3, length=length, truncates=truncates),
        make(envs=3, capacity=3 * rows),
    )
    for chunk in chunks:
        replay.add(counter.rollout(chunk), np.full((1, 3, 2), 0.5))
        if cut:  # environments are reset: whatever comes next is no successor
            replay.cut()
            counter.episode += 1
            counter.step[...] = 0
    assert 0 < len(replay) <= min(3 * sum(chunks), 3 * (rows - 1))
    check(replay.sample(200, rng=np.random.default_rng(0)))


def test_only_the_latest_transitions_are_kept() -> None:
    counter, replay = Counter(1, length=1000, truncates=False), make(envs=1, capacity=10)
    replay.add(counter.rollout(50), np.full((1, 1, 2), 0.5))
    seen = np.unique(replay.sample(500, rng=np.random.default_rng(0)).actions)
    np.testing.assert_array_equal(seen, np.arange(41, 50))
    assert len(replay) == 9  # the tenth row shows where the last transition led


def test_a_truncated_episode_leads_to_its_last_observation_and_goes_on() -> None:
    counter, replay = Counter(1, length=3, truncates=True), make(envs=1, capacity=20)
    replay.add(counter.rollout(7), np.full((1, 1, 2), 0.5))
    sample = replay.sample(300, rng=np.random.default_rng(1))
    assert not sample.terminated.any()
    last = sample.observations[..., 0] == 2
    assert last.any()
    assert (sample.next_observations[last] == 3).all()


def test_policies_sample_their_own_slots_alone() -> None:
    replay = make(policies=2, envs=1, capacity=20)
    two = Counter(2, length=100, truncates=False).rollout(6)
    by_policy = Rollout(
        **{
            name: value.transpose(2, 1, 0, *range(3, value.ndim))
            if isinstance(value := getattr(two, name), np.ndarray) and value.ndim > 2
            and name != "last_observations"
            else value
            for name in ("observations", "actions", "log_probabilities", "rewards", "terminated",
                         "truncated", "truncations", "started")
        },
        last_observations=two.last_observations.transpose(1, 0, 2),
    )  # fmt: skip
    replay.add(by_policy, np.full((2, 1, 2), 0.5))
    actions = replay.sample(50, rng=np.random.default_rng(0)).actions
    assert (actions[0] < 1000).all()
    assert (actions[1] >= 1000).all()


def test_a_restored_replay_samples_the_same_and_goes_on_the_same() -> None:
    counter, replay, twin = Counter(2, length=4, truncates=True), make(), make()
    replay.add(counter.rollout(13), np.full((1, 2, 2), 0.5))
    twin.load_state_dict(replay.state_dict())
    more = counter.rollout(5)
    for one in (replay, twin):
        one.add(more, np.full((1, 2, 2), 0.25))
    mine, theirs = (one.sample(64, rng=np.random.default_rng(3)) for one in (replay, twin))
    for name in vars(mine):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(ReplayError, match="counter-v0: nothing can be sampled"):
        make().sample(1, rng=np.random.default_rng(0))


def test_rings_that_are_too_short_or_too_large_are_refused() -> None:
    with pytest.raises(ReplayError, match=r"leaves 2 for each of 2 .*raise agent.replay_capacity"):
        make(capacity=5)
    with pytest.raises(ReplayError, match=r"GiB; lower agent\.replay_capacity"):
        make(capacity=10**10)


def test_a_replay_of_another_shape_is_refused() -> None:
    with pytest.raises(ReplayError, match="does not fit"):
        make(envs=3, capacity=30).load_state_dict(make().state_dict())
