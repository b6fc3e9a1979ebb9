"""What changes in a running pod, on a real tritonserver: a plan that is tried first, instances and versions in place,
what somebody else changes in Triton, and what batches cost. One pod serves all of these tests, one after the other.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from nereus.api.protocol import ModelPlan, ModelReport, ModelState, Plan, digest
from nereus.api.stages import Bundle
from nereus.workload import stages
from nereus.workload.plan import packed
from nereus.workload.stages import RunningPod, Situation
from tests.harness.sidecar import SidecarProcess
from tests.harness.tritonserver import TritonServer, UnavailableError, installation

pytestmark = pytest.mark.timeout(240)

MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        sizes = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        time.sleep({fixed} + {each} * sum(len(value) for value in sizes))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", value * {factor})]) for value in sizes]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [-1] }
output { name: "y" data_type: TYPE_FP32 dims: [-1] }
"""
POD = "svc-6d5f9c7b8d-x2k4p"


@dataclass
class Pod:
    """A sidecar and a Triton that share a repository; plans are written as the operator stages them."""

    root: Path
    sidecar: SidecarProcess
    triton: TritonServer
    live: tuple[dict[str, str], ...] = ()

    def model(self, name: str, *, factor: int = 2, version: int = 1, fields: str = "", **code: Any) -> ModelPlan:
        """Writes the files of one version, and says how it is to be served."""
        folder = self.root / "sources" / name
        folder.mkdir(parents=True, exist_ok=True)
        filled = {"factor": factor, "initialize": "pass", "fixed": 0.0, "each": 0.0, **code}
        key = "model.py" if version == 1 else f"v{version}.model.py"
        (folder / key).write_text(MODEL.format(**filled))
        (folder / "config.pbtxt").write_text(CONFIG)
        return ModelPlan(name=name, source=f"configmap://{name}", directory=str(folder), fields_text=fields)

    def wish(self, *models: ModelPlan, tries: bool = False) -> Bundle:
        """Writes what the operator would: for every pod, or for this pod to try first."""
        documents = {model.name: model.to_json() for model in models}
        plan = Plan(models={name: digest(text) for name, text in documents.items()})
        wanted = Bundle(plan=plan, documents=documents)
        shards = packed(plan, documents)
        if tries:
            this = RunningPod(name=POD, ready=True, report=self.sidecar.report())
            shards = stages.decide(wanted, shards, self.live, Situation(pods=(this,))).data
        self.live = shards
        for path in self.sidecar.plan.glob("next.*"):
            path.unlink()
        for key, text in {key: text for shard in shards for key, text in shard.items()}.items():
            temporary = self.root / "temporary"
            temporary.write_text(text)
            temporary.replace(self.sidecar.plan / key)
        return wanted

    def until(self, condition: Any, *, seconds: float = 60.0) -> None:
        try:
            self.sidecar.until(condition, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nTriton's log ends:\n{self.triton.tail()}") from None

    def report(self, name: str) -> ModelReport:
        known = {model.name: model for model in self.sidecar.report().models}
        return known.get(name) or ModelReport(name=name, state=ModelState.PENDING)

    def serves(self, wanted: Bundle) -> bool:
        return stages.serves(self.sidecar.report(), wanted)

    def config(self, name: str) -> dict[str, Any]:
        status, body = self.triton.request(f"/v2/models/{name}/config")
        assert status == 200, body
        assert isinstance(body, dict)
        return body

    def loads(self, name: str) -> int:
        return self.triton.log.read_text(errors="replace").count(f'"loading: {name}:')


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    try:
        installation()
    except UnavailableError as error:
        pytest.skip(f"no real Triton here: {error}")
    root = tmp_path_factory.mktemp("pod")
    triton = TritonServer(root / "models", root / "triton.log")
    http_port, grpc_port, metrics_port = triton.ports
    sidecar = SidecarProcess(root, (http_port, grpc_port, metrics_port), (f"--pod={POD}",))
    with triton, sidecar:
        made = Pod(root, sidecar, triton)
        wanted = made.wish(made.model("m"), made.model("leaves", factor=5))
        sidecar.start()
        sidecar.until(lambda: sidecar.get("/started")[0] == 200)
        triton.admin_key = sidecar.admin_key.read_text()
        triton.start()
        made.until(lambda: made.serves(wanted))
        yield made


class Traffic:
    """Clients that ask one model over persistent gRPC connections; every answer is checked."""

    def __init__(self, pod: Pod, model: str, *, clients: int = 4, batch: int = 1) -> None:
        self.answered, self.errors = 0, list[str]()
        self._address, self._model, self._batch = f"127.0.0.1:{pod.triton.grpc_port}", model, batch
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        tensor = triton_grpc.InferInput("x", [self._batch, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((self._batch, 1), dtype=np.float32))
        with triton_grpc.InferenceServerClient(self._address) as client:
            while not self._stop.is_set():
                try:
                    answer = client.infer(self._model, [tensor], client_timeout=30).as_numpy("y")
                    assert answer is not None
                    assert answer.shape == (self._batch, 1)
                    self.answered += 1
                except Exception as error:  # whatever a client would see
                    self.errors.append(str(error))

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_a_plan_that_is_tried_takes_nothing_away_before_it_works(pod: Pod) -> None:
    broken = pod.model("comes", initialize='raise RuntimeError("wrong weights")')
    tried = pod.wish(pod.model("m", fields="max_batch_size: 4"), broken, tries=True)
    pod.until(lambda: pod.report("comes").state is ModelState.LOAD_FAILED)
    report = pod.sidecar.report()
    assert (report.revision, report.stages, report.ready) == (tried.revision, True, True)
    assert "wrong weights" in pod.report("comes").message
    assert pod.triton.infer("leaves", [1]) == [5], "what the plan leaves out is served until the plan works"
    pod.model("comes", factor=7)
    pod.until(lambda: pod.serves(tried))
    pod.until(lambda: pod.triton.request("/v2/models/leaves/ready")[0] == 400)
    assert pod.triton.infer("comes", [1]) == [7]
    pod.wish(pod.model("m", fields="max_batch_size: 4"), pod.model("comes", factor=7))
    time.sleep(1.0)  # the plan becomes that of all pods; nothing is to happen here
    assert pod.sidecar.report().revision == tried.revision
    assert pod.loads("m") == 2


def test_a_change_that_takes_triton_down_is_taken_back_and_a_corrected_one_is_tried(pod: Pod) -> None:
    """The loading model kills its server, as a broken backend does; what restarts it is this test, as a kubelet."""
    before = pod.wish(pod.model("m", fields="max_batch_size: 4"), pod.model("comes", factor=7))
    pod.until(lambda: pod.serves(before))
    kills = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    tried = pod.wish(pod.model("m", fields="max_batch_size: 4"), pod.model("kills", initialize=kills), tries=True)
    assert pod.triton.process is not None
    pod.triton.process.wait(60)
    pod.triton.kill()
    pod.until(lambda: pod.sidecar.report().rejected == tried.revision)
    pod.triton.start()
    pod.until(lambda: pod.serves(before))
    report = pod.sidecar.report()
    assert report.rejected_why == "Triton ended while it loaded kills"
    assert pod.triton.infer("comes", [1]) == [7]
    pod.sidecar.stop()
    pod.sidecar.start()
    pod.until(lambda: pod.serves(before))
    assert pod.sidecar.report().rejected == tried.revision, "also after a restart of the sidecar"
    assert pod.loads("kills") == 1
    corrected = pod.wish(pod.model("m", fields="max_batch_size: 4"), pod.model("comes", factor=3), tries=True)
    pod.until(lambda: pod.serves(corrected))
    pod.wish(pod.model("m", fields="max_batch_size: 4"), pod.model("comes", factor=3))


def test_a_plan_for_another_pod_is_not_taken(pod: Pod) -> None:
    before = pod.sidecar.report().revision
    wanted = pod.model("m", fields="max_batch_size: 2")
    other = RunningPod(name="svc-another", ready=True, report=pod.sidecar.report())
    documents = {"m": wanted.to_json()}
    plan = Plan(models={"m": digest(documents["m"])})
    bundle = Bundle(plan=plan, documents=documents)
    stage = stages.decide(bundle, packed(plan, documents), pod.live, Situation(pods=(other,)))
    for key, text in stage.data[0].items():
        (pod.sidecar.plan / key).write_text(text)
    time.sleep(1.5)  # several looks of the sidecar
    assert pod.sidecar.report().revision == before
    assert pod.config("m")["max_batch_size"] == 4


def test_instances_are_added_in_place_under_load_and_versions_come_and_go(pod: Pod) -> None:
    wanted = pod.wish(pod.model("m"))
    pod.until(lambda: pod.serves(wanted))
    with Traffic(pod, "m") as traffic:
        before = pod.triton.log.read_text(errors="replace").count("successfully loaded 'm'")
        more = pod.wish(pod.model("m", fields="instance_group [{ count: 2 kind: KIND_CPU }]"))
        pod.until(lambda: pod.serves(more))
        assert pod.config("m")["instance_group"][0]["count"] == 2
        after = pod.triton.log.read_text(errors="replace").count("successfully loaded 'm'")
        assert after - before <= 1, "one change, and no second copy behind the first"

        all_versions = pod.model("m", fields="version_policy { all {} }")
        pod.model("m", version=3, factor=30)
        wanted = pod.wish(all_versions)
        pod.until(lambda: pod.report("m").versions == ("1", "3"))
        status, answer = pod.triton.request(
            "/v2/models/m/versions/3/infer",
            {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]},
        )
        assert (status, answer["outputs"][0]["data"]) == (200, [30.0])  # type: ignore[index]
        (pod.root / "sources" / "m" / "v3.model.py").unlink()
        pod.until(lambda: pod.report("m").versions == ("1",))
    assert traffic.errors == []
    assert traffic.answered > 50


def test_what_somebody_changes_in_triton_is_noticed_said_and_put_right(pod: Pod) -> None:
    wanted = pod.wish(pod.model("m"))
    pod.until(lambda: pod.serves(wanted))
    right = pod.config("m")
    tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
    tensors = {"input": [{"name": "x", **tensor}], "output": [{"name": "y", **tensor}]}
    override = json.dumps({"backend": "python", "max_batch_size": 3, **tensors})
    with Traffic(pod, "m") as traffic:
        body = {"parameters": {"config": override}}
        assert pod.triton.request("/v2/repository/models/m/load", body)[0] == 200
        pod.until(lambda: "max_batch_size" in pod.report("m").drift)
        pod.until(lambda: pod.serves(wanted) and pod.config("m") == right)
    assert traffic.errors == []
    assert 'nereus_model_drifts_total{model="m"} 1' in pod.sidecar.get("/metrics")[1]
    assert pod.triton.request("/v2/repository/models/m/unload", {})[0] == 200
    pod.until(lambda: "unloaded" in pod.report("m").drift and pod.serves(wanted))
    assert pod.triton.infer("m", [1]) == [2]


def test_what_a_batch_costs_is_learned_from_what_was_run(pod: Pod) -> None:
    plan = pod.model("timed", fixed=0.010, each=0.004)
    wanted = pod.wish(pod.model("m"), plan)
    pod.until(lambda: pod.serves(wanted))
    time.sleep(1.3)  # learning begins with what is loaded now

    def metric(name: str) -> float | None:
        prefix = f'{name}{{model="timed",version="1"}} '
        lines = pod.sidecar.get("/metrics")[1].splitlines()
        return next((float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)), None)

    with Traffic(pod, "timed", clients=1, batch=1):
        pod.until(lambda: (metric("nereus_model_batch_samples") or 0) >= 10)
    assert metric("nereus_model_batch_seen_max") == 1
    assert metric("nereus_model_batch_fixed_seconds") == 0
    assert (metric("nereus_model_batch_seconds_per_inference") or 0) >= 0.014
    with Traffic(pod, "timed", clients=1, batch=8):
        pod.until(lambda: metric("nereus_model_batch_seen_max") == 8)
        pod.until(lambda: (metric("nereus_model_batch_samples") or 0) >= 60)
    fixed, each = metric("nereus_model_batch_fixed_seconds"), metric("nereus_model_batch_seconds_per_inference")
    assert fixed is not None
    assert each is not None
    # A sleep never ends early and, on a busy machine, late.
    assert 0.042 <= fixed + 8 * each <= 0.2
    assert 0.0 <= each <= 0.03
