"""Changes under a steady load: no request fails for persistent gRPC clients, nor for HTTP clients that retry once on
a closed connection."""

from __future__ import annotations

from demo.load import Outcome
from tests.e2e.world import World, model

CLIENTS = 4


def _assert_none_lost(grpc: Outcome, http: Outcome) -> None:
    print(f"gRPC: {grpc}\nHTTP: {http}")
    assert grpc.failed == 0, grpc.errors[:10]
    assert http.failed == 0, http.errors[:10]
    assert grpc.answered > 500
    assert http.answered > 500


def test_a_rolling_change_and_a_scale_down_lose_no_request(world: World) -> None:
    world.models_config_map()
    world.apply(scaling={"strategy": "Manual", "replicas": 2})
    world.wait_ready()
    first = {pod["metadata"]["uid"] for pod in world.pods()}
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as grpc_address,
        world.kube.address("svc", 8000, namespace=world.namespace) as http_address,
        world.load(grpc_address, protocol="grpc", clients=CLIENTS) as grpc,
        world.load(http_address, protocol="http", clients=CLIENTS) as http,
    ):
        world.wait(lambda: min(grpc.outcome.answered, http.outcome.answered) > 200, "traffic", seconds=30)

        world.apply(scaling={"strategy": "Manual", "replicas": 2}, runtime={"env": [{"name": "ROLL", "value": "1"}]})
        world.wait_ready(seconds=180)
        world.wait(
            lambda: not first & {pod["metadata"]["uid"] for pod in world.pods()}, "both pods replaced", seconds=60
        )
        assert grpc.outcome.failed == 0, grpc.outcome.errors[:10]

        world.kube.kubectl("-n", world.namespace, "scale", "msvc", "svc", "--replicas=1")
        world.wait(lambda: len(world.kube.items("pods", namespace=world.namespace)) == 1, "one pod left", seconds=90)
        seen = grpc.outcome.answered
        world.wait(lambda: grpc.outcome.answered > seen + 200, "traffic after the scale-down", seconds=30)
    _assert_none_lost(grpc.outcome, http.outcome)


def test_a_changed_model_is_swapped_under_load_without_a_lost_request(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as grpc_address,
        world.kube.address("svc", 8000, namespace=world.namespace) as http_address,
        world.load(grpc_address, protocol="grpc", clients=CLIENTS) as grpc,
        world.load(http_address, protocol="http", clients=CLIENTS) as http,
    ):
        world.wait(lambda: min(grpc.outcome.answered, http.outcome.answered) > 200, "traffic", seconds=30)
        world.apply(models=[model(parameters={"factor": "7"}, batching={"maxQueueDelay": "1ms"})])
        world.wait(lambda: world.infer()[0][0] == 7.0, "the changed model to answer", seconds=60)
        seen = grpc.outcome.answered
        world.wait(lambda: grpc.outcome.answered > seen + 200, "traffic after the change", seconds=30)
    _assert_none_lost(grpc.outcome, http.outcome)
