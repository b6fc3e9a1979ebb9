"""Every name that Nereus writes into a cluster: group and kind, labels, annotations, ports, paths, child names.

One place, because a name is a contract with stored objects, dashboards and scripts that we cannot see.
"""

GROUP = "serving.nereus.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelService"
PLURAL = "modelservices"
SINGULAR = "modelservice"
SHORT_NAME = "msvc"

FIELD_MANAGER = "nereus"
"""Owner of everything that is applied, except replicas."""
REPLICAS_MANAGER = "nereus-replicas"
"""Owner of `spec.replicas` under strategy Manual: a manager of its own, so that leaving it out resets nothing."""
STATUS_MANAGER = "nereus-status"
RESTART_MANAGER = "nereus-restart"
"""Owner of ANNOTATION_RESTART alone: applying the Deployment without it must not replace the pods once more."""

LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_SERVICE = f"{GROUP}/service"
"""On every child and every pod: the name of the ModelService it belongs to."""

MANAGED_BY = "nereus"
MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ANNOTATION_NUDGE = f"{GROUP}/plan"
"""Patched on running pods with the revision of a new plan: a kubelet syncs a pod that changed, so the mounted
ConfigMap arrives in a fraction of a second instead of up to a minute and a half."""
ANNOTATION_ROLLBACK = f"{GROUP}/rollback-to"
"""Written by a user on the ModelService: the revision of a kept plan that pods shall run instead of spec.models."""
ANNOTATION_RESTART = f"{GROUP}/restart"
"""On the pod template in the Deployment, and in no stored template: the revision of the plan for which pods were
replaced, because their memory cannot hold the old and the new models at once."""
LABEL_KEEPS = f"{GROUP}/keeps"
"""On a ControllerRevision that stores no pod template: `plan` for a kept plan."""
ANNOTATION_INPUTS = f"{GROUP}/template-inputs"
"""On a ControllerRevision: the hash of the part of the spec that its pod template was rendered from."""
ANNOTATION_APPLIED = f"{GROUP}/applied"
"""On every child: the digest of what was applied last, so that a field that is no longer wished is noticed."""
ANNOTATION_GPU = f"{GROUP}/gpu"
"""On the pod template of a service with `spec.gpu`: what was chosen for it, as JSON (nereus.gpu.choice)."""
ANNOTATION_ROLLOUT = f"{GROUP}/rollout"
"""Written by a user on the ModelService: any new value asks for the newest pod template (`kubectl annotate`)."""

CONTAINER_TRITON = "triton"
CONTAINER_SIDECAR = "sidecar"

EXTERNAL_METRIC = "nereus_replicas"
"""The number of pods decided for a service, as autoscalers read it from the External Metrics API."""

PORT_NAME_HTTP = "http"
PORT_NAME_GRPC = "grpc"
PORT_NAME_METRICS = "metrics"
PORT_NAME_SIDECAR = "sidecar"
SIDECAR_PORT = 8003
"""Readiness, state, drain and metrics of the sidecar; the next number after Triton's own 8000 to 8002."""

VOLUME_REPOSITORY = "repository"
VOLUME_PLAN = "plan"
VOLUME_RUN = "run"
VOLUME_SHARED_MEMORY = "shm"
VOLUME_MODEL_CACHE = "source-cache"
"""Begins like the volumes of sources, which users may not take."""

PATH_REPOSITORY = "/models"
PATH_PLAN = "/nereus/plan"
PATH_RUN = "/nereus/run"
PATH_SOURCES = "/nereus/sources"
PATH_CREDENTIALS = "/nereus/credentials"
PATH_MODEL_CACHE = "/nereus/cache"
PATH_ADMIN_KEY = f"{PATH_RUN}/admin-key"

PLAN_SHARDS = 4
"""ConfigMaps a plan may be spread over. All are mounted (as optional) from the start, so that a growing plan
changes no pod template. A ConfigMap holds at most 1 MiB; a whole ModelService is at most 1.5 MiB in etcd."""
PLAN_SHARD_BYTES = 900_000

MAX_NAME_LENGTH = 63
"""A Service name and a label value are at most 63 characters (RFC 1035 label; Kubernetes label syntax)."""
NAME_TOO_LONG = f"metadata.name may have at most {MAX_NAME_LENGTH}, as the Service has the same name: shorten it"
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_NOT_DNS = (
    "metadata.name is also the name of a Service: it begins with a small letter, has only small letters, digits and"
    " '-', and ends with a letter or a digit; rename it"
)

RUNBOOKS = "docs/runbooks"
"""Where the pages of the alerts lie in the repository: what an alert names until the installation says where."""


def plan_config_map(service_name: str, shard: int) -> str:
    """Name of one ConfigMap of the plan; `shard` counts from 0 to PLAN_SHARDS - 1."""
    return f"{service_name}-models-{shard}"


def revision_name(service_name: str, template_hash: str) -> str:
    """Name of the ControllerRevision that stores one pod template."""
    return f"{service_name}-{template_hash}"


def headless_name(service_name: str) -> str:
    """Name of the Service that stands for every pod."""
    return f"{service_name}-pods"


def plan_revision_name(service_name: str, revision: str) -> str:
    """Name of the ControllerRevision that keeps one plan."""
    return f"{service_name}-plan-{revision}"


def source_mount(scheme: str, name: str) -> str:
    """Where a volume-backed source (`configmap`, `pvc`) is mounted, in the sidecar and in Triton alike."""
    return f"{PATH_SOURCES}/{scheme}/{name}"


def credentials_mount(secret: str) -> str:
    """Where the Secret of a source is mounted, in the sidecar only."""
    return f"{PATH_CREDENTIALS}/{secret}"


def selector_labels(service_name: str) -> dict[str, str]:
    """The labels that select a service's pods; never changes, because a Deployment's selector cannot."""
    return {LABEL_NAME: "triton", LABEL_INSTANCE: service_name, LABEL_SERVICE: service_name}


def child_labels(service_name: str) -> dict[str, str]:
    """The labels on every object that a ModelService owns."""
    return {
        **selector_labels(service_name),
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_PART_OF: "nereus",
        LABEL_COMPONENT: "model-server",
    }
