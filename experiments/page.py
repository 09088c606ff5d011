"""Parts of self-contained HTML pages: text that cannot break out, figures, data for scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from morl.storage import json_bytes


def text(value: object) -> str:
    """Anything as text of a page."""
    return html.escape(str(value))


def script_json(data: Any) -> str:  # noqa: ANN401 - JSON
    """JSON that cannot end the script element it stands in."""
    content = json_bytes(data).decode("ascii")
    return content.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def figure(name: str, content: Any, drawn: dict[str, Any], label: str) -> str:  # noqa: ANN401 - plotly is untyped
    """The place of a figure.

    Args:
        name: of the element.
        content: figure of plotly.
        drawn: figures of the page by name; this one is added.
        label: what a reader hears who does not see.
    """
    drawn[name] = json.loads(content.to_json())
    return f'<figure><div id="{name}" role="img" aria-label="{text(label)}"></div></figure>'


def page(template: str, *, data: Mapping[str, Any], **parts: str) -> str:
    """A page with its style, its script and plotly in itself.

    Args:
        template: name of the file in ``templates``.
        data: for the script; "figures" are drawn.
        parts: of the template.
    """
    folder = resources.files("morl.experiments") / "templates"
    shared = {name: (folder / f"report.{name}").read_text("utf-8") for name in ("css", "js")}
    return Template((folder / template).read_text("utf-8")).substitute(
        style=shared["css"],
        script=shared["js"],
        plotly=get_plotlyjs(),
        data=script_json(data),
        **parts,
    )
