"""Random finite multi-objective decision processes: a family to choose and judge defaults on.

A seed draws a problem of one of four kinds:

- ``layered``: a graph of layers; every action leads to a random state of the next layer and pays
  a random vector. Observations are arbitrary codes of the states.
- ``grid``: treasures in a grid with dangerous cells; time, treasure and safety conflict.
  Observations are coordinates.
- ``chain``: a walk along a chain that chance may speed up; actions trade the objectives.
  Observations are codes.
- ``tree``: a tree whose leaves lie on a concave front, among others that are dominated.
  Observations are depth and position, as in the fruit tree.

All fronts are exact: `morl.exact` finds them by backward induction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit
from numpy.typing import NDArray

from morl.envs.single import SingleEnv
from morl.envs.vector import BatchedEnv, EnvArgumentError, RandomBlocks
from morl.exact import END, FiniteModel, pareto_front
from morl.registry import register_env
from morl.types import EnvSpec, Front, KnownFront, Objective

ID = "random-momdp-v0"

KINDS = ("layered", "grid", "chain", "tree")
"""What a seed draws from: seed modulo four, where no kind is asked for."""

DISCOUNTS = {"layered": 1.0, "grid": 0.98, "chain": 0.98, "tree": 1.0}

GRID_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Up, right, down, left: changes of row and column."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One drawn problem.

    Attributes:
        kind: one of `KINDS`.
        model: transitions and rewards.
        observations: int32 ``(state, feature)``; the last row stands for the end of an episode.
        horizon: steps after which an episode is truncated.
    """

    kind: str
    model: FiniteModel
    observations: NDArray[np.int32]
    horizon: int

    @property
    def discount(self) -> float:
        """Discount of the evaluation protocol."""
        return DISCOUNTS[self.kind]


