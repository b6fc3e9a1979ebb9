"""Recording rules for the load: the queries of the tick, evaluated by Prometheus itself. Pure.

With them a tick reads a few series per service instead of computing rates over every series of every pod, and
dashboards and alerts can use the same figures. The price is one evaluation of delay and rules that somebody has to
load; so raw series are what is read unless `--prometheus-recorded` says otherwise. Cost curves, histograms and warm-up
are always read raw: they are rare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nereus.prometheus import queries
from nereus.prometheus.queries import Query, Scope

RECORDS: Mapping[Query, str] = {
    Query.NEWEST: "nereus:service:newest_sample_seconds",
    Query.PODS: "nereus:service:pods_seen",
    Query.WHOLE: "nereus:service:pods_whole",
    Query.INFERENCES: "nereus:model:inferences:rate",
    Query.RECENT: "nereus:model:inferences:irate",
    Query.REQUESTS: "nereus:model:requests:rate",
    Query.HITS: "nereus:model:cache_hits:rate",
    Query.FAILURES: "nereus:model:failures:rate",
    Query.QUEUE: "nereus:model:queue",
    Query.FULLEST: "nereus:model:queue:max",
    Query.GROWTH: "nereus:model:queue:delta",
    Query.EXECUTIONS: "nereus:model:executions:rate",
    Query.BUSY: "nereus:model:compute_seconds:rate",
}


def group(scope: Scope) -> dict[str, Any]:
    """The rule group, for one interval between scrapes; evaluated once per scrape."""
    asked = queries.tick(scope)
    return {
        "name": "nereus-load",
        "interval": queries.seconds(scope.scrape_interval),
        "rules": [{"record": name, "expr": asked[query]} for query, name in RECORDS.items()],
    }


def tick(scope: Scope) -> Mapping[Query, str]:
    """Every query of one tick, from recorded series where there is one."""
    recorded = {query: f"{name}{{{scope.selector}}}" for query, name in RECORDS.items()}
    return {query: recorded.get(query, text) for query, text in queries.tick(scope).items()}
