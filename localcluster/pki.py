"""Keys, certificates and kubeconfigs of one cluster, made with the `openssl` command.

Two authorities as Kubernetes wants them: one for the cluster, one for the front proxy, by which aggregated APIs such
as metrics recognise the API server. The files live as long as the cluster does; nothing is rotated.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.config import Cluster
from localcluster.packages import find_tool
from localcluster.report import Refusal

VALID_DAYS = "3650"
EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """One leaf: for a server when it has names to answer to, for a client always."""

    name: str
    common_name: str
    organization: str | None = None
    server_names: tuple[str, ...] = ()
    authority: str = "ca"
    kubeconfig: bool = False

    @property
    def subject(self) -> str:
        """The subject as openssl writes it; the organization is the Kubernetes group."""
        return f"/O={self.organization}/CN={self.common_name}" if self.organization else f"/CN={self.common_name}"


def certificates(cluster: Cluster) -> tuple[Certificate, ...]:
    """Every leaf of a cluster. `metrics-server` and `prometheus` are users with their own roles, not administrators."""
    addresses = cluster.addresses
    api_names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    return (
        Certificate(
            "apiserver",
            "kube-apiserver",
            server_names=(*api_names, "localhost", "127.0.0.1", addresses.node, addresses.kubernetes_service),
        ),
        Certificate("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Certificate("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
        Certificate("admin", "kubernetes-admin", "system:masters", kubeconfig=True),
        Certificate("controller-manager", "system:kube-controller-manager", kubeconfig=True),
        Certificate("scheduler", "system:kube-scheduler", kubeconfig=True),
        Certificate("kubelet", f"system:node:{cluster.node_name}", "system:nodes", kubeconfig=True),
        Certificate("kubelet-server", cluster.node_name, server_names=(cluster.node_name, addresses.node)),
        Certificate("kube-proxy", "system:kube-proxy", kubeconfig=True),
        Certificate("kwok", "kwok", "system:masters", kubeconfig=True),
        Certificate("prometheus", "nereus-local:prometheus", kubeconfig=True),
        Certificate(
            "metrics-server",
            "nereus-local:metrics-server",
            server_names=("metrics-server.kube-system.svc", addresses.node),
            kubeconfig=True,
        ),
    )


def openssl_config(certificate: Certificate | None) -> str:
    """An openssl configuration for a leaf, or for an authority when None."""
    lines = ["[req]", "distinguished_name = dn", "x509_extensions = extensions", "[dn]", "[extensions]"]
    lines.append("subjectKeyIdentifier = hash")
    if certificate is None:
        return "\n".join([*lines, "basicConstraints = critical,CA:TRUE", "keyUsage = critical,keyCertSign,cRLSign", ""])
    usage = "serverAuth,clientAuth" if certificate.server_names else "clientAuth"
    lines += ["authorityKeyIdentifier = keyid", "basicConstraints = critical,CA:FALSE"]
    lines += ["keyUsage = critical,digitalSignature", f"extendedKeyUsage = {usage}"]
    if certificate.server_names:
        names = (f"IP:{name}" if name[-1].isdigit() else f"DNS:{name}" for name in certificate.server_names)
        lines.append(f"subjectAltName = {','.join(names)}")
    return "\n".join([*lines, ""])


def kubeconfig(*, server: str, user: str, files: Mapping[str, Path]) -> str:
    """A self-contained kubeconfig (JSON is YAML) from the files `ca`, `certificate` and `key`."""
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": data["ca"]}}],
        "users": [
            {"name": user, "user": {"client-certificate-data": data["certificate"], "client-key-data": data["key"]}}
        ],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }
    return json.dumps(config, indent=1) + "\n"


def ensure_pki(cluster: Cluster) -> None:
    """Make every file once; a directory that is there is complete, because it is renamed into place."""
    final = cluster.dir / "pki"
    if final.is_dir():
        return
    temporary = cluster.dir / "pki.new"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    for authority in ("ca", "front-proxy-ca"):
        _authority(temporary, name=authority, common_name=f"{cluster.cgroup}-{authority}")
    for certificate in certificates(cluster):
        _leaf(temporary, certificate)
        if certificate.kubeconfig:
            _write_kubeconfig(cluster, temporary, certificate)
    _openssl(temporary, "genrsa", "-out", "service-account.key", "2048")
    _openssl(temporary, "rsa", "-in", "service-account.key", "-pubout", "-out", "service-account.pub")
    temporary.rename(final)


def _write_kubeconfig(cluster: Cluster, directory: Path, certificate: Certificate) -> None:
    files = {
        "ca": directory / "ca.crt",
        "certificate": directory / f"{certificate.name}.crt",
        "key": directory / f"{certificate.name}.key",
    }
    target = directory / f"{certificate.name}.kubeconfig"
    target.write_text(kubeconfig(server=cluster.api_url, user=certificate.common_name, files=files))
    target.chmod(0o600)


def _authority(directory: Path, *, name: str, common_name: str) -> None:
    (directory / "openssl.cnf").write_text(openssl_config(None))
    output = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    _openssl(directory, "req", "-x509", *EC_KEY, *output, "-subj", f"/CN={common_name}", *_COMMON)


def _leaf(directory: Path, certificate: Certificate) -> None:
    (directory / "openssl.cnf").write_text(openssl_config(certificate))
    signer = ("-CA", f"{certificate.authority}.crt", "-CAkey", f"{certificate.authority}.key")
    output = ("-keyout", f"{certificate.name}.key", "-out", f"{certificate.name}.crt")
    _openssl(directory, "req", "-x509", *signer, *EC_KEY, *output, "-subj", certificate.subject, *_COMMON)


_COMMON = ("-days", VALID_DAYS, "-config", "openssl.cnf")


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        [find_tool("openssl") or "openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        reason = words[-1] if words else ""
        raise Refusal(f"openssl {arguments[0]} failed: {reason}; openssl 3.0 or newer is needed")
