"""Objects built step by step: what grids, strings and molecules have in common.

A *core* is a deterministic, finite process whose states form a directed acyclic graph with one
root. An object is finished by the stop action, or by itself in a state from which nothing leads on;
only then it has objective values, all of them maximised and none negative. Agents that sample
objects talk to the core; all others see it through a Gymnasium view, as any environment.

States, actions and objects are arrays with the object as first axis, and nothing here keeps a state
between two calls but the cache and the count of evaluations.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.pareto import nondominated
from morl.types import Front, MorlError, NonFiniteError, Task, Vector

States: TypeAlias = NDArray[np.int64]
"""One state or object a row, shape (object, feature)."""

Actions: TypeAlias = NDArray[np.int64]
"""Shape (object,); sequences of them (object, time), with -1 after the end."""

Mask: TypeAlias = NDArray[np.bool_]
"""Shape (object, action), or (object,)."""


class CompositionError(MorlError, ValueError):
    """States or actions that do not fit a core, or a graph too large to be enumerated."""


class NotCompositionalError(MorlError, TypeError):
    """An environment whose episodes build no objects."""


class ObjectiveError(NonFiniteError, ValueError):
    """An objective value that is no finite, non-negative number."""


class _Evaluations(threading.local):
    """How many objective evaluations each thread has asked for, so that runs in two do not mix."""

    total = 0


_EVALUATIONS = _Evaluations()


def objective_evaluations() -> int:
    """Objective evaluations that the calling thread has asked for, cached ones included.

    The difference of two readings is what the code in between has spent, whatever it is made of.
    """
    return _EVALUATIONS.total


class CompositionalCore(ABC):
    """A family of objects, built by discrete actions; base class of the batched cores.

    The graph must be graded: all ways to a state take the same number of actions. Two different
    actions never lead from one state to the same state.

    Attributes:
        name: id of the environment, for messages.
        objective_names: names of the objectives, in order.
        num_actions: the actions are 0 to ``num_actions - 1``, the last of them stops.
        horizon: most actions that an object takes, the stop included.
        state_width: features of a state.
        encoding_width: features of `encode`.
        vocabulary: number of letters where states are strings: a row is the letters from the
            left, then -1, and an action below `vocabulary` appends that letter. None elsewhere.
        ordinal: whether a state is a row of quantities, so that near numbers are near states.
        notation: how `describe` writes objects: "text", or "smiles" where they are molecules,
            which reports then draw.
        utopia: no object is better in any objective.
        nadir: no object is worse.
    """

    ordinal: bool = False
    notation: str = "text"

    def __init__(
        self,
        *,
        name: str,
        objective_names: Sequence[str],
        num_actions: int,
        horizon: int,
        state_width: int,
        encoding_width: int,
        vocabulary: int | None = None,
        utopia: Sequence[float] | None = None,
        nadir: Sequence[float] | None = None,
        cache: int = 0,
    ) -> None:
        """Set the sizes.

        Args:
            name: id of the environment, for messages.
            objective_names: names of the objectives, in order.
            num_actions: number of actions, the stop included.
            horizon: most actions that an object takes, the stop included.
            state_width: features of a state.
            encoding_width: features of `encode`.
            vocabulary: number of letters where states are strings.
            utopia: best values, by default ones.
            nadir: worst values, by default zeros.
            cache: most objects whose values are remembered; 0 where values cost next to nothing.
        """
        self.name = name
        self.objective_names = tuple(objective_names)
        self.num_actions = num_actions
        self.horizon = horizon
        self.state_width = state_width
        self.encoding_width = encoding_width
        self.vocabulary = vocabulary
        count = len(self.objective_names)
        self.utopia: Vector = np.array(utopia or (1.0,) * count, np.float64)
        self.nadir: Vector = np.array(nadir or (0.0,) * count, np.float64)
        self._cache = _Cache(cache) if cache else None
        self._evaluations = 0
        self._calls = 0

    @property
    def num_objectives(self) -> int:
        """Length of an objective vector."""
        return len(self.objective_names)

    @property
    def stop_action(self) -> int:
        """The action that finishes an object: the last one."""
        return self.num_actions - 1

    # ---------------------------------------------------------------------------------------
    # The graph

    @abstractmethod
    def initial(self, count: int) -> States:
        """The root, `count` times."""

    @abstractmethod
    def mask(self, states: States) -> Mask:
        """Legal actions of unfinished states, (object, action); at least one is legal in each."""

    @abstractmethod
    def _advance(self, states: States, actions: Actions) -> States:
        """States after legal actions, none of them the stop; a new array."""

    @abstractmethod
    def ends(self, states: States) -> Mask:
        """Whether states are finished by themselves, (object,); stop is not legal there."""

    @abstractmethod
    def backward_mask(self, states: States) -> Mask:
        """Actions by which states can have been reached, (object, action).

        The stop action is never among them: a stop leads to an object of its own, which has one
        parent. The root has none.
        """

    @abstractmethod
    def undo(self, states: States, actions: Actions) -> States:
        """Parents that led to `states` by `actions`, each legal by `backward_mask`."""

    def step(self, states: States, actions: Actions) -> tuple[States, Mask]:
        """Go on by one action each.

        Args:
            states: unfinished, (object, feature); not changed.
            actions: legal, (object,).

        Returns:
            The next states (the same where the action was the stop), and whether they are
            finished.
        """
        stops = actions == self.stop_action
        if not stops.any():
            after = self._advance(states, actions)
            return after, self.ends(after)
        after = states.copy()
        moves = np.flatnonzero(~stops)
        finished = stops.copy()
        if moves.size:
            moved = self._advance(states[moves], actions[moves])
            after[moves] = moved
            finished[moves] = self.ends(moved)
        return after, finished

    def num_parents(self, states: States) -> NDArray[np.int64]:
        """Number of states from which `states` can be reached, (object,); stops not counted."""
        return np.asarray(self.backward_mask(states).sum(axis=1), np.int64)

    # ---------------------------------------------------------------------------------------
    # What states look like

    @abstractmethod
    def encode(self, states: States) -> NDArray[np.float32]:
        """States as numbers between 0 and 1 for networks, (object, encoding)."""

    @abstractmethod
    def decode(self, encodings: NDArray[np.float32]) -> States:
        """States of which these are the encodings: what a policy sees of the Gymnasium view."""

    @abstractmethod
    def describe(self, states: States) -> list[str]:
        """Each object in a few characters: its letters, its coordinates, its SMILES."""

    def keys(self, states: States) -> list[Hashable]:
        """Something hashable for each object; equal keys mean equal objects."""
        return [row.tobytes() for row in np.ascontiguousarray(states)]

    @abstractmethod
    def distance(self, first: States, second: States) -> NDArray[np.float64]:
        """Distances between all objects of two sets, (first, second); 0 for equal ones."""

    # ---------------------------------------------------------------------------------------
    # What objects are worth

    @abstractmethod
    def _objectives(self, states: States) -> Front:
        """Objective values of finished objects, (object, objective)."""

    def evaluate(self, states: States) -> Front:
        """Objective values of finished objects, counted.

        Args:
            states: finished objects, (object, feature).

        Returns:
            Shape (object, objective), finite and not negative.

        Raises:
            ObjectiveError: a value is NaN, infinite or negative; names object and objective.
        """
        self._evaluations += len(states)
        _EVALUATIONS.total += len(states)
        if self._cache is None:
            self._calls += len(states)
            return self._checked(states)
        keys = self.keys(states)
        new = self._cache.unknown(keys)
        if new:
            self._cache.add([keys[index] for index in new], self._checked(states[new]))
            self._calls += len(new)
        return self._cache.look_up(keys)

    def values(self, states: States) -> Front:
        """Objective values without counting or remembering: for reference fronts and reports.

        Raises:
            ObjectiveError: as `evaluate`.
        """
        return self._checked(states)

    @property
    def evaluations(self) -> int:
        """Objects handed to `evaluate` so far, repeated ones included."""
        return self._evaluations

    @property
    def objective_calls(self) -> int:
        """Objects whose values had to be computed: those that no cache knew."""
        return self._calls

    def restore_counts(self, *, evaluations: int, objective_calls: int) -> None:
        """Set the counts, after a resume."""
        self._evaluations = evaluations
        self._calls = objective_calls

    def _checked(self, states: States) -> Front:
        values = np.asarray(self._objectives(states), np.float64)
        shape = (len(states), self.num_objectives)
        if values.shape != shape:
            raise CompositionError(
                f"{self.name}: objective values must have shape {shape}, got {values.shape}"
            )
        good = np.isfinite(values) & (values >= 0.0)
        if not good.all():
            row, column = np.argwhere(~good)[0].tolist()
            raise ObjectiveError(
                f"{self.name}: {self.objective_names[column]} of {self.describe(states[[row]])[0]} "
                f"is {values[row, column]}; objectives are finite and not negative: correct the "
                "objective, or leave it out of `objectives`"
            )
        return values

    def reference_front(self) -> Front | None:
        """The exact Pareto front, shape (point, objective), or None where it is not known."""
        return None

    # ---------------------------------------------------------------------------------------
    # Genomes, for evolution

    def genome_sizes(self) -> NDArray[np.int64]:
        """Number of values of each gene, (gene,); by default one gene for each action."""
        return np.full(self.horizon, self.num_actions, np.int64)

    def from_genomes(self, genomes: NDArray[np.int64]) -> States:
        """Objects of genomes (object, gene), genes from 0 to below `genome_sizes`.

        By default gene t is the rank, among the legal actions, of the action at time t; ranks go
        round.
        """

        def choose(states: States, rows: NDArray[np.intp], time: int) -> Actions:
            return ranked(self.mask(states), genomes[rows, time])

        return follow(self, len(genomes), choose).objects


class _Cache:
    """Values of objects by key; the oldest are forgotten when it is full.

    Args:
        capacity: most objects that are remembered.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: dict[Hashable, Vector] = {}

    def unknown(self, keys: Sequence[Hashable]) -> list[int]:
        """Indices of keys that are not remembered, of equal ones the first."""
        seen: set[Hashable] = set()
        found = []
        for index, key in enumerate(keys):
            if key not in self._values and key not in seen:
                seen.add(key)
                found.append(index)
        return found

    def add(self, keys: Sequence[Hashable], values: Front) -> None:
        """Remember values; nothing is forgotten before `look_up`."""
        self._values.update(zip(keys, values, strict=True))

    def look_up(self, keys: Sequence[Hashable]) -> Front:
        """Values of keys that are all remembered, (key, objective)."""
        found = np.array([self._values[key] for key in keys])
        excess = len(self._values) - self._capacity
        if excess > 0:
            for key in list(itertools.islice(self._values, excess)):
                del self._values[key]
        return found


