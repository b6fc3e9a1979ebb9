"""Models on the web: `https://HOST/PATH`, an archive of a model directory or a single file of weights.

The file goes to the model volume first and is unpacked from there: a zip cannot be read from a stream, and a download
that breaks off must leave nothing behind that looks complete. What did arrive is kept beside it, and the next attempt
asks for the rest, if the server says that the file is still the same one. Credentials have no place in an address; they
come from a Secret (token, or username and password). A query is sent but never shown.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import aiohttp

from nereus.api.protocol import ModelPlan
from nereus.sidecar import archive
from nereus.sidecar.fetch.base import FetchContext, FetchError, Progress
from nereus.sidecar.fetch.credentials import Credentials, read_credentials
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer import digests

_CHUNK = 1 << 20
_REMEDIES = {
    401: "the server wants (other) credentials; source.secretName names the Secret that holds them",
    403: "the server refuses this address without (other) credentials; a signed address may have expired",
    404: "there is nothing at this address; check the URI",
    410: "what was at this address is gone",
    429: "the server asks to come back later",
}


class HttpsSource:
    """One file at one address. Its content is taken as fixed: a new version is a new URI."""

    changes = False
    resumes = True

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:
        self._uri = model.source
        self._checksum = model.checksum
        self._secret = model.credentials
        self._shown = redact(model.source)
        self._context = context
        self._file_name = Path(unquote(urlsplit(model.source).path)).name

    def fingerprint(self) -> str:
        return ""

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        download = tree.with_name("download")
        await asyncio.to_thread(_emptied, tree)
        file_name = await self._download(download, progress)
        if self._checksum:
            progress.step = "verifying"
            await self._verify(download)
        if archive.is_archive(file_name):
            progress.step = "unpacking"
            limits = self._context.limits
            try:
                await asyncio.to_thread(
                    archive.unpack, download, tree, name=file_name, limits=limits, progress=progress
                )
            finally:
                download.unlink()
        else:
            (tree / "1").mkdir()
            download.rename(tree / "1" / file_name)
        return tree

    async def _download(self, target: Path, progress: Progress) -> str:
        limits = self._context.limits
        timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_read=limits.silence_seconds)
        credentials = read_credentials(self._secret)
        tls = self._context.tls or credentials.tls()
        kept = _Kept(target)
        headers = {"Accept-Encoding": "identity", **_authorization(credentials), **kept.headers()}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session,
                session.get(self._uri, ssl=tls, headers=headers) as answer,
            ):
                have = kept.continued_by(answer)
                await self._check(answer, target, progress, have)
                kept.note(answer, progress.total_bytes)
                with target.open("ab" if have else "wb") as file:
                    await self._save(answer, file, progress)
                kept.done()
                return self._name(answer)
        except TimeoutError:
            waited = f"{limits.silence_seconds:g} s" if progress.done_bytes else f"{limits.connect_seconds:g} s"
            raise FetchError(f"{self._shown}: no answer within {waited}{_so_far(progress)}") from None
        except aiohttp.ClientError as error:
            raise FetchError(f"{self._shown}: {_words(error)}{_so_far(progress)}") from None

    async def _verify(self, download: Path) -> None:
        found = await asyncio.to_thread(digests.of_file, download)
        if f"sha256:{found}" != self._checksum:
            await asyncio.to_thread(download.unlink)
            raise FetchError(
                f"{self._shown}: the SHA-256 of the file is {found} and source.checksum says {self._checksum}: the"
                " content is not the one that was meant, or the checksum is that of another one"
            )

    async def _check(self, answer: aiohttp.ClientResponse, target: Path, progress: Progress, have: int) -> None:
        if answer.url.scheme != "https":
            raise FetchError(f"{self._shown} redirects to {redact(str(answer.url))}, which is not https; not followed")
        if answer.status != (206 if have else 200):
            detail = _error_document(await answer.content.read(4096))
            remedy = _REMEDIES.get(answer.status, "the server failed" if answer.status >= 500 else "")
            words = "; ".join(part for part in (remedy, detail) if part)
            raise FetchError(f"{self._shown}: {answer.status} {answer.reason}{f': {words}' if words else ''}")
        limits, size = self._context.limits, answer.content_length
        progress.step, progress.done_bytes = "downloading", have
        progress.total_bytes = None if size is None else have + size
        if size is None:
            return
        if progress.place is not None:
            await progress.place(have + size, "")
        if have + size > limits.max_bytes:
            raise FetchError(f"{self._shown} has {have + size} bytes; at most {limits.max_bytes} are allowed")
        free = shutil.disk_usage(target.parent).free - limits.free_reserve_bytes
        if size > free:
            raise FetchError(
                f"{self._shown} has {size} bytes and the model volume has room for {max(free, 0)}; "
                "raise the pod's ephemeral storage or use a smaller model"
            )

    async def _save(self, answer: aiohttp.ClientResponse, file: IO[bytes], progress: Progress) -> None:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            progress.advance(len(chunk))
            if progress.done_bytes > self._context.limits.max_bytes:
                raise FetchError(f"{self._shown} has more than the allowed {self._context.limits.max_bytes} bytes")
            await asyncio.to_thread(file.write, chunk)
        if not progress.done_bytes:
            raise FetchError(f"{self._shown} is an empty file")

    def _name(self, answer: aiohttp.ClientResponse) -> str:
        """The last part of the address, or of the one it redirects to when only that says what the file is."""
        name = self._file_name
        if "." not in name:
            name = Path(unquote(answer.url.path)).name or name
        if not name or name in (".", ".."):
            raise FetchError(
                f"{self._shown}: the address ends without a file name; Triton needs one, such as model.onnx"
            )
        return name


class _Kept:
    """What an earlier attempt left of the file, and by which mark the server can say that it is still that file."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._notes = target.with_name("download.json")
        try:
            self._mark = str(json.loads(self._notes.read_text())["mark"])
            self._have = target.stat().st_size if self._mark else 0
        except (OSError, ValueError, KeyError, TypeError):
            self._mark, self._have = "", 0

    def headers(self) -> dict[str, str]:
        """Asks for the rest, or for all of it when it is not the same file any more (RFC 9110, section 13.1.5)."""
        return {"Range": f"bytes={self._have}-", "If-Range": self._mark} if self._have else {}

    def continued_by(self, answer: aiohttp.ClientResponse) -> int:
        """How many of the kept bytes the answer goes on from."""
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {self._have}-")
        if answer.status == 416:
            self.done()  # nothing can be added to what is there: the next attempt begins anew
            self._target.unlink(missing_ok=True)
        return self._have if self._have and answer.status == 206 and begins else 0

    def note(self, answer: aiohttp.ClientResponse, total: int | None) -> None:
        """Remembers the mark of the file that now arrives; without a strong one there is no going on later."""
        mark = answer.headers.get("ETag", "")
        if not mark.startswith('"'):
            mark = answer.headers.get("Last-Modified", "")
        self._notes.write_text(json.dumps({"mark": mark if total else ""}))

    def done(self) -> None:
        self._notes.unlink(missing_ok=True)


