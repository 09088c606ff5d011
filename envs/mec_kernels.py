"""Servers that share their time among tasks, and the draws behind an episode of task offloading.

All sizes are in Mbit, times in seconds, clock rates in GHz, energies in joules. A task needs 1000
cycles a bit, so a server of f GHz serves f Mbit/s. `morl.envs.mec_offloading` is the environment;
formulas and constants are those of Yang et al., "Generalizable Pareto-Optimal Offloading with
Reinforcement Learning in Mobile Edge Computing" (arXiv:2509.10474), equations (1) to (29).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

STEPS = 100
"""Length of an episode; a step is a second."""

MOST_EDGES = 10
SERVERS = MOST_EDGES + 1
"""The cloud, server 0, and up to ten edge servers."""

USERS = 10
BINS = 60
"""Of the histogram of unfinished work: 1 Mbit each, the last one open."""

STEP_SECONDS = 1.0
SMALLEST_TASK, LARGEST_TASK = 0.1, 100.0  # Mbit
ARRIVALS = 1.0  # tasks a step, of all users
UPLOAD_POWER = 0.01  # W
ENERGY = 5e-4  # J / (Mbit GHz^2): capacitance 5e-31, times 1000 cycles a bit
DONE = 1e-12  # Mbit; less than this is a rounding error

# Links: distances in km, path loss 133.6 + 35 log10(distance) + 8 dB, noise of -174 dBm/Hz.
BANDWIDTH = 16.6  # MHz
CLOUD_DISTANCE = (1.0, 2.0)
EDGE_DISTANCE = (0.05, 0.5)
NOISE = 10 ** (-20.4) * BANDWIDTH * 1e6  # W
GAIN = 10 ** (-14.16)  # at 1 km
TEXTBOOK_SNR = UPLOAD_POWER * GAIN / NOISE
RELEASED_SNR = UPLOAD_POWER * (GAIN / NOISE) ** 2 / NOISE

PAPER_FEATURES = 7 + BINS
"""Features of a server in the paper's observation."""

DELAY_SCALE, ENERGY_SCALE = 100.0, 0.2
"""Seconds and joules that are one unit of observed marginal costs: the scales of the paper's
reward."""

TOTALS = ("delay", "energy", "tasks", "remapped")
"""What is added up over an episode: seconds, joules, tasks, and actions that had to be remapped."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11, _S32 = (np.uint64(shift) for shift in (27, 30, 31, 11, 32))


class Episodes(NamedTuple):
    """The state of all environments of a batch; the first axis is the environment.

    What is random (contexts, tasks, links) is drawn at the start of an episode: no action has an
    influence on it.

    Attributes:
        key: of the environment's random stream.
        episode: episodes begun with this key.
        edges: number of edge servers.
        frequency: GHz ``(env, server)``, 0 where there is no server.
        rate: of the links in Mbit/s, ``(env, server, user)``.
        size: of the task that each step offers, Mbit ``(env, step)``; 0 where there is none.
        user: who sends it.
        backlog: tasks that wait behind it.
        step: steps taken.
        residual: unfinished work in Mbit, the largest first, ``(env, server, task)``.
        tasks: number of tasks in execution ``(env, server)``.
        upload_left: seconds until an upload ends, ``(env, upload)``.
        upload_size: Mbit.
        upload_server: where to.
        uploads: number of uploads that last beyond their step.
        totals: see `TOTALS`, ``(env, total)``.
    """

    key: NDArray[np.uint64]
    episode: Integers
    edges: Integers
    frequency: Floats
    rate: Floats
    size: Floats
    user: Integers
    backlog: Integers
    step: Integers
    residual: Floats
    tasks: Integers
    upload_left: Floats
    upload_size: Floats
    upload_server: Integers
    uploads: Integers
    totals: Floats

    @classmethod
    def empty(cls, num_envs: int) -> Episodes:
        """Room for `num_envs` environments."""
        return cls(
            key=np.zeros(num_envs, np.uint64),
            episode=np.zeros(num_envs, np.int64),
            edges=np.zeros(num_envs, np.int64),
            frequency=np.zeros((num_envs, SERVERS)),
            rate=np.zeros((num_envs, SERVERS, USERS)),
            size=np.zeros((num_envs, STEPS)),
            user=np.zeros((num_envs, STEPS), np.int64),
            backlog=np.zeros((num_envs, STEPS), np.int64),
            step=np.zeros(num_envs, np.int64),
            residual=np.zeros((num_envs, SERVERS, STEPS)),
            tasks=np.zeros((num_envs, SERVERS), np.int64),
            upload_left=np.zeros((num_envs, STEPS)),
            upload_size=np.zeros((num_envs, STEPS)),
            upload_server=np.zeros((num_envs, STEPS), np.int64),
            uploads=np.zeros(num_envs, np.int64),
            totals=np.zeros((num_envs, len(TOTALS))),
        )


class Ranges(NamedTuple):
    """What contexts and links are drawn from.

    Attributes:
        edges: fewest and most edge servers, ``(2,)``.
        low: lowest frequencies in GHz, ``(server,)``.
        high: highest.
        released: whether links follow the released code instead of the textbook.
        floor: least rate of a link, Mbit/s.
    """

    edges: Integers
    low: Floats
    high: Floats
    released: bool
    floor: float


# ---------------------------------------------------------------------------------------------
# Random numbers: SplitMix64, one sequence for each environment and episode


@njit(cache=True)
def mixed(z: np.uint64) -> np.uint64:
    """A number that looks random, another one for every z."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(cache=True)
