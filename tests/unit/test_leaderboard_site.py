from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import boards
import browser
import numpy as np
import pytest

from morl.experiments import cli
from morl.experiments.leaderboard import commands, pages
from morl.experiments.leaderboard.ledger import LEDGER_FILE, Board, LeaderboardError, sealed
from morl.experiments.leaderboard.published import published_rows
from morl.experiments.leaderboard.rows import read_rows
from morl.experiments.leaderboard.site import build_site
from morl.experiments.leaderboard.verification import TIERS, verify_board
from morl.registry import ENVS

EVIL = "<script>window.hacked=1</script><img src=x onerror=hacked=1>\"'&"

Change = Callable[[dict[str, Any]], None]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def site_of(board: Board, folder: Path) -> dict[str, str]:
    build_site(board, folder)
    return {name: data.decode() for name, data in tree(folder).items()}


class Page(HTMLParser):
    """Elements, links and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.depth: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.handlers += [name for name in found if name.startswith("on")]
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        if tag == "script":
            self.scripts.append(found)
        if tag not in {"meta", "link", "br", "input", "path", "circle"}:
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "circle"}:
            assert self.depth.pop() == tag


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Two tasks, an agent with ten seeds, one with three and a failure, one of a strange name."""
    folder = tmp_path_factory.mktemp("board")
    made = boards.board(folder, *boards.seeds(10), text=boards.TWO_TASKS)
    three = [*boards.seeds(3, name="other"), boards.result(3, name="other", status="failed: NaN")]
    boards.added(made, boards.saved(folder / "three", *three))
    boards.added(made, boards.saved(folder / "noisy", *boards.seeds(10, noise=0.2)))
    strange = boards.saved(folder / "strange", boards.result(name="strange", scale=0.5))
    assert boards.added(made, strange, entry=EVIL).added
    return made


