"""In which order, how many at once and for how long a real tritonserver loads models, and what is served meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nereus.api.protocol import ModelState
from tests.integration.test_sidecar_triton import Pod, _pod

pytestmark = pytest.mark.timeout(240)


def waits_for(path: Path) -> str:
    """Code of a model that loads only when the file is there."""
    return f"[time.sleep(0.05) for _ in iter(lambda: __import__('os').path.exists({str(path)!r}), True)]"


def meets(mine: Path, other: Path) -> str:
    """Code of a model that loads only while another one does."""
    return f"open({str(mine)!r}, 'w').close(), {waits_for(other)}"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    with _pod(tmp_path) as made:
        made.sidecar.arguments += ("--parallel-loads=8",)
        yield made


def began(pod: Pod) -> list[str]:
    """The models in the order in which Triton began to load them, by its log."""
    return re.findall(r'"loading: ([a-z0-9-]+):', pod.triton.log.read_text(errors="replace"))


def done(pod: Pod) -> list[str]:
    return re.findall(r"successfully loaded '([a-z0-9-]+)'", pod.triton.log.read_text(errors="replace"))


def test_models_are_loaded_in_their_order_and_one_that_takes_too_long_holds_up_nothing(pod: Pod) -> None:
    """The two `first` load at the same time or never; `hangs` outlives its deadline; `extra` cannot be fetched."""
    c, d, released = (pod.root / name for name in ("c", "d", "released"))
    for name, initialize in {
        "a-last": "pass",
        "b-hangs": waits_for(released),
        "c-first": meets(c, d),
        "d-first": meets(d, c),
    }.items():
        pod.source(name, initialize=initialize)
        pod.serve(name)
    pod.serve("a-extra")
    for name, changes in {
        "a-last": {"load_order": 2},
        "b-hangs": {"load_order": 1, "load_seconds": 2.0, "optional": True},
        "a-extra": {"load_order": 1, "optional": True},
    }.items():
        pod.plans[name] = replace(pod.plans[name], **changes)  # type: ignore[arg-type]
    pod.start("--model-load-thread-count=8")

    hanging = pod.reaches("b-hangs", ModelState.LOAD_FAILED, "not loaded within load.timeout (2 s)")
    assert "delete the pod" in hanging.message
    pod.reaches("a-last", ModelState.READY)
    pod.until(pod.ready)
    assert not pod.model("b-hangs").serving
    assert pod.model("a-extra").state is ModelState.FETCH_FAILED
    assert [pod.triton.infer(name, [1]) for name in ("a-last", "c-first")] == [[2], [2]]
    assert sorted(began(pod)[:2]) == ["c-first", "d-first"]
    assert began(pod)[2:] == ["b-hangs", "a-last"]
    assert done(pod)[-1] == "a-last"

    released.touch()
    pod.reaches("b-hangs", ModelState.READY)
    assert pod.loads("b-hangs") == 1, "the load that took too long ended well: nothing begins anew"
    assert pod.triton.infer("b-hangs", [1]) == [2]
    assert pod.ready()
