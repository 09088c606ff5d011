"""Offloading: the queues, what a second pays, what is seen, and the figures that are known."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from morl.envs import ActionError, EnvArgumentError, NotResetError, make_task, make_vec
from morl.envs.mec_kernels import BINS, STEPS, added_delay, attained, insert, serve
from morl.envs.mec_offloading import (
    REFERENCES,
    MecOffloadingVectorEnv,
    UnavailableActionError,
    contexts,
)
from morl.experiments.bench import offloading_speed
from morl.experiments.bench.offloading_speed import PythonSystem
from morl.storage import read_json
from morl.testing import check_env

NAME = "mec-offloading-v0"
Policy = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.int64]]


def rows(observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Observations (env, server, feature)."""
    return observations.reshape(len(observations), 11, -1)


def greedy(weight: float) -> Policy:
    """Least exact cost, at a preference for little delay, on the scales of the paper."""
    return lambda seen, rng: (
        np.where(seen[..., 0] > 0, weight * seen[..., 67] + (1 - weight) * seen[..., 68], np.inf)
    ).argmin(axis=1)


def queue(first: int) -> Policy:
    """Fewest tasks, from server `first` on."""
    return lambda seen, rng: (
        first + np.where(seen[:, first:, 0] > 0, seen[:, first:, 6], np.inf).argmin(axis=1)
    )


def random_servers(first: int) -> Policy:
    return lambda seen, rng: rng.integers(first, seen[:, 0, 2].astype(int) + 1)


