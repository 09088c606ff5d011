"""Numbered states, learned models and sets of vectors: by hand, and against exact fronts."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.tabular.exploration import DISTANCE_DISCOUNT, explore, sweep
from morl.agents.learners.tabular.model import END, ModelTables, record
from morl.agents.learners.tabular.policies import VectorController, VectorPolicy
from morl.agents.learners.tabular.sets import (
    SetTables,
    back_up,
    follow,
    pair_set,
    spread,
    undominated_rows,
)
from morl.agents.learners.tabular.states import (
    UNKNOWN,
    StateNumbers,
    StateSpaceError,
    require_countable,
)
from morl.envs.random_momdp import exact_front, problem
from morl.pareto import nondominated


def numbers(max_states: int = 10) -> StateNumbers:
    return StateNumbers((2,), np.dtype(np.int32), max_states=max_states, env_id="grid-v0")


def test_states_are_numbered_in_the_order_of_appearance() -> None:
    table = numbers()
    assert table.learn(np.array([[3, 4], [1, 2], [3, 4]])).tolist() == [0, 1, 0]
    assert table.find(np.array([[1, 2], [9, 9]])).tolist() == [1, UNKNOWN]
    assert len(table) == 2
    again = numbers()
    again.restore(table.table())
    assert again.find(np.array([[3, 4], [1, 2]])).tolist() == [0, 1]


def test_too_many_states_are_refused_and_none_is_lost() -> None:
    table = numbers(max_states=2)
    table.learn(np.array([[0, 0], [0, 1]]))
    with pytest.raises(StateSpaceError, match=r"grid-v0: more than agent.max_states=2"):
        table.learn(np.array([[0, 2]]))
    assert table.find(np.array([[0, 0], [0, 1], [0, 2]])).tolist() == [0, 1, UNKNOWN]


def test_observations_of_floats_are_refused() -> None:
    require_countable(spaces.Box(0, 3, (2,), np.int32), env_id="grid-v0", agent="pql")
    with pytest.raises(UnsupportedTaskError, match="grid-v0: pql keeps a table"):
        require_countable(spaces.Box(0, 3, (2,), np.float32), env_id="grid-v0", agent="pql")


def recorded(rows: list[tuple[int, int, list[float], int]], num_actions: int = 2) -> ModelTables:
    model = ModelTables.empty(num_actions, len(rows[0][2]))
    states, actions, rewards, successors = (np.array(column) for column in zip(*rows, strict=True))
    first = 0
    while first < len(rows):
        first = record(model, states, actions, rewards.astype(float), successors, first)
        if first < len(rows):
            model = model.with_more_outcomes()
    return model


def test_a_model_counts_outcomes_and_averages_rewards() -> None:
    model = recorded([(0, 1, [1.0, 0.0], 1), (0, 1, [3.0, 1.0], END), (0, 1, [2.0, 2.0], 1)])
    assert model.visits[0].tolist() == [0, 3]
    np.testing.assert_allclose(model.rewards[0, 1], [2.0, 1.0])
    assert model.outcomes[0, 1] == 2
    assert model.successors[0, 1].tolist() == [1, END]
    assert model.counts[0, 1].tolist() == [2, 1]


def test_a_mean_of_equal_rewards_is_exact() -> None:
    model = recorded([(0, 0, [0.1, -0.7], 1)] * 1000)
    assert model.rewards[0, 0].tolist() == [0.1, -0.7]


def test_a_pair_may_have_many_successors() -> None:
    model = recorded([(0, 0, [0.0, 0.0], after) for after in range(1, 20)])
    assert model.outcomes[0, 0] == 19
    assert sorted(model.successors[0, 0, :19].tolist()) == list(range(1, 20))


def test_tables_grow_and_keep_what_they_hold() -> None:
    model = recorded([(0, 1, [1.0, 2.0], 1)])
    longer = model.with_states(1000)
    assert longer.visits.shape[0] >= 1000
    np.testing.assert_array_equal(longer.visits[:64], model.visits)
    assert model.with_states(3) is model


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_undominated_rows_agree_with_the_kernel_of_the_suite(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 6, (200, objectives)).astype(float)
    kept = undominated_rows(points, 1e-9)
    expected = np.unique(points[nondominated(points)], axis=0)
    np.testing.assert_array_equal(np.unique(kept, axis=0), expected)
    assert len(kept) == len(expected)


def test_undominated_rows_take_rounding_for_equal() -> None:
    points = np.array([[1.0, 2.0], [1.0 + 1e-12, 2.0 - 1e-12], [0.5, 3.0]])
    assert len(undominated_rows(points, 1e-9)) == 2


def test_spread_keeps_the_best_of_each_objective_and_even_distances() -> None:
    share = np.linspace(0.0, 1.0, 101)
    points = np.stack([share, 1.0 - share], axis=1)
    kept = spread(points, 5)
    assert len(kept) == 5
    assert sorted(kept[:, 0].tolist()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_array_equal(spread(points, 200), points)


def by_hand() -> tuple[ModelTables, SetTables]:
    """State 0: action 0 to 1, action 1 to 1 or the end. State 1: two ways to end."""
    model = recorded(
        [
            (0, 0, [0.0, 1.0], 1),
            (0, 1, [1.0, 0.0], 1),
            (0, 1, [1.0, 0.0], END),
            (1, 0, [4.0, 0.0], END),
            (1, 1, [0.0, 4.0], END),
        ]
    )
    sets = SetTables.empty(64, 2)
    changed = np.zeros(2, np.bool_)
    assert back_up(model, sets, np.array([1, 0]), 0.5, 1e-9, 16, changed) == 2
    assert changed.all()
    return model, sets


def test_sets_by_hand() -> None:
    model, sets = by_hand()
    assert sorted(sets.of(1).tolist()) == [[0.0, 4.0], [4.0, 0.0]]
    assert sorted(pair_set(model, sets, 0, 0, 0.5, 1e-9).tolist()) == [[0.0, 3.0], [2.0, 1.0]]
    # One of two ends at once: a quarter of what the other earns.
    assert sorted(pair_set(model, sets, 0, 1, 0.5, 1e-9).tolist()) == [[1.0, 1.0], [2.0, 0.0]]
    assert sorted(sets.of(0).tolist()) == [[0.0, 3.0], [2.0, 1.0]]


def test_sets_that_stay_the_same_are_not_changes() -> None:
    model, sets = by_hand()
    changed = np.ones(2, np.bool_)
    back_up(model, sets, np.array([1, 0]), 0.5, 1e-9, 16, changed)
    assert not changed.any()


def test_a_full_arena_stops_and_goes_on_after_compaction() -> None:
    model, sets = by_hand()
    small = SetTables(sets.arena[:6], sets.starts * 0, sets.sizes * 0, np.zeros(1, np.int64))
    changed = np.zeros(2, np.bool_)
    assert back_up(model, small, np.array([1, 0]), 0.5, 1e-9, 6, changed) == 1
    roomy = small.compact(20)
    assert sorted(roomy.of(1).tolist()) == [[0.0, 4.0], [4.0, 0.0]]
    assert back_up(model, roomy, np.array([0]), 0.5, 1e-9, 6, changed[1:]) == 1
    assert sorted(roomy.of(0).tolist()) == [[0.0, 3.0], [2.0, 1.0]]


def test_following_finds_the_pair_and_the_vectors_of_its_successors() -> None:
    model, sets = by_hand()
    choices = np.full(2, -1, np.int64)
    scale = np.ones(2)
    for target, action, after in [([0.0, 3.0], 0, [0.0, 4.0]), ([2.0, 0.0], 1, [4.0, 0.0])]:
        assert follow(model, sets, 0, np.array(target), scale, 0.5, choices) == action
        assert sets.of(1)[choices[0]].tolist() == after


@pytest.mark.parametrize("outcomes", [2, 4])
def test_following_combines_the_vectors_of_several_successors(outcomes: int) -> None:
    ways = range(1, outcomes + 1)
    rows = [(0, 0, [0.0, 0.0], after) for after in ways]
    rows += [(after, a, [[8.0, 0.0], [0.0, 8.0]][a], END) for after in ways for a in (0, 1)]
    model = recorded(rows)
    sets = SetTables.empty(64, 2)
    back_up(model, sets, np.array([*ways, 0]), 1.0, 1e-9, 64, np.zeros(outcomes + 1, np.bool_))
    target = np.array([8.0 / outcomes, 8.0 - 8.0 / outcomes])
    assert target.tolist() in sets.of(0).tolist()
    choices = np.full(model.successors.shape[2], -1, np.int64)
    assert follow(model, sets, 0, target, np.ones(2), 1.0, choices) == 0
    chosen = [sets.of(after)[choices[index]].tolist() for index, after in enumerate(ways)]
    assert np.mean(chosen, axis=0).tolist() == target.tolist()


@pytest.mark.parametrize("seed", [1, 3, 4, 106, 110])
def test_a_known_model_gives_the_exact_front(seed: int) -> None:
    drawn = problem(seed)
    rows = [
        (s, a, drawn.model.rewards[s, a].tolist(), int(successor))
        for s in range(drawn.model.num_states)
        for a in range(drawn.model.successors.shape[1])
        for successor, share in zip(
            drawn.model.successors[s, a], drawn.model.probabilities[s, a], strict=True
        )
        for _ in range(round(4 * share))
    ]
    model = recorded(rows, drawn.model.successors.shape[1]).with_states(drawn.model.num_states)
    sets = SetTables.empty(len(model.visits), drawn.model.num_objectives).compact(200_000)
    order = np.arange(drawn.model.num_states - 1, -1, -1)
    changed = np.ones(len(order), np.bool_)
    for _ in range(drawn.horizon):
        if changed.any():
            back_up(model, sets, order, drawn.discount, 1e-9, 256, changed)
    front = exact_front(drawn.discount, seed=seed)
    found = sets.of(drawn.model.start)
    np.testing.assert_allclose(np.unique(found.round(6), axis=0), np.unique(front.round(6), axis=0))


def test_exploration_walks_to_the_nearest_pair_that_was_never_tried() -> None:
    model = recorded([(0, 0, [0.0, 0.0], 1), (0, 1, [0.0, 0.0], 2), (1, 0, [0.0, 0.0], 0)] * 3)
    model.visits[2] = 3
    worth = np.ones((64, 2))
    planned = np.zeros((64, 2), np.int64)
    sweep(model, worth, planned, 3, 0, 9)
    assert worth[1, 1] == 1.0
    assert worth[0, 0] == pytest.approx(DISTANCE_DISCOUNT)
    actions = np.full(2, 7)
    explore(model, worth, planned, np.array([0, 1]), np.array([True, True]), np.zeros(2), actions)
    assert actions.tolist() == [0, 1]
    assert planned[1].tolist() == [0, 1]


def test_what_one_environment_tries_is_old_news_to_the_next() -> None:
    model = ModelTables.empty(3, 2)
    planned = np.zeros((64, 3), np.int64)
    actions = np.zeros(3, np.int64)
    states, uniforms = np.zeros(3, np.int64), np.full(3, 0.99)
    explore(model, np.ones((64, 3)), planned, states, np.ones(3, np.bool_), uniforms, actions)
    assert sorted(actions.tolist()) == [0, 1, 2]


def controller() -> VectorController:
    model, sets = by_hand()
    table = StateNumbers((1,), np.dtype(np.int32), max_states=9, env_id="grid-v0")
    table.learn(np.array([[5], [6]]))
    return VectorController(table, model, sets, 0.5, np.ones(2))


def test_a_policy_keeps_its_promise_and_begins_again() -> None:
    policy = VectorPolicy(controller(), np.array([2.0, 1.0]))
    rng = np.random.default_rng(0)
    actions, state = policy.act(np.array([[5], [5]]), policy.begin(2), rng=rng)
    assert actions.tolist() == [0, 0]
    state = policy.observe(state, np.zeros((2, 2)), np.array([False, True]))
    actions, state = policy.act(np.array([[6], [5]]), state, rng=rng)
    assert actions.tolist() == [0, 0]
    other = VectorPolicy(policy.controller, np.array([0.0, 3.0]))
    _, state = other.act(np.array([[5]]), other.begin(1), rng=rng)
    actions, _ = other.act(np.array([[6]]), state, rng=rng)
    assert actions.tolist() == [1]


def test_stacked_policies_act_as_each_alone() -> None:
    shared = controller()
    policies = [VectorPolicy(shared, np.array(target)) for target in ([2.0, 1.0], [0.0, 3.0])]
    stacked = VectorPolicy.stack(policies)
    rng = np.random.default_rng(0)
    _, state = stacked.act(np.full((2, 3, 1), 5), stacked.begin(3), rng=rng)
    state = stacked.observe(state, np.zeros((2, 3, 2)), np.zeros((2, 3), np.bool_))
    actions, _ = stacked.act(np.full((2, 3, 1), 6), state, rng=rng)
    assert actions.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_state_never_met_gets_the_first_action_and_the_next_the_nearest_vector() -> None:
    policy = VectorPolicy(controller(), np.array([0.0, 3.9]))
    rng = np.random.default_rng(0)
    actions, state = policy.act(np.array([[99]]), policy.begin(1), rng=rng)
    assert actions.tolist() == [0]
    actions, _ = policy.act(np.array([[6]]), state, rng=rng)
    assert actions.tolist() == [1]
