"""The demo as a person sees it: each step with its elapsed time, and never silent for long.

A service is applied, becomes ready, answers over both protocols, is put under load until it scales, and explains
itself in kubectl.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from demo import clusters, install
from demo.install import EXAMPLE, USER_NAMESPACE
from demo.kube import SIGN_SECONDS, Kube, StepError, condition_of
from demo.load import Inputs, Load, tensors

SERVICE = "quickstart"
MODEL = "classifier"
READY_WITHIN_SECONDS = 240.0
SCALED_WITHIN_SECONDS = 180.0
METRICS_API = "v1beta1.metrics.k8s.io"
CLIENTS = 8
LOAD_WITHIN_SECONDS = 60.0
"""Two ticks of 15 s, a window of rates and a scrape: when the load is known at the latest if nothing is wrong."""
LEARNING = (
    "load not known yet: what one pod can do is learned from its first answers, over some 20 s of samples; "
    "until then the autoscaler goes by the processor alone"
)
COMES_BY_ITSELF = ("NotReadYet", "NoPods", "Recovering")
"""Reasons of MetricsAvailable that a start passes through."""

NEXT = """
What to try next
  export KUBECONFIG={kubeconfig}{path}
  kubectl get msvc -w                                 watch it scale down again
  kubectl explain msvc.spec --recursive               the resource, from its own manual
  kubectl edit msvc quickstart                        change models[0].batching and see no pod restart
  kubectl apply -f examples/two-models.yaml           a second service with two models
  make demo-down                                      take the demo and its cluster away again
"""


class Narrator:
    """Lines with the seconds since the start; `still` repeats itself at most every SIGN_SECONDS."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._told = self._begun
        self._last = ""

    def say(self, line: str) -> None:
        self._told, self._last = time.monotonic(), line
        print(f"[{time.monotonic() - self._begun:6.1f} s] {line}", flush=True)

    def still(self, line: str) -> None:
        """Say what is going on when it is new, or when nothing was said for a while."""
        if line != self._last or time.monotonic() - self._told > SIGN_SECONDS:
            self.say(line)


def example_inputs() -> Inputs:
    """One request for the quickstart's model: four numbers, batch of one."""
    return {"INPUT": np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)}


def ready_line(resource: dict[str, Any] | None) -> str:
    condition = condition_of(resource, "Ready")
    replicas = ((resource or {}).get("status") or {}).get("replicas", "-")
    if not condition:
        return "the operator has not answered yet"
    return f"Ready={condition['status']} {condition['reason']} ({replicas}): {condition['message']}"


def await_ready(kube: Kube, narrator: Narrator) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        resource = kube.get("msvc", SERVICE, namespace=USER_NAMESPACE)
        condition = condition_of(resource, "Ready")
        narrator.still(ready_line(resource))
        current = resource is not None and condition.get("observedGeneration") == resource["metadata"]["generation"]
        if current and condition.get("status") == "True":
            return
        if time.monotonic() > deadline:
            raise StepError(f"not ready after {READY_WITHIN_SECONDS:.0f} s: {ready_line(resource)}")
        time.sleep(0.5)


def infer_once(kube: Kube, narrator: Narrator) -> None:
    inputs = example_inputs()
    with kube.address(SERVICE, 8001, namespace=USER_NAMESPACE) as address:
        client = triton_grpc.InferenceServerClient(address)
        answer = client.infer(MODEL, tensors(triton_grpc, inputs), client_timeout=10).as_numpy("OUTPUT")
        client.close()
        narrator.say(f"gRPC {address}: {inputs['INPUT'].tolist()} -> {np.round(answer, 3).tolist()}")
    with kube.address(SERVICE, 8000, namespace=USER_NAMESPACE) as address:
        http = triton_http.InferenceServerClient(address)
        answer = http.infer(MODEL, tensors(triton_http, inputs)).as_numpy("OUTPUT")
        http.close()
        narrator.say(f"HTTP {address}: {inputs['INPUT'].tolist()} -> {np.round(answer, 3).tolist()}")


