"""Checkpoints are whole or refused; the older one is never lost."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_faults import faulty_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morl import checkpoint, storage
from morl.checkpoint import CheckpointError, list_checkpoints, load_checkpoint, save_checkpoint
from morl.seeding import generator, generator_state

MEMBERS = ("arrays.npz", "state.json", "manifest.json")

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats()
    | st.text(max_size=5)
    | hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
)
STATES = st.dictionaries(
    st.text("$a", max_size=3) | st.sampled_from(["$array", "$int", "$float"]),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("$ab", max_size=3) | st.just("$array"), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def same(left: Any, right: Any) -> bool:
    """Equal bit for bit, types and order of keys included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (left.dtype, left.shape, left.tobytes()) == (
            right.dtype,
            right.shape,
            right.tobytes(),
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return bool(left == right)


def state_at(step: int) -> dict[str, Any]:
    """A small state that tells its step."""
    return {
        "step": step,
        "rng": generator_state(generator(step, "agent")),
        "policy": {"weights": np.arange(50.0) + step, "log_std": np.float32(0.5)},
        "archive": [np.full((2, 3), step, dtype=np.float32), []],
    }


def save(folder: Path, step: int, **changes: Any) -> Path:
    return save_checkpoint(folder, state_at(step), step=step, config_hash="abc", **changes)


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Content -------------------------------------------------------------------------------------


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STATES)
def test_a_state_comes_back_bit_for_bit(tmp_path: Path, state: dict[str, Any]) -> None:
    save_checkpoint(tmp_path, state, step=1, config_hash="abc", keep=1)
    assert same(load_checkpoint(tmp_path, config_hash="abc").state, state)


def test_numbers_that_json_does_not_know_come_back(tmp_path: Path) -> None:
    payload = struct.unpack("d", struct.pack("Q", 0x7FF8_0000_0000_BEEF))[0]
    state = {"values": [math.inf, -math.inf, payload, -0.0, 5e-324, 10**5000, -(2**63), 2**63]}
    save_checkpoint(tmp_path, state, step=0, config_hash="abc")
    assert same(load_checkpoint(tmp_path, config_hash=None).state, state)


def test_tuples_become_lists_and_numpy_scalars_python_ones(tmp_path: Path) -> None:
    state = {"a": (1, (np.int64(2), np.bool_(True))), "b": np.float32(0.1), "c": np.str_("x")}
    save_checkpoint(tmp_path, state, step=0, config_hash="abc")
    found = load_checkpoint(tmp_path, config_hash="abc").state
    assert same(found, {"a": [1, [2, True]], "b": float(np.float32(0.1)), "c": "x"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"state\.agent\[1\] is a builtins\.set; a state holds arrays"),
        (b"x", r"state\.agent\[1\] is a builtins\.bytes"),
        (1j, r"state\.agent\[1\] is a builtins\.complex"),
        (
            np.datetime64("2024-01-01", "ns"),
            r"state\.agent\[1\] is a NumPy datetime64\[ns\] scalar",
        ),
        (np.array([None]), r"state\.agent\[1\] holds Python objects"),
        (np.ma.masked_array([1, 2], [True, False]), r"state\.agent\[1\] is a numpy\.ma"),
        ({1: 2}, r"state\.agent\[1\] has the key 1"),
    ],
)
def test_what_would_not_come_back_is_refused_by_its_path_of_keys(
    tmp_path: Path, value: object, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "new", {"agent": [0, value]}, step=0, config_hash="abc")
    assert named(tmp_path) == []


def test_two_saves_of_one_state_are_equal_bytes(tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, 7) for name in "ab")
    for name in MEMBERS:
        assert (first / name).read_bytes() == (second / name).read_bytes()


# Keeping -------------------------------------------------------------------------------------


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        path = save(tmp_path, step)
    assert path == tmp_path / "step-000000000030"
    assert named(tmp_path) == ["step-000000000020", "step-000000000030"]
    found = load_checkpoint(tmp_path, config_hash="abc")
    assert (found.step, found.path, found.skipped) == (30, path, ())
    assert same(found.state["policy"]["weights"], np.arange(50.0) + 30)


def test_a_step_beyond_twelve_digits_is_the_newest_still(tmp_path: Path) -> None:
    for step in (999_999_999_999, 1_000_000_000_000):
        save(tmp_path, step)
    assert load_checkpoint(tmp_path, config_hash="abc").step == 10**12


