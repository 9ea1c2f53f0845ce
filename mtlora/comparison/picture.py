"""The Pareto picture of a comparison, as SVG: trained parameters against delta_m."""

import math
import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from mtlora.comparison.table import TITLES, Row
from mtlora.training.adapters.methods import Method

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 20, 50
_LINE = 20
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
    """Every row with a delta_m as a point, its range over seeds as a bar; the best so far from the left dashed."""
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
    for row in shown:
        parts += _point(row, (x(math.log10(row.trained)), y(statistics.fmean(row.deltas))), y)
    for place, method in enumerate(dict.fromkeys(row.method for row in shown)):
        parts += _method([row for row in shown if row.method is method], place, x, y)
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


def _point(row: Row, centre: tuple[float, float], y: _scale) -> list[str]:
    colour, (x, middle) = _COLOURS[row.method], centre
    parts = []
    if len(row.deltas) > 1:
        ends = f'y1="{y(min(row.deltas)):.1f}" y2="{y(max(row.deltas)):.1f}"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{colour}"/>')
    parts.append(f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="4.5" fill="{colour}"/>')
    return parts


def _method(rows: Sequence[Row], place: int, x: _scale, y: _scale) -> list[str]:
    """A line through the method's ranks, which stand from left to right, and its entry in the legend."""
    method = rows[0].method
    colour, height, left = _COLOURS[method], _TOP + _LINE * (place + 1), WIDTH - _RIGHT + 24
    points = " ".join(f"{x(math.log10(r.trained)):.1f},{y(statistics.fmean(r.deltas)):.1f}" for r in rows)
    ranks = ", ".join(str(row.rank) for row in rows if row.rank)
    title = f"{TITLES[method]}, r={ranks}" if ranks else TITLES[method]
    return [
        f'<polyline points="{points}" fill="none" stroke="{colour}"/>',
        f'<circle cx="{left}" cy="{height}" r="4.5" fill="{colour}"/>',
        _text(left + 12, height + 4, title, anchor="start", colour=colour),
    ]


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
