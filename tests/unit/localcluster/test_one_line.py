"""What keeps a cluster from starting is one line that says what to do: a package, a right, a port."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from localcluster import cli, cluster, packages, processes
from localcluster.components import Component
from localcluster.config import Cluster, Options
from localcluster.report import Progress, Refusal


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The only line that the tool prints when it refuses."""
    assert cli.main(list(arguments)) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    [line] = errors.splitlines()
    return line


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (1000, "missing packages util-linux: run as root, or install them with apt-get install"),
        (0, "this machine has no apt-get: install by its own means util-linux"),
    ],
)
def test_a_package_that_is_missing_and_cannot_be_installed_is_named(
    user: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "find_tool", lambda _tool: None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert _said(capsys, "build") == f"ERROR: {words}"


def test_who_is_not_root_is_told_how_to_become_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert _said(capsys, "up").endswith("needs root for namespaces, mounts and cgroups: run again with sudo -E")


def _started(directory: Path, *command: str) -> tuple[Cluster, Component]:
    """A component of a cluster that consists of nothing else, after it ended."""
    made = Cluster(name="a", slot=0, options=Options(), root=directory)
    component = Component(name="etcd", command=command, port=2379)
    started = processes.launch(
        command, record=made.record(component.name), log=made.log(component.name), cgroup=directory
    )
    assert processes.wait_for_end([started], timeout_seconds=30.0) == []
    return made, component


def _refused(made: Cluster, component: Component) -> str:
    with pytest.raises(Refusal) as caught:
        cluster.wait_for(made, component, progress=Progress())
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_component_that_ended_right_after_its_start_is_told_with_its_last_words_and_its_log(tmp_path: Path) -> None:
    made, component = _started(tmp_path, "sh", "-c", "echo starting; echo 'Error: no space left on device'; echo usage")
    said = _refused(made, component)
    assert said == (f"etcd ended right after its start: Error: no space left on device (log: {made.log('etcd')})")


def test_a_port_that_is_taken_is_told_in_the_words_of_who_wanted_it(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = holder.getsockname()
        bind = f"import socket; socket.socket().bind({address!r})"
        said = _refused(*_started(tmp_path, sys.executable, "-c", bind))
    assert "etcd ended right after its start" in said
    assert "Address already in use" in said
