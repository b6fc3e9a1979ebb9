"""A finding: one sentence about one thing that is wrong or under way; and the case that pod checks look at.

Why here: the type between the checks, which find, and the grouping, which counts. Deliberately knows no check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from nereus.api.protocol import PodReport
from nereus.api.reasons import Reason
from nereus.diagnosis.objects import Container, Pod
from nereus.diagnosis.world import World


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or under way.

    `text` says what, without the name of the pod. `subject` is what it is about within the pod or the service (a
    model, a container, an object): findings with one reason and one subject are one group. `since` is when it
    began, None when the world does not tell.
    """

    reason: Reason
    text: str
    pod: str = ""
    subject: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Case:
    """One pod in its world at one time: what a check on pods looks at."""

    world: World
    pod: Pod
    now: datetime

    @property
    def report(self) -> PodReport | None:
        return self.world.report(self.pod)

    @property
    def warning(self) -> str:
        """The newest Warning event of the pod, unless it is the scheduler's: of a placed pod that is history."""
        said = self.world.warnings.get(self.pod.uid, "")
        return "" if "nodes are available" in said else said

    def older(self, moment: datetime | None, than: timedelta) -> bool:
        """Whether `moment` lies more than `than` back; an unknown moment does not."""
        return moment is not None and self.now - moment > than

    def found(self, reason: Reason, text: str, *, subject: str = "", since: datetime | None = None) -> Finding:
        """A finding about this pod."""
        return Finding(
            reason=reason, text=text, pod=self.pod.name, subject=subject, since=since or self.pod.unready_since
        )

    def containers(self, which: Callable[[Container], bool]) -> Iterator[Container]:
        return (container for container in self.pod.containers if which(container))


WorldCheck = Callable[[World], Iterator[Finding]]
PodCheck = Callable[[Case], Iterator[Finding]]
