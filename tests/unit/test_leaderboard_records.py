from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boards
import numpy as np
import pytest

from morl import storage
from morl.experiments import cli
from morl.experiments.leaderboard import archives
from morl.experiments.leaderboard.checks import checked
from morl.experiments.leaderboard.intake import variant_of
from morl.experiments.leaderboard.ledger import (
    LEDGER_FILE,
    Board,
    LeaderboardError,
    begin_board,
    open_board,
    parse_ledger,
    sealed,
)
from morl.experiments.leaderboard.verification import (
    prediction_interval,
    verify_board,
    verify_folders,
)
from morl.experiments.measures import measure
from morl.result import RunResult
from morl.types import MorlError

Change = Callable[[dict[str, Any]], None]


def quiet(_: str) -> None:
    """Hears nothing."""


def only_run(board: Board) -> Path:
    (folder,) = (board.folder / "runs").iterdir()
    return folder


# The ledger


def test_a_line_begins_with_the_hash_of_the_rest() -> None:
    line = sealed("run", {"a": 1})
    body = b'{"a":1,"kind":"run","schema":"morl-leaderboard/1"}'
    digest = hashlib.sha256(body).hexdigest()
    assert line == b'{"digest":"' + digest.encode() + b'",' + body[1:]
    ledger = parse_ledger(line + b"\n")
    assert ledger.lines[0].content["a"] == 1
    assert (ledger.refused, ledger.torn) == ((), 0)


def test_torn_lines_are_counted_altered_ones_named() -> None:
    good = sealed("run", {"a": 1})
    altered = good.replace(b'"a":1', b'"a":2')
    nan = good.replace(b'"a":1', b'"a":NaN')
    newer = sealed("run", {"a": 1}).replace(b"leaderboard/1", b"leaderboard/2")
    body = b"{" + newer[77:]
    newer = b'{"digest":"' + hashlib.sha256(body).hexdigest().encode() + b'",' + body[1:]
    data = b"\n".join([good, good[:40], altered, b"", nan, b'{"a":1}', newer, b"\xff\xfe", good])
    ledger = parse_ledger(data)
    assert [line.number for line in ledger.lines] == [1, 9]
    assert ledger.torn == 2
    reasons = {refusal.what: refusal.reason for refusal in ledger.refused}
    assert reasons["line 3"] == "altered after it was added: its digest does not fit"
    assert reasons["line 5"] == "not strict JSON: NaN is not a number of JSON"
    assert "does not begin with its digest" in reasons["line 6"]
    assert "reads up to morl-leaderboard/1: install a newer one" in reasons["line 7"]


def test_a_board_keeps_its_tasks_and_refuses_those_of_another_suite(tmp_path: Path) -> None:
    board = boards.board(tmp_path)
    assert open_board(board.folder) == board
    assert begin_board(board.folder, boards.suite()).tasks == board.tasks
    other = boards.suite()
    other.tasks[0].steps = 7
    with pytest.raises(LeaderboardError, match=r"board of levers/3, whose tasks are not those"):
        begin_board(board.folder, other)


def test_a_folder_that_is_no_board_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="begin one with morl leaderboard add"):
        open_board(tmp_path)
    board = boards.board(tmp_path)
    boards.edit(board.folder / "board.json", lambda c: c["tasks"]["levers-v0"].update(steps=1))
    with pytest.raises(LeaderboardError, match="its tasks were altered"):
        open_board(board.folder)
    (board.folder / "board.json").write_text('{"schema": "morl-leaderboard/9"}')
    with pytest.raises(LeaderboardError, match="install a newer one"):
        open_board(board.folder)


# Adding