def test_a_damaged_checkpoint_of_a_later_step_does_not_displace_a_valid_one(tmp_path: Path) -> None:
    (save(tmp_path, 100) / "state.json").write_text("damaged")
    for step in (10, 20, 30):
        save(tmp_path, step)
    assert [int(path.name[5:]) for path in list_checkpoints(tmp_path)] == [100, 30, 20]
    assert load_checkpoint(tmp_path, config_hash="abc").step == 30
    assert not load_checkpoint(tmp_path, config_hash="abc").path.name.startswith(".")
    save(tmp_path, 100)  # the run gets there again
    assert load_checkpoint(tmp_path, config_hash="abc").skipped == ()
    assert load_checkpoint(tmp_path, config_hash="abc").step == 100


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-dead").mkdir()
    save(tmp_path, 1)
    assert named(tmp_path) == ["step-000000000001"]


@pytest.mark.parametrize(("step", "keep"), [(-1, 2), (0, 0)])
def test_a_step_or_count_out_of_range_is_refused(tmp_path: Path, step: int, keep: int) -> None:
    with pytest.raises(ValueError, match=rf"got {step} and {keep}"):
        save_checkpoint(tmp_path, {}, step=step, config_hash="abc", keep=keep)


# Refusing ------------------------------------------------------------------------------------


def test_where_nothing_was_saved_there_is_no_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert list_checkpoints(folder) == ()
        with pytest.raises(CheckpointError, match=r"holds no checkpoint: start the run afresh"):
            load_checkpoint(folder, config_hash="abc")


def test_a_checkpoint_of_another_configuration_is_refused_naming_both(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(
        CheckpointError,
        match=r"(?s)step-000000000010: belongs to the configuration abc, not to other",
    ):
        load_checkpoint(tmp_path, config_hash="other")
    assert load_checkpoint(tmp_path, config_hash=None).step == 10


def test_an_older_checkpoint_of_the_right_configuration_is_used(tmp_path: Path) -> None:
    save(tmp_path, 10)
    foreign = save_checkpoint(tmp_path, {}, step=20, config_hash="other")
    found = load_checkpoint(tmp_path, config_hash="abc")
    assert found.step == 10
    assert found.skipped == (f"{foreign}: belongs to the configuration other, not to abc",)


def test_a_newer_schema_is_refused_even_if_an_older_checkpoint_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10)
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    save(tmp_path, 20)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"000020 has checkpoint schema 2.*reads up to 1"):
        load_checkpoint(tmp_path, config_hash="abc")


def forge_schema(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_bytes())
    manifest["schema"] = 3
    (path / "manifest.json").write_bytes(storage.json_bytes(manifest))


