"""A run that is killed, in whatever moment, ends in the same bits as one that is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import short_runs

from morl.experiments.run import CHECKPOINTS, run, run_folder

SUPPORT = Path(short_runs.__file__).parent
STEPS = 3000
SLEEP = 0.001
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SUPPORT)}


def config(out: Path) -> Any:
    return short_runs.config(out, steps=STEPS, env_sleep_s=SLEEP)


def start(out: Path) -> subprocess.Popen[bytes]:
    script = str(SUPPORT / "short_runs.py")
    return subprocess.Popen(
        [sys.executable, script, str(out), str(STEPS), str(SLEEP)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60.0
    while not path.exists():
        assert time.monotonic() < deadline, "the run did not begin"
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    undisturbed = config(tmp_path_factory.mktemp("whole"))
    run(undisturbed, say=lambda _: None)
    return short_runs.traces(undisturbed)


def killed_and_resumed(out: Path, *, kills: int, delays: random.Random) -> int:
    """Kill a run that often, then let it finish; returns how many kills met a living process."""
    met = 0
    for _ in range(kills):
        process = start(out)
        wait_for(run_folder(config(out)) / "config.yaml", process)
        time.sleep(delays.uniform(0.0, 0.6))
        process.kill()
        met += process.wait() == -signal.SIGKILL
        process.communicate()
    run(config(out), say=lambda _: None)
    return met


@pytest.mark.parametrize("attempt", range(2))
def test_a_run_killed_at_a_random_moment_ends_in_the_same_bits(
    attempt: int, tmp_path: Path, whole: dict[str, Any]
) -> None:
    met = killed_and_resumed(tmp_path, kills=2, delays=random.Random(attempt))
    assert met >= 1
    assert short_runs.traces(config(tmp_path)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_ten_of_ten_killed_runs_end_in_the_same_bits(
    attempt: int, tmp_path: Path, whole: dict[str, Any]
) -> None:
    killed_and_resumed(tmp_path, kills=3, delays=random.Random(100 + attempt))
    assert short_runs.traces(config(tmp_path)) == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_command_and_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    words = [
        "run", "env=levers-v0", "agent=random_search", "steps=1e6", f"out={tmp_path}",
        "sync_every=500", "env.kwargs.sleep_s=0.001",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "levers.py"), *words],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # Shells let background jobs ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = tmp_path / "levers-v0" / "random_search"
    deadline = time.monotonic() + 60.0
    while not list(folder.glob(f"*/{CHECKPOINTS}/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    # Seconds on an idle machine; the whole run would sleep for minutes.
    _, said = process.communicate(timeout=60.0)
    assert process.returncode == code
    assert "morl: interrupted, saved in" in said
    assert "the same command goes on from there:\n  morl run env=levers-v0" in said
    assert "Traceback" not in said
    assert "steps=1000000" in said.splitlines()[-1]


def test_a_second_signal_during_a_save_ends_the_process_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "import short_runs\n"
        "from morl.experiments import run as module\n"
        "def stuck(*_, **__):\n"
        "    print('saving', flush=True)\n"
        "    time.sleep(60)\n"
        "module.save_checkpoint = stuck\n"
        "module.run(short_runs.config(Path(sys.argv[1])))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "the first signal waits for the save"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143, "the second signal waits for nothing"
    process.communicate()
