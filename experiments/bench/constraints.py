"""Do offspring keep their constraints? Two bandits whose constrained optimum is known.

``python -m morl.experiments.bench.constraints`` trains one round of stage two from a known parent,
for both variants of C-MORL, and compares exact expected returns with the thresholds and with the
best return that the constraint allows. The parent (and so the threshold) is the same for all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.c_morl import CMORL, Config
from morl.agents.learners.core.normalisation import RunningMoments
from morl.agents.learners.ppo.agent import Member
from morl.agents.learners.ppo.networks import Block
from morl.envs.vector import BatchedEnv
from morl.experiments.bench.measurement import RESULTS, table, write_report
from morl.types import EnvSpec, Front, Objective, Task

COMMAND = "python -m morl.experiments.bench.constraints"

ARMS: Front = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6], [0.2, 0.2]])
"""What each arm of the discrete bandit pays, (action, objective)."""

BETA = 0.9
TOLERANCE = 0.03


class Bandit(BatchedEnv):
    """Episodes of one step.

    Discrete: each arm pays its row of `ARMS`. Continuous: an action a in [-1, 1] pays ``(a, 1 - a
    ** 2)``, so that more of the first objective always costs some of the second.
    """

    def __init__(self, num_envs: int, *, discrete: bool) -> None:
        self._discrete = discrete
        box = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(
            num_envs,
            env_id="bandit",
            observation_space=box,
            action_space=spaces.Discrete(len(ARMS)) if discrete else box,
            reward_space=spaces.Box(-1.0, 1.0, (2,), np.float64),
        )

    def _advance(self, actions: NDArray[Any]) -> None:
        self._terminated[:] = True
        if self._discrete:
            self._rewards[:] = ARMS[actions]
        else:
            action = actions[:, 0].astype(np.float64)
            self._rewards[:] = np.stack([action, 1.0 - action**2], axis=1)

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._observations[indices] = 1.0


def bandit_task(*, discrete: bool) -> Task:
    """The bandit as a task."""
    spec = EnvSpec(
        id="bandit",
        objectives=(Objective("first"), Objective("second")),
        reference_point=(-1.0, -1.0),
        horizon=1,
    )
    return Task(spec=spec, factory=lambda num_envs: Bandit(num_envs, discrete=discrete))


def parent(agent: CMORL, *, discrete: bool) -> Member:
    """A policy that ignores the observation: mostly the compromise, or a = 0.3."""
    network = agent.learner.network
    row = np.concatenate([_parent_block(block, discrete) for block in network.spec.blocks()])
    return Member(
        id=0,
        row=row,
        observation_moments=RunningMoments(1, 1),
        return_moments=RunningMoments(1, 2),
    )


def _parent_block(block: Block, discrete: bool) -> NDArray[np.float32]:
    values = np.zeros(block.size, np.float32)
    if block.name == "actor/1/bias":
        values[:] = np.log([0.05, 0.05, 0.89, 0.01]) if discrete else 0.3
    if block.name == "actor/log_std":
        values[:] = np.log(0.2)
    return values


def expected_returns(agent: CMORL, *, discrete: bool) -> Front:
    """Returns of the learners' sampling policies, (policy, objective), exact or nearly so."""
    ones = np.ones((agent.learner.num_policies, 1, 1), np.float32)
    outputs = agent.learner.network.policy_outputs(agent.learner.normalise(ones))[:, 0]
    if discrete:
        weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        returns: Front = (weights / weights.sum(axis=1, keepdims=True)) @ ARMS
        return returns
    normal = np.random.default_rng(0).standard_normal(200_000)
    scale = np.exp(agent.learner.network.log_std)
    actions = np.clip(outputs + scale * normal, -1.0, 1.0)
    return np.stack([actions.mean(axis=1), 1.0 - np.square(actions).mean(axis=1)], axis=1)


def best_return(threshold: float, *, target: int, discrete: bool) -> float:
    """The largest return of the target that keeps the other at its threshold."""
    if discrete:
        share = threshold / 0.6  # of the compromise; the rest is the target's own arm
        return 0.6 * share + 1.0 - share
    return float(np.sqrt(1.0 - threshold)) if target == 0 else 1.0 - max(0.0, threshold) ** 2


def measure(variant: str, *, discrete: bool, updates: int, seed: int) -> list[dict[str, Any]]:
    """One row an offspring: what it reached, what it had to keep, what was possible."""
    config = Config(
        variant=variant, hidden=(16,), num_envs=64, rollout_steps=16, minibatch=128, beta=BETA,
        extension_learning_rate=2e-3, extension_updates=10**9, snapshot_interval=10**9,
    )  # fmt: skip
    agent = CMORL(bandit_task(discrete=discrete), config, total_steps=10**9, seed=seed)
    agent.extend_from([parent(agent, discrete=discrete)])
    for _ in range(updates):
        agent.update()
    offspring = agent.offspring
    assert offspring is not None
    returns = expected_returns(agent, discrete=discrete)
    rows = []
    for target in (0, 1):
        threshold = float(offspring.threshold[target, 1 - target])
        best = best_return(threshold, target=target, discrete=discrete)
        rows.append(
            {
                "bandit": "discrete" if discrete else "continuous",
                "variant": variant,
                "target": target,
                "threshold": round(threshold, 4),
                "constrained_return": round(float(returns[target, 1 - target]), 4),
                "target_return": round(float(returns[target, target]), 4),
                "best_possible": round(best, 4),
                "kept": bool(returns[target, 1 - target] >= threshold - TOLERANCE),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exit code 1 if a constraint is not kept."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    rows = [
        row
        for discrete in (True, False)
        for variant, updates in (("ipo", 120), ("cpo", 60))
        for row in measure(variant, discrete=discrete, updates=updates, seed=options.seed)
    ]
    print(table(rows))
    record = {"seed": options.seed, "beta": BETA, "tolerance": TOLERANCE, "rows": rows}
    write_report("constraints", record, command=COMMAND, output=options.output)
    return 0 if all(row["kept"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
