"""`gs://BUCKET/PATH`: Google Cloud Storage by its JSON API, with google-auth for the tokens.

Not gcsfs: that brings grpc and three more Google packages for what are two requests here, and it pins no generation
while it reads. https://cloud.google.com/storage/docs/json_api/v1/objects

Credentials: GOOGLE_APPLICATION_CREDENTIALS of the Secret (the JSON of a service account or of a federated identity),
otherwise what google-auth finds by itself (workload identity), otherwise none, as for a public bucket.
STORAGE_EMULATOR_HOST in runtime.env names another server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import google.auth
import google.auth.exceptions
import google.auth.transport

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.fetch.credentials import Credentials
from nereus.sidecar.transfer.base import Item, Listing, TemporaryError
from nereus.sidecar.transfer.job import Job
from nereus.sidecar.transfer.ranges import HttpRanges

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
KEY = "GOOGLE_APPLICATION_CREDENTIALS"
FIELDS = "name,size,generation,md5Hash"
_REMEDIES = {
    401: "the credentials are not accepted; check GOOGLE_APPLICATION_CREDENTIALS in the Secret",
    403: "the credentials may not read it, or there are none; they need storage.objects.list and storage.objects.get",
    404: "the bucket does not exist; check its name",
}


async def open_remote(job: Job, credentials: Credentials) -> GoogleStorage:
    """Raises FetchError for credentials that cannot be."""
    credentials.require(*([KEY] if set(credentials.values) - {"ca.crt"} else []), scheme="gs")
    return GoogleStorage(job, credentials, await asyncio.to_thread(_identity, credentials))


def _identity(credentials: Credentials) -> Any:
    text = credentials.get(KEY)
    try:
        if text:
            return google.auth.load_credentials_from_dict(json.loads(text), scopes=[SCOPE])[0]
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            return None
        return google.auth.default(scopes=[SCOPE])[0]
    except google.auth.exceptions.DefaultCredentialsError as error:
        if text:
            raise FetchError(f"{KEY} of the Secret is no credential of Google: {str(error).splitlines()[0]}") from None
        return None
    except ValueError as error:
        raise FetchError(f"{KEY} of the Secret is no credential of Google: {str(error).splitlines()[0]}") from None


class GoogleStorage:
    """One prefix or one object of a bucket."""

    def __init__(self, job: Job, credentials: Credentials, identity: Any) -> None:
        bucket, _, path = job.uri.removeprefix("gs://").partition("/")
        host = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        if host and "://" not in host:
            host = f"http://{host}"
        self._objects = f"{host or 'https://storage.googleapis.com'}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._path = path.strip("/")
        self._only_directory = path.endswith("/") or not self._path
        self._revision = job.revision
        self._http = HttpRanges(job, credentials)
        self._shown = self._http.shown
        self._identity = identity
        self._lock = asyncio.Lock()

    async def list(self) -> Listing:
        if not self._only_directory:
            params = {"fields": FIELDS} | ({"generation": self._revision} if self._revision else {})
            found = await self._json(self._url(self._path), params, missing_is_none=True)
            if found is not None:
                item = _item(self._path.rpartition("/")[2], found)
                return Listing(items=(item,), single=True, version=item.version)
        if self._revision:
            raise FetchError(
                f"{self._shown}: source.revision is the generation of one object, and this is a directory (or nothing);"
                " put the version into the path, or use source.checksum"
            )
        prefix = f"{self._path}/" if self._path else ""
        items: list[Item] = []
        params = {"prefix": prefix, "fields": f"items({FIELDS}),nextPageToken"}
        while True:
            page = await self._json(self._objects, params) or {}
            items += [
                _item(entry["name"].removeprefix(prefix), entry)
                for entry in page.get("items", ())
                if not entry["name"].endswith("/")
            ]
            if "nextPageToken" not in page:
                return Listing(items=tuple(items))
            params["pageToken"] = page["nextPageToken"]

    async def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        params = {"alt": "media", "generation": item.version}
        headers = await self._headers()
        async for chunk in self._http.read(self._url(item.key), start, size, headers=headers, params=params):
            yield chunk

    async def close(self) -> None:
        await self._http.close()

    def _url(self, name: str) -> str:
        return f"{self._objects}/{quote(name, safe='')}"

    async def _json(self, url: str, params: Mapping[str, str], *, missing_is_none: bool = False) -> Any:
        async with self._http.get(url, headers=await self._headers(), params=params) as answer:
            if answer.status == 404 and missing_is_none:
                return None
            if answer.status != 200:
                said = _message(await answer.text(errors="replace"))
                remedy = _REMEDIES.get(answer.status, "")
                words = "; ".join(part for part in (remedy, said) if part)
                raise FetchError(f"{self._shown}: {answer.status} {answer.reason}{f': {words}' if words else ''}")
            return await answer.json(content_type=None)

    async def _headers(self) -> dict[str, str]:
        """The token, refreshed when it is about to expire."""
        if self._identity is None:
            return {}
        async with self._lock:
            if not self._identity.valid:
                try:
                    await asyncio.to_thread(self._identity.refresh, _Transport())
                except google.auth.exceptions.TransportError as error:
                    raise TemporaryError(f"{self._shown}: no token from Google: {error}") from None
                except google.auth.exceptions.GoogleAuthError as error:
                    raise FetchError(f"{self._shown}: Google gives no token for the credentials: {error}") from None
        headers: dict[str, str] = {}
        self._identity.apply(headers)
        return headers


class _Answer(google.auth.transport.Response):  # type: ignore[misc]
    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self._status, self._headers, self._data = status, headers, data

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def data(self) -> bytes:
        return self._data


class _Transport(google.auth.transport.Request):  # type: ignore[misc]
    """How google-auth asks for tokens: with the standard library, so that no other HTTP client is installed for it."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> _Answer:
        data = body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=timeout or 30) as answer:  # noqa: S310
                return _Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, dict(error.headers), error.read())
        except OSError as error:
            raise google.auth.exceptions.TransportError(str(error)) from error


def _item(path: str, found: Mapping[str, Any]) -> Item:
    md5 = found.get("md5Hash")  # composite objects have none
    digest = f"md5:{base64.b64decode(md5).hex()}" if md5 else ""
    name = str(found["name"])
    return Item(path=path, key=name, size=int(found["size"]), version=str(found["generation"]), digest=digest)


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""