# ---------------------------------------------------------------------------------------------
# The core behind a task


def core_of(task: Task) -> CompositionalCore:
    """A new core of the environment that a task describes.

    Raises:
        NotCompositionalError: its episodes build no objects.
    """
    batch = task.make_vec(1)
    core = getattr(batch, "core", None)
    batch.close()
    if not isinstance(core, CompositionalCore):
        raise NotCompositionalError(
            f"{task.spec.id}: its episodes build no objects, so there is nothing to sample; use an "
            "environment with a core, for example hypergrid-v0 or n-grams-v0"
        )
    return core


# ---------------------------------------------------------------------------------------------
# Walks through the graph


def first_legal(mask: Mask, actions: Actions) -> Actions:
    """Each action where it is legal, else the next legal one in cyclic order.

    Args:
        mask: (object, action), at least one legal action a row.
        actions: (object,).
    """
    rows = np.arange(len(actions))
    if mask[rows, actions].all():
        return actions
    shifted = (actions[:, None] + np.arange(mask.shape[1])) % mask.shape[1]
    offset = np.take_along_axis(mask, shifted, axis=1).argmax(axis=1)
    chosen: Actions = (actions + offset) % mask.shape[1]
    return chosen


@dataclass(frozen=True)
class Walks:
    """Ways from the root to objects.

    Attributes:
        objects: finished, (object, feature).
        actions: that built them, (object, time), -1 after the end.
        lengths: number of actions, (object,).
    """

    objects: States
    actions: NDArray[np.int64]
    lengths: NDArray[np.int64]


