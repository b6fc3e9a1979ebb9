"""What all dashboards share: their frame, a panel with its queries, units, links, the variables.

The rules of grafana/dashboard-linter hold for every panel made here: a title, a description, a unit, the data source as
a variable, `$__rate_interval` in every rate; tests/unit/alerting/test_dashboards.py checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, statushistory, timeseries
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import prometheus as p
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as dm
from grafana_foundation_sdk.models import prometheus as pm

from nereus.alerting import conventions as c

SOURCE = dm.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "$__rate_interval"
OURS = f'{c.SERVICE_NAMESPACE}=~"$namespace",{c.SERVICE}=~"$service"'
"""Matchers of series that the operator exports."""
PODS = f'{c.NAMESPACE}=~"$namespace",{c.POD_SERVICE}=~"$service"'
"""Matchers of series that pods export."""
UIDS = {"fleet": "nereus-fleet", "service": "nereus-service", "operator": "nereus-operator"}

Panel = timeseries.Panel | stats.Panel | statushistory.Panel | tables.Panel
Query = tuple[str, str]
"""Expression and legend."""


def frame(name: str, title: str, description: str) -> d.Dashboard:
    """An empty dashboard with the data source as a variable and links to its siblings."""
    board = (
        d.Dashboard(title)
        .uid(UIDS[name])
        .description(description)
        .tags(["nereus", "triton"])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dm.DashboardCursorSync.CROSSHAIR)
        .with_variable(d.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for other, uid in UIDS.items():
        if other != name:
            link = d.DashboardLink(f"Nereus / {other.capitalize()}").type(dm.DashboardLinkType.LINK)
            board.link(link.url(f"/d/{uid}").include_vars(True).keep_time(True))
    return board


def variable(name: str, label: str, query: str, *, multi: bool) -> d.QueryVariable:
    """A variable whose values Prometheus knows."""
    made = (
        d.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(dm.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dm.VariableSort.ALPHABETICAL_ASC)
        .multi(multi)
        .include_all(multi)
    )
    return made.all_value(".*") if multi else made


def services(board: d.Dashboard, *, multi: bool) -> d.Dashboard:
    """The variables that choose services."""
    named = variable("namespace", "Namespace", f"label_values({c.PODS_WANTED}, {c.SERVICE_NAMESPACE})", multi=multi)
    values = f'label_values({c.PODS_WANTED}{{{c.SERVICE_NAMESPACE}=~"$namespace"}}, {c.SERVICE})'
    return board.with_variable(named).with_variable(variable("service", "Service", values, multi=multi))


def query(expression: str, legend: str) -> p.Dataquery:
    return p.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend).range()


def lines(
    title: str, description: str, *queries: Query, unit: str, span: int = 12, stacked: bool = False, low: float = 0
) -> timeseries.Panel:
    """Curves over time; the legend shows what matters as numbers."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(low)
        .span(span)
        .height(8)
        .fill_opacity(10)
        .show_points(cm.VisibilityMode.NEVER)
        .legend(_legend(ranked=any("{{" in name for _, name in queries)))
        .tooltip(common.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(cm.StackingMode.NORMAL)).fill_opacity(40)
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(query(expression, legend).ref_id(chr(ord("A") + number)))
    return panel


def _legend(*, ranked: bool) -> common.VizLegendOptions:
    """Last value and maximum of each curve; `ranked`: the largest first, where the names are not ours to order."""
    made = (
        common.VizLegendOptions()
        .display_mode(cm.LegendDisplayMode.TABLE)
        .placement(cm.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    return made.sort_by("Last *").sort_desc(True) if ranked else made


def largest(count: int, expression: Callable[[str], str]) -> str:
    """The curves of those that have the largest values at the end of what is shown, so that a fleet of thousands stays
    readable. The expression is given what follows each of its selectors. A plain topk chooses anew at each moment and
    draws pieces of curves."""
    return f"{expression('')} and topk({count}, {expression(' @ end()')})"


def limit_line(panel: timeseries.Panel, legend: str) -> timeseries.Panel:
    """Draws the series of this name as a dashed red line: a limit, not a measurement."""
    return panel.override_by_name(
        legend,
        [
            dm.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "red"}),
            dm.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
            dm.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        ],
    )


