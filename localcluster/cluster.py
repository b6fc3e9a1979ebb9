"""Bringing a cluster up and taking it down: the order of things, and what is waited for.

Level-triggered: `up` looks at what runs and starts what does not, or what runs with an outdated command line; so the
same command starts, completes, repairs and changes a cluster. It does not supervise: what ends later is started by
the next `up`.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster import (
    addons,
    build,
    cgroups,
    config,
    kwok_nodes,
    leftovers,
    limits,
    network,
    node,
    oci,
    packages,
    pki,
    processes,
    sandbox,
)
from localcluster.components import Component, components
from localcluster.config import Cluster, Options, Profile
from localcluster.containers import load_image
from localcluster.kube import Kubectl, answer, condition
from localcluster.report import Progress, Refusal, last_words, wait_until

LOCK = Path("/run/nereus-localcluster.lock")
START_SECONDS = 90.0
# A component that was told to end may take this long; the API server waits for its open requests.
STOP_SECONDS = 35.0


@contextmanager
def exclusive(progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time on this machine; the lock ends with its process, however that ends."""
    while True:
        try:
            descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Refusal(f"cannot use {LOCK} ({error.strerror}): run as root") from None
        try:
            _wait_for_lock(descriptor, progress)
            # The one before us removed the file at its end; then ours is another one than the next will find.
            if LOCK.exists() and LOCK.stat().st_ino == os.fstat(descriptor).st_ino:
                try:
                    yield
                finally:
                    LOCK.unlink()
                return
        finally:
            os.close(descriptor)


def _wait_for_lock(descriptor: int, progress: Progress) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.tick("another localcluster command is at work: waiting for it")
            time.sleep(0.3)
        else:
            return


def up(name: str, options: Options, *, progress: Progress) -> Cluster:
    """Start, complete or change a cluster, and return it when it is ready."""
    config.check_name(name)
    _check_machine(name)
    is_node = options.profile is Profile.NODE
    packages.ensure_tools(*(packages.NODE_TOOLS if is_node else packages.CONTROL_TOOLS), progress=progress)
    programs = build.ensure_binaries(progress=progress)
    with exclusive(progress):
        cluster = _settle(name, options)
        progress.say(f"cluster {name}: profile {options.profile}, node address {cluster.addresses.node}")
        holder = _ensure_sandbox(cluster, programs=programs, progress=progress)
        network.ensure_link(cluster, holder)
        pki.ensure_pki(cluster)
        shutil.copy(cluster.pki("admin.kubeconfig"), cluster.kubeconfig)
        _start_all(cluster, programs=programs, progress=progress)
    progress.say(
        f"cluster {name} is ready; autoscalers are evaluated every {options.hpa_sync} (Kubernetes' default: 15s)"
    )
    return cluster


def _check_machine(name: str) -> None:
    if os.uname().sysname != "Linux":
        raise Refusal(
            f"a cluster needs Linux, this is {os.uname().sysname}: use the cluster of your KUBECONFIG instead"
        )
    if os.geteuid() != 0:
        raise Refusal("a cluster needs root for namespaces, mounts and cgroups: run again with sudo -E")
    config.check_places(root=config.state_root(), cache=config.cache_dir(), name=name)


def _settle(name: str, options: Options) -> Cluster:
    """Give the cluster its slot and note it, before anything is made."""
    known = config.load(name)
    if known is not None and known.options.profile is not options.profile:
        raise Refusal(
            f"cluster {name} has profile {known.options.profile}: `python3 -m localcluster down --name {name}` first, "
            f"or choose another --name"
        )
    if known is None:
        others = [other for other in map(config.load, config.known_names()) if other is not None]
        slot = config.free_slot(taken=[other.slot for other in others], blocked=network.blocked_slots())
    else:
        slot = known.slot
    cluster = Cluster(name=name, slot=slot, options=options)
    config.save(cluster)
    return cluster


def _ensure_sandbox(cluster: Cluster, *, programs: Path, progress: Progress) -> processes.Process:
    group = cgroups.create(cluster.cgroup)
    holder = sandbox.holder_of(cluster)
    if holder is not None:
        return holder
    if cgroups.members(cluster.cgroup):
        progress.say("the namespaces lost their holder: ending what still runs in them")
        if left := leftovers.end_processes(cluster.name):
            raise Refusal(f"cannot end {left[0]} of an earlier start: end it by hand")
        network.remove_link(cluster.addresses)
        group = cgroups.create(cluster.cgroup)
    network.load_kernel_modules()
    return sandbox.start_holder(cluster, pause=(programs / "pause").resolve(), cgroup=group)


