"""Task offloading in mobile edge computing: which server shall compute the next task?

Ten users send tasks to one queue, and every second the first of it is sent to one of up to eleven
servers: a fast cloud that costs much energy, and slower and thriftier edge servers. Servers share
their time equally among their tasks. Two costs: the delay of all tasks, from the second in which
they are sent until they are done, and the energy of uploads and computation. Number and speed of
the servers, the context, may differ from episode to episode.

System model of Yang et al., "Generalizable Pareto-Optimal Offloading with Reinforcement Learning in
Mobile Edge Computing" (arXiv:2509.10474, IEEE TSC 2025); order of events and constants that the
paper leaves out are those of its released code. Written from the formulas. What differs:

- the delay that a task adds is its exact closed form; the released estimate of the same quantity is
  off by up to a percent;
- links have a least rate (10 Mbit/s): without one the expected delay of every policy is infinite;
- rewards are the two raw costs, negated; weighing them is up to the agent;
- all randomness of an episode is drawn at its start, from the environment's own stream.

Kept, because scores depend on it: the released formula of links, which squares the gain of the path
and divides by the noise twice (`channel="textbook"` gives Shannon's law, under which uploads take
minutes); seconds in which nobody has a task, whose action has no effect; task sizes from 0.1 to 100
Mbit; waiting in the users' queue counts for nothing, as no action changes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.envs.mec_kernels import (
    MOST_EDGES,
    PAPER_FEATURES,
    SERVERS,
    STEPS,
    Episodes,
    Ranges,
    advance,
    restart,
)
from morl.envs.mec_model import OffloadingModel
from morl.envs.vector import ActionError, BatchedEnv, EnvArgumentError, NotResetError
from morl.registry import register_env
from morl.types import EnvSpec, Objective

ID = "mec-offloading-v0"

EXTRAS: Mapping[str, int] = {"paper": 0, "backlog": 1, "marginal": 4}
"""Features of a server beyond the paper's, by kind of observation."""

CLOUD_GHZ, EDGE_GHZ, EDGES = 4.0, 2.0, 6
"""The context of the paper's main figure, and of this environment unless asked otherwise."""

SAMPLERS: Mapping[str, tuple[tuple[int, int], tuple[float, float], tuple[float, float]]] = {
    "fixed": ((EDGES, EDGES), (CLOUD_GHZ, CLOUD_GHZ), (EDGE_GHZ, EDGE_GHZ)),
    "train": ((1, 8), (3.5, 4.5), (1.75, 2.25)),
    "test": ((1, 10), (3.0, 5.0), (1.5, 2.5)),
}
"""Numbers of edge servers, GHz of the cloud and of each edge server, lowest and highest."""

RATE_FLOORS: Mapping[str, float] = {"released": 10.0, "textbook": 0.001}
"""Least rate of a link in Mbit/s, by formula; one released cloud link in 12,000 is slower."""

UNAVAILABLE = ("remap", "error")
"""What can become of an action whose server does not exist."""

REFERENCES: Mapping[int, tuple[float, float]] = {
    1: (154.7, 3.8),
    2: (84.6, 4.3),
    3: (65.0, 4.8),
    4: (58.0, 5.3),
    5: (56.0, 5.7),
    6: (55.3, 6.2),
    7: (56.3, 6.7),
    8: (57.2, 7.1),
    9: (58.4, 7.5),
    10: (60.2, 7.9),
}
"""Reference points in minutes and joules by number of edge servers: a tenth more than the delay of
random edge servers, and than the energy of the greedy policy that minds delay alone."""


class UnavailableActionError(ActionError):
    """An action whose server does not exist, where that is an error."""


@dataclass(frozen=True)
class Contexts:
    """What contexts are drawn from, evenly; see `contexts`.

    Attributes:
        edges: fewest and most edge servers.
        low: lowest frequencies in GHz, the cloud's first.
        high: highest.
    """

    edges: tuple[int, int]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def reference_point(self) -> tuple[float, float]:
        """Mean of `REFERENCES` over the possible numbers of edge servers, as returns."""
        points = [REFERENCES[edges] for edges in range(self.edges[0], self.edges[1] + 1)]
        minutes, joules = np.mean(points, axis=0)
        return (-round(60.0 * minutes, 6), -round(joules, 6))


