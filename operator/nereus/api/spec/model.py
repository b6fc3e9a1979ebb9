"""`spec.models[]`: one model: where it comes from, and what Triton is told of it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nereus.api.rules import Keyed, Rule, matching, object_name
from nereus.api.spec.batching import Batching, BatchingMode
from nereus.api.spec.instances import Instances
from nereus.api.spec.loading import Load
from nereus.api.spec.optimization import Optimization, TensorMap
from nereus.api.spec.section import Section
from nereus.api.spec.tensors import InputTensor, Tensor
from nereus.api.values import SourceUri

CHECKSUM_PATTERN = r"^sha256:[0-9a-f]{64}$"
SecretName = Annotated[str, Field(max_length=253), object_name("Secret")]
Checksum = Annotated[
    str,
    Field(max_length=71),
    matching(CHECKSUM_PATTERN, "a checksum is sha256: and 64 small hexadecimal digits: write what sha256sum prints"),
]


class Source(Section):
    """Where a model's files come from."""

    uri: SourceUri = Field(
        description="s3://BUCKET/PATH, gs://BUCKET/PATH: a directory or one object of a bucket. hf://ORG/REPO[/PATH]:"
        " files of a model on the Hugging Face Hub. configmap://NAME[/PREFIX]: keys become files of version 1"
        " (config.pbtxt the configuration, vN.FILE a file of version N; with PREFIX only keys PREFIX.*)."
        " pvc://CLAIM/PATH: a directory on a claim, read in place. https://HOST/PATH: a .tar.gz, .tar or"
        " .zip of a model directory, or a single model file."
    )
    secret_name: SecretName | None = Field(
        None,
        description="Secret of the same namespace with the credentials for the source; it is mounted into the sidecar"
        " only, and a changed value is used by the next fetch. Keys: s3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,"
        " AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION; gs GOOGLE_APPLICATION_CREDENTIALS (the JSON itself); hf"
        " HF_TOKEN; https token, or username and password; all ca.crt (PEM, further authorities to trust). Naming a"
        " Secret that the service does not use yet replaces the pods. When absent: what the pod has by itself (the"
        " identity of runtime.serviceAccountName, variables of runtime.env), otherwise none.",
    )
    revision: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None,
        description="Which version of the source. s3: version ID of one object; gs: generation of one object; hf: a"
        " commit, a tag or a branch (only a commit never moves). When absent: what is there when a pod fetches; hf"
        " main.",
    )
    checksum: Checksum | None = Field(
        None,
        description="sha256:HEX of what is fetched; anything else is refused. Of a single file or archive: its SHA-256."
        " Of a directory: the SHA-256 of its list of files, as docs/sources.md computes it. When absent: only what the"
        " store itself says of each file is compared.",
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.secretName) || !(self.uri.startsWith('pvc://') || self.uri.startsWith('configmap://'))",
            message="secretName is for sources that are downloaded: remove it, claims and ConfigMaps need none",
            holds=lambda it: it.secret_name is None or not it.uri.is_volume,
        ),
        Rule(
            cel="!has(self.revision) || self.uri.startsWith('s3://') || self.uri.startsWith('gs://') || self.uri.startsWith('hf://')",
            message="revision needs a source that has revisions (s3, gs, hf): remove it; https has checksum, and"
            " elsewhere each version has a path or name of its own",
            holds=lambda it: it.revision is None or it.uri.scheme in ("s3", "gs", "hf"),
        ),
        Rule(
            cel="!has(self.checksum) || !(self.uri.startsWith('pvc://') || self.uri.startsWith('configmap://'))",
            message="checksum is for sources that are downloaded: remove it, claims and ConfigMaps are read in place",
            holds=lambda it: it.checksum is None or not it.uri.is_volume,
        ),
    )


class Repository(Source):
    """A Triton model repository that exists already, taken as it is."""

    rules = (
        *Source.rules,
        Rule(
            cel="!self.uri.startsWith('configmap://')",
            message="a ConfigMap has no directories and can be no repository: declare its models in spec.models, or"
            " choose another source",
            holds=lambda it: it.uri.scheme != "configmap",
        ),
    )


class Warmup(Section):
    """Requests run through the model before it counts as ready, so that no user pays for the first ones."""

    requests: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="How many. When absent: 1.")
    batch_size: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="Batch size of each, at most maxBatchSize. When absent: 1."
    )


