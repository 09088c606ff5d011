from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import levers
import numpy as np
import pytest

from morl.evaluation import (
    EndlessEpisodeError,
    Episodes,
    choose,
    evaluate,
    evaluation_seeds,
    rollout,
)
from morl.types import MorlError, NonFiniteError, Solution


@dataclass
class Constant:
    """Always the same lever."""

    lever: int
    deterministic: bool = True

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        assert observations.ndim == 2
        return np.full(len(observations), self.lever)


@dataclass
class Coin:
    """Any lever, by chance."""

    deterministic: bool = False

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        return rng.integers(0, 4, len(observations))

    @classmethod
    def stack(cls, policies: Sequence[Coin]) -> Any:
        raise AssertionError("stochastic policies must not share a generator")


class StackedConstants:
    """Many constants in one call."""

    def __init__(self, policies: Sequence[Stackable]) -> None:
        self.levers = np.array([policy.lever for policy in policies])

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        policies, envs, _ = observations.shape
        assert policies == len(self.levers)
        return np.repeat(self.levers[:, None], envs, axis=1)


class Stackable(Constant):
    """A constant that may only act in a stack."""

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        raise AssertionError("was not stacked")

    @classmethod
    def stack(cls, policies: Sequence[Stackable]) -> StackedConstants:
        return StackedConstants(policies)


class Watched(levers.Levers):
    """Notes the masks it is given."""

    masks: list[Any]

    def set_active(self, mask: Any) -> None:
        self.masks.append(mask.copy())


def constants(*chosen: int) -> list[Solution]:
    return [Solution(Constant(lever)) for lever in chosen]


def test_returns_of_episodes_that_never_end_early_are_geometric_series() -> None:
    episodes = rollout(levers.task(stop=0.0), constants(0, 2), seeds=[5, 6, 7])
    total = (1 - 0.9**20) / (1 - 0.9)
    assert episodes.lengths.tolist() == [[20] * 3] * 2
    np.testing.assert_allclose(episodes.discounted[0], [[total, 0.0]] * 3, rtol=1e-12)
    np.testing.assert_allclose(episodes.undiscounted[1], [[12.0, 12.0]] * 3, rtol=1e-12)
    assert episodes.discounted.dtype == np.float64
    assert episodes.steps == 120


def test_the_mean_return_approaches_the_analytic_front() -> None:
    episodes = rollout(levers.task(), constants(0, 1, 2), seeds=list(range(4000)))
    np.testing.assert_allclose(episodes.points, levers.known_points(0.9), rtol=0.05)


def test_an_episode_counts_nothing_after_its_end() -> None:
    episodes = rollout(levers.task(), constants(0), seeds=list(range(50)))
    assert len(set(episodes.lengths[0].tolist())) > 5
    np.testing.assert_array_equal(episodes.undiscounted[0, :, 0], episodes.lengths[0])


def test_all_solutions_play_the_same_seeds() -> None:
    episodes = rollout(levers.task(noise=0.5), constants(2, 2), seeds=[3, 1, 4])
    np.testing.assert_array_equal(episodes.discounted[0], episodes.discounted[1])
    assert len(np.unique(episodes.discounted[0, :, 0])) == 3


@pytest.mark.parametrize("max_batch", [1, 3, 4, 10, 1000])
def test_results_do_not_depend_on_the_size_of_batches(max_batch: int) -> None:
    solutions = [Solution(Coin()), *constants(1), *(Solution(Coin()) for _ in range(4))]
    task = levers.task(noise=0.3)
    whole = rollout(task, solutions, seeds=[1, 2, 3], rng_seed=9)
    parts = rollout(task, solutions, seeds=[1, 2, 3], rng_seed=9, max_batch=max_batch)
    np.testing.assert_array_equal(parts.discounted, whole.discounted)
    np.testing.assert_array_equal(parts.lengths, whole.lengths)


