"""The kill test: C-MORL on minecart, killed again and again, must end in the same bits.

Every attempt starts ``morl run`` in a process of its own, kills it with SIGKILL at a random
moment, starts it again, and lets the last one finish. Then everything that a run leaves behind is
compared with an uninterrupted run: final parameters and archive (the last checkpoint, array by
array), ``metrics.jsonl`` (bytes), fronts and episode returns (bytes), and all indicators.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from morl import storage
from morl.checkpoint import load_checkpoint
from morl.experiments.bench.measurement import RESULTS, machine
from morl.experiments.run import CHECKPOINTS, METRICS, RESULT
from morl.result import RunResult
from morl.types import MorlError

WORDS = (
    "env=minecart-v0", "agent=c_morl", "seed=0", "steps=200000", "sync_every=4000",
    "curve_episodes=2", "selection_episodes=4", "report_episodes=4", "agent.num_envs=4",
    "agent.rollout_steps=64", "agent.num_parents=2", "agent.extension_updates=6",
    "agent.selection_episodes=2", "agent.archive_capacity=30", "agent.minibatch=128",
)  # fmt: skip
"""A run of both stages with about fifty synchronisation points, in some CPU-seconds."""

STEPS = 200_000
FILES = (METRICS, "front.npz", "episodes.npz")
PATIENCE_S = 600.0


class KillTestError(MorlError):
    """A run that ended although nobody killed it."""


@dataclass
class Attempt:
    """One run that was killed some times before it could finish.

    Attributes:
        killed_at: last step in the log when each kill came.
        differences: what is not as in the uninterrupted run.
    """

    killed_at: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether it was killed at all and ended in the same bits."""
        return bool(self.killed_at) and not self.differences

    def record(self) -> dict[str, Any]:
        """For the report."""
        return {"killed_at": self.killed_at, "equal": self.equal, "differences": self.differences}


def start(out: Path) -> subprocess.Popen[bytes]:
    """Begin or resume the run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "morl.experiments.cli", "run", *WORDS, f"out={out}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(out: Path) -> None:
    """Let the run come to its end.

    Raises:
        KillTestError: it ended in an error; with what it said.
    """
    process = start(out)
    _, said = process.communicate(timeout=PATIENCE_S)
    if process.returncode:
        raise KillTestError(f"the run ended with {process.returncode}:\n{said.decode()[-2000:]}")


def kill_somewhere(out: Path, moments: random.Random) -> int | None:
    """Start the run, kill it at a random moment.

    The moment is a random share of the steps that are left and a random while after that, or, one
    time in five, a random while after the start: kills meet saves, evaluations and half-written
    lines, and processes that are only just resuming.

    Returns:
        The last step in the log by then; None if the run was faster than the kill.
    """
    process = start(out)
    log_begins = _logged(out)
    soon = moments.random() < 0.2
    goal = log_begins if soon else log_begins + moments.random() * 0.9 * (STEPS - log_begins)
    while process.poll() is None and _logged(out) < goal:
        time.sleep(0.02)
    time.sleep(moments.uniform(0.0, 6.0 if soon else 0.5))
    process.kill()
    _, said = process.communicate()
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise KillTestError(f"the run ended with {process.returncode}:\n{said.decode()[-2000:]}")
    return _logged(out)


def _logged(out: Path) -> int:
    """Last step in the log of the one run below a folder."""
    for path in out.rglob(METRICS):
        records, _ = storage.read_json_lines(path)
        return int(records[-1]["step"]) if records else 0
    return 0


def traces(out: Path) -> dict[str, Any]:
    """Everything of the one finished run below a folder that must not depend on how it was made."""
    folder = next(out.rglob(RESULT)).parent
    result = RunResult.load(folder)
    checkpoint = load_checkpoint(folder / CHECKPOINTS, config_hash=None)
    return {
        "checkpoint": checkpoint.state["agent"],
        "checkpoint step": checkpoint.step,
        "files": {name: storage.sha256_file(folder / name) for name in FILES},
        "indicators": {name: vars(metric) for name, metric in result.metrics.items()},
        "curve": dict(result.curve),
        "eval_env_steps": result.budget.eval_env_steps,
        "run_id": result.run_id,
    }


def differences(mine: Any, theirs: Any, where: str = "") -> Iterator[str]:  # noqa: ANN401 - nested
    """Paths at which two nested structures are not the same, bit for bit."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        for key in sorted({*mine, *theirs}):
            path = f"{where}/{key}" if where else str(key)
            if key not in mine or key not in theirs:
                yield f"{path} is missing on one side"
            else:
                yield from differences(mine[key], theirs[key], path)
    elif isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        same = mine.dtype == theirs.dtype and mine.shape == theirs.shape
        if not same or mine.tobytes() != theirs.tobytes():
            yield where
    elif type(mine) is not type(theirs) or mine != theirs:
        yield where


def attempt(out: Path, whole: Mapping[str, Any], *, kills: int, seed: int) -> Attempt:
    """Kill a run some times, let it finish, and compare.

    Args:
        out: empty folder for the run.
        whole: `traces` of the uninterrupted run.
        kills: how often to kill.
        seed: of the moments.
    """
    moments = random.Random(seed)
    done = Attempt()
    for _ in range(kills):
        step = kill_somewhere(out, moments)
        if step is not None:
            done.killed_at.append(step)
    finish(out)
    done.differences = list(differences(traces(out), whole))
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        0 if all attempts ended in the same bits.
    """
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        finish(root / "whole")
        whole = traces(root / "whole")
        attempts: list[Attempt] = []
        for index in range(options.attempts):
            kills = 1 + index % options.kills
            attempts.append(attempt(root / str(index), whole, kills=kills, seed=index))
            state = "equal" if attempts[-1].equal else f"NOT equal: {attempts[-1].differences}"
            print(f"attempt {index}: killed at steps {attempts[-1].killed_at}, then {state}")
    equal = sum(one.equal for one in attempts)
    print(f"{equal} of {len(attempts)} killed runs ended in the bits of the uninterrupted one")
    storage.make_folder(options.output)
    storage.write_json(
        options.output / "resume.json",
        {
            "what": "C-MORL killed with SIGKILL at random moments and resumed, compared with an "
            "uninterrupted run: last checkpoint (parameters, optimiser, archive), metrics.jsonl, "
            "front.npz, episodes.npz, indicators, learning curve",
            "command": "python -m morl.experiments.bench.resume",
            "run": f"morl run {' '.join(WORDS)}",
            "seeds": list(range(options.attempts)),
            "equal": equal,
            "of": len(attempts),
            "attempts": [one.record() for one in attempts],
            "machine": machine(),
        },
    )
    print(f"written: {options.output / 'resume.json'}")
    return 0 if equal == len(attempts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.bench.resume", description=__doc__
    )
    parser.add_argument("--attempts", type=int, default=10, help="runs to kill")
    parser.add_argument("--kills", type=int, default=3, help="most kills of a run")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of resume.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
