"""One conditioned actor, its vector critics, their targets and the temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.actor_critic.losses import (
    Twins,
    actions_backward,
    believed,
    sample_actions,
    soft_targets,
    twin_shares,
)
from morl.agents.learners.actor_critic.perceptrons import Perceptrons
from morl.types import NonFiniteError, State


class Batch(NamedTuple):
    """Rows to learn from, first axis batch; observations are normalised, rewards scaled."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    next_observations: Tensor
    preferences: Tensor


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """How a learner learns.

    Attributes:
        hidden: units of the hidden layers of actor and critics.
        critics: number of critics.
        discount: of values.
        twins: see `Twins`.
        target_rate: share of the critics that their targets take over at each update.
        average_rate: share of the actor that its average takes over at each of its updates.
        actor_delay: updates of the critics for each of the actor.
        temperature: weight of the entropy, at first if it is learned.
        learned_temperature: whether it follows `entropy_share`.
        entropy_share: entropy that a learned temperature wants, in minus numbers of actions.
    """

    hidden: Sequence[int] = (256, 256)
    critics: int = 2
    discount: float = 0.99
    twins: Twins = "whole"
    target_rate: float = 0.005
    average_rate: float = 1e-3
    actor_delay: int = 2
    temperature: float = 0.1
    learned_temperature: bool = True
    entropy_share: float = 1.0


