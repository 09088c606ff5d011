"""Budget, schedules and archives that agents share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from morl.agents.learners.core.archives import (
    archive_solutions,
    archive_state,
    empty_archive,
    restore_archive,
)
from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.errors import BudgetError
from morl.agents.learners.core.schedules import linear, linear_decay
from morl.archive import ArchiveError, ParetoArchive
from morl.preferences import PreferenceError
from morl.types import State


class Constant:
    """A policy of one action."""

    deterministic = True

    def __init__(self, action: int) -> None:
        self.action = action

    def act(
        self, observations: NDArray[np.int64], *, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        del rng
        return np.full(len(observations), self.action)


def three_members() -> ParetoArchive[int]:
    archive: ParetoArchive[int] = empty_archive(2, 10)
    for point, item in (([0.0, 3.0], 7), ([2.0, 2.0], 8), ([3.0, 0.0], 9)):
        archive.add(point, item)
    return archive


def pack(items: object) -> State:
    return {"items": np.array(items)}


def test_a_budget_counts_to_its_end() -> None:
    budget = Budget(total_steps=100)
    assert budget.goal(30) == 30
    budget.spend(90)
    assert (budget.steps, budget.remaining, budget.progress) == (90, 10, 0.9)
    assert budget.fits(10)
    assert not budget.fits(11)
    assert budget.goal(30) == 100


def test_a_budget_below_one_round_is_refused_with_the_remedy() -> None:
    with pytest.raises(BudgetError) as refusal:
        Budget(total_steps=9).require(
            10, env_id="e-v0", round_name="update", settings=("num_envs", "rollout_steps")
        )
    assert str(refusal.value) == (
        "e-v0: a budget of 9 steps is less than one update (10 steps); raise steps or lower "
        "agent.num_envs or agent.rollout_steps"
    )
    Budget(total_steps=10).require(10, env_id="e-v0", round_name="update", settings=())


def test_schedules_are_straight_lines() -> None:
    assert linear(0.25, start=1.0, end=0.2, until=0.5) == pytest.approx(0.6)
    assert linear(0.9, start=1.0, end=0.2, until=0.5) == pytest.approx(0.2)
    assert linear(0.0, start=1.0, end=0.2, until=0.0) == pytest.approx(0.2)
    assert linear_decay(0.5, final=0.1) == pytest.approx(0.55)
    assert linear_decay(2.0, final=0.1) == pytest.approx(0.1)


def test_each_preference_gets_the_member_of_the_largest_weighted_sum() -> None:
    preferences = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    answers = archive_solutions(three_members(), Constant, preferences)
    assert [answer.policy.action for answer in answers] == [9, 8, 7]  # type: ignore[attr-defined]
    assert np.array_equal(answers[1].preference, [0.5, 0.5])  # type: ignore[arg-type]
    everyone = archive_solutions(three_members(), Constant)
    assert [answer.policy.action for answer in everyone] == [7, 8, 9]  # type: ignore[attr-defined]
    with pytest.raises(PreferenceError):
        archive_solutions(three_members(), Constant, np.array([[0.5, 0.6]]))


def test_an_empty_archive_answers_with_the_fallback() -> None:
    empty: ParetoArchive[int] = empty_archive(2, 10)
    wanted = np.array([[0.5, 0.5]])
    assert list(archive_solutions(empty, Constant)) == []
    assert list(archive_solutions(empty, Constant, wanted)) == []
    (answer,) = archive_solutions(empty, Constant, wanted, fallback=lambda: 4)
    assert answer.policy.action == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("members", [0, 3])
def test_an_archive_survives_its_state(members: int) -> None:
    archive = three_members() if members else empty_archive(2, 10)
    state = archive_state(archive, pack)
    copy: ParetoArchive[int] = empty_archive(2, 10)
    copy.add([100.0, 100.0], 1)
    restore_archive(copy, state, lambda saved, index: int(saved["items"][index]))
    assert copy.items == archive.items
    assert np.array_equal(copy.points, archive.points)


def test_restoring_gives_the_archive_that_adding_gives() -> None:
    rng = np.random.default_rng(3)
    grown: ParetoArchive[int] = empty_archive(3, 20)
    for item, point in enumerate(rng.normal(size=(400, 3))):
        grown.add(point, item)
    restored: ParetoArchive[int] = empty_archive(3, 20)
    restored.restore(grown.points, grown.items)
    for item, point in enumerate(rng.normal(size=(200, 3)), start=400):
        assert grown.add(point, item) == restored.add(point, item)
    assert restored.items == grown.items
    assert np.array_equal(restored.points, grown.points)


def test_what_cannot_be_restored_is_refused() -> None:
    archive: ParetoArchive[int] = empty_archive(2, 2)
    with pytest.raises(ArchiveError, match=r"1 items need points of shape \(1, 2\), got \(1, 3\)"):
        archive.restore([[1.0, 2.0, 3.0]], [1])
    with pytest.raises(ArchiveError, match="not finite"):
        archive.restore([[1.0, np.nan]], [1])
    with pytest.raises(ArchiveError, match="3 members exceed the capacity of 2"):
        archive.restore([[0.0, 3.0], [2.0, 2.0], [3.0, 0.0]], [1, 2, 3])
    with pytest.raises(ArchiveError, match="empty"):
        archive.best_for([[0.5, 0.5]])


def test_an_archive_holds_at_least_the_best_of_each_objective() -> None:
    assert empty_archive(3, 1).capacity == 3
    assert empty_archive(3, 9).capacity == 9
