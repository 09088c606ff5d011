"""Random search over linear policies: the floor that every agent must beat.

No learning and no torch. Each round draws policies, plays a few episodes with each and offers
their mean discounted returns to an archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.action_map import ActionMap, action_map
from morl.agents.learners.search.archived import ArchivedSearch
from morl.capabilities import Capabilities
from morl.masks import ActionMasks
from morl.registry import register_agent
from morl.search_space import COUNT, Settings, bounded
from morl.seeding import generator, stream
from morl.types import Metrics, State, Task

Weights = NDArray[np.float64]
"""Weights of linear policies, (policy, 1 + feature, output); the first row is the bias."""


@dataclass
class Config(Settings):
    """Settings of random search.

    Attributes:
        policies: drawn in each round; fewer where ten rounds of the longest episodes would not
            fit into the budget.
        episodes: played with each of them.
        capacity: most policies that are kept.
    """

    policies: int = bounded(32, COUNT)
    episodes: int = bounded(4, COUNT)
    capacity: int = bounded(100, COUNT)


class LinearPolicy:
    """Acts by a linear map of the squashed observation.

    Args:
        weights: shape (1 + feature, output).
        actions: what the outputs mean.
    """

    deterministic = True

    def __init__(self, weights: Weights, actions: ActionMap) -> None:
        self.weights = weights
        self.actions = actions

    def act(
        self,
        observations: NDArray[Any],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
        action_masks: ActionMasks | None = None,
    ) -> NDArray[Any]:
        """Choose actions; see `morl.types.Policy`."""
        return self.actions(_outputs(self.weights[None], observations[None])[0], action_masks)

    @classmethod
    def stack(cls, policies: Sequence[LinearPolicy]) -> LinearPolicies:
        """All of them, acting in one call."""
        return LinearPolicies(np.stack([p.weights for p in policies]), policies[0].actions)


class LinearPolicies:
    """Linear policies of one shape, acting together.

    Args:
        weights: shape (policy, 1 + feature, output).
        actions: what the outputs mean.
    """

    def __init__(self, weights: Weights, actions: ActionMap) -> None:
        self._weights = weights
        self._actions = actions

    def act(
        self,
        observations: NDArray[Any],
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
        action_masks: ActionMasks | None = None,
    ) -> NDArray[Any]:
        """Choose actions; see `morl.types.StackedPolicy`."""
        return self._actions(_outputs(self._weights, observations), action_masks)


@register_agent(
    "random_search",
    config=Config,
    acts=Capabilities(masks=True),
)
class RandomSearch(ArchivedSearch):
    """Draws linear policies and keeps the nondominated.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    members = "weights"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(task, capacity=config.capacity, total_steps=total_steps, seed=seed)
        self._config = config
        self._rounds = 0
        self._policies = _policies_per_round(task, config, total_steps)
        with closing(task.make_vec(1)) as batch:
            features = int(np.prod(batch.single_observation_space.shape or ()))
            outputs, self._actions = action_map(
                batch.single_action_space, env_id=task.spec.id, agent="random_search"
            )
        self._shape = (self._policies, 1 + features, outputs)

    def state_dict(self) -> State:
        """See `morl.types.Agent`."""
        return {**super().state_dict(), "rounds": self._rounds}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._rounds = int(state["rounds"])

    def _metrics(self) -> Metrics:
        return {"train/policies": float(self._rounds * self._policies)}

    def _policy(self, member: Weights) -> LinearPolicy:
        return LinearPolicy(member, self._actions)

    def _zeros(self) -> Weights:
        return np.zeros(self._shape[1:])

    def _play_round(self) -> None:
        weights = generator(self._seed, "random_search/weights", self._rounds).normal(
            size=self._shape
        )
        slots = self._policies * self._config.episodes
        seeds = stream(self._seed, "random_search/episodes", slots, start=self._rounds * slots)
        played = self._trials.play(
            lambda observations, masks: self._actions(_outputs(weights, observations), masks),
            policies=self._policies,
            seeds=seeds,
        )
        self._offer(played, weights)
        self._rounds += 1


def _policies_per_round(task: Task, config: Config, total_steps: int) -> int:
    if task.spec.horizon is None:
        return config.policies
    longest = config.episodes * task.spec.horizon
    return max(1, min(config.policies, total_steps // (10 * longest)))


def _outputs(weights: Weights, observations: NDArray[Any]) -> Weights:
    """Outputs (policy, env, output) for observations (policy, env, *observation).

    Features are squashed to (-1, 1), whatever their scale.
    """
    flat = observations.reshape(*observations.shape[:2], -1).astype(np.float64)
    squashed = flat / (1.0 + np.abs(flat))
    return np.asarray(squashed @ weights[:, 1:] + weights[:, :1])
