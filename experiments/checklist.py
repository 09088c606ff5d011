"""The reproducibility checklist for tuning in reinforcement learning, filled in for a study.

The questions are those of Eimer, Lindauer and Raileanu, "Hyperparameters in Reinforcement Learning
and How To Tune Them" (ICML 2023), in our words.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from morl.experiments.tune_config import TuneConfig
from morl.hpo.types import StudySummary
from morl.result import collect_provenance

METHODS = {
    "gp": "a Gaussian process with a noisy objective and log expected improvement",
    "tpe": "tree-structured Parzen estimators",
    "random": "random search",
    "sobol": "a scrambled Sobol sequence",
    "cmaes": "CMA-ES",
    "nsga2": "NSGA-II",
}


def checklist(summary: StudySummary, config: TuneConfig) -> str:
    """The filled-in list as Markdown."""
    sections = [
        ("Training and test settings", _settings(summary)),
        ("Method", _method(summary)),
        ("Configuration space", _space(summary)),
        ("What was optimised, and the budget", _budget(summary, config)),
        ("Seeds", _seeds(summary)),
        ("Final configuration", _incumbent(summary)),
        ("Code, software and hardware", _machine(summary, config)),
    ]
    lines = [
        f"# Reproducibility checklist: {config.agent} on {config.env.id}",
        "",
        "After Eimer, Lindauer and Raileanu (ICML 2023). Filled in by the study itself; `[ ]` "
        "marks what does not hold or is for you to answer.",
    ]
    for title, content in sections:
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _settings(summary: StudySummary) -> list[str]:
    return [
        "Training and test differ by seeds: the environment is one, its episodes are not.",
        "",
        _box(True, "only training seeds were trained on"),
        _box(True, "only tuning seeds were tuned on; test seeds are disjoint from them"),
        _box(summary.validation is not None, "final results are reported on the test seeds"),
    ]


def _method(summary: StudySummary) -> list[str]:
    race = summary.config.race
    lines = [
        f"- package: morl-suite {version('morl-suite')} with Optuna {version('optuna')}",
        f"- method: {METHODS.get(summary.sampler, summary.sampler)}, pruning: {summary.pruner}, "
        f"sampler seed {summary.config.seed}; trial 0 is the default configuration",
    ]
    if "race" in summary.config.stages:
        lines.append(
            f"- second stage: the best {race.top_k} configurations on {len(race.seeds)} more seeds"
        )
    return lines


def _space(summary: StudySummary) -> list[str]:
    return [f"- `{name}`: {_range(place)}" for name, place in summary.space.items()]


def _range(place: Mapping[str, Any]) -> str:
    if "tie" in place:
        return f"follows from others: {place['tie']}"
    if place["type"] == "categorical":
        span = "{" + ", ".join(map(str, place["choices"])) + "}"
    elif place["type"] == "int":
        span = f"[{int(place['low'])}, {int(place['high'])}]"
    else:
        span = f"({place['low']:g}, {place['high']:g})"
    span = f"log({span})" if place.get("log") else span
    conditions = " and ".join(
        f"{name} in {values}" for name, values in place.get("when", {}).items()
    )
    return f"{span}, default {place['default']}" + (f", where {conditions}" if conditions else "")


def _budget(summary: StudySummary, config: TuneConfig) -> list[str]:
    cost = summary.cost
    return [
        "- metric: " + "; ".join(_objective(summary)),
        f"- tuning budget: {summary.config.n_trials} configurations, {config.steps:,} environment "
        f"steps a run; used in all stages: {cost.get('env_steps', 0.0):,.0f} environment steps, "
        f"{cost.get('cpu_s', 0.0) / 3600:.2f} CPU hours",
        "- [ ] all methods that are compared got this budget (yours to answer)",
        "- [ ] algorithms that share settings share their ranges (yours to answer)",
    ]


def _objective(summary: StudySummary) -> list[str]:
    return [
        f"{one.direction} {one.aggregate} of {one.metric} over seeds"
        + (f" - {one.variance_penalty:g} sd" if one.variance_penalty else "")
        for one in summary.config.objectives
    ]


def _seeds(summary: StudySummary) -> list[str]:
    config = summary.config
    race = config.race.seeds if "race" in config.stages else ()
    return [
        f"- {len(config.tuning_seeds)} tuning seeds: {_listed(config.tuning_seeds)}",
        *([f"- {len(race)} tuning seeds of the race: {_listed(race)}"] if race else []),
        f"- {len(config.test_seeds)} test seeds: {_listed(config.test_seeds)}",
        _box(summary.validation is not None, "all results to be reported are on the test seeds"),
    ]


def _incumbent(summary: StudySummary) -> list[str]:
    winner = summary.winner
    if winner is None:
        return ["There is no single winner."]
    if not winner.settings:
        return [f"Trial {winner.number}: the defaults."]
    return [
        f"Trial {winner.number}:",
        "",
        *(f"- `{name}`: {value}" for name, value in winner.settings.items()),
    ]


def _machine(summary: StudySummary, config: TuneConfig) -> list[str]:
    found = collect_provenance({})
    packages = ", ".join(f"{name} {number}" for name, number in sorted(found.packages.items()))
    return [
        f"- command, tuning included: `{config.command()}`",
        f"- commit: {found.git_sha or 'unknown'}",
        f"- software: Python {found.python}, {packages}; exact versions in `requirements.lock`",
        f"- hardware: {found.cpu}, {os.cpu_count()} cores, {config.workers} workers, no accelerator"
        " asked for",
        _box(summary.finished, "the study is finished"),
    ]


def _box(holds: bool, text: str) -> str:
    return f"- [{'x' if holds else ' '}] {text}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
