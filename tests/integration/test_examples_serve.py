"""The examples serve: rendered as a pod, the pod's two containers run here as processes, and a client gets answers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.harness.rendered import RenderedTriton, Running, start
from tests.harness.tritonserver import UnavailableError, installation

pytestmark = pytest.mark.timeout(180)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts an example, once for all tests of it."""
    try:
        installation()
    except UnavailableError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:

        @functools.cache
        def start_example(example: str) -> Running:
            documents = yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text())
            return start(documents, tmp_path_factory.mktemp(example), stack)

        yield start_example


def test_the_quickstart_tells_flowers_apart_in_batches(run: Any) -> None:
    running: Running = run("quickstart")
    flowers = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 2.7, 4.2, 1.3], [6.5, 3.0, 5.6, 2.1]], dtype=np.float32)
    answer = running.infer("classifier", "INPUT", flowers, "FP32", "OUTPUT")
    assert answer.shape == (3, 3)
    assert answer.argmax(axis=1).tolist() == [0, 1, 2]
    assert np.allclose(answer.sum(axis=1), 1)
    config = running.client.get_model_config("classifier")
    assert "dynamic_batching" in config
    assert config["max_batch_size"] == 16
    [statistics] = running.client.get_inference_statistics("classifier")["model_stats"]
    assert int(statistics["inference_stats"]["success"]["count"]) == 3, "two warm-up requests and ours"


def test_clients_cannot_load_or_unload_models(run: Any) -> None:
    server: RenderedTriton = run("quickstart").server
    path = "/v2/repository/models/classifier/unload"
    assert server.request(path, {}, key="wrong")[0] == 403
    assert server.request("/v2/models/classifier/ready")[0] == 200


def test_two_models_come_out_of_one_config_map(run: Any) -> None:
    running: Running = run("two-models")
    numbers = np.array([[1.0, 2.5]], dtype=np.float32)
    assert running.infer("double", "INPUT", numbers, "FP32", "OUTPUT").tolist() == [[2.0, 5.0]]
    texts = np.array([b"four", b""], dtype=np.object_)
    assert running.infer("length", "TEXT", texts, "BYTES", "LENGTH").tolist() == [4, 0]
    groups = running.client.get_model_config("length")["instance_group"]
    assert [(group["count"], group["kind"]) for group in groups] == [(2, "KIND_CPU")]
