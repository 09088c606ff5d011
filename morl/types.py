"""The nouns of the suite. Every objective is maximised; every return is a float64 vector.

Nothing is computed here: the module holds the few dataclasses and protocols that environments,
agents, the runner and reports share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
"""One point of objective space, or one preference; shape (objective,)."""

Front: TypeAlias = NDArray[np.float64]
"""Points of objective space, shape (point, objective); preferences, (preference, objective)."""

Metrics: TypeAlias = Mapping[str, float]
"""Readings of one moment; keys look like ``"train/entropy"``."""

State: TypeAlias = dict[str, Any]
"""Nested dict of arrays, numbers, strings, booleans, None and lists of them; never an object."""

Certificate = Literal["exact", "approximate", "best-known"]
"""How far a known front can be trusted."""


class MorlError(Exception):
    """A failure that the user can act upon; the command line prints it without a traceback."""


class UnsupportedTaskError(MorlError, ValueError):
    """An environment that the agent cannot act in, or settings that do not fit it."""


class NoLegalActionError(UnsupportedTaskError):
    """An observation in which every action is forbidden."""


class NonFiniteError(MorlError):
    """A reward, return, loss or parameter that is not a finite number."""


@dataclass(frozen=True)
class Objective:
    """What one component of the reward measures.

    Attributes:
        name: lower case, unique within the environment ("fuel").
        unit: unit of the undiscounted return, after the sign was turned to maximisation ("-J").
        description: one sentence for the datasheet.
    """

    name: str
    unit: str = ""
    description: str = ""


@dataclass(frozen=True)
class KnownFront:
    """The Pareto front of an environment, as far as it is known.

    Attributes:
        points: maps a discount to the front, shape (point, objective).
        certificate: how far to trust it.
        source: where it comes from, for the report.
    """

    points: Callable[[float], Front]
    certificate: Certificate
    source: str


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """All that a benchmark must know of an environment before it runs it.

    Attributes:
        id: name in the registry, versioned ("minecart-v0").
        objectives: meaning of each reward component, in order.
        reference_point: hypervolume reference, worse than any sensible return.
        discount: discount of the evaluation protocol, in (0, 1].
        horizon: step limit of an episode, or None where the environment ends by itself.
        idle_action: the discrete action that does nothing, or None where there is none or where
            actions are vectors (zero does nothing).
        features_per_action: number of features of a row, where an observation is a flattened
            matrix with a row for each discrete action; the first feature of a row is negative
            where its action is not available. None where observations are not of this kind.
        masks_actions: whether some discrete actions are illegal at times. Infos of `reset` and
            `step` then hold ``"action_mask"``, booleans (env, action), True where the next action
            may be taken; policies get it as ``action_masks``.
        box: lower and upper corner by which returns are normalised, or None if not fixed yet.
        known_front: the front, exact or not, or None.
        anchors: hypervolume (reference point and discount as above) of trivial or exact
            policies, for reports ("do-nothing": 199.0).
        extra: the `pip install morl-suite[...]` extra that it needs, if any.
        package: distribution that implements its dynamics.
        protocol: identifier of the evaluation protocol.
        description: one sentence for lists and datasheets.
    """

    id: str
    objectives: tuple[Objective, ...]
    reference_point: tuple[float, ...]
    discount: float = 0.99
    horizon: int | None = None
    idle_action: int | None = None
    features_per_action: int | None = None
    masks_actions: bool = False
    box: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    known_front: KnownFront | None = None
    anchors: Mapping[str, float] = field(default_factory=dict)
    extra: str | None = None
    package: str = "morl-suite"
    protocol: str = "morl-discounted/1"
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse what no benchmark could use.

        Raises:
            ValueError: names the environment and the field.
        """
        count = len(self.objectives)
        if count < 1:
            raise ValueError(f"{self.id}: an environment has at least one objective")
        if len({objective.name for objective in self.objectives}) != count:
            raise ValueError(f"{self.id}: objective names repeat: {self.objective_names}")
        corners = (self.reference_point, *(self.box or ()))
        for corner in corners:
            if len(corner) != count:
                raise ValueError(
                    f"{self.id}: {count} objectives ({', '.join(self.objective_names)}) but a "
                    f"point of {len(corner)} coordinates: {corner}"
                )
            if not np.all(np.isfinite(corner)):
                raise ValueError(f"{self.id}: not a finite point: {corner}")
        if self.box is not None and not np.all(np.less(self.box[0], self.box[1])):
            raise ValueError(f"{self.id}: box is empty: {self.box}")
        if not 0.0 < self.discount <= 1.0:
            raise ValueError(f"{self.id}: discount must be in (0, 1], got {self.discount}")
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"{self.id}: horizon must be positive, got {self.horizon}")
        if self.features_per_action is not None and self.features_per_action < 1:
            raise ValueError(
                f"{self.id}: features_per_action must be positive, got {self.features_per_action}"
            )

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Names of the objectives, in reward order."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def num_objectives(self) -> int:
        """Length of the reward vector."""
        return len(self.objectives)


