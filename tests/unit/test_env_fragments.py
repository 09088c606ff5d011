from __future__ import annotations

import sys

import core_checks
import numpy as np
import pytest

from morl.envs import EnvArgumentError, make_task

Chem = pytest.importorskip("rdkit.Chem")

from morl.compositional import enumerate_graph, follow  # noqa: E402
from morl.envs.fragments import (  # noqa: E402
    Assembly,
    Chemistry,
    Fragment,
    FragmentsCore,
    load_fragments,
)

FEW = [
    Fragment("Br", (0,)),
    Fragment("C1CCNC1", (0, 2, 3)),
    Fragment("c1cc[nH]c1", (0, 2)),
]


def core(*, fragments=FEW, **arguments) -> FragmentsCore:
    return FragmentsCore(Assembly.checked(**arguments), fragments=fragments)


def built(made: FragmentsCore, *actions: int) -> str:
    """SMILES of what actions build, the stop added."""
    plan = [*actions, made.stop_action]
    walks = follow(made, 1, lambda _, rows, time: np.array([plan[time]]))
    return made.describe(walks.objects)[0]


def join(made: FragmentsCore, *, block: int, stem: int, fragment: int, own: int = 0) -> int:
    """The action that joins a fragment to a block."""
    sizes = [len(one.stems) for one in made.fragments]
    choice = sum(sizes[:fragment]) + own
    return (block * max(sizes) + stem) * sum(sizes) + choice


def test_the_fragments_are_the_published_ones():
    fragments = load_fragments()
    assert len(fragments) == 72
    assert sum(len(one.stems) for one in fragments) == 127
    assert max(len(one.stems) for one in fragments) == 6
    assert len(load_fragments("two-stem")) == 19


def test_every_stem_takes_a_bond():
    """Each fragment by each stem, on a benzene ring: valid, and the same when it is read again."""
    fragments = [Fragment("c1ccccc1", (0,)), *load_fragments()]
    made = core(fragments=fragments, max_blocks=2)
    for index, fragment in enumerate(fragments):
        for own in range(len(fragment.stems)):
            action = join(made, block=0, stem=0, fragment=index, own=own)
            smiles = built(made, 0, action)
            molecule = Chem.MolFromSmiles(smiles)
            assert molecule is not None
            assert Chem.MolToSmiles(molecule) == smiles
            alone = Chem.MolFromSmiles(fragment.smiles).GetNumAtoms()
            assert molecule.GetNumAtoms() == 6 + alone
            assert len(Chem.GetMolFrags(molecule)) == 1


def test_bonds_join_the_atoms_that_were_asked_for():
    made = core()
    ring = 1 + 0  # the choice of the second fragment's first stem
    assert built(made, ring) == Chem.CanonSmiles("C1CCNC1")
    # A bromine on the third stem, which is atom 3: the nitrogen.
    assert built(made, ring, join(made, block=0, stem=2, fragment=0)) == Chem.CanonSmiles(
        "BrN1CCCC1"
    )
    # A pyrrole by its atom 2, which is next to the nitrogen, on atom 0, which is not.
    action = join(made, block=0, stem=0, fragment=2, own=1)
    assert built(made, ring, action) == Chem.CanonSmiles("C1CC(c2ccc[nH]2)CN1")


def test_the_order_of_joining_is_forgotten():
    made = core()
    bromine = join(made, block=0, stem=2, fragment=0)
    pyrrole = join(made, block=0, stem=0, fragment=2)
    ways = np.array(
        [[1, bromine, pyrrole, made.stop_action], [1, pyrrole, bromine, made.stop_action]]
    )
    walks = follow(made, 2, lambda _, rows, time: ways[rows, time])
    np.testing.assert_array_equal(walks.objects[0], walks.objects[1])
    assert made.num_parents(walks.objects).tolist() == [2, 2]


