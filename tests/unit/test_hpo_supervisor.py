"""Worker processes are watched, replaced when they die, and die with their supervisor."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cheap_studies import Runs, Started, space

from morl.hpo.study import open_study
from morl.hpo.supervisor import supervise
from morl.hpo.types import Progress, RaceConfig, StudyError, TrialsCrashError

ONLY_SEARCH = {"race": RaceConfig(top_k=0), "test_seeds": ()}


def test_two_workers_share_a_study_and_progress_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    config = Started(tmp_path / "s").config(workers=2)
    seen: list[Progress] = []
    run = Runs(seconds=0.05, log=log)
    assert supervise(
        config, space(), run, folder=tmp_path / "s", on_progress=seen.append, progress_every=0.1
    )
    study = open_study(config, space(), folder=tmp_path / "s")
    assert {trial.state for trial in study.trials()} == {"complete"}
    assert len(list(log.iterdir())) == 12 + 4 + 6
    assert {trial.worker.rpartition("/")[2] for trial in study.trials()} == {"0", "1"}
    assert seen[0].done == 0
    assert seen[-1].stage == "done"
    assert [one.runs_done for one in seen] == sorted(one.runs_done for one in seen)
    assert (tmp_path / "s" / "workers" / "worker_1.log").exists()


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_is_given_up_and_the_rest_is_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    config = Started(tmp_path).config(workers=1, n_trials=4, max_retries=1, **ONLY_SEARCH)
    run = Runs(log=log, kill=frozenset({1}))
    assert supervise(config, space(), run, folder=tmp_path / "s")
    study = open_study(config, space(), folder=tmp_path / "s")
    assert [trial.state for trial in study.trials()] == ["complete", "lost", "complete", "complete"]
    assert study.trials()[1].attempts == 2
    assert len(list(log.iterdir())) == 5


def test_workers_that_cannot_work_end_the_study(tmp_path: Path) -> None:
    config = Started(tmp_path).config(max_crashes=2)
    with pytest.raises(TrialsCrashError, match="2 trials ended in an error and none well"):
        supervise(config, space(), Runs(crash=frozenset(range(12))), folder=tmp_path)


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_study(tmp_path: Path) -> None:
    config = Started(tmp_path).config(max_retries=99)
    with pytest.raises(TrialsCrashError, match=r"die again and again, .* \(SIGKILL\)"):
        supervise(config, space(), Runs(kill=frozenset({0})), folder=tmp_path)


def test_a_run_that_another_process_could_not_find_is_refused(tmp_path: Path) -> None:
    config = Started(tmp_path).config()
    with pytest.raises(StudyError, match="cannot be sent to worker processes"):
        supervise(config, space(), lambda *_: None, folder=tmp_path)  # type: ignore[arg-type,return-value]


@dataclass
class StopAfter:
    seconds: float
    start: float | None = None

    def __call__(self) -> bool:
        self.start = self.start or time.monotonic()
        return time.monotonic() - self.start > self.seconds


@pytest.mark.slow
def test_a_stopped_study_leaves_nothing_running_and_goes_on(tmp_path: Path) -> None:
    config = Started(tmp_path).config(n_trials=6, **ONLY_SEARCH)
    run = Runs(seconds=1.5)
    assert not supervise(config, space(), run, folder=tmp_path, stop=StopAfter(3.0))
    study = open_study(config, space(), folder=tmp_path)
    states = [trial.state for trial in study.trials()]
    assert "running" not in states
    assert "waiting" in states
    assert supervise(config, space(), Runs(), folder=tmp_path)
    assert study.progress().stage == "done"


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {support!r})
from cheap_studies import Runs, Started, space
from morl.hpo.supervisor import supervise
if __name__ == "__main__":
    folder = Path({folder!r})
    config = Started(folder).config(n_trials=4)
    supervise(config, space(), Runs(seconds=60.0), folder=folder)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("finds the worker by /proc")
    support = str(Path(__file__).parents[1] / "support")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(support=support, folder=str(tmp_path)))
    process = subprocess.Popen([sys.executable, str(script)])
    study = open_study(Started(tmp_path).config(n_trials=4), space(), folder=tmp_path)
    until = time.monotonic() + 60.0
    while study.progress().running == 0:
        assert time.monotonic() < until
        time.sleep(0.1)
    [attempt] = study.ledger("search").attempts("0")
    worker = attempt.user_attrs["owner"]["pid"]
    process.kill()
    process.wait()
    while study.progress().running:
        study.ledger("search").reap()
        assert time.monotonic() < until
        time.sleep(0.1)
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
