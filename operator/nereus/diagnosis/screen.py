"""One screen for one service: why it is not ready, why there are N pods, what changed last, what is alarming.

Pure text from the stored status, its events and the firing alerts. Everything is said in the words of the status: this
page finds nothing out, it only puts side by side what a person would otherwise collect with five commands.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nereus.diagnosis.reading import instant, items, mapping, text

Json = Mapping[str, Any]
NEWEST_EVENTS = 6
SIGNS = {"True": "yes", "False": "no", "Unknown": "unknown"}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What batches of a model cost, as the sidecars measured: seconds of each batch, and of each inference in it."""

    model: str
    fixed_seconds: float
    seconds_per_inference: float
    largest: int


def screen(
    resource: Json,
    *,
    events: Sequence[Json],
    alerts: Sequence[Json] | None,
    now: datetime,
    curves: Sequence[Curve] = (),
    width: int = 100,
) -> str:
    """`events` are core/v1 Events about the service; `alerts` those that Prometheus lists for it, None when nobody was
    asked."""
    status = mapping(resource.get("status"))
    lines = [
        *_title(resource, status),
        *_section("Ready", _ready(status, now), width),
        *_section("Pods", _pods(status), width),
        *_section("Cold start", _cold_start(status), width),
        *_section("Batches", _batches(curves), width),
        *_section("Template", _template(status), width),
        *_section("Lately", _events(events, now), width),
        *_section("Alerts", _alerts(status, alerts, now), width),
    ]
    return "\n".join(lines) + "\n"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, in the two largest units that matter: `45s`, `12m`, `3h10m`, `2d4h`."""
    if since is None:
        return "?"
    seconds = max(0, int((now - since) / timedelta(seconds=1)))
    days, hours, minutes = seconds // 86400, seconds % 86400 // 3600, seconds % 3600 // 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def _title(resource: Json, status: Json) -> Iterator[str]:
    metadata = mapping(resource.get("metadata"))
    yield f"{text(metadata.get('namespace'))}/{text(metadata.get('name'))}   {text(status.get('url'))}"
    observed, generation = status.get("observedGeneration"), metadata.get("generation")
    if not status:
        yield "The operator has not looked at it yet: is it running, does it watch this namespace?"
    elif observed != generation:
        yield f"The status is about generation {observed}; generation {generation} has not been looked at yet."


def _section(title: str, sentences: Iterator[str], width: int) -> Iterator[str]:
    first = True
    for sentence in sentences:
        label = f"{title:12}" if first else " " * 12
        yield from textwrap.wrap(
            sentence, width, initial_indent=label, subsequent_indent=" " * 14, break_long_words=False
        ) or [label]
        first = False


def _condition(status: Json, kind: str) -> Json:
    return next((item for item in items(status.get("conditions")) if item.get("type") == kind), {})


def _said(condition: Json, now: datetime) -> str:
    sign = SIGNS.get(text(condition.get("status")), "unknown")
    since = age(instant(condition.get("lastTransitionTime")), now)
    return f"{sign} for {since}, {text(condition.get('reason'))}: {text(condition.get('message'))}"


def _ready(status: Json, now: datetime) -> Iterator[str]:
    if ready := _condition(status, "Ready"):
        yield _said(ready, now)
    if stalled := _condition(status, "Stalled"):
        yield f"needs a person: {text(stalled.get('message'))}"
    told = text(_condition(status, "Ready").get("message"))
    for reason in items(status.get("reasons")):
        message = text(reason.get("message"))
        if message and message not in told:
            yield f"{reason.get('count')} x {text(reason.get('reason'))}: {message}"
    for model in items(status.get("models")):
        if model.get("state") != "Ready":
            why = f": {text(model.get('reason'))}" if model.get("reason") else ""
            yield f"model {text(model.get('name'))} is {text(model.get('state'))} ({text(model.get('ready'))}){why}"


def _pods(status: Json) -> Iterator[str]:
    scaling, resolved = mapping(status.get("scaling")), mapping(status.get("resolved"))
    if status.get("replicas"):
        ready, _, wanted = text(status.get("replicas")).partition("/")
        yield f"{ready} ready, {wanted} wanted; strategy {text(resolved.get('strategy')) or '?'}"
    if scaling.get("message"):
        yield text(scaling.get("message"))
    figures = [
        f"{name} {scaling[field]:g}"
        for field, name in (
            ("load", "load"),
            ("reactive", "needed now"),
            ("forecast", "forecast"),
            ("floor", "floor"),
            ("forecastError", "forecast error"),
        )
        if isinstance(scaling.get(field), int | float)
    ]
    if figures:
        yield ", ".join(figures)
    for change in items(scaling.get("history"))[:1]:
        yield f"last decision {text(change.get('id'))} at {text(change.get('at'))}: {text(change.get('message'))}"
    if scaling.get("metrics"):
        yield "metrics: " + ", ".join(str(metric) for metric in scaling["metrics"])


def _cold_start(status: Json) -> Iterator[str]:
    measured = mapping(status.get("coldStart"))
    if not isinstance(measured.get("p95"), int | float):
        return
    phases = ", ".join(f"{name} {seconds:g} s" for name, seconds in mapping(measured.get("phases")).items())
    yield f"p95 {measured['p95']:g} s over {measured.get('samples')} starts; median by phase: {phases or 'unknown'}"


def _batches(curves: Sequence[Curve]) -> Iterator[str]:
    for curve in sorted(curves, key=lambda each: each.model):
        longest = curve.fixed_seconds + curve.largest * curve.seconds_per_inference
        rate = f", {curve.largest / longest:.3g} inferences/s for one instance" if longest > 0 else ""
        yield (
            f"{curve.model}: {curve.fixed_seconds * 1000:.3g} ms a batch, {curve.seconds_per_inference * 1000:.3g} ms"
            f" each inference; the largest seen, {curve.largest}, takes {longest * 1000:.3g} ms{rate}"
        )


def _template(status: Json) -> Iterator[str]:
    template = mapping(status.get("template"))
    if template.get("pending"):
        yield f"this release would change, and leaves alone: {text(template.get('pending'))}"


def _events(events: Sequence[Json], now: datetime) -> Iterator[str]:
    dated = [(instant(event.get("lastTimestamp")) or instant(event.get("eventTime")), event) for event in events]
    known = sorted(((at, event) for at, event in dated if at), key=lambda pair: pair[0], reverse=True)
    for at, event in known[:NEWEST_EVENTS]:
        yield f"{age(at, now)} ago, {text(event.get('reason'))}: {text(event.get('message'))}"
    if not known:
        yield "no events within the API server's memory (an hour, usually)"


def _alerts(status: Json, alerts: Sequence[Json] | None, now: datetime) -> Iterator[str]:
    for alert in sorted(alerts or (), key=lambda alert: text(alert.get("state"))):
        labels, notes = mapping(alert.get("labels")), mapping(alert.get("annotations"))
        since = age(instant(alert.get("activeAt")), now)
        yield (
            f"{text(alert.get('state'))} for {since}, {text(labels.get('severity'))},"
            f" {text(labels.get('alertname'))}: {text(notes.get('description'))} -> {text(notes.get('runbook_url'))}"
        )
    if alerts is None:
        yield "not asked; --prometheus URL (or NEREUS_PROMETHEUS_URL) shows which fire"
    elif not alerts:
        yield "none is firing"
    installed = _condition(status, "AlertsInstalled")
    if installed and installed.get("status") != "True":
        yield f"installed: {_said(installed, now)}"
