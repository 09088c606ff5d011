"""Every task is done exactly once, whoever dies."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState as OptunaState

from morl.hpo.identity import Owner
from morl.hpo.ledger import Attempt, Heart, Ledger, TakenOverError, runs_of, state_of
from morl.hpo.storage import open_storage

SPACE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
ELSEWHERE = replace(Owner.here(9), machine="another machine")


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


def ledger(storage: BaseStorage, tasks: int = 3, **changes: Any) -> Ledger:
    study = optuna.create_study(
        storage=storage, study_name="s", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    usual: dict[str, Any] = {"fresh": True, "num_params": 1, "max_retries": 2, "stale_after": 60.0}
    return Ledger(study, storage, [str(n) for n in range(tasks)], **{**usual, **changes})


def claimed(book: Ledger, owner: Owner) -> Attempt:
    attempt = book.claim(owner)
    assert attempt is not None
    return attempt


def dead_owner(worker: int = 5) -> Owner:
    """A worker of this process that has ended without a word."""
    owner = Owner.here(worker)
    owner.leave()
    return owner


def states(book: Ledger) -> list[str]:
    book.refresh()
    return [book.state(task) for task in book.tasks]


def test_tasks_are_begun_in_order_and_each_once(storage: BaseStorage) -> None:
    book, other = ledger(storage), ledger(storage)
    one, two = Owner.here(0), Owner.here(1)
    found = [claimed(book, one), claimed(other, two), claimed(book, one)]
    assert [attempt.task for attempt in found] == ["0", "1", "2"]
    assert other.claim(two) is None
    assert not other.finished()
    for attempt in found:
        attempt.complete([1.0])
    assert states(other) == ["complete"] * 3
    assert other.finished()
    assert other.claim(two) is None
    assert len(storage.get_all_trials(0)) == 3


def test_a_dead_workers_task_is_begun_again_with_its_parameters_and_runs(
    storage: BaseStorage,
) -> None:
    book = ledger(storage)
    lost = claimed(book, dead_owner())
    lost.set_params({"x": 0.25}, SPACE)
    lost.keep_run(7, {"values": {"hypervolume": 1.0}})
    lost.report(1, 0.5)
    again = claimed(book, Owner.here(0))
    assert again.task == "0"
    assert again.params == {"x": 0.25}
    assert again.runs == {7: {"values": {"hypervolume": 1.0}}}
    assert storage.get_trial(again.trial_id).intermediate_values == {1: 0.5}
    with pytest.raises(TakenOverError):
        lost.complete([1.0])
    with pytest.raises(TakenOverError):
        lost.report(2, 0.5)
    again.complete([2.0])
    assert states(book) == ["complete", "waiting", "waiting"]


def test_a_task_whose_worker_died_before_drawing_all_parameters_is_drawn_anew(
    storage: BaseStorage,
) -> None:
    book = ledger(storage, num_params=2)
    claimed(book, dead_owner()).set_params({"x": 0.25}, SPACE)
    again = claimed(book, Owner.here(0))
    assert again.task == "0"
    assert again.params == {}


def test_a_task_that_kills_its_workers_is_given_up(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    for _ in range(3):
        assert claimed(book, dead_owner()).task == "0"
    assert book.claim(Owner.here(0)) is None
    assert states(book) == ["lost"]
    assert book.finished()


def test_released_tasks_do_not_count_as_deaths(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1, max_retries=0)
    for _ in range(4):
        claimed(book, Owner.here(0)).release()
    assert states(book) == ["waiting"]
    claimed(book, Owner.here(0)).complete([1.0])
    assert states(book) == ["complete"]


def test_crashes_close_a_task_at_once(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    claimed(book, Owner.here(0)).crash("ValueError: no")
    assert states(book) == ["crashed"]
    assert book.claim(Owner.here(0)) is None


def test_a_worker_that_died_while_it_wrote_its_crash_crashed(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    attempt = claimed(book, dead_owner())
    storage.set_trial_user_attr(attempt.trial_id, "end", "crashed")
    assert book.claim(Owner.here(0)) is None
    assert states(book) == ["crashed"]


def test_pruned_trials_keep_their_last_value(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    attempt = claimed(book, Owner.here(0))
    attempt.report(1, 3.5)
    attempt.prune("below the median")
    assert states(book) == ["pruned"]
    assert storage.get_trial(attempt.trial_id).value == 3.5


def test_of_two_that_begin_one_task_the_second_withdraws(storage: BaseStorage) -> None:
    book, other = ledger(storage, fresh=False), ledger(storage, fresh=False)
    book.refresh()
    other.refresh()
    first = book._begin("1", Owner.here(0))
    assert first is not None
    assert other._begin("1", Owner.here(1)) is None
    assert states(other) == ["waiting", "running", "waiting"]
    first.complete([1.0])
    assert other._begin("1", Owner.here(1)) is None
    assert states(other) == ["waiting", "complete", "waiting"]


def test_workers_begin_contended_tasks_at_different_places(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=4, fresh=False)
    assert claimed(book, Owner.here(2)).task == "2"
    assert claimed(book, Owner.here(0)).task == "0"


def test_more_tasks_than_before_are_simply_begun(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    claimed(book, Owner.here(0)).complete([1.0])
    more = ledger(storage, tasks=2)
    more.refresh()
    assert not more.finished()
    assert claimed(more, Owner.here(0)).task == "1"


def test_a_surplus_attempt_withdraws_and_serves_later(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    late = ledger(storage, tasks=1)
    late.refresh()
    claimed(book, Owner.here(0)).complete([1.0])
    assert late._begin(None, Owner.here(1)) is None
    late.refresh()
    assert late.finished()
    more = ledger(storage, tasks=2)
    again = claimed(more, Owner.here(0))
    assert again.task == "1"
    again.complete([1.0])
    assert states(more) == ["complete"] * 2


def test_a_silent_worker_elsewhere_is_dead_after_a_while_by_our_own_clock(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("morl.hpo.ledger.time.monotonic", lambda: now)
    book = ledger(storage, tasks=1)
    attempt = claimed(book, ELSEWHERE)
    assert book.reap() == 0
    now += 59.0
    book.refresh()
    assert book.reap() == 0
    attempt.beat(1)  # its clock does not matter, only that something changed
    now += 59.0
    book.refresh()
    assert book.reap() == 0
    now += 61.0
    book.refresh()
    assert book.reap() == 1
    assert states(book) == ["waiting"]


def test_a_trial_that_somebody_else_enqueued_is_left_alone(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    book.optuna_study.add_trial(
        optuna.trial.create_trial(params={"x": 0.5}, distributions=SPACE, value=3.0)
    )
    assert claimed(book, Owner.here(0)).task == "0"


def test_the_state_of_a_process_is_told() -> None:
    code = "import time; print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    mine = Owner.here(0)
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        pytest.skip("processes are told apart by /proc")
    started = int(stat.read_text().rpartition(")")[2].split()[19])
    theirs = replace(mine, pid=process.pid, started=started)
    assert not mine.known_dead()
    assert not theirs.known_dead()
    assert replace(theirs, started=started + 1).known_dead()  # another process of that number
    assert not replace(theirs, machine="m", started=0).known_dead()  # nothing is known
    process.kill()
    time.sleep(0.2)
    assert theirs.known_dead()  # not waited for yet, and dead all the same
    process.wait()
    process.stdout.close()
    assert theirs.known_dead()
    mine.leave()
    assert mine.known_dead()


def test_an_owner_is_read_back_or_not_at_all() -> None:
    mine = Owner.here(3)
    assert Owner.read(mine.record()) == mine
    assert Owner.read({"host": "h"}) is None


def test_the_heart_beats_and_notices_a_takeover(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    attempt = claimed(book, Owner.here(0))
    heart = Heart(0.01)
    heart.start()
    heart.begin(attempt)
    until = time.monotonic() + 10.0
    while "beat" not in storage.get_trial(attempt.trial_id).user_attrs:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not heart.taken_over
    storage.set_trial_state_values(attempt.trial_id, OptunaState.FAIL)
    while not heart.taken_over:
        assert time.monotonic() < until
        time.sleep(0.01)
    heart.stop()
    assert not heart.is_alive()


class Workers:
    """Three workers on one study, who do what they are told."""

    def __init__(self, total: int, *, fresh: bool) -> None:
        self.storage = InMemoryStorage()
        self.books = [ledger(self.storage, total, fresh=fresh, max_retries=99) for _ in range(3)]
        self.owners = [Owner.here(n) for n in range(3)]
        self.held: list[Attempt | None] = [None] * 3
        self.drawn: dict[str, float] = {}
        self.ends: dict[str, int] = {}

    def begin(self, n: int) -> None:
        attempt = self.held[n] = self.books[n].claim(self.owners[n])
        if attempt is None:
            return
        if not attempt.params:
            attempt.set_params({"x": len(self.drawn) / 10}, SPACE)
        assert self.drawn.setdefault(attempt.task, attempt.params["x"]) == attempt.params["x"]

    def end(self, n: int, attempt: Attempt, act: str) -> None:
        if act == "die":
            self.owners[n].leave()
            self.owners[n] = Owner.here(n)
        elif act == "suspected":  # wrongly, by another worker
            self.storage.set_trial_state_values(attempt.trial_id, OptunaState.FAIL)
            with pytest.raises(TakenOverError):
                attempt.complete([1.0])
        elif act == "release":
            attempt.release()
        else:
            {"complete": lambda: attempt.complete([1.0]), "prune": lambda: attempt.prune(""),
             "crash": lambda: attempt.crash("")}[act]()  # fmt: skip
            self.ends[attempt.task] = self.ends.get(attempt.task, 0) + 1
        self.held[n] = None

    def finish(self) -> None:
        """All die, and one comes that does the rest."""
        for owner in self.owners:
            owner.leave()
        last = Owner.here(7)
        while (attempt := self.books[0].claim(last)) is not None:
            assert attempt.params.get("x") == self.drawn.get(attempt.task)
            self.end(0, attempt, "complete")
        self.books[0].refresh()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_workers_do_each_task_ends_once_and_keeps_its_parameters(data: Any) -> None:
    workers = Workers(data.draw(st.integers(1, 4)), fresh=data.draw(st.booleans()))
    acts = st.sampled_from(["complete", "prune", "crash", "release", "die", "suspected"])
    for _ in range(data.draw(st.integers(0, 25))):
        n = data.draw(st.integers(0, 2))
        attempt = workers.held[n]
        if attempt is None:
            workers.begin(n)
        else:
            workers.end(n, attempt, data.draw(acts))
    workers.finish()
    assert workers.books[0].finished()
    assert workers.ends == dict.fromkeys(workers.books[0].tasks, 1)


def test_runs_of_all_attempts_are_put_together(storage: BaseStorage) -> None:
    book = ledger(storage, tasks=1)
    claimed(book, dead_owner()).keep_run(1, {"a": 1})
    claimed(book, dead_owner()).keep_run(2, {"a": 2})
    attempt = claimed(book, Owner.here(0))
    assert attempt.runs == {1: {"a": 1}, 2: {"a": 2}}
    assert runs_of(book.attempts("0")) == attempt.runs
    assert state_of(book.attempts("0"), max_retries=1) == "lost"


@pytest.mark.parametrize("address", ["journal://{}/j", "sqlite:///{}/d.db"])
def test_the_ledger_works_alike_on_every_storage(tmp_path: Path, address: str) -> None:
    storage = open_storage(address.format(tmp_path))
    other = open_storage(address.format(tmp_path))
    book = ledger(storage, tasks=2)
    lost = claimed(book, dead_owner())
    lost.set_params({"x": 0.25}, SPACE)
    lost.keep_run(7, {"values": {"hypervolume": 1.0}})
    lost.report(1, 0.5)
    second = ledger(other, tasks=2)
    again = claimed(second, Owner.here(0))
    assert (again.task, again.params) == ("0", {"x": 0.25})
    assert again.runs == {7: {"values": {"hypervolume": 1.0}}}
    with pytest.raises(TakenOverError):
        lost.beat(1)
    again.report(1, 0.75)
    again.complete([2.0])
    attempt = claimed(book, Owner.here(1))
    assert attempt.task == "1"
    attempt.prune("")
    assert states(book) == states(second) == ["complete", "pruned"]
