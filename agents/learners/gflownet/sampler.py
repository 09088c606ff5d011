"""Trajectories of objects: sampled from a policy, or taken up again from given objects.

The backward policy is uniform over the parents of a state, so log P_B is minus the logarithm of
their number; a stop has one parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.networks import Array, Indices, PolicyNetwork
from morl.compositional import Actions, CompositionalCore, States, even_length_stops


@dataclass(frozen=True)
class Trajectories:
    """Ways to objects, transition by transition; their order is that of the network's tape.

    Attributes:
        objects: what was built, (trajectory, feature).
        states: in which actions were taken, (transition, feature).
        actions: (transition,).
        rows: the trajectory of each transition, (transition,).
        times: number of actions before each, (transition,).
        log_backward: log P_B of undoing each action, (transition,).
        probabilities: of the forward policy in each state, (transition, action).
        outputs: of the network, (transition, output).
    """

    objects: States
    states: States
    actions: Actions
    rows: Indices
    times: Indices
    log_backward: Array
    probabilities: Array
    outputs: Array

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.objects)

    @property
    def steps(self) -> int:
        """Number of transitions."""
        return len(self.actions)

    def padded(self, horizon: int) -> Actions:
        """Actions by trajectory, (trajectory, time), -1 after the end."""
        table = np.full((len(self), horizon), -1, np.int64)
        table[self.rows, self.times] = self.actions
        return table

    @property
    def log_forward(self) -> Array:
        """Logarithm of the forward policy's probability of each action, (transition,)."""
        logarithms = np.empty(self.steps, np.float32)
        kernels.chosen_logarithms(self.probabilities, self.actions, logarithms)
        return logarithms


class Sampler:
    """Builds objects by a network's policy and keeps what an update needs.

    Args:
        core: of the objects.
        network: the forward policy.
    """

    def __init__(self, core: CompositionalCore, network: PolicyNetwork) -> None:
        self._core = core
        self._network = network
        self._room = 0
        self._probabilities = np.empty((0, core.num_actions), np.float32)
        self._actions = np.empty(0, np.int64)

    def sample(
        self, codes: Array, *, rng: np.random.Generator, exploration: float = 0.0
    ) -> Trajectories:
        """Build an object for each condition.

        Args:
            codes: encoded conditions, (trajectory, code).
            rng: source of randomness.
            exploration: weight of even choices in the behaviour, in [0, 1].
        """
        core, count = self._core, len(codes)
        self._reserve(count * core.horizon)
        self._network.begin(codes, count * core.horizon)
        objects = core.initial(count)
        states, rows = core.initial(count), np.arange(count)
        visited: list[States] = []
        reached: list[States] = []
        members: list[Indices] = []
        filled = 0
        while rows.size:
            place = slice(filled, filled + rows.size)
            outputs = self._network.step(states, rows)
            actions = self._actions[place]
            kernels.sample_actions(
                outputs,
                core.mask(states),
                rng.random(rows.size),
                exploration,
                self._probabilities[place],
                actions,
            )
            after, finished = core.step(states, actions)
            visited.append(states)
            reached.append(after)
            members.append(rows)
            filled = place.stop
            if finished.any():
                objects[rows[finished]] = after[finished]
                going = ~finished
                after, rows = after[going], rows[going]
            states = after
        return self._collected(objects, visited, reached, members, outputs=self._network.tape())

    def retrace(self, codes: Array, actions: NDArray[np.integer[Any]]) -> Trajectories:
        """Take trajectories up again from their actions.

        Args:
            codes: encoded conditions, (trajectory, code).
            actions: legal ones, (trajectory, time), -1 after the end; see `Trajectories.padded`.
        """
        core = self._core
        states = core.initial(len(actions))
        visited: list[States] = []
        reached: list[States] = []
        members: list[Indices] = []
        lengths = (actions >= 0).sum(axis=1)
        self._reserve(int(lengths.sum()))
        filled = 0
        for time in range(int(lengths.max())):
            rows = np.flatnonzero(lengths > time)
            chosen = actions[rows, time].astype(np.int64)
            before = states[rows]
            after, _ = core.step(before, chosen)
            states[rows] = after
            visited.append(before)
            reached.append(after)
            members.append(rows)
            self._actions[filled : filled + len(rows)] = chosen
            filled += len(rows)
        # The policy has not seen them yet: `replay` makes the outputs.
        nothing = np.empty((0, self._network.num_outputs), np.float32)
        found = self._collected(states, visited, reached, members, outputs=nothing)
        return self.replay(codes, found)

    def replay(self, codes: Array, trajectories: Trajectories) -> Trajectories:
        """The same trajectories under the policy as it is now, on a fresh tape.

        Args:
            codes: encoded conditions, (trajectory, code).
            trajectories: of any policy; `probabilities` and `outputs` are made anew.
        """
        found = trajectories
        self._network.begin(codes, found.steps)
        outputs = self._network.recall(found.objects, found.states, found.rows, found.times)
        probabilities = np.empty((found.steps, self._core.num_actions), np.float32)
        kernels.masked_softmax(outputs, self._core.mask(found.states), probabilities)
        return replace(found, probabilities=probabilities, outputs=outputs)

    def _reserve(self, transitions: int) -> None:
        if transitions > self._room:
            self._room = transitions
            self._probabilities = np.empty((transitions, self._core.num_actions), np.float32)
            self._actions = np.empty(transitions, np.int64)

    def _collected(
        self,
        objects: States,
        visited: Sequence[States],
        reached: Sequence[States],
        members: Sequence[Indices],
        *,
        outputs: Array,
    ) -> Trajectories:
        rows = np.concatenate(members)
        actions = self._actions[: len(rows)].copy()
        return Trajectories(
            objects=objects,
            states=np.concatenate(visited),
            actions=actions,
            rows=rows,
            times=np.repeat(np.arange(len(members)), [len(each) for each in members]),
            log_backward=log_backward(self._core, np.concatenate(reached), actions),
            probabilities=self._probabilities[: len(rows)],
            outputs=outputs,
        )


def log_backward(core: CompositionalCore, reached: States, actions: Actions) -> Array:
    """Logarithm of the uniform backward policy, (transition,).

    Args:
        core: of the objects.
        reached: states after the actions, (transition, feature).
        actions: (transition,); the parent of an object that was stopped is one.
    """
    found = -np.log(np.maximum(core.num_parents(reached), 1).astype(np.float32))
    found[actions == core.stop_action] = 0.0
    return found


def log_even_choices(core: CompositionalCore, states: States) -> Array:
    """Logarithm of the probability of each legal action if all are alike, (transition,).

    Args:
        core: of the objects.
        states: in which actions are taken, (transition, feature).
    """
    found: Array = -np.log(core.mask(states).sum(axis=1).astype(np.float32))
    return found


def log_even_lengths(
    core: CompositionalCore, states: States, actions: Actions, times: Indices
) -> Array:
    """Logarithm of the probability of actions if lengths are alike, and so are ways to go on.

    Args:
        core: of the objects.
        states: in which actions are taken, (transition, feature).
        actions: legal ones, (transition,).
        times: number of actions before each, (transition,).
    """
    mask = core.mask(states)
    stop = even_length_stops(core, mask, times)
    ways_on = mask.sum(axis=1) - mask[:, core.stop_action]
    go_on = (1.0 - stop) / np.maximum(ways_on, 1)
    chosen = np.where(actions == core.stop_action, stop, go_on)
    return np.log(chosen).astype(np.float32)