def _bits(state: NDArray[np.uint64]) -> np.uint64:
    state[0] += _GOLDEN
    return mixed(state[0])


@njit(cache=True)
def uniform(state: NDArray[np.uint64]) -> float:
    """From (0, 1]: its logarithm is finite."""
    return (float(_bits(state) >> _S11) + 1.0) * 2.0**-53


@njit(cache=True)
def _below(state: NDArray[np.uint64], count: int) -> int:
    return int(((_bits(state) >> _S32) * np.uint64(count)) >> _S32)


@njit(cache=True)
def poisson(state: NDArray[np.uint64], mean: float) -> int:
    """A Poisson number, by a product of uniform ones."""
    limit = math.exp(-mean)
    product = uniform(state)
    count = 0
    while product > limit:
        product *= uniform(state)
        count += 1
    return count


# ---------------------------------------------------------------------------------------------
# A server shares its speed equally among its tasks (equations 7 and 8)


@njit(cache=True)
def attained(residual: Floats, count: int, speed: float, duration: float) -> float:
    """Work that each task gets within a time, or would have got had it been long enough.

    Args:
        residual: unfinished work, the largest first.
        count: number of tasks.
        speed: of the server, Mbit/s.
        duration: seconds.
    """
    done = 0.0
    for left in range(count, 0, -1):
        needed = (residual[left - 1] - done) * left / speed
        if needed > duration:
            return done + duration * speed / left
        duration -= needed
        done = residual[left - 1]
    return done


@njit(cache=True)
def serve(residual: Floats, count: int, speed: float, duration: float) -> int:
    """Let a time pass; returns the number of tasks left."""
    done = attained(residual, count, speed, duration)
    while count > 0 and residual[count - 1] - done <= DONE:
        count -= 1
    for j in range(count):
        residual[j] -= done
    return count


@njit(cache=True)
def insert(residual: Floats, count: int, size: float) -> int:
    """Add a task; returns the number of tasks."""
    place = count
    while place > 0 and residual[place - 1] < size:
        residual[place] = residual[place - 1]
        place -= 1
    residual[place] = size
    return count + 1


@njit(cache=True)
def added_delay(residual: Floats, count: int, speed: float, size: float, upload: float) -> float:
    """Seconds by which one more task increases the delay of all, its own included.

    Closed form of equations (24) to (29): a task that comes when tasks with the work r_j are left
    waits for ``min(r_j, size)`` of each, and makes each wait for as much.

    Args:
        residual: unfinished work when the upload begins, the largest first.
        count: number of tasks.
        speed: of the server.
        size: of the new task.
        upload: seconds of its upload.
    """
    done = attained(residual, count, speed, upload)
    shared = 0.0
    for j in range(count):
        rest = residual[j] - done
        if rest <= 0.0:
            break
        shared += min(rest, size)
    return upload + (size + 2.0 * shared) / speed


