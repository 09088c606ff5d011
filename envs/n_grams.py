"""N-grams: write a string in which two to four given pieces occur as often as can be.

Task of Jain et al., "Multi-Objective GFlowNets" (ICML 2023), there and in Stanton et al. (LaMBO,
2022) also called regex: twenty amino acids, overlapping counts over 18, strings of 33 to 36
letters. Written from its description. What differs: the fourth of the published bigrams, AB, cannot
occur (B is not in the alphabet), so that every hypervolume is zero; here it is AN.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.compositional import States
from morl.envs.compositional import CompositionalEnv, CompositionalVectorEnv, settings_among
from morl.envs.strings import StringCore, check_strings
from morl.envs.vector import EnvArgumentError
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import register_env
from morl.types import EnvSpec, Front, KnownFront, Objective

ID = "n-grams-v0"

AMINO_ACIDS = "ARNDCEQGHILKMFPSTWYV"

SETS: Mapping[str, tuple[str, ...]] = {
    "bigrams-2": ("AV", "VC"),
    "bigrams-3": ("AV", "VC", "CA"),
    "bigrams-4": ("AV", "VC", "CA", "AN"),
    "unigrams-2": ("A", "V"),
    "unigrams-3": ("A", "V", "C"),
    "unigrams-4": ("A", "V", "C", "W"),
}
"""Published sets, the last of the bigrams replaced; those of unigrams with 17 to 18 letters."""


@njit(cache=True)
def count_pieces(
    strings: NDArray[np.int64], pieces: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How often pieces occur in strings, overlapping ones included.

    Args:
        strings: letters, then -1, (string, position).
        pieces: likewise, (piece, position).
        sizes: letters of each piece, (piece,).

    Returns:
        Shape (string, piece).
    """
    counts = np.zeros((strings.shape[0], pieces.shape[0]))
    for i in range(strings.shape[0]):
        for k in range(pieces.shape[0]):
            for start in range(strings.shape[1] - sizes[k] + 1):
                equal = True
                for j in range(sizes[k]):
                    equal &= strings[i, start + j] == pieces[k, j]
                counts[i, k] += equal
    return counts


@dataclass(frozen=True)
class Pieces:
    """The settings of the task.

    Attributes:
        ngrams: pieces to be counted.
        min_length: shortest string.
        max_length: longest string.
        divisor: by which counts are divided.
        alphabet: the letters.
    """

    ngrams: tuple[str, ...]
    min_length: int
    max_length: int
    divisor: float
    alphabet: str

    @classmethod
    def checked(
        cls,
        *,
        ngrams: Sequence[str] | str = "bigrams-3",
        min_length: int | None = None,
        max_length: int | None = None,
        divisor: float = 18.0,
        alphabet: str = AMINO_ACIDS,
    ) -> Pieces:
        """The settings, if they make sense.

        Args:
            ngrams: pieces, or a name among `SETS`.
            min_length: None for 33, or 17 where all pieces are single letters.
            max_length: None for 36, or 18 likewise.
            divisor: of counts.
            alphabet: the letters.

        Raises:
            EnvArgumentError: if they do not.
        """
        if isinstance(ngrams, str):
            if ngrams not in SETS:
                raise EnvArgumentError(
                    f"{ID}: ngrams must be a list of pieces or one of {', '.join(SETS)}, got "
                    f"{ngrams!r}"
                )
            ngrams = SETS[ngrams]
        for piece in ngrams:
            if not piece or set(piece) - set(alphabet):
                raise EnvArgumentError(
                    f"{ID}: {piece!r} can never occur: letters are {alphabet}; leave it out of "
                    "ngrams (published sets of four bigrams contain AB, `bigrams-4` here has AN)"
                )
        if not ngrams or len(set(ngrams)) < len(ngrams):
            raise EnvArgumentError(f"{ID}: ngrams must be different, got {list(ngrams)}")
        if not divisor > 0.0:
            raise EnvArgumentError(f"{ID}: divisor must be positive, got {divisor}")
        single = all(len(piece) == 1 for piece in ngrams)
        shortest, longest = (17, 18) if single else (33, 36)
        shortest = shortest if min_length is None else int(min_length)
        longest = longest if max_length is None else int(max_length)
        check_strings(alphabet, shortest, longest, name=ID)
        return cls(tuple(ngrams), shortest, longest, float(divisor), alphabet)

    @property
    def longest_piece(self) -> int:
        """Letters of the longest piece."""
        return max(map(len, self.ngrams))


