"""The answers of one tick become one reading per service. Pure: rows in, readings out; no clock and no I/O.

The order of the states is the order of doubt: an answer that is missing as a whole, then no series, then old samples,
then numbers that are none, then pods or models that were not seen, then windows with a hole. The first that
applies is the state; what was seen is reported with every one of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nereus.prometheus.capacity import Capacities, Measured
from nereus.prometheus.client import Answer, QueryError, Row
from nereus.prometheus.queries import ESSENTIAL, MODEL, Query, Scope
from nereus.prometheus.reading import Freshness, Key, ModelReading, Reading, Wanted
from nereus.scaling.capacity import ModelLoad, replica_equivalents

SKEW_WORTH_SAYING = 30.0
WHOLE_SHARE = 0.8
"""Of the pods that are seen, so many need a whole window: a few new pods among old ones are no gap."""
Value = float
PerService = dict[Key, Value]
PerModel = dict[tuple[Key, str], Value]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came back for each query: an answer or why there is none. `skew` is the server's clock minus ours."""

    got: Mapping[Query, Answer | QueryError]
    skew: float = 0.0

    def rows(self, query: Query) -> Sequence[Row]:
        answer = self.got.get(query)
        return answer.rows if isinstance(answer, Answer) else ()

    def failure(self) -> QueryError | None:
        """Why nothing is known, if an essential query failed."""
        failed = (self.got.get(query) for query in Query if query in ESSENTIAL)
        return next((answer for answer in failed if isinstance(answer, QueryError)), None)

    def doubts(self) -> tuple[str, ...]:
        """Sentences about parts that failed and about answers that say of themselves that they are incomplete."""
        said: dict[str, None] = {}
        for query, answer in self.got.items():
            if isinstance(answer, QueryError):
                said[f"the query for {query} failed: {answer.message}"] = None
            else:
                said |= dict.fromkeys(f"Prometheus warns: {warning}" for warning in answer.warnings)
        return tuple(said)


def readings(
    wanted: Sequence[Wanted], answers: Answers, scope: Scope, capacities: Capacities, *, now: float
) -> dict[Key, Reading]:
    """One reading for each wanted service. `now` is our clock (epoch seconds)."""
    at = now + answers.skew
    if failed := answers.failure():
        return {
            w.key: Reading(at=at, state=failed.state, message=failed.message, skew_seconds=answers.skew) for w in wanted
        }
    table = _Table(answers, scope)
    doubts = answers.doubts()
    return {w.key: _reading(w, table, doubts, scope, capacities, at=at, skew=answers.skew) for w in wanted}


class _Table:
    """Rows as dictionaries by service and model."""

    def __init__(self, answers: Answers, scope: Scope) -> None:
        self._scope = scope
        self.newest = self._services(answers.rows(Query.NEWEST))
        self.pods = self._services(answers.rows(Query.PODS))
        self.whole = self._services(answers.rows(Query.WHOLE))
        per_model: dict[Query, PerModel] = {
            query: self._models(answers.rows(query))
            for query in Query
            if query not in (Query.NEWEST, Query.PODS, Query.WHOLE, Query.CURVE, Query.LATE, Query.FAILURES)
        }
        self.of = per_model
        self.failures: PerModel = defaultdict(float)
        self.refused: set[tuple[Key, str]] = set()
        for row, key, value in self._each(answers.rows(Query.FAILURES)):
            model = key, row["metric"].get(MODEL, "")
            self.failures[model] += value
            if row["metric"].get("reason") == "REJECTED":
                self.refused.add(model)
        self.curve: dict[tuple[Key, str], dict[str, Value]] = defaultdict(dict)
        for row, key, value in self._each(answers.rows(Query.CURVE)):
            self.curve[key, row["metric"].get(MODEL, "")][row["metric"].get("__name__", "")] = value
        self.buckets: dict[tuple[Key, str], list[tuple[float, float]]] = defaultdict(list)
        for row, key, value in self._each(answers.rows(Query.LATE)):
            self.buckets[key, row["metric"].get(MODEL, "")].append((number(row["metric"].get("le")), value))
        self.names: dict[Key, set[str]] = defaultdict(set)
        for key, name in per_model[Query.INFERENCES]:
            self.names[key].add(name)

    def _each(self, rows: Iterable[Row]) -> Iterable[tuple[Row, Key, Value]]:
        namespace, service = self._scope.labels.namespace, self._scope.labels.service
        for row in rows:
            labels = row["metric"]
            yield row, Key(labels.get(namespace, ""), labels.get(service, "")), number(row["value"][1])

    def _services(self, rows: Iterable[Row]) -> PerService:
        return {key: value for _, key, value in self._each(rows)}

    def _models(self, rows: Iterable[Row]) -> PerModel:
        return {(key, row["metric"].get(MODEL, "")): value for row, key, value in self._each(rows)}


