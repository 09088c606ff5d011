"""Hypergrid: walk away from the corner of a grid and stop where two to five functions are high.

Two variants are published, with the same moves and different scales of two functions: that of the
MOGFN authors' experiments (Jain et al., "Multi-Objective GFlowNets", ICML 2023) and that of OP-GFN
(Chen and Mauch, "Order-Preserving GFlowNets", ICLR 2024). Written from the formulas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.compositional import Actions, CompositionalCore, Mask, States
from morl.envs.compositional import CompositionalEnv, CompositionalVectorEnv, settings_among
from morl.envs.vector import EnvArgumentError
from morl.indicators import hypervolume
from morl.pareto import nondominated
from morl.registry import register_env
from morl.types import EnvSpec, Front, KnownFront, Objective

ID = "hypergrid-v0"

Plane = NDArray[np.float64]
"""Coordinates from -1 to 1 or values, of any shape."""

VARIANTS = ("op-gfn", "mogfn")
"""Whose scales of shubert and beale."""

EDGES = ("end", "stay")
"""At the far edge a walk ends by itself, or only goes no further in that direction."""

MOST_CELLS = 2**20
"""Grids up to this size are enumerated for the exact front."""


def branin(x: Plane, y: Plane) -> Plane:
    """Branin's function, turned upside down; 1 is the best."""
    a, b = 7.5 * (x + 1.0) - 5.0, 7.5 * (y + 1.0)
    valley = b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6
    return np.asarray(1 - (valley**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10) / 308.13)


def currin(x: Plane, y: Plane) -> Plane:
    """Currin's function."""
    a, b = (x + 1.0) / 2.0, (y + 1.0) / 2.0
    rational = (2300 * a**3 + 1900 * a**2 + 2092 * a + 60) / (100 * a**3 + 500 * a**2 + 4 * a + 20)
    return np.asarray((1 - np.exp(-1 / (2 * b + 1e-10))) * rational / 13.77)


def sphere(x: Plane, y: Plane) -> Plane:
    """Half the squared distance to the centre."""
    return np.asarray((x**2 + y**2) / 2.0)


def _raw_beale(x: Plane, y: Plane) -> Plane:
    terms = ((1.5, 1), (2.25, 2), (2.625, 3))
    return np.asarray(sum((constant - x + x * y**power) ** 2 for constant, power in terms))


def beale_op_gfn(x: Plane, y: Plane) -> Plane:
    """Beale's function over 38.8."""
    return _raw_beale(x, y) / 38.8


def beale_mogfn(x: Plane, y: Plane) -> Plane:
    """Beale's function, from its least to its largest value on the square."""
    low, high = 4.36994, 38.703125
    return np.clip((_raw_beale(x, y) - low) / (high - low), 0.0, 1.0)  # the limits are rounded


def _waves(t: Plane, phases: Sequence[float]) -> Plane:
    return np.asarray(
        sum(i * np.cos((i + 1) * t + phase) for i, phase in enumerate(phases, start=1))
    )


def shubert_op_gfn(x: Plane, y: Plane) -> Plane:
    """Shubert's function."""
    phases = (1, 2, 3, 4, 5)
    return (_waves(-1.5 * x, phases) * _waves(-1.5 * y, phases) + 186.8) / 397


def shubert_mogfn(x: Plane, y: Plane) -> Plane:
    """Shubert's function with phases ten times as large, from its least to its largest value."""
    phases = (10, 20, 30, 40, 50)
    low, high = -12.5813, 12.8523
    waves = _waves(x, phases) * _waves(y, phases)
    return np.clip((waves - low) / (high - low), 0.0, 1.0)  # the limits are rounded


FUNCTIONS: Mapping[str, Mapping[str, Callable[[Plane, Plane], Plane]]] = {
    "op-gfn": {
        "branin": branin,
        "currin": currin,
        "shubert": shubert_op_gfn,
        "beale": beale_op_gfn,
        "sphere": sphere,
    },
    "mogfn": {
        "branin": branin,
        "currin": currin,
        "shubert": shubert_mogfn,
        "sphere": sphere,
        "beale": beale_mogfn,
    },
}
"""By variant, in the order in which its experiments add them; OP-GFN's do not use the sphere."""


BEST: Mapping[str, float] = {"currin": 1.0021}
"""What functions never exceed, where that exceeds one: currin is scaled by a round number."""


