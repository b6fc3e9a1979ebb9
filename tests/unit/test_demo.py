"""The demo says what goes on, what a cluster lacks, and takes away what it brought and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo import clusters, story
from demo.kube import SIGN_SECONDS, CommandError, Kube, StepError, finished, wait

Json = dict[str, Any]

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> "{calls}"
for answer in "{answers}"/*; do
    case "$*" in *"$(basename "$answer")"*) cat "$answer"; exit 0;; esac
done
case "$*" in status*) echo "Error: release: not found" >&2; exit 1;; esac
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster whose kubectl and helm are scripts: `says` is the answer to every call that contains these words."""

    directory: Path

    @property
    def kube(self) -> Kube:
        return Kube(kubeconfig=self.directory / "kubeconfig")

    def says(self, words: str, answer: str | Json) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        (self.directory / "answers" / words).write_text(text)

    def calls(self) -> list[str]:
        log = self.directory / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    (tmp_path / "answers").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("kubectl", "helm"):
        tool = tmp_path / "bin" / name
        tool.write_text(TOOL.format(calls=tmp_path / "calls", answers=tmp_path / "answers"))
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("NEREUS_CACHE", str(tmp_path / "cache"))
    return Cluster(tmp_path)


# --- signs of life


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("interval", [0.5, 3.0])
def test_a_long_wait_is_never_silent_for_ten_seconds(interval: float) -> None:
    clock = Clock()
    told = [clock.now]

    def say(line: str) -> None:
        assert "waiting for pods" in line
        told.append(clock.now)

    done = clock.now + 60
    wait(lambda: clock() >= done, "pods", seconds=90, interval=interval, say=say, clock=clock, sleep=clock.sleep)
    silences = [after - before for before, after in zip(told, [*told[1:], clock.now], strict=True)]
    assert max(silences) <= SIGN_SECONDS
    assert min(silences[:-1]) > SIGN_SECONDS / 2, "and it does not chatter"


def test_a_wait_that_is_over_says_what_was_seen_last() -> None:
    clock = Clock()
    with pytest.raises(StepError, match="gave up after 30 s waiting for pods; last seen: none"):
        wait(lambda: False, "pods", seconds=30, state=lambda: "none", clock=clock, sleep=clock.sleep)


def test_a_long_command_gives_signs_of_life_until_it_ends(tmp_path: Path) -> None:
    signs: list[str] = []

    def say(line: str) -> None:
        signs.append(line)
        if len(signs) == 3:
            (tmp_path / "enough").touch()

    command = ["sh", "-c", f'cat; until [ -e "{tmp_path / "enough"}" ]; do sleep 0.01; done; exit 7']
    code, out, _ = finished(command, seconds=60, say=say, every=0.05, stdin="fed", quiet=True)
    assert (code, out) == (7, "fed")
    assert len(signs) >= 3
    assert all("sh -c" in line and "goes on" in line for line in signs)


def test_a_command_that_does_not_end_is_ended_and_named() -> None:
    with pytest.raises(StepError, match="sleep 600 did not end within 0 s"):
        finished(["sleep", "600"], seconds=0.05)


def test_a_command_that_fails_is_told_in_its_own_words(cluster: Cluster) -> None:
    (cluster.directory / "bin" / "helm").write_text("#!/bin/sh\necho 'no such chart' >&2\nexit 1\n")
    with pytest.raises(CommandError, match="helm upgrade nereus: no such chart"):
        cluster.kube.run("helm", "upgrade", "nereus")


# --- scaling


class Heard(story.Narrator):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def available(status: str, message: str = "") -> Json:
    return {"status": {"conditions": [{"type": "Available", "status": status, "message": message}]}}


@pytest.mark.parametrize(
    ("apiservice", "words"),
    [("", "which is not there"), (available("False", "no endpoints"), "which does not answer (no endpoints)")],
)
def test_without_a_metrics_api_the_demo_says_that_scaling_is_not_shown_and_goes_on(
    cluster: Cluster, apiservice: str | Json, words: str
) -> None:
    cluster.says("get msvc quickstart", {"status": {"resolved": {"strategy": "Metrics"}}})
    cluster.says("get apiservice v1beta1.metrics.k8s.io", apiservice)
    narrator = Heard()
    story.scale_under_load(cluster.kube, narrator)
    assert len(narrator.lines) == 1
    assert narrator.lines[0].startswith("scaling is not shown: ")
    assert words in narrator.lines[0]
    assert "install metrics-server" in narrator.lines[0]


