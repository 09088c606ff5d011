"""One learner for all samplers of objects: a policy, a partition function, and a loss.

A loss is a function of what a batch of trajectories implies, in torch. Its gradient by the few
numbers that it sees comes from torch; from there on the networks know their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from morl.agents.learners.gflownet import kernels, losses
from morl.agents.learners.gflownet.networks import Array, LogPartition, PolicyNetwork
from morl.agents.learners.gflownet.sampler import (
    Sampler,
    Trajectories,
    log_even_choices,
    log_even_lengths,
)
from morl.compositional import EVEN, CompositionalCore
from morl.types import NonFiniteError, State, Vector

BALANCES = ("tb", "subtb", "db")
"""Trajectory, sub-trajectory and detailed balance."""

MEASURES = ("objects", *EVEN)
"""What rewards weigh: every object alike; or each as often as even choices build it; or as often as
even choices of the length, and then of the way to grow."""


@dataclass(frozen=True)
class Terms:
    """What losses are functions of.

    Attributes:
        log_z: (trajectory,).
        log_forward: (transition,).
        log_reference: (transition,), what log-forward is compared with: log P_B of undoing each
            action, or the logarithm of its probability by even choices; see `MEASURES`.
        log_flows: (transition,), through the state of each; None where the network has none.
        rows: (transition,), the trajectory of each.
        times: (transition,), number of actions before each.
    """

    log_z: Tensor
    log_forward: Tensor
    log_reference: Tensor
    log_flows: Tensor | None
    rows: Tensor
    times: Tensor

    @property
    def implied(self) -> Tensor:
        """Implied log-rewards, (trajectory,)."""
        ratios = self.log_forward - self.log_reference
        return losses.implied_log_rewards(self.log_z, ratios, self.rows)

    @property
    def lengths(self) -> Tensor:
        """Number of transitions, (trajectory,)."""
        return torch.bincount(self.rows, minlength=len(self.log_z))

    def potentials(self, log_rewards: Tensor) -> Tensor:
        """See `gflownet_losses.potentials`; the flow of the root is the partition function."""
        assert self.log_flows is not None
        shape = (len(self.log_z), int(self.times.max()) + 1)
        empty = torch.zeros(shape)
        place = (self.rows, self.times)
        flows = empty.index_put(place, self.log_flows)
        flows = torch.cat([self.log_z[:, None], flows[:, 1:]], dim=1)
        ratios = empty.index_put(place, self.log_forward - self.log_reference)
        return losses.potentials(flows, ratios, log_rewards, self.lengths)


Loss: TypeAlias = Callable[[Terms], Tensor]


def balance(kind: str, log_rewards: Vector, *, decay: float) -> Loss:
    """A balance condition with given log-rewards.

    Args:
        kind: one of `BALANCES`.
        log_rewards: (trajectory,), finite.
        decay: of sub-trajectory balance.
    """
    targets = torch.from_numpy(log_rewards.astype(np.float32))
    if kind == "tb":
        return lambda terms: losses.trajectory_balance(terms.implied, targets)
    if kind == "db":
        return lambda terms: losses.detailed_balance(terms.potentials(targets), terms.lengths)
    return lambda terms: losses.sub_trajectory_balance(
        terms.potentials(targets), terms.lengths, decay=decay
    )


class FlowLearner:
    """Samples trajectories and improves policy and partition function on them.

    Args:
        core: of the objects.
        network: the forward policy; an output more than actions is the log-flow of the state.
        partition: the conditional partition function.
        learning_rate: of the policy.
        partition_learning_rate: of the partition function.
        weight_decay: of both.
        max_gradient_norm: bound on the gradient of each, or None.
        measure: one of `MEASURES`.

    Attributes:
        rate: factor of both learning rates; whoever sees the budget lowers it.
    """

    def __init__(
        self,
        core: CompositionalCore,
        network: PolicyNetwork,
        partition: LogPartition,
        *,
        learning_rate: float,
        partition_learning_rate: float,
        weight_decay: float,
        max_gradient_norm: float | None,
        measure: str = "objects",
    ) -> None:
        assert measure in MEASURES
        self.core = core
        self.network = network
        self.partition = partition
        self.sampler = Sampler(core, network)
        self.rate = 1.0
        self._learning_rate = learning_rate
        self._partition_learning_rate = partition_learning_rate
        self._weight_decay = weight_decay
        self._max_gradient_norm = max_gradient_norm
        self._measure = measure

    def sample(self, codes: Array, *, rng: np.random.Generator, exploration: float) -> Trajectories:
        """Build an object for each condition, ready for `improve`; see `Sampler.sample`."""
        found = self.sampler.sample(codes, rng=rng, exploration=exploration)
        return found if self.network.remembers else self.sampler.replay(codes, found)

    def terms(self, trajectories: Trajectories, codes: Array) -> Terms:
        """What trajectories imply; leaves of torch's graph."""
        actions = self.core.num_actions
        flows = None
        if self.network.num_outputs > actions:
            flows = torch.from_numpy(trajectories.outputs[:, actions].copy()).requires_grad_()
        return Terms(
            log_z=torch.from_numpy(self.partition(codes)).requires_grad_(),
            log_forward=torch.from_numpy(trajectories.log_forward).requires_grad_(),
            log_reference=torch.from_numpy(self._log_reference(trajectories)),
            log_flows=flows,
            rows=torch.from_numpy(trajectories.rows),
            times=torch.from_numpy(trajectories.times),
        )

    def _log_reference(self, trajectories: Trajectories) -> Array:
        found = trajectories
        if self._measure == "objects":
            return found.log_backward
        if self._measure == "choices":
            return log_even_choices(self.core, found.states)
        return log_even_lengths(self.core, found.states, found.actions, found.times)

    def improve(self, trajectories: Trajectories, codes: Array, loss: Loss) -> dict[str, float]:
        """One step down the gradient of a loss.

        Args:
            trajectories: the latest of `sample` or `Sampler.retrace`, whose tape is still there.
            codes: encoded conditions, (trajectory, code).
            loss: what to lower.

        Returns:
            Readings before the step.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
        """
        terms = self.terms(trajectories, codes)
        value = loss(terms)
        if not torch.isfinite(value):
            raise NonFiniteError(
                f"{self.core.name}: the loss is {value.item()}; lower agent.learning_rate or "
                "agent.exponent"
            )
        value.backward()
        norm = self._step_policy(trajectories, terms)
        if terms.log_z.grad is not None:
            self.partition.backward(terms.log_z.grad.numpy())
            self.partition.improve(
                learning_rate=self.rate * self._partition_learning_rate,
                weight_decay=self._weight_decay,
                max_gradient_norm=self._max_gradient_norm,
            )
        return {
            "train/loss": value.item(),
            "train/log_z": float(terms.log_z.detach().mean()),
            "train/gradient_norm": norm,
        }

    def _step_policy(self, trajectories: Trajectories, terms: Terms) -> float:
        d_outputs = np.zeros((trajectories.steps, self.network.num_outputs), np.float32)
        if terms.log_flows is not None and terms.log_flows.grad is not None:
            d_outputs[:, -1] = terms.log_flows.grad.numpy()
        bias_gradient = np.empty(self.network.num_outputs, np.float32)
        assert terms.log_forward.grad is not None
        kernels.head_gradient(
            trajectories.probabilities,
            trajectories.actions,
            terms.log_forward.grad.numpy(),
            d_outputs,
            bias_gradient,
        )
        self.network.backward(d_outputs, bias_gradient)
        return self.network.improve(
            learning_rate=self.rate * self._learning_rate,
            weight_decay=self._weight_decay,
            max_gradient_norm=self._max_gradient_norm,
        )

    def state_dict(self) -> State:
        """Parameters and moments."""
        return {"network": self.network.state_dict(), "partition": self.partition.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.partition.load_state_dict(state["partition"])
