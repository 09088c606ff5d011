"""``python -m morl.experiments.fronts``: compute the stored exact fronts anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morl.envs.fronts import FOLDER, FrontFile, save, solve_file

SEARCHED = "backward induction on tables found by breadth-first search through the environment"
TABULATED = "backward induction on tables made from the constants of MO-Gymnasium 1.3.2"

SOLVED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("deep-sea-treasure-v0", {}, SEARCHED),
    ("deep-sea-treasure-concave-v0", {}, SEARCHED),
    ("deep-sea-treasure-mirrored-v0", {}, SEARCHED),
    *(("fruit-tree-v0", {"depth": depth}, SEARCHED) for depth in (5, 6, 7)),
    ("resource-gathering-v0", {}, TABULATED),
    ("four-room-v0", {}, f"{TABULATED}, from shape to shape by shortest ways"),
)
"""Environments, constructor arguments and where their tables come from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m morl.experiments.fronts", description="Compute exact fronts anew."
    )
    parser.add_argument("env", nargs="*", help="ids; default: all that can be solved")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the files")
    options = parser.parse_args(arguments)
    for env, kwargs, method in SOLVED:
        if not options.env or env in options.env:
            file = solve_file(env, method=method, **kwargs)
            sys.stdout.write(f"{save(file, folder=options.output)}: {_sizes(file)}\n")
    return 0


def _sizes(file: FrontFile) -> str:
    return ", ".join(f"{len(front.points)} points at {front.discount}" for front in file.fronts)


if __name__ == "__main__":
    sys.exit(main())
