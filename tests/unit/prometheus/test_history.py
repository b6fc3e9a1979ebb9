"""The past in pieces, from a source that answers, tires, fails or is cut off as a test says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from nereus.prometheus import history
from nereus.prometheus.client import Answer, QueryError, parse
from nereus.prometheus.history import Pace, back_fill
from nereus.prometheus.queries import Scope
from nereus.prometheus.reading import Freshness, Key, PastLoad, Wanted

NOW = 1_700_000_040.0
SERVICES = [Wanted(key=Key("team", f"s{n}"), expected_ready=1) for n in range(20)]
FULL = Pace(share=1)


@dataclass
class Past:
    """Every service has a rate of ten; `too_many` services in a query are refused, `broken` starts always fail."""

    too_many: int = 1000
    failures: int = 0
    broken: set[float] = field(default_factory=set)
    asked: list[tuple[int, float, float]] = field(default_factory=list)

    async def instant(self, query: str, *, within: float) -> Answer:
        raise AssertionError(f"{query} within {within}")

    async def span(self, query: str, *, start: float, end: float, step: float, within: float) -> Answer:
        found = re.search('serving_nereus_dev_service=~"([^"]*)"', query)
        assert found is not None
        names = found[1].split("|")
        self.asked.append((len(names), start, end))
        assert within == FULL.query_seconds
        assert (end - start) / step + 1 <= 11_000
        if self.failures or start - step in self.broken:
            self.failures = max(0, self.failures - 1)
            raise QueryError(Freshness.UNREACHABLE, "the server restarts")
        if len(names) > self.too_many:
            raise QueryError(Freshness.SLOW, "query processing would load too many samples", too_much=True)
        times = np.arange(start, end + 1, step)
        return Answer(
            rows=[
                {
                    "metric": {"namespace": "team", "serving_nereus_dev_service": name, "model": "m"},
                    "values": [[t, "10"] for t in times],
                }
                for name in names
            ]
        )

    def close(self) -> None:
        """Nothing is open."""


async def fill(past: Past, **given: object) -> list[PastLoad]:
    return [p async for p in back_fill(past, Scope(), SERVICES, **{"now": NOW, "days": 3, "pace": FULL, **given})]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "WAIT_AFTER_FAULT", 0.0)


async def test_the_newest_day_of_every_service_comes_first_and_nothing_is_left_out() -> None:
    past = Past()
    pieces = await fill(past)
    assert [piece.key for piece in pieces] == [w.key for w in SERVICES] * 3
    assert {piece.since for piece in pieces[:20]} == {NOW - NOW % 60 - 86_400}
    assert all(len(piece.minutes) == 1440 for piece in pieces)
    assert all((piece.rates == 10).all() for piece in pieces)
    assert pieces[0].minutes[-1] == NOW // 60 - 1
    assert pieces[-1].share == 1
    assert max(size for size, _, _ in past.asked) > history.FIRST_BATCH


async def test_a_batch_that_is_too_large_is_halved_until_it_is_answered() -> None:
    past = Past(too_many=3)
    pieces = await fill(past)
    assert len(pieces) == 60
    assert len(past.asked) < 60


async def test_what_is_known_is_not_asked_again() -> None:
    end = NOW - NOW % 60
    past = Past()
    resume = {w.key: end - 86_400 for w in SERVICES[:10]} | {w.key: end - 3 * 86_400 for w in SERVICES[10:]}
    pieces = await fill(past, resume=resume)
    assert [piece.key for piece in pieces] == [w.key for w in SERVICES[:10]] * 2
    assert pieces[-1].share == 1


async def test_a_restart_of_prometheus_is_waited_out() -> None:
    assert len(await fill(Past(failures=2))) == 60


async def test_a_piece_that_stays_broken_is_a_gap_and_the_rest_goes_on() -> None:
    end = NOW - NOW % 60
    pieces = await fill(Past(broken={end - 2 * 86_400}))
    assert {piece.since for piece in pieces} == {end - 86_400, end - 3 * 86_400}


async def test_it_ends_when_its_time_is_over() -> None:
    assert await fill(Past(), pace=Pace(share=1, total_seconds=0)) == []


async def test_only_wanted_models_count_and_no_number_stays_unknown() -> None:
    class Odd(Past):
        async def span(self, query: str, *, start: float, end: float, step: float, within: float) -> Answer:
            await super().span(query, start=start, end=end, step=step, within=within)
            labels = {"namespace": "team", "serving_nereus_dev_service": "s0"}
            values = [
                [start, "10"],
                [start + 60, "NaN"],
                [start + 120, "-1"],
                [start + 180, "+Inf"],
                [start + 240, "2"],
            ]
            return Answer(
                rows=[
                    {"metric": {**labels, "model": "m"}, "values": values},
                    {"metric": {**labels, "model": "ensemble"}, "values": values},
                    {"metric": {"namespace": "team"}, "values": values},
                ]
            )

    only = [Wanted(key=Key("team", "s0"), models=("m",), expected_ready=1)]
    [piece] = [p async for p in back_fill(Odd(), Scope(), only, now=NOW, days=1, pace=FULL)]
    assert piece.rates[0] == 10
    assert np.isnan(piece.rates[1:4]).all()
    assert piece.rates[4] == 2
    assert np.isnan(piece.rates[5:]).all()


@pytest.mark.parametrize(
    "text",
    [
        '{"status":"success","data":{"resultType":"vector","result":[]}}',
        '{"status":"success","data":{"resultType":"vector",'
        '"result": [ {"metric":{"a":"]"},"value":[1,"2"]} , {"x":1} ] },"warnings":["w"]}',
        '{"status":"error","errorType":"bad_data","error":"no"}',
        "[1, 2]",
    ],
)
def test_answers_are_parsed_row_by_row_to_the_same_as_at_once(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["", "<html>", '{"data":{"result":[', '{"data":{"result":[{]}}', '{"result":[]}', "\xff", '{"result":[1}']
)
def test_answers_that_are_none_are_no_exception(text: str) -> None:
    assert parse(text.encode("latin-1")) is None
