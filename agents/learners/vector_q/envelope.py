"""The network of envelope Q-learning and its updates.

One network maps observation and preference to a vector for each action. It sees observations as
the critics of discrete soft actor-critic do; where episodes build objects, the core of the objects
says which actions are legal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.conditioned.networks import (
    CompactNetwork,
    FlatNetwork,
    Inputs,
    Network,
    Parameters,
    ParameterStore,
    Shape,
    initial_parameters,
)
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.ppo.networks import Block
from morl.agents.learners.replay.buffer import Transitions
from morl.agents.learners.sac.discrete import View, two_units
from morl.agents.learners.sac.losses import scalarise
from morl.agents.learners.vector_q import losses
from morl.compositional import CompositionalCore
from morl.types import NonFiniteError, State


@dataclass(frozen=True)
class ObjectView(View):
    """A view of objects under construction: their core knows the legal actions.

    Attributes:
        core: reads observations; None where episodes build no objects.
    """

    core: CompositionalCore | None = None

    def available(self, rows: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """See the base class."""
        if self.core is None:
            return super().available(rows)
        states = self.core.decode(rows.reshape(-1, rows.shape[-1]))
        return self.core.mask(states).reshape(*rows.shape[:-1], -1)


@dataclass(frozen=True)
class Worth:
    """A network of vectors, seen as one of numbers: what they are worth to the preference.

    Attributes:
        network: outputs (policy, batch, action, objective).
    """

    network: Network

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those of the network."""
        return self.network.blocks

    def __call__(self, parameters: Parameters, inputs: Inputs) -> Tensor:
        """Outputs (policy, batch, action, 1)."""
        values = self.network(parameters, inputs)
        return scalarise(values, inputs.preferences).unsqueeze(-1)


@dataclass(frozen=True)
class LearnerSettings:
    """What the learner must know.

    Attributes:
        hidden: units of each layer; where observations have rows, encoder and head.
        discount: of the values.
        target_rate: share of the network that the target takes over at each update.
        double_q: whether the network chooses among what the target says vectors are.
    """

    hidden: tuple[int, ...]
    discount: float
    target_rate: float
    double_q: bool


