"""The images as they were built: nothing in them helps a break-in, and their packages are the locked ones."""

from __future__ import annotations

import pytest

from hack import image_checks
from localcluster import images
from localcluster.builders import Docker
from tests.tiers import ROOT

LOCKS = {"operator": "operator.txt", "sidecar": "fetch.txt", "agent": "agent.txt"}


@pytest.mark.parametrize("name", LOCKS)
def test_an_image_holds_what_it_needs_and_nothing_that_helps_a_break_in(name: str) -> None:
    (built,) = images.build_all(only=[name])
    # Docker builds on the base that the Dockerfile names, which is somebody else's to keep small.
    below = ("opt/nereus", "app") if Docker.answers() else ("",)
    locked = image_checks.locked((ROOT / "requirements" / LOCKS[name]).read_text(encoding="utf-8"))
    exceptions = image_checks.EXCEPTIONS if below == ("",) else {}
    found = list(image_checks.found(image_checks.read(built.archive), locked, below=below))
    assert image_checks.unexplained(found, exceptions) == []
