"""The rules as text: thresholds, names, labels, pages; what promtool cannot know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nereus.alerting import catalogue, operator, rules
from nereus.alerting.scope import promql_duration
from nereus.alerting.thresholds import thresholds
from nereus.api.names import RUNBOOKS
from nereus.api.problems import InvalidSpecError
from nereus.api.service import DEFAULT_LATENCY_OBJECTIVE, read
from nereus.api.spec.alerts import AlertName
from tests.unit.alerting.cases import CASES
from tests.unit.alerting.test_promtool import resource, service

ROOT = Path(__file__).resolve().parents[3]
EVERY = (*catalogue.NAMES, *(alert.name for alert in operator.ALERTS))


def test_every_alert_has_a_name_that_a_user_can_disable() -> None:
    assert set(catalogue.NAMES) == {name.value for name in AlertName}


def test_every_alert_has_cases_for_its_fault_and_every_conditional_one_for_health() -> None:
    for name in EVERY:
        outcomes = {case.fires for case in CASES if case.alert == name}
        assert outcomes == ({True} if name == "NereusWatchdog" else {True, False}), name


@pytest.mark.parametrize("name", EVERY)
def test_every_alert_has_its_page(name: str) -> None:
    page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    for heading in ("## What it means", "## What to do"):
        part = page.partition(heading)[2].partition("\n## ")[0]
        assert len(part.split()) > 25, f"{name}: {heading} says too little"


def test_every_rule_leads_to_its_page_and_says_something_to_a_person() -> None:
    groups = (rules.service_group(service()), rules.fleet_group(), rules.operator_group())
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        notes = rule["annotations"]
        assert notes["runbook_url"] == f"{RUNBOOKS}/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("critical", "warning", "none")
        assert len(notes["summary"]) > 15
        assert len(notes["description"]) > 40
        assert "{service}" not in str(notes)
        assert "{limit}" not in str(notes)


def test_a_threshold_stands_in_the_expression_and_in_the_words() -> None:
    [rule] = [rule for rule in rules.service_group(service(latency="1s"))["rules"] if "Latency" in rule["alert"]]
    assert rule["expr"].endswith("> 1000")
    assert "1000 ms" in rule["annotations"]["description"]


def test_the_error_alerts_look_at_a_long_and_a_short_window_with_the_burn_rates_of_the_workbook() -> None:
    found = {rule["alert"]: rule["expr"] for rule in rules.service_group(service(errors={"above": "0.1%"}))["rules"]}
    assert set(re.findall(r"\[(\w+)\]", found["NereusErrorsFast"])) == {"5m", "1h"}
    assert re.findall(r"> ([0-9.]+)", found["NereusErrorsFast"]) == ["0.0144", "0.0144"]
    assert set(re.findall(r"\[(\w+)\]", found["NereusErrorsSlow"])) == {"30m", "6h"}
    assert re.findall(r"> ([0-9.]+)", found["NereusErrorsSlow"]) == ["0.006", "0.006"]


def test_a_disabled_alert_is_not_there_and_without_alerts_there_is_no_object() -> None:
    some = rules.service_group(service(disable=["NereusLatencyHigh"]))
    assert [rule["alert"] for rule in some["rules"]] == list(catalogue.NAMES[1:])
    assert rules.prometheus_rule(service(disable=list(catalogue.NAMES)), labels={}) is None


def test_a_service_that_does_not_scale_has_no_alerts_about_scaling() -> None:
    fixed = resource()
    del fixed["spec"]["scaling"]
    names = {rule["alert"] for rule in rules.service_group(read(fixed))["rules"]}
    assert names == set(catalogue.NAMES) - {"NereusAutoscalerBlind", "NereusPinnedAtMax", "NereusForecastOff"}


def test_only_a_service_with_a_gpu_has_the_alert_about_its_memory() -> None:
    without = resource()
    del without["spec"]["gpu"]
    names = {rule["alert"] for rule in rules.service_group(read(without))["rules"]}
    assert names == set(catalogue.NAMES) - {"NereusGPUMemoryHigh"}
    assert rules.limits(thresholds(service(gpuMemory={"above": "75%"})))["NereusGPUMemoryHigh"] == 0.75


def test_the_latency_alert_has_the_objective_that_scaling_has() -> None:
    given = resource()
    given["spec"]["scaling"]["objective"] = {"latency": "80ms"}
    for alerts, milliseconds in (({}, 80), ({"latency": "120ms"}, 120)):
        wished = read({**given, "spec": {**given["spec"], "alerts": alerts}})
        assert wished.latency_objective.seconds * 1000 == milliseconds
        assert rules.limits(thresholds(wished))["NereusLatencyHigh"] == milliseconds
        [rule] = [rule for rule in rules.service_group(wished)["rules"] if rule["alert"] == "NereusLatencyHigh"]
        assert rule["expr"].endswith(f"> {milliseconds}")
        assert f"the objective is {milliseconds} ms" in rule["annotations"]["description"]
    assert rules.limits(thresholds(service()))["NereusLatencyHigh"] == DEFAULT_LATENCY_OBJECTIVE.seconds * 1000


def test_pages_are_linked_where_the_installation_has_them() -> None:
    pages = "https://wiki.example.com/nereus"
    groups = [rules.service_group(service(), runbooks=pages), rules.fleet_group(runbooks=pages)]
    for rule in (rule for group in (*groups, rules.operator_group(runbooks=pages)) for rule in group["rules"]):
        assert "alert" not in rule or rule["annotations"]["runbook_url"] == f"{pages}/{rule['alert']}.md"


def test_labels_and_annotations_are_added_and_never_replace_ours() -> None:
    group = rules.service_group(service(labels={"team": "vision"}, annotations={"wiki": "w"}))
    assert all(rule["labels"]["team"] == "vision" and rule["annotations"]["wiki"] == "w" for rule in group["rules"])
    for field, reserved in (("labels", "severity"), ("labels", "__x"), ("annotations", "summary"), ("labels", "a-b")):
        with pytest.raises(InvalidSpecError, match=f"spec.alerts.{field}"):
            service(**{field: {reserved: "x"}})
    with pytest.raises(InvalidSpecError, match="template"):
        service(annotations={"x": "{{ .Nope }}"})


@pytest.mark.parametrize("wrong", ["1", "0%", "101%", "-1%", "1 %", "1.2345%", "%"])
def test_a_wrong_percentage_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"spec.alerts.errors.above.*0\.5%"):
        service(errors={"above": wrong})


def test_an_unknown_alert_cannot_be_disabled() -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.alerts\.disable"):
        service(disable=["NereusNothing"])


def test_the_installation_adds_labels_for_the_selector_of_its_prometheus() -> None:
    manifest = rules.prometheus_rule(service(), labels={"release": "monitoring", "app.kubernetes.io/name": "mine"})
    assert manifest is not None
    labels = manifest["metadata"]["labels"]
    assert labels["release"] == "monitoring"
    assert labels["app.kubernetes.io/name"] == "triton", "a label that we select by is ours"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "1m30s"), (3600, "1h"), (86400 + 60, "1d1m")])
def test_durations_are_written_as_prometheus_reads_them(seconds: float, text: str) -> None:
    assert promql_duration(seconds) == text
