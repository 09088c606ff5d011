"""Is a record about a task of the board? Only what was measured alike shares a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morl.experiments.leaderboard.ledger import LeaderboardError

Record = Mapping[str, Any]
"""A result as in ``result.json``."""


def task_of_record(record: Record, tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Name of the task that a record is about.

    Raises:
        LeaderboardError: there is none, or the record was made by another protocol; names every
            difference.
    """
    env = record["env"]
    near = {
        name: task
        for name, task in tasks.items()
        if task["id"] == env["id"] and task["kwargs"] == env["kwargs"]
    }
    if not near:
        raise LeaderboardError(
            f"{env['id']}{_kwargs(env['kwargs'])} is not among the tasks of this board: "
            f"{', '.join(tasks)}"
        )
    found = {name: differences(record, task) for name, task in near.items()}
    for name, differing in found.items():
        if not differing:
            return name
    name, differing = min(found.items(), key=lambda item: len(item[1]))
    raise LeaderboardError(f"another protocol than that of {name}: {'; '.join(differing)}")


def differences(record: Record, task: Mapping[str, Any]) -> list[str]:
    """What of a record's protocol is not that of a task, in words."""
    protocol, env = record["protocol"], record["env"]
    pairs = {
        "protocol": (protocol["id"], task["protocol"]),
        "discount": (protocol["discount"], task["discount"]),
        "reference point": (protocol["reference_point"], task["reference_point"]),
        "objectives": (protocol["objectives"], [name for name, _ in task["objectives"]]),
        "lower corner of the box": (protocol["box_low"], task["box_low"]),
        "upper corner of the box": (protocol["box_high"], task["box_high"]),
        "selection episodes": (protocol["selection_episodes"], task["selection_episodes"]),
        "report episodes": (protocol["report_episodes"], task["report_episodes"]),
        "step limit": (env["max_steps"], task["horizon"]),
        "budget in steps": (record["config"].get("steps"), task["steps"]),
    }
    if task["package_version"] is not None:
        pairs[f"version of {task['package']}"] = (env["version"], task["package_version"])
    return [
        f"{name} {_shown(found)}, not {_shown(wanted)}"
        for name, (found, wanted) in pairs.items()
        if found != wanted
    ]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(_shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kwargs(kwargs: Mapping[str, Any]) -> str:
    if not kwargs:
        return ""
    return " with " + ", ".join(f"{name}={value}" for name, value in kwargs.items())
