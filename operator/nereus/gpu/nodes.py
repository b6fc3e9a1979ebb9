"""What the GPUs of a node offer, as typed values, from the labels and the allocatable resources of a Node.

The labels are those of NVIDIA's GPU feature discovery; where they are missing a value is unknown, not zero. HAMi is
known by its own annotation. Nothing else of a node is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nereus.api import names
from nereus.gpu.ask import MIB

PREFIX = "nvidia.com/"
GPU = f"{PREFIX}gpu"
SHARED = f"{PREFIX}gpu.shared"
MIG_PREFIX = f"{PREFIX}mig-"
LABEL_PRODUCT = f"{GPU}.product"
LABEL_MEMORY = f"{GPU}.memory"
LABEL_REPLICAS = f"{GPU}.replicas"
LABEL_SHARING = f"{GPU}.sharing-strategy"
LABEL_MIG_STRATEGY = f"{PREFIX}mig.strategy"
LABEL_DRIVER = (f"{PREFIX}cuda.driver-version.major", f"{PREFIX}cuda.driver.major")
LABEL_DRIVER_LIMITS = f"{names.GROUP}/gpu-driver-limits"
"""Set to "true" by an administrator who has checked what no label tells: container toolkit 1.20.1 or later in CDI
mode, and cgroup v2. An older toolkit ignores the limit without a word."""
ANNOTATION_HAMI = "hami.io/node-nvidia-register"
NO_SHARING, TIME_SLICING, MPS = "none", "time-slicing", "mps"
_SUFFIXES = re.compile(r"(-SHARED|-MIG-.*)$")


@dataclass(frozen=True, kw_only=True)
class NodeGpus:
    """The GPUs of one node. `memory_bytes` is of one GPU, or of one slice where the strategy is `single`; None when
    no label says it. `sharing` and `mig_strategy` are empty when no label says them, `driver` is 0."""

    name: str
    product_label: str = ""
    memory_bytes: int | None = None
    driver: int = 0
    sharing: str = ""
    replicas: int = 1
    mig_strategy: str = ""
    allocatable: Mapping[str, int] = field(default_factory=dict)
    mig_memory: Mapping[str, int] = field(default_factory=dict)
    driver_limits: bool = False
    hami: bool = False

    @property
    def product(self) -> str:
        """The GPU model, without what sharing adds to the label."""
        return _SUFFIXES.sub("", self.product_label)

    @property
    def single_profile(self) -> str:
        """The MIG profile of every device of the node under strategy `single`; empty when they are not slices."""
        _, found, profile = self.product_label.partition("-MIG-")
        return profile if found else ""

    @property
    def mig(self) -> dict[str, int]:
        """Slices by profile under strategy `mixed`."""
        return {
            name.removeprefix(MIG_PREFIX): count
            for name, count in self.allocatable.items()
            if name.startswith(MIG_PREFIX) and count > 0
        }

    @property
    def plain(self) -> int:
        """Devices under nvidia.com/gpu."""
        return self.allocatable.get(GPU, 0)

    @property
    def shared(self) -> bool:
        """Whether several pods get the same GPU."""
        return self.sharing in (TIME_SLICING, MPS) or self.replicas > 1 or self.allocatable.get(SHARED, 0) > 0

    @property
    def share_resource(self) -> str:
        """The resource that one share is asked by."""
        return SHARED if self.allocatable.get(SHARED, 0) > 0 else GPU

    @property
    def share_bytes(self) -> int | None:
        """The part of a GPU's memory that belongs to one share."""
        return None if self.memory_bytes is None else self.memory_bytes // max(1, self.replicas)

    def labels(self, *also: str) -> tuple[tuple[str, str], ...]:
        """The labels by which a pod finds nodes like this one; empty without GPU feature discovery."""
        values = {
            LABEL_PRODUCT: self.product_label,
            LABEL_SHARING: self.sharing,
            LABEL_REPLICAS: str(self.replicas) if self.shared else "",
            LABEL_MIG_STRATEGY: self.mig_strategy,
            LABEL_DRIVER_LIMITS: "true" if self.driver_limits else "",
        }
        wanted = (LABEL_PRODUCT, LABEL_SHARING, *also)
        return tuple((name, values[name]) for name in wanted if values.get(name))


def read(node: Mapping[str, Any]) -> NodeGpus | None:
    """From a Node; None when it has no GPU of NVIDIA that pods could ask for. Survives any content."""
    metadata, status = _mapping(node.get("metadata")), _mapping(node.get("status"))
    labels, annotations = _mapping(metadata.get("labels")), _mapping(metadata.get("annotations"))
    allocatable = {
        str(name): count
        for name, amount in _mapping(status.get("allocatable")).items()
        if str(name).startswith(PREFIX) and (count := _number(amount)) > 0
    }
    if not allocatable:
        return None
    memory = _number(labels.get(LABEL_MEMORY))
    return NodeGpus(
        name=str(metadata.get("name", "")),
        product_label=str(labels.get(LABEL_PRODUCT, "")),
        memory_bytes=memory * MIB or None,
        driver=next((number for label in LABEL_DRIVER if (number := _number(labels.get(label)))), 0),
        sharing=str(labels.get(LABEL_SHARING, "")),
        replicas=max(1, _number(labels.get(LABEL_REPLICAS))),
        mig_strategy=str(labels.get(LABEL_MIG_STRATEGY, "")),
        allocatable=allocatable,
        mig_memory={
            profile: size * MIB
            for name in allocatable
            if name.startswith(MIG_PREFIX)
            for profile in (name.removeprefix(MIG_PREFIX),)
            if (size := _number(labels.get(f"{MIG_PREFIX}{profile}.memory")))
        },
        driver_limits=labels.get(LABEL_DRIVER_LIMITS) == "true",
        hami=bool(annotations.get(ANNOTATION_HAMI)),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int:
    """Counts and MiB are plain whole numbers; anything else is unknown."""
    text = str(value if value is not None else "")
    return int(text) if text.isascii() and text.isdigit() else 0
