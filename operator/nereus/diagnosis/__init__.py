"""Why it is not ready, and why there are N pods: pure sentences about observed objects, and the status made of them.

`objects` and `world` type what was observed, `chain` asks every check of `checks`, `progress` and `autoscaling`,
`reasons` groups what they found, `report` makes the status, `story` tells what changed, `again` when to look again.
Reads and writes nothing outside itself.
"""

from nereus.diagnosis.again import look_again
from nereus.diagnosis.report import invalid, status
from nereus.diagnosis.story import Event, EventType, events, significant
from nereus.diagnosis.world import ApplyFailure, GpuWorld, StageInUse, TemplateInUse, World

__all__ = [
    "ApplyFailure",
    "Event",
    "EventType",
    "GpuWorld",
    "StageInUse",
    "TemplateInUse",
    "World",
    "events",
    "invalid",
    "look_again",
    "significant",
    "status",
]
