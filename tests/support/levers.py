"""A bandit with episodes, for tests: every return has a closed form.

Each step pays the fixed vector of the pulled lever, times a factor 1 + noise drawn from the
episode's own generator; an episode ends with a fixed probability after every step, or at its
horizon. The module is also a command line that knows this environment:
``python levers.py run env=levers-v0``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from morl.types import EnvSpec, Front, KnownFront, Objective, Task

LEVERS = {
    2: np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6], [0.2, 0.2]]),
    3: np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.5, 0.5, 0.5]]),
    4: np.eye(4),
}
"""What a lever pays, by number of objectives; shape (action, objective)."""

HORIZON = 20
STOP = 0.1
DISCOUNT = 0.9


def weight(discount: float, *, stop: float = STOP, horizon: int = HORIZON) -> float:
    """Expected discounted sum of ones over an episode."""
    return float(sum((discount * (1.0 - stop)) ** step for step in range(horizon)))


def known_points(discount: float) -> Front:
    """The three constant policies that are worth having, of two objectives."""
    return LEVERS[2][:3] * weight(discount)


SPEC = EnvSpec(
    id="levers-v0",
    objectives=(Objective("speed", "m"), Objective("thrift", "J", "energy <saved>")),
    reference_point=(-0.5, -0.5),
    discount=DISCOUNT,
    horizon=HORIZON,
    box=((0.0, 0.0), (8.0, 8.0)),
    known_front=KnownFront(known_points, "approximate", "constant policies <by hand>"),
    anchors={"do-nothing": 0.25},
    description="Four levers, two objectives.",
)


class Levers(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]):
    """A batch of episodes.

    Args:
        num_envs: size of the batch.
        num_objectives: 2, 3 or 4.
        noise: standard deviation of the factor on rewards.
        stop: probability that an episode ends after a step.
        horizon: steps after which it is cut, or None.
        nan_step: the step of an episode that pays NaN, counted from 1.
        fail_step: the step of an episode that raises.
        sleep_s: how long a step takes.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - Gymnasium's way

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_objectives: int = 2,
        noise: float = 0.0,
        stop: float = STOP,
        horizon: int | None = HORIZON,
        nan_step: int | None = None,
        fail_step: int | None = None,
        sleep_s: float = 0.0,
    ) -> None:
        self.num_envs = num_envs
        self.levers = LEVERS[num_objectives]
        self.noise, self.stop, self.horizon = noise, stop, horizon
        self.nan_step, self.fail_step, self.sleep_s = nan_step, fail_step, sleep_s
        self.single_observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.single_action_space = spaces.Discrete(len(self.levers))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.reward_space = spaces.Box(-np.inf, np.inf, (num_objectives,), np.float64)
        self._rngs = [np.random.default_rng(row) for row in range(num_envs)]
        self._steps = np.zeros(num_envs, dtype=np.int64)

    def _observe(self) -> NDArray[np.float32]:
        ages = np.minimum(self._steps / HORIZON, 1.0)
        return np.stack([ages, np.ones(self.num_envs)], axis=1).astype(np.float32)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if isinstance(seed, int):
            seed = [seed + row for row in range(self.num_envs)]
        for row, own in enumerate(seed or []):
            if own is not None:
                self._rngs[row] = np.random.default_rng(own)
        self._steps[:] = 0
        return self._observe(), {}

    def step(self, actions: NDArray[np.int64]) -> tuple[Any, ...]:
        if self.sleep_s:
            time.sleep(self.sleep_s)
        self._steps += 1
        if self.fail_step is not None and (self._steps == self.fail_step).any():
            raise RuntimeError("the lever broke off")
        draws = np.array([(rng.normal(), rng.random()) for rng in self._rngs])
        rewards = self.levers[actions] * (1.0 + self.noise * draws[:, :1])
        if self.nan_step is not None:
            rewards[self._steps == self.nan_step, 0] = np.nan
        terminated = draws[:, 1] < self.stop
        truncated = ~terminated & (self._steps >= (self.horizon or np.inf))
        ended = terminated | truncated
        infos: dict[str, Any] = {}
        if ended.any():
            infos["final_obs"] = self._observe()
            self._steps[ended] = 0
        return self._observe(), rewards, terminated, truncated, infos


def task(*, spec: EnvSpec = SPEC, **kwargs: Any) -> Task:
    """The environment as a task, without the registry."""
    kwargs.setdefault("horizon", spec.horizon)
    return Task(spec=spec, factory=lambda num_envs: Levers(num_envs, **kwargs), kwargs=kwargs)


def _spec(*, num_objectives: int = 2, **_: Any) -> EnvSpec:
    """The spec for a number of objectives."""
    if num_objectives == 2:
        return SPEC
    return EnvSpec(
        id=SPEC.id,
        objectives=tuple(Objective(f"gain {index}") for index in range(num_objectives)),
        reference_point=(-0.5,) * num_objectives,
        discount=DISCOUNT,
        horizon=HORIZON,
    )


def register() -> None:
    """Let the registry know the environment; once is enough."""
    from morl.registry import register_env

    register_env(SPEC.id, spec=_spec, make_vec=_make_vec)


def _make_vec(num_envs: int, *, max_episode_steps: int | None = HORIZON, **kwargs: Any) -> Levers:
    return Levers(num_envs, horizon=max_episode_steps, **kwargs)


register()

if __name__ == "__main__":
    import sys

    from morl.experiments.cli import main

    sys.exit(main())
