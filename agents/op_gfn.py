"""OP-GFN: a sampler of objects that only learns their order, and so the Pareto set itself.

Chen and Mauch, "Order-Preserving GFlowNets" (ICLR 2024, arXiv:2310.00386). No reward is scalarised
and nothing is conditioned: the implied rewards of a batch are trained to be shared equally by those
of its objects that no other one dominates. Written from the formulas; see `docs/agents/op_gfn.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from morl.agents.learners.gflownet import kernels, losses
from morl.agents.learners.gflownet.agent import ObjectSampler, SamplerConfig
from morl.agents.learners.gflownet.networks import Array
from morl.agents.learners.gflownet.replay import TrajectoryReplay
from morl.agents.learners.gflownet.sampler import Trajectories
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Front, State, Task


@dataclass
class Config(SamplerConfig):
    """Settings of OP-GFN, beside those of all samplers.

    Attributes:
        replay_capacity: trajectories of the replay; 0 for none: then updates learn from what was
            just sampled.
        replay_warmup: trajectories from which on updates learn from the replay.
        front_share: share of an update's trajectories that is drawn from the nondominated ones of
            the replay.
    """

    replay_capacity: int = 0
    replay_warmup: int = 1000
    front_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if self.replay_capacity < 0 or self.replay_warmup < 0:
            raise ValueError(
                "replay_capacity and replay_warmup must not be negative, got "
                f"{self.replay_capacity} and {self.replay_warmup}"
            )
        if 0 < self.replay_capacity < self.batch:
            raise ValueError(
                f"replay_capacity must be 0 or at least the batch of {self.batch}, got "
                f"{self.replay_capacity}"
            )
        if not 0.0 <= self.front_share <= 1.0:
            raise ValueError(f"front_share must be in [0, 1], got {self.front_share}")


def pareto_labels(values: Front) -> NDArray[np.bool_]:
    """Whether no other object of the batch dominates each, (object,); equal ones share a label."""
    found = np.empty(len(values), np.bool_)
    kernels.dominated(values, values, found)
    return ~found


@register_agent(
    "op_gfn",
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
class OPGFN(ObjectSampler):
    """Order-preserving sampler.

    Args:
        task: builds objects.
        config: settings.
        total_steps: budget in environment steps.
        seed: root of every random stream.
    """

    name = "op_gfn"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        super().__init__(task, config, total_steps=total_steps, seed=seed, code_width=0)
        self._config = config
        self._replay: TrajectoryReplay | None = None
        if config.replay_capacity:
            self._replay = TrajectoryReplay(
                config.replay_capacity,
                horizon=self._core.horizon,
                num_objectives=self._core.num_objectives,
            )

    def state_dict(self) -> State:
        """As the base class, with the replay."""
        replay = {} if self._replay is None else {"replay": self._replay.state_dict()}
        return {**super().state_dict(), **replay}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        if self._replay is not None:
            self._replay.load_state_dict(state["replay"])

    def _update(self, rng: np.random.Generator) -> dict[str, float]:
        codes = self._codes(np.empty((self._config.batch, 0)))
        found = self._learner.sample(codes, rng=rng, exploration=self._config.exploration)
        self._count(found.steps)
        values = self._evaluated(found.objects)
        length = found.steps / len(found)
        if self._replay is not None:
            found, values = self._remixed(self._replay, found, values, rng)
        labels = pareto_labels(values)
        targets = torch.from_numpy(labels)
        readings = self._learner.improve(
            found, codes, lambda terms: losses.order_preserving(terms.implied, targets)
        )
        del readings["train/log_z"]  # the loss does not depend on it
        return {**readings, "train/labelled": float(labels.mean()), "train/length": length}

    def _remixed(
        self,
        replay: TrajectoryReplay,
        found: Trajectories,
        values: Front,
        rng: np.random.Generator,
    ) -> tuple[Trajectories, Front]:
        """Store a batch and draw another from all, with a share of nondominated ones."""
        replay.add(found.padded(self._core.horizon), values, front=self._archive.points)
        if len(replay) < self._config.replay_warmup:
            return found, values
        batch = self._config.batch
        best = round(self._config.front_share * batch)
        places = np.concatenate(
            [replay.draw(batch - best, rng=rng), replay.draw_front(best, rng=rng)]
        )
        codes = self._codes(np.empty((batch, 0)))
        again = self._learner.sampler.retrace(codes, replay.actions[places])
        return again, replay.values[places]

    def _codes(self, preferences: Front) -> Array:
        """Nothing: one sampler serves all preferences."""
        return np.zeros((len(preferences), 0), np.float32)
