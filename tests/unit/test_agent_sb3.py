"""Stable-Baselines3 as an agent: equal actions, exact states, honest budgets, typed refusals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.sb3.policies import ArrayPolicy, PolicyShape
from morl.agents.learners.sb3.runs import InnerRun, own_random_numbers
from morl.agents.sb3 import ALGORITHMS, Config, SB3Agent, run_settings
from morl.envs import make_task
from morl.hpo.space import SearchSpace
from morl.testing import check_agent
from morl.types import MorlError, NonFiniteError, Task

SMALL: dict[str, Any] = {
    "num_envs": 4, "rollout_steps": 12, "minibatch": 24, "epochs": 2, "gradient_steps": 2,
    "hidden": (8, 8), "selection_episodes": 1, "snapshots": 2,
}  # fmt: skip
BOX = "mo-mountaincarcontinuous-v0"


def small(algorithm: str = "ppo", **changes: Any) -> Config:
    return Config(algorithm=algorithm, **{**SMALL, **changes})


def home(algorithm: str) -> Task:
    """A short task with actions that the algorithm knows."""
    if algorithm in ("sac", "td3"):
        return make_task(BOX, horizon=15)
    return make_task("deep-sea-treasure-v0", horizon=20)


@contextmanager
def trained(algorithm: str, task: Task, *, updates: int = 3, **changes: Any) -> Iterator[InnerRun]:
    """A run after some updates; its policy is no longer the initial one."""
    settings = run_settings(task, small(algorithm, **changes))
    if algorithm not in ("ppo", "a2c"):
        settings = replace(settings, model={**settings.model, "learning_starts": 0})
    weights = np.full(task.spec.num_objectives, 1.0 / task.spec.num_objectives)
    with own_random_numbers(1):
        run = InnerRun(task, settings, weights=weights, total_steps=1000)
        run.synchronise([1, 2, 3, 4], action_seed=3)
        for _ in range(updates):
            run.update()
        yield run
    run.close()


def observations_of(task: Task, count: int) -> np.ndarray:
    """Numbers far apart, so that no policy takes one action for all of them."""
    batch = task.make_vec(1)
    shape = batch.single_observation_space.shape
    batch.close()
    return np.random.default_rng(0).normal(scale=20.0, size=(count, *shape)).astype(np.float32)


# Policies


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "task"),
    [(name, home(name)) for name in ALGORITHMS] + [("ppo", home("sac")), ("a2c", home("td3"))],
    ids=lambda value: value if isinstance(value, str) else value.spec.id,
)
def test_array_policies_take_the_actions_that_stable_baselines3_predicts(
    algorithm: str, task: Task, normalise: bool
) -> None:
    observations = observations_of(task, 1000)
    with trained(algorithm, task, normalise=normalise) as run:
        policy = run.policy()
        shown: np.ndarray = observations.reshape(1000, -1).astype(np.float32)
        if run.normaliser is not None:
            shown = run.normaliser.normalize_obs(shown)
        expected, _ = run.model.predict(shown, deterministic=True)
    actions = policy.act(observations, rng=np.random.default_rng(0))
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(actions, expected, atol=2e-5)
        assert np.ptp(actions) > 1e-4, "a constant would pass"
    else:
        assert (actions == expected).mean() > 0.998  # ties may be broken by rounding
        assert len(np.unique(actions)) > 1, "a constant would pass"


def test_a_policy_by_hand_acts_as_computed_by_hand() -> None:
    shape = PolicyShape(sizes=(2, 2, 2), activation="relu", head="best")
    # hidden = relu(x), outputs = (h0 - 1, h1)
    parameters = np.array([1, 0, 0, 1, 0, 0, 1, 0, 0, 1, -1, 0], np.float32)
    assert shape.num_parameters == len(parameters)
    policy = ArrayPolicy(shape, parameters, np.zeros(2), np.ones(2), normalised=False)
    seen = np.array([[3.0, 1.0], [1.5, 1.0], [-5.0, -5.0]])
    assert policy.act(seen, rng=np.random.default_rng(0)).tolist() == [0, 1, 1]


def test_squashed_actions_reach_their_bounds_and_no_further() -> None:
    low, high = np.float32([-2.0]), np.float32([6.0])
    shape = PolicyShape(sizes=(1, 1), activation="relu", head="squashed", low=low, high=high)
    policy = ArrayPolicy(shape, np.float32([1, 0]), np.zeros(1), np.ones(1), normalised=False)
    actions = policy.act(np.array([[-50.0], [0.0], [50.0]]), rng=np.random.default_rng(0))
    assert actions.ravel().tolist() == [-2.0, 2.0, 6.0]


def test_the_best_available_action_is_taken_where_observations_say_which_are_not() -> None:
    shape = PolicyShape(sizes=(4, 2), activation="tanh", head="best", features_per_action=2)
    # Outputs are 1 and 5 whatever is seen.
    parameters = np.float32([0, 0, 0, 0, 0, 0, 0, 0, 1, 5])
    policy = ArrayPolicy(shape, parameters, np.zeros(4), np.ones(4), normalised=False)
    seen = np.array([[1.0, 0, 2.0, 0], [1.0, 0, -1.0, 0]])
    assert policy.act(seen, rng=np.random.default_rng(0)).tolist() == [1, 0]


def test_stacked_policies_act_as_each_alone() -> None:
    task = home("ppo")
    with trained("ppo", task) as run:
        first = run.policy()
        run.update()
        second = run.policy()
    seen = observations_of(task, 50)
    rng = np.random.default_rng(0)
    together = ArrayPolicy.stack([first, second]).act(np.stack([seen, seen]), rng=rng)
    assert together.tolist() == [policy.act(seen, rng=rng).tolist() for policy in (first, second)]


def test_policies_need_neither_torch_nor_stable_baselines3_to_act(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = home("dqn")
    with trained("dqn", task) as run:
        policy = run.policy()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch was used")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    monkeypatch.setattr(torch, "as_tensor", refuse)
    assert policy.act(observations_of(task, 3), rng=np.random.default_rng(0)).shape == (3,)


def test_diverged_parameters_are_refused_by_name() -> None:
    with trained("a2c", home("a2c")) as run:
        with torch.no_grad():
            run.model.policy.action_net.bias.fill_(torch.nan)
        with pytest.raises(NonFiniteError, match=r"deep-sea-treasure-v0.*a2c.*learning_rate"):
            run.policy()


# Random numbers and states


def global_states() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002 - what must not change
    return random.getstate(), legacy[1].tolist(), torch.get_rng_state().tolist()


def drawn(seed: int, *, fail: bool = False) -> tuple[float, float, float]:
    with own_random_numbers(seed):
        numbers = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
        if fail:
            raise KeyError(seed)
        return numbers


def test_own_random_numbers_leave_the_global_generators_alone_even_after_an_error() -> None:
    before = global_states()
    assert drawn(5) == drawn(5) != drawn(6)
    with pytest.raises(KeyError):
        drawn(5, fail=True)
    assert global_states() == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_keeps_the_contract_of_agents(algorithm: str) -> None:
    """Equal bits under equal seeds and after a restored checkpoint, among others."""
    loop = "linear_support" if algorithm in ("a2c", "sac") else "uniform"
    config = small(algorithm, outer_loop=loop, preference_divisions=2)
    check_agent(SB3Agent, config, home(algorithm), total_steps=600).raise_for_failures()


def test_training_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    agent = SB3Agent(home("dqn"), small("dqn"), total_steps=900, seed=0)
    agent.learn(900)
    assert capfd.readouterr() == ("", "")


def test_a_state_holds_arrays_and_plain_values_alone() -> None:
    agent = SB3Agent(home("sac"), small("sac"), total_steps=900, seed=0)
    agent.learn(1)

    def leaves(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            for item in value.values():
                yield from leaves(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from leaves(item)
        else:
            yield value

    state = agent.state_dict()
    assert state["run"]["replay"]["position"] > 0
    kinds = {type(leaf) for leaf in leaves(state)}
    assert kinds <= {np.ndarray, int, float, bool, str, type(None)}


# Budget and outer loop


@pytest.mark.parametrize("snapshots", [0, 9])
def test_each_preference_gets_an_equal_share_of_the_budget(snapshots: int) -> None:
    config = small(snapshots=snapshots, preference_divisions=3)
    agent = SB3Agent(home("ppo"), config, total_steps=2000, seed=0)
    begun: dict[int, int] = {}
    while not agent.finished:
        agent.learn(1)
        begun.setdefault(len(agent.preferences), agent.steps)
    assert sorted(begun) == [1, 2, 3, 4]
    # Shares of 500 steps, less what an update (48) and an evaluation (up to 20) cannot fill.
    assert np.diff(list(begun.values())) == pytest.approx([500] * 3, abs=68)
    assert 2000 - 68 <= agent.steps <= 2000


def test_the_uniform_loop_trains_the_lattice_from_its_ends_inwards() -> None:
    agent = SB3Agent(home("ppo"), small(preference_divisions=4), total_steps=900, seed=0)
    while not agent.finished:
        agent.learn(900)
    first = agent.preferences[:, 0].tolist()
    assert first == [1.0, 0.0, 0.5, 0.25, 0.75]


def test_linear_support_begins_with_each_objective_alone() -> None:
    config = small(outer_loop="linear_support", num_preferences=4)
    agent = SB3Agent(home("ppo"), config, total_steps=1200, seed=0)
    while not agent.finished:
        agent.learn(1200)
    assert agent.preferences[:2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert len(np.unique(agent.preferences, axis=0)) == 4
    np.testing.assert_allclose(agent.preferences.sum(axis=1), 1.0)


def test_snapshots_are_left_out_where_they_would_eat_the_budget() -> None:
    task = make_task("deep-sea-treasure-v0", horizon=100)
    config = small(selection_episodes=5, snapshots=50, num_envs=8, rollout_steps=20, minibatch=160)
    agent = SB3Agent(task, config, total_steps=9000, seed=0)
    while not agent.finished:
        agent.learn(9000)
    # The last evaluations of 6 trainings of 1,500 steps, and a tenth of the rest at most.
    assert agent.learn(1)["steps/selection"] <= 6 * 500 + 900


def test_solutions_answer_each_preference_by_the_best_archived_return() -> None:
    agent = SB3Agent(home("ppo"), small(), total_steps=1000, seed=0)
    while not agent.finished:
        agent.learn(1000)
    wanted = np.array([[1.0, 0.0], [0.2, 0.8]])
    for preference, solution in zip(wanted, agent.solutions(wanted), strict=True):
        index = int((agent.archive.points @ preference).argmax())
        assert solution.policy is agent.archive.items[index]
        assert solution.preference is not None
        assert solution.preference.tolist() == preference.tolist()


def test_illegal_actions_of_objects_are_replaced_by_the_environment() -> None:
    task = make_task("hypergrid-v0", kwargs={"height": 4, "objectives": ["branin", "shubert"]})
    agent = SB3Agent(task, small("a2c"), total_steps=1200, seed=0)
    while not agent.finished:
        agent.learn(1200)
    assert len(agent.solutions()) >= 1
    assert (agent.archive.points > 0.0).any(), "objects were finished and paid for"


@pytest.mark.slow
def test_ppo_finds_most_of_deep_sea_treasure() -> None:
    from morl.indicators import hypervolume

    task = make_task("deep-sea-treasure-v0")
    agent = SB3Agent(task, Config(), total_steps=200_000, seed=0)
    while not agent.finished:
        agent.learn(2000)
    # The exact front has 854.85, random search reaches 772 with more steps.
    assert hypervolume(agent.archive.points, task.spec.reference_point).value > 800.0


# Refusals


@pytest.mark.parametrize(
    ("algorithm", "env", "words"),
    [
        ("dqn", BOX, r"mo-mountaincarcontinuous-v0: sb3 .*algorithm=dqn.*Box.*choose .*sac"),
        ("sac", "fruit-tree-v0", r"fruit-tree-v0: sb3 .*algorithm=sac.*Discrete.*choose .*dqn"),
        ("td3", "fruit-tree-v0", r"fruit-tree-v0: sb3 .*algorithm=td3.*Discrete.*choose .*dqn"),
        ("ppo", "water-reservoir-v0", r"water-reservoir-v0: .*bounds.*choose another agent"),
    ],
)
def test_unfit_algorithms_are_refused_by_name_with_a_remedy(
    algorithm: str, env: str, words: str
) -> None:
    with pytest.raises(UnsupportedTaskError, match=words) as refusal:
        SB3Agent(make_task(env), Config(algorithm=algorithm), total_steps=10**6, seed=0)
    assert isinstance(refusal.value, MorlError)


def test_a_budget_too_small_for_a_training_is_refused_with_what_would_fit() -> None:
    with pytest.raises(ValueError, match=r"6 preferences.*update \(2048\).*raise steps or lower"):
        SB3Agent(home("ppo"), Config(), total_steps=3000, seed=0)


def test_reward_scales_and_replays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="reward_scales must be 2 positive numbers"):
        SB3Agent(home("ppo"), small(reward_scales=(1.0,)), total_steps=5000, seed=0)
    with pytest.raises(UnsupportedTaskError, match=r"GiB; lower agent\.replay_capacity"):
        SB3Agent(home("dqn"), small("dqn", replay_capacity=10**10), total_steps=5000, seed=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("algorithm", "trpo"), ("outer_loop", "random"), ("preference_divisions", 0),
        ("num_preferences", 0), ("num_envs", 0), ("rollout_steps", 0), ("minibatch", 1),
        ("epochs", 0), ("gradient_steps", 0), ("hidden", ()), ("learning_rate", 0.0),
        ("final_learning_rate", 1.5), ("entropy_coefficient", -0.1), ("gae_lambda", 2.0),
        ("clip", 0.0), ("replay_capacity", 0), ("learning_starts", -0.1), ("exploration", 1.1),
        ("final_exploration", -1.0), ("target_interval", 0), ("action_noise", -1.0),
        ("training_discount", 1.1), ("snapshots", -1), ("selection_episodes", 0),
        ("archive_capacity", 0),
    ],
)  # fmt: skip
def test_values_without_meaning_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        Config(**{setting: value})


def test_main_settings_can_be_searched() -> None:
    space = SearchSpace.of(Config())
    names = {dimension.name for dimension in space.dimensions}
    assert {"learning_rate", "entropy_coefficient", "epochs", "clip"} <= names
    assert names <= {setting.name for setting in fields(Config)}
