"""Proximal policy optimisation for a whole population at once.

One `PopulationPPO` holds P independent learners in stacked tensors: their actors, vector critics,
optimiser states and normalisers. Who scalarises the advantages decides what they learn; that is
left to the agent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.core.normalisation import RunningMoments, normalise_observations
from morl.agents.learners.core.rollouts import ActionAdapter, Rollout
from morl.agents.learners.ppo import kernels
from morl.agents.learners.ppo.networks import NetworkSpec, PopulationNetwork, Rows
from morl.search_space import COUNT, POSITIVE, Settings, searchable
from morl.types import NonFiniteError, State

Grid: TypeAlias = NDArray[np.float64]
"""Values of the critics, (policy, time, env, objective)."""


@dataclass
class PPOConfig(Settings):
    """Settings of the policy optimisation.

    Attributes:
        hidden: units of the hidden layers, actor and critic alike.
        learning_rate: of Adam.
        epochs: passes over each rollout.
        minibatch: transitions of one policy in a gradient step.
        clip: bound on the change of the probability ratio.
        gae_lambda: trace decay of the advantage estimate.
        entropy_coefficient: weight of the entropy bonus.
        value_coefficient: weight of the critic's loss.
        max_gradient_norm: bound on each policy's gradient norm.
        target_kl: mean KL divergence from the rollout's policy at which a policy's remaining
            epochs are skipped; None never skips.
    """

    hidden: tuple[int, ...] = searchable(
        (64, 64), choices={"64x64": (64, 64), "128x128": (128, 128), "256x256": (256, 256)}
    )
    learning_rate: float = searchable(3e-4, bounds=POSITIVE, low=1e-4, high=3e-3, log=True)
    epochs: int = searchable(10, bounds=COUNT, low=3, high=20, log=True)
    minibatch: int = searchable(256, bounds=COUNT, low=64, high=1024, log=True)
    clip: float = searchable(0.2, bounds=POSITIVE, low=0.1, high=0.4)
    gae_lambda: float = searchable(0.95, low=0.8, high=1.0)
    entropy_coefficient: float = searchable(0.0, low=0.0, high=0.05)
    value_coefficient: float = 0.5
    max_gradient_norm: float = searchable(0.5, low=0.2, high=5.0, log=True)
    target_kl: float | None = None


@dataclass(frozen=True)
class Experience:
    """A rollout with everything that an update needs.

    Attributes:
        observations: (policy, batch, feature), normalised; batch runs over time, then env.
        actions: (policy, batch, action).
        log_probabilities: (policy, batch).
        advantages: (policy, batch, objective), in the environment's units.
        targets: (policy, batch, objective), value targets in normalised units.
        discount_weights: (policy, batch), discount to the power of the time in the episode,
            divided by the number of episodes: with them, a sum over advantages estimates the
            difference of two returns (Kakade and Langford 2002).
        returns: (policy, objective), mean discounted return of the episodes begun in the
            rollout, in the environment's units.
        num_episodes: (policy,), how many those were.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]
    advantages: NDArray[np.float64]
    targets: NDArray[np.float32]
    discount_weights: NDArray[np.float64]
    returns: NDArray[np.float64]
    num_episodes: NDArray[np.int64]


