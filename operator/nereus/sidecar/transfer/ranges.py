"""Ranges of files over HTTP, for the stores that speak it plainly, and what their refusals mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.fetch.credentials import Credentials
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer.base import CHUNK_BYTES, PARALLEL, ChangedError, TemporaryError
from nereus.sidecar.transfer.job import Job

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpRanges:
    """A session with the timeouts of a job. `shown` is what messages call the source."""

    def __init__(self, job: Job, credentials: Credentials) -> None:
        self.shown = redact(job.uri)
        self._silence = job.silence_seconds
        self._tls = credentials.tls()
        timeout = aiohttp.ClientTimeout(total=None, connect=job.connect_seconds, sock_read=job.silence_seconds)
        connector = aiohttp.TCPConnector(limit=2 * PARALLEL)
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=connector, trust_env=True, auto_decompress=False
        )

    @asynccontextmanager
    async def get(
        self, url: str, *, headers: Mapping[str, str], params: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer, whatever its status. Raises TemporaryError for a broken way, FetchError for one that is wrong."""
        try:
            async with self._session.get(url, headers=headers, params=params, ssl=self._tls) as answer:
                if answer.status in BUSY:
                    raise TemporaryError(f"{self.shown}: the server is busy: {answer.status} {answer.reason}")
                yield answer
        except TimeoutError:
            raise TemporaryError(f"{self.shown}: the server was silent for {self._silence:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise FetchError(
                f"{self.shown}: TLS: the certificate of {error.host} is not trusted: {error.certificate_error}; its"
                " authority can be given as ca.crt in the Secret"
            ) from None
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or error.os_error
            raise TemporaryError(f"{self.shown}: cannot connect to {error.host}:{error.port}: {why}") from None
        except aiohttp.ClientError as error:
            raise TemporaryError(f"{self.shown}: the connection broke: {type(error).__name__}") from None

    async def read(
        self, url: str, start: int, size: int, *, headers: Mapping[str, str], params: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a range. Raises ChangedError when the file is gone or shorter now."""
        wanted = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "gzip, identity;q=0.5"}
        async with self.get(url, headers={**headers, **wanted}, params=params) as answer:
            if answer.status in (404, 412, 416):
                raise ChangedError(f"{self.shown} was changed while it was fetched")
            if answer.status == 200 and start == 0 and answer.content_length == size:
                pass  # a whole small file: some servers answer so
            elif answer.status != 206:
                raise FetchError(f"{self.shown}: {answer.status} {answer.reason} for a part of a file")
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-{start + size - 1}/"):
                raise FetchError(f"{self.shown}: the server sent other bytes than were asked for")
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def close(self) -> None:
        await self._session.close()
