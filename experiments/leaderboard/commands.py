"""``morl leaderboard``: add runs to a board, verify them, build its pages."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from morl.experiments.leaderboard.ledger import Board

EXAMPLES = """\
examples:
  morl leaderboard add runs --board board --suite smoke
  morl leaderboard verify board
  morl leaderboard verify board --tier re-run --run 3fa9c1
  morl leaderboard verify submission.zip --suite smoke
  morl leaderboard build board --output site
"""

_TIERS = ("recomputed", "re-evaluated", "re-run")


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add ``leaderboard`` to the commands of `morl`."""
    parser = commands.add_parser(
        "leaderboard",
        help="tables that anyone can verify: add runs, verify them, build the pages",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    adding = verbs.add_parser("add", help="recompute runs and add them to a board")
    adding.add_argument(
        "runs", nargs="+", type=Path, help="folders of runs, folders of those, or archives"
    )
    adding.add_argument("--board", type=Path, required=True, help="folder of the board")
    adding.add_argument("--suite", help="what a new board is about")
    adding.add_argument("--entry", help="name of the row (default: of the suite's agent)")
    adding.add_argument(
        "--policies", action="store_true", help="keep the policies, for others to play again"
    )
    adding.add_argument(
        "--videos",
        action="store_true",
        help="record the best policy of each objective and the knee, of the median run of each "
        "row (keeps the policies too)",
    )
    adding.set_defaults(command=_add)

    verifying = verbs.add_parser("verify", help="do the records say what their files say?")
    verifying.add_argument("path", type=Path, help="a board, or runs that are on none yet")
    verifying.add_argument("--tier", choices=_TIERS, default=_TIERS[0], help="what to do")
    verifying.add_argument(
        "--run", action="append", default=[], metavar="ID", help="only runs that begin so"
    )
    verifying.add_argument("--suite", help="what runs that are on no board are about")
    verifying.set_defaults(command=_verify)

    building = verbs.add_parser("build", help="write the pages of a board")
    building.add_argument("board", type=Path, help="folder of the board")
    building.add_argument("--output", type=Path, help="folder of the pages (default: BOARD/site)")
    building.set_defaults(command=_build)


def _add(options: argparse.Namespace) -> int:
    from morl.experiments.leaderboard.intake import add

    board = _board(options.board, options.suite)
    kept = options.policies or options.videos
    found = add(board, options.runs, entry=options.entry, policies=kept)
    if options.videos:
        from morl.experiments.leaderboard.recording import film

        film(board, [*found.added, *found.known])
    counts = {
        "added": len(found.added),
        "there already": len(found.known),
        "refused": len(found.refused),
    }
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 1 if found.refused else 0


def _board(folder: Path, suite: str | None) -> Board:
    from morl.experiments.leaderboard.ledger import begin_board, open_board
    from morl.experiments.suites import load_suite

    return open_board(folder) if suite is None else begin_board(folder, load_suite(suite))


def _verify(options: argparse.Namespace) -> int:
    from morl.experiments.leaderboard.ledger import BOARD_FILE, open_board
    from morl.experiments.leaderboard.rows import read_rows
    from morl.experiments.leaderboard.verification import verify_board

    if not (options.path / BOARD_FILE).is_file():
        return _verify_submission(options)
    board = open_board(options.path)
    ledger = board.read()
    for refusal in ledger.refused:
        print(f"FAIL  {refusal.what}: {refusal.reason}")
    checks = verify_board(board, tier=options.tier, runs=options.run)
    altered = read_rows(board).refused_videos
    for refusal in altered:
        print(f"FAIL  {refusal.what}: {refusal.reason}")
    failed = sum(check.passed is False for check in checks) + len(ledger.refused) + len(altered)
    skipped = sum(check.passed is None for check in checks)
    print(f"{len(checks)} runs, {failed} failed, {skipped} skipped, {ledger.torn} torn lines")
    return 1 if failed else 0


def _verify_submission(options: argparse.Namespace) -> int:
    """Recompute runs before they are added anywhere."""
    from morl.experiments.comparison import result_files
    from morl.experiments.leaderboard import archives
    from morl.experiments.leaderboard.ledger import LeaderboardError
    from morl.experiments.leaderboard.verification import verify_folders
    from morl.experiments.suites import frozen_tasks, load_suite

    if options.suite is None or options.tier != _TIERS[0]:
        raise LeaderboardError(
            f"{options.path} is no leaderboard: name the --suite that its runs are about; to play "
            "or train them again, add them to a board first"
        )
    tasks = frozen_tasks(load_suite(options.suite))
    with tempfile.TemporaryDirectory() as unpacked:
        folder = options.path
        if archives.is_archive(folder):
            archives.unpack(folder, Path(unpacked))
            folder = Path(unpacked)
        passed = verify_folders((file.parent for file in result_files([folder])), tasks)
    print(f"{sum(passed)} of {len(passed)} runs are what they say")
    return 0 if all(passed) else 1


def _build(options: argparse.Namespace) -> int:
    from morl.experiments.leaderboard.ledger import open_board
    from morl.experiments.leaderboard.site import build_site

    board = open_board(options.board)
    built = build_site(board, options.output or options.board / "site")
    for refusal in built.refused:
        sys.stderr.write(f"morl: refused: {refusal.what}: {refusal.reason}\n")
    print(
        f"{built.rows} rows of {built.runs} runs, {len(built.refused)} refused, "
        f"{built.torn} torn lines, {built.size / 1e6:.1f} MB"
    )
    print(built.folder / "index.html")
    return 0
