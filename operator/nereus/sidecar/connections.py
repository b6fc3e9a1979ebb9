"""Counting who is connected to Triton, from the kernel's own table.

The containers of a pod share one network, so /proc/net/tcp in the sidecar shows Triton's connections; Triton itself
does not tell. Linux only, a few hundred microseconds for a thousand connections.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@dataclass(frozen=True)
class Connection:
    """One established connection to a local port; `peer` is the kernel's hexadecimal address and port."""

    local_port: int
    peer: str
    loopback: bool


def established(ports: Collection[int]) -> list[Connection]:
    """The connections that others have to these ports. Raises OSError where the kernel has no such table."""
    found: list[Connection] = []
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except FileNotFoundError:
            if table is _TABLES[0]:
                raise
            continue  # a kernel without IPv6
        found += _parse(lines, ports)
    return found


def _parse(lines: list[str], ports: Collection[int]) -> Iterator[Connection]:
    for line in lines:
        fields = line.split(maxsplit=4)
        if len(fields) < 4 or fields[3] != _ESTABLISHED:
            continue
        port = int(fields[1].rpartition(":")[2], 16)
        if port in ports:
            yield Connection(port, fields[2], _is_loopback(fields[2].rpartition(":")[0]))


def _is_loopback(address: str) -> bool:
    """Addresses are 32-bit words of the machine's (little) endian order in hexadecimal."""
    if len(address) == 8:
        return address.endswith("7F")
    if address == "00000000000000000000000001000000":
        return True
    return address.startswith("0000000000000000FFFF0000") and address.endswith("7F")
