"""What the GPU agents report, as typed values: the contract between agent and operator, versioned.

Standard library only: the agent's image imports it too. Readers ignore fields that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

PROTOCOL = 1
PATH_USAGE = "/v1/usage"
PATH_METRICS = "/metrics"
PATH_LIVE = "/live"
AGENT_PORT = 9410


@dataclass(frozen=True, kw_only=True)
class DeviceUsage:
    """A GPU or a MIG slice. `parent` is the GPU of a slice. Amounts in bytes, None when the driver does not say."""

    uuid: str
    index: str = ""
    product: str = ""
    parent: str = ""
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization: float | None = None


@dataclass(frozen=True, kw_only=True)
class PodUsage:
    """What one container uses on one device. `limit_bytes` is the limit that hardware or driver report for it: the
    size of its MIG slice, or the driver's limit on its cgroup; None when neither says any. `used_bytes` is None when
    the driver does not say (integrated GPUs), never 0 for that."""

    uid: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    device: str = ""
    used_bytes: int | None = None
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    utilization: float | None = None
    processes: int = 0


@dataclass(frozen=True, kw_only=True)
class NodeUsage:
    """One agent's whole answer. `trouble` is why it cannot see the GPUs (no driver, a broken one); then the rest is
    empty. `simulated` says that no real GPU is behind the numbers. `at` is Unix seconds of the node's clock."""

    node: str
    at: float = 0.0
    driver: str = ""
    simulated: bool = False
    trouble: str = ""
    devices: tuple[DeviceUsage, ...] = ()
    pods: tuple[PodUsage, ...] = ()
    protocol: int = PROTOCOL

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def of_pod(self, uid: str, container: str = "") -> tuple[PodUsage, ...]:
        """What one pod uses here, of one of its containers when it is named."""
        return tuple(pod for pod in self.pods if pod.uid == uid and container in ("", pod.container))

    def others_on(self, device: str, uid: str) -> bool:
        """Whether another pod uses the same device."""
        return any(pod.device == device and pod.uid != uid for pod in self.pods)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What all agents say, by node. `asked` is False while the operator is told of no agents."""

    nodes: Mapping[str, NodeUsage] = field(default_factory=dict)
    asked: bool = False

    def on(self, node: str) -> NodeUsage | None:
        return self.nodes.get(node)
