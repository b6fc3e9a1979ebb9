"""The dashboards as files: the rules of grafana/dashboard-linter, known metrics only, every query parsed by Prometheus.

That every panel shows data is shown under load by `make bench BENCH=panels`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from nereus.alerting import conventions
from nereus.controller.metrics import PREFIX
from nereus.controller.servicemetrics import HELP
from tests.harness.dashboards import Panel, dashboards, filled, panels
from tests.unit.alerting.test_promtool import needs_promtool, promtool

KNOWN = {value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)}
BOARDS = dashboards()
PANELS = [panel for board in BOARDS.values() for panel in panels(board)]


def test_there_are_three_with_titles_and_addresses_of_their_own() -> None:
    assert {board["title"] for board in BOARDS.values()} == {"Nereus / Fleet", "Nereus / Service", "Nereus / Operator"}
    assert len({board["uid"] for board in BOARDS.values()}) == 3
    assert all(board.get("editable") is False and board["tags"] for board in BOARDS.values())


@pytest.mark.parametrize("name", BOARDS)
def test_the_data_source_is_a_variable_and_every_link_leads_to_a_sibling(name: str) -> None:
    board = BOARDS[name]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert all(variable.get("label") for variable in variables.values())
    siblings = {f"/d/{other['uid']}" for other in BOARDS.values()} - {f"/d/{board['uid']}"}
    assert {link["url"] for link in board["links"]} == siblings
    text = json.dumps(board)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text)) - {"__rate_interval", "__data"}
    assert used <= variables.keys() | {"__rate_interval"}, "a variable that does not exist"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.board}-{panel.title}")
def test_a_panel_has_a_title_a_description_a_unit_and_queries(panel: Panel) -> None:
    assert panel.title
    assert len(panel.description) > 8
    assert panel.unit, "no unit: a number without one says nothing"
    assert panel.queries
    assert panel.source == "${datasource}"
    for query in panel.queries:
        for window in re.findall(r"(?:rate|increase)\([^\[]*\[([^\]]+)\]", query):
            assert window == "$__rate_interval", f"a fixed window breaks when somebody zooms: {query}"
        assert "irate(" not in query


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.board}-{panel.title}")
def test_a_panel_asks_only_for_metrics_that_exist(panel: Panel) -> None:
    for query in panel.queries:
        for metric in re.findall(r"\b((?:nv|nereus)_\w+)", query.replace("serving_nereus_dev_service", "")):
            known = metric in KNOWN or metric in HELP or metric.startswith(f"{PREFIX}_")
            assert known, f"{metric} in {query}"


def test_what_only_some_services_have_is_in_closed_rows_and_nothing_else_is() -> None:
    closed = {panel.title for panel in PANELS if panel.optional}
    assert closed == {
        *("Load and forecast", "What asks for pods", "Forecast error"),
        *("GPU memory by pod", "GPU time by pod", "Cache hits"),
    }
    parts = (conventions.FORECAST, conventions.REACTIVE, conventions.FLOOR, "nereus_gpu_", "nv_cache_")
    for panel in PANELS:
        asked = any(part in query for query in panel.queries for part in parts)
        assert panel.optional or not asked, panel.title


def test_no_two_panels_of_a_board_have_the_same_title() -> None:
    for name in BOARDS:
        titles = [panel.title for panel in PANELS if panel.board == BOARDS[name]["uid"]]
        assert len(titles) == len(set(titles))


def test_a_heat_map_has_a_fixed_scale_and_a_fleet_draws_a_bounded_number_of_curves() -> None:
    fleet = BOARDS["nereus-fleet"]
    [heat] = [panel for panel in fleet["panels"] if panel["type"] == "status-history"]
    assert heat["fieldConfig"]["defaults"]["max"] == 1, "otherwise the busiest of idle services is red"
    for panel in fleet["panels"]:
        if panel["type"] in ("timeseries", "status-history"):
            assert "topk(" in panel["targets"][0]["expr"], panel["title"]
            assert "@ end()" in panel["targets"][0]["expr"], "topk by itself chooses anew at each moment"


@needs_promtool
def test_prometheus_parses_every_query_of_every_panel(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": filled(query, namespace="a", service="b")}
        for number, query in enumerate(query for panel in PANELS for query in panel.queries)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", str(path))
