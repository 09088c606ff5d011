"""A board's folder and its ledger: lines that are only ever appended, each with its own hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morl import storage
from morl.experiments.suites import SuiteConfig, frozen_tasks, tasks_digest
from morl.types import MorlError

SCHEMA = "morl-leaderboard/1"
BOARD_FILE, LEDGER_FILE, RUNS_FOLDER = "board.json", "records.jsonl", "runs"

_HEAD = re.compile(rb'\{"digest":"([0-9a-f]{64})",')
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONSTANT = re.compile(rb"\b(NaN|-?Infinity)\b")


class LeaderboardError(MorlError):
    """A board that cannot be used, or a record that does not belong on it."""


@dataclass(frozen=True)
class Refusal:
    """Something that is not shown, and why.

    Attributes:
        what: a line, a run or a file.
        reason: one sentence.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class Line:
    """A line of the ledger.

    Attributes:
        number: from 1.
        content: what it says.
    """

    number: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Ledger:
    """What a ledger holds.

    Attributes:
        lines: whole and unaltered ones, in order.
        refused: altered lines, and such that this version cannot read.
        torn: number of lines that a crash left unfinished.
    """

    lines: tuple[Line, ...]
    refused: tuple[Refusal, ...]
    torn: int


@dataclass(frozen=True)
class Board:
    """A board's folder and what its tables are about.

    Attributes:
        folder: of the board.
        suite: name, version, title and description of its suite.
        tasks: frozen tasks by name, see `morl.experiments.suites.frozen_tasks`.
    """

    folder: Path
    suite: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]

    @property
    def ledger_file(self) -> Path:
        """The file of lines."""
        return self.folder / LEDGER_FILE

    @property
    def label(self) -> str:
        """Name and version of the suite."""
        return f"{self.suite['name']}/{self.suite['version']}"

    def run_folder(self, run_id: str, result_sha256: str) -> Path:
        """Where the files of a run lie; other content has another place.

        Raises:
            LeaderboardError: one of the two is no SHA-256.
        """
        for digest in (run_id, result_sha256):
            if not isinstance(digest, str) or _SHA256.fullmatch(digest) is None:
                raise LeaderboardError(f"{digest!r} is no SHA-256")
        return self.folder / RUNS_FOLDER / f"{run_id[:16]}-{result_sha256[:16]}"

    def append(self, kind: str, content: Mapping[str, Any]) -> None:
        """Add a line; when this returns, it is on the disk.

        Raises:
            NonFiniteError: names the key whose value is not a finite number.
            StorageError: the line could not be written; the ledger is as it was.
        """
        storage.append_line(self.ledger_file, sealed(kind, content), sync=True)

    def read(self) -> Ledger:
        """Every line; a board without a ledger has none.

        Raises:
            StorageError: the ledger is unreadable.
        """
        if not self.ledger_file.exists():
            return Ledger((), (), 0)
        return parse_ledger(storage.read_bytes(self.ledger_file))


def open_board(folder: Path) -> Board:
    """Open a board that is there.

    Raises:
        LeaderboardError: there is none, it is damaged, or of a newer version.
    """
    file = folder / BOARD_FILE
    if not file.is_file():
        raise LeaderboardError(
            f"{folder} is no leaderboard: it has no {BOARD_FILE}; "
            f"begin one with morl leaderboard add RUNS --board {folder} --suite NAME"
        )
    try:
        content = storage.read_json(file)
        _refuse_schema(content, "the board")
        suite, tasks = dict(content["suite"]), dict(content["tasks"])
        if content["tasks_sha256"] != tasks_digest(tasks):
            raise LeaderboardError(f"its tasks were altered after {BOARD_FILE} was made")
    except (KeyError, TypeError, ValueError) as error:
        raise LeaderboardError(f"{file}: not the description of a leaderboard: {error!r}") from None
    except MorlError as error:
        raise LeaderboardError(f"{file}: {error}") from None
    return Board(folder, suite, tasks)


def begin_board(folder: Path, suite: SuiteConfig) -> Board:
    """Open the board of a suite, or make it.

    Raises:
        LeaderboardError: the folder is the board of something else.
        StorageError: the folder cannot be written.
    """
    tasks = frozen_tasks(suite)
    about = {
        "name": suite.name,
        "version": suite.version,
        "title": suite.title,
        "description": suite.description,
        "seeds": suite.seeds,
    }
    if (folder / BOARD_FILE).exists():
        board = open_board(folder)
        if tasks_digest(board.tasks) != tasks_digest(tasks):
            raise LeaderboardError(
                f"{folder} is the board of {board.label}, whose tasks are not those of "
                f"{suite.name}/{suite.version}: use another folder for it"
            )
        return board
    storage.make_folder(folder / RUNS_FOLDER)
    content = {
        "schema": SCHEMA, "suite": about, "tasks": tasks, "tasks_sha256": tasks_digest(tasks),
    }  # fmt: skip
    storage.write_json(folder / BOARD_FILE, content)
    return Board(folder, about, tasks)


def sealed(kind: str, content: Mapping[str, Any]) -> bytes:
    """A line that begins with the SHA-256 of the rest of it."""
    body = storage.json_bytes({**content, "kind": kind, "schema": SCHEMA})
    digest = hashlib.sha256(body).hexdigest().encode()
    return b'{"digest":"' + digest + b'",' + body[1:]


def parse_ledger(data: bytes) -> Ledger:
    """Sort the lines of a ledger into good, refused and torn ones."""
    lines: list[Line] = []
    refused: list[Refusal] = []
    torn = 0
    for number, text in enumerate(data.split(b"\n"), start=1):
        if not text.strip():
            continue
        found = _parse_line(text)
        if found is None:
            torn += 1
        elif isinstance(found, str):
            refused.append(Refusal(f"line {number}", found))
        else:
            lines.append(Line(number, found))
    return Ledger(tuple(lines), tuple(refused), torn)


def _parse_line(text: bytes) -> dict[str, Any] | str | None:
    """The content of a line, why it is refused, or None if it is not whole."""
    head = _HEAD.match(text)
    if head is None or hashlib.sha256(b"{" + text[head.end() :]).hexdigest() != head[1].decode():
        return _what_is_wrong(text)
    try:
        content: dict[str, Any] = storage.parse_json(text)
        _refuse_schema(content, "the line")
    except ValueError as error:
        return f"not strict JSON: {error}"
    except LeaderboardError as error:
        return str(error)
    return content


def _what_is_wrong(text: bytes) -> str | None:
    """Why a line that does not fit its hash is refused, or None if it is merely torn."""
    try:
        json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    constant = _CONSTANT.search(text)
    if constant is not None:
        return f"not strict JSON: {constant[0].decode()} is not a number of JSON"
    if _HEAD.match(text) is None:
        return "not a line of a leaderboard: it does not begin with its digest"
    return "altered after it was added: its digest does not fit"


def _refuse_schema(content: Mapping[str, Any], what: str) -> None:
    schema = content.get("schema")
    if schema == SCHEMA:
        return
    name, _, version = str(schema).partition("/")
    ours, _, our_version = SCHEMA.partition("/")
    if name == ours and version.isdecimal() and int(version) > int(our_version):
        raise LeaderboardError(
            f"{what} has schema {schema}, this version of morl-suite reads up to {SCHEMA}: "
            "install a newer one"
        )
    raise LeaderboardError(f"{what} has schema {schema!r}, not {SCHEMA!r}")
