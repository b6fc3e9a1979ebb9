"""PromQL for the scaling tick, whatever the number of services. Pure.

Every query groups by service (and model), so the number of queries is constant and the size of an answer grows with
services, not with pods. Series are first reduced to one per pod, model and version with `max`: a pod that is scraped by
two jobs, or read from a pair of Prometheus servers without deduplication, is not counted twice.

Rates are sums of increases over one window of four scrapes. Over a whole window that conserves what was counted: the
series of a pod that died fades out at the pace at which its load appears at the others. Over a window with a hole it
does not, which is why `WHOLE` counts the pods whose window is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nereus.prometheus.options import Labels, split_matchers

SCRAPES_PER_WINDOW = 4
LEAST_WINDOW = 15.0
"""Seconds: the tick. A shorter window would leave out what happened between two ticks."""
SCRAPES_UNTIL_STALE = 3
"""A sample this many scrapes old (and at least `LEAST_STALE` seconds) says nothing about now."""
LEAST_STALE = 5.0
INTERVAL_SPANS = ((300.0, 150.0), (60.0, 30.0))
"""Seconds over which samples are counted to learn how often pods are scraped: a span and the later half of it. The
second pair is for pods (or a Prometheus) that are minutes old."""
MODEL = "model"
VERSION = "version"


class Query(StrEnum):
    """What is asked at every tick. Values are names for messages and metrics."""

    NEWEST = "newest sample"
    PODS = "pods seen"
    WHOLE = "pods with a whole window"
    INFERENCES = "inferences"
    RECENT = "inferences of the last scrape"
    REQUESTS = "requests"
    HITS = "cache hits"
    FAILURES = "failures"
    QUEUE = "queue"
    FULLEST = "fullest queue"
    GROWTH = "growth of the queue"
    EXECUTIONS = "executions"
    BUSY = "compute time"
    CURVE = "cost curve"
    LATE = "latency histogram"
    RISING = "inferences of pods that began at zero"
    BEGUN = "pods that began at zero"


ESSENTIAL = frozenset({Query.NEWEST, Query.PODS, Query.WHOLE, Query.INFERENCES})
"""Without these nothing is known; without another one, a part is."""
FOR_WARM_UP = frozenset({Query.RISING, Query.BEGUN})
"""Asked only where a model is warmed up: what Triton counts of it has to be taken off again."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which series, and how often they are scraped (seconds)."""

    labels: Labels = field(default_factory=Labels)
    matchers: str = ""
    scrape_interval: float = 15.0
    namespaces: tuple[str, ...] = ()
    window_seconds: float = 0.0

    @property
    def window(self) -> float:
        """Seconds over which rates are taken: four scrapes (and at least a tick) unless given."""
        return self.window_seconds or max(LEAST_WINDOW, SCRAPES_PER_WINDOW * self.scrape_interval)

    @property
    def stale_after(self) -> float:
        """Age in seconds at which the newest sample is too old."""
        return max(LEAST_STALE, SCRAPES_UNTIL_STALE * self.scrape_interval)

    @property
    def whole_count(self) -> int:
        """Samples that a whole window holds at least."""
        return max(2, int(self.window / self.scrape_interval + 1e-6))

    @property
    def begun(self) -> str:
        """The first scrape of a window, with some room for scrapes that are not quite regular: range and offset."""
        first = min(1.25 * self.scrape_interval, self.window)
        return f"[{seconds(first)}] offset {seconds(self.window - first)}"

    @property
    def selector(self) -> str:
        """Label matchers of every series that belongs to a service."""
        parts = [f'{self.labels.service}!=""', *(part.strip() for part in split_matchers(self.matchers))]
        if self.namespaces:
            parts.append(f"{self.labels.namespace}=~{regex(self.namespaces)}")
        return ",".join(parts)


def seconds(value: float) -> str:
    """A PromQL duration."""
    return f"{round(value * 1000)}ms" if value % 1 else f"{round(value)}s"


