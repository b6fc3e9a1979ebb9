"""A node whose clock is moved while the operator works on it: by a day, forwards and backwards.

The clock is that of the operator's process, moved by libfaketime while it runs; time that only passes (the monotonic
clock) goes on, as it does when a machine's clock is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from localcluster import packages
from localcluster.report import Progress, Refusal
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.faulty_proxy import FaultyProxy
from tests.harness.operator import Operator
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("sidecars")

DAY = timedelta(days=1)
LEASE_SECONDS = 15.0


class Clock:
    """The clock of a process that is started with `variables`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.move(timedelta())

    def move(self, by: timedelta) -> None:
        """By so much it is wrong from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{by.total_seconds():+.0f}s\n")
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    try:
        packages.ensure_tools("faketime", progress=Progress())
    except Refusal as refusal:
        pytest.skip(f"no libfaketime to move a clock with: {refusal}")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return Clock(library, tmp_path / "clock")


@pytest.fixture
def start(api: Api, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators that share a Lease, through a proxy without TLS: a certificate of today is none in a wrong
    clock's eyes, which is not what is asked here."""
    started: list[Operator] = []
    with FaultyProxy(api.kubeconfig) as proxy:
        kubeconfig = proxy.kubeconfig_for_operator(tmp_path / "kubeconfig")

        def one_more(identity: str, variables: dict[str, str] | None = None) -> Operator:
            operator = Operator(
                kubeconfig,
                lease_namespace=namespace,
                identity=identity,
                log=tmp_path / f"{identity}.log",
                watch=(namespace,),
                variables=variables,
            )
            started.append(operator)
            operator.until_ready()
            return operator

        yield one_more
        for operator in started:
            operator.kill()
            print(f"--- {operator.identity}\n{operator.log()[-3000:]}")


def test_a_moved_clock_costs_neither_the_lease_nor_a_service_and_another_takes_over_in_its_own_time(
    api: Api, services: Services, start: Callable[..., Operator], clock: Clock
) -> None:
    moved = start("moved", clock.variables)
    eventually(lambda: None if moved.leads else "does not lead")
    services.apply(scaling={"minReplicas": 2})
    services.until_ready()
    right = start("right")

    def lease() -> Json:
        found: Json = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{services.namespace}/leases/nereus-operator")[
            "spec"
        ]
        return found

    transitions = lease()["leaseTransitions"]
    for number, by in enumerate((DAY, -DAY)):
        clock.move(by)

        def renewed_by_the_wrong_clock(by: timedelta = by) -> str | None:
            renewed = datetime.fromisoformat(lease()["renewTime"])
            wrong = abs(renewed - datetime.now(UTC) - by)
            return None if wrong < timedelta(hours=1) else f"renewed at {renewed}"

        eventually(renewed_by_the_wrong_clock)
        services.delete("PodDisruptionBudget")
        services.until_true("healed", lambda: services.get("PodDisruptionBudget"), seconds=10)
        services.apply(scaling={"minReplicas": 2, "maxReplicas": 3 + number})
        services.until_ready()
        assert moved.leads
        assert not right.leads
        assert lease()["leaseTransitions"] == transitions
    moved.kill()
    services.delete("PodDisruptionBudget")
    services.until_true("healed by the other", lambda: services.get("PodDisruptionBudget"), seconds=LEASE_SECONDS + 10)
    assert right.leads
    services.until_ready()
