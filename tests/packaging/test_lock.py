"""The lock holds what pyproject.toml asks for, and make installs it only when it changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="the lock is for Python 3.11 and later")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
]
LOCKED = {canonicalize_name(line.split("==")[0]): line.partition("==")[2] for line in LINES}


def wanted() -> list[Requirement]:
    """Requirements of the package, of its extra `all`, and of the groups `dev` and `docs`."""
    extras = PROJECT["project"]["optional-dependencies"]
    names = re.search(r"\[(.*)\]", extras["all"][0])
    assert names is not None
    chosen = [line for name in names[1].split(",") for line in extras[name]]
    groups = PROJECT["dependency-groups"]
    everything = [*PROJECT["project"]["dependencies"], *chosen, *groups["dev"], *groups["docs"]]
    return [Requirement(line) for line in everything]


def test_every_requirement_is_locked_to_a_version_it_allows() -> None:
    locked = {line: LOCKED.get(canonicalize_name(line.name)) for line in wanted()}
    assert [str(line) for line, version in locked.items() if version is None] == []
    assert [str(line) for line, version in locked.items() if version not in line.specifier] == []


def test_the_lock_has_names_and_versions_that_any_index_has() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[\w.-]+==[A-Za-z0-9.]+", line)] == []
    assert len(LINES) > 50


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Only what the rules for installing look at, as if it had been installed."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1_000, 1_000))
    (tmp_path / ".venv").mkdir()
    for time, stamp in ((2_000, ".stamp-lock"), (3_000, ".stamp-package")):
        (tmp_path / ".venv" / stamp).touch()
        os.utime(tmp_path / ".venv" / stamp, (time, time))
    return tmp_path


def planned(checkout: Path) -> str:
    """Commands that `make install` would run."""
    # The tests may themselves run under make: its variables are not for this one.
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV", "PYTHON")
    done = subprocess.run(
        ["make", "--dry-run", "install"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name not in outer},
    )
    return done.stdout


def test_nothing_is_installed_again_when_nothing_changed(checkout: Path) -> None:
    assert "pip" not in planned(checkout)


def test_a_new_lock_installs_both_and_the_package_without_its_dependencies(checkout: Path) -> None:
    os.utime(checkout / "requirements.lock", (4_000, 4_000))
    assert "install --quiet -r requirements.lock" in planned(checkout)
    assert "--no-deps --no-build-isolation --editable ." in planned(checkout)


def test_a_new_pyproject_installs_the_package_alone(checkout: Path) -> None:
    os.utime(checkout / "pyproject.toml", (4_000, 4_000))
    assert "-r requirements.lock" not in planned(checkout)
    assert "--editable ." in planned(checkout)


def test_ci_runs_the_command_of_the_readme_last() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "\nmake test\n" in (ROOT / "README.md").read_text()
    assert script.read_text().splitlines()[-1] == "exec make --no-print-directory test"
