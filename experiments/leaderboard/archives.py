"""Unpack what strangers send: plain files in one folder, of a bounded size, or nothing at all."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from morl.experiments.leaderboard.ledger import LeaderboardError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MOST_MEMBERS = 100_000
MOST_BYTES = 2 * 2**30
MOST_RATIO = 1000.0
"""Bytes that an archive may hold for every byte of its own."""

_BLOCK = 1 << 20
_LEAST_SUSPECT = 50 * 2**20  # a small archive may be as dense as it likes


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_folder: bool
    refusal: str | None


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive that `unpack` reads."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive; every name is checked before the first file is written.

    Args:
        archive: a zip or tar file.
        folder: existing and empty.

    Raises:
        LeaderboardError: names the archive and what is wrong with it.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, folder)
        else:
            _unpack_tar(archive, folder)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as error:
        raise LeaderboardError(f"{archive}: not a readable archive: {error}") from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [
            _Member(entry.filename, entry.file_size, entry.is_dir(), _zip_refusal(entry))
            for entry in opened.infolist()
        ]
        _check(archive, members)
        budget = _Budget(archive)
        for member in members:
            if not member.is_folder:
                with opened.open(member.name) as source, _target(folder, member) as target:
                    budget.copy(source, target)


def _zip_refusal(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device"


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        entries = list(_counted(archive, opened))
        members = [
            _Member(
                entry.name,
                entry.size,
                entry.isdir(),
                None if entry.isreg() or entry.isdir() else "is a link or a device",
            )
            for entry in entries
        ]
        _check(archive, members)
        budget = _Budget(archive)
        for entry, member in zip(entries, members, strict=True):
            if not member.is_folder:
                source = opened.extractfile(entry)
                assert source is not None  # a plain file, see above
                with source, _target(folder, member) as target:
                    budget.copy(source, target)


def _counted(archive: Path, opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, entry in enumerate(opened):
        if number >= MOST_MEMBERS:
            raise LeaderboardError(f"{archive}: more than {MOST_MEMBERS:,} members")
        yield entry


def _check(archive: Path, members: list[_Member]) -> None:
    if len(members) > MOST_MEMBERS:
        raise LeaderboardError(f"{archive}: more than {MOST_MEMBERS:,} members")
    seen: set[str] = set()
    for member in members:
        if member.is_folder and member.name in (".", "./"):
            continue
        reason = member.refusal or _name_refusal(member.name)
        plain = member.name.rstrip("/")
        if reason is None and plain in seen:
            reason = "occurs twice"
        if reason is not None:
            raise LeaderboardError(f"{archive}: the member {member.name!r} {reason}")
        seen.add(plain)
    claimed = sum(member.size for member in members)
    if claimed > MOST_BYTES:
        raise LeaderboardError(f"{archive}: claims {claimed:,} bytes, at most {MOST_BYTES:,}")
    own = max(archive.stat().st_size, 1)
    if claimed > _LEAST_SUSPECT and claimed / own > MOST_RATIO:
        raise LeaderboardError(f"{archive}: claims {claimed / own:,.0f} times its own size")


def _name_refusal(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name:
        return "has no usable name"
    if name.startswith(("/", "\\")) or "\\" in name or ":" in name:
        return "is not a relative name with slashes"
    return "leads out of the archive" if ".." in parts else None


@contextmanager
def _target(folder: Path, member: _Member) -> Iterator[IO[bytes]]:
    path = folder.joinpath(*PurePosixPath(member.name).parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file


class _Budget:
    """Counts what is really written: sizes in headers are claims."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._left = MOST_BYTES

    def copy(self, source: IO[bytes], target: IO[bytes]) -> None:
        while block := source.read(_BLOCK):
            self._left -= len(block)
            if self._left < 0:
                raise LeaderboardError(f"{self._archive}: holds more than {MOST_BYTES:,} bytes")
            target.write(block)
