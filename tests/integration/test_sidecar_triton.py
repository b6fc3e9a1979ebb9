"""The sidecar beside a real tritonserver: what is served, what stays served when something fails, how a pod ends."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nereus.api.protocol import REPOSITORY, ModelPlan, ModelReport, ModelState
from tests.harness.sidecar import SidecarProcess
from tests.harness.tritonserver import TritonServer, UnavailableError, installation

pytestmark = pytest.mark.timeout(240)

MODEL = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        time.sleep({seconds})
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy() * {factor})]
            )
            for request in requests
        ]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [-1] }
output { name: "y" data_type: TYPE_FP32 dims: [-1] }
"""


@dataclass
class Pod:
    """A sidecar and a Triton that share a repository, started in the order of a pod."""

    root: Path
    sidecar: SidecarProcess
    triton: TritonServer
    plans: dict[str, ModelPlan] = field(default_factory=dict)
    _log_read: int = 0

    def source(self, name: str, *, factor: int = 2, initialize: str = "pass", seconds: float = 0.0) -> Path:
        """A ConfigMap's directory; written again, it is a change of the model."""
        folder = self.root / "sources" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = MODEL.format(factor=factor, initialize=initialize, seconds=seconds)
        (folder / "model.py").write_text(text)
        (folder / "config.pbtxt").write_text(CONFIG)
        return folder

    def serve(self, name: str, *, source: Path | None = None, fields: str = "") -> ModelPlan:
        """Puts a model into the plan; `apply` writes it."""
        directory = source or self.root / "sources" / name
        plan = ModelPlan(name=name, source=f"configmap://{name}", directory=str(directory), fields_text=fields)
        self.plans[name] = plan
        return plan

    def apply(self) -> None:
        self.sidecar.write_plan(*self.plans.values())

    def start(self, *triton_arguments: str) -> None:
        self.apply()
        self.sidecar.start()
        self.sidecar.until(lambda: self.sidecar.get("/started")[0] == 200)
        self.triton.admin_key = self.sidecar.admin_key.read_text()
        self.triton.arguments = triton_arguments
        self.triton.start()

    def until(self, condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        try:
            self.sidecar.until(condition, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nTriton's log ends:\n{self.triton.tail()}") from None

    def ready(self) -> bool:
        return self.sidecar.get("/ready")[0] == 200

    def serves(self) -> bool:
        """Ready, and with every model of the plan loaded: what a pod that was ready before comes to."""
        return self.ready() and all(self.model(name).state is ModelState.READY for name in self.plans)

    def model(self, name: str) -> ModelReport:
        """What the sidecar says of a model; Pending while it has not heard of it."""
        known = {model.name: model for model in self.sidecar.report().models}
        return known.get(name) or ModelReport(name=name, state=ModelState.PENDING)

    def reaches(self, name: str, state: ModelState, words: str = "") -> ModelReport:
        def there() -> bool:
            model = self.model(name)
            return model.state is state and words in model.message

        self.until(there)
        return self.model(name)

    def loads(self, name: str) -> int:
        """How often Triton began to load a version of the model during this test, by its log."""
        return self.triton.log.read_bytes()[self._log_read :].decode(errors="replace").count(f'"loading: {name}:')

    def empty(self) -> None:
        """As it was before the first plan."""
        self.plans.clear()
        self.apply()
        self.until(lambda: not self.sidecar.report().models)
        shutil.rmtree(self.root / "sources", ignore_errors=True)
        self._log_read = self.triton.log.stat().st_size


@contextmanager
def _pod(root: Path) -> Iterator[Pod]:
    try:
        installation()
    except UnavailableError as error:
        pytest.skip(f"no real Triton here: {error}")
    triton = TritonServer(root / "models", root / "triton.log")
    http_port, grpc_port, metrics_port = triton.ports
    arguments = ("--drain-min=0.5", "--drain-max=20", "--drain-counts-loopback")
    sidecar = SidecarProcess(root, (http_port, grpc_port, metrics_port), arguments)
    with triton, sidecar:
        yield Pod(root, sidecar, triton)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """A pod that has not started yet, for one test."""
    with _pod(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def long_lived_pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with _pod(tmp_path_factory.mktemp("pod")) as made:
        made.start()
        yield made


@pytest.fixture
def running_pod(long_lived_pod: Pod) -> Pod:
    """A pod that runs, with nothing in its plan: for tests that do not ask how a pod starts."""
    long_lived_pod.empty()
    return long_lived_pod


def test_a_plan_becomes_a_served_model_with_the_merged_configuration(pod: Pod) -> None:
    pod.source("m")
    pod.serve("m", fields="max_batch_size: 4 dynamic_batching { preferred_batch_size: [4] }")
    pod.start()
    pod.until(pod.ready)
    assert pod.triton.infer("m", [1, 2]) == [2, 4]
    _, config = pod.triton.request("/v2/models/m/config")
    assert isinstance(config, dict)
    assert config["max_batch_size"] == 4
    assert config["dynamic_batching"]["preferred_batch_size"] == [4]
    pod.until(lambda: pod.model("m").kinds == ("KIND_CPU",))  # what Triton settled on: here is no GPU
    report = pod.sidecar.report()
    assert report.ready
    assert report.server_live
    assert report.models == (pod.model("m"),)
    model = pod.model("m")
    assert (model.state, model.versions, model.conflicts) == (ModelState.READY, ("1",), ("max_batch_size",))
    assert model.load_seconds is not None
    moments = (report.started_at, report.fetched_at, report.server_live_at, report.ready_at)
    assert list(moments) == sorted(moment for moment in moments if moment is not None)
    assert 'nereus_model_ready{model="m"} 1' in pod.sidecar.get("/metrics")[1]


def test_only_who_has_the_key_may_change_what_is_loaded(running_pod: Pod) -> None:
    pod = running_pod
    pod.source("m")
    pod.serve("m")
    pod.apply()
    pod.until(pod.serves)
    assert pod.triton.request("/v2/repository/models/m/unload", {}, key="guess")[0] == 403
    assert pod.triton.infer("m", [1]) == [2]


def test_a_model_without_configuration_is_completed_by_triton(running_pod: Pod) -> None:
    pod = running_pod
    folder = pod.source("m")
    (folder / "config.pbtxt").unlink()
    completion = """
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(8)
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [-1]})
        return config
"""
    (folder / "model.py").write_text((folder / "model.py").read_text() + completion)
    pod.serve("m")
    pod.apply()
    pod.until(pod.serves)
    assert pod.triton.infer("m", [3]) == [6]


def test_models_come_and_go_without_a_restart(running_pod: Pod) -> None:
    pod = running_pod
    for name in ("first", "My.model_v1-2"):
        pod.source(name)
    pod.serve("first")
    pod.apply()
    pod.until(pod.serves)
    pod.serve("My.model_v1-2")
    pod.apply()
    pod.reaches("My.model_v1-2", ModelState.READY)
    assert pod.triton.infer("My.model_v1-2", [1]) == [2]
    del pod.plans["first"]
    pod.apply()
    pod.until(lambda: [model.name for model in pod.sidecar.report().models] == ["My.model_v1-2"])
    assert pod.triton.request("/v2/models/first/ready")[0] == 400
    assert not (pod.sidecar.repository / "first").exists()
    assert pod.ready()
    assert pod.triton.infer("My.model_v1-2", [1]) == [2]
    assert pod.loads("My.model_v1-2") == 1


def test_a_reload_that_fails_keeps_the_old_model_serving_also_over_a_crash_of_triton(pod: Pod) -> None:
    pod.source("m", factor=2)
    pod.serve("m")
    pod.start()
    pod.until(pod.ready)
    pod.source("m", factor=3, initialize='raise RuntimeError("the weights do not fit")')
    model = pod.reaches("m", ModelState.LOAD_FAILED, "the weights do not fit")
    assert model.message.startswith("version 1: Internal: RuntimeError: the weights do not fit")
    assert model.serving
    assert pod.ready()
    assert pod.triton.infer("m", [1]) == [2]

    pod.triton.kill()
    pod.until(lambda: not pod.ready())
    pod.triton.start()
    pod.until(pod.ready)
    assert pod.triton.infer("m", [1]) == [2]
    assert pod.model("m").state is ModelState.LOAD_FAILED

    pod.source("m", factor=5)
    pod.reaches("m", ModelState.READY)
    assert pod.triton.infer("m", [1]) == [5]


def test_a_configuration_that_triton_refuses_is_reported_and_changes_nothing(running_pod: Pod) -> None:
    pod = running_pod
    pod.source("m")
    pod.serve("m")
    pod.apply()
    pod.until(pod.serves)
    pod.serve("m", fields="dynamic_batching { preferred_batch_size: [64] }")
    pod.apply()
    model = pod.reaches("m", ModelState.LOAD_FAILED, "Poll failed for model directory 'm'")
    assert model.serving
    assert pod.triton.infer("m", [1]) == [2]
    pod.serve("m")
    pod.apply()
    pod.reaches("m", ModelState.READY)
    assert pod.loads("m") == 1


def test_a_new_pod_is_not_ready_while_one_of_its_models_does_not_load(pod: Pod) -> None:
    pod.source("good")
    pod.source("bad", initialize='raise ValueError("no such tokenizer")')
    pod.serve("good")
    pod.serve("bad")
    pod.start()
    pod.reaches("bad", ModelState.LOAD_FAILED, "no such tokenizer")
    pod.reaches("good", ModelState.READY)
    status, body = pod.sidecar.get("/ready")
    assert status == 503
    assert "bad: LoadFailed: version 1: Internal: ValueError: no such tokenizer" in json.loads(body)["reasons"][0]
    pod.source("bad")
    pod.until(pod.ready)


def test_a_source_that_is_missing_does_not_keep_the_others_from_being_served(pod: Pod) -> None:
    pod.source("here")
    pod.serve("here")
    pod.serve("late")
    pod.start()
    pod.reaches("here", ModelState.READY)
    pod.reaches("late", ModelState.FETCH_FAILED, "ConfigMap late does not exist")
    assert not pod.ready()
    assert pod.triton.infer("here", [1]) == [2]
    pod.source("late")
    pod.until(pod.ready)
    assert pod.triton.infer("late", [1]) == [2]


def test_an_ensemble_loads_when_its_steps_do(running_pod: Pod) -> None:
    pod = running_pod
    folder = pod.root / "sources" / "a-ensemble"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(
        """platform: "ensemble" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [-1] } output { name: "y" data_type: TYPE_FP32 dims: [-1] }
        ensemble_scheduling { step { model_name: "step" model_version: -1
          input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }"""
    )
    pod.serve("a-ensemble")
    pod.serve("step")
    pod.apply()
    pod.reaches("a-ensemble", ModelState.LOAD_FAILED)
    pod.source("step")
    pod.until(pod.serves)
    assert pod.triton.infer("a-ensemble", [4]) == [8]


def test_a_triton_that_crashed_serves_everything_again(pod: Pod) -> None:
    for name in ("a", "b", "c"):
        pod.source(name)
        pod.serve(name)
    pod.start()
    pod.until(pod.ready)
    pod.triton.kill()
    pod.until(lambda: not pod.ready())
    pod.until(lambda: not pod.sidecar.report().server_live)
    pod.triton.start()
    pod.until(pod.ready)
    assert [pod.triton.infer(name, [1]) for name in ("a", "b", "c")] == [[2], [2], [2]]
    assert [pod.loads(name) for name in ("a", "b", "c")] == [2, 2, 2], "once before the crash and once after"


def test_a_sidecar_that_restarts_touches_nothing_that_is_served(pod: Pod) -> None:
    pod.source("m")
    pod.serve("m")
    pod.start()
    pod.until(pod.ready)
    pod.until(lambda: pod.sidecar.report().ready_at is not None)  # noted a moment after it is answered
    before = pod.sidecar.report()
    config = (pod.sidecar.repository / "m/config.pbtxt").stat().st_mtime_ns
    pod.sidecar.stop()
    pod.sidecar.start()
    pod.until(pod.ready)
    pod.reaches("m", ModelState.READY)
    assert pod.loads("m") == 1
    assert (pod.sidecar.repository / "m/config.pbtxt").stat().st_mtime_ns == config
    after = pod.sidecar.report()
    assert (after.started_at, after.ready_at) == (before.started_at, before.ready_at)


def test_batching_changes_live_without_a_failed_request(running_pod: Pod) -> None:
    pod = running_pod
    pod.source("m", seconds=0.002)
    pod.serve("m")
    pod.apply()
    pod.until(pod.serves)
    with Clients(pod.triton.http_port, count=4) as clients:
        pod.until(lambda: clients.answered > 50)
        pod.serve("m", fields="dynamic_batching { max_queue_delay_microseconds: 500 }")
        pod.apply()

        def changed() -> bool:
            _, config = pod.triton.request("/v2/models/m/config")
            assert isinstance(config, dict)
            return bool(config.get("dynamic_batching", {}).get("max_queue_delay_microseconds") == 500)

        pod.until(changed)
        pod.reaches("m", ModelState.READY)
        more = clients.answered + 50
        pod.until(lambda: clients.answered > more)
    assert clients.failures == []


def test_loading_a_slow_model_does_not_hold_up_the_clients_of_another(running_pod: Pod) -> None:
    pod = running_pod
    pod.source("m")
    pod.serve("m")
    pod.apply()
    pod.until(pod.serves)
    with Clients(pod.triton.http_port, count=16) as clients:
        pod.until(lambda: clients.answered > 200)
        clients.slowest = 0.0
        pod.source("slow", initialize="time.sleep(6)")
        pod.serve("slow")
        pod.apply()
        pod.reaches("slow", ModelState.READY)
        assert pod.ready()
        more = clients.answered + 200
        pod.until(lambda: clients.answered > more)
    assert clients.failures == []
    assert clients.slowest < 3, f"a request took {clients.slowest:.1f} s while another model was loaded"


def test_a_live_load_that_outlives_the_age_of_its_connection_ends_well(pod: Pod) -> None:
    pod.source("m")
    pod.serve("m")
    pod.start("--grpc-max-connection-age=1000", "--grpc-max-connection-age-grace=1000")
    pod.until(pod.ready)
    pod.source("slow", initialize="time.sleep(3)")
    pod.serve("slow")
    pod.apply()
    pod.reaches("slow", ModelState.READY)
    assert pod.loads("slow") == 1
    pod.source("slow", initialize="time.sleep(3)", factor=7)
    pod.until(lambda: pod.triton.infer("slow", [1]) == [7])
    pod.reaches("slow", ModelState.READY)
    pod.source("slow", initialize='time.sleep(3); raise RuntimeError("too late")')
    pod.reaches("slow", ModelState.LOAD_FAILED, "too late")
    assert pod.triton.infer("slow", [1]) == [7]
    assert pod.ready()


def test_draining_waits_for_grpc_connections_to_age_and_not_for_idle_http(pod: Pod) -> None:
    pod.source("m")
    pod.serve("m")
    pod.start("--grpc-max-connection-age=3000", "--grpc-max-connection-age-grace=1000")
    pod.until(pod.ready)
    program = (
        "import sys, tritonclient.grpc as grpc; client = grpc.InferenceServerClient(sys.argv[1]);"
        "assert client.is_server_live(); print('connected', flush=True); sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, f"127.0.0.1:{pod.triton.grpc_port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    idle = http.client.HTTPConnection("127.0.0.1", pod.triton.http_port)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"connected\n"
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        started = time.monotonic()
        status, body = pod.sidecar.get("/drain")
        seconds = time.monotonic() - started
        assert status == 200
        assert json.loads(body)["why"] == "only HTTP connections that stay open are left"
        assert 1.5 < seconds < 10, f"drained in {seconds:.1f} s: {body}"
        assert not pod.ready()
        assert pod.triton.infer("m", [1]) == [2]  # until the kubelet ends it, it serves
        assert pod.sidecar.get("/drain")[1] == body
    finally:
        idle.close()
        client.kill()
        client.communicate()


def test_a_triton_that_only_its_liveness_probe_stopped_takes_requests_again(pod: Pod) -> None:
    pod.source("m")
    pod.serve("m")
    pod.start()
    pod.until(pod.ready)
    assert pod.sidecar.get("/drain")[0] == 200
    assert not pod.ready()
    pod.triton.terminate()
    pod.until(lambda: not pod.sidecar.report().server_live)
    pod.triton.start()
    pod.until(pod.ready)
    assert not pod.sidecar.report().draining


class Clients:
    """HTTP clients in a closed loop on persistent connections, as threads."""

    def __init__(self, port: int, *, count: int) -> None:
        self.answered = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def _run(self) -> None:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
        body = json.dumps({"inputs": [tensor]})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self._stop.wait(0.01):
            started = time.monotonic()
            try:
                connection.request("POST", "/v2/models/m/infer", body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.answered += 1
                else:
                    self.failures.append(f"{answer.status} {text!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.slowest = max(self.slowest, time.monotonic() - started)
        connection.close()

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_a_whole_repository_is_served_as_it_is(running_pod: Pod) -> None:
    """A model that is added is served too; one that is broken is told by name and the others serve."""
    pod = running_pod
    zoo = pod.root / "sources" / "zoo"
    for name, factor in (("a", 2), ("b", 3)):
        shutil.copytree(pod.source(f"of-{name}", factor=factor), zoo / name / "1")
        (zoo / name / "1/config.pbtxt").rename(zoo / name / "config.pbtxt")
    pod.plans[REPOSITORY] = ModelPlan(name=REPOSITORY, source="pvc://claim/zoo", directory=str(zoo), repository=True)
    pod.apply()
    pod.reaches(REPOSITORY, ModelState.READY)
    pod.until(lambda: pod.model("b").state is ModelState.READY and pod.ready())
    assert (pod.triton.infer("a", [1, 2]), pod.triton.infer("b", [1, 2])) == ([2, 4], [3, 6])
    shutil.copytree(zoo / "a", pod.root / "sources" / "broken")
    (pod.root / "sources" / "broken/config.pbtxt").write_text("max_batch_sizes: 8")
    (pod.root / "sources" / "broken").rename(zoo / "c")
    pod.reaches("c", ModelState.CONFIG_INVALID, "max_batch_sizes")
    assert pod.ready()
    (zoo / "c/config.pbtxt").write_text(CONFIG)
    pod.reaches("c", ModelState.READY)
    assert pod.triton.infer("c", [1]) == [2]
    shutil.rmtree(zoo / "b")
    pod.until(lambda: {model.name for model in pod.sidecar.report().models} == {REPOSITORY, "a", "c"})
    assert pod.triton.infer("a", [1]) == [2]
