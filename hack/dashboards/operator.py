"""*Operator*: does Nereus itself work: its queue, its looks, its requests to the API server."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as dm

from hack.dashboards.parts import RATE, frame, lines, number
from nereus.alerting import conventions as c

OWN = "nereus_operator"


def quantile(share: float, histogram: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({OWN}_{histogram}_bucket[{RATE}])))"


def dashboard() -> dm.Dashboard:
    board = frame("operator", "Nereus / Operator", "Whether the operator itself works.")
    board.with_row(d.Row("Now"))
    for figure in (
        number("Leaders", "Replicas that hold the lease: one.", f"sum({c.LEADER})"),
        number("Replicas", "Replicas that are scraped.", f"count({c.LEADER})"),
        number("Services", "ModelServices that it knows.", f'max({OWN}_objects{{kind="ModelService"}})'),
        number("Queue", "Services that wait to be looked at.", f"max({OWN}_queue_depth)", warn=1000),
        number("Oldest in the queue", "How long the first waits.", f"max({c.QUEUE_OLDEST})", unit="s", warn=60),
        number("Loop lag", "How late the event loop woke.", f"max({OWN}_loop_lag_seconds)", unit="s", warn=1),
    ):
        board.with_panel(figure)
    board.with_row(d.Row("Work"))
    for panel in (
        lines(
            "Looks at services",
            "By outcome.",
            (f"sum by (outcome) (rate({OWN}_reconcile_seconds_count[{RATE}]))", "{{outcome}}"),
            unit="ops",
            stacked=True,
        ),
        lines(
            "Time of a look",
            "95th percentile, by outcome.",
            (quantile(0.95, "reconcile_seconds", "outcome"), "{{outcome}}"),
            unit="s",
        ),
        lines(
            "Services by reason",
            "What the services say of themselves.",
            (f"max by (reason) ({OWN}_services)", "{{reason}}"),
            unit="short",
            stacked=True,
        ),
        lines("Objects", "Objects that are watched.", (f"max by (kind) ({OWN}_objects)", "{{kind}}"), unit="short"),
    ):
        board.with_panel(panel)
    board.with_row(d.Row("API server"))
    for panel in (
        lines(
            "Requests",
            "To the API server.",
            (f"sum by (verb, kind) (rate({OWN}_api_request_seconds_count[{RATE}]))", "{{verb}} {{kind}}"),
            unit="reqps",
        ),
        lines(
            "Time of requests",
            "95th percentile.",
            (quantile(0.95, "api_request_seconds", "verb"), "{{verb}}"),
            unit="s",
        ),
        lines(
            "Objects written",
            "By verb and kind; nothing while nothing changes.",
            (f"sum by (verb, kind) (rate({OWN}_writes_total[{RATE}]))", "{{verb}} {{kind}}"),
            unit="wps",
        ),
        lines(
            "Age of the watches",
            "Since each watch showed anything; it is listed again before it grows old.",
            (f"max by (kind) ({OWN}_watch_age_seconds)", "{{kind}}"),
            unit="s",
        ),
    ):
        board.with_panel(panel)
    return board.build()
