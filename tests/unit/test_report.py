from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import levers
import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from short_runs import config

from morl.experiments import cli, figures, report
from morl.experiments.comparison import Comparison, compare, find_results, interval_of
from morl.experiments.evaluate import shifted_returns, spec_of, verify
from morl.experiments.measures import measure
from morl.experiments.run import run
from morl.result import (
    AlgoRecord,
    BudgetRecord,
    EnvRecord,
    FrontRecord,
    ProtocolRecord,
    ResultArrays,
    RunResult,
    collect_provenance,
)
from morl.storage import StorageError

FRONT = [[1.0, 4.0], [3.0, 3.0], [4.0, 1.0]]
CURVE = {"steps": (50.0, 100.0), "hypervolume": (1.0, 2.0), "expected_utility": (0.5, 0.6)}
VOID = {"meta", "input", "br", "link", "img"}


def made(
    points: Any,
    *,
    seed: int = 0,
    name: str = "agent",
    spread: float = 0.0,
    objectives: Sequence[str] | None = None,
    curve: dict[str, tuple[float, ...]] | None = None,
    env_id: str = "levers-v0",
    status: str = "completed",
    discount: float = levers.DISCOUNT,
    **config: Any,
) -> RunResult:
    """A result with these points; two report episodes lie `spread` to both sides of them."""
    count = len(points[0]) if len(points) else 2
    front = np.asarray(points, dtype=np.float64).reshape(-1, count)
    episodes = np.stack([front - spread, front + spread], axis=1)
    lengths = np.full(episodes.shape[:2], 5)
    nothing = np.zeros((len(front), count))
    arrays = ResultArrays(
        chosen=np.arange(len(front)),
        selection_discounted=episodes,
        selection_undiscounted=2 * episodes,
        selection_lengths=lengths,
        report_discounted=episodes,
        report_undiscounted=2 * episodes,
        report_lengths=lengths,
        preferences=nothing,
        has_preference=np.zeros(len(front), np.bool_),
    )
    names = tuple(objectives or ("speed", "thrift", "comfort", "beauty", "peace")[:count])
    reference = (-0.5,) * count
    settings = {"agent": {"name": name}, "env": {"id": env_id}, "seed": seed, **config}
    bare = RunResult(
        algo=AlgoRecord(name=name, version="1", entry_point=f"plugin:{name}"),
        env=EnvRecord(
            id=env_id,
            package="morl-suite",
            version="0.1.0",
            max_steps=levers.HORIZON,
            kwargs={} if count == 2 else {"num_objectives": count},
        ),
        protocol=ProtocolRecord(
            id="morl-discounted/1",
            discount=discount,
            reference_point=reference,
            objectives=names,
            selection_episodes=2,
            report_episodes=2,
        ),
        seed=seed,
        config=settings,
        budget=BudgetRecord(env_steps=100, eval_env_steps=20, wall_s=3.0, cpu_s=2.0),
        front=FrontRecord(
            num_candidates=len(front),
            num_unique=len(front),
            num_outside=int((~(front > np.array(reference)).all(axis=1)).sum()),
        ),
        metrics={},
        curve=curve or CURVE,
        provenance=collect_provenance(settings),
        arrays=arrays,
        status=status,
    )  # fmt: skip
    if status != "completed":
        return bare
    return replace(bare, metrics=measure(episodes, spec_of(bare)))


def saved(folder: Path, *results: RunResult) -> Path:
    for number, result in enumerate(results):
        result.save(folder / f"run-{number}")
    return folder


def compared(folder: Path, *results: RunResult) -> Comparison:
    loaded, unreadable = find_results([saved(folder, *results)])
    assert not unreadable
    (comparison,) = compare(loaded)
    return comparison


def page_of(folder: Path, *results: RunResult) -> str:
    (page,) = report.write_report([saved(folder, *results)])
    return page.read_text("utf-8")


def own_part(page: str) -> str:
    """The page without the library that draws."""
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


