"""What an agent can act in, declared where it is registered.

An agent says which actions it knows, how many objectives, which environments;
`Capabilities.refusal` compares that with a task. The registry, the command line, suites and
contract tests read it, so that nobody keeps a list by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from gymnasium import Space, spaces

from morl.types import Task

ActionKind: TypeAlias = Literal["discrete", "box"]
"""``Discrete`` actions, or vectors of a one-dimensional, bounded or unbounded ``Box``."""

_WORDS: Mapping[str, str] = {
    "discrete": "discrete actions",
    "box": "continuous actions (a one-dimensional Box)",
}


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an agent can act in, and how it acts.

    Attributes:
        actions: kinds of actions that it knows.
        objects: whether it needs an environment whose episodes build objects, those with a
            ``CompositionalCore``.
        masks: whether it respects ``infos["action_mask"]``; without, an environment whose spec
            says `masks_actions` is refused.
        countable_observations: whether it needs observations of integers, since it keeps a table.
        min_objectives: least number of objectives.
        max_objectives: greatest number of objectives, or None.
        environments: ids of the only environments that it knows, with "*" for any letters
            ("building-*"); empty for all.
        extra: the extra of the distribution that it needs, or None.
        stateful: whether its policies have a memory.
        learns: whether experience changes it; False for reference policies.
        smoke: settings under which a test of a few seconds runs.

    Raises:
        ValueError: an unknown kind of actions, or numbers of objectives that exclude each other.
    """

    actions: tuple[ActionKind, ...] = ("discrete", "box")
    objects: bool = False
    masks: bool = False
    countable_observations: bool = False
    min_objectives: int = 1
    max_objectives: int | None = None
    environments: tuple[str, ...] = ()
    extra: str | None = None
    stateful: bool = False
    learns: bool = True
    smoke: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a declaration that no task can fit."""
        unknown = [kind for kind in self.actions if kind not in get_args(ActionKind)]
        if unknown or not self.actions:
            raise ValueError(f"actions must be some of discrete, box, got {self.actions}")
        if self.min_objectives < 1:
            raise ValueError(f"min_objectives must be at least 1, got {self.min_objectives}")
        if self.max_objectives is not None and self.max_objectives < self.min_objectives:
            raise ValueError(
                f"max_objectives must be at least min_objectives ({self.min_objectives}), got "
                f"{self.max_objectives}"
            )
        object.__setattr__(self, "smoke", MappingProxyType(dict(self.smoke)))

    def refusal(self, task: Task) -> str | None:
        """Why the agent cannot act in a task, or None if nothing speaks against it.

        Makes one environment of the task to look at its actions, and closes it again.
        """
        spec = task.spec
        if self.environments and not any(fnmatchcase(spec.id, one) for one in self.environments):
            return f"it knows {' and '.join(self.environments)} alone"
        if spec.num_objectives < self.min_objectives:
            return f"it needs at least {self.min_objectives} objectives, not {spec.num_objectives}"
        if self.max_objectives is not None and spec.num_objectives > self.max_objectives:
            return f"it knows at most {self.max_objectives} objectives, not {spec.num_objectives}"
        if spec.masks_actions and not self.masks:
            return "it does not know that actions can be illegal, and the environment masks them"
        batch = task.make_vec(1)
        try:
            space, observed = batch.single_action_space, batch.single_observation_space
            builds_objects = getattr(batch, "core", None) is not None
        finally:
            batch.close()
        if self.objects and not builds_objects:
            return "it needs an environment whose episodes build objects"
        if self.countable_observations and np.dtype(observed.dtype).kind not in "iub":
            return f"it keeps a table of states and needs observations of integers, not {observed}"
        return self._space_refusal(space)

    def _space_refusal(self, space: Space[Any]) -> str | None:
        known = {
            "discrete": isinstance(space, spaces.Discrete),
            "box": isinstance(space, spaces.Box) and len(space.shape) == 1,
        }
        if any(known[kind] for kind in self.actions):
            return None
        return f"it knows {' and '.join(_WORDS[kind] for kind in self.actions)}, not {space}"
