"""Conditioned SAC and CAPQL as agents: ranges, scales, answers, refusals, resume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from morl.agents.capql import cone_preferences
from morl.agents.learners.actor_critic.agent import ActorCriticAgent, action_range
from morl.agents.learners.core.rollouts import ActionAdapter
from morl.envs import make_task
from morl.envs.linear_quadratic import LinearQuadraticVectorEnv
from morl.registry import AGENTS
from morl.types import NonFiniteError, State, Task, UnsupportedTaskError

QUADRATIC = make_task("linear-quadratic-v0")


def made(task: Task = QUADRATIC, name: str = "conditioned_sac", *, total_steps: int = 400,
         seed: int = 0, **settings: Any) -> ActorCriticAgent:  # fmt: skip
    entry = AGENTS[name]
    config = replace(entry.config(), **{**dict(entry.capabilities.smoke), **settings})  # type: ignore[union-attr]
    agent = entry.make(task, config, total_steps=total_steps, seed=seed)
    assert isinstance(agent, ActorCriticAgent)
    return agent


def scaled(factors: tuple[float, ...]) -> Task:
    """The quadratic task in other units of reward."""

    class Scaled(LinearQuadraticVectorEnv):
        def _advance(self, actions: NDArray[Any]) -> None:
            super()._advance(actions)
            self._rewards *= factors

    return replace(QUADRATIC, factory=lambda count: Scaled(count))


def test_actions_are_stretched_to_their_range() -> None:
    adapter = ActionAdapter(False, 2, np.array([0.0, -np.inf]), np.array([np.inf, 3.0]))
    box = action_range(adapter, 50.0, env_id="dam-v0", name="conditioned_sac")
    assert box.to_env(np.array([[-1.0, 1.0], [0.0, 0.0]])).tolist() == [[0.0, 3.0], [25.0, -23.5]]


def test_a_limit_within_the_bounds_is_refused() -> None:
    adapter = ActionAdapter(False, 1, np.array([200.0]), np.array([np.inf]))
    with pytest.raises(UnsupportedTaskError, match=r"action_limit, now 100"):
        action_range(adapter, 100.0, env_id="dam-v0", name="conditioned_sac")


def test_water_reservoir_has_releases_from_zero_to_the_limit() -> None:
    agent = made(make_task("water-reservoir-v0"), action_limit=70.0)
    assert agent._actions.low.tolist() == [0.0]
    assert agent._actions.high.tolist() == [70.0]


def test_discrete_actions_are_refused_with_agents_that_fit() -> None:
    with pytest.raises(UnsupportedTaskError, match="envelope_q, gmorl or c_morl"):
        made(make_task("deep-sea-treasure-v0"))


def test_scales_for_other_objectives_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="reward_scales has 3 entries for 2"):
        made(reward_scales=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"twins": "least"}, "twins must be"), ({"hidden": ()}, "hidden"), ({"batch": 0}, "batch"),
     ({"num_envs": 100_000}, "drawn at once"), ({"relabelled": 1.5}, "relabelled")],
)  # fmt: skip
def test_settings_without_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(AGENTS["conditioned_sac"].config(), **{"batch": 1000, **settings})


def test_scales_bring_the_largest_return_below_256() -> None:
    agent = made(scaled((1e-4, 1e5)), total_steps=800)
    agent.learn(800)
    largest = agent._range.largest * agent.reward_scales
    assert ((largest > 128.0) & (largest <= 256.0)).all()
    assert np.log2(agent.reward_scales).tolist() == np.log2(agent.reward_scales).round().tolist()


def test_rewards_of_other_units_give_the_same_bits_after_scaling() -> None:
    # Powers of two round the same way, so only the scales differ.
    plain, other = made(), made(scaled((2.0**-20, 2.0**16)))
    for agent in (plain, other):
        agent.learn(400)
    np.testing.assert_allclose(other.reward_scales, plain.reward_scales * (2.0**20, 2.0**-16))
    np.testing.assert_array_equal(
        other.learner.critics.flat.numpy(), plain.learner.critics.flat.numpy()
    )


def test_preferences_of_users_weigh_rewards_in_their_own_units() -> None:
    agent = made(reward_scales=(4.0, 1.0))
    wanted = np.array([[0.5, 0.5], [1.0, 0.0]])
    asked = agent.solutions(wanted)
    np.testing.assert_allclose([one.policy.weights for one in asked], [[0.2, 0.8], [1.0, 0.0]])
    np.testing.assert_array_equal([one.preference for one in asked], wanted)
    own = agent.solutions()
    np.testing.assert_allclose(own[2].policy.weights, [0.5, 0.5])
    np.testing.assert_allclose(own[2].preference, [0.8, 0.2])


def test_corner_preferences_are_new_few_and_on_the_simplex() -> None:
    agent = made(total_steps=800, divisions=10, corners=3)
    agent.learn(800)
    weights = np.array([one.policy.weights for one in agent.solutions()])
    assert 11 <= len(weights) <= 14
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    assert len(np.unique(weights.round(6), axis=0)) == len(weights)
    assert agent.steps == 800


def test_stacked_policies_act_as_each_alone() -> None:
    agent = made()
    agent.learn(400)
    policies = [one.policy for one in agent.solutions()[:3]]
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((3, 5, 2)).astype(np.float32)
    together = type(policies[0]).stack(policies).act(seen, rng=rng)
    alone = [policy.act(rows, rng=rng) for policy, rows in zip(policies, seen, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_a_diverged_simulation_is_told_with_its_remedy() -> None:
    class Diverging(LinearQuadraticVectorEnv):
        def _advance(self, actions: NDArray[Any]) -> None:
            super()._advance(actions)
            if self._steps == 20:
                self._observations[2, 1] = np.nan

    task = replace(QUADRATIC, factory=lambda count: Diverging(count))
    with pytest.raises(NonFiniteError, match=r"1 of environment 2 is nan.*action_limit"):
        made(task).learn(400)


def test_parameters_that_are_not_finite_are_told() -> None:
    agent = made()
    agent.learner.critics.flat[3] = np.nan
    with pytest.raises(NonFiniteError, match=r"actor are not finite.*learning_rate"):
        agent.learn(400)


def test_a_step_cut_by_the_time_limit_leads_to_the_episodes_own_last_state() -> None:
    agent = made(total_steps=400, warmup_steps=400)
    agent.learn(400)
    rows = agent._store.state_dict()["rows"]
    assert not rows[:, 6].any()  # nothing terminates
    np.testing.assert_allclose(rows[:, 7:9], rows[:, :2] + rows[:, 2:4], atol=1e-5)


@pytest.mark.parametrize("name", ["conditioned_sac", "capql"])
def test_twenty_kills_do_not_change_a_bit(name: str) -> None:
    whole, resumed = made(name=name, seed=4), made(name=name, seed=4)
    rng = np.random.default_rng(0)
    for kill in range(20):
        whole.learn(20)
        state: State = resumed.state_dict()
        resumed = made(name=name, seed=4)
        resumed.load_state_dict(state)
        resumed.learn(20)
        if rng.random() < 0.3 or kill == 19:
            same(whole.state_dict(), resumed.state_dict())


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same(value, other[key])
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("num_objectives", "low", "high"),
    [(2, 0.293, 0.707), (3, 0.138, 0.529), (4, 0.071, 0.429)],
)
def test_the_cone_has_its_range(num_objectives: int, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    drawn = cone_preferences(num_objectives, 200_000, degrees=22.5, rng=rng)
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, rtol=1e-6)
    assert low - 1e-3 <= drawn.min() < low + 0.02
    assert high - 0.02 < drawn.max() <= high + 1e-3


def test_capql_redraws_at_every_step_and_teaches_what_it_acted_for() -> None:
    agent = made(name="capql", warmup_steps=400)
    agent.learn(40)
    stored = agent._store.state_dict()["rows"][:, -2:]
    assert len(np.unique(stored, axis=0)) == len(stored) == 40
    np.testing.assert_array_equal(agent._taught(stored), stored)
    assert stored.min() > 0.29
