from __future__ import annotations

from pathlib import Path

import boards
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morl import stats
from morl.experiments.leaderboard import charts, svg
from morl.experiments.leaderboard.rows import Row
from morl.experiments.leaderboard.standings import (
    Overall,
    Standings,
    TaskTable,
    groups_of,
    lettered,
    standing_of,
)
from morl.indicators import normalised_hypervolume
from morl.stats import holm, stratified_rank_test

RISING = [1.0 + 0.01 * seed for seed in range(10)]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> boards.Board:
    return boards.board(tmp_path_factory.mktemp("two"), text=boards.TWO_TASKS)


def table(board: boards.Board, *rows: Row, task: str = "levers-v0") -> TaskTable:
    return Standings(board, rows).tables[task]


def overall(board: boards.Board, *rows: Row) -> Overall:
    return Standings(board, rows).overall


# One task


def test_ten_seeds_make_a_rank_five_a_provisional_one_fewer_none(board: boards.Board) -> None:
    assert [standing_of(seeds) for seeds in (1, 4, 5, 9, 10, 50)] == [
        "unranked", "unranked", "provisional", "provisional", "ranked", "ranked",
    ]  # fmt: skip
    found = table(
        board,
        *boards.rows([9.0] * 4, entry="few"),
        *boards.rows([5.0 + 0.1 * seed for seed in range(5)], entry="some"),
        *boards.rows(RISING, entry="many"),
    )
    assert [(each.name, each.standing, each.rank) for each in found.entries] == [
        ("some", "provisional", 1),
        ("many", "ranked", 1),  # five seeds are not enough to push it down
        ("few", "unranked", None),
    ]


def test_provisional_rows_cost_each_other_places(board: boards.Board) -> None:
    found = table(
        board,
        *boards.rows([5.0 + 0.1 * seed for seed in range(5)], entry="better"),
        *boards.rows([1.0 + 0.1 * seed for seed in range(5)], entry="worse"),
    )
    assert [(each.name, each.standing, each.rank) for each in found.entries] == [
        ("better", "provisional", 1), ("worse", "provisional", 2),
    ]  # fmt: skip


def test_a_rank_counts_the_rows_that_are_significantly_better(board: boards.Board) -> None:
    found = table(
        board,
        *boards.rows([value + 5.0 for value in RISING], entry="best"),
        *boards.rows(RISING, entry="second"),
        *boards.rows([value + 0.005 for value in RISING], entry="also second"),
        *boards.rows([value - 0.5 for value in RISING], entry="last"),
    )
    assert [(each.name, each.rank, each.group) for each in found.entries] == [
        ("best", 1, "a"), ("also second", 2, "b"), ("second", 2, "b"), ("last", 4, "c"),
    ]  # fmt: skip
    assert found.groups == {"a": ("best",), "b": ("also second", "second"), "c": ("last",)}


def test_p_values_are_holms_of_the_rank_test(board: boards.Board) -> None:
    values = {"a": RISING, "b": [value - 0.05 for value in RISING], "c": [0.0] * 10}
    found = table(
        board, *(row for name, each in values.items() for row in boards.rows(each, entry=name))
    )
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [stratified_rank_test([values[one]], [values[two]]) for one, two in pairs]
    assert found.p_values == pytest.approx(dict(zip(pairs, holm(raw).tolist(), strict=True)))


def test_failures_count_as_nothing_and_stay(board: boards.Board) -> None:
    rows = [*boards.rows(RISING[:7]), *(boards.row(seed=seed, failed=True) for seed in (7, 8, 9))]
    (entry,) = table(board, *rows).entries
    assert entry.standing == "ranked"
    assert len(entry.failed) == 3
    assert entry.values == (*RISING[:7], 0.0, 0.0, 0.0)
    summary = entry.summaries["hypervolume"]
    assert summary.count == 10
    assert summary.mean == pytest.approx(sum(RISING[:7]) / 10)
    assert summary.median == pytest.approx((RISING[1] + RISING[2]) / 2)
    assert entry.typical is not None
    assert entry.typical.seed == 3  # of the seven that there are


def test_the_interval_is_the_expanded_one_of_the_interquartile_mean(board: boards.Board) -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 10).tolist()
    (entry,) = table(board, *boards.rows(values)).entries
    summary = entry.summaries["hypervolume"]
    alone = stats.bootstrap(values, rng=np.random.default_rng(1), method="expanded")
    assert summary.interval is not None
    assert summary.centre == pytest.approx(alone.estimate)
    assert summary.interval.low == pytest.approx(alone.low, abs=0.05)
    assert summary.interval.high == pytest.approx(alone.high, abs=0.05)


def test_one_seed_has_the_error_of_its_episodes_and_no_interval(board: boards.Board) -> None:
    (entry,) = table(board, boards.row(3.0)).entries
    summary = entry.summaries["hypervolume"]
    assert (summary.interval, summary.episode_error, summary.centre) == (None, 0.1, 3.0)


def test_groups_are_the_longest_stretches_without_a_difference() -> None:
    ordered = ["a", "b", "c", "d"]
    close = {("a", "b"), ("b", "c"), ("c", "d")}
    p_values = {
        (one, two): 0.5 if (one, two) in close else 0.01
        for place, one in enumerate(ordered)
        for two in ordered[place + 1 :]
    }
    groups = groups_of(ordered, p_values)
    assert groups == [("a", "b"), ("b", "c"), ("c", "d")]
    letters, named = lettered(groups)
    assert letters == {"a": "a", "b": "a b", "c": "b c", "d": "c"}
    assert list(named) == ["a", "b", "c"]
    assert groups_of(["x"], {}) == [("x",)]
    assert groups_of([], {}) == []


