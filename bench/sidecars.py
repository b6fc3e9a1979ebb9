"""Sidecars for the pods of thousands of services on KWOK nodes: one process that answers on every pod's address.

A stand-in: KWOK pods run nothing, so somebody has to say that their models are served, or no service would ever be
ready. It answers the sidecar protocol with the plan that the service's ConfigMap holds for its pod now, the one that
is tried by some pods first among them, and every model served. It watches instead of listing, so that it costs the API
server little. It is not measured.

Run inside the network namespace of the cluster: `python -m bench.sidecars KUBECONFIG POD_RANGE`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

from nereus.api import names, protocol, stages
from nereus.api.protocol import ModelReport, ModelState, PodReport
from nereus.api.stages import Bundle, NextPlan
from nereus.controller.connection import connect
from nereus.controller.kinds import CONFIG_MAP, POD, Kind

AGAIN_SECONDS = 1.0


class World:
    """Which pod has which address, and which models each service plans."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._pod_at: dict[str, tuple[tuple[str, str], str]] = {}
        self._plans: dict[tuple[str, str], tuple[Bundle, tuple[NextPlan, Bundle] | None]] = {}

    def report(self, address: str) -> str | None:
        """What the sidecar at this address says; None when no pod has it."""
        service, pod = self._pod_at.get(address, (("", ""), ""))
        found = self._plans.get(service)
        if found is None:
            return None
        bundle, tried = found
        plan = (tried[1] if tried and tried[0].runs_in(pod) else bundle).plan
        models = tuple(
            ModelReport(name=name, state=ModelState.READY, serving=True, versions=("1",), load_seconds=1.0)
            for name in plan.models
        )
        # The same moment for every pod: figures of cold starts are not what is measured.
        return PodReport(
            revision=plan.revision,
            models=models,
            stages=True,
            ready=True,
            server_live=True,
            started_at=1.0,
            ready_at=3.0,
        ).to_json()

    async def follow(self, kind: Kind) -> None:
        """Keep in step with a kind, for ever."""
        while True:
            try:
                async for item in self._objects(kind):
                    self._learn(kind, item)
            except (aiohttp.ClientError, OSError, ValueError):
                pass
            await asyncio.sleep(AGAIN_SECONDS)

    def _learn(self, kind: Kind, item: dict[str, Any]) -> None:
        metadata = item["metadata"]
        service = (metadata["namespace"], metadata["labels"][names.LABEL_SERVICE])
        if kind is POD:
            self._pod_at[item.get("status", {}).get("podIP", "")] = (service, metadata["name"])
        elif bundle := stages.bundle(item.get("data") or {}):  # none: changed on purpose, to see it healed
            self._plans[service] = (bundle, stages.next_bundle(item["data"]))

    async def _objects(self, kind: Kind) -> AsyncIterator[dict[str, Any]]:
        url = self._server + kind.path()
        query = {"labelSelector": names.MANAGED_SELECTOR, "watch": "1", "timeoutSeconds": "600"}
        async with self._session.get(url, params=query) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]


async def serve(kubeconfig: str) -> None:
    connection = await connect(kubeconfig)
    async with connection.session(limit=0) as session:
        world = World(connection.server, session)

        async def answer(request: web.Request) -> web.Response:
            assert request.transport is not None
            text = world.report(str(request.transport.get_extra_info("sockname")[0]))
            return web.Response(status=200 if text else 503, text=text or "{}", content_type="application/json")

        app = web.Application()
        app.router.add_get(protocol.PATH_STATE, answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", names.SIDECAR_PORT, backlog=1024).start()  # noqa: S104 - the pods' addresses
        sys.stdout.write(f"listening {time.time():.0f}\n")
        sys.stdout.flush()
        await asyncio.gather(world.follow(POD), world.follow(CONFIG_MAP))


def main() -> None:
    kubeconfig, pod_range = sys.argv[1:]
    # Every address of the range is one of this process; only packets inside the namespace see it.
    subprocess.run(["ip", "route", "replace", "local", pod_range, "dev", "lo"], check=True)
    asyncio.run(serve(kubeconfig))


if __name__ == "__main__":
    main()
