"""LinUCB: a contextual bandit that believes that costs are linear in what it sees.

Li, Chu, Langford and Schapire, "A Contextual-Bandit Approach to Personalized News Article
Recommendation" (WWW 2010), algorithm 1. Every objective has its own linear regression; a preference
weighs their predictions, so that one set of parameters serves all preferences. It minds the reward
of the present step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.core.errors import NoLegalActionError, UnsupportedTaskError
from morl.agents.learners.core.preference_scales import checked_factors, rescaled
from morl.capabilities import Capabilities
from morl.preferences import check_preferences, lattice
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, Settings, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, NonFiniteError, Solution, State, Task

Table = NDArray[np.float64]

MOST_FEATURES = 1000
"""Of an action: parameters take the square of it."""


@dataclass
class Config(Settings):
    """Settings of LinUCB.

    Attributes:
        width: how many standard errors a bound lies above its estimate.
        ridge: of the regressions.
        num_envs: episodes that are played at a time, each for a preference of its own.
        divisions: steps of the lattice of preferences from 0 to 1.
        reward_scales: factors of rewards that preferences of training weigh; None for ones.
    """

    width: float = searchable(1.0, bounds=NOT_NEGATIVE, low=0.1, high=10.0, log=True)
    ridge: float = searchable(1.0, bounds=POSITIVE, low=0.01, high=100.0, log=True)
    num_envs: int = bounded(101, COUNT)
    divisions: int = bounded(100, COUNT)
    reward_scales: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Arms:
    """How observations describe actions.

    Attributes:
        count: number of actions.
        size: numbers of an observation.
        rows: whether observations have a row for each action, so that all share one model;
            otherwise every action has a model of its own.
    """

    count: int
    size: int
    rows: bool

    @property
    def models(self) -> int:
        """Number of models."""
        return 1 if self.rows else self.count

    @property
    def features(self) -> int:
        """Of an action, the constant included."""
        return 1 + (self.size // self.count if self.rows else self.size)

    def describe(self, observations: NDArray[Any]) -> Table:
        """Features of actions, a 1 first, ``(row, arm, feature)``.

        One arm stands for all where every action has a model of its own.

        Args:
            observations: ``(..., *observation)``, as many rows as axes in front say.
        """
        arms = self.count if self.rows else 1
        values = np.asarray(observations, np.float64).reshape(-1, arms, self.features - 1)
        return np.concatenate([np.ones((*values.shape[:2], 1)), values], axis=2)

    def unavailable(self, features: Table) -> NDArray[np.bool_]:
        """Actions that are not available, ``(row, action)``.

        Raises:
            NoLegalActionError: if none is, in some row.
        """
        if not self.rows:
            return np.zeros((len(features), self.count), np.bool_)
        closed: NDArray[np.bool_] = features[..., 1] < 0.0
        _require_open(closed)
        return closed


def _require_open(closed: NDArray[np.bool_]) -> None:
    if closed.all(axis=-1).any():
        raise NoLegalActionError(
            "an observation says that no action is available: every first feature of its rows is "
            "negative"
        )


class Regressions:
    """Ridge regressions of reward vectors on features of actions.

    Args:
        arms: how actions are described.
        num_objectives: length of a reward.
        ridge: weight of small parameters.
    """

    def __init__(self, arms: Arms, num_objectives: int, ridge: float) -> None:
        self._arms = arms
        features = arms.features
        self.gram = np.repeat(ridge * np.eye(features)[None], arms.models, axis=0)
        self.moments = np.zeros((arms.models, features, num_objectives))
        self._inverse = np.linalg.inv(self.gram)

    @property
    def parameters(self) -> Table:
        """Estimates, ``(model, feature, objective)``."""
        return np.asarray(self._inverse @ self.moments)

    def restore(self, gram: Table, moments: Table) -> None:
        """Take over what another one has learned."""
        self.gram, self.moments = gram.copy(), moments.copy()
        self._inverse = np.linalg.inv(self.gram)

    def spread(self, features: Table) -> Table:
        """Standard errors of predictions in units of the noise, ``(row, action)``.

        Args:
            features: ``(row, arm, feature)``.
        """
        if self._arms.rows:
            products = features @ self._inverse[0]
            return np.asarray(np.sqrt((products * features).sum(axis=-1)))
        single = features[:, 0]
        products = np.einsum("nd,ade->nae", single, self._inverse)
        return np.asarray(np.sqrt((products * single[:, None]).sum(axis=-1)))

    def learn(self, features: Table, actions: NDArray[np.int64], rewards: Table) -> None:
        """Learn from steps ``(row,)``."""
        arm = actions if self._arms.rows else np.zeros_like(actions)
        model = np.zeros_like(actions) if self._arms.rows else actions
        taken = features[np.arange(len(actions)), arm]
        for index in np.unique(model):
            chosen = taken[model == index]
            self.gram[index] += chosen.T @ chosen
            self.moments[index] += chosen.T @ rewards[model == index]
            self._inverse[index] = np.linalg.inv(self.gram[index])


def predicted(arms: Arms, parameters: Table, features: Table) -> Table:
    """Predicted rewards ``(row, action, objective)`` of features ``(row, arm, feature)``."""
    if arms.rows:
        return np.asarray(features @ parameters[0])
    return np.asarray(np.einsum("nd,adm->nam", features[:, 0], parameters))


class LinearBandit:
    """Takes the available action of the best predicted reward.

    Args:
        arms: how observations describe actions.
        parameters: ``(model, feature, objective)``; the same array for policies that are stacked.
        weights: of raw rewards, ``(objective,)``.
    """

    deterministic = True

    def __init__(self, arms: Arms, parameters: Table, weights: Table) -> None:
        self.arms = arms
        self.parameters = parameters
        self.weights = weights

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose actions; see `morl.types.Policy`."""
        return np.asarray(self.stack([self]).act(observations[None], rng=rng)[0])

    @classmethod
    def stack(cls, policies: Sequence[LinearBandit]) -> LinearBandits:
        """All of them, acting in one call."""
        first = policies[0]
        weights = np.stack([policy.weights for policy in policies])
        return LinearBandits(first.arms, first.parameters, weights)


