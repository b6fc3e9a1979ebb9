"""One function per component: its command line, nothing else. Whoever wants to know how a part is run reads it here.

Pure: paths and addresses come from the cluster, programs from one directory. Files that these command lines name are
rendered in `node` and `addons`, and made in `pki`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localcluster.config import Cluster, Profile

# By default the clients of a control plane are limited to 20 to 50 requests a second: seconds of every start, and far
# too few for fleets of KWOK pods.
WIDE_LIMITS = ("--kube-api-qps=500", "--kube-api-burst=1000")
METRICS_SERVER_PORT = 4443
PROMETHEUS_PORT = 9090
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
POD_TARGETS = "pod-targets.json"


@dataclass(frozen=True)
class Component:
    """A process of the cluster: how it is run, and on which port or socket it listens when it is up."""

    name: str
    command: tuple[str, ...]
    port: int | None = None
    socket: str | None = None


Maker = Callable[[Cluster, Path], Component]


def etcd(cluster: Cluster, programs: Path) -> Component:
    """The database. Without fsync: the data lives as long as the cluster, and disks of test machines are slow."""
    command = (
        str(programs / "etcd"),
        f"--data-dir={cluster.data('etcd')}",
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    )
    return Component("etcd", command, port=2379)


def apiserver(cluster: Cluster, programs: Path) -> Component:
    """The API server, with the front-proxy identity that aggregated metrics APIs check."""
    pki = cluster.pki
    command = (
        str(programs / "kube-apiserver"),
        f"--advertise-address={cluster.addresses.node}",
        "--secure-port=6443",
        "--etcd-servers=http://127.0.0.1:2379",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={cluster.addresses.services}",
        f"--client-ca-file={pki('ca.crt')}",
        f"--tls-cert-file={pki('apiserver.crt')}",
        f"--tls-private-key-file={pki('apiserver.key')}",
        f"--kubelet-certificate-authority={pki('ca.crt')}",
        f"--kubelet-client-certificate={pki('apiserver-kubelet-client.crt')}",
        f"--kubelet-client-key={pki('apiserver-kubelet-client.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki('service-account.pub')}",
        f"--service-account-signing-key-file={pki('service-account.key')}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki('front-proxy-ca.crt')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki('front-proxy-client.crt')}",
        f"--proxy-client-key-file={pki('front-proxy-client.key')}",
    )
    return Component("apiserver", command, port=6443)


def controller_manager(cluster: Cluster, programs: Path) -> Component:
    """The controllers: garbage collection, Deployments, autoscaling and the rest."""
    kubeconfig = str(cluster.pki("controller-manager.kubeconfig"))
    command = (
        str(programs / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={cluster.addresses.node}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={cluster.pki('service-account.key')}",
        f"--root-ca-file={cluster.pki('ca.crt')}",
        f"--client-ca-file={cluster.pki('ca.crt')}",
        f"--requestheader-client-ca-file={cluster.pki('front-proxy-ca.crt')}",
        f"--cluster-signing-cert-file={cluster.pki('ca.crt')}",
        f"--cluster-signing-key-file={cluster.pki('ca.key')}",
        # Thousands of KWOK nodes would use up the pod range; their pods take no addresses from it.
        f"--allocate-node-cidrs={'true' if cluster.options.profile is Profile.NODE else 'false'}",
        f"--cluster-cidr={cluster.addresses.pods}",
        f"--service-cluster-ip-range={cluster.addresses.services}",
        f"--horizontal-pod-autoscaler-sync-period={cluster.options.hpa_sync}",
        *(() if cluster.options.default_client_limits else WIDE_LIMITS),
    )
    return Component("controller-manager", command, port=10257)


def scheduler(cluster: Cluster, programs: Path) -> Component:
    """The scheduler."""
    kubeconfig = str(cluster.pki("scheduler.kubeconfig"))
    command = (
        str(programs / "kube-scheduler"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={cluster.addresses.node}",
        f"--client-ca-file={cluster.pki('ca.crt')}",
        f"--requestheader-client-ca-file={cluster.pki('front-proxy-ca.crt')}",
        "--leader-elect=false",
        *(() if cluster.options.default_client_limits else WIDE_LIMITS),
    )
    return Component("scheduler", command, port=10259)


def containerd(cluster: Cluster, programs: Path) -> Component:
    """The container runtime, at its usual socket inside the private /run."""
    command = (str(programs / "containerd"), f"--config={cluster.conf('containerd.toml')}")
    return Component("containerd", command, socket=CONTAINERD_SOCKET)


def kubelet(cluster: Cluster, programs: Path) -> Component:
    """The node agent."""
    command = (
        str(programs / "kubelet"),
        f"--config={cluster.conf('kubelet.json')}",
        f"--kubeconfig={cluster.pki('kubelet.kubeconfig')}",
        f"--hostname-override={cluster.node_name}",
        f"--node-ip={cluster.addresses.node}",
        "--root-dir=/var/lib/kubelet",
    )
    return Component("kubelet", command, port=10250)


def kube_proxy(cluster: Cluster, programs: Path) -> Component:
    """Service addresses, as rules of the namespace's own packet filter."""
    command = (
        str(programs / "kube-proxy"),
        f"--kubeconfig={cluster.pki('kube-proxy.kubeconfig')}",
        f"--hostname-override={cluster.node_name}",
        f"--cluster-cidr={cluster.addresses.pods}",
        "--proxy-mode=iptables",
        # The table of connections belongs to the whole machine; leave its size alone.
        "--conntrack-max-per-core=0",
    )
    return Component("kube-proxy", command, port=10256)


