"""`make bench BENCH=triton`: what a change costs, what batching wins, how long a pod starts, what the sidecar takes.

The two processes of a pod on this machine (tests.harness.rendered): the real sidecar and a real tritonserver without a
GPU, with a python model whose execution sleeps 5 ms + 0.2 ms per inference, so that the batcher is measured and not
this machine's arithmetic. Clients are gRPC, closed loop, one connection each, in one process beside the server: the
rates are those of such a small machine, the comparisons hold.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from demo.load import Load
from nereus.api.protocol import ModelPlan, PodReport
from nereus.api.service import read
from nereus.api.stages import Bundle, bundle
from nereus.rendering import render
from tests.harness.rendered import SETTINGS, Running, start
from tests.harness.resources import service

Json = dict[str, Any]
OUT = Path("build/bench")
MODEL = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        values = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        time.sleep(0.005 + 0.0002 * sum(len(value) for value in values))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", value * 2)]) for value in values]
"""
BATCHING: dict[str, Json] = {
    "no batching": {"mode": "Off"},
    "dynamic (what is absent means)": {},
    "preferred 4 and 8, delay 2 ms": {"preferredBatchSizes": [4, 8], "maxQueueDelay": "2ms"},
    "dynamic, delay 2 ms": {"maxQueueDelay": "2ms"},
    "dynamic, delay 20 ms": {"maxQueueDelay": "20ms"},
}
SETTLE_SECONDS = 3.0
"""After a reload the former model is still being unloaded (research: figures within 2.5 s are wrong)."""


def model(batching: Json) -> Json:
    tensor = {"dataType": "FP32", "dims": [1]}
    declared = {
        "name": "m",
        "source": {"uri": "configmap://files/m"},
        "backend": "python",
        "maxBatchSize": 32,
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
    }
    return {**declared, **({"batching": batching} if batching else {})}


class Pod:
    """The pod of a service with one model, at work."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root = root
        files = {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"m.model.py": MODEL}}
        self.running: Running = start([files, service(models=[model({})])], root, stack)
        self._batching: Json = {}

    @property
    def report(self) -> PodReport:
        return self.running.sidecar.report()

    def load(self, clients: int) -> Load:
        inputs = {"x": np.ones((1, 1), dtype=np.float32)}
        address = f"127.0.0.1:{self.running.server.grpc_port}"
        return Load(address, protocol="grpc", model="m", inputs=inputs, clients=clients)

    def change(self, batching: Json) -> float:
        """Writes the changed plan as the operator would; the seconds until this pod says that it serves it."""
        if batching == self._batching:
            return 0.0
        self._batching = batching
        resource = service(models=[model(batching)])
        rendered = render(read(resource), settings=SETTINGS)
        found: Bundle | None = bundle(
            {
                key: text
                for item in rendered.objects
                if item["kind"] == "ConfigMap"
                for key, text in item["data"].items()
            }
        )
        assert found is not None
        plans = [ModelPlan.from_json(text) for text in found.documents.values()]
        before = self.report.revision
        began = time.monotonic()
        self.running.sidecar.write_plan(
            *(dataclasses.replace(plan, directory=f"{self.root}{plan.directory}") for plan in plans)
        )
        self.running.sidecar.until(lambda: self._serves_another(before), seconds=120)
        return time.monotonic() - began

    def _serves_another(self, before: str) -> bool:
        report = self.report
        return report.revision != before and all(each.state.value == "Ready" for each in report.models)


def live_change(pod: Pod, clients: int, seconds: float) -> Json:
    """Batching changed back and forth under load; every request counts."""
    changes = []
    with pod.load(clients) as load:
        time.sleep(2)
        for batching in (BATCHING["no batching"], {}, {"preferredBatchSizes": [4, 8], "maxQueueDelay": "2ms"}, {}):
            changes.append(pod.change(batching))
            time.sleep(seconds)
    outcome = load.outcome
    return {
        "clients": clients,
        "changes": len(changes),
        "seconds_to_effect": [round(each, 2) for each in changes],
        "answered": outcome.answered,
        "failed": outcome.failed,
        "p99_ms": round(outcome.percentile(99) * 1000, 1),
        "longest_ms": round(max(outcome.latencies) * 1000, 1),
    }


def side_by_side(pod: Pod, clients: tuple[int, ...], seconds: float) -> list[Json]:
    rows: list[Json] = []
    for name, batching in BATCHING.items():
        pod.change(batching)
        time.sleep(SETTLE_SECONDS)
        row: Json = {"batching": name}
        for number in clients:
            with pod.load(number) as load:
                time.sleep(1)
                load.outcome.latencies.clear()
                begun, answered = time.monotonic(), load.outcome.answered
                time.sleep(seconds)
                rate = (load.outcome.answered - answered) / (time.monotonic() - begun)
                figures = {"rate": round(rate), "p50_ms": _ms(load, 50), "p99_ms": _ms(load, 99)}
            assert load.outcome.failed == 0, load.outcome.errors[:3]
            row[f"{number} clients"] = figures
        rows.append(row)
        _say(f"  {name}: {row}")
    return rows


def _ms(load: Load, percent: float) -> float:
    return round(load.outcome.percentile(percent) * 1000, 1)


def cold_start(pod: Pod) -> Json:
    """Seconds from the start of the sidecar, by what happened."""
    report = pod.report
    moments = (report.started_at, report.fetched_at, report.server_live_at, report.ready_at)
    started, fetched, live, ready = (moment or 0.0 for moment in moments)
    [said] = report.models
    return {
        "fetch": round(fetched - started, 2),
        "server starts": round(live - fetched, 2),
        "load": said.load_seconds,
        "ready": round(ready - started, 2),
    }


def sidecar_costs(pod: Pod, seconds: float) -> Json:
    """Memory, and processor time while nothing changes and while 32 clients are served."""
    process = pod.running.sidecar.process
    assert process is not None
    result: Json = {}
    for name, clients in (("idle", 0), ("32 clients", 32)):
        with pod.load(clients) if clients else contextlib.nullcontext():
            before, began = _cpu_seconds(process.pid), time.monotonic()
            time.sleep(seconds)
            share = (_cpu_seconds(process.pid) - before) / (time.monotonic() - began)
        result[f"{name}: percent of a core"] = round(100 * share, 2)
    status = Path(f"/proc/{process.pid}/status").read_text()
    result["rss_mib"] = round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)
    return result


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def one_pod() -> Iterator[Pod]:
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        yield Pod(Path(root), stack)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.triton", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement lasts")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32], help="clients of the comparison")
    arguments = parser.parse_args()
    with one_pod() as pod:
        result: Json = {"cold_start_seconds": cold_start(pod)}
        _say(f"cold start: {result['cold_start_seconds']}")
        result["sidecar"] = sidecar_costs(pod, 2 * arguments.seconds)
        _say(f"sidecar: {result['sidecar']}")
        _say("batching, side by side")
        result["batching"] = side_by_side(pod, tuple(arguments.clients), arguments.seconds)
        pod.change({"maxQueueDelay": "1ms"})
        result["live_change"] = live_change(pod, 32, arguments.seconds / 2)
        _say(f"live change: {result['live_change']}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "triton.json").write_text(json.dumps(result, indent=1) + "\n")
    _say(f"written to {OUT / 'triton.json'}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
