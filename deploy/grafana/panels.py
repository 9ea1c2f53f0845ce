"""The vocabulary of the dashboards: panels and PromQL as plain values. `generate.py` makes Grafana's JSON of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Filled in by Grafana: the two variables at the top of each dashboard, and a window of at least four scrapes.
CHOSEN = 'job="$job", instance=~"$instance"'
JOB = 'job="$job"'
WINDOW = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: expressions by the name of their lines. A row has 24 columns; from `warn_at` on it is red."""

    title: str
    unit: str
    queries: Mapping[str, str]
    description: str = ""
    kind: Literal["lines", "stacked", "stat", "heatmap"] = "lines"
    width: int = 8
    warn_at: float | None = None

    @property
    def height(self) -> int:
        """In Grafana's grid units of 30 px."""
        return 4 if self.kind == "stat" else 8


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: rows of panels under headings."""

    uid: str
    title: str
    description: str
    rows: Mapping[str, tuple[Panel, ...]]


def stat(title: str, unit: str, expr: str, description: str, warn_at: float | None = None) -> Panel:
    """One number, six to a row."""
    return Panel(title, unit, {"": expr}, description, "stat", 4, warn_at)


def stacked(title: str, unit: str, queries: Mapping[str, str], description: str, width: int = 8) -> Panel:
    """Areas that add up."""
    return Panel(title, unit, queries, description, "stacked", width)


def series(metric: str, more: str = "") -> str:
    """A metric of the instances chosen."""
    return f"{metric}{{{', '.join(part for part in (CHOSEN, more) if part)}}}"


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Per-second rate of a counter, summed over the instances chosen."""
    return f"sum{f' by ({by})' if by else ''} (rate({series(metric, more)}[{WINDOW}]))"


def quantile(q: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram, over the instances chosen."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le')})"


def mean(metric: str) -> str:
    """Mean observation of a histogram."""
    return f"{rate(f'{metric}_sum')} / ({rate(f'{metric}_count')} > 0)"
