"""Fragments: join pieces of molecules, atom to atom, to trees that look like drugs.

A smaller form of the task of Jain et al., "Multi-Objective GFlowNets" (ICML 2023): their fragments
and three of their objectives, drug-likeness (QED), synthetic accessibility (SA) and molecular
weight, with logP in place of a trained proxy. What differs: pieces are joined as they are added,
one action each, where the released code adds a piece first and chooses its atoms later; and by
default there are five pieces of the 19 fragments with exactly two atoms to join.

A state is a rooted tree whose edges name the joined atoms. It is kept in one canonical order, so
that the order of joining is forgotten, and a tree has as many parents as leaves. One molecule can
be several trees (any piece can be the root), so fewer molecules than objects exist.
"""

from __future__ import annotations

import csv
import functools
import importlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.compositional import Actions, CompositionalCore, Mask, States, follow, ranked
from morl.envs.compositional import CompositionalEnv, CompositionalVectorEnv, settings_among
from morl.envs.vector import EnvArgumentError
from morl.registry import register_env
from morl.types import EnvSpec, Front, Objective

ID = "fragments-v0"

SETS = ("two-stem", "all")
"""Fragments with exactly two atoms to join, or all 72."""

OBJECTIVES: Mapping[str, Objective] = {
    "qed": Objective("qed", "", "Quantitative estimate of drug-likeness (Bickerton et al. 2012)."),
    "sa": Objective("sa", "", "Ease of synthesis: (10 - SA score) / 9 (Ertl and Schuffenhauer)."),
    "mw": Objective("mw", "", "1 up to 300 g/mol, from there down to 0 at 1,000."),
    "logp": Objective("logp", "", "exp(-(logP - 2.5)^2 / 2), logP of Wildman and Crippen."),
}

CACHE = 200_000
"""Molecules whose values and names are remembered: both take milliseconds."""

FRAGMENT, PARENT, PARENT_STEM, OWN_STEM = range(4)
"""Columns of a block: which fragment, joined to which block, there and here at which stem."""

COLUMNS = 4


@dataclass(frozen=True)
class Fragment:
    """A piece of a molecule.

    Attributes:
        smiles: its structure.
        stems: atoms that can be joined, by index.
    """

    smiles: str
    stems: tuple[int, ...]