def contexts(
    name: str,
    *,
    edges: int | None = None,
    cloud_frequency: float | None = None,
    edge_frequency: float | Sequence[float] | None = None,
) -> Contexts:
    """What contexts are drawn from.

    Args:
        name: a key of `SAMPLERS`.
        edges: number of edge servers instead of the sampler's.
        cloud_frequency: GHz of the cloud instead of the sampler's.
        edge_frequency: GHz of every edge server instead of the sampler's, or one each.

    Raises:
        EnvArgumentError: for an unknown sampler, more edge servers than 10 or fewer than 1, or
            frequencies that are not positive or not one for each edge server.
    """
    if name not in SAMPLERS:
        raise EnvArgumentError(f"{ID}: contexts must be one of {', '.join(SAMPLERS)}, got {name!r}")
    counts, cloud, edge = SAMPLERS[name]
    if edges is not None:
        counts = (_checked_edges(edges),) * 2
    if cloud_frequency is not None:
        cloud = (_checked_frequency(cloud_frequency, "cloud_frequency"),) * 2
    low, high = [edge[0]] * MOST_EDGES, [edge[1]] * MOST_EDGES
    if edge_frequency is not None:
        low = high = _edge_frequencies(edge_frequency, counts)
    return Contexts(edges=counts, low=(cloud[0], *low), high=(cloud[1], *high))


def _checked_edges(edges: object) -> int:
    if isinstance(edges, bool) or not isinstance(edges, int | np.integer):
        raise EnvArgumentError(f"{ID}: edges must be an integer, got {edges!r}")
    if not 1 <= edges <= MOST_EDGES:
        raise EnvArgumentError(
            f"{ID}: edges must be 1 to {MOST_EDGES}, as observations and actions have room for "
            f"{MOST_EDGES} edge servers; got {edges}"
        )
    return int(edges)


def _checked_frequency(value: Any, name: str) -> float:  # noqa: ANN401 - checked here
    try:
        frequency = float(value)
    except (TypeError, ValueError):
        raise EnvArgumentError(f"{ID}: {name} must be a number of GHz, got {value!r}") from None
    if not math.isfinite(frequency) or frequency <= 0.0:
        raise EnvArgumentError(f"{ID}: {name} must be positive, in GHz, got {value!r}")
    return frequency


