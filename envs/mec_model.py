"""What an observation of `mec-offloading-v0` says, for policies that think instead of learning.

Every batch of the environment offers an `OffloadingModel` as its ``model``. It knows no more than
the observation that it is given: what an observation leaves out is estimated, as told below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from morl.envs.mec_kernels import (
    ARRIVALS,
    BINS,
    DELAY_SCALE,
    ENERGY,
    ENERGY_SCALE,
    LARGEST_TASK,
    PAPER_FEATURES,
    SERVERS,
    SMALLEST_TASK,
    STEP_SECONDS,
    STEPS,
    UPLOAD_POWER,
    Floats,
    Integers,
    added_delay,
    insert,
    mixed,
    poisson,
    serve,
    uniform,
)
from morl.envs.vector import EnvArgumentError

Rows = NDArray[np.float32]

LIVE_SHARE = 0.926
"""Mean share of steps that have a task, for observations that do not tell who waits."""

_MOST_TASKS = 2 * STEPS


@dataclass(frozen=True)
class OffloadingModel:
    """Reads observations; leading axes are the caller's.

    Attributes:
        env_id: for messages.
        features: of a server in an observation.
        exact: whether observations hold exact marginal costs, backlog and share of steps.
        backlog: index of the feature that tells how many tasks wait, or None.
    """

    env_id: str
    features: int
    exact: bool
    backlog: int | None

    def rows(self, observations: NDArray[Any]) -> Rows:
        """Observations as ``(..., server, feature)``.

        Raises:
            EnvArgumentError: for arrays that are no observations of this environment.
        """
        array = np.asarray(observations, np.float32)
        if array.ndim < 1 or array.shape[-1] != SERVERS * self.features:
            raise EnvArgumentError(
                f"{self.env_id}: observations have {SERVERS * self.features} features here, got "
                f"an array of shape {array.shape}"
            )
        return array.reshape(*array.shape[:-1], SERVERS, self.features)

    def _flat(self, rows: Rows) -> Rows:
        """Rows ``(system, server, feature)`` of a kind for which the loops are compiled."""
        flat = rows.reshape(-1, SERVERS, self.features)
        return np.require(flat, requirements=["C_CONTIGUOUS", "WRITEABLE"])

    def available(self, observations: NDArray[Any]) -> NDArray[np.bool_]:
        """Which servers exist, ``(..., server)``."""
        exist: NDArray[np.bool_] = self.rows(observations)[..., 0] > 0.0
        return exist

    def frequency(self, observations: NDArray[Any]) -> Floats:
        """Of the servers in GHz, 0 where there is none, ``(..., server)``."""
        return np.maximum(self.rows(observations)[..., 1], 0.0).astype(np.float64)

    def tasks(self, observations: NDArray[Any]) -> Floats:
        """Number of tasks in execution, infinite where there is no server, ``(..., server)``."""
        rows = self.rows(observations)
        return np.where(rows[..., 0] > 0.0, rows[..., 6], np.inf)

    def steps_taken(self, observations: NDArray[Any]) -> Integers:
        """Steps of the episode so far, ``(...)``.

        Raises:
            EnvArgumentError: where observations do not tell.
        """
        if not self.exact:
            raise EnvArgumentError(
                f"{self.env_id}: these observations do not tell how many steps were taken; make "
                "the environment with observation='marginal'"
            )
        share = self.rows(observations)[..., 0, -1]
        return np.rint(share * STEPS).astype(np.int64)

    def costs(self, observations: NDArray[Any], *, waiting_weight: float = 2.0) -> Floats:
        """Seconds and joules of sending the present task to each server.

        The delay is that of `morl.envs.mec_kernels.added_delay`, where tasks share a server's time:
        exact where observations hold it, else by the histogram, each task in the middle of its bin.

        Args:
            observations: ``(..., server * feature)``.
            waiting_weight: what each second of shared time counts: 2 for the waiting of both, the
                exact cost; more makes queues dearer, as tasks still to come will wait as well.

        Returns:
            ``(..., server, 2)``, infinite where there is no server.
        """
        rows = self.rows(observations)
        flat = self._flat(rows)
        found = np.empty((len(flat), SERVERS, 2))
        _all_costs(flat, self.exact, waiting_weight, found)
        return found.reshape(*rows.shape[:-1], 2)

    def weighted(
        self, observations: NDArray[Any], weights: Floats, *, waiting_weight: float = 2.0
    ) -> Floats:
        """Weighted sums of `costs`, ``(..., server)``; weights are ``(..., 2)``."""
        rows = self.rows(observations)
        found = np.empty(rows.shape[:-1])
        _weighted(
            self._flat(rows),
            _spread(weights, rows),
            self.exact,
            waiting_weight,
            found.reshape(-1, SERVERS),
        )
        return found

    def lookahead(
        self,
        observations: NDArray[Any],
        weights: Floats,
        *,
        samples: int,
        steps: int,
        candidates: int,
        waiting_weight: float,
    ) -> Floats:
        """Mean cost of sending the present task to a server and the following ones greedily.

        Futures are sampled: coming tasks have the known distribution, links are as fast as those
        of the present user. All servers are tried on the same futures, which depend on the
        observation alone. Where observations do not tell who waits, every step has a task with
        probability `LIVE_SHARE`; where they do not tell the step, the end is not foreseen.

        Args:
            observations: ``(..., server * feature)``.
            weights: costs of a second and of a joule, ``(..., 2)``.
            samples: futures, at least 1.
            steps: their length.
            candidates: most servers to try, those of the least greedy cost.
            waiting_weight: of the greedy policy, see `costs`.

        Returns:
            ``(..., server)``, infinite for servers that were not tried.
        """
        rows = self.rows(observations)
        found = np.empty(rows.shape[:-1])
        _lookahead(
            self._flat(rows),
            _spread(weights, rows),
            self.exact,
            -1 if self.backlog is None else self.backlog,
            samples,
            steps,
            candidates,
            waiting_weight,
            found.reshape(-1, SERVERS),
        )
        return found


def _spread(weights: Floats, rows: Rows) -> Floats:
    """Weights ``(..., 2)`` for every system of ``(..., server, feature)``, flattened."""
    every = np.broadcast_to(weights, (*rows.shape[:-2], 2))
    return np.array(every, np.float64, order="C").reshape(-1, 2)


@njit(cache=True)
def _residuals(row: Rows, mean_size: float, residual: Floats) -> int:
    """Unfinished work by the histogram, the largest first; returns the number of tasks.

    What lies in the last, open bin is as long again as a new task on average.
    """
    count = 0
    for k in range(BINS - 1, -1, -1):
        work = k + 0.5 if k < BINS - 1 else min(k + mean_size, LARGEST_TASK)
        for _ in range(int(row[7 + k])):
            residual[count] = work
            count += 1
    return count


@njit(cache=True)
def _mean_size(rows: Rows) -> float:
    """Mean size of a task: what all servers can do in a step (equation 1)."""
    total = 0.0
    for server in range(SERVERS):
        if rows[server, 0] > 0.0:
            total += rows[server, 1]
    return total * STEP_SECONDS / ARRIVALS


@njit(cache=True)
def _delay(row: Rows, exact: bool, mean_size: float, residual: Floats) -> float:
    """Seconds that the present task costs on a server."""
    if exact:
        return float(row[PAPER_FEATURES]) * DELAY_SCALE
    count = _residuals(row, mean_size, residual)
    size = float(row[3])
    return added_delay(residual, count, float(row[1]), size, size / (100.0 * row[5]))


@njit(cache=True)
def _energy(row: Rows, exact: bool) -> float:
    if exact:
        return float(row[PAPER_FEATURES + 1]) * ENERGY_SCALE
    size, frequency = float(row[3]), float(row[1])
    return size * (UPLOAD_POWER / (100.0 * float(row[5])) + ENERGY * frequency * frequency)


@njit(cache=True)
def _costs(rows: Rows, exact: bool, waiting_weight: float, residual: Floats, found: Floats) -> None:
    """Seconds and joules of the present task on each server of a system."""
    mean_size = _mean_size(rows)
    for server in range(SERVERS):
        row = rows[server]
        seconds = joules = np.inf
        if row[0] > 0.0:
            seconds = joules = 0.0
        if row[0] > 0.0 and row[3] > 0.0:
            delay = _delay(row, exact, mean_size, residual)
            size = float(row[3])
            alone = size / (100.0 * float(row[5])) + size / float(row[1])
            seconds = alone + 0.5 * waiting_weight * (delay - alone)
            joules = _energy(row, exact)
        found[server, 0] = seconds
        found[server, 1] = joules


@njit(cache=True)
def _all_costs(rows: Rows, exact: bool, waiting_weight: float, found: Floats) -> None:
    residual = np.empty(_MOST_TASKS)
    for m in range(rows.shape[0]):
        _costs(rows[m], exact, waiting_weight, residual, found[m])


@njit(cache=True)
def _weighted(
    rows: Rows, weights: Floats, exact: bool, waiting_weight: float, found: Floats
) -> None:
    residual = np.empty(_MOST_TASKS)
    costs = np.empty((SERVERS, 2))
    for m in range(rows.shape[0]):
        _costs(rows[m], exact, waiting_weight, residual, costs)
        for server in range(SERVERS):
            found[m, server] = np.inf
            if rows[m, server, 0] > 0.0:
                found[m, server] = (
                    weights[m, 0] * costs[server, 0] + weights[m, 1] * costs[server, 1]
                )


class Scene(NamedTuple):
    """Scratch for futures of one system; the first axis is the server.

    Attributes:
        seen: unfinished work as observed, the largest first, ``(server, task)``.
        seen_tasks: number of tasks.
        residual: unfinished work in the future that is played.
        tasks: number of tasks there.
        speed: of the server, Mbit/s.
        rate: of the link, Mbit/s.
    """

    seen: Floats
    seen_tasks: Integers
    residual: Floats
    tasks: Integers
    speed: Floats
    rate: Floats


@njit(cache=True)
def _play(scene: Scene, servers: Integers, chosen: int, size: float) -> None:
    """Send a task to a server, or none where that is -1, and let a step pass."""
    for server in servers:
        residual, tasks = scene.residual[server], scene.tasks[server]
        speed = scene.speed[server]
        rest = STEP_SECONDS
        if server == chosen:
            upload = min(size / scene.rate[server], STEP_SECONDS)
            tasks = serve(residual, tasks, speed, upload)
            tasks = insert(residual, tasks, size)
            rest -= upload
        scene.tasks[server] = serve(residual, tasks, speed, rest)


@njit(cache=True)
def _greedy(
    scene: Scene, servers: Integers, size: float, weights: Floats, waiting_weight: float
) -> tuple[int, float]:
    """The greedy policy's server for a task, and what that costs."""
    best = -1
    least = np.inf
    price = 0.0
    for server in servers:
        speed = scene.speed[server]
        upload = size / scene.rate[server]
        delay = added_delay(scene.residual[server], scene.tasks[server], speed, size, upload)
        energy = UPLOAD_POWER * upload + ENERGY * speed * speed * size
        alone = upload + size / speed
        biased = alone + 0.5 * waiting_weight * (delay - alone)
        cost = weights[0] * biased + weights[1] * energy
        if cost < least:
            least = cost
            best = server
            price = weights[0] * delay + weights[1] * energy
    return best, price


