"""Tells Prometheus which pods to scrape: watches pods and writes a file of targets.

Debian's Prometheus is built without Kubernetes discovery, and building one takes minutes; this small process stands in.
Pods are chosen by the usual annotations `prometheus.io/scrape`, `/port`, `/path` and `/scheme`; without a port, every
container port named `metrics` or ending in `-metrics` is a target. While the API server is away the last targets stay.

Run as `python3 -m localcluster.discovery SERVER AUTHORITY CERTIFICATE KEY OUTPUT`.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

ANNOTATION = "prometheus.io/"
WATCH_SECONDS = 240
RETRY_SECONDS = 1.0
# Changes come in bursts when pods start; one write serves a burst.
SETTLE_SECONDS = 0.3

Pod = Mapping[str, Any]
Group = dict[str, Any]


def targets(pod: Pod) -> list[Group]:
    """The target groups of one pod; empty when it is not to be scraped or not there yet."""
    metadata, status = pod["metadata"], pod.get("status", {})
    annotations = metadata.get("annotations") or {}
    if annotations.get(f"{ANNOTATION}scrape") != "true" or status.get("phase") != "Running" or not status.get("podIP"):
        return []
    labels = {_label_name(name): value for name, value in (metadata.get("labels") or {}).items()}
    labels |= {"namespace": metadata["namespace"], "pod": metadata["name"], "node": pod["spec"].get("nodeName", "")}
    labels["__metrics_path__"] = annotations.get(f"{ANNOTATION}path", "/metrics")
    labels["__scheme__"] = annotations.get(f"{ANNOTATION}scheme", "http")
    if port := annotations.get(f"{ANNOTATION}port"):
        return [{"targets": [f"{status['podIP']}:{port}"], "labels": labels}]
    return [
        {"targets": [f"{status['podIP']}:{port}"], "labels": {**labels, "container": container}}
        for container, port in _named_ports(pod["spec"])
    ]


def _named_ports(spec: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for port in container.get("ports", []):
            if re.fullmatch(r"(.*-)?metrics", port.get("name", "")):
                yield container["name"], port["containerPort"]


def _label_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


class Targets:
    """The targets of all pods, written to a file a moment after they changed."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._groups: dict[str, list[Group]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()

    def put(self, pod: Pod) -> None:
        """Take note of a pod as it is now."""
        groups = targets(pod)
        with self._lock:
            if self._groups.get(pod["metadata"]["uid"], []) != groups:
                self._groups[pod["metadata"]["uid"]] = groups
                self._changed.set()

    def drop(self, uid: str) -> None:
        """Forget a pod."""
        with self._lock:
            if self._groups.pop(uid, []):
                self._changed.set()

    def keep_only(self, uids: set[str]) -> None:
        """Forget the pods that a fresh list does not have."""
        for uid in set(self._groups) - uids:
            self.drop(uid)

    def write_for_ever(self) -> None:
        """Write after each burst of changes."""
        while self._changed.wait():
            time.sleep(SETTLE_SECONDS)
            self._changed.clear()
            self.write()

    def write(self) -> None:
        """Write the file in one step, so that Prometheus never reads half of it."""
        with self._lock:
            groups = [group for uid in sorted(self._groups) for group in self._groups[uid]]
        temporary = self._output.with_suffix(".new")
        temporary.write_text(json.dumps(groups, indent=1))
        temporary.rename(self._output)


def follow(connection: HTTPSConnection, known: Targets) -> None:
    """List once, then watch until the server ends it; raises what the connection raises."""
    with contextlib.closing(connection):
        listing = json.load(_get(connection, "/api/v1/pods", {}))
        for pod in listing["items"]:
            known.put(pod)
        known.keep_only({pod["metadata"]["uid"] for pod in listing["items"]})
        query = {
            "watch": "1",
            "resourceVersion": listing["metadata"]["resourceVersion"],
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        for line in _get(connection, "/api/v1/pods", query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            if event["type"] == "DELETED":
                known.drop(event["object"]["metadata"]["uid"])
            else:
                known.put(event["object"])


def _get(connection: HTTPSConnection, path: str, query: Mapping[str, str]) -> HTTPResponse:
    connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers={"Accept": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise HTTPException(f"GET {path}: {response.status} {response.read(300)!r}")
    return response


def main(argv: list[str]) -> None:
    """Follow the pods for ever."""
    server, authority, certificate, key, output = argv
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    host = urllib.parse.urlsplit(server).netloc
    known = Targets(Path(output))
    known.write()
    threading.Thread(target=known.write_for_ever, daemon=True).start()
    while True:
        try:
            follow(HTTPSConnection(host, context=context, timeout=WATCH_SECONDS + 30), known)
        except (OSError, HTTPException, ValueError) as error:
            print(f"lost the API server, trying again: {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
