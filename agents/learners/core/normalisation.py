"""Running statistics that live with each policy of a population."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.types import State

Array = NDArray[np.float64]


class RunningMoments:
    """Mean and variance of each feature for each policy, merged batch by batch.

    Source: Chan, Golub and LeVeque 1983, pairwise combination of moments.

    Args:
        num_policies: length of the policy axis.
        size: number of features.
    """

    def __init__(self, num_policies: int, size: int) -> None:
        self.mean: Array = np.zeros((num_policies, size))
        self.variance: Array = np.ones((num_policies, size))
        self.count: Array = np.zeros(num_policies)

    def update(self, samples: NDArray[Any], *, features: int | None = None) -> None:
        """Merge samples of shape (policy, batch, feature).

        Args:
            samples: to be merged.
            features: how many, from the first, take part; the others keep their mean of 0 and
                variance of 1. None for all.
        """
        if features is not None and features < samples.shape[2]:
            numbers = RunningMoments(samples.shape[0], features)
            numbers.mean = self.mean[:, :features]
            numbers.variance = self.variance[:, :features]
            numbers.count = self.count
            numbers.update(samples[:, :, :features])
            self.mean = np.concatenate([numbers.mean, self.mean[:, features:]], axis=1)
            self.variance = np.concatenate([numbers.variance, self.variance[:, features:]], axis=1)
            self.count = numbers.count
            return
        batch = samples.shape[1]
        mean = samples.mean(axis=1, dtype=np.float64)
        variance = samples.var(axis=1, dtype=np.float64)
        total = self.count + batch
        share = (batch / total)[:, None]
        delta = mean - self.mean
        between = np.square(delta) * share * (1.0 - share)
        old = np.where(self.count[:, None] > 0, self.variance, 0.0)
        self.variance = (1.0 - share) * old + share * variance + between
        self.mean = self.mean + delta * share
        self.count = total

    @property
    def scale(self) -> Array:
        """Standard deviation, (policy, feature), bounded away from zero."""
        return np.sqrt(self.variance + 1e-8)

    def select(self, index: NDArray[np.int64]) -> RunningMoments:
        """Statistics of the named policies, in that order; repeats allowed."""
        chosen = RunningMoments(len(index), self.mean.shape[1])
        chosen.mean = self.mean[index].copy()
        chosen.variance = self.variance[index].copy()
        chosen.count = self.count[index].copy()
        return chosen

    def state_dict(self) -> State:
        """Copies of the three arrays."""
        return {
            "mean": self.mean.copy(),
            "variance": self.variance.copy(),
            "count": self.count.copy(),
        }

    @classmethod
    def from_state(cls, state: State) -> RunningMoments:
        """Rebuild from `state_dict`."""
        moments = cls(*state["mean"].shape)
        moments.mean = np.array(state["mean"])
        moments.variance = np.array(state["variance"])
        moments.count = np.array(state["count"])
        return moments


def normalise_observations(
    observations: NDArray[Any], mean: Array, scale: Array, *, limit: float = 10.0
) -> NDArray[np.float32]:
    """Standardise and clip.

    Args:
        observations: (policy, ..., feature).
        mean: (policy, feature).
        scale: (policy, feature).
        limit: bound on the absolute value.
    """
    middle = (slice(None),) + (None,) * (observations.ndim - 2)
    standard = (observations - mean[middle]) / scale[middle]
    return np.clip(standard, -limit, limit).astype(np.float32)
