"""What every core of objects must keep, as functions that its tests call."""

from __future__ import annotations

import numpy as np

from morl.compositional import (
    CompositionalCore,
    enumerate_graph,
    follow,
    importance_weights,
    random_walks,
    walks_to,
)


def check_importance_identity(core: CompositionalCore, *, walks: int, tolerance: float) -> None:
    """Backward over forward probability has the number of objects as its mean."""
    weights = importance_weights(core, random_walks(core, walks, np.random.default_rng(0)))
    count = len(enumerate_graph(core).objects)
    error = weights.std() / np.sqrt(walks)
    assert abs(weights.mean() - count) <= 4 * error + 1e-9 * count
    assert error <= tolerance * count  # the test can tell a missing parent


def check_graph(core: CompositionalCore) -> None:
    """Forwards and backwards are the same graph: every edge, seen from both of its ends."""
    graph = enumerate_graph(core)
    count = len(graph.states)
    assert (graph.mask == core.mask(graph.states)).all()
    assert graph.mask.any(axis=1).all()
    rows, actions = np.nonzero(graph.mask)
    after, finished = core.step(graph.states[rows], actions)
    children = graph.children[rows, actions]
    assert ((children >= count) == finished).all()
    moved = actions != core.stop_action
    np.testing.assert_array_equal(after[~moved], graph.states[rows[~moved]])
    # Seen from the child, the action is possible and leads back.
    back = core.backward_mask(after[moved])
    assert back[np.arange(moved.sum()), actions[moved]].all()
    np.testing.assert_array_equal(
        core.undo(after[moved], actions[moved]), graph.states[rows[moved]]
    )
    # No other action is: as many ways in as ways out.
    ends = graph.objects[core.ends(graph.objects)]
    ways_in = core.num_parents(graph.states).sum() + core.num_parents(ends).sum()
    assert ways_in == moved.sum()
    assert core.num_parents(core.initial(1)).tolist() == [0]


def check_codes(core: CompositionalCore, *, count: int = 50) -> None:
    """States can be read back from their encodings, objects from their ways."""
    rng = np.random.default_rng(1)
    walks = random_walks(core, count, rng)
    states = core.initial(count)
    for time in range(core.horizon):
        code = core.encode(states)
        assert code.dtype == np.float32
        assert code.shape == (count, core.encoding_width)
        assert code.min() >= 0.0
        assert code.max() <= 1.0
        np.testing.assert_array_equal(core.decode(code), states)
        running = np.flatnonzero(walks.lengths > time)
        states[running], _ = core.step(states[running], walks.actions[running, time])
    np.testing.assert_array_equal(states, walks.objects)
    for way in (walks_to(core, walks.objects), walks_to(core, walks.objects, rng)):
        again = follow(core, count, lambda _, rows, time, way=way: way.actions[rows, time])
        np.testing.assert_array_equal(again.objects, walks.objects)
        np.testing.assert_array_equal(again.lengths, way.lengths)
    assert len(core.describe(walks.objects)) == len(core.keys(walks.objects)) == count


def check_distances(core: CompositionalCore) -> None:
    """Equal objects are 0 apart, and the way there is as long as the way back."""
    objects = random_walks(core, 12, np.random.default_rng(2)).objects
    apart = core.distance(objects, objects)
    assert apart.shape == (12, 12)
    assert (np.diag(apart) == 0.0).all()
    np.testing.assert_allclose(apart, apart.T)
    assert apart.max() > 0.0
    np.testing.assert_allclose(core.distance(objects[:3], objects[5:]), apart[:3, 5:])


def check_genomes(core: CompositionalCore) -> None:
    """Every genome is an object that can be built."""
    sizes = core.genome_sizes()
    rng = np.random.default_rng(3)
    genomes = rng.integers(sizes, size=(40, len(sizes)))
    objects = core.from_genomes(genomes)
    walks = walks_to(core, objects)
    again = follow(core, 40, lambda _, rows, time: walks.actions[rows, time])
    np.testing.assert_array_equal(again.objects, objects)
    assert len({row.tobytes() for row in objects}) > 5
