"""`down` ends the cluster that was named and no other; all of them only when that is asked for."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from demo import install
from localcluster import cli, cluster, leftovers

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The clusters of a machine where three run, one of them started half; `remove` takes one away."""
    there = {"nereus", "half-built", "somebody-elses"}

    def remove(name: str, *, progress: object) -> list[str]:
        there.remove(name)
        return []

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster, "exclusive", lambda _progress: contextlib.nullcontext())
    monkeypatch.setattr(leftovers, "clusters_on_this_machine", lambda: sorted(there))
    monkeypatch.setattr(leftovers, "remove", remove)
    monkeypatch.setattr(leftovers, "remove_shared", lambda: [])
    return there


def test_one_cluster_is_ended_and_the_others_are_named(machine: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", "--name", "half-built"]) == 0
    assert machine == {"nereus", "somebody-elses"}
    said = "".join(capsys.readouterr())
    assert "not touched: nereus, somebody-elses" in said
    assert "down --all" in said


def test_all_of_them_only_when_asked(machine: set[str]) -> None:
    assert cli.main(["down", "--all"]) == 0
    assert machine == set()


def test_the_demo_ends_its_own_cluster(machine: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "localcluster"]
        return subprocess.CompletedProcess(command, cli.main(command[3:]))

    monkeypatch.setattr(subprocess, "run", run)
    assert install.remove_local_cluster("nereus") == 0
    assert machine == {"half-built", "somebody-elses"}


@pytest.mark.parametrize("target", ["cluster-down", "demo-down"])
def test_no_make_target_ends_clusters_of_others(target: str) -> None:
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert " down" in shown.stdout
    assert "--all" not in shown.stdout