def _authorization(credentials: Credentials) -> dict[str, str]:
    """aiohttp sends it to the host of the address only, not to one that this redirects to."""
    token, user = credentials.get("token"), credentials.get("username")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if set(credentials.values) - {"ca.crt"}:
        credentials.require("username", "password", scheme="https")
    if not user:
        return {}
    pair = base64.b64encode(f"{user}:{credentials.get('password')}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _emptied(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()


def _words(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        words = error.os_error.strerror
        return f"the name {error.host} is not known to DNS ({words}); check the host and the cluster's DNS"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"TLS: the certificate of {error.host} is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"TLS: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection was closed before the file was complete"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "too many redirects"
    return f"{type(error).__name__}: {redact(str(error)) if '://' in str(error) else error}"


def _so_far(progress: Progress) -> str:
    if not progress.done_bytes:
        return ""
    total = f" of {progress.total_bytes}" if progress.total_bytes else ""
    return f" (after {progress.done_bytes}{total} bytes)"


def _error_document(body: bytes) -> str:
    """What an object store says in its XML; other error pages are noise."""
    text = body.decode(errors="replace")
    found = [re.search(rf"<{tag}>([^<]{{1,200}})</{tag}>", text) for tag in ("Code", "Message")]
    return ": ".join(match[1] for match in found if match)
