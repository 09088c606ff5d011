"""Writes a board's pages: a folder that needs no server, the same bytes for the same records."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from morl import storage
from morl.experiments.leaderboard.ledger import Board, LeaderboardError, Refusal
from morl.experiments.leaderboard.pages import Site
from morl.experiments.leaderboard.rows import read_rows
from morl.experiments.leaderboard.standings import Standings

MARK = "leaderboard.json"
"""A file that every site has; a folder without it is somebody else's and stays."""

ASSETS = ("board.css", "board.js")


@dataclass(frozen=True)
class Built:
    """What was written.

    Attributes:
        folder: of the pages.
        runs: that are shown.
        rows: of all tables, that is of agents.
        refused: what is not shown.
        torn: lines that a crash left unfinished.
        size: bytes of all pages.
    """

    folder: Path
    runs: int
    rows: int
    refused: tuple[Refusal, ...]
    torn: int
    size: int


def build_site(board: Board, folder: Path) -> Built:
    """Write all pages of a board; an earlier site in the folder is replaced as a whole.

    Args:
        board: the board.
        folder: where to; made if missing.

    Returns:
        What was written.

    Raises:
        LeaderboardError: the folder holds something else than a site.
        StorageError: the board cannot be read, or the folder not be written.
    """
    if folder.exists() and not (folder / MARK).is_file() and any(folder.iterdir()):
        raise LeaderboardError(
            f"{folder} is no folder of pages (it has no {MARK}), so it is not replaced: "
            "choose another --output"
        )
    rows = read_rows(board)
    standings = Standings(board, rows.shown)
    site = Site(board, rows, standings)
    size = _replace(folder, _assets(), site.files())
    return Built(folder, len(rows.shown), len(standings.entries), rows.refused, rows.torn, size)


def _assets() -> list[tuple[str, bytes]]:
    templates = resources.files("morl.experiments.leaderboard") / "templates"
    return [(f"assets/{name}", (templates / name).read_bytes()) for name in ASSETS]


def _replace(folder: Path, *groups: Iterable[tuple[str, bytes]]) -> int:
    """Write files beside a folder and put them in its place; returns their bytes.

    Pages can be made again at any time: they are not forced to the disk one by one.
    """
    storage.make_folder(folder.parent)
    building = storage.temporary_name(folder.parent)
    size = 0
    with storage.typed_errors(folder):
        try:
            for name in ("assets", "runs"):
                (building / name).mkdir(parents=True)
            for group in groups:
                for name, data in group:
                    (building / name).write_bytes(data)
                    size += len(data)
            if folder.exists():
                old = storage.temporary_name(folder.parent)
                folder.rename(old)
                building.rename(folder)
                shutil.rmtree(old, ignore_errors=True)
            else:
                building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return size
