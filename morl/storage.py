"""The one place that writes files: whole or not at all, and never anything pickled.

A file is written under a temporary name in its own folder, flushed to the disk and renamed, so
that a reader, a crash or a full disk finds either the old content or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from morl.types import MorlError, NonFiniteError

if sys.platform != "win32":
    import fcntl

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_TEMPORARY = ".tmp-"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: equal arrays give equal bytes
_ARRAY_OVERHEAD = 1024  # npy header and zip records of one array, generously

_REMEDIES = {
    errno.EACCES: "the folder is not writable: change its permissions or choose another one",
    errno.EPERM: "the folder is not writable: change its permissions or choose another one",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOSPC: "the disk is full: free some space or choose another folder, then repeat",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EFBIG: "the file size limit is reached: raise it (ulimit -f) or choose another folder",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    errno.EISDIR: "it is a folder, not a file: choose another name",
}


class StorageError(MorlError):
    """A file that cannot be written or read; earlier content is untouched.

    Attributes:
        path: the file or folder.
        needed: bytes that were to be written; 0 when reading.
    """

    def __init__(self, message: str, *, path: Path, needed: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.needed = needed


def make_folder(path: Path) -> Path:
    """Make a folder and its parents where they are missing.

    Raises:
        StorageError: names the folder and the remedy.
    """
    with _typed_errors(path, needed=0, action="made"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file, or make it: afterwards it holds all of `data`, or what it held before.

    Args:
        path: the file.
        data: its new content.
        durable: whether to wait until it is on the disk. Without, a power failure may leave a
            file empty: for what can be made again.

    Raises:
        StorageError: names the path, the bytes needed and the remedy.
    """
    atomic_write_all({path: data}, durable=durable)


def atomic_write_all(files: Mapping[Path, bytes], *, durable: bool = True) -> None:
    """Replace several files together: none is touched before all are safely on the disk.

    The renames follow the order of the mapping; put the file that vouches for the others last.

    Args:
        files: content by path.
        durable: see `atomic_write`.

    Raises:
        StorageError: names the path, the bytes needed and the remedy.
    """
    with contextlib.ExitStack() as leftovers:
        staged = []
        for path, data in files.items():
            temporary = _stage(path, _writes(data), size=len(data), durable=durable)
            leftovers.callback(_discard, temporary)
            staged.append((temporary, path, len(data)))
        for temporary, path, size in staged:
            _publish(temporary, path, size=size, durable=durable)


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        StorageError: if the file is missing or unreadable.
    """
    with _typed_errors(path, needed=0, action="read"):
        return path.read_bytes()


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk.

    Raises:
        StorageError: if it cannot be put there.
    """
    with _typed_errors(path, needed=0, action="written"), path.open("rb+") as file:
        os.fsync(file.fileno())


def write_json(
    path: Path,
    obj: Any,  # noqa: ANN401 - JSON
    *,
    indent: int | None = 1,
    durable: bool = True,
) -> None:
    """Write strict JSON: sorted keys, shortest exact floats, a newline at the end.

    Args:
        path: file to replace.
        obj: mappings with string keys, lists, tuples, strings, numbers (NumPy's too), booleans
            and None.
        indent: spaces a level, or None for one line.
        durable: see `atomic_write`.

    Raises:
        NonFiniteError: names the path of keys that leads to a NaN or an infinity.
        TypeError: names the path of keys that leads to what JSON does not know.
        StorageError: if the file cannot be written.
    """
    try:
        data = json_bytes(obj, indent=indent)
    except NonFiniteError as error:
        raise NonFiniteError(f"{path}: {error}") from None
    atomic_write(path, data + b"\n", durable=durable)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read strict JSON.

    Raises:
        StorageError: if the file is missing, unreadable or not strict JSON.
    """
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"{path} is not valid JSON: {error}", path=path) from None


def json_bytes(obj: Any, *, indent: int | None = None, sort_keys: bool = True) -> bytes:  # noqa: ANN401 - JSON
    """Strict JSON as ASCII bytes, equal for equal content.

    Args:
        obj: see `write_json`.
        indent: spaces a level, or None for the most compact form on one line.
        sort_keys: whether keys are sorted rather than left in the mapping's order.

    Raises:
        NonFiniteError: names the path of keys that leads to a NaN or an infinity.
        TypeError: names the path of keys that leads to what JSON does not know.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        _plain(obj, where=""),
        allow_nan=False,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    return text.encode("ascii")


