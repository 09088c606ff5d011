"""Steps a CPU-second of offloading: the batch against one system in plain Python.

``python -m morl.experiments.bench.offloading_speed`` plays random actions, observations and new
episodes included, on one core. `PythonSystem` is the model as one would write it down first: lists
of tasks, an event at a time. The released environment of the paper's predecessor is of this kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl.envs.mec_offloading import MecOffloadingVectorEnv
from morl.experiments.bench.measurement import (
    RESULTS,
    Pairs,
    cpu_cost,
    interleave,
    single_thread,
    table,
    write_report,
)

BATCHES = (1, 16, 64, 256, 1024)
OBSERVATIONS = ("paper", "marginal")
STEPS = 100
RELEASED = 3.2e3
"""Steps a second of the released Python environment (github.com/gracefulning/mec_morl_multipolicy),
one core, measured once and elsewhere: it is not part of this run."""


@dataclass
class PythonServer:
    """A server and the tasks on it.

    Attributes:
        speed: Mbit/s.
        uploads: [seconds left, Mbit] of each upload.
        work: Mbit left of each task.
    """

    speed: float
    uploads: list[list[float]] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    def added_delay(self, size: float, upload: float) -> float:
        """Seconds that one more task costs all, where no other is on its way."""
        rest = PythonServer(self.speed, work=list(self.work))
        rest.advance(upload)
        return upload + (size + 2.0 * sum(min(left, size) for left in rest.work)) / self.speed

    def advance(self, seconds: float) -> None:
        """Let a time pass, event by event."""
        while seconds > 0.0:
            step = seconds
            if self.work:
                step = min(step, min(self.work) * len(self.work) / self.speed)
            if self.uploads:
                step = min(step, min(upload[0] for upload in self.uploads))
            if self.work:
                share = step * self.speed / len(self.work)
                self.work = [left - share for left in self.work if left - share > 1e-12]
            for upload in self.uploads:
                upload[0] -= step
            self.work += [upload[1] for upload in self.uploads if upload[0] <= 0.0]
            self.uploads = [upload for upload in self.uploads if upload[0] > 0.0]
            seconds -= step


class PythonSystem:
    """One system, a second at a time.

    Args:
        frequency: GHz of each server, ``(server,)``.
        rate: Mbit/s of the links, ``(server, user)``.
        size: Mbit of each step's task, ``(step,)``, 0 for none.
        user: who sends it.
    """

    def __init__(
        self,
        frequency: Sequence[float],
        rate: NDArray[np.float64],
        size: Sequence[float],
        user: Sequence[int],
    ) -> None:
        self.servers = [PythonServer(float(ghz)) for ghz in frequency]
        self.rate, self.size, self.user = rate, size, user
        self.now = 0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> PythonSystem:
        """A random system: 1 to 8 edge servers, links and tasks much as in the environment."""
        edges = int(rng.integers(1, 9))
        frequency = [4.0] + [2.0] * edges
        rate = rng.uniform(300.0, 900.0, (edges + 1, 10))
        live = rng.random(STEPS) < 0.926
        size = np.clip(rng.exponential(4.0 + 2.0 * edges, STEPS), 0.1, 100.0) * live
        return cls(frequency, rate, size.tolist(), rng.integers(10, size=STEPS).tolist())

    def step(self, action: int) -> tuple[NDArray[np.float32], NDArray[np.float64], bool]:
        """Send the present task; returns observation, reward and whether the episode ended."""
        size, server = self.size[self.now], self.servers[action % len(self.servers)]
        reward = np.zeros(2)
        if size > 0.0:
            upload = size / self.rate[action % len(self.servers), self.user[self.now]]
            reward[0] = -server.added_delay(size, upload)
            reward[1] = -(0.01 * upload + 5e-4 * server.speed**2 * size)
            server.uploads.append([upload, size])
        for one in self.servers:
            one.advance(1.0)
        self.now += 1
        return self.observe(), reward, self.now == STEPS

    def observe(self) -> NDArray[np.float32]:
        """The paper's observation, ``(server, feature)``."""
        seen = np.full((11, 67), -1.0, np.float32)
        running = self.now < STEPS
        for k, server in enumerate(self.servers):
            seen[k, 0] = 1.0
            seen[k, 1] = server.speed
            seen[k, 2] = len(self.servers) - 1
            seen[k, 3] = self.size[self.now] if running else 0.0
            seen[k, 4] = float(running)
            seen[k, 5] = self.rate[k, self.user[self.now] if running else 0] / 100.0
            seen[k, 6] = len(server.work)
            bins = np.minimum(np.array(server.work, np.int64), 59)
            seen[k, 7:] = np.bincount(bins, minlength=60)
        return seen


def measure(*, pairs: int, portion: int) -> dict[str, Any]:
    """Measure batches of several sizes against plain Python.

    Args:
        pairs: interleaved measurements a row.
        portion: environment steps of the batch in one measurement, about.
    """
    rows = []
    with single_thread():
        for observation in OBSERVATIONS:
            for num_envs in BATCHES:
                costs = interleave(
                    _batch(num_envs, observation, portion), _python(portion), pairs=pairs
                )
                rows.append(_row(num_envs, observation, costs))
    return {
        "unit": "environment steps a CPU-second on one core: random actions, observations and new "
        "episodes included, 1 to 8 edge servers",
        "theirs": "the same model, one system, in plain Python",
        "released_python_environment": {
            "steps_per_second": RELEASED,
            "source": "github.com/gracefulning/mec_morl_multipolicy, measured elsewhere",
        },
        "rows": rows,
    }


def _row(num_envs: int, observation: str, costs: Pairs) -> dict[str, Any]:
    record = costs.record(per_second=True)
    ours = record["ours_per_cpu_second"]
    of_released = float(f"{ours / RELEASED:.3g}")
    row = {"observation": observation, "num_envs": num_envs, **record}
    return row | {"of_released_environment": of_released}


def _batch(num_envs: int, observation: str, portion: int) -> Callable[[], float]:
    batch = MecOffloadingVectorEnv(num_envs, contexts="train", observation=observation)
    actions = list(np.random.default_rng(0).integers(0, 11, (32, num_envs)))
    batch.reset(seed=0)
    steps = max(STEPS, portion // num_envs)

    def work() -> None:
        for step in range(steps):
            batch.step(actions[step % 32])

    work()
    return cpu_cost(work, units=steps * num_envs)


def _python(portion: int) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    episodes = max(2, portion // (200 * STEPS))
    actions = rng.integers(0, 11, STEPS).tolist()

    def work() -> None:
        for _ in range(episodes):
            system = PythonSystem.draw(rng)
            for action in actions:
                system.step(action)

    return cpu_cost(work, units=episodes * STEPS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m morl.experiments.bench.offloading_speed")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--portion", type=int, default=200_000)
    parser.add_argument("--output", type=Path, default=RESULTS / "bench")
    options = parser.parse_args(arguments)
    report = write_report(
        "offloading_speed",
        measure(pairs=options.pairs, portion=options.portion),
        command="python -m morl.experiments.bench.offloading_speed",
        output=options.output,
    )
    sys.stdout.write(f"{table(report['rows'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