def regex(words: Iterable[str]) -> str:
    """A quoted regular expression for one of these words; names of Kubernetes need no escapes but for the dot."""
    return '"' + "|".join(sorted(word.replace(".", r"\\.") for word in words)) + '"'


def tick(scope: Scope) -> Mapping[Query, str]:
    """Every query of one tick."""
    labels, where, window = scope.labels, scope.selector, f"[{seconds(scope.window)}]"
    service = f"{labels.namespace},{labels.service}"
    model = f"{service},{MODEL}"
    pod = f"{service},{labels.pod}"
    series = f"{pod},{MODEL},{VERSION}"

    def summed(inner: str, by: str = model, per: str = series) -> str:
        return f"sum by ({by}) (max by ({per}) ({inner}))"

    def rate(metric: str) -> str:
        return summed(f"rate({metric}{{{where}}}{window})")

    def busy(part: str) -> str:
        return f"rate(nv_inference_compute_{part}_duration_us{{{where}}}{window})"

    count = f"nv_inference_count{{{where}}}"
    failure = f"nv_inference_request_failure{{{where}}}"
    pending = f"nv_inference_pending_request_count{{{where}}}"
    bucket = f"nv_inference_first_response_histogram_ms_bucket{{{where}}}"
    seen = f"timestamp({count}) > time() - {scope.stale_after:g}"
    # Enough samples do not make a window whole: when scrapes come faster than assumed, a new pod soon has them.
    whole = f"count_over_time({count}{window}) >= {scope.whole_count} and count_over_time({count}{scope.begun}) > 0"
    rising = f"(rate({count}{window}) > 0) and (min_over_time({count}{window}) == 0)"
    return {
        Query.NEWEST: f"max by ({service}) (timestamp({count}))",
        Query.PODS: f"count by ({service}) (max by ({pod}) ({seen}))",
        Query.WHOLE: f"count by ({service}) (max by ({pod}) ({whole}))",
        Query.INFERENCES: rate("nv_inference_count"),
        Query.RECENT: summed(f"irate({count}{window}) and ({seen})"),
        Query.REQUESTS: rate("nv_inference_request_success"),
        Query.HITS: f"{rate('nv_cache_num_hits_per_model')} > 0",
        Query.FAILURES: f"{summed(f'rate({failure}{window})', f'{model},reason', f'{series},reason')} > 0",
        Query.QUEUE: summed(pending),
        Query.FULLEST: f"max by ({model}) ({pending})",
        Query.GROWTH: f"{summed(f'delta({pending}{window})')} / {scope.window:g} != 0",
        Query.EXECUTIONS: rate("nv_inference_exec_count"),
        Query.BUSY: f"{summed(' + '.join(map(busy, ('input', 'infer', 'output'))))} / 1e6",
        Query.CURVE: _curve(model, where),
        Query.LATE: summed(f"rate({bucket}{window})", f"{model},le", f"{series},le"),
        Query.RISING: summed(rising),
        Query.BEGUN: f"count by ({model}) (max by ({series}) ({rising}))",
    }


def _curve(model: str, where: str) -> str:
    """The cost curve that sidecars fit, with the name of the metric as a label: mean of the fits, largest batch."""
    fits = f'{{__name__=~"nereus_model_batch_(fixed_seconds|seconds_per_inference)",{where}}}'
    largest = f'{{__name__="nereus_model_batch_seen_max",{where}}}'
    return f"avg by (__name__,{model}) ({fits}) or max by (__name__,{model}) ({largest})"


def scrape_interval(scope: Scope) -> str:
    """How many samples a series usually got in each of the spans, as label `of`."""
    count = f"nv_inference_count{{{scope.selector}}}"
    parts = (
        f'label_replace(quantile(0.5, count_over_time({count}[{seconds(span)}])), "of", "{span:g}", "", "")'
        for span in (span for pair in INTERVAL_SPANS for span in pair)
    )
    return " or ".join(parts)


def unlabelled(scope: Scope) -> str:
    """How many series of Triton there are that no service can be told from."""
    return f'count(nv_inference_count{{{scope.labels.service}=""}})'