def parse_json(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse strict JSON (no NaN, no infinity).

    Raises:
        ValueError: if the bytes are anything else.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write named arrays to one .npz; equal arrays give equal bytes.

    Raises:
        TypeError: names an array of a type that cannot be stored exactly.
        StorageError: if the file cannot be written.
    """
    for name, array in arrays.items():
        check_array(array, f"array {name!r}")
    size = arrays_size(arrays)
    temporary = _stage(path, lambda file: _save_arrays(file, arrays), size=size)
    try:
        _publish(temporary, path, size=size)
    finally:
        _discard(temporary)


def array_bytes(arrays: Arrays) -> bytes:
    """The bytes that `write_arrays` would write.

    Raises:
        TypeError: names an array of a type that cannot be stored exactly.
    """
    for name, array in arrays.items():
        check_array(array, f"array {name!r}")
    buffer = io.BytesIO()
    _save_arrays(buffer, arrays)
    return buffer.getvalue()


def check_array(array: NDArray[Any], name: str) -> None:
    """Refuse an array that an .npz would not give back exactly.

    Args:
        array: the array.
        name: what to call it in the message.

    Raises:
        TypeError: if it holds Python objects or a type that NumPy does not know by itself.
    """
    if array.dtype.hasobject:
        raise TypeError(f"{name} holds Python objects; only plain numbers and text are stored")
    described = np.lib.format.dtype_to_descr(array.dtype)
    if np.lib.format.descr_to_dtype(described) != array.dtype:
        raise TypeError(f"{name} has the type {array.dtype}, which .npz would change")


def arrays_size(arrays: Arrays) -> int:
    """Upper bound of the bytes that `write_arrays` writes."""
    return sum(array.nbytes + _ARRAY_OVERHEAD + 2 * len(name) for name, array in arrays.items())


def read_arrays(path: Path, *, max_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz; nothing in it is ever executed.

    Args:
        path: file to read.
        max_bytes: refuse a file whose arrays together claim more than this.

    Raises:
        StorageError: if the file is missing, damaged, too large or holds anything but arrays.
    """
    with _typed_errors(path, needed=0, action="read"), path.open("rb") as file:
        try:
            return _load_arrays(file, max_bytes=max_bytes)
        except OSError:
            raise
        except Exception as error:  # damage shows itself in a dozen types
            raise StorageError(
                f"{path} is not a readable array file (.npz without pickles): {error}", path=path
            ) from error


def append_json_line(path: Path, obj: Mapping[str, Any], *, sync: bool = False) -> None:
    """Append one record to a file of JSON lines; writers in other processes do not tear it.

    The line goes out in one write under a lock (local file systems). What another writer left
    unfinished is first closed by a newline. If the disk fills up half-way, the file is cut back
    to what it held before.

    Args:
        path: file to append to; made if missing.
        obj: the record, see `write_json`.
        sync: whether to wait until the record is on the disk.

    Raises:
        NonFiniteError: names the key whose value is not a finite number.
        StorageError: names the path, the bytes needed and the remedy.
    """
    append_line(path, json_bytes(obj), sync=sync)


def append_line(path: Path, line: bytes, *, sync: bool = False) -> None:
    """Append one line of text, see `append_json_line`.

    Args:
        path: file to append to; made if missing.
        line: without a newline.
        sync: whether to wait until it is on the disk.

    Raises:
        ValueError: the line has a newline in it.
        StorageError: names the path, the bytes needed and the remedy.
    """
    if b"\n" in line:
        raise ValueError("a line has no newline in it")
    line += b"\n"
    with _typed_errors(path, needed=len(line), action="appended to"):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _CLOSE_ON_EXEC, 0o666)
        try:
            _lock(descriptor)
            _append(descriptor, line)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read a file of JSON lines; lines that a crash tore are skipped and counted.

    Returns:
        The records in file order, and the number of lines that hold no JSON object.

    Raises:
        StorageError: if the file is missing or unreadable.
    """
    records = []
    torn = 0
    for line in read_bytes(path).split(b"\n"):
        if not line.strip():
            continue
        record = parse_record(line)
        if record is None:
            torn += 1
        else:
            records.append(record)
    return records, torn


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The JSON object of one line, or None where the line holds no whole one."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        StorageError: if the file is missing or unreadable.
    """
    digest = hashlib.sha256()
    with _typed_errors(path, needed=0, action="read"), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_free_space(folder: Path, size: int) -> None:
    """Refuse to begin a write that the disk has no room for, twice over.

    Twice, because old and new content lie side by side until the rename.

    Args:
        folder: where the file will go; exists.
        size: bytes to be written.

    Raises:
        StorageError: names the folder, the bytes needed and the bytes free.
    """
    usage = shutil.disk_usage(folder)
    if usage.total and usage.free < 2 * size:  # some file systems do not tell: total 0
        raise StorageError(
            f"{folder} has {usage.free:,} bytes free, {2 * size:,} are needed (twice the "
            f"{size:,} to be written): free some space or choose another folder, then repeat",
            path=folder,
            needed=2 * size,
        )


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that a killed writer left in a folder.

    Only for a folder that nobody else is writing to at this moment.
    """
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _discard(path)


def typed_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn the system's errors about a path, inside the block, into `StorageError`."""
    return _typed_errors(path, needed=0, action="written")


