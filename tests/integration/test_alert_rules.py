"""Rules on a real Prometheus and a real API server: what is loaded is noticed, what is not is said.

Prometheus is Debian's, as a process of its own with a rules file. The kind PrometheusRule has the name of
prometheus-operator's and a schema that keeps everything; the real operator is in `make bench BENCH=alerts`.
"""

from __future__ import annotations

import asyncio
import copy
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from localcluster.packages import ensure_tools, find_tool
from localcluster.report import Progress
from nereus.alerting import rules
from nereus.controller.explain import firing
from nereus.controller.loadedrules import PATIENCE_SECONDS, LoadedRules, Verdict
from nereus.controller.store import Key
from nereus.diagnosis.alerts import Loading
from nereus.prometheus.client import Client, Page
from nereus.prometheus.options import Options
from tests.harness.prometheus import SECRET_HASH, certificate
from tests.harness.prometheus import Prometheus as Server
from tests.harness.tritonserver import free_ports
from tests.unit.alerting.test_promtool import service

Json = dict[str, Any]
KEY = Key("prod", "resnet")


class Prometheus:
    """A Prometheus with one rules file, reloaded on request."""

    def __init__(self, folder: Path) -> None:
        ensure_tools("prometheus", "promtool", progress=Progress())
        self._rules = folder / "rules.yml"
        self.write(rules.operator_group())
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump({"global": {"evaluation_interval": "1s"}, "rule_files": [str(self._rules)]})
        )
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                str(find_tool("prometheus")),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-lifecycle",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()

    def write(self, *groups: Json) -> None:
        self._rules.write_text(yaml.safe_dump(rules.rules_file(*groups)))

    async def reload(self, session: aiohttp.ClientSession) -> int:
        async with session.post(f"{self.url}/-/reload") as answer:
            return answer.status

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path)
    yield running
    running.stop()


class Watcher:
    """What a service would be told, with a clock that can be turned."""

    def __init__(self, url: str, **options: Any) -> None:
        self.offset = 0.0
        self.woken: list[Key] = []
        source = Client(Options(address=url, **options)) if url else None
        self.loaded = LoadedRules(source, self.woken.append, clock=lambda: time.monotonic() + self.offset)

    async def until(self, group: Json, loading: Loading) -> Verdict:
        deadline = time.monotonic() + 60
        while True:
            await self.loaded.ask()
            verdict = self.loaded.look(KEY, group)
            if verdict.loading is loading:
                return verdict
            assert time.monotonic() < deadline, f"{verdict} instead of {loading}"
            await asyncio.sleep(0.2)


async def test_only_what_prometheus_itself_lists_counts_as_installed(prometheus: Prometheus) -> None:
    group = rules.service_group(service())
    async with aiohttp.ClientSession() as session:
        seen = Watcher(prometheus.url)
        await seen.until(group, Loading.PENDING)
        seen.offset = PATIENCE_SECONDS + 1
        await seen.until(group, Loading.MISSING)

        prometheus.write(group)
        assert await prometheus.reload(session) == 200
        seen.woken.clear()
        await seen.loaded.ask()
        assert seen.woken == [KEY], "a change wakes the service"
        await seen.until(group, Loading.LOADED)
        seen.woken.clear()
        await seen.loaded.ask()
        assert seen.woken == [], "nothing new wakes nobody"

        changed = rules.service_group(service(latency="1s"))
        seen.loaded.look(KEY, changed)
        seen.offset += PATIENCE_SECONDS + 1
        verdict = await seen.until(changed, Loading.OUTDATED)
        assert "NereusLatencyHigh" in verdict.words

        prometheus.stop()
        await seen.until(group, Loading.UNREACHABLE)


async def test_a_rules_file_that_prometheus_refuses_leaves_the_old_rules_in_place(prometheus: Prometheus) -> None:
    group = rules.service_group(service())
    wrong = copy.deepcopy(group)
    wrong["rules"][0]["expr"] = "sum by ("
    async with aiohttp.ClientSession() as session:
        seen = Watcher(prometheus.url)
        await seen.until(group, Loading.PENDING)
        prometheus.write(group)
        assert await prometheus.reload(session) == 200
        await seen.until(group, Loading.LOADED)
        prometheus.write(wrong)
        assert await prometheus.reload(session) == 500
        await seen.until(group, Loading.LOADED)


async def test_a_rule_that_cannot_be_evaluated_is_quoted(prometheus: Prometheus) -> None:
    group = rules.service_group(service())
    failing = copy.deepcopy(group)
    two = '(vector(1) or label_replace(vector(2), "x", "y", "", ""))'
    failing["rules"][0]["expr"] = f"{two} * on () {two}"
    async with aiohttp.ClientSession() as session:
        seen = Watcher(prometheus.url)
        await seen.until(group, Loading.PENDING)
        prometheus.write(failing)
        assert await prometheus.reload(session) == 200
        verdict = await seen.until(group, Loading.FAILING)
    assert "NereusLatencyHigh" in verdict.words
    assert "many-to-many" in verdict.words


async def test_behind_tls_and_a_password_rules_and_firing_alerts_are_read_as_well(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "pki")
    password = tmp_path / "password"
    password.write_text("secret\n")
    group = rules.service_group(service())
    fires = {"alert": "NereusFires", "expr": "vector(1)", "labels": {"namespace": "prod", "service": "resnet"}}
    other = {"alert": "NereusFires", "expr": "vector(1)", "labels": {"namespace": "prod", "service": "bert"}}
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules.rules_file(group, {"name": "others", "rules": [fires, other]})))
    web = {
        "tls_server_config": {"cert_file": str(cert), "key_file": str(key)},
        "basic_auth_users": {"nereus": SECRET_HASH},
    }
    with Server(tmp_path / "server", rule_files=(file,), web=web) as server:
        right: Json = {"ca_file": str(cert), "username": "nereus", "password_file": str(password)}
        await Watcher(server.url, **right).until(group, Loading.LOADED)
        for wrong, words in (({"password_file": str(cert)}, "401"), ({"ca_file": ""}, "TLS failed")):
            verdict = await Watcher(server.url, **{**right, **wrong}).until(group, Loading.UNREACHABLE)
            assert words in verdict.words
            assert server.url in verdict.words
        source = Client(Options(address=server.url, **right))
        deadline = time.monotonic() + 60
        while not (found := await firing(source, "prod", "resnet", within=20)):
            assert time.monotonic() < deadline, "the alert does not fire"
            await asyncio.sleep(0.2)
        assert [(alert["labels"]["service"], alert["state"]) for alert in found] == [("resnet", "firing")]
        source.close()


async def test_an_incomplete_list_of_rules_does_not_say_that_they_are_missing() -> None:
    """Thanos answers with a warning when a Prometheus behind it does not; a stand-in, as that takes a Thanos."""

    class Half:
        async def page(self, path: str, *, within: float, **asked: str) -> Page:
            assert (path, asked["type"]) == ("rules", "alert")
            assert within > 0
            return Page(data={"groups": []}, warnings=("no answer from replica b",))

    watcher = Watcher("")
    watcher.loaded = LoadedRules(Half(), watcher.woken.append)
    verdict = await watcher.until(rules.service_group(service()), Loading.UNREACHABLE)
    assert "no answer from replica b" in verdict.words


async def test_what_is_no_prometheus_is_not_believed() -> None:
    group = rules.service_group(service())
    assert Watcher("").loaded.look(KEY, group).loading is Loading.UNASKED
    await Watcher("http://127.0.0.1:9").until(group, Loading.UNREACHABLE)
