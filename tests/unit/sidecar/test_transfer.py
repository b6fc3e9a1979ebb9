"""The engine that downloads, against a store in memory: what is kept, what is refused, what is verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nereus
from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch import FetchContext, FetchError, Progress, source_of
from nereus.sidecar.fetch.credentials import read_credentials
from nereus.sidecar.transfer import journal as journals
from nereus.sidecar.transfer.base import ChangedError, Item, Listing, TemporaryError
from nereus.sidecar.transfer.engine import ATTEMPTS, transfer
from nereus.sidecar.transfer.job import Event, Job
from nereus.sidecar.transfer.names import problem_of


@dataclass
class Memory:
    """A store that holds files in memory. `faults` are raised by the next reads, one each."""

    files: dict[str, bytes]
    single: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    may_lie: bool = False
    faults: list[Exception] = field(default_factory=list)
    reads: list[tuple[str, int]] = field(default_factory=list)
    listed: int = 0

    async def list(self) -> Listing:
        self.listed += 1
        items = [
            Item(
                path=name,
                key=name,
                size=len(body),
                version=hashlib.sha256(body).hexdigest(),
                digest=self.digests.get(name, ""),
                digest_may_lie=self.may_lie,
            )
            for name, body in self.files.items()
        ]
        return Listing(items=tuple(items), single=self.single)

    async def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        self.reads.append((item.key, start))
        if self.faults:
            raise self.faults.pop(0)
        yield self.files[item.key][start : start + size]

    async def close(self) -> None:
        """Nothing is open."""


def job(work: Path, **changes: object) -> Job:
    fields = {
        "max_bytes": 1 << 20,
        "max_files": 10,
        "free_reserve_bytes": 0,
        "connect_seconds": 1,
        "silence_seconds": 1,
    }
    work.mkdir(exist_ok=True)
    return Job(uri="mem://store/m", work=str(work), retry_seconds=0.001, **{**fields, **changes})  # type: ignore[arg-type]


async def run(work: Path, store: Memory, **changes: object) -> Event:
    return await transfer(job(work, **changes), store, lambda _: None)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "PART_BYTES", 4)


async def test_files_of_every_size_arrive_whole(tmp_path: Path) -> None:
    files = {f"1/f{size}": bytes(range(size)) for size in (0, 1, 4, 5, 33)}
    event = await run(tmp_path / "w", Memory(files))
    assert {name: (tmp_path / "w/tree" / name).read_bytes() for name in files} == files
    assert (event.done, event.total, event.finished) == (43, 43, True)
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["tree"]


async def test_an_attempt_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    store = Memory({"1/m": bytes(40)}, faults=[FetchError("refused")])
    with pytest.raises(FetchError, match="refused"):
        await run(tmp_path / "w", store)
    kept = len((tmp_path / "w/journal").read_text().splitlines())
    store.reads.clear()
    event = await run(tmp_path / "w", store)
    assert len(store.reads) == 10 - kept
    assert event.kept == 4 * kept


async def test_a_broken_connection_is_tried_again_and_counted_once(tmp_path: Path) -> None:
    event = await run(tmp_path / "w", Memory({"1/m": bytes(9)}, faults=[TemporaryError("broken")] * 3))
    assert event.done == 9
    with pytest.raises(FetchError, match=rf"broken \(after \d+ of 4 bytes\); tried {ATTEMPTS} times"):
        await run(tmp_path / "x", Memory({"1/m": bytes(4)}, faults=[TemporaryError("broken")] * ATTEMPTS))


async def test_a_source_that_changes_meanwhile_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="gone; the new content is fetched next"):
        await run(tmp_path / "w", Memory({"1/m": b"x"}, faults=[ChangedError("gone")]))

    class Growing(Memory):
        async def list(self) -> Listing:
            self.files = {**self.files, f"1/{self.listed}": b"more"}
            return await super().list()

    with pytest.raises(FetchError, match="was changed while it was fetched"):
        await run(tmp_path / "x", Growing({"1/m": b"x"}))
    assert not (tmp_path / "x/tree").exists()


async def test_a_digest_that_may_lie_is_believed_to_lie_when_the_same_bytes_come_twice(tmp_path: Path) -> None:
    store = Memory({"1/m": b"content"}, digests={"1/m": f"md5:{'0' * 32}"}, may_lie=True)
    with pytest.raises(FetchError, match=r"arrived damaged: its md5 is .* and the store says 0{32}"):
        await run(tmp_path / "w", store)
    assert (await run(tmp_path / "w", store)).finished
    certain = Memory({"1/m": b"content"}, digests={"1/m": f"sha256:{'0' * 64}"})
    for _ in range(3):
        with pytest.raises(FetchError, match="arrived damaged"):
            await run(tmp_path / "x", certain)


@pytest.mark.parametrize(
    ("files", "changes", "says"),
    [
        ({}, {}, "holds no files"),
        ({"a": b""}, {}, "holds only empty files"),
        ({"a": bytes(99)}, {"max_bytes": 98}, "has 99 bytes; at most 98 are allowed"),
        ({str(n): b"x" for n in range(11)}, {}, "holds 11 files and at most 10 are allowed"),
        ({"a": b"x"}, {"free_reserve_bytes": 1 << 60}, "needs 1 more bytes and the model volume has room for 0; raise"),
        ({"../a": b"x"}, {}, "the key '../a' would be written outside"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, files: dict[str, bytes], changes: dict[str, int], says: str
) -> None:
    store = Memory(files)
    with pytest.raises(FetchError, match=says):
        await run(tmp_path / "w", store, **changes)
    assert store.reads == []


@given(st.lists(st.text(min_size=1, max_size=20), max_size=4))
def test_names_that_are_accepted_stay_below_their_directory_and_can_all_exist(paths: list[str]) -> None:
    if problem_of(paths):
        return
    root = Path("/root/of/model")
    for path in paths:
        assert Path(os.path.normpath(root / path)).is_relative_to(root)
        assert Path(os.path.normpath(root / path)) != root
        assert not any(other.startswith(f"{path}/") for other in paths)


def test_credentials_are_read_without_line_ends_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "HF_TOKEN").write_text("hf_secret\n")
    (tmp_path / "..data").mkdir()
    found = read_credentials(str(tmp_path))
    assert found.get("OTHER", "HF_TOKEN") == "hf_secret"
    assert "hf_secret" not in repr(found)
    with pytest.raises(FetchError, match=r"has no key A and no key B, which s3:// needs; its keys are HF_TOKEN"):
        found.require("A", "B", scheme="s3")


async def test_a_process_that_cannot_start_its_client_is_told_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'ImportError: no botocore' >&2\nexit 1\n")
    script.chmod(0o755)
    source = source_of(ModelPlan(name="m", source="s3://bucket/m"), FetchContext(python=str(script)))
    with pytest.raises(FetchError, match=r"the process that fetches ended with 1: ImportError: no botocore"):
        await source.fetch(tmp_path / "w/tree", Progress())


async def test_the_process_ends_when_the_sidecar_is_gone(tmp_path: Path) -> None:
    code = (
        "import queue, threading\n"
        "from nereus.sidecar.transfer import __main__ as it\n"
        "threading.Thread(target=it._listen, args=(queue.Queue(),), daemon=True).start()\n"
        "threading.Event().wait(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(nereus.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 30) == 3
