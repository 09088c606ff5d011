"""C-MORL: discover a Pareto front in two stages, preferences first, constraints after.

Stage one trains one policy for each of M preferences. Stage two repeatedly takes the members of
the archive that lie furthest from their neighbours and trains, from each of them and for each
objective l, an offspring that maximises ``G_l`` subject to ``G_j >= d_j`` for all j != l, where
d_j lies just below what the parent reaches (Liu et al., "Efficient Discovery of Pareto Front for
Multi-Objective Reinforcement Learning", ICLR 2025). Both stages train all their policies as one
stacked population. Written from the paper's formulas; `docs/agents/c_morl.md` lists where the
released code differs.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.core.rollouts import Collector
from morl.agents.learners.ppo.constraints import (
    Table,
    interior_point_weights,
    objective_scale,
    thresholds,
)
from morl.agents.learners.ppo.learner import Experience, PopulationPPO, PPOConfig
from morl.agents.learners.ppo.networks import NetworkSpec, initial_rows
from morl.agents.learners.ppo.policies import NetworkPolicy
from morl.agents.learners.ppo.trust_region import TrustRegionConfig, trust_region_step
from morl.archive import ParetoArchive, crowding_distance
from morl.capabilities import Capabilities
from morl.evaluation import rollout
from morl.preferences import lattice
from morl.registry import register_agent
from morl.search_space import COUNT, POSITIVE, SHARE, Bounds, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task

VARIANTS = ("ipo", "cpo")
POSITIVE_SHARE = Bounds(low=0, high=1, open_low=True)


@dataclass
class Config(PPOConfig):
    """Settings of C-MORL, beside those of the policy optimisation.

    Attributes:
        variant: how offspring are constrained: "ipo" (interior-point weights in PPO's advantage)
            or "cpo" (trust-region steps that solve the constrained problem to first order).
        preference_divisions: the M preferences are the lattice with this many steps from 0 to 1;
            by default 5 for two objectives, 2 for three and 1 (unit vectors) above.
        num_envs: environments of each policy.
        rollout_steps: steps in each of them between updates.
        initial_fraction: share of the budget for stage one.
        final_learning_rate: share of the learning rate that is left at the end of stage one.
        snapshot_interval: updates between two evaluations that offer the policies to the archive.
        selection_episodes: episodes of each such evaluation, on seeds of the agent's own.
        archive_capacity: most members of the archive; the most crowded are dropped.
        num_parents: members from which each round of stage two starts (N).
        extension_updates: updates of each offspring in a round.
        extension_learning_rate: Adam's rate in stage two, constant and with fresh moments.
        training_discount: discount of advantages and critics, at most the task's, which is the
            default. Where actions act for a short time, a lower one leaves out what is noise to
            them; what constraints bound is then estimated by the mean reward of a rollout.
        initial_log_std: logarithm of the standard deviation that continuous actions begin with.
        beta: share of the parent's returns (as distance from the reference point) that the
            offspring has to keep, in (0, 1).
        barrier_sharpness: t of the interior-point barrier (variant "ipo").
        max_constraint_weight: bound on a constraint's weight against the objective's ("ipo").
        max_kl: trust region of a step (variant "cpo").
        fisher_damping: added to the Fisher matrix ("cpo").
    """

    variant: str = bounded("ipo", choices=VARIANTS)
    preference_divisions: int | None = bounded(None, COUNT)
    num_envs: int = searchable(8, bounds=COUNT, low=4, high=32, log=True)
    rollout_steps: int = searchable(256, bounds=COUNT, low=64, high=512, log=True)
    initial_fraction: float = searchable(0.5, bounds=POSITIVE_SHARE, low=0.2, high=0.8)
    final_learning_rate: float = searchable(0.1, low=0.01, high=1.0, log=True)
    snapshot_interval: int = bounded(10, COUNT)
    selection_episodes: int = bounded(5, COUNT)
    archive_capacity: int = bounded(200, COUNT)
    num_parents: int = searchable(6, bounds=COUNT, low=3, high=12)
    extension_updates: int = searchable(20, bounds=COUNT, low=5, high=50, log=True)
    extension_learning_rate: float = searchable(
        3e-4, bounds=POSITIVE, low=1e-4, high=3e-3, log=True
    )
    training_discount: float | None = bounded(None, SHARE)
    initial_log_std: float = 0.0
    beta: float = searchable(0.9, bounds=POSITIVE_SHARE, low=0.7, high=0.99)
    barrier_sharpness: float = searchable(
        20.0, low=5.0, high=100.0, log=True, when={"variant": ("ipo",)}
    )
    max_constraint_weight: float = 10.0
    max_kl: float = searchable(
        0.01, bounds=POSITIVE, low=1e-3, high=0.1, log=True, when={"variant": ("cpo",)}
    )
    fisher_damping: float = searchable(
        0.1, low=0.01, high=1.0, log=True, when={"variant": ("cpo",)}
    )


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


@dataclass
class Offspring:
    """What the learners of a round of stage two are after.

    Attributes:
        target: (policy,), objective that each maximises.
        returns: (policy, objective), latest estimate of the learners' discounted returns.
        threshold: (policy, objective), d; set by the parents' returns in the first rollout.
        scale: (policy, objective), unit of slack.
        updates: updates done in this round.
    """

    target: NDArray[np.int64]
    returns: Table
    threshold: Table
    scale: Table
    updates: int = 0

    @property
    def slack(self) -> Table:
        """Return minus threshold, in units of the objective's scale."""
        return (self.returns - self.threshold) / self.scale


@register_agent(
    "c_morl",
    config=Config,
    acts=Capabilities(
        smoke={
            "num_envs": 2,
            "rollout_steps": 12,
            "epochs": 2,
            "minibatch": 16,
            "num_parents": 2,
            "selection_episodes": 1,
            "snapshot_interval": 2,
            "extension_updates": 3,
            "hidden": (8,),
        }
    ),
)
class CMORL:
    """Constrained two-stage discovery of a Pareto front.

    Args:
        task: what to learn.
        config: settings.
        total_steps: budget in true environment steps; the agent's own evaluations count.
        seed: root of every random stream.

    Raises:
        ValueError: if the budget does not allow a single update.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._budget = Budget(total_steps)
        self._seed = seed
        self._reference = np.asarray(task.spec.reference_point, np.float64)
        self._preferences = _training_preferences(config, task.spec.num_objectives)
        self._archive: ParetoArchive[Member] = empty_archive(
            task.spec.num_objectives, config.archive_capacity
        )
        self._selection_seeds = stream(seed, "c_morl/selection", config.selection_episodes)
        self._selection_steps = 0
        self._updates = 0
        self._syncs = 0
        self._members = 0
        self._longest_episode = task.spec.horizon or 1
        self._selected: set[int] = set()
        self._offspring: Offspring | None = None
        self._collector = Collector(
            task, num_policies=len(self._preferences), num_envs=config.num_envs
        )
        self._network = self._network_spec()
        self._learner = self._initial_learner()
        self._rng = generator(seed, "c_morl/training")
        self._budget.require(
            self._update_steps,
            env_id=task.spec.id,
            round_name=f"update of {len(self._preferences)} policies",
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

    def _update_fits(self) -> bool:
        return self._budget.fits(self._update_steps)

    @property
    def archive(self) -> ParetoArchive[Member]:
        """Nondominated policies by their mean returns on the agent's selection seeds."""
        return self._archive

    @property
    def learner(self) -> PopulationPPO:
        """The policies in training."""
        return self._learner

    @property
    def offspring(self) -> Offspring | None:
        """Targets and constraints of stage two; None in stage one."""
        return self._offspring

    @property
    def _num_policies(self) -> int:
        return self._learner.num_policies

    @property
    def _update_steps(self) -> int:
        return self._num_policies * self._config.num_envs * self._config.rollout_steps

    @property
    def _discount(self) -> float:
        """Discount of advantages and critics."""
        chosen = self._config.training_discount
        return self._task.spec.discount if chosen is None else chosen

    @property
    def _initial_steps(self) -> int:
        return int(self._budget.total_steps * self._config.initial_fraction)

    def _network_spec(self) -> NetworkSpec:
        actions = self._collector.actions
        return NetworkSpec(
            observation_size=self._collector.observation_size,
            action_size=actions.size,
            num_objectives=self._task.spec.num_objectives,
            hidden=tuple(self._config.hidden),
            discrete=actions.discrete,
        )

    def _initial_learner(self) -> PopulationPPO:
        count = len(self._preferences)
        rngs = [generator(self._seed, "c_morl/initialisation", index) for index in range(count)]
        learner = self._make_learner(initial_rows(self._network, rngs))
        if not self._network.discrete:
            learner.network.log_std[...] = self._config.initial_log_std
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
            self._config,
            actions=self._collector.actions,
            discount=self._discount,
            observation_moments=observation_moments,
            return_moments=return_moments,
        )

    # Training

    def learn(self, steps: int) -> Metrics:
        """Learn for at least `steps` more steps, then offer what was found to the archive."""
        if not self._update_fits():
            return self._progress()
        goal = self._budget.goal(steps)
        self._synchronise()
        readings: dict[str, float] = {}
        while self._budget.steps < goal and self._update_fits():
            if self._offspring is None and self._budget.steps >= self._initial_steps:
                self._end_stage_one()
                continue
            readings = self.update()
        if not self._update_fits():
            self._snapshot()
        return {**readings, **self._progress()}

    def _synchronise(self) -> None:
        """Begin episodes anew from seeds that depend on the number of this call alone.

        What a generic environment is in the middle of cannot be saved; so every call starts its
        own episodes, and a resumed run repeats an uninterrupted one bit for bit.
        """
        self._syncs += 1
        self._rng = generator(self._seed, "c_morl/training", self._syncs)
        self._reset_episodes()

    def _reset_episodes(self) -> None:
        slots = self._num_policies * self._config.num_envs
        root = int(self._rng.integers(2**31))
        self._collector.reset(stream(root, "c_morl/episodes", slots))

    def update(self) -> dict[str, float]:
        """Collect one rollout and improve every policy once; part of `learn`.

        Returns:
            Readings of the update.
        """
        experience = self._collect()
        if self._offspring is None:
            readings = self._follow_preferences(experience)
        else:
            readings = self._extend(self._offspring, experience)
        self._updates += 1
        if self._updates % self._config.snapshot_interval == 0:
            self._snapshot()
        if self._offspring and self._offspring.updates >= self._config.extension_updates:
            self._begin_round()
        return {f"train/{name}": value for name, value in readings.items()}

    def _collect(self) -> Experience:
        act = partial(self._learner.act, rng=self._rng)
        collected = self._collector.collect(act, steps=self._config.rollout_steps)
        self._budget.spend(collected.num_steps)
        experience = self._learner.digest(collected)
        if self._discount == self._task.spec.discount:
            return experience
        return self._in_the_tasks_scale(experience, collected.rewards)

    def _in_the_tasks_scale(
        self, experience: Experience, rewards: NDArray[np.float64]
    ) -> Experience:
        """Give constraints the returns of whole episodes at the mean reward of the rollout."""
        returns = rewards.mean(axis=(1, 2)) * _discounted_steps(self._task)
        everyone = np.full(self._num_policies, self._config.num_envs)
        return replace(experience, returns=returns, num_episodes=everyone)

    def _follow_preferences(self, experience: Experience) -> dict[str, float]:
        """Stage one: every policy maximises its own weighted sum of objectives."""
        advantage = np.einsum("pbj,pj->pb", experience.advantages, self._preferences)
        progress = min(1.0, self._budget.steps / max(1, self._initial_steps))
        left = 1.0 - progress * (1.0 - self._config.final_learning_rate)
        rate = self._config.learning_rate * left
        return self._learner.improve(experience, advantage, learning_rate=rate, rng=self._rng)

    # Stage two

    def _end_stage_one(self) -> None:
        self._snapshot()
        self._begin_round()

    def _begin_round(self) -> None:
        self._snapshot()
        self.extend_from(self._select_parents())

    def extend_from(self, parents: Sequence[Member]) -> None:
        """Begin a round of stage two; part of `learn`.

        Each parent gets one offspring an objective, with the parent's parameters and normalisers
        and a fresh optimiser.
        """
        objectives = self._task.spec.num_objectives
        family = [parent for parent in parents for _ in range(objectives)]
        self._replace_collector(len(family))
        self._learner = self._make_learner(
            np.stack([member.row for member in family]),
            _join([member.observation_moments for member in family]),
            _join([member.return_moments for member in family]),
        )
        unknown = np.full((len(family), objectives), np.nan)
        target = np.tile(np.arange(objectives), len(parents))
        self._offspring = Offspring(
            target=target, returns=unknown, threshold=unknown.copy(), scale=unknown.copy()
        )
        self._reset_episodes()

    def _replace_collector(self, num_policies: int) -> None:
        if num_policies == self._collector.num_policies:
            return
        self._collector.close()
        self._collector = Collector(
            self._task, num_policies=num_policies, num_envs=self._config.num_envs
        )

    def _select_parents(self) -> list[Member]:
        """Members furthest from their neighbours, those that were parents before coming last."""
        distance = crowding_distance(self._archive.points, worst_is_boundary=False)
        members = self._archive.items
        used = [member.id in self._selected for member in members]
        order = np.lexsort((-distance, np.array(used)))
        parents = [members[index] for index in order[: self._config.num_parents]]
        self._selected.update(parent.id for parent in parents)
        return parents

    def _extend(self, offspring: Offspring, experience: Experience) -> dict[str, float]:
        """Stage two: every learner improves its target within its parent's constraints."""
        self._estimate_returns(offspring, experience)
        offspring.updates += 1
        if self._config.variant == "cpo":
            return self._extend_by_trust_region(offspring, experience)
        weights = interior_point_weights(
            offspring.slack,
            offspring.target,
            sharpness=self._config.barrier_sharpness,
            max_weight=self._config.max_constraint_weight,
        )
        advantage = np.einsum("pbj,pj->pb", experience.advantages, weights / offspring.scale)
        readings = self._learner.improve(
            experience,
            advantage,
            learning_rate=self._config.extension_learning_rate,
            rng=self._rng,
        )
        return {**readings, "violated": _violated_share(offspring)}

    def _extend_by_trust_region(
        self, offspring: Offspring, experience: Experience
    ) -> dict[str, float]:
        step = trust_region_step(
            self._learner.network,
            experience,
            target=offspring.target,
            slack=offspring.slack,
            scale=offspring.scale,
            config=TrustRegionConfig(
                max_kl=self._config.max_kl, damping=self._config.fisher_damping
            ),
        )
        readings = self._learner.fit_critic(
            experience, learning_rate=self._config.extension_learning_rate, rng=self._rng
        )
        return {**readings, **step, "violated": _violated_share(offspring)}

    def _estimate_returns(self, offspring: Offspring, experience: Experience) -> None:
        """Average returns over rollouts; the first, still the parent's, sets the thresholds.

        Parent and offspring are measured by the same sampling policies, so that the difference
        between a policy's samples and its mean action does not count as progress.
        """
        seen = experience.num_episodes[:, None] > 0
        latest = np.where(seen, experience.returns, offspring.returns)
        known = np.isfinite(offspring.returns)
        offspring.returns = np.where(known, 0.5 * (offspring.returns + latest), latest)
        new = np.isfinite(offspring.returns) & ~np.isfinite(offspring.threshold)
        limits = thresholds(offspring.returns, self._reference, beta=self._config.beta)
        scales = objective_scale(offspring.returns, self._reference)
        offspring.threshold = np.where(new, limits, offspring.threshold)
        offspring.scale = np.where(new, scales, offspring.scale)

    # Archive

    def _snapshot(self) -> None:
        """Evaluate the current policies on the selection seeds; the archive decides.

        Skipped where the longest episodes that can be expected would not fit the budget.
        """
        episodes = self._num_policies * self._config.selection_episodes
        if not self._budget.fits(episodes * self._longest_episode):
            return
        members = self._current_members()
        solutions = [Solution(self._policy(member)) for member in members]
        played = rollout(self._task, solutions, seeds=self._selection_seeds)
        self._budget.spend(played.steps)
        self._selection_steps += played.steps
        self._longest_episode = max(self._longest_episode, int(played.lengths.max()))
        for point, member in zip(played.points, members, strict=True):
            self._archive.add(point, member)

    def _current_members(self) -> list[Member]:
        rows = self._learner.network.rows()
        members = [
            Member(
                id=self._members + index,
                row=row.copy(),
                observation_moments=self._learner.observation_moments.select(np.array([index])),
                return_moments=self._learner.return_moments.select(np.array([index])),
            )
            for index, row in enumerate(rows)
        ]
        self._members += len(members)
        return members

    def _policy(self, member: Member) -> NetworkPolicy:
        return NetworkPolicy(
            spec=self._network,
            row=member.row,
            mean=member.observation_moments.mean[0],
            scale=member.observation_moments.scale[0],
            actions=self._collector.actions,
        )

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All members of the archive, or for each preference the member that suits it best.

        A preference never seen in training costs one arg-max over the stored returns.
        """
        return archive_solutions(self._archive, self._policy, preferences)

    def _progress(self) -> dict[str, float]:
        return {
            "archive/size": float(len(self._archive)),
            "train/updates": float(self._updates),
            "train/stage": 1.0 if self._offspring is None else 2.0,
            "steps/selection": float(self._selection_steps),
        }

    # State

    def state_dict(self) -> State:
        """Counters, learners, constraints and archive."""
        return {
            "counters": {
                "steps": self._budget.steps,
                "selection_steps": self._selection_steps,
                "updates": self._updates,
                "syncs": self._syncs,
                "members": self._members,
                "longest_episode": self._longest_episode,
            },
            "selected": sorted(self._selected),
            "learner": self._learner.state_dict(),
            "offspring": None if self._offspring is None else _offspring_state(self._offspring),
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
        self._selected = set(state["selected"])
        rows = state["learner"]["parameters"]
        self._replace_collector(len(rows))
        self._learner = self._make_learner(rows)
        self._learner.load_state_dict(state["learner"])
        saved = state["offspring"]
        self._offspring = None if saved is None else _offspring_from_state(saved)
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


def _discounted_steps(task: Task) -> float:
    """Discounted number of steps of an episode that lasts to its horizon."""
    discount, horizon = task.spec.discount, task.spec.horizon
    if discount < 1.0:
        return (1.0 - discount ** (horizon or np.inf)) / (1.0 - discount)
    if horizon is None:
        raise ValueError(f"{task.spec.id}: discount 1 needs a horizon")
    return float(horizon)


def _training_preferences(config: Config, num_objectives: int) -> Front:
    """The M preferences of stage one, (policy, objective)."""
    defaults = {2: 5, 3: 2}
    divisions = config.preference_divisions or defaults.get(num_objectives, 1)
    return lattice(num_objectives, divisions)


def _join(moments: Sequence[RunningMoments]) -> RunningMoments:
    """Statistics of several policies as one population."""
    return RunningMoments.from_state(
        {
            name: np.concatenate([getattr(one, name) for one in moments])
            for name in ("mean", "variance", "count")
        }
    )


def _violated_share(offspring: Offspring) -> float:
    """Share of learners that violate a constraint."""
    others = np.arange(offspring.slack.shape[1]) != offspring.target[:, None]
    return float(((offspring.slack < 0.0) & others).any(axis=1).mean())


def _offspring_state(offspring: Offspring) -> State:
    return {
        "target": offspring.target.copy(),
        "returns": offspring.returns.copy(),
        "threshold": offspring.threshold.copy(),
        "scale": offspring.scale.copy(),
        "updates": offspring.updates,
    }


def _offspring_from_state(state: State) -> Offspring:
    return Offspring(
        target=np.array(state["target"], np.int64),
        returns=np.array(state["returns"]),
        threshold=np.array(state["threshold"]),
        scale=np.array(state["scale"]),
        updates=int(state["updates"]),
    )


def _pack(members: Sequence[Member]) -> State:
    return {
        "ids": np.array([member.id for member in members], np.int64),
        "rows": np.stack([member.row for member in members]),
        "observation_moments": _join([m.observation_moments for m in members]).state_dict(),
        "return_moments": _join([m.return_moments for m in members]).state_dict(),
    }
