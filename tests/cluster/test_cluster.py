"""`morl tune` on real schedulers and a real database, with a worker killed on the way.

Run by `make test-cluster`; what these tests need besides Python is in `docs/tuning.md`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import QUICK, Server, end, kill_a_worker, said, wait_until, worker_at_work

from morl import storage
from morl.result import RunResult

pytestmark = pytest.mark.cluster

Start = Callable[..., subprocess.Popen[bytes]]

TRIALS = 8
STUDY = ("steps=20000", f"hpo.n_trials={TRIALS}", "study=killed")


def finish(process: subprocess.Popen[bytes], folder: Path, *, seconds: float = 1200.0) -> None:
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        end(process)
        code = -1
    assert code == 0, said(folder)


def check(study: Path) -> dict[str, Any]:
    """Exactly the trials that were asked for, none twice, and all that belongs to a study."""
    trials = storage.read_json(study / "study.json")["trials"]
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    assert [trial["state"] for trial in trials] == ["complete"] * TRIALS
    sampled = [tuple(trial["sampled"].values()) for trial in trials]
    begun_again = [trial["number"] for trial in trials if trial["attempts"] > 1]
    for name in ("best.yaml", "trials.csv", "runs.csv", "study.html", "checklist.md", "study.json"):
        assert (study / name).exists()
    return {
        "trials": len(trials),
        "parameter_sets": len(set(sampled)),
        "begun_again": begun_again,
        "attempts": sum(trial["attempts"] for trial in trials),
        "workers": sorted({trial["worker"] for trial in trials}),
    }


@pytest.mark.parametrize("launcher", ["slurm", "ray_cluster"])
def test_a_launcher_s_study_is_whole_although_a_worker_is_killed(
    launcher: str,
    start: Start,
    tmp_path: Path,
    noted: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    server: Server = request.getfixturevalue(launcher)
    begun = time.monotonic()
    words = ["hydra.launcher.mem_gb=2"] if launcher == "slurm" else []
    process = start(
        "tune", "-m", *QUICK, *STUDY, "workers=3", f"hydra/launcher={launcher}", *words,
        environment=server.environment,
    )  # fmt: skip
    killed = kill_a_worker(process, tmp_path / "studies" / "killed")
    finish(process, tmp_path)
    found = check(tmp_path / "studies" / "killed")
    assert found["begun_again"], f"process {killed} was killed at no trial"
    seconds = round(time.monotonic() - begun, 1)
    noted[launcher] = server.facts | found | {"killed_workers": 1, "wall_s": seconds}


@pytest.mark.parametrize("launcher", ["slurm", "ray_cluster"])
def test_a_plain_sweep_with_a_launcher_skips_what_is_done_and_reports_failures(
    launcher: str,
    start: Start,
    tmp_path: Path,
    noted: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    server: Server = request.getfixturevalue(launcher)
    words = [
        "run", "-m", *QUICK[:5], "steps=2000", f"hydra/launcher={launcher}",
        *(["hydra.launcher.mem_gb=2"] if launcher == "slurm" else []),
    ]  # fmt: skip
    finish(start(*words, "seed=0,1", environment=server.environment), tmp_path)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert sorted(RunResult.load(path).seed for path in first) == [0, 1]
    finish(start(*words, "seed=0,1,2", environment=server.environment), tmp_path)
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(again) == 3
    assert first.items() <= again.items()
    failing = start(*words, "seed=3", "agent.policies=0", environment=server.environment)
    assert failing.wait(600) == 1
    assert "failed with exit code 1" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    noted[f"{launcher} sweep"] = {"runs": 3, "skipped": 2, "failure_reported": True}


def test_commands_in_two_folders_share_a_study_through_postgresql(
    postgres: Server, start: Start, tmp_path: Path, noted: dict[str, Any]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    words = ["tune", *QUICK, *STUDY, "workers=2", f"hpo.storage={postgres.address}"]
    begun = time.monotonic()
    first, second = start(*words, folder=here), start(*words, folder=there)
    kill_a_worker(first, here / "studies" / "killed")
    wait_until(
        lambda: worker_at_work(there / "studies" / "killed"), seconds=600, what="the other command"
    )
    os.killpg(second.pid, signal.SIGKILL)  # the command itself and the workers' supervision
    finish(first, here)
    found = check(here / "studies" / "killed")
    assert found["begun_again"]
    assert found["attempts"] <= TRIALS + 4
    finish(start(*words, folder=there), there)
    assert check(there / "studies" / "killed") == found
    noted["postgresql"] = postgres.facts | found | {
        "killed_workers": 1, "killed_commands": 1, "commands": 2,
        "wall_s": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def test_a_database_that_goes_away_is_one_message(
    start: Start, tmp_path: Path, postgres: Server
) -> None:
    gone = postgres.address.replace("/postgres", "/nothing")
    process = start("tune", *QUICK, *STUDY, f"hpo.storage={gone}")
    assert process.wait(300) == 1
    assert 'database "nothing" does not exist' in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
