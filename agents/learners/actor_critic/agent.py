"""Collecting, storing and learning for one preference and all others at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from morl.agents.learners.actor_critic.learner import ActorCritic, Batch, LearnerSettings
from morl.agents.learners.actor_critic.losses import Twins
from morl.agents.learners.actor_critic.policies import ActionRange, ContinuousPolicy, FrozenActor
from morl.agents.learners.actor_critic.store import TransitionStore
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.linear_support import corner_weights
from morl.agents.learners.core.normalisation import RunningMoments, normalise_observations
from morl.agents.learners.core.preference_scales import rescaled
from morl.agents.learners.core.rollouts import ActionAdapter, Collector, Rollout
from morl.agents.learners.replay.agent import ReturnRange, preference_lattice
from morl.preferences import check_preferences
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Settings, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, NonFiniteError, Solution, State, Task

RETURN_SIZE = 256.0
"""Scaled returns are at most this large, and at their largest more than half of it."""

START_STATES = 64
"""First observations of episodes that are kept, to ask the critics what preferences are worth."""

NEAR = 0.004
"""A corner preference this near (largest coordinate) to one of the lattice adds nothing."""


@dataclass
class ActorCriticConfig(Settings):
    """Settings of the collection, the updates and the answers.

    Attributes:
        num_envs: environments that are stepped together.
        updates: updates for each environment step.
        batch: transitions of an update.
        replay_capacity: transitions that are kept.
        warmup_steps: steps of uniform actions before the first update, at most half the budget.
        hidden: units of the hidden layers of actor and critics.
        learning_rate: of Adam, for actor, critics and temperature.
        final_learning_rate: share of it that is left at the end of the budget.
        decay_start: share of the budget after which it begins to fall, linearly.
        training_discount: discount of the values; the task's by default.
        target_rate: share of the critics that their targets take over at each update.
        average_rate: share of the actor that its average, which solutions act by, takes over at
            each of its updates.
        actor_delay: updates of the critics for each of the actor.
        twins: how two critics' vectors become one: "whole", "elementwise" or "mean".
        temperature: weight of the entropy, at first if it is learned.
        learned_temperature: whether it follows the entropy wanted.
        entropy_share: entropy wanted, in minus numbers of actions.
        relabelled: share of sampled transitions that teach a fresh preference and not the one
            that they were collected for.
        reward_scales: factors of rewards inside; by default powers of two that bring the largest
            discounted return seen to between 128 and 256.
        action_limit: where the range of an action without a bound ends.
        divisions: steps of the lattice of solutions; by default 100 for two objectives and what
            gives at most 130 preferences for more.
        corners: most corner preferences of the critics' values that are added to the lattice.
    """

    num_envs: int = bounded(8, COUNT)
    updates: int = bounded(1, COUNT)
    batch: int = searchable(128, bounds=COUNT, low=64, high=512, log=True)
    replay_capacity: int = bounded(1_000_000, COUNT)
    warmup_steps: int = bounded(1_000, NOT_NEGATIVE)
    hidden: tuple[int, ...] = searchable(
        (256, 256),
        bounds=COUNT,
        choices={"small": (128, 128), "medium": (256, 256), "large": (400, 400)},
    )
    learning_rate: float = searchable(1e-3, bounds=POSITIVE, low=1e-4, high=3e-3, log=True)
    final_learning_rate: float = searchable(0.1, bounds=SHARE, low=0.05, high=1.0)
    decay_start: float = searchable(0.5, bounds=SHARE, low=0.0, high=0.9)
    training_discount: float | None = bounded(None, SHARE)
    target_rate: float = searchable(0.005, bounds=SHARE, low=1e-3, high=0.05, log=True)
    average_rate: float = bounded(1e-3, SHARE)
    actor_delay: int = searchable(2, bounds=COUNT, low=1, high=4)
    twins: str = searchable("whole", choices=("whole", "elementwise", "mean"))
    temperature: float = searchable(0.1, bounds=POSITIVE, low=0.01, high=1.0, log=True)
    learned_temperature: bool = True
    entropy_share: float = searchable(1.0, bounds=POSITIVE, low=0.25, high=2.0, log=True)
    relabelled: float = searchable(1.0, bounds=SHARE, low=0.0, high=1.0)
    reward_scales: tuple[float, ...] | None = bounded(None, POSITIVE)
    action_limit: float = bounded(100.0, POSITIVE)
    divisions: int | None = bounded(None, COUNT)
    corners: int = bounded(16, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if not self.hidden:
            raise ValueError(f"hidden needs at least one layer, got {self.hidden}")
        if self.twins not in ("whole", "elementwise", "mean"):
            raise ValueError(f"twins must be whole, elementwise or mean, got {self.twins!r}")
        if self.batch * self.updates * self.num_envs > 10_000_000:
            raise ValueError(
                "batch * updates * num_envs rows are drawn at once and must be at most ten "
                f"million, got {self.batch * self.updates * self.num_envs}"
            )


def action_range(adapter: ActionAdapter, limit: float, *, env_id: str, name: str) -> ActionRange:
    """The box of an action space; a side without a bound ends at plus or minus `limit`.

    Raises:
        UnsupportedTaskError: for discrete actions, or where a bound lies beyond the limit.
    """
    if adapter.low is None or adapter.high is None:
        raise UnsupportedTaskError(
            f"{env_id}: {name} chooses continuous actions and these are discrete; choose another "
            "agent, such as envelope_q, gmorl or c_morl"
        )
    low = np.where(np.isfinite(adapter.low), adapter.low, -limit).astype(np.float64)
    high = np.where(np.isfinite(adapter.high), adapter.high, limit).astype(np.float64)
    if not (low < high).all():
        raise UnsupportedTaskError(
            f"{env_id}: actions from {low.tolist()} to {high.tolist()} leave no room; "
            f"set agent.action_limit, now {limit:g}, beyond the bounds of the environment"
        )
    return ActionRange(low, high)


class ActorCriticAgent:
    """Steps environments for random preferences and improves one conditioned actor-critic.

    Preferences inside weigh *scaled* rewards; those that users hand over weigh rewards in the
    environment's units, and are translated.

    Args:
        task: what to learn; its actions are a one-dimensional box.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
        name: of the agent, for streams and messages.

    Raises:
        UnsupportedTaskError: if actions are discrete, or settings do not fit the environment.
        BudgetError: if the budget does not allow a single round.
    """

    def __init__(
        self, task: Task, config: ActorCriticConfig, *, total_steps: int, seed: int, name: str
    ) -> None:
        self._task, self._config, self._seed, self._name = task, config, seed, name
        self._budget = Budget(total_steps)
        self._syncs = 0
        env_id, objectives = task.spec.id, task.spec.num_objectives
        if config.reward_scales and len(config.reward_scales) != objectives:
            raise UnsupportedTaskError(
                f"{env_id}: agent.reward_scales has {len(config.reward_scales)} entries for "
                f"{objectives} objectives ({', '.join(task.spec.objective_names)})"
            )
        self._collector = Collector(task, num_policies=1, num_envs=config.num_envs)
        self._actions = action_range(
            self._collector.actions, config.action_limit, env_id=env_id, name=name
        )
        self._budget.require(
            config.num_envs, env_id=env_id, round_name="step of all environments",
            settings=("num_envs",),
        )  # fmt: skip
        features, actions = self._collector.observation_size, self._collector.actions.size
        self._learner = self._make_learner(features, actions)
        capacity = max(config.num_envs, min(config.replay_capacity, total_steps))
        self._store = TransitionStore(capacity, features, actions, objectives)
        self._moments = RunningMoments(1, features)
        self._range = ReturnRange(config.num_envs, objectives, self._discount)
        self._scales = np.ones(objectives)
        if config.reward_scales:
            self._scales = np.asarray(config.reward_scales, np.float64)
        self._wanted = np.zeros((config.num_envs, objectives), np.float32)
        self._starts = np.zeros((0, features), np.float32)
        self._taken = np.zeros((config.num_envs, actions), np.float32)
        self._rng = generator(seed, f"{name}/training")

    def _make_learner(self, features: int, actions: int) -> ActorCritic:
        config, spec = self._config, self._task.spec
        settings = LearnerSettings(
            hidden=tuple(config.hidden),
            discount=self._discount,
            twins=cast(Twins, config.twins),
            target_rate=config.target_rate,
            average_rate=config.average_rate,
            actor_delay=config.actor_delay,
            temperature=config.temperature,
            learned_temperature=config.learned_temperature,
            entropy_share=config.entropy_share,
        )
        rng = generator(self._seed, f"{self._name}/initialisation")
        return ActorCritic(
            features, actions, spec.num_objectives, settings, rng=rng, env_id=spec.id
        )

    @property
    def _discount(self) -> float:
        chosen = self._config.training_discount
        return self._task.spec.discount if chosen is None else chosen

    @property
    def steps(self) -> int:
        """True environment steps so far."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether another step of all environments would exceed the budget."""
        return not self._budget.fits(self._config.num_envs)

    @property
    def learner(self) -> ActorCritic:
        """What is improved."""
        return self._learner

    @property
    def reward_scales(self) -> NDArray[np.float64]:
        """Factors by which rewards are scaled at present, (objective,)."""
        return self._scales.copy()

    # Training

    @torch.no_grad()
    def learn(self, steps: int) -> Metrics:
        """Collect and learn for at least `steps` more steps, to the end of the round."""
        if self.finished:
            return self._progress()
        goal = self._budget.goal(steps)
        self._synchronise()
        while self.steps < goal and not self.finished:
            self._collect()
            if not self._warming_up:
                self._fit_scales()
                self._improve()
        return self._progress()

    @property
    def _warming_up(self) -> bool:
        return self.steps < min(self._config.warmup_steps, self._budget.total_steps // 2)

    def _synchronise(self) -> None:
        """Begin all episodes again from seeds that depend on the number of this call alone."""
        self._syncs += 1
        self._rng = generator(self._seed, f"{self._name}/training", self._syncs)
        root = int(self._rng.integers(2**31))
        self._range.restart()
        self._collector.reset(stream(root, f"{self._name}/episodes", self._config.num_envs))
        self._redraw(np.ones(self._config.num_envs, np.bool_))

    def _redraw(self, ended: NDArray[np.bool_]) -> None:
        """Preferences for the environments whose episode has begun again."""
        if ended.any():
            self._wanted[ended] = self._preferences(int(np.count_nonzero(ended)))

    def _preferences(self, count: int) -> NDArray[np.float32]:
        """Random preferences of scaled rewards, (count, objective), uniform on the simplex."""
        drawn = self._rng.standard_exponential(
            (count, self._task.spec.num_objectives), dtype=np.float32
        )
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))

    def _seen(self, observations: NDArray[Any]) -> torch.Tensor:
        """Observations (row, feature) as the networks see them."""
        rows = observations.reshape(1, -1, observations.shape[-1])
        moments = self._moments
        return torch.from_numpy(normalise_observations(rows, moments.mean, moments.scale)[0])

    def _act(self, observations: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Actions of the behaviour (1, env, action); in warm-up they are uniform."""
        shape = (self._config.num_envs, self._collector.actions.size)
        if self._warming_up:
            self._taken = self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        else:
            noise = torch.from_numpy(self._rng.standard_normal(shape, dtype=np.float32))
            wanted = torch.from_numpy(self._wanted)
            self._taken = self._learner.act(self._seen(observations), wanted, noise).numpy()
        return self._actions.to_env(self._taken)[None], np.zeros((1, shape[0]), np.float32)

    def _collect(self) -> None:
        rollout = self._collector.collect(self._act, steps=1)
        observations = rollout.observations[0, 0]
        following = self._following(rollout)
        self._check_observations(following)
        self._budget.spend(rollout.num_steps)
        self._moments.update(observations[None])
        self._range.follow(rollout)
        self._keep_starts(observations[rollout.started[0]])
        self._store.add(
            observations, self._taken, rollout.rewards[0, 0], rollout.terminated[0, 0][:, None],
            following, self._wanted,
        )  # fmt: skip
        self._redraw(rollout.ended[0, 0])

    @staticmethod
    def _following(rollout: Rollout) -> NDArray[np.float32]:
        """What was seen after the step; where a time limit cut off, the last of that episode."""
        following = np.array(rollout.last_observations[0])
        for truncation in rollout.truncations:
            following[truncation.envs] = truncation.observations
        return following

    def _check_observations(self, observations: NDArray[np.float32]) -> None:
        if np.isfinite(observations).all():
            return
        env, feature = np.argwhere(~np.isfinite(observations))[0]
        raise NonFiniteError(
            f"{self._task.spec.id}: observation {feature} of environment {env} is "
            f"{observations[env, feature]} after {self.steps} steps; the simulation has diverged: "
            "bound the actions (agent.action_limit) or end such episodes in the environment"
        )

    def _keep_starts(self, observations: NDArray[np.float32]) -> None:
        room = START_STATES - len(self._starts)
        if room > 0 and len(observations):
            self._starts = np.concatenate([self._starts, observations[:room]])

    def _fit_scales(self) -> None:
        """Follow the largest returns by powers of two; the critics' outputs follow exactly."""
        if self._config.reward_scales:
            return
        largest = self._range.largest
        power = np.exp2(np.ceil(np.log2(np.where(largest > 0.0, largest, RETURN_SIZE))))
        scales = RETURN_SIZE / power
        if not np.array_equal(scales, self._scales):
            if self._learner.updates:  # before, there is nothing learned to keep
                self._learner.rescale(scales / self._scales)
            self._scales = scales

    def _improve(self) -> None:
        """All updates of a round, whose rows, preferences and noise are drawn at once."""
        config, size = self._config, self._collector.actions.size
        count = config.num_envs * config.updates
        rows = self._store.sample(count * config.batch, rng=self._rng)
        whole = Batch(
            observations=self._seen(rows.observations),
            actions=torch.from_numpy(np.ascontiguousarray(rows.actions)),
            rewards=torch.from_numpy(rows.rewards * self._scales.astype(np.float32)),
            terminated=torch.from_numpy(np.ascontiguousarray(rows.terminated)),
            next_observations=self._seen(rows.next_observations),
            preferences=torch.from_numpy(self._taught(rows.preferences)),
        )
        noise = torch.from_numpy(
            self._rng.standard_normal((count, 2, config.batch, size), dtype=np.float32)
        )
        parts = [block.view(count, config.batch, -1) for block in whole]
        for index in range(count):
            batch = Batch(*(part[index] for part in parts))
            self._learner.update(batch, noise[index], learning_rate=self.learning_rate)
        self._learner.check_finite()

    def _taught(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """Preferences that sampled rows teach, (row, objective)."""
        share = self._config.relabelled
        if share == 0.0:
            return np.ascontiguousarray(stored)
        fresh = self._preferences(len(stored))
        if share == 1.0:
            return fresh
        chosen = self._rng.random(len(stored)) < share
        return np.asarray(np.where(chosen[:, None], fresh, stored))

    @property
    def learning_rate(self) -> float:
        """Of Adam at present."""
        config, progress = self._config, self._budget.progress
        left = (1.0 - progress) / max(1.0 - config.decay_start, 1e-9)
        share = config.final_learning_rate
        return config.learning_rate * (share + (1.0 - share) * min(1.0, left))

    def _progress(self) -> dict[str, float]:
        return {
            "train/updates": float(self._learner.updates),
            "train/temperature": self._learner.temperature,
            "train/learning_rate": self.learning_rate,
            "replay/transitions": float(len(self._store)),
        }

    # Solutions

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """The averaged actor at each preference of raw rewards.

        None stands for a lattice of preferences of scaled rewards, and those at which the best of
        the critics' values at start states changes; no step is taken to find them.

        Raises:
            PreferenceError: for rows that are not on the simplex.
        """
        if preferences is None:
            weights = self._own_preferences()
            wanted = rescaled(weights, self._scales)
        else:
            wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
            weights = rescaled(wanted, 1.0 / self._scales)
        actor = FrozenActor(
            network=self._learner.averaged_actor(),
            mean=self._moments.mean.copy(),
            scale=self._moments.scale.copy(),
            actions=self._actions,
        )
        policies = [ContinuousPolicy(actor, row) for row in weights.astype(np.float32)]
        return [Solution(policy, row) for policy, row in zip(policies, wanted, strict=True)]

    def _own_preferences(self) -> Front:
        """The lattice, then corner preferences where the critics see most to gain."""
        grid = preference_lattice(self._task.spec.num_objectives, self._config.divisions)
        if not len(self._starts) or not self._config.corners or grid.shape[1] < 2:
            return grid
        values = self._start_values(grid)
        corners = corner_weights(values)
        apart = np.abs(corners[:, None] - grid[None]).max(axis=2).min(axis=1) > NEAR
        corners = corners[apart]
        if not len(corners):
            return grid
        own = (corners * self._start_values(corners)).sum(axis=1)
        gain = np.abs((corners @ values.T).max(axis=1) - own)
        chosen = np.argsort(-gain, kind="stable")[: self._config.corners]
        return np.concatenate([grid, corners[chosen]])

    @torch.no_grad()
    def _start_values(self, weights: Front) -> Front:
        """What the critics expect of preferences at start states, (preference, objective)."""
        count = len(self._starts)
        starts = np.tile(self._starts, (len(weights), 1))
        wanted = np.repeat(weights.astype(np.float32), count, axis=0)
        values = self._learner.values(self._seen(starts), torch.from_numpy(wanted))
        means: Front = values.numpy().reshape(len(weights), count, -1).mean(axis=1, dtype=float)
        return means

    # State

    def state_dict(self) -> State:
        """Counters, learner, store and statistics."""
        return {
            "counters": {"steps": self.steps, "syncs": self._syncs},
            "learner": self._learner.state_dict(),
            "store": self._store.state_dict(),
            "moments": self._moments.state_dict(),
            "largest_returns": self._range.largest.copy(),
            "scales": self._scales.copy(),
            "starts": self._starts.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where the saved agent stood."""
        self._budget.steps = int(state["counters"]["steps"])
        self._syncs = int(state["counters"]["syncs"])
        self._learner.load_state_dict(state["learner"])
        self._store.load_state_dict(state["store"])
        self._moments = RunningMoments.from_state(state["moments"])
        self._range.largest = np.array(state["largest_returns"], np.float64)
        self._scales = np.array(state["scales"], np.float64)
        self._starts = np.array(state["starts"], np.float32)
