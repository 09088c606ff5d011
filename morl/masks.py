"""Which actions are legal: one way to say it, and the checks that everybody shares.

An environment whose spec says `masks_actions` returns ``infos["action_mask"]``, Gymnasium's word,
from `reset` and `step`: booleans (env, action), True where the next action may be taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.types import EnvSpec, MorlError, NoLegalActionError

ActionMasks: TypeAlias = NDArray[np.bool_]
"""True where an action is legal, (env, action) or (policy, env, action)."""

ACTION_MASK = "action_mask"
"""Key of the masks in infos."""


class MaskError(MorlError, ValueError):
    """An environment that masks, and does not return masks as it must."""


def action_masks(
    spec: EnvSpec, infos: Mapping[str, Any], *, running: NDArray[np.bool_]
) -> ActionMasks | None:
    """The masks of the next actions, or None where the environment does not mask.

    Args:
        spec: of the environment.
        infos: as `reset` or `step` returned them.
        running: shape (env,). Environments whose episode is over and ignored may forbid
            everything; every action is then legal.

    Returns:
        Booleans (env, action), at least one True in each row; a copy.

    Raises:
        MaskError: masks are missing, or have the wrong shape or type.
        NoLegalActionError: every action of a running environment is forbidden.
    """
    if not spec.masks_actions:
        return None
    masks = _checked(spec, infos, num_envs=len(running)).copy()
    stuck = ~masks.any(axis=1)
    if (stuck & running).any():
        index = int(np.flatnonzero(stuck & running)[0])
        raise NoLegalActionError(
            f"{spec.id}: infos['{ACTION_MASK}'] forbids all {masks.shape[1]} actions of "
            f"environment {index}; where nothing can be done, end the episode or allow an action "
            "that does nothing"
        )
    masks[stuck] = True
    return masks


def _checked(spec: EnvSpec, infos: Mapping[str, Any], *, num_envs: int) -> ActionMasks:
    found = infos.get(ACTION_MASK)
    if found is None:
        raise MaskError(
            f"{spec.id}: its spec says masks_actions, but infos have no {ACTION_MASK!r}; there are "
            f"{sorted(infos) or 'none'}"
        )
    masks = np.asarray(found)
    if masks.dtype != np.bool_ or masks.ndim != 2 or len(masks) != num_envs:
        raise MaskError(
            f"{spec.id}: infos['{ACTION_MASK}'] must be booleans (env, action) of {num_envs} "
            f"environments, got {masks.dtype} of shape {masks.shape}"
        )
    return masks


def takes_masks(policy: object) -> bool:
    """Whether ``policy.act`` has the keyword ``action_masks``."""
    act = getattr(policy, "act", None)
    return act is not None and "action_masks" in inspect.signature(act).parameters


def masked(outputs: NDArray[Any], masks: ActionMasks | None) -> NDArray[Any]:
    """Scores of actions (..., action), minus infinity where an action is illegal."""
    return outputs if masks is None else np.where(masks, outputs, -np.inf)


def nearest_legal(masks: ActionMasks, actions: NDArray[Any]) -> NDArray[np.int64]:
    """Each action where it is legal, else the next legal one in cyclic order.

    Args:
        masks: (env, action), at least one legal action in each row.
        actions: (env,).
    """
    count = masks.shape[1]
    ahead = (np.asarray(actions, np.int64)[:, None] + np.arange(count)) % count
    offset = np.take_along_axis(masks, ahead, axis=1).argmax(axis=1)
    return np.asarray((actions + offset) % count, np.int64)
