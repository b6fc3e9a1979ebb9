"""From a status to the log: an event about a decision, its line in the log and the status carry the same id."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from nereus.controller.events import EventPoster
from nereus.controller.logs import JsonLines, TextLines
from nereus.diagnosis import story

RESOURCE = {"metadata": {"namespace": "prod", "name": "resnet", "uid": "u"}}
BEFORE = {"scaling": {"floor": 1, "desired": 1}}
CHANGE = {"id": "69206a7f-0", "at": "2026-11-21T11:57:00Z", "message": "1 -> 3: load 2.4"}
AFTER = {"scaling": {"floor": 3, "desired": 3, "history": [CHANGE]}}


class Kept:
    """Takes events in the place of the API server."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def create(self, _kind: object, manifest: dict[str, Any]) -> None:
        self.events.append(manifest)


async def test_the_id_of_a_decision_leads_from_event_and_status_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    kept: Any = Kept()
    with caplog.at_level(logging.INFO):
        await EventPoster(kept).post(RESOURCE, story.events(BEFORE, AFTER))
    [event], [record] = kept.events, caplog.records
    assert event["message"] == "Scaled floor 1 -> 3: load 2.4 (decision 69206a7f-0)"
    line = json.loads(JsonLines().format(record))
    assert (line["service"], line["event"], line["decision"]) == ("prod/resnet", "Scaled", CHANGE["id"])
    assert "decision=69206a7f-0" in TextLines().format(record)


async def test_what_is_no_decision_has_no_id(caplog: pytest.LogCaptureFixture) -> None:
    kept: Any = Kept()
    with caplog.at_level(logging.INFO):
        await EventPoster(kept).post(RESOURCE, story.events({"scaling": {"desired": 1}}, {"scaling": {"desired": 2}}))
    assert "decision" not in json.loads(JsonLines().format(caplog.records[0]))
