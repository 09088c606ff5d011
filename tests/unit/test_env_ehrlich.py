from __future__ import annotations

import core_checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import morl.agents.mogfn_pc
from morl.compositional import core_of, enumerate_graph, random_walks
from morl.envs import EnvArgumentError, make_task, make_vec
from morl.envs.ehrlich import Ehrlich, EhrlichCore, Instance, motif_qualities
from morl.envs.vector import ActionError
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import AGENTS
from morl.testing import check_env

TINY = {"num_letters": 4, "length": 6, "num_motifs": 2, "motif_length": 3, "banned": 1}


def core(**arguments) -> EhrlichCore:
    return EhrlichCore(Ehrlich.checked(**arguments))


def by_hand(quantization: int) -> EhrlichCore:
    """Letters A, R, N, D; motifs A_RND and DD_AA with their gaps; N must not follow A."""
    allowed = np.ones((4, 4), np.bool_)
    allowed[0, 2] = False
    instance = Instance(
        allowed=allowed,
        motifs=np.array([[[0, 1, 2, 3], [3, 3, 0, 0]]]),
        offsets=np.array([[[0, 2, 3, 4], [0, 1, 3, 4]]]),
    )
    task = Ehrlich.checked(
        num_objectives=1, num_letters=4, length=10, motif_length=4, quantization=quantization
    )
    return EhrlichCore(task, instance=instance)


@pytest.mark.parametrize(
    ("string", "first", "second"),
    [
        ("AARNDDDRAA", 4, 4),  # A_RND from the first letter, DD_AA from the sixth
        ("AARNADDRAA", 3, 4),  # the D behind RN is missing
        ("RARRNDDDRA", 4, 3),  # A_RND from the second letter, of DD_AA one A is missing
        ("RRRRRRRRRR", 1, 0),
        ("DDDDDDDDDD", 1, 2),
        ("AAAAAAAAAA", 1, 2),
        ("NDDDDDDDDA", 1, 3),  # the last A fits the motif's end
    ],
)
def test_values_are_those_computed_by_hand(string, first, second):
    made = by_hand(4)
    assert made.values(made.parse([string]))[0, 0] == pytest.approx(first / 4 * second / 4)
    # In steps of a half, one letter counts for nothing and three for two.
    coarse = by_hand(2)
    expected = (first // 2) / 2 * ((second // 2) / 2)
    assert coarse.values(coarse.parse([string]))[0, 0] == pytest.approx(expected)
    # In one step, only whole motifs count.
    assert by_hand(1).values(made.parse([string]))[0, 0] == float(first == second == 4)


def test_banned_pairs_cannot_be_written():
    made = by_hand(4)
    states = made.initial(3)
    assert made.mask(states).tolist() == [[True] * 4 + [False]] * 3
    states[1, :2] = [1, 0]
    states[2, :2] = [0, 1]
    assert made.mask(states)[1].tolist() == [True, True, False, True, False]
    assert made.mask(states)[2].tolist() == [True] * 4 + [False]
    assert made.feasible(made.parse(["AARNDDDRAA", "RANRRRRRRR"])).tolist() == [True, False]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_motifs_are_found_wherever_they_stand(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    strings = rng.integers(0, 3, (5, 9))
    motifs = rng.integers(0, 3, (2, 4))
    gaps = rng.integers(1, 3, (2, 3))
    offsets = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(gaps, axis=1)], axis=1)
    quantization = data.draw(st.sampled_from([1, 2, 4]))
    found = motif_qualities(strings, motifs, offsets, quantization)
    for string, row in zip(strings, found, strict=True):
        for motif, places, value in zip(motifs, offsets, row, strict=True):
            counts = [
                (string[start + places] == motif).sum() for start in range(9 - int(places[-1]))
            ]
            assert value == np.floor(max(counts) * quantization / 4) / quantization


settings_of_tasks = st.fixed_dictionaries(
    {
        "num_objectives": st.integers(1, 3),
        "num_letters": st.integers(4, 20),
        "num_motifs": st.integers(1, 4),
        "motif_length": st.integers(2, 4),
        "instance": st.integers(0, 10**6),
    }
)


@settings(max_examples=40, deadline=None)
@given(settings_of_tasks, st.integers(0, 20))
def test_every_objective_alone_can_be_perfect(arguments, room):
    length = arguments["num_motifs"] * arguments["motif_length"] + room
    made = core(**arguments, length=length)
    for objective in range(made.num_objectives):
        best = made.optimum(objective)
        assert best.shape == (1, length)
        assert made.feasible(best).all()
        assert made.values(best)[0, objective] == 1.0


