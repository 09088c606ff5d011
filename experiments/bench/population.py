"""What a population in one tensor saves: P stacked policies against a loop over P modules.

The incumbent is written in the manner of CleanRL's ``ppo_continuous_action.py`` (one
``torch.nn.Module`` a policy, autograd, Adam), which morl-baselines' MOPPO follows too. Both sides
make the same gradient steps of the same loss on the same samples, shuffling and slicing included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Normal

from morl.agents.learners.core.rollouts import ActionAdapter
from morl.agents.learners.ppo.learner import Experience, PopulationPPO, PPOConfig
from morl.agents.learners.ppo.networks import NetworkSpec, Rows, initial_rows
from morl.experiments.bench.measurement import (
    Pairs,
    cpu_cost,
    interleave,
    single_thread,
    table,
    write_report,
)
from morl.seeding import generator

OBSERVATIONS, ACTIONS, OBJECTIVES = 11, 3, 3
"""Sizes of MO-Gymnasium's hopper with three objectives."""

TARGETS = {(6, 256): 4.0, (50, 64): 17.0}
"""Ratio to be reached, by policies and minibatch."""

SHAPES = ((1, 64), (1, 256), (6, 64), (6, 256), (50, 64))
LEARNING_RATE = 3e-4
MINIBATCHES = 4


class Module(nn.Module):
    """Actor and vector critic of one policy, as CleanRL builds them."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = _tower(OBJECTIVES)
        self.actor_mean = _tower(ACTIONS)
        self.actor_logstd = nn.Parameter(torch.zeros(1, ACTIONS))

    def get_action_and_value(
        self, observations: Tensor, action: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Action, its log-probability, entropy and values."""
        action_mean = self.actor_mean(observations)
        action_logstd = self.actor_logstd.expand_as(action_mean)
        action_std = torch.exp(action_logstd)
        probs: Any = Normal(action_mean, action_std)
        if action is None:
            action = probs.sample()
        return (
            action,
            probs.log_prob(action).sum(1),
            probs.entropy().sum(1),
            self.critic(observations),
        )

    def assign(self, row: NDArray[np.float32], spec: NetworkSpec) -> None:
        """Take over the parameters of one row of a `PopulationNetwork`."""
        with torch.no_grad():
            start = 0
            for parameter, block in zip(self._ordered(), spec.blocks(), strict=True):
                values = torch.from_numpy(row[start : start + block.size].reshape(block.shape))
                parameter.copy_(values.T if values.ndim == 2 else values)
                start += block.size

    def gradient_row(self) -> NDArray[np.float32]:
        """Gradients in the order of `assign`."""
        gradients = [parameter.grad for parameter in self._ordered() if parameter.grad is not None]
        rows = [grad.T if grad.ndim == 2 else grad for grad in gradients]
        return torch.cat([row.reshape(-1) for row in rows]).numpy()

    def _ordered(self) -> list[nn.Parameter]:
        towers = [*self.actor_mean.parameters(), *self.critic.parameters()]
        return [*towers, self.actor_logstd]


def _tower(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(OBSERVATIONS, 64),
        nn.Tanh(),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Linear(64, outputs),
    )


@dataclass(frozen=True)
class Samples:
    """One policy's rollout as CleanRL keeps it: flat tensors of the batch."""

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor


