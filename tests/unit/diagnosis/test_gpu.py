"""What is said of GPUs: why there is none, whether the limit holds, and whether anybody uses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nereus.api.protocol import ModelState
from nereus.api.spec.gpu import Isolation
from nereus.diagnosis import GpuWorld, World, status
from nereus.gpu.ask import GIB
from nereus.gpu.choice import Choice
from nereus.gpu.usage import NodeUsage, PodUsage, Usage
from tests.harness.status_checker import check_status
from tests.unit.diagnosis.worlds import NOW, model, report, running, service, serving_pod, unscheduled, world

Json = dict[str, Any]
POD = "resnet-6d5f9c7b8d-x2k4p"
UID = f"uid-{POD}"
SERVICE = service(gpu={"memory": "8Gi"})


def choice(mechanism: Isolation = Isolation.MIG, limit: float | None = 9.5, **more: Any) -> Choice:
    return Choice(
        mechanism=mechanism,
        resources=(("nvidia.com/gpu", "1"),),
        asked="x",
        effective_bytes=None if limit is None else int(limit * GIB),
        **more,
    )


def use(used: float, *, limit: float | None = None, uid: str = UID, device: str = "MIG-1", **more: Any) -> PodUsage:
    return PodUsage(
        uid=uid,
        device=device,
        container="triton",
        used_bytes=int(used * GIB),
        peak_bytes=int(more.pop("peak", used) * GIB),
        limit_bytes=None if limit is None else int(limit * GIB),
        processes=1,
    )


def seen(chosen: Choice, *pods: PodUsage, asked: bool = True, answers: bool = True, **more: Any) -> World:
    """A service whose pod serves, and what the agent on its node says."""
    fields = {key: more.pop(key) for key in ("trouble", "simulated") if key in more}
    node = NodeUsage(node="node-a", pods=pods, **fields)
    usage = Usage(nodes={"node-a": node} if answers else {}, asked=asked)
    loaded = more.pop("loaded", report())
    return replace(
        world([serving_pod()], [loaded], of=more.pop("of", SERVICE)), gpu=GpuWorld(choice=chosen, usage=usage, **more)
    )


def told(observed: World) -> Json:
    made = status(observed, previous={}, now=NOW)
    assert check_status({"metadata": {"generation": 3}, "status": made}) == []
    return made


def enforced(observed: World) -> tuple[str, str, str]:
    [found] = [item for item in told(observed)["conditions"] if item["type"] == "GPUMemoryEnforced"]
    return found["status"], found["reason"], found["message"]


def reasons(observed: World) -> dict[str, str]:
    return {item["reason"]: item["message"] for item in told(observed).get("reasons", [])}


@pytest.mark.parametrize(
    ("observed", "truth", "reason", "words"),
    [
        (seen(choice(), use(4, limit=9.5)), "True", "LimitEnforced", "MIG limits each pod to 9.5Gi; seen in 1 pod"),
        (seen(choice(), use(4, limit=9.5), simulated=True), "True", "LimitEnforced", "(simulated GPUs)"),
        (seen(choice(), asked=False, answers=False), "Unknown", "LimitNotProven", "no GPU agent is installed"),
        (seen(choice(), answers=False), "Unknown", "LimitNotProven", "no GPU agent answers on node node-a"),
        (seen(choice(), trouble="no driver"), "Unknown", "LimitNotProven", "no driver"),
        (seen(choice()), "Unknown", "LimitNotProven", "no process of the pod is on a GPU"),
        (seen(choice(), use(4)), "Unknown", "LimitNotProven", "not on a MIG slice"),
        (seen(choice(), use(4, limit=80)), "False", "LimitMissing", "the limit in effect is 80Gi, not 9.5Gi"),
        (seen(choice(), use(4, limit=9.5, peak=12)), "False", "LimitMissing", "it used 12Gi, more than 9.5Gi"),
        (seen(choice(Isolation.DRIVER_LIMIT, 8), use(4)), "False", "LimitMissing", "older than 1.20.1"),
        (seen(choice(Isolation.DRIVER_LIMIT, 8), use(4, limit=8)), "True", "LimitEnforced", "seen in 1 pod"),
        (seen(choice(Isolation.EXCLUSIVE, 80), use(4)), "True", "LimitEnforced", "seen in 1 pod"),
        (
            seen(choice(Isolation.EXCLUSIVE, 80), use(4), use(1, uid="other")),
            "False",
            "LimitMissing",
            "another pod uses its GPU MIG-1",
        ),
        (seen(choice(Isolation.MPS, 8), use(4)), "False", "LimitSoft", "without the MPS pipe directory"),
        (seen(choice(Isolation.NONE, None), use(4)), "False", "LimitNotEnforced", "may take the whole GPU"),
    ],
)
def test_a_limit_is_enforced_only_when_that_was_seen(observed: World, truth: str, reason: str, words: str) -> None:
    said = enforced(observed)
    assert said[:2] == (truth, reason)
    assert words in said[2]


def test_without_a_limit_or_a_gpu_nothing_is_said_of_limits() -> None:
    for of, gpu in ((service(gpu={}), GpuWorld(choice=choice(Isolation.EXCLUSIVE, None))), (service(), None)):
        made = told(replace(world([serving_pod()], [report()], of=of), gpu=gpu))
        assert "GPUMemoryEnforced" not in {item["type"] for item in made["conditions"]}
        assert ("gpu" in made) is (gpu is not None)


def test_the_status_shows_mechanism_limit_and_the_highest_peak_also_when_the_pod_is_gone() -> None:
    made = told(seen(choice(), use(4, limit=9.5, peak=7.44), simulated=True))
    assert made["gpu"]["mechanism"] == "MIG"
    assert made["gpu"]["enforcement"] == "Hard"
    assert (made["gpu"]["requested"], made["gpu"]["effectiveLimit"], made["gpu"]["observedPeak"]) == (
        "8Gi",
        "9.5Gi",
        "7.4Gi",
    )
    assert made["gpu"]["memory"] == "7.4Gi/9.5Gi Hard"
    assert made["gpu"]["simulated"] is True
    assert "not yet proven on a real card" in made["gpu"]["message"]
    later = status(seen(choice()), previous=made, now=NOW)
    assert later["gpu"]["observedPeak"] == "7.4Gi"


def test_a_rollout_that_takes_a_pod_away_first_is_said() -> None:
    told_of_nodes = told(seen(choice(), surge=False))["gpu"]["message"]
    assert "the nodes take no further pod, so a rollout takes one pod away before it adds one" in told_of_nodes
    limited = service(gpu={"memory": "8Gi"}, scaling={"maxReplicas": 4, "limits": {"gpus": 4}})
    told_of_limit = told(seen(choice(), surge=False, of=limited))["gpu"]["message"]
    assert "scaling.limits.gpus allows no further pod, so a rollout" in told_of_limit


# --- no GPU


def _waiting(gpu: GpuWorld, said: str, **pod: Any) -> World:
    return replace(world([unscheduled(said, **pod)], of=SERVICE), gpu=gpu)


def test_a_pod_that_no_node_can_take_says_what_is_missing() -> None:
    observed = _waiting(GpuWorld(choice=choice(), missing="no node gives 8Gi"), "0/3 nodes are available")
    assert "no node gives 8Gi; the scheduler: 0/3 nodes" in reasons(observed)["GPUUnavailable"]


def test_a_pod_that_waits_for_others_to_end_is_merely_unschedulable() -> None:
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.10gb."
    assert (
        "every nvidia.com/mig-1g.10gb that fits MIG is taken"
        in reasons(_waiting(GpuWorld(choice=choice()), said))["Unschedulable"]
    )


def test_a_pod_that_the_webhook_of_hami_did_not_take_says_so() -> None:
    observed = _waiting(GpuWorld(choice=choice(Isolation.HAMI, 8)), "0/3 nodes: Insufficient nvidia.com/gpumem")
    assert "HAMi's webhook did not take this pod" in reasons(observed)["GPUUnavailable"]
    assert "check that it runs and covers this namespace" in reasons(observed)["GPUUnavailable"]


# --- the GPU is there and not used, or used too much


def test_a_model_on_the_cpu_is_named() -> None:
    loaded = report(model(ModelState.READY, serving=True, kinds=("KIND_CPU",)))
    observed = seen(choice(), use(4, limit=9.5), loaded=loaded)
    assert reasons(observed)["GPUNotUsed"].endswith("runs on the CPU although the pod has a GPU: resnet")
    assert told(observed)["conditions"][0]["status"] == "True", "it serves all the same"


def test_a_model_that_asks_for_the_cpu_is_no_trouble() -> None:
    on_cpu = service(gpu={"memory": "8Gi"})
    spec = on_cpu.spec.model_copy(
        update={
            "models": tuple(
                type(item).model_validate(
                    {**item.model_dump(by_alias=True, mode="json", exclude_none=True), "instances": {"kind": "CPU"}}
                )
                for item in on_cpu.models
            )
        }
    )
    loaded = report(model(ModelState.READY, serving=True, kinds=("KIND_CPU",)))
    assert "GPUNotUsed" not in reasons(seen(choice(), use(4, limit=9.5), loaded=loaded, of=replace(on_cpu, spec=spec)))


def test_a_pod_without_a_process_on_a_gpu_is_told_where_an_agent_looks() -> None:
    assert "sees no process" in reasons(seen(choice()))["GPUNotUsed"]
    assert "GPUNotUsed" not in reasons(seen(choice(), answers=False))


def test_a_pod_above_its_limit_is_told_with_what_was_done_about_it() -> None:
    soft = choice(Isolation.NONE, None)
    assert (
        "uses 9Gi of GPU memory, the limit is 8Gi; evicted"
        in reasons(seen(soft, use(9), evicted="evicted it"))["GPUMemoryExceeded"]
    )
    assert "GPUMemoryExceeded" not in reasons(seen(soft, use(8)))
    assert "GPUMemoryExceeded" not in reasons(seen(choice(), use(9, limit=9.5))), "a larger slice is nobody's loss"


def test_models_that_cannot_be_loaded_anew_within_the_limit_are_told() -> None:
    loaded = report(model(ModelState.READY, serving=True, version_bytes=5 * GIB))
    assert (
        "while resnet is loaded anew" in reasons(seen(choice(), use(6, limit=9.5), loaded=loaded))["GPUMemoryTooSmall"]
    )


def test_a_pod_that_is_not_ready_yet_proves_nothing() -> None:
    waits = world([serving_pod(ready=False, server=running())], [None], of=SERVICE)
    assert enforced(replace(waits, gpu=GpuWorld(choice=choice())))[:2] == ("Unknown", "LimitNotProven")