def metrics_server(cluster: Cluster, programs: Path) -> Component:
    """The resource metrics API behind `kubectl top` and CPU autoscaling, as a process beside the API server."""
    kubeconfig = str(cluster.pki("metrics-server.kubeconfig"))
    command = (
        str(programs / "metrics-server"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={cluster.addresses.node}",
        f"--secure-port={METRICS_SERVER_PORT}",
        f"--tls-cert-file={cluster.pki('metrics-server.crt')}",
        f"--tls-private-key-file={cluster.pki('metrics-server.key')}",
        f"--kubelet-certificate-authority={cluster.pki('ca.crt')}",
        "--kubelet-preferred-address-types=InternalIP",
        # The shortest that it allows; the default of a minute makes CPU autoscaling slow to watch.
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    )
    return Component("metrics-server", command, port=METRICS_SERVER_PORT)


def discovery(cluster: Cluster, programs: Path) -> Component:  # noqa: ARG001 (all makers take the same)
    """Finds the pods that Prometheus shall scrape; a module of this package, run with the same Python."""
    package = Path(__file__).parent
    path = f"import sys; sys.path.insert(0, {str(package.parent)!r})"
    script = f"{path}; from localcluster.discovery import main; main(sys.argv[1:])"
    pki = cluster.pki
    files = (pki("ca.crt"), pki("prometheus.crt"), pki("prometheus.key"), cluster.conf(POD_TARGETS))
    return Component("discovery", (sys.executable, "-c", script, cluster.api_url, *map(str, files)))


def prometheus(cluster: Cluster, programs: Path) -> Component:
    """Prometheus, scraping pods by their annotations and the kubelet; reloads its rules on POST /-/reload."""
    command = (
        str(programs / "prometheus"),
        f"--config.file={cluster.conf('prometheus.json')}",
        f"--storage.tsdb.path={cluster.data('prometheus')}",
        f"--web.listen-address={cluster.addresses.node}:{PROMETHEUS_PORT}",
        f"--web.external-url={cluster.prometheus_url}",
        "--web.enable-lifecycle",
        "--web.enable-remote-write-receiver",
    )
    return Component("prometheus", command, port=PROMETHEUS_PORT)


def kwok(cluster: Cluster, programs: Path) -> Component:
    """Nodes without machines: their pods become Running without a container."""
    command = (
        str(programs / "kwok"),
        f"--kubeconfig={cluster.pki('kwok.kubeconfig')}",
        f"--config={programs / 'kwok-stages.yaml'}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        f"--cidr={cluster.addresses.kwok_pods}",
        f"--server-address={cluster.addresses.node}:10247",
    )
    return Component("kwok", command, port=10247)


CONTROL_COMPONENTS: tuple[Maker, ...] = (etcd, apiserver, controller_manager, scheduler)
NODE_COMPONENTS: tuple[Maker, ...] = (containerd, kubelet, kube_proxy, metrics_server, discovery, prometheus)


def components(cluster: Cluster, programs: Path) -> dict[str, Component]:
    """Every component of a cluster by name, in the order in which they are started."""
    makers = CONTROL_COMPONENTS
    if cluster.options.profile is Profile.NODE:
        makers += NODE_COMPONENTS
    if cluster.options.kwok_nodes:
        makers += (kwok,)
    return {component.name: component for component in (maker(cluster, programs) for maker in makers)}
