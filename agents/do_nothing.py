"""Doing nothing: the policy that every agent should beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.fixed_agent import ConstantPolicy, FixedAgent
from morl.capabilities import Capabilities
from morl.registry import register_agent
from morl.types import Task


@dataclass
class Config:
    """Settings of doing nothing.

    Attributes:
        idle_action: the discrete action that does nothing; by default the one that the
            environment's spec names. Without meaning where actions are vectors.
    """

    idle_action: int | None = None


@register_agent(
    "do_nothing",
    config=Config,
    acts=Capabilities(masks=True, learns=False, smoke={"idle_action": 0}),
)
class DoNothing(FixedAgent):
    """Rests: the zero vector, or the nearest to it in bounds, or the idle action.

    Args:
        task: where to rest.
        config: settings.
        total_steps: of no importance, as is `seed`.
        seed: see there.

    Raises:
        UnsupportedTaskError: if actions are discrete and none is known to be idle.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:  # noqa: ARG002 - as every agent
        batch = task.make_vec(1)
        space = batch.single_action_space
        batch.close()
        super().__init__([ConstantPolicy(_rest(space, task, config))])


def _rest(space: Any, task: Task, config: Config) -> NDArray[Any]:  # noqa: ANN401 - any space
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    idle = task.spec.idle_action if config.idle_action is None else config.idle_action
    if idle is None:
        raise UnsupportedTaskError(
            f"{task.spec.id}: do_nothing knows no idle action of {space}; name the one that does "
            "least, for example agent.idle_action=0"
        )
    if idle not in space:
        raise UnsupportedTaskError(f"{task.spec.id}: idle_action {idle} is not in {space}")
    return np.array(idle, np.int64)
