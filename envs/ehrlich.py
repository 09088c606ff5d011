"""Ehrlich functions: write a string that no banned pair of letters spoils and that holds motifs.

Closed-form test functions of Stanton et al., "Closed-Form Test Functions for Biophysical Sequence
Optimization Algorithms" (arXiv:2407.00236). A string is feasible if no letter is followed by one
that is banned behind it. With motifs a of k letters, offsets s and quantisation q, a feasible
string x is worth

    f(x) = prod_i max_l floor(q / k * sum_j [x_(l + s_ij) = a_ij]) / q,

so that one letter more often brings nothing, and all motifs must be there at once. Every objective
here is such a function with motifs of its own; banned pairs are common to all. Written from the
formula. What differs: infeasible strings cannot be written at all (the authors pay minus infinity);
and instances come from our own random numbers, so that values can be compared among users of this
task, not with theirs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.compositional import Mask, States
from morl.envs.compositional import CompositionalEnv, CompositionalVectorEnv, settings_among
from morl.envs.n_grams import AMINO_ACIDS
from morl.envs.strings import StringCore
from morl.envs.vector import EnvArgumentError
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import register_env
from morl.seeding import generator
from morl.types import EnvSpec, Front, KnownFront, Objective

ID = "ehrlich-v0"

MOST_STRINGS = 2**18
"""Tasks with at most so many strings of letters are enumerated for the exact front."""

_ATTEMPTS = 1000  # draws of banned pairs until every letter can be reached from every other


@njit(cache=True)
def motif_qualities(
    strings: NDArray[np.int64],
    motifs: NDArray[np.int64],
    offsets: NDArray[np.int64],
    quantization: int,
) -> NDArray[np.float64]:
    """How much of each motif a string holds at the place where it holds most of it.

    Args:
        strings: letters, (string, position).
        motifs: letters, (motif, element).
        offsets: of the elements from the first, ascending, (motif, element).
        quantization: steps from nothing to the whole motif; a divisor of its length.

    Returns:
        From 0 to 1 in steps of 1 / `quantization`, (string, motif).
    """
    found = np.zeros((strings.shape[0], motifs.shape[0]))
    length = motifs.shape[1]
    step = length // quantization
    for n in range(strings.shape[0]):
        for i in range(motifs.shape[0]):
            most = 0
            for start in range(strings.shape[1] - offsets[i, -1]):
                count = 0
                for j in range(length):
                    count += strings[n, start + offsets[i, j]] == motifs[i, j]
                most = max(most, count)
            found[n, i] = (most // step) / quantization
    return found


@dataclass(frozen=True)
class Ehrlich:
    """The settings of the task.

    Attributes:
        num_objectives: functions.
        num_letters: letters of the alphabet.
        length: letters of a string.
        num_motifs: motifs of a function.
        motif_length: letters of a motif.
        quantization: steps in which a motif counts.
        banned: letters that must not follow a letter, for each letter.
        instance: seed of motifs, offsets and banned pairs.
    """

    num_objectives: int
    num_letters: int
    length: int
    num_motifs: int
    motif_length: int
    quantization: int
    banned: int
    instance: int

    @classmethod
    def checked(
        cls,
        *,
        num_objectives: int = 2,
        num_letters: int = 20,
        length: int = 32,
        num_motifs: int = 2,
        motif_length: int = 4,
        quantization: int | None = None,
        banned: int | None = None,
        instance: int = 0,
    ) -> Ehrlich:
        """The settings, if they make sense.

        Args:
            num_objectives: functions, 1 to 6.
            num_letters: letters of the alphabet, 3 to 20.
            length: letters of a string.
            num_motifs: motifs of a function.
            motif_length: letters of a motif, at least 2.
            quantization: steps in which a motif counts; None for one each letter.
            banned: letters that must not follow a letter; None for a fifth of them.
            instance: seed of motifs, offsets and banned pairs.

        Raises:
            EnvArgumentError: if they do not.
        """
        quantization = motif_length if quantization is None else quantization
        banned = num_letters // 5 if banned is None else banned
        _require(1 <= num_objectives <= 6, f"num_objectives must be 1 to 6, got {num_objectives}")
        _require(
            3 <= num_letters <= len(AMINO_ACIDS),
            f"num_letters must be 3 to {len(AMINO_ACIDS)}, got {num_letters}",
        )
        _require(num_motifs >= 1, f"num_motifs must be positive, got {num_motifs}")
        _require(motif_length >= 2, f"motif_length must be at least 2, got {motif_length}")
        _require(
            length >= num_motifs * motif_length,
            f"length must hold {num_motifs} motifs of {motif_length} letters, got {length}",
        )
        _require(
            1 <= quantization <= motif_length and motif_length % quantization == 0,
            f"quantization must divide motif_length {motif_length}, got {quantization}",
        )
        _require(
            0 <= banned <= num_letters - 2,
            f"banned must be 0 to {num_letters - 2} of {num_letters} letters, got {banned}",
        )
        return cls(
            int(num_objectives), int(num_letters), int(length), int(num_motifs),
            int(motif_length), int(quantization), int(banned), int(instance),
        )  # fmt: skip

    @property
    def alphabet(self) -> str:
        """The letters."""
        return AMINO_ACIDS[: self.num_letters]

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Names of the functions, in order."""
        return tuple(f"ehrlich-{index + 1}" for index in range(self.num_objectives))

    @property
    def enumerable(self) -> bool:
        """Whether all strings can be listed."""
        return bool(self.num_letters**self.length <= MOST_STRINGS)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise EnvArgumentError(f"{ID}: {message}")


