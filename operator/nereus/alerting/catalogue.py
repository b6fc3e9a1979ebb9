"""Every alert of a service. A new one is an entry here, a page in docs/runbooks and a case in the rule tests.

Each looks at the service as its clients meet it, or at what is about to hurt them. What Triton's metrics do not say
is not pretended: without the latency histogram (Triton 24.11 and later, switched on) the mean stands in for the p99,
and what a server rejects without counting is in no alert.
"""

from __future__ import annotations

from nereus.alerting import conventions as c
from nereus.alerting import thresholds as t
from nereus.alerting.alert import Alert, Severity
from nereus.alerting.scope import OPERATOR, PODS, Scope, gauge, promql_duration, window

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""How many times faster than allowed the error budget of 30 days is used up: 2 % of it within an hour, 5 % within six
hours. From the Site Reliability Workbook, chapter "Alerting on SLOs", table of recommended parameters."""
NOT_THE_CLIENTS = 'reason!="CANCELED"'
"""A request that its client cancelled is no failure of ours."""


def _rate(scope: Scope, metric: str, seconds: float, *matchers: str, by: str = PODS, offset: float = 0) -> str:
    shift = f" offset {promql_duration(offset * scope.pace)}" if offset else ""
    return f"sum by ({by}) (rate({scope.pods(metric, *matchers)}[{window(scope, seconds)}]{shift}))"


def _increase(scope: Scope, metric: str, seconds: float, *, by: str) -> str:
    return f"sum by ({by}) (increase({scope.pods(metric)}[{window(scope, seconds)}]))"


def _latency(scope: Scope) -> str:
    by = f"{PODS}, model"
    buckets = _rate(scope, c.LATENCY_BUCKET, 5 * MINUTE, by=f"{by}, le")
    mean = f"{_rate(scope, c.DURATION_US, 5 * MINUTE, by=by)} / {_rate(scope, c.SUCCESS, 5 * MINUTE, by=by)} / 1000"
    return scope.beyond(f"histogram_quantile(0.99, {buckets}) or {mean}", "NereusLatencyHigh")


def _load_failures(scope: Scope) -> str:
    by = f"{PODS}, model"
    failed = _increase(scope, c.LOAD_FAILURES, 15 * MINUTE, by=by)
    loads = _increase(scope, c.LOADS, 15 * MINUTE, by=by)
    # A sidecar of an earlier release counts failures only: there one failure is a whole one.
    return scope.beyond(f"{failed} / ({loads} > 0) or clamp_max({failed}, 1)", "NereusModelLoadFailing")


def _gpu_memory(scope: Scope) -> str:
    pod = f"{OPERATOR}, {c.POD}"
    # Two agents may speak of one pod while one is replaced; a pod has as many limits as devices.
    used = f"sum by ({pod}) (max by ({pod}, {c.CONTAINER}, gpu) ({scope.said(c.GPU_USED)}))"
    seen = f"sum by ({pod}) (max by ({pod}, gpu) ({scope.said(c.GPU_SEEN_LIMIT)}))"
    asked = f"on ({OPERATOR}) group_left () {gauge(scope, c.GPU_LIMIT)}"
    return scope.beyond(f"{used} / {seen} or {used} / {asked}", "NereusGPUMemoryHigh", from_pods=False)


def _queue(scope: Scope) -> str:
    return scope.beyond(f"sum by ({PODS}, model) ({scope.pods(c.PENDING)})", "NereusQueueBacklog")


def _error_ratio(scope: Scope, seconds: float) -> str:
    failed = _rate(scope, c.FAILURE, seconds, NOT_THE_CLIENTS)
    return f"{failed} / ({_rate(scope, c.SUCCESS, seconds)} + {failed})"


def _errors_fast(scope: Scope) -> str:
    # The long window says that it matters, the short one that it still goes on.
    name = "NereusErrorsFast"
    long, short = (scope.beyond(_error_ratio(scope, seconds), name) for seconds in (HOUR, 5 * MINUTE))
    return f"{short} and {long}"


def _errors_slow(scope: Scope) -> str:
    name = "NereusErrorsSlow"
    long, short = (scope.beyond(_error_ratio(scope, seconds), name) for seconds in (6 * HOUR, 30 * MINUTE))
    return f"{short} and {long}"


def _traffic_vanished(scope: Scope) -> str:
    def requests(seconds: float, offset: float = 0) -> str:
        done = _rate(scope, c.SUCCESS, seconds, offset=offset)
        failed = _rate(scope, c.FAILURE, seconds, NOT_THE_CLIENTS, offset=offset)
        return f"({done} + ({failed} or 0 * {done}))"

    before = requests(HOUR, 10 * MINUTE)
    now = f"({requests(10 * MINUTE)} or 0 * {before})"  # series that are gone are no traffic either
    yesterday = requests(30 * MINUTE, DAY)
    lost = f"1 - {now} / ({before} > 0.1)"
    # A service that rests at this hour every day does not rest by accident.
    return f"{scope.beyond(lost, 'NereusTrafficVanished')} unless {yesterday} < 0.01 * {before}"


def _no_pod_ready(scope: Scope) -> str:
    wanted, ready = gauge(scope, c.PODS_WANTED), gauge(scope, c.PODS_READY)
    return scope.beyond(f"{wanted} unless on ({OPERATOR}) {ready} > 0", "NereusNoPodReady", from_pods=False)


def _pods_not_ready(scope: Scope) -> str:
    # None at all is NereusNoPodReady's; otherwise this would be told when that one is over, for as long as it is kept.
    wanted, ready = gauge(scope, c.PODS_WANTED), gauge(scope, c.PODS_READY)
    missing = f"{wanted} - {ready} and on ({OPERATOR}) {ready} > 0"
    return scope.beyond(missing, "NereusPodsNotReady", from_pods=False)


def _cold_start(scope: Scope) -> str:
    now = gauge(scope, c.COLD_START_SECONDS)
    day = f"[{window(scope, DAY)}] offset {promql_duration(HOUR * scope.pace)}"
    before = f"max by ({OPERATOR}) (quantile_over_time(0.5, {scope.said(c.COLD_START_SECONDS)}{day}))"
    grown = f"{now} / {before} and {now} - {before} > 10"  # ten seconds: below that, nobody waits longer for a pod
    return scope.beyond(grown, "NereusColdStartSlower", from_pods=False)


def _blind(scope: Scope) -> str:
    return scope.beyond(gauge(scope, c.SCALING_BLIND), "NereusAutoscalerBlind", from_pods=False)


def _pinned(scope: Scope) -> str:
    wanted, most = gauge(scope, c.PODS_WANTED), gauge(scope, c.PODS_MAX)
    return scope.beyond(f"{wanted} >= {most}", "NereusPinnedAtMax", from_pods=False)


def _forecast(scope: Scope) -> str:
    return scope.beyond(gauge(scope, c.FORECAST_ERROR), "NereusForecastOff", from_pods=False)


def _milliseconds(value: float) -> str:
    return f"{value:g} ms"


def _percent(value: float) -> str:
    return f"{value * 100:g} %"


def _plain(value: float) -> str:
    return f"{value:g}"


ALERTS: tuple[Alert, ...] = (
    Alert(
        name="NereusLatencyHigh",
        severity=Severity.WARNING,
        summary="{service}: model {{ $labels.model }} answers slower than its objective",
        description='Model {{ $labels.model }} of {service} took {{ $value | printf "%.0f" }} ms over the last 5'
        " minutes; the objective is {limit}. It is the 99th percentile where Triton exports its latency histogram,"
        " otherwise the mean.",
        expression=_latency,
        threshold=lambda given: given.latency_ms,
        shown=_milliseconds,
        for_seconds=5 * MINUTE,
        for_reason="a new pod that warms up, or one burst, is over by then; scaling up had time to help",
        keep_seconds=5 * MINUTE,
        keep_reason="latency around the objective would otherwise page again and again",
    ),
    Alert(
        name="NereusModelLoadFailing",
        severity=Severity.WARNING,
        summary="{service}: Triton refuses to load model {{ $labels.model }}",
        description="{{ $value | humanizePercentage }} of the loads of model {{ $labels.model }} of {service} failed"
        " within 15 minutes; {limit} is allowed. `kubectl describe msvc` holds Triton's words.",
        expression=_load_failures,
        threshold=lambda given: given.load_failures,
        shown=_percent,
        for_seconds=0,
        for_reason="a load that Triton refused has failed, waiting makes it no truer; the window holds it for 15 min",
        keep_seconds=5 * MINUTE,
        keep_reason="the sidecar tries again less and less often, and between two tries nothing fails",
    ),
    Alert(
        name="NereusGPUMemoryHigh",
        severity=Severity.WARNING,
        summary="{service}: pod {{ $labels.modelservice_pod }} is close to its GPU memory limit",
        description="Pod {{ $labels.modelservice_pod }} of {service} uses {{ $value | humanizePercentage }} of the GPU"
        " memory that it may use; {limit} is allowed. The next allocation may fail, and with it requests, a model's"
        " load or the whole server.",
        expression=_gpu_memory,
        threshold=lambda given: given.gpu_memory,
        shown=_percent,
        for_seconds=MINUTE,
        for_reason="a reload holds the old and the new model for seconds",
        keep_seconds=2 * MINUTE,
        keep_reason="memory that batches of changing size take and give back is the same trouble",
        from_pods=False,
    ),
    Alert(
        name="NereusQueueBacklog",
        severity=Severity.WARNING,
        summary="{service}: requests for model {{ $labels.model }} pile up",
        description='{{ $value | printf "%.0f" }} requests for model {{ $labels.model }} of {service} wait in Triton,'
        " over all pods; the limit is {limit}.",
        expression=_queue,
        threshold=lambda given: given.queue,
        shown=_plain,
        for_seconds=2 * MINUTE,
        for_reason="a queue that a burst filled empties within seconds; one that stands for two minutes does not",
        keep_seconds=2 * MINUTE,
        keep_reason="a queue swings; the gauge is one moment of each scrape",
    ),
    Alert(
        name="NereusErrorsFast",
        severity=Severity.CRITICAL,
        summary="{service}: so many requests fail that the month's error budget is gone within two days",
        description="{{ $value | humanizePercentage }} of the requests to {service} failed over the last 5 minutes,"
        " and more than {limit} over the last hour. Requests that clients cancelled are not counted.",
        expression=_errors_fast,
        threshold=lambda given: min(0.999, FAST_BURN * given.errors),
        shown=_percent,
        for_seconds=2 * MINUTE,
        for_reason="the hour's window is the real delay; two minutes bridge a single bad scrape",
        keep_seconds=5 * MINUTE,
        keep_reason="the short window empties at once; a fault that comes and goes stays one alert",
    ),
    Alert(
        name="NereusErrorsSlow",
        severity=Severity.WARNING,
        summary="{service}: failing requests use up the month's error budget within five days",
        description="{{ $value | humanizePercentage }} of the requests to {service} failed over the last 30 minutes,"
        " and more than {limit} over the last 6 hours. Requests that clients cancelled are not counted.",
        expression=_errors_slow,
        threshold=lambda given: min(0.999, SLOW_BURN * given.errors),
        shown=_percent,
        for_seconds=15 * MINUTE,
        for_reason="nothing of this speed is urgent to the minute",
        keep_seconds=15 * MINUTE,
        keep_reason="as long as it took to fire, so that it does not flap",
    ),
    Alert(
        name="NereusTrafficVanished",
        severity=Severity.WARNING,
        summary="{service}: its requests have stopped coming",
        description="{{ $value | humanizePercentage }} of the traffic of the last hour no longer reaches {service},"
        " and at this time yesterday there was traffic (or there is no yesterday yet).",
        expression=_traffic_vanished,
        threshold=lambda _: t.TRAFFIC_LOST,
        shown=_percent,
        for_seconds=5 * MINUTE,
        for_reason="a deployment of the clients, or of their gateway, takes a few minutes",
        keep_seconds=0,
        keep_reason="the first requests end it",
    ),
    Alert(
        name="NereusNoPodReady",
        severity=Severity.CRITICAL,
        summary="{service}: no pod serves",
        description="{{ $value }} pods of {service} are wanted and none is ready: clients get no answer.",
        expression=_no_pod_ready,
        threshold=lambda _: 0,
        shown=_plain,
        for_seconds=5 * MINUTE,
        for_reason="a first start pulls images and loads models; this is longer than most take",
        keep_seconds=MINUTE,
        keep_reason="a pod that becomes ready and dies again is the same trouble",
        from_pods=False,
    ),
    Alert(
        name="NereusPodsNotReady",
        severity=Severity.WARNING,
        summary="{service}: pods are missing",
        description="{{ $value }} of the pods that {service} wants are not ready; the others serve."
        " `kubectl describe msvc` says why.",
        expression=_pods_not_ready,
        threshold=lambda _: 0,
        shown=_plain,
        for_seconds=15 * MINUTE,
        for_reason="a scale-up with a slow cold start (the horizon is capped at 15 minutes) is no fault",
        keep_seconds=5 * MINUTE,
        keep_reason="a pod in a crash loop is ready for a moment each time",
        from_pods=False,
    ),
    Alert(
        name="NereusColdStartSlower",
        severity=Severity.WARNING,
        summary="{service}: new pods take longer than they used to",
        description='The slow starts (p95) of {service} take {{ $value | printf "%.1f" }} times as long as the'
        " median of the day before; the limit is {limit} times. Scaling up helps that much later.",
        expression=_cold_start,
        threshold=lambda _: t.COLD_START_GROWTH,
        shown=_plain,
        for_seconds=10 * MINUTE,
        for_reason="the p95 of few starts jumps with one of them",
        keep_seconds=10 * MINUTE,
        keep_reason="as long as it took to fire",
        from_pods=False,
    ),
    Alert(
        name="NereusAutoscalerBlind",
        severity=Severity.WARNING,
        summary="{service}: scaling cannot read its metrics",
        description="The load of {service} cannot be read; the number of pods is held and does not follow the load. The"
        " conditions ScalingActive and MetricsAvailable say why.",
        expression=_blind,
        threshold=lambda given: 0 if given.scales else None,
        shown=_plain,
        for_seconds=5 * MINUTE,
        for_reason="a restart of the metrics adapter or of Prometheus takes a few minutes, and nothing scales down",
        keep_seconds=2 * MINUTE,
        keep_reason="one good reading among bad ones is no recovery",
        from_pods=False,
    ),
    Alert(
        name="NereusPinnedAtMax",
        severity=Severity.WARNING,
        summary="{service}: at maxReplicas, and nothing is left to scale",
        description="{service} has wanted {{ $value }} pods, which is spec.scaling.maxReplicas, for 15 minutes: more"
        " load will make it slower.",
        expression=_pinned,
        threshold=lambda given: 0 if given.scales else None,
        shown=_plain,
        for_seconds=15 * MINUTE,
        for_reason="a short peak at the limit is what the limit is for",
        keep_seconds=10 * MINUTE,
        keep_reason="a load around the limit leaves it for a sync or two",
        from_pods=False,
    ),
    Alert(
        name="NereusForecastOff",
        severity=Severity.WARNING,
        summary="{service}: the load forecast is far off",
        description="The forecast for {service} was wrong by {{ $value | humanizePercentage }} of the load; from"
        " {limit} on it is no help. Scaling falls back to reacting.",
        expression=_forecast,
        threshold=lambda given: t.FORECAST_ERROR if given.scales else None,
        shown=_percent,
        for_seconds=30 * MINUTE,
        for_reason="one surprise is no bad forecaster; half an hour of them is",
        keep_seconds=30 * MINUTE,
        keep_reason="as long as it took to fire",
        from_pods=False,
    ),
)
"""The alerts of a service, the most urgent kinds of trouble first."""

NAMES = tuple(alert.name for alert in ALERTS)
