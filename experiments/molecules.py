"""Drawings of molecules for pages: nothing but shapes, with the same bytes each time."""

from __future__ import annotations

import importlib
import re
from typing import Any
from xml.etree import ElementTree

from morl.experiments.page import text

WIDTH, HEIGHT = 220, 160
"""Pixels of a drawing."""

_SMILES = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$%:./\\*~]{1,400}")  # no space: labels come behind one

_SHAPES = {
    "rect": ("x", "y", "width", "height"),
    "path": ("d",),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "polygon": ("points",),
}
"""Elements that a drawing may have, with their own attributes."""

_INERT = re.compile(r"[\w#:;.,\s+-]*")  # no brackets and no quotes: nothing is called or fetched


class MoleculeArtist:
    """Draws molecules with RDKit.

    Raises:
        ImportError: RDKit is not installed.
    """

    def __init__(self) -> None:
        self._base: Any = importlib.import_module("rdkit.rdBase")
        self._chem: Any = importlib.import_module("rdkit.Chem")
        self._draw: Any = importlib.import_module("rdkit.Chem.Draw.rdMolDraw2D")

    def svg(self, smiles: str) -> str | None:
        """A molecule as an ``<svg>`` element, or None where this is no SMILES.

        Only shapes are taken over from RDKit's drawing, with colours and coordinates: whatever
        somebody wrote into a file of results, the element runs and fetches nothing.

        Args:
            smiles: structure of the molecule, at most 400 characters.
        """
        if _SMILES.fullmatch(smiles) is None:
            return None
        with self._base.BlockLogs():
            molecule = self._chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms():
            return None
        canvas = self._draw.MolDraw2DSVG(WIDTH, HEIGHT)
        self._draw.PrepareAndDrawMolecule(canvas, molecule)
        canvas.FinishDrawing()
        shapes = shapes_of(canvas.GetDrawingText())
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
            f'aria-label="{text(smiles)}">{shapes}</svg>'
        )


def shapes_of(drawing: str) -> str:
    """The shapes of an SVG document as elements of a page; all else is left out.

    Args:
        drawing: a document as RDKit writes it.
    """
    found = []
    for element in ElementTree.fromstring(drawing).iter():
        name = str(element.tag).rpartition("}")[2]
        if name not in _SHAPES:
            continue
        kept = "".join(
            f' {key}="{" ".join(value.split())}"'
            for key in (*_SHAPES[name], "style", "fill", "stroke")
            if (value := element.get(key)) is not None and _INERT.fullmatch(value)
        )
        found.append(f"<{name}{kept}/>")
    return "".join(found)
