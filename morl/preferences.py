"""Sets of preferences: points of the simplex, shape (preference, objective).

`lattice` makes the grids of the papers, `sobol_simplex` the fixed set that this suite reports on,
`dirichlet` random draws.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morl.types import EnvSpec, Front, MorlError, Vector

SOBOL_SHA256 = "3289e78a1f5630863cdc894bb30a0feb3ef165fcdecd15b52e25994182fcf8ec"
"""SHA-256 of the stored Sobol set, ``morl/data/sobol.npy``."""

SOBOL_COUNT = 4096
"""Points of the stored set."""

SOBOL_OBJECTIVES = 10
"""Dimensions of the stored set."""

_LARGEST_LATTICE = 10_000_000


class PreferenceError(MorlError, ValueError):
    """Preferences that are not on the simplex, or a set that cannot be made."""


class WeightError(MorlError, ValueError):
    """Weights that cannot turn rewards into one number."""


class Lattice(NamedTuple):
    """A grid of a paper: all preferences whose coordinates are multiples of ``1 / divisions``."""

    num_objectives: int
    divisions: int


PAPER_LATTICES: Mapping[str, Lattice] = MappingProxyType(
    {
        "c-morl/mujoco-2": Lattice(2, 100),
        "c-morl/mujoco-3": Lattice(3, 10),
        "c-morl/building-3": Lattice(3, 10),
        "c-morl/minecart": Lattice(3, 2),
        "c-morl/lunar-lander": Lattice(4, 2),
        "c-morl/fruit-tree": Lattice(6, 2),
        "c-morl/building-9": Lattice(9, 2),
        "pgmorl/tasks-2": Lattice(2, 5),
        "pgmorl/tasks-3": Lattice(3, 4),
    }
)
"""Grids of the released codes of C-MORL (evaluation) and PGMORL (warm-up tasks), as intended.