class Versions(Section):
    """Which versions of the model are served; exactly one of the fields."""

    latest: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="The newest N versions.")
    all: bool | None = Field(None, description="true: every version in the source.")
    specific: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=2**53)], ...], Field(min_length=1, max_length=64), Keyed()] | None
    ) = Field(None, description="Exactly these versions.")
    rules = (
        Rule(
            cel="(has(self.latest) ? 1 : 0) + (has(self.all) ? 1 : 0) + (has(self.specific) ? 1 : 0) == 1",
            message="versions takes exactly one of latest, all, specific: remove the others",
            holds=lambda it: sum(value is not None for value in (it.latest, it.all, it.specific)) == 1,
        ),
        Rule(
            cel="!has(self.all) || self.all",
            message="versions.all is either true or absent: remove it, or set it to true",
            holds=lambda it: it.all is not False,
        ),
    )


BACKEND_PATTERN = r"^[a-z0-9_]+$"
BackendName = Annotated[
    str,
    Field(max_length=64),
    matching(
        BACKEND_PATTERN,
        "is a name of small letters, digits and '_': write it as Triton does, e.g. onnxruntime or python",
    ),
]
MODEL_NAME_PATTERN = r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$"
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(
        MODEL_NAME_PATTERN,
        "a model name is made of letters, digits, '-', '_' and '.', and begins and ends with a letter or a"
        " digit: choose such a name",
    ),
]


class EnsembleStep(Section):
    """One model that an ensemble runs, and how its tensors are called in the ensemble."""

    model: ModelName = Field(description="Name of a model of this service.")
    version: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        None, description="Version of that model. When absent: the newest."
    )
    input_map: TensorMap = Field(
        description="For each input of the step's model the tensor of the ensemble that it is: an input of the"
        " ensemble, or an output of another step."
    )
    output_map: TensorMap = Field(
        description="For each output of the step's model that is needed, its name as a tensor of the ensemble."
    )


class Ensemble(Section):
    """Models run one after another, without sending what lies between over the network."""

    steps: Annotated[tuple[EnsembleStep, ...], Field(min_length=1, max_length=64)] = Field(
        description="The models. A step runs as soon as its inputs are there; the order of the list means nothing."
    )


