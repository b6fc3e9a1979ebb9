"""*Service*: one service from its clients' side to its pods: is it fast, is it failing, why so many pods."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as dm

from hack.dashboards.parts import OURS, PODS, RATE, SOURCE, band, frame, limit_line, lines, number, optional, services
from nereus.alerting import conventions as c


def said(metric: str) -> str:
    return f"max({metric}{{{OURS}}})"


def cut(metric: str) -> str:
    """At twice maxReplicas: a young forecast expects anything, and would be all that the axis shows."""
    return f"clamp_max({said(metric)}, 2 * scalar({said(c.PODS_MAX)}))"


def rate(metric: str, by: str = "model") -> str:
    return f"sum by ({by}) (rate({metric}{{{PODS}}}[{RATE}]))"


def quantile(share: float) -> str:
    """From the histogram where Triton has it; nothing otherwise."""
    return f"histogram_quantile({share}, {rate(c.LATENCY_BUCKET, 'model, le')}) / 1000"


def dashboard() -> dm.Dashboard:
    board = services(frame("service", "Nereus / Service", "One ModelService in depth."), multi=False)
    board.annotation(
        d.AnnotationQuery()
        .name("Pods wanted changed")
        .enable(True)
        .icon_color("blue")
        .datasource(SOURCE)
        .expr(f"changes({c.PODS_WANTED}{{{OURS}}}[1m]) > 0")
    )
    board.with_row(d.Row("Now"))
    for figure in (
        number("Ready pods", "Pods that serve.", said(c.PODS_READY)),
        number("Wanted pods", "Pods that are wanted now.", said(c.PODS_WANTED)),
        number(
            "State",
            "Serving, or why the service is not ready.",
            f"max by (reason) ({c.NOT_READY}{{{OURS}}})"
            f' or on () label_replace({said(c.PODS_WANTED)} * 0, "reason", "Serving", "", "")',
            warn=1,
            legend="{{reason}}",
        ),
        number(
            "Scaling blind",
            "Whether the load cannot be read; the number of pods is then held.",
            f"{said(c.SCALING_BLIND)} or vector(0)",
            warn=1,
            answer=True,
        ),
        number("Cold start p95", "From a pod's creation to ready.", said(c.COLD_START_SECONDS), unit="s"),
        number("Objective", "How fast a request must be answered.", said(c.LATENCY_OBJECTIVE), unit="s"),
    ):
        board.with_panel(figure)
    board.with_row(d.Row("Clients"))
    mean = f"{rate(c.DURATION_US)} / {rate(c.SUCCESS)} / 1e6"
    board.with_panel(
        limit_line(
            lines(
                "Latency",
                "Mean of each model (queue included), and the 99th and 50th percentile where Triton exports its latency"
                " histogram. The dashed line is the objective.",
                (mean, "{{model}} mean"),
                (quantile(0.99), "{{model}} p99"),
                (quantile(0.5), "{{model}} p50"),
                (said(c.LATENCY_OBJECTIVE), "objective"),
                unit="s",
            ),
            "objective",
        )
    )
    for panel in (
        lines("Requests", "Answered requests of each model.", (rate(c.SUCCESS), "{{model}}"), unit="reqps"),
        lines(
            "Failed requests by reason",
            "REJECTED: a full queue. BACKEND: the model. CANCELED: the client went away. OTHER: often malformed.",
            (rate(c.FAILURE, "model, reason"), "{{model}} {{reason}}"),
            unit="reqps",
        ),
        lines(
            "Waiting requests",
            "Requests in Triton's queues, over all pods; one moment per scrape.",
            (f"sum by (model) ({c.PENDING}{{{PODS}}})", "{{model}}"),
            unit="short",
        ),
    ):
        board.with_panel(panel)
    board.with_row(d.Row("Pods"))
    pods = lines(
        "Pods",
        "Wanted and ready pods between the bounds.",
        (said(c.PODS_WANTED), "wanted"),
        (said(c.PODS_READY), "ready"),
        (said(c.PODS_MIN), "minReplicas"),
        (said(c.PODS_MAX), "maxReplicas"),
        unit="short",
    )
    board.with_panel(limit_line(pods, "maxReplicas"))
    for panel in (
        lines(
            "Requests by pod",
            "Whether the load is spread evenly.",
            (rate(c.SUCCESS, "pod"), "{{pod}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Cold start by phase",
            "The last start of each pod: until every source was fetched, until every model served, and loads.",
            (f"max({c.POD_FETCHED_SECONDS}{{{PODS}}})", "fetched"),
            (f"max({c.POD_READY_SECONDS}{{{PODS}}})", "all models ready"),
            (f"max by (model) ({c.LOAD_SECONDS}{{{PODS}}})", "load {{model}}"),
            unit="s",
        ),
    ):
        board.with_panel(panel)
    board.with_row(d.Row("Inside Triton"))
    for panel in (
        lines(
            "Queue and compute time",
            "Mean time of a request in the queue and in the model: what is large is what to change.",
            (f"{rate(c.QUEUE_US)} / {rate(c.SUCCESS)} / 1e6", "{{model}} queue"),
            (f"{rate(c.COMPUTE_US)} / {rate(c.SUCCESS)} / 1e6", "{{model}} compute"),
            unit="s",
        ),
        lines(
            "Batch size",
            "Mean number of inferences that one execution of the model served.",
            (f"{rate(c.INFERENCES)} / {rate(c.EXECUTIONS)}", "{{model}}"),
            unit="short",
        ),
    ):
        board.with_panel(panel)
    for row in (_forecast(), _gpu(), _cache()):
        board.with_row(row)
    return board.build()


def _forecast() -> d.Row:
    expected = lines(
        "Load and forecast",
        "Load in pods' worth of work, and the highest load that is expected until one cold start ahead: median to 95 %."
        " The load should stay below the upper edge that was drawn one cold start before. Both edges are cut at twice"
        " maxReplicas: what is above buys no pod.",
        (said(c.LOAD), "load"),
        (cut(c.FORECAST_MEDIAN), "expected, median"),
        (cut(c.FORECAST), "expected, 95 %"),
        unit="short",
    )
    asked = lines(
        "What asks for pods",
        "What the present load alone needs (reactive), what was decided (floor), what is there, and the bounds.",
        (said(c.REACTIVE), "reactive"),
        (said(c.FLOOR), "floor"),
        (said(c.PODS_READY), "ready"),
        (said(c.PODS_MIN), "minReplicas"),
        (said(c.PODS_MAX), "maxReplicas"),
        unit="short",
    )
    return optional(
        "Forecast (strategy Predictive, operator with prometheus.url)",
        band(expected, low="expected, median", high="expected, 95 %"),
        limit_line(asked, "maxReplicas"),
        lines(
            "Forecast error",
            "Mean absolute error of past forecasts as a share of the load.",
            (said(c.FORECAST_ERROR), "error"),
            unit="percentunit",
        ),
    )


def _gpu() -> d.Row:
    used = lines(
        "GPU memory by pod",
        "All containers and devices of each pod; the limit that hardware or driver report, and the one that"
        " Nereus knows to be in effect.",
        (f"sum by ({c.POD}) ({c.GPU_USED}{{{OURS}}})", f"{{{{{c.POD}}}}}"),
        (f"max(sum by ({c.POD}) (max by ({c.POD}, gpu) ({c.GPU_SEEN_LIMIT}{{{OURS}}})))", "limit seen"),
        (said(c.GPU_LIMIT), "limit"),
        unit="bytes",
    )
    return optional(
        "GPU (spec.gpu, GPU agent)",
        limit_line(limit_line(used, "limit"), "limit seen"),
        lines(
            "GPU time by pod",
            "Share of time that each pod kept a GPU busy; MIG slices have none.",
            (f"avg by ({c.POD}) ({c.GPU_BUSY}{{{OURS}}})", f"{{{{{c.POD}}}}}"),
            unit="percentunit",
        ),
    )


def _cache() -> d.Row:
    hits, misses = rate(c.CACHE_HITS), rate(c.CACHE_MISSES)
    return optional(
        "Response cache (models with responseCache)",
        lines(
            "Cache hits",
            "Share of the requests that were answered from memory.",
            (f"{hits} / ({hits} + {misses})", "{{model}}"),
            unit="percentunit",
        ),
    )
