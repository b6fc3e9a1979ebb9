"""Array types, and arrays as JSON types and back: what the saved state of a policy is made of. No algorithm."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


def pack(array: Array) -> dict[str, Any]:
    """An array as JSON types, exact to the bit."""
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 1)).decode("ascii")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def unpack(packed: Mapping[str, Any]) -> Array:
    """The array that `pack` was given; raises `ValueError` when the text was damaged."""
    try:
        raw = zlib.decompress(base64.b64decode(packed["data"], validate=True))
        return np.frombuffer(raw, dtype=np.dtype(packed["dtype"])).reshape(packed["shape"]).copy()
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"saved scaling state is damaged: {error}") from error


def pack_all(owner: object) -> dict[str, Any]:
    """Every array attribute of an object, by name, plus its numbers."""
    state: dict[str, Any] = {}
    for name, value in vars(owner).items():
        if isinstance(value, np.ndarray):
            state[name] = pack(value)
        elif isinstance(value, int | float | str) or value is None:
            state[name] = value
    return state


def unpack_all(owner: object, state: Mapping[str, Any]) -> None:
    """Puts back what `pack_all` took; shapes must agree with those of the object."""
    for name, value in vars(owner).items():
        if name not in state:
            continue
        if isinstance(value, np.ndarray):
            array = unpack(state[name])
            if array.shape != value.shape or array.dtype != value.dtype:
                raise ValueError(
                    f"saved scaling state: {name} has shape {array.shape}, this version needs {value.shape};"
                    " start without it"
                )
            value[...] = array
        elif isinstance(value, int | float | str) or value is None:
            setattr(owner, name, state[name])
