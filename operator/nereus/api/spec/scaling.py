"""`spec.scaling`: how many pods."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Rule
from nereus.api.spec.section import Section
from nereus.api.values import MetricSpec, ScalingBehavior


class Strategy(StrEnum):
    METRICS = "Metrics"
    MANUAL = "Manual"


class Scaling(Section):
    """How many pods."""

    strategy: Strategy | None = Field(
        None,
        description="Metrics: a HorizontalPodAutoscaler with `metrics`. Manual: exactly `replicas`, also by kubectl"
        " scale. When absent: Metrics.",
    )
    replicas: Annotated[int, Field(ge=0, le=10000)] | None = Field(
        None, description="Number of pods under strategy Manual; 0 stops all. When absent: 1."
    )
    min_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Fewest pods under strategy Metrics. When absent: 1."
    )
    max_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Most pods under strategy Metrics. When absent: minReplicas, that is, no scaling."
    )
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Metrics of the HorizontalPodAutoscaler (autoscaling/v2). When absent: CPU of the Triton container"
        " at 70 % of its request.",
    )
    behavior: ScalingBehavior | None = Field(
        None, description="Pace of scaling up and down (autoscaling/v2). When absent: the Kubernetes default."
    )
    rules = (
        Rule(
            cel="!has(self.replicas) || (has(self.strategy) && self.strategy == 'Manual')",
            message="scaling.replicas is for strategy Manual: set strategy Manual, or use minReplicas and maxReplicas",
            holds=lambda it: it.replicas is None or it.strategy is Strategy.MANUAL,
        ),
        Rule(
            cel="!has(self.strategy) || self.strategy != 'Manual' || (!has(self.minReplicas) && !has(self.maxReplicas)"
            " && !has(self.metrics) && !has(self.behavior))",
            message="strategy Manual takes only scaling.replicas: remove minReplicas, maxReplicas, metrics, behavior",
            holds=lambda it: (
                it.strategy is not Strategy.MANUAL
                or all(value is None for value in (it.min_replicas, it.max_replicas, it.metrics, it.behavior))
            ),
        ),
        Rule(
            cel="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="scaling.minReplicas is above scaling.maxReplicas: lower it or raise maxReplicas",
            holds=lambda it: it.min_replicas is None or it.max_replicas is None or it.min_replicas <= it.max_replicas,
        ),
    )
