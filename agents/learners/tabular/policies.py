"""Policies that follow a vector: at each state they keep the promise that was made there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.tabular.model import ModelTables
from morl.agents.learners.tabular.sets import SetTables, follow
from morl.agents.learners.tabular.states import UNKNOWN, StateNumbers
from morl.types import PolicyState, Vector

BEGIN = -1
"""Memory at the first step of an episode, and after a state that was never met."""


@dataclass(frozen=True, eq=False)
class _Node:
    """A promise at a state, and how it is kept."""

    state: int
    promise: Vector
    action: int
    after: dict[int, int]  # index of the promise by successor


@dataclass(eq=False)
class VectorController:
    """Which action keeps which promise; computed when first asked for.

    Attributes:
        numbers: of states.
        model: what is known of transitions.
        sets: of vectors, by state.
        discount: in (0, 1].
        scale: by which differences of returns are multiplied to compare them, (objective,).
    """

    numbers: StateNumbers
    model: ModelTables
    sets: SetTables
    discount: float
    scale: Vector
    _nodes: list[_Node] = field(default_factory=list)
    _index: dict[tuple[int, int], int] = field(default_factory=dict)

    def act(
        self, observations: NDArray[Any], nodes: NDArray[np.int64], target: Vector
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Actions, and the nodes in which they are taken.

        Args:
            observations: (row, *observation).
            nodes: of the step before, or `BEGIN`, (row,).
            target: what the policy wants from the start, (objective,).
        """
        states = self.numbers.find(observations).tolist()
        entered = [
            self._enter(state, previous, target)
            for state, previous in zip(states, nodes.tolist(), strict=True)
        ]
        actions = [0 if node == BEGIN else self._nodes[node].action for node in entered]
        return np.array(actions, np.int64), np.array(entered, np.int64)

    def _enter(self, state: int, previous: int, target: Vector) -> int:
        """The node at a state; `BEGIN` where nothing is known of it."""
        if state == UNKNOWN or state >= len(self.sets.sizes) or self.sets.sizes[state] == 0:
            return BEGIN
        if previous == BEGIN:
            return self._node(state, self._nearest(state, target))
        node = self._nodes[previous]
        index = node.after.get(state)
        if index is None:  # never seen to follow: the vector nearest to what is left to earn
            paid = self.model.rewards[node.state, node.action]
            index = self._nearest(state, (node.promise - paid) / self.discount)
        return self._node(state, index)

    def _nearest(self, state: int, target: Vector) -> int:
        distances = np.abs(self.sets.of(state) - target) * self.scale
        return int(distances.max(axis=1).argmin())

    def _node(self, state: int, index: int) -> int:
        key = (state, index)
        if key not in self._index:
            promise = self.sets.of(state)[index].copy()
            choices = np.full(self.model.successors.shape[2], -1, np.int64)
            action = follow(
                self.model, self.sets, state, promise, self.scale, self.discount, choices
            )
            successors = self.model.successors[state, action].tolist()
            after = {s: j for s, j in zip(successors, choices.tolist(), strict=True) if j >= 0}
            self._index[key] = len(self._nodes)
            self._nodes.append(_Node(state, promise, int(action), after))
        return self._index[key]


@dataclass(frozen=True, eq=False)
class VectorPolicy:
    """Earns one vector of the set of the start state.

    Its memory is the promise that it keeps: after an action, each successor has a vector of its
    own set to go on with. In a state that was never met it takes the first action.

    Attributes:
        controller: shared by all policies of an agent.
        target: what it wants from the start, (objective,).
    """

    controller: VectorController
    target: Vector
    deterministic = True

    def begin(self, num_envs: int) -> PolicyState:
        """No promise is made yet."""
        return {"node": np.full(num_envs, BEGIN, np.int64)}

    def act(
        self,
        observations: NDArray[Any],
        state: PolicyState,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions; see `morl.types.StatefulPolicy`."""
        actions, nodes = self.controller.act(observations, state["node"], self.target)
        return actions, {"node": nodes}

    def observe(
        self,
        state: PolicyState,
        rewards: NDArray[np.float64],  # noqa: ARG002 - promises are means
        ended: NDArray[np.bool_],
    ) -> PolicyState:
        """Forget the promise where an episode ended."""
        return {"node": np.where(ended, BEGIN, state["node"])}

    @classmethod
    def stack(cls, policies: Sequence[VectorPolicy]) -> VectorPolicies:
        """All of them, acting in one call."""
        return VectorPolicies(policies)


class VectorPolicies:
    """Policies that follow vectors, acting together; axes begin with (policy, env)."""

    def __init__(self, policies: Sequence[VectorPolicy]) -> None:
        self._policies = policies

    def begin(self, num_envs: int) -> PolicyState:
        """No promise is made yet."""
        return {"node": np.full((len(self._policies), num_envs), BEGIN, np.int64)}

    def act(
        self, observations: NDArray[Any], state: PolicyState, *, rng: np.random.Generator
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions; see `morl.types.StackedStatefulPolicy`."""
        del rng
        pairs = [
            policy.controller.act(rows, nodes, policy.target)
            for policy, rows, nodes in zip(self._policies, observations, state["node"], strict=True)
        ]
        actions, nodes = zip(*pairs, strict=True)
        return np.stack(actions), {"node": np.stack(nodes)}

    def observe(
        self, state: PolicyState, rewards: NDArray[np.float64], ended: NDArray[np.bool_]
    ) -> PolicyState:
        """Forget promises where episodes ended."""
        del rewards
        return {"node": np.where(ended, BEGIN, state["node"])}