@njit(cache=True)
def _draw_future(
    state: NDArray[np.uint64], mean_size: float, backlog: float, sizes: Floats
) -> None:
    """Sizes of the tasks of coming steps, 0 for none; a negative backlog is unknown."""
    waiting = max(backlog, 0.0)
    for h in range(sizes.shape[0]):
        if backlog >= 0.0:
            waiting += poisson(state, ARRIVALS)
            live = waiting > 0.0
            waiting = max(waiting - 1.0, 0.0)
        else:
            live = uniform(state) <= LIVE_SHARE
        size = -mean_size * math.log(uniform(state))
        sizes[h] = min(max(size, SMALLEST_TASK), LARGEST_TASK) if live else 0.0


@njit(cache=True)
def _future_cost(
    scene: Scene,
    servers: Integers,
    action: int,
    size: float,
    sizes: Floats,
    weights: Floats,
    waiting_weight: float,
) -> float:
    """What coming tasks cost, sent greedily, after the present one went to a server."""
    for server in servers:
        tasks = scene.seen_tasks[server]
        scene.tasks[server] = tasks
        for j in range(tasks):
            scene.residual[server, j] = scene.seen[server, j]
    total = 0.0
    _play(scene, servers, action, size)
    for coming in sizes:
        chosen = -1
        if coming > 0.0:
            chosen, price = _greedy(scene, servers, coming, weights, waiting_weight)
            total += price
        _play(scene, servers, chosen, coming)
    return total


