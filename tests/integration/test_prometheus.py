"""Reading a real Prometheus: what a reading says for every fault of pods, scrapes, servers, networks and log-ins."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localcluster.packages import find_tool
from nereus.backtest.prometheus import fetch
from nereus.prometheus.client import Client
from nereus.prometheus.history import Pace, back_fill
from nereus.prometheus.options import Options
from nereus.prometheus.queries import FOR_WARM_UP, Query, Scope
from nereus.prometheus.reader import Reader
from nereus.prometheus.reading import Freshness, Key, PastLoad, Reading, Wanted
from tests.harness.prometheus import SECRET_HASH, Exporter, Gate, Pod, Prometheus, certificate, free_port

SCRAPE, WINDOW = 1.0, 4.0
PATIENCE = 60.0
DAY = 86_400


def wanted(name: str, ready: int, **fields: Any) -> Wanted:
    return Wanted(key=Key("team", name), models=("m",), expected_ready=ready, **fields)


@dataclass
class World:
    """Pods of every kind, scraped twice: by two jobs, as by a PodMonitor and by annotations."""

    exporter: Exporter
    server: Prometheus

    def options(self, **fields: Any) -> Options:
        return Options(**{"address": self.server.url, "scrape_interval": SCRAPE, "window": WINDOW, **fields})

    def pods(self, service: str) -> list[Pod]:
        return [pod for pod in self.exporter.pods.values() if pod.service == service]

    async def read(self, *services: Wanted, **options: Any) -> Reading:
        """The reading of the first service."""
        reader = Reader(self.options(**options))
        try:
            return (await reader.read(services))[services[0].key]
        finally:
            reader.close()

    async def until(self, state: Freshness, service: Wanted, **options: Any) -> list[Reading]:
        """Every reading until the service has that state."""
        readings = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            readings.append(await self.read(service, **options))
            if readings[-1].state is state:
                return readings
            time.sleep(0.2)  # noqa: ASYNC251  nothing else runs here
        raise AssertionError(f"{service.key} is not {state} but {readings[-1]}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if find_tool("prometheus") is None:
        pytest.skip("Prometheus is not installed: python3 -m localcluster up installs it")
    exporter = Exporter()
    exporter.add(Pod("team", "good", "good-1"), Pod("team", "good", "good-2", rate=20, queue=3))
    exporter.add(Pod("team", "idle", "idle-1", rate=0), Pod("team", "nan", "nan-1", value="NaN"))
    exporter.add(Pod("team", "old", "old-1", age=60), Pod("team", "mortal", "mortal-1"))
    exporter.add(*(Pod("team", "half", f"half-{n}", rate=5) for n in range(4)))
    exporter.add(Pod("team", "restarts", "restarts-1", rate=50), Pod("team", "bare", "bare-1", labelled=False))
    with Prometheus(tmp_path_factory.mktemp("prometheus"), exporter, SCRAPE, jobs=("monitor", "annotated")) as server:
        yield World(exporter, server)
    exporter.stop()


async def test_services_are_read_as_their_pods_are(world: World) -> None:
    good = wanted("good", 2)
    before = await world.until(Freshness.FRESH, good)
    assert before[-1].rate == pytest.approx(30, rel=0.15)  # two pods, each scraped by two jobs
    assert before[-1].queue == pytest.approx(3, rel=0.01)  # a mean over time: scrapes are not quite even
    assert before[-1].capacity == pytest.approx(95, rel=0.15)  # 0.95 of batches of 4 in 40 ms
    assert before[-1].load == pytest.approx(30 / 95, rel=0.2)
    assert abs(before[-1].at - time.time()) < 30
    assert all(reading.state in (Freshness.MISSING, Freshness.PARTIAL, Freshness.RECOVERING) for reading in before[:-1])
    assert (await world.until(Freshness.FRESH, wanted("idle", 1)))[-1].load == 0
    assert (await world.until(Freshness.INVALID, wanted("nan", 1)))[-1].load is None
    old = await world.read(wanted("old", 1))
    assert (old.state, old.load) == (Freshness.STALE, None)
    assert (await world.read(wanted("nobody", 1))).state is Freshness.MISSING
    assert (await world.read(wanted("nobody", 0))).state is Freshness.NO_PODS
    assert (await world.read(wanted("good", 3))).state is Freshness.PARTIAL
    bare = await world.read(wanted("bare", 1))
    assert bare.state is Freshness.MISSING
    assert "series of Triton without the label serving_nereus_dev_service" in bare.message


async def test_our_own_clock_does_not_matter(world: World) -> None:
    await world.until(Freshness.FRESH, wanted("good", 2))
    reader = Reader(world.options(), clock=lambda: time.time() - 3600)
    reading = (await reader.read([wanted("good", 2)]))[Key("team", "good")]
    assert reading.state in (Freshness.FRESH, Freshness.RECOVERING)
    assert reading.pods_seen == 2
    assert reading.skew_seconds == pytest.approx(3600, abs=30)
    assert "+36" in reading.message


async def test_as_many_queries_for_a_thousand_services_as_for_one(world: World) -> None:
    asked = []
    for count in (1, 1000):
        before = world.server.answered()
        await world.read(wanted("good", 2), *(wanted(f"s{n}", 1) for n in range(count - 1)))
        asked.append(world.server.answered() - before)
    assert asked == [len(Query) - len(FOR_WARM_UP)] * 2


async def test_a_dead_pod_leaves_no_series_behind(world: World) -> None:
    mortal = wanted("mortal", 1)
    await world.until(Freshness.FRESH, mortal)
    world.pods("mortal")[0].dead = True
    readings = await world.until(Freshness.MISSING, mortal)
    assert readings[-1].load is None


async def test_half_of_the_targets_missing_never_looks_like_half_of_the_load(world: World) -> None:
    half = wanted("half", 4)
    whole = (await world.until(Freshness.FRESH, half))[-1]
    assert whole.load is not None
    assert whole.rate == pytest.approx(20, rel=0.15)
    for pod in world.pods("half")[:2]:
        pod.dead = True
    await world.until(Freshness.PARTIAL, half)
    time.sleep(WINDOW + SCRAPE)  # noqa: ASYNC251  until the dead have left the window
    partial = await world.read(half)
    assert (partial.state, partial.pods_seen) == (Freshness.PARTIAL, 2)
    assert partial.rate == pytest.approx(10, rel=0.2)
    assert partial.load == pytest.approx(whole.load, rel=0.25)
    for pod in world.pods("half"):
        pod.dead = False
    readings = await world.until(Freshness.FRESH, half)
    assert Freshness.FRESH not in [reading.state for reading in readings[:-1]]


async def test_a_counter_that_starts_again_is_no_negative_load(world: World) -> None:
    restarts = wanted("restarts", 1)
    await world.until(Freshness.FRESH, restarts)
    world.pods("restarts")[0].started = time.time()
    for _ in range(5):
        reading = await world.read(restarts)
        assert reading.rate is not None
        assert reading.rate >= 0.5 * 50
        time.sleep(SCRAPE / 2)  # noqa: ASYNC251  nothing else runs here


async def test_slow_dripping_and_wrong_answers_are_told_apart(world: World) -> None:
    gate = Gate(world.server.url)
    good = wanted("good", 2)
    through = {"address": gate.url}
    await world.until(Freshness.FRESH, good, **through)
    gate.delay = 5.0
    began = time.monotonic()
    slow = await world.read(good, timeout=0.5, **through)
    assert slow.state is Freshness.SLOW
    assert "--prometheus-timeout" in slow.message
    assert time.monotonic() - began < 4
    gate.delay, gate.drip = 0.0, True
    assert (await world.read(good, timeout=1, **through)).state is Freshness.SLOW
    gate.drip = False
    for page, state in (
        ((200, b"<html>welcome</html>"), Freshness.NOT_PROMETHEUS),
        ((404, b"no such page"), Freshness.NOT_PROMETHEUS),
        ((503, b"starting"), Freshness.UNREACHABLE),
        ((200, b'{"status":"success","data":{"result":[{"metric":1}]}}'), Freshness.NOT_PROMETHEUS),
    ):
        gate.page = page
        reading = await world.read(good, **through)
        assert (reading.state, reading.load) == (state, None)
        assert gate.url in reading.message
    gate.stop()


async def test_a_token_is_read_again_when_it_changes(world: World, tmp_path: Path) -> None:
    gate = Gate(world.server.url)
    gate.token = "first"
    file = tmp_path / "token"
    file.write_text("first\n")
    reader = Reader(world.options(address=gate.url, bearer_token_file=str(file), headers={"X-Scope-OrgID": "team"}))
    good = wanted("good", 2)
    await world.until(Freshness.FRESH, good)
    assert (await reader.read([good]))[good.key].pods_seen == 2
    assert {seen.get("X-Scope-OrgID") for seen in gate.seen} == {"team"}
    gate.token = "second"
    denied = (await reader.read([good]))[good.key]
    assert denied.state is Freshness.DENIED
    assert "401" in denied.message
    file.write_text("second\n")
    assert (await reader.read([good]))[good.key].pods_seen == 2
    file.unlink()
    assert (await reader.read([good]))[good.key].state is Freshness.DENIED
    gate.stop()


async def test_nothing_at_the_address(world: World) -> None:
    for address in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:9090"):
        reading = await world.read(wanted("good", 2), address=address)
        assert reading.state is Freshness.UNREACHABLE
        assert address in reading.message


async def test_tls_client_certificates_and_passwords(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "pki")
    other, _ = certificate(tmp_path / "other")
    password = tmp_path / "password"
    password.write_text("secret\n")
    tls = {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(cert)}
    tls["client_auth_type"] = "RequireAndVerifyClientCert"
    web = {"tls_server_config": tls, "basic_auth_users": {"nereus": SECRET_HASH}}
    good = wanted("good", 2)
    with Prometheus(tmp_path / "server", web=web) as server:
        right = {
            "address": server.url,
            "ca_file": str(cert),
            "cert_file": str(cert),
            "key_file": str(key),
            "username": "nereus",
            "password_file": str(password),
        }

        async def read(**fields: Any) -> Reading:
            return (await Reader(Options(**{**right, **fields})).read([good]))[good.key]

        assert (await read()).state is Freshness.MISSING
        assert (await read(ca_file="", insecure=True)).state is Freshness.MISSING
        assert (await read(password_file=str(cert))).state is Freshness.DENIED
        for wrong in ({"ca_file": str(other)}, {"ca_file": ""}, {"cert_file": "", "key_file": ""}):
            reading = await read(**wrong)
            assert reading.state is Freshness.UNREACHABLE, wrong
            assert server.url in reading.message


async def test_after_an_outage_nothing_is_believed_before_the_window_is_whole(world: World) -> None:
    good = wanted("good", 2)
    await world.until(Freshness.FRESH, good)
    world.server.kill()
    assert (await world.read(good)).state is Freshness.UNREACHABLE
    time.sleep(WINDOW + SCRAPE)  # noqa: ASYNC251  the hole must be longer than the window
    world.server.start()
    readings = await world.until(Freshness.FRESH, good)
    before = readings[:-1]
    assert before, "an empty window must not be believed"
    assert {reading.state for reading in before} <= {
        *(Freshness.MISSING, Freshness.STALE, Freshness.PARTIAL, Freshness.RECOVERING, Freshness.UNREACHABLE)
    }
    assert readings[-1].rate == pytest.approx(30, rel=0.15)


# The past


PAST_SERVICES = ("steady", "daily")
HOLE = range(3 * 1440, 3 * 1440 + 180)
"""Minutes before the end without samples."""
RESUMABLE = """
import asyncio, json, sys, time
from nereus.prometheus.client import Client
from nereus.prometheus.history import Pace, back_fill
from nereus.prometheus.options import Options
from nereus.prometheus.queries import Scope
from nereus.prometheus.reading import Key, Wanted

