"""Importing the suite is cheap, and every public name keeps its promise."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import morl

HEAVY = (
    "torch", "hydra", "omegaconf", "wandb", "numba", "matplotlib", "plotly", "scipy", "pygmo",
    "moocore", "mujoco", "stable_baselines3", "mo_gymnasium", "tensorboard",
)  # fmt: skip
BARE = ("envs", "agents", "hpo", "experiments", "conf")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_after(code: str, names: tuple[str, ...]) -> list[str]:
    """Which modules of `names` a fresh interpreter has loaded after `code`."""
    listing = run(f"{code}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])")
    return listing.split()


def test_importing_the_package_takes_less_than_half_a_second_of_cpu() -> None:
    code = "import time; start = time.process_time(); import morl; print(time.process_time()-start)"
    assert min(float(run(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    "statement",
    [
        "import morl",
        "import morl.types, morl.registry, morl.seeding, morl.storage, morl.checkpoint, "
        "morl.tracking, morl.result",
        "import morl; morl.register_env, morl.RunResult, morl.JsonlTracker, morl.EnvSpec",
    ],
)
def test_the_kernel_loads_nothing_heavy(statement: str) -> None:
    assert loaded_after(statement, HEAVY) == []


def test_listing_environments_loads_no_torch() -> None:
    code = "import morl; assert len(morl.ENVS) > 0"
    assert loaded_after(code, ("torch", "hydra", "wandb", "matplotlib", "plotly")) == []


def test_no_module_is_imported_under_a_second_name() -> None:
    code = "import morl; list(morl.ENVS), list(morl.AGENTS)"
    assert loaded_after(code, BARE) == []


def test_no_source_file_imports_a_bare_folder() -> None:
    root = Path(morl.__file__).parent
    files = [
        file for name in ("", *BARE) for file in (root / name).glob("**/*.py" if name else "*.py")
    ]
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                assert name.partition(".")[0] not in BARE, f"{file}:{node.lineno}"


def test_only_tracking_imports_wandb() -> None:
    root = Path(morl.__file__).parent
    importing = [
        file.name
        for name in ("", *BARE)
        for file in (root / name).glob("**/*.py" if name else "*.py")
        if "import wandb" in file.read_text(encoding="utf-8")
    ]
    assert importing == ["tracking.py"]


@pytest.mark.parametrize("name", [name for name in morl.__all__ if name != "__version__"])
def test_every_public_name_is_fetched_from_where_it_is_defined(name: str) -> None:
    value = getattr(morl, name)
    home = morl._HOME[name]
    assert value is getattr(importlib.import_module(home), name)
    assert name in dir(morl)


def test_what_type_checkers_see_is_what_is_there() -> None:
    tree = ast.parse(Path(morl.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == morl._HOME
    assert sorted({*seen, "__version__"}) == sorted(morl.__all__)


def test_submodules_are_fetched_and_other_names_refused() -> None:
    assert run("import morl; print(morl.storage.__name__)") == "morl.storage"
    with pytest.raises(AttributeError, match="module 'morl' has no attribute 'nonsense'"):
        _ = morl.nonsense


def test_the_version_is_that_of_the_distribution() -> None:
    assert morl.__version__ == importlib.import_module("importlib.metadata").version("morl-suite")


@pytest.mark.parametrize("word", ["agent.lr=1", "agent.learning_rate=fast", "stepps=3"])
def test_an_error_in_the_arguments_is_said_before_anything_heavy_is_loaded(word: str) -> None:
    code = (
        "from morl.experiments.cli import main\n"
        f"assert main(['run', 'agent=c_morl', {word!r}]) == 1"
    )
    heavy = ("torch", "stable_baselines3", "wandb", "matplotlib", "plotly", "optuna", "pandas")
    assert loaded_after(code, heavy) == []


def test_an_agent_is_loaded_without_the_others() -> None:
    code = "import morl; assert morl.AGENTS['pql'].name == 'pql'"
    others = ("morl.agents.sb3", "morl.agents.gmorl", "torch")
    assert loaded_after(code, ("morl.agents.pql", *others)) == ["morl.agents.pql"]


def test_an_unknown_agent_is_looked_for_among_all() -> None:
    code = (
        "import morl\n"
        "try:\n    morl.AGENTS['c_moral']\n"
        "except morl.UnknownNameError as error:\n    assert \"did you mean 'c_morl'\" in str(error)"
    )
    assert loaded_after(code, ("morl.agents.c_morl",)) == ["morl.agents.c_morl"]
