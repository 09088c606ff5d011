"""Where trials are kept: addresses to Optuna's storages, safely made while others do the same."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import optuna
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from morl.hpo.journal import SturdyJournal, locked
from morl.hpo.types import StudyStorageError
from morl.storage import make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

JOURNAL = "study.journal"
DATABASE = "study.db"
SCHEMES = ("journal", "sqlite", "postgresql")

_BUSY_S = 60.0  # how long SQLite waits for another writer
_ATTEMPTS = 12
_PATIENCE_S = 60.0
_UNPREDICTABLE = random.SystemRandom()  # processes that wait for each other must not agree

T = TypeVar("T")


def resolve(address: str, folder: Path) -> str:
    """The full address of a storage.

    Args:
        address: ``journal://`` or ``sqlite://`` for a file in the study's folder, the same with a
            path, or an address of PostgreSQL as SQLAlchemy takes it.
        folder: of the study.

    Raises:
        StudyStorageError: if it is none of these.
    """
    scheme, separator, rest = address.partition("://")
    plain_scheme = scheme.partition("+")[0]
    if not separator or plain_scheme not in SCHEMES:
        raise StudyStorageError(
            f"storage {address!r}: expected journal://[path], sqlite:///path or "
            "postgresql://user@host/database"
        )
    if plain_scheme == "journal":
        return f"journal://{Path(rest) if rest else folder / JOURNAL}"
    if plain_scheme == "sqlite":
        path = Path(rest.removeprefix("/")) if rest else folder / DATABASE
        return f"sqlite:///{path}"
    return address


def open_storage(address: str) -> BaseStorage:
    """Open a storage, and make it if it is new; any number of processes may do so at once.

    Args:
        address: result of `resolve`.

    Raises:
        StudyStorageError: if it cannot be reached, names it and says why.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scheme, _, rest = address.partition("://")
    if scheme == "journal":
        return JournalStorage(SturdyJournal(Path(rest)))
    if scheme.startswith("sqlite"):
        path = Path(rest.removeprefix("/"))
        make_folder(path.parent)
        with _making(path):
            return _database(address, {"connect_args": {"timeout": _BUSY_S}})
    _check_reachable(address)
    return _database(address, {"pool_pre_ping": True})


def _database(address: str, engine: Mapping[str, object]) -> RDBStorage:
    """Open a database; where another process makes its tables at the same time, try again."""
    for attempt in range(_ATTEMPTS):
        found = _try_database(address, engine, last=attempt == _ATTEMPTS - 1)
        if found is not None:
            return found
        time.sleep(_UNPREDICTABLE.uniform(0.05, 0.5))
    raise AssertionError("the last attempt returns or raises")  # pragma: no cover


def _try_database(address: str, engine: Mapping[str, object], *, last: bool) -> RDBStorage | None:
    try:
        with _quiet("alembic"):
            return RDBStorage(address, engine_kwargs=dict(engine), heartbeat_interval=None)
    except ImportError as error:
        raise StudyStorageError(_without_driver(address)) from error
    except Exception as error:
        if last or not _from_database(error):
            raise StudyStorageError(
                f"storage {shown(address)} cannot be opened: {_first_line(error)}"
            ) from error
        return None


def _check_reachable(address: str) -> None:
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(address)
        with engine.connect():
            pass
        engine.dispose()
    except ImportError as error:
        raise StudyStorageError(_without_driver(address)) from error
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        raise StudyStorageError(
            f"storage {shown(address)} cannot be reached: {_first_line(error)}; check that the "
            "server runs and that the address, user and database are right"
        ) from error


def sync(storage: BaseStorage) -> None:
    """Wait until all that was written is on the disk; databases do not say before that it is."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, SturdyJournal):
        backend.sync()


def patiently(action: Callable[[], T], *, patience_s: float = _PATIENCE_S) -> T:
    """Do something with a storage again while its server is away, for a while.

    Raises:
        StudyStorageError: the server stayed away.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except StorageInternalError as error:  # noqa: PERF203 - the loop tries again
            if time.monotonic() > until:
                raise StudyStorageError(
                    f"the storage does not answer any more: {_first_line(error)}; the same command "
                    "goes on once it is back"
                ) from error
            time.sleep(_UNPREDICTABLE.uniform(0.2, 1.0))


def shown(address: str) -> str:
    """An address without its password."""
    return re.sub(r"(://[^:/@]+):[^@/]*@", r"\1:***@", address)


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """One process at a time: SQLite's tables cannot be made by two."""
    lock = path.with_name(path.name + ".lock")
    try:
        with lock.open("ab") as file, locked(file):
            yield
    except OSError as error:
        raise StudyStorageError(f"storage {path} cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's progress notes off the terminal."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _from_database(error: Exception) -> bool:
    import sqlalchemy

    return isinstance(error, sqlalchemy.exc.SQLAlchemyError | OptunaError | RuntimeError)


def _without_driver(address: str) -> str:
    return (
        f"storage {shown(address)} needs a driver: pip install 'morl-suite[postgres]' "
        "(psycopg 3; an address that begins with postgresql:// finds it)"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
