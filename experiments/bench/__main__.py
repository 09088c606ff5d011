"""``python -m morl.experiments.bench``: measure speed, print tables, write JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from morl.experiments.bench import end_to_end, environments, population, threads, training_profile
from morl.experiments.bench.measurement import RESULTS

BENCHMARKS = ("population", "end_to_end", "environments", "profile", "threads")

SPEED_PLOT = Path(__file__).resolve().parents[2] / "docs" / "images" / "environment_speed.png"
"""The picture of the documentation, in a checkout."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: without the program; by default those of the process.
    """
    options = _parser().parse_args(arguments)
    chosen = options.only or BENCHMARKS
    if "population" in chosen:
        population.main(pairs=options.pairs or 9, output=options.output)
    if "end_to_end" in chosen:
        end_to_end.main(
            incumbent=options.incumbent, pairs=options.pairs or 5, output=options.output
        )
    if "environments" in chosen:
        committed = options.output == RESULTS / "bench"
        environments.main(
            pairs=options.pairs or 5,
            output=options.output,
            plot=SPEED_PLOT if committed else options.output / "environments.png",
        )
    if "profile" in chosen:
        training_profile.main(output=options.output)
    if "threads" in chosen:
        threads.main(pairs=options.pairs or 9, output=options.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m morl.experiments.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="default: all")
    parser.add_argument(
        "--incumbent", type=Path, metavar="PYTHON", help="interpreter that has morl-baselines"
    )
    parser.add_argument("--pairs", type=int, help="interleaved measurements a row")
    parser.add_argument(
        "--output", type=Path, default=RESULTS / "bench", help="folder of the JSON files"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
