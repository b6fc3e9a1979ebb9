"""The tiers of tests: where they lie, what they need of the machine, and how their cluster is made ready and removed.

What a machine lacks is one sentence with the remedy. A tier that cannot run is never counted as passed; a cluster
that should start and does not is a failure, not an excuse.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster import build, config
from localcluster.report import Progress, Refusal

ROOT = Path(__file__).resolve().parent.parent
INTEGRATION_WORKERS = int(os.environ.get("NEREUS_TEST_WORKERS", "") or 3)
"""So many control planes, each with tests of its own that run one after another: most of a test is waiting, and tests
that kill the API server or delete the definition disturb nobody."""
_TEST_CLUSTER = os.environ.get("NEREUS_TEST_CLUSTER", "nereus-test")
INTEGRATION_CLUSTERS = tuple(f"{_TEST_CLUSTER}-{number}" for number in range(INTEGRATION_WORKERS))
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
INTEGRATION_CLUSTER = f"{_TEST_CLUSTER}-{_WORKER}"
"""The control plane of this process, apart from the cluster of the demo so that both can run side by side."""


SECOND_LOOK = 3
"""More failures than this are no accident."""


class CannotPrepareError(Exception):
    """The cluster of a tier did not come up; its own lines are on the screen already."""


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One tier. `lack` is why this machine cannot run it (None when it can); `prepare` says what it does.

    Up to `second_look` failed tests are run once more: on a shared machine a cluster may stumble without our doing.
    `niceness` is how far its processes step back beside those of other tiers: what is timed comes first.
    `clusters` are the local ones that it may start, `on_kind` says that it may start one of kind instead.
    """

    name: str
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()
    second_look: int = 0
    niceness: int = 0
    clusters: tuple[str, ...] = ()
    on_kind: bool = False
    lack: Callable[[], str | None]
    prepare: Callable[[], None]


def running_clusters(tiers: Iterable[Tier]) -> frozenset[str]:
    """The local clusters that these tiers may start, as far as they exist; those of others are none of our business."""
    return frozenset(config.known_names()) & {name for tier in tiers for name in tier.clusters}


def kind_exists() -> bool:
    return (config.cache_dir() / "kind.kubeconfig").exists()


def remove_local_cluster(name: str) -> bool:
    return _localcluster("down", "--name", name) == 0


def _nothing() -> None:
    """Unit tests need nothing but the machine."""


def _no_lack() -> str | None:
    return None


def _lack_for_local_cluster() -> str | None:
    """Why this machine cannot run a local cluster, asked without starting anything."""
    if sys.platform != "linux":
        return f"a local cluster needs Linux, this is {sys.platform}: CLUSTER=existing uses the cluster of KUBECONFIG"
    if os.geteuid() != 0:
        return "a local cluster needs root for namespaces, mounts and cgroups: run again with sudo -E"
    unshare = shutil.which("unshare")
    if unshare is None:
        return "no unshare command: install util-linux"
    tried = subprocess.run([unshare, "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return (
            f"no right to make a network namespace ({tried.stderr.strip()}): run outside of an unprivileged container"
        )
    try:
        build.go_version()
    except Refusal as refusal:
        return str(refusal)
    return None


def _lack_for_e2e() -> str | None:
    choice = os.environ.get("CLUSTER", "")
    if choice == "existing":
        if not Path(os.environ.get("KUBECONFIG", "")).is_file():
            return "CLUSTER=existing needs KUBECONFIG to name the file of the cluster to use"
        return None
    return None if choice == "kind" else _lack_for_local_cluster()


def integration_options(name: str) -> tuple[str, ...]:
    """What `localcluster up` is told for a control plane of the integration tier."""
    return ("--name", name, "--profile", "control", "--kwok-nodes", "2")


def _prepare_stores() -> None:
    """What fetching from object stores is tested with; here, so that its installation is seen."""
    try:
        build.ensure_module(build.S3, progress=Progress())
    except Refusal as refusal:
        raise CannotPrepareError(str(refusal)) from None
    if subprocess.run(["make", "--no-print-directory", "fetch-venv"], cwd=ROOT, check=False).returncode != 0:
        raise CannotPrepareError("the packages of the sidecar's image cannot be installed; the lines above say why")


def _prepare_integration() -> None:
    _prepare_stores()
    for name in INTEGRATION_CLUSTERS:
        if _localcluster("up", *integration_options(name)) != 0:
            raise CannotPrepareError(f"the local cluster {name} did not start; the line above says why")


def e2e_values(*, local: bool) -> tuple[str, ...]:
    """What the chart is told besides in the e2e tier: on a local cluster, GPU agents that look at SIMULATED GPUs."""
    if not local:
        return ()
    values = ("gpu.agent.enabled=true", "gpu.agent.nodeSelector=null", "gpu.evictAfterSeconds=5")
    directory = f"gpu.agent.simulation.hostPath={simulated_gpus()}"
    return tuple(word for value in (*values, directory) for word in ("--set", value))


def simulated_gpus() -> Path:
    """The directory of the node that says which GPUs it pretends to have."""
    return config.state_root() / config.DEFAULT_NAME / "simulated-gpus"


def _prepare_e2e() -> None:
    """Here and not only in the tier's fixture: pytest would hide the progress of a build that takes minutes."""
    from demo import clusters, install
    from demo.kube import StepError

    def say(line: str) -> None:
        print(line, flush=True)

    _prepare_stores()

    try:
        prepared = clusters.prepare(say, os.environ.get("CLUSTER", ""))
        install.install_chart(prepared.kube, say, *prepared.helm_values, *e2e_values(local=prepared.kube.routed))
    except (StepError, Refusal) as error:
        raise CannotPrepareError(str(error)) from None


def _localcluster(*arguments: str) -> int:
    command = [sys.executable, "-m", "localcluster", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode


TIERS = (
    Tier(
        name="unit",
        paths=("tests/unit", "tests/golden"),
        options=("-n", "2"),
        niceness=10,
        lack=_no_lack,
        prepare=_nothing,
    ),
    Tier(
        name="integration",
        paths=("tests/integration",),
        options=("-n", f"{INTEGRATION_WORKERS}", "--dist", "worksteal"),
        second_look=SECOND_LOOK,
        niceness=5,
        clusters=INTEGRATION_CLUSTERS,
        lack=_lack_for_local_cluster,
        prepare=_prepare_integration,
    ),
    # Its tests mostly wait for a kubelet: several at a time, each in a namespace of its own.
    Tier(
        name="e2e",
        paths=("tests/e2e",),
        options=("-n", "4", "--maxschedchunk", "1"),
        second_look=SECOND_LOOK,
        clusters=(config.DEFAULT_NAME,),
        on_kind=True,
        lack=_lack_for_e2e,
        prepare=_prepare_e2e,
    ),
)
