"""The text of the queries, read and evaluated by Prometheus' own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.packages import find_tool
from nereus.prometheus import queries, recording
from nereus.prometheus.history import load_query
from nereus.prometheus.options import Labels
from nereus.prometheus.queries import Query, Scope
from tests.unit.prometheus.recorded import Recorded, reader, wanted

needs_promtool = pytest.mark.skipif(
    find_tool("promtool") is None, reason="no promtool here; the local cluster brings it"
)
ROOT = Path(__file__).resolve().parents[3]
ODD = Scope(
    labels=Labels(namespace="kubernetes_namespace", pod="kubernetes_pod_name", service="svc"),
    matchers='cluster="a,b", tenant=~"x|y"',
    scrape_interval=30,
    namespaces=("team-a", "team-b"),
)


def promtool(*arguments: str) -> None:
    done = subprocess.run([str(find_tool("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("scope", [Scope(), ODD, Scope(scrape_interval=7.5)])
def test_prometheus_understands_every_query(scope: Scope, tmp_path: Path) -> None:
    asked = [*queries.tick(scope).values(), *recording.tick(scope).values()]
    asked += [queries.scrape_interval(scope), queries.unlabelled(scope), load_query(scope, [wanted()])]
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_every_query_is_narrowed_by_the_scope() -> None:
    for text in queries.tick(ODD).values():
        for word in ('svc!=""', 'cluster="a,b"', 'tenant=~"x|y"', 'kubernetes_namespace=~"team-a|team-b"'):
            assert text.count(word) == text.count("{"), text


def test_a_window_is_four_scrapes_and_at_least_a_tick() -> None:
    assert [Scope(scrape_interval=s).window for s in (1, 5, 15, 30, 60)] == [15, 20, 60, 120, 240]
    assert [Scope(scrape_interval=s).whole_count for s in (1, 5, 15, 30, 60)] == [15, 4, 4, 4, 4]
    assert Scope(scrape_interval=15).stale_after == 45


SERIES = (
    # Scraped by two jobs: counted once. A pod that died at 5:00. A pod that joined. Another service.
    ('nv_inference_count{job="a",pod="p1"}', "0+150x40"),
    ('nv_inference_count{job="b",pod="p1"}', "0+150x40"),
    ('nv_inference_count{job="a",pod="p2"}', "0+150x20 stale"),
    ('nv_inference_count{job="a",pod="p3"}', "_x20 0+150x20"),
    ('nv_inference_pending_request_count{job="a",pod="p1"}', "0+3x40"),
    ('nv_inference_request_failure{job="a",pod="p1",reason="REJECTED"}', "0+15x40"),
)
EXPECTED: dict[str, dict[str, float]] = {
    "1m": {"nereus:model:inferences:rate": 20, "nereus:service:pods_seen": 2, "nereus:service:pods_whole": 2},
    "4m": {"nereus:model:queue": 48, "nereus:model:queue:delta": 0.2, "nereus:model:failures:rate": 1},
    # Fifteen seconds after one pod died and another took over, nothing is lost.
    "5m15s": {"nereus:model:inferences:rate": 20, "nereus:service:pods_seen": 2},
    "9m": {"nereus:model:inferences:rate": 20, "nereus:service:pods_seen": 2, "nereus:service:pods_whole": 2},
}
TOLERANCE = {"5m15s": 0.2}


@needs_promtool
def test_recorded_load_is_right_while_pods_come_and_go(tmp_path: Path) -> None:
    whose = 'namespace="team",serving_nereus_dev_service="resnet",model="m",version="1"'
    checks = []
    for time, names in EXPECTED.items():
        for name, value in names.items():
            spread = TOLERANCE.get(time, 0.01)
            expr = f"abs(sum({name}) / {value} - 1) < bool {spread}"
            checks.append({"expr": expr, "eval_time": time, "exp_samples": [{"labels": "{}", "value": 1}]})
    series = [{"series": name.replace("{", f"{{{whose},"), "values": values} for name, values in SERIES]
    test: dict[str, Any] = {
        "rule_files": [str(ROOT / "charts/nereus/files/load-rules.yaml")],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": checks}],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(file))


@needs_promtool
def test_many_samples_of_a_young_pod_are_no_whole_window(tmp_path: Path) -> None:
    """Scraped three times as often as the rules assume, it has enough of them after a third of the window."""
    labels = '{namespace="team",serving_nereus_dev_service="resnet",model="m",version="1",pod="p1"}'
    checks = [
        {"expr": "sum(nereus:service:pods_whole) or vector(0)", "eval_time": at, "exp_samples": [{"value": whole}]}
        for at, whole in (("4m30s", 0), ("5m30s", 1))
    ]
    test: dict[str, Any] = {
        "rule_files": [str(ROOT / "charts/nereus/files/load-rules.yaml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "5s",
                "input_series": [{"series": f"nv_inference_count{labels}", "values": "_x48 0+50x40"}],
                "promql_expr_test": checks,
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(file))


async def test_without_the_rules_raw_series_are_read_after_one_tick() -> None:
    source = Recorded()
    made = reader(source, recorded=True)
    first = (await made.read([wanted()]))[wanted().key]
    assert first.load is None
    assert any(text.startswith("nereus:model:inferences:rate{") for text in source.asked)
    second = (await made.read([wanted()]))[wanted().key]
    assert second.state == "Fresh"


def test_recorded_names_follow_one_pattern() -> None:
    assert all(name.startswith(("nereus:service:", "nereus:model:")) for name in recording.RECORDS.values())
    assert set(Query) - set(recording.RECORDS) == {Query.CURVE, Query.LATE, Query.RISING, Query.BEGUN}
