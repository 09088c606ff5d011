"""Training speed of stage one of C-MORL, end to end, against morl-baselines' PGMORL.

Both sides train six policies by PPO with the same networks, rollouts, epochs and minibatches, each
in a process of its own, at one thread; they take turns. The incumbent needs an environment of its
own, see ``make bench-incumbent``; its interpreter is handed over by ``--incumbent``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from morl.experiments.bench.measurement import interleave, table, write_report
from morl.storage import parse_json
from morl.types import MorlError

INCUMBENT_SCRIPT = Path(__file__).with_name("incumbent_moppo.py")
TARGET = 4.0

NO_INCUMBENT = (
    "no incumbent was measured, so there is no ratio: `make bench-incumbent` installs "
    "morl-baselines in an environment of its own (needs a C compiler and the headers of GMP), "
    "`make bench` uses it from then on"
)


class WorkerError(MorlError):
    """A process that should have measured ended instead."""


@dataclass(frozen=True)
class Settings:
    """One training, told alike to both sides.

    Attributes:
        env_id: environment of MO-Gymnasium.
        objectives: of the environment.
        policies: trained at once.
        num_envs: environments of each policy.
        rollout_steps: steps in each of them between updates.
        epochs: passes over a rollout.
        minibatch: transitions of a gradient step of one policy.
        discount: of the returns.
        seed: root of the random streams.
        rounds: updates of ours in one measurement, an evaluation for the archive at their end; the
            incumbent makes one update.
    """

    env_id: str
    objectives: int
    policies: int = 6
    num_envs: int = 4
    rollout_steps: int = 256
    epochs: int = 10
    minibatch: int = 256
    discount: float = 0.99
    seed: int = 0
    rounds: int = 10


HOPPER = Settings("mo-hopper-2obj-v5", objectives=2)
MINECART = Settings("minecart-v0", objectives=3, discount=0.98)


class Worker:
    """A process that trains a little whenever it is asked to.

    Args:
        command: how to start it; it says on standard output that it is ready.
    """

    def __init__(self, command: Sequence[str]) -> None:
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            "WANDB_MODE": "disabled",
        }
        self._command = command
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.about = self._answer()

    def __enter__(self) -> Worker:
        """Nothing to do: the process is ready."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def cost(self) -> float:
        """Train a little; CPU seconds of an environment step."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        return float(answer["cpu_s"] / answer["steps"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise WorkerError(
                f"{self._command[0]} {self._command[1]} ended with exit code "
                f"{self._process.returncode}:\n{said[-2000:]}"
            )
        answer: dict[str, Any] = parse_json(line.encode())
        return answer


def our_worker(settings: Settings) -> Worker:
    """C-MORL in a process of its own."""
    return Worker([sys.executable, "-m", __name__, json.dumps(asdict(settings))])


def their_worker(settings: Settings, python: Path) -> Worker:
    """PGMORL's population under another interpreter."""
    return Worker([str(python), str(INCUMBENT_SCRIPT), json.dumps(asdict(settings))])


def train_on_request(settings: Settings) -> None:
    """The process behind `our_worker`: answers every line with steps and CPU seconds."""
    from morl.agents import c_morl
    from morl.envs import make_task
    from morl.experiments.bench.measurement import single_thread

    divisions = {2: 5, 3: 2}[settings.objectives]
    config = c_morl.Config(
        preference_divisions=divisions,
        num_envs=settings.num_envs,
        rollout_steps=settings.rollout_steps,
        epochs=settings.epochs,
        minibatch=settings.minibatch,
        initial_fraction=1.0,
    )
    task = make_task(settings.env_id, discount=settings.discount)
    update = settings.policies * settings.num_envs * settings.rollout_steps
    with single_thread():
        agent = c_morl.CMORL(task, config, total_steps=10**12, seed=settings.seed)
        print(json.dumps({"ready": settings.env_id}), flush=True)
        updates = 0.0
        for _ in sys.stdin:
            start = time.process_time()
            total = agent.learn(settings.rounds * update)["train/updates"]
            spent = time.process_time() - start
            # Steps of evaluations need no gradients: they cost time here, but do not count.
            print(json.dumps({"steps": (total - updates) * update, "cpu_s": spent}), flush=True)
            updates = total


def measure(
    settings: Settings, *, incumbent: Path | None, pairs: int, target: float | None
) -> dict[str, Any]:
    """Environment steps a CPU-second of both sides, or of ours alone.

    Args:
        settings: what to train.
        incumbent: interpreter with morl-baselines, or None.
        pairs: interleaved measurements.
        target: ratio to be reached, if any.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(our_worker(settings))
        if incumbent is None:
            cost = interleave(ours.cost, lambda: 1.0, pairs=pairs)
            figures = cost.record(per_second=True)
            row = {"ours_per_cpu_second": figures["ours_per_cpu_second"], "pairs": pairs}
            return {**_nothing_to_compare(), **row, "settings": asdict(settings)}
        theirs = stack.enter_context(their_worker(settings, incumbent))
        row = interleave(ours.cost, theirs.cost, pairs=pairs).record(per_second=True)
        met = None if target is None else row["ratio"] >= target
        return {
            **row,
            "target": target,
            "met": met,
            "incumbent_packages": theirs.about["packages"],
            "settings": asdict(settings),
        }


def _nothing_to_compare() -> dict[str, Any]:
    keys = ("theirs_per_cpu_second", "ratio", "ratio_lowest", "ratio_highest", "target", "met")
    return dict.fromkeys(keys)


def main(
    *, incumbent: Path | None = None, pairs: int = 5, output: Path | None = None
) -> dict[str, Any]:
    """Measure, print, and write ``end_to_end.json``.

    Args:
        incumbent: interpreter with morl-baselines, or None.
        pairs: interleaved measurements of each environment.
        output: folder of the record, or None.
    """
    hopper = measure(HOPPER, incumbent=incumbent, pairs=pairs, target=TARGET)
    minecart = measure(MINECART, incumbent=None, pairs=pairs, target=None)
    rows = {
        "mo-hopper-2obj-v5": hopper if incumbent else {**hopper, "note": NO_INCUMBENT},
        "minecart-v0": {
            **minecart,
            "note": "ours alone: PGMORL and its MOPPO take continuous actions only",
        },
    }
    report = write_report(
        "end_to_end",
        {
            "what": "environment steps a CPU-second of C-MORL's stage one, the evaluations for its "
            "archive included, against the training of PGMORL's population without evaluations",
            "incumbent": "morl-baselines 1.3.0, PGMORL (MOPPO)",
            "environments": rows,
        },
        command="python -m morl.experiments.bench --only end_to_end --incumbent PYTHON",
        output=output,
    )
    _print(rows)
    return report


def _print(rows: dict[str, dict[str, Any]]) -> None:
    shown = ("ours_per_cpu_second", "theirs_per_cpu_second", "ratio", "ratio_lowest",
             "ratio_highest", "pairs", "target", "met")  # fmt: skip
    print("\nTraining, end to end: environment steps a CPU-second")
    print(table([{"environment": name} | {k: row[k] for k in shown} for name, row in rows.items()]))
    for name, row in rows.items():
        if "note" in row:
            print(f"{name}: {row['note']}")


if __name__ == "__main__":
    train_on_request(Settings(**json.loads(sys.argv[1])))
