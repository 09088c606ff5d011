"""The folder of agents: one file per agent, named as its id, and learners that know no agent."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from morl.registry import AGENTS, DISTRIBUTION

FOLDER = Path(__file__).resolve().parents[2] / "agents"
FILES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")
LEARNERS = sorted((FOLDER / "learners").rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Modules that a file imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_file_registers_the_agent_of_its_name() -> None:
    built_in = [name for name, entry in AGENTS.items() if f"({DISTRIBUTION})" in entry.origin]
    assert sorted(built_in) == FILES


@pytest.mark.parametrize("name", FILES)
def test_an_agent_is_made_in_its_own_file(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    registered = [
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "register_agent"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert registered == [name]


@pytest.mark.parametrize("file", LEARNERS, ids=lambda file: str(file.relative_to(FOLDER)))
def test_learners_know_no_agent(file: Path) -> None:
    agents = {f"morl.agents.{name}" for name in FILES}
    known = {
        module
        for module in imported(file)
        if any(module == agent or module.startswith(f"{agent}.") for agent in agents)
    }
    assert not known


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text("def f():\n    from morl.agents import pql\n    import os.path\n")
    assert imported(file) == {"morl.agents", "morl.agents.pql", "os.path"}
