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
SETUP = Setup(cold_start=120, capacity=10, max_replicas=30, warm_up_hours=3)


def waves(hours: int, *, gap: bool = False) -> Trace:
    """Up and down between 2 and 10 replicas every four hours: as a day, but short, so that tests are."""
    minutes = np.arange(hours * 60)
    rates = 60 + 40 * np.sin(2 * np.pi * minutes / 240) + np.random.default_rng(1).normal(0, 2, len(minutes))
    if gap:
        rates[70:100] = np.nan
    return Trace(name="waves", start=0.0, step=60.0, rates=rates)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "load.csv"
    trace = waves(3)
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


def test_a_changing_load_is_carried_within_the_objective_and_below_an_hpa_at_70_percent() -> None:
    # Four hours are no season that a clock knows: this is what remains when nothing repeats by day.
    contest = run(waves(8), SETUP, policies=["nereus", "hpa"], sweep=False)
    ours, hpa = contest.usual
    assert ours.violations <= 0.01
    assert ours.replica_hours < 0.9 * hpa.replica_hours
    assert ours.replica_hours > contest.optimum_hours


def test_the_same_replay_twice_is_the_same_and_gaps_hold_the_load() -> None:
    first, second = (run(waves(3, gap=True), SETUP, policies=["nereus"], sweep=False).usual[0] for _ in range(2))
    assert (first.late_by_hour == second.late_by_hour).all()
    assert first.replica_hours == second.replica_hours
    assert first.requests_by_hour.min() > 0
