"""`make bench BENCH=compare`: the same service scaled by an HPA, by KEDA and by Nereus, side by side in one run.

Three ModelServices on the local cluster: the same model, the same pods, the same requests at the same moments. What
differs is who says how many pods there are. Real parts: kubelet, Triton, Prometheus, autoscaler (15 s period), metrics-
server, KEDA from its own Go module, the operator from its image. Made up, and why:

* the model sleeps instead of computing, and its start sleeps, too (a cold start): three services would not fit on a
  small machine otherwise. A little processor time per request is real, and the pods' CPU request is measured so that a
  full pod is at 100 %: so that an HPA on CPU sees the load as it would with a model that computes.
* the load is an excerpt of a real trace (bench/traces), minute by minute at its real pace: nothing is compressed. The
  week before it is written into Prometheus as the past of the service that Nereus scales; the others have no use for
  a past. Every service begins with enough pods and is free to have fewer after a minute; the
  first minutes do not count.
* requests go to every ready pod in turn (`bench.arms`), so that no arm is unlucky in how connections fall.

KEDA owns the External Metrics API during the run (a cluster has one provider), so Nereus works by its floor and
`/scale` alone; `--arms hpa nereus` leaves KEDA out. JSON and the picture go to build/bench/.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import loads
from bench.arms import OBJECTIVE_SECONDS, Arm, replay
from bench.figures import say
from bench.keda import keda, scaled_object
from demo import install
from demo.kube import Kube, condition_of, wait
from localcluster.build import bin_dir, go_version
from localcluster.config import Cluster, find_cluster
from nereus.backtest.plot import Chart, Line
from nereus.backtest.world import Floats, draw_arrivals
from tests.harness.apiserver import Api
from tests.harness.prometheus import back_fill

Json = dict[str, Any]
OUT = Path("build/bench")
NAMESPACE = "compare"
SERVICE_SECONDS, CPU_SECONDS = 0.1, 0.002
"""What one request takes of a pod, and how much of it is real work."""
CAPACITY = 1 / (SERVICE_SECONDS + 0.001)
TARGET = 0.7
"""Utilisation at which HPA and KEDA hold the pods: the usual choice."""
LEAST, ENOUGH, MOST = 1, 5, 8
"""Pods: the bounds, and how many each service begins with."""
FREE_AFTER = 60.0
"""Seconds after which each may have fewer than at the beginning."""
HISTORY_DAYS = 7
HISTORY_ENDS_BEFORE = 420.0
SAMPLE_SECONDS = 15
READY_SECONDS = 260.0
"""From the past being written to three services with autoscalers, at a cold start of a minute."""
ARMS = {"hpa": "HPA, CPU 70 %", "keda": "KEDA, rate 70 % and queue", "nereus": "Nereus"}
COLOURS = {"load": "#444444", "hpa": "#e07a1f", "keda": "#5aa9e6", "nereus": "#0b6e4f"}
MODEL = '''
import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Takes a tenth of a second for a request, most of it asleep, and minutes to start."""

    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        time.sleep(float(parameters["cold"]["string_value"]))
        self.seconds = float(parameters["seconds"]["string_value"])
        self.cpu = float(parameters["cpu"]["string_value"])

    def execute(self, requests):
        responses = []
        for request in requests:
            end = time.monotonic() + self.seconds
            busy = time.thread_time() + self.cpu
            while time.thread_time() < busy:
                pass
            time.sleep(max(0.0, end - time.monotonic()))
            value = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]))
        return responses