def test_a_run_becomes_a_line_with_front_and_clock(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result(seed=3))
    (line,) = board.read().lines
    content = line.content
    assert (content["kind"], content["task"], content["entry"]) == ("run", "levers-v0", "somebody")
    assert content["record"]["seed"] == 3
    assert content["clock"] == [1.0, 2.5]
    assert content["front"]["points"] == [list(point) for point in boards.FRONT]
    assert content["front"]["undiscounted"][0] == [2.0, 8.0]
    # Four episodes at -1.5, -0.5, 0.5 and 1.5 spreads: variance 5/3 spread², over 4 episodes.
    assert content["front"]["errors"][0][0] == pytest.approx(0.1 * np.sqrt(5 / 3 / 4))
    assert set(content["files"]) == {"result.json", "front.npz", "episodes.npz"}
    assert RunResult.load(only_run(board)).run_id == content["run_id"]


def test_the_same_run_again_changes_nothing(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    before = board.ledger_file.read_bytes()
    again = boards.added(board, tmp_path / "runs")
    assert (len(again.known), again.added, again.refused) == (1, [], [])
    assert board.ledger_file.read_bytes() == before


def test_a_run_id_with_another_result_is_refused(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    other = boards.saved(tmp_path / "other", boards.result(scale=2.0))
    found = boards.added(board, other)
    assert "is on the board already, with another result" in found.refused[0].reason


def test_a_run_that_failed_gives_way_to_one_that_did_not(tmp_path: Path) -> None:
    failed = boards.result(status="failed: out of memory")
    board = boards.board(tmp_path, failed)
    assert boards.added(board, boards.saved(tmp_path / "later", boards.result())).added
    assert len(board.read().lines) == 2
    worse = boards.saved(tmp_path / "worse", boards.result(status="failed: bad luck"))
    assert "another result" in boards.added(board, worse).refused[0].reason


def test_other_settings_under_one_name_are_refused_and_may_have_a_name(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    tuned = boards.saved(tmp_path / "tuned", boards.result(1, config={"threads": 2}))
    found = boards.added(board, tuned)
    assert "somebody has other settings on levers-v0" in found.refused[0].reason
    assert "--entry NAME" in found.refused[0].reason
    assert boards.added(board, tuned, entry="tuned").added


def test_a_seed_counts_once(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    newer = boards.result()
    newer = replace(newer, algo=replace(newer.algo, version="2"))
    found = boards.added(board, boards.saved(tmp_path / "again", newer))
    assert "seed 0 of somebody on levers-v0 is on the board already" in found.refused[0].reason


def test_a_row_of_the_suite_gets_the_name_that_the_suite_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = boards.result()
    rows = {variant_of(result.config): "the suite's own"}
    monkeypatch.setattr("morl.experiments.leaderboard.intake._suite_variants", lambda name: rows)
    (line,) = boards.board(tmp_path, result).read().lines
    assert line.content["entry"] == "the suite's own"


def test_what_cannot_be_read_is_refused_and_the_rest_added(tmp_path: Path) -> None:
    board = boards.board(tmp_path)
    runs = boards.saved(tmp_path / "runs", *boards.seeds(3))
    first, second, _ = sorted(runs.iterdir())
    (first / "episodes.npz").unlink()
    boards.edit(second / "result.json", lambda c: c.update(schema="morl-result/2"))
    found = boards.added(board, runs)
    assert len(found.added) == 1
    reasons = {refusal.what: refusal.reason for refusal in found.refused}
    assert reasons[str(first)] == "episodes.npz is missing"
    assert "has schema morl-result/2" in reasons[str(second)]
    assert "install a newer one" in reasons[str(second)]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    board = boards.board(tmp_path)
    (run,) = boards.saved(tmp_path / "runs", boards.result()).iterdir()
    (run / "front.npz").rename(tmp_path / "elsewhere.npz")
    (run / "front.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert "is a link" in boards.added(board, run).refused[0].reason


def test_a_writer_that_died_before_its_line_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    board.ledger_file.unlink()
    (board.folder / "runs" / ".tmp-1-dead").mkdir()
    assert boards.added(board, tmp_path / "runs").added
    assert not boards.added(board, tmp_path / "runs").refused


# Tampering: what is changed, and what must be said about it


def record(change: Change) -> Callable[[Path], None]:
    return lambda folder: boards.edit(folder / "result.json", change)


def metrics(name: str, **changes: Any) -> Callable[[Path], None]:
    return record(lambda content: content["metrics"][name].update(changes))


def rewritten(change: Callable[[RunResult], RunResult]) -> Callable[[Path], None]:
    """Change a result and write it anew, so that every hash fits."""

    def tamper(folder: Path) -> None:
        change(RunResult.load(folder)).save(folder)

    return tamper


def arrays(**changes: Callable[[Any], Any]) -> Callable[[RunResult], RunResult]:
    def change(result: RunResult) -> RunResult:
        new = {name: edit(getattr(result.arrays, name)) for name, edit in changes.items()}
        return replace(result, arrays=replace(result.arrays, **new))

    return change


def better(returns: Any) -> Any:
    return returns * 1.01


def forged_npz(name: str, array: str) -> Callable[[Path], None]:
    """Change an array and put the file's new hash into the record."""

    def tamper(folder: Path) -> None:
        content = storage.read_arrays(folder / name)
        content[array] = content[array] * 1.01
        storage.write_arrays(folder / name, content)
        digest = storage.sha256_file(folder / name)
        key = "sha256" if name == "front.npz" else "episodes_sha256"
        boards.edit(folder / "result.json", lambda record: record["front"].update({key: digest}))

    return tamper


def config_of(**changes: Any) -> Callable[[RunResult], RunResult]:
    return lambda result: replace(result, config={**result.config, **changes})


def other_reference(result: RunResult) -> RunResult:
    """The whole record made again with a reference point that flatters it."""
    point = (-9.0, -9.0)
    spec = replace(boards.spec(), reference_point=point)
    protocol = replace(result.protocol, reference_point=point)
    env = {**result.config["env"], "reference_point": [-9.0, -9.0]}
    found = measure(result.arrays.report_discounted, spec)
    return replace(result, protocol=protocol, metrics=found, config={**result.config, "env": env})


def nan(folder: Path) -> None:
    file = folder / "result.json"
    file.write_text(file.read_text().replace('"value": 3.0', '"value": NaN', 1))


def huge(folder: Path) -> None:
    file = folder / "result.json"
    file.write_text(file.read_text().replace('"value": 3.0', '"value": 1e999', 1))


def crowded(result: RunResult) -> RunResult:
    """Three hundred policies on a line that nobody's front is made of."""
    share = np.linspace(0.0, 1.0, 300)
    points = np.stack([4 * share, 4 * (1 - share)], axis=1)
    return boards.result(points=points.tolist())


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "metric": (metrics("hypervolume", value=99.0), r"hypervolume: stored 99\.0, recomputed"),
    "metric, slightly": (metrics("expected_utility", value=3.0700001), "expected_utility: stored"),
    "standard error": (metrics("hypervolume", standard_error=0.0), "standard error stored"),
    "invented metric": (
        record(lambda c: c["metrics"].update(brilliance=dict(c["metrics"]["hypervolume"]))),
        "brilliance is no indicator of this environment",
    ),
    "missing metric": (record(lambda c: c["metrics"].pop("igd_plus")), "igd_plus: is missing"),
    "front, bits": (
        lambda folder: (folder / "front.npz").write_bytes(b"PK" + b"0" * 99),
        r"front\.npz is damaged or was altered",
    ),
    "front, hash forged": (
        forged_npz("front.npz", "returns"), r"front\.npz are not the means of episodes\.npz",
    ),
    "episode, hash forged": (
        forged_npz("episodes.npz", "report_discounted"), "are not the means of",
    ),
    "episodes and front": (
        rewritten(arrays(report_discounted=better)), "hypervolume: stored .* recomputed",
    ),
    "selection episodes": (
        rewritten(arrays(selection_discounted=lambda r: r * np.array([[[1.0]], [[9.0]], [[1.0]]]))),
        "front: not what the selection episodes choose",
    ),
    "size of the front": (record(lambda c: c["front"].update(num_unique=4)), "distinct points"),
    "seed": (record(lambda c: c.update(seed=7)), "run_id does not fit the record"),
    "seed, id forged": (
        rewritten(lambda result: replace(result, seed=7)), r"config\.seed is 0, the record says 7",
    ),
    "agent's name, id forged": (
        rewritten(lambda result: replace(result, algo=replace(result.algo, name="me"))),
        r"config\.agent\.name is 'somebody', the record says 'me'",
    ),
    "settings": (
        rewritten(config_of(threads=9)), r"provenance\.config_sha256 is not that of config",
    ),
    "reference point": (rewritten(other_reference), r"reference point \(-9, -9\), not \(-0\.5"),
    "budget, smaller": (
        record(lambda c: c["budget"].update(env_steps=600)), "learning curve is longer than",
    ),
    "budget, larger": (
        record(lambda c: c["budget"].update(env_steps=9999)), "more than the 1,200 of config",
    ),
    "evaluation steps": (
        record(lambda c: c["budget"].update(eval_env_steps=3)), "the episodes took 120",
    ),
    "negative time": (record(lambda c: c["budget"].update(cpu_s=-1.0)), "cpu_s is negative"),
    "curve": (
        record(lambda c: c["curve"].update(steps=[1200, 600])), r"curve\.steps goes backwards",
    ),
    "longer episodes": (
        rewritten(arrays(report_lengths=lambda lengths: lengths + 90)), "longer than the step l",
    ),
    "a failure called a success": (
        rewritten(lambda _: replace(boards.result(status="failed: NaN"), status="completed")),
        "hypervolume: is missing",
    ),
    "a success called a failure": (
        record(lambda c: c.update(status="failed: bad luck")), "has a front",
    ),
    "verified by itself": (
        record(lambda c: c.update(verification="re-run")), "it calls itself re-run",
    ),
    "one stream for both": (
        record(lambda c: c["protocol"].update(report_stream="selection")), "biased upwards",
    ),
    "NaN": (nan, "NaN is not a number of JSON"),
    "infinity": (huge, "inf, not a finite number"),
    "newer schema": (record(lambda c: c.update(schema="morl-result/9")), "install a newer one"),
    "another file": (
        record(lambda c: c["front"].update(returns="../front.npz")), "not a file beside the record",
    ),
    "too many policies": (rewritten(crowded), "300 policies on the front, at most 200 count"),
    "a field of its own": (record(lambda c: c.update(note="hi")), "note is not a field"),
}  # fmt: skip


def test_the_untampered_run_passes(tmp_path: Path) -> None:
    (folder,) = boards.saved(tmp_path, boards.result()).iterdir()
    result, task = checked(folder, boards.board(tmp_path / "b").tasks)
    assert task == "levers-v0"
    assert result.metrics["cardinality"].value == 3.0


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_run_is_refused_and_the_reason_named(kind: str, tmp_path: Path) -> None:
    tamper, reason = TAMPERED[kind]
    board = boards.board(tmp_path)
    (folder,) = boards.saved(tmp_path / "runs", boards.result()).iterdir()
    tamper(folder)
    with pytest.raises(MorlError, match=reason):
        checked(folder, board.tasks)
    assert len(boards.added(board, folder).refused) == 1
    assert not board.ledger_file.exists()
    assert verify_folders([folder], board.tasks, say=quiet) == [False]


def forge_line(board: Board, change: Change) -> None:
    """Change the last line of the ledger and seal it anew."""
    *before, last = board.read().lines
    content = json.loads(json.dumps(last.content))
    change(content)
    for name in ("digest", "kind", "schema"):
        content.pop(name)
    lines = [sealed("run", dict(line.content)) for line in before] + [sealed("run", content)]
    board.ledger_file.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["record"]["metrics"]["hypervolume"].update(value=99.0), "record in the ledg"),
        (lambda c: c["front"]["points"][0].__setitem__(0, 9.0), "front in the ledger"),
        (lambda c: c.update(variant="0" * 64), "variant in the ledger"),
        (lambda c: c.update(task="levers-v1"), "task in the ledger"),
        (lambda c: c["files"]["front.npz"].update(sha256="0" * 64), "front.npz is missing or was"),
        (lambda c: c["files"].update({"../../x": {"sha256": ""}}), "'../../x' is no file of a run"),
    ],
)
def test_a_line_that_is_not_what_its_files_say_fails_verification(
    change: Change, reason: str, tmp_path: Path
) -> None:
    board = boards.board(tmp_path, boards.result())
    forge_line(board, change)
    (check,) = verify_board(board, say=quiet)
    assert check.passed is False
    assert reason in check.message


def test_files_that_were_altered_on_the_board_fail_verification(tmp_path: Path) -> None:
    board = boards.board(tmp_path, *boards.seeds(2))
    first, second = sorted((board.folder / "runs").iterdir())
    (first / "episodes.npz").write_bytes((second / "episodes.npz").read_bytes())
    passed = {check.run_id[:16]: check for check in verify_board(board, say=quiet)}
    assert passed[first.name[:16]].passed is False
    assert "episodes.npz is damaged or was altered" in passed[first.name[:16]].message
    assert passed[second.name[:16]].passed is True


def test_a_run_id_that_is_a_path_leads_nowhere(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    forge_line(board, lambda content: content.update(run_id="../../../../etc/x"))
    (check,) = verify_board(board, say=quiet)
    assert check.passed is None
    assert "is no SHA-256" in check.message


# Verification


def test_what_was_found_is_written_down(tmp_path: Path) -> None:
    board = boards.board(tmp_path, *boards.seeds(2))
    verify_board(board, say=quiet)
    kinds = [line.content["kind"] for line in board.read().lines]
    assert kinds == ["run", "run", "verification", "verification"]
    last = board.read().lines[-1].content
    assert (last["tier"], last["passed"]) == ("recomputed", True)
    assert "indicators as stored" in last["message"]


def test_single_runs_can_be_verified_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    board = boards.board(tmp_path, *boards.seeds(3))
    run_id = board.read().lines[1].content["run_id"]
    (check,) = verify_board(board, runs=[run_id[:12]], say=quiet)
    assert check.run_id == run_id
    with pytest.raises(LeaderboardError, match="no run begins with zzz"):
        verify_board(board, runs=["zzz"], say=quiet)


def test_policies_that_are_not_there_cannot_be_played(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    (check,) = verify_board(board, tier="re-evaluated", say=quiet)
    assert (check.passed, check.message) == (
        None, "its policies are not on the board (add --policies)",
    )  # fmt: skip
    found = boards.added(board, boards.saved(tmp_path / "two", boards.result(1)), policies=True)
    assert "no checkpoint whose policies could be kept" in found.refused[0].reason


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real runs of the levers suite, two seeds of one row."""
    from morl.experiments.run import run
    from morl.experiments.suites import suite_cells

    out = tmp_path_factory.mktemp("trained")
    for cell in suite_cells(boards.suite(), out=str(out)):
        if cell.entry == "random_search":
            run(cell.config, say=quiet)
    return out


def test_real_policies_are_played_and_trained_again_to_the_same_bits(
    trained: Path, tmp_path: Path
) -> None:
    board = boards.board(tmp_path)
    assert len(boards.added(board, trained, policies=True).added) == 2
    played = verify_board(board, tier="re-evaluated", say=quiet)
    assert [check.passed for check in played] == [True, True]
    assert "bit for bit" in played[0].message
    run_id = played[0].run_id
    (again,) = verify_board(board, tier="re-run", runs=[run_id], say=quiet)
    assert again.passed is True
    assert again.message == "trained again, the same bits"


def test_episodes_that_the_policies_do_not_earn_are_found_out_by_playing(
    trained: Path, tmp_path: Path
) -> None:
    board = boards.board(tmp_path)
    folder = shutil.copytree(next(trained.rglob("result.json")).parent, tmp_path / "forged")
    result = RunResult.load(folder)
    arrays = replace(result.arrays, report_discounted=result.arrays.report_discounted + 3.0)
    replace(result, arrays=arrays, metrics=measure(arrays.report_discounted, boards.spec())).save(
        folder
    )
    assert boards.added(board, folder, policies=True).added  # nothing contradicts it
    (check,) = verify_board(board, tier="re-evaluated", say=quiet)
    assert check.passed is False
    assert "other bits; hypervolume" in check.message
    assert "other returns than stored: policy" in check.message
    (check,) = verify_board(board, tier="re-run", say=quiet)
    assert check.passed is None
    assert "too few other seeds (0)" in check.message


def test_a_prediction_interval_holds_one_more_value() -> None:
    # Student's 99.5 % quantile of 3 degrees of freedom is 5.8409; s = 1.2910, times √1.25.
    centre, margin = prediction_interval([1.0, 2.0, 3.0, 4.0])
    assert centre == 2.5
    assert margin == pytest.approx(5.8409 * 1.29099 * 1.118034, rel=1e-4)
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 6))
    inside = [
        abs(row[5] - centre) <= margin
        for row in draws
        for centre, margin in [prediction_interval(row[:5].tolist())]
    ]
    assert 0.985 < np.mean(inside) < 0.995


# Archives


def zipped(path: Path, members: dict[str, bytes], *, link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link is not None:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
    return path


def tarred(path: Path, *entries: tuple[str, bytes, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, data in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.size = len(data) if kind == tarfile.REGTYPE else 0
            entry.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_of_runs_is_added_like_its_folder(suffix: str, tmp_path: Path) -> None:
    board = boards.board(tmp_path)
    runs = boards.saved(tmp_path / "runs", *boards.seeds(2))
    kind = {"zip": "zip", "tar.gz": "gztar"}[suffix]
    archive = Path(shutil.make_archive(str(tmp_path / "sent"), kind, runs))
    assert len(boards.added(board, archive).added) == 2
    assert all(check.passed for check in verify_board(board, say=quiet))


def test_archives_that_reach_out_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    bad = [
        (zipped(tmp_path / "a.zip", {"ok": b"1", "../up": b"2"}), "leads out of the archive"),
        (zipped(tmp_path / "b.zip", {"/etc/x": b"2"}), "not a relative name"),
        (zipped(tmp_path / "c.zip", {"a\\..\\b": b"2"}), "not a relative name|leads out"),
        (zipped(tmp_path / "d.zip", {"ok": b""}, link="front.npz"), "is a link or a device"),
        (tarred(tmp_path / "e.tar.gz", ("../up", tarfile.REGTYPE, b"2")), "leads out"),
        (tarred(tmp_path / "f.tar.gz", ("l", tarfile.SYMTYPE, b"")), "is a link or a device"),
        (tarred(tmp_path / "g.tar.gz", ("l", tarfile.LNKTYPE, b"")), "is a link or a device"),
        (tarred(tmp_path / "h.tar.gz", ("p", tarfile.FIFOTYPE, b"")), "is a link or a device"),
        (
            tarred(
                tmp_path / "i.tar.gz", ("a", tarfile.REGTYPE, b"1"), ("a", tarfile.REGTYPE, b"2")
            ),
            "occurs twice",
        ),
    ]
    torn = tmp_path / "j.zip"
    torn.write_bytes(b"PK\x03\x04 nothing")
    bad.append((torn, "not a readable archive"))
    for number, (archive, reason) in enumerate(bad):
        target = tmp_path / f"out-{number}"
        target.mkdir()
        with pytest.raises(LeaderboardError, match=reason):
            archives.unpack(archive, target)
        assert list(target.iterdir()) == []
    board = boards.board(tmp_path)
    assert len(boards.added(board, *(archive for archive, _ in bad)).refused) == len(bad)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": bytes(2_000_000)})
    monkeypatch.setattr(archives, "_LEAST_SUSPECT", 1_000_000)
    monkeypatch.setattr(archives, "MOST_RATIO", 100.0)
    with pytest.raises(LeaderboardError, match="times its own size"):
        archives.unpack(bomb, tmp_path)
    monkeypatch.setattr(archives, "MOST_BYTES", 1_000)
    with pytest.raises(LeaderboardError, match="claims 2,000,000 bytes"):
        archives.unpack(bomb, tmp_path)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 0)
    with pytest.raises(LeaderboardError, match="more than 0 members"):
        archives.unpack(bomb, tmp_path)


# Many writers


def write_lines(folder: Path, writer: int, count: int) -> None:
    """Append lines and acknowledge each in a file of one's own."""
    board = open_board(folder)
    with (folder / f"acknowledged-{writer}").open("ab", buffering=0) as acknowledged:
        for number in range(count):
            board.append("run", {"writer": writer, "number": number, "padding": "x" * 2000})
            acknowledged.write(b"%d\n" % number)


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    board = boards.board(tmp_path)
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=write_lines, args=(board.folder, n, 40)) for n in range(4)]
    for writer in writers:
        writer.start()
    time.sleep(0.05)
    writers[0].kill()  # on a busy machine it may have ended by itself
    for writer in writers:
        writer.join()
    with board.ledger_file.open("ab") as ledger:  # what a power failure would leave
        ledger.write(sealed("run", {"writer": 9})[:50])
    board.append("run", {"writer": 8, "number": 0})
    ledger = board.read()
    found = {(line.content["writer"], line.content["number"]) for line in ledger.lines}
    for writer in range(4):
        lines = (board.folder / f"acknowledged-{writer}").read_bytes().split()
        assert {(writer, int(number)) for number in lines} <= found
    assert {(writer, 39) for writer in (1, 2, 3)} <= found
    assert (8, 0) in found
    assert (ledger.torn, ledger.refused) == (1, ())


# The command line


def test_the_command_line_adds_and_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "levers.yaml"
    suite.write_text(boards.suite_workers.SUITE)
    runs = boards.saved(tmp_path / "runs", *boards.seeds(2))
    board = str(tmp_path / "board")
    assert cli.main(["leaderboard", "verify", str(runs), "--suite", str(suite)]) == 0
    assert "2 of 2 runs are what they say" in capsys.readouterr().out
    words = ["leaderboard", "add", str(runs), "--board", board, "--suite", str(suite)]
    assert cli.main(words) == 0
    assert "2 added, 0 there already, 0 refused" in capsys.readouterr().out
    assert cli.main(["leaderboard", "verify", board]) == 0
    assert "2 runs, 0 failed, 0 skipped, 0 torn lines" in capsys.readouterr().out
    ledger = tmp_path / "board" / LEDGER_FILE
    ledger.write_text(ledger.read_text().replace('"seed":1', '"seed":2', 1))
    assert cli.main(["leaderboard", "verify", board]) == 1
    assert "altered after it was added" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "nowhere", "--board", "{tmp}/none"], "is no leaderboard: it has no board.json"),
        (["verify", "{tmp}"], "is no leaderboard: name the --suite"),
        (["add", "{tmp}/x", "--board", "{tmp}/b", "--suite", "smok"], "did you mean 'smoke'"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["leaderboard", *(word.format(tmp=tmp_path) for word in words)]) == 1
    assert message in capsys.readouterr().err
