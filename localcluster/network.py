"""The link between the machine and a cluster: one virtual cable, three routes, and no way further out.

Inside there is no default route, so nothing that runs in the cluster can leave the machine; from the host, pods and
services are reachable by address. It changes no firewall rule and no kernel setting of the machine.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from localcluster.config import SLOTS, Addresses, Cluster
from localcluster.packages import find_tool
from localcluster.processes import Process
from localcluster.report import Refusal
from localcluster.sandbox import enter

# Of the cluster's own network namespace: forward between pods, and translate replies back inside the bridge too.
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/bridge/bridge-nf-call-iptables": "1",
}


def overlapping(addresses: Addresses, routes: Iterable[Mapping[str, Any]], *, ours: str | None = None) -> list[str]:
    """The routes of the machine that use a network of this slot, other than those of the interface `ours`."""
    found = []
    for route in routes:
        destination = route.get("dst", "default")
        if destination == "default" or ":" in destination or route.get("dev") == ours:
            continue
        network = ipaddress.IPv4Network(destination, strict=False)
        if any(network.overlaps(needed) for needed in addresses.networks()):
            found.append(f"{destination} dev {route.get('dev', '?')}")
    return found


def blocked_slots() -> list[int]:
    """The slots whose networks this machine already uses, be it for a cluster of another state root."""
    routes = _ip_json("route", "show", "table", "all")
    return [slot for slot in SLOTS if overlapping(Addresses(slot), routes)]


def ensure_link(cluster: Cluster, holder: Process) -> None:
    """Lay the cable and the routes, or complete what is half there."""
    addresses = cluster.addresses
    routes = _ip_json("route", "show", "table", "all")
    if conflict := overlapping(addresses, routes, ours=addresses.host_interface):
        raise Refusal(
            f"this machine routes {conflict[0]} itself, which cluster {cluster.name} needs: remove that route"
        )
    host, node = addresses.host_interface, addresses.node_interface
    if not _link_exists(host):
        _ip("link", "add", host, "type", "veth", "peer", "name", node, "netns", str(holder.pid))
    _ip("address", "replace", f"{addresses.host}/30", "dev", host)
    _ip("link", "set", host, "up")
    inside = " && ".join(
        [
            "ip link set lo up",
            f"ip address replace {addresses.node}/30 dev {node}",
            f"ip link set {node} up",
            f"ip route replace {addresses.services} dev {node}",
            *(
                f"if [ -e /proc/sys/{path} ]; then echo {value} > /proc/sys/{path}; fi"
                for path, value in SETTINGS.items()
            ),
        ]
    )
    _run(enter(holder, "sh", "-c", inside))
    for network in (addresses.services, addresses.pods):
        _ip("route", "replace", network, "via", addresses.node, "dev", host)
    check_ours(cluster)


def check_ours(cluster: Cluster) -> None:
    """Make sure that every address of the cluster leads into it before anything is sent there."""
    addresses = cluster.addresses
    first_pod = str(ipaddress.IPv4Network(addresses.node_pods)[1])
    for address in (addresses.node, addresses.kubernetes_service, addresses.dns, first_pod):
        route = _ip_json("route", "get", address)[0]
        if route.get("dev") != addresses.host_interface:
            raise Refusal(
                f"{address} leads to {route.get('dev')} instead of cluster {cluster.name}: "
                f"`python3 -m localcluster down --name {cluster.name}`, then up again"
            )


def remove_link(addresses: Addresses) -> None:
    """Remove the cable; the other end and all routes go with it."""
    if _link_exists(addresses.host_interface):
        subprocess.run([_tool(), "link", "delete", addresses.host_interface], check=False, capture_output=True)


def remains(addresses: Addresses) -> list[str]:
    """What is still there of the link and its routes."""
    found = [f"interface {addresses.host_interface}"] if _link_exists(addresses.host_interface) else []
    routes = _ip_json("route", "show", "table", "all")
    return found + [f"route {route.get('dst')}" for route in routes if route.get("dev") == addresses.host_interface]


def load_kernel_modules() -> None:
    """Ask for what a kernel may have as modules; a kernel that has it built in needs nothing."""
    if modprobe := find_tool("modprobe"):
        subprocess.run([modprobe, "-qa", "br_netfilter", "overlay", "veth"], check=False, capture_output=True)


def _link_exists(name: str) -> bool:
    return any(link.get("ifname") == name for link in _ip_json("link", "show"))


def _tool() -> str:
    return find_tool("ip") or "ip"


def _ip(*arguments: str) -> None:
    _run([_tool(), *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Refusal(f"cannot set up the cluster's network ({reason[0]}): run as root, with CAP_NET_ADMIN")


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run([_tool(), "-j", "-4", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refusal(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
    parsed: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return parsed
