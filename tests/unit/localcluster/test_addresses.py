"""Names, places and addresses: clusters never meet, and what cannot work is refused in words."""

import itertools
from pathlib import Path

import pytest

from localcluster import config, network
from localcluster.config import Addresses, Cluster, Options, Profile
from localcluster.report import Refusal


def test_the_networks_of_two_clusters_never_overlap() -> None:
    for one, other in itertools.combinations(config.SLOTS, 2):
        for ours in Addresses(one).networks():
            assert not any(ours.overlaps(theirs) for theirs in Addresses(other).networks())
        assert Addresses(one).host_interface != Addresses(other).host_interface


def test_interface_names_fit_the_kernels_limit() -> None:
    assert all(len(Addresses(slot).host_interface) <= 15 for slot in config.SLOTS)


def test_a_new_cluster_takes_the_first_slot_that_is_free_and_not_routed_elsewhere() -> None:
    assert config.free_slot(taken=[0, 2], blocked=[1]) == 3


def test_when_no_slot_is_free_the_remedy_is_named() -> None:
    with pytest.raises(Refusal, match="down --name"):
        config.free_slot(taken=config.SLOTS)


def test_a_route_of_the_machine_into_a_clusters_range_is_seen() -> None:
    vpn = {"dst": "10.96.0.0/12", "dev": "tun0"}
    assert network.overlapping(Addresses(0), [vpn]) == ["10.96.0.0/12 dev tun0"]


def test_default_routes_other_networks_and_our_own_link_do_not_block() -> None:
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "10.96.0.0/16", "dev": "nereus-h0"},
        {"dst": "fe80::/64", "dev": "eth0"},
    ]
    assert network.overlapping(Addresses(0), routes, ours="nereus-h0") == []


def test_a_cluster_of_another_state_root_blocks_its_slot() -> None:
    assert network.overlapping(Addresses(3), [{"dst": "10.200.3.0/30", "dev": "nereus-h3"}])


@pytest.mark.parametrize("name", ["", "Big", "-a", "a-", "a" * 21, "a/b", "a.b"])
def test_a_name_that_cannot_be_a_directory_a_cgroup_and_a_node_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="--name"):
        config.check_name(name)


@pytest.mark.parametrize("name", ["a", "nereus", "e2e-1", "a" * 20])
def test_usual_names_are_taken(name: str) -> None:
    assert config.check_name(name) == name


def test_a_state_directory_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(Refusal, match="NEREUS_STATE"):
        config.check_places(root=Path("/" + "d" * 90), cache=Path("/cache"), name="nereus")


def test_a_cache_that_the_cluster_would_hide_is_refused() -> None:
    with pytest.raises(Refusal, match="NEREUS_CACHE"):
        config.check_places(root=Path("/var/lib/nereus"), cache=Path("/run/cache"), name="nereus")


@pytest.mark.parametrize(
    ("profile", "nodes", "sync"),
    [("node", 251, "5s"), ("control", 5001, "5s"), ("node", -1, "5s"), ("node", 0, "five")],
)
def test_options_out_of_bounds_are_refused(profile: str, nodes: int, sync: str) -> None:
    with pytest.raises(Refusal):
        Options(profile=Profile(profile), kwok_nodes=nodes, hpa_sync=sync)


def test_a_saved_cluster_is_found_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEREUS_STATE", str(tmp_path))
    cluster = Cluster("a", 4, Options(profile=Profile.CONTROL, kwok_nodes=7, hpa_sync="15s"))
    config.save(cluster)
    assert config.find_cluster("a") == cluster
    assert config.known_names() == ["a"]
    with pytest.raises(Refusal, match="up --name b"):
        config.find_cluster("b")


def test_the_cgroup_tells_the_cluster_only_within_its_own_state_root(tmp_path: Path) -> None:
    default = config.cgroup_name("a", root=config.DEFAULT_STATE_ROOT)
    private = config.cgroup_name("a", root=tmp_path)
    assert default != private
    assert config.cluster_of_cgroup(default, root=config.DEFAULT_STATE_ROOT) == "a"
    assert config.cluster_of_cgroup(private, root=tmp_path) == "a"
    assert config.cluster_of_cgroup(private, root=config.DEFAULT_STATE_ROOT) is None
    assert config.cluster_of_cgroup(default, root=tmp_path) is None
