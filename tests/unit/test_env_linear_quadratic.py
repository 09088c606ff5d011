"""Linear-quadratic control: steps by hand, and a front that controls reach and none passes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from morl.envs import EnvArgumentError, make_task, make_vec
from morl.envs.linear_quadratic import (
    DISCOUNT,
    HORIZON,
    ID,
    LinearQuadraticVectorEnv,
    costs,
    riccati_returns,
)
from morl.indicators import hypervolume
from morl.pareto import nondominated


def test_a_step_by_hand() -> None:
    batch = LinearQuadraticVectorEnv(1, overlap=0.25)
    start, _ = batch.reset(seed=3)
    assert set(np.abs(start[0]).tolist()) == {1.0}
    controls = -0.5 * start
    after, rewards, terminated, truncated, _ = batch.step(controls)
    # Positions cost 0.75 + 0.25, controls of a half a quarter of 0.25 + 0.75.
    assert rewards.tolist() == [[-1.25, -1.25]]
    np.testing.assert_array_equal(after, start / 2)
    _, rewards, _, _, _ = batch.step(np.array([[8.0, 0.0]], np.float32) * np.sign(-start))
    # From (1/2, 1/2), with the control (1, 0) after clipping: 1/4 + (0.25, 0.75).
    assert rewards.tolist() == [[-0.5, -1.0]]
    assert not terminated[0]
    assert not truncated[0]


def test_episodes_end_at_the_horizon_and_begin_at_corners() -> None:
    batch = make_vec(ID, 64)
    starts, _ = batch.reset(seed=0)
    assert len(np.unique(starts, axis=0)) == 4
    for _ in range(HORIZON):
        after, _, _, truncated, infos = batch.step(np.full((64, 2), 0.01, np.float32))
    assert truncated.all()
    np.testing.assert_allclose(infos["final_obs"], starts + 0.01 * HORIZON, rtol=1e-5)
    assert set(np.abs(after).ravel().tolist()) == {1.0}


def simulated(gains: np.ndarray, *, overlap: float) -> np.ndarray:
    """Discounted return of the controls ``-gain x`` by time and coordinate, without the batch."""
    state_costs, control_costs = costs(gains.shape[1], overlap)
    x, total = np.ones(gains.shape[1]), np.zeros(gains.shape[1])
    for time, gain in enumerate(gains):
        u = -gain * x
        total -= DISCOUNT**time * (state_costs @ x**2 + control_costs @ u**2)
        x = x + u
    return total


def test_two_steps_by_hand() -> None:
    # In the last step the control is zero. Before it, with equal weights q = r = 1/2 and
    # k = g q / (r + g q) = 0.9 / 1.9; each objective pays q + r k^2 + g q (1 - k)^2 twice.
    gain = 0.9 / 1.9
    cost = 0.5 * (1.0 + gain**2 + 0.9 * (1.0 - gain) ** 2)
    found = riccati_returns(np.array([[0.5, 0.5]]), overlap=0.1, discount=0.9, horizon=2)
    np.testing.assert_allclose(found, [[-2.0 * cost] * 2])


@pytest.mark.parametrize("num_objectives", [2, 4])
def test_no_controls_are_worth_more_than_the_front(num_objectives: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(num_objectives), 20)
    best = (
        weights * riccati_returns(weights, overlap=0.1, discount=DISCOUNT, horizon=HORIZON)
    ).sum(axis=1)
    for _ in range(200):
        gains = np.broadcast_to(rng.random(num_objectives), (HORIZON, num_objectives))
        assert (weights @ simulated(gains, overlap=0.1) <= best + 1e-9).all()


@pytest.mark.parametrize(("num_objectives", "share"), [(2, 0.98), (4, 0.97)])
def test_constant_gains_reach_the_front_in_the_environment(
    num_objectives: int, share: float
) -> None:
    task = make_task(ID, kwargs={"num_objectives": num_objectives})
    assert task.spec.known_front is not None
    front = task.spec.known_front.points(DISCOUNT)
    gains = np.random.default_rng(1).random((3000, num_objectives))
    batch = task.make_vec(len(gains))
    x, _ = batch.reset(seed=0)
    returns = np.zeros_like(gains)
    for time in range(HORIZON):
        x, rewards, _, _, _ = batch.step((-gains * x).astype(np.float32))
        returns += DISCOUNT**time * rewards
    reached = hypervolume(returns, task.spec.reference_point).value
    exact = hypervolume(front, task.spec.reference_point).value
    assert share * exact < reached < exact


def test_the_front_is_not_dominated_and_above_the_reference() -> None:
    for count in (2, 3, 4, 5):
        spec = make_task(ID, kwargs={"num_objectives": count}).spec
        assert spec.known_front is not None
        front = spec.known_front.points(spec.discount)
        assert nondominated(front).all()
        assert (front > np.asarray(spec.reference_point)).all()
        assert spec.anchors["do-nothing"] < hypervolume(front, spec.reference_point).value


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"num_objectives": 1}, "2 to 8"), ({"overlap": 0.5}, "overlap must be")],
)
def test_arguments_out_of_range_are_refused(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(EnvArgumentError, match=message):
        make_task(ID, kwargs=kwargs)


def test_one_system_steps_like_the_batch() -> None:
    one = gymnasium.make(ID, disable_env_checker=True)
    observation, _ = one.reset(seed=5)
    batch = make_vec(ID, 1)
    observations, _ = batch.reset(seed=5)
    np.testing.assert_array_equal(observation, observations[0])
    action = np.array([0.25, -0.5], np.float32)
    after, reward, _, _, _ = one.step(action)
    afters, rewards, _, _, _ = batch.step(action[None])
    np.testing.assert_array_equal(after, afters[0])
    np.testing.assert_array_equal(reward, rewards[0])
