"""Envelope Q-learning: one vector-valued Q network for all preferences.

Yang, Sun and Narasimhan, "A Generalized Algorithm for Multi-Objective Reinforcement Learning and
Policy Adaptation" (NeurIPS 2019, arXiv:1908.08342). See `docs/agents/envelope_q.md` for what
differs from the paper and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.conditioned.policies import Actor, ConditionedPolicy
from morl.agents.learners.replay.agent import CollectionConfig, ReplayAgent
from morl.agents.learners.vector_q.envelope import EnvelopeLearner, LearnerSettings, Worth
from morl.capabilities import Capabilities
from morl.compositional import CompositionalCore, NotCompositionalError, core_of
from morl.preferences import dirichlet
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, bounded, searchable
from morl.types import Task


@dataclass
class Config(CollectionConfig):
    """Settings of envelope Q-learning, beside those of the collection.

    Attributes:
        hidden: units of the hidden layers; where observations have a row for each action, those
            of the encoder and then the head's.
        training_discount: discount of the values; the task's by default.
        learning_rate: of Adam.
        final_learning_rate: share of it that is left at the end of the budget; it falls linearly.
        batch: transitions of an update.
        preferences: preferences of an update; every transition teaches each of them, and the
            envelope is taken over them.
        target_rate: share of the network that the target takes over at each update.
        double_q: whether the network chooses the vector whose value the target gives.
        initial_exploration: share of random actions at the beginning.
        final_exploration: share of random actions after `exploration_share` of the budget.
        exploration_share: share of the budget on which exploration falls linearly.
        final_homotopy: weight of the scalar loss at the end of the budget.
        homotopy_power: the weight grows as this power of the share of the budget that is spent.
    """

    num_envs: int = bounded(8, COUNT)
    collect_steps: int = bounded(4, COUNT)
    updates: int = bounded(8, COUNT)
    warmup_steps: int = bounded(500, NOT_NEGATIVE)
    hidden: tuple[int, ...] = searchable(
        (128, 128), choices={"small": (64, 64), "medium": (128, 128), "large": (256, 256)}
    )
    training_discount: float | None = bounded(None, SHARE)
    learning_rate: float = searchable(3e-3, bounds=POSITIVE, low=1e-4, high=1e-2, log=True)
    final_learning_rate: float = searchable(0.1, bounds=SHARE, low=0.01, high=1.0, log=True)
    batch: int = searchable(64, bounds=COUNT, low=16, high=256, log=True)
    preferences: int = searchable(4, bounds=COUNT, low=1, high=32, log=True)
    target_rate: float = searchable(0.02, bounds=SHARE, low=1e-3, high=0.1, log=True)
    double_q: bool = True
    initial_exploration: float = bounded(1.0, SHARE)
    final_exploration: float = searchable(0.05, bounds=SHARE, low=0.01, high=0.3, log=True)
    exploration_share: float = searchable(0.5, bounds=SHARE, low=0.1, high=0.9)
    final_homotopy: float = searchable(1.0, bounds=SHARE, low=0.0, high=1.0)
    homotopy_power: float = searchable(2.0, bounds=POSITIVE, low=0.5, high=8.0, log=True)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"every layer of hidden needs at least one unit, got {self.hidden}")


@register_agent(
    "envelope_q",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        smoke={
            "num_envs": 4,
            "updates": 2,
            "batch": 8,
            "replay_capacity": 500,
            "hidden": (8,),
        },
    ),
)
class EnvelopeQ(ReplayAgent[EnvelopeLearner]):
    """One network that acts for a fresh preference in each episode and learns for many.

    Args:
        task: what to learn; its actions are discrete.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
    """

    _config: Config

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(
            task, config, total_steps=total_steps, seed=seed, num_policies=1, name="envelope_q"
        )

    def _make_learner(self) -> EnvelopeLearner:
        config = self._config
        settings = LearnerSettings(
            hidden=tuple(config.hidden),
            discount=self._discount,
            target_rate=config.target_rate,
            double_q=config.double_q,
        )
        return EnvelopeLearner(
            self._shape,
            settings,
            core=_core(self._task),
            rng=self._initial_rngs()[0],
            env_id=self._task.spec.id,
        )

    def _round(self) -> list[dict[str, float]]:
        self._learner.exploration = self.exploration
        self._learner.homotopy = self.homotopy
        return super()._round()

    @property
    def exploration(self) -> float:
        """Share of random actions at present."""
        config = self._config
        until = config.exploration_share * self._total_steps
        progress = min(self._steps / until, 1.0) if until else 1.0
        return config.initial_exploration + progress * (
            config.final_exploration - config.initial_exploration
        )

    @property
    def homotopy(self) -> float:
        """Weight of the scalar loss at present."""
        progress = self._steps / self._total_steps
        return float(self._config.final_homotopy * progress**self._config.homotopy_power)

    def _progress(self) -> dict[str, float]:
        return {
            **super()._progress(),
            "train/exploration": self.exploration,
            "train/homotopy": self.homotopy,
        }

    def _behaviour_preferences(self, ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        return self._fresh(int(np.count_nonzero(ended)))

    def _learning_preferences(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        del stored  # every transition teaches fresh preferences
        return self._fresh(self._config.preferences)[None]

    def _fresh(self, count: int) -> NDArray[np.float32]:
        """Uniform preferences, (count, objective)."""
        objectives = self._task.spec.num_objectives
        return dirichlet(objectives, count, rng=self._rng).astype(np.float32)

    def _policies(self, weights: NDArray[np.float32]) -> list[ConditionedPolicy]:
        actor = Actor(
            network=Worth(self._learner.network),
            blocks=tuple(self._learner.values.copy_blocks()),
            view=self._learner.view(self.reward_scales),
            temperature=1.0,
            encoder=self._encoder,
        )
        return [ConditionedPolicy(actor, row) for row in weights]


def _core(task: Task) -> CompositionalCore | None:
    """What the task's objects are made of, if its episodes build any."""
    try:
        return core_of(task)
    except NotCompositionalError:
        return None
