"""Where readings go. An agent never sees a tracker; no other module imports wandb."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from morl import storage
from morl.types import Metrics, MorlError, NonFiniteError


class TrackerError(MorlError):
    """A tracker that cannot be set up."""


class Tracker(Protocol):
    """Takes readings."""

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Take one reading.

        Args:
            metrics: finite numbers by name; "step" is not a name.
            step: environment steps so far; does not decrease.
        """
        ...

    def close(self) -> None:
        """Finish; calling it twice does no harm."""
        ...


class JsonlTracker:
    """One JSON object a line, in bytes that depend on the readings alone.

    Args:
        path: file to append to; its folder is made if missing.

    Raises:
        StorageError: if the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        storage.make_folder(path.parent)
        self.path = path

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Append one line.

        Raises:
            NonFiniteError: names the metric and the step.
            ValueError: if a metric is called "step".
            StorageError: if the line cannot be written; the file is as before.
        """
        storage.append_json_line(self.path, {**finite(metrics, step=step), "step": int(step)})

    def truncate_after(self, step: int) -> int:
        """Forget what was logged after a step, as a run does that goes on from a checkpoint.

        Torn lines go as well: the file becomes what an uninterrupted run had at that step.

        Args:
            step: last step that stays.

        Returns:
            How many lines were dropped.

        Raises:
            StorageError: if the file cannot be read or replaced; it is as before.
        """
        if not self.path.exists():
            return 0
        lines = [line for line in storage.read_bytes(self.path).split(b"\n") if line]
        kept = [line for line in lines if _step_of(line) <= step]
        storage.atomic_write(self.path, b"".join(line + b"\n" for line in kept))
        return len(lines) - len(kept)

    def sync(self) -> None:
        """Put all readings on the disk, so that a checkpoint does not outlive them."""
        if self.path.exists():
            storage.sync_file(self.path)

    def close(self) -> None:
        """Nothing is kept open."""


class TensorBoardTracker:
    """TensorBoard event files.

    Args:
        folder: where the event files go.
        resumed_at: step that a resumed run goes on from; later readings in the folder are hidden.

    Raises:
        TrackerError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, resumed_at: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrackerError(
                f"TensorBoard cannot be imported ({error}): pip install 'morl-suite[tensorboard]'"
            ) from error
        storage.make_folder(folder)
        purge_step = None if resumed_at is None else resumed_at + 1
        self._writer: Any = SummaryWriter(log_dir=str(folder), purge_step=purge_step)

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Add one scalar a metric."""
        for name, value in finite(metrics, step=step).items():
            self._writer.add_scalar(name, value, global_step=step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WandbTracker:
    """Weights & Biases; offline, hence without an account, unless asked otherwise.

    ``wandb sync FOLDER/wandb/offline-run-*`` uploads an offline run later. All parts of a resumed
    run carry the same id, under which wandb joins them.

    Args:
        folder: the run's folder; wandb makes its own inside.
        project: name of the wandb project.
        name: name of the run.
        config: settings to show beside the run.
        run_id: identifies the run across resumptions; the run's hash.
        mode: "offline", "online" (needs an account) or "disabled".

    Raises:
        TrackerError: if wandb is not installed, or online without an account.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str,
        name: str,
        config: Mapping[str, Any],
        run_id: str | None = None,
        mode: Literal["offline", "online", "disabled"] = "offline",
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TrackerError(f"wandb cannot be imported ({error}): pip install wandb") from error
        # Without this wandb would ask for a key, and wait.
        if mode == "online" and not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
            raise TrackerError("wandb is online without an account: `wandb login`, or mode=offline")
        storage.make_folder(folder)
        self._run: Any = wandb.init(
            project=project,
            name=name,
            config=dict(config),
            dir=str(folder),
            id=run_id,
            resume="allow" if mode == "online" and run_id is not None else None,
            mode=mode,
            settings=wandb.Settings(**_quiet(wandb.Settings)),
        )

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Log one reading."""
        self._run.log(finite(metrics, step=step), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class CompositeTracker:
    """One tracker that counts, and optional sinks that may fail.

    The errors of the primary tracker are the caller's. A sink that fails, be it while it is made,
    takes a reading or closes, is named in one warning and dropped.

    Args:
        primary: the record of the run.
        sinks: makes each optional sink, by the name that a warning gives it.
    """

    def __init__(
        self, primary: Tracker, *, sinks: Mapping[str, Callable[[], Tracker]] | None = None
    ) -> None:
        self._primary = primary
        self._sinks: dict[str, Tracker] = {}
        for name, make in (sinks or {}).items():
            self._guard(name, partial(self._add, name, make))

    @property
    def sinks(self) -> tuple[str, ...]:
        """Names of the optional sinks that still work."""
        return tuple(self._sinks)

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Give one reading to all."""
        self._primary.log(metrics, step=step)
        for name, sink in tuple(self._sinks.items()):
            self._guard(name, partial(sink.log, metrics, step=step))

    def close(self) -> None:
        """Close all, the sinks first."""
        for name, sink in tuple(self._sinks.items()):
            self._guard(name, sink.close)
        self._sinks.clear()
        self._primary.close()

    def _add(self, name: str, make: Callable[[], Tracker]) -> None:
        self._sinks[name] = make()

    def _guard(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            self._sinks.pop(name, None)
            warnings.warn(
                f"tracking by {name} stops, the run goes on: {type(error).__name__}: {error}",
                stacklevel=3,
            )


def finite(metrics: Metrics, *, step: int) -> dict[str, float]:
    """Check and copy one reading; NumPy's numbers become Python's.

    Raises:
        NonFiniteError: names the metric and the step.
        ValueError: if a metric is called "step".
    """
    if "step" in metrics:
        raise ValueError('a metric must not be called "step": that is the reading\'s own step')
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in metrics.items()
    }
    for name, value in plain.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"metric {name!r} is {value} at step {step}")
    return plain


def _quiet(settings: type[Any]) -> dict[str, Any]:
    """Settings of a wandb run that prints nothing and watches nothing."""
    wanted = {
        "silent": True,
        "console": "off",  # leaves stdout and stderr alone
        "disable_git": True,
        "save_code": False,
        "x_disable_stats": True,
        "x_disable_meta": True,
    }
    # Names that open with x_ differ between releases of wandb; they only save time.
    known = getattr(settings, "model_fields", {})
    return {
        name: value for name, value in wanted.items() if name in known or not name.startswith("x_")
    }


def _step_of(line: bytes) -> float:
    record = storage.parse_record(line)
    step = None if record is None else record.get("step")
    return step if isinstance(step, int) else math.inf