def test_instances_are_drawn_by_their_seed():
    made, again, other = (core(instance=seed).instance for seed in (3, 3, 4))
    np.testing.assert_array_equal(made.motifs, again.motifs)
    np.testing.assert_array_equal(made.offsets, again.offsets)
    np.testing.assert_array_equal(made.allowed, again.allowed)
    assert (made.motifs != other.motifs).any()
    assert (made.allowed.sum(axis=1) == 16).all()  # a fifth of twenty is banned
    assert made.allowed.diagonal().all()
    assert (made.offsets[..., -1] < 16).all()
    # More objectives leave the first ones as they are.
    np.testing.assert_array_equal(
        core(instance=3, num_objectives=5).instance.motifs[:2], made.motifs
    )


@pytest.mark.parametrize("seed", range(5))
def test_all_that_can_be_written_is_feasible(seed):
    made = core(instance=seed)
    strings = random_walks(made, 200, np.random.default_rng(seed)).objects
    assert made.feasible(strings).all()
    assert (made.lengths(strings) == 32).all()
    values = made.values(strings)
    assert values.min() >= 0.0
    assert values.max() < 1.0  # chance finds no perfect string


# The core


def test_graph_and_importance_identity():
    made = core(**TINY)
    core_checks.check_graph(made)
    core_checks.check_importance_identity(made, walks=3000, tolerance=0.02)


def test_codes_ways_distances_and_genomes():
    for made in (core(**TINY), core()):
        core_checks.check_codes(made)
        core_checks.check_distances(made)
        core_checks.check_genomes(made)


@pytest.mark.parametrize("instance", range(3))
def test_small_fronts_are_those_of_all_strings(instance):
    made = core(**TINY, instance=instance)
    objects = enumerate_graph(made).objects
    assert len(objects) == 4 * 3**5  # each letter bans one
    values = made.values(objects)
    expected = np.unique(values[nondominated(values)], axis=0)
    np.testing.assert_array_equal(np.unique(made.reference_front(), axis=0), expected)
    assert (expected.max(axis=0) == 1.0).all()
    spec = make_task("ehrlich-v0", kwargs={**TINY, "instance": instance}).spec
    shrunk = np.unique(spec.known_front.points(0.5), axis=0)
    np.testing.assert_allclose(shrunk, expected * 0.5**5)
    assert spec.anchors["exact"] == pytest.approx(hypervolume(expected, (0.0, 0.0)).value)


def test_of_large_tasks_no_front_is_claimed():
    spec = make_task("ehrlich-v0").spec
    assert spec.known_front is None
    made = core()
    assert made.reference_front() is None
    best = np.concatenate([made.optimum(0), made.optimum(1)])
    volume = spec.anchors["one string perfect in each objective"]
    assert volume == pytest.approx(hypervolume(made.values(best), (0.0, 0.0)).value)
    assert 0.0 < volume < 1.0


def test_a_batch_writes_allowed_letters_alone():
    check_env("ehrlich-v0").raise_for_failures()
    batch = make_vec("ehrlich-v0", 64, **TINY)
    batch.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(6):
        _, rewards, terminated, _, _ = batch.step(rng.integers(0, 5, 64))
        assert terminated.all() == (step == 5)
        assert terminated.any() == (step == 5)
        if step < 5:
            assert not rewards.any()
            written = batch.states[:, : step + 1]
            assert batch.core.instance.allowed[written[:, :-1], written[:, 1:]].all()
    assert rewards.any()


def test_an_illegal_letter_can_be_an_error():
    batch = make_vec("ehrlich-v0", 1, **TINY, illegal="error")
    batch.reset()
    with pytest.raises(ActionError, match=r"action 4 .* is not legal"):
        batch.step(np.array([4]))  # the stop


def test_a_sampler_learns_on_it():
    task = make_task("ehrlich-v0", kwargs=TINY)
    config = morl.agents.mogfn_pc.Config(batch=16, width=16, layers=1, heads=2, hidden=(16,))
    agent = AGENTS["mogfn_pc"].make(task, config, total_steps=400, seed=0)
    agent.learn(400)
    made = core_of(task)
    assert len(agent.archive)
    assert made.feasible(np.stack(agent.archive.items)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_objectives": 0}, "num_objectives must be 1 to 6, got 0"),
        ({"num_letters": 21}, "num_letters must be 3 to 20, got 21"),
        ({"num_motifs": 0}, "num_motifs must be positive"),
        ({"motif_length": 1}, "motif_length must be at least 2"),
        ({"length": 7}, "length must hold 2 motifs of 4 letters, got 7"),
        ({"quantization": 3}, "quantization must divide motif_length 4, got 3"),
        ({"banned": 19}, "banned must be 0 to 18 of 20 letters, got 19"),
        ({"num_letters": 12, "banned": 10}, "lower banned"),
        ({"illegal": "ignore"}, "illegal must be one of"),
    ],
)
def test_unusable_settings_are_named(arguments, message):
    with pytest.raises(EnvArgumentError, match=f"ehrlich-v0.*{message}"):
        make_vec("ehrlich-v0", 1, **arguments)