def to_cloud(seen: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    return np.zeros(len(seen), np.int64)


def play(
    batch: MecOffloadingVectorEnv, policy: Policy, *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Actions (time, env) and rewards (time, env, objective) of one episode."""
    rng = np.random.default_rng(seed)
    observations, _ = batch.reset(seed=seed)
    actions, rewards = [], []
    for _ in range(STEPS):
        actions.append(policy(rows(observations), rng))
        observations, reward, *_ = batch.step(actions[-1])
        rewards.append(reward.copy())
    return np.array(actions), np.array(rewards)


# ---------------------------------------------------------------------------------------------
# A server


def test_tasks_share_a_server_equally_by_hand():
    residual = np.array([6.0, 1.0, 0.0])
    # 2 Mbit/s for two: the smaller is done after a second, 4 Mbit of the larger after 1.5 more.
    assert attained(residual, 2, 2.0, 0.5) == pytest.approx(0.5)
    assert attained(residual, 2, 2.0, 2.5) == pytest.approx(4.0)
    assert attained(residual, 2, 2.0, 99.0) == pytest.approx(6.0)
    assert serve(residual, 2, 2.0, 2.5) == 1
    assert residual[0] == pytest.approx(2.0)
    assert insert(residual, 1, 5.0) == 2
    np.testing.assert_allclose(residual[:2], [5.0, 2.0])


def test_a_task_alone_costs_its_upload_and_its_work():
    assert added_delay(np.zeros(1), 0, 2.0, 10.0, 0.1) == pytest.approx(0.1 + 5.0)


def test_a_task_among_others_costs_what_they_share_twice_by_hand():
    # After half a second 5.5 and 0.5 Mbit are left: 4 + 2 (4 + 0.5) = 13 Mbit at 2 Mbit/s.
    delay = added_delay(np.array([6.0, 1.0]), 2, 2.0, 4.0, 0.5)
    assert delay == pytest.approx(0.5 + 6.5)
    # After four seconds nothing is left.
    assert added_delay(np.array([6.0, 1.0]), 2, 2.0, 4.0, 4.0) == pytest.approx(4.0 + 2.0)


sizes = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=12)


@given(work=sizes, speed=st.floats(0.5, 5.0), first=st.floats(0, 20), second=st.floats(0, 20))
@settings(max_examples=60, deadline=None)
def test_two_times_after_another_are_one_time_and_no_work_is_lost(work, speed, first, second):
    start = np.sort(np.array(work))[::-1].copy()
    whole, parts = start.copy(), start.copy()
    count = serve(whole, len(start), speed, first + second)
    other = serve(parts, serve(parts, len(start), speed, first), speed, second)
    # A rounding error may leave a task of no work.
    left, left_in_parts = whole[:count].sum(), parts[:other].sum()
    assert left == pytest.approx(left_in_parts, abs=1e-9)
    done = min(start.sum(), speed * (first + second))
    assert start.sum() - left == pytest.approx(done, abs=1e-9)


# ---------------------------------------------------------------------------------------------
# Episodes against an event simulation


def simulated_delay(batch: MecOffloadingVectorEnv, i: int, actions: NDArray[np.int64]) -> float:
    """Sum of the delays of all tasks, from simulating every server until it is empty.

    Independent of the closed form: events in order of time, work left of each task.
    """
    episodes = batch._episodes
    servers = int(episodes.edges[i]) + 1
    total = 0.0
    for server in range(servers):
        coming = []
        for step in range(STEPS):
            size = episodes.size[i, step]
            if size > 0 and actions[step] % servers == server:
                rate = episodes.rate[i, server, episodes.user[i, step]]
                coming.append((step + size / rate, step, size))
        total += drained(sorted(coming), speed=episodes.frequency[i, server])
    return total


def drained(coming: list[tuple[float, int, float]], *, speed: float) -> float:
    """Sum of delays of tasks (joins at, sent at, size) on one server."""
    now, total = 0.0, 0.0
    active: list[list[float]] = []
    while coming or active:
        join = coming[0][0] if coming else np.inf
        end = now + min(work for work, _ in active) * len(active) / speed if active else np.inf
        until = min(join, end)
        for task in active:
            task[0] -= (until - now) * speed / len(active)
        now = until
        if join <= end:
            _, sent, size = coming.pop(0)
            active.append([size, float(sent)])
            continue
        smallest = min(range(len(active)), key=lambda k: active[k][0])
        total += now - active.pop(smallest)[1]
    return total


@pytest.mark.parametrize(
    "arguments",
    [
        {"contexts": "test"},
        {"contexts": "test", "rate_floor": 0.0},
        {"edges": 3, "channel": "textbook", "rate_floor": 0.4},
        {"edges": 2, "channel": "textbook"},
    ],
    ids=["released", "without a floor", "slow uploads", "textbook"],
)
@pytest.mark.parametrize("policy", [random_servers(0), queue(0), to_cloud])
def test_rewards_add_up_to_the_delays_of_an_event_simulation(arguments, policy):
    batch = MecOffloadingVectorEnv(6, **arguments)
    # The last step would begin new episodes: everything is read before.
    rng = np.random.default_rng(3)
    observations, _ = batch.reset(seed=11)
    drawn = MecOffloadingVectorEnv(6, **arguments)
    drawn.reset(seed=11)
    actions, rewards = [], []
    for _ in range(STEPS):
        actions.append(policy(rows(observations), rng))
        observations, reward, *_ = batch.step(actions[-1])
        rewards.append(reward.copy())
    for i in range(6):
        expected = simulated_delay(drawn, i, np.array(actions)[:, i])
        assert -np.array(rewards)[:, i, 0].sum() == pytest.approx(expected, rel=1e-9)


def test_slow_uploads_reach_beyond_their_second():
    batch = MecOffloadingVectorEnv(4, edges=2, channel="textbook")
    batch.reset(seed=0)
    most = 0
    for _ in range(20):
        batch.step(np.zeros(4, np.int64))
        most = max(most, int(batch._episodes.uploads.max()))
    assert most > 5


def test_energy_is_that_of_uploads_and_cycles():
    batch = MecOffloadingVectorEnv(5, contexts="test")
    drawn = MecOffloadingVectorEnv(5, contexts="test")
    drawn.reset(seed=4)
    actions, rewards = play(batch, random_servers(0), seed=4)
    episodes = drawn._episodes
    for i in range(5):
        for step in range(STEPS):
            server, size = actions[step, i], episodes.size[i, step]
            upload = size / episodes.rate[i, server, episodes.user[i, step]]
            cycles = size * 1e6 * 1000
            hertz = episodes.frequency[i, server] * 1e9
            joules = 0.01 * upload + 5e-31 * hertz**2 * cycles
            assert rewards[step, i, 1] == pytest.approx(-joules, rel=1e-12, abs=0)


def test_a_busy_server_works_at_full_speed_and_no_other_works():
    batch = MecOffloadingVectorEnv(20, edges=4)
    batch.reset(seed=0)
    sent = np.zeros(20)
    for step in range(STEPS - 1):
        sizes = batch._episodes.size[:, step].copy()
        upload = sizes / batch._episodes.rate[np.arange(20), 2, batch._episodes.user[:, step]]
        batch.step(np.full(20, 2))
        sent += sizes
        assert (upload < 1).all()
    left = np.array(
        [batch._episodes.residual[i, 2, : batch._episodes.tasks[i, 2]].sum() for i in range(20)]
    )
    # From the first arrival on an edge server that gets all tasks is never idle for long.
    done = sent - left
    assert (done <= 2.0 * 99 + 1e-9).all()
    assert done.mean() > 0.95 * 2.0 * 99
    assert batch._episodes.tasks[:, [0, 1, 3, 4]].sum() == 0


# ---------------------------------------------------------------------------------------------
# Known figures

TABLE = {
    # Edge servers: delay in minutes and energy in joules of eight policies over 4,000 episodes.
    1: [(23.8, 2.79), (34.9, 4.46), (140.6, 1.12), (141.7, 1.12), (8.6, 3.34), (8.5, 3.49),
        (14.9, 2.92), (140.7, 1.12)],
    2: [(26.5, 2.99), (69.8, 5.95), (76.9, 1.50), (71.5, 1.49), (10.0, 3.75), (9.7, 3.94),
        (20.8, 2.90), (71.3, 1.50)],
    3: [(29.3, 3.28), (105.9, 7.45), (59.1, 1.87), (49.8, 1.86), (11.3, 4.15), (11.1, 4.40),
        (24.8, 2.84), (49.3, 1.87)],
    4: [(31.9, 3.59), (140.8, 8.90), (52.7, 2.24), (40.1, 2.24), (12.6, 4.55), (12.3, 4.81),
        (27.3, 2.83), (39.6, 2.24)],
    5: [(34.5, 3.89), (178.3, 10.43), (50.9, 2.61), (34.7, 2.61), (13.9, 4.94), (13.6, 5.22),
        (28.6, 2.93), (34.6, 2.62)],
    6: [(37.5, 4.26), (213.7, 11.90), (50.3, 2.98), (32.1, 2.98), (15.3, 5.33), (15.2, 5.65),
        (29.1, 3.14), (31.1, 2.97)],
    7: [(39.7, 4.61), (249.7, 13.33), (51.2, 3.36), (30.6, 3.34), (16.7, 5.74), (16.4, 6.05),
        (28.7, 3.41), (29.9, 3.34)],
    8: [(41.6, 4.94), (286.3, 14.80), (52.0, 3.70), (30.1, 3.71), (17.8, 6.10), (17.7, 6.42),
        (28.7, 3.73), (29.3, 3.70)],
    9: [(44.5, 5.28), (323.6, 16.27), (53.1, 4.06), (29.8, 4.07), (19.2, 6.49), (18.9, 6.81),
        (28.4, 4.07), (28.9, 4.06)],
    10: [(46.9, 5.64), (358.7, 17.65), (54.7, 4.41), (29.7, 4.41), (20.5, 6.87), (20.4, 7.20),
         (28.6, 4.41), (29.1, 4.40)],
}  # fmt: skip
"""Measured with an independent implementation of the same model."""

POLICIES: dict[str, Policy] = {
    "random": random_servers(0),
    "cloud": to_cloud,
    "random edge": random_servers(1),
    "shortest edge queue": queue(1),
    "shortest queue": queue(0),
    "greedy, delay": greedy(1.0),
    "greedy, half": greedy(0.5),
    "greedy, energy": greedy(0.01),
}


def assert_as_in_the_table(edges: int, *, episodes: int) -> None:
    """Means within four standard errors of the difference, the table's and its rounding's too."""
    batch = MecOffloadingVectorEnv(episodes, edges=edges, observation="marginal", copy=False)
    for (name, policy), known in zip(POLICIES.items(), TABLE[edges], strict=True):
        totals = -play(batch, policy, seed=1)[1].sum(axis=0) / [60.0, 1.0]
        error = totals.std(axis=0) / np.sqrt(episodes)
        # The table has 4,000 episodes and digits behind the point that are cut off.
        theirs = totals.std(axis=0) / np.sqrt(4000)
        tolerance = 4 * np.hypot(error, theirs) + [0.05, 0.005]
        off = np.abs(totals.mean(axis=0) - known)
        assert (off <= tolerance).all(), (edges, name, totals.mean(axis=0), known, tolerance)


@pytest.mark.parametrize("edges", [1, 6])
def test_heuristics_have_the_known_delay_and_energy(edges):
    assert_as_in_the_table(edges, episodes=400)


@pytest.mark.slow
@pytest.mark.parametrize("edges", range(1, 11))
def test_heuristics_have_the_known_delay_and_energy_in_many_episodes(edges):
    assert_as_in_the_table(edges, episodes=4000)


def test_an_episode_has_the_known_number_of_tasks_and_sizes():
    batch = MecOffloadingVectorEnv(2000, edges=5)
    batch.reset(seed=0)
    size = batch._episodes.size
    live = size > 0
    # 92.6 of 100 in the mean; a standard deviation of 5.6 an episode.
    assert live.sum(axis=1).mean() == pytest.approx(92.6, abs=4 * 6 / np.sqrt(2000))
    assert size[live].min() == 0.1
    assert size[live].max() == 100.0
    # Exponential of mean 14 Mbit, cut at 100.
    assert size[live].mean() == pytest.approx(14 * (1 - np.exp(-100 / 14)), rel=0.01)
    assert np.bincount(batch._episodes.user[live], minlength=10) / live.sum() == pytest.approx(
        0.1, abs=0.005
    )


@pytest.mark.parametrize(
    ("channel", "server", "quantiles"),
    [
        ("released", 0, (213, 423, 548)),
        ("released", 1, (472, 707, 1004)),
        ("textbook", 0, (None, 0.0042, None)),
        ("textbook", 1, (None, 1.55, None)),
    ],
)
def test_links_have_the_known_rates(channel, server, quantiles):
    batch = MecOffloadingVectorEnv(4000, edges=1, channel=channel, rate_floor=0.0)
    batch.reset(seed=0)
    found = np.quantile(batch._episodes.rate[:, server], [0.01, 0.5, 0.99])
    for value, known in zip(found, quantiles, strict=True):
        if known is not None:
            assert value == pytest.approx(known, rel=0.04)


def test_no_link_is_slower_than_the_floor():
    rates = []
    for floor in (0.0, 300.0):
        batch = MecOffloadingVectorEnv(500, edges=1, rate_floor=floor)
        batch.reset(seed=0)
        rates.append(batch._episodes.rate[:, :2])
    np.testing.assert_array_equal(np.maximum(rates[0], 300.0), rates[1])
    assert 0.01 < (rates[0] < 300.0).mean() < 0.05
    floors = {name: MecOffloadingVectorEnv(1, channel=name) for name in ("released", "textbook")}
    assert {name: batch._ranges.floor for name, batch in floors.items()} == {
        "released": 10.0,
        "textbook": 0.001,
    }


# ---------------------------------------------------------------------------------------------
# Observations


def test_the_first_observation_shows_the_system():
    batch = MecOffloadingVectorEnv(3, edges=4, cloud_frequency=3.0, edge_frequency=[1, 2, 1.5, 2.5])
    seen = rows(batch.reset(seed=0)[0])
    assert seen.shape == (3, 11, 67)
    np.testing.assert_array_equal(seen[:, 5:], -1.0)
    np.testing.assert_array_equal(seen[:, :5, 0], 1.0)
    np.testing.assert_allclose(seen[:, :5, 1], np.tile([3, 1, 2, 1.5, 2.5], (3, 1)))
    np.testing.assert_array_equal(seen[:, :5, 2], 4.0)
    episodes = batch._episodes
    np.testing.assert_allclose(
        seen[:, :5, 3], np.tile(episodes.size[:, :1], (1, 5)).astype(np.float32)
    )
    np.testing.assert_array_equal(seen[:, :5, 4], 1.0)
    rates = episodes.rate[np.arange(3), :5, episodes.user[:, 0]]
    np.testing.assert_allclose(seen[:, :5, 5], rates / 100, rtol=1e-6)
    np.testing.assert_array_equal(seen[:, :5, 6:], 0.0)


@pytest.mark.parametrize("observation", ["paper", "backlog", "marginal"])
def test_the_histogram_counts_the_tasks_by_their_work(observation):
    batch = MecOffloadingVectorEnv(30, contexts="test", observation=observation)
    batch.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        seen = rows(batch.step(rng.integers(0, 2, 30))[0])
    tasks = batch._episodes.tasks
    for i in range(30):
        for server in range(int(batch._episodes.edges[i]) + 1):
            work = batch._episodes.residual[i, server, : tasks[i, server]]
            assert (np.diff(work) <= 0).all()
            expected = np.bincount(np.minimum(work.astype(int), BINS - 1), minlength=BINS)
            np.testing.assert_array_equal(seen[i, server, 7:67], expected)
            assert seen[i, server, 6] == tasks[i, server]
    assert tasks[:, 0].max() > 10
    assert (seen[:, :2, 66] > 0).any(), "nothing in the open bin"


@pytest.mark.parametrize("channel", ["released", "textbook"])
def test_marginal_costs_are_what_each_action_would_pay(channel):
    batches = [
        MecOffloadingVectorEnv(20, contexts="test", observation="marginal", channel=channel)
        for _ in range(11)
    ]
    for batch in batches:
        seen = rows(batch.reset(seed=2)[0])
    edges = batches[0]._episodes.edges.copy()
    for step in range(29):
        common = np.random.default_rng(step).integers(0, edges + 1)
        for batch in batches:
            seen = rows(batch.step(common)[0])
    for action, batch in enumerate(batches):
        there = action <= edges
        paid = batch.step(np.minimum(action, edges))[1]
        costs = seen[there, action, 67:69] * [100.0, 0.2]
        np.testing.assert_allclose(-paid[there], costs, rtol=1e-5, atol=1e-7)
    assert (seen[:, :2, 67] > 0).mean() > 0.8


def test_backlog_and_share_of_steps_are_seen_where_asked_for():
    for observation, place in (("backlog", 67), ("marginal", 69)):
        batch = MecOffloadingVectorEnv(50, observation=observation)
        seen = rows(batch.reset(seed=0)[0])
        waiting = batch._episodes.backlog.copy()
        size = batch._episodes.size.copy()
        for step in range(1, STEPS):
            if observation == "marginal":
                np.testing.assert_allclose(seen[:, 0, 70], (step - 1) / 100, rtol=1e-6)
            seen = rows(batch.step(np.zeros(50, np.int64))[0])
            np.testing.assert_array_equal(seen[:, 0, place], waiting[:, step])
        # Nobody waits behind an empty place.
        assert (waiting[size == 0] == 0).all()
        assert waiting[:, -1].mean() == pytest.approx(7.6, abs=4)


def test_the_last_observation_says_that_it_is_the_end():
    batch = MecOffloadingVectorEnv(2, edges=3, observation="marginal")
    batch.reset(seed=0)
    for _ in range(STEPS):
        _, _, terminated, truncated, infos = batch.step(np.zeros(2, np.int64))
    assert terminated.all()
    assert not truncated.any()
    last = rows(infos["final_obs"])[:, :4]
    assert (last[..., 4] == 0).all()
    assert (last[..., 3] == 0).all()
    assert (last[..., 67:70] == 0).all()
    np.testing.assert_array_equal(last[..., 70], 1.0)


def test_edge_servers_have_no_order():
    swap = np.array([0, 3, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    arguments = {"edges": 3, "edge_frequency": [1.5, 2.0, 2.5], "observation": "marginal"}
    first, second = (MecOffloadingVectorEnv(20, **arguments) for _ in range(2))
    first.reset(seed=5)
    second.reset(seed=5)
    second._episodes.frequency[:] = first._episodes.frequency[:, swap]
    second._episodes.rate[:] = first._episodes.rate[:, swap]
    rng = np.random.default_rng(0)
    back = np.argsort(swap)
    for _ in range(60):
        actions = rng.integers(0, 4, 20)
        seen, paid, *_ = first.step(actions)
        swapped, paid_too, *_ = second.step(back[actions])
        np.testing.assert_array_equal(rows(seen)[:, swap], rows(swapped))
        np.testing.assert_array_equal(paid, paid_too)


# ---------------------------------------------------------------------------------------------
# Contexts and streams


@pytest.mark.parametrize(
    ("name", "edges", "cloud", "edge"),
    [
        ("fixed", (6, 6), (4.0, 4.0), (2.0, 2.0)),
        ("train", (1, 8), (3.5, 4.5), (1.75, 2.25)),
        ("test", (1, 10), (3.0, 5.0), (1.5, 2.5)),
    ],
)
def test_contexts_come_from_their_ranges(name, edges, cloud, edge):
    batch = MecOffloadingVectorEnv(3000, contexts=name)
    _, infos = batch.reset(seed=0)
    assert (infos["edges"].min(), infos["edges"].max()) == edges
    counts = np.bincount(infos["edges"])[edges[0] :]
    assert counts.min() > 0.8 * 3000 / len(counts)
    frequency = infos["frequency"]
    assert frequency[:, 0].min() == pytest.approx(cloud[0], abs=0.01)
    assert frequency[:, 0].max() == pytest.approx(cloud[1], abs=0.01)
    there = frequency[:, 1:][frequency[:, 1:] > 0]
    assert there.min() == pytest.approx(edge[0], abs=0.01)
    assert there.max() == pytest.approx(edge[1], abs=0.01)
    np.testing.assert_array_equal((frequency > 0).sum(axis=1), infos["edges"] + 1)
    np.testing.assert_array_equal(infos["action_mask"], frequency > 0)


def test_arguments_replace_parts_of_a_sampler():
    found = contexts("test", edges=9)
    assert found.edges == (9, 9)
    assert found.high[0] == 5.0
    found = contexts("train", edge_frequency=2.0)
    assert found.edges == (1, 8)
    assert found.low[1:] == found.high[1:] == (2.0,) * 10
    found = contexts("fixed", edges=2, edge_frequency=(1.5, 2.5))
    assert found.low[:3] == (4.0, 1.5, 2.5)


def test_the_mean_size_of_tasks_is_what_the_servers_can_do_in_a_second():
    batch = MecOffloadingVectorEnv(2000, edges=2, cloud_frequency=1.0, edge_frequency=[0.5, 1.0])
    batch.reset(seed=0)
    size = batch._episodes.size
    assert size[size > 0].mean() == pytest.approx(2.5, rel=0.01)


def test_an_episode_does_not_depend_on_its_batch_or_on_earlier_episodes_of_others():
    whole = MecOffloadingVectorEnv(7, contexts="test")
    alone = MecOffloadingVectorEnv(1, contexts="test")
    whole.reset(seed=40)
    alone.reset(seed=45)
    rng = np.random.default_rng(0)
    for step in range(250):
        if step == 130:  # others begin again
            whole.reset(options={"reset_mask": np.arange(7) < 3})
        actions = rng.integers(0, 11, 7)
        many = whole.step(actions)
        single = alone.step(actions[5:6])
        for a, b in zip(many[:4], single[:4], strict=True):
            np.testing.assert_array_equal(a[5], b[0])


def test_the_same_seed_brings_the_same_tasks_whatever_the_context():
    few, many = MecOffloadingVectorEnv(4, edges=2), MecOffloadingVectorEnv(4, edges=7)
    few.reset(seed=9)
    many.reset(seed=9)
    np.testing.assert_array_equal(few._episodes.user, many._episodes.user)
    np.testing.assert_array_equal(few._episodes.backlog, many._episodes.backlog)
    np.testing.assert_array_equal(few._episodes.rate[:, :3], many._episodes.rate[:, :3])
    first, second = few._episodes.size, many._episodes.size
    inside = (first > 0.1) & (second > 0.1) & (first < 100) & (second < 100)
    np.testing.assert_allclose(second[inside] / first[inside], 18 / 8, rtol=1e-12)


def test_episodes_of_an_environment_differ():
    batch = MecOffloadingVectorEnv(1)
    batch.reset(seed=0)
    first = batch._episodes.size.copy()
    batch.reset()
    assert (batch._episodes.size != first).any()
    batch.reset(seed=0)
    np.testing.assert_array_equal(batch._episodes.size, first)


# ---------------------------------------------------------------------------------------------
# The contract, and input that cannot be


@pytest.mark.parametrize(
    "arguments",
    [
        {"contexts": "test", "observation": "marginal"},
        {"edges": 1, "observation": "backlog"},
        {"contexts": "train", "channel": "textbook"},
    ],
)
def test_every_kind_keeps_the_contract(arguments):
    task = make_task(NAME, kwargs=arguments)
    check_env(task, steps=120, num_envs=3).raise_for_failures()
    batch = task.make_vec(2)
    assert task.spec.features_per_action == batch.single_observation_space.shape[0] // 11
    batch.close()


def test_the_protocol_is_undiscounted_with_a_reference_point_by_number_of_edge_servers():
    spec = make_task(NAME).spec
    assert (spec.discount, spec.horizon, spec.features_per_action) == (1.0, 100, 67)
    assert spec.reference_point == (-3318.0, -6.2)
    assert make_task(NAME, kwargs={"edges": 9}).spec.reference_point == (-58.4 * 60, -7.5)
    train = make_task(NAME, kwargs={"contexts": "train"}).spec.reference_point
    mean = np.mean([REFERENCES[edges] for edges in range(1, 9)], axis=0)
    assert train == pytest.approx((-60 * mean[0], -mean[1]))


def test_a_shorter_horizon_truncates():
    batch = make_vec(NAME, 2, horizon=10)
    batch.reset(seed=0)
    for step in range(10):
        _, _, terminated, truncated, infos = batch.step(np.zeros(2, np.int64))
        assert truncated.all() == (step == 9)
    assert not terminated.any()
    assert rows(infos["final_obs"])[0, 0, 4] == 1.0


def test_actions_beyond_the_servers_begin_at_the_cloud_again_and_are_counted():
    direct = MecOffloadingVectorEnv(5, edges=3)
    beyond = MecOffloadingVectorEnv(5, edges=3)
    direct.reset(seed=0)
    beyond.reset(seed=0)
    rng = np.random.default_rng(0)
    count = np.zeros(5, int)
    for _ in range(STEPS):
        actions = rng.integers(0, 11, 5)
        count += actions > 3
        mine = direct.step(actions % 4)
        theirs = beyond.step(actions)
        np.testing.assert_array_equal(mine[1], theirs[1])
    np.testing.assert_array_equal(theirs[4]["final_info"]["remapped"], count)
    assert mine[4]["final_info"]["remapped"].sum() == 0


def test_actions_beyond_the_servers_can_be_an_error():
    batch = MecOffloadingVectorEnv(2, edges=3, unavailable="error")
    batch.reset(seed=0)
    batch.step(np.array([3, 0]))
    with pytest.raises(UnavailableActionError, match=r"action 4 for environment 1.*1 to 3"):
        batch.step(np.array([0, 4]))
    with pytest.raises(ActionError, match=r"not in 0\.\.10"):
        batch.step(np.array([0, 11]))


def test_the_end_of_an_episode_tells_its_totals_and_context():
    batch = MecOffloadingVectorEnv(6, contexts="train")
    _, infos = batch.reset(seed=0)
    edges, frequency = infos["edges"], infos["frequency"]
    size, backlog = batch._episodes.size.copy(), batch._episodes.backlog.copy()
    sums = np.zeros((6, 2))
    for step in range(STEPS):
        np.testing.assert_array_equal(infos["edges"], edges)
        _, rewards, _, _, infos = batch.step(np.zeros(6, np.int64))
        sums += rewards
        assert ("final_info" in infos) == (step == STEPS - 1)
    final = infos["final_info"]
    np.testing.assert_allclose(-sums, np.column_stack([final["delay"], final["energy"]]))
    np.testing.assert_array_equal(final["tasks"], (size > 0).sum(axis=1))
    np.testing.assert_array_equal(final["backlog"], backlog[:, -1])
    np.testing.assert_array_equal(final["edges"], edges)
    np.testing.assert_array_equal(final["frequency"], frequency)
    assert infos["_final_info"].all()
    assert (infos["frequency"] != frequency).any(), "the context of the next episode"


def test_a_second_without_a_task_pays_nothing_and_does_nothing():
    first, second = (MecOffloadingVectorEnv(1, edges=2) for _ in range(2))
    for seed in range(50):
        first.reset(seed=seed)
        if first._episodes.size[0, 0] == 0:
            break
    second.reset(seed=seed)
    mine, theirs = first.step(np.array([0])), second.step(np.array([2]))
    np.testing.assert_array_equal(mine[1], [[0.0, 0.0]])
    np.testing.assert_array_equal(mine[0], theirs[0])
    assert first._episodes.tasks.sum() == 0


def test_one_system_is_a_batch_of_one():
    single = gymnasium.make(NAME, contexts="test", observation="marginal")
    batch = make_vec(NAME, 1, contexts="test", observation="marginal")
    rng = np.random.default_rng(0)
    observation, infos = single.reset(seed=3)
    observations, many = batch.reset(seed=3)
    for _ in range(2):
        assert infos["edges"] == many["edges"][0]
        done = False
        while not done:
            np.testing.assert_array_equal(observation, observations[0])
            action = int(rng.integers(11))
            observation, reward, terminated, truncated, infos = single.step(action)
            observations, rewards, ends, _, many = batch.step(np.array([action]))
            np.testing.assert_array_equal(reward, rewards[0])
            done = terminated
            assert done == ends[0]
            assert not truncated
        np.testing.assert_array_equal(observation, many["final_obs"][0])
        assert infos["delay"] == many["final_info"]["delay"][0]
        with pytest.raises(NotResetError):
            single.unwrapped.step(0)
        observation, infos = single.reset()
    single.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": 11}, r"edges must be 1 to 10.*room.*got 11"),
        ({"edges": 0}, "edges must be 1 to 10"),
        ({"edges": 2.5}, "edges must be an integer, got 2.5"),
        ({"edges": True}, "edges must be an integer"),
        ({"cloud_frequency": 0.0}, "cloud_frequency must be positive"),
        ({"cloud_frequency": "fast"}, "cloud_frequency must be a number of GHz"),
        ({"edge_frequency": -2.0}, "edge_frequency must be positive"),
        ({"edge_frequency": float("nan")}, "edge_frequency must be positive"),
        ({"edges": 2, "edge_frequency": [2.0, 0.0]}, r"edge_frequency\[1\] must be positive"),
        ({"edges": 2, "edge_frequency": [2.0]}, "1 edge frequencies for 2 edge servers"),
        ({"contexts": "train", "edge_frequency": [2.0, 2.0]}, "for 1 to 8 edge servers"),
        ({"contexts": "tests"}, "contexts must be one of fixed, train, test"),
        ({"observation": "all"}, "observation must be one of paper, backlog, marginal"),
        ({"unavailable": "skip"}, "unavailable must be one of remap, error"),
        ({"channel": "5g"}, "channel must be one of released, textbook"),
        ({"rate_floor": -1.0}, "rate_floor must be a number of Mbit/s"),
        ({"rate_floor": float("inf")}, "rate_floor must be a number of Mbit/s"),
        ({"servers": 3}, "servers"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, message):
    with pytest.raises(EnvArgumentError, match=message):
        make_vec(NAME, 2, **arguments)


def test_a_system_in_plain_python_sees_and_pays_the_same():
    batch = MecOffloadingVectorEnv(6, contexts="train")
    observations, _ = batch.reset(seed=8)
    episodes = batch._episodes
    systems = []
    for i in range(6):
        there = slice(int(episodes.edges[i]) + 1)
        systems.append(
            PythonSystem(
                episodes.frequency[i, there],
                episodes.rate[i, there].copy(),
                episodes.size[i].tolist(),
                episodes.user[i].tolist(),
            )
        )
    for system, observation in zip(systems, rows(observations), strict=True):
        np.testing.assert_allclose(system.observe(), observation, rtol=1e-6)
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        actions = rng.integers(0, 11, 6)
        observations, rewards, terminated, _, infos = batch.step(actions)
        last = rows(infos["final_obs"] if step == STEPS - 1 else observations)
        for i, system in enumerate(systems):
            seen, reward, ended = system.step(int(actions[i]))
            np.testing.assert_allclose(rewards[i], reward, rtol=1e-9)
            np.testing.assert_allclose(last[i, :, :7], seen[:, :7], rtol=1e-6)
            # A rounding error may put a task into the next bin.
            assert np.abs(last[i, :, 7:] - seen[:, 7:]).sum() <= 2
            assert ended == terminated[i]


def test_speed_is_measured_in_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(offloading_speed, "BATCHES", (64,))
    monkeypatch.setattr(offloading_speed, "OBSERVATIONS", ("paper",))
    arguments = ["--pairs", "1", "--portion", "100", "--output", str(tmp_path)]
    assert offloading_speed.main(arguments) == 0
    [row] = read_json(tmp_path / "offloading_speed.json")["rows"]
    assert (row["observation"], row["num_envs"], row["pairs"]) == ("paper", 64, 1)
    assert row["ratio"] > 10
