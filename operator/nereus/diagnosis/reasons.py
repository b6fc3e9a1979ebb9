"""From findings to what a person reads: grouped over pods, at most ten, and whether somebody has to act.

Why here: the only place that says which reason needs a person, and after how long. Deliberately keeps the order in
which the checks spoke; it sorts nothing by count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from nereus.api.reasons import Reason
from nereus.api.status import ReasonStatus
from nereus.diagnosis import words
from nereus.diagnosis.finding import Finding

MOST_GROUPS = 10
MESSAGE_LIMIT = 1000

PATIENCE: dict[Reason, timedelta] = {
    # Nothing changes until somebody acts.
    Reason.SUSPENDED: timedelta(0),
    Reason.INVALID_SPEC: timedelta(0),
    Reason.NAME_TAKEN: timedelta(0),
    Reason.MODEL_CONFIG_INVALID: timedelta(0),
    # The next try may work: a registry, a source or a webhook that was away for a moment, a ConfigMap on its way.
    Reason.APPLY_FAILED: timedelta(minutes=1),
    Reason.PODS_REFUSED: timedelta(minutes=1),
    Reason.IMAGE_PULL_FAILED: timedelta(minutes=1),
    Reason.CONTAINER_CONFIG_ERROR: timedelta(minutes=1),
    Reason.FETCH_FAILED: timedelta(minutes=1),
    Reason.OUT_OF_MEMORY: timedelta(minutes=1),
    Reason.CRASHING: timedelta(minutes=1),
    Reason.MODEL_LOAD_FAILED: timedelta(minutes=1),
    Reason.CHANGE_TAKEN_BACK: timedelta(0),
    # A cluster autoscaler adds a node within minutes; a node that is lost is noticed and its pods replaced.
    Reason.UNSCHEDULABLE: timedelta(minutes=5),
    Reason.GPU_UNAVAILABLE: timedelta(minutes=5),
    Reason.UNHEALTHY: timedelta(minutes=5),
}
"""The reasons that need a person (condition `Stalled`, kstatus `Failed`), and how long each must have stood before a
person is asked for. A reason that is not here never stalls a service: it is progress, or the service serves anyway."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The findings of one reason and one subject, over all pods."""

    reason: Reason
    count: int
    message: str
    since: datetime | None

    def stalled(self, *, fallback: datetime, now: datetime) -> bool:
        """Whether a person is needed; `fallback` is when it began where the world does not tell."""
        patience = PATIENCE.get(self.reason)
        return patience is not None and now - (self.since or fallback) >= patience


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """At most ten groups, in the order in which they were found first.

    One group for each reason and subject; where these are more than ten (a hundred models of one broken source),
    one for each reason.
    """
    every = list(findings)
    by_subject: dict[tuple[Reason, str], list[Finding]] = {}
    by_reason: dict[tuple[Reason, str], list[Finding]] = {}
    for finding in every:
        by_subject.setdefault((finding.reason, finding.subject), []).append(finding)
        by_reason.setdefault((finding.reason, ""), []).append(finding)
    groups = by_subject if len(by_subject) <= MOST_GROUPS else by_reason
    return tuple(_group(members) for members in groups.values())[:MOST_GROUPS]


def _group(members: list[Finding]) -> Group:
    example = members[0]
    pods = dict.fromkeys(finding.pod for finding in members if finding.pod)
    subjects = dict.fromkeys(finding.subject for finding in members if finding.subject)
    message = example.text
    if len(pods) > 1:
        message = f"{len(pods)} pods, e.g. {example.pod}: {message}"
    elif pods:
        message = f"pod {example.pod}: {message}"
    if len(subjects) > 1:
        message += f" (and {words.listed(list(subjects)[1:])})"
    begun = [finding.since for finding in members if finding.since]
    return Group(
        reason=example.reason,
        count=len(pods) or len(members),
        message=words.trimmed(message, MESSAGE_LIMIT),
        since=min(begun, default=None),
    )


def entries(groups: Iterable[Group]) -> tuple[ReasonStatus, ...]:
    """The groups as `status.reasons`."""
    return tuple(ReasonStatus(reason=group.reason.value, count=group.count, message=group.message) for group in groups)
