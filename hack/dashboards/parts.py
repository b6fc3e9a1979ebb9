"""What all dashboards share: their frame, a panel with its queries, units, links, the variables.

The rules of grafana/dashboard-linter hold for every panel made here: a title, a description, a unit, the data source as
a variable, `$__rate_interval` in every rate; tests/unit/alerting/test_dashboards.py checks them.
"""

from __future__ import annotations

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
        .legend(
            common.VizLegendOptions()
            .display_mode(cm.LegendDisplayMode.TABLE)
            .placement(cm.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(cm.StackingMode.NORMAL)).fill_opacity(40)
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(query(expression, legend).ref_id(chr(ord("A") + number)))
    return panel


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


def heat(title: str, description: str, expression: str, legend: str, *, unit: str) -> statushistory.Panel:
    """A row for each series, its cells the redder the higher the value."""
    return (
        statushistory.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .decimals(2)
        .min(0)
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
    title: str, description: str, expression: str, *, unit: str = "short", warn: float | None = None, span: int = 4
) -> stats.Panel:
    """One number, red from `warn` on."""
    steps = [dm.Threshold(value=None, color="green")]
    if warn is not None:
        steps.append(dm.Threshold(value=warn, color="red"))
    thresholds = d.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(steps)
    return (
        stats.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(4)
        .thresholds(thresholds)
        .with_target(query(expression, "").instant().ref_id("A"))
    )


def listing(title: str, description: str, *queries: Query, span: int = 24) -> tables.Panel:
    """A table, one row per service, one column per query; each row leads to the page of its service."""
    names = {f"Value #{chr(ord('A') + at)}": legend for at, (_, legend) in enumerate(queries)}
    names |= {c.SERVICE_NAMESPACE: "Namespace", c.SERVICE: "Service"}
    organized = {"excludeByName": {"Time": True}, "renameByName": names}
    chosen = "var-namespace=${__data.fields.Namespace}&var-service=${__data.fields.Service}"
    link = {"title": "Open this service", "url": f"/d/{UIDS['service']}?{chosen}"}
    panel = (
        tables.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("short")
        .span(span)
        .height(9)
        .with_transformation(dm.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(dm.DataTransformerConfig(id_val="organize", options=organized))
        .override_by_name("Service", [dm.DynamicConfigValue(id_val="links", value=[link])])
    )
    for at, (expression, _) in enumerate(queries):
        target = query(expression, "").instant().format(pm.PromQueryFormat.TABLE).ref_id(chr(ord("A") + at))
        panel = panel.with_target(target)
    return panel
