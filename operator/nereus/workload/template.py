"""The pod template: Triton and its sidecar, hardened, with the probes and times that make a change lossless.

Here because everything in it depends on everything else: ports, drain and grace period, volumes of sources, shared
memory. Rendered only when asked (nereus.rendering decides when), because a changed template replaces running pods.

`template_inputs` names what of a spec the template is made from. Models as such are not among it: adding a model or
changing its configuration changes the plan, not the pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nereus.api import names, protocol
from nereus.api.manifests import digest
from nereus.api.service import ModelService
from nereus.api.spec.runtime import Resources
from nereus.api.values import Json, Quantity, SourceUri, canonical_quantity
from nereus.gpu.choice import Choice
from nereus.triton import server
from nereus.workload import devices
from nereus.workload.settings import Settings

USER_ID = 1000
"""The user `triton-server` of NVIDIA's images; the sidecar runs as the same one, so that they share files."""
DEFAULT_REQUESTS = {"cpu": "1", "memory": "2Gi"}
VOLUME_TMP = "tmp"
VOLUME_SIDECAR_TMP = "sidecar-tmp"
SOURCE_VOLUME_PREFIX = "source-"
SECRET_VOLUME_PREFIX = "credentials-"
RESERVED_VOLUMES = (
    names.VOLUME_REPOSITORY,
    names.VOLUME_PLAN,
    names.VOLUME_RUN,
    names.VOLUME_SHARED_MEMORY,
    VOLUME_TMP,
    VOLUME_SIDECAR_TMP,
)
PATH_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the place where shared memory is, by its nature
PATH_TMP = "/tmp"  # noqa: S108 - a private emptyDir of the container

SHM_BASE_MIB = 64
SHM_PER_INSTANCE_MIB = 16
SHM_LEAST_MIB = 256
FETCH_SECONDS = 24 * 3600
"""How long a first fetch may take before the sidecar is started anew."""
TRITON_START_SECONDS = 600


def template_inputs(service: ModelService) -> str:
    """A digest of the part of the spec that the template is made from; equal digests mean: leave the pods alone.

    What goes in here must be the same in every release: otherwise an upgrade of the operator would replace all pods.
    """
    runtime = service.runtime.model_dump(by_alias=True, exclude_none=True, mode="json")
    # Parts that came later are named only where a spec uses them: others keep the digest they have.
    later: Json = {}
    if service.runtime.response_cache_size is None and (cache := server.cache_bytes(service)) is not None:
        later["cache"] = cache
    if server.limits_rate(service):
        later["rate"] = True
    if secrets := source_secrets(service):
        later["secrets"] = list(secrets)
    if service.spec.gpu is not None:
        later["gpu"] = devices.inputs(service.spec.gpu)
    return digest(
        {
            "runtime": runtime | {"sharedMemory": shared_memory(service)},
            "ports": [service.ports.http, service.ports.grpc, service.ports.metrics],
            "connection": [service.connection_age.microseconds, service.connection_age_grace.microseconds],
            "sources": [f"{uri.scheme}/{uri.name}" for uri in volume_sources(service)],
            "rollout": service.rollout_request,
            **later,
        }
    )


def template(service: ModelService, *, settings: Settings, image: str, gpu: Choice | None = None) -> Json:
    """The pod template ({metadata, spec}) as this release renders it; `image` is the Triton image in effect, `gpu` what
    was chosen for a service with `spec.gpu`."""
    body = {"metadata": _metadata(service, settings), "spec": _pod(service, settings, image)}
    return body if gpu is None else devices.with_gpu(body, gpu, limited=devices.is_limited(service))


def volume_sources(service: ModelService) -> tuple[SourceUri, ...]:
    """The sources that reach the pod as volumes, one per ConfigMap or claim, sorted."""
    found = {(source.uri.scheme, source.uri.name): source.uri for source in service.sources}
    return tuple(uri for _, uri in sorted(found.items()) if uri.is_volume)


def source_secrets(service: ModelService) -> tuple[str, ...]:
    """The Secrets with credentials for sources, sorted."""
    return tuple(sorted({source.secret_name for source in service.sources if source.secret_name}))


def shared_memory(service: ModelService) -> str:
    """The size of /dev/shm. When not declared it is rounded up to a power of two, so that one more model or instance
    rarely changes the template."""
    declared = service.runtime.shared_memory
    if declared is not None:
        return canonical_quantity(declared.text)
    run = [model for model in service.models if model.ensemble is None]
    instances = sum((model.instances.count or 1) if model.instances else 1 for model in run)
    size = SHM_LEAST_MIB
    while size < SHM_BASE_MIB + SHM_PER_INSTANCE_MIB * instances:
        size *= 2
    return canonical_quantity(f"{size}Mi")


def secret_volume(secret: str) -> str:
    """Name of the volume of one Secret: a digest, because the name of a Secret may be longer than a volume's."""
    return f"{SECRET_VOLUME_PREFIX}{digest(secret)}"


