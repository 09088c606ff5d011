"""Where a run can go on from: folders that are whole or refused, and nothing pickled.

A checkpoint is a folder ``step-000000001234`` with ``arrays.npz``, ``state.json`` and, written
last, ``manifest.json`` with the size and SHA-256 of the other two. It is built under a temporary
name and renamed when it is on the disk; the one before it is deleted only afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morl import storage
from morl.types import MorlError, State

SCHEMA = 1

_ARRAYS, _STATE, _MANIFEST = "arrays.npz", "state.json", "manifest.json"
_NAME = re.compile(r"step-(\d{12,})(\.old)?")
_MARK = "$"  # opens the one key of an encoded value; a user's key that opens so is doubled
_LARGEST_PLAIN_INTEGER = 2**63  # Python refuses to parse decimals of more than 4,300 digits


class CheckpointError(MorlError):
    """No checkpoint of a folder can be used."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state that was saved, and how it was found.

    Attributes:
        state: what was given to `save_checkpoint`; tuples have become lists, NumPy scalars
            Python ones.
        step: environment steps at that moment.
        path: its folder.
        skipped: newer checkpoints that could not be used, each as "path: reason".
    """

    state: State
    step: int
    path: Path
    skipped: tuple[str, ...] = ()


class _UnusableError(Exception):
    """One checkpoint is damaged or belongs to another run."""


def save_checkpoint(
    folder: Path, state: State, *, step: int, config_hash: str, keep: int = 2
) -> Path:
    """Save a state; whatever goes wrong, the checkpoints that are there stay.

    Args:
        folder: holds the checkpoints of one run; made if missing. One process writes at a time.
        state: nested dicts of arrays, numbers of any size, strings, booleans, None and lists.
        step: environment steps so far, at least 0.
        config_hash: identifies the configuration that may go on from here.
        keep: how many checkpoints up to this step stay, at least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: names the path of keys to what cannot be stored.
        ValueError: if `step` or `keep` is out of range.
        StorageError: names the path, the bytes needed and the remedy.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be at least 0 and keep at least 1, got {step} and {keep}")
    arrays: dict[str, NDArray[Any]] = {}
    text = storage.json_bytes(_encode(state, "state", arrays), sort_keys=False)
    storage.make_folder(folder)
    storage.remove_leftovers(folder)
    storage.check_free_space(folder, storage.arrays_size(arrays) + len(text))
    path = folder / f"step-{step:012d}"
    building = storage.temporary_name(folder)
    try:
        storage.make_folder(building)
        storage.write_arrays(building / _ARRAYS, arrays)
        storage.atomic_write(building / _STATE, text)
        storage.atomic_write(building / _MANIFEST, _manifest(building, step, config_hash))
        _publish(building, path)
    except storage.StorageError as error:
        shutil.rmtree(building, ignore_errors=True)
        message = str(error).replace(building.name, path.name)
        raise storage.StorageError(message, path=path, needed=error.needed) from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _prune(folder, step=step, keep=keep)
    return path


def load_checkpoint(folder: Path, *, config_hash: str | None) -> Checkpoint:
    """Load the newest checkpoint that is whole and belongs to the configuration.

    Args:
        folder: as given to `save_checkpoint`.
        config_hash: the configuration that wants to go on, or None for any.

    Raises:
        CheckpointError: if there is none, or none that can be used (says why for each), or if
            the newest was written by a newer version of the suite.
    """
    skipped: list[str] = []
    for path in list_checkpoints(folder):
        found = _load(path, config_hash)
        if isinstance(found, Checkpoint):
            return replace(found, skipped=tuple(skipped))
        skipped.append(f"{path}: {found}")
    if not skipped:
        raise CheckpointError(f"{folder} holds no checkpoint: start the run afresh")
    raise CheckpointError(
        f"{folder} holds no checkpoint that can be used: start the run afresh in another folder\n  "
        + "\n  ".join(skipped)
    )


def list_checkpoints(folder: Path) -> tuple[Path, ...]:
    """Folders of all checkpoints, valid or not, newest first; none if there is no such folder."""
    if not folder.is_dir():
        return ()
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return tuple(sorted(found, key=_age, reverse=True))


def _age(path: Path) -> tuple[int, bool]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), match[2] is None


def _manifest(folder: Path, step: int, config_hash: str) -> bytes:
    content = {
        "schema": SCHEMA,
        "step": step,
        "config_hash": config_hash,
        "members": {
            name: {
                "size": (folder / name).stat().st_size,
                "sha256": storage.sha256_file(folder / name),
            }
            for name in (_ARRAYS, _STATE)
        },
    }
    return _sealed(content)


