"""What an e2e test does and sees: services applied in a namespace, their status, and requests to them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc

from demo.kube import Kube, condition_of, wait
from demo.load import Inputs, Load, tensors
from tests.harness.status_checker import check_status

Json = dict[str, Any]

DOUBLE = '''
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    """Answers each number times FACTOR, after a little work that costs real CPU."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = config.get("parameters", {})
        self.factor = float(parameters.get("factor", {}).get("string_value", "2"))
        self.rounds = int(parameters.get("rounds", {}).get("string_value", "0"))
        self.matrix = np.random.default_rng(0).random((64, 64))

    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            work = self.matrix
            for _ in range(self.rounds):
                work = work @ self.matrix
                work /= work.max()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", value * self.factor)]))
        return responses
'''

CRASH = """
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("the weights of this model are from another planet")

    def execute(self, requests):
        return []
"""

X: Inputs = {"X": np.array([[1.0, 2.0]], dtype=np.float32)}
TENSORS: Json = {
    "inputs": [{"name": "X", "dataType": "FP32", "dims": [2]}],
    "outputs": [{"name": "Y", "dataType": "FP32", "dims": [2]}],
}


def model(name: str = "double", *, source: str = "configmap://models/double", secret: str = "", **fields: Any) -> Json:
    """A declared python-backend model with tensors X -> Y."""
    declared = {"uri": source, **({"secretName": secret} if secret else {})}
    return {"name": name, "source": declared, "backend": "python", "maxBatchSize": 8, **TENSORS, **fields}


@dataclass(frozen=True)
class World:
    """One namespace on the cluster."""

    kube: Kube
    namespace: str

    def models_config_map(self, **files: str) -> None:
        """ConfigMap `models`: by default the model `double`; keys are PREFIX.FILE."""
        data = files or {"double.model.py": DOUBLE}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models"}, "data": data}
        self.kube.apply(body, namespace=self.namespace)

    def apply(self, name: str = "svc", *, models: list[Json] | None = None, **spec: Any) -> None:
        """A ModelService with small pods that stop quickly; further fields of the spec as keywords."""
        runtime = {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}, **spec.pop("runtime", {})}
        endpoint = {"connectionAge": "2s", "connectionAgeGrace": "3s", **spec.pop("endpoint", {})}
        body = {
            "apiVersion": "serving.nereus.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": name},
            "spec": {"models": models or [model()], "runtime": runtime, "endpoint": endpoint, **spec},
        }
        self.kube.apply(body, namespace=self.namespace)

    def service(self, name: str = "svc") -> Json:
        """The ModelService; a status about the present spec passes the checker whenever it is looked at."""
        resource = self.kube.get("msvc", name, namespace=self.namespace) or {}
        about = (resource.get("status") or {}).get("observedGeneration")
        if about is not None and about == resource["metadata"]["generation"]:
            assert check_status(resource) == [], json.dumps(resource.get("status"), indent=1)
        return resource

    def pods(self, name: str = "svc") -> list[Json]:
        """Pods of the service that are not on their way out."""
        found = self.kube.items("pods", namespace=self.namespace, selector=f"serving.nereus.dev/service={name}")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def wait_ready(self, name: str = "svc", *, seconds: float = 120) -> Json:
        """Until Ready is true for the generation applied last."""
        self.wait_condition("Ready", "True", name=name, seconds=seconds)
        return self.service(name)

    def wait_condition(self, kind: str, status: str, *, name: str = "svc", seconds: float = 60) -> Json:
        def holds() -> bool:
            resource = self.service(name)
            condition = condition_of(resource, kind)
            current = condition.get("observedGeneration") == (resource.get("metadata") or {}).get("generation")
            return current and condition.get("status") == status

        self.wait(holds, f"{kind}={status} of {name}", seconds=seconds)
        return condition_of(self.service(name), kind)

    def wait_reason(self, reason: str, *, name: str = "svc", seconds: float = 60) -> str:
        """Until Ready is false for this reason; returns the sentence."""
        self.wait(
            lambda: condition_of(self.service(name), "Ready").get("reason") == reason,
            f"reason {reason} of {name}",
            seconds=seconds,
        )
        return str(condition_of(self.service(name), "Ready")["message"])

    def wait(self, condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
        wait(condition, what, seconds=seconds, state=self.state)

    def state(self) -> str:
        """What a person would look at."""
        shown = self.kube.kubectl("-n", self.namespace, "get", "msvc,pods,hpa", "-o", "wide")
        statuses = [item.get("status") for item in self.kube.items("msvc", namespace=self.namespace)]
        return f"{shown}\n{json.dumps(statuses, indent=1)}"

    def infer(self, inputs: Inputs = X, *, name: str = "svc", model: str = "double") -> np.ndarray[Any, Any]:
        """One gRPC inference; output Y."""
        with self.kube.address(name, 8001, namespace=self.namespace) as address:
            client = triton_grpc.InferenceServerClient(address)
            try:
                answer = client.infer(model, tensors(triton_grpc, inputs), client_timeout=10)
            finally:
                client.close()
        return np.asarray(answer.as_numpy("Y"))

    def triton_get(self, path: str, *, name: str = "svc") -> Json:
        """A GET on Triton's HTTP API through the Service."""
        with (
            self.kube.address(name, 8000, namespace=self.namespace) as address,
            urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer,
        ):
            body: Json = json.load(answer)
        return body

    def load(self, address: str, *, protocol: str, clients: int, model: str = "double") -> Load:
        return Load(address, protocol=protocol, model=model, inputs=X, clients=clients)
