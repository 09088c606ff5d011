from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from short_runs import config as levers_config

import morl.agents.mogfn_pc
import morl.agents.uniform_sampling
from morl.compositional import core_of
from morl.experiments import molecules, object_pages, report
from morl.experiments.comparison import compare, find_results
from morl.experiments.config import EnvConfig, RunConfig
from morl.experiments.object_pages import SHOWN, objects_section
from morl.experiments.objects import (
    LONGEST_TEXT,
    OBJECTS_FILE,
    SAMPLES,
    built,
    load_objects,
    spread_over_front,
)
from morl.experiments.run import run, run_folder, task_of
from morl.result import ResultError, RunResult
from morl.types import Solution

N_GRAMS = {"ngrams": ["A", "CV"], "min_length": 4, "max_length": 6, "divisor": 6}


def settings(out: Path, env_id: str, kwargs: dict[str, Any], **changes: Any) -> RunConfig:
    """A run of a second."""
    return RunConfig(
        env=EnvConfig(env_id, kwargs=kwargs),
        out=str(out),
        **{
            "agent": "uniform_sampling",
            "agent_config": morl.agents.uniform_sampling.Config(batch=32),
            "steps": 1000,
            "selection_episodes": 2,
            "report_episodes": 2,
            "curve_episodes": 2,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A finished search for short strings."""
    config = settings(tmp_path_factory.mktemp("strings"), "n-grams-v0", N_GRAMS)
    run(config, say=lambda _: None)
    return config


def section_of(folder: Path) -> str:
    loaded, unreadable = find_results([folder])
    assert not unreadable
    return "".join(objects_section(comparison) for comparison in compare(loaded))


def altered(config: RunConfig, to: Path, **changes: Any) -> Path:
    """A copy of a run whose objects say something else."""
    folder = shutil.copytree(run_folder(config), to / "run")
    path = folder / OBJECTS_FILE
    record = json.loads(path.read_text())
    record.update(changes)
    path.write_text(json.dumps(record))
    return folder


def test_the_objects_beside_a_result_are_those_that_earned_its_returns(strings: RunConfig) -> None:
    result = RunResult.load(run_folder(strings))
    found = load_objects(run_folder(strings), result)
    assert found is not None
    assert found.solutions.tolist() == list(range(len(result.returns)))
    np.testing.assert_array_equal(found.values, result.arrays.report_undiscounted.mean(axis=1))
    for text, (single, pair) in zip(found.texts, found.values.tolist(), strict=True):
        assert 4 <= len(text) <= 6
        assert single == pytest.approx(text.count("A") / 6)
        assert pair == pytest.approx(text.count("CV") / 6)


def test_a_report_shows_strings_with_their_values(strings: RunConfig, tmp_path: Path) -> None:
    (page,) = report.write_report([run_folder(strings)], output=tmp_path / "page.html")
    html = page.read_text("utf-8").replace(get_plotlyjs(), "")
    assert "<h3>Objects</h3>" in html
    found = load_objects(run_folder(strings), RunResult.load(run_folder(strings)))
    assert found is not None
    for text, values in zip(found.texts, found.values.tolist(), strict=True):
        cells = "".join(f'<td class="number">{value:.6g}</td>' for value in values)
        assert f'<tr><th scope="row"><code>{text}</code></th>{cells}</tr>' in html
    assert "<svg" not in html
    again = tmp_path / "again.html"
    report.write_report([run_folder(strings)], output=again)
    assert again.read_bytes() == page.read_bytes()


def test_the_same_run_writes_the_same_objects(strings: RunConfig, tmp_path: Path) -> None:
    again = settings(tmp_path, "n-grams-v0", N_GRAMS)
    run(again, say=lambda _: None)
    first, second = (run_folder(config) / OBJECTS_FILE for config in (strings, again))
    assert first.read_bytes() == second.read_bytes()


def test_a_run_whose_episodes_build_nothing_has_no_such_section(tmp_path: Path) -> None:
    config = levers_config(tmp_path)
    run(config, say=lambda _: None)
    assert not (run_folder(config) / OBJECTS_FILE).exists()
    assert section_of(tmp_path) == ""
    assert built(task_of(config), [], seed=0) is None


def test_a_result_without_stored_objects_says_how_to_get_them(
    strings: RunConfig, tmp_path: Path
) -> None:
    folder = shutil.copytree(run_folder(strings), tmp_path / "run")
    (folder / OBJECTS_FILE).unlink()
    section = section_of(folder)
    assert "uniform_sampling, seed 0: no objects were stored; resume=never runs again" in section
    assert "<details" not in section


def test_samplers_are_asked_for_several_objects_each(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        "hypergrid-v0",
        {"height": 8},
        agent="mogfn_pc",
        agent_config=morl.agents.mogfn_pc.Config(batch=16, hidden=(8,), answer="samplers"),
        steps=500,
    )
    result = run(config, say=lambda _: None)
    assert result.protocol.policy_mode == "stochastic"
    found = load_objects(run_folder(config), result)
    assert found is not None
    assert 1 < len(found.texts) <= SAMPLES * len(result.returns)
    assert len(set(found.texts)) == len(found.texts)
    cells = np.array([json.loads(f"[{text[1:-1]}]") for text in found.texts])
    core = core_of(task_of(config))
    np.testing.assert_array_equal(core.values(cells), found.values)
    assert "<code>(" in section_of(tmp_path)


class Stop(BaseException):
    """Ends a run as a kill does."""


def test_a_resumed_run_writes_the_objects_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    def sampling(out: Path) -> RunConfig:
        agent = morl.agents.mogfn_pc.Config(batch=16, hidden=(8,), answer="samplers")
        kwargs = {"height": 8}
        changes: dict[str, Any] = {"agent": "mogfn_pc", "agent_config": agent, "steps": 1200}
        return settings(out, "hypergrid-v0", kwargs, **changes, sync_every=100, eval_every=300)

    def stop(steps: int, _: Any) -> None:
        if steps > 300:
            raise Stop

    whole, parts = sampling(tmp_path / "whole"), sampling(tmp_path / "parts")
    run(whole, say=lambda _: None)
    with pytest.raises(Stop):
        run(parts, say=lambda _: None, watch=stop)
    assert not (run_folder(parts) / OBJECTS_FILE).exists()
    said: list[str] = []
    run(parts, say=said.append)
    assert "goes on from step" in said[0]
    first, second = (run_folder(config) / OBJECTS_FILE for config in (whole, parts))
    assert first.read_bytes() == second.read_bytes()


class First:
    """Always the first action."""

    deterministic = True

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        return np.zeros(len(observations), np.int64)


def test_objects_that_the_horizon_leaves_unfinished_are_left_out(tmp_path: Path) -> None:
    config = settings(tmp_path, "hypergrid-v0", {"height": 4})
    task = task_of(config)
    # Always right: the far edge is reached, and the walk ended, by the third step.
    whole = built(task, [Solution(First()), Solution(First())], seed=0)
    assert whole is not None
    assert whole.texts == ("(3, 0)",)
    assert whole.solutions.tolist() == [0]
    cut = built(task.with_spec(horizon=2), [Solution(First())], seed=0)
    assert cut is not None
    assert cut.texts == ()
    assert cut.values.shape == (0, 2)


def test_few_points_of_a_front_hold_its_ends_and_keep_apart() -> None:
    share = np.linspace(0.0, 1.0, 101)
    front = np.stack([share, 1.0 - share], axis=1)
    below = front - 0.1
    chosen = spread_over_front(np.concatenate([below, front]), 5)
    # First the ends, then the middle, then the quarters; the best in the first objective leads.
    assert [index - 101 for index in chosen] == [100, 75, 50, 25, 0]
    assert spread_over_front(front, 1) == [100]
    assert spread_over_front(front[:3], 5) == [2, 1, 0]
    assert spread_over_front(np.zeros((0, 2)), 5) == []


def test_of_equal_points_one_is_chosen() -> None:
    assert spread_over_front(np.ones((30, 2)), SHOWN) == [0]
    flat = np.array([[1.0, value, 1.0 - value] for value in np.linspace(0, 1, 9)])
    assert spread_over_front(flat, 3) == [8, 4, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "something/1"}, "its schema is not"),
        ({"objects": [{"text": "AAAA"}]}, "'values' is missing"),
        ({"objects": [{"text": "AAAA", "values": [1], "solution": 0}]}, "must have 2 numbers"),
        ({"objects": [{"text": "A", "values": [1, "2"], "solution": 0}]}, "must have 2 numbers"),
        ({"objects": [{"text": "A", "values": [1, 10**400], "solution": 0}]}, "too large"),
        ({"objects": [{"text": "A", "values": [1, 2], "solution": "x"}]}, "must be an index"),
        ({"objects": [{"text": "A", "values": [1, 2], "solution": 99}]}, "does not have"),
        ({"objects": [{"text": "A", "values": [1, 2], "solution": 0}]}, "not the returns of its"),
        ({"objects": [{"text": "A" * (LONGEST_TEXT + 1), "values": [], "solution": 0}]}, "at most"),
        ({"objectives": ["speed", "thrift"]}, "not those of the result"),
        ({"objectives": None}, "not iterable"),
        ({"notation": 3}, "must be texts"),
    ],
)
def test_objects_that_do_not_fit_are_refused_and_the_page_says_so(
    changes: dict[str, Any], message: str, strings: RunConfig, tmp_path: Path
) -> None:
    folder = altered(strings, tmp_path, **changes)
    with pytest.raises(ResultError, match=re.escape(OBJECTS_FILE) + f".*{message}"):
        load_objects(folder, RunResult.load(folder))
    assert OBJECTS_FILE in section_of(folder)


def test_texts_of_others_are_inert(strings: RunConfig, tmp_path: Path) -> None:
    result = RunResult.load(run_folder(strings))
    evil = "<img src=x onerror=alert(1)></code></script>"
    values = result.arrays.report_undiscounted.mean(axis=1)[0].tolist()
    objects = [{"text": evil, "values": values, "solution": 0}]
    folder = altered(strings, tmp_path, objects=objects, notation="smiles")
    section = section_of(folder)
    assert "<img" not in section
    assert "&lt;img src=x" in section


# Molecules


@pytest.fixture(scope="module")
def drugs(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A finished search for small molecules."""
    pytest.importorskip("rdkit.Chem")
    config = settings(
        tmp_path_factory.mktemp("molecules"),
        "fragments-v0",
        {"max_blocks": 2},
        agent_config=morl.agents.uniform_sampling.Config(batch=16),
        steps=100,
    )
    run(config, say=lambda _: None)
    return config


def test_molecules_are_drawn_with_their_values(drugs: RunConfig) -> None:
    found = load_objects(run_folder(drugs), RunResult.load(run_folder(drugs)))
    assert found is not None
    assert found.notation == "smiles"
    section = section_of(run_folder(drugs))
    assert section.count("<svg ") == section.count("</svg>") == len(found.texts) > 1
    for text, (qed, sa, weight) in zip(found.texts, found.values.tolist(), strict=True):
        values = f"qed <b>{qed:.4g}</b>, sa <b>{sa:.4g}</b>, mw <b>{weight:.4g}</b>"
        assert f"<figcaption>{values}<br><code>{object_pages.text(text)}</code>" in section
    assert section_of(run_folder(drugs)) == section
    assert "http" not in section
    assert "script" not in section


def test_without_rdkit_a_molecule_is_its_smiles_and_the_remedy_is_named(
    drugs: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(molecules.importlib, "import_module", missing)
    found = load_objects(run_folder(drugs), RunResult.load(run_folder(drugs)))
    assert found is not None
    section = section_of(run_folder(drugs))
    assert "<svg" not in section
    assert all(f"<code>{object_pages.text(name)}</code>" in section for name in found.texts)
    assert "morl-suite[mol]" in section


@pytest.mark.parametrize(
    "text",
    ["", "no molecule", "C1CC", "C |$<script>$|", "<b>", "C" * 401, 'C"onload="x'],
)
def test_what_is_no_molecule_is_not_drawn(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rdkit.Chem")
    assert molecules.MoleculeArtist().svg(text) is None
    assert capfd.readouterr().err == ""


def test_a_drawing_is_nothing_but_shapes() -> None:
    drawing = (
        "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(2)</script>"
        "<path d='M 1,2\nL 3,4' style='fill:none;stroke:#FF0000' onclick='alert(3)'/>"
        "<rect x='0' y='0' width='9' height='9' style='fill:url(evil)' fill='#FFFFFF'/>"
        "<a href='javascript:alert(4)'><text>hello</text></a></svg>"
    )
    assert molecules.shapes_of(drawing) == (
        '<path d="M 1,2 L 3,4" style="fill:none;stroke:#FF0000"/>'
        '<rect x="0" y="0" width="9" height="9" fill="#FFFFFF"/>'
    )