@dataclass(frozen=True)
class Grid:
    """The settings of a hypergrid.

    Attributes:
        objectives: names of functions.
        height: cells along each side.
        dimensions: sides of the grid, an even number; functions take the mean over pairs of
            coordinates, the first two, the next two and so on.
        variant: one of `VARIANTS`.
        edge: one of `EDGES`.
    """

    objectives: tuple[str, ...]
    height: int
    dimensions: int
    variant: str
    edge: str

    @classmethod
    def checked(
        cls,
        *,
        objectives: Sequence[str] = ("branin", "currin"),
        height: int = 32,
        dimensions: int = 2,
        variant: str = "op-gfn",
        edge: str = "end",
    ) -> Grid:
        """The settings, if they make sense.

        Raises:
            EnvArgumentError: if not.
        """
        if variant not in VARIANTS:
            raise EnvArgumentError(
                f"{ID}: variant must be one of {', '.join(VARIANTS)}, got {variant!r}"
            )
        if edge not in EDGES:
            raise EnvArgumentError(f"{ID}: edge must be one of {', '.join(EDGES)}, got {edge!r}")
        known = FUNCTIONS[variant]
        unknown = [name for name in objectives if name not in known]
        if unknown or isinstance(objectives, str):
            raise EnvArgumentError(
                f"{ID}: objectives must be names among {', '.join(known)}, got {objectives!r}"
            )
        if len(objectives) < 1 or len(set(objectives)) < len(objectives):
            raise EnvArgumentError(f"{ID}: objectives must be different, got {list(objectives)}")
        if height < 2:
            raise EnvArgumentError(f"{ID}: height must be at least 2, got {height}")
        if dimensions < 2 or dimensions % 2:
            raise EnvArgumentError(f"{ID}: dimensions must be even and positive, got {dimensions}")
        return cls(tuple(objectives), int(height), int(dimensions), variant, edge)

    @property
    def num_cells(self) -> int:
        """Cells of the grid, those that no walk ends in included."""
        return int(self.height**self.dimensions)

    @property
    def horizon(self) -> int:
        """Most steps of a walk."""
        furthest = self.dimensions * (self.height - 1)
        # At the end edge, the last move finishes the walk instead of a stop; at least one
        # coordinate gets there, the others at most one short of it.
        return furthest + 1 if self.edge == "stay" else furthest - self.dimensions + 1

    def values(self, cells: States) -> Front:
        """Objective values of cells, (cell, objective)."""
        places = cells / (self.height - 1) * 2.0 - 1.0
        functions = FUNCTIONS[self.variant]
        columns = [
            np.mean(
                [
                    functions[name](places[:, first], places[:, first + 1])
                    for first in range(0, self.dimensions, 2)
                ],
                axis=0,
            )
            for name in self.objectives
        ]
        return np.stack(columns, axis=1)

    def ends(self, cells: States) -> Mask:
        """Whether walks end in cells by themselves, (cell,)."""
        if self.edge == "stay":
            return np.zeros(len(cells), np.bool_)
        return np.asarray((cells == self.height - 1).any(axis=1))

    def finishable(self) -> States:
        """All cells in which a walk can end, (cell, dimension).

        Raises:
            EnvArgumentError: for a grid of more than `MOST_CELLS`.
        """
        if self.num_cells > MOST_CELLS:
            raise EnvArgumentError(
                f"{ID}: {self.num_cells:,} cells are too many to list, at most {MOST_CELLS:,}"
            )
        sides = (self.height,) * self.dimensions
        cells: States = np.indices(sides, np.int64).reshape(self.dimensions, -1).T
        if self.edge == "stay":
            return cells
        at_edge = (cells == self.height - 1).sum(axis=1)
        return np.asarray(cells[at_edge <= 1])


@functools.lru_cache(maxsize=64)
def _front(grid: Grid, discount: float) -> Front:
    cells = grid.finishable()
    # The stop is a step as well.
    steps = cells.sum(axis=1) + ~grid.ends(cells)
    returns = grid.values(cells) * discount ** (steps[:, None] - 1)
    front: Front = returns[nondominated(returns)]
    front.setflags(write=False)
    return front


