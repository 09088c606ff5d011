"""Every result as a file too, for people and for programs without a database.

The storage is what counts: a file that a killed worker did not come to write, or that a power cut
took, is made up for later. So nobody waits until it is on the disk.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morl.hpo.types import RunRecord, Stage, TrialRecord
from morl.storage import StorageError, atomic_write, make_folder, read_json, write_json

if TYPE_CHECKING:
    from morl.hpo.study import Study

RUN = "outcome.json"  # not result.json: that is the name of an ordinary run's
TRIAL = "trial.json"
ERROR = "error.txt"

_ENDED = ("complete", "pruned", "crashed", "lost")


def write_run(folder: Path, record: RunRecord) -> None:
    """Write what a run found into its folder, which exists."""
    write_json(folder / RUN, asdict(record), durable=False)


def write_trial(study: Study, record: TrialRecord) -> None:
    """Write a configuration's record into its folder in the stage; of the search only."""
    if record.stage == "search":
        folder = make_folder(study.trial_folder("search", record.number))
        write_json(folder / TRIAL, trial_record(record), durable=False)


def write_error(folder: Path, text: str) -> None:
    """Keep the traceback of a run that crashed."""
    atomic_write(folder / ERROR, text.encode(), durable=False)


def trial_record(record: TrialRecord) -> dict[str, Any]:
    """A trial as plain data."""
    return asdict(record)


def write_missing(study: Study) -> int:
    """Write the files of finished runs and trials that are not there.

    Returns:
        How many.
    """
    return sum(_write_missing_of(study, stage) for stage in study.config.stages)


def _write_missing_of(study: Study, stage: Stage) -> int:
    count = 0
    for record in study.trials(stage):
        for run in record.runs:
            folder = study.run_folder(stage, record.number, run.seed)
            if not _is_whole(folder / RUN):
                write_run(make_folder(folder), run)
                count += 1
        ended = stage == "search" and record.state in _ENDED
        if ended and not _is_whole(study.trial_folder(stage, record.number) / TRIAL):
            write_trial(study, record)
            count += 1
    return count


def _is_whole(path: Path) -> bool:
    try:
        read_json(path)
    except StorageError:
        return False
    return True