Choose: TypeAlias = Callable[[States, NDArray[np.intp], int], Actions]
"""``choose(states, rows, time)``: legal actions for unfinished states of the rows."""


def follow(core: CompositionalCore, count: int, choose: Choose) -> Walks:
    """Build objects by actions of one's choice.

    Args:
        core: of the objects.
        count: how many.
        choose: gives the actions of those that are not finished yet.
    """
    states = core.initial(count)
    actions = np.full((count, core.horizon), -1, np.int64)
    lengths = np.zeros(count, np.int64)
    running = np.arange(count)
    for time in range(core.horizon):
        if not running.size:
            break
        chosen = choose(states[running], running, time)
        actions[running, time] = chosen
        states[running], finished = core.step(states[running], chosen)
        lengths[running] = time + 1
        running = running[~finished]
    return Walks(states, actions, lengths)


EVEN = ("choices", "lengths")
"""What is even in building at random: legal actions, or the number of actions and ways to go on."""


def random_walks(core: CompositionalCore, count: int, rng: np.random.Generator) -> Walks:
    """Objects built by actions drawn evenly from the legal ones."""

    def choose(states: States, rows: NDArray[np.intp], time: int) -> Actions:  # noqa: ARG001
        return drawn(core.mask(states), rng)

    return follow(core, count, choose)


