"""From observations to the inputs of a network: numbers as they are, one-hot codes, or both.

An integer of an observation can be a coordinate, where neighbours are alike, or a code, where they
are not. Numbers serve the first, one-hot inputs the second; both side by side serve either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError

Encoding: TypeAlias = Literal["raw", "one_hot", "both"]
"""How integers of observations become inputs."""

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


@dataclass(frozen=True, eq=False)
class ObservationEncoder:
    """Makes inputs of observations.

    Attributes:
        encoding: what it does; "raw" where observations are not integers within bounds, or where
            one-hot inputs would be too many.
        shape: of one observation.
        low: of each number, (number,); empty for "raw".
        widths: values that each number can have, (number,); empty for "raw".
    """

    encoding: Encoding
    shape: tuple[int, ...]
    low: NDArray[np.float64]
    widths: NDArray[np.int64]

    @classmethod
    def of(
        cls, space: spaces.Box, encoding: str, *, max_inputs: int, env_id: str
    ) -> ObservationEncoder:
        """The encoder for a space.

        Args:
            space: of one observation, without the batch.
            encoding: what is wanted of integers; it falls back to "raw" where observations are
                not integers within bounds, or where more than `max_inputs` would be needed.
            max_inputs: most one-hot inputs.
            env_id: for the message.

        Raises:
            UnsupportedTaskError: observations are images.
            ValueError: an unknown encoding.
        """
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
        if len(space.shape) == 3:
            raise UnsupportedTaskError(
                f"{env_id}: observations are images of shape {space.shape}, and this agent has no "
                "convolution; make the environment with observations that are vectors"
            )
        low, high = space.low.reshape(-1), space.high.reshape(-1)
        if encoding != "raw" and np.dtype(space.dtype).kind in "iub":
            widths = high.astype(np.float64) - low.astype(np.float64) + 1.0
            if widths.sum() <= max_inputs:
                return cls(
                    cast(Encoding, encoding),
                    space.shape,
                    low.astype(np.float64),
                    widths.astype(np.int64),
                )
        return cls("raw", space.shape, np.zeros(0), np.zeros(0, np.int64))

    @property
    def num_numbers(self) -> int:
        """Inputs that are numbers; they come first."""
        return 0 if self.encoding == "one_hot" else int(np.prod(self.shape))

    @property
    def num_codes(self) -> int:
        """Inputs that are one-hot codes."""
        return int(self.widths.sum())

    @property
    def num_inputs(self) -> int:
        """Length of one row of inputs."""
        return self.num_numbers + self.num_codes

    def numbers(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """Observations (row, *observation) as numbers, (row, number).

        Bounded integers are brought to the range from -1 to 1; everything else stays as it is.
        """
        flat = observations.reshape(len(observations), -1).astype(np.float64)
        if self.encoding == "one_hot":
            return flat[:, :0]
        if self.encoding == "raw":
            return flat
        return 2.0 * (flat - self.low) / np.maximum(self.widths - 1, 1) - 1.0

    def codes(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """Which one-hot inputs are one, (row, number of the observation); none for "raw".

        Integers beyond the bounds of the space count as the nearest bound.
        """
        flat = observations.reshape(len(observations), -1)
        if self.encoding == "raw":
            return np.zeros((len(flat), 0), np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.widths)[:-1]])
        values = np.clip((flat - self.low).astype(np.int64), 0, self.widths - 1)
        return np.asarray(values + offsets)

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """Inputs for observations (row, *observation), (row, input): numbers, then codes."""
        numbers = self.numbers(observations)
        if self.encoding == "raw":
            return numbers
        ones = np.zeros((len(numbers), self.num_codes))
        np.put_along_axis(ones, self.codes(observations), 1.0, axis=1)
        return np.concatenate([numbers, ones], axis=1)
