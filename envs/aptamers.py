"""DNA aptamers: write a strand of 30 to 60 bases that folds tightly into many hairpins and pairs.

Task of Jain et al., "Multi-Objective GFlowNets" (ICML 2023), with one declared substitution: they
fold with NUPACK, which must be licensed, here ViennaRNA folds (Lorenz et al. 2011; DNA parameters
of Mathews 2004, 37 degrees Celsius, 1 M sodium). Values of the two cannot be compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morl.compositional import States
from morl.envs.compositional import CompositionalEnv, CompositionalVectorEnv, settings_among
from morl.envs.strings import StringCore, check_strings
from morl.envs.vector import EnvArgumentError
from morl.registry import register_env
from morl.types import EnvSpec, Front, Objective

ID = "dna-aptamers-v0"

BASES = "ACTG"

MIN_LENGTH, MAX_LENGTH = 30, 60

TEMPERATURE = 37.0  # degrees Celsius
SODIUM = 1.0  # mol / l
ENERGY, PINS, PAIRS = 60.0, 8.0, 16.0
"""What a strand may have of each: kcal/mol, hairpins and base pairs that count as one."""

OBJECTIVES: Mapping[str, Objective] = {
    "energy": Objective("energy", "60 kcal/mol", "Energy that the best fold sets free."),
    "pins": Objective("pins", "8 hairpins", "Parts of the best fold that are closed by a pair."),
    "pairs": Objective("pairs", "16 pairs", "Paired bases of the best fold, by twos."),
    "shortness": Objective("shortness", "", "Shortest possible length over the length."),
}

CACHE = 200_000
"""Strands whose values are remembered: a fold takes milliseconds."""

Fold = tuple[str, float]
"""A fold in brackets, and its energy in kcal/mol."""

Folder = Callable[[Sequence[str]], Sequence[Fold]]
"""Folds strands."""


def folder() -> Folder:
    """The best folds of strands of DNA by ViennaRNA.

    Raises:
        EnvArgumentError: ViennaRNA is not installed.
    """
    try:
        rna: Any = importlib.import_module("RNA")
    except ImportError as error:
        raise EnvArgumentError(f"{ID} needs ViennaRNA: pip install 'morl-suite[dna]'") from error

    def fold(strands: Sequence[str]) -> list[Fold]:
        # Parameters belong to the process: somebody else may have changed them in between.
        rna.params_load_DNA_Mathews2004()
        model = rna.md()
        model.temperature = TEMPERATURE
        model.salt = SODIUM
        found = [rna.fold_compound(bases, model).mfe() for bases in strands]
        return [(str(structure), float(energy)) for structure, energy in found]

    return fold


def count_pins(structure: str) -> int:
    """How often the brackets of a fold close completely; "((..))..(..)" has two."""
    depth = pins = 0
    for symbol in structure:
        if symbol == "(":
            depth += 1
        elif symbol == ")":
            depth -= 1
            pins += depth == 0
    return pins


@dataclass(frozen=True)
class Strands:
    """The settings of the task.

    Attributes:
        objectives: names among `OBJECTIVES`.
        min_length: shortest strand.
        max_length: longest strand.
    """

    objectives: tuple[str, ...]
    min_length: int
    max_length: int

    @classmethod
    def checked(
        cls,
        *,
        objectives: Sequence[str] = ("energy", "pins", "pairs"),
        min_length: int = MIN_LENGTH,
        max_length: int = MAX_LENGTH,
    ) -> Strands:
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
        check_strings(BASES, min_length, max_length, name=ID)
        return cls(tuple(objectives), int(min_length), int(max_length))


class AptamersCore(StringCore):
    """Strands of DNA, worth what their best fold is worth.

    Args:
        task: the settings.
        name: id of the environment, for messages.
        fold: folds strands; None for `folder`.
    """

    def __init__(self, task: Strands, *, name: str = ID, fold: Folder | None = None) -> None:
        super().__init__(
            name=name,
            objective_names=task.objectives,
            alphabet=BASES,
            min_length=task.min_length,
            max_length=task.max_length,
            utopia=[_best(objective, task) for objective in task.objectives],
            cache=CACHE,
        )
        self.task = task
        self._fold = folder() if fold is None else fold

    def keys(self, states: States) -> list[Hashable]:
        """The bases."""
        return list(self.describe(states))

    def _objectives(self, states: States) -> Front:
        strands = self.describe(states)
        return np.array(
            [self._worth(*item) for item in zip(strands, self._fold(strands), strict=True)]
        )

    def _worth(self, bases: str, fold: Fold) -> list[float]:
        structure, energy = fold
        values = {
            "energy": -energy / ENERGY,
            "pins": count_pins(structure) / PINS,
            "pairs": structure.count("(") / PAIRS,
            "shortness": self.min_length / len(bases),
        }
        # The open strand has no energy: -0.0 becomes 0.0.
        return [values[name] + 0.0 for name in self.task.objectives]


def _best(objective: str, task: Strands) -> float:
    """What no strand of these lengths exceeds."""
    pairs = task.max_length // 2
    # A pair stacked on another sets free less than 3 kcal/mol; a hairpin has three open bases.
    bounds = {
        "energy": 3.0 * pairs / ENERGY,
        "pins": task.max_length // 5 / PINS,
        "pairs": pairs / PAIRS,
        "shortness": 1.0,
    }
    return max(1.0, bounds[objective])


class AptamersVectorEnv(CompositionalVectorEnv):
    """N strands being written.

    Observation: for every position and base whether the base stands there, float32. Actions:
    append A, C, T or G, stop. Reward: what the best fold is worth when the strand is finished,
    zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        objectives: Sequence[str] = ("energy", "pins", "pairs"),
        min_length: int = MIN_LENGTH,
        max_length: int = MAX_LENGTH,
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            objectives: names among `OBJECTIVES`.
            min_length: shortest strand.
            max_length: longest strand.
            illegal: "remap" or "error", for a stop that comes too early.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument, or without ViennaRNA.
        """
        task = Strands.checked(objectives=objectives, min_length=min_length, max_length=max_length)
        super().__init__(
            AptamersCore(task, name=env_id),
            num_envs,
            env_id=env_id,
            illegal=illegal,
            max_episode_steps=max_episode_steps,
            copy=copy,
        )


def make_one(**arguments: Any) -> CompositionalEnv:  # noqa: ANN401 - as the batch
    """One strand, for Gymnasium's ordinary interface; arguments of `AptamersVectorEnv`."""
    return CompositionalEnv(AptamersVectorEnv(1, **arguments))


def _spec(**arguments: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    task = Strands.checked(**settings_among(arguments, Strands))
    return EnvSpec(
        id=ID,
        objectives=tuple(OBJECTIVES[name] for name in task.objectives),
        reference_point=(0.0,) * len(task.objectives),
        discount=1.0,
        horizon=task.max_length,
        extra="dna",
        description="Write a strand of DNA that folds tightly into many hairpins and pairs.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.aptamers:make_one",
    vector_entry_point="morl.envs.aptamers:AptamersVectorEnv",
    requires=("RNA",),
)