@dataclass(frozen=True, kw_only=True)
class Task:
    """An environment with everything fixed that decides a score.

    Attributes:
        spec: the environment's spec with the task's discount, horizon and reference point.
        factory: makes a batch of ``num_envs`` environments, horizon applied.
        kwargs: constructor arguments, kept for the record.
    """

    spec: EnvSpec
    factory: Callable[[int], VectorEnv[Any, Any, Any]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def make_vec(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make a batch of environments.

        The batch keeps the contract of `morl.testing.check_env`: observations
        ``(env, *observation)`` of one Box; rewards ``(env, objective)`` float64 with a
        ``reward_space``; same-step autoreset, where the last observation of an episode that
        ended stands in ``infos["final_obs"]``, an array shaped like the observations whose
        other rows mean nothing. ``reset(seed=...)`` takes an integer or one a environment.
        Returned arrays belong to the caller.

        Args:
            num_envs: size of the batch, at least 1.
        """
        return self.factory(num_envs)

    def with_spec(self, **changes: Any) -> Task:  # noqa: ANN401 - any field of EnvSpec
        """Same task under a changed spec."""
        return replace(self, spec=replace(self.spec, **changes))


class Policy(Protocol):
    """Something that acts on a batch of observations.

    A policy class may offer ``stack(policies) -> StackedPolicy`` as a classmethod; the evaluation
    then acts for many policies in one call.

    Where the environment masks (`EnvSpec.masks_actions`), ``act`` is called with one keyword more,
    ``action_masks``: booleans (env, action), True where an action is legal, at least one in each
    row. A stack gets (policy, env, action). A policy without that keyword is refused there; other
    environments never pass it.
    """

    @property
    def deterministic(self) -> bool:
        """Whether equal observations always get equal actions."""
        ...

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose actions.

        Args:
            observations: shape (env, *observation), raw as the environment gave them.
            rng: source of randomness; a deterministic policy leaves it alone.

        Returns:
            Actions the environment accepts, shape (env, *action).
        """
        ...


PolicyState: TypeAlias = dict[str, NDArray[Any]]
"""What a policy with a memory remembers: named arrays whose first axis is the environment."""


class StatefulPolicy(Protocol):
    """A policy with a memory: it sees rewards and the ends of episodes as well as observations.

    The memory is a value that the caller keeps and hands back. The policy object itself never
    changes, so that one policy may act in several batches at once. A class may offer
    ``stack(policies) -> StackedStatefulPolicy`` as a classmethod.
    """

    @property
    def deterministic(self) -> bool:
        """Whether equal histories always get equal actions."""
        ...

    def begin(self, num_envs: int) -> PolicyState:
        """The memory at the first step of an episode in each of `num_envs` environments."""
        ...

    def act(
        self, observations: NDArray[Any], state: PolicyState, *, rng: np.random.Generator
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions.

        Args:
            observations: shape (env, *observation), raw as the environment gave them.
            state: the memory, as `begin`, `act` or `observe` returned it.
            rng: source of randomness; a deterministic policy leaves it alone.

        Returns:
            Actions the environment accepts, shape (env, *action), and the memory.
        """
        ...

    def observe(
        self, state: PolicyState, rewards: NDArray[np.float64], ended: NDArray[np.bool_]
    ) -> PolicyState:
        """Take in what the actions led to.

        Args:
            state: the memory that `act` returned.
            rewards: shape (env, objective).
            ended: shape (env,), whether the episode was terminated or truncated; the memory of
                such an environment begins again.
        """
        ...


class StackedStatefulPolicy(Protocol):
    """Many policies with a memory, acting in one call; all axes begin with (policy, env)."""

    def begin(self, num_envs: int) -> PolicyState:
        """The memory at the first step, arrays (policy, env, ...)."""
        ...

    def act(
        self, observations: NDArray[Any], state: PolicyState, *, rng: np.random.Generator
    ) -> tuple[NDArray[Any], PolicyState]:
        """Choose actions for observations of shape (policy, env, *observation)."""
        ...

    def observe(
        self, state: PolicyState, rewards: NDArray[np.float64], ended: NDArray[np.bool_]
    ) -> PolicyState:
        """Take in rewards (policy, env, objective) and ends (policy, env)."""
        ...


def is_stateful(policy: Policy | StatefulPolicy) -> TypeGuard[StatefulPolicy]:
    """Whether a policy has a memory, which the presence of ``begin`` tells."""
    return hasattr(policy, "begin")


class StackedPolicy(Protocol):
    """Many policies of one class, acting in one call."""

    def act(self, observations: NDArray[Any], *, rng: np.random.Generator) -> NDArray[Any]:
        """Choose actions for observations of shape (policy, env, *observation)."""
        ...


class Solution(NamedTuple):
    """A policy and the preference that it was trained or asked for, if any."""

    policy: Policy | StatefulPolicy
    preference: Vector | None = None


class Agent(Protocol):
    """Something that learns. It never logs, saves or reads a clock: the runner does.

    A registered agent is made as ``make(task, config, total_steps=..., seed=...)``.
    """

    @property
    def steps(self) -> int:
        """True environment steps taken so far, those of its own evaluations included."""
        ...

    @property
    def finished(self) -> bool:
        """Whether `total_steps` leave no room for another update."""
        ...

    def learn(self, steps: int) -> Metrics:
        """Learn for at least `steps` more environment steps, to the end of the update.

        Never goes beyond ``total_steps``. Between two calls the agent is at a synchronisation
        point: `state_dict` then holds all that the next call depends on.
        """
        ...

    def solutions(self, preferences: Front | None = None) -> Sequence[Solution]:
        """The agent's current answer.

        Args:
            preferences: shape (preference, objective), rows on the simplex; None asks for all
                that the agent has.

        Returns:
            One solution a preference, in order. For None: every member of a population, or a
            conditioned agent's answers to preferences of its own choice.
        """
        ...

    def state_dict(self) -> State:
        """Everything needed to go on from here, bit for bit."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state."""
        ...
