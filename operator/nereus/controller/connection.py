"""How to reach the API server: address, certificates and a fresh token for every request.

The credentials come from the `kubernetes` package (in-cluster service account or kubeconfig), which knows exec
plugins, OIDC and rotating tokens. Requests go over plain aiohttp sessions; kopf is given one of them, so that
there is a single way to log in.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

import nereus

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """One API server and the identity to use with it."""

    server: str
    configuration: Any

    def session(
        self,
        *,
        limit: int,
        answers: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
    ) -> aiohttp.ClientSession:
        """A new session that authenticates by itself; `limit` is the number of connections, 0 for no limit;
        `answers` is what requests are answered with."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ssl=self._tls(), keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"User-Agent": f"nereus/{nereus.__version__}", "Accept": "application/json"},
            middlewares=(self._authenticate,),
            response_class=answers,
            trust_env=True,
            read_bufsize=2**21,  # one watch line holds a whole object
        )

    async def _authenticate(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """The token is asked for each time, because projected tokens and plugins replace it while we run."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            request.headers["Authorization"] = token
        elif self.configuration.username:
            request.headers["Authorization"] = self.configuration.get_basic_auth_token()
        return await handler(request)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            cafile=self.configuration.ssl_ca_cert or None, cadata=self.configuration.ca_cert_data or None
        )
        # Cluster authorities of common installers lack the key identifiers that strict checking asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not self.configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, self.configuration.key_file or None)
        return context


async def connect(kubeconfig: str = "") -> Connection:
    """The kubeconfig named here or by KUBECONFIG, otherwise the account of the pod, otherwise ~/.kube/config.

    Raises ConfigException naming what is missing.
    """
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path or not os.environ.get("KUBERNETES_SERVICE_HOST"):
        await config.load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return Connection(server=configuration.host.rstrip("/"), configuration=configuration)
