"""`spec.scaling`: how many pods."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Keyed, Rule
from nereus.api.spec.forecasting import Capacity, Forecast, Mode, Objective, ScheduleEntry
from nereus.api.spec.section import Section
from nereus.api.values import MetricSpec, ScalingBehavior


class Strategy(StrEnum):
    PREDICTIVE = "Predictive"
    REACTIVE = "Reactive"
    METRICS = "Metrics"
    MANUAL = "Manual"


class ScalingLimits(Section):
    """What all pods of a service may take together, whatever the load asks for."""

    gpus: Annotated[int, Field(ge=1, le=100000)] = Field(
        description="Most GPUs of all pods together, also while pods are replaced. Each pod counts gpu.count; a slice"
        " or a share of a GPU counts as one. maxReplicas is lowered to what fits."
    )


class Scaling(Section):
    """How many pods."""

    strategy: Strategy | None = Field(
        None,
        description="Predictive: as many pods as the load within the next cold start needs, forecast from its past in"
        " Prometheus. Reactive: as many as the present load needs. Metrics: a HorizontalPodAutoscaler with `metrics`."
        " Manual: exactly `replicas`, also by kubectl scale. When absent: Predictive where the operator knows a"
        " Prometheus, otherwise Metrics; what was taken once stays (status.resolved).",
    )
    mode: Mode | None = Field(
        None,
        description="Under Predictive and Reactive. Act: Nereus sets the number of pods. Advise: status.scaling says"
        " what it would set, and the autoscaler scales as under Metrics. When absent: Act.",
    )
    objective: Objective | None = Field(
        None, description="What is promised to clients. When absent: 500ms for 99 % of the requests."
    )
    capacity: Capacity | None = Field(
        None, description="What one pod sustains. When absent: learned from what Triton reports of each model."
    )
    forecast: Forecast | None = Field(
        None, description="How far the forecast looks back and ahead. When absent: see its fields."
    )
    schedules: Annotated[tuple[ScheduleEntry, ...], Field(min_length=1, max_length=32), Keyed(("name",))] | None = (
        Field(None, description="Other bounds at times. When absent: none.")
    )
    replicas: Annotated[int, Field(ge=0, le=10000)] | None = Field(
        None, description="Number of pods under strategy Manual; 0 stops all. When absent: 1."
    )
    min_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(None, description="Fewest pods. When absent: 1.")
    max_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Most pods. When absent: minReplicas, that is, no scaling."
    )
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Metrics of the HorizontalPodAutoscaler (autoscaling/v2); under Predictive and Reactive they"
        " only add pods, also when Nereus is gone. When absent: CPU of the Triton container at 70 % of its request,"
        " under Predictive and Reactive at 90 %.",
    )
    behavior: ScalingBehavior | None = Field(
        None,
        description="Pace of scaling up and down (autoscaling/v2). When absent: the Kubernetes default; under"
        " Predictive and Reactive the decision is carried out at once.",
    )
    limits: ScalingLimits | None = Field(
        None, description="What all pods may take together. When absent: only maxReplicas limits them."
    )
    rules = (
        Rule(
            cel="!has(self.replicas) || (has(self.strategy) && self.strategy == 'Manual')",
            message="scaling.replicas is for strategy Manual: set strategy Manual, or use minReplicas and maxReplicas",
            holds=lambda it: it.replicas is None or it.strategy is Strategy.MANUAL,
        ),
        Rule(
            cel="!has(self.strategy) || self.strategy != 'Manual' || (!has(self.minReplicas) && !has(self.maxReplicas)"
            " && !has(self.metrics) && !has(self.behavior) && !has(self.limits))",
            message="strategy Manual takes only scaling.replicas: remove minReplicas, maxReplicas, metrics, behavior,"
            " limits",
            holds=lambda it: (
                it.strategy is not Strategy.MANUAL
                or all(
                    value is None for value in (it.min_replicas, it.max_replicas, it.metrics, it.behavior, it.limits)
                )
            ),
        ),
        Rule(
            cel="!has(self.strategy) || self.strategy in ['Predictive', 'Reactive'] || (!has(self.mode)"
            " && !has(self.objective) && !has(self.capacity) && !has(self.forecast) && !has(self.schedules))",
            message="scaling.mode, objective, capacity, forecast and schedules are for strategy Predictive or Reactive:"
            " remove them, or set one of these strategies",
            holds=lambda it: (
                it.strategy in (None, Strategy.PREDICTIVE, Strategy.REACTIVE)
                or all(value is None for value in (it.mode, it.objective, it.capacity, it.forecast, it.schedules))
            ),
        ),
        Rule(
            cel="!has(self.strategy) || self.strategy != 'Reactive' || !has(self.forecast)",
            message="strategy Reactive forecasts nothing: remove scaling.forecast, or set strategy Predictive",
            holds=lambda it: it.strategy is not Strategy.REACTIVE or it.forecast is None,
        ),
        Rule(
            cel="!has(self.schedules) || self.schedules.all(entry, !has(entry.minReplicas) ||"
            " entry.minReplicas <= (has(self.maxReplicas) ? self.maxReplicas : has(self.minReplicas) ?"
            " self.minReplicas : 1))",
            message="a schedule's minReplicas is above scaling.maxReplicas: lower it, or raise scaling.maxReplicas",
            holds=lambda it: all(
                entry.min_replicas is None or entry.min_replicas <= (it.max_replicas or it.min_replicas or 1)
                for entry in it.schedules or ()
            ),
        ),
        Rule(
            cel="!has(self.schedules) || self.schedules.all(entry, !has(entry.maxReplicas) || entry.maxReplicas >="
            " (has(self.minReplicas) ? self.minReplicas : 1))",
            message="a schedule's maxReplicas is below scaling.minReplicas: raise it, or lower scaling.minReplicas",
            holds=lambda it: all(
                entry.max_replicas is None or entry.max_replicas >= (it.min_replicas or 1)
                for entry in it.schedules or ()
            ),
        ),
        Rule(
            cel="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="scaling.minReplicas is above scaling.maxReplicas: lower it or raise maxReplicas",
            holds=lambda it: it.min_replicas is None or it.max_replicas is None or it.min_replicas <= it.max_replicas,
        ),
    )
