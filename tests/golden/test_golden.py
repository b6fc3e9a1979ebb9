"""The golden files are what the code renders, and Kubernetes' own schemas accept them."""

from __future__ import annotations

import kubernetes_validate
import pytest

from tests.golden.write import Case, cases, write

KUBERNETES = "1.35"


def test_the_golden_files_are_what_is_rendered() -> None:
    stale = write(check=True)
    assert stale == [], f"run `make generate` and review the difference of {[str(path) for path in stale]}"


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_kubernetes_accepts_every_object_strictly(case: Case) -> None:
    for manifest in case.rendered().objects:
        if manifest["kind"] not in ("PodMonitor", "PrometheusRule"):  # no kinds of Kubernetes itself
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
