"""A rendered ModelService at work: the pod's two containers as processes on this machine, and a client.

Exactly the rendered commands, arguments and plan are used; only paths of the pod and addresses are put into a directory
and onto loopback.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton_http

from nereus.api import names
from nereus.api.protocol import ModelPlan, model_key
from nereus.api.service import read
from nereus.rendering import render
from nereus.workload.settings import Settings
from tests.harness.sidecar import SidecarProcess
from tests.harness.tritonserver import TritonServer, free_ports, installation

SETTINGS = Settings(sidecar_image="sidecar", triton_image="triton")


class RenderedTriton(TritonServer):
    """Triton started by the command of a rendered container."""

    command: tuple[str, ...] = ()

    def start(self, *, wait: bool = True) -> RenderedTriton:
        parts = installation()
        folder = self.log.parent / "bin"
        folder.mkdir()
        loopback = " ".join(f"--{protocol}-address=127.0.0.1" for protocol in ("http", "grpc", "metrics"))
        (folder / "tritonserver").write_text(
            f'#!/bin/sh\nexec {parts.server} "$@" {loopback} --backend-directory={parts.backends}'
            f" --cache-directory={parts.caches}\n"
        )
        (folder / "tritonserver").chmod(0o755)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))},
            "PATH": f"{folder}:{parts.venv / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(str(library) for library in parts.libraries),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if wait:
            self.wait_live()
        return self


@dataclasses.dataclass
class Running:
    """A service at work, reached over HTTP."""

    client: triton_http.InferenceServerClient
    server: RenderedTriton
    sidecar: SidecarProcess

    def infer(self, model: str, name: str, value: np.ndarray[Any, Any], datatype: str, output: str) -> Any:
        tensor = triton_http.InferInput(name, list(value.shape), datatype)
        tensor.set_data_from_numpy(value)
        return self.client.infer(model, [tensor]).as_numpy(output)


def start(documents: Iterable[dict[str, Any]], root: Path, stack: ExitStack) -> Running:
    """The ModelService among the documents, its ConfigMaps mounted, ready. What is started ends with `stack`."""
    documents = list(documents)
    [resource] = [document for document in documents if document["kind"] == "ModelService"]
    http, grpc, metrics = free_ports(3)
    ports = {"http": http, "grpc": grpc, "metrics": metrics}
    resource["spec"].setdefault("endpoint", {})["ports"] = ports
    rendered = render(read(resource), settings=SETTINGS)

    for document in documents:
        if document["kind"] == "ConfigMap":
            folder = Path(f"{root}{names.source_mount('configmap', document['metadata']['name'])}")
            folder.mkdir(parents=True)
            for key, text in document["data"].items():
                (folder / key).write_text(text)

    pod = rendered.template.body["spec"]
    [sidecar], [triton] = pod["initContainers"], pod["containers"]
    drain = tuple(argument for argument in sidecar["args"] if argument.startswith("--drain"))
    beside = stack.enter_context(SidecarProcess(root, (http, grpc, metrics), arguments=drain))
    data = {
        key: text
        for manifest in rendered.objects
        if manifest["kind"] == "ConfigMap"
        for key, text in manifest["data"].items()
    }
    plans = [ModelPlan.from_json(data[model_key(name)]) for name in rendered.plan.models]
    beside.write_plan(*(dataclasses.replace(plan, directory=f"{root}{plan.directory}") for plan in plans))
    beside.start()
    beside.until(lambda: beside.get("/started")[0] == 200)

    server = RenderedTriton(beside.repository, root / "triton.log", ports=[http, grpc, metrics])
    server.admin_key = beside.admin_key.read_text().strip()
    here = {names.PATH_ADMIN_KEY: str(beside.admin_key), names.PATH_REPOSITORY: str(beside.repository)}
    words = [*triton["command"], *triton["args"]]
    server.command = tuple(_replaced(word, here) for word in words)
    stack.enter_context(server)
    server.start()
    beside.until(lambda: beside.get("/ready")[0] == 200, seconds=60)
    client = triton_http.InferenceServerClient(f"127.0.0.1:{http}")
    stack.callback(client.close)
    return Running(client, server, beside)


def _replaced(word: str, paths: dict[str, str]) -> str:
    for there, here in paths.items():
        word = word.replace(there, here)
    return word
