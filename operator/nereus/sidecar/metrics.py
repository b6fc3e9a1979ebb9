"""The sidecar's metrics in Prometheus' text format, written by hand: ten lines need no client library.

The labels are the model's name, of which a plan holds at most a few hundred, and its few versions.
"""

from __future__ import annotations

from collections.abc import Iterable

from nereus.api.protocol import ModelState
from nereus.sidecar.state import Board

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(board: Board) -> str:
    """All series of this pod."""
    ready = board.settle()
    records = [record for _, record in sorted(board.records.items())]
    started, moments = board.moments.started_at, board.moments

    def since_start(moment: float | None) -> list[tuple[str, float]]:
        return [("", round(moment - started, 3))] if moment is not None and started is not None else []

    lines = [
        *_family(
            *("nereus_model_fetch_seconds", "gauge", "How long the last fetch of the model's source took."),
            ((_model(r.name), r.fetch_seconds) for r in records),
        ),
        *_family(
            *("nereus_model_fetch_bytes", "gauge", "Size of the model's source as fetched."),
            ((_model(r.name), r.fetched_bytes) for r in records),
        ),
        *_family(
            *("nereus_model_load_seconds", "gauge", "How long Triton took for the last load, warm-up included."),
            ((_model(r.name), r.load_seconds) for r in records),
        ),
        *_family(
            *("nereus_model_loads_total", "counter", "Loads that Triton carried out or refused since the start."),
            ((_model(r.name), r.loads) for r in records),
        ),
        *_family(
            *("nereus_model_load_failures_total", "counter", "Loads that Triton refused since the sidecar started."),
            ((_model(r.name), r.load_failures) for r in records),
        ),
        *_family(
            *("nereus_model_ready", "gauge", "1 while any version of the model answers."),
            ((_model(r.name), int(r.serving)) for r in records),
        ),
        *_family(
            *("nereus_model_current", "gauge", "1 while what answers is what the plan wants."),
            ((_model(r.name), int(r.state is ModelState.READY)) for r in records),
        ),
        *_family(
            *(
                "nereus_model_drifts_total",
                "counter",
                "Times somebody changed the model in Triton and it was put right.",
            ),
            ((_model(r.name), r.drifts) for r in records),
        ),
        *_costs(board),
        *_family("nereus_pod_ready", "gauge", "1 while this pod takes requests.", [("", int(ready))]),
        *_family("nereus_pod_draining", "gauge", "1 while this pod is about to stop.", [("", int(board.draining))]),
        *_family(
            *("nereus_pod_fetched_seconds", "gauge", "From the sidecar's start until every source was fetched."),
            since_start(moments.fetched_at),
        ),
        *_family(
            *("nereus_pod_ready_seconds", "gauge", "From the sidecar's start until every model served."),
            since_start(moments.ready_at),
        ),
    ]
    return "\n".join(lines) + "\n"


def _costs(board: Board) -> list[str]:
    """What a batch of a model costs, seconds = fixed + each * batch, for batches up to the largest seen."""
    lines = sorted(board.costs.items())
    return [
        *_family(
            *("nereus_model_batch_fixed_seconds", "gauge", "Part of a batch's time that does not depend on its size."),
            ((_version(key), float(f"{line.fixed_seconds:.6g}")) for key, line in lines),
        ),
        *_family(
            *("nereus_model_batch_seconds_per_inference", "gauge", "Part of a batch's time that each inference adds."),
            ((_version(key), float(f"{line.seconds_per_inference:.6g}")) for key, line in lines),
        ),
        *_family(
            *("nereus_model_batch_seen_max", "gauge", "Largest batch that was run; nothing is known of larger ones."),
            ((_version(key), line.largest) for key, line in lines),
        ),
        *_family(
            *("nereus_model_batch_samples", "gauge", "Executions behind the cost of a batch."),
            ((_version(key), line.samples) for key, line in lines),
        ),
        *_family(
            *(
                "nereus_model_batch_residual",
                "gauge",
                "Relative distance of the measured times from the line; 0 is best.",
            ),
            ((_version(key), float(f"{line.residual:.3g}")) for key, line in lines),
        ),
    ]


def _family(name: str, kind: str, words: str, samples: Iterable[tuple[str, float | None]]) -> list[str]:
    lines = [f"{name}{labels} {value}" for labels, value in samples if value is not None]
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}", *lines] if lines else []


def _model(name: str) -> str:
    return f'{{model="{_escaped(name)}"}}'


def _version(key: tuple[str, str]) -> str:
    return f'{{model="{_escaped(key[0])}",version="{_escaped(key[1])}"}}'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
