"""What is told of refusals: when they begin, once a minute, when they are over, and never once for each try."""

from __future__ import annotations

import logging

import aiohttp
import pytest

from nereus.controller import health, logs
from nereus.controller.kinds import MODEL_SERVICE, POD, WATCHED, Kind
from nereus.controller.metrics import Metrics
from nereus.controller.refusals import TELL_SECONDS, Call, Refusals, RefusedError, remedy

PODS, POD_WATCH = Call(POD, "list"), Call(POD, "watch")


class Record:
    """Refusals on a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.refusals = Refusals(clock=lambda: self.now)


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="nereus")
    return caplog


def test_an_hour_of_refusals_is_told_once_a_minute(record: Record, told: pytest.LogCaptureFixture) -> None:
    for second in range(3600):
        record.now = float(second)
        record.refusals.refused(PODS, 403, "pods is forbidden")
    assert len(told.messages) == 3600 / TELL_SECONDS
    record.refusals.answered(PODS)
    assert told.messages[-1] == "Pod is watched again, after 3599 s"


def test_refusals_that_come_and_go_are_told_no_more_often(record: Record, told: pytest.LogCaptureFixture) -> None:
    for second in range(120):
        record.now = float(second)
        (record.refusals.answered(PODS) if second % 2 else record.refusals.refused(PODS, 500, "no"))
    assert len(told.messages) <= 4, told.messages


def test_another_status_is_told_at_once(record: Record, told: pytest.LogCaptureFixture) -> None:
    record.refusals.refused(PODS, 403, "no")
    record.refusals.refused(PODS, 404, "no")
    first, second = told.messages
    assert "(403)" in first
    assert "(404)" in second


def test_it_is_over_when_nothing_of_the_kind_is_refused_any_more(
    record: Record, told: pytest.LogCaptureFixture
) -> None:
    record.refusals.refused(POD_WATCH, 404, "no")
    record.now = 5.0
    record.refusals.refused(PODS, 404, "no")
    record.refusals.answered(PODS)
    assert record.refusals.seconds() == {POD: 5.0}
    assert len(told.messages) == 1
    record.refusals.answered(POD_WATCH)
    assert record.refusals.seconds() == {}
    assert told.messages[-1] == "Pod is watched again, after 5 s"


def test_only_404_says_that_a_kind_is_missing(record: Record) -> None:
    record.refusals.refused(Call(MODEL_SERVICE, "list"), 403, "no")
    assert record.refusals.missing(MODEL_SERVICE) == ""
    record.refusals.refused(Call(MODEL_SERVICE, "list"), 404, "no")
    assert "install the chart's definition" in record.refusals.missing(MODEL_SERVICE)
    assert record.refusals.missing(POD) == ""


@pytest.mark.parametrize("kind", WATCHED, ids=str)
def test_every_status_has_its_remedy(kind: Kind) -> None:
    assert len({remedy(kind, status) for status in (404, 401, 403, 410, 503)}) == 5


async def test_health_says_what_is_refused_and_is_well_all_the_same() -> None:
    refusals = Refusals()
    refusals.refused(PODS, 403, "pods is forbidden")
    runner = await health.serve(
        Metrics(), host="127.0.0.1", port=0, alive=lambda: "", ready=lambda: "", notes=lambda: str(refusals)
    )
    try:
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            status, text = answer.status, await answer.text()
    finally:
        await runner.cleanup()
    assert (status, text.splitlines()[0]) == (200, "ok")
    assert "pods is forbidden (403)" in text.splitlines()[1]


def test_what_kopf_says_of_each_try_is_left_out_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure(level="info", form="text")
        kopf = logging.getLogger("kopf._cogs.clients.watching")
        kopf.error("Request attempt #1/21 failed; will retry: GET x -> %r", RefusedError("pods: no (403)"))
        kopf.error("Request attempt #1/21 failed; will retry: GET x -> %r", TimeoutError("slow"))
    finally:
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
    said = capsys.readouterr().err
    assert "slow" in said
    assert "403" not in said
