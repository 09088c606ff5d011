"""A learner to tune in milliseconds: tabular Q-learning for several weights, on deep-sea treasure.

Small, but a real one: its hypervolume is noisy over seeds, its settings interact, and most
configurations are bad. Written for benchmarks of tuning, where thousands of runs are needed; it is
no agent of the suite.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass

import numpy as np
from mo_gymnasium.envs.deep_sea_treasure.deep_sea_treasure import DEFAULT_MAP
from numba import njit
from numpy.typing import NDArray

from morl.envs.deep_sea_treasure import ROCK, transitions
from morl.hpo.types import Report, TrialOutcome, TrialRequest
from morl.search_space import searchable
from morl.seeding import derive_seed

EVALUATIONS = 9
BUDGET = 18_000
REFERENCE = (0.0, -50.0)
EXACT = 994.3
"""Hypervolume of the exact front of undiscounted returns against `REFERENCE`, rounded."""

_LONGEST = 50


@dataclass
class TabularConfig:
    """Settings of the learner.

    Attributes:
        learning_rate: of Q-learning, at the start.
        final_learning_rate: share of it that is left at the end.
        epsilon: share of random actions at the start.
        final_epsilon: at the end.
        discount: of the values.
        num_weights: policies, each for one weight of treasure against time, sharing the budget.
        initial_value: of all state-action pairs.
        horizon: steps after which an episode is cut off in training.
    """

    learning_rate: float = searchable(0.1, low=0.01, high=1.0, log=True)
    final_learning_rate: float = searchable(1.0, low=0.01, high=1.0, log=True)
    epsilon: float = searchable(0.1, low=0.05, high=1.0)
    final_epsilon: float = searchable(0.1, low=0.0, high=0.5)
    discount: float = searchable(0.95, low=0.8, high=1.0)
    num_weights: int = searchable(10, low=2, high=30, log=True)
    initial_value: float = searchable(0.0, low=-10.0, high=10.0)
    horizon: int = searchable(50, low=20, high=100, log=True)


def run_tabular(request: TrialRequest, report: Report) -> TrialOutcome:
    """One run of a study."""
    config = TabularConfig(**request.params)
    curve = []
    values = learning_curve(config, seed=request.seed, budget=request.budget)
    for index, value in enumerate(values, start=1):
        step = request.budget * index // len(values)
        curve.append((step, float(value)))
        if report(step, float(value)):
            break
    return TrialOutcome(
        values={"hypervolume": curve[-1][1]}, curve=curve, cost={"env_steps": curve[-1][0]}
    )


def learning_curve(
    config: TabularConfig, *, seed: int, budget: int = BUDGET
) -> NDArray[np.float64]:
    """Hypervolume of the greedy policies at evenly spaced points of the budget.

    Args:
        config: settings.
        seed: of all that is random.
        budget: environment steps, shared by the weights.

    Returns:
        Shape (`EVALUATIONS`,).
    """
    table, treasures = _sea()
    settings = asdict(config)
    return _train(
        table,
        treasures,
        derive_seed(seed, "bench/tabular"),
        budget,
        *(settings[name] for name in settings),
    )


@functools.cache
def _sea() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    sea_map = np.asarray(DEFAULT_MAP, np.float64)
    return transitions(sea_map), np.where(sea_map == ROCK, 0.0, sea_map).ravel()


@njit(cache=True)
def _uniform(state: NDArray[np.uint64]) -> float:
    """SplitMix64 (Steele, Lea and Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True)
def _best(values: NDArray[np.float64]) -> int:
    found = 0
    for action in range(1, values.shape[0]):
        if values[action] > values[found]:
            found = action
    return found


@njit(cache=True)
def _train(
    table: NDArray[np.int64],
    treasures: NDArray[np.float64],
    seed: int,
    budget: int,
    learning_rate: float,
    final_learning_rate: float,
    epsilon: float,
    final_epsilon: float,
    discount: float,
    num_weights: int,
    initial_value: float,
    horizon: int,
) -> NDArray[np.float64]:
    state = np.array([seed], np.uint64)
    cells, actions = table.shape
    values = np.full((num_weights, cells, actions), initial_value)
    for weight in range(num_weights):  # equal values would all choose the first action
        for cell in range(cells):
            for action in range(actions):
                values[weight, cell, action] += 1e-6 * _uniform(state)
    hypervolumes = np.empty(EVALUATIONS)
    share = budget // (num_weights * EVALUATIONS)
    total = float(share * EVALUATIONS)
    for evaluation in range(EVALUATIONS):
        for weight in range(num_weights):
            importance = weight / max(1, num_weights - 1)
            cell, age = 0, 0
            for step in range(share):
                done = (evaluation * share + step) / total
                rate = learning_rate * final_learning_rate**done
                explore = epsilon + (final_epsilon - epsilon) * done
                if _uniform(state) < explore:
                    action = int(_uniform(state) * actions)
                else:
                    action = _best(values[weight, cell])
                after = table[cell, action]
                treasure = treasures[after]
                reward = importance * treasure - (1.0 - importance)
                target = reward
                if treasure == 0.0:
                    target += discount * values[weight, after, _best(values[weight, after])]
                values[weight, cell, action] += rate * (target - values[weight, cell, action])
                cell, age = after, age + 1
                if treasure != 0.0 or age >= horizon:
                    cell, age = 0, 0
        hypervolumes[evaluation] = _greedy_hypervolume(values, table, treasures)
    return hypervolumes


@njit(cache=True)
def _greedy_hypervolume(
    values: NDArray[np.float64], table: NDArray[np.int64], treasures: NDArray[np.float64]
) -> float:
    """Area that the greedy policies' (treasure, time) dominate above `REFERENCE`."""
    best_after = np.zeros(_LONGEST)  # most treasure found within so many steps
    for weight in range(values.shape[0]):
        cell = 0
        for step in range(_LONGEST):
            cell = table[cell, _best(values[weight, cell])]
            if treasures[cell] != 0.0:
                for later in range(step, _LONGEST):
                    best_after[later] = max(best_after[later], treasures[cell])
                break
    # A dive of k steps returns -k; it is worth its treasure from -50 up to -k.
    return float(best_after[: _LONGEST - 1].sum())
