from __future__ import annotations

import itertools

import core_checks
import gymnasium
import numpy as np
import pytest

from morl.compositional import core_of, enumerate_graph
from morl.envs import EnvArgumentError, NotResetError, make_task, make_vec
from morl.envs.compositional import IllegalActionError
from morl.envs.hypergrid import FUNCTIONS, Grid, HypergridCore, beale_op_gfn, branin, currin
from morl.indicators import hypervolume
from morl.testing import check_env

NESTED = ("branin", "currin", "shubert", "sphere", "beale")

# Number of points and hypervolume from the origin, by enumeration of the published grids.
OP_GFN = {
    ("branin", "currin"): (36, 0.982144),
    ("branin", "shubert"): (14, 0.883845),
    ("branin", "beale"): (44, 0.806667),
    ("currin", "shubert"): (32, 0.734926),
    ("currin", "beale"): (8, 0.897938),
    ("shubert", "beale"): (22, 0.685916),
    ("branin", "currin", "shubert"): (104, 0.682080),
    ("branin", "currin", "beale"): (229, 0.763208),
    ("branin", "shubert", "beale"): (147, 0.547529),
    ("currin", "shubert", "beale"): (127, 0.532578),
    ("branin", "currin", "shubert", "beale"): (372, 0.449265),
}
MOGFN = {
    (2, 32): (36, 0.982144),
    (3, 32): (88, 0.854484),
    (4, 32): (147, 0.766658),
    (5, 32): (441, 0.419684),
    (2, 64): (73, 0.983394),
    (3, 64): (249, 0.864954),
    (4, 64): (513, 0.779353),
    (5, 64): (1601, 0.440848),
}


def core(**settings) -> HypergridCore:
    return HypergridCore(Grid.checked(**settings))


SMALL = (
    {"height": 6},
    {"height": 5, "edge": "stay"},
    {"height": 3, "dimensions": 4},
    {"height": 3, "dimensions": 4, "edge": "stay"},
)


@pytest.mark.parametrize("settings", SMALL)
def test_the_mean_importance_weight_is_the_number_of_objects(settings):
    core_checks.check_importance_identity(core(**settings), walks=20_000, tolerance=0.02)


@pytest.mark.parametrize("settings", SMALL)
def test_forwards_and_backwards_are_one_graph(settings):
    core_checks.check_graph(core(**settings))


@pytest.mark.parametrize("settings", [*SMALL, {}])
def test_codes_ways_distances_and_genomes(settings):
    made = core(**settings)
    core_checks.check_codes(made)
    core_checks.check_distances(made)
    core_checks.check_genomes(made)


@pytest.mark.parametrize("settings", SMALL)
def test_cells_that_are_listed_are_those_that_walks_reach(settings):
    made = core(**settings)
    walked = enumerate_graph(made).objects
    assert sorted(made.grid.finishable().tolist()) == sorted(walked.tolist())


def test_the_longest_walk_takes_as_long_as_the_horizon():
    for settings in SMALL:
        made = core(**settings)
        steps = made.grid.finishable().sum(axis=1) + ~made.ends(made.grid.finishable())
        assert steps.max() == made.horizon == made.grid.horizon


def test_there_are_as_many_objects_as_published():
    assert len(core().grid.finishable()) == 1023
    assert len(core(height=64).grid.finishable()) == 4095


@pytest.mark.parametrize("objectives", OP_GFN)
def test_fronts_of_op_gfn_are_exact(objectives):
    front = core(objectives=objectives).reference_front()
    count, volume = OP_GFN[objectives]
    assert len(front) == count
    assert hypervolume(front, [0.0] * len(objectives)).value == pytest.approx(volume, abs=1e-6)


@pytest.mark.parametrize(("number", "height"), MOGFN)
def test_fronts_of_mogfn_are_exact(number, height):
    task = make_task(
        "hypergrid-v0",
        kwargs={"objectives": NESTED[:number], "height": height, "variant": "mogfn"},
    )
    count, volume = MOGFN[number, height]
    assert len(task.spec.known_front.points(1.0)) == count
    assert task.spec.anchors["exact"] == pytest.approx(volume, abs=1e-6)
    assert task.spec.num_objectives == number


def test_discounts_count_the_steps_of_the_walk():
    made = make_task("hypergrid-v0", kwargs={"height": 4}, discount=0.5)
    # By hand: the return of every cell, discounted from the first step.
    grid = Grid.checked(height=4)
    cells = np.array([cell for cell in itertools.product(range(4), repeat=2) if cell != (3, 3)])
    steps = cells.sum(axis=1) + (cells.max(axis=1) < 3)
    returns = grid.values(cells) * 0.5 ** (steps[:, None] - 1)
    front = made.spec.known_front.points(0.5)
    assert all((np.isclose(returns, point).all(axis=1)).any() for point in front)
    assert not any(
        (returns >= point).all(axis=1).any() and (returns > point + 1e-12).all(axis=1).any()
        for point in front
    )


def test_functions_have_their_known_values():
    # Branin's three minima are 0.397887; here that is 1 - (0.397887 - ...) / 308.13.
    x, y = np.array([np.pi, -np.pi, 9.42478]), np.array([2.275, 12.275, 2.475])
    values = branin((x + 5) / 7.5 - 1, y / 7.5 - 1)
    np.testing.assert_allclose(values, 1 - 0.397887 / 308.13, atol=1e-7)
    assert currin(np.array([1.0]), np.array([-1.0]))[0] == pytest.approx(6352 / 624 / 13.77)
    assert beale_op_gfn(np.array([0.0]), np.array([0.0]))[0] == pytest.approx(
        (1.5**2 + 2.25**2 + 2.625**2) / 38.8
    )


