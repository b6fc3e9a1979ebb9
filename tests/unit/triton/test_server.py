"""How tritonserver is started, and how long a pod takes to stop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nereus.api import names
from nereus.api.service import ModelService, read
from nereus.triton import server
from tests.harness.resources import MODEL
from tests.harness.resources import service as resource


def service(**spec: Any) -> ModelService:
    return read(resource(**spec))


def test_ports_and_connection_ages_are_arguments_in_milliseconds() -> None:
    arguments = server.arguments(
        service(
            endpoint={
                "ports": {"http": 9000, "grpc": 9001, "metrics": 9002},
                "connectionAge": "20s",
                "connectionAgeGrace": "2.5s",
            }
        )
    )
    assert {
        "--http-port=9000",
        "--grpc-port=9001",
        "--metrics-port=9002",
        "--grpc-max-connection-age=20000",
        "--grpc-max-connection-age-grace=2500",
    } <= set(arguments)


def test_arguments_of_the_user_come_last() -> None:
    assert server.arguments(service(runtime={"args": ["--log-verbose=1", "--id", "x"]}))[-3:] == (
        "--log-verbose=1",
        "--id",
        "x",
    )


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (None, False),
        ({"limits": {"memory": "8Gi"}}, False),
        ({"limits": {"nvidia.com/gpu": 0}}, False),
        ({"limits": {"nvidia.com/gpu": 1}}, True),
        ({"limits": {"nvidia.com/mig-1g.10gb": "1"}}, True),
        ({"limits": {"amd.com/gpu": 1}}, True),
    ],
)
def test_gpu_metrics_are_read_only_in_pods_with_a_gpu(resources: dict[str, Any] | None, expected: bool) -> None:
    given = service(runtime={"resources": resources} if resources else {})
    assert server.has_gpu(given) is expected
    assert f"--allow-gpu-metrics={str(expected).lower()}" in server.arguments(given)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--model-repository=/mine", "spec.models"),
        ("--model-store", "spec.models"),
        ("--http-port=1", "endpoint.ports.http"),
        ("--grpc-max-connection-age=1", "endpoint.connectionAge"),
        ("--grpc-max-connection-age-gra=1", "endpoint.connectionAgeGrace"),
        ("--load-model=*", "spec.models"),
        ("--model-control-mode=poll", "remove it"),
        ("--model-control", "remove it"),
        ("--http-restricted-api=health:k=v", "remove it"),
        ("--exit-timeout-secs", "runtime.terminationGracePeriod"),
    ],
)
def test_an_argument_that_nereus_sets_is_refused_with_what_to_write_instead(argument: str, words: str) -> None:
    [problem] = server.problems(service(runtime={"args": ["--log-info=false", argument]}))
    assert problem.path == "spec.runtime.args[1]"
    assert argument in problem.message
    assert words in problem.message


def test_arguments_that_belong_to_the_user_pass() -> None:
    free = ["--log-verbose=1", "--cache-config=local,size=1048576", "--rate-limit", "execution_count", "--id=a", "--"]
    assert server.problems(service(runtime={"args": free})) == ()


def cache_arguments(**spec: Any) -> list[str]:
    return [argument for argument in server.arguments(service(**spec)) if argument.startswith("--cache-config")]


def test_the_server_has_a_cache_when_a_model_or_the_runtime_asks_for_one() -> None:
    cached = [{**MODEL, "responseCache": True}]
    assert cache_arguments() == []
    assert cache_arguments(models=[{**MODEL, "responseCache": False}]) == []
    assert cache_arguments(models=cached) == ["--cache-config=local,size=67108864"]
    assert cache_arguments(runtime={"responseCacheSize": "1Mi"}) == ["--cache-config=local,size=1048576"]
    assert cache_arguments(models=cached, runtime={"responseCacheSize": "2M"}) == ["--cache-config=local,size=2000000"]


def test_a_cache_in_the_arguments_of_the_user_stands_alone() -> None:
    own = "--cache-config=redis,host=cache"
    cached = [{**MODEL, "responseCache": True}]
    assert cache_arguments(models=cached, runtime={"args": [own]}) == [own]
    [problem] = server.problems(service(runtime={"args": [own], "responseCacheSize": "1Gi"}))
    assert problem.path == "spec.runtime.responseCacheSize"
    assert "keep one" in problem.message


def test_a_cache_too_small_for_any_answer_is_refused() -> None:
    [problem] = server.problems(service(runtime={"responseCacheSize": "64"}))
    assert problem.path == "spec.runtime.responseCacheSize"
    assert "raise it" in problem.message


def test_the_rate_limiter_is_on_when_a_model_needs_it_and_nobody_said_otherwise() -> None:
    limited = [{**MODEL, "instances": {"rateLimiter": {"resources": [{"name": "R", "count": 1}]}}}]

    def flags(**spec: Any) -> list[str]:
        return [argument for argument in server.arguments(service(**spec)) if argument.startswith("--rate-limit")]

    assert flags() == []
    assert flags(models=limited) == ["--rate-limit=execution_count"]
    own = ["--rate-limit=off", "--rate-limit-resource=R:2"]
    assert flags(models=limited, runtime={"args": own}) == own
    assert flags(models=limited, runtime={"args": own[1:]}) == ["--rate-limit=execution_count", own[1]]


def test_a_pod_drains_as_long_as_its_last_connection_may_live() -> None:
    stop = server.stop(service(endpoint={"connectionAge": "20s", "connectionAgeGrace": "10s"}))
    # 20 s and 10 % of jitter, 10 s of grace, 5 s for endpoints to reach every node.
    assert stop.drain_seconds == 37
    # Then a request may still take its grace, and 5 s are for the containers' end.
    assert stop.grace_seconds == 37 + 10 + 5


@pytest.mark.parametrize("seconds", [1, 2, 5, 6, 10, 30, 60, 83, 600])
def test_a_shorter_grace_period_shortens_every_part_and_keeps_each(seconds: int) -> None:
    stop = server.stop(service(runtime={"terminationGracePeriod": f"{seconds}s"}))
    assert stop.grace_seconds == seconds
    assert stop.drain_seconds >= 1
    assert stop.exit_seconds >= 1
    if seconds > 2 + server.STOP_MARGIN_SECONDS:
        assert stop.drain_seconds + stop.exit_seconds < seconds


def test_the_command_reads_the_admin_key_in_the_pod_and_passes_the_arguments_on(tmp_path: Path) -> None:
    """Run for real with a tritonserver that prints what it was given."""
    (tmp_path / "tritonserver").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "tritonserver").chmod(0o755)
    key = tmp_path / "admin-key"
    key.write_text("s3cret\n")
    command = [word.replace(names.PATH_ADMIN_KEY, str(key)) for word in server.command()]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = ["--id=two words", "--log-info=$HOME"]
    done = subprocess.run([*command, *given], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "--http-restricted-api=model-repository:admin-key=s3cret",
        "--grpc-restricted-protocol=model-repository:admin-key=s3cret",
        *given,
    ]
    key.unlink()
    without = subprocess.run([*command, *given], env=environment, capture_output=True, text=True, check=False)
    assert without.returncode != 0, "a server without its key would leave the repository API open"
    assert without.stdout == ""
