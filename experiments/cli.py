"""`morl`: run, list, report, evaluate, check; errors are answers, not tracebacks."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from morl.experiments import suite_commands, trained_commands
from morl.experiments.config import ConfigError, RunConfig, RunSettings
from morl.experiments.fingerprint import code_version, distribution_of
from morl.experiments.interrupts import RunInterrupted
from morl.experiments.leaderboard import commands as leaderboard_commands
from morl.experiments.text_table import text_table
from morl.registry import AGENTS, DISTRIBUTION, ENVS
from morl.result import RunResult
from morl.search_space import bounds_of
from morl.types import MorlError, Task

EXAMPLES = """\
examples:
  morl run env=minecart-v0 agent=c_morl seed=0 steps=1e6
  morl run experiment=demo
  morl run -m env=fruit-tree-v0 agent=c_morl seed=0,1,2
  morl tune env=minecart-v0 agent=c_morl steps=300000 workers=2
  morl report runs
  morl list envs
"""

RUN_EXAMPLES = """\
Settings are words of the form key=value:
  morl run env=minecart-v0 agent=c_morl seed=0 steps=1e6 agent.learning_rate=1e-3
  morl run env=fruit-tree-v0 env.kwargs.depth=5 env.discount=0.95 env.reference_point=[0,0,0,0,0,0]
  morl run -m env=minecart-v0 seed=0,1,2          several runs, one after the other
  morl run experiment=demo                        a named choice of settings
  morl run agent=c_morl --help                    the settings of an agent as well
  morl run ... --cfg job                          show the composed settings, run nothing

The same command again goes on with an interrupted run, or says that it is done.
"""


TUNE_EXAMPLES = """\
A search for better settings of an agent, judged on fresh seeds:
  morl tune env=minecart-v0 agent=c_morl steps=300000 workers=2
  morl tune env=minecart-v0 agent=c_morl steps=300000 hpo.n_trials=100 hpo.only=[learning_rate,clip]
  morl tune ... hpo.objectives=[hypervolume_jackknife.iqm]        or expected_utility, wall_s:min
  morl tune ... hpo.space.learning_rate.high=0.01                 change a range
  morl tune ... hpo.storage=postgresql://user@host/studies        the same command on every machine
  morl tune -m ... workers=16 hydra/launcher=slurm                one job a worker (or ray_cluster)
  morl run +tuned=studies/minecart-v0-c_morl seed=7               use what was found

The same command again goes on with an interrupted study, or says that it is done.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command line.

    Args:
        arguments: without the program; by default those of the process.

    Returns:
        Exit code: 0 if all went well, 1 for an error, 2 for a command that makes no sense,
        128 + signal after an interruption.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except RunInterrupted as request:
        _complain(request.message)
        return request.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort
        return _explain(error)