class ScalarAdam:
    """Adam on one number."""

    def __init__(self, value: float) -> None:
        self.value = value
        self._first = self._second = 0.0
        self._updates = 0

    def step(self, gradient: float, learning_rate: float) -> None:
        """One step against the gradient."""
        self._updates += 1
        self._first += 0.1 * (gradient - self._first)
        self._second += 0.001 * (gradient * gradient - self._second)
        first = self._first / (1.0 - 0.9**self._updates)
        second = self._second / (1.0 - 0.999**self._updates)
        self.value -= learning_rate * first / (math.sqrt(second) + 1e-8)

    def state_dict(self) -> State:
        """Value and moments."""
        return {
            "value": self.value,
            "first": self._first,
            "second": self._second,
            "updates": self._updates,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self.value, self._first = float(state["value"]), float(state["first"])
        self._second, self._updates = float(state["second"]), int(state["updates"])


class ActorCritic:
    """Improves one actor for all preferences.

    Args:
        observation_size: numbers of an observation.
        action_size: numbers of an action, each in [-1, 1].
        num_objectives: length of a reward.
        settings: see `LearnerSettings`.
        rng: source of the initial weights.
        env_id: for messages.
        dtype: of all numbers; float64 is for comparisons.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        num_objectives: int,
        settings: LearnerSettings,
        *,
        rng: np.random.Generator,
        env_id: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings, self.action_size, self._env_id = settings, action_size, env_id
        inputs = observation_size + num_objectives
        hidden = tuple(settings.hidden)
        actor_sizes = (inputs, *hidden, 2 * action_size)
        critic_sizes = (inputs + action_size, *hidden, num_objectives)
        count = settings.critics
        self.actor = Perceptrons(1, actor_sizes, rng=rng, gain=0.01, dtype=dtype)
        self.average = self.actor.flat.clone()
        self.critics = Perceptrons(count, critic_sizes, rng=rng, dtype=dtype)
        self.targets = Perceptrons(count, critic_sizes, dtype=dtype)
        self.targets.flat.copy_(self.critics.flat)
        self._action_columns = slice(inputs, inputs + action_size)
        self._log_temperature = ScalarAdam(math.log(settings.temperature))
        self.updates = self.actor_updates = 0

    @property
    def temperature(self) -> float:
        """Weight of the entropy at present."""
        return math.exp(self._log_temperature.value)

    def act(self, observations: Tensor, preferences: Tensor, noise: Tensor) -> Tensor:
        """Sampled actions (batch, action) in (-1, 1)."""
        outputs = self.actor.forward(torch.cat([observations, preferences], -1))[0]
        return sample_actions(outputs, noise).actions

    def update(self, batch: Batch, noise: Tensor, *, learning_rate: float) -> None:
        """One update of the critics, and of the actor where it is due.

        Args:
            batch: rows and the preferences that they teach.
            noise: (2, batch, action), standard normal.
            learning_rate: of Adam.
        """
        self.critics_gradient(batch, noise[0])
        self.critics.step(learning_rate)
        if self.updates % self.settings.actor_delay == 0:
            log_probability = self.actor_gradient(batch, noise[1])
            self.actor.step(learning_rate)
            self.actor_updates += 1
            # At first the mean of all actors, later a moving average.
            rate = max(self.settings.average_rate, 1.0 / self.actor_updates)
            self.average.lerp_(self.actor.flat, rate)
            self._temper(log_probability, learning_rate)
        self.targets.flat.lerp_(self.critics.flat, self.settings.target_rate)
        self.updates += 1

    def critics_gradient(self, batch: Batch, noise: Tensor) -> Tensor:
        """Gradient of the critics' loss, into `critics.gradient`; returns their errors.

        The loss is the squared error, summed over critics and objectives, mean over the batch.
        """
        state = torch.cat([batch.next_observations, batch.preferences], -1)
        following = sample_actions(self.actor.forward(state)[0], noise)
        values = self.targets.forward(torch.cat([state, following.actions], -1))
        target = soft_targets(
            batch.rewards,
            batch.terminated,
            believed(values, batch.preferences, self.settings.twins),
            following.log_probabilities,
            discount=self.settings.discount,
            temperature=self.temperature,
        )
        inputs = torch.cat([batch.observations, batch.preferences, batch.actions], -1)
        errors = self.critics.forward(inputs) - target
        self.critics.backward(errors * (2.0 / len(target)))
        return errors

    def actor_gradient(self, batch: Batch, noise: Tensor) -> float:
        """Gradient of the actor's loss, into `actor.gradient`; returns the mean log-probability.

        The loss is the mean of ``temperature * log pi - w . Q``, with the believed vector Q.
        """
        state = torch.cat([batch.observations, batch.preferences], -1)
        sampled = sample_actions(self.actor.forward(state)[0], noise)
        values = self.critics.forward(torch.cat([state, sampled.actions], -1))
        shares = twin_shares(values, batch.preferences, self.settings.twins)
        rows = len(state)
        by_values = shares * batch.preferences * (-1.0 / rows)
        by_action = self.critics.input_gradient(by_values, self._action_columns)
        gradient = actions_backward(sampled, by_action, self.temperature / rows)
        self.actor.backward(gradient[None])
        return float(sampled.log_probabilities.mean())

    def _temper(self, log_probability: float, learning_rate: float) -> None:
        """Raise the temperature where the entropy is too small, lower it where it is too large."""
        if self.settings.learned_temperature:
            wanted = -self.settings.entropy_share * self.action_size
            gradient = -self.temperature * (log_probability + wanted)
            self._log_temperature.step(gradient, learning_rate)

    def values(self, observations: Tensor, preferences: Tensor) -> Tensor:
        """Values (batch, objective) of the averaged actor's middle action."""
        state = torch.cat([observations, preferences], -1)
        outputs = self.averaged_actor().forward(state)[0]
        actions = torch.tanh(outputs[:, : self.action_size])
        values = self.targets.forward(torch.cat([state, actions], -1))
        return believed(values, preferences, self.settings.twins)

    def averaged_actor(self) -> Perceptrons:
        """A copy of the actor with averaged weights: what solutions act by."""
        actor = Perceptrons(1, self.actor.sizes, dtype=self.actor.flat.dtype)
        actor.flat.copy_(self.average)
        return actor

    def rescale(self, factors: NDArray[np.float64]) -> None:
        """Say that rewards (objective,) will be so many times as large."""
        ratio = torch.as_tensor(factors, dtype=self.critics.flat.dtype)
        self.critics.rescale_outputs(ratio)
        self.targets.rescale_outputs(ratio)

    def check_finite(self) -> None:
        """Refuse to go on with parameters that are not finite.

        Raises:
            NonFiniteError: names what is not finite, and the remedy.
        """
        for name, flat in (("actor", self.actor.flat), ("critics", self.critics.flat)):
            if not bool(torch.isfinite(flat).all()):
                raise NonFiniteError(
                    f"{self._env_id}: parameters of the {name} are not finite after "
                    f"{self.updates} updates; lower agent.learning_rate or set agent.reward_scales"
                )

    def state_dict(self) -> State:
        """Everything that the next update depends on."""
        return {
            "actor": self.actor.state_dict(),
            "average": self.average.numpy().copy(),
            "critics": self.critics.state_dict(),
            "targets": self.targets.flat.numpy().copy(),
            "log_temperature": self._log_temperature.state_dict(),
            "updates": self.updates,
            "actor_updates": self.actor_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.actor.load_state_dict(state["actor"])
        self.average.copy_(torch.from_numpy(np.array(state["average"])))
        self.critics.load_state_dict(state["critics"])
        self.targets.flat.copy_(torch.from_numpy(np.array(state["targets"])))
        self._log_temperature.load_state_dict(state["log_temperature"])
        self.updates = int(state["updates"])
        self.actor_updates = int(state["actor_updates"])