@njit(cache=True)
def _all_delays(
    residual: Floats, count: int, speed: float, left: Floats, sizes: Floats, uploads: int
) -> float:
    """Sum of the times at which all tasks of a server will be done, those on their way included.

    Args:
        residual: unfinished work, the largest first.
        count: number of tasks.
        speed: of the server.
        left: seconds until each upload ends, ascending.
        sizes: of the uploads.
        uploads: their number.
    """
    work = np.empty(count + uploads)
    for j in range(count):  # slices would take seconds to compile
        work[j] = residual[j]
    now = 0.0
    total = 0.0
    for k in range(uploads + 1):
        until = left[k] if k < uploads else np.inf
        done = 0.0
        while count > 0:
            end = now + (work[count - 1] - done) * count / speed
            if end > until:
                done += (until - now) * speed / count
                break
            total += end
            now = end
            done = work[count - 1]
            count -= 1
        for j in range(count):
            work[j] -= done
        if k < uploads:
            now = until
            count = insert(work, count, sizes[k])
    return total


@njit(cache=True)
def _queue_up(left: Floats, sizes: Floats, count: int, time: float, size: float) -> None:
    """Insert an upload in order of the time that it still takes."""
    place = count
    while place > 0 and left[place - 1] > time:
        left[place] = left[place - 1]
        sizes[place] = sizes[place - 1]
        place -= 1
    left[place] = time
    sizes[place] = size


@njit(cache=True)
def _added_delay_among_uploads(
    episodes: Episodes, i: int, server: int, size: float, upload: float
) -> float:
    """As `added_delay`, where other tasks are still on their way to the server.

    The difference of two simulations until the server is empty.
    """
    left = np.empty(episodes.uploads[i] + 1)
    sizes = np.empty(episodes.uploads[i] + 1)
    count = 0
    for k in range(episodes.uploads[i]):
        if episodes.upload_server[i, k] == server:
            _queue_up(left, sizes, count, episodes.upload_left[i, k], episodes.upload_size[i, k])
            count += 1
    tasks = episodes.tasks[i, server]
    residual = episodes.residual[i, server]
    speed = episodes.frequency[i, server]
    before = _all_delays(residual, tasks, speed, left, sizes, count)
    _queue_up(left, sizes, count, upload, size)
    return _all_delays(residual, tasks, speed, left, sizes, count + 1) - before


@njit(cache=True)
def marginal_delay(episodes: Episodes, i: int, server: int) -> float:
    """Seconds that sending the present task to a server would cost all tasks (exact)."""
    step = episodes.step[i]
    size = episodes.size[i, step]
    if size == 0.0:
        return 0.0
    upload = size / episodes.rate[i, server, episodes.user[i, step]]
    for k in range(episodes.uploads[i]):
        if episodes.upload_server[i, k] == server:
            return _added_delay_among_uploads(episodes, i, server, size, upload)
    return added_delay(
        episodes.residual[i, server],
        episodes.tasks[i, server],
        episodes.frequency[i, server],
        size,
        upload,
    )


@njit(cache=True)
def marginal_energy(episodes: Episodes, i: int, server: int) -> float:
    """Joules that sending the present task to a server would cost (equations 6 and 10)."""
    step = episodes.step[i]
    size = episodes.size[i, step]
    frequency = episodes.frequency[i, server]
    upload = size / episodes.rate[i, server, episodes.user[i, step]]
    energy: float = UPLOAD_POWER * upload + ENERGY * frequency * frequency * size
    return energy


# ---------------------------------------------------------------------------------------------
# One step


