"""Envelope Q-learning: masks, schedules, resume, bad input, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from morl.agents.envelope_q import Config, EnvelopeQ
from morl.agents.learners.conditioned.networks import UnfitNetworkError
from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.compositional import core_of
from morl.envs import make_task
from morl.evaluation import rollout
from morl.indicators import hypervolume
from morl.preferences import PreferenceError
from morl.testing import check_agent
from morl.types import NonFiniteError, Task

TINY: dict[str, Any] = {
    "num_envs": 4, "collect_steps": 5, "updates": 2, "batch": 8, "preferences": 3,
    "warmup_steps": 20, "replay_capacity": 400, "hidden": (8, 8),
}  # fmt: skip
STRICT = {"illegal": "error"}


def agent(task: Task, *, total_steps: int = 400, seed: int = 0, **settings: Any) -> EnvelopeQ:
    return EnvelopeQ(task, Config(**{**TINY, **settings}), total_steps=total_steps, seed=seed)


@pytest.mark.parametrize("double_q", [True, False])
def test_it_keeps_its_contract_in_an_ordinary_environment(double_q: bool) -> None:
    config = Config(**TINY, double_q=double_q)
    check_agent(EnvelopeQ, config, make_task("fruit-tree-v0"), total_steps=400).raise_for_failures()


def test_it_keeps_its_contract_where_rows_say_what_is_available() -> None:
    # The environment raises for an unavailable action: a finished training has chosen none.
    task = make_task("mec-offloading-v0", kwargs={"contexts": "train", "unavailable": "error"})
    config = Config(**{**TINY, "replay_capacity": 2000})
    check_agent(EnvelopeQ, config, task, total_steps=400).raise_for_failures()


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("hypergrid-v0", {"height": 5, **STRICT}),
        ("n-grams-v0", {"ngrams": ["A", "C"], "min_length": 3, "max_length": 4, **STRICT}),
    ],
)
def test_it_keeps_its_contract_on_objects_and_takes_legal_actions_alone(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    task = make_task(env_id, kwargs=kwargs)
    check_agent(EnvelopeQ, Config(**TINY), task, total_steps=400).raise_for_failures()


def test_solutions_take_legal_actions_whatever_the_network_says() -> None:
    task = make_task("hypergrid-v0", kwargs={"height": 4, "edge": "stay", **STRICT})
    learner = agent(task)
    policy = learner.solutions(np.array([[0.5, 0.5]]))[0].policy
    core = core_of(task)
    corner = core.encode(np.array([[3, 3], [3, 0], [0, 3]]))
    actions = policy.act(corner, rng=np.random.default_rng(0))
    assert core.mask(np.array([[3, 3], [3, 0], [0, 3]]))[np.arange(3), actions].all()


def test_exploration_falls_in_a_line_and_the_homotopy_grows_to_its_end() -> None:
    learner = agent(
        make_task("fruit-tree-v0"), initial_exploration=0.9, final_exploration=0.1,
        exploration_share=0.5, final_homotopy=0.8, homotopy_power=2.0,
    )  # fmt: skip
    assert (learner.exploration, learner.homotopy) == (0.9, 0.0)
    learner.learn(100)
    assert learner.exploration == pytest.approx(0.5)
    assert learner.homotopy == pytest.approx(0.8 / 16)
    metrics = learner.learn(300)
    assert metrics["train/exploration"] == pytest.approx(0.1)
    assert metrics["train/homotopy"] == pytest.approx(0.8)


def test_without_exploration_actions_are_greedy_and_with_all_of_it_they_are_even() -> None:
    learner = agent(make_task("fruit-tree-v0"), encoding="raw").learner
    view, rng = learner.view(np.ones(6)), np.random.default_rng(0)
    observations = np.zeros((1, 2000, 2), np.float32)
    preferences = np.full((1, 2000, 6), 1 / 6, np.float32)
    learner.exploration = 0.0
    assert len(np.unique(learner.act(observations, preferences, view, rng=rng))) == 1
    learner.exploration = 1.0
    assert learner.act(observations, preferences, view, rng=rng).mean() == pytest.approx(
        0.5, abs=0.05
    )


def test_random_actions_are_legal_ones() -> None:
    task = make_task("hypergrid-v0", kwargs={"height": 4, "edge": "stay"})
    learner = agent(task).learner
    observations = core_of(task).encode(np.tile([3, 0], (300, 1)))[None]
    preferences = np.full((1, 300, 2), 0.5, np.float32)
    found = learner.act(
        observations, preferences, learner.view(np.ones(2)), rng=np.random.default_rng(0)
    )
    assert set(np.unique(found)) == {1, 2}


def test_answers_carry_the_preferences_they_were_asked_for() -> None:
    learner = agent(make_task("fruit-tree-v0"))
    wanted = np.eye(6)[:2]
    assert [solution.preference.tolist() for solution in learner.solutions(wanted)] == (
        wanted.tolist()
    )
    # Six objectives have front points that a coarse lattice never asks for.
    assert len(learner.solutions()) == 462
    assert len(agent(make_task("fruit-tree-v0"), divisions=4).solutions()) == 126
    with pytest.raises(PreferenceError):
        learner.solutions(np.array([[0.5, 0.6, 0, 0, 0, 0]]))


def test_a_loss_that_is_not_finite_names_the_environment_and_a_remedy() -> None:
    learner = agent(make_task("fruit-tree-v0"), reward_scales=(1e30,) * 6)
    with pytest.raises(NonFiniteError, match=r"fruit-tree-v0.*agent\.reward_scales"):
        learner.learn(400)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preferences": 0}, "preferences must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"homotopy_power": -1.0}, "homotopy_power must be positive"),
        ({"final_homotopy": 1.5}, r"final_homotopy must be in \[0, 1\]"),
        ({"hidden": ()}, "at least one unit"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**settings)


def test_continuous_actions_are_refused_with_another_agent_named() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"water-reservoir-v0.*c_morl"):
        agent(make_task("water-reservoir-v0"))


def test_rows_take_two_layers() -> None:
    with pytest.raises(UnfitNetworkError, match=r"agent\.hidden takes two"):
        agent(make_task("mec-offloading-v0"), hidden=(8,))


def test_it_finds_the_front_of_a_small_grid() -> None:
    task = make_task("hypergrid-v0", kwargs={"height": 4, "objectives": ["currin", "shubert"]})
    learner = agent(
        task, total_steps=12_000, num_envs=16, updates=4, batch=32, warmup_steps=500,
        replay_capacity=10_000, hidden=(32, 32), learning_rate=3e-3, divisions=20,
    )  # fmt: skip
    learner.learn(12_000)
    points = rollout(task, learner.solutions(), seeds=[1]).discounted[:, 0]
    # A linear utility reaches the corners of the front's convex hull and no more.
    front = core_of(task).reference_front()
    best = (learner.solutions()[0].preference, *np.eye(2))
    assert all((points @ w).max() >= 0.97 * (front @ w).max() for w in best)
    assert hypervolume(points, (0.0, 0.0)).value > 0.9 * task.spec.anchors["exact"]
