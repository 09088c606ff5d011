"""What the leaderboard promises, measured: writers that are killed, large boards, intervals.

``python -m morl.experiments.bench.leaderboard`` makes records up, as nothing needs to be trained
to count, draw and test them, and writes ``leaderboard.json``. With ``--board`` it also builds a
real board, and with Chromium loads its first page.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl import stats, storage
from morl.envs import make_task
from morl.experiments.bench.measurement import RESULTS, single_thread, write_report
from morl.experiments.leaderboard.intake import front_for_display, variant_of
from morl.experiments.leaderboard.ledger import Board, begin_board, open_board, sealed
from morl.experiments.leaderboard.site import build_site
from morl.experiments.measures import measure
from morl.experiments.suites import load_suite
from morl.result import (
    EPISODES_FILE,
    FRONT_FILE,
    RESULT_FILE,
    AlgoRecord,
    BudgetRecord,
    EnvRecord,
    FrontRecord,
    ProtocolRecord,
    ResultArrays,
    RunResult,
    collect_provenance,
)

COMMAND = "python -m morl.experiments.bench.leaderboard"
SUITE = "discrete"
SEEDS = 10

WRITERS, LINES, KILLED = 16, 1000, 4
RECORDS, CORRUPT_SHARE = 10_000, 0.01
STUDIES, STUDY_RESAMPLES = 2_000, 1_000

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]

SCORES: Mapping[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    # The interquartile mean of an exponential: between its quartiles x1 and x2, x has the mean
    # 2 * ((x1 + 1) exp(-x1) - (x2 + 1) exp(-x2)).
    "skewed": (
        lambda rng, shape: rng.exponential(size=shape),
        2 * ((np.log(4 / 3) + 1) * 0.75 - (np.log(4) + 1) * 0.25),
    ),
}
"""What runs are drawn from, and the interquartile mean of that."""


# Made-up records


def template(board: Board, name: str) -> RunResult:
    """A result of a task: some points of its known front, four episodes of noise."""
    task = board.tasks[name]
    rng = np.random.default_rng(0)
    front = np.asarray(task["known_front"]["points"])[:8]
    noise = 0.01 * rng.normal(size=(len(front), 4, front.shape[1]))
    episodes = front[:, None, :] + noise
    lengths = np.full(episodes.shape[:2], 5)
    arrays = ResultArrays(
        chosen=np.arange(len(front)),
        selection_discounted=episodes,
        selection_undiscounted=episodes,
        selection_lengths=lengths,
        report_discounted=episodes,
        report_undiscounted=episodes,
        report_lengths=lengths,
        preferences=np.zeros_like(front),
        has_preference=np.zeros(len(front), np.bool_),
    )
    config = {
        "agent": {"name": "made_up", "hidden": [64, 64], "learning_rate": 1e-3},
        "env": {"id": task["id"], "kwargs": task["kwargs"]},
        "seed": 0, "steps": task["steps"], "selection_episodes": task["selection_episodes"],
        "report_episodes": task["report_episodes"],
    }  # fmt: skip
    points = np.linspace(0.1, 1.0, 10)
    curve = {
        "steps": tuple((task["steps"] * points).round().tolist()),
        "hypervolume": tuple(points.tolist()),
        "expected_utility": tuple(points.tolist()),
    }
    box = (task["box_low"], task["box_high"])
    spec = make_task(task["id"], kwargs=task["kwargs"], box=box).spec
    return RunResult(
        algo=AlgoRecord(name="made_up", version="1", entry_point="nowhere:MadeUp"),
        env=EnvRecord(
            id=task["id"], package=task["package"], version=task["package_version"],
            kwargs=task["kwargs"], max_steps=task["horizon"],
        ),
        protocol=ProtocolRecord(
            id=task["protocol"], discount=task["discount"],
            reference_point=tuple(map(float, task["reference_point"])),
            objectives=tuple(name for name, _ in task["objectives"]),
            box_low=tuple(box[0]), box_high=tuple(box[1]),
            selection_episodes=task["selection_episodes"],
            report_episodes=task["report_episodes"],
        ),
        seed=0,
        config=config,
        budget=BudgetRecord(env_steps=task["steps"], eval_env_steps=1000, wall_s=60.0, cpu_s=55.0),
        front=FrontRecord(num_candidates=len(front), num_unique=len(front), num_outside=0),
        metrics=measure(episodes, spec),
        curve=curve,
        provenance=collect_provenance(config),
        arrays=arrays,
    )  # fmt: skip


def made_up_lines(board: Board, records: int, rng: random.Random) -> Iterator[bytes]:
    """Lines of a ledger, and the files behind them, of agents of slightly different quality."""
    bases = {name: _base(board, name) for name in board.tasks}
    agents = -(-records // (len(bases) * SEEDS))
    made = 0
    for agent in range(agents):
        for name, (content, files) in bases.items():
            for seed in range(SEEDS):
                if made == records:
                    return
                yield _line(board, content, files, f"{name} {agent}", agent, seed, rng)
                made += 1


def _base(board: Board, name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    result = template(board, name)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder))
        names = (RESULT_FILE, FRONT_FILE, EPISODES_FILE)
        files = {file: (Path(folder) / file).read_bytes() for file in names}
    content = {
        "task": name,
        "variant": variant_of(result.config),
        "record": json.loads(files[RESULT_FILE]),
        "front": front_for_display(result),
        "clock": np.linspace(6.0, 60.0, 10).tolist(),
    }
    return content, files


def _line(
    board: Board,
    base: Mapping[str, Any],
    files: Mapping[str, bytes],
    identity: str,
    agent: int,
    seed: int,
    rng: random.Random,
) -> bytes:
    content = copy.deepcopy(dict(base))
    record = content["record"]
    record["seed"] = record["config"]["seed"] = seed
    factor = rng.gauss(1.0 + 0.002 * agent, 0.05)
    for metric in record["metrics"].values():
        metric["value"] *= factor
    record["curve"]["hypervolume"] = [value * factor for value in record["curve"]["hypervolume"]]
    data = {**files, RESULT_FILE: storage.json_bytes(record)}
    content |= {
        "run_id": hashlib.sha256(f"{identity} {seed}".encode()).hexdigest(),
        "entry": f"agent {agent:03d}",
        "files": {
            name: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
            for name, text in data.items()
        },
    }
    folder = board.run_folder(content["run_id"], content["files"][RESULT_FILE]["sha256"])
    folder.mkdir(parents=True)
    for name, text in data.items():
        (folder / name).write_bytes(text)  # no waiting for the disk: nothing of it is kept
    return sealed("run", content)


def corrupted(line: bytes, kind: int) -> bytes:
    """A line that must not be shown: torn, altered, not JSON, or of another protocol."""
    if kind == 0:
        return line[: len(line) // 2]
    if kind == 1:
        return line.replace(b'"seed":', b'"seed": ', 1)
    if kind == 2:
        return line.replace(b'"discount":0.9', b'"discount":NaN,"x":0.9', 1)
    content = json.loads(line)
    content["record"]["protocol"]["discount"] = 0.5
    return sealed(
        "run", {k: v for k, v in content.items() if k not in ("digest", "kind", "schema")}
    )


def large_board(records: int = RECORDS) -> dict[str, Any]:
    """Build the pages of a board of many records, one in a hundred of them corrupt."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, single_thread():
        board = begin_board(Path(folder) / "board", load_suite(SUITE))
        lines = list(made_up_lines(board, records, rng))
        bad = sorted(rng.sample(range(records), round(CORRUPT_SHARE * records)))
        for number, place in enumerate(bad):
            lines[place] = corrupted(lines[place], number % 4)
        board.ledger_file.write_bytes(b"\n".join(lines) + b"\n")
        wall, cpu = time.perf_counter(), time.process_time()
        built = build_site(board, Path(folder) / "site")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {
            "records": records,
            "corrupt": len(bad),
            "shown": built.runs,
            "refused_with_reason": len(built.refused),
            "torn": built.torn,
            "rows": built.rows,
            "wall_s": round(wall, 1),
            "cpu_s": round(cpu, 1),
            "site_mb": round(built.size / 1e6, 1),
        }


