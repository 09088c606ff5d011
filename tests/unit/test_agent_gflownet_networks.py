"""Policies of samplers of objects: numbers and gradients are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.networks import FlatParameters, LogPartition, PerceptronPolicy

ROWS = np.array([0, 1, 2, 0, 2, 2])
STATES = np.array([[0, 1], [1, 0], [2, 2], [1, 1], [0, 0], [2, 1]])


def encode(states):
    return np.eye(3, dtype=np.float32)[states].reshape(len(states), -1)


@pytest.fixture
def codes():
    return np.random.default_rng(1).random((3, 4), np.float32)


def perceptron():
    return PerceptronPolicy(
        encode=encode,
        encoding_width=6,
        code_width=4,
        num_outputs=3,
        hidden=(8, 5),
        rng=np.random.default_rng(0),
    )


def torch_outputs(network, codes, blocks=None):
    tensors = [torch.from_numpy(block.copy()).requires_grad_() for block in network.blocks]
    inputs, rows = torch.from_numpy(encode(STATES)), torch.from_numpy(ROWS)
    first = inputs @ tensors[0] + (torch.from_numpy(codes) @ tensors[1] + tensors[2])[rows]
    current = torch.nn.functional.leaky_relu(first)
    current = torch.nn.functional.leaky_relu(current @ tensors[3] + tensors[4])
    return current @ tensors[5] + tensors[6], tensors


def test_a_perceptron_gives_the_outputs_of_torch(codes):
    network = perceptron()
    network.begin(codes, 6)
    outputs = network.step(STATES, ROWS)
    np.testing.assert_allclose(outputs, torch_outputs(network, codes)[0].detach(), rtol=1e-5)


def test_outputs_do_not_depend_on_how_a_rollout_is_cut_into_steps(codes):
    network = perceptron()
    network.begin(codes, 6)
    first = network.step(STATES[:3], ROWS[:3]).copy()
    second = network.step(STATES[3:], ROWS[3:]).copy()
    network.begin(codes, 6)
    whole = network.recall(STATES[:3], STATES, ROWS, np.zeros(6, np.int64))
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-5)


def test_a_perceptron_has_the_gradients_of_torch(codes):
    network = perceptron()
    network.begin(codes, 6)
    network.step(STATES[:3], ROWS[:3])
    network.step(STATES[3:], ROWS[3:])
    d_outputs = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
    network.backward(d_outputs, d_outputs.sum(axis=0))
    outputs, tensors = torch_outputs(network, codes)
    outputs.backward(torch.from_numpy(d_outputs))
    for gradient, tensor in zip(network.block_gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-4, atol=1e-6)


def test_a_policy_needs_no_condition():
    network = PerceptronPolicy(
        encode=encode,
        encoding_width=6,
        code_width=0,
        num_outputs=2,
        hidden=(4,),
        rng=np.random.default_rng(0),
    )
    network.begin(np.zeros((3, 0), np.float32), 6)
    assert network.step(STATES, ROWS).shape == (6, 2)
    network.backward(np.ones((6, 2), np.float32), np.full(2, 6.0, np.float32))
    assert np.isfinite(network.gradients).all()


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_the_partition_function_has_the_gradients_of_differences(hidden, codes):
    partition = LogPartition(code_width=4, hidden=hidden, rng=np.random.default_rng(0))
    weights = np.array([1.0, -2.0, 0.5], np.float32)
    partition(codes)
    partition.backward(weights)
    for index in (0, 3, len(partition.parameters) - 1):
        before = partition.parameters[index]
        values = []
        for change in (1e-2, -1e-2):
            partition.parameters[index] = before + change
            values.append(float(weights @ partition(codes)))
        partition.parameters[index] = before
        assert partition.gradients[index] == pytest.approx((values[0] - values[1]) / 2e-2, abs=1e-3)


def test_without_a_condition_the_partition_function_is_one_number():
    partition = LogPartition(code_width=0, hidden=(5,), rng=np.random.default_rng(0))
    assert partition.parameters.tolist() == [0.0]
    assert partition(np.zeros((2, 0), np.float32)).tolist() == [0.0, 0.0]
    partition.backward(np.array([1.0, 2.5], np.float32))
    assert partition.gradients.tolist() == [3.5]


def test_adam_takes_the_steps_of_torch():
    flat = FlatParameters([np.array([1.0, -2.0, 3.0], np.float32)])
    tensor = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimiser = torch.optim.Adam([tensor], lr=0.1, weight_decay=0.01)
    for step in range(3):
        gradient = np.array([0.5, -1.0, 4.0 * step], np.float32)
        flat.gradients[:] = gradient
        flat.improve(learning_rate=0.1, weight_decay=0.01, max_gradient_norm=None)
        tensor.grad = torch.from_numpy(gradient)
        optimiser.step()
    np.testing.assert_allclose(flat.parameters, tensor.detach(), rtol=1e-5)


def test_a_long_gradient_is_cut_to_the_bound():
    flat, bounded = (FlatParameters([np.zeros(2, np.float32)]) for _ in range(2))
    for parameters, gradient in ((flat, [0.3, 0.4]), (bounded, [3.0, 4.0])):
        parameters.gradients[:] = gradient
        norm = parameters.improve(learning_rate=0.1, weight_decay=0.0, max_gradient_norm=0.5)
        assert norm == pytest.approx(float(np.hypot(*gradient)))
    assert bounded.state_dict()["first"] == pytest.approx(flat.state_dict()["first"])


def test_illegal_actions_have_no_probability():
    outputs = np.log(np.array([[1.0, 2.0, 5.0, 99.0]], np.float32))
    mask, found = np.array([[True, True, False]]), np.empty((1, 3), np.float32)
    kernels.masked_softmax(outputs, mask, found)
    assert found[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])


@pytest.mark.parametrize(("uniform", "action"), [(0.0, 0), (0.39, 0), (0.41, 1), (0.999999, 1)])
def test_exploration_mixes_with_the_even_choice_of_legal_actions(uniform, action):
    outputs = np.log(np.array([[1.0, 2.0, 5.0]], np.float32))
    mask, found = np.array([[True, True, False]]), np.empty((1, 3), np.float32)
    actions = np.empty(1, np.int64)
    # Policy (1/3, 2/3), even (1/2, 1/2), mixed by 0.4: (0.4, 0.6).
    kernels.sample_actions(outputs, mask, np.array([uniform]), 0.4, found, actions)
    assert actions.tolist() == [action]
    assert found[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])


def test_the_gradient_at_the_logits_is_that_of_torch():
    logits = torch.tensor([[0.2, -1.0, 0.7]], requires_grad=True)
    (torch.log_softmax(logits, 1)[0, 2] * 1.5).backward()
    probabilities = torch.softmax(logits, 1).detach().numpy()
    d_outputs, bias = np.full((1, 4), 9.0, np.float32), np.empty(4, np.float32)
    kernels.head_gradient(
        probabilities, np.array([2]), np.array([1.5], np.float32), d_outputs, bias
    )
    assert logits.grad is not None
    np.testing.assert_allclose(d_outputs[0, :3], logits.grad[0], rtol=1e-5)
    assert d_outputs[0, 3] == 9.0, "the gradient by the log-flow is the caller's"
    np.testing.assert_allclose(bias, d_outputs[0])


def test_a_point_is_covered_by_what_is_as_good_or_better():
    found = np.empty(3, np.bool_)
    points = np.array([[1.0, 1.0], [0.5, 2.5], [3.0, 0.0]])
    kernels.covered(points, np.array([[1.0, 1.0], [0.4, 3.0]]), found)
    assert found.tolist() == [True, False, False]
