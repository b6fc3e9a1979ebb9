"""Talking to the API server: kubectl for objects, one plain request for health. No client library, on purpose."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.config import Cluster
from localcluster.report import Refusal


@dataclass(frozen=True)
class Kubectl:
    """kubectl of the right version with the administrator's rights on one cluster."""

    cluster: Cluster
    programs: Path

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return what came out, whether it worked or not."""
        options = (f"--kubeconfig={self.cluster.kubeconfig}", f"--cache-dir={self.cluster.data('kubectl-cache')}")
        command = [str(self.programs / "kubectl"), *options, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        """Server-side apply of several objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        arguments = ("apply", "--server-side", "--force-conflicts", "--field-manager=nereus-localcluster", "-f", "-")
        done = self.run(*arguments, stdin=json.dumps(items))
        if done.returncode != 0:
            raise Refusal(f"the API server refused the cluster's own objects: {done.stderr.strip()[:500]}")

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """An object or a list as JSON, or None when it cannot be read now."""
        done = self.run("get", *arguments, "-o", "json")
        if done.returncode != 0:
            return None
        parsed: dict[str, Any] = json.loads(done.stdout)
        return parsed


def answer(url: str, *, authority: Path | None = None, timeout_seconds: float = 2.0) -> tuple[int, str]:
    """Status and text of a GET that never goes through a proxy; status 0 when nothing answers."""
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=timeout_seconds) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def condition(item: dict[str, Any], kind: str) -> str:
    """The status of a condition of an object: `True`, `False`, `Unknown`, or empty when it has none."""
    conditions = item.get("status", {}).get("conditions", [])
    return next((str(entry["status"]) for entry in conditions if entry["type"] == kind), "")
