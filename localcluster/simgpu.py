"""SIMULATION of NVIDIA's device plug-in for a node of the local cluster: devices that exist in a file only.

Speaks the kubelet's device plug-in protocol (v1beta1, gRPC over a Unix socket), so that scheduling, allocation and
admission are the kubelet's own and only the devices are not. The file is JSON, {"resources": {"nvidia.com/gpu":
["GPU-sim-0::0", ...], "nvidia.com/mig-1g.10gb": [...]}}; it is read again when it changes, so that devices come and go.
A container gets the ids of its devices in NVIDIA_VISIBLE_DEVICES and NEREUS_SIMULATED_GPU, and nothing that computes.

Run inside the cluster's namespaces, with the development environment (it has grpc):
`python -m localcluster exec --name N -- PYTHON -m localcluster.simgpu FILE`. Ends with SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no type information

PLUGINS = Path("/var/lib/kubelet/device-plugins")
KUBELET = PLUGINS / "kubelet.sock"
SERVICE = "v1beta1.DevicePlugin"
POLL_SECONDS = 0.3
NO_KUBELET = (0, 0)


def field(number: int, value: str | bytes) -> bytes:
    """A length-delimited field of a protobuf message: all that this protocol needs."""
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message; the messages read here have no others."""
    position = 0
    while position < len(message):
        number, position = message[position] >> 3, position + 1
        length = shift = 0
        while True:
            byte, position = message[position], position + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield number, message[position : position + length]
        position += length


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def device_list(ids: list[str]) -> bytes:
    """ListAndWatchResponse: every device, healthy."""
    return b"".join(field(1, field(1, device) + field(2, "Healthy")) for device in ids)


def allocated(request: bytes) -> bytes:
    """AllocateResponse: for each container the ids of its devices, as environment."""
    answer = b""
    for _, container in fields(request):
        ids = ",".join(sorted(device.decode() for _, device in fields(container)))
        variables = {"NVIDIA_VISIBLE_DEVICES": ids, "NEREUS_SIMULATED_GPU": ids}
        envs = b"".join(field(1, field(1, name) + field(2, value)) for name, value in variables.items())
        answer += field(1, envs)
    return answer


class Plugin:
    """One resource: a socket, and the stream of its devices."""

    def __init__(self, resource: str, ids: list[str], *, directory: Path = PLUGINS) -> None:
        self.resource = resource
        self.endpoint = f"nereus-sim-{resource.replace('/', '-')}.sock"
        self._ids = ids
        self._changed = threading.Condition()
        self._ended = False
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))
        socket = directory / self.endpoint
        socket.unlink(missing_ok=True)
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def _handlers(self) -> dict[str, Any]:
        nothing = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
        return {
            "GetDevicePluginOptions": nothing,
            "PreStartContainer": nothing,
            "GetPreferredAllocation": nothing,
            "Allocate": grpc.unary_unary_rpc_method_handler(lambda request, _context: allocated(request)),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._devices),
        }

    def _devices(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        said: list[str] | None = None
        while context.is_active() and not self._ended:
            with self._changed:
                if said == self._ids:
                    self._changed.wait(1.0)
                ids = list(self._ids)
            if ids != said:
                said = ids
                yield device_list(ids)

    def set(self, ids: list[str]) -> None:
        with self._changed:
            self._ids = ids
            self._changed.notify_all()

    def register(self, kubelet: Path = KUBELET) -> None:
        """Tells the kubelet; raises grpc.RpcError when it does not answer."""
        request = field(1, "v1beta1") + field(2, self.endpoint) + field(3, self.resource)
        with grpc.insecure_channel(f"unix://{kubelet}") as channel:
            channel.unary_unary("/v1beta1.Registration/Register")(request, timeout=5)

    def stop(self) -> None:
        self._ended = True
        self._server.stop(grace=0.2)


def main(path: Path) -> int:
    """Until SIGTERM; registers anew whenever the kubelet's socket is another one."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    plugins: dict[str, Plugin] = {}
    read_at, kubelet = 0.0, NO_KUBELET
    while not stop.is_set():
        changed = path.stat().st_mtime_ns
        if changed != read_at:
            read_at = changed
            resources: dict[str, list[str]] = json.loads(path.read_text())["resources"]
            for resource in resources.keys() - plugins.keys():
                plugins[resource] = Plugin(resource, resources[resource])
                kubelet = NO_KUBELET
            for resource, plugin in plugins.items():
                plugin.set(resources.get(resource, []))
        present = _identity(KUBELET)
        if present not in (NO_KUBELET, kubelet) and _registered(plugins):
            kubelet = present
            print(f"SIMULATION: {', '.join(sorted(plugins))} registered", flush=True)
        stop.wait(POLL_SECONDS)
    for plugin in plugins.values():
        plugin.stop()
    return 0


def _identity(socket: Path) -> tuple[int, int]:
    """Tells one socket from the next at the same path: file systems give a freed inode number away again at once."""
    try:
        found = socket.stat()
    except FileNotFoundError:
        return NO_KUBELET
    return found.st_ino, found.st_ctime_ns


def _registered(plugins: dict[str, Plugin]) -> bool:
    try:
        # A kubelet that starts removes all sockets of the directory: those of a former life must be made anew.
        for resource, plugin in list(plugins.items()):
            if not (PLUGINS / plugin.endpoint).exists():
                plugin.stop()
                plugins[resource] = Plugin(resource, plugin._ids)
            plugins[resource].register()
    except grpc.RpcError as error:
        print(f"SIMULATION: the kubelet does not answer: {error}", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    raise SystemExit(main(Path(sys.argv[1])))
