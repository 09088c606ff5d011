"""The one writer: whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from disk_faults import faulty_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morl import storage
from morl.storage import StorageError
from morl.types import MorlError, NonFiniteError

EXACT_DTYPES = hnp.scalar_dtypes()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing -------------------------------------------------------------------------------------


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    storage.atomic_write(path, b"old")
    storage.atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_a_new_file_has_the_permissions_that_the_user_set(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        storage.atomic_write(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_several_files_are_replaced_together_whichever_call_meets_a_full_disk(
    tmp_path: Path,
) -> None:
    files = {tmp_path / name: b"new " * 50 for name in ("a", "b")}
    with faulty_disk(None) as disk:
        storage.atomic_write_all(files)
    assert disk.calls == 8  # each: write, sync; then each: rename, sync of the folder
    for fail_at in range(disk.calls):
        for path in files:
            path.write_bytes(b"old")
        with faulty_disk(fail_at), pytest.raises(StorageError):
            storage.atomic_write_all(files)
        contents = {path.read_bytes() for path in files}
        assert contents <= {b"old", b"new " * 50}
        assert names(tmp_path) == ["a", "b"]
        if fail_at < 4:  # while the new content is being written, no old file is touched
            assert contents == {b"old"}


def test_a_full_disk_is_reported_with_path_size_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with faulty_disk(0), pytest.raises(StorageError) as caught:
        storage.atomic_write(path, b"x" * 12_345)
    assert str(caught.value) == (
        f"{path} cannot be written (12,345 bytes needed): the disk is full: free some space or "
        "choose another folder, then repeat"
    )
    assert (caught.value.path, caught.value.needed) == (path, 12_345)
    assert isinstance(caught.value, MorlError)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_write_needs_twice_its_size_of_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(storage.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(0, 0, 0))
    storage.atomic_write(tmp_path / "fits", b"a file system that does not tell its size")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10_000, 8_001, 1_999))
    storage.atomic_write(tmp_path / "fits", b"x" * 999)
    with pytest.raises(StorageError, match=r"1,999 bytes free, 2,000 are needed.*free some space"):
        storage.atomic_write(tmp_path / "does not", b"x" * 1_000)
    assert names(tmp_path) == ["fits"]


def test_the_kernel_itself_refusing_the_bytes_leaves_the_old_file(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        from morl import storage
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        path = Path(sys.argv[1])
        storage.atomic_write(path, b"old")
        try:
            storage.atomic_write(path, b"x" * 5000)
        except storage.StorageError as error:
            print(error)
        storage.append_json_line(path.with_name("l"), {"a": "x" * 900})
        try:
            storage.append_json_line(path.with_name("l"), {"a": "x" * 900})
        except storage.StorageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert "5,000 bytes needed): the file size limit is reached" in first
    assert "cannot be appended to" in second
    assert (tmp_path / "a").read_bytes() == b"old"
    assert storage.read_json_lines(tmp_path / "l") == ([{"a": "x" * 900}], 0)
    assert names(tmp_path) == ["a", "l"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "not writable: change its permissions"),
        (errno.EROFS, "read-only: choose another folder"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_what_the_system_refuses_is_named_with_a_remedy(
    tmp_path: Path, code: int, remedy: str
) -> None:
    with faulty_disk(0, code), pytest.raises(StorageError, match=remedy):
        storage.make_folder(tmp_path / "new")


@pytest.fixture
def someone_else() -> Iterator[None]:
    """Run as a user without rights; root could write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("someone_else")
def test_a_folder_that_is_not_writable_is_refused() -> None:
    path = Path("/usr/morl-test")
    with pytest.raises(StorageError, match=rf"^{path} cannot be written.*not writable"):
        storage.atomic_write(path, b"x")
    with pytest.raises(StorageError, match=rf"^{path} cannot be appended to.*not writable"):
        storage.append_json_line(path, {})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("missing/a", "no such file or folder"),
        ("file/a", "not a folder"),
        ("n" * 300, "too long"),
        ("folder", "folder, not a file"),
    ],
)
def test_an_impossible_path_is_refused_and_leaves_no_trace(
    tmp_path: Path, name: str, remedy: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=remedy):
        storage.atomic_write(tmp_path / name, b"x")
    assert names(tmp_path) == ["file", "folder"]


