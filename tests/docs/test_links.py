"""Relative links of the documentation lead somewhere, anchors included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links_of(text: str) -> list[str]:
    """Targets of the links in a page, those in code and comments left out."""
    return LINK.findall(COMMENT.sub("", FENCED.sub("", text)))


def anchors_of(text: str) -> set[str]:
    """Anchors that GitHub makes of the headings."""
    headings = HEADING.findall(FENCED.sub("", text))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in links_of(page.read_text()):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    assert broken_links(page) == []


def test_a_missing_file_and_a_missing_heading_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One sign\n[a](none.md) [b](#one-sign) [c](#two) [d](https://x.org)\n")
    assert broken_links(page) == ["none.md", "#two"]


def test_links_inside_code_are_ignored() -> None:
    assert links_of("```text\n[a](b)\n```\n[c](d)\n<!-- [e](f) -->") == ["d"]
