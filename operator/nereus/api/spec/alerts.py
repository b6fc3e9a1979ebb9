"""`spec.alerts`: from when on a service is in trouble, and how its alerts are marked."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.percent import Percent, percent_within
from nereus.api.rules import Keyed, Rule
from nereus.api.spec.section import Section
from nereus.api.values import Duration, Within

Share = Annotated[
    Percent, percent_within(0.001, 100, "must be a percentage above 0% and up to 100%; write e.g. 1% or 0.5%")
]


class AlertName(StrEnum):
    """The alerts of a service; docs/alerts.md says what each means. No name is ever changed: routes use them."""

    LATENCY_HIGH = "NereusLatencyHigh"
    MODEL_LOAD_FAILING = "NereusModelLoadFailing"
    GPU_MEMORY_HIGH = "NereusGPUMemoryHigh"
    QUEUE_BACKLOG = "NereusQueueBacklog"
    ERRORS_FAST = "NereusErrorsFast"
    ERRORS_SLOW = "NereusErrorsSlow"
    TRAFFIC_VANISHED = "NereusTrafficVanished"
    NO_POD_READY = "NereusNoPodReady"
    PODS_NOT_READY = "NereusPodsNotReady"
    COLD_START_SLOWER = "NereusColdStartSlower"
    AUTOSCALER_BLIND = "NereusAutoscalerBlind"
    PINNED_AT_MAX = "NereusPinnedAtMax"
    FORECAST_OFF = "NereusForecastOff"


RESERVED_LABELS = ("alertname", "namespace", "service", "model", "severity")
RESERVED_ANNOTATIONS = ("summary", "description", "runbook_url")
_LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$"


def _names_rule(reserved: tuple[str, ...]) -> Rule:
    listed = ", ".join(f"'{name}'" for name in reserved)
    return Rule(
        cel=f"self.all(key, key.matches(r'{_LABEL_NAME}') && !key.startsWith('__') && !(key in [{listed}]))",
        message="each key is a Prometheus label name (letters, digits, '_', not beginning with a digit or '__') and"
        f" none of {', '.join(reserved)}, which Nereus sets: rename the key",
        holds=lambda entries: all(
            re.fullmatch(_LABEL_NAME, key) and not key.startswith("__") and key not in reserved for key in entries
        ),
    )


# Prometheus reads both as templates; a template of a user could fail when it is evaluated and take the alert with it.
_NO_TEMPLATE = Rule(
    cel="!self.matches('[{][{]')",
    message="a value holds no template (two opening braces): write plain text",
    holds=lambda value: "{{" not in value,
)
_Value = Annotated[str, Field(max_length=1024), _NO_TEMPLATE]
AlertLabels = Annotated[dict[str, _Value], Field(max_length=20), _names_rule(RESERVED_LABELS)]
AlertAnnotations = Annotated[dict[str, _Value], Field(max_length=20), _names_rule(RESERVED_ANNOTATIONS)]


class ShareAbove(Section):
    """A share from which on an alert fires."""

    above: Share | None = Field(None, description="Percentage, e.g. 0.5%. When absent: 1%.")


class GpuMemoryAbove(Section):
    """A share of the GPU memory limit from which on an alert fires."""

    above: Share | None = Field(None, description="Percentage of the limit, e.g. 85%. When absent: 90%.")


class QueueAbove(Section):
    """A number of requests from which on an alert fires."""

    above: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Waiting requests of one model over all pods. When absent: 100."
    )


class Alerts(Section):
    """From when on the service is in trouble."""

    latency: Annotated[Duration, Within("1ms", "10m")] | None = Field(
        None,
        description="NereusLatencyHigh fires when a model answers slower than this (99th percentile where Triton"
        " exports its latency histogram, otherwise the mean). When absent: scaling.objective.latency, otherwise 500ms.",
    )
    gpu_memory: GpuMemoryAbove | None = Field(
        None,
        description="NereusGPUMemoryHigh fires when a pod has used more than this share of its GPU memory limit for a"
        " minute; needs spec.gpu and the GPU agent. The limit is the one that hardware or driver report, otherwise"
        " gpu.memory. When absent: 90%.",
    )
    load_failures: ShareAbove | None = Field(
        None, description="Share of model loads that may fail within 15 minutes. When absent: 1%."
    )
    queue: QueueAbove | None = Field(None, description="How many requests may wait in Triton. When absent: 100.")
    errors: ShareAbove | None = Field(
        None,
        description="Share of failed requests that is tolerated over 30 days: the error budget. Alerts fire when it is"
        " used up 14.4 times too fast (NereusErrorsFast) or 6 times (NereusErrorsSlow). When absent: 1%.",
    )
    labels: AlertLabels | None = Field(
        None, description="Labels on every alert of this service, e.g. team: vision, to route by. When absent: none."
    )
    annotations: AlertAnnotations | None = Field(
        None, description="Annotations on every alert of this service. When absent: none."
    )
    disable: Annotated[tuple[AlertName, ...], Field(max_length=32), Keyed()] | None = Field(
        None, description="Names of alerts that this service does not want. When absent: all are on."
    )
