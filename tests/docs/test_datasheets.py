"""Datasheets of the environments: complete, up to date, and their snippets run."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from morl.envs import make_task
from morl.envs.fronts import FrontFile, StoredFront, load
from morl.envs.fruit_tree import fruits
from morl.experiments import datasheets, front_pages
from morl.experiments.datasheets import (
    family_page,
    picture,
    picture_title,
    random_returns,
    save_small,
    space_text,
)
from morl.experiments.environment_families import FAMILIES, Family
from morl.experiments.front_pages import table
from morl.registry import ENVS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = DOCS / "environments"
LARGEST = 40_000
"""Bytes of a picture."""

FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
BY_PAGE = {family.page: family for family in FAMILIES}


def needs(family: Family) -> None:
    missing = [text for name in family.ids if (text := ENVS[name].available()) is not None]
    if missing:
        pytest.skip(missing[0])


@pytest.fixture(autouse=True)
def _third_parties_warn():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"highway_env|pygame|Box2D|mo_gymnasium")
        yield


def test_every_environment_of_ours_has_a_page():
    ours = {name for name, entry in ENVS.items() if entry.origin.endswith("(morl-suite)")}
    listed = [name for family in FAMILIES for name in family.ids]
    assert sorted(listed) == sorted(ours)
    assert all((PAGES / f"{family.page}.md").exists() for family in FAMILIES)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.written], ids=lambda f: f.page)
def test_pages_are_up_to_date(family):
    if family.page != "super-mario":
        needs(family)
    committed = (PAGES / f"{family.page}.md").read_text()
    assert committed == family_page(family), "run python -m morl.experiments.datasheets"


def test_the_index_is_up_to_date():
    assert (PAGES / "index.md").read_text() == datasheets.index_page()


def test_the_page_of_fronts_is_up_to_date():
    assert (PAGES / "exact-fronts.md").read_text() == front_pages.page()


def test_no_page_is_left_over():
    expected = {"index.md", "exact-fronts.md", *(f"{family.page}.md" for family in FAMILIES)}
    assert {path.name for path in PAGES.glob("*.md")} == expected


@pytest.mark.parametrize("path", sorted(PAGES.glob("images/*.png")), ids=lambda path: path.stem)
def test_pictures_are_small(path):
    assert path.stat().st_size < LARGEST
    assert path.stem in BY_PAGE
    with Image.open(path) as image:
        assert image.width > 300


def test_every_page_of_an_environment_that_can_be_made_has_a_picture():
    shown = {path.stem for path in PAGES.glob("images/*.png")}
    assert shown | {"super-mario"} == set(BY_PAGE)
    for name in shown:
        assert f"images/{name}.png" in (PAGES / f"{name}.md").read_text()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.page)
def test_snippets_run(family):
    snippets = FENCED.findall((PAGES / f"{family.page}.md").read_text())
    if family.page == "super-mario":
        assert snippets == []
        return
    needs(family)
    for snippet in snippets:
        exec(compile(snippet, f"{family.page}.md", "exec"), {})


def test_the_example_of_the_solver_runs(capsys):
    (snippet,) = FENCED.findall((PAGES / "exact-fronts.md").read_text())
    exec(compile(snippet, "exact-fronts.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_pages_say_what_the_registry_says():
    page = family_page(BY_PAGE["minecart"])
    for words in ("(-1, -1, -200)", "0.98", "1000", "First ore sold at the base.", "best-known"):
        assert words in page
    assert "- **Observation**: Position (x, y), speed" in page
    assert "- **End**: When the cart is back" in page
    assert page.count("back at the base") == 1  # not once more from the class


def test_variants_are_compared_only_where_they_differ():
    page = family_page(BY_PAGE["mountain-car"])
    differing, shared = page.split("All of them:")
    assert "| step limit | 200 | 200 | 200 | 200 | 999 |" in differing
    assert "| observation | 2 x float32 |" in shared
    assert r"15 \|v\|" in page


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (spaces.Discrete(4), "one of 4"),
        (spaces.Box(-1, 1, (7,), np.float32), "7 x float32, -1 to 1"),
        (spaces.Box(0, 255, (8, 6, 3), np.uint8), "8 x 6 x 3 x uint8, 0 to 255"),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), "2 x float64"),
        (spaces.Box(np.array([0, 0]), np.array([1, 2]), dtype=np.float64), "2 x float64"),
    ],
)
def test_spaces_in_words(space, text):
    assert space_text(space) == text


def test_tables_escape_their_bars():
    assert table(["a"], [["|x|"]]) == "| a |\n| --- |\n| \\|x\\| |"


def test_random_actions_earn_discounted_returns():
    task = make_task("fruit-tree-v0", discount=0.5)
    returns = random_returns(task, episodes=8)
    leaves = fruits(6).astype(np.float32) * 0.5**5
    for row in returns:
        assert np.isclose(leaves, row).all(axis=1).any()
    assert len(np.unique(returns, axis=0)) > 1


@pytest.mark.parametrize(
    ("name", "planes", "points"),
    [("deep-sea-treasure-v0", 1, 10), ("resource-gathering-v0", 3, 3), ("fishwood-v0", 1, 0)],
)
def test_pictures_show_fronts_in_planes(name, planes, points):
    task = make_task(name)
    figure = picture(task)
    assert len(figure.axes) == planes
    shown = [len(one.get_offsets()) for one in figure.axes[0].collections]
    assert shown == [64, *([points] if points else [])]
    title = picture_title(task.spec)
    assert title.startswith("Known front" if points else "Returns of random actions")


def test_pictures_show_many_objectives_on_parallel_axes(tmp_path):
    figure = picture(make_task("fruit-tree-v0"))
    lines = figure.axes[0].lines
    assert len(lines) == 64 + 64
    heights = np.array([line.get_ydata() for line in lines])
    assert heights.min() == 0
    assert heights.max() == 1
    save_small(figure, tmp_path / "x.png")
    assert 1000 < (tmp_path / "x.png").stat().st_size < LARGEST


def test_pages_are_written_without_pictures_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(datasheets, "pages", lambda: {"a.md": "# A\n"})
    assert datasheets.main([str(tmp_path / "docs"), "--text-only"]) == 0
    assert (tmp_path / "docs" / "a.md").read_text() == "# A\n"
    assert not (tmp_path / "docs" / "images").exists()


def verdict(file: FrontFile, front: StoredFront, declared: np.ndarray | None) -> str:
    return front_pages._verdict(file, front, declared)


def test_declared_fronts_are_judged():
    exact = load("deep-sea-treasure-v0")
    front = exact.at(1.0)
    assert verdict(exact, front, front.points[::-1] * (1 + 1e-8)) == "right"
    assert verdict(exact, front, front.points[1:]) == "**wrong**"
    assert verdict(exact, front, front.points + 0.1) == "**wrong**"
    assert verdict(exact, front, None) == "not declared"
    best = load("minecart-deterministic-v0")
    assert verdict(best, best.at(0.98), front.points) == "**beaten**"
