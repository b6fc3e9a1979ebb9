"""How fast the sidecar fetches from S3, beside a plain parallel download of the same bytes: `make bench BENCH=fetch`.

The server is versitygw on loopback, so the network costs nothing and what is measured is the work of client and server
on this machine. The plain download is what one would write without any of the sidecar's care: as many connections, the
same ranges, the same disk, signed requests, nothing kept, nothing verified. Also measured: what is fetched again after
a kill in the middle, and the memory of the sidecar and of the process that fetches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch import Limits
from nereus.sidecar.transfer.base import PARALLEL
from nereus.sidecar.transfer.journal import PART_BYTES
from tests.harness.fetching import Fetching, image_python
from tests.harness.s3 import ACCESS, SECRET, S3Server, s3_server, secret
from tests.harness.sidecar import SidecarProcess

PLAIN = """
import asyncio, os, sys, time
from aiobotocore.session import AioSession
from aiobotocore.config import AioConfig
async def main(endpoint, key, secret, target, part, parallel):
    config = AioConfig(max_pool_connections=2 * parallel, s3={"addressing_style": "path"})
    async with AioSession().create_client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config,
            aws_access_key_id=key, aws_secret_access_key=secret) as client:
        begun = time.monotonic()
        size = (await client.head_object(Bucket="models", Key="big/1/model.bin"))["ContentLength"]
        file = os.open(target, os.O_WRONLY | os.O_CREAT)
        os.ftruncate(file, size)
        starts = iter(range(0, size, part))
        async def work():
            for start in starts:
                wanted = f"bytes={start}-{min(start + part, size) - 1}"
                answer = await client.get_object(Bucket="models", Key="big/1/model.bin", Range=wanted)
                at = start
                async with answer["Body"] as body:
                    while chunk := await body.read(262144):
                        os.pwrite(file, chunk, at)
                        at += len(chunk)
        await asyncio.gather(*(work() for _ in range(parallel)))
        print(time.monotonic() - begun)
asyncio.run(main(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])))
"""


async def plain(server: S3Server, target: Path) -> float:
    """Seconds of the plain download, without the start of its process."""
    process = await asyncio.create_subprocess_exec(
        *(image_python(), "-c", PLAIN, server.endpoint, ACCESS, SECRET, str(target), str(PART_BYTES), str(PARALLEL)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    target.unlink()
    return float(said)


def fetching(work: Path, credentials: str) -> Fetching:
    plan = ModelPlan(name="m", source="s3://models/big", credentials=credentials)
    return Fetching(work, plan, limits=Limits(silence_seconds=60, retry_seconds=0.5))


async def ours(work: Path, credentials: str) -> dict[str, float]:
    """Seconds of the sidecar's fetch: all of it, and of its steps."""
    it = fetching(work, credentials)
    steps: dict[str, float] = {}
    begun = time.monotonic()
    task = asyncio.create_task(it.start())
    while not task.done():
        before, now = it.progress.step, time.monotonic()
        await asyncio.sleep(0.02)
        steps[before] = steps.get(before, 0.0) + time.monotonic() - now
    await task
    return {"total": time.monotonic() - begun, **steps}


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


@asynccontextmanager
async def largest_child(found: list[float]) -> AsyncIterator[None]:
    """Adds the most memory that a child of this process had meanwhile, in MiB."""

    async def watch() -> None:
        while True:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    mine = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
                    if mine and b"sidecar.transfer" in (folder / "cmdline").read_bytes():
                        found[0] = max(found[0], resident_mib(int(folder.name), "VmHWM"))
                except OSError:
                    continue
            await asyncio.sleep(0.1)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


async def measure(server: S3Server, root: Path, size: int, rounds: int) -> dict[str, object]:
    credentials = secret(
        root / "creds", AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_ENDPOINT_URL=server.endpoint
    )
    plains, mine, memory = [], [], [0.0]
    for number in range(rounds):  # in turn, so that other work on the machine meets both
        plains.append(await plain(server, root / "plain"))
        async with largest_child(memory):
            mine.append(await ours(root / f"ours{number}", credentials))
        (root / f"ours{number}/tree/1/model.bin").unlink()
    middle = sorted(mine, key=lambda one: one["total"])[len(mine) // 2]
    print(
        f"{size >> 20} MiB, one object, {rounds} rounds, median; {PARALLEL} ranges of {PART_BYTES >> 20} MiB at a time"
    )
    seconds = statistics.median(plains)
    print(
        f"  plain parallel download   {seconds:6.2f} s  {(size >> 20) / seconds:6.0f} MiB/s (process start not counted)"
    )
    print(
        f"  the sidecar's fetch       {middle['total']:6.2f} s  {(size >> 20) / middle['total']:6.0f} MiB/s, of which"
    )
    for step, took in middle.items():
        if step != "total":
            print(f"    {step or 'starting the process':33} {took:5.2f} s")
    print(f"  memory of the process     {memory[0]:6.0f} MiB at most")
    again = await resumed(root, credentials, size)
    kept, rest = again["kept_mib"], again["rest_seconds"]
    print(f"  killed in the middle      {kept:6.0f} MiB were there, {rest:.2f} s for the rest")
    return {"plain_seconds": plains, "ours": mine, "process_mib": memory[0], "resumed": again, "bytes": size}


async def resumed(root: Path, credentials: str, size: int) -> dict[str, float]:
    it = fetching(root / "killed", credentials)
    task = asyncio.create_task(it.start())
    while it.progress.done_bytes < size // 2 and not task.done():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept = len((it.work / "journal").read_text().splitlines()) * PART_BYTES if (it.work / "journal").exists() else 0
    begun = time.monotonic()
    await it.start()
    return {"kept_mib": kept / 2**20, "rest_seconds": time.monotonic() - begun}


def sidecar_memory(root: Path, credentials: str) -> float:
    """MiB of the sidecar that stays, right after it had a model fetched."""
    with SidecarProcess(root, (1, 2, 3), python=image_python()) as process:
        process.write_plan(ModelPlan(name="m", source="s3://models/big", credentials=credentials))
        process.start()
        process.until(lambda: process.get("/started")[0] == 200, seconds=300)
        assert process.process is not None
        return resident_mib(process.process.pid)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fetch", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None, help="where to write (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/fetch.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        root = Path(scratch)
        with s3_server(root / "s3") as server:
            block = os.urandom(1 << 20)
            size = arguments.mib << 20
            server.put("models/big/1/model.bin", block * arguments.mib)
            result = asyncio.run(measure(server, root, size, arguments.rounds))
            (root / "pod").mkdir()
            result["sidecar_mib"] = sidecar_memory(root / "pod", str(root / "creds"))
    print(f"  memory of the sidecar     {result['sidecar_mib']:6.0f} MiB after a fetch")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
