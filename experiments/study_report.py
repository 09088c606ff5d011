"""All that is written about a study: tables, the best configuration, a page, a checklist."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from morl import storage
from morl.experiments import study_figures
from morl.experiments.checklist import checklist
from morl.experiments.compose import TUNED_FILE
from morl.experiments.config import plain
from morl.experiments.page import figure, page, text
from morl.experiments.tune_config import TuneConfig
from morl.hpo.types import DEFAULTS, Objective, StudySummary, TrialRecord, Validation
from morl.stats import Interval

PAGE, TRIALS, RUNS, CHECKLIST = "study.html", "trials.csv", "runs.csv", "checklist.md"

Row = dict[str, Any]


def write_study(summary: StudySummary, config: TuneConfig, *, folder: Path) -> list[Path]:
    """Write everything about a study into its folder.

    ``best.yaml`` is written when the study is finished and has a winner. Tables are also written as
    Parquet where pyarrow is installed.

    Args:
        summary: what came out so far.
        config: its settings.
        folder: of the study.

    Returns:
        The files written, the page first.

    Raises:
        StorageError: a file cannot be written.
    """
    files = {
        folder / PAGE: render(summary, config).encode(),
        folder / TRIALS: csv_bytes(trial_rows(summary)),
        folder / RUNS: csv_bytes(run_rows(summary)),
        folder / CHECKLIST: checklist(summary, config).encode(),
    }
    if importlib.util.find_spec("pyarrow") is not None:
        files[folder / "trials.parquet"] = parquet_bytes(trial_rows(summary))
        files[folder / "runs.parquet"] = parquet_bytes(run_rows(summary))
    best = tuned_text(summary, config)
    if best is not None:
        files[folder / TUNED_FILE] = best.encode()
    for path, content in files.items():
        storage.atomic_write(path, content)
    return list(files)


# Tables


def trial_rows(summary: StudySummary) -> list[Row]:
    """One row a trial of the search: how it ended, its objectives, cost and settings."""
    labels = [objective.label for objective in summary.config.objectives]
    names = list(summary.space)
    rows = []
    for trial in summary.trials:
        values = trial.values or (None,) * len(labels)
        row: Row = {"trial": trial.number, "state": trial.state}
        row |= dict(zip(labels, values, strict=True))
        row |= {"runs": len(trial.runs), "attempts": trial.attempts}
        row |= {name: _cost(trial, name) for name in ("seconds", "env_steps", "cpu_s")}
        row |= {f"agent.{name}": _cell(_setting(summary, trial, name)) for name in names}
        row["error"] = trial.error
        rows.append(row)
    return rows


def run_rows(summary: StudySummary) -> list[Row]:
    """One row a finished run of any stage: whose it is, every metric and every cost."""
    records = [*summary.trials, *summary.race_runs, *summary.test_runs]
    runs = [(record, run) for record in records for run in record.runs]
    metrics = sorted({name for _, run in runs for name in run.values})
    costs = sorted({name for _, run in runs for name in run.cost} - set(metrics))
    rows = []
    for record, run in runs:
        row: Row = {"stage": record.stage, "trial": record.number, "seed": run.seed}
        row |= {name: run.values.get(name) for name in metrics}
        row |= {name: run.cost.get(name) for name in costs}
        row |= {"diverged": run.diverged, "run_id": run.details.get("run_id", "")}
        rows.append(row)
    return rows


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Rows as CSV with a header; what is missing is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """Rows as Parquet; columns of mixed types as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(rows[0]) if rows else []
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in names}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            columns[name] = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            columns[name] = [None if value is None else str(value) for value in values]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _cost(trial: TrialRecord, name: str) -> float:
    return sum(run.cost.get(name, 0.0) for run in trial.runs)


def _setting(summary: StudySummary, trial: TrialRecord, name: str) -> Any:  # noqa: ANN401 - of any field
    """A setting as the trial used it; the default where a condition left it out."""
    if name in trial.settings:
        return trial.settings[name]
    if not trial.sampled and trial.number != DEFAULTS:
        return None
    place = summary.space[name]
    if "default" not in place:
        return None
    default = place["default"]
    return place["choices"].get(str(default), default) if "choices" in place else default


def _cell(value: Any) -> Any:  # noqa: ANN401 - plain data
    return str(value) if isinstance(value, list | dict) else value


# The best configuration


def tuned_text(summary: StudySummary, config: TuneConfig) -> str | None:
    """The winner as a choice of settings for `morl run +tuned=...`.

    Returns:
        YAML, or None while the study is not finished or has no single winner.
    """
    winner = summary.winner
    if winner is None or not summary.finished:
        return None
    base = plain({"env": vars(config.env)})["env"]
    changed = {key: value for key, value in base.items() if key != "id" and value not in (None, {})}
    content: dict[str, Any] = {
        "defaults": [{"override /env": config.env.id}, {"override /agent": config.agent}],
        "steps": config.steps,
    }
    if changed:
        content["env"] = changed
    content["agent"] = plain(_differences(config)) | plain(winner.settings)
    lines = ["# @package _global_", *(f"# {line}" for line in _verdict(summary, config))]
    return "\n".join([*lines, OmegaConf.to_yaml(OmegaConf.create(content))])


