"""Stand-ins for Google Cloud Storage and the Hugging Face Hub, because neither can be had here for real.

They answer the few requests that the sidecar makes, as the services' public documentation describes them
(https://cloud.google.com/storage/docs/json_api, https://huggingface.co/docs/hub/api); what a real service does beyond
that is not tested by them. The client libraries that talk to them are the real ones.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = hashlib.sha1(b"commit", usedforsecurity=False).hexdigest()


@dataclass
class Stores:
    """`objects` of the bucket `models` and `files` of the repository `acme/net` by name. `token`, where given, is asked
    of every request to the Hub. `truncate` cuts so many bytes off each answer; `damage` changes a byte of it."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    truncate: int = 0
    damage: bool = False
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def objects_list(self, request: web.Request) -> web.Response:
        if request.match_info["bucket"] != "models":
            return web.json_response({"error": {"message": "The specified bucket does not exist."}}, status=404)
        prefix = request.query.get("prefix", "")
        names = sorted(name for name in self.objects if name.startswith(prefix))
        begin = int(request.query.get("pageToken", "0"))
        page = {"items": [self._object(name) for name in names[begin : begin + 2]]}  # pages of two
        return web.json_response(page | ({"nextPageToken": str(begin + 2)} if len(names) > begin + 2 else {}))

    async def object(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self.objects or request.query.get("generation") not in (None, "7"):
            return web.json_response({"error": {"message": f"No such object: models/{name}"}}, status=404)
        if request.query.get("alt") == "media":
            return await self._send(request, self.objects[name])
        return web.json_response(self._object(name))

    async def model(self, request: web.Request) -> web.Response:
        if (problem := self._refused(request)) is not None:
            return problem
        if f"{request.match_info['org']}/{request.match_info['repo']}" != "acme/net":
            return web.json_response({"error": "x"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
        if request.match_info.get("revision", "main") not in ("main", "v1", COMMIT):
            return web.json_response({"error": "x"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, body in self.files.items():
            blob = hashlib.sha1(f"blob {len(body)}\0".encode() + body, usedforsecurity=False).hexdigest()
            large = {"lfs": {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}}
            siblings.append({"rfilename": name, "size": len(body), "blobId": blob, **(large if len(body) > 99 else {})})
        return web.json_response({"id": "acme/net", "modelId": "acme/net", "sha": COMMIT, "siblings": siblings})

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        if (problem := self._refused(request)) is not None:
            return problem
        assert request.match_info["revision"] == COMMIT, "only a commit never moves"
        return web.Response(
            status=302, headers={"Location": f"http://localhost:{self.port}/cdn/{request.match_info['path']}"}
        )

    async def cdn(self, request: web.Request) -> web.StreamResponse:
        assert "Authorization" not in request.headers, "the token is for the Hub, not for the host it redirects to"
        return await self._send(request, self.files[request.match_info["path"]])

    def _refused(self, request: web.Request) -> web.Response | None:
        self.requests.append(request.path_qs)
        if not self.token or request.headers.get("Authorization") == f"Bearer {self.token}":
            return None
        return web.json_response({"error": "Invalid credentials"}, status=401)

    def _object(self, name: str) -> dict[str, str]:
        body = self.objects[name]
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        return {"name": name, "size": str(len(body)), "generation": "7", "md5Hash": md5}

    async def _send(self, request: web.Request, body: bytes) -> web.StreamResponse:
        span = request.http_range
        start, stop = span.start or 0, min(span.stop or len(body), len(body))
        part = bytearray(body[start:stop])
        if self.damage:
            part[len(part) // 2] ^= 1
        answer = web.StreamResponse(status=206)
        answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        answer.content_length = len(part)
        await answer.prepare(request)
        await answer.write(bytes(part[: len(part) - self.truncate]))
        if self.truncate and request.transport is not None:
            request.transport.abort()
        return answer


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    """Both, on one port of loopback."""
    made = Stores()
    app = web.Application()
    app.add_routes(
        [
            web.get("/storage/v1/b/{bucket}/o", made.objects_list),
            web.get("/storage/v1/b/models/o/{name:.+}", made.object),
            web.get("/api/models/{org}/{repo}", made.model),
            web.get("/api/models/{org}/{repo}/revision/{revision}", made.model),
            web.get("/acme/net/resolve/{revision}/{path:.+}", made.resolve),
            web.get("/cdn/{path:.+}", made.cdn),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.port = runner.addresses[0][1]
        yield made
    finally:
        await runner.cleanup()
