"""`s3://BUCKET/PATH`: Amazon S3 and everything that speaks its protocol, through s3fs.

Credentials: the keys of the Secret where one is named, otherwise what the client library finds by itself (web identity
of the pod's ServiceAccount, variables of runtime.env, the instance's role), otherwise none, as for a public bucket.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

import botocore.exceptions
import botocore.httpsession
import s3fs
from aiobotocore.session import AioSession
from aiohttp import ClientError as HttpError

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.fetch.credentials import Credentials
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer.base import (
    CHUNK_BYTES,
    PARALLEL,
    ChangedError,
    Item,
    Listing,
    TemporaryError,
)
from nereus.sidecar.transfer.job import Job

T = TypeVar("T")
_MD5 = re.compile(r"[0-9a-f]{32}")
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "503", "500"})
_REMEDIES = {
    "NoSuchBucket": "the bucket does not exist at this endpoint; check its name and AWS_ENDPOINT_URL",
    "NoSuchVersion": "the object has no such version; source.revision is the ID of one",
    "AccessDenied": "the credentials may not read it; they need s3:ListBucket on the bucket and s3:GetObject on the"
    " objects",
    "403": "the credentials may not read it, or there are none; they need s3:GetObject",
    "InvalidAccessKeyId": "the server does not know this AWS_ACCESS_KEY_ID; check the Secret",
    "XAdminUserNotFound": "the server does not know this AWS_ACCESS_KEY_ID; check the Secret",  # versitygw's word
    "SignatureDoesNotMatch": "the AWS_SECRET_ACCESS_KEY is not the one of this AWS_ACCESS_KEY_ID; check the Secret",
    "ExpiredToken": "the AWS_SESSION_TOKEN has expired; write a new one into the Secret",
    "InvalidToken": "the AWS_SESSION_TOKEN is not one of this server; check the Secret",
    "RequestTimeTooSkewed": "the clocks of this node and of the server differ too much",
    "AuthorizationHeaderMalformed": "the region is another one; set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
}


async def open_remote(job: Job, credentials: Credentials) -> S3:
    """Raises FetchError for credentials that cannot be, and for a URI without a bucket."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if any(credentials.get(key) for key in keys):
        credentials.require(*keys, scheme="s3")
    endpoint = credentials.get("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    region = credentials.get("AWS_REGION", "AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION", "")
    style = credentials.get("AWS_S3_ADDRESSING_STYLE") or os.environ.get("AWS_S3_ADDRESSING_STYLE", "")
    custom = endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3")
    client: dict[str, Any] = {"region_name": region} if region else {}
    if not region and custom:
        client["region_name"] = "us-east-1"  # servers of one's own take this one, and a signature needs some
    authorities = _authorities(credentials)
    if authorities:
        client["verify"] = authorities
    system = s3fs.S3FileSystem(
        anon=not await _has_credentials(credentials),
        key=credentials.get(keys[0]) or None,
        secret=credentials.get(keys[1]) or None,
        token=credentials.get("AWS_SESSION_TOKEN") or None,
        endpoint_url=endpoint or None,
        client_kwargs=client,
        config_kwargs={
            "connect_timeout": job.connect_seconds,
            "read_timeout": job.silence_seconds,
            "max_pool_connections": 2 * PARALLEL,
            "retries": {"total_max_attempts": 1},  # the engine tries again, and keeps count
            # servers of one's own rarely have a name per bucket
            "s3": {"addressing_style": style or ("path" if custom else "auto")},
        },
        asynchronous=True,
        skip_instance_cache=True,
    )
    system.retries = 1
    return S3(system, job)


def _authorities(credentials: Credentials) -> str:
    """The file of the authorities to trust: those of the Secret beside the others, in a file of this process. Empty:
    the library's own. Raises FetchError when what the Secret has is none."""
    machine = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or ""
    if not credentials.authorities:
        return machine
    credentials.tls()
    path = Path(tempfile.mkdtemp(prefix="nereus-"), "authorities.pem")
    both = [Path(machine or botocore.httpsession.where()), Path(credentials.authorities)]
    path.write_text("\n".join(file.read_text() for file in both))
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    return str(path)


async def _has_credentials(credentials: Credentials) -> bool:
    if credentials.get("AWS_ACCESS_KEY_ID"):
        return True
    try:
        return await AioSession().get_credentials() is not None
    except botocore.exceptions.BotoCoreError:
        return False


class S3:
    """One prefix or one object of a bucket."""

    def __init__(self, system: Any, job: Job) -> None:
        bucket, _, path = job.uri.removeprefix("s3://").partition("/")
        self._system, self._bucket, self._path = system, bucket, path.strip("/")
        self._only_directory = path.endswith("/") or not self._path
        self._revision = job.revision
        self._shown = redact(job.uri)
        self._silence = job.silence_seconds

    async def list(self) -> Listing:
        single = None if self._only_directory else await self._head()
        if single is not None:
            return Listing(items=(single,), single=True, version=self._revision)
        if self._revision:
            raise FetchError(
                f"{self._shown}: source.revision is the version ID of one object, and this is a directory (or nothing);"
                " put the version into the path, or use source.checksum"
            )
        prefix = f"{self._path}/" if self._path else ""
        items: list[Item] = []
        after: dict[str, str] = {}
        while True:
            page = await self._call("list_objects_v2", Bucket=self._bucket, Prefix=prefix, **after)
            items += [
                _item(entry["Key"].removeprefix(prefix), entry["Key"], entry["Size"], entry["ETag"])
                for entry in page.get("Contents", ())
                if not entry["Key"].endswith("/")  # how some tools mark a directory
            ]
            if not page.get("IsTruncated"):
                return Listing(items=tuple(items))
            after = {"ContinuationToken": page["NextContinuationToken"]}

    async def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        version = {"VersionId": self._revision} if self._revision else {"IfMatch": item.version}
        wanted = f"bytes={start}-{start + size - 1}"
        answer = await self._call("get_object", Bucket=self._bucket, Key=item.key, Range=wanted, **version)
        async with answer["Body"] as body:
            while chunk := await self._guarded(body.read(CHUNK_BYTES)):
                yield chunk

    async def close(self) -> None:
        if self._system._s3creator is not None:
            await self._system._s3creator.__aexit__(None, None, None)

    async def _head(self) -> Item | None:
        """The object of exactly this name; None when there is none."""
        version = {"VersionId": self._revision} if self._revision else {}
        try:
            found = await self._call("head_object", Bucket=self._bucket, Key=self._path, **version)
        except FileNotFoundError:
            return None
        name = self._path.rpartition("/")[2]
        return _item(name, self._path, found["ContentLength"], found["ETag"])

    async def _call(self, name: str, **arguments: object) -> Any:
        try:
            return await self._guarded(self._system._call_s3(name, **arguments))
        except OSError as error:
            cause = error.__cause__
            if not isinstance(cause, botocore.exceptions.ClientError):
                raise TemporaryError(f"{self._shown}: {error}") from None
            raise self._refused(name, cause) from None

    def _refused(self, name: str, error: Any) -> Exception:
        said = error.response.get("Error", {})
        code, words = str(said.get("Code", "")), str(said.get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # An answer to HEAD has no body that says more; without the right to list, 403 stands for 404 too.
        if name == "head_object" and (status == 404 or (status in (400, 403) and not self._revision)):
            return FileNotFoundError(self._path)
        if code in ("PreconditionFailed", "412", "NoSuchKey"):
            return ChangedError(f"{self._shown} was changed while it was fetched")
        if code in _BUSY or status >= 500 or status == 429:
            return TemporaryError(f"{self._shown}: the server is busy: {code}: {words}")
        told = f"{code}: {words}" if words and words != code else code
        remedy = _REMEDIES.get(code)
        return FetchError(f"{self._shown}: {told}{f': {remedy}' if remedy else ''}")

    async def _guarded(self, answer: Awaitable[T]) -> T:
        """Gives errors of the way to the server our words."""
        try:
            return await answer
        except botocore.exceptions.NoCredentialsError:
            raise FetchError(
                f"{self._shown}: there are no credentials; name a Secret in source.secretName, or give the pod's"
                " ServiceAccount an identity"
            ) from None
        except botocore.exceptions.SSLError as error:
            raise FetchError(
                f"{self._shown}: TLS: {error.kwargs.get('error', error)}; the authority can be given as ca.crt in the"
                " Secret"
            ) from None
        except botocore.exceptions.EndpointConnectionError as error:
            raise TemporaryError(f"{self._shown}: cannot connect to {redact(error.kwargs['endpoint_url'])}") from None
        except (botocore.exceptions.ReadTimeoutError, TimeoutError):
            raise TemporaryError(f"{self._shown}: the server was silent for {self._silence:g} s") from None
        except (botocore.exceptions.HTTPClientError, HttpError, asyncio.IncompleteReadError) as error:
            raise TemporaryError(f"{self._shown}: the connection broke: {type(error).__name__}") from None
        except botocore.exceptions.BotoCoreError as error:
            raise FetchError(f"{self._shown}: {error}") from None


def _item(path: str, key: str, size: int, etag: str) -> Item:
    plain = etag.strip('"')
    is_md5 = _MD5.fullmatch(plain) is not None
    digest = f"md5:{plain}" if is_md5 else ""
    return Item(path=path, key=key, size=size, version=etag, digest=digest, digest_may_lie=is_md5)
