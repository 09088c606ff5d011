"""Where a study stands, for a line on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from morl.hpo.ledger import CLOSED, runs_of
from morl.hpo.types import Progress, Stage

if TYPE_CHECKING:
    from morl.hpo.study import Study


def progress(study: Study) -> Progress:
    """Count what is done and what is left."""
    stage = next((one for one in study.config.stages if not study.finished(one)), None)
    ledger = study.ledger(stage or study.config.stages[-1])
    states = [ledger.state(task) for task in ledger.tasks]
    best = _best(study)
    done, total, seconds = _runs(study)
    return Progress(
        stage=stage or "done",
        done=sum(state in CLOSED for state in states),
        total=len(states),
        running=states.count("running"),
        pruned=states.count("pruned"),
        failed=states.count("crashed") + states.count("lost"),
        best=best[1] if best else None,
        best_number=best[0] if best else None,
        runs_done=done,
        runs_total=total,
        seconds_a_run=seconds / done if done else None,
    )


def _best(study: Study) -> tuple[int, float] | None:
    """Number and first objective of the best complete trial of the search so far."""
    ledger = study.ledger("search")
    found = [
        (study.objective.sign * trial.values[0], -int(task))
        for task in ledger.tasks
        if ledger.state(task) == "complete"
        for trial in ledger.attempts(task)
        if trial.values and trial.state.name == "COMPLETE"
    ]
    if not found:
        return None
    value, number = max(found)
    return -number, study.objective.sign * value


def _runs(study: Study) -> tuple[int, int, float]:
    """Runs done, runs planned in all, and seconds of those done."""
    done, total, seconds = 0, 0, 0.0
    for stage in study.config.stages:
        if not study.reached(stage):
            total += _expected(study)[stage]
            continue
        ledger = study.ledger(stage)
        ledger.refresh()
        for task in study.tasks(stage):
            runs = runs_of(ledger.attempts(task.key))
            done += len(runs)
            total += len(runs) if ledger.state(task.key) in CLOSED else len(task.seeds)
            seconds += sum(run["cost"]["seconds"] for run in runs.values())
    return done, total, seconds


def _expected(study: Study) -> Mapping[Stage, int]:
    """Runs of stages that are not reached yet."""
    config = study.config
    racing = min(config.race.top_k, config.n_trials)
    tested = 1 + max(1, config.race.top_k) if config.multi_objective else 2
    return {
        "search": config.n_trials * len(config.tuning_seeds),
        "race": racing * len(config.race.seeds),
        "test": tested * len(config.test_seeds),
    }