def _reading(
    wanted: Wanted,
    table: _Table,
    doubts: tuple[str, ...],
    scope: Scope,
    capacities: Capacities,
    *,
    at: float,
    skew: float,
) -> Reading:
    key = wanted.key
    names = wanted.models or tuple(sorted(table.names.get(key, ())))
    newest = table.newest.get(key)
    fresh = newest is not None and at - newest <= scope.stale_after
    pods = int(table.pods.get(key, 0.0)) if fresh else 0
    measured = {name: _measured(table, key, name) for name in names} if fresh else {}
    learned = capacities.learn(wanted, measured) if fresh else {}
    recovering = table.whole.get(key, 0.0) < WHOLE_SHARE * pods
    models = (
        {
            name: _model(wanted, table, scope, name, measured[name], capacity=learned.get(name), recovering=recovering)
            for name in names
        }
        if fresh
        else {}
    )
    state, message = _state(
        wanted, table, models, doubts, scope, newest=newest, pods=pods, recovering=recovering, at=at
    )
    load = replica_equivalents([ModelLoad(offered=m.rate, capacity=m.capacity) for m in models.values()])
    if load is not None and pods and wanted.expected_ready > pods:
        load *= wanted.expected_ready / pods
    if abs(skew) > SKEW_WORTH_SAYING:
        message = f"{message}{'; ' if message else ''}the clock of Prometheus is {skew:+.0f} s from ours"
    return Reading(
        at=newest if newest is not None else at,
        state=state,
        load=load if models else None,
        models=models,
        pods_seen=pods,
        skew_seconds=skew,
        message=message,
        hint=_too_short(wanted, names, capacities),
    )


def _too_short(wanted: Wanted, names: Iterable[str], capacities: Capacities) -> str:
    """Says when the objective cannot be kept by any number of pods: one execution alone takes longer."""
    slow = {
        name: seconds for name in names if (seconds := capacities.fastest(wanted, name) or 0) > wanted.latency_seconds
    }
    if not slow:
        return ""
    name = max(slow, key=lambda each: slow[each])
    return (
        f"one inference of {name} takes {slow[name]:.2g} s, longer than the objective of {wanted.latency_seconds:g} s:"
        " no number of pods keeps it; raise spec.scaling.objective.latency or make the model faster"
    )


def _state(
    wanted: Wanted,
    table: _Table,
    models: Mapping[str, ModelReading],
    doubts: tuple[str, ...],
    scope: Scope,
    *,
    newest: float | None,
    pods: int,
    recovering: bool,
    at: float,
) -> tuple[Freshness, str]:
    key, expected = wanted.key, wanted.expected_ready
    if newest is None and expected == 0:
        return Freshness.NO_PODS, "no pod is ready, so there is no load to read yet"
    if newest is None:
        return Freshness.MISSING, (
            f"Prometheus has no nv_inference_count of this service although {expected} pods are ready: check that their"
            f" metrics port is scraped (PodMonitor or annotations) and that series carry the labels"
            f" {scope.labels.namespace} and {scope.labels.service}"
        )
    if not models and at - newest > scope.stale_after:
        if expected == 0:
            return Freshness.NO_PODS, "no pod is ready, so there is no load to read yet"
        return Freshness.STALE, (
            f"the newest sample is {at - newest:.0f} s old, scrapes come every {scope.scrape_interval:.0f} s: look at"
            " the targets page of Prometheus, at remote write when it is a central store, and at its clock"
        )
    done = table.of[Query.INFERENCES]
    if bad := sorted(name for name in models if not math.isfinite(done.get((key, name), 0.0))):
        return (
            Freshness.INVALID,
            f"the rate of {', '.join(bad)} is not a number: look at nv_inference_count in Prometheus",
        )
    if doubts:
        return Freshness.PARTIAL, "; ".join(doubts[:2])
    if pods < expected:
        return Freshness.PARTIAL, (
            f"{pods} of {expected} ready pods have current samples; the others are taken to have as much load: look at"
            " the targets page of Prometheus"
        )
    if recovering:
        return Freshness.RECOVERING, (
            f"samples arrive, and rates need {scope.window:.0f} s without a gap; when this stays, pods are scraped less"
            f" often than every {scope.scrape_interval:.0f} s: set --prometheus-scrape-interval"
        )
    if unseen := sorted(name for name, model in models.items() if model.rate is None):
        return Freshness.PARTIAL, (
            f"no series of {', '.join(unseen)}: the model is not loaded in any pod that is scraped, or not for a whole"
            " minute yet"
        )
    return Freshness.FRESH, ""