@dataclass(frozen=True, eq=False)
class Instance:
    """What is drawn at random.

    Attributes:
        allowed: which letter may follow which, (letter, next letter); each may follow itself.
        motifs: letters, (objective, motif, element).
        offsets: of elements from the first of their motif, (objective, motif, element).
    """

    allowed: Mask
    motifs: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, task: Ehrlich) -> Instance:
        """The instance of a task, always the same.

        The motifs of a function, one behind the other, are a walk that no ban stops, and together
        they are, with their gaps, no longer than a string: so some string holds all of them.

        Raises:
            EnvArgumentError: so many letters are banned that some are never reached.
        """
        allowed = _allowed(task)
        shape = (task.num_objectives, task.num_motifs, task.motif_length)
        motifs, offsets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        others = allowed & ~np.eye(task.num_letters, dtype=np.bool_)
        widest = task.length // task.num_motifs
        for objective in range(task.num_objectives):
            rng = generator(task.instance, f"{ID}/motifs", objective)
            walk = [int(rng.integers(task.num_letters))]
            while len(walk) < task.num_motifs * task.motif_length:
                walk.append(int(rng.choice(np.flatnonzero(others[walk[-1]]))))
            motifs[objective] = np.reshape(walk, shape[1:])
            for motif in range(task.num_motifs):
                gaps = rng.choice(np.arange(1, widest), task.motif_length - 1, replace=False)
                offsets[objective, motif, 1:] = np.sort(gaps)
        for array in (allowed, motifs, offsets):
            array.setflags(write=False)
        return cls(allowed, motifs, offsets)


def _allowed(task: Ehrlich) -> Mask:
    """Pairs that are not banned, drawn until every letter leads to every other."""
    for attempt in range(_ATTEMPTS):
        rng = generator(task.instance, f"{ID}/banned", attempt)
        allowed = np.ones((task.num_letters, task.num_letters), np.bool_)
        for letter in range(task.num_letters):
            others = np.delete(np.arange(task.num_letters), letter)
            allowed[letter, rng.choice(others, task.banned, replace=False)] = False
        reached = np.linalg.matrix_power(allowed.astype(np.float64), task.num_letters) > 0.0
        if reached.all():
            return allowed
    raise EnvArgumentError(
        f"{ID}: with {task.banned} of {task.num_letters} letters banned behind each, no draw lets "
        "every letter be reached; lower banned"
    )


class EhrlichCore(StringCore):
    """Strings of one length without banned pairs, worth the product of what their motifs are.

    Args:
        task: the settings.
        name: id of the environment, for messages.
        instance: instead of the one that the settings name.
    """

    def __init__(self, task: Ehrlich, *, name: str = ID, instance: Instance | None = None) -> None:
        super().__init__(
            name=name,
            objective_names=task.objective_names,
            alphabet=task.alphabet,
            min_length=task.length,
            max_length=task.length,
        )
        self.task = task
        self.instance = instance or Instance.of(task)

    def mask(self, states: States) -> Mask:
        """Letters that are not banned behind the last one; any first letter; never the stop."""
        mask = super().mask(states)
        lengths = self.lengths(states)
        begun = np.flatnonzero(lengths)
        mask[begun, :-1] &= self.instance.allowed[states[begun, lengths[begun] - 1]]
        return mask

    def feasible(self, strings: States) -> Mask:
        """Whether finished strings hold no banned pair, (object,)."""
        return np.asarray(self.instance.allowed[strings[:, :-1], strings[:, 1:]].all(axis=1))

    def optimum(self, objective: int) -> States:
        """A string that is worth 1 in one objective, (1, position).

        The motifs stand one behind the other; a letter is repeated until the next one is due.

        Args:
            objective: index of the function.
        """
        letters: list[int] = []
        motifs, offsets = self.instance.motifs[objective], self.instance.offsets[objective]
        for motif, places in zip(motifs.tolist(), offsets.tolist(), strict=True):
            gaps = [*np.diff(places).tolist(), 1]
            for letter, gap in zip(motif, gaps, strict=True):
                letters += [letter] * gap
        letters += [letters[-1]] * (self.task.length - len(letters))
        return np.array([letters], np.int64)

    def _objectives(self, states: States) -> Front:
        strings = np.ascontiguousarray(states)
        return np.stack(
            [
                motif_qualities(strings, motifs, offsets, self.task.quantization).prod(axis=1)
                for motifs, offsets in zip(self.instance.motifs, self.instance.offsets, strict=True)
            ],
            axis=1,
        )

    def reference_front(self) -> Front | None:
        """All nondominated values where all strings can be listed, else None."""
        return _front(self.task).copy() if self.task.enumerable else None


