"""Names, places and addresses of a cluster: pure arithmetic on a name and a small slot number.

Several clusters live side by side because everything that could collide (interface names, subnets, service and pod
ranges, cgroups, directories) is derived here and nowhere else. Versions are not here: each go.mod is their only home.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from localcluster.report import Refusal

SLOTS = range(30)
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
DURATION_PATTERN = re.compile(r"[0-9]+(ms|s|m)")
DEFAULT_NAME = os.environ.get("NEREUS_CLUSTER", "") or "nereus"
DEFAULT_STATE_ROOT = Path("/var/lib/nereus")
CGROUP_PREFIX = "nereus-"
MAX_KWOK_NODES = 5000
# In a cluster with a real node each KWOK node takes one of the 256 pod ranges of the /16.
MAX_KWOK_NODES_BESIDE_A_REAL_ONE = 250
# The longest socket below the state directory; the kernel allows 107 characters.
LONGEST_SOCKET_BELOW_STATE = "kubelet/device-plugins/kubelet.sock"
SOCKET_PATH_LIMIT = 107


class Profile(enum.StrEnum):
    """What runs: a whole node with real containers, or the control plane alone."""

    NODE = "node"
    CONTROL = "control"


@dataclass(frozen=True)
class Options:
    """What a user chose for one cluster."""

    profile: Profile = Profile.NODE
    kwok_nodes: int = 0
    hpa_sync: str = "5s"
    default_client_limits: bool = False

    def __post_init__(self) -> None:
        limit = MAX_KWOK_NODES if self.profile is Profile.CONTROL else MAX_KWOK_NODES_BESIDE_A_REAL_ONE
        if not 0 <= self.kwok_nodes <= limit:
            raise Refusal(f"--kwok-nodes {self.kwok_nodes}: must be 0 to {limit} with --profile {self.profile}")
        if not DURATION_PATTERN.fullmatch(self.hpa_sync):
            raise Refusal(f"--hpa-sync {self.hpa_sync}: must be a duration such as 5s or 15s")


@dataclass(frozen=True)
class Addresses:
    """The networks of one slot. The host end and the node end share a /30; the ranges do not overlap between slots."""

    slot: int

    @property
    def host(self) -> str:
        """The host's end of the link."""
        return f"10.200.{self.slot}.2"

    @property
    def node(self) -> str:
        """The cluster's end of the link: API server, kubelet and Prometheus listen here."""
        return f"10.200.{self.slot}.1"

    @property
    def link(self) -> str:
        """The network of the link."""
        return f"10.200.{self.slot}.0/30"

    @property
    def services(self) -> str:
        """The range of service addresses."""
        return f"10.{96 + self.slot}.0.0/16"

    @property
    def pods(self) -> str:
        """The range of pod addresses of all nodes."""
        return f"10.{244 - self.slot}.0.0/16"

    @property
    def node_pods(self) -> str:
        """The part of the pod range that the real node takes: the first that the controller-manager hands out."""
        return f"10.{244 - self.slot}.0.0/24"

    @property
    def kwok_pods(self) -> str:
        """The addresses of pods on KWOK nodes: of this cluster too, so that asking one never leaves the machine."""
        return f"10.{244 - self.slot}.128.0/17"

    @property
    def kubernetes_service(self) -> str:
        """The address of the service `kubernetes.default`."""
        return f"10.{96 + self.slot}.0.1"

    @property
    def dns(self) -> str:
        """The address of the cluster's name server."""
        return f"10.{96 + self.slot}.0.10"

    @property
    def host_interface(self) -> str:
        """The interface on the host."""
        return f"nereus-h{self.slot}"

    @property
    def node_interface(self) -> str:
        """The interface inside the namespace."""
        return f"nereus-n{self.slot}"

    def networks(self) -> tuple[ipaddress.IPv4Network, ...]:
        """Everything that must not be routed elsewhere on this machine."""
        return tuple(ipaddress.IPv4Network(text) for text in (self.link, self.services, self.pods))


