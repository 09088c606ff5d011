"""The documentation builds, and every page is reached from its index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs; a page outside every table of contents is a warning, so an error."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-c", str(ROOT / "docs"), "-d", str(output / "doctrees"),
         str(source), str(output / "html")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _needs_the_docs_group() -> None:
    pytest.importorskip("sphinx", reason="the dependency group docs is not installed")
    pytest.importorskip("furo", reason="the dependency group docs is not installed")


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_page_that_nobody_links_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Home\n")
    (source / "lost.md").write_text("# Lost\n")
    done = build(source, tmp_path / "out")
    assert done.returncode != 0
    assert "lost.md" in done.stderr
