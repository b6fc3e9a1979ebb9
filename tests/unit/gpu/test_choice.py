"""Which mechanism a service gets, and why: by table for what a person expects, by property for what always holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import GIB, MIB, Ask
from nereus.gpu.choice import Choice, Unavailable, better, choose, missing, units
from nereus.gpu.mechanisms import REGISTRY, mechanism
from nereus.gpu.nodes import NodeGpus, read
from nereus.gpu.offer import Strength
from tests.unit.gpu.nodes import hami, manifest, mixed, shared, single, whole


def ask(gibibytes: float | None = None, isolation: Isolation = Isolation.AUTO, **more: object) -> Ask:
    return Ask(
        memory_bytes=None if gibibytes is None else int(gibibytes * GIB),
        isolation=isolation,
        **more,  # type: ignore[arg-type]
    )


def chosen(wanted: Ask, *nodes: NodeGpus) -> Choice:
    found = choose(wanted, nodes)
    assert isinstance(found, Choice), found
    return found


def refused(wanted: Ask, *nodes: NodeGpus) -> str:
    found = choose(wanted, nodes)
    assert isinstance(found, Unavailable), found
    return found.message


# --- what is taken


def test_the_smallest_slice_that_holds_the_limit_is_taken_and_its_size_is_the_limit_in_effect() -> None:
    found = chosen(ask(12), mixed(p1g_10gb=2, p2g_20gb=1, p3g_40gb=1), whole())
    assert dict(found.resources) == {"nvidia.com/mig-2g.20gb": "1"}
    assert found.effective_bytes == int(20 * 0.9 * GIB), "a 12 Gi request on a 20 GB slice enforces the slice"
    assert found.strength is Strength.HARD
    assert dict(found.others)["Exclusive"] == "takes 79.6Gi"


def test_the_label_says_how_large_a_slice_is_where_there_is_one() -> None:
    described = manifest(
        "n", allocatable={"nvidia.com/mig-1g.10gb": 1}, product="NVIDIA-A100-SXM4-80GB", sharing="none"
    )
    described["metadata"]["labels"]["nvidia.com/mig-1g.10gb.memory"] = "9728"
    node = read(described)
    assert node is not None
    assert chosen(ask(9.4), node).effective_bytes == 9728 * MIB
    assert "9.5Gi" in refused(ask(9.6, Isolation.MIG), node)


def test_slices_of_strategy_single_are_asked_as_whole_gpus_on_such_nodes_only() -> None:
    found = chosen(ask(8), single(), shared())
    assert found.mechanism is Isolation.MIG
    assert dict(found.resources) == {"nvidia.com/gpu": "1"}
    assert [dict(place)["nvidia.com/gpu.product"] for place in found.places] == ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"]


def test_strength_goes_before_waste() -> None:
    assert chosen(ask(4), whole(), shared(by="mps"), hami()).mechanism is Isolation.EXCLUSIVE


def test_of_two_that_are_soft_the_one_with_less_waste_is_taken() -> None:
    found = chosen(ask(4), shared(by="mps", replicas=2), hami())
    assert found.mechanism is Isolation.HAMI
    assert dict(found.resources) == {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4096"}
    assert dict(found.others)["MPS"] == "takes 22.5Gi"


def test_a_limit_of_the_driver_is_taken_by_auto_only_where_somebody_vouches_for_what_no_label_tells() -> None:
    new = shared(driver="615")
    assert chosen(ask(4), new).mechanism is Isolation.NONE
    vouched = shared("vouched", driver="615", limits="true")
    found = chosen(ask(4), vouched)
    assert found.mechanism is Isolation.DRIVER_LIMIT
    assert dict(found.env) == {"NVIDIA_GPU_MEMORY_REQUEST": "4096", "NVIDIA_GPU_MEMORY_LIMIT": "4096"}
    assert chosen(ask(4, Isolation.DRIVER_LIMIT), new).mechanism is Isolation.DRIVER_LIMIT


def test_an_mps_client_lowers_its_own_part_of_device_zero_only() -> None:
    found = chosen(ask(4), shared(by="mps"))
    assert dict(found.env) == {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=4096M"}
    assert found.effective_bytes == 4 * GIB


def test_where_only_time_slicing_is_offered_it_is_taken_and_enforces_nothing() -> None:
    found = chosen(ask(4), shared(resource="nvidia.com/gpu.shared"))
    assert (found.mechanism, found.strength, found.effective_bytes) == (Isolation.NONE, Strength.NONE, None)
    assert dict(found.resources) == {"nvidia.com/gpu.shared": "1"}


def test_without_a_limit_auto_means_whole_gpus_of_any_size() -> None:
    found = chosen(ask(count=2), whole("a"), whole("b", product="NVIDIA-L4", memory="23034"), shared())
    assert found.mechanism is Isolation.EXCLUSIVE
    assert dict(found.resources) == {"nvidia.com/gpu": "2"}
    assert len(found.places) == 2
    assert "gpus are shared" in refused(ask(), shared()).lower()


def test_the_product_narrows_the_nodes() -> None:
    found = chosen(ask(product="NVIDIA-L4"), whole("a"), whole("b", product="NVIDIA-L4", memory="23034"))
    assert [dict(place)["nvidia.com/gpu.product"] for place in found.places] == ["NVIDIA-L4"]
    assert "there are: NVIDIA-H100-80GB-HBM3" in refused(ask(product="NVIDIA-L4"), whole("a"))


# --- what is refused, and in which words


@pytest.mark.parametrize(
    ("wanted", "nodes", "words"),
    [
        (ask(60, Isolation.MIG), (mixed(p1g_10gb=2, p3g_40gb=1),), "largest MIG slice is 3g.40gb with 36Gi"),
        (ask(60, Isolation.MIG), (mixed(p1g_10gb=2),), "lower gpu.memory, or add a node with what MIG needs (GPUs cut"),
        (
            ask(4, Isolation.MIG),
            (single(sharing="time-slicing"),),
            "shared again (time-slicing), so they hold no limit:",
        ),
        (ask(4, Isolation.MIG), (single(sharing="time-slicing"),), "end that in its plug-in"),
        (ask(4, Isolation.MIG), (whole(),), "not cut into MIG slices"),
        (ask(4, Isolation.DRIVER_LIMIT), (shared(),), "driver 580 is older than 615"),
        (ask(4, Isolation.DRIVER_LIMIT), (shared(),), "needs (driver 615 or later, container toolkit 1.20.1 or later"),
        (ask(4, Isolation.DRIVER_LIMIT), (mixed(p1g_10gb=2),), "take no limit of the driver"),
        (ask(4, Isolation.HAMI), (whole(),), "HAMi does not run on it"),
        (ask(4, Isolation.HAMI), (whole(),), "needs (HAMi with its scheduler, webhook and device plug-in), or name no"),
        (ask(4, Isolation.MPS), (shared(),), "does not share by MPS"),
        (ask(12, Isolation.MPS), (shared(by="mps"),), "a share is 11.2Gi (4 of 45Gi)"),
        (ask(90), (whole(), shared()), "a GPU has 79.6Gi"),
        (ask(90), (whole(), shared()), "; lower gpu.memory, or add a node that gives it"),
        (ask(count=8), (whole(),), "8 whole GPUs"),
        (ask(count=8), (whole(),), "; lower gpu.count, or add a node with so many whole GPUs"),
    ],
)
def test_what_no_node_gives_is_refused_naming_what_is_missing(
    wanted: Ask, nodes: tuple[NodeGpus, ...], words: str
) -> None:
    assert words in refused(wanted, *nodes)


def test_a_resource_that_means_different_things_is_refused_where_no_label_tells_them_apart() -> None:
    bare = read(manifest("bare", allocatable={"nvidia.com/gpu": 1}))
    assert bare is not None
    assert chosen(ask(), bare).mechanism is Isolation.EXCLUSIVE
    assert "no label tells them apart" in refused(ask(), bare, shared())
    assert "gpu.memory" in refused(ask(4, Isolation.EXCLUSIVE), bare)


def test_without_nodes_what_is_named_is_taken_at_its_word_and_auto_with_a_limit_is_not_guessed() -> None:
    assert chosen(ask()).assumed
    assert chosen(ask(4, Isolation.MPS)).assumed
    assert dict(chosen(ask(4, Isolation.MIG, product="NVIDIA-H100-80GB-HBM3")).resources) == {
        "nvidia.com/mig-1g.10gb": "1"
    }
    assert "set gpu.product" in refused(ask(4, Isolation.MIG))
    assert "name gpu.isolation" in refused(ask(4))
    blind = choose(ask(4), None)
    assert isinstance(blind, Unavailable)
    assert "may not read nodes" in blind.message


# --- kept


def test_a_choice_survives_its_annotation_and_nonsense_there_is_no_choice() -> None:
    found = chosen(ask(4), shared(by="mps"), mixed(p1g_10gb=1))
    assert Choice.from_json(found.to_json()) == found
    for nonsense in ("", "{}", "[]", "null", '{"mechanism":"Magic"}', '{"mechanism":"MIG","resources":3,"asked":""}'):
        assert Choice.from_json(nonsense) is None


def test_something_better_is_shown_and_only_then() -> None:
    kept = chosen(ask(4), shared(by="mps"))
    assert better(kept, ask(4), (shared(by="mps"),)) == ""
    assert "MIG (Hard" in better(kept, ask(4), (shared(by="mps"), mixed(p1g_10gb=1)))
    assert better(chosen(ask(4), mixed(p1g_10gb=1)), ask(4), (shared(by="mps"),)) == "", "weaker is not better"


def test_what_is_no_longer_offered_is_missing() -> None:
    kept = chosen(ask(8), mixed(p1g_10gb=2))
    assert missing(kept, ask(8), (mixed(p1g_10gb=1),)) == ""
    assert "mig-1g.10gb: 1" in missing(kept, ask(8), (mixed(p3g_40gb=1),))
    assert "not cut" in missing(kept, ask(8), (whole(),))
    assert missing(kept, ask(8), None) == "", "who may not look says nothing"


def test_units_count_pods_and_not_devices() -> None:
    kept = chosen(ask(count=2), whole(count=5))
    assert units(kept, ask(count=2), (whole(count=5), whole("other", count=1))) == 2


# --- whatever the nodes are

BUILT = st.sampled_from(
    [
        whole,
        lambda name: whole(name, product="NVIDIA-L4", memory="23034", count=1),
        lambda name: whole(name, driver="615", limits="true"),
        shared,
        lambda name: shared(name, by="mps"),
        lambda name: shared(name, driver="616", limits="true"),
        lambda name: shared(name, by="mps", replicas=10),
        lambda name: mixed(name, p1g_10gb=2),
        lambda name: mixed(name, p1g_10gb=1, p3g_40gb=1),
        single,
        lambda name: single(name, sharing="time-slicing", replicas="2"),
        hami,
        lambda name: read(manifest(name, allocatable={"nvidia.com/gpu": 2})),
    ]
)
NODES = st.lists(BUILT, min_size=1, max_size=6).map(
    lambda makers: [make(f"n{number}") for number, make in enumerate(makers)]
)
MEMORY = st.one_of(st.none(), st.integers(1, 100).map(lambda number: number * GIB))
ISOLATION = st.sampled_from(list(Isolation))


@settings(max_examples=300, deadline=None)
@given(NODES, MEMORY, ISOLATION, st.integers(1, 3), st.randoms(use_true_random=False))
def test_a_choice_is_never_weaker_than_asked_never_unmet_and_always_the_same(
    nodes: list[NodeGpus], memory: int | None, isolation: Isolation, count: int, shuffle: random.Random
) -> None:
    wanted = Ask(count=count, memory_bytes=memory, isolation=isolation)
    found = choose(wanted, nodes)
    shuffled = list(nodes)
    shuffle.shuffle(shuffled)
    assert choose(wanted, shuffled) == found, "the order of nodes decides nothing"
    if isinstance(found, Unavailable):
        assert found.message
        assert isolation is Isolation.AUTO or not _really_offered(wanted, mechanism(isolation).name, nodes)
        return
    assert isolation in (Isolation.AUTO, found.mechanism), "what is named is what is taken"
    assert not found.assumed
    # Its needs are met by a node that a pod of it can land on, and by no node that it can land on otherwise.
    landing = [node for node in nodes if _fits(node, found)]
    offers = [mechanism(found.mechanism).offer(node, wanted) for node in landing]
    assert any(not isinstance(offer, str) and offer.resources == found.resources for offer in offers)
    if memory is not None and found.mechanism not in (Isolation.NONE, Isolation.HAMI):  # HAMi's scheduler places
        assert found.effective_bytes is not None
        assert found.effective_bytes >= memory
        assert all(not isinstance(offer, str) for offer in offers), "no node that it lands on refuses the mechanism"
    if isolation is Isolation.AUTO and memory is not None:
        stronger = [entry for entry in REGISTRY if entry.strength > found.strength]
        assert not any(_unambiguous(wanted, entry.name, nodes) for entry in stronger)
    assert units(found, wanted, nodes) != 0
    assert missing(found, wanted, nodes) == ""
    assert better(found, wanted, nodes) == ""


def _fits(node: NodeGpus, found: Choice) -> bool:
    enough = all(node.allocatable.get(name, 0) >= int(amount) for name, amount in found.resources if "mem" not in name)
    labels = set(
        node.labels("nvidia.com/gpu.replicas", "nvidia.com/mig.strategy", "serving.nereus.dev/gpu-driver-limits")
    )
    return enough and (not found.places or any(set(place) <= labels for place in found.places))


def _really_offered(wanted: Ask, name: Isolation, nodes: list[NodeGpus]) -> bool:
    return _unambiguous(wanted, name, nodes) if name is not Isolation.AUTO else False


def _unambiguous(wanted: Ask, name: Isolation, nodes: list[NodeGpus]) -> bool:
    """Whether a node with labels offers it: without labels it may be refused for being ambiguous."""
    offers = [(node, mechanism(name).offer(node, wanted)) for node in nodes]
    return any(not isinstance(offer, str) and offer.labels for _, offer in offers)