@pytest.mark.parametrize("variant", FUNCTIONS)
def test_all_values_lie_within_the_declared_bounds(variant):
    made = core(objectives=NESTED, height=128, variant=variant)
    values = made.values(made.grid.finishable())
    assert (values >= made.nadir).all()
    assert (values <= made.utopia).all()
    assert (values.max(axis=0) > 0.8).all()


def test_more_dimensions_take_the_mean_over_pairs():
    made = core(dimensions=4, height=5)
    pair = core(height=5)
    cells = np.array([[1, 2, 3, 0], [4, 0, 2, 2]])
    expected = (pair.values(cells[:, :2]) + pair.values(cells[:, 2:])) / 2
    np.testing.assert_allclose(made.values(cells), expected)


def test_a_grid_too_large_to_list_has_no_known_front():
    task = make_task("hypergrid-v0", kwargs={"dimensions": 6})
    assert task.spec.known_front is None
    assert task.spec.anchors == {}
    assert core_of(task).reference_front() is None
    with pytest.raises(EnvArgumentError, match="too many to list"):
        core_of(task).grid.finishable()


# The view


@pytest.mark.parametrize("settings", [{}, {"edge": "stay", "height": 4}, {"dimensions": 4}])
def test_variants_keep_the_contract(settings):
    check_env(make_task("hypergrid-v0", kwargs=settings), steps=60).raise_for_failures()


def test_a_walk_pays_where_it_stops():
    batch = make_vec("hypergrid-v0", 2, height=4)
    observations, infos = batch.reset()
    assert observations.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0]] * 2
    assert infos["action_mask"].all()
    _, rewards, terminated, _, infos = batch.step(np.array([0, 2]))
    assert terminated.tolist() == [False, True]
    assert rewards[0].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(rewards[1], batch.core.values(np.array([[0, 0]]))[0])
    assert infos["final_obs"][1].tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert batch.states.tolist() == [[1, 0], [0, 0]]
    for _ in range(2):
        _, rewards, terminated, truncated, _ = batch.step(np.array([0, 0]))
    # The first has reached the far edge.
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    np.testing.assert_allclose(rewards[0], batch.core.values(np.array([[3, 0]]))[0])
    assert batch.core.evaluations == 2


def test_a_move_out_of_the_grid_is_replaced_or_refused():
    mapped = make_vec("hypergrid-v0", 1, height=2, edge="stay")
    mapped.reset()
    _, _, _, _, infos = mapped.step(np.array([0]))
    assert infos["action_mask"].tolist() == [[False, True, True]]
    mapped.step(np.array([0]))
    assert mapped.states.tolist() == [[1, 1]]
    strict = make_vec("hypergrid-v0", 1, height=2, edge="stay", illegal="error")
    strict.reset()
    strict.step(np.array([0]))
    with pytest.raises(IllegalActionError, match=r"hypergrid-v0: action 0 .*\(1, 0\).*\[1, 2\]"):
        strict.step(np.array([0]))


def test_a_step_limit_cuts_walks_off_without_pay():
    batch = make_vec("hypergrid-v0", 1, horizon=3)
    batch.reset()
    for _ in range(3):
        _, rewards, terminated, truncated, _ = batch.step(np.array([1]))
    assert (terminated.tolist(), truncated.tolist()) == ([False], [True])
    assert rewards.tolist() == [[0.0, 0.0]]


def test_the_ordinary_environment_plays_as_the_batch_does():
    single = gymnasium.make("hypergrid-v0", height=8, disable_env_checker=True).unwrapped
    batch = make_vec("hypergrid-v0", 1, height=8)
    rng = np.random.default_rng(0)
    with pytest.raises(NotResetError):
        single.step(0)
    for _ in range(20):
        first, infos = single.reset(seed=0)
        together, _ = batch.reset()
        np.testing.assert_array_equal(first, together[0])
        ended = False
        while not ended:
            action = int(rng.integers(3))
            seen, reward, ended, cut, infos = single.step(action)
            observations, rewards, terminated, _, more = batch.step(np.array([action]))
            np.testing.assert_array_equal(seen, more.get("final_obs", observations)[0])
            np.testing.assert_array_equal(reward, rewards[0])
            assert (ended, cut) == (terminated[0], False)
        assert not infos["action_mask"].any()
    single.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["branin", "rosenbrock"]}, "names among branin, currin"),
        ({"objectives": "branin"}, "names among"),
        ({"objectives": []}, "must be different"),
        ({"objectives": ["branin", "branin"]}, "must be different"),
        ({"variant": "hn-gfn"}, "op-gfn, mogfn"),
        ({"edge": "torus"}, "end, stay"),
        ({"height": 1}, "height must be at least 2"),
        ({"dimensions": 3}, "dimensions must be even"),
        ({"illegal": "ignore"}, "remap, error"),
        ({"size": 3}, "it takes copy, dimensions"),
    ],
)
def test_unusable_settings_are_named(settings, message):
    with pytest.raises(EnvArgumentError, match=f"hypergrid-v0.*{message}"):
        make_vec("hypergrid-v0", 1, **settings)
