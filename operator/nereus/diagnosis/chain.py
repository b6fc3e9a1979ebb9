"""The order in which everything is asked: trouble, then what does not answer, then what is under way, then records.

Why here: one page that shows the whole chain. What a pod was explained by is not asked of it again by the later,
vaguer links. Deliberately has no sentence of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from nereus.diagnosis import autoscaling, checks, progress
from nereus.diagnosis.finding import Case, Finding, PodCheck
from nereus.diagnosis.world import World

FORMER = "former template"


def findings(world: World, now: datetime) -> tuple[Finding, ...]:
    """Everything that is wrong or under way, the most telling first."""
    current = [Case(world, pod, now) for pod in world.current]
    found = [finding for check in checks.WORLD_CHECKS for finding in check(world)]
    found += _all(checks.POD_CHECKS, current)
    found += _first(checks.POD_SYMPTOMS, current, found)
    if not found:
        found += [finding for check in checks.WORLD_SYMPTOMS for finding in check(world)]
    found += autoscaling.scaling_failed(world)
    found += _first(progress.POD_PROGRESS, current, found)
    found += [finding for check in progress.WORLD_PROGRESS for finding in check(world)]
    found += autoscaling.blind(world, now)
    # Trouble of pods that are being replaced is no longer why it is not ready, but it is why they are replaced.
    former = _all(checks.POD_CHECKS, [Case(world, pod, now) for pod in world.former])
    found += [replace(finding, text=f"{finding.text} ({FORMER})", subject=FORMER) for finding in former]
    return tuple(found + _all(checks.RECORDS, [Case(world, pod, now) for pod in world.pods]))


def _all(chain: Iterable[PodCheck], cases: list[Case]) -> list[Finding]:
    return [finding for check in chain for case in cases for finding in check(case)]


def _first(chain: Iterable[PodCheck], cases: list[Case], before: list[Finding]) -> list[Finding]:
    """For each pod that does not serve and is not explained yet, what the first check says that speaks."""
    explained = {finding.pod for finding in before}
    asked = [case for case in cases if case.pod.name not in explained and not case.world.serves(case.pod)]
    found: list[Finding] = []
    for check in chain:
        said = [finding for case in asked for finding in check(case)]
        spoken = {finding.pod for finding in said}
        asked = [case for case in asked if case.pod.name not in spoken]
        found += said
    return found
