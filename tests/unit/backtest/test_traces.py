"""Loads from files and from Prometheus: what is wrong is said, and what can be used is."""

from __future__ import annotations

import gzip
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from nereus.backtest import prometheus
from nereus.backtest.trace import TraceError, parse_csv, read_csv


def rows(count: int, value: str = "60") -> str:
    return "t,requests\n" + "".join(f"{60 * i},{value}\n" for i in range(count))


def test_counts_per_row_become_rates_per_second() -> None:
    trace = parse_csv(rows(10), name="load")
    assert trace.step == 60
    assert trace.rates == pytest.approx(np.ones(10))
    assert parse_csv(rows(10), name="load", unit="rate").rates == pytest.approx(np.full(10, 60.0))


def test_a_missing_row_is_a_gap_and_not_zero() -> None:
    lines = rows(10).splitlines(keepends=True)
    trace = parse_csv("".join(lines[:4] + lines[6:]), name="load")
    assert np.isnan(trace.rates[3:5]).all()
    assert "2 of 10 bins have no value" in trace.notes[0]
    assert trace.filled()[0] == pytest.approx(np.ones(10))


def test_negative_unreadable_and_infinite_values_are_gaps_that_are_reported() -> None:
    text = "t,n\n0,5\n60,-3\n120,oops\n180,inf\n240,5\n"
    trace = parse_csv(text, name="load")
    assert np.isnan(trace.rates[1:4]).all()
    assert any("1 negative" in note for note in trace.notes)
    assert any("1 rows were unreadable" in note for note in trace.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 lines"),
        ("a,b\n1,2\n3,4\n", "no time column in a, b"),
        ("t,a,b\n0,1,2\n60,1,2\n", "choose one with --column"),
        ("t,n\n0,1\n0,2\n0,3\n", "same time"),
        ("t,n\n0,x\n60,y\n120,z\n", "no usable value"),
        ("t,n\n0,1\n90000,2\n180000,3\n", "one row per 90000 s"),
        ("t,n\n0,1\n60000,2\n120000,3\n", r"times in s; .* in ms \(one row per 60 s\), give --time-unit ms"),
        ("t,n\n0,1\n6e7,2\n12e7,3\n", r"times in s; .* in us \(one row per 60 s\), give --time-unit us"),
        ("t,n\n0,1\n6e10,2\n12e10,3\n", r"in us \(one row per 60000 s|in ns \(one row per 60 s\)"),
        ("t,n\n1e12,1\n1.00006e12,2\n1.00012e12,3\n", r"times in ms; .* in us \(one row per 60 s\)"),
        ("t,n\nyesterday,1\ntoday,2\n", "0 readable rows.* the first is 'yesterday,1'"),
        ("t,n\n1e300,1\n-1e300,2\nnan,3\n", r"0 readable rows.* 3 rows have impossible times .* first is 1e\+300"),
        ("t,n\n0,1\n60,1\n120,1\n9e10,1\n", "1500000001 bins of 60 s"),
        ('t,n\n0,1\n60,"2\n' + "1" * 140_000, "line 4: field larger than field limit .* quote not closed"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        parse_csv(text, name="load")


@pytest.mark.parametrize(("unit", "per_second"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epoch_times_in_any_unit_and_iso_times_are_understood(unit: str, per_second: int) -> None:
    small = "timestamp,n\n" + "".join(f"{(1_700_000_000 + 60 * i) * per_second},6\n" for i in range(5))
    iso = "timestamp,n\n" + "".join(f"2023-11-14T22:{13 + i}:20Z,6\n" for i in range(5))
    for trace in (parse_csv(small, name="a"), parse_csv(iso, name="b"), parse_csv(small, name="c", time_unit=unit)):
        assert (trace.start, trace.step) == (1_700_000_000, 60)
        assert trace.rates == pytest.approx(np.full(5, 0.1))


def test_the_unit_of_times_that_count_from_zero_can_be_given() -> None:
    trace = parse_csv("t,n\n0,6\n60000,6\n120000,6\n", name="a", time_unit="ms")
    assert (trace.step, list(trace.rates)) == (60, [0.1, 0.1, 0.1])


def test_impossible_times_and_values_are_left_out_and_reported() -> None:
    trace = parse_csv("t,n\n0,6\n1e300,6\n60,1e300\n120,6\n-inf,6\n", name="a")
    assert trace.rates == pytest.approx([0.1, np.nan, 0.1], nan_ok=True)
    assert any("2 rows have impossible times and were left out, the first is 1e+300" in note for note in trace.notes)
    assert any("1 values above 1e+08 per second were taken as gaps" in note for note in trace.notes)


def test_times_before_1970_keep_their_hour_and_weekday() -> None:
    trace = parse_csv("t,n\n-7200,6\n-7140,6\n-7080,6\n", name="a")
    assert trace.start == 7 * 86_400 - 7200
    assert any("moved by whole weeks" in note for note in trace.notes)


def test_line_ends_of_every_system_are_read() -> None:
    for end in ("\r\n", "\r"):
        assert parse_csv(rows(10).replace("\n", end), name="load").rates == pytest.approx(np.ones(10))


def test_a_counter_is_recognised() -> None:
    text = "t,n\n" + "".join(f"{60 * i},{100 * i}\n" for i in range(300))
    assert any("counter" in note for note in parse_csv(text, name="load").notes)


def test_a_gzipped_file_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "load.csv.gz"
    path.write_bytes(gzip.compress(rows(5).encode()))
    assert read_csv(path).name == "load"
    with pytest.raises(TraceError, match="No such file"):
        read_csv(tmp_path / "none.csv")


class FakePrometheus:
    """A server on loopback that answers range queries from a function of time; `failures` makes first tries fail, and
    what begins within `slow` is answered when the test is over."""

    def __init__(self) -> None:
        self.earliest = 0.0
        self.failures = 0
        self.series = 1
        self.slow: tuple[float, float] = (0.0, 0.0)
        self.over = threading.Event()
        self.besides: dict[str, list[str]] = {}
        self.queries: list[dict[str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
                owner.queries.append(asked)
                if owner.failures > 0:
                    owner.failures -= 1
                    self.send_error(503)
                    return
                if owner.slow[0] <= float(asked["start"]) < owner.slow[1]:
                    owner.over.wait(60)
                    return
                times = np.arange(float(asked["start"]), float(asked["end"]) + 1, float(asked["step"]))
                values = [[t, str(10 + math.sin(t / 3600))] for t in times if t >= owner.earliest]
                result = [{"metric": {}, "values": values}] * owner.series if values else []
                envelope = {"status": "success", "data": {"resultType": "matrix", "result": result}}
                answer = json.dumps(envelope | owner.besides).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    fake = FakePrometheus()
    yield fake
    fake.over.set()
    fake.server.shutdown()
    fake.server.server_close()


WEEK = 7 * 86_400.0
END = 1_700_000_040.0


def test_a_week_is_read_in_parts_that_prometheus_answers(server: FakePrometheus) -> None:
    said: list[str] = []
    trace = prometheus.fetch(server.url, "sum(rate(x[1m]))", start=END - WEEK, end=END, progress=said.append)
    assert len(server.queries) == len(said) == 3
    assert len(trace.rates) == 7 * 1440 + 1
    assert np.isfinite(trace.rates).all()


def test_a_server_that_recovers_loses_nothing(server: FakePrometheus) -> None:
    server.failures = 2
    trace = prometheus.fetch(server.url, "x", start=END - WEEK, end=END)
    assert np.isfinite(trace.rates).all()


def test_a_part_that_stays_unreadable_becomes_a_gap(server: FakePrometheus) -> None:
    server.failures = 3
    trace = prometheus.fetch(server.url, "x", start=END - WEEK, end=END)
    assert any("1 of 3 parts could not be read" in note for note in trace.notes)


def test_a_part_that_is_never_answered_in_time_is_a_gap_named_slow_and_the_rest_is_computed(
    server: FakePrometheus,
) -> None:
    part = prometheus.POINTS_PER_CHUNK * 60
    server.slow = (END - WEEK + part, END - WEEK + part + 1)
    said: list[str] = []
    trace = prometheus.fetch(server.url, "x", start=END - WEEK, end=END, timeout=0.2, progress=said.append)
    assert len(said) == 3
    gap = np.isnan(trace.rates)
    assert (int(gap.sum()), len(trace.rates)) == (prometheus.POINTS_PER_CHUNK, 7 * 1440 + 1)
    assert gap[prometheus.POINTS_PER_CHUNK : 2 * prometheus.POINTS_PER_CHUNK].all()
    slow = next(note for note in trace.notes if "1 of 3 parts could not be read and are gaps" in note)
    assert f"{server.url} is slow: 3 times no whole answer within 0.2 s" in slow
    assert "a larger --step" in slow
    assert np.isfinite(trace.per_second()).all()
    assert trace.peak() == pytest.approx(11, rel=0.01)


def test_a_server_that_is_slow_for_all_is_named_with_what_helps(server: FakePrometheus) -> None:
    server.slow = (0, END)
    with pytest.raises(
        TraceError, match=r"127.0.0.1:\d+ is slow: 3 times no whole answer within 0.05 s; look at its load, or ask for"
    ):
        prometheus.fetch(server.url, "x", start=END - 86_400, end=END, timeout=0.05)


def test_answers_that_a_server_calls_incomplete_are_told(server: FakePrometheus) -> None:
    server.besides = {"warnings": ["store 3 did not answer"]}
    trace = prometheus.fetch(server.url, "x", start=END - WEEK, end=END)
    assert "3 of 3 parts may be incomplete: store 3 did not answer" in trace.notes


def test_short_history_is_used_or_refused_with_words(server: FakePrometheus) -> None:
    server.earliest = END - 5 * 3600
    trace = prometheus.fetch(server.url, "x", start=END - WEEK, end=END)
    assert any("only 5.0 h of history" in note for note in trace.notes)
    server.earliest = END - 3600
    with pytest.raises(TraceError, match="60 minutes of history; two hours are needed"):
        prometheus.fetch(server.url, "x", start=END - WEEK, end=END)


def test_several_series_and_no_server_are_named(server: FakePrometheus) -> None:
    server.series = 3
    with pytest.raises(TraceError, match=r"gives 3 series; wrap it in sum\(...\)"):
        prometheus.fetch(server.url, "x", start=END - 86_400, end=END)
    with pytest.raises(TraceError, match=r"127.0.0.1:1"):
        prometheus.fetch("http://127.0.0.1:1", "x", start=END - 86_400, end=END, timeout=2)
    with pytest.raises(TraceError, match="not an http"):
        prometheus.fetch("file:///etc/passwd", "x", start=END - 86_400, end=END)
