"""*Fleet*: who needs me now? Services in trouble first, then every service by load, latency and pods."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as dm

from hack.dashboards.parts import (
    OURS,
    PODS,
    RATE,
    Column,
    frame,
    heat,
    largest,
    limit_line,
    lines,
    listing,
    number,
    services,
)
from nereus.alerting import conventions as c

BY = f"{c.SERVICE_NAMESPACE}, {c.SERVICE}"
NAMED = f"{{{{{c.SERVICE_NAMESPACE}}}}}/{{{{{c.SERVICE}}}}}"
POD_BY = f"{c.NAMESPACE}, {c.POD_SERVICE}"
POD_NAMED = f"{{{{{c.NAMESPACE}}}}}/{{{{{c.POD_SERVICE}}}}}"


def said(metric: str, at: str = "") -> str:
    return f"max by ({BY}) ({metric}{{{OURS}}}{at})"


def rate(metric: str, at: str = "", by: str = POD_BY) -> str:
    return f"sum by ({by}) (rate({metric}{{{PODS}}}[{RATE}]{at}))"


def busy(at: str = "") -> str:
    """Every request adds the compute time of its whole batch to Triton's counter: mean per request times executions."""
    model = f"{POD_BY}, model"
    mean = f"{rate(c.COMPUTE_US, at, model)} / ({rate(c.SUCCESS, at, model)} > 0)"
    pods = f"count by ({POD_BY}) (group by ({POD_BY}, pod) ({c.SUCCESS}{{{PODS}}}{at}))"
    return f"(sum by ({POD_BY}) ({mean} * {rate(c.EXECUTIONS, at, model)}) / 1e6 / {pods} or 0 * {pods})"


def mean(at: str = "") -> str:
    """Seconds of a request in Triton; nothing where there was none."""
    return f"{rate(c.DURATION_US, at)} / ({rate(c.SUCCESS, at)} > 0) / 1e6"


def relabelled(expression: str, *pairs: tuple[str, str]) -> str:
    """The same series under the other names of namespace and service: pods and operator use different ones."""
    for source, label in pairs:
        expression = f'label_replace({expression}, "{label}", "$1", "{source}", "(.+)")'
    return expression


def against_objective(at: str = "") -> str:
    pairs = ((c.SERVICE_NAMESPACE, c.NAMESPACE), (c.SERVICE, c.POD_SERVICE))
    objective = f"max by ({POD_BY}) ({relabelled(said(c.LATENCY_OBJECTIVE, at), *pairs)})"
    return f"({mean(at)} / on ({POD_BY}) group_left () {objective})"


def dashboard() -> dm.Dashboard:
    board = services(frame("fleet", "Nereus / Fleet", "Which service needs somebody now."), multi=True)
    wanted, ready, most, least = (said(name) for name in (c.PODS_WANTED, c.PODS_READY, c.PODS_MAX, c.PODS_MIN))
    at_max = f"({wanted} >= bool {most}) * ({most} > bool {least})"
    missing = f"clamp_min({wanted} - {ready}, 0)"
    board.with_row(d.Row("Who needs me now"))
    for figure in (
        number("Services", "ModelServices that the operator knows.", f"count({wanted}) or vector(0)"),
        number("Not ready", "Services that are not ready.", f"count({said(c.NOT_READY)}) or vector(0)", warn=1),
        number(
            "Blind",
            "Services whose load cannot be read; they hold their pods.",
            f"sum({said(c.SCALING_BLIND)}) or vector(0)",
            warn=1,
        ),
        number(
            "At maxReplicas",
            "Services that may scale and want as many pods as they may have.",
            f"sum({at_max}) or vector(0)",
            warn=1,
        ),
        number("Pods ready", "Ready pods of all services.", f"sum({ready}) or vector(0)"),
        number("Pods missing", "Wanted pods that are not ready.", f"sum({missing}) or vector(0)", warn=1),
    ):
        board.with_panel(figure)
    pairs = ((c.NAMESPACE, c.SERVICE_NAMESPACE), (c.POD_SERVICE, c.SERVICE))
    slow = f"max by ({BY}) ({relabelled(mean(), *pairs)})"
    none = f"or 0 * {wanted}"
    trouble = (
        f"({said(c.NOT_READY)} {none}) + clamp_max({missing}, 1) + {at_max} + ({said(c.SCALING_BLIND)} {none})"
        f" + ({slow} > bool {said(c.LATENCY_OBJECTIVE)} {none})"
    )
    board.with_panel(
        listing(
            "Every service",
            "Those with most trouble first: not ready, pods missing, at maxReplicas, blind, slower than the objective"
            " count one each. The name opens the service's own dashboard.",
            Column("Trouble", trouble, warn=1),
            Column("Why not ready", f"max by ({BY}, reason) ({c.NOT_READY}{{{OURS}}})", label="reason"),
            Column("Missing", missing, warn=1),
            Column("Ready", ready),
            Column("Wanted", wanted),
            Column("At max", at_max, answer=True),
            Column("Blind", said(c.SCALING_BLIND), answer=True),
            Column("Load, pods", said(c.LOAD)),
            Column("Latency", slow, unit="s"),
            Column("Objective", said(c.LATENCY_OBJECTIVE), unit="s"),
            first="Trouble",
        )
    )
    board.with_panel(
        heat(
            "How busy each service is",
            "Share of the time that an instance of each pod computes, mean over the service's pods; several instances"
            " add up. The 40 that are busiest now.",
            largest(40, busy),
            POD_NAMED,
            unit="percentunit",
            full=1,
        )
    )
    board.with_row(d.Row("Load, latency, pods: the 20 largest now"))
    for panel in (
        lines(
            "Requests",
            "Answered requests of each service.",
            (largest(20, lambda at: rate(c.SUCCESS, at)), POD_NAMED),
            unit="reqps",
        ),
        limit_line(
            lines(
                "Latency against objective",
                "Mean time of a request in Triton (queue included) as a share of the service's objective.",
                (largest(20, against_objective), POD_NAMED),
                ("vector(1)", "objective"),
                unit="percentunit",
            ),
            "objective",
        ),
        lines(
            "Wanted pods",
            "How many pods each service wants.",
            (largest(20, lambda at: said(c.PODS_WANTED, at)), NAMED),
            unit="short",
        ),
        lines(
            "Ready pods",
            "How many of them are ready.",
            (largest(20, lambda at: said(c.PODS_READY, at)), NAMED),
            unit="short",
        ),
    ):
        board.with_panel(panel)
    return board.build()
