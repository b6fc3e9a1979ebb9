"""The stores by scheme. Only the module that a job needs is imported: each brings a client library."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.fetch.credentials import Credentials
from nereus.sidecar.transfer.base import Remote
from nereus.sidecar.transfer.job import Job

STORES = {
    "s3": "nereus.sidecar.transfer.s3",
    "gs": "nereus.sidecar.transfer.gs",
    "hf": "nereus.sidecar.transfer.hf",
}


async def open_remote(job: Job, credentials: Credentials) -> Remote:
    """The store of a job's URI, ready to be asked. Raises FetchError."""
    module = STORES.get(job.uri.partition("://")[0])
    if module is None:
        raise FetchError(f"{job.uri} names no store that is known here: {', '.join(STORES)}")
    return cast(Remote, await import_module(module).open_remote(job, credentials))
