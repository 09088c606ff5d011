from __future__ import annotations

import core_checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morl.compositional import core_of, enumerate_graph
from morl.envs import EnvArgumentError, make_task, make_vec
from morl.envs.n_grams import SETS, NGramsCore, Pieces
from morl.envs.strings import levenshtein
from morl.indicators import hypervolume, r2
from morl.pareto import nondominated
from morl.preferences import lattice

BIGRAMS = (
    "(18,0,0) (17,2,2) (16,4,4) (15,6,6) (14,8,8) (13,10,10) (12,12,11) (12,11,12) (11,12,12) "
    "(10,10,13) (10,13,10) (8,14,8) (8,8,14) (6,15,6) (6,6,15) (4,16,4) (4,4,16) (2,17,2) "
    "(2,2,17) (0,18,0) (0,0,18)"
)


def core(**arguments) -> NGramsCore:
    return NGramsCore(Pieces.checked(**arguments))


TINY = {"ngrams": ["AB", "BC", "C"], "alphabet": "ABCD", "min_length": 3, "max_length": 5}


def counts(string: str, pieces: tuple[str, ...]) -> list[int]:
    """Overlapping occurrences, one place after the other."""
    places = range(len(string))
    return [sum(string.startswith(piece, place) for place in places) for piece in pieces]


# Exact fronts


def test_the_front_of_three_bigrams_is_the_known_one():
    front = core_of(make_task("n-grams-v0")).reference_front() * 18
    expected = {tuple(map(int, point[1:-1].split(","))) for point in BIGRAMS.split()}
    assert len(expected) == 21
    assert {tuple(point) for point in front.round().astype(int).tolist()} == expected


@pytest.mark.parametrize(
    ("name", "count", "volume"),
    [
        ("bigrams-2", 13, 0.629630),
        ("bigrams-3", 21, 0.409294),
        ("bigrams-4", 309, 0.106186),
        ("unigrams-2", 19, 0.472222),
        ("unigrams-3", 190, 0.139918),
        ("unigrams-4", 1330, 0.029150),
    ],
)
def test_fronts_have_their_sizes_and_hypervolumes(name, count, volume):
    spec = make_task("n-grams-v0", kwargs={"ngrams": name}).spec
    front = spec.known_front.points(1.0)
    assert len(front) == count
    assert spec.anchors["exact"] == pytest.approx(volume, abs=1e-6)
    assert hypervolume(front, spec.reference_point).value == pytest.approx(volume, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "divisions", "distance"),
    [
        ("bigrams-2", 49, 0.13220),
        ("bigrams-3", 49, 0.13967),
        ("unigrams-2", 49, 0.16780),
        ("unigrams-3", 49, 0.18607),
        ("unigrams-4", 19, 0.18327),
    ],
)
def test_fronts_have_their_distances_from_utopia(name, divisions, distance):
    front = core(ngrams=name).reference_front()
    number = front.shape[1]
    found = r2(front, np.ones(number), lattice(number, divisions))
    assert found == pytest.approx(distance, abs=1e-5)


pieces = st.lists(st.text("AB", min_size=1, max_size=3), min_size=1, max_size=3, unique=True)


@settings(max_examples=25, deadline=None)
@given(pieces, st.integers(1, 6), st.integers(0, 2), st.sampled_from([1.0, 0.9]))
def test_fronts_are_those_of_all_strings(ngrams, shortest, extra, discount):
    made = core(
        ngrams=ngrams, alphabet="ABX", min_length=shortest, max_length=shortest + extra, divisor=1
    )
    objects = enumerate_graph(made).objects
    lengths = made.lengths(objects)
    steps = lengths + (lengths < made.max_length)
    values = made.values(objects) * discount ** (steps[:, None] - 1)
    expected = np.unique(values[nondominated(values)].round(9), axis=0)
    spec = make_task(
        "n-grams-v0",
        kwargs={
            "ngrams": ngrams, "alphabet": "ABX", "min_length": shortest,
            "max_length": shortest + extra, "divisor": 1,
        },
    ).spec  # fmt: skip
    found = np.unique(spec.known_front.points(discount).round(9), axis=0)
    np.testing.assert_allclose(found, expected)


# The core