def _differences(config: TuneConfig) -> dict[str, Any]:
    """Settings of the agent in which the study's defaults differ from the agent's own."""
    own = vars(type(config.agent_config)())
    return {key: value for key, value in vars(config.agent_config).items() if own[key] != value}


def _verdict(summary: StudySummary, config: TuneConfig) -> list[str]:
    """What a reader of the configuration should know."""
    assert summary.winner is not None
    done = len(study_figures.complete(summary))
    lines = [
        f"{config.agent} on {config.env.id}, {config.steps:,} steps: trial {summary.winner.number} "
        f"of {len(summary.trials)} ({done} complete), sampler {summary.sampler}."
    ]
    found = summary.validation
    if found is not None:
        lines.append(f"{verdict(found)}")
    lines.append(f"Command: {config.command()}")
    return lines


def verdict(found: Validation) -> str:
    """The test in one sentence."""
    tuned, defaults, gain = found.tuned_interval, found.defaults_interval, found.difference
    if found.number == DEFAULTS:
        return (
            f"The defaults won: {found.metric} {shown(defaults)} on {len(found.seeds)} test seeds."
        )
    word = "gain" if found.gain else "no gain that the test could tell from chance"
    return (
        f"On {len(found.seeds)} test seeds {found.metric} {shown(tuned)} against the defaults' "
        f"{shown(defaults)}: {word}, difference {shown(gain)}."
    )


def shown(interval: Interval) -> str:
    """An estimate with its interval."""
    return f"{interval.estimate:.6g} ({interval.low:.6g} to {interval.high:.6g})"


# The page


def render(summary: StudySummary, config: TuneConfig) -> str:
    """The page as text."""
    drawn: dict[str, Any] = {}
    parts = [
        '<section class="card">',
        *(f'<p class="note">{text(note)}</p>' for note in notes(summary)),
        _facts(summary, config),
        "</section>",
        *_cards(summary, drawn),
        _standings(summary),
        _settings(summary, config),
    ]
    return page(
        "study.html",
        data={"figures": drawn},
        title=f"Tuning of {text(config.agent)} on {text(config.env.id)}",
        subtitle=text(_subtitle(summary)),
        body="\n".join(part for part in parts if part),
    )


def notes(summary: StudySummary) -> list[str]:
    """What a reader must know before he believes the study."""
    found = []
    if not summary.finished:
        found.append("The study is not finished; the same command goes on with it.")
    test = summary.validation
    if test is not None:
        found.append(verdict(test))
        if test.number != DEFAULTS:
            found.append(
                f"What tuning promised was {test.tuning_score:.6g}: {test.optimism:+.3g} against "
                "the test. Quote the test, never the tuning score."
            )
    elif summary.finished and not summary.config.multi_objective:
        found.append("No test seeds: the best score is what tuning says of itself, too good.")
    bad = [trial for trial in summary.trials if trial.state in ("crashed", "lost")]
    if bad:
        found.append(f"{len(bad)} trials ended in an error; the first: {bad[0].error}")
    return found


def _subtitle(summary: StudySummary) -> str:
    states = [trial.state for trial in summary.trials]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    parts = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(states)} trials: {parts}"


def _facts(summary: StudySummary, config: TuneConfig) -> str:
    objectives = "; ".join(map(describe_objective, summary.config.objectives))
    cost = summary.cost
    rows = {
        "objective": objectives,
        "budget of a run": f"{config.steps:,} environment steps",
        "tuning seeds": _listed(summary.config.tuning_seeds),
        "race": f"best {summary.config.race.top_k} on seeds {_listed(summary.config.race.seeds)}"
        if "race" in summary.config.stages
        else "none",
        "test seeds": _listed(summary.config.test_seeds) or "none",
        "sampler, pruner": f"{summary.sampler}, {summary.pruner}",
        "cost of all runs": f"{cost.get('env_steps', 0.0):,.0f} environment steps, "
        f"{cost.get('cpu_s', 0.0) / 60:,.1f} CPU minutes, {summary.wall_seconds / 60:,.1f} "
        "minutes from start to end",
    }
    return _table(list(rows.items()))


def describe_objective(objective: Objective) -> str:
    """An objective in words."""
    sentence = f"{objective.direction} the {objective.aggregate} of {objective.metric} over seeds"
    if objective.variance_penalty:
        sentence += f", minus {objective.variance_penalty:g} standard deviations"
    return sentence


