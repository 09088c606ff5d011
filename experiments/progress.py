"""What a person sees while a run is going: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from morl.hpo.types import Progress as Standing


class Progress:
    """Steps, steps per second, time left and the current hypervolume, on standard error.

    Args:
        total: steps of the whole run.
        done: steps taken before, by an earlier part of the same run.
        label: what is running.
        stream: where to write; standard error by default.
    """

    def __init__(
        self, total: int, *, done: int = 0, label: str = "", stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._first = self._done = done
        self._label = label
        self._start = time.perf_counter()
        self._bar = (
            tqdm(
                total=total,
                initial=done,
                desc=label,
                unit="step",
                unit_scale=True,
                file=self._stream,
                dynamic_ncols=True,
            )
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> Progress:
        """Nothing to do: the bar is there already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: int) -> None:
        """Show how far the run is.

        Args:
            steps: taken so far.
        """
        if self._bar is not None:
            self._bar.update(steps - self._done)
        self._done = steps

    def found(self, hypervolume: float, num_solutions: int) -> None:
        """Show a point of the learning curve.

        Args:
            hypervolume: of the solutions on the selection stream.
            num_solutions: how many make up the front.
        """
        if self._bar is not None:
            self._bar.set_postfix_str(f"hypervolume {hypervolume:.6g}, front {num_solutions}")
            return
        self.say(
            f"{self._label}: {self._done:,}/{self._total:,} steps, {self._speed()}, "
            f"hypervolume {hypervolume:.6g}, front {num_solutions}"
        )

    def phase(self, text: str) -> None:
        """Say what goes on while the steps stand still."""
        if self._bar is not None:
            self._bar.set_description_str(f"{self._label} {text}")

    def say(self, line: str) -> None:
        """Print a line beside the bar."""
        if self._bar is not None:
            tqdm.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def _speed(self) -> str:
        taken = self._done - self._first
        if taken <= 0:
            return "just begun"
        elapsed = time.perf_counter() - self._start
        left = elapsed * (self._total - self._done) / taken
        return f"{taken / elapsed:,.0f} steps/s, {_duration(left)} left"


class StudyProgress:
    """Trials, the best of them and the time left of a study, on standard error.

    Args:
        label: what is tuned.
        workers: that share the work.
        stream: where to write; standard error by default.
    """

    def __init__(self, *, label: str, workers: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._label = label
        self._workers = workers
        self._line = ""
        self._bar: tqdm | None = None

    def __enter__(self) -> StudyProgress:
        """Nothing to do: the bar appears with the first news."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()

    def show(self, now: Standing) -> None:
        """Show where the study stands; without a terminal only if something has changed.

        Args:
            now: what the engine reports.
        """
        facts = [_stage(now), *_remarks(now)]
        if self._stream.isatty():
            self._show_bar(now, ", ".join(facts))
            return
        line = f"{self._label}: {', '.join(facts)}"
        if line != self._line:
            self._line = line
            left = now.seconds_left(self._workers)
            rest = f", {_duration(left)} left" if left and now.stage != "done" else ""
            self.say(f"{line}{rest}")

    def say(self, line: str) -> None:
        """Print a line beside the bar."""
        if self._bar is not None:
            tqdm.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def _show_bar(self, now: Standing, facts: str) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=now.runs_total,
                initial=now.runs_done,
                desc=self._label,
                unit="run",
                file=self._stream,
                dynamic_ncols=True,
            )
        self._bar.total = now.runs_total
        self._bar.set_postfix_str(facts, refresh=False)
        self._bar.update(now.runs_done - self._bar.n)
        self._bar.refresh()


_UNITS = {"search": "trials", "race": "runs", "test": "runs"}


def _stage(now: Standing) -> str:
    if now.stage == "done":
        return f"done, {now.runs_done:,} runs"
    return f"{now.stage} {now.done:,}/{now.total:,} {_UNITS[now.stage]}"


def _remarks(now: Standing) -> list[str]:
    found = [
        f"{count:,} {word}"
        for count, word in ((now.pruned, "pruned"), (now.failed, "failed"))
        if count
    ]
    if now.best is not None:
        found.append(f"best {now.best:.6g} in trial {now.best_number}")
    return found


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
