"""What the processes of a suite do in tests; they know the levers."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import levers

from morl.experiments.suite_runner import worker_main

SUITE = """
version: 3
title: Levers
seeds: 2
tasks:
  - id: levers-v0
    kwargs: {noise: 0.1}
    discount: 0.9
    horizon: 20
    reference_point: [-0.5, -0.5]
    box_low: [0, 0]
    box_high: [8, 8]
    box_source: by hand
    steps: 1200
    selection_episodes: 4
    report_episodes: 4
    curve_episodes: 2
agents:
  random_search:
    settings: {policies: 8, episodes: 2}
  broken:
    agent: random_search
    settings: {policies: 8, episodes: 1}
"""


def well(pipe: Connection, out: str) -> None:
    """An ordinary worker."""
    assert levers.SPEC.id
    worker_main(pipe, out)


def mortal(pipe: Connection, out: str) -> None:
    """Dies of every run of seed 1, and counts how often."""

    class Deadly:
        def recv(self) -> dict[str, object]:
            record: dict[str, object] = pipe.recv()
            if record["seed"] == 1:
                with (Path(out) / "deaths").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return record

        def send(self, answer: object) -> None:
            pipe.send(answer)

    worker_main(Deadly(), out)  # type: ignore[arg-type]
