"""Nereus on a cluster: the local cluster, the images where the node finds them, and the chart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.kube import CommandError, Kube, Say, StepError, wait
from localcluster.addons import SCRAPE_SECONDS
from localcluster.build import bin_dir, go_version
from localcluster.config import DEFAULT_NAME, find_cluster
from localcluster.containers import load_image
from localcluster.images import Image, build_all

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "nereus"
NAMESPACE = "nereus-system"
RELEASE = "nereus"
DEFINITION = "modelservices.serving.nereus.dev"
EXAMPLE = "examples/quickstart.yaml"
USER_NAMESPACE = "default"
"""Where the example is applied."""


def local_cluster(name: str = DEFAULT_NAME) -> Kube:
    """The local cluster, started when it is not up (its own progress goes to the screen)."""
    done = subprocess.run([sys.executable, "-m", "localcluster", "up", "--name", name], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise StepError("the local cluster did not start; the line above says why")
    cluster = find_cluster(name)
    return Kube(kubeconfig=cluster.kubeconfig, tools=bin_dir(go_version=go_version()), routed=True)


def local_kubeconfig(name: str = DEFAULT_NAME) -> Path:
    return find_cluster(name).kubeconfig


def remove_local_cluster(name: str = DEFAULT_NAME) -> int:
    """End this cluster, also one whose start was killed half way; others on the machine belong to somebody else."""
    command = [sys.executable, "-m", "localcluster", "down", "--name", name]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def images(say: Say) -> dict[str, Image]:
    """The project's images by short name, built when their content changed."""
    say("images: building those whose content changed")
    return {image.name: image for image in build_all()}


def load_into_local_cluster(built: Mapping[str, Image], say: Say, name: str = DEFAULT_NAME) -> None:
    cluster = find_cluster(name)
    for image in built.values():
        say(f"image {image.reference} into the node")
        load_image(cluster, image.archive)


def image_values(built: Mapping[str, Image]) -> tuple[str, ...]:
    """What the chart must be told to use these images."""
    values: list[str] = []
    for key, name in (("image", "operator"), ("sidecar", "sidecar"), ("gpu.agent.image", "agent")):
        repository, _, tag = built[name].reference.rpartition(":")
        values += ["--set", f"{key}.repository={repository}", "--set-string", f"{key}.tag={tag}"]
    return (*values, "--set", f"triton.image={built['triton-cpu'].reference}")


def prometheus_values(name: str = DEFAULT_NAME) -> tuple[str, ...]:
    """What the chart must be told to read the local cluster's Prometheus, and that it scrapes every few seconds."""
    pace = "extraEnv[0]"
    return (
        *("--set", f"prometheus.url={find_cluster(name).prometheus_url}"),
        *("--set", f"{pace}.name=NEREUS_PROMETHEUS_SCRAPE_INTERVAL", "--set-string", f"{pace}.value={SCRAPE_SECONDS}"),
    )


def install_chart(kube: Kube, say: Say, *values: str, chart: Path = CHART) -> None:
    """Install or upgrade the chart and wait until every replica of the operator answers."""
    say(f"helm upgrade --install {RELEASE} charts/nereus --namespace {NAMESPACE}")
    command = ["upgrade", "--install", RELEASE, str(chart), "--namespace", NAMESPACE, "--create-namespace", *values]
    kube.run("helm", *command, say=say)
    wait(
        lambda: _rolled_out(kube),
        "the operator's pods",
        seconds=180,
        state=lambda: kube.kubectl("-n", NAMESPACE, "get", "pods"),
        say=say,
    )


def release_exists(kube: Kube) -> bool:
    """Whether Nereus was installed with helm under the name that the demo uses."""
    try:
        kube.run("helm", "status", RELEASE, "--namespace", NAMESPACE)
    except CommandError as error:
        if "not found" in str(error):
            return False
        raise
    return True


def delete_example(kube: Kube, say: Say) -> None:
    """Take away the service of the demo, if it came as far as applying it."""
    if kube.get("customresourcedefinition", DEFINITION, namespace=USER_NAMESPACE) is not None:
        say(f"kubectl delete -f {EXAMPLE}")
        given = ("-n", USER_NAMESPACE, "delete", "-f", str(ROOT / EXAMPLE), "--ignore-not-found")
        kube.run("kubectl", *given, say=say)


def uninstall_chart(kube: Kube, say: Say) -> None:
    """Take away what `install_chart` installed; the definition of ModelServices stays, as the chart says."""
    say(f"helm uninstall {RELEASE} --namespace {NAMESPACE}")
    kube.run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", say=say)


def _rolled_out(kube: Kube) -> bool:
    deployment = kube.get("deployment", RELEASE, namespace=NAMESPACE) or {}
    status, wanted = deployment.get("status", {}), deployment.get("spec", {}).get("replicas", 1)
    settled = status.get("observedGeneration") == deployment.get("metadata", {}).get("generation")
    return settled and all(
        status.get(count) == wanted for count in ("replicas", "updatedReplicas", "availableReplicas")
    )