class EnvelopeLearner:
    """Vector values for every preference, and the target that they run after.

    Args:
        shape: of the environment.
        settings: of the learner.
        core: of the objects that episodes build, or None.
        rng: for initial weights.
        env_id: for messages.

    Attributes:
        network: function of parameters and inputs, outputs (1, batch, action, objective).
        values: its parameters.
        exploration: share of random actions; whoever sees the budget sets it.
        homotopy: see `envelope_losses.homotopy_loss`; likewise.
    """

    def __init__(
        self,
        shape: Shape,
        settings: LearnerSettings,
        *,
        core: CompositionalCore | None,
        rng: np.random.Generator,
        env_id: str,
    ) -> None:
        self._shape = shape
        self._settings = settings
        self._core = core
        self._env_id = env_id
        self.exploration = 1.0
        self.homotopy = 0.0
        self.network = self._make_network()
        self.values = ParameterStore(initial_parameters(self.network, [rng]))
        # Of this second store only the values are used.
        self._target = ParameterStore([block.detach().numpy() for block in self.values.blocks])
        self._moments = RunningMoments(1, shape.num_features)

    def _make_network(self) -> Network:
        hidden, objectives = self._settings.hidden, self._shape.num_objectives
        if not self._shape.by_action:
            return FlatNetwork(self._shape, hidden, objectives)
        return CompactNetwork(self._shape, two_units(hidden, "hidden", self._env_id), objectives)

    def see(self, observations: NDArray[np.float32], *, features: int | None = None) -> None:
        """Take observations (batch, feature) into the statistics; unavailable rows do not count."""
        rows = observations.reshape(-1, self._shape.num_features)
        if self._shape.by_action:
            rows = rows[rows[:, 0] >= 0.0]
        if len(rows):
            self._moments.update(rows[None], features=None if self._shape.by_action else features)

    def view(self, reward_scales: NDArray[np.float64]) -> ObjectView:  # noqa: ARG002 - of the protocol
        """How observations are seen at present."""
        return ObjectView(
            shape=self._shape,
            env_id=self._env_id,
            mean=self._moments.mean[0].astype(np.float32),
            scale=np.maximum(self._moments.scale[0], 1e-2).astype(np.float32),
            packs=self._shape.by_action,
            core=self._core,
        )

    @torch.no_grad()
    def act(
        self,
        observations: NDArray[np.float32],
        preferences: NDArray[np.float32],
        view: View,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Greedy actions (1, env), a share of them replaced by random ones."""
        inputs = view.inputs(observations, preferences)
        worth = Worth(self.network)(self.values.blocks, inputs).squeeze(-1).numpy()
        chances = rng.random(worth.shape)
        if inputs.available is not None:
            missing = ~inputs.available.numpy()
            worth, chances = np.where(missing, -np.inf, worth), np.where(missing, -1.0, chances)
        random = rng.random(worth.shape[:-1]) < self.exploration
        chosen = np.where(random, chances.argmax(axis=-1), worth.argmax(axis=-1))
        return np.asarray(chosen, np.int64)

    def update(
        self,
        transitions: Transitions,
        preferences: NDArray[np.float32],
        view: View,
        *,
        reward_scales: NDArray[np.float64],
        learning_rate: float,
    ) -> dict[str, float]:
        """One step on a batch that is crossed with preferences.

        Args:
            transitions: axes (1, batch).
            preferences: (1, preference, objective), each of which every transition teaches.
            view: how to see observations.
            reward_scales: (objective,).
            learning_rate: of Adam.

        Returns:
            Readings.

        Raises:
            NonFiniteError: if the loss is not finite.
        """
        wanted = preferences[0]
        weights = torch.from_numpy(wanted)
        rewards = transitions.rewards[0] * reward_scales.astype(np.float32)
        targets = losses.envelope_targets(
            torch.from_numpy(rewards),
            torch.from_numpy(transitions.terminated[0]),
            self._next_values(transitions, wanted, view),
            discount=self._settings.discount,
        )
        inputs = self._crossed(transitions.observations, wanted, view)
        found = self._vectors(self.values.blocks, inputs, len(wanted))
        taken = losses.taken_values(found, torch.from_numpy(transitions.actions[0]))
        loss = losses.homotopy_loss(taken, targets, weights, homotopy=self.homotopy)
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"{self._env_id}: the loss is {loss.item()}; lower agent.learning_rate, or set "
                "agent.reward_scales"
            )
        self.values.minimise(loss, learning_rate=learning_rate)
        with torch.no_grad():
            self._target.flat.lerp_(self.values.flat, self._settings.target_rate)
        return {"loss": loss.item(), "worth": float((taken.detach() * weights).sum(-1).mean())}

    @torch.no_grad()
    def _next_values(
        self, transitions: Transitions, wanted: NDArray[np.float32], view: View
    ) -> Tensor:
        """Values of the next states under the envelope, (batch, preference, objective)."""
        inputs = self._crossed(transitions.next_observations, wanted, view)
        valuing = self._vectors(self._target.blocks, inputs, len(wanted))
        choosing = valuing
        if self._settings.double_q:
            choosing = self._vectors(self.values.blocks, inputs, len(wanted))
        available = inputs.available
        if available is not None:  # the same for every preference
            available = available[0, :: len(wanted)]
        return losses.envelope_values(choosing, valuing, torch.from_numpy(wanted), available)

    def _crossed(
        self, observations: NDArray[np.float32], wanted: NDArray[np.float32], view: View
    ) -> Inputs:
        """Every observation (1, batch, feature) with every preference, the latter inside."""
        count = observations.shape[1]
        preferences = np.tile(wanted, (count, 1))[None]
        if self._shape.by_action:
            return view.inputs(np.repeat(observations, len(wanted), axis=1), preferences)
        # Features are normalised and masks are found once, then repeated.
        once = view.inputs(observations, np.zeros((1, count, wanted.shape[1]), np.float32))
        assert once.features is not None
        features = once.features.repeat_interleave(len(wanted), 1)
        available = once.available
        if available is not None:
            available = available.repeat_interleave(len(wanted), 1)
        return replace(
            once,
            features=features,
            preferences=torch.from_numpy(preferences),
            available=available,
        )

    def _vectors(self, parameters: Parameters, inputs: Inputs, num_preferences: int) -> Tensor:
        """(batch, preference, action, objective)."""
        found = self.network(parameters, inputs)[0]
        return found.view(-1, num_preferences, *found.shape[1:])

    def state_dict(self) -> State:
        """Parameters, optimiser, target and statistics."""
        return {
            "values": self.values.state_dict(),
            "target": self._target.flat.numpy().copy(),
            "moments": self._moments.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self.values.load_state_dict(state["values"])
        with torch.no_grad():
            self._target.flat.copy_(torch.from_numpy(np.array(state["target"], np.float32)))
        self._moments = RunningMoments.from_state(state["moments"])
