"""Random search over linear policies: the floor that every agent must beat.

No learning and no torch. Each round draws policies, plays a few episodes with each and offers
their mean discounted returns to an archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.action_map import ActionMap, action_map
from morl.agents.learners.core.archives import archive_solutions, empty_archive, restore_archive
from morl.agents.learners.core.budget import Budget
from morl.archive import ParetoArchive
from morl.capabilities import Capabilities
from morl.masks import ActionMasks, action_masks
from morl.registry import register_agent
from morl.search_space import COUNT, Settings, bounded
from morl.seeding import generator, stream
from morl.types import Front, Metrics, NonFiniteError, Solution, State, Task

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
class RandomSearch:
    """Draws linear policies and keeps the nondominated.

    Args:
        task: what to play.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._budget = Budget(total_steps)
        self._seed = seed
        self._rounds = 0
        self._archive: ParetoArchive[Weights] = empty_archive(
            task.spec.num_objectives, config.capacity
        )
        self._policies = _policies_per_round(task, config, total_steps)
        self._batch = task.make_vec(self._policies * config.episodes)
        features = int(np.prod(self._batch.single_observation_space.shape or ()))
        outputs, self._actions = action_map(
            self._batch.single_action_space, env_id=task.spec.id, agent="random_search"
        )
        self._shape = (self._policies, 1 + features, outputs)

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._budget.remaining == 0

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more environment steps are taken."""
        goal = self._budget.goal(steps)
        while self._budget.steps < goal:
            self._play_round()
        return {
            "archive/size": float(len(self._archive)),
            "train/policies": float(self._rounds * self._policies),
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All policies of the archive, or the best of them for each preference.

        Before the first round there are none, and a preference gets the policy of zero weights.
        """
        return archive_solutions(
            self._archive,
            lambda weights: LinearPolicy(weights, self._actions),
            preferences,
            fallback=lambda: np.zeros(self._shape[1:]),
        )

    def state_dict(self) -> State:
        """Counters and archive; the random streams follow from the counters."""
        return {
            "steps": self._budget.steps,
            "rounds": self._rounds,
            "points": self._archive.points,
            "weights": np.stack([*self._archive.items, np.zeros(self._shape[1:])])[:-1],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._budget.steps = int(state["steps"])
        self._rounds = int(state["rounds"])
        restore_archive(self._archive, state, lambda saved, index: saved["weights"][index])

    def _play_round(self) -> None:
        weights = generator(self._seed, "random_search/weights", self._rounds).normal(
            size=self._shape
        )
        returns, complete = self._returns(weights)
        for index in np.flatnonzero(complete).tolist():
            self._archive.add(returns[index], weights[index])
        self._rounds += 1

    def _returns(self, weights: Weights) -> tuple[Front, NDArray[np.bool_]]:
        """Mean discounted return of each policy, and whether its episodes all came to an end.

        Stops in mid-episode where the budget ends.
        """
        policies, episodes = self._policies, self._config.episodes
        slots = policies * episodes
        seeds = stream(self._seed, "random_search/episodes", slots, start=self._rounds * slots)
        # Gymnasium's type leaves out what its environments accept: one seed for each of them.
        observations, infos = self._batch.reset(seed=seeds)  # type: ignore[arg-type]
        returns = np.zeros((slots, self._task.spec.num_objectives))
        running = np.ones(slots, dtype=np.bool_)
        factor = 1.0
        while running.any() and self._budget.fits(int(running.sum())):
            grouped = observations.reshape(policies, episodes, *observations.shape[1:])
            masks = action_masks(self._task.spec, infos, running=running)
            if masks is not None:
                masks = masks.reshape(policies, episodes, -1)
            actions = self._actions(_outputs(weights, grouped), masks)
            observations, rewards, terminated, truncated, infos = self._batch.step(
                actions.reshape(slots, *actions.shape[2:])
            )
            self._require_finite(rewards[running])
            self._budget.spend(int(running.sum()))
            returns[running] += factor * rewards[running]
            factor *= self._task.spec.discount
            running &= ~(terminated | truncated)
        if running.any():  # a rest too small for one more step of all
            self._budget.steps = self._budget.total_steps
        means: Front = returns.reshape(policies, episodes, -1).mean(axis=1)
        complete: NDArray[np.bool_] = (~running).reshape(policies, episodes).min(axis=1)
        return means, complete

    def _require_finite(self, rewards: NDArray[Any]) -> None:
        if not np.isfinite(rewards).all():
            raise NonFiniteError(
                f"{self._task.spec.id}: a reward is not finite (seed {self._seed}, "
                f"near step {self._budget.steps})"
            )


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