def _cards(summary: StudySummary, drawn: dict[str, Any]) -> list[str]:
    figures = (
        ("test", "Tuned against default", study_figures.test(summary),
         "On seeds that no choice was made by; bootstrap intervals of the mean."),
        ("front", "Trade-offs", study_figures.trade_offs(summary), ""),
        ("history", "History", study_figures.history(summary),
         "Scores on tuning seeds: the best of many is too good."),
        ("cost", "Against cost", study_figures.against_cost(summary), ""),
        ("importances", "What matters", study_figures.importances(summary),
         "Share of the variance among trials that did better than the middle."),
        ("slices", "Setting by setting", study_figures.slices(summary),
         "Later trials are darker."),
        ("parallel", "All settings together", study_figures.parallel(summary), ""),
    )  # fmt: skip
    return [
        f'<section class="card"><h2>{title}</h2>{figure(name, drawing, drawn, title)}'
        f'<p class="hint">{hint}</p></section>'
        for name, title, drawing, hint in figures
        if drawing is not None
    ]


def _standings(summary: StudySummary) -> str:
    if not summary.standings:
        return ""
    names = list(summary.space)
    head = "".join(f"<th>{text(name)}</th>" for name in ("trial", "score", "seeds", *names))
    by_number = {trial.number: trial for trial in summary.trials}
    rows = [
        "<tr>"
        + f'<th scope="row">{place.number}</th><td class="number">{place.score:.6g}</td>'
        + f"<td>{len(place.seeds)}</td>"
        + "".join(
            f"<td>{text(_rounded(_setting(summary, by_number[place.number], name)))}</td>"
            for name in names
        )
        + "</tr>"
        for place in summary.standings[:10]
    ]
    return (
        '<section class="card"><h2>Best configurations</h2><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _settings(summary: StudySummary, config: TuneConfig) -> str:
    best = tuned_text(summary, config)
    shown_best = f"<h3>best.yaml</h3><pre>{text(best)}</pre>" if best else ""
    return (
        f'<section class="card"><h2>To repeat it</h2><pre>{text(config.command())}</pre>'
        f"{shown_best}</section>"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(fact)}</td></tr>' for name, fact in rows
    )
    return f'<div class="scroll"><table><tbody>{cells}</tbody></table></div>'


def _rounded(value: Any) -> str:  # noqa: ANN401 - plain data
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def headline(summary: StudySummary, folder: Path) -> str:
    """What a person wants to know when the command ends."""
    lines = [f"{summary.config.name}: {_subtitle(summary)}"]
    lines += [f"  {note}" for note in notes(summary)]
    winner = summary.winner
    if winner is not None:
        chosen = " ".join(f"{key}={_rounded(value)}" for key, value in winner.settings.items())
        lines.append(f"  best: trial {winner.number}: {chosen or 'the defaults'}")
    if summary.front:
        lines.append(f"  front: trials {', '.join(map(str, summary.front))}")
    lines.append(f"  {folder / PAGE}")
    if (folder / TUNED_FILE).exists():
        lines.append(f"  morl run +tuned={folder / TUNED_FILE}")
    return "\n".join(lines)


def result_record(summary: StudySummary, config: TuneConfig) -> Mapping[str, Any]:
    """The study in numbers, small enough to be committed beside other results."""
    found = summary.validation
    record: dict[str, Any] = {
        "command": config.command(),
        "env": config.env.id,
        "agent": config.agent,
        "budget": config.steps,
        "objectives": [describe_objective(one) for one in summary.config.objectives],
        "sampler": summary.sampler,
        "pruner": summary.pruner,
        "trials": {
            state: sum(trial.state == state for trial in summary.trials)
            for state in sorted({trial.state for trial in summary.trials})
        },
        "tuning_seeds": list(summary.config.tuning_seeds),
        "race": {
            "top_k": summary.config.race.top_k,
            "seeds": list(summary.config.race.seeds),
        },
        "space": summary.space,
        "importances": summary.importances,
        "standings": [
            {"trial": place.number, "score": place.score, "tuning_score": place.tuning_score,
             "settings": place.settings}
            for place in summary.standings[:6]
        ],
        "cost": summary.cost,
        "wall_seconds": summary.wall_seconds,
        "finished": summary.finished,
    }  # fmt: skip
    if found is not None:
        record["test"] = {
            "metric": found.metric,
            "seeds": list(found.seeds),
            "winner": found.number,
            "tuned": list(found.tuned),
            "defaults": list(found.defaults),
            "tuned_mean": _interval(found.tuned_interval),
            "defaults_mean": _interval(found.defaults_interval),
            "difference": _interval(found.difference),
            "gain": found.gain,
            "tuning_score": found.tuning_score,
            "optimism": found.optimism,
            "verdict": verdict(found),
        }
    return record


def _interval(interval: Interval) -> dict[str, Any]:
    return {
        "mean": interval.estimate,
        "interval_95": [interval.low, interval.high],
        "method": interval.method,
    }
