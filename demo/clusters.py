"""Which cluster the demo runs on: the one of KUBECONFIG, kind where Docker runs, or the local one.

Each choice answers the same questions: how to reach it, and how images get into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from demo import install
from demo.kube import Kube, Say, StepError, finished
from localcluster.config import cache_dir

KIND_CLUSTER = "nereus"
KIND_MODULE = "sigs.k8s.io/kind@v0.31.0"
KIND_SECONDS = 900.0
"""The longest step of kind: on a new machine it is built, and fetches its node."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A cluster with Nereus' images in it. `helm_values` are what the chart needs to find them; `foreign` says that the
    cluster is somebody's own, of which only what the demo brought may be taken away."""

    kube: Kube
    helm_values: tuple[str, ...]
    what: str
    foreign: bool = False


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
    return Prepared(kube=kube, helm_values=arguments, what=f"the cluster of {path}", foreign=True)


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
        if finished(command, seconds=KIND_SECONDS, say=say)[0] != 0:
            raise StepError("kind could not create a cluster; the lines above say why (CLUSTER=local needs no Docker)")
    else:
        subprocess.run(
            [kind, "export", "kubeconfig", "--name", KIND_CLUSTER, "--kubeconfig", str(kubeconfig)], check=True
        )
    built = install.images(say)
    for image in built.values():
        say(f"image {image.reference} into kind")
        load = [kind, "load", "image-archive", str(image.archive), "--name", KIND_CLUSTER]
        if finished(load, seconds=KIND_SECONDS, say=say)[0] != 0:
            raise StepError(f"kind did not take the image {image.reference}; the lines above say why")
    return Prepared(kube=Kube(kubeconfig=kubeconfig), helm_values=install.image_values(built), what="kind")


def _kind_tool(say: Say) -> str:
    found = shutil.which("kind")
    if found:
        return found
    target = cache_dir() / "kind-bin"
    if not (target / "kind").exists():
        say("building kind from its Go module")
        environment = {**os.environ, "GOBIN": str(target)}
        if finished(["go", "install", KIND_MODULE], seconds=KIND_SECONDS, say=say, env=environment)[0] != 0:
            raise StepError(
                f"kind is not on PATH and `go install {KIND_MODULE}` failed; install kind, or use CLUSTER=local"
            )
    return str(target / "kind")


def _records() -> Path:
    """One file for each cluster of somebody that the demo was installed in: what of it was not there before."""
    return cache_dir() / "demo-in-existing"


def remember(prepared: Prepared) -> None:
    """Call before installing: `remove` later takes away from somebody's cluster only what was not there now."""
    if not prepared.foreign:
        return
    kube, where = prepared.kube, str(prepared.kube.kubeconfig.absolute())
    record = _records() / f"{hashlib.sha256(where.encode()).hexdigest()[:12]}.json"
    if record.exists():
        return
    brought = {
        "release": not install.release_exists(kube),
        "namespace": kube.get("namespace", install.NAMESPACE, namespace=install.NAMESPACE) is None,
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"kubeconfig": where, **brought}))


def remove(say: Say) -> int:
    """Takes away what `prepare` started (the kind cluster if it is ours, and the demo's local cluster), and what was
    installed in somebody's cluster."""
    try:
        leave_existing(say)
    finally:
        remove_kind(say)
        code = install.remove_local_cluster()
    return code


def leave_existing(say: Say) -> None:
    """Takes the example and the release out of the clusters in which `remember` saw them come."""
    for record in sorted(_records().glob("*.json")):
        noted = json.loads(record.read_text())
        kube = Kube(kubeconfig=Path(noted["kubeconfig"]))
        say(f"the demo in the cluster of {kube.kubeconfig}")
        try:
            install.delete_example(kube, say)
            if noted["release"]:
                install.uninstall_chart(kube, say)
                say(f"the definition of ModelServices stays: kubectl delete crd {install.DEFINITION} if none is left")
            if noted["namespace"]:
                kube.run("kubectl", "delete", "namespace", install.NAMESPACE, "--ignore-not-found", say=say)
        except StepError as error:
            raise StepError(f"{error} (if that cluster is gone, delete {record})") from None
        record.unlink()


def remove_kind(say: Say) -> None:
    """Takes away the kind cluster if it is ours."""
    if _docker_answers() and (shutil.which("kind") or (cache_dir() / "kind-bin" / "kind").exists()):
        say("removing the kind cluster")
        subprocess.run([_kind_tool(say), "delete", "cluster", "--name", KIND_CLUSTER], check=False)
    (cache_dir() / "kind.kubeconfig").unlink(missing_ok=True)
