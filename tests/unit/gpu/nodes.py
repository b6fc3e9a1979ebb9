"""Nodes as GPU feature discovery and NVIDIA's device plug-in describe them."""

from __future__ import annotations

from typing import Any

from nereus.gpu.nodes import NodeGpus, read

Json = dict[str, Any]
GFD = "nvidia.com/gpu"


def manifest(name: str, *, allocatable: dict[str, int], annotations: Json | None = None, **labels: str) -> Json:
    """A Node; labels are given by the last part of their name, with _ for the dots and dashes."""
    known = {
        "product": f"{GFD}.product",
        "memory": f"{GFD}.memory",
        "sharing": f"{GFD}.sharing-strategy",
        "replicas": f"{GFD}.replicas",
        "driver": "nvidia.com/cuda.driver-version.major",
        "strategy": "nvidia.com/mig.strategy",
        "limits": "serving.nereus.dev/gpu-driver-limits",
    }
    return {
        "metadata": {
            "name": name,
            "labels": {known[key]: value for key, value in labels.items()},
            "annotations": annotations or {},
        },
        "status": {"allocatable": {"cpu": "8", "memory": "64Gi", **{k: str(v) for k, v in allocatable.items()}}},
    }


def node(name: str, **described: Any) -> NodeGpus:
    found = read(manifest(name, **described))
    assert found is not None
    return found


def whole(name: str = "whole", *, count: int = 4, memory: str = "81559", driver: str = "580", **more: Any) -> NodeGpus:
    product = more.pop("product", "NVIDIA-H100-80GB-HBM3")
    fields = {"sharing": "none", "replicas": "1", **more}
    return node(name, allocatable={GFD: count}, product=product, memory=memory, driver=driver, **fields)


def shared(
    name: str = "shared", *, by: str = "time-slicing", replicas: int = 4, driver: str = "580", **more: Any
) -> NodeGpus:
    return node(
        name,
        allocatable={more.pop("resource", GFD): replicas},
        product="NVIDIA-L40S-SHARED",
        memory=more.pop("memory", "46068"),
        sharing=by,
        replicas=str(replicas),
        driver=driver,
        **more,
    )


def mixed(name: str = "mixed", **slices: int) -> NodeGpus:
    """MIG slices by profile, with _ for the dot: p1g_10gb=2."""
    profiles = {f"nvidia.com/mig-{key[1:].replace('_', '.')}": count for key, count in slices.items()}
    return node(
        name,
        allocatable=profiles,
        product="NVIDIA-A100-SXM4-80GB",
        memory="81920",
        sharing="none",
        strategy="mixed",
        driver="580",
    )


def single(name: str = "single", *, count: int = 7, **more: Any) -> NodeGpus:
    fields = {"sharing": "none", **more}
    return node(
        name,
        allocatable={GFD: count},
        product="NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
        memory="9728",
        strategy="single",
        driver="580",
        **fields,
    )


def hami(name: str = "hami") -> NodeGpus:
    return node(
        name,
        allocatable={GFD: 40},
        product="NVIDIA-L4",
        memory="23034",
        driver="580",
        annotations={"hami.io/node-nvidia-register": "[{}]"},
    )