@njit(cache=True)
def _pass_second(episodes: Episodes, i: int) -> None:
    """Let a step's time pass on all servers of an environment."""
    for server in range(episodes.edges[i] + 1):
        residual = episodes.residual[i, server]
        count = episodes.tasks[i, server]
        speed = episodes.frequency[i, server]
        now = 0.0
        while episodes.uploads[i] > 0:
            first = -1
            until = STEP_SECONDS
            for k in range(episodes.uploads[i]):
                if episodes.upload_server[i, k] == server and episodes.upload_left[i, k] <= until:
                    first = k
                    until = episodes.upload_left[i, k]
            if first < 0:
                break
            count = serve(residual, count, speed, until - now)
            count = insert(residual, count, episodes.upload_size[i, first])
            now = until
            _forget_upload(episodes, i, first)
        episodes.tasks[i, server] = serve(residual, count, speed, STEP_SECONDS - now)
    for k in range(episodes.uploads[i]):
        episodes.upload_left[i, k] -= STEP_SECONDS


@njit(cache=True)
def _forget_upload(episodes: Episodes, i: int, index: int) -> None:
    last = episodes.uploads[i] - 1
    episodes.upload_left[i, index] = episodes.upload_left[i, last]
    episodes.upload_size[i, index] = episodes.upload_size[i, last]
    episodes.upload_server[i, index] = episodes.upload_server[i, last]
    episodes.uploads[i] = last


@njit(cache=True)
def _send(episodes: Episodes, i: int, server: int, reward: Floats) -> None:
    """Send the present task to a server and pay what that costs."""
    step = episodes.step[i]
    size = episodes.size[i, step]
    if size == 0.0:
        reward[0] = 0.0
        reward[1] = 0.0
        return
    delay = marginal_delay(episodes, i, server)
    energy = marginal_energy(episodes, i, server)
    reward[0] = -delay
    reward[1] = -energy
    episodes.totals[i, 0] += delay
    episodes.totals[i, 1] += energy
    episodes.totals[i, 2] += 1.0
    last = episodes.uploads[i]
    episodes.upload_left[i, last] = size / episodes.rate[i, server, episodes.user[i, step]]
    episodes.upload_size[i, last] = size
    episodes.upload_server[i, last] = server
    episodes.uploads[i] = last + 1


@njit(cache=True)
def advance(
    actions: Integers,
    episodes: Episodes,
    extras: int,
    observations: NDArray[np.float32],
    rewards: Floats,
    terminated: NDArray[np.bool_],
) -> None:
    """One step of all environments.

    Args:
        actions: ``(env,)``; beyond the servers that exist they start from the cloud again.
        episodes: state.
        extras: see `observe`.
        observations: to be written, ``(env, server, feature)``.
        rewards: to be written, ``(env, 2)``.
        terminated: to be written.
    """
    for i in range(actions.shape[0]):
        servers = episodes.edges[i] + 1
        server = actions[i]
        if server >= servers:
            server %= servers
            episodes.totals[i, 3] += 1.0
        _send(episodes, i, server, rewards[i])
        _pass_second(episodes, i)
        episodes.step[i] += 1
        terminated[i] = episodes.step[i] == STEPS
        observe(episodes, i, extras, observations[i])


# ---------------------------------------------------------------------------------------------
# What is seen


@njit(cache=True)
def observe(episodes: Episodes, i: int, extras: int, observation: NDArray[np.float32]) -> None:
    """Write the rows of the servers that exist (equations 18 and 19).

    Args:
        episodes: state.
        i: environment.
        extras: features after the paper's: 0, or 1 for the backlog, or 4 for marginal delay and
            energy, backlog and share of the steps taken.
        observation: to be written, ``(server, feature)``.
    """
    step = episodes.step[i]
    running = step < STEPS
    size = episodes.size[i, step] if running else 0.0
    user = episodes.user[i, step] if running else 0
    backlog = episodes.backlog[i, step] if running else 0
    for server in range(episodes.edges[i] + 1):
        row = observation[server]
        row[0] = 1.0
        row[1] = episodes.frequency[i, server]
        row[2] = episodes.edges[i]
        row[3] = size
        row[4] = 1.0 if running else 0.0
        row[5] = episodes.rate[i, server, user] / 100.0
        row[6] = episodes.tasks[i, server]
        for k in range(7, PAPER_FEATURES):
            row[k] = 0.0
        for j in range(episodes.tasks[i, server]):
            row[7 + min(int(episodes.residual[i, server, j]), BINS - 1)] += 1.0
        if extras == 1:
            row[PAPER_FEATURES] = backlog
        elif extras == 4:
            live = size > 0.0
            delay = marginal_delay(episodes, i, server) if live else 0.0
            energy = marginal_energy(episodes, i, server) if live else 0.0
            row[PAPER_FEATURES] = delay / DELAY_SCALE
            row[PAPER_FEATURES + 1] = energy / ENERGY_SCALE
            row[PAPER_FEATURES + 2] = backlog
            row[PAPER_FEATURES + 3] = step / STEPS


