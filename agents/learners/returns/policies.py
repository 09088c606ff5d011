"""Policies that carry a command: what is still to be earned, and in how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.returns.episodes import EpisodePool
from morl.agents.learners.returns.network import Parameters, logits
from morl.types import PolicyState, Vector


@dataclass(frozen=True, eq=False)
class CommandScale:
    """What was ever seen, by which commands are bounded and scaled.

    Attributes:
        low: least return from any step on, (objective,).
        high: greatest return from any step on, (objective,).
        horizon: longest episode.
        centre: of the inputs, (input,).
        spread: of the inputs, (input,).
    """

    low: Vector
    high: Vector
    horizon: int
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def of(cls, pool: EpisodePool, *, num_numbers: int) -> CommandScale:
        """From episodes; inputs behind the first `num_numbers` are codes and stay as they are."""
        centre = np.zeros(pool.inputs.shape[1], np.float32)
        spread = np.ones_like(centre)
        numbers = pool.inputs[:, :num_numbers]
        centre[:num_numbers] = numbers.mean(axis=0)
        spread[:num_numbers] = numbers.std(axis=0) + 1e-3
        low, high = pool.returns.min(axis=0), pool.returns.max(axis=0)
        return cls(low, high, int(pool.lengths.max()), centre, spread)

    def features(
        self, returns: NDArray[np.float64], horizons: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Commands (row, objective), (row,) as inputs, (row, objective + 1).

        Commands beyond what was ever seen count as the nearest that was, per objective.
        """
        extent = np.maximum(np.maximum(np.abs(self.low), np.abs(self.high)), 1e-9)
        bounded = np.clip(returns, self.low, self.high) / extent
        left = np.clip(horizons, 1.0, self.horizon) / self.horizon
        return np.concatenate([bounded, left[:, None]], axis=1).astype(np.float32)

    def inputs(self, encoded: NDArray[Any]) -> NDArray[np.float32]:
        """Encoded observations (row, input), standardised."""
        return np.asarray((encoded - self.centre) / self.spread, np.float32)


@dataclass(frozen=True, eq=False)
class CommandController:
    """The network and what its inputs mean; shared by all policies of an answer."""

    parameters: Parameters
    scale: CommandScale
    encoder: ObservationEncoder
    discount: float

    def logits(
        self,
        observations: NDArray[Any],
        returns: NDArray[np.float64],
        horizons: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Scores of the actions, (row, action), for observations and commands of each row."""
        inputs = self.scale.inputs(self.encoder(observations))
        return logits(self.parameters, inputs, self.scale.features(returns, horizons))


@dataclass(frozen=True, eq=False)
class CommandPolicy:
    """Takes the most probable action for what is still wanted.

    Its memory is the command: rewards are taken off the return, what remains is divided by the
    discount, and the horizon falls by one per step, down to one.

    Attributes:
        controller: shared.
        wanted: discounted return that is wanted from the start, (objective,).
        horizon: steps in which it is wanted.
    """

    controller: CommandController
    wanted: Vector
    horizon: int
    deterministic = True

    def begin(self, num_envs: int) -> PolicyState:
        """The whole command is still to be fulfilled."""
        return {
            "wanted": np.tile(self.wanted, (num_envs, 1)),
            "horizon": np.full(num_envs, float(self.horizon)),
        }

    def act(
        self,
        observations: NDArray[Any],
        state: PolicyState,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - deterministic
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions; see `morl.types.StatefulPolicy`."""
        scores = self.controller.logits(observations, state["wanted"], state["horizon"])
        return np.asarray(scores.argmax(axis=1)), state

    def observe(
        self, state: PolicyState, rewards: NDArray[np.float64], ended: NDArray[np.bool_]
    ) -> PolicyState:
        """Take rewards off the command; begin again where an episode ended."""
        return command_after(
            state, self.begin(len(ended)), rewards, ended, discount=self.controller.discount
        )

    @classmethod
    def stack(cls, policies: Sequence[CommandPolicy]) -> CommandPolicies:
        """All of them, acting in one call."""
        return CommandPolicies(policies)


class CommandPolicies:
    """Policies of one controller, acting together; axes begin with (policy, env)."""

    def __init__(self, policies: Sequence[CommandPolicy]) -> None:
        self._policies = policies

    def begin(self, num_envs: int) -> PolicyState:
        """The whole commands."""
        states = [policy.begin(num_envs) for policy in self._policies]
        return {key: np.stack([state[key] for state in states]) for key in states[0]}

    def act(
        self, observations: NDArray[Any], state: PolicyState, *, rng: np.random.Generator
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions; see `morl.types.StackedStatefulPolicy`."""
        del rng
        chosen = [
            policy.controller.logits(seen, wanted, horizon).argmax(axis=1)
            for policy, seen, wanted, horizon in zip(
                self._policies, observations, state["wanted"], state["horizon"], strict=True
            )
        ]
        return np.stack(chosen), state

    def observe(
        self, state: PolicyState, rewards: NDArray[np.float64], ended: NDArray[np.bool_]
    ) -> PolicyState:
        """Take rewards off the commands."""
        discount = self._policies[0].controller.discount
        return command_after(state, self.begin(ended.shape[1]), rewards, ended, discount=discount)


def command_after(
    state: PolicyState,
    begin: PolicyState,
    rewards: NDArray[np.float64],
    ended: NDArray[np.bool_],
    *,
    discount: float,
) -> PolicyState:
    """Commands after a step, with any leading axes.

    Args:
        state: "wanted" (..., env, objective) and "horizon" (..., env).
        begin: of the same shapes, for episodes that ended.
        rewards: (..., env, objective).
        ended: (..., env).
        discount: in (0, 1].
    """
    wanted = (state["wanted"] - rewards) / discount
    horizon = np.maximum(state["horizon"] - 1.0, 1.0)
    return {
        "wanted": np.where(ended[..., None], begin["wanted"], wanted),
        "horizon": np.where(ended, begin["horizon"], horizon),
    }
