"""Small boards of made-up runs on the levers, for tests and without any training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import levers
import numpy as np
import suite_workers

from morl.experiments.leaderboard.intake import Intake, add
from morl.experiments.leaderboard.ledger import Board, begin_board
from morl.experiments.leaderboard.rows import Row
from morl.experiments.measures import measure
from morl.experiments.suites import SuiteConfig, parse_suite
from morl.result import (
    AlgoRecord,
    BudgetRecord,
    EnvRecord,
    FrontRecord,
    ProtocolRecord,
    ResultArrays,
    RunResult,
    collect_provenance,
)
from morl.types import EnvSpec

FRONT = ((1.0, 4.0), (3.0, 3.0), (4.0, 1.0))
STEPS = 1200
CURVE = {"steps": (600.0, 1200.0), "hypervolume": (1.0, 2.0), "expected_utility": (0.5, 0.6)}


def suite(text: str = suite_workers.SUITE) -> SuiteConfig:
    return parse_suite("levers", text)


def spec() -> EnvSpec:
    return replace(levers.SPEC, discount=0.9)


def result(
    seed: int = 0,
    *,
    points: Sequence[Sequence[float]] = FRONT,
    spread: float = 0.1,
    name: str = "somebody",
    scale: float = 1.0,
    status: str = "completed",
    noise: float = 0.1,
    config: dict[str, Any] | None = None,
) -> RunResult:
    """A result that nothing contradicts: these points, four report episodes around each."""
    front = scale * np.asarray(points, dtype=np.float64).reshape(len(points), 2)
    offsets = spread * np.array([-1.5, -0.5, 0.5, 1.5])
    episodes = front[:, None, :] + offsets[None, :, None]
    if status != "completed":
        front, episodes = front[:0], episodes[:0]
    lengths = np.full(episodes.shape[:2], 5)
    arrays = ResultArrays(
        chosen=np.arange(len(front)),
        selection_discounted=episodes,
        selection_undiscounted=2 * episodes,
        selection_lengths=lengths,
        report_discounted=episodes,
        report_undiscounted=2 * episodes,
        report_lengths=lengths,
        preferences=np.zeros((len(front), 2)),
        has_preference=np.zeros(len(front), np.bool_),
    )
    settings = {
        "agent": {"name": name, "hidden": [8]},
        "env": {
            "id": levers.SPEC.id, "kwargs": {"noise": noise}, "discount": 0.9, "horizon": 20,
            "reference_point": [-0.5, -0.5], "box_low": [0.0, 0.0], "box_high": [8.0, 8.0],
        },
        "seed": seed, "steps": STEPS, "selection_episodes": 4, "report_episodes": 4,
        **(config or {}),
    }  # fmt: skip
    return RunResult(
        algo=AlgoRecord(name=name, version="1", entry_point=f"plugin:{name}"),
        env=EnvRecord(
            id=levers.SPEC.id, package="morl-suite", version="0.1.0", kwargs={"noise": noise},
            max_steps=levers.HORIZON,
        ),
        protocol=ProtocolRecord(
            id="morl-discounted/1", discount=0.9, reference_point=(-0.5, -0.5),
            objectives=("speed", "thrift"), box_low=(0.0, 0.0), box_high=(8.0, 8.0),
            selection_episodes=4, report_episodes=4,
        ),
        seed=seed,
        config=settings,
        budget=BudgetRecord(env_steps=STEPS, eval_env_steps=500, wall_s=3.0, cpu_s=2.0),
        front=FrontRecord(num_candidates=len(front), num_unique=len(front), num_outside=0),
        metrics=measure(episodes, spec()) if len(front) else {},
        curve=CURVE,
        provenance=collect_provenance(settings),
        arrays=arrays,
        status=status,
    )  # fmt: skip


def saved(folder: Path, *results: RunResult) -> Path:
    """Results in folders of their own, each with a log of its time."""
    for number, each in enumerate(results):
        run = folder / f"{each.algo.name}-{each.seed}-{number}"
        each.save(run)
        ticks = [{"step": 600, "time/wall_s": 1.0}, {"step": 1200, "time/wall_s": 2.5}]
        (run / "timings.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    return folder


TWO_TASKS = suite_workers.SUITE.replace(
    "agents:\n",
    """\
  - id: levers-v0
    name: noisy levers
    kwargs: {noise: 0.2}
    discount: 0.9
    horizon: 20
    reference_point: [-0.5, -0.5]
    box_low: [0, 0]
    box_high: [8, 8]
    steps: 1200
    selection_episodes: 4
    report_episodes: 4
agents:
""",
)


def board(
    folder: Path,
    *results: RunResult,
    entry: str | None = None,
    text: str = suite_workers.SUITE,
) -> Board:
    """A board that holds these results."""
    made = begin_board(folder / "board", suite(text))
    if results:
        found = added(made, saved(folder / "runs", *results), entry=entry)
        assert not found.refused, found.refused
    return made


def added(to: Board, *paths: Path, **options: Any) -> Intake:
    return add(to, paths, say=lambda _: None, **options)


def seeds(count: int, **changes: Any) -> list[RunResult]:
    """Runs whose fronts grow a little with every seed."""
    return [result(seed, scale=1.0 + 0.01 * seed, **changes) for seed in range(count)]


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content, indent=1, sort_keys=True))


def row(
    value: float = 1.0,
    *,
    task: str = "levers-v0",
    entry: str = "somebody",
    seed: int = 0,
    failed: bool = False,
    normalised: float = 0.2,
) -> Row:
    """A row of a table without any files behind it."""
    metrics = {"hypervolume": (value, 0.1), "hypervolume_normalised": (normalised, None)}
    return Row(
        run_id=hashlib.sha256(f"{task} {entry} {seed}".encode()).hexdigest(),
        task=task,
        entry=entry,
        seed=seed,
        status="failed: it happens" if failed else "completed",
        metrics={} if failed else metrics,
        curve={"steps": [], "hypervolume": [], "expected_utility": []},
        clock=None,
        points=[] if failed else [[value, value]],
        errors=[] if failed else [[0.1, 0.1]],
        undiscounted=[] if failed else [[2 * value, 2 * value]],
        record={},
    )


def rows(values: Sequence[float], **changes: Any) -> list[Row]:
    """One row a value, seeds from 0."""
    return [row(value, seed=seed, **changes) for seed, value in enumerate(values)]
