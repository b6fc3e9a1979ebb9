"""How long a changed model configuration takes: to the first pod that tries it, and to all pods.

Part of `bench.scale` (step `configuration`). Such a change reaches pods through the ConfigMap alone: written once for
the pods that try it, and again, for all, when these serve it. The stand-in for the sidecars serves at once, so this is
the operator's and the API server's part of the way.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.figures import shares
from bench.fleet import Name
from nereus.api import names, stages
from nereus.controller.kinds import CONFIG_MAP

if TYPE_CHECKING:
    from bench.scale import Bench

PAUSE_SECONDS = 0.3
LATE_SECONDS = 60.0
POLL_SECONDS = 0.2


async def configuration(bench: Bench, changes: int) -> None:
    """Changes a parameter of the model of some services, one after the other, on a fleet that is otherwise idle."""
    await bench.settle()
    services = bench.fleet.services()
    probed = services[:: max(1, len(services) // changes)][:changes]
    plans = {Name(each.namespace, names.plan_config_map(each.name, 0)): each for each in probed}
    before = {each: await _running(bench, each) for each in probed}
    written: dict[Name, list[float]] = {each: [] for each in probed}
    sent: dict[Name, float] = {}

    async def watch() -> None:
        async for moment, name, _ in bench.fleet.changes(CONFIG_MAP):
            if name in plans and plans[name] in sent:
                written[plans[name]].append(moment)

    watching = asyncio.create_task(watch())
    async with bench.measured("configuration") as result:
        await asyncio.sleep(1)  # the watch is open before the first change
        stamp = f"{time.time():.0f}"
        for service in probed:
            sent[service] = time.monotonic()
            await bench.fleet.apply(service, parameter=stamp)
            await asyncio.sleep(PAUSE_SECONDS)
        left, deadline = set(probed), time.monotonic() + LATE_SECONDS
        while left and time.monotonic() < deadline:
            left = {each for each in left if await _running(bench, each) in ("", before[each])}
            await asyncio.sleep(POLL_SECONDS)
        if watching.done():
            watching.result()
        watching.cancel()
        seen = [(sent[each], written[each]) for each in probed if each not in left and written[each]]
        result.update(
            {"changes_sent": len(sent), "changes_not_carried_out": len(left)},
            **shares("first_pods_", [moments[0] - at for at, moments in seen]),
            **shares("all_pods_", [moments[-1] - at for at, moments in seen]),
        )


async def _running(bench: Bench, service: Name) -> str:
    """The revision that all pods run; empty while another one is tried."""
    found = await bench.fleet.gateway.get(CONFIG_MAP, service.namespace, names.plan_config_map(service.name, 0))
    data = found.get("data") or {}
    plan = stages.bundle(data)
    return plan.revision if plan and stages.next_bundle(data) is None else ""
