"""MOREINFORCE: policy gradient for all preferences at once, the baseline of MOGFN-PC.

The same network, conditions and rewards as MOGFN-PC, but the policy is to earn as much as possible
instead of sampling in proportion: the gradient is that of Williams (1992), with the batch's mean as
baseline. A baseline of Jain et al., "Multi-Objective GFlowNets" (ICML 2023), after Lin et al.,
"Pareto Set Learning for Neural Multi-Objective Combinatorial Optimization" (ICLR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from morl.agents.learners.gflownet.agent import (
    ObjectSampler,
    SamplerConfig,
    require_choice,
    require_positive,
)
from morl.agents.learners.gflownet.conditions import SCALARISATIONS, check_exponents, thermometer
from morl.agents.learners.gflownet.learner import Loss, Terms
from morl.agents.learners.gflownet.losses import implied_log_rewards, reinforce
from morl.agents.learners.gflownet.networks import Array
from morl.capabilities import Capabilities
from morl.preferences import dirichlet
from morl.registry import register_agent
from morl.search_space import searchable
from morl.types import Front, Task, Vector


@dataclass
class Config(SamplerConfig):
    """Settings of MOREINFORCE, beside those of all samplers.

    Attributes:
        scalarisation: "weighted_sum", "weighted_log_sum" or "tchebycheff".
        exponent: of rewards, positive.
        concentration: of the Dirichlet distribution that preferences are drawn from.
        preference_bins: of a preference's thermometer code, an objective.
    """

    scalarisation: str = "weighted_sum"
    exponent: float = searchable(1.0, low=0.5, high=64.0, log=True)
    concentration: float = searchable(1.0, low=0.5, high=2.0, log=True)
    preference_bins: int = 50

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        require_choice("scalarisation", self.scalarisation, tuple(SCALARISATIONS))
        check_exponents(np.array(self.exponent), where="agent.exponent")
        require_positive("concentration", self.concentration)
        if self.preference_bins < 2:
            raise ValueError(f"preference_bins must be at least 2, got {self.preference_bins}")


@register_agent(
    "moreinforce",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        objects=True,
        smoke={
            "batch": 8,
            "hidden": (8, 8),
            "width": 8,
            "layers": 1,
            "heads": 2,
            "archive_capacity": 10,
        },
    ),
)
class MOReinforce(ObjectSampler):
    """Preference-conditional policy gradient.

    Args:
        task: builds objects.
        config: settings.
        total_steps: budget in environment steps.
        seed: root of every random stream.
    """

    name = "moreinforce"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._config = config
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            code_width=task.spec.num_objectives * config.preference_bins,
        )

    def _update(self, rng: np.random.Generator) -> dict[str, float]:
        config, core = self._config, self._core
        preferences = dirichlet(
            core.num_objectives, config.batch, rng=rng, concentration=config.concentration
        )
        codes = self._codes(preferences)
        found = self._learner.sample(codes, rng=rng, exploration=config.exploration)
        self._count(found.steps)
        values = self._evaluated(found.objects)
        scalars = SCALARISATIONS[config.scalarisation](values, preferences, config.reward_floor)
        readings = self._learner.improve(found, codes, policy_gradient(config.exponent * scalars))
        return {
            **readings,
            "train/reward": float(np.exp(scalars).mean()),
            "train/length": found.steps / len(found),
        }

    def _codes(self, preferences: Front) -> Array:
        code = thermometer(preferences, bins=self._config.preference_bins)
        return code.reshape(len(preferences), -1)


def policy_gradient(log_rewards: Vector) -> Loss:
    """The loss whose gradient is REINFORCE's; see `gflownet_losses.reinforce`.

    Args:
        log_rewards: (trajectory,).
    """
    rewards = torch.from_numpy(np.exp(log_rewards).astype(np.float32))

    def loss(terms: Terms) -> torch.Tensor:
        nothing = torch.zeros(len(rewards))
        return reinforce(implied_log_rewards(nothing, terms.log_forward, terms.rows), rewards)

    return loss
