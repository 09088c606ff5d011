"""Exact fronts of finite problems: every undominated return, each with a plan that earns it.

Backward induction on sets of vectors (White 1982, "Multi-objective infinite-horizon discounted
Markov decision processes"): what can be earned from a state is the undominated part of what its
actions earn, now and afterwards. Everything is maximised.

The policies considered are deterministic and may depend on time and history. Where an action has
one outcome, that is a sequence of actions; stationary policies are among them, and may do worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.pareto import nondominated
from morl.types import Front, MorlError, Task, Vector

END = -1
"""Successor that stands for the end of the episode."""

TOLERANCE = 1e-12
"""Returns closer than this share of the largest are the same: rounding makes such differences."""

MAX_POINTS = 50_000
"""Size of one set beyond which a problem counts as too large."""

MAX_LAYERS = 1_000
"""Steps to go after which returns that still change count as endless."""

Keep: TypeAlias = Callable[[Front], NDArray[np.intp]]
"""Chooses, by index, the points that matter."""


class ExactError(MorlError, ValueError):
    """A problem that is malformed, too large, or not finite."""


@dataclass(frozen=True, kw_only=True)
class FiniteModel:
    """A finite multi-objective decision process, as tables.

    Attributes:
        successors: next state or `END`, int64 ``(state, action, outcome)``.
        probabilities: of the outcomes, float64 ``(state, action, outcome)``; they sum to 1, or
            to 0 where the state does not have the action.
        rewards: expected reward, float64 ``(state, action, objective)``, paid at the action's
            last step.
        start: the first state.
        durations: steps that an action takes, int64 ``(state, action)``; None for 1 each.
        moves: the environment's actions behind an action of several steps, by state and action;
            None where actions are the environment's own.
    """

    successors: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    rewards: NDArray[np.float64]
    start: int = 0
    durations: NDArray[np.int64] | None = None
    moves: Callable[[int, int], tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        """Refuse tables that do not fit together.

        Raises:
            ExactError: names the table.
        """
        shape = self.successors.shape
        if len(shape) != 3 or self.probabilities.shape != shape:
            raise ExactError(
                f"successors {shape} and probabilities {self.probabilities.shape} must share the "
                "shape (state, action, outcome)"
            )
        if self.rewards.ndim != 3 or self.rewards.shape[:2] != shape[:2]:
            raise ExactError(
                f"rewards {self.rewards.shape} must have the shape (state, action, objective) "
                f"with {shape[:2]} states and actions"
            )
        if self.durations is not None and (
            self.durations.shape != shape[:2] or self.durations.min() < 1
        ):
            raise ExactError("durations must be at least 1, of shape (state, action)")
        if not np.isfinite(self.rewards).all():
            raise ExactError("rewards must be finite")
        if self.successors.min() < END or self.successors.max() >= shape[0]:
            raise ExactError(f"successors must be states below {shape[0]}, or {END} for the end")
        sums = self.probabilities.sum(axis=2)
        good = (np.abs(sums - 1) < 1e-9) | (sums == 0)
        if not good.all() or self.probabilities.min() < 0:
            raise ExactError("probabilities of an action must be positive and sum to 1, or be 0")
        if not 0 <= self.start < shape[0]:
            raise ExactError(f"start must be a state below {shape[0]}, got {self.start}")

    @property
    def num_states(self) -> int:
        """States in the tables."""
        return int(self.successors.shape[0])

    @property
    def num_objectives(self) -> int:
        """Length of a return."""
        return int(self.rewards.shape[2])

    @property
    def deterministic(self) -> bool:
        """Whether no action has two outcomes, the end of the episode counted."""
        return bool(((self.probabilities > 0).sum(axis=2) <= 1).all())

    def duration(self, state: int, action: int) -> int:
        """Steps that an action takes."""
        return 1 if self.durations is None else int(self.durations[state, action])

    def outcomes(self, state: int, action: int) -> list[tuple[float, int]]:
        """Probability and successor of everything that may happen."""
        row = self.probabilities[state, action]
        likely = np.flatnonzero(row)
        return list(
            zip(row[likely].tolist(), self.successors[state, action, likely].tolist(), strict=True)
        )

    def actions(self, state: int) -> list[int]:
        """Actions that the state has."""
        return [int(a) for a in np.flatnonzero(self.probabilities[state].sum(axis=1))]


@dataclass(frozen=True, eq=False)
class _Values:
    """What can be earned from a state, and how.

    Attributes:
        points: ``(point, objective)``.
        actions: first action of each point, ``(point,)``; empty at the end of an episode.
        choices: for each point, which point of each outcome's values comes next,
            ``(point, outcome)``.
        after: values of the outcomes of each action.
        ended: for each point, whether the episode surely ends.
    """

    state: int
    points: Front
    actions: NDArray[np.int64]
    choices: NDArray[np.int64]
    after: Mapping[int, tuple[_Values, ...]]
    ended: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Plan:
    """A deterministic policy: what to do now, and what after each outcome.

    Attributes:
        model: what it was made for.
    """

    model: FiniteModel
    _values: _Values
    _index: int

    @property
    def state(self) -> int:
        """State in which the plan starts."""
        return self._values.state

    @property
    def action(self) -> int:
        """What to do first."""
        return int(self._values.actions[self._index])

    def after(self, outcome: int) -> Plan | None:
        """What to do after an outcome, by its place in `FiniteModel.outcomes`; None at the end."""
        below = self._values.after[self.action][outcome]
        if not len(below.actions):
            return None
        return Plan(self.model, below, int(self._values.choices[self._index, outcome]))

    @property
    def actions(self) -> tuple[int, ...]:
        """The plan as a sequence of actions, for an environment.

        Raises:
            ExactError: where the plan depends on chance.
        """
        moves = self.model.moves
        sequence: list[int] = []
        rest: Plan | None = self
        while rest is not None:
            sequence += moves(rest.state, rest.action) if moves else (rest.action,)
            outcomes = self.model.outcomes(rest.state, rest.action)
            branches = [rest.after(outcome) for outcome in range(len(outcomes))]
            alive = [branch for branch in branches if branch is not None]
            if len(alive) > 1:
                raise ExactError("this plan depends on chance: no single sequence of actions")
            rest = alive[0] if alive else None
        return tuple(sequence)

    def expected_return(self, discount: float) -> Vector:
        """Expected return, forwards from the tables; a check of what the solver says.

        Args:
            discount: in (0, 1].
        """
        total = np.zeros(self.model.num_objectives)
        waiting: list[tuple[float, Plan]] = [(1.0, self)]
        while waiting:
            weight, plan = waiting.pop()
            steps = self.model.duration(plan.state, plan.action)
            total += weight * discount ** (steps - 1) * self.model.rewards[plan.state, plan.action]
            for index, (chance, _) in enumerate(self.model.outcomes(plan.state, plan.action)):
                branch = plan.after(index)
                if branch is not None:
                    waiting.append((weight * chance * discount**steps, branch))
        return total


@dataclass(frozen=True)
class ExactFront:
    """Undominated expected returns and the plans that earn them.

    Attributes:
        points: float64 ``(point, objective)``, sorted by the first objective, then the next.
        plans: one a point.
    """

    points: Front
    plans: tuple[Plan, ...]


def pareto_front(model: FiniteModel, *, discount: float, horizon: int | None = None) -> ExactFront:
    """The Pareto front of expected returns of deterministic policies.

    Args:
        model: what can happen.
        discount: in (0, 1].
        horizon: step limit, after which nothing is earned; None where every episode ends.

    Returns:
        All undominated points. Points that differ by less than `TOLERANCE` count as one.

    Raises:
        ExactError: too many points, or returns that settle at no finite number of steps.
    """
    return _solve(model, discount, horizon, undominated)


def convex_coverage_set(
    model: FiniteModel, *, discount: float, horizon: int | None = None
) -> ExactFront:
    """The points of the Pareto front that are best for some weighted sum of the objectives.

    Expected returns of mixed policies are averages of these, so for linear utilities no policy is
    better. Much smaller than the Pareto front where chance plays a part.

    Args:
        model: what can happen.
        discount: in (0, 1].
        horizon: step limit, after which nothing is earned; None where every episode ends.

    Raises:
        ExactError: too many points, or returns that settle at no finite number of steps.
    """
    if not model.deterministic:
        return _solve(model, discount, horizon, supported)
    front = pareto_front(model, discount=discount, horizon=horizon)  # pruned once, at the end
    kept = supported(front.points)
    return ExactFront(front.points[kept], tuple(front.plans[index] for index in kept))


def undominated(points: Front, *, tolerance: float = TOLERANCE) -> NDArray[np.intp]:
    """Indices of undominated points; what is better by rounding alone is not better.

    Args:
        points: shape (point, objective).
        tolerance: share of each objective's largest magnitude that counts as rounding.

    Returns:
        Ascending, shape (kept,).
    """
    candidates = np.flatnonzero(nondominated(points))
    if len(candidates) == 1:
        return candidates
    order = candidates[np.argsort(-points[candidates].sum(axis=1), kind="stable")]
    table = points[order]
    slack = tolerance * np.abs(points).max(axis=0)
    covered = np.zeros(len(table), np.bool_)
    block = 256
    for start in range(0, len(table), block):
        rows = table[start : start + block]
        better = np.ones((len(rows), start + len(rows)), np.bool_)
        for column, width in enumerate(slack):
            better &= table[None, : start + len(rows), column] >= rows[:, None, column] - width
        earlier = np.arange(start + len(rows)) < start + np.arange(len(rows))[:, None]
        covered[start : start + block] = (better & earlier).any(axis=1)
    return np.sort(order[~covered])


def supported(points: Front, *, tolerance: float = TOLERANCE) -> NDArray[np.intp]:
    """Indices of the points that are the only best ones for some preference on the simplex.

    Each undominated point is tried by a linear program: is there a preference for which it beats
    every other by a margin?

    Args:
        points: shape (point, objective).
        tolerance: margin, as a share of the largest magnitude.

    Returns:
        Ascending, shape (kept,).
    """
    indices = undominated(points, tolerance=tolerance)
    table = points[indices]
    scale = float(np.abs(table).max()) or 1.0
    winners = _obvious_winners(table, tolerance * scale)
    keep = [
        index
        for place, index in enumerate(indices)
        if winners[place]
        or _best_margin(np.delete(table, place, 0) - table[place]) > tolerance * scale
    ]
    return np.array(keep, np.intp)


def _obvious_winners(table: Front, margin: float) -> NDArray[np.bool_]:
    """Points that beat all others for one of a few preferences: no program is needed for them."""
    count = table.shape[1]
    weights = np.vstack([np.eye(count) * 0.999 + 0.001 / count, np.full(count, 1 / count)])
    utilities = weights @ table.T
    best = utilities.argmax(axis=1)
    found = np.zeros(len(table), np.bool_)
    for row, winner in zip(utilities, best, strict=True):
        found[winner] |= (row >= row[winner] - 2 * margin).sum() == 1
    return found


def _best_margin(differences: Front) -> float:
    """Largest margin by which a point wins, over all preferences.

    Args:
        differences: the others less the point, shape (other, objective).
    """
    from scipy.optimize import linprog  # a third of a second that listing environments need not

    others, count = differences.shape
    if not others:
        return np.inf
    scale = float(np.abs(differences).max())
    solution = linprog(
        np.append(np.zeros(count), -1.0),
        A_ub=np.column_stack([differences / scale, np.ones(others)]),
        b_ub=np.zeros(others),
        A_eq=np.append(np.ones(count), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * count + [(None, None)],
        method="highs",
    )
    return float(-solution.fun * scale)


def enumerate_states(
    task: Task, *, max_states: int = 20_000, batch_size: int = 1024
) -> FiniteModel:
    """Tables of an environment that is deterministic, finite and shows its state.

    Breadth-first search: every observation that is new is a state, and is visited again by the
    actions that led there. Works for any environment; that an observation tells all of the state
    is the caller's promise, and replaying the plans in the environment shows what it is worth.

    Args:
        task: environment with discrete actions.
        max_states: most states to look for.
        batch_size: environments stepped at once.

    Raises:
        ExactError: chance plays a part, or there are too many states.
    """
    batch = task.make_vec(batch_size)
    try:
        return _Search(batch, task.spec.id, max_states).run()
    finally:
        batch.close()


class _Search:
    """Breadth-first search through the states of a batch of environments."""

    def __init__(self, batch: Any, name: str, max_states: int) -> None:  # noqa: ANN401
        if not isinstance(batch.single_action_space, spaces.Discrete):
            raise ExactError(f"{name}: a finite model needs discrete actions")
        self.batch = batch
        self.name = name
        self.max_states = max_states
        self.num_actions = int(batch.single_action_space.n)
        first = batch.reset(seed=0)[0]
        if (first != first[0]).any() or (batch.reset(seed=10_000)[0] != first).any():
            raise ExactError(f"{name}: episodes start at random")
        self.numbers = {first[0].tobytes(): 0}
        self.paths: list[list[int]] = [[]]
        self.successors: list[list[int]] = []
        self.rewards: list[list[Vector]] = []

    def run(self) -> FiniteModel:
        frontier = [0]
        while frontier:
            tried = [(state, action) for state in frontier for action in range(self.num_actions)]
            frontier = []
            for start in range(0, len(tried), self.batch.num_envs):
                frontier += self._try(tried[start : start + self.batch.num_envs])
        successors = np.array(self.successors, np.int64)[:, :, None]
        return FiniteModel(
            successors=successors,
            probabilities=np.ones(successors.shape),
            rewards=np.array(self.rewards, np.float64),
        )

    def _try(self, tried: Sequence[tuple[int, int]]) -> list[int]:
        """Take actions in states, all of them equally far from the start; returns new states."""
        found = []
        keys, rewards, terminated = self._play(tried, seed=0)
        again, same_rewards, same_end = self._play(tried, seed=20_000)
        if keys != again or (rewards != same_rewards).any() or (terminated != same_end).any():
            raise ExactError(f"{self.name}: chance plays a part; give the model as tables")
        for (state, action), key, reward, end in zip(tried, keys, rewards, terminated, strict=True):
            after = END
            if not end:
                after = self.numbers.setdefault(key, len(self.numbers))
            if after == len(self.paths):
                self.paths.append([*self.paths[state], action])
                found.append(after)
            if state == len(self.successors):
                self.successors.append([])
                self.rewards.append([])
            self.successors[state].append(after)
            self.rewards[state].append(reward)
        if len(self.paths) > self.max_states:
            raise ExactError(f"{self.name}: more than {self.max_states} states")
        return found

    def _play(
        self, tried: Sequence[tuple[int, int]], *, seed: int
    ) -> tuple[list[bytes], Front, NDArray[np.bool_]]:
        sequences = np.zeros((self.batch.num_envs, len(self.paths[tried[0][0]]) + 1), np.int64)
        sequences[: len(tried)] = [[*self.paths[state], action] for state, action in tried]
        self.batch.reset(seed=seed)
        for column in sequences.T:
            observations, rewards, terminated, truncated, infos = self.batch.step(column)
        ended = terminated | truncated
        if ended.any():
            observations = observations.copy()
            observations[ended] = infos["final_obs"][ended]
        count = len(tried)
        keys = [row.tobytes() for row in observations[:count]]
        return keys, cast(Front, rewards[:count]), terminated[:count]


def _solve(model: FiniteModel, discount: float, horizon: int | None, keep: Keep) -> ExactFront:
    if not 0.0 < discount <= 1.0:
        raise ExactError(f"discount must be in (0, 1], got {discount}")
    solver = _Induction(model, discount, keep)
    order = _from_the_ends(model)
    values = solver.once(order) if order is not None else solver.repeatedly(horizon)
    ranks = np.lexsort(values.points.T[::-1])
    plans = tuple(Plan(model, values, int(index)) for index in ranks)
    if order is not None and horizon is not None:
        _check_lengths(model, plans, horizon)
    return ExactFront(values.points[ranks], plans)


def _check_lengths(model: FiniteModel, plans: Sequence[Plan], horizon: int) -> None:
    """Without the step limit these plans are best; if all keep to it, they are best with it."""
    longest = 0
    waiting = [(0, plan) for plan in plans]
    while waiting:
        steps, plan = waiting.pop()
        steps += model.duration(plan.state, plan.action)
        longest = max(longest, steps)
        for index in range(len(model.outcomes(plan.state, plan.action))):
            branch = plan.after(index)
            if branch is not None:
                waiting.append((steps, branch))
    if longest > horizon:
        raise ExactError(f"a plan of {longest} steps goes beyond the horizon of {horizon}")


class _Induction:
    """Backward induction on sets of points."""

    def __init__(self, model: FiniteModel, discount: float, keep: Keep) -> None:
        self.model = model
        self.discount = discount
        self.keep = keep
        self.ended = self._nothing(END, ended=True)
        self.states = _reachable(model)

    def once(self, order: Sequence[int]) -> _Values:
        """Values of the start where no state comes back: successors come before their states."""
        values = {END: self.ended}
        for state in order:
            values[state] = self._back_up(state, values)
        return values[self.model.start]

    def repeatedly(self, horizon: int | None) -> _Values:
        """Values of the start with ever more steps to go, until they settle."""
        if self.model.durations is not None and (self.model.durations != 1).any():
            raise ExactError("actions of several steps need a model in which no state comes back")
        values = {state: self._nothing(state, ended=False) for state in self.states}
        values[END] = self.ended
        before = _predecessors(self.model, self.states)
        outdated = set(self.states)
        for _ in range(MAX_LAYERS if horizon is None else horizon):
            longer = {state: self._back_up(state, values) for state in sorted(outdated)}
            changed = {state for state, new in longer.items() if _differ(new, values[state])}
            values |= {state: longer[state] for state in changed}
            if not changed:
                break
            outdated = {earlier for state in changed for earlier in before[state]}
        start = values[self.model.start]
        if horizon is None and not start.ended.all():
            raise ExactError("some episodes never end: give a horizon")
        return start

    def _nothing(self, state: int, *, ended: bool) -> _Values:
        return _Values(
            state,
            np.zeros((1, self.model.num_objectives)),
            np.empty(0, np.int64),
            np.empty((1, 0), np.int64),
            {},
            np.array([ended]),
        )

    def _back_up(self, state: int, values: Mapping[int, _Values]) -> _Values:
        """What can be earned from a state, given what can be earned from its successors."""
        after: dict[int, tuple[_Values, ...]] = {}
        points, actions, choices, ended = [], [], [], []
        for action in self.model.actions(state):
            outcomes = self.model.outcomes(state, action)
            after[action] = tuple(values[successor] for _, successor in outcomes)
            earned, chosen, end = self._mix(state, action, outcomes, after[action])
            points.append(earned)
            choices.append(chosen)
            ended.append(end)
            actions.append(np.full(len(earned), action))
        width = max(chosen.shape[1] for chosen in choices)
        padded = [np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in choices]
        table = np.concatenate(points)
        kept = self._kept(state, table)
        return _Values(
            state,
            table[kept],
            np.concatenate(actions)[kept],
            np.concatenate(padded)[kept],
            after,
            np.concatenate(ended)[kept],
        )

    def _mix(
        self,
        state: int,
        action: int,
        outcomes: Sequence[tuple[float, int]],
        after: Sequence[_Values],
    ) -> tuple[Front, NDArray[np.int64], NDArray[np.bool_]]:
        """All sums of one point for each outcome, weighted by chance, pruned on the way."""
        steps = self.model.duration(state, action)
        points = self.discount ** (steps - 1) * self.model.rewards[state, action][None]
        choices = np.empty((1, 0), np.int64)
        ended = np.ones(1, np.bool_)
        for (chance, _), below in zip(outcomes, after, strict=True):
            first, second = np.indices((len(points), len(below.points))).reshape(2, -1)
            weight = chance * self.discount**steps
            points = points[first] + weight * below.points[second]
            choices = np.column_stack([choices[first], second])
            ended = ended[first] & below.ended[second]
            if len(outcomes) > 1:
                kept = self._kept(state, points)
                points, choices, ended = points[kept], choices[kept], ended[kept]
        return points, choices, ended

    def _kept(self, state: int, points: Front) -> NDArray[np.intp]:
        kept = self.keep(points)
        if len(kept) > MAX_POINTS:
            raise ExactError(
                f"state {state} has {len(kept)} undominated returns, more than {MAX_POINTS}; "
                "a convex coverage set is smaller"
            )
        return kept


def _differ(new: _Values, old: _Values) -> bool:
    # A plan that is cut off at the horizon grows with it, even if its return does not.
    return not (old.ended.all() and np.array_equal(new.points, old.points))


def _reachable(model: FiniteModel) -> list[int]:
    """States that can be met from the start."""
    seen = {model.start}
    waiting = [model.start]
    while waiting:
        state = waiting.pop()
        likely = model.probabilities[state] > 0
        if not likely.any():
            raise ExactError(f"state {state} has no action; let the episode end instead")
        fresh = set(model.successors[state][likely].tolist()) - seen - {END}
        seen |= fresh
        waiting += fresh
    return sorted(seen)


def _predecessors(model: FiniteModel, states: Sequence[int]) -> dict[int, set[int]]:
    """States from which each state can be reached in one action."""
    before: dict[int, set[int]] = {state: set() for state in states}
    for state in states:
        for successor in model.successors[state][model.probabilities[state] > 0].tolist():
            if successor != END:
                before[successor].add(state)
    return before


def _from_the_ends(model: FiniteModel) -> list[int] | None:
    """Reachable states, each after all of its successors; None where a state comes back."""
    states = _reachable(model)
    before = _predecessors(model, states)
    missing = dict.fromkeys(states, 0)
    for earlier in before.values():
        for state in earlier:
            missing[state] += 1
    order = [state for state in states if not missing[state]]
    for state in order:  # grows on the way
        for one in before[state]:
            missing[one] -= 1
            if not missing[one]:
                order.append(one)
    return order if len(order) == len(states) else None
