"""*Fleet*: who needs me now? Services in trouble first, then every service by load, latency and pods."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as dm

from hack.dashboards.parts import OURS, PODS, RATE, frame, heat, limit_line, lines, listing, number, services
from nereus.alerting import conventions as c

BY = f"{c.SERVICE_NAMESPACE}, {c.SERVICE}"
NAMED = f"{{{{{c.SERVICE_NAMESPACE}}}}}/{{{{{c.SERVICE}}}}}"
POD_BY = f"{c.NAMESPACE}, {c.POD_SERVICE}"
POD_NAMED = f"{{{{{c.NAMESPACE}}}}}/{{{{{c.POD_SERVICE}}}}}"


def said(metric: str) -> str:
    return f"max by ({BY}) ({metric}{{{OURS}}})"


def dashboard() -> dm.Dashboard:
    board = services(frame("fleet", "Nereus / Fleet", "Which service needs somebody now."), multi=True)
    rate = f"sum by ({POD_BY}) (rate({c.SUCCESS}{{{PODS}}}[{RATE}]))"
    pods = f"count by ({POD_BY}) (group by ({POD_BY}, pod) ({c.SUCCESS}{{{PODS}}}))"
    busy = f"sum by ({POD_BY}) (rate({c.COMPUTE_US}{{{PODS}}}[{RATE}])) / 1e6 / {pods}"
    objective = said(c.LATENCY_OBJECTIVE)
    for label, source in ((c.NAMESPACE, c.SERVICE_NAMESPACE), (c.POD_SERVICE, c.SERVICE)):
        objective = f'label_replace({objective}, "{label}", "$1", "{source}", "(.+)")'
    mean = f"sum by ({POD_BY}) (rate({c.DURATION_US}{{{PODS}}}[{RATE}])) / {rate} / 1e6"
    board.with_row(d.Row("Who needs me now"))
    for figure in (
        number("Services", "ModelServices that the operator knows.", f"count({said(c.PODS_WANTED)})"),
        number("Not ready", "Services that are not ready.", f"count({c.NOT_READY}{{{OURS}}}) or vector(0)", warn=1),
        number(
            "Blind",
            "Services whose autoscaler cannot read its metrics; they hold their pods.",
            f"sum({said(c.SCALING_BLIND)}) or vector(0)",
            warn=1,
        ),
        number(
            "At maxReplicas",
            "Services that may scale and want as many pods as they may have.",
            f"count({said(c.PODS_WANTED)} >= {said(c.PODS_MAX)} and {said(c.PODS_MAX)} > {said(c.PODS_MIN)})"
            " or vector(0)",
            warn=1,
        ),
        number("Pods ready", "Ready pods of all services.", f"sum({said(c.PODS_READY)})"),
        number(
            "Pods missing",
            "Wanted pods that are not ready.",
            f"sum(clamp_min({said(c.PODS_WANTED)} - {said(c.PODS_READY)}, 0))",
            warn=1,
        ),
    ):
        board.with_panel(figure)
    board.with_panel(
        listing(
            "Every service",
            "Those with missing pods first. The name opens its own dashboard.",
            (f"sort_desc({said(c.PODS_WANTED)} - {said(c.PODS_READY)})", "Missing"),
            (said(c.PODS_READY), "Ready"),
            (said(c.PODS_WANTED), "Wanted"),
            (said(c.SCALING_BLIND), "Blind"),
            (f"{said(c.PODS_WANTED)} >= bool {said(c.PODS_MAX)}", "At max"),
            (f"{said(c.LATENCY_OBJECTIVE)} * 1000", "Objective, ms"),
        )
    )
    board.with_panel(
        heat(
            "Load of each service",
            "How much of the time an instance of each pod computes, mean over the service's pods: 1 is one instance"
            " without a pause. The 40 busiest services.",
            f"topk(40, {busy})",
            POD_NAMED,
            unit="short",
        )
    )
    board.with_row(d.Row("Load, latency, pods"))
    for panel in (
        lines("Requests", "Answered requests of each service.", (rate, POD_NAMED), unit="reqps"),
        limit_line(
            lines(
                "Latency against objective",
                "Mean time of a request in Triton (queue included) as a share of the service's objective.",
                (f"{mean} / on ({POD_BY}) group_left () max by ({POD_BY}) ({objective})", POD_NAMED),
                ("vector(1)", "objective"),
                unit="percentunit",
            ),
            "objective",
        ),
        lines("Wanted pods", "How many pods each service wants.", (said(c.PODS_WANTED), NAMED), unit="short"),
        lines("Ready pods", "How many of them are ready.", (said(c.PODS_READY), NAMED), unit="short"),
    ):
        board.with_panel(panel)
    return board.build()
