"""A source that gives recorded answers: rows per query, faults and warnings as a test sets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nereus.prometheus import queries
from nereus.prometheus.client import Answer, QueryError
from nereus.prometheus.options import Options
from nereus.prometheus.queries import Query, Scope
from nereus.prometheus.reader import Reader
from nereus.prometheus.reading import Key, Wanted

NOW = 1_700_000_000.0
SERVICE = Key("team", "resnet")
SCRAPE = 15.0


def row(value: float | str, key: Key = SERVICE, *, at: float = NOW, **labels: str) -> dict[str, Any]:
    """One row as Prometheus writes it."""
    metric = {"namespace": key.namespace, "serving_nereus_dev_service": key.name, **labels}
    return {"metric": metric, "value": [at, str(value)]}


def wanted(key: Key = SERVICE, *, ready: int = 2, models: Sequence[str] = ("m",), **fields: Any) -> Wanted:
    return Wanted(key=key, models=tuple(models), expected_ready=ready, **fields)


def healthy(key: Key = SERVICE, *, pods: int = 2, rate: float = 20.0, model: str = "m") -> dict[Query, list[Any]]:
    """A service whose pods run batches of four in 40 ms: 95 inferences/s within the objective."""
    return {
        Query.NEWEST: [row(NOW - 3, key)],
        Query.PODS: [row(pods, key)],
        Query.WHOLE: [row(pods, key)],
        Query.INFERENCES: [row(rate, key, model=model)],
        Query.REQUESTS: [row(rate, key, model=model)],
        Query.QUEUE: [row(0, key, model=model)],
        Query.FULLEST: [row(0, key, model=model)],
        Query.EXECUTIONS: [row(rate / 4, key, model=model)],
        Query.BUSY: [row(rate * 0.04, key, model=model)],
    }


@dataclass
class Recorded:
    """Answers by query; `faults` and `warnings` by query or, under None, for all."""

    rows: dict[Query, list[Any]] = field(default_factory=healthy)
    faults: dict[Query | None, QueryError] = field(default_factory=dict)
    warnings: dict[Query | None, tuple[str, ...]] = field(default_factory=dict)
    extra: list[tuple[str, list[Any]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    scope: Scope = field(default_factory=lambda: Scope(scrape_interval=SCRAPE))

    async def instant(self, query: str, *, within: float) -> Answer:
        assert within > 0
        self.asked.append(query)
        for pattern, rows in self.extra:
            if re.search(pattern, query):
                return Answer(rows=rows)
        names = {text: name for name, text in queries.tick(self.scope).items()}
        name = names.get(query)
        if fault := self.faults.get(name) or self.faults.get(None):
            raise fault
        rows = self.rows.get(name, []) if name else []
        return Answer(rows=rows, warnings=self.warnings.get(name) or self.warnings.get(None, ()))

    async def span(self, query: str, *, start: float, end: float, step: float, within: float) -> Answer:
        raise AssertionError(f"no history is asked for at a tick: {query}, {start}, {end}, {step}, {within}")

    def close(self) -> None:
        """Nothing is open."""


def reader(source: Recorded, *, clock: float = NOW, **options: Any) -> Reader:
    given = Options(address="http://prometheus:9090", scrape_interval=SCRAPE, **options)
    return Reader(given, source=source, clock=lambda: clock)