def _edge_frequencies(value: Any, counts: tuple[int, int]) -> list[float]:  # noqa: ANN401
    """One frequency for each edge server there may be, 1 GHz for those that never exist."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        return [_checked_frequency(value, "edge_frequency")] * MOST_EDGES
    each = [_checked_frequency(one, f"edge_frequency[{k}]") for k, one in enumerate(value)]
    if counts != (len(each), len(each)):
        there = str(counts[0]) if counts[0] == counts[1] else f"{counts[0]} to {counts[1]}"
        raise EnvArgumentError(
            f"{ID}: {len(each)} edge frequencies for {there} edge servers; give one for each, and "
            f"edges={len(each)}"
        )
    return each + [1.0] * (MOST_EDGES - len(each))


def _chosen(value: Any, known: Mapping[str, Any] | Sequence[str], name: str) -> str:  # noqa: ANN401
    if not isinstance(value, str) or value not in known:
        raise EnvArgumentError(f"{ID}: {name} must be one of {', '.join(known)}, got {value!r}")
    return value


def _floor(rate_floor: float | None, channel: str) -> float:
    if rate_floor is None:
        return RATE_FLOORS[channel]
    if not isinstance(rate_floor, int | float) or not 0.0 <= rate_floor < math.inf:
        raise EnvArgumentError(
            f"{ID}: rate_floor must be a number of Mbit/s from 0 up, got {rate_floor!r}"
        )
    return float(rate_floor)


class MecOffloadingVectorEnv(BatchedEnv):
    """N systems of users and servers in one compiled loop.

    Observation: float32, a row of features for each of 11 servers, flattened; row 0 is the cloud,
    rows of servers that do not exist are -1 throughout. Features: 1; frequency in GHz; number of
    edge servers; size of the present task in Mbit, 0 for none; 1 until the end, then 0; rate of the
    link in 100 Mbit/s; number of tasks in execution; and the number of these by unfinished work, in
    60 bins of 1 Mbit of which the last is open. `observation="backlog"` adds the number of tasks
    that wait; `"marginal"` adds the delay (in 100 s) and the energy (in 0.2 J) that sending the
    present task to the server would cost, the number of tasks that wait, and the share of steps
    taken. Action: the server of the present task, 0 to 10, without effect when there is none; with
    E edge servers, action a beyond them means ``a % (E + 1)``, or is an error. Reward: seconds and
    joules that sending the task costs, negated. The episode ends after 100 steps; tasks that are
    still computed then are paid for in full.

    ``infos`` of `reset` and of every step hold the running episode's context: ``"edges"`` (env,),
    ``"frequency"`` (env, server) in GHz and ``"action_mask"`` (env, server). At the end of an
    episode ``infos["final_info"]`` holds ``"delay"`` (s), ``"energy"`` (J), ``"tasks"``,
    ``"remapped"`` (actions beyond the servers), ``"backlog"`` (tasks that still wait), ``"edges"``
    and ``"frequency"``; rows mean something where ``infos["_final_info"]`` is true.

    Attributes:
        contexts: what contexts are drawn from.
        model: reads observations, for policies that compute costs instead of learning them.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env_id: str = ID,
        edges: int | None = None,
        cloud_frequency: float | None = None,
        edge_frequency: float | Sequence[float] | None = None,
        contexts: str = "fixed",
        observation: str = "paper",
        unavailable: str = "remap",
        channel: str = "released",
        rate_floor: float | None = None,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Make a batch.

        Args:
            num_envs: size of the batch, at least 1.
            env_id: name for messages.
            edges: number of edge servers, 1 to 10; None leaves it to `contexts`, as below.
            cloud_frequency: GHz of the cloud.
            edge_frequency: GHz of every edge server, or of each.
            contexts: what is drawn at the start of every episode: "fixed" (6 edge servers of 2
                GHz, cloud of 4 GHz), "train" (1 to 8 edge servers of 1.75 to 2.25 GHz, cloud of
                3.5 to 4.5 GHz) or "test" (1 to 10, 1.5 to 2.5 GHz, 3 to 5 GHz).
            observation: "paper", "backlog" or "marginal"; see the class.
            unavailable: "remap" or "error", for actions whose server does not exist.
            channel: "released" or "textbook", formula of the links' rates.
            rate_floor: least rate of a link, Mbit/s; None for 10, or 0.001 of the textbook's.
            max_episode_steps: steps after which an episode is truncated, where that is before
                its end.
            copy: whether returned arrays belong to the caller.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        self.contexts = _contexts(contexts, edges, cloud_frequency, edge_frequency)
        self._extras = EXTRAS[_chosen(observation, EXTRAS, "observation")]
        self._strict = _chosen(unavailable, UNAVAILABLE, "unavailable") == "error"
        channel = _chosen(channel, RATE_FLOORS, "channel")
        self._ranges = Ranges(
            edges=np.array(self.contexts.edges, np.int64),
            low=np.array(self.contexts.low, np.float64),
            high=np.array(self.contexts.high, np.float64),
            released=channel == "released",
            floor=_floor(rate_floor, channel),
        )
        features = PAPER_FEATURES + self._extras
        self.model = OffloadingModel(
            env_id=env_id,
            features=features,
            exact=observation == "marginal",
            backlog={"paper": None, "backlog": PAPER_FEATURES, "marginal": PAPER_FEATURES + 2}[
                observation
            ],
        )
        super().__init__(
            num_envs,
            env_id=env_id,
            observation_space=spaces.Box(-1.0, np.inf, (SERVERS * features,), np.float32),
            action_space=spaces.Discrete(SERVERS),
            reward_space=spaces.Box(-np.inf, 0.0, (2,), np.float64),
            max_episode_steps=_earlier_limit(max_episode_steps),
            copy=copy,
        )
        self._rows = self._observations.reshape(self.num_envs, SERVERS, features)
        self._episodes = Episodes.empty(self.num_envs)
        self._final_info: dict[str, NDArray[Any]] = {}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """As `BatchedEnv.reset`; infos hold the contexts."""
        observations, _ = super().reset(seed=seed, options=options)
        return observations, self._context()

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[
        NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """As `BatchedEnv.step`; infos hold the contexts, and totals of episodes that ended."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if infos:
            infos["final_info"] = self._final_info
            infos["_final_info"] = infos["_final_obs"].copy()
        infos.update(self._context())
        return observations, rewards, terminated, truncated, infos

    def _context(self) -> dict[str, Any]:
        frequency = self._episodes.frequency.copy()
        return {
            "edges": self._episodes.edges.copy(),
            "frequency": frequency,
            "action_mask": frequency > 0.0,
        }

    def _reseed(self, indices: NDArray[np.int64], seeds: Sequence[int | None]) -> None:
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            self._episodes.key[i] = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
            self._episodes.episode[i] = 0

    def _restart(self, indices: NDArray[np.int64]) -> None:
        self._final_info = self._totals()
        restart(indices, self._episodes, self._ranges, self._extras, self._rows)

    def _totals(self) -> dict[str, NDArray[Any]]:
        episodes = self._episodes
        last = np.maximum(episodes.step - 1, 0)
        return {
            "delay": episodes.totals[:, 0].copy(),
            "energy": episodes.totals[:, 1].copy(),
            "tasks": episodes.totals[:, 2].astype(np.int64),
            "remapped": episodes.totals[:, 3].astype(np.int64),
            "backlog": episodes.backlog[np.arange(self.num_envs), last],
            "edges": episodes.edges.copy(),
            "frequency": episodes.frequency.copy(),
        }

    def _advance(self, actions: NDArray[Any]) -> None:
        if self._strict:
            self._require_available(actions)
        advance(
            actions,
            self._episodes,
            self._extras,
            self._rows,
            self._rewards,
            self._terminated,
        )

    def _require_available(self, actions: NDArray[Any]) -> None:
        beyond = np.flatnonzero(actions > self._episodes.edges)
        if len(beyond):
            i = int(beyond[0])
            raise UnavailableActionError(
                f"{self.env_id}: action {actions[i]} for environment {i}, which has the cloud, 0, "
                f"and edge servers 1 to {self._episodes.edges[i]}; rows of servers that do not "
                "exist begin with -1 in observations"
            )


def _contexts(name: Any, edges: Any, cloud_frequency: Any, edge_frequency: Any) -> Contexts:  # noqa: ANN401
    """`contexts`, where an argument has its name."""
    return contexts(
        _chosen(name, SAMPLERS, "contexts"),
        edges=edges,
        cloud_frequency=cloud_frequency,
        edge_frequency=edge_frequency,
    )


def _earlier_limit(max_episode_steps: int | None) -> int | None:
    """A step limit that comes before the end, else None: the end is no truncation."""
    if max_episode_steps is None or max_episode_steps >= STEPS:
        return None
    return max_episode_steps


class MecOffloadingEnv(gymnasium.Env[NDArray[Any], int]):
    """One system, for Gymnasium's ordinary interface: a batch of one behind it.

    Attributes:
        reward_space: space of the reward vector.
        contexts: what contexts are drawn from.
    """

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - as the batch
        """Make a system.

        Args:
            **arguments: as those of `MecOffloadingVectorEnv`.

        Raises:
            EnvArgumentError: for an unusable argument.
        """
        self._batch = MecOffloadingVectorEnv(1, **arguments)
        self.contexts = self._batch.contexts
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self.reward_space = self._batch.reward_space
        self._next_first: tuple[NDArray[Any], dict[str, Any]] | None = None
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; without a seed the one that follows from the seed before."""
        super().reset(seed=seed)
        # A batch begins the next episode by itself when one has ended.
        first = self._next_first
        if seed is not None or first is None:
            seeds = None if seed is None else [seed]
            observations, infos = self._batch.reset(seed=seeds, options=options)
            first = observations[0], _of_one(infos)
        self._next_first = None
        self._running = True
        return first

    def step(
        self, action: int
    ) -> tuple[NDArray[Any], NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Send the present task to a server; the last infos of an episode hold its totals.

        Raises:
            NotResetError: when no episode is running.
        """
        if not self._running:
            raise NotResetError(f"{self._batch.env_id}: call reset() before step()")
        observations, rewards, terminated, truncated, infos = self._batch.step(
            np.asarray(action)[None]
        )
        final = infos.pop("final_obs", None)
        totals = infos.pop("final_info", None)
        context = _of_one({name: infos[name] for name in ("edges", "frequency", "action_mask")})
        observation = observations[0]
        if final is not None:
            self._next_first, observation = (observation, context), final[0]
            context = _of_one(totals)
            context["action_mask"] = context["frequency"] > 0.0
            self._running = False
        return observation, rewards[0], bool(terminated[0]), bool(truncated[0]), context

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()


def _of_one(infos: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Infos of the only environment of a batch."""
    return {name: array[0] for name, array in infos.items()}


ANCHORS: Mapping[str, float] = {
    "greedy heuristic": 7075.0,
    "shortest edge queue": 4525.0,
    "shortest queue": 2122.0,
}
"""Of the usual context, by `morl.experiments.bench.offloading`: 2,048 and 1,024 episodes."""

OBJECTIVES = (
    Objective(
        "delay",
        "-s",
        "Seconds from sending a task until it is computed, upload included, of all tasks; negated.",
    ),
    Objective("energy", "-J", "Energy of uploads and of computing, negated."),
)


def _spec(
    *,
    edges: int | None = None,
    cloud_frequency: float | None = None,
    edge_frequency: float | Sequence[float] | None = None,
    contexts: str = "fixed",
    observation: str = "paper",
    **_: object,
) -> EnvSpec:
    """The spec: contexts decide the reference point, observations the number of features."""
    possible = _contexts(contexts, edges, cloud_frequency, edge_frequency)
    usual = possible == _contexts("fixed", None, None, None)
    extras = EXTRAS[_chosen(observation, EXTRAS, "observation")]
    return EnvSpec(
        id=ID,
        objectives=OBJECTIVES,
        reference_point=possible.reference_point,
        discount=1.0,
        horizon=STEPS,
        features_per_action=PAPER_FEATURES + extras,
        anchors=ANCHORS if usual else {},
        description="Send the tasks of ten users to a cloud or to edge servers: little delay, or "
        "little energy.",
    )


register_env(
    ID,
    spec=_spec,
    entry_point="morl.envs.mec_offloading:MecOffloadingEnv",
    vector_entry_point="morl.envs.mec_offloading:MecOffloadingVectorEnv",
)