class LinearBandits:
    """Bandits of the same parameters, acting together.

    Args:
        arms: how observations describe actions.
        parameters: ``(model, feature, objective)``.
        weights: ``(policy, objective)``.
    """

    def __init__(self, arms: Arms, parameters: Table, weights: Table) -> None:
        self._arms = arms
        self._parameters = parameters
        self._weights = weights

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002 - deterministic
        """Choose actions; see `morl.types.StackedPolicy`."""
        policies, envs = observations.shape[:2]
        arms = self._arms
        # Weighted first: one number for each feature then serves all environments of a policy.
        weighted = np.einsum("adm,pm->pda", self._parameters, self._weights)
        rows = arms.count if arms.rows else 1
        values = observations.reshape(policies, envs * rows, -1)
        scores = (values @ weighted[:, 1:] + weighted[:, :1]).reshape(policies, envs, -1)
        if arms.rows:
            closed = observations.reshape(policies, envs, rows, -1)[..., 0] < 0.0
            _require_open(closed)
            scores[closed] = -np.inf
        return np.asarray(scores.argmax(axis=2), np.int64)


@register_agent(
    "linucb",
    config=Config,
    acts=Capabilities(actions=("discrete",), smoke={"num_envs": 5, "divisions": 4}),
)
class LinUCB:
    """Plays episodes for preferences of a lattice and learns from every step.

    Args:
        task: what to play; its actions are discrete.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.

    Raises:
        UnsupportedTaskError: if actions are not discrete, or observations too large.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._total_steps = total_steps
        self._seed = seed
        self._steps = 0
        self._rounds = 0
        objectives = task.spec.num_objectives
        self._scales = np.asarray(
            checked_factors(
                config.reward_scales or (1.0,) * objectives,
                num_objectives=objectives,
                name="reward_scales",
            )
        )
        self._batch = task.make_vec(config.num_envs)
        self._arms = _arms_of(task, self._batch)
        self._model = Regressions(self._arms, objectives, config.ridge)
        self._preferences = lattice(objectives, config.divisions)

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._steps

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self._steps >= self._total_steps

    def learn(self, steps: int) -> Metrics:
        """Play rounds of one episode an environment until `steps` more steps are taken."""
        goal = min(self._steps + steps, self._total_steps)
        errors: list[float] = []
        while self._steps < goal:
            errors += self._play_round()
        return {
            "train/prediction_error": float(np.mean(errors)) if errors else 0.0,
            "train/episodes": float(self._rounds * self._config.num_envs),
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """One policy for each preference of raw rewards; None stands for the lattice of training.

        Raises:
            PreferenceError: for rows that are not on the simplex.
        """
        if preferences is None:
            wanted = rescaled(self._preferences, self._scales)
        else:
            wanted = check_preferences(preferences, num_objectives=len(self._scales))
        parameters = self._model.parameters
        return [Solution(LinearBandit(self._arms, parameters, row), row) for row in wanted]

    def state_dict(self) -> State:
        """Counters and regressions; the random streams follow from the counters."""
        return {
            "steps": self._steps,
            "rounds": self._rounds,
            "gram": self._model.gram.copy(),
            "moments": self._model.moments.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._steps = int(state["steps"])
        self._rounds = int(state["rounds"])
        self._model.restore(state["gram"], state["moments"])

    def _play_round(self) -> list[float]:
        """One episode an environment, less where the budget ends; mean errors of each step."""
        count = self._config.num_envs
        places = generator(self._seed, "linucb/preferences", self._rounds).permutation(
            np.arange(self._rounds * count, (self._rounds + 1) * count) % len(self._preferences)
        )
        weights = self._preferences[places] * self._scales
        seeds = stream(self._seed, "linucb/episodes", count, start=self._rounds * count)
        # Gymnasium's type leaves out what its environments accept: one seed for each of them.
        observations, _ = self._batch.reset(seed=seeds)  # type: ignore[arg-type]
        running = np.ones(count, np.bool_)
        errors: list[float] = []
        while running.any() and self._steps + int(running.sum()) <= self._total_steps:
            features = self._arms.describe(observations)
            expected = predicted(self._arms, self._model.parameters, features)
            actions = self._optimistic(features, expected, weights)
            observations, rewards, terminated, truncated, _ = self._batch.step(actions)
            self._require_finite(rewards[running])
            self._steps += int(running.sum())
            misses = (rewards - expected[np.arange(count), actions]) * self._scales
            errors.append(float(np.abs(misses[running]).mean()))
            self._model.learn(features[running], actions[running], rewards[running])
            running &= ~(terminated | truncated)
        if running.any():  # a rest too small for one more step of all
            self._steps = self._total_steps
        self._rounds += 1
        return errors

    def _optimistic(self, features: Table, expected: Table, weights: Table) -> NDArray[np.int64]:
        """Actions of the highest upper bound, ``(env,)``.

        The weighted sum of scaled rewards is itself linear in the features, with the same design
        matrix, so its standard error is that of every objective.
        """
        bounds = (expected * weights[:, None]).sum(axis=-1)
        bounds += self._config.width * self._model.spread(features)
        bounds[self._arms.unavailable(features)] = -np.inf
        return np.asarray(bounds.argmax(axis=1), np.int64)

    def _require_finite(self, rewards: NDArray[Any]) -> None:
        if not np.isfinite(rewards).all():
            raise NonFiniteError(
                f"{self._task.spec.id}: a reward is not finite (seed {self._seed}, "
                f"near step {self._steps})"
            )


def _arms_of(task: Task, batch: Any) -> Arms:  # noqa: ANN401 - any batch
    """How the observations of a task describe its actions."""
    space = batch.single_action_space
    if not isinstance(space, spaces.Discrete):
        raise UnsupportedTaskError(
            f"{task.spec.id}: linucb chooses among discrete actions, not {space}"
        )
    size = int(np.prod(batch.single_observation_space.shape or (1,)))
    arms = Arms(int(space.n), size, rows=task.spec.features_per_action is not None)
    if arms.features > MOST_FEATURES:
        raise UnsupportedTaskError(
            f"{task.spec.id}: {arms.features} features of an action are too many for linucb, which "
            f"takes at most {MOST_FEATURES}"
        )
    return arms
