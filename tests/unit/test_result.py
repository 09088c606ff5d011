"""The result file: complete, verified, never pickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_faults import faulty_disk

import morl
from morl import result as result_module
from morl import storage
from morl.result import (
    AlgoRecord,
    BudgetRecord,
    EnvRecord,
    FrontRecord,
    Metric,
    PoliciesRecord,
    ProtocolRecord,
    Provenance,
    ResultArrays,
    ResultError,
    RunResult,
    collect_provenance,
    stacked_preferences,
)
from morl.storage import StorageError
from morl.types import NonFiniteError


def make_arrays(**changes: Any) -> ResultArrays:
    """Four candidates, two of them chosen; three report episodes of two objectives."""
    rng = np.random.default_rng(0)
    selection = rng.normal(size=(4, 5, 2))
    arrays: dict[str, Any] = {
        "chosen": np.array([1, 3]),
        "selection_discounted": selection,
        "selection_undiscounted": 2 * selection,
        "selection_lengths": np.full((4, 5), 7),
        "report_discounted": np.array([[[1.0, 4], [2, 4], [3, 4]], [[5, 0], [5, 0], [5, 3]]]),
        "report_undiscounted": rng.normal(size=(2, 3, 2)),
        "report_lengths": np.full((2, 3), 9),
        "preferences": np.array([[0.25, 0.75], [0.0, 0.0]]),
        "has_preference": np.array([True, False]),
    }
    return ResultArrays(**{**arrays, **changes})


def make_result(**changes: Any) -> RunResult:
    fields: dict[str, Any] = {
        "algo": AlgoRecord(name="c_morl", version="0.1.0", entry_point="morl.agents.c_morl:CMorl"),
        "env": EnvRecord(
            id="minecart-v0",
            package="mo-gymnasium",
            version="1.3.2",
            kwargs={"frame_skip": 4},
            max_steps=1000,
        ),
        "protocol": ProtocolRecord(
            id="morl-discounted/1",
            discount=0.98,
            reference_point=(-1.0, -200.0),
            objectives=("ore", "fuel"),
            box_low=(-1.0, -200.0),
            box_high=(2.0, 0.0),
            selection_episodes=5,
            report_episodes=3,
        ),
        "seed": 2**40,
        "config": {"lr": 3e-4, "layers": [64, 64], "target_kl": None, "note": "фронт </script>"},
        "budget": BudgetRecord(env_steps=1000, eval_env_steps=140, wall_s=1.5, cpu_s=1.25),
        "front": FrontRecord(num_candidates=4, num_unique=2, num_outside=0),
        "metrics": {
            "hypervolume": Metric(value=600.5, standard_error=1.25, method="exact"),
            "cardinality": Metric(value=2.0),
        },
        "curve": {"steps": (500.0, 1000.0), "hypervolume": (580.0, 600.5)},
        "provenance": Provenance(
            config_sha256="0" * 64,
            packages={"numpy": "2.0"},
            python="3.11",
            os="Linux",
            cpu="a fast one",
            threads={"torch": 1},
        ),
        "arrays": make_arrays(),
        "policies": PoliciesRecord(artifact="policies.npz", sha256="1" * 64, format="npz"),
    }
    return RunResult(**{**fields, **changes})


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter a stored record as somebody with an editor would."""
    record = json.loads((folder / "result.json").read_text())
    change(record)
    (folder / "result.json").write_text(json.dumps(record))


# Round trip ----------------------------------------------------------------------------------


def test_a_result_comes_back_equal_from_the_folder_and_from_the_file(tmp_path: Path) -> None:
    result = make_result()
    path = result.save(tmp_path / "new" / "run")
    assert path == tmp_path / "new" / "run" / "result.json"
    assert RunResult.load(path) == RunResult.load(path.parent) == result


