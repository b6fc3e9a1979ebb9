"""The same fleet under KEDA, for `bench.scale --keda`: what its processes and Prometheus spend, and how it answers.

One ScaledObject for each service, on the rate per pod from the same Prometheus, every setting KEDA's own (it asks
Prometheus every 30 s, and once more whenever an autoscaler asks for the metric). The services are under strategy
Manual, so that Nereus decides nothing. Only costs are compared: replicas follow at the pace of the autoscaler, which
this benchmark slows down for both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.asking import Asker, Way, path
from bench.figures import MIB, cpu_seconds, memory_bytes, say, shares
from bench.fleet import AT_ONCE, Fleet, Json, Name
from bench.keda import keda, scaled_object
from bench.ticking import CAPACITY, Ground
from demo.kube import Kube
from localcluster.build import bin_dir, go_version
from nereus.controller.kinds import AUTOSCALER, Kind
from tests.harness.externalmetrics import REGISTRATION
from tests.harness.prometheus import SERVICE_LABEL

if TYPE_CHECKING:
    from bench.scale import Bench

SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
MEASURED_SECONDS = 120.0
MADE_SECONDS = 900.0
ASK_SECONDS = 0.05
METRIC = "s0-prometheus"


def scaling(pods: int) -> Json:
    """What every service declares: somebody else decides."""
    return {"strategy": "Manual", "replicas": pods}


async def measure(bench: Bench, ground: Ground) -> None:
    """From the first ScaledObject to the last autoscaler, and then two minutes in which nothing changes."""
    kube = Kube(kubeconfig=ground.cluster.kubeconfig, tools=bin_dir(go_version=go_version()), routed=True)
    services = bench.fleet.services()
    await _take_over(bench, kube)
    with keda(ground.cluster, kube) as processes:
        async with bench.measured("keda_create") as result:
            began = time.monotonic()
            await _make(bench.fleet, services, ground.prometheus.url)
            made = await _until_scaled(bench.fleet, len(services))
            result |= {"seconds": round(time.monotonic() - began, 1), "autoscalers": made}
        label = "scaledobject.keda.sh/name"
        paths = [path(each.namespace, each.name, metric=METRIC, label=label) for each in services]
        asker = Asker(Way.as_client(bench.fleet.connection), paths, period=ASK_SECONDS)
        queries = await asyncio.to_thread(ground.prometheus.answered)
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        async with bench.measured("keda") as result:
            await asyncio.sleep(MEASURED_SECONDS)
            asked = await asyncio.to_thread(asker.end)
            queries = await asyncio.to_thread(ground.prometheus.answered) - queries
            result |= {
                **{
                    f"{name}_cpu_cores": round((cpu_seconds(pid) - before[name]) / MEASURED_SECONDS, 3)
                    for name, pid in processes.items()
                },
                **{f"{name}_rss_mib": round(memory_bytes(pid)["VmRSS"] / MIB) for name, pid in processes.items()},
                "queries_per_second": round(queries / MEASURED_SECONDS, 1),
                "metric_through_apiserver_asked": len(asked.seconds),
                "metric_refused": asked.refused,
                **shares("metric_through_apiserver_", asked.seconds),
            }


async def _take_over(bench: Bench, kube: Kube) -> None:
    """A fleet that Nereus scaled until now, if it did, is scaled by nobody any more."""
    await asyncio.to_thread(kube.kubectl, "delete", "apiservice", REGISTRATION, "--ignore-not-found")
    await replace(bench.fleet, scaling=scaling).make(bench.fleet.services())
    deadline = time.monotonic() + MADE_SECONDS
    while left := len(await bench.fleet.gateway.list_identities(AUTOSCALER)):
        say(f"{left} autoscalers of Nereus are left")
        if time.monotonic() > deadline:
            raise SystemExit(f"{left} autoscalers of Nereus are still there after {MADE_SECONDS:g} s")
        await asyncio.sleep(5.0)


async def _make(fleet: Fleet, services: Sequence[Name], prometheus: str) -> None:
    waiting, sizes = iter(services), fleet.sizes()

    async def worker() -> None:
        for service in waiting:
            target = {
                "scaleTargetRef": {
                    "apiVersion": "serving.nereus.dev/v1alpha1",
                    "kind": "ModelService",
                    "name": service.name,
                },
                "minReplicaCount": sizes[service],
                "maxReplicaCount": sizes[service] + 3,
            }
            mine = f'namespace="{service.namespace}",{SERVICE_LABEL}="{service.name}"'
            trigger = {"query": f"sum(rate(nv_inference_request_success{{{mine}}}[1m]))", "per_pod": 0.7 * CAPACITY}
            body = scaled_object(
                service.name, namespace=service.namespace, target=target, prometheus=prometheus, triggers=[trigger]
            )
            await fleet.gateway.apply(SCALED_OBJECT, body, manager="user")

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _until_scaled(fleet: Fleet, count: int) -> int:
    deadline = time.monotonic() + MADE_SECONDS
    found = 0
    while time.monotonic() < deadline:
        found = len(await fleet.gateway.list_identities(AUTOSCALER))
        if found >= count:
            break
        say(f"KEDA: {found} of {count} autoscalers")
        await asyncio.sleep(5.0)
    return found
