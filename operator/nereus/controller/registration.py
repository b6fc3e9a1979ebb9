"""Who may ask the External Metrics API, with what it is served, and that the API server trusts it.

The chart registers the API (an APIService), so that it goes first when the chart is uninstalled: while it is there and
nobody answers, no namespace can be deleted. The operator only adds the certificates of its replicas to it, which they
publish in a ConfigMap of the chart. When somebody else owns the registration, autoscalers are given no external metric:
then the floor alone is the decision.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nereus.controller import certificate
from nereus.controller.errors import ApiError, FencedError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import API_SERVICE, CONFIG_MAP
from nereus.controller.metricsapi import GROUP, VERSION, Callers
from nereus.controller.metricsfeed import Feed

API_SERVICE_NAME = f"{VERSION}.{GROUP}"
AUTHENTICATION = ("kube-system", "extension-apiserver-authentication")
LOOK_SECONDS = 20.0
OVERLAP_SECONDS = 120.0
"""A new certificate is published this long before it is used: until then the API server has learned to trust it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the API is served: `service` and `namespace` as the APIService names them, `config_map` in the same
    namespace for the certificates, `identity` of this replica."""

    namespace: str
    service: str
    config_map: str
    identity: str

    @property
    def name(self) -> str:
        return f"{self.service}.{self.namespace}.svc"


class Registration:
    """Runs until cancelled. `publisher` may write without the lease: only this replica's own certificate."""

    def __init__(
        self,
        place: Place,
        *,
        gateway: Gateway,
        publisher: Gateway,
        feed: Feed,
        owned: Callable[[bool], None],
    ) -> None:
        self._place = place
        self._gateway = gateway
        self._publisher = publisher
        self._feed = feed
        self._owned = owned
        self._told = ""

    async def run(self) -> None:
        """A fault is logged once, and tried again."""
        with TemporaryDirectory(prefix="nereus-") as directory:
            current: certificate.Certificate | None = None
            while True:
                try:
                    self._feed.admit(await self._callers())
                    if current is None or current.due:
                        current = await self._renew(current, Path(directory))
                    await self._register()
                    self._told = ""
                except FencedError:
                    pass  # the holder of the lease registers
                except (ApiError, certificate.CertificateError, OSError) as error:
                    if str(error) != self._told:
                        log.warning("external metrics: %s; trying again", error)
                        self._told = str(error)
                await asyncio.sleep(LOOK_SECONDS if current else 2.0)

    async def _callers(self) -> Callers:
        """Who may ask, as the API server itself publishes it; it may change when its authority is renewed."""
        data = (await self._gateway.get(CONFIG_MAP, *AUTHENTICATION)).get("data") or {}
        allowed = json.loads(data.get("requestheader-allowed-names") or "[]")
        callers = Callers(
            authority=str(data.get("requestheader-client-ca-file") or ""), allowed=tuple(map(str, allowed))
        )
        if not callers.authority:
            raise OSError(
                "the API server has no front proxy (--requestheader-client-ca-file): it cannot serve more APIs"
            )
        return callers

    async def _renew(self, before: certificate.Certificate | None, directory: Path) -> certificate.Certificate:
        made = await asyncio.to_thread(certificate.make, self._place.name, directory)
        published = [{"certificate": each.text, "until": round(each.until)} for each in (made, before) if each]
        patch = {"data": {self._place.identity: json.dumps(published)}}
        await self._publisher.merge(CONFIG_MAP, self._place.namespace, self._place.config_map, patch)
        if before is not None:
            await asyncio.sleep(OVERLAP_SECONDS)
        self._feed.present(made)
        return made

    async def _register(self) -> None:
        """The certificates of all replicas into the registration, when it is ours."""
        registered = await self._gateway.get_or_none(API_SERVICE, "", API_SERVICE_NAME)
        served_by = ((registered or {}).get("spec") or {}).get("service") or {}
        ours = (served_by.get("namespace"), served_by.get("name")) == (self._place.namespace, self._place.service)
        self._owned(ours)
        if registered is None or not ours:
            by = "nobody" if registered is None else f"{served_by.get('namespace')}/{served_by.get('name')}"
            raise OSError(
                f"{API_SERVICE_NAME} is registered for {by}, not for {self._place.namespace}/{self._place.service}:"
                " decisions reach autoscalers by their floor alone"
            )
        published = await self._gateway.get(CONFIG_MAP, self._place.namespace, self._place.config_map)
        valid = _valid(published.get("data") or {}, time.time())
        gone = [name for name, certificates in valid.items() if not certificates]
        if gone:
            patch = {"data": dict.fromkeys(gone)}
            await self._gateway.merge(CONFIG_MAP, self._place.namespace, self._place.config_map, patch)
        texts = sorted(text for certificates in valid.values() for text in certificates)
        bundle = base64.b64encode("".join(texts).encode()).decode()
        if bundle and bundle != registered["spec"].get("caBundle"):
            await self._gateway.merge(API_SERVICE, "", API_SERVICE_NAME, {"spec": {"caBundle": bundle}})
            log.info("external metrics: certificates of the replicas registered")


def _valid(published: Mapping[str, str], now: float) -> dict[str, list[str]]:
    """The certificates that each replica published and that have not run out."""
    return {name: [text for text, until in _read(entry) if until > now] for name, entry in published.items()}


def _read(entry: str) -> list[tuple[str, float]]:
    """Certificates and when they run out; nothing for an entry that somebody else wrote."""
    try:
        return [(str(each["certificate"]), float(each["until"])) for each in json.loads(entry)]
    except (ValueError, TypeError, KeyError):
        return []