@njit(cache=True)
def _see(rows: Rows, servers: Integers, mean_size: float, scene: Scene) -> None:
    """Set the scene as it is observed."""
    for server in servers:
        scene.speed[server] = rows[server, 1]
        scene.rate[server] = 100.0 * rows[server, 5]
        scene.seen_tasks[server] = _residuals(rows[server], mean_size, scene.seen[server])


@njit(cache=True)
def _cheapest(
    costs: Floats, servers: Integers, weights: Floats, candidates: int, tried: Integers
) -> int:
    """List the servers of the least weighted costs; returns how many."""
    count = 0
    for server in servers:
        cost = weights[0] * costs[server, 0] + weights[1] * costs[server, 1]
        place = count
        while place > 0:
            other = tried[place - 1]
            if weights[0] * costs[other, 0] + weights[1] * costs[other, 1] <= cost:
                break
            tried[place] = other
            place -= 1
        tried[place] = server
        count += 1
    return min(count, candidates)


@njit(cache=True)
def _existing(rows: Rows, servers: Integers) -> int:
    """List the servers that exist; returns how many."""
    count = 0
    for server in range(SERVERS):
        if rows[server, 0] > 0.0:
            servers[count] = server
            count += 1
    return count


@njit(cache=True)
def _steps_ahead(rows: Rows, exact: bool, steps: int) -> int:
    """Steps to look ahead, no further than the end where that is known."""
    if not exact:
        return steps
    taken = int(np.rint(rows[0, PAPER_FEATURES + 3] * STEPS))
    return max(0, min(steps, STEPS - 1 - taken))


