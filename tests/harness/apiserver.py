"""A real API server as tests see it: plain HTTPS with the certificate of a kubeconfig, and kubectl beside it.

Plain HTTP and not a client library, so that a test sees what the server says, and judges the operator's own client by
something else. One connection is kept open: thousands of requests cost seconds.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

Json = dict[str, Any]
LOOK_SECONDS = 0.1

MODEL_SERVICES = "/apis/serving.nereus.dev/v1alpha1/namespaces/{namespace}/modelservices"
_MEDIA_TYPES = {"POST": "application/json", "PUT": "application/json", "PATCH": "application/merge-patch+json"}


@dataclass(frozen=True)
class Answer:
    """What the server said. `message` is its sentence when it refused, `warnings` what it said although it did not."""

    code: int
    body: Json
    warnings: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.code < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Api:
    """One API server. `scratch` is an empty directory for its certificates and kubectl's cache."""

    def __init__(self, kubeconfig: Path, *, kubectl: str, scratch: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = [kubectl, f"--kubeconfig={kubeconfig}", f"--cache-dir={scratch / 'cache'}"]
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = str(cluster["server"])
        self._pool = urllib3.PoolManager(
            ssl_context=_context(cluster, user, scratch), retries=False, timeout=30.0, maxsize=4
        )

    def request(self, method: str, path: str, body: Json | None = None, *, accept: str = "application/json") -> Answer:
        headers = {"Accept": accept}
        if method in _MEDIA_TYPES:
            headers["Content-Type"] = _MEDIA_TYPES[method]
        encoded = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, f"{self._server}{path}", body=encoded, headers=headers)
        text = answer.data.decode()
        return Answer(answer.status, json.loads(text) if text.startswith("{") else {"message": text})

    def apply(self, path: str, body: Json, *, manager: str, dry_run: bool = False, strict: bool = False) -> Answer:
        """Server-side apply that takes over the fields of others; with `strict`, unknown fields are refused."""
        chosen = f"{'&dryRun=All' if dry_run else ''}{'&fieldValidation=Strict' if strict else ''}"
        url = f"{self._server}{path}?fieldManager={manager}&force=true{chosen}"
        headers = {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"}
        answer = self._pool.request("PATCH", url, body=json.dumps(body).encode(), headers=headers)
        return Answer(answer.status, json.loads(answer.data), tuple(answer.headers.getlist("Warning")))

    def get(self, path: str) -> Json:
        answer = self.request("GET", path)
        assert answer.accepted, f"GET {path}: {answer.code} {answer.message}"
        return answer.body

    def try_out(self, resource: Json, *, namespace: str) -> Answer:
        """What the server says of a new ModelService, without storing it; unknown fields are refused, as by kubectl."""
        path = MODEL_SERVICES.format(namespace=namespace)
        return self.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", resource)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return subprocess.run(
            [*self._kubectl, *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def _context(cluster: Json, user: Json, scratch: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # kubeadm's own CA certificates lack what strictness asks for
    pair = scratch / "client.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
    )
    context.load_cert_chain(pair)
    return context


def eventually(look: Callable[[], str | None], *, seconds: float = 30.0) -> None:
    """Looks until nothing is lacking (None); fails with what was lacking last."""
    deadline = time.monotonic() + seconds
    while (lack := look()) is not None:
        assert time.monotonic() < deadline, f"after {seconds:.0f} s: {lack}"
        time.sleep(LOOK_SECONDS)
