"""The credentials of a source: the keys of a Secret that is mounted in this container, and in no other.

Which keys a scheme knows is in its own module, and for users in docs/sources.md. Values are never shown.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from nereus.sidecar.fetch.base import FetchError

CA_KEY = "ca.crt"
"""Further authorities to trust, in PEM; the name that Kubernetes itself uses."""


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


def read_credentials(directory: str) -> Credentials:
    """Reads the mounted Secret anew, because the kubelet brings later versions of it. Raises FetchError."""
    if not directory:
        return Credentials("", {})
    name = Path(directory).name
    try:
        with os.scandir(directory) as found:
            names = [entry.name for entry in found if not entry.name.startswith(".") and entry.is_file()]
        values = {key: Path(directory, key).read_text() for key in names}
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError(f"the Secret {name} of source.secretName cannot be read: {error}") from None
    if not values:
        raise FetchError(
            f"the Secret {name} of source.secretName does not exist in this namespace or has no keys: create it;"
            " pods that wait for it see it within a minute or two"
        )
    return Credentials(directory, values)