def test_names_may_be_long_and_in_any_script(tmp_path: Path) -> None:
    for name in ("n" * 255, "фронт Парето 前沿.json"):
        storage.atomic_write(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    storage.temporary_name(tmp_path).touch()
    storage.temporary_name(tmp_path).mkdir()
    storage.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["kept"]


# JSON ----------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_json_comes_back_as_it_was_written(tmp_path: Path, value: object) -> None:
    storage.write_json(tmp_path / "a.json", value)
    assert storage.read_json(tmp_path / "a.json") == value


def test_equal_content_gives_equal_bytes() -> None:
    assert storage.json_bytes({"b": 0.1, "a": (1, np.float32(0.5), np.int64(2), np.bool_(True))})
    first = storage.json_bytes({"b": 0.1, "a": (1, np.float32(0.5), np.int64(2), np.bool_(True))})
    assert first == b'{"a":[1,0.5,2,true],"b":0.1}'
    assert storage.json_bytes({"b": 1, "a": 2}, sort_keys=False) == b'{"b":1,"a":2}'


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan"), -np.inf])
def test_what_is_not_finite_is_refused_by_its_path_of_keys(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "result.json"
    storage.write_json(path, "old")
    with pytest.raises(NonFiniteError, match=r"result\.json: metrics\.hypervolume\[1\]\.value is"):
        storage.write_json(path, {"metrics": {"hypervolume": [0, {"value": bad}]}})
    assert storage.read_json(path) == "old"


def test_what_json_does_not_know_is_refused_by_its_path_of_keys() -> None:
    with pytest.raises(TypeError, match=r"a\[0\] is a set"):
        storage.json_bytes({"a": [set()]})
    with pytest.raises(TypeError, match="a has the key 1"):
        storage.json_bytes({"a": {1: 2}})
    with pytest.raises(TypeError, match="the value is a ndarray"):
        storage.json_bytes(np.zeros(2))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 100_000, b'{"a": 1} x']
)
def test_what_is_not_strict_json_is_refused_by_its_path(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(StorageError, match=r"a\.json is not valid JSON"):
        storage.read_json(tmp_path / "a.json")


# Arrays --------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.dictionaries(
        st.text("abc/$. ", min_size=1, max_size=5),
        hnp.arrays(EXACT_DTYPES, hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=3,
    )
)
def test_arrays_come_back_bit_for_bit(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.npz"
    storage.write_arrays(path, arrays)
    assert path.read_bytes() == storage.array_bytes(arrays)
    assert path.stat().st_size <= storage.arrays_size(arrays) + 22  # the empty zip
    found = storage.read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_equal_arrays_give_equal_bytes_in_any_order() -> None:
    a, b = np.arange(3), np.eye(2)
    assert storage.array_bytes({"a": a, "b": b}) == storage.array_bytes({"b": b, "a": a})


def test_arrays_that_numpy_could_not_give_back_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="array 'policy' holds Python objects"):
        storage.write_arrays(tmp_path / "a.npz", {"policy": np.array([object()])})
    assert names(tmp_path) == []


def test_a_pickle_in_an_array_file_is_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(marker),))

    array = np.array([Payload()], dtype=object)
    np.savez(tmp_path / "a.npz", a=array)
    np.save(tmp_path / "b.npz", array)
    (tmp_path / "b.npz.npy").rename(tmp_path / "b.npz")
    array.dump(str(tmp_path / "c.npz"))
    for name in "abc":
        with pytest.raises(StorageError, match=rf"{name}\.npz is not a readable array file"):
            storage.read_arrays(tmp_path / f"{name}.npz")
    assert not marker.exists()


