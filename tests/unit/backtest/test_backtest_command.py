"""`nereus backtest` from file to report, and the policy of Nereus in the simulated world."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nereus.backtest.cli import main, seconds, share
from nereus.backtest.contest import Setup, run
from nereus.backtest.trace import Trace

DAY = 86_400


def daily(days: int, *, gap: bool = False) -> Trace:
    minutes = np.arange(days * 1440)
    rates = 60 + 40 * np.sin(2 * np.pi * minutes / 1440) + np.random.default_rng(1).normal(0, 2, len(minutes))
    if gap:
        rates[1000:1100] = np.nan
    return Trace(name="daily", start=0.0, step=60.0, rates=rates)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "load.csv"
    trace = daily(1)
    path.write_text("t,requests\n" + "".join(f"{60 * i},{60 * r:.1f}\n" for i, r in enumerate(trace.rates)))
    return path


def test_a_file_becomes_a_report_for_people_and_one_for_machines(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, machine = tmp_path / "out" / "report.html", tmp_path / "report.json"
    asked = ["--trace", str(csv), "--cold-start", "2m", "--html", str(html), "--json", str(machine)]
    only = ["--policy", "nereus", "--policy", "hpa", "--policy", "static", "--gpu-hour-price", "2"]
    assert main([*asked, *only]) == 0
    found = json.loads(machine.read_text())
    assert {policy["policy"] for policy in found["policies"]} == {"nereus", "hpa", "static"}
    ours = found["policies"][0]
    assert ours["money"] == pytest.approx(2 * ours["replicaHours"])
    assert ours["relativeToOptimum"] > 1
    page = html.read_text()
    assert page.count("<svg") == 3
    assert "http://www.w3.org/2000/svg" in page
    assert page.count("http") == page.count("http://www.w3.org/2000/svg"), "the page loads nothing from elsewhere"
    for part in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")  # noqa: S314  our own output
    assert "Nereus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --trace FILE or --prometheus URL"),
        (["--trace", "/nonexistent.csv"], "cannot be read"),
        (["--prometheus", "http://127.0.0.1:9"], "needs --query"),
        (["--trace", "{csv}", "--capacity", "0"], "must be above 0"),
        (["--trace", "{csv}", "--capacity", "0.001"], "is --unit or --capacity right"),
        (["--trace", "{csv}", "--min", "5", "--max", "2"], "need 1 <= min <= max"),
        (["--trace", "{csv}", "--column", "x"], "no column 'x'; there are requests"),
    ],
)
def test_bad_input_is_named_with_its_remedy(
    arguments: list[str], says: str, csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*(a.replace("{csv}", str(csv)) for a in arguments), "--cold-start", "60"]) == 2
    assert says in capsys.readouterr().err


def test_durations_and_shares_as_people_write_them() -> None:
    assert [seconds(text) for text in ("120", "90s", "2m", "500ms", "7d")] == [120, 90, 120, 0.5, 7 * DAY]
    assert [share(text) for text in ("1%", "0.01")] == [0.01, 0.01]


def test_a_daily_load_is_carried_within_the_objective_and_below_an_hpa_at_70_percent() -> None:
    setup = Setup(cold_start=120, capacity=10, max_replicas=30)
    contest = run(daily(3), setup, policies=["nereus", "hpa"], sweep=False)
    ours, hpa = contest.usual
    assert ours.violations <= 0.01
    assert ours.replica_hours < 0.85 * hpa.replica_hours
    assert ours.replica_hours > contest.optimum_hours


def test_the_same_replay_twice_is_the_same() -> None:
    setup = Setup(cold_start=60, capacity=10, max_replicas=30)
    first, second = (run(daily(1), setup, policies=["nereus"], sweep=False).usual[0] for _ in range(2))
    assert (first.late_by_hour == second.late_by_hour).all()
    assert first.replica_hours == second.replica_hours


def test_a_load_with_gaps_is_replayed_with_the_load_held() -> None:
    contest = run(
        daily(1, gap=True), Setup(cold_start=60, capacity=10, max_replicas=30), policies=["nereus"], sweep=False
    )
    assert contest.usual[0].requests_by_hour.min() > 0
