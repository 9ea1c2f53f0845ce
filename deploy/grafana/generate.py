"""Write deploy/grafana/dashboards/*.json: `python -m deploy.grafana.generate`."""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana import adapter_sets, service_overview
from deploy.grafana.panels import Board, Panel

FOLDER = Path(__file__).with_name("dashboards")
BOARDS = {"service-overview": service_overview.BOARD, "adapter-sets": adapter_sets.BOARD}
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")


def build(board: Board) -> str:
    """Grafana's JSON of a dashboard."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["mtlora"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(_variable("job", "label_values(mtlora_ready, job)", several=False))
        .with_variable(_variable("instance", 'label_values(mtlora_ready{job="$job"}, instance)', several=True))
    )
    y = 0
    for heading, panels in board.rows.items():
        made = made.with_row(dashboard.Row(heading).grid_pos(GridPos(h=1, w=24, x=0, y=y)))
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > 24:
                x, y = 0, y + panel.height
            made = made.with_panel(_panel(panel, x, y))
            x += panel.width
        y += panels[-1].height
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _variable(name: str, query: str, *, several: bool) -> dashboard.QueryVariable:
    made = dashboard.QueryVariable(name).query(query).datasource(SOURCE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.multi(True).include_all(True).all_value(".+") if several else made


def _panel(panel: Panel, x: int, y: int) -> Any:
    made = {"stat": _stat, "heatmap": _heatmap}.get(panel.kind, _lines)(panel)
    made = made.title(panel.title).description(panel.description).datasource(SOURCE)
    made = made.grid_pos(GridPos(h=panel.height, w=panel.width, x=x, y=y))
    for number, (legend, expr) in enumerate(panel.queries.items()):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id("ABCDEF"[number])
        if panel.kind == "heatmap":
            target = target.format(PromQueryFormat.HEATMAP)
        made = made.with_target(target)
    return made


def _stat(panel: Panel) -> Any:
    mode = BigValueColorMode.VALUE if panel.warn_at is not None else BigValueColorMode.NONE
    return stat.Panel().unit(panel.unit).color_mode(mode).thresholds(_thresholds(panel.warn_at))


def _heatmap(panel: Panel) -> Any:
    return heatmap.Panel().calculate(False).cell_gap(1).y_axis(heatmap.YAxisConfig().unit(panel.unit))


def _lines(panel: Panel) -> Any:
    made = (
        timeseries.Panel()
        .unit(panel.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if panel.kind == "stacked" else 0)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(_legend())
    )
    if panel.kind == "stacked":
        made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if panel.warn_at is not None:
        made = made.thresholds(_thresholds(panel.warn_at)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
        )
    return made


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _thresholds(warn_at: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if warn_at is not None:
        steps.append(Threshold(value=warn_at, color="red"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(build(board))
