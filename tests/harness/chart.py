"""The chart as helm renders it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from hack import quick_yaml
from localcluster import build
from tests.harness.apiserver import Json
from tests.tiers import ROOT


@cache
def _helm() -> Path:
    return build.bin_dir(go_version=build.go_version()) / "helm"


def rendered(release: str, *values: str) -> list[Json]:
    """Every object that the chart makes of these arguments of helm, in the namespace of the release's name."""
    command = [str(_helm()), "template", release, str(ROOT / "charts/nereus"), "--namespace", release]
    done = subprocess.run([*command, *values], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return quick_yaml.load_all(done.stdout)
