"""Drawings as SVG text: axes, lines, points. Equal numbers give equal bytes."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

COLOURS = 8
"""Number of colours in the style sheet, classes ``c0`` to ``c7``."""

WIDTH, HEIGHT = 480, 320
_DIGITS = 2  # of a coordinate; a hundredth of a pixel


def text_of(value: object) -> str:
    """Text that no reader takes for markup."""
    return html.escape(str(value), quote=True)


def shown(value: float, digits: int = 6) -> str:
    """A number for people: grouped thousands, powers of ten beyond a million."""
    if value == 0.0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-4:
        mantissa, _, power = f"{value:.{digits - 2}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(power)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def colour_class(index: int) -> str:
    """Class of the colour of a row."""
    return f"c{index % COLOURS}"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within an interval, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True)
class Scale:
    """Maps an interval of numbers to one of the drawing.

    Attributes:
        low: number at `start`.
        high: number at `stop`.
        start: coordinate.
        stop: coordinate.
    """

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The coordinate of a number."""
        if self.high == self.low:
            return (self.start + self.stop) / 2.0
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def padded(values: Sequence[float], share: float = 0.05) -> tuple[float, float]:
    """An interval with a margin that holds some numbers."""
    low, high = min(values), max(values)
    margin = share * (high - low) or abs(low) * share or 1.0
    return low - margin, high + margin


@dataclass
class Drawing:
    """An SVG drawing.

    Attributes:
        label: what it shows, for those who do not see it.
        width: of the view box.
        height: of the view box.
    """

    label: str
    width: float = WIDTH
    height: float = HEIGHT
    _parts: list[str] = field(default_factory=list)

    def add(self, part: str) -> None:
        """Add markup."""
        self._parts.append(part)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Add a straight line."""
        self.add(f'<path class="{css}" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"/>')

    def polyline(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Add a line through points."""
        if points:
            self.add(f'<path class="{css}" d="{_path(points)}"/>')

    def polygon(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Add a filled area."""
        if points:
            self.add(f'<path class="{css}" d="{_path(points)}Z"/>')

    def dot(self, x: float, y: float, css: str, *, radius: float = 3.5, title: str = "") -> None:
        """Add a point, with a hint for the mouse."""
        hint = f"<title>{text_of(title)}</title>" if title else ""
        self.add(
            f'<circle class="{css}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}">{hint}</circle>'
        )

    def text(self, x: float, y: float, content: object, css: str = "", anchor: str = "") -> None:
        """Add text; `anchor` is "middle" or "end"."""
        more = f' text-anchor="{anchor}"' if anchor else ""
        name = f' class="{css}"' if css else ""
        self.add(f'<text x="{_n(x)}" y="{_n(y)}"{name}{more}>{text_of(content)}</text>')

    def axes(
        self,
        across: Scale,
        up: Scale,
        *,
        across_title: str,
        up_title: str,
        grid: bool = True,
    ) -> None:
        """Add both axes with ticks and titles; the title of the upright one is above it."""
        for tick in nice_ticks(across.low, across.high):
            x = across(tick)
            if grid:
                self.line(x, up.start, x, up.stop, "grid")
            self.text(x, up.start + 16, shown(tick, 4), "tick", "middle")
        for tick in nice_ticks(up.low, up.high):
            y = up(tick)
            if grid:
                self.line(across.start, y, across.stop, y, "grid")
            self.text(across.start - 6, y + 4, shown(tick, 4), "tick", "end")
        self.line(across.start, up.start, across.stop, up.start, "axis")
        self.line(across.start, up.start, across.start, up.stop, "axis")
        self.text((across.start + across.stop) / 2, up.start + 36, across_title, "title", "middle")
        self.text(4, up.stop - 10, up_title, "title")

    def markup(self) -> str:
        """The drawing as text."""
        return (
            f'<svg viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{text_of(self.label)}">{"".join(self._parts)}</svg>'
        )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """A coordinate without needless digits."""
    text = f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