class Model(Section):
    """One model that every pod of the service serves."""

    name: ModelName = Field(description="The name that clients send; unique in the service.")
    source: Source | None = Field(
        None, description="Where the files come from. When absent: the model is an `ensemble`, which has none."
    )
    backend: BackendName | None = Field(
        None,
        description="Triton backend that runs the model, e.g. onnxruntime, python, tensorrt, pytorch. When absent: as"
        " the configuration in the source says, or as Triton recognises by the file name.",
    )
    platform: BackendName | None = Field(
        None,
        description="Older way to name the backend, e.g. tensorrt_plan. Only one of backend and platform.",
    )
    max_batch_size: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None,
        description="Largest batch that the model takes; 0: the model does not batch. When absent: as the"
        " configuration in the source says, or as Triton completes it.",
    )
    inputs: Annotated[tuple[InputTensor, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None, description="Inputs of the model. When absent: from the source, or completed by Triton."
    )
    outputs: Annotated[tuple[Tensor, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None, description="Outputs of the model. When absent: from the source, or completed by Triton."
    )
    batching: Batching | None = Field(None, description="How requests are grouped. When absent: see batching.mode.")
    instances: Instances | None = Field(None, description="Copies in one pod. When absent: Triton's choice.")
    warmup: Warmup | None = Field(
        None, description="Requests before the model counts as ready; needs `inputs`. When absent: none."
    )
    versions: Versions | None = Field(None, description="Which versions are served. When absent: the newest.")
    load: Load | None = Field(None, description="How it is loaded into a pod. When absent: see its fields.")
    ensemble: Ensemble | None = Field(
        None,
        description="Makes this model a pipeline of others in the service. It has `inputs` and `outputs` but no"
        " source, batching, instances, warm-up or versions of its own: its steps have. When absent: the model is"
        " loaded from its source.",
    )
    response_cache: bool | None = Field(
        None,
        description="true: a request with the same inputs as an earlier one is answered from memory (see"
        " runtime.responseCacheSize), without running the model. Right only for a model whose answer depends on"
        " nothing but its inputs. When absent: as the source says, normally false.",
    )
    optimization: Optimization | None = Field(
        None,
        description="Accelerators of the backend. Checked against Triton's schema only: no test of Nereus runs them,"
        " its test server has neither a GPU nor these backends. When absent: as the source says, otherwise none.",
    )
    parameters: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=4096)]],
            Field(max_length=128),
            Rule(
                cel="self.all(key, size(key) >= 1 && size(key) <= 256)",
                message="parameters has a key that is empty or longer than 256 characters: shorten it",
                holds=lambda parameters: all(1 <= len(key) <= 256 for key in parameters),
            ),
        ]
        | None
    ) = Field(None, description="Parameters handed to the backend, as text.")
    config_text: Annotated[str, Field(max_length=65536)] | None = Field(
        None,
        description="Triton model configuration in protobuf text form, for what has no field here. It stands above"
        " config.pbtxt in the source and below the fields of this resource.",
    )
    rules = (
        Rule(
            cel="has(self.source) || has(self.ensemble)",
            message="source is required: set source.uri, or describe an ensemble",
            holds=lambda it: it.source is not None or it.ensemble is not None,
        ),
        Rule(
            cel="!has(self.ensemble) || !(has(self.source) || has(self.backend) || has(self.platform)"
            " || has(self.batching) || has(self.instances) || has(self.warmup) || has(self.versions)"
            " || has(self.optimization))",
            message="an ensemble takes no source, backend, platform, batching, instances, warmup, versions or"
            " optimization, its steps do: remove them, or remove ensemble",
            holds=lambda it: (
                it.ensemble is None
                or {
                    it.source,
                    it.backend,
                    it.platform,
                    it.batching,
                    it.instances,
                    it.warmup,
                    it.versions,
                    it.optimization,
                }
                == {None}
            ),
        ),
        Rule(
            cel="!has(self.ensemble) || (has(self.inputs) && size(self.inputs) > 0"
            " && has(self.outputs) && size(self.outputs) > 0)",
            message="an ensemble needs to say what it takes and gives: declare inputs and outputs",
            holds=lambda it: it.ensemble is None or bool(it.inputs and it.outputs),
        ),
        Rule(
            cel="!has(self.backend) || !has(self.platform)",
            message="backend and platform exclude each other: keep one",
            holds=lambda it: it.backend is None or it.platform is None,
        ),
        Rule(
            cel="!has(self.warmup) || (has(self.inputs) && size(self.inputs) > 0)",
            message="warmup needs the shapes of the inputs: declare inputs",
            holds=lambda it: it.warmup is None or bool(it.inputs),
        ),
        Rule(
            cel="!has(self.maxBatchSize) || !has(self.batching) || !has(self.batching.preferredBatchSizes)"
            " || self.batching.preferredBatchSizes.all(size, size <= self.maxBatchSize)",
            message="batching.preferredBatchSizes holds a size above maxBatchSize: lower it or raise maxBatchSize",
            holds=lambda it: it.max_batch_size is None or max(it.preferred_batch_sizes, default=0) <= it.max_batch_size,
        ),
        Rule(
            cel="!has(self.maxBatchSize) || !has(self.warmup) || !has(self.warmup.batchSize)"
            " || self.warmup.batchSize <= (self.maxBatchSize > 1 ? self.maxBatchSize : 1)",
            message="warmup.batchSize is above maxBatchSize: lower it or raise maxBatchSize",
            holds=lambda it: (
                it.max_batch_size is None
                or it.warmup is None
                or (it.warmup.batch_size or 1) <= max(1, it.max_batch_size)
            ),
        ),
        Rule(
            cel="!has(self.maxBatchSize) || self.maxBatchSize > 0 || !has(self.batching)"
            " || (has(self.batching.mode) && self.batching.mode in ['Off', 'Sequence'])",
            message="batching needs maxBatchSize of at least 1: raise it, or set batching.mode Off",
            holds=lambda it: (
                it.max_batch_size is None
                or it.max_batch_size > 0
                or it.batching is None
                or it.batching.mode in (BatchingMode.OFF, BatchingMode.SEQUENCE)
            ),
        ),
    )

    @property
    def uri(self) -> SourceUri | None:
        """Where the files come from; None for an ensemble, which has no files."""
        return self.source.uri if self.source is not None else None

    @property
    def preferred_batch_sizes(self) -> tuple[int, ...]:
        return (self.batching.preferred_batch_sizes if self.batching else None) or ()
