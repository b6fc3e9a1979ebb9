"""`spec.models[].optimization`: precision and accelerators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Rule
from nereus.api.spec.section import Section


class Accelerator(StrEnum):
    TENSORRT = "TensorRT"
    OPENVINO = "OpenVINO"


class Precision(StrEnum):
    FP32 = "FP32"
    FP16 = "FP16"


class Optimization(Section):
    """How a backend makes the model faster."""

    accelerator: Accelerator | None = Field(
        None,
        description="Library to which backend onnxruntime hands what it can of the model. TensorRT: on GPUs; the engine"
        " is built when the model loads, which may take minutes. OpenVINO: on CPUs. When absent: as the source says,"
        " otherwise none.",
    )
    precision: Precision | None = Field(
        None,
        description="With accelerator TensorRT, what it computes in: FP32 or FP16 (faster, less exact). When absent:"
        " FP32.",
    )
    cuda_graphs: bool | None = Field(
        None,
        description="true: backend tensorrt records the model's GPU work once for each batch size and replays it; more"
        " GPU memory, less overhead for small models. When absent: as the source says, otherwise false.",
    )
    rules = (
        Rule(
            cel="!has(self.precision) || (has(self.accelerator) && self.accelerator == 'TensorRT')",
            message="optimization.precision belongs to accelerator TensorRT: set accelerator TensorRT, or remove it",
            holds=lambda it: it.precision is None or it.accelerator is Accelerator.TENSORRT,
        ),
    )


TensorName = Annotated[str, Field(min_length=1, max_length=256)]
TensorMap = Annotated[
    dict[str, TensorName],
    Field(min_length=1, max_length=64),
    Rule(
        cel="self.all(key, size(key) >= 1 && size(key) <= 256)",
        message="names a tensor with no or more than 256 characters: write the tensor's name",
        holds=lambda mapped: all(1 <= len(key) <= 256 for key in mapped),
    ),
]