def test_a_stem_takes_one_bond_only():
    made = core()
    states = made.initial(1)
    states, _ = made.step(states, np.array([1]))
    action = join(made, block=0, stem=0, fragment=0)
    assert made.mask(states)[0, action]
    states, _ = made.step(states, np.array([action]))
    assert not made.mask(states)[0, action]
    # The bromine has no stem left.
    later = [join(made, block=1, stem=0, fragment=index) for index in range(3)]
    assert not made.mask(states)[0, later].any()
    assert made.mask(states)[0, made.stop_action]


def test_forwards_and_backwards_are_one_graph():
    core_checks.check_graph(core(max_blocks=3))


def test_genomes_say_how_many_blocks_there_are():
    made = core(max_blocks=4)
    sizes = made.genome_sizes()
    genomes = np.random.default_rng(0).integers(sizes, size=(300, len(sizes)))
    blocks = (made.from_genomes(genomes).reshape(300, 4, -1)[:, :, 0] >= 0).sum(axis=1)
    assert (blocks <= genomes[:, 0] + 1).all()
    # Fewer only where no stem was left.
    assert (blocks == genomes[:, 0] + 1).mean() > 0.6


def test_the_mean_importance_weight_is_the_number_of_trees():
    core_checks.check_importance_identity(core(max_blocks=3), walks=20_000, tolerance=0.02)


def test_one_molecule_is_several_trees():
    made = core(max_blocks=3)
    objects = enumerate_graph(made).objects
    assert len({row.tobytes() for row in objects}) == len(objects)
    assert len(set(made.keys(objects))) < len(objects) / 2


@pytest.mark.parametrize("fragments", ["two-stem", "all"])
def test_codes_ways_distances_and_genomes(fragments):
    made = FragmentsCore(Assembly.checked(fragments=fragments))
    core_checks.check_codes(made, count=20)
    core_checks.check_distances(made)
    core_checks.check_genomes(made)


def test_objectives_of_aspirin():
    chemistry = Chemistry(FEW)
    names = ("qed", "sa", "mw", "logp")
    qed, sa, mw, logp = chemistry.properties("CC(=O)Oc1ccccc1C(=O)O", names)
    # RDKit: QED 0.5501, SA score 1.58, 180.16 g/mol, logP 1.3101.
    assert qed == pytest.approx(0.5501, abs=1e-3)
    assert sa == pytest.approx((10 - 1.58) / 9, abs=2e-3)
    assert mw == 1.0
    assert logp == pytest.approx(np.exp(-((1.3101 - 2.5) ** 2) / 2), abs=1e-4)
    (heavy,) = chemistry.properties("C" * 50, ("mw",))  # 703.4 g/mol
    assert heavy == pytest.approx((300 - 703.4) / 700 + 1, abs=1e-3)


def test_distances_are_one_minus_similarity():
    apart = Chemistry(FEW).distances(["c1ccccc1", "CCO"], ["c1ccccc1", "CCN"])
    assert apart[0, 0] == 0.0
    assert apart[1, 0] == 1.0
    assert 0.0 < apart[1, 1] < 1.0


def test_a_molecule_is_evaluated_once_whatever_its_tree():
    made = core(max_blocks=2)
    objects = enumerate_graph(made).objects
    made.evaluate(objects)
    assert made.evaluations == len(objects)
    assert made.objective_calls == len(set(made.keys(objects)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ["qed", "seh"]}, "qed, sa, mw, logp"),
        ({"objectives": "qed"}, "different names"),
        ({"fragments": "none"}, "two-stem, all"),
        ({"max_blocks": 1}, "from 2 to 9"),
    ],
)
def test_unusable_settings_are_named(arguments, message):
    with pytest.raises(EnvArgumentError, match=f"fragments-v0.*{message}"):
        make_task("fragments-v0", kwargs=arguments)


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(EnvArgumentError, match=r"needs RDKit: pip install 'morl-suite\[mol\]'"):
        Chemistry(FEW)
