"""Models from a claim and from https, served by real pods."""

from __future__ import annotations

import base64
import http.server
import io
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from localcluster.config import DEFAULT_NAME, find_cluster
from tests.e2e.claims import claim, run_pod
from tests.e2e.world import DOUBLE, World, model


def test_a_model_on_a_claim_is_read_in_place(world: World) -> None:
    """The claim is filled by a pod of its own, as a user would; the volume is a directory of the node."""
    with claim(world, sweep="zoo"):
        _fill(world)
        world.apply(models=[model(source="pvc://models/zoo/double")])
        world.wait_ready()
        assert np.array_equal(world.infer(), [[2.0, 4.0]])


def _fill(world: World) -> None:
    encoded = base64.b64encode(DOUBLE.encode()).decode()
    run_pod(
        world,
        "fill",
        f"mkdir -p /claim/zoo/double/1 && echo {encoded} | base64 -d > /claim/zoo/double/1/model.py"
        " && chmod -R a+rX /claim/zoo",
    )


def test_a_model_behind_https_with_a_private_authority_is_fetched(world: World, tmp_path: Path) -> None:
    if not world.kube.routed:
        pytest.skip("needs the local cluster: its pods reach a server on this machine")
    address = find_cluster(DEFAULT_NAME).addresses.host
    with _https_server(address, tmp_path, archive=_archive()) as port:
        world.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "authority"},
                "data": {"ca.crt": (tmp_path / "ca.crt").read_text()},
            },
            namespace=world.namespace,
        )
        world.apply(
            models=[model(source=f"https://{address}:{port}/models/double.tar.gz")],
            runtime={
                "env": [{"name": "SSL_CERT_FILE", "value": "/authority/ca.crt"}],
                "volumes": [{"name": "authority", "configMap": {"name": "authority"}}],
                "volumeMounts": [{"name": "authority", "mountPath": "/authority", "readOnly": True}],
            },
        )
        world.wait_ready()
    assert np.array_equal(world.infer(), [[2.0, 4.0]])


def _archive() -> bytes:
    """A model directory inside one top-level directory, as people pack them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("double/1/model.py")
        member.size = len(DOUBLE.encode())
        tar.addfile(member, io.BytesIO(DOUBLE.encode()))
    return buffer.getvalue()


@contextmanager
def _https_server(address: str, directory: Path, *, archive: bytes) -> Iterator[int]:
    """A real TLS server on the host's end of the link, with a certificate of an authority made for it."""
    _certificates(address, directory)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            self.wfile.write(archive)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Quiet: the test prints what matters."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _certificates(address: str, directory: Path) -> None:
    (directory / "san").write_text(f"subjectAltName=IP:{address}\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=e2e-authority",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=e2e-server",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