def test_damaged_array_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    good = storage.array_bytes({"a": np.arange(100.0), "b": np.arange(5)})
    rng = np.random.default_rng(0)
    flipped = []
    for bit in rng.integers(8 * len(good), size=150):
        data = bytearray(good)
        data[bit // 8] ^= 1 << (bit % 8)
        flipped.append(bytes(data))
    for data in [b"", good[:-1], good[:300], b"PK\x03\x04", *flipped]:
        path.write_bytes(data)
        try:
            found = storage.read_arrays(path)
        except StorageError:
            continue
        # Dates and flags of the zip may change without harm; an array may not.
        assert all(np.array_equal(found[name], np.arange(n)) for name, n in (("a", 100), ("b", 5)))


def test_an_array_file_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1_000_000))
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    with pytest.raises(StorageError, match="claim 8,000,128 bytes, at most 1,000,000"):
        storage.read_arrays(tmp_path / "bomb.npz", max_bytes=1_000_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    for read in (
        storage.read_arrays, storage.read_json, storage.read_json_lines, storage.sha256_file,
    ):  # fmt: skip
        with pytest.raises(StorageError, match=r"nothing cannot be read: there is no such file"):
            read(path)


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert storage.sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


# Lines ---------------------------------------------------------------------------------------


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for number in range(3):
        storage.append_json_line(path, {"n": number, "b": 1}, sync=number == 1)
    assert path.read_bytes() == b'{"b":1,"n":0}\n{"b":1,"n":1}\n{"b":1,"n":2}\n'
    assert storage.read_json_lines(path) == ([{"b": 1, "n": number} for number in range(3)], 0)


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_torn_line_is_counted_and_the_next_writer_closes_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":0}\n' + b'{"n":1}'[:cut])
    storage.append_json_line(path, {"n": 2})
    whole = [{"n": 1}] if cut == 7 else []  # only the newline was missing
    assert storage.read_json_lines(path) == ([{"n": 0}, *whole, {"n": 2}], 1 - len(whole))


def test_lines_that_hold_no_object_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'1\n\n[]\n{"a":NaN}\n\x00\x00\n{"a":1}\n"x"')
    assert storage.read_json_lines(path) == ([{"a": 1}], 5)


def test_a_half_written_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    storage.append_json_line(path, {"n": 0})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    with pytest.raises(StorageError, match=r"8 bytes needed\): the disk is full"):
        storage.append_json_line(path, {"n": 1})
    assert path.read_bytes() == b'{"n":0}\n'


def test_a_record_that_is_not_finite_is_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="loss is nan"):
        storage.append_json_line(tmp_path / "a.jsonl", {"loss": float("nan")})
    assert names(tmp_path) == []


def _append_many(path: Path, writer: int, count: int) -> None:
    for number in range(count):
        storage.append_json_line(path, {"writer": writer, "number": number, "pad": "x" * 3000})


def test_processes_that_append_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for job in [pool.submit(_append_many, path, writer, 60) for writer in range(3)]:
            job.result()
    records, torn = storage.read_json_lines(path)
    assert torn == 0
    for writer in range(3):
        numbers = [record["number"] for record in records if record["writer"] == writer]
        assert numbers == list(range(60))


def test_a_writer_that_is_killed_holds_no_lock_and_loses_no_earlier_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import sys, pathlib; from morl import storage; n = 0\n"
        "while True:\n"
        "    storage.append_json_line(pathlib.Path(sys.argv[1]), {'n': n, 'pad': 'x' * 50000})\n"
        "    n += 1; print(n, flush=True)"
    )
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(20):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
        path.touch()
    storage.append_json_line(path, {"n": -1, "pad": ""})
    records, torn = storage.read_json_lines(path)
    assert torn <= 2
    assert records[-1]["n"] == -1
    assert len(records) >= 2 * acknowledged
    assert writer.returncode == -signal.SIGKILL
