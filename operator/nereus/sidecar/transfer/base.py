"""What the engine asks of a store, and the errors by which a store answers."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.transfer.job import Job

PARALLEL = 8
"""Ranges under way at a time. One connection of an object store gives some tens of MB/s, and eight fill most links."""
CHUNK_BYTES = 256 << 10
CA_KEY = "ca.crt"
"""Of a Secret: further authorities to trust, in PEM; the name that Kubernetes itself uses."""


class TemporaryError(FetchError):
    """Worth another try soon: a broken connection, a server that is busy."""


class ChangedError(FetchError):
    """The object is no longer the one that was listed."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file of a source. `path` is relative to the source, with "/"; `version` changes whenever the content does.

    `digest` is what the store says of the content: md5:HEX, sha256:HEX or git:HEX (SHA-1 as git takes it), or empty.
    With `digest_may_lie` it is only a hint: the ETag of S3 is an MD5 for most objects and something else for others.
    """

    path: str
    size: int
    version: str
    key: str
    digest: str = ""
    digest_may_lie: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All files of a source. `single`: the URI names one file, and `items` is that one. `version` is what the revision
    was resolved to, for the log."""

    items: tuple[Item, ...]
    single: bool = False
    version: str = ""


class Remote(Protocol):
    """One source in one store. Both questions may be asked again; they raise FetchError or one of its kinds above."""

    async def list(self) -> Listing: ...

    def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        """The bytes of a range, in pieces. Fewer than `size` bytes mean that the connection broke."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Credentials:
    """The keys of the Secret that is mounted in the pod. Values are never shown."""

    directory: str
    values: dict[str, str] = field(repr=False)

    def get(self, *keys: str) -> str:
        """The first of the keys that is there, without the line end that `kubectl create secret` may have kept."""
        return next((self.values[key].strip() for key in keys if self.values.get(key, "").strip()), "")

    @property
    def given(self) -> bool:
        return bool(self.directory)

    def require(self, *keys: str, scheme: str) -> None:
        """Raises FetchError when the Secret is there and lacks one of the keys."""
        missing = [key for key in keys if not self.get(key)]
        if self.given and missing:
            have = ", ".join(sorted(self.values)) or "none"
            raise FetchError(
                f"the Secret of source.secretName has no key {' and no key '.join(missing)}, which {scheme}:// needs;"
                f" its keys are {have}"
            )

    @property
    def authorities(self) -> str:
        """The file with further authorities, or empty."""
        return str(Path(self.directory, CA_KEY)) if self.get(CA_KEY) else ""

    def tls(self) -> ssl.SSLContext:
        """Trusts the machine's authorities (SSL_CERT_FILE) and those of the Secret. Raises FetchError."""
        context = ssl.create_default_context()
        if self.authorities:
            try:
                context.load_verify_locations(cafile=self.authorities)
            except (OSError, ssl.SSLError) as error:
                raise FetchError(f"{CA_KEY} of the Secret of source.secretName is no PEM file: {error}") from None
        return context


def read_credentials(job: Job) -> Credentials:
    """Reads the mounted Secret anew, because the kubelet brings later versions of it. Raises FetchError."""
    if not job.credentials:
        return Credentials("", {})
    name = Path(job.credentials).name
    try:
        with os.scandir(job.credentials) as found:
            names = [entry.name for entry in found if not entry.name.startswith(".") and entry.is_file()]
        values = {key: Path(job.credentials, key).read_text() for key in names}
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError(f"the Secret {name} of source.secretName cannot be read: {error}") from None
    if not values:
        raise FetchError(
            f"the Secret {name} of source.secretName does not exist in this namespace or has no keys: create it;"
            " pods that wait for it see it within a minute or two"
        )
    return Credentials(job.credentials, values)
