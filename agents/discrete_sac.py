"""Discrete soft actor-critic with preferences, for a population of learners in lockstep.

One `PopulationSAC` holds P independent actors with twin critics and targets in stacked tensors
(Christodoulou 2019, arXiv:1910.07207). Actor and critics see the preference; who hands it over
decides what is learned: fresh preferences at every sample make one learner serve all of them
(GMORL, arXiv:2509.10474), a fixed one makes a specialist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents import discrete_sac_losses as losses
from morl.agents.discrete_sac_networks import (
    CompactNetwork,
    FlatNetwork,
    Inputs,
    Network,
    PaperNetwork,
    Parameters,
    ParameterStore,
    Shape,
    UnfitNetworkError,
    initial_parameters,
)
from morl.agents.normalisation import RunningMoments
from morl.agents.replay import Transitions
from morl.types import MorlError, NonFiniteError, State

NETWORKS = ("compact", "paper")
ACTOR_LOSSES = ("reverse", "forward")


class NoLegalActionError(MorlError):
    """An observation by which no action is available."""


@dataclass
class SACConfig:
    """Settings of the actors and critics.

    Attributes:
        network: "compact" or "paper"; the latter only where observations have a row for each
            action.
        hidden: units of the hidden layers of "compact"; two layers where observations have rows.
        vector_critics: whether critics estimate every objective by itself (else the weighted sum).
        training_discount: discount of the critics; the task's by default.
        learning_rate: of Adam, actor and critics alike.
        final_learning_rate: share of it that is left at the end of the budget; it falls linearly.
        batch: transitions of each policy in an update.
        target_rate: share of the critics that their targets take over at each update.
        temperature: weight of the entropy, in units of scaled rewards; the initial one if it is
            tuned.
        target_entropy: entropy that the temperature is tuned for, as a share of the largest
            possible one; None leaves the temperature fixed.
        temperature_learning_rate: of Adam on the logarithm of the temperature.
        actor_loss: "reverse", as in discrete SAC, or "forward", the cross-entropy against the
            same distribution.
        reward_columns: columns of a row that show what its action costs at once, one an
            objective; actor and critics then learn only what comes on top. Empty if there are
            none.
        reward_column_factors: factors that turn these columns into rewards.
    """

    network: str = "compact"
    hidden: tuple[int, ...] = (64, 64)
    vector_critics: bool = True
    training_discount: float | None = None
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.1
    batch: int = 256
    target_rate: float = 0.005
    temperature: float = 0.01
    target_entropy: float | None = None
    temperature_learning_rate: float = 1e-3
    actor_loss: str = "forward"
    reward_columns: tuple[int, ...] = ()
    reward_column_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        for name, allowed in (("network", NETWORKS), ("actor_loss", ACTOR_LOSSES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        positive = ("learning_rate", "temperature", "temperature_learning_rate", "batch")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("final_learning_rate", "training_discount", "target_entropy", "target_rate"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"every layer of hidden needs at least one unit, got {self.hidden}")
        if len(self.reward_columns) != len(self.reward_column_factors):
            raise ValueError(
                f"reward_columns has {len(self.reward_columns)} entries and reward_column_factors "
                f"has {len(self.reward_column_factors)}; they need one each for every objective"
            )


def make_network(config: SACConfig, shape: Shape, *, components: int, env_id: str) -> Network:
    """The network that a configuration asks for.

    Raises:
        UnfitNetworkError: if it does not fit the environment.
    """
    if config.network == "paper":
        if not shape.by_action:
            raise UnfitNetworkError(
                f"{env_id}: the paper's network needs observations with a row for each action; "
                "choose agent.network=compact"
            )
        return PaperNetwork(shape, components)
    if not shape.by_action:
        return FlatNetwork(shape, tuple(config.hidden), components)
    if len(config.hidden) != 2:
        raise UnfitNetworkError(
            f"{env_id}: observations have a row for each action, so agent.hidden takes two "
            f"numbers, got {tuple(config.hidden)}"
        )
    return CompactNetwork(shape, (config.hidden[0], config.hidden[1]), components)


@dataclass(frozen=True)
class View:
    """How observations become inputs: rows, mask, normaliser, known rewards.

    Attributes:
        shape: of the environment.
        env_id: for messages.
        mean: (feature,), subtracted.
        scale: (feature,), divides.
        reward_columns: see `SACConfig`.
        reward_factors: (objective,), column factors times reward scales.
        trims: whether rows at the end that are available nowhere in a batch may be left out.
    """

    shape: Shape
    env_id: str
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    trims: bool = False
    reward_columns: tuple[int, ...] = ()
    reward_factors: tuple[float, ...] = ()

    def rows(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Observations (policy, batch, ...) as (policy, batch, action, feature), or flat."""
        table = np.asarray(observations, np.float32)
        policies, batch = table.shape[:2]
        if self.shape.by_action:
            return table.reshape(policies, batch, self.shape.num_actions, self.shape.num_features)
        return table.reshape(policies, batch, self.shape.num_features)

    def available(self, rows: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Which actions are available, (policy, batch, action); None where all always are.

        Raises:
            NoLegalActionError: if none is, in some observation.
        """
        if not self.shape.by_action:
            return None
        there: NDArray[np.bool_] = rows[..., 0] >= 0.0
        without = ~there.any(axis=-1)
        if without.any():
            policy, index = np.argwhere(without)[0]
            raise NoLegalActionError(
                f"{self.env_id}: observation {index} of policy {policy} has no available action: "
                f"the first feature of each of its {self.shape.num_actions} rows is negative"
            )
        return there

    def inputs(
        self, observations: NDArray[Any], preferences: NDArray[Any] | Tensor
    ) -> tuple[Inputs, Tensor | None]:
        """What networks see, and the known rewards (policy, batch, action, objective) if any."""
        rows = self.rows(observations)
        mask = self.available(rows)
        if mask is not None and self.trims:
            used = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1]) + 1
            rows, mask = rows[:, :, :used], mask[:, :, :used]
        wanted = torch.as_tensor(preferences, dtype=torch.float32)
        known = None
        if self.reward_columns:
            columns = torch.from_numpy(rows[..., list(self.reward_columns)])
            known = columns * torch.tensor(self.reward_factors)
        features = torch.from_numpy(rows) - torch.from_numpy(self.mean)
        features = features.div_(torch.from_numpy(self.scale)).clamp_(-10.0, 10.0)
        there = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
        return Inputs(features, wanted, there), known


def actor_logits(
    network: Network,
    parameters: Parameters,
    inputs: Inputs,
    known: Tensor | None,
    temperature: Tensor,
) -> Tensor:
    """Logits (policy, batch, action).

    Where rewards are known, an actor whose network gives zeros is the soft-greedy policy.
    """
    logits = network(parameters, inputs).squeeze(-1)
    if known is None:
        return logits
    greedy = losses.scalarise(known, inputs.preferences)
    return logits + greedy / temperature[:, None, None]


class PopulationSAC:
    """P learners in lockstep.

    Args:
        shape: of the environment.
        config: settings shared by all.
        discount: of the critics.
        rngs: one generator a policy, for initial weights.
        env_id: for messages.

    Attributes:
        moments: statistics of features, shared by all policies.
        log_temperature: (policy,).
    """

    def __init__(
        self,
        shape: Shape,
        config: SACConfig,
        *,
        discount: float,
        rngs: list[np.random.Generator],
        env_id: str,
    ) -> None:
        self.shape = shape
        self.config = config
        self.discount = discount
        self.env_id = env_id
        self.num_policies = len(rngs)
        self.moments = RunningMoments(1, shape.num_features)
        components = shape.num_objectives if config.vector_critics else 1
        self.actor_network = make_network(config, shape, components=1, env_id=env_id)
        self.critic_network = make_network(config, shape, components=components, env_id=env_id)
        self.actor = ParameterStore(initial_parameters(self.actor_network, rngs))
        self.critics = [
            ParameterStore(initial_parameters(self.critic_network, rngs)) for _ in range(2)
        ]
        self.targets = [critic.flat.clone() for critic in self.critics]
        self._target_blocks = [
            _like(target, critic) for target, critic in zip(self.targets, self.critics, strict=True)
        ]
        initial = np.full(len(rngs), np.log(config.temperature), np.float32)
        self._temperature = ParameterStore([initial])

    @property
    def log_temperature(self) -> Tensor:
        """Logarithm of the entropy's weight, (policy,)."""
        return self._temperature.blocks[0]

    @property
    def temperature(self) -> Tensor:
        """Weight of the entropy, (policy,), without gradient."""
        return self.log_temperature.detach().exp()

    def see(self, observations: NDArray[np.float32]) -> None:
        """Take observations (batch, feature) into the statistics; unavailable rows do not count."""
        rows = observations.reshape(-1, self.shape.num_features)
        if self.shape.by_action:
            rows = rows[rows[:, 0] >= 0.0]
        if len(rows):
            self.moments.update(rows[None])

    def view(self, reward_scales: NDArray[np.float64]) -> View:
        """How observations are seen at present."""
        factors = np.asarray(self.config.reward_column_factors) * reward_scales[
            : len(self.config.reward_column_factors)
        ]
        return View(
            shape=self.shape,
            env_id=self.env_id,
            mean=self.moments.mean[0].astype(np.float32),
            scale=np.maximum(self.moments.scale[0], 1e-2).astype(np.float32),
            trims=isinstance(self.actor_network, CompactNetwork),
            reward_columns=tuple(self.config.reward_columns),
            reward_factors=tuple(float(factor) for factor in factors),
        )

    def act(
        self,
        observations: NDArray[np.float32],
        preferences: NDArray[np.float32],
        view: View,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Sample actions (policy, env) for observations (policy, env, feature)."""
        with torch.no_grad():
            inputs, known = view.inputs(observations, preferences)
            logits = actor_logits(
                self.actor_network, self.actor.blocks, inputs, known, self.temperature
            )
            probabilities, _ = losses.masked_log_softmax(logits, inputs.available)
        return sample(probabilities.numpy(), rng)

    def update(
        self,
        transitions: Transitions,
        preferences: NDArray[np.float32],
        view: View,
        *,
        reward_scales: NDArray[np.float64],
        learning_rate: float,
    ) -> dict[str, float]:
        """Improve critics, actors, targets and perhaps temperatures by one batch.

        Args:
            transitions: axes (policy, batch).
            preferences: (policy, batch, objective), those to learn for.
            view: how to see observations.
            reward_scales: (objective,).
            learning_rate: of Adam.

        Returns:
            Readings, means over policies.

        Raises:
            NonFiniteError: if a loss is not finite.
        """
        inputs, known = view.inputs(transitions.observations, preferences)
        targets = self._targets(transitions, inputs.preferences, view, reward_scales)
        actions = torch.from_numpy(transitions.actions)
        values, errors = [], []
        for critic in self.critics:
            value = self._values(critic.blocks, inputs, known)
            loss = losses.critic_loss(value, actions, targets)
            critic.minimise(loss.sum(), learning_rate=learning_rate)
            values.append(value.detach())
            errors.append(loss.detach().mean())
        lower = losses.scalarise(
            losses.pessimistic(values[0], values[1], inputs.preferences), inputs.preferences
        )
        actor_loss, entropies = self._improve_actor(inputs, known, lower, learning_rate)
        for target, critic in zip(self.targets, self.critics, strict=True):
            target.lerp_(critic.flat, self.config.target_rate)
        readings = {
            "critic_loss": float(sum(errors) / 2),
            "actor_loss": float(actor_loss),
            "entropy": float(entropies.mean()),
            "temperature": float(self.temperature.mean()),
        }
        if not np.isfinite(list(readings.values())).all():
            raise NonFiniteError(
                f"{self.env_id}: losses are not finite: {readings}; lower agent.learning_rate"
            )
        return readings

    def _values(self, blocks: Parameters, inputs: Inputs, known: Tensor | None) -> Tensor:
        """Critic values (policy, batch, action, component)."""
        values = self.critic_network(blocks, inputs)
        if known is None:
            return values
        if self.config.vector_critics:
            return values + known
        return values + losses.scalarise(known, inputs.preferences).unsqueeze(-1)

    @torch.no_grad()
    def _targets(
        self,
        transitions: Transitions,
        preferences: Tensor,
        view: View,
        reward_scales: NDArray[np.float64],
    ) -> Tensor:
        inputs, known = view.inputs(transitions.next_observations, preferences)
        temperature = self.temperature
        logits = actor_logits(self.actor_network, self.actor.blocks, inputs, known, temperature)
        chances, logs = losses.masked_log_softmax(logits, inputs.available)
        first, second = (self._values(blocks, inputs, known) for blocks in self._target_blocks)
        lower = losses.pessimistic(first, second, preferences)
        next_values = losses.soft_values(lower, chances, logs, temperature=temperature)
        scaled = transitions.rewards * reward_scales.astype(np.float32)
        rewards = torch.from_numpy(scaled)
        if not self.config.vector_critics:
            rewards = (rewards * preferences).sum(-1, keepdim=True)
        terminated = torch.from_numpy(transitions.terminated)
        return losses.critic_targets(rewards, terminated, next_values, discount=self.discount)

    def _improve_actor(
        self, inputs: Inputs, known: Tensor | None, values: Tensor, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        temperature = self.temperature
        logits = actor_logits(self.actor_network, self.actor.blocks, inputs, known, temperature)
        chances, logs = losses.masked_log_softmax(logits, inputs.available)
        if self.config.actor_loss == "forward":
            loss = losses.forward_actor_loss(
                logs, values, inputs.available, temperature=temperature
            )
        else:
            loss = losses.reverse_actor_loss(chances, logs, values, temperature=temperature)
        self.actor.minimise(loss.sum(), learning_rate=learning_rate)
        entropies = losses.entropy(chances, logs).detach()
        if self.config.target_entropy is not None:
            self._tune_temperature(entropies, inputs.available)
        return loss.detach().mean(), entropies

    def _tune_temperature(self, entropies: Tensor, available: Tensor | None) -> None:
        assert self.config.target_entropy is not None
        if available is None:
            largest = torch.full_like(entropies, float(np.log(self.shape.num_actions)))
        else:
            largest = available.sum(-1).to(entropies.dtype).log()
        loss = losses.temperature_loss(
            self.log_temperature, entropies, self.config.target_entropy * largest
        )
        self._temperature.minimise(
            loss.sum(), learning_rate=self.config.temperature_learning_rate
        )

    def state_dict(self) -> State:
        """Parameters, optimisers and statistics."""
        return {
            "actor": self.actor.state_dict(),
            "critics": [critic.state_dict() for critic in self.critics],
            "targets": [target.numpy().copy() for target in self.targets],
            "temperature": self._temperature.state_dict(),
            "moments": self.moments.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self.actor.load_state_dict(state["actor"])
        for critic, saved in zip(self.critics, state["critics"], strict=True):
            critic.load_state_dict(saved)
        for target, saved in zip(self.targets, state["targets"], strict=True):
            target.copy_(torch.from_numpy(np.array(saved, np.float32)))
        self._temperature.load_state_dict(state["temperature"])
        self.moments = RunningMoments.from_state(state["moments"])


def sample(probabilities: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an index from each distribution (..., action); one of probability 0 is never drawn."""
    edges = probabilities.astype(np.float64).cumsum(axis=-1)
    drawn = rng.random(edges.shape[:-1])[..., None] * edges[..., -1:]
    return np.asarray((edges <= drawn).sum(axis=-1), np.int64)


def _like(flat: Tensor, store: ParameterStore) -> list[Tensor]:
    """Views of a flat tensor in the shapes of a store's blocks."""
    sizes = [block.numel() for block in store.blocks]
    return [
        part.view(block.shape) for part, block in zip(flat.split(sizes), store.blocks, strict=True)
    ]


