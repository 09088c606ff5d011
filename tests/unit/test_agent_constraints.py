"""Thresholds, interior-point weights and trust-region steps against known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from morl.agents.learners.ppo.constraints import interior_point_weights, objective_scale, thresholds
from morl.agents.learners.ppo.trust_region import QuadraticModel, solve_step

TWO = np.array([0, 1])


def test_threshold_lies_between_reference_point_and_return():
    parent, reference = np.array([[10.0, 4.0]]), np.array([0.0, -6.0])
    assert thresholds(parent, reference, beta=0.9).tolist() == [[9.0, 3.0]]


def test_threshold_of_a_negative_return_is_below_it():
    # The product beta * G would be -9: above the parent's own return, so never satisfied.
    parent, reference = np.array([[-10.0]]), np.array([-100.0])
    assert thresholds(parent, reference, beta=0.9).tolist() == [[-19.0]]


def test_a_parent_worse_than_the_reference_point_must_not_get_worse():
    assert thresholds(np.array([[-5.0]]), np.zeros(1), beta=0.5).tolist() == [[-5.0]]


def test_scale_is_the_distance_from_the_reference_point():
    scale = objective_scale(np.array([[3.0, -5.0, 1.0]]), np.array([1.0, -1.0, 1.0]))
    assert scale.tolist() == [[2.0, 4.0, 1e-6]]


def test_inside_the_weights_are_the_gradient_of_the_barrier():
    slack = np.array([[0.3, 0.1, 0.05]])
    weights = interior_point_weights(slack, np.array([0]), sharpness=20.0, max_weight=10.0)
    assert weights == pytest.approx(np.array([[1.0, 1 / 2.0, 1.0]]))


def test_the_weight_of_a_tight_constraint_is_bounded():
    slack = np.array([[0.3, 1e-9]])
    weights = interior_point_weights(slack, np.array([0]), sharpness=20.0, max_weight=10.0)
    assert weights.tolist() == [[1.0, 10.0]]


def test_outside_only_violated_constraints_count():
    slack = np.array([[0.3, -0.1, 0.2], [-0.5, 0.1, 0.1]])
    weights = interior_point_weights(slack, np.array([0, 0]), sharpness=20.0, max_weight=10.0)
    assert weights[0].tolist() == [0.0, 1.0, 0.0]
    # A target below its threshold is no violation: it is what is being maximised.
    assert weights[1].tolist() == [1.0, 0.5, 0.5]


def test_constraints_are_told_apart_by_objective_and_not_by_policy():
    # As many policies as objectives: dropping the wrong axis would go unnoticed by shape.
    slack = np.array([[9.0, -1.0, 1.0], [1.0, 9.0, -1.0], [-1.0, 1.0, 9.0]])
    weights = interior_point_weights(slack, np.arange(3), sharpness=20.0, max_weight=10.0)
    assert np.array_equal(weights, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def model_of(gradient, constraints, slack, fisher):
    """The step's problem of explicit vectors, and a function that turns coefficients to steps."""
    inverse = np.linalg.inv(fisher)
    model = QuadraticModel(
        objective=float(gradient @ inverse @ gradient),
        cross=constraints @ inverse @ gradient,
        gram=constraints @ inverse @ constraints.T,
        slack=slack,
    )
    return model, lambda share, weights: inverse @ (share * gradient + weights @ constraints)


def test_without_active_constraint_the_step_is_the_natural_gradient():
    model, step = model_of(np.array([2.0, 0.0]), np.array([[0.0, 1.0]]), np.ones(1), np.eye(2))
    share, weights, solved = solve_step(model, max_kl=0.5)
    assert solved
    assert step(share, weights) == pytest.approx([1.0, 0.0])  # |x|^2 / 2 = max_kl


def test_an_active_constraint_bends_the_step_along_its_boundary():
    # Climb (1, 1) but lose nothing of -x1: the step may only move along x2.
    model, step = model_of(np.ones(2), np.array([[-1.0, 0.0]]), np.zeros(1), np.eye(2))
    share, weights, solved = solve_step(model, max_kl=0.5)
    assert solved
    assert step(share, weights) == pytest.approx([0.0, 1.0], abs=1e-6)


def test_an_infeasible_problem_gets_a_recovery_step():
    model, step = model_of(
        np.array([1.0, 0.0]), np.array([[-1.0, 0.0]]), -np.ones(1) * 9, np.eye(2)
    )
    share, weights, solved = solve_step(model, max_kl=0.5)
    assert not solved
    assert step(share, weights) == pytest.approx([-1.0, 0.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_steps_agree_with_a_general_solver(seed, count):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    fisher = root @ root.T + np.eye(6)
    gradient, constraints = rng.normal(size=6), rng.normal(size=(count, 6))
    slack = rng.uniform(0.0, 0.1, count)  # the origin is feasible, so the problem is
    model, step = model_of(gradient, constraints, slack, fisher)
    share, weights, solved = solve_step(model, max_kl=0.05)
    found = step(share, weights)
    assert solved
    assert (slack + constraints @ found >= -1e-6).all()
    assert found @ fisher @ found / 2 <= 0.05 + 1e-6
    oracle = minimize(
        lambda x: -gradient @ x,
        np.zeros(6),
        jac=lambda _: -gradient,
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda x: slack + constraints @ x},
            {"type": "ineq", "fun": lambda x: 0.05 - x @ fisher @ x / 2},
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert gradient @ found >= -oracle.fun - 1e-4 * max(1.0, abs(oracle.fun))
