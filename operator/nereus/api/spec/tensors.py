"""Tensors of a model: their names, types and shapes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Rule
from nereus.api.spec.section import Section


class DataType(StrEnum):
    """Triton's tensor types (model_config.proto, without the TYPE_ prefix)."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    STRING = "STRING"
    BF16 = "BF16"


class Tensor(Section):
    """A tensor that the model takes or gives."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the tensor in the model.")
    data_type: DataType = Field(description="Type of one element.")
    dims: Annotated[tuple[Annotated[int, Field(ge=-1, le=2**53)], ...], Field(min_length=1, max_length=16)] = Field(
        description="Shape without the batch dimension; -1 is a dimension of any size."
    )
    rules = (
        Rule(
            cel="self.dims.all(dim, dim != 0)",
            message="dims holds 0: write -1 for a dimension of any size, otherwise its size",
            holds=lambda it: 0 not in it.dims,
        ),
    )


class InputTensor(Tensor):
    """A tensor that the model takes."""

    optional: bool | None = Field(None, description="Whether a request may leave the input out. When absent: no.")