def source_volume(uri: SourceUri) -> str:
    """Name of the volume of one source: a digest, because the name of a ConfigMap may be longer than a volume's."""
    return f"{SOURCE_VOLUME_PREFIX}{digest([uri.scheme, uri.name])}"


def _metadata(service: ModelService, settings: Settings) -> Json:
    annotations: dict[str, str] = {"kubectl.kubernetes.io/default-container": names.CONTAINER_TRITON}
    if not settings.pod_monitor:
        annotations |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(service.ports.metrics),
            "prometheus.io/path": "/metrics",
        }
    return {
        "labels": {**(service.runtime.pod_labels or {}), **names.child_labels(service.name)},
        "annotations": {**annotations, **(service.runtime.pod_annotations or {})},
    }


def _pod(service: ModelService, settings: Settings, image: str) -> Json:
    runtime = service.runtime
    pod: Json = {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": server.stop(service).grace_seconds,
        "securityContext": _pod_security(runtime.security_context or {}),
        "topologySpreadConstraints": (
            _spread_over_nodes(service)
            if runtime.topology_spread_constraints is None
            else list(runtime.topology_spread_constraints)
        ),
        "initContainers": [_sidecar(service, settings)],
        "containers": [_triton(service, image)],
        "volumes": _volumes(service),
    }
    if runtime.service_account_name is None:
        pod["automountServiceAccountToken"] = False
    optional: Json = {
        "serviceAccountName": runtime.service_account_name,
        "imagePullSecrets": list(runtime.image_pull_secrets or ()),
        "nodeSelector": runtime.node_selector,
        "tolerations": list(runtime.tolerations or ()),
        "affinity": runtime.affinity,
        "priorityClassName": runtime.priority_class_name,
    }
    return pod | {field: value for field, value in optional.items() if value}


def _pod_security(theirs: Json) -> Json:
    ours: Json = {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if theirs.get("runAsUser") == 0:
        del ours["runAsNonRoot"]
    return {**ours, **theirs}


def _container_security() -> Json:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _spread_over_nodes(service: ModelService) -> list[Json]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": names.selector_labels(service.name)},
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]


def _sidecar(service: ModelService, settings: Settings) -> Json:
    ports = service.ports
    return {
        "name": names.CONTAINER_SIDECAR,
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.sidecar_pull_policy,
        # A native sidecar: started before Triton, stopped after it, and its readiness is the pod's.
        "restartPolicy": "Always",
        "args": [
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
            f"--drain-max={server.stop(service).drain_seconds}",
            *_sidecar_options(service),
        ],
        **_environment(service),
        "ports": [_port(names.PORT_NAME_SIDECAR, names.SIDECAR_PORT)],
        "startupProbe": _probe(protocol.PATH_STARTED, period=1, failures=FETCH_SECONDS),
        # Under load the sidecar may be slow to answer; a pod that leaves its Service for that makes the load worse.
        "readinessProbe": _probe(protocol.PATH_READY, period=1, failures=3),
        "livenessProbe": _probe(protocol.PATH_LIVE, period=10, failures=6),
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**_container_security(), "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": names.VOLUME_REPOSITORY, "mountPath": names.PATH_REPOSITORY},
            {"name": names.VOLUME_PLAN, "mountPath": names.PATH_PLAN, "readOnly": True},
            {"name": names.VOLUME_RUN, "mountPath": names.PATH_RUN},
            *_source_mounts(service),
            *_cache_mount(service, read_only=False),
            *_secret_mounts(service),
            *_user_mounts(service, tmp=VOLUME_SIDECAR_TMP),
        ],
    }


def _sidecar_options(service: ModelService) -> Iterable[str]:
    """Arguments of fields that came later: only where they are used, so that other templates stay as they are."""
    if service.runtime.load_threads is not None:
        yield f"--parallel-loads={service.runtime.load_threads}"
    cache = service.runtime.model_cache
    if cache is not None:
        yield f"--cache={names.PATH_MODEL_CACHE}"
        yield f"--cache-bytes={int(cache.size.value)}"


def _triton(service: ModelService, image: str) -> Json:
    runtime, ports = service.runtime, service.ports
    container: Json = {
        "name": names.CONTAINER_TRITON,
        "image": image,
        "command": list(server.command()),
        "args": list(server.arguments(service)),
        **_environment(service),
        "ports": [
            _port(names.PORT_NAME_HTTP, ports.http),
            _port(names.PORT_NAME_GRPC, ports.grpc),
            _port(names.PORT_NAME_METRICS, ports.metrics),
        ],
        # No readiness probe: /v2/health/ready is 200 also when nothing is served. The sidecar answers for the pod.
        "startupProbe": _probe("/v2/health/live", port=names.PORT_NAME_HTTP, period=1, failures=TRITON_START_SECONDS),
        "livenessProbe": _probe("/v2/health/live", port=names.PORT_NAME_HTTP, period=10, timeout=10, failures=6),
        "lifecycle": {"preStop": {"httpGet": {"path": protocol.PATH_DRAIN, "port": names.SIDECAR_PORT}}},
        "resources": resources(runtime.resources),
        # The root file system stays writable: images of users write caches where nobody knows.
        "securityContext": _container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": names.VOLUME_REPOSITORY, "mountPath": names.PATH_REPOSITORY, "readOnly": True},
            {"name": names.VOLUME_RUN, "mountPath": names.PATH_RUN, "readOnly": True},
            {"name": names.VOLUME_SHARED_MEMORY, "mountPath": PATH_SHARED_MEMORY},
            *_source_mounts(service),
            *_cache_mount(service, read_only=True),
            *_user_mounts(service, tmp=VOLUME_TMP),
        ],
    }
    if runtime.image_pull_policy is not None:
        container["imagePullPolicy"] = runtime.image_pull_policy.value
    return container


