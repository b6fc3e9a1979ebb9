"""The operator behind an API server in trouble, or killed in the middle of its work: what a service notices of it.

The faults are made by a proxy in front of the real API server (tests/harness/faulty_proxy.py): it is the only thing
here that is not real. Times are shorter than outages are: what is proved is the way back.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from nereus.api import names
from tests.harness.apiserver import MODEL_SERVICES, Api, eventually
from tests.harness.faulty_proxy import Call, Fault, FaultyProxy
from tests.harness.operator import Operator
from tests.harness.services import OWNED, Services
from tests.tiers import INTEGRATION_CLUSTER, ROOT

pytestmark = pytest.mark.usefixtures("sidecars")

SCALED = {"minReplicas": 2, "maxReplicas": 4}
Start = Callable[..., Operator]


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    with FaultyProxy(api.kubeconfig) as running:
        yield running


@pytest.fixture
def start(proxy: FaultyProxy, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts operators behind the proxy that watch this test's namespace; `identity` is the name of their pod."""
    kubeconfig = proxy.kubeconfig_for_operator(tmp_path / "kubeconfig")
    numbers = itertools.count(1)
    started: list[Operator] = []

    def one_more(
        *,
        identity: str = "op",
        through: Path = kubeconfig,
        ready: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> Operator:
        log = tmp_path / f"{identity}-{next(numbers)}.log"
        operator = Operator(
            through,
            lease_namespace=namespace,
            identity=identity,
            log=log,
            watch=(namespace,),
            variables=variables,
            forked=True,
        )
        started.append(operator)
        if ready:
            operator.until_ready()
        return operator

    yield one_more
    for operator in started:
        operator.kill()
    for operator in started[-2:]:
        print(f"--- {operator.identity}\n{operator.log()[-3000:]}")


def lives_until_ready(services: Services, proxy: FaultyProxy, start: Start) -> list[Call]:
    """Operators that are killed right after each write that the server has carried out, one after the other, until
    one has nothing left to write. The writes, one for each life."""
    done: list[Call] = []
    current: list[Operator] = []

    def kill(call: Call) -> None:
        if call.writes and current:
            done.append(call)
            current.pop().kill()

    def lived() -> bool:
        """Whether this life ended with a write; otherwise it has looked and found nothing left to do."""
        operator, before = start(ready=False), len(done)
        current.append(operator)

        def lack() -> str | None:
            if len(done) > before:
                return None
            try:
                settled = services.condition().get("reason") == "Serving" and current and operator.looked
            except AssertionError:
                if len(done) > before:  # killed while it was asked
                    return None
                raise
            return None if settled else "neither a write nor a service that needs none"

        eventually(lack, seconds=60)
        return len(done) > before

    proxy.after = kill
    while lived():
        assert len(done) < 30, f"no end: {done}"
    proxy.after = lambda _call: None
    return done


def test_killed_after_each_write_of_a_new_service_the_next_life_goes_on_where_it_ended(
    services: Services, proxy: FaultyProxy, start: Start
) -> None:
    services.apply(scaling=SCALED)
    assert len(lives_until_ready(services, proxy, start)) >= 3
    assert {call.resource for call in proxy.writes()} >= {
        *("controllerrevisions", "configmaps", "services", "poddisruptionbudgets", "deployments"),
        *("horizontalpodautoscalers", "modelservices/status"),
    }
    owned = services.owned()
    assert {name.split()[0] for name in owned} == set(OWNED)
    assert len([name for name in owned if name.startswith("ControllerRevision")]) == 1, "a template was stored twice"
    sets = services.api.get(f"/apis/apps/v1/namespaces/{services.namespace}/replicasets")["items"]
    assert len(sets) == 1, "pods were started with more than one template"
    told = [event for event in services.events() if event[1] == "Ready"]
    assert len(told) <= 1, told


def test_killed_after_each_write_of_a_change_the_change_is_finished_once(
    services: Services, proxy: FaultyProxy, start: Start
) -> None:
    first = start()
    services.apply(scaling=SCALED)
    services.until_ready()
    first.kill()
    services.apply(scaling={"minReplicas": 3, "maxReplicas": 5}, runtime={"podAnnotations": {"example.com/a": "1"}})
    assert len(lives_until_ready(services, proxy, start)) >= 2
    assert {call.resource for call in proxy.writes()} >= {
        "controllerrevisions",
        "deployments",
        "horizontalpodautoscalers",
    }
    sets = services.api.get(f"/apis/apps/v1/namespaces/{services.namespace}/replicasets")["items"]
    assert len(sets) == 2, "the old template and the new one, no other"
    assert services.child("Deployment")["spec"]["replicas"] == 3
    assert services.child("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3


@pytest.mark.parametrize(
    ("status", "retry_after"), [(429, "1"), (500, ""), (503, "")], ids=["too many requests", "errors", "unavailable"]
)
def test_refusals_of_a_busy_api_server_delay_a_service_and_raise_no_alarm(
    services: Services, proxy: FaultyProxy, start: Start, status: int, retry_after: str
) -> None:
    numbers = itertools.count()

    def every_second_call(call: Call) -> Fault | None:
        return Fault(status=status, retry_after=retry_after) if next(numbers) % 2 else None

    start()
    proxy.plan = every_second_call
    services.apply(scaling=SCALED)
    services.until_ready(seconds=90)
    proxy.plan = lambda _call: None
    assert {reason for kind, reason, _ in services.events() if kind == "Warning"} <= {
        "MetricsUnavailable",
        "ScalingFailed",
    }


def test_answers_that_get_lost_make_nothing_twice(services: Services, proxy: FaultyProxy, start: Start) -> None:
    start()
    lost: set[str] = set()

    def lose_the_first_answer(call: Call) -> Fault | None:
        if not call.writes or call.path in lost:
            return None
        lost.add(call.path)
        return Fault(lose_answer=True)

    proxy.plan = lose_the_first_answer
    services.apply(scaling=SCALED)
    services.until_ready(seconds=60)
    assert len([name for name in services.owned() if name.startswith("ControllerRevision")]) == 1
    assert len(services.api.get(f"/apis/apps/v1/namespaces/{services.namespace}/replicasets")["items"]) == 1


def test_an_api_server_that_takes_two_seconds_per_call_costs_time_and_not_the_lease(
    services: Services, proxy: FaultyProxy, start: Start
) -> None:
    operator = start()
    eventually(lambda: None if operator.leads else "does not lead")
    proxy.plan = lambda call: None if call.watch else Fault(delay=2.0)
    services.apply(scaling=SCALED)
    services.until_ready(seconds=120)
    assert operator.leads
    assert "lease not renewed" not in operator.log()


def test_what_was_deleted_while_the_watch_was_blind_is_made_again(
    services: Services, proxy: FaultyProxy, start: Start
) -> None:
    start()
    services.apply(scaling=SCALED)
    services.until_ready()
    blind = [True]
    proxy.plan = lambda call: Fault(status=503) if blind[0] and call.watch else None
    proxy.cut_watches()
    services.delete("Service")
    services.delete("PodDisruptionBudget")
    expired: set[str] = set()

    def too_old(call: Call) -> Fault | None:
        if not call.watch or call.resource in expired:
            return None
        expired.add(call.resource)
        return Fault(expired=True)

    proxy.plan = too_old
    services.until_true(
        "both again",
        lambda: services.get("Service") and services.get("PodDisruptionBudget"),
        seconds=30,
    )
    assert {"services", "poddisruptionbudgets"} <= expired
    services.until_ready()


def compacted(cluster: str) -> None:
    """Has etcd forget every state but the present one."""
    program = """
import base64, json, urllib.request
def ask(path, **body):
    request = urllib.request.Request("http://127.0.0.1:2379/v3/kv/" + path, json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=10))
now = ask("range", key=base64.b64encode(b"x").decode())["header"]["revision"]
ask("compaction", revision=now, physical=True)
"""
    inside = [sys.executable, "-m", "localcluster", "exec", "--name", cluster, "--", sys.executable, "-c", program]
    done = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_history_that_etcd_forgot_while_a_watch_was_away_is_made_up_by_looking_anew(
    services: Services, proxy: FaultyProxy, start: Start, api_server: Callable[[str], None]
) -> None:
    """Nothing is simulated but the interruption: etcd is compacted, and the API server's own memory of changes goes
    with its restart, so it has to answer 410 to a watch that wants to go on from before."""
    operator = start()
    services.apply(scaling=SCALED)
    services.until_ready()
    proxy.plan = lambda call: Fault(status=503) if call.watch else None
    proxy.cut_watches()
    services.delete("Service")
    services.patch("PodDisruptionBudget", {"spec": {"maxUnavailable": "100%"}})
    compacted(INTEGRATION_CLUSTER)
    api_server("kill")
    api_server("start")
    eventually(lambda: None if services.api.request("GET", "/readyz").accepted else "not ready", seconds=60)
    answered = len(proxy.answers)
    proxy.plan = lambda _call: None

    def healed() -> bool:
        budget = services.child("PodDisruptionBudget")["spec"]["maxUnavailable"]
        return services.get("Service") is not None and budget == 1

    services.until_true("both as they were", healed, seconds=60)
    services.until_ready(seconds=60)
    watches = [(call, status) for call, status in proxy.answers[answered:] if call.watch]
    lists = {call.resource for call, _ in proxy.answers[answered:] if call.verb == "list"}
    assert watches
    assert {"services", "poddisruptionbudgets"} <= lists, "nothing was too old: the history was not forgotten"
    assert operator.probe("healthz")[0] == 200


def test_a_watch_that_hangs_makes_the_operator_unhealthy_until_it_shows_what_it_owes(
    services: Services, proxy: FaultyProxy, start: Start
) -> None:
    operator = start(variables={"NEREUS_HURRY": "1", "NEREUS_STUCK": "2"})
    services.apply(scaling=SCALED)
    services.until_ready()
    assert operator.probe("healthz")[0] == 200

    def budgets(call: Call) -> bool:
        return call.watch and call.resource == "poddisruptionbudgets"

    before = len(proxy.calls)
    proxy.plan = lambda call: Fault(silent=True) if budgets(call) else None
    proxy.cut_watches()
    eventually(lambda: None if any(map(budgets, proxy.calls[before:])) else "it does not watch again")
    services.patch("PodDisruptionBudget", {"spec": {"maxUnavailable": "100%"}})

    def stuck() -> str | None:
        status, said = operator.probe("healthz")
        told = "the watch shows nothing new: PodDisruptionBudget for" in said
        return None if (status, told) == (500, True) else f"{status} {said}"

    eventually(stuck, seconds=60)
    assert services.child("PodDisruptionBudget")["spec"]["maxUnavailable"] == "100%"
    proxy.plan = lambda _call: None
    proxy.cut_watches()
    eventually(lambda: None if operator.probe("healthz")[0] == 200 else str(operator.probe("healthz")), seconds=60)
    services.until_true("healed", lambda: services.child("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1)


def test_a_replica_that_is_cut_off_from_its_lease_writes_nothing_after_another_took_over(
    api: Api, services: Services, proxy: FaultyProxy, start: Start
) -> None:
    first = start(identity="first")
    eventually(lambda: None if first.leads else "the first does not lead")
    services.apply()
    services.until_ready()
    second = start(identity="second", through=api.kubeconfig)
    cut_off = time.monotonic()
    # Its lease is out of reach, everything else is slow: a write is under way whenever the lease runs out.
    proxy.plan = lambda call: Fault(status=503) if call.resource == "leases" else Fault(delay=1.0)
    taken: list[float] = []

    def look() -> str | None:
        services.patch("PodDisruptionBudget", {"spec": {"maxUnavailable": "100%"}})
        if second.leads:
            taken.append(time.monotonic())
        return None if taken else "the second does not lead"

    eventually(look, seconds=30)
    assert taken[0] - cut_off < 20
    services.until_true(
        "healed by the second", lambda: services.child("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1, seconds=10
    )
    # The call reaches the server a second after it reached the proxy, and still before the other one began.
    assert max(call.at + 1.0 for call in proxy.writes()) < taken[0]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 503])
def test_a_kind_that_is_refused_for_a_while_is_named_and_followed_again_without_a_restart(
    services: Services, proxy: FaultyProxy, start: Start, status: int
) -> None:
    operator = start()
    services.apply()
    services.until_ready()
    pods = services.child("Deployment")["metadata"]["uid"]

    def refuse(call: Call) -> Fault | None:
        return Fault(status=status) if call.resource == "deployments" and call.verb in ("list", "watch") else None

    proxy.plan = refuse
    proxy.cut_watches()
    named = f"Deployment cannot be watched: faulty proxy ({status})"
    eventually(lambda: None if named in operator.log() else operator.log()[-1000:])
    tries = len(proxy.calls)
    eventually(lambda: None if sum(1 for call in proxy.calls[tries:] if refuse(call)) >= 3 else "not tried again")
    code, text = operator.probe("healthz")
    assert (code, f"({status})" in text) == (200, True), text
    assert operator.metric('nereus_operator_watch_refused_seconds{kind="Deployment"}') > 0
    assert services.child("Deployment")["metadata"]["uid"] == pods
    proxy.plan = lambda _call: None
    eventually(lambda: None if "Deployment is watched again" in operator.log() else operator.log()[-1000:], seconds=60)
    services.delete("Deployment")
    services.until_true("made again", lambda: services.get("Deployment"), seconds=30)
    services.until_ready()
    assert operator.log().count(named) == 1
    assert operator.probe("healthz") == (200, "ok\n")


def test_a_definition_that_is_deleted_and_made_again_is_served_without_a_restart(
    api: Api, services: Services, proxy: FaultyProxy, start: Start
) -> None:
    operator = start()
    services.apply()
    services.until_ready()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/modelservices.serving.nereus.dev"
    definition = api.get(path)
    assert api.request("DELETE", path).accepted
    eventually(lambda: None if api.request("GET", path).code == 404 else "the definition is still there")
    eventually(lambda: str(left) if (left := services.all_of("Deployment")) else None, seconds=60)
    proxy.cut_watches()  # otherwise the server may leave the old one hanging, and 404 is seen only after a minute
    eventually(lambda: None if operator.probe("readyz")[0] == 500 else "still ready", seconds=60)
    assert "(404); install the chart's definition again" in operator.log()
    assert operator.probe("healthz")[0] == 200, "nothing that a restart would mend"
    kept = {key: value for key, value in definition["metadata"].items() if key in ("name", "labels", "annotations")}
    made = api.request("POST", path.rpartition("/")[0], {**definition, "metadata": kept, "status": {}})
    assert made.accepted, made.message

    def again() -> str | None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "svc"},
            "spec": {"models": [{"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python"}]},
        }
        answer = api.request("POST", MODEL_SERVICES.format(namespace=services.namespace), body)
        return None if answer.accepted else answer.message

    eventually(again, seconds=60)
    services.until_ready(seconds=120)
    assert operator.probe("healthz") == operator.probe("readyz") == (200, "ok\n")
