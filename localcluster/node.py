"""Configuration of the real node: container runtime, pod network, kubelet. Rendered, not applied."""

from __future__ import annotations

import json
from typing import Any

from localcluster.components import CONTAINERD_SOCKET
from localcluster.config import Cluster

PAUSE_IMAGE = "localhost/pause:local"


def containerd_config(cluster: Cluster, *, snapshotter: str) -> str:
    """containerd's TOML: everything it writes lies below the cluster's directory or in the private /run."""
    return f"""version = 2
root = "{cluster.data("containerd")}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{cluster.data("containerd")}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Machines without CAP_SYS_RESOURCE cannot lower the score that decides whom the kernel ends first.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cluster.conf("cni")}"
"""


def cni_config(cluster: Cluster) -> str:
    """The pod network: a bridge inside the namespace, addresses from the node's range."""
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cluster.addresses.node_pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(cluster.data("cni") / "addresses"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    network = {"cniVersion": "0.4.0", "name": cluster.cgroup, "plugins": [bridge, portmap]}
    return json.dumps(network, indent=1)


def kubelet_config(cluster: Cluster) -> str:
    """The kubelet: everything allocatable, no image collected, no eviction for a disk that others fill."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": cluster.addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "2m"},
            "x509": {"clientCAFile": str(cluster.pki("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(cluster.pki("kubelet-server.crt")),
        "tlsPrivateKeyFile": str(cluster.pki("kubelet-server.key")),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "clusterDNS": [cluster.addresses.dns],
        "clusterDomain": "cluster.local",
        # Pods have no way out of the machine, so its own name servers would only make look-ups slow.
        "resolvConf": "",
        "maxPods": 200,
        "podLogsDir": str(cluster.data("pod-logs")),
        "volumePluginDir": str(cluster.data("volume-plugins")),
        # Images come from archives and cannot be pulled again: never collect them.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "logging": {"verbosity": 1},
    }
    return json.dumps(config, indent=1)
