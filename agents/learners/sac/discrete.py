"""Discrete soft actor-critic with preferences, for a population of learners in lockstep.

One `PopulationSAC` holds P independent actors with twin critics and targets in stacked tensors
(Christodoulou 2019, arXiv:1910.07207). Actor and critics see the preference; who hands it over
decides what is learned: fresh preferences at every sample make one learner serve all of them
(GMORL, arXiv:2509.10474), a fixed one makes a specialist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.conditioned.kernels import PackedRows
from morl.agents.learners.conditioned.networks import (
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
    repeated,
)
from morl.agents.learners.core.errors import NoLegalActionError
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.replay.buffer import Transitions
from morl.agents.learners.sac import losses
from morl.search_space import COUNT, POSITIVE, SHARE, Settings, bounded
from morl.types import NonFiniteError, State

NETWORKS = ("compact", "paper")
ACTOR_LOSSES = ("reverse", "forward")


@dataclass
class SACConfig(Settings):
    """Settings of the actors and critics.

    Attributes:
        network: "compact" or "paper"; the latter only where observations have a row for each
            action.
        hidden: units of the hidden layers of "compact"; where observations have rows, those of the
            encoder and then the head's.
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
        histogram: first column of a histogram in each row, and the one after its last; "compact"
            sees it through a few sums over it (see `hinges`). None where there is none.
        exogenous_columns: columns (of a row, or of the observation) that no action influences. A
            baseline on them is taken out of the critics' targets: it moves the values of all
            actions alike and leaves out the noise that no action can help.
        baseline_hidden: units of the baseline's hidden layers.
    """

    network: str = bounded("compact", choices=NETWORKS)
    hidden: tuple[int, ...] = (64, 64)
    vector_critics: bool = True
    training_discount: float | None = bounded(None, SHARE)
    learning_rate: float = bounded(1e-3, POSITIVE)
    final_learning_rate: float = bounded(0.1, SHARE)
    batch: int = bounded(256, COUNT)
    target_rate: float = bounded(0.005, SHARE)
    temperature: float = bounded(0.01, POSITIVE)
    target_entropy: float | None = bounded(None, SHARE)
    temperature_learning_rate: float = bounded(1e-3, POSITIVE)
    actor_loss: str = bounded("forward", choices=ACTOR_LOSSES)
    reward_columns: tuple[int, ...] = ()
    reward_column_factors: tuple[float, ...] = ()
    histogram: tuple[int, int] | None = None
    exogenous_columns: tuple[int, ...] = ()
    baseline_hidden: tuple[int, ...] = (16, 16)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
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
    return CompactNetwork(shape, two_units(config.hidden, "hidden", env_id), components)


def two_units(units: Sequence[int], name: str, env_id: str) -> tuple[int, int]:
    """The units of encoder and head.

    Raises:
        UnfitNetworkError: if they are not two; names the setting.
    """
    if len(units) != 2:
        raise UnfitNetworkError(
            f"{env_id}: observations have a row for each action, so agent.{name} takes two "
            f"numbers, the encoder's and the head's; got {tuple(units)}"
        )
    return units[0], units[1]


def hinges(bins: int) -> NDArray[np.float32]:
    """Basis in which a histogram of sizes is summed: ``min(size, c)`` for c = 1, 2, 4, ...

    With counts of sizes in unit bins, the products are sums of sizes that are capped at c: from
    nearly the number of things to their total size.

    Args:
        bins: number of bins; bin k holds sizes from k to k + 1.

    Returns:
        (bin, sum); the last cap is the number of bins.
    """
    caps = [2.0**power for power in range(int(np.ceil(np.log2(max(bins, 2)))))] + [float(bins)]
    middles = np.arange(bins) + 0.5
    return np.asarray(np.minimum(middles[:, None], np.array(caps)[None]), np.float32)


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
        histogram: see `SACConfig`; None where networks see every column.
        packs: whether networks take available rows alone.
    """

    shape: Shape
    env_id: str
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    packs: bool = False
    reward_columns: tuple[int, ...] = ()
    reward_factors: tuple[float, ...] = ()
    histogram: tuple[int, int] | None = None

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

    def seen(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features that networks see of rows (..., feature): sums stand for the histogram."""
        if self.histogram is None:
            return rows
        start, stop = self.histogram
        sums = rows[..., start:stop] @ hinges(stop - start)
        return np.concatenate([rows[..., :start], sums, rows[..., stop:]], axis=-1)

    def place(self, column: int) -> int:
        """Where networks see a column of an observation."""
        if self.histogram is None or column < self.histogram[0]:
            return column
        start, stop = self.histogram
        return column - (stop - start) + int(hinges(stop - start).shape[1])

    def inputs(self, observations: NDArray[Any], preferences: NDArray[Any] | Tensor) -> Inputs:
        """What networks see."""
        rows = self.rows(observations)
        mask = self.available(rows)
        wanted = torch.as_tensor(preferences, dtype=torch.float32)
        known = greedy = None
        if self.reward_columns:
            columns = torch.from_numpy(rows[..., list(self.reward_columns)])
            known = columns * torch.tensor(self.reward_factors)
            greedy = losses.scalarise(known, wanted)
        there = None if mask is None else torch.from_numpy(mask)
        if mask is not None and self.packs:
            packed = self._packed(rows, mask)
            return Inputs(None, packed, wanted, there, known, greedy)
        features = torch.from_numpy(self._normalised(rows))
        return Inputs(features, None, wanted, there, known, greedy)

    def _normalised(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        standard = (self.seen(rows) - self.mean) / self.scale
        return np.clip(standard, -10.0, 10.0, out=standard)

    def _packed(self, rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> PackedRows:
        tables, starts, places = [], [], []
        for own, there in zip(rows, mask, strict=True):
            flat = np.flatnonzero(there)
            table = own.reshape(-1, own.shape[-1]).take(flat, axis=0)
            tables.append(self._normalised(table))
            starts.append(np.concatenate([[0], np.cumsum(there.sum(axis=1))]))
            places.append(flat)
        return PackedRows(tables, starts, places, mask.shape[1], mask.shape[2])


def actor_logits(
    network: Network, parameters: Parameters, inputs: Inputs, temperature: Tensor
) -> Tensor:
    """Logits (policy, batch, action).

    Where rewards are known, an actor whose network gives zeros is the soft-greedy policy.
    """
    logits = network(parameters, inputs).squeeze(-1)
    if inputs.greedy is None:
        return logits
    return logits + inputs.greedy / temperature[:, None, None]


class PopulationSAC:
    """P learners in lockstep.

    Args:
        shape: of the environment.
        config: settings shared by all.
        discount: of the critics.
        rngs: one generator a policy, for initial weights.
        env_id: for messages.

    Attributes:
        actor: parameters (policy, ...).
        critics: parameters (twin policy, ...), all first twins before all second ones.
        targets: slowly following copy of them, flat.
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
        self._blind = self._blind_view()
        seen = self._blind.seen(np.zeros((1, shape.num_features), np.float32)).shape[-1]
        self.moments = RunningMoments(1, seen)
        inner = replace(shape, num_features=seen)
        components = shape.num_objectives if config.vector_critics else 1
        self.actor_network = make_network(config, inner, components=1, env_id=env_id)
        self.critic_network = make_network(config, inner, components=components, env_id=env_id)
        self.actor = ParameterStore(initial_parameters(self.actor_network, rngs))
        self.critics = ParameterStore(initial_parameters(self.critic_network, [*rngs, *rngs]))
        self.targets = self.critics.flat.clone()
        self._target_blocks = _like(self.targets, self.critics)
        self._baseline_network = self._make_baseline(components)
        self._baseline = (
            ParameterStore(initial_parameters(self._baseline_network, rngs))
            if self._baseline_network
            else None
        )
        initial = np.full(len(rngs), np.log(config.temperature), np.float32)
        self._temperature = ParameterStore([initial])

    def _blind_view(self) -> View:
        """A view that does not normalise."""
        empty = np.zeros(0, np.float32)
        histogram = self.config.histogram if self.config.network == "compact" else None
        return View(self.shape, self.env_id, mean=empty, scale=empty, histogram=histogram)

    def _make_baseline(self, components: int) -> Network | None:
        columns = self.config.exogenous_columns
        if not columns:
            return None
        shape = replace(self.shape, num_features=len(columns), num_actions=1)
        hidden = tuple(self.config.baseline_hidden)
        if not self.shape.by_action or self.config.network == "paper":
            return FlatNetwork(shape, hidden, components)
        return CompactNetwork(shape, two_units(hidden, "baseline_hidden", self.env_id), components)

    @property
    def log_temperature(self) -> Tensor:
        """Logarithm of the entropy's weight, (policy,)."""
        return self._temperature.blocks[0]

    @property
    def temperature(self) -> Tensor:
        """Weight of the entropy, (policy,), without gradient."""
        return self.log_temperature.detach().exp()

    def see(self, observations: NDArray[np.float32], *, features: int | None = None) -> None:
        """Take observations (batch, feature) into the statistics; unavailable rows do not count."""
        rows = observations.reshape(-1, self.shape.num_features)
        if self.shape.by_action:
            rows = rows[rows[:, 0] >= 0.0]
        if len(rows):
            seen = self._blind.seen(rows)
            whole = self.shape.by_action or features == rows.shape[1]
            self.moments.update(seen[None], features=None if whole else features)

    def view(self, reward_scales: NDArray[np.float64]) -> View:
        """How observations are seen at present."""
        factors = (
            np.asarray(self.config.reward_column_factors)
            * reward_scales[: len(self.config.reward_column_factors)]
        )
        return View(
            shape=self.shape,
            env_id=self.env_id,
            mean=self.moments.mean[0].astype(np.float32),
            scale=np.maximum(self.moments.scale[0], 1e-2).astype(np.float32),
            histogram=self._blind.histogram,
            packs=isinstance(self.actor_network, CompactNetwork),
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
            inputs = view.inputs(observations, preferences)
            logits = actor_logits(self.actor_network, self.actor.blocks, inputs, self.temperature)
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
        inputs = view.inputs(transitions.observations, preferences)
        targets, noise = self._targets(
            transitions, inputs.preferences, view, reward_scales, learning_rate
        )
        values = self.values(self.critics.blocks, inputs)
        actions = torch.from_numpy(transitions.actions)
        error = losses.critic_loss(values.flatten(0, 1), repeated(actions, 2), repeated(targets, 2))
        self.critics.minimise(error.sum(), learning_rate=learning_rate)
        first, second = values.detach()
        lower = losses.pessimistic(first, second, inputs.preferences)
        lower = losses.scalarise(lower, inputs.preferences)
        actor_loss, entropies = self._improve_actor(inputs, lower, learning_rate)
        self.targets.lerp_(self.critics.flat, self.config.target_rate)
        readings = {
            "critic_loss": float(error.detach().mean()),
            "actor_loss": float(actor_loss),
            "entropy": float(entropies.mean()),
            "noise": float(noise),
            "temperature": float(self.temperature.mean()),
        }
        if not np.isfinite(list(readings.values())).all():
            raise NonFiniteError(
                f"{self.env_id}: losses are not finite: {readings}; lower agent.learning_rate"
            )
        return readings

    def values(self, blocks: Parameters, inputs: Inputs) -> Tensor:
        """Values of both critics, (twin, policy, batch, action, component)."""
        outputs = self.critic_network(blocks, inputs)
        values = outputs.view(2, self.num_policies, *outputs.shape[1:])
        if inputs.known is None or inputs.greedy is None:
            return values
        if self.config.vector_critics:
            return values + inputs.known
        return values + inputs.greedy.unsqueeze(-1)

    def _targets(
        self,
        transitions: Transitions,
        preferences: Tensor,
        view: View,
        reward_scales: NDArray[np.float64],
        learning_rate: float,
    ) -> tuple[Tensor, Tensor]:
        """Targets of the critics, (policy, batch, component), and the baseline's error."""
        inputs = view.inputs(transitions.next_observations, preferences)
        next_values = self._next_values(inputs)
        next_values, error = self._without_noise(next_values, inputs, learning_rate)
        rewards = torch.from_numpy(transitions.rewards * reward_scales.astype(np.float32))
        if not self.config.vector_critics:
            rewards = (rewards * preferences).sum(-1, keepdim=True)
        terminated = torch.from_numpy(transitions.terminated)
        targets = losses.critic_targets(rewards, terminated, next_values, discount=self.discount)
        return targets, error

    @torch.no_grad()
    def _next_values(self, inputs: Inputs) -> Tensor:
        """Soft values (policy, batch, component) by the targets, the lower of the two."""
        temperature = self.temperature
        logits = actor_logits(self.actor_network, self.actor.blocks, inputs, temperature)
        chances, logs = losses.masked_log_softmax(logits, inputs.available)
        first, second = self.values(self._target_blocks, inputs)
        lower = losses.pessimistic(first, second, inputs.preferences)
        return losses.soft_values(lower, chances, logs, temperature=temperature)

    def _without_noise(
        self, next_values: Tensor, inputs: Inputs, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Values less what exogenous features explain of them, and the share that is left."""
        if self._baseline is None or self._baseline_network is None:
            return next_values, torch.ones(())
        columns = [self._blind.place(column) for column in self.config.exogenous_columns]
        if inputs.rows is not None:
            exogenous = replace(inputs, rows=inputs.rows.columns(columns))
        else:
            assert inputs.features is not None
            exogenous = replace(inputs, features=inputs.features[..., columns])
        outputs = self._baseline_network(self._baseline.blocks, exogenous)
        explained = losses.mean_over_actions(outputs, inputs.available)
        rest = next_values - explained
        error = rest.square().mean()
        self._baseline.minimise(error * self.num_policies, learning_rate=learning_rate)
        spread = next_values.var() + 1e-12
        return rest.detach(), error.detach() / spread

    def _improve_actor(
        self, inputs: Inputs, values: Tensor, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        temperature = self.temperature
        logits = actor_logits(self.actor_network, self.actor.blocks, inputs, temperature)
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
        self._temperature.minimise(loss.sum(), learning_rate=self.config.temperature_learning_rate)

    def state_dict(self) -> State:
        """Parameters, optimisers and statistics."""
        return {
            "actor": self.actor.state_dict(),
            "critics": self.critics.state_dict(),
            "targets": self.targets.numpy().copy(),
            "temperature": self._temperature.state_dict(),
            "baseline": None if self._baseline is None else self._baseline.state_dict(),
            "moments": self.moments.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self.actor.load_state_dict(state["actor"])
        self.critics.load_state_dict(state["critics"])
        self.targets.copy_(torch.from_numpy(np.array(state["targets"], np.float32)))
        self._temperature.load_state_dict(state["temperature"])
        if self._baseline is not None:
            self._baseline.load_state_dict(state["baseline"])
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
