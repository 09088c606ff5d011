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

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.schedules import linear_decay
from morl.agents.learners.ppo.agent import Member, PopulationAgent, PopulationConfig
from morl.agents.learners.ppo.constraints import (
    Table,
    interior_point_weights,
    objective_scale,
    thresholds,
)
from morl.agents.learners.ppo.learner import Experience
from morl.archive import crowding_distance
from morl.capabilities import Capabilities
from morl.preferences import lattice
from morl.registry import register_agent
from morl.search_space import COUNT, POSITIVE, Bounds, bounded, searchable
from morl.types import Front, State, Task

VARIANTS = ("ipo", "cpo")
POSITIVE_SHARE = Bounds(low=0, high=1, open_low=True)


@dataclass
class Config(PopulationConfig):
    """Settings of C-MORL, beside those of the population.

    Attributes:
        variant: how offspring are constrained: "ipo" (interior-point weights in PPO's advantage)
            or "cpo" (trust-region steps that solve the constrained problem to first order).
        preference_divisions: the M preferences are the lattice with this many steps from 0 to 1;
            by default 5 for two objectives, 2 for three and 1 (unit vectors) above.
        initial_fraction: share of the budget for stage one.
        final_learning_rate: share of the learning rate that is left at the end of stage one.
        num_parents: members from which each round of stage two starts (N).
        extension_updates: updates of each offspring in a round.
        extension_learning_rate: Adam's rate in stage two, constant and with fresh moments.
        beta: share of the parent's returns (as distance from the reference point) that the
            offspring has to keep, in (0, 1).
        barrier_sharpness: t of the interior-point barrier (variant "ipo").
        max_constraint_weight: bound on a constraint's weight against the objective's ("ipo").
        max_kl: trust region of a step (variant "cpo").
        fisher_damping: added to the Fisher matrix ("cpo").
    """

    variant: str = bounded("ipo", choices=VARIANTS)
    preference_divisions: int | None = bounded(None, COUNT)
    initial_fraction: float = searchable(0.5, bounds=POSITIVE_SHARE, low=0.2, high=0.8)
    final_learning_rate: float = searchable(0.1, low=0.01, high=1.0, log=True)
    num_parents: int = searchable(4, bounds=COUNT, low=3, high=12)
    extension_updates: int = searchable(10, bounds=COUNT, low=5, high=50, log=True)
    extension_learning_rate: float = searchable(
        3e-3, bounds=POSITIVE, low=1e-4, high=1e-2, log=True
    )
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
class CMORL(PopulationAgent):
    """Constrained two-stage discovery of a Pareto front.

    Args:
        task: what to learn.
        config: settings.
        total_steps: budget in true environment steps; the agent's own evaluations count.
        seed: root of every random stream.

    Raises:
        BudgetError: if the budget does not allow a single update.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._config = config
        self._reference = np.asarray(task.spec.reference_point, np.float64)
        self._preferences = _training_preferences(config, task.spec.num_objectives)
        self._selected: set[int] = set()
        self._offspring: Offspring | None = None
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            name="c_morl",
            num_policies=len(self._preferences),
        )

    @property
    def offspring(self) -> Offspring | None:
        """Targets and constraints of stage two; None in stage one."""
        return self._offspring

    @property
    def _initial_steps(self) -> int:
        return int(self._budget.total_steps * self._config.initial_fraction)

    def prepare(self) -> bool:
        """End stage one when its share of the budget is spent."""
        if self._offspring is not None or self._budget.steps < self._initial_steps:
            return False
        self._end_stage_one()
        return True

    def improve(self, experience: Experience) -> dict[str, float]:
        """Follow preferences in stage one, extend the front in stage two."""
        if self._offspring is None:
            return self._follow_preferences(experience)
        return self._extend(self._offspring, experience)

    def after_update(self) -> None:
        """Begin a new round of stage two after the last update of one."""
        if self._offspring and self._offspring.updates >= self._config.extension_updates:
            self._begin_round()

    def examine(self, experience: Experience, rewards: NDArray[np.float64]) -> Experience:
        """Under a discount of its own, give constraints the returns of the task's scale.

        They are those of whole episodes at the mean reward of the rollout.
        """
        if self._discount == self._task.spec.discount:
            return experience
        returns = rewards.mean(axis=(1, 2)) * _discounted_steps(self._task)
        everyone = np.full(self._num_policies, self._config.num_envs)
        return replace(experience, returns=returns, num_episodes=everyone)

    def _follow_preferences(self, experience: Experience) -> dict[str, float]:
        """Stage one: every policy maximises its own weighted sum of objectives."""
        advantage = np.einsum("pbj,pj->pb", experience.advantages, self._preferences)
        progress = self._budget.steps / max(1, self._initial_steps)
        left = linear_decay(progress, final=self._config.final_learning_rate)
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
        self.train_copies([parent for parent in parents for _ in range(objectives)])
        unknown = np.full((self._num_policies, objectives), np.nan)
        target = np.tile(np.arange(objectives), len(parents))
        self._offspring = Offspring(
            target=target, returns=unknown, threshold=unknown.copy(), scale=unknown.copy()
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
        # It alone needs torch, which takes a second to load.
        from morl.agents.learners.ppo.trust_region import TrustRegionConfig, trust_region_step

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

    def readings(self) -> dict[str, float]:
        """The stage."""
        return {"train/stage": 1.0 if self._offspring is None else 2.0}

    def extra_state(self) -> State:
        """Constraints of stage two, and which members were parents."""
        return {
            "selected": sorted(self._selected),
            "offspring": None if self._offspring is None else _offspring_state(self._offspring),
        }

    def load_extra_state(self, state: State) -> None:
        """Go on from `extra_state`."""
        self._selected = set(state["selected"])
        saved = state["offspring"]
        self._offspring = None if saved is None else _offspring_from_state(saved)


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