def swap(path: Path) -> None:
    (path / "state.json").rename(path / "x")
    (path / "arrays.npz").rename(path / "state.json")
    (path / "x").rename(path / "arrays.npz")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda path: (path / "state.json").unlink(), "state.json is missing"),
        (lambda path: (path / "arrays.npz").unlink(), "arrays.npz is missing"),
        (lambda path: (path / "arrays.npz").write_bytes(b""), "arrays.npz has 0 bytes instead of"),
        (lambda path: (path / "manifest.json").write_bytes(b""), "manifest.json is damaged"),
        (swap, "arrays.npz has "),
        (forge_schema, "manifest.json is damaged"),
        (lambda path: shutil.rmtree(path) or path.touch(), "manifest.json is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    damage(newest)
    found = load_checkpoint(tmp_path, config_hash="abc")
    assert found.step == found.state["step"] == 10
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith(f"{newest}: {reason}")


def test_members_of_another_checkpoint_are_noticed(tmp_path: Path) -> None:
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    shutil.copy(older / "arrays.npz", newest / "arrays.npz")  # the same size
    found = load_checkpoint(tmp_path, config_hash="abc")
    assert found.step == 10
    assert "arrays.npz is damaged (its SHA-256 differs)" in found.skipped[0]


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    originals = {name: (newest / name).read_bytes() for name in MEMBERS}
    rng = np.random.default_rng(0)
    for flip in range(300):
        name = MEMBERS[flip % 3]
        data = bytearray(originals[name])
        bit = int(rng.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        (newest / name).write_bytes(data)
        found = load_checkpoint(tmp_path, config_hash="abc")
        assert found.step == 10, f"bit {bit} of {name}"
        (newest / name).write_bytes(originals[name])
    assert load_checkpoint(tmp_path, config_hash="abc").step == 20


def test_no_truncation_goes_unnoticed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    rng = np.random.default_rng(0)
    for name in MEMBERS:
        data = (newest / name).read_bytes()
        for size in [0, len(data) - 1, *rng.integers(len(data), size=20).tolist()]:
            (newest / name).write_bytes(data[:size])
            assert load_checkpoint(tmp_path, config_hash="abc").step == 10
        (newest / name).write_bytes(data)


def test_when_every_checkpoint_is_damaged_each_is_named(tmp_path: Path) -> None:
    for step in (10, 20):
        (save(tmp_path, step) / "state.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"(?s)no checkpoint that can be used.*0020: .*0010: "
    ):
        load_checkpoint(tmp_path, config_hash="abc")


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = save(tmp_path / "run", 10)
    payload = f"cos\nmkdir\n(V{marker}\ntR.".encode()  # what pickle.loads would obey
    np.savez(path / "arrays.npz", a=np.arange(2))
    for name in MEMBERS:
        (path / name).write_bytes(payload)
    content = {
        "schema": 1, "step": 10, "config_hash": "abc",
        "members": {
            name: {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
            for name in MEMBERS[:2]
        },
    }  # fmt: skip
    digest = hashlib.sha256(storage.json_bytes(content)).hexdigest()
    (path / "manifest.json").write_bytes(storage.json_bytes({**content, "sha256": digest}))
    with pytest.raises(CheckpointError, match=r"arrays\.npz is not a readable array file"):
        load_checkpoint(tmp_path / "run", config_hash="abc")
    assert not marker.exists()


# Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [20, 10])  # 10: the only checkpoint is replaced
def test_whichever_call_meets_a_full_disk_a_valid_checkpoint_remains(
    tmp_path: Path, step: int
) -> None:
    with faulty_disk(None) as disk:
        save(tmp_path / "count", step)
    assert disk.calls >= 15  # two folders; write, sync, rename, sync for three files; rename, sync
    for fail_at in range(disk.calls + 2):
        folder = tmp_path / str(fail_at)
        save(folder, 10)
        with faulty_disk(fail_at) as disk:
            try:
                save(folder, step)
                message = ""
            except storage.StorageError as error:
                message = str(error)
        assert ("disk is full: free some space" in message) == (disk.calls > fail_at)
        assert ".tmp" not in message
        found = load_checkpoint(folder, config_hash="abc")
        assert found.step in (10, step)
        assert found.skipped == ()
        assert not [name for name in named(folder) if name.startswith(".")]
        save(folder, 30)
        assert load_checkpoint(folder, config_hash="abc").step == 30


def test_a_save_that_the_disk_has_no_room_for_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10)
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(storage.StorageError, match=r"1,000 bytes free, [0-9,]+ are needed"):
        save(tmp_path, 20)
    assert named(tmp_path) == ["step-000000000010"]


SAVER = """
import sys, pathlib
import numpy as np
from morl.checkpoint import save_checkpoint
step = int(sys.argv[2])
while True:
    step += 1
    state = {"step": step, "weights": np.full(200_000, step)}
    save_checkpoint(pathlib.Path(sys.argv[1]), state, step=step, config_hash="abc")
    print(step, flush=True)
"""


def test_kill_minus_9_while_saving_never_costs_an_acknowledged_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    step = 0
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path), str(step)],
            stdout=subprocess.PIPE, text=True,
        ) as saver:  # fmt: skip
            assert saver.stdout is not None
            acknowledged = int(saver.stdout.readline())
            time.sleep(float(rng.uniform(0, 0.03)))
            saver.kill()
            acknowledged = max([acknowledged, *map(int, saver.stdout.read().split())])
        found = load_checkpoint(tmp_path, config_hash="abc")
        assert found.skipped == ()
        assert found.step in (acknowledged, acknowledged + 1)
        assert found.state["step"] == found.step
        assert (found.state["weights"] == found.step).all()
        assert len(list_checkpoints(tmp_path)) <= 3
        step = found.step