C-MORL's code finds its grid by comparing floating-point sums with 1 and loses points that way (62
of 66 at three objectives and steps of 0.1); the full grid is meant here.
"""


def check_preferences(preferences: ArrayLike, *, num_objectives: int | None = None) -> Front:
    """Take preferences in, or say what is wrong with them.

    Args:
        preferences: shape (preference, objective), rows on the simplex up to 1e-6.
        num_objectives: expected number of objectives, if known.

    Returns:
        The preferences as contiguous float64.

    Raises:
        PreferenceError: names the row and what is wrong with it.
    """
    try:
        table = np.ascontiguousarray(preferences, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise PreferenceError(f"preferences: not a table of numbers: {cause}") from cause
    if np.ndim(preferences) != 2 or table.shape[0] < 1 or table.shape[1] < 1:
        raise PreferenceError(
            "preferences: expected shape (preference, objective) with at least one row,"
            f" got {np.shape(preferences)}"
        )
    if num_objectives is not None and table.shape[1] != num_objectives:
        raise PreferenceError(
            f"preferences: have {table.shape[1]} coordinates for {num_objectives} objectives"
        )
    sums = table.sum(axis=1)
    good = np.isfinite(table).all(axis=1) & (table >= 0.0).all(axis=1) & (abs(sums - 1.0) <= 1e-6)
    if not good.all():
        row = int(np.argmin(good))
        raise PreferenceError(
            f"preferences: row {row} is {table[row].tolist()} (sum {sums[row]:g});"
            " a preference has no negative coordinate and sums to 1"
        )
    return table


def checked_weights(weights: ArrayLike | None, *, spec: EnvSpec) -> Vector:
    """Weights of the objectives, equal ones for None.

    Args:
        weights: shape (objective,), finite; they need not sum to one.
        spec: of the environment whose objectives they weigh.

    Raises:
        WeightError: wrong length or not finite.
    """
    names = spec.objective_names
    if weights is None:
        return np.full(len(names), 1.0 / len(names))
    try:
        vector: Vector = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WeightError(f"{spec.id}: weights are no numbers: {weights!r}") from error
    if vector.shape != (len(names),):
        raise WeightError(
            f"{spec.id}: weights of shape {vector.shape} for {len(names)} objectives "
            f"({', '.join(names)}); give one number each"
        )
    if not np.isfinite(vector).all():
        raise WeightError(f"{spec.id}: weights must be finite, got {vector.tolist()}")
    return vector


def lattice(num_objectives: int, divisions: int) -> Front:
    """All preferences whose coordinates are multiples of ``1 / divisions``.

    Made from integer compositions, so that no point is lost to rounding (Das and Dennis, 1998).

    Args:
        num_objectives: at least 1.
        divisions: steps from 0 to 1, at least 1.

    Returns:
        Shape (preference, objective) with ``comb(divisions + num_objectives - 1,
        num_objectives - 1)`` rows, in lexicographic order.

    Raises:
        PreferenceError: a number out of range, or more than ten million preferences.
    """
    if num_objectives < 1 or divisions < 1:
        raise PreferenceError(
            "lattice: needs at least 1 objective and 1 division,"
            f" got {num_objectives} and {divisions}"
        )
    bars = num_objectives - 1
    count = math.comb(divisions + bars, bars)
    if count > _LARGEST_LATTICE:
        raise PreferenceError(
            f"lattice: {num_objectives} objectives in {divisions} divisions are {count:,}"
            " preferences; take fewer divisions or sobol_simplex"
        )
    # A composition of `divisions` into parts is a choice of places for the bars between them.
    places = np.fromiter(
        itertools.chain.from_iterable(itertools.combinations(range(divisions + bars), bars)),
        dtype=np.int64,
        count=count * bars,
    ).reshape(count, bars)
    parts = np.diff(places, axis=1, prepend=-1, append=divisions + bars) - 1
    return np.asarray(parts / divisions, dtype=np.float64)


def paper_lattice(name: str) -> Front:
    """The grid of a paper, see `PAPER_LATTICES`.

    Raises:
        PreferenceError: unknown name; lists the known ones.
    """
    if name not in PAPER_LATTICES:
        raise PreferenceError(f"no paper lattice {name!r}; there are: {', '.join(PAPER_LATTICES)}")
    return lattice(*PAPER_LATTICES[name])


def sobol_simplex(num_objectives: int, count: int = SOBOL_COUNT) -> Front:
    """The suite's fixed set of preferences, uniform over the simplex.

    A scrambled Sobol set turned into exponential spacings. It is stored with the package, since
    libraries change theirs between versions; sets of fewer objectives come from the first
    dimensions and shorter ones are the first rows. It was made by SciPy 1.17's
    ``qmc.Sobol(10, scramble=True, bits=32, rng=np.random.default_rng(0)).random(4096)``, times
    2**32.

    Args:
        num_objectives: 1 to 10.
        count: 1 to 4,096; powers of two are balanced best.

    Returns:
        Shape (count, num_objectives); read-only, rows on the simplex.

    Raises:
        PreferenceError: a number out of range, or a stored set that was changed.
    """
    if not 1 <= num_objectives <= SOBOL_OBJECTIVES:
        raise PreferenceError(
            f"sobol_simplex: stored for 1 to {SOBOL_OBJECTIVES} objectives, not {num_objectives};"
            " use dirichlet or lattice"
        )
    if not 1 <= count <= SOBOL_COUNT:
        raise PreferenceError(f"sobol_simplex: count must be 1 to {SOBOL_COUNT}, got {count}")
    return _spacings(num_objectives)[:count]


def spread_preferences(num_objectives: int, count: int) -> Front:
    """So many preferences, spread over the simplex: a lattice, filled up by the Sobol set.

    Args:
        num_objectives: 1 to 10.
        count: at least 1.

    Returns:
        Shape (count, num_objectives): the largest lattice that fits, then the first rows of
        `sobol_simplex`. Where no lattice fits, the Sobol set alone.

    Raises:
        PreferenceError: a number out of range.
    """
    divisions = 0
    bars = num_objectives - 1
    while bars and math.comb(divisions + 1 + bars, bars) <= count:
        divisions += 1
    rows = lattice(num_objectives, divisions) if divisions else np.zeros((0, num_objectives))
    missing = count - len(rows)
    return np.concatenate([rows, sobol_simplex(num_objectives, missing)]) if missing else rows


def dirichlet(
    num_objectives: int,
    count: int,
    *,
    rng: np.random.Generator,
    concentration: float = 1.0,
) -> Front:
    """Random preferences; uniform over the simplex unless told otherwise.

    Args:
        num_objectives: at least 1.
        count: number of preferences, at least 0.
        rng: source of randomness.
        concentration: parameter of the symmetric Dirichlet distribution, positive; below 1
            favours the corners, above 1 the middle.

    Returns:
        Shape (count, num_objectives), rows on the simplex.

    Raises:
        PreferenceError: a number out of range.
    """
    if num_objectives < 1 or count < 0 or not 0.0 < concentration < math.inf:
        raise PreferenceError(
            "dirichlet: needs num_objectives >= 1, count >= 0 and a positive concentration, got"
            f" {num_objectives}, {count} and {concentration}"
        )
    return rng.dirichlet(np.full(num_objectives, concentration), size=count)


@lru_cache(maxsize=SOBOL_OBJECTIVES)
def _spacings(num_objectives: int) -> Front:
    """The whole stored set on the simplex, read-only."""
    # Half a step up: the middle of the cell, so that no coordinate is exactly zero.
    uniform = (_stored_sobol()[:, :num_objectives] + 0.5) / 2.0**32
    exponential = -np.log1p(-uniform)
    preferences: Front = exponential / exponential.sum(axis=1, keepdims=True)
    preferences.setflags(write=False)
    return preferences


@lru_cache(maxsize=1)
def _stored_sobol() -> NDArray[np.uint32]:
    """The stored integers, shape (4096, 10), after a look at their hash."""
    content = resources.files("morl").joinpath("data/sobol.npy").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SOBOL_SHA256:
        raise PreferenceError(
            f"morl/data/sobol.npy: SHA-256 is {digest}, not {SOBOL_SHA256}; the file was changed"
            " and no expected utility could be compared: install the package again"
        )
    stored: NDArray[np.uint32] = np.load(io.BytesIO(content), allow_pickle=False)
    return stored