@pytest.fixture(scope="module")
def site(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    build_site(board, folder)
    return folder


# Files


def test_there_is_a_page_for_every_task_agent_and_run(board: Board, site: Path) -> None:
    names = set(tree(site))
    rows = read_rows(board).shown
    assert len(rows) == 25
    assert {"index.html", "task-levers-v0.html", "agent-somebody.html"} <= names
    assert {f"runs/{row.run_id[:16]}.html" for row in rows} <= names
    assert f"task-{pages.slug('noisy levers')}.html" in names
    assert len([name for name in names if name.startswith("agent-")]) == 3


def test_every_link_leads_to_a_file_or_an_id_that_is_there(site: Path) -> None:
    for name, data in tree(site).items():
        if not name.endswith(".html"):
            continue
        for link in Page(data.decode()).links:
            file, _, anchor = link.partition("#")
            target = (site / name).parent / file if file else site / name
            assert target.resolve().is_file(), (name, link)
            if anchor:
                assert anchor in Page(target.read_text()).ids, (name, link)


def test_pages_are_well_formed_and_ask_nobody_for_anything(site: Path) -> None:
    for name, data in tree(site).items():
        text = data.decode()
        outside = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert outside == set(), name
        if name.endswith(".html"):
            page = Page(text)
            assert page.depth == [], name
            assert len(page.ids) == len(set(page.ids)), name
            assert "default-src 'none'" in text


def test_the_same_records_give_the_same_bytes(board: Board, site: Path, tmp_path: Path) -> None:
    build_site(board, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(site)


@pytest.mark.slow
def test_another_process_locale_time_zone_and_hash_seed_change_no_byte(
    board: Board, site: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, levers; from pathlib import Path; from morl.experiments import cli; "
        f"sys.exit(cli.main(['leaderboard', 'build', {str(board.folder)!r}, '--output', "
        f"{str(tmp_path / 'site')!r}]))"
    )
    environment = {
        **os.environ, "LC_ALL": "C", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(boards.__file__).parent),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert tree(tmp_path / "site") == tree(site)


def test_an_earlier_site_is_replaced_and_nothing_else_is(board: Board, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    build_site(board, folder)
    (folder / "old.html").write_text("left over")
    build_site(board, folder)
    assert "old.html" not in tree(folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(LeaderboardError, match="so it is not replaced"):
        build_site(board, mine)
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_slugs_are_harmless_and_differ(tmp_path: Path) -> None:
    names = ["c_morl", "C_morl", "../../x", "a b", "a-b", "", "é", "x" * 300, EVIL]
    slugs = [pages.slug(name) for name in names]
    assert slugs[0] == "c_morl"
    assert len({slug.lower() for slug in slugs}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9._-]{1,80}", slug) for slug in slugs)
    assert not any(slug.startswith(".") for slug in slugs)


# Content


def test_the_overview_counts_and_links(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert "25 runs · 3 rows · 2 tasks · 1 failed" in text
    assert "Not in this table: " in text
    assert "other (1 of 2 tasks)" in text
    summary = json.loads((site / "leaderboard.json").read_text())
    (row,) = summary["overall"]
    assert (row["entry"], row["rank"], row["seeds"]) == ("somebody", 1, 10)
    first = summary["tasks"]["levers-v0"]["entries"][0]
    assert (
        first["indicators"]["hypervolume"]["interval"][0]
        < first["indicators"]["hypervolume"]["iqm"]
    )


def test_a_task_shows_protocol_anchors_and_standings(site: Path) -> None:
    text = (site / "task-levers-v0.html").read_text()
    assert "reference point (-0.5, -0.5)" in text
    assert "box (0, 0) to (8, 8): by hand" in text
    assert "do-nothing" in text
    assert "known front (approximate)" in text
    assert 'class="anchor-row"' in text
    assert "3 <small>+ 1 failed</small>" in text
    assert 'title="unranked: too few seeds">-<' in text
    assert "sparsity: as in papers; never ranked" in text
    assert "seconds on the wall" in text


def test_a_run_shows_its_slider_its_origin_and_how_far_it_is_verified(
    board: Board, site: Path, tmp_path: Path
) -> None:
    row = next(row for row in read_rows(board).shown if row.entry == "somebody")
    text = (site / "runs" / f"{row.run_id[:16]}.html").read_text()
    assert "<b>" not in text
    assert "self-reported" in text
    assert 'type="range"' in text
    assert row.run_id in text
    found = re.search(r'<script type="application/json">(.*?)</script>', text)
    assert found
    data = json.loads(found[1])
    assert data["series"][0]["points"] == [list(point) for point in row.points]
    alone = boards.board(tmp_path, boards.result())
    verify_board(alone, say=lambda _: None)
    shown = site_of(alone, tmp_path / "site")
    assert f"recomputed: {len(row.metrics)} indicators as stored" in "".join(shown.values())


def test_a_failed_run_says_why(site: Path) -> None:
    text = "".join(path.read_text() for path in (site / "runs").iterdir())
    assert '<p class="note">failed: NaN</p>' in text


def test_names_are_text_wherever_they_stand(board: Board, site: Path) -> None:
    seen = 0
    for name, data in tree(site).items():
        if not name.endswith(".html"):
            continue
        page = Page(data.decode())
        assert page.handlers == [], name
        kinds = {(each.get("src"), each.get("type")) for each in page.scripts}
        up = "../" * name.count("/")
        assert kinds <= {(f"{up}assets/board.js", None), (None, "application/json")}, name
        seen += "&lt;script&gt;window.hacked" in data.decode()
    assert seen >= 4


def test_published_figures_stand_apart_with_their_sources() -> None:
    rows = published_rows("fruit-tree-v0")
    assert rows
    for env_id in ENVS:
        for row in published_rows(env_id):
            assert row.source
            assert row.protocol
            assert row.value
    assert published_rows("levers-v0") == []
    text = pages._published(rows)
    assert "not comparable" in text
    assert 'class="published"' in text
    assert "30587.5" in text


def test_the_tiers_of_the_command_line_are_those_there_are() -> None:
    assert commands._TIERS == TIERS


# What is refused


def reseal(board: Board, number: int, change: Change) -> None:
    """Change one line of a ledger, so that its digest fits."""
    lines = board.ledger_file.read_bytes().splitlines()
    content = json.loads(lines[number])
    change(content)
    kind = content.pop("kind")
    for name in ("digest", "schema"):
        content.pop(name)
    lines[number] = sealed(kind, content)
    board.ledger_file.write_bytes(b"\n".join(lines) + b"\n")


BAD: dict[str, tuple[Change, str]] = {
    "another protocol": (
        lambda c: c["record"]["protocol"].update(discount=0.5), "discount 0.5, not 0.9",
    ),
    "another budget": (
        lambda c: c["record"]["config"].update(steps=9), "budget in steps 9, not 1200",
    ),
    "no such task": (lambda c: c.update(task="x"), "'x' is no task of this board"),
    "no front": (lambda c: c.pop("front"), "'front' is missing"),
    "front of text": (lambda c: c["front"].update(points="x"), "front is not a list of points"),
    "front of another world": (
        lambda c: c["front"].update(points=[[1.0]] * 3), "has not 2 coordinates",
    ),
    "short errors": (lambda c: c["front"]["errors"].pop(), "another number of policies"),
    "a boolean for a number": (
        lambda c: c["record"]["metrics"]["hypervolume"].update(value=True), "not a finite number",
    ),
    "no hypervolume": (
        lambda c: c["record"]["metrics"].pop("hypervolume"), "completed run without hypervolume",
    ),
    "a record of nothing": (lambda c: c.update(record=None), "not a whole record"),
    "a curve that limps": (
        lambda c: c["record"]["curve"]["hypervolume"].pop(), "columns of the learning curve",
    ),
    "a clock that limps": (lambda c: c["clock"].pop(), "clock has another number of points"),
    "a nameless row": (lambda c: c.update(entry=""), "entry is not a text"),
    "an endless name": (lambda c: c.update(entry="x" * 101), "entry is not a text of 1 to 100"),
    "other settings": (lambda c: c.update(variant="0" * 64), "other settings than the first run"),
    "a path for an id": (lambda c: c.update(run_id="../../x"), "is no SHA-256"),
    "a missing file": (
        lambda c: c["files"]["result.json"].update(sha256="0" * 64), "result.json is missing",
    ),
    "an unknown kind": (lambda c: c.update(kind="wish"), "unknown kind 'wish'"),
    "a seed twice": (lambda c: c["record"].update(seed=0), "duplicate seed 0 of somebody"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_refused_with_its_reason_and_the_rest_is_built(
    kind: str, tmp_path: Path
) -> None:
    change, reason = BAD[kind]
    board = boards.board(tmp_path, *boards.seeds(2))
    reseal(board, 1, change)
    shown = site_of(board, tmp_path / "site")
    (refusal,) = read_rows(board).refused
    assert reason in refusal.reason
    assert refusal.what.startswith("line 2")
    assert "1 refused" in shown["index.html"]
    assert pages.text_of(refusal.reason) in shown["index.html"]
    assert len([name for name in shown if name.startswith("runs/")]) == 1


def test_altered_files_duplicates_and_failed_verifications_are_refused(tmp_path: Path) -> None:
    board = boards.board(tmp_path, *boards.seeds(4))
    lines = board.read().lines
    folders = [
        board.run_folder(line.content["run_id"], line.content["files"]["result.json"]["sha256"])
        for line in lines
    ]
    (folders[0] / "episodes.npz").write_bytes(b"something else")
    (folders[1] / "front.npz").unlink()
    board.append("run", {k: v for k, v in lines[2].content.items() if k not in ("kind", "digest")})
    verdict = {
        "run_id": lines[3].content["run_id"],
        "result_sha256": lines[3].content["files"]["result.json"]["sha256"],
        "tier": "re-evaluated", "passed": False, "message": "not what the policies do",
    }  # fmt: skip
    board.append("verification", verdict)
    rows = read_rows(board)
    assert [row.seed for row in rows.shown] == [2]
    reasons = [refusal.reason for refusal in rows.refused]
    assert "episodes.npz" in reasons[0]
    assert "was altered: its SHA-256 differs" in reasons[0]
    assert "front.npz is missing" in reasons[1]
    assert reasons[2] == "verification failed (re-evaluated): not what the policies do"
    assert "duplicate run id" in reasons[3]
    board.append("verification", {**verdict, "passed": True, "message": "all is well"})
    again = {row.seed: row for row in read_rows(board).shown}
    assert again[3].tier == "re-evaluated"


def test_a_later_success_takes_the_place_of_a_failure(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result(status="failed: out of memory"))
    boards.added(board, boards.saved(tmp_path / "later", boards.result()))
    rows = read_rows(board)
    assert rows.refused == ()
    assert [row.completed for row in rows.shown] == [True]


def test_an_empty_board_has_pages(tmp_path: Path) -> None:
    shown = site_of(boards.board(tmp_path), tmp_path / "site")
    assert "No row has a run on every task yet" in shown["index.html"]
    assert "0 runs · 0 rows · 1 task" in shown["index.html"]


def test_the_command_line_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = boards.board(tmp_path, *boards.seeds(2))
    with (board.folder / LEDGER_FILE).open("ab") as ledger:
        ledger.write(b'{"digest":"torn')
    assert cli.main(["leaderboard", "build", str(board.folder)]) == 0
    said = capsys.readouterr()
    assert "1 rows of 2 runs, 0 refused, 1 torn lines" in said.out
    assert str(board.folder / "site" / "index.html") in said.out
    assert "1 torn line" in (board.folder / "site" / "index.html").read_text()


# In a browser

needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs chromium")


@pytest.mark.slow
@needs_chromium
def test_tables_sort_and_filter_and_no_name_does_anything_in_a_browser(
    site: Path, tmp_path: Path
) -> None:
    seen = browser.probe(
        site,
        "task-levers-v0.html",
        """
        const table = document.getElementById("run-table");
        const column = (index) => [...table.tBodies[0].rows].filter((row) => !row.hidden)
          .map((row) => row.cells[index].textContent);
        const heads = table.querySelectorAll("button.sort");
        heads[3].click();
        const up = column(3);
        heads[3].click();
        const down = column(3);
        const sorted = table.tHead.rows[0].cells[3].getAttribute("aria-sort");
        const input = document.querySelector('input[data-table="run-table"]');
        input.value = "other";
        input.dispatchEvent(new Event("input"));
        return { up, down, sorted, left: column(1), hacked: window.hacked ?? null,
          ready: document.documentElement.dataset.ready };
        """,
    )
    assert seen["ready"] == "yes"
    assert seen["hacked"] is None
    numbers = [float(text.replace(",", "")) for text in seen["up"] if text != "-"]
    assert numbers == sorted(numbers)
    assert seen["up"][-1] == "-"  # the failure, whatever the direction
    assert seen["down"][-1] == "-"
    assert seen["down"][0] == seen["up"][-2]
    assert seen["sorted"] == "descending"
    assert seen["left"] == ["other"] * 4


@pytest.mark.slow
@needs_chromium
def test_the_slider_chooses_the_best_policy_and_brushes_hold_in_all_views(tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(0, np.pi / 2, 12)
    points = 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    board = boards.board(tmp_path, boards.result(points=points.tolist(), spread=0.0))
    build_site(board, tmp_path / "site")
    (row,) = read_rows(board).shown
    seen = browser.probe(
        tmp_path / "site",
        f"runs/{row.run_id[:16]}.html",
        """
        const slider = document.querySelector(".sliders input");
        const chosen = [0, 20, 45, 70, 100].map((value) => {
          slider.value = value;
          slider.dispatchEvent(new Event("input"));
          return document.querySelector(".policy").textContent;
        });
        const ring = document.querySelectorAll(".plane .ring").length;
        const limit = document.querySelectorAll(".brushes input")[0];
        limit.value = 500;
        limit.dispatchEvent(new Event("input"));
        const count = (css) => document.querySelectorAll(css).length;
        const brushed = { plane: count(".plane .point.out"), parallel: count(".parallel .way.out"),
          table: count(".picked tbody tr"), said: document.querySelector(".count").textContent };
        document.querySelector(".reset").click();
        const text = document.querySelector(".sliders input").getAttribute("aria-valuetext");
        return { chosen, ring, brushed, left: count(".plane .point.out"), text };
        """,
    )
    stored = np.array(row.points)
    shares = np.array([0.0, 0.2, 0.45, 0.7, 1.0])
    best = (stored @ np.stack([1 - shares, shares])).argmax(axis=0)
    assert [int(text.split()[1]) for text in seen["chosen"]] == best.tolist()
    assert seen["ring"] == 1
    assert seen["text"] == "100 percent"
    known = board.tasks["levers-v0"]["known_front"]["points"]
    everything = np.concatenate([stored, np.array(known)])[:, 0]
    outside = int((stored[:, 0] < (everything.min() + everything.max()) / 2).sum())
    assert 0 < outside < len(stored)
    assert seen["brushed"]["plane"] == seen["brushed"]["parallel"] == outside
    assert seen["brushed"]["table"] == len(stored) - outside
    assert (
        seen["brushed"]["said"]
        == f"{len(stored) - outside} of {len(stored)} policies within the limits"
    )
    assert seen["left"] == 0


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("size", ["1240,1600", "500,900"])
def test_no_text_overlaps_and_nothing_sticks_out_of_the_page(site: Path, size: str) -> None:
    seen = browser.probe(
        site,
        "task-levers-v0.html",
        """
        const frame = (each) => each.getBoundingClientRect();
        const pairs = [];
        for (const drawing of document.querySelectorAll("svg")) {
          const texts = [...drawing.querySelectorAll("text")];
          texts.forEach((one, index) => texts.slice(index + 1).forEach((two) => {
            const [a, b] = [frame(one), frame(two)];
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 3) pairs.push([one.textContent, two.textContent]);
          }));
        }
        const width = document.documentElement.clientWidth;
        return { pairs, wide: document.documentElement.scrollWidth - width };
        """,
        size=size,
    )
    assert seen["pairs"] == []
    assert seen["wide"] <= 0