@pytest.mark.parametrize("arguments", [TINY, {**TINY, "min_length": 1, "max_length": 3}])
def test_graph_and_importance_identity(arguments):
    made = core(**arguments)
    core_checks.check_graph(made)
    core_checks.check_importance_identity(made, walks=4000, tolerance=0.05)


def test_codes_ways_distances_and_genomes():
    for made in (core(**TINY), core()):
        core_checks.check_codes(made)
        core_checks.check_distances(made)
        core_checks.check_genomes(made)


def test_the_number_of_strings_is_that_of_the_alphabet():
    graph = enumerate_graph(core(**TINY))
    assert len(graph.objects) == 4**3 + 4**4 + 4**5


@given(st.text("ABCD", min_size=3, max_size=5))
def test_pieces_are_counted_with_overlaps(string):
    made = core(**{**TINY, "ngrams": ["AB", "AA", "BAB", "C"], "divisor": 2.0})
    expected = np.array(counts(string, made.task.ngrams)) / 2.0
    np.testing.assert_allclose(made.values(made.parse([string]))[0], expected)


def test_published_lengths_and_divisors():
    made = core()
    assert (made.min_length, made.max_length, made.horizon) == (33, 36, 36)
    assert made.num_actions == 21
    assert made.vocabulary == 20
    values = made.values(made.parse(["AV" * 18, "ACACA" * 7, "CAV" * 12]))
    np.testing.assert_allclose(values * 18, [[18, 0, 0], [0, 0, 14], [12, 11, 12]])
    single = core(ngrams="unigrams-2")
    assert (single.min_length, single.max_length) == (17, 18)


def test_a_string_stops_when_it_is_long_enough():
    made = core(**TINY)
    masks = made.mask(np.array([[0, 1, -1, -1, -1], [0, 1, 2, -1, -1]]))
    assert masks.tolist() == [[True] * 4 + [False], [True] * 5]


@given(st.text("AB", max_size=7), st.text("AB", max_size=7))
def test_the_distance_is_the_least_number_of_edits(first, second):
    def recursive(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        if a[0] == b[0]:
            return recursive(a[1:], b[1:])
        return 1 + min(recursive(a[1:], b), recursive(a, b[1:]), recursive(a[1:], b[1:]))

    rows = np.full((2, 8), -1)
    for row, string in zip(rows, (first, second), strict=True):
        row[: len(string)] = ["AB".index(letter) for letter in string]
    assert levenshtein(rows[:1], rows[1:])[0, 0] == recursive(first, second)


def test_a_batch_pays_for_finished_strings():
    batch = make_vec("n-grams-v0", 1, **TINY)
    batch.reset()
    for letter in "ABC":
        _, rewards, terminated, _, infos = batch.step(np.array(["ABCD".index(letter)]))
        assert not rewards.any()
    assert infos["action_mask"].all()
    _, rewards, terminated, _, _ = batch.step(np.array([4]))
    assert terminated.all()
    np.testing.assert_allclose(rewards * 18, [[1, 1, 1]])


def test_a_stop_that_comes_too_early_writes_a_letter():
    batch = make_vec("n-grams-v0", 1, **TINY)
    batch.reset()
    batch.step(np.array([4]))
    assert batch.core.describe(batch.states) == ["A"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ngrams": ["AV", "VC", "CA", "AB"]}, "'AB' can never occur.*bigrams-4"),
        ({"ngrams": "trigrams"}, "bigrams-2, bigrams-3"),
        ({"ngrams": []}, "must be different"),
        ({"ngrams": ["AV", "AV"]}, "must be different"),
        ({"ngrams": [""]}, "can never occur"),
        ({"divisor": 0}, "divisor must be positive"),
        ({"min_length": 40}, "lengths must be positive and in order"),
        ({"alphabet": "AVCA"}, "letters must differ"),
    ],
)
def test_unusable_settings_are_named(arguments, message):
    with pytest.raises(EnvArgumentError, match=f"n-grams-v0.*{message}"):
        make_vec("n-grams-v0", 1, **arguments)


def test_strings_that_are_none_are_refused():
    with pytest.raises(EnvArgumentError, match="'AXB' is not a string of 3 to 5 letters of ABCD"):
        core(**TINY).parse(["AXB"])


def test_no_published_set_holds_a_piece_that_cannot_occur():
    for name in SETS:
        assert core(ngrams=name).reference_front().max(axis=0).min() > 0.9
