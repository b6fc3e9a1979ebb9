"""A cluster whose objects are read through one `kubectl proxy`, for tests that look at them twice a second.

A process of kubectl for each look took a fifth of the processor time of the tier. Whatever the kubeconfig says about
how to log in, the proxy does it. Kinds that are not in the table are asked of kubectl as before.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import urllib3

from demo.kube import CommandError, Json, Kube

_PATHS = {
    "deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "hpa": "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
    "lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "msvc": "/apis/serving.nereus.dev/v1alpha1/namespaces/{namespace}/modelservices",
    "namespace": "/api/v1/namespaces",
    "pod": "/api/v1/namespaces/{namespace}/pods",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "service": "/api/v1/namespaces/{namespace}/services",
}
_SERVING = "Starting to serve on "


@dataclass(frozen=True, kw_only=True)
class ProxiedKube(Kube):
    """`url` is where the proxy answers."""

    url: str
    pool: urllib3.PoolManager

    def get(self, kind: str, name: str, *, namespace: str) -> Json | None:
        if kind not in _PATHS:
            return super().get(kind, name, namespace=namespace)
        return self._ask(f"{_PATHS[kind].format(namespace=namespace)}/{name}", {})

    def items(self, kind: str, *, namespace: str, selector: str = "") -> list[Json]:
        if kind not in _PATHS:
            return super().items(kind, namespace=namespace, selector=selector)
        answer = self._ask(_PATHS[kind].format(namespace=namespace), {"labelSelector": selector} if selector else {})
        if answer is None:
            raise CommandError(f"the server knows no {kind}")
        found: list[Json] = answer["items"]
        return found

    def _ask(self, path: str, query: dict[str, str]) -> Json | None:
        """What the server answers; None when there is no such object. Raises CommandError as kubectl does."""
        try:
            answer = self.pool.request("GET", self.url + path, fields=query)
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"GET {path}: {error}") from None
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise CommandError(f"GET {path}: {answer.status} {answer.data[:300].decode(errors='replace')}")
        body: Json = answer.json()
        return body


@contextmanager
def proxied(kube: Kube) -> Iterator[ProxiedKube]:
    """The same cluster through a proxy that lives as long as the context."""
    command = [kube.tool("kubectl"), "proxy", "--port=0"]
    with subprocess.Popen(command, env=kube.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(_SERVING), f"kubectl proxy says {said!r}"
            known = {field.name: getattr(kube, field.name) for field in fields(kube)}
            pool = urllib3.PoolManager(retries=False, timeout=30.0, maxsize=4)
            yield ProxiedKube(**known, url=f"http://{said.removeprefix(_SERVING).strip()}", pool=pool)
        finally:
            process.terminate()
