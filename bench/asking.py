"""A client of the External Metrics API as a process of its own, which asks at a steady rate until its input ends.

Of its own, because a client in a busy process measures how long that process lets it wait. An answer that is late
makes the requests behind it late, too: each counts from when it was due, as for an autoscaler that waits in line.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nereus.api import names
from nereus.controller.metricsapi import BASE

if TYPE_CHECKING:  # it loads a client of Kubernetes, which takes seconds where the machine is busy
    from nereus.controller.connection import Connection

ROOT = Path(__file__).resolve().parent.parent
ANSWER_SECONDS = 10.0


def path(namespace: str, service: str, *, metric: str = names.EXTERNAL_METRIC, label: str = names.LABEL_SERVICE) -> str:
    """Of the metric of a service, as its autoscaler asks for it."""
    return f"{BASE}/namespaces/{namespace}/{metric}?labelSelector={quote(f'{label}={service}')}"


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where to ask and as whom; files in PEM. Without `authority` the server may be anybody."""

    server: str
    authority: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def as_client(cls, connection: Connection) -> Way:
        """Through the API server, with the certificate of a kubeconfig."""
        known = connection.configuration
        return cls(
            server=connection.server, authority=known.ssl_ca_cert, certificate=known.cert_file, key=known.key_file
        )

    def tls(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.authority or None)
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not self.authority:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if self.certificate:
            made.load_cert_chain(self.certificate, self.key)
        return made


@dataclass
class Asked:
    """Seconds of each answer with a value, and how many answers had none."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0


class Asker:
    """The process; it runs from now on until `end`. Asks for one of the paths every `period` seconds."""

    def __init__(self, way: Way, paths: Sequence[str], *, period: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.asking"],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        task = {"way": asdict(way), "paths": list(paths), "period": period}
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> Asked:
        """What it saw."""
        said, _ = self._process.communicate(timeout=ANSWER_SECONDS + 10)
        if self._process.returncode:
            raise RuntimeError(f"the client ended with {self._process.returncode}")
        return Asked(**json.loads(said))


class Client:
    """One connection that stays, and is made anew when it broke."""

    def __init__(self, way: Way) -> None:
        self._tls, self._place = way.tls(), urlsplit(way.server)
        self._connection: http.client.HTTPSConnection | None = None

    def read(self, path: str) -> bool:
        """Whether a value is answered."""
        if self._connection is None:
            assert self._place.hostname is not None
            self._connection = http.client.HTTPSConnection(
                self._place.hostname, self._place.port, timeout=ANSWER_SECONDS, context=self._tls
            )
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            return False
        return answer.status == http.HTTPStatus.OK and bool(json.loads(body)["items"])


def ask(way: Way, paths: Sequence[str], *, period: float, until: threading.Event) -> Asked:
    """Until the event is set."""
    asked, draw, client = Asked(), random.Random(1), Client(way)  # noqa: S311 - which path is asked for
    due = ended = time.monotonic()
    while not until.wait(max(0.0, due - time.monotonic())):
        # What the answer before took longer counts; what this process overslept is its own fault.
        began = due if ended > due else time.monotonic()
        valued = client.read(draw.choice(paths))
        ended = time.monotonic()
        if valued:
            asked.seconds.append(ended - began)
        else:
            asked.refused += 1
        due = due + period if valued else ended + period
    return asked


def _input() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """The first line of the input is the task; the answer is one line when the input ends."""
    lines = _input()
    task = next(lines)
    ended = threading.Event()

    def wait() -> None:
        for _ in lines:
            pass
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    asked = ask(Way(**task["way"]), task["paths"], period=task["period"], until=ended)
    sys.stdout.write(json.dumps(asdict(asked)) + "\n")


if __name__ == "__main__":
    main()