# Writers


def killed_writers(
    writers: int = WRITERS, lines: int = LINES, killed: int = KILLED
) -> dict[str, Any]:
    """Let many processes append, kill some of them, and count what was acknowledged."""
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        board = begin_board(Path(name) / "board", load_suite(SUITE))
        start = multiprocessing.get_context("fork")
        team = [
            start.Process(target=_write, args=(board.folder, writer, lines))
            for writer in range(writers)
        ]
        begin = time.perf_counter()
        for process in team:
            process.start()
        for process in moments.sample(team, killed):
            time.sleep(moments.uniform(0.05, 0.5))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        for process in team:
            process.join()
        wall = time.perf_counter() - begin
        ledger = board.read()
        found = {(line.content["writer"], line.content["number"]) for line in ledger.lines}
        acknowledged = {
            (writer, int(number))
            for writer in range(writers)
            for number in (board.folder / f"acknowledged-{writer}").read_bytes().split()
        }
        return {
            "writers": writers,
            "lines_each": lines,
            "killed": sum(process.exitcode == -signal.SIGKILL for process in team),
            "acknowledged": len(acknowledged),
            "acknowledged_and_lost": len(acknowledged - found),
            "in_the_ledger": len(found),
            "torn": ledger.torn,
            "refused": len(ledger.refused),
            "wall_s": round(wall, 1),
        }