def _measured(table: _Table, key: Key, name: str) -> Measured:
    model = key, name
    curve = table.curve.get(model, {})
    requests = table.of[Query.REQUESTS].get(model)
    return Measured(
        executions=table.of[Query.EXECUTIONS].get(model),
        inferences=table.of[Query.INFERENCES].get(model),
        requests=None if requests is None else requests - table.of[Query.HITS].get(model, 0.0),
        busy=table.of[Query.BUSY].get(model),
        fixed_seconds=curve.get("nereus_model_batch_fixed_seconds"),
        seconds_per_inference=curve.get("nereus_model_batch_seconds_per_inference"),
        batch_seen_max=curve.get("nereus_model_batch_seen_max"),
    )


def _model(
    wanted: Wanted,
    table: _Table,
    scope: Scope,
    name: str,
    measured: Measured,
    *,
    capacity: float | None,
    recovering: bool,
) -> ModelReading:
    model = wanted.key, name
    done, each = measured.inferences, 1.0
    if done and measured.requests and measured.requests > 0:
        each = max(1.0, done / measured.requests)
    waiting, fullest = table.of[Query.QUEUE].get(model), table.of[Query.FULLEST].get(model, 0.0)
    limit = wanted.queue_limits.get(name, 0)
    if recovering and (recent := table.of[Query.RECENT].get(model)) is not None:
        # Over a window with a hole a rate is too low; the last two samples are exact, and too few to lower anything by.
        done = recent if done is None else max(done, recent)
    hidden = (table.failures.get(model, 0.0) + table.of[Query.GROWTH].get(model, 0.0)) * each
    offered = None if done is None else done + hidden - _warmed_up(wanted, table, scope, name)
    return ModelReading(
        rate=max(0.0, offered) if offered is not None and math.isfinite(offered) else None,
        queue=None if waiting is None or not math.isfinite(waiting) else max(0.0, waiting) * each,
        late=_late(table.buckets.get(model, []), wanted.latency_seconds * 1000),
        capacity=capacity,
        lower_bound=(limit > 0 and fullest >= limit) or model in table.refused,
    )


def _warmed_up(wanted: Wanted, table: _Table, scope: Scope, name: str) -> float:
    """Inferences per second that were warm-up: never more than what pods added whose count was zero in this window."""
    model = wanted.key, name
    rising, begun = table.of[Query.RISING].get(model, 0.0), table.of[Query.BEGUN].get(model, 0.0)
    return min(rising, begun * wanted.warm_up.get(name, 0) / scope.window)


def _late(buckets: list[tuple[float, float]], objective_ms: float) -> float | None:
    """Share of answers slower than the objective, from a cumulative histogram; straight lines inside a bucket."""
    points = sorted((bound, count) for bound, count in buckets if not math.isnan(bound) and math.isfinite(count))
    if not points or not math.isinf(points[-1][0]) or points[-1][1] <= 0:
        return None
    total, low, below = points[-1][1], 0.0, 0.0
    for bound, count in points:
        if bound >= objective_ms:
            share = 0.0 if math.isinf(bound) else (objective_ms - low) / (bound - low)
            return min(1.0, max(0.0, 1 - (below + share * (count - below)) / total))
        low, below = bound, count
    return None


def number(text: object) -> float:
    """A value as Prometheus writes it; NaN for what is none."""
    try:
        return float(str(text))
    except ValueError:
        return math.nan
