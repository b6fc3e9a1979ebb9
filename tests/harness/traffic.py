"""Load on ModelServices as Prometheus sees it: a real Prometheus that scrapes one page about the pods there are.

KWOK pods have no Triton, so the page is made up; that it follows the real pods (names, number) is done here. One page
for all, because Prometheus takes seconds to notice a new target.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from tests.harness.apiserver import Api
from tests.harness.prometheus import Exporter, Pod, Prometheus, respond
from tests.harness.services import COLLECTIONS

LOOK_SECONDS = 0.5
Name: TypeAlias = tuple[str, str]
"""Namespace and name of a service."""


class OnePage(Exporter):
    """All pods on one page, told apart by labels in it; a silent one is not on it."""

    def targets(self) -> list[dict[str, Any]]:
        return [{"targets": [self._server.address], "labels": {}}]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        pages = [_labelled(pod) for pod in list(self.pods.values()) if not pod.silent]
        respond(handler, 200, "".join(pages).encode(), "text/plain; version=0.0.4")


def _labelled(pod: Pod) -> str:
    whose = ",".join(f'{name}="{value}"' for name, value in pod.labels.items())
    return re.sub(r"^#.*\n", "", pod.page(), flags=re.MULTILINE).replace("{", f"{{{whose},")


class Ghost(Pod):
    """A pod that is gone and whose last samples stay: with times of their own they are not marked as stale."""

    def page(self) -> str:
        if not hasattr(self, "_last"):
            self.age = 0.001
            self._last = super().page()
        return self._last


Spoil = Callable[[Sequence[Pod]], None]
"""Does something to what the pods of one service show."""


class Traffic:
    """`rates` are inferences per second offered to a service, by (namespace, name); shared by its ready pods.
    `spoiled` is what is wrong with the pages of a service."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.rates: dict[Name, float] = {}
        self.spoiled: dict[Name, Spoil] = {}
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

    def add_ghosts(self, service: Name, count: int, *, rate: float) -> None:
        names = [f"{service[1]}-gone-{number}" for number in range(count)]
        self.exporter.add(*(Ghost(namespace=service[0], service=service[1], name=name, rate=rate) for name in names))

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            rates = dict(self.rates)
            for namespace in {namespace for namespace, _ in rates}:
                answer = self._api.request("GET", COLLECTIONS["Pod"].format(namespace))
                ready = [_name(pod) for pod in (answer.body.get("items") or ()) if answer.accepted and _ready(pod)]
                for (where, service), rate in rates.items():
                    if where == namespace:
                        mine = [name for name in ready if name.rsplit("-", 2)[0] == service]
                        self._share((namespace, service), mine, rate)

    def _share(self, service: Name, ready: Sequence[str], rate: float) -> None:
        for path, pod in list(self.exporter.pods.items()):
            gone = pod.name not in ready and not isinstance(pod, Ghost)
            if gone and (pod.namespace, pod.service) == service:
                del self.exporter.pods[path]
        pods = []
        for name in ready:
            path = f"/{service[0]}/{name}"
            if path not in self.exporter.pods:
                self.exporter.add(Pod(namespace=service[0], service=service[1], name=name, rate=0.0))
            pod = self.exporter.pods[path]
            _runs_at(pod, rate / len(ready))
            pods.append(pod)
        self.spoiled.get(service, _well)(pods)


def _well(pods: Sequence[Pod]) -> None:
    for pod in pods:
        pod.value, pod.dead, pod.flaps = None, False, False


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


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