class Checker(HTMLParser):
    """Collects elements and texts, and notices what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.stack.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(own_part(page))
    checker.close()
    assert checker.stack == []
    assert len(set(checker.ids)) == len(checker.ids)
    return checker


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(FRONT, spread=0.1), made(FRONT, seed=1))
    checker = checked(page)
    assert "http" not in re.sub(r"http-equiv", "", own_part(page))
    assert not {tag for tag, name, _ in checker.attributes if name == "src"}
    assert not {tag for tag, _, _ in checker.attributes if tag in ("link", "img", "iframe")}
    policy = next(
        value
        for _, name, value in checker.attributes
        if name == "content" and "default-src" in value
    )
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "showSendToCloud: false" in page
    assert all(value.startswith("#") for _, name, value in checker.attributes if name == "href")


def test_every_figure_has_its_place_and_every_slider_its_label(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(FRONT))
    checker = checked(page)
    assert set(data_of(page)["figures"]) <= set(checker.ids)
    sliders = {value for tag, name, value in checker.attributes if tag == "input" and name == "id"}
    labels = {value for tag, name, value in checker.attributes if tag == "label" and name == "for"}
    assert sliders == labels == {"slider-0-0"}
    assert ("p", "aria-live", "polite") in checker.attributes


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    folder = saved(tmp_path, made(FRONT, spread=0.2), made([[1, 2, 3]]), made([[1, 2, 3, 4]]))
    first = [path.read_bytes() for path in report.write_report([folder], png=True)]
    assert [path.read_bytes() for path in report.write_report([folder], png=True)] == first
    assert len(first) == 1 + 3 * 3


def test_names_of_others_are_inert(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)></script>"
    names: dict[str, Any] = {"objectives": ("<b>speed</b>", "thrift"), "env_id": "x<svg>"}
    page = page_of(
        tmp_path,
        made(FRONT, name=evil, **names),
        made(FRONT, name="other", **names),
        made([], name=evil, status=f"failed: {evil}", **names),
    )
    own = own_part(page)
    assert "<img" not in own
    assert "<svg>" not in own
    assert "<b>speed" not in own
    assert "\\u003cimg" in own or "&lt;img" in own
    assert evil in "".join(checked(page).texts)
    assert own.count("</script>") == 3
    traces = data_of(page)["figures"]["figure-0-front"]["data"]
    assert not any("<" in trace["name"] for trace in traces)


def test_the_slider_chooses_from_the_stored_returns(tmp_path: Path) -> None:
    result = run(config(tmp_path), say=lambda _: None)
    (page,) = report.write_report([tmp_path])
    explorer = data_of(page.read_text("utf-8"))["explorers"]["0"]
    (choice,) = explorer["runs"]
    stored = result.arrays.report_discounted.mean(axis=1)
    np.testing.assert_allclose(choice["points"], stored, rtol=1e-12)
    np.testing.assert_allclose(
        choice["undiscounted"], result.arrays.report_undiscounted.mean(axis=1), rtol=1e-12
    )
    for share in np.linspace(0, 1, 11):
        weights = np.array([1 - share, share])
        assert (np.array(choice["points"]) @ weights).argmax() == (stored @ weights).argmax()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_slider_shows_the_arg_max_in_a_browser(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    page = page_of(tmp_path, made(points.tolist()))
    settings = rng.integers(0, 101, (6, 3))
    probe = (
        "<script>const seen=[];const inputs=[...document.querySelectorAll('.explorer input')];"
        f"for(const parts of {settings.tolist()})"
        "{inputs.forEach((each,i)=>{each.value=parts[i]});"
        "inputs[0].dispatchEvent(new Event('input'));"
        "seen.push(document.querySelector('.choice').textContent)}"
        "const pre=document.createElement('pre');pre.id='probe';pre.textContent=seen.join('|');"
        "document.body.append(pre);</script></body>"
    )
    file = tmp_path / "probe.html"
    file.write_text(page.replace("</body>", probe), "utf-8")
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    seen = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert seen
    chosen = [int(text.split()[1]) for text in seen[1].split("|")]
    assert chosen == (points @ settings.T).argmax(axis=0).tolist()


def test_front_rows_hold_means_and_standard_errors(tmp_path: Path) -> None:
    comparison = compared(tmp_path, made(FRONT, spread=0.1), made([[2.0, 2.0]], seed=1))
    figure, rows = figures.front_figure(comparison)
    assert len(rows) == 4
    assert rows[1]["mean"] == pytest.approx((3.0, 3.0))
    # Two episodes 0.2 apart: standard deviation 0.2 / sqrt 2, by sqrt 2.
    assert rows[1]["standard_error"] == pytest.approx((0.1, 0.1))
    assert rows[3] == {
        "label": "agent", "seed": 1, "policy": 0, "mean": (2.0, 2.0), "standard_error": (0.0, 0.0),
    }  # fmt: skip
    drawn = {trace.name: trace for trace in figure.data}
    assert list(drawn["agent seed 0"].x) == pytest.approx([1.0, 3.0, 4.0])
    known = drawn["known front (approximate)"]
    assert list(known.x) == pytest.approx(levers.known_points(levers.DISCOUNT)[:, 0])


@pytest.mark.parametrize(
    ("count", "kind"),
    [(1, "bar"), (2, "scatter"), (3, "scatter3d"), (4, "parcoords"), (5, "parcoords")],
)
def test_the_front_is_drawn_by_its_number_of_objectives(
    count: int, kind: str, tmp_path: Path
) -> None:
    points = np.eye(count) + 0.1
    comparison = compared(tmp_path, made(points, env_id="unknown-v0"))
    figure, rows = figures.front_figure(comparison)
    assert figure.data[0].type == kind
    assert len(rows) == count
    paper, paper_rows = figures.front_paper(comparison)
    assert paper_rows == rows
    assert len(paper.axes) == {1: 1, 2: 1, 3: 3}.get(count, 1)
    checked(page_of(tmp_path))


def test_parallel_axes_show_the_typical_run_of_each_agent(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path,
        *(made(np.eye(4) * size, seed=seed) for seed, size in enumerate((1.0, 3.0, 2.0))),
        made(np.eye(4) * 9, name="better"),
    )
    figure, _ = figures.front_figure(comparison)
    assert sorted(set(figure.data[0].dimensions[0]["values"])) == [0.0, 2.0, 9.0]
    assert [trace.name for trace in figure.data[1:]] == ["agent", "better"]


def test_curves_show_every_seed_and_their_mean_with_its_interval(tmp_path: Path) -> None:
    curves = [
        {"steps": (10.0, 110.0), "hypervolume": (0.0, 10.0), "expected_utility": (0.0, 1.0)},
        {"steps": (20.0, 100.0), "hypervolume": (3.0, 11.0), "expected_utility": (0.0, 1.0)},
    ]
    comparison = compared(
        tmp_path, *(made(FRONT, seed=seed, curve=curve) for seed, curve in enumerate(curves))
    )
    figure, rows = figures.curve_figure(comparison, "hypervolume", "hypervolume")
    assert [(row["seed"], row["steps"], row["value"]) for row in rows] == [
        (0, 10.0, 0.0), (0, 110.0, 10.0), (1, 20.0, 3.0), (1, 100.0, 11.0),
    ]  # fmt: skip
    mean = figures.mean_curve(comparison.entries[0], "hypervolume")
    assert (mean[0]["steps"], mean[-1]["steps"]) == (20.0, 100.0)
    assert mean[0]["mean"] == pytest.approx(2.0)  # of 1 and 3
    margin = 12.7062 * np.sqrt(2.0) / np.sqrt(2.0)  # Student's quantile for one degree
    assert mean[0]["high"] == pytest.approx(2.0 + margin, rel=1e-5)
    assert mean[0]["low"] == 0.0
    assert mean[-1]["mean"] == pytest.approx(10.0)  # of 9 and 11
    assert "agent, mean" in [trace.name for trace in figure.data]
    levels = figures.reference_levels(comparison.spec, "hypervolume")
    assert {shape.y0 for shape in figure.layout.shapes} == set(levels.values())
    assert figures.reference_levels(comparison.spec, "expected_utility") == {}
    paper, paper_rows = figures.curve_paper(comparison, "hypervolume", "hypervolume")
    assert paper_rows == rows
    assert len(paper.axes[0].lines) == 3 + len(levels)


def test_curves_that_do_not_overlap_have_no_mean(tmp_path: Path) -> None:
    first, second = (
        {"steps": steps, "hypervolume": (1.0, 2.0), "expected_utility": (0.0, 1.0)}
        for steps in ((1.0, 2.0), (3.0, 4.0))
    )
    comparison = compared(tmp_path, made(FRONT, curve=first), made(FRONT, seed=1, curve=second))
    assert figures.mean_curve(comparison.entries[0], "hypervolume") == []


def test_an_interval_over_seeds_is_students() -> None:
    interval = interval_of([1.0, 2.0, 3.0])
    assert interval.value == 2.0
    assert interval.margin == pytest.approx(4.30265 / np.sqrt(3.0), rel=1e-5)
    assert (interval.basis, interval.count) == ("seeds", 3)


def test_a_single_run_has_the_noise_of_its_evaluation(tmp_path: Path) -> None:
    comparison = compared(tmp_path, made(FRONT, spread=0.1))
    interval = comparison.entries[0].interval("hypervolume")
    assert interval is not None
    error = comparison.runs[0][1].result.metrics["hypervolume"].standard_error
    assert error is not None
    assert interval.margin == pytest.approx(1.959964 * error)
    assert interval.basis == "episodes"
    assert comparison.entries[0].interval("nothing-like-it") is None


def test_agents_with_other_settings_are_told_apart(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path,
        made(FRONT, agent={"name": "agent", "lr": 0.1}),
        made(FRONT, agent={"name": "agent", "lr": 0.1}, seed=1),
        made(FRONT, agent={"name": "agent", "lr": 0.2}),
        made(FRONT, name="other"),
    )
    assert [(entry.label, len(entry.runs)) for entry in comparison.entries] == [
        ("agent lr=0.1", 2), ("agent lr=0.2", 1), ("other", 1),
    ]  # fmt: skip


def test_what_was_measured_otherwise_has_its_own_table(tmp_path: Path) -> None:
    loaded, _ = find_results([saved(tmp_path, made(FRONT), made(FRONT, discount=0.5))])
    assert [comparison.spec.discount for comparison in compare(loaded)] == [0.5, 0.9]


def test_failures_stay_in_the_table(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(FRONT), made([], seed=1, status="failed: the lever broke off"))
    text = "".join(checked(page).texts)
    assert "1 + 1 failed" in text
    assert "agent, seed 1: failed: the lever broke off" in text
    assert "1 run on 1 task, 1 failed" in text


def test_nothing_but_failures_still_makes_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, made([], status="failed: no"))
    checked(page)
    assert data_of(page)["figures"] == {}


def test_a_run_without_policies_is_counted_and_said(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(FRONT), made([], seed=1))
    text = "".join(checked(page).texts)
    assert "agent, seed 1: levers-v0: the agent has no solution" in text
    assert "(1 of 2)" in text


def test_an_agent_that_loses_to_a_trivial_policy_says_so(tmp_path: Path) -> None:
    worse, better = (
        page_of(tmp_path / "a", made([[-0.2, -0.3]])),
        page_of(tmp_path / "b", made(FRONT)),
    )
    assert "agent loses to &#x27;do-nothing&#x27; (0.06 against 0.25)" in worse
    assert "loses to" not in better
    assert "do-nothing <b>0.25</b>" in better


def test_provenance_and_the_command_are_on_the_page(tmp_path: Path) -> None:
    result = run(config(tmp_path), say=lambda _: None)
    (page,) = report.write_report([tmp_path])
    text = "".join(checked(page.read_text("utf-8")).texts)
    assert "morl run env=levers-v0 agent=random_search seed=0 env.kwargs.noise=0.1" in text
    assert result.run_id in text
    assert result.provenance.cpu in text
    assert "steps4,000 of training" in text


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    saved(tmp_path, made(FRONT), made(FRONT, seed=1))
    (tmp_path / "run-1" / "front.npz").write_bytes(b"junk")
    (page,) = report.write_report([tmp_path])
    text = page.read_text("utf-8")
    assert "Could not be read" in text
    assert "front.npz is damaged or was altered" in text
    assert "1 run on 1 task, 1 unreadable" in text


def test_runs_that_were_moved_aside_are_left_out(tmp_path: Path) -> None:
    made(FRONT).save(tmp_path / "abc")
    made(FRONT).save(tmp_path / "abc.old-1")
    assert [run.path.name for run in find_results([tmp_path])[0]] == ["abc"]
    assert [run.path.name for run in find_results([tmp_path / "abc.old-1"])[0]] == ["abc.old-1"]


def test_no_result_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no results in .*morl run experiment=demo"):
        report.write_report([tmp_path])
    with pytest.raises(StorageError, match="there is no such file or folder"):
        report.write_report([tmp_path / "nothing"])


def test_the_page_goes_where_it_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "runs", made(FRONT), made(FRONT, seed=1))
    page = tmp_path / "deep" / "page.html"
    assert cli.main(["report", str(tmp_path / "runs"), "--output", str(page), "--png"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written[0] == page
    assert [path.name for path in written[1:]] == [
        f"page-levers-v0-{name}.png" for name in ("front", "hypervolume", "expected-utility")
    ]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written[1:])
    folders = [str(tmp_path / "runs" / f"run-{number}") for number in (0, 1)]
    assert cli.main(["report", *folders]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "report.html")


@pytest.mark.parametrize(
    ("value", "margin", "shown"),
    [
        (28704.123, 881.0, ("28,704", "880")),
        (0.62353, 0.0191, ("0.624", "0.019")),
        (3.0, 0.0, ("3", "0")),
        (1234567.0, 12.3, ("1,234,567", "12")),
        (5.0, 1e-13, ("5", "0")),
        (-2.5, 0.96, ("-2.50", "0.96")),
    ],
)
def test_numbers_are_shown_to_the_second_digit_of_their_margin(
    value: float, margin: float, shown: tuple[str, str]
) -> None:
    assert report.rounded(value, margin) == shown


def test_results_of_this_test_verify(tmp_path: Path) -> None:
    verdict = verify(saved(tmp_path, made(FRONT, spread=0.1)) / "run-0")
    assert verdict.passed, str(verdict)


def test_a_shift_of_returns_is_told_from_episodes_that_took_another_course() -> None:
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(20, 8, 3))
    astray = stored.copy()
    astray[3, 1] += 5.0  # one episode of eight
    assert shifted_returns(stored, astray) is None
    assert shifted_returns(stored, stored + 1e-12) is None
    shifted = stored.copy()
    shifted[7, :, 2] += 0.01
    assert shifted_returns(stored, shifted) == (7, 2)
    assert shifted_returns(stored[:0], stored[:0]) is None
