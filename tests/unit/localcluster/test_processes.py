"""Real processes: started so that they are known at once, ended exactly, never mistaken for others."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from localcluster import cgroups, cluster, processes
from localcluster.report import Progress, Refusal, last_words, wait_until


def _launch(directory: Path, *command: str) -> processes.Process:
    return processes.launch(
        command, record=directory / "run" / "it", log=directory / "log" / "it.log", cgroup=directory
    )


def test_a_started_process_is_known_by_its_record_and_ended_by_it(tmp_path: Path) -> None:
    started = _launch(tmp_path, "sleep", "60")
    found = processes.recorded(tmp_path / "run" / "it")
    assert found == started
    assert (tmp_path / "cgroup.procs").read_text().split() == [str(started.pid)]
    assert processes.end([started], grace_seconds=5.0) == []
    assert processes.recorded(tmp_path / "run" / "it") is None


def test_a_process_that_ignores_being_asked_is_ended_all_the_same(tmp_path: Path) -> None:
    started = _launch(tmp_path, "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done")
    assert processes.end([started], grace_seconds=0.2) == []
    assert not started.alive


def test_a_reused_process_id_is_not_taken_for_ours() -> None:
    mine = processes.start_ticks(os.getpid())
    assert mine is not None
    assert processes.Process(os.getpid(), mine).alive
    stranger = processes.Process(os.getpid(), mine - 1)
    assert not stranger.alive
    assert processes.end([stranger], grace_seconds=0.0) == []


def test_a_process_that_ended_and_is_not_collected_yet_counts_as_ended() -> None:
    with subprocess.Popen(["true"]) as child:
        while processes.start_ticks(child.pid) is not None:
            os.sched_yield()
        assert processes.start_ticks(child.pid) is None


def test_what_a_process_said_before_is_kept_when_it_starts_again(tmp_path: Path) -> None:
    for word in ("first", "second"):
        started = _launch(tmp_path, "echo", word)
        processes.wait_for_end([started], timeout_seconds=5.0)
    assert (tmp_path / "log" / "it.previous.log").read_text() == "first\n"
    assert (tmp_path / "log" / "it.log").read_text() == "second\n"


def test_a_listening_port_is_seen_and_a_closed_one_is_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not cluster.listening(os.getpid(), port)
        server.listen()
        assert cluster.listening(os.getpid(), port)


def test_the_file_of_a_socket_that_nobody_serves_is_not_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert cluster.accepts(path)
    assert path.exists()
    assert not cluster.accepts(path)


def test_the_line_that_says_why_is_picked_from_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\nError: port 9 is taken\nUsage:\n  --flag  explains itself\n")
    assert last_words(log) == "Error: port 9 is taken"
    log.write_text("one\ntwo\n")
    assert last_words(log) == "two"
    assert last_words(tmp_path / "none") == "(no log)"


def test_a_wait_that_fails_says_what_was_missing() -> None:
    with pytest.raises(Refusal, match=r"the node did not come up in 0 s: it is not Ready"):
        wait_until(lambda: "it is not Ready", what="the node", timeout_seconds=0.0, progress=Progress())


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for controller in ("pids", "memory", "cpuset", "freezer"):
        (tmp_path / controller).mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cpuset" / file).write_text("0-1\n")
    return tmp_path


def test_on_cgroup_v1_the_kubelet_finds_its_root_in_its_controllers(v1: Path) -> None:
    components = cgroups.create("nereus-a", mount=v1)
    assert components == v1 / "pids" / "nereus-a" / "components"
    assert cgroups.existing("nereus-a", mount=v1) == [v1 / name / "nereus-a" for name in ("cpuset", "memory", "pids")]
    assert not (v1 / "freezer" / "nereus-a").exists()


def test_a_cpuset_that_starts_empty_gets_what_its_parent_has(v1: Path) -> None:
    (v1 / "cpuset" / "nereus-a").mkdir()
    (v1 / "cpuset" / "nereus-a" / "cpuset.cpus").write_text("\n")
    cgroups.create("nereus-a", mount=v1)
    assert (v1 / "cpuset" / "nereus-a" / "cpuset.cpus").read_text() == "0-1\n"


def test_on_cgroup_v2_controllers_are_handed_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "nereus-a").mkdir()
    (tmp_path / "nereus-a" / "cgroup.controllers").write_text("cpu memory pids\n")
    assert cgroups.create("nereus-a", mount=tmp_path) == tmp_path / "nereus-a" / "components"
    assert (tmp_path / "nereus-a" / "cgroup.subtree_control").exists()


def test_the_members_of_a_cgroup_include_those_of_containers_below_it(v1: Path) -> None:
    cgroups.create("nereus-a", mount=v1)
    pod = v1 / "pids" / "nereus-a" / "kubepods" / "pod1"
    pod.mkdir(parents=True)
    (pod / "cgroup.procs").write_text("30\n")
    (v1 / "pids" / "nereus-a" / "components" / "cgroup.procs").write_text("10\n20\n")
    assert cgroups.members("nereus-a", mount=v1) == [10, 20, 30]


def test_removing_a_cgroup_removes_it_in_every_hierarchy(v1: Path) -> None:
    cgroups.create("nereus-a", mount=v1)
    (v1 / "freezer" / "nereus-a" / "kubepods").mkdir(parents=True)
    cgroups.remove("nereus-a", mount=v1, timeout_seconds=1.0)
    assert cgroups.existing("nereus-a", mount=v1) == []
    assert cgroups.names("nereus-", mount=v1) == set()
