"""DriverLimit: a limit on the container's cgroup that the driver keeps, from driver 615 (CUDA 13.4) on.

The container toolkit's CDI hook reads two variables, both needed, in whole MiB, and sets the limit when the container
is created. No limit on MIG slices; managed memory (UVM) is not counted.
"""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import MIB, Ask
from nereus.gpu.nodes import GPU, LABEL_DRIVER_LIMITS, LABEL_REPLICAS, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, shares_fit

LEAST_DRIVER = 615
VARIABLES = ("NVIDIA_GPU_MEMORY_REQUEST", "NVIDIA_GPU_MEMORY_LIMIT")
"""Equal: a limit above the request is borrowed memory, which MPS may take back by ending the client."""


class DriverLimit(Facts):
    """A share of a GPU by time-slicing, or a whole one, with the driver's limit on the container."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if ask.count != 1 or ask.memory_bytes is None:
            return "a limit in the driver needs gpu.memory"
        if node.hami:
            return "HAMi divides its GPUs"
        if node.single_profile or not (node.plain or node.shared):
            return "MIG slices take no limit of the driver"
        if not node.driver:
            return "no label nvidia.com/cuda.driver-version.major says its driver: run GPU feature discovery"
        if node.driver < LEAST_DRIVER:
            return f"its driver {node.driver} is older than {LEAST_DRIVER}"
        if ask.isolation is Isolation.AUTO and not node.driver_limits:
            return f"nobody has set the label {LABEL_DRIVER_LIMITS}=true, which says that toolkit and cgroups fit"
        if refused := shares_fit(node, ask):
            return refused
        resource = node.share_resource
        return Offer(
            mechanism=self.name,
            resources=((resource, "1"),),
            effective_bytes=ask.memory_mib * MIB,
            taken_bytes=node.share_bytes,
            labels=node.labels(LABEL_REPLICAS, LABEL_DRIVER_LIMITS),
            env=tuple((name, str(ask.memory_mib)) for name in VARIABLES),
            units=node.allocatable.get(resource, 0),
            detail="" if node.driver_limits else "toolkit and cgroup version not checked by anybody",
        )

    def assumed(self, ask: Ask) -> Offer | str:
        return Offer(
            mechanism=self.name,
            resources=((GPU, "1"),),
            effective_bytes=ask.memory_mib * MIB,
            env=tuple((name, str(ask.memory_mib)) for name in VARIABLES),
            detail="driver, toolkit and cgroup version not checked by anybody",
        )


DRIVER_LIMIT = DriverLimit(
    name=Isolation.DRIVER_LIMIT,
    strength=Strength.HARD,
    isolates_faults=False,
    needs="driver 615 or later, container toolkit 1.20.1 or later in CDI mode, cgroup v2, no MIG",
    escapes="managed memory (cudaMallocManaged) is not counted",
    proof="the agent reads the limit back from the driver",
)
