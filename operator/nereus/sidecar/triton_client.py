"""Triton on localhost: which models are ready, load, unload, and how many requests wait.

A load keeps one thread of Triton's HTTP server busy, and every connection that belongs to it waits: measured,
6 of 16 clients waited 7 s for a load of 7 s, and of three loads asked for at once two waited for each other. So every
call uses a connection of its own, and a load goes through gRPC, where nobody waits. The admin key that closes the
repository API to everyone else is sent here and never logged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from nereus.sidecar import grpc_unary
from nereus.sidecar.grpc_unary import CallFailedError

_PENDING = re.compile(r"^nv_inference_pending_request_count(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_LOAD_SECONDS = 3600.0
_LOAD_METHOD = "/inference.GRPCInferenceService/RepositoryModelLoad"
_GRPC_KEY = "triton-grpc-protocol-admin-key"
_UNAVAILABLE = 14
_ASIDE_CALLS = 6
"""How often a reload is asked for through gRPC before HTTP has to tell how it ends. Each call lasts at most as long as
the age and grace of a connection; a reload that fails after that is tried again by each of them."""


class TritonUnavailableError(Exception):
    """Nothing that speaks for Triton answers."""


class TritonRefusedError(Exception):
    """Triton answered that it will not; the message is in its words."""


@dataclass(frozen=True)
class Index:
    """The repository index: the ready versions, and the models of which a version is on its way or failed (why)."""

    ready: Mapping[str, tuple[str, ...]]
    loading: frozenset[str]
    unloading: frozenset[str]
    failed: Mapping[str, str]


class TritonClient:
    """The part of Triton's API that the sidecar needs."""

    def __init__(self, *, http_port: int, grpc_port: int, metrics_port: int, admin_key: str) -> None:
        self._base = f"http://127.0.0.1:{http_port}"
        self._grpc_port = grpc_port
        self._key = admin_key
        self._metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        self._session: aiohttp.ClientSession | None = None

    async def index(self, *, seconds: float = 5.0) -> Index:
        """What Triton holds. Raises TritonUnavailableError or TritonRefusedError."""
        answer = await self._call("/v2/repository/index", seconds)
        ready: dict[str, list[str]] = {}
        loading, unloading, failed = set(), set(), {}
        for entry in answer if isinstance(answer, list) else ():
            name, state = str(entry.get("name", "")), entry.get("state")
            if state == "READY":
                ready.setdefault(name, []).append(str(entry.get("version", "")))
            elif state == "LOADING":
                loading.add(name)
            elif state == "UNLOADING":
                unloading.add(name)
            elif state == "UNAVAILABLE":
                failed[name] = f"version {entry.get('version')}: {entry.get('reason', '')}"
        versions = {name: tuple(sorted(found, key=_numeric)) for name, found in ready.items()}
        return Index(versions, frozenset(loading), frozenset(unloading), failed)

    async def load(self, name: str) -> None:
        """Loads a model, or loads it again behind the one that serves. Returns when it is done. Raises
        TritonRefusedError or TritonUnavailableError."""
        if not await self._load_aside(name):
            await self._call(f"/v2/repository/models/{quote(name, safe='')}/load", _LOAD_SECONDS)

    async def _load_aside(self, name: str) -> bool:
        """Loads through gRPC; false when that did not tell how it ended.

        Triton closes every gRPC connection at its age, also this one, and goes on with the load. A model that was not
        there before shows its end in the index. One that is loaded behind another does not, so it is asked for again:
        Triton waits for the load that is under way, and does nothing when that one worked.
        """
        message = _model_name_message(name)
        for _ in range(_ASIDE_CALLS):
            was_ready = name in (await self.index()).ready
            try:
                status = await grpc_unary.call(
                    port=self._grpc_port, method=_LOAD_METHOD, message=message, metadata={_GRPC_KEY: self._key}
                )
            except CallFailedError:
                status = grpc_unary.Status(_UNAVAILABLE)
            if status.code == 0:
                return True
            if status.code != _UNAVAILABLE:
                raise TritonRefusedError(status.message)
            index = await self.index()
            while name in index.loading:
                await asyncio.sleep(1.0)
                index = await self.index()
            if not was_ready and name in index.ready:
                return True
            if not was_ready and name in index.failed:
                raise TritonRefusedError(index.failed[name])
        return False

    async def unload(self, name: str) -> None:
        """Starts to unload a model; it is gone when the index no longer shows it."""
        await self._call(f"/v2/repository/models/{quote(name, safe='')}/unload", 60.0)

    async def config(self, name: str) -> object:
        """The configuration in effect of a model, as Triton completed it."""
        return await self._get(f"/v2/models/{quote(name, safe='')}/config", 5.0)

    async def statistics(self) -> list[dict[str, Any]]:
        """`model_stats`: one entry per model and version."""
        answer = await self._get("/v2/models/stats", 5.0)
        found = answer.get("model_stats") if isinstance(answer, dict) else None
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    async def kinds(self, name: str) -> tuple[str, ...]:
        """The kinds of instances that Triton settled on for a loaded model (KIND_CPU, KIND_GPU, KIND_MODEL), sorted;
        empty when it does not say."""
        try:
            config = await self.config(name)
        except (TritonUnavailableError, TritonRefusedError):
            return ()
        groups = config.get("instance_group") if isinstance(config, dict) else None
        return tuple(sorted({str(group.get("kind", "")) for group in groups or () if isinstance(group, dict)} - {""}))

    async def runs(self, *, seconds: float = 2.0) -> bool:
        """Whether something listens on the HTTP port; a server that is too busy to answer in time runs."""
        try:
            async with self._client().get(f"{self._base}/v2/health/live", timeout=_timeout(seconds)):
                return True
        except TimeoutError:
            return True
        except aiohttp.ClientError:
            return False

    async def pending_requests(self) -> int | None:
        """Requests that wait for a model; None when the metrics are not there to tell."""
        try:
            async with self._client().get(self._metrics, timeout=_timeout(2.0)) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        found = _PENDING.findall(text)
        return round(sum(float(value) for value in found)) if found else None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, path: str, seconds: float) -> object:
        return await self._ask("GET", path, seconds)

    async def _call(self, path: str, seconds: float) -> object:
        return await self._ask("POST", path, seconds, json={}, headers={"admin-key": self._key})

    async def _ask(self, method: str, path: str, seconds: float, **more: Any) -> object:
        try:
            async with self._client().request(
                method, f"{self._base}{path}", timeout=_timeout(seconds), **more
            ) as answer:
                if answer.status == 200:
                    return await answer.json(content_type=None) if answer.content_length != 0 else None
                raise TritonRefusedError(await _reason(answer))
        except TimeoutError:
            raise TritonUnavailableError(f"Triton did not answer within {seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise TritonUnavailableError(f"Triton does not answer: {error}") from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


def explain(name: str, words: str) -> str:
    """A load error without what everyone knows already: Triton wraps the cause in its own layers."""
    if words.endswith("failed to poll from model repository"):
        return (
            "Triton refuses the configuration and says why only in its log: look there for "
            f"\"Poll failed for model directory '{name}'\""
        )
    text = words.removeprefix(f"load failed for model '{name}': ")
    text = re.sub(r"(version \d+) is at UNAVAILABLE state: ", r"\1: ", text)
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and line != ";").rstrip("; ")


async def _reason(answer: aiohttp.ClientResponse) -> str:
    if answer.status == 403:
        return "Triton refuses the admin key: was it started with another one?"
    text = await answer.text()
    try:
        body = await answer.json(content_type=None)
    except ValueError:
        return f"{answer.status} {answer.reason}: {text[:1000]}"
    return str(body["error"]) if isinstance(body, dict) and "error" in body else text[:1000]


def _model_name_message(name: str) -> bytes:
    """RepositoryModelLoadRequest with its field 2, model_name, as protobuf; names are at most 200 bytes."""
    data = name.encode()
    size = bytes([len(data)]) if len(data) < 0x80 else bytes([len(data) & 0x7F | 0x80, len(data) >> 7])
    return b"\x12" + size + data


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


def _numeric(version: str) -> tuple[int, str]:
    return (int(version), version) if version.isdigit() else (0, version)