def test_stochastic_policies_draw_from_their_own_stream_of_the_root() -> None:
    solutions = [Solution(Coin()), Solution(Coin())]
    first, again, other = (
        rollout(levers.task(), solutions, seeds=[1, 2], rng_seed=root).discounted
        for root in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_policies_of_one_class_act_stacked_and_alike() -> None:
    task = levers.task(noise=0.2)
    stacked = rollout(task, [Solution(Stackable(lever)) for lever in (0, 3, 1)], seeds=[1, 2])
    alone = rollout(task, constants(0, 3, 1), seeds=[1, 2])
    np.testing.assert_array_equal(stacked.discounted, alone.discounted)


def test_policies_of_different_classes_act_one_by_one() -> None:
    with pytest.raises(AssertionError, match="was not stacked"):
        rollout(levers.task(), [*constants(0), Solution(Stackable(1))], seeds=[1])


def test_a_batch_that_can_skip_is_told_who_still_runs() -> None:
    batches = []

    def factory(num_envs: int) -> Watched:
        batches.append(Watched(num_envs))
        batches[-1].masks = []
        return batches[-1]

    task = replace(levers.task(), factory=factory)
    watched = rollout(task, constants(0, 1), seeds=[1, 2, 3])
    plain = rollout(levers.task(), constants(0, 1), seeds=[1, 2, 3])
    np.testing.assert_array_equal(watched.discounted, plain.discounted)
    masks = batches[0].masks
    assert masks[0].all()
    assert all(later.sum() < earlier.sum() for earlier, later in pairwise(masks))
    assert len(masks) > 1


def test_batches_of_equal_size_are_made_once() -> None:
    sizes = []

    def factory(num_envs: int) -> levers.Levers:
        sizes.append(num_envs)
        return levers.Levers(num_envs)

    rollout(replace(levers.task(), factory=factory), constants(*[0] * 7), seeds=[1, 2], max_batch=6)
    assert sizes == [6, 4]


def test_a_nan_reward_is_refused_with_environment_seed_and_step() -> None:
    with pytest.raises(NonFiniteError, match=r"levers-v0: reward \[nan, .*seed 77, step 3"):
        rollout(levers.task(stop=0.0, nan_step=3), constants(0), seeds=[77])


def test_a_nan_after_the_end_of_an_episode_is_nobodys_business() -> None:
    def ends_at(step: int, seed: int) -> bool:
        rng = np.random.default_rng(seed)
        stops = [(rng.normal(), rng.random())[1] < levers.STOP for _ in range(step)]
        return stops.index(True) == step - 1 if any(stops) else False

    early = next(seed for seed in range(1000) if ends_at(2, seed))
    assert rollout(levers.task(nan_step=3), constants(0), seeds=[early]).lengths == [[2]]


def test_a_nan_action_is_refused() -> None:
    @dataclass
    class Broken(Constant):
        def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
            return np.full(len(observations), np.nan)

    with pytest.raises(NonFiniteError, match=r"levers-v0: action .*seed 4, step 1"):
        rollout(levers.task(), [Solution(Broken(0))], seeds=[4])


def test_rewards_of_another_shape_are_refused() -> None:
    spec = replace(
        levers.SPEC, objectives=levers.SPEC.objectives[:1], reference_point=(0.0,), box=None
    )
    with pytest.raises(MorlError, match=r"levers-v0: .* shape \(1, 2\), expected \(1, 1\)"):
        rollout(levers.task(spec=spec), constants(0), seeds=[1])


def test_an_episode_beyond_its_horizon_is_an_error() -> None:
    with pytest.raises(EndlessEpisodeError, match=r"levers-v0: .*beyond its horizon of 20 steps"):
        rollout(levers.task(stop=0.0, horizon=None), constants(0), seeds=[1])


def test_an_endless_episode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morl.evaluation.STEP_LIMIT", 50)
    spec = replace(levers.SPEC, horizon=None)
    with pytest.raises(EndlessEpisodeError, match=r"levers-v0: .*50 steps.*env\.horizon"):
        rollout(levers.task(spec=spec, stop=0.0), constants(0), seeds=[1])


def test_no_solutions_give_no_episodes() -> None:
    episodes = rollout(levers.task(), [], seeds=[1, 2])
    assert episodes.discounted.shape == (0, 2, 2)
    assert episodes.points.shape == (0, 2)


def test_a_rollout_needs_a_seed() -> None:
    with pytest.raises(ValueError, match=r"levers-v0.*at least one seed"):
        rollout(levers.task(), constants(0), seeds=[])


def test_episodes_can_be_cut_by_solution() -> None:
    episodes = Episodes(
        np.arange(12.0).reshape(3, 2, 2), np.zeros((3, 2, 2)), np.ones((3, 2), dtype=np.int64)
    )
    assert episodes[np.array([2])].points.tolist() == [[9.0, 10.0]]
    assert episodes[1:].steps == 4


def test_seed_streams_are_disjoint_fixed_and_prefixes_of_themselves() -> None:
    selection = evaluation_seeds(levers.SPEC, "selection", 500)
    report = evaluation_seeds(levers.SPEC, "report", 500)
    assert len(set(selection) | set(report)) == 1000
    assert evaluation_seeds(levers.SPEC, "report", 20) == report[:20]
    assert all(0 <= seed < 2**31 for seed in selection + report)
    other = replace(levers.SPEC, id="other-v0")
    assert not set(evaluation_seeds(other, "report", 500)) & set(report)


def test_seeds_do_not_depend_on_anything_that_a_user_may_change() -> None:
    changed = replace(levers.SPEC, discount=0.5, reference_point=(-9.0, -9.0), horizon=3)
    assert evaluation_seeds(changed, "report", 5) == evaluation_seeds(levers.SPEC, "report", 5)


@pytest.mark.parametrize(
    ("name", "count", "message"), [("train", 1, "no seed stream"), ("report", 0, "got 0")]
)
def test_a_seed_stream_that_makes_no_sense_is_refused(name: Any, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation_seeds(levers.SPEC, name, count)


def test_the_front_is_chosen_on_one_stream_and_judged_on_the_other() -> None:
    task = levers.task(noise=0.1)
    solutions = constants(3, 0, 2, 1, 0)
    found = evaluate(task, solutions, selection_seeds=[1, 2, 3], report_seeds=[4, 5])
    assert found.chosen.tolist() == [1, 2, 3]
    again = rollout(task, [solutions[index] for index in (1, 2, 3)], seeds=[4, 5])
    np.testing.assert_array_equal(found.report.discounted, again.discounted)
    assert found.selection.discounted.shape == (5, 3, 2)
    assert found.env_steps == found.selection.lengths.sum() + found.report.lengths.sum()


def test_streams_that_share_a_seed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share the seeds \[2\]"):
        evaluate(levers.task(), constants(0), selection_seeds=[1, 2], report_seeds=[2, 3])


def test_of_equal_points_the_first_is_chosen() -> None:
    points = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert choose(points).tolist() == [0, 1]
