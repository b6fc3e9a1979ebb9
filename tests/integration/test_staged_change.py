"""A changed plan on a real API server: one pod first, then the rest; kept, rolled back to, or by replacing the pods.

The pods' sidecars are stand-ins (tests.harness.sidecars) that read the plan as a real one does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nereus.api import names
from nereus.api.stages import bundle, next_bundle
from tests.harness.apiserver import MODEL_SERVICES, Json
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("operator")

THREE = {"strategy": "Manual", "replicas": 3}


def model(*, source: str = "configmap://models/m", text: str = "") -> Json:
    declared: Json = {"name": "m", "source": {"uri": source}, "backend": "python", "maxBatchSize": 8}
    return {**declared, **({"configText": text} if text else {})}


def refused(count: int = 1) -> Json:
    """A change that loads nowhere."""
    return model(text=f'parameters {{ key: "refuse_me" value {{ string_value: "{count}" }} }}')


def pods(services: Services) -> list[Json]:
    return [pod for pod in services.all_of("Pod") if not pod["metadata"].get("deletionTimestamp")]


def told(services: Services, revision: str) -> list[str]:
    """The pods that were told to run a revision."""
    annotations = {pod["metadata"]["name"]: pod["metadata"].get("annotations") or {} for pod in pods(services)}
    return [name for name, found in annotations.items() if found.get(names.ANNOTATION_NUDGE) == revision]


def plan(services: Services) -> Json:
    found: Json = services.service().get("status", {}).get("plan", {})
    return found


def until(services: Services, what: str, look: Callable[[], object]) -> None:
    """Waits long: what is promised is that it comes, not how soon on a busy machine."""
    services.until_true(what, look, seconds=60)


def annotate(services: Services, value: str | None) -> None:
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc"
    patch = {"metadata": {"annotations": {names.ANNOTATION_ROLLBACK: value}}}
    answer = services.api.request("PATCH", path, patch)
    assert answer.accepted, answer.message


def templates(services: Services) -> dict[str, str]:
    return {pod["metadata"]["uid"]: pod["metadata"]["labels"]["pod-template-hash"] for pod in pods(services)}


def test_a_change_that_fails_stays_with_one_pod_and_one_that_works_reaches_all_and_can_be_rolled_back(
    services: Services,
) -> None:
    services.apply(models=[model()], scaling=THREE)
    services.until_ready(seconds=60)
    first, before = plan(services)["revision"], templates(services)

    services.apply(models=[refused()], scaling=THREE)
    found = services.until("ModelLoadFailed", seconds=60)
    assert "Triton says no" in services.condition()["message"]
    assert "2 still serve the former one" in services.condition()["message"]
    assert (found["status"]["plan"]["revision"], len(told(services, found["status"]["plan"]["next"]))) == (first, 1)
    services.apply(models=[refused()], scaling={**THREE, "replicas": 4})
    until(services, "a pod that starts meanwhile serves", lambda: services.service()["status"]["replicas"] == "4/4")
    (tried,) = told(services, plan(services)["next"])
    data = services.child("ConfigMap", names.plan_config_map("svc", 0))["data"]
    stable, following = bundle(data), next_bundle(data)
    assert stable is not None
    assert stable.revision == first
    assert following is not None
    assert following[0].pods == (tried,)

    services.apply(models=[model(text="max_batch_size: 4")], scaling={**THREE, "replicas": 4})
    services.until_ready(seconds=60)
    second = plan(services)
    assert second["revision"] != first
    assert (second["kept"], "next" in second) == ([first], False)
    assert set(before) <= set(templates(services)), "no pod was replaced"
    told_events = [event[1] for event in services.events()]
    assert {"Changing", "Changed", "ModelLoadFailed"} <= set(told_events)

    annotate(services, first)
    until(services, "rolled back", lambda: plan(services).get("revision") == first)
    services.until_ready(seconds=60)
    assert "rolled back" in plan(services)["message"]
    assert first not in services.child("ConfigMap", names.plan_config_map("svc", 0))["data"].get("next.json", "")
    annotate(services, "no-such-plan")
    services.until("InvalidSpec", seconds=60)
    assert first in services.condition()["message"], "the plans that are kept are named"
    annotate(services, None)
    until(services, "forward again", lambda: plan(services).get("revision") == second["revision"])
    services.until_ready(seconds=60)
    assert set(before) <= set(templates(services)), "no pod was replaced"


def test_pods_are_replaced_where_their_memory_cannot_hold_old_and_new_at_once(services: Services) -> None:
    runtime = {"resources": {"limits": {"memory": "300Mi", "cpu": "1"}}}
    large = model(source="configmap://large/m")
    services.apply(models=[large], runtime=runtime, scaling={"strategy": "Manual", "replicas": 2})
    services.until_ready(seconds=60)
    before, first = templates(services), plan(services)["revision"]
    stored = services.service()["status"]["template"]
    changed = {**large, "maxBatchSize": 16}
    services.apply(models=[changed], runtime=runtime, scaling={"strategy": "Manual", "replicas": 2})
    until(services, "the reason", lambda: "memory limit of 300 MiB" in plan(services).get("message", ""))
    until(services, "promoted", lambda: plan(services).get("revision") != first)
    services.until_ready(seconds=60)
    assert not set(before) & set(templates(services)), "every pod was replaced"
    assert services.service()["status"]["template"] == stored, "by the same template"
    annotations = services.child("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_RESTART] == plan(services)["revision"]
    now = templates(services)
    services.apply(
        models=[{**changed, "instances": {"count": 2}}],
        runtime=runtime,
        scaling={"strategy": "Manual", "replicas": 2},
    )
    until(services, "in place", lambda: plan(services).get("revision") != annotations[names.ANNOTATION_RESTART])
    services.until_ready(seconds=60)
    assert templates(services) == now, "instances change in place, and the mark of the restart stays"


def test_with_a_new_template_the_new_pods_bring_the_changed_models(services: Services) -> None:
    services.apply(models=[model()], scaling=THREE)
    services.until_ready(seconds=60)
    first = plan(services)["revision"]
    elsewhere = model(source="configmap://elsewhere/m")
    services.apply(models=[elsewhere], scaling=THREE)
    services.until_ready(seconds=60)
    assert plan(services)["revision"] != first
    assert len(set(templates(services).values())) == 1
    assert "next.json" not in services.child("ConfigMap", names.plan_config_map("svc", 0))["data"]
