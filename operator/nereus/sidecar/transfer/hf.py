"""`hf://ORG/REPO[/PATH]`: a model repository on the Hugging Face Hub, or on a mirror of it.

huggingface_hub resolves the revision to a commit and lists its files with their digests; the bytes are read in ranges
from where the Hub redirects to, so that a broken download goes on. Everything is of one commit, whatever the branch
does meanwhile. HF_TOKEN comes from the Secret or from runtime.env, HF_ENDPOINT (a mirror) likewise.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import huggingface_hub
from huggingface_hub import errors

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.fetch.credentials import Credentials
from nereus.sidecar.transfer.base import Item, Listing, TemporaryError
from nereus.sidecar.transfer.job import Job
from nereus.sidecar.transfer.ranges import BUSY, HttpRanges

HUB = "https://huggingface.co"


async def open_remote(job: Job, credentials: Credentials) -> Hub:
    """Raises FetchError for credentials that cannot be."""
    credentials.require(*(["HF_TOKEN"] if set(credentials.values) - {"ca.crt", "HF_ENDPOINT"} else []), scheme="hf")
    return Hub(job, credentials)


class Hub:
    """The files of one repository below one path, of one commit."""

    def __init__(self, job: Job, credentials: Credentials) -> None:
        organisation, repository, *path = job.uri.removeprefix("hf://").strip("/").split("/")
        self._name = f"{organisation}/{repository}"
        self._path = "/".join(path)
        self._revision = job.revision or None
        self._endpoint = (credentials.get("HF_ENDPOINT") or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        self._token = credentials.get("HF_TOKEN") or os.environ.get("HF_TOKEN") or None
        if credentials.authorities:
            os.environ["SSL_CERT_FILE"] = credentials.authorities  # what the library's HTTP client reads
        self._api = huggingface_hub.HfApi(endpoint=self._endpoint, token=self._token or False)
        self._http = HttpRanges(job, credentials)
        self._shown = self._http.shown
        self._commit = ""

    async def list(self) -> Listing:
        found = await asyncio.to_thread(self._ask)
        self._commit = str(found.sha)
        prefix = f"{self._path}/" if self._path else ""
        items, single = [], False
        for file in found.siblings or ():
            if file.rfilename == self._path:
                items, single = [_item(file, self._path.rpartition("/")[2], self._commit)], True
                break
            if file.rfilename.startswith(prefix) and not _is_about(file.rfilename):
                items.append(_item(file, file.rfilename.removeprefix(prefix), self._commit))
        return Listing(items=tuple(items), single=single, version=self._commit)

    async def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        url = huggingface_hub.hf_hub_url(self._name, item.key, revision=self._commit, endpoint=self._endpoint)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async for chunk in self._http.read(url, start, size, headers=headers):
            yield chunk

    async def close(self) -> None:
        await self._http.close()

    def _ask(self) -> Any:
        """The repository at the revision; once a commit is known, at that one."""
        revision = self._commit or self._revision
        try:
            return self._api.model_info(self._name, revision=revision, files_metadata=True, timeout=60)
        except errors.GatedRepoError:
            raise FetchError(
                f"{self._shown}: the repository is gated: accept its terms on the Hub with the account of HF_TOKEN"
            ) from None
        except errors.RevisionNotFoundError:
            raise FetchError(
                f"{self._shown} has no revision {revision}; source.revision is a commit, tag or branch"
            ) from None
        except errors.RepositoryNotFoundError:
            also = "the HF_TOKEN may not see it" if self._token else "it is private and there is no HF_TOKEN"
            raise FetchError(
                f"{self._shown}: there is no such repository, or {also}; check the name and the Secret"
            ) from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in BUSY:
                raise TemporaryError(f"{self._shown}: the Hub is busy: {status}") from None
            if status == 401:
                raise FetchError(
                    f"{self._shown}: 401: the Hub does not accept this HF_TOKEN; check the Secret"
                ) from None
            raise FetchError(f"{self._shown}: {str(error).splitlines()[0]}") from None
        except Exception as error:
            if isinstance(error, (OSError, *_transport_errors())):
                raise TemporaryError(f"{self._shown}: {self._endpoint}: {error}") from None
            raise


def _transport_errors() -> tuple[type[BaseException], ...]:
    """What the library's HTTP client raises when the way is broken; which client it is has changed before."""
    found = []
    for name in ("httpx", "httpx2"):
        try:
            found.append(__import__(name).TransportError)
        except ImportError:
            continue
    return tuple(found)


def _is_about(name: str) -> bool:
    """Files about the repository, not of the model."""
    return name in (".gitattributes", ".gitignore", "README.md", "LICENSE")


def _item(file: Any, path: str, commit: str) -> Item:
    sha256 = file.lfs.sha256 if file.lfs else ""
    digest = f"sha256:{sha256}" if sha256 else f"git:{file.blob_id}" if file.blob_id else ""
    return Item(path=path, key=file.rfilename, size=int(file.size or 0), version=file.blob_id or commit, digest=digest)
