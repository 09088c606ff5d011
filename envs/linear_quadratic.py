"""Linear-quadratic control: every direction has its own cost of being away and of coming back.

Positions x and controls u have one coordinate for each objective, and ``x' = x + u``. Objective i
minds its own coordinate's distance most and the controls of all others: with a small `overlap` s
it pays ``-(x' Q_i x + u' R_i u)``. Q_i is diagonal with 1 - s at i and s elsewhere; R_i has s at i
and 1 - s elsewhere. The family is that of Parisi, Pirotta and Restelli, "Multi-objective
Reinforcement Learning through Continuous Pareto Manifold Approximation" (JAIR 2016); a Riccati
recursion gives the exact front.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.envs.single import SingleEnv
from morl.envs.vector import BatchedEnv, EnvArgumentError, RandomBlocks
from morl.indicators import hypervolume
from morl.preferences import lattice
from morl.registry import register_env
from morl.types import EnvSpec, Front, KnownFront, Objective

ID = "linear-quadratic-v0"

HORIZON = 50
"""Steps of an episode; the discount of 0.9 leaves half a percent of a return beyond them."""

DISCOUNT = 0.9

MOST_OBJECTIVES = 8

FRONT_DIVISIONS = {2: 1000, 3: 60, 4: 20}
"""Steps of the lattice of weights whose optima make the front."""


class LinearQuadraticVectorEnv(BatchedEnv):
    """N systems, without noise.

    Observation: the position, float32 ``(objective,)``. Actions: the controls, clipped to
    [-1, 1], which the optimal ones never leave from the start states. Reward: minus the
    quadratic costs of the position and the control. Every episode starts at a corner of the
    cube from -1 to 1 and lasts 50 steps.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        num_objectives: int = 2,
        overlap: float = 0.1,
        max_episode_steps: int | None = HORIZON,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            num_objectives: objectives, positions and controls, 2 to 8.
            overlap: how much objectives have in common, above 0 and below 0.5.
            max_episode_steps: steps after which an episode is truncated.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an argument out of its range.
        """
        self._state_costs, self._control_costs = costs(num_objectives, overlap)
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(-np.inf, np.inf, (num_objectives,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (num_objectives,), np.float32),
            reward_space=spaces.Box(-np.inf, 0.0, (num_objectives,), np.float32),
            max_episode_steps=max_episode_steps,
            copy=copy,
        )
        self._positions = np.zeros((self.num_envs, num_objectives))
        self._random: RandomBlocks = RandomBlocks(
            self.num_envs, lambda rng, count: rng.random(count), per_step=num_objectives
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        controls = np.clip(actions.astype(np.float64), -1.0, 1.0)
        # Sums along the last axis round the same way in every batch; matrix products do not.
        by_state = np.square(self._positions)[:, None] * self._state_costs
        by_control = np.square(controls)[:, None] * self._control_costs
        self._rewards[:] = -(by_state + by_control).sum(axis=2)
        self._positions += controls
        self._observations[:] = self._positions
        self._terminated.fill(False)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._random.fill()
        size = self._positions.shape[1]
        columns = self._random.cursor[indices, None] + np.arange(size)
        uniform = self._random.values[indices[:, None], columns]
        self._random.cursor[indices] += size
        self._positions[indices] = np.where(uniform < 0.5, -1.0, 1.0)
        self._observations[indices] = self._positions[indices]


def costs(num_objectives: int, overlap: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonals of the cost matrices, (objective, coordinate): of positions and of controls.

    Raises:
        EnvArgumentError: for an argument out of its range.
    """
    if not 2 <= num_objectives <= MOST_OBJECTIVES or num_objectives != int(num_objectives):
        raise EnvArgumentError(
            f"{ID}: num_objectives must be 2 to {MOST_OBJECTIVES}, got {num_objectives}"
        )
    if not 0.0 < overlap < 0.5:
        raise EnvArgumentError(f"{ID}: overlap must be in (0, 0.5), got {overlap}")
    own = np.eye(int(num_objectives))
    return own * (1.0 - overlap) + (1.0 - own) * overlap, own * overlap + (1.0 - own) * (
        1.0 - overlap
    )


def riccati_returns(weights: Front, *, overlap: float, discount: float, horizon: int) -> Front:
    """Returns of the optimal controls for weighted sums, by the Riccati recursion.

    Coordinates do not act upon each other, so that each has a scalar recursion. For the weights w
    with costs q = w . Q and r = w . R, and p the cost to go (times the squared position) of the
    next step, the control is ``-k x`` with ``k = g p / (r + g p)``; each objective's own cost to
    go follows under the same k.

    Args:
        weights: (preference, objective).
        overlap: of the environment.
        discount: g above.
        horizon: steps.

    Returns:
        (preference, objective); every start state has the same squares of positions, one.
    """
    state_costs, control_costs = costs(weights.shape[1], overlap)
    own = np.zeros((len(weights), *state_costs.shape))  # (preference, objective, coordinate)
    for _ in range(horizon):
        to_go = discount * np.einsum("po,poc->pc", weights, own)
        gain = to_go / (weights @ control_costs + to_go)
        own = (
            state_costs
            + control_costs * np.square(gain)[:, None]
            + discount * own * np.square(1.0 - gain)[:, None]
        )
    return np.asarray(-own.sum(axis=2))


def exact_front(discount: float, *, num_objectives: int, overlap: float) -> Front:
    """Optima of a lattice of weights, (point, objective).

    Costs are convex in the controls, so that the whole Pareto front consists of optima of weighted
    sums. Before the end the best control depends on the time that is left, which is not observed:
    by that, a policy falls short of these points by less than the discount leaves beyond the
    horizon.
    """
    divisions = FRONT_DIVISIONS.get(num_objectives, 8)
    weights = lattice(num_objectives, divisions)
    return riccati_returns(weights, overlap=overlap, discount=discount, horizon=HORIZON)


def _spec(num_objectives: int = 2, overlap: float = 0.1, **_: Any) -> EnvSpec:  # noqa: ANN401 - as the batch
    state_costs, _control_costs = costs(num_objectives, overlap)
    front = partial(exact_front, num_objectives=int(num_objectives), overlap=overlap)
    # Doing nothing leaves every position at one for ever; so does the reference.
    idle = -state_costs.sum(axis=1) * (1.0 - DISCOUNT**HORIZON) / (1.0 - DISCOUNT)
    reference = (-float(np.ceil(state_costs[0].sum() / (1.0 - DISCOUNT))) - 1.0,) * len(idle)
    return EnvSpec(
        id=ID,
        objectives=tuple(
            Objective(f"cost_{index}", "-cost", f"Minus the costs that objective {index} minds.")
            for index in range(len(idle))
        ),
        reference_point=reference,
        discount=DISCOUNT,
        horizon=HORIZON,
        known_front=KnownFront(
            points=front, certificate="exact", source="Riccati recursion over a lattice of weights"
        ),
        anchors={"do-nothing": hypervolume(idle[None], reference).value},
        description="Bring positions to zero; each objective minds its own and others' controls.",
    )


class LinearQuadraticEnv(SingleEnv):
    """One system, for Gymnasium's ordinary interface."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - as the batch
        """Make the environment; arguments are those of `LinearQuadraticVectorEnv`."""
        super().__init__(LinearQuadraticVectorEnv(1, **arguments))


register_env(
    ID,
    spec=_spec,
    vector_entry_point="morl.envs.linear_quadratic:LinearQuadraticVectorEnv",
    entry_point="morl.envs.linear_quadratic:LinearQuadraticEnv",
)
