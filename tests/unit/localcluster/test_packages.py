"""Packages are installed once, also when two tiers of tests ask for them at the same time."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from localcluster import packages
from localcluster.report import Progress


def test_who_waited_for_another_installs_nothing_that_is_there_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, asked = tmp_path / "sh", threading.Event()
    installed: list[tuple[str, ...]] = []

    def missing(tools: object) -> list[str]:
        asked.set()
        return [] if tool.exists() else ["package"]

    monkeypatch.setattr(packages, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(packages, "missing_packages", missing)
    monkeypatch.setattr(packages, "_install", lambda *names, **_: installed.append(names))
    waiting = threading.Thread(target=packages.ensure_tools, args=("sh",), kwargs={"progress": Progress()})
    with packages.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        assert asked.wait(timeout=30)
        tool.touch()
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert installed == []