def load_line(scaling: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Load and decision where Nereus reads a Prometheus, or why they are not known; otherwise what the autoscaler
    reads. `metrics` is the condition MetricsAvailable."""
    if "floor" not in scaling:
        return ", ".join(scaling.get("metrics") or ["no metric yet"])
    known = [f"{name} {scaling[key]:g}" for name, key in (("load", "load"), ("next", "forecast")) if key in scaling]
    if known:
        return f"{', '.join(known)} (in pods); floor {scaling['floor']}"
    trouble = metrics.get("status") == "False" and metrics.get("reason") not in COMES_BY_ITSELF
    return f"{metrics.get('message') if trouble else LEARNING}; floor {scaling['floor']}"


def load_known(resource: dict[str, Any]) -> bool:
    """Whether the load stands in the status; also where nobody reads a Prometheus and it never will."""
    scaling = (resource.get("status") or {}).get("scaling") or {}
    return "floor" not in scaling or "load" in scaling


def tell(resource: dict[str, Any], narrator: Narrator, *, failed: int) -> None:
    status = resource.get("status") or {}
    seen = load_line(status.get("scaling") or {}, condition_of(resource, "MetricsAvailable"))
    narrator.still(f"pods {status.get('replicas', '-')}; {seen}; {failed} failed requests")


def why_not_scaled(kube: Kube) -> str:
    """What this cluster lacks to show the example scale; empty when nothing is lacking."""
    status = (kube.get("msvc", SERVICE, namespace=USER_NAMESPACE) or {}).get("status") or {}
    if (status.get("resolved") or {}).get("strategy") != "Metrics":
        return ""  # Nereus itself reads the load, from a Prometheus
    served = kube.get("apiservice", METRICS_API, namespace=USER_NAMESPACE)
    available = condition_of(served, "Available")
    if available.get("status") == "True":
        return ""
    lack = f"does not answer ({available.get('message', 'no word why')})" if served else "is not there"
    return (
        f"the autoscaler reads the CPU of pods from {METRICS_API}, which {lack}:"
        " install metrics-server, or give the operator a Prometheus (chart value prometheus.url)"
    )


def scale_under_load(kube: Kube, narrator: Narrator) -> None:
    lack = why_not_scaled(kube)
    if lack:
        narrator.say(f"scaling is not shown: {lack}")
        return
    narrator.say(f"{CLIENTS} gRPC clients send as fast as they are answered")
    with (
        kube.address(SERVICE, 8001, namespace=USER_NAMESPACE) as address,
        Load(address, protocol="grpc", model=MODEL, inputs=example_inputs(), clients=CLIENTS) as load,
    ):
        deadline = time.monotonic() + SCALED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            resource = kube.get("msvc", SERVICE, namespace=USER_NAMESPACE) or {}
            status = resource.get("status") or {}
            tell(resource, narrator, failed=load.outcome.failed)
            ready, _, wanted = str(status.get("replicas", "0/0")).partition("/")
            if int(ready) >= 2 and ready == wanted and condition_of(resource, "Ready").get("reason") == "Serving":
                break
            time.sleep(1)
        else:
            raise StepError(f"did not scale within {SCALED_WITHIN_SECONDS:.0f} s under load: {load.outcome}")
        # The processor is often faster: the load that the decisions go by from now on is worth a look too.
        deadline = time.monotonic() + LOAD_WITHIN_SECONDS
        while not load_known(resource) and time.monotonic() < deadline:
            time.sleep(1)
            resource = kube.get("msvc", SERVICE, namespace=USER_NAMESPACE) or {}
            tell(resource, narrator, failed=load.outcome.failed)
    narrator.say(f"scaled under load; requests: {load.outcome}")


def up() -> int:
    narrator = Narrator()
    prepared = clusters.prepare(narrator.say, os.environ.get("CLUSTER", ""))
    kube = prepared.kube
    narrator.say(f"using {prepared.what}")
    clusters.remember(prepared)
    install.install_chart(kube, narrator.say, *prepared.helm_values)
    narrator.say(f"kubectl apply -f {EXAMPLE}")
    kube.apply((install.ROOT / EXAMPLE).read_text(), namespace=USER_NAMESPACE)
    await_ready(kube, narrator)
    infer_once(kube, narrator)
    scale_under_load(kube, narrator)
    print("\n$ kubectl get msvc\n" + kube.kubectl("-n", USER_NAMESPACE, "get", "msvc"))
    print("$ kubectl describe msvc " + SERVICE + "\n" + kube.kubectl("-n", USER_NAMESPACE, "describe", "msvc", SERVICE))
    path = f"\n  export PATH={kube.tools}:$PATH" if kube.tools else ""
    print(NEXT.format(kubeconfig=kube.kubeconfig, path=path))
    narrator.say("done")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    command = parser.parse_args().command
    try:
        return up() if command == "up" else clusters.remove(print)
    except StepError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
