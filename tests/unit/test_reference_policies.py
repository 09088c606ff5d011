"""Reference policies rest, or undo the model of a building."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from morl.agents.building_controller import BuildingController, InversePolicy, _bounded_inverse
from morl.agents.building_controller import Config as BuildingControllerConfig
from morl.agents.do_nothing import Config as DoNothingConfig
from morl.agents.do_nothing import DoNothing
from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.envs import make_task
from morl.envs.building import HOURS, PRICES, BuildingVectorEnv, building_model
from morl.evaluation import rollout
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.run import run
from morl.indicators import hypervolume
from morl.registry import AGENTS, ENVS
from morl.testing import check_agent
from morl.types import Task

STARTS = np.arange(6, 201, 10)
"""Some of the hours in which an episode can begin, evenly spread."""


def resting(name: str, *, idle_action: int | None = None) -> NDArray[np.float64]:
    task = make_task(name)
    agent = DoNothing(task, DoNothingConfig(idle_action), total_steps=1, seed=0)
    return rollout(task, agent.solutions(), seeds=[0, 1]).discounted[0].mean(axis=0)


def controller(task: Task, strengths: int = 11) -> BuildingController:
    config = BuildingControllerConfig(strengths=strengths)
    return BuildingController(task, config, total_steps=1, seed=0)


def test_a_cart_that_rests_burns_the_fuel_of_an_idle_engine():
    # -0.02 a step for 1,000 steps at discount 0.98.
    np.testing.assert_allclose(
        resting("minecart-v0"), [0, 0, -0.02 * (1 - 0.98**1000) / 0.02], rtol=1e-6
    )


def test_resting_in_a_box_is_zero_or_the_nearest_to_it():
    np.testing.assert_allclose(resting("building-3d-v0")[1:], [23 * 480, 23 * 478])
    agent = DoNothing(make_task("water-reservoir-v0"), DoNothingConfig(), total_steps=1, seed=0)
    [solution] = agent.solutions()
    assert solution.policy.act(np.zeros((2, 1)), rng=np.random.default_rng(0)).tolist() == [
        [0],
        [0],
    ]


def test_resting_where_no_action_is_idle_is_refused_unless_one_is_named():
    with pytest.raises(UnsupportedTaskError, match=r"deep-sea-treasure-v0.*agent\.idle_action"):
        resting("deep-sea-treasure-v0")
    with pytest.raises(UnsupportedTaskError, match="idle_action 4 is not in"):
        resting("deep-sea-treasure-v0", idle_action=4)
    # Against the left wall for 100 steps.
    assert resting("deep-sea-treasure-v0", idle_action=2)[0] == 0.0


def test_the_action_named_in_a_spec_is_one_that_rests():
    named = {name: ENVS[name].spec_for().idle_action for name in ENVS}
    assert named["minecart-v0"] == 5
    assert named["mo-mountaincar-v0"] == 1
    assert named["building-3d-v0"] is None


def test_only_buildings_are_controlled():
    with pytest.raises(UnsupportedTaskError, match=r"minecart-v0.*building-3d-v0"):
        controller(make_task("minecart-v0"))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        BuildingControllerConfig(strengths=1)


@pytest.mark.parametrize("name", ["building-3d-v0", "building-9d-v0"])
def test_agents_that_do_not_learn_keep_the_contract(name):
    task = make_task(name)
    for agent in ("do_nothing", "building_controller"):
        entry = AGENTS[agent]
        report = check_agent(entry.make, entry.config(), task, total_steps=100)
        report.raise_for_failures()
        assert "does not learn" in str(report)


def test_the_weight_of_comfort_decides_the_strength():
    agent = controller(make_task("building-9d-v0"))
    preferences = np.array([[0.1, 0.2, 0.1, 0.6, 0, 0, 0, 0, 0], [0] * 8 + [1]])
    strengths = [one.policy.strength for one in agent.solutions(preferences)]
    assert strengths == pytest.approx([0.4, 0.0])


def test_the_inverse_without_bounds_is_that_of_linear_algebra():
    gain = building_model().actuation
    powers = np.random.default_rng(0).uniform(-0.9, 0.9, (20, 23))
    found = _bounded_inverse(powers @ gain.T, np.ascontiguousarray(gain))
    np.testing.assert_allclose(found, powers, atol=1e-8)


def test_within_bounds_no_zone_misses_its_target_without_full_power():
    gain = np.ascontiguousarray(building_model().actuation)
    wanted = np.random.default_rng(1).normal(0, 6, (50, 23))
    powers = _bounded_inverse(wanted, gain)
    missing = wanted - powers @ gain.T
    assert np.abs(powers).max() <= 1.0
    full = np.abs(powers) == 1.0
    assert 0.2 < full.mean() < 0.8
    np.testing.assert_allclose(missing[~full], 0.0, atol=1e-6)
    # Full power goes in the direction in which a zone is still off.
    assert (missing[full] * powers[full] >= -1e-6).all()


def one_for_every_start(name: str) -> tuple[BuildingVectorEnv, NDArray[np.float32]]:
    """A building for every one of `STARTS`, at mean prices."""
    seeds: dict[int, int] = {}
    probe = BuildingVectorEnv(1)
    for seed in itertools.count():
        probe.reset(seed=seed)
        seeds.setdefault(int(probe._starts[0]), seed)
        if seeds.keys() >= set(STARTS.tolist()):
            break
    batch = BuildingVectorEnv(len(STARTS), env_id=name)
    observations, _ = batch.reset(seed=[seeds[start] for start in STARTS.tolist()])  # type: ignore[arg-type]
    for i, start in enumerate(STARTS):
        batch._prices[i] = np.take(PRICES, np.arange(start, start + HOURS), mode="wrap")
    return batch, observations


def test_the_controller_knows_the_weather_of_every_hour_but_few():
    batch, observations = one_for_every_start("building-3d-v0")
    policy = InversePolicy(batch.model, 0.5)
    wrong = 0
    for hour in range(HOURS):
        actions = policy.act(observations, rng=np.random.default_rng(0))
        wrong += int((policy._coming.sum(axis=1) > 1).sum())
        known = policy._coming[np.arange(len(STARTS)), batch._starts + hour]
        assert known.all()
        observations = batch.step(actions)[0]
        if hour == 24:
            assert (policy._coming.sum(axis=1) == 1).mean() > 0.99
    assert wrong < 0.01 * HOURS * len(STARTS)


def test_the_controller_starts_anew_with_every_episode():
    task = make_task("building-3d-v0")
    [_, _, once] = [s.policy for s in controller(task, strengths=3).solutions()]
    [_, _, twice] = [s.policy for s in controller(task, strengths=3).solutions()]
    batch = task.make_vec(3)
    rng = np.random.default_rng(0)
    observations, _ = batch.reset(seed=5)
    for _ in range(30):
        observations = batch.step(twice.act(observations, rng=rng))[0]
    observations, _ = batch.reset(seed=77)
    for _ in range(30):
        mine, theirs = once.act(observations, rng=rng), twice.act(observations, rng=rng)
        np.testing.assert_array_equal(mine, theirs)
        observations = batch.step(mine)[0]


@pytest.mark.parametrize(
    ("name", "published"), [("building-3d-v0", 1.2547e12), ("building-9d-v0", 1.0145e32)]
)
def test_the_sweep_of_strengths_has_the_known_hypervolume(name, published):
    points = []
    for strength in np.linspace(0, 1, 11):
        batch, observations = one_for_every_start(name)
        policy = InversePolicy(batch.model, strength)
        returns = np.zeros((len(STARTS), batch.reward_space.shape[0]))
        for _ in range(HOURS):
            actions = policy.act(observations, rng=np.random.default_rng(0))
            observations, rewards, *_ = batch.step(actions)
            returns += rewards
        points.append(returns.mean(axis=0))
    spec = ENVS[name].spec_for()
    value = hypervolume(np.array(points), spec.reference_point).value
    assert value == pytest.approx(published, rel=5e-3)
    assert value == pytest.approx(spec.anchors["building controller"], rel=2e-3)


def test_a_run_of_an_agent_that_does_not_learn_measures_it(tmp_path):
    settings = {"selection_episodes": 2, "report_episodes": 2, "out": str(tmp_path)}
    made = {}
    for agent in ("do_nothing", "building_controller"):
        config = RunConfig(env=EnvConfig("building-3d-v0"), agent=agent, **settings)
        made[agent] = run(config, say=lambda line: None)
    assert [result.budget.env_steps for result in made.values()] == [0, 0]
    assert len(made["do_nothing"].arrays.returns) == 1
    assert len(made["building_controller"].arrays.returns) == 11
