"""CAPQL: conditioned soft actor-critic with a fixed temperature and a cone of preferences.

Lu, Herman and Yu, "Multi-Objective Reinforcement Learning: Convexity, Stationarity and Pareto
Optimality" (ICLR 2023): the entropy makes weighted sums strictly concave. With ``relabelled=1`` it
is CAPQL with hindsight preferences. See `docs/agents/capql.md` for what differs from the paper and
its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.conditioned_sac import SMOKE
from morl.agents.learners.actor_critic.agent import ActorCriticAgent, ActorCriticConfig
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.search_space import bounded
from morl.types import Task


@dataclass
class Config(ActorCriticConfig):
    """Settings of CAPQL, in addition to those of the core.

    Attributes:
        cone_degrees: largest angle between a preference of the behaviour and equal weights; None
            for the whole simplex.
        redrawn_every_step: whether the behaviour's preference changes at every step, as in the
            authors' code, or with the episode.
    """

    learning_rate: float = 3e-4
    final_learning_rate: float = 1.0
    actor_delay: int = 1
    twins: str = "elementwise"
    temperature: float = 0.2
    learned_temperature: bool = False
    relabelled: float = 0.0
    cone_degrees: float | None = bounded(22.5, low=0.0, high=90.0, open_low=True)
    redrawn_every_step: bool = True


@register_agent("capql", config=Config, acts=Capabilities(actions=("box",), smoke=SMOKE))
class CAPQL(ActorCriticAgent):
    """Acts for preferences of a cone and learns for those that it acted for.

    Args:
        task: what to learn; its actions are a one-dimensional box.
        config: settings.
        total_steps: budget in true environment steps.
        seed: root of every random stream.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._cone, self._every_step = config.cone_degrees, config.redrawn_every_step
        super().__init__(task, config, total_steps=total_steps, seed=seed, name="capql")

    def _redraw(self, ended: NDArray[np.bool_]) -> None:
        super()._redraw(np.ones_like(ended) if self._every_step else ended)

    def _preferences(self, count: int) -> NDArray[np.float32]:
        if self._cone is None:
            return super()._preferences(count)
        objectives = self._task.spec.num_objectives
        return cone_preferences(objectives, count, degrees=self._cone, rng=self._rng)


def cone_preferences(
    num_objectives: int, count: int, *, degrees: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Preferences at most so many degrees from equal weights, (count, objective).

    A direction is drawn uniformly among those at right angles to equal weights and an angle
    uniformly up to the largest, as in the authors' code; directions that leave the positive
    orthant are cut off at its faces.

    Args:
        num_objectives: length of a preference.
        count: number of preferences.
        degrees: largest angle.
        rng: source of randomness.
    """
    if num_objectives == 1:
        return np.ones((count, 1), np.float32)
    normal = rng.standard_normal((count, num_objectives))
    across = normal - normal.mean(axis=1, keepdims=True)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    angle = np.deg2rad(degrees) * rng.random((count, 1))
    middle = np.full(num_objectives, num_objectives**-0.5)
    drawn = np.clip(np.cos(angle) * middle + np.sin(angle) * across, 0.0, None)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), np.float32)
