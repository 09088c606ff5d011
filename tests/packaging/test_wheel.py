"""The wheel, built by way of the sdist and used from another directory: tests inside the checkout
could not notice a file that is missing from it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

# One worker builds, for all tests of this file.
pytestmark = pytest.mark.xdist_group("packaging")

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path(__file__).parent / "plugin_example"
LINKED = ("envs", "agents", "hpo", "experiments", "conf")
CACHES = {".pyc", ".nbi", ".nbc"}
NOT_SOURCE = ignore_patterns(
    ".git", ".venv*", "build", "dist", "runs", "outputs", "multirun", "*.egg-info", "__pycache__",
    ".*_cache", ".hypothesis", "*.nbi", "*.nbc",
)  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """A virtual environment that holds the wheel and sees this interpreter's packages."""

    folder: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.elsewhere,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.elsewhere), "OMP_NUM_THREADS": "1"},
        )

    def install(self, what: Path) -> None:
        check(
            [sys.executable, "-m", "pip", "--python", str(self.folder / "bin" / "python"),
             "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(what)],
            cwd=self.elsewhere,
        )  # fmt: skip


def check(command: list[str], *, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist and the wheel made from it."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    copytree(ROOT, source, symlinks=True, ignore=NOT_SOURCE)
    check([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)], cwd=source)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("morl_suite-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv")
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    # A path file adds a folder without obeying the path files in it: the packages of this
    # interpreter are seen, its editable install of the suite is not.
    seen = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "packages.pth").write_text("\n".join(sorted(seen)))
    (folder / "elsewhere").mkdir()
    environment = Installed(folder=folder / "venv", elsewhere=folder / "elsewhere")
    environment.install(wheel)
    return environment


def sources() -> set[str]:
    """Every code and data file of the suite, named as the wheel should name it."""
    files = [path for path in (ROOT / "morl").iterdir() if path.is_file()]
    for folder in ("morl/data", *LINKED):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {f"morl/{path.relative_to(ROOT)}".replace("morl/morl/", "morl/") for path in files
             if path.suffix not in CACHES}  # fmt: skip
    # Result files of published runs stay in the repository.
    return {name for name in names if not name.startswith("morl/experiments/results/")}


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert sorted(sources() - names) == []


def test_the_wheel_holds_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"morl"}


def test_the_sdist_holds_files_where_the_checkout_has_links(built: Path) -> None:
    with tarfile.open(next(built.glob("morl_suite-*.tar.gz"))) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    links = [name for name, member in members.items() if member.issym() or member.islnk()]
    assert links == []
    for folder in LINKED:
        assert members[f"morl/{folder}/__init__.py"].isfile()


@pytest.mark.parametrize("module", ["morl", *(f"morl.{name}" for name in LINKED)])
def test_each_package_is_imported_from_the_wheel(installed: Installed, module: str) -> None:
    done = installed.run("python", "-c", f"import {module} as m; print(m.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.folder)


def test_data_is_found_outside_the_checkout(installed: Installed) -> None:
    done = installed.run(
        "python", "-c", "from morl.preferences import sobol_simplex; print(sobol_simplex(3).shape)"
    )
    assert done.stdout.strip() == "(4096, 3)", done.stderr


def test_the_command_lists_environments_outside_the_checkout(installed: Installed) -> None:
    done = installed.run("morl", "list", "envs")
    assert done.returncode == 0, done.stderr
    assert "minecart-v0" in done.stdout
    assert "mo-gymnasium" in done.stdout


def test_a_run_composes_its_configuration_outside_the_checkout(installed: Installed) -> None:
    done = installed.run("morl", "run", "--cfg", "job", "experiment=demo")
    assert done.returncode == 0, done.stderr
    assert "c_morl" in done.stdout


def test_a_plug_in_is_listed_with_its_origin_and_a_broken_one_is_named_and_skipped(
    installed: Installed, tmp_path: Path
) -> None:
    copytree(PLUGIN, tmp_path / "plugin", ignore=NOT_SOURCE)
    installed.install(tmp_path / "plugin")

    done = installed.run("morl", "list", "envs")

    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "plugin-arms-v0" in line]
    assert "morl-plugin-example" in line
    said = done.stdout + done.stderr
    assert "morl_plugin_broken" in said
    assert "a_package_that_nobody_has" in said
    assert "Traceback" not in said
    assert "minecart-v0" in done.stdout


def test_an_environment_of_a_plug_in_passes_the_contract(
    installed: Installed, tmp_path: Path
) -> None:
    copytree(PLUGIN, tmp_path / "plugin", ignore=NOT_SOURCE)
    installed.install(tmp_path / "plugin")
    done = installed.run("morl", "check-env", "plugin-arms-v0")
    assert done.returncode == 0, done.stdout + done.stderr