class ModuleLoop:
    """The incumbent: one module and one optimiser a policy, updated one after the other."""

    def __init__(self, rows: Rows, config: PPOConfig) -> None:
        self.config = config
        self.modules = [Module() for _ in rows]
        for module, row in zip(self.modules, rows, strict=True):
            module.assign(row, _spec())
        self.optimisers = [
            torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, eps=1e-5)
            for module in self.modules
        ]

    def improve(self, samples: Sequence[Samples], *, rng: np.random.Generator) -> list[float]:
        """All epochs of an update, for every policy; returns the clipped shares."""
        clipfracs: list[float] = []
        for module, optimiser, own in zip(self.modules, self.optimisers, samples, strict=True):
            indices = np.arange(len(own.observations))
            for _ in range(self.config.epochs):
                rng.shuffle(indices)
                for start in range(0, len(indices), self.config.minibatch):
                    chosen = indices[start : start + self.config.minibatch]
                    optimiser.zero_grad()
                    loss = self.loss(module, own, chosen, clipfracs)
                    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                    nn.utils.clip_grad_norm_(module.parameters(), self.config.max_gradient_norm)
                    optimiser.step()
        return clipfracs

    def loss(
        self, module: Module, samples: Samples, chosen: NDArray[np.intp], clipfracs: list[float]
    ) -> Tensor:
        """PPO's loss on one minibatch."""
        config = self.config
        _, newlogprob, entropy, newvalue = module.get_action_and_value(
            samples.observations[chosen], samples.actions[chosen]
        )
        logratio = newlogprob - samples.log_probabilities[chosen]
        ratio = logratio.exp()
        with torch.no_grad():
            _ = (-logratio).mean()
            _ = ((ratio - 1) - logratio).mean()
            clipfracs.append(((ratio - 1.0).abs() > config.clip).float().mean().item())
        advantages = standardised(samples.advantages[chosen])
        pg_loss1 = -advantages * ratio
        pg_loss2 = -advantages * torch.clamp(ratio, 1 - config.clip, 1 + config.clip)
        pg_loss = torch.max(pg_loss1, pg_loss2).mean()
        # Summed over objectives, as each has a critic of its own.
        v_loss = 0.5 * ((newvalue - samples.returns[chosen]) ** 2).sum(1).mean()
        entropy_loss = entropy.mean()
        return (
            pg_loss - config.entropy_coefficient * entropy_loss + v_loss * config.value_coefficient
        )

    def act(self, observations: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Sample actions for (policy, env, feature), with log-probabilities and values."""
        actions = []
        for module, own in zip(self.modules, observations, strict=True):
            with torch.no_grad():
                action, _, _, _ = module.get_action_and_value(torch.Tensor(own))
            actions.append(action.numpy())
        return actions


def standardised(advantages: Tensor) -> Tensor:
    """CleanRL's normalisation of a minibatch's advantages."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def _spec() -> NetworkSpec:
    return NetworkSpec(
        observation_size=OBSERVATIONS,
        action_size=ACTIONS,
        num_objectives=OBJECTIVES,
        hidden=(64, 64),
        discrete=False,
    )


@dataclass(frozen=True)
class Contest:
    """Both sides with equal parameters and equal samples.

    Attributes:
        population: ours.
        loop: the incumbent.
        experience: samples of all policies; the batch holds `MINIBATCHES` minibatches.
        advantages: (policy, batch), scalarised.
        samples: the same as the incumbent's tensors.
    """

    population: PopulationPPO
    loop: ModuleLoop
    experience: Experience
    advantages: NDArray[np.float64]
    samples: list[Samples]

    @classmethod
    def make(cls, *, policies: int, minibatch: int, seed: int = 0) -> Contest:
        """Random samples near the current policies, so that some ratios are clipped."""
        config = PPOConfig(minibatch=minibatch, epochs=2, entropy_coefficient=0.01)
        rngs = [generator(seed, "bench/rows", index) for index in range(policies)]
        rows = initial_rows(_spec(), rngs)
        population = PopulationPPO(
            _spec(),
            rows,
            config,
            actions=ActionAdapter(discrete=False, size=ACTIONS),
            discount=0.99,
        )
        rng = generator(seed, "bench/samples")
        shape = (policies, MINIBATCHES * minibatch)
        observations = rng.standard_normal((*shape, OBSERVATIONS), dtype=np.float32)
        actions, log_probabilities = population.act(observations, rng=rng)
        noise = 0.15 * rng.standard_normal(shape, dtype=np.float32)
        experience = Experience(
            observations=observations,
            actions=actions,
            log_probabilities=log_probabilities + noise,
            advantages=rng.standard_normal((*shape, OBJECTIVES)),
            targets=rng.standard_normal((*shape, OBJECTIVES), dtype=np.float32),
            discount_weights=np.ones(shape),
            returns=np.zeros((policies, OBJECTIVES)),
            num_episodes=np.ones(policies, np.int64),
        )
        advantages = experience.advantages.mean(axis=2)
        samples = [
            Samples(*map(torch.from_numpy, own))
            for own in zip(
                experience.observations,
                experience.actions,
                experience.log_probabilities,
                advantages.astype(np.float32),
                experience.targets,
                strict=True,
            )
        ]
        return cls(population, ModuleLoop(rows, config), experience, advantages, samples)

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of one update, the same on both sides."""
        return self.population.config.epochs * MINIBATCHES

    def gradient_difference(self) -> float:
        """Largest difference of any policy's gradient on the first minibatch, before clipping."""
        size = self.population.config.minibatch
        chosen = np.arange(size)
        advantages = np.stack([standardised(own.advantages[:size]).numpy() for own in self.samples])
        packed = np.concatenate(
            [
                self.experience.actions[:, :size],
                self.experience.log_probabilities[:, :size, None],
                advantages[..., None],
                self.experience.targets[:, :size],
            ],
            axis=-1,
            dtype=np.float32,
        )
        network = self.population.network
        statistics = np.zeros((len(self.samples), 4), np.float32)
        self.population.accumulate_gradients(
            np.ascontiguousarray(self.experience.observations[:, :size]), packed, statistics
        )
        differences = []
        ours = network.rows(network.gradients)
        for module, own, row in zip(self.loop.modules, self.samples, ours, strict=True):
            module.zero_grad()
            loss = self.loop.loss(module, own, chosen, [])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            differences.append(np.abs(module.gradient_row() - row).max())
        return float(max(differences))

    def measure_update(self, *, pairs: int) -> Pairs:
        """CPU seconds of a gradient step of all policies."""
        ours, theirs = generator(0, "bench/ours"), generator(0, "bench/theirs")

        def improve() -> None:
            self.population.improve(
                self.experience, self.advantages, learning_rate=LEARNING_RATE, rng=ours
            )

        return interleave(
            cpu_cost(improve, units=self.gradient_steps),
            cpu_cost(
                lambda: self.loop.improve(self.samples, rng=theirs), units=self.gradient_steps
            ),
            pairs=pairs,
        )

    def measure_acting(self, *, num_envs: int, calls: int, pairs: int) -> Pairs:
        """CPU seconds of one step's actions, log-probabilities and values of all policies."""
        rng = generator(0, "bench/acting")
        observations = np.ascontiguousarray(self.experience.observations[:, :num_envs])
        population = self.population

        def act() -> None:
            for _ in range(calls):
                population.act(observations, rng=rng)
                # A rollout's values come from one call after it; here they are paid a step.
                population.network.values(population.normalise(observations))

        def act_in_turn() -> None:
            for _ in range(calls):
                self.loop.act(observations)

        return interleave(
            cpu_cost(act, units=calls), cpu_cost(act_in_turn, units=calls), pairs=pairs
        )


def measure(*, pairs: int = 9, shapes: Sequence[tuple[int, int]] = SHAPES) -> dict[str, Any]:
    """Compare updates for all shapes, acting, and gradients.

    Args:
        pairs: interleaved measurements a row.
        shapes: policies and minibatch of each row.
    """
    with single_thread():
        updates = [_update_row(*shape, pairs=pairs) for shape in shapes]
        acting = [_acting_row(policies, pairs=pairs) for policies in (1, 6)]
    return {
        "what": "CPU time of one PPO gradient step of all policies (forward, loss, backward, "
        "clipping, Adam, shuffling, slicing) and of acting once, at one thread",
        "incumbent": "loop over torch modules in the manner of CleanRL",
        "network": f"tanh {OBSERVATIONS}-64-64-{ACTIONS} actor, vector critic of {OBJECTIVES}",
        "seed": 0,
        "update": updates,
        "acting": acting,
    }


def _update_row(policies: int, minibatch: int, *, pairs: int) -> dict[str, Any]:
    contest = Contest.make(policies=policies, minibatch=minibatch)
    difference = contest.gradient_difference()
    measured = contest.measure_update(pairs=pairs).record()
    target = TARGETS.get((policies, minibatch))
    return {
        "shape": f"P={policies}, B={minibatch}",
        **measured,
        "target": target,
        "met": None if target is None else measured["ratio"] >= target,
        "gradient_difference": float(f"{difference:.2g}"),
    }


def _acting_row(policies: int, *, pairs: int) -> dict[str, Any]:
    contest = Contest.make(policies=policies, minibatch=64)
    measured = contest.measure_acting(num_envs=4, calls=50, pairs=pairs).record()
    return {"shape": f"{policies} x 4 environments", **measured}


def main(*, pairs: int = 9, output: Path | None = None) -> dict[str, Any]:
    """Measure, print, and write ``population.json``."""
    report = write_report(
        "population",
        measure(pairs=pairs),
        command="python -m morl.experiments.bench --only population",
        output=output,
    )
    print("\nOne gradient step of P policies, minibatch B: stacked against a loop over modules")
    print(table(report["update"]))
    print("\nActing once")
    print(table(report["acting"]))
    return report
