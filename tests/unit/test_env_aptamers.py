from __future__ import annotations

import sys

import core_checks
import numpy as np
import pytest

from morl.envs import EnvArgumentError, make_task, make_vec
from morl.envs.aptamers import AptamersCore, Strands, count_pins, folder
from morl.registry import ENVS
from morl.testing import check_env

HAIRPIN = "G" * 13 + "TTTT" + "C" * 13


def core(**arguments) -> AptamersCore:
    """A core whose folds are made up: pairs of G at both ends, one kcal/mol each."""

    def fold(strands):
        folds = []
        for bases in strands:
            pairs = min(len(bases) - len(bases.lstrip("G")), len(bases) - len(bases.rstrip("G")))
            inner = "." * (len(bases) - 2 * pairs)
            folds.append(("(" * pairs + inner + ")" * pairs, -1.0 * pairs))
        return folds

    return AptamersCore(Strands.checked(**arguments), fold=fold)


TINY = {"min_length": 3, "max_length": 4}


@pytest.mark.parametrize(
    ("structure", "pins"),
    [("....", 0), ("((...))", 1), ("((..))..(..)", 2), ("((..)(..))", 1), ("()()()", 3)],
)
def test_pins_close_completely(structure, pins):
    assert count_pins(structure) == pins


def test_objectives_are_those_of_the_fold():
    made = core(objectives=["energy", "pins", "pairs", "shortness"], min_length=5, max_length=10)
    values = made.values(made.parse(["GGAAAAGG", "ATATATA"]))
    np.testing.assert_allclose(values[0], [2 / 60, 1 / 8, 2 / 16, 5 / 8])
    np.testing.assert_allclose(values[1], [0, 0, 0, 5 / 7])
    assert not np.signbit(values).any()


def test_every_strand_is_folded_once():
    made = core(**TINY)
    strands = made.parse(["ACT", "ACTG", "ACT"])
    made.evaluate(strands)
    made.evaluate(strands)
    assert (made.evaluations, made.objective_calls) == (6, 2)


def test_graph_and_importance_identity():
    core_checks.check_graph(core(**TINY))
    core_checks.check_importance_identity(core(**TINY), walks=3000, tolerance=0.02)
    core_checks.check_codes(core())
    core_checks.check_distances(core())
    core_checks.check_genomes(core())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ["energy", "beauty"]}, "energy, pins, pairs, shortness"),
        ({"objectives": "energy"}, "different names"),
        ({"min_length": 61}, "lengths must be positive and in order"),
    ],
)
def test_unusable_settings_are_named(arguments, message):
    with pytest.raises(EnvArgumentError, match=f"dna-aptamers-v0.*{message}"):
        core(**arguments)


def test_without_viennarna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "RNA", None)
    with pytest.raises(EnvArgumentError, match=r"pip install 'morl-suite\[dna\]'"):
        folder()
    entry = ENVS["dna-aptamers-v0"]
    monkeypatch.setattr("morl.registry._importable", lambda name: False)
    assert "morl-suite[dna]" in entry.available()
    with pytest.raises(EnvArgumentError, match=r"dna-aptamers-v0 needs RNA.*morl-suite\[dna\]"):
        make_task("dna-aptamers-v0")


def test_viennarna_folds_a_hairpin():
    pytest.importorskip("RNA")
    ((structure, energy),) = folder()([HAIRPIN])
    assert structure == "(" * 13 + "...." + ")" * 13
    assert -30.0 < energy < -15.0


def test_folds_are_of_dna_whatever_was_loaded_before():
    rna = pytest.importorskip("RNA")
    before = folder()([HAIRPIN])
    rna.params_load_RNA_Turner2004()
    assert rna.fold(HAIRPIN)[1] != pytest.approx(before[0][1], abs=0.1)
    assert folder()([HAIRPIN]) == before


def test_a_strand_that_folds_scores_in_the_environment():
    pytest.importorskip("RNA")
    batch = make_vec("dna-aptamers-v0", 1)
    batch.reset()
    for base in HAIRPIN:
        _, rewards, _, _, _ = batch.step(np.array(["ACTG".index(base)]))
        assert not rewards.any()
    _, rewards, terminated, _, _ = batch.step(np.array([4]))
    assert terminated.all()
    assert rewards[0, 0] > 0.25
    np.testing.assert_allclose(rewards[0, 1:], [1 / 8, 13 / 16])


def test_shorter_strands_keep_the_contract():
    pytest.importorskip("RNA")
    task = make_task("dna-aptamers-v0", kwargs={"min_length": 5, "max_length": 8})
    check_env(task, steps=40).raise_for_failures()
