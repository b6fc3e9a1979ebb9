"""ModelServices for tests: the smallest good one, and tables of good and bad ones.

The tables are asked of both judges, `nereus.api.service.read` and a real API server, so that the two cannot drift.
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


def _model(fact: str, *words: str, **fields: Any) -> Refusal:
    return Refusal(fact, with_model(**fields), words)


def _spec(fact: str, *words: str, **spec: Any) -> Refusal:
    return Refusal(fact, service(**spec), words)


REFUSED = (
    # names
    Refusal("a name of 64 characters", service("n" * 64), ("metadata.name", "at most 63", "shorten it")),
    Refusal("a name that begins with a digit", service("1a"), ("metadata.name", "small letter", "rename it")),
    Refusal("a name with a dot", service("a.b"), ("metadata.name", "small letters", "rename it")),
    # models
    Refusal(
        "201 models",
        many_models(201),
        read_words=("spec.models", "at most 200"),
        server_words=("spec.models", "must have at most 200 items"),
    ),
    Refusal(
        "no model",
        service(models=[]),
        read_words=("spec.models", "at least 1"),
        server_words=("spec.models", "should have at least 1 items"),
    ),
    Refusal(
        "two models of one name",
        service(models=[MODEL, MODEL]),
        read_words=("spec.models", "'m' is entry 0 and entry 1", "rename"),
        server_words=("spec.models[1]", "Duplicate value", '"m"'),
    ),
    Refusal(
        "an unknown field",
        service(replicas=3),
        read_words=("spec.replicas", "no such field"),
        server_words=('unknown field "spec.replicas"',),
    ),
    Refusal(
        "a field in the spelling of Python",
        with_model(max_batch_size=4),
        read_words=("max_batch_size", "no such field"),
        server_words=('unknown field "spec.models[0].max_batch_size"',),
    ),
    _model("a model name with a space", "name", "letters, digits", "choose such a name", name="m m"),
    _model("a source of an unknown scheme", "source.uri", "configmap://NAME", source={"uri": "ftp://host/m"}),
    _model("a bucket without a name", "source.uri", "s3://BUCKET/PATH", source={"uri": "s3:///m"}),
    _model("a repository without an organisation", "source.uri", "hf://ORG/REPO", source={"uri": "hf://gpt2"}),
    Refusal(
        "models and a repository",
        {**service(), "spec": {**service()["spec"], "repository": {"uri": "s3://bucket/zoo"}}},
        ("spec", "exactly one of models and repository", "keep one of them"),
    ),
    Refusal(
        "neither models nor a repository",
        {**service(), "spec": {}},
        ("spec", "exactly one of models and repository", "set models"),
    ),
    Refusal(
        "a repository in a ConfigMap",
        {**service(), "spec": {"repository": {"uri": "configmap://zoo"}}},
        ("spec.repository", "can be no repository", "choose another source"),
    ),
    _model("a Secret for a claim", "source", "remove it", source={"uri": "pvc://c/m", "secretName": "s"}),
    _model("a Secret of no name", "source.secretName", "choose", source={"uri": "s3://bucket/m", "secretName": "S_"}),
    _model("a revision of https", "source", "https has checksum", source={"uri": "https://h/m", "revision": "2"}),
    _model(
        "a checksum of a ConfigMap",
        "source",
        "remove it",
        source={"uri": "configmap://c", "checksum": f"sha256:{'a' * 64}"},
    ),
    _model(
        "a checksum in capitals",
        "source.checksum",
        "what sha256sum prints",
        source={"uri": "s3://bucket/m", "checksum": f"sha256:{'A' * 64}"},
    ),
    _model("a source that climbs out", "source.uri", "remove '..'", source={"uri": "pvc://claim/a/../b"}),
    _model("a source with a blank", "source.uri", "https://HOST/PATH", source={"uri": "https://host/a b"}),
    _model("a source with a password", "source.uri", "https://HOST/PATH", source={"uri": "https://u:p@host/a"}),
    Refusal(
        "a model without a source",
        service(models=[{"name": "m"}]),
        ("spec.models[0]", "source is required", "set source.uri"),
    ),
    Refusal(
        "a number written as text",
        with_model(maxBatchSize="4"),
        read_words=("spec.models[0].maxBatchSize", "integer"),
        server_words=("spec.models[0].maxBatchSize", "must be of type integer"),
    ),
    Refusal(
        "a batch below zero",
        with_model(maxBatchSize=-1),
        read_words=("spec.models[0].maxBatchSize", "greater than or equal to 0"),
        server_words=("spec.models[0].maxBatchSize", "greater than or equal to 0"),
    ),
    Refusal(
        "an unknown tensor type",
        with_model(inputs=[{**INPUT, "dataType": "FP3"}]),
        read_words=("spec.models[0].inputs[0].dataType", "FP32"),
        server_words=("spec.models[0].inputs[0].dataType", "supported values", "FP32"),
    ),
    _model("a dimension of 0", "inputs[0]", "dims", "write -1", inputs=[{**INPUT, "dims": [1, 0]}]),
    Refusal(
        "two inputs of one name",
        with_model(inputs=[INPUT, INPUT]),
        read_words=("spec.models[0].inputs", "'x'", "rename"),
        server_words=("spec.models[0].inputs[1]", "Duplicate value"),
    ),
    _model("a backend with capitals", "backend", "small letters", backend="ONNX"),
    _model("backend and platform", "backend and platform", "keep one", backend="python", platform="python"),
    _model("warm-up without inputs", "warmup", "declare inputs", warmup={}),
    _model(
        "a preferred size above the batch",
        "preferredBatchSizes",
        "lower it",
        maxBatchSize=4,
        batching={"preferredBatchSizes": [8]},
    ),
    Refusal(
        "a preferred size twice",
        with_model(maxBatchSize=8, batching={"preferredBatchSizes": [4, 4]}),
        read_words=("preferredBatchSizes", "may occur once"),
        server_words=("preferredBatchSizes[1]", "Duplicate value"),
    ),
    _model(
        "a warm-up batch above the batch",
        "warmup.batchSize",
        "lower it",
        maxBatchSize=4,
        inputs=[INPUT],
        warmup={"batchSize": 5},
    ),
    _model("batching of a model that does not batch", "batching", "maxBatchSize", maxBatchSize=0, batching={}),
    _model(
        "batching that is off, with a delay",
        "mode Off",
        "mode Dynamic",
        batching={"mode": "Off", "maxQueueDelay": "5ms"},
    ),
    _model("sequences that are not asked for", "batching.sequence", "set mode Sequence", batching={"sequence": {}}),
    _model("sequences with a queue", "mode Sequence", "remove priorities", batching={"mode": "Sequence", "queue": {}}),
    _model(
        "direct sequences in preferred sizes",
        "preferredBatchSizes",
        "strategy Oldest",
        batching={"mode": "Sequence", "preferredBatchSizes": [4]},
    ),
    _model(
        "the oldest sequences without a number",
        "maxCandidates",
        "set both",
        batching={"mode": "Sequence", "sequence": {"strategy": "Oldest"}},
    ),
    _model(
        "a slot utilization of the oldest sequences",
        "minSlotUtilization",
        "remove it",
        batching={
            "mode": "Sequence",
            "sequence": {"strategy": "Oldest", "maxCandidates": 1, "minSlotUtilization": "5%"},
        },
    ),
    _model(
        "a slot utilization above all slots",
        "minSlotUtilization",
        "write e.g. 50%",
        batching={"mode": "Sequence", "sequence": {"minSlotUtilization": "101%"}},
    ),
    _model(
        "a sequence that may be silent for ever",
        "maxIdle",
        "24h",
        batching={"mode": "Sequence", "sequence": {"maxIdle": "0s"}},
    ),
    _model(
        "two controls of one kind",
        "controls",
        "keep one",
        batching={
            "mode": "Sequence",
            "sequence": {"controls": [{"name": "A", "kind": "End"}, {"name": "B", "kind": "End"}]},
        },
    ),
    _model(
        "a flag that is a text",
        "dataType",
        "choose INT32",
        batching={
            "mode": "Sequence",
            "sequence": {"controls": [{"name": "A", "kind": "End", "dataType": "STRING"}]},
        },
    ),
    _model(
        "a default priority above the levels",
        "priorities.default",
        "name one",
        batching={"priorities": {"levels": 2, "default": 3}},
    ),
    _model(
        "what to do on time-out without one",
        "onTimeout",
        "set queue.timeout",
        batching={"queue": {"onTimeout": "Delay"}},
    ),
    _model("a delay without a unit", "maxQueueDelay", "200ms", batching={"maxQueueDelay": "5"}),
    _model("a delay longer than a week", "maxQueueDelay", "168h", batching={"maxQueueDelay": "169h"}),
    _model(
        "a resource with a blank",
        "rateLimiter",
        "choose such a name",
        instances={"rateLimiter": {"resources": [{"name": "a b", "count": 1}]}},
    ),
    Refusal(
        "a resource of which nothing is needed",
        with_model(instances={"rateLimiter": {"resources": [{"name": "R", "count": 0}]}}),
        read_words=("spec.models[0].instances.rateLimiter.resources[0].count", "greater than or equal to 1"),
        server_words=("spec.models[0].instances.rateLimiter.resources[0].count", "greater than or equal to 1"),
    ),
    _model("a precision of nothing", "precision", "set accelerator", optimization={"precision": "FP16"}),
    _spec(
        "a past longer than what is remembered",
        "scaling.forecast.history",
        "336h",
        scaling={"strategy": "Predictive", "forecast": {"history": "337h"}},
    ),
    _spec("a part of each of two GPUs", "gpu.count", "remove", gpu={"memory": "8Gi", "count": 2}),
    _spec("two GPUs that are shared", "gpu.isolation", "set", gpu={"isolation": "MPS", "count": 2}),
    _spec("a slice of no size", "gpu.memory", "set", gpu={"isolation": "MIG"}),
    _spec("excess of no limit", "gpu.onExceed", "remove", gpu={"onExceed": "Evict"}),
    _spec("a limit on GPUs without one", "scaling.limits.gpus", "add gpu", scaling={"limits": {"gpus": 2}}),
    _spec(
        "a limit on GPUs below what the fewest pods take",
        "scaling.limits.gpus",
        "raise it",
        gpu={"count": 2},
        scaling={"minReplicas": 2, "maxReplicas": 4, "limits": {"gpus": 3}},
    ),
    _spec(
        "a limit on GPUs that one pod exceeds",
        "limits.gpus",
        "raise it",
        gpu={"count": 2},
        scaling={"limits": {"gpus": 1}},
    ),
    _spec(
        "a limit on GPUs beside a number of pods",
        "strategy Manual",
        "remove",
        gpu={},
        scaling={"strategy": "Manual", "limits": {"gpus": 1}},
    ),
    _spec("an ensemble with optimization", "ensemble", "remove", models=[MODEL, {**ENSEMBLE, "optimization": {}}]),
    _model("versions of no kind", "versions", "exactly one", versions={}),
    _model("versions of two kinds", "versions", "exactly one", versions={"latest": 1, "all": True}),
    _model("versions all: false", "versions.all", "remove it", versions={"all": False}),
    _spec("an ensemble with a source", "ensemble", "remove them", models=[MODEL, {**MODEL, **ENSEMBLE}]),
    _spec("an ensemble with instances", "ensemble", "remove them", models=[MODEL, {**ENSEMBLE, "instances": {}}]),
    _spec("an ensemble without outputs", "ensemble", "declare inputs", models=[MODEL, {**ENSEMBLE, "outputs": []}]),
    Refusal(
        "an ensemble without steps",
        service(models=[MODEL, {**ENSEMBLE, "ensemble": {"steps": []}}]),
        read_words=("spec.models[1].ensemble.steps", "at least 1"),
        server_words=("spec.models[1].ensemble.steps", "should have at least 1 items"),
    ),
    _spec(
        "a step that maps a tensor without a name",
        "inputMap",
        "write the tensor's name",
        models=[
            MODEL,
            {**ENSEMBLE, "ensemble": {"steps": [{"model": "m", "inputMap": {"": "x"}, "outputMap": {"y": "y"}}]}},
        ],
    ),
    _model("an empty parameter name", "parameters", "shorten it", parameters={"": "x"}),
    # runtime
    _spec("an amount in words", "cpu", "500m", runtime={"resources": {"requests": {"cpu": "lots"}}}),
    Refusal(
        "a fraction that is no text",
        service(runtime={"resources": {"requests": {"cpu": 0.5}}}),
        read_words=("spec.runtime.resources.requests.cpu", "0.5", "a text in quotes"),
        server_words=("spec.runtime.resources.requests.cpu", "must be of type integer,string"),
    ),
    _spec("an amount below zero", "memory", "8Gi", runtime={"resources": {"limits": {"memory": -1}}}),
    _spec("shared memory in words", "sharedMemory", "512Mi", runtime={"sharedMemory": "big"}),
    _spec("a cache size in words", "responseCacheSize", "512Mi", runtime={"responseCacheSize": "some"}),
    _spec("a label key with a blank", "podLabels", "rename the key", runtime={"podLabels": {"a b": "c"}}),
    _spec("a label value with a slash", "podLabels", "choose such a value", runtime={"podLabels": {"a": "b/c"}}),
    _spec("an annotation without a name", "podAnnotations", "rename the key", runtime={"podAnnotations": {"a/": "c"}}),
    _spec(
        "value and valueFrom",
        "env[0]",
        "remove one",
        runtime={"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
    ),
    Refusal(
        "a variable twice",
        service(runtime={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        read_words=("spec.runtime.env", "'A'"),
        server_words=("spec.runtime.env[1]", "Duplicate value"),
    ),
    Refusal(
        "a variable without a name",
        service(runtime={"env": [{"value": "1"}]}),
        read_words=("spec.runtime.env", "no name"),
        server_words=("spec.runtime.env[0].name", "Required value"),
    ),
    _spec("a volume without a source", "volumes[0]", "exactly one source", runtime={"volumes": [{"name": "v"}]}),
    _spec(
        "a volume with two sources",
        "volumes[0]",
        "exactly one source",
        runtime={"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
    ),
    _spec("a mount of an undeclared volume", "volumeMounts", "declare it", runtime={"volumeMounts": [MOUNT]}),
    # endpoint
    _spec("a connection age of 5 h", "endpoint.connectionAge", "1s", "10m", endpoint={"connectionAge": "5h"}),
    _spec("a grace of nothing", "endpoint.connectionAgeGrace", "1s", "10m", endpoint={"connectionAgeGrace": "0s"}),
    _spec("two ports of one number", "endpoint.ports", "choose other", endpoint={"ports": {"http": 8001}}),
    _spec("the sidecar's port", "endpoint.ports", "8003", "choose other", endpoint={"ports": {"metrics": 8003}}),
    Refusal(
        "a privileged port",
        service(endpoint={"ports": {"http": 80}}),
        read_words=("spec.endpoint.ports.http", "greater than or equal to 1024"),
        server_words=("spec.endpoint.ports.http", "greater than or equal to 1024"),
    ),
    # scaling
    _spec("replicas without Manual", "scaling.replicas", "set strategy Manual", scaling={"replicas": 2}),
    _spec(
        "Manual with a range", "strategy Manual", "remove minReplicas", scaling={"strategy": "Manual", "minReplicas": 1}
    ),
    _spec(
        "a range upside down", "scaling.minReplicas", "raise maxReplicas", scaling={"minReplicas": 3, "maxReplicas": 2}
    ),
    _spec(
        "a metric without its source",
        "metrics[0]",
        "field of that name",
        scaling={"maxReplicas": 2, "metrics": [{"type": "Resource"}]},
    ),
    Refusal(
        "a strategy that does not exist",
        service(scaling={"strategy": "Magic"}),
        read_words=("spec.scaling.strategy", "Manual"),
        server_words=("spec.scaling.strategy", "supported values", "Manual"),
    ),
)


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
}
