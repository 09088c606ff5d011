"""From solutions to episode returns: one protocol that measures every agent alike.

Candidates are scored on the *selection* stream of seeds, the nondominated ones again on the
disjoint *report* stream: a maximum over noisy scores is biased upwards, fresh episodes are not.
Every episode return is kept. Nothing here knows how a policy was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, cast

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from morl.masks import ActionMasks, action_masks, takes_masks
from morl.pareto import nondominated, unique
from morl.seeding import generator, stream
from morl.types import (
    EnvSpec,
    Front,
    MorlError,
    NonFiniteError,
    Policy,
    PolicyState,
    Solution,
    StackedPolicy,
    StackedStatefulPolicy,
    StatefulPolicy,
    Task,
    is_stateful,
)

Batch = VectorEnv[Any, Any, Any]

STREAMS = ("selection", "report")
"""Names of the seed streams; a seed's lowest bit is the index of its stream."""

STEP_LIMIT = 100_000
"""Steps after which an episode without a horizon is taken for endless."""

_ROOT = 0
"""Root of the evaluation seeds: they belong to the protocol, not to a run."""


class PolicyError(MorlError):
    """A policy that does not keep its contract while it is played."""


class EndlessEpisodeError(MorlError):
    """An episode that did not end where it had to."""


@dataclass(frozen=True)
class Episodes:
    """Returns of whole episodes, one for each solution and seed.

    Attributes:
        discounted: discounted returns, shape (solution, episode, objective).
        undiscounted: plain sums of the same rewards, same shape.
        lengths: steps of each episode, shape (solution, episode).
    """

    discounted: NDArray[np.float64]
    undiscounted: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @classmethod
    def empty(cls, num_solutions: int, num_episodes: int, num_objectives: int) -> Episodes:
        """Episodes of no step yet, to be filled in."""
        shape = (num_solutions, num_episodes, num_objectives)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape[:2], dtype=np.int64))

    @property
    def points(self) -> Front:
        """Mean discounted return of each solution, shape (solution, objective)."""
        points: Front = self.discounted.mean(axis=1)
        return points

    @property
    def steps(self) -> int:
        """Environment steps that these episodes took."""
        return int(self.lengths.sum())

    def __getitem__(self, solutions: slice | NDArray[Any]) -> Episodes:
        """Episodes of some of the solutions; views where `solutions` is a slice."""
        return Episodes(*(getattr(self, field.name)[solutions] for field in fields(self)))


@dataclass(frozen=True)
class Evaluation:
    """What the protocol found out about an agent's solutions.

    Attributes:
        chosen: indices of the candidates that make up the front, ascending, shape (solution,).
        selection: episodes of all candidates, by which they were chosen.
        report: fresh episodes of the chosen ones, by which they are judged.
    """

    chosen: NDArray[np.intp]
    selection: Episodes
    report: Episodes

    @property
    def env_steps(self) -> int:
        """Environment steps that the whole evaluation took."""
        return self.selection.steps + self.report.steps


def evaluation_seeds(
    env: EnvSpec, stream_name: Literal["selection", "report"], count: int
) -> list[int]:
    """Seeds of the evaluation episodes, the same for every agent and every run.

    They depend on the environment's id and protocol alone. No seed occurs twice, none belongs to
    both streams, and a longer list begins with the shorter one.

    Args:
        env: spec of the environment.
        stream_name: "selection" to choose a front, "report" to judge it.
        count: number of episodes a solution, at least 1.
    """
    if stream_name not in STREAMS:
        raise ValueError(f"no seed stream {stream_name!r}; there are: {', '.join(STREAMS)}")
    if count < 1:
        raise ValueError(f"{env.id}: an evaluation needs at least 1 episode, got {count}")
    name = f"evaluation/{env.id}/{env.protocol}/{stream_name}"
    parity = STREAMS.index(stream_name)
    # Seeds are cut to 31 bits and so may repeat: some are drawn in reserve.
    raw = stream(_ROOT, name, 2 * count + 8)
    return list(dict.fromkeys((seed & ~1) | parity for seed in raw))[:count]


