"""What a conditioned sampler is asked for: codes of conditions, rewards of preferences, exponents.

For a preference w and an exponent b the reward of an object is ``R(x | w) ** b``, where R is one of
three scalarisations of its objective values (Jain et al., "Multi-Objective GFlowNets", ICML 2023,
arXiv:2210.12765, section 4). Everything here is a pure function of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.types import Front, MorlError, Vector


class ExponentError(MorlError, ValueError):
    """A reward exponent that is no positive number."""


def thermometer(
    values: NDArray[np.floating[Any]], *, bins: int, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float32]:
    """Encode numbers by how far they fill each of some bins.

    Bin k begins at ``low + k (high - low) / (bins - 1)``; its code is the filled share of it. The
    last bin begins at `high`, so its code is always zero: as in the papers' code bases.

    Args:
        values: of any shape.
        bins: at least 2.
        low: below it all codes are zero.
        high: above it all codes but the last are one.

    Returns:
        Shape (..., bins).
    """
    edges = np.linspace(low, high, bins)
    width = edges[1] - edges[0]
    filled = np.clip((values[..., None] - edges) / width, 0.0, 1.0)
    filled[..., -1] = 0.0  # nothing lies behind the end
    return np.asarray(filled, np.float32)


def weighted_sum(values: Front, preferences: Front, floor: float) -> Vector:
    """Logarithm of ``sum_i w_i f_i``; see `SCALARISATIONS`."""
    return np.asarray(np.log(np.maximum((values * preferences).sum(axis=1), floor)))


def weighted_log_sum(values: Front, preferences: Front, floor: float) -> Vector:
    """Logarithm of the weighted geometric mean ``prod_i f_i ** w_i``; see `SCALARISATIONS`."""
    return np.asarray((preferences * np.log(np.maximum(values, floor))).sum(axis=1))


def tchebycheff(values: Front, preferences: Front, floor: float) -> Vector:
    """Logarithm of ``1 - max_i w_i (1 - f_i)``; see `SCALARISATIONS`.

    The distance from the utopia point, all ones, is what should be small: it is subtracted.
    """
    distance = (preferences * (1.0 - values)).max(axis=1)
    return np.asarray(np.log(np.maximum(1.0 - distance, floor)))


SCALARISATIONS: Mapping[str, Callable[[Front, Front, float], Vector]] = {
    "weighted_sum": weighted_sum,
    "weighted_log_sum": weighted_log_sum,
    "tchebycheff": tchebycheff,
}
"""``(values, preferences, floor)`` of shapes (object, objective) to log-rewards (object,).

No reward is taken to be less than the floor, so that logarithms are finite.
"""

DISTRIBUTIONS = ("constant", "uniform", "gamma")
"""Of exponents."""


def check_exponents(exponents: NDArray[np.floating[Any]], *, where: str) -> None:
    """Refuse exponents that no reward can have.

    Args:
        exponents: of any shape.
        where: what they belong to, for the message.

    Raises:
        ExponentError: one is zero, negative or not finite.
    """
    good = np.isfinite(exponents) & (exponents > 0.0)
    if not good.all():
        bad = float(np.asarray(exponents)[~good].flat[0])
        raise ExponentError(
            f"{where}: the exponent of a reward must be a positive number, got {bad:g}: at 0 all "
            "objects are worth the same; set agent.exponent, 16 is common"
        )


def draw_exponents(
    distribution: str, exponent: float, count: int, rng: np.random.Generator
) -> Vector:
    """Exponents of some trajectories.

    Args:
        distribution: "constant"; "uniform" between 0 and `exponent`; or "gamma" of shape
            `exponent` and scale 1, whose mean `exponent` is.
        exponent: positive.
        count: how many.
        rng: source of randomness.
    """
    if distribution == "constant":
        return np.full(count, exponent)
    if distribution == "uniform":
        return (1.0 - rng.random(count)) * exponent  # never zero
    return rng.gamma(exponent, size=count)


def largest_exponent(distribution: str, exponent: float) -> float:
    """Upper end of the codes of exponents, at which samplers are asked for their best.

    Of the gamma distribution, the mean and two standard deviations.
    """
    return exponent + 2.0 * np.sqrt(exponent) if distribution == "gamma" else exponent


def cosines(values: Front, directions: Front) -> Vector:
    """Cosine of the angle between objective vectors and directions; 0 of a vector of zeros."""
    lengths = np.maximum(np.linalg.norm(values, axis=1), 1e-12)
    return np.asarray((values * directions).sum(axis=1) / lengths)


def goal_log_rewards(
    values: Front, directions: Front, *, cosine: float, rim: float, floor: float
) -> Vector:
    """Log-rewards, before the exponent, of objects that should lie in a cone.

    ``log(sum_i f_i) + gamma log cos(f, d)`` with ``gamma = log(rim) / log(cosine)`` inside, so that
    the factor is 1 on the axis and `rim` on the rim; minus infinity outside (Roy et al.,
    "Goal-conditioned GFlowNets for Controllable Multi-Objective Molecular Design",
    arXiv:2306.04620).

    Args:
        values: not negative, (object, objective).
        directions: of length one, (object, objective).
        cosine: of the cone's opening angle, in (0, 1).
        rim: factor on the rim, in (0, 1].
        floor: least sum of objectives.

    Returns:
        Shape (object,).
    """
    found = cosines(values, directions)
    steepness = np.log(rim) / np.log(cosine)
    sums = np.log(np.maximum(values.sum(axis=1), floor))
    with np.errstate(divide="ignore"):
        inside = sums + steepness * np.log(np.clip(found, 0.0, 1.0))
    return np.where(found >= cosine, inside, -np.inf)