class PopulationPPO:
    """P learners in lockstep.

    Args:
        spec: network of each.
        rows: initial parameters, (policy, parameter).
        config: settings shared by all.
        actions: description of the action space.
        discount: discount factor of the returns to be maximised.
        observation_moments: statistics to begin with; fresh ones if None.
        return_moments: likewise, of the discounted sums by which rewards are scaled.
        standardised: features, from the first, that are standardised; codes after them are left
            as they are. None for all.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        rows: Rows,
        config: PPOConfig,
        *,
        actions: ActionAdapter,
        discount: float,
        observation_moments: RunningMoments | None = None,
        return_moments: RunningMoments | None = None,
        standardised: int | None = None,
    ) -> None:
        self._standardised = standardised
        self.network = PopulationNetwork(spec, rows)
        self.config = config
        self.discount = discount
        self.num_policies = len(rows)
        self._actions = actions
        self.observation_moments = observation_moments or RunningMoments(
            len(rows), spec.observation_size
        )
        self.return_moments = return_moments or RunningMoments(len(rows), spec.num_objectives)
        self._first = np.zeros_like(self.network.parameters)
        self._second = np.zeros_like(self.network.parameters)
        self._counts = np.zeros(len(rows), np.int64)

    def normalise(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Standardise (policy, ..., feature) by each policy's statistics."""
        moments = self.observation_moments
        return normalise_observations(observations, moments.mean, moments.scale)

    def act(
        self, observations: NDArray[Any], *, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Sample actions (policy, env, *action) and their log-probabilities (policy, env)."""
        outputs = self.network.policy_outputs(self.normalise(observations))
        log_probabilities = np.empty(outputs.shape[:2], np.float32)
        if self._actions.discrete:
            indices = np.empty(outputs.shape[:2], np.int64)
            uniform = rng.random(outputs.shape[:2])
            kernels.sample_categorical(outputs, uniform, indices, log_probabilities)
            return indices, log_probabilities
        actions = np.empty_like(outputs)
        normal = rng.standard_normal(outputs.shape, dtype=np.float32)
        kernels.sample_gaussian(outputs, self.network.log_std, normal, actions, log_probabilities)
        return actions, log_probabilities

    def digest(self, rollout: Rollout) -> Experience:
        """Estimate advantages and value targets; then let the normalisers see the rollout."""
        policies, times, envs = rollout.terminated.shape
        flat = (policies, times * envs)
        observations = self.normalise(rollout.observations)
        values = self._values(observations)
        next_values = self._next_values(rollout, values)
        self._update_return_moments(rollout)
        scale = self.return_moments.scale[:, None, None, :]
        # Not clipped: where rewards vary little around a mean, a clip would hide the differences.
        rewards = rollout.rewards / scale
        advantages = np.empty_like(rewards)
        kernels.generalised_advantages(
            rewards,
            values,
            next_values,
            rollout.ended,
            self.discount,
            self.config.gae_lambda,
            advantages,
        )
        returns, counts = self._started_returns(rollout, next_values * scale)
        self.observation_moments.update(
            rollout.observations.reshape(policies, -1, rollout.observations.shape[-1]),
            features=self._standardised,
        )
        return Experience(
            observations=observations.reshape(*flat, -1),
            actions=rollout.actions.reshape(*flat, -1),
            log_probabilities=rollout.log_probabilities.reshape(flat),
            advantages=(advantages * scale).reshape(*flat, -1),
            targets=(advantages + values).astype(np.float32).reshape(*flat, -1),
            discount_weights=_discount_weights(rollout, self.discount).reshape(flat),
            returns=returns,
            num_episodes=counts,
        )

    def _values(self, observations: NDArray[np.float32]) -> Grid:
        """Critic at (policy, ..., feature), same leading axes."""
        policies, features = observations.shape[0], observations.shape[-1]
        values = self.network.values(observations.reshape(policies, -1, features))
        return values.reshape(*observations.shape[:-1], -1).astype(np.float64)

    def _next_values(self, rollout: Rollout, values: Grid) -> Grid:
        """Critic at what follows each step; zero after termination."""
        last = self._values(self.normalise(rollout.last_observations))
        following = np.concatenate([values[:, 1:], last[:, None]], axis=1)
        following[rollout.ended] = 0.0
        for cut in rollout.truncations:
            padded = np.zeros_like(rollout.last_observations)
            padded[cut.policies, cut.envs] = cut.observations
            final = self._values(self.normalise(padded))
            following[cut.policies, cut.time, cut.envs] = final[cut.policies, cut.envs]
        return following

    def _update_return_moments(self, rollout: Rollout) -> None:
        policies, _, envs, objectives = rollout.rewards.shape
        sums = np.empty_like(rollout.rewards)
        running = np.zeros((policies, envs, objectives))
        kernels.discounted_sums(rollout.rewards, rollout.ended, self.discount, running, sums)
        self.return_moments.update(sums.reshape(policies, -1, objectives))

    def _started_returns(
        self, rollout: Rollout, next_values: Grid
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        totals = np.empty((self.num_policies, rollout.rewards.shape[-1]))
        counts = np.empty(self.num_policies, np.int64)
        kernels.started_returns(
            rollout.rewards,
            next_values,
            rollout.ended,
            rollout.started,
            self.discount,
            totals,
            counts,
        )
        return totals, counts

    def improve(
        self,
        experience: Experience,
        advantage: NDArray[np.float64],
        *,
        learning_rate: float,
        rng: np.random.Generator,
    ) -> dict[str, float]:
        """Make PPO's gradient steps for every policy.

        Args:
            experience: result of `digest`.
            advantage: (policy, batch), scalarised; standardised here for each policy.
            learning_rate: of this update.
            rng: shuffles the minibatches, alike for all policies.

        Returns:
            Means over policies and gradient steps: KL estimate, clipped share, entropy, value
            error.

        Raises:
            NonFiniteError: if a parameter is not finite afterwards.
        """
        packed = np.concatenate(
            [
                experience.actions,
                experience.log_probabilities[..., None],
                standardise(advantage)[..., None],
                experience.targets,
            ],
            axis=-1,
            dtype=np.float32,
        )
        rates = np.full(self.num_policies, learning_rate)
        statistics = np.zeros((self.num_policies, 4), np.float32)
        samples = 0
        batch = experience.observations.shape[1]
        for _ in range(self.config.epochs):
            order = rng.permutation(batch)
            before = statistics[:, 0].copy()
            for start in range(0, batch, self.config.minibatch):
                index = order[start : start + self.config.minibatch]
                self._gradient_step(
                    experience.observations.take(index, axis=1),
                    packed.take(index, axis=1),
                    rates,
                    statistics,
                )
            samples += batch
            if self.config.target_kl is not None:
                rates[(statistics[:, 0] - before) / batch > self.config.target_kl] = 0.0
                if not rates.any():
                    break
        self._check_finite()
        names = ("kl", "clip_fraction", "entropy", "value_error")
        means = statistics.mean(axis=0) / samples
        return {name: float(mean) for name, mean in zip(names, means, strict=True)}

    def fit_critic(
        self, experience: Experience, *, learning_rate: float, rng: np.random.Generator
    ) -> dict[str, float]:
        """Make gradient steps with the critics alone.

        Without advantage and entropy the actors' gradients are zero, and so are Adam's moments as
        long as nothing else has moved them.
        """
        still = replace(self.config, entropy_coefficient=0.0)
        nothing = np.zeros(experience.log_probabilities.shape)
        actors, self.config = self.config, still
        try:
            readings = self.improve(experience, nothing, learning_rate=learning_rate, rng=rng)
        finally:
            self.config = actors
        return {"value_error": readings["value_error"], "entropy": readings["entropy"]}

    def _gradient_step(
        self,
        observations: NDArray[np.float32],
        packed: NDArray[np.float32],
        rates: NDArray[np.float64],
        statistics: NDArray[np.float32],
    ) -> None:
        self.accumulate_gradients(observations, packed, statistics)
        network, config = self.network, self.config
        kernels.clipped_adam_(
            network.parameters,
            network.gradients,
            self._first,
            self._second,
            network.offsets,
            rates,
            self._counts,
            config.max_gradient_norm,
        )

    def accumulate_gradients(
        self,
        observations: NDArray[np.float32],
        packed: NDArray[np.float32],
        statistics: NDArray[np.float32],
    ) -> None:
        """Overwrite the network's gradients by those of the PPO loss.

        Args:
            observations: (policy, batch, feature), normalised.
            packed: (policy, batch, action + 2 + objective): actions, their log-probabilities
                when taken, advantage, value targets.
            statistics: (policy, 4), sums that are added to.
        """
        network, config = self.network, self.config
        policy = network.actor.forward(observations)
        critic = network.critic.forward(observations)
        outputs, values = policy[-1], critic[-1]
        d_outputs, d_values = np.empty_like(outputs), np.empty_like(values)
        weights = (config.clip, config.entropy_coefficient, config.value_coefficient)
        biases = (network.actor.bias_gradients[-1], network.critic.bias_gradients[-1])
        if self._actions.discrete:
            kernels.categorical_head(
                outputs, values, packed, *weights, d_outputs, d_values, *biases, statistics
            )
        else:
            kernels.gaussian_head(
                outputs,
                network.log_std,
                values,
                packed,
                *weights,
                d_outputs,
                d_values,
                *biases,
                network.log_std_gradient,
                statistics,
            )
        network.actor.backward(observations, policy, d_outputs)
        network.critic.backward(observations, critic, d_values)

    def _check_finite(self) -> None:
        if np.isfinite(self.network.parameters).all():
            return
        bad = np.flatnonzero(~np.isfinite(self.network.rows()).all(axis=1))
        raise NonFiniteError(
            f"parameters of policies {bad.tolist()} are not finite after an update; "
            "a lower learning_rate or a smaller reward scale helps"
        )

    def state_dict(self) -> State:
        """Parameters, optimiser and normalisers."""
        return {
            "parameters": self.network.rows(),
            "first": self.network.rows(self._first),
            "second": self.network.rows(self._second),
            "counts": self._counts.copy(),
            "observation_moments": self.observation_moments.state_dict(),
            "return_moments": self.return_moments.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict` of a population of the same size."""
        self.network.parameters[:] = self.network.flatten(state["parameters"])
        self._first[:] = self.network.flatten(state["first"])
        self._second[:] = self.network.flatten(state["second"])
        self._counts = np.array(state["counts"], np.int64)
        self.observation_moments = RunningMoments.from_state(state["observation_moments"])
        self.return_moments = RunningMoments.from_state(state["return_moments"])


def standardise(advantage: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero mean and unit deviation along the batch, for (policy, batch)."""
    centred = advantage - advantage.mean(axis=1, keepdims=True)
    standard: NDArray[np.float64] = centred / (centred.std(axis=1, keepdims=True) + 1e-8)
    return standard


def _discount_weights(rollout: Rollout, discount: float) -> NDArray[np.float64]:
    """Discount to the power of the time since the episode or the rollout began, an episode."""
    policies, times, envs = rollout.terminated.shape
    weights = np.empty((policies, times, envs))
    current = np.ones((policies, envs))
    for t in range(times):
        weights[:, t] = current
        current = np.where(rollout.ended[:, t], 1.0, current * discount)
    pieces = envs + rollout.ended[:, :-1].sum(axis=(1, 2))
    normalised: NDArray[np.float64] = weights / pieces[:, None, None]
    return normalised
