"""ModelServices for tests: the smallest good one, how bad ones are written down, and a table of good ones.

This table and that of bad ones (refusals.py) are asked of both judges, `nereus.api.service.read` and a real API server,
so that the two cannot drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

MODEL: Json = {"name": "m", "source": {"uri": "pvc://models/m"}}
INPUT: Json = {"name": "x", "dataType": "FP32", "dims": [1]}
ENSEMBLE: Json = {
    "name": "e",
    "inputs": [INPUT],
    "outputs": [{**INPUT, "name": "y"}],
    "ensemble": {"steps": [{"model": "m", "inputMap": {"x": "x"}, "outputMap": {"y": "y"}}]},
}
MOUNT: Json = {"name": "v", "mountPath": "/v"}
RESOURCE_METRIC: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
}


def service(name: str = "svc", **spec: Any) -> Json:
    """A ModelService; `models` is one small model unless given."""
    return {
        "apiVersion": "serving.nereus.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name},
        "spec": {"models": [MODEL], **spec},
    }


def with_model(**fields: Any) -> Json:
    """A ModelService whose one model has these fields too."""
    return service(models=[{**MODEL, **fields}])


def many_models(count: int) -> Json:
    return service(models=[{**MODEL, "name": f"m{number}"} for number in range(count)])


@dataclass(frozen=True)
class Refusal:
    """A resource that both judges refuse; each says all of `words`, which name the field and the remedy.

    `read_words` and `server_words` stand for `words` where the sentence is not ours: type and range errors are told by
    the schema's own checker, in its words.
    """

    fact: str
    resource: Json
    words: tuple[str, ...] = ()
    read_words: tuple[str, ...] = ()
    server_words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.fact


def of_model(fact: str, *words: str, **fields: Any) -> Refusal:
    return Refusal(fact, with_model(**fields), words)


def of_spec(fact: str, *words: str, **spec: Any) -> Refusal:
    return Refusal(fact, service(**spec), words)


ACCEPTED: dict[str, Json] = {
    "the smallest service": service(),
    "a name of 63 characters": service("n" * 63),
    "the past that is read by default, written out": service(
        scaling={"strategy": "Predictive", "maxReplicas": 2, "forecast": {"history": "336h"}}
    ),
    "200 models": many_models(200),
    "a ConfigMap source": with_model(source={"uri": "configmap://models/resnet"}),
    "a whole repository": {
        **service(),
        "spec": {"repository": {"uri": "hf://acme/zoo", "secretName": "hub", "revision": "v1"}},
    },
    "a bucket as a source": with_model(
        source={"uri": "s3://models/resnet/", "secretName": "a.b", "revision": "x", "checksum": f"sha256:{'0' * 64}"}
    ),
    "a web source": with_model(source={"uri": "https://example.com:8443/m/resnet.tar.gz?version=3"}),
    "a model with everything": with_model(
        backend="onnxruntime",
        maxBatchSize=16,
        inputs=[{**INPUT, "optional": True}],
        outputs=[{**INPUT, "name": "y", "dims": [-1, 3]}],
        batching={
            "mode": "Dynamic",
            "preferredBatchSizes": [4, 16],
            "maxQueueDelay": "1ms500us",
            "preserveOrdering": True,
            "priorities": {"levels": 3, "default": 2},
            "queue": {"maxSize": 100, "timeout": "0.5s", "onTimeout": "Delay", "allowTimeoutOverride": True},
        },
        instances={
            "count": 2,
            "kind": "CPU",
            "rateLimiter": {"resources": [{"name": "R", "global": True, "count": 2}], "priority": 2},
        },
        warmup={"requests": 3, "batchSize": 16},
        versions={"specific": [1, 3]},
        responseCache=True,
        load={"order": 1000, "timeout": "24h", "optional": True},
        optimization={"accelerator": "TensorRT", "precision": "FP16", "cudaGraphs": False},
        parameters={"EXECUTION_ENV_PATH": "/env.tar.gz"},
        configText="optimization { graph { level: 1 } }",
    ),
    "an ensemble": service(models=[MODEL, ENSEMBLE]),
    "sequences": with_model(
        maxBatchSize=0,
        batching={
            "mode": "Sequence",
            "maxQueueDelay": "1ms",
            "sequence": {
                "strategy": "Direct",
                "maxIdle": "1m",
                "minSlotUtilization": "100%",
                "controls": [
                    {"name": "S", "kind": "Start", "dataType": "BOOL"},
                    {"name": "C", "kind": "CorrelationID", "dataType": "STRING"},
                ],
            },
        },
    ),
    "the oldest sequences": with_model(
        maxBatchSize=8,
        batching={
            "mode": "Sequence",
            "preferredBatchSizes": [8],
            "preserveOrdering": True,
            "sequence": {"strategy": "Oldest", "maxCandidates": 64},
        },
    ),
    "a model that does not batch, warmed up": with_model(maxBatchSize=0, inputs=[INPUT], warmup={"batchSize": 1}),
    "a runtime with everything": service(
        runtime={
            "image": "registry.example.com/triton:24.10",
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [{"name": "registry"}],
            "resources": {"requests": {"cpu": 2, "memory": "1.5Gi"}, "limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
            "env": [
                {"name": "A", "value": ""},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "args": ["--log-verbose=1"],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
            "volumeMounts": [MOUNT],
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a"]}]}]
                    }
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "priorityClassName": "high",
            "serviceAccountName": "triton",
            "podLabels": {"team": "vision", "empty": ""},
            "podAnnotations": {"example.com/note": "any text, also with {braces}"},
            "securityContext": {"runAsUser": 2000, "fsGroup": 2000},
            "sharedMemory": "1Gi",
            "modelCache": {"claimName": "models-shared", "size": "200Gi"},
            "loadThreads": 2,
            "responseCacheSize": "128Mi",
            "terminationGracePeriod": "2m",
        }
    ),
    "an endpoint with everything": service(
        endpoint={
            "ports": {"http": 9000, "grpc": 8000, "metrics": 9002},
            "serviceType": "LoadBalancer",
            "serviceAnnotations": {"example.com/load-balancer": "internal"},
            "connectionAge": "1s",
            "connectionAgeGrace": "10m",
            "headless": True,
        }
    ),
    "scaling by metrics": service(
        scaling={
            "minReplicas": 2,
            "maxReplicas": 9,
            "metrics": [RESOURCE_METRIC],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max"}},
        }
    ),
    "no pod at all": service(scaling={"strategy": "Manual", "replicas": 0}),
    "a suspended service": service(suspend=True),
    "a part of a GPU": service(
        gpu={"memory": "8Gi", "isolation": "MIG", "product": "NVIDIA-H100-80GB-HBM3", "onExceed": "Evict"}
    ),
    "a GPU, whatever it is": service(gpu={}),
    "two whole GPUs": service(gpu={"count": 2, "isolation": "Exclusive"}),
    "no more than eight GPUs": service(gpu={"count": 2}, scaling={"maxReplicas": 9, "limits": {"gpus": 8}}),
    "scaling with everything": service(
        scaling={
            "strategy": "Predictive",
            "mode": "Advise",
            "minReplicas": 2,
            "maxReplicas": 10,
            "objective": {"latency": "10m", "violations": "0.01%"},
            "capacity": {"inferencesPerSecond": 0.5},
            "forecast": {"history": "168h", "horizon": "10s"},
            "schedules": [
                {
                    "name": "office",
                    "timeZone": "America/Argentina/Buenos_Aires",
                    "days": ["Mon", "Sun"],
                    "from": "22:00",
                    "to": "06:00",
                    "minReplicas": 10,
                },
                {"name": "night", "timeZone": "UTC", "from": "00:00", "to": "23:59", "maxReplicas": 2},
            ],
            "metrics": [RESOURCE_METRIC],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}},
            "limits": {"gpus": 20},
        },
        gpu={"count": 2},
        alerts={
            "latency": "1ms",
            "gpuMemory": {"above": "100%"},
            "loadFailures": {"above": "0.001%"},
            "queue": {"above": 1},
            "errors": {"above": "0.5%"},
            "labels": {"team": "vision", "_x": ""},
            "annotations": {"wiki": "https://wiki.example.com/{a}"},
            "disable": ["NereusTrafficVanished"],
        },
    ),
}
