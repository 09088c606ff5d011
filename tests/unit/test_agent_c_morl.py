"""C-MORL on a bandit whose constrained optimum is known, and its refusals."""

import levers
import numpy as np
import pytest

from morl.agents.c_morl import CMORL, Config
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.ppo.agent import Member
from morl.envs import make_task
from morl.evaluation import rollout
from morl.indicators import hypervolume
from morl.types import NonFiniteError, Solution

UNIT = levers.weight(levers.DISCOUNT)
"""Discounted return of a lever that pays one."""

PAYS = levers.LEVERS[2]


def make(total_steps=10_000_000, task=None, seed=0, **settings):
    settings = {"hidden": (16,), "num_envs": 16, "minibatch": 128, "rollout_steps": 40, **settings}
    return CMORL(
        task or levers.task(noise=0.1), Config(**settings), total_steps=total_steps, seed=seed
    )


def parent_of(agent, probabilities):
    """A member whose policy ignores the observation."""
    network = agent.learner.network
    blocks = network.spec.blocks()
    parts = []
    for block in blocks:
        values = np.zeros(block.size, np.float32)
        if block.name == "actor/1/bias":
            values[:] = np.log(probabilities)
        parts.append(values)
    moments = RunningMoments(1, network.spec.observation_size)
    return Member(
        id=0,
        row=np.concatenate(parts),
        observation_moments=moments,
        return_moments=RunningMoments(1, 2),
    )


def expected_returns(agent):
    """Exact returns of the learners' sampling policies, averaged over the ages of an episode."""
    ages = np.zeros((agent.learner.num_policies, levers.HORIZON, 2), np.float32)
    ages[:, :, 0] = np.arange(levers.HORIZON) / levers.HORIZON
    ages[:, :, 1] = 1.0
    logits = agent.learner.network.policy_outputs(agent.learner.normalise(ages))
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    weights = (levers.DISCOUNT * (1 - levers.STOP)) ** np.arange(levers.HORIZON)
    return np.einsum("pta,ao,t->po", probabilities, PAYS, weights)


@pytest.mark.parametrize(("variant", "updates", "rate"), [("ipo", 100, 2e-3), ("cpo", 40, 1e-3)])
def test_offspring_keep_their_constraints_and_approach_the_constrained_optimum(
    variant, updates, rate
):
    agent = make(
        variant=variant,
        beta=0.5,
        num_envs=32,
        extension_learning_rate=rate,
        extension_updates=10**6,
        snapshot_interval=10**6,
    )
    # Mostly the compromise (0.6, 0.6): each return is 0.59 units.
    agent.archive.add([1.0, 1.0], parent_of(agent, [0.05, 0.05, 0.89, 0.01]))
    agent.extend_from(agent.archive.items)
    for _ in range(updates):
        agent.update()
    assert agent.offspring.target.tolist() == [0, 1]
    returns = expected_returns(agent) / UNIT
    for target in (0, 1):
        kept = agent.offspring.threshold[target, 1 - target] / UNIT
        # Mixing the target's own lever with the compromise is optimal: p * 0.6 = d in the other.
        optimum = (1 - kept / 0.6) + kept
        assert returns[target, 1 - target] >= kept - 0.03
        assert returns[target, target] >= 0.9 * optimum
        assert returns[target, target] > 0.7  # the compromise alone gives 0.6


def test_thresholds_come_from_the_parents_own_returns():
    # Episodes of one step: each pays its lever once.
    agent = make(task=levers.task(stop=1.0), beta=0.5, snapshot_interval=10**6, num_envs=64)
    agent.archive.add([1.0, 1.0], parent_of(agent, [0.05, 0.05, 0.89, 0.01]))
    agent.extend_from(agent.archive.items)
    agent.update()
    expected = -0.5 + 0.5 * (0.05 + 0.6 * 0.89 + 0.2 * 0.01 + 0.5)
    assert agent.offspring.threshold == pytest.approx(np.full((2, 2), expected), abs=0.02)


