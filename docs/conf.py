"""Sphinx settings of the documentation; build it with `make docs`."""

project = "morl-suite"
author = "The morl-suite authors"
project_copyright = "2026, the morl-suite authors"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "morl-suite"

# GitHub's anchors for headings, so that a link works there and on the site.
myst_heading_anchors = 3
nitpicky = True