def temporary_name(folder: Path) -> Path:
    """A free name in a folder that `remove_leftovers` knows."""
    return folder / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, so that a rename survives a power failure."""
    if sys.platform == "win32":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _stage(
    path: Path, write: Callable[[BinaryIO], object], *, size: int, durable: bool = True
) -> Path:
    """Write and sync a temporary file beside `path`; gone again if that fails."""
    temporary = temporary_name(path.parent)
    with _typed_errors(path, needed=size, action="written"):
        check_free_space(path.parent, size)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOSE_ON_EXEC
        descriptor = os.open(temporary, flags, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                write(file)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
        except BaseException:
            _discard(temporary)
            raise
    return temporary


def _writes(data: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(data)


def _publish(temporary: Path, path: Path, *, size: int, durable: bool = True) -> None:
    with _typed_errors(path, needed=size, action="written"):
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _typed_errors(path: Path, *, needed: int, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            describe_os_error(error, path, needed=needed, action=action), path=path, needed=needed
        ) from error


def describe_os_error(error: OSError, path: Path, *, needed: int, action: str) -> str:
    """One sentence on what failed, where, and what to do about it."""
    reason = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
    size = f" ({needed:,} bytes needed)" if needed else ""
    return f"{path} cannot be {action}{size}: {reason}"


def _plain(value: Any, *, where: str) -> Any:  # noqa: ANN401 - JSON
    """Copy a value into what `json` knows; refuse the rest by its path of keys."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NonFiniteError(f"{where or 'the value'} is {value}, not a finite number")
        return value
    if isinstance(value, Mapping):
        return {
            _string(key, where): _plain(item, where=f"{where}.{key}" if where else str(key))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, where=f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where or 'the value'} is a {type(value).__name__}, which JSON cannot hold")


def _string(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where or 'the value'} has the key {key!r}; JSON needs strings")
    return key


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _save_arrays(file: BinaryIO, arrays: Arrays) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, np.asanyarray(arrays[name]), allow_pickle=False)


def _load_arrays(file: BinaryIO, *, max_bytes: int | None) -> dict[str, NDArray[Any]]:
    loaded = np.load(file, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise TypeError("it holds one bare array")
    file.seek(0)
    claimed = sum(member.file_size for member in zipfile.ZipFile(file).infolist())
    if max_bytes is not None and claimed > max_bytes:
        raise ValueError(f"its arrays claim {claimed:,} bytes, at most {max_bytes:,} are accepted")
    arrays = {name: loaded[name] for name in loaded.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"member {name!r} is not an array")
    return arrays


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":  # freed by the system when the descriptor closes, however
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _append(descriptor: int, line: bytes) -> None:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        if os.read(descriptor, 1) != b"\n":
            line = b"\n" + line
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