@njit(cache=True)
def _lookahead(
    rows: Rows,
    weights: Floats,
    exact: bool,
    backlog: int,
    samples: int,
    steps: int,
    candidates: int,
    waiting_weight: float,
    found: Floats,
) -> None:
    """See `OffloadingModel.lookahead`; a backlog of -1 is not observed."""
    room = (SERVERS, _MOST_TASKS)
    scene = Scene(
        np.empty(room), np.zeros(SERVERS, np.int64), np.empty(room), np.zeros(SERVERS, np.int64),
        np.zeros(SERVERS), np.zeros(SERVERS),
    )  # fmt: skip
    state = np.zeros(1, np.uint64)
    costs = np.empty((2, SERVERS, 2))
    work = np.empty(_MOST_TASKS)
    places = np.zeros(SERVERS, np.int64)
    tried = np.zeros(SERVERS, np.int64)
    for m in range(rows.shape[0]):
        size = rows[m, 0, 3]
        servers = places[: _existing(rows[m], places)]
        for server in range(SERVERS):
            found[m, server] = np.inf
        if size <= 0.0:
            for server in servers:
                found[m, server] = 0.0
            continue
        mean_size = _mean_size(rows[m])
        _see(rows[m], servers, mean_size, scene)
        _costs(rows[m], exact, 2.0, work, costs[0])
        _costs(rows[m], exact, waiting_weight, work, costs[1])
        count = _cheapest(costs[1], servers, weights[m], candidates, tried)
        for k in range(count):
            present = costs[0, tried[k]]
            found[m, tried[k]] = weights[m, 0] * present[0] + weights[m, 1] * present[1]
        sizes = np.empty(_steps_ahead(rows[m], exact, steps))
        state[0] = mixed(np.uint64(size * 1e6))
        for _ in range(samples):
            _draw_future(state, mean_size, rows[m, 0, backlog] if backlog >= 0 else -1.0, sizes)
            for k in range(count):
                coming = _future_cost(
                    scene, servers, tried[k], size, sizes, weights[m], waiting_weight
                )
                found[m, tried[k]] += coming / samples
