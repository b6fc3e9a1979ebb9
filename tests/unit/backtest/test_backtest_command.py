"""`nereus backtest` from file to report, and the policy of Nereus in the simulated world."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nereus.backtest.arguments import parser, positive, share, whole, within
from nereus.backtest.cli import main
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
        (["--trace", "{csv}", "--capacity", "0.001"], "is --unit or --capacity right"),
        (["--trace", "{csv}", "--min", "5", "--max", "2"], "need 1 <= min <= max"),
        (["--trace", "{csv}", "--column", "x"], "no column 'x'; there are requests"),
        (["--trace", "{csv}", "--warm-up", "3h"], "--warm-up 3h: there are 3 h of load; leave at least one"),
        (["--trace", "{csv}", "--capacity", "5", "--peak-replicas", "5"], "not allowed with argument --capacity"),
        (["--trace", "{csv}", "--policy", "magic"], "argument --policy: invalid choice: 'magic'"),
        (["--trace", "{csv}", "--fast"], "unrecognized arguments: --fast (--help lists the arguments)"),
        (["--trace", "{damaged}"], "damaged.csv.gz: damaged as a gzip file (Error -3"),
        (["--trace", "{cut}"], "cut.csv.gz: damaged as a gzip file (Compressed file ended before"),
        (["--trace", "{wide}"], "wide: line 2: field larger than field limit (131072); is a quote not closed?"),
        (["--trace", "{far}"], "far: 1 readable rows, at least two are needed, with times in seconds"),
        (
            ["--trace", "{year}"],
            "year: 4300 days from the first row to the last; at most 400 are replayed: give --days",
        ),
        (["--trace", "{spike}", "--peak-replicas", "5000"], "the highest row is"),
    ],
)
def test_bad_input_is_named_with_its_remedy(
    arguments: list[str], says: str, csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = csv.parent
    packed = bytearray(gzip.compress(csv.read_bytes()))
    (folder / "cut.csv.gz").write_bytes(packed[:200])
    packed[10] = 0xFF  # the first byte after the header: no kind of block
    (folder / "damaged.csv.gz").write_bytes(packed)
    (folder / "wide.csv").write_text('t,n\n0,"' + "1" * 140_000 + "\n60,2\n")
    (folder / "far.csv").write_text("t,n\n-1e300,1\n0,2\n1e300,3\n")
    (folder / "year.csv").write_text(csv.read_text() + f"{4300 * DAY - 60},4\n")
    # Above the 99.9th percentile and so not the peak, but 100,000 times as high.
    (folder / "spike.csv").write_text("t,n\n" + "".join(f"{60 * i},{6e6 if i == 9 else 60}\n" for i in range(2000)))
    places = {f"{{{p.name.split('.')[0]}}}": str(p) for p in folder.glob("*.csv*")} | {"{csv}": str(csv)}
    assert main([*(places.get(a, a) for a in arguments), "--cold-start", "60"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1, "one line"


NOT_NUMBERS = ("nan", "inf", "-inf", "-3", "1e300", "many", "", "9" * 5000)


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        *((name, (*NOT_NUMBERS, "0")) for name in ("--days", "--capacity", "--peak-replicas", "--gpu-hour-price")),
        *((name, (*NOT_NUMBERS, "0", "1.5")) for name in ("--gpus-per-replica", "--min", "--max")),
        ("--seed", (*NOT_NUMBERS, "1.5")),
        *((name, (*NOT_NUMBERS, "0")) for name in ("--cold-start", "--step", "--history", "--latency", "--objective")),
        ("--cold-start", ("31m", "999ms")),
        ("--latency", ("31s",)),
        ("--history", ("1h",)),
        ("--step", ("500ms", "2h")),
        ("--objective", ("51%", "0.001%")),
        ("--warm-up", NOT_NUMBERS),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_argument_and_value(
    argument: str, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in wrong:
        assert main(["--trace", "none.csv", "--cold-start", "60", f"{argument}={value}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"nereus backtest: argument {argument}: '{value[:40]}"), said
        assert any(remedy in said for remedy in ("write ", "give ")), said
        assert (said.count("\n"), len(said) < 200) == (1, True), said


def test_every_number_of_the_command_is_among_those_that_are_checked() -> None:
    options = {option: action.type for action in parser(())._actions for option in action.option_strings}
    unchecked = {option for option, kind in options.items() if kind in (int, float)}
    assert not unchecked
    assert {option for option, kind in options.items() if kind not in (None, Path)} == {
        *("--days", "--capacity", "--peak-replicas", "--gpu-hour-price", "--gpus-per-replica", "--min", "--max"),
        *("--seed", "--cold-start", "--step", "--history", "--latency", "--objective", "--warm-up"),
    }, "a new number: add what it must not be to the test above"


def test_numbers_as_people_write_them() -> None:
    seconds = within(0, 10 * DAY)
    assert [seconds(text) for text in ("120", "90s", "2m", "500ms", "7d", "0")] == [120, 90, 120, 0.5, 7 * DAY, 0]
    assert [share(text) for text in ("1%", "0.01")] == [0.01, 0.01]
    assert [positive(text) for text in ("12.5", "1e3")] == [12.5, 1000]
    assert [whole(0, 9)(text) for text in ("0", "9")] == [0, 9]


def test_a_longer_latency_allows_longer_waits_to_everybody() -> None:
    short, long = (
        run(waves(3), replace(SETUP, latency=latency, warm_up_hours=1), policies=["static"], sweep=False)
        for latency in (0.5, 20.0)
    )
    assert long.optimum_hours < short.optimum_hours
    late = [[result.violations for result in contest.swept] for contest in (short, long)]
    assert all(a > b for a, b in zip(*late, strict=True) if 0.05 < a < 0.95)
    assert any(0.05 < a < 0.95 for a in late[0])


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