def _sealed(content: Mapping[str, Any]) -> bytes:
    """JSON that carries its own hash: a flipped bit is not mistaken for a newer schema."""
    digest = hashlib.sha256(storage.json_bytes(content)).hexdigest()
    return storage.json_bytes({**content, "sha256": digest})


def _publish(building: Path, path: Path) -> None:
    """Give a finished checkpoint its name; an earlier one of that name stays loadable until then.

    Two renames, since a folder cannot replace a folder; `list_checkpoints` knows the name that
    stands between them.
    """
    aside = path.with_name(f"{path.name}.old")
    try:
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        building.rename(path)
        storage.sync_folder(path.parent)
    except OSError as error:
        message = storage.describe_os_error(error, path, needed=0, action="written")
        raise storage.StorageError(message, path=path) from error
    shutil.rmtree(aside, ignore_errors=True)


def _prune(folder: Path, *, step: int, keep: int) -> None:
    """Delete all but the newest `keep` up to this step.

    Later steps belong to a future that the run has left, damaged as a rule; they are replaced
    when the run gets there again, and must not displace a valid one now.
    """
    past = [path for path in list_checkpoints(folder) if _age(path)[0] <= step]
    for path in past[keep:]:
        # The manifest first: what is half deleted must not look whole.
        with contextlib.suppress(OSError):
            (path / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def _load(path: Path, config_hash: str | None) -> Checkpoint | str:
    """One checkpoint, or why it cannot be used."""
    try:
        manifest = _read_manifest(path)
        _admit(path, manifest, config_hash)
        arrays = storage.read_arrays(path / _ARRAYS)
        state = _decode(storage.read_json(path / _STATE), arrays)
    except (_UnusableError, storage.StorageError) as error:
        return str(error)
    return Checkpoint(state=state, step=manifest["step"], path=path)


def _admit(path: Path, manifest: Mapping[str, Any], config_hash: str | None) -> None:
    if manifest["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} has checkpoint schema {manifest['schema']}, this version of morl-suite reads "
            f"up to {SCHEMA}: install the version that wrote it, or a newer one"
        )
    if config_hash is not None and manifest["config_hash"] != config_hash:
        raise _UnusableError(
            f"belongs to the configuration {manifest['config_hash']}, not to {config_hash}"
        )
    for name, expected in manifest["members"].items():
        _verify(path / name, size=expected["size"], sha256=expected["sha256"])


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _UnusableError(f"{_MANIFEST} is missing or unreadable ({error.strerror})") from error
    content = storage.parse_record(data)
    if content is None or content.pop("sha256", None) is None or _sealed(content) != data:
        raise _UnusableError(f"{_MANIFEST} is damaged")
    return content


def _verify(path: Path, *, size: int, sha256: str) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise _UnusableError(f"{path.name} is missing or unreadable ({error.strerror})") from error
    if found != size:
        raise _UnusableError(f"{path.name} has {found} bytes instead of {size}")
    if storage.sha256_file(path) != sha256:
        raise _UnusableError(f"{path.name} is damaged (its SHA-256 differs)")


def _encode(value: Any, where: str, arrays: dict[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - JSON
    """Turn a state into strict JSON; its arrays go to `arrays` under running numbers."""
    if type(value) in (np.ndarray, np.memmap):
        name = str(len(arrays))
        storage.check_array(value, where)
        arrays[name] = value
        return {f"{_MARK}array": name}
    if isinstance(value, np.generic):
        value = _python_scalar(value, where)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_PLAIN_INTEGER else {f"{_MARK}int": hex(value)}
    if isinstance(value, float):
        bits = struct.pack(">d", value).hex()
        return float(value) if math.isfinite(value) else {f"{_MARK}float": bits}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{index}]", arrays) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _escaped(key, where): _encode(item, f"{where}.{key}", arrays)
            for key, item in value.items()
        }
    raise TypeError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a state holds arrays, "
        "numbers, strings, booleans, None, lists and dicts"
    )


def _decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$array": name}:
            return arrays[name]
        case {"$int": digits}:
            return int(digits, 16)
        case {"$float": bits}:
            return struct.unpack(">d", bytes.fromhex(bits))[0]
    return {key.removeprefix(_MARK): _decode(item, arrays) for key, item in value.items()}


def _escaped(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where} has the key {key!r}; a state has strings for keys")
    return _MARK + key if key.startswith(_MARK) else key


def _python_scalar(value: np.generic, where: str) -> bool | int | float | str:
    scalar = value.item()
    # The kind as well: a date in nanoseconds turns into an integer.
    if value.dtype.kind not in "biufU" or not isinstance(scalar, bool | int | float | str):
        raise TypeError(f"{where} is a NumPy {value.dtype} scalar; make it a 0-d array")
    return scalar
