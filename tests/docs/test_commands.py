"""Every command and every example of the documentation is run, or says why not.

A fenced block is run if its language is `bash` or `python`. A comment on the line above changes
that: `<!-- slow: reason -->` runs it with the slow tests, `<!-- not run: reason -->` not at all.
Blocks of a page share one folder and, if Python, one namespace; blocks of other languages show
output or files.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = ("bash", "python")
SHELL_LIKE = ("sh", "shell", "console", "pycon", "py", "zsh")
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>slow|not run): (?P<reason>[^\n]+?) -->\n)?"
    r"^```(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
WATCHED = {"README.md", "docs/getting-started.md", "docs/add-an-environment.md",
           "docs/add-an-agent.md"}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None


def blocks_of(text: str, *, page: str) -> list[Block]:
    return [
        Block(
            page=page,
            line=text[: match.start("text")].count("\n") + 1,
            language=match["language"],
            text=match["text"],
            mark=match["mark"],
        )
        for match in FENCE.finditer(text)
    ]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


BLOCKS = {page_name(path): blocks_of(path.read_text(), page=page_name(path)) for path in PAGES}


def script(blocks: list[Block]) -> str:
    """The blocks as one Bash script; Python blocks of the page run together, where the last is."""
    last = max((i for i, block in enumerate(blocks) if block.language == "python"), default=-1)
    lines = ["set -euo pipefail"]
    python: list[str] = []
    for index, block in enumerate(blocks):
        if block.language == "bash":
            lines.append(block.text)
            continue
        python.append(block.text)
        if index == last:
            lines += ["cat > page.py <<'END_OF_PAGE'", "\n".join(python), "END_OF_PAGE"]
            lines.append("python page.py")
    return "\n".join(lines)


def run(blocks: list[Block], *, folder: Path) -> None:
    scripts = sysconfig.get_path("scripts")
    done = subprocess.run(
        ["bash", "-c", script(blocks)],
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
             "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )  # fmt: skip
    places = ", ".join(f"{block.page}:{block.line}" for block in blocks)
    assert done.returncode == 0, f"{places}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def runnable(page: str) -> list[Block]:
    return [block for block in BLOCKS[page] if block.language in RUNNABLE and block.mark is None]


SLOW = [
    block
    for blocks in BLOCKS.values()
    for block in blocks
    if block.mark == "slow" and block.language in RUNNABLE
]


@pytest.mark.parametrize("page", [page for page in BLOCKS if runnable(page)])
def test_the_commands_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    run([block for block in runnable(page) if ">>>" not in block.text], folder=tmp_path)


@pytest.mark.parametrize("page", [page for page in BLOCKS if runnable(page)])
def test_a_session_prints_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sessions = [block for block in runnable(page) if ">>>" in block.text]
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    names: dict[str, object] = {}
    for block in sessions:
        example = parser.get_doctest(block.text, names, block.page, block.page, block.line)
        report: list[str] = []
        outcome = runner.run(example, out=report.append, clear_globs=False)
        names = example.globs
        assert outcome.failed == 0, "".join(report)


@pytest.mark.slow
@pytest.mark.parametrize("block", SLOW, ids=lambda block: f"{block.page}:{block.line}")
def test_a_slow_command_runs_in_the_checkout(block: Block) -> None:
    run([block], folder=ROOT)


@pytest.mark.parametrize("page", sorted(BLOCKS))
def test_no_command_hides_behind_another_language(page: str) -> None:
    hidden = [block.line for block in BLOCKS[page] if block.language in (*SHELL_LIKE, "")]
    assert hidden == []


@pytest.mark.parametrize("page", sorted(WATCHED))
def test_the_pages_for_newcomers_have_commands_that_are_run(page: str) -> None:
    assert runnable(page)


def test_a_fence_is_found_with_its_mark_and_line() -> None:
    text = "a\n\n```bash\nls\n```\n\n<!-- slow: trains -->\n```python\nx = 1\n```\n"
    plain, slow = blocks_of(text, page="p")
    assert (plain.language, plain.text, plain.mark, plain.line) == ("bash", "ls\n", None, 4)
    assert (slow.language, slow.text, slow.mark, slow.line) == ("python", "x = 1\n", "slow", 9)


def test_a_failing_command_is_noticed(tmp_path: Path) -> None:
    failing = Block(page="p", line=1, language="bash", text="false\ntrue\n", mark=None)
    with pytest.raises(AssertionError, match="p:1"):
        run([failing], folder=tmp_path)


def test_python_blocks_of_a_page_share_names(tmp_path: Path) -> None:
    first = Block(page="p", line=1, language="python", text="x = 1\n", mark=None)
    second = Block(page="p", line=5, language="python", text="assert x == 1\n", mark=None)
    run([first, second], folder=tmp_path)


def test_the_suite_runs_with_the_interpreter_that_has_the_command() -> None:
    assert Path(sysconfig.get_path("scripts"), "morl").exists(), sys.executable
