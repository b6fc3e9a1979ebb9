"""Which replica works: a Lease that one replica holds, renews, and gives back when it ends.

The election of the `kubernetes` package measures its own deadlines with the wall clock, has no time limit for a
request and does not give the lease back, so it is done here. Safety: the holder counts its lease from the moment
before the renewal was sent, stops writing RENEW_DEADLINE after it, and a write takes at most the difference to
LEASE_SECONDS (`gateway.WRITE_SECONDS`); another replica takes over only when it has itself watched the lease stand
unchanged for LEASE_SECONDS. All on monotonic clocks, so moving a node's clock changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nereus.api.manifests import Manifest
from nereus.controller.errors import ApiError, ConflictError, NotFoundError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import LEASE

LEASE_NAME = "nereus-operator"
LEASE_SECONDS = 15
RENEW_DEADLINE = 10.0
RETRY_SECONDS = 2.0
TRY_SECONDS = 4.0
FIRST_SECONDS = 8.0
"""While there is nothing to lose, a slow API server is given more time: taking the lease needs two calls."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """A state of the lease and when this replica first saw it."""

    version: str
    at: float


class Leadership:
    """This replica's claim on the lease. `run` until `stop`; `held` may be asked at any time."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        namespace: str,
        identity: str,
        began: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._namespace = namespace
        self._identity = identity
        self._began = began
        self._clock = clock
        self._valid_until = float("-inf")
        self._seen: _Seen | None = None
        self._sent = float("-inf")
        self._lease: Manifest | None = None
        self._taken = False
        self._ended = asyncio.Event()
        self._writing = asyncio.Lock()
        self.acquired = asyncio.Event()
        self.lost = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether this replica may write now."""
        return self._clock() < self._valid_until and not self.lost.is_set() and not self._ended.is_set()

    @property
    def held_until(self) -> float:
        """Until when this replica may write if it hears nothing any more, on the monotonic clock; 0 when it may not."""
        return self._valid_until if self.held else 0.0

    async def run(self) -> None:
        """Try until the lease is ours, then renew it; returns when somebody else took it, or after `stop`.

        An API server that cannot be reached costs the lease too, but not the process: nothing is written until the
        lease was renewed, and then `began` is told again.
        """
        held = False
        while not self._ended.is_set():
            won = await self._attempt()
            if won:
                self._valid_until = self._sent + RENEW_DEADLINE
            elif self.acquired.is_set() and self._taken:
                log.error("lease lost to another replica, this one stops", extra={"lease": self._identity})
                self.lost.set()
                return
            if self.held != held:
                held = self.held
                if held:
                    log.info("leading", extra={"lease": self._identity})
                    self.acquired.set()
                    self._began()
                elif not self._ended.is_set():
                    log.error("lease not renewed, nothing is written until it is", extra={"lease": self._identity})
            await self._pause(RETRY_SECONDS)

    async def stop(self) -> None:
        """End, and give the lease back, so that another replica takes over at once. Idempotent."""
        ours = self.held
        self._ended.set()
        if not ours or self._lease is None:
            return
        try:
            async with asyncio.timeout(TRY_SECONDS), self._writing:
                spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._gateway.replace(LEASE, {**self._lease, "spec": spec})
        except (ApiError, TimeoutError) as error:
            log.warning("lease not given back, it runs out by itself: %s", error, extra={"lease": self._identity})

    async def _attempt(self) -> bool:
        try:
            async with self._writing, asyncio.timeout(TRY_SECONDS if self.held else FIRST_SECONDS):
                return not self._ended.is_set() and await self._try()
        except (ApiError, TimeoutError) as error:
            log.warning("lease: %s", str(error) or "no answer in time", extra={"lease": self._identity})
            return False

    async def _try(self) -> bool:
        if self.held and self._lease is not None:
            # One call is enough to renew: it fails when anybody else wrote the lease meanwhile.
            with contextlib.suppress(ConflictError, NotFoundError):
                await self._replace(self._lease)
                return True
        lease = await self._gateway.get_or_none(LEASE, self._namespace, LEASE_NAME)
        if lease is None:
            self._sent = self._clock()
            self._lease = await self._gateway.create(LEASE, self._wished(None))
            return True
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._clock())
        holder = spec.get("holderIdentity") or ""
        self._taken = holder not in ("", self._identity)
        if self._taken:
            if self.acquired.is_set():
                self._valid_until = float("-inf")  # somebody else has it: do not wait for the deadline
                return False
            if self._clock() - self._seen.at < float(spec.get("leaseDurationSeconds") or LEASE_SECONDS):
                return False
            log.info("the lease of %s ran out", holder, extra={"lease": self._identity})
        # The resource version inside makes it fail when another replica was faster.
        await self._replace(lease)
        self._taken = False
        return True

    async def _replace(self, lease: Manifest) -> None:
        self._sent = self._clock()
        self._lease = await self._gateway.replace(LEASE, self._wished(lease))

    def _wished(self, lease: Manifest | None) -> Manifest:
        before: dict[str, Any] = (lease or {}).get("spec") or {}
        ours = before.get("holderIdentity") == self._identity
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": (lease or {}).get("metadata") or {"name": LEASE_NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": before["acquireTime"] if ours and before.get("acquireTime") else _now(),
                "renewTime": _now(),
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours or not lease else 1),
            },
        }

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
