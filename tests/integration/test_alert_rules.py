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
from nereus.controller.loadedrules import PATIENCE_SECONDS, LoadedRules, Verdict
from nereus.controller.store import Key
from nereus.diagnosis.alerts import Loading
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

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.offset = 0.0
        self.woken: list[Key] = []
        self.loaded = LoadedRules(url, session, self.woken.append, clock=lambda: time.monotonic() + self.offset)

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
        seen = Watcher(prometheus.url, session)
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
        seen = Watcher(prometheus.url, session)
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
        seen = Watcher(prometheus.url, session)
        await seen.until(group, Loading.PENDING)
        prometheus.write(failing)
        assert await prometheus.reload(session) == 200
        verdict = await seen.until(group, Loading.FAILING)
    assert "NereusLatencyHigh" in verdict.words
    assert "many-to-many" in verdict.words


async def test_what_is_no_prometheus_is_not_believed() -> None:
    async with aiohttp.ClientSession() as session:
        silent = Watcher("", session)
        assert silent.loaded.look(KEY, rules.service_group(service())).loading is Loading.UNASKED
        nobody = Watcher("http://127.0.0.1:9", session)
        await nobody.until(rules.service_group(service()), Loading.UNREACHABLE)
