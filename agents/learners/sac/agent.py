"""What the agents on discrete SAC have in common, beside collecting and storing."""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.conditioned.networks import Shape
from morl.agents.learners.conditioned.policies import Actor
from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.replay.agent import CollectionConfig, ReplayAgent
from morl.agents.learners.sac.discrete import PopulationSAC, SACConfig


@dataclass
class AgentConfig(CollectionConfig, SACConfig):
    """Settings of the collection, and those of the learner.

    Attributes:
        deterministic: whether solutions take the most probable action or sample.
    """

    deterministic: bool = True


class DiscreteSACAgent(ReplayAgent[PopulationSAC]):
    """A population of discrete soft actor-critics.

    Args:
        task: what to learn; its actions are discrete.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
        num_policies: learners of the population.
        name: of the agent, for streams and messages.
    """

    _config: AgentConfig

    def _make_learner(self) -> PopulationSAC:
        return PopulationSAC(
            self._shape,
            self._config,
            discount=self._discount,
            rngs=self._initial_rngs(),
            env_id=self._task.spec.id,
        )

    def _checked_shape(self) -> Shape:
        shape, columns = super()._checked_shape(), tuple(self._config.reward_columns)
        self._check_one_an_objective("reward_columns", columns)
        env_id = self._task.spec.id
        if columns and not shape.by_action:
            raise UnsupportedTaskError(
                f"{env_id}: agent.reward_columns needs observations with a row for each action"
            )
        if max(columns, default=0) >= shape.num_features and shape.by_action:
            raise UnsupportedTaskError(
                f"{env_id}: agent.reward_columns {columns} lie beyond the {shape.num_features} "
                "features of a row"
            )
        return shape

    def _actor(self, index: int) -> Actor:
        """A frozen copy of one learner's actor."""
        learner = self._learner
        return Actor(
            network=learner.actor_network,
            blocks=tuple(block[index : index + 1] for block in learner.actor.copy_blocks()),
            view=learner.view(self.reward_scales),
            temperature=float(learner.temperature[index]),
            encoder=self._encoder,
        )