def test_the_file_is_strict_json_with_schema_run_id_and_hashes(tmp_path: Path) -> None:
    result = make_result()
    record = json.loads(result.save(tmp_path).read_bytes(), parse_constant=pytest.fail)
    assert set(record) == {
        "schema", "run_id", "algo", "env", "protocol", "budget", "seed", "front", "metrics",
        "provenance", "policies", "status", "verification", "curve", "config",
    }  # fmt: skip
    assert record["schema"] == "morl-result/1"
    assert record["run_id"] == result.run_id
    assert record["status"] == "completed"
    assert record["verification"] == "self-reported"
    assert record["metrics"]["hypervolume"] == {
        "value": 600.5, "standard_error": 1.25, "method": "exact",
    }  # fmt: skip
    for name, key in (("returns", "sha256"), ("episodes", "episodes_sha256")):
        content = (tmp_path / record["front"][name]).read_bytes()
        assert record["front"][key] == hashlib.sha256(content).hexdigest()


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        make_result().save(tmp_path / name)
    for name in ("result.json", "front.npz", "episodes.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_front_is_the_mean_of_the_discounted_report_returns(tmp_path: Path) -> None:
    make_result().save(tmp_path)
    expected = [[2.0, 4.0], [5.0, 1.0]]
    assert RunResult.load(tmp_path).returns.tolist() == expected
    with np.load(tmp_path / "front.npz", allow_pickle=False) as front:
        assert front["returns"].tolist() == expected
        assert front["preferences"].tolist() == [[0.25, 0.75], [0.0, 0.0]]
        assert front["has_preference"].tolist() == [True, False]


def test_a_failed_run_that_found_nothing_has_a_result(tmp_path: Path) -> None:
    result = make_result(
        arrays=ResultArrays.empty(2),
        front=FrontRecord(num_candidates=0, num_unique=0, num_outside=0),
        metrics={},
        curve={},
        policies=None,
        status="failed: reward of minecart-v0 is nan\nat step 12",
    )
    result.save(tmp_path)
    found = RunResult.load(tmp_path)
    assert found == result
    assert found.returns.shape == (0, 2)


def test_integers_where_numbers_are_due_make_no_difference() -> None:
    protocol = dataclasses.replace(make_result().protocol, reference_point=(-1, -200))
    assert make_result(protocol=protocol).run_id == make_result().run_id
    assert (
        make_result(metrics={"a": Metric(value=1)}).metrics["a"].value.hex()
        == "0x1.0000000000000p+0"
    )


def test_results_with_other_returns_are_not_equal() -> None:
    changed = make_arrays(report_undiscounted=np.zeros((2, 3, 2)))
    assert make_result(arrays=changed) != make_result()
    assert make_arrays() != "arrays"


# Identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"config": {"lr": 1e-3}},
        {"algo": AlgoRecord(name="c_morl", version="0.2.0", entry_point="m")},
        {"env": EnvRecord(id="minecart-v0", package="mo-gymnasium", version="1.4")},
    ],
)
def test_the_run_id_changes_with_what_was_decided_before_the_run(changes: dict[str, Any]) -> None:
    assert make_result(**changes).run_id != make_result().run_id


def test_the_run_id_does_not_change_with_results_or_machine() -> None:
    other = make_result(
        budget=BudgetRecord(env_steps=1, eval_env_steps=1, wall_s=9, cpu_s=9, updates=3),
        metrics={},
        curve={},
        arrays=ResultArrays.empty(2),
        provenance=collect_provenance({}),
        status="stopped",
        verification="recomputed",
        policies=None,
    )
    assert other.run_id == make_result().run_id


# Refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "done"}, "status 'done': must be 'completed', 'stopped' or 'failed: reason'"),
        ({"status": "failed: "}, "status 'failed: '"),
        ({"verification": "trust me"}, "verification is 'trust me', not one of self-reported"),
        ({"curve": {"steps": (1.0,), "eum": ()}}, "columns of one length"),
        ({"curve": {"eum": (1.0,)}}, "'steps' among them"),
        ({"arrays": ResultArrays.empty(3)}, "2 objectives in the protocol, 3 in the returns"),
        ({"seed": 1.5}, "seed is 1.5, not of the type int"),
        ({"seed": True}, "seed is True, not of the type int"),
        ({"metrics": {"a": Metric(value="1")}}, "metrics.a.value is '1', not of the type float"),  # type: ignore[arg-type]
        ({"metrics": [1]}, r"metrics is \[1\], not of the type Mapping"),
        ({"config": 3}, "config is 3, not of the type Mapping"),
    ],
)
def test_a_record_that_contradicts_itself_is_never_made(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResultError, match=message):
        make_result(**changes)


def test_a_number_that_is_not_finite_is_named() -> None:
    with pytest.raises(NonFiniteError, match=r"metrics\.hypervolume\.standard_error is nan"):
        make_result(metrics={"hypervolume": Metric(value=1.0, standard_error=float("nan"))})


def test_a_protocol_that_judges_by_the_stream_it_chose_by_is_refused() -> None:
    with pytest.raises(ResultError, match="biased upwards"):
        dataclasses.replace(make_result().protocol, report_stream="selection")
    with pytest.raises(ResultError, match=r"protocol\.box_low has 1 coordinates for 2 objectives"):
        dataclasses.replace(make_result().protocol, box_low=(0.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": np.array([1, 4])}, "chosen names candidates outside of the 4"),
        ({"chosen": np.array([-1, 1])}, "chosen names candidates outside"),
        ({"chosen": np.array([1.0, 2.0])}, "chosen has the type float64"),
        ({"has_preference": np.array([1, 0])}, "has_preference has the type int64"),
        (
            {"report_lengths": np.zeros((2, 2), int)},
            r"report_lengths has shape \(2, 2\), not \(2, 3",
        ),
        ({"report_discounted": np.zeros((2, 3))}, "report_discounted must be"),
        ({"selection_discounted": np.zeros((4, 5, 3))}, r"selection_undiscounted has shape"),
        ({"preferences": np.array([[0.25, np.nan], [0, 0]])}, "preferences is not finite"),
        ({"report_undiscounted": np.full((2, 3, 2), np.inf)}, "report_undiscounted is not finite"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused_by_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResultError, match=message):
        make_arrays(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(schema="morl-result/2"), "schema morl-result/2.*reads up to"),
        (lambda r: r.update(schema="other/1"), "no result of a run: its schema is 'other/1'"),
        (lambda r: r.pop("schema"), "its schema is None"),
        (lambda r: r.update(seed=4), "run_id does not fit the record"),
        (lambda r: r["protocol"].update(discount=0.5), "run_id does not fit the record"),
        (lambda r: r.pop("run_id"), "'run_id' is missing"),
        (lambda r: r.pop("budget"), "budget is missing"),
        (lambda r: r["budget"].pop("wall_s"), "budget.wall_s is missing"),
        (lambda r: r["budget"].update(price=3), "budget.price is not a field of morl-result/1"),
        (lambda r: r.update(arrays={}), "arrays is not a field"),
        (lambda r: r["metrics"].update(hv=3), "metrics.hv is 3, not an object"),
        (
            lambda r: r["curve"].update(steps=["1", "2"]),
            r"curve.steps\[0\] is '1', not of the type",
        ),
        (lambda r: r["front"].update(sha256="0"), "front.npz is damaged or was altered"),
        (lambda r: r["front"].update(episodes_sha256=0), "episodes.npz is damaged"),
        (lambda r: r["front"].update(returns="../front.npz"), "is not a file beside the record"),
        (lambda r: r["front"].pop("episodes"), "'episodes' is missing"),
        (lambda r: r.update(front=[]), "'returns' is missing"),
    ],
)
def test_an_altered_record_is_refused_naming_the_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    make_result().save(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ResultError, match=rf"result\.json.*{message}"):
        RunResult.load(tmp_path)


