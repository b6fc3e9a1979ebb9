"""An HTTP client of a ModelService as it should be: connections kept and shared, a deadline, one retry when closed.

    pip install aiohttp
    python http_retry.py http://resnet.default.svc:8000 resnet50 request.json

Triton's HTTP server does not announce that it closes a connection, so a request may meet one that was just closed by a
pod that stops. Such a request is sent once more, on a new connection, which leads to another pod. That is the only
error that is retried here: an answer, whatever it says, is an answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp


class Client:
    """Keeps at most `connections` to the Service, each for at most `idle_seconds` without use."""

    def __init__(
        self, address: str, *, connections: int = 32, idle_seconds: float = 15.0, deadline_seconds: float = 5.0
    ) -> None:
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=idle_seconds)
        timeout = aiohttp.ClientTimeout(total=deadline_seconds)
        self._session = aiohttp.ClientSession(address, connector=connector, timeout=timeout)

    async def infer(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """One request in the KServe v2 JSON form; raises aiohttp.ClientError or TimeoutError."""
        try:
            return await self._send(model, request)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._send(model, request)

    async def close(self) -> None:
        """Ends the connections."""
        await self._session.close()

    async def _send(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        async with self._session.post(f"/v2/models/{model}/infer", json=request) as answer:
            body: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise aiohttp.ClientResponseError(
                    answer.request_info, answer.history, status=answer.status, message=str(body.get("error"))
                )
            return body


async def main(address: str, model: str, file: str) -> None:
    client = Client(address)
    try:
        print(json.dumps(await client.infer(model, json.loads(Path(file).read_text()))))
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
