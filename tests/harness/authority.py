"""A certificate authority of a test's own, and a server certificate of it, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def issue(directory: Path, address: str, *, name: str = "test-authority") -> tuple[Path, Path, Path]:
    """Certificate of the authority, and certificate and key of a server at this IP address."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "san").write_text(f"subjectAltName=IP:{address}\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN={name}",
        f"req {key} -keyout server.key -out server.csr -subj /CN=test-server",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    return directory / "ca.crt", directory / "server.crt", directory / "server.key"
