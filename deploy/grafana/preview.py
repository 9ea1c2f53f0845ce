"""Draw the dashboards as pictures with data of a running Prometheus, for docs/images. Grafana has widgets of its own.

    python -m deploy.grafana.preview --prometheus http://127.0.0.1:9090 --minutes 15 --out docs/images

Needs matplotlib (pip install matplotlib). The layout, titles, units and queries are those of the dashboards' JSON.
"""

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.dates as mdates
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

FOLDER = Path(__file__).with_name("dashboards")
SERIES = ("#2f6fb5", "#d9822b", "#3a9a6b", "#b5485d", "#7a62b8", "#7d6b57", "#4aa3b8", "#9a9a2f")
COLUMN_IN, ROW_IN = 0.62, 0.30  # one unit of Grafana's grid
STEPS = 120


def answer(url: str, path: str, **fields: str) -> list[dict[str, Any]]:
    """Result of a query to Prometheus."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(fields)}", timeout=30) as reply:
        return list(json.load(reply)["data"]["result"])


def filled_in(expr: str, minutes: float) -> str:
    """The query as Grafana would send it, for all instances; rates over a fifteenth of the time that is drawn."""
    window = f"{max(5, round(60 * minutes / 15))}s"
    return expr.replace("$job", "mtlora").replace("$instance", ".+").replace("$__rate_interval", window)


def human(value: float, unit: str) -> str:
    """A value with its unit, short."""
    if not math.isfinite(value):
        return "no data"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s" and value < 1:
        return f"{value * 1000:.0f} ms"
    if unit == "bytes":
        power = min(int(math.log(max(value, 1), 1024)), 3)
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    return f"{value:.3g}{ {'s': ' s', 'reqps': '/s', 'ops': '/s'}.get(unit, '') }"


def label(legend: str, labels: dict[str, str]) -> str:
    """Grafana's legend format, filled in."""
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