@lru_cache(maxsize=64)
def problem(seed: int, kind: str | None = None, num_objectives: int | None = None) -> Problem:
    """Draw a problem.

    Args:
        seed: not negative; it decides everything that is not given.
        kind: one of `KINDS`, or None for ``KINDS[seed % 4]``.
        num_objectives: 2 to 4, or None for 2 or 3 as drawn.

    Raises:
        EnvArgumentError: for an argument out of its range.
    """
    if int(seed) != seed or seed < 0:
        raise EnvArgumentError(f"{ID}: seed must be an integer and not negative, got {seed}")
    if kind is not None and kind not in KINDS:
        raise EnvArgumentError(f"{ID}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if num_objectives is not None and num_objectives not in (2, 3, 4):
        raise EnvArgumentError(f"{ID}: num_objectives must be 2, 3 or 4, got {num_objectives}")
    chosen = kind or KINDS[int(seed) % len(KINDS)]
    rng = np.random.default_rng([int(seed), KINDS.index(chosen)])
    drawn = int(rng.integers(2, 4))
    return _DRAW[chosen](rng, num_objectives or drawn)


def _trade_offs(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    """Rewards that favour some objective: Dirichlet vectors, in tenths so that sums coincide."""
    size = rng.uniform(0.3, 1.0, (*shape, 1))
    return np.round(10.0 * size * rng.dirichlet(np.full(count, 0.6), shape)) / 10.0


def _codes(rng: np.random.Generator, num_states: int) -> NDArray[np.int32]:
    """An arbitrary number per state, and -1 for the end."""
    return np.append(rng.permutation(num_states), -1).astype(np.int32)[:, None]


def _layered(rng: np.random.Generator, count: int) -> Problem:
    depth, width, actions = (
        int(rng.integers(5, 9)),
        int(rng.integers(4, 9)),
        int(rng.integers(2, 5)),
    )
    num_states = 1 + (depth - 1) * width
    layer = np.concatenate([[0], 1 + np.arange(num_states - 1) // width])
    following = 1 + layer[:, None] * width + rng.integers(width, size=(num_states, actions))
    following[layer == depth - 1] = END
    model = FiniteModel(
        successors=following[..., None].astype(np.int64),
        probabilities=np.ones((num_states, actions, 1)),
        rewards=_trade_offs(rng, (num_states, actions), count),
    )
    observations = _codes(rng, num_states)
    return Problem(kind="layered", model=model, observations=observations, horizon=depth)


def _grid(rng: np.random.Generator, count: int) -> Problem:
    rows, columns = int(rng.integers(5, 9)), int(rng.integers(5, 9))
    cells = np.array([(row, column) for row in range(rows) for column in range(columns)])
    distance = cells.sum(axis=1)  # from the start, the upper left corner
    far = rng.permutation(np.flatnonzero(distance > 2))
    treasures = far[: int(rng.integers(4, 9))]
    values = distance[treasures] ** rng.uniform(0.7, 1.8) * rng.uniform(0.85, 1.15, len(treasures))
    dangers = far[len(treasures) :][: int(rng.integers(3, 10))]

    targets = cells[:, None] + np.array(GRID_MOVES)
    inside = ((targets >= 0) & (targets < (rows, columns))).all(axis=2)
    arrivals = np.where(
        inside, targets[..., 0] * columns + targets[..., 1], np.arange(len(cells))[:, None]
    )
    rewards = np.zeros((*arrivals.shape, count))
    rewards[..., 0] = -1.0
    worth = np.zeros(len(cells))
    worth[treasures] = np.round(values, 1)
    rewards[..., 1] = worth[arrivals]
    if count > 2:
        rewards[..., 2:] = -(np.isin(arrivals, dangers)[..., None] * rng.integers(1, 4, count - 2))
    model = FiniteModel(
        successors=np.where(np.isin(arrivals, treasures), END, arrivals)[..., None].astype(
            np.int64
        ),
        probabilities=np.ones((*arrivals.shape, 1)),
        rewards=rewards,
    )
    observations = np.vstack([cells, [[-1, -1]]]).astype(np.int32)
    return Problem(
        kind="grid", model=model, observations=observations, horizon=3 * (rows + columns)
    )


def _chain(rng: np.random.Generator, count: int) -> Problem:
    actions = int(rng.integers(2, 4))
    length = 9 - actions  # longer ones have too many returns for an exact front
    places = np.arange(length)[:, None, None]
    after = np.broadcast_to(places + np.array([1, 2]), (length, actions, 2))
    slow = rng.choice([0.25, 0.5, 0.75], (length, actions))
    slow[rng.random((length, actions)) < 0.5] = 1.0  # half of the actions leave nothing to chance
    model = FiniteModel(
        successors=np.where(after < length, after, END).astype(np.int64),
        probabilities=np.stack([slow, 1.0 - slow], axis=2),
        rewards=_trade_offs(rng, (length, actions), count),
    )
    return Problem(kind="chain", model=model, observations=_codes(rng, length), horizon=length)


def _tree(rng: np.random.Generator, count: int) -> Problem:
    branches = int(rng.integers(2, 4))
    depth = int(rng.integers(4, 7)) if branches == 2 else int(rng.integers(3, 5))
    sizes = branches ** np.arange(depth)
    first = np.concatenate([[0], np.cumsum(sizes)])
    levels = np.repeat(np.arange(depth), sizes)
    positions = np.arange(first[-1]) - first[levels]
    children = positions[:, None] * branches + np.arange(branches)
    leaves = branches**depth
    # Where the shares of an objective are raised to a power above 1, the front bends inwards.
    points = 10.0 * rng.dirichlet(np.ones(count), leaves) ** rng.uniform(1.2, 2.0)
    points = np.round(points * rng.uniform(0.4, 1.0, (leaves, 1)), 2)
    rewards = np.zeros((first[-1], branches, count))
    rewards[levels == depth - 1] = points.reshape(-1, branches, count)
    inner = levels[:, None] < depth - 1
    model = FiniteModel(
        successors=np.where(inner, first[levels + 1][:, None] + children, END)[..., None].astype(
            np.int64
        ),
        probabilities=np.ones((first[-1], branches, 1)),
        rewards=rewards,
    )
    observations = np.vstack([np.stack([levels, positions], axis=1), [[-1, -1]]]).astype(np.int32)
    return Problem(kind="tree", model=model, observations=observations, horizon=depth)


_DRAW: dict[str, Callable[[np.random.Generator, int], Problem]] = {
    "layered": _layered,
    "grid": _grid,
    "chain": _chain,
    "tree": _tree,
}


@lru_cache(maxsize=64)
def _front(seed: int, kind: str | None, num_objectives: int | None, discount: float) -> Front:
    drawn = problem(seed, kind, num_objectives)
    return pareto_front(drawn.model, discount=discount, horizon=drawn.horizon).points


def exact_front(
    discount: float, *, seed: int, kind: str | None = None, num_objectives: int | None = None
) -> Front:
    """The Pareto front of a problem, (point, objective).

    In a chain a point may need a policy that remembers its past: what is best to do can depend
    on how lucky it was.

    Args:
        discount: in (0, 1].
        seed: as for `problem`.
        kind: as for `problem`.
        num_objectives: as for `problem`.
    """
    return _front(seed, kind, num_objectives, discount).copy()


@lru_cache(maxsize=64)
def reference_point(
    seed: int, kind: str | None = None, num_objectives: int | None = None
) -> tuple[float, ...]:
    """A tenth of the front's range below its worst coordinates, one number per objective."""
    drawn = problem(seed, kind, num_objectives)
    front = _front(seed, kind, num_objectives, drawn.discount)
    lowest, highest = front.min(axis=0), front.max(axis=0)
    return tuple((lowest - 0.1 * np.maximum(highest - lowest, 0.1)).tolist())


@njit(cache=True)
def _advance_all(
    actions: NDArray[np.int64],
    states: NDArray[np.int64],
    successors: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    table: NDArray[np.float64],
    codes: NDArray[np.int32],
    uniforms: NDArray[np.float64],
    cursors: NDArray[np.int64],
    observations: NDArray[np.int32],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
) -> None:
    outcomes = successors.shape[2]
    for i in range(actions.shape[0]):
        state, action, outcome = states[i], actions[i], 0
        if outcomes > 1:
            draw = uniforms[i, cursors[i]]
            cursors[i] += 1
            while draw >= thresholds[state, action, outcome]:
                outcome += 1
        following = successors[state, action, outcome]
        for k in range(rewards.shape[1]):
            rewards[i, k] = table[state, action, k]
        terminated[i] = following < 0
        states[i] = following
        for k in range(codes.shape[1]):
            observations[i, k] = codes[following, k]  # END is -1, the last row


class RandomMOMDPVectorEnv(BatchedEnv):
    """N episodes of one random problem in a compiled loop.

    Observation: the state's code (layered, chain), row and column (grid), or depth and position
    (tree), int32; -1 after the last action of an episode. Actions: 2 to 4, as drawn. Reward: what
    the state and action pay.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        seed: int = 0,
        kind: str | None = None,
        num_objectives: int | None = None,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            seed: which problem; the seeds of `reset` decide about chance within it.
            kind: "layered", "grid", "chain" or "tree"; None for the seed's own.
            num_objectives: 2 to 4; None for 2 or 3 as the seed draws.
            max_episode_steps: steps after which an episode is truncated; None for the problem's.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an argument out of its range.
        """
        drawn = problem(seed, kind, num_objectives)
        model = drawn.model
        self._start = model.start
        self._successors = model.successors
        self._thresholds = np.cumsum(model.probabilities, axis=2)
        self._thresholds[..., -1] = np.inf  # sums may end a rounding below 1
        self._table = model.rewards
        self._codes = drawn.observations
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(
                -1, int(self._codes.max()), self._codes.shape[1:], np.int32
            ),
            action_space=spaces.Discrete(model.successors.shape[1]),
            reward_space=spaces.Box(
                self._table.min(axis=(0, 1)).astype(np.float32),
                self._table.max(axis=(0, 1)).astype(np.float32),
            ),
            max_episode_steps=max_episode_steps or drawn.horizon,
            copy=copy,
        )
        self._states = np.zeros(self.num_envs, np.int64)
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, size: rng.random(size), per_step=1
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        if self._successors.shape[2] > 1:
            self._random.fill()
        _advance_all(
            actions,
            self._states,
            self._successors,
            self._thresholds,
            self._table,
            self._codes,
            self._random.values,
            self._random.cursor,
            self._observations,
            self._rewards,
            self._terminated,
        )

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._states[indices] = self._start
        self._observations[indices] = self._codes[self._start]


class RandomMOMDPEnv(SingleEnv):
    """One episode at a time, for Gymnasium's ordinary interface."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - as the batch
        """Make the environment; arguments are those of `RandomMOMDPVectorEnv`."""
        super().__init__(RandomMOMDPVectorEnv(1, **arguments))


def _spec(
    seed: int = 0,
    kind: str | None = None,
    num_objectives: int | None = None,
    **_: Any,  # noqa: ANN401 - as the batch
) -> EnvSpec:
    drawn = problem(seed, kind, num_objectives)
    count = drawn.model.num_objectives
    front = partial(exact_front, seed=seed, kind=kind, num_objectives=num_objectives)
    return EnvSpec(
        id=ID,
        objectives=tuple(
            Objective(f"objective_{index}", "reward", f"Objective {index} of the drawn problem.")
            for index in range(count)
        ),
        reference_point=reference_point(seed, kind, num_objectives),
        discount=drawn.discount,
        horizon=drawn.horizon,
        known_front=KnownFront(
            points=front, certificate="exact", source="backward induction over all states"
        ),
        description="A finite problem drawn by a seed: a layered graph, a grid, a chain or a tree.",
    )


register_env(
    ID,
    spec=_spec,
    vector_entry_point="morl.envs.random_momdp:RandomMOMDPVectorEnv",
    entry_point="morl.envs.random_momdp:RandomMOMDPEnv",
)
