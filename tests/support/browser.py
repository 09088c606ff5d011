"""A page in headless Chromium: run a script in it, and hear what it says and what went wrong."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

_EARLY = """\
window.problems = [];
const note = (what) => problems.push(String(what));
addEventListener("error", (event) => note(event.message || event.target.src), true);
addEventListener("securitypolicyviolation", (event) => note(`policy: ${event.blockedURI}`));
"""
_LATE = """\
addEventListener("load", () => {
  const answer = (() => { %s })();
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify({ answer, problems });
  document.body.append(pre);
});
"""


def probe(site: Path, page: str, script: str, *, size: str = "1240,1600") -> Any:
    """Load a page of a site from its file and run the body of a function in it.

    Args:
        site: folder of the pages; two scripts are added to it.
        page: relative to the folder.
        script: may return anything that JSON knows.
        size: of the window.

    Returns:
        What the script returned.
    """
    assert CHROMIUM is not None
    (site / "assets" / "early.js").write_text(_EARLY)
    (site / "assets" / "late.js").write_text(_LATE % script)
    up = "../" * page.count("/")
    text = (site / page).read_text("utf-8")
    text = text.replace("<head>", f'<head><script src="{up}assets/early.js"></script>', 1)
    text = text.replace("</head>", f'<script src="{up}assets/late.js" defer></script></head>', 1)
    probed = (site / page).with_name("probe.html")
    probed.write_text(text, "utf-8")
    done = subprocess.run(
        [
            CHROMIUM, *_FLAGS, f"--user-data-dir={site.parent / 'profile'}",
            f"--window-size={size}", "--virtual-time-budget=10000", "--dump-dom", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    heard = json.loads(html.unescape(found[1]))
    assert heard["problems"] == []
    return heard["answer"]
