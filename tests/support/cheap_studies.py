"""Studies whose runs cost nothing, for tests of what is around the runs."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morl.hpo.space import SearchSpace
from morl.hpo.types import RaceConfig, Report, StudyConfig, TrialOutcome, TrialRequest
from morl.search_space import searchable
from morl.types import NonFiniteError


@dataclass
class Knobs:
    """Settings with a best place: x = 0.3, n = 8, kind = "b"."""

    x: float = searchable(0.5, low=0.0, high=1.0)
    rate: float = searchable(1e-2, low=1e-4, high=1.0, log=True)
    n: int = searchable(4, low=1, high=16, log=True)
    kind: str = searchable("a", choices=("a", "b"))
    width: float = searchable(0.5, low=0.1, high=0.9, when={"kind": ("b",)})
    layers: tuple[int, ...] = (64, 64)
    batch: int = 256
    limit: float | None = None
    fixed: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.x <= 1.0:
            raise ValueError(f"x must be in [0, 1], got {self.x}")


def quality(settings: dict[str, Any], seed: int) -> float:
    """What a run with these settings finds: at most 100, and up to 6 by luck."""
    knobs = {"x": 0.5, "n": 4, "kind": "a", **settings}
    return float(
        100.0 - 100.0 * (knobs["x"] - 0.3) ** 2 - abs(knobs["n"] - 8) + 2.0 * (knobs["kind"] == "b")
        + seed % 7
    )  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """Does runs, and can fail in every way that runs fail.

    Attributes:
        seconds: that a run takes, spread over its evaluations.
        log: folder where every begun run leaves an empty file of its own.
        crash: trials that end in an error.
        diverge: trials that diverge.
        kill: trials whose process is killed at the first evaluation.
    """

    seconds: float = 0.0
    log: Path | None = None
    crash: frozenset[int] = frozenset()
    diverge: frozenset[int] = frozenset()
    kill: frozenset[int] = frozenset()

    def __call__(self, request: TrialRequest, report: Report) -> TrialOutcome:
        if self.log is not None:
            name = f"{request.stage}-{request.trial}-{request.seed}-{time.monotonic_ns()}"
            (self.log / name).touch()
        if request.trial in self.crash:
            raise RuntimeError(f"no luck with trial {request.trial}")
        if request.trial in self.diverge:
            raise NonFiniteError("loss is nan")
        value = quality(request.params, request.seed)
        curve = []
        for index in range(1, request.evaluations + 1):
            time.sleep(self.seconds / request.evaluations)
            step = request.budget * index // request.evaluations
            curve.append((step, value * index / request.evaluations))
            pruned = report(*curve[-1])
            if request.trial in self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if pruned:
                break
        return TrialOutcome(
            values={"hypervolume": value, "speed": -value},
            curve=curve,
            cost={"env_steps": curve[-1][0]},
            details={"folder": request.folder.name},
        )


def space(**overrides: Any) -> SearchSpace:
    return SearchSpace.of(Knobs(), overrides)


@dataclass
class Started:
    """Arguments of a small study; ``config(**changes)`` makes its settings."""

    folder: Path
    defaults: dict[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> StudyConfig:
        settings: dict[str, Any] = {
            "n_trials": 12, "budget": 300, "evaluations": 3, "sampler": "random", "pruner": "none",
            "race": RaceConfig(top_k=2, seeds=(10, 11)), "test_seeds": (20, 21, 22),
        }  # fmt: skip
        return StudyConfig(**{**settings, **self.defaults, **changes})
