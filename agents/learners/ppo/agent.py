"""What agents on the population PPO share: budget, rollouts, snapshots, archive and state.

An agent says which advantage each policy maximises (`PopulationAgent.improve`), and may replace the
population between updates. Everything else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.archives import (
    archive_solutions,
    archive_state,
    empty_archive,
    restore_archive,
)
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.checks import by_chance
from morl.agents.learners.core.encoders import ENCODINGS, ObservationEncoder
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.core.rollouts import Collector
from morl.agents.learners.ppo.learner import Experience, PopulationPPO, PPOConfig
from morl.agents.learners.ppo.networks import NetworkSpec, initial_rows
from morl.agents.learners.ppo.policies import NetworkPolicy
from morl.archive import ParetoArchive
from morl.evaluation import rollout
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task

LEAST_ROLLOUT = 32
LEAST_MINIBATCH = 64


@dataclass
class PopulationConfig(PPOConfig):
    """Settings of every agent on the population PPO, beside those of the policy optimisation.

    Attributes:
        num_envs: environments of each policy.
        rollout_steps: steps in each of them between updates; fewer where `min_updates` would not
            fit into the budget.
        min_updates: rollouts are shortened, down to 32 steps, until so many updates fit into the
            budget; minibatches are then at most a quarter of an update's transitions, down to 64.
        snapshot_interval: least number of updates between two evaluations that offer the policies
            to the archive.
        selection_episodes: episodes of each such evaluation, on seeds of the agent's own.
        selection_share: share of the steps that evaluations may take.
        adaptive_selection: whether evaluations adapt: one episode is enough where the first
            evaluation shows that chance plays no part, and the last one comes, with fewer
            episodes if need be, while the longest episodes still fit into the budget.
        archive_capacity: most members of the archive; the most crowded are dropped.
        training_discount: discount of advantages and critics, at most the task's, which is the
            default. Where actions act for a short time, a lower one leaves out what is noise to
            them.
        learning_rate: of Adam.
        entropy_coefficient: weight of the entropy bonus.
        initial_log_std: logarithm of the standard deviation that continuous actions begin with.
        encoding: of integers in observations: "raw" numbers, "one_hot" codes or "both"; the
            agent falls back to "raw" where observations are not bounded integers.
        max_codes: most one-hot inputs, else "raw".
    """

    num_envs: int = searchable(8, bounds=COUNT, low=4, high=32, log=True)
    rollout_steps: int = searchable(256, bounds=COUNT, low=16, high=512, log=True)
    min_updates: int = bounded(150, COUNT)
    snapshot_interval: int = bounded(1, COUNT)
    selection_episodes: int = bounded(5, COUNT)
    learning_rate: float = searchable(3e-3, bounds=POSITIVE, low=1e-4, high=1e-2, log=True)
    entropy_coefficient: float = searchable(0.01, low=0.0, high=0.05)
    selection_share: float = searchable(0.25, bounds=SHARE, low=0.05, high=0.5)
    adaptive_selection: bool = True
    archive_capacity: int = bounded(200, COUNT)
    training_discount: float | None = bounded(None, SHARE)
    initial_log_std: float = 0.0
    encoding: str = searchable("both", choices=ENCODINGS)
    max_codes: int = bounded(512, NOT_NEGATIVE)


@dataclass(frozen=True)
class Member:
    """A policy in the archive, with all that training needs to go on from it.

    Attributes:
        id: number of the snapshot, unique within the run.
        row: parameters of actor and critic, (parameter,).
        observation_moments: normaliser, a population of one.
        return_moments: likewise.
    """

    id: int
    row: NDArray[np.float32]
    observation_moments: RunningMoments
    return_moments: RunningMoments


class PopulationAgent(ABC):
    """Trains a population of policies in lockstep and keeps an archive of the undominated.

    Args:
        task: what to learn.
        config: settings.
        total_steps: budget in true environment steps; the agent's own evaluations count.
        seed: root of every random stream.
        name: of the agent, for its random streams.
        num_policies: policies to begin with.

    Raises:
        BudgetError: if the budget does not allow a single update.
        UnsupportedTaskError: if observations are images.
    """

    def __init__(
        self,
        task: Task,
        config: PopulationConfig,
        *,
        total_steps: int,
        seed: int,
        name: str,
        num_policies: int,
    ) -> None:
        self._task = task
        self._population_config = config = fitted(
            config, total_steps=total_steps, num_policies=num_policies
        )
        self._name = name
        self._seed = seed
        self._budget = Budget(total_steps)
        self._archive: ParetoArchive[Member] = empty_archive(
            task.spec.num_objectives, config.archive_capacity
        )
        self._selection_seeds = stream(seed, f"{name}/selection", config.selection_episodes)
        self._selection_length = float(task.spec.horizon or 1)
        self._closed = False
        self._selection_steps = 0
        self._updates = 0
        self._syncs = 0
        self._members = 0
        self._longest_episode = task.spec.horizon or 1
        self._encoder = _encoder(task, config)
        self._collector = self._make_collector(num_policies)
        self._network = self._network_spec()
        self._learner = self._initial_learner(num_policies)
        self._rng = generator(seed, f"{name}/training")
        self._budget.require(
            self._update_steps,
            env_id=task.spec.id,
            round_name=f"update of {num_policies} policies",
            settings=("num_envs", "rollout_steps"),
        )

    @property
    def steps(self) -> int:
        """True environment steps so far, evaluations for the archive included."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether another update would exceed the budget."""
        return not self._update_fits()

    @property
    def archive(self) -> ParetoArchive[Member]:
        """Nondominated policies by their mean returns on the agent's selection seeds."""
        return self._archive

    @property
    def learner(self) -> PopulationPPO:
        """The policies in training."""
        return self._learner

    @property
    def _num_policies(self) -> int:
        return self._learner.num_policies

    @property
    def _update_steps(self) -> int:
        config = self._population_config
        return self._num_policies * config.num_envs * config.rollout_steps

    @property
    def _discount(self) -> float:
        """Discount of advantages and critics."""
        chosen = self._population_config.training_discount
        return self._task.spec.discount if chosen is None else chosen

    def _update_fits(self) -> bool:
        return self._budget.fits(self._update_steps)

    # What an agent says

    @abstractmethod
    def improve(self, experience: Experience) -> dict[str, float]:
        """Improve every policy once from a rollout.

        Args:
            experience: of all policies; its advantages are vectors,
                (policy, batch, objective), and the agent says what scalar each policy maximises.

        Returns:
            Readings of the update.
        """

    def prepare(self) -> bool:
        """Look at the population before an update, and replace it if the time has come.

        Returns:
            Whether something changed, so that the budget must be looked at again.
        """
        return False

    def examine(self, experience: Experience, rewards: NDArray[np.float64]) -> Experience:  # noqa: ARG002 - for agents that need raw rewards
        """Look at a rollout before `improve`, and change what it says.

        Args:
            experience: of all policies.
            rewards: of the rollout, (policy, time, env, objective).
        """
        return experience

    def after_update(self) -> None:  # noqa: B027 - most have nothing to do
        """Look at the population after an update and its snapshot."""

    def readings(self) -> dict[str, float]:
        """What the agent reports of itself, beside the counters that all report."""
        return {}

    def extra_state(self) -> State:
        """What the agent must save beside the population and the archive."""
        return {}

    def load_extra_state(self, state: State) -> None:  # noqa: B027 - most have nothing to load
        """Go on from `extra_state`."""

    # Training

    def learn(self, steps: int) -> Metrics:
        """Learn for at least `steps` more steps, then offer what was found to the archive."""
        if not self._update_fits():
            return self._progress()
        goal = self._budget.goal(steps)
        self._synchronise()
        readings: dict[str, float] = {}
        while self._budget.steps < goal and self._update_fits():
            if self.prepare():
                continue
            if self._last_chance():
                self._closed = True
                self._snapshot()
                continue
            readings = self.update()
        if not self._update_fits():
            self._snapshot()
        return {**readings, **self._progress()}

    def _last_chance(self) -> bool:
        """Whether after another update no evaluation would fit any more."""
        if self._closed or not self._population_config.adaptive_selection:
            return False
        longest = self._num_policies * self._longest_episode
        return self._budget.fits(longest) and not self._budget.fits(self._update_steps + longest)

    def update(self) -> dict[str, float]:
        """Collect one rollout and improve every policy once; part of `learn`.

        Returns:
            Readings of the update.
        """
        readings = self.improve(self._collect())
        self._updates += 1
        if self._updates % self._population_config.snapshot_interval == 0 and self._affordable():
            self._snapshot()
        self.after_update()
        return {f"train/{name}": value for name, value in readings.items()}

    def _synchronise(self) -> None:
        """Begin episodes anew from seeds that depend on the number of this call alone.

        What a generic environment is in the middle of cannot be saved; so every call starts its
        own episodes, and a resumed run repeats an uninterrupted one bit for bit.
        """
        self._syncs += 1
        self._rng = generator(self._seed, f"{self._name}/training", self._syncs)
        self._reset_episodes()

    def _reset_episodes(self) -> None:
        slots = self._num_policies * self._population_config.num_envs
        root = int(self._rng.integers(2**31))
        self._collector.reset(stream(root, f"{self._name}/episodes", slots))

    def _collect(self) -> Experience:
        act = partial(self._learner.act, rng=self._rng)
        steps = self._population_config.rollout_steps
        collected = self._collector.collect(act, steps=steps)
        self._budget.spend(collected.num_steps)
        return self.examine(self._learner.digest(collected), collected.rewards)

    # The population

    def _network_spec(self) -> NetworkSpec:
        actions = self._collector.actions
        return NetworkSpec(
            observation_size=self._collector.observation_size,
            action_size=actions.size,
            num_objectives=self._task.spec.num_objectives,
            hidden=tuple(self._population_config.hidden),
            discrete=actions.discrete,
        )

    def fresh_rows(self, count: int, *, first: int = 0) -> NDArray[np.float32]:
        """Initial parameters of `count` policies, (policy, parameter).

        Args:
            count: number of policies.
            first: number of the first; policies of one number begin alike.
        """
        rngs = [
            generator(self._seed, f"{self._name}/initialisation", first + index)
            for index in range(count)
        ]
        return initial_rows(self._network, rngs)

    def _initial_learner(self, num_policies: int) -> PopulationPPO:
        learner = self._make_learner(self.fresh_rows(num_policies))
        if not self._network.discrete:
            learner.network.log_std[...] = self._population_config.initial_log_std
        return learner

    def _make_learner(
        self,
        rows: NDArray[np.float32],
        observation_moments: RunningMoments | None = None,
        return_moments: RunningMoments | None = None,
    ) -> PopulationPPO:
        return PopulationPPO(
            self._network,
            rows,
            self._population_config,
            actions=self._collector.actions,
            discount=self._discount,
            observation_moments=observation_moments,
            return_moments=return_moments,
            standardised=self._encoder.num_numbers,
        )

    def train_copies(self, members: Sequence[Member]) -> None:
        """Replace the population by copies of members, with fresh optimisers and episodes.

        Args:
            members: one per policy; repeats allowed.
        """
        self._replace_collector(len(members))
        self._learner = self._make_learner(
            np.stack([member.row for member in members]),
            join_moments([member.observation_moments for member in members]),
            join_moments([member.return_moments for member in members]),
        )
        self._reset_episodes()

    def _make_collector(self, num_policies: int) -> Collector:
        return Collector(
            self._task,
            num_policies=num_policies,
            num_envs=self._population_config.num_envs,
            encoder=self._encoder,
        )

    def _replace_collector(self, num_policies: int) -> None:
        if num_policies == self._collector.num_policies:
            return
        self._collector.close()
        self._collector = self._make_collector(num_policies)

    # Archive

    def _affordable(self) -> bool:
        """Whether an evaluation keeps within the share of steps that evaluations may take."""
        episodes = self._num_policies * len(self._selection_seeds)
        share = self._population_config.selection_share
        if share >= 1.0:
            return True
        after = self._selection_steps + episodes * self._selection_length
        return after <= share * self._budget.steps

    def _snapshot(self) -> None:
        """Evaluate the current policies on the selection seeds; the archive decides.

        Skipped where the longest episodes that can be expected would not fit the budget.
        """
        seeds = self._selection_seeds[: self._fitting_episodes()]
        if not seeds:
            return
        members = self._current_members()
        self._members += len(members)
        solutions = [Solution(self._policy(member)) for member in members]
        played = rollout(self._task, solutions, seeds=seeds)
        self._budget.spend(played.steps)
        self._selection_steps += played.steps
        self._longest_episode = max(self._longest_episode, int(played.lengths.max()))
        self._selection_length = float(played.lengths.mean())
        if self._population_config.adaptive_selection and not by_chance(played.discounted):
            self._selection_seeds = self._selection_seeds[: 1 if len(seeds) > 1 else None]
        for point, member in zip(played.points, members, strict=True):
            self._archive.add(point, member)

    def _fitting_episodes(self) -> int:
        """Episodes of an evaluation: all that were asked for, or what the budget has room for."""
        wanted = len(self._selection_seeds)
        longest = self._num_policies * self._longest_episode
        fitting = min(wanted, self._budget.remaining // longest)
        return fitting if fitting == wanted or self._population_config.adaptive_selection else 0

    def _current_members(self) -> list[Member]:
        """The policies in training as they are now."""
        learner = self._learner
        return [
            Member(
                id=self._members + index,
                row=row.copy(),
                observation_moments=learner.observation_moments.select(np.array([index])),
                return_moments=learner.return_moments.select(np.array([index])),
            )
            for index, row in enumerate(learner.network.rows())
        ]

    def _policy(self, member: Member) -> NetworkPolicy:
        return NetworkPolicy(
            spec=self._network,
            row=member.row,
            mean=member.observation_moments.mean[0],
            scale=member.observation_moments.scale[0],
            actions=self._collector.actions,
            encoder=self._encoder,
        )

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All members of the archive, or for each preference the member that suits it best.

        A preference never seen in training costs one arg-max over the stored returns. Where the
        budget allowed no evaluation, the policies in training are handed over as they are.
        """
        if preferences is None and not len(self._archive):
            return [Solution(self._policy(member)) for member in self._current_members()]
        return archive_solutions(
            self._archive, self._policy, preferences, fallback=lambda: self._current_members()[0]
        )

    def _progress(self) -> dict[str, float]:
        return {
            "archive/size": float(len(self._archive)),
            "train/updates": float(self._updates),
            **self.readings(),
            "steps/selection": float(self._selection_steps),
        }

    # State

    def state_dict(self) -> State:
        """Counters, learners, the agent's own state and the archive."""
        return {
            "counters": {
                "steps": self._budget.steps,
                "selection_steps": self._selection_steps,
                "updates": self._updates,
                "syncs": self._syncs,
                "members": self._members,
                "longest_episode": self._longest_episode,
                "selection_length": self._selection_length,
                "selection_episodes": len(self._selection_seeds),
                "closed": self._closed,
            },
            "learner": self._learner.state_dict(),
            **self.extra_state(),
            "archive": archive_state(self._archive, _pack),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where the saved agent stood."""
        counters = state["counters"]
        self._budget.steps = counters["steps"]
        self._selection_steps = counters["selection_steps"]
        self._updates = counters["updates"]
        self._syncs = counters["syncs"]
        self._members = counters["members"]
        self._longest_episode = counters["longest_episode"]
        self._selection_length = counters["selection_length"]
        self._selection_seeds = self._selection_seeds[: counters["selection_episodes"]]
        self._closed = counters["closed"]
        rows = state["learner"]["parameters"]
        self._replace_collector(len(rows))
        self._learner = self._make_learner(rows)
        self._learner.load_state_dict(state["learner"])
        self.load_extra_state(state)
        self._restore_archive(state["archive"])

    def _restore_archive(self, state: State) -> None:
        if not len(state["points"]):
            self._archive.restore(state["points"], [])
            return
        observations = RunningMoments.from_state(state["observation_moments"])
        returns = RunningMoments.from_state(state["return_moments"])

        def member(saved: State, index: int) -> Member:
            chosen = np.array([index])
            return Member(
                id=int(saved["ids"][index]),
                row=np.array(saved["rows"][index], np.float32),
                observation_moments=observations.select(chosen),
                return_moments=returns.select(chosen),
            )

        restore_archive(self._archive, state, member)


def fitted(config: PopulationConfig, *, total_steps: int, num_policies: int) -> PopulationConfig:
    """Settings with rollouts and minibatches short enough for the budget.

    Args:
        config: as asked for.
        total_steps: budget.
        num_policies: that train side by side.
    """
    per_step = num_policies * config.num_envs
    fitting = max(LEAST_ROLLOUT, total_steps // (per_step * config.min_updates))
    rollout_steps = min(config.rollout_steps, fitting)
    if rollout_steps == config.rollout_steps:
        return config
    quarter = max(LEAST_MINIBATCH, config.num_envs * rollout_steps // 4)
    return replace(config, rollout_steps=rollout_steps, minibatch=min(config.minibatch, quarter))


def _encoder(task: Task, config: PopulationConfig) -> ObservationEncoder:
    with closing(task.make_vec(1)) as batch:
        return ObservationEncoder.of(
            batch.single_observation_space,  # type: ignore[arg-type] # batches observe one Box
            config.encoding,
            max_inputs=config.max_codes,
            env_id=task.spec.id,
        )


def join_moments(moments: Sequence[RunningMoments]) -> RunningMoments:
    """Statistics of several policies as one population."""
    return RunningMoments.from_state(
        {
            name: np.concatenate([getattr(one, name) for one in moments])
            for name in ("mean", "variance", "count")
        }
    )


def _pack(members: Sequence[Member]) -> State:
    return {
        "ids": np.array([member.id for member in members], np.int64),
        "rows": np.stack([member.row for member in members]),
        "observation_moments": join_moments([m.observation_moments for m in members]).state_dict(),
        "return_moments": join_moments([m.return_moments for m in members]).state_dict(),
    }