@pytest.mark.parametrize(
    ("strategy", "apiservice"), [("Metrics", available("True")), ("Predictive", available("False")), ("Predictive", "")]
)
def test_scaling_is_shown_where_the_autoscaler_or_nereus_can_read_the_load(
    cluster: Cluster, strategy: str, apiservice: str | Json
) -> None:
    cluster.says("get msvc quickstart", {"status": {"resolved": {"strategy": strategy}}})
    cluster.says("get apiservice v1beta1.metrics.k8s.io", apiservice)
    assert story.why_not_scaled(cluster.kube) == ""


# --- somebody's own cluster


def prepared(cluster: Cluster, *, foreign: bool = True) -> clusters.Prepared:
    return clusters.Prepared(kube=cluster.kube, helm_values=(), what="a cluster", foreign=foreign)


def _deleted(cluster: Cluster) -> Mapping[str, bool]:
    calls = cluster.calls()
    return {
        "example": any("delete -f" in call and call.endswith("quickstart.yaml --ignore-not-found") for call in calls),
        "release": any(call.startswith("helm uninstall nereus --namespace nereus-system") for call in calls),
        "namespace": any("delete namespace nereus-system" in call for call in calls),
    }


@pytest.mark.parametrize(
    ("release", "namespace", "gone"),
    [
        (False, "", {"example": True, "release": True, "namespace": True}),
        (False, '{"kind": "Namespace"}', {"example": True, "release": True, "namespace": False}),
        (True, '{"kind": "Namespace"}', {"example": True, "release": False, "namespace": False}),
    ],
)
def test_what_was_not_there_before_is_taken_out_of_somebodys_cluster(
    cluster: Cluster, release: bool, namespace: str, gone: Mapping[str, bool]
) -> None:
    if release:
        cluster.says("status nereus --namespace nereus-system", "deployed")
    cluster.says("get namespace nereus-system", namespace)
    clusters.remember(prepared(cluster))
    cluster.says("status nereus --namespace nereus-system", "deployed")  # as another run of the demo finds it
    clusters.remember(prepared(cluster))
    cluster.says("get customresourcedefinition", {"kind": "CustomResourceDefinition"})
    said: list[str] = []
    clusters.leave_existing(said.append)
    assert _deleted(cluster) == gone
    assert said
    before = len(cluster.calls())
    clusters.leave_existing(said.append)
    assert len(cluster.calls()) == before, "it is taken away once"


def test_every_cluster_in_which_the_demo_was_is_left(cluster: Cluster) -> None:
    for name in ("one", "two"):
        kube = Kube(kubeconfig=cluster.directory / name)
        clusters.remember(clusters.Prepared(kube=kube, helm_values=(), what=name, foreign=True))
    said: list[str] = []
    clusters.leave_existing(said.append)
    assert {line.rpartition("/")[2] for line in said if "in the cluster of" in line} == {"one", "two"}


def test_nothing_is_remembered_of_a_cluster_of_our_own(cluster: Cluster) -> None:
    clusters.remember(prepared(cluster, foreign=False))
    clusters.leave_existing(pytest.fail)
    assert cluster.calls() == []


def test_a_cluster_that_does_not_answer_is_tried_again_and_the_note_of_it_is_named(cluster: Cluster) -> None:
    clusters.remember(prepared(cluster))
    kubectl = cluster.directory / "bin" / "kubectl"
    works = kubectl.read_text()
    kubectl.write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    with pytest.raises(
        StepError, match=r"connection refused \(if that cluster is gone, delete .*demo-in-existing/.*\.json\)"
    ):
        clusters.leave_existing(lambda _line: None)
    kubectl.write_text(works)
    clusters.leave_existing(lambda _line: None)
    assert _deleted(cluster)["release"]