def test_every_offspring_starts_from_its_own_parent():
    agent = make(snapshot_interval=10**6)
    first = parent_of(agent, [0.7, 0.1, 0.1, 0.1])
    second = parent_of(agent, [0.1, 0.7, 0.1, 0.1])
    agent.extend_from([first, second])
    rows = agent.learner.network.rows()
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], first.row)
    assert np.array_equal(rows[3], second.row)
    assert agent.offspring.target.tolist() == [0, 1, 0, 1]


def test_an_unseen_preference_gets_the_best_member():
    agent = make(snapshot_interval=10**6)
    for point, probabilities in (([5.0, 0.0], [0.97, 0.01, 0.01, 0.01]),
                                 ([0.0, 5.0], [0.01, 0.97, 0.01, 0.01]),
                                 ([3.0, 3.0], [0.01, 0.01, 0.97, 0.01])):  # fmt: skip
        agent.archive.add(point, parent_of(agent, probabilities))
    wanted = np.array([[0.9, 0.1], [0.37, 0.63], [0.5, 0.5], [0.0, 1.0]])
    answers = agent.solutions(wanted)
    observations = np.zeros((1, 2), np.float32)
    rng = np.random.default_rng(0)
    assert [int(answer.policy.act(observations, rng=rng)[0]) for answer in answers] == [0, 1, 2, 1]
    assert all(isinstance(answer, Solution) for answer in answers)
    assert len(agent.solutions()) == 3


def test_it_finds_a_front_at_least_as_good_as_all_constant_policies():
    agent = make(total_steps=120_000, learning_rate=3e-3, entropy_coefficient=0.01,
                 selection_episodes=4, snapshot_interval=2, num_parents=3)  # fmt: skip
    while not agent.finished:
        agent.learn(20_000)
    assert agent.steps <= 120_000
    found = rollout(levers.task(), agent.solutions(), seeds=range(100, 164)).points
    constant = levers.known_points(levers.DISCOUNT)
    reference = levers.SPEC.reference_point
    assert hypervolume(found, reference).value > 0.95 * hypervolume(constant, reference).value


def test_evaluation_steps_count_in_the_budget():
    agent = make(total_steps=40_000, snapshot_interval=1, initial_fraction=1.0, min_updates=1)
    metrics = agent.learn(40_000)
    trained = int(metrics["train/updates"]) * 16 * 40 * 6
    assert metrics["steps/selection"] > 0
    assert agent.steps == trained + metrics["steps/selection"]


def test_a_nan_reward_names_environment_objective_and_step():
    agent = make(task=levers.task(nan_step=7))
    with pytest.raises(NonFiniteError, match=r"levers-v0: reward 'speed' is nan at step 6"):
        agent.learn(100)


def test_a_budget_below_one_update_is_refused():
    with pytest.raises(ValueError, match=r"raise steps or lower agent\.num_envs"):
        make(total_steps=100)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variant": "trpo"}, "variant must be one of ipo, cpo"),
        ({"beta": 0.0}, r"beta must be in \(0, 1\]"),
        ({"minibatch": 0}, "minibatch must be at least 1"),
        ({"preference_divisions": 0}, "preference_divisions must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"training_discount": 1.5}, r"training_discount must be in \[0, 1\]"),
    ],
)
def test_settings_without_meaning_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Config(**setting)


def test_a_training_discount_leaves_what_constraints_bound_in_the_tasks_scale():
    task = make_task("building-3d-v0")
    agent = make(task=task, training_discount=0.5, rollout_steps=240, num_envs=2)
    agent._synchronise()
    experience = agent._collect()
    # Ramping pays 23 an hour at most, and nothing in the first two of 240; prices may be negative.
    assert experience.returns[:, 2].max() < 480 * 23 * 238 / 240
    assert experience.returns.min() > 480 * 2
    assert agent.learner.discount == 0.5
    assert experience.num_episodes.tolist() == [2] * 6


def test_by_default_the_tasks_discount_is_that_of_training():
    assert make().learner.discount == levers.DISCOUNT


def test_continuous_actions_begin_with_the_wanted_deviation():
    agent = make(task=make_task("building-3d-v0"), initial_log_std=-1.5)
    np.testing.assert_array_equal(agent.learner.network.log_std, np.float32(-1.5))
