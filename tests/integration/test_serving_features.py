"""Each serving feature on a real tritonserver: what is declared is what it says of the model, and what it does.

Models are small python ones from one ConfigMap, rendered and served as a pod would (tests.harness.rendered).
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.harness.rendered import Running, start
from tests.harness.resources import service
from tests.harness.tritonserver import UnavailableError, installation

pytestmark = pytest.mark.timeout(180)
Json = dict[str, Any]

SCALE = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.executions = 0

    def execute(self, requests):
        time.sleep({seconds})
        answers = []
        for request in requests:
            self.executions += 1
            value = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            result = value * {factor} + {counts} * self.executions
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", result)]))
        return answers
"""


def tensor(name: str, *, dims: list[int] | None = None, data_type: str = "FP32") -> Json:
    return {"name": name, "dataType": data_type, "dims": dims or [1]}


def model(name: str, **fields: Any) -> Json:
    """A model x -> y of one number, whose file is `NAME.model.py` of the ConfigMap."""
    return {
        "name": name,
        "source": {"uri": f"configmap://files/{name}"},
        "backend": "python",
        "maxBatchSize": 0,
        "inputs": [tensor("x")],
        "outputs": [tensor("y")],
        **fields,
    }


def scale(*, factor: int = 1, counts: bool = False, seconds: float = 0) -> str:
    """The code of a model that multiplies, and with `counts` adds how often it was run."""
    return SCALE.format(factor=factor, counts=int(counts), seconds=seconds)


def ensemble(name: str, *steps: Json) -> Json:
    return {"name": name, "inputs": [tensor("x")], "outputs": [tensor("y")], "ensemble": {"steps": list(steps)}}


def step(name: str, source: str, target: str) -> Json:
    return {"model": name, "inputMap": {"x": source}, "outputMap": {"y": target}}


ADD_UP = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value, start, end, name = (
            pb_utils.get_input_tensor_by_name(request, tensor).as_numpy() for tensor in ("x", "START", "END", "ID")
        )
        key = int(name.item())
        # An empty place in the batch of an instance comes as a request with the id 0.
        self.sums[key] = value + (0 if start.item() else self.sums.get(key, 0))
        answer = pb_utils.InferenceResponse([pb_utils.Tensor("y", self.sums[key])])
        if end.item():
            del self.sums[key]
        return answer
