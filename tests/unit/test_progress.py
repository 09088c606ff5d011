from __future__ import annotations

import io

import pytest

from morl.experiments import progress as module
from morl.experiments.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_without_a_terminal_there_is_one_line_a_point_of_the_curve(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress(10_000, done=2_000, label="levers-v0", stream=stream) as progress:
        clock[0] = 2.0
        progress.advance(4_000)
        progress.found(12.3456789, 7)
        progress.advance(5_000)
    assert stream.getvalue() == (
        "levers-v0: 4,000/10,000 steps, 1,000 steps/s, 0:06 left, hypervolume 12.3457, front 7\n"
    )


def test_hours_are_told_apart_from_minutes(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(1_000_000, stream=stream)
    clock[0] = 100.0
    progress.advance(10_000)
    progress.found(1.0, 1)
    assert "2:45:00 left" in stream.getvalue()


def test_before_the_first_step_there_is_no_speed() -> None:
    stream = io.StringIO()
    Progress(100, done=50, stream=stream).found(1.0, 1)
    assert "50/100 steps, just begun, hypervolume" in stream.getvalue()


def test_on_a_terminal_there_is_a_bar_with_the_hypervolume() -> None:
    stream = Terminal()
    with Progress(1_000, label="levers-v0", stream=stream) as progress:
        progress.advance(500)
        progress.found(99.5, 3)
        progress.phase("(final evaluation)")
        progress.say("a line beside it")
    shown = stream.getvalue()
    assert "levers-v0" in shown
    assert " 50%" in shown
    assert "hypervolume 99.5, front 3" in shown
    assert "(final evaluation)" in shown
    assert "a line beside it\n" in shown