'''


class World:
    """The cluster with everything in it."""

    def __init__(self, cluster: Cluster, kube: Kube, scratch: Path) -> None:
        self.cluster, self.kube = cluster, kube
        self.api = Api(cluster.kubeconfig, kubectl=kube.tool("kubectl"), scratch=scratch)

    def service(self, name: str, *, cold: float, cpu: str, scaling: Json) -> Json:
        tensor = {"dataType": "FP32", "dims": [2]}
        parameters = {"cold": f"{cold:g}", "seconds": f"{SERVICE_SECONDS:g}", "cpu": f"{CPU_SECONDS:g}"}
        model = {
            "name": "m",
            "source": {"uri": "configmap://compare/m"},
            "backend": "python",
            "maxBatchSize": 1,
            "batching": {"mode": "Off"},
            "inputs": [{"name": "X", **tensor}],
            "outputs": [{"name": "Y", **tensor}],
            "parameters": parameters,
        }
        return {
            "apiVersion": "serving.nereus.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": name},
            "spec": {
                "models": [model],
                "runtime": {"resources": {"requests": {"cpu": cpu, "memory": "128Mi"}}},
                "scaling": scaling,
            },
        }

    def until_ready(self, *names: str, seconds: float) -> None:
        def ready() -> bool:
            found = [self.kube.get("msvc", name, namespace=NAMESPACE) for name in names]
            return all(
                condition_of(each, "Ready").get("status") == "True"
                and condition_of(each, "Ready").get("observedGeneration") == (each or {})["metadata"]["generation"]
                for each in found
            )

        wait(
            ready,
            f"{', '.join(names)} to be ready",
            seconds=seconds,
            state=lambda: self.kube.kubectl("-n", NAMESPACE, "get", "msvc,pods"),
        )

    def prometheus(self, query: str) -> float:
        url = f"{self.cluster.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own Prometheus
            rows = json.load(answer)["data"]["result"]
        return float(rows[0]["value"][1]) if rows else float("nan")

    def component(self, verb: str, name: str) -> None:
        command = [sys.executable, "-m", "localcluster", verb, "--name", self.cluster.name, name]
        subprocess.run(command, check=True, cwd=install.ROOT, stdout=subprocess.DEVNULL)

    def ready_addresses(self, name: str) -> list[str]:
        selector = f"?labelSelector=kubernetes.io/service-name%3D{name}"
        slices = self.api.get(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices{selector}")["items"]
        return sorted(
            {
                endpoint["addresses"][0]
                for each in slices
                for endpoint in each.get("endpoints") or []
                if (endpoint.get("conditions") or {}).get("ready")
            }
        )

    def pods(self, name: str) -> int:
        found = self.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")
        return int(found["status"].get("replicas", 0))


def excerpt(name: str, *, start_minute: int, minutes: int, peak: float) -> tuple[Floats, Floats]:
    """Requests per second, minute by minute: the past, and the excerpt (its highest minute is `peak`)."""
    whole = loads.trace(name, days=14).per_second()
    by_minute = whole[: len(whole) // 60 * 60].reshape(-1, 60).mean(1)
    part = by_minute[start_minute : start_minute + minutes]
    scale = peak / float(part.max())
    return by_minute[max(0, start_minute - HISTORY_DAYS * 1440) : start_minute] * scale, part * scale


def write_past(world: World, past: Floats, *, begins: float) -> None:
    """The past of the service `nereus` into Prometheus; the excerpt begins at `begins` (seconds since the epoch)."""
    labels = f'namespace="{NAMESPACE}",pod="past",serving_nereus_dev_service="nereus",model="m",version="1"'
    rates = np.repeat(past, 60 // SAMPLE_SECONDS)
    counts = np.cumsum(rates * SAMPLE_SECONDS)
    times = begins - SAMPLE_SECONDS * np.arange(len(rates) - 1, -1, -1)
    known = times < time.time() - HISTORY_ENDS_BEFORE
    samples = [(float(at), float(count)) for at, count in zip(times[known], counts[known], strict=True)]
    world.component("kill", "prometheus")
    back_fill(world.cluster.data("prometheus"), {labels: samples}, family="nv_inference_count")
    world.component("start", "prometheus")


def begin_at(minute: int) -> float:
    """The next moment whose phase of five minutes is that of the trace's minute, with time to get ready."""
    phase = minute % 5 * 60
    return (max(0.0, time.time() + READY_SECONDS - phase) // 300 + 1) * 300 + phase


def calibrate(world: World) -> str:
    """The CPU request at which a pod that is full is at 100 %."""
    world.kube.apply(
        world.service("probe", cold=0, cpu="100m", scaling={"strategy": "Manual", "replicas": 1}), namespace=NAMESPACE
    )
    world.until_ready("probe", seconds=300)
    seconds = 80
    count = int(CAPACITY * 0.97)
    arrivals = [np.arange(count) / count for _ in range(seconds)]
    probe = Arm("probe")
    asyncio.run(replay(world, [probe], arrivals))
    pod = f'namespace="{NAMESPACE}",pod=~"probe-.*",container="triton"'
    used = world.prometheus(f"sum(rate(container_cpu_usage_seconds_total{{{pod}}}[1m]))")
    world.kube.kubectl("-n", NAMESPACE, "delete", "msvc", "probe", "--wait=true")
    if not np.isfinite(used):
        raise SystemExit("Prometheus has no CPU of the probe's pod")
    request = f"{max(10, round(1000 * used / 0.97))}m"
    say(f"a full pod uses {used:.3f} cores: CPU request {request}; probe: {probe.figures()}")
    return request


def install_everything(name: str, *, beside_keda: bool) -> World:
    command = [sys.executable, "-m", "localcluster", "up", "--name", name, "--hpa-sync", "15s"]
    subprocess.run(command, check=True, cwd=install.ROOT, stdout=subprocess.DEVNULL)
    cluster = find_cluster(name)
    kube = Kube(kubeconfig=cluster.kubeconfig, tools=bin_dir(go_version=go_version()), routed=True)
    built = install.images(say)
    install.load_into_local_cluster(built, say, name)
    external = ("--set", "externalMetrics.enabled=false") if beside_keda else ()
    values = (*install.image_values(built), *install.prometheus_values(name), *external)
    install.install_chart(kube, say, *values, "--set", "replicas=1")
    if kube.get("namespace", NAMESPACE, namespace=NAMESPACE) is None:
        kube.kubectl("create", "namespace", NAMESPACE)
    models = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "compare"}, "data": {"m.model.py": MODEL}}
    kube.apply(models, namespace=NAMESPACE)
    return World(cluster, kube, Path(tempfile.mkdtemp()))


def declare(world: World, wanted: list[str], *, cold: float, cpu: str, least: int) -> None:
    """The services with at least so many pods."""
    bounds = {"minReplicas": least, "maxReplicas": MOST}
    objective = {"latency": f"{OBJECTIVE_SECONDS:g}s"}
    scalings: dict[str, Json] = {
        "hpa": {"strategy": "Metrics", **bounds},
        **({"keda": {"strategy": "Manual", "replicas": least}} if least == ENOUGH else {}),  # then it is KEDA's number
        "nereus": {"strategy": "Predictive", **bounds, "objective": objective},
    }
    for name in set(wanted) & scalings.keys():
        world.kube.apply(world.service(name, cold=cold, cpu=cpu, scaling=scalings[name]), namespace=NAMESPACE)
    if "keda" in wanted:
        world.kube.apply(keda_scales(world, least=least), namespace=NAMESPACE)


def start_arms(world: World, wanted: list[str], *, cold: float, cpu: str) -> list[Arm]:
    """Each with enough pods: nobody begins with a debt that it did not make."""
    declare(world, wanted, cold=cold, cpu=cpu, least=ENOUGH)
    world.until_ready(*wanted, seconds=300 + 4 * cold)
    wait(
        lambda: len(world.kube.items("hpa", namespace=NAMESPACE)) == len(wanted),
        "the autoscalers",
        seconds=120,
        state=lambda: world.kube.kubectl("-n", NAMESPACE, "get", "hpa"),
    )
    return [Arm(name) for name in wanted]


def keda_scales(world: World, *, least: int) -> Json:
    """KEDA on the rate per pod, as the HPA on CPU, and on what waits, which tells of a load that nobody answers."""
    mine = f'namespace="{NAMESPACE}",serving_nereus_dev_service="keda"'
    target = {
        "scaleTargetRef": {"apiVersion": "serving.nereus.dev/v1alpha1", "kind": "ModelService", "name": "keda"},
        "minReplicaCount": least,
        "maxReplicaCount": MOST,
        "pollingInterval": 15,
    }
    triggers = [
        {"query": f"sum(rate(nv_inference_request_success{{{mine}}}[30s]))", "per_pod": round(TARGET * CAPACITY, 2)},
        {"query": f"sum(nv_inference_pending_request_count{{{mine}}})", "per_pod": 5},
    ]
    prometheus = world.cluster.prometheus_url
    return scaled_object("keda", namespace=NAMESPACE, target=target, prometheus=prometheus, triggers=triggers)


async def _replay(world: World, arms: list[Arm], arrivals: list[Floats], free: Callable[[], None]) -> None:
    async def later() -> None:
        await asyncio.sleep(FREE_AFTER)
        await asyncio.to_thread(free)

    freeing = asyncio.create_task(later())
    await replay(world, arms, arrivals)
    await freeing


def until_past_is_known(world: World) -> str:
    """The operator's word that it has read the past of the service."""
    found: list[str] = []

    def read() -> bool:
        log = world.kube.kubectl("-n", install.NAMESPACE, "logs", "deployment/nereus", "--tail=-1")
        found[:] = [line for line in log.splitlines() if "the past of" in line and ": 0 minutes" not in line]
        return bool(found)

    wait(
        read,
        "the operator to read the past",
        seconds=300,
        state=lambda: world.kube.kubectl("-n", install.NAMESPACE, "logs", "deployment/nereus", "--tail=20"),
    )
    return found[-1]


def picture(result: Json) -> str:
    """Pods against the load, and below it what that meant for the requests."""
    given = result["given"]
    _, part = _excerpt_of(given)
    names = [name for name in ARMS if name in result["arms"]]
    marks = [(float(minute), f"{minute}") for minute in range(0, given["minutes"] + 1, 5)]
    load = np.repeat(part, 60) / CAPACITY
    pods = [Line(name="load, in pods", x=np.arange(len(load)) / 60, y=load, colour=COLOURS["load"], width=1.0)]
    late = []
    for name in names:
        at, _, ready = np.array(result["pods"][name], float).T
        pods.append(
            Line(name=f"{ARMS[name]}: ready pods", x=at / 60, y=ready, colour=COLOURS[name], step=True, width=1.8)
        )
        shares = 100 * np.nan_to_num(np.array(result["late_by_minute"][name], float))
        bad = result["arms"][name]["late_or_failed_percent"]
        label = f"{ARMS[name]}: {bad:g} % of all that count"
        late.append(
            Line(
                name=label, x=np.arange(len(shares), dtype=float), y=shares, colour=COLOURS[name], step=True, width=1.8
            )
        )
    told = f"{given['load']}, cold start {given['cold']:g} s: the same requests to three services"
    counts = f"from minute {given['settle']} on"
    charts = (
        Chart(title=told, x_name="minutes", y_name="pods", lines=pods, x_marks=marks),
        Chart(
            title=f"Requests later than {OBJECTIVE_SECONDS:g} s or failed, in each minute (they count {counts})",
            x_name="minutes",
            y_name="%",
            lines=late,
            x_marks=marks,
        ),
    )
    return stacked([chart.svg() for chart in charts])


def stacked(drawn: list[str]) -> str:
    """Several plots below each other as one."""
    sizes = [tuple(map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', each)[0])) for each in drawn]
    parts, top = [], 0
    for each, (wide, high) in zip(drawn, sizes, strict=True):
        parts.append(each.replace("<svg ", f'<svg y="{top}" width="{wide}" height="{high}" ', 1))
        top += high
    wide = max(width for width, _ in sizes)
    return f'<svg viewBox="0 0 {wide} {top}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>\n'


def _excerpt_of(given: Json) -> tuple[Floats, Floats]:
    return excerpt(given["load"], start_minute=given["start"], minutes=given["minutes"], peak=given["peak"] * CAPACITY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cluster", default="compare", help="name of the local cluster, which is taken down afterwards"
    )
    parser.add_argument("--load", default="nasa-http", choices=sorted(loads.FILES))
    parser.add_argument("--start", type=int, default=6 * 1440 + 13 * 60 + 57, help="minute of the trace")
    parser.add_argument("--settle", type=int, default=8, help="minutes at the beginning that do not count")
    parser.add_argument("--minutes", type=int, default=27)
    parser.add_argument("--peak", type=float, default=4.9, help="highest minute, in pods")
    parser.add_argument("--cold", type=float, default=60, help="seconds that a model sleeps while it starts")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only draw the result of an earlier run again")
    given = parser.parse_args()
    if given.draw:
        (OUT / "compare.svg").write_text(picture(json.loads(given.draw.read_text())))
        return
    past, part = _excerpt_of(vars(given))
    per_second = np.repeat(part, 60)
    counts = draw_arrivals(per_second, seed=1)
    random = np.random.default_rng(2)
    arrivals = [np.sort(random.random(int(count))) for count in counts]
    OUT.mkdir(parents=True, exist_ok=True)
    world = install_everything(given.cluster, beside_keda="keda" in given.arms)
    try:
        with keda(world.cluster, world.kube) if "keda" in given.arms else contextlib.nullcontext():
            cpu = calibrate(world)
            begins = begin_at(given.start)
            write_past(world, past, begins=begins)
            arms = start_arms(world, given.arms, cold=given.cold, cpu=cpu)
            say(until_past_is_known(world))
            say(f"the excerpt begins in {begins - time.time():.0f} s")
            time.sleep(max(0.0, begins - time.time()))
            late = max(0.0, time.time() - begins)
            freed = partial(declare, world, given.arms, cold=given.cold, cpu=cpu, least=LEAST)
            asyncio.run(_replay(world, arms, arrivals, freed))
            status = (world.kube.get("msvc", "nereus", namespace=NAMESPACE) or {}).get("status", {})
    finally:
        if not given.keep:
            subprocess.run(
                [sys.executable, "-m", "localcluster", "down", "--name", given.cluster], cwd=install.ROOT, check=False
            )
    result: Json = {
        "given": {
            **{name: value for name, value in vars(given).items() if name != "draw"},
            "cpu_request": cpu,
            "began_late_seconds": round(late, 1),
            "load_average": os.getloadavg(),
        },
        "arms": {arm.name: arm.figures(60 * given.settle) for arm in arms},
        "decisions": status.get("scaling", {}).get("history"),
        "late_by_minute": {arm.name: [round(share, 4) for share in arm.late_by_minute()] for arm in arms},
        "pods": {
            arm.name: [
                [round(at), pods, ready] for at, pods, ready in zip(arm.seconds, arm.pods, arm.ready, strict=True)
            ]
            for arm in arms
        },
    }
    (OUT / "compare.json").write_text(json.dumps(result, indent=1) + "\n")
    (OUT / "compare.svg").write_text(picture(result))
    table(result["arms"])


def table(arms: Json) -> None:
    columns = list(next(iter(arms.values())))
    rows = [
        ["", *columns],
        *([ARMS[name], *(str(figures[column]) for column in columns)] for name, figures in arms.items()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