@dataclass(frozen=True)
class Cluster:
    """One cluster: where its files lie and what its parts are called."""

    name: str
    slot: int
    options: Options
    root: Path = field(default_factory=lambda: state_root())  # noqa: PLW0108 (defined further down)

    @property
    def dir(self) -> Path:
        """Everything this cluster writes; removed by `down`."""
        return self.root / self.name

    @property
    def addresses(self) -> Addresses:
        """The networks of this cluster."""
        return Addresses(self.slot)

    @property
    def node_name(self) -> str:
        """The name of the real node."""
        return f"{self.name}-node"

    @property
    def cgroup(self) -> str:
        """The cgroup below which every process of this cluster lives, containers included."""
        return cgroup_name(self.name, root=self.root)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.dir / "kubeconfig"

    @property
    def api_url(self) -> str:
        """Where the API server answers, also from the host."""
        return f"https://{self.addresses.node}:6443"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers, also from the host."""
        return f"http://{self.addresses.node}:9090"

    def pki(self, file: str) -> Path:
        """A key or certificate."""
        return self.dir / "pki" / file

    def conf(self, file: str) -> Path:
        """A rendered configuration file."""
        return self.dir / "conf" / file

    def log(self, component: str) -> Path:
        """The log of a component."""
        return self.dir / "log" / f"{component}.log"

    def record(self, component: str) -> Path:
        """The file that names the process of a component."""
        return self.dir / "run" / component

    def data(self, component: str) -> Path:
        """The data directory of a component."""
        return self.dir / component


def cache_dir() -> Path:
    """Built binaries and images, kept between clusters."""
    if chosen := os.environ.get("NEREUS_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "nereus"


def state_root() -> Path:
    """The directory that holds one directory per running cluster."""
    return Path(os.environ.get("NEREUS_STATE") or DEFAULT_STATE_ROOT).absolute()


def cgroup_name(cluster_name: str, *, root: Path) -> str:
    """The cgroup of a cluster, which can be found without its state directory; another root is another family."""
    return f"{CGROUP_PREFIX}{cluster_name}{_family(root)}"


def cluster_of_cgroup(group: str, *, root: Path) -> str | None:
    """The name of the cluster whose cgroup this is, when it is of the family of this root."""
    name = group.removeprefix(CGROUP_PREFIX).removesuffix(_family(root))
    return name if NAME_PATTERN.fullmatch(name) and cgroup_name(name, root=root) == group else None


def _family(root: Path) -> str:
    return "" if root == DEFAULT_STATE_ROOT else f".{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"


def check_name(name: str) -> str:
    """The name itself when it can be used for directories, cgroups and nodes; Refusal otherwise."""
    if not NAME_PATTERN.fullmatch(name):
        raise Refusal(f"--name {name}: must be 1 to 20 lower-case letters, digits and dashes, not at the ends")
    return name


def check_places(*, root: Path, cache: Path, name: str) -> None:
    """Refuse directories that the cluster could not use."""
    longest = len(str(root / name / LONGEST_SOCKET_BELOW_STATE))
    if longest > SOCKET_PATH_LIMIT:
        raise Refusal(
            f"NEREUS_STATE {root}: too long, sockets below it would have {longest} characters "
            f"and the kernel allows {SOCKET_PATH_LIMIT}; choose a shorter one"
        )
    for variable, place in (("NEREUS_STATE", root), ("NEREUS_CACHE", cache)):
        if place.resolve().is_relative_to("/run"):
            raise Refusal(f"{variable} {place}: /run is private inside the cluster; choose a directory elsewhere")


def save(cluster: Cluster) -> None:
    """Write what is needed to find this cluster again; first of all files, so that a killed start can be cleaned."""
    cluster.dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"name": cluster.name, "slot": cluster.slot, "options": asdict(cluster.options)}, indent=1)
    temporary = cluster.dir / "cluster.json.new"
    temporary.write_text(text + "\n")
    temporary.rename(cluster.dir / "cluster.json")


def load(name: str) -> Cluster | None:
    """The cluster of that name as it was last started, or None."""
    try:
        content = json.loads((state_root() / name / "cluster.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    chosen = content["options"]
    options = Options(**{**chosen, "profile": Profile(chosen["profile"])})
    return Cluster(name=content["name"], slot=content["slot"], options=options)


def find_cluster(name: str) -> Cluster:
    """The cluster of that name; Refusal when it was never started."""
    cluster = load(check_name(name))
    if cluster is None:
        raise Refusal(f"no cluster named {name}: start it with `python3 -m localcluster up --name {name}`")
    return cluster


def known_names() -> list[str]:
    """The names of all clusters that have a state directory."""
    root = state_root()
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def free_slot(*, taken: Iterable[int], blocked: Iterable[int] = ()) -> int:
    """The smallest slot that no cluster has and whose networks the machine does not use itself."""
    unusable = set(taken) | set(blocked)
    for slot in SLOTS:
        if slot not in unusable:
            return slot
    raise Refusal("no free address range for one more cluster: end one with `python3 -m localcluster down --name NAME`")
