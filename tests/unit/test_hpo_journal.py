"""The journal survives writers that die half-way, and damage is told from a torn tail."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from morl.hpo.journal import SturdyJournal, locked
from morl.hpo.storage import open_storage, patiently, resolve, shown
from morl.hpo.types import StudyStorageError
from morl.types import MorlError

RECORD = {"op_code": 4, "worker_id": "w"}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    journal = SturdyJournal(tmp_path / "deep" / "j")
    journal.append_logs([RECORD, {**RECORD, "op_code": 8}])
    assert list(journal.read_logs(0)) == [RECORD, {**RECORD, "op_code": 8}]
    assert list(journal.read_logs(1)) == [{**RECORD, "op_code": 8}]


@pytest.mark.parametrize("torn", [b'{"op_code": 5, "wor', b"\x00" * 70_000, b"{"])
def test_a_torn_tail_is_cut_off_by_the_next_writer(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    journal, reader = SturdyJournal(path), SturdyJournal(path)
    journal.append_logs([RECORD])
    with path.open("ab") as file:
        file.write(torn)
    assert list(reader.read_logs(0)) == [RECORD]
    journal.append_logs([{**RECORD, "op_code": 6}])
    assert lines(path) == [RECORD, {**RECORD, "op_code": 6}]
    assert list(reader.read_logs(1)) == [{**RECORD, "op_code": 6}]


@pytest.mark.parametrize("torn", [b'{"op_code": 5', b"\x00\x00", b'"text"\n', b"{]\n\x00"])
def test_a_torn_tail_is_cut_off_when_the_journal_is_opened(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    SturdyJournal(path).append_logs([RECORD])
    with path.open("ab") as file:
        file.write(torn)
    SturdyJournal(path)
    assert lines(path) == [RECORD]


def test_damage_before_whole_records_is_not_repaired_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "j"
    SturdyJournal(path).append_logs([RECORD, RECORD, RECORD])
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(data[0] + b"{garbage\n" + data[2])
    with pytest.raises(StudyStorageError, match="damaged in line 2"):
        SturdyJournal(path)
    assert path.read_bytes() == data[0] + b"{garbage\n" + data[2]


def test_any_cut_of_a_real_journal_opens_and_holds_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "j"
    study = optuna.create_study(storage=JournalStorage(SturdyJournal(path)), study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        cut = tmp_path / f"cut-{size}"
        cut.write_bytes(data[:size])
        storage = JournalStorage(SturdyJournal(cut))
        assert data.startswith(cut.read_bytes())
        found = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        assert len(found.trials) <= 4
        found.enqueue_trial({"x": 0.5})
        assert len(JournalStorage(SturdyJournal(cut)).get_all_trials(0)) == len(found.trials)


def test_a_killed_holder_of_the_lock_lets_go_of_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = SturdyJournal(path)
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    process = context.Process(target=hold, args=(path, holds))
    process.start()
    assert holds.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    start = time.monotonic()
    journal.append_logs([RECORD])
    assert time.monotonic() - start < 5.0  # Optuna's lock file would take 30 s
    assert lines(path) == [RECORD]


def hold(path: Path, holds: object) -> None:
    with path.open("rb+") as file, locked(file):
        holds.set()  # type: ignore[attr-defined]
        time.sleep(600)


def test_addresses_are_completed_by_the_folder() -> None:
    folder = Path("studies/a")
    assert resolve("journal://", folder) == "journal://studies/a/study.journal"
    assert resolve("journal:///x/y.log", folder) == "journal:///x/y.log"
    assert resolve("sqlite://", folder) == "sqlite:///studies/a/study.db"
    assert resolve("sqlite:////x/y.db", folder) == "sqlite:////x/y.db"
    assert resolve("sqlite:///y.db", folder) == "sqlite:///y.db"
    assert resolve("postgresql://me@host/db", folder) == "postgresql://me@host/db"


@pytest.mark.parametrize("address", ["mysql://host/db", "study.journal", "redis://x", ""])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(StudyStorageError, match="expected journal://"):
        resolve(address, Path())


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("postgresql://me@host/db") == "postgresql://me@host/db"


def test_a_server_that_is_not_there_is_named() -> None:
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    with pytest.raises(StudyStorageError, match=r"me:\*\*\*@127.0.0.1:1/db cannot be reached"):
        open_storage("postgresql://me:secret@127.0.0.1:1/db")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr("sqlalchemy.create_engine", missing)
    with pytest.raises(StudyStorageError, match=r"needs a driver: pip install 'morl-suite\[postg"):
        open_storage("postgresql://me@127.0.0.1:1/db")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MorlError, match="file"):
        open_storage(f"journal://{tmp_path / 'file' / 'j'}")


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.db").write_text("this is not a database, it only looks for trouble" * 100)
    with pytest.raises(StudyStorageError, match=r"d\.db cannot be opened: .*not a database"):
        open_storage(f"sqlite:///{tmp_path / 'd.db'}")


def test_patience_outlasts_a_short_absence_and_not_a_long_one() -> None:
    calls = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise optuna.exceptions.StorageInternalError("server closed the connection")
        return "back"

    assert patiently(flaky) == "back"
    calls.clear()
    with pytest.raises(StudyStorageError, match="does not answer any more: server closed"):
        patiently(flaky, patience_s=-1.0)