@given(st.integers(1, 60))
def test_letters_never_repeat(count: int) -> None:
    _, named = lettered([(f"row {number}",) for number in range(count)])
    assert len(named) == count


# All tasks


def both(values: list[float], entry: str, **changes: object) -> list[Row]:
    return [
        row
        for task in ("levers-v0", "noisy levers")
        for row in boards.rows(values, entry=entry, task=task, **changes)
    ]


def test_the_table_over_all_tasks_ranks_rows_that_have_all_of_them(board: boards.Board) -> None:
    found = overall(
        board,
        *both(RISING, "good", normalised=0.3),
        *both([value - 0.5 for value in RISING], "bad", normalised=0.1),
        *boards.rows(RISING, entry="half"),
    )
    assert [(row.name, row.rank, row.mean_rank) for row in found.entries] == [
        ("good", 1, 1.0), ("bad", 2, 2.0),
    ]  # fmt: skip
    assert found.incomplete == {"half": ("levers-v0",)}
    chance = found.improvement[("good", "bad")]
    assert chance.estimate == 1.0


def test_mean_ranks_share_ties(board: boards.Board) -> None:
    found = overall(board, *both(RISING, "one"), *both(RISING, "two"))
    assert [row.mean_rank for row in found.entries] == [1.5, 1.5]
    assert [row.rank for row in found.entries] == [1, 1]
    assert found.groups == {"a": ("one", "two")}


def test_a_score_is_in_units_of_the_known_front(board: boards.Board) -> None:
    task = board.tasks["levers-v0"]
    unit = normalised_hypervolume(
        task["known_front"]["points"], (task["box_low"], task["box_high"])
    ).value
    (row,) = overall(board, *both(RISING, "as good", normalised=unit)).entries
    assert row.score is not None
    assert row.score.estimate == pytest.approx(1.0)
    (profile,) = overall(board, *both(RISING, "as good", normalised=unit)).profiles.values()
    assert profile.profile[0] == 1.0
    assert profile.thresholds[-1] >= 1.0


def test_without_a_box_there_is_no_score_but_a_rank(tmp_path: Path) -> None:
    text = boards.suite_workers.SUITE.replace("box_low: [0, 0]", "").replace("box_high: [8, 8]", "")
    found = overall(boards.board(tmp_path, text=text), *boards.rows(RISING))
    assert found.entries[0].score is None
    assert found.entries[0].rank == 1
    assert found.profiles == {}


def test_a_board_without_rows_has_empty_tables(board: boards.Board) -> None:
    found = Standings(board, [])
    assert found.overall.entries == ()
    assert all(each.entries == () for each in found.tables.values())


# Drawings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1234.5678, "1,234.57"), (-0.25, "-0.25"), (199.00000002, "199"),
        (46034.8, "46,034.8"), (1.2345678e12, "1.2346e12"), (0.00001234, "1.234e-5"), (1e7, "1e7"),
        (1200.0, "1,200"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: float, text: str) -> None:
    assert svg.shown(value) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_round_numbers_within_the_axis(low: float, extent: float) -> None:
    high = low + extent
    ticks = svg.nice_ticks(low, high)
    assert len(ticks) <= 7
    tolerance = 1e-6 * (abs(low) + extent)
    assert all(low - tolerance <= tick <= high + tolerance for tick in ticks)


def test_text_in_a_drawing_is_no_markup() -> None:
    drawing = svg.Drawing('<b>"label"')
    drawing.text(0, 0, "<script>")
    drawing.dot(1, 2, "c0", title="</title><script>")
    markup = drawing.markup()
    assert "<script" not in markup
    assert 'aria-label="&lt;b&gt;&quot;label&quot;"' in markup


def test_attainment_of_two_fronts_by_hand() -> None:
    one = np.array([[1.0, 3.0], [3.0, 1.0]])
    two = np.array([[2.0, 2.0]])
    any_of_them = charts.attainment([one, two], 1)
    assert any_of_them.tolist() == [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]
    # Both reach (1, 2) and (2, 1): the first by (1, 3) and (3, 1), the second by (2, 2).
    assert charts.attainment([one, two], 2).tolist() == [[1.0, 2.0], [2.0, 1.0]]
    assert charts.attainment([np.empty((0, 2)), two], 2).tolist() == []


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_attainment_is_what_so_many_fronts_dominate(
    drawn: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    fronts = [np.array(front, dtype=np.float64) for front in drawn]
    level = data.draw(st.integers(1, len(fronts)))
    corners = charts.attainment(fronts, level)
    for x in range(7):
        for y in range(7):
            attained = sum(bool(((front >= (x, y)).all(axis=1)).any()) for front in fronts)
            below = bool(((corners >= (x, y)).all(axis=1)).any())
            assert below == (attained >= level)


def test_a_band_is_on_the_grid_that_all_curves_cover() -> None:
    curves = [
        (np.array([0.0, 10.0]), np.array([0.0, 10.0])),
        (np.array([2.0, 8.0]), np.array([2.0, 8.0])),
    ]
    band = charts.band("x", curves)
    assert band is not None
    assert (band.across[0], band.across[-1]) == (2.0, 8.0)
    assert band.centre == pytest.approx(band.across)
    assert band.low == pytest.approx(band.across)
    held = charts.band("x", curves, hold=True)
    assert held is not None
    assert held.across[-1] == 10.0
    assert held.high[-1] == pytest.approx(10.0)
    assert held.low[-1] == pytest.approx(8.0)
    assert charts.band("x", []) is None
    apart = [(np.array([0.0, 1.0]), np.zeros(2)), (np.array([2.0, 3.0]), np.zeros(2))]
    assert charts.band("x", apart) is None