class HypergridCore(CompositionalCore):
    """Cells of a grid, reached from its corner; actions move one cell up along a side, or stop.

    Args:
        grid: the settings.
        name: id of the environment, for messages.
    """

    ordinal = True

    def __init__(self, grid: Grid, *, name: str = ID) -> None:
        super().__init__(
            name=name,
            objective_names=grid.objectives,
            num_actions=grid.dimensions + 1,
            horizon=grid.horizon,
            state_width=grid.dimensions,
            encoding_width=grid.dimensions * grid.height,
            utopia=[BEST.get(name, 1.0) for name in grid.objectives],
        )
        self.grid = grid
        self._offsets = np.arange(grid.dimensions) * grid.height

    def initial(self, count: int) -> States:
        """The corner; see the base class."""
        return np.zeros((count, self.grid.dimensions), np.int64)

    def mask(self, states: States) -> Mask:
        """All moves that stay in the grid, and the stop."""
        mask = np.ones((len(states), self.num_actions), np.bool_)
        mask[:, :-1] = states < self.grid.height - 1
        return mask

    def _advance(self, states: States, actions: Actions) -> States:
        after = states.copy()
        after[np.arange(len(after)), actions] += 1
        return after

    def ends(self, states: States) -> Mask:
        """At the far edge, where it ends walks."""
        return self.grid.ends(states)

    def backward_mask(self, states: States) -> Mask:
        """Moves that led here; none of them started where walks end."""
        mask = np.zeros((len(states), self.num_actions), np.bool_)
        mask[:, :-1] = states > 0
        if self.grid.edge == "end":
            at_edge = states == self.grid.height - 1
            mask[:, :-1] &= at_edge | ~at_edge.any(axis=1, keepdims=True)
        return mask

    def undo(self, states: States, actions: Actions) -> States:
        """One cell back."""
        before = states.copy()
        before[np.arange(len(before)), actions] -= 1
        return before

    def encode(self, states: States) -> NDArray[np.float32]:
        """A one for each coordinate, (object, dimension x height)."""
        code = np.zeros((len(states), self.encoding_width), np.float32)
        np.put_along_axis(code, states + self._offsets, 1.0, axis=1)
        return code

    def decode(self, encodings: NDArray[np.float32]) -> States:
        """The place of the one of each coordinate."""
        sides = encodings.reshape(len(encodings), self.grid.dimensions, self.grid.height)
        return np.asarray(sides.argmax(axis=2), np.int64)

    def describe(self, states: States) -> list[str]:
        """Coordinates in brackets."""
        return [f"({', '.join(map(str, row))})" for row in states.tolist()]

    def distance(self, first: States, second: States) -> NDArray[np.float64]:
        """Steps between cells, over the longest way through the grid."""
        steps = np.abs(first[:, None] - second[None]).sum(axis=2)
        return np.asarray(steps / (self.grid.dimensions * (self.grid.height - 1)))

    def _objectives(self, states: States) -> Front:
        return self.grid.values(states)

    def reference_front(self) -> Front | None:
        """All nondominated values, or None of a grid too large to be enumerated."""
        if self.grid.num_cells > MOST_CELLS:
            return None
        return _front(self.grid, 1.0).copy()

    def genome_sizes(self) -> NDArray[np.int64]:
        """A gene for each coordinate."""
        return np.full(self.grid.dimensions, self.grid.height, np.int64)

    def from_genomes(self, genomes: NDArray[np.int64]) -> States:
        """Cells; of several coordinates at the far edge where walks end, the first stays there."""
        cells = genomes.astype(np.int64)
        if self.grid.edge == "end":
            at_edge = cells == self.grid.height - 1
            extra = at_edge & (np.cumsum(at_edge, axis=1) > 1)
            cells[extra] -= 1
        return cells


class HypergridVectorEnv(CompositionalVectorEnv):
    """N walks through a grid.

    Observation: the coordinates, each as one of `height` numbers that is one while the others are
    zero, float32. Actions: one cell up along each side, stop. Reward: the functions at the cell
    where the walk stops, zero before.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        objectives: Sequence[str] = ("branin", "currin"),
        height: int = 32,
        dimensions: int = 2,
        variant: str = "op-gfn",
        edge: str = "end",
        illegal: str = "remap",
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            objectives: functions, see `FUNCTIONS`.
            height: cells along each side.
            dimensions: sides of the grid, an even number.
            variant: "op-gfn" or "mogfn", whose scales.
            edge: "end", where the far edge ends a walk, or "stay", where it only blocks the way.
            illegal: "remap" or "error", for moves out of the grid.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        grid = Grid.checked(
            objectives=objectives, height=height, dimensions=dimensions, variant=variant, edge=edge
        )
        super().__init__(
            HypergridCore(grid, name=env_id),
            num_envs,
            env_id=env_id,
            illegal=illegal,
            max_episode_steps=max_episode_steps,
            copy=copy,
        )


def make_one(**arguments: Any) -> CompositionalEnv:  # noqa: ANN401 - as the batch
    """One walk, for Gymnasium's ordinary interface; arguments of `HypergridVectorEnv`."""
    return CompositionalEnv(HypergridVectorEnv(1, **arguments))


MEANINGS: Mapping[str, str] = {
    "branin": "Branin's function, turned upside down.",
    "currin": "Currin's exponential function.",
    "shubert": "Shubert's function, many hills.",
    "sphere": "Squared distance to the centre.",
    "beale": "Beale's function, high at the corners.",
}


def _known_front(grid: Grid) -> KnownFront:
    return KnownFront(
        lambda discount: _front(grid, discount).copy(), "exact", "enumeration of all cells"
    )


@functools.lru_cache(maxsize=64)
def _anchors(grid: Grid) -> tuple[tuple[str, float], ...]:
    if grid.num_cells > MOST_CELLS // 16 or len(grid.objectives) > 5:
        return ()
    return (("exact", hypervolume(_front(grid, 1.0), [0.0] * len(grid.objectives)).value),)


def _spec(**arguments: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    grid = Grid.checked(**settings_among(arguments, Grid))
    return EnvSpec(
        id=ID,
        objectives=tuple(Objective(name, "", MEANINGS[name]) for name in grid.objectives),
        reference_point=(0.0,) * len(grid.objectives),
        discount=1.0,
        horizon=grid.horizon,
        known_front=_known_front(grid) if grid.num_cells <= MOST_CELLS else None,
        anchors=dict(_anchors(grid)),
        description="Walk through a grid and stop where two to five functions are high.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.hypergrid:make_one",
    vector_entry_point="morl.envs.hypergrid:HypergridVectorEnv",
)
