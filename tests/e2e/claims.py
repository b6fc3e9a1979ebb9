"""A claim on a directory of the node, and a pod that does something with it once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.world import World


@contextmanager
def claim(world: World, *, sweep: str) -> Iterator[None]:
    """Claim `models`, for the length of a `with` block; `sweep` names what is to be removed below it afterwards."""
    volume = f"models-{world.namespace}"
    world.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": world.namespace, "name": "models"},
                "hostPath": {"path": f"/tmp/nereus-e2e/{volume}", "type": "DirectoryOrCreate"},
            },
        },
        namespace=world.namespace,
    )
    try:
        world.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "models"},
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "storageClassName": "",
                    "volumeName": volume,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
            namespace=world.namespace,
        )
        yield
    finally:
        run_pod(world, "sweep", f"rm -rf /claim/{sweep}")
        world.kube.kubectl("delete", "pv", volume, "--wait=false")


def run_pod(world: World, name: str, script: str) -> str:
    """What a pod prints that runs a shell script once, with the claim at /claim; the Triton image has the shell."""
    operator = world.kube.get("deployment", "nereus", namespace="nereus-system") or {}
    variables = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    image = next(item["value"] for item in variables if item["name"] == "NEREUS_TRITON_IMAGE")
    world.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "shell",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["/bin/sh", "-c", script],
                        "securityContext": {"runAsUser": 0},
                        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                    }
                ],
                "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "models"}}],
            },
        },
        namespace=world.namespace,
    )

    def phase() -> str:
        pod = world.kube.get("pod", name, namespace=world.namespace) or {}
        return str((pod.get("status") or {}).get("phase"))

    world.wait(lambda: phase() in ("Succeeded", "Failed"), f"pod {name}", seconds=120)
    printed = world.kube.kubectl("-n", world.namespace, "logs", name)
    assert phase() == "Succeeded", printed
    return printed
