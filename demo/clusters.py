"""Which cluster the demo runs on: the one of KUBECONFIG, kind where Docker runs, or the local one.

Each choice answers the same questions: how to reach it, and how images get into it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo import install
from demo.kube import Kube, StepError
from localcluster.config import cache_dir

Say = Callable[[str], None]
KIND_CLUSTER = "nereus"
KIND_MODULE = "sigs.k8s.io/kind@v0.31.0"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A cluster with Nereus' images in it. `helm_values` are what the chart needs to find them."""

    kube: Kube
    helm_values: tuple[str, ...]
    what: str


def prepare(say: Say, choice: str) -> Prepared:
    """`choice` is "" (automatic), "existing", "kind" or "local"."""
    if choice not in ("", "existing", "kind", "local"):
        raise StepError(f"CLUSTER={choice}: choose existing, kind or local, or leave it out")
    if choice == "existing":
        return _existing(say)
    if choice == "kind" or (choice == "" and _docker_answers()):
        return _kind(say)
    return _local(say)


def _local(say: Say) -> Prepared:
    kube = install.local_cluster()
    built = install.images(say)
    install.load_into_local_cluster(built, say)
    values = (*install.image_values(built), *install.prometheus_values())
    return Prepared(kube=kube, helm_values=values, what="the local cluster")


def _existing(say: Say) -> Prepared:
    """The cluster of KUBECONFIG. Images cannot be pushed into somebody's cluster: HELM_ARGS says where they are."""
    path = Path(os.environ.get("KUBECONFIG", "")).expanduser()
    if not path.is_file():
        raise StepError("CLUSTER=existing needs KUBECONFIG to name the file of the cluster to use")
    if path == install.local_kubeconfig():
        return _local(say)
    arguments = tuple(shlex.split(os.environ.get("HELM_ARGS", "")))
    if not arguments:
        raise StepError(
            "CLUSTER=existing: say where the cluster finds the images, e.g. HELM_ARGS='--set"
            " image.repository=REGISTRY/nereus-operator --set sidecar.repository=REGISTRY/nereus-sidecar --set"
            " triton.image=REGISTRY/tritonserver:TAG'"
        )
    kube = Kube(kubeconfig=path)
    kube.kubectl("version", timeout=20)
    return Prepared(kube=kube, helm_values=arguments, what=f"the cluster of {path}")


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def _kind(say: Say) -> Prepared:
    kind = _kind_tool(say)
    kubeconfig = cache_dir() / "kind.kubeconfig"
    listed = subprocess.run([kind, "get", "clusters"], capture_output=True, text=True, check=False).stdout.split()
    if KIND_CLUSTER not in listed:
        say("kind create cluster (its progress follows)")
        command = [kind, "create", "cluster", "--name", KIND_CLUSTER, "--kubeconfig", str(kubeconfig), "--wait", "120s"]
        if subprocess.run(command, check=False).returncode != 0:
            raise StepError("kind could not create a cluster; the lines above say why (CLUSTER=local needs no Docker)")
    else:
        subprocess.run(
            [kind, "export", "kubeconfig", "--name", KIND_CLUSTER, "--kubeconfig", str(kubeconfig)], check=True
        )
    built = install.images(say)
    for image in built.values():
        say(f"image {image.reference} into kind")
        subprocess.run([kind, "load", "image-archive", str(image.archive), "--name", KIND_CLUSTER], check=True)
    return Prepared(kube=Kube(kubeconfig=kubeconfig), helm_values=install.image_values(built), what="kind")


def _kind_tool(say: Say) -> str:
    found = shutil.which("kind")
    if found:
        return found
    target = cache_dir() / "kind-bin"
    if not (target / "kind").exists():
        say("building kind from its Go module")
        environment = {**os.environ, "GOBIN": str(target)}
        if subprocess.run(["go", "install", KIND_MODULE], env=environment, check=False).returncode != 0:
            raise StepError(
                f"kind is not on PATH and `go install {KIND_MODULE}` failed; install kind, or use CLUSTER=local"
            )
    return str(target / "kind")


def remove(say: Say) -> int:
    """Takes away what `prepare` started: the kind cluster if it is ours, and the demo's local cluster."""
    remove_kind(say)
    return install.remove_local_cluster()


def remove_kind(say: Say) -> None:
    """Takes away the kind cluster if it is ours."""
    if _docker_answers() and (shutil.which("kind") or (cache_dir() / "kind-bin" / "kind").exists()):
        say("removing the kind cluster")
        subprocess.run([_kind_tool(say), "delete", "cluster", "--name", KIND_CLUSTER], check=False)
    (cache_dir() / "kind.kubeconfig").unlink(missing_ok=True)