def rollout(
    task: Task,
    solutions: Sequence[Solution],
    *,
    seeds: Sequence[int],
    max_batch: int = 1024,
    rng_seed: int = 0,
) -> Episodes:
    """Play one episode for each solution and seed.

    All solutions play the same seeds (common random numbers). Deterministic policies of one
    class that can be stacked act in one call. A solution's episodes share a batch and its
    random numbers come from its own generator, so that results do not depend on `max_batch`.

    Args:
        task: what to play; its spec gives the discount.
        solutions: policies to play, any number.
        seeds: one for each episode of a solution.
        max_batch: most environments to run at once; one solution's seeds are never split.
        rng_seed: root of the generators that stochastic policies draw from.

    Returns:
        Returns in the order of `solutions` and `seeds`.

    Raises:
        NonFiniteError: names environment, seed and step of a reward or action that is not finite.
        EndlessEpisodeError: an episode went on beyond the horizon, or for 100,000 steps if there
            is none.
    """
    if not seeds:
        raise ValueError(f"{task.spec.id}: an evaluation needs at least one seed")
    episodes = Episodes.empty(len(solutions), len(seeds), task.spec.num_objectives)
    policies = [solution.policy for solution in solutions]
    batch: Batch | None = None
    try:
        for chunk in _chunks(len(solutions), max(1, max_batch // len(seeds))):
            rngs = [
                generator(rng_seed, "evaluation/policy", index)
                for index in range(chunk.start, chunk.stop)
            ]
            batch = _batch(task, len(rngs) * len(seeds), used=batch)
            actor = _actor(task.spec, policies[chunk], rngs)
            _play(task.spec, batch, actor, seeds=[int(seed) for seed in seeds], out=episodes[chunk])
    finally:
        if batch is not None:
            batch.close()
    return episodes


def evaluate(
    task: Task,
    solutions: Sequence[Solution],
    *,
    selection_seeds: Sequence[int],
    report_seeds: Sequence[int],
    max_batch: int = 1024,
    rng_seed: int = 0,
) -> Evaluation:
    """Choose a front on one stream of seeds and judge it on another.

    Args:
        task: what to play.
        solutions: the agent's candidates.
        selection_seeds: episodes by which the nondominated candidates are chosen; of equal
            ones the first stays.
        report_seeds: episodes by which the chosen are judged; none of `selection_seeds`.
        max_batch: as in `rollout`.
        rng_seed: as in `rollout`.

    Raises:
        ValueError: the two streams share a seed.
    """
    shared = set(selection_seeds) & set(report_seeds)
    if shared:
        raise ValueError(f"selection and report stream share the seeds {sorted(shared)}")
    selection = rollout(
        task, solutions, seeds=selection_seeds, max_batch=max_batch, rng_seed=rng_seed
    )
    chosen = choose(selection.points)
    report = rollout(
        task,
        [solutions[index] for index in chosen],
        seeds=report_seeds,
        max_batch=max_batch,
        rng_seed=rng_seed + 1,
    )
    return Evaluation(chosen=chosen, selection=selection, report=report)


def choose(points: Front) -> NDArray[np.intp]:
    """Indices of the nondominated points, ascending, each point once.

    Args:
        points: shape (point, objective), maximised.
    """
    kept = np.flatnonzero(nondominated(points))
    return np.sort(kept[unique(points[kept])]).astype(np.intp)


def _chunks(count: int, largest: int) -> Iterator[slice]:
    """Cut `count` solutions into as few pieces as possible, of two sizes at most."""
    pieces = -(-count // largest)
    start = 0
    for piece in range(pieces):
        stop = start + count // pieces + (piece < count % pieces)
        yield slice(start, stop)
        start = stop


def _batch(task: Task, num_envs: int, *, used: Batch | None) -> Batch:
    """A batch of that size: the used one if it fits, as making one can be slow."""
    if used is not None:
        if used.num_envs == num_envs:
            return used
        used.close()
    return task.make_vec(num_envs)


class _Actor(Protocol):
    """Acts for all policies of a batch."""

    def act(
        self,
        observations: NDArray[Any],
        running: NDArray[np.bool_],
        masks: ActionMasks | None,
    ) -> NDArray[Any]:
        """Choose actions.

        Args:
            observations: shape (policy, env, *observation).
            running: which policies still have an unfinished episode, shape (policy,).
            masks: legal actions, shape (policy, env, action), or None where all always are.

        Returns:
            Shape (policy * env, *action); rows of finished policies mean nothing.
        """


def _keywords(masks: ActionMasks | None, index: int | None = None) -> dict[str, Any]:
    """The keyword that `act` has more where the environment masks, for all policies or one."""
    if masks is None:
        return {}
    return {"action_masks": masks if index is None else masks[index]}


class _Together:
    """Acts through one stacked policy."""

    def __init__(self, stacked: StackedPolicy, rng: np.random.Generator) -> None:
        self._stacked = stacked
        self._rng = rng

    def act(
        self,
        observations: NDArray[Any],
        running: NDArray[np.bool_],  # noqa: ARG002 - the stack has a fixed size
        masks: ActionMasks | None,
    ) -> NDArray[Any]:
        actions = np.asarray(self._stacked.act(observations, rng=self._rng, **_keywords(masks)))
        return actions.reshape(-1, *actions.shape[2:])


class _OneByOne:
    """Acts policy by policy, each with its own generator; finished ones repeat their last."""

    def __init__(self, policies: Sequence[Policy], rngs: Sequence[np.random.Generator]) -> None:
        self._policies = policies
        self._rngs = rngs
        self._actions: list[NDArray[Any]] = [np.empty(0)] * len(policies)

    def act(
        self,
        observations: NDArray[Any],
        running: NDArray[np.bool_],
        masks: ActionMasks | None,
    ) -> NDArray[Any]:
        for index in np.flatnonzero(running).tolist():
            action = self._policies[index].act(
                observations[index], rng=self._rngs[index], **_keywords(masks, index)
            )
            self._actions[index] = np.asarray(action)
        return np.concatenate(self._actions)


class _Remembering:
    """Acts policy by policy where some have a memory; finished ones repeat their last action.

    Memories begin at the first call, which tells the number of environments.
    """

    def __init__(
        self,
        spec: EnvSpec,
        policies: Sequence[Policy | StatefulPolicy],
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self._spec = spec
        self._policies = policies
        self._rngs = rngs
        self._states: list[PolicyState | None] = [None] * len(policies)
        self._actions: list[NDArray[Any]] = [np.empty(0)] * len(policies)
        self._acted: list[int] = []

    def act(
        self,
        observations: NDArray[Any],
        running: NDArray[np.bool_],
        masks: ActionMasks | None,
    ) -> NDArray[Any]:
        self._acted = np.flatnonzero(running).tolist()
        for index in self._acted:
            actions = self._act(index, observations[index], _keywords(masks, index))
            _require_rows(
                self._spec, self._policies[index], "actions", actions, observations[index]
            )
            self._actions[index] = actions
        return np.concatenate(self._actions)

    def _act(
        self, index: int, observations: NDArray[Any], keywords: dict[str, Any]
    ) -> NDArray[Any]:
        policy, rng = self._policies[index], self._rngs[index]
        if not is_stateful(policy):
            return np.asarray(cast(Policy, policy).act(observations, rng=rng, **keywords))
        state = self._states[index]
        if state is None:
            state = _checked_state(
                self._spec, policy, policy.begin(len(observations)), observations
            )
        actions, after = policy.act(observations, state, rng=rng, **keywords)
        self._states[index] = _checked_state(self._spec, policy, after, observations)
        return np.asarray(actions)

    def observe(self, rewards: NDArray[np.float64], ended: NDArray[np.bool_]) -> None:
        """Show rewards (policy, env, objective) and ends (policy, env) to those that acted."""
        for index in self._acted:
            policy, state = self._policies[index], self._states[index]
            if is_stateful(policy) and state is not None:
                after = policy.observe(state, rewards[index], ended[index])
                self._states[index] = _checked_state(self._spec, policy, after, rewards[index])


class _RememberingTogether:
    """Acts through one stack of policies with a memory."""

    def __init__(self, stacked: StackedStatefulPolicy, rng: np.random.Generator) -> None:
        self._stacked = stacked
        self._rng = rng
        self._state: PolicyState | None = None

    def act(
        self,
        observations: NDArray[Any],
        running: NDArray[np.bool_],  # noqa: ARG002 - the stack has a fixed size
        masks: ActionMasks | None,
    ) -> NDArray[Any]:
        if self._state is None:
            self._state = self._stacked.begin(observations.shape[1])
        actions, self._state = self._stacked.act(
            observations, self._state, rng=self._rng, **_keywords(masks)
        )
        array = np.asarray(actions)
        return array.reshape(-1, *array.shape[2:])

    def observe(self, rewards: NDArray[np.float64], ended: NDArray[np.bool_]) -> None:
        """Show rewards (policy, env, objective) and ends (policy, env)."""
        assert self._state is not None
        self._state = self._stacked.observe(self._state, rewards, ended)


def _checked_state(
    spec: EnvSpec,
    policy: object,
    state: Any,  # noqa: ANN401 - checked here
    rows: NDArray[Any],
) -> PolicyState:
    """The memory itself, if it is a dict of arrays with a row for each environment."""
    if not isinstance(state, dict):
        raise PolicyError(
            f"{spec.id}: the memory of a {type(policy).__name__} must be a dict of arrays, got "
            f"{type(state).__name__}"
        )
    for name, values in state.items():
        _require_rows(spec, policy, f"memory {name!r}", values, rows)
    return state


def _require_rows(
    spec: EnvSpec, policy: object, what: str, values: object, rows: NDArray[Any]
) -> None:
    shape = np.asarray(values).shape
    if not shape or shape[0] != len(rows):
        raise PolicyError(
            f"{spec.id}: {what} of a {type(policy).__name__} must have one row per environment "
            f"({len(rows)}), got shape {shape}; `morl.testing.check_agent` tries this out"
        )


def _actor(
    spec: EnvSpec,
    policies: Sequence[Policy | StatefulPolicy],
    rngs: Sequence[np.random.Generator],
) -> _Actor:
    """Stack what can be stacked: deterministic policies of one class that offers it."""
    if spec.masks_actions:
        _require_masks_are_taken(spec, policies)
    kinds = {type(policy) for policy in policies}
    stack = getattr(next(iter(kinds)), "stack", None) if len(kinds) == 1 else None
    remembering = any(is_stateful(policy) for policy in policies)
    # One generator cannot serve stacked stochastic policies independently of the batch.
    if stack is None or not all(policy.deterministic for policy in policies):
        if remembering:
            return _Remembering(spec, policies, rngs)
        return _OneByOne(cast("Sequence[Policy]", policies), rngs)
    if remembering:
        return _RememberingTogether(stack(policies), rngs[0])
    return _Together(stack(policies), rngs[0])


def _require_masks_are_taken(spec: EnvSpec, policies: Sequence[object]) -> None:
    deaf = next((policy for policy in policies if not takes_masks(policy)), None)
    if deaf is not None:
        raise PolicyError(
            f"{spec.id}: the environment masks actions, but `act` of a {type(deaf).__name__} has "
            "no keyword action_masks; add it (see `morl.types.Policy`)"
        )


def _play(
    spec: EnvSpec, batch: Batch, actor: _Actor, *, seeds: Sequence[int], out: Episodes
) -> None:
    """Run one episode in each slot of the batch, tallied in `out`.

    Slots are ordered (policy, seed). A slot that has finished goes on in a new episode or stands
    still, as the batch likes; it is ignored.
    """
    policies, episodes = out.lengths.shape
    # Views: what is written to the flat arrays is in `out`.
    discounted = out.discounted.reshape(policies * episodes, -1)
    undiscounted = out.undiscounted.reshape(policies * episodes, -1)
    lengths = out.lengths.reshape(-1)
    slot_seeds = list(seeds) * policies
    running = np.ones(policies * episodes, dtype=np.bool_)
    set_active = getattr(batch, "set_active", None)
    if set_active is not None:
        set_active(running.copy())
    observations, infos = batch.reset(seed=slot_seeds)
    observe = getattr(actor, "observe", None)
    factor = 1.0
    for step in range(1, (spec.horizon or STEP_LIMIT) + 1):
        grouped = observations.reshape(policies, episodes, *observations.shape[1:])
        busy: NDArray[np.bool_] = running.reshape(policies, episodes).max(axis=1)
        masks = action_masks(spec, infos, running=running)
        if masks is not None:
            masks = masks.reshape(policies, episodes, -1)
        actions = actor.act(grouped, busy, masks)
        live = np.flatnonzero(running)
        _require_finite(spec, "action", actions, live=live, seeds=slot_seeds, step=step)
        observations, rewards, terminated, truncated, infos = batch.step(actions)
        gained = _rewards(spec, rewards, slots=len(running))
        _require_finite(spec, "reward", gained, live=live, seeds=slot_seeds, step=step)
        discounted[live] += factor * gained[live]
        undiscounted[live] += gained[live]
        factor *= spec.discount
        if observe is not None:
            observe(
                gained.reshape(policies, episodes, -1),
                (terminated | truncated).reshape(policies, episodes),
            )
        ended = running & (terminated | truncated)
        if ended.any():
            lengths[ended] = step
            running &= ~ended
            if not running.any():
                return
            if set_active is not None:
                set_active(running.copy())
    raise _endless(spec, seed=slot_seeds[int(np.flatnonzero(running)[0])])


def _rewards(spec: EnvSpec, rewards: Any, *, slots: int) -> NDArray[np.float64]:  # noqa: ANN401 - checked here
    """Rewards as float64 of shape (env, objective)."""
    array = np.asarray(rewards, dtype=np.float64)
    if array.shape != (slots, spec.num_objectives):
        raise MorlError(
            f"{spec.id}: rewards of {slots} environments have shape {array.shape}, expected "
            f"{(slots, spec.num_objectives)} ({', '.join(spec.objective_names)}); "
            f"run `morl check-env {spec.id}`"
        )
    return array


def _require_finite(
    spec: EnvSpec,
    what: str,
    values: NDArray[Any],
    *,
    live: NDArray[np.intp],
    seeds: Sequence[int],
    step: int,
) -> None:
    """Refuse a NaN or an infinity among the rows of unfinished episodes."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = [int(row) for row in live if not np.isfinite(values[row]).all()]
    if bad:
        raise NonFiniteError(
            f"{spec.id}: {what} {values[bad[0]].tolist()} is not finite "
            f"(evaluation episode of seed {seeds[bad[0]]}, step {step})"
        )


def _endless(spec: EnvSpec, *, seed: int) -> EndlessEpisodeError:
    """Describe an episode that goes on for ever."""
    if spec.horizon is None:
        return EndlessEpisodeError(
            f"{spec.id}: an episode (seed {seed}) did not end within {STEP_LIMIT} steps and the "
            "environment has no horizon; set one, for example env.horizon=1000"
        )
    return EndlessEpisodeError(
        f"{spec.id}: an episode (seed {seed}) went on beyond its horizon of {spec.horizon} steps; "
        f"run `morl check-env {spec.id}`"
    )