# ---------------------------------------------------------------------------------------------
# A new episode


@njit(cache=True)
def _draw_context(episodes: Episodes, i: int, ranges: Ranges, state: NDArray[np.uint64]) -> float:
    """Draw number and speeds of servers; returns the mean size of tasks (equation 1)."""
    edges = ranges.edges[0] + _below(state, ranges.edges[1] - ranges.edges[0] + 1)
    episodes.edges[i] = edges
    capacity = 0.0
    for server in range(SERVERS):
        share = uniform(state)
        frequency = ranges.low[server] + share * (ranges.high[server] - ranges.low[server])
        episodes.frequency[i, server] = frequency if server <= edges else 0.0
        capacity += episodes.frequency[i, server]
    return capacity * STEP_SECONDS / ARRIVALS


@njit(cache=True)
def _draw_tasks(episodes: Episodes, i: int, mean_size: float, state: NDArray[np.uint64]) -> None:
    """Draw the queue of tasks as the steps will find it: one leaves it in every step."""
    waiting = 0
    for step in range(STEPS):
        waiting += poisson(state, ARRIVALS)
        size = -mean_size * math.log(uniform(state))
        episodes.user[i, step] = _below(state, USERS)
        episodes.size[i, step] = 0.0
        if waiting > 0:
            waiting -= 1
            episodes.size[i, step] = min(max(size, SMALLEST_TASK), LARGEST_TASK)
        episodes.backlog[i, step] = waiting


@njit(cache=True)
def _draw_links(episodes: Episodes, i: int, ranges: Ranges, state: NDArray[np.uint64]) -> None:
    """Draw distance and Rayleigh fading of every link; rates by Shannon's law (equation 2)."""
    for server in range(episodes.edges[i] + 1):
        near, far = CLOUD_DISTANCE if server == 0 else EDGE_DISTANCE
        for user in range(USERS):
            distance = near + (far - near) * uniform(state)
            fading = -math.log(uniform(state))
            gain = fading / (distance * distance * distance * math.sqrt(distance))
            ratio = RELEASED_SNR * gain * gain if ranges.released else TEXTBOOK_SNR * gain
            rate = BANDWIDTH * math.log1p(ratio) / math.log(2.0)
            episodes.rate[i, server, user] = max(rate, ranges.floor)


@njit(cache=True)
def _clear(episodes: Episodes, i: int, observation: NDArray[np.float32]) -> None:
    episodes.step[i] = 0
    episodes.uploads[i] = 0
    for k in range(episodes.totals.shape[1]):
        episodes.totals[i, k] = 0.0
    for server in range(SERVERS):
        episodes.tasks[i, server] = 0
        for k in range(observation.shape[1]):
            observation[server, k] = -1.0


@njit(cache=True)
def restart(
    indices: Integers,
    episodes: Episodes,
    ranges: Ranges,
    extras: int,
    observations: NDArray[np.float32],
) -> None:
    """Begin new episodes.

    What does not depend on the number of servers is drawn first and links server by server, so
    that episodes of one seed have the same users, arrivals and links whatever the context.

    Args:
        indices: environments to begin anew.
        episodes: state.
        ranges: what is drawn from.
        extras: see `observe`.
        observations: rows of these environments are written.
    """
    state = np.zeros(1, np.uint64)
    for i in indices:
        state[0] = mixed(episodes.key[i] + np.uint64(episodes.episode[i]) * _GOLDEN)
        episodes.episode[i] += 1
        mean_size = _draw_context(episodes, i, ranges, state)
        _draw_tasks(episodes, i, mean_size, state)
        _draw_links(episodes, i, ranges, state)
        _clear(episodes, i, observations[i])
        observe(episodes, i, extras, observations[i])