def _dispatch(words: Sequence[str]) -> int:
    if words and words[0] == "run":  # what follows is Hydra's
        return _run(words[1:])
    if words and words[0] == "tune":
        return _tune(words[1:])
    if words[:2] == ["suite", "run"]:  # settings and flags in any order
        words = sorted(words, key=lambda word: word.startswith("-"))
    options = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _explain(error: Exception) -> int:
    """Say what went wrong; with a traceback only if it is asked for."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    elif isinstance(error, MorlError):
        _complain(str(error))
    else:
        _complain(
            f"unexpected {type(error).__name__}: {error}\n"
            "  this is a defect of the suite or of a plug-in; HYDRA_FULL_ERROR=1 shows where"
        )
    return 1


def _complain(text: str) -> None:
    sys.stderr.write(f"morl: {text}\n")


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest command for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        for action in self._actions:
            choices = list(action.choices or ())
            for word in message.split("'")[1:2]:
                near = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1)
                if near and "invalid choice" in message:
                    message += f"; did you mean {near[0]!r}?"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="morl",
        description="Multi-objective reinforcement learning: train, measure, compare.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"morl-suite {code_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("run", help="train an agent and measure its front", add_help=False)
    commands.add_parser("tune", help="search for an agent's best settings", add_help=False)

    study = commands.add_parser("study", help="write the report of a study anew")
    study.add_argument("studies", nargs="+", type=Path, help="folders of studies")
    study.set_defaults(command=_study)

    listing = commands.add_parser("list", help="show what there is to choose from")
    listing.add_argument("what", choices=("envs", "agents", "experiments", "tuned"))
    listing.add_argument(
        "env", nargs="?", metavar="env=ID", help="only agents that can act in this environment"
    )
    listing.set_defaults(command=_list)

    report = commands.add_parser("report", help="one HTML page about one or many runs")
    report.add_argument("runs", nargs="+", type=Path, help="folders of runs, or folders of those")
    report.add_argument("--output", type=Path, help="the page (default: report.html in RUNS)")
    report.add_argument("--png", action="store_true", help="also write figures for papers")
    report.set_defaults(command=_report)

    evaluate = commands.add_parser("evaluate", help="recompute a result from what is stored")
    evaluate.add_argument("runs", nargs="+", type=Path, help="folders of runs, or of those")
    evaluate.add_argument(
        "--rerun", action="store_true", help="also play the episodes again, from the checkpoint"
    )
    evaluate.set_defaults(command=_evaluate)

    check = commands.add_parser(
        "check-env", help="try out whether an environment keeps its contract"
    )
    check.add_argument("env", metavar="ID")
    check.add_argument("--steps", type=int, default=200, help="steps of each trial")
    check.set_defaults(command=_check_env)

    bench = commands.add_parser("bench", help="measure speed, as ratios in the same run")
    bench.add_argument("what", choices=("envs",), help="envs: against MO-Gymnasium's batches")
    bench.add_argument("--only", nargs="+", metavar="ID", help="environments (default: all)")
    bench.add_argument("--pairs", type=int, default=5, help="interleaved measurements a row")
    bench.add_argument(
        "--output", type=Path, default=Path("bench"), help="folder of environments.json"
    )
    bench.add_argument("--plot", type=Path, help="picture (default: environments.png in there)")
    bench.set_defaults(command=_bench)

    suite_commands.add_parser(commands)
    trained_commands.add_parser(commands)
    leaderboard_commands.add_parser(commands)

    doctor = commands.add_parser("doctor", help="look for broken plug-ins and missing packages")
    doctor.set_defaults(command=_doctor)
    return parser


def _run(words: Sequence[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(_run_help(words))
        return 0
    # Hydra and torch take a second to load: nothing else needs them.
    from morl.experiments.compose import compose_and_run

    return compose_and_run(words, _job)


def _job(record: Mapping[str, Any]) -> int:
    from morl.experiments.run import result_error, run, run_folder

    try:
        config = RunConfig.from_record(record)
        result = run(config)
    except Exception as error:  # noqa: BLE001 - the other runs of a sweep go on
        return _explain(error)
    print(_summary(result, run_folder(config)))
    problem = result_error(result)
    if problem is not None:  # a bad result, but a result: the run itself is done
        _complain(problem)
    return 0


def _tune(words: Sequence[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(_tune_help(words))
        return 0
    from morl.experiments.compose import TUNE, compose_and_run, launcher_of
    from morl.experiments.study_report import headline
    from morl.experiments.tune import launch

    if launcher_of(words) is None:
        return compose_and_run(words, _tune_job, primary=TUNE)
    summary, folder = launch(words, _worker_job)
    print(headline(summary, folder))
    return 0


def _tune_job(record: Mapping[str, Any]) -> int:
    from morl.experiments.study_report import headline
    from morl.experiments.tune import tune
    from morl.experiments.tune_config import TuneConfig

    try:
        config = TuneConfig.from_record(record)
        summary = tune(config)
    except Exception as error:  # noqa: BLE001 - the other studies of a sweep go on
        return _explain(error)
    print(headline(summary, config.folder))
    return 0


def _worker_job(record: Mapping[str, Any]) -> int:
    """A worker of a study, where a launcher put it."""
    from morl.experiments.tune import work_on

    try:
        return work_on(record)
    except Exception as error:  # noqa: BLE001 - the log of the job says it
        return _explain(error)


def _study(options: argparse.Namespace) -> int:
    from morl.experiments.study_report import headline
    from morl.experiments.tune import report

    for folder in options.studies:
        print(headline(report(folder), folder))
    return 0


def _summary(result: RunResult, folder: Path) -> str:
    lines = [
        f"{result.env.id}, {result.algo.name}, seed {result.seed}: "
        f"{result.front.num_unique} policies on the front, {result.budget.env_steps:,} steps"
    ]
    for name in ("hypervolume", "hypervolume_jackknife", "expected_utility", "hypervolume_ratio"):
        if name in result.metrics:
            metric = result.metrics[name]
            error = metric.standard_error
            margin = "" if error is None else f" ± {error:.3g}"
            lines.append(f"  {name.replace('_', ' '):<22} {metric.value:.6g}{margin}")
    lines.append(f"  {folder / 'result.json'}")
    return "\n".join(lines)


def _run_help(words: Sequence[str]) -> str:
    parts = ["usage: morl run [-m] [key=value ...]\n", RUN_EXAMPLES, "settings of a run:"]
    parts += _settings(RunSettings(), prefix="")
    return "\n".join([*parts, *_CHOICES, *_agents_help(words)])


def _tune_help(words: Sequence[str]) -> str:
    from morl.experiments.tune_config import TuneSettings

    parts = ["usage: morl tune [-m] [key=value ...]\n", TUNE_EXAMPLES, "settings of a study:"]
    parts += _settings(TuneSettings(), prefix="")
    parts += ["  hpo                             named settings: default, smoke, cluster"]
    return "\n".join([*parts, *_CHOICES, *_agents_help(words)])


_CHOICES = (
    "  env                             id of an environment, see `morl list envs`",
    "  env.discount, env.horizon, env.reference_point, env.kwargs.NAME",
    "  agent                           name of an agent, see `morl list agents`",
    "  experiment                      named settings, see `morl list experiments`",
    "  tuned                           settings found by tuning: a name or a file",
)


def _agents_help(words: Sequence[str]) -> list[str]:
    """Settings of the agents that the words choose."""
    lines = []
    for name in [word.removeprefix("agent=") for word in words if word.startswith("agent=")]:
        lines += [f"\nsettings of {name}:", *_settings(AGENTS[name].config(), prefix="agent.")]
    return lines


def _settings(settings: Any, *, prefix: str) -> list[str]:  # noqa: ANN401 - any dataclass
    meanings: dict[str, str] = {}
    for kind in reversed(type(settings).__mro__):
        meanings |= _attributes(kind.__doc__ or "")
    lines = []
    bounds = bounds_of(settings)
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if dataclasses.is_dataclass(value):
            lines += _settings(value, prefix=f"{prefix}{setting.name}.")
            continue
        key = f"{prefix}{setting.name}={'null' if value is None else value}"
        limits = f" {bounds[setting.name].interval}" if setting.name in bounds else ""
        lines.append(f"  {key:<30}  {meanings.get(setting.name, '')}{limits}".rstrip())
    return lines


def _attributes(docstring: str) -> dict[str, str]:
    """The section "Attributes:" of a docstring, one entry a name."""
    found: dict[str, str] = {}
    inside, name, margin = False, "", 0
    for line in docstring.splitlines():
        text = line.strip()
        if not inside:
            inside = text == "Attributes:"
            margin = len(line) - len(line.lstrip()) + 4
        elif not text:
            break
        elif len(line) - len(line.lstrip()) == margin and ": " in text:
            name, _, found[text.partition(": ")[0]] = text.partition(": ")
        elif name:
            found[name] += f" {text}"
    return found


def _list(options: argparse.Namespace) -> int:
    if options.env is not None and options.what != "agents":
        raise ConfigError(f"morl list {options.what} takes no {options.env!r}; only agents do")
    if options.what in ("experiments", "tuned"):
        from morl.experiments.compose import choices_of

        print("\n".join(choices_of(options.what.removesuffix("s"))))
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `_warn_broken` says it better
        rows = _env_rows() if options.what == "envs" else _agent_rows(_task_to_fit(options.env))
        registry = ENVS if options.what == "envs" else AGENTS
        broken = dict(registry.broken)
    print(text_table(rows))
    for name, reason in broken.items():
        _complain(f"skipped as broken: {name}: {reason}")
    return 0


def _env_rows() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("id", "objectives", "horizon", "discount", "from", "available")]
    for name, entry in ENVS.items():
        spec = entry.spec_for()
        missing = entry.available()
        rows.append(
            (
                name,
                f"{spec.num_objectives}: {', '.join(spec.objective_names)}",
                "-" if spec.horizon is None else str(spec.horizon),
                f"{spec.discount:g}",
                _maker(entry.origin, spec.package),
                "yes" if missing is None else missing.partition("needs ")[2] or missing,
            )
        )
    return rows


def _maker(origin: str, package: str) -> str:
    """Who made an environment: the plug-in that registers it, or the package of its dynamics."""
    plug_in = distribution_of(origin)
    return package if plug_in in (None, DISTRIBUTION) else f"{plug_in}"


def _task_to_fit(word: str | None) -> Task | None:
    """The task of a word "env=ID", or None where nothing was said."""
    if word is None:
        return None
    from morl.envs import make_task

    if not word.startswith("env="):
        raise ConfigError(f"morl list agents takes env=ID, got {word!r}")
    return make_task(word.removeprefix("env="))


def _agent_rows(task: Task | None = None) -> list[tuple[str, ...]]:
    """One row per agent; with a task, without those that declare that they cannot act in it."""
    rows: list[tuple[str, ...]] = [("name", "what it is", "from")]
    for name, entry in AGENTS.items():
        if task is not None and entry.supports(task) is not None:
            continue
        meaning = (entry.make.__doc__ or "").strip().splitlines()
        rows.append((name, meaning[0] if meaning else "", entry.origin))
    return rows


def _report(options: argparse.Namespace) -> int:
    from morl.experiments.report import write_report

    for path in write_report(options.runs, output=options.output, png=options.png):
        print(path)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from morl.experiments.comparison import result_files
    from morl.experiments.evaluate import verify

    codes = [0]
    for path in result_files(options.runs):
        try:
            verdict = verify(path.parent, rerun=options.rerun)
        except MorlError as error:  # the others are looked at all the same
            codes.append(_explain(error))
            continue
        print(verdict)
        codes.append(0 if verdict.passed else 1)
    return max(codes)


def _check_env(options: argparse.Namespace) -> int:
    from morl.testing import check_env

    _ = ENVS[options.env]
    report = check_env(options.env, steps=options.steps)
    print(report)
    return 0 if report.passed else 1


def _bench(options: argparse.Namespace) -> int:
    from morl.experiments.bench import environments

    for name in options.only or ():
        _ = ENVS[name]
    plot = options.plot or options.output / "environments.png"
    environments.main(names=options.only, pairs=options.pairs, output=options.output, plot=plot)
    return 0


def _doctor(options: argparse.Namespace) -> int:  # noqa: ARG001 - every command takes options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said below
        broken = {**ENVS.broken, **AGENTS.broken}
        missing = [text for entry in ENVS.values() if (text := entry.available()) is not None]
    print(f"morl-suite {code_version()}: {len(ENVS)} environments, {len(AGENTS)} agents")
    for text in missing:
        print(f"  optional: {text}")
    for name, reason in broken.items():
        print(f"  broken: {name}: {reason}")
    print("all plug-ins load" if not broken else f"{len(broken)} plug-ins are skipped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