"""
CONTROLS = [
    {"name": "START", "kind": "Start"},
    {"name": "END", "kind": "End", "dataType": "BOOL"},
    {"name": "ID", "kind": "CorrelationID"},
]
LIMITER = {"resources": [{"name": "unit", "global": True, "count": 1}], "priority": 2}


def sums(name: str, sequence: Json, **fields: Any) -> Json:
    """A model that adds up the numbers of each sequence."""
    batching = {"mode": "Sequence", "sequence": {**sequence, "controls": CONTROLS}}
    return model(name, maxBatchSize=4, batching=batching, **fields)


MODELS = [
    ensemble("a-outer", step("b-inner", "x", "t"), step("double", "t", "y")),
    ensemble("b-inner", step("triple", "half", "y"), step("double", "x", "half")),
    model("double"),
    model("triple"),
    model("cached", responseCache=True),
    model("plain"),
    model("turns", instances={"count": 4, "rateLimiter": LIMITER}),
    model("free", instances={"count": 4}),
    sums("direct", {"strategy": "Direct", "maxIdle": "30s"}, instances={"count": 2}),
    sums("oldest", {"strategy": "Oldest", "maxCandidates": 3, "maxIdle": "30s"}, instances={"count": 2}),
    sums("impatient", {"maxIdle": "300ms"}),
]
CODE = {
    "double": scale(factor=2),
    "triple": scale(factor=3),
    "cached": scale(counts=True),
    "plain": scale(counts=True),
    "turns": scale(seconds=0.3),
    "free": scale(seconds=0.3),
    **dict.fromkeys(("direct", "oldest", "impatient"), ADD_UP),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server with the models of every test: whether a feature works must not depend on what else is served."""
    try:
        installation()
    except UnavailableError as error:
        pytest.skip(str(error))
    data = {f"{name}.model.py": code for name, code in CODE.items()}
    config_map = {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": data}
    with ExitStack() as stack:
        yield start([config_map, service(models=MODELS)], tmp_path_factory.mktemp("features"), stack)


def ask(running: Running, name: str, number: float) -> float:
    value = np.array([number], dtype=np.float32)
    return float(running.infer(name, "x", value, "FP32", "y")[0])


def metric(running: Running, name: str, **labels: str) -> float:
    """One sample of the server's metrics; 0 when it has none of these labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    for line in lines:
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and wanted <= set(found[1].split(",")):
            return float(found[2])
    return 0.0


def test_a_repeated_request_is_answered_from_the_response_cache(running: Running) -> None:
    assert running.client.get_model_config("cached")["response_cache"] == {"enable": True}
    assert not running.client.get_model_config("plain").get("response_cache", {}).get("enable")
    assert [ask(running, "cached", 10) for _ in range(3)] == [11, 11, 11], "run once, remembered twice"
    assert ask(running, "cached", 20) == 22
    assert [ask(running, "plain", 10) for _ in range(3)] == [11, 12, 13]
    assert metric(running, "nv_cache_num_hits_per_model", model="cached") == 2
    assert metric(running, "nv_cache_num_misses_per_model", model="cached") == 2


def test_an_ensemble_runs_its_steps_whatever_their_order(running: Running) -> None:
    """The ensembles stand first, one within the other, so that nothing they need is loaded before them."""
    assert ask(running, "b-inner", 1) == 6
    assert ask(running, "a-outer", 1) == 12
    told = running.client.get_model_config("a-outer")
    assert told["platform"] == "ensemble"
    assert [
        (one["model_name"], one["input_map"], one["output_map"]) for one in told["ensemble_scheduling"]["step"]
    ] == [
        ("b-inner", {"x": "x"}, {"y": "t"}),
        ("double", {"x": "t"}, {"y": "y"}),
    ]


def continue_with(
    running: Running, name: str, sequence: int, number: float, *, start: bool = False, end: bool = False
) -> float:
    """The next request of a sequence."""
    value = triton_http.InferInput("x", [1, 1], "FP32")
    value.set_data_from_numpy(np.array([[number]], dtype=np.float32))
    answer = running.client.infer(name, [value], sequence_id=sequence, sequence_start=start, sequence_end=end)
    return float(answer.as_numpy("y").item())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("direct", {"direct": {"max_queue_delay_microseconds": 0, "minimum_slot_utilization": 0}}),
        ("oldest", {"oldest": {"max_candidate_sequences": 3}}),
    ],
)
def test_requests_of_a_sequence_reach_the_instance_that_knows_it(running: Running, name: str, told: Json) -> None:
    """Two instances each keep their own sums: a request that went to the other one would be answered wrongly."""
    batcher = running.client.get_model_config(name)["sequence_batching"]
    assert int(batcher["max_sequence_idle_microseconds"]) == 30_000_000
    [(chosen, settings)] = told.items()
    assert settings.items() <= batcher[chosen].items()
    kinds = {one["name"]: one["control"][0]["kind"] for one in batcher["control_input"]}
    assert kinds == {
        "START": "CONTROL_SEQUENCE_START",
        "END": "CONTROL_SEQUENCE_END",
        "ID": "CONTROL_SEQUENCE_CORRID",
    }

    assert [continue_with(running, name, one, one, start=True) for one in (1, 2, 3)] == [1, 2, 3]
    assert [continue_with(running, name, one, 10) for one in (3, 1, 2)] == [13, 11, 12]
    assert [continue_with(running, name, one, 100, end=True) for one in (2, 3, 1)] == [112, 113, 111]
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        continue_with(running, name, 1, 1)


def test_a_sequence_that_is_silent_for_too_long_is_over(running: Running) -> None:
    def goes_on() -> bool:
        """When it is continued in time, which a busy machine does not always manage."""
        assert continue_with(running, "impatient", 7, 1, start=True) == 1
        try:
            return continue_with(running, "impatient", 7, 1) == 2
        except InferenceServerException:
            return False

    running.sidecar.until(goes_on)

    def refused() -> bool:
        time.sleep(0.6)  # asked sooner it would not be silent: each request lets the sequence live on
        try:
            continue_with(running, "impatient", 7, 1)
        except InferenceServerException as error:
            return "must specify the START flag" in str(error)
        return False

    running.sidecar.until(refused)


def seconds_of_four_at_once(running: Running, name: str) -> float:
    """How long four requests take together, each of 300 ms, from four clients."""
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    began = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        answers = [
            clients.submit(running.server.request, f"/v2/models/{name}/infer", {"inputs": [tensor]}) for _ in range(4)
        ]
        assert [answer.result()[0] for answer in answers] == [200] * 4
    return time.monotonic() - began


def test_instances_that_share_a_resource_take_turns(running: Running) -> None:
    """Four copies each: those that need the only unit run one after another, the others beside each other."""
    [group] = running.client.get_model_config("turns")["instance_group"]
    assert group["rate_limiter"] == LIMITER
    assert seconds_of_four_at_once(running, "turns") >= 4 * 0.3
    # Beside each other: on a busy machine not at every try, one after the other never.
    running.sidecar.until(lambda: seconds_of_four_at_once(running, "free") < 4 * 0.3, seconds=120)
