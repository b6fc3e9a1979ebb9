"""The lines of docs/scaling.md that drive the policy from another program run as they stand there."""

from __future__ import annotations

import textwrap

from nereus.scaling.policy import PredictivePolicy
from nereus.scaling.protocol import Limits, Objective
from tests.tiers import ROOT

HEADING = "## Driving the policy yourself"
START = 1_700_000_000 // 60 * 60


def snippet() -> str:
    """The indented block below the heading."""
    section = (ROOT / "docs/scaling.md").read_text().split(HEADING)[1].split("\n## ")[0]
    lines = section.strip("\n").splitlines()
    end = next(n for n, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end]))


def test_the_snippet_of_the_documentation_runs_and_scales() -> None:
    asked: list[int] = []
    names: dict[str, object] = {
        "minute_starts": [START + 60 * minute for minute in range(90)],
        "rates": [60.0] * 90,
        "ticks": [START + 5400 + 15 * tick for tick in range(8)],
        "offered_per_second": 60.0,
        "waiting_requests": 0,
        "ready": 6,
        "starting": 0,
        "late_share": 0.0,
        "scale_to": asked.append,
    }
    exec(compile(snippet(), "docs/scaling.md", "exec"), names)  # noqa: S102  our own documentation
    assert len(asked) == 8
    # 60 requests per second at 12 per replica need five, and a margin for chance.
    assert all(5 <= replicas <= 9 for replicas in asked), asked
    policy = names["policy"]
    assert isinstance(policy, PredictivePolicy)
    assert (policy.limits, policy.objective) == (
        Limits(min_replicas=1, max_replicas=50),
        Objective(latency_seconds=0.5, violations=0.01),
    )
