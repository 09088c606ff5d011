"""Pareto conditioned networks: imitate the best episodes, conditioned on what they returned.

Reymond, Bargiacchi and Nowé, "Pareto Conditioned Networks" (AAMAS 2022). What differs from the
paper is said in docs/agents/pcn.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.core.budget import Budget
from morl.agents.learners.core.checks import require_finite_rewards
from morl.agents.learners.core.encoders import ObservationEncoder
from morl.agents.learners.returns.episodes import Episode, EpisodePool, returns_to_go
from morl.agents.learners.returns.network import (
    Adam,
    initial_parameters,
    loss_and_gradients,
    probabilities,
)
from morl.agents.learners.returns.policies import CommandController, CommandPolicy, CommandScale
from morl.capabilities import Capabilities
from morl.pareto import RELATIVE_TOLERANCE, nondominated
from morl.preferences import check_preferences
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Settings, bounded, searchable
from morl.seeding import generator, stream
from morl.types import Front, Metrics, Solution, State, Task, Vector

MAX_ONE_HOT = 4096
"""Most one-hot inputs; beyond it integers stay numbers."""


@dataclass
class Config(Settings):
    """Settings of Pareto conditioned networks.

    Attributes:
        num_envs: episodes that are played at a time, each for a command of its own.
        capacity: most episodes that are kept to learn from.
        random_episodes: episodes with random actions at the start.
        explore: share of the later episodes that act at random from some step on; the step is
            uniform within the length of the episode whose return they ask for.
        updates: of the network, after each round of episodes.
        batch: rows of an update.
        hidden: width of the network.
        learning_rate: of Adam.
        min_crowding: crowding distance at and below which an episode is worth half.
        encoding: of integers in observations: "raw", "one_hot" or "both".
    """

    num_envs: int = searchable(16, bounds=COUNT, low=4, high=64, log=True)
    capacity: int = bounded(400, COUNT)
    random_episodes: int = searchable(64, bounds=COUNT, low=16, high=512, log=True)
    explore: float = searchable(0.1, bounds=SHARE, low=0.0, high=0.9)
    updates: int = searchable(30, bounds=COUNT, low=5, high=100, log=True)
    batch: int = bounded(256, COUNT)
    hidden: int = searchable(64, bounds=COUNT, low=32, high=256, log=True)
    learning_rate: float = searchable(3e-3, bounds=POSITIVE, low=3e-4, high=1e-2, log=True)
    min_crowding: float = bounded(0.2, NOT_NEGATIVE)
    encoding: str = bounded("both", choices=("raw", "one_hot", "both"))


SMOKE = {"num_envs": 4, "random_episodes": 4, "updates": 2, "batch": 8, "hidden": 8}


@register_agent(
    "pcn",
    config=Config,
    acts=Capabilities(actions=("discrete",), stateful=True, smoke=SMOKE),
)
class ParetoConditionedNetwork:
    """Plays rounds of episodes for commands, keeps the best episodes and imitates them.

    A round begins with new episodes and ends once every environment has finished one; random
    streams follow from counters, so it does not matter how often a run is saved.

    Args:
        task: with discrete actions.
        config: settings.
        total_steps: environment steps it may take.
        seed: root of its random streams.

    Raises:
        UnsupportedTaskError: observations are images.
        BudgetError: the budget is less than one step of all environments.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task, self._config, self._seed = task, config, seed
        self._budget = Budget(total_steps)
        self._budget.require(
            config.num_envs, env_id=task.spec.id, round_name="step of all environments",
            settings=("num_envs",),
        )  # fmt: skip
        self._batch = task.make_vec(config.num_envs)
        seen, acted = self._batch.single_observation_space, self._batch.single_action_space
        assert isinstance(seen, spaces.Box)
        assert isinstance(acted, spaces.Discrete)
        self._num_actions, self._first_action = int(acted.n), int(acted.start)
        self._encoder = ObservationEncoder.of(
            seen, config.encoding, max_inputs=MAX_ONE_HOT, env_id=task.spec.id
        )
        objectives, inputs = task.spec.num_objectives, self._encoder.num_inputs
        self._pool = EpisodePool.empty(inputs, objectives)
        self._adam = Adam(
            initial_parameters(
                inputs, objectives + 1, self._num_actions, hidden=config.hidden,
                rng=generator(seed, "pcn/network"),
            ),
            config.learning_rate,
        )  # fmt: skip
        self._rounds, self._episodes, self._loss = 0, 0, 0.0

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self._budget.steps

    @property
    def finished(self) -> bool:
        """Whether the rest of the budget is less than one step of all environments."""
        return not self._budget.fits(self._config.num_envs)

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more environment steps are taken.

        Raises:
            NonFiniteError: a reward is not finite.
        """
        goal = self._budget.goal(steps)
        while self._budget.steps < goal and not self.finished:
            self._play_round()
        return {
            "train/episodes": float(self._episodes),
            "train/front": float(len(self._front())),
            "train/loss": self._loss,
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """A policy per undominated episode, or the best of these episodes for each preference.

        Before an episode has ended there is nothing to ask for: the only command is then zero.
        """
        policies = self._policies()
        if preferences is None:
            return [Solution(policy) for policy in policies]
        wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
        best = (wanted @ np.stack([policy.wanted for policy in policies]).T).argmax(axis=1)
        return [
            Solution(policies[index], preference)
            for index, preference in zip(best.tolist(), wanted, strict=True)
        ]

    def state_dict(self) -> State:
        """Counters, episodes and network; random streams follow from the counters."""
        return {
            "steps": self._budget.steps,
            "rounds": self._rounds,
            "episodes": self._episodes,
            "loss": self._loss,
            "pool": self._pool.state_dict(),
            "network": self._adam.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._budget.steps, self._rounds = int(state["steps"]), int(state["rounds"])
        self._episodes, self._loss = int(state["episodes"]), float(state["loss"])
        self._pool = EpisodePool.from_state(state["pool"])
        self._adam.load_state_dict(state["network"])

    def _front(self) -> NDArray[np.int64]:
        """Kept episodes that are undominated, one of each return."""
        if not len(self._pool):
            return np.zeros(0, np.int64)
        mask = nondominated(self._pool.values, tolerance=RELATIVE_TOLERANCE)
        return np.asarray(np.flatnonzero(mask))

    def _scale(self) -> CommandScale:
        pool = self._pool
        if not len(pool):  # the only command is zero
            objectives = self._task.spec.num_objectives
            pool = pool.with_episodes([
                Episode(
                    np.zeros((1, self._encoder.num_inputs), np.float32),
                    np.zeros(1, np.int64), np.zeros((1, objectives)),
                )
            ])  # fmt: skip
        return CommandScale.of(pool, num_numbers=self._encoder.num_numbers)

    def _controller(self) -> CommandController:
        parameters = {key: value.copy() for key, value in self._adam.parameters.items()}
        return CommandController(parameters, self._scale(), self._encoder, self._task.spec.discount)

    def _policies(self) -> list[CommandPolicy]:
        controller, front = self._controller(), self._front()
        if not len(front):
            return [CommandPolicy(controller, np.zeros(self._task.spec.num_objectives), 1)]
        return [
            CommandPolicy(controller, self._pool.values[index], int(self._pool.lengths[index]))
            for index in front.tolist()
        ]

    def _play_round(self) -> None:
        rng = generator(self._seed, "pcn/round", self._rounds)
        random = self._episodes < self._config.random_episodes or not len(self._pool)
        found = self._play(rng, None if random else self._controller())
        self._rounds += 1
        self._episodes += len(found)
        if self._budget.remaining < self._config.num_envs:
            self._budget.steps = self._budget.total_steps
        self._pool = self._pool.with_episodes(found).kept(
            self._config.capacity, min_crowding=self._config.min_crowding
        )
        if self._episodes >= self._config.random_episodes:
            self._fit(rng)

    def _play(
        self, rng: np.random.Generator, controller: CommandController | None
    ) -> list[Episode]:
        """Episodes that ended before every environment had finished one; at random without one."""
        num_envs, discount = self._config.num_envs, self._task.spec.discount
        seeds = stream(self._seed, "pcn/episodes", num_envs, start=self._rounds * num_envs)
        observations, _ = self._batch.reset(seed=seeds)  # type: ignore[arg-type]
        running = [_Running() for _ in range(num_envs)]
        wanted, horizons = self._commands(num_envs, rng, random=controller is None)
        obedient = self._obedient_steps(horizons, rng)
        waiting, found = np.ones(num_envs, np.bool_), list[Episode]()
        while waiting.any() and not self.finished:
            actions = self._act(observations, wanted, horizons, controller, rng)
            wandering = obedient <= 0.0
            actions[wandering] = rng.integers(self._num_actions, size=int(wandering.sum()))
            encoded = self._encoder(observations).astype(np.float32)
            observations, rewards, terminated, truncated, _ = self._batch.step(
                actions + self._first_action
            )
            self._count(rewards)
            for one, *row in zip(running, encoded, actions, rewards, strict=True):
                one.append(*row)
            wanted, horizons = (wanted - rewards) / discount, np.maximum(horizons - 1.0, 1.0)
            obedient -= 1.0
            ended = np.flatnonzero(terminated | truncated)
            for environment in ended.tolist():
                found.append(running[environment].episode(discount))
                running[environment] = _Running()
            if len(ended):
                wanted[ended], horizons[ended] = self._commands(
                    len(ended), rng, random=controller is None
                )
                obedient[ended] = self._obedient_steps(horizons[ended], rng)
            waiting[ended] = False
        return found

    def _count(self, rewards: NDArray[np.float64]) -> None:
        self._budget.spend(len(rewards))
        require_finite_rewards(
            rewards, env_id=self._task.spec.id, seed=self._seed, step=self._budget.steps
        )

    def _act(
        self,
        observations: NDArray[Any],
        wanted: NDArray[np.float64],
        horizons: NDArray[np.float64],
        controller: CommandController | None,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Actions from zero, (env,), drawn from the network or uniformly."""
        if controller is None:
            return rng.integers(self._num_actions, size=len(observations))
        chances = probabilities(controller.logits(observations, wanted, horizons))
        drawn = rng.random((len(chances), 1)) * chances.sum(axis=1, keepdims=True)
        return np.asarray((chances.cumsum(axis=1) > drawn).argmax(axis=1))

    def _commands(
        self, count: int, rng: np.random.Generator, *, random: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Commands a little beyond undominated episodes, (command, objective) and (command,)."""
        objectives = self._task.spec.num_objectives
        if random:
            return np.zeros((count, objectives)), np.ones(count)
        front = self._front()
        return improved_commands(
            self._pool.values[front], self._pool.lengths[front], count=count, rng=rng
        )

    def _obedient_steps(
        self, horizons: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Steps for which new episodes follow their commands, (episode,)."""
        steps = np.floor(rng.random(len(horizons)) * (horizons + 2.0))
        exploring = rng.random(len(horizons)) < self._config.explore
        return np.where(exploring, steps, np.inf)

    def _fit(self, rng: np.random.Generator) -> None:
        scale, pool = self._scale(), self._pool
        inputs, horizons = scale.inputs(pool.inputs), pool.horizons.astype(np.float64)
        commands = scale.features(pool.returns, horizons)
        losses = []
        for _ in range(self._config.updates):
            rows = pool.sample(self._config.batch, rng)
            loss, gradients = loss_and_gradients(
                self._adam.parameters, inputs[rows], commands[rows], pool.actions[rows]
            )
            self._adam.step(gradients)
            losses.append(loss)
        self._loss = float(np.mean(losses))


class _Running:
    """An episode that has not ended."""

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[np.float32], int, Vector]] = []

    def append(self, inputs: NDArray[np.float32], action: int, reward: Vector) -> None:
        """One step more."""
        self._rows.append((inputs, int(action), reward.copy()))

    def episode(self, discount: float) -> Episode:
        """The steps so far, as an episode that ended here."""
        inputs, actions, rewards = zip(*self._rows, strict=True)
        to_go = returns_to_go(np.stack(rewards), discount=discount)
        return Episode(np.stack(inputs), np.array(actions, np.int64), to_go)


def improved_commands(
    values: Front, lengths: NDArray[np.int64], *, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ask for a little more than undominated episodes returned.

    One objective of a randomly chosen return grows by up to the front's standard deviation in it,
    and the horizon shrinks by two steps, as in the paper.

    Args:
        values: undominated returns, (point, objective).
        lengths: of their episodes, (point,).
        count: number of commands.
        rng: source of randomness.

    Returns:
        Returns (command, objective) and horizons (command,).
    """
    chosen = rng.integers(len(values), size=count)
    objectives = rng.integers(values.shape[1], size=count)
    wanted = values[chosen].copy()
    wanted[np.arange(count), objectives] += rng.random(count) * values.std(axis=0)[objectives]
    return wanted, np.maximum(lengths[chosen] - 2.0, 1.0)