def resources(declared: Resources | None) -> Json:
    """Requests and limits of Triton. A default request is left out where a limit is given: Kubernetes takes that."""
    limits = _amounts((declared.limits if declared else None) or {})
    requests = _amounts((declared.requests if declared else None) or {})
    defaults = {name: amount for name, amount in DEFAULT_REQUESTS.items() if name not in limits}
    result: Json = {"requests": {**defaults, **requests}, "limits": limits}
    return {part: amounts for part, amounts in result.items() if amounts}


def _amounts(declared: dict[str, Quantity]) -> dict[str, str]:
    return {name: canonical_quantity(amount.text) for name, amount in sorted(declared.items())}


def _environment(service: ModelService) -> Json:
    return {"env": list(service.runtime.env)} if service.runtime.env else {}


def _port(name: str, number: int) -> Json:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(path: str, *, period: int, failures: int, timeout: int = 3, port: str = names.PORT_NAME_SIDECAR) -> Json:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _source_mounts(service: ModelService) -> Iterable[Json]:
    for uri in volume_sources(service):
        yield {
            "name": source_volume(uri),
            "mountPath": names.source_mount(uri.scheme, uri.name),
            "readOnly": True,
        }


def _cache_mount(service: ModelService, *, read_only: bool) -> Iterable[Json]:
    """At the same place in both containers: the links in the model repository lead there."""
    if service.runtime.model_cache is not None:
        mount: Json = {"name": names.VOLUME_MODEL_CACHE, "mountPath": names.PATH_MODEL_CACHE}
        yield {**mount, "readOnly": True} if read_only else mount


def _secret_mounts(service: ModelService) -> Iterable[Json]:
    """For the sidecar only: code of a model has no business with them."""
    for secret in source_secrets(service):
        yield {"name": secret_volume(secret), "mountPath": names.credentials_mount(secret), "readOnly": True}


def _user_mounts(service: ModelService, *, tmp: str) -> list[Json]:
    """The user's mounts, and our /tmp unless they bring their own."""
    theirs = list(service.runtime.volume_mounts or ())
    if any(str(mount.get("mountPath", "")).rstrip("/") == PATH_TMP for mount in theirs):
        return theirs
    return [{"name": tmp, "mountPath": PATH_TMP}, *theirs]


def _volumes(service: ModelService) -> list[Json]:
    shards = [names.plan_config_map(service.name, shard) for shard in range(names.PLAN_SHARDS)]
    volumes: list[Json] = [
        {"name": names.VOLUME_REPOSITORY, "emptyDir": {}},
        {
            "name": names.VOLUME_PLAN,
            "projected": {"sources": [{"configMap": {"name": name, "optional": True}} for name in shards]},
        },
        {"name": names.VOLUME_RUN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {
            "name": names.VOLUME_SHARED_MEMORY,
            "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(service)},
        },
        {"name": VOLUME_TMP, "emptyDir": {}},
        {"name": VOLUME_SIDECAR_TMP, "emptyDir": {}},
    ]
    volumes += [{"name": source_volume(uri), **_source_body(uri)} for uri in volume_sources(service)]
    # Optional for the same reason as a source's ConfigMap; readable for the group, which is the pod's fsGroup.
    volumes += [
        {"name": secret_volume(secret), "secret": {"secretName": secret, "optional": True, "defaultMode": 0o440}}
        for secret in source_secrets(service)
    ]
    if (cache := service.runtime.model_cache) is not None:
        claim = {"claimName": cache.claim_name}
        volumes.append({"name": names.VOLUME_MODEL_CACHE, "persistentVolumeClaim": claim})
    return volumes + [_canonical_volume(volume) for volume in service.runtime.volumes or ()]


def _source_body(uri: SourceUri) -> Json:
    if uri.scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": uri.name, "readOnly": True}}
    # Optional, so that a missing ConfigMap is told by the sidecar, per model, instead of holding up the whole pod.
    return {"configMap": {"name": uri.name, "optional": True}}


def _canonical_volume(volume: Json) -> Json:
    directory: Any = volume.get("emptyDir")
    if not isinstance(directory, dict) or "sizeLimit" not in directory:
        return volume
    return {**volume, "emptyDir": {**directory, "sizeLimit": canonical_quantity(directory["sizeLimit"])}}
