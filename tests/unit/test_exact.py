"""Exact fronts of small problems whose answers are known by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morl.envs import make_task
from morl.exact import (
    END,
    ExactError,
    FiniteModel,
    convex_coverage_set,
    enumerate_states,
    pareto_front,
    supported,
    undominated,
)
from morl.pareto import nondominated


def chain(rewards: list[list[list[float]]]) -> FiniteModel:
    """One state a row, one action a reward; every action leads to the next state."""
    table = np.array(rewards, np.float64)
    count = len(table)
    after = np.append(np.arange(1, count), END)
    successors = np.repeat(after[:, None], table.shape[1], axis=1)[:, :, None]
    return FiniteModel(
        successors=successors, probabilities=np.ones(successors.shape), rewards=table
    )


def coin(chance: float) -> FiniteModel:
    """One toss, then a choice between the two objectives on heads, nothing on tails."""
    successors = np.array([[[1, END], [END, END]], [[END, END], [END, END]]])
    probabilities = np.array([[[chance, 1 - chance], [0, 0]], [[1, 0], [1, 0]]], np.float64)
    rewards = np.array([[[0, 0], [0, 0]], [[4, 0], [0, 2]]], np.float64)
    return FiniteModel(successors=successors, probabilities=probabilities, rewards=rewards)


def two_coins() -> FiniteModel:
    """A fair coin decides which of two states comes; in both one may take (2, 0) or (0, 2)."""
    successors = np.full((3, 2, 2), END)
    successors[0, 0] = 1, 2
    probabilities = np.zeros((3, 2, 2))
    probabilities[0, 0] = 0.5
    probabilities[1:, :, 0] = 1.0
    rewards = np.zeros((3, 2, 2))
    rewards[1:] = [[2, 0], [0, 2]]
    return FiniteModel(successors=successors, probabilities=probabilities, rewards=rewards)


def test_two_steps_by_hand():
    # (1, 0) or (0, 1), then (2, 0) or (0, 3), of which the second counts half.
    model = chain([[[1, 0], [0, 1]], [[2, 0], [0, 3]]])
    front = pareto_front(model, discount=0.5)
    assert front.points.tolist() == [[0, 2.5], [1, 1.5], [2, 0]]
    assert [plan.actions for plan in front.plans] == [(1, 1), (0, 1), (0, 0)]


def test_dominated_returns_are_left_out():
    model = chain([[[1, 1], [0, 1]], [[2, 2], [2, 1]]])
    front = pareto_front(model, discount=1.0)
    assert front.points.tolist() == [[3, 3]]
    assert front.plans[0].actions == (0, 0)


def test_rounding_alone_does_not_make_a_point():
    assert undominated(np.array([[0.3, 0.5], [0.1 + 0.2, 0.4], [0.2, 0.6]])).tolist() == [0, 2]


def test_waiting_is_worth_while_where_rewards_alternate():
    # State 0 pays (1, 0) for staying, (0, 0) for going on; state 1 pays (0, 5) and ends.
    model = FiniteModel(
        successors=np.array([[[0], [1]], [[END], [END]]]),
        probabilities=np.ones((2, 2, 1)),
        rewards=np.array([[[1, 0], [0, 0]], [[0, 5], [0, 5]]], np.float64),
    )
    front = pareto_front(model, discount=1.0, horizon=4)
    assert front.points.tolist() == [[2, 5], [4, 0]]
    assert [plan.actions[:3] for plan in front.plans] == [(0, 0, 1), (0, 0, 0)]


def test_an_endless_episode_asks_for_a_horizon(monkeypatch):
    monkeypatch.setattr("morl.exact.MAX_LAYERS", 50)
    endless = model_with(successors=np.zeros((1, 1, 1), np.int64))
    with pytest.raises(ExactError, match="give a horizon"):
        pareto_front(endless, discount=1.0)


def test_a_loop_without_an_end_is_cut_at_the_horizon():
    model = FiniteModel(
        successors=np.zeros((1, 2, 1), np.int64),
        probabilities=np.ones((1, 2, 1)),
        rewards=np.array([[[1, 0], [0, 1]]], np.float64),
    )
    front = pareto_front(model, discount=1.0, horizon=3)
    assert front.points.tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]
    assert all(len(plan.actions) == 3 for plan in front.plans)


def test_chances_weigh_returns():
    front = pareto_front(coin(0.25), discount=0.5)
    # 0.25 * 0.5 * 4 and 0.25 * 0.5 * 2
    assert front.points.tolist() == [[0, 0.25], [0.5, 0]]
    assert front.plans[1].actions == (0, 0)  # on tails nothing is left to do


def test_a_policy_may_act_differently_after_each_outcome():
    front = pareto_front(two_coins(), discount=1.0)
    assert front.points.tolist() == [[0, 2], [1, 1], [2, 0]]
    mixed = front.plans[1]
    assert {mixed.after(0).action, mixed.after(1).action} == {0, 1}
    with pytest.raises(ExactError, match="depends on chance"):
        _ = mixed.actions
    assert mixed.expected_return(1.0).tolist() == [1, 1]


def test_the_convex_coverage_set_leaves_out_what_mixing_gives():
    assert convex_coverage_set(two_coins(), discount=1.0).points.tolist() == [[0, 2], [2, 0]]


def test_actions_of_several_steps_pay_at_their_last_step():
    model = FiniteModel(
        successors=np.array([[[1]], [[END]]]),
        probabilities=np.ones((2, 1, 1)),
        rewards=np.array([[[1.0, 0.0]], [[0.0, 1.0]]]),
        durations=np.array([[3], [2]]),
        moves=lambda state, action: ((7, 7, 7), (8, 8))[state],
    )
    front = pareto_front(model, discount=0.5, horizon=5)
    assert front.points.tolist() == [[0.5**2, 0.5**4]]
    assert front.plans[0].actions == (7, 7, 7, 8, 8)
    assert front.plans[0].expected_return(0.5).tolist() == front.points[0].tolist()
    with pytest.raises(ExactError, match="5 steps goes beyond the horizon of 4"):
        pareto_front(model, discount=0.5, horizon=4)


def test_supported_points_by_hand():
    # (2, 2) lies on the line between its neighbours, (1, 4.5) above it, (3, 0.5) below.
    points = np.array([[0, 5], [1, 4.5], [2, 2], [3, 0.5], [4, 0], [0, 0]])
    assert supported(points).tolist() == [0, 1, 4]
    on_a_line = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    assert supported(on_a_line).tolist() == [0, 2]
    assert supported(np.array([[3.0], [5.0]])).tolist() == [1]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 6)] * 3),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
def test_supported_points_win_for_some_preference_and_others_for_none(points):
    table = np.array(points, np.float64)
    kept = supported(table)
    grid = np.array([w for w in product(range(25), repeat=3) if sum(w) == 24]) / 24
    best = (grid @ table.T).max(axis=1)
    # No preference is worse off with the supported points alone.
    np.testing.assert_allclose((grid @ table[kept].T).max(axis=1), best, atol=1e-9)
    for index in kept:
        others = np.delete(table[kept], np.flatnonzero(kept == index), axis=0)
        assert not len(others) or not (others >= table[index]).all(axis=1).any()


@st.composite
def small_models(draw: st.DrawFn) -> FiniteModel:
    """Acyclic, two actions, up to two outcomes, rewards of small integers."""
    count = draw(st.integers(1, 3))
    numbers = st.integers(-2, 2)
    successors = np.full((count, 2, 2), END)
    probabilities = np.zeros((count, 2, 2))
    rewards = np.zeros((count, 2, 2))
    for state, action in np.ndindex(count, 2):
        later = st.sampled_from([END, *range(state + 1, count)])
        successors[state, action] = draw(later), draw(later)
        probabilities[state, action] = draw(st.sampled_from([(1, 0), (0.5, 0.5), (0.25, 0.75)]))
        rewards[state, action] = draw(numbers), draw(numbers)
    return FiniteModel(successors=successors, probabilities=probabilities, rewards=rewards)


def all_returns(model: FiniteModel, state: int, discount: float) -> list[np.ndarray]:
    """Returns of every deterministic policy that may depend on history, by brute force."""
    if state == END:
        return [np.zeros(model.num_objectives)]
    found = []
    for action in range(model.successors.shape[1]):
        outcomes = model.outcomes(state, action)
        for later in product(*(all_returns(model, after, discount) for _, after in outcomes)):
            future = sum(p * value for (p, _), value in zip(outcomes, later, strict=True))
            found.append(model.rewards[state, action] + discount * future)
    return found


@settings(max_examples=40, deadline=None)
@given(small_models(), st.sampled_from([1.0, 0.5]))
def test_fronts_are_those_of_all_policies(model, discount):
    every = np.array(all_returns(model, model.start, discount))
    expected = np.unique(every[nondominated(every)], axis=0)
    front = pareto_front(model, discount=discount)
    assert front.points.tolist() == expected.tolist()
    for point, plan in zip(front.points, front.plans, strict=True):
        assert plan.expected_return(discount).tolist() == point.tolist()
    hull = convex_coverage_set(model, discount=discount)
    assert hull.points.tolist() == expected[supported(expected)].tolist()


def test_a_stochastic_loop_settles():
    # Go on for 1 a step; with a half chance the game ends: 1 + 0.9 / 2 + ... = 1 / 0.55.
    model = FiniteModel(
        successors=np.array([[[0, END]]]),
        probabilities=np.full((1, 1, 2), 0.5),
        rewards=np.ones((1, 1, 1)),
    )
    value = pareto_front(model, discount=0.9, horizon=200).points[0, 0]
    assert value == pytest.approx(1 / 0.55, rel=1e-12)


def test_tables_are_found_by_search():
    model = enumerate_states(make_task("fruit-tree-v0", kwargs={"depth": 5}))
    assert model.num_states == 31  # inner nodes; fruits end the episode
    assert model.deterministic
    front = pareto_front(model, discount=1.0)
    assert len(front.points) == 32
    assert sorted(plan.actions for plan in front.plans) == sorted(product((0, 1), repeat=5))


def test_chance_is_noticed_by_the_search():
    with pytest.raises(ExactError, match="breakable-bottles-v0: chance"):
        enumerate_states(make_task("breakable-bottles-v0"))


def test_a_search_that_is_too_long_says_so():
    with pytest.raises(ExactError, match="more than 50 states"):
        enumerate_states(make_task("deep-sea-treasure-v0"), max_states=50)


def test_continuous_actions_are_refused():
    with pytest.raises(ExactError, match="discrete actions"):
        enumerate_states(make_task("water-reservoir-v0"))


def model_with(**changes: object) -> FiniteModel:
    tables: dict[str, object] = {
        "successors": np.full((1, 1, 1), END),
        "probabilities": np.ones((1, 1, 1)),
        "rewards": np.zeros((1, 1, 2)),
    }
    return FiniteModel(**{**tables, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"successors": np.full((1, 1), END)}, "share the shape"),
        ({"successors": np.full((1, 1, 1), 1)}, "below 1"),
        ({"rewards": np.zeros((1, 2, 2))}, "rewards"),
        ({"rewards": np.full((1, 1, 2), np.nan)}, "finite"),
        ({"probabilities": np.full((1, 1, 1), 0.5)}, "sum to 1"),
        ({"start": 1}, "start"),
        ({"durations": np.zeros((1, 1), np.int64)}, "durations"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ExactError, match=message):
        model_with(**changes)


def test_a_dead_end_and_a_wrong_discount_are_refused():
    dead_end = model_with(probabilities=np.zeros((1, 1, 1)))
    with pytest.raises(ExactError, match="state 0 has no action"):
        pareto_front(dead_end, discount=1.0)
    with pytest.raises(ExactError, match="discount"):
        pareto_front(model_with(), discount=0.0)


def test_too_many_points_are_refused_rather_than_waited_for(monkeypatch):
    monkeypatch.setattr("morl.exact.MAX_POINTS", 3)
    model = chain([[[2.0**k, 0], [0, 2.0**k]] for k in range(3)])
    with pytest.raises(ExactError, match="convex coverage set is smaller"):
        pareto_front(model, discount=1.0)