def _start_all(cluster: Cluster, *, programs: Path, progress: Progress) -> None:
    plan = components(cluster, programs)
    kubectl = Kubectl(cluster, programs)
    _stop_unplanned(cluster, plan)
    for name in ("etcd", "apiserver"):
        start(cluster, plan[name], progress=progress)
        wait_for(cluster, plan[name], progress=progress)
    for name in ("controller-manager", "scheduler"):
        start(cluster, plan[name], progress=progress)
    if cluster.options.profile is Profile.NODE:
        _start_node(cluster, plan, kubectl=kubectl, programs=programs, progress=progress)
    for name in ("controller-manager", "scheduler"):
        wait_for(cluster, plan[name], progress=progress)
    wait_until(
        lambda: _default_account_missing(kubectl), what="namespaces", timeout_seconds=START_SECONDS, progress=progress
    )
    if cluster.options.kwok_nodes:
        start(cluster, plan["kwok"], progress=progress)
    kwok_nodes.ensure_nodes(cluster, kubectl)
    if cluster.options.kwok_nodes:
        wait_until(
            lambda: _kwok_missing(cluster, kubectl), what="KWOK nodes", timeout_seconds=START_SECONDS, progress=progress
        )
        progress.say(f"{cluster.options.kwok_nodes} KWOK nodes are ready")


def _stop_unplanned(cluster: Cluster, plan: dict[str, Component]) -> None:
    """End components that the options no longer ask for."""
    run = cluster.dir / "run"
    records = [path for path in run.iterdir() if path.name not in plan and path.name != sandbox.HOLDER]
    for record in records:
        if process := processes.recorded(record):
            processes.end([process], grace_seconds=STOP_SECONDS)
        record.unlink(missing_ok=True)


def start(cluster: Cluster, component: Component, *, progress: Progress) -> None:
    """Start a component unless it runs with exactly this command line."""
    running = processes.recorded(cluster.record(component.name))
    if running is not None:
        if running.command == component.command:
            return
        progress.say(f"restarting {component.name}: its command line changed")
        processes.end([running], grace_seconds=STOP_SECONDS)
    else:
        progress.say(f"starting {component.name}")
    holder = sandbox.require_holder(cluster)
    group = cgroups.tracking_root() / cluster.cgroup / cgroups.COMPONENTS
    command = sandbox.enter(holder, *component.command)
    processes.launch(command, record=cluster.record(component.name), log=cluster.log(component.name), cgroup=group)


def wait_for(cluster: Cluster, component: Component, *, progress: Progress) -> None:
    """Wait until a component that was started is up."""
    wait_until(
        lambda: _lacks(cluster, component), what=component.name, timeout_seconds=START_SECONDS, progress=progress
    )


def _lacks(cluster: Cluster, component: Component) -> str | None:
    """What a component still lacks to be up; Refusal when it ended."""
    log = cluster.log(component.name)
    process = processes.recorded(cluster.record(component.name))
    if process is None:
        raise Refusal(f"{component.name} ended right after its start: {last_words(log)} (log: {log})")
    if component.port is not None and not listening(process.pid, component.port):
        return f"{component.name} does not listen on port {component.port} yet"
    if component.socket is not None and not accepts(Path(f"/proc/{process.pid}/root{component.socket}")):
        return f"{component.name} does not accept connections on {component.socket} yet"
    if component.name == "apiserver":
        status, text = answer(f"{cluster.api_url}/readyz", authority=cluster.pki("ca.crt"))
        return None if status == 200 else f"/readyz answers {status} {text.splitlines()[-1:]}"
    return None


