"""What a security reviewer asks of manifests and Dockerfiles, as pure checks: an object in, sentences out.

The rules are those that kube-linter and the restricted pod security standard share, and what they ask of roles and
Dockerfiles; how objects hang together is kube-score's part (kube_score). Each exception is named with its reason, and
an exception that nothing needs any more is a problem too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

EXCEPTIONS: Mapping[str, str] = {
    "cpu-limit": "throttling would delay the renewal of the lease; memory is limited, and requests say what is needed",
    "pull-policy": "a tag is never pushed twice, so IfNotPresent runs the same bytes and starts without the registry",
    "token": "the operator is a client of the API server: its rights are in the chart, each one used (see the tests)",
    "network-policy": "off by default: a policy that does not know the API server's address can cut the operator off",
    "image-user": "the Triton image for tests stands in for NVIDIA's own, which serves as user 1000 too",
    "rbac-pods ClusterRole nereus": "pods/eviction, only with the GPU agent, for spec.gpu.onExceed: Evict",
    "host DaemonSet nereus-gpu-agent": "NVML gives process ids of the host, so it must see the host's processes",
    "host-path DaemonSet nereus-gpu-agent": "names of links that say which container is of which pod; read-only",
    "base-digest": "the base image is a build argument, so that a distributor's own, scanned base can be used",
}
"""Check, or check and object -> why what it asks for is not done."""

HIGHEST_SYSTEM_UID = 10_000
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job")
RECOMMENDED_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by")
UNSTABLE = re.compile(r"v\d+(alpha|beta)\d+$")
ESCALATION_VERBS = frozenset({"escalate", "bind", "impersonate", "*"})

Finding = tuple[str, str]
"""The check and what it found."""


def objects(rendered: Iterable[Json]) -> Iterator[Finding]:
    """Everything found about the objects of one rendering."""
    everything = list(rendered)
    kinds = {item["kind"] for item in everything}
    for item in everything:
        name = f"{item['kind']} {item['metadata']['name']}"
        for check, what in _about(item, kinds):
            yield check, f"{name}: {what}"


def _about(item: Json, kinds: set[str]) -> Iterator[Finding]:
    # prometheus-operator serves AlertmanagerConfig in no stable version yet.
    if UNSTABLE.search(item["apiVersion"]) and item["kind"] != "AlertmanagerConfig":
        yield "stable-version", f"apiVersion {item['apiVersion']} may be withdrawn"
    missing = [label for label in RECOMMENDED_LABELS if label not in item["metadata"].get("labels", {})]
    if missing and item["kind"] != "CustomResourceDefinition":
        yield "labels", f"lacks {', '.join(missing)}"
    if item["kind"] in ("Role", "ClusterRole"):
        yield from _role(item)
    if item["kind"].endswith("RoleBinding"):
        yield from _binding(item)
    if item["kind"] in WORKLOADS:
        yield from _workload(item, kinds)


def _role(item: Json) -> Iterator[Finding]:
    for rule in item.get("rules") or ():
        words = {*rule.get("apiGroups", ()), *rule.get("resources", ()), *rule.get("verbs", ())}
        if "*" in words:
            yield "rbac-wildcard", f"grants {rule}"
        if "secrets" in rule.get("resources", ()):
            yield "rbac-secrets", f"reaches Secrets: {rule}"
        if ESCALATION_VERBS & set(rule.get("verbs", ())):
            yield "rbac-escalation", f"may give itself rights: {rule}"
        if any(resource.startswith("pods/") for resource in rule.get("resources", ())):
            yield "rbac-pods", f"may enter pods: {rule}"


def _binding(item: Json) -> Iterator[Finding]:
    if item["roleRef"]["name"] in ("cluster-admin", "admin", "edit"):
        yield "rbac-builtin", f"binds {item['roleRef']['name']}"
    for subject in item.get("subjects") or ():
        if subject["kind"] != "ServiceAccount":
            yield "rbac-subject", f"binds the {subject['kind']} {subject['name']}"


def _workload(item: Json, kinds: set[str]) -> Iterator[Finding]:
    spec = item["spec"]["template"]["spec"]
    if item["kind"] == "Deployment" and item["spec"].get("replicas", 1) > 1:
        if "PodDisruptionBudget" not in kinds:
            yield "disruption-budget", "has several replicas and no PodDisruptionBudget"
        if not (spec.get("affinity", {}).get("podAntiAffinity") or spec.get("topologySpreadConstraints")):
            yield "spread", "nothing keeps its replicas apart"
    if "NetworkPolicy" not in kinds:
        yield "network-policy", "no NetworkPolicy"
    if spec.get("automountServiceAccountToken", True):
        yield "token", "mounts a token of its ServiceAccount"
    if spec.get("serviceAccountName", "default") == "default":
        yield "service-account", "runs as the namespace's default ServiceAccount"
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(field):
            yield "host", f"{field} is on"
    yield from _volumes(spec.get("volumes") or ())
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for check, what in _container(container, spec.get("securityContext") or {}):
            yield check, f"container {container['name']}: {what}"


def _volumes(volumes: Iterable[Json]) -> Iterator[Finding]:
    for volume in volumes:
        if "hostPath" in volume:
            yield "host-path", f"volume {volume['name']} is a directory of the node"
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield "volume-size", f"volume {volume['name']} has no sizeLimit"


def _container(container: Json, pod: Json) -> Iterator[Finding]:
    security = {**pod, **(container.get("securityContext") or {})}
    yield from _restricted(security)
    if not security.get("readOnlyRootFilesystem"):
        yield "read-only", "its root file system can be written"
    if min(int(security.get("runAsUser", 0)), int(security.get("runAsGroup", 0))) <= HIGHEST_SYSTEM_UID:
        yield "user", f"user or group may be one of the node's ({security.get('runAsUser')})"
    resources = container.get("resources") or {}
    for amount in ("cpu", "memory", "ephemeral-storage"):
        if amount not in (resources.get("requests") or {}):
            yield f"{amount}-request", f"requests no {amount}"
        if amount not in (resources.get("limits") or {}):
            yield f"{amount}-limit", f"has no limit of {amount}"
    if container["image"].rpartition("/")[2].partition(":")[2] in ("", "latest"):
        yield "image-tag", f"image {container['image']} names no version"
    if container.get("imagePullPolicy") != "Always":
        yield "pull-policy", f"imagePullPolicy is {container.get('imagePullPolicy')}"
    ready, alive = container.get("readinessProbe"), container.get("livenessProbe")
    if not ready or not alive:
        yield "probes", "lacks a readiness or a liveness probe"
    elif ready.get("httpGet") == alive.get("httpGet"):
        yield "probes", "is ready and alive by the same question"
    for variable in container.get("env") or ():
        if re.search("password|secret|token", variable["name"], re.IGNORECASE) and "value" in variable:
            yield "secret-in-env", f"variable {variable['name']} stands in the manifest"


def _restricted(security: Json) -> Iterator[Finding]:
    """The restricted pod security standard, as far as containers go."""
    capabilities = security.get("capabilities") or {}
    if not security.get("runAsNonRoot"):
        yield "non-root", "may run as root"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "escalation", "may gain rights"
    if security.get("privileged"):
        yield "privileged", "is privileged"
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities", f"keeps capabilities: {capabilities}"
    if (security.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccomp", "has no seccomp profile"


def dockerfile(text: str) -> Iterator[Finding]:
    """What lets a vulnerable or changed part into an image."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    users = [rest for word, rest in instructions if word == "USER"]
    if not users or not users[-1].partition(":")[0].isdigit() or int(users[-1].partition(":")[0]) <= HIGHEST_SYSTEM_UID:
        yield "image-user", f"ends as user {users[-1] if users else 'root'}"
    for word, rest in instructions:
        if word == "ADD":
            yield "image-add", "ADD may fetch or unpack: COPY says what it does"
        if word == "ARG" and rest.startswith("BASE=") and "@sha256:" not in rest:
            yield "base-digest", f"{rest} names no digest"
        if word == "RUN" and re.search(r"\b(curl|wget)\b", rest):
            yield "image-fetch", f"fetches at build time: {rest[:60]}"
        if word == "RUN" and "pip" in rest and "install" in rest and "--require-hashes" not in rest:
            yield "image-hashes", "installs packages without --require-hashes"
        if word == "RUN" and re.search(r"apt(-get)? install", rest) and "/var/lib/apt/lists" not in rest:
            yield "image-cache", "keeps the package lists"
        if word == "ENV" and re.search("(PASSWORD|SECRET|TOKEN)=", rest):
            yield "image-secret", "holds a secret"


def unexplained(
    findings: Iterable[Finding],
    exceptions: Mapping[str, str] = EXCEPTIONS,
    *,
    kept_in: str = "hack/manifest_checks.py",
) -> Iterator[str]:
    """What is found and not excepted, and which exceptions nothing needs; `kept_in` is the file that lists them."""
    found = list(findings)
    needed = set()
    for check, what in found:
        excepted = exceptions.keys() & {check, f"{check} {what.partition(':')[0]}"}
        needed |= excepted
        if not excepted:
            yield f"{what} ({check})"
    for check in sorted(exceptions.keys() - needed):
        yield f"the exception {check} is not needed any more: take it out of {kept_in}"
