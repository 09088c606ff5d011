"""Random finite problems: the kernel against the tables, fronts against every policy there is."""

from __future__ import annotations

from itertools import product

import gymnasium
import numpy as np
import pytest

from morl.envs import EnvArgumentError, make_task, make_vec
from morl.envs.random_momdp import (
    ID,
    KINDS,
    RandomMOMDPVectorEnv,
    exact_front,
    problem,
    reference_point,
)
from morl.exact import END, undominated
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.testing import check_env

SEEDS = (0, 1, 2, 3)
"""One of each kind."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_problem_keeps_the_contract_of_environments(seed: int) -> None:
    check_env(make_task(ID, kwargs={"seed": seed}), steps=100)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_decides_everything(seed: int) -> None:
    first = problem(seed)
    problem.cache_clear()
    again = problem(seed)
    assert first is not again
    assert first.kind == KINDS[seed % 4]
    np.testing.assert_array_equal(first.model.rewards, again.model.rewards)
    np.testing.assert_array_equal(first.model.successors, again.model.successors)
    np.testing.assert_array_equal(first.observations, again.observations)


def test_other_seeds_are_other_problems() -> None:
    rewards = {problem(seed, "layered", 2).model.rewards.tobytes() for seed in range(10)}
    assert len(rewards) == 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_kind_and_objectives_can_be_asked_for(kind: str, count: int) -> None:
    drawn = problem(5, kind, count)
    assert drawn.kind == kind
    assert drawn.model.num_objectives == count


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_follow_the_tables(seed: int) -> None:
    drawn = problem(seed)
    model, rows = drawn.model, {tuple(row): s for s, row in enumerate(drawn.observations[:-1])}
    batch = RandomMOMDPVectorEnv(32, seed=seed)
    before, _ = batch.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.integers(model.successors.shape[1], size=32)
        after, rewards, terminated, _truncated, infos = batch.step(actions)
        reached = infos["final_obs"] if infos else after
        for i, action in enumerate(actions.tolist()):
            state = rows[tuple(before[i])]
            assert rewards[i].tolist() == model.rewards[state, action].tolist()
            possible = model.successors[state, action][model.probabilities[state, action] > 0]
            following = END if terminated[i] else rows[tuple(reached[i])]
            assert following in possible.tolist()
        before = after


def test_chance_keeps_its_probabilities() -> None:
    drawn = problem(2, "chain")
    state, action = np.argwhere(drawn.model.probabilities[..., 0] < 1.0)[0]
    batch = RandomMOMDPVectorEnv(20_000, seed=2, kind="chain")
    batch.reset(seed=0)
    batch._states[:] = state
    after, _, _, _, infos = batch.step(np.full(20_000, action))
    reached = infos["final_obs"] if infos else after
    first = drawn.observations[drawn.model.successors[state, action, 0]]
    share = (reached == first).all(axis=1).mean()
    assert share == pytest.approx(drawn.model.probabilities[state, action, 0], abs=0.02)


@pytest.mark.parametrize(("seed", "kind"), [(3, "tree"), (7, "tree"), (0, "layered")])
def test_the_front_is_that_of_all_plans(seed: int, kind: str) -> None:
    """Every sequence of actions is tried in the environment itself."""
    drawn = problem(seed, kind, 2)
    plans = np.array(list(product(range(drawn.model.successors.shape[1]), repeat=drawn.horizon)))
    if len(plans) > 20_000:
        plans = plans[np.random.default_rng(0).choice(len(plans), 20_000, replace=False)]
    returns = _play(plans, seed=seed, kind=kind, discount=drawn.discount)
    front = exact_front(drawn.discount, seed=seed, kind=kind, num_objectives=2)
    covered = (front[:, None] >= returns[None] - 1e-9).all(axis=2).any(axis=0)
    assert covered.all()
    if len(plans) < 20_000:
        np.testing.assert_allclose(_rows(returns[undominated(returns)]), _rows(front))


def _rows(points: np.ndarray) -> np.ndarray:
    return np.unique(points.round(6), axis=0)


def _play(plans: np.ndarray, *, seed: int, kind: str, discount: float) -> np.ndarray:
    batch = RandomMOMDPVectorEnv(len(plans), seed=seed, kind=kind, num_objectives=2)
    batch.reset(seed=0)
    total, alive = np.zeros((len(plans), 2)), np.ones(len(plans), bool)
    for time, actions in enumerate(plans.T):
        _, rewards, terminated, truncated, _ = batch.step(actions)
        total += discount**time * rewards * alive[:, None]
        alive &= ~(terminated | truncated)
    assert not alive.any()
    return total


@pytest.mark.parametrize("seed", range(12))
def test_every_front_offers_a_choice(seed: int) -> None:
    drawn = problem(seed)
    front = exact_front(drawn.discount, seed=seed)
    assert len(front) >= 3
    assert nondominated(front).all()
    assert (front > reference_point(seed)).all()
    assert hypervolume(front, reference_point(seed)).value > 0


def test_a_stochastic_point_of_the_front_is_earned_on_average() -> None:
    """The first step of the best plan for an objective, then greedily: the mean is the point."""
    drawn = problem(106)
    front = exact_front(drawn.discount, seed=106)
    values = np.zeros(drawn.model.num_states + 1)
    choice = np.zeros(drawn.model.num_states, int)
    for _ in range(drawn.horizon):
        after = (drawn.model.probabilities * values[drawn.model.successors]).sum(axis=2)
        earned = drawn.model.rewards[..., 0] + drawn.discount * after
        choice, values[:-1] = earned.argmax(axis=1), earned.max(axis=1)
    assert values[drawn.model.start] == pytest.approx(front[:, 0].max())
    batch = RandomMOMDPVectorEnv(20_000, seed=106)
    batch.reset(seed=3)
    total, alive = np.zeros(20_000), np.ones(20_000, bool)
    for time in range(drawn.horizon):
        _, rewards, terminated, _, _ = batch.step(choice[np.maximum(batch._states, 0)])
        total += drawn.discount**time * rewards[:, 0] * alive
        alive &= ~terminated
    assert total.mean() == pytest.approx(front[:, 0].max(), rel=0.02)


def test_the_ordinary_environment_gives_the_same_episode() -> None:
    single = gymnasium.make(ID, seed=2, disable_env_checker=True)
    batch = make_vec(ID, 1, seed=2)
    first, _ = single.reset(seed=9)
    before, _ = batch.reset(seed=9)
    np.testing.assert_array_equal(first, before[0])
    over = False
    while not over:
        observation, reward, over, cut, _ = single.step(1)
        _, rewards, terminated, truncated, infos = batch.step(np.array([1]))
        np.testing.assert_array_equal(reward, rewards[0])
        assert (over, cut) == (terminated[0], truncated[0])
        if over:
            np.testing.assert_array_equal(observation, infos["final_obs"][0])
            assert (observation == -1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "not negative, got -1"),
        ({"seed": 1.5}, "must be an integer"),
        ({"kind": "ring"}, "kind must be one of layered, grid, chain, tree, got 'ring'"),
        ({"num_objectives": 5}, "num_objectives must be 2, 3 or 4, got 5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(EnvArgumentError, match=message):
        make_task(ID, kwargs=arguments)
