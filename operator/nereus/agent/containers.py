"""The names behind a container id, from the kubelet's directory /var/log/containers: names of links, nothing else.

The kubelet keeps one link for each container there, POD_NAMESPACE_CONTAINER-ID.log, with every runtime. Reading the
names of a directory needs no right on the API, no socket of the kubelet or of the runtime (which would give far more),
and no file is opened. The pod's uid comes from the control group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path("/var/log/containers")
_LINK = re.compile(r"^(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<id>[0-9a-f]{64})\.log$")
_OF_DEPLOYMENT = re.compile(r"^(?P<name>.+)-[a-z0-9]{1,10}-[a-z0-9]{5}$")
OURS = frozenset({"triton", "sidecar"})
"""The containers of a pod of a ModelService; see api.names."""


@dataclass(frozen=True)
class Names:
    """Who a container is."""

    namespace: str
    pod: str
    container: str
    service: str = ""


class Containers:
    """Names by container id; the directory is read again only when an unknown id is asked for."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._names: dict[str, Names] = {}

    def names(self, ids: Iterable[str]) -> dict[str, Names]:
        """The names of these containers, as far as they are known."""
        wanted = set(ids) - {""}
        if not wanted <= self._names.keys():
            self._names = read(self._directory)
        return {key: self._names[key] for key in wanted if key in self._names}

    def knows(self, container_id: str) -> bool:
        """Whether it was there when the directory was read last."""
        return container_id in self._names


def read(directory: Path) -> dict[str, Names]:
    """All containers of the node; empty when the directory cannot be read."""
    try:
        links = [match for path in directory.iterdir() if (match := _LINK.match(path.name))]
    except OSError:
        return {}
    of_pod: dict[tuple[str, str], set[str]] = {}
    for link in links:
        of_pod.setdefault((link["namespace"], link["pod"]), set()).add(link["container"])
    return {
        link["id"]: Names(
            namespace=link["namespace"],
            pod=link["pod"],
            container=link["container"],
            service=_service(link["pod"], of_pod[link["namespace"], link["pod"]]),
        )
        for link in links
    }


def _service(pod: str, containers: set[str]) -> str:
    """The ModelService of a pod: the name of its Deployment, where its containers are those of a ModelService."""
    found = _OF_DEPLOYMENT.match(pod)
    return found["name"] if found and containers >= OURS else ""