def _write(folder: Path, writer: int, lines: int) -> None:
    """Append lines of the size of a record; note each in a file of one's own once it is there."""
    board = open_board(folder)
    with (folder / f"acknowledged-{writer}").open("ab", buffering=0) as acknowledged:
        for number in range(lines):
            board.append("run", {"writer": writer, "number": number, "padding": "x" * 6000})
            acknowledged.write(b"%d\n" % number)


# Intervals


def bootstrap_speed(resamples: int = 50_000, runs: int = 10, tasks: int = 8) -> dict[str, Any]:
    """Time of one interval over several tasks."""
    scores = np.random.default_rng(0).normal(size=(runs, tasks))
    stats.bootstrap(scores, rng=np.random.default_rng(1), num_resamples=100, method="expanded")
    wall, cpu = time.perf_counter(), time.process_time()
    with single_thread():
        stats.bootstrap(
            scores, rng=np.random.default_rng(1), num_resamples=resamples, method="expanded"
        )
    return {
        "resamples": resamples, "runs": runs, "tasks": tasks,
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }  # fmt: skip


def coverage(studies: int = STUDIES) -> list[dict[str, Any]]:
    """How often the 95 % intervals of the tables hold the truth, in made-up studies."""
    one = [_coverage_of_one_task(name, runs, studies) for runs in (3, 5, 10, 20) for name in SCORES]
    eight = [_coverage_of_tasks(name, runs, 8, studies) for runs in (5, 10) for name in SCORES]
    return [*one, *eight]


def _coverage_of_one_task(name: str, runs: int, studies: int) -> dict[str, Any]:
    draw, truth = SCORES[name]
    rng = np.random.default_rng(runs)
    table = draw(rng, (studies, runs))
    intervals = stats.iqm_intervals(table, rng=rng, num_resamples=5 * STUDY_RESAMPLES)
    return _coverage_row(name, runs, 1, truth, intervals)


def _coverage_of_tasks(name: str, runs: int, tasks: int, studies: int) -> dict[str, Any]:
    draw, truth = SCORES[name]
    rng = np.random.default_rng(100 * tasks + runs)
    intervals = [
        stats.bootstrap(
            draw(rng, (runs, tasks)), rng=rng, num_resamples=STUDY_RESAMPLES, method="expanded"
        )
        for _ in range(studies)
    ]
    return _coverage_row(name, runs, tasks, truth, intervals)


def _coverage_row(
    name: str, runs: int, tasks: int, truth: float, intervals: Sequence[stats.Interval]
) -> dict[str, Any]:
    inside = [interval.low <= truth <= interval.high for interval in intervals]
    share = round(float(np.mean(inside)), 4)
    return {
        "scores": name, "runs": runs, "tasks": tasks, "studies": len(inside), "coverage": share,
    }  # fmt: skip


# A real board in a browser


def real_board(folder: Path) -> dict[str, Any]:
    """Size of a board's pages, and how long Chromium takes to make the first one usable."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "site"
        built = build_site(open_board(folder), site)
        report = {
            "runs": built.runs,
            "refused": len(built.refused),
            "site_mb": round(built.size / 1e6, 2),
            "first_page_kb": round((site / "index.html").stat().st_size / 1e3, 1),
        }
        browser = shutil.which("chromium")
        return report | ({} if browser is None else _first_page(browser, site))


def _first_page(browser: str, site: Path) -> dict[str, Any]:
    """Seconds from the request to the end of scripts, median of five loads."""
    page = site / "timed.html"
    script = (
        'addEventListener("load", () => { const pre = document.createElement("pre"); '
        "pre.id = 'timed'; pre.textContent = performance.now(); document.body.append(pre); });"
    )
    (site / "assets" / "timed.js").write_text(script)
    text = (site / "index.html").read_text("utf-8")
    page.write_text(text.replace("</head>", '<script src="assets/timed.js"></script></head>'))
    seconds = []
    for number in range(5):
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                f"--user-data-dir={site.parent / f'profile-{number}'}", "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        found = re.search(r'<pre id="timed">([\d.]+)</pre>', done.stdout)
        if found:
            seconds.append(float(found[1]) / 1e3)
    return {
        "interactive_s": round(float(np.median(seconds)), 3),
        "interactive_s_slowest": round(max(seconds), 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--board", type=Path, help="also build this board and load its first page")
    parser.add_argument("--output", type=Path, default=RESULTS / "bench")
    options = parser.parse_args(arguments)
    parts: dict[str, Callable[[], Any]] = {
        "bootstrap": bootstrap_speed,
        "coverage_of_95_percent": coverage,
        "killed_writers": killed_writers,
        "large_board": large_board,
    }
    if options.board is not None:
        parts["real_board"] = partial(real_board, options.board)
    record: dict[str, Any] = {}
    for name, measured in parts.items():
        record[name] = measured()
        print(f"{name}: {json.dumps(record[name])}", flush=True)
    write_report("leaderboard", record, command=COMMAND, output=options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
