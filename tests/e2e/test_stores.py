"""Models from an object store, fetched by real pods with the credentials of a Secret, once for all pods."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from localcluster.config import DEFAULT_NAME, find_cluster
from nereus.api import names
from tests.e2e.claims import claim, run_pod
from tests.e2e.world import DOUBLE, Json, World, model
from tests.harness.s3 import ACCESS, SECRET, s3_server

BOUND = 1 << 20
FILES = {"1/model.py": DOUBLE.encode(), "1/weights.bin": hashlib.shake_128(b"weights").digest(BOUND * 2 // 3)}
"""Two models of this size do not fit into the bound."""
LISTED = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in sorted(FILES.items()))
CHECKSUM = f"sha256:{hashlib.sha256(LISTED.encode()).hexdigest()}"


def test_two_pods_share_a_cache_on_a_claim_that_stays_within_its_bound(world: World, tmp_path: Path) -> None:
    """First without the Secret: the status says which one is missing, and its arrival is enough. Two pods that start
    at once fetch once. A pod that starts while the store is away serves what the others fetched. A second model, for
    which there is no room on the claim, is served all the same."""
    if not world.kube.routed:
        pytest.skip("needs the local cluster: its pods reach a server on this machine")
    with claim(world, sweep="nereus-models-1"):
        run_pod(world, "open", "chmod 0777 /claim")
        with s3_server(tmp_path, address=find_cluster(DEFAULT_NAME).addresses.host) as server:
            for name, body in FILES.items():
                server.put(f"models/zoo/double/{name}", body)
                server.put(f"models/zoo/other/{name}", body)
            _serve(world)
            said = world.wait_reason("FetchFailed", seconds=120)
            assert "the Secret reader of source.secretName does not exist in this namespace" in said
            _secret(world, server.endpoint)
            world.wait_ready(seconds=240)
            first = world.pods()
            assert len(first) == 2
            assert sorted(line["fetched"] for pod in first for line in _logged(world, pod)) == [False, True]

            server.kill()
            gone = first[0]["metadata"]["name"]
            world.kube.kubectl("-n", world.namespace, "delete", "pod", gone, "--wait=false")
            world.wait(lambda: len(_ready(world) - {gone}) == 2, "another pod to serve", seconds=240)
            known = {pod["metadata"]["name"] for pod in first}
            [new] = [pod for pod in world.pods() if pod["metadata"]["name"] not in known]
            assert [line["fetched"] for line in _logged(world, new)] == [False]

            server.start()
            _serve(world, "other")
            world.wait_ready(seconds=240)
            assert np.array_equal(world.infer(), [[2.0, 4.0]])
            assert np.array_equal(world.infer(model="other"), [[2.0, 4.0]])
            for pod in world.pods():
                lines = _logged(world, pod, "fetched without the cache")
                assert {"what is in it is in use" in line["why"] for line in lines} == {True}
            used = int(run_pod(world, "measure", "du -s --apparent-size -B1 /claim/nereus-models-1/entries").split()[0])
            assert len(FILES["1/weights.bin"]) < used <= BOUND


def _serve(world: World, *more: str) -> None:
    models = [model(name) for name in ("double", *more)]
    for declared in models:
        uri = f"s3://models/zoo/{declared['name']}"
        declared["source"] = {"uri": uri, "secretName": "reader", "checksum": CHECKSUM}
    world.apply(
        models=models,
        scaling={"strategy": "Manual", "replicas": 2},
        runtime={"modelCache": {"claimName": "models", "size": f"{BOUND}"}},
    )


def _secret(world: World, endpoint: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reader"}, "stringData": keys}
    world.kube.apply(secret, namespace=world.namespace)
    for pod in world.pods():
        world.kube.kubectl("-n", world.namespace, "annotate", "pod", pod["metadata"]["name"], "nudge=secret")


def _ready(world: World) -> set[str]:
    """Names of the pods that are ready."""
    return {
        pod["metadata"]["name"]
        for pod in world.pods()
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def _logged(world: World, pod: Json, message: str = "served from the cache") -> list[Json]:
    """Lines of a sidecar's log."""
    name = pod["metadata"]["name"]
    text = world.kube.kubectl("-n", world.namespace, "logs", name, "-c", names.CONTAINER_SIDECAR)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("message") == message]