def even_length_walks(core: CompositionalCore, count: int, rng: np.random.Generator) -> Walks:
    """Objects of all numbers of actions alike, where they can stop; ways to go on drawn evenly."""

    def choose(states: States, rows: NDArray[np.intp], time: int) -> Actions:  # noqa: ARG001
        mask = core.mask(states)
        stops = rng.random(len(mask)) < even_length_stops(core, mask, time)
        mask[stops] = False
        mask[:, core.stop_action] = stops
        return drawn(mask, rng)

    return follow(core, count, choose)


def even_length_stops(
    core: CompositionalCore, mask: Mask, times: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probability of stopping if all lengths that are left are alike, (transition,).

    Before action t of at most T, these are T - t + 1, one of them to stop now.

    Args:
        core: of the objects.
        mask: legal actions, (transition, action).
        times: number of actions before, one for all or (transition,).
    """
    may_stop = mask[:, core.stop_action]
    must_stop = mask.sum(axis=1) == may_stop
    return np.where(must_stop, 1.0, may_stop / (core.horizon - times + 1.0))


def drawn(mask: Mask, rng: np.random.Generator) -> Actions:
    """One action of each row, drawn evenly from the legal ones."""
    return ranked(mask, np.floor(rng.random(len(mask)) * mask.sum(axis=1)).astype(np.int64))


def ranked(mask: Mask, ranks: NDArray[np.int64]) -> Actions:
    """The legal action of each row that has a rank; ranks go round.

    Args:
        mask: (object, action), at least one legal action a row.
        ranks: from 0, (object,).
    """
    legal = np.cumsum(mask, axis=1)
    chosen: Actions = (legal > (ranks % legal[:, -1])[:, None]).argmax(axis=1)
    return chosen


def walks_to(
    core: CompositionalCore, objects: States, rng: np.random.Generator | None = None
) -> Walks:
    """Ways by which given objects can be built.

    Args:
        core: of the objects.
        objects: finished, (object, feature).
        rng: draws each step back evenly from those that are possible, which is the uniform
            backward policy; None takes the first possible action.
    """
    count = len(objects)
    back = np.full((count, core.horizon), -1, np.int64)
    lengths = np.zeros(count, np.int64)
    stopped = ~core.ends(objects)
    back[stopped, 0] = core.stop_action
    lengths[stopped] = 1
    states = objects.copy()
    root = core.initial(1)
    running = np.flatnonzero((states != root).any(axis=1))
    while running.size:
        mask = core.backward_mask(states[running])
        chosen = mask.argmax(axis=1) if rng is None else drawn(mask, rng)
        back[running, lengths[running]] = chosen
        lengths[running] += 1
        states[running] = core.undo(states[running], chosen)
        running = running[(states[running] != root).any(axis=1)]
    actions = np.full_like(back, -1)
    times = np.arange(core.horizon)
    inside = times < lengths[:, None]
    reverse = np.where(inside, lengths[:, None] - 1 - times, 0)
    actions[inside] = np.take_along_axis(back, reverse, axis=1)[inside]
    return Walks(objects, actions, lengths)


def importance_weights(core: CompositionalCore, walks: Walks) -> Vector:
    """Backward over forward probability of random walks, (object,).

    With even choices in both directions its mean over `random_walks` is the number of objects.
    Wrong masks, wrong numbers of parents and forgotten ends all break this identity.
    """
    weights = np.zeros(len(walks.objects))
    states = core.initial(len(weights))
    for time in range(core.horizon):
        running = np.flatnonzero(walks.lengths > time)
        if not running.size:
            break
        actions = walks.actions[running, time]
        weights[running] += np.log(core.mask(states[running]).sum(axis=1))
        states[running], _ = core.step(states[running], actions)
        moved = running[actions != core.stop_action]
        weights[moved] -= np.log(core.num_parents(states[moved]))
    return np.exp(weights)


# ---------------------------------------------------------------------------------------------
# All of the graph, where it is small


@dataclass(frozen=True)
class StateGraph:
    """All states and objects of a core.

    Attributes:
        states: unfinished ones, by the number of actions that lead to them, (state, feature).
        levels: where states of 0, 1, ... actions begin, and their end, (level + 1,).
        objects: finished ones, (object, feature).
        children: (state, action): index of the next state, or the number of states plus the index
            of the finished object, or -1 where the action is not legal.
    """

    states: States
    levels: NDArray[np.int64]
    objects: States
    children: NDArray[np.int64]

    @property
    def mask(self) -> Mask:
        """Legal actions, (state, action)."""
        return self.children >= 0


@dataclass
class _Growth:
    """A graph in the making."""

    states: list[States] = field(default_factory=list)
    children: list[NDArray[np.int64]] = field(default_factory=list)
    objects: dict[bytes, int] = field(default_factory=dict)
    rows: list[States] = field(default_factory=list)

    def index_of(self, rows: States) -> NDArray[np.int64]:
        """Indices of finished objects, new ones included."""
        found = np.empty(len(rows), np.int64)
        for place, row in enumerate(rows):
            key = row.tobytes()
            if key not in self.objects:
                self.objects[key] = len(self.objects)
                self.rows.append(row)
            found[place] = self.objects[key]
        return found


def enumerate_graph(core: CompositionalCore, *, limit: int = 200_000) -> StateGraph:
    """All states and objects of a core.

    Args:
        core: a small one.
        limit: most unfinished states.

    Raises:
        CompositionError: there are more.
    """
    growth = _Growth()
    level, count = core.initial(1), 0
    sizes = [0]
    while len(level):
        if count + len(level) > limit:
            raise CompositionError(
                f"{core.name}: more than {limit:,} states; choose a smaller task or raise `limit`"
            )
        growth.states.append(level)
        count += len(level)
        sizes.append(count)
        following, children = _expand(core, level, growth)
        # States of the next level come right behind those of this one.
        children[children >= 0] += count
        growth.children.append(children)
        level = following
    children = np.concatenate(growth.children)
    objects = children <= _OBJECT
    children[objects] = count + (_OBJECT - children[objects])
    return StateGraph(
        np.concatenate(growth.states), np.array(sizes), np.array(growth.rows), children
    )


_OBJECT = -2
"""Object i is noted as this minus i until the number of states is known."""


def _expand(
    core: CompositionalCore, level: States, growth: _Growth
) -> tuple[States, NDArray[np.int64]]:
    """States after a level, and children by index among them, or `_OBJECT` minus index."""
    rows, actions = np.nonzero(core.mask(level))
    after, finished = core.step(level[rows], actions.astype(np.int64))
    children = np.full((len(level), core.num_actions), -1, np.int64)
    done = np.flatnonzero(finished)
    children[rows[done], actions[done]] = _OBJECT - growth.index_of(after[done])
    going = np.flatnonzero(~finished)
    following, inverse = np.unique(after[going], axis=0, return_inverse=True)
    children[rows[going], actions[going]] = inverse.reshape(-1)
    return following, children


def object_probabilities(
    graph: StateGraph, probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How likely each object is, exactly, by going once through the graph.

    Args:
        graph: all states.
        probabilities: of actions in each state, (..., state, action); those of illegal actions are
            ignored. Leading axes are policies.

    Returns:
        Shape (..., object); sums to one where the probabilities of legal actions do.
    """
    count = len(graph.states)
    lead = probabilities.shape[:-2]
    reached = np.zeros((count + len(graph.objects), *lead))
    reached[0] = 1.0
    weights = np.moveaxis(probabilities, (-2, -1), (0, 1))
    for first, last in zip(graph.levels[:-1], graph.levels[1:], strict=True):
        rows, actions = np.nonzero(graph.children[first:last] >= 0)
        rows += first
        np.add.at(reached, graph.children[rows, actions], reached[rows] * weights[rows, actions])
    return np.moveaxis(reached[count:], 0, -1)


def pareto_objects(core: CompositionalCore, graph: StateGraph) -> Mask:
    """Which objects of a graph no other object dominates; of equal values all, (object,)."""
    values = core.values(graph.objects)
    front = values[nondominated(values)]
    return np.array((values[:, None] == front).all(axis=2).any(axis=1))


def pareto_mass(probabilities: NDArray[np.float64], pareto: Mask) -> NDArray[np.float64]:
    """Probability of an object of the Pareto set.

    Args:
        probabilities: of objects, (..., object), see `object_probabilities`.
        pareto: which objects these are, (object,), see `pareto_objects`.

    Returns:
        Shape (...).
    """
    return np.asarray(probabilities[..., pareto].sum(axis=-1))
