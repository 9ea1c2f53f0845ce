"""The curves of a run as SVG: losses from metrics.csv, scores from validation.csv; needs no script and no font."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from mtlora.training.run.checkpoint import METRICS_FILE, VALIDATION_FILE
from mtlora.weights.atomic import write_atomically

CURVES_FILE = "curves.svg"

_WIDTH, _HEIGHT = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 56
_LINES = 8  # more in one chart cannot be told apart
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2")
_BESIDE = {"step", "lr", "seconds_per_step", "gradient_norm"}

Points = list[tuple[float, float]]


class Chart(NamedTuple):
    """One chart: a title and named curves of (step, value)."""

    title: str
    curves: Mapping[str, Points]


def save_curves(folder: Path) -> None:
    """Write curves.svg from the tables in the folder of a run."""
    text = curves_svg(charts_of(folder))
    write_atomically(folder / CURVES_FILE, lambda file: file.write(text.encode()))


def charts_of(folder: Path) -> list[Chart]:
    """Losses, the learning rate, and for each task the scores of the looks; a table that is missing has no chart."""
    charts = []
    metrics = _columns(folder / METRICS_FILE)
    losses = {name: points for name, points in metrics.items() if name not in _BESIDE}
    if len(losses) == 2:  # the only task's loss is the whole loss
        losses.pop("loss", None)
    if losses:
        charts.append(Chart("losses", _few(losses)))
    if "lr" in metrics:
        charts.append(Chart("learning rate", {"lr": metrics["lr"]}))
    scores: dict[str, dict[str, Points]] = {}
    for name, points in _columns(folder / VALIDATION_FILE).items():
        task, _, score = name.partition("/")
        if score:
            scores.setdefault(task, {})[score] = points
    return charts + [Chart(f"{task}, validation", _few(curves)) for task, curves in scores.items()]


def _few(curves: Mapping[str, Points]) -> dict[str, Points]:
    return dict(list(curves.items())[:_LINES])


def _columns(path: Path) -> dict[str, Points]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, Points] = {}
    for row in rows:
        for name, text in row.items():
            if name != "step" and (value := _number(text)) is not None and (step := _number(row["step"])) is not None:
                found.setdefault(name, []).append((step, value))
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def curves_svg(charts: Sequence[Chart]) -> str:
    """Charts in rows of two."""
    columns = min(2, max(1, len(charts)))
    width, height = _WIDTH * columns, _HEIGHT * max(1, math.ceil(len(charts) / columns))
    parts = [f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for place, chart in enumerate(charts):
        x, y = place % columns * _WIDTH, place // columns * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_chart(chart), "</g>"]
    if not charts:
        parts.append(_text(_WIDTH / 2, _HEIGHT / 2, "no steps yet", "middle"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="11">', *parts, "</svg>"]) + "\n"


def _chart(chart: Chart) -> list[str]:
    points = [point for curve in chart.curves.values() for point in curve]
    x0, x1 = _range([x for x, _ in points], 0.0)
    y0, y1 = _range([y for _, y in points], 0.04)

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, 18, chart.title, size=13)]
    for value in _ticks(y0, y1):
        (_, y), (left, right) = place(x0, value), (_LEFT, _WIDTH - _RIGHT)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.4g}", "end"))
    bottom = _HEIGHT - _BOTTOM + 16
    parts += [_text(place(value, y0)[0], bottom, f"{value:g}", "middle") for value in _ticks(x0, x1)]
    for number, (name, curve) in enumerate(chart.curves.items()):
        parts += _curve([place(*point) for point in curve], name, number)
    return parts


def _curve(points: Points, name: str, number: int) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    if len(points) <= 12:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
    x, y = _LEFT + number % 4 * 96, _HEIGHT - 22 + number // 4 * 14
    parts.append(f'<path d="M{x} {y - 4}h12" stroke="{colour}" stroke-width="3"/>')
    parts.append(_text(x + 16, y, name if len(name) <= 13 else f"{name[:12]}…"))
    return parts


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within, three to seven of them."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
