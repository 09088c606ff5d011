"""Policies of preference-conditioned actors: a network, and the preference it acts for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.conditioned.networks import Network
from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.sac.discrete import View, actor_logits, sample
from morl.agents.learners.sac.losses import masked_log_softmax


@dataclass(frozen=True, eq=False)
class Actor:
    """What the policies of one actor share.

    Attributes:
        network: function of parameters and inputs.
        blocks: parameters, each (1, *shape).
        view: how observations become inputs.
        temperature: weight of the entropy that it was trained with.
        encoder: makes features of observations; None for the numbers as they are.
    """

    network: Network
    blocks: tuple[Tensor, ...]
    view: View
    temperature: float
    encoder: ObservationEncoder | None = None


@dataclass(frozen=True)
class ConditionedPolicy:
    """An actor's most probable action for one preference, or a sample of its actions.

    Attributes:
        actor: may serve many policies.
        weights: preference as the network knows it, of scaled rewards; (objective,).
        deterministic: whether the most probable action is taken.
    """

    actor: Actor
    weights: NDArray[np.float32]
    deterministic: bool = True

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Actions (env,) for observations (env, *observation)."""
        actions: NDArray[Any] = self.stack([self]).act(observations[None], rng=rng)[0]
        return actions

    @classmethod
    def stack(cls, policies: Sequence[ConditionedPolicy]) -> StackedConditionedPolicy:
        """Let policies of one kind of network act together."""
        return StackedConditionedPolicy(policies)


class StackedConditionedPolicy:
    """Acts for several `ConditionedPolicy` at once.

    One actor serves all preferences in a single product; several are stacked.
    """

    def __init__(self, policies: Sequence[ConditionedPolicy]) -> None:
        first = policies[0].actor
        actors = [policy.actor for policy in policies]
        assert all(actor.view.shape == first.view.shape for actor in actors)
        self._network, self._view, self._encoder = first.network, first.view, first.encoder
        self._shared = all(actor is first for actor in actors)
        if self._shared:
            actors = [first]
        self._blocks = [
            torch.cat(blocks) for blocks in zip(*(actor.blocks for actor in actors), strict=True)
        ]
        self._temperature = torch.tensor([actor.temperature for actor in actors])
        self._weights = np.stack([policy.weights for policy in policies])
        self._deterministic = policies[0].deterministic

    @torch.no_grad()
    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Actions (policy, env) for observations (policy, env, *observation)."""
        policies, envs = observations.shape[:2]
        flat = observations.reshape(policies, envs, -1)
        if self._encoder is not None and self._encoder.encoding != "raw":
            rows = observations.reshape(policies * envs, *observations.shape[2:])
            flat = self._encoder(rows).astype(np.float32).reshape(policies, envs, -1)
        weights = np.repeat(self._weights[:, None], envs, axis=1)
        if self._shared:
            flat = flat.reshape(1, policies * envs, -1)
            weights = weights.reshape(1, policies * envs, -1)
        inputs = self._view.inputs(flat, weights)
        logits = actor_logits(self._network, self._blocks, inputs, self._temperature)
        chances, _ = masked_log_softmax(logits, inputs.available)
        if self._deterministic:
            # Of equally probable actions the first; probabilities that underflow do not tie.
            if inputs.available is not None:
                logits = logits.masked_fill(~inputs.available, -torch.inf)
            actions = logits.argmax(-1).numpy()
        else:
            actions = sample(chances.numpy(), rng)
        return np.asarray(actions.reshape(policies, envs))
