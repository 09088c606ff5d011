"""MOGFN-PC: one sampler of objects for all preferences.

Jain et al., "Multi-Objective GFlowNets" (ICML 2023, arXiv:2210.12765). The policy sees a preference
and, if it varies, an exponent, and learns to sample objects in proportion to the scalarised reward
raised to that exponent. See `docs/agents/mogfn_pc.md` for what differs from the released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morl.agents.learners.gflownet.agent import (
    ObjectSampler,
    SamplerConfig,
    require_choice,
    require_positive,
)
from morl.agents.learners.gflownet.conditions import (
    DISTRIBUTIONS,
    SCALARISATIONS,
    check_exponents,
    draw_exponents,
    largest_exponent,
    thermometer,
)
from morl.agents.learners.gflownet.learner import BALANCES, MEASURES, balance
from morl.agents.learners.gflownet.networks import Array
from morl.capabilities import Capabilities
from morl.preferences import dirichlet
from morl.registry import register_agent
from morl.search_space import searchable
from morl.types import Front, Task, Vector


@dataclass
class Config(SamplerConfig):
    """Settings of MOGFN-PC, beside those of all samplers.

    Attributes:
        loss: "tb", "subtb" or "db": trajectory, sub-trajectory or detailed balance.
        decay: lambda of sub-trajectory balance, positive.
        measure: "objects": sample in proportion to reward; or in proportion to reward times the
            probability that the object is built by even choices: of any action ("choices"), or of
            the length first ("lengths").
        scalarisation: "weighted_sum", "weighted_log_sum" or "tchebycheff".
        exponent: of rewards: the constant, the upper end of the uniform distribution, or the
            shape of the gamma distribution; positive.
        exponent_distribution: "constant", "uniform" (between 0 and `exponent`) or "gamma".
        concentration: of the Dirichlet distribution that preferences are drawn from.
        preference_bins: of a preference's thermometer code, an objective.
        exponent_bins: of an exponent's; constant exponents are not encoded.
    """

    loss: str = searchable("tb", choices=BALANCES)
    decay: float = searchable(0.9, low=0.5, high=1.0, when={"loss": ("subtb",)})
    measure: str = searchable("objects", choices=MEASURES)
    scalarisation: str = "weighted_sum"
    exponent: float = searchable(16.0, low=1.0, high=192.0, log=True)
    exponent_distribution: str = "constant"
    concentration: float = searchable(1.0, low=0.5, high=2.0, log=True)
    preference_bins: int = 50
    exponent_bins: int = 32

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        require_choice("loss", self.loss, BALANCES)
        require_choice("measure", self.measure, MEASURES)
        require_choice("scalarisation", self.scalarisation, tuple(SCALARISATIONS))
        require_choice("exponent_distribution", self.exponent_distribution, DISTRIBUTIONS)
        check_exponents(np.array(self.exponent), where="agent.exponent")
        for name in ("decay", "concentration"):
            require_positive(name, getattr(self, name))
        for name in ("preference_bins", "exponent_bins"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")

    @property
    def encodes_exponents(self) -> bool:
        """Whether exponents are part of the condition."""
        return self.exponent_distribution != "constant"


def encode(config: Config, preferences: Front, exponents: Vector) -> Array:
    """Codes of conditions, (trajectory, code)."""
    parts = [thermometer(preferences, bins=config.preference_bins).reshape(len(preferences), -1)]
    if config.encodes_exponents:
        top = largest_exponent(config.exponent_distribution, config.exponent)
        parts.append(thermometer(exponents, bins=config.exponent_bins, high=top))
    return np.concatenate(parts, axis=1)


@register_agent(
    "mogfn_pc",
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
class MOGFNPC(ObjectSampler):
    """Preference-conditional sampler.

    Args:
        task: builds objects.
        config: settings.
        total_steps: budget in environment steps.
        seed: root of every random stream.
    """

    name = "mogfn_pc"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._config = config
        objectives = task.spec.num_objectives
        probe = np.full((1, objectives), 1.0 / objectives)
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            code_width=encode(config, probe, np.ones(1)).shape[1],
            with_flows=config.loss != "tb",
            measure=config.measure,
        )

    def _update(self, rng: np.random.Generator) -> dict[str, float]:
        config, core = self._config, self._core
        preferences = dirichlet(
            core.num_objectives, config.batch, rng=rng, concentration=config.concentration
        )
        exponents = draw_exponents(config.exponent_distribution, config.exponent, config.batch, rng)
        codes = encode(config, preferences, exponents)
        found = self._learner.sample(codes, rng=rng, exploration=config.exploration)
        self._count(found.steps)
        values = self._evaluated(found.objects)
        scalars = SCALARISATIONS[config.scalarisation](values, preferences, config.reward_floor)
        loss = balance(config.loss, exponents * scalars, decay=config.decay)
        readings = self._learner.improve(found, codes, loss)
        return {
            **readings,
            "train/reward": float(np.exp(scalars).mean()),
            "train/length": found.steps / len(found),
        }

    def _codes(self, preferences: Front) -> Array:
        """With the largest exponent: the best that the sampler knows."""
        config = self._config
        top = largest_exponent(config.exponent_distribution, config.exponent)
        return encode(config, preferences, np.full(len(preferences), top))
