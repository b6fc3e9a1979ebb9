"""What the scaling tick knows of each service from the store: its goal, its pods, what to read of it.

Kept between ticks and made anew only for services that changed, so that a tick costs little however many services
there are. No I/O; every replica of the operator has it, whoever leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nereus.api.problems import InvalidSpecError
from nereus.api.service import ModelService, read
from nereus.api.spec.scaling import Strategy
from nereus.controller.kinds import DEPLOYMENT, MODEL_SERVICE, POD
from nereus.controller.store import Key, Store
from nereus.diagnosis.objects import Pod
from nereus.diagnosis.reading import mapping, number
from nereus.prometheus.reading import Key as ReadingKey
from nereus.prometheus.reading import Reading, Wanted
from nereus.scaling.goal import Goal, goal, problems
from nereus.scaling.roster import Seen

BREATH = 20
"""Services looked at before others may work: some milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One service whose number of pods Nereus decides, or would decide. `cold_start` in seconds; `told_capacity` is
    what the status says that a pod sustains, in inferences per second: used until a model has run before our eyes."""

    goal: Goal
    wanted: Wanted
    ready: int
    starting: int
    unplaced: int
    cold_start: float | None
    told_capacity: float | None
    history_days: float | None

    def seen(self, reading: Reading | None) -> Seen:
        """What the policy is told: the pods, and the reading as far as it can be believed."""
        pods = Seen(
            ready=self.ready,
            starting=self.starting,
            unplaced=self.unplaced,
            cold_start=self.cold_start,
            may_lower=False,
        )
        if reading is None:
            return pods
        capacity = self.goal.capacity or reading.capacity or self.told_capacity
        rate = reading.rate
        if self.goal.capacity is None and reading.load is not None and capacity:
            rate = reading.load * capacity  # pods that were not seen are counted in it
        return replace(
            pods,
            rate=rate,
            capacity=capacity,
            queue=reading.queue,
            late=reading.late,
            may_lower=reading.state.may_lower and not reading.lower_bound,
            metrics=reading.state.value,
            fault=reading.state.is_fault,
            message=reading.message,
            hint=reading.hint,
        )


class Subjects:
    """All services that are decided for. `touched` names one that may have changed."""

    def __init__(self, store: Store, *, absent_strategy: Strategy) -> None:
        self._store = store
        self._absent = absent_strategy
        self._known: dict[Key, Subject] = {}
        self._touched: set[Key] = set()

    def touched(self, key: Key) -> None:
        self._touched.add(key)

    def known(self) -> Mapping[Key, Subject]:
        """All of them, as they were at the last `refresh`."""
        return self._known

    async def refresh(self) -> Mapping[Key, Subject]:
        """All of them, as the store has them now. Lets others work in between: at the start all are new."""
        touched, self._touched = self._touched, set()
        for number_done, key in enumerate(touched, 1):
            if number_done % BREATH == 0:
                await asyncio.sleep(0)
            made = self._subject(key)
            if made is None:
                self._known.pop(key, None)
            else:
                self._known[key] = made
        return self._known

    def _subject(self, key: Key) -> Subject | None:
        resource = self._store.get(MODEL_SERVICE, key)
        if resource is None or resource["metadata"].get("deletionTimestamp"):
            return None
        try:
            service = read(resource, absent_strategy=self._absent)
        except InvalidSpecError:
            return None  # nothing that runs is touched
        if not service.forecasts or service.suspended or any(problems(service)):
            return None
        deployment = self._store.get(DEPLOYMENT, key)
        told = number(mapping((deployment or {}).get("spec")).get("replicas"), 1)
        pods = [pod for pod in (Pod.read(item) for item in self._store.children(key, POD)) if pod.live]
        ready = sum(pod.ready for pod in pods)
        # The Deployment's number counts, not the pods': a rolling change has more of them for a while.
        starting = max(0, told - ready)
        placed = [pod.condition("PodScheduled") for pod in pods if not pod.ready]
        unplaced = sum(fact.is_false and fact.reason == "Unschedulable" for fact in placed)
        forecast = service.scaling.forecast
        history = forecast.history if forecast else None
        asked = goal(service)
        return Subject(
            goal=asked,
            wanted=_wanted(service, key, ready, asked.latency),
            ready=min(ready, told),
            starting=starting,
            unplaced=min(unplaced, starting),
            cold_start=_told(resource, "coldStart", "p95"),
            told_capacity=_told(resource, "scaling", "capacity"),
            history_days=history.seconds / 86_400 if history else None,
        )


def _wanted(service: ModelService, key: Key, ready: int, latency_seconds: float) -> Wanted:
    counted = [model for model in service.models if model.ensemble is None]
    instances = {model.name: model.instances.count or 1 for model in counted if model.instances}
    queues = {
        model.name: model.batching.queue.max_size
        for model in counted
        if model.batching and model.batching.queue and model.batching.queue.max_size
    }
    return Wanted(
        key=ReadingKey(*key),
        models=tuple(model.name for model in counted),
        expected_ready=ready,
        latency_seconds=latency_seconds,
        instances=instances,
        queue_limits=queues,
    )


def _told(resource: Mapping[str, Any], part: str, figure: str) -> float | None:
    """A figure of the status, which outlives the operator that measured it; None when it is not there."""
    measured = mapping(mapping(resource.get("status")).get(part)).get(figure)
    return float(measured) if isinstance(measured, int | float) and measured > 0 else None
