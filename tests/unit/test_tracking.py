"""Where readings go, and what happens if they cannot."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from disk_faults import faulty_disk

from morl import storage
from morl.storage import StorageError
from morl.tracking import (
    CompositeTracker,
    JsonlTracker,
    TensorBoardTracker,
    Tracker,
    TrackerError,
    WandbTracker,
)
from morl.types import Metrics, NonFiniteError


class ListTracker:
    """Keeps what it gets; may fail."""

    def __init__(self, fail_on: str = "") -> None:
        self.readings: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        self.fail_on = fail_on
        if fail_on == "make":
            raise RuntimeError("no network")

    def log(self, metrics: Metrics, *, step: int) -> None:
        if self.fail_on == "log":
            raise OSError("broken pipe")
        self.readings.append((step, dict(metrics)))

    def close(self) -> None:
        self.closed += 1
        if self.fail_on == "close":
            raise RuntimeError("upload failed")


# JSON lines ----------------------------------------------------------------------------------


def test_a_reading_is_one_line_with_sorted_keys(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "new" / "metrics.jsonl")
    tracker.log({"train/loss": 0.1, "a": np.float32(0.5), "z": np.int64(3)}, step=np.int64(7))
    tracker.log({}, step=8)
    tracker.sync()
    tracker.close()
    assert tracker.path.read_bytes() == b'{"a":0.5,"step":7,"train/loss":0.1,"z":3}\n{"step":8}\n'


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("-inf")])
def test_what_is_not_finite_is_refused_naming_metric_and_step(tmp_path: Path, bad: float) -> None:
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    with pytest.raises(NonFiniteError, match=r"metric 'train/loss' is (nan|inf|-inf) at step 12"):
        tracker.log({"a": 1.0, "train/loss": bad}, step=12)
    assert not tracker.path.exists()


def test_a_metric_called_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='must not be called "step"'):
        JsonlTracker(tmp_path / "metrics.jsonl").log({"step": 1.0}, step=1)


def test_a_resumed_file_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = JsonlTracker(tmp_path / "whole.jsonl")
    for step in range(6):
        whole.log({"loss": 1 / (step + 1)}, step=step)
    resumed = JsonlTracker(tmp_path / "resumed.jsonl")
    for step in range(5):  # died after step 4, while it wrote another line
        resumed.log({"loss": 1 / (step + 1)}, step=step)
    with resumed.path.open("ab") as file:
        file.write(b'{"loss":0.16')
    assert resumed.truncate_after(3) == 2
    for step in (4, 5):
        resumed.log({"loss": 1 / (step + 1)}, step=step)
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_truncation_keeps_readings_of_the_step_itself_and_drops_what_has_none(
    tmp_path: Path,
) -> None:
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.path.write_bytes(b'{"step":1}\n\n{"step":2}\nnull\n{"a":1}\n{"step":3}\n{"step":2}')
    assert tracker.truncate_after(2) == 3
    assert tracker.path.read_bytes() == b'{"step":1}\n{"step":2}\n{"step":2}\n'
    assert tracker.truncate_after(-1) == 3
    assert tracker.path.read_bytes() == b""


def test_truncating_a_file_that_was_never_written_does_nothing(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.sync()
    assert tracker.truncate_after(0) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_truncation_that_meets_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        tracker.log({}, step=step)
    before = tracker.path.read_bytes()
    with faulty_disk(0), pytest.raises(StorageError, match="disk is full"):
        tracker.truncate_after(1)
    assert tracker.path.read_bytes() == before
    with faulty_disk(0), pytest.raises(StorageError, match="disk is full"):
        tracker.sync()


# Composite -----------------------------------------------------------------------------------


def test_every_tracker_gets_every_reading_and_is_closed() -> None:
    primary, sink = ListTracker(), ListTracker()
    tracker = CompositeTracker(primary, sinks={"sink": lambda: sink})
    tracker.log({"a": 1.0}, step=1)
    tracker.log({"a": 2.0}, step=2)
    tracker.close()
    for part in (primary, sink):
        assert part.readings == [(1, {"a": 1.0}), (2, {"a": 2.0})]
        assert part.closed == 1


@pytest.mark.parametrize(
    ("fail_on", "message"),
    [
        ("make", "tracking by broken stops, the run goes on: RuntimeError: no network"),
        ("log", "tracking by broken stops, the run goes on: OSError: broken pipe"),
        ("close", "tracking by broken stops, the run goes on: RuntimeError: upload failed"),
    ],
)
def test_a_sink_that_fails_is_named_once_and_stops_nothing(fail_on: str, message: str) -> None:
    primary, other = ListTracker(), ListTracker()
    sinks: dict[str, Callable[[], Tracker]] = {
        "broken": lambda: ListTracker(fail_on),
        "other": lambda: other,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker = CompositeTracker(primary, sinks=sinks)
        for step in range(3):
            tracker.log({"a": 1.0}, step=step)
        if fail_on != "close":
            assert tracker.sinks == ("other",)
        tracker.close()
    assert [str(warning.message) for warning in caught] == [message]
    assert len(primary.readings) == len(other.readings) == 3
    assert primary.closed == other.closed == 1


def test_the_errors_of_the_primary_tracker_are_the_callers() -> None:
    with pytest.raises(OSError, match="broken pipe"):
        CompositeTracker(ListTracker("log")).log({}, step=0)
    with pytest.raises(RuntimeError, match="upload failed"):
        CompositeTracker(ListTracker("close")).close()


def test_closing_twice_does_no_harm() -> None:
    sink = ListTracker()
    tracker = CompositeTracker(ListTracker(), sinks={"sink": lambda: sink})
    tracker.close()
    tracker.close()
    assert sink.closed == 1


# Sinks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "module", "message"),
    [
        (
            lambda folder: TensorBoardTracker(folder),
            "torch.utils.tensorboard",
            r"pip install 'morl-suite\[tensorboard\]'",
        ),
        (
            lambda folder: WandbTracker(folder, project="p", name="n", config={}),
            "wandb",
            "pip install wandb",
        ),
    ],
)
def test_a_sink_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Tracker],
    module: str,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrackerError, match=message):
        make(tmp_path)


def test_wandb_works_offline_without_an_account_and_keeps_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")  # the caller's word counts, not this
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    tracker = WandbTracker(
        tmp_path / "run", project="p", name="n", config={"seed": 3}, run_id="0123abcd"
    )
    tracker.log({"eval/hypervolume": np.float64(1.5)}, step=10)
    with pytest.raises(NonFiniteError, match="step 11"):
        tracker.log({"eval/hypervolume": float("nan")}, step=11)
    tracker.close()
    tracker.close()
    [record] = (tmp_path / "run").glob("wandb/offline-run-*-0123abcd/run-0123abcd.wandb")
    deadline = time.monotonic() + 20
    while b"eval/hypervolume" not in record.read_bytes():  # wandb's own process writes it
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert capfd.readouterr() == ("", "")


def test_wandb_online_without_an_account_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(wandb, "api", type("Api", (), {"api_key": None})())
    with pytest.raises(TrackerError, match="`wandb login`, or mode=offline"):
        WandbTracker(tmp_path, project="p", name="n", config={}, mode="online")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard.*")
def test_tensorboard_writes_scalars_and_hides_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorBoardTracker(tmp_path)
    for step in (1, 2, 3):
        first.log({"a": float(step)}, step=step)
    first.close()
    resumed = TensorBoardTracker(tmp_path, resumed_at=2)
    resumed.log({"a": 30.0}, step=3)
    resumed.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [
        (1, 1.0), (2, 2.0), (3, 30.0),
    ]  # fmt: skip


def test_a_composite_survives_a_wandb_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")

    def broken(**_: object) -> None:
        raise wandb.errors.CommError("the service process died")

    monkeypatch.setattr(wandb, "init", broken)
    with pytest.warns(UserWarning, match=r"tracking by wandb stops.*the service process died"):
        tracker = CompositeTracker(
            JsonlTracker(tmp_path / "metrics.jsonl"),
            sinks={"wandb": lambda: WandbTracker(tmp_path, project="p", name="n", config={})},
        )
    tracker.log({"a": 1.0}, step=1)
    tracker.close()
    assert storage.read_json_lines(tmp_path / "metrics.jsonl") == ([{"a": 1.0, "step": 1}], 0)
