"""KEDA beside a local cluster, the peer of `bench.compare`: its operator and its adapter, processes of this machine.

Both are built from KEDA's own Go module. The adapter owns the External Metrics API of the cluster as long as this runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from demo.kube import Kube, wait
from localcluster import build
from localcluster.config import Cluster
from localcluster.report import Progress
from tests.harness import externalmetrics
from tests.harness.prometheus import free_port

Json = dict[str, Any]
NAMESPACE = "keda"
NAMES = ("localhost", "keda-operator", "keda-operator.keda.svc", "keda-metrics-apiserver.keda.svc")


@contextmanager
def keda(cluster: Cluster, kube: Kube) -> Iterator[dict[str, int]]:
    """From its definitions installed to the API answering; gives the processes' ids. Afterwards they and the
    registration are gone."""
    programs = build.ensure_module(build.KEDA, progress=Progress())
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(programs / "keda-crds.yaml"))
    if kube.get("namespace", NAMESPACE, namespace=NAMESPACE) is None:
        kube.kubectl("create", "namespace", NAMESPACE)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _certificates(folder)
        grpc, https = free_port(), free_port()
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "POD_NAMESPACE": NAMESPACE}
        environment |= {"WATCH_NAMESPACE": "", "KEDA_HTTP_DEFAULT_TIMEOUT": "3000"}
        environment |= {"KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE}
        operator = [
            *(str(programs / "keda-operator"), "--metrics-bind-address=0", "--health-probe-bind-address=0"),
            *(f"--metrics-service-bind-address=:{grpc}", f"--cert-dir={folder}", "--enable-cert-rotation=false"),
        ]
        adapter = [
            *(str(programs / "keda-adapter"), f"--secure-port={https}", f"--port={free_port()}"),
            *(f"--metrics-service-address=localhost:{grpc}", "--metrics-service-grpc-authority=localhost"),
            *(f"--client-ca-file={folder / 'ca.crt'}", f"--cert-dir={folder}"),
            *(f"--tls-cert-file={folder / 'tls.crt'}", f"--tls-private-key-file={folder / 'tls.key'}"),
            f"--lister-kubeconfig={cluster.kubeconfig}",
            *(f"--authentication-kubeconfig={cluster.kubeconfig}", f"--authorization-kubeconfig={cluster.kubeconfig}"),
        ]
        ids = {}
        for name, command in (("operator", operator), ("adapter", adapter)):
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
            stack.callback(_end, process, folder / f"{name}.log")
            ids[f"keda_{name}"] = process.pid
        stack.callback(kube.kubectl, "delete", "apiservice", externalmetrics.REGISTRATION, "--wait=true")
        for manifest in _registration(cluster.addresses.host, https):
            kube.apply(manifest, namespace=NAMESPACE)
        wait(lambda: _available(kube), "KEDA's External Metrics API", seconds=120, state=lambda: _tails(folder))
        yield ids


def scaled_object(name: str, *, namespace: str, target: Json, prometheus: str, triggers: list[Json]) -> Json:
    """A ScaledObject; each trigger has a query and what one pod may have of it."""
    made = [
        {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {"serverAddress": prometheus, "query": each["query"], "threshold": str(each["per_pod"])},
        }
        for each in triggers
    ]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**target, "triggers": made},
    }


def _registration(host: str, port: int) -> Iterator[Json]:
    service = "keda-metrics-apiserver"
    yield externalmetrics.service(NAMESPACE, service)
    yield externalmetrics.endpoints(NAMESPACE, service, name=service, host=host, port=port)
    yield externalmetrics.registration(NAMESPACE, service, insecureSkipTLSVerify=True)


def _available(kube: Kube) -> bool:
    found = json.loads(kube.kubectl("get", "apiservice", externalmetrics.REGISTRATION, "-o", "json"))
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Available" and item["status"] == "True" for item in conditions)


def _certificates(folder: Path) -> None:
    """One certificate for both, signed by itself: they trust each other and nobody else."""
    names = ",".join([*(f"DNS:{name}" for name in NAMES), "IP:127.0.0.1"])
    command = [
        *(str(shutil.which("openssl")), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=keda", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")


def _end(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        sys.stderr.write(f"{log.stem} of KEDA had ended with {process.returncode}:\n{log.read_text()[-2000:]}\n")
        return
    process.terminate()
    process.wait(30)


def _tails(folder: Path) -> str:
    return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))
