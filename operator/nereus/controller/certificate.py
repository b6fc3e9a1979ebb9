"""The certificate with which this replica serves the External Metrics API: made at its start, renewed while it runs.

Each replica signs its own and publishes only the certificate (registration.py): the key never leaves the process's
own directory, so there is no Secret to read, to back up or to leak, and rotation needs nobody. `openssl` makes it,
because Python's standard library cannot.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

VALID_DAYS = 7
VALID_SECONDS = VALID_DAYS * 86_400.0
RENEW_SECONDS = VALID_SECONDS / 2
OPENSSL_SECONDS = 30


class CertificateError(Exception):
    """No certificate could be made; the message says why."""


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate (PEM) and where it and its key lie. `made_at` on the monotonic clock; `until`, when it
    runs out, in seconds since the epoch."""

    text: str
    chain: Path
    key: Path
    made_at: float
    until: float

    @property
    def due(self) -> bool:
        """Whether it is time for a successor."""
        return time.monotonic() - self.made_at > RENEW_SECONDS


def make(host: str, directory: Path) -> Certificate:
    """A fresh one for a host such as `nereus.nereus-system.svc`. Raises CertificateError."""
    place = Path(tempfile.mkdtemp(dir=directory))
    chain, key = place / "tls.crt", place / "tls.key"
    command = [
        *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-keyout", str(key), "-out", str(chain), "-days", str(VALID_DAYS), "-subj", "/O=nereus/CN=external-metrics"),
        *("-addext", f"subjectAltName=DNS:{host}", "-addext", "extendedKeyUsage=serverAuth"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=OPENSSL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CertificateError(f"openssl: {error}") from error
    if done.returncode != 0:
        raise CertificateError(f"openssl: {done.stderr.strip()[-300:]}")
    return Certificate(chain.read_text(), chain, key, time.monotonic(), time.time() + VALID_SECONDS)
