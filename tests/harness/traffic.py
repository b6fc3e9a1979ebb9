"""Load on ModelServices as Prometheus sees it: a real Prometheus that scrapes one page about the pods there are.

KWOK pods have no Triton, so the page is made up; that it follows the real pods (names, number) is done here. One page
for all, because Prometheus takes seconds to notice a new target.
"""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.harness.apiserver import Api
from tests.harness.prometheus import Exporter, Pod, Prometheus, respond
from tests.harness.services import COLLECTIONS

LOOK_SECONDS = 0.5


class OnePage(Exporter):
    """All pods on one page, told apart by labels in it."""

    def targets(self) -> list[dict[str, Any]]:
        return [{"targets": [self._server.address], "labels": {}}]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        pages = [_labelled(pod) for pod in list(self.pods.values())]
        respond(handler, 200, "".join(pages).encode(), "text/plain; version=0.0.4")


def _labelled(pod: Pod) -> str:
    whose = ",".join(f'{name}="{value}"' for name, value in pod.labels.items())
    return re.sub(r"^#.*\n", "", pod.page(), flags=re.MULTILINE).replace("{", f"{{{whose},")


class Traffic:
    """`rates` are inferences per second offered to a service, by (namespace, name); shared by its ready pods."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.rates: dict[tuple[str, str], float] = {}
        self.exporter = OnePage()
        self.prometheus = Prometheus(folder=folder, exporter=self.exporter)
        self._api = api
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Traffic:
        self.prometheus.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.prometheus.stop()
        self.exporter.stop()

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for (namespace, service), rate in list(self.rates.items()):
                self._share(namespace, service, rate)

    def _share(self, namespace: str, service: str, rate: float) -> None:
        answer = self._api.request("GET", COLLECTIONS["Pod"].format(namespace))
        ready = [
            pod["metadata"]["name"]
            for pod in (answer.body.get("items") or [] if answer.accepted else [])
            if pod["metadata"]["name"].startswith(f"{service}-") and _ready(pod)
        ]
        known = {path: pod for path, pod in self.exporter.pods.items() if pod.service == service}
        for path, pod in known.items():
            if pod.name not in ready:
                del self.exporter.pods[path]
        for name in ready:
            path = f"/{namespace}/{name}"
            if path not in self.exporter.pods:
                self.exporter.add(Pod(namespace=namespace, service=service, name=name, rate=0.0))
            _runs_at(self.exporter.pods[path], rate / len(ready))


def _runs_at(pod: Pod, rate: float) -> None:
    """Another rate from now on; the counter goes on where it was."""
    if rate == pod.rate:
        return
    now = time.time()
    done = pod.rate * (now - pod.started)
    pod.rate, pod.started = rate, now - done / rate if rate else now


def _ready(pod: dict[str, object]) -> bool:
    status = pod.get("status")
    conditions = status.get("conditions") or [] if isinstance(status, dict) else []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
