"""Goal-conditioned sampler of objects: asked for a direction of objective space, it goes there.

Roy et al., "Goal-conditioned GFlowNets for Controllable Multi-Objective Molecular Design"
(arXiv:2306.04620). Objects inside a cone around the direction are worth the sum of their
objectives, tempered towards the axis; others next to nothing. Trajectories that missed teach what
they hit instead. See `docs/agents/goal_conditioned_gflownet.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet.agent import (
    ObjectSampler,
    SamplerConfig,
    require_choice,
    require_positive,
)
from morl.agents.learners.gflownet.conditions import (
    check_exponents,
    cosines,
    goal_log_rewards,
    thermometer,
)
from morl.agents.learners.gflownet.learner import BALANCES, balance
from morl.agents.learners.gflownet.networks import Array, Indices
from morl.agents.learners.gflownet.replay import TrajectoryReplay
from morl.agents.learners.gflownet.sampler import Trajectories
from morl.capabilities import Capabilities
from morl.preferences import dirichlet
from morl.registry import register_agent
from morl.search_space import searchable
from morl.types import Front, State, Task, Vector

GOALS = ("tabular", "dirichlet", "hyperspherical")

_MOST_DIRECTIONS = 10_000

_FINEST = 30
"""Points along an axis of the published table of directions."""


@dataclass
class Config(SamplerConfig):
    """Settings of the goal-conditioned sampler, beside those of all samplers.

    Attributes:
        loss: "tb", "subtb" or "db": trajectory, sub-trajectory or detailed balance.
        decay: lambda of sub-trajectory balance, positive.
        goals: how directions are drawn: "tabular", evenly from a table, where those that were
            asked for in vain become rare; "dirichlet"; or "hyperspherical", evenly.
        resolution: points along an axis of the table; by default 30, or what keeps the table
            below 10,000 directions.
        first_learned: share of the budget after which the table's weights are used.
        last_learned: share of the budget after which they change no more.
        missed_weight: weight of directions that were asked for in vain.
        cosine: of the opening angle of the cone around a direction, in (0, 1).
        rim: factor of rewards on the rim of the cone, in (0, 1].
        outside: log-reward outside of the cone.
        exponent: of rewards inside, positive.
        bins: of a direction's thermometer code, an objective.
        hindsight: share of trajectories that, if they missed, learn the direction that they hit.
        replay_capacity: trajectories of the replay; 0 for none.
        replay_warmup: trajectories from which on updates learn from the replay.
    """

    loss: str = searchable("tb", choices=BALANCES)
    decay: float = searchable(0.9, low=0.5, high=1.0, when={"loss": ("subtb",)})
    goals: str = "tabular"
    resolution: int | None = None
    first_learned: float = 0.25
    last_learned: float = 0.75
    missed_weight: float = 0.1
    cosine: float = searchable(0.98, low=0.9, high=0.995)
    rim: float = searchable(0.2, low=0.05, high=1.0, log=True)
    outside: float = -75.0
    exponent: float = searchable(60.0, low=4.0, high=192.0, log=True)
    bins: int = 16
    hindsight: float = searchable(0.3, low=0.0, high=0.9)
    replay_capacity: int = 100_000
    replay_warmup: int = 1000

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        require_choice("loss", self.loss, BALANCES)
        require_choice("goals", self.goals, GOALS)
        check_exponents(np.array(self.exponent), where="agent.exponent")
        for name in ("decay", "missed_weight"):
            require_positive(name, getattr(self, name))
        for name in ("cosine", "rim"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.cosine == 1.0:
            raise ValueError("cosine must be below 1: no object lies exactly on an axis")
        for name in ("hindsight", "first_learned", "last_learned"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.bins < 2 or (self.resolution is not None and self.resolution < 2):
            raise ValueError(
                f"bins and resolution must be at least 2, got {self.bins} and {self.resolution}"
            )
        if self.replay_capacity and self.replay_capacity < self.batch:
            raise ValueError(
                f"replay_capacity must be 0 or at least the batch of {self.batch}, got "
                f"{self.replay_capacity}"
            )
        if not np.isfinite(self.outside):
            raise ValueError(f"outside must be finite, got {self.outside}")


class GoalTable:
    """Directions to ask for, and how often each was asked for and hit.

    Args:
        directions: of length one, (direction, objective).
        missed_weight: weight of those that were asked for and never hit; all others have 1.
    """

    def __init__(self, directions: Front, *, missed_weight: float) -> None:
        self.directions = directions
        self._missed_weight = missed_weight
        self._asked = np.zeros(len(directions), np.int64)
        self._hit = np.zeros(len(directions), np.int64)

    @property
    def weights(self) -> Vector:
        """Of directions, (direction,)."""
        return np.where((self._asked == 0) | (self._hit > 0), 1.0, self._missed_weight)

    def draw(self, count: int, rng: np.random.Generator, *, weighted: bool) -> Indices:
        """Rows of directions, evenly or by weight, with replacement."""
        if not weighted:
            return rng.integers(len(self.directions), size=count)
        weights = self.weights
        return rng.choice(len(weights), size=count, p=weights / weights.sum())

    def note(self, rows: Indices, hit: NDArray[np.bool_]) -> None:
        """Count what was asked for and what of it was hit."""
        np.add.at(self._asked, rows, 1)
        np.add.at(self._hit, rows[hit], 1)

    def state_dict(self) -> State:
        """The counts."""
        return {"asked": self._asked.copy(), "hit": self._hit.copy()}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._asked[:] = state["asked"]
        self._hit[:] = state["hit"]


def face_directions(num_objectives: int, resolution: int) -> Front:
    """Directions to the points of a grid on those faces of the unit cube that touch (1, ..., 1).

    Args:
        num_objectives: at least 1.
        resolution: points along an axis, at least 2.

    Returns:
        Shape (``resolution ** n - (resolution - 1) ** n``, objective), each of length one.
    """
    faces = []
    last = resolution - 1
    for axis in range(num_objectives):
        # The first axis that is at its end is `axis`: no point belongs to two faces.
        sizes = [last] * axis + [1] + [resolution] * (num_objectives - axis - 1)
        points = np.indices(sizes).reshape(num_objectives, -1).T
        points[:, axis] = last
        faces.append(points)
    table = np.concatenate(faces).astype(np.float64)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True))


def fitting_resolution(num_objectives: int) -> int:
    """The finest table of directions up to the published one that is not too large."""
    fitting = [
        points
        for points in range(2, _FINEST + 1)
        if points**num_objectives - (points - 1) ** num_objectives <= _MOST_DIRECTIONS
    ]
    return max(fitting, default=2)


@register_agent(
    "goal_conditioned_gflownet",
    config=Config,
    acts=Capabilities(
        actions=("discrete",),
        objects=True,
        smoke={
            "batch": 8,
            "hidden": (8, 8),
            "width": 8,
            "layers": 1,
            "heads": 2,
            "archive_capacity": 10,
        },
    ),
)
class GoalConditionedGFlowNet(ObjectSampler):
    """Goal-conditional sampler.

    Args:
        task: builds objects.
        config: settings.
        total_steps: budget in environment steps.
        seed: root of every random stream.
    """

    name = "goal_conditioned_gflownet"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._config = config
        objectives = task.spec.num_objectives
        super().__init__(
            task,
            config,
            total_steps=total_steps,
            seed=seed,
            code_width=objectives * config.bins,
            with_flows=config.loss != "tb",
        )
        resolution = config.resolution or fitting_resolution(objectives)
        self._table = GoalTable(
            face_directions(objectives, resolution), missed_weight=config.missed_weight
        )
        self._replay: TrajectoryReplay | None = None
        if config.replay_capacity:
            self._replay = TrajectoryReplay(
                config.replay_capacity, horizon=self._core.horizon, num_objectives=objectives
            )

    def state_dict(self) -> State:
        """As the base class, with the table of goals and the replay."""
        replay = {} if self._replay is None else {"replay": self._replay.state_dict()}
        return {**super().state_dict(), "goals": self._table.state_dict(), **replay}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self._table.load_state_dict(state["goals"])
        if self._replay is not None:
            self._replay.load_state_dict(state["replay"])

    def _update(self, rng: np.random.Generator) -> dict[str, float]:
        config = self._config
        directions, rows = self._goals(rng)
        codes = self._encode(directions)
        found = self._learner.sample(codes, rng=rng, exploration=config.exploration)
        self._count(found.steps)
        values = self._evaluated(found.objects)
        hit = cosines(values, directions) >= config.cosine
        if rows is not None and self._progress <= config.last_learned:
            self._table.note(rows, hit)
        length = found.steps / len(found)
        accuracy = float(hit.mean())
        found, codes, values, directions = self._lesson(found, codes, values, directions, rng)
        loss = balance(config.loss, self._log_rewards(values, directions), decay=config.decay)
        readings = self._learner.improve(found, codes, loss)
        return {**readings, "train/goal_accuracy": accuracy, "train/length": length}

    def _goals(self, rng: np.random.Generator) -> tuple[Front, Indices | None]:
        """Directions of a batch, and their rows in the table if they come from there."""
        config, objectives = self._config, self._core.num_objectives
        if config.goals == "tabular":
            weighted = self._progress >= config.first_learned
            rows = self._table.draw(config.batch, rng, weighted=weighted)
            return self._table.directions[rows], rows
        if config.goals == "dirichlet":
            drawn = dirichlet(objectives, config.batch, rng=rng)
        else:
            drawn = np.abs(rng.standard_normal((config.batch, objectives)))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True), None

    def _lesson(
        self,
        found: Trajectories,
        codes: Array,
        values: Front,
        directions: Front,
        rng: np.random.Generator,
    ) -> tuple[Trajectories, Array, Front, Front]:
        """What the update learns from: the replay's trajectories, and goals in hindsight."""
        config, replay = self._config, self._replay
        actions = None
        if replay is not None:
            replay.add(
                found.padded(self._core.horizon),
                values,
                front=self._archive.points,
                conditions=directions,
            )
            if len(replay) >= config.replay_warmup:
                places = replay.draw(config.batch, rng=rng)
                actions = replay.actions[places]
                values, directions = replay.values[places], replay.conditions[places]
        directions, changed = self._in_hindsight(values, directions, rng)
        if actions is None and not changed:
            return found, codes, values, directions
        codes = self._encode(directions)
        sampler = self._learner.sampler
        again = sampler.replay(codes, found) if actions is None else sampler.retrace(codes, actions)
        return again, codes, values, directions

    def _in_hindsight(
        self, values: Front, directions: Front, rng: np.random.Generator
    ) -> tuple[Front, bool]:
        """Some of those that missed are told that they were asked for what they are."""
        lengths = np.linalg.norm(values, axis=1)
        missed = (cosines(values, directions) < self._config.cosine) & (lengths > 0.0)
        told = missed & (rng.random(len(values)) < self._config.hindsight)
        changed = directions.copy()
        changed[told] = values[told] / lengths[told, None]
        return changed, bool(told.any())

    def _log_rewards(self, values: Front, directions: Front) -> Vector:
        config = self._config
        inside = config.exponent * goal_log_rewards(
            values, directions, cosine=config.cosine, rim=config.rim, floor=config.reward_floor
        )
        return np.maximum(inside, config.outside)

    def _encode(self, directions: Front) -> Array:
        return thermometer(directions, bins=self._config.bins).reshape(len(directions), -1)

    def _codes(self, preferences: Front) -> Array:
        """Preferences are asked for as directions."""
        return self._encode(preferences / np.linalg.norm(preferences, axis=1, keepdims=True))
