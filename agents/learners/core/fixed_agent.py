"""Agents that do not learn: finished from the start, they take no step.

The runner measures their policies as it measures all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.masks import ActionMasks, nearest_legal
from morl.types import Front, Metrics, Policy, Solution, State


@dataclass(frozen=True)
class ConstantPolicy:
    """Does the same whatever it sees.

    Attributes:
        action: what it does; where it is illegal, the next legal one in cyclic order.
    """

    action: NDArray[Any]
    deterministic = True

    def act(
        self,
        observations: NDArray[Any],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
        action_masks: ActionMasks | None = None,
    ) -> NDArray[Any]:
        """The action for every environment; see `morl.types.Policy`."""
        actions = np.repeat(self.action[None], len(observations), axis=0)
        return actions if action_masks is None else nearest_legal(action_masks, actions)


class FixedAgent:
    """An agent that knows from the start all that it will ever know.

    Args:
        policies: what it has to offer.
    """

    steps = 0
    finished = True

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = list(policies)

    def learn(self, steps: int) -> Metrics:  # noqa: ARG002 - there is nothing to learn
        """Take no step."""
        return {}

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All policies, or `choose`'s for each preference."""
        if preferences is None:
            return [Solution(policy) for policy in self._policies]
        return [Solution(self.choose(preference), preference) for preference in preferences]

    def choose(self, preference: NDArray[np.float64]) -> Policy:  # noqa: ARG002 - the only one
        """The policy for a preference."""
        return self._policies[0]

    def state_dict(self) -> State:
        """Nothing but the number of steps."""
        return {"steps": 0}

    def load_state_dict(self, state: State) -> None:
        """Nothing to do."""