@functools.lru_cache(maxsize=64)
def _front(task: Pieces, discount: float) -> Front:
    """The exact front, by induction over the length of the string.

    What can still be gained depends on the last letters alone, so that of strings of one length
    and with the same last letters only those are kept that no other of them dominates. Letters
    that no piece contains are one letter.
    """
    letters = sorted(set("".join(task.ngrams)))
    if len(letters) < len(task.alphabet):
        letters.append(next(letter for letter in task.alphabet if letter not in letters))
    memory = task.longest_piece - 1
    found: dict[str, Front] = {"": np.zeros((1, len(task.ngrams)))}
    returns = []
    for length in range(1, task.max_length + 1):
        grown: dict[str, list[Front]] = {}
        for tail, counts in found.items():
            for letter in letters:
                text = tail + letter
                gain = [float(text.endswith(piece)) for piece in task.ngrams]
                key = text[len(text) - memory :] if len(text) > memory else text
                grown.setdefault(key, []).append(counts + gain)
        found = {tail: _undominated(np.concatenate(fronts)) for tail, fronts in grown.items()}
        if length >= task.min_length:
            # The stop is a step as well, but the longest string ends without one.
            steps = length + (length < task.max_length)
            values = np.concatenate(list(found.values())) / task.divisor
            returns.append(values * discount ** (steps - 1))
    front = _undominated(np.concatenate(returns))
    front.setflags(write=False)
    return front


def _undominated(points: Front) -> Front:
    return np.asarray(points[nondominated(points)])


class NGramsCore(StringCore):
    """Strings of amino acids, worth the counts of their pieces.

    Args:
        task: the settings.
        name: id of the environment, for messages.
    """

    def __init__(self, task: Pieces, *, name: str = ID) -> None:
        best = np.maximum(_front(task, 1.0).max(axis=0), 1.0)
        super().__init__(
            name=name,
            objective_names=task.ngrams,
            alphabet=task.alphabet,
            min_length=task.min_length,
            max_length=task.max_length,
            utopia=best.tolist(),
        )
        self.task = task
        self._sizes = np.array([len(piece) for piece in task.ngrams])
        self._pieces = np.full((len(task.ngrams), task.longest_piece), -1, np.int64)
        for row, piece in enumerate(task.ngrams):
            self._pieces[row, : len(piece)] = [task.alphabet.index(letter) for letter in piece]

    def _objectives(self, states: States) -> Front:
        return np.asarray(count_pieces(states, self._pieces, self._sizes) / self.task.divisor)

    def reference_front(self) -> Front:
        """All nondominated values."""
        return _front(self.task, 1.0).copy()


class NGramsVectorEnv(CompositionalVectorEnv):
    """N strings being written.

    Observation: for every position and letter whether the letter stands there, float32. Actions:
    append one of the letters, stop. Reward: how often each piece occurs, over the divisor, when
    the string is finished, zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        ngrams: Sequence[str] | str = "bigrams-3",
        min_length: int | None = None,
        max_length: int | None = None,
        divisor: float = 18.0,
        alphabet: str = AMINO_ACIDS,
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            ngrams: pieces to be counted, or a name among `SETS`.
            min_length: shortest string; None for 33, or 17 where all pieces are single letters.
            max_length: longest string; None for 36, or 18 likewise.
            divisor: by which counts are divided.
            alphabet: the letters.
            illegal: "remap" or "error", for a stop that comes too early.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        task = Pieces.checked(
            ngrams=ngrams,
            min_length=min_length,
            max_length=max_length,
            divisor=divisor,
            alphabet=alphabet,
        )
        super().__init__(
            NGramsCore(task, name=env_id),
            num_envs,
            env_id=env_id,
            illegal=illegal,
            max_episode_steps=max_episode_steps,
            copy=copy,
        )


def make_one(**arguments: Any) -> CompositionalEnv:  # noqa: ANN401 - as the batch
    """One string, for Gymnasium's ordinary interface; arguments of `NGramsVectorEnv`."""
    return CompositionalEnv(NGramsVectorEnv(1, **arguments))


def _spec(**arguments: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    task = Pieces.checked(**settings_among(arguments, Pieces))
    count = len(task.ngrams)
    return EnvSpec(
        id=ID,
        objectives=tuple(
            Objective(piece, f"1/{task.divisor:g}", f"Occurrences of {piece}.")
            for piece in task.ngrams
        ),
        reference_point=(0.0,) * count,
        discount=1.0,
        horizon=task.max_length,
        known_front=KnownFront(
            lambda discount: _front(task, discount).copy(),
            "exact",
            "induction over the length of the string",
        ),
        anchors={"exact": hypervolume(_front(task, 1.0), [0.0] * count).value} if count < 6 else {},
        description="Write a string in which two to four given pieces occur as often as can be.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.n_grams:make_one",
    vector_entry_point="morl.envs.n_grams:NGramsVectorEnv",
)
