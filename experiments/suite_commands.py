"""``morl suite``: list suites, show what is missing, run it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from morl.experiments.config import ConfigError, nearest, unknown_key
from morl.experiments.text_table import text_table

if TYPE_CHECKING:
    from morl.experiments.suites import Cell, SuiteConfig

KEYS = {
    "workers": "processes at a time (1)",
    "out": "folder for all runs (runs)",
    "seeds": "so many seeds from 0, or a list like 3,4,5 (those of the suite)",
    "only": "rows, tasks or both, separated by commas (all)",
}

EXAMPLES = """\
examples:
  morl suite list
  morl suite run smoke --dry-run
  morl suite run smoke workers=2
  morl suite run discrete only=c_morl,minecart-v0 seeds=3
"""


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add ``suite`` to the commands of `morl`."""
    parser = commands.add_parser(
        "suite",
        help="run a whole table: tasks, agents, seeds",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show the suites that there are")
    listing.set_defaults(command=_list)
    running = verbs.add_parser(
        "run",
        help="make the runs that are missing",
        epilog="settings:\n" + "\n".join(f"  {key}=...  {text}" for key, text in KEYS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    running.add_argument("name", metavar="NAME", help="a suite, or a YAML file of your own")
    running.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see below")
    running.add_argument("--dry-run", action="store_true", help="list the runs, make none")
    running.add_argument(
        "--retry-failed", action="store_true", help="also try runs again that have failed"
    )
    running.set_defaults(command=_run)


def _list(options: argparse.Namespace) -> int:  # noqa: ARG001 - every command takes options
    from morl.experiments.suites import load_suite, suite_names

    rows: list[tuple[str, ...]] = [("name", "tasks", "rows", "seeds", "runs", "what it is")]
    for name in suite_names():
        suite = load_suite(name)
        runs = suite.seeds * sum(
            not agent.tasks or task.name in agent.tasks
            for agent in suite.agents.values()
            for task in suite.tasks
        )
        counts = (len(suite.tasks), len(suite.agents), suite.seeds, runs)
        rows.append((f"{name}/{suite.version}", *map(str, counts), suite.title))
    print(text_table(rows))
    return 0


def _run(options: argparse.Namespace) -> int:
    from morl.experiments.suites import check_packages, load_suite

    settings = _settings(options.settings)
    suite = load_suite(options.name)
    cells = _chosen(suite, settings)
    states = {cell.folder: cell.state() for cell in cells}
    if options.dry_run:
        _show(cells, states)
        return 0
    check_packages(suite)
    return _make(suite, cells, settings, retry_failed=options.retry_failed)


def _make(
    suite: SuiteConfig, cells: Sequence[Cell], settings: Mapping[str, str], *, retry_failed: bool
) -> int:
    from morl.experiments.suite_runner import missing, run_cells

    wanted = missing(cells, retry_failed=retry_failed)
    print(f"{suite.name}/{suite.version}: {len(cells)} runs, {len(wanted)} to be made")
    workers = _number(settings.get("workers", "1"), "workers")
    outcomes = run_cells(wanted, workers=workers, say=lambda line: print(line, flush=True))
    counts = Counter(outcome.state for outcome in outcomes)
    if outcomes:
        print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    failed = [cell for cell in cells if cell.state() == "failed"]
    if failed:
        print(f"{len(failed)} runs have failed and count as failures; --retry-failed tries again")
    return 1 if counts.keys() - {"done"} else 0


def _show(cells: Sequence[Cell], states: Mapping[Any, str]) -> None:
    for cell in cells:
        print(f"{states[cell.folder]:<10}  {cell.config.command()}")
    counts = Counter(states.values())
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))


def _chosen(suite: SuiteConfig, settings: Mapping[str, str]) -> list[Cell]:
    """The cells that ``seeds`` and ``only`` leave."""
    from morl.experiments.suites import suite_cells

    seeds = _seeds(settings["seeds"]) if "seeds" in settings else None
    cells = suite_cells(suite, out=settings.get("out", "runs"), seeds=seeds)
    words = [word for word in settings.get("only", "").split(",") if word]
    tasks = {task.name for task in suite.tasks}
    for word in words:
        if word not in tasks and word not in suite.agents:
            known = [*sorted(tasks), *suite.agents]
            raise ConfigError(
                f"only: no task or row {word!r}{nearest(word, known)}; "
                f"there are: {', '.join(known)}"
            )
    of_tasks = [word for word in words if word in tasks] or tasks
    of_rows = [word for word in words if word in suite.agents] or suite.agents
    return [cell for cell in cells if cell.task in of_tasks and cell.entry in of_rows]


def _settings(words: Sequence[str]) -> dict[str, str]:
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {word!r}: settings are written key=value")
        if key not in KEYS:
            raise ConfigError(unknown_key(key, KEYS))
        settings[key] = value
    return settings


def _seeds(text: str) -> list[int]:
    if "," in text:
        return [_number(word, "seeds", at_least=0) for word in text.split(",") if word]
    return list(range(_number(text, "seeds")))


def _number(text: str, key: str, *, at_least: int = 1) -> int:
    if not text.isdecimal() or int(text) < at_least:
        raise ConfigError(f"{key}: must be a whole number of at least {at_least}, got {text!r}")
    return int(text)
