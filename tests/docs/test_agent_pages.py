"""Every built-in agent has a page of the same shape that names all of its settings."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from morl.registry import AGENTS, DISTRIBUTION

PAGES = Path(__file__).resolve().parents[2] / "docs" / "agents"
HEADINGS = [
    "Overview",
    "Config",
    "Metrics explained",
    "Implementation details and deviations",
    "Results",
    "How to reproduce",
]
BUILT_IN = [name for name, entry in AGENTS.items() if entry.origin.endswith(f"({DISTRIBUTION})")]


def sections_of(page: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def settings_in(section: str) -> set[str]:
    """Names in code in the first column of the section's table."""
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_agent_has_a_page_with_the_common_headings(name: str) -> None:
    headings = list(sections_of((PAGES / f"{name}.md").read_text()))
    assert [heading[: len(wanted)] for heading, wanted in zip(headings, HEADINGS, strict=True)] == (
        HEADINGS
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_names_every_setting_and_no_other(name: str) -> None:
    section = sections_of((PAGES / f"{name}.md").read_text())["Config"]
    fields = {setting.name for setting in dataclasses.fields(AGENTS[name].config)}
    assert settings_in(section) == fields


def test_settings_are_read_from_the_first_column_alone() -> None:
    table = "| setting | what |\n| --- | --- |\n| `a`, `b_c` | like `d` |\n\n`e`\n"
    assert settings_in(table) == {"a", "b_c"}
