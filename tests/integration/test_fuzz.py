"""Whatever a user declares: what we render of it, the API server takes; what it would refuse, we said first.

The specs are those of the unit tier's properties, drawn the same in every run; the judge is a real API server, asked
with dry runs. And services whose children, annotations and old status somebody filled with garbage are put right.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

from nereus.api import names
from nereus.api.problems import InvalidSpecError
from nereus.api.service import read
from nereus.controller import drift
from nereus.controller.connection import connect
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import POD_MONITOR, kind_of
from nereus.rendering import render
from tests.harness.apiserver import MODEL_SERVICES, Api, Json
from tests.harness.services import Services
from tests.unit.controller.test_garbage import OBJECTS
from tests.unit.test_rendering_properties import SETTINGS, resource

SECONDS = 10.0
"""So long new specs are tried; a fast machine tries more of them, each run the same ones first."""
AT_LEAST = 5


def test_what_is_rendered_of_any_spec_is_accepted(api: Api, empty_namespace: str) -> None:
    """With the operator's own client, because the way an object is written down is part of what the server judges."""
    deadline, judged = time.monotonic() + SECONDS, 0

    @seed(4)
    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(drawn=resource)
    def judge(drawn: Json) -> None:
        nonlocal judged
        if time.monotonic() > deadline and judged >= AT_LEAST:
            return
        declared = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            **drawn,
            "metadata": {**drawn["metadata"], "namespace": empty_namespace},
        }
        try:
            rendered = render(read(declared), settings=SETTINGS)
        except InvalidSpecError:
            return  # said first
        judged += 1
        for manifest in rendered.objects:
            if manifest["kind"] == POD_MONITOR.kind:
                continue
            kind = kind_of(manifest["kind"])
            try:
                runner.run(gateway.apply(kind, drift.stamped(manifest), dry_run=True))
            except ApiError as error:
                pytest.fail(f"{kind}: {error}\n{json.dumps(drawn['spec'])}")

    with asyncio.Runner() as runner:
        gateway = runner.run(_gateway(api))
        try:
            judge()
        finally:
            runner.run(gateway.close())
    print(f"{judged} specs were rendered and judged")
    assert judged >= AT_LEAST


async def _gateway(api: Api) -> Gateway:
    return Gateway(await connect(str(api.kubeconfig)))


def _annotations(garbage: Any) -> dict[str, str]:
    """Whatever was drawn, under the names that we read."""
    text = json.dumps(garbage)
    ours = (names.ANNOTATION_APPLIED, names.ANNOTATION_ROLLOUT, names.ANNOTATION_NUDGE, "example.com/other")
    return dict.fromkeys(ours, text)


@pytest.mark.usefixtures("operator")
def test_garbage_in_annotations_children_and_status_is_put_right(services: Services) -> None:
    services.apply(scaling={"minReplicas": 2, "maxReplicas": 4})
    services.until_ready()
    template = services.child("Deployment")["spec"]["template"]
    applied = services.child("Service")["metadata"]["annotations"][names.ANNOTATION_APPLIED]
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc"
    revision = next(name for name in services.owned() if name.startswith("ControllerRevision ")).partition(" ")[2]
    deadline, tried = time.monotonic() + SECONDS, 0

    @seed(4)
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(garbage=OBJECTS)
    def spoil(garbage: Json) -> None:
        nonlocal tried
        if time.monotonic() > deadline:
            return
        tried += 1
        annotations = {"metadata": {"annotations": _annotations(garbage)}}
        kinds = ("Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "HorizontalPodAutoscaler")
        for kind in kinds:
            name = names.plan_config_map("svc", 0) if kind == "ConfigMap" else "svc"
            services.patch(kind, annotations, name)
        services.patch("ConfigMap", {"data": {"plan.json": json.dumps(garbage)}}, names.plan_config_map("svc", 0))
        services.patch("ControllerRevision", annotations, revision)
        status = {"status": {"models": [], "conditions": [], "resolved": garbage, "template": garbage}}
        services.api.request("PATCH", f"{path}/status", status)  # what the schema refuses is no garbage any more

    spoil()
    assert tried
    services.apply(scaling={"minReplicas": 2, "maxReplicas": 5})

    def right() -> bool:
        annotations = services.child("Service")["metadata"]["annotations"]
        plan = services.child("ConfigMap", names.plan_config_map("svc", 0))["data"]["plan.json"]
        return annotations[names.ANNOTATION_APPLIED] == applied and "models" in json.loads(plan)

    services.until_true("put right", right, seconds=150)
    services.until_ready(seconds=60)
    assert services.child("Deployment")["spec"]["template"] == template, "garbage restarted pods"
