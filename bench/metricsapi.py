"""How soon the External Metrics API answers while the operator is busy, by where it is served. Needs no cluster.

The busy process, the one that serves and the client are three processes, and TLS with client certificates is as with
the API server. The client asks at a steady rate. JSON goes to build/bench/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.asking import Asker, Client, Way, path
from bench.busyoperator import PLACES, services
from bench.figures import say, shares
from tests.harness.authority import issue
from tests.harness.prometheus import free_port

ROOT = Path(__file__).resolve().parent.parent
BUSY = ("-m", "bench.busyoperator")
START_SECONDS = 60.0
WARM_SECONDS = 3.0


@dataclass(frozen=True)
class Arm:
    """One way to serve. `switch`: seconds after which a thread gives the interpreter up (0: as Python has it)."""

    name: str
    place: str
    switch: float = 0.0
    busy: bool = True


ARMS = (
    Arm("in the busy event loop", "loop"),
    Arm("in a thread", "thread"),
    Arm("in a thread, switch interval 0.5 ms", "thread", 0.0005),
    Arm("in a thread, switch interval 0.05 ms", "thread", 0.00005),
    Arm("in a process of its own", "process"),
    Arm("in a process of its own, operator idle", "process", busy=False),
)


def measure(arm: Arm, folder: Path, *, count: int, seconds: float, rate: float) -> dict[str, Any]:
    port = free_port()
    key = str(folder / "server.key")
    certificate = str(folder / "server.crt")
    way = Way(server=f"https://127.0.0.1:{port}", authority=str(folder / "ca.crt"), certificate=certificate, key=key)
    task = {"place": arm.place, "switch": arm.switch, "busy": arm.busy, "port": port, "services": count}
    process = subprocess.Popen(
        [sys.executable, *BUSY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**task, "folder": str(folder)}) + "\n")
    process.stdin.flush()
    paths = [path(*each) for each in services(count)]
    _until_served(Client(way), paths[0], process)
    time.sleep(WARM_SECONDS)
    client = Asker(way, paths, period=1 / rate)
    time.sleep(seconds)
    asked = client.end()
    said, _ = process.communicate(timeout=60)
    result = {
        "arm": arm.name,
        **shares("", asked.seconds),
        "asked": len(asked.seconds),
        "refused": asked.refused,
        **json.loads(said),
        "load_average": round(os.getloadavg()[0], 1),
    }
    say(json.dumps(result))
    return result


def _until_served(client: Client, where: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not client.read(where):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"nothing is served: {process.poll()}")
        time.sleep(0.2)


def main() -> None:
    """Measures each arm, prints a table and keeps the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.metricsapi", description=__doc__)
    add = parser.add_argument
    add("--services", type=int, default=int(os.environ.get("N") or 5000))
    add("--seconds", type=float, default=30.0, help="of each arm (default: 30)")
    add("--rate", type=float, default=50.0, help="requests per second (default: 50)")
    add("--place", choices=PLACES, help="only the arms that serve there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nereus-bench-") as name:
        issue(Path(name), "127.0.0.1")
        results = [
            measure(arm, Path(name), count=arguments.services, seconds=arguments.seconds, rate=arguments.rate)
            for arm in ARMS
            if arguments.place in (None, arm.place)
        ]
    out = ROOT / "build" / "bench" / "metricsapi.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"services": arguments.services, "cpus": os.cpu_count(), "arms": results}, indent=2))
    sys.stdout.write(f"{'served':<42}{'p50':>9}{'p99':>9}{'max':>9}   work/s  process\n")
    for each in results:
        figures = "".join(f"{each[f'p{share}_seconds'] * 1000:>6.1f} ms" for share in (50, 99, 100))
        process = f"{each['serving_rss_mib']:>5.0f} MiB" if "serving_rss_mib" in each else ""
        sys.stdout.write(f"{each['arm']:<42}{figures}{each['rounds_per_second']:>9}{process}\n")
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