@functools.cache
def load_fragments(name: str = "all") -> tuple[Fragment, ...]:
    """The fragments of a set of `SETS`."""
    text = (resources.files("morl.envs") / "data" / "fragments.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    listed = [Fragment(row["smiles"], tuple(map(int, row["stems"].split()))) for row in rows]
    return tuple(one for one in listed if name == "all" or len(one.stems) == 2)


# ---------------------------------------------------------------------------------------------
# Trees. A state is read as (block, column), -1 where there is no block; blocks stand in the order
# of a breadth-first walk, children by the stem of their parent.


@njit(cache=True)
def _free_stems(
    blocks: NDArray[np.int64], stems: NDArray[np.int64], width: int
) -> NDArray[np.bool_]:
    """Which stems of which blocks can be joined, (block x stem,); `stems` counts a fragment's."""
    free = np.zeros(blocks.shape[0] * width, np.bool_)
    for i in range(blocks.shape[0]):
        if blocks[i, 0] < 0:
            break
        for stem in range(stems[blocks[i, 0]]):
            free[i * width + stem] = stem != blocks[i, 3]
        if i > 0:
            free[blocks[i, 1] * width + blocks[i, 2]] = False
    return free


@njit(cache=True)
def _fill_masks(
    trees: NDArray[np.int64],
    stems: NDArray[np.int64],
    width: int,
    first: NDArray[np.bool_],
    masks: NDArray[np.bool_],
) -> None:
    choices = first.shape[0]
    stop = masks.shape[1] - 1
    for k in range(trees.shape[0]):
        if trees[k, 0, 0] < 0:
            masks[k, :choices] = first
            continue
        masks[k, stop] = trees[k, -1, 0] < 0
        if not masks[k, stop]:
            continue
        free = _free_stems(trees[k], stems, width)
        for slot in range((trees.shape[1] - 1) * width):
            if free[slot]:
                masks[k, slot * choices : (slot + 1) * choices] = True


@njit(cache=True)
def _insert(
    trees: NDArray[np.int64],
    slots: NDArray[np.int64],
    fragments: NDArray[np.int64],
    own_stems: NDArray[np.int64],
    width: int,
) -> None:
    """Add a block to each tree, in its place."""
    for k in range(trees.shape[0]):
        tree = trees[k]
        if tree[0, 0] < 0:
            tree[0, 0] = fragments[k]
            continue
        place = 1
        while tree[place, 0] >= 0 and tree[place, 1] * width + tree[place, 2] < slots[k]:
            place += 1
        for i in range(tree.shape[0] - 1, place, -1):
            tree[i] = tree[i - 1]
        for i in range(place + 1, tree.shape[0]):
            if tree[i, 1] >= place:
                tree[i, 1] += 1
        tree[place, 0] = fragments[k]
        tree[place, 1] = slots[k] // width
        tree[place, 2] = slots[k] % width
        tree[place, 3] = own_stems[k]


@njit(cache=True)
def _remove(trees: NDArray[np.int64], slots: NDArray[np.int64], width: int) -> None:
    """Take a leaf off each tree: the one at a slot, or the only block."""
    for k in range(trees.shape[0]):
        tree = trees[k]
        place = 0
        if tree.shape[0] > 1 and tree[1, 0] >= 0:
            place = 1
            while tree[place, 1] * width + tree[place, 2] != slots[k]:
                place += 1
        for i in range(place, tree.shape[0] - 1):
            tree[i] = tree[i + 1]
            if tree[i, 1] > place:
                tree[i, 1] -= 1
        tree[-1] = -1


@njit(cache=True)
def _mark_leaves(
    trees: NDArray[np.int64],
    offsets: NDArray[np.int64],
    choices: int,
    width: int,
    masks: NDArray[np.bool_],
) -> None:
    """Actions that added the leaves; `offsets` is the first choice of each fragment."""
    for k in range(trees.shape[0]):
        tree = trees[k]
        count = 0
        while count < tree.shape[0] and tree[count, 0] >= 0:
            count += 1
        if count == 1:
            masks[k, offsets[tree[0, 0]]] = True
        for i in range(1, count):
            leaf = True
            for j in range(i + 1, count):
                leaf &= tree[j, 1] != i
            if leaf:
                slot = tree[i, 1] * width + tree[i, 2]
                masks[k, slot * choices + offsets[tree[i, 0]] + tree[i, 3]] = True


@dataclass(frozen=True)
class Assembly:
    """The settings of the task.

    Attributes:
        objectives: names among `OBJECTIVES`.
        fragments: name among `SETS`.
        max_blocks: most pieces of a molecule.
    """

    objectives: tuple[str, ...]
    fragments: str
    max_blocks: int

    @classmethod
    def checked(
        cls,
        *,
        objectives: Sequence[str] = ("qed", "sa", "mw"),
        fragments: str = "two-stem",
        max_blocks: int = 5,
    ) -> Assembly:
        """The settings, if they make sense.

        Raises:
            EnvArgumentError: if not.
        """
        unknown = [name for name in objectives if name not in OBJECTIVES]
        repeated = len(set(objectives)) < len(objectives)
        if unknown or repeated or not objectives or isinstance(objectives, str):
            raise EnvArgumentError(
                f"{ID}: objectives must be different names among {', '.join(OBJECTIVES)}, got "
                f"{objectives!r}"
            )
        if fragments not in SETS:
            raise EnvArgumentError(
                f"{ID}: fragments must be one of {', '.join(SETS)}, got {fragments!r}"
            )
        if not 2 <= max_blocks <= 9:
            raise EnvArgumentError(f"{ID}: max_blocks must be from 2 to 9, got {max_blocks}")
        return cls(tuple(objectives), fragments, int(max_blocks))


class FragmentsCore(CompositionalCore):
    """Trees of fragments. An action joins a fragment by one of its stems to a free stem, or stops.

    Two molecules are as far apart as their RDKit fingerprints: one minus Tanimoto similarity.

    Args:
        task: the settings.
        name: id of the environment, for messages.
        fragments: instead of those that the settings name.
    """

    notation = "smiles"

    def __init__(
        self, task: Assembly, *, name: str = ID, fragments: Sequence[Fragment] | None = None
    ) -> None:
        self.task = task
        self.fragments = tuple(fragments or load_fragments(task.fragments))
        sizes = [len(fragment.stems) for fragment in self.fragments]
        self._stems = np.array(sizes, np.int64)
        self._width = max(sizes)
        # A choice is a fragment and the stem by which it is joined.
        self._choice_fragment = np.repeat(np.arange(len(sizes)), sizes)
        self._offsets = np.cumsum([0, *sizes[:-1]])
        self._choice_stem = np.arange(sum(sizes)) - self._offsets[self._choice_fragment]
        self._choices = sum(sizes)
        columns = len(sizes) + task.max_blocks + 2 * self._width
        super().__init__(
            name=name,
            objective_names=task.objectives,
            num_actions=(task.max_blocks - 1) * self._width * self._choices + 1,
            horizon=task.max_blocks,
            state_width=task.max_blocks * COLUMNS,
            encoding_width=task.max_blocks * columns,
            cache=CACHE,
        )
        self._chemistry = Chemistry(self.fragments)
        self._code = np.cumsum([0, len(sizes), task.max_blocks, self._width, self._width])

    def initial(self, count: int) -> States:
        """No fragment at all."""
        return np.full((count, self.state_width), -1, np.int64)

    def mask(self, states: States) -> Mask:
        """Any fragment first, then all ways to join one; the stop from the first fragment on."""
        masks = np.zeros((len(states), self.num_actions), np.bool_)
        trees = np.ascontiguousarray(states).reshape(len(states), -1, COLUMNS)
        _fill_masks(trees, self._stems, self._width, self._choice_stem == 0, masks)
        return masks

    def _advance(self, states: States, actions: Actions) -> States:
        after = np.array(states, np.int64, order="C")
        slots, choices = np.divmod(actions, self._choices)
        trees = after.reshape(len(after), -1, COLUMNS)
        _insert(
            trees, slots, self._choice_fragment[choices], self._choice_stem[choices], self._width
        )
        return after

    def ends(self, states: States) -> Mask:
        """With the last fragment."""
        return np.asarray(states[:, (self.task.max_blocks - 1) * COLUMNS] >= 0)

    def backward_mask(self, states: States) -> Mask:
        """What joined the leaves."""
        masks = np.zeros((len(states), self.num_actions), np.bool_)
        trees = np.ascontiguousarray(states).reshape(len(states), -1, COLUMNS)
        _mark_leaves(trees, self._offsets, self._choices, self._width, masks)
        return masks

    def undo(self, states: States, actions: Actions) -> States:
        """The tree without a leaf."""
        before = np.array(states, np.int64, order="C")
        trees = before.reshape(len(before), -1, COLUMNS)
        _remove(trees, actions // self._choices, self._width)
        return before

    def encode(self, states: States) -> NDArray[np.float32]:
        """Four ones for each block: fragment, parent, and both stems."""
        blocks = states.reshape(len(states), -1, COLUMNS)
        code = np.zeros((*blocks.shape[:2], int(self._code[-1])), np.float32)
        for column in range(COLUMNS):
            rows, places = np.nonzero(blocks[:, :, column] >= 0)
            code[rows, places, self._code[column] + blocks[rows, places, column]] = 1.0
        return code.reshape(len(states), -1)

    def decode(self, encodings: NDArray[np.float32]) -> States:
        """The places of the ones of each block."""
        code = encodings.reshape(len(encodings), self.task.max_blocks, -1)
        parts = np.split(code, self._code[1:-1], axis=2)
        columns = [np.where(part.any(axis=2), part.argmax(axis=2), -1) for part in parts]
        return np.stack(columns, axis=2).reshape(len(encodings), -1)

    def describe(self, states: States) -> list[str]:
        """Canonical SMILES; the same for all trees that are one molecule."""
        return [self._chemistry.smiles(row.tobytes()) for row in np.ascontiguousarray(states)]

    def keys(self, states: States) -> list[Hashable]:
        """Canonical SMILES."""
        return list(self.describe(states))

    def distance(self, first: States, second: States) -> NDArray[np.float64]:
        """One minus Tanimoto similarity of RDKit fingerprints."""
        return self._chemistry.distances(self.describe(first), self.describe(second))

    def genome_sizes(self) -> NDArray[np.int64]:
        """Number of blocks, then of each block where it is joined, and what by which stem."""
        slots = (self.task.max_blocks - 1) * self._width
        pairs = [slots, self._choices] * self.task.max_blocks
        return np.array([self.task.max_blocks, *pairs], np.int64)

    def from_genomes(self, genomes: NDArray[np.int64]) -> States:
        """Trees that grow block by block; where to join is a rank among the free stems."""

        def choose(states: States, rows: NDArray[np.intp], time: int) -> Actions:
            mask = self.mask(states)
            if time == 0:
                return ranked(mask, genomes[rows, 2])
            joints = mask[:, :-1].reshape(len(states), -1, self._choices)
            free: Mask = np.asarray(joints.any(axis=2))
            grows = free.any(axis=1) & (genomes[rows, 0] >= time)
            actions = np.full(len(states), self.stop_action, np.int64)
            slots = ranked(free[grows], genomes[rows[grows], 2 * time + 1])
            actions[grows] = slots * self._choices + genomes[rows[grows], 2 * time + 2]
            return actions

        return follow(self, len(genomes), choose).objects

    def _objectives(self, states: States) -> Front:
        return np.array(
            [
                self._chemistry.properties(smiles, self.task.objectives)
                for smiles in self.describe(states)
            ]
        )


class Chemistry:
    """What RDKit knows of trees of fragments.

    Args:
        fragments: that trees refer to.

    Raises:
        EnvArgumentError: RDKit is not installed.
    """

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        try:
            self._chem: Any = importlib.import_module("rdkit.Chem")
            self._qed: Any = importlib.import_module("rdkit.Chem.QED")
            self._descriptors: Any = importlib.import_module("rdkit.Chem.Descriptors")
            self._crippen: Any = importlib.import_module("rdkit.Chem.Crippen")
            self._scorer: Any = importlib.import_module("rdkit.Contrib.SA_Score.sascorer")
            fingerprints: Any = importlib.import_module("rdkit.Chem.rdFingerprintGenerator")
            self._similarity: Any = importlib.import_module("rdkit.DataStructs")
        except ImportError as error:
            raise EnvArgumentError(f"{ID} needs RDKit: pip install 'morl-suite[mol]'") from error
        self._fragments = fragments
        self._pieces = [self._chem.MolFromSmiles(one.smiles) for one in fragments]
        self._generator = fingerprints.GetRDKitFPGenerator(fpSize=2048)
        self.smiles = functools.lru_cache(maxsize=CACHE)(self._smiles)
        self._fingerprint = functools.lru_cache(maxsize=CACHE)(self._fingerprint_of)

    def properties(self, smiles: str, names: Sequence[str]) -> list[float]:
        """Objective values of a molecule, see `OBJECTIVES`."""
        molecule = self._chem.MolFromSmiles(smiles)
        return [float(getattr(self, f"_{name}_of")(molecule)) for name in names]

    def distances(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """One minus similarity, (first, second)."""
        others = [self._fingerprint(smiles) for smiles in second]
        rows = [
            self._similarity.BulkTanimotoSimilarity(self._fingerprint(smiles), others)
            for smiles in first
        ]
        return 1.0 - np.array(rows, np.float64).reshape(len(first), len(second))

    def _smiles(self, state: bytes) -> str:
        """Canonical SMILES of the bytes of a tree; empty for the empty one."""
        blocks = np.frombuffer(state, np.int64).reshape(-1, COLUMNS)
        molecule = self._chem.RWMol()
        first_atoms: list[int] = []
        for fragment, parent, parent_stem, own_stem in blocks[blocks[:, 0] >= 0].tolist():
            first_atoms.append(molecule.GetNumAtoms())
            molecule.InsertMol(self._pieces[fragment])
            if parent < 0:
                continue
            there = self._fragments[int(blocks[parent, FRAGMENT])].stems[parent_stem]
            here = self._fragments[fragment].stems[own_stem]
            ends = first_atoms[parent] + there, first_atoms[-1] + here
            molecule.AddBond(*ends, self._chem.BondType.SINGLE)
            for index in ends:
                # The bond takes the place of a hydrogen; those in brackets do not adapt.
                atom = molecule.GetAtomWithIdx(index)
                atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))
        self._chem.SanitizeMol(molecule)
        return str(self._chem.MolToSmiles(molecule))

    def _fingerprint_of(self, smiles: str) -> Any:  # noqa: ANN401 - RDKit's
        return self._generator.GetFingerprint(self._chem.MolFromSmiles(smiles))

    def _qed_of(self, molecule: Any) -> float:  # noqa: ANN401 - RDKit's
        return float(self._qed.qed(molecule))

    def _sa_of(self, molecule: Any) -> float:  # noqa: ANN401 - RDKit's
        return float((10.0 - self._scorer.calculateScore(molecule)) / 9.0)

    def _mw_of(self, molecule: Any) -> float:  # noqa: ANN401 - RDKit's
        return float(np.clip((300.0 - self._descriptors.MolWt(molecule)) / 700.0 + 1.0, 0.0, 1.0))

    def _logp_of(self, molecule: Any) -> float:  # noqa: ANN401 - RDKit's
        return float(np.exp(-((self._crippen.MolLogP(molecule) - 2.5) ** 2) / 2.0))


class FragmentsVectorEnv(CompositionalVectorEnv):
    """N molecules under construction.

    Observation: for every block which fragment it is, to which block and by which atoms it is
    joined, float32. Actions: join a fragment by one of its atoms to a free atom of a block, stop.
    Reward: the properties of the molecule when it is finished, zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        objectives: Sequence[str] = ("qed", "sa", "mw"),
        fragments: str = "two-stem",
        max_blocks: int = 5,
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            objectives: names among `OBJECTIVES`.
            fragments: "two-stem" or "all".
            max_blocks: most pieces of a molecule, 2 to 9.
            illegal: "remap" or "error", for joints that are not free.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument, or without RDKit.
        """
        task = Assembly.checked(objectives=objectives, fragments=fragments, max_blocks=max_blocks)
        super().__init__(
            FragmentsCore(task, name=env_id),
            num_envs,
            env_id=env_id,
            illegal=illegal,
            max_episode_steps=max_episode_steps,
            copy=copy,
        )


def make_one(**arguments: Any) -> CompositionalEnv:  # noqa: ANN401 - as the batch
    """One molecule, for Gymnasium's ordinary interface; arguments of `FragmentsVectorEnv`."""
    return CompositionalEnv(FragmentsVectorEnv(1, **arguments))


def _spec(**arguments: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    task = Assembly.checked(**settings_among(arguments, Assembly))
    return EnvSpec(
        id=ID,
        objectives=tuple(OBJECTIVES[name] for name in task.objectives),
        reference_point=(0.0,) * len(task.objectives),
        discount=1.0,
        horizon=task.max_blocks,
        extra="mol",
        description="Join fragments to a molecule that looks like a drug.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.fragments:make_one",
    vector_entry_point="morl.envs.fragments:FragmentsVectorEnv",
    requires=("rdkit",),
)
