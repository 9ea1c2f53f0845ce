"""The Pareto picture of a comparison, as SVG: trained parameters against delta_m."""

import math
import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from mtlora.comparison.table import Row
from mtlora.training.methods import Method

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 20, 50
_LINE, _LETTER, _LABEL_GAP = 14, 7, 10
_COLOURS = {
    Method.SINGLE: "#7f7f7f",
    Method.DECODERS: "#8c564b",
    Method.FULL: "#222222",
    Method.BITFIT: "#9467bd",
    Method.LORA: "#1f77b4",
    Method.MTLORA: "#d62728",
    Method.MTLORA_PLUS: "#ff7f0e",
}


def pareto_svg(rows: Sequence[Row]) -> str:
    """Every row with a delta_m as a point, its range over seeds as a bar; the best so far from the left as a line."""
    shown = [row for row in rows if row.deltas]
    if not shown:
        return _document([_text(WIDTH / 2, HEIGHT / 2, "no single-task runs to compare with")])
    low, high = min(min(r.deltas) for r in shown), max(max(r.deltas) for r in shown)
    margin = max(1.0, 0.1 * (high - low))
    x = _scale(math.log10(min(r.trained for r in shown) / 1.3), math.log10(max(r.trained for r in shown) * 1.3), True)
    y = _scale(low - margin, high + margin, False)
    parts = [*_axes(x, y, low - margin, high + margin, shown)]
    best = -math.inf
    front = []
    for row in sorted(shown, key=lambda r: r.trained):
        value = statistics.fmean(row.deltas)
        if value > best:
            best = value
            front.append(f"{x(math.log10(row.trained)):.1f},{y(value):.1f}")
    parts.append(f'<polyline points="{" ".join(front)}" fill="none" stroke="#bbbbbb" stroke-dasharray="4 3"/>')
    centres = [(x(math.log10(row.trained)), y(statistics.fmean(row.deltas))) for row in shown]
    heights = label_heights(centres, [row.title for row in shown])
    for row, centre, height in zip(shown, centres, heights, strict=True):
        parts += _point(row, centre, height, y)
    return _document(parts)


class _scale:  # noqa: N801 (a function with two numbers)
    """From a value to a position in the picture."""

    def __init__(self, low: float, high: float, horizontal: bool) -> None:
        self._low, self._span, self._horizontal = low, (high - low) or 1.0, horizontal

    def __call__(self, value: float) -> float:
        share = (value - self._low) / self._span
        if self._horizontal:
            return _LEFT + share * (WIDTH - _LEFT - _RIGHT)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axes(x: _scale, y: _scale, low: float, high: float, rows: Sequence[Row]) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [f'<path d="M{_LEFT},{_TOP}V{bottom}H{right}" fill="none" stroke="#333"/>']
    step = _nice((high - low) / 6)
    tick = math.ceil(low / step) * step
    while tick <= high:
        parts.append(f'<line x1="{_LEFT - 4}" x2="{_LEFT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#333"/>')
        parts.append(_text(_LEFT - 8, y(tick) + 4, f"{tick:+g}", anchor="end"))
        tick = round(tick + step, 9)
    for power in range(4, 10):
        for digit in (1, 2, 5):
            value = digit * 10**power
            if min(r.trained for r in rows) / 1.3 <= value <= max(r.trained for r in rows) * 1.3:
                position = x(math.log10(value))
                parts.append(
                    f'<line x1="{position:.1f}" x2="{position:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#333"/>'
                )
                parts.append(_text(position, bottom + 18, f"{value / 1e6:g}"))
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 10, "trained parameters, millions (logarithmic)"))
    middle = (_TOP + bottom) / 2
    parts.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">Δm, %</text>')
    return parts


def label_heights(centres: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[float]:
    """Where labels right of their points go so that none covers another: as high as the point, or below."""
    taken: list[tuple[float, float, float]] = []  # left, right, height
    heights = [0.0] * len(centres)
    for index in sorted(range(len(centres)), key=lambda i: (centres[i][1], -centres[i][0])):
        left, height = centres[index]
        right = left + _LABEL_GAP + _LETTER * len(labels[index])
        while any(a < right and left < b and abs(height - at) < _LINE for a, b, at in taken):
            height += 1
        taken.append((left, right, height))
        heights[index] = height
    return heights


def _point(row: Row, centre: tuple[float, float], height: float, y: _scale) -> list[str]:
    colour, (x, middle) = _COLOURS[row.method], centre
    parts = []
    if len(row.deltas) > 1:
        ends = f'y1="{y(min(row.deltas)):.1f}" y2="{y(max(row.deltas)):.1f}"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{colour}"/>')
    parts.append(f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="4.5" fill="{colour}"/>')
    if height - middle > _LINE / 2:
        ends = f'x1="{x:.1f}" y1="{middle:.1f}" x2="{x + _LABEL_GAP - 2:.1f}" y2="{height:.1f}"'
        parts.append(f'<line {ends} stroke="{colour}" stroke-width="0.7"/>')
    parts.append(_text(x + _LABEL_GAP, height + 4, row.title, anchor="start", colour=colour))
    return parts


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _document(parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12"'
    body = "\n".join(["<title>Trained parameters against delta m</title>", *parts])
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{ground}\n{body}\n</svg>\n'
