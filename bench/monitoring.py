"""A real prometheus-operator, Prometheus and Alertmanager on the local cluster, and places where messages arrive.

prometheus-operator runs as a process beside the cluster, what it makes runs in pods: images of one program each, built
from Go modules and from Debian's Alertmanager. Mail, webhook and Slack messages end at small servers in this process.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from demo.kube import Kube, wait
from localcluster import build
from localcluster.config import Cluster, cache_dir
from localcluster.containers import load_image
from localcluster.oci import write_program_image
from localcluster.packages import ensure_tools, find_tool
from localcluster.report import Progress

Json = dict[str, Any]

NAMESPACE = "monitoring"
RELOADER = "localhost/prometheus-config-reloader:local"
PROMETHEUS = "localhost/prometheus:local"
ALERTMANAGER = "localhost/alertmanager:local"
SELECTED = {"release": "monitoring"}
"""The label by which this Prometheus selects rules and monitors, as kube-prometheus-stack does."""


@dataclass
class Inbox:
    """Every message that arrived, with its way (mail, webhook, slack) and the moment."""

    messages: list[tuple[float, str, str]] = field(default_factory=list)

    def put(self, way: str, text: str) -> None:
        self.messages.append((time.monotonic(), way, text))

    def first(self, way: str, *words: str, since: float = 0.0) -> float | None:
        """When the first message of this way arrived that holds all of these words."""
        for at, by, text in list(self.messages):
            if by == way and at >= since and all(word in text for word in words):
                return at
        return None

    def told(self, way: str, alert: str, about: str, *, over: bool = False, since: float = 0.0) -> float | None:
        """When this way first said of this alert, whose summary begins with `about`, that it fires, or that it is over.

        One message may speak of several alerts.
        """
        for at, by, text in list(self.messages):
            if by == way and at >= since and SAYS[way](text, alert, about, over):
                return at
        return None

    def ended(self, way: str, alert: str, about: str, *, since: float) -> float | None:
        """When this way said that an alert is over, if that is its last word on it: an alert may come and go."""
        last: tuple[float, bool] | None = None
        for at, by, text in list(self.messages):
            for over in (False, True):
                if by == way and at >= since and SAYS[way](text, alert, about, over):
                    last = (at, over)
        return last[0] if last is not None and last[1] else None


def _webhook_says(text: str, alert: str, about: str, over: bool) -> bool:
    status = "resolved" if over else "firing"
    return any(
        each["status"] == status
        and each["labels"]["alertname"] == alert
        and each["annotations"]["summary"].startswith(about)
        for each in json.loads(text)["alerts"]
    )


def _slack_says(text: str, alert: str, about: str, over: bool) -> bool:
    mark = ":white_check_mark: over: *" if over else ":warning: *"
    return any(
        alert in attachment["title"] and f"{mark}{about}" in attachment["text"]
        for attachment in json.loads(text)["attachments"]
    )


def _mail_says(text: str, alert: str, about: str, over: bool) -> bool:
    mail = email.message_from_string(text, policy=email.policy.default)
    part = mail.get_body(("html", "plain"))
    subject, body = str(mail["Subject"]), str(part.get_content()) if part is not None else ""
    # Alertmanager's own text lists what fires, and then, below a heading, what is over.
    firing, _, resolved = body.partition("] Resolved")
    if over:
        return alert in subject and about in (resolved or body * subject.startswith("over: "))
    return subject.startswith(alert) and about in firing


SAYS = {"mail": _mail_says, "webhook": _webhook_says, "slack": _slack_says}
"""How a message of each way speaks of an alert; the texts are those of charts/nereus/files/*.tmpl."""


class Way:
    """A TCP way on this address to a server that may be named later; `cut` breaks it and `mend` opens it again."""

    def __init__(self, host: str) -> None:
        self.target: tuple[str, int] | None = None
        self._open = True
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends, and new ones end at once."""
        self._open = False
        for end in list(self._ends):
            self._close(end)

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._ends.add(client)
        try:
            if self._open and self.target is not None:
                with socket.create_connection(self.target, timeout=10) as server:
                    server.settimeout(None)
                    self._ends.add(server)
                    threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
                    self._pump(server, client)
                    self._close(server)
        except OSError:
            pass
        finally:
            self._close(client)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def _close(self, end: socket.socket) -> None:
        self._ends.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def receivers(host: str) -> Iterator[tuple[Inbox, int, int]]:
    """An SMTP and an HTTP server on this address; gives the inbox and their ports."""
    inbox = Inbox()

    class Mail:
        async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802
            del server, session
            inbox.put("mail", envelope.content.decode(errors="replace"))
            return "250 kept"

    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            inbox.put(self.path.strip("/"), body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    web = ThreadingHTTPServer((host, 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    mail = Controller(Mail(), hostname=host, port=_free_port(host))
    mail.start()
    try:
        yield inbox, mail.port, web.server_address[1]
    finally:
        mail.stop()
        web.shutdown()
        web.server_close()


def _free_port(host: str) -> int:
    with ThreadingHTTPServer((host, 0), BaseHTTPRequestHandler) as probe:
        return int(probe.server_address[1])


def programs(progress: Progress) -> tuple[Path, tuple[Path, ...]]:
    """Builds what is not there: the directory of prometheus-operator, and the archives of the three images."""
    operator = build.ensure_module(build.PROMETHEUS_OPERATOR, progress=progress)
    server = build.ensure_module(build.PROMETHEUS, progress=progress)
    ensure_tools("prometheus-alertmanager", progress=progress)
    alertmanager = Path(str(find_tool("prometheus-alertmanager")))
    linked = subprocess.run(["ldd", str(alertmanager)], capture_output=True, text=True, check=True).stdout
    libraries = [Path(path) for path in re.findall(r"(/\S+) \(0x", linked)]
    libraries += sorted(Path("/usr/share/prometheus/alertmanager").glob("*.tmpl"))
    folder = cache_dir() / "images"
    archives = []
    for program, image, needs in (
        (operator / "prometheus-config-reloader", RELOADER, []),
        (server / "prometheus", PROMETHEUS, []),
        (alertmanager, ALERTMANAGER, libraries),
    ):
        archive = folder / f"{program.name}@bench.tar"
        write_program_image(program, image=image, archive=archive, folder="bin", libraries=needs)
        archives.append(archive)
    return operator, tuple(archives)


def images(cluster: Cluster, progress: Progress) -> Path:
    """The three programs as images in the node; returns the directory of prometheus-operator."""
    operator, archives = programs(progress)
    for archive in archives:
        load_image(cluster, archive)
    return operator


@contextmanager
def prometheus_operator(kube: Kube, programs: Path, log: Path) -> Iterator[None]:
    """The operator as a process with the administrator's rights, its kinds installed."""
    crds = programs / "prometheus-operator-crds.yaml"
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds), timeout=180)
    wait(
        lambda: "prometheusrules" in kube.kubectl("api-resources", "--api-group=monitoring.coreos.com", "-o", "name"),
        "the kinds of prometheus-operator",
        seconds=60,
    )
    command = [str(programs / "prometheus-operator"), f"--prometheus-config-reloader={RELOADER}"]
    environment = {**os.environ, "KUBECONFIG": str(kube.kubeconfig)}
    with log.open("ab") as out:
        listen = ["--web.listen-address=127.0.0.1:0", "--kubelet-service="]
        process = subprocess.Popen([*command, *listen], env=environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def stack(*, scrape_seconds: int = 5) -> list[Json]:
    """One Prometheus and one Alertmanager, as their users write them."""
    account = {"name": "prometheus", "namespace": NAMESPACE}
    small = {"requests": {"cpu": "20m", "memory": "64Mi"}}
    spec = {"replicas": 1, "resources": small}
    everything: Json = {}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "bench-prometheus"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods", "services", "endpoints"], "verbs": ["get", "list", "watch"]}
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "bench-prometheus"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bench-prometheus"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "main", "namespace": NAMESPACE},
            "spec": {
                **spec,
                "image": PROMETHEUS,
                "version": "v3.5.0",
                "serviceAccountName": "prometheus",
                "scrapeInterval": f"{scrape_seconds}s",
                "evaluationInterval": f"{scrape_seconds}s",
                "podMonitorSelector": {"matchLabels": SELECTED},
                "podMonitorNamespaceSelector": everything,
                "ruleSelector": {"matchLabels": SELECTED},
                "ruleNamespaceSelector": everything,
                "alerting": {
                    "alertmanagers": [{"namespace": NAMESPACE, "name": "alertmanager-operated", "port": "web"}]
                },
            },
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Alertmanager",
            "metadata": {"name": "main", "namespace": NAMESPACE},
            "spec": {
                **spec,
                "image": ALERTMANAGER,
                "version": "v0.25.0",
                "alertmanagerConfigSelector": {"matchLabels": SELECTED},
                "alertmanagerConfigNamespaceSelector": everything,
                # Otherwise an AlertmanagerConfig sees only alerts of its own namespace.
                "alertmanagerConfigMatcherStrategy": {"type": "None"},
            },
        },
    ]


def pod_address(kube: Kube, name: str, port: int) -> str:
    """Where a pod of the stack answers, once it is ready."""

    def ready() -> Json | None:
        pod = kube.get("pod", name, namespace=NAMESPACE) or {}
        conditions = {item["type"]: item["status"] for item in pod.get("status", {}).get("conditions", ())}
        return pod if conditions.get("Ready") == "True" else None

    wait(
        ready,
        f"pod {name}",
        seconds=180,
        state=lambda: kube.kubectl("-n", NAMESPACE, "get", "pods,statefulsets,events"),
    )
    pod = ready() or {}
    return f"http://{pod['status']['podIP']}:{port}"


def query(url: str, expression: str) -> list[Json]:
    """An instant query; the series."""
    text = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{text}", timeout=20) as answer:  # noqa: S310
        found: list[Json] = json.load(answer)["data"]["result"]
    return found
