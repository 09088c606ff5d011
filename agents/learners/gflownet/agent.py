"""What all samplers of objects share as agents: budget, archive, answers, state.

An update samples a batch of trajectories, evaluates their objects, offers them to an archive of
nondominated objects and takes one gradient step. An agent differs by its conditions and its loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morl.agents.learners.core.errors import BudgetError
from morl.agents.learners.core.schedules import linear_decay
from morl.agents.learners.gflownet import kernels
from morl.agents.learners.gflownet.learner import FlowLearner
from morl.agents.learners.gflownet.networks import (
    Array,
    LogPartition,
    PerceptronPolicy,
    PolicyNetwork,
)
from morl.agents.learners.gflownet.policies import BuildingPolicy, SamplingPolicy
from morl.agents.learners.gflownet.transformer import TransformerPolicy
from morl.archive import ParetoArchive
from morl.compositional import CompositionalCore, States, core_of
from morl.preferences import check_preferences, lattice
from morl.search_space import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Settings,
    bounded,
    searchable,
)
from morl.seeding import generator
from morl.types import Front, Metrics, MorlError, Solution, State, Task

ANSWERS = ("archive", "samplers")
"""What an agent answers when it is asked for all that it has."""

NETWORKS = ("auto", "perceptron", "transformer")

_ANSWERED = 100
"""Most preferences of its own choice that an agent answers for."""


@dataclass
class SamplerConfig(Settings):
    """Settings that all samplers of objects share.

    Attributes:
        batch: trajectories of an update.
        network: "perceptron" for encoded states, "transformer" for strings, or "auto": the
            transformer where states are strings.
        hidden: units of the perceptron's hidden layers, also behind the transformer.
        width: features of the transformer.
        layers: its layers.
        heads: its heads of attention.
        partition_hidden: units of the hidden layers of the partition function; () is linear.
        learning_rate: Adam's rate of the policy.
        partition_learning_rate: Adam's rate of the partition function.
        final_learning_rate: share of both rates that is left when the budget ends; on the way
            there they fall in a line.
        weight_decay: penalty of both.
        max_gradient_norm: bound on the gradient of each, or None.
        exploration: weight of even choices of actions while sampling.
        reward_floor: least reward before the exponent, so that logarithms are finite.
        max_evaluations: most objective evaluations, or None; the budget in steps holds as well.
        archive_capacity: most objects of the archive; the most crowded are dropped.
        answer: what it gives when it is asked for all that it has: "archive", a policy for each
            nondominated object that it found; or "samplers", the policies that sample.
    """

    batch: int = searchable(128, bounds=COUNT, low=32, high=512, log=True)
    network: str = bounded("auto", choices=NETWORKS)
    hidden: tuple[int, ...] = (64, 64, 64)
    width: int = bounded(64, COUNT)
    layers: int = bounded(3, COUNT)
    heads: int = bounded(8, COUNT)
    partition_hidden: tuple[int, ...] = (32, 32, 32)
    learning_rate: float = searchable(1e-3, bounds=POSITIVE, low=1e-4, high=2e-2, log=True)
    partition_learning_rate: float = searchable(
        1e-2, bounds=POSITIVE, low=1e-3, high=1e-1, log=True
    )
    final_learning_rate: float = searchable(1.0, bounds=POSITIVE, low=0.01, high=1.0, log=True)
    weight_decay: float = bounded(0.0, NOT_NEGATIVE)
    max_gradient_norm: float | None = bounded(None, POSITIVE)
    exploration: float = searchable(0.01, bounds=SHARE, low=0.0, high=0.2)
    reward_floor: float = bounded(1e-8, POSITIVE)
    max_evaluations: int | None = bounded(None, COUNT)
    archive_capacity: int = bounded(1000, COUNT)
    answer: str = bounded("archive", choices=ANSWERS)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width}, {self.heads}")
        if not self.hidden or min((*self.hidden, *self.partition_hidden)) < 1:
            raise ValueError(
                "hidden must name at least one layer and no layer without units, got "
                f"{self.hidden} and {self.partition_hidden}"
            )


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a setting that is none of the choices.

    Raises:
        ValueError: names the field.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def require_positive(name: str, value: float) -> None:
    """Refuse a setting that is not a positive number.

    Raises:
        ValueError: names the field.
    """
    if not 0.0 < value < np.inf:
        raise ValueError(f"{name} must be positive, got {value}")


class ObjectSampler(ABC):
    """Base class of the agents; subclasses say what an update is.

    Args:
        task: builds objects.
        config: settings.
        total_steps: budget in environment steps: actions of trajectories.
        seed: root of every random stream.
        code_width: features of an encoded condition.
        with_flows: whether the loss needs flows through states.
        measure: one of `gflownet_learner.MEASURES`.

    Raises:
        NotCompositionalError: the task builds no objects.
        BudgetError: the budget does not allow a single update.
    """

    name: str

    def __init__(
        self,
        task: Task,
        config: SamplerConfig,
        *,
        total_steps: int,
        seed: int,
        code_width: int,
        with_flows: bool = False,
        measure: str = "objects",
    ) -> None:
        self._task = task
        self._settings = config
        self._total_steps = total_steps
        self._seed = seed
        self._core = core_of(task)
        self._code_width = code_width
        self._with_flows = with_flows
        self._steps = 0
        self._updates = 0
        self._evaluations = 0
        self._archive = self._empty_archive()
        self._learner = FlowLearner(
            self._core,
            self._make_network(),
            LogPartition(
                code_width=code_width,
                hidden=tuple(config.partition_hidden),
                rng=generator(seed, f"{self.name}/partition"),
            ),
            learning_rate=config.learning_rate,
            partition_learning_rate=config.partition_learning_rate,
            weight_decay=config.weight_decay,
            max_gradient_norm=config.max_gradient_norm,
            measure=measure,
        )
        if not self._fits():
            raise BudgetError(
                f"{task.spec.id}: a budget of {total_steps} steps is less than one update of "
                f"{config.batch} objects of up to {self._core.horizon} steps; raise steps or lower "
                "agent.batch"
            )

    # What agents differ by

    @abstractmethod
    def _update(self, rng: np.random.Generator) -> dict[str, float]:
        """Sample, evaluate, learn; by way of `_sampled` or `_found`."""

    @abstractmethod
    def _codes(self, preferences: Front) -> Array:
        """Encoded conditions that answer preferences (preference, objective) best."""

    # The protocol of agents

    @property
    def steps(self) -> int:
        """Actions of all trajectories so far."""
        return self._steps

    @property
    def evaluations(self) -> int:
        """Objects that were evaluated so far, repeated ones included."""
        return self._evaluations

    @property
    def finished(self) -> bool:
        """Whether another update might exceed the budget."""
        return not self._fits()

    @property
    def archive(self) -> ParetoArchive[States]:
        """Nondominated objects of all that were evaluated, by their objective values."""
        return self._archive

    @property
    def core(self) -> CompositionalCore:
        """What the objects are made of."""
        return self._core

    @property
    def learner(self) -> FlowLearner:
        """The policy in training."""
        return self._learner

    def learn(self, steps: int) -> Metrics:
        """Take updates until `steps` more actions are taken; readings are means over them."""
        goal = min(self._steps + steps, self._total_steps)
        sums: dict[str, float] = {}
        updates = 0
        while self._steps < goal and self._fits():
            final = self._settings.final_learning_rate
            self._learner.rate = linear_decay(self._progress, final=final)
            rng = generator(self._seed, f"{self.name}/update", self._updates)
            for key, value in self._update(rng).items():
                sums[key] = sums.get(key, 0.0) + value
            self._updates += 1
            updates += 1
        return {
            **{key: value / updates for key, value in sums.items()},
            "train/updates": float(self._updates),
            "train/evaluations": float(self._evaluations),
            "archive/size": float(len(self._archive)),
        }

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """Policies that sample, one a preference; or all that the agent has, see `answer`."""
        if preferences is not None:
            objectives = self._core.num_objectives
            return self._samplers(check_preferences(preferences, num_objectives=objectives))
        if self._settings.answer == "archive" and len(self._archive):
            return [Solution(BuildingPolicy(self._core, found)) for found in self._archive]
        return self._samplers(own_preferences(self._core.num_objectives))

    def codes(self, preferences: Front) -> Array:
        """Encoded conditions by which the sampler is asked for preferences.

        Args:
            preferences: (preference, objective), rows on the simplex.
        """
        objectives = self._core.num_objectives
        return self._codes(check_preferences(preferences, num_objectives=objectives))

    def sampling_policy(self, preference: Front) -> SamplingPolicy:
        """The policy for one preference (objective,), as it is now."""
        return self._policies(preference[None])[0]

    def state_dict(self) -> State:
        """Counters, parameters, archive; random streams follow from the counters."""
        width = self._core.state_width
        objects = [*self._archive.items, np.zeros(width, np.int64)]
        return {
            "steps": self._steps,
            "updates": self._updates,
            "evaluations": self._evaluations,
            "learner": self._learner.state_dict(),
            "points": self._archive.points,
            "objects": np.stack(objects)[:-1],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        self._steps = int(state["steps"])
        self._updates = int(state["updates"])
        self._evaluations = int(state["evaluations"])
        self._learner.load_state_dict(state["learner"])
        self._archive = self._empty_archive()
        for point, found in zip(state["points"], state["objects"], strict=True):
            self._archive.add(point, found)

    # For subclasses

    def _evaluated(self, objects: States) -> Front:
        """Objective values, counted and offered to the archive."""
        values = self._core.evaluate(objects)
        self._evaluations += len(objects)
        self._offer(values, objects)
        return values

    def _count(self, steps: int) -> None:
        self._steps += steps

    def _samplers(self, preferences: Front) -> list[Solution]:
        policies = self._policies(preferences)
        return [
            Solution(policy, preference)
            for policy, preference in zip(policies, preferences, strict=True)
        ]

    def _policies(self, preferences: Front) -> list[SamplingPolicy]:
        # A copy, so that policies do not change when learning goes on.
        network = self._make_network()
        network.parameters[:] = self._learner.network.parameters
        codes = self._codes(preferences)
        return [SamplingPolicy(self._core, network, code) for code in codes]

    # Inner workings

    @property
    def _progress(self) -> float:
        """Share of the budget that is spent, of whichever end comes first."""
        limit = self._settings.max_evaluations
        evaluated = self._evaluations / limit if limit else 0.0
        return max(self._steps / self._total_steps, evaluated)

    def _fits(self) -> bool:
        batch, limit = self._settings.batch, self._settings.max_evaluations
        if limit is not None and self._evaluations + batch > limit:
            return False
        return self._steps + batch * self._core.horizon <= self._total_steps

    def _offer(self, values: Front, objects: States) -> None:
        """Add what no member covers; most objects are told off by one compiled loop."""
        told_off = np.empty(len(values), np.bool_)
        kernels.covered(values, np.ascontiguousarray(self._archive.points), told_off)
        for index in np.flatnonzero(~told_off).tolist():
            self._archive.add(values[index], objects[index].copy())

    def _empty_archive(self) -> ParetoArchive[States]:
        objectives = self._core.num_objectives
        capacity = max(self._settings.archive_capacity, objectives)
        return ParetoArchive[States](objectives, capacity=capacity)

    def _make_network(self) -> PolicyNetwork:
        return policy_network(
            self._core,
            self._settings,
            code_width=self._code_width,
            num_outputs=self._core.num_actions + self._with_flows,
            rng=generator(self._seed, f"{self.name}/policy"),
        )


def policy_network(
    core: CompositionalCore,
    config: SamplerConfig,
    *,
    code_width: int,
    num_outputs: int,
    rng: np.random.Generator,
) -> PolicyNetwork:
    """The network that a configuration asks for.

    Args:
        core: of the objects.
        config: settings.
        code_width: features of an encoded condition.
        num_outputs: one an action, and one more where flows through states are needed.
        rng: for initial weights.

    Raises:
        MorlError: a transformer is asked for where states are no strings.
    """
    kind = config.network
    if kind == "auto":
        kind = "perceptron" if core.vocabulary is None else "transformer"
    if kind == "perceptron":
        return PerceptronPolicy(
            encode=core.encode,
            encoding_width=core.encoding_width,
            code_width=code_width,
            num_outputs=num_outputs,
            hidden=tuple(config.hidden),
            rng=rng,
        )
    if core.vocabulary is None:
        raise MorlError(
            f"{core.name}: its objects are no strings, so there is nothing for a transformer "
            "to read; set agent.network=perceptron"
        )
    return TransformerPolicy(
        vocabulary=core.vocabulary,
        horizon=core.horizon,
        code_width=code_width,
        num_outputs=num_outputs,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        hidden=tuple(config.hidden),
        rng=rng,
    )


def own_preferences(num_objectives: int) -> Front:
    """A lattice of at most a hundred preferences: what an agent answers for when it chooses."""
    divisions = 1
    while divisions < _ANSWERED - 1:
        following = lattice(num_objectives, divisions + 1)
        if len(following) > _ANSWERED:
            break
        divisions += 1
    return lattice(num_objectives, divisions)
