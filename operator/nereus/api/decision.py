"""What was decided about the number of pods of one service, and why: the value that scaling hands to all others.

Here because the rooms that render it (the autoscaler's floor), explain it (the status) and serve it (the External
Metrics API) must not know the room that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScalingDecision:
    """One decision. Loads and forecasts are in replica-equivalents: offered rate divided by what one pod sustains.

    `replicas` is within `least`..`most`. `known` is false while it rests on nothing that was read: then it only holds
    what is there, and the autoscaler's own floor stays. `reactive` is what the present load alone asks for;
    `forecast` the median and `forecast_high` the 95 % bound of the highest load until `horizon_seconds` from now.
    `limited_by` is one word, a value of `nereus.scaling.protocol.LimitedBy`. `trusted` is None while the forecast is
    too young to be judged, or there is none. `metrics` is one word for the state of the data, a value of
    `nereus.prometheus.reading.Freshness`; `metrics_ok` is None while nothing can be said. `hint` is advice on the
    objective, empty when there is none.
    """

    id: str
    at: float
    replicas: int
    known: bool
    least: int
    most: int
    message: str
    limited_by: str = "Nothing"
    load: float | None = None
    capacity: float | None = None
    reactive: int | None = None
    forecast: float | None = None
    forecast_high: float | None = None
    horizon_seconds: float | None = None
    error: float | None = None
    trusted: bool | None = None
    trust_message: str = ""
    metrics: str = ""
    metrics_ok: bool | None = None
    metrics_message: str = ""
    hint: str = ""