def test_altered_returns_are_refused_even_with_their_hash_renewed(tmp_path: Path) -> None:
    make_result().save(tmp_path)
    front = storage.read_arrays(tmp_path / "front.npz")
    front["returns"][0, 0] += 1e-6
    storage.write_arrays(tmp_path / "front.npz", front)
    with pytest.raises(ResultError, match=r"front\.npz is damaged or was altered"):
        RunResult.load(tmp_path)
    digest = storage.sha256_file(tmp_path / "front.npz")
    edit(tmp_path, lambda record: record["front"].update(sha256=digest))
    with pytest.raises(ResultError, match=r"are not the means of episodes\.npz"):
        RunResult.load(tmp_path)


def test_files_of_another_run_are_noticed(tmp_path: Path) -> None:
    make_result().save(tmp_path / "a")
    make_result(arrays=make_arrays(report_undiscounted=np.ones((2, 3, 2)))).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "episodes.npz", tmp_path / "a" / "episodes.npz")
    with pytest.raises(ResultError, match=r"episodes\.npz is damaged or was altered"):
        RunResult.load(tmp_path / "a")


def test_what_is_missing_or_no_json_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"result\.json cannot be read: there is no such file"):
        RunResult.load(tmp_path)
    make_result().save(tmp_path)
    (tmp_path / "episodes.npz").unlink()
    with pytest.raises(StorageError, match=r"episodes\.npz cannot be read"):
        RunResult.load(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(StorageError, match=r"result\.json is not valid JSON"):
        RunResult.load(tmp_path)


def test_an_earlier_result_survives_a_disk_that_fills_up(tmp_path: Path) -> None:
    earlier = make_result()
    earlier.save(tmp_path)
    later = make_result(seed=1, arrays=make_arrays(report_undiscounted=np.ones((2, 3, 2))))
    for fail_at in range(7):  # the folder, then writing and syncing each of three files
        with faulty_disk(fail_at), pytest.raises(StorageError, match="disk is full"):
            later.save(tmp_path)
        assert RunResult.load(tmp_path) == earlier
    assert len(list(tmp_path.iterdir())) == 3


# Helpers -------------------------------------------------------------------------------------


def test_preferences_are_stacked_with_a_mask_for_those_without() -> None:
    stacked, present = stacked_preferences([np.array([0.5, 0.5]), None], 2)
    assert stacked.tolist() == [[0.5, 0.5], [0.0, 0.0]]
    assert present.tolist() == [True, False]
    assert stacked_preferences([], 3)[0].shape == (0, 3)


def test_provenance_names_packages_machine_and_configuration() -> None:
    found = collect_provenance({"b": 1, "a": 2})
    assert found.config_sha256 == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert found.packages["numpy"] == np.__version__
    assert found.packages["morl-suite"] == morl.__version__
    assert found.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found.cpu
    assert found.os


def test_provenance_tells_commit_and_changes_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "morl"
    package.mkdir()
    (package / "result.py").write_text("")
    (tmp_path / "requirements.lock").write_bytes(b"abc")
    monkeypatch.setattr(result_module, "__file__", str(package / "result.py"))
    assert collect_provenance({}).git_sha is None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    clean = collect_provenance({})
    monkeypatch.delenv("GIT_DIR")
    assert clean.git_sha == git("rev-parse", "HEAD")
    assert clean.git_dirty is False
    assert clean.lockfile_sha256 is not None
    assert clean.lockfile_sha256.startswith("ba7816bf8f01cfea")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "result.json").touch()  # not code
    assert collect_provenance({}).git_dirty is False
    (package / "new.py").touch()
    assert collect_provenance({}).git_dirty is True


def test_provenance_imports_nothing_heavy() -> None:
    code = (
        "import sys; from morl.result import collect_provenance; before = set(sys.modules); "
        "found = collect_provenance({}); print({'torch', 'scipy', 'numba'} & set(sys.modules), "
        "found.deterministic)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() None\n"
