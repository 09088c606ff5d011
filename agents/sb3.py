"""Stable-Baselines3 as a baseline: one training for each of a few preferences.

The outer loop picks preferences, evenly spread or by optimistic linear support. For each of them an
algorithm of Stable-Baselines3 maximises the weighted sum of the objectives, on an equal share of
the budget; its policies go to one archive. No part of a policy is shared between preferences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from morl.agents.learners.core.errors import UnsupportedTaskError
from morl.agents.learners.core.linear_support import next_preference
from morl.agents.learners.replay.buffer import LARGEST_BYTES
from morl.agents.learners.sb3.policies import ArrayPolicy, PolicyShape
from morl.agents.learners.sb3.runs import (
    OFF_POLICY,
    ON_POLICY,
    InnerRun,
    RunSettings,
    own_random_numbers,
)
from morl.archive import ParetoArchive
from morl.capabilities import Capabilities
from morl.evaluation import rollout
from morl.preferences import check_preferences, lattice
from morl.registry import register_agent
from morl.search_space import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Settings, bounded, searchable
from morl.seeding import derive_seed, generator, stream
from morl.types import Front, Metrics, Solution, State, Task, Vector

ALGORITHMS = (*ON_POLICY, *OFF_POLICY)
OUTER_LOOPS = ("uniform", "linear_support")

SNAPSHOT_SHARE = 0.1
"""Most of a run's steps that may go to evaluations before its last."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the settings of `Config` that are None stand for.

    The batches are larger than Stable-Baselines3's own, because here many environments step at
    once, and targets of DQN follow faster, because budgets are small.
    """

    num_envs: int
    rollout_steps: int
    minibatch: int
    gradient_steps: int
    hidden: tuple[int, ...]


DEFAULTS = {
    "ppo": Defaults(
        num_envs=32, rollout_steps=64, minibatch=256, gradient_steps=1, hidden=(64, 64)
    ),
    "a2c": Defaults(num_envs=32, rollout_steps=8, minibatch=1, gradient_steps=1, hidden=(64, 64)),
    "dqn": Defaults(num_envs=16, rollout_steps=4, minibatch=128, gradient_steps=4, hidden=(64, 64)),
    "sac": Defaults(
        num_envs=8, rollout_steps=1, minibatch=256, gradient_steps=2, hidden=(256, 256)
    ),
    "td3": Defaults(
        num_envs=8, rollout_steps=1, minibatch=256, gradient_steps=2, hidden=(256, 256)
    ),
}
"""By algorithm."""


@dataclass
class Config(Settings):
    """Settings of the Stable-Baselines3 baseline.

    Attributes:
        algorithm: "ppo", "a2c", "dqn" (discrete actions), "sac" or "td3" (continuous actions).
        outer_loop: "uniform" for a lattice of preferences, "linear_support" to choose each next
            one where the policies found so far leave most room.
        preference_divisions: steps of the lattice from 0 to 1; by default 5 for two objectives, 2
            for three and 1 (unit vectors) above.
        num_preferences: trainings of "linear_support"; by default as many as the lattice has
            points.
        reward_scales: factors of the rewards that preferences weigh; by default 1.
        num_envs: environments of a training; see `DEFAULTS`, as for all that is None.
        rollout_steps: steps in each of them between updates (``n_steps``, ``train_freq``).
        minibatch: transitions in a gradient step.
        epochs: passes over a rollout ("ppo").
        gradient_steps: gradient steps of an update ("dqn", "sac", "td3").
        hidden: units of the hidden layers.
        learning_rate: at the beginning of each training.
        final_learning_rate: share of it that is left at the end.
        entropy_coefficient: weight of the entropy ("ppo", "a2c").
        gae_lambda: of the advantage ("ppo", "a2c").
        clip: bound on the change of probabilities ("ppo").
        replay_capacity: transitions that are kept ("dqn", "sac", "td3").
        learning_starts: share of a training's steps before the first update of these.
        exploration: share of a training during which the rate of random actions falls ("dqn").
        final_exploration: rate of random actions afterwards ("dqn").
        target_interval: steps between two copies of the network for targets ("dqn").
        action_noise: standard deviation of noise on actions, whose range is -1 to 1 ("td3").
        normalise: whether observations and rewards are divided by their running scale, rewards by
            that of their discounted sum.
        training_discount: discount in training; the task's by default.
        snapshots: policies offered to the archive in the course of a training, before its last;
            fewer where their evaluation would take more than a tenth of its steps.
        selection_episodes: episodes by which an offer is judged, on seeds of the agent's own.
        archive_capacity: most policies that are kept; the most crowded go first.
    """

    algorithm: str = bounded("ppo", choices=ALGORITHMS)
    outer_loop: str = bounded("uniform", choices=OUTER_LOOPS)
    preference_divisions: int | None = bounded(None, COUNT)
    num_preferences: int | None = bounded(None, COUNT)
    reward_scales: tuple[float, ...] | None = None
    num_envs: int | None = bounded(None, COUNT)
    rollout_steps: int | None = bounded(None, COUNT)
    minibatch: int | None = bounded(None, COUNT)
    epochs: int = searchable(
        5, bounds=COUNT, low=2, high=20, log=True, when={"algorithm": ("ppo",)}
    )
    gradient_steps: int | None = bounded(None, COUNT)
    hidden: tuple[int, ...] | None = None
    learning_rate: float = searchable(1e-3, bounds=POSITIVE, low=1e-4, high=1e-2, log=True)
    final_learning_rate: float = searchable(0.1, bounds=SHARE, low=0.01, high=1.0, log=True)
    entropy_coefficient: float = searchable(
        0.01, bounds=NOT_NEGATIVE, low=1e-4, high=0.1, log=True, when={"algorithm": ON_POLICY}
    )
    gae_lambda: float = searchable(
        0.95, bounds=SHARE, low=0.8, high=1.0, when={"algorithm": ON_POLICY}
    )
    clip: float = searchable(0.2, bounds=POSITIVE, low=0.1, high=0.4, when={"algorithm": ("ppo",)})
    replay_capacity: int = bounded(200_000, COUNT)
    learning_starts: float = bounded(0.02, SHARE)
    exploration: float = searchable(
        0.3, bounds=SHARE, low=0.05, high=0.8, when={"algorithm": ("dqn",)}
    )
    final_exploration: float = searchable(
        0.05, bounds=SHARE, low=0.01, high=0.2, when={"algorithm": ("dqn",)}
    )
    target_interval: int = searchable(
        1000, bounds=COUNT, low=100, high=10_000, log=True, when={"algorithm": ("dqn",)}
    )
    action_noise: float = searchable(
        0.1, bounds=NOT_NEGATIVE, low=0.05, high=0.5, when={"algorithm": ("td3",)}
    )
    normalise: bool = True
    training_discount: float | None = bounded(None, SHARE)
    snapshots: int = bounded(9, NOT_NEGATIVE)
    selection_episodes: int = bounded(5, COUNT)
    archive_capacity: int = bounded(200, COUNT)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if self.algorithm == "ppo" and self.minibatch == 1:
            raise ValueError("minibatch must be at least 2: ppo normalises advantages in it")
        if self.hidden is not None and (not self.hidden or min(self.hidden) < 1):
            raise ValueError(f"hidden needs layers of at least one unit, got {self.hidden}")


@register_agent(
    "sb3",
    config=Config,
    acts=Capabilities(
        extra="sb3",
        smoke={
            "num_envs": 2,
            "rollout_steps": 12,
            "minibatch": 16,
            "epochs": 2,
            "hidden": (8,),
            "selection_episodes": 1,
        },
    ),
)
class SB3Agent:
    """An algorithm of Stable-Baselines3, trained anew for one preference after the other.

    Args:
        task: what to learn.
        config: settings.
        total_steps: budget in true environment steps; the agent's own evaluations count.
        seed: root of every random stream.

    Raises:
        UnsupportedTaskError: if the algorithm does not know the environment's actions.
        ValueError: if the budget does not allow an update and an evaluation in each training.
    """

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._task = task
        self._config = config
        self._total_steps = total_steps
        self._seed = seed
        _require_fit(task, config)
        self._settings = run_settings(task, config)
        objectives = task.spec.num_objectives
        self._scales = _reward_scales(task, config)
        self._lattice = _training_lattice(config, objectives)
        self._num_runs = _number_of_runs(config, len(self._lattice))
        self._archive = ParetoArchive[ArrayPolicy](
            objectives, capacity=max(config.archive_capacity, objectives)
        )
        self._selection_seeds = stream(seed, "sb3/selection", config.selection_episodes)
        self._steps = self._selection_steps = self._updates = self._syncs = 0
        self._longest_episode = task.spec.horizon or 1
        self._trained: list[Vector] = []
        self._preference: Vector | None = None
        self._started = self._offered = self._run_selection_steps = 0
        self._run: InnerRun | None = None
        self._shape: PolicyShape | None = None
        self._require_enough_steps()
        share = total_steps // self._num_runs
        self._settings = _with_learning_starts(self._settings, config, share)

    def _require_enough_steps(self) -> None:
        share = self._total_steps // self._num_runs
        needed = self._settings.update_steps + self._evaluation_steps
        if share < needed:
            raise ValueError(
                f"{self._task.spec.id}: a budget of {self._total_steps} steps leaves {share} for "
                f"each of {self._num_runs} preferences, and an update ("
                f"{self._settings.update_steps}) and an evaluation (up to "
                f"{self._evaluation_steps}) take {needed}; raise steps or lower "
                "agent.preference_divisions, agent.num_preferences, agent.num_envs, "
                "agent.rollout_steps or agent.selection_episodes"
            )

    @property
    def steps(self) -> int:
        """True environment steps so far, evaluations for the archive included."""
        return self._steps

    @property
    def finished(self) -> bool:
        """Whether every preference had its training."""
        return self._preference is None and len(self._trained) >= self._num_runs

    @property
    def archive(self) -> ParetoArchive[ArrayPolicy]:
        """Nondominated policies by their mean returns on the agent's selection seeds."""
        return self._archive

    @property
    def preferences(self) -> Front:
        """Preferences trained for so far, the present one last; (run, objective)."""
        present = [] if self._preference is None else [self._preference]
        return np.reshape([*self._trained, *present], (-1, self._task.spec.num_objectives))

    @property
    def run(self) -> InnerRun | None:
        """The training that goes on at present."""
        return self._run

    @property
    def _evaluation_steps(self) -> int:
        """Steps of an evaluation at most, as far as the length of episodes is known."""
        return self._config.selection_episodes * self._longest_episode

    @property
    def _run_end(self) -> int:
        """Step at which the present training's share of the budget ends."""
        return self._total_steps * (len(self._trained) + 1) // self._num_runs

    # Training

    def learn(self, steps: int) -> Metrics:
        """Learn for at least `steps` more steps, to the end of an update or of a training."""
        if self.finished:
            return self._progress()
        goal = min(self._steps + steps, self._total_steps)
        self._syncs += 1
        readings: dict[str, float] = {}
        with own_random_numbers(derive_seed(self._seed, "sb3/training", self._syncs)):
            if self._run is not None:
                self._synchronise(self._run)
            while self._steps < goal and not self.finished:
                readings = self._advance()
        return {**readings, **self._progress()}

    def _advance(self) -> dict[str, float]:
        """One update, with what has to come before and after it."""
        run = self._run or self._begin_run()
        readings: dict[str, float] = {}
        if self._update_fits():
            readings = run.update()
            self._steps += self._settings.update_steps
            self._updates += 1
            self._longest_episode = max(self._longest_episode, run.longest_episode)
            self._offer_in_between(run)
        if not self._update_fits():
            self._end_run(run)
        return readings

    def _update_fits(self) -> bool:
        needed = self._settings.update_steps + self._evaluation_steps
        return self._steps + needed <= self._run_end

    def _begin_run(self) -> InnerRun:
        """Choose the next preference and make a model for it."""
        self._preference = self._next_preference()
        self._started, self._offered, self._run_selection_steps = self._steps, 0, 0
        self._run = self._make_run(self._preference)
        self._synchronise(self._run)
        return self._run

    def _make_run(self, preference: Vector) -> InnerRun:
        run = InnerRun(
            self._task,
            self._settings,
            weights=preference * self._scales,
            total_steps=self._run_end - self._started,
        )
        self._shape = run.shape
        return run

    def _next_preference(self) -> Vector:
        if self._config.outer_loop == "uniform":
            return np.asarray(self._lattice[len(self._trained)])
        return next_preference(self.preferences, self._supports())

    def _supports(self) -> Front:
        """For each preference trained for, the best return that is known, in scaled units."""
        points = self._archive.points * self._scales
        if not len(points):
            return points
        supports: Front = points[np.unique((self.preferences @ points.T).argmax(axis=1))]
        return supports

    def _synchronise(self, run: InnerRun) -> None:
        """Begin episodes anew from seeds that depend on counters alone; see ADR 0007."""
        rng = generator(self._seed, f"sb3/episodes/{len(self._trained)}", self._syncs)
        root, action_seed = (int(number) for number in rng.integers(2**31, size=2))
        seeds = stream(root, "sb3/episodes", self._settings.num_envs)
        run.synchronise(seeds, action_seed=action_seed)

    def _end_run(self, run: InnerRun) -> None:
        assert self._preference is not None
        if self._steps + self._evaluation_steps <= self._total_steps:
            self._offer(run)
        run.close()
        self._trained.append(self._preference)
        self._run = self._preference = None

    # Archive

    def _offer_in_between(self, run: InnerRun) -> None:
        """Offer the policy if one of the evenly spaced moments has passed."""
        length = self._run_end - self._started
        due = (self._steps - self._started) * (self._config.snapshots + 1) // max(1, length)
        if min(due, self._config.snapshots) <= self._offered:
            return
        self._offered = due
        spent = self._run_selection_steps + self._evaluation_steps
        if spent <= SNAPSHOT_SHARE * length and self._update_fits_after_evaluation():
            self._offer(run)

    def _update_fits_after_evaluation(self) -> bool:
        needed = self._settings.update_steps + 2 * self._evaluation_steps
        return self._steps + needed <= self._run_end

    def _offer(self, run: InnerRun) -> None:
        """Play the selection seeds; the archive decides."""
        policy = run.policy()
        played = rollout(self._task, [Solution(policy)], seeds=self._selection_seeds)
        self._steps += played.steps
        self._selection_steps += played.steps
        self._run_selection_steps += played.steps
        self._longest_episode = max(self._longest_episode, int(played.lengths.max()))
        self._archive.add(played.points[0], policy)

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """All policies of the archive, or for each preference the one that suits it best."""
        members, points = self._archive.items, self._archive.points
        if preferences is None or not members:
            return [Solution(member) for member in members]
        wanted = check_preferences(preferences, num_objectives=self._task.spec.num_objectives)
        best = np.argmax(wanted @ points.T, axis=1)
        return [
            Solution(members[index], preference)
            for index, preference in zip(best, wanted, strict=True)
        ]

    def _progress(self) -> dict[str, float]:
        return {
            "archive/size": float(len(self._archive)),
            "train/updates": float(self._updates),
            "train/preferences": float(len(self.preferences)),
            "steps/selection": float(self._selection_steps),
        }

    # State

    def state_dict(self) -> State:
        """Counters, preferences, the present training and the archive."""
        return {
            "counters": {name: getattr(self, f"_{name}") for name in _COUNTERS},
            "trained": np.reshape(self._trained, (-1, self._task.spec.num_objectives)),
            "preference": None if self._preference is None else self._preference.copy(),
            "run": None if self._run is None else self._run.state_dict(),
            "archive": _archive_state(self._archive),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where the saved agent stood."""
        for name in _COUNTERS:
            setattr(self, f"_{name}", state["counters"][name])
        self._trained = [np.array(row) for row in state["trained"]]
        with own_random_numbers(0):  # what a new model draws is replaced at once
            self._load_run(state)
            self._load_archive(state["archive"])

    def _load_run(self, state: State) -> None:
        if self._run is not None:
            self._run.close()
        self._run = self._preference = None
        if state["preference"] is not None:
            self._preference = np.array(state["preference"])
            self._run = self._make_run(self._preference)
            self._run.load_state_dict(state["run"])

    def _load_archive(self, state: State) -> None:
        archive = ParetoArchive[ArrayPolicy](
            self._archive.num_objectives, capacity=self._archive.capacity
        )
        if len(state["points"]) and self._shape is None:
            made = self._make_run(self._lattice[0])
            made.close()
        for index, point in enumerate(state["points"]):
            assert self._shape is not None
            policy = ArrayPolicy(
                shape=self._shape,
                parameters=np.array(state["parameters"][index], np.float32),
                mean=np.array(state["mean"][index]),
                scale=np.array(state["scale"][index]),
                normalised=self._config.normalise,
            )
            archive.add(point, policy)
        self._archive = archive


_COUNTERS = (
    "steps", "selection_steps", "updates", "syncs", "longest_episode", "started", "offered",
    "run_selection_steps",
)  # fmt: skip


def run_settings(task: Task, config: Config) -> RunSettings:
    """The settings of a training, defaults of the algorithm filled in.

    Args:
        task: what to learn.
        config: where None stands for `DEFAULTS`.
    """
    chosen = config.algorithm
    usual = DEFAULTS[chosen]
    discount = config.training_discount
    return RunSettings(
        algorithm=chosen,
        num_envs=config.num_envs or usual.num_envs,
        rollout_steps=config.rollout_steps or usual.rollout_steps,
        normalise=config.normalise,
        hidden=tuple(config.hidden or usual.hidden),
        discount=task.spec.discount if discount is None else discount,
        learning_rate=config.learning_rate,
        final_learning_rate=config.final_learning_rate,
        model=_model_arguments(config, usual),
        action_noise=config.action_noise if chosen == "td3" else 0.0,
    )


def _model_arguments(config: Config, usual: Defaults) -> dict[str, Any]:
    """Keyword arguments of the algorithm's class, by Stable-Baselines3's names."""
    steps = config.rollout_steps or usual.rollout_steps
    minibatch = config.minibatch or usual.minibatch
    if config.algorithm in ON_POLICY:
        arguments: dict[str, Any] = {
            "n_steps": steps,
            "gae_lambda": config.gae_lambda,
            "ent_coef": config.entropy_coefficient,
        }
        if config.algorithm == "ppo":
            slots = (config.num_envs or usual.num_envs) * steps
            arguments |= {
                "batch_size": min(minibatch, slots),
                "n_epochs": config.epochs,
                "clip_range": config.clip,
            }
        return arguments
    arguments = {
        "train_freq": steps,
        "gradient_steps": config.gradient_steps or usual.gradient_steps,
        "batch_size": minibatch,
        "buffer_size": config.replay_capacity,
    }
    if config.algorithm == "dqn":
        arguments |= {
            "exploration_fraction": config.exploration,
            "exploration_final_eps": config.final_exploration,
            "target_update_interval": config.target_interval,
        }
    return arguments


def _with_learning_starts(settings: RunSettings, config: Config, share: int) -> RunSettings:
    """The same settings, and the first update after a share of a training."""
    if settings.algorithm in ON_POLICY:
        return settings
    starts = max(settings.update_steps, int(config.learning_starts * share))
    return replace(settings, model={**settings.model, "learning_starts": starts})


def _require_fit(task: Task, config: Config) -> None:
    """Refuse an algorithm that does not know the environment's actions, and a replay too large."""
    batch = task.make_vec(1)
    space = batch.single_action_space
    size = int(np.prod(batch.single_observation_space.shape or ()))
    batch.close()
    needed = 2 * 4 * size * config.replay_capacity
    if config.algorithm in OFF_POLICY and needed > LARGEST_BYTES:
        raise UnsupportedTaskError(
            f"{task.spec.id}: a replay of {config.replay_capacity} observations of {size} numbers "
            f"takes {needed / 2**30:.0f} GiB; lower agent.replay_capacity"
        )
    discrete = isinstance(space, spaces.Discrete)
    if not discrete and not (isinstance(space, spaces.Box) and len(space.shape) == 1):
        raise UnsupportedTaskError(
            f"{task.spec.id}: sb3 acts in Discrete and one-dimensional Box spaces, not in {space}"
        )
    if isinstance(space, spaces.Box) and not space.is_bounded():
        raise UnsupportedTaskError(
            f"{task.spec.id}: Stable-Baselines3 needs bounds of continuous actions, and {space} "
            "has none; choose another agent, such as c_morl"
        )
    if config.algorithm == "dqn" and not discrete:
        raise UnsupportedTaskError(
            f"{task.spec.id}: sb3 with agent.algorithm=dqn needs discrete actions, these are "
            f"{space}; choose agent.algorithm=ppo, a2c, sac or td3"
        )
    if config.algorithm in ("sac", "td3") and discrete:
        raise UnsupportedTaskError(
            f"{task.spec.id}: sb3 with agent.algorithm={config.algorithm} needs continuous "
            f"actions, these are {space}; choose agent.algorithm=ppo, a2c or dqn"
        )


def _reward_scales(task: Task, config: Config) -> Vector:
    scales = config.reward_scales
    if scales is None:
        return np.ones(task.spec.num_objectives)
    vector = np.asarray(scales, np.float64)
    if vector.shape != (task.spec.num_objectives,) or not (vector > 0.0).all():
        raise UnsupportedTaskError(
            f"{task.spec.id}: agent.reward_scales must be {task.spec.num_objectives} positive "
            f"numbers ({', '.join(task.spec.objective_names)}), got {tuple(scales)}"
        )
    return vector


def _training_lattice(config: Config, num_objectives: int) -> Front:
    """Preferences of the uniform loop in the order of their trainings, (run, objective)."""
    defaults = {2: 5, 3: 2}
    divisions = config.preference_divisions or defaults.get(num_objectives, 1)
    return _spread(lattice(num_objectives, divisions))


def _spread(points: Front) -> Front:
    """The same points, each as far from those before it as can be, the last one first.

    So that a loop that is stopped early has seen a little of everything.
    """
    order = [len(points) - 1]
    gaps = np.abs(points - points[-1]).sum(axis=1)
    while len(order) < len(points):
        order.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, np.abs(points - points[order[-1]]).sum(axis=1))
    return points[order]


def _number_of_runs(config: Config, usual: int) -> int:
    if config.outer_loop == "uniform":
        return usual
    return config.num_preferences or usual


def _archive_state(archive: ParetoArchive[ArrayPolicy]) -> State:
    members = archive.items
    if not members:
        return {"points": archive.points}
    return {
        "points": archive.points,
        "parameters": np.stack([member.parameters for member in members]),
        "mean": np.stack([member.mean for member in members]),
        "scale": np.stack([member.scale for member in members]),
    }
