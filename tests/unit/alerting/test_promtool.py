"""Prometheus' own tool on the rules: it parses every expression, and evaluates every alert on faults and on health.

promtool comes with Debian's `prometheus`, which the local cluster installs; where it is missing these tests are skipped
here and `tests/integration/test_alert_rules.py` installs it and runs them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.packages import find_tool
from nereus.alerting import catalogue, operator, rules
from nereus.alerting.thresholds import Thresholds, thresholds
from nereus.api.service import ModelService, read
from tests.unit.alerting.cases import CASES, OPERATOR, THRESHOLD, Case

Json = dict[str, Any]
PROMTOOL = find_tool("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here; the integration tier installs it")
OPERATORS = tuple(alert.name for alert in operator.ALERTS)


def resource(**alerts: Any) -> Json:
    return {
        "metadata": {"name": "resnet", "namespace": "prod"},
        "spec": {
            "models": [{"name": "m", "source": {"uri": "configmap://models"}}],
            "scaling": {"maxReplicas": 3},
            "gpu": {"memory": "8Gi"},
            "alerts": alerts,
        },
    }


def service(**alerts: Any) -> ModelService:
    return read(resource(**alerts))


def promtool(*arguments: str, timeout: float = 300) -> str:
    tool = find_tool("promtool")
    assert tool is not None
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def check(folder: Path, *groups: Json) -> None:
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(rules.rules_file(*groups)))
    promtool("check", "rules", str(path))


def run_cases(folder: Path, group: Json, cases: list[Case], extra: dict[str, str]) -> None:
    """Every case as a promtool test: whether its alert fires at its minute."""
    files = []
    for alert, step in sorted({(case.alert, case.step) for case in cases}):
        tests = [
            {
                **_given(case, extra),
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)',
                        "eval_time": f"{case.minute}m",
                        "exp_samples": [{"labels": "{}", "value": 1 if case.fires else 0}],
                    }
                ],
            }
            for case in cases
            if (case.alert, case.step) == (alert, step)
        ]
        files.append(_test_file(folder, group, alert, tests, step))
    promtool("test", "rules", *files)


def _given(case: Case, extra: dict[str, str]) -> Json:
    series = {**case.series, **extra}
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": f"{case.step}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
    }


def _test_file(folder: Path, group: Json, alert: str, tests: list[Json], step: int) -> str:
    """Only the rule in question (and what is recorded for it) is evaluated: the others would cost most of the time."""
    needed = {**group, "rules": [rule for rule in group["rules"] if rule.get("alert", alert) == alert]}
    (folder / f"{alert}.yml").write_text(yaml.safe_dump(rules.rules_file(needed)))
    path = folder / f"{alert}-{step}.yml"
    content = {"rule_files": [f"{alert}.yml"], "evaluation_interval": f"{step}m", "tests": tests}
    path.write_text(yaml.safe_dump(content))
    return str(path)


@needs_promtool
def test_prometheus_accepts_the_rules_of_one_service_of_a_fleet_and_of_the_operator(tmp_path: Path) -> None:
    check(tmp_path, rules.service_group(service()), rules.fleet_group(), rules.operator_group())


@needs_promtool
def test_prometheus_accepts_the_rules_at_the_bounds_of_every_threshold_and_at_a_test_pace(tmp_path: Path) -> None:
    least, most = {"above": "0.001%"}, {"above": "100%"}
    low = service(latency="1ms", loadFailures=least, queue={"above": 1}, errors=least, gpuMemory=least)
    high = service(latency="10m", loadFailures=most, queue={"above": 10**6}, errors=most, gpuMemory=most)
    hostile = service(labels={"team": 'a"b\\c'}, annotations={"note": "100 % {} $value\nline"})
    for number, given in enumerate((low, high, hostile)):
        folder = tmp_path / str(number)
        folder.mkdir()
        check(folder, rules.service_group(given), rules.service_group(given, pace=0.001) | {"name": "paced"})


@needs_promtool
def test_each_alert_of_a_service_fires_on_its_fault_and_on_nothing_else(tmp_path: Path) -> None:
    cases = [case for case in CASES if case.alert not in OPERATORS]
    run_cases(tmp_path, rules.service_group(service()), cases, {})


@needs_promtool
def test_the_rules_of_a_fleet_fire_on_the_same_faults(tmp_path: Path) -> None:
    limits = rules.limits(thresholds(service()))
    exported = {f'{THRESHOLD}{{alert="{name}",{OPERATOR}}}': f"{value}x400" for name, value in limits.items()}
    cases = [case for case in CASES if case.alert not in OPERATORS]
    run_cases(tmp_path, rules.fleet_group(), cases, exported)


@needs_promtool
def test_the_rules_of_a_fleet_are_silent_for_an_alert_that_a_service_disabled(tmp_path: Path) -> None:
    limits = rules.limits(Thresholds(disabled=frozenset(catalogue.NAMES)))
    assert limits == {}
    silent = [
        Case(case.alert, f"{case.what}, disabled", case.series, False, case.minute)
        for case in CASES
        if case.alert not in OPERATORS and case.fires
    ]
    run_cases(tmp_path, rules.fleet_group(), silent, {})


@needs_promtool
def test_the_alerts_of_the_operator_fire_when_it_is_gone_and_not_while_a_standby_waits(tmp_path: Path) -> None:
    run_cases(tmp_path, rules.operator_group(), [case for case in CASES if case.alert in OPERATORS], {})


@needs_promtool
@pytest.mark.parametrize("about", ["services", "operator"])
def test_what_a_person_reads_holds_the_measured_value(about: str, tmp_path: Path) -> None:
    """promtool compares whole annotations and prints what it got instead: that is read here."""
    group = rules.operator_group() if about == "operator" else rules.service_group(service())
    cases = [case for case in CASES if case.says and (case.alert in OPERATORS) == (about == "operator")]
    files = []
    for alert, step in sorted({(case.alert, case.step) for case in cases}):
        tests = [
            {
                **_given(case, {}),
                "alert_rule_test": [
                    {
                        "alertname": case.alert,
                        "eval_time": f"{case.minute}m",
                        "exp_alerts": [{"exp_labels": {"no": "x"}}],
                    }
                ],
            }
            for case in cases
            if (case.alert, case.step) == (alert, step)
        ]
        files.append(_test_file(tmp_path, group, alert, tests, step))
    command = [str(find_tool("promtool")), "test", "rules", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    answers = (done.stdout + done.stderr).split("alertname:")
    for case in cases:
        told = [answer for answer in answers if answer.lstrip().startswith(f"{case.alert},")]
        assert any(case.says in answer.partition("got:")[2] for answer in told), f"{case}: {told}"
    assert "<no value>" not in done.stdout + done.stderr
    assert "error" not in done.stdout.lower().replace("nereuserrors", "").replace("error budget", "")
