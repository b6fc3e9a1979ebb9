"""Command lines, configuration and objects of a cluster, and the certificates that hold them together."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localcluster import addons, discovery, kwok_nodes, node, pki, sandbox
from localcluster.components import components
from localcluster.config import Cluster, Options, Profile

PROGRAMS = Path("/programs")


def _cluster(root: Path = Path("/state"), **options: Any) -> Cluster:
    return Cluster("nereus", 2, Options(**options), root=root)


def test_the_control_profile_runs_no_node() -> None:
    plan = components(_cluster(profile=Profile.CONTROL), PROGRAMS)
    assert list(plan) == ["etcd", "apiserver", "controller-manager", "scheduler"]


def test_no_two_components_want_the_same_port() -> None:
    ports = [component.port for component in components(_cluster(kwok_nodes=1), PROGRAMS).values() if component.port]
    assert len(ports) == len(set(ports))


def test_the_autoscaler_is_evaluated_as_often_as_asked() -> None:
    command = components(_cluster(hpa_sync="15s"), PROGRAMS)["controller-manager"].command
    assert "--horizontal-pod-autoscaler-sync-period=15s" in command


def test_client_limits_are_wide_unless_the_real_pace_is_asked_for() -> None:
    for name in ("controller-manager", "scheduler"):
        wide = components(_cluster(), PROGRAMS)[name].command
        default = components(_cluster(default_client_limits=True), PROGRAMS)[name].command
        assert any("--kube-api-qps" in part for part in wide)
        assert not any("--kube-api-qps" in part for part in default)


def test_a_thousand_kwok_nodes_do_not_exhaust_the_pod_range() -> None:
    command = components(_cluster(profile=Profile.CONTROL, kwok_nodes=1000), PROGRAMS)["controller-manager"].command
    assert "--allocate-node-cidrs=false" in command


def test_everything_the_runtime_writes_lies_in_the_clusters_directory() -> None:
    toml = node.containerd_config(_cluster(), snapshotter="overlayfs")
    assert 'root = "/state/nereus/containerd"' in toml
    assert 'path = "/state/nereus/containerd/opt"' in toml
    assert "restrict_oom_score_adj = true" in toml


def test_the_kubelet_keeps_images_and_is_not_evicted_by_a_full_disk() -> None:
    config = json.loads(node.kubelet_config(_cluster()))
    assert config["imageGCHighThresholdPercent"] == 100
    assert {config["evictionHard"][signal] for signal in ("nodefs.available", "imagefs.available")} == {"0%"}
    assert config["cgroupRoot"].startswith("/nereus-nereus")


def test_the_name_server_runs_on_the_real_node_and_at_the_address_that_pods_ask() -> None:
    cluster = _cluster()
    objects = {(item["kind"], item["metadata"]["name"]): item for item in addons.addons(cluster)}
    assert objects["Service", "kube-dns"]["spec"]["clusterIP"] == cluster.addresses.dns
    assert json.loads(node.kubelet_config(cluster))["clusterDNS"] == [cluster.addresses.dns]
    pod = objects["Deployment", "coredns"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": cluster.node_name}


def test_kwok_nodes_beside_a_real_one_take_only_pods_that_ask_for_them() -> None:
    assert kwok_nodes.node(_cluster(), 0)["spec"]["taints"][0]["effect"] == "NoSchedule"
    assert kwok_nodes.node(_cluster(profile=Profile.CONTROL), 0)["spec"]["taints"] == []


def test_the_namespaces_hide_the_paths_that_are_compiled_in() -> None:
    command = sandbox.hold_command(_cluster(), pause=Path("/p/pause"))
    assert command[:2] == ["unshare", "--net"]
    assert {"/var/lib/kubelet", "/var/lib/cni", "/proc/sys/vm/overcommit_memory"} <= set(command)
    assert command[-1] == "--"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    cluster = _cluster(tmp_path_factory.mktemp("state"))
    pki.ensure_pki(cluster)
    return cluster


def test_every_certificate_is_signed_by_its_authority(authority: Cluster) -> None:
    for certificate in pki.certificates(authority):
        files = (str(authority.pki(f"{certificate.authority}.crt")), str(authority.pki(f"{certificate.name}.crt")))
        subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", *files], check=True, capture_output=True)


def test_the_api_server_answers_to_its_service_names_and_addresses(authority: Cluster) -> None:
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(authority.pki("apiserver.crt"))]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in ("kubernetes.default.svc", authority.addresses.node, authority.addresses.kubernetes_service):
        assert name in names


def test_keys_are_made_once_and_a_half_made_set_is_made_again(authority: Cluster) -> None:
    key = authority.pki("ca.key").read_bytes()
    pki.ensure_pki(authority)
    assert authority.pki("ca.key").read_bytes() == key
    interrupted = Cluster("other", 3, Options(), root=authority.root)
    (interrupted.dir / "pki.new").mkdir(parents=True)
    (interrupted.dir / "pki.new" / "ca.key").write_text("half")
    pki.ensure_pki(interrupted)
    assert b"PRIVATE KEY" in interrupted.pki("ca.key").read_bytes()


def test_a_kubeconfig_stands_alone(authority: Cluster) -> None:
    config = json.loads(authority.pki("admin.kubeconfig").read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.200.2.1:6443"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert authority.pki("admin.kubeconfig").stat().st_mode & 0o077 == 0


def _pod(annotations: dict[str, str], **status: Any) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8000}, {"name": "triton-metrics", "containerPort": 8002}]
    sidecar = {"name": "sidecar", "ports": [{"name": "metrics", "containerPort": 9000}]}
    metadata = {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"app.kubernetes.io/name": "x"},
        "annotations": {f"prometheus.io/{name}": value for name, value in annotations.items()},
    }
    spec = {"nodeName": "node", "initContainers": [sidecar], "containers": [{"name": "triton", "ports": ports}]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": "10.1.1.1", **status}}


def test_a_pod_is_scraped_where_its_annotations_say() -> None:
    [group] = discovery.targets(_pod({"scrape": "true", "port": "8002", "path": "/m", "scheme": "https"}))
    assert group["targets"] == ["10.1.1.1:8002"]
    assert group["labels"] == {
        "app_kubernetes_io_name": "x",
        "namespace": "n",
        "pod": "p",
        "node": "node",
        "__metrics_path__": "/m",
        "__scheme__": "https",
    }


def test_without_a_port_every_port_named_metrics_is_scraped_the_sidecars_too() -> None:
    groups = discovery.targets(_pod({"scrape": "true"}))
    assert [group["targets"] for group in groups] == [["10.1.1.1:9000"], ["10.1.1.1:8002"]]
    assert [group["labels"]["container"] for group in groups] == ["sidecar", "triton"]


@pytest.mark.parametrize(
    "pod",
    [
        _pod({}),
        _pod({"scrape": "false"}),
        _pod({"scrape": "true"}, phase="Pending"),
        _pod({"scrape": "true"}, podIP=""),
    ],
)
def test_a_pod_that_does_not_ask_or_is_not_there_yet_is_no_target(pod: dict[str, Any]) -> None:
    assert discovery.targets(pod) == []


def test_a_pod_that_vanished_while_nobody_watched_is_no_target_any_more(tmp_path: Path) -> None:
    known = discovery.Targets(tmp_path / "targets.json")
    known.put(_pod({"scrape": "true", "port": "1"}))
    known.write()
    assert len(json.loads((tmp_path / "targets.json").read_text())) == 1
    known.keep_only(set())
    known.write()
    assert json.loads((tmp_path / "targets.json").read_text()) == []
