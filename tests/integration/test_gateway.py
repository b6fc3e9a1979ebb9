"""The operator's client against a real API server: what it must be able to tell apart."""

from __future__ import annotations

import pytest

from nereus.controller.connection import connect
from nereus.controller.errors import InvalidError, NotFoundError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import MODEL_SERVICE
from tests.harness.apiserver import Api
from tests.harness.services import Services


async def test_what_was_to_be_said_of_a_service_is_never_written_on_its_successor(
    api: Api, empty_namespace: str
) -> None:
    services = Services(api, empty_namespace)
    uid = services.apply("twin")["metadata"]["uid"]
    status = {"replicas": "1/1"}
    gateway = Gateway(await connect(str(api.kubeconfig)))
    try:
        with pytest.raises(NotFoundError, match="made again"):
            await gateway.replace_status(MODEL_SERVICE, empty_namespace, "twin", status, uid="of-the-predecessor")
        assert "status" not in services.service("twin")
        await gateway.replace_status(MODEL_SERVICE, empty_namespace, "twin", status, uid=uid)
        assert services.service("twin")["status"] == status
        with pytest.raises(InvalidError):  # a status that the server refuses is no successor
            await gateway.replace_status(MODEL_SERVICE, empty_namespace, "twin", {"replicas": 1}, uid=uid)
    finally:
        await gateway.close()
