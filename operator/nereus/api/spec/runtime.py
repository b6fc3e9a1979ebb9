"""`spec.runtime`: how the Triton server runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Keyed, Rule, object_name
from nereus.api.spec.section import AnnotationMap, LabelMap, Section, Text
from nereus.api.values import (
    Affinity,
    Duration,
    EnvVar,
    LocalReference,
    PodSecurityContext,
    Quantity,
    Toleration,
    TopologySpread,
    Volume,
    VolumeMount,
)


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Resources(Section):
    """CPU, memory and devices of a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        None,
        description="What is reserved for the Triton container. When absent: of cpu and memory the limit where there"
        " is one, otherwise cpu 1, memory 2Gi.",
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        None,
        description="What the Triton container may use at most. When absent: no limit, except that an extended"
        " resource such as nvidia.com/gpu named here is also its request.",
    )


class ModelCache(Section):
    """Fetched models on a claim that many pods share."""

    claim_name: Annotated[str, Field(max_length=253), object_name("PersistentVolumeClaim")] = Field(
        description="PersistentVolumeClaim of the same namespace, writable by all pods that are to share it"
        " (ReadWriteMany; ReadWriteOnce for the pods of one node). Other ModelServices may name it too."
    )
    size: Quantity = Field(
        description="How much of it Nereus may fill, at least 1Mi. What was used least recently is removed first, never"
        " what a pod serves; what does not fit is fetched into the pod as if there were no cache."
    )


class Runtime(Section):
    """How the Triton server runs."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None,
        description="The Triton image. When absent: the image configured for the operator (chart value triton.image).",
    )
    image_pull_policy: PullPolicy | None = Field(
        None, description="When the kubelet pulls the image. When absent: the Kubernetes default for the tag."
    )
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=16), Keyed(("name",))] | None = Field(
        None, description="Secrets in the same namespace with credentials for the image."
    )
    resources: Resources | None = Field(
        None,
        description="CPU, memory and devices of the Triton container. When absent: requests of cpu 1, memory 2Gi.",
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None,
        description="Environment variables of the Triton container and of the sidecar that fetches the models"
        " (a proxy or a CA bundle is needed in both).",
    )
    args: Annotated[tuple[Text, ...], Field(max_length=64)] | None = Field(
        None,
        description="Further arguments of tritonserver, placed after those that Nereus sets. Arguments that Nereus"
        " owns (model repository, control mode, ports, restricted APIs) are refused.",
    )
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32), Keyed(("name",))] | None = Field(
        None, description="Further volumes of the pod. Names that Nereus uses are refused."
    )
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), Keyed(("mountPath",))] | None = Field(
        None, description="Mounts of those volumes, in the Triton container and in the sidecar."
    )
    node_selector: LabelMap | None = Field(None, description="Labels that a node must have. When absent: any node.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = Field(
        None, description="Taints that the pods accept."
    )
    affinity: Affinity | None = Field(None, description="Node and pod affinity of the pods.")
    topology_spread_constraints: (
        Annotated[tuple[TopologySpread, ...], Field(max_length=8), Keyed(("topologyKey", "whenUnsatisfiable"))] | None
    ) = Field(
        None,
        description="How pods spread over zones and nodes. When absent: preferred spreading over nodes.",
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        None, description="PriorityClass of the pods. When absent: the cluster's default."
    )
    service_account_name: Annotated[str, Field(max_length=253)] | None = Field(
        None,
        description="ServiceAccount of the pods. When absent: the namespace's default, without a mounted token.",
    )
    pod_labels: LabelMap | None = Field(
        None, description="Further labels of the pods. Labels that Nereus uses are refused."
    )
    pod_annotations: AnnotationMap | None = Field(None, description="Further annotations of the pods.")
    security_context: PodSecurityContext | None = Field(
        None,
        description="Security context of the pod; a field given here replaces ours. When absent: user 1000, group"
        " 1000, not root, default seccomp profile.",
    )
    shared_memory: Quantity | None = Field(
        None,
        description="Size of /dev/shm, which python models use for tensors. When absent: 64Mi plus 16Mi for each"
        " declared instance, rounded up to a power of two, at least 256Mi. A share of MPS brings its own, of 64Mi for"
        " all pods of a node.",
    )
    load_threads: Annotated[int, Field(ge=1, le=32)] | None = Field(
        None,
        description="How many models a starting pod loads at the same time. More are faster where loading waits for"
        " the disk or the network, and need more memory and CPU at once. While a pod serves, it loads one at a time."
        " When absent: 4.",
    )
    model_cache: ModelCache | None = Field(
        None,
        description="Fetches each model of s3, gs, hf (and https with a checksum) once for all pods, onto a claim from"
        " which they serve it, instead of once per pod. When absent: each pod fetches into a volume of its own.",
    )
    response_cache_size: Quantity | None = Field(
        None,
        description="Memory of the Triton container that keeps answers of models with a response cache, at least 1Mi."
        " When absent: 64Mi if a model here has responseCache: true, otherwise there is no cache. The first model that"
        " asks for one replaces the pods, unless this size was there before.",
    )
    termination_grace_period: Duration | None = Field(
        None,
        description="How long a pod may take to stop. When absent: drain (connectionAge, connectionAgeGrace and"
        " a margin), plus connectionAgeGrace for Triton's own end, plus 5s. A"
        " shorter one cuts requests off.",
    )
    rules = (
        Rule(
            cel="!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes)"
            " && self.volumes.exists(volume, volume.name == mount.name))",
            message="runtime.volumeMounts names a volume that runtime.volumes does not declare: declare it, or correct"
            " the name",
            holds=lambda it: (
                {mount.get("name") for mount in it.volume_mounts or ()}
                <= {volume.get("name") for volume in it.volumes or ()}
            ),
        ),
    )