def band(panel: timeseries.Panel, *, low: str, high: str) -> timeseries.Panel:
    """Fills the room between the series of these two names: what is expected lies within."""
    return panel.override_by_name(
        high, [dm.DynamicConfigValue(id_val="custom.fillBelowTo", value=low)]
    ).override_by_name(low, [dm.DynamicConfigValue(id_val="custom.fillOpacity", value=0)])


def heat(title: str, description: str, expression: str, legend: str, *, unit: str, full: float) -> statushistory.Panel:
    """A row for each series, its cells the redder the higher the value; red from `full` on. Without a fixed end of the
    scale the busiest would be red however little it does."""
    return (
        statushistory.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .decimals(0)
        .min(0)
        .max(full)
        .span(24)
        .height(9)
        .show_value(cm.VisibilityMode.NEVER)
        .color_scheme(d.FieldColor().mode(dm.FieldColorModeId.CONTINUOUS_GR_YL_RD))
        .with_target(query(expression, legend).ref_id("A"))
    )


def optional(title: str, *panels: Panel) -> d.Row:
    """A closed row for what only some services have: an open panel without data would look like trouble."""
    row = d.Row(title).collapsed(True)
    for panel in panels:
        row = row.with_panel(panel)
    return row


def number(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "short",
    warn: float | None = None,
    legend: str = "",
    answer: bool = False,
) -> stats.Panel:
    """One number, red from `warn` on. With a legend that stands there instead; `answer` says no for 0 and yes for 1."""
    steps = [dm.Threshold(value=None, color="green")]
    if warn is not None:
        steps.append(dm.Threshold(value=warn, color="red"))
    thresholds = d.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(steps)
    panel = (
        stats.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(thresholds)
        .text_mode(cm.BigValueTextMode.NAME if legend else cm.BigValueTextMode.AUTO)
        .with_target(query(expression, legend).instant().ref_id("A"))
    )
    return panel.mappings([NO_OR_YES]) if answer else panel


NO_OR_YES = dm.ValueMap(
    options={"0": dm.ValueMappingResult(text="no"), "1": dm.ValueMappingResult(text="yes", color="red")}
)


@dataclass(frozen=True)
class Column:
    """A column of a table: one instant query. `label` shows the text of this label instead of the value."""

    name: str
    expression: str
    unit: str = "short"
    answer: bool = False
    warn: float | None = None
    label: str = ""


def listing(title: str, description: str, *columns: Column, first: str) -> tables.Panel:
    """A table, one row per service; each row leads to the page of its service. `first`: the column to sort by,
    largest first."""
    values = {f"Value #{chr(ord('A') + at)}": column for at, column in enumerate(columns)}
    names = {c.SERVICE_NAMESPACE: "Namespace", c.SERVICE: "Service"}
    names |= {column.label or value: column.name for value, column in values.items()}
    hidden = {"Time": True} | {value: True for value, column in values.items() if column.label}
    order = {name: at for at, name in enumerate(names)}
    organized = {"excludeByName": hidden, "indexByName": order, "renameByName": names}
    chosen = "var-namespace=${__data.fields.Namespace}&var-service=${__data.fields.Service}"
    link = {"title": "Open this service", "url": f"/d/{UIDS['service']}?{chosen}"}
    panel = (
        tables.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("short")
        .span(24)
        .height(9)
        .sort_by([common.TableSortByFieldState().display_name(first).desc(True)])
        .with_transformation(dm.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(dm.DataTransformerConfig(id_val="organize", options=organized))
        .override_by_name("Service", [dm.DynamicConfigValue(id_val="links", value=[link])])
    )
    for at, column in enumerate(columns):
        target = query(column.expression, "").instant().format(pm.PromQueryFormat.TABLE).ref_id(chr(ord("A") + at))
        panel = panel.with_target(target)
        if shown := _shown(column):
            panel = panel.override_by_name(column.name, shown)
    return panel


def _shown(column: Column) -> list[dm.DynamicConfigValue]:
    """How the cells of a column look where they do not look as all others."""
    found = []
    if column.unit != "short":
        found.append(dm.DynamicConfigValue(id_val="unit", value=column.unit))
    if column.answer:
        found.append(dm.DynamicConfigValue(id_val="mappings", value=[NO_OR_YES]))
    if column.warn is not None:
        steps = [{"color": "text", "value": None}, {"color": "red", "value": column.warn}]
        found.append(dm.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}))
    if column.answer or column.warn is not None:
        found.append(dm.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    return found
