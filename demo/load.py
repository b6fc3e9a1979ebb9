"""A bounded load on one service over gRPC or HTTP, and what became of each request.

Closed loop: each client sends its next request when the last one was answered, over a connection of its own that
it keeps. An HTTP client sends a request once more when its connection was closed under it (Triton's HTTP server
does not announce a close) and that is counted apart from failures. gRPC clients retry nothing that was sent.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import numpy as np
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http
from tritonclient.utils import InferenceServerException

MAX_SECONDS = 900.0
PAUSE_AFTER_FAILURE_SECONDS = 0.05
Inputs = dict[str, np.ndarray[Any, Any]]


@dataclass
class Outcome:
    """What the clients saw, summed over all of them. Latencies in seconds."""

    answered: int = 0
    failed: int = 0
    reconnected: int = 0
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Latency in seconds; NaN before the first answer."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")

    def __str__(self) -> str:
        return (
            f"{self.answered} answered, {self.failed} failed, {self.reconnected} reconnected;"
            f" p50 {self.percentile(50) * 1000:.0f} ms, p99 {self.percentile(99) * 1000:.0f} ms"
        )


class _Client(Protocol):
    """One connection. `infer` sends one request and returns how often it had to connect anew."""

    async def infer(self) -> int: ...
    async def close(self) -> None: ...


class _Grpc:
    """One channel with its own connection, so that ageing and reconnecting are really exercised."""

    def __init__(self, address: str, model: str, inputs: Inputs) -> None:
        self._client = triton_grpc.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)])
        self._model, self._inputs = model, tensors(triton_grpc, inputs)

    async def infer(self) -> int:
        try:
            await self._client.infer(self._model, self._inputs, client_timeout=30)
        except InferenceServerException as error:
            # gRPC's own word for a channel that goes idle just as a call wants it: the call was never sent.
            if "enter idle" not in str(error):
                raise
            await self._client.infer(self._model, self._inputs, client_timeout=30)
            return 1
        return 0

    async def close(self) -> None:
        await self._client.close()


class _Http:
    """One keep-alive connection; when it was closed, the request is sent once more on a new one."""

    def __init__(self, address: str, model: str, inputs: Inputs) -> None:
        self._client = triton_http.InferenceServerClient(address, conn_limit=1, conn_timeout=30)
        self._model, self._inputs = model, tensors(triton_http, inputs)

    async def infer(self) -> int:
        try:
            await self._client.infer(self._model, self._inputs)
        except aiohttp.ClientConnectionError:
            await self._client.infer(self._model, self._inputs)
            return 1
        return 0

    async def close(self) -> None:
        await self._client.close()


class Load:
    """`clients` connections against `host:port` from entering the context until leaving it (or MAX_SECONDS).

    `protocol` is "grpc" or "http"; `inputs` maps an input's name to its value with the batch dimension.
    """

    def __init__(self, address: str, *, protocol: str, model: str, inputs: Inputs, clients: int) -> None:
        self.outcome = Outcome()
        self._protocol, self._address, self._model, self._inputs = protocol, address, model, inputs
        self._clients = clients
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _connect(self) -> _Client:
        kind = _Grpc if self._protocol == "grpc" else _Http
        return kind(self._address, self._model, self._inputs)

    async def _run(self) -> None:
        deadline = time.monotonic() + MAX_SECONDS
        await asyncio.gather(*(self._loop(self._connect(), deadline) for _ in range(self._clients)))

    async def _loop(self, client: _Client, deadline: float) -> None:
        while not self._stop.is_set() and time.monotonic() < deadline:
            begun = time.perf_counter()
            try:
                self.outcome.reconnected += await client.infer()
            except Exception as error:  # whatever a client would see is a failed request
                self.outcome.failed += 1
                self.outcome.errors.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}"[:300])
                await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
            else:
                self.outcome.answered += 1
                self.outcome.latencies.append(time.perf_counter() - begun)
        await client.close()


def tensors(module: Any, inputs: Inputs) -> list[Any]:
    """The inputs in the client library's own type (`module` is one of tritonclient's)."""
    result = []
    for name, value in inputs.items():
        tensor = module.InferInput(name, list(value.shape), triton_type(value))
        tensor.set_data_from_numpy(value)
        result.append(tensor)
    return result


def triton_type(value: np.ndarray[Any, Any]) -> str:
    """Triton's name of a numeric numpy type, e.g. FP32 or INT64."""
    kind = {"f": "FP", "i": "INT", "u": "UINT"}[value.dtype.kind]
    return f"{kind}{value.dtype.itemsize * 8}"
