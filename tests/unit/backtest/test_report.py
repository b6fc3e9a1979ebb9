"""What the report says is what was found: GPU-hours, money, worst hours, the best of the others, and the band."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from nereus.backtest import report
from nereus.backtest.contest import Contest, Result, Setup
from nereus.backtest.ours import Forecasts
from nereus.backtest.trace import Trace

DAYS, WARM_UP = 3, 24
HOURS = DAYS * 24
LATE = np.zeros(HOURS)
LATE[[5, 30, 31, 40, 50, 51, 60]] = (9000, 20, 700, 3, 90, 400, 50)
"""Late requests by hour; the first are in the warm-up, and the fewest in no list of five."""


def result(name: str, setting: float, *, violations: float, replica_hours: float) -> Result:
    return Result(
        name=name,
        title={"nereus": "Nereus", "hpa": "HPA", "keda": "KEDA"}[name],
        setting=setting,
        violations=violations,
        worst_hour=0.07,
        replica_hours=replica_hours,
        starts_per_day=12,
        late_by_hour=LATE,
        requests_by_hour=np.full(HOURS, 10_000.0),
        replicas_by_hour=np.full(HOURS, 4.0),
        wanted_by_minute=np.full(DAYS * 1440, 4.0),
        ready_by_minute=np.full(DAYS * 1440, 4.0),
    )


OURS = result("nereus", 0.01, violations=0.004, replica_hours=200)
HPA = result("hpa", 0.7, violations=0.002, replica_hours=250)
LEAN = result("hpa", 0.8, violations=0.008, replica_hours=220)
CHEAP = result("keda", 0.95, violations=0.02, replica_hours=150)


@pytest.fixture
def contest() -> Contest:
    minutes = np.arange(DAYS * 1440)
    load = 2 + np.sin(minutes / 200)
    return Contest(
        trace=Trace(name="shop <eu>", start=1_700_006_400.0, step=60.0, rates=10 * load, notes=("7 rows were odd",)),
        setup=Setup(cold_start=120, capacity=10, max_replicas=8),
        warm_up_hours=WARM_UP,
        optimum_hours=160,
        usual=(OURS, HPA, CHEAP),
        swept=(HPA, LEAN, CHEAP),
        curve=(OURS,),
        load_by_minute=load,
        forecasts=Forecasts(median=load, bound=1.5 * load, price=np.full(len(load), 9.0)),
    )


def test_gpu_hours_and_money_follow_from_the_gpus_of_a_replica(contest: Contest) -> None:
    found = report.as_json(contest, gpus=4, price=2.5)
    for row in [*found["policies"], *found["sweep"], *found["ourCurve"], found["bestTunedBaseline"]]:
        assert row["gpuHours"] == 4 * row["replicaHours"]
        assert row["money"] == 2.5 * row["gpuHours"]
    assert [row["gpuHours"] for row in found["policies"]] == [800, 1000, 600]
    assert [row["keepsObjective"] for row in found["policies"]] == [True, True, False]
    page = report.as_html(contest, gpus=4, price=2.5)
    assert "<th>GPU-hours" in page
    assert "<b>800</b><span>GPU-hours in 2.0 days" in page
    assert "<td>HPA<td>0.7<td class=good>0.20%<td>7.0%<td>1000<td>1.56<td>12<td>2,500" in page
    assert "<b>30,000</b><span>money in 30 days at this pace" in page
    assert "money" not in report.as_html(contest, gpus=4, price=None)


def test_the_best_of_the_others_is_the_cheapest_that_kept_the_objective(contest: Contest) -> None:
    best = report.as_json(contest, gpus=1, price=None)["bestTunedBaseline"]
    assert (best["policy"], best["setting"], best["replicaHours"]) == ("hpa", 0.8, 220)
    page = report.as_html(contest, gpus=1, price=None)
    assert "HPA (best in hindsight)<td>0.8" in page
    assert "kept the objective over 2.0 days, with 9% less GPU time than HPA at 0.8" in page
    alone = replace(contest, swept=(CHEAP,))
    assert report.as_json(alone, gpus=1, price=None)["bestTunedBaseline"] is None
    assert "no other scaler would have kept it, at any setting" in report.as_html(alone, gpus=1, price=None)


def test_the_worst_hours_are_sorted_named_and_on_the_page(contest: Contest) -> None:
    worst = report.as_json(contest, gpus=1, price=None)["worstHours"]
    assert [(hour["hour"], hour["late"], hour["share"]) for hour in worst] == [
        (31, 700, 0.07),
        (51, 400, 0.04),
        (50, 90, 0.009),
        (60, 50, 0.005),
        (30, 20, 0.002),
    ]
    assert worst[0]["time"] == "Thu 2023-11-16 07:00 UTC"
    table = report.as_html(contest, gpus=1, price=None).split("<h2>Worst hours</h2>")[1]
    assert re.findall(r"<tr><td>(.*?)<td>(\d+)<td>(.*?)(?=<)", table) == [
        (hour["time"], f"{hour['late']:.0f}", f"{hour['share']:.1%}") for hour in worst
    ]
    none = replace(contest, usual=(replace(OURS, late_by_hour=np.zeros(HOURS)),))
    assert "No request was late." in report.as_html(none, gpus=1, price=None)


def test_the_band_of_the_forecast_is_drawn_over_the_worst_and_the_last_day(contest: Contest) -> None:
    page = report.as_html(contest, gpus=1, price=None)
    assert "The worst day (day 2): load, what was expected, what was there" in page
    assert "The last day (day 3)" in page
    for chart in page.split("<svg")[3:]:
        assert "expected until the horizon: median to 95 %" in chart
        assert chart.count("<polygon") == 1, "the band"
        assert chart.count("<polyline") == 2, "load and ready replicas"
    assert len(page.split("<svg")) == 5
    assert "expected until the horizon" not in report.as_html(replace(contest, forecasts=None), gpus=1, price=None)


def test_notes_and_names_are_shown_as_text(contest: Contest) -> None:
    page = report.as_html(contest, gpus=1, price=None)
    assert "<li>7 rows were odd</li>" in page
    assert "Backtest: shop &lt;eu&gt;" in page
    assert "<eu>" not in page