@functools.lru_cache(maxsize=64)
def _front(task: Ehrlich) -> Front:
    """The exact front, from all feasible strings."""
    core = EhrlichCore(task)
    states = core.initial(1)
    for _ in range(task.length):
        rows, letters = np.nonzero(core.mask(states))
        states, _ = core.step(states[rows], letters.astype(np.int64))
    values = core.values(states)
    front: Front = values[nondominated(values)]
    front.setflags(write=False)
    return front


class EhrlichVectorEnv(CompositionalVectorEnv):
    """N strings being written.

    Observation: for every position and letter whether the letter stands there, float32. Actions:
    append one of the letters; the last one, stop, is never legal. Reward: the functions of the
    string when it is finished, zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        num_objectives: int = 2,
        num_letters: int = 20,
        length: int = 32,
        num_motifs: int = 2,
        motif_length: int = 4,
        quantization: int | None = None,
        banned: int | None = None,
        instance: int = 0,
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            num_objectives: functions, 1 to 6.
            num_letters: letters of the alphabet, 3 to 20.
            length: letters of a string.
            num_motifs: motifs of a function.
            motif_length: letters of a motif, at least 2.
            quantization: steps in which a motif counts; None for one each letter.
            banned: letters that must not follow a letter; None for a fifth of them.
            instance: seed of motifs, offsets and banned pairs.
            illegal: "remap" or "error", for a banned letter or a stop.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        task = Ehrlich.checked(
            num_objectives=num_objectives,
            num_letters=num_letters,
            length=length,
            num_motifs=num_motifs,
            motif_length=motif_length,
            quantization=quantization,
            banned=banned,
            instance=instance,
        )
        super().__init__(
            EhrlichCore(task, name=env_id),
            num_envs,
            env_id=env_id,
            illegal=illegal,
            max_episode_steps=max_episode_steps,
            copy=copy,
        )


def make_one(**arguments: Any) -> CompositionalEnv:  # noqa: ANN401 - as the batch
    """One string, for Gymnasium's ordinary interface; arguments of `EhrlichVectorEnv`."""
    return CompositionalEnv(EhrlichVectorEnv(1, **arguments))


def _known_front(task: Ehrlich) -> KnownFront:
    return KnownFront(
        # Every string takes as many steps, and the last one pays.
        lambda discount: _front(task) * discount ** (task.length - 1),
        "exact",
        "enumeration of all strings",
    )


@functools.lru_cache(maxsize=64)
def _anchors(task: Ehrlich) -> tuple[tuple[str, float], ...]:
    corner = [0.0] * task.num_objectives
    if task.enumerable:
        return (("exact", hypervolume(_front(task), corner).value),)
    core = EhrlichCore(task)
    best = np.concatenate([core.optimum(index) for index in range(task.num_objectives)])
    volume = hypervolume(core.values(best), corner).value
    return (("one string perfect in each objective", volume),)


def _spec(**arguments: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    task = Ehrlich.checked(**settings_among(arguments, Ehrlich))
    return EnvSpec(
        id=ID,
        objectives=tuple(
            Objective(name, "", "Share of each of its motifs that is there, multiplied.")
            for name in task.objective_names
        ),
        reference_point=(0.0,) * task.num_objectives,
        discount=1.0,
        horizon=task.length,
        known_front=_known_front(task) if task.enumerable else None,
        anchors=dict(_anchors(task)),
        description="Write a string without banned pairs in which spaced motifs are complete.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.ehrlich:make_one",
    vector_entry_point="morl.envs.ehrlich:EhrlichVectorEnv",
)
