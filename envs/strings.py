"""Strings written from left to right: what n-grams, aptamers and the like have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.compositional import Actions, CompositionalCore, Mask, States
from morl.envs.vector import EnvArgumentError


@njit(cache=True)
def _edits(first: NDArray[np.int64], second: NDArray[np.int64], row: NDArray[np.int64]) -> int:
    """Levenshtein distance of two rows, each up to its first -1; `row` is for scratch."""
    columns = 0
    while columns < second.shape[0] and second[columns] >= 0:
        columns += 1
    for j in range(columns + 1):
        row[j] = j
    i = 0
    while i < first.shape[0] and first[i] >= 0:
        diagonal = row[0]
        row[0] = i + 1
        for j in range(columns):
            changed = diagonal + (first[i] != second[j])
            diagonal = row[j + 1]
            row[j + 1] = min(changed, row[j + 1] + 1, row[j] + 1)
        i += 1
    return int(row[columns])


@njit(cache=True)
def levenshtein(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fewest insertions, deletions and changes of letters between all rows of two sets.

    Args:
        first: letters, then -1, (string, position).
        second: likewise, (string, position).

    Returns:
        Shape (first, second).
    """
    table = np.empty((first.shape[0], second.shape[0]))
    row = np.empty(second.shape[1] + 1, np.int64)
    for i in range(first.shape[0]):
        for j in range(second.shape[0]):
            table[i, j] = _edits(first[i], second[j], row)
    return table


def check_strings(alphabet: str, min_length: int, max_length: int, *, name: str) -> None:
    """Refuse lengths or letters that make no strings.

    Raises:
        EnvArgumentError: names the environment.
    """
    if not 1 <= min_length <= max_length:
        raise EnvArgumentError(
            f"{name}: lengths must be positive and in order, got min_length {min_length} and "
            f"max_length {max_length}"
        )
    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise EnvArgumentError(f"{name}: letters must differ, got alphabet {alphabet!r}")


class StringCore(CompositionalCore):
    """Strings of one alphabet, letters added on the right.

    The graph is a tree: a string has one parent. At its greatest length a string ends by itself.

    Attributes:
        alphabet: the letters; action i adds letter i.
        min_length: length from which strings can be stopped.
        max_length: length at which they end.
    """

    def __init__(
        self,
        *,
        name: str,
        objective_names: Sequence[str],
        alphabet: str,
        min_length: int,
        max_length: int,
        utopia: Sequence[float] | None = None,
        cache: int = 0,
    ) -> None:
        """Set the alphabet.

        Args:
            name: id of the environment, for messages.
            objective_names: names of the objectives, in order.
            alphabet: the letters.
            min_length: shortest string, at least 1.
            max_length: longest string.
            utopia: best values, by default ones.
            cache: most strings whose values are remembered.

        Raises:
            EnvArgumentError: for lengths or letters that make no strings.
        """
        check_strings(alphabet, min_length, max_length, name=name)
        super().__init__(
            name=name,
            objective_names=objective_names,
            num_actions=len(alphabet) + 1,
            # The longest string needs no stop, but the next to longest does.
            horizon=max_length,
            state_width=max_length,
            encoding_width=max_length * len(alphabet),
            vocabulary=len(alphabet),
            utopia=utopia,
            cache=cache,
        )
        self.alphabet = alphabet
        self.min_length = min_length
        self.max_length = max_length

    def lengths(self, states: States) -> NDArray[np.int64]:
        """Number of letters, (object,)."""
        return np.asarray((states >= 0).sum(axis=1), np.int64)

    def initial(self, count: int) -> States:
        """The empty string."""
        return np.full((count, self.max_length), -1, np.int64)

    def mask(self, states: States) -> Mask:
        """Letters while there is room, the stop once the string is long enough."""
        lengths = self.lengths(states)
        mask = np.empty((len(states), self.num_actions), np.bool_)
        mask[:, :-1] = (lengths < self.max_length)[:, None]
        mask[:, -1] = (lengths >= self.min_length) & (lengths < self.max_length)
        return mask

    def _advance(self, states: States, actions: Actions) -> States:
        after = states.copy()
        after[np.arange(len(after)), self.lengths(states)] = actions
        return after

    def ends(self, states: States) -> Mask:
        """At the greatest length."""
        return np.asarray(states[:, -1] >= 0)

    def backward_mask(self, states: States) -> Mask:
        """The last letter."""
        mask = np.zeros((len(states), self.num_actions), np.bool_)
        lengths = self.lengths(states)
        written = np.flatnonzero(lengths)
        mask[written, states[written, lengths[written] - 1]] = True
        return mask

    def undo(self, states: States, actions: Actions) -> States:  # noqa: ARG002 - only one
        """The string without its last letter."""
        before = states.copy()
        before[np.arange(len(before)), self.lengths(states) - 1] = -1
        return before

    def encode(self, states: States) -> NDArray[np.float32]:
        """A one for each letter at its position, (object, position x letter)."""
        code = np.zeros((len(states), self.max_length, len(self.alphabet)), np.float32)
        rows, positions = np.nonzero(states >= 0)
        code[rows, positions, states[rows, positions]] = 1.0
        return code.reshape(len(states), -1)

    def decode(self, encodings: NDArray[np.float32]) -> States:
        """The letter at each position, -1 where there is none."""
        places = encodings.reshape(len(encodings), self.max_length, len(self.alphabet))
        return np.where(places.any(axis=2), places.argmax(axis=2), -1)

    def describe(self, states: States) -> list[str]:
        """The letters."""
        return ["".join(self.alphabet[i] for i in row if i >= 0) for row in states.tolist()]

    def parse(self, strings: Sequence[str]) -> States:
        """Objects of their letters.

        Raises:
            EnvArgumentError: for a letter that is not in the alphabet, or a wrong length.
        """
        states = self.initial(len(strings))
        for row, string in enumerate(strings):
            strange = sorted(set(string) - set(self.alphabet))
            if strange or not self.min_length <= len(string) <= self.max_length:
                raise EnvArgumentError(
                    f"{self.name}: {string!r} is not a string of {self.min_length} to "
                    f"{self.max_length} letters of {self.alphabet}"
                )
            states[row, : len(string)] = [self.alphabet.index(letter) for letter in string]
        return states

    def distance(self, first: States, second: States) -> NDArray[np.float64]:
        """Levenshtein distance: fewest insertions, deletions and changes of letters."""
        return np.asarray(levenshtein(first, second))
