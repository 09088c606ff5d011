"""Episodes as flat arrays: what is left to earn, which episodes to keep, rows to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from morl.pareto import RELATIVE_TOLERANCE, nondominated
from morl.types import Front, State


class Episode(NamedTuple):
    """One episode, from its first step to its last.

    Attributes:
        inputs: of the network, (step, input).
        actions: (step,).
        returns: discounted, earned from each step on, (step, objective).
    """

    inputs: NDArray[np.float32]
    actions: NDArray[np.int64]
    returns: NDArray[np.float64]


def returns_to_go(rewards: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """Discounted returns from each step of an episode to its end, (step, objective).

    Args:
        rewards: (step, objective).
        discount: in (0, 1].
    """
    returns = np.array(rewards, np.float64)
    for step in range(len(returns) - 2, -1, -1):
        returns[step] += discount * returns[step + 1]
    return returns


def ranking(values: Front, *, min_crowding: float) -> NDArray[np.int64]:
    """Episodes in the order in which they are worth keeping, the best first, (episode,).

    The score is the distance to the nearest undominated return, in units of the front's extent. It
    doubles, after a small addition, for episodes that repeat a return of the front or whose
    crowding distance is small, as in Reymond, Bargiacchi and Nowé (2022). Ties, above all those
    of the front's members, are broken by crowding distance.

    Args:
        values: returns, (episode, objective).
        min_crowding: crowding distance at and below which an episode is crowded.
    """
    front = nondominated(values, tolerance=RELATIVE_TOLERANCE)
    extent = np.maximum(np.ptp(values[front], axis=0), 1e-3 * np.ptp(values, axis=0) + 1e-9)
    distance = np.full(len(values), np.inf)
    for member in values[front]:
        distance = np.minimum(distance, np.linalg.norm((values - member) / extent, axis=1))
    distance[front] = 0.0
    distance[~front] += 1e-5
    crowding = normalised_crowding(values)
    distance[crowding <= min_crowding] *= 2.0
    return np.asarray(np.lexsort((-crowding, distance)), np.int64)


def normalised_crowding(values: Front) -> NDArray[np.float64]:
    """Crowding distances where boundary points count one per objective, (point,).

    Unlike `morl.archive.crowding_distance`, no distance is infinite, so that one threshold serves
    any number of points. Objectives are divided by their ranges.

    Args:
        values: (point, objective).
    """
    if len(values) <= 2:
        return np.full(len(values), float(values.shape[1]))
    extents = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(extents > 0.0, extents, 1.0)
    order = np.argsort(scaled, axis=0, kind="stable")
    ranked = np.take_along_axis(scaled, order, axis=0)
    gaps = np.pad(ranked[2:] - ranked[:-2], ((1, 1), (0, 0)), constant_values=1.0)
    distance = np.zeros_like(scaled)
    np.put_along_axis(distance, order, gaps, axis=0)
    return np.asarray(distance.sum(axis=1))


@dataclass(frozen=True, eq=False)
class EpisodePool:
    """Episodes one after the other in flat arrays.

    Attributes:
        lengths: steps of each episode, (episode,).
        inputs: of the network, (step of all, input).
        actions: (step of all,).
        returns: discounted, from each step on, (step of all, objective).
    """

    lengths: NDArray[np.int64]
    inputs: NDArray[np.float32]
    actions: NDArray[np.int64]
    returns: NDArray[np.float64]

    @classmethod
    def empty(cls, num_inputs: int, num_objectives: int) -> EpisodePool:
        """A pool without episodes."""
        return cls(
            np.zeros(0, np.int64), np.zeros((0, num_inputs), np.float32),
            np.zeros(0, np.int64), np.zeros((0, num_objectives)),
        )  # fmt: skip

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row of each episode's first step, (episode,)."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    @property
    def values(self) -> Front:
        """Returns of the episodes, (episode, objective)."""
        values: Front = self.returns[self.starts]
        return values

    @property
    def horizons(self) -> NDArray[np.int64]:
        """Steps from each row to the end of its episode, that step included, (step of all,)."""
        ends = np.repeat(self.starts + self.lengths, self.lengths)
        return np.asarray(ends - np.arange(len(ends)))

    def with_episodes(self, episodes: Sequence[Episode]) -> EpisodePool:
        """The pool and more episodes behind it."""
        if not episodes:
            return self
        return EpisodePool(
            np.concatenate([self.lengths, [len(episode.actions) for episode in episodes]]),
            np.concatenate([self.inputs, *(episode.inputs for episode in episodes)]),
            np.concatenate([self.actions, *(episode.actions for episode in episodes)]),
            np.concatenate([self.returns, *(episode.returns for episode in episodes)]),
        )

    def select(self, episodes: NDArray[np.int64]) -> EpisodePool:
        """Some of the episodes, in the order given."""
        lengths = self.lengths[episodes]
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(self.starts[episodes], lengths) + offsets
        return EpisodePool(lengths, self.inputs[rows], self.actions[rows], self.returns[rows])

    def kept(self, capacity: int, *, min_crowding: float) -> EpisodePool:
        """The best episodes by `ranking`, at most `capacity`."""
        if len(self) <= capacity:
            return self
        return self.select(ranking(self.values, min_crowding=min_crowding)[:capacity])

    def sample(self, rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows to learn from: an episode counts once, however long it is."""
        episodes = rng.integers(len(self), size=rows)
        offsets = (rng.random(rows) * self.lengths[episodes]).astype(np.int64)
        return np.asarray(self.starts[episodes] + offsets)

    def state_dict(self) -> State:
        """The arrays."""
        return {
            "lengths": self.lengths, "inputs": self.inputs,
            "actions": self.actions, "returns": self.returns,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: State) -> EpisodePool:
        """What `state_dict` saved."""
        names = ("lengths", "inputs", "actions", "returns")
        return cls(*(np.array(state[name]) for name in names))