def listening(pid: int, port: int) -> bool:
    """Whether a TCP port is listened on in the network namespace of a process."""
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def accepts(path: Path) -> bool:
    """Whether something accepts connections on a Unix socket; the file alone may be left from before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _start_node(
    cluster: Cluster, plan: dict[str, Component], *, kubectl: Kubectl, programs: Path, progress: Progress
) -> None:
    _write_node_files(cluster)
    if processes.recorded(cluster.record("containerd")) is None:
        limits.check()
    start(cluster, plan["containerd"], progress=progress)
    wait_for(cluster, plan["containerd"], progress=progress)
    _load_own_images(cluster, programs)
    for name in ("kubelet", "kube-proxy"):
        start(cluster, plan[name], progress=progress)
    kubectl.apply(addons.addons(cluster))
    for name in ("metrics-server", "discovery", "prometheus"):
        start(cluster, plan[name], progress=progress)
    for name in ("kubelet", "kube-proxy", "metrics-server", "discovery", "prometheus"):
        wait_for(cluster, plan[name], progress=progress)
    authority = base64.b64encode(cluster.pki("ca.crt").read_bytes()).decode()
    kubectl.apply([addons.metrics_api(authority)])
    checks = {
        "the node": lambda: _node_missing(cluster, kubectl),
        "the name server": lambda: _coredns_missing(kubectl),
        "the metrics API": lambda: _metrics_missing(cluster, kubectl),
        "Prometheus": lambda: _prometheus_missing(cluster),
    }
    for what, check in checks.items():
        wait_until(check, what=what, timeout_seconds=START_SECONDS, progress=progress)
        progress.say(f"{what} is ready")


def _write_node_files(cluster: Cluster) -> None:
    for directory in (cluster.conf("cni"), cluster.conf("prometheus-rules"), cluster.data("pod-logs")):
        directory.mkdir(parents=True, exist_ok=True)
    if not cluster.conf("containerd.toml").exists():
        snapshotter = "overlayfs" if sandbox.overlay_works(cluster) else "native"
        cluster.conf("containerd.toml").write_text(node.containerd_config(cluster, snapshotter=snapshotter))
    cluster.conf("cni/10-pods.conflist").write_text(node.cni_config(cluster))
    cluster.conf("kubelet.json").write_text(node.kubelet_config(cluster))
    cluster.conf("prometheus.json").write_text(addons.prometheus_config(cluster))


def _load_own_images(cluster: Cluster, programs: Path) -> None:
    for program, image in (("pause", node.PAUSE_IMAGE), ("coredns", addons.COREDNS_IMAGE)):
        binary = (programs / program).resolve()
        archive = config.cache_dir() / "images" / f"{program}@{binary.parent.name}.tar"
        if not archive.exists():
            oci.write_program_image(binary, image=image, archive=archive)
        load_image(cluster, archive)


def _node_missing(cluster: Cluster, kubectl: Kubectl) -> str | None:
    found = kubectl.get("node", cluster.node_name)
    if found is None:
        return f"node {cluster.node_name} did not register yet"
    ranges = found["spec"].get("podCIDR")
    if ranges is None or condition(found, "Ready") != "True":
        return f"node {cluster.node_name} is not Ready"
    if ranges != cluster.addresses.node_pods:
        raise Refusal(f"the node was given pods {ranges} instead of {cluster.addresses.node_pods}: down, then up again")
    return None


def _coredns_missing(kubectl: Kubectl) -> str | None:
    found = kubectl.get("deployment", "coredns", "--namespace=kube-system")
    if found is not None and found.get("status", {}).get("readyReplicas", 0) >= 1:
        return None
    pods = (kubectl.get("pods", "--namespace=kube-system", "-l", "k8s-app=kube-dns") or {"items": []})["items"]
    return f"its pods: {[pod['status'].get('phase') for pod in pods]}"


def _metrics_missing(cluster: Cluster, kubectl: Kubectl) -> str | None:
    done = kubectl.run("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/nodes/{cluster.node_name}")
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]


def _prometheus_missing(cluster: Cluster) -> str | None:
    status, text = answer(f"{cluster.prometheus_url}/-/ready")
    return None if status == 200 else f"/-/ready answers {status} {text[:100]}"


def _default_account_missing(kubectl: Kubectl) -> str | None:
    """Pods can be made in a namespace once its account is there: the last thing a new control plane does."""
    found = kubectl.get("serviceaccount", "default", "--namespace=default")
    return None if found else "namespace default has no service account yet"


def _kwok_missing(cluster: Cluster, kubectl: Kubectl) -> str | None:
    listed = kubectl.get("nodes", "-l", "type=kwok") or {"items": []}
    ready = sum(condition(item, "Ready") == "True" for item in listed["items"])
    return None if ready >= cluster.options.kwok_nodes else f"{ready} of {cluster.options.kwok_nodes} are Ready"
