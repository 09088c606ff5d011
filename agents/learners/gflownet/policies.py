"""How samplers of objects answer: a policy that samples, and one that builds a known object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.networks import Array, PolicyNetwork
from morl.compositional import Actions, CompositionalCore, States, walks_to


class SamplingPolicy:
    """Draws actions from the forward policy of one condition.

    Args:
        core: reads observations.
        network: not trained any more; may be shared with other conditions.
        code: the encoded condition, (code,).
    """

    deterministic = False

    def __init__(self, core: CompositionalCore, network: PolicyNetwork, code: Array) -> None:
        self._core = core
        self._network = network
        self._code = code

    def probabilities(self, states: States) -> Array:
        """Of all actions in unfinished states, (object, action)."""
        codes = np.repeat(self._code[None], len(states), axis=0)
        outputs = self._network.outputs(codes, states)
        found = np.empty((len(states), self._core.num_actions), np.float32)
        kernels.masked_softmax(outputs, self._core.mask(states), found)
        return found

    def act(
        self, observations: NDArray[np.float32], *, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Choose actions; see `morl.types.Policy`."""
        found = np.cumsum(self.probabilities(self._core.decode(observations)), axis=1)
        drawn = rng.random(len(found)) * found[:, -1]
        # The first action whose cumulative probability exceeds the draw is a legal one.
        return np.asarray((found > drawn[:, None]).argmax(axis=1))


class BuildingPolicy:
    """Builds one object, by the same way each time.

    Args:
        core: reads observations.
        object_: finished, (feature,).
    """

    deterministic = True

    def __init__(self, core: CompositionalCore, object_: States) -> None:
        self._core = core
        walk = walks_to(core, object_[None])
        states = core.initial(1)
        self._way: dict[bytes, int] = {}
        for action in walk.actions[0, : walk.lengths[0]].tolist():
            self._way[states.tobytes()] = action
            states, _ = core.step(states, np.array([action]))

    def act(
        self,
        observations: NDArray[np.float32],
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Choose actions; see `morl.types.Policy`."""
        actions: Actions = self.stack([self]).act(observations[None], rng=rng)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[BuildingPolicy]) -> BuildingPolicies:
        """All of them, acting in one call."""
        return BuildingPolicies(policies)

    def action(self, state: States) -> int:
        """The action in a state (feature,); where the way does not pass by, the first legal one."""
        known = self._way.get(state.tobytes())
        return int(self._core.mask(state[None])[0].argmax()) if known is None else known

    @property
    def core(self) -> CompositionalCore:
        """What the object is made of."""
        return self._core


class BuildingPolicies:
    """Builds an object for each policy.

    Args:
        policies: of one core.
    """

    def __init__(self, policies: Sequence[BuildingPolicy]) -> None:
        self._policies = policies

    def act(
        self,
        observations: NDArray[np.float32],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
    ) -> Actions:
        """Choose actions; see `morl.types.StackedPolicy`."""
        policies, envs = observations.shape[:2]
        states = self._policies[0].core.decode(observations.reshape(policies * envs, -1))
        states = np.ascontiguousarray(states).reshape(policies, envs, -1)
        return np.array(
            [
                [policy.action(state) for state in rows]
                for policy, rows in zip(self._policies, states, strict=True)
            ],
            np.int64,
        )
