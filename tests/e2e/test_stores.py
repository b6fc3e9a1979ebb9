"""Models from an object store, fetched by real pods with the credentials of a Secret."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localcluster.config import DEFAULT_NAME, find_cluster
from tests.e2e.world import DOUBLE, World, model
from tests.harness.s3 import ACCESS, SECRET, s3_server


def test_a_model_from_s3_is_fetched_with_the_credentials_of_a_secret(world: World, tmp_path: Path) -> None:
    """First without the Secret: the status says which one is missing, and its arrival is enough."""
    if not world.kube.routed:
        pytest.skip("needs the local cluster: its pods reach a server on this machine")
    with s3_server(tmp_path, address=find_cluster(DEFAULT_NAME).addresses.host) as server:
        server.put("models/zoo/double/1/model.py", DOUBLE.encode())
        source = {"uri": "s3://models/zoo/double", "secretName": "reader"}
        world.apply(models=[{**model(), "source": source}])
        said = world.wait_reason("FetchFailed")
        assert "the Secret reader of source.secretName does not exist in this namespace" in said
        world.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "reader"},
                "stringData": {
                    "AWS_ACCESS_KEY_ID": ACCESS,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "AWS_ENDPOINT_URL": server.endpoint,
                },
            },
            namespace=world.namespace,
        )
        [pod] = world.pods()
        world.kube.kubectl("-n", world.namespace, "annotate", "pod", pod["metadata"]["name"], "nudge=secret")
        world.wait_ready()
    assert np.array_equal(world.infer(), [[2.0, 4.0]])
