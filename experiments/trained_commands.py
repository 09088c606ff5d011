"""The commands after training: play a policy, tabulate runs, go on training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add ``play``, ``table`` and ``continue`` to the command line."""
    play = commands.add_parser("play", help="play episodes with a policy of a run")
    play.add_argument("run", type=Path, help="folder of a run")
    chosen = play.add_mutually_exclusive_group()
    chosen.add_argument(
        "--preference", type=float, nargs="+", metavar="WEIGHT", help="one per objective, sum 1"
    )
    chosen.add_argument("--policy", type=int, metavar="NUMBER", help="as in the report")
    play.add_argument("--episodes", type=int, default=1)
    play.add_argument("--seed", type=int, default=0, help="of the first episode")
    play.add_argument("--video", type=Path, help="file ending in .gif, .webp or .mp4")
    play.set_defaults(command=_play)

    table = commands.add_parser("table", help="a table of runs, or of the front of one")
    table.add_argument("runs", nargs="+", type=Path, help="folders of runs, or folders of those")
    table.add_argument("--front", action="store_true", help="the policies of a single run")
    form = table.add_mutually_exclusive_group()
    for name in ("csv", "markdown", "latex"):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, default="text"
        )
    table.set_defaults(command=_table)

    more = commands.add_parser("continue", help="go on training from the end of a run")
    more.add_argument("run", type=Path, help="folder of a run")
    more.add_argument("--steps", type=float, required=True, help="more environment steps")
    more.add_argument("--folder", type=Path, help="of the new run (default: beside the old one)")
    more.set_defaults(command=_continue)


def _play(options: argparse.Namespace) -> int:
    from morl.experiments.trained import load

    trained = load(options.run)
    which: Any = "knee"
    if options.preference is not None:
        which = options.preference
    elif options.policy is not None:
        which = options.policy
    policy = trained.policy(which)
    print(f"policy {policy.index} of {len(trained)}; report: {_named(trained, policy)}")
    for episode in range(options.episodes):
        seed = options.seed + episode
        returns = policy.rollout(seed=seed)
        print(f"seed {seed}: {_pairs(trained.objectives, returns)}")
    if options.video is not None:
        print(policy.render(options.video, seed=options.seed))
    return 0


def _named(trained: Any, policy: Any) -> str:  # noqa: ANN401 - imported where used
    return _pairs(trained.objectives, policy.expected_return)


def _pairs(names: tuple[str, ...], values: np.ndarray[Any, Any]) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in zip(names, values, strict=True))


def _table(options: argparse.Namespace) -> int:
    from morl.experiments.trained import LoadError, load, runs_table

    if not options.front:
        print(runs_table(options.runs, form=options.form))
        return 0
    if len(options.runs) != 1:
        raise LoadError(f"--front takes a single run, got {len(options.runs)} folders")
    print(load(options.runs[0]).table(options.form))
    return 0


def _continue(options: argparse.Namespace) -> int:
    from morl.experiments.trained import LoadError, load

    if options.steps != int(options.steps):
        raise LoadError(f"steps must be a whole number, got {options.steps}")
    print(load(options.run).continue_training(int(options.steps), folder=options.folder))
    return 0
