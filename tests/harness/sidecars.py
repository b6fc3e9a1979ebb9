"""Sidecars for pods on KWOK nodes: one process that answers on every pod's address as a sidecar would.

KWOK pods have no containers, so nobody in them could say that the models are served. This answers the sidecar
protocol from what a real sidecar would have mounted: the plan of the moment when the pod began, and a newer one only
once the pod was nudged (the kubelet's behaviour). A model whose source is `configmap://broken` cannot be fetched;
one with the parameter `refuse_me` in its configText is one that Triton refuses to load; a pod of a service with a model
from `configmap://silent` does not answer at all.

Run inside the network namespace of the cluster: `python -m tests.harness.sidecars KUBECONFIG KUBECTL POD_RANGE`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nereus.api import names, stages
from nereus.api.protocol import ModelPlan, ModelReport, ModelState, PodReport
from tests.harness.apiserver import Api, Json

REFRESH_SECONDS = 0.2
LARGE_BYTES = 200 * 2**20
"""What a model from `configmap://large` is said to take."""


class World:
    """Pods by address, and the plan that each has mounted."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._pods: dict[str, Json] = {}
        self._read_at = 0.0
        self._lock = threading.Lock()
        self._mounted: dict[tuple[str, str], Json] = {}

    def report(self, address: str) -> PodReport | None:
        """What the sidecar of the pod with this address says; None: nothing."""
        with self._lock:
            pod = self._pod(address)
            if pod is None:
                return None
            shards = self._plan(pod)
        found = stages.bundle(shards)
        tried = stages.next_bundle(shards)
        if tried and tried[0].runs_in(pod["metadata"]["name"]):
            found = tried[1]
        if found is None:
            return None
        models = [ModelPlan.from_json(text) for text in found.documents.values()]
        if any(model.source.startswith("configmap://silent") for model in models):
            return None
        reports = tuple(_model(model) for model in models)
        began = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
        served = all(report.serving for report in reports)
        return PodReport(
            revision=found.revision,
            models=reports,
            stages=True,
            ready=served,
            server_live=True,
            started_at=began + 1,
            fetched_at=began + 2,
            server_live_at=began + 3,
            ready_at=began + 4 if served else None,
        )

    def _pod(self, address: str) -> Json | None:
        began = time.monotonic()
        if began >= self._read_at:
            pods = self._api.get(f"/api/v1/pods?labelSelector={names.LABEL_SERVICE}&resourceVersion=0")["items"]
            self._pods = {pod["status"].get("podIP", ""): pod for pod in pods}
            # Many pods take long to list: never spend most of the time on it.
            self._read_at = time.monotonic() + max(REFRESH_SECONDS, 4 * (time.monotonic() - began))
        return self._pods.get(address)

    def _plan(self, pod: Json) -> Json:
        metadata = pod["metadata"]
        nudge = (metadata.get("annotations") or {}).get(names.ANNOTATION_NUDGE, "")
        key = (metadata["uid"], nudge)
        if key not in self._mounted:
            service = metadata["labels"][names.LABEL_SERVICE]
            data: Json = {}
            for shard in range(names.PLAN_SHARDS):
                name = names.plan_config_map(service, shard)
                answer = self._api.request("GET", f"/api/v1/namespaces/{metadata['namespace']}/configmaps/{name}")
                data.update(answer.body.get("data") or {})
            self._mounted[key] = data
        return self._mounted[key]


def _model(plan: ModelPlan) -> ModelReport:
    if plan.source.startswith("configmap://broken"):
        words = f"{plan.source}: no such ConfigMap"
        return ModelReport(name=plan.name, state=ModelState.FETCH_FAILED, message=words)
    if "refuse_me" in plan.config_text:
        words = "Triton says no"
        return ModelReport(name=plan.name, state=ModelState.LOAD_FAILED, message=words, serving=True, versions=("1",))
    return ModelReport(
        name=plan.name,
        state=ModelState.READY,
        serving=True,
        versions=("1",),
        load_seconds=1.0,
        version_bytes=LARGE_BYTES if plan.source.startswith("configmap://large") else 1000,
    )


def serve(world: World) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            report = world.report(str(self.connection.getsockname()[0]))
            body = report.to_json().encode() if report else b"{}"
            self.send_response(200 if report else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            with contextlib.suppress(BrokenPipeError):  # asked with a deadline that is over
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads a line per poll."""

    ThreadingHTTPServer.request_queue_size = 256
    server = ThreadingHTTPServer(("", names.SIDECAR_PORT), Handler)
    server.daemon_threads = True
    print(json.dumps({"listening": names.SIDECAR_PORT}), flush=True)
    server.serve_forever()


def main() -> None:
    kubeconfig, kubectl, pod_range = sys.argv[1:]
    # Every address of the range is one of this process; only packets inside the namespace see it.
    subprocess.run(["ip", "route", "replace", "local", pod_range, "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        serve(World(Api(Path(kubeconfig), kubectl=kubectl, scratch=Path(scratch))))


if __name__ == "__main__":
    main()
