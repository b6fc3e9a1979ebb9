"""The arithmetic of a limit, what is refused of a spec alone, and who has to go."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.problems import InvalidSpecError
from nereus.api.service import read
from nereus.gpu import profiles
from nereus.gpu.ask import GIB, MIB, fingerprint, problems
from nereus.gpu.eviction import COOL_DOWN_SECONDS, GRACE_SECONDS, Watchdog
from nereus.gpu.memory import (
    CONTEXT_BYTES,
    LEAST_ARENA_BYTES,
    POOL_BYTES,
    Weights,
    arena_bytes,
    need,
    reload_warning,
    verdict,
)
from tests.harness.resources import service


def said(gpu: dict[str, Any], **spec: Any) -> str:
    try:
        return "; ".join(map(str, problems(read(service(gpu=gpu, **spec)))))
    except InvalidSpecError as error:
        return str(error)


@pytest.mark.parametrize(
    ("gpu", "spec", "words"),
    [
        ({"memory": "500Mi"}, {}, "spec.gpu.memory: 500Mi is below 1Gi"),
        ({"memory": "500Gi"}, {}, "above the 288 GiB of the largest GPU"),
        ({"memory": "90Gi", "product": "NVIDIA-A100-SXM4-80GB"}, {}, "above the 80 GiB of a NVIDIA-A100-SXM4-80GB"),
        ({"memory": "8Gi", "count": 2}, {}, "gpu.count above 1 means whole GPUs"),
        ({"isolation": "MPS", "count": 2}, {}, "set gpu.isolation to Exclusive"),
        ({"isolation": "MIG"}, {}, "need gpu.memory"),
        (
            {"memory": "8Gi", "isolation": "MPS"},
            {"runtime": {"sharedMemory": "256Mi"}},
            "spec.runtime.sharedMemory: 256Mi cannot be given with gpu.isolation MPS",
        ),
        ({"onExceed": "Evict"}, {}, "gpu.onExceed is about gpu.memory"),
        ({}, {"runtime": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "stands beside spec.gpu"),
        ({}, {"runtime": {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}}, "spec.runtime.env[0]"),
        (
            {"memory": "8Gi", "isolation": "HAMi"},
            {"runtime": {"env": [{"name": "CUDA_DISABLE_CONTROL", "value": "true"}]}},
            "CUDA_DISABLE_CONTROL decides",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_refused_in_words(gpu: dict[str, Any], spec: dict[str, Any], words: str) -> None:
    assert words in said(gpu, **spec)


def test_a_good_spec_has_no_problem() -> None:
    assert said({"memory": "8Gi", "product": "NVIDIA-H100-80GB-HBM3", "onExceed": "Evict"}) == ""
    assert said({}) == ""


def test_what_happens_on_excess_changes_no_choice_and_a_rollout_request_does() -> None:
    first = read(service(gpu={"memory": "8Gi"}))
    assert fingerprint(read(service(gpu={"memory": "8Gi", "onExceed": "Evict"}))) == fingerprint(first)
    asked = service(gpu={"memory": "8Gi"})
    asked["metadata"]["annotations"] = {"serving.nereus.dev/rollout": "again"}
    assert fingerprint(read(asked)) != fingerprint(first)


@pytest.mark.parametrize(
    ("product", "gibibytes", "profile"),
    [
        ("NVIDIA-H100-80GB-HBM3", 8, "1g.10gb"),
        ("NVIDIA-H100-80GB-HBM3", 12, "1g.20gb"),
        ("NVIDIA-H100-NVL", 10, "1g.12gb"),
        ("NVIDIA-A100-SXM4-40GB", 8, "1g.10gb"),
        ("NVIDIA-A30", 20, "4g.24gb"),
        ("NVIDIA-A30", 23, None),
        ("NVIDIA-L4", 4, None),
    ],
)
def test_the_smallest_profile_of_a_product(product: str, gibibytes: int, profile: str | None) -> None:
    assert profiles.smallest_for(product, gibibytes * GIB) == profile


def test_a_slice_is_never_thought_larger_than_it_is() -> None:
    measured = {"1g.5gb": 4864 * MIB, "1g.10gb": 9728 * MIB, "3g.20gb": 19968 * MIB, "1g.6gb": 5952 * MIB}
    assert all(profiles.usable_bytes(name) <= size for name, size in measured.items())


def test_python_models_have_a_process_each_and_others_share_their_weights() -> None:
    base = CONTEXT_BYTES + POOL_BYTES
    assert need([Weights(name="a", file_bytes=GIB, instances=4)]).serving == base + GIB
    each = need([Weights(name="a", file_bytes=GIB, instances=2, processes=True)])
    assert each.serving == base + 2 * (GIB + CONTEXT_BYTES)


def test_a_limit_that_holds_the_models_but_no_reload_is_told_with_the_sum() -> None:
    wanted = need([Weights(name="big", file_bytes=5 * GIB), Weights(name="small", file_bytes=GIB)])
    assert verdict(8 * GIB, wanted) == ""
    assert "while big is loaded anew, old and new take at least 11.3Gi of 8Gi" in reload_warning(8 * GIB, wanted)
    assert reload_warning(16 * GIB, wanted) == ""
    assert "at least 6.3Gi" in verdict(6 * GIB, wanted)


@pytest.mark.parametrize("gibibytes", [1, 2, 6, 80])
def test_an_arena_leaves_the_context_and_tritons_pool_their_place(gibibytes: int) -> None:
    limit = gibibytes * GIB
    assert LEAST_ARENA_BYTES < arena_bytes(limit) == limit - CONTEXT_BYTES - POOL_BYTES
    assert arena_bytes(MIB) == LEAST_ARENA_BYTES, "never nothing, whatever the limit"


def test_a_pod_goes_after_the_grace_one_at_a_time_and_not_again_before_the_cool_down() -> None:
    dog, limit = Watchdog(), 8 * GIB
    over = {"a": 9 * GIB, "b": 10 * GIB, "c": GIB}
    assert dog.look(over, limit, now=0) == ""
    assert dog.look(over, limit, now=GRACE_SECONDS - 1) == ""
    assert dog.look(over, limit, now=GRACE_SECONDS) == "a"
    dog.evicted_at = GRACE_SECONDS
    assert dog.look({"b": 10 * GIB}, limit, now=GRACE_SECONDS + COOL_DOWN_SECONDS - 1) == ""
    assert dog.look({"b": 10 * GIB}, limit, now=GRACE_SECONDS + COOL_DOWN_SECONDS) == "b"


def test_a_pod_that_comes_back_below_or_is_not_measured_begins_anew() -> None:
    dog, limit = Watchdog(), GIB
    dog.look({"a": 2 * GIB}, limit, now=0)
    dog.look({"a": GIB}, limit, now=20)
    assert dog.look({"a": 2 * GIB}, limit, now=40) == ""
    dog.look({}, limit, now=60)
    assert dog.look({"a": 2 * GIB}, limit, now=80) == ""
    assert dog.look({"a": 2 * GIB}, limit, now=80 + GRACE_SECONDS) == "a"
