"""A real S3 server (versitygw) on loopback, a client that can put, and a way to it that is slow or breaks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from localcluster import build
from localcluster.report import Progress
from tests.harness.tritonserver import free_ports

ACCESS, SECRET = "AKIATEST", "a-secret-of-the-test"


@dataclass
class S3Server:
    """versitygw on a directory. The port stays the same over `kill` and `start`. `tls` are its certificate and key,
    `authority` who issued them."""

    root: Path
    address: str = "127.0.0.1"
    versioned: bool = False
    tls: tuple[Path, Path] | None = None
    authority: Path | None = None
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        data, versions = self.root / "data", self.root / "versions"
        for folder in (data, versions):
            folder.mkdir(parents=True, exist_ok=True)
        binary = build.ensure_module(build.S3, progress=Progress()) / "versitygw"
        command = [str(binary), "--port", f"{self.address}:{self.port}", "--quiet", "--keep-alive"]
        if self.tls is not None:
            command += ["--cert", str(self.tls[0]), "--key", str(self.tls[1])]
        command += ["posix", *(["--versioning-dir", str(versions)] if self.versioned else []), str(data)]
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
        with (self.root / "s3.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.root
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.request("GET", "/")
                return
            except OSError:
                assert self.process.poll() is None, (self.root / "s3.log").read_text()
                assert time.monotonic() < deadline, "versitygw does not answer"
                time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def bucket(self, name: str) -> None:
        self.request("PUT", f"/{name}")

    def put(self, key: str, body: bytes) -> str:
        """Stores BUCKET/KEY; the version ID, where the bucket has versions."""
        return self.request("PUT", f"/{key}", body).get("x-amz-version-id", "")

    def keep_versions(self, bucket: str) -> None:
        text = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.request("PUT", f"/{bucket}", text, query="versioning=")

    def request(self, method: str, path: str, body: bytes = b"", *, query: str = "") -> dict[str, str]:
        """One signed request (AWS Signature Version 4); the headers of the answer."""
        url = f"{self.endpoint}{quote(path)}{f'?{query}' if query else ''}"
        headers = _signed(method, url, body)
        request = urllib.request.Request(url, data=body or None, method=method, headers=headers)
        try:
            trusted = ssl.create_default_context(cafile=str(self.authority)) if self.authority else None
            with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
                return {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None


def _signed(method: str, url: str, body: bytes) -> dict[str, str]:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    parts, now = urlsplit(url), datetime.now(UTC)
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    names = ";".join(headers)
    canonical = "\n".join(
        [method, parts.path, parts.query, *(f"{name}:{value}" for name, value in headers.items()), "", names, payload]
    )
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for word in (day, "us-east-1", "s3", "aws4_request", text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    authorization = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**headers, "authorization": authorization}


@contextmanager
def s3_server(root: Path, **options: object) -> Iterator[S3Server]:
    """A running server with an empty bucket `models`."""
    server = S3Server(root, **options)  # type: ignore[arg-type]
    server.start()
    try:
        server.bucket("models")
        yield server
    finally:
        server.kill()


def secret(folder: Path, **keys: str) -> str:
    """A directory as the kubelet mounts a Secret; underscores in a key's first part stay, `__` is a dot."""
    folder.mkdir(exist_ok=True)
    for key, value in keys.items():
        (folder / key.replace("__", ".")).write_text(value)
    return str(folder)


@dataclass
class Relay:
    """A TCP way to a server. `bytes_per_second` slows what comes back; `cut_after` ends a connection after so many
    bytes of the answer; `seen` counts connections, `passed` the bytes of answers."""

    target: int
    port: int = 0
    bytes_per_second: float | None = None
    cut_after: int | None = None
    seen: int = 0
    passed: int = 0
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.handlers.add(task)
        task.add_done_callback(self.handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        ends = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(back)
            await asyncio.gather(self._forward(reader, back), self._answer(there, writer))
        except OSError:
            pass
        finally:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.transport.abort()

    async def close(self) -> None:
        """Ends every connection, so that none is left for the collector of garbage to complain about."""
        handlers = list(self.handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.sleep(0.01)  # an aborted transport is closed by the next turn of the loop

    @staticmethod
    async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()

    async def _answer(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        sent = 0
        while chunk := await source.read(65536):
            if self.cut_after is not None and sent + len(chunk) > self.cut_after:
                raise ConnectionResetError
            target.write(chunk)
            await target.drain()
            sent += len(chunk)
            self.passed += len(chunk)
            if self.bytes_per_second is not None:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
        raise ConnectionResetError


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """A relay on loopback, until the end of the block."""
    made = Relay(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
