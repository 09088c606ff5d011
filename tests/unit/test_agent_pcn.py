"""Pareto conditioned networks: arrays of episodes, gradients, commands, and the agent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.returns.episodes import (
    Episode,
    EpisodePool,
    normalised_crowding,
    ranking,
    returns_to_go,
)
from morl.agents.learners.returns.network import (
    Adam,
    initial_parameters,
    logits,
    loss_and_gradients,
    probabilities,
)
from morl.agents.learners.returns.policies import CommandController, CommandPolicy, CommandScale
from morl.agents.pcn import SMOKE, improved_commands
from morl.envs import make_task
from morl.registry import AGENTS


def episode(*rewards: tuple[float, float], mark: float = 0.0) -> Episode:
    count = len(rewards)
    return Episode(
        np.full((count, 1), mark, np.float32),
        np.arange(count),
        returns_to_go(np.array(rewards), discount=1.0),
    )


def pool_of(*episodes: Episode) -> EpisodePool:
    return EpisodePool.empty(1, 2).with_episodes(episodes)


def test_returns_to_go_are_discounted_from_the_end() -> None:
    rewards = np.array([[1.0, 0.0], [2.0, -1.0], [4.0, -1.0]])
    expected = [[3.0, -0.75], [4.0, -1.5], [4.0, -1.0]]
    assert returns_to_go(rewards, discount=0.5).tolist() == expected


def test_a_pool_knows_starts_values_and_horizons() -> None:
    pool = pool_of(episode((1, 0), (1, 2)), episode((5, 5)), episode((0, 1), (0, 1), (0, 1)))
    assert pool.starts.tolist() == [0, 2, 3]
    assert pool.values.tolist() == [[2, 2], [5, 5], [0, 3]]
    assert pool.horizons.tolist() == [2, 1, 1, 3, 2, 1]


def test_selected_episodes_keep_their_rows_together() -> None:
    pool = pool_of(
        episode((1, 0), (1, 2), mark=1), episode((5, 5), mark=2), episode((0, 1), (0, 1), mark=3)
    )
    chosen = pool.select(np.array([2, 0]))
    assert chosen.inputs[:, 0].tolist() == [3, 3, 1, 1]
    assert chosen.values.tolist() == [[0, 2], [2, 2]]
    assert chosen.lengths.tolist() == [2, 2]


def test_an_episode_counts_once_however_long() -> None:
    long = episode(*[(0.0, 0.0)] * 99)
    rows = pool_of(long, episode((1, 1))).sample(4000, np.random.default_rng(0))
    assert 0.45 < (rows == 99).mean() < 0.55
    assert set(rows.tolist()) == set(range(100))


def test_crowding_is_the_gap_between_neighbours_in_units_of_the_range() -> None:
    points = np.array([[0.0, 4.0], [1.0, 3.0], [10.0, 0.0]])
    # The middle point lies between both others in both objectives; the ends count one each.
    assert normalised_crowding(points).tolist() == [2.0, 2.0, 2.0]
    points = np.array([[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [10.0, 0.0]])
    assert normalised_crowding(points) == pytest.approx([2.0, 0.4, 1.8, 2.0])


def test_ranking_puts_the_front_first_and_repetitions_behind_it() -> None:
    values = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [3.0, 0.0]])
    order = ranking(values, min_crowding=0.0).tolist()
    assert set(order[:2]) == {1, 2}
    assert order[2:] == [3, 4, 0]


def test_the_most_crowded_member_of_the_front_comes_last() -> None:
    values = np.array([[0.0, 10.0], [5.0, 5.0], [5.1, 4.95], [4.9, 5.05], [10.0, 0.0]])
    assert ranking(values, min_crowding=0.2)[-1] == 1


def test_a_crowded_episode_off_the_front_counts_as_twice_as_far() -> None:
    values = np.array([[0.0, 10.0], [10.0, 0.0], [0.0, 5.0], [5.0, -0.1], [5.2, -0.3], [5.1, -0.2]])
    loose = ranking(values, min_crowding=0.0).tolist()
    strict = ranking(values, min_crowding=0.1).tolist()
    assert loose == [0, 1, 4, 5, 2, 3]
    assert strict == [0, 1, 4, 2, 3, 5]


def test_the_pool_keeps_the_best() -> None:
    pool = pool_of(episode((0, 0)), episode((4, 0)), episode((0, 4)), episode((3, 0)))
    kept = pool.kept(2, min_crowding=0.0)
    assert sorted(kept.values.tolist()) == [[0, 4], [4, 0]]
    assert pool.kept(4, min_crowding=0.0) is pool


def test_a_pool_comes_back_from_its_state() -> None:
    pool = pool_of(episode((1, 0), (1, 2), mark=1), episode((5, 5), mark=2))
    again = EpisodePool.from_state(pool.state_dict())
    for name in ("lengths", "inputs", "actions", "returns"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pool, name))


def small_network(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return initial_parameters(3, 2, 4, hidden=5, rng=rng)


@pytest.mark.parametrize("name", sorted(small_network()))
def test_gradients_agree_with_differences(name: str) -> None:
    rng = np.random.default_rng(1)
    inputs, commands = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    actions = rng.integers(4, size=6)
    parameters = {key: value.astype(np.float64) + 0.1 for key, value in small_network().items()}
    _, gradients = loss_and_gradients(parameters, inputs, commands, actions)
    at = (0,) * parameters[name].ndim
    losses = []
    for offset in (1e-3, -1e-3):
        moved = {**parameters, name: parameters[name].copy()}
        moved[name][at] += offset
        losses.append(loss_and_gradients(moved, inputs, commands, actions)[0])
    assert gradients[name][at] == pytest.approx((losses[0] - losses[1]) / 2e-3, abs=1e-3)


def test_probabilities_of_large_scores_are_finite() -> None:
    chances = probabilities(np.array([[1000.0, 1000.0], [0.0, -1000.0]], np.float32))
    assert chances.tolist() == [[0.5, 0.5], [1.0, 0.0]]


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate() -> None:
    adam = Adam({"a": np.zeros(2, np.float32)}, 0.1)
    adam.step({"a": np.array([3.0, -0.01], np.float32)})
    assert adam.parameters["a"] == pytest.approx([-0.1, 0.1], abs=1e-4)


def test_updates_make_the_imitated_actions_likely() -> None:
    parameters, rng = small_network(), np.random.default_rng(2)
    inputs = rng.normal(size=(8, 3)).astype(np.float32)
    commands = rng.normal(size=(8, 2)).astype(np.float32)
    actions, adam = rng.integers(4, size=8), Adam(parameters, 0.03)
    for _ in range(300):
        adam.step(loss_and_gradients(adam.parameters, inputs, commands, actions)[1])
    assert (logits(adam.parameters, inputs, commands).argmax(axis=1) == actions).all()


def scale_of(*episodes: Episode) -> CommandScale:
    return CommandScale.of(pool_of(*episodes), num_numbers=1)


def test_commands_beyond_what_was_seen_count_as_the_nearest_that_was() -> None:
    scale = scale_of(episode((0, -2), (4, -2)), episode((2, -1)))
    inside = scale.features(np.array([[4.0, -1.0]]), np.array([2.0]))
    beyond = scale.features(np.array([[9.0, 5.0]]), np.array([7.0]))
    np.testing.assert_array_equal(beyond, inside)
    assert inside[0].tolist() == [1.0, -0.25, 1.0]
    assert scale.features(np.array([[-3.0, -9.0]]), np.array([0.0]))[0].tolist() == [0.5, -1.0, 0.5]


def policy(discount: float = 0.5) -> CommandPolicy:
    encoder = ObservationEncoder.of(
        spaces.Box(-1, 1, (1,), np.float32), "raw", max_inputs=10, env_id="line-v0"
    )
    network = initial_parameters(1, 3, 4, hidden=5, rng=np.random.default_rng(0))
    controller = CommandController(network, scale_of(episode((8, 8), (0, 0))), encoder, discount)
    return CommandPolicy(controller, np.array([8.0, 4.0]), 3)


def test_a_command_is_what_is_left_divided_by_the_discount() -> None:
    one = policy()
    state = one.observe(one.begin(2), np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([False, True]))
    assert state["wanted"].tolist() == [[12.0, 8.0], [8.0, 4.0]]
    assert state["horizon"].tolist() == [2.0, 3.0]


def test_the_horizon_does_not_fall_below_one() -> None:
    one, state = policy(), policy().begin(1)
    for _ in range(5):
        state = one.observe(state, np.zeros((1, 2)), np.array([False]))
    assert state["horizon"].tolist() == [1.0]


def test_stacked_policies_act_as_each_alone() -> None:
    policies = [policy(), replace(policy(), wanted=np.array([1.0, 0.0]), horizon=1)]
    together, rng = CommandPolicy.stack(policies), np.random.default_rng(0)
    seen = rng.normal(size=(2, 3, 1))
    rewards, ended = rng.normal(size=(2, 3, 2)), np.array([[True, False, False]] * 2)
    state = together.observe(together.begin(3), rewards, ended)
    actions, _ = together.act(seen, state, rng=rng)
    for index, one in enumerate(policies):
        alone = one.observe(one.begin(3), rewards[index], ended[index])
        np.testing.assert_array_equal(alone["wanted"], state["wanted"][index])
        np.testing.assert_array_equal(one.act(seen[index], alone, rng=rng)[0], actions[index])


def test_commands_ask_for_more_in_one_objective_and_less_time() -> None:
    values, lengths = np.array([[0.0, 4.0], [4.0, 0.0]]), np.array([1, 9])
    rng = np.random.default_rng(0)
    wanted, horizons = improved_commands(values, lengths, count=200, rng=rng)
    chosen = (horizons == 7.0).astype(int)
    extra = wanted - values[chosen]
    assert set(horizons.tolist()) == {1.0, 7.0}
    assert ((extra > 0).sum(axis=1) <= 1).all()
    assert extra.min() >= 0.0
    assert 1.5 < extra.max() <= 2.0


def make(steps: int, **settings: object):
    entry = AGENTS["pcn"]
    task = make_task("deep-sea-treasure-v0")
    config = replace(entry.config(), **{**SMOKE, **settings})
    return entry.make(task, config, total_steps=steps, seed=1)


def test_before_an_episode_has_ended_the_only_command_is_zero() -> None:
    (only,) = make(100).solutions()
    assert only.policy.wanted.tolist() == [0.0, 0.0]
    assert only.policy.horizon == 1


def test_preferences_are_answered_by_the_best_stored_return() -> None:
    agent = make(4000)
    agent.learn(4000)
    values = np.stack([solution.policy.wanted for solution in agent.solutions()])
    treasure, time = agent.solutions(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert treasure.policy.wanted[0] == values[:, 0].max()
    assert time.policy.wanted[1] == values[:, 1].max()
    assert len(np.unique(values, axis=0)) == len(values)


def test_settings_outside_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        make(100, capacity=0)
    with pytest.raises(ValueError, match="encoding"):
        make(100, encoding="codes")