async def main(address, now, names):
    wanted = [Wanted(key=Key("team", name), expected_ready=1) for name in names]
    pieces = back_fill(Client(Options(address=address)), Scope(scrape_interval=60), wanted, now=now)
    async for piece in pieces:
        print(json.dumps([*piece.key, piece.since]), flush=True)
        time.sleep(0.1)

asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
"""


def past_rate(name: str, minute: int) -> float:
    """Inferences per second in that minute since the epoch."""
    return 10.0 if name == "steady" else 5 + minute % 1440 / 144


def write_past(folder: Path, end: int) -> None:
    """Fourteen days of counters at a sample a minute, written into a store by promtool."""
    lines = ["# TYPE nv_inference counter"]
    for name in PAST_SERVICES:
        total = 0.0
        for minute in range(end - 14 * 1440, end + 1):
            total = 0.0 if (end - minute) == 5000 else total + 60 * past_rate(name, minute - 1)
            if not (name == "steady" and end - minute in HOLE):
                labels = f'namespace="team",pod="{name}-1",serving_nereus_dev_service="{name}",model="m",version="1"'
                lines.append(f"nv_inference_count{{{labels}}} {total} {minute * 60}")
    (folder / "past.txt").write_text("\n".join([*lines, "# EOF", ""]).replace("# TYPE nv_inference counter\n", ""))
    # One large block instead of 168 small ones: promtool reads the whole text once for each.
    command = ["tsdb", "create-blocks-from", "--max-block-duration=336h", "openmetrics", "past.txt", "data"]
    done = subprocess.run(
        [str(find_tool("promtool")), *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_fourteen_days_are_filled_in_and_resumed_after_a_kill(world: World, tmp_path: Path) -> None:
    del world  # only for its check that Prometheus is installed
    end = int(time.time() // 60) - 1
    write_past(tmp_path, end)
    with Prometheus(tmp_path, scrape_seconds=60) as server:
        process = subprocess.Popen(  # noqa: ASYNC220  nothing else runs here
            [sys.executable, "-c", RESUMABLE, server.url, str(end * 60), *PAST_SERVICES],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        known: dict[Key, float] = {}
        for _ in range(8):
            namespace, name, since = json.loads(process.stdout.readline())
            known[Key(namespace, name)] = since
        process.kill()
        process.communicate()
        assert known == {Key("team", name): (end - 4 * 1440) * 60 for name in PAST_SERVICES}
        services = [Wanted(key=Key("team", name), models=("m",), expected_ready=1) for name in PAST_SERVICES]
        before = server.answered("/api/v1/query_range")
        source, scope = Client(Options(address=server.url)), Scope(scrape_interval=60)
        now, pace = end * 60.0, Pace(share=1)
        rest = [p async for p in back_fill(source, scope, services, now=now, pace=pace, resume=known)]
        assert server.answered("/api/v1/query_range") - before == 10
        newest = [p async for p in back_fill(source, scope, services, now=now, pace=pace, days=4)]
        for name in PAST_SERVICES:  # fetch has an event loop of its own, so it needs a thread of its own
            await asyncio.to_thread(check_backtest, server.url, name, end)
    assert rest[-1].share == 1
    check_past([*newest, *rest], end)


def check_backtest(address: str, name: str, end: int) -> None:
    """`nereus backtest` reads the same past: in parts, each announced, and what is missing is a gap that is told."""
    said: list[str] = []
    query = f'sum(rate(nv_inference_count{{serving_nereus_dev_service="{name}"}}[2m]))'
    begin = (end - 14 * 1440) * 60.0
    trace = fetch(address, query, start=begin, end=end * 60.0, progress=said.append)
    assert said == [f"Prometheus: part {part} of 5" for part in range(1, 6)]
    assert trace.step == 60
    assert 14 * 86_400 - 300 <= trace.seconds <= 14 * 86_400 + 60
    minutes = np.arange(len(trace.rates)) + round(trace.start / 60)
    gaps = {end - int(minute) for minute in minutes[np.isnan(trace.rates)]}
    if name == "steady":
        assert len(gaps & set(HOLE)) > 170
        assert any(f"{len(gaps)} of {len(trace.rates)} bins have no value" in note for note in trace.notes)
    else:
        assert len(gaps) <= 2, gaps  # where the counter began anew there may be a minute without a rate
    assert gaps <= {*range(HOLE.start - 2, HOLE.stop + 2), *range(4998, 5003)}
    known = [row for row in np.flatnonzero(np.isfinite(trace.rates)) if end - minutes[row] not in range(4998, 5003)]
    errors = [abs(trace.rates[row] / past_rate(name, int(minutes[row]) - 1) - 1) for row in known]
    assert np.quantile(errors, 0.99) < 0.05


def check_past(pieces: list[PastLoad], end: int) -> None:
    for name in PAST_SERVICES:
        found: dict[int, float] = {}
        for piece in (piece for piece in pieces if piece.key.name == name):
            found |= dict(zip(piece.minutes.tolist(), piece.rates.tolist(), strict=True))
        assert sorted(found) == list(range(end - 14 * 1440, end))
        inside = [minute for minute in found if end - minute not in range(4990, 5001) and minute > end - 14 * 1440 + 5]
        unknown = {end - minute for minute in inside if np.isnan(found[minute])}
        if name == "steady":
            assert unknown
            assert unknown <= set(HOLE)
            assert len(unknown) > 170
        else:
            assert not unknown
        measured = [m for m in inside if end - m not in range(HOLE.start - 5, HOLE.stop + 5)]
        errors = [abs(found[m] / past_rate(name, m) - 1) for m in measured if m % 1440 > 5]
        assert np.quantile(errors, 0.99) < 0.05
