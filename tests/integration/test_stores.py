"""Models from Google Cloud Storage and the Hugging Face Hub, by their real client libraries from stand-in servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch import FetchError
from nereus.sidecar.transfer.journal import PART_BYTES
from tests.harness.fetching import Fetching, fetch
from tests.harness.s3 import secret
from tests.harness.stores import COMMIT, Stores, stores

pytestmark = pytest.mark.timeout(240)
LARGE = bytes(range(256)) * ((PART_BYTES + 4096) // 256)


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    async with stores() as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.objects = {
            "net/config.pbtxt": b"max_batch_size: 4",
            "net/1/model.onnx": LARGE,
            "net/2/": b"",
            "net2": b"x",
        }
        running.files = {"config.json": b"{}", "README.md": b"about", "onnx/model.onnx": LARGE}
        yield running


async def test_buckets_of_google_arrive_whole_and_pinned(tmp_path: Path, there: Stores) -> None:
    folder, single = await asyncio.gather(
        fetch(tmp_path / "a", "gs://models/net"),
        fetch(tmp_path / "b", "gs://models/net/1/model.onnx", revision="7"),
    )
    assert folder == {"config.pbtxt": b"max_batch_size: 4", "1/model.onnx": LARGE}
    assert single == {"1/model.onnx": LARGE}


async def test_what_google_refuses_is_said(tmp_path: Path, there: Stores) -> None:
    key = secret(tmp_path / "k", GOOGLE_APPLICATION_CREDENTIALS='{"type": "service_account"}')
    other = secret(tmp_path / "o", token="x")
    cases = [
        ("gs://nowhere/net", {}, "404 Not Found: the bucket does not exist; check its name"),
        ("gs://models/net/1/model.onnx", {"revision": "8"}, "source.revision is the generation of one object"),
        ("gs://models/net", {"credentials": key}, "GOOGLE_APPLICATION_CREDENTIALS of the Secret is no credential"),
        ("gs://models/net", {"credentials": other}, "has no key GOOGLE_APPLICATION_CREDENTIALS, which gs:// needs"),
    ]
    await _all_refused(tmp_path, cases)


async def test_a_repository_of_the_hub_is_of_one_commit(tmp_path: Path, there: Stores) -> None:
    there.token = "hf_right"
    token = secret(tmp_path / "t", HF_TOKEN="hf_right\n")
    whole, part = await asyncio.gather(
        fetch(tmp_path / "a", "hf://acme/net", credentials=token, revision="v1"),
        fetch(tmp_path / "b", "hf://acme/net/onnx", credentials=token),
    )
    assert whole == {"config.json": b"{}", "onnx/model.onnx": LARGE}
    assert part == {"model.onnx": LARGE}
    assert any(f"/revision/{COMMIT}" in path for path in there.requests)


async def test_what_the_hub_refuses_is_said(tmp_path: Path, there: Stores) -> None:
    cases = [
        ("hf://acme/other", {}, "there is no such repository, or it is private and there is no HF_TOKEN"),
        ("hf://acme/net", {"revision": "v9"}, "has no revision v9; source.revision is a commit, tag or branch"),
        ("hf://acme/net/nothing", {}, "holds no files; check the path"),
    ]
    await _all_refused(tmp_path, cases)
    there.token = "hf_right"
    wrong = secret(tmp_path / "t", HF_TOKEN="hf_wrong")
    await _all_refused(tmp_path / "x", [("hf://acme/net", {"credentials": wrong}, "HF_TOKEN")])


async def _all_refused(folder: Path, cases: list[tuple[str, dict[str, str], str]]) -> None:
    async def refused(number: int, source: str, plan: dict[str, str]) -> str:
        with pytest.raises(FetchError) as caught:
            await fetch(folder / f"w{number}", source, **plan)
        return str(caught.value)

    said = await asyncio.gather(*(refused(number, case[0], case[1]) for number, case in enumerate(cases)))
    for words, (_, _, expected) in zip(said, cases, strict=True):
        assert expected in words


async def test_truncated_and_damaged_files_are_noticed_and_mended(tmp_path: Path, there: Stores) -> None:
    hub = Fetching(tmp_path / "h", ModelPlan(name="m", source="hf://acme/net/onnx"))
    there.truncate = 1000
    with pytest.raises(FetchError, match=r"connection (was closed|broke).*tried 6 times"):
        await hub.again()
    there.truncate, there.damage = 0, True
    google = Fetching(tmp_path / "g", ModelPlan(name="m", source="gs://models/net"))
    results = await asyncio.gather(hub.again(), google.again(), return_exceptions=True)
    assert "model.onnx arrived damaged: its sha256 is" in str(results[0])
    assert "arrived damaged: its md5 is" in str(results[1])
    there.damage = False
    assert await hub.again() == {"model.onnx": LARGE}
    assert (await google.again())["1/model.onnx"] == LARGE


async def test_keys_that_lead_out_of_the_directory_are_refused(tmp_path: Path, there: Stores) -> None:
    for key, says in (
        ("bad/../../etc/passwd", "would be written outside of the model's directory; not fetched"),
        ("bad/a//twice", "has an empty part"),
        ("bad/1/x", "is a file and a directory"),
    ):
        there.objects = {key: b"x", "bad/1": b"y"}
        await _all_refused(tmp_path / key.replace("/", "_"), [("gs://models/bad/", {}, says)])
    assert not (tmp_path / "etc").exists()
