"""Models from a real S3 server: what arrives, and what is said when it does not."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch import FetchError, Limits
from nereus.sidecar.transfer.journal import PART_BYTES
from tests.harness.authority import issue
from tests.harness.fetching import Fetching, fetch
from tests.harness.s3 import ACCESS, SECRET, S3Server, relay, s3_server, secret

pytestmark = pytest.mark.timeout(240)
BIG = 5 * PART_BYTES + 12345


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), versioned=True) as running:
        running.put("models/resnet/config.pbtxt", b"max_batch_size: 8\n")
        running.put("models/resnet/1/model.py", b"one")
        running.put("models/resnet/2/deep/weights", b"two")
        running.put("models/resnet50/1/model.py", b"a neighbour whose name begins the same")
        running.put("models/weights.onnx", b"onnx")
        running.put("models/big/1/model.bin", _content())
        yield running


def _content() -> bytes:
    return hashlib.shake_128(b"weights").digest(BIG)


@pytest.fixture
def keys(tmp_path: Path, server: S3Server) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": f"{SECRET}\n",  # as `kubectl create secret --from-file` keeps it
        "AWS_ENDPOINT_URL": server.endpoint,
    }


@pytest.fixture
def credentials(tmp_path: Path, keys: dict[str, str]) -> str:
    return secret(tmp_path / "creds", **keys)


async def test_a_directory_arrives_as_it_is_and_nothing_of_its_neighbour(tmp_path: Path, credentials: str) -> None:
    files = await fetch(tmp_path / "w", "s3://models/resnet", credentials=credentials)
    assert files == {"config.pbtxt": b"max_batch_size: 8\n", "1/model.py": b"one", "2/deep/weights": b"two"}
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["tree"]


async def test_a_single_object_is_version_1_and_can_be_pinned_by_checksum(tmp_path: Path, credentials: str) -> None:
    right = f"sha256:{hashlib.sha256(b'onnx').hexdigest()}"
    files = await fetch(tmp_path / "a", "s3://models/weights.onnx", credentials=credentials, checksum=right)
    assert files == {"1/weights.onnx": b"onnx"}
    with pytest.raises(FetchError, match=r"SHA-256 of the file is .* and source.checksum says sha256:0000"):
        await fetch(tmp_path / "b", "s3://models/weights.onnx", credentials=credentials, checksum=f"sha256:{'0' * 64}")


async def test_the_checksum_of_a_directory_is_what_the_documented_command_prints(
    tmp_path: Path, credentials: str
) -> None:
    files = await fetch(tmp_path / "w", "s3://models/resnet", credentials=credentials)
    assert files
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    printed = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "w/tree", capture_output=True, text=True, check=True
    ).stdout.split()[0]
    again = await fetch(tmp_path / "x", "s3://models/resnet", credentials=credentials, checksum=f"sha256:{printed}")
    assert again == files


async def test_a_version_of_an_object_is_the_one_that_is_fetched(
    tmp_path: Path, server: S3Server, credentials: str
) -> None:
    server.bucket("kept")
    server.keep_versions("kept")
    old = server.put("kept/m.onnx", b"old")
    server.put("kept/m.onnx", b"new")
    assert old
    assert await fetch(tmp_path / "a", "s3://kept/m.onnx", credentials=credentials) == {"1/m.onnx": b"new"}
    pinned = await fetch(tmp_path / "b", "s3://kept/m.onnx", credentials=credentials, revision=old)
    assert pinned == {"1/m.onnx": b"old"}
    with pytest.raises(FetchError, match="version ID of one object, and this is a directory"):
        await fetch(tmp_path / "c", "s3://models/resnet/", credentials=credentials, revision=old)


async def test_what_is_wrong_is_a_sentence_that_says_what_to_do(tmp_path: Path, keys: dict[str, str]) -> None:
    cases = [
        ("s3://nowhere/m", {}, "NoSuchBucket.*bucket does not exist at this endpoint"),
        ("s3://models/Resnet", {}, "holds no files; check the path, also its upper and lower case"),
        ("s3://models/resnet", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"),
        (
            "s3://models/resnet",
            {"AWS_ACCESS_KEY_ID": "wrong"},
            "does not know this AWS_ACCESS_KEY_ID; check the Secret",
        ),
        ("s3://models/resnet", {"AWS_SECRET_ACCESS_KEY": ""}, "has no key AWS_SECRET_ACCESS_KEY.*its keys are AWS_"),
        ("s3://models/resnet", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot connect to http://127.0.0.1:9"),
    ]

    async def refused(number: int, source: str, change: dict[str, str]) -> str:
        credentials = secret(tmp_path / f"creds{number}", **keys | change)
        with pytest.raises(FetchError) as caught:
            await fetch(tmp_path / f"work{number}", source, credentials=credentials)
        return str(caught.value)

    said = await asyncio.gather(*(refused(number, case[0], case[1]) for number, case in enumerate(cases)))
    for words, (_, _, expected) in zip(said, cases, strict=True):
        assert re.search(expected, words), words
        assert SECRET not in words
        assert "Traceback" not in words


async def test_a_store_behind_a_private_authority_is_trusted_by_its_certificate_in_the_secret(
    tmp_path: Path, keys: dict[str, str]
) -> None:
    authority, *pair = issue(tmp_path / "tls", "127.0.0.1")
    stranger, *_ = issue(tmp_path / "other", "127.0.0.1", name="a-stranger")
    with s3_server(tmp_path / "s3", tls=tuple(pair), authority=authority) as own:
        own.put("models/m/1/model.py", b"one")
        own.put("models/big/1/model.bin", _content())
        keys = keys | {"AWS_ENDPOINT_URL": own.endpoint}
        assert own.endpoint.startswith("https://")

        async def told(name: str, **more: str) -> str:
            credentials = secret(tmp_path / name, **keys, **more)
            with pytest.raises(FetchError) as caught:
                await fetch(tmp_path / f"work-{name}", "s3://models/m", credentials=credentials)
            return str(caught.value)

        said = await asyncio.gather(
            told("none"),
            told("wrong", ca__crt=stranger.read_text()),
            told("torn", ca__crt="-----BEGIN CERTIFICATE-----\nnothing\n"),
        )
        for words in said[:2]:
            assert "certificate verify failed" in words
            assert "ca.crt in the Secret" in words
        assert "ca.crt of the Secret of source.secretName is no PEM file" in said[2]

        right = secret(tmp_path / "right", **keys, ca__crt=authority.read_text())
        assert await fetch(tmp_path / "m", "s3://models/m", credentials=right) == {"1/model.py": b"one"}
        assert await fetch(tmp_path / "big", "s3://models/big", credentials=right) == {"1/model.bin": _content()}


async def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = secret(tmp_path / "s3-readers")
    with pytest.raises(FetchError, match=r"the Secret s3-readers of source\.secretName does not exist"):
        await fetch(tmp_path / "w", "s3://models/resnet", credentials=folder)


async def test_a_fetch_that_was_killed_goes_on_with_the_parts_that_it_has(
    tmp_path: Path, server: S3Server, keys: dict[str, str]
) -> None:
    """Slowed, so that some parts are there and others are not; then killed; and one kept part is spoilt."""
    async with relay(server.port) as way:
        credentials = secret(tmp_path / "creds", **keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}"})
        fetching = Fetching(
            tmp_path / "w", ModelPlan(name="m", source="s3://models/big", credentials=credentials), limits=_patient()
        )
        way.bytes_per_second = 4 << 20
        first = asyncio.create_task(fetching.again())
        await _until(lambda: len(_journal(fetching.work)) >= 2, first)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        kept = _journal(fetching.work)
        name, number, _ = kept[0].split()
        with (fetching.work / "parts" / name).open("r+b") as file:
            file.seek(int(number) * PART_BYTES + 5)
            file.write(b"spoilt")
        way.bytes_per_second, way.passed = None, 0
        files = await fetching.again()
    assert files == {"1/model.bin": _content()}
    assert way.passed < BIG - (len(kept) - 2) * PART_BYTES, "the parts that were whole were fetched again"
    assert way.passed >= PART_BYTES, "the spoilt part was not fetched again"


def _patient() -> Limits:
    return Limits(silence_seconds=30.0, connect_seconds=10.0, retry_seconds=0.05)


def _journal(work: Path) -> list[str]:
    path = work / "journal"
    return path.read_text().splitlines() if path.exists() else []


async def _until(condition: Any, task: asyncio.Task[Any]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    raise AssertionError("not within a minute")


async def test_a_server_that_dies_in_the_middle_is_waited_for(tmp_path: Path, keys: dict[str, str]) -> None:
    with s3_server(tmp_path / "s3") as own:
        own.put("models/big/1/model.bin", _content())
        async with relay(own.port) as way:
            way.bytes_per_second = 8 << 20
            credentials = secret(tmp_path / "creds", **keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}"})
            plan = ModelPlan(name="m", source="s3://models/big", credentials=credentials)
            fetching = Fetching(tmp_path / "w", plan, limits=Limits(silence_seconds=30.0, retry_seconds=0.5))
            task = asyncio.create_task(fetching.again())
            await _until(lambda: fetching.progress.done_bytes > 1 << 20, task)
            own.kill()
            way.bytes_per_second = None
            await asyncio.to_thread(own.start)
            assert await task == {"1/model.bin": _content()}


async def test_connections_that_break_off_end_in_a_sentence_and_the_parts_stay(
    tmp_path: Path, server: S3Server, keys: dict[str, str]
) -> None:
    async with relay(server.port) as way:
        way.cut_after = 1 << 20
        credentials = secret(tmp_path / "creds", **keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}"})
        fetching = Fetching(tmp_path / "w", ModelPlan(name="m", source="s3://models/big", credentials=credentials))
        with pytest.raises(FetchError, match=r"connection (was closed|broke).*of \d+ bytes\); tried 6 times"):
            await fetching.again()
        way.cut_after = None
        assert await fetching.again() == {"1/model.bin": _content()}


async def test_an_object_that_changes_while_it_is_fetched_is_never_a_mixture(
    tmp_path: Path, keys: dict[str, str]
) -> None:
    with s3_server(tmp_path / "s3") as own:
        own.put("models/big/1/model.bin", _content())
        async with relay(own.port) as way:
            way.bytes_per_second = 8 << 20
            credentials = secret(tmp_path / "creds", **keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}"})
            plan = ModelPlan(name="m", source="s3://models/big", credentials=credentials)
            fetching = Fetching(tmp_path / "w", plan, limits=_patient())
            task = asyncio.create_task(fetching.again())
            await _until(lambda: len(_journal(fetching.work)) >= 1, task)
            other = bytes(len(_content()))
            await asyncio.to_thread(own.put, "models/big/1/model.bin", other)
            with pytest.raises(FetchError, match="was changed while it was fetched"):
                await task
            way.bytes_per_second = None
            assert await fetching.again() == {"1/model.bin": other}


async def test_a_full_volume_is_told_before_and_while_it_fills(tmp_path: Path, credentials: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(volume)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount: {mounted.stderr.strip()}")
    try:
        plan = ModelPlan(name="m", source="s3://models/big", credentials=credentials)
        with pytest.raises(FetchError, match=rf"needs {BIG} more bytes and the model volume has room for \d+; raise"):
            await Fetching(volume / "a", plan).again()
        unaware = Limits(free_reserve_bytes=-(1 << 40), retry_seconds=0.05)
        with pytest.raises(FetchError, match="No space left on device: the model volume is full; raise"):
            await Fetching(volume / "b", plan, limits=unaware).again()
    finally:
        subprocess.run(["umount", str(volume)], check=True)


async def test_a_process_that_dies_is_a_sentence_and_not_the_end_of_the_sidecar(
    tmp_path: Path, credentials: str, server: S3Server
) -> None:
    fetching = Fetching(tmp_path / "w", ModelPlan(name="m", source="s3://models/big", credentials=credentials))
    task = asyncio.create_task(fetching.again())
    await _until(lambda: fetching.progress.step == "downloading", task)
    [pid] = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and _parent(folder) == os.getpid() and b"sidecar.transfer" in _command(folder)
    ]
    os.kill(pid, 9)
    with pytest.raises(FetchError, match="process that fetches was killed by signal 9; perhaps the sidecar's memory"):
        await task
    assert await fetching.again() == {"1/model.bin": _content()}


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""