class Picture:
    """One dashboard."""

    def __init__(self, dashboard: dict[str, Any], url: str, minutes: float) -> None:
        self._dashboard = dashboard
        self._url = url
        self._end = time.time()
        self._start = self._end - 60 * minutes
        self._minutes = minutes

    def save(self, path: Path) -> None:
        """Draw all panels where the JSON places them."""
        panels = self._dashboard["panels"]
        rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
        figure = plt.figure(figsize=(24 * COLUMN_IN, rows * ROW_IN + 0.5), facecolor="#f4f5f5")
        figure.text(0.008, 1 - 0.3 / (rows * ROW_IN + 0.5), self._dashboard["title"], fontsize=14, weight="bold")
        scale = rows * ROW_IN / (rows * ROW_IN + 0.5) / rows
        for panel in panels:
            place = panel["gridPos"]
            bottom = (rows - place["y"] - place["h"]) * scale
            box = (place["x"] / 24, bottom, place["w"] / 24, place["h"] * scale)
            if panel["type"] == "row":
                figure.text(0.008, bottom + scale * 0.25, panel["title"], fontsize=11, weight="bold", color="#444")
            else:
                self._panel(figure, panel, box, scale)
        figure.savefig(path, dpi=80)
        plt.close(figure)

    def _panel(self, figure: Any, panel: dict[str, Any], box: tuple[float, float, float, float], scale: float) -> None:
        x, y, width, height = box
        frame = figure.add_axes((x + 0.002, y + scale * 0.1, width - 0.004, height - scale * 0.2), facecolor="white")
        frame.set_xticks([])
        frame.set_yticks([])
        for side in frame.spines.values():
            side.set_color("#d5d8dc")
        figure.text(x + 0.006, y + height - scale * 0.95, panel["title"], fontsize=9)
        if panel["type"] == "stat":
            self._stat(figure, panel, (x + width / 2, y + height * 0.42))
            return
        inner = (x + 0.034, y + scale * 1.9, width - 0.042, height - scale * 3.2)
        axes = figure.add_axes(inner, facecolor="white")
        (self._heatmap if panel["type"] == "heatmap" else self._lines)(axes, panel)
        axes.set_xlim(self._start / 86400, self._end / 86400)
        axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
        axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=5))
        axes.tick_params(labelsize=7, length=2, colors="#555")
        for name, side in axes.spines.items():
            side.set_visible(name == "bottom")

    def _stat(self, figure: Any, panel: dict[str, Any], middle: tuple[float, float]) -> None:
        found = answer(self._url, "query", query=filled_in(panel["targets"][0]["expr"], self._minutes))
        value = float(found[0]["value"][1]) if found else math.nan
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        coloured = panel["options"].get("colorMode") == "value"
        red = coloured and any(step.get("value") is not None and value >= step["value"] for step in steps)
        colour = "#c4314b" if red else "#2c8f56" if coloured else "#333"
        text = human(value, panel["fieldConfig"]["defaults"].get("unit", ""))
        figure.text(*middle, text, fontsize=20, ha="center", va="center", color=colour)

    def _range(self, expr: str) -> list[dict[str, Any]]:
        step = (self._end - self._start) / STEPS
        fields = {"start": str(self._start), "end": str(self._end), "step": str(step)}
        return answer(self._url, "query_range", query=filled_in(expr, self._minutes), **fields)

    def _lines(self, axes: Any, panel: dict[str, Any]) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        lines = [
            (label(target["legendFormat"], found["metric"]), found["values"])
            for target in panel["targets"]
            for found in self._range(target["expr"])
        ]
        stack = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
        below: dict[float, float] = {}
        for number, (name, values) in enumerate(lines):
            colour = SERIES[number % len(SERIES)]
            points = [(at, float(text)) for at, text in values if math.isfinite(float(text))]
            base = [below.get(at, 0.0) if stack else 0.0 for at, _ in points]
            top = [b + value for b, (_, value) in zip(base, points, strict=True)]
            below.update({at: t for (at, _), t in zip(points, top, strict=True)})
            when = [at / 86400 for at, _ in points]
            axes.plot(when, top, color=colour, linewidth=1, label=name)
            if stack:
                axes.fill_between(when, base, top, color=colour, alpha=0.3, linewidth=0)
        for step in defaults.get("thresholds", {}).get("steps", []):
            if step.get("value") is not None:
                axes.axhline(step["value"], color="#c4314b", linewidth=0.8, linestyle="--")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, defaults.get("unit", ""))))
        axes.grid(axis="y", color="#e8eaec", linewidth=0.6)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, fontsize=7, frameon=False, handlelength=1)

    def _heatmap(self, axes: Any, panel: dict[str, Any]) -> None:
        found = self._range(panel["targets"][0]["expr"])
        bounds = sorted((float(series["metric"]["le"]), series["values"]) for series in found)
        times = sorted({at for _, values in bounds for at, _ in values})
        cumulative = [[float(dict(values).get(at, 0)) for at in times] for _, values in bounds]
        counts = [
            [max(0.0, here - (cumulative[row - 1][column] if row else 0.0)) for column, here in enumerate(line)]
            for row, line in enumerate(cumulative)
        ]
        axes.imshow(
            counts,
            origin="lower",
            aspect="auto",
            cmap="Blues",
            extent=(times[0] / 86400, times[-1] / 86400, 0, len(counts)),
        )
        axes.set_yticks([n + 0.5 for n in range(0, len(bounds), 3)], [human(le, "s") for le, _ in bounds[::3]])


def main() -> None:
    """Draw every dashboard."""
    arguments = argparse.ArgumentParser(description="Draw the dashboards with data of a running Prometheus.")
    arguments.add_argument("--prometheus", default="http://127.0.0.1:9090")
    arguments.add_argument("--minutes", type=float, default=15)
    arguments.add_argument("--out", type=Path, default=Path("docs/images"))
    given = arguments.parse_args()
    for source in sorted(FOLDER.glob("*.json")):
        picture = Picture(json.loads(source.read_text()), given.prometheus, given.minutes)
        picture.save(given.out / f"dashboard-{source.stem}.png")


if __name__ == "__main__":
    main()
