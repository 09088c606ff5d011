"""A network that chooses actions for a command, with its gradients by hand.

The network is small and so are its batches: in plain NumPy an update costs less than an automatic
differentiation of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.types import State

Parameters = dict[str, NDArray[np.float32]]
"""Weights (input, output) and biases (output,) by name."""

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def initial_parameters(
    num_inputs: int, num_commands: int, num_actions: int, *, hidden: int, rng: np.random.Generator
) -> Parameters:
    """Weights uniform within one over the root of the number of inputs; biases are zero.

    Args:
        num_inputs: features of an observation.
        num_commands: features of a command.
        num_actions: outputs.
        hidden: width.
        rng: source of randomness.
    """
    shapes = {
        "see": (num_inputs, hidden), "command": (num_commands, hidden),
        "middle": (hidden, hidden), "last": (hidden, num_actions),
    }  # fmt: skip
    parameters: Parameters = {}
    for name, shape in shapes.items():
        bound = shape[0] ** -0.5
        parameters[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        parameters[f"{name}_bias"] = np.zeros(shape[1], np.float32)
    return parameters


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), np.float32)


def _gates(
    parameters: Parameters, inputs: NDArray[np.float32], commands: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    see = _sigmoid(inputs @ parameters["see"] + parameters["see_bias"])
    return see, _sigmoid(commands @ parameters["command"] + parameters["command_bias"])


def logits(
    parameters: Parameters, inputs: NDArray[np.float32], commands: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores of the actions, (row, action).

    Args:
        parameters: of the network.
        inputs: (row, input).
        commands: (row, command).
    """
    see, command = _gates(parameters, inputs, commands)
    middle = np.maximum((see * command) @ parameters["middle"] + parameters["middle_bias"], 0.0)
    return np.asarray(middle @ parameters["last"] + parameters["last_bias"], np.float32)


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def loss_and_gradients(
    parameters: Parameters,
    inputs: NDArray[np.float32],
    commands: NDArray[np.float32],
    actions: NDArray[np.int64],
) -> tuple[float, Parameters]:
    """Mean cross-entropy of the actions, and its gradients.

    Args:
        parameters: of the network.
        inputs: (row, input).
        commands: (row, command).
        actions: to imitate, (row,).
    """
    rows = np.arange(len(actions))
    see, command = _gates(parameters, inputs, commands)
    joint = see * command
    middle = np.maximum(joint @ parameters["middle"] + parameters["middle_bias"], 0.0)
    chances = probabilities(middle @ parameters["last"] + parameters["last_bias"])
    loss = -float(np.log(np.maximum(chances[rows, actions], 1e-30)).mean())
    chances[rows, actions] -= 1.0
    to_last = (chances / len(rows)).astype(np.float32)
    to_middle = (to_last @ parameters["last"].T) * (middle > 0.0)
    to_joint = to_middle @ parameters["middle"].T
    to_see = to_joint * command * see * (1.0 - see)
    to_command = to_joint * see * command * (1.0 - command)
    pairs = {
        "see": (inputs, to_see), "command": (commands, to_command),
        "middle": (joint, to_middle), "last": (middle, to_last),
    }  # fmt: skip
    gradients: Parameters = {}
    for name, (before, after) in pairs.items():
        gradients[name] = before.T @ after
        gradients[f"{name}_bias"] = after.sum(axis=0)
    return loss, gradients


@dataclass(eq=False)
class Adam:
    """Adam (Kingma and Ba, 2015) on a dict of arrays, in place.

    Attributes:
        parameters: what is updated.
        learning_rate: step size.
    """

    parameters: Parameters
    learning_rate: float

    def __post_init__(self) -> None:
        """Moments begin at zero."""
        self._updates = 0
        self._first = {key: np.zeros_like(value) for key, value in self.parameters.items()}
        self._second = {key: np.zeros_like(value) for key, value in self.parameters.items()}

    def step(self, gradients: Parameters) -> None:
        """Follow the gradients downwards."""
        self._updates += 1
        first_share, second_share = BETAS
        correction = np.sqrt(1.0 - second_share**self._updates) / (1.0 - first_share**self._updates)
        rate = np.float32(self.learning_rate * correction)
        for key, gradient in gradients.items():
            first, second = self._first[key], self._second[key]
            first += (1.0 - first_share) * (gradient - first)
            second += (1.0 - second_share) * (gradient * gradient - second)
            self.parameters[key] -= rate * first / (np.sqrt(second) + np.float32(EPSILON))

    def state_dict(self) -> State:
        """Parameters and moments."""
        trees = {"parameters": self.parameters, "first": self._first, "second": self._second}
        copies: State = {
            name: {key: value.copy() for key, value in tree.items()} for name, tree in trees.items()
        }
        return {**copies, "updates": self._updates}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._updates = int(state["updates"])
        for name, tree in (
            ("parameters", self.parameters), ("first", self._first), ("second", self._second),
        ):  # fmt: skip
            for key in tree:
                tree[key] = np.array(state[name][key], np.float32)
