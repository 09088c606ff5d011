"""From an archive of policies to solutions, and to a state and back: one way for all agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from morl.archive import ParetoArchive
from morl.preferences import check_preferences
from morl.types import Front, Policy, Solution, State

T = TypeVar("T")


def empty_archive(num_objectives: int, capacity: int) -> ParetoArchive[T]:
    """An archive of the capacity asked for, or of one member per objective where that is more."""
    return ParetoArchive(num_objectives, capacity=max(capacity, num_objectives))


def archive_solutions(
    archive: ParetoArchive[T],
    make_policy: Callable[[T], Policy],
    preferences: Front | None = None,
    *,
    fallback: Callable[[], T] | None = None,
) -> Sequence[Solution]:
    """All members as solutions, or for each preference the member of the largest weighted sum.

    A preference never seen in training costs one arg-max over the stored points.

    Args:
        archive: members by the points that they reached.
        make_policy: the policy of a member.
        preferences: shape (preference, objective), or None for all members.
        fallback: what answers preferences while the archive is empty; by default there is no
            solution then.

    Raises:
        PreferenceError: preferences of a wrong shape, negative or not finite.
    """
    members = archive.items
    if preferences is None:
        return [Solution(make_policy(member)) for member in members]
    wanted = check_preferences(preferences, num_objectives=archive.num_objectives)
    if not members:
        if fallback is None:
            return []
        policy = make_policy(fallback())
        return [Solution(policy, preference) for preference in wanted]
    best = archive.best_for(wanted).tolist()
    return [
        Solution(make_policy(members[index]), preference)
        for index, preference in zip(best, wanted, strict=True)
    ]


def archive_state(archive: ParetoArchive[T], pack: Callable[[Sequence[T]], State]) -> State:
    """Points and members of an archive as a state.

    Args:
        archive: to be saved.
        pack: the members as a state; its keys must not include "points". It is not called for an
            archive without members.
    """
    members = archive.items
    return {"points": archive.points, **(pack(members) if members else {})}


def restore_archive(
    archive: ParetoArchive[T], state: State, unpack: Callable[[State, int], T]
) -> None:
    """Replace the members of an archive by those of `archive_state`, in linear time.

    Args:
        archive: of the same number of objectives and capacity as the saved one.
        state: what `archive_state` returned.
        unpack: a member from the state and its index.

    Raises:
        ArchiveError: the points do not fit the archive.
    """
    count = len(state["points"])
    archive.restore(state["points"], [unpack(state, index) for index in range(count)])
