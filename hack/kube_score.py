"""kube-score's opinion of everything that is rendered: the chart under several values, and what services become.

It is a second pair of eyes beside manifest_checks: it knows how objects hang together (a budget that meets no pod, a
Service without one, a network policy for nobody). Whatever it says below "OK" is a problem unless EXCEPTIONS names it
with a reason, and an exception that nothing needs any more is a problem too. Built once from its Go module.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.kubernetes_types import KUBERNETES_VERSION

OPTIONAL = ("container-seccomp-profile", "container-ports-check")
OK = 10
SECONDS = 60


@dataclass(frozen=True)
class Remark:
    """Something that kube-score would have otherwise. `about` is KIND NAME of the object, `container` may be empty."""

    check: str
    about: str
    container: str
    what: str

    def __str__(self) -> str:
        where = f"{self.about}, {self.container}" if self.container else self.about
        return f"{where}: {self.what} ({self.check})"


@dataclass(frozen=True)
class Accepted:
    """What is not done, and why. `about` and `container` are regular expressions for the whole text; `of` says whose
    objects: chart or service."""

    of: str
    check: str
    reason: str
    about: str = ".*"
    container: str = ".*"

    def covers(self, of: str, remark: Remark) -> bool:
        return (self.of, self.check) == (of, remark.check) and all(
            re.fullmatch(pattern, text)
            for pattern, text in ((self.about, remark.about), (self.container, remark.container))
        )


_LIMIT = "a throttled container misses deadlines (the lease, a probe, a request's latency); requests say what it needs"
_TAGS = "a tag is never pushed twice: IfNotPresent runs the same bytes and starts without the registry"
_SPREAD = "topologySpreadConstraints over hostnames do it, and still start a pod where there is a single node"
_POLICY = "only who runs the cluster knows which addresses may ask; docs/operations.md says what to allow"

EXCEPTIONS: Sequence[Accepted] = (
    Accepted("chart", "container-image-pull-policy", _TAGS),
    Accepted("chart", "container-resources", _LIMIT),
    Accepted("chart", "deployment-has-host-podantiaffinity", _SPREAD),
    Accepted("chart", "pod-networkpolicy", f"off until networkPolicy.enabled: {_POLICY}"),
    Accepted("service", "container-image-pull-policy", f"{_TAGS}; spec.runtime.imagePullPolicy decides"),
    Accepted("service", "container-resources", _LIMIT, container="sidecar"),
    Accepted(
        "service",
        "container-resources",
        "what models take is known to their owner alone: spec.runtime.resources; a guessed limit would end a server",
        container="triton",
    ),
    Accepted(
        "service",
        "container-ephemeral-storage-request-and-limit",
        "models may be of any size, and a guessed limit would evict the pod while it fetches: spec.runtime.resources",
    ),
    Accepted(
        "service",
        "container-security-context-readonlyrootfilesystem",
        "backends of NVIDIA's image unpack and compile beside themselves; spec.runtime.securityContext is for the pod",
        container="triton",
    ),
    Accepted(
        "service",
        "container-security-context-user-group-id",
        "1000 is the user that NVIDIA's image is made for; spec.runtime.securityContext names another",
    ),
    Accepted("service", "deployment-has-host-podantiaffinity", _SPREAD),
    Accepted("service", "deployment-replicas", "scaling.replicas is the user's word (strategy Manual)"),
    Accepted("service", "horizontalpodautoscaler-replicas", "one pod unless scaling.minReplicas says more: a GPU each"),
    Accepted("service", "pod-networkpolicy", _POLICY),
)


def remarks(binary: Path, manifests: str) -> list[Remark]:
    """What kube-score says about a stream of YAML documents. Raises RuntimeError when it cannot read them."""
    version = ".".join(KUBERNETES_VERSION.split(".")[:2])
    command = [str(binary), "score", "--output-format=json", f"--kubernetes-version={version}", "-"]
    command[2:2] = [f"--enable-optional-test={check}" for check in OPTIONAL]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, timeout=SECONDS, check=False)
    try:
        return list(_read(done.stdout))
    except ValueError:
        raise RuntimeError(f"kube-score: {done.stderr.strip() or done.stdout.strip()}") from None


def _read(output: str) -> Iterator[Remark]:
    for item in json.loads(output) or ():
        about = f"{item['type_meta']['kind']} {item['object_meta']['name']}"
        for entry in item["checks"]:
            if entry["skipped"] or entry["grade"] >= OK:
                continue
            for comment in entry["comments"] or [{"path": "", "summary": entry["check"]["name"]}]:
                yield Remark(entry["check"]["id"], about, comment["path"], comment["summary"])


def unexplained(said: Iterable[tuple[str, Remark]], exceptions: Sequence[Accepted] = EXCEPTIONS) -> Iterator[str]:
    """What nothing excepts, and which exceptions nothing needs; `said` is whose object a remark is about, and it."""
    needed: set[Accepted] = set()
    for of, remark in dict.fromkeys(said):
        by = {accepted for accepted in exceptions if accepted.covers(of, remark)}
        needed |= by
        if not by:
            yield f"kube-score: {of}: {remark}"
    for accepted in exceptions:
        if accepted not in needed:
            yield f"kube-score: the exception of {accepted.check} ({accepted.of}) is not needed any more: take it out"
